"""The plots of an evaluation, as SVG: recall at k, abstention, calibration, latency.

By hand: a plotting library would be larger than these few lines, and its pages too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rag.metrics import CUTOFFS, abstention_curve, reliability
from rag.report import Report
from ui.markup import between, figure, table

WIDTH, HEIGHT = 380, 240
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 14, 40
LATENCY_BINS = 24


def plots(report: Report) -> Iterator[str]:
    """Those that apply, each a figure with its numbers as a table."""
    yield _recall(report)
    # Shares of keywords are no chances, and have another threshold.
    asked = [row for row in report.rows if row.answered is not None and not row.by_keywords]
    judged = [(row.confidence, row.correct) for row in asked]
    # What has no candidate, or none that is known, is never answered.
    known = [(c, k) for c, k in judged if c is not None and k is not None]
    if known:
        sure, right = zip(*known, strict=True)
        never = len(judged) - len(known)
        yield _abstention([*sure, *never * [-math.inf]], [*right, *never * [False]], report)
        yield _calibration(sure, right)
    if seconds := [row.seconds for row in report.rows if row.seconds is not None]:
        yield _latency(seconds)


def _recall(report: Report) -> str:
    found = [(k, report.metrics[f"recall@{k}"]) for k in CUTOFFS]
    points = [(math.log(k, CUTOFFS[-1]), k, recall) for k, recall in found if recall]
    if not points:
        return ""
    body = [_frame([(math.log(k, CUTOFFS[-1]), str(k)) for k in CUTOFFS], "k passages")]
    body.append(_path([(x, recall.value) for x, _, recall in points]))
    for x, k, recall in points:
        body.append(
            f'<line class="spread" x1="{_x(x)}" x2="{_x(x)}" y1="{_y(recall.low)}"'
            f' y2="{_y(recall.high)}"/>' + _dot(x, recall.value, f"recall@{k}: {recall.value:.3f}")
        )
        anchor = "start" if x < 0.5 else "end"
        y = _y(recall.low) + 16 if recall.low > 0.2 else _y(recall.high) - 8
        body.append(
            f'<text class="value" x="{_x(x)}" y="{y}" text-anchor="{anchor}">'
            f"{recall.value:.3f}</text>"
        )
    rows = [[str(k), f"{r.value:.3f}", between(r)] for _, k, r in points]
    return _plot(
        "Recall at k",
        "How often the gold passage is among the first k; passages of one unit count once.",
        "".join(body),
        table(["k", "recall", "interval"], ["", "number", "number"], rows),
    )


def _abstention(sure: Sequence[float], right: Sequence[bool], report: Report) -> str:
    thresholds, answered, correct = abstention_curve(sure, right)
    body = [_frame([(x, f"{x:.0%}") for x in (0.0, 0.5, 1.0)], "questions answered")]
    body.append(_path(zip(answered.tolist(), correct.tolist(), strict=True)))
    cut = report.settings.get("threshold")
    text = "Each point is a threshold of confidence."
    if isinstance(cut, (int, float)) and (thresholds >= cut).any():
        x, y = (float(column[thresholds >= cut][-1]) for column in (answered, correct))
        text += f" The one in use, {cut:g}, answers {x:.1%}, of which {y:.1%} are right."
        # The label stands at the edge that is farther off, where no curve runs.
        edge, anchor = 0.04 if y > 0.5 else 0.92, "end" if x > 0.5 else "start"
        body.append(f'<circle class="chosen" cx="{_x(x)}" cy="{_y(y)}" r="6"/>')
        body.append(f'<path class="dash" d="M{_x(x)} {_y(y)}V{_y(edge)}"/>')
        body.append(
            f'<text class="value" x="{_x(x) + (-6 if anchor == "end" else 6)}" y="{_y(edge)}"'
            f' text-anchor="{anchor}">threshold {cut:g}</text>'
        )
    picked = np.unique(np.linspace(0, len(thresholds) - 1, 11).astype(int))
    rows = [[f"{thresholds[i]:.3f}", f"{answered[i]:.1%}", f"{correct[i]:.1%}"] for i in picked]
    return _plot(
        "What the threshold does",
        f"{text} Up: the share of answers that are right.",
        "".join(body),
        table(["threshold", "answered", "right"], ["", "number", "number"], rows),
    )


def _calibration(sure: Sequence[float], right: Sequence[bool]) -> str:
    bins = reliability(sure, right)
    body = [_frame([(x, f"{x:.1f}") for x in (0.0, 0.5, 1.0)], "confidence")]
    body.append(_path([(0, 0), (1, 1)], "dash"))
    most = max(held.questions for held in bins)
    for held in bins:
        radius = 3 + 9 * math.sqrt(held.questions / most)
        note = f"{held.questions} questions: confidence {held.confidence:.2f}, right"
        body.append(
            _dot(held.confidence, held.accuracy, f"{note} {held.accuracy:.0%}", radius=radius)
        )
    rows = [
        [
            f"{held.low:.1f} – {held.high:.1f}",
            held.questions,
            f"{held.confidence:.2f}",
            f"{held.accuracy:.2f}",
        ]
        for held in bins
    ]
    return _plot(
        "Is the confidence honest?",
        "Up: the share that is right. On the line confidence says how often that is; the larger"
        " the dot, the more questions.",
        "".join(body),
        table(["confidence", "questions", "mean", "right"], ["", *3 * ["number"]], rows),
    )


def _latency(seconds: Sequence[float]) -> str:
    median, late = (float(value) for value in np.quantile(seconds, [0.5, 0.95]))
    # A few slow questions would press all others into one bar.
    top = max(min(max(seconds), 2 * late), 1e-9)
    counts, edges = np.histogram(np.minimum(seconds, top), LATENCY_BINS, (0, top))
    above = sum(value > top for value in seconds)
    more = " or more" if above else ""
    ticks = [(0.0, "0 s"), (0.5, f"{top / 2:.3g} s"), (1.0, f"{top:.3g} s{more}")]
    body = [_frame(ticks, "", up=False)]
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        width, height = _x(right / top) - _x(left / top) - 1, count / counts.max()
        body.append(
            f'<rect class="area" x="{_x(left / top)}" y="{_y(height)}" width="{width:.1f}"'
            f' height="{_y(0) - _y(height):.1f}"><title>{count} questions: {left:.3g} to'
            f" {right:.3g} s{more if right == edges[-1] else ''}</title></rect>"
        )
    for value, name in ((median, "median"), (late, "95 %")):
        x = _x(value / top)
        body.append(f'<line class="line" x1="{x}" x2="{x}" y1="{_y(1)}" y2="{_y(0)}"/>')
        anchor = "end" if value > top / 2 else "start"
        body.append(
            f'<text class="value" x="{x + (-4 if anchor == "end" else 4)}"'
            f' y="{_y(1) + (12 if name == "median" else 28)}"'
            f' text-anchor="{anchor}">{name} {value:.3g} s</text>'
        )
    rows = [
        [f"{left:.3g} – {right:.3g} s{more if right == edges[-1] else ''}", int(count)]
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    return _plot(
        "Seconds for a question",
        f"How many questions took how long; {figure(max(seconds))} s at most."
        + (f" The last bar also holds {above} of over {top:.3g} s." if above else ""),
        "".join(body),
        table(["seconds", "questions"], ["", "number"], rows),
    )


def _plot(title: str, about: str, body: str, numbers: str) -> str:
    key = re.sub(r"\W+", "-", title.lower()).strip("-")
    return (
        f"<figure><figcaption><h3>{title}</h3><p>{about}</p></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{key} {key}-about">'
        f'<title id="{key}">{title}</title><desc id="{key}-about">{about} The numbers are in the'
        f" table that follows.</desc>{body}</svg>"
        f'<details><summary class="soft">Numbers</summary>{numbers}</details></figure>'
    )


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _frame(across: Sequence[tuple[float, str]], name: str, *, up: bool = True) -> str:
    """Both axes: the ticks across, and shares from 0 to 1 going up."""
    parts = [f'<path class="axis" d="M{_x(0)} {_y(1)}V{_y(0)}H{_x(1)}"/>']
    for share, label in across:
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        parts.append(
            f'<text x="{_x(share)}" y="{_y(0) + 16}" text-anchor="{anchor}">{label}</text>'
        )
    for share in (0, 0.25, 0.5, 0.75, 1) if up else ():
        parts.append(f'<path class="axis" d="M{_x(0)} {_y(share)}H{_x(1)}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{_y(share) + 4}" text-anchor="end">{share:g}</text>')
    parts.append(f'<text x="{_x(0.5)}" y="{HEIGHT - 6}" text-anchor="middle">{name}</text>')
    return "".join(parts)


def _path(points: Iterable[tuple[float, float]], kind: str = "line") -> str:
    places = " ".join(f"{_x(x)},{_y(y)}" for x, y in points)
    return f'<polyline class="{kind}" points="{places}"/>'


def _dot(x: float, y: float, note: str, *, radius: float = 4.5) -> str:
    return (
        f'<circle class="dot" cx="{_x(x)}" cy="{_y(y)}" r="{radius:.1f}">'
        f"<title>{note}</title></circle>"
    )

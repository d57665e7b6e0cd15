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
from ui.markup import table
from ui.speech import Speech

WIDTH, HEIGHT = 380, 240
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 14, 40
LATENCY_BINS = 24


def plots(report: Report, say: Speech) -> Iterator[str]:
    """Those that apply, each a figure with its numbers as a table."""
    yield _recall(report, say)
    # Shares of keywords are no chances, and have another threshold.
    asked = [row for row in report.rows if row.answered is not None and not row.by_keywords]
    judged = [(row.confidence, row.correct) for row in asked]
    # What has no candidate, or none that is known, is never answered.
    known = [(c, k) for c, k in judged if c is not None and k is not None]
    if known:
        sure, right = zip(*known, strict=True)
        never = len(judged) - len(known)
        yield _abstention([*sure, *never * [-math.inf]], [*right, *never * [False]], report, say)
        yield _calibration(sure, right, say)
    if seconds := [row.seconds for row in report.rows if row.seconds is not None]:
        yield _latency(seconds, say)


def _recall(report: Report, say: Speech) -> str:
    found = [(k, report.metrics[f"recall@{k}"]) for k in CUTOFFS]
    points = [(math.log(k, CUTOFFS[-1]), k, recall) for k, recall in found if recall]
    if not points:
        return ""
    body = [_frame([(math.log(k, CUTOFFS[-1]), str(k)) for k in CUTOFFS], say, "k passages")]
    body.append(_path([(x, recall.value) for x, _, recall in points]))
    for x, k, recall in points:
        body.append(
            f'<line class="spread" x1="{_x(x)}" x2="{_x(x)}" y1="{_y(recall.low)}"'
            f' y2="{_y(recall.high)}"/>'
            + _dot(x, recall.value, f"recall@{k}: {say.figure(recall.value)}")
        )
        anchor = "start" if x < 0.5 else "end"
        y = _y(recall.low) + 16 if recall.low > 0.2 else _y(recall.high) - 8
        body.append(
            f'<text class="value" x="{_x(x)}" y="{y}" text-anchor="{anchor}">'
            f"{say.figure(recall.value)}</text>"
        )
    rows = [[str(k), say.figure(r.value), say.between(r)] for _, k, r in points]
    return _plot(
        "Recall at k",
        say("How often the gold passage is among the first k; passages of one unit count once."),
        "".join(body),
        table(["k", say("recall"), say("interval")], ["", "number", "number"], rows),
        say,
    )


def _abstention(sure: Sequence[float], right: Sequence[bool], report: Report, say: Speech) -> str:
    thresholds, answered, correct = abstention_curve(sure, right)
    body = [_frame([(x, say("{:.0%}", x)) for x in (0.0, 0.5, 1.0)], say, "questions answered")]
    body.append(_path(zip(answered.tolist(), correct.tolist(), strict=True)))
    cut = report.settings.get("threshold")
    about = [say("Each point is a threshold of confidence.")]
    if isinstance(cut, (int, float)) and (thresholds >= cut).any():
        x, y = (float(column[thresholds >= cut][-1]) for column in (answered, correct))
        told = "The one in use, {:g}, answers {:.1%}, of which {:.1%} are right."
        about.append(say(told, cut, x, y))
        # The label stands at the edge that is farther off, where no curve runs.
        edge, anchor = 0.04 if y > 0.5 else 0.92, "end" if x > 0.5 else "start"
        body.append(f'<circle class="chosen" cx="{_x(x)}" cy="{_y(y)}" r="6"/>')
        body.append(f'<path class="dash" d="M{_x(x)} {_y(y)}V{_y(edge)}"/>')
        body.append(
            f'<text class="value" x="{_x(x) + (-6 if anchor == "end" else 6)}" y="{_y(edge)}"'
            f' text-anchor="{anchor}">{say.fact("threshold", say("{:g}", cut))}</text>'
        )
    picked = np.unique(np.linspace(0, len(thresholds) - 1, 11).astype(int))
    rows = [
        [
            say("{:.3f}", thresholds[i]),
            say("{:.1%}", answered[i]),
            say("{:.1%}", correct[i]),
        ]
        for i in picked
    ]
    about.append(say("Up: the share of answers that are right."))
    return _plot(
        "What the threshold does",
        " ".join(about),
        "".join(body),
        table([say("threshold"), say("answered"), say("right")], ["", "number", "number"], rows),
        say,
    )


def _calibration(sure: Sequence[float], right: Sequence[bool], say: Speech) -> str:
    bins = reliability(sure, right)
    body = [_frame([(x, say("{:.1f}", x)) for x in (0.0, 0.5, 1.0)], say, "confidence")]
    body.append(_path([(0, 0), (1, 1)], "dash"))
    most = max(held.questions for held in bins)
    for held in bins:
        radius = 3 + 9 * math.sqrt(held.questions / most)
        told = "{} questions: confidence {:.2f}, right {:.0%}"
        note = say(told, held.questions, held.confidence, held.accuracy)
        body.append(_dot(held.confidence, held.accuracy, note, radius=radius))
    rows = [
        [
            say("{:.1f} – {:.1f}", held.low, held.high),
            held.questions,
            say("{:.2f}", held.confidence),
            say("{:.2f}", held.accuracy),
        ]
        for held in bins
    ]
    header = [say(name) for name in ("confidence", "questions", "mean", "right")]
    return _plot(
        "Is the confidence honest?",
        say(
            "Up: the share that is right. On the line confidence says how often that is; the larger"
            " the dot, the more questions."
        ),
        "".join(body),
        table(header, ["", *3 * ["number"]], rows),
        say,
    )


def _latency(seconds: Sequence[float], say: Speech) -> str:
    median, late = (float(value) for value in np.quantile(seconds, [0.5, 0.95]))
    # A few slow questions would press all others into one bar.
    top = max(min(max(seconds), 2 * late), 1e-9)
    counts, edges = np.histogram(np.minimum(seconds, top), LATENCY_BINS, (0, top))
    above = sum(value > top for value in seconds)
    end = "{:.3g} s or more" if above else "{:.3g} s"
    ticks = [(0.0, "0 s"), (0.5, say("{:.3g} s", top / 2)), (1.0, say(end, top))]
    body = [_frame(ticks, say, up=False)]
    rows = []
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        width, height = _x(right / top) - _x(left / top) - 1, count / counts.max()
        upto = say(end if right == edges[-1] else "{:.3g} s", right)
        if count:
            rows.append([f"{say('{:.3g}', left)} – {upto}", count])
        note = say("{} questions: {:.3g} to {}", count, left, upto)
        body.append(
            f'<rect class="area" x="{_x(left / top)}" y="{_y(height)}" width="{width:.1f}"'
            f' height="{_y(0) - _y(height):.1f}"><title>{note}</title></rect>'
        )
    for value, name, down in ((median, "median {:.3g} s", 12), (late, "95 % {:.3g} s", 28)):
        x = _x(value / top)
        body.append(f'<line class="line" x1="{x}" x2="{x}" y1="{_y(1)}" y2="{_y(0)}"/>')
        anchor = "end" if value > top / 2 else "start"
        body.append(
            f'<text class="value" x="{x + (-4 if anchor == "end" else 4)}"'
            f' y="{_y(1) + down}" text-anchor="{anchor}">{say(name, value)}</text>'
        )
    about = [say("How many questions took how long; {} s at most.", say.figure(max(seconds)))]
    if above:
        about.append(say("The last bar also holds {} of over {:.3g} s.", above, top))
    return _plot(
        "Seconds for a question",
        " ".join(about),
        "".join(body),
        table([say("seconds"), say("questions")], ["", "number"], rows),
        say,
    )


def _plot(title: str, about: str, body: str, numbers: str, say: Speech) -> str:
    key = re.sub(r"\W+", "-", title.lower()).strip("-")
    title = say(title)
    described = say("{} The numbers are in the table that follows.", about)
    return (
        f"<figure><figcaption><h3>{title}</h3><p>{about}</p></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{key} {key}-about">'
        f'<title id="{key}">{title}</title><desc id="{key}-about">{described}</desc>{body}</svg>'
        f'<details><summary class="soft">{say("Numbers")}</summary>{numbers}</details></figure>'
    )


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _frame(
    across: Sequence[tuple[float, str]], say: Speech, name: str = "", *, up: bool = True
) -> str:
    """Both axes: the ticks across, and shares from 0 to 1 going up."""
    parts = [f'<path class="axis" d="M{_x(0)} {_y(1)}V{_y(0)}H{_x(1)}"/>']
    for share, label in across:
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        parts.append(
            f'<text x="{_x(share)}" y="{_y(0) + 16}" text-anchor="{anchor}">{label}</text>'
        )
    for share in (0, 0.25, 0.5, 0.75, 1) if up else ():
        parts.append(f'<path class="axis" d="M{_x(0)} {_y(share)}H{_x(1)}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{_y(share) + 4}" text-anchor="end">'
            f"{say('{:g}', share)}</text>"
        )
    parts.append(f'<text x="{_x(0.5)}" y="{HEIGHT - 6}" text-anchor="middle">{say(name)}</text>')
    return "".join(parts)


def _path(points: Iterable[tuple[float, float]], kind: str = "line") -> str:
    places = " ".join(f"{_x(x)},{_y(y)}" for x, y in points)
    return f'<polyline class="{kind}" points="{places}"/>'


def _dot(x: float, y: float, note: str, *, radius: float = 4.5) -> str:
    return (
        f'<circle class="dot" cx="{_x(x)}" cy="{_y(y)}" r="{radius:.1f}">'
        f"<title>{note}</title></circle>"
    )

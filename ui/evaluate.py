"""``beleg eval``: everything is checked, then the questions are asked, then it is told.

The questions are asked in rag/evaluate.py; the HTML page is made in ui/report.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from index.errors import InputError
from rag.calibrate import Fit, cases, check_enough, fit
from rag.config import fingerprint, save_calibration, settings_file
from rag.evaluate import evaluate
from rag.judge import Judge, judge
from rag.metrics import Interval
from rag.questions import Question, QuestionSet, check_answers, read_questions, transfer
from rag.report import (
    INTERVALS,
    JUDGED,
    LESS_IS_BETTER,
    METRICS,
    STAGES,
    Comparison,
    Group,
    Judged,
    Report,
    Row,
    compare,
    failures,
    falls_short,
)
from ui.render import plain
from ui.speech import BY_KEYWORDS, PAIRED, Speech

if TYPE_CHECKING:
    from index.types import Document
    from rag.chatbot import Chatbot

Say = Callable[[str], None]
_SPEECH = Speech()

GROUPS, FAILURES, CHANGED = 10, 5, 5
"""How many groups of a breakdown, failures, and questions won or lost the terminal shows."""
COLUMNS = ("recall@5", "answer_hit@1", "false_abstention", "unanswerable_abstention")
"""The measures of a breakdown that the terminal shows."""


def run(
    options: argparse.Namespace, *, open_bot: Callable[..., Chatbot], say: Say, warn: Say
) -> tuple[Report, list[str]]:
    """Evaluate, tell, and write; returns the report and what fell short, a line each.

    ``open_bot(options, documents, check)`` opens what is to be asked (see ``ui.cli``).

    Raises:
        InputError: something is wrong with the arguments or files; found before any
            document is embedded.
    """
    _check_outputs(options)
    found = read_questions(options.questions, contexts=options.contexts)
    before = _read_report(options.compare, found) if options.compare else None
    judging = None if options.judge is None else Judge(options.judge)
    questions: tuple[Question, ...] = ()

    def check(documents: Sequence[Document]) -> None:
        nonlocal questions
        questions = _fitting(found, documents, warn)
        if options.calibrate:
            check_enough(questions, documents)

    bot = open_bot(options, found.documents, check)
    report = _ask(bot, questions)
    if judging and not report.interrupted:
        report = _judge(report, judging)
    report = replace(report, settings=_settings(options) | dict(report.settings))
    # Interrupted, it may have none of the questions of the earlier run.
    comparison = None
    if before is not None and _ids(before.rows) & _ids(report.rows):
        comparison = compare(before, report)
        if comparison.altered:
            warn(f"{options.compare} asks {comparison.altered} of these questions otherwise")
    say(table(report, comparison))
    judged = report.judged
    if judged and judged.questions and judged.failed == judged.questions:
        warn(f"the judge gave no verdict at all: {judged.commonest}")
    _save(options, report, comparison)
    if options.calibrate and not report.interrupted:
        say("\nAll figures above are from before the calibration.")
        fitted = _calibrate(bot, questions, report)
        _save(options, report, comparison, fitted)
        say(f"\n{plain(_calibration(fitted, bot.index.encoder.name))}")
        say(_keep(bot, fitted))
    short = list(_short(report, options.fail_under))
    for line in short:
        warn(line)
    return report, short


def bound(text: str) -> tuple[str, float]:
    """METRIC=VALUE, as argparse takes it."""
    metric, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if metric not in METRICS:
        raise argparse.ArgumentTypeError(f"no measure {metric!r}: known are {', '.join(METRICS)}")
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: write METRIC=VALUE, like {metric}=0.9")
    return metric, value


# ---- Before any work -------------------------------------------------------------------------


def _check_outputs(options: argparse.Namespace) -> None:
    if options.html_language and not options.html:
        raise InputError("--html-language is that of the HTML page: give --html FILE too")
    inputs = [options.questions, options.contexts, *options.paths]
    outputs = [Path(name) for name in (options.json, options.html) if name]
    for path in outputs:
        folder = path.parent
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file to write")
        if not folder.is_dir():
            raise InputError(f"{path} cannot be written: there is no folder {folder}")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise InputError(f"{path} cannot be written: permission denied")
        if any(_same(path, name) for name in inputs if name):
            raise InputError(f"{path} would be overwritten: name another file to write")
    # JSON may take the place of the earlier report, which is read before; a page may not.
    if options.html and options.compare and _same(options.html, options.compare):
        raise InputError(f"{options.html} would be overwritten: name another file to write")
    if len(outputs) == 2 and _same(*outputs):
        raise InputError(f"{outputs[0]} cannot be both: name one file for JSON, one for HTML")


def _same(path: str | Path, other: str | Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _read_report(name: str, found: QuestionSet) -> Report:
    try:
        held = json.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{name} is not JSON: give what beleg eval --json wrote") from None
    report = Report.from_json(held, name)
    if not _ids(report.rows) & _ids(found.questions):
        raise InputError(f"{name} has no question in common with these: nothing to compare")
    return report


def _ids(items: Iterable[Row | Question]) -> set[str]:
    return {item.id for item in items}


def _fitting(found: QuestionSet, documents: Sequence[Document], warn: Say) -> tuple[Question, ...]:
    questions = found.questions
    if found.documents and documents is not found.documents:
        questions = transfer(found, documents)
        left_out = len(found.questions) - len(questions)
        if not questions:
            raise InputError("none of the answers stands in the documents given")
        if left_out:
            warn(f"left out, for their answers are not in the documents: {left_out} questions")
    return check_answers(questions, documents)


# ---- The work --------------------------------------------------------------------------------


def _ask(bot: Chatbot, questions: Sequence[Question]) -> Report:
    with _bar("asking", len(questions)) as bar:
        return evaluate(bot, questions, on_progress=partial(_advance, bar))


def _bar(name: str, total: int) -> Any:
    from tqdm import tqdm

    # disable=None: only on a terminal.
    return tqdm(total=total, desc=name, disable=None, leave=False)


def _advance(bar: Any, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _judge(report: Report, judging: Judge) -> Report:
    with _bar("judging", len(report.rows)) as bar:
        return judge(report, judging, on_progress=partial(_advance, bar))


def _calibrate(bot: Chatbot, questions: Sequence[Question], report: Report) -> Fit:
    with _bar("asking without the answer", len(questions)) as bar:
        found = cases(bot, questions, report.rows, on_progress=partial(_advance, bar))
    return fit(found, bot.ranker)


def _keep(bot: Chatbot, fitted: Fit) -> str:
    """Write a calibration that is worth it; says whether, and how to undo that."""
    encoder = bot.index.encoder
    if not fitted.better:
        return f"not written to {settings_file()}: it makes nothing better on questions left out"
    held = replace(fitted.calibration, fitted_on=fingerprint(encoder))
    file = save_calibration(encoder.name, held)
    return f"written to {file}; to undo it, remove {encoder.name!r} under calibration there"


def _save(
    options: argparse.Namespace,
    report: Report,
    comparison: Comparison | None,
    fitted: Fit | None = None,
) -> None:
    """Write the files asked for; before a calibration too, which may yet fail."""
    if options.json:
        held = report.to_json() | {
            "comparison": comparison.to_json() if comparison else None,
            "calibration": fitted.to_json() if fitted else None,
        }
        _write(options.json, json.dumps(held, ensure_ascii=False, indent=1) + "\n")
    if options.html:
        from ui.report import page

        _write(options.html, page(report, comparison, fitted, options.html_language or "en"))


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "questions": options.questions,
        "contexts": options.contexts,
        "paths": list(options.paths),
        "index": options.index,
    }


def _short(report: Report, bounds: Iterable[tuple[str, float]]) -> Iterator[str]:
    for metric, value in bounds:
        found = report.metrics[metric]
        if falls_short(metric, found, value):
            side = "most" if metric in LESS_IS_BETTER else "least"
            shown = "does not apply" if found is None else f"is {found.value:.4g}"
            yield f"{metric} {shown}; it should be at {side} {value:g}"


def _write(name: str, text: str) -> None:
    try:
        Path(name).write_text(text, "utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{name} cannot be written: {error.strerror}") from None


# ---- For the terminal ------------------------------------------------------------------------


def table(report: Report, comparison: Comparison | None = None) -> str:
    """The report as plain text."""
    parts = [_heading(report), _measures(report)]
    for name, groups in report.breakdown.items():
        if len(groups) > 1:
            parts.append(_breakdown(name.replace("_", " "), groups))
    parts.append(_failures(report.rows))
    if report.judged:
        parts.append(_judged(report.judged))
    if comparison:
        parts.append(_comparison(comparison))
    return plain("\n\n".join(parts))


def _heading(report: Report) -> str:
    settings = report.settings
    lines = [
        f"questions {len(report.rows)} · documents {settings['documents']}"
        f" · encoder {settings['encoder']} · threshold {settings['threshold']:g}"
    ]
    if report.interrupted:
        lines.append("Interrupted: this is what was done so far.")
    if errors := sum(bool(row.error) for row in report.rows):
        lines.append(f"Raised an error: {errors}")
    if keywords := sum(row.by_keywords for row in report.rows):
        lines.append(f"{BY_KEYWORDS}: {keywords}")
    return "\n".join(lines)


def _measures(report: Report) -> str:
    rows = [["measure", "value", "95 % interval", ""]]
    for name, found in report.metrics.items():
        if found is not None:
            rows.append([name, *_shown(found), METRICS[name]])
    missing = [name for name, found in report.metrics.items() if found is None]
    text = f"{_columns(rows, left={0, 3})}\n\n{fill(INTERVALS, 100)}"
    return f"{text}\n\nDoes not apply: {', '.join(missing)}" if missing else text


def _breakdown(name: str, groups: Sequence[Group]) -> str:
    shown = [m for m in COLUMNS if any(group.metrics[m] for group in groups)]
    rows = [[f"by {name}", "questions", *shown]]
    for group in groups[:GROUPS]:
        values = (group.metrics[metric] for metric in shown)
        cells = [f"{found.value:.3f}" if found else "–" for found in values]
        rows.append([_short_line(group.name, 30), str(group.questions), *cells])
    more = f"\nand {len(groups) - GROUPS} more" if len(groups) > GROUPS else ""
    return _columns(rows, left={0}) + more


def _failures(rows: Sequence[Row]) -> str:
    lost = failures(rows)
    if not lost:
        return "No question was lost."
    counts = Counter(row.stage for row in lost)
    parts = ", ".join(f"{counts[stage]} {stage}" for stage in STAGES if counts[stage])
    lines = [f"Lost {len(lost)} of {len(rows)}: {parts}", "", "The worst:"]
    for row in lost[:FAILURES]:
        quotes = row.citations or row.withheld
        sure = "" if row.confidence is None else f", confidence {row.confidence:.2f}"
        lines += [
            f"  {_short_line(row.id, 30)} ({row.stage}{sure}): {_short_line(row.question)}",
            f"    gold:  {_short_line(' | '.join(row.gold)) or '(the documents do not say)'}",
        ]
        if quotes:
            label = "cited" if row.citations else "withheld"
            lines.append(f"    {label}: {_short_line(quotes[0].quote)}")
        if row.error:
            lines.append(f"    {_short_line(row.error)}")
        elif row.answerable:
            lines.append(f"    rank of the gold passage: {row.rank or 'beyond those searched'}")
    return "\n".join(lines)


def _judged(judged: Judged) -> str:
    rows = [[f"judged by {judged.model}", "share", "95 % interval", ""]]
    rows += [[name, *_shown(found), JUDGED[name]] for name, found in judged.metrics.items()]
    return (
        f"{_columns(rows, left={0, 3})}\n\nA language model's opinion of"
        f" {judged.questions} answers; no verdict came on {judged.failed}"
        + (f", most often for {judged.commonest}" if judged.commonest else "")
    )


def _shown(found: Interval | None) -> tuple[str, str]:
    """A measure and its interval, for a table."""
    return (f"{found.value:.3f}", f"{found.low:.3f} – {found.high:.3f}") if found else ("–", "")


def _comparison(comparison: Comparison) -> str:
    rows = [["compared", "before", "after", "difference", "95 % interval", "p"]]
    rows += [
        [
            _SPEECH.named(d.metric),
            f"{d.before:.3f}",
            f"{d.after:.3f}",
            f"{d.change.value:+.3f}",
            f"{d.change.low:+.3f} – {d.change.high:+.3f}",
            "–" if d.p is None else f"{d.p:.3f}",
        ]
        for d in comparison.differences
    ]
    lines = [_SPEECH.earlier(comparison), "", _columns(rows, left={0}), "", fill(PAIRED, 100)]
    lines.append(f"Questions in both runs: {comparison.shared}")
    for name, pairs in (("won", comparison.won), ("lost", comparison.lost)):
        lines.append(f"{name} {len(pairs)}{':' if pairs else ''}")
        for before, after in pairs[:CHANGED]:
            lines.append(f"  {_short_line(after.id, 30)}: {_short_line(after.question)}")
            lines += [
                f"    {when}: {_short_line(row.answer or row.error)}"
                for when, row in (("before", before), ("after", after))
            ]
        if len(pairs) > CHANGED:
            lines.append(f"  and {len(pairs) - CHANGED} more")
    return "\n".join(lines)


def _calibration(fitted: Fit, encoder: str) -> str:
    rows = [["calibration", "before", "95 % interval", "after", "95 % interval"]]
    rows += [
        [name, *_shown(before), *_shown(after)] for name, before, after in _SPEECH.effects(fitted)
    ]
    left_out = f"\nLeft out, answered by keywords: {fitted.left_out}" if fitted.left_out else ""
    held = fitted.calibration
    return (
        f"{_columns(rows, left={0})}\n\nAfter: of questions that it was not fitted on, by folds."
        f"{left_out}\nFor the encoder {encoder}: threshold {held.threshold:.4g}, slope"
        f" {held.slope:.4g}, intercept {held.intercept:.4g}"
    )


def _columns(rows: Sequence[Sequence[str]], *, left: set[int]) -> str:
    """The rows in columns, aligned on the right but for those in ``left``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _short_line(text: str, length: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"

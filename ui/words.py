"""What the terminal and the page both say of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from rag.calibrate import Fit
from rag.metrics import Interval
from rag.report import LESS_IS_BETTER, Comparison

BY_KEYWORDS = (
    "Answered by keywords alone, over documents in a language unknown to the encoder, and not"
    " counted in measures of confidence"
)
PAIRED = (
    "p: paired randomisation test, two-sided, each measure by itself; among many, a small p will"
    " come by chance. The interval is that of the difference, by paired bootstrap. Where questions"
    " are drawn by title, they are flipped by title too."
)


def named(metric: str) -> str:
    return f"{metric} (less is better)" if metric in LESS_IS_BETTER else metric


def earlier(comparison: Comparison) -> str:
    """The run that this one is compared with, and what makes it another one."""
    settings = comparison.settings
    keys = ("date", "beleg", "encoder", "threshold", "documents")
    facts = ", ".join(f"{key} {settings[key]}" for key in keys if key in settings)
    said = f"The earlier run: {facts or 'of which nothing is known'}."
    if comparison.interrupted:
        said += " It was interrupted."
    if comparison.altered:
        said += (
            f" It asks {comparison.altered} of the questions otherwise: in other words, with"
            " other answers, or taking them to be (un)answerable."
        )
    return said


def effects(fitted: Fit) -> Iterator[tuple[str, Interval | None, Interval | None]]:
    """The figures of a calibration by name, before and after."""
    for name in ("calibration_error", "by_chance", "false_abstention", "unanswerable_abstention"):
        yield named(name), getattr(fitted.before, name), getattr(fitted.after, name)
    for kind, after in fitted.after.abstention.items():
        yield f"{kind}, of {fitted.questions[kind]}", fitted.before.abstention[kind], after

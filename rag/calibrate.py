"""Fit the confidence to what turned out, so that of answers at .8 four of five are right.

The correction is Platt's (1999): slope and intercept on the confidence's logit, which keeps
the order of answers. The threshold is the highest at which at most ``FALSELY`` of the
answerable questions are not answered, so that as many of the others as can be are not.
Questions that the documents do not answer are made where a set has few: each is asked once
more with the document that answers it left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.errors import InputError
from index.types import Document
from rag.config import Calibration
from rag.evaluate import ask_all
from rag.metrics import (
    Interval,
    bootstrap,
    calibration_error_by_chance,
    expected_calibration_error,
    grouped,
    share,
)
from rag.questions import Question, check_answers, whole_words
from rag.report import Row

if TYPE_CHECKING:
    from rag.chatbot import Chatbot
    from rag.extract import Ranker

FEWEST = 20
"""So many questions of each kind are needed at least, answerable and not."""
FALSELY = 0.05
FOLDS = 5
ANSWERABLE, GIVEN = "answerable", "unanswerable, as given"
WITHOUT_DOCUMENT = "asked without its document"
WITHOUT_ARTICLE = "asked without all documents of its title"


@dataclass(frozen=True, slots=True)
class Case:
    """One question asked. ``confidence`` is -inf where nothing could be cited.

    ``right`` says whether what was, or would have been, cited answers. Cases of one
    ``question`` are never on both sides of a fold. Those ``by_keywords`` (see ``Answer``)
    tell nothing about the ranker's confidence.
    """

    kind: str
    question: str
    confidence: float
    right: bool
    by_keywords: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """What a confidence and its threshold are worth, with 95 % intervals.

    ``by_chance`` is what the calibration error were if confidence were perfect;
    ``abstention`` the share not answered, by kind of unanswerable question.
    """

    calibration_error: Interval | None
    by_chance: Interval | None
    false_abstention: Interval | None
    unanswerable_abstention: Interval | None
    abstention: Mapping[str, Interval | None]


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibration, and what it does to questions that it was not fitted on (by folds).

    ``before`` are the figures without it, of the same ``questions`` by kind; ``left_out``
    others were answered by keywords alone.
    """

    calibration: Calibration
    questions: Mapping[str, int]
    left_out: int
    before: Figures
    after: Figures

    @property
    def better(self) -> bool:
        """Whether the calibration error is lower, or the threshold tells more questions right.

        The latter is the share of the unanswerable refused less that of the answerable
        (Youden 1950).
        """
        return _value(self.after.calibration_error) < _value(self.before.calibration_error) or (
            _told(self.after) > _told(self.before)
        )

    def to_json(self) -> dict[str, Any]:
        """The object under "calibration" in what ``beleg eval --json`` writes."""
        note = "metrics, breakdown and per_question are from before this calibration"
        return {"note": note} | asdict(self) | {"better": self.better}


def _told(figures: Figures) -> float:
    return _value(figures.unanswerable_abstention) - _value(figures.false_abstention)


def _value(found: Interval | None) -> float:
    return found.value if found else math.nan


def check_enough(questions: Sequence[Question], documents: Sequence[Document]) -> None:
    """Raise InputError where there are too few questions of either kind to calibrate on.

    The places of their answers must be known (``check_answers``).
    """
    answerable = sum(_answerable(question) for question in questions)
    if answerable < FEWEST:
        raise InputError(
            f"to calibrate, {FEWEST} answerable questions are needed, and there are {answerable}"
        )
    given = sum(not question.answerable for question in questions)
    if given >= FEWEST:
        return
    made = len(_left_out(questions, documents))
    if given + made < FEWEST:
        raise InputError(
            f"to calibrate, {FEWEST} unanswerable questions are needed, and there are {given}"
            f" ({made} could be made by leaving out the documents that answer): add some"
        )


def cases(
    bot: Chatbot,
    questions: Sequence[Question],
    rows: Sequence[Row],
    *,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Case]:
    """What to fit ``bot``'s confidence on; ``rows`` are what became of the questions.

    Where few of them are unanswerable, others are made and asked, of which ``on_progress``
    is told. Questions that raised are left out.
    """
    asked = [(row, ANSWERABLE if row.answerable else GIVEN) for row in rows]
    if sum(kind == GIVEN for _, kind in asked) < FEWEST:
        left_out = _left_out(check_answers(questions, bot.documents), bot.documents)
        for done, found in enumerate(_asked_without(bot, left_out), 1):
            asked.append(found)
            on_progress(done, len(left_out))
    return [_case(*found) for found in asked if found[0].answered is not None]


def fit(cases: Sequence[Case], ranker: Ranker) -> Fit:
    """The calibration of the confidences of ``cases``, which ``ranker`` gave.

    Raises:
        InputError: there are too few cases of either kind, or too few right or wrong
            answers, or the confidence is no higher in right ones.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    left_out = sum(case.by_keywords for case in cases)
    cases = [case for case in cases if not case.by_keywords]
    kinds = Counter(case.kind for case in cases)
    sure, right, answerable = _columns(cases)
    known = sure > -np.inf
    for name, count, fewest in (
        ("answerable questions", kinds[ANSWERABLE], FEWEST),
        ("unanswerable questions", len(cases) - kinds[ANSWERABLE], FEWEST),
        ("right answers", int(right[known].sum()), FEWEST // 2),
        ("wrong answers", int((~right[known]).sum()), FEWEST // 2),
    ):
        if count < fewest:
            unknown = (
                f", not counting {left_out} over documents in a language unknown to the encoder"
            )
            raise InputError(
                f"to calibrate, {fewest} {name} are needed; there were {count}"
                + (unknown if left_out else "")
            )
    corrected, above = np.full(len(cases), -np.inf), np.full(len(cases), -np.inf)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for rest, fold in folds.split(sure, answerable, [case.question for case in cases]):
        held = _fitted(sure[rest], right[rest], answerable[rest])
        corrected[fold] = _corrected(sure[fold], held)
        above[fold] = corrected[fold] - held.threshold
    held = _fitted(sure, right, answerable)
    return Fit(
        # Of the weights' own logit: what was in force has been applied already.
        calibration=replace(
            held,
            slope=held.slope * ranker.slope,
            intercept=held.slope * ranker.intercept + held.intercept,
        ),
        questions=dict(kinds),
        left_out=left_out,
        before=figures(cases, ranker.threshold),
        after=_figures(cases, corrected, above),
    )


def figures(cases: Sequence[Case], threshold: float) -> Figures:
    """What the confidences of ``cases`` are worth as they are, answered from ``threshold`` on."""
    cases = [case for case in cases if not case.by_keywords]
    sure, _, _ = _columns(cases)
    return _figures(cases, sure, sure - threshold)


def _figures(
    cases: Sequence[Case], sure: NDArray[np.float64], above: NDArray[np.float64]
) -> Figures:
    """``above`` says how far the confidence, ``sure``, is over the threshold."""
    _, right, answerable = _columns(cases)
    questions = np.asarray([case.question for case in cases])
    kinds = np.asarray([case.kind for case in cases])
    known = sure > -np.inf

    def abstained(which: NDArray[np.bool_]) -> Interval | None:
        return share(above[which] < 0, groups=grouped(list(questions[which])))

    return Figures(
        calibration_error=bootstrap(
            sure[known],
            right[known],
            statistic=expected_calibration_error,
            groups=grouped(list(questions[known])),
        ),
        by_chance=calibration_error_by_chance(sure[known]),
        false_abstention=abstained(answerable),
        unanswerable_abstention=abstained(~answerable),
        abstention={
            kind: abstained(kinds == kind)
            for kind in dict.fromkeys(case.kind for case in cases)
            if kind != ANSWERABLE
        },
    )


def _columns(
    cases: Sequence[Case],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The confidences, which answers are right, and which questions answerable."""
    return (
        np.asarray([case.confidence for case in cases], np.float64),
        np.asarray([case.right for case in cases], np.bool_),
        np.asarray([case.kind == ANSWERABLE for case in cases], np.bool_),
    )


def _fitted(
    sure: NDArray[np.float64], right: NDArray[np.bool_], answerable: NDArray[np.bool_]
) -> Calibration:
    """The calibration of these confidences alone."""
    from sklearn.linear_model import LogisticRegression

    known = sure > -np.inf
    model = LogisticRegression().fit(_logit(sure[known])[:, None], right[known])
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        raise InputError(
            "to calibrate, the confidence must be higher where the answer is right, and it is"
            " not: this encoder does not fit these documents"
        )
    held = Calibration(slope, intercept, 0.0)
    chances = np.sort(_corrected(sure[answerable], held))
    highest = max(0.0, float(chances[math.floor(FALSELY * len(chances))]))
    # Down to six digits: what is written must not refuse the question that it stands at.
    return replace(held, threshold=math.floor(highest * 1e6) / 1e6)


def _corrected(sure: NDArray[np.float64], held: Calibration) -> NDArray[np.float64]:
    known = sure > -np.inf
    logits = held.slope * _logit(np.where(known, sure, 0.5)) + held.intercept
    return np.where(known, 1 / (1 + np.exp(-logits)), -np.inf)


def _logit(sure: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(sure, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(inside / (1 - inside)), np.float64)


# ---- Questions that the documents do not answer ----------------------------------------------


def _answerable(question: Question) -> bool:
    return question.answerable and bool(question.answers)


def _case(row: Row, kind: str) -> Case:
    confidence = -math.inf if row.confidence is None or row.correct is None else row.confidence
    return Case(kind, row.id, confidence, bool(row.correct), row.by_keywords)


def _left_out(
    questions: Sequence[Question], documents: Sequence[Document]
) -> list[tuple[Question, frozenset[str], str]]:
    """Answerable questions, the documents to leave out for each, and what this is called.

    In turn the documents that hold the answer, and these with all others of their title:
    what remains is near, and farther off. A question whose answer stands in what remains,
    as whole words, is not asked: that may answer it.
    """
    titles = {document.source: document.title for document in documents}
    found = []
    for number, question in enumerate(filter(_answerable, questions)):
        holding = frozenset(span.document for span in question.spans)
        named = {titles[source] for source in holding}
        article = frozenset(source for source, title in titles.items() if title in named)
        far = number % 2 == 1 and len(holding) < len(article)
        gone, kind = (article, WITHOUT_ARTICLE) if far else (holding, WITHOUT_DOCUMENT)
        rest = [document for document in documents if document.source not in gone]
        if rest and not any(whole_words(answer, rest) for answer in question.answers):
            found.append((question, gone, kind))
    return found


def _asked_without(
    bot: Chatbot, left_out: Sequence[tuple[Question, frozenset[str], str]]
) -> Iterator[tuple[Row, str]]:
    """What becomes of questions over an index without the documents that answer them."""
    fork = bot.fork()
    for gone in dict.fromkeys(sources for _, sources, _ in left_out):
        removed = [document for document in fork.documents if document.source in gone]
        fork.remove(*gone)
        these = [(question, kind) for question, sources, kind in left_out if sources == gone]
        unsaid = (replace(q, answers=(), spans=(), answerable=False) for q, _ in these)
        yield from zip(ask_all(fork, unsaid), (kind for _, kind in these), strict=True)
        fork.index.add(removed)

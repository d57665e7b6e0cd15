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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.errors import InputError
from index.types import Document
from rag.config import Calibration
from rag.evaluate import ask_all
from rag.metrics import (
    expected_calibration_error,
    false_abstention,
    unanswerable_abstention,
)
from rag.questions import Question
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
    ``question`` are never on both sides of a fold.
    """

    kind: str
    question: str
    confidence: float
    right: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibration, and what it does to questions that it was not fitted on (by folds).

    ``calibration_error`` is the expected one after, ``error_before`` that before;
    ``abstention`` is the share not answered, by kind of question, of which there are
    ``questions``.
    """

    calibration: Calibration
    questions: Mapping[str, int]
    error_before: float
    calibration_error: float
    false_abstention: float
    unanswerable_abstention: float
    abstention: Mapping[str, float]


def check_enough(questions: Sequence[Question], documents: Sequence[Document]) -> None:
    """Raise InputError where there are too few questions of either kind to calibrate on."""
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
        left_out = _left_out(questions, bot.documents)
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

    kinds = Counter(case.kind for case in cases)
    sure = np.asarray([case.confidence for case in cases], np.float64)
    right = np.asarray([case.right for case in cases], np.bool_)
    answerable = np.asarray([case.kind == ANSWERABLE for case in cases], np.bool_)
    known = sure > -np.inf
    for name, count, fewest in (
        ("answerable questions", kinds[ANSWERABLE], FEWEST),
        ("unanswerable questions", len(cases) - kinds[ANSWERABLE], FEWEST),
        ("right answers", int(right[known].sum()), FEWEST // 2),
        ("wrong answers", int((~right[known]).sum()), FEWEST // 2),
    ):
        if count < fewest:
            raise InputError(f"to calibrate, {fewest} {name} are needed; there were {count}")
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
        error_before=float(expected_calibration_error(sure[known], right[known])),
        calibration_error=float(expected_calibration_error(corrected[known], right[known])),
        false_abstention=float(false_abstention(above, answerable, 0)),
        unanswerable_abstention=float(unanswerable_abstention(above, answerable, 0)),
        abstention={
            kind: float(
                np.mean([a < 0 for a, c in zip(above, cases, strict=True) if c.kind == kind])
            )
            for kind in kinds
            if kind != ANSWERABLE
        },
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
    return Case(kind, row.id, confidence, bool(row.correct))


def _left_out(
    questions: Sequence[Question], documents: Sequence[Document]
) -> list[tuple[Question, frozenset[str], str]]:
    """Answerable questions, the documents to leave out for each, and what this is called.

    In turn the documents that hold the answer, and these with all others of their title:
    what remains is near, and farther off.
    """
    titles = {document.source: document.title for document in documents}
    found = []
    for number, question in enumerate(filter(_answerable, questions)):
        holding = frozenset(span.document for span in question.spans)
        named = {titles[source] for source in holding}
        article = frozenset(source for source, title in titles.items() if title in named)
        far = number % 2 == 1 and len(holding) < len(article)
        gone, kind = (article, WITHOUT_ARTICLE) if far else (holding, WITHOUT_DOCUMENT)
        if len(gone) < len(documents):
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

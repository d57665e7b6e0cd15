"""What an evaluation found: a row for each question, the measures of all, their JSON.

Two reports of the same questions can be compared. Values and pure functions only:
rag/evaluate.py makes the rows; ui/evaluate.py and ui/report.py show the reports.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import numpy as np

from index.errors import InputError
from rag.language import QUESTION_WORDS
from rag.metrics import (
    FEWEST_GROUPS,
    FloatArray,
    Interval,
    Place,
    Quote,
    auroc,
    bootstrap,
    calibration_error_by_chance,
    expected_calibration_error,
    grouped,
    mean,
    paired_test,
    ratio,
    share,
)

METRICS: Mapping[str, str] = {
    "recall@1": "the gold passage is the first in the ranking",
    "recall@5": "the gold passage is among the first 5",
    "recall@10": "the gold passage is among the first 10",
    "recall@20": "the gold passage is among the first 20",
    "mrr": "reciprocal rank of the gold passage",
    "ndcg@10": "discounted gain of the first 10 passages",
    "answer_hit@1": "the first citation holds a gold answer",
    "answer_hit@3": "one of the first 3 citations holds a gold answer",
    "answer_f1": "words shared with the gold answer (SQuAD F1)",
    "citation_precision": "citations that hold a gold answer or overlap its place",
    "citation_recall": "questions of which the gold place is cited",
    "citations_exact": "citations that stand in the text exactly at their offsets",
    "abstention_auroc": "answerable questions are surer than unanswerable ones",
    "answered_rate": "questions that are answered",
    "false_abstention": "answerable questions that are not answered",
    "unanswerable_abstention": "unanswerable questions that are not answered",
    "calibration_error": "distance of confidence from the share that is right (ECE)",
    "calibration_error_by_chance": "the same of so many questions, were the confidence perfect",
    "seconds_per_question": "seconds for a question, median",
    "seconds_p95": "seconds for a question, 95th percentile",
}
"""Every measure, in the order of reports, and what it says."""
CHANCE = "calibration_error_by_chance"
LESS_IS_BETTER = (
    "false_abstention", "calibration_error", CHANCE, "seconds_per_question", "seconds_p95",
)  # fmt: skip
INTERVALS = (
    f"Intervals are at 95 %. From {FEWEST_GROUPS} titles on, of which some have several questions,"
    " the questions of a title are drawn together (bootstrap by title); else shares of yes or no,"
    " and whatever is alike for all, have Wilson's interval, and the rest a bootstrap by question."
)

JUDGED: Mapping[str, str] = {
    "faithful": "answers of which the quotes say everything",
    "answers": "answers that say what the question asks for",
}
"""What a language model may be asked to judge (rag/judge.py)."""
NOT_ASKED = "not asked"
NOWHERE = "(none)"
"""The document of what no document answers."""

RETRIEVAL_SCORES = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10")
ANSWER_SCORES = (
    "answer_hit@1", "answer_hit@3", "answer_f1", "citation_precision", "citation_recall",
    "answered_rate", "false_abstention", "unanswerable_abstention",
)  # fmt: skip
SCORES = (*RETRIEVAL_SCORES, *ANSWER_SCORES)
"""The measures that are means of a score of each question."""
GROUP_METRICS = (
    "recall@1", "recall@5", "answer_hit@1", "citation_precision", "false_abstention",
    "unanswerable_abstention",
)  # fmt: skip

ERROR = "error"
UNANSWERABLE = "answered though unanswerable"
NOT_RETRIEVED = "not retrieved"
NOT_CHOSEN = "retrieved, not chosen"
NOT_ANSWERED = "chosen, not answered"
ABSTAINED = "wrongly abstained"
STAGES = (ERROR, UNANSWERABLE, NOT_RETRIEVED, NOT_CHOSEN, NOT_ANSWERED, ABSTAINED)
"""What lost a question: the first stage that did."""


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation and whether ``[start, end)`` of its document, looked up anew, is the quote."""

    source: str
    start: int
    end: int
    quote: str
    sentences: int
    exact: bool

    @property
    def as_quote(self) -> Quote:
        """What the measures of an answer take (see rag.metrics)."""
        return Quote(self.quote, Place(self.source, self.start, self.end), self.sentences)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A language model's opinion of an answer, or why there is none (``error``, which begins
    with ``NOT_ASKED`` where it was not asked for)."""

    faithful: bool | None = None
    answers: bool | None = None
    reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One question and what became of it.

    ``document`` is the source of the one document that holds the gold, if it is one;
    ``gold`` are the answers. ``answered``, ``confidence``, ``correct`` and ``seconds`` are
    None where the question was only searched for (BEIR) or raised; ``confidence`` also
    where nothing was found that could be cited. ``withheld`` is what would have been cited,
    ``correct`` says whether what was or would have been is right. ``rank`` is that of the
    first gold passage (1 = best, None if it was not found), each unit counted once.
    ``title`` is that of the document, which may be one paragraph of many; ``by_keywords``
    says that the confidence is that of ``Answer.by_keywords``.
    ``scores`` has the keys ``SCORES``, None where a measure does not apply. ``stage`` is one
    of ``STAGES``, None for a question that was not lost. ``judged`` is None where no
    language model was asked.
    """

    id: str
    question: str
    language: str
    document: str | None
    document_language: str | None
    question_word: str
    answerable: bool
    gold: tuple[str, ...]
    answered: bool | None = None
    confidence: float | None = None
    answer: str = ""
    citations: tuple[Cited, ...] = ()
    withheld: tuple[Cited, ...] = ()
    correct: bool | None = None
    rank: int | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    stage: str | None = None
    error: str = ""
    judged: Verdict | None = None
    title: str | None = None
    by_keywords: bool = False

    @property
    def group(self) -> Hashable:
        """What is equal where two questions are no independent evidence."""
        return self.id if self.title is None else (self.title,)

    @property
    def direction(self) -> str:
        """The question's language and that of the gold document: ``en→de``."""
        return f"{self.language}→{self.document_language or '?'}"


@dataclass(frozen=True, slots=True)
class Group:
    """The questions that have something in common, and ``GROUP_METRICS`` of them."""

    name: str
    questions: int
    metrics: Mapping[str, Interval | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts of the language model ``model``: on how many questions, how many of them
    failed, by what most often, and ``JUDGED`` of the others."""

    model: str
    questions: int
    failed: int
    commonest: str
    metrics: Mapping[str, Interval | None]


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found.

    ``metrics`` has the keys ``METRICS``, None where a measure does not apply; its intervals
    are at 95 %. ``breakdown`` has the groups by direction, question word, document and
    language, the largest first. ``interrupted`` says that not all questions were asked.
    ``judged`` is kept apart from ``metrics``: it is a language model's opinion.
    """

    rows: tuple[Row, ...]
    metrics: Mapping[str, Interval | None]
    breakdown: Mapping[str, tuple[Group, ...]]
    settings: Mapping[str, Any]
    interrupted: bool = False
    judged: Judged | None = None

    @classmethod
    def of(
        cls, rows: Iterable[Row], settings: Mapping[str, Any], *, interrupted: bool = False
    ) -> Self:
        """Measure the rows."""
        rows = tuple(rows)
        groups = {name: _groups(rows, key) for name, key in _GROUPED_BY.items()}
        return cls(rows, _measure(rows, METRICS), groups, dict(settings), interrupted)

    def with_verdicts(self, rows: Iterable[Row], model: str) -> Self:
        """This report with its ``rows`` judged by that model."""
        rows = tuple(rows)
        verdicts = [row.judged for row in rows if row.judged]
        told = [verdict for verdict in verdicts if not verdict.error]
        groups = grouped([row.group for row in rows if row.judged and not row.judged.error])
        metrics = {
            name: share([float(getattr(v, name)) for v in told], groups=groups) for name in JUDGED
        }
        errors = Counter(v.error for v in verdicts if v.error and not v.error.startswith(NOT_ASKED))
        commonest = next((error for error, _ in errors.most_common(1)), "")
        judged = Judged(model, len(verdicts), len(verdicts) - len(told), commonest, metrics)
        return replace(self, rows=rows, judged=judged)

    def to_json(self) -> dict[str, Any]:
        """The object that ``beleg eval --json`` writes; plain types only."""
        return {
            "questions": len(self.rows),
            "interrupted": self.interrupted,
            "metrics": _metrics_to_json(self.metrics),
            "judged": self.judged
            and {
                "model": self.judged.model,
                "questions": self.judged.questions,
                "failed": self.judged.failed,
                "commonest": self.judged.commonest,
                "metrics": _metrics_to_json(self.judged.metrics),
            },
            "breakdown": {
                name: [
                    {
                        "name": group.name,
                        "questions": group.questions,
                        "metrics": _metrics_to_json(group.metrics),
                    }
                    for group in groups
                ]
                for name, groups in self.breakdown.items()
            },
            "per_question": [_to_json(row) for row in self.rows],
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, value: object, where: str = "report") -> Self:
        """The report that ``to_json`` made ``value`` of; ``where`` names it in messages.

        Raises:
            InputError: it is none: a key is unknown or missing, or a value of another kind.
        """
        if isinstance(value, dict):
            value = {key: held for key, held in value.items() if key not in _BESIDE}
        held = _take(value, where, _REPORT_KINDS)
        rows = tuple(
            _row_from_json(row, f"{where}, question {number}")
            for number, row in enumerate(held["per_question"], 1)
        )
        check_ids((row.id for row in rows), where)
        if held["questions"] != len(rows):
            raise InputError(
                f"{where}: questions is {held['questions']}, but {len(rows)} are there"
            )
        if held["breakdown"].keys() != _GROUPED_BY.keys():
            raise InputError(f"{where}, breakdown: known are {', '.join(_GROUPED_BY)}")
        return cls(
            rows=rows,
            metrics=_metrics_from_json(held["metrics"], METRICS, f"{where}, metrics"),
            breakdown={
                name: _groups_from_json(groups, f"{where}, {name}")
                for name, groups in held["breakdown"].items()
            },
            settings=held["settings"],
            interrupted=held["interrupted"],
            judged=_judged_from_json(held["judged"], f"{where}, judged"),
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure before and after, over the questions that it applies to in both runs.

    ``change`` is the difference, with the interval of a paired bootstrap. ``p`` is that of a
    two-sided paired randomisation test, not corrected for their number; None where the
    measure is no mean of values of each question.
    """

    metric: str
    questions: int
    before: float
    after: float
    change: Interval
    p: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs: what changed, and the questions won and lost in the later one, as pairs.

    ``shared`` questions are in both runs; only these count. Of ``altered`` ones of them the
    question itself, its gold answers or whether it is answerable is not the same.
    ``settings`` and ``interrupted`` are those of the earlier run.
    """

    settings: Mapping[str, Any]
    interrupted: bool
    shared: int
    altered: int
    differences: tuple[Difference, ...]
    won: tuple[tuple[Row, Row], ...]
    lost: tuple[tuple[Row, Row], ...]

    def to_json(self) -> dict[str, Any]:
        """The object under "comparison" in what ``beleg eval --json`` writes."""
        return {
            "settings": dict(self.settings),
            "interrupted": self.interrupted,
            "shared": self.shared,
            "altered": self.altered,
            "differences": [
                {
                    "metric": d.metric,
                    "questions": d.questions,
                    "before": d.before,
                    "after": d.after,
                    "difference": _interval_to_json(d.change),
                    "p": d.p,
                }
                for d in self.differences
            ],
            "won": [row.id for _, row in self.won],
            "lost": [row.id for _, row in self.lost],
        }


def compare(before: Report, after: Report) -> Comparison:
    """Two runs of the same questions, by their ids, side by side.

    Raises:
        InputError: they have no question in common.
    """
    earlier = {row.id: row for row in before.rows}
    pairs = [(earlier[row.id], row) for row in after.rows if row.id in earlier]
    if not pairs:
        raise InputError("the two reports have no question in common")
    compared = (_difference(pairs, name) for name in METRICS if name != CHANCE)
    return Comparison(
        settings=before.settings,
        interrupted=before.interrupted,
        shared=len(pairs),
        altered=sum(_asked(a) != _asked(b) for a, b in pairs),
        differences=tuple(filter(None, compared)),
        won=tuple((a, b) for a, b in pairs if a.stage and not b.stage),
        lost=tuple((a, b) for a, b in pairs if b.stage and not a.stage),
    )


def _asked(row: Row) -> tuple[str, frozenset[str], bool]:
    return row.question, frozenset(row.gold), row.answerable


def failures(rows: Iterable[Row]) -> list[Row]:
    """The questions lost, the worst first.

    Errors, then wrong answers from the surest on, then questions left unanswered, those
    with the best rank of the gold first.
    """

    def badness(row: Row) -> tuple[int, float]:
        if row.stage == ERROR:
            return 0, 0.0
        if row.answered:
            return 1, -(row.confidence or 0.0)
        return 2, row.rank or math.inf

    return sorted((row for row in rows if row.stage), key=badness)


def falls_short(metric: str, found: Interval | None, bound: float) -> bool:
    """Whether a measure is worse than ``bound``, or does not apply."""
    if found is None:
        return True
    return found.value > bound if metric in LESS_IS_BETTER else found.value < bound


def check_ids(ids: Iterable[str], where: str) -> None:
    """Raise InputError where two questions have one id."""
    seen: set[str] = set()
    for key in ids:
        if key in seen:
            raise InputError(f'{where}: the id "{key}" is there twice')
        seen.add(key)


# ---- All of them -----------------------------------------------------------------------------

_GROUPED_BY: Mapping[str, Callable[[Row], str]] = {
    "direction": lambda row: row.direction,
    "question_word": lambda row: row.question_word,
    "document": lambda row: row.document or ("?" if row.answerable else NOWHERE),
    "language": lambda row: row.language,
}
_STATISTICS: Mapping[str, Callable[..., FloatArray]] = {
    "citations_exact": ratio,
    "abstention_auroc": auroc,
    "calibration_error": expected_calibration_error,
    "seconds_per_question": partial(np.quantile, q=0.5, axis=-1),
    "seconds_p95": partial(np.quantile, q=0.95, axis=-1),
}
"""How the values of questions become a measure, where it is not their mean."""


def _values(row: Row, name: str) -> tuple[float, ...] | None:
    """What a question gives to a measure; None where it has no part in it."""
    if name in SCORES:
        score = row.scores[name]
        return None if score is None else (score,)
    if name == "citations_exact":
        exact = [citation.exact for citation in row.citations]
        return (sum(exact), len(exact)) if exact else None
    if name.startswith("seconds"):
        return None if row.seconds is None else (row.seconds,)
    if row.by_keywords or row.answered is None:
        return None  # shares of keywords are no chances: the two cannot be in one order
    if name == "abstention_auroc":
        # Without a candidate it is never answered, however low the threshold.
        return (-math.inf if row.confidence is None else row.confidence, row.answerable)
    if row.confidence is None or row.correct is None:
        return None
    return (row.confidence, row.correct)


def _measure(rows: Sequence[Row], names: Iterable[str]) -> dict[str, Interval | None]:
    return {name: _interval(rows, name) for name in names}


def _interval(rows: Sequence[Row], name: str) -> Interval | None:
    found = [(row.group, value) for row in rows if (value := _values(row, name)) is not None]
    if not found:
        return None
    groups = grouped([group for group, _ in found])
    columns = np.asarray([value for _, value in found], np.float64).T
    if name == CHANCE:
        return calibration_error_by_chance(columns[0])
    if name in SCORES or name == "citations_exact":
        return share(*columns, groups=groups)
    return bootstrap(*columns, statistic=_STATISTICS[name], groups=groups)


def _groups(rows: Sequence[Row], key: Callable[[Row], str]) -> tuple[Group, ...]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    largest = sorted(found, key=lambda name: (-len(found[name]), name))
    return tuple(
        Group(name, len(found[name]), _measure(found[name], GROUP_METRICS)) for name in largest
    )


def _difference(pairs: Sequence[tuple[Row, Row]], name: str) -> Difference | None:
    found = [(b.group, _values(a, name), _values(b, name)) for a, b in pairs]
    both = [(group, a, b) for group, a, b in found if a is not None and b is not None]
    if not both:
        return None
    groups = grouped([group for group, _, _ in both])
    before, after = (np.asarray([held[n] for held in both], np.float64).T for n in (1, 2))
    statistic = _STATISTICS.get(name, mean)

    def differ(*columns: FloatArray) -> FloatArray:
        return statistic(*columns[len(before) :]) - statistic(*columns[: len(before)])

    change = bootstrap(*before, *after, statistic=differ, groups=groups)
    if change is None:  # an AUROC of one kind alone
        return None
    return Difference(
        metric=name,
        questions=len(both),
        before=float(statistic(*before)),
        after=float(statistic(*after)),
        change=change,
        p=paired_test(before[0], after[0], groups=groups) if name in SCORES else None,
    )


# ---- JSON ------------------------------------------------------------------------------------

_Kinds = Mapping[str, tuple[type | None, ...]]
_TEXT, _NUMBER, _FLAG = (str,), (float,), (bool,)

_REPORT_KINDS: _Kinds = {
    "questions": (int,),
    "interrupted": _FLAG,
    "metrics": (dict,),
    "judged": (dict, None),
    "breakdown": (dict,),
    "per_question": (list,),
    "settings": (dict,),
}
_BESIDE = ("comparison", "calibration")
"""What ``beleg eval --json`` writes with a report that is no part of it."""
_ROW_KINDS: _Kinds = {
    "id": _TEXT,
    "question": _TEXT,
    "language": _TEXT,
    "document": (str, None),
    "document_language": (str, None),
    "question_word": _TEXT,
    "answerable": _FLAG,
    "gold": (list,),
    "answered": (bool, None),
    "confidence": (float, None),
    "answer": _TEXT,
    "citations": (list,),
    "withheld": (list,),
    "correct": (bool, None),
    "rank": (int, None),
    "scores": (dict,),
    "seconds": (float, None),
    "stage": (str, None),
    "error": _TEXT,
    "judged": (dict, None),
    "title": (str, None),
    "by_keywords": _FLAG,
}
_VERDICT_KINDS: _Kinds = {
    "faithful": (bool, None),
    "answers": (bool, None),
    "reason": _TEXT,
    "error": _TEXT,
}
_JUDGED_KINDS: _Kinds = {
    "model": _TEXT,
    "questions": (int,),
    "failed": (int,),
    "commonest": _TEXT,
    "metrics": (dict,),
}
_CITED_KINDS: _Kinds = {
    "source": _TEXT,
    "start": (int,),
    "end": (int,),
    "quote": _TEXT,
    "sentences": (int,),
    "exact": _FLAG,
}
_GROUP_KINDS: _Kinds = {"name": _TEXT, "questions": (int,), "metrics": (dict,)}
_INTERVAL_KINDS: _Kinds = {"value": _NUMBER, "low": _NUMBER, "high": _NUMBER}
_NAMES = {str: "text", bool: "true or false", dict: "an object", list: "a list"}
_NAMES |= {int: "a whole number", float: "a number"}


def _take(value: object, where: str, kinds: _Kinds) -> dict[str, Any]:
    """``value`` as an object with exactly these keys, each of one of its kinds."""
    if not isinstance(value, dict):
        raise InputError(f"{where} is not an object: give what beleg eval --json wrote")
    for key in value.keys() - kinds.keys():
        raise InputError(f'{where}: unknown key "{key}": known are {", ".join(kinds)}')
    for key, allowed in kinds.items():
        if key not in value:
            raise InputError(f"{where}: {key} is missing")
        if not any(_is(value[key], kind) for kind in allowed):
            names = " or ".join("null" if kind is None else _NAMES[kind] for kind in allowed)
            raise InputError(f"{where}: {key} must be {names}")
    return value


def _is(value: object, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if kind is float:  # JSON knows neither NaN nor infinity, and Python's 1 is a number too
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return type(value) is kind


def _interval_to_json(found: Interval | None) -> dict[str, float] | None:
    return {"value": found.value, "low": found.low, "high": found.high} if found else None


def _metrics_to_json(metrics: Mapping[str, Interval | None]) -> dict[str, Any]:
    return {name: _interval_to_json(found) for name, found in metrics.items()}


def _metrics_from_json(
    value: object, names: Iterable[str], where: str
) -> dict[str, Interval | None]:
    held = _take(value, where, dict.fromkeys(names, (dict, None)))
    return {
        name: None
        if held[name] is None
        else Interval(**_take(held[name], f"{where}, {name}", _INTERVAL_KINDS))
        for name in names
    }


def _judged_from_json(value: object, where: str) -> Judged | None:
    if value is None:
        return None
    held = _take(value, where, _JUDGED_KINDS)
    return Judged(**{**held, "metrics": _metrics_from_json(held["metrics"], JUDGED, where)})


def _groups_from_json(value: object, where: str) -> tuple[Group, ...]:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list")
    groups = [_take(item, where, _GROUP_KINDS) for item in value]
    return tuple(
        Group(
            held["name"],
            held["questions"],
            _metrics_from_json(held["metrics"], GROUP_METRICS, f"{where}, {held['name']}"),
        )
        for held in groups
    )


def _to_json(row: Row) -> dict[str, Any]:
    held = {key: getattr(row, key) for key in _ROW_KINDS}
    for key in ("citations", "withheld"):
        held[key] = [{name: getattr(c, name) for name in _CITED_KINDS} for c in held[key]]
    held["judged"] = row.judged and {key: getattr(row.judged, key) for key in _VERDICT_KINDS}
    return held | {"gold": list(row.gold), "scores": dict(row.scores)}


def _row_from_json(value: object, where: str) -> Row:
    held = _take(value, where, _ROW_KINDS)
    _take(held["scores"], f"{where}, scores", dict.fromkeys(SCORES, (float, None)))
    if held["stage"] not in (None, *STAGES):
        raise InputError(f"{where}: stage must be null or one of: {'; '.join(STAGES)}")
    if held["question_word"] not in QUESTION_WORDS:
        raise InputError(f"{where}: question_word must be one of {', '.join(QUESTION_WORDS)}")
    if not all(isinstance(answer, str) for answer in held["gold"]):
        raise InputError(f"{where}: gold must be a list of texts")
    cited = {
        key: tuple(Cited(**_take(item, f"{where}, {key}", _CITED_KINDS)) for item in held[key])
        for key in ("citations", "withheld")
    }
    judged = held["judged"]
    if judged is not None:
        judged = Verdict(**_take(judged, f"{where}, judged", _VERDICT_KINDS))
        if not judged.error and None in (judged.faithful, judged.answers):
            raise InputError(f"{where}, judged: faithful and answers must be true or false")
    return Row(**{**held, **cited, "gold": tuple(held["gold"]), "judged": judged})

"""Measures of retrieval, answers, citations and abstention, and how sure they are.

Pure functions: nothing is read, asked or rounded here. Those of one question give its value,
to be averaged by ``share``; where a measure does not apply it is None, or NaN in arrays.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

HIT_SENTENCES, HIT_CHARACTERS = 3, 600
"""The longest quote that can be an answer hit. Not the answerer's own limits: a measure
must not move when those do."""
CUTOFFS = (1, 5, 10, 20)
GOLD = "gold"
"""The unit of a ranking that stands for all passages that overlap a gold span."""
RESAMPLES, ROUNDS = 2_000, 10_000
FEWEST_GROUPS = 10
"""From so many groups on, questions of one group are drawn together: of fewer, a bootstrap
would know too little of how groups differ."""
BLOCK = 1 << 21  # random numbers drawn at a time, so that memory stays small


class Place(NamedTuple):
    """The characters ``[start, end)`` of the document whose source is ``document``."""

    document: str
    start: int
    end: int

    def overlaps(self, other: Place) -> bool:
        """Whether they have a character in common."""
        return self.document == other.document and self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Quote:
    """A cited quote: its words, where they stand, and how many sentences they are."""

    text: str
    place: Place
    sentences: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


# ---- Answers ---------------------------------------------------------------------------------

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "de": re.compile(r"\b(a|an|the|der|die|das|den|dem|des|ein|eine|einen|einem|einer|eines)\b"),
}


def normalise(text: str, language: str = "en") -> str:
    """Lower case without ASCII punctuation, articles and superfluous white space.

    As in the official SQuAD script (Rajpurkar et al. 2016), with German articles as well
    where ``language``, that of the answer, is "de".
    """
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.get(language, _ARTICLES["en"]).sub(" ", text).split())


def token_f1(prediction: str, answers: Sequence[str], language: str = "en") -> float:
    """The harmonic mean of precision and recall of the prediction's words, in [0, 1].

    The best over the gold answers; both sides are bags of words after ``normalise``
    (Rajpurkar et al. 2016). Where neither has words it is 1, where one has none 0; without
    gold answers the empty prediction is right (SQuAD 2.0, Rajpurkar et al. 2018).
    """
    predicted = Counter(normalise(prediction, language).split())
    return max(_f1(predicted, Counter(gold.split())) for gold in _golds(answers, language))


def _golds(answers: Sequence[str], language: str) -> list[str]:
    normalised = (normalise(answer, language) for answer in answers)
    return [gold for gold in normalised if gold] or [""]


def _f1(predicted: Counter[str], gold: Counter[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    return 2 * (predicted & gold).total() / (predicted.total() + gold.total())


def holds(text: str, answer: str) -> bool:
    """Whether ``text`` contains ``answer``, letter by letter; any white space is one space."""
    wanted = " ".join(answer.split())
    return bool(wanted) and wanted in " ".join(text.split())


def answer_hit(quotes: Sequence[Quote], answers: Sequence[str], *, k: int = 1) -> float:
    """1 where one of the first ``k`` quotes contains a gold answer, else 0.

    Quotes of more than ``HIT_SENTENCES`` or ``HIT_CHARACTERS`` do not count: whoever
    quotes everything quotes the answer too.
    """
    return float(
        any(
            quote.sentences <= HIT_SENTENCES
            and len(quote.text) <= HIT_CHARACTERS
            and any(holds(quote.text, answer) for answer in answers)
            for quote in quotes[:k]
        )
    )


# ---- Citations -------------------------------------------------------------------------------


def supports(quote: Quote, answers: Sequence[str], spans: Sequence[Place]) -> bool:
    """Whether a quote contains a gold answer or overlaps a gold span."""
    return any(holds(quote.text, answer) for answer in answers) or any(
        quote.place.overlaps(span) for span in spans
    )


def citation_precision(
    quotes: Sequence[Quote], answers: Sequence[str], spans: Sequence[Place]
) -> float | None:
    """The share of an answer's quotes that support it; None where nothing is cited."""
    if not quotes:
        return None
    return sum(supports(quote, answers, spans) for quote in quotes) / len(quotes)


def citation_recall(quotes: Sequence[Quote], spans: Sequence[Place]) -> float | None:
    """1 where a quote overlaps a gold span, else 0; None where there is no gold span.

    The spans of a question are alternatives (annotators who chose differently, an answer
    that stands twice): covering one of them covers the gold. The mean over questions is
    the share of gold that was cited.
    """
    if not spans:
        return None
    return float(any(quote.place.overlaps(span) for quote in quotes for span in spans))


# ---- Retrieval -------------------------------------------------------------------------------


def span_units(passages: Sequence[Place], spans: Sequence[Place]) -> list[str]:
    """The units of a ranking of passages of long documents, for ``retrieval``.

    A passage that overlaps a gold span is the unit ``GOLD``, any other one itself. Where
    each document is a paragraph, the documents' sources are the units instead.
    """
    return [
        GOLD
        if any(passage.overlaps(span) for span in spans)
        else f"{passage.document}:{passage.start}-{passage.end}"
        for passage in passages
    ]


def retrieval(
    rankings: Sequence[Sequence[str]], relevance: Sequence[Mapping[str, int]]
) -> dict[str, FloatArray]:
    """recall@1/5/10/20, mrr and ndcg@10 of every question, each of shape (questions,).

    ``rankings`` are units (paragraphs, documents), best first; one that comes again
    counts where it came first. ``relevance`` maps each question's relevant units to
    their grades; 0 and less is not relevant. recall@k is the share of a question's
    relevant units among the first k, mrr the reciprocal rank of the first of them
    (Voorhees 1999), ndcg@10 has the grade as gain and 1 / log2(rank + 1) as discount
    (Järvelin & Kekäläinen 2002); all three as trec_eval computes them, through ir-measures.

    Raises:
        ValueError: nothing is relevant to a question, or the lengths differ.
    """
    import ir_measures  # 40 ms and a log handler that nothing else needs
    from ir_measures import RR, R, nDCG

    measures = {R @ k: f"recall@{k}" for k in CUTOFFS} | {RR: "mrr", nDCG @ 10: "ndcg@10"}
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for question, (ranking, grades) in enumerate(zip(rankings, relevance, strict=True)):
        relevant = {unit: grade for unit, grade in grades.items() if grade > 0}
        if not relevant:
            raise ValueError(f"nothing is relevant to question {question}")
        # By rank, not by name: equal scores and odd names cannot reorder or merge units.
        first = {unit: rank for rank, unit in enumerate(dict.fromkeys([*ranking, *relevant]))}
        qrels[str(question)] = {str(first[unit]): grade for unit, grade in relevant.items()}
        if ranking:
            found = range(len(set(ranking)))
            run[str(question)] = {str(rank): -float(rank) for rank in found}
    values = {name: np.zeros(len(rankings)) for name in measures.values()}
    if qrels:
        for found_value in ir_measures.pytrec_eval.iter_calc(list(measures), qrels, run):
            values[measures[found_value.measure]][int(found_value.query_id)] = found_value.value
    return values


# ---- Abstention and calibration --------------------------------------------------------------


def auroc(confidences: ArrayLike, answerable: ArrayLike) -> FloatArray:
    """How often an answerable question is more confident than an unanswerable one; ties half.

    The area under the ROC curve, by ranks (Mann & Whitney 1947; Hanley & McNeil 1982).
    Both have the shape (..., questions); the result has (...), NaN where one kind is missing.
    """
    scores, labels = _vectors(confidences, answerable)
    # Equal scores share a level, so that counting by level gives the mean rank of ties.
    levels, level = np.unique(scores, return_inverse=True)
    rows = math.prod(scores.shape[:-1])
    cell = level.reshape(rows, -1) + len(levels) * np.arange(rows)[:, None]

    def per_level(kind: BoolArray) -> FloatArray:
        counts = np.bincount(cell[kind.reshape(rows, -1)], minlength=rows * len(levels))
        return counts.reshape(rows, len(levels)).astype(np.float64)

    positive, negative = per_level(labels), per_level(~labels)
    below = np.cumsum(negative, axis=1) - negative
    won = (positive * (below + negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio(won, pairs).reshape(scores.shape[:-1])


def false_abstention(confidences: ArrayLike, answerable: ArrayLike, threshold: float) -> FloatArray:
    """The share of answerable questions that are not answered; NaN where there are none.

    Those from ``threshold`` on are answered; one that never is has the confidence -inf,
    here and in the next two. Both have the shape (..., questions); the result has (...).
    """
    scores, labels = _vectors(confidences, answerable)
    return _ratio((labels & (scores < threshold)).sum(axis=-1), labels.sum(axis=-1))


def unanswerable_abstention(
    confidences: ArrayLike, answerable: ArrayLike, threshold: float
) -> FloatArray:
    """The share of unanswerable questions that are not answered; NaN where there are none.

    Both have the shape (..., questions); the result has (...).
    """
    return false_abstention(confidences, ~np.asarray(answerable, np.bool_), threshold)


def abstention_curve(
    confidences: ArrayLike, correct: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What every threshold would do: thresholds, and the shares answered and correct there.

    Both inputs have the shape (questions,), the three results (thresholds,): one for each
    confidence that occurs, from the highest on. The share answered is of all questions, the
    share correct of those answered (the risk-coverage curve upside down; El-Yaniv & Wiener
    2010).
    """
    scores, right = _vectors(confidences, correct)
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    # Equal confidences are answered together: only the last of each counts.
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)] & (scores > -np.inf)
    answered = np.arange(1, len(scores) + 1)
    return scores[last], (answered / len(scores))[last], (np.cumsum(right) / answered)[last]


@dataclass(frozen=True, slots=True)
class Bin:
    """The questions with a confidence in (low, high]: how many, how sure, how often right."""

    low: float
    high: float
    questions: int
    confidence: float
    accuracy: float


def reliability(confidences: ArrayLike, correct: ArrayLike, bins: int = 10) -> list[Bin]:
    """The bins of ``expected_calibration_error`` that hold a question (shape (questions,))."""
    scores, right = _vectors(confidences, correct)
    bin_of = _bins(scores, bins)
    return [
        Bin(
            low=int(m) / bins,
            high=(int(m) + 1) / bins,
            questions=int((bin_of == m).sum()),
            confidence=float(scores[bin_of == m].mean()),
            accuracy=float(right[bin_of == m].mean()),
        )
        for m in np.unique(bin_of)
    ]


def expected_calibration_error(
    confidences: ArrayLike, correct: ArrayLike, bins: int = 10
) -> FloatArray:
    """The mean distance of confidence from accuracy, over bins ((m - 1)/M, m/M] of confidence.

    The sum over bins of |B|/n · |accuracy(B) - confidence(B)| (Naeini et al. 2015; Guo et
    al. 2017). ``confidences`` are in [0, 1]. Both have the shape (..., questions) with at
    least one question; the result has (...).

    Raises:
        ValueError: a confidence is not in [0, 1], the shapes differ, or bins < 1.
    """
    scores, right = _vectors(confidences, correct)
    bin_of = _bins(scores, bins)
    gap = right - scores
    # n · |B|/n · |mean of gap in B| = |sum of gap in B|
    apart = sum(np.abs((gap * (bin_of == m)).sum(axis=-1)) for m in range(bins))
    return np.asarray(apart / scores.shape[-1], np.float64)


def _bins(scores: FloatArray, bins: int) -> NDArray[np.intp]:
    """The number, from 0, of the bin ((m - 1)/M, m/M] that each confidence is in."""
    if bins < 1 or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("confidences must be in [0, 1], and bins at least 1")
    return np.searchsorted(np.arange(1, bins) / bins, scores, side="left")


def _vectors(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Scores and labels of one shape.

    Raises:
        ValueError: the shapes differ, or a score is NaN.
    """
    left, right = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    if left.shape != right.shape or np.isnan(left).any():
        raise ValueError(f"one score, not NaN, a label is needed: {left.shape}, {right.shape}")
    return left, right


def _ratio(part: ArrayLike, whole: ArrayLike) -> FloatArray:
    """part / whole, NaN where whole is 0."""
    wholes = np.asarray(whole, np.float64)
    ratios = np.full(wholes.shape, np.nan)
    np.divide(np.asarray(part, np.float64), wholes, out=ratios, where=wholes > 0)
    return ratios


# ---- How sure the figures are ----------------------------------------------------------------


def mean(values: ArrayLike) -> FloatArray:
    """The mean over the last axis, the statistic of most measures.

    Raises:
        ValueError: a value is NaN; questions that a measure does not apply to are left out.
    """
    array = np.asarray(values, np.float64)
    if np.isnan(array).any():
        raise ValueError("a value is NaN: leave that question out")
    return np.asarray(array.mean(axis=-1), np.float64)


def grouped(keys: Sequence[Hashable]) -> NDArray[np.intp] | None:
    """The number, from 0, of each question's group, (questions,); None where they count alone.

    They count alone where no two share a group, or there are under ``FEWEST_GROUPS``.
    """
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    if not FEWEST_GROUPS <= len(number) < len(keys):
        return None
    return np.asarray([number[key] for key in keys], np.intp)


def ratio(part: ArrayLike, whole: ArrayLike) -> FloatArray:
    """The sum of parts over the sum of wholes, over the last axis."""
    return np.asarray(np.sum(part, axis=-1) / np.sum(whole, axis=-1), np.float64)


def share(
    part: ArrayLike, whole: ArrayLike | None = None, *, groups: NDArray[np.intp] | None = None
) -> Interval | None:
    """The sum of parts over the sum of wholes, and its 95 % interval; None without questions.

    Both have shape (questions,); a whole is 1 if none is given, which makes it a mean.
    Where questions have ``groups`` (see ``grouped``), the interval is that of ``bootstrap``
    by group. Else, for a share of yes or no, it is Wilson's (1927), which is also taken, with
    as many trials as there are groups or questions, where all are alike: resamples of equal
    values would show no doubt at all. Anything else is bootstrapped by question.

    Raises:
        ValueError: a value is NaN.
    """
    parts = np.asarray(part, np.float64)
    wholes = np.ones(len(parts)) if whole is None else np.asarray(whole, np.float64)
    if np.isnan(parts).any():
        raise ValueError("a value is NaN: leave that question out")
    if not len(parts):
        return None
    if groups is not None:
        parts, wholes = _sums(parts, groups), _sums(wholes, groups)
    alike = bool((parts == 0).all() or (parts == wholes).all())
    if alike or (groups is None and (wholes == 1).all() and np.isin(parts, (0, 1)).all()):
        from scipy.stats import binomtest  # half a second

        yes = int((parts == wholes).sum())
        found = binomtest(yes, len(parts)).proportion_ci(method="wilson")
        return Interval(yes / len(parts), float(found.low), float(found.high))
    return bootstrap(parts, wholes, statistic=ratio)


def bootstrap(
    *columns: ArrayLike,
    statistic: Callable[..., FloatArray] = mean,
    groups: NDArray[np.intp] | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """A statistic over questions with its percentile interval (Efron & Tibshirani 1993, ch. 13).

    Each column has shape (questions,); questions are drawn with replacement, the same for
    all columns. ``statistic`` takes the columns as (resamples, questions) and gives
    (resamples,); resamples where it is NaN (an AUROC without negatives) are left out.
    With ``groups`` (see ``grouped``) whole groups are drawn (Davison & Hinkley 1997, 3.8).
    None where there is no question, or the statistic of all of them is NaN.

    Raises:
        ValueError: the columns differ in length.
    """
    arrays = [np.asarray(column) for column in columns]
    (questions,) = arrays[0].shape
    if any(array.shape != (questions,) for array in arrays):
        raise ValueError(f"columns differ in shape: {[array.shape for array in arrays]}")
    if not questions or math.isnan(value := float(statistic(*arrays))):
        return None
    random = np.random.default_rng(seed)
    found = []
    if groups is None:
        for rows in _blocks(resamples, questions):
            drawn = random.integers(questions, size=(rows, questions))
            found.append(statistic(*(array[drawn] for array in arrays)))
    else:
        members = [np.flatnonzero(groups == number) for number in range(groups.max() + 1)]
        for _ in range(resamples):  # whose numbers of questions differ
            chosen = random.integers(len(members), size=len(members))
            drawn = np.concatenate([members[number] for number in chosen])
            found.append(statistic(*(array[drawn][None] for array in arrays)))
    values = np.concatenate(found)
    tail = (1 - level) / 2
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [tail, 1 - tail]) if len(values) else (value, value)
    return Interval(value, float(low), float(high))


def calibration_error_by_chance(
    confidences: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """``expected_calibration_error`` were these confidences perfectly calibrated: mean, 95 %.

    It is above 0, and the more so the fewer questions there are, because each bin's accuracy
    is off by chance. Answers are drawn to be right as often as the confidences say
    (consistency resampling, Bröcker & Smith 2007). None without a confidence.
    """
    sure = np.asarray(confidences, np.float64)
    if not len(sure):
        return None
    random = np.random.default_rng(seed)
    found = [
        expected_calibration_error(np.broadcast_to(sure, drawn.shape), drawn < sure)
        for drawn in (random.random((rows, len(sure))) for rows in _blocks(resamples, len(sure)))
    ]
    values = np.concatenate(found)
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def paired_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: NDArray[np.intp] | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> float:
    """The two-sided p-value of a paired randomisation test of mean(a) = mean(b).

    ``a`` and ``b`` hold one value for each of the same questions, shape (questions,). Were
    the runs alike, each difference could as well have the other sign: p is the share of
    sign flips whose mean difference is at least as far from 0 (Fisher 1935; for retrieval,
    Smucker et al. 2007). All flips are tried where they are at most ``rounds``; else that
    many at random, and p counts the observed signs too (Phipson & Smyth 2010). Questions of
    one of the ``groups`` (see ``grouped``) are flipped together.

    Raises:
        ValueError: the shapes differ, or a value is NaN.
    """
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"two runs on the same questions are needed: {left.shape}, {right.shape}")
    difference = left - right
    if np.isnan(difference).any():
        raise ValueError("a value is NaN: leave that question out of both runs")
    if groups is not None:
        difference = _sums(difference, groups)
    difference = difference[difference != 0]  # a flip of nothing changes nothing
    size = len(difference)
    # Sums of the same numbers in another order differ in the last bits.
    observed = abs(difference.sum()) - 1e-12 * np.abs(difference).sum()

    def extreme(flipped: BoolArray) -> int:
        sums = difference.sum() - 2 * (flipped @ difference)
        return int((np.abs(sums) >= observed).sum())

    if size < 63 and 2**size <= rounds:
        every: NDArray[Any] = np.arange(2**size)[:, None] >> np.arange(size) & 1
        return extreme(every == 1) / len(every)
    random = np.random.default_rng(seed)
    count = sum(extreme(random.random((rows, size)) < 0.5) for rows in _blocks(rounds, size))
    return (count + 1) / (rounds + 1)


def _sums(values: FloatArray, groups: NDArray[np.intp]) -> FloatArray:
    """The sum of each group, (groups,)."""
    return np.asarray(np.bincount(groups, values), np.float64)


def _blocks(rows: int, columns: int) -> list[int]:
    """How many of ``rows`` to draw at a time."""
    step = max(1, BLOCK // columns)
    return [min(step, rows - start) for start in range(0, rows, step)]

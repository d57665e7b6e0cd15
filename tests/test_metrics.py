"""Measures against examples worked by hand, and against outside definitions to 1e-9."""

from __future__ import annotations

import collections
import math
import re
import string
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.metrics import (
    GOLD,
    Bin,
    Interval,
    Place,
    Quote,
    abstention_curve,
    answer_hit,
    auroc,
    bootstrap,
    calibration_error_by_chance,
    citation_precision,
    citation_recall,
    expected_calibration_error,
    false_abstention,
    grouped,
    holds,
    mean,
    normalise,
    paired_test,
    ratio,
    reliability,
    retrieval,
    share,
    span_units,
    supports,
    token_f1,
    unanswerable_abstention,
)


def close(value: float) -> object:
    return pytest.approx(value, abs=1e-9, rel=0)


# ---- Answers: the functions of evaluate-v2.0.py, as the oracle -------------------------------


def squad_normalize(s: str) -> str:
    s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", s).split())


def squad_f1(a_gold: str, a_pred: str) -> float:
    gold_toks = squad_normalize(a_gold).split()
    pred_toks = squad_normalize(a_pred).split()
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def squad_golds(answers: Sequence[str]) -> list[str]:
    return [answer for answer in answers if squad_normalize(answer)] or [""]


words = st.lists(
    st.sampled_from("the a an The die cat Cat cat's 1,000 U.S. „Killer“ – ß \u00a0 .".split(" "))
).map(" ".join)
phrases = words | st.text(max_size=20)


@given(phrases, st.lists(phrases, max_size=4))
def test_f1_is_the_official_script_s(pred: str, answers: list[str]) -> None:
    golds = squad_golds(answers)
    assert token_f1(pred, answers) == close(max(squad_f1(gold, pred) for gold in golds))


def test_f1_by_hand() -> None:
    # cat sat mat against cat mat: 2 in common, precision 2/3, recall 2/2, F1 2·2/(3 + 2).
    assert token_f1("The cat sat, mat!", ["dog", "a cat mat"]) == close(0.8)
    # A word that comes twice counts twice: 1 in common of 2 and 1, F1 2·1/(2 + 1).
    assert token_f1("no no", ["no"]) == close(2 / 3)
    assert token_f1("dog", ["cat"]) == 0


def test_without_gold_the_empty_answer_is_right() -> None:
    assert token_f1("", []) == token_f1("the", ["a"]) == 1
    assert token_f1("something", []) == token_f1("", ["something"]) == 0


def test_german_articles_go_in_german_only() -> None:
    assert normalise("Der Gipfel in einer der Städte", "de") == "gipfel in städte"
    assert normalise("The dem, des; eines (einen) a Ende", "de") == "ende"
    assert normalise("Who will die in the end?", "en") == "who will die in end"
    assert normalise("Le chat", "fr") == "le chat"
    assert token_f1("den Botschafter", ["Der Botschafter"], "de") == 1
    assert token_f1("den Botschafter", ["Der Botschafter"], "en") == 0.5


# ---- Quotes ----------------------------------------------------------------------------------


def quote(text: str, start: int = 0, *, document: str = "d", sentences: int = 1) -> Quote:
    return Quote(text, Place(document, start, start + len(text)), sentences)


def test_holds() -> None:
    assert holds("Am 20.\nJanuar  kam er.", "20. Januar")
    assert not holds("Am 20. januar", "20. Januar")
    assert not holds("Anything", " ")


def test_answer_hit() -> None:
    quotes = [quote("Berlin lies north."), quote("It was in Rome."), quote("Or Paris.")]
    assert answer_hit(quotes, ["Rome", "Milan"]) == 0
    assert answer_hit(quotes, ["Rome", "Milan"], k=3) == 1
    assert answer_hit(quotes, ["Paris"], k=2) == 0
    assert answer_hit([], ["Rome"]) == answer_hit(quotes, [], k=3) == 0


def test_long_quotes_are_no_hits() -> None:
    assert answer_hit([quote("Rome" + 596 * "x")], ["Rome"]) == 1
    assert answer_hit([quote("Rome" + 597 * "x")], ["Rome"]) == 0
    assert answer_hit([quote("Rome", sentences=3)], ["Rome"]) == 1
    assert answer_hit([quote("Rome", sentences=4)], ["Rome"]) == 0


def test_citations_by_hand() -> None:
    gold = [Place("d", 10, 14), Place("d", 50, 60)]
    inside = quote("the capital", 8)  # [8, 19) overlaps [10, 14)
    beside = quote("Rome", 6)  # [6, 10) ends where the span starts, but holds the answer
    other = quote("the capital", 8, document="e")
    assert supports(inside, ["Rome"], gold)
    assert supports(beside, ["Rome"], gold)
    assert not supports(beside, ["Milan"], gold)
    assert not supports(other, ["Rome"], gold)
    # Two of three quotes support.
    assert citation_precision([inside, beside, other], ["Rome"], gold) == close(2 / 3)
    assert citation_precision([inside], [], []) == 0
    assert citation_precision([], ["Rome"], gold) is None
    # Spans are alternatives: one of the two is enough.
    assert citation_recall([other, inside], gold) == 1
    assert citation_recall([other, beside], gold) == 0
    assert citation_recall([], gold) == 0
    assert citation_recall([inside], []) is None


# ---- Retrieval: by its formulas, as the oracle -----------------------------------------------


def oracle(ranking: Sequence[str], grades: Mapping[str, int]) -> dict[str, float]:
    ranking = list(dict.fromkeys(ranking))
    relevant = {unit for unit, grade in grades.items() if grade > 0}
    ranks = [rank for rank, unit in enumerate(ranking, 1) if unit in relevant]

    def dcg(gains: Sequence[int]) -> float:
        return sum(max(0, gain) / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], 1))

    values = {f"recall@{k}": sum(r <= k for r in ranks) / len(relevant) for k in (1, 5, 10, 20)}
    values["mrr"] = 1 / ranks[0] if ranks else 0.0
    ideal = dcg(sorted(grades.values(), reverse=True))
    values["ndcg@10"] = dcg([grades.get(unit, 0) for unit in ranking]) / ideal
    return values


# Names that pytrec_eval would cut, sort or not take.
units = st.sampled_from([*map(str, range(30)), "", "a\0b", "a\0c", "ä b", "\ud800"])
graded = st.dictionaries(units, st.integers(-1, 4)).filter(lambda g: max(g.values(), default=0) > 0)


@settings(deadline=None)  # the first example imports ir_measures
@given(st.lists(st.tuples(st.lists(units, max_size=40), graded), max_size=4))
def test_retrieval_is_its_formulas(questions: list[tuple[list[str], dict[str, int]]]) -> None:
    found = retrieval([ranking for ranking, _ in questions], [grades for _, grades in questions])
    for number, (ranking, grades) in enumerate(questions):
        values = {name: float(column[number]) for name, column in found.items()}
        assert values == {name: close(value) for name, value in oracle(ranking, grades).items()}
    assert all(column.shape == (len(questions),) for column in found.values())


def test_retrieval_by_hand() -> None:
    # Paragraph p comes twice, so q is second and r third; s was not found.
    found = retrieval([["p", "p", "q", "r"]], [{"q": 1, "s": 1}])
    assert found["recall@1"][0] == 0
    assert found["recall@5"][0] == found["recall@20"][0] == 0.5
    assert found["mrr"][0] == close(1 / 2)
    # DCG 1/log2(3); at best q and s come first and second: 1/log2(2) + 1/log2(3).
    assert found["ndcg@10"][0] == close((1 / math.log2(3)) / (1 + 1 / math.log2(3)))


def test_nothing_found_is_zero_and_nothing_relevant_an_error() -> None:
    found = retrieval([[], ["a"]], [{"a": 1}, {"a": 2}])
    assert {tuple(column) for column in found.values()} == {(0.0, 1.0)}
    with pytest.raises(ValueError, match="question 1"):
        retrieval([["a"], ["a"]], [{"a": 1}, {"a": 0}])
    with pytest.raises(ValueError, match="shorter"):
        retrieval([["a"]], [])


def test_passages_that_overlap_a_gold_span_are_one_unit() -> None:
    passages = [Place("d", 0, 40), Place("d", 40, 90), Place("d", 80, 99), Place("e", 40, 90)]
    ranking = span_units(passages, [Place("d", 85, 88)])
    assert ranking == ["d:0-40", GOLD, GOLD, "e:40-90"]
    assert retrieval([ranking], [{GOLD: 1}])["mrr"][0] == 0.5


# ---- Abstention ------------------------------------------------------------------------------

# Few values, so that ties are common.
confidence = st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.7, 1.0, -math.inf]) | st.floats(0, 1)
judged = st.lists(st.tuples(confidence, st.booleans()), max_size=30)


def pairs_won(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """AUROC by its definition, over all pairs."""
    yes = [s for s, label in zip(scores, labels, strict=True) if label]
    no = [s for s, label in zip(scores, labels, strict=True) if not label]
    won = sum((a > b) + (a == b) / 2 for a, b in product(yes, no))
    return won / (len(yes) * len(no)) if yes and no else math.nan


@given(judged)
def test_auroc_is_the_share_of_pairs_won(questions: list[tuple[float, bool]]) -> None:
    scores, labels = [s for s, _ in questions], [label for _, label in questions]
    expected = pytest.approx(pairs_won(scores, labels), abs=1e-9, nan_ok=True)
    assert float(auroc(scores, labels)) == expected


def test_auroc_by_hand_and_row_by_row() -> None:
    # Pairs: .9 > .5, .9 > .1, .5 = .5, .5 > .1: 3.5 of 4.
    scores, labels = [0.9, 0.5, 0.5, 0.1], [True, True, False, False]
    assert float(auroc(scores, labels)) == close(3.5 / 4)
    rows = auroc([scores, scores[::-1], scores], [labels, labels, [True] * 4])
    assert rows.shape == (3,)
    assert list(rows[:2]) == [close(3.5 / 4), close(0.5 / 4)]
    assert np.isnan(rows[2])


def test_rates_at_a_threshold_by_hand() -> None:
    scores = [0.9, 0.5, 0.2, 0.6, 0.1, -math.inf]
    labels = [True, True, True, False, False, True]
    # Of the four answerable ones, .2 and the one never answered are not.
    assert float(false_abstention(scores, labels, 0.5)) == 0.5
    assert float(false_abstention(scores, labels, 0.0)) == 0.25
    # Of the two unanswerable ones, .1 is not.
    assert float(unanswerable_abstention(scores, labels, 0.5)) == 0.5
    assert np.isnan(unanswerable_abstention([0.5], [True], 0.5))
    assert np.isnan(false_abstention([0.5], [False], 0.5))
    rows = false_abstention([scores, scores[::-1]], [labels, labels], 0.5)
    assert list(rows) == [0.5, 0.5]


def test_abstention_curve_by_hand() -> None:
    # .9 right; then .5 twice, one right: 2 of 3; .2 wrong: 2 of 4; the fifth is never answered.
    scores, right = [0.5, 0.9, 0.2, -math.inf, 0.5], [True, True, False, False, False]
    thresholds, answered, correct = abstention_curve(scores, right)
    assert list(thresholds) == [0.9, 0.5, 0.2]
    assert list(answered) == [close(1 / 5), close(3 / 5), close(4 / 5)]
    assert list(correct) == [1, close(2 / 3), close(2 / 4)]
    assert [len(column) for column in abstention_curve([], [])] == [0, 0, 0]


@given(st.lists(st.tuples(confidence, st.booleans()), min_size=1, max_size=30))
def test_abstention_curve_is_its_definition(questions: list[tuple[float, bool]]) -> None:
    scores, right = [s for s, _ in questions], [r for _, r in questions]
    curve = list(zip(*abstention_curve(scores, right), strict=True))
    assert [t for t, _, _ in curve] == sorted({s for s in scores if s >= 0}, reverse=True)
    for threshold, answered, correct in curve:
        said = [r for s, r in questions if s >= threshold]
        assert (answered, correct) == (close(len(said) / len(scores)), close(sum(said) / len(said)))


# ---- Calibration -----------------------------------------------------------------------------


def binned_error(scores: Sequence[float], right: Sequence[bool], bins: int) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for m in range(1, bins + 1):
        low = -1.0 if m == 1 else (m - 1) / bins  # 0 belongs to the first
        held = [i for i, s in enumerate(scores) if low < s <= m / bins]
        if held:
            accuracy = sum(right[i] for i in held) / len(held)
            confidence = sum(scores[i] for i in held) / len(held)
            total += len(held) / len(scores) * abs(accuracy - confidence)
    return total


@given(
    st.lists(st.tuples(st.floats(0, 1) | st.integers(0, 10).map(lambda n: n / 10), st.booleans()))
    .filter(bool),
    st.integers(1, 20),
)  # fmt: skip
def test_calibration_error_is_its_formula(questions: list[tuple[float, bool]], bins: int) -> None:
    scores, right = [s for s, _ in questions], [r for _, r in questions]
    expected = close(binned_error(scores, right, bins))
    assert float(expected_calibration_error(scores, right, bins)) == expected


def test_calibration_error_by_hand() -> None:
    # (.2, .3]: .3, wrong: 1/4 · |0 - .3|.  (.8, .9]: .82, .84, .89, two right:
    # 3/4 · |2/3 - .85| = 3/4 · .18333...  Together .075 + .1375.
    scores, right = [0.3, 0.82, 0.84, 0.89], [False, True, True, False]
    assert float(expected_calibration_error(scores, right)) == close(0.2125)
    rows = expected_calibration_error([scores, [1.0] * 4], [right, right])
    assert list(rows) == [close(0.2125), close(0.5)]
    assert float(expected_calibration_error([0.0, 1.0], [False, True])) == 0


def test_reliability_by_hand() -> None:
    scores, right = [0.3, 0.82, 0.84, 0.89], [False, True, True, False]
    low, high = reliability(scores, right)
    assert low == Bin(0.2, 0.3, 1, 0.3, 0.0)
    assert (high.low, high.high, high.questions) == (0.8, 0.9, 3)
    assert (high.confidence, high.accuracy) == (close(0.85), close(2 / 3))
    bins = reliability([0.0, 1.0, 0.5], [True, True, True], bins=2)
    assert [(b.low, b.high, b.questions) for b in bins] == [(0, 0.5, 2), (0.5, 1, 1)]
    assert reliability([], []) == []


@pytest.mark.parametrize("scores", [[1.1], [-0.1], [math.nan], [0.5, 0.5]])
def test_what_is_no_confidence_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError):
        expected_calibration_error(scores, [True])


# ---- How sure the figures are ----------------------------------------------------------------


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.tile([0.0, 1.0, 1.0, 1.0], 250)
    found = bootstrap(values)
    assert found is not None
    assert found.value == 0.75
    # Normal approximation: 1.96 · sqrt(.75 · .25 / 1000) = .02684 on either side.
    assert found.low == pytest.approx(0.75 - 0.02684, abs=0.003)
    assert found.high == pytest.approx(0.75 + 0.02684, abs=0.003)
    narrower = bootstrap(values, level=0.5)
    assert narrower is not None
    assert found.low < narrower.low < 0.75 < narrower.high < found.high


def test_bootstrap_is_the_percentile_of_the_resamples() -> None:
    # Of two questions, 0 and 1, resamples have the means 0, 1/2, 1 with the chances 1/4, 1/2,
    # 1/4: the tails of 20 % each are all 0 or all 1, those of 30 % are 1/2.
    assert bootstrap([0.0, 1.0], level=0.6) == Interval(0.5, 0.0, 1.0)
    assert bootstrap([0.0, 1.0], level=0.4) == Interval(0.5, 0.5, 0.5)


def test_bootstrap_takes_its_seed_and_any_number_of_questions() -> None:
    values = np.random.default_rng(5).random(70_000)
    few = values[:200]
    assert bootstrap(few, seed=3) == bootstrap(few, seed=3) != bootstrap(few, seed=4)
    found = bootstrap(values, resamples=100)  # drawn in blocks
    assert found is not None
    assert 0.49 < found.low < found.value < found.high < 0.51
    assert bootstrap([]) is None
    assert bootstrap([0.25]) == Interval(0.25, 0.25, 0.25)


@given(judged)
def test_bootstrap_of_other_statistics(questions: list[tuple[float, bool]]) -> None:
    scores, labels = np.asarray([s for s, _ in questions]), [label for _, label in questions]
    found = bootstrap(scores, labels, statistic=auroc, resamples=50)
    value = pairs_won(list(scores), labels)
    if math.isnan(value):
        assert found is None
    else:
        assert found is not None
        assert found.value == close(value)
        assert 0 <= found.low <= found.high <= 1


def test_bootstrap_of_a_rate_and_of_the_median() -> None:
    scores, labels = np.tile([0.2, 0.9], 50), np.tile([True, True, True, False], 25)
    rate = bootstrap(scores, labels, statistic=partial(false_abstention, threshold=0.5))
    assert rate is not None
    assert rate.value == close(2 / 3)  # of TTTF against low, high, low, high: two of three
    assert rate.low < rate.value < rate.high
    middle = bootstrap(np.arange(101.0), statistic=partial(np.median, axis=-1))
    assert middle is not None
    assert middle.low < middle.value == 50 < middle.high


def test_what_does_not_apply_must_be_left_out() -> None:
    with pytest.raises(ValueError, match="leave that question out"):
        bootstrap([0.5, math.nan])
    with pytest.raises(ValueError, match="columns differ"):
        bootstrap([0.5], [True, False], statistic=auroc)
    assert list(mean([[1, 2], [3, 4]])) == [1.5, 3.5]


def test_paired_test_by_hand() -> None:
    # Five questions won, none lost, one equal: of 2^5 flips only the two with all signs
    # alike are as far from 0, so p = 2/32.
    a, b = [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]
    assert paired_test(a, b) == paired_test(b, a) == 2 / 32
    # Differences 3, 1, -1: sums as far as 3 are ±3 (3+1-1, 3-1+1) and ±5: 6 of 8.
    assert paired_test([3, 1, 0], [0, 0, 1]) == 6 / 8
    assert paired_test([1, 2], [1, 2]) == paired_test([], []) == 1


def test_paired_test_at_random_is_near_the_exact_one() -> None:
    random = np.random.default_rng(1)
    a, b = random.random(12), random.random(12)
    exact = paired_test(a, b)  # 4,096 flips
    assert paired_test(a, b, rounds=4_000) == pytest.approx(exact, abs=0.03)
    assert paired_test(a, b, rounds=4_000, seed=1) == paired_test(a, b, rounds=4_000, seed=1)
    # With 60 won and none lost p is as small as the number of rounds lets it be.
    assert paired_test([1] * 60, [0] * 60, rounds=999) == 1 / 1000


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_paired_test_is_its_definition(values: list[tuple[float, float]]) -> None:
    a, b = np.asarray([x for x, _ in values]), np.asarray([y for _, y in values])
    sums = [
        abs(math.fsum(s * d for s, d in zip(signs, a - b, strict=True)))
        for signs in product((1, -1), repeat=len(a))
    ]
    expected = sum(total >= sums[0] - 1e-9 for total in sums) / len(sums)
    strict = sum(total >= sums[0] + 1e-9 for total in sums) / len(sums)
    # Sums nearer to each other than rounding may count either way.
    assert strict - 1e-9 <= paired_test(a, b) <= expected + 1e-9


@pytest.mark.parametrize(("a", "b"), [([1], [1, 2]), ([math.nan], [1]), ([[1]], [[1]])])
def test_unpaired_runs_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError):
        paired_test(a, b)


# ---- Shares, groups, chance ------------------------------------------------------------------

Z2 = 1.959964**2


def test_a_share_of_yes_or_no_has_wilsons_interval() -> None:
    # All 39 right: from n / (n + z²) on. 3 of 4 by Wilson's formula: .6275 ± .3269.
    assert share([1.0] * 39) == Interval(1.0, pytest.approx(39 / (39 + Z2), abs=1e-6), 1.0)
    found = share([1, 1, 1, 0])
    assert found is not None
    assert found.value == 0.75
    assert (found.low, found.high) == (close4(0.3006), close4(0.9544))
    # Neither yes nor no, or shares of several: a bootstrap.
    values = [0.0, 0.5, 1.0, 1.0]
    assert share(values) == bootstrap(values)
    assert share([1, 0], [2, 1]) == bootstrap([1, 0], [2, 1], statistic=ratio)
    # Three citations in two questions, all of them exact: two trials.
    assert share([2, 1], [2, 1]) == Interval(1.0, pytest.approx(2 / (2 + Z2), abs=1e-6), 1.0)
    assert share([]) is None
    with pytest.raises(ValueError, match="leave that question out"):
        share([math.nan])


def close4(value: float) -> Any:
    return pytest.approx(value, abs=1e-4)


def test_questions_count_alone_unless_enough_groups_share_them() -> None:
    assert grouped(list("aabbccddee")) is None  # five groups
    assert grouped(list("abcdefghij")) is None  # nothing is shared
    numbers = grouped(list("abacdefghij"))
    assert numbers is not None
    assert list(numbers) == [0, 1, 0, 2, 3, 4, 5, 6, 7, 8, 9]


def test_groups_are_drawn_together() -> None:
    values = np.asarray([0, 1, 1, 0, 1, 1, 1, 0, 1, 1], np.float64)
    groups = np.repeat(np.arange(10), 20)
    many = np.repeat(values, 20)
    # Twenty copies of a question are one question more often.
    alone = bootstrap(values)
    assert alone is not None
    assert share(many, groups=groups) == Interval(0.7, close(alone.low), close(alone.high))
    together = bootstrap(many, groups=groups)
    assert together is not None
    assert together.low == pytest.approx(alone.low, abs=0.11)
    assert together.high == pytest.approx(alone.high, abs=0.11)
    apart = bootstrap(many)
    assert apart is not None
    assert together.high - together.low > 3 * (apart.high - apart.low)
    # All right in ten groups: ten trials, however many questions.
    sure = share(np.ones(200), groups=groups)
    assert sure == Interval(1.0, pytest.approx(10 / (10 + Z2), abs=1e-6), 1.0)


def test_groups_are_flipped_together() -> None:
    # Six questions won: of six signs 2 of 64 are as far, of the two groups' 2 of 4.
    assert paired_test([1] * 6, [0] * 6) == 2 / 64
    assert paired_test([1] * 6, [0] * 6, groups=np.asarray([0, 0, 0, 1, 1, 1])) == 2 / 4


def test_the_calibration_error_by_chance() -> None:
    # One question of confidence .3 is right in 3 of 10 cases, .7 off, and else .3 off.
    found = calibration_error_by_chance([0.3])
    assert found is not None
    assert found.value == pytest.approx(0.3 * 0.7 + 0.7 * 0.3, abs=0.02)
    assert (found.low, found.high) == (close(0.3), close(0.7))
    few, many = (calibration_error_by_chance(np.linspace(0, 1, n)) for n in (50, 800))
    assert few is not None
    assert many is not None
    assert few.value == pytest.approx(4 * many.value, rel=0.15)  # as the root of their number
    assert calibration_error_by_chance([]) is None

"""Keyword search: folding, stems, compounds, translated words, and BM25 against its formula."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from index.keywords import K1, B, KeywordIndex, Postings
from index.lexical import (
    Compounds,
    fold,
    question_words,
    stem,
    stop_words,
    terms,
    words,
)


def test_fold_makes_spellings_equal() -> None:
    assert fold("Straße Größe ÉTÉ") == "strasse grosse ete"


def test_fold_keeps_the_marks_that_spell() -> None:
    assert fold("Μέγα Ёлка") == "μεγα елка"
    assert fold("दिल्ली") == "दिल्ली"
    assert fold("か\u3099") == "が"
    assert fold("مُحَمَّد") == "محمد"
    assert fold("ශ්\u200dරී") == "ශ්රී"  # a joiner changes the looks only


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("北京大学成立于1898年", "北京 京大 大学 学成 成立 立于 1898 年"),
        ("iPhone手机,1.5万", "iphone 手机 1.5 万"),
        ("東京タワー・ガ", "東京 京タ タワ ワー ガ"),
        ("เมืองไทย ๑๒", "เมื มือ อง งไ ไท ทย ๑๒"),
        ("ພາສາ", "ພາ າສ ສາ"),
        ("ភ្នំពេញ", "ភ្នំ នំពេ ពេញ"),
        ("မြန်မာ၁၂", "မြန် န်မာ ၁၂"),
        ("दिल्ली में १२ लोग।", "दिल्ली में १२ लोग"),
    ],
)
def test_words_of_scripts_without_spaces_or_with_vowel_signs(text: str, found: str) -> None:
    assert words(text) == [fold(word) for word in found.split()]


QUESTIONS = {
    "zh": (
        "北京大学是哪一年成立的？",
        "北京大学成立于1898年。",
        "上海大学位于宝山区。",
        "北京的冬天又冷又干燥。",
    ),
    "ja": (
        "東京タワーの高さは何メートルですか。",
        "東京タワーの高さは333メートルである。",
        "大阪城は豊臣秀吉が建てた。",
        "東京の夏は暑い。",
    ),
    "th": (
        "เมืองหลวงของประเทศไทยคืออะไร",
        "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
        "เชียงใหม่อยู่ทางภาคเหนือ",
        "แม่น้ำโขงไหลผ่านหลายประเทศ",
    ),
    "hi": (
        "माला कौन बेचता है?",
        "गाँव में राम माला बेचता है।",
        "मेला हर साल बाज़ार के बीच लगता है।",
        "मिली कल बच्चों से मिलने आई।",
    ),
}


@pytest.mark.parametrize("language", QUESTIONS)
def test_a_question_finds_its_sentence(language: str) -> None:
    question, *sentences = QUESTIONS[language]
    index = KeywordIndex([Postings.of((language, words(sentence)) for sentence in sentences)])
    scores = index.scores([{term: 1.0} for term in terms(question, language)])
    assert scores.argmax() == 0
    assert scores[0] > 2 * scores[1:].max()


def test_terms_are_stemmed_in_their_own_language() -> None:
    assert terms("Die Truppen wurden abgezogen", "de") == ["trupp", "abgezog"]
    assert terms("The troops were withdrawn", "en") == ["troop", "withdrawn"]


def test_numbers_stay_whole() -> None:
    assert "1.550" in terms("höchstens 1.550 Sprengköpfe", "de")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("truppenaufmarsch", ("truppen", "aufmarsch")),
        ("sicherheitsfrage", ("sicherheit", "frage")),  # a linking s
        ("truppenaufmarschfrage", ("truppen", "aufmarsch", "frage")),
        ("haustur", ()),  # "tur" is too short
        ("aufmarsch", ()),
    ],
)
def test_compounds_split_at_known_words(word: str, parts: tuple[str, ...]) -> None:
    known = {"truppen", "aufmarsch", "sicherheit", "frage", "haus", "tur"}
    assert Compounds(known).parts(word) == parts


def test_a_compound_is_found_by_its_part() -> None:
    compounds = Compounds({"truppen", "aufmarsch"})
    assert stem("truppen", "de") in terms("der Truppenaufmarsch", "de", compounds)


@pytest.mark.parametrize(
    ("word", "language", "other", "translation"),
    [("ambassador", "en", "de", "Botschafter"), ("Erdbeben", "de", "en", "earthquake")],
)
def test_question_words_reach_over_the_language_gap(
    word: str, language: str, other: str, translation: str
) -> None:
    (choices,) = question_words(word, language, (other,))
    assert choices[stem(fold(word), language)] == 1.0
    assert 0.4 < choices[stem(fold(translation), other)] < 1.0


def test_a_compound_is_translated_by_its_parts() -> None:
    compounds = Compounds({"truppen", "aufmarsch"})
    (choices,) = question_words("Truppenaufmarsch", "de", ("en",), compounds)
    assert 0.3 < choices[stem("troops", "en")] < 0.9


def test_no_translations_within_one_language_or_into_an_unknown_one() -> None:
    for other in ("en", "fr"):
        (choices,) = question_words("ambassador", "en", (other,))
        assert set(choices) == {stem("ambassador", code) for code in ("en", other)}


def bm25(corpus: Sequence[Sequence[str]], term: str) -> list[float]:
    """Lucene's BM25 of one term, by hand."""
    n = sum(term in row for row in corpus)
    idf = math.log(1 + (len(corpus) - n + 0.5) / (n + 0.5))
    mean = sum(map(len, corpus)) / len(corpus)
    return [
        idf * row.count(term) / (row.count(term) + K1 * (1 - B + B * len(row) / mean))
        for row in corpus
    ]


def keywords(corpus: Sequence[Sequence[str]], language: str = "") -> KeywordIndex:
    """An index of words that are their own stems."""
    return KeywordIndex([Postings.of((language, row) for row in corpus)])


def test_scores_equal_bm25_by_hand() -> None:
    corpus = [["a", "b", "b"], ["b", "c"], ["a", "c", "c", "d"], ["e"]]
    index = keywords(corpus)
    mass = index.idf("b") + index.idf("c")
    wanted = (np.asarray(bm25(corpus, "b")) + np.asarray(bm25(corpus, "c"))) / mass
    np.testing.assert_allclose(index.scores([{"b": 1.0}, {"c": 1.0}]), wanted, rtol=1e-5)


def test_a_word_counts_once_by_its_best_term() -> None:
    corpus = [["a", "b"], ["a"], ["c"]]
    index = keywords(corpus)
    best = np.maximum(bm25(corpus, "a"), 0.5 * np.asarray(bm25(corpus, "b")))
    wanted = best / max(index.idf("a"), index.idf("b"))
    np.testing.assert_allclose(index.scores([{"a": 1.0, "b": 0.5}]), wanted, rtol=1e-5)
    assert index.coverage([{"a"}, {"b"}, set()], [{"a": 1.0, "b": 0.5}]).tolist() == [1, 0.5, 0]


VOCABULARY = "truppen aufmarsch truppenaufmarsch ostseeaufmarsch ostsee ambassador apfel".split()


@pytest.mark.parametrize("seed", range(8))
def test_a_keyword_index_in_parts_scores_as_one_that_was_made_at_once(seed: int) -> None:
    chance = random.Random(seed)
    rows = [
        (chance.choice(["de", "en"]), chance.choices(VOCABULARY, k=chance.randrange(6)))
        for _ in range(20)
    ]
    # What a compound splits into depends on the words that are there: all of them stay.
    rows += [("de", VOCABULARY)]
    keep = np.asarray([chance.random() < 0.7 for _ in rows])
    keep[-1] = True
    left = [row for row, kept in zip(rows, keep, strict=True) if kept]
    question = [{stem(w, "de"): 1.0, stem(w, "en"): 0.5} for w in chance.sample(VOCABULARY, 3)]
    wanted = KeywordIndex([Postings.of(left)]).scores(question)

    bounds = pairwise([0, *sorted(chance.sample(range(1, 20), 2)), len(rows)])
    pairs = [(Postings.of(rows[a:b]), keep[a:b]) for a, b in bounds]
    scores = KeywordIndex([p for p, _ in pairs], [mask for _, mask in pairs]).scores(question)
    np.testing.assert_allclose(scores[keep], wanted, rtol=1e-5)
    assert not scores[~keep].any()
    merged = Postings.merge([p for p, _ in pairs], [mask for _, mask in pairs])
    np.testing.assert_allclose(KeywordIndex([merged]).scores(question), wanted, rtol=1e-5)


def test_new_words_split_the_compounds_that_were_there_before() -> None:
    old = Postings.of([("de", ["truppenaufmarsch"])])
    before = KeywordIndex([old])
    question = [{stem("aufmarsch", "de"): 1.0}]
    assert not before.scores(question).any()
    new = Postings.of([("de", ["truppen", "aufmarsch"])])
    after = KeywordIndex([old, new], earlier=before)
    assert (after.scores(question) > 0).tolist() == [True, True]


def test_an_empty_corpus_or_question_scores_nothing() -> None:
    assert KeywordIndex([]).scores([{"a": 1.0}]).shape == (0,)
    assert keywords([[]]).scores([{"a": 1.0}]).tolist() == [0.0]
    assert keywords([["a"]]).scores([]).tolist() == [0.0]


def test_stop_words_of_languages_that_the_encoder_does_not_know() -> None:
    question = "Où le pont a-t-il été ouvert, et pourquoi ?"
    assert [word for word in words(question) if word not in stop_words("fr")] == ["pont", "ouvert"]
    assert terms("Le pont est ouvert.", "fr") == [stem("pont", "fr"), stem("ouvert", "fr")]
    for language in ("da", "es", "it", "nl", "no", "pt", "ru", "sv", "tr"):
        assert len(stop_words(language)) > 100
    assert stop_words("de") != stop_words("en")
    assert stop_words("xx") == frozenset()

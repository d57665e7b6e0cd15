"""Keyword search: BM25 over the terms of passages, in runs that are added and merged.

A run holds words as they are spelt; which terms they stand for (see index.lexical) depends
on the other words of the index, and is found out when runs are put together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.lexical import Compounds, stop_words, word_terms

K1, B = 1.2, 0.75
"""BM25's usual constants (Robertson & Zaragoza 2009)."""


@dataclass(frozen=True)
class Postings:
    """Which words stand in which rows of a run of passages, and how often; never changed."""

    size: int
    """How many rows there are."""
    words: tuple[tuple[str, str], ...]
    """(language, word); stop words are left out"""
    first: NDArray[np.int64]
    """Where the rows of each word begin; one more entry ends the last."""
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]

    @classmethod
    def of(cls, passages: Iterable[tuple[str, Sequence[str]]]) -> Self:
        """From the language and the words of each passage."""
        ids: dict[tuple[str, str], int] = {}
        found: list[NDArray[np.int32]] = []
        for language, spelt in passages:
            stop = stop_words(language)
            row = [ids.setdefault((language, w), len(ids)) for w in spelt if w not in stop]
            found.append(np.asarray(row, np.int32))
        word = np.concatenate([np.zeros(0, np.int32), *found])
        rows = np.repeat(np.arange(len(found), dtype=np.int32), [len(row) for row in found])
        return cls._sorted(len(found), tuple(ids), word, rows, np.ones(len(word), np.int32))

    @classmethod
    def _sorted(
        cls,
        size: int,
        words: tuple[tuple[str, str], ...],
        word: NDArray[np.int32],
        rows: NDArray[np.int32],
        counts: NDArray[np.int32],
    ) -> Self:
        """From (word, row, count) in any order; the counts of equal pairs are added."""
        width = max(size, 1)
        pairs, where = np.unique(word.astype(np.int64) * width + rows, return_inverse=True)
        first = np.searchsorted(pairs, np.arange(len(words) + 1, dtype=np.int64) * width)
        added = np.bincount(where, weights=counts, minlength=len(pairs))
        rows = (pairs % width).astype(np.int32)
        return cls(size, words, first.astype(np.int64), rows, added.astype(np.int32))

    @classmethod
    def merge(cls, parts: Sequence[Self], kept: Sequence[NDArray[np.bool_]]) -> Self:
        """One run from several, in order, of the rows that are ``kept`` in each."""
        ids: dict[tuple[str, str], int] = {}
        word, rows, counts, size = [], [], [], 0
        for part, keep in zip(parts, kept, strict=True):
            new_row = np.cumsum(keep) - 1 + size
            here = keep[part.rows]
            used, inverse = np.unique(part.word_of_each[here], return_inverse=True)
            new = [ids.setdefault(part.words[i], len(ids)) for i in used]
            word.append(np.asarray(new, np.int32)[inverse])
            rows.append(new_row[part.rows[here]].astype(np.int32))
            counts.append(part.counts[here])
            size += int(keep.sum())
        return cls._sorted(size, tuple(ids), *map(np.concatenate, (word, rows, counts)))

    @property
    def word_of_each(self) -> NDArray[np.int64]:
        """The word that each of the ``rows`` is listed for."""
        return np.repeat(np.arange(len(self.words)), np.diff(self.first))

    @cached_property
    def known(self) -> frozenset[str]:
        """What a compound may be split into."""
        return frozenset(word for _, word in self.words if len(word) >= Compounds.SHORTEST)

    def of_word(self, word: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The rows that hold a word, and how often."""
        span = slice(self.first[word], self.first[word + 1])
        return self.rows[span], self.counts[span]


class _Union:
    """The words of several sets, without a copy of them, and the stop words of German."""

    def __init__(self, sets: Sequence[frozenset[str]]) -> None:
        self._sets = [stop_words("de"), *sets]

    def __contains__(self, word: object) -> bool:
        return any(word in words for words in self._sets)


class _Terms:
    """Which words of a run of passages stand for which term."""

    def __init__(self, postings: Postings, compounds: Compounds) -> None:
        self.postings = postings
        self._words: dict[str, list[int]] = {}
        many = np.zeros(len(postings.words))
        for i, (language, word) in enumerate(postings.words):
            for term in word_terms(word, language, compounds):
                self._words.setdefault(term, []).append(i)
                many[i] += 1
        self.lengths = np.bincount(
            postings.rows, postings.counts * many[postings.word_of_each], postings.size
        )
        """The terms of each row."""

    def find(self, term: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that hold a term, in order, and how often."""
        found = [self.postings.of_word(word) for word in self._words.get(term, ())]
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        rows = np.concatenate([rows for rows, _ in found]).astype(np.int64)
        counts = np.concatenate([counts for _, counts in found])
        unique, where = np.unique(rows, return_inverse=True)
        return unique, np.asarray(np.bincount(where, weights=counts), np.float64)


class KeywordIndex:
    """BM25 (Lucene's variant) over runs of passages, of which some rows may be gone.

    What a compound splits into depends on all the words there are. With new words, the
    terms are found anew; in a large index only when the words have become a good many more
    (``GROWTH``), so that adding a document costs what the document does.
    """

    SMALL, GROWTH = 20_000, 1.05

    def __init__(
        self,
        parts: Sequence[Postings],
        alive: Sequence[NDArray[np.bool_]] | None = None,
        earlier: KeywordIndex | None = None,
    ) -> None:
        self._start = np.cumsum([0, *(part.size for part in parts)])
        self._size = int(self._start[-1])
        alive = alive or [np.ones(part.size, np.bool_) for part in parts]
        self._alive = np.concatenate([np.zeros(0, np.bool_), *alive])
        self._count = int(self._alive.sum())
        self.compounds = Compounds(_Union([part.known for part in parts]))
        vocabulary = self._terms_of = sum(len(part.words) for part in parts)
        ready: dict[int, _Terms] = {}
        if earlier is not None:
            same = [id(part) for part in parts] == [id(terms.postings) for terms in earlier._terms]
            few = self.SMALL < vocabulary <= self.GROWTH * earlier._terms_of
            if same or few:
                ready = {id(terms.postings): terms for terms in earlier._terms}
                self._terms_of = earlier._terms_of
        self._terms: list[_Terms] = [
            ready.get(id(part)) or _Terms(part, self.compounds) for part in parts
        ]
        lengths = np.concatenate([np.zeros(0), *(terms.lengths for terms in self._terms)])
        mean = float(lengths[self._alive].mean()) if self._count else 0.0
        self._norm = K1 * (1 - B + B * lengths / (mean or 1.0))
        self._find = lru_cache(maxsize=4096)(self._rows_of)

    def _rows_of(self, term: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that hold a term, and its part of their BM25 without the idf."""
        found = [terms.find(term) for terms in self._terms]
        rows = [rows + start for (rows, _), start in zip(found, self._start, strict=False)]
        held = np.concatenate([np.empty(0, np.int64), *rows])
        count = np.concatenate([np.empty(0, np.float64), *(counts for _, counts in found)])
        held, count = held[self._alive[held]], count[self._alive[held]]
        return held, count / (count + self._norm[held])

    def idf(self, term: str) -> float:
        """Inverse document frequency as in Lucene; of an unseen term, the highest."""
        return self._idf(len(self._find(term)[0]))

    def _idf(self, n: int) -> float:
        return idf(n, self._count)

    def word_idf(self, choices: Mapping[str, float]) -> float:
        """The weight of a question's word: of its rarest term that the index has."""
        counts = [len(self._find(term)[0]) for term in choices]
        return self._idf(min((n for n in counts if n), default=0))

    def scores(self, question: Sequence[Mapping[str, float]]) -> NDArray[np.float32]:
        """BM25 of a question's words, each by its best term, over the sum of their idf.

        So 1 means that a text holds every word of the question, in an index of any
        size. Shape (rows,); 0 for a row that is gone.
        """
        total = np.zeros(self._size, np.float32)
        mass = sum(self.word_idf(choices) for choices in question)
        if not mass:
            return total
        for choices in question:
            best = np.zeros(self._size, np.float32)
            for term, weight in choices.items():
                rows, share = self._find(term)
                best[rows] = np.maximum(best[rows], weight * self.idf(term) * share)
            total += best
        return total / np.float32(mass)

    def coverage(
        self, texts: Sequence[Collection[str]], question: Sequence[Mapping[str, float]]
    ) -> NDArray[np.float32]:
        """The share of the question's idf that the terms of each text hold, (texts,)."""
        return coverage(texts, question, [self.word_idf(choices) for choices in question])


def idf(holding: int, of: int) -> float:
    """Inverse document frequency as in Lucene, of what so many texts hold."""
    return math.log(1 + (of - holding + 0.5) / (holding + 0.5))


def coverage(
    texts: Sequence[Collection[str]],
    question: Sequence[Mapping[str, float]],
    idfs: Sequence[float],
) -> NDArray[np.float32]:
    """The share of the idf of a question's words that the terms of each text hold, (texts,)."""
    mass = sum(idfs) or 1.0
    rows = []
    for terms_ in texts:
        held = 0.0
        for choices, worth in zip(question, idfs, strict=True):
            best = max((w for t, w in choices.items() if t in terms_), default=0.0)
            held += best * worth
        rows.append(held / mass)
    return np.asarray(rows, np.float32)

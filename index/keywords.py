"""Keyword search: BM25 over the terms of passages, in runs that are added and merged.

A run holds words as they are spelt; which terms they stand for (see index.lexical) depends
on the other words of the index, and is found out when runs are put together. In the long run
of a large index this was done when its parts were written.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, overload

import numpy as np
from cachetools import LRUCache, cached
from numpy.typing import NDArray

from index.lexical import Compounds, stop_words, word_terms

K1, B = 1.2, 0.75
"""BM25's usual constants (Robertson & Zaragoza 2009)."""
BLOCK = 4_000_000
"""So many postings are moved at a time."""
RECENT = 4_000_000
"""So many postings of terms asked for lately are kept, with their part of BM25."""


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


class WordList(Sequence[str]):
    """Sorted words in two arrays, so that a million of them are no million objects."""

    def __init__(self, letters: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.letters, self.ends = letters, ends

    @classmethod
    def of(cls, ordered: Sequence[str]) -> Self:
        coded = [word.encode("utf-8") for word in ordered]
        ends = np.cumsum(np.asarray([len(word) for word in coded], np.int64), dtype=np.int64)
        return cls(np.frombuffer(b"".join(coded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[at] for at in range(*i.indices(len(self)))]
        begin = self.ends[i - 1] if i else 0
        return self.letters[begin : self.ends[i]].tobytes().decode("utf-8")

    def find(self, word: str) -> int:
        """Where a word stands, or -1."""
        at = bisect_left(self, word)
        return at if at < len(self) and self[at] == word else -1

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self.find(word) >= 0

    def listed(self) -> list[str]:
        data, begins = self.letters.tobytes(), [0, *self.ends[:-1].tolist()]
        spans = zip(begins, self.ends.tolist(), strict=False)
        return [data[begin:end].decode("utf-8") for begin, end in spans]


@dataclass(frozen=True, eq=False)
class TermPostings:
    """Which terms stand in which rows of a long run of passages, and how often; never changed.

    Arrays only: they are read from a file as they are.
    """

    size: int
    terms: WordList
    first: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.uint8]
    """255 is that or more: to BM25 it is all the same."""
    lengths: NDArray[np.int32]
    """The terms of each row."""
    known: WordList

    @classmethod
    def none(cls) -> Self:
        words = WordList.of([])
        rows = np.zeros(0, np.int32)
        return cls(0, words, np.zeros(1, np.int64), rows, rows.astype(np.uint8), rows, words)

    def find(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """The rows that hold a term, in order, and how often."""
        at = self.terms.find(term)
        span = slice(self.first[at], self.first[at + 1]) if at >= 0 else slice(0)
        return self.rows[span], self.counts[span]

    def extended(
        self, kept: NDArray[np.bool_], more: Sequence[Postings], under: Container[str] = ()
    ) -> Self:
        """This run's rows that are ``kept``, and then those of others.

        What a compound among the new words splits into depends on all the words up to there,
        and on those ``under`` this run.
        """
        spelt = {*self.known.listed(), *(word for part in more for word in part.known)}
        compounds = Compounds(_Union([spelt, under]))
        found = self if kept.all() else self._only(kept)
        for part in more:
            found = found._joined(_Terms(part, compounds), part.size)
        return type(self)(
            *(found.size, found.terms, found.first, found.rows, found.counts, found.lengths),
            WordList.of(sorted(spelt)),
        )

    def _only(self, kept: NDArray[np.bool_]) -> Self:
        here = kept[self.rows]
        left = np.concatenate([[0], np.cumsum(here, dtype=np.int64)])[self.first]
        rows = (np.cumsum(kept, dtype=np.int32) - 1)[self.rows[here]].astype(np.int32)
        size, counts = int(kept.sum()), self.counts[here]
        return type(self)(size, self.terms, left, rows, counts, self.lengths[kept], self.known)

    def _joined(self, other: _Terms, size: int) -> Self:
        mine, found = self.terms.listed(), other.by_term()
        theirs = [term for term, _, _ in found]
        merged = sorted({*mine, *theirs})
        at = {term: i for i, term in enumerate(merged)}
        my_place = np.asarray([at[term] for term in mine], np.int64)
        place = np.asarray([at[term] for term in theirs], np.int64)
        counts = np.zeros(len(merged), np.int64)
        before = counts.copy()
        before[my_place] = np.diff(self.first)
        counts[place] = [len(rows) for _, rows, _ in found]
        first = np.concatenate([[0], np.cumsum(before + counts)])
        rows, often = np.empty(first[-1], np.int32), np.empty(first[-1], np.uint8)
        _move(self.rows, rows, self.first, first[my_place])
        _move(self.counts, often, self.first, first[my_place])
        begin = np.concatenate([[0], np.cumsum(counts[place])])
        none = [np.zeros(0, np.int64)]
        new_rows = np.concatenate([*none, *(rows_ for _, rows_, _ in found)]) + self.size
        new_often = np.minimum(np.concatenate([*none, *(often_ for _, _, often_ in found)]), 255)
        target = first[place] + before[place]
        _move(new_rows.astype(np.int32), rows, begin, target)
        _move(new_often.astype(np.uint8), often, begin, target)
        lengths = np.concatenate([self.lengths, other.lengths.astype(np.int32)])
        words = WordList.of(merged)
        return type(self)(self.size + size, words, first, rows, often, lengths, self.known)


def _move(
    source: NDArray[np.generic],
    target: NDArray[np.generic],
    first: NDArray[np.int64],
    to: NDArray[np.int64],
) -> None:
    """Copy the spans that ``first`` parts ``source`` into so that each begins where ``to`` says."""
    begin = 0
    while begin < len(to):
        end = max(begin + 1, int(np.searchsorted(first, first[begin] + BLOCK)))
        end = min(end, len(to))
        span = slice(first[begin], first[end])
        shift = np.repeat(to[begin:end] - first[begin:end], np.diff(first[begin : end + 1]))
        target[np.arange(span.start, span.stop) + shift] = source[span]
        begin = end


class _Union:
    """The words of several sets, without a copy of them, and the stop words of German."""

    def __init__(self, sets: Sequence[Container[str]]) -> None:
        self._sets: list[Container[str]] = [stop_words("de"), *sets]

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

    def find(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The rows that hold a term, in order, and how often."""
        return self._rows_of(self._words.get(term, ()))

    def by_term(self) -> list[tuple[str, NDArray[np.int32], NDArray[np.int32]]]:
        """Every term, in order, with its rows and counts."""
        return [(term, *self._rows_of(self._words[term])) for term in sorted(self._words)]

    def _rows_of(self, words: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        found = [self.postings.of_word(word) for word in words]
        if not found:
            return np.empty(0, np.int32), np.empty(0, np.int32)
        if len(found) == 1:
            return found[0]
        rows = np.concatenate([rows for rows, _ in found])
        counts = np.concatenate([counts for _, counts in found])
        unique, where = np.unique(rows, return_inverse=True)
        return unique, np.bincount(where, weights=counts).astype(np.int32)


Rows = tuple[NDArray[np.int32], NDArray[np.float32]]


class KeywordIndex:
    """BM25 (Lucene's variant) over runs of passages, of which some rows may be gone.

    What a compound splits into depends on all the words there are. With new words, the
    terms are found anew; in a large index only when the words have become a good many more
    (``GROWTH``), so that adding a document costs what the document does.
    """

    SMALL, GROWTH = 20_000, 1.05

    def __init__(
        self,
        parts: Sequence[Postings | TermPostings],
        alive: Sequence[NDArray[np.bool_]] | None = None,
        earlier: KeywordIndex | None = None,
    ) -> None:
        self._parts = parts
        self._start = np.cumsum([0, *(part.size for part in parts)])
        self._size = int(self._start[-1])
        alive = alive or [np.ones(part.size, np.bool_) for part in parts]
        self._alive = np.concatenate([np.zeros(0, np.bool_), *alive])
        self._count = int(self._alive.sum())
        self.compounds = Compounds(_Union([part.known for part in parts]))
        vocabulary = self._terms_of = sum(
            len(part.terms if isinstance(part, TermPostings) else part.words) for part in parts
        )
        ready: dict[int, _Terms] = {}
        if earlier is not None:
            same = [id(part) for part in parts] == [id(part) for part in earlier._parts]
            few = self.SMALL < vocabulary <= self.GROWTH * earlier._terms_of
            if same or few:
                held = (terms for terms in earlier._terms if isinstance(terms, _Terms))
                ready = {id(terms.postings): terms for terms in held}
                self._terms_of = earlier._terms_of
        self._terms: list[_Terms | TermPostings] = [
            part
            if isinstance(part, TermPostings)
            else ready.get(id(part)) or _Terms(part, self.compounds)
            for part in parts
        ]
        nothing = np.zeros(0, np.float32)
        lengths = np.concatenate(
            [nothing, *(terms.lengths for terms in self._terms)], dtype=np.float32
        )
        mean = float(lengths[self._alive].mean(dtype=np.float64)) if self._count else 0.0
        self._norm = np.float32(K1) * (np.float32(1 - B) + np.float32(B / (mean or 1.0)) * lengths)
        recent: LRUCache[str, Rows] = LRUCache(RECENT, getsizeof=lambda rows: 1 + len(rows[0]))
        by_term = cached(recent, key=lambda term: term, lock=threading.Lock())
        self._find = by_term(self._rows_of)

    def _rows_of(self, term: str) -> Rows:
        """The rows that hold a term, and its part of their BM25 without the idf."""
        found = [terms.find(term) for terms in self._terms]
        rows = [rows + start for (rows, _), start in zip(found, self._start, strict=False)]
        held = np.concatenate([np.empty(0, np.int32), *rows], dtype=np.int32)
        counts = [counts for _, counts in found]
        count = np.concatenate([np.empty(0, np.float32), *counts], dtype=np.float32)
        if self._count < self._size:
            here = self._alive[held]
            held, count = held[here], count[here]
        return held, np.asarray(count / (count + self._norm[held]), np.float32)

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
        scratch = total.copy()
        for choices in question:
            held = []
            for term, weight in choices.items():
                rows, share = self._find(term)
                held.append((rows, share * np.float32(weight * self._idf(len(rows)))))
            held = [(rows, share) for rows, share in held if len(rows)]
            if len(held) == 1:
                rows, share = held[0]
                total[rows] += share
                continue
            for rows, share in held:
                scratch[rows] = np.maximum(scratch[rows], share)
            if held:
                rows = np.concatenate([rows for rows, _ in held])
                total[rows] += scratch[rows]  # once for a row that comes twice
                scratch[rows] = 0
        total /= np.float32(mass)
        return total

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

"""What a question is asked of: one state of the index, made searchable, never changed.

Passages are held in segments, each with its vectors and its words. A change adds a small
segment, or marks rows of others as gone; small ones are merged as they come to be many. So
bringing this up to date costs what the change does. Texts stay in the file, and are read
from the same state of it, and checked, when a passage is found. Where there are very many,
most of them are in one large segment (index.large), whose vectors stay in the file too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from index.dense import DenseIndex
from index.errors import Words
from index.filters import Among, Labels, among
from index.fuse import top
from index.keywords import KeywordIndex, Postings
from index.large import GROWN, Large
from index.lexical import Compounds, question_words, terms, words
from index.place import Candidates
from index.place import Snapshot as AnySnapshot
from index.records import Part, Snapshot, State, total
from index.types import Document, Passage, Span
from index.vectors import FloatMatrix

SMALL = 2_000
"""A segment of so few passages is made anew when one of them goes."""
LARGE = 20_000
"""From so many passages on there is a large segment: exact search is no more quick."""
REST = 1_000
"""So many passages may stay out of the large segments, and are read when an index is opened."""
SHARE = 16
"""Of so many passages of the large segment one may be in the one that goes on from it, before
both are made one: which takes time in proportion to the index, and memory too."""
FILTERS = 8
"""Of a state, what so many filters let through is kept."""
RECENT = 50_000_000
"""So many characters of documents stay in memory once they were read."""

Mask = NDArray[np.bool_]
T = TypeVar("T")


class Library:
    """What was read lately, or is in use: documents and labels; the same for all who ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: WeakValueDictionary[tuple[str, int], Document] = WeakValueDictionary()
        self._recent: LRUCache[tuple[str, int], Document] = LRUCache(
            RECENT, getsizeof=lambda document: len(document.text)
        )
        self._labels: Labels | None = None

    def get(self, snapshot: AnySnapshot, incarnation: str, number: int) -> Document:
        key = (incarnation, number)
        with self._lock:
            held = self._in_use.get(key)
        if held is None:
            read = snapshot.document(snapshot.record(number))
            with self._lock:
                held = self._in_use.setdefault(key, read)
        with self._lock:
            if len(held.text) < RECENT:
                self._recent[key] = held
        return held

    def labels(self, snapshot: Snapshot) -> Labels:
        """The labels of a state's documents."""
        with self._lock:
            earlier = self._labels
        found = Labels.of(snapshot, earlier)
        with self._lock:
            self._labels = found
        return found

    def missing(self, incarnation: str, numbers: Collection[int]) -> list[int]:
        with self._lock:
            return [number for number in numbers if (incarnation, number) not in self._in_use]


@dataclass(frozen=True, eq=False)
class Segment:
    """Some passages in the order of their ids, with what is searched of them."""

    ids: NDArray[np.int64]
    documents: NDArray[np.int64]
    """The number of each passage's document."""
    languages: NDArray[np.str_]
    dense: DenseIndex
    sentences: DenseIndex
    first_sentence: NDArray[np.int64]
    """Row of each passage's first sentence vector; one more entry ends the last."""
    postings: Postings

    def __len__(self) -> int:
        return len(self.ids)

    def languages_of(self, rows: NDArray[np.int64]) -> NDArray[np.str_]:
        return self.languages[rows]

    def spoken(self, mask: Mask) -> set[str]:
        """The languages of the passages that a mask chooses."""
        return {str(language) for language in np.unique(self.languages[mask])}

    def cosines(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32], snapshot: Snapshot
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of each passage, and of its best sentence, with a vector."""
        own = self.dense.at(rows) @ vector
        first, last = self.first_sentence[rows], self.first_sentence[rows + 1]
        counts = last - first
        begins = np.cumsum(counts) - counts
        every = np.arange(counts.sum()) + np.repeat(first - begins, counts)
        return own, np.maximum.reduceat(self.sentences.at(every) @ vector, begins)

    def vector(self, row: int, snapshot: Snapshot) -> NDArray[np.float32]:
        return self.dense.at(np.asarray([row])).reshape(-1)

    def sentence_vectors(self, row: int, snapshot: Snapshot) -> FloatMatrix:
        return self.sentences.at(slice(self.first_sentence[row], self.first_sentence[row + 1]))

    def sentences_of(self, mask: Mask) -> Mask:
        """Which sentences are of the passages that a mask chooses."""
        return np.repeat(mask, np.diff(self.first_sentence))


def read(snapshot: Snapshot, after: State | None, dimension: int) -> tuple[Segment, list[bytes]]:
    """The passages that the file has and ``after`` had not, and the seals of their documents.

    All that is read is checked.
    """
    seals: list[bytes] = []
    found: list[Part] = []
    languages: list[str] = []
    spelt: list[tuple[str, list[str]]] = []
    for record, document, parts in snapshot.contents(after):
        seals.append(record.seal)
        found += parts
        languages += [record.language] * len(parts)
        spelt += [(record.language, words(document.text[p.start : p.end])) for p in parts]
    segment = Segment(
        ids=np.asarray([part.id for part in found], np.int64),
        documents=np.asarray([part.document for part in found], np.int64),
        languages=np.asarray(languages, np.str_),
        dense=_matrix([part.vector.reshape(1, -1) for part in found], dimension),
        sentences=_matrix([part.sentences for part in found], dimension),
        first_sentence=np.cumsum([0, *(len(part.spans) for part in found)], dtype=np.int64),
        postings=Postings.of(spelt),
    )
    return segment, seals


def _matrix(parts: Sequence[NDArray[np.float16]], dimension: int) -> DenseIndex:
    empty = np.zeros((0, dimension), np.float16)
    return DenseIndex(np.concatenate([empty, *parts]).astype(np.float32))


def merge(segments: Sequence[Segment], kept: Sequence[Mask]) -> Segment:
    """One segment of the rows that are ``kept`` in each."""
    pairs = list(zip(segments, kept, strict=True))
    inner = [segment.sentences_of(keep) for segment, keep in pairs]
    counts = [np.diff(segment.first_sentence)[keep] for segment, keep in pairs]
    return Segment(
        ids=np.concatenate([segment.ids[keep] for segment, keep in pairs]),
        documents=np.concatenate([segment.documents[keep] for segment, keep in pairs]),
        languages=np.concatenate([segment.languages[keep] for segment, keep in pairs]),
        dense=DenseIndex(np.concatenate([segment.dense.at(keep) for segment, keep in pairs])),
        sentences=DenseIndex(
            np.concatenate(
                [segment.sentences.at(keep) for segment, keep in zip(segments, inner, strict=True)]
            )
        ),
        first_sentence=np.cumsum([0, *np.concatenate(counts)], dtype=np.int64),
        postings=Postings.merge([segment.postings for segment in segments], kept),
    )


@dataclass(frozen=True, eq=False)
class Searchable:
    """The passages of one state of the file; rows count through all segments."""

    state: State
    segments: tuple[Segment | Large, ...] = ()
    """The first may be a large one, and so may the next, which then goes on from it."""
    alive: tuple[Mask, ...] = ()
    """Which rows of each segment are there still."""
    keywords: KeywordIndex = field(default_factory=lambda: KeywordIndex([]))
    _filtered: LRUCache[Among, tuple[NDArray[np.int64], Searchable]] = field(
        default_factory=lambda: LRUCache(FILTERS), init=False, repr=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @classmethod
    def of_large(
        cls, large: Large, more: Large | None = None, gone: Sequence[tuple[int, ...]] = ()
    ) -> Searchable:
        """What is in a large segment, and in one that goes on from it, without what is gone."""
        segments = (large,) if more is None else (large, more)
        alive = [np.ones(len(segment), np.bool_) for segment in segments]
        for _, number, first, passages, _ in gone:
            _mark(segments, alive, number, first, passages)
        postings = [segment.postings for segment in segments]
        return cls(segments[-1].state, segments, tuple(alive), KeywordIndex(postings, alive))

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        dimension: int,
        earlier: Searchable | None = None,
        rest: int = REST,
    ) -> Searchable:
        """The state of a snapshot, from an earlier one where that helps.

        ``rest`` is the most passages beside large segments.

        Raises:
            DamageError: the file does not hold what was written.
        """
        state = snapshot.state()
        if earlier is not None and (
            earlier.state.incarnation != state.incarnation
            or earlier.state.generation >= state.generation
        ):
            if earlier.state == state:
                return earlier
            earlier = None
        before = earlier.state if earlier else None
        segments = list(earlier.segments) if earlier else []
        alive = list(earlier.alive) if earlier else []
        documents, digest = (before.documents, before.digest) if before else (0, 0)
        for _, number, first, passages, sealed in snapshot.removed(before):
            documents, digest = documents - 1, digest - sealed
            _mark(segments, alive, number, first, passages)
        large = earlier.large if earlier else None
        pairs = zip(segments, alive, strict=True)
        many = state.passages - sum(
            int(mask.sum()) for segment, mask in pairs if large and isinstance(segment, Large)
        )
        if many > (rest if large else LARGE):
            if before is not None and large is not None and before != large.state:
                return cls.of(snapshot, dimension, cls.of_large(large), rest)
            if large is None or state.passages > GROWN * large.planned:
                large, segments, alive, documents, digest = None, [], [], 0, 0
            start = large or Large.none(snapshot, dimension)
            kept = alive[0] if alive else np.zeros(0, np.bool_)
            grown, seals = start.extended(kept, snapshot)
            segments, alive = [grown], [np.ones(len(grown), np.bool_)]
        else:
            new, seals = read(snapshot, before, dimension)
            segments.append(new)
            alive.append(np.ones(len(new), np.bool_))
        found = State(
            *(state.incarnation, state.generation, documents + len(seals)),
            *(sum(int(mask.sum()) for mask in alive), total(seals, digest), *state[5:]),
        )
        if found != state:
            if before is not None:  # perhaps only what it came from is wrong
                return cls.of(snapshot, dimension, rest=rest)
            raise snapshot.damaged(Words("it does not hold all that was written"))
        _tidy(segments, alive)
        postings = [segment.postings for segment in segments]
        keywords = KeywordIndex(postings, alive, earlier.keywords if earlier else None)
        return cls(state, tuple(segments), tuple(alive), keywords)

    @property
    def large(self) -> Large | None:
        first = self.segments[0] if self.segments else None
        return first if isinstance(first, Large) and first.base is None else None

    @property
    def more(self) -> Large | None:
        """The one that goes on from the large segment."""
        found = (s for s in self.segments[1:2] if isinstance(s, Large))
        return next(found, None)

    def filtered(
        self, among: Among, labels: Callable[[], Labels]
    ) -> tuple[NDArray[np.int64], Searchable]:
        """The numbers of the documents that have these labels, and what is searched of them."""
        with self._lock:
            found = self._filtered.get(among)
        if found is None:
            numbers = labels().find(among)
            found = numbers, self._only(numbers)
            with self._lock:
                self._filtered[among] = found
        return found

    def _only(self, documents: NDArray[np.int64]) -> Searchable:
        postings = [segment.postings for segment in self.segments]
        pairs = zip(self.segments, self.alive, strict=True)
        alive = [mask & np.isin(segment.documents, documents) for segment, mask in pairs]
        return replace(
            self, alive=tuple(alive), keywords=KeywordIndex(postings, alive, self.keywords)
        )

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """The row that each segment begins with; one more entry ends the last."""
        return np.cumsum([0, *map(len, self.segments)], dtype=np.int64)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The rows that are there."""
        return np.flatnonzero(np.concatenate([np.zeros(0, np.bool_), *self.alive]))

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Of the documents, in order."""
        pairs = zip(self.segments, self.alive, strict=True)
        return tuple(sorted(set[str]().union(*(s.spoken(mask) for s, mask in pairs))))

    def languages_of(self, rows: NDArray[np.int64]) -> NDArray[np.str_]:
        found = [segment.languages_of(at) for segment, at, _ in self._apart(rows)]
        return np.concatenate([np.zeros(0, np.str_), *found])

    def _apart(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[Segment | Large, NDArray[np.int64], slice]]:
        """Rows in order by their segments: their places there, and which of the rows they are."""
        edges = np.searchsorted(rows, self.start)
        for segment, start, begin, end in zip(
            self.segments, self.start, edges, edges[1:], strict=False
        ):
            if begin < end:
                yield segment, rows[begin:end] - start, slice(begin, end)

    def locate(self, row: int) -> tuple[Segment | Large, int]:
        """The segment of a row, and its place there."""
        i = int(np.searchsorted(self.start, row, side="right")) - 1
        return self.segments[i], row - int(self.start[i])

    def nearest(self, vector: NDArray[np.float32], k: int, snapshot: Snapshot) -> NDArray[np.int64]:
        """Rows whose passages, or whose sentences, are among the nearest to a vector.

        ``k`` by the passage's own vector, and those of the ``2 * k`` best sentences; of large
        segments about the ``2 * k`` nearest passages.
        """
        own: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        inner: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        far: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        for segment, mask, start in zip(self.segments, self.alive, self.start, strict=False):
            if isinstance(segment, Large):
                rows, scores = segment.nearest(vector, 2 * k, mask, snapshot)
                far.append((rows + start, scores))
                continue
            whole = bool(mask.all())
            rows, scores = segment.dense.search(vector, k, None if whole else mask)
            own.append((rows + start, scores))
            among = None if whole else segment.sentences_of(mask)
            rows, scores = segment.sentences.search(vector, 2 * k, among)
            rows = np.searchsorted(segment.first_sentence, rows, side="right") - 1
            inner.append((rows + start, scores))
        return np.unique(np.concatenate([_best(far, 2 * k), _best(own, k), _best(inner, 2 * k)]))

    def cosines(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32], snapshot: Snapshot
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of each row's passage, and of its best sentence, with a vector; rows are in order."""
        own, inner = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        for segment, at, here in self._apart(rows):
            own[here], inner[here] = segment.cosines(at, vector, snapshot)
        return own, inner


def _best(
    found: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], k: int
) -> NDArray[np.int64]:
    """The rows of the ``k`` highest scores of several searches."""
    rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in found)])
    scores = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in found)])
    return rows[np.argsort(-scores, kind="stable")[:k]]


def _mark(
    segments: Sequence[Segment | Large], alive: list[Mask], document: int, first: int, passages: int
) -> None:
    """Mark the passages of a document as gone."""
    for i, segment in enumerate(segments):
        begin, end = np.searchsorted(segment.ids, [first, first + passages])
        if begin < end and (segment.documents[begin:end] == document).all():
            alive[i] = alive[i].copy()
            alive[i][begin:end] = False


def caught_up(more: Large, snapshot: Snapshot) -> Large | None:
    """A segment that goes on from the large one, with all that was added and without what is
    gone; None where that does not add up."""
    state, before = snapshot.state(), more.state
    gone, alive = snapshot.removed(before), [np.ones(len(more), np.bool_)]
    for _, number, first, passages, _ in gone:
        _mark([more], alive, number, first, passages)
    grown, seals = more.extended(alive[0], snapshot)
    found = before._replace(
        generation=state.generation,
        documents=before.documents - len(gone) + len(seals),
        passages=before.passages - sum(n for *_, n, _ in gone) + len(grown) - int(alive[0].sum()),
        digest=total(seals, before.digest - sum(sealed for *_, sealed in gone)),
    )
    return grown if (*found[:5],) == state[:5] else None


def _tidy(segments: list[Segment | Large], alive: list[Mask]) -> None:
    """Keep segments few, and free of many rows that are gone."""
    for i, segment in reversed(list(enumerate(segments))):
        left = int(alive[i].sum())
        few = len(segment) <= SMALL or left * 2 < len(segment)
        if left < len(segment) and few and isinstance(segment, Segment):
            segments[i] = merge([segment], [alive[i]])
            alive[i] = np.ones(left, np.bool_)
        if not left:
            del segments[i], alive[i]
    while len(segments) > 1:
        one, other = segments[-2:]
        if isinstance(one, Large) or isinstance(other, Large) or len(one) > 2 * len(other):
            break
        segments[-2:] = [merge([one, other], alive[-2:])]
        alive[-2:] = [np.ones(len(segments[-1]), np.bool_)]


@dataclass(frozen=True, eq=False)
class View:
    """One state of the index, to be searched and read; it stays what it was."""

    snapshot: Snapshot
    searchable: Searchable
    library: Library
    whole: Searchable | None = field(default=None, repr=False)
    """What it is confined from, by ``among``, to the documents of these numbers."""
    among: Among = ()
    chosen: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def documents(self) -> Sequence[Document]:
        """All documents, each read when it is asked for."""
        return Lazy(self._numbers, self.document)

    def _numbers(self) -> Sequence[int] | NDArray[np.int64]:
        if self.chosen is not None:
            return self.chosen
        return self.snapshot.numbers()

    @property
    def passages(self) -> Sequence[Passage]:
        """All passages, each read when it is asked for."""
        return Lazy(lambda: self.searchable.rows, self.passage)

    @property
    def languages(self) -> tuple[str, ...]:
        return self.searchable.languages

    @property
    def compounds(self) -> Compounds:
        return self.keywords.compounds

    @property
    def keywords(self) -> KeywordIndex:
        return self.searchable.keywords

    def document(self, number: int) -> Document:
        return self.library.get(self.snapshot, self.searchable.state.incarnation, number)

    def passage(self, row: int) -> Passage:
        """The passage of a row, with its text, which is what was added, or DamageError."""
        segment, at = self.searchable.locate(row)
        number, document = int(segment.ids[at]), int(segment.documents[at])
        part = self.snapshot.part(number, document)
        return part.passage(self.document(document), row)

    def read(self, rows: Sequence[int]) -> list[Passage]:
        """The passages of some rows."""
        return [self.passage(row) for row in rows]

    def words(self, question: str, language: str) -> list[dict[str, float]]:
        """The terms that stand for each word of a question (see lexical.question_words)."""
        return question_words(question, language, self.languages, self.compounds)

    def candidates(
        self, vector: NDArray[np.float32], words: Sequence[Mapping[str, float]], k: int
    ) -> Candidates:
        """What lies next to a vector or holds the words: ``k`` or more, if there are."""
        held = self.searchable
        lexical = self.keywords.scores(words)
        near = held.nearest(vector, k, self.snapshot)
        rows = np.unique(np.concatenate([near, top(lexical, k)]))
        own, inner = held.cosines(rows, vector, self.snapshot)
        return Candidates(rows, own, inner, lexical[rows], held.languages_of(rows))

    def holding(self, words: Sequence[Mapping[str, float]], k: int) -> list[int]:
        """The rows of the ``k`` passages that hold most of the words, best first."""
        scores = self.keywords.scores(words)
        rows = top(scores, k)
        return [int(row) for row in rows[np.argsort(-scores[rows], kind="stable")]]

    def vector(self, passage: Passage) -> NDArray[np.float32]:
        """The unit vector of one of this view's passages."""
        segment, at = self.searchable.locate(passage.row)
        return segment.vector(at, self.snapshot)

    def sentence_vectors(self, passage: Passage) -> FloatMatrix:
        """Unit vectors of the sentences of one of this view's passages."""
        segment, at = self.searchable.locate(passage.row)
        return segment.sentence_vectors(at, self.snapshot)

    def before(self, passage: Passage) -> Span | None:
        """The sentence that stands before a passage in its document."""
        segment, at = self.searchable.locate(passage.row)
        if at == 0 or segment.documents[at - 1] != segment.documents[at]:
            return None
        return last_before(passage, self.passage(passage.row - 1))

    def terms(self, text: str, passage: Passage) -> list[str]:
        """The index terms of a text that stands in ``passage``."""
        return terms(text, passage.document.language, self.compounds)

    def only(self, where: Mapping[str, Any]) -> View:
        """The view of the documents that a filter lets through (see index.filters)."""
        if not where:
            return self
        whole, wanted = self.whole or self.searchable, (*self.among, *among(where))
        chosen, held = whole.filtered(wanted, lambda: self.library.labels(self.snapshot))
        return replace(self, searchable=held, whole=whole, among=wanted, chosen=chosen)


def last_before(passage: Passage, earlier: Passage) -> Span | None:
    """The last sentence of the passage before one that ends before it begins."""
    ended = [span for span in earlier.sentences if span.end <= passage.start]
    return ended[-1] if ended else None


class Lazy(Sequence[T]):
    """What a view has, each read when it is asked for; so are their ``numbers``.

    ``expect`` is told of those that are about to be read, where many are.
    """

    AT_ONCE = 100

    def __init__(
        self,
        numbers: Callable[[], Sequence[int] | NDArray[np.int64]],
        read: Callable[[int], T],
        expect: Callable[[Sequence[int]], None] = lambda some: None,
    ) -> None:
        self._find = numbers
        self._read = read
        self._expect = expect

    @cached_property
    def _numbers(self) -> Sequence[int] | NDArray[np.int64]:
        return self._find()

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[T]: ...
    def __getitem__(self, i: int | slice) -> T | Sequence[T]:
        if isinstance(i, slice):
            return [self._read(int(number)) for number in self._numbers[i]]
        return self._read(int(self._numbers[i]))

    def __iter__(self) -> Iterator[T]:
        for begin in range(0, len(self._numbers), self.AT_ONCE):
            some = [int(number) for number in self._numbers[begin : begin + self.AT_ONCE]]
            self._expect(some)
            yield from map(self._read, some)

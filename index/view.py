"""What a question is asked of: one state of the index, made searchable, never changed.

Passages are held in segments, each with its vectors and its words. A change adds a small
segment, or marks rows of others as gone; small ones are merged as they come to be many. So
bringing this up to date costs what the change does. Texts stay in the file, and are read
from the same state of it, and checked, when a passage is found.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from index.dense import DenseIndex
from index.fuse import top
from index.keywords import KeywordIndex, Postings
from index.lexical import Compounds, question_words, terms, words
from index.place import Candidates
from index.place import Snapshot as AnySnapshot
from index.records import Part, Record, Snapshot, State, total
from index.types import Document, Passage, Span
from index.vectors import FloatMatrix

SMALL = 2_000
"""A segment of so few passages is made anew when one of them goes."""
RECENT = 50_000_000
"""So many characters of documents stay in memory once they were read."""

Mask = NDArray[np.bool_]
T = TypeVar("T")


class Library:
    """Documents that were read lately, or are in use; one and the same for all who ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: WeakValueDictionary[tuple[str, int], Document] = WeakValueDictionary()
        self._recent: LRUCache[tuple[str, int], Document] = LRUCache(
            RECENT, getsizeof=lambda document: len(document.text)
        )

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

    def sentences_of(self, mask: Mask) -> Mask:
        """Which sentences are of the passages that a mask chooses."""
        return np.repeat(mask, np.diff(self.first_sentence))


def _removed(snapshot: Snapshot, after: State | None) -> list[tuple[int, ...]]:
    """The notes of the documents that ``after`` had and the file has no more."""
    if after is None:
        return []
    where = "id > ? AND document <= ?"
    rows = snapshot.rows(
        f"SELECT * FROM removed WHERE {where}", after.last_removed, after.last_document
    )
    return list(rows)


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
    segments: tuple[Segment, ...] = ()
    alive: tuple[Mask, ...] = ()
    """Which rows of each segment are there still."""
    keywords: KeywordIndex = field(default_factory=lambda: KeywordIndex([]))

    @classmethod
    def of(
        cls, snapshot: Snapshot, dimension: int, earlier: Searchable | None = None
    ) -> Searchable:
        """The state of a snapshot, from an earlier one where that helps.

        Raises:
            DamageError: the file does not hold what was written.
        """
        state = snapshot.state()
        if earlier is not None and earlier.state.incarnation == state.incarnation:
            if earlier.state.generation == state.generation:
                return earlier
            before, segments, alive = earlier.state, list(earlier.segments), list(earlier.alive)
        else:
            before, segments, alive = None, [], []
        documents, digest = (before.documents, before.digest) if before else (0, 0)
        for _, number, _, _, sealed in _removed(snapshot, before):
            documents, digest = documents - 1, digest - sealed
            for i, segment in enumerate(segments):
                here = segment.documents == number
                alive[i] = alive[i] & ~here if here.any() else alive[i]
        new, seals = read(snapshot, before, dimension)
        segments.append(new)
        alive.append(np.ones(len(new), np.bool_))
        found = State(
            *(state.incarnation, state.generation, documents + len(seals)),
            *(sum(int(mask.sum()) for mask in alive), total(seals, digest), *state[5:]),
        )
        if found != state:
            if before is not None:  # perhaps only the notes of what was removed are wrong
                return cls.of(snapshot, dimension)
            raise snapshot.damaged("it does not hold all that was written")
        _tidy(segments, alive)
        postings = [segment.postings for segment in segments]
        keywords = KeywordIndex(postings, alive, earlier.keywords if earlier else None)
        return cls(state, tuple(segments), tuple(alive), keywords)

    def only(self, alive: Sequence[Mask]) -> Searchable:
        """The same with fewer rows."""
        postings = [segment.postings for segment in self.segments]
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
        return tuple(sorted({str(x) for s, mask in pairs for x in np.unique(s.languages[mask])}))

    def languages_of(self, rows: NDArray[np.int64]) -> NDArray[np.str_]:
        return np.concatenate([segment.languages for segment in self.segments])[rows]

    def locate(self, row: int) -> tuple[Segment, int]:
        """The segment of a row, and its place there."""
        i = int(np.searchsorted(self.start, row, side="right")) - 1
        return self.segments[i], row - int(self.start[i])

    def nearest(self, vector: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Rows whose passages, or whose sentences, are among the nearest to a vector.

        ``k`` by the passage's own vector, and those of the ``2 * k`` best sentences.
        """
        own: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        inner: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        for segment, mask, start in zip(self.segments, self.alive, self.start, strict=False):
            whole = bool(mask.all())
            rows, scores = segment.dense.search(vector, k, None if whole else mask)
            own.append((rows + start, scores))
            among = None if whole else segment.sentences_of(mask)
            rows, scores = segment.sentences.search(vector, 2 * k, among)
            rows = np.searchsorted(segment.first_sentence, rows, side="right") - 1
            inner.append((rows + start, scores))
        return np.unique(np.concatenate([_best(own, k), _best(inner, 2 * k)]))

    def cosines(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of each row's passage, and of its best sentence, with a vector."""
        own, inner = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        of = np.searchsorted(self.start, rows, side="right") - 1
        for i in np.unique(of):
            segment, here = self.segments[i], of == i
            at = rows[here] - self.start[i]
            own[here] = segment.dense.at(at) @ vector
            first, last = segment.first_sentence[at], segment.first_sentence[at + 1]
            counts = last - first
            begins = np.cumsum(counts) - counts
            every = np.arange(counts.sum()) + np.repeat(first - begins, counts)
            inner[here] = np.maximum.reduceat(segment.sentences.at(every) @ vector, begins)
        return own, inner

    def sentence_vectors(self, row: int) -> FloatMatrix:
        segment, at = self.locate(row)
        return segment.sentences.at(
            slice(segment.first_sentence[at], segment.first_sentence[at + 1])
        )


def _best(
    found: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], k: int
) -> NDArray[np.int64]:
    """The rows of the ``k`` highest scores of several searches."""
    rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in found)])
    scores = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in found)])
    return rows[np.argsort(-scores, kind="stable")[:k]]


def _tidy(segments: list[Segment], alive: list[Mask]) -> None:
    """Keep segments few, and free of many rows that are gone."""
    for i in reversed(range(len(segments))):
        left = int(alive[i].sum())
        if left < len(segments[i]) and (len(segments[i]) <= SMALL or left * 2 < len(segments[i])):
            segments[i] = merge([segments[i]], [alive[i]])
            alive[i] = np.ones(left, np.bool_)
        if not left:
            del segments[i], alive[i]
    while len(segments) > 1 and len(segments[-2]) <= 2 * len(segments[-1]):
        segments[-2:] = [merge(segments[-2:], alive[-2:])]
        alive[-2:] = [np.ones(len(segments[-1]), np.bool_)]


@dataclass(frozen=True, eq=False)
class View:
    """One state of the index, to be searched and read; it stays what it was."""

    snapshot: Snapshot
    searchable: Searchable
    library: Library
    chosen: tuple[int, ...] | None = field(default=None, repr=False)
    """The numbers of the documents it is confined to; None for all."""

    @property
    def documents(self) -> Sequence[Document]:
        """All documents, each read when it is asked for."""
        numbers = self.chosen
        if numbers is None:
            numbers = tuple(n for (n,) in self.snapshot.rows("SELECT id FROM documents ORDER BY 1"))
        return Lazy(numbers, self.document)

    @property
    def passages(self) -> Sequence[Passage]:
        """All passages, each read when it is asked for."""
        return Lazy(self.searchable.rows.tolist(), self.passage)

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
        for part in self.snapshot.parts("WHERE p.id = ?", number):
            if part.document == document:
                return part.passage(self.document(document), row)
        raise self.snapshot.damaged(f"passage {number} is missing")

    def words(self, question: str, language: str) -> list[dict[str, float]]:
        """The terms that stand for each word of a question (see lexical.question_words)."""
        return question_words(question, language, self.languages, self.compounds)

    def candidates(
        self, vector: NDArray[np.float32], words: Sequence[Mapping[str, float]], k: int
    ) -> Candidates:
        """What lies next to a vector or holds the words: ``k`` or more, if there are."""
        held = self.searchable
        lexical = self.keywords.scores(words)
        near = held.nearest(vector, k) if len(held.rows) else np.empty(0, np.int64)
        rows = np.unique(np.concatenate([near, top(lexical, k)]))
        own, inner = held.cosines(rows, vector)
        languages = held.languages_of(rows) if len(rows) else np.empty(0, np.str_)
        return Candidates(rows, own, inner, lexical[rows], languages)

    def vector(self, passage: Passage) -> NDArray[np.float32]:
        """The unit vector of one of this view's passages."""
        segment, at = self.searchable.locate(passage.row)
        return segment.dense.at(np.asarray([at])).reshape(-1)

    def sentence_vectors(self, passage: Passage) -> FloatMatrix:
        """Unit vectors of the sentences of one of this view's passages."""
        return self.searchable.sentence_vectors(passage.row)

    def before(self, passage: Passage) -> Span | None:
        """The sentence that stands before a passage in its document."""
        segment, at = self.searchable.locate(passage.row)
        if at == 0 or segment.documents[at - 1] != segment.documents[at]:
            return None
        earlier = self.passage(passage.row - 1).sentences
        ended = [span for span in earlier if span.end <= passage.start]
        return ended[-1] if ended else None

    def terms(self, text: str, passage: Passage) -> list[str]:
        """The index terms of a text that stands in ``passage``."""
        return terms(text, passage.document.language, self.compounds)

    def only(self, where: Mapping[str, Any]) -> View:
        """The view of the documents that a filter lets through.

        Its keys are ``document`` (the id), ``source``, ``title``, ``language``, ``path``, or
        those of documents' metadata; its values what must stand there, or a list, tuple or
        set of which one must.
        """
        numbers = [
            record.id
            for record in self.snapshot.records()
            if (self.chosen is None or record.id in self.chosen) and passes(record, where)
        ]
        pairs = zip(self.searchable.segments, self.searchable.alive, strict=True)
        alive = [mask & np.isin(segment.documents, numbers) for segment, mask in pairs]
        return replace(self, searchable=self.searchable.only(alive), chosen=tuple(numbers))


def passes(record: Record, where: Mapping[str, Any]) -> bool:
    metadata = json.loads(record.metadata) if where else {}
    for key, wanted in where.items():
        if key in metadata:
            held = metadata[key]
        elif key in ("source", "title", "language", "path"):
            held = getattr(record, key)
        elif key == "document":
            held = record.key
        else:
            return False
        choices = wanted if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
        # 1 is not True here, and a list in the metadata is looked for as a whole.
        if not any(type(held) is type(one) and held == one for one in choices):
            return False
    return True


class Lazy(Sequence[T]):
    """What a view has, each read when it is asked for."""

    def __init__(self, numbers: Sequence[int], read: Callable[[int], T]) -> None:
        self._numbers = numbers
        self._read = read

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[T]: ...
    def __getitem__(self, i: int | slice) -> T | Sequence[T]:
        if isinstance(i, slice):
            return [self._read(number) for number in self._numbers[i]]
        return self._read(self._numbers[i])

    def __iter__(self) -> Iterator[T]:
        return (self._read(number) for number in self._numbers)

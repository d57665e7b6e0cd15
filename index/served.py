"""An index on a server: what its engine finds, scored, checked and read as one in a folder is.

An engine (index/postgres.py, index/milvus.py) keeps rows, and puts passages forward: those
whose vectors lie next to a question's, and those that hold its words. Everything else is
done here, once for all engines: terms, BM25 from the engine's counts, seals over what is
read. So scores are on the scale that index/fuse.py needs, wherever an index is.

What a compound splits into is decided when its text is added, by the words known then; in a
folder it is found out anew as words are added.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from index import keywords
from index.errors import BelegError, DamageError, InputError, Words
from index.filters import Among, among, labels_of, passes
from index.lexical import Compounds, question_words, stop_words, terms, words
from index.place import Candidates, Meet
from index.records import SCHEMA, Part, Record, State, complete, rows_of, seal, total
from index.types import Document, Passage, Span
from index.vectors import FloatMatrix
from index.view import Lazy, Library, last_before

LONGEST = 100
"""A term is cut to so many characters."""
WORD = "="
"""Stands before a word that compounds may be split into, where it is counted."""
RECENT = 2_000
"""So many passages stay with a view once they were read, and then some."""
ALL = ""
"""Under this, all terms of all passages are counted."""


class Row(NamedTuple):
    """A passage as an engine keeps it. ``counts`` are those of its terms that were asked for."""

    id: int
    document: int
    start: int
    end: int
    spans: bytes
    vector: NDArray[np.float16]
    seal: bytes
    sentences: NDArray[np.float16]
    seal_too: bytes
    language: str
    length: int
    counts: Mapping[str, int]

    def part(self) -> Part | None:
        """The passage, or None if it is not what was written."""
        sealed = seal(*self[:5], self.vector.tobytes())
        below = seal(self.id, self.sentences.tobytes())
        if (sealed, below) != (self.seal, self.seal_too):
            return None
        spans = np.frombuffer(self.spans, np.uint32).reshape(-1, 2)
        return Part(*self[:4], spans, self.vector, self.sentences, total([sealed, below]))


class New(NamedTuple):
    """A document that is added."""

    record: Record
    text: str
    labels: Collection[str]
    rows: Sequence[Row]


class Session(Protocol):
    """One state of the rows, or within ``Engine.writing`` a transaction."""

    def state(self) -> State: ...
    def manifest(self) -> dict[str, str]: ...
    def records(self, among: Among = (), **equal: object) -> Iterator[Record]:
        """In the order of their ids; a list is of what may stand there."""

    def stale(self) -> bool:
        """Whether the index has changed so that this state may not be whole any more."""

    def texts(self, documents: Collection[int]) -> dict[int, str]: ...
    def languages(self, among: Among) -> Collection[str]: ...
    def numbers(self, among: Among) -> list[int]:
        """Of documents, in order."""

    def ids(self, among: Among) -> list[int]:
        """Of passages, in order."""

    def nearest(self, vector: NDArray[np.float32], k: int, among: Among) -> Collection[int]:
        """The ``k`` passages nearest by their own vector, and those of the ``2 * k`` nearest
        sentences."""

    def holding(
        self,
        question: Sequence[Mapping[str, float]],
        counts: Mapping[str, int],
        k: int,
        among: Among,
    ) -> Collection[int]:
        """``k`` or more of those passages that hold most of a question's words, each of which
        is worth what its best term is; ``counts`` says how many passages hold a term."""

    def rows(self, ids: Sequence[int], terms: Collection[str] | None) -> Iterator[Row]:
        """Passages in the order of their ids, with the counts of some terms, or of all."""

    def counts(self, names: Collection[str]) -> dict[str, int]: ...

    # To hold what follows from the texts against them (index.derived):

    sure: int
    """Of a passage of no more terms all are kept."""

    def name(self, term: str) -> str:
        """What rows with all counts, and ``every_count``, call a term."""

    def every_count(self) -> dict[str, int]: ...
    def labels(self, record: Record) -> list[Collection[str]]:
        """What a document is found by: wherever that is noted."""

    # Within a transaction:

    def keeps(self, counts: Mapping[str, int]) -> dict[str, int]:
        """What is kept of a passage's terms."""

    def insert(self, new: Sequence[New]) -> None: ...
    def delete(self, record: Record) -> None: ...
    def count(self, change: Mapping[str, int]) -> None: ...
    def finish(self, state: State) -> None: ...


class Engine(Protocol):
    """A server, and where on it the index is. Its trouble is an InputError of one line."""

    @property
    def address(self) -> str:
        """As it may be shown: without a password."""

    def exists(self) -> bool: ...
    def create(self, made: Mapping[str, str], state: State) -> None: ...
    def exclusive(self) -> AbstractContextManager[None]: ...
    def reading(self) -> Session: ...
    def writing(self) -> AbstractContextManager[Session]: ...
    def gather(self) -> None:
        """Make quick to search what was added, within ``exclusive``."""

    def close(self) -> None: ...


def damaged(address: str, what: Words, *, mends: bool = False) -> DamageError:
    """``mends`` says that a repair does."""
    if mends:
        return DamageError(
            "the index in {} is damaged ({}): beleg check --index {} --repair  mends it",
            *(address, what, address),
        )
    return DamageError(
        "the index in {} is damaged ({}): beleg check --index {}  says what of it, remove and"
        " add that again",
        *(address, what, address),
    )


class ServedSnapshot:
    """One state of the documents on a server; all that is read is checked."""

    def __init__(self, address: str, session: Session) -> None:
        self._address = address
        self.session = session
        self._expected: dict[int, tuple[Record, str]] = {}

    def state(self) -> State:
        return self.session.state()

    def manifest(self) -> dict[str, str]:
        held = self.session.manifest()
        written = held.pop("seal", None)
        if written != seal(*sorted(held.items())).hex():
            raise self.damaged(Words("its manifest is not what was written"))
        return held

    def damaged(self, what: Words, *, mends: bool = False) -> BelegError:
        if self.session.stale():
            return InputError("the index in {} changed while it was read: try again", self._address)
        return damaged(self._address, what, mends=mends)

    def find(self, **equal: object) -> Iterator[Record]:
        """See index.records: all documents, or DamageError at the end."""
        found = map(self._sound, self.session.records((), **equal))
        return found if equal else complete(found, self.state(), self.damaged)

    def confined(self, among: Among) -> Iterator[Record]:
        return map(self._sound, self.session.records(among)) if among else self.find()

    def numbers(self, among: Among) -> list[int]:
        """Those of documents; of all of them, or DamageError."""
        found = self.session.numbers(among)
        if not among and len(found) != self.state().documents:
            raise self.damaged(Words("it does not hold all that was written"))
        return found

    def _sound(self, record: Record) -> Record:
        if seal(*record[:-1]) != record.seal:
            raise self.damaged(
                Words("what it says of document {!r} is not what was written", record.source)
            )
        return record

    def expect(self, documents: Collection[int]) -> None:
        """Read several that are about to be asked for, at once."""
        numbers = sorted(documents)
        texts = self.session.texts(numbers)
        for record in self.find(id=numbers):
            self._expected[record.id] = record, texts.get(record.id, "")

    def record(self, document: int) -> Record:
        if document in self._expected:
            return self._expected[document][0]
        for record in self.find(id=document):
            return record
        raise self.damaged(Words("document number {} is missing", document))

    def document(self, record: Record) -> Document:
        _, text = self._expected.pop(record.id, (record, None))
        if text is None:
            text = self.session.texts([record.id]).get(record.id, "")
        document = record.document(text)
        if document.id != record.key:
            raise self.damaged(Words("the text of {!r} is not what was written", record.source))
        return document

    def part(self, row: Row) -> Part:
        part = row.part()
        if part is None:
            raise self.damaged(Words("passage {} is not what was written", row.id))
        return part

    def parts(self, record: Record) -> list[Part]:
        """The passages of a document: all of them, or DamageError."""
        return [part for _, part in self.passages(record, ())]

    def passages(self, record: Record, terms: Collection[str] | None) -> list[tuple[Row, Part]]:
        """The same, as the engine has them too."""
        ids = range(record.first, record.first + record.passages)
        rows = list(self.session.rows(ids, terms))
        parts = [self.part(row) for row in rows]
        complete = [(p.id, p.document) for p in parts] == [(i, record.id) for i in ids]
        if not complete or total([], sum(p.digest for p in parts)) != record.digest:
            raise self.damaged(Words("the passages of {!r} are not all there", record.source))
        return list(zip(rows, parts, strict=True))


class Known:
    """The words that a compound may be split into, asked of the server where it matters."""

    def __init__(self, session: Session, own: Collection[str] = ()) -> None:
        self._session = session
        self._seen = dict.fromkeys((*own, *stop_words("de")), True)
        self._missed: set[str] = set()

    def __contains__(self, word: object) -> bool:
        assert isinstance(word, str)
        if word not in self._seen:
            self._missed.add(word)
        return self._seen.get(word, False)

    def compounds(self, found: Collection[str]) -> Compounds:
        """What splits these words: each round asks for the parts that the last one missed."""
        while True:
            compounds = Compounds(self)
            for word in found:
                compounds.parts(word)
            if not self._missed:
                return compounds
            there = self._session.counts([WORD + word for word in self._missed])
            self._seen |= {word: WORD + word in there for word in self._missed}
            self._missed.clear()


def _words(text: str, language: str) -> set[str]:
    """Those of a text that compounds may be split into."""
    stop = stop_words(language)
    return {w for w in words(text) if Compounds.SHORTEST <= len(w) <= LONGEST and w not in stop}


class ServedWriter(ServedSnapshot):
    """One transaction; what is put is written at its end, so that all of its words are known."""

    def __init__(self, address: str, session: Session) -> None:
        super().__init__(address, session)
        self._state = session.state()
        self._change: Counter[str] = Counter()
        self._pending: dict[str, tuple[Any, ...]] = {}

    def state(self) -> State:
        """As it will be, but for what is put."""
        return self._state

    def find(self, **equal: object) -> Iterator[Record]:
        """Also what is damaged: that it may be removed."""
        return self.session.records((), **equal) if equal else super().find()

    def put(
        self,
        document: Document,
        passages: Sequence[Passage],
        vectors: NDArray[np.float16],
        sentences: Sequence[NDArray[np.float16]],
    ) -> None:
        """Add a document; one of the same source is replaced."""
        self._pending.pop(document.source, None)
        self._pending[document.source] = (document, passages, vectors, sentences)

    def remove(self, record: Record) -> None:
        try:
            text = self.document(record).text
        except DamageError:
            text = ""  # then some words stay known that are not
        ids = range(record.first, record.first + record.passages)
        for row in self.session.rows(ids, None):
            self._change.subtract(counted(row.counts, text[row.start : row.end], record.language))
        self.session.delete(record)
        sealed = int.from_bytes(record.seal, "little", signed=True)
        self._state = self._state._replace(
            documents=self._state.documents - 1,
            passages=self._state.passages - record.passages,
            digest=total([], self._state.digest - sealed),
        )

    def recount(self, change: Mapping[str, int]) -> None:
        """Change how many passages are said to hold what."""
        self._change.update(change)

    def finish(self) -> None:
        """Write what was put, the counts and the state."""
        if self._pending:
            for old in list(self.find(source=list(self._pending))):
                self.remove(old)
        own: set[str] = set()
        spelt: set[str] = set()
        for document, passages, *_ in self._pending.values():
            for passage in passages:
                own |= _words(passage.text, document.language)
            if document.language == "de":
                spelt |= set(words(document.text))
        compounds = Known(self.session, own).compounds(spelt)
        new = []
        for given in self._pending.values():
            new.append(self._new(compounds, *given))
            for row in new[-1].rows:
                spelt_here = new[-1].text[row.start : row.end]
                self._change.update(counted(row.counts, spelt_here, row.language))
        self.session.insert(new)
        self.session.count({name: n for name, n in self._change.items() if n})
        self.session.finish(self._state._replace(generation=self._state.generation + 1))

    def _new(
        self,
        compounds: Compounds,
        document: Document,
        passages: Sequence[Passage],
        vectors: NDArray[np.float16],
        sentences: Sequence[NDArray[np.float16]],
    ) -> New:
        state = self._state
        record, parts, inner = rows_of(
            document, passages, vectors, sentences, state.last_document + 1, state.last_passage + 1
        )
        rows = []
        for at, (passage, part, below) in enumerate(zip(passages, parts, inner, strict=True)):
            found = kept_terms(passage.text, document.language, compounds)
            row = (
                *(*part[:5], vectors[at], part[6], sentences[at], below[2]),
                *(document.language, found.total(), self.session.keeps(found)),
            )
            rows.append(Row(*row))
        self._state = state._replace(
            documents=state.documents + 1,
            passages=state.passages + len(rows),
            digest=total([record.seal], state.digest),
            last_document=record.id,
            last_passage=record.first + len(rows) - 1,
        )
        return New(record, document.text, labels_of(record), rows)


def kept_terms(text: str, language: str, compounds: Compounds) -> Counter[str]:
    """How often a passage holds its terms."""
    return Counter(term[:LONGEST] for term in terms(text, language, compounds))


def counted(counts: Mapping[str, int], text: str, language: str) -> dict[str, int]:
    """What a passage adds to the counts."""
    spelt = dict.fromkeys((WORD + word for word in _words(text, language)), 1)
    return dict.fromkeys(counts, 1) | spelt | {ALL: sum(counts.values())}


class _Keywords:
    """The worth of words, and BM25 of rows, from an engine's counts."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[str, int] = {}
        self.passages = session.state().passages

    def counts(self, names: Collection[str]) -> dict[str, int]:
        """How many passages hold each term."""
        if missing := {name[:LONGEST] for name in names} - self._seen.keys():
            self._seen |= dict.fromkeys(missing, 0) | self._session.counts(missing)
        return {name: self._seen[name[:LONGEST]] for name in names}

    def _idfs(self, question: Sequence[Mapping[str, float]]) -> list[float]:
        held = self.counts({term for choices in question for term in choices})
        rarest = (min((held[t] for t in c if held[t] > 0), default=0) for c in question)
        return [keywords.idf(n, self.passages) for n in rarest]

    def coverage(
        self, texts: Sequence[Collection[str]], question: Sequence[Mapping[str, float]]
    ) -> NDArray[np.float32]:
        return keywords.coverage(texts, question, self._idfs(question))

    def worth(self, question: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """For each word, what its terms are worth that the index has."""
        held = self.counts({term for choices in question for term in choices})
        return [
            {
                term[:LONGEST]: weight * keywords.idf(held[term], self.passages)
                for term, weight in choices.items()
                if held[term] > 0
            }
            for choices in question
        ]

    def scores(
        self, rows: Sequence[Row], question: Sequence[Mapping[str, float]]
    ) -> NDArray[np.float32]:
        """As KeywordIndex.scores, of some rows."""
        mass = sum(self._idfs(question))
        if not mass or not rows:
            return np.zeros(len(rows), np.float32)
        mean = self.counts([ALL])[ALL] / max(self.passages, 1) or 1.0
        worth = self.worth(question)
        found = []
        for row in rows:
            norm = keywords.K1 * (1 - keywords.B + keywords.B * row.length / mean)
            score = 0.0
            for choices in worth:
                shares = (
                    value * row.counts[term] / (row.counts[term] + norm)
                    for term, value in choices.items()
                    if term in row.counts
                )
                score += max(shares, default=0.0)
            found.append(score / mass)
        return np.asarray(found, np.float32)


@dataclass(frozen=True, eq=False)
class ServedView:
    """One state of an index on a server, to be searched and read."""

    snapshot: ServedSnapshot
    library: Library
    filters: tuple[Mapping[str, Any], ...] = ()
    """What it is confined to."""
    _parts: dict[int, Part] = field(default_factory=dict)
    """Passages that were read, and are what was written."""

    @cached_property
    def keywords(self) -> _Keywords:
        return _Keywords(self.snapshot.session)

    @cached_property
    def _known(self) -> Known:
        return Known(self.snapshot.session)

    @property
    def documents(self) -> Sequence[Document]:
        return Lazy(self._numbers, self.document, self._expect)

    def _numbers(self) -> Sequence[int]:
        return self.snapshot.numbers(self._among)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted(self.snapshot.session.languages(self._among)))

    @cached_property
    def _among(self) -> Among:
        return tuple(one for where in self.filters for one in among(where))

    @property
    def passages(self) -> Sequence[Passage]:
        return Lazy(lambda: self.snapshot.session.ids(self._among), self.passage, self._fetch)

    def document(self, number: int) -> Document:
        return self.library.get(self.snapshot, self._incarnation, number)

    @cached_property
    def _incarnation(self) -> str:
        return self.snapshot.state().incarnation

    def read(self, rows: Sequence[int]) -> list[Passage]:
        self._fetch(rows)
        return [self.passage(row) for row in rows]

    def _expect(self, documents: Collection[int]) -> None:
        if missing := self.library.missing(self._incarnation, documents):
            self.snapshot.expect(missing)

    def _fetch(self, rows: Sequence[int]) -> None:
        """Read rows, and what their documents are, at once."""
        if len(self._parts) > RECENT:
            self._parts.clear()
        if missing := [row for row in rows if row not in self._parts]:
            self._keep(self.snapshot.session.rows(missing, ()))
        self._expect({self._part(row).document for row in rows})

    def words(self, question: str, language: str) -> list[dict[str, float]]:
        compounds = self._known.compounds(words(question))
        return question_words(question, language, self.languages, compounds)

    def candidates(
        self, vector: NDArray[np.float32], words: Sequence[Mapping[str, float]], k: int
    ) -> Candidates:
        near = self.snapshot.session.nearest(vector, k, self._among)
        rows = self._worded(words, k, near)
        parts = [self._part(row.id) for row in rows]
        own = [part.vector.astype(np.float32) @ vector for part in parts]
        inner = [(part.sentences.astype(np.float32) @ vector).max() for part in parts]
        return Candidates(
            np.asarray([row.id for row in rows], np.int64),
            np.asarray(own, np.float32),
            np.asarray(inner, np.float32),
            self.keywords.scores(rows, words),
            np.asarray([row.language for row in rows], np.str_),
        )

    def holding(self, words: Sequence[Mapping[str, float]], k: int) -> list[int]:
        """See View.holding."""
        rows = self._worded(words, k)
        scores = self.keywords.scores(rows, words)
        best = np.argsort(-scores, kind="stable")[:k]
        return [rows[i].id for i in best if scores[i] > 0]

    def _worded(
        self, words: Sequence[Mapping[str, float]], k: int, near: Collection[int] = ()
    ) -> list[Row]:
        """Passages that hold the words, and those ``near``, in order, with what they hold."""
        session, among, ids = self.snapshot.session, self._among, set(near)
        worth = self.keywords.worth(words)
        asked = {term for choices in worth for term in choices}
        if asked:
            ids |= set(session.holding(worth, self.keywords.counts(asked), k, among))
        rows = list(session.rows(sorted(ids), asked))
        self._keep(rows)
        self._check_filters({row.document for row in rows})
        return rows

    def _keep(self, rows: Iterable[Row]) -> None:
        self._parts.update((row.id, self.snapshot.part(row)) for row in rows)

    def _part(self, number: int) -> Part:
        if number not in self._parts:
            self._keep(self.snapshot.session.rows([number], ()))
        if number not in self._parts:
            raise self.snapshot.damaged(Words("passage {} is missing", number))
        return self._parts[number]

    def passage(self, row: int) -> Passage:
        """A passage with its text, which is what was added, or DamageError."""
        part = self._part(row)
        return part.passage(self.document(part.document), row)

    def vector(self, passage: Passage) -> NDArray[np.float32]:
        return self._part(passage.row).vector.astype(np.float32)

    def sentence_vectors(self, passage: Passage) -> FloatMatrix:
        return self._part(passage.row).sentences.astype(np.float32)

    def before(self, passage: Passage) -> Span | None:
        number = self._part(passage.row).document
        if passage.row == self.snapshot.record(number).first:
            return None
        return last_before(passage, self.passage(passage.row - 1))

    def terms(self, text: str, passage: Passage) -> list[str]:
        language = passage.document.language
        spelt = words(passage.text) if language == "de" else []
        return terms(text, language, self._known.compounds(spelt))

    def _check_filters(self, documents: Collection[int]) -> None:
        """Raise DamageError where the engine let a document through that a filter does not."""
        if self.filters:
            for record in self.snapshot.find(id=sorted(documents)):
                if not all(passes(record, where) for where in self.filters):
                    what = Words("{!r} is found by what it is not", record.source)
                    raise self.snapshot.damaged(what, mends=True)

    def only(self, where: Mapping[str, Any]) -> ServedView:
        """See View.only."""
        return replace(self, filters=(*self.filters, where), _parts={}) if where else self

    def contents(self) -> Iterator[tuple[Document, list[Part]]]:
        for record in self.snapshot.confined(self._among):
            yield self.snapshot.document(record), self.snapshot.parts(record)


class Served:
    """An index on a server (see index.place)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._library = Library()

    @property
    def path(self) -> str:
        return self._engine.address

    def exists(self) -> bool:
        return self._engine.exists()

    def check_empty(self) -> None:
        """Nothing tells."""

    def create(self, made: Mapping[str, str]) -> None:
        sealed = {**made, "seal": seal(*sorted(made.items())).hex()}
        self._engine.create(sealed, State(secrets.token_hex(8), 0, 0, 0, 0, 0, 0, 0))

    def open(self) -> dict[str, str]:
        held = self.snapshot().manifest()
        if (schema := held["schema"]) != str(SCHEMA):
            raise InputError(
                "the index in {} is of version {}, this Beleg reads version {}: add its"
                " documents to a new one",
                self.path,
                schema,
                SCHEMA,
            )
        return held

    def exclusive(self) -> AbstractContextManager[None]:
        return self._engine.exclusive()

    @contextmanager
    def writing(self) -> Iterator[ServedWriter]:
        with self._engine.writing() as session:
            writer = ServedWriter(self.path, session)
            yield writer
            writer.finish()

    def snapshot(self) -> ServedSnapshot:
        return ServedSnapshot(self.path, self._engine.reading())

    def documents(self, snapshot: ServedSnapshot) -> Sequence[Document]:
        return self._view(snapshot).documents

    def view(self, meet: Meet) -> ServedView:
        snapshot = self.snapshot()
        meet(snapshot)
        return self._view(snapshot)

    def gather(self, meet: Meet) -> None:
        self._engine.gather()

    def _view(self, snapshot: ServedSnapshot) -> ServedView:
        return ServedView(snapshot, self._library)

    def close(self) -> None:
        self._engine.close()

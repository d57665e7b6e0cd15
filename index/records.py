"""What stands in the file of an index, and that it is what was written.

SQLite has no checksums, so every row here ends with a seal over all that is in it, and the
seals add up: those of a document's passages to its digest, those of the documents to the
digest of the state. So a bit that flipped, a row that is gone, and one that comes from
elsewhere are all found, and raise DamageError.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b, sha256
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import BelegError, DamageError, InputError, Words
from index.types import Document, Passage, Span

SCHEMA = 3
AT_ONCE = 1_000
"""So many passages are read by one query."""
TABLES = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE state (
  id INTEGER PRIMARY KEY, incarnation TEXT NOT NULL, generation INTEGER NOT NULL,
  documents INTEGER NOT NULL, passages INTEGER NOT NULL, digest INTEGER NOT NULL,
  last_document INTEGER NOT NULL, last_passage INTEGER NOT NULL, last_removed INTEGER NOT NULL,
  seal BLOB NOT NULL);
CREATE TABLE documents (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, source TEXT NOT NULL UNIQUE,
  path TEXT NOT NULL, title TEXT NOT NULL, language TEXT NOT NULL, pages TEXT NOT NULL,
  raw TEXT NOT NULL, metadata TEXT NOT NULL, whole INTEGER NOT NULL, hash TEXT NOT NULL,
  first INTEGER NOT NULL, passages INTEGER NOT NULL, digest INTEGER NOT NULL,
  seal BLOB NOT NULL);
CREATE INDEX documents_path ON documents(path);
CREATE INDEX documents_hash ON documents(hash);
CREATE TABLE texts (document INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE passages (
  id INTEGER PRIMARY KEY, document INTEGER NOT NULL, start INTEGER NOT NULL,
  end INTEGER NOT NULL, sentences BLOB NOT NULL, vector BLOB NOT NULL, seal BLOB NOT NULL);
CREATE TABLE sentences (
  passage INTEGER PRIMARY KEY, vectors BLOB NOT NULL, seal BLOB NOT NULL);
CREATE TABLE removed (
  id INTEGER PRIMARY KEY, document INTEGER NOT NULL, first INTEGER NOT NULL,
  passages INTEGER NOT NULL, digest INTEGER NOT NULL);
"""
"""Ids are given once and never again. The passages of a document have successive ids.
``removed`` tells readers what to forget."""


class State(NamedTuple):
    """What the file holds in sum. ``incarnation`` changes where ids may have begun anew."""

    incarnation: str
    generation: int
    documents: int
    passages: int
    digest: int
    last_document: int
    last_passage: int
    last_removed: int


class Record(NamedTuple):
    """A document's row, without its text."""

    id: int
    key: str
    source: str
    path: str
    title: str
    language: str
    pages: str
    raw: str
    metadata: str
    whole: int
    hash: str
    first: int
    passages: int
    digest: int
    seal: bytes

    def document(self, text: str) -> Document:
        return Document(
            text=text,
            source=self.source,
            title=self.title,
            language=self.language,
            pages=tuple(json.loads(self.pages)),
            path=self.path,
            raw=self.raw,
            metadata=json.loads(self.metadata),
            whole=bool(self.whole),
        )

    def describes(self, document: Document) -> bool:
        """Whether a document of the same source and text is in all else as this one."""
        return self[4:7] + self[8:10] == _described(document)


class Part(NamedTuple):
    """A passage's row, with the vectors of its sentences."""

    id: int
    document: int
    start: int
    end: int
    spans: NDArray[np.uint32]
    """The sentences' starts and ends from the passage's start, shape (sentences, 2)."""
    vector: NDArray[np.float16]
    sentences: NDArray[np.float16]
    digest: int

    def passage(self, document: Document, row: int = -1) -> Passage:
        spans = (self.spans.astype(np.int64) + self.start).tolist()
        return Passage(document, self.start, self.end, tuple(Span(a, b) for a, b in spans), row)


_RECORD = f"SELECT {', '.join(Record._fields)} FROM documents"
_PART = (
    "SELECT p.id, p.document, p.start, p.end, p.sentences, p.vector, p.seal, s.vectors, s.seal"
    " FROM passages p LEFT JOIN sentences s ON s.passage = p.id"
)
STATE = f"SELECT {', '.join(State._fields)}, seal FROM state"


def seal(*values: object) -> bytes:
    """Eight bytes that tell whether any of the values has changed."""
    held = bytearray()
    for value in values:
        data = value if type(value) is bytes else repr(value).encode("utf-8", "surrogatepass")
        held += b"%d:" % len(data)
        held += data
    return blake2b(held, digest_size=8).digest()


def total(seals: Sequence[bytes], start: int = 0) -> int:
    """The sum of seals as SQLite holds integers: signed, of 64 bits."""
    found = start + sum(int.from_bytes(one, "little", signed=True) for one in seals)
    return (found + (1 << 63)) % (1 << 64) - (1 << 63)


def complete(
    records: Iterator[Record], state: State, damaged: Callable[[Words], BelegError]
) -> Iterator[Record]:
    """All documents of a state, or at the end what ``damaged`` makes of it."""
    count, digest = 0, 0
    for record in records:
        count, digest = count + 1, total([record.seal], digest)
        yield record
    if (count, digest) != (state.documents, state.digest):
        raise damaged(Words("it does not hold all that was written"))


def text_hash(text: str) -> str:
    return sha256(text.encode("utf-8")).hexdigest()


def _described(document: Document) -> tuple[str, str, str, str, int]:
    try:
        pages, metadata = json.dumps(document.pages), json.dumps(dict(document.metadata))
    except (TypeError, ValueError) as error:
        raise InputError("the metadata of {!r} is not JSON: {}", document.source, error) from None
    return document.title, document.language, pages, metadata, int(document.whole)


def rows_of(
    document: Document,
    passages: Sequence[Passage],
    vectors: NDArray[np.float16],
    sentences: Sequence[NDArray[np.float16]],
    number: int,
    first: int,
) -> tuple[Record, list[tuple[Any, ...]], list[tuple[int, bytes, bytes]]]:
    """A document's row, those of its passages from the number ``first`` on, and those of their
    sentences' vectors, all sealed."""
    rows, inner, seals = [], [], []
    for at, passage in enumerate(passages):
        spans = [(s.start - passage.start, s.end - passage.start) for s in passage.sentences]
        row = (
            *(first + at, number, passage.start, passage.end),
            *(np.asarray(spans, np.uint32).tobytes(), vectors[at].tobytes()),
        )
        below = (first + at, sentences[at].tobytes())
        seals += [seal(*row), seal(*below)]
        rows.append((*row, seals[-2]))
        inner.append((*below, seals[-1]))
    title, language, pages, metadata, whole = _described(document)
    record: tuple[Any, ...] = (
        *(number, document.id, document.source, document.path, title, language, pages),
        *(document.raw, metadata, whole, text_hash(document.text)),
        *(first, len(rows), total(seals)),
    )
    return Record(*(*record, seal(*record))), rows, inner


class Snapshot:
    """One state of the file; it stays what it was for as long as this is held."""

    def __init__(self, file: str, connection: sqlite3.Connection) -> None:
        self._file = file
        self._connection = connection
        self._recent: dict[int, Part] = {}

    def copy_to(self, other: sqlite3.Connection) -> None:
        self._connection.backup(other)

    def rows(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query. Raises DamageError, InputError."""
        with told(self._file):
            yield from self._connection.execute(sql, values)

    def damaged(self, what: Words) -> DamageError:
        return damaged(self._file, what)

    def state(self) -> State:
        found = list(self.rows(STATE))
        if len(found) != 1 or seal(*found[0][:-1]) != found[0][-1]:
            raise self.damaged(Words("its state is not what was written"))
        return State(*found[0][:-1])

    def schema(self) -> int:
        """The version of the file; this Beleg's, where nothing tells."""
        with suppress(DamageError, ValueError, TypeError):
            for (value,) in self.rows("SELECT value FROM manifest WHERE key = 'schema'"):
                return int(value)
        return SCHEMA

    def manifest(self) -> dict[str, str]:
        """Every key and value; empty if the index has none, being in memory."""
        held = dict(self.rows("SELECT key, value FROM manifest ORDER BY key"))
        written = held.pop("seal", None)
        if held and written != seal(*held.items()).hex():
            raise self.damaged(Words("its manifest is not what was written"))
        return held

    def records(self, where: str = "", *values: object) -> Iterator[Record]:
        """Documents' rows in the order of their ids."""
        for row in self.rows(f"{_RECORD} {where} ORDER BY id", *values):
            if seal(*row[:-1]) != row[-1]:
                raise self.damaged(
                    Words("what it says of document {!r} is not what was written", row[2])
                )
            yield Record(*row)

    def find(self, **equal: object) -> Iterator[Record]:
        """The documents whose rows hold these values; all documents, or DamageError at the end."""
        if not equal:
            return complete(self.records(), self.state(), self.damaged)
        where = " AND ".join(f"{column} = ?" for column in equal)
        return self.records(f"WHERE {where}", *equal.values())

    def numbers(self) -> list[int]:
        """Those of all documents, or DamageError."""
        found = list(self.rows("SELECT id, seal FROM documents ORDER BY 1"))
        seals = [sealed for _, sealed in found if type(sealed) is bytes]
        state = self.state()
        if (len(found), total(seals)) != (state.documents, state.digest):
            raise self.damaged(Words("it does not hold all that was written"))
        return [number for number, _ in found]

    def record(self, document: int) -> Record:
        for record in self.records("WHERE id = ?", document):
            return record
        raise self.damaged(Words("document number {} is missing", document))

    def document(self, record: Record) -> Document:
        """A document with its text, which is what was added, or DamageError."""
        rows = list(self.rows("SELECT text FROM texts WHERE document = ?", record.id))
        if len(rows) == 1 and isinstance(rows[0][0], str):
            with suppress(InputError):  # half a surrogate pair is damage too
                document = record.document(rows[0][0])
                if document.id == record.key:
                    return document
        raise self.damaged(Words("the text of {!r} is not what was written", record.source))

    def contents(self, after: State | None = None) -> Iterator[tuple[Record, Document, list[Part]]]:
        """Every document added after a state, with its passages; all that is read is checked."""
        known = (after.last_document, after.last_passage) if after else (0, 0)
        parts = self.parts("WHERE p.id > ?", known[1])
        for record in self.records("WHERE id > ?", known[0]):
            own = list(islice(parts, record.passages))
            self.check_parts(record, own)
            yield record, self.document(record), own
        if next(parts, None) is not None:
            raise self.damaged(Words("it has passages of no document"))

    def check_parts(self, record: Record, parts: Sequence[Part]) -> None:
        """Raise DamageError unless these are the passages that a document was added with."""
        ids = range(record.first, record.first + record.passages)
        complete = [(p.id, p.document) for p in parts] == [(i, record.id) for i in ids]
        if not complete or total([], sum(p.digest for p in parts)) != record.digest:
            raise self.damaged(Words("the passages of {!r} are not all there", record.source))

    def removed(self, after: State | None) -> list[tuple[int, ...]]:
        """The notes of the documents that ``after`` had and the file has no more."""
        if after is None:
            return []
        where = "id > ? AND document <= ?"
        return list(
            self.rows(
                f"SELECT * FROM removed WHERE {where}", after.last_removed, after.last_document
            )
        )

    def parts(self, where: str = "", *values: object) -> Iterator[Part]:
        """Passages' rows in the order of their ids."""
        for row in self.rows(f"{_PART} {where} ORDER BY p.id", *values):
            *fields, sealed, vectors, sealed_too = row
            if seal(*fields) != sealed or seal(fields[0], vectors) != sealed_too:
                raise self.damaged(Words("passage {} is not what was written", fields[0]))
            spans = np.frombuffer(fields[4], np.uint32).reshape(-1, 2)
            vector = np.frombuffer(fields[5], np.float16)
            inner = np.frombuffer(vectors, np.float16).reshape(len(spans), -1)
            number, document, start, end = fields[:4]
            digest = total([sealed, sealed_too])
            yield Part(number, document, start, end, spans, vector, inner, digest)

    def several(self, numbers: Sequence[int]) -> list[Part]:
        """The passages with these ids, in order, as far as they are there.

        A few are kept for who asks for them again: a question does, for those that it found.
        """
        known = self._recent
        missing = [number for number in numbers if number not in known]
        read: dict[int, Part] = {}
        for begin in range(0, len(missing), AT_ONCE):  # a query has a longest length
            some = ",".join(map(str, missing[begin : begin + AT_ONCE]))
            read |= {part.id: part for part in self.parts(f"WHERE p.id IN ({some})")}
        found = {n: known[n] if n in known else read[n] for n in numbers if n in known or n in read}
        if len(found) <= AT_ONCE:
            self._recent = found
        return list(found.values())

    def part(self, number: int, document: int | None = None) -> Part:
        """The passage with that id, and of that document, or DamageError."""
        held = self._recent.get(number)
        for part in [held] if held else self.parts("WHERE p.id = ?", number):
            if document in (None, part.document):
                return part
        raise self.damaged(Words("passage {} is missing", number))


class Writer(Snapshot):
    """What may be done within one transaction."""

    def __init__(self, file: str, connection: sqlite3.Connection) -> None:
        super().__init__(file, connection)
        self._state = super().state()

    def state(self) -> State:
        """As it will be."""
        return self._state

    def put(
        self,
        document: Document,
        passages: Sequence[Passage],
        vectors: NDArray[np.float16],
        sentences: Sequence[NDArray[np.float16]],
    ) -> None:
        """Add a document; one of the same source is replaced."""
        for old in list(self.records("WHERE source = ?", document.source)):
            self.remove(old)
        state, db = self._state, self._connection
        record, rows, inner = rows_of(
            document, passages, vectors, sentences, state.last_document + 1, state.last_passage + 1
        )
        try:
            marks = ", ".join("?" * len(record))
            db.execute(f"INSERT INTO documents VALUES ({marks})", record)
        except UnicodeEncodeError:
            raise InputError("{!r} holds half of a surrogate pair", document.source) from None
        db.execute("INSERT INTO texts VALUES (?, ?)", (record.id, document.text))
        db.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO sentences VALUES (?, ?, ?)", inner)
        self._state = state._replace(
            documents=state.documents + 1,
            passages=state.passages + len(rows),
            digest=total([record.seal], state.digest),
            last_document=record.id,
            last_passage=record.first + len(rows) - 1,
        )

    def remove(self, record: Record) -> None:
        state, db = self._state, self._connection
        through = record.first + record.passages - 1
        db.execute("DELETE FROM documents WHERE id = ?", (record.id,))
        db.execute("DELETE FROM texts WHERE document = ?", (record.id,))
        db.execute("DELETE FROM passages WHERE id BETWEEN ? AND ?", (record.first, through))
        db.execute("DELETE FROM sentences WHERE passage BETWEEN ? AND ?", (record.first, through))
        sealed = int.from_bytes(record.seal, "little", signed=True)
        gone = (state.last_removed + 1, record.id, record.first, record.passages, sealed)
        db.execute("INSERT INTO removed VALUES (?, ?, ?, ?, ?)", gone)
        self._state = state._replace(
            documents=state.documents - 1,
            passages=state.passages - record.passages,
            digest=total([], state.digest - sealed),
            last_removed=gone[0],
        )

    def forget(self) -> None:
        """Leave no note of what was removed; readers start anew."""
        self._connection.execute("DELETE FROM removed")
        self._state = self._state._replace(incarnation=secrets.token_hex(8))

    def finish(self) -> int:
        """Write the state's sum; its number."""
        state = self._state._replace(generation=self._state.generation + 1)
        write_state(self._connection, state)
        return state.generation


def write_manifest(db: sqlite3.Connection, manifest: Mapping[str, str]) -> None:
    rows = sorted(manifest.items())
    if rows:
        rows.append(("seal", seal(*rows).hex()))
    db.execute("DELETE FROM manifest")
    db.executemany("INSERT INTO manifest VALUES (?, ?)", rows)


def write_state(db: sqlite3.Connection, state: State) -> None:
    marks = ", ".join("?" * (len(state) + 1))
    db.execute(f"INSERT OR REPLACE INTO state VALUES (1, {marks})", (*state, seal(*state)))


def damaged(file: str, what: object) -> DamageError:
    folder = os.path.dirname(file)
    why = what if isinstance(what, Words) else " ".join(str(what).split())  # whole statements
    return DamageError(
        "{} is damaged ({}): beleg check --index {} --repair  mends it", file, why, folder
    )


_TROUBLE = {
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
"""What is not the file's own fault."""


@contextmanager
def told(file: str) -> Iterator[None]:
    """What SQLite complains of becomes one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise _line(file, error) from error
    except UnicodeDecodeError as error:  # of a message of SQLite's that quotes the file, say
        raise damaged(file, Words("what it holds cannot be read")) from error


def _line(file: str, error: sqlite3.Error) -> BelegError:
    if not hasattr(error, "sqlite_errorcode"):  # Python's own; it may quote a text
        return damaged(file, Words("what it holds cannot be read"))
    code = error.sqlite_errorcode & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InputError("{} is in use by another process: try again", file)
    if code in _TROUBLE:
        return InputError("{} cannot be used, and was not changed: {}", file, error)
    if code == sqlite3.SQLITE_NOTADB:
        return damaged(file, Words("it is not an index, or no more"))
    return damaged(file, error)

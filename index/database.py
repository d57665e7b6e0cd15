"""The one file that owns the truth: what stands in it, and that it is what was written.

SQLite in write-ahead mode: one writer at a time, any number of readers, each of them in one
state for as long as it likes. SQLite has no checksums, so every row here ends with a seal
over all that is in it, and the seals add up: those of a document's passages to its digest,
those of the documents to the digest of the state. So a bit that flipped, a row that is
gone, and one that comes from elsewhere are all found, and raise DamageError.

Nothing here searches, embeds, or knows of an encoder.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from hashlib import blake2b, sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from index import lock
from index.errors import BelegError, DamageError, InputError
from index.types import Document, Passage, Span

SCHEMA = 3
FILE = "beleg.sqlite"
NEW = "beleg.sqlite.new"
"""An index in the making."""
COUNT = "beleg.count"
"""Which index it is, and how many changes it has had: SQLite takes a log that is damaged, or
gone, for one that ends earlier, and says nothing."""
BUSY = 30.0
"""So many seconds SQLite itself waits for another process."""
PAGE = 16384
"""The size of a page: the vectors of a passage's sentences fit on one."""
IDLE = 8
"""So many connections are kept open between questions."""

_TABLES = """
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
_STATE = f"SELECT {', '.join(State._fields)}, seal FROM state"


def seal(*values: object) -> bytes:
    """Eight bytes that tell whether any of the values has changed."""
    digest = blake2b(digest_size=8)
    for value in values:
        data = value if type(value) is bytes else repr(value).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def total(seals: Sequence[bytes], start: int = 0) -> int:
    """The sum of seals as SQLite holds integers: signed, of 64 bits."""
    found = start + sum(int.from_bytes(one, "little", signed=True) for one in seals)
    return (found + (1 << 63)) % (1 << 64) - (1 << 63)


def text_hash(text: str) -> str:
    return sha256(text.encode("utf-8")).hexdigest()


def _described(document: Document) -> tuple[str, str, str, str, int]:
    try:
        pages, metadata = json.dumps(document.pages), json.dumps(dict(document.metadata))
    except (TypeError, ValueError) as error:
        raise InputError(f"the metadata of {document.source!r} is not JSON: {error}") from None
    return document.title, document.language, pages, metadata, int(document.whole)


class Snapshot:
    """One state of the file; it stays what it was for as long as this is held."""

    def __init__(self, file: str, connection: sqlite3.Connection) -> None:
        self._file = file
        self._connection = connection

    def copy_to(self, other: sqlite3.Connection) -> None:
        self._connection.backup(other)

    def rows(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query. Raises DamageError, InputError."""
        with told(self._file):
            yield from self._connection.execute(sql, values)

    def damaged(self, what: str) -> DamageError:
        return damaged(self._file, what)

    def state(self) -> State:
        found = list(self.rows(_STATE))
        if len(found) != 1 or seal(*found[0][:-1]) != found[0][-1]:
            raise self.damaged("its state is not what was written")
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
            raise self.damaged("its manifest is not what was written")
        return held

    def records(self, where: str = "", *values: object) -> Iterator[Record]:
        """Documents' rows in the order of their ids."""
        for row in self.rows(f"{_RECORD} {where} ORDER BY id", *values):
            if seal(*row[:-1]) != row[-1]:
                raise self.damaged(f"what it says of document {row[2]!r} is not what was written")
            yield Record(*row)

    def record(self, document: int) -> Record:
        for record in self.records("WHERE id = ?", document):
            return record
        raise self.damaged(f"document number {document} is missing")

    def document(self, record: Record) -> Document:
        """A document with its text, which is what was added, or DamageError."""
        rows = list(self.rows("SELECT text FROM texts WHERE document = ?", record.id))
        if len(rows) == 1 and isinstance(rows[0][0], str):
            with suppress(InputError):  # half a surrogate pair is damage too
                document = record.document(rows[0][0])
                if document.id == record.key:
                    return document
        raise self.damaged(f"the text of {record.source!r} is not what was written")

    def contents(self, after: State | None = None) -> Iterator[tuple[Record, Document, list[Part]]]:
        """Every document added after a state, with its passages; all that is read is checked."""
        known = (after.last_document, after.last_passage) if after else (0, 0)
        parts = self.parts("WHERE p.id > ?", known[1])
        for record in self.records("WHERE id > ?", known[0]):
            own = list(islice(parts, record.passages))
            self.check_parts(record, own)
            yield record, self.document(record), own
        if next(parts, None) is not None:
            raise self.damaged("it has passages of no document")

    def check_parts(self, record: Record, parts: Sequence[Part]) -> None:
        """Raise DamageError unless these are the passages that a document was added with."""
        ids = range(record.first, record.first + record.passages)
        complete = [(p.id, p.document) for p in parts] == [(i, record.id) for i in ids]
        if not complete or total([], sum(p.digest for p in parts)) != record.digest:
            raise self.damaged(f"the passages of {record.source!r} are not all there")

    def parts(self, where: str = "", *values: object) -> Iterator[Part]:
        """Passages' rows in the order of their ids."""
        for row in self.rows(f"{_PART} {where} ORDER BY p.id", *values):
            *fields, sealed, vectors, sealed_too = row
            if seal(*fields) != sealed or seal(fields[0], vectors) != sealed_too:
                raise self.damaged(f"passage {fields[0]} is not what was written")
            spans = np.frombuffer(fields[4], np.uint32).reshape(-1, 2)
            vector = np.frombuffer(fields[5], np.float16)
            inner = np.frombuffer(vectors, np.float16).reshape(len(spans), -1)
            number, document, start, end = fields[:4]
            digest = total([sealed, sealed_too])
            yield Part(number, document, start, end, spans, vector, inner, digest)


class _Connection(sqlite3.Connection):
    """One that closes itself: the last one to look at a state does not know it is the last."""

    frozen = False
    """Opened as a file that nobody changes, so that it would not notice if somebody did."""

    def __del__(self) -> None:
        self.close()


class Database:
    """The file in a folder, or one in memory where ``folder`` is None.

    It is read, if not ``strict``, even where the latest changes to it are missing.

    Raises:
        InputError: there is none.
    """

    def __init__(self, folder: Path | None, *, strict: bool = True) -> None:
        self.folder = folder
        self._strict = strict
        self.name = str(folder / FILE) if folder is not None else "the index in memory"
        self._lock = threading.RLock()
        self._one_writer = threading.Lock()  # of an index in memory
        self._idle: list[_Connection] = []
        self._seen: tuple[int, int] | None = None
        self._held: weakref.WeakSet[Snapshot] = weakref.WeakSet()
        self._writer: _Connection | None = None
        self._closed = False
        if folder is None:
            self._memory = self._make(":memory:", {})
        else:
            self._identify()

    @classmethod
    def create(cls, folder: Path, manifest: Mapping[str, str], generation: int = 0) -> None:
        """Make an empty index in the folder unless it has one.

        It is there whole or not at all. The caller must be the one writer. ``generation`` is
        that of the index whose place it will take.
        """
        file, new = folder / FILE, folder / NEW
        if file.exists():
            return
        try:
            clear(new)
            cls._make(str(new), manifest, generation).close()
            if "index" in manifest:
                write_count(folder, manifest["index"], generation)
            os.replace(new, file)
            _sync(folder)
        except OSError as error:
            raise InputError(f"{file} cannot be written: {error.strerror}") from None
        finally:
            clear(new)

    @staticmethod
    def raw(file: Path) -> sqlite3.Connection:
        """SQLite's own connection to a file."""
        return _connect(str(file))

    @staticmethod
    def _make(file: str, manifest: Mapping[str, str], generation: int = 0) -> sqlite3.Connection:
        with told(file):
            db = _connect(file)
            db.execute(f"PRAGMA page_size = {PAGE}")
            if file != ":memory:":
                db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN; {_TABLES}")
            write_manifest(db, manifest)
            _write_state(db, State(secrets.token_hex(8), generation, 0, 0, 0, 0, 0, 0))
            db.execute("COMMIT")
        return db

    # --- reading ---

    def snapshot(self) -> Snapshot:
        """The present state, to read from."""
        if self.folder is None:
            with self._lock:
                held = Snapshot(self.name, self._memory)
                self._held.add(held)
                return held
        self._identify()
        noted = read_count(self.folder)  # before: there may be another change in between
        with self._lock:
            connection = self._idle.pop() if self._idle else None
            file = self._seen
        with told(self.name):
            connection = connection or self._open()
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # now it is fixed
        held = Snapshot(self.name, connection)
        weakref.finalize(held, self._release, connection, file)
        if self._strict and (wrong := _compare(held, noted)[1]):
            raise held.damaged(wrong)
        return held

    def compare(self) -> tuple[int, str]:
        """How many changes are missing that were made, and what to say of it if anything."""
        assert self.folder is not None
        noted = read_count(self.folder)
        return _compare(self.snapshot(), noted)

    def _identify(self) -> None:
        """Forget the connections to a file that is not the one there now."""
        assert self.folder is not None
        try:
            status = os.stat(self.folder / FILE)
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error.strerror}") from None
        here = (status.st_dev, status.st_ino)
        with self._lock:
            if here != self._seen:
                self._idle.clear()
                self._seen = here

    def _open(self) -> _Connection:
        assert self.folder is not None
        uri = f"{(self.folder / FILE).resolve().as_uri()}?mode=rw"
        # Where it may not make files, SQLite reads only what nobody changes.
        frozen = not os.access(self.folder, os.W_OK) and not _size(self.folder / f"{FILE}-wal")
        connection = _connect(f"{uri}&immutable=1" if frozen else uri)
        connection.frozen = frozen
        return connection

    def _release(self, connection: _Connection, file: tuple[int, int] | None) -> None:
        with suppress(sqlite3.Error):
            connection.rollback()
        with self._lock:
            usable = file == self._seen and not connection.frozen and not self._closed
            if usable and len(self._idle) < IDLE:
                self._idle.append(connection)
                return
        connection.close()

    @classmethod
    def copy(cls, snapshot: Snapshot) -> Self:
        """A copy in memory, which goes its own way from there."""
        made = cls(None)
        with told(made.name):
            snapshot.copy_to(made._memory)
        with made.writing() as writer:
            writer.forget()
        return made

    def close(self) -> None:
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    # --- writing ---

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be the one writer, after waiting a bounded time for another one.

        Raises:
            InputError: another one is still at it; the message says who.
        """
        if self.folder is None:
            if not self._one_writer.acquire(timeout=lock.WAIT):
                raise InputError(f"{self.name} is being changed: waited {lock.WAIT:g} seconds")
            try:
                yield
            finally:
                self._one_writer.release()
            return
        with lock.exclusive(self.folder):
            sweep(self.folder)
            self._identify()
            try:
                yield
                self._checkpoint()
            finally:
                if self._writer is not None:
                    self._writer.close()
                    self._writer = None

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """One transaction: all of it is done, or nothing. The caller must be the one writer."""
        with self._lock if self.folder is None else nullcontext(), told(self.name):
            db = self._writable()
            db.execute("BEGIN IMMEDIATE")
            try:
                writer = Writer(self.name, db)
                if self.folder and (wrong := _compare(writer, read_count(self.folder))[1]):
                    raise writer.damaged(wrong)
                yield writer
                generation = writer.finish()
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            if self.folder is not None:
                write_count(self.folder, writer.manifest()["index"], generation)

    def _writable(self) -> sqlite3.Connection:
        if self.folder is None:
            if len(self._held):  # somebody still reads what is there
                copy = _connect(":memory:")
                self._memory.backup(copy)
                self._memory = copy
            return self._memory
        if self._writer is None:
            self._writer = self._open()
            self._writer.execute("PRAGMA synchronous = FULL")
        return self._writer

    def vacuum(self) -> bool:
        """Let nothing be left in the file of what was deleted.

        The caller must be the one writer. False if a reader still holds an earlier state, so
        that it is still in the log beside the file.
        """
        if self.folder is None:
            return True
        with self.writing() as writer:
            writer.forget()
        with told(self.name):
            self._writable().execute("VACUUM")
        return self._checkpoint()

    def _checkpoint(self) -> bool:
        """Empty the log into the file, if no reader needs it and the disk has room."""
        if self._writer is None:
            return True
        self._writer.execute("PRAGMA busy_timeout = 0")
        try:
            busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return False
        finally:
            self._writer.execute(f"PRAGMA busy_timeout = {BUSY * 1000:.0f}")
        return not busy


class Writer(Snapshot):
    """What may be done within one transaction."""

    def __init__(self, file: str, connection: sqlite3.Connection) -> None:
        super().__init__(file, connection)
        self._state = self.state()

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
        number, first = state.last_document + 1, state.last_passage + 1
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
        record = (*record, seal(*record))
        try:
            marks = ", ".join("?" * len(record))
            db.execute(f"INSERT INTO documents VALUES ({marks})", record)
        except UnicodeEncodeError:
            raise InputError(f"{document.source!r} holds half of a surrogate pair") from None
        db.execute("INSERT INTO texts VALUES (?, ?)", (number, document.text))
        db.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO sentences VALUES (?, ?, ?)", inner)
        self._state = state._replace(
            documents=state.documents + 1,
            passages=state.passages + len(rows),
            digest=total([record[-1]], state.digest),
            last_document=number,
            last_passage=first + len(rows) - 1,
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
        _write_state(self._connection, state)
        return state.generation


def _connect(file: str) -> _Connection:
    db = sqlite3.connect(
        file,
        uri=file.startswith("file:"),
        timeout=BUSY,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    db.execute("PRAGMA secure_delete = ON")
    return db


def write_manifest(db: sqlite3.Connection, manifest: Mapping[str, str]) -> None:
    rows = sorted(manifest.items())
    if rows:
        rows.append(("seal", seal(*rows).hex()))
    db.execute("DELETE FROM manifest")
    db.executemany("INSERT INTO manifest VALUES (?, ?)", rows)


def _write_state(db: sqlite3.Connection, state: State) -> None:
    marks = ", ".join("?" * (len(state) + 1))
    db.execute(f"INSERT OR REPLACE INTO state VALUES (1, {marks})", (*state, seal(*state)))


def replace(folder: Path, work: Path) -> None:
    """Put the file of the folder ``work`` in the place of that of ``folder``, in one step.

    Where SQLite still knows the old one and it has a log, it is written into it: who reads
    goes on reading what was there. The caller must be the one writer.
    """
    file, new = folder / FILE, work / FILE
    deadline = time.monotonic() + BUSY

    def patience(status: int, left: int, pages: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise TimeoutError  # Python itself would try for ever

    try:
        with closing(_connect(str(new))) as source, closing(_connect(str(file))) as target:
            if target.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                source.backup(target, progress=patience)
                target.execute("PRAGMA busy_timeout = 0")  # a reader keeps the log: no matter
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if list(source.execute(_STATE)) == list(target.execute(_STATE)):
                    return
    except (sqlite3.Error, TimeoutError):
        pass
    clear(file, only_beside=True)
    try:
        os.replace(new, file)
        _sync(folder)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None


def damaged(file: str, what: object) -> DamageError:
    folder = os.path.dirname(file)
    return DamageError(
        f"{file} is damaged ({what}): beleg check --index {folder} --repair  mends it"
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


def _line(file: str, error: sqlite3.Error) -> BelegError:
    if not hasattr(error, "sqlite_errorcode"):  # Python's own; it may quote a text
        return damaged(file, "what it holds cannot be read")
    code = error.sqlite_errorcode & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InputError(f"{file} is in use by another process: try again")
    if code in _TROUBLE:
        return InputError(f"{file} cannot be used, and was not changed: {error}")
    if code == sqlite3.SQLITE_NOTADB:
        return damaged(file, "it is not an index, or no more")
    return damaged(file, error)


def read_count(folder: Path) -> tuple[str, int] | None:
    """The id of the index in a folder, and how many changes it has had at least."""
    with suppress(OSError, ValueError):
        index, _, count = (folder / COUNT).read_text("ascii").partition(" ")
        return index, int(count)
    return None


def write_count(folder: Path, index: str, count: int) -> None:
    """Note a change; that it is missing where it cannot be noted does no harm."""
    new = folder / f"{COUNT}.new"
    try:
        with new.open("w", encoding="ascii") as file:
            file.write(f"{index} {count}")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, folder / COUNT)
    except OSError:
        sweep(folder)


def _compare(snapshot: Snapshot, noted: tuple[str, int] | None) -> tuple[int, str]:
    """How many changes are missing, by the note of them, and what to say of it if anything."""
    if noted is None or noted[0] != snapshot.manifest().get("index"):
        return 0, f"{COUNT} beside it is not its own"
    missing = noted[1] - snapshot.state().generation
    if missing <= 0:
        return 0, ""
    return missing, f"the latest {missing} changes to it are missing: its log was lost"


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def sweep(folder: Path) -> None:
    """Remove what a writer left that was killed."""
    clear(folder / NEW)
    with suppress(OSError):
        (folder / f"{COUNT}.new").unlink(missing_ok=True)


def clear(file: Path, *, only_beside: bool = False) -> None:
    """Remove a file of SQLite, with what that puts beside it."""
    beside = [file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm", "-journal")]
    for one in beside if only_beside else [file, *beside]:
        with suppress(OSError):
            one.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the names in a folder last, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

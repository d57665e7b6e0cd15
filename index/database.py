"""The one file of an index: who reads it, who writes it, and that nothing of it gets lost.

SQLite in write-ahead mode: one writer at a time, any number of readers, each of them in one
state for as long as it likes. What stands in the file is the matter of index.records.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Self

from index import lock
from index.errors import InputError, Words
from index.records import (
    STATE,
    TABLES,
    Snapshot,
    State,
    Writer,
    told,
    write_manifest,
    write_state,
)

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
            raise InputError("{} cannot be written: {}", file, error.strerror) from None
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
            db.executescript(f"BEGIN; {TABLES}")
            write_manifest(db, manifest)
            write_state(db, State(secrets.token_hex(8), generation, 0, 0, 0, 0, 0, 0))
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
            connection = self._reading(connection)
        held = Snapshot(self.name, connection)
        weakref.finalize(held, self._release, connection, file)
        if self._strict and (wrong := _compare(held, noted)[1]):
            raise held.damaged(wrong)
        return held

    def compare(self) -> tuple[int, Words | None]:
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
            raise InputError("{} cannot be read: {}", self.name, error.strerror) from None
        here = (status.st_dev, status.st_ino)
        with self._lock:
            if here != self._seen:
                self._idle.clear()
                self._seen = here

    def _reading(self, idle: _Connection | None) -> _Connection:
        """A connection that sees one state from now on."""
        assert self.folder is not None
        try:
            return _fixed(idle or self._open())
        except sqlite3.OperationalError as error:
            # Where SQLite cannot make a file beside it, it reads only what nobody changes.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in _NO_ROOM or _size(self.folder / f"{FILE}-wal"):
                raise
            return _fixed(self._open(frozen=True))

    def _open(self, *, frozen: bool = False) -> _Connection:
        assert self.folder is not None
        uri = f"{(self.folder / FILE).resolve().as_uri()}?mode=rw"
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
                raise InputError("{} is being changed: waited {:g} seconds", self.name, lock.WAIT)
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


_NO_ROOM = {
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
}  # fmt: skip


def _fixed(connection: _Connection) -> _Connection:
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


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


def replace(folder: Path, work: Path) -> bool:
    """Put the file of the folder ``work`` in the place of that of ``folder``, in one step.

    Where SQLite still knows the old one and it has a log, it is written into it: who reads
    goes on reading what was there. Then it is on the disk still, and this False. The caller
    must be the one writer.
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
                target.execute("PRAGMA busy_timeout = 0")
                busy, _, _ = target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if list(source.execute(STATE)) == list(target.execute(STATE)):
                    return not busy
    except (sqlite3.Error, UnicodeDecodeError, TimeoutError):
        pass
    clear(file, only_beside=True)
    try:
        os.replace(new, file)
        _sync(folder)
    except OSError as error:
        raise InputError("{} cannot be written: {}", file, error.strerror) from None
    return True


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


def _compare(snapshot: Snapshot, noted: tuple[str, int] | None) -> tuple[int, Words | None]:
    """How many changes are missing, by the note of them, and what to say of it if anything."""
    if noted is None or noted[0] != snapshot.manifest().get("index"):
        return 0, Words("{} beside it is not its own", COUNT)
    missing = noted[1] - snapshot.state().generation
    if missing <= 0:
        return 0, None
    return missing, Words("the latest {} changes to it are missing: its log was lost", missing)


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def sweep(folder: Path) -> None:
    """Remove what a writer left that was killed."""
    clear(folder / NEW)
    with suppress(OSError):
        (folder / f"{COUNT}.new").unlink(missing_ok=True)
        for new in folder.glob("beleg.large.*.new"):  # see index.large
            new.unlink(missing_ok=True)


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

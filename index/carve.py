"""The rows that are still in a file which SQLite will not read any more.

A header that is damaged, an end that is cut off or a log with a flaw in it make SQLite give
up all of a file. Its format is simple enough (https://sqlite.org/fileformat2.html) to look
through the pages for rows without it; the seals tell which of them are what was written.
What was deleted does not come back, since SQLite is told to overwrite it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from index.database import FILE, PAGE, Database
from index.records import Record, seal, text_hash

Row = tuple[Any, ...]
LEAF = 13
"""The kind of page that holds a table's rows."""
FRAME = 24 + PAGE
"""A page in the log, with its header."""


def carve(folder: Path, into: Path) -> None:
    """Make an index in the folder ``into`` of the rows that are left in ``folder``.

    The documents in it are what was written, one of each source; it may lack texts,
    passages, the state or the manifest.
    """
    Database.create(into, {})
    with _Pages(folder / FILE) as pages, closing(Database.raw(into / FILE)) as db:
        db.execute("PRAGMA journal_mode = OFF")  # it is a draft
        db.execute("DELETE FROM state")
        gone, records = set(), {}
        for row in pages.rows():
            if len(row) == 5 and row[0] is not None and isinstance(row[1], int):
                gone.add(row[1])
            elif _sealed(row, len(Record._fields)):
                records[row[0]] = Record(*row)
        latest = {record.source: record for _, record in sorted(records.items())}
        kept = {r.id: r for r in latest.values() if r.id not in gone}
        db.execute("BEGIN")
        for record in kept.values():
            _put(db, "documents", record)
        for row in pages.rows():
            if len(row) == 2 and isinstance(row[1], str):
                if isinstance(row[0], str):
                    _put(db, "manifest", row)
                elif row[0] in kept and text_hash(row[1]) == kept[row[0]].hash:
                    _put(db, "texts", row)
            elif _sealed(row, 7) and row[1] in kept:
                _put(db, "passages", row)
            elif _sealed(row, 3):
                _put(db, "sentences", row)
            elif len(row) == 10 and seal(*row[1:-1]) == row[-1]:
                _put(db, "state", row)
        db.execute("COMMIT")


def _sealed(row: Row, length: int) -> bool:
    return len(row) == length and seal(*row[:-1]) == row[-1]


def _put(db: Any, table: str, row: Row) -> None:
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)


class _Pages:
    """The pages of a file, and over them those of its log up to the last change there."""

    def __init__(self, file: Path) -> None:
        self._log = file.with_name(f"{file.name}-wal")
        self._file = file.open("rb")  # not mapped: SQLite may cut it off meanwhile
        self._size = file.stat().st_size
        self._newer: dict[int, bytes] = {}

    def __enter__(self) -> _Pages:
        with suppress(OSError):
            self._newer = _logged(self._log.read_bytes())
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def page(self, number: int) -> bytes:
        """A page by its number, which counts from 1; what is missing of it is zero."""
        if number in self._newer:
            return self._newer[number]
        self._file.seek((number - 1) * PAGE)
        return self._file.read(PAGE).ljust(PAGE, b"\0")

    def rows(self) -> Iterator[Row]:
        """Whatever can be read as a row of a table."""
        last = max(-(-self._size // PAGE), *self._newer, 1)
        for number in range(1, last + 1):
            page = self.page(number)
            at = 100 if number == 1 else 0
            if page[at] != LEAF:
                continue
            (count,) = struct.unpack_from(">H", page, at + 3)
            count = min(count, PAGE // 4)
            for (cell,) in struct.iter_unpack(">H", page[at + 8 : at + 8 + 2 * count]):
                # Anything may stand here: what is no row is passed over.
                with suppress(IndexError, ValueError, struct.error, OverflowError, MemoryError):
                    yield self._row(page, cell)

    def _row(self, page: bytes, at: int) -> Row:
        size, at = _varint(page, at)
        number, at = _varint(page, at)
        if size > self._size + PAGE * len(self._newer):
            raise ValueError("longer than the file")
        least = (PAGE - 12) * 32 // 255 - 23
        local = size
        if size > PAGE - 35:
            local = least + (size - least) % (PAGE - 4)
            local = local if local <= PAGE - 35 else least
        data = bytearray(page[at : at + local])
        if local < size:
            (following,) = struct.unpack_from(">I", page, at + local)
            while len(data) < size and following:
                more = self.page(following)
                (following,) = struct.unpack_from(">I", more)
                data += more[4:]
        return _record(bytes(data[:size]), number)


def _logged(log: bytes) -> dict[int, bytes]:
    """The pages in a write-ahead log."""
    newer: dict[int, bytes] = {}
    change: dict[int, bytes] = {}
    salts = log[16:24]
    for at in range(32, len(log) - FRAME + 1, FRAME):
        number, size = struct.unpack_from(">II", log, at)
        if log[at + 8 : at + 16] != salts:
            continue  # of an earlier round, or damaged
        change[number] = log[at + 24 : at + FRAME]
        if size:  # a change ends here
            newer |= change
            change = {}
    return newer


def _record(data: bytes, number: int) -> Row:
    """The values of a row; a first one that is not there is the row's number."""
    length, at = _varint(data, 0)
    kinds = []
    while at < length:
        kind, at = _varint(data, at)
        kinds.append(kind)
    at = length
    values: list[Any] = []
    for kind in kinds:
        size = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind] if kind < 10 else (kind - 12) // 2
        raw = data[at : at + size]
        if len(raw) < size or kind in (10, 11):
            raise ValueError("cut off")
        at += size
        if kind == 0:
            values.append(number if not values else None)
        elif kind < 7:
            values.append(int.from_bytes(raw, "big", signed=True))
        elif kind == 7:
            values.append(struct.unpack(">d", raw)[0])
        elif kind < 10:
            values.append(kind - 8)
        else:
            values.append(raw.decode("utf-8") if kind % 2 else raw)
    return tuple(values)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of SQLite's variable length, and where the next thing begins."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9

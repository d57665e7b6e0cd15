"""Is an index what was written, and what can be brought back of one that is not.

A repair reads every document and passage by itself, and makes a new file of those that are
what was written. What was lost of vectors is embedded again from the texts; a text that is
lost is named. The new file takes the old one's place at once, or not at all.

On a server only what follows from the texts is mended (index.derived).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from index import large, manifest
from index.carve import carve
from index.database import Database, read_count, replace, write_count
from index.derived import Derived
from index.embed import BUNDLED_NAME, Encoder, SentenceTransformerEncoder
from index.errors import DamageError, InputError, MismatchError, ModelError, Words
from index.local import Local
from index.place import place_of
from index.records import SCHEMA, TABLES, Part, Record, Snapshot, total
from index.served import Row, Served, ServedSnapshot
from index.store import PassageIndex, missing
from index.types import Document
from index.vectors import are_sound

WORK = "repair.new"
"""The folder of an index in the making."""
GAP = 5_000_000
"""The most numbers that are tried between those that can be listed."""
LAYOUT = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
BATCH = 500
"""So many documents are copied at a time."""


@dataclass
class Findings:
    """What is wrong with an index, and what is left of it."""

    documents: int = 0
    passages: int = 0
    problems: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Those of the problems that no repair mends."""
    notes: list[str] = field(default_factory=list)

    def lose(self, what: str) -> None:
        self.problems.append(what)
        self.lost.append(what)


def check(folder: str | Path, model: str | None = None, encoder: Encoder | None = None) -> Findings:
    """Read everything in an index, and hold its encoder (or ``model``) against it.

    Raises:
        InputError: there is no index, or a newer Beleg made it.
    """
    place = place_of(folder)
    if isinstance(place, Served):
        return _check_served(place, model, encoder)
    folder = Path(folder)
    database = _open(folder)
    found = Findings()
    for _ in _salvage(database, found):
        pass
    if not found.problems:
        incarnation = database.snapshot().state().incarnation
        for file in large.torn(folder, incarnation):
            found.notes.append(f"{file} is not whole: it is made anew when needed")
        _compare(database.snapshot().manifest(), folder, model, encoder, found)
    return found


def repair(
    folder: str | Path, model: str | None = None, encoder: Encoder | None = None
) -> Findings:
    """Make an index whole again; of one that is, wipe what was deleted from the disk.

    With another ``model``, or where the model has changed, all documents are embedded anew.

    Raises:
        InputError: there is no index, nothing is left of it, it cannot be written, or a newer
            Beleg made it.
        ModelError: the encoder is needed and cannot be loaded.
    """
    place = place_of(folder)
    if isinstance(place, Served):
        found = _check_served(place, model, encoder)
        if found.lost:
            raise InputError(
                "an index on a server is not repaired: what beleg check --index {}  names,"
                " remove and add again, or bring back the server's own backup",
                place.path,
            )
        if found.problems:
            _mend_served(place)
        return found
    folder = Path(folder)
    database = _open(folder)
    with database.exclusive():
        _clean(folder)
        try:
            found = check(folder, model, encoder)
            if found.problems:
                _rebuild(folder, found, model, encoder)
            elif not database.vacuum():
                raise _held(database)
        finally:
            _clean(folder)
    return found


def _held(database: Database) -> InputError:
    return InputError(
        "{}: a reader holds an earlier state, so what was removed is still on the disk: repair"
        " again when it is done",
        database.name,
    )


def _check_served(place: Served, model: str | None, encoder: Encoder | None) -> Findings:
    """Read everything on a server, and hold the encoder against it."""
    found, digest = Findings(), 0
    try:
        if not place.exists():
            raise missing(place)
        held, snapshot = place.open(), place.snapshot()
        state = snapshot.state()
    except DamageError as error:
        found.lose(str(error))
        return found
    derived = Derived(snapshot)
    for record, document, parts in _served(snapshot, found):
        found.passages += len(parts)
        found.documents += 1
        digest = total([record.seal], digest)
        if not derived.follows(record, document, [row for row, _ in parts]):
            what = Words("{!r} is found by what it is not", record.source)
            found.problems.append(str(snapshot.damaged(what, mends=True)))
    there = (state.documents, state.passages, state.digest)
    if not found.problems:
        if there != (found.documents, found.passages, digest):
            found.lose(str(snapshot.damaged(Words("its parts do not add up"))))
        elif wrong := len(derived.uncounted()):
            what = Words("of {} words it says wrongly how many passages hold them", wrong)
            found.problems.append(str(snapshot.damaged(what, mends=True)))
    known = len(found.problems)
    _compare(held, place.path, model, encoder, found)
    found.lost += found.problems[known:]
    return found


def _served(
    snapshot: ServedSnapshot, found: Findings
) -> Iterator[tuple[Record, Document, list[tuple[Row, Part]]]]:
    """Every document on a server that is what was written, with its passages."""
    for number in snapshot.session.numbers(()):
        try:
            record = snapshot.record(number)
            document, rows = snapshot.document(record), snapshot.passages(record, None)
            if not _are_sound([part for _, part in rows]):
                raise snapshot.damaged(Words("the vectors of {!r} are none", record.source))
            yield record, document, rows
        except DamageError as error:
            found.lose(str(error))


def _mend_served(place: Served) -> None:
    """Put those documents anew that are found by what they are not, and count all again."""
    with place.exclusive():
        snapshot = place.snapshot()
        derived, wrong = Derived(snapshot), list[tuple[Document, list[Part]]]()
        for record, document, rows in _served(snapshot, Findings()):
            if not derived.follows(record, document, [row for row, _ in rows]):
                wrong.append((document, [part for _, part in rows]))
            if len(wrong) == BATCH:
                _put_again(place, wrong)
        _put_again(place, wrong)
        snapshot = place.snapshot()
        derived = Derived(snapshot)
        for record, document, rows in _served(snapshot, Findings()):
            derived.follows(record, document, [row for row, _ in rows])
        with place.writing() as writer:
            writer.recount(derived.uncounted())


def _put_again(place: Served, wrong: list[tuple[Document, list[Part]]]) -> None:
    if not wrong:
        return
    with place.writing() as writer:
        for document, parts in wrong:
            passages = [part.passage(document) for part in parts]
            vectors = np.asarray([part.vector for part in parts], np.float16)
            writer.put(document, passages, vectors, [part.sentences for part in parts])
    wrong.clear()


def _compare(
    held: dict[str, str],
    where: Path | str,
    model: str | None,
    encoder: Encoder | None,
    found: Findings,
) -> None:
    """Hold the encoder against the manifest."""
    try:
        manifest.check_encoder(held, encoder or _encoder(held, model), where)
    except MismatchError as error:
        found.problems.append(str(error))
    except ModelError as error:
        found.notes.append(f"its encoder was not compared: {error}")


def _open(folder: Path) -> Database:
    """Raises InputError where there is none, or one that a newer Beleg made: not damaged."""
    place = Local(folder)
    if not place.exists():
        raise missing(place)
    with suppress(DamageError):
        manifest.check_version(folder)
    return Database(folder, strict=False)


def _clean(folder: Path) -> None:
    """Remove what an interrupted repair left, and what is made anew of an index."""
    large.remove(folder)
    shutil.rmtree(folder / WORK, ignore_errors=True)


def _encoder(held: dict[str, str], model: str | None) -> Encoder:
    name = model or held.get("encoder", BUNDLED_NAME)
    return SentenceTransformerEncoder(None if name == BUNDLED_NAME else name)


# --- what is left ---


def _salvage(database: Database, found: Findings) -> Iterator[tuple[Document, list[Part]]]:
    """Every document that is what was written, with its passages, or none if they are not."""
    try:
        snapshot = database.snapshot()
    except DamageError as error:
        found.lose(str(error))
        return
    if (schema := snapshot.schema()) < SCHEMA:
        found.problems.append(
            f"{database.name} is of version {schema}, this Beleg writes version {SCHEMA}"
        )
        yield from ((document, []) for document in _earlier(snapshot, found))
        return
    found.problems += _inner_problems(snapshot)
    with suppress(DamageError):
        missing, wrong = database.compare()
        if wrong and missing:
            found.lose(str(snapshot.damaged(wrong)))
        elif wrong:
            found.problems.append(str(snapshot.damaged(wrong)))
            found.notes.append("whether its latest changes are there cannot be told")
    digest, unread = 0, 0
    for number in _numbers(snapshot, "documents", "id"):
        try:
            record = snapshot.record(number)
            digest = total([record.seal], digest)
            document = snapshot.document(record)
        except DamageError as error:
            found.lose(str(error))
            unread += 1
            continue
        last = record.first + record.passages - 1
        parts: list[Part] = []
        try:
            parts = list(snapshot.parts("WHERE p.id BETWEEN ? AND ?", record.first, last))
            snapshot.check_parts(record, parts)
            if not _are_sound(parts):  # before it was seen to when they were written
                raise snapshot.damaged(Words("the vectors of {!r} are none", record.source))
        except DamageError as error:
            found.problems.append(str(error))
            parts = []
        found.documents += 1
        found.passages += record.passages
        yield document, parts
    try:
        state = snapshot.state()
    except DamageError:
        found.lose(f"{database.name} does not tell how many documents there were")
        return
    if (gone := state.documents - found.documents - unread) > 0:
        found.lose(f"{database.name}: {gone} of {state.documents} documents are gone")
    elif not unread and (state.passages, state.digest) != (found.passages, digest):
        found.problems.append(str(snapshot.damaged(Words("its parts do not add up"))))


def _are_sound(parts: list[Part]) -> bool:
    found = [vectors for part in parts for vectors in (part.vector[None], part.sentences)]
    return not found or are_sound(np.concatenate(found))


def _inner_problems(snapshot: Snapshot) -> Iterator[str]:
    """What the manifest, the state and SQLite itself find wrong."""
    for look in (snapshot.manifest, snapshot.state):
        try:
            if not look():
                yield str(snapshot.damaged(Words("it has no manifest")))
        except DamageError as error:
            yield str(error)
    try:
        if list(snapshot.rows(LAYOUT)) != _layout():  # by which a vacuum would make the tables
            yield str(snapshot.damaged(Words("its tables are not those of an index")))
        for (line,) in snapshot.rows("PRAGMA integrity_check(5)"):
            if line != "ok":
                yield str(snapshot.damaged(Words("{}", " ".join(str(line).split()))))
    except DamageError as error:
        yield str(error)


@cache
def _layout() -> list[tuple[str, ...]]:
    """What LAYOUT gives of an index that is whole."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        return list(db.execute(LAYOUT))


def _numbers(snapshot: Snapshot, table: str, column: str) -> list[int]:
    """The numbers of a table's rows, from both ends of it as far as it can be read, and all
    those between."""
    ends: list[list[int]] = []
    for order in ("ASC", "DESC"):
        ends.append([])
        with suppress(DamageError):
            for (number,) in snapshot.rows(f"SELECT {column} FROM {table} ORDER BY 1 {order}"):
                ends[-1].append(number)
    low, high = ends
    if low and high and low[-1] < high[-1] <= low[-1] + GAP:
        low += range(low[-1] + 1, high[-1])
    return sorted({number for number in (*low, *high) if isinstance(number, int)})


def _earlier(snapshot: Snapshot, found: Findings) -> Iterator[Document]:
    """The documents of an index of version 2 or 1, which had no seals but their ids."""
    columns = "id, source, path, title, language, pages, text"
    try:
        for key, source, path, title, language, pages, text in snapshot.rows(
            f"SELECT {columns} FROM documents ORDER BY rowid"
        ):
            document = Document(text, source, title, language, tuple(json.loads(pages)), path)
            if document.id != key:
                found.lose(f"the text of {source!r} is not what was written")
                continue
            found.documents += 1
            yield document
    except (DamageError, TypeError, ValueError) as error:
        found.lose(str(error))


# --- a new one ---


def _rebuild(folder: Path, found: Findings, model: str | None, encoder: Encoder | None) -> None:
    """Put a new file in the place of a damaged one."""
    work = folder / WORK
    database = _best(folder, work / "carved", found)
    held, keep = _manifest(database)
    encoder = encoder or _encoder(held, model)
    try:
        if keep:
            manifest.check_encoder(held, encoder, folder)
    except MismatchError:
        keep = False
    except ModelError:  # perhaps nothing needs to be embedded
        keep = model is None
    work.mkdir(exist_ok=True)
    index, count = read_count(folder) or (held.get("index", ""), 0)
    made = held if keep else manifest.describe(encoder)
    if not keep and index:  # it is the same index still
        made["index"] = index
    with suppress(DamageError):
        count = max(count, database.snapshot().state().generation)
    Database.create(work, made, count + 1)
    found.documents, found.passages = _fill(database, work, encoder, keep)
    database.close()
    if not replace(folder, work):
        found.notes.append(str(_held(database)))
    write_count(folder, made["index"], count + 1)


def _best(folder: Path, carved: Path, found: Findings) -> Database:
    """What a repair reads: the index, or if more is left of it without SQLite's help, that.

    Raises:
        InputError: nothing is left.
    """
    database = _open(folder)
    if found.lost:
        more = Findings()
        carved.mkdir(parents=True)
        carve(folder, carved)
        other = Database(carved, strict=False)
        for _ in _salvage(other, more):
            pass
        if more.documents > found.documents:
            found.documents, found.lost = more.documents, more.lost
            return other
    if found.lost and not found.documents:
        raise InputError("{}: nothing of it can be brought back; make a new index", database.name)
    return database


def _fill(database: Database, work: Path, encoder: Encoder, keep: bool) -> tuple[int, int]:
    """Copy what is whole, embed the rest; the numbers of documents and passages."""
    index, new = PassageIndex(work, encoder=encoder), Database(work)
    left = _salvage(database, Findings())
    while some := list(islice(left, BATCH)):
        with new.exclusive(), new.writing() as writer:
            for document, parts in some:
                if keep and parts:
                    passages = [part.passage(document) for part in parts]
                    vectors = np.stack([part.vector for part in parts])
                    writer.put(document, passages, vectors, [part.sentences for part in parts])
        index.add(document for document, parts in some if not (keep and parts))
    state = new.snapshot().state()
    for one in (index, new):
        one.close()
    return state.documents, state.passages


def _manifest(database: Database) -> tuple[dict[str, str], bool]:
    """The manifest as far as it can be read, and whether it is what was written."""
    try:
        snapshot = database.snapshot()
        with suppress(DamageError):
            held = snapshot.manifest()
            return held, held.get("schema") == str(SCHEMA)
        return dict(snapshot.rows("SELECT key, value FROM manifest")), False
    except (DamageError, ValueError, TypeError):
        return {}, False

"""PostgreSQL with pgvector: rows in tables, vectors in HNSW indexes, terms in tsvectors.

Readers have PostgreSQL's own snapshots, so a question sees one state; a writer has one
transaction, and an advisory lock keeps out a second one.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from index import lock
from index.errors import InputError, Words
from index.filters import Among
from index.records import Record, State, seal
from index.served import New, Row, damaged

NAME = "beleg"
"""The schema that an index is in, if the address names no other (``…/database#name``)."""
EXACT = 10_000
"""Up to so many vectors they are all compared; more get an HNSW index."""
BEAM = 200
"""How widely HNSW searches."""
BUDGET = 5_000
"""About so many passages are looked at for the words they hold, those with rare words first."""
ROOM = "512MB"
"""The memory that an HNSW index may be built in; with less than it needs that takes much longer."""
IDLE = 4
"""So many connections are kept open between questions."""
PATIENCE = 10
"""So many seconds a connection may take to come about."""
LEXEMES, TIMES = 20_000, 255
"""A tsvector holds not much more."""

_TABLES = """
CREATE TABLE manifest (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE state (
  incarnation text NOT NULL, generation bigint NOT NULL, documents bigint NOT NULL,
  passages bigint NOT NULL, digest bigint NOT NULL, last_document bigint NOT NULL,
  last_passage bigint NOT NULL, last_removed bigint NOT NULL, seal bytea NOT NULL);
CREATE TABLE documents (
  id bigint PRIMARY KEY, key text NOT NULL UNIQUE, source text NOT NULL UNIQUE,
  path text NOT NULL, title text NOT NULL, language text NOT NULL, pages text NOT NULL,
  raw text NOT NULL, metadata text NOT NULL, whole integer NOT NULL, hash text NOT NULL,
  first bigint NOT NULL, passages bigint NOT NULL, digest bigint NOT NULL,
  seal bytea NOT NULL, text bytea NOT NULL, labels text[] NOT NULL);
CREATE INDEX ON documents (path);
CREATE INDEX ON documents (hash);
CREATE INDEX ON documents (language);
CREATE INDEX ON documents USING gin (labels);
CREATE TABLE passages (
  id bigint PRIMARY KEY, document bigint NOT NULL, start integer NOT NULL, "end" integer NOT NULL,
  spans bytea NOT NULL, vector {vector} NOT NULL, seal bytea NOT NULL, seal_too bytea NOT NULL,
  language text NOT NULL, length integer NOT NULL, terms tsvector NOT NULL);
CREATE INDEX ON passages (document);
CREATE INDEX ON passages USING gin (terms);
CREATE TABLE sentences (
  passage bigint NOT NULL, number integer NOT NULL, document bigint NOT NULL,
  vector {vector} NOT NULL, PRIMARY KEY (passage, number));
CREATE INDEX ON sentences (document);
CREATE TABLE counts (name text COLLATE "C" PRIMARY KEY, passages bigint NOT NULL);
"""


class Postgres:
    """A schema of a database (see index.served.Engine).

    Raises:
        InputError: psycopg and pgvector are not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            import pgvector.psycopg  # noqa: F401
            import psycopg  # noqa: F401
        except ImportError:
            raise InputError(
                "an index on PostgreSQL takes the extra 'postgres': pip install 'beleg[postgres]'"
            ) from None
        parts = urlsplit(address)
        self._url = urlunsplit(parts._replace(fragment=""))
        self._name = parts.fragment or NAME
        if not self._name.replace("_", "a").isalnum() or len(self._name) > 60:
            raise InputError("{!r} cannot be the name of an index: letters and digits", self._name)
        hidden = parts.netloc.rpartition("@")
        user = hidden[0].partition(":")[0]
        options = [one for one in parts.query.split("&") if "password" not in unquote(one)]
        shown = parts._replace(netloc=f"{user}{hidden[1]}{hidden[2]}", query="&".join(options))
        self.address = urlunsplit(shown)
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        weakref.finalize(self, _close, self._idle)
        self._writer: Any = None
        self._exclusive = threading.Lock()
        self._closed = False
        self.kind = ""
        """The type of vectors, once it is known."""
        self.iterates = False
        """Whether HNSW goes on until it has found enough that a filter lets through."""

    @contextmanager
    def told(self) -> Iterator[None]:
        """What psycopg complains of becomes one line."""
        import psycopg

        try:
            yield
        except (psycopg.Error, UnicodeError) as error:
            what = " ".join(str(error).split()) or type(error).__name__
            password = urlsplit(self._url).password
            what = what.replace(password, "…") if password else what
            raise InputError("the index in {} cannot be used: {}", self.address, what) from None

    def _connect(self) -> Any:
        import psycopg

        with self.told():
            return psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=PATIENCE,
                application_name=f"beleg {socket.gethostname()}:{os.getpid()}",
            )

    def _prepare(self, connection: Any) -> Any:
        """For one that is about to work on the index's tables."""
        from pgvector.psycopg import register_vector
        from psycopg.adapt import Dumper
        from psycopg.pq import Format

        class TermsDumper(Dumper):
            """Gives terms to PostgreSQL as it sends and takes a tsvector itself."""

            format = Format.BINARY
            oid = connection.adapters.types["tsvector"].oid

            def dump(self, obj: Any) -> bytes:
                return bytes(obj.data)

        with self.told():
            connection.execute(f'SET search_path TO "{self._name}", public')
            connection.execute(f"SET hnsw.ef_search = {BEAM}")
            register_vector(connection)
            connection.adapters.register_dumper(_Terms, TermsDumper)
            version = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
            if not self.kind:
                ((found,),) = connection.execute(version).fetchall()
                self.iterates = [int(n) for n in found.split(".")[:2]] >= [0, 8]
                sql = (
                    "SELECT format_type(atttypid, NULL) FROM pg_attribute"
                    " WHERE attrelid = 'passages'::regclass AND attname = 'vector'"
                )
                ((self.kind,),) = connection.execute(sql).fetchall()
            if self.iterates:
                connection.execute("SET hnsw.iterative_scan = relaxed_order")
        return connection

    def exists(self) -> bool:
        with self._connect() as connection, self.told():
            found = connection.execute("SELECT to_regclass(%s)", [f'"{self._name}".state'])
            return bool(found.fetchone() != (None,))

    def create(self, made: Mapping[str, str], state: State) -> None:
        with self._connect() as db, self.told(), db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"beleg {self._name}"])
            found = db.execute("SELECT to_regclass(%s)", [f'"{self._name}".state'])
            if found.fetchone() != (None,):
                return
            db.execute("CREATE EXTENSION IF NOT EXISTS vector")
            db.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._name}"')
            db.execute(f'SET LOCAL search_path TO "{self._name}", public')
            half = db.execute("SELECT to_regtype('halfvec')").fetchone() != (None,)
            kind = f"{'halfvec' if half else 'vector'}({int(made['dimension'])})"
            db.execute(_TABLES.format(vector=kind))
            marks = ", ".join(["%s"] * (len(state) + 1))
            db.execute(f"INSERT INTO state VALUES ({marks})", [*state, seal(*state)])
            with db.cursor() as cursor:
                cursor.executemany("INSERT INTO manifest VALUES (%s, %s)", list(made.items()))

    # --- reading ---

    def reading(self) -> PostgresSession:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            with suppress(InputError):
                return self._begin(connection)
            connection.close()  # the server has gone, and perhaps come again
        return self._begin(self._prepare(self._connect()))

    def _begin(self, connection: Any) -> PostgresSession:
        with self.told():
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        session = PostgresSession(connection, self)
        weakref.finalize(session, self._release, connection)
        session.state()  # now it is fixed
        return session

    def _release(self, connection: Any) -> None:
        with suppress(Exception):
            connection.rollback()
            with self._lock:
                if not self._closed and len(self._idle) < IDLE:
                    self._idle.append(connection)
                    return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            _close(self._idle)

    # --- writing ---

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if not self._exclusive.acquire(timeout=lock.WAIT):
            raise lock.busy(self.address, Words("another thread of this process"), lock.WAIT)
        try:
            self._writer = self._prepare(self._connect())
            self._wait(self._writer)
            yield
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._exclusive.release()

    def _wait(self, connection: Any) -> None:
        deadline = time.monotonic() + lock.WAIT
        key = f"beleg {self._name} writer"
        with self.told():
            while True:
                asked = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [key])
                if asked.fetchone() == (True,):
                    return
                if time.monotonic() > deadline:
                    who = connection.execute(
                        "SELECT a.application_name, a.backend_start FROM pg_locks l"
                        " JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
                        " AND l.granted AND l.objid = hashtext(%s)::bigint & 4294967295",
                        [key],
                    ).fetchone()
                    name, since = who or ("another process", "a while")
                    raise lock.busy(
                        self.address, f"{name} since {str(since).split('.')[0]}", lock.WAIT
                    )
                time.sleep(0.1)

    @contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        with self.told(), self._writer.transaction():
            yield PostgresSession(self._writer, self)

    def gather(self) -> None:
        session = PostgresSession(self._writer, self)
        with self.told(), self._writer.transaction():
            self._writer.execute(f"SET LOCAL maintenance_work_mem = '{ROOM}'")
            for table in ("passages", "sentences"):
                session.index(table)


class _Terms(NamedTuple):
    """A tsvector, as PostgreSQL sends it."""

    data: bytes


class PostgresSession:
    """What is done within one transaction (see index.served.Session)."""

    sure = TIMES

    def __init__(self, connection: Any, engine: Postgres) -> None:
        self._db = connection
        self.told = engine.told
        self._kind = engine.kind
        self._iterates = engine.iterates
        self._address = engine.address

    def _rows(self, sql: str, *values: object, binary: bool = False) -> list[tuple[Any, ...]]:
        with self.told():
            found = self._db.execute(sql, values or None, binary=binary)
            return cast(list[tuple[Any, ...]], found.fetchall())

    @cached_property
    def _state(self) -> State:
        found = self._rows(f"SELECT {', '.join(State._fields)}, seal FROM state")
        if len(found) != 1 or seal(*found[0][:-1]) != bytes(found[0][-1]):
            raise damaged(self._address, Words("its state is not what was written"))
        return State(*found[0][:-1])

    def state(self) -> State:
        return self._state

    def manifest(self) -> dict[str, str]:
        return dict(self._rows("SELECT key, value FROM manifest ORDER BY key"))

    def records(self, among: Among = (), **equal: object) -> Iterator[Record]:
        found, values = _where("id", among)
        # A text with this sign cannot be there.
        if any(isinstance(value, str) and "\0" in value for value in equal.values()):
            return
        for column, value in equal.items():
            found += f" AND {column} = {'ANY(%s)' if isinstance(value, list) else '%s'}"
        fields = ", ".join(Record._fields)
        rows = self._rows(f"SELECT {fields} FROM documents WHERE {found} ORDER BY id",
                          *values, *equal.values())  # fmt: skip
        for row in rows:
            yield Record(*row)

    def stale(self) -> bool:
        return False

    def texts(self, documents: Collection[int]) -> dict[int, str]:
        sql = "SELECT id, text FROM documents WHERE id = ANY(%s)"
        rows = self._rows(sql, list(documents))
        return {number: bytes(text).decode("utf-8", "replace") for number, text in rows}

    def languages(self, among: Among) -> Collection[str]:
        if among:
            where, values = _where("id", among)
            sql = f"SELECT DISTINCT language FROM documents WHERE {where}"
            return [one for (one,) in self._rows(sql, *values)]
        rows = self._rows(  # from one to the next in the index, however many documents
            "WITH RECURSIVE found AS (SELECT min(language) AS one FROM documents UNION ALL"
            " SELECT (SELECT min(language) FROM documents WHERE language > found.one) FROM found"
            " WHERE found.one IS NOT NULL) SELECT one FROM found WHERE one IS NOT NULL"
        )
        return [one for (one,) in rows]

    def numbers(self, among: Among) -> list[int]:
        where, values = _where("id", among)
        rows = self._rows(f"SELECT id FROM documents WHERE {where} ORDER BY 1", *values)
        return [one for (one,) in rows]

    def ids(self, among: Among) -> list[int]:
        where, values = _where("document", among)
        rows = self._rows(f"SELECT id FROM passages WHERE {where} ORDER BY 1", *values)
        return [one for (one,) in rows]

    def nearest(self, vector: NDArray[np.float32], k: int, among: Among) -> Collection[int]:
        from pgvector import Vector

        found: set[int] = set()
        for table, column, many in (("passages", "id", k), ("sentences", "passage", 2 * k)):
            chosen, where, values = "", "", list[object]()
            if among and self._iterates and self._held(among) > EXACT:
                # One by one, so that the index is used.
                labels = f"(SELECT d.labels FROM documents d WHERE d.id = {table}.document)"
                where = f"WHERE {' AND '.join([f'{labels} && %s'] * len(among))}"
                values = [list(one) for one in among]
            elif among:  # all of them are compared: HNSW would find too few of those
                confined, values = _where("document", among)
                chosen = f"WITH chosen AS MATERIALIZED (SELECT * FROM {table} WHERE {confined})"
            rows = self._rows(
                f"{chosen} SELECT {column} FROM {'chosen' if chosen else table} {where}"
                f" ORDER BY vector <#> %s::{self._kind} LIMIT %s",
                *(*values, Vector(vector), many),
            )
            found |= {number for (number,) in rows}
        return found

    def _held(self, among: Among) -> int:
        """How many passages a search is confined to."""
        where, values = _where("id", among)
        sql = f"SELECT coalesce(sum(passages), 0)::bigint FROM documents WHERE {where}"
        ((count,),) = self._rows(sql, *values)
        return int(count)

    def holding(
        self, question: Sequence[Mapping[str, float]], counts: Mapping[str, int], k: int,
        among: Among,
    ) -> Collection[int]:  # fmt: skip
        """Those with most of the rarer words are found first, of these the best by all words."""
        where, values = _where("document", among)
        found, rare, looked_at = list[str](), list[object](), 0
        pairs = [(term, n) for n, choices in enumerate(question) for term in choices]
        for term, number in sorted(pairs, key=lambda pair: (counts[pair[0]], pair)):
            if found and looked_at + counts[term] > BUDGET:
                break
            looked_at += counts[term]
            found.append(
                f"SELECT id, length, {number} AS word, {question[number][term]:.6f} AS worth"
                f" FROM passages WHERE {where} AND terms @@ %s::tsquery"
            )
            rare += [*values, _quoted(term)]
        worth, held = [], []
        for choices in question:
            if choices:
                cases = [f"CASE WHEN terms @@ %s::tsquery THEN {w:.6f} ELSE 0 END"
                         for w in choices.values()]  # fmt: skip
                worth.append(f"greatest({', '.join(cases)})")
                held += [_quoted(term) for term in choices]
        query = " | ".join(_quoted(term) for term, _ in pairs)
        rows = self._rows(
            f"WITH held AS ({' UNION ALL '.join(found)}),"
            " best AS (SELECT id, length, word, max(worth) AS worth FROM held GROUP BY 1, 2, 3),"
            " few AS (SELECT id FROM best GROUP BY id, length"
            f" ORDER BY sum(worth) DESC, length LIMIT {10 * k})"
            f" SELECT id FROM few JOIN passages USING (id) ORDER BY {' + '.join(worth)} DESC,"
            " ts_rank(terms, %s::tsquery, 1) DESC, id LIMIT %s",
            *(*rare, *held, query, 2 * k),
        )
        return [number for (number,) in rows]

    def rows(self, ids: Sequence[int], terms: Collection[str] | None) -> Iterator[Row]:
        wanted = list(ids)
        below = dict(
            self._rows(
                f"SELECT passage, string_agg({self._kind}_send(vector), ''::bytea ORDER BY number)"
                " FROM sentences WHERE passage = ANY(%s) GROUP BY passage",
                wanted,
                binary=True,
            )
        )
        counts: dict[int, dict[str, int]] = {}
        if terms is None or terms:
            these = "" if terms is None else "AND t.lexeme = ANY(%s)"
            for number, term, count in self._rows(
                "SELECT p.id, t.lexeme, cardinality(t.positions) FROM passages p"
                f" CROSS JOIN unnest(p.terms) t WHERE p.id = ANY(%s) {these}",
                *((wanted,) if terms is None else (wanted, list(terms))),
            ):
                counts.setdefault(number, {})[term] = count
        for row in self._rows(
            'SELECT id, document, start, "end", spans, vector, seal, seal_too, language, length'
            " FROM passages WHERE id = ANY(%s) ORDER BY id",
            wanted,
            binary=True,
        ):
            number, vector = row[0], _array(row[5])
            inner = self._vectors(below.get(number, b""), len(vector))
            found = (
                *(*row[:4], bytes(row[4]), vector, bytes(row[6]), inner, bytes(row[7])),
                *(row[8], row[9], counts.get(number, {})),
            )
            yield Row(*found)

    def _vectors(self, sent: bytes, dimension: int) -> NDArray[np.float16]:
        """Vectors as PostgreSQL sends them, each after four bytes that say how long it is."""
        kind = np.dtype(">f2" if self._kind == "halfvec" else ">f4")
        rows = np.frombuffer(sent, np.uint8).reshape(-1, 4 + dimension * kind.itemsize)[:, 4:]
        return np.ascontiguousarray(rows).view(kind).astype(np.float16)

    def counts(self, names: Collection[str]) -> dict[str, int]:
        asked = [name for name in names if "\0" not in name]
        return dict(self._rows("SELECT name, passages FROM counts WHERE name = ANY(%s)", asked))

    # --- what follows from the texts ---

    def name(self, term: str) -> str:
        return term

    def every_count(self) -> dict[str, int]:
        return dict(self._rows("SELECT name, passages FROM counts"))

    def labels(self, record: Record) -> list[Collection[str]]:
        """Sentences say which document they are of, and so have its labels."""
        last = record.first + record.passages - 1
        sql = (
            "SELECT labels FROM documents WHERE id = %s UNION ALL"
            " SELECT DISTINCT d.labels FROM sentences s LEFT JOIN documents d ON d.id = s.document"
            " WHERE s.passage BETWEEN %s AND %s"
        )
        return [found or [] for (found,) in self._rows(sql, record.id, record.first, last)]

    # --- within a transaction that writes ---

    def keeps(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {term: min(n, TIMES) for term, n in islice(counts.items(), LEXEMES)}

    def insert(self, new: Sequence[New]) -> None:
        with self.told(), self._db.cursor() as cursor:
            marks = ", ".join(["%s"] * (len(Record._fields) + 2))
            cursor.executemany(
                f"INSERT INTO documents VALUES ({marks})",
                [(*one.record, one.text.encode("utf-8"), list(one.labels)) for one in new],
            )
            rows = [row for one in new for row in one.rows]
            whole, small = ("int8", "int8"), ("int4", "int4")
            with cursor.copy("COPY passages FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types((
                    *whole, *small, "bytea", self._kind, "bytea", "bytea",
                    "text", "int4", "tsvector",
                ))  # fmt: skip
                for row in rows:
                    copy.write_row((
                        *row[:5], self._vector(row.vector), row.seal, row.seal_too,
                        row.language, row.length, _Terms(_tsvector(row.counts)),
                    ))  # fmt: skip
            with cursor.copy("COPY sentences FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(("int8", "int4", "int8", self._kind))
                for row in rows:
                    for number, vector in enumerate(row.sentences):
                        copy.write_row((row.id, number, row.document, self._vector(vector)))

    def _vector(self, vector: NDArray[np.float16]) -> Any:
        from pgvector import HalfVector, Vector

        return (HalfVector if self._kind == "halfvec" else Vector)(vector)

    def delete(self, record: Record) -> None:
        with self.told():
            for where in (
                "sentences WHERE passage IN (SELECT id FROM passages WHERE document = %s)",
                "passages WHERE document = %s",
                "documents WHERE id = %s",
            ):
                self._db.execute(f"DELETE FROM {where}", [record.id])

    def count(self, change: Mapping[str, int]) -> None:
        with self.told():
            self._db.execute(
                "INSERT INTO counts SELECT * FROM unnest(%s::text[], %s::bigint[])"
                " ON CONFLICT (name) DO UPDATE SET passages = counts.passages + excluded.passages",
                [list(change), list(change.values())],
            )
            self._db.execute(
                "DELETE FROM counts WHERE passages <= 0 AND name = ANY(%s)",
                [[name for name, n in change.items() if n < 0]],
            )

    def finish(self, state: State) -> None:
        with self.told():
            fields = ", ".join(f"{field} = %s" for field in (*State._fields, "seal"))
            self._db.execute(f"UPDATE state SET {fields}", [*state, seal(*state)])

    def index(self, table: str) -> None:
        """Give a table of many vectors an HNSW index."""
        name = f"{table}_nearest"
        if self._rows("SELECT 1 FROM pg_indexes WHERE schemaname = current_schema()"
                      " AND indexname = %s", name):  # fmt: skip
            return
        few = f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {EXACT + 1}) few"
        if self._rows(few)[0][0] > EXACT:
            self._db.execute(
                f"CREATE INDEX {name} ON {table} USING hnsw (vector {self._kind}_ip_ops)"
            )


def _close(idle: list[Any]) -> None:
    while idle:
        idle.pop().close()


def _where(column: str, among: Among) -> tuple[str, list[object]]:
    """What confines a search to some documents, and its values."""
    if not among:
        return "true", []
    labels = " AND ".join(["labels && %s"] * len(among))
    found = labels if column == "id" else f"{column} IN (SELECT id FROM documents WHERE {labels})"
    return found, [list(one) for one in among]


def _array(vector: Any) -> NDArray[np.float16]:
    return np.asarray(vector.to_numpy(), np.float16)


def _quoted(term: str) -> str:
    """A term as a lexeme, whatever signs are in it."""
    inner = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{inner}'"


def _tsvector(counts: Mapping[str, int]) -> bytes:
    """Terms with as many positions as they occur, of which PostgreSQL only counts the number."""
    some = sorted((term.encode("utf-8"), n) for term, n in counts.items())
    found = bytearray(struct.pack("!i", len(some)))
    for term, n in some:
        found += term + struct.pack(f"!xH{n}H", n, *range(1, n + 1))
    return bytes(found)

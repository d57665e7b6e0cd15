"""Milvus: rows in collections, vectors in its indexes, terms under its own BM25 function.

Milvus has no transactions, so a change becomes visible by one row, the state: documents with
higher numbers than it names are not there yet, those that it calls gone are not there any more.
What was gone for a while is deleted by the next writer, and what a killed one left is undone.
One writer at a time holds a lease, which it renews; who says nothing for long has lost it.

Terms are kept as digests: so each analyzer leaves them as they are, in a server and in the
engine in a folder (milvus-lite) alike.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from index import keywords, lock
from index.errors import InputError, Words
from index.filters import Among
from index.records import Record, State, seal
from index.served import New, Row, damaged

NAME = "beleg"
"""What the collections' names begin with, if the address says nothing else (``…#name``)."""
PATIENCE = 10
"""So many seconds a connection may take to come about."""
LEASE = 20.0
"""So many seconds a writer may say nothing before another one takes over."""
SETTLE = 0.5
"""So many seconds two writers that begin at once have to see which of them was the last."""
GRACE = 60.0
"""So many seconds a question may go on reading what has been removed."""
CHUNK = 500
"""So many rows are asked for, or written, at a time."""
PLACES = 20
"""The bits of a sentence's key that say which of its passage it is; the others name that."""
SPAN = 16
"""The digits that stand for a sentence's start and end."""
PIECE = 30_000
"""So many letters of a value are in one row."""
FRESH = 2_000
"""So many rows may be searched one by one, in a folder."""
TRIES = 5
"""So often a value is read again that was changed meanwhile."""
TEXT = 16_000
"""So many characters of a document's text are in one row: Milvus takes 65,535 bytes."""
TERMS = 3_600
"""So many terms of a passage are looked up; only a text that was added whole has more."""
DIGEST = "\ue000"
"""Stands before a term's digest where the term itself is not known any more."""
WIDEST = 65_535
MANY = 4_096
"""A document's labels; Milvus takes no more."""
BYTES = "spans seal seal_too language"
TABLES = ("documents", "passages", "sentences", "values")

T = TypeVar("T")

_live: set[str] = set()
"""The leases that writers of this process hold."""


class Milvus:
    """Collections of a database (see index.served.Engine).

    Raises:
        InputError: pymilvus is not installed, or for a folder milvus-lite.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.name = parts.fragment or NAME
        if not self.name.replace("_", "a").isalnum() or not self.name.isascii():
            raise InputError("{!r} cannot be the name of an index: letters and digits", self.name)
        self.folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        if self.folder is not None and self.folder.suffix != ".db":
            raise InputError("{}: Milvus in a folder takes a name that ends with .db", self.folder)
        user, at, host = parts.netloc.rpartition("@")
        self._token = unquote(user)
        self._url = urlunsplit((parts.scheme, host, "", "", ""))
        self._base = parts.path.strip("/")
        self.address = "milvus+" + urlunsplit(
            parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}")
        )
        if self.folder is not None:  # urlunsplit leaves out what stands for no host
            end = f"#{parts.fragment}" if parts.fragment else ""
            self.address = f"milvus+file://{parts.path}{end}"
        try:
            import pymilvus  # noqa: F401

            if self.folder is not None:
                import milvus_lite  # noqa: F401
        except ImportError:
            raise InputError(
                "an index on Milvus takes the extra 'milvus': pip install 'beleg[milvus]'"
            ) from None
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # errors are told as errors
        if self.folder is not None:  # its engine has no clock, of which its own server complains
            logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
        self._exclusive = threading.Lock()
        self._lease = ""
        self.fresh = 0
        """So many rows were added lately."""

    @cached_property
    def _client(self) -> Any:
        from pymilvus import MilvusClient

        with self.told():
            if self.folder is not None:
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                # Its server hangs up on a client that asks every 10 s whether it is still there.
                calm = {"grpc.keepalive_time_ms": 2**31 - 1}
                return MilvusClient(str(self.folder), timeout=PATIENCE, grpc_options=calm)
            return MilvusClient(self._url, token=self._token, db_name=self._base, timeout=PATIENCE)

    @contextmanager
    def told(self) -> Iterator[None]:
        """What pymilvus complains of becomes one line."""
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, RpcError, ConnectionError, OSError) as error:
            what = " ".join(str(getattr(error, "message", "") or error).split())
            _, _, password = self._token.partition(":")
            what = what.replace(password, "…") if password else what
            if what.startswith("Open local milvus failed"):
                what = "another process has it open, or Milvus cannot read it"
            raise InputError("the index in {} cannot be used: {}", self.address, what) from None

    def call(self, verb: str, table: str, *values: Any, **options: Any) -> Any:
        with self.told():
            return getattr(self._client, verb)(f"{self.name}_{table}", *values, **options)

    def exists(self) -> bool:
        if self.folder is not None and not self.folder.exists():
            return False
        if not all(self.call("has_collection", table) for table in TABLES):
            return False
        for table in TABLES:
            self.call("load_collection", table)
        return self.value("state") is not None

    def create(self, made: Mapping[str, str], state: State) -> None:
        """What another one has made, or a killed one has begun, is taken as it is."""
        from pymilvus import DataType, Function, FunctionType

        number, words, vector = DataType.INT64, DataType.VARCHAR, DataType.FLOAT_VECTOR
        dimension = int(made["dimension"])
        exact = self.folder is not None

        def table(name: str, key: str, numbers: str, texts: str, size: int) -> None:
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            indexes = self._client.prepare_index_params()
            if key == "id":
                schema.add_field(key, number, is_primary=True)
            else:
                schema.add_field(key, words, is_primary=True, max_length=128)
            for field in numbers.split():
                schema.add_field(field, number)
            for field in texts.split():
                schema.add_field(field, words, max_length=WIDEST)
            schema.add_field("vector", vector, dim=size)  # no collection goes without one
            kind = "FLAT" if exact or size == 2 else "AUTOINDEX"
            indexes.add_index("vector", index_type=kind, metric_type="IP")
            if name != "values":
                options = {"element_type": words, "max_capacity": MANY, "max_length": 32}
                schema.add_field("labels", DataType.ARRAY, **options)
                if not exact:
                    indexes.add_index("labels", index_type="INVERTED")
            if name == "passages":
                schema.add_field("terms", words, max_length=WIDEST, enable_analyzer=True)
                schema.add_field("bm25", DataType.SPARSE_FLOAT_VECTOR)
                schema.add_function(Function("terms_bm25", FunctionType.BM25, ["terms"], ["bm25"]))
                indexes.add_index(
                    "bm25",
                    index_type="SPARSE_INVERTED_INDEX",
                    metric_type="BM25",
                    params={"bm25_k1": keywords.K1, "bm25_b": keywords.B},
                )
            lookups = {"documents": "key source path hash", "values": "number"}
            for field in lookups.get(name, "document").split() if not exact else ():
                indexes.add_index(field, index_type="INVERTED")
            if not self.call("has_collection", name):
                self.call("create_collection", name, schema=schema, consistency_level="Strong")
            self.call("create_index", name, index_params=indexes)
            self.call("load_collection", name)

        tables = [
            ("documents", "id", "", "key source path raw hash record", 2),
            ("passages", "id", "document start end length", BYTES, dimension),
            ("sentences", "id", "document passage", "", dimension),
            ("values", "name", "number", "text", 2),
        ]
        with self.told(), ThreadPoolExecutor(len(tables)) as pool:
            list(pool.map(lambda one: table(*one), tables))
        with self._leased():
            if self.value("state") is None:
                self.set_value("manifest", dict(made))
                self.set_value("state", {"state": list(state), "gone": [], "languages": {}})

    def value(self, name: str) -> Any:
        """What was set under a name, or None."""
        return self._found(name)[0]

    def _found(self, name: str) -> tuple[Any, list[str]]:
        """What was set, and the rows that it is in, if it is longer than one."""
        for _ in range(TRIES):
            found = self.call("get", "values", ids=[name])
            if not found:
                return None, []
            with self.read(f"its {name}"):
                held = json.loads(found[0]["text"])
                parts, text, sealed = held["parts"], held["text"], held["seal"]
                if parts:
                    rows = self.call("get", "values", ids=parts)
                    texts = {row["name"]: row["text"] for row in rows}
                    if len(texts) < len(parts):
                        continue  # it was changed meanwhile
                    text = "".join(texts[part] for part in parts)
                if seal(text).hex() != sealed:
                    raise ValueError
                return json.loads(text), parts
        raise damaged(self.address, Words("of its {} a part is missing", name))

    @contextmanager
    def read(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError):
            raise damaged(self.address, Words("{} is not what was written", what)) from None

    def set_value(self, name: str, value: Any) -> None:
        """Put a value in the place of what was there, in one step, however long it is."""
        text, parts, (_, old) = json.dumps(value), list[str](), self._found(name)
        sealed = seal(text).hex()
        if len(text) > PIECE:
            pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
            parts = [f"{name}/{uuid.uuid4().hex}/{i}" for i in range(len(pieces))]
            self._put(zip(parts, pieces, strict=True))
            text = ""
        self._put([(name, json.dumps({"parts": parts, "text": text, "seal": sealed}))])
        if old:
            self.call("delete", "values", ids=old)

    def _put(self, texts: Iterable[tuple[str, str]]) -> None:
        rows = [{"name": n, "number": 0, "text": t, "vector": [0.0, 0.0]} for n, t in texts]
        self.call("upsert", "values", rows)

    def reading(self) -> MilvusSession:
        return MilvusSession(self)

    def close(self) -> None:
        if "_client" in self.__dict__:
            self.__dict__.pop("_client").close()

    # --- writing ---

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._leased():
            self._sweep()
            yield

    @contextmanager
    def _leased(self) -> Iterator[None]:
        if not self._exclusive.acquire(timeout=lock.WAIT):
            raise lock.busy(self.address, Words("another thread of this process"), lock.WAIT)
        token, done = uuid.uuid4().hex, threading.Event()
        _live.add(token)
        beat = threading.Thread(target=self._beat, args=(token, done), daemon=True)
        try:
            self._take(token)
            self._lease = token
            beat.start()
            yield
        finally:
            done.set()
            if self._lease == token:
                beat.join()
                self._lease = ""
                with suppress(InputError):  # then it ends by itself
                    if self._holder() == token:
                        self.call("delete", "values", ids=["lease"])
            _live.discard(token)
            self._exclusive.release()

    def _take(self, token: str) -> None:
        """Get the lease: when it is free, or has not been renewed for as long as it lasts, by
        this machine's clock alone."""
        began = since = time.monotonic()
        seen = None
        while True:
            held = self.value("lease")
            if held != seen:
                seen, since = held, time.monotonic()
            # Only one process at a time may open a folder.
            left = held and self.folder is not None and held["token"] not in _live
            if held is None or left or time.monotonic() - since > LEASE:
                self._renew(token)
                time.sleep(SETTLE if self.folder is None else 0.05)
                if self._holder() == token:
                    return
            elif time.monotonic() - began > lock.WAIT:
                raise lock.busy(self.address, held["who"], lock.WAIT)
            time.sleep(0.1)

    def _holder(self) -> str:
        held = self.value("lease")
        return str(held["token"]) if held else ""

    def _renew(self, token: str) -> None:
        who = f"process {os.getpid()} on {socket.gethostname()}"
        self.set_value("lease", {"token": token, "who": who, "beat": uuid.uuid4().hex})

    def _beat(self, token: str, done: threading.Event) -> None:
        with suppress(InputError):
            while not done.wait(LEASE / 4) and self._holder() == token:
                self._renew(token)

    def check_lease(self) -> None:
        if self._holder() != self._lease:
            raise InputError(
                "the index in {} was not changed: another writer took over, as this one said"
                " nothing for {:g} seconds",
                self.address,
                LEASE,
            )

    def _sweep(self) -> None:
        """Delete what has been gone for a while, and undo what a killed writer has begun."""
        held, parts = self._found("state")
        state, gone = State(*held["state"]), held["gone"]
        undo, more = self._found("undo")
        if undo and undo["generation"] > state.generation:
            self.set_counts(undo["counts"])
        old = _past(gone)
        for key, tables in (("id", TABLES[:1]), ("document", TABLES[1:3]), ("number", TABLES[3:])):
            for table in tables:
                self.call("delete", table, filter=f"{key} > {state.last_document}")
                for some in _chunks(old, CHUNK):
                    self.call("delete", table, filter=f"{key} in {some}")
        for name, own in (("state", parts), ("undo", more)):
            left_over = f'name like "{name}/%" and name not in {json.dumps(own)}'
            self.call("delete", "values", filter=left_over)
        if old:
            left = set(old)
            self.set_value("state", held | {"gone": [g for g in gone if g[0] not in left]})

    def set_counts(self, counts: Mapping[str, int]) -> None:
        """Note how many passages hold what, under its digest; of nothing there is no row."""
        for some in _chunks(list(counts), CHUNK):
            rows = [
                # Less than nothing, as more than that are the numbers of documents.
                {"name": name, "number": -counts[name], "text": "", "vector": [0.0, 0.0]}
                for name in some
                if counts[name] > 0
            ]
            if rows:
                self.call("upsert", "values", rows)
            if nothing := [name for name in some if counts[name] <= 0]:
                self.call("delete", "values", ids=nothing)

    @contextmanager
    def writing(self) -> Iterator[MilvusSession]:
        self.check_lease()
        if len(_past(self.value("state")["gone"])) > CHUNK:
            self._sweep()
        yield MilvusSession(self)

    def gather(self) -> None:
        """A server does so by itself; in a folder, rows are searched one by one until then."""
        if self.folder is not None and self.fresh > FRESH:
            for table in TABLES:
                self.call("flush", table)
            self.fresh = 0


class MilvusSession:
    """One state (see index.served.Session)."""

    sure = TERMS

    def __init__(self, engine: Milvus) -> None:
        self._engine = engine
        held = engine.value("state")
        self._state = State(*held["state"])
        self._gone: list[tuple[int, float]] = held["gone"]
        self._languages = Counter[str](held["languages"])
        self._numbers = {number for number, _ in self._gone}
        self._hidden = _within(sorted(self._numbers))

    def _there(self, key: str, among: Among = ()) -> str:
        """The filter for rows of documents that are there, and are those."""
        found = [f"{key} <= {self._state.last_document}"]
        found += [f"not ({some.format(key=key)})" for some in self._hidden]
        found += [f"array_contains_any(labels, {json.dumps(sorted(one))})" for one in among]
        return " and ".join(found)

    def _query(self, table: str, where: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Rows in the order of their keys, the first of the fields, however many."""
        pages = self._engine.call(
            "query_iterator", table, batch_size=CHUNK, filter=where, output_fields=list(fields)
        )
        found = []
        with self._engine.told():
            while page := pages.next():
                found += page
            pages.close()
        yield from sorted(found, key=lambda row: row[fields[0]])

    def state(self) -> State:
        return self._state

    def manifest(self) -> dict[str, str]:
        held: dict[str, str] = self._engine.value("manifest")
        return held

    def stale(self) -> bool:
        return State(*self._engine.value("state")["state"]) != self._state

    def records(self, among: Among = (), **equal: object) -> Iterator[Record]:
        if equal.keys() == {"id"} and not among:
            numbers = equal["id"] if isinstance(equal["id"], list) else [equal["id"]]
            rows = self._get("documents", sorted(filter(self._has, numbers)), ["id", "record"])
        else:
            where = [self._there("id", among)]
            for field, value in equal.items():
                several = value if isinstance(value, list) else [value]
                wanted = several if field == "id" else [digest(one) for one in several]
                where.append(f"{field} in {json.dumps(wanted)}")
            rows = self._query("documents", " and ".join(where), ["id", "record"])
        for row in rows:
            with self._engine.read(f"what it says of document {row['id']}"):
                *held, sealed = json.loads(row["record"])
                record = Record(*(*held, bytes.fromhex(sealed)))
            yield record

    def _has(self, document: int) -> bool:
        return document <= self._state.last_document and document not in self._numbers

    def _get(self, table: str, ids: Sequence[Any], fields: Sequence[str]) -> Iterator[Any]:
        """Rows by their keys, in the same order: what Milvus is quickest at."""
        for some in _chunks(ids, CHUNK):
            rows = self._engine.call("get", table, ids=some, output_fields=list(fields))
            held = {row[fields[0]]: row for row in rows}
            yield from (held[one] for one in some if one in held)

    def texts(self, documents: Collection[int]) -> dict[int, str]:
        """The first piece of a text says how many there are."""
        found: dict[int, list[str]] = {}
        names, more = {f"t{n}-0": n for n in documents}, dict[str, int]()
        for row in self._get("values", list(names), ["name", "text"]):
            number = names[row["name"]]
            with self._engine.read(f"the text of document {number}"):
                pieces, first = json.loads(row["text"])
            found[number] = [first]
            more |= {f"t{number}-{i}": number for i in range(1, pieces)}
        for row in self._get("values", list(more), ["name", "text"]):
            with self._engine.read(f"the text of document {more[row['name']]}"):
                found[more[row["name"]]].append(json.loads(row["text"])[1])
        return {number: "".join(pieces) for number, pieces in found.items()}

    def languages(self, among: Among) -> Collection[str]:
        if not among:
            return +self._languages
        return {record.language for record in self.records(among)}

    def numbers(self, among: Among) -> list[int]:
        return [row["id"] for row in self._query("documents", self._there("id", among), ["id"])]

    def ids(self, among: Among) -> list[int]:
        rows = self._query("passages", self._there("document", among), ["id"])
        return [row["id"] for row in rows]

    def _search(self, table: str, k: int, among: Among, fields: list[str], **what: Any) -> Any:
        if not self._state.passages:
            return []
        (found,) = self._engine.call(
            "search",
            table,
            limit=min(k, 16_000),
            filter=self._there("document", among),
            output_fields=fields,
            **what,
        )
        return found

    def nearest(self, vector: NDArray[np.float32], k: int, among: Among) -> Collection[int]:
        what = {"data": [vector.tolist()], "anns_field": "vector"}
        own = self._search("passages", k, among, ["id"], **what)
        inner = self._search("sentences", 2 * k, among, ["passage"], **what)
        return {hit["id"] for hit in own} | {hit["entity"]["passage"] for hit in inner}

    def holding(
        self, question: Sequence[Mapping[str, float]], counts: Mapping[str, int], k: int,
        among: Among,
    ) -> Collection[int]:  # fmt: skip
        asked = " ".join(sorted({digest(term) for choices in question for term in choices}))
        found = self._search("passages", 2 * k, among, ["id"], data=[asked], anns_field="bm25")
        return {hit["id"] for hit in found}

    def rows(self, ids: Sequence[int], terms: Collection[str] | None) -> Iterator[Row]:
        names = None if terms is None else {digest(term): term for term in terms}
        fields = [
            *("id", "document", "start", "end", "length", "spans", "seal", "seal_too"),
            *("language", "vector", "terms"),
        ]
        for some in _chunks(ids, CHUNK):
            passages = list(self._get("passages", some, fields))
            places = [
                (row["id"] << PLACES) + place
                for row in passages
                for place in range(len(row["spans"]) // SPAN)
            ]
            below: dict[int, list[Any]] = {}
            for row in self._get("sentences", places, ["id", "vector"]):
                below.setdefault(row["id"] >> PLACES, []).append(row["vector"])
            for row in passages:
                vector = np.asarray(row["vector"], np.float16)
                inner = np.asarray(below.get(row["id"], []), np.float16)
                counts = Counter(row["terms"].split())
                held = {
                    f"{DIGEST}{one}" if names is None else names[one]: n
                    for one, n in counts.items()
                    if names is None or one in names
                }
                with self._engine.read(f"passage {row['id']}"):
                    found = (
                        *(row[field] for field in ("id", "document", "start", "end")),
                        *(bytes.fromhex(row["spans"]), vector, bytes.fromhex(row["seal"])),
                        inner.reshape(-1, len(vector)),
                        *(bytes.fromhex(row["seal_too"]), row["language"], row["length"], held),
                    )
                yield Row(*found)

    def counts(self, names: Collection[str]) -> dict[str, int]:
        by_digest = {digest(name): name for name in names}
        found = {}
        for row in self._get("values", list(by_digest), ["name", "number"]):
            found[by_digest[row["name"]]] = -row["number"]
        return found

    # --- what follows from the texts ---

    def name(self, term: str) -> str:
        return f"{DIGEST}{digest(term)}"

    def every_count(self) -> dict[str, int]:
        """Without what a writer that was killed, or is at it, has counted."""
        rows = self._query("values", "number < 0", ["name", "number"])
        found = {row["name"]: -row["number"] for row in rows}
        undo = self._engine.value("undo")
        if undo and undo["generation"] > self._state.generation:
            found |= undo["counts"]
        return {self.name(f"{DIGEST}{one}"): n for one, n in found.items()}

    def labels(self, record: Record) -> list[Collection[str]]:
        """Passages and sentences have those of their document."""
        found: list[Collection[str]] = []
        rows = list(self._get("documents", [record.id], ["id", "labels"]))
        for table in ("passages", "sentences"):
            where = f"document == {record.id}"
            fields = ["id", "labels", *(["passage"] if table == "sentences" else [])]
            rows += self._query(table, where, fields)
        for row in rows:
            own = row.get("passage", row["id"] >> PLACES) == row["id"] >> PLACES
            found.append(list(row["labels"]) if own else [])
        return found

    # --- within a transaction that writes ---

    def keeps(self, counts: Mapping[str, int]) -> dict[str, int]:
        every = (term for term, n in counts.items() for _ in range(n))
        return dict(Counter(islice(every, TERMS)))

    def insert(self, new: Sequence[New]) -> None:
        documents, texts, passages, sentences = [], [], [], []
        for record, text, labels, rows in new:
            found_by = sorted(labels)
            looked_up = {
                field: digest(getattr(record, field))
                for field in ("key", "source", "path", "raw", "hash")
            }
            written = json.dumps([*record[:-1], record.seal.hex()])
            if len(written) > WIDEST or len(found_by) > MANY:
                raise InputError(
                    "{!r} has more metadata, or pages, than Milvus takes in one row", record.source
                )
            self._languages[record.language] += 1
            documents.append(
                {
                    **{"id": record.id, **looked_up, "labels": found_by, "record": written},
                    "vector": [0.0, 0.0],
                }
            )
            pieces = [text[at : at + TEXT] for at in range(0, len(text), TEXT)] or [""]
            texts += [
                {
                    **{"name": f"t{record.id}-{i}", "number": record.id, "vector": [0.0, 0.0]},
                    "text": json.dumps([len(pieces), piece], ensure_ascii=False),
                }
                for i, piece in enumerate(pieces)
            ]
            for row in rows:
                terms = [digest(term) for term, n in row.counts.items() for _ in range(n)]
                passages.append(
                    {
                        **{"id": row.id, "document": row.document, "start": row.start},
                        **{"end": row.end, "length": row.length, "language": row.language},
                        **{"spans": row.spans.hex(), "seal": row.seal.hex()},
                        **{"seal_too": row.seal_too.hex(), "terms": " ".join(terms)},
                        **{"labels": found_by, "vector": row.vector.astype(np.float32).tolist()},
                    }
                )
                for place, vector in enumerate(row.sentences.astype(np.float32)):
                    sentences.append(
                        {
                            **{"id": (row.id << PLACES) + place, "document": row.document},
                            **{"passage": row.id, "labels": found_by},
                            "vector": vector.tolist(),
                        }
                    )
        for table, made in (
            *(("documents", documents), ("passages", passages)),
            *(("sentences", sentences), ("values", texts)),
        ):
            for some in _chunks(made, CHUNK):
                self._engine.call("insert", table, some)
                self._engine.fresh += len(some)

    def delete(self, record: Record) -> None:
        self._gone.append((record.id, time.time()))
        self._numbers.add(record.id)
        self._hidden = _within(sorted(self._numbers))
        self._languages[record.language] -= 1

    def count(self, change: Mapping[str, int]) -> None:
        """What was counted before is noted first, and brought back if this change is not whole."""
        added: Counter[str] = Counter()
        for name, n in change.items():
            added[digest(name)] += n
        changed = [name for name, n in added.items() if n]
        before = dict.fromkeys(changed, 0)
        for row in self._get("values", changed, ["name", "number"]):
            before[row["name"]] = -row["number"]
        undo = {"generation": self._state.generation + 1, "counts": before}
        self._engine.set_value("undo", undo)
        self._engine.set_counts({name: before[name] + added[name] for name in changed})

    def finish(self, state: State) -> None:
        self._engine.check_lease()
        made = {"state": list(state), "gone": self._gone, "languages": +self._languages}
        self._engine.set_value("state", made)


def _past(gone: Iterable[tuple[int, float]]) -> list[int]:
    """The numbers of documents that no question reads any more."""
    return [number for number, since in gone if since < time.time() - GRACE]


def _within(numbers: Sequence[int]) -> list[str]:
    """Filters that numbers in order pass, runs of them by their ends."""
    apart, filters = list[int](), list[str]()
    begin = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            if i - begin < 3:
                apart += numbers[begin:i]
            else:
                filters.append(f"{{key}} >= {numbers[begin]} and {{key}} <= {numbers[i - 1]}")
            begin = i
    return filters + [f"{{key}} in {some}" for some in _chunks(apart, CHUNK)]


def digest(value: object) -> str:
    """A value as a word that no analyzer takes apart."""
    text = str(value)
    if text.startswith(DIGEST):
        return text.removeprefix(DIGEST)
    return "x" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some

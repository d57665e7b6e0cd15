"""Milvus: rows in collections, vectors in its indexes, terms under its own BM25 function.

Milvus has no transactions, so a change becomes visible by one row, the state: documents with
higher numbers than it names are not there yet, those that it calls gone are not there any more.
What was gone for a while is deleted by the next writer, and so is what a killed one left. One
writer at a time holds a lease, which ends by itself.

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from index import lock
from index.errors import InputError
from index.records import Record, State
from index.served import Among, Row

NAME = "beleg"
"""What the collections' names begin with, if the address says nothing else (``…#name``)."""
PATIENCE = 10
"""So many seconds a connection may take to come about."""
LEASE = 120.0
"""So many seconds a writer may say nothing before another one takes over."""
GRACE = 60.0
"""So many seconds a question may go on reading what has been removed."""
CHUNK = 1_000
"""So many rows are asked for, or written, at a time."""
TEXT = 16_000
"""So many characters of a document's text are in one row: Milvus takes 65,535 bytes."""
TERMS = 3_600
"""So many terms of a passage are looked up; only a text that was added whole has more."""
DIGEST = "\ue000"
"""Stands before a term's digest where the term itself is not known any more."""
WIDEST = 65_535

T = TypeVar("T")


class Milvus:
    """Collections of a database (see index.served.Engine).

    Raises:
        InputError: pymilvus is not installed, or for a folder milvus-lite.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.name = parts.fragment or NAME
        if not self.name.replace("_", "a").isalnum() or not self.name.isascii():
            raise InputError(f"{self.name!r} cannot be the name of an index: letters and digits")
        self.folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        if self.folder is not None and self.folder.suffix != ".db":
            raise InputError(f"{self.folder}: Milvus in a folder takes a name that ends with .db")
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
        self._exclusive = threading.RLock()
        self._lease = ""

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
            raise InputError(f"the index in {self.address} cannot be used: {what}") from None

    def call(self, verb: str, table: str, *values: Any, **options: Any) -> Any:
        with self.told():
            return getattr(self._client, verb)(f"{self.name}_{table}", *values, **options)

    def exists(self) -> bool:
        if self.folder is not None and not self.folder.exists():
            return False
        if not self.call("has_collection", "values"):
            return False
        self._load()
        return self.value("state") is not None

    def _load(self) -> None:
        for table in ("values", "documents", "passages", "sentences"):
            self.call("load_collection", table)

    def create(self, made: Mapping[str, str], state: State) -> None:
        from pymilvus import DataType, Function, FunctionType

        number, words, vector = DataType.INT64, DataType.VARCHAR, DataType.FLOAT_VECTOR
        dimension = int(made["dimension"])

        def table(name: str, key: str, kind: Any, numbers: str, texts: str, size: int) -> Any:
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            length = {"max_length": 128} if kind is words else {}
            schema.add_field(key, kind, is_primary=True, **length)
            for field in numbers.split():
                schema.add_field(field, number)
            for field in texts.split():
                schema.add_field(field, words, max_length=WIDEST)
            schema.add_field("vector", vector, dim=size)  # no collection goes without one
            indexes = self._client.prepare_index_params()
            exact = size == 2 or self.folder is not None
            index = "FLAT" if exact else "AUTOINDEX"
            indexes.add_index("vector", index_type=index, metric_type="IP")
            if name == "passages":
                schema.add_field("terms", words, max_length=WIDEST, enable_analyzer=True)
                schema.add_field("bm25", DataType.SPARSE_FLOAT_VECTOR)
                schema.add_function(Function("terms_bm25", FunctionType.BM25, ["terms"], ["bm25"]))
                indexes.add_index(
                    "bm25",
                    index_type="SPARSE_INVERTED_INDEX",
                    metric_type="BM25",
                    params={"bm25_k1": 1.2, "bm25_b": 0.75},
                )
            self.call(
                "create_collection",
                name,
                schema=schema,
                index_params=indexes,
                consistency_level="Strong",
            )

        with self.told():
            table("documents", "id", number, "", "key source path raw hash record", 2)
            table(
                *("passages", "id", number, "document start end length"),
                *("spans seal seal_too language", dimension),
            )
            table("sentences", "id", number, "document passage place", "", dimension)
            table("values", "name", words, "number", "text", 2)
        self._load()
        self.set_value("manifest", json.dumps(dict(made)))
        self.set_value("state", json.dumps([list(state), []]))

    def value(self, name: str) -> Any:
        for row in self.call("get", "values", ids=[name]):
            return json.loads(row["text"])
        return None

    def set_value(self, name: str, text: str) -> None:
        row = {"name": name, "number": 0, "text": text, "vector": [0.0, 0.0]}
        self.call("upsert", "values", [row])

    def reading(self) -> MilvusSession:
        return MilvusSession(self)

    def close(self) -> None:
        if "_client" in self.__dict__:
            self.__dict__.pop("_client").close()

    # --- writing ---

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if not self._exclusive.acquire(timeout=lock.WAIT):
            raise self._busy("another thread of this process")
        token = uuid.uuid4().hex
        try:
            self._take(token)
            self._sweep()
            yield
        finally:
            if self._lease == token:
                self._lease = ""
                self.call("delete", "values", ids=["lease"])
            self._exclusive.release()

    def _busy(self, who: str) -> InputError:
        return InputError(
            f"the index in {self.address} is being changed by {who}: waited {lock.WAIT:g}"
            " seconds, try again when that is done"
        )

    def _take(self, token: str) -> None:
        deadline = time.monotonic() + lock.WAIT
        while True:
            held = self.value("lease")
            if held is None or held["until"] < time.time():
                self._renew(token)
                time.sleep(0.05)  # two may have seen that it was free: the last one has it
                if self.value("lease")["token"] == token:
                    self._lease = token
                    return
            elif time.monotonic() > deadline:
                raise self._busy(held["who"])
            time.sleep(0.1)

    def _renew(self, token: str) -> None:
        who = f"process {os.getpid()} on {socket.gethostname()}"
        lease = {"token": token, "who": who, "until": time.time() + LEASE}
        self.set_value("lease", json.dumps(lease))

    def check_lease(self) -> None:
        held = self.value("lease")
        if held is None or held["token"] != self._lease:
            raise InputError(
                f"the index in {self.address} was not changed: another writer took over, as this"
                f" one said nothing for {LEASE:g} seconds"
            )

    def _sweep(self) -> None:
        """Delete what has been gone for a while, and what a killed writer left."""
        state, gone = self.value("state")
        last = State(*state).last_document
        old = [number for number, since in gone if since < time.time() - GRACE]
        for key, tables in (("id", ["documents"]), ("document", ["passages", "sentences"])):
            for table in tables:
                self.call("delete", table, filter=f"{key} > {last}")
                if old:
                    self.call("delete", table, filter=f"{key} in {old}")
        self.call("delete", "values", filter=f"number > {last}")
        if old:
            self.call("delete", "values", filter=f"number in {old}")
            left = [[number, since] for number, since in gone if number not in old]
            self.set_value("state", json.dumps([state, left]))

    @contextmanager
    def writing(self) -> Iterator[MilvusSession]:
        self.check_lease()
        self._renew(self._lease)
        yield MilvusSession(self)

    def gather(self) -> None:
        """Milvus does so by itself."""


class MilvusSession:
    """One state (see index.served.Session)."""

    def __init__(self, engine: Milvus) -> None:
        self._engine = engine
        state, self._gone = engine.value("state")
        self._state = State(*state)
        self._numbers = [number for number, _ in self._gone]

    def _there(self, key: str, among: Among = None) -> str:
        found = f"{key} <= {self._state.last_document}"
        if self._numbers:
            found += f" and {key} not in {self._numbers}"
        return found if among is None else f"{found} and {key} in {list(among)}"

    def _query(self, table: str, where: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Rows in the order of their keys, however many."""
        pages = self._engine.call(
            "query_iterator", table, batch_size=CHUNK, filter=where, output_fields=list(fields)
        )
        found = []
        with self._engine.told():
            while page := pages.next():
                found += page
            pages.close()
        yield from sorted(found, key=lambda row: row["id"])

    def state(self) -> State:
        return self._state

    def manifest(self) -> dict[str, str]:
        held: dict[str, str] = self._engine.value("manifest")
        return held

    def records(self, **equal: object) -> Iterator[Record]:
        where = [self._there("id")]
        for field, value in equal.items():
            where.append(f'{field} == "{digest(value)}"' if field != "id" else f"id == {value}")
        for row in self._query("documents", " and ".join(where), ["id", "record"]):
            *held, sealed = json.loads(row["record"])
            yield Record(*(*held, bytes.fromhex(sealed)))

    def text(self, document: int) -> str:
        rows = self._engine.call(
            "query", "values", filter=f"number == {document}", output_fields=["name", "text"]
        )
        parts = [(int(row["name"].rpartition("-")[2]), row["text"]) for row in rows]
        return "".join(json.loads(text) for _, text in sorted(parts))

    def languages(self) -> Collection[str]:
        return {record.language for record in self.records()}

    def ids(self, among: Among) -> list[int]:
        rows = self._query("passages", self._there("document", among), ["id"])
        return [row["id"] for row in rows]

    def _search(self, table: str, k: int, among: Among, fields: list[str], **what: Any) -> Any:
        if not self._state.passages or among == []:
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
        for some in _chunks(ids, CHUNK // 10):
            below: dict[int, list[tuple[int, Any]]] = {}
            fields = ["id", "passage", "place", "vector"]
            for row in self._query("sentences", f"passage in {some}", fields):
                below.setdefault(row["passage"], []).append((row["place"], row["vector"]))
            fields = [
                *("id", "document", "start", "end", "length", "spans", "seal", "seal_too"),
                *("language", "vector", "terms"),
            ]
            for row in self._query("passages", f"id in {some}", fields):
                vector = np.asarray(row["vector"], np.float16)
                inner = [one for _, one in sorted(below.get(row["id"], []))]
                counts = Counter(row["terms"].split())
                held = {
                    f"{DIGEST}{one}" if names is None else names[one]: n
                    for one, n in counts.items()
                    if names is None or one in names
                }
                found = (
                    *(row[field] for field in ("id", "document", "start", "end")),
                    *(bytes.fromhex(row["spans"]), vector, bytes.fromhex(row["seal"])),
                    np.asarray(inner, np.float16).reshape(-1, len(vector)),
                    *(bytes.fromhex(row["seal_too"]), row["language"], row["length"], held),
                )
                yield Row(*found)

    def counts(self, names: Collection[str]) -> dict[str, int]:
        by_digest = {digest(name): name for name in names}
        found = {}
        for some in _chunks(list(by_digest), CHUNK):
            for row in self._engine.call("get", "values", ids=some):
                found[by_digest[row["name"]]] = -row["number"]
        return found

    # --- within a transaction that writes ---

    def insert(self, new: Sequence[tuple[Record, str, Sequence[Row]]]) -> None:
        documents, texts, passages, sentences = [], [], [], []
        for record, text, rows in new:
            looked_up = {
                field: digest(getattr(record, field))
                for field in ("key", "source", "path", "raw", "hash")
            }
            written = json.dumps([*record[:-1], record.seal.hex()])
            if len(written.encode()) > WIDEST:
                raise InputError(
                    f"{record.source!r} has more metadata, or pages, than Milvus takes in one row"
                )
            documents.append(
                {"id": record.id, **looked_up, "record": written, "vector": [0.0, 0.0]}
            )
            texts += [
                {
                    "name": f"t{record.id}-{at // TEXT}",
                    "number": record.id,
                    "text": json.dumps(text[at : at + TEXT], ensure_ascii=False),
                    "vector": [0.0, 0.0],
                }
                for at in range(0, len(text), TEXT)
            ]
            for row in rows:
                terms = [digest(term) for term, n in row.counts.items() for _ in range(n)]
                passages.append(
                    {
                        **{"id": row.id, "document": row.document, "start": row.start},
                        **{"end": row.end, "length": row.length, "language": row.language},
                        **{"spans": row.spans.hex(), "seal": row.seal.hex()},
                        **{"seal_too": row.seal_too.hex(), "terms": " ".join(terms[:TERMS])},
                        "vector": row.vector.astype(np.float32).tolist(),
                    }
                )
                for place, vector in enumerate(row.sentences.astype(np.float32)):
                    sentences.append(
                        {
                            **{"id": row.id * 100_000 + place, "document": row.document},
                            **{"passage": row.id, "place": place, "vector": vector.tolist()},
                        }
                    )
        for table, made in (
            *(("documents", documents), ("passages", passages)),
            *(("sentences", sentences), ("values", texts)),
        ):
            for some in _chunks(made, CHUNK):
                self._engine.call("insert", table, some)

    def delete(self, record: Record) -> None:
        self._gone.append([record.id, time.time()])
        self._numbers.append(record.id)

    def count(self, change: Mapping[str, int]) -> None:
        added: Counter[str] = Counter()
        for name, n in change.items():
            added[digest(name)] += n
        for some in _chunks([name for name, n in added.items() if n], CHUNK):
            there = {row["name"]: row for row in self._engine.call("get", "values", ids=some)}
            held = {name: added[name] - there.get(name, {"number": 0})["number"] for name in some}
            rows = [
                # Less than nothing, as more than that are the numbers of documents.
                {"name": name, "number": -n, "text": "", "vector": [0.0, 0.0]}
                for name, n in held.items()
                if n > 0
            ]
            if rows:
                self._engine.call("upsert", "values", rows)
            if nothing := [name for name, n in held.items() if n <= 0]:
                self._engine.call("delete", "values", ids=nothing)

    def finish(self, state: State) -> None:
        self._engine.check_lease()
        self._engine.set_value("state", json.dumps([list(state), self._gone]))


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

"""One contract for all places that an index may be kept in: memory, a folder, and servers.

PostgreSQL is a real server (pgserver), Milvus the engine that its client brings for a folder
(milvus-lite). Where one is not installed its tests are skipped, but fail under CI. They take the
addresses in POSTGRES_TEST and MILVUS_TEST instead, where these are set.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from index import lock
from index.check import Findings, check, repair
from index.errors import DamageError, InputError, MismatchError
from index.filters import label
from index.langchain import PassageStore
from index.milvus import PLACES as SENTENCE
from index.records import SCHEMA
from index.store import PassageIndex
from index.types import Document
from rag.chatbot import EXAMPLE
from tests.faults import documents, kill_trial, question, text
from tests.tiny import TinyEncoder
from ui.cli import main

ENCODER = TinyEncoder()
PLACES = ["memory", "folder", "postgres", "milvus"]
GERMAN = [
    Document("Der Truppenaufmarsch an der Grenze begann im März.", "g1", "G", "de"),
    Document("Die Truppen kamen spät. Ein Aufmarsch war es nicht.", "g2", "G", "de"),
    Document("Moskau rief seinen Botschafter zurück. Er kam im Mai.", "g3", "G", "de"),
]


def needs(extra: str, *modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            reason = f"an index on {extra} is not tested, {module} is missing: pip install {module}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server's database.

    The server does not run as root, and pytest's own folders are for their owner alone.
    """
    if "POSTGRES_TEST" in os.environ:
        yield os.environ["POSTGRES_TEST"]
        return
    needs("postgres", "psycopg", "pgvector", "pgserver")
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    import pgserver

    with TemporaryDirectory(prefix="beleg-pg-") as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(folder)
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> str:
    if "MILVUS_TEST" in os.environ:
        return os.environ["MILVUS_TEST"]
    needs("milvus", "pymilvus", "milvus_lite")
    return f"milvus+file://{tmp_path_factory.mktemp('milvus') / 'index.db'}"


_made = 0


def address(place: str, request: pytest.FixtureRequest) -> Any:
    """Where a new index of a kind may be made; each has its own name there."""
    global _made
    _made += 1
    if place == "memory":
        return None
    if place == "folder":
        folder: Path = request.getfixturevalue("tmp_path")
        return folder / f"index{_made}"
    return f"{request.getfixturevalue(place)}#test{os.getpid()}_{_made}"


@pytest.fixture(params=PLACES)
def where(request: pytest.FixtureRequest) -> Any:
    return address(request.param, request)


@pytest.fixture(params=PLACES[1:])
def kept(request: pytest.FixtureRequest) -> Any:
    """A place that outlives the index object."""
    return address(request.param, request)


@pytest.fixture(params=PLACES[2:])
def served(request: pytest.FixtureRequest) -> Any:
    return address(request.param, request)


def some(*numbers: int, version: int = 0) -> list[Document]:
    return documents({f"d{n}": text(n, version) for n in numbers})


def texts(index: PassageIndex) -> dict[str, str]:
    return {document.source: document.text for document in index.documents}


def ranking(index: PassageIndex, asked: str, **options: Any) -> list[tuple[Any, ...]]:
    return [
        (
            (hit.passage.document.source, hit.passage.start),
            pytest.approx(hit.score, abs=1e-4),
            dict(hit.channels),
            hit.nearest,
        )
        for hit in index.search(asked, 8, **options)
    ]


ASKED = [
    question(text(5)),
    question(text(4, 2)),
    "Who praises anything in March 1907?",
    "Warum hat Russland seinen Botschafter zurückgerufen?",
    "Why did Russia recall its ambassador?",
    "Truppen",
]


def test_hybrid_search_ranks_alike_everywhere(where: Any) -> None:
    """Dense, sentence and keyword channels, over languages, after changes of all kinds."""
    index, plain = PassageIndex(where, encoder=ENCODER), PassageIndex(encoder=ENCODER)
    for one in (index, plain):
        one.add([*some(*range(12)), *GERMAN])
        one.add([EXAMPLE])
        one.remove("d3")
        one.add(some(4, version=2))
    for asked in ASKED:
        assert ranking(index, asked) == ranking(plain, asked)
        german = {"language": "de"}
        found = index.search(asked, 8, where=german)
        assert {hit.passage.document.language for hit in found} == {"de"}
        one = index.search(asked, 8, where={"source": ["d4", "d5"]})
        assert {hit.passage.document.source for hit in one} == {"d4", "d5"}
    assert index.search("Truppen", where={"source": "nothing"}) == []


FILTERS: list[dict[str, Any]] = [
    {"year": 1907}, {"year": "1907"}, {"year": True}, {"year": 1}, {"year": [1907, None]},
    {"tags": [["a", 1]]}, {"tags": ["a", 1]}, {"deep": {"b": [1.5]}}, {"source": "not its own"},
    {"language": ("de", "fr"), "year": 1907}, {"title": "T"}, {"path": ""}, {"nothing": None}, {},
]  # fmt: skip


def test_filters_let_the_same_through_everywhere(
    where: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        Document("Words are here.", "a", "T", "en", metadata={"year": 1907, "tags": ["a", 1]}),
        Document("Words are here too.", "b", "U", "de", metadata={"year": True, "tags": []}),
        Document("More words.", "c", "T", "de", metadata={"year": 1907, "source": "not its own"}),
        Document("Words again.", "d", "V", "fr", metadata={"year": None, "deep": {"b": [1.5]}}),
        *some(*range(30)),
    ]
    index, plain = PassageIndex(where, encoder=ENCODER), PassageIndex(encoder=ENCODER)
    for one in (index, plain):
        one.add(given)
    for asked in FILTERS:
        view, other = index.view.only(asked), plain.view.only(asked)
        assert [d.source for d in view.documents] == [d.source for d in other.documents]
        assert [p.text for p in view.passages] == [p.text for p in other.passages]
        assert view.languages == other.languages
        found = [
            sorted(hit.passage.document.source for hit in one.search("words", 40, where=asked))
            for one in (index, plain)
        ]
        assert found[0] == found[1]
    narrow = index.view.only({"title": "T"}).only({"language": "de"})
    assert [d.source for d in narrow.documents] == ["c"]
    if isinstance(where, str):  # what is not let through is not read
        read: list[str] = []
        monkeypatch.setattr(
            "index.served.ServedSnapshot._sound",
            lambda _, record: (read.append(record.source), record)[1],
        )
        index.search("words", where={"title": "T"})
        assert set(read) <= {"a", "c"}


def test_a_word_only_keywords_know_is_found(where: Any) -> None:
    """The channel of the engine's own keyword search puts passages forward."""

    class Blind(TinyEncoder):
        def _word(self, word: str) -> Any:
            return super()._word("")  # all texts lie in one place

    index = PassageIndex(where, encoder=Blind("blind"))
    index.add([Document(f"Plain words stand here, number {n}.", f"p{n}", "P") for n in range(150)])
    index.add([*GERMAN, Document("The zyzzyva sleeps here.", "z", "Z")])
    assert index.search("zyzzyva", 1)[0].passage.document.source == "z"
    found = index.search("When did the ambassador go?", 1)[0]
    assert found.passage.document.source == "g3"  # by the lexicon: botschafter
    parts = {hit.passage.document.source for hit in index.search("Aufmarsch", 2)}
    assert parts == {"g1", "g2"}  # one is part of a compound


def test_add_update_remove_list(where: Any, tmp_path: Path) -> None:
    index = PassageIndex(where, encoder=ENCODER)
    assert index.search("anything", 5) == []
    assert len(index.documents) == 0
    index.add([*some(1, 2), *some(1)])
    assert texts(index) == {"d1": text(1), "d2": text(2)}
    index.add(some(2, version=1))
    assert texts(index) == {"d1": text(1), "d2": text(2, 1)}
    with pytest.raises(InputError, match="no document 'd9'"):
        index.remove("d1", "d9")
    assert index.remove("d1", index.documents[1].id) == ["d1", "d2"]
    assert texts(index) == {}
    one, twin = tmp_path / "one.txt", tmp_path / "twin.txt"
    one.write_text("Apples are red.", "utf-8")
    twin.write_text("Apples are red.", "utf-8")
    lines: list[str] = []
    index.add([one, twin], on_skip=lines.append)
    assert texts(index) == {"one.txt": "Apples are red."}
    assert "word for word" in lines[0]
    one.write_text("Apples are green.", "utf-8")
    index.add(one)
    assert texts(index) == {"one.txt": "Apples are green."}
    assert index.search("red", 5, where={"source": "one.txt"})[0].passage.text.endswith("green.")
    index.close()


def test_odd_texts_and_metadata_come_back(where: Any) -> None:
    odd = "It's \"odd\" \\ 'quoted' \t {x} %s ? " + "ä𝕏\u200d" * 9 + " 北京大学 " + "w" * 3000
    long = "Ein Satz über Äpfel steht hier. " * 1500
    metadata = {"kind": "o'dd", "list": [1, None], "deep": {"a": True}}
    index = PassageIndex(where, encoder=ENCODER)
    index.add(
        [
            Document(odd, 'o\'dd "source" %s\\', "T", metadata=metadata),
            Document(long, "long", "L", "de", whole=True),
            Document("", "empty", "E", whole=True),
        ]
    )
    assert [d.text for d in index.documents] == [odd, long, ""]
    assert index.documents[0].metadata == metadata
    assert index.search("Äpfel", 1)[0].passage.text == long
    assert index.search("北京大学", 1)[0].passage.document.text == odd
    assert index.search("quoted", 5, where={"kind": "o'dd"})[0].passage.document.text == odd
    index.remove('o\'dd "source" %s\\')
    assert len(index.documents) == 2


def test_a_view_is_that_of_one_state(where: Any) -> None:
    index = PassageIndex(where, encoder=ENCODER)
    index.add(some(1, 2))
    view = index.view
    index.remove("d1")
    index.add(some(2, version=5))
    assert [d.source for d in view.documents] == ["d1", "d2"]
    (hit,) = index.search(question(text(1)), 1, view=view)
    assert hit.passage.document.text == text(1)
    assert hit.passage in list(view.passages)
    assert texts(index) == {"d2": text(2, 5)}


def test_it_opens_as_it_was_and_refuses_another_encoder(kept: Any) -> None:
    index = PassageIndex(kept, encoder=ENCODER)
    index.add(some(1, 2, 3))
    index.close()
    assert PassageIndex.exists(kept)
    again = PassageIndex(kept, encoder=ENCODER)
    assert ranking(again, ASKED[0])
    assert texts(again).keys() == {"d1", "d2", "d3"}
    for encoder, says in (
        (TinyEncoder("other"), r"the encoder 'tiny', not the encoder 'other'; say --model tiny"),
        (TinyEncoder(dimension=16), "of dimension 32, not dimension 16"),
        (TinyEncoder(salt="new", weights=""), "as it was, not as it is now"),
        (TinyEncoder(prompts={"query": "Q: "}), "of prompts"),
    ):
        with pytest.raises(MismatchError, match=says) as caught:
            PassageIndex(kept, encoder=encoder).check_encoder()
        assert "\n" not in str(caught.value)
    again.close()


def test_an_interrupted_change_is_none(where: Any) -> None:
    index = PassageIndex(where, encoder=ENCODER)
    index.add(some(1, 2))
    before = ranking(index, ASKED[0])

    class Killed(Exception):
        pass

    def change() -> None:
        with index._place.exclusive(), index._place.writing() as writer:
            writer.remove(next(writer.find(source="d1")))
            raise Killed

    with pytest.raises(Killed):
        change()
    assert texts(index) == {"d1": text(1), "d2": text(2)}
    assert ranking(index, ASKED[0]) == before
    index.add(some(3))
    assert texts(index).keys() == {"d1", "d2", "d3"}


def test_a_second_writer_is_told(where: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT", 0.2)
    index = PassageIndex(where, encoder=ENCODER)
    other = PassageIndex(where, encoder=ENCODER) if where is not None else index
    caught: list[str] = []

    def add() -> None:
        try:
            other.add(some(1))
        except InputError as error:
            caught.append(str(error))

    with index._place.exclusive():
        thread = threading.Thread(target=add)
        thread.start()
        thread.join()
    assert "is being changed" in caught[0]
    assert "\n" not in caught[0]
    other.add(some(1))
    assert texts(index) == {"d1": text(1)}


def test_a_fork_goes_its_own_way(where: Any) -> None:
    index = PassageIndex(where, encoder=ENCODER)
    index.add(some(1, 2))
    fork = index.fork()
    fork.add(some(3))
    fork.remove("d1")
    assert texts(fork).keys() == {"d2", "d3"}
    assert texts(index).keys() == {"d1", "d2"}
    assert fork.search(ASKED[0], 1)


def damage_postgres(where: str, sql: str) -> None:
    import psycopg

    url, _, name = where.partition("#")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f'SET search_path TO "{name}"')
        db.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE documents SET text = convert_to(replace(convert_from(text, 'utf8'),"
        " 'praises', 'blames'), 'utf8')",
        "UPDATE documents SET title = 'x'",
        "UPDATE passages SET start = 1",
        "UPDATE passages SET vector = (SELECT vector FROM passages ORDER BY id LIMIT 1)",
        "DELETE FROM sentences",
    ],
)
def test_what_was_not_written_is_no_answer(request: pytest.FixtureRequest, sql: str) -> None:
    where = address("postgres", request)
    index = PassageIndex(where, encoder=ENCODER)
    index.add(some(1, 2))
    damage_postgres(where, sql)
    with pytest.raises(DamageError, match="is damaged") as caught:
        PassageIndex(where, encoder=ENCODER).search(question(text(2)), 2)
    assert "\n" not in str(caught.value)
    assert check(where, encoder=ENCODER).problems
    with pytest.raises(InputError, match="is not repaired"):
        repair(where, encoder=ENCODER)
    index.remove("d1", "d2")
    index.add(some(1, 2))
    repair(where, encoder=ENCODER)  # how often words occurred in a lost text, nobody knew
    assert check(where, encoder=ENCODER).problems == []


def test_a_newer_version_is_no_damage_on_a_server(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        for module in ("manifest", "served"):
            newer.setattr(f"index.{module}.SCHEMA", SCHEMA + 1)
        PassageIndex(served, encoder=ENCODER)
    for use in (PassageIndex, check, repair):
        with pytest.raises(InputError, match=f"is of version {SCHEMA + 1}, this Beleg reads"):
            use(served, encoder=ENCODER)


def test_a_document_that_vanished_from_postgres_is_missed(
    request: pytest.FixtureRequest,
) -> None:
    where = address("postgres", request)
    index = PassageIndex(where, encoder=ENCODER)
    index.add(some(1, 2))
    damage_postgres(where, "DELETE FROM documents WHERE source = 'd1'")
    uses = [
        lambda: list(index.records),
        lambda: len(index.documents),
        lambda: index.remove("d2", "d1"),
    ]
    for use in uses:
        with pytest.raises(DamageError, match="it does not hold all that was written"):
            use()
    assert check(where, encoder=ENCODER).lost
    with pytest.raises(InputError, match="no document 'd3'"):
        PassageIndex(address("postgres", request), encoder=ENCODER).remove("d3")


def mends(where: Any) -> None:
    """What follows from the texts of d1 and d2 is wrong; and then it is not."""
    found = check(where, encoder=ENCODER)
    assert len(found.problems) == 1
    assert found.problems[0].endswith(" --repair  mends it")
    assert found.lost == []
    assert repair(where, encoder=ENCODER).problems == found.problems
    assert check(where, encoder=ENCODER).problems == []
    index, plain = PassageIndex(where, encoder=ENCODER), PassageIndex(encoder=ENCODER)
    plain.add([Document(d.text, d.source, d.title, d.language) for d in index.documents])
    assert sorted(texts(index)) == ["d1", "d2"]
    for asked in ASKED:
        assert ranking(index, asked) == ranking(plain, asked)
    for source in ("d1", "d2"):
        (hit,) = index.search(ASKED[0], 5, where={"source": source})
        assert hit.passage.document.source == source


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE documents SET labels = '{}' WHERE source = 'd1'",
        "UPDATE documents d SET labels = d.labels || e.labels FROM documents e"
        " WHERE d.source = 'd2' AND e.source = 'd1'",
        "UPDATE sentences SET document = 2 WHERE passage = 1",
        "UPDATE passages SET terms = 'nobody:1' WHERE id = 1",
        "UPDATE passages SET terms = terms || 'another:1'::tsvector, length = length + 1"
        " WHERE id = 1",
        "UPDATE passages SET length = 9999 WHERE id = 2",
        "UPDATE passages SET language = 'de' WHERE id = 1",
        "UPDATE counts SET passages = passages + 1 WHERE name = (SELECT max(name) FROM counts)",
        "DELETE FROM counts",
        "INSERT INTO counts VALUES ('another', 3), ('=another', 3)",
    ],
)
def test_what_follows_from_the_texts_is_made_again_on_postgres(
    request: pytest.FixtureRequest, sql: str
) -> None:
    where = address("postgres", request)
    PassageIndex(where, encoder=ENCODER).add(some(1, 2))
    damage_postgres(where, sql)
    mends(where)


@pytest.fixture(scope="module")
def mended(milvus: str) -> PassageIndex:
    index = PassageIndex(f"{milvus}#mended", encoder=ENCODER)
    index.add(some(1, 2))
    return index


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        ("documents", {"labels": []}),
        ("passages", {"labels": []}),
        ("sentences", {"labels": ["0123456789abcdef"]}),
        ("sentences", {"passage": 9}),
        ("passages", {"terms": "x0123456789abcdef"}),
        ("passages", {"length": 9999}),
        ("passages", {"language": "de"}),
        ("values", {"number": -7}),
        ("values", None),
    ],
)
def test_what_follows_from_the_texts_is_made_again_on_milvus(
    mended: PassageIndex, table: str, changed: dict[str, Any] | None
) -> None:
    call = mended._place._engine.call  # type: ignore[attr-defined]
    last = max(row["id"] for row in call("query", "documents", filter="id > 0"))
    where = {"documents": f"id == {last}", "values": "number < 0"}
    rows = call("query", table, filter=where.get(table, f"document == {last}"))
    assert rows
    if changed is None:
        call("delete", table, ids=[row["name"] for row in rows])
    else:
        rows[0].pop("bm25", None)
        call("upsert", table, [rows[0] | changed])
    mends(mended.path)


def test_what_was_split_by_other_words_is_sound(served: Any) -> None:
    """Compounds whose parts became known later, or are no more; a text of too many terms."""
    index = PassageIndex(served, encoder=ENCODER)
    long = " ".join(f"wort{n} Truppenaufmarsch" for n in range(3_000))
    index.add([*GERMAN[:1], Document(long, "long", "L", "de", whole=True)])
    assert check(served, encoder=ENCODER).problems == []
    index.add(GERMAN[1:])
    index.add(Document("Ein Truppenaufmarsch wieder.", "g4", "G", "de"))
    assert check(served, encoder=ENCODER).problems == []
    index.remove("g2", "long")
    assert check(served, encoder=ENCODER).problems == []


def test_what_a_filter_lets_through_is_checked(request: pytest.FixtureRequest) -> None:
    where = address("postgres", request)
    index = PassageIndex(where, encoder=ENCODER)
    index.add(some(1, 2))
    damage_postgres(where, "UPDATE documents SET labels = array_cat(labels, (SELECT labels FROM"
                    " documents WHERE source = 'd1')) WHERE source = 'd2'")  # fmt: skip
    with pytest.raises(DamageError, match="'d2' is found by what it is not"):
        index.search(question(text(2)), 2, where={"source": "d1"})


def test_many_vectors_are_found_by_an_index_of_postgres(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.postgres.EXACT", 20)
    where = address("postgres", request)
    index, plain = PassageIndex(where, encoder=ENCODER), PassageIndex(encoder=ENCODER)
    for one in (index, plain):
        one.add([*some(*range(60)), *GERMAN])
        one.add(some(7, version=1))
    for asked in ASKED:
        assert ranking(index, asked) == ranking(plain, asked)
    session = index.view.snapshot.session  # type: ignore[attr-defined]
    vector = ENCODER.questions([question(text(3))])[0]
    assert len(session.nearest(vector, 50, ())) >= 50
    for said, many in ((("language", "en"), 60), (("language", "de"), 3), (("source", "d3"), 1)):
        among = (frozenset([label(*said)]),)
        near = session.nearest(vector, 100, among)
        held = {row.id for row in session.rows(session.ids(among), ())}
        assert near <= held
        assert len(held) == many
        assert len(near) == many if many < 20 else len(near) > many / 2
    indexes = session._rows("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%%hnsw%%'")
    assert len([line for (line,) in indexes if f"{where.partition('#')[2]}." in line]) == 2


def test_where_the_state_is_damaged_nothing_is_answered(request: pytest.FixtureRequest) -> None:
    where = address("postgres", request)
    PassageIndex(where, encoder=ENCODER).add(some(1, 2))
    damage_postgres(where, "UPDATE state SET last_document = 1")
    with pytest.raises(DamageError, match="its state is not what was written"):
        PassageIndex(where, encoder=ENCODER).search(question(text(2)), 2)
    assert check(where, encoder=ENCODER).problems


@pytest.fixture(scope="module")
def in_milvus(milvus: str) -> PassageIndex:
    index = PassageIndex(f"{milvus}#damaged", encoder=ENCODER)
    index.add(some(1))
    return index


@pytest.mark.parametrize(
    ("table", "key", "field", "value"),
    [
        ("values", "t1-0", "text", '[1, "Another text."]'),
        ("values", "t1-0", "text", '"half of it'),
        ("values", "state", "text", '{"parts": [], "text": "{}", "seal": "00"}'),
        ("values", "manifest", "text", "[]"),
        ("documents", 1, "record", "[]"),
        ("passages", 1, "start", 1),
        ("passages", 1, "spans", "no digits"),
        ("passages", 1, "vector", [1.0] + [0.0] * 31),
        ("sentences", 1 << SENTENCE, "vector", [1.0] + [0.0] * 31),
    ],
)
def test_what_changed_in_milvus_is_no_answer(
    in_milvus: PassageIndex, table: str, key: Any, field: str, value: Any
) -> None:
    where = in_milvus.path
    client = in_milvus._place._engine  # type: ignore[attr-defined]
    (row,) = client.call("get", table, ids=[key])
    before = dict(row)
    before.pop("bm25", None)
    client.call("upsert", table, [before | {field: value}])
    try:
        with pytest.raises(DamageError, match="is damaged") as caught:
            PassageIndex(where, encoder=ENCODER).search(ASKED[0], 1)
        assert "\n" not in str(caught.value)
        assert check(where, encoder=ENCODER).problems
    finally:
        client.call("upsert", table, [before])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda r: "postgresql://x:secret@127.0.0.1:9/db", "cannot be used: connection"),
        (lambda r: "milvus+http://x:secret@127.0.0.1:9", "cannot be used: .*[Cc]onnect"),
        (lambda r: r.getfixturevalue("postgres") + "#a-b;c", "cannot be the name of an index"),
        (lambda r: r.getfixturevalue("postgres").replace("/postgres?", "/none?"), "none"),
        (lambda r: "milvus+file:///tmp/x", "ends with .db"),
    ],
    ids=["down", "milvus down", "name", "database", "folder"],
)
def test_trouble_is_one_line(
    make: Callable[[Any], str], says: str, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    needs("postgres", "psycopg", "pgvector")
    needs("milvus", "pymilvus", "milvus_lite")
    monkeypatch.setattr("index.milvus.PATIENCE", 1)
    with pytest.raises(InputError, match=says) as caught:
        PassageIndex(make(request), encoder=ENCODER)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_wrong_password_is_one_line_without_it(postgres: str) -> None:
    damage_postgres(f"{postgres}#public", "DROP ROLE IF EXISTS reader")
    damage_postgres(f"{postgres}#public", "CREATE ROLE reader")  # may not log in
    host = quote(postgres.partition("host=")[2], safe="")
    with pytest.raises(InputError, match="reader") as caught:
        PassageIndex(f"postgresql://reader:hush@/postgres?host={host}", encoder=ENCODER)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_takes_an_address(
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process, as each of its own would load the encoder."""
    monkeypatch.setattr("ui.cli._hush", lambda: None)  # it would hush other tests too
    where = address("postgres", request)

    def beleg(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--index", where])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, _, told = beleg("list")
    assert (code, len(told.splitlines())) == (2, 1)
    assert beleg("add", str(EXAMPLE))[::2] == (0, "")
    assert EXAMPLE.name in beleg("list")[1]
    assert (
        "rief daraufhin seinen Botschafter" in beleg("ask", "Why was the ambassador recalled?")[1]
    )
    assert beleg("check")[0] == 0
    assert beleg("remove", EXAMPLE.name)[0] == 0
    code, _, told = beleg("ask", "Why?")
    assert (code, len(told.splitlines())) == (2, 1)


KILLS = 4


def test_a_killed_writer_leaves_the_state_before_or_after_on_postgres(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = address("postgres", request)
    for seed in range(KILLS):
        assert kill_trial(where, seed, most=1, log=tmp_path / "log") == ""


def test_a_killed_writer_leaves_the_state_before_or_after_on_milvus(tmp_path: Path) -> None:
    needs("milvus", "pymilvus", "milvus_lite")
    from milvus_lite.server_manager import server_manager_instance

    folder = tmp_path / "index.db"  # one process at a time may have it open
    for seed in range(KILLS):
        assert kill_trial(f"milvus+file://{folder}", seed, most=4, log=tmp_path / "log") == ""
        server_manager_instance.release_server(str(folder))


def test_any_number_of_documents_may_be_removed_at_once(
    milvus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Milvus the numbers of those that are gone take several rows; they come in runs, or not."""
    monkeypatch.setattr("index.milvus.PIECE", 500)
    index = PassageIndex(f"{milvus}#many", encoder=ENCODER)
    index.add(Document(f"Text {n}.", f"s{n}", "T", whole=True) for n in range(120))
    index.remove(*(f"s{n}" for n in range(120) if n % 2 or n < 40))
    again = PassageIndex(f"{milvus}#many", encoder=ENCODER)
    assert [document.source for document in again.documents] == [f"s{n}" for n in range(40, 120, 2)]
    (hit,) = again.search("102", 1)
    assert hit.passage.document.source == "s102"
    again.remove(*(document.source for document in again.documents))
    assert index.search("102", 1) == []
    monkeypatch.setattr("index.milvus.GRACE", -1)
    index.add(some(1))  # what is gone is deleted
    assert not index.view.snapshot.session._gone  # type: ignore[attr-defined]
    assert texts(index) == {"d1": text(1)}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e300])
    | st.sampled_from(["", "1", "None", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=3,
)  # fmt: skip


@given(VALUES, VALUES)
def test_labels_are_the_same_for_what_a_filter_takes_for_the_same(one: Any, other: Any) -> None:
    same = type(one) is type(other) and one == other
    assert (label("key", one) == label("key", other)) == same
    assert label("key", one) != label("other key", one)


class TestPostgresVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, request: pytest.FixtureRequest) -> PassageStore:
        return PassageStore(PassageIndex(address("postgres", request), encoder=ENCODER))


class TestMilvusVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, milvus: str) -> Iterator[PassageStore]:
        """One for all of them, as Milvus takes its time to make collections."""
        store = PassageStore(PassageIndex(f"{milvus}#store", encoder=ENCODER))
        yield store
        store.delete()


@pytest.mark.parametrize("secret", ["?host=h&password=secret", "?p%61ssword=secret"])
def test_a_password_among_the_options_is_not_shown(secret: str) -> None:
    pytest.importorskip("psycopg")
    from index.postgres import Postgres

    shown = Postgres(f"postgresql://ann:secret@host:1/base{secret}#name").address
    assert "secret" not in shown
    assert shown.startswith("postgresql://ann@host:1/base")
    assert shown.endswith("#name")


def test_a_server_is_named_without_its_password_and_is_not_told_to_be_repaired(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg")
    from index import check as module

    address = "postgresql://ann:secret@host/base"
    for problems in ([], ["something is damaged"]):
        found = Findings(problems=problems, lost=problems)
        monkeypatch.setattr(module, "check", lambda *_, found=found: found)
        assert main(["check", "--index", address]) == bool(problems)
        shown = capsys.readouterr().out
        assert "secret" not in shown
        assert "--repair" not in shown

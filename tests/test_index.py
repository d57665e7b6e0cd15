"""An index that lives: added to, updated, emptied, shared, refused, checked and repaired."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from index import lock, store
from index.check import check, repair
from index.errors import DamageError, InputError, MismatchError, ModelError
from index.records import SCHEMA, Record, Snapshot, write_manifest
from index.split import RULES
from index.store import FILE, PassageIndex
from index.types import Document
from index.view import View
from tests.conftest import ROOT, Run
from tests.faults import ENCODER, documents, held, question, text
from tests.tiny import TinyEncoder


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PassageIndex]:
    made = PassageIndex(tmp_path / "index", encoder=ENCODER)
    yield made
    made.close()


def some(*numbers: int, version: int = 0) -> list[Document]:
    return documents({f"d{n}": text(n, version) for n in numbers})


class Counting(TinyEncoder):
    """Counts what is embedded to be found."""

    texts = 0

    def passages(self, texts: Sequence[str], *, progress: str = "") -> NDArray[np.float32]:
        self.texts += len(texts)
        return super().passages(texts, progress=progress)


def folder(index: PassageIndex) -> Path:
    assert index.path is not None
    return index.path


# --- adding, updating, removing ---


def test_the_same_bytes_twice_are_one_document(index: PassageIndex, tmp_path: Path) -> None:
    names = ["a.txt", "b.txt", "c.txt"]
    for name in names:
        (tmp_path / name).write_text("Ein Satz. Noch einer.", "utf-8")
    said: list[str] = []
    (first,) = index.add([tmp_path / "a.txt"])
    again = index.add([tmp_path / "a.txt", tmp_path / "b.txt"], on_skip=said.append)
    assert [d.source for d in again] == ["a.txt", "a.txt"]
    assert index.documents[0] == first
    assert len(index.documents) == 1
    assert said == [f"{tmp_path}/b.txt is word for word a.txt: one document"]
    other = PassageIndex(encoder=ENCODER)
    assert len(other.add([tmp_path / name for name in names])) == 3
    assert len(other.documents) == 1  # also where they come together


@pytest.mark.parametrize("copy", ["b.txt", "0.txt"])
@pytest.mark.parametrize("known", [True, False], ids=["a twin", "renamed"])
def test_a_twin_of_what_is_replaced_is_a_document(
    copy: str, known: bool, index: PassageIndex, tmp_path: Path
) -> None:
    """Whichever of the two is read first."""
    paths = {name: tmp_path / name for name in sorted(["a.txt", copy])}
    paths["a.txt"].write_text(text(1), "utf-8")
    index.add(paths["a.txt"])
    paths[copy].write_text(text(1), "utf-8")
    if known:
        assert [d.source for d in index.add(paths.values())] == ["a.txt", "a.txt"]
    paths["a.txt"].write_text(text(2), "utf-8")
    index.add(paths.values())
    assert held(index) == {"a.txt": text(2), copy: text(1)}


def test_a_twin_of_a_file_that_is_gone_is_none_of_its_own(
    index: PassageIndex, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(text(1), "utf-8")
    index.add(tmp_path / "a.txt")
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    index.add(tmp_path / "b.txt")
    assert held(index) == {"a.txt": text(1)}


@pytest.mark.parametrize("order", [1, -1])
def test_a_twin_of_an_address_that_is_replaced_is_a_document(
    order: int, index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = {"http://a.example/1": text(1), "http://a.example/2": text(1)}
    monkeypatch.setattr("index.load._fetch", lambda url: (web[url].encode(), "text", "utf-8"))
    for _ in range(2):
        assert len(index.add(list(web), urls=True)) == 2
        assert held(index) == {"http://a.example/1": text(1)}
    web["http://a.example/1"] = text(2)
    index.add(list(web)[::order], urls=True)
    assert held(index) == {"http://a.example/1": text(2), "http://a.example/2": text(1)}


def test_changed_bytes_replace_the_document_of_their_source(
    index: PassageIndex, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text(text(1), "utf-8")
    index.add([file, *some(2)])
    assert index.search(question(text(1)), 1)[0].passage.document.text == text(1)
    file.write_text(text(1, 7), "utf-8")
    index.add([file])
    assert held(index) == {"a.txt": text(1, 7), "d2": text(2)}
    assert {p.document.text for p in index.view.passages} == {text(1, 7), text(2)}


def test_bytes_that_are_the_same_are_not_parsed_again(
    index: PassageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "a.html"
    page.write_text("<html><body><p>Ein Satz über Birnen steht hier.</p></body></html>", "utf-8")
    index.add([page])
    monkeypatch.setattr("index.load.parse_safely", lambda *_: pytest.fail("parsed again"))
    (document,) = index.add([page])
    assert "Birnen" in document.text


def test_a_batch_with_bad_files_adds_the_good_ones(index: PassageIndex, tmp_path: Path) -> None:
    for name, data in (("a.txt", b"Ein Satz."), ("b.pdf", b"%PDF-1.4 broken"), ("c.txt", b"")):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "d.txt").write_bytes(b"Noch ein Satz.")
    said: list[str] = []
    names = ["a.txt", "b.pdf", "nowhere.txt", "c.txt", "d.txt"]
    with pytest.raises(InputError, match=r"c\.txt is empty"):
        index.add([tmp_path / name for name in names], on_skip=said.append)
    assert [d.source for d in index.documents] == ["a.txt", "d.txt"]
    assert [line.split("/")[-1].split()[0] for line in said] == ["b.pdf", "nowhere.txt"]


def test_an_interrupted_add_goes_on_where_it_stopped(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BATCH", 10)

    class Impatient(TinyEncoder):
        calls, most = 0, 2

        def passages(self, texts: object, *, progress: str = "") -> NDArray[np.float32]:
            self.calls += 1
            if self.calls > self.most:
                raise KeyboardInterrupt
            return super().passages(texts, progress=progress)  # type: ignore[arg-type]

    impatient = Impatient()
    impatient.calls = -2  # the golden sentence's
    other = PassageIndex(folder(index), encoder=impatient)
    with pytest.raises(KeyboardInterrupt):
        other.add(some(*range(12)))
    there = len(index.documents)
    assert 0 < there < 12
    impatient.calls, impatient.most = 0, 99
    other.add(some(*range(12)))
    assert [d.source for d in index.documents] == [f"d{n}" for n in range(12)]
    assert impatient.calls < 12  # not all over again


def test_adding_gives_each_document_when_it_is_there(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BATCH", 10)
    asked = 0

    def endless() -> Iterator[Document]:
        nonlocal asked
        for document in some(*range(1000)):
            asked += 1
            yield document

    adding = index.adding(endless())
    first = next(adding)
    assert first.source == "d0"
    assert asked < 10  # nor is more read than is needed
    assert "d0" in held(index)
    adding.close()
    index.add(some(5000))  # the lock is free again


def test_removing_is_all_or_none(index: PassageIndex) -> None:
    index.add(some(1, 2))
    with pytest.raises(InputError, match="'nowhere'"):
        index.remove("d1", "nowhere")
    assert len(index.documents) == 2
    index.remove(index.documents[0].id)
    assert list(held(index)) == ["d2"]
    index.remove("d2", "nowhere", missing_ok=True)
    assert index.search("Who praises apples?") == []


def test_nothing_is_left_of_what_was_removed(index: PassageIndex) -> None:
    secret = "Zauberwort Xyzzyplugh steht nur hier."
    index.add([*some(1, 2, 3), Document(secret, "secret.txt", "Secret Xyzzyplugh", "de")])
    index.add([Document(secret + " Xyzzyplugh.", "secret.txt", "Xyzzyplugh", "de")])
    assert index.search("Xyzzyplugh", 1)[0].passage.document.source == "secret.txt"
    vector = ENCODER.passages([secret])[0].astype(np.float16).tobytes()
    index.remove("secret.txt")
    assert repair(folder(index), encoder=ENCODER).problems == []
    for file in folder(index).iterdir():
        data = file.read_bytes().lower()
        assert b"xyzzyplugh" not in data
        assert b"secret.txt" not in data
        assert vector[:64] not in data
    assert index.search(question(text(2)), 1)[0].passage.document.source == "d2"


@pytest.mark.parametrize("encoder", [ENCODER, TinyEncoder("other")], ids=["damaged", "another"])
def test_a_repair_says_that_a_reader_keeps_what_was_removed(
    encoder: TinyEncoder, index: PassageIndex
) -> None:
    def kept() -> list[str]:
        files = folder(index).iterdir()
        return [f.name for f in files if b"Xyzzyplugh" in f.read_bytes()]

    index.add([*some(1, 2), Document("Only here stands Xyzzyplugh.", "secret", "S", "en")])
    view = index.view
    index.remove("secret")
    with closing(sqlite3.connect(folder(index) / FILE)) as db:
        db.execute("UPDATE sentences SET vectors = zeroblob(length(vectors)) WHERE passage = 2")
        db.commit()
    (note,) = repair(folder(index), encoder=encoder).notes
    assert "a reader holds an earlier state" in note
    assert kept()
    del view
    assert not repair(folder(index), encoder=encoder).notes
    assert kept() == []


def test_metadata_is_kept_and_a_change_of_it_is_one(index: PassageIndex) -> None:
    index.add([Document("Ein Satz.", "a", "A", "de", metadata={"year": 2020, "tags": ["x"]})])
    index.add([Document("Ein Satz.", "a", "A", "de", metadata={"year": 2021})])
    (document,) = index.documents
    assert document.metadata == {"year": 2021}
    assert index.search("Satz", where={"year": 2020}) == []
    assert len(index.search("Satz", where={"year": [2020, 2021], "source": "a"})) == 1


def test_opening_embeds_nothing_again(index: PassageIndex) -> None:
    index.add(some(*range(5)))
    encoder = Counting()
    again = PassageIndex(folder(index), encoder=encoder)
    assert again.search(question(text(3)), 1)[0].passage.document.source == "d3"
    again.add(some(3))  # which is there
    assert encoder.texts == 1  # the golden sentence
    again.close()


# --- one view, however it came about ---


def same_ranking(one: PassageIndex, other: PassageIndex, asked: list[str]) -> None:
    for words in asked:
        left, right = one.search(words, 10), other.search(words, 10)
        assert [(h.passage.document.source, h.passage.start, h.passage.end) for h in left] == [
            (h.passage.document.source, h.passage.start, h.passage.end) for h in right
        ]
        np.testing.assert_allclose([h.score for h in left], [h.score for h in right], rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_view_brought_up_to_date_is_that_of_an_index_opened_anew(
    index: PassageIndex, seed: int
) -> None:
    """Changes of all kinds, seen by one that searches after each and by one that does not."""
    chance = random.Random(seed)
    reader = PassageIndex(folder(index), encoder=ENCODER)
    asked = [question(text(n)) for n in range(0, 30, 7)] + ["März 1904 im Gletscherbericht"]
    for step in range(12):
        now = sorted(held(index))
        if step % 3 == 2 and now:
            index.remove(*chance.sample(now, len(now) // 2))
        numbers = [chance.randrange(30) for _ in range(chance.choice([1, 2, 9]))]
        german = [
            Document(f"Der Gletscherbericht {n} kam im März. Gletscher {n}.", f"g{n}", "G", "de")
            for n in numbers
        ]
        index.add([*some(*numbers, version=chance.randrange(3)), *german])
        if chance.random() < 0.3:
            index.add([Document("Ein Bericht und noch ein Bericht.", "b", "B", "de")])
        same_ranking(reader, PassageIndex(folder(index), encoder=ENCODER), asked)
    assert len(reader.view.searchable.segments) < 6
    reader.close()


def test_a_view_stays_what_it_was(index: PassageIndex) -> None:
    index.add(some(1, 2))
    view = index.view
    index.remove("d1")
    index.add(some(3))
    other = PassageIndex(folder(index), encoder=ENCODER)
    other.add(some(2, version=5))
    assert [d.source for d in view.documents] == ["d1", "d2"]
    (hit,) = index.search(question(text(1)), 1, view=view)
    assert hit.passage.document.text == text(1)
    assert held(index) == {"d3": text(3), "d2": text(2, 5)}
    other.close()


def test_a_fork_and_its_origin_go_their_own_ways(index: PassageIndex) -> None:
    index.add(some(1))
    fork = index.fork()
    fork.add(some(2))
    index.add(some(3))  # under the number that the fork's has
    assert held(fork) == {"d1": text(1), "d2": text(2)}
    assert held(index) == {"d1": text(1), "d3": text(3)}
    assert fork.search(question(text(2)), 1)[0].passage.document.source == "d2"
    assert index.search(question(text(3)), 1)[0].passage.document.source == "d3"


# --- one writer, many readers ---


def test_a_second_writer_is_told_who_is_at_it(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT", 0.2)
    adding = index.adding(some(1))
    next(adding)  # not done yet
    other = PassageIndex(folder(index), encoder=ENCODER)
    with pytest.raises(InputError, match=rf"process {os.getpid()} on \S+ since 20") as caught:
        other.add(some(2))
    assert "\n" not in str(caught.value)
    assert held(other) == {"d1": text(1)}  # reading goes on
    list(adding)
    other.add(some(2))
    assert len(index.documents) == 2


def test_threads_may_share_an_index(index: PassageIndex) -> None:
    """One writes, three ask: each answer is right in the state that it is of."""
    index.add(some(*range(10)))
    wrong: list[str] = []
    done = threading.Event()

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        while not done.is_set():
            view = index.view
            there = {d.source: d.text for d in view.documents}
            source = chance.choice(sorted(there))
            (hit,) = index.search(question(there[source]), 1, view=view)
            if hit.passage.document.text != there[source]:
                wrong.append(source)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for version in range(15):
        index.add(some(*range(5), version=version))
        index.remove(*(f"d{n}" for n in range(3)))
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_processes_may_share_an_index(index: PassageIndex) -> None:
    """The short form of tests/benchmarks/faults.py readers."""
    index.add(some(*range(10)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks.faults", "readers", str(folder(index))),
            *("--readers", "2", "--writers", "2", "--seconds", "3"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 wrong" in done.stdout


# --- what it was made with ---


@pytest.mark.parametrize(
    ("encoder", "says"),
    [
        (TinyEncoder("other"), r"the encoder 'tiny', not the encoder 'other'; say --model tiny"),
        (TinyEncoder(dimension=16), "of dimension 32, not dimension 16"),
        (TinyEncoder(weights="new"), "of weights , not weights new"),
        (TinyEncoder(salt="new", weights=""), "as it was, not as it is now"),
        (TinyEncoder(prompts={"query": "Q: "}), r'of prompts \{\}, not prompts \{"query": "Q: "\}'),
    ],
    ids=["name", "dimension", "revision", "vectors", "prompts"],
)
def test_another_encoder_is_refused(index: PassageIndex, encoder: TinyEncoder, says: str) -> None:
    index.add(some(1))
    for use in (lambda i: i.search("Who?"), lambda i: i.add(some(2)), lambda i: i.check_encoder()):
        with pytest.raises(MismatchError, match=says) as caught:
            use(PassageIndex(folder(index), encoder=encoder))
        assert "\n" not in str(caught.value)
        assert f"beleg check --index {folder(index)} --repair" in str(caught.value)
    assert len(index.documents) == 1
    found = check(folder(index), encoder=encoder)
    assert found.lost == []
    assert len(found.problems) == 1
    repair(folder(index), encoder=encoder)
    again = PassageIndex(folder(index), encoder=encoder)
    assert again.search(question(text(1)), 1)[0].passage.document.text == text(1)


def test_another_encoder_is_refused_without_assertions_too(index: PassageIndex) -> None:
    script = """
from index.store import PassageIndex
from tests.tiny import TinyEncoder
for encoder in (TinyEncoder("other"), TinyEncoder(dimension=16), TinyEncoder(weights="new"),
                TinyEncoder(salt="new", weights=""), TinyEncoder(prompts={"query": "Q: "})):
    try:
        PassageIndex(FOLDER, encoder=encoder).search("Who praises?")
    except Exception as error:
        print(type(error).__name__)
"""
    index.add(some(1))
    script = script.replace("FOLDER", repr(str(folder(index))))
    done = subprocess.run(
        [sys.executable, "-O", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["MismatchError"] * 5


def test_a_splitter_that_has_changed_is_refused(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.manifest.RULES", 99)
    with pytest.raises(MismatchError, match=rf"splitter rules {RULES}, .*splitter rules 99"):
        PassageIndex(folder(index), encoder=ENCODER).search("Who?")


@pytest.mark.parametrize("bad", [np.nan, np.inf, "shape"])
def test_what_is_no_vector_is_refused(bad: float | str, index: PassageIndex) -> None:
    class Broken(TinyEncoder):
        broken = False

        def _vectors(self, texts: object, kind: str) -> NDArray[np.float32]:
            found = super()._vectors(texts, kind)  # type: ignore[arg-type]
            if not self.broken:
                return found
            return found[:, :5] if isinstance(bad, str) else np.full_like(found, bad)

    encoder = Broken()
    own = PassageIndex(folder(index), encoder=encoder)
    own.add(some(1))
    encoder.broken = True
    with pytest.raises(ModelError, match="nothing was added"):
        own.add(some(2))
    with pytest.raises(ModelError, match="for the question"):
        own.search("Who praises?")
    assert held(index) == {"d1": text(1)}


class Scaled(TinyEncoder):
    """Gives vectors of other lengths, and as wider numbers."""

    scale = 1.0

    def passages(self, texts: Sequence[str], *, progress: str = "") -> Any:
        return super().passages(texts).astype(np.float64) * self.scale


@pytest.mark.parametrize("scale", [1e-30, 1e20, 1e300])
def test_vectors_of_any_length_become_unit_vectors_or_are_refused(
    scale: float, index: PassageIndex
) -> None:
    encoder = Scaled()
    own = PassageIndex(folder(index), encoder=encoder)
    own.add(some(1))
    encoder.scale = scale
    if scale == 1e300:
        with pytest.raises(ModelError, match=r"no finite number for .* nothing was added"):
            own.add(some(2))
    else:
        own.add(some(2))
        view = own.view
        lengths = [np.linalg.norm(view.vector(passage)) for passage in view.passages]
        assert lengths == pytest.approx([1.0] * len(lengths), abs=0.01)
    encoder.scale = 1.0
    assert check(folder(index), encoder=encoder).problems == []


@pytest.mark.parametrize("bad", [float("nan"), 0.5])
def test_vectors_that_were_written_and_are_none_are_embedded_anew(
    bad: float, index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(some(1))
    with monkeypatch.context() as before:
        before.setattr(store, "unit", lambda vectors: vectors * bad)
        index.add(some(2))
    (problem,) = check(folder(index), encoder=ENCODER).problems
    assert "the vectors of 'd2' are none" in problem
    assert repair(folder(index), encoder=ENCODER).lost == []
    assert check(folder(index), encoder=ENCODER).problems == []
    assert held(index) == {"d1": text(1), "d2": text(2)}


def test_few_passages_or_none_are_no_trouble(index: PassageIndex) -> None:
    assert index.search("Who praises apples?", 5) == []
    index.add(some(1))
    assert len(index.search("Who praises apples?", 1000)) == len(index.view.passages) > 0
    assert index.search("Who praises apples?", 0) == []
    assert index.search("Who praises apples?", where={"source": "nowhere"}) == []


# --- damage, and earlier versions ---


def test_an_index_of_the_version_before_is_told_and_brought_up_to_date(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.executescript("""
            CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL);
            CREATE TABLE documents (
              id TEXT PRIMARY KEY, source TEXT NOT NULL UNIQUE, path TEXT NOT NULL,
              title TEXT NOT NULL, language TEXT NOT NULL, pages TEXT NOT NULL, text TEXT NOT NULL);
            CREATE TABLE passages (
              id INTEGER PRIMARY KEY, document TEXT NOT NULL, start INTEGER NOT NULL,
              end INTEGER NOT NULL, sentences TEXT NOT NULL, vector BLOB NOT NULL,
              sentence_vectors BLOB NOT NULL);
            INSERT INTO manifest VALUES ('schema', '2'), ('encoder', 'tiny'), ('dimension', '32');
        """)
        for d in some(1, 2):
            row = (d.id, d.source, d.path, d.title, d.language, json.dumps(d.pages), d.text)
            db.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        db.commit()
    for use in (PassageIndex.open, lambda path: PassageIndex(path, encoder=ENCODER)):
        with pytest.raises(InputError, match=r"version 2, .* --repair  brings it up") as caught:
            use(tmp_path)
        assert "\n" not in str(caught.value)
    assert check(tmp_path, encoder=ENCODER).lost == []
    assert repair(tmp_path, encoder=ENCODER).documents == 2
    index = PassageIndex(tmp_path, encoder=ENCODER)
    assert held(index) == {"d1": text(1), "d2": text(2)}
    assert check(tmp_path, encoder=ENCODER).problems == []


def of_version(index: PassageIndex, version: int, *, sealed: bool) -> Path:
    """The file of an index, which says that it is of another version."""
    index.close()
    with closing(sqlite3.connect(folder(index) / FILE)) as db:
        rows = dict(db.execute("SELECT key, value FROM manifest")) | {"schema": str(version)}
        if sealed:
            del rows["seal"]
            write_manifest(db, rows)
        else:
            db.execute("UPDATE manifest SET value = ? WHERE key = 'schema'", [version])
        db.execute("ALTER TABLE documents ADD COLUMN more TEXT DEFAULT 'precious'")
        db.execute("UPDATE documents SET seal = randomblob(8)")
        db.commit()
    return folder(index) / FILE


def test_an_index_of_a_newer_version_is_refused_and_left_alone(index: PassageIndex) -> None:
    index.add(some(1, 2))
    file = of_version(index, SCHEMA + 1, sealed=True)
    (large := folder(index) / "beleg.large").write_bytes(b"of a newer Beleg")
    before = file.read_bytes()
    for use in (PassageIndex, check, repair):
        with pytest.raises(InputError, match=r"get a newer Beleg$"):
            use(folder(index), encoder=ENCODER)
    assert file.read_bytes() == before
    assert large.exists()


def test_a_flipped_bit_does_not_make_a_newer_version(index: PassageIndex) -> None:
    index.add(some(1, 2))
    of_version(index, SCHEMA + 4, sealed=False)
    with pytest.raises(DamageError, match="its manifest is not what was written"):
        PassageIndex(folder(index), encoder=ENCODER)
    assert check(folder(index), encoder=ENCODER).lost


@pytest.mark.parametrize(
    ("sql", "says", "lost"),
    [
        ("UPDATE texts SET text = replace(text, 'March', 'April') WHERE document = 1", "d0", 1),
        ("UPDATE documents SET title = 'X' WHERE id = 2", "d1", 1),
        ("DELETE FROM documents WHERE id = 3", "not all there", 1),
        ("UPDATE passages SET start = start + 1 WHERE id = 1", "passage 1", 0),
        ("DELETE FROM passages WHERE id = 2", "not all there", 0),
        ("UPDATE sentences SET vectors = zeroblob(length(vectors)) WHERE passage = 2", "2", 0),
        ("UPDATE manifest SET value = 'x' WHERE key = 'prompts'", "manifest", 0),
        ("UPDATE state SET documents = 4", "state", 0),
    ],
)
def test_what_was_not_written_is_never_an_answer(
    index: PassageIndex, sql: str, says: str, lost: int
) -> None:
    index.add(some(*range(5)))
    index.close()
    with closing(sqlite3.connect(folder(index) / FILE)) as db:
        assert db.execute(sql).rowcount
        db.commit()
    with pytest.raises(DamageError, match=says) as caught:
        PassageIndex(folder(index), encoder=ENCODER).search(question(text(4)))
    assert f"beleg check --index {folder(index)} --repair" in str(caught.value)
    assert check(folder(index), encoder=ENCODER).problems
    repair(folder(index), encoder=ENCODER)
    assert check(folder(index), encoder=ENCODER).problems == []
    again = PassageIndex(folder(index), encoder=ENCODER)
    assert len(again.documents) == 5 - lost
    assert again.search(question(text(4)), 1)[0].passage.document.text == text(4)


def test_a_document_that_vanished_is_missed_by_who_lists_and_removes(index: PassageIndex) -> None:
    index.add(some(*range(5)))
    index.close()
    with closing(sqlite3.connect(folder(index) / FILE)) as db:
        db.execute("DELETE FROM documents WHERE id = 3")
        db.commit()
    again = PassageIndex(folder(index), encoder=ENCODER)
    uses = [
        lambda: list(again.records),
        lambda: len(again.documents),
        lambda: again.documents[0],
        lambda: again.remove("d0", "d2"),
    ]
    for use in uses:
        with pytest.raises(DamageError, match="it does not hold all that was written"):
            use()
    with closing(sqlite3.connect(folder(index) / FILE)) as db:
        assert db.execute("SELECT count(*) FROM documents").fetchone() == (4,)
        db.execute("INSERT INTO documents SELECT 3, 'k', 's', path, title, language, pages, raw,"
                   " metadata, whole, hash, first, passages, digest, seal FROM documents"
                   " WHERE id = 2")  # fmt: skip
        db.commit()
    with pytest.raises(DamageError, match="it does not hold all that was written"):
        len(again.documents)
    with pytest.raises(InputError, match="no document 'nobody'"):
        PassageIndex(encoder=ENCODER).remove("nobody")


def test_what_is_not_there_is_no_damage_within_a_change(index: PassageIndex) -> None:
    index.add(some(1, 2))
    for own in (index, index.fork()):
        with pytest.raises(InputError, match="no document 'd3'"):
            own.remove("d1", "d3")
        assert sorted(record.source for record in own.records) == ["d1", "d2"]


def test_a_repair_does_not_embed_what_is_whole(index: PassageIndex) -> None:
    index.add(some(*range(5)))
    with closing(sqlite3.connect(folder(index) / FILE)) as db:
        db.execute("UPDATE sentences SET vectors = zeroblob(length(vectors)) WHERE passage = 2")
        db.commit()

    encoder = Counting()
    repair(folder(index), encoder=encoder)
    sentences = sum(1 + len(p.sentences) for p in index.view.passages)
    assert 0 < encoder.texts < sentences / 2


def test_a_reader_sees_a_repair_that_happens_meanwhile(index: PassageIndex) -> None:
    index.add(some(*range(5)))
    view = index.view
    with closing(sqlite3.connect(folder(index) / FILE)) as db:
        db.execute("UPDATE texts SET text = 'x' WHERE document = 1")
        db.commit()
    repair(folder(index), encoder=ENCODER)
    assert index.search(question(text(3)), 1, view=view)[0].passage.document.source == "d3"
    assert sorted(held(index)) == ["d1", "d2", "d3", "d4"]
    assert index.search(question(text(3)), 1)[0].passage.document.source == "d3"


def test_a_file_that_is_gone_is_not_made_anew(index: PassageIndex) -> None:
    index.add(some(1))
    index.close()
    (folder(index) / FILE).unlink()
    for use in (
        lambda: PassageIndex(folder(index), encoder=ENCODER),
        lambda: PassageIndex.open(folder(index)),
        lambda: check(folder(index)),
    ):
        with pytest.raises(InputError, match="is gone"):
            use()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that others may enter; the folders that pytest makes are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_index_that_may_not_be_written_still_answers(open_folder: Path) -> None:
    index = PassageIndex(open_folder / "index", encoder=ENCODER)
    index.add(some(1, 2))
    index.close()
    for path in (*folder(index).iterdir(), folder(index)):
        path.chmod(0o555 if path.is_dir() else 0o444)
    script = f"""
import os, tempfile
from index.errors import InputError
from index.store import PassageIndex
from tests.faults import ENCODER, documents, question, text
with tempfile.TemporaryDirectory() as made:  # who we become may not read Python's own modules
    warm = PassageIndex(made, encoder=ENCODER)
    warm.add(documents({{"d1": text(1)}}))
    warm.search("Who?")
    warm.close()
os.setgid(65534); os.setuid(65534)
index = PassageIndex({str(folder(index))!r}, encoder=ENCODER)
print(index.search(question(text(2)), 1)[0].passage.document.source)
try:
    index.add(documents({{"d3": text(3)}}))
except InputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    source, error = done.stdout.splitlines()
    assert source == "d2"
    assert "cannot be changed: Permission denied" in error
    assert held(PassageIndex(folder(index), encoder=ENCODER)) == {"d1": text(1), "d2": text(2)}


def test_the_command_checks_and_repairs(beleg: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ein Satz über Birnen. Noch einer über Äpfel.", "utf-8")
    index = ("--index", tmp_path / "index")
    assert beleg("add", tmp_path / "a.txt", tmp_path / "nowhere.txt", *index).returncode == 2
    sound = beleg("check", *index)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "documents: 1" in sound.stdout
    with closing(sqlite3.connect(tmp_path / "index" / FILE)) as db:
        db.execute("UPDATE sentences SET vectors = zeroblob(length(vectors))")
        db.commit()
    asked = beleg("ask", "Wo sind Birnen?", *index)
    assert asked.returncode == 2
    assert f"beleg check --index {tmp_path / 'index'} --repair" in asked.stderr
    assert beleg("check", *index).returncode == 1
    assert beleg("check", *index, "--repair").returncode == 0
    assert beleg("check", *index).returncode == 0
    assert beleg("check", "--index", tmp_path / "nowhere").returncode == 2


def test_a_change_costs_what_it_changes(index: PassageIndex) -> None:
    """What was made for searching is not made again, but added to."""
    index.add(some(*range(300)))
    before = index.view.searchable
    index.add(some(1000))
    after = index.view.searchable
    assert after.segments[0] is before.segments[0]
    (new,) = after.segments[1:]
    assert len(new) == len(index.view.only({"source": "d1000"}).passages)


def test_a_filter_follows_the_changes_and_reads_what_is_new_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = PassageIndex(tmp_path / "index", encoder=ENCODER)
    index.add(Document(f"Text {n}.", f"s{n}", "T", metadata={"even": n % 2 == 0}) for n in range(9))
    before = index.view

    def found(view: View) -> list[str]:
        return [document.source for document in view.only({"even": True}).documents]

    assert found(before) == ["s0", "s2", "s4", "s6", "s8"]
    read: list[str] = []
    plain = Snapshot.records

    def records(self: Snapshot, where: str = "", *values: object) -> Iterator[Record]:
        for record in plain(self, where, *values):
            read.append(record.source)
            yield record

    index.remove("s2", "s3")
    index.add(Document(f"New {n}.", f"s{n}", "T", metadata={"even": n < 6}) for n in (4, 5, 10))
    after = index.view
    monkeypatch.setattr(Snapshot, "records", records)
    only = after.only({"even": True})
    assert read == ["s4", "s5", "s10"]
    assert found(after) == [d.source for d in only.documents] == ["s0", "s6", "s8", "s4", "s5"]
    assert after.only({"even": True}).searchable is only.searchable
    assert found(before) == ["s0", "s2", "s4", "s6", "s8"]
    assert found(index.view) == found(after)
    assert {p.document.source for p in only.only({"source": ["s4", "s10"]}).passages} == {"s4"}


def test_a_filter_does_not_pass_over_a_document_that_is_damaged(tmp_path: Path) -> None:
    index = PassageIndex(tmp_path / "index", encoder=ENCODER)
    index.add(Document(f"Text {n}.", f"s{n}", "T") for n in range(5))
    view = index.view
    with closing(sqlite3.connect(tmp_path / "index" / FILE)) as db, db:
        db.execute("UPDATE documents SET source = 'x' WHERE source = 's3'")
    with pytest.raises(DamageError, match="not what was written"):
        index.view.only({"source": "s3"})
    assert [d.source for d in view.only({"source": "s3"}).documents] == ["s3"]


def test_a_writer_that_waits_is_the_next(tmp_path: Path) -> None:
    turns, over = 0, threading.Event()

    def greedy() -> None:
        nonlocal turns
        while not over.is_set():
            with lock.exclusive(tmp_path):
                turns += 1
                time.sleep(0.01)

    writer = threading.Thread(target=greedy)
    writer.start()
    try:
        while turns < 3:
            time.sleep(0.01)
        before = turns
        with lock.exclusive(tmp_path):
            assert turns - before <= 5
    finally:
        over.set()
        writer.join()

"""Many passages: the large segment, its file, and that it is never a wrong answer."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import large, local, records, view
from index.check import check, repair
from index.dense import CoarseIndex
from index.errors import InputError
from index.fuse import top
from index.keywords import KeywordIndex, Postings, TermPostings, WordList
from index.lexical import Compounds, stem
from index.records import Part, Snapshot
from index.store import PassageIndex
from index.types import Document
from index.vectors import unit
from tests.faults import ENCODER, documents, held, question, text


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large, here."""
    for module in (local, view):
        monkeypatch.setattr(module, "LARGE", 30)
        monkeypatch.setattr(module, "REST", 6)
        monkeypatch.setattr(module, "SHARE", 2)
    monkeypatch.setattr(large, "CHUNK", 25)
    monkeypatch.setattr(large, "FEW", 10)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PassageIndex]:
    made = PassageIndex(tmp_path / "index", encoder=ENCODER)
    made.add(some(*range(60)))
    yield made
    made.close()


def some(*numbers: int, version: int = 0) -> list[Document]:
    return documents({f"d{n}": text(n, version) for n in numbers})


def opened(index: PassageIndex) -> PassageIndex:
    assert index.path is not None
    return PassageIndex(index.path, encoder=ENCODER)


def file(index: PassageIndex) -> Path:
    assert index.path is not None
    return index.path / large.FILE


def answers(index: PassageIndex, there: dict[str, str]) -> None:
    """Every document is found, and nothing else."""
    assert held(index) == there
    assert len({p.document.source for p in index.view.passages}) == len(there)
    for source, said in there.items():
        (hit,) = index.search(question(said), 1)
        assert (hit.passage.document.source, hit.passage.document.text) == (source, said)


def test_many_passages_are_in_a_file_that_is_not_made_again(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert file(index).exists()
    monkeypatch.setattr(large.Large, "none", lambda *_: pytest.fail("made again"))
    again = opened(index)
    monkeypatch.setattr(large.Large, "extended", lambda *_: pytest.fail("made again"))
    assert again.view.searchable.large is not None
    answers(again, {f"d{n}": text(n) for n in range(60)})


def test_few_passages_have_no_file(tmp_path: Path) -> None:
    index = PassageIndex(tmp_path / "index", encoder=ENCODER)
    index.add(some(1, 2, 3))
    index.search("Who praises apples?")
    assert not file(index).exists()
    assert index.view.searchable.large is None


@pytest.mark.parametrize("seed", range(3))
def test_a_large_index_lives(index: PassageIndex, seed: int) -> None:
    """Changes of all kinds, seen by one that is open, one opened anew, and one in memory."""
    chance = random.Random(seed)
    reader, memory = opened(index), PassageIndex(encoder=ENCODER)
    memory.add(some(*range(60)))
    for step in range(6):
        now = held(index)
        gone = chance.sample(sorted(now), chance.choice([1, 5, 30]) if step % 2 else 0)
        if gone:
            index.remove(*gone)
            memory.remove(*gone)
        new = some(*chance.sample(range(90), chance.choice([1, 4, 20])), version=step)
        index.add(new)
        memory.add(new)
        for one in (index, reader, opened(index), memory):
            answers(one, held(index))
    assert reader.view.searchable.large is not None
    reader.close()


def test_a_filter_reaches_far_passages(index: PassageIndex) -> None:
    for source in ("d3", "d59"):
        hits = index.search(question(text(7)), 5, where={"source": source})
        assert {hit.passage.document.source for hit in hits} == {source}
    many = [f"d{n}" for n in range(0, 60, 2)]
    hits = index.search(question(text(8)), 20, where={"source": many})
    assert hits[0].passage.document.source == "d8"
    assert {hit.passage.document.source for hit in hits} <= set(many)


def test_damage_to_the_file_is_never_an_answer(index: PassageIndex) -> None:
    there = {f"d{n}": text(n) for n in range(60)}
    whole, chance = file(index).read_bytes(), random.Random(0)
    other = PassageIndex(index.path.parent / "other", encoder=ENCODER)  # type: ignore[union-attr]
    other.add(some(*range(60), version=3))
    for kind in ["bit"] * 20 + ["cut", "empty", "noise", "foreign", "longer"]:
        data, at = bytearray(whole), chance.randrange(len(whole))
        if kind == "bit":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "empty":
            data.clear()
        elif kind == "noise":
            data[at : at + 64] = chance.randbytes(len(data[at : at + 64]))
        elif kind == "longer":
            data += b"x"
        else:
            data = bytearray(file(other).read_bytes())
        file(index).write_bytes(data)
        assert "beleg.large is not whole" in check(file(index).parent, encoder=ENCODER).notes[0]
        answers(opened(index), there)
        assert file(index).read_bytes() != data  # it was made anew
    found = check(file(index).parent, encoder=ENCODER)
    assert (found.problems, found.notes) == ([], [])


def test_a_file_of_another_past_is_found_out(index: PassageIndex, tmp_path: Path) -> None:
    """Of the same index, but of changes that were taken back."""
    assert index.path is not None
    index.close()
    names = [path.name for path in index.path.iterdir() if path.name != large.FILE]
    before = {name: (index.path / name).read_bytes() for name in names}
    opened(index).add(some(*range(100, 110)))
    later = file(index).read_bytes()
    for path in index.path.iterdir():
        path.unlink()
    for name, data in before.items():
        (index.path / name).write_bytes(data)
    again = opened(index)
    again.add(some(*range(200, 230)))
    file(index).write_bytes(later)
    answers(opened(index), held(again))


def test_where_it_cannot_be_written_nothing_is_lost(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file(index).unlink()
    monkeypatch.setattr(os, "fsync", full)
    answers(opened(index), {f"d{n}": text(n) for n in range(60)})
    assert not file(index).exists()
    assert not list(file(index).parent.glob(f"{large.FILE}*.new"))


def test_adding_takes_what_is_added(index: PassageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is neither read nor written for it, until a share has been added."""
    there, reader = file(index).read_bytes(), opened(index)
    answers(reader, held(index))
    with monkeypatch.context() as patch:
        plain = large.Large.read

        def read(*given: object, name: str = large.FILE) -> large.Large | None:
            assert name == large.MORE
            return plain(*given, name=name)  # type: ignore[arg-type]

        patch.setattr(large.Large, "read", read)
        for n in range(100, 124):
            index.add(some(n))
        index.remove("d3", "d105")
        index.add(some(4, 106, version=1))
        for n in range(124, 128):
            index.add(some(n))
    assert file(index).read_bytes() == there
    again = opened(index)
    for one in (index, reader, again):
        answers(one, held(index))
    more = again.view.searchable.more
    assert more is not None
    assert len(more) > 20
    index.add(some(128, 129))
    assert file(index).read_bytes() != there
    answers(reader, held(index))
    assert opened(index).view.searchable.more is None
    reader.close()


def test_damage_to_the_second_file_is_never_an_answer(index: PassageIndex) -> None:
    index.add(some(*range(100, 110)))
    more, chance = file(index).with_name(large.MORE), random.Random(0)
    whole, there = more.read_bytes(), held(index)
    assert check(more.parent, encoder=ENCODER).notes == []
    for kind in ["bit"] * 5 + ["cut", "gone", "base"]:
        data, at = bytearray(whole), chance.randrange(len(whole))
        if kind == "bit":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "base":
            data = bytearray(file(index).read_bytes())
        more.write_bytes(data)
        if kind == "gone":
            more.unlink()
        elif kind != "base":
            assert "beleg.large.more is not whole" in check(more.parent, encoder=ENCODER).notes[0]
        answers(opened(index), there)
    index.add(some(*range(110, 117)))
    answers(opened(index), held(index))
    assert check(more.parent, encoder=ENCODER).notes == []


def test_a_compound_is_split_by_words_of_before(index: PassageIndex) -> None:
    """In the segment that goes on, too."""
    before = [Document("Der Aufmarsch der Truppen begann.", "w", "W", "de"), *some(*range(70, 110))]
    index.add(before)
    index.add([Document("Ein Truppenaufmarsch am Morgen.", "s", "S", "de"), *some(*range(60, 70))])
    more = opened(index).view.searchable.more
    assert more is not None
    assert more.postings.terms.find(stem("aufmarsch", "de")) >= 0


def test_what_was_removed_is_not_in_the_file_after_a_repair(index: PassageIndex) -> None:
    index.add([Document("Zauberwort Xyzzyplugh steht nur hier.", "s", "S", "de"), *some(70, 71)])
    assert index.search("Xyzzyplugh", 1)[0].passage.document.source == "s"
    index.add(some(*range(72, 80)))
    assert b"xyzzyplugh" in file(index).with_name(large.MORE).read_bytes()
    index.remove("s")
    repair(file(index).parent, encoder=ENCODER)
    for path in file(index).parent.iterdir():
        assert b"xyzzyplugh" not in path.read_bytes().lower()
    answers(opened(index), held(index))
    assert b"xyzzyplugh" not in file(index).read_bytes()


def test_leftovers_of_a_killed_one_are_swept(index: PassageIndex) -> None:
    left = file(index).with_name(f"{large.FILE}.12.new")
    left.write_bytes(b"half")
    index.add(some(99))
    assert not left.exists()


# --- its parts ---


def test_the_coarse_index_finds_most_of_the_nearest() -> None:
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((100, 32))
    vectors = unit(
        (np.repeat(centres, 50, 0) + chance.standard_normal((5000, 32)) / 2).astype(np.float32)
    )
    index = CoarseIndex.train(vectors.astype(np.float16))
    index.add(vectors[:4000].astype(np.float16))
    kept = np.arange(4000) >= 50
    found = index.copy(kept)
    found.add(vectors[4000:])
    found = CoarseIndex.unpack(found.pack())
    assert len(found) == 4950
    queries = unit(vectors[50::100] + chance.standard_normal((50, 32)).astype(np.float32) / 20)

    def recall(rows: np.ndarray, among: np.ndarray | None) -> float:
        shares = []
        for query in queries:
            best = rows[np.argsort(-(vectors[rows + 50] @ query))[:10]]
            shares.append(np.isin(best, found.search(query, 30, among)[0]).mean())
        return float(np.mean(shares))

    assert recall(np.arange(4950), None) > 0.95
    for share in (0.9, 0.7, 0.1):
        among = chance.random(4950) < share
        assert recall(np.flatnonzero(among), among) > 0.95
        assert among[found.search(queries[0], 20, among)[0]].all()
    with pytest.raises(ValueError, match="finite vector of 32"):
        found.search(np.full(32, np.nan, np.float32), 5)


WORDS = "truppen aufmarsch truppenaufmarsch ostsee ostseeaufmarsch apfel straße 東京 zebra".split()


def test_a_long_run_scores_as_short_ones_do() -> None:
    chance = random.Random(1)
    rows = [("de", chance.choices(WORDS, k=chance.randrange(1, 30))) for _ in range(200)]
    parts = [Postings.of(rows[i : i + 50]) for i in range(0, 200, 50)]
    kept = np.asarray([chance.random() < 0.8 for _ in range(100)])
    run = TermPostings.none().extended(np.zeros(0, np.bool_), parts[:2])
    run = run.extended(kept, parts[2:3]).extended(np.ones(kept.sum() + 50, np.bool_), parts[3:])
    left = [row for row, keep in zip(rows, [*kept, *[True] * 100], strict=True) if keep]
    plain = KeywordIndex([Postings.of(left)])
    for asked in (["truppen"], ["aufmarsch", "zebra"], ["apfel", "strasse", "ostsee"], ["x"]):
        words = [{stem(word, "de"): 1.0, "zebra": 0.3} for word in asked]
        np.testing.assert_allclose(
            KeywordIndex([run]).scores(words), plain.scores(words), rtol=1e-4
        )
    assert Compounds(run.known).parts("truppenaufmarsch") == ("truppen", "aufmarsch")


def test_a_word_list_finds_what_it_holds() -> None:
    ordered = sorted({*WORDS, "", "a", "zz", "\U0001f600", "\uffff"})
    held = WordList.of(ordered)
    assert [held.find(word) for word in ordered] == list(range(len(ordered)))
    assert held.listed() == list(held) == ordered
    assert "b" not in held
    assert "a" not in WordList.of([])


def test_top_is_what_sorting_gives() -> None:
    chance = np.random.default_rng(2)
    for size in (0, 1, 5, 1000):
        scores = np.maximum(chance.standard_normal(size), 0).astype(np.float32) ** 8
        for k in (1, 3, 50):
            wanted = np.sort(scores[scores > 0])[::-1][:k]
            np.testing.assert_array_equal(np.sort(scores[top(scores, k)])[::-1], wanted)


@pytest.mark.parametrize("filtered", [False, True])
def test_a_vector_that_is_none_is_refused_by_many_too(index: PassageIndex, filtered: bool) -> None:
    where = {"source": ["d1", "d2"]} if filtered else None
    query = index.query("Who praises apples?")
    bad = replace(query, encoding=replace(query.encoding, vector=np.full(32, np.nan, np.float32)))
    with pytest.raises(InputError, match="finite"):
        index.search(bad, where=where)


def test_a_question_reads_a_passage_once(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = index.query(question(text(7)))
    held, plain, seen = opened(index).view, Snapshot.parts, list[int]()

    def parts(self: Snapshot, where: str = "", *values: object) -> Iterator[Part]:
        for part in plain(self, where, *values):
            seen.append(part.id)
            yield part

    monkeypatch.setattr(Snapshot, "parts", parts)
    first = index.search(asked, 5, view=held)
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) >= 5
    assert [hit.passage for hit in first] == [hit.passage for hit in index.search(asked, 5)]


def test_more_passages_than_a_query_can_name(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "AT_ONCE", 7)
    found = {hit.passage.document.source for hit in index.search("Who praises apples?", 1_000)}
    assert found == {f"d{n}" for n in range(60)}
    held = opened(index).view
    held.snapshot._connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 200)
    assert len(held.snapshot.several(list(range(1, 61)))) == 60

"""Kills, damage and full disks, a few of each; tests/benchmarks/faults.py has many."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.check import check, repair
from index.errors import InputError
from index.store import FILE, PassageIndex
from tests.faults import ENCODER, TEXTS, Damage, documents, full_trial, held, kill_trial, text

KILLS, DAMAGES = 12, 60


def test_a_kill_leaves_the_state_before_or_after(tmp_path: Path) -> None:
    seen = Counter[str]()
    for seed in range(KILLS):
        assert kill_trial(tmp_path / "index", seed, seen=seen) == ""
    assert seen["changing"] >= KILLS / 2


def test_damage_is_told_and_mended_and_never_an_answer(tmp_path: Path) -> None:
    damage = Damage(tmp_path)
    assert [line for seed in range(DAMAGES) if (line := damage.trial(seed))] == []
    assert damage.seen["told"] > DAMAGES / 10
    assert damage.seen["answered"] > DAMAGES / 10


@pytest.fixture
def index(tmp_path: Path) -> Path:
    made = PassageIndex(tmp_path / "index", encoder=ENCODER)
    made.add(documents({f"d{n}": text(n) for n in range(TEXTS)}))
    made.close()
    return tmp_path / "index"


@pytest.mark.parametrize("byte", [b'"\xc5', b'\n"', b"["])
def test_a_damaged_schema_is_told_in_one_line(index: Path, byte: bytes) -> None:
    """SQLite's message quotes the statement, lines, flaws and all."""
    file = index / FILE
    data = file.read_bytes()
    at = data.index(b"CREATE TABLE documents")
    at = data.index(b"hash TEXT", at) - 1
    file.write_bytes(data[:at] + byte + data[at + len(byte) :])
    with pytest.raises(InputError, match="--repair") as said:
        PassageIndex(index, encoder=ENCODER)
    assert "\n" not in str(said.value)


def test_a_table_of_another_name_is_mended_before_sqlite_makes_it_so(index: Path) -> None:
    """SQLite reads by the name it has noted, and writes anew by that in the statement."""
    file = index / FILE
    data = file.read_bytes()
    assert data.count(b"CREATE TABLE texts") == 1
    file.write_bytes(data.replace(b"CREATE TABLE texts", b"CREATE TABLE tents"))
    assert repair(index, encoder=ENCODER).problems
    assert not check(index, encoder=ENCODER).problems
    assert len(held(PassageIndex(index, encoder=ENCODER))) == TEXTS


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 1, 1.1, 1.2, 3])
def test_where_a_file_may_not_grow_the_old_state_answers(index: Path, share: float) -> None:
    size = (index / FILE).stat().st_size
    assert full_trial(index, int(share * size)) == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can make a small disk, where it may")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_on_a_full_disk_the_old_state_answers(small_disk: Path) -> None:
    index = PassageIndex(small_disk / "index", encoder=ENCODER)
    there: dict[str, str] = {}

    def fill() -> None:
        for number in range(1000):
            index.add(documents({f"d{number}": text(number) * 20}))
            there[f"d{number}"] = text(number) * 20

    with pytest.raises(InputError, match="cannot be used, and was not changed") as caught:
        fill()
    assert "\n" not in str(caught.value)
    assert there
    index.close()
    again = PassageIndex(small_disk / "index", encoder=ENCODER)
    assert held(again) == there
    assert again.search("Who praises apples?", 1)
    again.close()

"""What can befall an index: a kill at any moment, and damage to any of its files.

The trials are here; tests/test_faults.py runs a few of each, tests/benchmarks/faults.py
as many as you like.

    python -m tests.faults work WHERE SEED LOG

changes the index in a folder, or at an address, without end, at random, and says so in LOG,
until it is killed;

    python -m tests.faults fill FOLDER BYTES

adds to it with no room for more than BYTES in any file, and asks it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from index import large, local, view
from index.check import check, repair
from index.errors import BelegError, InputError
from index.language import detect_language
from index.store import FILE, PassageIndex
from index.types import Document
from tests.tiny import TinyEncoder

ENCODER = TinyEncoder()
ROOT = Path(__file__).parent.parent
TOPICS = "apples rivers engines violins glaciers bakers comets ferries beetles lanterns".split()
TEXTS = 40

Texts = dict[str, str]
"""What an index holds: source -> text."""


def text(number: int, version: int = 0) -> str:
    """A document about things of its own; the words of no two are all the same."""
    own = [f"{TOPICS[(number + i) % 10]}{number}v{version}" for i in range(4)]
    return (
        f"The report on {own[0]} came out in March {1900 + number}. "
        f"It praises {own[1]} at length.\n\n"
        f"Nobody had expected {own[2]} to matter. In the end {own[3]} decided the case."
    )


def question(said: str) -> str:
    """What only one document answers."""
    return f"Who praises {said.split(' praises ')[1].split()[0]} at length?"


def documents(texts: Texts) -> list[Document]:
    return [Document(said, source, source, "en") for source, said in texts.items()]


def held(index: PassageIndex) -> Texts:
    return {document.source: document.text for document in index.documents}


@contextmanager
def shrunk() -> Iterator[None]:
    """Let an index of few passages count as a large one."""
    before = view.LARGE, view.REST
    for module in (local, view):
        module.LARGE, module.REST = 30, 6  # type: ignore[attr-defined]
    yield
    for module in (local, view):
        module.LARGE, module.REST = before  # type: ignore[attr-defined]


# --- kills ---


def work(where: str, seed: int, log: Path) -> None:
    """Change an index until killed; every change is in the log before and after it is made."""
    chance = random.Random(seed)
    with log.open("a", encoding="utf-8") as out:

        def say(what: object) -> None:
            out.write(f"{json.dumps(what)}\n")
            out.flush()

        say("ready")
        if seed % 2:
            shrunk().__enter__()
        index = PassageIndex(where, encoder=ENCODER)
        now = held(index)
        say({"now": now})
        while True:
            after, what = dict(now), chance.choice(["add", "update", "remove", "add", "repair"])
            if what == "add" or not now:
                for _ in range(chance.randint(1, 8)):
                    number = chance.randrange(10**6)
                    after[f"d{number}"] = text(number)
            elif what == "update":
                for source in chance.sample(sorted(now), min(3, len(now))):
                    after[source] = text(int(source[1:]), chance.randrange(10**6))
            elif what == "remove":
                for source in chance.sample(sorted(now), min(4, len(now))):
                    del after[source]
            say({"after": after})
            if gone := now.keys() - after.keys():
                index.remove(*sorted(gone))
            elif after != now:
                index.add(documents({s: t for s, t in after.items() if now.get(s) != t}))
            else:
                repair(where, encoder=ENCODER)
            now = after
            say({"now": now})


def kill_trial(
    where: Path | str,
    seed: int,
    most: float = 0.4,
    log: Path | None = None,
    seen: Counter[str] | None = None,
) -> str:
    """Kill one who changes an index; what is wrong with it then, or nothing.

    ``where`` is a folder, or an address with a ``log`` beside. ``seen`` counts when that was.
    """
    log = log or Path(where).with_suffix(".log")
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.faults", "work", str(where), str(seed), str(log)]
    with subprocess.Popen(command, cwd=ROOT) as worker:
        while not log.exists():
            time.sleep(0.002)
            if worker.poll() is not None:
                return f"the worker ended with {worker.returncode}"
        time.sleep(random.Random(seed).uniform(0, most))
        worker.kill()
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()[1:] if _whole(line)]
    if seen is not None:
        seen["opening" if not lines else "changing" if "after" in lines[-1] else "between"] += 1
    if not lines and not PassageIndex.exists(where):
        return ""  # killed before there was one
    allowed = [line["now"] for line in lines if "now" in line][-1:]
    allowed += [line["after"] for line in lines[-1:] if "after" in line]
    try:
        index = PassageIndex(where, encoder=ENCODER)
        found = held(index)
        if lines and found not in allowed:
            return f"{len(found)} documents, not {[len(texts) for texts in allowed]}"
        for source in random.Random(seed).sample(sorted(found), min(3, len(found))):
            first = index.search(question(found[source]), 1)[0]
            if first.passage.document.text != found[source]:
                return f"{source} is not found"
        if problems := check(where, encoder=ENCODER).problems:
            return problems[0]
        if isinstance(where, str) and (wrong := _counted_wrong(index, found)):
            return wrong
        index.close()
    except BelegError as error:
        return str(error)
    return ""


def _counted_wrong(index: PassageIndex, found: Texts) -> str:
    """Whether a server's counts of words are not what the next writer finds them to be."""
    with index._place.exclusive():
        pass
    plain = PassageIndex(encoder=ENCODER)
    plain.add(documents(found))
    asked = f"Who praises the report on {TOPICS[0]}?"
    for one, other in zip(index.search(asked, 5), plain.search(asked, 5), strict=True):
        if abs(one.score - other.score) > 1e-4:
            return f"{asked} scores {one.score}, not {other.score}"
    return ""


def _whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


# --- no room ---


def fill(folder: Path, most: int) -> None:
    """Add to an index where no file may be longer than ``most`` bytes; say how that went.

    What was there is asked for before, and, in an index opened anew, after.
    """
    detect_language("py3langid lays out its model in a temporary file")
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    for add in (True, False):
        index = PassageIndex(folder, encoder=ENCODER)
        (hit,) = index.search(question(text(3)), 1)
        assert hit.passage.document.text == text(3)
        try:
            if add:
                index.add(documents({f"d{n}": text(n) for n in range(TEXTS, TEXTS + 20)}))
        except InputError as error:
            print(error)
        index.close()


def full_trial(folder: Path, most: int) -> str:
    """Let an add run out of room; what is wrong then, or nothing."""
    index = PassageIndex(folder, encoder=ENCODER)
    before = held(index)
    index.close()
    command = [sys.executable, "-m", "tests.faults", "fill", str(folder), str(most)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr or done.stdout.count("\n") > 1:
        return f"{done.returncode} {done.stdout} {done.stderr}"
    index = PassageIndex(folder, encoder=ENCODER)
    found = held(index)
    index.close()
    if (found == before) != bool(done.stdout):
        return f"{len(found)} documents of {len(before)}, and it says {done.stdout!r}"
    if left := stale(folder):
        return f"{left} is left"
    return next(iter(check(folder, encoder=ENCODER).problems), "")


# --- damage ---


class Damage:
    """Copies of an index, each damaged in another way, asked and repaired."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts = {f"d{n}": text(n) for n in range(TEXTS)}
        self.others = {f"d{n}": text(n, 1) for n in range(TEXTS // 2, TEXTS * 2)}
        self.index, self.other, self.logged = folder / "index", folder / "other", folder / "log"
        for path, texts in ((self.index, self.texts), (self.other, self.others)):
            with shrunk():
                index = PassageIndex(path, encoder=ENCODER)
                index.add(documents(texts))
                index.close()
            assert (path / large.FILE).exists()
        # One as a killed writer leaves it, with a log.
        early = {source: said for source, said in self.texts.items() if source < "d3"}
        index = PassageIndex(self.logged, encoder=ENCODER)
        index.add(documents(early))
        view = index.view  # with a reader, the log stays
        index.add(documents(self.texts))
        shutil.copytree(self.logged, folder / "copy")
        del view
        index.close()
        shutil.rmtree(self.logged)
        (folder / "copy").rename(self.logged)
        self.seen: Counter[str] = Counter()

    def trial(self, seed: int) -> str:
        """Damage a copy, ask it, repair it; what went wrong, or nothing."""
        chance = random.Random(seed)
        folder = self.folder / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(chance.choice([self.index, self.index, self.logged]), folder)
        what = self._damage(folder, chance)
        # Where a whole index is put in its place, that one may answer; a log of one and a file
        # of the other are told, and a repair may find documents of both.
        foreign = what.startswith("foreign beleg.sqlite ")
        wanted = self.others if foreign else self.texts
        try:
            wrong = self._ask(folder, wanted, chance) or self._repair(folder, wanted)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        return f"{what}: {wrong}" if wrong else ""

    def _damage(self, folder: Path, chance: random.Random) -> str:
        """Do something to one file; what was done."""
        file = chance.choice(sorted(path for path in folder.iterdir() if path.stat().st_size))
        data = bytearray(file.read_bytes())
        at = chance.randrange(len(data))
        kind = chance.choice(
            ["bit", "bit", "bits", "cut", "page", "swap", "gone", "foreign", "noise"]
        )
        if kind == "bit":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "bits":
            for _ in range(20):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "page":
            at -= at % 4096
            data[at : at + 4096] = bytes(len(data[at : at + 4096]))
        elif kind == "noise":
            data[at : at + 512] = chance.randbytes(len(data[at : at + 512]))
        elif kind == "foreign":
            theirs = self.other / file.name
            data = bytearray(
                theirs.read_bytes() if theirs.exists() else chance.randbytes(len(data))
            )
        elif kind == "swap":
            another = chance.choice(sorted(folder.iterdir()))
            data, theirs_data = bytearray(another.read_bytes()), bytes(data)
            another.write_bytes(theirs_data)
        file.write_bytes(data)
        if kind == "gone":
            file.unlink()
        return f"{kind} {file.name} at {at}"

    def _ask(self, folder: Path, wanted: Texts, chance: random.Random) -> str:
        """An answer must be right, or a line that names the file and the repair."""
        try:
            index = PassageIndex(folder, encoder=ENCODER)
            for source in chance.sample(sorted(wanted), 4):
                (hit,) = index.search(question(wanted[source]), 1)
                document = hit.passage.document
                if (document.source, document.text) != (source, wanted[source]):
                    return f"{source} was asked for, {document.source} came"
                if hit.passage.text not in document.text:
                    return f"{hit.passage} is not in its document"
                found = index.search(question(text(0)), 5, where={"source": source})
                if {one.passage.document.source for one in found} != {source}:
                    return f"a filter for {source} let {len(found)} passages through"
            if (listed := {record.source for record in index.records}) != set(wanted):
                return f"{len(listed)} documents are listed, not {len(wanted)}"
            index.close()
        except BelegError as error:
            if "\n" in str(error) or str(folder) not in str(error):
                return f"an unclear message: {error}"
            self.seen["told"] += 1
            return ""
        self.seen["answered"] += 1
        return ""

    def _repair(self, folder: Path, wanted: Texts) -> str:
        try:
            found = repair(folder, encoder=ENCODER)
        except BelegError as error:
            self.seen["nothing left"] += 1
            return "" if str(folder) in str(error) else f"an unclear message: {error}"
        if again := check(folder, encoder=ENCODER).problems:
            return f"repaired, but {again[0]}"
        index = PassageIndex(folder, encoder=ENCODER)
        left = held(index)
        for source, said in left.items():
            if said not in (self.texts.get(source), self.others.get(source)):
                return f"repaired, but {source} is another text"
            if wanted is self.texts and said != self.texts.get(source):
                return f"repaired, but {source} is of another index"
        for source, said in sorted(left.items())[:2]:
            if index.search(question(said), 1)[0].passage.document.source != source:
                return f"repaired, but {source} is not found"
        if len(left) < len(wanted) and wanted is self.texts:
            self.seen["lost some"] += 1
            if not found.lost and not found.notes:
                return f"lost {len(wanted) - len(left)} documents without a word"
        index.close()
        return ""


def stale(folder: Path) -> list[Any]:
    """Files that should not be in the folder of an index."""
    known = {
        FILE,
        large.FILE,
        large.MORE,
        "beleg.lock",
        "beleg.next",
        "beleg.count",
        "beleg.writer",
        f"{FILE}-wal",
        f"{FILE}-shm",
    }
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


if __name__ == "__main__":
    os.environ.pop("BELEG_DEBUG", None)
    if sys.argv[1] == "work":
        work(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        fill(Path(sys.argv[2]), int(sys.argv[3]))

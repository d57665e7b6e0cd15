"""What an index survives, at length; tests/test_faults.py and test_index.py are the short form.

    python -m tests.benchmarks.faults kill --trials 1000
    python -m tests.benchmarks.faults damage --trials 10000
    python -m tests.benchmarks.faults full --trials 50
    python -m tests.benchmarks.faults disk --trials 50
    python -m tests.benchmarks.faults readers [FOLDER] --readers 8 --writers 2 --seconds 600

Each prints what went wrong, line by line, and ends with 1 if anything did. ``--first N`` goes
on from a trial. ``full`` limits the size of files, ``disk`` (as root) that of the disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from pathlib import Path
from resource import RLIM_INFINITY

from tqdm import tqdm

from index.errors import BelegError, InputError
from index.store import FILE, PassageIndex
from tests.faults import (
    ENCODER,
    TEXTS,
    Damage,
    documents,
    full_trial,
    held,
    kill_trial,
    question,
    text,
)

PAGES = 50_000
"""So many bytes a disk takes for files to begin and end on pages."""
ROUND = 25
"""So many kills hit one index before another is begun."""


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="beleg-faults-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trials(numbers: range, trial: Callable[[int], str]) -> int:
    """Run them, print what goes wrong, and count it."""
    wrong = 0
    for seed in tqdm(numbers, disable=None):
        if line := trial(seed):
            wrong += 1
            print(f"{seed}: {line}", flush=True)
    return wrong


def kill(numbers: range) -> str:
    with scratch() as folder:

        def trial(seed: int) -> str:
            if seed % ROUND == 0:
                shutil.rmtree(folder / "index", ignore_errors=True)
            return kill_trial(folder / "index", seed)

        return f"{len(numbers)} kills: {trials(numbers, trial)} wrong"


def damage(numbers: range) -> str:
    with scratch() as folder:
        made = Damage(folder)
        wrong = trials(numbers, made.trial)
        seen = ", ".join(f"{kind} {count}" for kind, count in sorted(made.seen.items()))
        return f"{len(numbers)} damages: {wrong} wrong; {seen}"


def full(numbers: range) -> str:
    with scratch() as folder:
        index = PassageIndex(folder / "index", encoder=ENCODER)
        index.add(documents({f"d{n}": text(n) for n in range(TEXTS)}))
        index.close()
        most = 2 * (folder / "index" / FILE).stat().st_size

        def trial(seed: int) -> str:
            shutil.rmtree(folder / "trial", ignore_errors=True)
            shutil.copytree(folder / "index", folder / "trial")
            return full_trial(folder / "trial", most * (seed - numbers.start) // len(numbers))

        return f"{len(numbers)} limits from 0 to {most} bytes: {trials(numbers, trial)} wrong"


def disk(numbers: range) -> str:
    with scratch() as folder:
        index = PassageIndex(folder / "index", encoder=ENCODER)
        index.add(documents({f"d{n}": text(n) for n in range(TEXTS)}))
        index.close()
        least = sum(path.stat().st_size for path in (folder / "index").iterdir())
        small = folder / "disk"
        small.mkdir()

        def trial(seed: int) -> str:
            spare = 3 * least * (seed - numbers.start) // len(numbers)
            size = f"size={least + spare + PAGES}"
            command = ["mount", "-t", "tmpfs", "-o", size, "none", str(small)]
            subprocess.run(command, check=True)
            try:
                shutil.copytree(folder / "index", small / "trial")
                return full_trial(small / "trial", RLIM_INFINITY)
            finally:
                subprocess.run(["umount", "--lazy", str(small)], check=True)

        wrong = trials(numbers, trial)
        return f"{len(numbers)} disks with 0 to {3 * least} bytes left: {wrong} wrong"


# --- readers and writers ---


def read(folder: Path, seed: int, until: float, out: Queue[tuple[int, list[str]]]) -> None:
    """Ask for documents of the state at hand; count the questions, and name wrong answers."""
    chance, asked, wrong = random.Random(seed), 0, []
    index = PassageIndex(folder, encoder=ENCODER)
    while time.time() < until:
        try:
            view = index.view
            for number in chance.sample(range(TEXTS), 5):
                (document,) = view.only({"source": f"d{number}"}).documents
                (hit,) = index.search(question(document.text), 1, view=view)
                asked += 1
                found = hit.passage.document
                if found.text != document.text or hit.passage.text not in found.text:
                    wrong.append(f"reader {seed}: {document.source}, not {found.source}")
        except (BelegError, ValueError) as error:
            wrong.append(f"reader {seed}: {type(error).__name__} {error}")
    out.put((asked, wrong))


def write(folder: Path, seed: int, until: float, out: Queue[tuple[int, list[str]]]) -> None:
    """Update documents and add and remove others; count the changes, and name errors."""
    chance, changes, wrong = random.Random(seed), 0, []
    index = PassageIndex(folder, encoder=ENCODER)
    while time.time() < until:
        try:
            numbers = chance.sample(range(TEXTS), 3)
            version = chance.randrange(10**6)
            index.add(documents({f"d{n}": text(n, version) for n in numbers}))
            extra = f"x{seed}-{changes}"
            index.add(documents({extra: text(chance.randrange(10**6), seed)}))
            index.remove(extra)
            changes += 3
        except InputError as error:
            wrong.append(f"writer {seed}: {error}")
    out.put((changes, wrong))


def readers(folder: Path, count: int, writers: int, seconds: float) -> str:
    index = PassageIndex(folder, encoder=ENCODER)
    index.add(documents({f"d{n}": text(n) for n in range(TEXTS)}))
    index.close()
    spawn = multiprocessing.get_context("spawn")
    out: Queue[tuple[int, list[str]]] = spawn.Queue()
    until = time.time() + seconds
    roles = [read] * count + [write] * writers
    jobs = [spawn.Process(target=r, args=(folder, i, until, out)) for i, r in enumerate(roles)]
    for job in jobs:
        job.start()
    found = [out.get() for _ in jobs]
    for job in jobs:
        job.join()
    wrong = [line for _, lines in found for line in lines]
    for line in wrong[:20]:
        print(line)
    there = held(PassageIndex(folder, encoder=ENCODER))
    if sorted(there) != sorted(f"d{n}" for n in range(TEXTS)):
        wrong.append(f"{len(there)} documents are there in the end, not {TEXTS}")
        print(wrong[-1])
    return (
        f"{count} readers and {writers} writers, {seconds:g} s:"
        f" {sum(n for n, _ in found)} questions and changes, {len(wrong)} wrong"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["kill", "damage", "full", "disk", "readers"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=600)
    args = parser.parse_args()
    numbers = range(args.first, args.first + args.trials)
    began = time.perf_counter()
    if args.what == "readers":
        with scratch() as folder:
            where = args.folder or folder / "index"
            line = readers(where, args.readers, args.writers, args.seconds)
    else:
        line = {"kill": kill, "damage": damage, "full": full, "disk": disk}[args.what](numbers)
    print(f"{line} ({time.perf_counter() - began:.0f} s)")
    return int(" 0 wrong" not in line)


if __name__ == "__main__":
    sys.exit(main())

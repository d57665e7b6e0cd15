"""What an index survives, at length; tests/test_faults.py and test_index.py are the short form.

    python -m tests.benchmarks.faults kill --trials 1000
    python -m tests.benchmarks.faults damage --trials 10000
    python -m tests.benchmarks.faults full --trials 50
    python -m tests.benchmarks.faults disk --trials 50
    python -m tests.benchmarks.faults readonly --trials 50
    python -m tests.benchmarks.faults readers [FOLDER] --readers 8 --writers 2 --seconds 600

Each prints what went wrong, line by line, and ends with 1 if anything did. ``--first N`` goes
on from a trial. ``full`` limits the size of files, ``disk`` (as root) that of the disk;
``readonly`` (as root too, as others change the index) takes away the right to write.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.queues import Queue
from pathlib import Path
from resource import RLIM_INFINITY

from tqdm import tqdm

from index.check import check
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
    shrunk,
    stale,
    text,
)

PAGES = 50_000
"""So many bytes a disk takes for files to begin and end on pages."""
NOBODY = 65534
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


def change(folder: Path, seed: int, log: Path) -> None:
    """Change an index as another user until it can't be; then ask it for all that it has."""
    with scratch() as other, shrunk():  # what is loaded late, that user may not read
        index = PassageIndex(other / "index", encoder=ENCODER)
        index.add(documents({f"d{n}": text(n) for n in range(TEXTS)}))
        index.search(question(text(1)), where={"source": "d1"})
        index.close()
    if seed % 2:
        shrunk().__enter__()
    with log.open("a", encoding="utf-8") as out:

        def say(**what: object) -> None:
            out.write(f"{json.dumps(what)}\n")
            out.flush()

        os.setgid(NOBODY)
        os.setuid(NOBODY)
        chance, index = random.Random(seed), PassageIndex(folder, encoder=ENCODER)
        now = held(index)
        try:
            while True:
                say(now=now)
                after = dict(now)
                for number in chance.sample(range(2 * TEXTS), 4):
                    after[f"d{number}"] = text(number, chance.randrange(10**6))
                gone = chance.sample(sorted(now), 4) if len(now) > TEXTS else []
                if gone:
                    after = {source: said for source, said in now.items() if source not in gone}
                say(after=after)
                if gone:
                    index.remove(*gone)
                else:
                    index.add(documents({s: t for s, t in after.items() if now.get(s) != t}))
                now = after
        except InputError as error:
            index.close()
            again = PassageIndex(folder, encoder=ENCODER)
            there = held(again)
            found = [again.search(question(said), 1)[0].passage.document for said in there.values()]
            wrong = [one.source for one in found if there[one.source] != one.text]
            say(said=str(error), there=there, wrong=wrong)
            os._exit(0)  # what was made before as root cannot be tidied away


def readonly(numbers: range) -> str:
    with scratch() as folder:
        folder.chmod(0o755)
        changed: list[int] = []

        def trial(seed: int) -> str:
            index, log = folder / "index", folder / "log"
            shutil.rmtree(index, ignore_errors=True)
            log.unlink(missing_ok=True)
            made = PassageIndex(index, encoder=ENCODER)
            made.add(documents({f"d{n}": text(n) for n in range(TEXTS // 2)}))
            made.close()
            for path in (index, *index.iterdir()):
                os.chown(path, NOBODY, NOBODY)
            job = multiprocessing.get_context("spawn").Process(
                target=change, args=(index, seed, log)
            )
            job.start()
            while job.is_alive() and not (log.exists() and log.read_bytes()):
                time.sleep(0.002)
            time.sleep(random.Random(seed).uniform(0, 0.4))
            with suppress(FileNotFoundError):  # one that is renamed meanwhile
                for path in (index, *index.iterdir()):
                    path.chmod(0o555 if path.is_dir() else 0o444)
            job.join(30)
            job.kill()
            lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
            index.chmod(0o755)
            if not lines or "said" not in lines[-1]:
                return f"ended with {job.exitcode}"
            *before, last = lines
            allowed = [line["now"] for line in before if "now" in line][-1:]
            allowed += [line["after"] for line in before[-1:] if "after" in line]
            changed.append(len(before))
            if "\n" in last["said"] or str(index) not in last["said"]:
                return f"an unclear message: {last['said']}"
            again = PassageIndex(index, encoder=ENCODER)
            if last["wrong"]:
                return f"{last['wrong']} are not found"
            if last["there"] not in allowed or held(again) != last["there"]:
                return f"{len(last['there'])} documents, not {[len(texts) for texts in allowed]}"
            again.add(documents({"later": text(TEXTS * 3)}))  # who writes next tidies up
            again.close()
            if left := stale(index):
                return f"{left} is left"
            return next(iter(check(index, encoder=ENCODER).problems), "")

        wrong = trials(numbers, trial)
        return f"{len(numbers)} folders, {sum(changed)} changes begun: {wrong} wrong"


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
    parser.add_argument("what", choices=["kill", "damage", "full", "disk", "readonly", "readers"])
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
        kinds = {"kill": kill, "damage": damage, "full": full, "disk": disk, "readonly": readonly}
        line = kinds[args.what](numbers)
    print(f"{line} ({time.perf_counter() - began:.0f} s)")
    return int(" 0 wrong" not in line)


if __name__ == "__main__":
    sys.exit(main())

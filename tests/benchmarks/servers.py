"""What an index costs on a server, beside one in memory and in a folder.

    python -m tests.benchmarks.servers PAIRS [--passages 20000] [--at ADDRESS ...]

The passages are those of tests.benchmarks.million, and so are their vectors: what is measured is
all but the encoder. They are written in batches as ``beleg add`` writes them. An ADDRESS is of a
server; without one, PostgreSQL is started here (pgserver) and Milvus is the engine in a folder
(milvus-lite), so nothing goes over a network.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from index.store import PassageIndex
from tests.benchmarks.million import PASSAGES, Corpus, Given, centres_of, exact, lines_of

BATCH = 20
"""Documents written at a time: with their sentences 1,000 texts (see index.store.BATCH)."""
QUESTIONS, CHANGES = 200, 20


def write(index: PassageIndex, corpus: Corpus, numbers: Iterator[int]) -> tuple[float, float]:
    """Seconds to write documents, and after that to make them quick to search."""
    spent = 0.0
    with index._place.exclusive():
        while batch := list(islice(numbers, BATCH)):
            ready = [(*corpus.document(n), *corpus.vectors(n)) for n in batch]
            began = time.perf_counter()
            with index._place.writing() as writer:
                for document, passages, vectors, sentences in ready:
                    writer.put(document, passages, vectors, sentences)
            spent += time.perf_counter() - began
        began = time.perf_counter()
        index._place.gather(index._meet)
        return spent, time.perf_counter() - began


def times(ask: Callable[[str], object], asked: Sequence[str]) -> str:
    found = []
    for question in asked:
        began = time.perf_counter()
        ask(question)
        found.append(time.perf_counter() - began)
    p50, p95 = np.percentile(np.asarray(found) * 1000, [50, 95])
    return f"{p50:.1f} / {p95:.1f}"


def measure(address: str | None, corpus: Corpus, encoder: Given, documents: int) -> None:
    index = PassageIndex(address, encoder=encoder)
    written, gathered = write(index, corpus, iter(range(documents)))
    began = time.perf_counter()
    index.view  # noqa: B018
    opened = time.perf_counter() - began
    rate = documents * PASSAGES / (written + gathered)
    print(f"  {rate:.0f} passages/s: written {written:.1f} s, gathered {gathered:.1f} s")
    print(f"  first view: {opened:.2f} s", flush=True)
    chance = random.Random(0)
    asked = [corpus.question(chance.randrange(documents)) for _ in range(QUESTIONS)]
    index.search(asked[0])
    print(f"  search p50 / p95: {times(lambda q: index.search(q), asked)} ms", flush=True)
    for name, where in (("half", {"language": "de"}), ("one document", {"source": "d7"})):
        print(f"  of {name}: {times(lambda q: index.search(q, where=where), asked[:50])} ms")  # noqa: B023
    view, queries, found = index.view, encoder.passages(asked), []
    for vector in queries:
        near = view.candidates(vector, [], 50)
        found.append(
            {_place(view.passage(int(row))) for row in near.rows[np.argsort(-near.own)[:10]]}
        )
    best = exact(corpus, queries, documents)
    recall = np.mean([len(a & b) / 10 for a, b in zip(found, best, strict=True)])
    print(f"  dense recall@10 {recall:.3f}")
    spent = []
    for number in range(documents, documents + CHANGES):
        document, _ = corpus.document(number)
        began = time.perf_counter()
        index.add(document)
        middle = time.perf_counter()
        index.remove(document.source)
        spent.append((middle - began, time.perf_counter() - middle))
    added, removed = np.median(spent, axis=0) * 1000
    print(
        f"  a document of {PASSAGES} passages: added in {added:.0f} ms, removed in {removed:.0f} ms"
    )
    index.close()


def _place(passage: object) -> int:
    """The number of a passage of the corpus."""
    document = passage.document  # type: ignore[attr-defined]
    return int(document.source[1:]) * PASSAGES + document.text[: passage.start].count("\n\n")  # type: ignore[attr-defined]


@contextmanager
def places(given: Sequence[str]) -> Iterator[dict[str, str | None]]:
    with tempfile.TemporaryDirectory(prefix="beleg-servers-") as folder:
        found: dict[str, str | None] = {"memory": None, "folder": f"{folder}/index"}
        if given:
            yield found | {address.partition(":")[0]: address for address in given}
            return
        import pgserver

        at = Path(folder, "postgres")
        at.mkdir()
        for one in (at, at.parent):  # the server does not run as root
            one.chmod(0o755)
        run = Path(folder, "run")
        run.mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(run))
        server = pgserver.get_server(at)
        found |= {"postgres": server.get_uri(), "milvus": f"milvus+file://{folder}/milvus.db"}
        yield found
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--at", nargs="*", default=[], metavar="ADDRESS")
    parser.add_argument("--only", nargs="*", help="memory, folder, postgres, milvus")
    parser.add_argument("--centres", type=Path, help="file for the vectors of real passages")
    args = parser.parse_args()
    lines = lines_of(args.pairs)
    with places(args.at) as found:
        encoder = Given(centres_of(lines, args.centres or Path(tempfile.mkdtemp(), "centres.npy")))
        for name, address in found.items():
            if args.only is None or name in args.only:
                print(f"{name}, {args.passages} passages:", flush=True)
                measure(address, Corpus(lines, encoder), encoder, args.passages // PASSAGES)


if __name__ == "__main__":
    main()

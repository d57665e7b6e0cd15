"""A large index: how long it takes to build, open, ask and add to, and what it holds in memory.

    python -m tests.benchmarks.million PAIRS --passages 1000000 [--folder DIR]

PAIRS is a TSV (or .gz) of sentences in two languages; a passage is four successive lines of it,
drawn anew for each, and a document has ten. Vectors are given: CENTRES real passages are encoded
once, and a passage's vector is that of one of them with the difference of two others added, so
much of it that siblings are as near as real passages are to their nearest. Its sentences and
the questions are made from it likewise. So what is measured is all but the encoder.

``--ask`` leaves out the building, and asks an index that was built before.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from index import manifest
from index.database import FILE as INDEX
from index.database import Database
from index.embed import SentenceTransformerEncoder
from index.large import FILE as LARGE
from index.lexical import stop_words, words
from index.store import PassageIndex
from index.types import Document, Passage, Span
from index.vectors import Encoding, FloatMatrix, unit

CENTRES = 2_000
SENTENCES, PASSAGES = 4, 10
BATCH = 200
"""Documents written at a time."""
QUESTIONS = 300
WORDS = 6


class Given:
    """An encoder whose vectors are made from centres, by chance, but always the same."""

    name, window, weights, reader = "given", 256, "", None
    languages = frozenset({"de", "en"})

    def __init__(self, centres: FloatMatrix) -> None:
        self.prompts: dict[str, str] = {}
        self.centres = centres
        self.dimension = centres.shape[1]
        near = centres[:500] @ centres.T
        near[np.arange(500), np.arange(500)] = -1
        self.spread = float(np.sqrt(1 / np.median(near.max(axis=1)) - 1))

    def around(self, vectors: FloatMatrix, chance: np.random.Generator) -> FloatMatrix:
        """Vectors near to some, as near as real ones are."""
        one, other = chance.integers(len(self.centres), size=(2, len(vectors)))
        away = unit(self.centres[one] - self.centres[other])
        share = self.spread * chance.uniform(0.5, 1.5, (len(vectors), 1)).astype(np.float32)
        return unit(vectors + share * away)

    def passages(self, texts: Sequence[str], *, progress: str = "") -> FloatMatrix:
        found = [self._of(text) for text in texts]
        return np.stack(found) if found else np.zeros((0, self.dimension), np.float32)

    def _of(self, text: str) -> NDArray[np.float32]:
        chance = np.random.default_rng(crc32(text.encode()))
        return self.around(self.centres[chance.integers(len(self.centres), size=1)], chance)[0]

    questions = passages

    def encode(self, texts: Sequence[str], *, question: bool = False) -> list[Encoding]:
        return [Encoding(v, v[None], np.asarray([[0, 1]])) for v in self.passages(texts)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) // 5 for text in texts]


class Corpus:
    """Documents with their passages and vectors, drawn by chance from lines of text."""

    def __init__(self, lines: list[list[str]], encoder: Given) -> None:
        self._lines, self._encoder = lines, encoder

    def document(self, number: int) -> tuple[Document, list[Passage]]:
        chance = random.Random(number)
        language = chance.randrange(2)
        parts, spans, at = [], [], 0
        for _ in range(PASSAGES):
            begin = chance.randrange(len(self._lines) - SENTENCES)
            own = [line[language] for line in self._lines[begin : begin + SENTENCES]]
            starts = np.cumsum([at, *(len(s) + 1 for s in own)]).tolist()
            spans.append([Span(a, a + len(s)) for a, s in zip(starts, own, strict=False)])
            parts.append(" ".join(own))
            at += len(parts[-1]) + 2
        document = Document("\n\n".join(parts), f"d{number}", "", ("de", "en")[language])
        return document, [Passage(document, s[0].start, s[-1].end, tuple(s)) for s in spans]

    def vectors(self, number: int) -> tuple[NDArray[np.float16], list[NDArray[np.float16]]]:
        chance = np.random.default_rng(number)
        centres = self._encoder.centres[chance.integers(len(self._encoder.centres), size=PASSAGES)]
        own = self._encoder.around(centres, chance)
        inner = self._encoder.around(np.repeat(own, SENTENCES, axis=0), chance)
        return own.astype(np.float16), list(
            inner.astype(np.float16).reshape(PASSAGES, SENTENCES, -1)
        )

    def question(self, number: int) -> str:
        """Some words of a passage."""
        chance = random.Random(f"question {number}")
        text = chance.choice(self.document(number)[1]).text
        known = [
            w for w in dict.fromkeys(words(text)) if w not in stop_words("en") | stop_words("de")
        ]
        return " ".join(chance.sample(known, min(WORDS, len(known))))


def build(folder: Path, corpus: Corpus, encoder: Given, documents: int) -> None:
    Database.create(folder, manifest.describe(encoder))
    database, spent, used = Database(folder), 0.0, 0.0
    numbers = iter(range(database.snapshot().state().documents, documents))  # it may go on
    with database.exclusive():
        while batch := list(islice(numbers, BATCH)):
            ready = [(*corpus.document(n), *corpus.vectors(n)) for n in batch]
            began, cpu = time.perf_counter(), time.process_time()
            with database.writing() as writer:
                for document, passages, vectors, sentences in ready:
                    writer.put(document, passages, vectors, sentences)
            spent += time.perf_counter() - began
            used += time.process_time() - cpu
            if batch[0] % 5_000 == 0:
                print(f"  {batch[-1] + 1} documents, {spent:.0f} s", flush=True)
    database.close()
    began, cpu = time.perf_counter(), time.process_time()
    PassageIndex(folder, encoder=encoder).view  # noqa: B018
    gathered, cpu = time.perf_counter() - began, time.process_time() - cpu
    size = {name: f"{(folder / name).stat().st_size / 1e9:.2f} GB" for name in _files(folder)}
    print(
        f"build: {spent:.0f} s written ({used:.0f} s of processor),"
        f" {gathered:.0f} s made searchable ({cpu:.0f} s of processor),"
        f" {_peak():.2f} GB at most; {size}",
        flush=True,
    )


def _files(folder: Path) -> Iterator[str]:
    return (name for name in (INDEX, LARGE) if (folder / name).exists())


def _peak() -> float:
    return _status("VmHWM")  # the highest that getrusage tells may have been its parent's


def _resident() -> float:
    return _status("VmRSS")


def _status(name: str) -> float:
    """One of the kernel's figures of this process, in GB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1e6


def ask(folder: Path, corpus: Corpus, encoder: Given, documents: int) -> None:
    import faiss  # noqa: F401  # loaded once a process

    before = _resident()
    began, cpu = time.perf_counter(), time.process_time()
    index = PassageIndex(folder, encoder=encoder)
    view = index.view
    began, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"open: {began:.2f} s ({cpu:.2f} s of processor), {len(view.searchable.rows)} passages")
    chance = random.Random(0)
    asked = [corpus.question(chance.randrange(documents)) for _ in range(QUESTIONS)]
    index.search(asked[0])
    times: list[tuple[float, float]] = []
    for question in asked:
        began, cpu = time.perf_counter(), time.process_time()
        index.search(question)
        times.append((time.perf_counter() - began, time.process_time() - cpu))
    for name, column in (("", 0), (" of processor", 1)):
        p50, p95 = np.percentile(np.asarray(times)[:, column] * 1000, [50, 95])
        print(f"search: p50 {p50:.1f} ms{name}, p95 {p95:.1f} ms")
    print(
        f"resident: {_resident():.2f} GB ({before:.2f} before opening), {_peak():.2f} GB at most",
        flush=True,
    )
    queries = encoder.passages(asked)
    found = []
    began = time.perf_counter()
    for vector in queries:
        rows = view.searchable.nearest(vector, 50, view.snapshot)
        own, _ = view.searchable.cosines(rows, vector, view.snapshot)
        found.append(set(rows[np.argsort(-own)[:10]].tolist()))
    dense = (time.perf_counter() - began) / len(queries) * 1000
    best = exact(corpus, queries, documents)
    recall = np.mean([len(a & b) / 10 for a, b in zip(found, best, strict=True)])
    print(f"dense: recall@10 {recall:.4f}, {dense:.1f} ms with its exact cosines", flush=True)
    times = []
    for n in range(5):
        document, _ = corpus.document(documents + n)
        began = time.perf_counter()
        index.add(document)
        middle = time.perf_counter()
        index.view  # noqa: B018
        times.append((middle - began, time.perf_counter() - middle))
    for document in [f"d{documents + n}" for n in range(5)]:
        index.remove(document)
    spent, seen = np.median(times, axis=0)
    print(f"adding a document of {PASSAGES} passages: {spent:.2f} s, seen after {seen:.2f} s more")


def exact(corpus: Corpus, queries: FloatMatrix, documents: int) -> list[set[int]]:
    """The ten nearest rows to each query, of all vectors as they were given."""
    best = np.full((len(queries), 10), -1.0, np.float32)
    rows = np.zeros((len(queries), 10), np.int64)
    for begin in range(0, documents, 1_000):
        numbers = range(begin, min(begin + 1_000, documents))
        block = np.concatenate([corpus.vectors(n)[0] for n in numbers]).astype(np.float32)
        scores = np.concatenate([best, queries @ block.T], axis=1)
        here = np.arange(begin * PASSAGES, begin * PASSAGES + len(block))
        every = np.concatenate([rows, np.broadcast_to(here, (len(queries), len(here)))], axis=1)
        top = np.argpartition(-scores, 9, axis=1)[:, :10]
        best = np.take_along_axis(scores, top, axis=1)
        rows = np.take_along_axis(every, top, axis=1)
    return [set(row.tolist()) for row in rows]


def lines_of(pairs: Path) -> list[list[str]]:
    data = pairs.read_bytes()
    text = (gzip.decompress(data) if pairs.suffix == ".gz" else data).decode("utf-8")
    return [line.split("\t")[:2] for line in text.splitlines()]


def centres_of(lines: list[list[str]], file: Path) -> FloatMatrix:
    if not file.exists():
        chance = random.Random(0)
        begins = [chance.randrange(len(lines) - SENTENCES) for _ in range(CENTRES)]
        texts = [
            " ".join(line[i % 2] for line in lines[b : b + SENTENCES]) for i, b in enumerate(begins)
        ]
        found = SentenceTransformerEncoder().passages(texts, progress="encoding")
        np.save(file, found.astype(np.float16))
    return unit(np.load(file).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ask", action="store_true")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="beleg-million-"))
    folder.mkdir(parents=True, exist_ok=True)
    lines = lines_of(args.pairs)
    encoder = Given(centres_of(lines, folder / "centres.npy"))
    corpus = Corpus(lines, encoder)
    documents = args.passages // PASSAGES
    if args.ask:
        ask(folder / "index", corpus, encoder, documents)
        return
    print(json.dumps({"passages": documents * PASSAGES, "spread": round(encoder.spread, 3)}))
    (folder / "index").mkdir(exist_ok=True)
    build(folder / "index", corpus, encoder, documents)
    again = [sys.executable, "-m", "tests.benchmarks.million", str(args.pairs), "--ask"]
    again += ["--folder", str(folder), "--passages", str(args.passages)]
    subprocess.run(again, check=True)  # a process of its own, for its memory


if __name__ == "__main__":
    main()

"""The encoder alone, and the ablation of the search channels, on XQuAD.

    python -m tests.benchmarks.search FOLDER [--split dev] [--model DIR]

FOLDER holds xquad.en.SPLIT.json and xquad.de.SPLIT.json. Prints, for each direction, recall@1
of one vector a paragraph, and of the passages searched with some of the channels. All other
figures are those of ``beleg eval``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from index import fuse
from index.embed import SentenceTransformerEncoder
from tests.benchmarks.squad import DIRECTIONS, indexes, read


def table(title: str, rows: dict[str, Sequence[float]]) -> None:
    print(f"\n{title:42s}" + "".join(f"{a}>{b}".rjust(8) for a, b in DIRECTIONS))
    for name, values in rows.items():
        print(f"{name:42s}" + "".join(f"{value:8.3f}" for value in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model")
    args = parser.parse_args()

    paragraphs, _, gold = read(args.folder, args.split)
    encoder = SentenceTransformerEncoder(args.model)
    found = indexes(paragraphs, encoder)
    numbers = np.asarray([g.paragraph for g in gold])
    vectors = {lang: encoder.passages(texts) for lang, texts in paragraphs.items()}
    asked = {lang: encoder.questions([g.question[lang] for g in gold]) for lang in paragraphs}
    alone = [float(np.mean((asked[q] @ vectors[d].T).argmax(1) == numbers)) for q, d in DIRECTIONS]
    table(f"encoder alone, {len(gold)} questions", {"recall@1": alone})

    ablation: dict[str, list[float]] = {}
    keep = dict(fuse.WEIGHTS)
    parts = {
        "dense": ("dense",),
        "lexical": ("lexical",),
        "dense + sentence": ("dense", "sentence"),
        "dense + lexical": ("dense", "lexical"),
        "dense + sentence + lexical": tuple(keep),
    }
    for q, d in DIRECTIONS:
        index = found[d]
        queries = [index.query(g.question[q]) for g in tqdm(gold, desc=f"{q}>{d}", disable=None)]
        for name, channels in parts.items():
            fuse.WEIGHTS = {c: keep[c] if c in channels else 0.0 for c in keep}
            best = [index.search(query, 1)[0].passage.document.source for query in queries]
            right = [b == str(g.paragraph) for b, g in zip(best, gold, strict=True)]
            ablation.setdefault(name, []).append(float(np.mean(right)))
        fuse.WEIGHTS = keep
    table("search channels, passage recall@1", ablation)


if __name__ == "__main__":
    main()

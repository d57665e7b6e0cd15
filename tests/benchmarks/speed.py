"""How fast the encoder is against sentence-transformers' float32 default, side by side.

    python -m tests.benchmarks.speed FILE [--rounds 7]

FILE is a text; its passages are encoded by both in turn. Prints the medians, the ratio of
each round, and the lowest cosine of a passage's two vectors.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from index.embed import BUNDLED, SentenceTransformerEncoder
from index.load import load
from index.split import passages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", type=int, default=119)
    parser.add_argument("--texts", type=int, default=256)
    args = parser.parse_args()
    ours, theirs = SentenceTransformerEncoder(), SentenceTransformer(str(BUNDLED), device="cpu")
    texts: list[str] = []
    for file in args.files:
        parts = passages(load(file), window=args.window, count_tokens=ours.count_tokens)
        texts += [part.text for part in parts]
    texts = [texts[i % len(texts)] for i in range(args.texts)]
    times: list[tuple[float, float]] = []
    for _ in range(args.rounds + 1):  # the first one warms up
        began = time.perf_counter()
        a = ours.passages(texts)
        middle = time.perf_counter()
        b = theirs.encode(texts, normalize_embeddings=True)
        times.append((middle - began, time.perf_counter() - middle))
    rates = len(texts) / np.asarray(times[1:])
    ratio = np.median(rates[:, 0] / rates[:, 1])
    print(
        f"{len(texts)} passages of {np.mean(ours.count_tokens(texts)):.0f} tokens: ours"
        f" {np.median(rates[:, 0]):.0f}/s, sentence-transformers {np.median(rates[:, 1]):.0f}/s,"
        f" ratio {ratio:.2f} (of {args.rounds} rounds, alternating);"
        f" lowest cosine {(a * b).sum(1).min():.5f}"
    )


if __name__ == "__main__":
    main()

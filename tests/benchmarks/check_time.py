"""What checking an answer adds to its time: the median over answers of three sentences.

    python -m tests.benchmarks.check_time [--rounds N]

The answers are made of sentences written by hand in other words than their sources (claims/),
so that each must be encoded. What the extractive answer quotes word for word is not. One thing
in each is in quotation marks, and stands nowhere: it is looked for in all texts. The passages
found for its first sentence are looked through for what is against it.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median

from index.embed import SentenceTransformerEncoder
from index.load import load
from index.store import PassageIndex
from rag.answer import Citation
from rag.check import check
from rag.disagree import disagreements
from rag.extract import PASSAGES
from rag.llm import harmless
from tests.benchmarks.fit_support import CLAIMS, QUESTIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    encoder = SentenceTransformerEncoder()
    index = PassageIndex(encoder=encoder)
    index.add(load(source) for source in sorted(QUESTIONS.glob("*.??.txt")))
    view = index.view
    took: list[float] = []
    for turn in range(args.rounds + 1):
        for file in sorted(CLAIMS.glob("*.jsonl")):
            name, language, _ = file.name.split(".")
            (source,) = QUESTIONS.glob(f"{name}.??.txt")
            document = load(source)
            rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            for group in (rows[i : i + 3] for i in range(0, len(rows), 3)):
                citations = []
                for marker, row in enumerate(group, 1):
                    start = document.text.index(row["sentence"])
                    end = start + len(row["sentence"])
                    citations.append(
                        Citation(marker, document, start, end, row["sentence"], start, end, 1.0)
                    )
                text = " ".join(f"{row['claim']} [{n}]" for n, row in enumerate(group, 1))
                text += f' "{group[0]["false"]}" [1]'
                hits = index.search(index.query(group[0]["claim"], view), PASSAGES, view=view)
                started = time.perf_counter()
                check(
                    text,
                    citations,
                    language=language,
                    encoder=encoder,
                    holding=lambda quotation, spoken=language: index.holding(
                        quotation, spoken, view
                    ),
                    shown=harmless,
                )
                disagreements(citations, hits, view)
                if turn:  # the first round warms the caches
                    took.append(time.perf_counter() - started)
    ms = sorted(1000 * seconds for seconds in took)
    print(f"{len(ms)} checks: median {median(ms):.1f} ms, 90 % {ms[len(ms) * 9 // 10]:.1f} ms")


if __name__ == "__main__":
    main()

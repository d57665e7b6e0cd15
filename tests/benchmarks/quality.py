"""The default pipeline's quality on XQuAD and on question files, and the encoder's alone.

    python -m tests.benchmarks.quality FOLDER [--split dev] [--model DIR]
    python -m tests.benchmarks.quality --article ARTICLE QUESTIONS.jsonl ...

FOLDER holds xquad.en.SPLIT.json and xquad.de.SPLIT.json. Prints, for each direction: recall@1
of one vector a paragraph; recall@1 of the passages searched, and of the first quote; answer_hit@1
(the first quote, of at most 3 sentences and 600 characters, holds a gold answer); the same two
as shipped, where an abstention counts as a miss; the ablation of the search channels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from index import fuse
from index.embed import SentenceTransformerEncoder
from rag.chatbot import Chatbot
from rag.extract import Ranker
from tests.benchmarks.squad import DIRECTIONS, indexes, read


def table(title: str, rows: dict[str, Sequence[float]]) -> None:
    print(f"\n{title:42s}" + "".join(f"{a}>{b}".rjust(8) for a, b in DIRECTIONS))
    for name, values in rows.items():
        print(f"{name:42s}" + "".join(f"{value:8.3f}" for value in values))


def xquad(folder: Path, split: str, model: str | None) -> None:
    paragraphs, _, gold = read(folder, split)
    encoder = SentenceTransformerEncoder(model)
    found = indexes(paragraphs, encoder)
    numbers = np.asarray([g.paragraph for g in gold])
    vectors = {lang: encoder.passages(texts) for lang, texts in paragraphs.items()}
    asked = {lang: encoder.questions([g.question[lang] for g in gold]) for lang in paragraphs}
    alone = [float(np.mean((asked[q] @ vectors[d].T).argmax(1) == numbers)) for q, d in DIRECTIONS]
    table(f"encoder alone, {len(gold)} questions", {"recall@1": alone})

    rows: dict[str, list[float]] = {}
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
        bot = Chatbot(found[d], ranker=replace(Ranker.bundled(), threshold=0.0))
        cut = Ranker.bundled().threshold
        values, seconds = [], []
        for g in tqdm(gold, desc=f"{q}>{d}", disable=None):
            began = time.perf_counter()
            answer = bot.ask(g.question[q])
            seconds.append(time.perf_counter() - began)
            first = answer.citations[0] if answer.citations else None
            para = first is not None and first.source == str(g.paragraph)
            hit = first is not None and any(a in first.quote for a in g.answers[d])
            top = [h.passage.document.source for h in answer.passages]
            said = answer.confidence >= cut
            size = len(first.quote) if first is not None else 0
            values.append(
                [
                    top[:1] == [str(g.paragraph)],
                    str(g.paragraph) in top[:5],
                    str(g.paragraph) in top,
                    para,
                    hit,
                    para and said,
                    hit and said,
                    not said,
                    size,
                ]
            )
        names = (
            "passages searched, recall@1",
            "passages searched, recall@5",
            "passages searched, recall@10",
            "first citation in the gold paragraph",
            "answer_hit@1",
            "  as shipped: in the gold paragraph",
            "  as shipped: answer_hit@1",
            "  as shipped: falsely abstained",
            "characters a quote",
        )
        for name, mean in zip(names, np.mean(np.asarray(values, np.float64), 0), strict=True):
            rows.setdefault(name, []).append(float(mean))
        rows.setdefault("seconds a question, median", []).append(float(np.median(seconds)))
        index = found[d]
        queries = [index.query(g.question[q]) for g in gold]
        for name, channels in parts.items():
            fuse.WEIGHTS = {c: keep[c] if c in channels else 0.0 for c in keep}
            best = [index.search(query, 1)[0].passage.document.source for query in queries]
            right = [b == str(g.paragraph) for b, g in zip(best, gold, strict=True)]
            ablation.setdefault(name, []).append(float(np.mean(right)))
        fuse.WEIGHTS = keep
    table("default pipeline", rows)
    table("search channels, passage recall@1", ablation)


def article(path: Path, questions: Sequence[Path], model: str | None) -> None:
    shipped = Chatbot.from_paths(path, model=model)
    bot = Chatbot(shipped.index, ranker=replace(shipped.ranker, threshold=0.0))
    for file in questions:
        known, unknown, misses = [], [], []
        hits = []
        for line in file.read_text("utf-8").splitlines():
            asked = json.loads(line)
            answer = bot.ask(asked["question"])
            if asked.get("answerable") is False:
                unknown.append(answer.confidence)
                continue
            known.append(answer.confidence)
            first = answer.citations[0].quote if answer.citations else ""
            hits.append(any(gold in first for gold in asked["answers"]))
            if not hits[-1]:
                misses.append(asked["id"])
        cut = shipped.ranker.threshold
        labels = [1] * len(known) + [0] * len(unknown)
        print(
            f"{file.name}: answer_hit@1 {np.mean(hits):.3f} of {len(hits)};"
            f" AUROC {roc_auc_score(labels, known + unknown):.3f};"
            f" at the threshold: abstained {np.mean(np.asarray(unknown) < cut):.3f},"
            f" falsely {np.mean(np.asarray(known) < cut):.3f}; missed {' '.join(misses)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model")
    parser.add_argument("--article", type=Path)
    args = parser.parse_args()
    if args.article:
        article(args.article, args.paths, args.model)
    else:
        xquad(args.paths[0], args.split, args.model)


if __name__ == "__main__":
    main()

"""Calibrate the bundled encoder, as ``beleg eval --calibrate`` does, on all directions at once.

    python -m tests.benchmarks.calibrate XQUAD [QUESTIONS ...] [--every N] [--write | --as-shipped]

XQUAD holds xquad.en.dev.json and xquad.de.dev.json, whose questions are asked in each language
over each, and again without their paragraph or their article. QUESTIONS are folders of texts
with questions of people's own wording (tests/benchmarks/questions/dev), each text an index of
its own. Figures are of the questions left out of each fit; --write changes rag/ranker.json.
To be run after tests/benchmarks/fit_ranker.py, whose confidence it calibrates. --as-shipped fits
nothing: it measures abstention and calibration error, end to end, with rag/ranker.json as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from index.embed import Encoder, SentenceTransformerEncoder
from index.load import load
from index.store import PassageIndex
from index.types import Document
from rag.calibrate import Case, cases, figures, fit
from rag.chatbot import Chatbot
from rag.evaluate import evaluate
from rag.extract import RANKER, Ranker
from rag.questions import Question, read_questions
from tests.benchmarks.squad import DIRECTIONS


def asked(
    encoder: Encoder,
    ranker: Ranker,
    documents: tuple[Document, ...],
    questions: tuple[Question, ...],
) -> list[Case]:
    """What becomes of questions, with the confidence of that ranker."""
    index = PassageIndex(encoder=encoder)
    index.add(documents)
    bot = Chatbot(index, ranker=ranker)
    return cases(bot, questions, evaluate(bot, questions).rows)


def plain() -> Ranker:
    """The confidence of the weights alone."""
    return replace(Ranker.shipped(), slope=1.0, intercept=0.0)


def xquad(folder: Path, encoder: Encoder, ranker: Ranker, every: int) -> Iterator[Case]:
    for q, d in tqdm(DIRECTIONS, desc="XQuAD", disable=None):
        files = [folder / f"xquad.{language}.dev.json" for language in (q, d)]
        found = read_questions(files[0], contexts=files[1])
        yield from asked(encoder, ranker, found.documents, found.questions[::every])


def own(folder: Path, encoder: Encoder, ranker: Ranker) -> Iterator[Case]:
    for file in tqdm(sorted(folder.glob("*.questions.*.jsonl")), desc="own wording", disable=None):
        (text,) = folder.glob(f"{file.name.split('.')[0]}.??.txt")
        document = load(text)
        # One document: none can be left out, so the unanswerable ones are those given.
        yield from asked(encoder, ranker, (document,), read_questions(file).questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("xquad", type=Path)
    parser.add_argument("questions", type=Path, nargs="*")
    parser.add_argument("--every", type=int, default=1, help="use every n-th XQuAD question")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write rag/ranker.json")
    what.add_argument("--as-shipped", action="store_true", help="measure it, and fit nothing")
    args = parser.parse_args()

    encoder = SentenceTransformerEncoder()
    ranker = Ranker.shipped() if args.as_shipped else plain()
    sets = {"XQuAD": list(xquad(args.xquad, encoder, ranker, args.every))}
    sets |= {str(folder): list(own(folder, encoder, ranker)) for folder in args.questions}
    if args.as_shipped:
        shown = {name: asdict(figures(held, ranker.threshold)) for name, held in sets.items()}
        print(json.dumps(shown, indent=1))
        return
    found = fit([case for held in sets.values() for case in held], ranker)
    print(json.dumps(asdict(found), indent=1))
    if args.write:
        held = json.loads(RANKER.read_text("utf-8"))
        fitted = asdict(found.calibration)
        held["bundled"] |= {key: fitted[key] for key in ("slope", "intercept", "threshold")}
        RANKER.write_text(json.dumps(held, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

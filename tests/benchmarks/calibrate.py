"""Calibrate the bundled encoder, as ``beleg eval --calibrate`` does, on all directions at once.

    python -m tests.benchmarks.calibrate XQUAD [QUESTIONS ...] [--every N] [--write]

XQUAD holds xquad.en.dev.json and xquad.de.dev.json, whose questions are asked in each language
over each, and again without their paragraph or their article. QUESTIONS are folders of texts
with questions of people's own wording (tests/benchmarks/questions/dev), each text an index of
its own. Figures are of the questions left out of each fit; --write changes rag/ranker.json.
To be run after tests/benchmarks/fit_ranker.py, whose confidence it calibrates.
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
from rag.calibrate import Case, cases, fit
from rag.chatbot import Chatbot
from rag.evaluate import evaluate
from rag.extract import RANKER, Ranker
from rag.questions import Question, check_answers, read_questions
from tests.benchmarks.squad import DIRECTIONS


def asked(
    encoder: Encoder, documents: tuple[Document, ...], questions: tuple[Question, ...]
) -> list[Case]:
    """What becomes of questions, the confidence being that of the weights alone."""
    index = PassageIndex(encoder=encoder)
    index.add(documents)
    bot = Chatbot(index, ranker=plain())
    return cases(bot, questions, evaluate(bot, questions).rows)


def plain() -> Ranker:
    return replace(Ranker.shipped(), slope=1.0, intercept=0.0)


def xquad(folder: Path, encoder: Encoder, every: int) -> Iterator[Case]:
    for q, d in tqdm(DIRECTIONS, desc="XQuAD", disable=None):
        files = [folder / f"xquad.{language}.dev.json" for language in (q, d)]
        found = read_questions(files[0], contexts=files[1])
        yield from asked(encoder, found.documents, found.questions[::every])


def own(folder: Path, encoder: Encoder) -> Iterator[Case]:
    for file in tqdm(sorted(folder.glob("*.questions.*.jsonl")), desc="own wording", disable=None):
        (text,) = folder.glob(f"{file.name.split('.')[0]}.??.txt")
        document = load(text)
        # One document: none can be left out, so the unanswerable ones are those given.
        questions = check_answers(read_questions(file).questions, [document])
        yield from asked(encoder, (document,), questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("xquad", type=Path)
    parser.add_argument("questions", type=Path, nargs="*")
    parser.add_argument("--every", type=int, default=1, help="use every n-th XQuAD question")
    parser.add_argument("--write", action="store_true", help="write rag/ranker.json")
    args = parser.parse_args()

    encoder = SentenceTransformerEncoder()
    asked_of = list(xquad(args.xquad, encoder, args.every))
    for folder in args.questions:
        asked_of += own(folder, encoder)
    found = fit(asked_of, plain())
    print(json.dumps(asdict(found), indent=1))
    if args.write:
        held = json.loads(RANKER.read_text("utf-8"))
        held["bundled"] |= asdict(found.calibration)
        RANKER.write_text(json.dumps(held, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

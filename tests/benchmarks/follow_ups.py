"""Follow-up questions: what of the second turn is answered right, and what falsely.

    python -m tests.benchmarks.follow_ups [--example] [--show]

Dialogues are in tests/benchmarks/dialogues: those of dev/ are about development texts, where
the rule was written; those of --example about the bundled article, written before the rule.
Without it the second question is asked as it stands. Nothing in the texts answers the second
questions of unsaid/. First questions must be left as they are.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from index.embed import SentenceTransformerEncoder
from index.store import PassageIndex
from rag.answer import Answer
from rag.chatbot import EXAMPLE, Chatbot
from rag.conversation import follows
from tests.benchmarks.squad import LANGUAGES

FOLDER = Path(__file__).parent / "dialogues"
TEXTS = Path(__file__).parent / "questions" / "dev"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Two questions, and the text that answers the second one, if any does."""

    id: str
    first: str
    question: str
    answers: list[str]


def dialogues(file: Path) -> list[Dialogue]:
    return [Dialogue(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def sources(example: bool) -> Iterator[tuple[Path, dict[str, list[Dialogue]]]]:
    """Each text with its dialogues by language."""
    folders = [folder if example else folder / "dev" for folder in (FOLDER, FOLDER / "unsaid")]
    for name in sorted({file.name.split(".")[0] for file in folders[0].glob("*.jsonl")}):
        (text,) = [EXAMPLE] if example else TEXTS.glob(f"{name}.??.txt")
        yield (
            text,
            {
                code: [d for folder in folders for d in dialogues(folder / f"{name}.{code}.jsonl")]
                for code in LANGUAGES
            },
        )


def hit(answer: Answer, gold: list[str]) -> bool:
    return bool(answer.citations) and any(text in answer.citations[0].quote for text in gold)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--example", action="store_true", help="those about the bundled article")
    parser.add_argument("--show", action="store_true", help="print what failed")
    args = parser.parse_args()

    encoder = SentenceTransformerEncoder()
    right: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    false: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    alone: dict[str, list[bool]] = defaultdict(list)
    for text, by_language in tqdm(list(sources(args.example)), disable=None):
        bot = Chatbot(PassageIndex(encoder=encoder))
        bot.add(text)
        for language, asked in by_language.items():
            for one in asked:
                first = bot.ask(one.first)
                for bot.follow_ups in (False, True):
                    answer = bot.ask(one.question, [(one.first, first)])
                    if one.answers:
                        right[language, bot.follow_ups].append(hit(answer, one.answers))
                    else:
                        false[language, bot.follow_ups].append(answer.answered)
                if one.answers:
                    alone[language].append(not follows(one.first))
                failed = not hit(answer, one.answers) if one.answers else answer.answered
                if args.show and failed:
                    quote = (answer.citations or answer.withheld)[0].quote
                    print(
                        f"{one.id} {language} {answer.answered} {answer.confidence:.2f}:"
                        f" {answer.understood} -> {quote}"
                    )
    for what, found in (("answered right", right), ("not said, but answered", false)):
        for (language, rule), each in found.items():
            name = f"{language} {'with' if rule else 'without'} the rule"
            print(f"{what}, {name}: {sum(each)} of {len(each)}, {sum(each) / len(each):.3f}")
    for language, kept in alone.items():
        print(f"{language} first questions that stand alone: {sum(kept) / len(kept):.3f}")


if __name__ == "__main__":
    main()

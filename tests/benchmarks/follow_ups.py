"""Follow-up questions: answer_hit@1 of the second turn, with and without the rule.

    python -m tests.benchmarks.follow_ups [--example] [--show]

Dialogues are in tests/benchmarks/dialogues: those of dev/ are about development texts, where
the rule was written; those of --example about the bundled article, written before the rule.
Without it the second question is asked as it stands. The questions after it, about other things,
must stay as they are: the first questions of all other dialogues are asked in its place.
"""

from __future__ import annotations

import argparse
import json
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
    """Two questions, and the text that answers the second one."""

    id: str
    first: str
    question: str
    answers: list[str]


def dialogues(file: Path) -> list[Dialogue]:
    return [Dialogue(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def sources(example: bool) -> Iterator[tuple[Path, dict[str, list[Dialogue]]]]:
    """Each text with its dialogues by language."""
    folder = FOLDER if example else FOLDER / "dev"
    for name in sorted({file.name.split(".")[0] for file in folder.glob("*.jsonl")}):
        (text,) = [EXAMPLE] if example else TEXTS.glob(f"{name}.??.txt")
        yield text, {code: dialogues(folder / f"{name}.{code}.jsonl") for code in LANGUAGES}


def hit(answer: Answer, gold: list[str]) -> bool:
    return bool(answer.citations) and any(text in answer.citations[0].quote for text in gold)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--example", action="store_true", help="those about the bundled article")
    parser.add_argument("--show", action="store_true", help="print what failed")
    args = parser.parse_args()

    encoder = SentenceTransformerEncoder()
    hits: dict[tuple[str, bool], list[bool]] = {}
    alone: dict[str, list[bool]] = {code: [] for code in LANGUAGES}
    for text, by_language in tqdm(list(sources(args.example)), disable=None):
        bot = Chatbot(PassageIndex(encoder=encoder))
        bot.add(text)
        for language, asked in by_language.items():
            for one in asked:
                alone[language].append(not follows(one.first))
                first = bot.ask(one.first)
                for bot.follow_ups in (False, True):
                    answer = bot.ask(one.question, [(one.first, first)])
                    hits.setdefault((language, bot.follow_ups), []).append(hit(answer, one.answers))
                if args.show and not hits[language, True][-1]:
                    quote = (answer.citations or answer.withheld)[0].quote
                    print(f"{one.id} {language} {answer.answered}: {answer.understood} -> {quote}")
    for (language, rule), found in hits.items():
        print(f"{language} {'with' if rule else 'without'} the rule: {sum(found) / len(found):.3f}")
    for language, kept in alone.items():
        print(f"{language} first questions that stand alone: {sum(kept) / len(kept):.3f}")


if __name__ == "__main__":
    main()

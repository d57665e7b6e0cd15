"""How often sources that disagree are told so (rag/disagree.py), and sources that do not.

    python -m tests.benchmarks.disagreeing XQUAD [--every N]

XQuAD's paragraphs in both languages are an index of documents that agree: what is told there is
false. Then a copy of the paragraph that answers is added, the sentence with the answer made untrue
in one detail by rule (altered.py), and the question asked again, in the paragraph's language and
in the other one.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from index.embed import SentenceTransformerEncoder
from index.split import sentences
from index.store import PassageIndex
from index.types import Document
from rag.answer import Answer
from rag.chatbot import Chatbot
from tests.benchmarks.altered import altered
from tests.benchmarks.squad import LANGUAGES, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("xquad", type=Path)
    parser.add_argument("--every", type=int, default=8, help="every n-th question")
    args = parser.parse_args()

    paragraphs, _, gold = read(args.xquad)
    bot = Chatbot(PassageIndex(encoder=SentenceTransformerEncoder()))
    bot.index.add(
        [
            Document(text, f"{language}{i}", "", language)
            for language in LANGUAGES
            for i, text in enumerate(paragraphs[language])
        ]
    )
    chance = random.Random(1)
    false: list[bool] = []
    told: dict[str, list[bool]] = defaultdict(list)
    for one in tqdm(gold[:: args.every], disable=None):
        before = [bot.ask(one.question[asked]) for asked in LANGUAGES]
        false += [bool(a.disagreements) for a in before if a.answered]
        for language in LANGUAGES:
            text, answer = paragraphs[language][one.paragraph], one.answers[language][0]
            spans = sentences(text, language)
            span = next((s for s in spans if answer in text[s.start : s.end]), None)
            if span is None:
                continue
            lent = [paragraphs[language][chance.randrange(len(paragraphs[language]))]]
            for kind, new in altered(text[span.start : span.end], language, lent, chance):
                planted = text[: span.start] + new + text[span.end :]
                bot.index.add([Document(planted, "planted", "", language)])
                for asked in LANGUAGES:
                    after = bot.ask(one.question[asked])
                    old = text[span.start : span.end]
                    if any(old in c.quote or new in c.quote for c in after.citations):
                        told[f"{kind}, {asked} {language}"].append(_tells(after))
                bot.index.remove("planted")
    print(f"told where all agree: {sum(false)} of {len(false)} answers")
    for kind, found in sorted(told.items()):
        print(f"{kind:24s}{len(found):5d}{sum(found) / len(found):8.3f}")


def _tells(answer: Answer) -> bool:
    """Whether the planted document is one of those that are said to disagree."""
    cited = {c.source for c in answer.citations}
    return any("planted" in {d.document.source, *cited} for d in answer.disagreements)


if __name__ == "__main__":
    main()

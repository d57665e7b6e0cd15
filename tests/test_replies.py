"""Replies of a language model, read and resolved: each marker quotes what was pointed at."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from index.load import load
from index.store import PassageIndex
from index.types import Document, Hit
from rag.answer import Answer
from rag.chatbot import EXAMPLE, Chatbot
from rag.check import QUOTATIONS, SUPPORT
from rag.llm import LanguageModel
from tests.test_hostile import SURE, check_page, check_text, hits_of, replies
from tests.test_llm import ask
from tests.tiny import TinyEncoder


@pytest.fixture(scope="module")
def found() -> list[Hit]:
    return hits_of(load(EXAMPLE))[:3]  # so many are sure to be shown


def saying(reply: str) -> LanguageModel:
    return LanguageModel(GenericFakeChatModel(messages=iter([AIMessage(reply)] * 8)))


def sentences(hits: list[Hit]) -> list[tuple[int, int]]:
    """The sentences in the order in which they are numbered."""
    spans = [(span.start, span.end) for hit in hits for span in hit.passage.sentences]
    return list(dict.fromkeys(spans))


@pytest.mark.parametrize("form", ["json", "text"])
def test_every_marker_quotes_the_sentences_pointed_at(form: str, found: list[Hit]) -> None:
    chance = random.Random(7)
    known = sentences(found)
    for _ in range(200):
        told = [
            chance.sample([*range(1, len(known) + 1), 0, 500, 501], chance.randint(1, 4))
            for _ in range(chance.randint(1, 4))
        ]
        if form == "json":
            rows = [{"text": f"So {chr(97 + i)}.", "cites": to} for i, to in enumerate(told)]
            said = json.dumps({"answered": True, "sentences": rows})
        else:
            said = " ".join(
                f"So {chr(97 + i)}. {''.join(f'[{n}]' for n in to)}" for i, to in enumerate(told)
            )
        wanted = [{known[n - 1] for n in to if 1 <= n <= len(known)} for to in told]
        text, reply = ask(saying(said), found)
        if not any(wanted):
            assert (reply.text, reply.citations) == ("", ())
            continue
        assert reply.text.startswith(text)
        quoted = {c.marker: (c.start, c.end) for c in reply.citations}
        for letter, spans in zip("abcd", wanted, strict=False):
            markers = re.search(rf"So {letter}\.((?: ?\[\d+\])*)", reply.text)
            assert markers is not None
            held = [quoted[int(n)] for n in re.findall(r"\d+", markers[1])]
            inside = {s for s in known for a, b in held if a <= s[0] and s[1] <= b}
            assert inside == spans
        assert reply.removed_markers == sum(n in (0, 500, 501) for to in told for n in to)


def test_what_is_shown_of_a_thousand_fuzzed_replies_is_ours_and_checked() -> None:
    """Through everything that a user's answer goes through, but the real encoder: what is found
    and how well it supports what is said does not matter here."""
    index = PassageIndex(encoder=TinyEncoder())
    texts = [load(EXAMPLE).text[:1500], "Das sei „ein Denkmal der Eitelkeit“."]
    index.add([Document(text, name, name) for text, name in zip(texts, "ab", strict=True)])
    words = texts[0].split()
    chance = random.Random(3)
    kinds: Counter[str] = Counter()
    for n, fuzz in enumerate(replies(1000)):
        start = chance.randrange(100)
        first, second = (" ".join(words[i : i + 4]) for i in (start, start + 5))
        quoted = chance.choice([first, f"{first} {second}", f"{first} ja", "Denkmal der Eitelkeit"])
        said = f"{fuzz} Er sagte „{quoted}“ [{n % 9}]."
        held: Any = {"answered": True, "sentences": [{"text": said, "cites": [n % 9, -1]}]}
        bot = Chatbot(index, ranker=SURE, llm=saying(json.dumps(held) if n % 2 else said))
        answer = bot.ask("Was sagte Putin?")
        check_text(answer.text, answer.citations, texts)
        check_page(answer)
        check_claims(answer)
        kinds[answer.mode] += 1
        kinds.update(flag.kind for claim in answer.claims for flag in claim.flags)
        kinds.update(claim.support for claim in answer.claims)
    assert kinds["llm"] > 500
    assert {*QUOTATIONS, *SUPPORT, "number", "name"} <= set(kinds)


def check_claims(answer: Answer) -> None:
    """All that is said is checked, with all that it cites; each flag is where it says it is."""
    done = 0
    for claim in answer.claims:
        assert not answer.text[done : claim.start].strip()
        done = claim.end
        inside = {int(n) for n in re.findall(r"\[(\d+)\]", answer.text[claim.start : claim.end])}
        assert inside <= set(claim.markers)
        for flag in claim.flags:
            assert claim.start <= flag.start < claim.end  # a quotation may be of several
            assert answer.text[flag.start : flag.end] == flag.text
    assert not answer.text[done:].strip()

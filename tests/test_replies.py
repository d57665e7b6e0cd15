"""Replies of a language model, read and resolved: each marker quotes what was pointed at."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from index.load import load
from index.types import Hit
from rag.chatbot import EXAMPLE
from rag.llm import LanguageModel
from tests.test_hostile import check_safe, hits_of, replies
from tests.test_llm import ask


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


def test_fuzzed_replies_are_safe_as_the_language_model_gives_them(found: list[Hit]) -> None:
    document = found[0].passage.document
    cited = 0
    for n, fuzz in enumerate(replies(300)):
        held: Any = {"answered": True, "sentences": [{"text": fuzz, "cites": [n % 9, -1]}]}
        _, reply = ask(saying(json.dumps(held) if n % 2 else fuzz), found)
        assert bool(reply.text) == bool(reply.citations)
        assert reply.text or reply.refused or reply.failure
        check_safe(reply.text, reply.citations, [document.text])
        cited += bool(reply.citations)
    assert cited > 100

"""Follow-up questions: "And when?" made into a question that can be searched, by rule.

A question that has too little of its own, or points at what was said ("he", "darüber"),
gets the topic words of the last question and of its cited sentence. No model is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from index.lexical import fold, stop_words

if TYPE_CHECKING:
    from rag.answer import Answer

HISTORY = 3
"""Turns that are looked at, the latest ones."""
TOPIC_WORDS = 12
ENOUGH = 2
"""So many content words of its own make a question stand alone, if it does not point."""

_WORD = re.compile(r"\w[\w'’.-]*\w|\w")
_LEAD = re.compile(r"(?:(?:and|but|so|then|und|aber|dann|denn)\b[\s,]*)+", re.IGNORECASE)
_STOP = stop_words("de") | stop_words("en")

_POINTS = re.compile(
    r"\b(?:he|him|his|she|hers?|they|them|theirs?|its?|these|those|this"
    r"|er|ihm|ihn|ihnen|ihre?[mnrs]?|seine?[mnrs]?|sie|dies(?:e[mnrs]?)?|jene[mnrs]?|dessen|deren"
    r"|damals|dort|da(?:r(?:an|auf|aus|in|um|über|unter)|bei|durch|für|gegen|mit|nach|von|vor|zu))\b"
    r"|\b(?:that|there|das|es)\b(?=\W*$)"
    # Before a noun, "das" is an article.
    r"|\bdas\b(?! (?:\w+ )*[A-ZÄÖÜ])"
)
_OWN = re.compile(r"(?:his|hers?|its|theirs?|ihre?[mnrs]?|seine?[mnrs]?)$")


def understand(question: str, history: Sequence[tuple[str, Answer]]) -> str:
    """The full question that a follow-up stands for; empty if it stands for itself."""
    if not history or not follows(question):
        return ""
    asked, answer = history[-1]
    topic = _content(answer.understood or asked)
    if answer.citations:
        topic += _capitals(answer.citations[0].quote)
    new = {fold(word) for word in _content(question)}
    carried = list(dict.fromkeys(word for word in topic if fold(word) not in new))[:TOPIC_WORDS]
    own = _LEAD.sub("", question.strip(), count=1)
    return f"{own[:1].upper()}{own[1:]} ({' '.join(carried)})" if carried else ""


def follows(question: str) -> bool:
    """Whether a question cannot be understood without the one before it."""
    text = question.strip()
    if _LEAD.match(text) or len(_content(text)) < ENOUGH:
        return True
    # What a name or noun earlier in the question stands for, it need not look for elsewhere.
    return any(not _inner(text, match) for match in _POINTS.finditer(text))


def _inner(text: str, pointer: re.Match[str]) -> bool:
    before = text[: pointer.start()]
    named = any(w[0].isupper() for w in _WORD.findall(before)[1:])
    return named and bool(_OWN.fullmatch(pointer[0]) or "," in before)


def _content(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if fold(word) not in _STOP]


def _capitals(text: str) -> Iterable[str]:
    """Names, and in German nouns, of a sentence; not its first word, which may be any."""
    return [w for w in _WORD.findall(text)[1:] if w[0].isupper() and fold(w) not in _STOP]

"""Follow-up questions: "And when?" made into a question that can be searched, by rule.

A question that has too little of its own, or points at what was said ("he", "darüber"),
gets the topic words of the last question and the names of its cited sentence. No model is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from index.language import detect_language
from index.lexical import fold, stop_words
from rag.facts import names

if TYPE_CHECKING:
    from rag.answer import Answer

HISTORY = 3
"""Turns that are looked at, the latest ones."""
TOPIC_WORDS = 12
ENOUGH = 2
"""So many content words of its own make a question stand alone, if it does not point."""

_WORD = re.compile(r"\w[\w'’.-]*\w|\w")
_LEAD = re.compile(r"^(?:(?:and|but|so|then|und|aber|dann|denn)\b[\s,]*)+", re.IGNORECASE)
_LITTLE = frozenset(
    "since many much long old far often exactly"
    " viel viele vielen lange alt oft seit genau gibt gab".split()
)
"""They ask more than they say."""

_POINTS = re.compile(
    r"\b(?:he|him|his|she|hers?|they|them|theirs?|it|its(?! own)|these|those|this"
    r"|er|ihm|ihn|ihnen|ihre?[mnrs]?|seine?[mnrs]?|sie|dies(?:e[mnrs]?)?|jene[mnrs]?|dessen|deren"
    r"|damals|dort"
    # Before a comma, "dafür, dass ..." points forward.
    r"|da(?:r(?:an|auf|aus|in|um|über|unter)|bei|durch|für|gegen|mit|nach|von|vor|zu)(?!,))\b"
    r"|\b(?:that|there|das|es)\b(?=\W*$)|(?:do(?:es)?|did|is|was) that\b"
    # Before a noun, "das" is an article.
    r"|\bdas\b(?! (?:\w+ )*(?-i:[A-ZÄÖÜ]))",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|do|does|did|ha[sd]|have|ist|sind|war|waren|ha(?:t|tte|ben)|wird|wurde)\b"
)
"""With one of these, a single name makes a question whole: "How old is Anna?" is."""
_OWN = re.compile(r"(?:his|hers?|its|theirs?|ihre?[mnrs]?|seine?[mnrs]?)$")
_CLAUSE = re.compile(r",|\w \b(?:when|if|that|because|after|before|while|who|which|since|as)\b")


def understand(question: str, history: Sequence[tuple[str, Answer]]) -> str:
    """The full question that a follow-up stands for; empty if it stands for itself."""
    if not history or not follows(question):
        return ""
    asked, answer = history[-1]
    topic = _content(answer.understood or asked)
    if answer.citations:
        cited = answer.citations[0]
        topic += [match[0] for match in names(cited.quote, cited.document.language)]
    new = {fold(word) for word in _content(question)}
    carried = list(dict.fromkeys(word for word in topic if fold(word) not in new))[:TOPIC_WORDS]
    own = _LEAD.sub("", question.strip(), count=1)
    return f"{own[:1].upper()}{own[1:]} ({' '.join(carried)})" if carried else ""


def follows(question: str) -> bool:
    """Whether a question cannot be understood without the one before it."""
    text = question.strip()
    content = _content(text)
    whole = bool(_VERB.search(text)) and any(word[0].isupper() for word in content)
    if _LEAD.match(text) or (len(content) < ENOUGH and not whole):
        return True
    # What a name or noun earlier in the question stands for, it need not look for elsewhere.
    return any(not _inner(text, match) for match in _POINTS.finditer(text))


def _inner(text: str, pointer: re.Match[str]) -> bool:
    """Whether a pointer can mean something that the question itself names before it."""
    if pointer[0] == "Sie" and pointer.start():
        return True  # the reader
    before = text[: pointer.start()]
    named = any(word[0].isupper() for word in _WORD.findall(before)[1:])
    if _CLAUSE.search(before) and _content(before):
        return True
    return named and bool(_OWN.fullmatch(pointer[0]))


def _content(text: str) -> list[str]:
    little = stop_words(detect_language(text, among=("de", "en"))) | _LITTLE
    return [word for word in _WORD.findall(text) if fold(word) not in little]

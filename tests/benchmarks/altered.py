"""Sentences made untrue in one detail: a number, a name, who did what to whom, yes or no.

What fit_support learns of untrue sentences that stand beside the right source. The changes are
made by rule, so some are clumsy; those of claims/ are written by hand.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence

from rag.facts import names

_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w])")
_OPPOSITES: Mapping[str, Sequence[tuple[str, str]]] = {
    "en": [
        ("more", "less"), ("most", "least"), ("first", "last"), ("before", "after"),
        ("largest", "smallest"), ("larger", "smaller"), ("large", "small"), ("high", "low"),
        ("higher", "lower"), ("north", "south"), ("northern", "southern"), ("east", "west"),
        ("eastern", "western"), ("increase", "decrease"), ("increased", "decreased"),
        ("rose", "fell"), ("early", "late"), ("earlier", "later"), ("won", "lost"),
        ("always", "never"), ("all", "none"), ("many", "few"), ("old", "new"), ("with", "without"),
        ("best", "worst"), ("longest", "shortest"), ("above", "below"), ("began", "ended"),
        ("supported", "opposed"), ("accepted", "rejected"), ("bought", "sold"),
    ],
    "de": [
        ("mehr", "weniger"), ("meisten", "wenigsten"), ("erste", "letzte"), ("ersten", "letzten"),
        ("vor", "nach"), ("größte", "kleinste"), ("größten", "kleinsten"), ("großen", "kleinen"),
        ("große", "kleine"), ("hohe", "niedrige"), ("hohen", "niedrigen"), ("höher", "niedriger"),
        ("nördlich", "südlich"), ("östlich", "westlich"), ("stieg", "sank"), ("früh", "spät"),
        ("früher", "später"), ("gewann", "verlor"), ("immer", "nie"), ("alle", "keine"),
        ("viele", "wenige"), ("alten", "neuen"), ("mit", "ohne"), ("beste", "schlechteste"),
        ("begann", "endete"), ("unterstützte", "bekämpfte"), ("kaufte", "verkaufte"),
        ("über", "unter"),
    ],
}  # fmt: skip
_NEGATED: Mapping[str, Sequence[tuple[str, str]]] = {
    "en": [
        (r"\b(?:not|never) ", ""), (r"n't\b", ""), (r"\bno ", "a "),
        (r"\b(is|are|was|were|has|had|can|could|will|would|may|did|does)\b", r"\1 not"),
    ],
    "de": [
        (r"\b(?:nicht|nie|niemals) ", ""), (r"\bkein(e?[mnrs]?)\b", r"ein\1"),
        (r"\bein(e?[mnrs]?)\b", r"kein\1"),
        (r"\b(ist|sind|war|waren|wurde|wurden|hat|hatte|hatten|kann|können|wird)\b", r"\1 nicht"),
    ],
}  # fmt: skip


def altered(
    text: str, language: str, others: Sequence[str], chance: random.Random
) -> Iterator[tuple[str, str]]:
    """Ways to make a sentence untrue, each with its kind; ``others`` are texts that lend names."""
    if found := list(_NUMBER.finditer(text)):
        match = chance.choice(found)
        yield "number", _with(text, match, _another(match[0], chance))
    own = list(names(text, language))
    words = {match[0].casefold() for match in own}
    lent = sorted(
        {m[0] for other in others for m in names(other, language) if m[0].casefold() not in words}
    )
    if own and lent:
        match = chance.choice(own)
        yield "name", _with(text, match, chance.choice(lent))
    if len(words) > 1:
        one, other = chance.sample(own, 2)
        if one.start() > other.start():
            one, other = other, one
        if one[0].casefold() != other[0].casefold():
            yield (
                "roles",
                f"{text[: one.start()]}{other[0]}{text[one.end() : other.start()]}{one[0]}"
                f"{text[other.end() :]}",
            )
    pairs = [*_OPPOSITES[language], *((b, a) for a, b in _OPPOSITES[language])]
    fitting = [(m, b) for a, b in pairs for m in re.finditer(rf"\b{a}\b", text)]
    if fitting:
        match, word = chance.choice(fitting)
        yield "opposite", _with(text, match, word)
    for pattern, new in _NEGATED[language]:
        changed = re.sub(pattern, new, text, count=1)
        if changed != text:
            yield "negation", changed
            return


def _with(text: str, match: re.Match[str], new: str) -> str:
    return f"{text[: match.start()]}{new}{text[match.end() :]}"


def _another(number: str, chance: random.Random) -> str:
    """One of as many digits, with one of them changed."""
    places = [i for i, sign in enumerate(number) if sign.isdigit()]
    place = chance.choice(places)
    lowest = 1 if place == 0 else 0
    digits = [d for d in range(lowest, 10) if str(d) != number[place]]
    return f"{number[:place]}{chance.choice(digits)}{number[place + 1 :]}"

"""Which language a text is written in, by py3langid's naive Bayes over byte n-grams.

German and English, which the bundled encoder knows, are preferred: of another language
there must be clear signs. In names, lists and tables the nearest of ~140 languages wins by
chance, but by little.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

DEFAULT_LANGUAGE = "en"
PREFERRED = ("en", "de")

HEAD = 20_000  # characters of a long text that are looked at from its beginning
SAMPLES = 5  # and so many slices of SAMPLE characters from the rest
SAMPLE = 2_000
UNSURE = 0.02  # a probability below this speaks for nothing
CLEAR = 30.0
"""So many times as likely as the likelier of PREFERRED must another language be.

Measured: lists, tables, invoices and questions in German or English stay below 22, and
100 characters of French, Dutch, Danish or Luxembourgish are above 300.
"""
IMPLAUSIBLE = frozenset(["vo", "zxx"])  # what tables of numbers and codes are taken for

_BEGINS = {
    "de": re.compile(
        r"\W*((ab|an|auf|aus|bei|bis|für|gegen|in|mit|nach|seit|über|um|und|von|vor|zu)\W+)?"
        r"(wann|warum|weshalb|wieso|wer|wem|wen|wessen|wo(r?(an|auf|aus|bei|durch|für|gegen|her|hin"
        r"|in|mit|nach|über|um|von|zu))?|welche[mnrs]?|was\W+(alles|bedeute\w*|bringt|brachte"
        r"|dachte|denkt|droht\w*|erwartet\w*|fordert\w*|für|genau|geschah|geschieht|gibt|hält|hat"
        r"|hatten?|heißt|ist|kann|können|kostet\w*|macht\w*|meint\w*|muss|müssen|passierte?|plant\w*"
        r"|sagt\w*|sind|soll\w*|steckt|steht|tat|taten|tun|tut|verbindet|verlangt\w*|versprach\w*"
        r"|waren|weiß|werden|will|wird|wollen|wollte\w*|wurden?))\b",
        re.IGNORECASE,
    ),
    "en": re.compile(
        r"\W*((about|after|and|at|by|for|from|in|of|on|since|to|until|with)\W+)?"
        r"(who|whom|whose|when|where|why|how|what|which)\b",
        re.IGNORECASE,
    ),
}
"""Begins a question in that language, whatever foreign names it holds."""


@lru_cache(maxsize=1)
def _identifier() -> Any:
    # Our own instance: py3langid's global one can be narrowed by anybody in the process.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def detect_language(text: str, among: tuple[str, ...] | None = None) -> str:
    """The ISO 639-1 code of the language of ``text``.

    With ``among``, one of those: the likeliest; English, if it is one of them, for a text
    that is clearly in none; the first, where nothing speaks for any (no letters).
    """
    fallback = among[0] if among else DEFAULT_LANGUAGE
    sample = _sample(text)
    if not any(character.isalpha() for character in sample):
        return fallback
    ranking: list[tuple[str, float]] = _identifier().rank(sample)
    scores = dict(ranking)
    begun = [code for code in among or () if code in _BEGINS and _BEGINS[code].match(sample)]
    if begun:
        return begun[0]
    likeliest = max(among or PREFERRED, key=lambda code: scores.get(code, 0.0))
    # Labels of three letters have no ISO 639-1 code.
    other = next(label for label, _ in ranking if len(label) == 2)
    if ranking[0][0] not in IMPLAUSIBLE and scores[other] > CLEAR * scores.get(likeliest, 0.0):
        if not among:
            return other
        return DEFAULT_LANGUAGE if DEFAULT_LANGUAGE in among else likeliest
    return likeliest if among or scores[likeliest] >= UNSURE else fallback


def _sample(text: str) -> str:
    """The head of a long text and slices spread evenly over the rest."""
    rest = len(text) - HEAD
    if rest <= SAMPLES * SAMPLE:
        return text[: HEAD + SAMPLES * SAMPLE]
    starts = (HEAD + rest * index // SAMPLES for index in range(SAMPLES))
    return "\n".join([text[:HEAD], *(text[start : start + SAMPLE] for start in starts)])

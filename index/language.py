"""Which language a text is written in, by py3langid's naive Bayes over byte n-grams.

It only names the language; it knows nothing of words, stems or stop words.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

DEFAULT_LANGUAGE = "en"

HEAD = 20_000  # characters of a long text that are looked at from its beginning
SAMPLES = 5  # and so many slices of SAMPLE characters from the rest
SAMPLE = 2_000
SHORT, USUAL = 200, ("de", "en")  # in so few characters, neighbours of these win by chance
UNSURE = 0.05  # below this probability the best of ~100 languages is a guess


@lru_cache(maxsize=1)
def _identifier() -> Any:
    # Our own instance: py3langid's global one can be narrowed by anybody in the process.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def detect_language(text: str, among: tuple[str, ...] | None = None) -> str:
    """The ISO 639-1 code of the language of ``text``, of those in ``among`` if given.

    Where nothing speaks for any of them (no letters, a lone name), the first of ``among``,
    or English.
    """
    fallback = among[0] if among else DEFAULT_LANGUAGE
    sample = _sample(text)
    if not any(character.isalpha() for character in sample):
        return fallback
    ranking: list[tuple[str, float]] = _identifier().rank(sample)
    if among:
        scores = dict(ranking)
        return max(among, key=lambda code: scores.get(code, 0.0))  # the first of equals
    if len(sample) < SHORT:
        likely = [label for label, _ in ranking[:3]]
        for code in likely:
            if code in USUAL:
                return code
    # Labels of three letters have no ISO 639-1 code; zxx is "no language at all".
    code, score = next((label, score) for label, score in ranking if len(label) == 2)
    return fallback if score < UNSURE or ranking[0][0] == "zxx" else code


def _sample(text: str) -> str:
    """The head of a long text and slices spread evenly over the rest."""
    rest = len(text) - HEAD
    if rest <= SAMPLES * SAMPLE:
        return text[: HEAD + SAMPLES * SAMPLE]
    starts = (HEAD + rest * index // SAMPLES for index in range(SAMPLES))
    return "\n".join([text[:HEAD], *(text[start : start + SAMPLE] for start in starts)])

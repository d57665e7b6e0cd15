"""Numbers and names that a sentence states and its sources do not, in German and English.

"Two million" is found in "2.000.000" and in "zwei Millionen", "Moscow" in "Moskaus",
"Shoigu" in "Schoigu". A name is a word with a capital that is listed as one (names.txt.gz,
made by index.distill.names), or that the lexicon does not know at all.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from pathlib import Path

from index.lexical import fold, stem, stop_words, translations

NAMES = Path(__file__).parent / "names.txt.gz"
_LANGUAGES = ("de", "en")

# --- Numbers --------------------------------------------------------------------------

_UNITS = {
    "de": "null ein zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn"
    " funfzehn sechzehn siebzehn achtzehn neunzehn",
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen",
}
_TENS = {
    "de": "zwanzig dreissig vierzig funfzig sechzig siebzig achtzig neunzig",
    "en": "twenty thirty forty fifty sixty seventy eighty ninety",
}
_ORDINALS = {
    2: "second zweite zweiter zweiten zweites", 3: "third dritte dritter dritten drittes",
    4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh siebte siebter siebten siebtes",
    8: "eighth achte achter achten achtes", 9: "ninth", 10: "tenth", 11: "eleventh", 12: "twelfth",
}  # fmt: skip
_SCALES = {
    "hundert": 1e2, "hundred": 1e2, "tausend": 1e3, "thousand": 1e3, "million": 1e6,
    "millionen": 1e6, "mio": 1e6, "milliarde": 1e9, "milliarden": 1e9, "mrd": 1e9,
    "billion": 1e9, "bn": 1e9, "dozen": 12, "dutzend": 12,
}  # fmt: skip
"""English counts: a German "Billion" is so rare that it is not told apart."""


def _number_words() -> dict[str, float]:
    found: dict[str, float] = {}
    for language in _LANGUAGES:
        small = _UNITS[language].split()
        found |= {word: float(value) for value, word in enumerate(small)}
        for value, word in enumerate(_TENS[language].split(), 2):
            found[word] = 10.0 * value
            for unit in range(1, 10):
                joined = f"{small[unit]}und{word}" if language == "de" else f"{word}-{small[unit]}"
                found[joined] = 10.0 * value + unit
    german = {word: value for word, value in found.items() if "-" not in word}
    found |= {f"{word}hundert": 100 * value for word, value in german.items() if 1 <= value < 20}
    found |= {f"{word}tausend": 1000 * value for word, value in german.items() if value >= 1}
    return found


_COUNTS = _number_words() | dict.fromkeys("a an eine einen einem einer eines".split(), 1.0)
_AS_ORDINAL = {word: float(value) for value, words in _ORDINALS.items() for word in words.split()}
_ARTICLES = frozenset("a an ein eine einen einem einer eines one".split())
"""Numbers only before a scale: "eine Million"."""
_ITEM = re.compile(r"\s*\d{1,2}[.)]\s")
"""The number of a list's item says nothing."""
_NUMBER = re.compile(
    r"(?<![\d])\d{1,3}(?:[.,'’\s]\d{3})+(?!\d)(?:[.,]\d{1,2}(?!\d))?"  # grouped: 13.000; 1,550.5
    r"|(?<![.,\d])\d+[.,]\d+(?![.,]?\d)"  # a decimal
    r"|\d+"
    r"|[^\W\d_]+(?:-[^\W\d_]+)?"
)


@dataclass(frozen=True, slots=True)
class _Number:
    start: int
    end: int
    values: frozenset[float]
    scale: float


def _numbers(text: str, *, ordinals: bool) -> Iterator[_Number]:
    """The numbers of a text in digits or words, with what each may mean: 1.550 is two things."""
    marks = list(_NUMBER.finditer(text))
    for mark, after in zip(marks, [*marks[1:], None], strict=False):
        word = fold(mark[0])
        if word[:1].isdecimal():
            values = _readings(word)
        elif word in _COUNTS:
            values = {_COUNTS[word]}
        elif ordinals and word in _AS_ORDINAL:
            values = {_AS_ORDINAL[word]}
        else:
            continue
        near = after is not None and not text[mark.end() : after.start()].strip(" -.")
        scale = _SCALES.get(fold(after[0]), 1.0) if near and after is not None else 1.0
        if word not in _ARTICLES or scale > 1:
            yield _Number(mark.start(), mark.end(), frozenset(values), scale)


def _readings(digits: str) -> set[float]:
    """What a number in digits may mean, whatever a point or a comma stands for."""
    first, *groups = re.split(r"\D", digits)
    found = set()
    if all(len(group) == 3 for group in groups):
        found.add(float("".join([first, *groups])))
    if groups:
        found.add(float(f"{first}{''.join(groups[:-1])}.{groups[-1]}"))
    return found


# --- Names ----------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_](?:[\w’']*\w)?")
_DETERMINER = re.compile(
    r"(?:d(?:er|ie|as|en|em|es)|(?:k|m|s|d)?ein(?:e[mnrs]?)?|ihre?[mnrs]?|dies\w*|jede\w*|[aiv][mn]s?"
    r"|zu[mr]|vo[nm]|beim)",
    re.IGNORECASE,
)
"""Before a German noun; rarely before a name."""
_SPELLINGS = [("tsch", "ch"), ("sch", "sh"), ("zh", "sh"), ("ph", "f"), ("ss", "s"), ("ck", "k"),
              ("w", "v"), ("j", "y"), ("k", "c"), ("z", "s")]  # fmt: skip
_ALIKE = 0.8
_PREFIX = 4
_GENITIVE = re.compile(r"[’']s?$")


def _sound(word: str) -> str:
    """A word as the other language might spell it: "schoigu" and "shoigu" are one."""
    for old, new in _SPELLINGS:
        word = word.replace(old, new)
    return word


def _alike(one: str, other: str) -> bool:
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= _ALIKE


@lru_cache(maxsize=1)
def _listed() -> frozenset[str]:
    return frozenset(gzip.decompress(NAMES.read_bytes()).decode().split())


@lru_cache(maxsize=50_000)
def _is_name(word: str, language: str, after_determiner: bool) -> bool:
    """Whether a folded word with a capital is a name, as far as lists tell."""
    if language not in _LANGUAGES:
        return True
    root = stem(word, language)
    other = "en" if language == "de" else "de"
    if found := translations(root, language, other):
        english = root if language == "en" else max(found, key=found.__getitem__)
        return english in _listed()
    return not (language == "de" and (after_determiner or _is_compound(word)))


def _is_compound(word: str) -> bool:
    """Whether a German word is made of two that the lexicon knows."""
    for cut in range(3, len(word) - 3):
        tail = stem(word[cut:], "de")
        heads = {stem(word[:cut], "de"), stem(word[:cut].removesuffix("s"), "de")}
        if translations(tail, "de", "en") and any(translations(h, "de", "en") for h in heads):
            return True
    return False


def names(text: str, language: str) -> Iterator[re.Match[str]]:
    """The words of a text that look like names."""
    stop = stop_words(language)
    before = ""
    for match in _WORD.finditer(text):
        word = match[0]
        folded = fold(_GENITIVE.sub("", word))
        known = folded in stop or folded in _COUNTS or folded in _AS_ORDINAL
        if word[0].isupper() and len(word) > 1 and not known:
            noun = bool(_DETERMINER.fullmatch(before)) and not word.isupper()
            if _is_name(folded, language, noun):
                yield match
        before = word


def roots(name: str, language: str, other: str) -> list[str]:
    """What a name may be found by in a text in another language, folded; itself first."""
    word = fold(_GENITIVE.sub("", name))
    root = stem(word, language)
    return [word, word.removesuffix("s"), root, *translations(root, language, other)]


# --- Both -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A text that an answer cites, made to be asked whether it states a number or a name."""

    text: str
    language: str

    @cached_property
    def _numbers(self) -> list[tuple[frozenset[float], float]]:
        return [(n.values, n.scale) for n in _numbers(self.text, ordinals=True)]

    @cached_property
    def _scales(self) -> set[float]:
        return {_SCALES[w] for w in map(fold, _WORD.findall(self.text)) if w in _SCALES}

    @cached_property
    def _folded(self) -> set[str]:
        return {fold(word) for word in _WORD.findall(self.text)}

    @cached_property
    def _stems(self) -> set[str]:
        return {stem(word, self.language) for word in self._folded}

    @cached_property
    def _capitals(self) -> set[str]:
        return {_sound(fold(word)) for word in _WORD.findall(self.text) if word[0].isupper()}

    def states_number(self, values: frozenset[float], scale: float) -> bool:
        wanted = {value * scale for value in values}
        for held, own in self._numbers:
            scales = {own} if own > 1 else {1.0, *self._scales}
            if wanted & {value * s for value in held for s in scales}:
                return True
        return False

    def states_name(self, name: str, language: str) -> bool:
        wanted = roots(name, language, self.language)
        if any(root in self._folded or root in self._stems for root in wanted):
            return True
        if any(
            len(a) >= _PREFIX and len(b) >= _PREFIX and (a.startswith(b) or b.startswith(a))
            for a in wanted
            for b in self._stems
        ):
            return True
        sound = _sound(wanted[0])
        return language != self.language and any(_alike(sound, other) for other in self._capitals)


def missing(text: str, language: str, sources: Sequence[Source]) -> list[tuple[str, int, int]]:
    """The numbers and names of a text that none of the sources states: kind, start, end."""
    item = _ITEM.match(text)
    found = [
        ("number", number.start, number.end)
        for number in _numbers(text, ordinals=False)
        if number.start >= (item.end() if item else 0)
        and not any(source.states_number(number.values, number.scale) for source in sources)
    ]
    found += _joined(
        text,
        (
            match.span()
            for match in names(text, language)
            if not any(source.states_name(match[0], language) for source in sources)
        ),
    )
    return sorted(found, key=lambda fact: fact[1])


def _joined(text: str, spans: Iterable[tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Names, those with only a space or a hyphen between them as one."""
    found: list[tuple[str, int, int]] = []
    for start, end in spans:
        if found and text[found[-1][2] : start] in (" ", "-"):
            start = found.pop()[1]
        found.append(("name", start, end))
    return found

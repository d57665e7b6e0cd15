"""Pairs of translations: read, cleaned, and joined to passages."""

from __future__ import annotations

import gzip
import random
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from index.errors import InputError

SUITES = frozenset({"wmt-systems"})
"""Origins of which most very short sentences are left out: test suites ("Wir haben schlafen
wollen."), in which they are so many and so alike that one in four is enough."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A text in the new language and its English translation; ``origin`` names the corpus."""

    foreign: str
    english: str
    origin: str = ""


def read_pairs(path: Path) -> list[Pair]:
    """Read a TSV (plain or .gz): foreign, English, and optionally the origin.

    Raises:
        InputError: it cannot be read, or is no such file.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    pairs = []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                cells = line.rstrip("\n").split("\t")
                if len(cells) not in (2, 3):
                    raise InputError(f"{path}:{number}: 2 or 3 tab-separated columns expected")
                pairs.append(Pair(*(cell.strip() for cell in cells)))
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not UTF-8 text, or a damaged .gz ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    return pairs


_NOTES = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|<[^>]*>")


def read_dictionary(path: Path) -> list[Pair]:
    """Read a Ding dictionary: ``de ; de | de :: en ; en | en``, notes in brackets.

    Raises:
        InputError: it cannot be read.
    """

    def alternatives(part: str) -> list[str]:
        texts = (" ".join(t.split()) for t in _NOTES.sub(" ", part).split(";"))
        return [t for t in texts if any(c.isalpha() for c in t)]

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    pairs = []
    for line in lines:
        if line.startswith("#") or line.count("::") != 1:
            continue
        foreign, english = (side.split("|") for side in line.split("::"))
        if len(foreign) != len(english):
            continue
        for f, e in zip(map(alternatives, foreign), map(alternatives, english), strict=True):
            pairs += [Pair(a, b, "dictionary") for a in f[:4] for b in e[:2]]
            pairs += [Pair(a, b, "dictionary") for a in f[:1] for b in e[2:4]]
    return pairs


def clean(pairs: Iterable[Pair], rng: random.Random) -> list[Pair]:
    """Drop repeats, pairs of very different length, and most very short sentences of SUITES."""
    kept, seen = [], set()
    for pair in pairs:
        a, b = len(pair.foreign), len(pair.english)
        if not 2 <= a <= 1500 or not 2 <= b <= 1500 or not 1 / 2.5 < (a + 10) / (b + 10) < 2.5:
            continue
        key = (pair.foreign, pair.english)
        if key in seen:
            continue
        seen.add(key)
        short = len(pair.english.split()) < 8 and "?" not in pair.english
        if ((short and pair.origin in SUITES) or pair.origin == "multi30k") and rng.random() > 0.25:
            continue
        kept.append(pair)
    return kept


def windows(pairs: Sequence[Pair], rng: random.Random, passes: int = 4) -> list[Pair]:
    """Join 2 to 8 neighbouring lines of one origin into passages of up to 180 words."""
    joined = []
    for _ in range(passes):
        i = 0
        while i < len(pairs):
            size, words, j = rng.randint(2, 8), 0, i
            while j < len(pairs) and j - i < size and pairs[j].origin == pairs[i].origin:
                words += len(pairs[j].english.split())
                if words > 180 and j > i:
                    break
                j += 1
            if j - i > 1:
                joined.append(
                    Pair(
                        " ".join(p.foreign for p in pairs[i:j]),
                        " ".join(p.english for p in pairs[i:j]),
                    )
                )
            i = max(j, i + 1)
    return joined

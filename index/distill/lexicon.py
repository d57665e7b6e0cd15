"""The words that translate each other, from sentence pairs.

    python -m index.distill.lexicon PAIRS ... --out index/lexicon.tsv.gz

IBM Model 1 (Brown et al. 1993, "The Mathematics of Statistical Machine Translation") over
stems, in both directions; a pair's strength is the geometric mean of both probabilities, so
that each word must be explained by the other. Keyword search looks a question's words up in
it where documents are in the other language (index.lexical.translations).
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from index.distill.pairs import Pair, read_pairs
from index.distill.vocabulary import translate_pieces
from index.errors import InputError
from index.lexical import stem, stop_words, words

WORDS = 22
"""Longer sentences are left out: they cost the square of their length and say little."""
SEEN = 2
LEAST = 0.06
"""A pair's strength and either word's count of sentences, below which it is left out."""
MOST = 8
"""Translations kept of a word."""


def lexicon(pairs: Sequence[Pair], foreign: str = "de") -> list[tuple[str, str, float]]:
    """(English stem, foreign stem, strength in (0, 1]), strongest first.

    Raises:
        InputError: there is no pair of up to WORDS words a side.
    """
    numbers: dict[str, dict[str, int]] = {"en": {}, foreign: {}}

    def numbered(text: str, language: str) -> list[int]:
        known, stop = numbers[language], stop_words(language)
        stems = [stem(word, language) for word in words(text) if word not in stop]
        return [known.setdefault(s, len(known)) for s in stems]

    once = {pair.english: pair for pair in pairs}.values()
    both = [(numbered(p.foreign, foreign), numbered(p.english, "en")) for p in once]
    both = [(f, e) for f, e in both if 0 < len(f) <= WORDS and 0 < len(e) <= WORDS]
    if not both:
        raise InputError(f"no pair of sentences of at most {WORDS} words")
    f_rows, e_rows = [f for f, _ in both], [e for _, e in both]
    f, e, e_of_f = translate_pieces(f_rows, e_rows)
    e_back, f_back, f_of_e = translate_pieces(e_rows, f_rows)
    order, back = np.lexsort((e, f)), np.lexsort((e_back, f_back))
    f, e = f[order], e[order]
    strength = np.sqrt(e_of_f[order] * f_of_e[back])
    seen = [
        np.bincount([i for row in rows for i in set(row)], minlength=len(numbers[language]))
        for rows, language in ((f_rows, foreign), (e_rows, "en"))
    ]
    kept = (strength >= LEAST) & (seen[0][f] >= SEEN) & (seen[1][e] >= SEEN)
    names = {language: list(known) for language, known in numbers.items()}
    found: list[tuple[str, str, float]] = []
    had: dict[tuple[str, int], int] = {}
    for i in sorted(np.flatnonzero(kept), key=lambda i: -strength[i]):
        sides = (("en", int(e[i])), (foreign, int(f[i])))
        if all(had.get(side, 0) < MOST for side in sides):
            for side in sides:
                had[side] = had.get(side, 0) + 1
            found.append((names["en"][e[i]], names[foreign][f[i]], float(strength[i])))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``python -m index.distill.lexicon PAIRS ... --out FILE``."""
    parser = argparse.ArgumentParser(
        prog="python -m index.distill.lexicon", description=__doc__.splitlines()[0]
    )
    parser.add_argument("pairs", nargs="+", type=Path, help="TSV (.gz): German, English")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        found = lexicon([pair for path in args.pairs for pair in read_pairs(path)])
        lines = (f"{english}\t{foreign}\t{s:.2f}\n" for english, foreign, s in sorted(found))
        args.out.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    except (InputError, OSError) as error:
        parser.exit(2, f"index.distill.lexicon: {error}\n")


if __name__ == "__main__":
    main()

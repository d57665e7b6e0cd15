"""Which English words are names: those that sentence pairs write with a capital within a sentence.

    python -m index.distill.names PAIRS.tsv.gz

PAIRS is what index.distill.lexicon learns from: German, tab, English. Writes rag/names.txt.gz,
stems of the lexicon only; German names are those that the lexicon translates into these.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from index.lexical import fold, stem, translations

NAMES = Path(__file__).parent.parent.parent / "rag" / "names.txt.gz"
SHARE = 0.9
"""So often must a word have a capital to be a name."""
SEEN = 3

_WORD = re.compile(r"[^\W\d_]+")


def names(lines: list[str]) -> list[str]:
    """The stems that are names, in order."""
    capital: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for line in lines:
        tokens = line.split()
        if sum(token[:1].isupper() for token in tokens) * 2 > len(tokens):
            continue  # a headline
        for before, token in pairwise(tokens):
            match = _WORD.match(token)
            if match and before[-1] not in ".!?:;\"“”'‘’(–-":
                root = stem(fold(match[0]), "en")
                seen[root] += 1
                capital[root] += match[0][0].isupper()
    return sorted(
        root
        for root, times in seen.items()
        if times >= SEEN and capital[root] >= SHARE * times and translations(root, "en", "de")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    args = parser.parse_args()
    with gzip.open(args.pairs, "rt", encoding="utf-8") as file:
        found = names([line.split("\t")[1] for line in file if line.count("\t") >= 1])
    NAMES.write_bytes(gzip.compress("\n".join(found).encode(), mtime=0))
    print(f"{len(found)} names")  # noqa: T201


if __name__ == "__main__":
    main()

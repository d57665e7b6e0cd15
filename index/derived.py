"""What a server has of a text besides it, held against the text, and made anew.

Labels, terms and counts have no seals: they follow from what has. Which words a compound was
split into cannot be told any more, as it depends on the words that were known then; so of those
it is asked only whether they are parts of it, and as many as the passage says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from index.filters import labels_of
from index.lexical import Compounds, stem, words
from index.records import Record
from index.served import (
    LONGEST,
    Known,
    Row,
    ServedSnapshot,
    counted,
    kept_terms,
)
from index.types import Document


class Derived:
    """The documents of one state are shown to it one by one."""

    def __init__(self, snapshot: ServedSnapshot) -> None:
        self._session = snapshot.session
        self._known = Known(snapshot.session)
        self._counts: Counter[str] = Counter()

    def follows(self, record: Record, document: Document, rows: Sequence[Row]) -> bool:
        """Whether a document, with all its rows, is found by what it is and what it says."""
        compounds = self._known.compounds(words(document.text) if record.language == "de" else ())
        sound = all(set(held) == labels_of(record) for held in self._session.labels(record))
        for row in rows:
            text = document.text[row.start : row.end]
            sound = sound and row.language == record.language and self._holds(row, text, compounds)
            for name, n in counted(row.counts, text, record.language).items():
                self._counts[self._session.name(name)] += n
        return sound

    def uncounted(self) -> dict[str, int]:
        """By how much the counts are too low, after all documents were shown."""
        there = self._session.every_count()
        names = self._counts.keys() | there.keys()
        lacking = {name: self._counts[name] - there.get(name, 0) for name in names}
        return {name: n for name, n in lacking.items() if n}

    def _holds(self, row: Row, text: str, compounds: Compounds) -> bool:
        """Whether the terms of a row are those of its text."""
        found, name = kept_terms(text, row.language, compounds), self._session.name
        if row.length == found.total() and row.counts == self._named(self._session.keeps(found)):
            return True
        plain = self._named(kept_terms(text, row.language, Compounds(())))
        least = sum(plain.values())
        if not least <= row.length <= least + len(text) // Compounds.SHORTEST:
            return False
        if row.length <= self._session.sure and (
            sum(row.counts.values()) != row.length
            or any(row.counts.get(term, 0) < n for term, n in plain.items())
        ):
            return False
        more = {term for term, n in row.counts.items() if n > plain.get(term, 0)}
        return more <= {name(part) for part in _parts(text, row.language)}

    def _named(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {self._session.name(term): n for term, n in counts.items()}


def _parts(text: str, language: str) -> Collection[str]:
    """Whatever a compound in a text may have been split into."""
    return {
        stem(word[begin:end], language)[:LONGEST]
        for word in set(words(text))
        if language == "de" and word.isalpha()
        for begin in range(len(word) - Compounds.SHORTEST + 1)
        for end in range(begin + Compounds.SHORTEST, len(word) + 1)
    }

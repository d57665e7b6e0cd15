"""Sources that say otherwise than what an answer cites.

A sentence of another document that was found too, nearly the same as the cited one in meaning
and in words, but with another number or name, a "not", an opposite, or names that have changed
places. Who is right cannot be told here; that they differ can be shown. Where two texts say
opposite things in words of their own, this is silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.place import View
from index.types import Document, Hit, Span
from rag.contrast import contrasts, shared
from rag.facts import Source, missing

if TYPE_CHECKING:
    from rag.answer import Citation

KINDS = ("number", "name", "negation", "opposite", "swapped")
NEAR = 0.85
"""From this cosine on, two sentences may be about the same."""
SHARED, SHARED_ACROSS = 0.75, 0.5
"""And from this share of words on that they have in common, in one language or across two."""
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A sentence of another document than that of the citation ``marker``, which it is against;
    ``kind`` is one of ``KINDS``."""

    marker: int
    kind: str
    document: Document = field(repr=False)
    start: int
    end: int

    @property
    def quote(self) -> str:
        return self.document.text[self.start : self.end]

    def to_json(self) -> dict[str, Any]:
        return {
            "marker": self.marker,
            "kind": self.kind,
            "document": self.document.id,
            "source": self.document.source,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
        }


@dataclass(frozen=True, slots=True)
class _Sentence:
    document: Document
    span: Span
    vector: NDArray[np.float32]

    @property
    def text(self) -> str:
        return self.document.text[self.span.start : self.span.end]

    @property
    def place(self) -> tuple[str, int]:
        return self.document.id, self.span.start

    def is_in(self, citation: Citation) -> bool:
        inside = citation.start <= self.span.start and self.span.end <= citation.end
        return self.document.id == citation.document.id and inside


def disagreements(
    citations: Sequence[Citation], hits: Sequence[Hit], view: View
) -> tuple[Disagreement, ...]:
    """At most ``SHOWN``, those nearest to what they are against first."""
    sentences = list(_sentences(hits, view))
    if len({sentence.document.id for sentence in sentences}) < 2:
        return ()
    vectors = np.stack([sentence.vector for sentence in sentences])
    found: list[tuple[float, Disagreement]] = []
    compared: set[frozenset[tuple[str, int]]] = set()
    for citation in citations:
        for one in (sentence for sentence in sentences if sentence.is_in(citation)):
            near = vectors @ one.vector
            for i in np.flatnonzero(near >= NEAR):
                other, pair = sentences[i], frozenset((one.place, sentences[i].place))
                if other.document.id == citation.document.id or pair in compared:
                    continue
                compared.add(pair)
                if kind := difference(one.text, one.document.language, other.text,
                                      other.document.language):  # fmt: skip
                    against = Disagreement(
                        citation.marker, kind, other.document, other.span.start, other.span.end
                    )
                    found.append((-float(near[i]), against))
    found.sort(key=lambda pair: pair[0])
    return tuple(against for _, against in found[:SHOWN])


def difference(one: str, language: str, other: str, spoken: str) -> str:
    """In what two sentences differ that say the same but for that, one of ``KINDS``; else
    nothing. Where two numbers or names differ, they are taken to be about different things."""
    enough = SHARED if language == spoken else SHARED_ACROSS
    if min(shared(one, language, other, spoken), shared(other, spoken, one, language)) < enough:
        return ""
    here = [kind for kind, *_ in missing(one, language, [Source(other, spoken)])]
    there = [kind for kind, *_ in missing(other, spoken, [Source(one, language)])]
    if len(here) > 1 and len(there) > 1:
        return ""  # one of them is what it is about: another year, another product
    for kind in ("number", "name"):
        if kind in here and kind in there:
            return kind
    turned = {found.kind for found in contrasts(one, language, other, other, spoken)}
    turned_back = {found.kind for found in contrasts(other, spoken, one, one, language)}
    if (turned | turned_back) & {"denied", "affirmed"}:
        return "negation"
    return next((kind for kind in ("opposite", "swapped") if kind in turned & turned_back), "")


def _sentences(hits: Sequence[Hit], view: View) -> Iterator[_Sentence]:
    """Those of the passages found, each once."""
    seen: set[tuple[str, int]] = set()
    for hit in hits:
        passage = hit.passage
        for span, vector in zip(passage.sentences, view.sentence_vectors(passage), strict=True):
            sentence = _Sentence(passage.document, span, vector)
            if sentence.place not in seen:
                seen.add(sentence.place)
                yield sentence

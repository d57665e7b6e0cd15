"""The values that travel through Beleg: documents, spans of their text, and hits.

All offsets are Unicode code points into ``Document.text``, which never changes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from index.errors import InputError


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Document:
    """A text to answer from; ``text`` is canonical: every offset refers to it.

    ``language`` is an ISO 639-1 code, ``pages`` the start offset of each page (empty
    for formats without pages), ``path`` the real path or the address it was read from
    (empty if from neither), ``raw`` the SHA-256 of the file's bytes (or empty),
    ``metadata`` whatever a program wants kept with it, in terms of JSON, ``whole`` that it
    is one passage and not to be split, ``id`` the first 16 hexadecimal digits of the
    SHA-256 of source and text.

    Raises:
        InputError: the text is not Unicode text: it holds half of a surrogate pair.
    """

    text: str = field(repr=False)
    source: str
    title: str
    language: str = "en"
    pages: tuple[int, ...] = ()
    path: str = field(default="", compare=False, repr=False)
    raw: str = field(default="", compare=False, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    whole: bool = field(default=False, compare=False, repr=False)
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        try:
            digest = hashlib.sha256(self.source.encode("utf-8", "surrogatepass") + b"\0")
            digest.update(self.text.encode("utf-8"))
        except UnicodeEncodeError:
            raise InputError("{!r} holds half of a surrogate pair: not text", self.source) from None
        object.__setattr__(self, "id", digest.hexdigest()[:16])

    def page_at(self, offset: int) -> int | None:
        """The 1-based page that holds ``offset``; None for a document without pages."""
        return bisect_right(self.pages, offset) or None


@dataclass(frozen=True, slots=True)
class Span:
    """The half-open range ``[start, end)`` of a document's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of whole sentences of one document, the unit of retrieval.

    ``row`` is its place in the view of the index that it was found in.
    """

    document: Document = field(repr=False)
    start: int
    end: int
    sentences: tuple[Span, ...] = ()
    row: int = field(default=-1, compare=False, repr=False)

    @property
    def text(self) -> str:
        """Its part of the document's text."""
        return self.document.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found, its fused score, and its rank (1 = best) and score in each channel.

    ``nearest`` is the sentence of the passage that is nearest to the question, which need
    not answer it; None where nobody looked.
    """

    passage: Passage
    score: float
    channels: Mapping[str, int] = field(default_factory=dict)
    nearest: Span | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

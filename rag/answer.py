"""Answers and citations: what the chat shows, ``beleg ask --json`` prints and Python gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from index.types import Document, Hit
from rag.check import Claim
from rag.disagree import Disagreement


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote and where it stands: ``document.text[start:end] == quote``, always.

    ``marker`` is the number in the answer's text, ``[marker]``; ``passage_start`` and
    ``passage_end`` bound the passage that the quote was chosen from. Where the sentence
    before that passage is quoted too, ``passage_start`` is where that sentence begins.
    ``score`` is the chance that the quote answers the question or, where a language model chose
    it, what the search made of its passage (``Hit.score``).
    ``translation`` is what a language model makes of a quote in another language than the
    answer's, if it was asked.

    Raises:
        ValueError: the quote is not the text at these offsets.
    """

    marker: int
    document: Document = field(repr=False)
    start: int
    end: int
    quote: str
    passage_start: int
    passage_end: int
    score: float
    translation: str = ""

    def __post_init__(self) -> None:
        inside = 0 <= self.passage_start <= self.start < self.end <= self.passage_end
        if not inside or self.document.text[self.start : self.end] != self.quote:
            raise ValueError(f"citation [{self.marker}] is not the text at its offsets")

    @property
    def source(self) -> str:
        """The name of the document."""
        return self.document.source

    @property
    def title(self) -> str:
        """The title of the document."""
        return self.document.title

    @property
    def page(self) -> int | None:
        """The page that the quote begins on, from 1; None where there are no pages."""
        return self.document.page_at(self.start)

    def to_json(self) -> dict[str, Any]:
        """The citation in what ``beleg ask --json`` prints; plain types only."""
        return {
            "marker": self.marker,
            "document": self.document.id,
            "source": self.source,
            "title": self.title,
            "page": self.page,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
            "passage_start": self.passage_start,
            "passage_end": self.passage_end,
            "score": round(self.score, 4),
            **({"translation": self.translation} if self.translation else {}),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    ``text`` is in the question's language or quotes the documents; ``passages`` is the
    ranking that was searched, best first, there even when nothing answers.
    ``confidence`` is in [0, 1]; ``seconds`` times each stage. ``notice`` is one line
    that the user should see beside the answer (an unknown language, say), or empty.
    ``withheld`` are the citations that were not sure enough to be given, for evaluation
    only; it is empty where the question is answered. ``by_keywords`` says that the encoder
    does not know the documents' language: then the confidence is the share of the question's
    words that are there, no chance, and has a threshold of its own.
    ``claims`` are the sentences of the text, each held against its citations;
    ``disagreements`` are sentences of other documents that say otherwise than these;
    ``removed_markers`` counts those that pointed nowhere. ``understood`` is the full question
    that a follow-up was taken for, or empty. ``trace`` says how the answer came about.
    """

    question: str
    language: str
    answered: bool
    text: str
    mode: str
    citations: tuple[Citation, ...]
    passages: tuple[Hit, ...]
    confidence: float
    seconds: Mapping[str, float]
    notice: str = ""
    withheld: tuple[Citation, ...] = ()
    by_keywords: bool = False
    claims: tuple[Claim, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    removed_markers: int = 0
    understood: str = ""
    trace: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self, *, trace: bool = False) -> dict[str, Any]:
        """The object that ``beleg ask --json`` prints, plain types only; with its ``trace``."""
        traced = {"trace": dict(self.trace)} if trace else {}
        return traced | {
            "question": self.question,
            "language": self.language,
            "answered": self.answered,
            "text": self.text,
            "mode": self.mode,
            "citations": [citation.to_json() for citation in self.citations],
            "passages": [
                {
                    "document": hit.passage.document.id,
                    "source": hit.passage.document.source,
                    "start": hit.passage.start,
                    "end": hit.passage.end,
                    "text": hit.passage.text,
                    "score": round(hit.score, 4),
                    "channels": dict(hit.channels),
                }
                for hit in self.passages
            ],
            "confidence": round(self.confidence, 4),
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "notice": self.notice,
            "claims": [claim.to_json() for claim in self.claims],
            "disagreements": [found.to_json() for found in self.disagreements],
            "removed_markers": self.removed_markers,
            "understood": self.understood,
        }

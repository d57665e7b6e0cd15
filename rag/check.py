"""Stand-in for the check of answers, replaced when the branches are joined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from index.embed import Encoder
from index.types import Document

if TYPE_CHECKING:
    from rag.answer import Answer, Citation


@dataclass(frozen=True, slots=True)
class Claim:
    start: int
    end: int
    markers: tuple[int, ...]
    support: str
    score: float
    flags: tuple[Any, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"start": self.start, "end": self.end, "support": self.support}


def check(
    text: str,
    citations: Sequence[Citation],
    *,
    language: str,
    encoder: Encoder,
    documents: Sequence[Document] = (),
) -> tuple[Claim, ...]:
    claims = []
    for match in re.finditer(r"\S.*?(?:[.!?](?:\s*\[\d+\])*(?=\s|$)|$)", text, re.DOTALL):
        markers = tuple(int(m) for m in re.findall(r"\[(\d+)\]", match[0]))
        support = "supported" if markers else "unsupported"
        claims.append(Claim(match.start(), match.end(), markers, support, float(bool(markers))))
    return tuple(claims)


def without_unsupported(answer: Answer) -> Answer:
    return answer

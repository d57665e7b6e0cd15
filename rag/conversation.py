"""Stand-in for the rule of follow-ups, replaced when the branches are joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag.answer import Answer

HISTORY = 3


def understand(question: str, history: Sequence[tuple[str, Answer]]) -> str:
    return ""


def follows(question: str) -> bool:
    """Whether a question cannot be understood without the one before it."""
    return len(question.split()) < 4

"""From documents to passages found."""

from index.errors import BelegError, InputError, ModelError
from index.store import PassageIndex
from index.types import Document, Hit, Passage

__all__ = [
    "BelegError",
    "Document",
    "Hit",
    "InputError",
    "ModelError",
    "Passage",
    "PassageIndex",
]

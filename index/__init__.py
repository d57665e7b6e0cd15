"""From documents to passages found."""

from typing import TYPE_CHECKING, Any

from index.errors import BelegError, DamageError, InputError, MismatchError, ModelError
from index.types import Document, Hit, Passage

if TYPE_CHECKING:
    from index.store import PassageIndex

__all__ = [
    "BelegError",
    "DamageError",
    "Document",
    "Hit",
    "InputError",
    "MismatchError",
    "ModelError",
    "Passage",
    "PassageIndex",
]


def __getattr__(name: str) -> Any:
    # Late, so that the command's help and the parsers' child process stay light.
    if name == "PassageIndex":
        from index.store import PassageIndex

        return PassageIndex
    raise AttributeError(f"module 'index' has no attribute {name!r}")

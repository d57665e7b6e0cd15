"""Arrays of vectors, and what an encoder makes of one text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatMatrix = NDArray[np.float32]
"""Row vectors, shape (n, dimension)."""
ROUNDING = 0.01
"""The most that float16 changes the length of a unit vector."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text's unit vector (dimension,) and its unit token vectors (tokens, dimension).

    ``offsets`` are the code-point ranges of the tokens in the text, shape (tokens, 2);
    special tokens have none and are left out. ``lower`` are the tokens' hidden states half-way
    up the network, (tokens, dimension), from which a reader goes on (see index.reader); None
    where the encoder has no reader.
    """

    vector: NDArray[np.float32]
    tokens: FloatMatrix
    offsets: NDArray[np.int64]
    lower: NDArray[np.float16] | None = None


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to length 1 along the last axis; zero vectors stay zero, what is no number none."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if not ((length > 1e-12) & (length < np.inf)).all():  # squares have a range of their own
            length = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
        return np.asarray(vectors / np.where(length == 0, 1, length), np.float32)


def are_sound(vectors: NDArray[np.float16]) -> bool:
    """Whether rounded vectors have length 1, as those in an index do, or are zero."""
    length = np.linalg.norm(vectors.astype(np.float32), axis=-1)
    return bool(((np.abs(length - 1) < ROUNDING) | (length == 0)).all())

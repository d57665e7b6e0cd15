"""Arrays of vectors, and what an encoder makes of one text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatMatrix = NDArray[np.float32]
"""Row vectors, shape (n, dimension)."""


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
    """Scale to length 1 along the last axis; zero vectors stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)

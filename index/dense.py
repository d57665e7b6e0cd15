"""Vectors to FAISS: exact inner-product search over unit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.vectors import FloatMatrix


class DenseIndex:
    """A flat inner-product index over the rows of a matrix, shape (n, dimension).

    Raises:
        ValueError: a vector has the wrong shape, or is not finite.
    """

    def __init__(self, vectors: FloatMatrix) -> None:
        import faiss

        self.vectors = np.ascontiguousarray(vectors, np.float32)
        if self.vectors.ndim != 2 or not np.isfinite(self.vectors).all():
            raise ValueError("vectors must be a finite matrix")
        self._index: Any = faiss.IndexFlatIP(self.vectors.shape[1])
        self._index.add(self.vectors)

    def search(
        self, query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows nearest to a query (dimension,), best first, and their cosines."""
        if query.shape != (self.vectors.shape[1],) or not np.isfinite(query).all():
            raise ValueError(f"a finite vector of {self.vectors.shape[1]} numbers expected")
        k = min(k, len(self.vectors))
        if k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        scores, rows = self._index.search(np.ascontiguousarray(query[None], np.float32), k)
        return rows[0], scores[0]

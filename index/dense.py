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

        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError("vectors must be a finite matrix")
        self.shape = vectors.shape
        self._index: Any = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)
        if len(vectors):  # FAISS has its copy: ours can go
            held = faiss.rev_swig_ptr(self._index.get_xb(), vectors.size)
            vectors = held.reshape(vectors.shape)
        self._vectors: FloatMatrix = vectors

    def at(self, rows: slice | NDArray[Any]) -> FloatMatrix:
        """A copy of some of the vectors."""
        return np.array(self._vectors[rows])

    def search(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows nearest to a query (dimension,), best first, and their cosines.

        ``among`` says of each row whether it may be found, shape (n,).
        """
        import faiss

        if query.shape != self.shape[1:] or not np.isfinite(query).all():
            raise ValueError(f"a finite vector of {self.shape[1]} numbers expected")
        options = None
        k = min(k, self.shape[0])
        if among is not None:
            k = min(k, int(among.sum()))
            bits = np.packbits(among, bitorder="little")
            wrapped: Any = faiss  # what its Python side adds, its type hints lack
            options = wrapped.SearchParameters(sel=wrapped.IDSelectorBitmap(bits))
        if k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = np.ascontiguousarray(query[None], np.float32)
        scores, rows = self._index.search(query, k, params=options)
        return rows[0], scores[0]

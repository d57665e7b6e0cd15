"""Vectors to FAISS: exact inner-product search over unit vectors, and a rounded one over many."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from index.vectors import FloatMatrix

SAMPLE = 20_000
"""So many vectors are enough to find how numbers are rounded."""
BLOCK = 10_000
CODES = 16
"""By four bits, of two numbers."""
REFINED = 5
"""So many times as many are found by four bits, and then compared by eight."""


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
        check_query(query, self.shape[1])
        options = None
        k = min(k, self.shape[0])
        if among is not None:
            k = min(k, int(among.sum()))
            options = _parameters(np.packbits(among, bitorder="little"))
        if k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = np.ascontiguousarray(query[None], np.float32)
        scores, rows = self._index.search(query, k, params=options)
        return rows[0], scores[0]


class CoarseIndex:
    """Inner-product search by rounded vectors: quick over a million of them, and not exact.

    All are compared, by four bits for two numbers (FAISS's fast scan of product codes), and
    the nearest again by eight bits a number. Who asks compares those found with the vectors
    themselves, and so only what is not found at all is lost. There are no lists of which only
    some are looked through: a question's vector is not like those of passages, and of real
    ones the lists lost more.
    """

    def __init__(self, index: Any, packed: NDArray[np.uint8] | None = None) -> None:
        import faiss

        self._index = index
        self._packed = packed  # where FAISS has its bytes
        self._index.k_factor = REFINED
        self._fine: Any = faiss.downcast_index(index.refine_index)

    @classmethod
    def train(cls, sample: NDArray[np.float16]) -> Self:
        """An empty one, for vectors like those of a sample, shape (n, dimension)."""
        import faiss

        dimension, product = sample.shape[1], faiss.METRIC_INNER_PRODUCT
        pairs = dimension // 2 if dimension % 2 == 0 else dimension
        rough: Any = faiss.IndexPQFastScan(dimension, pairs, 4, product)
        rough.pq.cp.min_points_per_centroid = 1  # it would warn
        rough.pq.cp.seed = 1
        fine: Any = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit, product)
        made: Any = faiss.IndexRefine(rough, fine)
        made.train(np.asarray(sample, np.float32))
        rough.this.own(False)
        fine.this.own(False)
        made.own_fields = made.own_refine_index = True
        return cls(made)

    def empty(self) -> CoarseIndex:
        """One without rows that rounds as this one does."""
        import faiss

        rough: Any = faiss.downcast_index(self._index.base_index)
        made = self.train(np.zeros((CODES, self.dimension), np.float16))
        target: Any = faiss.downcast_index(made._index.base_index)
        centroids, trained = map(faiss.vector_to_array, (rough.pq.centroids, self._fine.sq.trained))
        faiss.copy_array_to_vector(centroids, target.pq.centroids)
        faiss.copy_array_to_vector(trained, made._fine.sq.trained)
        return made

    @classmethod
    def unpack(cls, packed: NDArray[np.uint8]) -> Self:
        """One that reads the bytes where they are; none can be added to it, but to its copy."""
        import faiss

        wrapped: Any = faiss  # what its Python side adds, its type hints lack
        reader = wrapped.ZeroCopyIOReader(wrapped.swig_ptr(packed), len(packed))
        return cls(wrapped.read_index(reader), packed)

    def pack(self) -> NDArray[np.uint8]:
        import faiss

        return np.asarray(faiss.serialize_index(self._index))

    def copy(self, kept: NDArray[np.bool_]) -> CoarseIndex:
        """One of the rows that are ``kept``, to be added to."""
        import faiss

        if kept.all():
            return CoarseIndex(faiss.deserialize_index(self.pack()))
        made = self.empty()
        if kept.any():
            for begin in range(0, len(self), BLOCK):
                block = kept[begin : begin + BLOCK]
                made.add(self._fine.reconstruct_n(begin, len(block))[block])
        return made

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def add(self, vectors: FloatMatrix | NDArray[np.float16]) -> None:
        for begin in range(0, len(vectors), BLOCK):
            self._index.add(np.asarray(vectors[begin : begin + BLOCK], np.float32))

    def search(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """About the ``k`` rows nearest to a query, of those ``among`` which to look, best
        first, and about their cosines."""
        check_query(query, self.dimension)
        share = 1.0 if among is None or not len(among) else float(among.mean())
        query = np.ascontiguousarray(query[None], np.float32)
        if among is None or share > 0.5:
            wanted = min(int(k / share * 1.5) if share < 1 else k, len(self))
            scores, rows = self._index.search(query, wanted)
        else:
            options = _parameters(np.packbits(among, bitorder="little"))
            scores, rows = self._fine.search(query, min(k, len(self)), params=options)
        here = rows[0] >= 0
        if among is not None:
            here[here] = among[rows[0][here]]
        return rows[0][here][:k], scores[0][here][:k]


def check_query(query: NDArray[np.float32], dimension: int) -> None:
    if query.shape != (dimension,) or not np.isfinite(query).all():
        raise ValueError(f"a finite vector of {dimension} numbers expected")


def _parameters(bits: NDArray[np.uint8]) -> Any:
    import faiss

    wrapped: Any = faiss  # what its Python side adds, its type hints lack
    return wrapped.SearchParameters(sel=wrapped.IDSelectorBitmap(bits))

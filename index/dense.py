"""Vectors to FAISS: exact inner-product search over unit vectors, and a coarser one over many."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from index.vectors import FloatMatrix

SAMPLE = 64
"""So many vectors a list are enough to find where the lists are."""
PROBED = 1 / 32
"""The share of the lists that is looked through; at least LEAST of them."""
LEAST = 16


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
    """An inverted file with a byte a number: quick over a million vectors, and not exact.

    Vectors have numbers that are given once. Who asks compares those found with the vectors
    themselves, and so only what is not found at all is lost.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def train(cls, dimension: int, total: int, sample: NDArray[np.float16]) -> Self:
        """An empty one for ``total`` vectors, of which a sample is given."""
        import faiss

        lists = cls.lists(total)
        made: Any = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dimension), dimension, lists, faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )  # fmt: skip
        made.cp.min_points_per_centroid = 1  # it would warn
        made.cp.max_points_per_centroid = SAMPLE
        made.cp.niter = 8
        made.cp.seed = 1
        made.train(np.asarray(sample, np.float32))
        return cls(made)

    @staticmethod
    def lists(total: int) -> int:
        return max(1, int(2 * math.sqrt(total)))

    @classmethod
    def unpack(cls, packed: NDArray[np.uint8]) -> Self:
        import faiss

        return cls(faiss.deserialize_index(packed))

    def pack(self) -> NDArray[np.uint8]:
        import faiss

        return np.asarray(faiss.serialize_index(self._index))

    def copy(self) -> CoarseIndex:
        import faiss

        return CoarseIndex(faiss.clone_index(self._index))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def add(self, numbers: NDArray[np.int64], vectors: NDArray[np.float16]) -> None:
        for begin in range(0, len(numbers), 10_000):
            part = slice(begin, begin + 10_000)
            self._index.add_with_ids(np.asarray(vectors[part], np.float32), numbers[part])

    def remove(self, numbers: NDArray[np.int64]) -> None:
        import faiss

        if len(numbers):
            self._index.remove_ids(faiss.IDSelectorBatch(numbers))

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        among: NDArray[np.uint8] | None = None,
        share: float = 1.0,
    ) -> NDArray[np.int64]:
        """The numbers of about the ``k`` vectors nearest to a query.

        ``among`` has a bit for each number that may be found, which are a ``share`` of all:
        the smaller, the more lists are looked through.
        """
        check_query(query, self.dimension)
        lists = int(self._index.nlist)
        probed = max(LEAST, lists * PROBED) / max(share, 1e-9)
        options = _parameters(among, nprobe=int(min(lists, math.ceil(probed))))
        query = np.ascontiguousarray(query[None], np.float32)
        _, numbers = self._index.search(query, min(k, len(self)), params=options)
        return np.asarray(numbers[0][numbers[0] >= 0])


def check_query(query: NDArray[np.float32], dimension: int) -> None:
    if query.shape != (dimension,) or not np.isfinite(query).all():
        raise ValueError(f"a finite vector of {dimension} numbers expected")


def _parameters(bits: NDArray[np.uint8] | None, nprobe: int = 0) -> Any:
    import faiss

    wrapped: Any = faiss  # what its Python side adds, its type hints lack
    options: dict[str, Any] = {"nprobe": nprobe} if nprobe else {}
    if bits is not None:
        options["sel"] = wrapped.IDSelectorBitmap(bits)
    kind = wrapped.SearchParametersIVF if nprobe else wrapped.SearchParameters
    return kind(**options)

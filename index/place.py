"""Where an index is kept: in memory, in a folder, or on a server; and what it must do there.

PassageIndex adds, searches, fuses and checks alike wherever that is. What differs stands
behind the Protocols here; which one it is depends on the address alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index.records import Record, State
from index.types import Document, Passage, Span
from index.vectors import FloatMatrix


@dataclass(frozen=True, eq=False)
class Candidates:
    """Passages that one channel or more put forward, in the order of their rows, each with
    its score in every channel, shape (candidates,)."""

    rows: NDArray[np.int64]
    own: NDArray[np.float32]
    """The cosine of the passage's vector with the question's."""
    inner: NDArray[np.float32]
    """That of its best sentence."""
    lexical: NDArray[np.float32]
    """The share of the question's BM25."""
    languages: NDArray[np.str_]


class Keywords(Protocol):
    """What the words of a question are worth in an index."""

    def coverage(
        self, texts: Sequence[Collection[str]], question: Sequence[Mapping[str, float]]
    ) -> NDArray[np.float32]: ...


class Snapshot(Protocol):
    """One state of the documents, for as long as it is held; all that is read is checked."""

    def state(self) -> State: ...
    def manifest(self) -> dict[str, str]: ...
    def find(self, **equal: object) -> Iterator[Record]: ...
    def record(self, document: int) -> Record: ...
    def document(self, record: Record) -> Document: ...


class Writer(Snapshot, Protocol):
    """What may be done within one transaction."""

    def put(
        self,
        document: Document,
        passages: Sequence[Passage],
        vectors: NDArray[np.float16],
        sentences: Sequence[NDArray[np.float16]],
    ) -> None: ...
    def remove(self, record: Record) -> None: ...


class View(Protocol):
    """One state of the index, to be searched and read; it stays what it was."""

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def documents(self) -> Sequence[Document]: ...
    @property
    def passages(self) -> Sequence[Passage]: ...
    @property
    def languages(self) -> tuple[str, ...]: ...
    @property
    def keywords(self) -> Keywords: ...
    def words(self, question: str, language: str) -> list[dict[str, float]]: ...
    def candidates(
        self, vector: NDArray[np.float32], words: Sequence[Mapping[str, float]], k: int
    ) -> Candidates: ...
    def holding(self, words: Sequence[Mapping[str, float]], k: int) -> list[int]:
        """The rows of the ``k`` passages that hold most of the words, best first."""

    def passage(self, row: int) -> Passage: ...
    def read(self, rows: Sequence[int]) -> list[Passage]: ...
    def vector(self, passage: Passage) -> NDArray[np.float32]: ...
    def sentence_vectors(self, passage: Passage) -> FloatMatrix: ...
    def before(self, passage: Passage) -> Span | None: ...
    def terms(self, text: str, passage: Passage) -> list[str]: ...
    def only(self, where: Mapping[str, Any]) -> View: ...


Meet = Callable[[Any], int]
"""Is told of a Snapshot before it is made searchable, and gives the dimension of its vectors."""


class Place(Protocol):
    """Where an index is kept, or may be."""

    @property
    def path(self) -> Path | str | None:
        """Its folder, or its address as it may be shown; None in memory."""

    def exists(self) -> bool: ...
    def check_empty(self) -> None:
        """Raise InputError where an index was, and is gone."""

    def create(self, manifest: Mapping[str, str]) -> None: ...
    def open(self) -> dict[str, str]:
        """Make ready what is there; its manifest. Raises InputError, DamageError."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Be the one writer, after waiting a bounded time for another one."""

    def writing(self) -> AbstractContextManager[Writer]:
        """One transaction: all of it is done, or nothing. The caller must be the one writer."""

    def snapshot(self) -> Snapshot: ...
    def documents(self, snapshot: Any) -> Sequence[Document]:
        """All documents in the order they were added, each read when it is asked for."""

    def view(self, meet: Meet) -> View:
        """The present state, made searchable."""

    def gather(self, meet: Meet) -> None:
        """Make quick to search what was added. The caller must be the one writer."""

    def close(self) -> None: ...


def place_of(address: str | Path | None) -> Place:
    """The place of an address: a folder, ``postgresql://…``, ``milvus+http://…``, or None for
    memory.

    Raises:
        InputError: what it takes is not installed.
    """
    if isinstance(address, str):
        if address.startswith(("postgresql:", "postgres:")):
            from index.postgres import Postgres
            from index.served import Served

            return Served(Postgres(address))
        if address.startswith("milvus+"):
            from index.milvus import Milvus
            from index.served import Served

            return Served(Milvus(address.removeprefix("milvus+")))
    from index.local import Local

    return Local(Path(address) if address is not None else None)

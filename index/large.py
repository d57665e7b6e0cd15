"""Very many passages, searchable in little memory, and kept in a file beside the index.

The file saves time only: what it holds is made from the index, and made again where it is
gone, damaged, or of another state than the index comes from. It is read as a whole into
memory and held against its checksum before anything of it is used. Vectors are in it coarsely,
and those of sentences not at all: those found are compared with what the index has of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from index.dense import SAMPLE, CoarseIndex
from index.errors import Words
from index.keywords import Postings, TermPostings, WordList
from index.lexical import words
from index.progress import progress_bar
from index.records import Snapshot, State
from index.vectors import FloatMatrix

FILE = "beleg.large"
MORE = f"{FILE}.more"
"""What was added since that was written, in a file of its own: it is written in less time."""
MAGIC = b"beleg large 1\n"
"""To be counted up with every change in the format, or in what words and terms are."""
CHUNK = 100_000
"""So many passages are read at a time."""
GROWN = 4
"""How vectors are rounded is found anew when there are so many times as many."""
LEAST = 16
"""So many vectors must there be to find it."""
FEW = 1_000
"""Of so few passages the vectors themselves are all compared."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Large:
    """The passages of a state of the index, in the order of their ids."""

    state: State
    ids: NDArray[np.int64]
    documents: NDArray[np.int64]
    """The number of each passage's document."""
    tongues: NDArray[np.uint8]
    """The place of each passage's language in ``names``."""
    names: tuple[str, ...]
    dense: CoarseIndex
    planned: int
    """So many vectors it was made for."""
    postings: TermPostings
    base: State | None = None
    """Of one that goes on from another: what that is of."""
    under: WordList = field(default_factory=lambda: WordList.of([]))
    """The words that are known there."""

    def __len__(self) -> int:
        return len(self.ids)

    def languages_of(self, rows: NDArray[np.int64]) -> NDArray[np.str_]:
        return np.asarray(self.names, np.str_)[self.tongues[rows]]

    def spoken(self, mask: Mask) -> set[str]:
        """The languages of the passages that a mask chooses."""
        return {self.names[i] for i in np.flatnonzero(np.bincount(self.tongues[mask]))}

    def nearest(
        self,
        vector: NDArray[np.float32],
        k: int,
        mask: Mask,
        snapshot: Snapshot,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """About the ``k`` rows of a mask nearest to a vector, and about their cosines."""
        left = int(mask.sum())
        if left > FEW:
            return self.dense.search(vector, k, None if left == len(self) else mask)
        rows, own = np.flatnonzero(mask), np.zeros(0, np.float32)
        if left:
            own, _ = self.cosines(rows, vector, snapshot)
        best = np.argsort(-own, kind="stable")[:k]
        return rows[best], own[best]

    def cosines(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32], snapshot: Snapshot
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of each passage, and of its best sentence, with a vector; rows are in order."""
        numbers = self.ids[rows].tolist()
        parts = snapshot.several(numbers)
        here = zip(numbers, self.documents[rows].tolist(), strict=True)
        if [(part.id, part.document) for part in parts] != list(here):
            raise snapshot.damaged(Words("passages are missing"))
        own = np.stack([part.vector for part in parts]).astype(np.float32) @ vector
        inner = np.concatenate([part.sentences for part in parts]).astype(np.float32) @ vector
        ends = np.cumsum([len(part.spans) for part in parts])
        return own, np.maximum.reduceat(inner, np.concatenate([[0], ends[:-1]]))

    def sentence_vectors(self, row: int, snapshot: Snapshot) -> FloatMatrix:
        return snapshot.part(int(self.ids[row])).sentences.astype(np.float32)

    def vector(self, row: int, snapshot: Snapshot) -> NDArray[np.float32]:
        return snapshot.part(int(self.ids[row])).vector.astype(np.float32)

    # --- making one ---

    @classmethod
    def none(cls, snapshot: Snapshot, dimension: int) -> Self:
        """An empty one, made for vectors like those that there are."""
        state = snapshot.state()
        step = max(1, state.passages // SAMPLE)
        sample = [
            np.frombuffer(vector, np.float16)  # if it is damaged, it is found when it is read
            for (vector,) in snapshot.rows("SELECT vector FROM passages WHERE id % ? = 0", step)
            if type(vector) is bytes and len(vector) == 2 * dimension
        ]
        train = np.stack(sample) if sample else np.zeros((0, dimension), np.float16)
        train = train[np.isfinite(train).all(axis=1)]
        if len(train) < LEAST:
            raise snapshot.damaged(Words("its vectors are not what was written"))
        return cls(
            state=state._replace(
                documents=0, passages=0, digest=0, last_document=0, last_passage=0
            ),
            ids=np.zeros(0, np.int64),
            documents=np.zeros(0, np.int64),
            tongues=np.zeros(0, np.uint8),
            names=(),
            dense=CoarseIndex.train(train),
            planned=state.passages,
            postings=TermPostings.none(),
        )

    def begun(self) -> Large:
        """An empty one that goes on from this one."""
        return Large(
            state=self.state,
            ids=np.zeros(0, np.int64),
            documents=np.zeros(0, np.int64),
            tongues=np.zeros(0, np.uint8),
            names=(),
            dense=self.dense.empty(),
            planned=self.planned,
            postings=TermPostings.none(),
            base=self.state,
            under=self.postings.known,
        )

    def extended(self, kept: Mask, snapshot: Snapshot) -> tuple[Self, list[bytes]]:
        """With the passages that were added since, and without those that are not ``kept``.

        All that is read is checked; the seals of the documents added are given too.
        """
        state, seals = snapshot.state(), list[bytes]()
        dense = self.dense.copy(kept)
        ids, documents, tongues = [self.ids[kept]], [self.documents[kept]], [self.tongues[kept]]
        names, postings, mask = list(self.names), self.postings, kept
        under = frozenset(self.under.listed())
        contents = snapshot.contents(self.state)
        with progress_bar("indexing", state.passages - int(kept.sum()), unit="passage") as bar:
            while True:
                chunk = _Chunk(names)
                run = Postings.of(chunk.read(contents, seals))
                if not chunk.ids:
                    break
                ids.append(np.asarray(chunk.ids, np.int64))
                documents.append(np.asarray(chunk.documents, np.int64))
                tongues.append(np.asarray(chunk.tongues, np.uint8))
                dense.add(np.stack(chunk.vectors))
                postings = postings.extended(mask, [run], under)
                mask = np.ones(postings.size, np.bool_)
                bar.update(len(chunk.ids))
        if not mask.all():
            postings = postings.extended(mask, [])
        grown = replace(
            self,
            state=state,
            ids=np.concatenate(ids),
            documents=np.concatenate(documents),
            tongues=np.concatenate(tongues),
            names=tuple(names),
            dense=dense,
            postings=postings,
        )
        return grown, seals

    # --- on disk ---

    def write(self, folder: Path) -> None:
        """Put it in the folder, in one step; where it cannot be written nothing is lost."""
        name = FILE if self.base is None else MORE
        new = folder / f"{name}.{os.getpid()}.new"
        arrays: dict[str, NDArray[Any]] = {
            "ids": self.ids,
            "documents": self.documents,
            "tongues": self.tongues,
            "first": self.postings.first,
            "rows": self.postings.rows,
            "counts": self.postings.counts,
            "lengths": self.postings.lengths,
            "terms": self.postings.terms.letters,
            "term_ends": self.postings.terms.ends,
            "known": self.postings.known.letters,
            "known_ends": self.postings.known.ends,
            "dense": self.dense.pack(),
        }
        if self.base is not None:
            arrays |= {"under": self.under.letters, "under_ends": self.under.ends}
        header = {
            "base": self.base,
            "state": self.state,
            "names": self.names,
            "planned": self.planned,
            "arrays": [(name, array.dtype.str, len(array)) for name, array in arrays.items()],
        }
        line = json.dumps(header).encode("ascii") + b"\n"
        digest = xxh3_128()
        try:
            with new.open("wb") as file:
                pieces: list[bytes | memoryview] = [MAGIC, line]
                for data in (*pieces, *map(_bytes, arrays.values())):
                    digest.update(data)
                    file.write(data)
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, folder / name)
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path, incarnation: str, after: int = -1, name: str = FILE) -> Self | None:
        """The one in a folder, if it is whole, and of a later generation than ``after``."""
        with suppress(OSError, ValueError, KeyError, TypeError), (folder / name).open("rb") as file:
            line, header = _header(file)
            state, base = State(*header["state"]), header.get("base")
            if state.incarnation != incarnation or state.generation <= after:
                return None
            digest = xxh3_128(MAGIC + line)
            arrays = {name: _read(file, kind, n, digest) for name, kind, n in header["arrays"]}
            if file.read() != digest.digest():
                return None
            return cls(
                state=state,
                ids=arrays["ids"],
                documents=arrays["documents"],
                tongues=arrays["tongues"],
                names=tuple(header["names"]),
                dense=CoarseIndex.unpack(arrays["dense"]),
                planned=header["planned"],
                postings=TermPostings(
                    len(arrays["ids"]),
                    WordList(arrays["terms"], arrays["term_ends"]),
                    arrays["first"],
                    arrays["rows"],
                    arrays["counts"],
                    arrays["lengths"],
                    WordList(arrays["known"], arrays["known_ends"]),
                ),
                base=State(*base) if base else None,
                under=WordList(arrays["under"], arrays["under_ends"]) if base else WordList.of([]),
            )
        return None


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).view(np.uint8).data


def _header(file: IO[bytes]) -> tuple[bytes, dict[str, Any]]:
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError
    line = file.readline(100_000)
    header: dict[str, Any] = json.loads(line)
    return line, header


def _read(file: IO[bytes], kind: str, count: int, digest: Any) -> NDArray[Any]:
    array = np.fromfile(file, np.dtype(kind), count)
    if len(array) != count:
        raise ValueError
    digest.update(_bytes(array))
    return array


def stamp(folder: Path) -> tuple[int, ...]:
    """What tells the files that are there from any before them."""
    found: tuple[int, ...] = ()
    for name in (FILE, MORE):
        with suppress(OSError):
            of = os.stat(folder / name)
            found += (of.st_ino, of.st_size, of.st_mtime_ns)
    return found


def torn(folder: Path, incarnation: str) -> list[Path]:
    """Those of the files that are there and not whole."""
    return [
        folder / name
        for name in (FILE, MORE)
        if (folder / name).exists() and Large.read(folder, incarnation, name=name) is None
    ]


def state(folder: Path) -> State | None:
    """What the file in a folder says that it is of; whether it is whole is not looked at."""
    with suppress(OSError, ValueError, KeyError, TypeError), (folder / FILE).open("rb") as file:
        return State(*_header(file)[1]["state"])
    return None


def remove(folder: Path) -> None:
    """Let nothing be left of the file, nor of one in the making."""
    for file in [folder / FILE, folder / MORE, *folder.glob(f"{FILE}.*.new")]:
        with suppress(OSError):
            file.unlink(missing_ok=True)


class _Chunk:
    """Some of the passages of an index, as they are read."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.ids: list[int] = []
        self.documents: list[int] = []
        self.tongues: list[int] = []
        self.vectors: list[NDArray[np.float16]] = []

    def read(
        self, contents: Iterator[tuple[Any, Any, Sequence[Any]]], seals: list[bytes]
    ) -> Iterator[tuple[str, list[str]]]:
        """The language and the words of each, at most about CHUNK of them."""
        for record, document, parts in contents:
            seals.append(record.seal)
            if record.language not in self._names:
                self._names.append(record.language)
            tongue = self._names.index(record.language)
            for part in parts:
                self.ids.append(part.id)
                self.documents.append(part.document)
                self.tongues.append(tongue)
                self.vectors.append(part.vector)
                yield record.language, words(document.text[part.start : part.end])
            if len(self.ids) >= CHUNK:
                return

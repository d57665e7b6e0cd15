"""Which documents a filter lets through, wherever an index is.

Its keys are ``document`` (the id), ``source``, ``title``, ``language``, ``path``, or those of
documents' metadata; its values what must stand there, or a list, tuple or set of which one must.
All of it becomes labels: a document has one of each thing that it says of itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from index.errors import InputError, Words
from index.records import Record, Snapshot, State, total

Among = tuple[frozenset[str], ...]
"""What a search is confined to: documents that have a label of each of these sets."""


def facts(record: Record) -> dict[str, Any]:
    """What a filter may ask of a document: its metadata, and what that does not say itself."""
    fields = ("source", "title", "language", "path")
    own: dict[str, Any] = {"document": record.key} | {
        field: getattr(record, field) for field in fields
    }
    own.update(json.loads(record.metadata))
    return own


def check_filter(where: object) -> None:
    """Raise InputError where it is no filter."""
    if not isinstance(where, Mapping | None):
        raise InputError("a filter is what metadata must say, {{name: value}}, not {!r}", where)


def passes(record: Record, where: Mapping[str, Any]) -> bool:
    held = facts(record) if where else {}
    for key, wanted in where.items():
        # 1 is not True here, and a list in the metadata is looked for as a whole.
        if key not in held or not any(
            type(held[key]) is type(one) and held[key] == one for one in _alternatives(wanted)
        ):
            return False
    return True


def _alternatives(wanted: Any) -> Collection[Any]:
    """What may stand there, of one key of a filter."""
    return wanted if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]


_written = json.JSONEncoder(sort_keys=True, default=repr).encode


def label(key: str, value: object) -> str:
    """What a document is found by that says this; the engines' own filters look for it."""
    held = _written(_alike(value))
    data = f"{key}\0{type(value).__name__}\0{held}".encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=8).hexdigest()


def _alike(value: Any) -> Any:
    """The same for all values that are equal."""
    if isinstance(value, (list, tuple)):
        return [_alike(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _alike(one) for key, one in value.items()}
    if isinstance(value, (bool, float)) and value == value // 1 and abs(value) < 2**53:
        return int(value)
    return value


def labels_of(record: Record) -> set[str]:
    """What a document is found by."""
    return {label(key, value) for key, value in facts(record).items()}


def among(where: Mapping[str, Any]) -> Among:
    """What a filter confines a search to."""
    return tuple(
        frozenset(label(key, one) for one in _alternatives(wanted)) for key, wanted in where.items()
    )


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of all documents of a state, in order, so that a filter reads no records."""

    state: State
    labels: NDArray[np.uint64]
    documents: NDArray[np.int64]
    """The number of the document that has each."""

    @classmethod
    def of(cls, snapshot: Snapshot, earlier: Self | None = None) -> Self:
        """From those of an earlier state where that helps.

        Raises:
            DamageError: the file does not hold what was written.
        """
        state = snapshot.state()
        if earlier is not None and earlier.state == state:
            return earlier
        if earlier is not None and (
            earlier.state.incarnation != state.incarnation
            or earlier.state.generation > state.generation
        ):
            earlier = None
        labels, documents = list[int](), list[int]()
        count, digest, last = 0, 0, 0
        if earlier is not None:
            count, digest = earlier.state.documents, earlier.state.digest
            last = earlier.state.last_document
        gone = snapshot.removed(earlier.state if earlier else None)
        count -= len(gone)
        digest -= sum(sealed for *_, sealed in gone)
        seals = []
        for record in snapshot.records("WHERE id > ?", last):
            own = labels_of(record)
            labels += [int(one, 16) for one in own]
            documents += [record.id] * len(own)
            seals.append(record.seal)
        if (count + len(seals), total(seals, digest)) != (state.documents, state.digest):
            if earlier is not None:  # perhaps only what it came from is wrong
                return cls.of(snapshot)
            raise snapshot.damaged(Words("it does not hold all that was written"))
        found, numbers = np.asarray(labels, np.uint64), np.asarray(documents, np.int64)
        if earlier is not None:
            left = ~np.isin(earlier.documents, [number for _, number, *_ in gone])
            found = np.concatenate([earlier.labels[left], found])
            numbers = np.concatenate([earlier.documents[left], numbers])
        order = np.argsort(found, kind="stable")
        return cls(state, found[order], numbers[order])

    def find(self, among: Among) -> NDArray[np.int64]:
        """The numbers of the documents that have a label of each set, in order."""
        found: NDArray[np.int64] | None = None
        for wanted in among:
            keys = np.asarray([int(one, 16) for one in wanted], np.uint64)
            begins = np.searchsorted(self.labels, keys, "left")
            ends = np.searchsorted(self.labels, keys, "right")
            spans = [self.documents[a:b] for a, b in zip(begins, ends, strict=True)]
            here = np.unique(np.concatenate([np.zeros(0, np.int64), *spans]))
            found = here if found is None else np.intersect1d(found, here, assume_unique=True)
        return np.unique(self.documents) if found is None else found

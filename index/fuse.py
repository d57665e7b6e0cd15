"""Several channels' scores to one ranking of passages.

The channels are on one scale by construction (cosines, and BM25 as a share of what the
question could score), so they are added, not z-scored or turned into ranks: an index of
three passages and one of a million rank alike, and across languages, where few words
match, keyword search has little to say instead of a rank to push with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

WEIGHTS: Mapping[str, float] = {"dense": 1.0, "sentence": 1.0, "lexical": 1.0}
"""Anything from 0.8 to 1.5 for lexical is as good on XQuAD's development half:
tests/benchmarks/README.md."""


def fuse(channels: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The weighted sum of each candidate's scores, shape (candidates,)."""
    return np.asarray(sum(WEIGHTS[name] * s for name, s in channels.items()), np.float32)


def ranks(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rank of each score, 1 = highest, ties in order of position."""
    order = np.argsort(-scores, kind="stable")
    found = np.empty(len(scores), np.int64)
    found[order] = np.arange(1, len(scores) + 1)
    return found


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The rows of the ``k`` highest scores over 0, in order of the rows."""
    bar, rows = float(scores.max(initial=0)), np.zeros(0, np.int64)
    for _ in range(4):  # as a rule few are near the best
        bar /= 2
        if len(rows := np.flatnonzero(scores > bar)) >= k:
            break
    else:
        rows = np.flatnonzero(scores > 0)
    return np.sort(rows[np.argpartition(-scores[rows], k - 1)[:k]]) if k < len(rows) else rows

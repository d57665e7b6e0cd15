"""New word pieces for a Unigram vocabulary, and where their vectors start."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from index.distill.pairs import Pair
from index.errors import InputError
from index.vectors import FloatMatrix

WINDOW = 256
"""Texts are cut at so many tokens."""
SHARE = 0.01
"""What a language has of the text that XLM-R's vocabulary of a hundred was made from."""


def extend_vocabulary(known: Tokenizer, texts: Iterable[str], size: int) -> Tokenizer:
    """Return a Unigram tokenizer with up to ``size`` pieces of ``texts`` added, the likeliest.

    The pieces that it has keep their ids. The new ones are as likely as if SHARE of all text
    were in their language: so texts in the languages that it knows change little.

    Raises:
        InputError: it is of another kind.
    """
    spec = json.loads(known.to_str())
    if spec["model"]["type"] != "Unigram":
        raise InputError(
            f"a vocabulary of the kind {spec['model']['type']} cannot be extended, only Unigram"
        )
    vocabulary = spec["model"]["vocab"]
    if len(vocabulary) != known.get_vocab_size():
        raise InputError("a tokenizer with tokens outside its vocabulary cannot be extended")
    fresh = Tokenizer(models.Unigram())
    fresh.normalizer = known.normalizer or normalizers.Sequence([])
    fresh.pre_tokenizer = pre_tokenizers.Sequence(
        [known.pre_tokenizer, pre_tokenizers.Punctuation("isolated")]  # no pieces like "end."
    )
    unknown = vocabulary[spec["model"]["unk_id"]][0]
    plain = [fresh.normalizer.normalize_str(text) for text in texts]
    trainer = trainers.UnigramTrainer(
        vocab_size=2 * size + len(set().union(*plain)),  # every character must have its place
        unk_token=unknown,
        special_tokens=[unknown],
        show_progress=False,
    )
    fresh.train_from_iterator(plain, trainer)
    had = {piece for piece, _ in vocabulary}
    found = json.loads(fresh.to_str())["model"]["vocab"]
    new = sorted((f for f in found if f[0] not in had), key=lambda f: -f[1])
    vocabulary += [(piece, score + math.log(SHARE)) for piece, score in new[:size]]
    return Tokenizer.from_str(json.dumps(spec))


def translate_pieces(
    foreign: Sequence[Sequence[int]], english: Sequence[Sequence[int]], rounds: int = 5
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """IBM Model 1: how likely is each English piece as translation of each foreign piece.

    Returns parallel arrays (foreign id, English id, t(English | foreign)).
    """
    f_ids, e_ids, tokens = [], [], []
    offset = 0
    for f, e in zip(foreign, english, strict=True):
        f_ids.append(np.repeat(np.asarray(f, np.int64), len(e)))
        e_ids.append(np.tile(np.asarray(e, np.int64), len(f)))
        tokens.append(np.tile(np.arange(offset, offset + len(e)), len(f)))
        offset += len(e)
    f_all, e_all = np.concatenate(f_ids), np.concatenate(e_ids)
    token = np.concatenate(tokens)
    keys, cell = np.unique(f_all << 32 | e_all, return_inverse=True)
    f_key, e_key = keys >> 32, keys & 0xFFFFFFFF
    t = np.ones(len(keys))
    for _ in range(rounds):
        weight = t[cell]
        weight /= np.bincount(token, weight)[token]
        count = np.bincount(cell, weight, minlength=len(keys))
        t = count / np.bincount(f_key, count)[f_key]
    return f_key, e_key, t


def initial_rows(
    vectors: FloatMatrix,
    first_new: int,
    size: int,
    translations: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    old_pieces: Sequence[Sequence[int]],
    keep: int = 6,
) -> FloatMatrix:
    """Vectors of the new pieces: mean of their translations', else of their old pieces'."""
    rows = np.stack(
        [vectors[list(pieces)].mean(0) if pieces else vectors.mean(0) for pieces in old_pieces]
    )
    f, e, t = translations
    new = f >= first_new
    f, e, t = f[new] - first_new, e[new], t[new]
    order = np.lexsort((-t, f))
    f, e, t = f[order], e[order], t[order]
    starts = np.searchsorted(f, np.arange(size))
    ends = np.searchsorted(f, np.arange(size), side="right")
    for row, (a, b) in enumerate(zip(starts, ends, strict=True)):
        if b > a:
            b = min(b, a + keep)
            weight = t[a:b] / t[a:b].sum()
            rows[row] = weight @ vectors[e[a:b]]
    return rows.astype(np.float32)


def encoded(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
    """Token ids of each text, cut at WINDOW."""
    return [e.ids[:WINDOW] for e in tokenizer.encode_batch(list(texts), add_special_tokens=special)]


def aligned(
    pairs: Sequence[Pair], foreign: Tokenizer, english: Tokenizer
) -> tuple[list[list[int]], list[list[int]]]:
    """Both sides of the pairs as ids without special tokens, empty ones left out."""
    f = encoded(foreign, [p.foreign for p in pairs], special=False)
    e = encoded(english, [p.english for p in pairs], special=False)
    both = [(a, b) for a, b in zip(f, e, strict=True) if a and b]
    return [a for a, _ in both], [b for _, b in both]

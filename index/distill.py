"""Teach an English sentence encoder another language (``python -m index.distill``).

The student starts as a copy of the teacher. Its vocabulary grows by word pieces of the
new language, whose vectors start as the mean of the teacher's vectors of the English
pieces they are translated by (IBM Model 1: Brown et al. 1993, "The Mathematics of
Statistical Machine Translation"). It then learns to give a foreign text the vector that
the teacher gives its English translation (Reimers & Gurevych 2020, "Making Monolingual
Sentence Embeddings Multilingual using Knowledge Distillation"), and to rank a bank of
other texts as the teacher does.

It does not train on questions and answers, and it never sees an evaluation set.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, trainers
from tqdm import tqdm

FloatMatrix = NDArray[np.float32]

LENGTHS = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Batches are padded to these lengths only: each new shape costs a kernel compilation."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A text in the new language and its English translation; ``origin`` names the corpus."""

    foreign: str
    english: str
    origin: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train. Shares are of the tokens seen; rates are peak learning rates."""

    minutes: float = 60.0
    vocabulary: int = 28_000
    batch_tokens: int = 8192
    body_rate: float = 2e-4
    old_rate: float = 2e-4
    new_rate: float = 1.5e-3
    warmup: float = 0.03
    temperature: float = 0.05
    cosine_weight: float = 10.0
    ranking_weight: float = 0.5
    bank: int = 4096
    shares: tuple[tuple[str, float], ...] = (
        ("sentences", 0.52),
        ("dictionary", 0.12),
        ("windows", 0.16),
        ("english", 0.12),
        ("english windows", 0.08),
    )
    seed: int = 0


# --- reading -------------------------------------------------------------------------


def read_pairs(path: Path) -> list[Pair]:
    """Read a TSV (plain or .gz): foreign, English, and optionally the origin."""
    opener = gzip.open if path.suffix == ".gz" else open
    pairs = []
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            cells = line.rstrip("\n").split("\t")
            if len(cells) not in (2, 3):
                raise SystemExit(f"{path}:{number}: 2 or 3 tab-separated columns expected")
            pairs.append(Pair(*(cell.strip() for cell in cells)))
    return pairs


_NOTES = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|<[^>]*>")


def read_dictionary(path: Path) -> list[Pair]:
    """Read a Ding dictionary: ``de ; de | de :: en ; en | en``, notes in brackets."""

    def alternatives(part: str) -> list[str]:
        texts = (" ".join(t.split()) for t in _NOTES.sub(" ", part).split(";"))
        return [t for t in texts if any(c.isalpha() for c in t)]

    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or line.count("::") != 1:
            continue
        foreign, english = (side.split("|") for side in line.split("::"))
        if len(foreign) != len(english):
            continue
        for f, e in zip(map(alternatives, foreign), map(alternatives, english), strict=True):
            pairs += [Pair(a, b, "dictionary") for a in f[:4] for b in e[:2]]
            pairs += [Pair(a, b, "dictionary") for a in f[:1] for b in e[2:4]]
    return pairs


def clean(pairs: Iterable[Pair], rng: random.Random) -> list[Pair]:
    """Drop repeats, pairs of very different length, and most very short sentences.

    Short sentences of test suites ("Wir haben schlafen wollen.") are so many and so
    alike that one in four is enough.
    """
    kept, seen = [], set()
    for pair in pairs:
        a, b = len(pair.foreign), len(pair.english)
        if not 2 <= a <= 1500 or not 2 <= b <= 1500 or not 1 / 2.5 < (a + 10) / (b + 10) < 2.5:
            continue
        key = (pair.foreign, pair.english)
        if key in seen:
            continue
        seen.add(key)
        short = len(pair.english.split()) < 8 and "?" not in pair.english
        if (short or pair.origin == "multi30k") and rng.random() > 0.25:
            continue
        kept.append(pair)
    return kept


def windows(pairs: Sequence[Pair], rng: random.Random, passes: int = 4) -> list[Pair]:
    """Join 2 to 8 neighbouring lines of one origin into passages of up to 180 words."""
    joined = []
    for _ in range(passes):
        i = 0
        while i < len(pairs):
            size, words, j = rng.randint(2, 8), 0, i
            while j < len(pairs) and j - i < size and pairs[j].origin == pairs[i].origin:
                words += len(pairs[j].english.split())
                if words > 180 and j > i:
                    break
                j += 1
            if j - i > 1:
                joined.append(
                    Pair(
                        " ".join(p.foreign for p in pairs[i:j]),
                        " ".join(p.english for p in pairs[i:j]),
                    )
                )
            i = max(j, i + 1)
    return joined


# --- vocabulary ----------------------------------------------------------------------


def extend_vocabulary(teacher: Tokenizer, texts: Iterable[str], size: int) -> Tokenizer:
    """Return the teacher's tokenizer with up to ``size`` word pieces of ``texts`` added."""
    fresh = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fresh.normalizer, fresh.pre_tokenizer = teacher.normalizer, teacher.pre_tokenizer
    trainer = trainers.WordPieceTrainer(
        vocab_size=size * 2, min_frequency=3, limit_alphabet=200, show_progress=False
    )
    fresh.train_from_iterator(texts, trainer)
    spec = json.loads(teacher.to_str())
    vocabulary = spec["model"]["vocab"]
    pieces = sorted(fresh.get_vocab().items(), key=lambda item: item[1])
    new = [piece for piece, _ in pieces if piece not in vocabulary][:size]
    for piece in new:
        vocabulary[piece] = len(vocabulary)
    extended = Tokenizer.from_str(json.dumps(spec))
    extended.no_padding()
    extended.no_truncation()
    return extended


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


# --- training ------------------------------------------------------------------------


@dataclass(slots=True)
class Texts:
    """One kind of training text: token ids and, per text, the row of its target."""

    ids: list[list[int]]
    target: NDArray[np.int64]

    def batches(self, tokens: int, rng: random.Random) -> Iterator[tuple[list[int], int]]:
        """Yield (indices, padded length) for ever, reshuffled at each pass."""
        while True:
            buckets: dict[int, list[int]] = {length: [] for length in LENGTHS}
            order = list(range(len(self.ids)))
            rng.shuffle(order)
            ready = []
            for i in order:
                length = next(n for n in LENGTHS if n >= len(self.ids[i]))
                buckets[length].append(i)
                if len(buckets[length]) * length >= tokens:
                    ready.append((buckets[length], length))
                    buckets[length] = []
            ready += [(b, n) for n, b in buckets.items() if len(b) * n * 4 >= tokens]
            if not ready:  # a tiny corpus: whatever there is
                ready = [(b, n) for n, b in buckets.items() if b]
            rng.shuffle(ready)
            yield from ready


class Student(torch.nn.Module):
    """The teacher's network in bfloat16 over two word tables (old rows, new rows)."""

    def __init__(self, body: Any, old: FloatMatrix, new: FloatMatrix) -> None:
        super().__init__()
        self.body = body
        self.old = torch.nn.Embedding.from_pretrained(torch.tensor(old), freeze=False, sparse=True)
        self.new = torch.nn.Embedding.from_pretrained(torch.tensor(new), freeze=False, sparse=True)

    def rows(self) -> torch.Tensor:
        return torch.cat([self.old.weight, self.new.weight]).detach()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Unit vectors, shape (texts, dimension), of token ids padded with 0."""
        split = self.old.num_embeddings
        is_new = ids >= split
        words = torch.where(
            is_new.unsqueeze(-1),
            self.new((ids - split).clamp(min=0)),
            self.old(ids.masked_fill(is_new, 0)),
        )
        out = self.body(
            inputs_embeds=words.to(torch.bfloat16), attention_mask=mask
        ).last_hidden_state.float()
        weight = mask.unsqueeze(-1).float()
        return torch.nn.functional.normalize((out * weight).sum(1) / weight.sum(1), dim=1)


def loss_of(
    student: torch.Tensor, teacher: torch.Tensor, bank: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    """Cosine distance to the teacher, plus KL between both rankings of a bank of texts."""
    cosine = 1 - (student * teacher).sum(1).mean()
    others = torch.cat([teacher, bank])
    wanted = torch.softmax(teacher @ others.T / recipe.temperature, dim=1)
    ranked = torch.log_softmax(student @ others.T / recipe.temperature, dim=1)
    ranking = torch.nn.functional.kl_div(ranked, wanted, reduction="batchmean")
    return recipe.cosine_weight * cosine + recipe.ranking_weight * ranking


def padded(rows: Sequence[Sequence[int]], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def train(
    student: Student,
    kinds: dict[str, Texts],
    targets: NDArray[np.float16],
    recipe: Recipe,
    on_progress: Any = None,
) -> list[float]:
    """Train for ``recipe.minutes`` of wall clock; returns the loss of every step."""
    rng = random.Random(recipe.seed)
    generator = np.random.default_rng(recipe.seed)
    body = [p for p in student.body.parameters() if p.requires_grad]
    master = [torch.nn.Parameter(p.detach().float()) for p in body]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(master, lr=recipe.body_rate, weight_decay=0.01, fused=True),
        torch.optim.SparseAdam(
            [
                {"params": [student.old.weight], "lr": recipe.old_rate},
                {"params": [student.new.weight], "lr": recipe.new_rate},
            ]
        ),
    ]
    peaks = [[g["lr"] for g in o.param_groups] for o in optimizers]
    streams = {n: t.batches(recipe.batch_tokens, rng) for n, t in kinds.items() if t.ids}
    shares = [(n, s) for n, s in recipe.shares if n in streams]
    seen = {n: 0.0 for n, _ in shares}
    losses: list[float] = []
    start = time.monotonic()
    bar = tqdm(total=100, unit="%", disable=None, desc="training")
    while (done := (time.monotonic() - start) / (recipe.minutes * 60)) < 1:
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * min(done / recipe.warmup, 1.0) * (1 - done)
        name = min(shares, key=lambda kind: seen[kind[0]] / kind[1])[0]  # the one most behind
        indices, length = next(streams[name])
        seen[name] += len(indices) * length
        ids, mask = padded([kinds[name].ids[i] for i in indices], length)
        teacher = torch.tensor(targets[kinds[name].target[indices]]).float()
        sample = generator.integers(0, len(targets), recipe.bank)
        loss = loss_of(student(ids, mask), teacher, torch.tensor(targets[sample]).float(), recipe)
        loss.backward()
        for wide, narrow in zip(master, body, strict=True):
            wide.grad = narrow.grad.float() if narrow.grad is not None else None
            narrow.grad = None
        torch.nn.utils.clip_grad_norm_(master, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            for wide, narrow in zip(master, body, strict=True):
                narrow.copy_(wide)
        losses.append(float(loss))
        bar.update(int(done * 100) - bar.n)
        if on_progress is not None:
            on_progress(done, name, losses, sum(seen.values()))
    bar.close()
    return losses

"""Teach an English sentence encoder another language (``python -m index.distill``).

The student starts as a copy of the teacher. Its vocabulary grows by word pieces of the
new language, whose vectors start as the mean of the teacher's vectors of the English
pieces they are translated by (IBM Model 1: Brown et al. 1993, "The Mathematics of
Statistical Machine Translation"). It then learns to give a foreign text the vector that
the teacher gives its English translation (Reimers & Gurevych 2020, "Making Monolingual
Sentence Embeddings Multilingual using Knowledge Distillation"), and to rank a bank of
other texts as the teacher does.

The bundled model was made by

    python -m index.distill sentences.de-en.tsv.gz --dictionary /usr/share/trans/de-en
        --documents news --teacher FOLDER_OF_all-MiniLM-L6-v2 --minutes 85 --out index/model

and, with its own pairs, the same command teaches the bundled model another language. It
does not train on questions and answers, and it never sees an evaluation set.
"""

from __future__ import annotations

import argparse
import gzip
import json
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

from index.embed import BUNDLED, FloatMatrix
from index.errors import InputError

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
    """How to train. Shares are of the tokens seen; rates are peak learning rates.

    Training ends after ``minutes`` of wall clock, or after ``steps`` where that is not 0;
    the rates rise over ``warmup`` (a share of it) and fall to nothing at the end.
    """

    minutes: float = 60.0
    steps: int = 0
    vocabulary: int = 28_000
    batch_tokens: int = 8192
    body_rate: float = 2e-4
    old_rate: float = 4e-4
    new_rate: float = 1.2e-3
    warmup: float = 0.03
    temperature: float = 0.05
    cosine_weight: float = 10.0
    ranking_weight: float = 0.5
    token_weight: float = 2.0
    token_steps: float = 0.35
    bank: int = 4096
    shares: tuple[tuple[str, float], ...] = (
        ("sentences", 0.50),
        ("dictionary", 0.08),
        ("windows", 0.18),
        ("english", 0.13),
        ("english windows", 0.11),
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
                raise InputError(f"{path}:{number}: 2 or 3 tab-separated columns expected")
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
    """One kind of training text: token ids, those of its English side, its target's row."""

    ids: list[list[int]]
    english: list[list[int]]
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


def _table(rows: FloatMatrix) -> torch.nn.Embedding:
    return torch.nn.Embedding(len(rows), rows.shape[1], _weight=torch.tensor(rows), sparse=True)


class Student(torch.nn.Module):
    """The teacher's network in bfloat16 over two word tables (old rows, new rows)."""

    def __init__(self, body: Any, old: FloatMatrix, new: FloatMatrix) -> None:
        super().__init__()
        self.body = body
        self.old = _table(old)
        self.new = _table(new)

    def rows(self) -> torch.Tensor:
        return torch.cat([self.old.weight, self.new.weight]).detach()

    def vectors(self, ids: Sequence[Sequence[int]]) -> FloatMatrix:
        """Unit vectors of token ids, shape (texts, dimension)."""
        out = np.zeros((len(ids), self.old.embedding_dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(ids), 32):
                batch = ids[start : start + 32]
                length = next(n for n in LENGTHS if n >= max(map(len, batch)))
                out[start : start + 32] = self(*padded(batch, length))[0].numpy()
        return out

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors (texts, dimension) and token vectors of ids padded with 0."""
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
        return torch.nn.functional.normalize((out * weight).sum(1) / weight.sum(1), dim=1), out


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


def token_loss(
    student: torch.Tensor, mask: torch.Tensor, teacher: torch.Tensor, teacher_mask: torch.Tensor
) -> torch.Tensor:
    """One minus the mean over teacher tokens of the best cosine with a student token.

    This is ColBERT's MaxSim (Khattab & Zaharia 2020) between translations: it keeps the
    token vectors of both languages in one space, which late interaction needs.
    """
    a = torch.nn.functional.normalize(teacher, dim=-1)
    b = torch.nn.functional.normalize(student, dim=-1)
    best = (a @ b.transpose(1, 2)).masked_fill(mask[:, None, :] == 0, -1).amax(2)
    weight = teacher_mask.float()
    return 1 - ((best * weight).sum(1) / weight.sum(1)).mean()


def padded(rows: Sequence[Sequence[int]], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def train(
    student: Student,
    teacher: Any,
    kinds: dict[str, Texts],
    targets: NDArray[np.float16],
    recipe: Recipe,
) -> list[float]:
    """Train the student; returns the loss of every step."""
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
    while True:
        if recipe.steps:
            done = len(losses) / recipe.steps
        else:
            done = (time.monotonic() - start) / (recipe.minutes * 60)
        if done >= 1:
            break
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * min((done + 1e-3) / recipe.warmup, 1.0) * (1 - done)
        name = min(shares, key=lambda kind: seen[kind[0]] / kind[1])[0]  # the one most behind
        indices, length = next(streams[name])
        seen[name] += len(indices) * length
        ids, mask = padded([kinds[name].ids[i] for i in indices], length)
        wanted = torch.tensor(targets[kinds[name].target[indices]]).float()
        sample = torch.tensor(targets[generator.integers(0, len(targets), recipe.bank)]).float()
        vectors, tokens = student(ids, mask)
        loss = loss_of(vectors, wanted, sample, recipe)
        if length <= 64 and name != "dictionary" and rng.random() < recipe.token_steps:
            english = [kinds[name].english[i] for i in indices]
            longest = max(map(len, english))
            e_ids, e_mask = padded(english, next(n for n in LENGTHS if n >= longest))
            with torch.no_grad():
                states = teacher(input_ids=e_ids, attention_mask=e_mask).last_hidden_state.float()
            loss = loss + recipe.token_weight * token_loss(tokens, mask, states, e_mask)
        loss.backward()  # type: ignore[no-untyped-call]
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
        losses.append(float(loss.detach()))
        bar.update(int(done * 100) - bar.n)
        bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
    bar.close()
    return losses


# --- the whole recipe -------------------------------------------------------------------


class Vectoriser:
    """Unit vectors of token ids by a network that returns its last hidden state."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def __call__(self, ids: Sequence[Sequence[int]], *, tokens: int = 8192) -> FloatMatrix:
        """Shape (texts, dimension). Texts are padded in batches of equal length."""
        size = self.body.config.hidden_size
        out = np.zeros((len(ids), size), np.float32)
        by_length: dict[int, list[int]] = {length: [] for length in LENGTHS}
        for i, row in enumerate(ids):
            by_length[next(n for n in LENGTHS if n >= len(row))].append(i)
        bar = tqdm(total=len(ids), desc="encoding with the teacher", disable=None, delay=1)
        with torch.inference_mode(), bar:
            for length, members in by_length.items():
                step = max(1, tokens // length)
                for start in range(0, len(members), step):
                    batch = members[start : start + step]
                    x, mask = padded([ids[i] for i in batch], length)
                    state = self.body(input_ids=x, attention_mask=mask).last_hidden_state.float()
                    weight = mask.unsqueeze(-1).float()
                    mean = (state * weight).sum(1) / weight.sum(1)
                    out[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
                    bar.update(len(batch))
        return out


def recall_at_1(queries: FloatMatrix, targets: FloatMatrix) -> float:
    """How often a query's nearest target is its own; row i belongs to row i."""
    return float(np.mean((queries @ targets.T).argmax(1) == np.arange(len(queries))))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a distillation: losses by step, held-out recall@1 before and after."""

    losses: list[float]
    before: float
    after: float


def distill(
    sentences: Sequence[Pair],
    *,
    out: Path,
    teacher: Path,
    dictionary: Sequence[Pair] = (),
    documents: str = "",
    recipe: Recipe | None = None,
    hold_out: int = 200,
) -> Report:
    """Teach ``teacher``'s network the language of ``sentences`` and save it in ``out``.

    ``documents`` is the beginning of the origins whose lines are in document order; their
    neighbouring lines are joined to passages. The last ``hold_out`` sentences are kept
    from training and measured. ``out`` becomes a sentence-transformers folder with
    weights in float16.

    Raises:
        InputError: there are too few pairs, or the teacher has no WordPiece vocabulary.
    """
    from transformers import AutoModel

    recipe = recipe or Recipe()
    rng = random.Random(recipe.seed)
    torch.manual_seed(recipe.seed)
    ordered = [p for p in sentences if documents and p.origin.startswith(documents)]
    kept = clean(sentences, rng)
    rng.shuffle(kept)
    held, kept = kept[:hold_out], kept[hold_out:]
    if len(kept) < 100:
        raise InputError(f"{len(kept)} usable pairs: at least 100 beside the held-out ones needed")
    joined = windows(ordered, rng)

    old = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    if not isinstance(old.model, models.WordPiece):
        raise InputError(f"{teacher}: the teacher needs a WordPiece vocabulary")
    tokenizer = extend_vocabulary(old, (p.foreign for p in (*kept, *dictionary)), recipe.vocabulary)
    first_new, size = old.get_vocab_size(), tokenizer.get_vocab_size()
    options = {"dtype": torch.bfloat16, "attn_implementation": "eager"}
    frozen = AutoModel.from_pretrained(teacher, **options).eval()
    body = AutoModel.from_pretrained(teacher, **options).eval()
    table = body.embeddings.word_embeddings.weight.requires_grad_(False).float().numpy()
    new = sorted((i, piece) for piece, i in tokenizer.get_vocab().items() if i >= first_new)
    short = [p for p in kept if max(len(p.foreign), len(p.english)) < 200][:120_000]
    student = Student(
        body,
        table,
        initial_rows(
            table,
            first_new,
            size - first_new,
            translate_pieces(
                *aligned([*short, *dictionary], tokenizer, old),
            ),
            encoded(old, [piece.removeprefix("##") for _, piece in new], special=False),
        ),
    )

    def kind(pairs: Sequence[Pair], side: str) -> Texts:
        english = [p.english for p in pairs]
        return Texts(
            encoded(tokenizer, [getattr(p, side) for p in pairs]),
            encoded(old, english),
            np.asarray([row[text] for text in english], np.int64),
        )

    texts = list(dict.fromkeys(p.english for p in (*kept, *dictionary, *joined)))
    row = {text: i for i, text in enumerate(texts)}
    targets = Vectoriser(frozen)(encoded(old, texts)).astype(np.float16)
    once = list({p.english: p for p in kept}.values())
    kinds = {
        "sentences": kind(kept, "foreign"),
        "dictionary": kind(dictionary, "foreign"),
        "windows": kind(joined, "foreign"),
        "english": kind(once, "english"),
        "english windows": kind(joined, "english"),
    }
    wanted = Vectoriser(frozen)(encoded(old, [p.english for p in held]))
    asked = encoded(tokenizer, [p.foreign for p in held])
    before = recall_at_1(student.vectors(asked), wanted)
    losses = train(student, frozen, kinds, targets, recipe)
    after = recall_at_1(student.vectors(asked), wanted)
    save(student, tokenizer, teacher, out)
    return Report(losses, before, after)


def encoded(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
    """Token ids of each text, cut at the longest batch length."""
    return [
        e.ids[: LENGTHS[-1]]
        for e in tokenizer.encode_batch(list(texts), add_special_tokens=special)
    ]


def aligned(
    pairs: Sequence[Pair], foreign: Tokenizer, english: Tokenizer
) -> tuple[list[list[int]], list[list[int]]]:
    """Both sides of the pairs as ids without special tokens, empty ones left out."""
    f = encoded(foreign, [p.foreign for p in pairs], special=False)
    e = encoded(english, [p.english for p in pairs], special=False)
    both = [(a, b) for a, b in zip(f, e, strict=True) if a and b]
    return [a for a, _ in both], [b for _, b in both]


def save(student: Student, tokenizer: Tokenizer, teacher: Path, out: Path) -> None:
    """Write a sentence-transformers folder: the teacher's, with new weights and words.

    Weights are stored in float16; config.json says float32, so that they load as that.
    """
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    keep = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
    for name in (*keep, "tokenizer_config.json"):
        shutil.copy(teacher / name, out / name)
    shutil.copytree(teacher / "1_Pooling", out / "1_Pooling", dirs_exist_ok=True)
    weights = {k: v.to(torch.float16).contiguous() for k, v in student.body.state_dict().items()}
    weights["embeddings.word_embeddings.weight"] = student.rows().to(torch.float16)
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    config = json.loads((teacher / "config.json").read_text("utf-8"))
    config.pop("torch_dtype", None)
    config.update(vocab_size=tokenizer.get_vocab_size(), dtype="float32")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``python -m index.distill PAIRS ... --out FOLDER``."""
    parser = argparse.ArgumentParser(prog="python -m index.distill", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("pairs", nargs="+", type=Path, help="TSV (.gz): foreign, English[, origin]")
    parser.add_argument("--out", type=Path, required=True, help="the new model's folder")
    parser.add_argument("--teacher", type=Path, default=BUNDLED, help="a folder; default: bundled")
    parser.add_argument("--dictionary", type=Path, help="a Ding dictionary (de :: en)")
    parser.add_argument("--documents", default="", help="origins so beginning are in text order")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--vocabulary", type=int, default=28_000, help="word pieces to add")
    parser.add_argument("--hold-out", type=int, default=200, help="pairs kept for measuring")
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours: a trial")
    args = parser.parse_args(arguments)
    recipe = Recipe(minutes=args.minutes, vocabulary=args.vocabulary)
    if args.quick:
        recipe = QUICK
    try:
        report = distill(
            [pair for path in args.pairs for pair in read_pairs(path)],
            out=args.out,
            teacher=args.teacher,
            dictionary=read_dictionary(args.dictionary) if args.dictionary else (),
            documents=args.documents,
            recipe=recipe,
            hold_out=args.hold_out,
        )
    except (InputError, OSError) as error:
        sys.exit(f"index.distill: {error}")
    sys.stdout.write(
        f"steps {len(report.losses)}, loss {np.mean(report.losses[:10]):.3f} ->"
        f" {np.mean(report.losses[-10:]):.3f}; held-out recall@1 {report.before:.3f} ->"
        f" {report.after:.3f}; saved in {args.out}\n"
    )


QUICK = Recipe(steps=60, vocabulary=1000, batch_tokens=1024, bank=256, new_rate=3e-3)
"""A trial run of a minute or two, on a few hundred pairs."""


if __name__ == "__main__":
    main()

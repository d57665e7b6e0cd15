"""The recipe, its losses, and the loop."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from tqdm import tqdm

from index.distill.lessons import (
    Lesson,
    batches,
    drop_words,
    lesson_loss,
    read_lessons,
    right_first,
)
from index.distill.pairs import Pair, clean, windows
from index.distill.student import LENGTHS, Student, Vectoriser, padded, save
from index.distill.vocabulary import (
    aligned,
    encoded,
    extend_vocabulary,
    initial_rows,
    translate_pieces,
)
from index.errors import InputError
from index.vectors import FloatMatrix


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train. Shares are of the tokens seen; rates are peak learning rates.

    Training ends after ``minutes`` of wall clock, or after ``steps`` where that is not 0;
    the rates rise over ``warmup`` (a share of it) and fall to nothing at the end. Every
    ``lesson_every``-th step also learns from ``lesson_size`` lessons, with ``dropout`` of
    activations and of the questions' words.
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
        ("sentences", 0.36),
        ("questions", 0.07),
        ("dictionary", 0.05),
        ("windows", 0.23),
        ("english", 0.10),
        ("english questions", 0.04),
        ("english windows", 0.15),
    )
    lesson_every: int = 4
    lesson_size: int = 4
    dropout: float = 0.1
    seed: int = 0


QUICK = Recipe(steps=60, vocabulary=1000, batch_tokens=1024, bank=256, new_rate=3e-3)
"""A trial run of a minute or two, on a few hundred pairs."""


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


def train(
    student: Student,
    teacher: Any,
    kinds: dict[str, Texts],
    targets: NDArray[np.float16],
    recipe: Recipe,
    lessons: Sequence[Lesson] = (),
) -> list[float]:
    """Train the student; returns the distillation loss of every step."""
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
    courses = batches(lessons, recipe.lesson_size, rng)
    losses: list[float] = []
    learnt: list[float] = []
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
        losses.append(float(loss.detach()))
        if lessons and len(losses) % recipe.lesson_every == 0:
            student.set_dropout(recipe.dropout)
            course = [drop_words(x, recipe.dropout, rng) for x in next(courses)]
            lesson = lesson_loss(course, student.encode)
            student.set_dropout(0.0)
            learnt.append(float(lesson.detach()))
            loss = loss + lesson
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
        bar.update(int(done * 100) - bar.n)
        shown = {"loss": losses[-50:]} | ({"lessons": learnt[-12:]} if learnt else {})
        bar.set_postfix({k: f"{np.mean(v):.3f}" for k, v in shown.items()}, refresh=False)
    bar.close()
    return losses


def recall_at_1(queries: FloatMatrix, targets: FloatMatrix) -> float:
    """How often a query's nearest target is its own; row i belongs to row i."""
    return float(np.mean((queries @ targets.T).argmax(1) == np.arange(len(queries))))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a distillation.

    ``losses`` by step; recall@1 of held-out pairs, and how often the sentence that answers
    a question of the test lessons comes first, each before and after (None without any).
    """

    losses: list[float]
    recall: tuple[float, float]
    answered: tuple[float, float] | None = None


def distill(
    sentences: Sequence[Pair],
    *,
    out: Path,
    teacher: Path,
    resume: Path | None = None,
    dictionary: Sequence[Pair] = (),
    documents: str = "",
    lessons: Path | None = None,
    test_lessons: Path | None = None,
    recipe: Recipe | None = None,
    hold_out: int = 200,
) -> Report:
    """Teach ``teacher``'s network the language of ``sentences`` and save it in ``out``.

    ``documents`` is the beginning of the origins whose lines are in document order; their
    neighbouring lines are joined to passages. ``lessons`` is a folder of texts with
    questions (see index.distill.lessons). ``resume`` is a folder that an earlier
    distillation made from this teacher, to go on from. ``hold_out`` sentences are kept
    from training and measured. ``out`` becomes a sentence-transformers folder with
    weights in float16.

    Raises:
        InputError: there are too few pairs, or the teacher has no WordPiece vocabulary.
    """
    recipe = recipe or Recipe()
    rng = random.Random(recipe.seed)
    torch.manual_seed(recipe.seed)
    kept = clean(sentences, rng)
    rng.shuffle(kept)
    held, kept = kept[:hold_out], kept[hold_out:]
    unseen = set(held)
    ordered = [
        p for p in sentences if documents and p.origin.startswith(documents) and p not in unseen
    ]
    if len(kept) < 100:
        raise InputError(f"{len(kept)} usable pairs: at least 100 beside the held-out ones needed")
    joined = windows(ordered, rng)
    asking = [p for p in kept if p.english.endswith("?") and len(p.english.split()) >= 5]

    for folder in (teacher, resume or teacher):
        if not (folder / "tokenizer.json").is_file():
            raise InputError(f"{folder} is no folder of a sentence-transformers model")
    old = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    if not isinstance(old.model, models.WordPiece):
        raise InputError(f"{teacher}: the teacher needs a WordPiece vocabulary")
    old.no_padding()
    old.no_truncation()
    frozen = Vectoriser(network(teacher))
    if resume is None:
        tokenizer = extend_vocabulary(
            old, (p.foreign for p in (*kept, *dictionary)), recipe.vocabulary
        )
        student = new_student(teacher, old, tokenizer, [*kept, *dictionary])
    else:
        tokenizer = Tokenizer.from_file(str(resume / "tokenizer.json"))
        body = network(resume)
        table = body.embeddings.word_embeddings.weight.float().numpy()
        student = Student(body, *np.split(table, [old.get_vocab_size()]))

    texts = list(dict.fromkeys(p.english for p in (*kept, *dictionary, *joined)))
    row = {text: i for i, text in enumerate(texts)}

    def kind(pairs: Sequence[Pair], side: str) -> Texts:
        english = [p.english for p in pairs]
        return Texts(
            encoded(tokenizer, [getattr(p, side) for p in pairs]),
            encoded(old, english),
            np.asarray([row[text] for text in english], np.int64),
        )

    def once(pairs: Sequence[Pair]) -> list[Pair]:
        return list({p.english: p for p in pairs}.values())

    targets = frozen(encoded(old, texts)).astype(np.float16)
    kinds = {
        "sentences": kind(kept, "foreign"),
        "questions": kind(asking, "foreign"),
        "dictionary": kind(dictionary, "foreign"),
        "windows": kind(joined, "foreign"),
        "english": kind(once(kept), "english"),
        "english questions": kind(once(asking), "english"),
        "english windows": kind(joined, "english"),
    }
    learning = read_lessons(lessons, tokenizer) if lessons else []
    testing = read_lessons(test_lessons, tokenizer) if test_lessons else []
    wanted = frozen(encoded(old, [p.english for p in held]))
    asked = encoded(tokenizer, [p.foreign for p in held])

    def measured() -> tuple[float, float]:
        with torch.inference_mode():
            answered = right_first(testing, student.encode) if testing else 0.0
        return recall_at_1(student.vectors(asked), wanted), answered

    before = measured()
    losses = train(student, frozen.body, kinds, targets, recipe, learning)
    recall, answered = zip(before, measured(), strict=True)
    save(student, tokenizer, teacher, out)
    return Report(losses, recall, answered if testing else None)


def network(folder: Path) -> Any:
    """A model's network in bfloat16, its word table frozen: the student has its own."""
    from transformers import AutoModel

    found = AutoModel.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
    found.embeddings.word_embeddings.weight.requires_grad_(False)
    return found.eval()


def new_student(
    teacher: Path, old: Tokenizer, extended: Tokenizer, pairs: Sequence[Pair]
) -> Student:
    """The teacher's network with rows for the pieces that ``extended`` adds to ``old``."""
    body = network(teacher)
    table = body.embeddings.word_embeddings.weight.float().numpy()
    first, size = old.get_vocab_size(), extended.get_vocab_size()
    new = sorted((i, piece) for piece, i in extended.get_vocab().items() if i >= first)
    short = [p for p in pairs if max(len(p.foreign), len(p.english)) < 200]
    rows = initial_rows(
        table,
        first,
        size - first,
        translate_pieces(*aligned(short, extended, old)),
        encoded(old, [piece.removeprefix("##") for _, piece in new], special=False),
    )
    return Student(body, table, rows)

"""The recipe, its losses, and the loop."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from index.distill.lessons import (
    Lesson,
    batches,
    drop_words,
    finding_loss,
    lesson_loss,
    read_lessons,
    right_first,
)
from index.distill.pairs import Pair, clean, windows
from index.distill.student import Student, copy_frame, write_network
from index.distill.vocabulary import (
    aligned,
    encoded,
    extend_vocabulary,
    initial_rows,
    translate_pieces,
)
from index.embed import SentenceTransformerEncoder
from index.errors import InputError
from index.vectors import Encoding, FloatMatrix

LEAST = 100
"""So many pairs are needed beside those that are held out."""
ALIGNED = 120_000
"""So many sentence pairs are enough to see which pieces translate each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train. Shares are of the tokens seen; rates are peak learning rates.

    Training ends after ``minutes`` of wall clock, or after ``steps`` where that is not 0;
    the rates rise over ``warmup`` (a share of it) and fall to nothing at the end. ``added``
    word pieces make the vocabulary longer; then the word vectors learn at ``new_rate``. In a
    share ``english_steps`` of the steps the student also imitates the teacher on the English
    side, in ``token_steps`` of those with sentences token by token, and so many sentences
    are given to the teacher ``as_passages`` rather than as questions. Every
    ``lesson_every``-th step also learns from ``lesson_size`` lessons, with a share ``dropped``
    of the questions' words left out, and every ``finding_every``-th to find the passages of
    ``finding_size`` lessons. The result is ``blend`` of the way from the start to what was
    learnt.
    """

    minutes: float = 60.0
    steps: int = 0
    added: int = 28_000
    batch_tokens: int = 3072
    body_rate: float = 8e-5
    word_rate: float = 1e-4
    new_rate: float = 6e-4
    warmup: float = 0.04
    temperature: float = 0.02
    cosine_weight: float = 20.0
    english_steps: float = 0.4
    english_weight: float = 0.5
    token_steps: float = 0.5
    token_weight: float = 4.0
    as_passages: float = 0.3
    bank: int = 4096
    shares: tuple[tuple[str, float], ...] = (
        ("sentences", 0.33),
        ("questions", 0.07),
        ("dictionary", 0.06),
        ("windows", 0.54),
    )
    lesson_every: int = 3
    lesson_size: int = 4
    dropped: float = 0.1
    finding_every: int = 4
    finding_size: int = 28
    blend: float = 1.0
    seed: int = 0


QUICK = Recipe(
    steps=40, added=1000, batch_tokens=512, bank=256, body_rate=2e-4, new_rate=3e-3,
    lesson_size=2, finding_size=4,
)  # fmt: skip
"""A trial run of a minute or two, on a few hundred pairs."""


def streamed(pairs: Sequence[Pair], tokens: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Yield batches of pairs of about one length for ever, reshuffled at each pass.

    A batch has about ``tokens`` tokens a side; bytes tell how many a text has in any script.
    """

    def length(pair: Pair) -> int:
        return max(len(pair.foreign.encode()), len(pair.english.encode())) // 3 + 4

    while True:
        order = list(pairs)
        rng.shuffle(order)
        for start in range(0, len(order), 4096):
            ready: list[list[Pair]] = [[]]
            for pair in sorted(order[start : start + 4096], key=length):
                if ready[-1] and (len(ready[-1]) + 1) * length(pair) > tokens:
                    ready.append([])
                ready[-1].append(pair)
            rng.shuffle(ready)
            yield from ready


def imitation_loss(
    student: torch.Tensor, teacher: torch.Tensor, others: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    """Cosine distance to the teacher, plus KL between both rankings of other texts."""
    cosine = 1 - (student * teacher).sum(1).mean()
    wanted = torch.softmax(teacher @ others.T / recipe.temperature, dim=1)
    ranked = torch.log_softmax(student @ others.T / recipe.temperature, dim=1)
    ranking = torch.nn.functional.kl_div(ranked, wanted, reduction="batchmean")
    return recipe.cosine_weight * cosine + ranking


def token_loss(
    student: torch.Tensor, mask: torch.Tensor, teacher: Sequence[Encoding]
) -> torch.Tensor:
    """One minus the mean over the teacher's tokens of the best cosine with a student's token.

    This is ColBERT's MaxSim (Khattab & Zaharia 2020) between translations: it keeps the
    token vectors of both languages in one space, which late interaction needs.
    """
    a = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(encoding.tokens) for encoding in teacher], batch_first=True
    )
    b = torch.nn.functional.normalize(student, dim=-1)
    best = (a @ b.transpose(1, 2)).masked_fill(mask[:, None, :] == 0, -1).amax(2)
    sizes = torch.tensor([len(encoding.tokens) for encoding in teacher])
    inside = torch.arange(a.shape[1]) < sizes[:, None]
    return 1 - ((best * inside).sum(1) / sizes.clamp(min=1)).mean()


def train(
    student: Student,
    teacher: SentenceTransformerEncoder,
    kinds: Mapping[str, Sequence[Pair]],
    recipe: Recipe,
    lessons: Sequence[Lesson] = (),
) -> list[float]:
    """Train the student; returns every step's loss of imitation on the foreign side."""
    rng = random.Random(recipe.seed)
    body = list(student.wide.values())
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            body, lr=recipe.body_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        ),
        torch.optim.SparseAdam(
            [student.words.weight], lr=recipe.new_rate if recipe.added else recipe.word_rate
        ),
    ]
    peaks = [[g["lr"] for g in o.param_groups] for o in optimizers]
    shares = [(kind, share) for kind, share in recipe.shares if kinds.get(kind)]
    streams = {kind: streamed(kinds[kind], recipe.batch_tokens, rng) for kind, _ in shares}
    seen = {kind: 0.0 for kind, _ in shares}
    courses = batches(lessons, recipe.lesson_size, rng)
    mixed = batches(lessons, recipe.finding_size, rng)
    banks = {asked: torch.zeros(0, teacher.dimension) for asked in (True, False)}
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
        kind = min(shares, key=lambda share: seen[share[0]] / share[1])[0]  # the one most behind
        pairs = next(streams[kind])
        sentences = kind == "sentences"
        asked = kind != "windows" and not (sentences and rng.random() < recipe.as_passages)
        taught = teacher.encode([pair.english for pair in pairs], question=asked)
        wanted = torch.from_numpy(np.stack([encoding.vector for encoding in taught]))
        others = torch.cat([wanted, banks[asked]])
        banks[asked] = others[: recipe.bank]
        vectors, tokens, mask = student.encode(student.ids([pair.foreign for pair in pairs]))
        seen[kind] += mask.numel()
        loss = imitation_loss(vectors, wanted, others, recipe)
        losses.append(float(loss.detach()))
        if rng.random() < recipe.english_steps:
            english, _, _ = student.encode(student.ids([pair.english for pair in pairs]))
            own = imitation_loss(english, wanted, others, recipe)
            loss = loss + recipe.english_weight * own
        if sentences and rng.random() < recipe.token_steps:
            loss = loss + recipe.token_weight * token_loss(tokens, mask, taught)
        if lessons and len(losses) % recipe.lesson_every == 0:
            course = [drop_words(lesson, recipe.dropped, rng) for lesson in next(courses)]
            lesson = lesson_loss(course, student.encode)
            learnt.append(float(lesson.detach()))
            loss = loss + lesson
        if lessons and len(losses) % recipe.finding_every == 0:
            finding = finding_loss(next(mixed), student.encode, rng)
            loss = loss if finding is None else loss + finding
        loss.backward()  # type: ignore[no-untyped-call]
        student.gather()
        torch.nn.utils.clip_grad_norm_(body, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        student.spread()
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
    start: Path | None = None,
    dictionary: Sequence[Pair] = (),
    documents: str = "",
    lessons: Sequence[Path] = (),
    test_lessons: Sequence[Path] = (),
    recipe: Recipe | None = None,
    hold_out: int = 200,
) -> Report:
    """Teach the network in ``start``, by default the teacher's own, and save it in ``out``.

    It learns to give both sides of ``sentences`` and ``dictionary`` the vector that the
    teacher, with its prompts, gives the English one. ``documents`` is the beginning of the
    origins whose lines are in document order; their neighbouring lines are joined to
    passages. ``lessons`` are folders of texts with questions (see index.distill.lessons).
    ``hold_out`` sentences are kept from training and measured. ``out`` becomes a
    sentence-transformers folder without prompts, with weights in float16.

    Raises:
        InputError: there are too few pairs, or a model is not of the kind that is needed.
        ModelError: the teacher cannot be loaded.
    """
    if hold_out < 1:
        raise InputError(f"{hold_out} pairs held out: at least one is needed, to measure")
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
    if len(kept) < LEAST:
        raise InputError(
            f"{len(sentences)} pairs, {len(held) + len(kept)} of them usable (none twice, and the"
            f" two sides of like length): at least {LEAST} beside the {hold_out} held out needed"
        )
    if not teacher.is_dir():
        raise InputError(f"{teacher} is no folder of a sentence-transformers model")
    student = Student(start or teacher)
    model = SentenceTransformerEncoder(teacher)
    if model.dimension != student.words.embedding_dim:
        raise InputError(
            f"{start}: vectors of {student.words.embedding_dim} dimensions, the teacher's have"
            f" {model.dimension}"
        )
    if recipe.added:
        extend(student, kept, dictionary, recipe.added)
    kinds = {
        "sentences": kept,
        "questions": [p for p in kept if p.english.endswith("?") and len(p.english.split()) >= 5],
        "dictionary": dictionary,
        "windows": windows(ordered, rng),
    }
    learning = read_lessons(lessons, student.tokenizer)
    testing = read_lessons(test_lessons, student.tokenizer)
    copy_frame(start or teacher, out)  # now: it may fail
    wanted = model.questions([pair.english for pair in held])

    def measured() -> tuple[float, float]:
        with torch.inference_mode():
            answered = right_first(testing, student.encode) if testing else 0.0
        return recall_at_1(student.vectors([pair.foreign for pair in held]), wanted), answered

    before = measured()
    first = {name: weight.clone() for name, weight in student.weights().items()}
    losses = train(student, model, kinds, recipe, learning)
    student.blend(first, recipe.blend)
    recall, answered = zip(before, measured(), strict=True)
    write_network(out, student.weights(), student.body.config, student.tokenizer)
    return Report(losses, recall, answered if testing else None)


def extend(
    student: Student, sentences: Sequence[Pair], dictionary: Sequence[Pair], size: int
) -> None:
    """Add word pieces of the foreign side, with vectors of the English ones they translate."""
    old = student.tokenizer
    new = extend_vocabulary(old, (p.foreign for p in (*sentences, *dictionary)), size)
    first = old.get_vocab_size()
    added = [str(new.id_to_token(i)) for i in range(first, new.get_vocab_size())]
    if not added:
        return
    short = [p for p in sentences if max(len(p.foreign), len(p.english)) < 200][:ALIGNED]
    table = student.words.weight.detach()
    rows = initial_rows(
        table.numpy(),
        first,
        len(added),
        translate_pieces(*aligned([*short, *dictionary], new, old)),
        encoded(old, [piece.replace("▁", " ").strip() for piece in added], special=False),
    )
    student.tokenizer = new
    student.set_table(torch.cat([table, torch.from_numpy(rows)]))

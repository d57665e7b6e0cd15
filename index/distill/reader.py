"""Teach the reader (index.reader) from texts with questions.

    python -m index.distill.reader LESSONS ... --out reader.safetensors [--test FOLDER]

The folders are as index.distill.lessons reads them. Each question is read with two passages:
one that answers it, where there is one, and one that does not, of the same text or of another
that looks as if it did. What is learnt is which sentence of both answers, or that none does
(one softmax for both: Clark & Gardner 2018, "Simple and Effective Multi-Paragraph Reading
Comprehension"), and the span of the answer. What is trained are low-rank changes of the
encoder's upper layers, or with ``--whole`` all of their weights. A GPU is used where there is one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from index.distill.lessons import WINDOW, answering, read_texts, story
from index.embed import SentenceTransformerEncoder, fast_dtype
from index.errors import BelegError, InputError
from index.late import sentence_of_tokens
from index.reader import QUESTION_TOKENS, joined, run, scores, states_of, upper_half
from index.split import passages as split
from index.types import Passage
from index.vectors import Encoding

RANK = 32
MEASURED = 8
"""Questions that are measured at once."""
TOLD = 50
"""Steps between two looks at the loss."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if torch.cuda.is_available() else fast_dtype()


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to teach. Each of ``batch`` questions is read with ``pages`` passages; ``both`` is the
    share of answerable ones for which the first of them answers; the next is of the same text
    for ``own`` of them. ``whole``: all weights are trained, not low-rank changes. Rates are
    peaks; so is ``whole_rate``, that of the encoder's own weights."""

    minutes: float = 45.0
    steps: int = 0
    batch: int = 10
    pages: int = 2
    whole: bool = False
    rate: float = 6e-4
    whole_rate: float = 1e-4
    head_rate: float = 1e-3
    both: float = 0.9
    own: float = 0.7
    hard: int = 12
    span_weight: float = 0.4
    dropout: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A passage with its encoding, and the sentence of each of its tokens."""

    passage: Passage
    encoding: Encoding
    states: torch.Tensor
    sentences: NDArray[np.int64]
    text: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its encoding; by page, which sentences answer and the tokens that do."""

    encoding: Encoding
    states: torch.Tensor
    text: int
    right: dict[int, tuple[NDArray[np.bool_], tuple[int, int] | None]]


class LowRank(nn.Module):
    """A frozen linear layer with a trained change of low rank (Hu et al. 2021, "LoRA")."""

    def __init__(self, base: nn.Linear, rank: int, dropout: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.dropout(x @ self.a.T.to(x.dtype))
        return self.base(x) + inner @ self.b.T.to(x.dtype)  # type: ignore[no-any-return]


class Masters:
    """Weights in float32 of those that are taught in ``DTYPE``: in bfloat16 small steps would not
    move them (Micikevicius et al. 2018, "Mixed Precision Training")."""

    def __init__(self, taught: Sequence[nn.Parameter]) -> None:
        self._taught = taught
        self.weights = [nn.Parameter(p.detach().float()) for p in taught]

    def take_gradients(self) -> None:
        for master, p in zip(self.weights, self._taught, strict=True):
            master.grad = None if p.grad is None else p.grad.float()
            p.grad = None

    @torch.no_grad()
    def give_weights(self) -> None:
        for master, p in zip(self.weights, self._taught, strict=True):
            p.copy_(master)


class Pupil(nn.Module):
    """The encoder's upper layers, to be changed, and the reader's heads."""

    def __init__(self, layers: nn.ModuleList, size: int, dropout: float, *, whole: bool) -> None:
        super().__init__()
        self.layers = layers.to(DTYPE)
        for module in layers.modules():
            if isinstance(module, nn.Dropout):
                # Slow in bfloat16 on processors; low-rank changes have their own.
                module.p = dropout if whole else 0.0
        if not whole:
            for name, module in list(layers.named_modules()):
                if isinstance(module, nn.Linear):
                    parent = layers.get_submodule(name.rpartition(".")[0])
                    setattr(parent, name.rpartition(".")[2], LowRank(module, RANK, dropout))
        for name, parameter in layers.named_parameters():
            parameter.requires_grad_(whole or name.endswith((".a", ".b")))
        self.heads = nn.ParameterDict(
            {
                "null": nn.Parameter(torch.zeros(size)),
                "mean": nn.Parameter(torch.randn(size) * 0.02),
                "token": nn.Parameter(torch.randn(size) * 0.02),
                "span": nn.Parameter(torch.randn(size, 2) * 0.02),
            }
        )
        self.begin = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(size)) for name in ("none", "question", "passage")}
        )

    def forward(
        self, pairs: Sequence[tuple[Asked, Page]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sentence scores (see index.reader.scores), scores of tokens to begin and to end the
        answer, (pairs, tokens, 2), which only help to learn, and where each token is."""
        x, mask, where = joined(
            [question.states[:QUESTION_TOKENS] for question, _ in pairs],
            [page.states for _, page in pairs],
            [page.sentences for _, page in pairs],
            dict(self.begin),
        )
        count = max(1, *(int(page.sentences.max(initial=-1)) + 1 for _, page in pairs))
        states = run(self.layers, x, mask)
        found = scores(states, where, count, dict(self.heads))
        return found, states[:, 1:] @ self.heads["span"], where

    def go_on_from(self, held: dict[str, torch.Tensor]) -> None:
        """Take up what an earlier run saved, as far as it is this one's to change."""
        with torch.no_grad():
            for name, mine in self.named().items():
                if name in held:
                    mine.copy_(held[name])

    def named(self) -> dict[str, nn.Parameter]:
        """All that is taught, by the name that it is saved under."""
        taught = {n: p for n, p in self.layers.named_parameters() if p.requires_grad}
        low = {f"{n[:-2]}.weight{n[-2:]}": p for n, p in taught.items() if n.endswith((".a", ".b"))}
        return {**self.heads, **self.begin, **(low or taught)}

    def weights(self) -> dict[str, torch.Tensor]:
        """The same in float16, as index.reader.Reader loads it."""
        return {
            k: v.detach().to("cpu", torch.float16).contiguous() for k, v in self.named().items()
        }


def material(
    folders: Sequence[Path], encoder: SentenceTransformerEncoder
) -> tuple[list[Page], list[Asked]]:
    """Every text's passages and questions, encoded.

    Raises:
        InputError: a folder holds no texts with questions, or no text any answer.
    """
    pages: list[Page] = []
    questions: list[tuple[int, dict[str, Any]]] = []
    of_text: dict[int, list[int]] = {}
    parts: list[tuple[int, Passage]] = []
    texts = [found for folder in folders for found in read_texts(folder)]
    for number, (document, rows) in enumerate(texts):
        found = split(document, window=WINDOW, count_tokens=encoder.count_tokens)
        of_text[number] = list(range(len(parts), len(parts) + len(found)))
        parts += [(number, passage) for passage in found]
        questions += [(number, row) for row in rows]
    for (number, passage), encoding in zip(
        parts, encoder.encode([p.text for _, p in parts]), strict=True
    ):
        of = sentence_of_tokens(passage, encoding)
        pages.append(Page(passage, light(encoding), on_device(encoding), of, number))
    texts_asked = list(dict.fromkeys(row["question"] for _, row in questions))
    encoded = encoder.encode(texts_asked, question=True)  # of a text and its translation once
    known = dict(zip(texts_asked, map(light, encoded), strict=True))
    states = {text: on_device(encoding) for text, encoding in known.items()}
    asked = []
    for number, row in questions:
        right = {p: answers_on(pages[p], row) for p in of_text[number]}
        right = {p: (here, span) for p, (here, span) in right.items() if here.any()}
        if not row["answers"] or right:
            encoding = known[row["question"]]
            asked.append(Asked(encoding, states[row["question"]], number, right))
    if not asked:
        raise InputError(f"no sentence holds any answer in {', '.join(map(str, folders))}")
    return pages, asked


def light(encoding: Encoding) -> Encoding:
    """Without its token vectors, which the reader has no use for and which fill the memory."""
    return replace(encoding, tokens=encoding.tokens[:0])


def on_device(encoding: Encoding) -> torch.Tensor:
    """The states half-way up, (tokens, dimension), where they are taught on."""
    return states_of(encoding).to(DEVICE)


def answers_on(page: Page, row: dict[str, Any]) -> tuple[NDArray[np.bool_], tuple[int, int] | None]:
    """Which sentences of a page answer, and the first and last token of the answer."""
    text, start = page.passage.text, page.passage.start
    spans = [(span.start - start, span.end - start) for span in page.passage.sentences]
    here = np.asarray(answering(row, [text[a:b] for a, b in spans]), np.bool_)
    tokens = None
    # The first answer named is the one to mark: others may tell what it is the reason of.
    for answer, i in product(reversed(row["answers"]), np.flatnonzero(here)):
        if (at := text.find(answer, *spans[i])) >= 0:
            offsets = page.encoding.offsets
            inside = np.flatnonzero((offsets[:, 1] > at) & (offsets[:, 0] < at + len(answer)))
            if len(inside):
                tokens = (int(inside[0]), int(inside[-1]))
    return here, tokens


def lookalikes(pages: Sequence[Page], asked: Sequence[Asked], k: int) -> NDArray[np.int64]:
    """For each question the ``k`` pages nearest to it, (questions, k)."""
    of_pages, of_questions = (
        torch.from_numpy(np.stack([one.encoding.vector for one in some])).to(DEVICE)
        for some in (pages, asked)
    )
    k = min(k, len(pages))
    found = [
        (some @ of_pages.T).topk(k, sorted=False).indices
        for some in torch.split(of_questions, 1024)
    ]
    return torch.cat(found).cpu().numpy()


def same_story(pages: Sequence[Page], a: int, b: int) -> bool:
    """Whether two pages are of one text or of its translation."""
    return story(pages[a].passage.document) == story(pages[b].passage.document)


def examples(
    pages: Sequence[Page], asked: Sequence[Asked], recipe: Recipe, rng: random.Random
) -> Iterator[list[tuple[Asked, tuple[int, ...]]]]:
    """Yield batches of questions with pages to read, of about one length, for ever."""
    near = lookalikes(pages, asked, recipe.hard)
    of_text: dict[int, list[int]] = {}
    for number, page in enumerate(pages):
        of_text.setdefault(page.text, []).append(number)
    while True:
        order = list(range(len(asked)))
        rng.shuffle(order)
        for start in range(0, len(order), recipe.batch * 16):
            chosen = []
            for i in order[start : start + recipe.batch * 16]:
                question, own = asked[i], of_text[asked[i].text]
                wrong = [p for p in own if p not in question.right]
                foreign = [int(p) for p in near[i] if not same_story(pages, int(p), own[0])]
                rng.shuffle(wrong)
                wrong.sort(
                    key=lambda p: (
                        float(pages[p].encoding.vector @ question.encoding.vector)
                        + rng.gauss(0, 0.03)
                    )
                )
                rng.shuffle(foreign)
                some = (wrong, foreign) if rng.random() < recipe.own else (foreign, wrong)
                pool = [*some[1], *some[0]] or list(own)
                read = []
                if question.right and rng.random() < recipe.both:
                    read.append(rng.choice(list(question.right)))
                while len(read) < recipe.pages:
                    read.append(pool.pop() if pool else read[-1])
                chosen.append((question, tuple(read)))
            chosen.sort(key=lambda c: max(len(pages[p].encoding.offsets) for p in c[1]))
            batches = [chosen[b : b + recipe.batch] for b in range(0, len(chosen), recipe.batch)]
            rng.shuffle(batches)
            yield from batches


def loss_of(
    pupil: Pupil,
    pages: Sequence[Page],
    batch: Sequence[tuple[Asked, tuple[int, ...]]],
    recipe: Recipe,
) -> torch.Tensor:
    """Cross-entropy of the sentences that answer and "none", and of the answer's two ends."""
    flat = [(asked, page) for asked, read in batch for page in read]
    found, spans, where = pupil([(asked, pages[page]) for asked, page in flat])
    right = torch.zeros(found.shape, dtype=torch.bool)
    ends, rows = [], []
    for i, (asked, page) in enumerate(flat):
        here, tokens = asked.right.get(page, (None, None))
        if here is None:
            continue
        right[i, : len(here)] = torch.from_numpy(here)
        if tokens is not None:
            first = min(len(asked.encoding.offsets), QUESTION_TOKENS)
            ends.append((first + tokens[0], first + tokens[1]))
            rows.append(i)
    right = right.to(found.device) & (found > -torch.inf)  # a sentence may be cut off
    found, right = found.view(len(batch), -1), right.view(len(batch), -1)
    none = torch.zeros(len(batch), 1, device=found.device)
    logits = torch.cat([none, found], 1)
    right = torch.cat([~right.any(1, keepdim=True), right], 1)
    among = logits.masked_fill(~right, -torch.inf)
    loss = (logits.logsumexp(1) - among.logsumexp(1)).mean()
    if rows:
        marks = spans[rows].masked_fill((where[rows] < 0).unsqueeze(-1), -1e4)
        target = torch.tensor(ends, device=found.device)
        loss = loss + recipe.span_weight * (
            functional.cross_entropy(marks[..., 0], target[:, 0])
            + functional.cross_entropy(marks[..., 1], target[:, 1])
        )
    return loss


@torch.inference_mode()
def measured(pupil: Pupil, pages: Sequence[Page], asked: Sequence[Asked]) -> dict[str, float]:
    """Over each question's own text: how often a right sentence is first, and the AUROC of
    the best score between questions that are answered and those that are not."""
    pupil.eval()
    of_text: dict[int, list[int]] = {}
    for number, page in enumerate(pages):
        of_text.setdefault(page.text, []).append(number)
    first: list[bool] = []
    best: list[float] = []
    known: list[bool] = []
    for start in range(0, len(asked), MEASURED):
        some = asked[start : start + MEASURED]
        flat = [(question, pages[p]) for question in some for p in of_text[question.text]]
        all_found = iter(pupil(flat)[0].cpu())
        for question in some:
            own = of_text[question.text]
            found = torch.stack([next(all_found) for _ in own])
            row, sentence = divmod(int(found.argmax()), found.shape[1])
            best.append(float(found.max()))
            known.append(bool(question.right))
            if question.right:
                here = question.right.get(own[row])
                first.append(bool(here is not None and here[0][sentence]))
    pupil.train()
    return {
        "answering sentence first": float(np.mean(first)),
        "AUROC": float(roc_auc_score(known, best)) if 0 < sum(known) < len(known) else 0.0,
    }


def teach(
    folders: Sequence[Path],
    out: Path,
    *,
    encoder: SentenceTransformerEncoder,
    test: Sequence[Path] = (),
    resume: Path | None = None,
    recipe: Recipe | None = None,
    every: float = 0,
) -> list[float]:
    """Teach a reader and save it in ``out``; returns the loss of every step.

    ``resume`` is a file that an earlier run saved. ``test`` are folders that are only measured
    on, at the end and every ``every`` seconds.

    Raises:
        InputError: ``out`` is a folder, the folders are not such as ``material`` needs, or the
            loss is no number any more.
    """
    from safetensors.torch import load_file, save_file

    if out.is_dir():
        raise InputError(f"{out} is a folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe = recipe or Recipe()
    rng = random.Random(recipe.seed)
    torch.manual_seed(recipe.seed)
    pages, asked = material(folders, encoder)
    unseen = material(test, encoder) if test else None
    held = load_file(resume) if resume else {}
    layers = upper_half(encoder.network.encoder.layer, held if recipe.whole else {})
    pupil = Pupil(layers, encoder.dimension, recipe.dropout, whole=recipe.whole).train()
    pupil.go_on_from(held)
    pupil.to(DEVICE)
    masters = Masters([p for p in pupil.layers.parameters() if p.requires_grad])
    rest = [*pupil.heads.values(), *pupil.begin.values()]
    rate = recipe.whole_rate if recipe.whole else recipe.rate
    optimizer = torch.optim.AdamW(
        [{"params": masters.weights, "lr": rate}, {"params": rest, "lr": recipe.head_rate}],
        weight_decay=0.01,
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    stream = examples(pages, asked, recipe, rng)
    losses: list[torch.Tensor] = []  # read now and then: a GPU need not wait for us
    began = told = time.monotonic()
    bar = tqdm(total=100, unit="%", disable=None, desc="reading")
    while True:
        passed = time.monotonic() - began
        done = len(losses) / recipe.steps if recipe.steps else passed / (recipe.minutes * 60)
        if done >= 1:
            break
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * min((done + 1e-3) / 0.05, 1.0) * (1 - done)
        loss = loss_of(pupil, pages, next(stream), recipe)
        loss.backward()  # type: ignore[no-untyped-call]
        masters.take_gradients()
        nn.utils.clip_grad_norm_([*masters.weights, *rest], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        masters.give_weights()
        losses.append(loss.detach())
        if len(losses) % TOLD == 0:
            recent = float(torch.stack(losses[-TOLD:]).mean())
            if not np.isfinite(recent):
                raise InputError("the loss is no number any more: try a lower --rate")
            bar.set_postfix(loss=f"{recent:.3f}", refresh=False)
        bar.update(int(done * 100) - bar.n)
        if every and unseen and time.monotonic() - told > every:
            report = {k: round(v, 3) for k, v in measured(pupil, *unseen).items()}
            recent = float(torch.stack(losses[-TOLD:]).mean())
            line = f"step {len(losses)}, {passed:.0f} s, loss {recent:.3f}, {report}"
            tqdm.write(line, file=sys.stderr)
            save_file(pupil.weights(), out)
            told = time.monotonic()
    bar.close()
    save_file(pupil.weights(), out)
    if unseen:
        report = {k: round(v, 3) for k, v in measured(pupil, *unseen).items()}
        tqdm.write(f"held out: {report}", file=sys.stderr)
    return torch.stack(losses).tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``python -m index.distill.reader LESSONS ... --out FILE``."""
    parser = argparse.ArgumentParser(
        prog="python -m index.distill.reader", description=__doc__.splitlines()[0]
    )
    parser.add_argument("lessons", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", nargs="*", type=Path, default=[])
    parser.add_argument("--encoder", type=Path, help="a folder; default: the bundled one")
    parser.add_argument("--resume", type=Path, help="go on from this earlier --out")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--rate", type=float, default=1.0, help="times the usual rates")
    parser.add_argument("--whole", action="store_true", help="train all weights of the layers")
    parser.add_argument("--batch", type=int, default=Recipe().batch, help="questions at a time")
    parser.add_argument("--pages", type=int, default=Recipe().pages, help="passages a question")
    parser.add_argument("--dropout", type=float, default=Recipe().dropout)
    args = parser.parse_args(arguments)
    encoder = SentenceTransformerEncoder(args.encoder, halfway=True)
    try:
        losses = teach(
            args.lessons,
            args.out,
            encoder=encoder,
            test=args.test,
            resume=args.resume,
            recipe=Recipe(
                minutes=args.minutes,
                batch=args.batch,
                pages=args.pages,
                whole=args.whole,
                dropout=args.dropout,
                rate=Recipe().rate * args.rate,
                whole_rate=Recipe().whole_rate * args.rate,
                head_rate=Recipe().head_rate * args.rate,
            ),
            every=400,
        )
    except (BelegError, OSError) as error:
        parser.exit(2, f"index.distill.reader: {error}\n")
    sys.stdout.write(f"{len(losses)} steps, loss {np.mean(losses[-100:]):.3f}\n")


if __name__ == "__main__":
    main()

"""Which sentences answer a question: texts with questions, and the loss over them.

The material is a folder of texts (``NAME.LANG.txt``) with questions in any language
(``NAME.questions.LANG.jsonl``, as ``beleg eval`` reads them; unanswerable ones count too).
A text is a lesson: all of its passages and all of its questions are encoded at once, and
each question learns, from all sentences of the text, to prefer those that hold an answer:
by late interaction (Khattab & Zaharia 2020, ColBERT), by the sentence's mean token vector,
and, among the passages of all lessons of the batch, by the passage's vector (InfoNCE: van
den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"). Where
nothing answers, the best late interaction is to stay low. Besides, one question each of
many texts learns to find its passage among theirs (``finding_loss``).

A text and its translation, which are no wrong answers to each other's questions, are told by
their names: NAME-de.de.txt and NAME-en.en.txt.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.nn import functional

from index.errors import InputError
from index.split import passages as split
from index.types import Document

WINDOW = 254
LATE, MEAN, PASSAGE, FINDING = 40.0, 40.0, 50.0, 40.0
"""What the cosines of late interaction, of mean vectors and of passages are multiplied by, for
a model whose cosines all lie between 0.7 and 1, as e5's do."""
MEAN_WEIGHT, PASSAGE_WEIGHT, SILENCE_WEIGHT = 0.5, 0.3, 0.3
SILENCE = (20.0, 0.62)
"""Slope and middle of the logistic curve from the best late interaction to "it answers"."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One text's passages and questions, as token ids.

    ``sentence`` gives, for each token of each passage, the number of its sentence in the
    text, -1 for special tokens; ``right`` tells which sentences answer which question,
    (questions, sentences); ``holds`` which passages hold them, (questions, passages);
    ``story`` is common to the text and its translations.
    """

    passages: list[list[int]]
    sentence: list[NDArray[np.int64]]
    questions: list[list[int]]
    right: NDArray[np.bool_]
    holds: NDArray[np.bool_]
    story: str


def read_lessons(folders: Sequence[Path], tokenizer: Tokenizer) -> list[Lesson]:
    """Every text of the folders and their subfolders that has questions beside it.

    Questions whose answer goes over the end of a sentence are left out.

    Raises:
        InputError: a folder has none, or an answer is not in its text.
    """
    found = [
        _lesson(document, rows, tokenizer)
        for folder in folders
        for document, rows in read_texts(folder)
    ]
    return [lesson for lesson in found if lesson.questions]


def read_texts(folder: Path) -> list[tuple[Document, list[dict[str, Any]]]]:
    """The texts themselves, each with its questions as they stand in the files.

    Raises:
        InputError: there is none.
    """
    found = []
    for path in sorted(folder.rglob("*.txt")):
        name, language = path.name.split(".")[0], path.name.split(".")[-2]
        files = sorted(path.parent.glob(f"{name}.questions.*.jsonl"))
        rows = [row for file in files for row in _rows(file)]
        text = path.read_text("utf-8")
        if rows and text.strip():
            found.append((Document(text, path.name, name, language), rows))
    if not found:
        raise InputError(f"{folder}: no NAME.LANG.txt with NAME.questions.LANG.jsonl beside it")
    return found


def story(document: Document) -> str:
    """What a text's name has in common with those of its translations."""
    return document.title.removesuffix(f"-{document.language}")


def _rows(file: Path) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            found.append({"answers": [], **row, "question": str(row["question"])})
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{file}:{number}: a JSON object with a question expected") from None
    return found


def _lesson(document: Document, rows: Sequence[dict[str, Any]], tokenizer: Tokenizer) -> Lesson:
    def count(texts: Sequence[str]) -> list[int]:
        found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in found]

    passages = split(document, window=WINDOW, count_tokens=count)
    ids: list[list[int]] = []
    sentence: list[NDArray[np.int64]] = []
    texts: list[str] = []
    first = [0]
    for passage, encoding in zip(
        passages, tokenizer.encode_batch([p.text for p in passages]), strict=True
    ):
        of = np.full(len(encoding.ids), -1, np.int64)
        for span in passage.sentences:
            for i, (a, b) in enumerate(encoding.offsets):
                if a < b and span.start < b + passage.start <= span.end:  # may begin at a space
                    of[i] = len(texts)
            texts.append(document.text[span.start : span.end])
        ids.append(encoding.ids[: WINDOW + 2])
        sentence.append(of[: WINDOW + 2])
        first.append(len(texts))
    for row in rows:
        if row["answers"] and not any(answer in document.text for answer in row["answers"]):
            raise InputError(f"{document.source}: the text holds no answer of {row.get('id')}")
    marked = [(row, answering(row, texts)) for row in rows]
    marked = [(row, found) for row, found in marked if any(found) or not row["answers"]]
    right = np.asarray([found for _, found in marked], np.bool_).reshape(-1, len(texts))
    holds = np.stack([right[:, a:b].any(1) for a, b in pairwise(first)], 1)
    questions = [tokenizer.encode(row["question"]).ids[:64] for row, _ in marked]
    return Lesson(ids, sentence, questions, right, holds, story(document))


def answering(row: dict[str, Any], texts: Sequence[str]) -> list[bool]:
    """Which sentences hold an answer: those of the row's own ``sentence`` where it names one."""
    named = row.get("sentence") or ""
    return [
        any(answer in text for answer in row["answers"])
        and (not named or text in named or named in text)
        for text in texts
    ]


def batches(lessons: Sequence[Lesson], size: int, rng: random.Random) -> Iterator[list[Lesson]]:
    """Yield lessons ``size`` at a time for ever, reshuffled at each pass."""
    while True:
        order = list(lessons)
        rng.shuffle(order)
        for start in range(0, max(1, len(order) - size + 1), size):
            yield order[start : start + size]


def drop_words(lesson: Lesson, share: float, rng: random.Random) -> Lesson:
    """The lesson with a share of the tokens of its longer questions left out."""

    def fewer(ids: list[int]) -> list[int]:
        inner = ids[1:-1]
        return [ids[0], *(token for token in inner if rng.random() >= share), ids[-1]]

    return replace(lesson, questions=[fewer(q) if len(q) >= 8 else q for q in lesson.questions])


Encode = Callable[[Sequence[Sequence[int]]], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Token ids to unit vectors (texts, dimension), token vectors, and the mask of the latter."""


def lesson_loss(lessons: Sequence[Lesson], encode: Encode) -> torch.Tensor:
    """The mean over the lessons' questions of what this module's docstring describes."""
    passage_vectors, passage_tokens, _ = encode([p for x in lessons for p in x.passages])
    vectors, tokens, mask = without_special(*encode([q for x in lessons for q in x.questions]))
    everywhere = vectors @ passage_vectors.T * PASSAGE
    losses: list[torch.Tensor] = []
    p = q = 0
    for lesson in lessons:
        ps = slice(p, p := p + len(lesson.passages))
        qs = slice(q, q := q + len(lesson.questions))
        late, mean = sentence_scores(vectors[qs], tokens[qs], mask[qs], passage_tokens[ps], lesson)
        right = torch.from_numpy(lesson.right)
        known = right.any(1)
        slope, middle = SILENCE
        losses.append(
            SILENCE_WEIGHT
            * functional.binary_cross_entropy_with_logits(
                slope * (late.amax(1) - middle), known.float()
            )
        )
        if known.any():
            holds = torch.zeros(len(right), everywhere.shape[1], dtype=torch.bool)
            holds[:, ps] = torch.from_numpy(lesson.holds)
            losses[-1] = (
                losses[-1]
                + choose(late[known] * LATE, right[known])
                + MEAN_WEIGHT * choose(mean[known] * MEAN, right[known])
                + PASSAGE_WEIGHT * choose(everywhere[qs][known], holds[known])
            )
    return torch.stack(losses).mean()


def finding_loss(
    lessons: Sequence[Lesson], encode: Encode, rng: random.Random
) -> torch.Tensor | None:
    """InfoNCE between a question of each story and a passage that answers it, both ways.

    None where fewer than two stories have any.
    """
    drawn: dict[str, tuple[list[int], list[int]]] = {}
    for lesson in lessons:
        pairs = np.argwhere(lesson.holds)
        if len(pairs):
            question, passage = pairs[rng.randrange(len(pairs))]
            drawn[lesson.story] = lesson.questions[question], lesson.passages[passage]
    if len(drawn) < 2:
        return None
    questions, passages = zip(*drawn.values(), strict=True)
    scores = encode(questions)[0] @ encode(passages)[0].T * FINDING
    own = torch.arange(len(drawn))
    found: torch.Tensor = functional.cross_entropy(scores, own)
    return found + 0.5 * functional.cross_entropy(scores.T, own)


def right_first(lessons: Sequence[Lesson], encode: Encode) -> float:
    """The share of answerable questions whose first sentence by late interaction answers."""
    found: list[bool] = []
    for lesson in lessons:
        questions = encode(lesson.questions)
        late, _ = sentence_scores(*without_special(*questions), encode(lesson.passages)[1], lesson)
        best = late.argmax(1).tolist()
        found += [bool(row[i]) for row, i in zip(lesson.right, best, strict=True) if row.any()]
    return float(np.mean(found))


def without_special(
    vectors: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same with unit token vectors, and a mask that leaves out [CLS] and [SEP]."""
    inner = mask.clone()
    inner[torch.arange(len(mask)), mask.sum(1) - 1] = 0
    inner[:, 0] = 0
    return vectors, functional.normalize(tokens, dim=-1), inner.float()


def choose(scores: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Minus the log of the probability (softmax over rows) of a right column, averaged."""
    among = scores.masked_fill(~right, -torch.inf)
    return (scores.logsumexp(1) - among.logsumexp(1)).mean()


def sentence_scores(
    vectors: torch.Tensor,
    tokens: torch.Tensor,
    mask: torch.Tensor,
    passages: torch.Tensor,
    lesson: Lesson,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Late interaction and cosine with the mean of a sentence's tokens, (questions, sentences)."""
    count = lesson.right.shape[1]
    states = torch.cat([row[: len(of)] for row, of in zip(passages, lesson.sentence, strict=True)])
    of = torch.from_numpy(np.concatenate(lesson.sentence))
    states, of = states[of >= 0], of[of >= 0]
    sums = torch.zeros(count, states.shape[1]).index_add(0, of, states)
    mean = vectors @ functional.normalize(sums, dim=1).T
    cosines = tokens @ functional.normalize(states, dim=1).T  # (questions, their tokens, tokens)
    best = torch.full((*tokens.shape[:2], count), -1.0).scatter_reduce(
        2, of.expand_as(cosines), cosines, "amax"
    )
    late = (best * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return late, mean

"""The reader: question and passage read together, to see which sentence answers.

A cross-encoder at half the price. The lower half of the bundled network reads question and
passage each alone, as it does for their vectors; the reader is a copy of the upper half that
goes on with both in one sequence, so that only half of the layers run for each pair (Cao et
al. 2020, "DeFormer: Decomposing Pre-trained Transformers for Faster Question Answering").
It gives every sentence a score for being the answer, and the passage one for holding none,
as readers of SQuAD 2.0 do (Devlin et al. 2019, "BERT"). Its weights are its own, or stored as
low-rank changes of the encoder's (Hu et al. 2021, "LoRA"); index.distill.reader teaches it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.vectors import Encoding

if TYPE_CHECKING:
    import torch

LOWER = 6
"""Layers of the bundled network below the reader's."""
QUESTION_TOKENS = 64
STEP = 32
"""Rows of tokens are padded to multiples of this: every new shape costs a kernel compilation."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader makes of one passage.

    ``sentences``: the log odds of each sentence of being the answer against the passage
    holding none, (sentences,).
    """

    sentences: NDArray[np.float32]


def upper_half(encoder_layers: Any, changes: dict[str, torch.Tensor]) -> Any:
    """A copy of the layers from LOWER on, with low-rank changes ``NAME.a`` @ ``NAME.b``, or
    with other weights, ``NAME``."""
    layers = copy.deepcopy(encoder_layers[LOWER:])
    for name, weight in layers.named_parameters():
        if name in changes:
            weight.data = changes[name].to(weight.dtype)
        if f"{name}.a" in changes:
            change = changes[f"{name}.b"].float() @ changes[f"{name}.a"].float()
            weight.data = (weight.data.float() + change).to(weight.dtype)
    return layers


def scores(
    states: torch.Tensor, of: torch.Tensor, count: int, heads: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Scores of sentences over no answer, (texts, count).

    ``states`` (texts, 1 + tokens, dimension) begin with the place for "no answer"; ``of``
    (texts, tokens) gives each token's sentence, -1 for question and padding.
    """
    import torch

    null = states[:, 0] @ heads["null"]
    tokens = states[:, 1:]
    inside = torch.nn.functional.one_hot(of + 1, count + 1)[..., 1:].to(states.dtype)
    size = inside.sum(1).clamp(min=1)
    mean = (inside.transpose(1, 2) @ (tokens @ heads["mean"]).unsqueeze(-1)).squeeze(-1) / size
    each = (tokens @ heads["token"]).unsqueeze(-1).masked_fill(inside == 0, -torch.inf)
    best = each.amax(1)
    return mean + best - null.unsqueeze(1)


class Reader:
    """The upper half of an encoder's network, taught to read.

    ``layers`` are those of the encoder's network; ``file`` holds the reader's weights.
    """

    def __init__(self, layers: Any, file: Path) -> None:
        from safetensors.torch import load_file

        held = load_file(file)
        self._layers = upper_half(layers, held).eval()
        self._heads = {k: held[k].float() for k in ("null", "mean", "token")}
        self._begin = {k: held[k].float() for k in ("none", "question", "passage")}

    def read(
        self,
        question: Encoding,
        passages: Sequence[Encoding],
        sentences: Sequence[NDArray[np.int64]],
    ) -> list[Reading]:
        """Read each passage with the question.

        ``sentences`` gives each token's sentence (see index.late.sentence_of_tokens).
        """
        import torch

        asked = states_of(question)[:QUESTION_TOKENS]
        counts = [int(of.max(initial=-1)) + 1 for of in sentences]
        with torch.inference_mode():
            x, mask, where = joined(
                [asked] * len(passages), list(map(states_of, passages)), sentences, self._begin
            )
            states = run(self._layers, x, mask)
            logits = scores(states, where, max(1, *counts), self._heads).numpy()
        return [Reading(row[:count]) for row, count in zip(logits, counts, strict=True)]


def states_of(encoding: Encoding) -> torch.Tensor:
    """The states half-way up in float16, (tokens, dimension).

    Raises:
        ValueError: the encoding has none.
    """
    import torch

    if encoding.lower is None:
        raise ValueError("this encoding has no states for a reader")
    return torch.from_numpy(encoding.lower)


def joined(
    questions: Sequence[torch.Tensor],
    passages: Sequence[torch.Tensor],
    sentences: Sequence[NDArray[np.int64]],
    begin: dict[str, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One sequence a pair: the place for "no answer", the question, the passage, padding.

    Returns states (pairs, 1 + tokens, dimension), mask (pairs, 1 + tokens), and the sentence
    of each token (pairs, tokens).
    """
    import torch

    size = max(len(q) + len(p) for q, p in zip(questions, passages, strict=True)) + 1
    where = torch.full((len(passages), size - 1), -1)
    kinds = torch.full((len(passages), size), len(begin))  # that of padding
    kinds[:, 0] = 0
    none = questions[0].new_zeros(1, questions[0].shape[1])
    rows = []
    for i, (q, p, of) in enumerate(zip(questions, passages, sentences, strict=True)):
        rows.append(torch.cat([none, q, p]))
        kinds[i, 1 : 1 + len(q)] = 1
        kinds[i, 1 + len(q) : len(rows[-1])] = 2
        where[i, len(q) : len(q) + len(p)] = torch.from_numpy(of)
    mask = kinds < len(begin)
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).float()
    table = torch.stack([begin["none"], begin["question"], begin["passage"]])
    kind = torch.nn.functional.one_hot(kinds.to(x.device), len(begin) + 1)[..., :-1]
    x = x + kind.to(x.dtype) @ table
    return x, mask.to(x.device), where.to(x.device)


def run(layers: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The layers' output in float32, (texts, tokens, dimension), 0 at the padding.

    Padding is left out rather than masked: the tokens of all texts lie in one row, and only
    the attention looks at each text apart.
    """
    import torch

    sizes = mask.sum(1).tolist()
    row = x[mask].to(layers[0].output.LayerNorm.weight.dtype)
    if more := -len(row) % STEP:
        row = torch.nn.functional.pad(row, (0, 0, 0, more))
        sizes.append(more)
    for layer in layers:
        row = layer.attention.output(_attention(layer.attention.self, row, sizes), row)
        row = layer.output(layer.intermediate(row), row)
    out = x.new_zeros(x.shape)
    out[mask] = row[: len(row) - more].float()
    return out


def _attention(own: Any, row: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Each text's tokens attend to one another, (tokens, dimension).

    Not torch's scaled_dot_product_attention, which takes three times as long in bfloat16.
    """
    import torch

    query, key, value = (
        states(row).view(len(row), own.num_attention_heads, -1).transpose(0, 1).split(sizes, 1)
        for states in (own.query, own.key, own.value)
    )
    met = [
        own.dropout((q @ k.transpose(1, 2) * own.scaling).softmax(-1)) @ v
        for q, k, v in zip(query, key, value, strict=True)
    ]
    return torch.cat(met, 1).transpose(0, 1).reshape(row.shape)

"""The networks: the student with its two word tables, and batches of equal length."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from index.vectors import FloatMatrix

LENGTHS = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Batches are padded to these lengths only: each new shape costs a kernel compilation."""


def padded(rows: Sequence[Sequence[int]], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


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
                out[start : start + 32] = self.encode(ids[start : start + 32])[0].numpy()
        return out

    def encode(
        self, ids: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Unit vectors (texts, dimension), token vectors, and the mask of the latter."""
        x, mask = padded(ids, next(n for n in LENGTHS if n >= max(map(len, ids))))
        return (*self(x, mask), mask)

    def set_dropout(self, share: float) -> None:
        for module in self.body.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = share
                module.train(share > 0)

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

"""The student: a network to train, over a word table; batches; the folder it is saved in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from index.distill.vocabulary import encoded
from index.embed import fast_dtype
from index.errors import InputError
from index.vectors import FloatMatrix

LENGTHS = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Batches are padded to these lengths only: each new shape costs a kernel compilation."""

_TABLE = "embeddings.word_embeddings.weight"
_MODULES = ["Transformer", "Pooling", "Normalize"]


class Student:
    """A BERT-like network, in bfloat16 where the processor computes in it, over a table of word
    vectors in float32.

    ``wide`` holds the network's weights in float32, to be changed by an optimizer; the
    gradients of its own weights go there by ``gather``, the changes back by ``spread``.

    Raises:
        InputError: ``folder`` holds no sentence-transformers model that averages its tokens.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer, utils

        utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        _check(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.padding = int(tokenizer.pad_token_id)
        body = AutoModel.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()  # without dropout
        self.set_table(body.get_input_embeddings().weight.detach())
        body.get_input_embeddings().requires_grad_(False)
        narrow = {name: p for name, p in body.named_parameters() if p.requires_grad}
        self.wide = {name: torch.nn.Parameter(p.detach().clone()) for name, p in narrow.items()}
        self.dtype = fast_dtype()
        self.body: Any = body.to(self.dtype)

    def set_table(self, rows: torch.Tensor) -> None:
        """Use other word vectors, (pieces, dimension)."""
        self.words = torch.nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            rows.float().clone(), freeze=False, padding_idx=self.padding, sparse=True
        )

    def gather(self) -> None:
        """Move the gradients of the network's weights to the float32 ones."""
        for name, narrow in self.body.named_parameters():
            if name in self.wide:
                self.wide[name].grad = None if narrow.grad is None else narrow.grad.float()
                narrow.grad = None

    @torch.no_grad()
    def spread(self) -> None:
        """Copy the float32 weights to the network's."""
        for name, narrow in self.body.named_parameters():
            if name in self.wide:
                narrow.copy_(self.wide[name])

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights in float32, named as in transformers; not copied."""
        held = {name: weight.detach() for name, weight in self.wide.items()}
        return held | {_TABLE: self.words.weight.detach()}

    def blend(self, start: Mapping[str, torch.Tensor], share: float) -> None:
        """Go ``share`` of the way from the weights ``start`` to the present ones.

        Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
        """
        for name, weight in self.weights().items():
            weight.lerp_(start[name], 1 - share)
        self.spread()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts, cut at the window."""
        return encoded(self.tokenizer, texts)

    def vectors(self, texts: Sequence[str]) -> FloatMatrix:
        """Unit vectors, shape (texts, dimension)."""
        out = np.zeros((len(texts), self.words.embedding_dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(texts), 32):
                batch = self.ids(texts[start : start + 32])
                out[start : start + 32] = self.encode(batch)[0].numpy()
        return out

    def encode(
        self, ids: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Unit vectors (texts, dimension), token vectors, and the mask of the latter."""
        length = next(n for n in LENGTHS if n >= max(map(len, ids)))
        x = torch.full((len(ids), length), self.padding)
        mask = torch.zeros(len(ids), length, dtype=torch.long)
        for i, row in enumerate(ids):
            x[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        out = self.body(
            inputs_embeds=self.words(x).to(self.dtype), attention_mask=mask
        ).last_hidden_state.float()
        weight = mask.unsqueeze(-1).float()
        mean = (out * weight).sum(1) / weight.sum(1)
        return torch.nn.functional.normalize(mean, dim=1), out, mask


def _check(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file() or not (folder / "modules.json").is_file():
        raise InputError(f"{folder} is no folder of a sentence-transformers model")
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    pooling = folder / "1_Pooling" / "config.json"
    how = json.loads(pooling.read_text("utf-8")) if pooling.is_file() else {}
    mean = how.get("pooling_mode") == "mean" or how.get("pooling_mode_mean_tokens")
    if not mean or kinds not in (_MODULES[:2], _MODULES):
        raise InputError(f"{folder}: only a model that just averages its tokens can be taught")


def copy_frame(start: Path, out: Path) -> None:
    """Copy what describes a sentence-transformers model, without prompts: all but its network."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("modules.json", "sentence_bert_config.json", "tokenizer_config.json"):
        shutil.copy(start / name, out / name)
    shutil.copytree(start / "1_Pooling", out / "1_Pooling", dirs_exist_ok=True)
    settings = json.loads((start / "config_sentence_transformers.json").read_text("utf-8"))
    settings |= {"prompts": {}, "default_prompt_name": None}
    file = out / "config_sentence_transformers.json"
    file.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def write_network(
    out: Path, weights: Mapping[str, torch.Tensor], config: Any, tokenizer: Tokenizer
) -> None:
    """Write a network's weights, its transformers configuration and its tokenizer.

    Weights are stored in float16; config.json says float32, so that they load as that.
    """
    from safetensors.torch import save_file

    sizes = json.loads(config.to_json_string())
    sizes |= {"vocab_size": tokenizer.get_vocab_size(), "dtype": "float32"}
    narrow = {name: weight.to(torch.float16).contiguous() for name, weight in weights.items()}
    save_file(narrow, out / "model.safetensors", {"format": "pt"})
    (out / "config.json").write_text(json.dumps(sizes, indent=2) + "\n", "utf-8")
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)

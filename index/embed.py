"""Texts to vectors: the Encoder protocol and the sentence-transformers encoder.

The bundled German-English model is the default. Any other sentence-transformers model
is one name away; it is loaded by that library, prompts included.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from index.errors import ModelError

FloatMatrix = NDArray[np.float32]
"""Row vectors, shape (n, dimension)."""

BUNDLED = Path(__file__).parent / "model"
BUNDLED_NAME = "bundled"
BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text's unit vector (dimension,) and its unit token vectors (tokens, dimension).

    ``offsets`` are the code-point ranges of the tokens in the text, shape (tokens, 2);
    special tokens have none and are left out.
    """

    vector: NDArray[np.float32]
    tokens: FloatMatrix
    offsets: NDArray[np.int64]


class Encoder(Protocol):
    """What the index needs of an embedding model."""

    @property
    def name(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def languages(self) -> frozenset[str] | None: ...
    @property
    def prompts(self) -> Mapping[str, str]: ...
    @property
    def weights(self) -> str: ...
    def count_tokens(self, texts: Sequence[str]) -> list[int]: ...
    def passages(self, texts: Sequence[str], *, progress: str = "") -> FloatMatrix: ...
    def questions(self, texts: Sequence[str]) -> FloatMatrix: ...
    def encode(self, texts: Sequence[str], *, question: bool = False) -> list[Encoding]: ...
    def neighbours(self, word: str, k: int = 5) -> list[tuple[str, float]]: ...


class SentenceTransformerEncoder:
    """A sentence-transformers model, in bfloat16 where the processor computes in it.

    It is loaded when it is first needed, and may be shared by threads. ``name`` is that of
    a model or its folder; None is the bundled one.

    Raises:
        ModelError: on first use: the model is not there, or cannot be fetched.
    """

    def __init__(self, name: str | Path | None = None) -> None:
        folder = name is not None and Path(name).is_dir()
        self.name = str(Path(name).resolve() if folder and name else name or BUNDLED_NAME)
        self.languages = frozenset({"de", "en"}) if name is None else None
        self._folder = str(BUNDLED) if name is None else self.name
        self._lock = threading.RLock()  # both the tokenizer and the model keep state in calls

    @cached_property
    def _model(self) -> Any:
        return _load(self._folder)

    @property
    def window(self) -> int:
        return int(self._model.max_seq_length or 512)

    @property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension() or 0)

    @property
    def prompts(self) -> Mapping[str, str]:
        """What is put before passages and questions."""
        return {kind: self._prompt(kind) for kind in ("document", "query")}

    @cached_property
    def weights(self) -> str:
        """16 hexadecimal digits that change with any weight or word piece of the model.

        Weights count as bfloat16, in which some processors load them and others do not.
        """
        import torch

        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            short = tensor.detach().to(torch.bfloat16).contiguous().view(torch.int16)
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(short.numpy().tobytes())
        digest.update(json.dumps(sorted(self._model.tokenizer.get_vocab().items())).encode())
        return digest.hexdigest()[:16]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted, nothing truncated."""
        with self._lock:
            ids = self._model.tokenizer(
                list(texts), add_special_tokens=False, truncation=False, verbose=False
            )["input_ids"]
        return [len(row) for row in ids]

    def passages(self, texts: Sequence[str], *, progress: str = "") -> FloatMatrix:
        """Unit vectors of passages or sentences, shape (texts, dimension)."""
        return self._vectors(texts, "document", progress)

    def questions(self, texts: Sequence[str]) -> FloatMatrix:
        """Unit vectors of questions, shape (texts, dimension)."""
        return self._vectors(texts, "query", "")

    def _prompt(self, kind: str) -> str:
        prompts = self._model.prompts
        return str(prompts.get(kind) or prompts.get("passage" if kind == "document" else "") or "")

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Indices in order of length, so that little is padding."""
        batch: list[int] = []
        for i in sorted(range(len(texts)), key=lambda i: len(texts[i])):
            if batch and (len(batch) + 1) * (len(texts[i]) // 4 + 2) > BATCH_TOKENS:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _vectors(self, texts: Sequence[str], kind: str, progress: str) -> FloatMatrix:
        out = np.zeros((len(texts), self.dimension), np.float32)
        bar = tqdm(
            total=len(texts),
            desc=progress,
            leave=False,
            disable=None if progress else True,
            delay=1,
        )
        with bar, self._lock:
            for batch in self._batches(texts):
                out[batch] = self._model.encode(
                    [texts[i] for i in batch],
                    prompt=self._prompt(kind),
                    batch_size=len(batch),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
                bar.update(len(batch))
        return out

    def encode(self, texts: Sequence[str], *, question: bool = False) -> list[Encoding]:
        """Vectors, token vectors and token offsets of each text."""
        prompt = self._prompt("query" if question else "document")
        found: list[Encoding | None] = [None] * len(texts)
        for batch in self._batches(texts):
            with self._lock:
                rows = self._model.encode(
                    [texts[i] for i in batch],
                    prompt=prompt,
                    batch_size=len(batch),
                    output_value=None,
                    show_progress_bar=False,
                )
                marks = self._model.tokenizer(
                    [prompt + texts[i] for i in batch],
                    truncation=True,
                    max_length=self.window,
                    return_offsets_mapping=True,
                )["offset_mapping"]
            for i, row, mark in zip(batch, rows, marks, strict=True):
                offsets = np.asarray(mark, np.int64).reshape(-1, 2) - len(prompt)
                real = (offsets[:, 1] > offsets[:, 0]) & (offsets[:, 0] >= 0)
                states = row["token_embeddings"][row["attention_mask"].bool()][: len(offsets)]
                states = states.float().numpy()[real]
                found[i] = Encoding(
                    unit(row["sentence_embedding"].float().numpy()), unit(states), offsets[real]
                )
        return [encoding for encoding in found if encoding is not None]

    def neighbours(self, word: str, k: int = 5) -> list[tuple[str, float]]:
        """The ``k`` whole words of the vocabulary nearest to a word, with their cosines.

        Compared by the network's own input vectors, in which translations lie close in
        the bundled model. Empty for models without a WordPiece vocabulary.
        """
        words, vectors = self._words
        if not words:
            return []
        with self._lock:
            ids = self._model.tokenizer(word, add_special_tokens=False)["input_ids"]
        if not ids or self._model.tokenizer.unk_token_id in ids:
            return []
        query = unit(self._input_vectors[ids].mean(0))
        near = vectors @ query
        best = np.argpartition(-near, min(k, len(near) - 1))[: k + 1]
        ranked = sorted(((words[i], float(near[i])) for i in best), key=lambda pair: -pair[1])
        return [(w, s) for w, s in ranked if w != word][:k]

    @cached_property
    def _input_vectors(self) -> FloatMatrix:
        table = self._model[0].auto_model.get_input_embeddings().weight
        return np.asarray(table.detach().float().numpy(), np.float32)

    @cached_property
    def _words(self) -> tuple[list[str], FloatMatrix]:
        vocabulary = self._model.tokenizer.get_vocab()
        if not any(piece.startswith("##") for piece in vocabulary):
            return [], np.zeros((0, self.dimension), np.float32)
        words = [piece for piece in vocabulary if re.fullmatch(r"[^\W\d_]{3,}", piece)]
        return words, unit(self._input_vectors[[vocabulary[word] for word in words]])


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to length 1 along the last axis; zero vectors stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)


def _load(name: str) -> Any:
    import logging

    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for library in ("sentence_transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    local = Path(name).is_dir()
    dtype = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    options = {"dtype": dtype, "attn_implementation": "eager"}
    try:
        model = SentenceTransformer(
            name,
            device="cpu",
            local_files_only=local,
            model_kwargs=options,
            trust_remote_code=False,
        )
    except Exception as error:  # every hub, file and format error there is
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise ModelError(
            f"cannot load the encoder {name!r}: not a sentence-transformers folder, and not"
            f" reachable as a model name ({reason})"
        ) from error
    # Pool in float32: sums of bfloat16 lose two digits over a long passage.
    model[0].register_forward_hook(
        lambda _module, _inputs, out: {**out, "token_embeddings": out["token_embeddings"].float()}
    )
    model.eval()
    return model

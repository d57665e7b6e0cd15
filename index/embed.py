"""Texts to vectors: the Encoder protocol and the sentence-transformers encoder.

The bundled German-English model is the default. Any other sentence-transformers model
is one name away; it is loaded by that library, prompts included.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index.errors import ModelError
from index.progress import between_steps, progress_bar
from index.reader import LOWER, Reader
from index.vectors import Encoding, FloatMatrix, unit

BUNDLED = Path(__file__).parent / "model"
BUNDLED_NAME = "bundled"
READER = Path(__file__).parent / "reader.safetensors"
BATCH_TOKENS = 4096
COUNTED = 256
"""So many texts are tokenized at a time, to be counted."""
HUB_SECONDS = 10.0
"""How long the model hub may take to answer before only models fetched earlier are tried."""


class Encoder(Protocol):
    """What the index needs of an embedding model."""

    @property
    def name(self) -> str:
        """By which an index knows that it was made with this encoder."""
        ...

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        ...

    @property
    def window(self) -> int:
        """The most tokens of a text that it sees, special ones and prompts not counted."""
        ...

    @property
    def languages(self) -> frozenset[str] | None:
        """The ISO 639-1 codes of those it knows; None where nobody says."""
        ...

    @property
    def reader(self) -> Reader | None:
        """What reads question and passage together, if there is such a thing."""
        ...

    @property
    def prompts(self) -> Mapping[str, str]:
        """What is put before passages and questions."""
        ...

    @property
    def weights(self) -> str:
        """Changes with any weight or word piece of the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with the weights and all else that the vectors and readings hang on."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted, nothing truncated."""
        ...

    def passages(self, texts: Sequence[str], *, progress: str = "") -> FloatMatrix:
        """Unit vectors of passages or sentences, shape (texts, dimension)."""
        ...

    def questions(self, texts: Sequence[str]) -> FloatMatrix:
        """Unit vectors of questions, shape (texts, dimension)."""
        ...

    def encode(self, texts: Sequence[str], *, question: bool = False) -> list[Encoding]:
        """Vectors, token vectors and token offsets of each text."""
        ...


FOREIGN = "langchain:"
"""So begin the names of encoders that a program has of its own (see index.langchain)."""


class SentenceTransformerEncoder:
    """A sentence-transformers model, in bfloat16 where the processor computes in it.

    It is loaded when it is first needed, and may be shared by threads. ``name`` is that of
    a model or its folder; without one it is the bundled model, which alone has a reader.
    ``halfway`` keeps the hidden states that a reader goes on from.

    Raises:
        ModelError: on first use: the model is not there, or cannot be fetched.
    """

    def __init__(self, name: str | Path | None = None, *, halfway: bool = False) -> None:
        folder = name and Path(name).is_dir()
        self.name = str(Path(name).resolve() if folder and name else name or BUNDLED_NAME)
        self.languages = None if name else frozenset({"de", "en"})
        self._bundled = not name
        self._halfway = halfway or self._bundled
        self._folder = self.name if name else str(BUNDLED)
        # Both the tokenizer and the model keep state in calls.
        self._lock, self._next = threading.Lock(), threading.Lock()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Tokenizer and model to oneself; who waits has the next turn, not who had the last."""
        with self._next:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    @cached_property
    def _model(self) -> Any:
        if self.name.startswith(FOREIGN):
            raise ModelError(
                "the encoder {!r} is of a program with its own embeddings: open the index there, or"
                " embed it anew with  beleg check --index DIR --repair --model M",
                self.name,
            )
        with progress_bar("loading the encoder"):
            return _load(self._folder, self._halfway)

    @cached_property
    def reader(self) -> Reader | None:
        """What reads question and passage together; the bundled encoder has one."""
        return Reader(self.network.encoder.layer, READER) if self._bundled else None

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any weight, word piece or prompt of the model,
        and with its reader.
        """
        digest = hashlib.sha256(json.dumps([self.weights, *self.prompts.values()]).encode())
        if self._bundled:
            digest.update(READER.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def network(self) -> Any:
        """The transformers model underneath."""
        return self._model[0].auto_model

    @cached_property
    def window(self) -> int:
        """The most tokens of a text that it sees, special ones and prompts not counted."""
        special = int(self._model.tokenizer.num_special_tokens_to_add())
        prompts = ("", self._prompt("document"), self._prompt("query"))
        bare, *prompted = self.count_tokens([f"{prompt}a" for prompt in prompts])
        return max(1, self._length - special - max(prompted) + bare)

    @property
    def _length(self) -> int:
        """The most tokens of a text, all told."""
        return int(self._model.max_seq_length or 512)

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
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
            digest.update(short.numpy())
        digest.update(json.dumps(sorted(self._model.tokenizer.get_vocab().items())).encode())
        return digest.hexdigest()[:16]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted, nothing truncated."""
        found: list[int] = []
        for start in range(0, len(texts), COUNTED):
            with self._turn():
                ids = self._model.tokenizer(
                    list(texts[start : start + COUNTED]),
                    add_special_tokens=False,
                    truncation=False,
                    verbose=False,
                )["input_ids"]
            found += map(len, ids)
        return found

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
        with progress_bar(progress, len(texts)) as bar:
            for batch in self._batches(texts):
                between_steps()
                with self._turn():
                    found = self._forward([texts[i] for i in batch], self._prompt(kind))
                out[batch] = unit(found["sentence_embedding"].float().numpy())
                bar.update(len(batch))
        return out

    def _forward(self, texts: list[str], prompt: str) -> Any:
        """What the model makes of a batch: tensors by name, one row a text.

        Its own ``encode`` looks at the mode and the device of every weight in each call, a
        fifth of what a question takes.
        """
        import torch

        with torch.inference_mode():
            return self._model(self._model.preprocess(texts, prompt=prompt))

    def encode(self, texts: Sequence[str], *, question: bool = False) -> list[Encoding]:
        """Vectors, token vectors and token offsets of each text."""
        prompt = self._prompt("query" if question else "document")
        found: list[Encoding | None] = [None] * len(texts)
        for batch in self._batches(texts):
            with self._turn():
                out = self._forward([texts[i] for i in batch], prompt)
                marks = self._model.tokenizer(
                    [prompt + texts[i] for i in batch],
                    truncation=True,
                    max_length=self._length,
                    return_offsets_mapping=True,
                )["offset_mapping"]
            for row, (i, mark) in enumerate(zip(batch, marks, strict=True)):
                offsets = _trimmed(prompt + texts[i], mark) - len(prompt)
                real = (offsets[:, 1] > offsets[:, 0]) & (offsets[:, 0] >= 0)
                here = out["attention_mask"][row].bool()
                states = out["token_embeddings"][row][here][: len(offsets)].float().numpy()[real]
                lower = None
                if self._halfway:
                    lower = out["lower"][row][here][: len(offsets)].half().numpy()[real]
                found[i] = Encoding(
                    unit(out["sentence_embedding"][row].float().numpy()),
                    unit(states),
                    offsets[real],
                    lower,
                )
        return [encoding for encoding in found if encoding is not None]


def _trimmed(text: str, offsets: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Token offsets without the space that some tokenizers count to the word after it."""
    found = [(a + (b - a > 1 and text[a].isspace()), b) for a, b in offsets]
    return np.asarray(found, np.int64).reshape(-1, 2)


def fast_dtype() -> Any:
    """torch's bfloat16 where this processor computes in it: where it does not, that takes many
    times as long as float32."""
    import torch

    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def _load(name: str, halfway: bool) -> Any:
    if (name.startswith((".", "/", "~")) or Path(name).is_absolute()) and not Path(name).is_dir():
        raise ModelError("cannot load the encoder {!r}: no such folder", name)
    _send_no_telemetry()
    import logging

    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for library in ("sentence_transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    options = {"dtype": fast_dtype(), "attn_implementation": "eager"}

    def loaded(local: bool) -> SentenceTransformer:
        return SentenceTransformer(
            name,
            device="cpu",
            local_files_only=local,
            model_kwargs=options,
            trust_remote_code=False,
        )

    try:
        model = None
        if _is_cached(name):
            with suppress(Exception):  # half of it may be missing
                model = loaded(local=True)
        if model is None:
            model = loaded(local=Path(name).is_dir() or not _hub_answers(name))
    except Exception as error:  # every hub, file and format error there is
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise ModelError(
            "cannot load the encoder {!r}: not a sentence-transformers folder, and not reachable"
            " as a model name ({})",
            name,
            reason,
        ) from error
    # Pool in float32: sums of bfloat16 lose two digits over a long passage.
    model[0].register_forward_hook(
        lambda _module, _inputs, out: {**out, "token_embeddings": out["token_embeddings"].float()}
    )
    if halfway:
        kept: dict[str, Any] = {}
        network: Any = model[0].auto_model
        network.encoder.layer[LOWER - 1].register_forward_hook(
            lambda _layer, _inputs, out: kept.update(lower=out)
        )
        model[0].register_forward_hook(lambda _module, _inputs, out: {**out, **kept})
    model.eval()
    return model


def _send_no_telemetry() -> None:
    """Keep the hub's library from telling what runs here, unless its own setting is made."""
    if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        from huggingface_hub import constants

        constants.HF_HUB_DISABLE_TELEMETRY = True  # it may have been imported before


def _is_cached(name: str) -> bool:
    """Whether a model was fetched earlier, as far as the first file of it tells."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        # Weights alone do not do: without this file they would be taken for another model.
        return try_to_load_from_cache(name, "modules.json") is not None
    except HFValidationError:  # no name that the hub allows: a folder, say
        return False


def _hub_answers(name: str) -> bool:
    """Whether models can be fetched; loading one would wait a minute to find that out."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except HfHubHTTPError:
        return True  # it answers that it knows no such model, or none for us
    except Exception:  # no network, or no name that the hub allows
        return False
    return True

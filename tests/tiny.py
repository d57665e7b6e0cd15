"""A real encoder that needs no weights: texts that share words lie close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np

from index.lexical import words
from index.vectors import Encoding, FloatMatrix, unit


class TinyEncoder:
    """Sums a fixed random vector for each word. ``salt`` makes it another model.

    It is the same in every process, takes microseconds, and satisfies index.embed.Encoder.
    """

    window = 64
    languages = None
    reader = None

    def __init__(
        self,
        name: str = "tiny",
        *,
        dimension: int = 32,
        salt: str = "",
        prompts: Mapping[str, str] | None = None,
        weights: str | None = None,
    ) -> None:
        self.name = name
        self.dimension = dimension
        self.prompts = prompts or {}
        self.weights = salt if weights is None else weights
        self._salt = salt
        self._known: dict[str, FloatMatrix] = {}

    def _word(self, word: str) -> FloatMatrix:
        if word not in self._known:
            random = np.random.default_rng(crc32(f"{self._salt}{word}".encode()))
            self._known[word] = random.standard_normal(self.dimension).astype(np.float32)
        return self._known[word]

    def _vectors(self, texts: Sequence[str], kind: str) -> FloatMatrix:
        prompt = self.prompts.get(kind, "")
        rows = [sum(map(self._word, words(prompt + t)), self._word("") / 9) for t in texts]
        return unit(np.stack(rows)) if rows else np.zeros((0, self.dimension), np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def passages(self, texts: Sequence[str], *, progress: str = "") -> FloatMatrix:
        return self._vectors(texts, "document")

    def questions(self, texts: Sequence[str]) -> FloatMatrix:
        return self._vectors(texts, "query")

    def encode(self, texts: Sequence[str], *, question: bool = False) -> list[Encoding]:
        vectors = self._vectors(texts, "query" if question else "document")
        return [
            Encoding(v, v[None], np.asarray([[0, len(t)]]))
            for v, t in zip(vectors, texts, strict=True)
        ]

"""The bundled encoder, as sentence-transformers itself loads it, and other models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.embed import BUNDLED, SentenceTransformerEncoder
from index.errors import ModelError
from rag.chatbot import EXAMPLE, Chatbot

TEXTS = [line for line in EXAMPLE.read_text("utf-8").splitlines() if line]


def test_vectors_are_those_of_sentence_transformers(bot: Chatbot) -> None:
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(BUNDLED), device="cpu")
    wanted = plain.encode(TEXTS, normalize_embeddings=True)
    cosines = (bot.index.encoder.passages(TEXTS) * wanted).sum(axis=1)
    assert cosines.min() >= 0.999


def test_vectors_do_not_depend_on_company(bot: Chatbot) -> None:
    together = bot.index.encoder.passages(TEXTS)
    alone = np.concatenate([bot.index.encoder.passages([text]) for text in TEXTS])
    assert (together * alone).sum(axis=1).min() >= 0.999
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)


def test_token_offsets_name_the_text(bot: Chatbot) -> None:
    text = "Größe und Gewicht."
    (encoding,) = bot.index.encoder.encode([text])
    assert len(encoding.tokens) == len(encoding.offsets)
    assert "".join(text[a:b] for a, b in encoding.offsets) == text.replace(" ", "")
    (vector,) = bot.index.encoder.passages([text])
    assert encoding.vector @ vector >= 0.999


def test_translations_lie_close(bot: Chatbot) -> None:
    german, english, other = bot.index.encoder.passages(
        [
            "Der Botschafter wurde abberufen.",
            "The ambassador was recalled.",
            "Tomatoes need a lot of sun.",
        ]
    )
    assert german @ english > 0.8
    assert german @ english > german @ other + 0.15


def test_the_bundled_model_is_small() -> None:
    size = sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file())
    assert size <= 70e6


def test_a_model_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (str(tmp_path), "nobody/no-such-model"):
        with pytest.raises(ModelError, match="cannot load the encoder") as caught:
            SentenceTransformerEncoder(name).encode(["a"])
        assert "\n" not in str(caught.value)

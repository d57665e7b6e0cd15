"""The bundled encoder, as sentence-transformers itself loads it, and other models."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from index.embed import BUNDLED, SentenceTransformerEncoder
from index.errors import ModelError
from index.progress import interrupted_by
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


def test_a_folder_that_is_not_there_is_called_so() -> None:
    for name in ("/no/such/folder", "./no-such-folder", "../no/such"):
        with pytest.raises(ModelError, match=f"'{name}': no such folder"):
            SentenceTransformerEncoder(name).encode(["a"])


def test_a_question_waits_for_one_batch_of_others_not_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = SentenceTransformerEncoder()
    turns: list[str] = []
    asked: list[threading.Thread] = []

    class Model:
        prompts: dict[str, str] = {}  # noqa: RUF012
        max_seq_length = 256

        def get_embedding_dimension(self) -> int:
            return 2

        def preprocess(self, texts: list[str], **_: object) -> list[str]:
            return texts

        def __call__(self, texts: list[str]) -> dict[str, torch.Tensor]:
            turns.append(texts[0][0])
            if not asked:  # while a long upload has its first turn, a question comes
                asked.append(threading.Thread(target=encoder.questions, args=(["question"],)))
                asked[0].start()
                while not encoder._next.locked():
                    pass
            return {"sentence_embedding": torch.zeros(len(texts), 2)}

    monkeypatch.setitem(vars(encoder), "_model", Model())
    encoder.passages(["upload " * 2000] * 5)
    asked[0].join()
    assert "".join(turns) == "uquuuu"


def test_embedding_ends_between_two_batches(bot: Chatbot) -> None:
    asked: list[int] = []

    class Enough(Exception):
        pass

    def check() -> None:
        asked.append(1)
        if len(asked) > 1:
            raise Enough

    with pytest.raises(Enough), interrupted_by(check):
        bot.index.encoder.passages(TEXTS * 100)
    assert len(asked) == 2
    assert len(bot.index.encoder.passages(TEXTS[:2])) == 2


def test_a_window_leaves_room_for_prompts_and_special_tokens(tmp_path: Path) -> None:
    for file in BUNDLED.rglob("*.*"):
        copy = tmp_path / file.relative_to(BUNDLED)
        copy.parent.mkdir(exist_ok=True)
        copy.symlink_to(file)
    settings = tmp_path / "config_sentence_transformers.json"
    settings.unlink()
    prompts = {"query": "frage: ", "document": "ein Absatz aus einem Text: "}
    settings.write_text(json.dumps({"prompts": prompts}), "utf-8")
    encoder = SentenceTransformerEncoder(tmp_path)
    assert SentenceTransformerEncoder().window == 254
    assert encoder.window < 254
    text = "".join(["ja "] * (encoder.window - 1)) + "ja"
    assert encoder.count_tokens([text]) == [encoder.window]
    (encoding,) = encoder.encode([text])
    assert encoding.offsets[-1].tolist() == [len(text) - 2, len(text)]
    (cut,) = encoder.encode([f"{text} ja"])
    assert len(cut.offsets) == len(encoding.offsets)


def test_a_model_fetched_earlier_needs_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "models--some--model"
    (held / "refs").mkdir(parents=True)
    (held / "refs" / "main").write_text("1234")
    (held / "snapshots").mkdir()
    (held / "snapshots" / "1234").symlink_to(BUNDLED)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr("index.embed._hub_answers", lambda name: pytest.fail("it was asked"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    (vector,) = SentenceTransformerEncoder("some/model").passages(["Ein Satz."])
    assert vector @ SentenceTransformerEncoder().passages(["Ein Satz."])[0] > 0.99
    assert constants.HF_HUB_DISABLE_TELEMETRY  # by then, at the latest
    # Half of a model is fetched anew.
    (held / "snapshots" / "1234").unlink()
    (held / "snapshots" / "1234").mkdir()
    (held / "snapshots" / "1234" / "modules.json").symlink_to(BUNDLED / "modules.json")
    asked: list[str] = []
    monkeypatch.setattr("index.embed._hub_answers", asked.append)
    with pytest.raises(ModelError):
        SentenceTransformerEncoder("some/model").passages(["Ein Satz."])
    assert asked == ["some/model"]

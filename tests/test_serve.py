"""A real server of language models, transformers serve, with a tiny model made on the spot.

Its weights are random, so it babbles; what is tested is that a real server is understood, in a
stream and not, and that babble is never shown as an answer.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from index.types import Hit
from rag.llm import LanguageModel
from tests.conftest import environment
from tests.test_hostile import check_safe
from tests.test_llm import ask, hits  # noqa: F401 - a fixture

pytest.importorskip("uvicorn")
pytest.importorskip("accelerate")

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_model(folder: Path) -> None:
    """A Llama of two thin layers with random weights, over bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32768, bos_token_id=0, eos_token_id=0,
        pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        max_new_tokens=40, do_sample=False, eos_token_id=0, pad_token_id=0
    )
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The model's name and the server's address."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    with (folder / "log").open("w") as log, subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env=environment(HF_HUB_OFFLINE="1"), stdout=log, stderr=log,
    ) as server:  # fmt: skip
        try:
            until = time.monotonic() + 240
            while True:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                try:
                    with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                        break
                except OSError:
                    time.sleep(0.5)
            yield str(folder), f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def test_a_real_server_is_asked(
    address: tuple[str, str], hits: list[Hit], monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    name, url = address
    llm = LanguageModel(name, url=url, timeout=200)
    chunks = list(llm._model.stream([("human", "Hello")], {}, "text", time.monotonic() + 100))
    assert len(chunks) > 3
    assert any(text for text, _ in chunks)

    _, reply = ask(llm, hits)
    assert bool(reply.text) != bool(reply.failure)  # babble cites nothing
    assert not reply.refused
    check_safe(reply.text, reply.citations, [hits[0].passage.document.text])
    assert reply.trace["requests"] >= 1
    assert llm.rewrite("And when?", []) is None

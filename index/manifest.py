"""What an index was made with, held against what is at hand.

Vectors of different models, or of one model with other prompts, cannot be told from each
other by looking at them. So an index notes everything that its vectors depend on, and the
vector of a golden sentence, which catches a model that changed while its name did not.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from index.database import Database
from index.embed import BUNDLED_NAME, Encoder
from index.errors import InputError, MismatchError, Words
from index.records import SCHEMA
from index.split import RULES
from index.vectors import FloatMatrix, unit

WINDOW = 256
"""The most tokens of a passage, whatever more the encoder could take in."""
OVERLAP = 1
NORMALISATION = "unit length, float16"
GOLDEN = "Der Botschafter kehrte am 3. Mai zurück; the ambassador returned on 3 May."
SAME = 0.998
"""The cosine from which on two vectors of the golden sentence are of one model. The same
model in bfloat16 and float32 has .9999."""


def describe(encoder: Encoder) -> dict[str, str]:
    """The manifest of an index made with an encoder, which is loaded for it."""
    return {
        "schema": str(SCHEMA),
        "index": uuid.uuid4().hex,
        "encoder": encoder.name,
        **_settings(encoder),
        "golden": _pack(golden(encoder)),
    }


def window(encoder: Encoder) -> int:
    """The most tokens of a passage."""
    return min(encoder.window, WINDOW)


def _settings(encoder: Encoder) -> dict[str, str]:
    return {
        "dimension": str(encoder.dimension),
        "prompts": json.dumps(dict(encoder.prompts), sort_keys=True),
        "normalisation": NORMALISATION,
        "splitter": f"rules {RULES}, window {window(encoder)}, overlap {OVERLAP}",
        "weights": encoder.weights,
    }


def golden(encoder: Encoder) -> FloatMatrix:
    """The golden sentence's vectors as a passage and as a question, (2, dimension)."""
    found = [encoder.passages([GOLDEN]), encoder.questions([GOLDEN])]
    return unit(np.concatenate(found).astype(np.float32))


def read(folder: Path) -> dict[str, str]:
    """The manifest of the index in a folder.

    Raises:
        InputError: the index is of another version, or damaged.
    """
    check_version(folder)
    snapshot = Database(folder, strict=False).snapshot()
    if (schema := snapshot.schema()) < SCHEMA:
        advice = Words("beleg check --index {} --repair  brings it up to date", folder)
        raise _other_version(folder, schema, advice)
    if not (held := snapshot.manifest()):
        raise snapshot.damaged(Words("it has no manifest"))
    return held


def check_version(folder: Path) -> None:
    """Raise InputError where a newer Beleg made the index in a folder.

    All versions seal the manifest alike: where that is not what was written, it is damaged.

    Raises:
        DamageError: it is.
    """
    snapshot = Database(folder, strict=False).snapshot()
    if (schema := snapshot.schema()) > SCHEMA:
        snapshot.manifest()
        raise _other_version(folder, schema, Words("get a newer Beleg"))


def _other_version(folder: Path, schema: int, advice: Words) -> InputError:
    return InputError(
        "the index in {} is of version {}, this Beleg reads version {}: {}",
        *(folder, schema, SCHEMA, advice),
    )


def check_name(held: Mapping[str, str], encoder: Encoder, folder: Path | str) -> None:
    """Raise MismatchError where an encoder has another name than that of the index."""
    if held["encoder"] != encoder.name:
        before, now = (f"the encoder {name!r}" for name in (held["encoder"], encoder.name))
        raise _mismatch(held, encoder, folder, before, now)


def check_encoder(held: Mapping[str, str], encoder: Encoder, folder: Path | str) -> None:
    """Load an encoder and raise MismatchError where the index is not made with it."""
    check_name(held, encoder, folder)
    for before, now in _differences(held, encoder):
        raise _mismatch(held, encoder, folder, before, now)


def _differences(held: Mapping[str, str], encoder: Encoder) -> Iterator[tuple[str, str]]:
    """What the index was made with, and what there is instead."""
    name = f"the encoder {encoder.name!r}"
    for key, value in _settings(encoder).items():
        if held[key] != value:
            yield f"{name} of {key} {held[key]}", f"{key} {value}"
    before, after = _unpack(held["golden"]), golden(encoder)
    cosine = float((before * after).sum(axis=1).min()) if before.shape == after.shape else 0.0
    if not cosine >= SAME:  # which no comparison with NaN is
        yield f"{name} as it was", f"as it is now: its golden sentence is at cosine {cosine:.3f}"


def _mismatch(
    held: Mapping[str, str], encoder: Encoder, folder: Path | str, before: str, now: str
) -> MismatchError:
    other = "" if encoder.name == BUNDLED_NAME else f" --model {encoder.name}"
    advice = f"beleg check --index {folder} --repair{other}  embeds its documents anew"
    if isinstance(folder, str):  # on a server
        advice = f"its documents can be added to another one:  beleg add PATH --index …{other}"
    if held["encoder"] != encoder.name:
        own = held["encoder"]
        own = "leave out --model" if own == BUNDLED_NAME else f"say --model {own}"
        advice = f"{own}, or  {advice}"
    return MismatchError(
        "the index in {} was made with {}, not {}; {}", folder, before, now, advice
    )


def _pack(vectors: FloatMatrix) -> str:
    return base64.b64encode(vectors.astype("<f4").tobytes()).decode("ascii")


def _unpack(packed: str) -> FloatMatrix:
    return np.frombuffer(base64.b64decode(packed), "<f4").reshape(2, -1)

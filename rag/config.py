"""Settings: what the user has set, by argument, by environment (BELEG_*), or in a file.

The file is JSON: settings.json in the user's folder for configuration, or the one that
BELEG_CONFIG names. It need not be there. ``beleg eval --calibrate`` writes to it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from index.embed import Encoder
from index.errors import InputError
from rag.extract import Ranker


@dataclass(frozen=True, slots=True)
class Calibration:
    """How an encoder's confidence is corrected, and the threshold of what comes out.

    The logit of the confidence times ``slope``, plus ``intercept``, is the logit of the
    corrected one; slope is above 0, so that a surer answer stays the surer one.
    ``fitted_on`` is the ``fingerprint`` of what gave the confidences.
    """

    slope: float
    intercept: float
    threshold: float
    fitted_on: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set: the encoder for new documents, the language model that answers, the
    address of its server and the seconds it is given, and the calibration of each encoder."""

    model: str | None = None
    llm: str | None = None
    llm_url: str | None = None
    llm_timeout: float | None = None
    calibration: Mapping[str, Calibration] = field(default_factory=dict)

    @classmethod
    def load(
        cls, *, model: str | None = None, llm: str | None = None, llm_url: str | None = None
    ) -> Self:
        """An argument that is given counts, else the environment, else the file.

        Raises:
            InputError: the file cannot be read, or something in it is wrong.
        """
        held = _read(settings_file())
        return cls(
            model=model or os.environ.get("BELEG_MODEL") or held.get("model"),
            llm=llm or os.environ.get("BELEG_LLM") or held.get("llm"),
            llm_url=llm_url or os.environ.get("BELEG_LLM_URL") or held.get("llm_url"),
            llm_timeout=_seconds(os.environ.get("BELEG_LLM_TIMEOUT") or held.get("llm_timeout")),
            calibration={
                name: Calibration(**values) for name, values in held.get("calibration", {}).items()
            },
        )

    def ranker(self, encoder: Encoder) -> Ranker:
        """The bundled weights, with the calibration of that encoder if there is one.

        One that was fitted on other weights is left alone, and the ranker's notice says so.
        """
        shipped, found = Ranker.shipped(encoder.name), self.calibration.get(encoder.name)
        if found is None:
            return shipped
        if found.fitted_on != fingerprint(encoder):
            notice = (
                f"the calibration of {encoder.name!r} in {settings_file()} was fitted on other"
                " weights and is not used: beleg eval --calibrate fits it anew"
            )
            return replace(shipped, notice=notice)
        return replace(
            shipped, slope=found.slope, intercept=found.intercept, threshold=found.threshold
        )


def fingerprint(encoder: Encoder) -> str:
    """Of all that a confidence comes from but its calibration: encoder, reader, ranker."""
    shipped = Ranker.shipped(encoder.name)
    held = json.dumps([encoder.fingerprint, shipped.weights, shipped.confidence], sort_keys=True)
    return hashlib.sha256(held.encode()).hexdigest()[:16]


def settings_file() -> Path:
    """Where the settings are, or would be."""
    if named := os.environ.get("BELEG_CONFIG"):
        return Path(named)
    import platformdirs

    return platformdirs.user_config_path("beleg", appauthor=False) / "settings.json"


def save_calibration(encoder: str, calibration: Calibration) -> Path:
    """Write an encoder's calibration into the file of settings, whose path is returned.

    Raises:
        InputError: the file cannot be read or written, or something in it is wrong.
    """
    file = Path(os.path.realpath(settings_file()))  # a link to it stays one
    held = _read(file)
    held["calibration"] = held.get("calibration", {}) | {encoder: asdict(calibration)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a temporary file takes its place.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=file.name, delete=False
        ) as made:
            made.write(json.dumps(held, ensure_ascii=False, indent=1) + "\n")
        if file.exists():
            shutil.copymode(file, made.name)
        Path(made.name).replace(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None
    return file


def _read(file: Path) -> dict[str, Any]:
    """What the file holds, checked; nothing where there is no file."""
    try:
        held = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{file} is not JSON: mend it, or remove it") from None
    known = [key.name for key in fields(Settings)]
    _check_keys(held, known, str(file))
    if not isinstance(held.get("model"), str | None):
        raise InputError(f"{file}: model must be text, the name of an encoder or its folder")
    for key, what in (("llm", "a language model"), ("llm_url", "an address")):
        if not isinstance(held.get(key), str | None):
            raise InputError(f"{file}: {key} must be text, {what}")
    calibration = held.get("calibration", {})
    if not isinstance(calibration, dict):
        raise InputError(f"{file}: calibration must be an object, with an encoder's name as key")
    for name, values in calibration.items():
        where = f"{file}, calibration of {name!r}"
        needed = [key.name for key in fields(Calibration)]
        _check_keys(values, needed, where)
        if not isinstance(values.get("fitted_on", ""), str):
            raise InputError(f"{where}: fitted_on must be text")
        for key in (key for key in needed if key != "fitted_on"):
            # JSON's true is Python's 1, and its NaN is a number.
            if type(values.get(key)) not in (int, float) or not math.isfinite(values[key]):
                raise InputError(f"{where}: {key} must be a number")
        if values["slope"] <= 0 or not 0 <= values["threshold"] <= 1:
            raise InputError(f"{where}: slope must be above 0, threshold from 0 to 1")
    return dict(held)


def _seconds(held: object) -> float | None:
    """Raises InputError where it is no number above 0."""
    if held is None:
        return None
    try:
        seconds = float(held) if type(held) in (str, int, float) else math.nan  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError("llm_timeout and BELEG_LLM_TIMEOUT take a number of seconds, above 0")
    return seconds


def _check_keys(value: object, known: list[str], where: str) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be an object, with the keys {', '.join(known)}")
    for key in value:
        if key not in known:
            raise InputError(f'{where}: unknown key "{key}": known are {", ".join(known)}')

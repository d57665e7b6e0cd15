"""Settings: which of argument, environment and file counts, and what a wrong file says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from index.embed import BUNDLED, SentenceTransformerEncoder
from index.errors import InputError
from rag.chatbot import EXAMPLE, Chatbot
from rag.config import Calibration, Settings, fingerprint, save_calibration, settings_file
from rag.extract import Ranker
from tests.conftest import Run

SURE: dict[str, Any] = {"slope": 2.0, "intercept": -0.5, "threshold": 0.25, "fitted_on": "f" * 16}
QUESTION = "Why did Russia recall its ambassador?"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of settings, which is not there yet."""
    path = tmp_path / "folder" / "my settings.json"
    path.parent.mkdir()
    monkeypatch.setenv("BELEG_CONFIG", str(path))
    return path


def encoder(name: str, fingerprint: str = "e") -> Any:
    return SimpleNamespace(name=name, fingerprint=fingerprint)


def write(file: Path, **held: Any) -> None:
    file.write_text(json.dumps(held), "utf-8")


def test_without_anything_set(file: Path) -> None:
    assert Settings.load() == Settings(model=None, calibration={})
    assert Settings.load().ranker(encoder("bundled")) == Ranker.shipped()
    file.parent.rmdir()
    assert Settings.load() == Settings()


def test_an_argument_counts_before_the_environment_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, model="from-file")
    assert Settings.load().model == "from-file"
    monkeypatch.setenv("BELEG_MODEL", "")
    assert Settings.load().model == "from-file"
    monkeypatch.setenv("BELEG_MODEL", "from-environment")
    assert Settings.load().model == "from-environment"
    assert Settings.load(model="given").model == "given"


def test_the_file_is_in_the_users_folder_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BELEG_CONFIG")
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path)
    assert settings_file() == tmp_path / "settings.json"


def test_a_calibration_is_that_of_its_encoder_alone(file: Path, bot: Chatbot) -> None:
    file.parent.rmdir()  # it is made
    sure = Calibration(**SURE | {"fitted_on": fingerprint(bot.index.encoder)})
    assert save_calibration("bundled", sure) == file
    save_calibration("another", Calibration(1, 0, 1))
    save_calibration("another", Calibration(1, 0, 0.5))
    assert Settings.load().calibration == {
        "bundled": sure,
        "another": Calibration(1, 0, 0.5),
    }
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    ranker = Settings.load().ranker(bot.index.encoder)
    assert (ranker.slope, ranker.intercept, ranker.threshold) == (2.0, -0.5, 0.25)
    assert ranker.weights == Ranker.shipped().weights
    unknown = Settings.load().ranker(encoder("unknown"))
    assert unknown == Ranker.shipped("unknown") != Ranker.shipped()
    assert Chatbot(bot.index).ranker == ranker


def test_a_calibration_does_not_outlive_the_weights(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Calibration(2.0, -0.5, 0.25, fingerprint(encoder("m", "before")))
    save_calibration("m", held)
    used = Settings.load().ranker(encoder("m", "before"))
    assert (used.threshold, used.notice) == (0.25, "")
    other = Settings.load().ranker(encoder("m", "now"))
    assert other == replace(Ranker.shipped("m"), notice=other.notice)
    assert other.notice == (
        f"the calibration of 'm' in {file} was fitted on other weights and is not used:"
        " beleg eval --calibrate fits it anew"
    )
    # The ranker's weights count too; its own threshold does not.
    shipped = Ranker.shipped("m")
    monkeypatch.setattr(Ranker, "shipped", lambda name: replace(shipped, threshold=0.9))
    assert Settings.load().ranker(encoder("m", "before")) == used
    weights = shipped.weights | {"late": 99.0}  # type: ignore[operator]
    monkeypatch.setattr(Ranker, "shipped", lambda name: replace(shipped, weights=weights))
    assert Settings.load().ranker(encoder("m", "before")).notice
    write(file, calibration={"m": {key: SURE[key] for key in SURE if key != "fitted_on"}})
    assert Settings.load().ranker(encoder("m", "before")).notice


def test_the_command_says_that_a_calibration_does_not_fit(beleg: Run, file: Path) -> None:
    save_calibration("bundled", Calibration(**SURE))
    result = beleg("ask", QUESTION, BELEG_CONFIG=str(file))
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1
    assert "was fitted on other weights and is not used" in result.stderr


def test_the_fingerprint_is_that_of_the_weights(bot: Chatbot) -> None:
    encoders = [SentenceTransformerEncoder(), SentenceTransformerEncoder(BUNDLED)]
    before = [held.fingerprint for held in encoders]
    assert before[0] == bot.index.encoder.fingerprint != before[1]  # the latter has no reader
    assert re.fullmatch("[0-9a-f]{16}", before[0])
    name, weight = next(iter(encoders[0].network.named_parameters()))
    changed = SentenceTransformerEncoder()
    held = dict(changed.network.named_parameters())[name]
    held.data = weight.data.clone()
    held.data[0, 0] += 1
    assert changed.fingerprint != before[0]


def test_a_link_stays_one_and_the_mode_too(file: Path) -> None:
    real = file.parent / "real.json"
    real.write_text("{}", "utf-8")
    real.chmod(0o640)
    file.symlink_to(real)
    save_calibration("bundled", Calibration(**SURE))
    assert file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert Settings.load().calibration == {"bundled": Calibration(**SURE)}


def test_what_else_is_set_stays(file: Path) -> None:
    write(file, model="m")
    save_calibration("bundled", Calibration(**SURE))
    assert json.loads(file.read_text("utf-8")) == {"model": "m", "calibration": {"bundled": SURE}}


def test_a_calibration_changes_confidence_and_refusal(file: Path, bot: Chatbot) -> None:
    plain = bot.ask(QUESTION)
    assert plain.answered
    save_calibration("bundled", Calibration(0.5, -3.0, 0.5, fingerprint(bot.index.encoder)))
    answer = Chatbot(bot.index).ask(QUESTION)
    assert not answer.answered
    assert answer.withheld == plain.citations
    # By hand: the odds are raised to the power of the slope, times e to the intercept.
    odds = (plain.confidence / (1 - plain.confidence)) ** 0.5 * 2.718281828459045**-3
    assert answer.confidence == pytest.approx(odds / (1 + odds), rel=1e-4)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("{", "is not JSON: mend it, or remove it"),
        (b"\xff", "is not JSON"),
        ([], "must be an object, with the keys model, llm, llm_url, llm_timeout, calibration"),
        ({"llm": 7}, "llm must be text"),
        ({"llm_url": ["x"]}, "llm_url must be text"),
        (
            {"modle": "x"},
            'unknown key "modle": known are model, llm, llm_url, llm_timeout, calibration',
        ),
        ({"model": 3}, "model must be text"),
        ({"calibration": []}, "calibration must be an object"),
        ({"calibration": {"e": 1}}, "calibration of 'e' must be an object, with the keys slope"),
        ({"calibration": {"e": SURE | {"bias": 1}}}, 'unknown key "bias"'),
        ({"calibration": {"e": {"slope": 1}}}, "'e': intercept must be a number"),
        ({"calibration": {"e": SURE | {"slope": True}}}, "'e': slope must be a number"),
        ({"calibration": {"e": SURE | {"intercept": float("nan")}}}, "intercept must be a number"),
        ({"calibration": {"e": SURE | {"fitted_on": 1}}}, "fitted_on must be text"),
        ({"calibration": {"e": SURE | {"slope": 0}}}, "slope must be above 0"),
        ({"calibration": {"e": SURE | {"threshold": 1.5}}}, "threshold from 0 to 1"),
    ],
)
def test_what_is_wrong_with_the_file(held: object, says: str, file: Path) -> None:
    if isinstance(held, bytes):
        file.write_bytes(held)
    else:
        file.write_text(held if isinstance(held, str) else json.dumps(held), "utf-8")
    before = file.read_bytes()
    with pytest.raises(InputError) as raised:
        Settings.load()
    assert str(raised.value).startswith(str(file))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError):
        save_calibration("bundled", Calibration(**SURE))
    assert file.read_bytes() == before


def test_a_file_that_cannot_be_read_or_written(file: Path) -> None:
    file.mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        Settings.load()
    file.rmdir()
    file.parent.rmdir()
    file.parent.write_bytes(b"a file in the folder's place")
    with pytest.raises(InputError, match="cannot be"):
        save_calibration("bundled", Calibration(**SURE))


def test_the_command_reads_them(beleg: Run, file: Path, tmp_path: Path) -> None:
    # Folders that are not there: names of models would be asked for in the network.
    write(file, model=f"{tmp_path}/no-model")
    result = beleg("ask", QUESTION, EXAMPLE, BELEG_CONFIG=str(file))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "no-model" in result.stderr
    result = beleg("add", EXAMPLE, "--index", tmp_path / "index", BELEG_MODEL=f"{tmp_path}/other")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path}/other" in result.stderr
    file.write_text("{", "utf-8")
    result = beleg("ask", QUESTION, BELEG_CONFIG=str(file))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"beleg: {file} is not JSON: mend it, or remove it\n"


def test_the_seconds_of_a_language_model(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, llm_timeout=30)
    assert Settings.load().llm_timeout == 30.0
    monkeypatch.setenv("BELEG_LLM_TIMEOUT", "2.5")
    assert Settings.load().llm_timeout == 2.5
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("BELEG_LLM_TIMEOUT", wrong)
        with pytest.raises(InputError, match="a number of seconds, above 0"):
            Settings.load()
    monkeypatch.delenv("BELEG_LLM_TIMEOUT")
    write(file, llm_timeout=True)
    with pytest.raises(InputError, match="a number of seconds, above 0"):
        Settings.load()

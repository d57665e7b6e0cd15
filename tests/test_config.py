"""Settings: which of argument, environment and file counts, and what a wrong file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from index.errors import InputError
from rag.chatbot import EXAMPLE, Chatbot
from rag.config import Calibration, Settings, save_calibration, settings_file
from rag.extract import Ranker
from tests.conftest import Run

SURE = {"slope": 2.0, "intercept": -0.5, "threshold": 0.25}
QUESTION = "Why did Russia recall its ambassador?"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of settings, which is not there yet."""
    path = tmp_path / "folder" / "my settings.json"
    path.parent.mkdir()
    monkeypatch.setenv("BELEG_CONFIG", str(path))
    return path


def write(file: Path, **held: Any) -> None:
    file.write_text(json.dumps(held), "utf-8")


def test_without_anything_set(file: Path) -> None:
    assert Settings.load() == Settings(model=None, calibration={})
    assert Settings.load().ranker("bundled") == Ranker.shipped()
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
    assert save_calibration("bundled", Calibration(**SURE)) == file
    save_calibration("another", Calibration(1, 0, 1))
    save_calibration("another", Calibration(1, 0, 0.5))
    assert Settings.load().calibration == {
        "bundled": Calibration(**SURE),
        "another": Calibration(1, 0, 0.5),
    }
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    ranker = Settings.load().ranker("bundled")
    assert (ranker.slope, ranker.intercept, ranker.threshold) == (2.0, -0.5, 0.25)
    assert ranker.weights == Ranker.shipped().weights
    assert Settings.load().ranker("unknown") == Ranker.shipped("unknown") != Ranker.shipped()
    assert Chatbot(bot.index).ranker == ranker


def test_what_else_is_set_stays(file: Path) -> None:
    write(file, model="m")
    save_calibration("bundled", Calibration(**SURE))
    assert json.loads(file.read_text("utf-8")) == {"model": "m", "calibration": {"bundled": SURE}}


def test_a_calibration_changes_confidence_and_refusal(file: Path, bot: Chatbot) -> None:
    plain = bot.ask(QUESTION)
    assert plain.answered
    save_calibration("bundled", Calibration(0.5, -3.0, 0.5))
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
        ([], "must be an object, with the keys model, llm, llm_url, calibration"),
        ({"llm": 7}, "llm must be text"),
        ({"llm_url": ["x"]}, "llm_url must be text"),
        ({"modle": "x"}, 'unknown key "modle": known are model, llm, llm_url, calibration'),
        ({"model": 3}, "model must be text"),
        ({"calibration": []}, "calibration must be an object"),
        ({"calibration": {"e": 1}}, "calibration of 'e' must be an object, with the keys slope"),
        ({"calibration": {"e": SURE | {"bias": 1}}}, 'unknown key "bias"'),
        ({"calibration": {"e": {"slope": 1}}}, "'e': intercept must be a number"),
        ({"calibration": {"e": SURE | {"slope": True}}}, "'e': slope must be a number"),
        ({"calibration": {"e": SURE | {"intercept": float("nan")}}}, "intercept must be a number"),
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

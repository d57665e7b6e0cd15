"""The questions that the encoder and the ranker were fitted on: every answer is in its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.news import rows, windows
from tests.benchmarks.squad import texts_with_questions

FOLDER = Path(__file__).parent / "benchmarks" / "questions"
UNANSWERABLE = ("near", "topic", "far", "trap")


@pytest.mark.parametrize(("part", "texts"), [("dev", 24), ("train", 100)])
def test_answers_stand_in_their_texts(part: str, texts: int) -> None:
    found = texts_with_questions(FOLDER / part)
    assert len(found) >= texts
    for path, asked in found:
        text = path.read_text("utf-8")
        ids = {lang: [a.id for a in asked if a.language == lang] for lang in ("de", "en")}
        assert ids["de"] == ids["en"]
        assert len(set(ids["de"])) == len(ids["de"])
        for a in asked:
            assert bool(a.answers) != (a.style in UNANSWERABLE), f"{path.name}: {a.id}"
            assert all(answer in text for answer in a.answers), f"{path.name}: {a.id}"


def test_what_is_measured_was_not_learnt() -> None:
    names = {
        part: {path.name for path, _ in texts_with_questions(FOLDER / part)}
        for part in ("dev", "train")
    }
    assert not names["dev"] & names["train"]


def check_questions(window: dict[str, Any], lines: int) -> None:
    """The style tells whether there is an answer; lines named are of the window, each once."""
    for question in window["questions"]:
        assert ("answer" in question) != (question["style"] in UNANSWERABLE)
        beside = [question["beside"]] if "beside" in question else []
        named = question.get("lines", []) + beside
        assert len(set(named)) == len(named)
        assert all(1 <= number <= lines for number in named)


def test_windows_of_news_overlap_nowhere_and_their_answers_have_a_line() -> None:
    found = windows()
    numbers = [number for window in found for number in window["lines"]]
    assert len(set(numbers)) == len(numbers)
    assert len({window["id"] for window in found}) == len(found)
    assert sum(window["split"] == "dev" for window in found) == 171
    for window in found:
        check_questions(window, len(window["lines"]))


def test_every_answer_about_an_invented_text_stands_in_its_line() -> None:
    found = windows("invented.jsonl.gz")
    assert len({told["id"] for told in found}) == len(found) == 546
    for told in found:
        assert told["split"] == "train"
        check_questions(told, len(told["sentences"]))
        for question in told["questions"]:
            if "answer" in question:
                line = told["sentences"][question["lines"][0] - 1]
                assert question["answer"][told["language"]] in line
        for asked in ("de", "en"):
            assert len(rows(told, asked, told["language"], told["sentences"])) == len(
                told["questions"]
            )


def window(split: str) -> dict[str, object]:
    said = {"de": "Biden sagte Ja", "en": "Biden said yes"}
    asked = {"de": "Warum?", "en": "Why?", "style": "cause", "lines": [1], "answer": said}
    nothing = {"de": "Wo?", "en": "Where?", "style": "near"}
    return {"id": "m1", "split": split, "questions": [{**asked, "beside": 2}, nothing]}


@pytest.mark.parametrize(
    ("split", "answers"),
    [("train", ["Biden said yes", "Moscow called him back."]), ("dev", ["Biden said yes"])],
)
def test_what_a_reason_is_asked_about_is_learnt_but_not_measured(
    split: str, answers: list[str]
) -> None:
    sentences = ["Biden said yes to that.", "Moscow called him back.", "All went on."]
    found, nothing = map(json.loads, rows(window(split), "de", "en", sentences))
    assert (found["id"], found["question"], found["style"]) == ("m1-00", "Warum?", "cause")
    assert found["answers"] == answers
    assert [text in found["sentence"] for text in sentences] == [True, len(answers) == 2, False]
    assert (nothing["question"], nothing["answerable"], nothing["answers"]) == ("Wo?", False, [])

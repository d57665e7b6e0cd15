"""The questions that the encoder and the ranker were fitted on: every answer is in its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.squad import texts_with_questions

FOLDER = Path(__file__).parent / "benchmarks" / "questions"


@pytest.mark.parametrize(("part", "texts"), [("dev", 24), ("train", 100)])
def test_answers_stand_in_their_texts(part: str, texts: int) -> None:
    found = texts_with_questions(FOLDER / part)
    assert len(found) >= texts
    for path, asked in found:
        text = path.read_text("utf-8")
        ids = {lang: [a.id for a in asked if a.language == lang] for lang in ("de", "en")}
        assert ids["de"] == ids["en"]
        assert len(set(ids["de"])) == len(ids["de"])
        unanswerable = ("near", "topic", "far", "trap")
        for a in asked:
            assert bool(a.answers) != (a.style in unanswerable), f"{path.name}: {a.id}"
            assert all(answer in text for answer in a.answers), f"{path.name}: {a.id}"


def test_what_is_measured_was_not_learnt() -> None:
    names = {
        part: {path.name for path, _ in texts_with_questions(FOLDER / part)}
        for part in ("dev", "train")
    }
    assert not names["dev"] & names["train"]

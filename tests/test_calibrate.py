"""rag.calibrate: the map and the threshold against what they should be, and the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import InputError
from index.types import Document
from rag.calibrate import (
    ANSWERABLE,
    FALSELY,
    FEWEST,
    GIVEN,
    WITHOUT_ARTICLE,
    WITHOUT_DOCUMENT,
    Case,
    _left_out,
    cases,
    check_enough,
    figures,
    fit,
)
from rag.chatbot import Chatbot
from rag.config import Settings, fingerprint
from rag.evaluate import evaluate
from rag.extract import Ranker
from rag.metrics import Interval
from rag.questions import Question, check_answers
from rag.report import Report
from tests.conftest import Run
from ui.cli import main
from ui.evaluate import _keep, table
from ui.report import page

PLAIN = Ranker({}, {}, threshold=0.0)


def logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def drawn(number: int, slope: float, intercept: float) -> list[Case]:
    """Confidences whose logit is off by this slope and intercept; half are answerable."""
    random = np.random.default_rng(3)
    made = []
    for n in range(number):
        answerable = n % 2 == 0
        logit = random.normal(1 if answerable else -1, 2)
        right = bool(answerable and random.random() < logistic(slope * logit + intercept))
        made.append(Case(ANSWERABLE if answerable else GIVEN, str(n), logistic(logit), right))
    return made


def corrected(case: Case, found: Ranker) -> float:
    logit = math.log(case.confidence / (1 - case.confidence))
    return logistic(found.slope * logit + found.intercept)


def test_what_is_off_by_a_slope_and_an_intercept_is_put_right() -> None:
    # All answerable but for a few, so that the map is the one that was drawn from.
    random = np.random.default_rng(5)
    logits = random.normal(0, 2, 4000)
    held = [
        Case(ANSWERABLE, str(n), logistic(x), bool(random.random() < logistic(0.5 * x + 1)))
        for n, x in enumerate(logits)
    ]
    held += [Case(GIVEN, f"u{n}", 1e-9, False) for n in range(FEWEST)]
    found = fit(held, PLAIN)
    assert found.calibration.slope == pytest.approx(0.5, abs=0.06)
    assert found.calibration.intercept == pytest.approx(1, abs=0.1)
    before, after = found.before.calibration_error, found.after.calibration_error
    assert before is not None
    assert after is not None
    assert after.value < 0.03 < 0.1 < before.value
    assert before.low < before.value < before.high
    assert found.better


def test_what_is_calibrated_already_is_not_made_better() -> None:
    # Even odds at each confidence as it says, and a threshold that tells all apart.
    held = [
        Case(ANSWERABLE, f"{sure}{n}", sure, n < 100 * sure)
        for sure in (0.6, 0.8, 0.9)
        for n in range(100)
    ]
    held += [Case(GIVEN, f"u{n}", 0.001, False) for n in range(FEWEST)]
    found = fit(held, replace(PLAIN, threshold=0.3))
    assert found.before.false_abstention == found.after.false_abstention
    assert not found.better


def test_only_what_makes_something_better_is_kept(
    bot: Chatbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    monkeypatch.setenv("BELEG_CONFIG", str(file))
    found = fit(drawn(400, 0.6, 0.4), PLAIN)
    assert "it makes nothing better" in _keep(bot, replace(found, after=found.before))
    assert not file.exists()
    assert _keep(bot, found).startswith(f"written to {file}; to undo it, remove 'bundled'")
    held = Settings.load().calibration["bundled"]
    assert held == replace(found.calibration, fitted_on=fingerprint(bot.index.encoder))
    assert Chatbot(bot.index).ranker.threshold == held.threshold


def test_figures_by_hand() -> None:
    held = [Case(ANSWERABLE, str(n), 0.9, n < 8) for n in range(10)]
    held += [Case(GIVEN, "u", 0.4, False), Case(GIVEN, "v", -math.inf, False)]
    held += [Case(GIVEN, "k", 1.0, False, by_keywords=True)]
    found = figures(held, 0.5)
    assert found.calibration_error is not None
    assert found.calibration_error.value == pytest.approx((10 * 0.1 + 1 * 0.4) / 11)
    z2 = 1.959964**2
    assert found.false_abstention == Interval(0, 0, pytest.approx(z2 / (10 + z2), abs=1e-6))
    assert found.unanswerable_abstention == found.abstention[GIVEN]
    assert found.unanswerable_abstention is not None
    assert found.unanswerable_abstention.value == 1
    assert figures(held, 0.3).abstention[GIVEN].value == 0.5  # type: ignore[union-attr]


def test_confidences_by_keywords_are_left_out() -> None:
    made = drawn(200, 1, 0)
    # On the keyword path all are sure: none of this is the ranker's doing.
    keywords = [
        Case(ANSWERABLE if n % 2 else GIVEN, f"k{n}", 1.0, False, by_keywords=True)
        for n in range(200)
    ]
    with_them = fit([*made, *keywords], PLAIN)
    assert with_them.left_out == 200
    assert replace(with_them, left_out=0) == fit(made, PLAIN)
    with pytest.raises(InputError) as raised:
        fit([*made[:30], *keywords], PLAIN)
    assert str(raised.value) == (
        "to calibrate, 20 answerable questions are needed; there were 15, not counting 200 over"
        " documents in a language unknown to the encoder"
    )


def test_what_was_in_force_is_part_of_the_new_calibration() -> None:
    made = drawn(2000, 0.6, 0.4)
    found = fit(made, PLAIN)
    # The same answers, told by a ranker that is calibrated already.
    ranker = replace(PLAIN, slope=2.0, intercept=-1.0)
    again = [replace(case, confidence=corrected(case, ranker)) for case in made]
    second = fit(again, ranker)
    assert second.calibration.slope == pytest.approx(found.calibration.slope, rel=0.02)
    assert second.calibration.intercept == pytest.approx(found.calibration.intercept, abs=0.02)
    assert second.calibration.threshold == pytest.approx(found.calibration.threshold, abs=0.01)


chances = st.sampled_from([0.0, 0.2, 0.9, 1.0, -math.inf]) | st.floats(0.001, 0.999)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_threshold_is_the_highest_that_refuses_so_few(data: st.DataObject) -> None:
    sure = data.draw(st.lists(chances, min_size=FEWEST, max_size=60))
    held = [Case(ANSWERABLE, str(n), c, c > 0.3) for n, c in enumerate(sure)]
    held += [Case(GIVEN, f"u{n}", 0.01 + 0.01 * n, False) for n in range(FEWEST)]
    held += [Case(ANSWERABLE, f"r{n}", 0.95, True) for n in range(FEWEST)]
    found = fit(held, PLAIN).calibration
    ranker = replace(PLAIN, slope=found.slope, intercept=found.intercept)
    known = [c for c in held if c.kind == ANSWERABLE]
    after = sorted(
        -1.0 if case.confidence < 0 else corrected(
            replace(case, confidence=min(1 - 1e-9, max(1e-9, case.confidence))), ranker)
        for case in known
    )  # fmt: skip
    assert found.slope > 0
    assert 0 <= found.threshold <= 1
    refused = sum(c < found.threshold for c in after)
    never = sum(c < 0 for c in after)
    assert refused <= max(never, FALSELY * len(known))
    # One question more would be too many.
    higher = [c for c in after if c > found.threshold + 2e-6]
    if higher:
        more = sum(c < higher[0] for c in after)
        assert more > FALSELY * len(known) or more == refused


def test_what_can_never_be_cited_is_never_answered() -> None:
    held = drawn(200, 1, 0) + [Case(GIVEN, f"u{n}", -math.inf, False) for n in range(200)]
    with_none, without = fit(held, PLAIN), fit(held[:200], PLAIN)
    assert with_none.calibration == without.calibration
    rates = [found.after.unanswerable_abstention for found in (with_none, without)]
    assert rates[0] is not None
    assert rates[1] is not None
    assert rates[0].value > rates[1].value
    assert with_none.questions == {ANSWERABLE: 100, GIVEN: 300}


def test_rates_are_told_by_kind() -> None:
    near = [Case(WITHOUT_DOCUMENT, f"n{n}", 0.86, False) for n in range(30)]
    far = [Case(WITHOUT_ARTICLE, f"f{n}", 0.001, False) for n in range(10)]
    known = [Case(ANSWERABLE, str(n), 0.9 - n / 1000, n % 5 > 0) for n in range(100)]
    found = fit([*known, *near, *far], PLAIN)
    shares = {kind: held and held.value for kind, held in found.after.abstention.items()}
    assert shares == {WITHOUT_DOCUMENT: 0.0, WITHOUT_ARTICLE: 1.0}
    assert found.after.unanswerable_abstention is not None
    assert found.after.unanswerable_abstention.value == 0.25


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ([], "to calibrate, 20 answerable questions are needed; there were 0"),
        (drawn(38, 1, 0), "20 answerable questions are needed; there were 19"),
        ([c for c in drawn(80, 1, 0) if c.kind != GIVEN], "20 unanswerable questions are needed"),
        (
            [replace(c, right=False) for c in drawn(80, 1, 0)],
            "10 right answers are needed; there were 0",
        ),
        (
            [replace(c, confidence=-math.inf) if not c.right else c for c in drawn(80, 1, 0)],
            "10 wrong answers are needed; there were 0",
        ),
        (
            [replace(c, confidence=1 - c.confidence) for c in drawn(400, 2, 0)],
            "the confidence must be higher where the answer is right",
        ),
    ],
)
def test_what_cannot_be_calibrated(held: list[Case], says: str) -> None:
    with pytest.raises(InputError) as raised:
        fit(held, PLAIN)
    assert says in str(raised.value)


# ---- Questions that are made -----------------------------------------------------------------

PEOPLE = (
    "Ada Bob Cleo Dora Emil Fred Gina Hugo Ida Jan Kim Lea Max Nina Otto Paul Rosa Sven".split()
)
TOWNS = "Rom Genf Oslo Bonn Kiel Riga Bern Linz Graz Lyon Turin Köln Mainz Trier Ulm Jena".split()
PEOPLE += ["Tom", "Uwe", "Vera", "Willi"]
TOWNS += ["Halle", "Essen", "Worms", "Fulda", "Emden", "Passau"]
LIVES = [
    f"{name} wohnt seit vielen Jahren in {town}." for name, town in zip(PEOPLE, TOWNS, strict=True)
]
HOMES = [
    Document(text, f"{name}.txt", ("Norden", "Süden")[n % 2], "de")
    for n, (name, text) in enumerate(zip(PEOPLE, LIVES, strict=True))
]


def asked() -> list[Question]:
    return [
        Question(name, f"Wo wohnt {name}?", "de", (town,))
        for name, town in zip(PEOPLE, TOWNS, strict=True)
    ]


def test_questions_are_asked_again_without_the_document_that_answers(bot: Chatbot) -> None:
    homes = Chatbot(type(bot.index)(encoder=bot.index.encoder))
    homes.index.add(HOMES)
    questions = [*asked(), Question("x", "Wer kocht?", "de", answerable=False)]
    report = evaluate(homes, questions)
    seen: list[tuple[int, int]] = []
    found = cases(homes, questions, report.rows, on_progress=lambda *told: seen.append(told))
    kinds = [case.kind for case in found]
    half = len(PEOPLE) // 2
    assert kinds[: len(PEOPLE) + 1] == [*len(PEOPLE) * [ANSWERABLE], GIVEN]
    assert sorted(kinds[len(PEOPLE) + 1 :]) == [
        *half * [WITHOUT_ARTICLE],
        *half * [WITHOUT_DOCUMENT],
    ]
    assert seen[-1] == (len(PEOPLE), len(PEOPLE))
    # Each is asked twice, and only where the answer was left in is it right.
    assert sorted(case.question for case in found if case.question != "x") == sorted(2 * PEOPLE)
    assert not any(case.right for case in found[len(PEOPLE) :])
    assert sum(case.right for case in found) > len(PEOPLE) // 2
    assert [document.source for document in homes.documents] == [d.source for d in HOMES]


def test_what_remains_must_not_answer() -> None:
    again = Document(f"Auch Zoe wohnt in {TOWNS[0]}. {TOWNS[1]}er Marken.", "z.txt", "Westen", "de")
    documents = [*HOMES, again]
    questions = [replace(question, document=f"{question.id}.txt") for question in asked()]
    made = _left_out(check_answers(questions, documents), documents)
    # The first answer stands elsewhere too; the second only within another word.
    names = [question.id for question, _, _ in made]
    assert names == PEOPLE[1:]


def test_an_unknown_language_does_not_count(bot: Chatbot) -> None:
    text = "Il vertice si è tenuto a Ginevra. Era il primo incontro fra i due presidenti."
    homes = Chatbot(type(bot.index)(encoder=bot.index.encoder))
    homes.index.add([Document(text, "it.txt", "Vertice", "it")])
    question = Question("q", "Dove si è tenuto il vertice?", "de", ("Ginevra",))
    assert homes.ask(question.question).by_keywords
    report = evaluate(homes, [question])
    assert report.rows[0].by_keywords
    assert report.rows[0].confidence is not None
    assert report.metrics["calibration_error"] is None
    assert report.metrics["calibration_error_by_chance"] is None
    assert [case.by_keywords for case in cases(homes, [question], report.rows)] == [True]
    assert Report.from_json(report.to_json()) == report
    assert "What the threshold does" not in page(report)
    assert "unknown to the encoder" in page(report)
    assert "unknown to the encoder" in table(report)
    assert not bot.ask("Wo war der Gipfel?").by_keywords


def test_enough_that_are_unanswerable_are_not_added_to(bot: Chatbot) -> None:
    unsaid = [Question(str(n), "Wer kocht?", "de", answerable=False) for n in range(FEWEST)]
    rows = evaluate(bot, unsaid[:1]).rows
    rows = tuple(replace(rows[0], id=question.id) for question in unsaid)
    assert [case.kind for case in cases(bot, unsaid, rows)] == FEWEST * [GIVEN]


def test_too_few_are_told_before_any_is_asked() -> None:
    questions = check_answers(asked(), HOMES)
    check_enough(questions, HOMES)
    with pytest.raises(InputError, match="20 answerable questions are needed, and there are 19"):
        check_enough(questions[:19], HOMES)
    # Over one document alone, leaving it out would leave nothing to ask.
    whole = [Document(" ".join(LIVES), "all.txt", "All", "de")]
    alone = check_answers(asked(), whole)
    with pytest.raises(InputError, match=r"are needed, and there are 0 \(0 could be made"):
        check_enough(alone, whole)
    unsaid = [Question(str(n), "Wer kocht?", "de", answerable=False) for n in range(FEWEST)]
    check_enough([*alone, *unsaid], whole)


# ---- The command -----------------------------------------------------------------------------


def test_the_command_writes_what_the_chat_reads(
    beleg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tmp_path / "homes", tmp_path / "settings.json"
    folder.mkdir()
    for document in HOMES:
        (folder / document.source).write_text(document.text, "utf-8")
    rows = ({"id": q.id, "question": q.question, "answers": q.answers} for q in asked())
    questions = tmp_path / "q.jsonl"
    questions.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    outputs = ("--json", tmp_path / "r.json", "--html", tmp_path / "r.html")
    result = beleg("eval", questions, folder, "--calibrate", *outputs, BELEG_CONFIG=str(file))
    assert (result.returncode, result.stderr) == (0, "")
    assert "All figures above are from before the calibration." in result.stdout
    assert f"written to {file}; to undo it, remove 'bundled' under calibration" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["calibration"]["better"]
    assert "from before this calibration" in report["calibration"]["note"]
    after = report["calibration"]["after"]
    assert f"[{after['calibration_error']['low']:.3f}, " in (tmp_path / "r.html").read_text("utf-8")
    assert after["abstention"].keys() == {WITHOUT_DOCUMENT}
    assert Report.from_json(report).settings["encoder"] == "bundled"
    assert WITHOUT_DOCUMENT in result.stdout
    monkeypatch.setenv("BELEG_CONFIG", str(file))
    held = Settings.load().calibration["bundled"]
    assert f"threshold {held.threshold:.4g}, slope {held.slope:.4g}" in result.stdout
    written = file.read_bytes()

    result = beleg("eval", questions, folder / "Ada.txt", "--calibrate", BELEG_CONFIG=str(file))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert file.read_bytes() == written


def test_too_few_are_one_line_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(name: str) -> None:
        raise AssertionError("an encoder is loaded")

    monkeypatch.setattr("index.embed._load", loaded)
    monkeypatch.setattr("ui.cli._hush", lambda: None)
    (tmp_path / "a.txt").write_text(LIVES[0], "utf-8")
    row = {"id": "a", "question": "Wo wohnt Ada?", "answers": [TOWNS[0]]}
    (tmp_path / "q.jsonl").write_text(json.dumps(row), "utf-8")
    assert main(["eval", f"{tmp_path}/q.jsonl", f"{tmp_path}/a.txt", "--calibrate"]) == 2
    said = capsys.readouterr()
    assert said.err == (
        "beleg: to calibrate, 20 answerable questions are needed, and there are 1\n"
    )
    assert said.out == ""

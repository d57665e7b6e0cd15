"""What a visitor does, without a browser: documents, settings, verdicts, test questions."""

from __future__ import annotations

import gc
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from index.errors import InputError
from index.store import PassageIndex
from index.types import Document
from rag.chatbot import Chatbot
from rag.questions import check_answers, read_questions
from tests.tiny import TinyEncoder
from ui import render, source
from ui.phrases import phrase
from ui.render import Adding
from ui.speech import Speech
from ui.visit import House, Visit, pasted

START = Document("Der Tresor steht im Keller. Er ist grün.", "start.txt", "Start", "de")
OWN = Document("Die Kartoffeln kochen zwanzig Minuten.", "own.txt", "Own", "de")


class Encoder(TinyEncoder):
    """With what a report wants to know."""

    fingerprint = "tiny"


def reading(*documents: Document) -> list[tuple[str, Callable[[], Document]]]:
    return [(document.source, lambda document=document: document) for document in documents]


def last(steps: object) -> Adding:
    *_, found = steps  # type: ignore[misc]
    assert isinstance(found, Adding)
    return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    index = PassageIndex(encoder=Encoder())
    index.add(START)
    return House(Chatbot(index), feedback=tmp_path / "kept" / "feedback.jsonl")


def sources(house: House, visit: Visit) -> list[str]:
    return [document.source for document in house.documents(visit)]


def test_what_a_visitor_adds_and_removes_no_other_sees(house: House) -> None:
    visit, other = Visit(language="en"), Visit(language="en")
    found = last(house.add(visit, reading(OWN)))
    assert [document.source for document in found.added] == ["own.txt"]
    assert sources(house, visit) == ["start.txt", "own.txt"]
    assert house.own(visit) == {OWN.id}
    assert house.find(visit, OWN.id) == OWN
    assert house.remove(visit, START.id) == ["start.txt"]
    assert sources(house, visit) == ["own.txt"]
    assert sources(house, other) == ["start.txt"]
    assert house.find(other, OWN.id) is None
    with pytest.raises(InputError):
        house.remove(other, OWN.id)


def test_where_no_document_is_left_that_is_said_everywhere(house: House) -> None:
    visit = Visit(language="de")
    house.remove(visit, START.id)
    *_, turn = house.ask(visit, "Wo steht der Tresor?")
    shown = render.conversation([turn], "de")
    assert "Es gibt kein Dokument" in shown
    assert "folgenden Stellen" not in shown
    assert 'class="copy"' not in shown
    listed = render.documents(house.documents(visit), (), "de")
    assert "Es sind keine Dokumente da." in listed
    assert "<ul" not in listed
    assert "Es sind keine Dokumente da." in source.pane(None, (), "de")


def test_an_index_on_disk_is_everybodys(tmp_path: Path) -> None:
    index = PassageIndex(tmp_path / "index", encoder=Encoder())
    index.add(START)
    house = House(Chatbot(index))
    visit, other = Visit(language="en"), Visit(language="en")
    last(house.add(visit, reading(OWN)))
    assert sources(house, other) == ["start.txt", "own.txt"]
    house.remove(other, "start.txt")
    assert sources(house, visit) == ["own.txt"]
    assert PassageIndex(tmp_path / "index", encoder=Encoder()).documents[0] == OWN


def test_a_fixed_index_is_asked_but_not_changed(tmp_path: Path) -> None:
    index = PassageIndex(tmp_path / "index", encoder=Encoder())
    index.add(START)
    house = House(Chatbot(index), changes=False)
    visit = Visit(language="de")
    read = False

    def reads() -> Document:
        nonlocal read
        read = True
        return OWN

    found = last(house.add(visit, [("own.txt", reads)]))
    assert (found.added, read) == ((), False)
    assert "nicht geändert" in found.problems[0]
    with pytest.raises(InputError, match="nicht geändert"):
        house.remove(visit, "start.txt")
    assert sources(house, visit) == ["start.txt"]
    assert PassageIndex(tmp_path / "index", encoder=Encoder()).documents[0] == START
    *_, turn = house.ask(visit, "Wo steht der Tresor?")
    assert turn.answer is not None


def test_what_cannot_be_read_is_told_and_the_rest_is_added(house: House) -> None:
    def broken() -> Document:
        raise InputError("broken.pdf is damaged")

    def bug() -> Document:
        raise ZeroDivisionError

    visit = Visit(language="en")
    given = [("broken.pdf", broken), *reading(OWN), ("bug.txt", bug)]
    steps = list(house.add(visit, given))
    assert [(step.reading, step.number, step.total) for step in steps[:-1]] == [
        ("broken.pdf", 1, 3), ("own.txt", 2, 3), ("bug.txt", 3, 3),
    ]  # fmt: skip
    assert steps[-1].added == (OWN,)
    assert steps[-1].problems[0] == "broken.pdf is damaged"
    assert "bug.txt" in steps[-1].problems[1]
    assert "ZeroDivisionError" in steps[-1].problems[1]


def test_what_changes_at_once_all_counts(house: House) -> None:
    visit = Visit(language="en")
    begun, go_on = threading.Event(), threading.Event()
    third = Document("Noch ein Text.", "third.txt", "Third", "de")

    def slow() -> Document:
        begun.set()
        assert go_on.wait(30)
        return OWN

    found: list[Adding] = []
    upload = threading.Thread(target=lambda: found.append(last(house.add(visit, [("", slow)]))))
    upload.start()
    assert begun.wait(30)
    assert last(house.add(visit, reading(third))).added == (third,)
    house.remove(visit, "start.txt")
    go_on.set()
    upload.join(30)
    assert found[0].added == (OWN,)
    assert sources(house, visit) == ["third.txt", "own.txt"]
    assert sources(house, Visit()) == ["start.txt"]


def test_a_visit_is_forked_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    visit, fork = Visit(language="en"), Chatbot.fork

    def slow(self: Chatbot) -> Chatbot:
        time.sleep(0.3)
        return fork(self)

    monkeypatch.setattr(Chatbot, "fork", slow)
    given = [Document(f"Text {n}.", f"{n}.txt", str(n), "de") for n in range(4)]
    adding = [
        threading.Thread(target=lambda one=one: last(house.add(visit, reading(one))))
        for one in given
    ]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join(30)
    assert sorted(sources(house, visit)) == ["0.txt", "1.txt", "2.txt", "3.txt", "start.txt"]


@pytest.mark.parametrize("after", ["before reading", "while reading"])
def test_after_cancel_nothing_more_is_added(house: House, after: str) -> None:
    visit = Visit(language="en")

    def slow() -> Document:
        if after == "while reading":
            visit.stop()
        return OWN

    third = Document("Noch ein Text.", "third.txt", "Third", "de")
    steps = house.add(visit, [("own.txt", slow), *reading(third)])
    next(steps)
    if after == "before reading":
        visit.stop()
    found = last(steps)
    assert found.added == ()
    assert "Cancelled" in found.problems[-1]
    assert sources(house, visit) == ["start.txt"]


class Slow(Encoder):
    """Embeds passages when it may ``go_on``, once it is ``held``."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self.begun, self.go_on, self.ended = (threading.Event() for _ in range(3))

    def passages(self, texts: Sequence[str], *, progress: str = "") -> NDArray[np.float32]:
        if self.held:
            self.begun.set()
            assert self.go_on.wait(30)
        return super().passages(texts, progress=progress)


@pytest.mark.parametrize("on_disk", [False, True])
def test_cancel_does_not_wait_for_what_is_embedded_and_what_was_there_stays(
    tmp_path: Path, on_disk: bool
) -> None:
    encoder = Slow()
    index = PassageIndex(tmp_path / "index" if on_disk else None, encoder=encoder)
    index.add(START)
    house, visit = House(Chatbot(index)), Visit(language="en")
    last(house.add(visit, reading(OWN)))
    encoder.held = True
    newer = Document("Die Kartoffeln kochen lange.", OWN.source, "Own", "de")
    threading.Thread(target=lambda: encoder.begun.wait(30) and visit.stop()).start()
    before = set(threading.enumerate())
    found = last(house.add(visit, reading(newer)))  # while it is still being embedded
    assert found.added == ()
    assert "Cancelled" in found.problems[-1]
    encoder.go_on.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert list(house.documents(visit)) == [START, OWN]
    assert last(house.add(visit, reading(newer))).added == (newer,)
    assert list(house.documents(visit)) == [START, newer]


@pytest.mark.parametrize("end", ["the visitor leaves", "the page is closed"])
def test_what_is_embedded_is_given_up_at_the_end(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Slow()
    index = PassageIndex(encoder=encoder)
    index.add(START)
    house, visit = House(Chatbot(index)), Visit(language="en")
    encoder.held = True
    before = set(threading.enumerate())
    third = Document("Noch ein Text.", "third.txt", "Third", "de")
    house.give(visit, reading(OWN, third))
    steps = house.read(visit)
    if end == "the visitor leaves":
        next(steps)

        def leave(self: object, seconds: float) -> bool:  # as Gradio ends the steps
            assert encoder.begun.wait(30)
            raise GeneratorExit

        monkeypatch.setattr("ui.visit._Work.wait", leave)
        with pytest.raises(GeneratorExit):
            next(steps)
        encoder.go_on.set()
    else:
        reader = threading.Thread(target=lambda: list(steps))
        reader.start()
        assert encoder.begun.wait(30)
        threading.Timer(0.2, encoder.go_on.set).start()
        house.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert list(house.documents(visit)) == [START]


def test_what_is_being_written_when_it_is_cancelled_is_there_and_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = Visit(language="en")
    add = Chatbot.add

    def late(self: Chatbot, document: Document, **options: Any) -> list[Document]:
        added = add(self, document, **options)
        visit.stop()
        time.sleep(0.5)  # the visitor's thread sees it
        return added

    monkeypatch.setattr(Chatbot, "add", late)
    other = Document("Ein anderer Text.", "other.txt", "Other", "de")
    found = last(house.add(visit, reading(OWN, other)))
    assert found.added == (OWN,)
    assert sources(house, visit) == ["start.txt", "own.txt"]


def test_a_visit_has_room_for_so_much(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.visit.DOCUMENTS", 1)
    visit = Visit(language="de")
    other = Document("Ein anderer Text.", "other.txt", "Other", "de")
    found = last(house.add(visit, reading(OWN, other)))
    assert found.added == (OWN,)
    assert "kein Platz" in found.problems[0]
    again = Document("Die Kartoffeln kochen lange.", "own.txt", "Own", "de")
    assert last(house.add(visit, reading(again))).added == (again,)  # it takes the old one's place


def test_the_first_document_needs_room_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.visit.CHARACTERS", len(OWN.text) - 1)
    visit = Visit(language="en")
    found = last(house.add(visit, reading(OWN)))
    assert found.added == ()
    assert "no room" in found.problems[0]
    monkeypatch.setattr("ui.visit.CHARACTERS", len(OWN.text))
    assert last(house.add(visit, reading(OWN))).added == (OWN,)


def test_what_is_being_added_takes_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.visit.DOCUMENTS", 1)
    visit = Visit(language="en")
    begun, go_on, add = threading.Event(), threading.Event(), Chatbot.add

    def slow(self: Chatbot, *given: Any, **options: Any) -> list[Document]:
        begun.set()
        assert go_on.wait(30)
        return add(self, *given, **options)

    monkeypatch.setattr(Chatbot, "add", slow)
    first = threading.Thread(target=lambda: last(house.add(visit, reading(OWN))))
    first.start()
    assert begun.wait(30)
    third = Document("Noch ein Text.", "third.txt", "Third", "de")
    adding = house.add(visit, reading(third))
    threading.Timer(0.5, go_on.set).start()
    assert "no room" in last(adding).problems[0]
    first.join(30)
    assert sources(house, visit) == ["start.txt", "own.txt"]


def test_all_visits_together_have_room_for_so_much(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.visit.ALL_CHARACTERS", len(OWN.text) + 5)
    visit, other = Visit(language="de"), Visit(language="de")
    assert last(house.add(visit, reading(OWN))).added == (OWN,)
    assert "alle besucher" in last(house.add(other, reading(OWN))).problems[0].lower()
    house.remove(visit, "own.txt")
    assert last(house.add(other, reading(OWN))).added == (OWN,)
    assert last(house.add(visit, reading(OWN))).added == ()
    del other  # its page is closed
    gc.collect()
    assert last(house.add(visit, reading(OWN))).added == (OWN,)


def test_pasted_text_is_a_document() -> None:
    named = pasted(
        "Ein\u00a0Text,\r\nder deutsch ist und nicht englisch. \ud800", " Mein\nTitel ", ()
    )
    assert (named.source, named.title, named.language) == ("Mein Titel", "Mein Titel", "de")
    assert named.text == "Ein Text,\nder deutsch ist und nicht englisch. ?"
    assert pasted("Text.", "", ["Text 1", "Text 3"]).source == "Text 2"
    with pytest.raises(InputError):
        pasted(" \u200b\n", "x", ())


def test_settings_are_one_visitors(house: House) -> None:
    visit = Visit(strict=True, follow_ups=False)
    assert (house.bot(visit).strict, house.bot(visit).follow_ups) == (True, False)
    assert (house.bot(Visit()).strict, house.bot(Visit()).follow_ups) == (False, True)
    assert house.start.strict is False


def test_a_turn_keeps_its_number_and_old_ones_go(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.visit.TURNS", 2)
    visit = Visit(language="en")
    for _ in range(3):
        *_, turn = house.ask(visit, "Wo steht der Tresor?")
    assert turn.answer is not None
    assert [held.number for held in visit.turns] == [2, 3]
    assert visit.turn("t3") == turn
    assert visit.turn("t1") is None
    assert visit.marks("t1") == visit.marks("nonsense") == []


def test_a_question_waits_for_what_is_being_read(house: House) -> None:
    visit = Visit(language="en")
    assert house.awaited(visit) == ""
    adding = house.add(visit, reading(OWN))
    next(adding)
    assert "own.txt" in house.awaited(visit)
    assert house.awaited(Visit()) == ""
    visit.stop()
    assert house.awaited(visit) == ""  # what is not kept is not waited for
    last(adding)
    adding = house.add(visit, reading(OWN))
    next(adding)
    last(adding)
    assert house.awaited(visit) == ""


def test_cancel_stops_all_that_is_being_read(house: House) -> None:
    visit = Visit(language="en")
    third = Document("Noch ein Text.", "third.txt", "Third", "de")
    both = [house.add(visit, reading(OWN)), house.add(visit, reading(third))]
    for adding in both:
        next(adding)
    visit.stop()
    for adding in both:
        assert last(adding).added == ()
    assert sources(house, visit) == ["start.txt"]


def test_what_waits_to_be_read_is_waited_for_stopped_or_refused(house: House) -> None:
    visit = Visit(language="en")
    third = Document("Noch ein Text.", "third.txt", "Third", "de")
    assert house.give(visit, reading(OWN)).waiting == ((1, "own.txt"),)
    assert "own.txt" in house.awaited(visit)
    house.give(visit, reading(third, third))
    refused = house.refuse_given(visit)
    assert ("waiting" in refused.problems[0], refused.waiting) == (True, ((1, "own.txt"),))
    assert [d.source for d in last(house.read(visit)).added] == ["own.txt"]
    assert house.awaited(visit) == ""
    house.give(visit, reading(third))
    visit.stop()
    assert house.awaited(visit) == ""
    assert list(house.read(visit)) == []
    assert sources(house, visit) == ["start.txt", "own.txt"]


def test_each_file_is_left_out_or_its_error_closed_by_itself(house: House) -> None:
    def broken() -> Document:
        raise InputError("broken.pdf is damaged")

    visit = Visit(language="en")
    third = Document("Noch ein Text.", "third.txt", "Third", "de")
    last_one = Document("Ein letzter Text.", "last.txt", "Last", "de")
    house.give(visit, [("broken.pdf", broken), *reading(OWN, third, last_one)])
    steps = house.read(visit)
    first = next(steps)
    assert (first.reading, first.stop) == ("broken.pdf", 1)
    assert [name for _, name in first.waiting] == ["own.txt", "third.txt", "last.txt"]
    assert [name for _, name in house.leave_out(visit, 3).waiting] == ["own.txt", "last.txt"]
    later = next(steps)
    while later.reading != "own.txt":
        later = next(steps)
    assert later.problems == ("broken.pdf is damaged",)
    house.leave_out(visit, later.stop)
    assert house.dismiss(visit, 0).problems == ()
    found = last(steps)
    assert [document.source for document in found.added] == ["last.txt"]
    assert found.problems == (phrase("stopped", "en"),)
    assert sources(house, visit) == ["start.txt", "last.txt"]
    assert visit.adding == {}


def test_a_question_that_is_refused_says_so_and_the_next_is_answered(house: House) -> None:
    visit = Visit(language="de")
    house.begin(visit, "Wo steht der Tresor?")
    house.refuse(visit)
    assert "warten" in visit.turns[0].error
    house.refuse(visit)
    house.begin(visit, "Wo ist der Tresor?")
    list(house.answer(visit))
    assert [turn.answer is not None for turn in visit.turns] == [False, True]


def test_questions_are_answered_in_their_order(house: House) -> None:
    visit = Visit(language="en")
    for question in ("Wo steht der Tresor?", "?" * 100_000, "Wer?"):
        house.begin(visit, question)
    for _ in range(3):
        last_of = [turn.number for turn in house.answer(visit)][-1]
        assert last_of == max(t.number for t in visit.turns if t.answer or t.error)
    assert visit.turns[1].error
    assert list(house.answer(visit)) == []


def test_a_question_that_has_no_answer_yet_is_asked_once(house: House) -> None:
    visit = Visit(language="en")
    turn = house.begin(visit, "Wer?")
    assert house.is_open(visit, "Wer?")
    assert not house.is_open(visit, "Wo?")
    house.wait(visit, turn, "First, own.txt is read")
    assert visit.turns[0].waiting
    house.wait(visit, turn, "")
    list(house.answer(visit))
    assert not house.is_open(visit, "Wer?")
    house.wait(visit, turn, "")  # as late as that
    assert visit.turns[0].answer is not None


def test_all_questions_that_wait_are_told_what_for_at_once(house: House) -> None:
    visit = Visit(language="en")
    _, *waiting = (house.begin(visit, question) for question in ("Wer?", "Wo?", "Wann?"))
    for turn in waiting:
        house.wait(visit, turn, "First, own.txt is read")
    assert [bool(turn.waiting) for turn in visit.turns] == [False, True, True]
    house.wait(visit, waiting[1], "")
    assert not any(turn.waiting for turn in visit.turns)


def test_an_error_is_the_turns(house: House) -> None:
    visit = Visit(language="en")
    *_, turn = house.ask(visit, "?" * 100_000)
    assert turn.answer is None
    assert turn.error


def test_verdicts_are_test_questions_that_eval_reads(house: House) -> None:
    visit = Visit(language="en")
    for question in ("Wo steht der Tresor?", "Wo steht der Tresor?", "Wo ist der Tresor?", "Wer?"):
        *_, _turn = house.ask(visit, question)
    answered = visit.turns[0].answer
    assert answered is not None
    house.rate(visit, "t1", "right")
    house.rate(visit, "t2", "not said")
    house.rate(visit, "t3", "words", "nicht  da")
    assert "none of the documents" in visit.turns[2].problem
    house.rate(visit, "t3", "words", " im\nKeller ")
    assert house.feedback is not None
    questions = read_questions(house.feedback).questions
    check_answers(questions, house.documents(visit))
    assert len({question.id for question in questions}) == 3
    lines = [json.loads(line) for line in house.feedback.read_text("utf-8").splitlines()]
    if answered.answered:
        assert lines[0]["answers"] == [citation.quote for citation in answered.citations]
        assert lines[0]["document"] == "start.txt"
    else:
        assert lines[0]["answerable"] is False
    assert lines[1]["answerable"] is False
    assert lines[2]["answers"] == ["im\nKeller"]
    assert all(visit.turns[n].rated for n in range(3))


def test_a_verdict_is_taken_back_or_changed_and_what_others_wrote_stays(house: House) -> None:
    assert house.feedback is not None
    other = House(house.start, feedback=house.feedback)  # another process with the same file
    visit, visitor = Visit(language="en"), Visit(language="en")
    for each, asked in ((house, visit), (other, visitor)):
        for question in ("Wo steht der Tresor?", "Wer?"):
            *_, _turn = each.ask(asked, question)

    def kept() -> list[tuple[str, bool]]:
        found = read_questions(house.feedback or "").questions
        return [(question.question[:4], question.answerable) for question in found]

    house.rate(visit, "t1", "words", "Keller")
    other.rate(visitor, "t2", "not said")
    assert kept() == [("Wo s", True), ("Wer?", False)]
    house.rate(visit, "t1", "not said")
    assert kept() == [("Wer?", False), ("Wo s", False)]
    house.rate(visit, "t1", "words", "nicht da")
    assert visit.turns[0].problem
    assert kept() == [("Wer?", False), ("Wo s", False)]
    house.rate(visit, "t1", "back")
    assert (visit.turns[0].rated, visit.turns[0].problem) == ("", "")
    house.rate(visit, "t1", "back")  # there is nothing to take back
    assert kept() == [("Wer?", False)]
    house.rate(visit, "t1", "words", "Keller")
    other.rate(visitor, "t2", "back")
    assert kept() == [("Wo s", True)]
    house.feedback.unlink()
    house.rate(visit, "t1", "back")
    assert (visit.turns[0].rated, visit.turns[0].problem) == ("", "")
    assert not house.feedback.exists()


def test_the_file_of_verdicts_does_not_grow_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.visit.FEEDBACK", 150)
    visit = Visit(language="en")
    for number in (1, 2, 3):
        *_, _turn = house.ask(visit, "Wo steht der Tresor?")
        house.rate(visit, f"t{number}", "not said")
    assert house.feedback is not None
    assert house.feedback.stat().st_size <= 150
    assert "full" in visit.turns[2].problem


def test_test_questions_are_asked_and_failures_open(house: House, tmp_path: Path) -> None:
    from ui.trial import shown

    file = tmp_path / "<b>q.jsonl"
    rows = [
        {"id": "1", "question": "Wo steht der Tresor?", "answers": ["grün"]},
        {"id": "2", "question": "Was kostet <b>Zucker</b>?", "answerable": False},
    ]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    visit = Visit(language="en")
    *_, trial = house.evaluate(visit, str(file))
    assert trial.report is not None
    assert (trial.done, trial.total, len(trial.report.rows)) == (2, 2, 2)
    html = shown(trial, "en")
    assert "<b>Zucker" not in html
    german = shown(trial, "de")
    assert "<h2>Bericht der Auswertung</h2>" in german
    assert "&lt;h1&gt;Wie gut sind die Antworten?&lt;/h1&gt;" in german  # in its frame
    lost = Speech("de")(trial.lost[0].stage or "")
    assert lost != trial.lost[0].stage
    assert f'<span class="label">{lost}</span>' in german
    for number, row in enumerate(trial.lost):
        for mark in visit.marks(f"e{number}"):
            assert mark.document == START
        if row.gold:
            gold = visit.marks(f"e{number}")[-1]
            assert START.text[gold.start : gold.end] == "grün"
    assert visit.marks("e99") == visit.marks("ex") == []

    file.write_text("{", "utf-8")
    *_, trial = house.evaluate(visit, str(file))
    assert trial.report is None
    assert "line 1" in trial.problem
    assert str(tmp_path) not in trial.problem
    assert "<b>" not in shown(trial, "en")


def never_ending(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let evaluations go on until they are told to stop; what is returned is set by then."""
    ended = threading.Event()

    def endless(*args: Any, on_progress: Callable[[int, int], None]) -> None:
        try:
            for number in itertools.count():
                on_progress(number, 1000)
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr("ui.trial.evaluate", endless)
    return ended


def test_an_evaluation_ends_when_its_visitor_leaves(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"id": "1", "question": "Wer?", "answerable": False}), "utf-8")
    ended = never_ending(monkeypatch)
    steps = house.evaluate(Visit(language="en"), str(file))
    for _ in range(3):
        next(steps)
    assert not ended.is_set()
    steps.close()  # type: ignore[attr-defined]
    assert ended.wait(5)


def test_an_evaluation_waits_is_stopped_refused_or_replaced(house: House, tmp_path: Path) -> None:
    from ui.trial import shown

    file = tmp_path / "q.jsonl"
    rows = [{"id": str(n), "question": f"Wo ist {n}?", "answerable": False} for n in range(500)]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    visit = Visit(language="en")
    assert "waiting to be asked" in shown(house.begin_trial(visit, str(file)), "en")
    assert house.stop_trial(visit) is None
    assert list(house.try_out(visit)) == []
    house.begin_trial(visit, str(file))
    refused = house.refuse_trial(visit)
    assert refused is not None
    assert "many requests" in shown(refused, "en")
    assert list(house.try_out(visit)) == []
    house.begin_trial(visit, str(file))
    steps = house.try_out(visit)
    first = next(steps)
    house.begin_trial(visit, str(file))
    assert list(steps) == []
    assert first.stopped
    assert visit.trial is not first


def test_what_would_be_right_is_marked_where_it_stands(house: House, tmp_path: Path) -> None:
    text = "Im Jahr 2014 gab es 14 Boote. Am 14. Mai sank eines."
    third = text.rindex("14")
    asked = {"id": "1", "question": "Wer hat <b>Thule</b> entdeckt?", "answers": ["14"]}
    by_words = tmp_path / "q.jsonl"
    by_words.write_text(json.dumps(asked), "utf-8")
    spanned = asked | {"answers": [{"text": "14", "answer_start": third}]}
    paragraphs = [{"context": text, "qas": [spanned]}]
    by_place = tmp_path / "q.json"
    by_place.write_text(json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}]}), "utf-8")
    visit = Visit(language="en")
    last(house.add(visit, reading(Document(text, "boote.txt", "B", "de"))))
    house.remove(visit, START.source)
    for file, start in ((by_words, text.index("14 Boote")), (by_place, third)):
        *_, trial = house.evaluate(visit, str(file))
        assert len(trial.lost) == 1
        assert visit.marks("e0")[-1].start == start
        told = trial.told("e0", "en")
        assert "Wer hat &lt;b&gt;Thule&lt;/b&gt; entdeckt?" in told
        assert "right would be: " in told
        assert trial.told("t1", "en") == trial.told("e1", "en") == ""


def test_a_stopped_evaluation_reports_what_is_done(house: House, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    rows = [{"id": str(n), "question": f"Wo ist {n}?", "answerable": False} for n in range(500)]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    visit = Visit(language="en")
    for trial in house.evaluate(visit, str(file)):
        trial.stopped = True
    assert trial.report is not None
    assert trial.report.interrupted
    assert 1 <= len(trial.report.rows) < 500

"""A whole visit in a real browser: by keyboard, in both languages, light and dark, narrow and
wide, in terms of axe-core, and with nothing but hostile texts."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from index.store import PassageIndex
from rag.chatbot import Chatbot
from rag.questions import read_questions
from tests.conftest import ROOT, command, environment
from tests.llm_server import Reply, serving
from tests.test_app import ENGLISH, PATIENCE_MS, RECIPE, Visit
from tests.test_llm import as_json, number
from tests.test_visit import START, Encoder, never_ending
from ui.guard import UPLOAD

playwright = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", exc_type=ImportError)

SHOTS = os.environ.get("BELEG_SHOTS")
"""A folder for screenshots, to be looked at."""
WORDS = {
    "en-GB": ("Ask", "Documents", "Evaluate", "Settings", "Right", "Kept as"),
    "de-DE": ("Fragen", "Dokumente", "Prüfen", "Einstellungen", "Richtig", "Als"),
}

BROKEN = """elements => {
  const broken = [];
  for (const element of elements) {
    const walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let text; (text = walk.nextNode()); )
      for (const word of text.data.matchAll(/[^\\s/–-]+/g)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        if (range.getClientRects().length > 1) broken.push(word[0]);
      }
  }
  return broken;
}"""
"""Which words of some elements a line break goes through."""

RGB = """element => '#' + getComputedStyle(element).backgroundColor.match(/\\d+/g).slice(0, 3)
  .map(n => Number(n).toString(16).padStart(2, '0')).join('')"""
"""The colour of an element as six digits."""


def accessible(page: Any) -> list[str]:
    """What axe-core finds that is serious or critical."""
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 15  # it has run
    return [
        f"{violation['id']}: {[node['target'] for node in violation['nodes']]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def drop(page: Any, name: str = "rezept.txt", text: str = RECIPE) -> None:
    """Drop a file somewhere on the page."""
    page.evaluate(
        """([name, text]) => {
          const data = new DataTransfer();
          data.items.add(new File([text], name, {type: 'text/plain'}));
          const how = {bubbles: true, cancelable: true, dataTransfer: data};
          for (const kind of ['dragenter', 'dragover', 'drop'])
            document.body.dispatchEvent(new DragEvent(kind, how));
        }""",
        [name, text],
    )


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", list(WORDS))
def test_a_visit_from_drop_to_verdict(
    browser: Any, address: str, language: str, scheme: str, width: int
) -> None:
    ask, documents, evaluate, settings, right, kept = WORDS[language]
    context = browser.new_context(
        locale=language,
        color_scheme=scheme,
        viewport={"width": width, "height": 850},
        bypass_csp=True,  # axe is put into the page; foreign requests are looked for below
    )
    visit = Visit(browser, address, context=context)
    page = visit.page

    def look(name: str) -> None:
        assert accessible(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}-{language[:2]}-{scheme}-{width}.png")

    page.get_by_role("button", name=ask, exact=True).wait_for()
    # The labels are there at once, the other texts with the server's first reply.
    page.locator(f"#masthead [lang={language[:2]}]").wait_for()
    playwright.expect(page.locator("html")).to_have_attribute("lang", language[:2])
    look("start")

    # A newcomer's three actions: drop, type, Enter.
    drop(page)
    visit.ask("How long do potatoes have to boil for the salad?")
    visit.answered()
    marker = page.locator(".turn .marker").first
    marker.click()
    mark = page.locator("#source mark.now").first
    playwright.expect(mark).to_be_in_viewport()
    assert "zwanzig Minuten" in mark.inner_text()
    look("cited")
    page.keyboard.press("Escape")
    page.get_by_role("button", name=right, exact=True).click()
    playwright.expect(page.locator(".turn .rated")).to_contain_text(kept)

    visit.ask("Who won the 2014 World Cup final?")
    visit.answered(2)
    page.locator(".turn:nth-child(2) .why summary").click()
    assert page.locator(".turn:nth-child(2) .refusal").count() == 1
    look("refused")

    for name in (documents, evaluate, settings):
        page.get_by_role("tab", name=name, exact=True).click()
        page.get_by_role("tabpanel").get_by_role(
            "button"
        ).first.wait_for() if name != settings else None
        look(name)
    assert visit.faults == []
    context.close()


def test_a_question_waits_for_the_file_that_was_dropped_before(browser: Any, address: str) -> None:
    visit = Visit(browser, address, "de-DE")
    page = visit.page
    sent: list[Any] = []
    uploads = re.compile(r"/upload(\?|$)")
    page.route(uploads, lambda route: sent.append(route))
    page.wait_for_function("document.documentElement.lang === 'de'")
    drop(page)
    playwright.expect(page.locator(".sending")).to_contain_text("Datei ist unterwegs")
    visit.ask("Wie lange müssen Kartoffeln kochen?")
    playwright.expect(page.locator(".sending")).to_contain_text("Frage wartet")
    assert page.locator(".turn").count() == 0
    assert len(sent) == 1
    sent[0].continue_()
    assert "zwanzig Minuten" in visit.answered()
    playwright.expect(page.locator(".sending")).to_have_text("")
    page.unroute(uploads)
    page.route(uploads, lambda route: route.fulfill(status=413, body="too large"))
    drop(page)
    visit.ask(ENGLISH)  # what was refused is not waited for
    visit.answered(2)
    page.context.close()


# Gradio leaves loops of its own open.
unclosed = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@pytest.fixture
def ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The page in this process, where a test can hold things up, with the limits it wants."""
    from ui import app, guard

    for name, limit in getattr(request, "param", {}).items():
        monkeypatch.setattr(guard if name == "QUEUE" else app, name, limit)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    index = PassageIndex(encoder=Encoder())
    index.add(START)
    page = app.build(Chatbot(index))
    with ThreadPoolExecutor(1) as pool:  # Playwright's loop runs in this thread
        options: dict[str, Any] = {"quiet": True, "prevent_thread_lock": True, "inline": False}
        options["app_kwargs"] = {"middleware": [(guard.Guard, (str(uploads),), {})]}
        started = pool.submit(page.launch, ssr_mode=False, i18n=app._i18n(), **options)
        yield started.result()[1]
        pool.submit(page.close, verbose=False).result()
    del page
    gc.collect()


@unclosed
def test_visitors_do_not_wait_for_each_other_and_see_what_they_wait_for(
    ours: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ui import app, visit

    read, answered = threading.Event(), threading.Event()
    load, answer = app._load, visit.House.answer

    def slow_load(file: str) -> Any:
        assert "slow" not in file or read.wait(120)
        return load(file)

    def slow_answer(self: Any, visitor: Any) -> Iterator[Any]:
        assert "Tresor" not in visitor.turns[-1].question or answered.wait(120)
        yield from answer(self, visitor)

    monkeypatch.setattr(app, "_load", slow_load)
    monkeypatch.setattr(visit.House, "answer", slow_answer)
    files = [tmp_path / "slow.txt", tmp_path / "quick.txt"]
    for file in files:
        file.write_text(RECIPE, "utf-8")
    one, other = Visit(browser, ours), Visit(browser, ours)
    one.upload(files[0])
    status = one.page.locator("#upload-status")
    playwright.expect(status).to_contain_text("Reading slow.txt", timeout=PATIENCE_MS)
    one.ask("Wie lange kochen Kartoffeln?")
    turn, box = one.page.locator(".turn").first, one.page.locator("#question textarea")
    playwright.expect(turn).to_contain_text("First, slow.txt is read", timeout=PATIENCE_MS)
    playwright.expect(turn).not_to_contain_text("Searching")
    one.ask("Wie lange kochen sie?")  # while the first one waits
    second = one.page.locator(".turn:nth-child(2)")
    playwright.expect(second).to_contain_text("First, slow.txt is read", timeout=PATIENCE_MS)
    playwright.expect(box).to_have_value("")
    box.fill("Und wie ")
    other.upload(files[1])
    other.added("quick.txt")
    other.ask("Wo steht der Tresor?")
    other.page.locator(".turn").wait_for(timeout=PATIENCE_MS)
    read.set()
    one.added("slow.txt")
    playwright.expect(turn).to_contain_text("Searching", timeout=PATIENCE_MS)
    assert one.page.locator(".turn[data-done]").count() == 0  # the other one comes first
    answered.set()
    other.answered()
    header = other.page.locator("#source header")
    playwright.expect(header).to_contain_text("start.txt")
    later = tmp_path / "later.txt"
    later.write_text(f"{RECIPE} Und ruhen.", "utf-8")
    other.upload(later)
    other.added("later.txt")
    playwright.expect(header).to_contain_text("start.txt")  # what is being read stays
    assert "slow.txt" in one.answered() + one.page.inner_text("#source header")
    one.answered(2)
    playwright.expect(box).to_have_value("Und wie ")  # nothing takes away what is being typed
    for question in ("Wie lange kochen Kartoffeln?", "Wie lange?"):  # one right after the other
        one.ask(question)
        playwright.expect(box).to_have_value("", timeout=PATIENCE_MS)
    one.answered(4)
    playwright.expect(one.page.locator(".turn")).to_have_count(4)
    assert one.faults == other.faults == []
    one.page.context.close()
    other.page.context.close()


@unclosed
@pytest.mark.parametrize("ours", [{"UPLOADS": 1, "TRIALS": 1}], indirect=True)
def test_what_waits_for_other_visitors_files_and_evaluations_says_so(
    ours: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ui import app

    read = threading.Event()
    load = app._load

    def slow_load(file: str) -> Any:
        assert "slow" not in file or read.wait(120)
        return load(file)

    monkeypatch.setattr(app, "_load", slow_load)
    never_ending(monkeypatch)
    names = ("slow.txt", "first.txt", "second.txt", "third.txt")
    slow, first, second, third = files = [tmp_path / name for name in names]
    for file in files:
        file.write_text(f"{RECIPE} {file.name}", "utf-8")
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"id": "1", "question": "?", "answerable": False}), "utf-8")
    one, other = Visit(browser, ours), Visit(browser, ours, "de-DE")
    patient = playwright.expect.set_options
    patient(timeout=PATIENCE_MS)
    one.upload(slow)
    playwright.expect(one.page.locator("#upload-status")).to_contain_text("Reading slow.txt")
    status = other.page.locator("#upload-status")
    other.upload(first)
    playwright.expect(status).to_contain_text("Wartet darauf, gelesen zu werden: first.txt")
    other.page.get_by_role("button", name="Abbrechen").click()
    playwright.expect(status).to_contain_text("Abgebrochen")
    playwright.expect(other.page.get_by_role("button", name="Abbrechen")).to_have_count(0)
    other.page.press("#question textarea", "Enter")  # it asks nothing
    for given in ((second, first), (third,)):  # the last one does not go lost
        other.upload(*given)
        playwright.expect(status).to_contain_text(given[-1].name)
    for file in (second, first, third):
        playwright.expect(status).to_contain_text(f"Wartet darauf, gelesen zu werden: {file.name}")
    other.page.get_by_role("button", name="first.txt weglassen").click()
    playwright.expect(status).not_to_contain_text("first.txt")
    other.ask("Wie lange kochen Kartoffeln?")
    playwright.expect(other.page.locator(".turn")).to_contain_text("Zuerst wird second.txt gelesen")
    assert other.page.locator("#source .page-text").count() == 1
    read.set()
    one.added("slow.txt")
    other.added("second.txt", "third.txt")
    other.answered()
    assert "first.txt" not in other.documents()
    assert "second.txt" in other.documents()

    for visit, said in ((one, "Asked so far"), (other, "Fragen warten darauf")):
        visit.page.click("#page-evaluate-button")
        visit.page.set_input_files(".leaf input[type=file]", questions)
        playwright.expect(visit.page.locator("#trial")).to_contain_text(said)
    other.page.click("#button-stop-trial")
    playwright.expect(other.page.locator("#trial")).to_have_text("")
    patient(timeout=5000)
    assert one.faults == other.faults == []
    one.page.context.close()
    other.page.context.close()


@unclosed
@pytest.mark.parametrize("ours", [{"QUEUE": 1}], indirect=True)
def test_that_the_queue_is_full_is_said_and_nothing_goes_lost(
    ours: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ui import visit

    begun, answered = threading.Event(), threading.Event()
    answer = visit.House.answer

    def slow_answer(self: Any, visitor: Any) -> Iterator[Any]:
        begun.set()
        assert answered.wait(120)
        yield from answer(self, visitor)

    monkeypatch.setattr(visit.House, "answer", slow_answer)
    answering, waiting, last = (Visit(browser, ours, "de-DE") for _ in range(3))
    answering.ask("Wo steht der Tresor?")
    assert begun.wait(60)
    waiting.ask("Wo steht der Tresor?")
    waiting.page.wait_for_function(
        "async () => (await (await fetch('gradio_api/queue/status')).json()).queue_size === 1"
    )
    last.ask("Wo ist der Tresor?")
    playwright.expect(last.page.locator(".toast-body")).to_contain_text(
        "Es warten so viele Anfragen", timeout=PATIENCE_MS
    )
    assert last.page.input_value("#question textarea") == "Wo ist der Tresor?"
    assert last.page.locator(".turn").count() == 0
    answered.set()
    answering.answered()
    waiting.answered()

    # It may fill up between the question and its answer, or a file and its reading.
    joins = re.compile("/queue/join")

    def second_is_refused() -> None:
        seen: list[int] = []

        def handle(route: Any) -> None:
            seen.append(1)
            if len(seen) == 2:
                route.fulfill(status=429, json={"detail": "voll"})
            else:
                route.continue_()

        last.page.unroute(joins)
        last.page.route(joins, handle)

    second_is_refused()
    last.ask("Wo ist der Tresor?")
    playwright.expect(last.page.locator(".turn .error")).to_contain_text("Es warten so viele")
    second_is_refused()
    file = tmp_path / "rezept.txt"
    file.write_text(RECIPE, "utf-8")
    last.upload(file)
    status = last.page.locator("#upload-status .error")
    playwright.expect(status).to_contain_text("Es warten so viele")
    last.page.unroute(joins)
    last.ask("Wo ist der Tresor?")
    assert "Keller" in last.answered(2)
    assert [fault for fault in last.faults if "429" not in fault] == []
    for each in (answering, waiting, last):
        each.page.context.close()


@unclosed
def test_an_evaluation_ends_when_the_page_is_closed(
    ours: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = never_ending(monkeypatch)
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"id": "1", "question": "Wer?", "answerable": False}), "utf-8")
    visit = Visit(browser, ours)
    visit.page.click("#page-evaluate-button")
    visit.page.set_input_files(".leaf input[type=file]", file)
    visit.page.locator("#trial progress").wait_for(timeout=PATIENCE_MS)
    assert not ended.is_set()
    visit.page.context.close()
    assert ended.wait(60)


@unclosed
def test_programs_do_not_make_visitors_wait_for_each_other() -> None:
    from ui import app

    index = PassageIndex(encoder=Encoder())
    index.add(START)
    page = app.build(Chatbot(index))
    # Gradio takes the least of what is said of one queue.
    limits = [fn.concurrency_limit for fn in page.fns.values() if fn.concurrency_id == "add"]
    assert limits == [app.UPLOADS] * 4
    del page
    gc.collect()


@unclosed
def test_of_an_index_that_others_change_the_list_is_as_it_is_now(tmp_path: Path) -> None:
    import gradio

    from ui import app, visit

    index = PassageIndex(tmp_path / "index", encoder=Encoder())
    index.add(START)
    page = app._Page(visit.House(Chatbot(index)), (), local=True)
    drawn = [
        fn.fn for fn in page.blocks.fns.values() if (page.documents._id, "select") in fn.targets
    ]
    assert drawn == [page._documents]
    visitor, request = visit.Visit(language="en"), gradio.Request()
    removal = gradio.EventData(None, {"document": START.id})
    for said in ("Removed start.txt", "It had been removed already."):
        note, listed, *_ = page.on_remove(visitor, request, removal)
        assert said in note
        assert START.id not in note + listed
    del page, drawn
    gc.collect()


@unclosed
@pytest.mark.parametrize("local", [True, False])
def test_only_this_computer_is_told_where_files_lie(tmp_path: Path, local: bool) -> None:
    from ui import app, visit

    index = PassageIndex(tmp_path / "index", encoder=Encoder())
    house = visit.House(Chatbot(index), feedback=tmp_path / "feedback.jsonl")
    page = app._Page(house, (), local)
    state = page._state(visit.Visit(language="en"))
    assert state.count(str(tmp_path)) == (2 if local else 0)
    assert state.count("on the computer that runs Beleg") == (0 if local else 3)
    del page
    gc.collect()


@unclosed
@pytest.mark.parametrize(("minutes", "there"), [(59, True), (61, False)])
def test_a_visit_is_forgotten_an_hour_after_its_page_is_closed(minutes: int, there: bool) -> None:
    from gradio.state_holder import StateHolder

    from ui import app, visit
    from ui.phrases import phrase

    index = PassageIndex(encoder=Encoder())
    index.add(START)
    page = app.build(Chatbot(index))
    page.state_session_capacity = 10
    holder = StateHolder()
    holder.set_blocks(page)
    (state,) = [number for number, block in page.blocks.items() if block.stateful]
    visited = visit.Visit()
    gone = weakref.ref(visited)
    session = holder["somebody"]
    session[state] = visited
    del visited
    lives, _ = session._state_ttl[state]
    session._state_ttl[state] = lives, datetime.now() - timedelta(minutes=minutes)
    holder.delete_all_expired_state()
    assert gone() is not None  # the page is open
    session.is_closed = True
    holder.delete_all_expired_state()
    gc.collect()
    assert (gone() is not None) is there
    assert "an hour" in phrase("kept here", "en")
    assert "an hour" in phrase("in memory", "en")


def test_verdicts_are_kept(browser: Any, address: str, feedback: Path) -> None:
    visit = Visit(browser, address)
    visit.ask(ENGLISH)
    visit.answered()
    visit.page.get_by_role("button", name="Wrong", exact=True).click()
    box = visit.page.locator(".mend input")
    box.fill("words of no document")
    box.press("Enter")
    visit.page.locator(".mend .error").wait_for()
    box.fill("Anatoli Antonow")
    box.press("Enter")
    visit.page.locator(".rated").wait_for()
    visit.page.wait_for_function("document.activeElement.matches('[data-rate=wrong]')")
    line = json.loads(feedback.read_text("utf-8").splitlines()[-1])
    assert line["question"] == ENGLISH
    assert (line["answers"], line["document"]) == (["Anatoli Antonow"], "gipfel.de.txt")
    # Another click takes it back.
    wrong = visit.page.get_by_role("button", name="Wrong", exact=True)
    playwright.expect(wrong).to_have_attribute("aria-pressed", "true")
    playwright.expect(visit.page.locator(".mend")).to_be_hidden()
    wrong.press("Enter")
    playwright.expect(visit.page.locator(".rated")).to_have_count(0)
    playwright.expect(wrong).to_have_attribute("aria-pressed", "false")
    visit.page.wait_for_function("document.activeElement.matches('[data-rate=wrong]')")
    assert line["id"] not in feedback.read_text("utf-8")
    # What leads to the active mark is still strong.
    assert visit.page.locator(".marker.now").first.inner_text() == "1"
    assert visit.faults == []
    visit.page.context.close()


def test_what_was_wrong_with_a_file_is_told_and_stays(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    page = visit.page
    page.click("#page-settings-button")
    drop(page, "empty.txt", " ")
    error = page.locator("#upload-status .error")
    playwright.expect(error).to_be_visible(timeout=PATIENCE_MS)
    visit.ask(ENGLISH)
    visit.answered()
    playwright.expect(error).to_contain_text("empty.txt")
    error.get_by_role("button", name="Close").click()
    playwright.expect(page.locator("#upload-status")).to_have_text("")
    drop(page, "empty.txt", " ")
    playwright.expect(error).to_have_count(1)
    drop(page)
    visit.added("rezept.txt")
    visit.ask(ENGLISH)
    visit.answered(2)
    playwright.expect(page.locator("#upload-status")).to_have_text("")  # it has been seen
    assert visit.faults == []
    page.context.close()


def test_a_citation_shows_its_quote_and_copies(browser: Any, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    visit = Visit(browser, address, context=context)
    visit.ask(ENGLISH)
    visit.answered()
    marker, tip = visit.page.locator(".marker").first, visit.page.locator(".tip").first
    assert not tip.is_visible()
    marker.hover()
    playwright.expect(tip).to_be_visible()
    assert "Antonow" in tip.inner_text()
    playwright.expect(tip).to_be_in_viewport(ratio=1)
    visit.page.keyboard.press("Escape")
    playwright.expect(tip).to_be_hidden()
    # A number at the bottom edge shows its quote above.
    visit.ask("Who won the 2014 World Cup final?")
    visit.answered(2)
    visit.page.set_viewport_size({"width": 1400, "height": 500})
    low = visit.page.locator(".turn:nth-child(1) .marker").last
    low.evaluate("low => low.closest('.talk').scrollTop = 0")
    beyond = low.evaluate(
        "low => low.closest('.talk').getBoundingClientRect().bottom"
        " - low.getBoundingClientRect().bottom"
    )
    visit.page.set_viewport_size({"width": 1400, "height": int(500 - beyond + 15)})
    low.evaluate("low => low.closest('.talk').scrollTop = 0")
    low.hover()
    quote = visit.page.locator(".turn:nth-child(1) .tip").last
    playwright.expect(quote).to_be_in_viewport(ratio=1)
    visit.page.set_viewport_size({"width": 1400, "height": 900})
    visit.page.get_by_role("button", name="Copy with citations").first.click()
    visit.page.get_by_role("button", name="Copied").wait_for()
    copied = visit.page.evaluate("navigator.clipboard.readText()")
    assert re.search(r"Antonow zu Konsultationen aus Washington zurück\..*?\[1\]", copied)
    assert "gipfel.de.txt" in copied
    assert visit.faults == []
    context.close()


def test_all_of_it_by_keyboard(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    page = visit.page
    focused = "document.activeElement"
    page.wait_for_function(f"{focused}.tagName === 'TEXTAREA'")  # the question is there to type
    page.keyboard.type(ENGLISH)
    page.keyboard.press("Enter")
    visit.answered()

    def reach(selector: str, key: str = "Tab") -> None:
        for _ in range(60):
            if page.evaluate(f"{focused}.matches({json.dumps(selector)})"):
                outline = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
                assert outline != "none", selector
                return
            page.keyboard.press(key)
        pytest.fail(f"{selector} cannot be reached by {key}")

    reach(".marker", "Shift+Tab")
    playwright.expect(page.locator(".tip").first).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{focused}.matches('#source mark.now')")
    page.keyboard.press("Escape")
    page.wait_for_function(f"{focused}.matches('.marker')")
    reach(".copy")
    reach(".why summary")
    page.keyboard.press("Enter")
    page.locator(".why[open]").wait_for()
    reach(".page-text")
    reach("#page-ask-button", "Shift+Tab")
    reach("#page-documents-button", "Tab")
    page.keyboard.press("Enter")
    reach("#documents .remove")
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.textContent") == "Really remove?"
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#documents li")).to_have_count(0)
    page.wait_for_function(f"{focused}.matches('#documents h2')")
    assert visit.faults == []
    page.context.close()


def test_text_is_pasted_and_settings_change_the_page(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    page = visit.page
    page.click("#page-documents-button")
    page.fill("#paste-title input, #paste-title textarea", "Mein <b>Rezept</b>")
    page.fill("#paste textarea", RECIPE)
    page.click("#button-paste-add")
    playwright.expect(page.locator("#documents li")).to_have_count(2, timeout=PATIENCE_MS)
    assert "Mein <b>Rezept</b>" in page.inner_text("#documents")
    page.locator("#documents .read").last.click()
    playwright.expect(page.locator("#source h2")).to_have_text("Mein <b>Rezept</b>")
    drop(page, "empty.txt", " ")
    playwright.expect(page.locator("#upload-status .error")).to_have_count(1)
    page.click("#page-settings-button")
    page.get_by_label("Deutsch").check()
    page.get_by_role("tab", name="Fragen", exact=True).wait_for()
    page.wait_for_function("document.documentElement.lang === 'de'")
    page.get_by_role("heading", name="Einstellungen").wait_for()
    # What is open stays open, and nothing stays in the old language.
    playwright.expect(page.locator("#source .source")).to_have_attribute("lang", "de")
    playwright.expect(page.locator("#source h2")).to_have_text("Mein <b>Rezept</b>")
    playwright.expect(page.locator("#upload-status")).to_have_text("")
    chosen = page.get_by_label("Deutsch")
    accent = page.locator("#page-settings-button").evaluate(
        "e => getComputedStyle(e).getPropertyValue('--fill').trim()"
    )
    assert chosen.evaluate(RGB) == accent
    page.locator("#nearest input[type=number]").fill("99")
    playwright.expect(page.locator("#nearest input[type=number]")).to_have_value("10")
    page.locator("#nearest input[type=number]").fill("2")
    page.locator("#nearest input[type=number]").press("Tab")
    page.click("#page-ask-button")
    visit.ask("Who won the 2014 World Cup final?")
    visit.answered()
    playwright.expect(page.locator(".refusal li")).to_have_count(2)
    assert "Keine Antwort gefunden" in page.inner_text(".refusal")
    assert visit.faults == []
    page.context.close()


def test_test_questions_are_asked_and_a_failure_opens(
    browser: Any, address: str, tmp_path: Path
) -> None:
    questions = tmp_path / "q.jsonl"
    rows = [
        {"id": "1", "question": ENGLISH, "answers": ["Putin"]},
        {"id": "2", "question": "Who won the 2014 World Cup final?", "answers": ["14. April 2021"]},
    ]
    questions.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    visit = Visit(browser, address)
    page = visit.page
    page.click("#page-evaluate-button")
    page.get_by_role("heading", name="Evaluate").wait_for()
    sample = tmp_path / "sample.jsonl"
    sample.write_text(page.inner_text(".sample"), "utf-8")
    assert [question.answerable for question in read_questions(sample).questions] == [True, False]
    page.set_input_files(".leaf input[type=file]", questions)
    page.locator("#trial .report").wait_for(timeout=PATIENCE_MS)
    report = page.frame_locator("#trial .report").locator("h1")
    playwright.expect(report).to_contain_text("How good")
    failure = page.locator("#trial li", has_text="World Cup")
    failure.locator("a.open").click()
    page.locator("#source mark.now").first.wait_for()
    assert "14. April 2021" in page.locator("#source mark.near:has-text('✓')").inner_text()
    playwright.expect(page.locator("#source .steps")).to_contain_text("Near passage [1]")
    above = page.locator("#source .tried")
    playwright.expect(above).to_contain_text("Who won the 2014 World Cup final?")
    playwright.expect(above).to_contain_text("right would be: 14. April 2021")
    above.get_by_role("button", name="Back to the evaluation").click()
    playwright.expect(failure.locator("a.open")).to_be_focused()
    assert visit.faults == []
    page.context.close()


@contextmanager
def started(arguments: list[str], folder: Path, **env: str) -> Iterator[str]:
    """A page in a process of its own, which keeps uploads in a folder; the first line it says."""
    with subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment(TMPDIR=str(folder), **env),
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline()
        finally:
            process.terminate()


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[str]:
    with started([sys.executable, "-m", "tests.hostile_page"], tmp_path) as line:
        yield line.strip()


def test_500_hostile_texts_are_only_text(browser: Any, hostile: str) -> None:
    from tests.hostile_page import HARMLESS, PAYLOADS

    assert len(PAYLOADS) >= 500
    texts = HARMLESS + PAYLOADS
    visit = Visit(browser, hostile)
    page = visit.page
    page.on("frameattached", lambda frame: visit.faults.append(f"frame {frame.url}"))
    only_ours(page, "#talk .talk", "#source .source")
    visit.ask("<img src=x onerror=alert(1)>")
    page.locator(".turn").nth(2 * len(texts) - 1).wait_for(timeout=PATIENCE_MS)
    only_ours(page, "#talk .talk", "#source .source")
    shapes = page.evaluate(
        """() => [...document.querySelectorAll('.turn')].map(
          turn => [...turn.querySelectorAll('*')].map(e => e.tagName).join(' '))"""
    )
    kinds = 2 * len(HARMLESS)
    for turn, shape in enumerate(shapes):
        text = texts[turn // 2]
        # The number of a citation may stand in a payload.
        assert shape == shapes[turn % kinds] or "[1]" in text, text
    for turn in range(1, 2 * len(texts), 120):
        link = page.locator(f".turn:nth-child({turn}) [data-mark]").first
        link.dispatch_event("click")
        page.locator(f"#source [data-key=t{turn}] mark.now").first.wait_for()
        only_ours(page, "#source .source")
    page.click("#page-documents-button")
    page.locator("#documents li").nth(100).wait_for()
    only_ours(page, "#documents .documents")
    page.wait_for_timeout(500)
    assert visit.faults == []
    page.context.close()


def only_ours(page: Any, *selectors: str) -> None:
    """Every element and attribute there is one of ours, and nothing has run."""
    from tests.test_render import ALLOWED, ATTRIBUTES

    for selector in selectors:
        held = page.evaluate(
            """selector => [...document.querySelectorAll(selector + ' *')].map(e => [
              e.tagName.toLowerCase(), e.getAttribute('href'), ...e.getAttributeNames()])""",
            selector,
        )
        assert {tag for tag, *_ in held} <= ALLOWED, selector
        assert {link for _, link, *_ in held} <= {None, "#source"}, selector
        names = {name for _, _, *names in held for name in names}
        assert {name for name in names if not name.startswith("data-")} <= ATTRIBUTES, selector
    assert page.evaluate("window.owned") is None
    assert page.title() == "Beleg"


def test_hostile_texts_come_through_an_upload_and_a_model_as_text(
    browser: Any, tmp_path: Path
) -> None:
    from tests.hostile_page import _ELEMENTS, PAYLOADS

    failing = False

    def say(request: dict[str, Any]) -> Reply:
        if failing:
            return Reply(_ELEMENTS[2], status=500)
        place = number(request, "Tresor")
        return Reply(as_json(*((f"Der Tresor {each}.", [place]) for each in _ELEMENTS)))

    file = tmp_path / "x' onfocus='document.title=1' autofocus='.md"
    file.write_text(
        "Der Tresor steht im Keller.\n\n" + "\n\n".join(PAYLOADS[::9]).replace("\x00", ""), "utf-8"
    )
    with chatting(say, tmp_path) as where:
        visit = Visit(browser, where)
        page = visit.page
        page.on("frameattached", lambda frame: visit.faults.append(f"frame {frame.url}"))
        visit.upload(file)
        playwright.expect(page.locator("#upload-status")).to_contain_text(
            "Added", timeout=PATIENCE_MS
        )
        visit.ask(f"Wo steht der Tresor {_ELEMENTS[2]}?")
        assert visit.answered().count("Der Tresor") > 3
        assert _ELEMENTS[2] in page.inner_text(".turn")
        only_ours(page, "#talk .talk", "#source .source")
        failing = True
        visit.ask(f"Wo steht der Tresor {_ELEMENTS[0]}?")
        assert _ELEMENTS[0] in visit.answered(2)
        only_ours(page, "#talk .talk", "#source .source")
        page.click("#page-documents-button")
        page.locator("#documents li").nth(1).wait_for()
        only_ours(page, "#documents .documents")
        assert visit.faults == []
        page.context.close()


@contextmanager
def chatting(say: Callable[[dict[str, Any]], Reply], folder: Path) -> Iterator[str]:
    """The address of the chat with a language model that says that."""
    with serving() as server:
        server.say = say
        model = ["--llm", "openai:tiny", "--llm-url", server.address]
        arguments = command("chat", *model, "--feedback", folder / "feedback.jsonl")
        with started(arguments, folder, OPENAI_API_KEY="x") as line:
            yield line.split()[3]


@pytest.fixture
def with_model(tmp_path: Path) -> Iterator[str]:
    """The chat with a language model that says one true and two untrue sentences."""

    def say(request: dict[str, Any]) -> Reply:
        if "Translate" in request["messages"][0]["content"]:
            texts = json.loads(request["messages"][1]["content"])
            new = ["<i>Moscow</i> called him back."] * len(texts)
            return Reply(json.dumps({"translations": new}))
        place = number(request, "Antonow")
        true = "Moscow recalled its ambassador Anatoly Antonov from Washington for consultations."
        return Reply(
            as_json(
                (true, [place]),
                ("It cost 40 million dollars.", [place]),
                ("He said “I will never come back”.", [place]),
            )
        )

    with chatting(say, tmp_path) as where:
        yield where


def test_a_language_models_sentences_are_marked_translated_and_dropped(
    browser: Any, with_model: str
) -> None:
    context = browser.new_context(bypass_csp=True)
    visit = Visit(browser, with_model, context=context)
    page = visit.page
    playwright.expect(page.locator("#masthead")).to_contain_text("sent to openai:tiny")
    page.click("#page-settings-button")
    page.get_by_label("Have it translate").check()
    page.click("#page-ask-button")
    visit.ask(ENGLISH)
    text = visit.answered()
    assert "✗ (not supported by what it cites)" in text
    assert "a number that stands in no cited passage" in text
    assert "a quotation that stands in no cited passage" in text
    assert "<i>Moscow</i> called him back. (machine translation)" in text
    assert page.locator(".turn .text .marker").count() == 3
    assert accessible(page) == []
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/model.png")
    page.click("#page-settings-button")
    assert "answered the last question" in page.inner_text("#state")
    page.get_by_label("Strict").check()
    page.click("#page-ask-button")
    visit.ask(ENGLISH)
    assert "40 million" not in visit.answered(2)
    page.click("#page-settings-button")
    page.get_by_label("The language model answers").uncheck()
    page.click("#page-ask-button")
    playwright.expect(page.locator("#masthead")).to_contain_text("nothing leaves this computer")
    visit.ask(ENGLISH)
    assert "Moskau rief daraufhin" in visit.answered(3)
    assert visit.faults == []
    context.close()


def test_on_a_phone_a_citation_leads_to_its_sentence_far_down(browser: Any, address: str) -> None:
    context = browser.new_context(locale="de-DE", viewport={"width": 400, "height": 850})
    visit = Visit(browser, address, context=context)
    visit.ask("When do the last American soldiers leave Afghanistan?")
    visit.answered()
    visit.page.locator(".turn .marker").first.click()
    mark = visit.page.locator("#source mark.now").first
    playwright.expect(mark).to_be_in_viewport()
    text = visit.page.locator(".page-text")
    assert text.evaluate("text => text.scrollTop > 2 * text.clientHeight")  # it was far down
    for _ in range(12):  # what is behind the sheet cannot be reached
        visit.page.keyboard.press("Tab")
        assert not visit.page.evaluate("document.activeElement.matches('#talk *, .ask *')")
    mark.focus()
    visit.page.keyboard.press("Escape")
    visit.page.locator(".why summary").click()
    cells = visit.page.locator(".why :is(th[scope=col], td)")
    assert cells.count() > 10
    assert cells.evaluate_all(BROKEN) == []
    assert visit.faults == []
    context.close()


def test_a_later_answer_is_in_view(browser: Any, address: str) -> None:
    context = browser.new_context(locale="en-GB", viewport={"width": 1400, "height": 600})
    visit = Visit(browser, address, context=context)
    visit.ask("Who won the 2014 World Cup final?")  # what is refused fills the pane
    visit.answered()
    visit.page.locator(".turn .why summary").click()
    playwright.expect(visit.page.locator(".why[open]")).to_have_count(1)
    visit.ask(ENGLISH)
    visit.answered(2)
    playwright.expect(visit.page.locator(".why[open]")).to_have_count(1)
    playwright.expect(visit.page.locator(".turn:nth-child(2) .question")).to_be_in_viewport()
    playwright.expect(visit.page.locator(".turn:nth-child(2) .actions")).to_be_in_viewport()
    assert visit.faults == []
    context.close()


def test_what_was_opened_and_focused_stays_when_the_page_is_drawn_anew(
    browser: Any, address: str
) -> None:
    visit = Visit(browser, address)
    page = visit.page
    for turn in (1, 2):
        visit.ask(ENGLISH)
        visit.answered(turn)
        page.locator(f".turn:nth-child({turn}) .why summary").click()
        page.locator(f".turn:nth-child({turn}) [data-rate=wrong]").click()
        page.locator(f".turn:nth-child({turn}) .mend input").fill("words of no document")
    playwright.expect(page.locator(".why[open]")).to_have_count(2)
    playwright.expect(page.locator(".mend:visible")).to_have_count(2)
    playwright.expect(page.locator("[data-rate=wrong][aria-expanded=true]")).to_have_count(2)
    page.locator(".turn:nth-child(1) [data-rate=words]").press("Enter")
    page.locator(".turn:nth-child(1) .mend .error").wait_for()
    page.wait_for_function("document.activeElement.matches('.turn:nth-child(1) .mend input')")
    page.locator(".turn:nth-child(2) [data-rate=right]").press("Enter")
    page.wait_for_function(
        "document.activeElement.matches('.turn:nth-child(2) [aria-pressed=true]')"
    )
    assert page.input_value(".turn:nth-child(1) .mend input") == "words of no document"
    page.locator(".turn:nth-child(2) .why summary").press("Enter")
    page.locator(".turn:nth-child(1) [data-rate=wrong]").press("Enter")
    visit.ask(ENGLISH)
    visit.answered(3)
    playwright.expect(page.locator(".why[open]")).to_have_count(1)
    playwright.expect(page.locator(".mend:visible")).to_have_count(0)
    assert visit.faults == []
    page.context.close()


def test_the_pane_says_which_citation_is_active_and_where_it_stands(
    browser: Any, address: str, tmp_path: Path
) -> None:
    text = tmp_path / "salat.txt"
    filling = "\n\n".join(f"Absatz {n} handelt von anderem." for n in range(9))
    late = "Die Kartoffeln für Kartoffelsalat müssen zwanzig Minuten kochen."
    early = "Die Kartoffeln für Kartoffelsalat müssen fünfundzwanzig Minuten kochen."
    text.write_text(f"{early}\n\n{filling}\n\n{late}\n", "utf-8")
    visit = Visit(browser, address)
    visit.upload(text)
    visit.added("salat.txt")
    visit.ask("Wie lange müssen die Kartoffeln für Kartoffelsalat kochen?")
    visit.answered()
    markers = visit.page.locator(".turn .text .marker")
    assert markers.count() >= 2
    told = visit.page.locator("#source .steps span").first
    places = []
    for marker in markers.all():
        marker.click()
        number = marker.inner_text()
        playwright.expect(told).to_contain_text(f"Citation [{number}]")
        playwright.expect(marker).to_have_class(re.compile(r"\bnow\b"))
        places.append(re.findall(r"place (\d) of (\d)", told.inner_text()))
    assert len({place for found in places for place in found}) == markers.count()
    for _ in range(2):  # from the mark over the text to the step
        visit.page.keyboard.press("Shift+Tab")
    assert visit.page.evaluate("document.activeElement.dataset.step") == "1"
    visit.page.keyboard.press("Enter")
    playwright.expect(told).not_to_contain_text(f"Citation [{number}]")
    active = visit.page.get_attribute("#source .source", "data-active")
    playwright.expect(told).to_contain_text(f"Citation [{active}]")
    assert visit.faults == []
    visit.page.context.close()


@pytest.fixture
def shared(bot: Chatbot, tmp_path: Path) -> Iterator[str]:
    """The chat on an index, for other computers too: after a login, to be asked only."""
    index = PassageIndex(tmp_path / "index", encoder=bot.index.encoder)
    index.add(START)
    index.close()
    arguments = ["--index", tmp_path / "index", "--host", "0.0.0.0", "--auth", "anna:geheim"]
    with started(command("chat", *arguments), tmp_path) as line:
        yield line.split()[3].replace("0.0.0.0", "127.0.0.1")


def test_others_log_in_and_may_only_ask(browser: Any, shared: str) -> None:
    for language, enter, wrong, goes, fixed in (
        ("de-DE", "Anmelden", "Falsche", "Computer, auf dem Beleg läuft", "nicht geändert"),
        ("en-GB", "Login", "Incorrect", "computer that runs Beleg", "not changed"),
    ):
        context = browser.new_context(
            locale=language, viewport={"width": 400, "height": 850}, bypass_csp=True
        )
        page = context.new_page()
        page.goto(shared)
        button = page.get_by_role("button", name=enter, exact=True)
        button.wait_for()
        assert accessible(page) == []
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/login-{language[:2]}.png")
        for secret in ("falsch", "geheim"):
            name, password = page.locator("input").all()
            name.fill("anna")
            password.fill(secret)
            button.click()
            if secret == "falsch":
                page.get_by_text(wrong).wait_for()
        playwright.expect(page.locator("#talk")).to_contain_text(fixed, timeout=PATIENCE_MS)
        playwright.expect(page.locator("#masthead .where")).to_contain_text(goes)
        assert not re.search("this computer|diesen Computer", page.inner_text("#masthead"))
        page.close()

        visit = Visit(browser, shared, context=context)
        drop(visit.page)
        visit.ask("Wo steht der Tresor?")
        assert "Keller" in visit.answered()
        assert visit.page.locator("input[type=file]:visible, #upload:visible").count() == 0
        assert fixed in visit.documents()
        assert "rezept.txt" not in visit.documents()
        assert visit.page.locator("#documents .remove, #paste").count() == 0
        if SHOTS:
            visit.page.click("#page-documents-button")
            visit.page.screenshot(path=f"{SHOTS}/fixed-{language[:2]}.png")
        assert visit.faults == []
        context.close()


def test_no_text_is_shown_before_its_language_is_known(browser: Any, address: str) -> None:
    context = browser.new_context(locale="de-DE")
    held: list[Any] = []
    hold = [True]
    context.route(
        re.compile("/gradio_api/(run|queue/join)"),
        lambda route: held.append(route) if hold else route.continue_(),
    )
    visit = Visit(browser, address, context=context)
    page = visit.page
    page.get_by_role("tab", name="Fragen", exact=True).wait_for()
    playwright.expect(page.locator("#masthead h1")).to_be_hidden()
    playwright.expect(page.locator("#talk .talk")).to_be_hidden()
    playwright.expect(page.locator("#source header")).to_be_hidden()
    hold.clear()
    for route in held:
        route.continue_()
    playwright.expect(page.locator("#talk")).to_contain_text("Stellen Sie eine Frage")
    playwright.expect(page.locator("#masthead h1")).to_be_visible()
    playwright.expect(page.locator("#source header")).to_be_visible()
    assert visit.faults == []
    context.close()


def test_what_is_no_document_or_too_large_is_refused_in_the_pages_language(
    browser: Any, address: str
) -> None:
    context = browser.new_context(locale="de-DE")
    visit = Visit(browser, address, context=context)
    page = visit.page
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.locator("#masthead [lang=de]").wait_for()
    page.evaluate(
        """([text, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File(['x'], '<i>{}bild.png', {type: 'image/png'}));
          data.items.add(new File([new Uint8Array(bytes).fill(97)], 'gross.txt'));
          const drop = () => document.body.dispatchEvent(
            new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: data}));
          drop();
          window.again = () => { data.items.add(new File([text], 'rezept.txt')); drop(); };
        }""",
        [RECIPE, UPLOAD + 1],
    )
    refused = page.get_by_role("alert")
    lines = refused.locator("p").all_inner_texts()
    assert lines[0].startswith("<i>{}bild.png ist keine Datei, die hier gelesen werden kann; ")
    assert ".pdf" in lines[0]
    assert lines[1:] == ["gross.txt ist größer als 50 MB."]
    page.evaluate("again()")
    visit.added("rezept.txt")
    assert len([url for url in sent if url.endswith("/upload")]) == 1
    playwright.expect(refused).to_have_count(1)
    refused.get_by_role("button", name="Schließen").click()
    playwright.expect(refused).to_have_count(0)
    assert page.locator(".toast-body").count() == 0
    assert visit.faults == []
    context.close()

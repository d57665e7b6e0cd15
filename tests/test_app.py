"""The chat as a visitor meets it: a real browser against the real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from index.load import SUFFIXES
from tests.conftest import chat

playwright = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
from playwright.sync_api import Browser, BrowserContext, Page, Request  # noqa: E402

ENGLISH = "Why did Russia recall its ambassador?"
SAID = "„Killer“"
RECIPE = "Kartoffelsalat\n\nDie Kartoffeln müssen zwanzig Minuten in Salzwasser kochen."
RECIPE_QUESTION = "Wie lange müssen Kartoffeln für Kartoffelsalat kochen?"
HOSTILE = (
    "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>\n\n"
    "Der Tresor steht <b onclick=alert(1)>im</b> Keller <img src=http://192.0.2.1/x.png> "
    "![x](http://192.0.2.1/y.png) ${document.title='owned'} {{document.title='owned'}}.\n"
)
PATIENCE_MS = 60_000


class Visit:
    """A visitor: a fresh browser profile; remembers foreign requests and console errors."""

    def __init__(
        self,
        browser: Browser,
        address: str,
        language: str = "en-US",
        context: BrowserContext | None = None,
    ) -> None:
        self.address = address
        self.faults: list[str] = []
        self.page: Page = (context or browser.new_context(locale=language)).new_page()
        self.page.on("request", self._requested)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console",
            lambda line: self.faults.append(line.text) if line.type == "error" else None,
        )
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.goto(address)
        self.page.wait_for_selector("#source .page-text", state="attached")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.faults.append(f"request to {request.url}")

    def ask(self, question: str) -> None:
        self.page.fill("#question textarea", question)
        self.page.press("#question textarea", "Enter")

    def answered(self, turn: int = 1) -> str:
        """The text of the turn once its answer is whole."""
        selector = f".turn:nth-child({turn})[data-done]"
        return self.page.locator(selector).inner_text(timeout=PATIENCE_MS)

    def upload(self, *files: Path) -> None:
        self.page.set_input_files(".ask input[type=file]", list(files))

    def source(self) -> str:
        """The text in the source pane."""
        return self.page.inner_text("#source .page-text")

    def added(self, *names: str) -> None:
        """Wait until the page says that these have been added."""
        status = self.page.locator("#upload-status")
        said = re.compile("(Added|Hinzugefügt:) " + re.escape(", ".join(names)))
        playwright.expect(status).to_contain_text(said, timeout=PATIENCE_MS)

    def documents(self) -> str:
        """The page of documents."""
        self.page.click("#page-documents-button")
        text = self.page.inner_text("#documents")
        self.page.click("#page-ask-button")
        return text


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    visitor = Visit(browser, address)
    yield visitor
    assert visitor.faults == []
    visitor.page.context.close()


def test_a_typed_question_is_answered_with_its_quote_marked(visit: Visit) -> None:
    visit.ask(ENGLISH)
    text = visit.answered()
    assert ENGLISH in text
    marks = visit.page.locator("#source mark").all_inner_texts()
    assert any(SAID in mark for mark in marks)
    marker = visit.page.locator(".turn a.marker").first
    assert marker.inner_text() == "1"
    visit.page.evaluate("document.querySelector('.page-text').scrollTop = 0")
    marker.click()
    mark = visit.page.locator("#source mark.now").first
    mark.wait_for()
    assert mark.evaluate("mark => document.activeElement === mark")
    visit.page.wait_for_function(
        """() => {
          const text = document.querySelector('.page-text').getBoundingClientRect();
          const mark = document.querySelector('mark.now').getBoundingClientRect();
          return text.top <= mark.top && mark.bottom <= text.bottom;
        }"""
    )
    visit.page.keyboard.press("Escape")
    assert marker.evaluate("marker => document.activeElement === marker")
    assert visit.page.input_value("#question textarea") == ""


def test_an_example_is_one_click(visit: Visit) -> None:
    buttons = visit.page.locator(".examples button")
    buttons.nth(3).wait_for()
    question = buttons.first.inner_text()
    buttons.first.click()
    assert question in visit.answered()
    assert visit.page.locator("#source mark").count() >= 1


def test_what_the_article_does_not_say_is_refused_with_passages(visit: Visit) -> None:
    visit.ask("How do I reset my Wi-Fi router?")
    assert "gipfel.de.txt" in visit.answered()
    assert visit.page.locator(".turn .refusal").count() == 1
    assert visit.page.locator("#source mark:not(.near)").count() == 0


def test_an_upload_answers_and_no_other_visitor_sees_it(
    visit: Visit, browser: Browser, address: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "rezept.txt"
    recipe.write_text(RECIPE, "utf-8")
    visit.upload(recipe)
    visit.added("rezept.txt")
    assert "rezept.txt" in visit.documents()
    visit.ask(RECIPE_QUESTION)
    text = visit.answered()
    assert "zwanzig Minuten" in text
    assert visit.page.locator("#source mark").count() >= 1
    assert "rezept.txt" in visit.page.inner_text("#source header")

    other = Visit(browser, address, "de-DE")
    assert "rezept.txt" not in other.documents()
    other.ask(RECIPE_QUESTION)
    assert "zwanzig Minuten" not in other.answered()
    assert other.faults == []
    other.page.context.close()


def test_a_bad_upload_is_told_in_words_and_the_good_one_is_used(
    visit: Visit, tmp_path: Path
) -> None:
    broken, good = tmp_path / "broken.pdf", tmp_path / "good.txt"
    broken.write_bytes(b"%PDF-1.7\nnothing here")
    good.write_text(RECIPE, "utf-8")
    visit.upload(broken, good)
    visit.added("good.txt")
    problem = visit.page.locator("#upload-status .error").inner_text()
    assert "broken.pdf" in problem
    assert "Traceback" not in problem
    assert "/" not in problem
    assert "good.txt" in visit.documents()


def test_a_hostile_document_is_only_text(visit: Visit, tmp_path: Path) -> None:
    hostile = tmp_path / "<img src=x onerror=alert(1)>.txt"
    hostile.write_text(HOSTILE, "utf-8")
    visit.upload(hostile)
    visit.added("img src=x onerror=alert(1).txt")  # Gradio strips angle brackets from names
    visit.ask("Wo steht der Tresor? <img src=x onerror=alert(1)>")
    text = visit.answered()
    assert "<b onclick=alert(1)>im</b> Keller" in text
    assert "<img src=x onerror=alert(1)>" in text
    assert text in visit.page.inner_text("#talk")
    assert "document.title='owned'" in visit.source()
    hostile_parts = "#talk img, #talk script, #documents img, #source :is(img, script, b[onclick])"
    assert visit.page.locator(hostile_parts).count() == 0
    assert visit.page.title() == "Beleg"


@pytest.mark.parametrize(("language", "ask"), [("en-GB", "Ask"), ("de-AT", "Fragen")])
def test_the_page_speaks_the_language_of_the_browser(
    browser: Browser, address: str, language: str, ask: str
) -> None:
    visitor = Visit(browser, address, language)
    visitor.page.get_by_role("button", name=ask, exact=True).wait_for()
    assert visitor.faults == []
    visitor.page.context.close()


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_sticks_out_of_the_page(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.ask(ENGLISH)
    visit.answered()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_api_gives_the_answer_of_the_contract(address: str) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(address, verbose=False, analytics_enabled=False)
    assert set(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == {
        "/ask", "/add", "/remove", "/documents"
    }  # fmt: skip
    answer = client.predict(ENGLISH, api_name="/ask")
    assert answer["answered"] is True
    assert answer["citations"][0]["source"] == "gipfel.de.txt"
    assert any(SAID in citation["quote"] for citation in answer["citations"])
    for nothing in ("", 5, None, ["a"]):
        with pytest.raises(AppError, match="question"):
            client.predict(nothing, api_name="/ask")
    client.close()


@pytest.mark.parametrize(("session", "status"), [("", 400), ("mine", 200), (None, 200)])
def test_a_session_without_a_name_is_refused_in_words(
    address: str, session: str | None, status: int
) -> None:
    connection = HTTPConnection(urlsplit(address).netloc, timeout=30)
    body = json.dumps({"data": [ENGLISH], "session_hash": session})
    headers = {"Content-Type": "application/json", "Accept-Language": "de"}
    for path in ("ask", "documents"):
        connection.request("POST", f"/gradio_api/call/{path}", body, headers)
        reply = connection.getresponse()
        assert reply.status == status
        told = json.loads(reply.read())
        assert "Sitzung (session_hash) ist leer" in told["detail"] if session == "" else told
    connection.close()


def test_ctrl_c_ends_the_chat_whatever_it_is_at(tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    large = tmp_path / "large.txt"
    large.write_text("\n\n".join(f"{n}. {RECIPE}" for n in range(5_000)), "utf-8")
    with chat(TMPDIR=str(tmp_path)) as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        client.submit([handle_file(large)], api_name="/add")
        first, *_ = [client.submit(f"{ENGLISH} ({n})", api_name="/ask") for n in range(8)]
        assert first.result(60)["answered"]


def test_what_a_client_adds_is_its_sessions_alone(address: str, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    recipe, broken = tmp_path / "rezept.txt", tmp_path / "broken.pdf"
    recipe.write_text(RECIPE, "utf-8")
    broken.write_bytes(b"%PDF-1.7\nnothing here")
    client, other = (Client(address, verbose=False, analytics_enabled=False) for _ in range(2))
    added = client.predict([handle_file(recipe), handle_file(broken)], api_name="/add")
    assert [document["source"] for document in added["added"]] == ["rezept.txt"]
    (error,) = added["errors"]
    assert error.startswith("broken.pdf")
    answer = client.predict(RECIPE_QUESTION, api_name="/ask")
    assert answer["citations"][0]["source"] == "rezept.txt"
    sources = [
        [document["source"] for document in each.predict(api_name="/documents")]
        for each in (client, other)
    ]
    assert sources == [["gipfel.de.txt", "rezept.txt"], ["gipfel.de.txt"]]
    removed = client.predict(["gipfel.de.txt"], api_name="/remove")
    assert removed == {"removed": ["gipfel.de.txt"]}
    assert len(other.predict(api_name="/documents")) == 1
    for nothing in (["rezept.txt"], "gipfel.de.txt", [5], None):
        with pytest.raises(AppError, match="document"):
            other.predict(nothing, api_name="/remove")
    client.close()
    other.close()


def test_only_this_computers_own_names_are_answered(address: str) -> None:
    port = urlsplit(address).port
    for host, status in (
        (f"127.0.0.1:{port}", 200),
        (f"localhost:{port}", 200),
        ("[::1]", 200),
        (f"evil.example:{port}", 400),
        ("127.0.0.1.evil.example", 400),
    ):
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Host": host, "Origin": f"http://{host}"}
        for method, path in (("GET", "/"), ("GET", "/gradio_api/info")):
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            assert b"/ask" not in reply.read() or status == 200
            assert reply.status == status, host
        connection.close()


def test_a_page_for_other_computers_is_answered_under_any_name() -> None:
    from ui.guard import names

    assert names("0.0.0.0") == ["*"]
    assert "127.0.1.1" in names("127.0.1.1")
    assert "[::1]" in names("::1")


def test_every_kind_of_file_that_is_read_may_be_uploaded(visit: Visit) -> None:
    accepted = visit.page.get_attribute(".ask input[type=file]", "accept") or ""
    assert set(SUFFIXES) <= set(accepted.replace(" ", "").split(","))

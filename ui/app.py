"""The chat in the browser: wiring only. What is shown is made in ui.render.

Nothing leaves the computer: no analytics, no foreign host (a policy header forbids the
browser even to try). A visitor's uploads go into a fork of the chatbot that only their
visit holds.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr  # noqa: TID253 - ui.cli imports this module for the chat alone
from gradio.events import api  # noqa: TID253
from starlette.middleware.trustedhost import TrustedHostMiddleware

from index.errors import BelegError, InputError
from index.load import SUFFIXES, load
from index.types import Document
from rag.answer import Answer
from rag.chatbot import Chatbot
from ui import render
from ui.markup import safe

UPLOAD_SIZE = "50mb"

TURNS = 50
"""A visit remembers so many questions; older ones leave the page."""

_PHRASES = {
    "en": {
        "tagline": "Ask your documents. Every sentence of the answer is cited word for word.",
        "local": "Answers are quotes from your documents; nothing leaves this computer.",
        "model": "A language model writes the answers. Your question and the passages found for it"
        " are sent to",
        "ask": "Ask",
        "question": "Your question",
        "placeholder": "Ask in German or English …",
        "documents": "Documents",
        "upload": "Add documents",
        "limits": "txt, md, html, pdf or docx, up to 50 MB each; only for this visit.",
        "examples": "For example:",
    },
    "de": {
        "tagline": "Fragen Sie Ihre Dokumente. Jeder Satz der Antwort ist wörtlich belegt.",
        "local": "Antworten sind Zitate aus Ihren Dokumenten; nichts verlässt diesen Computer.",
        "model": "Ein Sprachmodell schreibt die Antworten. Ihre Frage und die gefundenen Stellen"
        " gehen an",
        "ask": "Fragen",
        "question": "Ihre Frage",
        "placeholder": "Fragen Sie auf Deutsch oder Englisch …",
        "documents": "Dokumente",
        "upload": "Dokumente hinzufügen",
        "limits": "txt, md, html, pdf oder docx, je bis 50 MB; nur für diesen Besuch.",
        "examples": "Zum Beispiel:",
    },
}

# Gradio's page needs inline code; but nothing may come from or go to another host.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "base-uri 'self'; form-action 'self'; object-src 'none'"
)

_CSS = """
.gradio-container { max-width: 76rem !important; margin: 0 auto; }
.gradio-container .html-container { padding: 0 !important; }
.head { gap: .1rem !important; }
.head h1, .side h2 { margin: 0 !important; }
.side h2 { font-size: 1.15rem; }
.quiet { color: var(--body-text-color-subdued); }
.talk { font-size: 1.05rem; line-height: 1.55; overflow-wrap: anywhere; }
.talk p { margin: .5rem 0 !important; }
.talk .empty, .talk .waiting { color: var(--body-text-color-subdued); }
.talk .turn { padding: .5rem 0 1rem; scroll-margin-top: .5rem; }
.talk .turn + .turn { border-top: 1px solid var(--border-color-primary); }
.talk .question { font-weight: 600; }
.talk .text, .talk blockquote { white-space: pre-wrap; }
.talk .refusal { font-style: italic; }
.talk .understood, .talk .flag, .talk small { color: var(--body-text-color-subdued);
  font-size: .9rem; }
.talk .weak, .talk .unsupported { text-decoration: underline dotted; }
.talk .unsupported { text-decoration: underline wavy var(--error-text-color, #b42318); }
.talk .notice { border-left: 3px solid var(--color-accent); padding-left: .6rem; }
.talk .marker { font-size: .85em; text-decoration: none; padding: 0 !important; }
.talk .marker:hover, .talk .marker:focus-visible { text-decoration: underline; }
.talk .passage { margin: .9rem 0 0; font-size: .95rem; }
.talk .passage figcaption span { color: var(--body-text-color-subdued); }
.talk .passage blockquote { margin: .25rem 0 0 !important; padding: 0 0 0 .8rem !important;
  border-left: 3px solid var(--border-color-primary); }
.talk mark { background: #ffe58a; color: #1c1a12; border-radius: 2px; padding: 0 .1em; }
.talk sup { scroll-margin-top: 30vh; font-weight: 700; margin-right: .15em; }
.talk sup:target + mark { outline: 2px solid var(--color-accent); }
.error { color: var(--error-text-color, #b42318); }
.documents { list-style: none; margin: 0 !important; padding: 0 !important;
  overflow-wrap: anywhere; }
.documents li { margin: 0 0 .5rem !important; padding: 0 !important; }
.documents span, .documents small { display: block; color: var(--body-text-color-subdued); }
.examples { gap: .4rem !important; }
.examples .row { gap: .5rem !important; }
.examples button { flex: 0 1 auto !important; width: auto !important; text-align: left;
  font-weight: 400; background: none; border: 1px solid var(--border-color-primary); }
.examples button:hover { border-color: var(--color-accent); }
.ask { position: sticky; bottom: 0; background: var(--body-background-fill);
  padding: .5rem 0; z-index: 5; align-items: end; }
"""

# A new turn is scrolled to, so that its question and answer are read from their beginning.
_SCROLL = """
let seen = 0;
watch('value', () => {
  const turns = element.querySelectorAll('.turn');
  if (turns.length > seen) turns[turns.length - 1].scrollIntoView({block: 'start'});
  seen = turns.length;
});
"""


@dataclass(slots=True)
class _Visit:
    """What one visitor has said and added; ``bot`` is None until the first upload."""

    bot: Chatbot | None = None
    turns: list[render.Turn] = field(default_factory=list)


def build(bot: Chatbot, examples: Sequence[str] = ()) -> gr.Blocks:
    """The page over ``bot``, whose documents every visitor sees; ``examples`` as buttons."""
    i18n = gr.I18n(**_PHRASES)

    def converse(
        question: str, visit: _Visit, request: gr.Request
    ) -> Iterator[tuple[str, str, _Visit]]:
        language = _language(request)
        if not question.strip():
            yield question, render.conversation(visit.turns, language), visit
            return
        earlier = visit.turns[1 - TURNS :]
        for turn in _reply(visit.bot or bot, question, earlier, language):
            visit.turns = [*earlier, turn]
            yield "", render.conversation(visit.turns, language), visit

    def add(files: list[str], visit: _Visit, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        language = _language(request)
        own_bot = visit.bot or bot.fork()
        added: list[Document] = []
        problems: list[str] = []

        def page(done: str, upload: object) -> tuple[Any, ...]:
            shared, in_use = set(bot.documents), (visit.bot or bot).documents
            own = [document for document in in_use if document not in shared]
            listed = render.documents(in_use, own, language)
            return upload, render.status(done, problems), listed, visit

        for file in files:
            folder, name = os.path.split(file)
            yield page(f"{render.word('reading', language)} {name} …", gr.skip())
            try:
                added += own_bot.add(load(file))  # by name alone: its folder is ours
            except Exception as error:
                problem = _words(error, language).replace(f"{folder}{os.sep}", "")
                problems.append(problem if name in problem else f"{name}: {problem}")
                continue
            visit.bot = own_bot
        names = ", ".join(document.source for document in added)
        yield page(f"{render.word('added', language)} {names}" if added else "", None)

    def ask_api(question: str) -> dict[str, Any]:
        """Answer one question from the start documents: the object of `beleg ask --json`."""
        try:
            if not isinstance(question, str):  # whatever a client sends
                raise InputError("the question must be text")
            return bot.ask(_sendable(question)).to_json()
        except BelegError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def opened(request: gr.Request) -> tuple[str, str]:
        language = _language(request)
        return render.conversation((), language), render.documents(bot.documents, (), language)

    blocks = gr.Blocks(title="Beleg", analytics_enabled=False, delete_cache=(60, 600))
    with blocks:
        visit = gr.State(_Visit())
        with gr.Column(elem_classes="head"):
            gr.HTML("<h1>Beleg</h1>")
            gr.HTML(i18n("tagline"))
            if bot.llm is None:
                gr.HTML(i18n("local"), elem_classes="quiet")
            else:
                name = safe(bot.llm.name).replace("$", "&#36;")
                template = f"${{value}} <b>{name}</b>"
                gr.HTML(i18n("model"), html_template=template, elem_classes="quiet")
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                talk = gr.HTML(render.conversation((), "en"), js_on_load=_SCROLL, elem_id="talk")
                with gr.Row(elem_classes="ask"):
                    box = gr.Textbox(
                        label=i18n("question"),
                        placeholder=i18n("placeholder"),
                        show_label=False,
                        container=False,
                        lines=1,
                        max_lines=6,
                        scale=5,
                        min_width=180,
                        autofocus=True,
                        elem_id="question",
                    )
                    send = gr.Button(i18n("ask"), variant="primary", scale=1, min_width=90)
                buttons = []
                if examples:
                    with gr.Column(elem_classes="examples"):
                        gr.HTML(i18n("examples"), elem_classes="quiet")
                        with gr.Row():
                            buttons = [gr.Button(text, size="sm", min_width=0) for text in examples]
            with gr.Column(scale=1, min_width=260, elem_classes="side"):
                gr.HTML(i18n("documents"), html_template="<h2>${value}</h2>")
                listed = gr.HTML(render.documents(bot.documents, (), "en"), elem_id="documents")
                upload = gr.File(
                    label=i18n("upload"),
                    file_count="multiple",
                    file_types=list(SUFFIXES),
                    height=150,
                    elem_id="upload",
                )
                gr.HTML(i18n("limits"), elem_classes="quiet")
                note = gr.HTML(elem_id="upload-status")

        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        answering: dict[str, Any] = {**quiet, "concurrency_id": "ask"}
        said = [box, talk, visit]
        gr.on([box.submit, send.click], converse, [box, visit], said, **answering)
        for button in buttons:
            button.click(converse, [button, visit], said, **answering)
        upload.upload(add, [upload, visit], [upload, note, listed, visit], **quiet)
        blocks.load(opened, None, [talk, listed], queue=False, **quiet)
        api(ask_api, api_name="ask", concurrency_id="ask")
    blocks.queue(max_size=64, default_concurrency_limit=1, api_open=False)
    return blocks


def serve(
    bot: Chatbot,
    examples: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    announce: Callable[[str], None] = lambda address: None,
    browser: bool = False,
) -> None:
    """Show the chat until Ctrl-C; ``announce`` gets the address once the page answers.

    Without ``port``, the first free one from 7860. Raises InputError if there is none.
    """
    # A kill must clear the uploads away just as Ctrl-C does.
    # A process started in the background by a shell inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Gradio asks itself whether it is up; a proxy must not come between.
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = ",".join(filter(None, [direct, host, "localhost"]))
    with tempfile.TemporaryDirectory(prefix="beleg-", ignore_cleanup_errors=True) as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = build(bot, examples)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                inline=False,
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                max_file_size=UPLOAD_SIZE,
                footer_links=[],
                app_kwargs={
                    "middleware": [
                        (TrustedHostMiddleware, (_names(host), False), {}),
                        (_Policy, (), {}),
                    ]
                },
                i18n=gr.I18n(**_PHRASES),
                theme=gr.themes.Base(
                    primary_hue="amber",
                    neutral_hue="stone",
                    font=["system-ui", "sans-serif"],
                    font_mono=["ui-monospace", "monospace"],
                ).set(  # contrast of 4.5 and more (WCAG 2.2, 1.4.3)
                    body_text_color_subdued="*neutral_600",
                    button_primary_background_fill="*primary_700",
                    button_primary_background_fill_hover="*primary_800",
                    button_primary_background_fill_dark="*primary_700",
                    button_primary_background_fill_hover_dark="*primary_800",
                ),
                css=_CSS,
            )
        except OSError as error:
            raise InputError(f"cannot start the chat: {error}") from None
        try:
            announce(address)
            if browser:
                webbrowser.open(address)
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def _names(host: str) -> list[str]:
    """The names under which the page answers: while it listens on this computer alone, only
    those of this computer.

    A foreign page whose name leads here (DNS rebinding) could read along otherwise.
    """
    address = socket.getaddrinfo(host, None)[0][4][0]
    if not ipaddress.ip_address(address).is_loopback:
        return ["*"]
    return ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host]


def _reply(
    bot: Chatbot, question: str, earlier: Sequence[render.Turn], language: str
) -> Iterator[render.Turn]:
    """The turn as it grows: waiting, parts of the text, then the answer or an error."""
    question = _sendable(question)
    yield render.Turn(question)
    history = [(turn.question, turn.answer) for turn in earlier if turn.answer is not None]
    partial = ""
    try:
        for event in bot.stream(question, history):
            if isinstance(event, Answer):
                yield render.Turn(question, answer=event)
            else:
                partial += event
                yield render.Turn(question, partial=partial)
    except Exception as error:
        yield render.Turn(question, error=_words(error, language))


def _words(error: Exception, language: str) -> str:
    """An error for the page: our own are one clear line, of others only the kind is told."""
    if isinstance(error, BelegError):
        return str(error)
    if os.environ.get("BELEG_DEBUG"):
        sys.excepthook(type(error), error, error.__traceback__)
    return render.word("failed", language).format(type(error).__name__)


def _language(request: gr.Request) -> str:
    return render.preferred_language(request.headers.get("accept-language", ""))


def _sendable(text: str) -> str:
    """``text`` with lone surrogates replaced, which no UTF-8 response can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


class _Policy:
    """ASGI middleware: answers carry a policy that confines the browser to this host."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(
        self, scope: object, receive: object, send: Callable[..., Awaitable[None]]
    ) -> None:
        async def with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive, with_policy)

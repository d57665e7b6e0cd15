"""The chat in the browser: wiring only. What is shown is made in ui.render and ui.source,
what a visitor does is done in ui.visit.

Nothing leaves the computer: no analytics, no foreign host (a policy header forbids the
browser even to try). A visitor's uploads go into a fork of the chatbot that only their
visit holds, unless an index on disk is shared.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import threading
import webbrowser
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal, TypeAlias

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# Its own figures of use, which nobody is shown, would be made anew with every event.
os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(sys.maxsize)

import gradio as gr  # noqa: TID253 - ui.cli imports this module for the chat alone
from fastapi import Depends, HTTPException, Request
from gradio.components.api_component import Api  # noqa: TID253
from starlette.middleware.trustedhost import TrustedHostMiddleware

from index.errors import BelegError, InputError
from index.load import SUFFIXES, load
from index.types import Document
from rag.chatbot import Chatbot
from rag.models import is_this_computer
from ui import guard, render, source
from ui.markup import safe
from ui.phrases import LANGUAGES, everything, phrase, preferred
from ui.trial import Trial, shown
from ui.visit import House, Visit, sendable, words

_HERE = Path(__file__).parent

UPLOADS, TRIALS = 8, 4
"""So many visitors' documents are read, and so many evaluations run, at the same time."""

# The source and the list tell the rest of the page's code (page.js) when they are drawn anew.
_DRAWN = "watch('value', () => document.dispatchEvent(new Event('beleg:source')));"
_LISTED = "watch('value', () => document.dispatchEvent(new Event('beleg:documents')));"
# The page's language is that of its head.
_HEAD = """
watch('value', () => {
  document.documentElement.lang = element.firstElementChild.lang;
  document.dispatchEvent(new Event('beleg:language'));
});
"""


Step: TypeAlias = tuple[Any, ...]


def _filling(event: Callable[[Any, Visit], Iterator[Step]]) -> Callable[[Any, Visit], Any]:
    """Where there are no steps, nothing changes: Gradio would empty what they were to fill."""

    @wraps(event)
    def filling(page: _Page, visit: Visit) -> Iterator[Any]:
        steps = event(page, visit)
        yield next(steps, gr.skip())
        yield from steps

    return filling


def build(
    bot: Chatbot,
    examples: Sequence[str] = (),
    *,
    feedback: Path | None = None,
    changes: bool = True,
    local: bool = True,
) -> gr.Blocks:
    """The page over ``bot``, whose documents every visitor sees; ``examples`` as buttons.

    ``feedback`` is the file that verdicts on answers are appended to; ``changes`` says whether
    visitors may change an index on disk; the page is ``local`` if only this computer can reach
    it.
    """
    return _Page(House(bot, feedback=feedback, changes=changes), examples, local).blocks


class _Page:
    """The components, and what they do; each method that starts with ``on_`` is an event."""

    def __init__(self, house: House, examples: Sequence[str], local: bool) -> None:
        self.house = house
        self.may_add = not house.fixed
        self.local = local
        self.examples = examples
        self.i18n = _i18n()
        self.labelled: list[tuple[gr.components.Component | gr.Tab, dict[str, str]]] = []
        self.blocks = gr.Blocks(
            title="Beleg", analytics_enabled=False, delete_cache=(60, 600), fill_width=True
        )
        with self.blocks:
            self._lay_out()
            self._connect()
            self._offer_api()
        self.blocks.queue(max_size=guard.QUEUE, default_concurrency_limit=1, api_open=False)

    # ---- What is where ---------------------------------------------------------------------

    def _lay_out(self) -> None:
        # Its language is not known until the browser asks: till then its texts are not shown.
        blank = Visit()
        self.visit = gr.State(Visit())
        self.head = _html(self._head(blank), js=_HEAD, elem_id="masthead")
        _html('<span class="hidden" id="live" aria-live="polite"><span></span></span>')
        _html(_sending(), js=(_HERE / "sending.js").read_text("utf-8"))
        with gr.Tabs(elem_id="pages"):
            with self._tab("ask page"), gr.Row(elem_classes="desk"):
                self._desk(blank)
            with self._tab("documents") as self.documents:
                self._shelf(blank)
            with self._tab("evaluate"):
                self._bench(blank)
            with self._tab("settings"):
                self._settings(blank)

    def _desk(self, blank: Visit) -> None:
        with gr.Column(scale=5, min_width=0):
            self.talk = _html(self._talk(blank), js=_script(), elem_id="talk")
            with gr.Row(elem_classes="adding"):
                self.note = _html("", elem_id="upload-status")
                self.stop = self._button("stop", visible=False, size="sm")
            with gr.Row(elem_classes="ask"):
                self.upload = self._upload_button("add file", "upload", visible=self.may_add)
                self.box = self._textbox("question", "placeholder", "question", max_lines=6)
                self.send = self._button("ask", variant="primary")
        with gr.Column(scale=6, min_width=0):
            self.pane = _html(self._source(blank), js=_DRAWN, elem_id="source")

    def _shelf(self, blank: Visit) -> None:
        with gr.Column(elem_classes="shelf"):
            self.listed = _html(self._documents(blank), js=_LISTED, elem_id="documents")
            self.more = self._upload_button("upload", "upload-more", visible=self.may_add)
            with gr.Row(elem_classes="adding"):
                self.note_more = _html("")
                self.stop_more = self._button("stop", "stop-more", visible=False, size="sm")
            with gr.Column(visible=self.may_add):
                self.text = self._textbox("paste", "paste", "paste", lines=4, max_lines=12)
                self.title = self._textbox("paste title", "paste title", "paste-title", max_lines=1)
                self.paste = self._button("paste add")

    def _bench(self, blank: Visit) -> None:
        with gr.Column(elem_classes="leaf"):
            self.how = _html(self._how(blank))
            self.questions = self._upload_button(
                "evaluate file", "upload-questions", "single", [".jsonl", ".json"]
            )
            self.stop_trial = self._button("stop trial", visible=False, size="sm")
            self.trial = _html("", elem_id="trial")

    def _settings(self, blank: Visit) -> None:
        with gr.Column(elem_classes="leaf"):
            self.chosen = _html(self._chosen(blank))
            self.language = gr.Radio(
                [(name, code) for code, name in LANGUAGES.items()],
                label=self.i18n("language"),
                elem_id="language",
            )
            self.labelled.append((self.language, {"label": "language"}))
            self.strict = self._checkbox("strict", self.house.start.strict)
            self.follow_ups = self._checkbox("follow-ups", self.house.start.follow_ups)
            has_model = self.house.start.llm is not None
            self.model = self._checkbox("model on", True, visible=has_model)
            self.translate = self._checkbox("translate", False, visible=has_model)
            # Its bounds are ours to keep: Gradio's own words would be in English.
            self.nearest = gr.Number(
                render.NEAREST, precision=0, label=self.i18n("nearest set"), elem_id="nearest"
            )
            self.labelled.append((self.nearest, {"label": "nearest set"}))
            self.state = _html(self._state(blank), elem_id="state")

    def _tab(self, key: str) -> gr.Tab:
        tab = gr.Tab(self.i18n(key), elem_id=f"page-{key.split()[0]}")
        self.labelled.append((tab, {"label": key}))
        return tab

    def _upload_button(
        self,
        key: str,
        name: str,
        count: Literal["single", "multiple"] = "multiple",
        kinds: Sequence[str] = SUFFIXES,
        *,
        visible: bool = True,
    ) -> gr.UploadButton:
        label: Any = self.i18n(key)
        button = gr.UploadButton(
            label, file_count=count, file_types=list(kinds), elem_id=name, visible=visible
        )
        self.labelled.append((button, {"label": key}))
        return button

    def _button(self, key: str, name: str = "", **options: Any) -> gr.Button:
        name = f"button-{name or key.replace(' ', '-')}"
        button = gr.Button(self.i18n(key), elem_id=name, **options)
        self.labelled.append((button, {"value": key}))
        return button

    def _textbox(self, label: str, placeholder: str, name: str, **options: Any) -> gr.Textbox:
        box = gr.Textbox(
            label=self.i18n(label),
            placeholder=self.i18n(placeholder),
            show_label=False,
            container=False,
            elem_id=name,
            autofocus=name == "question",
            **options,
        )
        self.labelled.append((box, {"label": label, "placeholder": placeholder}))
        return box

    def _checkbox(self, key: str, value: bool, **options: Any) -> gr.Checkbox:
        name = key.replace(" ", "-")
        box = gr.Checkbox(value, label=self.i18n(key), elem_id=f"set-{name}", **options)
        self.labelled.append((box, {"label": key}))
        return box

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        at_once = quiet | {"queue": False}
        # What is given is shown at once, whoever else is served; then it waits for its turn, which
        # the queue refuses when it is full.
        shown = quiet | {"concurrency_limit": None}
        one_more = shown | {"trigger_mode": "multiple"}
        in_turn = quiet | {"trigger_mode": "multiple"}
        answering = in_turn | {"concurrency_id": "ask"}
        said = [self.talk, self.pane, self.state, self.visit]
        asked = [self.talk, self.note, self.visit]
        given = [self.box, self.visit]
        for asking in (
            gr.on([self.box.submit, self.send.click], self.on_question, given, asked, **one_more),
            self.talk.ask_example(self.on_example, [self.visit], asked, **one_more),
        ):
            answer = asking.success(self.on_answer, [self.visit], said, **answering)
            answer.failure(self.on_unanswered, [self.visit], [self.talk], **at_once)
        self.talk.open_source(self.on_open, [self.visit], [self.pane], **at_once)
        self.talk.rate_answer(self.on_rate, [self.visit], [self.talk], **at_once)

        adding = in_turn | {"concurrency_id": "add", "concurrency_limit": UPLOADS}
        noted: list[Any] = [self.note, self.note_more, self.stop, self.stop_more]
        added = [*noted, self.text, self.title, self.listed, self.pane, self.talk, self.visit]
        pasted = [self.text, self.title, self.visit]
        for giving in (
            self.upload.upload(self.on_upload, [self.upload, self.visit], noted, **one_more),
            self.more.upload(self.on_upload, [self.more, self.visit], noted, **one_more),
            self.paste.click(self.on_paste, pasted, noted, **shown),
        ):
            read = giving.success(self.on_read, [self.visit], added, **adding)
            read.failure(self.on_unread, [self.visit], noted, **at_once)
        stops = [self.stop.click, self.stop_more.click]
        gr.on(stops, self.on_stop, [self.visit], noted, **at_once)
        self.talk.leave_out(self.on_leave_out, [self.visit], noted, **at_once)
        self.talk.dismiss(self.on_dismiss, [self.visit], noted, **at_once)
        removed = [self.note_more, self.listed, self.pane, self.visit]
        self.talk.remove_document(self.on_remove, [self.visit], removed, **quiet)
        if self.house.shared:  # others may have changed it
            self.documents.select(self._documents, [self.visit], [self.listed], **at_once)

        tried = [self.trial, self.stop_trial, self.visit]
        trying = in_turn | {"concurrency_limit": TRIALS}
        given = [self.questions, self.visit]
        trial = self.questions.upload(self.on_questions, given, tried, **one_more).success(
            self.on_trial, [self.visit], tried, **trying
        )
        trial.failure(self.on_untried, [self.visit], tried, **at_once)
        self.stop_trial.click(self.on_stop_trial, [self.visit], tried, **at_once)

        changed: list[Any] = [
            self.strict,
            self.follow_ups,
            self.model,
            self.translate,
            self.nearest,
        ]
        drawn = [self.head, self.talk, self.listed, self.how, self.chosen, self.state, self.visit]
        for setting in changed:
            kept = [*drawn, self.nearest]
            setting.input(self.on_settings, [*changed, self.visit], kept, **at_once)
        labels = [component for component, _ in self.labelled]
        spoken = [*drawn, self.note, self.note_more, self.trial, *labels]
        self.language.input(self.on_language, [self.language, self.visit], spoken, **at_once)
        begun = [*drawn, self.pane, self.language]
        self.blocks.load(self.on_load, [self.visit], begun, **at_once)

    # ---- What is shown ---------------------------------------------------------------------

    def _head(self, visit: Visit) -> str:
        return render.masthead(
            self.house.bot(visit).llm,
            visit.language,
            fixed=self.house.fixed,
            shared=self.house.shared,
            local=self.local,
            where=self._model_place(visit),
        )

    @property
    def here(self) -> str:
        """The phrase for the computer that this runs on."""
        return "this computer" if self.local else "that computer"

    def _model_place(self, visit: Visit) -> str:
        model = self.house.start.llm
        return _place(model.host, self.here, visit.language) if model else ""

    def _talk(self, visit: Visit) -> str:
        return render.conversation(
            visit.turns,
            visit.language,
            examples=self.examples if visit.bot is None else (),
            nearest=visit.nearest,
            rating=self.house.feedback is not None,
            fixed=self.house.fixed,
            shared=self.house.shared,
            written=self.house.bot(visit).llm is not None,
        )

    def _documents(self, visit: Visit) -> str:
        return render.documents(
            self.house.documents(visit),
            self.house.own(visit),
            visit.language,
            shared=self.house.shared,
            fixed=self.house.fixed,
        )

    def _how(self, visit: Visit) -> str:
        title, how, sample = (
            safe(phrase(key, visit.language))
            for key in ("evaluate", "evaluate how", "evaluate sample")
        )
        return f'<h2>{title}</h2><p>{how}</p><pre class="sample">{sample}</pre>'

    def _chosen(self, visit: Visit) -> str:
        return f"<h2>{safe(phrase('settings', visit.language))}</h2>"

    def _state(self, visit: Visit) -> str:
        bot = self.house.bot(visit)
        place = str(bot.index.path) if self.house.shared else ""
        kept = str(self.house.feedback or "")
        if not self.local:  # where a file lies is nothing for others
            place = place and phrase("in an index", visit.language)
            kept = kept and phrase("in a file", visit.language)
        return render.state(
            bot.index.encoder.name,
            self.house.start.llm,
            visit.turns,
            on=visit.model,
            place=place,
            kept=kept,
            language=visit.language,
            here=self.here,
            where=self._model_place(visit),
        )

    def _source(self, visit: Visit, key: str = "", label: str = "") -> str:
        """The pane on one mark of a turn, or on its first one, or on the first document."""
        marked = visit.marks(key)
        mark = next((mark for mark in marked if mark.label == label), None)
        mark = mark or (marked[0] if marked else None)
        if mark is not None:
            return self._pane(mark.document, visit, key, active=mark.label)
        documents = self.house.documents(visit)
        return source.pane(documents[0] if len(documents) else None, (), visit.language)

    def _pane(self, document: Document, visit: Visit, key: str, **where: Any) -> str:
        """A document with the marks of a turn, or of a test question, which stands above it."""
        marked = visit.marks(key)
        above = visit.trial.told(key, visit.language) if visit.trial else ""
        return source.pane(document, marked, visit.language, key=key, above=above, **where)

    # ---- What happens ----------------------------------------------------------------------

    def on_load(self, visit: Visit, request: gr.Request) -> tuple[Any, ...]:
        _speak(visit, request)
        return (*self._drawn(visit), self._source(visit), visit.language)

    def _drawn(self, visit: Visit) -> tuple[Any, ...]:
        return (
            self._head(visit),
            self._talk(visit),
            self._documents(visit),
            self._how(visit),
            self._chosen(visit),
            self._state(visit),
            visit,
        )

    async def on_question(
        self, question: str, visit: Visit, request: gr.Request
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Show a question, until the documents that were given before it are there."""
        _speak(visit, request)
        # Whoever clicks twice asks once.
        if not question.strip() or self.house.is_open(visit, question):
            yield gr.skip(), gr.skip(), visit
            return
        turn = self.house.begin(visit, question)
        # What was wrong with a file stays to be read.
        note: Any = gr.skip() if visit.adding or visit.failed else ""
        told = None
        while told != "":
            if (awaited := self.house.awaited(visit)) != told:
                self.house.wait(visit, turn, awaited)
                yield self._talk(visit), note, visit
                told = awaited
            if awaited:
                await asyncio.sleep(0.1)

    async def on_example(
        self, visit: Visit, request: gr.Request, event: gr.EventData
    ) -> AsyncIterator[tuple[Any, ...]]:
        async for step in self.on_question(_said(event)["question"], visit, request):
            yield step

    @_filling
    def on_answer(self, visit: Visit) -> Iterator[tuple[Any, ...]]:
        for turn in self.house.answer(visit):
            pane: Any = gr.skip()
            state: Any = gr.skip()
            if turn.answer is not None:
                pane, state = self._source(visit, f"t{turn.number}"), self._state(visit)
            yield self._talk(visit), pane, state, visit

    def on_unanswered(self, visit: Visit) -> str:
        self.house.refuse(visit)
        return self._talk(visit)

    def on_open(self, visit: Visit, request: gr.Request, event: gr.EventData) -> Any:
        """A citation, a document, or another part of one was chosen."""
        _speak(visit, request)
        said = _said(event)
        if said["label"] or not said["document"]:
            return self._source(visit, said["key"], said["label"])
        document = self.house.find(visit, said["document"])
        if document is None:
            return gr.skip()
        return self._pane(document, visit, said["key"], part=_number(said["part"]))

    def on_rate(self, visit: Visit, request: gr.Request, event: gr.EventData) -> Any:
        _speak(visit, request)
        said = _said(event)
        self.house.rate(visit, said["key"], said["verdict"], said["words"])
        return self._talk(visit)

    def on_upload(self, files: list[str], visit: Visit, request: gr.Request) -> tuple[Any, ...]:
        _speak(visit, request)
        # By name alone: its folder is ours.
        given = [(os.path.basename(file), partial(_load, file)) for file in files or ()]
        return self._noted(visit, self.house.give(visit, given))

    def on_paste(self, text: str, title: str, visit: Visit, request: gr.Request) -> tuple[Any, ...]:
        _speak(visit, request)
        name = title.strip() or phrase("paste", visit.language)
        given = [(name, self.house.pasting(visit, text, title))]
        return self._noted(visit, self.house.give(visit, given))

    @_filling
    def on_read(self, visit: Visit) -> Iterator[tuple[Any, ...]]:
        seen = 0
        for found in self.house.read(visit):
            pasted = any(not document.path for document in found.added[seen:])
            seen = len(found.added)
            boxes = ("", "") if pasted else (gr.skip(), gr.skip())
            yield (*self._noted(visit, found), *boxes, *self._added(visit, found))

    def on_unread(self, visit: Visit) -> tuple[Any, ...]:
        return self._noted(visit, self.house.refuse_given(visit))

    def _noted(self, visit: Visit, found: render.Adding) -> tuple[Any, ...]:
        """How far adding is, and whether it can be stopped, on both pages."""
        visit.failed = bool(found.problems)
        note = render.adding(found, visit.language)
        stop = gr.update(visible=bool(found.reading or found.waiting))
        return note, note, stop, stop

    def _added(self, visit: Visit, found: render.Adding) -> tuple[Any, ...]:
        shown: Any = gr.skip()
        # Whoever has asked reads what was cited.
        if found.added and not found.reading and not found.waiting and not visit.turns:
            shown = source.pane(found.added[-1], (), visit.language)
        talk: Any = gr.skip() if visit.turns else self._talk(visit)
        return self._documents(visit), shown, talk, visit

    def on_stop(self, visit: Visit) -> tuple[Any, ...]:
        visit.stop()
        if not visit.adding:
            return self._noted(visit, self.house.told(visit, phrase("stopped", visit.language)))
        note = render.status(phrase("stopping", visit.language))
        return note, note, gr.skip(), gr.skip()

    def on_leave_out(
        self, visit: Visit, request: gr.Request, event: gr.EventData
    ) -> tuple[Any, ...]:
        _speak(visit, request)
        return self._noted(visit, self.house.leave_out(visit, _number(_said(event)["file"])))

    def on_dismiss(self, visit: Visit, request: gr.Request, event: gr.EventData) -> tuple[Any, ...]:
        _speak(visit, request)
        return self._noted(visit, self.house.dismiss(visit, _number(_said(event)["place"])))

    def on_remove(self, visit: Visit, request: gr.Request, event: gr.EventData) -> tuple[Any, ...]:
        _speak(visit, request)
        document = _said(event)["document"]
        try:
            removed = self.house.remove(visit, document)
            note = render.status(f"{phrase('removed', visit.language)} {', '.join(removed)}")
        except BelegError as error:
            there = any(held.id == document for held in self.house.documents(visit))
            if there or self.house.fixed:
                note = render.status("", [words(error, visit.language)])
            else:  # by someone else, meanwhile
                note = render.status(phrase("gone", visit.language))
        return note, self._documents(visit), self._source(visit), visit

    def on_questions(self, file: str, visit: Visit, request: gr.Request) -> tuple[Any, ...]:
        _speak(visit, request)
        return self._tried(visit, self.house.begin_trial(visit, file))

    @_filling
    def on_trial(self, visit: Visit) -> Iterator[tuple[Any, ...]]:
        for trial in self.house.try_out(visit):
            yield self._tried(visit, trial)

    def on_untried(self, visit: Visit) -> tuple[Any, ...]:
        return self._tried(visit, self.house.refuse_trial(visit))

    def on_stop_trial(self, visit: Visit) -> tuple[Any, ...]:
        return self._tried(visit, self.house.stop_trial(visit))

    def _tried(self, visit: Visit, trial: Trial | None) -> tuple[Any, ...]:
        said = shown(trial, visit.language) if trial else ""
        return said, gr.update(visible=trial is not None and trial.going), visit

    def on_settings(
        self,
        strict: bool,
        follow_ups: bool,
        model: bool,
        translate: bool,
        nearest: float | None,
        visit: Visit,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        _speak(visit, request)
        visit.strict, visit.follow_ups = bool(strict), bool(follow_ups)
        visit.model, visit.translate = bool(model), bool(translate)
        held: Any = gr.skip()
        if nearest is not None:  # the field may be empty for a while
            visit.nearest = min(max(int(nearest), 1), render.MOST_NEAREST)
            held = gr.skip() if visit.nearest == nearest else visit.nearest
        return (*self._drawn(visit), held)

    def on_language(self, language: str, visit: Visit, request: gr.Request) -> tuple[Any, ...]:
        _speak(visit, request)
        if language in LANGUAGES:
            visit.language = language
        labels = []
        for _, texts in self.labelled:
            said: dict[str, Any] = {k: phrase(v, visit.language) for k, v in texts.items()}
            labels.append(gr.update(**said))
        # What is being read is soon said anew; what was said of files is in the other language.
        note: Any = gr.skip() if visit.adding else ""
        trial = shown(visit.trial, visit.language) if visit.trial else gr.skip()
        return (*self._drawn(visit), note, note, trial, *labels)

    # ---- For programs ----------------------------------------------------------------------

    def _offer_api(self) -> None:
        """Endpoints that give plain JSON; what a client adds is seen in its session alone."""
        hidden = gr.Button(visible=False)
        text = {"type": "string", "description": "text"}
        texts: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
        anything = {"type": "object", "description": "JSON"}
        files = gr.File(file_count="multiple", visible=False, label="files")
        for name, run, inputs in (
            ("ask", self.api_ask, [Api(None, text, "question")]),
            ("documents", self.api_documents, []),
            ("add", self.api_add, [files]),
            ("remove", self.api_remove, [Api(None, texts, "documents")]),
        ):
            hidden.click(
                run, [*inputs, self.visit], [Api(None, anything, "JSON")], api_name=name,
                concurrency_id=name if name in ("ask", "add") else "documents",
                concurrency_limit=UPLOADS if name == "add" else 1,
                show_progress="hidden",
            )  # fmt: skip

    def api_ask(self, question: str, visit: Visit) -> dict[str, Any]:
        """Answer one question: the object of `beleg ask --json`."""
        with _told():
            if not isinstance(question, str):  # whatever a client sends
                raise InputError("the question must be text")
            return self.house.bot(visit).ask(sendable(question)).to_json()

    def api_documents(self, visit: Visit) -> list[dict[str, Any]]:
        """The documents that answers come from: the list of `beleg list --json`."""
        with _told():
            return [render.described(document) for document in self.house.documents(visit)]

    def api_add(self, files: list[str] | None, visit: Visit) -> dict[str, Any]:
        """Add uploaded files: what was added, and in words what could not be."""
        given = [(os.path.basename(file), partial(_load, file)) for file in files or ()]
        *_, found = self.house.add(visit, given)
        added = [render.described(document) for document in found.added]
        return {"added": added, "errors": list(found.problems)}

    def api_remove(self, documents: list[str], visit: Visit) -> dict[str, Any]:
        """Remove documents by id or source, all or none."""
        with _told():
            if not isinstance(documents, list) or not all(isinstance(d, str) for d in documents):
                raise InputError("the documents must be a list of ids or sources")
            return {"removed": self.house.remove(visit, *documents)}


def serve(
    bot: Chatbot,
    examples: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    announce: Callable[[str], None] = lambda address: None,
    browser: bool = False,
    feedback: Path | None = None,
    auth: tuple[str, str] | None = None,
    changes: bool = True,
) -> None:
    """Show the chat until Ctrl-C; ``announce`` gets the address once the page answers.

    Without ``port``, the first free one from 7860; ``auth`` is a name and a password that are
    asked for; ``changes`` says whether visitors may change an index on disk. Raises InputError
    if the page cannot be served.
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
        # What the first question makes, once, is made while the page starts.
        warming = threading.Thread(target=_warm, args=(bot, *examples[:1]))
        warming.start()
        local = guard.is_loopback(host)
        house = House(bot, feedback=feedback, changes=changes)
        page = _Page(house, examples, local).blocks
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
                max_file_size=guard.UPLOAD,
                state_session_capacity=guard.VISITS,
                footer_links=[],
                auth=auth,
                auth_message=_login(),
                app_kwargs={
                    "dependencies": [Depends(_named_session)],
                    "middleware": [
                        (TrustedHostMiddleware, (guard.names(host), False), {}),
                        (guard.Guard, (uploads,), {}),
                    ],
                },
                i18n=_i18n(),
                theme=_theme(),
                css=_style(),
            )
        except OSError as error:
            raise InputError(f"cannot start the chat: {error}") from None
        try:
            warming.join()
            announce(address)
            if browser:
                webbrowser.open(address)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
            house.close()


def _warm(bot: Chatbot, question: str = "Warm?") -> None:
    with suppress(Exception):  # what is wrong is told to whoever asks
        Chatbot(bot.index, ranker=bot.ranker).ask(question)


def _login() -> str:
    """Above Gradio's own words, which are in the browser's language: this page is one for all,
    and has neither title nor style but what stands here."""
    said = (f'<span lang="{code}">{safe(phrase("login", code))}</span>' for code in LANGUAGES)
    return f"<title>Beleg</title><style>{_style()}</style><b>Beleg</b>{''.join(said)}"


def _i18n() -> gr.I18n:
    return gr.I18n(**{language: everything(language) for language in LANGUAGES})


def _theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        primary_hue="amber",
        neutral_hue="stone",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return theme.set(  # contrast of 4.5 and more (WCAG 2.2, 1.4.3)
        body_text_color_subdued="*neutral_600",
        button_primary_background_fill="*primary_800",
        button_primary_background_fill_hover="*primary_900",
        button_primary_background_fill_dark="*primary_800",
        button_primary_background_fill_hover_dark="*primary_900",
    )


def _html(value: object, *, js: str | None = None, elem_id: str | None = None) -> gr.HTML:
    """HTML of ours, in nobody's style but ours."""
    return gr.HTML(value, js_on_load=js, elem_id=elem_id, apply_default_css=False)


def _script() -> str:
    return (_HERE / "page.js").read_text("utf-8")


def _style() -> str:
    return (_HERE / "page.css").read_text("utf-8")


def _sending() -> str:
    """What the browser says while files are on their way, in every language."""
    words = {
        code: [phrase(key, code) for key in ("sending", "sending first")] for code in LANGUAGES
    }
    return f'<p class="sending" role="status" data-words="{safe(json.dumps(words))}"></p>'


def _place(host: str, here: str, language: str) -> str:
    """Where a language model runs, in words."""
    if is_this_computer(f"//{host}"):
        return phrase(here, language)
    return phrase("at", language).format(host) if host else phrase("at its provider", language)


def _load(file: str) -> Document:
    """An uploaded file; what is wrong with it is said without our folder's name."""
    return load(file, called=os.path.basename(file))


def _speak(visit: Visit, request: gr.Request) -> None:
    """Until the visitor chooses a language, it is the one that their browser asks for."""
    if not visit.language:
        visit.language = preferred(request.headers.get("accept-language", ""))


async def _named_session(request: Request) -> None:
    """For every route: refuses a session whose name is empty, which Gradio stumbles over."""
    if "json" not in request.headers.get("content-type", ""):
        return
    with suppress(ValueError):  # what is no JSON is refused elsewhere
        body = await request.json()
        if isinstance(body, dict) and body.get("session_hash") == "":
            language = preferred(request.headers.get("accept-language", ""))
            raise HTTPException(400, phrase("no session", language))


def _said(event: gr.EventData) -> defaultdict[str, str]:
    """What the page says of an event, all of it text, whatever a client sends."""
    held = event._data if isinstance(event._data, dict) else {}
    return defaultdict(str, {str(key): str(value) for key, value in held.items()})


def _number(said: str) -> int:
    """0 for what is none, whatever a client sends."""
    return int(said) if re.fullmatch("[0-9]{1,9}", said) else 0


@contextmanager
def _told() -> Iterator[None]:
    """Errors of ours are one line for the client too."""
    try:
        yield
    except BelegError as error:
        raise gr.Error(str(error), print_exception=False) from None

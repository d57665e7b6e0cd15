"""Test questions asked in the page: the report of ``beleg eval``, and what failed, to be opened."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from index.errors import InputError
from index.store import PassageIndex
from index.types import Document
from rag.chatbot import Chatbot
from rag.evaluate import evaluate
from rag.questions import Question, read_questions, whole_words
from rag.report import Report, Row, failures
from ui import render
from ui.markup import safe
from ui.phrases import phrase
from ui.report import page
from ui.source import RIGHT, Mark
from ui.speech import Speech

QUESTIONS = 1000
"""The page asks so many; beleg eval asks any number."""


@dataclass(slots=True)
class Trial:
    """How far the evaluation with a file has come: it waits for its turn at first; ``report`` is
    there when it is done or was cancelled."""

    file: str
    waiting: bool = True
    done: int = 0
    total: int = 0
    report: Report | None = None
    documents: Sequence[Document] = field(default_factory=list)
    questions: Mapping[str, Question] = field(default_factory=dict)
    problem: str = ""
    stopped: bool = False

    @property
    def going(self) -> bool:
        """Whether there is more to come."""
        return self.report is None and not self.problem

    @property
    def lost(self) -> list[Row]:
        """The questions lost, the worst first."""
        return failures(self.report.rows) if self.report else []

    def row(self, key: str) -> Row | None:
        """The lost question with this key."""
        number = key.removeprefix("e")
        lost = self.lost
        return lost[int(number)] if number.isdecimal() and int(number) < len(lost) else None

    def marks(self, key: str) -> list[Mark]:
        """The places that a failure rests on: what was cited, or withheld, and what is right."""
        row = self.row(key)
        if row is None:
            return []
        by_source = {document.source: document for document in self.documents}
        cited = row.citations or row.withheld
        marked = [
            Mark(str(n), by_source[c.source], c.start, c.end, near=not row.citations)
            for n, c in enumerate(cited, 1)
            if c.source in by_source
        ]
        return marked + self._gold(row, by_source)

    def _gold(self, row: Row, by_source: Mapping[str, Document]) -> list[Mark]:
        """Where a right answer stands: as the file says, or the first time the words stand
        there."""
        question = self.questions.get(row.id)
        for span in question.spans if question else ():
            if span.document in by_source:
                found = by_source[span.document]
                return [Mark(RIGHT, found, span.start, span.end, near=True)]
        within = [d for d in self.documents if row.document in (None, d.source)]
        for answer in row.gold:
            for place in whole_words(answer, within)[:1]:
                return [Mark(RIGHT, by_source[place.document], place.start, place.end, near=True)]
        return []

    def told(self, key: str, language: str) -> str:
        """A lost question, what would be right, and a way back, as HTML over its source."""
        row = self.row(key)
        if row is None:
            return ""
        back, right = safe(phrase("back", language)), safe(phrase("would be right", language))
        return (
            f'<div class="tried"><button type="button" class="back">← {back}</button>'
            f'<p><b dir="auto">{safe(row.question)}</b><br/>{right}: '
            f'<span dir="auto">{safe(_right(row, language))}</span></p></div>'
        )


def _right(row: Row, language: str) -> str:
    return " / ".join(row.gold) or phrase("not said", language)


def run(bot: Chatbot, file: str, trial: Trial, language: str) -> Iterator[None]:
    """Ask the questions of a file, of its own documents if it has some; yields now and then.

    Raises InputError where something is wrong with the file.
    """
    found = read_questions(file)
    if len(found.questions) > QUESTIONS:
        raise InputError(phrase("too many questions", language).format(QUESTIONS))
    if found.documents:
        index = PassageIndex(encoder=bot.index.encoder)
        index.add(found.documents)
        bot = Chatbot(index, ranker=bot.ranker, strict=bot.strict, llm=bot.llm)
    trial.documents, trial.total = list(bot.documents), len(found.questions)
    trial.questions = {question.id: question for question in found.questions}
    ended: queue.SimpleQueue[Report | BaseException | None] = queue.SimpleQueue()

    def progress(done: int, total: int) -> None:
        trial.done = done
        ended.put(None)
        if trial.stopped:
            raise KeyboardInterrupt  # as from the terminal: what is done is reported

    def work() -> None:
        try:
            ended.put(evaluate(bot, found.questions, on_progress=progress))
        except BaseException as error:
            ended.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            yield
            result = ended.get()
            while result is None and not ended.empty():
                result = ended.get()
            if isinstance(result, BaseException):
                raise result
            if result is not None:
                trial.report = result
                return
    finally:
        trial.stopped = True  # the visitor may have left before the end


def shown(held: Trial, language: str) -> str:
    """An evaluation: how far it is, then the headline figures, what was lost, and the report."""

    speech = Speech(language)

    def said(key: str) -> str:
        return safe(phrase(key, language))

    if held.problem:
        return render.status("", [held.problem])
    if held.waiting:
        return render.status(phrase("to be asked", language))
    report = held.report
    if report is None:
        values = f'value="{held.done}" max="{max(held.total, 1)}"'
        share = f'<progress aria-hidden="true" {values}></progress>'
        of = phrase("of", language).format(held.done, held.total)
        label = f"{said('asked so far')}: {safe(of)}"
        return f'<div class="status"><p role="status">{label}</p><p>{share}</p></div>'
    lost = held.lost
    items = []
    for number, row in enumerate(lost[: render.LISTED]):
        marked = held.marks(f"e{number}")
        mark = next(iter(marked), None)
        place = f'data-mark="{mark.label}"' if mark else ""
        link = f'<a href="#source" class="open" {place}>{said("open")}</a>' if mark else ""
        sign = f" {RIGHT}" if any(m.label == RIGHT for m in marked) else ""
        items.append(
            f'<li data-key="e{number}"><b dir="auto">{safe(row.question)}</b> '
            f'<span class="label">{safe(speech(row.stage or ""))}</span> {link}'
            f'<dl><dt>{said("answered")}</dt><dd dir="auto">{safe(row.answer or row.error)}</dd>'
            f"<dt>{said('would be right')}{sign}</dt>"
            f'<dd dir="auto">{safe(_right(row, language))}</dd></dl></li>'
        )
    count = phrase("lost of", language).format(len(lost), len(report.rows))
    whole = page(report, language=language)
    stopped = f"<p>{said('interrupted')}</p>" if report.interrupted else ""
    return (
        f'<div class="trial"><p role="status">{safe(count)}</p>{stopped}'
        f"<h2>{said('report')}</h2>"
        f'<iframe class="report" sandbox="" title="{said("report")}" srcdoc="{escape(whole)}">'
        f"</iframe><h2>{said('lost questions')}</h2><ul>{''.join(items)}</ul></div>"
    )

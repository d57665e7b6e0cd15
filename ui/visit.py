"""A visit: what one person has asked, added and chosen. The page itself is not known here."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from index.errors import BelegError, InputError
from index.language import detect_language
from index.progress import interrupted_by
from index.text import canonical
from index.types import Document
from rag.answer import Answer
from rag.chatbot import Chatbot
from ui.german import german
from ui.phrases import phrase
from ui.render import NEAREST, Adding, Turn
from ui.source import Mark, marks
from ui.trial import Trial, run

TURNS = 50
"""A visit remembers so many questions; older ones leave the page."""
DOCUMENTS = 200
"""A visit may add so many documents of its own."""
CHARACTERS = 50_000_000
"""And so many characters of text."""
ALL_CHARACTERS = 200_000_000
"""All visits together may add so many, whose vectors take ten times as many bytes."""
PATIENCE = 5.0
"""So many seconds, when the page is closed, each document has that is still being added."""
FEEDBACK = 10_000_000
"""The file of feedback grows to so many bytes."""


class Stop(threading.Event):
    """What stops the adding of some documents; the page knows it by its ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


Given: TypeAlias = Sequence[tuple[str, Callable[[], Document]]]
"""Documents to be added, each as its name and what reads it."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Visit:
    """One visitor's part: ``bot`` is None until they change the documents for themselves.

    ``language`` is that of the interface, empty until it is known; ``strict`` and
    ``follow_ups`` are None while they are as the page was started; ``model`` says whether the
    language model answers, where there is one. ``adding`` holds what is being read or waits for
    that, each by what stops it; of these ``given`` waits, and the visit may be ``reading``.
    ``found`` is how far that is, ``expected`` how many stops there were, ``newest`` the first of
    those that were given last. ``coming`` are the documents that are being embedded;
    ``characters`` is how much text the visit has added, with these.
    """

    bot: Chatbot | None = None
    turns: list[Turn] = field(default_factory=list)
    asked: int = 0
    language: str = ""
    nearest: int = NEAREST
    strict: bool | None = None
    follow_ups: bool | None = None
    model: bool = True
    translate: bool = False
    adding: dict[Stop, str] = field(default_factory=dict)
    given: list[tuple[Stop, Given]] = field(default_factory=list)
    expected: int = 0
    reading: bool = False
    newest: int = 0
    found: Adding = field(default_factory=Adding)
    failed: bool = False
    """Whether something was wrong with what was added last."""
    coming: list[Document] = field(default_factory=list)
    characters: int = 0
    trial: Trial | None = None

    def turn(self, key: str) -> Turn | None:
        """The turn with this key, if it is still on the page."""
        return next((turn for turn in self.turns if f"t{turn.number}" == key), None)

    def marks(self, key: str) -> list[Mark]:
        """The places that a turn rests on, or a question of the evaluation."""
        if key.startswith("e") and self.trial is not None:
            return self.trial.marks(key)
        turn = self.turn(key)
        return marks(turn.answer, self.nearest) if turn and turn.answer else []

    def stop(self) -> None:
        """Add no more of the documents that are being added, and none of those that wait."""
        for stop in list(self.adding):
            stop.set()
        waiting, self.given = self.given, []
        for stop, _ in waiting:
            self.adding.pop(stop, None)

    def expect(self, given: Given) -> Stop:
        """Questions wait for these documents from now on; what stops their adding."""
        self.expected += 1
        stop = Stop(self.expected)
        self.adding[stop] = given[0][0] if given else ""
        return stop

    def replace(self, turn: Turn) -> None:
        """Put a turn in the place of the one with its number."""
        for place, held in enumerate(self.turns):
            if held.number == turn.number:
                self.turns[place] = turn


class House:
    """What all visits share: the documents that the page was started with.

    If they are an index on disk, it is everybody's: what a visitor adds or removes there is
    added or removed for all, or not at all unless ``changes`` are allowed. Otherwise a visitor's
    changes go into a fork of their own.
    ``feedback`` is the file that verdicts on answers are appended to; without one none are taken.
    """

    def __init__(self, bot: Chatbot, *, feedback: Path | None = None, changes: bool = True) -> None:
        self.start = bot
        self.feedback = feedback
        self.shared = bot.index.path is not None
        self.fixed = self.shared and not changes
        """Whether nobody may add or remove documents."""
        self._write = threading.Lock()
        self._lock = threading.Lock()
        """Held while it is decided what a visit's changes go into, and whether there is room."""
        self._visits: weakref.WeakSet[Visit] = weakref.WeakSet()
        """Those that have added something."""
        self._works: weakref.WeakSet[_Work] = weakref.WeakSet()
        self._closed = False

    # ---- Documents -------------------------------------------------------------------------

    def documents(self, visit: Visit) -> Sequence[Document]:
        """What a visitor's questions are answered from."""
        return self._base(visit).documents

    def find(self, visit: Visit, name: str) -> Document | None:
        """The document with an id, if the visitor may see it."""
        cited = (mark.document for turn in visit.turns for mark in visit.marks(f"t{turn.number}"))
        tried = visit.trial.documents if visit.trial else ()
        return next(
            (d for d in itertools.chain(cited, tried, self.documents(visit)) if d.id == name), None
        )

    def own(self, visit: Visit) -> set[str]:
        """The ids of the documents that only this visitor sees."""
        if visit.bot is None:
            return set()
        shared = {record.key for record in self.start.index.records}
        return {record.key for record in visit.bot.index.records} - shared

    def pasting(self, visit: Visit, text: str, title: str) -> Callable[[], Document]:
        """What reads a pasted text, to be added: see ``pasted``."""
        return lambda: pasted(text, title, (r.source for r in self._base(visit).index.records))

    def add(self, visit: Visit, given: Given) -> Iterator[Adding]:
        """Add documents one by one.

        After ``visit.stop()`` no other is read, and the one at hand is not written, unless that
        has begun; what embeds it is left to end by itself. One that it would have replaced stays.
        """
        yield from self._adding(visit, visit.expect(given), given)

    def give(self, visit: Visit, given: Given) -> Adding:
        """Let documents wait until ``read`` adds them, each by itself."""
        with self._lock:
            if not visit.reading and not visit.given:
                visit.found = Adding()
            visit.newest = visit.expected + 1
            visit.given += [(visit.expect([one]), [one]) for one in given]
        return self.progress(visit)

    def progress(self, visit: Visit) -> Adding:
        """How far the documents are that were given."""
        waiting = [(stop.number, name) for stop, given in visit.given for name, _ in given]
        return replace(visit.found, waiting=tuple(waiting))

    def told(self, visit: Visit, problem: str) -> Adding:
        """``progress``, and what went wrong."""
        visit.found = replace(visit.found, problems=(*visit.found.problems, problem))
        return self.progress(visit)

    def leave_out(self, visit: Visit, number: int) -> Adding:
        """Do not add the documents of this number, whether they wait or are being read."""
        with self._lock:
            for stop in list(visit.adding):
                if stop.number == number:
                    stop.set()
            for waiting in list(visit.given):
                if waiting[0].is_set():
                    visit.given.remove(waiting)
                    visit.adding.pop(waiting[0], None)
        return self.progress(visit)

    def dismiss(self, visit: Visit, place: int) -> Adding:
        """Forget what went wrong, by its place among the problems."""
        problems = list(visit.found.problems)
        del problems[place : place + 1]
        visit.found = replace(visit.found, problems=tuple(problems))
        return self.progress(visit)

    def read(self, visit: Visit) -> Iterator[Adding]:
        """Add what waits, one after the other, unless that is being done already."""
        while (first := self._first(visit)) is not None:
            stop, given = first
            try:
                for step in self._adding(visit, stop, given):
                    added = (*visit.found.added, *step.added)
                    problems = (*visit.found.problems, *step.problems)
                    reading = stop.number if step.reading else 0
                    visit.found = replace(step, added=added, problems=problems, stop=reading)
                    yield self.progress(visit)
            finally:
                visit.reading = False

    def _first(self, visit: Visit) -> tuple[Stop, Given] | None:
        with self._lock:
            waiting = visit.given
            if visit.reading or not waiting or self._closed:
                return None
            visit.reading = True
            return waiting.pop(0)

    def refuse_given(self, visit: Visit) -> Adding:
        """What was given last is not taken, and why."""
        with self._lock:
            for waiting in list(visit.given):
                if waiting[0].number >= visit.newest:
                    visit.given.remove(waiting)
                    visit.adding.pop(waiting[0], None)
        return self.told(visit, phrase("busy", visit.language))

    def _adding(self, visit: Visit, stop: Stop, given: Given) -> Iterator[Adding]:
        try:
            yield from self._one_by_one(visit, stop, given, Adding(total=len(given)))
        finally:
            stop.set()  # whoever leaves the page does not have it read to its end
            visit.adding.pop(stop, None)

    def _one_by_one(
        self, visit: Visit, stop: Stop, given: Given, found: Adding
    ) -> Iterator[Adding]:
        language = visit.language
        if self.fixed:
            yield Adding(problems=(phrase("fixed", language),))
            return
        for number, (name, read) in enumerate(given, 1):
            visit.adding[stop] = name
            yield replace(found, reading=name, number=number)
            if stop.is_set():
                break
            work = _Work(partial(self._add, visit, read), stop)
            self._works.add(work)
            while not work.wait(0.1) and not work.is_given_up():
                continue
            if not work.wait(0) or isinstance(work.error, _GivenUp):
                break
            if work.error is not None:
                problem = words(work.error, language)
                problem = problem if name in problem else f"{name}: {problem}"
                found = replace(found, problems=(*found.problems, problem))
            found = replace(found, added=(*found.added, *work.added))
            if stop.is_set():
                break
        if stop.is_set():
            found = replace(found, problems=(*found.problems, phrase("stopped", language)))
        yield found

    def close(self) -> None:
        """Give up what is being added, unless it is being written; that is waited for."""
        self._closed = True
        works = list(self._works)
        for work in works:
            work.give_up()
        for work in works:
            work.wait(PATIENCE)

    def _add(
        self, visit: Visit, read: Callable[[], Document], begin: Callable[[], None]
    ) -> list[Document]:
        """Add one document, if it is not given up before the writing can ``begin``."""
        document = read()
        with self._room(visit, document):
            return self._changing(visit).add(document, before_write=begin)

    def remove(self, visit: Visit, *names: str) -> list[str]:
        """Remove documents by id or source; their sources. Raises InputError."""
        if self.fixed:
            raise InputError(phrase("fixed", visit.language))
        removed = self._changing(visit).remove(*names)
        with self._lock:
            self._measure(visit)
        return removed

    def _changing(self, visit: Visit) -> Chatbot:
        """What a visitor's changes go into: a fork of their own, made once, or what is shared."""
        if self.shared:
            return self.start
        with self._lock:
            visit.bot = visit.bot or self.start.fork()
        return visit.bot

    def _base(self, visit: Visit) -> Chatbot:
        return visit.bot or self.start

    @contextmanager
    def _room(self, visit: Visit, document: Document) -> Iterator[None]:
        """Keep room for a document of a visit's own while it is added. Raises InputError."""
        if self.shared:
            yield
            return
        with self._lock:
            held = [d for d in self._own_documents(visit) if d.source != document.source]
            characters = sum(len(d.text) for d in held) + len(document.text)
            if len(held) >= DOCUMENTS or characters > CHARACTERS:
                room = phrase("no room", visit.language)
                raise InputError(room.format(DOCUMENTS, CHARACTERS // 1_000_000))
            others = sum(other.characters for other in self._visits if other is not visit)
            if others + characters > ALL_CHARACTERS:
                raise InputError(phrase("no room for all", visit.language))
            visit.coming.append(document)
            visit.characters = characters
            self._visits.add(visit)
        try:
            yield
        finally:
            with self._lock:
                visit.coming.remove(document)
                self._measure(visit)

    def _measure(self, visit: Visit) -> None:
        visit.characters = sum(len(document.text) for document in self._own_documents(visit))

    def _own_documents(self, visit: Visit) -> list[Document]:
        """What a visit has added, with what is coming."""
        own = self.own(visit)
        return [d for d in self.documents(visit) if d.id in own] + visit.coming

    # ---- Questions -------------------------------------------------------------------------

    def bot(self, visit: Visit) -> Chatbot:
        """What answers a visitor, as they have set it."""
        base = self._base(visit)
        return Chatbot(
            base.index,
            ranker=base.ranker,
            follow_ups=base.follow_ups if visit.follow_ups is None else visit.follow_ups,
            strict=base.strict if visit.strict is None else visit.strict,
            llm=base.llm if visit.model else None,
        )

    def ask(self, visit: Visit, question: str) -> Iterator[Turn]:
        """The new turn as it grows: waiting, parts of the text, then the answer or an error."""
        yield self.begin(visit, question)
        yield from self.answer(visit)

    def begin(self, visit: Visit, question: str) -> Turn:
        """The turn of a question that ``answer`` is to answer."""
        visit.asked += 1
        turn = Turn(sendable(question), number=visit.asked)
        visit.turns.append(turn)
        del visit.turns[:-TURNS]
        return turn

    def is_open(self, visit: Visit, question: str) -> bool:
        """Whether this is the question that was asked last, and has no answer yet."""
        last = visit.turns[-1] if visit.turns else None
        return last is not None and _is_open(last) and last.question == sendable(question)

    def wait(self, visit: Visit, turn: Turn, awaited: str) -> None:
        """Say what a question waits for, unless it is being answered already.

        All that wait, wait for the same: each is told, so that whichever is shown last is true.
        """
        for held in list(visit.turns):
            waits = held.number == turn.number or held.waiting
            # What is true already is left alone: the answer may be coming just now.
            if waits and held.waiting != awaited and _is_open(held) and not held.partial:
                visit.replace(replace(held, waiting=awaited))

    def awaited(self, visit: Visit) -> str:
        """What a question waits for, in words: the documents that were given before it."""
        names = [name for stop, name in list(visit.adding.items()) if not stop.is_set()]
        return phrase("first reading", visit.language).format(names[0]) if names else ""

    def answer(self, visit: Visit) -> Iterator[Turn]:
        """The first turn that has no answer yet, as it grows."""
        turns = list(visit.turns)
        place = next((n for n, turn in enumerate(turns) if _is_open(turn)), None)
        if place is None:
            return
        for turn in self._reply(visit, turns[place].question, turns[:place]):
            turn = replace(turn, number=turns[place].number)
            visit.replace(turn)
            yield turn

    def refuse(self, visit: Visit) -> None:
        """The last question is not taken; its turn says why."""
        turn = visit.turns[-1] if visit.turns else None
        if turn is not None and _is_open(turn):
            visit.replace(replace(turn, error=phrase("busy", visit.language), waiting=""))

    def _reply(self, visit: Visit, question: str, earlier: Iterable[Turn]) -> Iterator[Turn]:
        yield Turn(question)
        history = [(turn.question, turn.answer) for turn in earlier if turn.answer is not None]
        partial = ""
        try:
            bot = self.bot(visit)
            for event in bot.stream(question, history):
                if isinstance(event, str):
                    partial += event
                    yield Turn(question, partial=partial)
                    continue
                if visit.translate and bot.llm is not None and event.answered:
                    waiting = phrase("translating", visit.language)
                    yield Turn(question, partial=event.text, waiting=waiting)
                    event = bot.translated(event)
                yield Turn(question, answer=event)
        except Exception as error:
            yield Turn(question, error=words(error, visit.language))

    # ---- Evaluation ------------------------------------------------------------------------

    def evaluate(self, visit: Visit, file: str) -> Iterator[Trial]:
        """Ask the test questions of a file; the trial as it goes on."""
        yield self.begin_trial(visit, file)
        yield from self.try_out(visit)

    def begin_trial(self, visit: Visit, file: str) -> Trial:
        """The trial of a file of test questions, which ``try_out`` is to ask."""
        visit.trial = Trial(file)
        return visit.trial

    def try_out(self, visit: Visit) -> Iterator[Trial]:
        """Ask the questions of the trial that waits, unless another one takes its place."""
        trial = visit.trial
        if trial is None or not trial.waiting:
            return
        trial.waiting = False
        try:
            for _ in run(self.bot(visit), trial.file, trial, visit.language):
                if visit.trial is not trial:
                    return
                yield trial
        except Exception as error:
            folder = os.path.dirname(trial.file)
            trial.problem = words(error, visit.language).replace(f"{folder}{os.sep}", "")
        yield trial

    def stop_trial(self, visit: Visit) -> Trial | None:
        """Ask no more test questions; without any there is no trial."""
        if visit.trial is not None:
            visit.trial.stopped = True
            if visit.trial.waiting:
                visit.trial = None
        return visit.trial

    def refuse_trial(self, visit: Visit) -> Trial | None:
        """The trial that waits is not taken, and says why."""
        if visit.trial is not None and visit.trial.waiting:
            visit.trial.waiting = False
            visit.trial.problem = phrase("busy", visit.language)
        return visit.trial

    # ---- Feedback --------------------------------------------------------------------------

    def rate(self, visit: Visit, key: str, verdict: str, said: str = "") -> None:
        """Keep a turn as a test question: as it is ("right"), with the ``said`` words from the
        documents ("words"), or as one that they do not answer ("not said"); or take that "back".

        The last verdict is the only one that is kept."""
        turn = visit.turn(key)
        if turn is None or turn.answer is None or self.feedback is None:
            return
        try:
            back = verdict == "back"
            line = None if back else self._test_question(visit, turn.answer, verdict, said)
            with self._write:
                turn = visit.turn(key) or turn
                _strike(self.feedback, turn.kept)
                turn = replace(turn, rated="", kept="", problem="")
                visit.replace(turn)
                if line is not None:
                    _append(self.feedback, line, visit.language)
                    visit.replace(replace(turn, rated=verdict, kept=line["id"]))
        except (BelegError, OSError) as error:
            turn = visit.turn(key) or turn
            visit.replace(replace(turn, problem=words(error, visit.language)))

    def _test_question(
        self, visit: Visit, answer: Answer, verdict: str, said: str
    ) -> dict[str, Any]:
        asked = {"id": uuid.uuid4().hex[:12], "question": answer.understood or answer.question}
        if verdict == "not said" or (verdict == "right" and not answer.answered):
            return asked | {"answerable": False}
        if verdict == "right":
            sources = {citation.source for citation in answer.citations}
            quotes = [citation.quote for citation in answer.citations]
            return asked | {"answers": quotes} | _only(sources)
        said = canonical(said)
        if not said:
            raise InputError(phrase("not in documents", visit.language))
        # Line breaks may be spaces in what was copied from the page.
        wanted = " ".join(said.split())
        documents = self.documents(visit)
        sources = {d.source for d in documents if wanted in " ".join(d.text.split())}
        if not sources:
            raise InputError(phrase("not in documents", visit.language))
        return asked | {"answers": [said]} | _only(sources)


def _is_open(turn: Turn) -> bool:
    return turn.answer is None and not turn.error


def _append(file: Path, line: dict[str, Any], language: str) -> None:
    data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as held:
        if held.tell() + len(data) > FEEDBACK:
            raise InputError(phrase("full", language).format(file.name))
        held.write(data)


def _strike(file: Path, name: str) -> None:
    """Overwrite the test question of this name with spaces: blank lines are passed over.

    No other byte is written or moved, so that others may append meanwhile.
    """
    if not name or not file.exists():
        return
    begin = json.dumps({"id": name}).encode()[:-1]
    place = 0
    with file.open("r+b") as held:
        for line in held:
            if line.startswith(begin):
                held.seek(place)
                held.write(b" " * len(line.rstrip()))
                return
            place += len(line)


class _GivenUp(Exception):
    """Something is not to be added after all."""


class _Work:
    """Something that is being added in a thread of its own; it is given up, and left to itself,
    if it is to ``stop`` before it begins to write: it ends with the step that it is at."""

    def __init__(
        self, add: Callable[[Callable[[], None]], list[Document]], stop: threading.Event
    ) -> None:
        self.added: list[Document] = []
        self.error: Exception | None = None
        self._add = add
        self._stop = stop
        self._lock = threading.Lock()
        self._writes = False
        self._done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            with interrupted_by(self._go_on):
                self.added = self._add(self._begin)
        except Exception as error:
            self.error = error
        self._done.set()

    def _begin(self) -> None:
        with self._lock:
            if self._stop.is_set():
                raise _GivenUp
            self._writes = True

    def _go_on(self) -> None:
        if self.is_given_up():
            raise _GivenUp

    def give_up(self) -> None:
        self._stop.set()

    def is_given_up(self) -> bool:
        with self._lock:
            return self._stop.is_set() and not self._writes

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after so many seconds at most."""
        return self._done.wait(seconds)


def _only(sources: Iterable[str]) -> dict[str, str]:
    """The document that a test question is about, if it is only one."""
    held = list(sources)
    return {"document": held[0]} if len(held) == 1 else {}


def pasted(text: str, title: str, taken: Iterable[str]) -> Document:
    """A document of pasted text; without a title it is numbered. Raises InputError."""
    text = canonical(sendable(text))
    if not text:
        raise InputError("the text is empty")
    source = " ".join(canonical(sendable(title)).split())[:120]
    if not source:
        names = set(taken)
        source = next(name for n in itertools.count(1) if (name := f"Text {n}") not in names)
    return Document(text, source, source, detect_language(text))


def words(error: Exception, language: str) -> str:
    """An error for the page: our own are one clear line, of others only the kind is told."""
    if isinstance(error, BelegError):
        return german(error) if language == "de" else str(error)
    if os.environ.get("BELEG_DEBUG"):
        sys.excepthook(type(error), error, error.__traceback__)
    return phrase("failed", language).format(type(error).__name__)


def sendable(text: str) -> str:
    """``text`` with lone surrogates replaced, which no UTF-8 response can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")

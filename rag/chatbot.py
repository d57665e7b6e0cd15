"""Chatbot: the Python API. A question is searched, answered, and every quote is checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from index.embed import SentenceTransformerEncoder
from index.errors import InputError
from index.load import load_all
from index.store import PassageIndex, Query, View
from index.types import Document, Hit
from rag.answer import Answer
from rag.check import SUPPORT, check, without_unsupported
from rag.config import Settings
from rag.conversation import HISTORY, understand
from rag.disagree import disagreements
from rag.extract import PASSAGES, Extract, Ranker, extract
from rag.language import (
    DROPPED,
    FAILURES,
    FALLBACK,
    NO_PASSAGES,
    NOTHING_ASKED,
    REFUSAL,
    UNKNOWN_LANGUAGE,
    UNKNOWN_QUESTION,
)
from rag.llm import LanguageModel, Reply, harmless, quoted_first
from rag.refusals import refuses_to_answer
from rag.trace import trace

EXAMPLE = Path(__file__).parent / "example" / "gipfel.de.txt"
"""The bundled German example article."""


def _silent(line: str) -> None:
    """The default of on_skip: skipped files are not named."""


class Chatbot:
    """Answers questions from the documents of an index, each quote with its offsets.

    ``ranker`` holds the weights that choose sentences, and the threshold of confidence
    under which the documents are taken not to say: those of the settings if none is given.
    ``ranker.notice`` says where the settings hold a calibration that does not fit the encoder.
    ``llm`` answers in its own words; without one, answers are quotes.
    ``follow_ups`` takes "And when?" for the full question that it stands for; ``strict``
    drops sentences that their citations do not support.
    """

    def __init__(
        self,
        index: PassageIndex,
        *,
        ranker: Ranker | None = None,
        follow_ups: bool = True,
        strict: bool = False,
        llm: LanguageModel | None = None,
    ) -> None:
        self.index = index
        self.ranker = ranker or Settings.load().ranker(index.encoder)
        self.follow_ups = follow_ups
        self.strict = strict
        self.llm = llm

    @classmethod
    def from_paths(
        cls,
        *paths: str | Path,
        model: str | None = None,
        llm: LanguageModel | None = None,
        urls: bool = False,
        on_skip: Callable[[str], None] = _silent,
    ) -> Self:
        """Load, split and embed files and folders in memory.

        ``model`` names another sentence-transformers model or its folder than the settings
        do; ``llm`` answers in its own words; ``urls`` allows http(s)
        addresses among the paths; ``on_skip`` is told, in one line each, of files
        in folders that cannot be read.

        Raises:
            InputError: a path cannot be read, or holds nothing to read.
            ModelError: the encoder cannot be loaded.
        """
        documents = list(load_all(paths, urls=urls, on_skip=on_skip))  # bad paths fail at once
        return cls.from_documents(documents, model=model, llm=llm)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        model: str | None = None,
        llm: LanguageModel | None = None,
    ) -> Self:
        """Split and embed documents in memory. Raises ModelError."""
        settings = Settings.load(model=model)
        index = PassageIndex(encoder=SentenceTransformerEncoder(settings.model))
        index.add(documents)
        return cls(index, ranker=settings.ranker(index.encoder), llm=llm)

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        model: str | None = None,
        llm: LanguageModel | None = None,
    ) -> Self:
        """Open the index in the folder ``index``.

        Raises:
            InputError: there is none, or it holds no documents.
            ModelError: it was made with another encoder than ``model``, or that cannot be
                loaded.
        """
        settings = Settings.load()
        opened = PassageIndex.open(index, model=model)
        if not opened.documents:
            raise InputError("the index in {} is empty: beleg add PATH --index {}", index, index)
        opened.check_encoder()
        return cls(opened, ranker=settings.ranker(opened.encoder), llm=llm)

    @property
    def documents(self) -> Sequence[Document]:
        """What it answers from."""
        return self.index.documents

    def add(
        self,
        paths: str | Path | Document | Iterable[str | Path | Document],
        *,
        urls: bool = False,
        on_skip: Callable[[str], None] = _silent,
        before_write: Callable[[], None] = lambda: None,
    ) -> list[Document]:
        """Add files, folders and documents, and http(s) addresses where ``urls`` allows them.

        What ``before_write`` raises leaves out what was about to be written. Returns the
        documents read. Raises InputError.
        """
        return self.index.add(paths, urls=urls, on_skip=on_skip, before_write=before_write)

    def remove(self, *documents: str) -> list[str]:
        """Remove documents by id or source, all or none; returns their sources.

        Raises InputError if one is missing.
        """
        return self.index.remove(*documents)

    def fork(self) -> Self:
        """A copy in memory that shares the encoder; changing it leaves this one alone."""
        return type(self)(
            self.index.fork(),
            ranker=self.ranker,
            follow_ups=self.follow_ups,
            strict=self.strict,
            llm=self.llm,
        )

    def ask(
        self,
        question: str,
        history: Sequence[tuple[str, Answer]] = (),
        *,
        view: View | None = None,
        depth: int = PASSAGES,
    ) -> Answer:
        """Answer one question from the documents, in an earlier ``view`` of them if given.

        ``history`` holds the questions before it with their answers, the latest last; a
        follow-up is understood from its last ``HISTORY``.
        ``depth`` is how many passages the answer's ranking has; the first ``PASSAGES`` are
        answered from.

        Raises:
            InputError: the question is empty or too long.
        """
        *_, answer = self._events(question, history, view or self.index.view, depth)
        assert isinstance(answer, Answer)
        return answer

    def _events(
        self, question: str, history: Sequence[tuple[str, Answer]], view: View, depth: int
    ) -> Iterator[str | Answer]:
        """Pieces of text that a language model writes, if there is one, then the answer."""
        started = time.perf_counter()
        until = time.monotonic() + self.llm.timeout if self.llm is not None else None
        told: dict[str, str] = {}
        understood = self._understood(question, history[-HISTORY:], until, told)
        rewritten = time.perf_counter()
        query = self.index.query(understood or question, view)
        hits = self.index.search(query, depth, view=view)
        searched = time.perf_counter()
        by_rule = understood and (self.llm is None or "rewrite" in told)
        asked = self.index.query(question, view) if by_rule else None
        found = extract(self.index, view, query, hits, self.ranker, asked)
        chosen = time.perf_counter()
        reply = Reply()
        if self.llm is not None and found.answers:  # with no evidence it is not even asked
            for event in self.llm.answer(
                query, quoted_first(hits[:PASSAGES], found.citations), until
            ):
                if isinstance(event, Reply):
                    reply = event
                else:
                    yield event
        replied = time.perf_counter()
        seconds = {
            "search": searched - rewritten,
            "answer": chosen - searched,
            **({"rewrite": rewritten - started} if understood else {}),
            **({"llm": replied - chosen} if reply.trace else {}),
        }
        blank = Answer(
            question=question, language=query.language, answered=False, text="", mode="",
            citations=(), passages=tuple(hits), confidence=found.confidence, seconds=seconds,
            by_keywords=found.by_keywords, understood=understood,
        )  # fmt: skip
        reply = replace(reply, trace={**told, **reply.trace})
        yield self._answer(blank, reply, query, found, view)

    def _answer(
        self, blank: Answer, reply: Reply, query: Query, found: Extract, view: View
    ) -> Answer:
        """``blank``, filled with a language model's reply or, without one, with what was found,
        and checked. A reply that turns out to be none gives way."""
        citations = found.citations if found.answers and not reply.refused else ()
        text = " ".join(f"{' '.join(c.quote.split())} [{c.marker}]" for c in citations)
        spoken = citations[0].document.language if citations else query.language
        if reply.text:
            citations, text, spoken = reply.citations, reply.text, query.spoken
        fallback = FALLBACK[query.language].format(reason=reply.failure) if reply.failure else ""
        notices = (fallback, reply.notice, self._notice(query, blank.passages))
        answer = replace(
            blank,
            answered=bool(citations),
            text=text or (REFUSAL if blank.passages else NO_PASSAGES)[query.language],
            mode="llm" if reply.text or reply.refused else "extractive",
            citations=citations,
            # The model has read what was found, and says that it does not answer.
            confidence=0.0 if reply.refused else blank.confidence,
            notice=" ".join(filter(None, notices)),
            withheld=() if citations else found.citations,
            removed_markers=reply.removed_markers,
            trace=trace(query, blank.passages, found, reply.trace),
        )
        if not citations:
            return answer
        answer = self._checked(answer, view, spoken)
        again = replace(blank, seconds=answer.seconds)
        instead = replace(reply, text="", citations=(), notice="")
        sure = answer.claims[0].support == SUPPORT[0] if answer.claims else False
        if reply.text and not sure and refuses_to_answer(reply.text, cites=True):
            return self._answer(again, replace(instead, refused=True), query, found, view)
        if not self.strict:
            return answer
        kept = without_unsupported(answer)
        if reply.text and not kept.citations:
            why = FAILURES[query.language]["unsupported"]
            failed = replace(instead, failure=why, trace={**reply.trace, "failure": why})
            return self._answer(again, failed, query, found, view)
        if not kept.citations:
            return replace(
                answer, answered=False, text=REFUSAL[query.language], citations=(), claims=(),
                disagreements=(), withheld=answer.citations,
            )  # fmt: skip
        if dropped := len(answer.claims) - len(kept.claims):
            line = DROPPED[query.language].format(dropped)
            kept = replace(
                kept,
                notice=f"{kept.notice} {line}".strip(),
                trace={**kept.trace, "dropped": dropped},
            )
        return kept

    def translated(self, answer: Answer) -> Answer:
        """The answer with a machine translation of each quote in another language than its own;
        as it is where there is no language model."""
        language = answer.trace.get("language", answer.language)
        foreign = [c for c in answer.citations if c.document.language != language]
        if self.llm is None or not foreign:
            return answer
        texts = self.llm.translate([citation.quote for citation in foreign], language)
        new = {c.marker: replace(c, translation=t) for c, t in zip(foreign, texts, strict=True)}
        return replace(answer, citations=tuple(new.get(c.marker, c) for c in answer.citations))

    def _understood(
        self,
        question: str,
        history: Sequence[tuple[str, Answer]],
        until: float | None = None,
        told: dict[str, str] | None = None,
    ) -> str:
        """The full question that a follow-up stands for, or nothing; ``told`` is told where the
        language model should have said, and has not."""
        if not self.follow_ups or not history:
            return ""
        rewritten = None
        if self.llm is not None:
            rewritten = self.llm.rewrite(question, history, until)
            if rewritten is None and told is not None:
                told["rewrite"] = "failed"
        return understand(question, history) if rewritten is None else rewritten

    def _checked(self, answer: Answer, view: View, language: str) -> Answer:
        """The answer, whose text is in ``language``, with every sentence held against its
        citations."""
        started = time.perf_counter()
        claims = check(
            answer.text,
            answer.citations,
            language=language,
            encoder=self.index.encoder,
            holding=lambda quotation: self.index.holding(quotation, language, view),
            shown=harmless,
        )
        against = disagreements(answer.citations, answer.passages[:PASSAGES], view)
        took = answer.seconds.get("check", 0.0) + time.perf_counter() - started
        seconds = {**answer.seconds, "check": took}
        return replace(answer, claims=claims, disagreements=against, seconds=seconds)

    def _notice(self, query: Query, hits: Sequence[Hit]) -> str:
        """A line where nothing is asked, or where the encoder does not know the language of the
        best passage or of the question."""
        known = self.index.encoder.languages
        if not query.words:
            return NOTHING_ASKED[query.language]
        if known is None or not hits:
            return ""
        best = hits[0].passage.document
        if best.language not in known:
            return UNKNOWN_LANGUAGE[query.language].format(
                title=best.source, language=best.language
            )
        if query.spoken not in known:
            return UNKNOWN_QUESTION.format(language=query.spoken)
        return ""

    def stream(
        self, question: str, history: Sequence[tuple[str, Answer]] = ()
    ) -> Iterator[str | Answer]:
        """Yield the pieces of the answer's text as they come, then the checked Answer."""
        begun = False
        for event in self._events(question, history, self.index.view, PASSAGES):
            if isinstance(event, Answer) and not begun:
                yield event.text
            begun = True
            yield event

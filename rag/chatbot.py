"""Chatbot: the Python API. A question is searched, answered, and every quote is checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from index.embed import SentenceTransformerEncoder
from index.store import PassageIndex, View
from index.types import Document
from rag.answer import Answer
from rag.extract import PASSAGES, Ranker, extract
from rag.language import REFUSAL, UNKNOWN_LANGUAGE

EXAMPLE = Path(__file__).parent / "example" / "gipfel.de.txt"
"""The bundled German example article."""


def _silent(line: str) -> None:
    """The default of on_skip: skipped files are not named."""


class Chatbot:
    """Answers questions from the documents of an index, each quote with its offsets.

    ``ranker`` holds the weights that choose sentences, and the threshold of confidence
    under which the documents are taken not to say.
    """

    def __init__(self, index: PassageIndex, *, ranker: Ranker | None = None) -> None:
        self.index = index
        self.ranker = ranker or Ranker.bundled()

    @classmethod
    def from_paths(
        cls,
        *paths: str | Path,
        model: str | None = None,
        urls: bool = False,
        on_skip: Callable[[str], None] = _silent,
    ) -> Self:
        """Load, split and embed files and folders in memory.

        ``model`` names another sentence-transformers model or its folder; ``urls`` allows
        http(s) addresses among the paths; ``on_skip`` is told, in one line each, of files
        in folders that cannot be read.

        Raises:
            InputError: a path cannot be read, or holds nothing to read.
            ModelError: the encoder cannot be loaded.
        """
        index = PassageIndex(encoder=SentenceTransformerEncoder(model))
        index.add(paths, urls=urls, on_skip=on_skip)
        return cls(index)

    @classmethod
    def open(cls, index: str | Path, *, model: str | None = None) -> Self:
        """Open the index in the folder ``index``.

        Raises:
            InputError: there is none.
            ModelError: it was made with another encoder than ``model``.
        """
        return cls(PassageIndex.open(index, model=model))

    @property
    def documents(self) -> Sequence[Document]:
        return self.index.documents

    def add(
        self, paths: Iterable[str | Path], *, on_skip: Callable[[str], None] = _silent
    ) -> list[Document]:
        """Add files or folders; returns the documents read. Raises InputError."""
        return self.index.add(paths, on_skip=on_skip)

    def remove(self, document: str) -> None:
        """Remove a document by its id or source. Raises InputError if it is not there."""
        self.index.remove(document)

    def fork(self) -> Self:
        """A copy in memory that shares the encoder; changing it leaves this one alone."""
        return type(self)(self.index.fork(), ranker=self.ranker)

    def ask(
        self,
        question: str,
        history: Sequence[tuple[str, Answer]] = (),
        *,
        view: View | None = None,
    ) -> Answer:
        """Answer one question from the documents, in an earlier ``view`` of them if given.

        ``history`` is accepted for follow-up questions; each question stands alone so far.

        Raises:
            InputError: the question is empty or too long.
        """
        started = time.perf_counter()
        view = view or self.index.view
        query = self.index.query(question, view)
        hits = self.index.search(query, PASSAGES, view=view)
        searched = time.perf_counter()
        found = extract(self.index, view, query, hits, self.ranker)
        answered = bool(found.citations) and found.confidence >= self.ranker.threshold
        citations, withheld = (found.citations, ()) if answered else ((), found.citations)
        text = " ".join(f"{' '.join(c.quote.split())} [{c.marker}]" for c in citations)
        return Answer(
            question=question,
            language=query.language,
            answered=answered,
            text=text or REFUSAL[query.language],
            mode="extractive",
            citations=citations,
            passages=tuple(hits),
            confidence=found.confidence,
            seconds={
                "search": searched - started,
                "answer": time.perf_counter() - searched,
            },
            notice=self._notice(view, query.language),
            withheld=withheld,
        )

    def _notice(self, view: View, language: str) -> str:
        known = self.index.encoder.languages
        strange = [d for d in view.documents if known is not None and d.language not in known]
        if not strange:
            return ""
        return UNKNOWN_LANGUAGE[language].format(
            title=strange[0].source, language=strange[0].language
        )

    def stream(
        self, question: str, history: Sequence[tuple[str, Answer]] = ()
    ) -> Iterator[str | Answer]:
        """Yield the pieces of the answer's text as they come, then the checked Answer."""
        answer = self.ask(question, history)
        yield answer.text
        yield answer

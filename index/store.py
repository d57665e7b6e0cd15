"""PassageIndex: documents in, passages found. The one owner of the on-disk state.

The file (index/database.py) holds the documents, each text once, the spans of their
passages, and all vectors. What is searched (index/view.py) is made from it, and brought up
to date when a question comes; a question sees one state from beginning to end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import length_hint
from pathlib import Path
from typing import Any, Self

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from index import large, manifest
from index.database import FILE, Database, read_count
from index.embed import BUNDLED_NAME, Encoder, SentenceTransformerEncoder
from index.errors import InputError, ModelError
from index.fuse import fuse, ranks
from index.language import detect_language
from index.lexical import question_words
from index.load import load_all
from index.lock import exclusive
from index.progress import progress_bar
from index.records import Snapshot, text_hash
from index.split import passages as split
from index.split import sentences
from index.text import canonical
from index.types import Document, Hit, Passage, Span
from index.vectors import Encoding, unit
from index.view import LARGE, REST, Library, Searchable, View

__all__ = ["FILE", "QUESTION_LIMIT", "PassageIndex", "Query", "View", "check_question"]

POOL = 50
"""Candidates that each channel may put forward."""
QUESTION_LIMIT = 2_000
"""The longest question, in characters."""
BATCH = 1_000
"""About so many texts are embedded and written together: what a kill loses at most."""


@dataclass(frozen=True)
class Query:
    """A question as the index sees it: its language, vectors, and words to look up.

    ``language`` is German or English; ``spoken`` is any, where the question is clearly in it.
    """

    text: str
    language: str
    spoken: str
    encoding: Encoding
    words: tuple[dict[str, float], ...]


class PassageIndex:
    """Documents, split into passages and embedded, to be searched.

    ``path`` is a folder for an index on disk; None keeps everything in memory. Threads and
    processes may share it: one at a time changes it, the others read what was there before.

    Raises:
        InputError: the folder holds something else, or is damaged.
        ModelError: the index was made with another encoder.
    """

    def __init__(self, path: str | Path | None = None, *, encoder: Encoder | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self.encoder: Encoder = encoder if encoder is not None else SentenceTransformerEncoder()
        self._lock = threading.RLock()
        self._encodings: LRUCache[str, Encoding] = LRUCache(maxsize=256)
        self._library = Library()
        self._searchable: Searchable | None = None
        self._beside: tuple[int, ...] | None = None
        """The file of the large segment that was read or written last."""
        if self.path is not None and not self.exists(self.path):
            check_empty(self.path)
            made = manifest.describe(self.encoder)
            with exclusive(self.path):
                Database.create(self.path, made)
        self._database = Database(self.path)
        self._manifest: dict[str, str] = {}
        self._compared: dict[str, str] | None = None
        """The manifest that the encoder was held against."""
        if self.path is not None:
            self._manifest = manifest.read(self.path)
            manifest.check_name(self._manifest, self.encoder, self.path)

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether there is an index in the folder ``path``."""
        return (Path(path) / FILE).is_file()

    @classmethod
    def open(cls, path: str | Path, *, model: str | None = None, create: bool = False) -> Self:
        """Open an index folder with ``model``, or else with the encoder it was made with.

        The encoder is loaded when it is first needed. ``create`` makes an index where there
        is none.

        Raises:
            InputError: there is no index, or it is damaged.
            ModelError: the index was made with another encoder.
        """
        if not cls.exists(path):
            if create:
                return cls(path, encoder=SentenceTransformerEncoder(model))
            check_empty(Path(path))
            raise InputError(f"no index in {path}: make one with  beleg add PATH --index {path}")
        held = manifest.read(Path(path))
        name = model or (held["encoder"] if held["encoder"] != BUNDLED_NAME else None)
        return cls(path, encoder=SentenceTransformerEncoder(name))

    def check_encoder(self) -> None:
        """Load the encoder now, not at the first question.

        Raises:
            ModelError: it cannot be loaded, or is not the one the index was made with.
        """
        with self._lock:
            if self.path is not None and self._compared is not self._manifest:
                manifest.check_encoder(self._manifest, self.encoder, self.path)
                self._compared = self._manifest

    def _reconsider(self, snapshot: Snapshot) -> None:
        """The index may have been made anew, with another encoder, since it was opened."""
        if self.path is not None and (held := snapshot.manifest()) != self._manifest:
            with self._lock:
                self._manifest = held
            self.check_encoder()

    @property
    def _dimension(self) -> int:
        """Of the vectors here; the encoder need not be loaded for it."""
        if self.path is None:
            return self.encoder.dimension
        return int(self._manifest["dimension"])

    # --- changing ---

    def add(
        self,
        paths: str | Path | Document | Iterable[str | Path | Document],
        *,
        urls: bool = False,
        on_skip: Callable[[str], None] = lambda line: None,
    ) -> list[Document]:
        """Load, split and embed documents; those already there unchanged are left alone.

        A file that was added before and has changed replaces what it was; another file of
        the same name is given a longer source (see index.load), but one with the same text
        is the same document. A ``Document`` replaces the one of the same source. Returns
        the documents that are there now.

        They are written in batches, each whole or not at all: after an interruption, the
        same call goes on where it stopped.

        Raises:
            InputError: a path cannot be read, or holds nothing to read. The others have
                been added; if several cannot, ``on_skip`` is told of all but the last.
        """
        items = [paths] if isinstance(paths, str | Path | Document) else paths
        return list(self.adding(items, urls=urls, on_skip=on_skip))

    def adding(
        self,
        paths: Iterable[str | Path | Document],
        *,
        urls: bool = False,
        on_skip: Callable[[str], None] = lambda line: None,
    ) -> Iterator[Document]:
        """``add``, giving each document when it is there: all of them need not fit in memory."""
        bad: list[str] = []
        with self._database.exclusive():
            shelf = _Shelf(self._database, on_skip)
            named: list[str | Path] = []
            given = chain(
                _documents(paths, named),
                load_all(named, on_skip=on_skip, on_bad=bad.append, urls=urls, shelf=shelf),
            )
            yield from self._add(given, shelf)
            self._gather()
        for line in bad[:-1]:
            on_skip(line)
        if bad:
            raise InputError(bad[-1])

    def _add(self, given: Iterable[Document], shelf: _Shelf) -> Iterator[Document]:
        batch: list[tuple[Document, list[Passage]]] = []
        met: list[Document] = []
        texts = 0
        for document in given:
            there = shelf.find(document)
            met.append(there or document)
            if there is None:
                self.check_encoder()
                batch.append((document, self._split(document)))
                shelf.expect(document)
                texts += sum(1 + len(p.sentences) for p in batch[-1][1])
            if texts >= BATCH or len(met) >= BATCH:
                self._write(batch)
                shelf.expected.clear()
                yield from met
                batch, met, texts = [], [], 0
        self._write(batch)
        yield from met

    def _gather(self) -> None:
        """Put what was added into the large segment, for those who open the index."""
        if self.path is None:
            return
        state = self._database.snapshot().state()
        there = large.state(self.path)
        if there is None or there.incarnation != state.incarnation:
            due = state.passages > LARGE
        else:
            due = state.last_passage > there.last_passage + REST
        if due:
            self._view(REST)

    def _split(self, document: Document) -> list[Passage]:
        if document.whole:
            return [_whole(document)]
        with progress_bar("splitting"):
            return split(
                document,
                window=manifest.window(self.encoder),
                overlap=manifest.OVERLAP,
                count_tokens=self.encoder.count_tokens,
            )

    def _write(self, batch: Sequence[tuple[Document, Sequence[Passage]]]) -> None:
        if not batch:
            return
        passages = [passage for _, parts in batch for passage in parts]
        spans = [(p.document.text, span) for p in passages for span in p.sentences]
        inner = [text[span.start : span.end] for text, span in spans]
        unique = list(dict.fromkeys([passage.text for passage in passages] + inner))
        vectors = self._embed(unique)
        row = {text: i for i, text in enumerate(unique)}
        with self._database.writing() as writer:
            self._reconsider(writer)
            for document, parts in batch:
                own = [row[passage.text] for passage in parts]
                below = [
                    [row[document.text[s.start : s.end]] for s in passage.sentences]
                    for passage in parts
                ]
                writer.put(document, parts, vectors[own], [vectors[rows] for rows in below])

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """Raises ModelError where what the encoder gives is no vectors."""
        vectors = np.asarray(self.encoder.passages(texts, progress="embedding"))
        if vectors.shape != (len(texts), self._dimension) or not np.isfinite(vectors).all():
            raise ModelError(
                f"the encoder {self.encoder.name!r} gave {_what(vectors)} for {len(texts)} texts,"
                f" not vectors of {self._dimension} numbers: nothing was added"
            )
        return unit(vectors.astype(np.float32)).astype(np.float16)

    def remove(self, *documents: str, missing_ok: bool = False) -> list[str]:
        """Remove documents by their ids or sources, all or none; returns their sources.

        Raises:
            InputError: one of them is not there, and ``missing_ok`` is not set.
        """
        gone: dict[str, str] = {}
        with self._database.exclusive(), self._database.writing() as writer:
            for document in documents:
                found = list(writer.records("WHERE key = ?1 OR source = ?1", document))
                for record in found:
                    writer.remove(record)
                    gone |= {record.key: record.source, record.source: record.source}
                if not (found or missing_ok or document in gone):  # it may be named twice
                    raise InputError(f"no document {document!r} in this index")
        return list(dict.fromkeys(gone.values()))

    def fork(self) -> Self:
        """A copy in memory that shares the encoder; changing it leaves this one alone."""
        self.check_encoder()
        view = self.view
        copy = type(self)(encoder=self.encoder)
        copy._database = Database.copy(view.snapshot)
        state = copy._database.snapshot().state()
        copy._searchable = replace(view.searchable, state=state)
        return copy

    def close(self) -> None:
        self._database.close()

    # --- searching ---

    @property
    def view(self) -> View:
        """The present state; hold on to it for the whole of a question."""
        return self._view(4 * REST)  # who writes is to have put more into the large segment

    def _view(self, rest: int) -> View:
        with self._lock:
            before = self._newest(self._searchable)
            snapshot = self._database.snapshot()  # later than what is beside it
            if before is None or before.state.incarnation != snapshot.state().incarnation:
                self._reconsider(snapshot)
            self._searchable = Searchable.of(snapshot, self._dimension, before, rest)
            made = self._searchable.large
            if self.path is not None and made not in (None, before and before.large):
                made.write(self.path)
                self._beside = large.stamp(self.path)
            return View(snapshot, self._searchable, self._library)

    def _newest(self, held: Searchable | None) -> Searchable | None:
        """What was made searchable before: here, or if it is more, in the file beside the index."""
        if self.path is None or (stamp := large.stamp(self.path)) == self._beside:
            return held
        self._beside = stamp
        state = self._database.snapshot().state()
        after = held.large.state.generation if held and held.large else -1
        found = large.Large.read(self.path, state.incarnation, after)
        return Searchable.of_large(found) if found else held

    @property
    def documents(self) -> Sequence[Document]:
        """All documents in the order they were added, each read when it is asked for."""
        snapshot = self._database.snapshot()
        return View(snapshot, Searchable(snapshot.state()), self._library).documents

    def query(self, question: str, view: View | None = None) -> Query:
        """A question's language, vectors and words.

        Raises:
            InputError: the question is empty or longer than QUESTION_LIMIT.
            ModelError: the encoder is not the one the index was made with.
        """
        text = check_question(question)
        self.check_encoder()
        view = view or self.view
        language = detect_language(text, among=("de", "en"))
        spoken = language
        if language == "en" and (other := detect_language(text)) != "de":
            spoken = other
        found = question_words(text, spoken, view.languages, view.compounds)
        (encoding,) = self.encoder.encode([text], question=True)
        vector = encoding.vector
        if vector.shape != (self._dimension,) or not np.isfinite(vector).all():
            raise ModelError(
                f"the encoder {self.encoder.name!r} gave {_what(vector)} for the question, not a"
                f" vector of {self._dimension} numbers"
            )
        return Query(text, language, spoken, encoding, tuple(found))

    def search(
        self,
        question: str | Query,
        k: int = 10,
        *,
        view: View | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """The ``k`` best passages, best first, of the documents that ``where`` lets through.

        A passage's score is the sum of its own cosine with the question, that of its
        best sentence, and its share of the question's BM25 (see fuse.WEIGHTS). For
        ``where`` see View.only.
        """
        view = view or self.view
        query = question if isinstance(question, Query) else self.query(question, view)
        if where:
            view = view.only(where)
        held = view.searchable
        vector = query.encoding.vector
        if not len(held.rows) or k < 1:
            return []
        lexical = view.keywords.scores(query.words)
        deep = max(POOL, k)
        near = held.nearest(vector, deep, view.snapshot)
        rows = np.unique(np.concatenate([near, top(lexical, deep)]))
        own, inner = held.cosines(rows, vector, view.snapshot)
        channels = {"dense": own, "sentence": inner, "lexical": lexical[rows]}
        if (known := self.encoder.languages) is not None:
            # Of another language its vectors say nothing; what they say of the others must not
            # come before the words of a question in it.
            of = np.isin(held.languages_of(rows), sorted(known)) & (query.spoken in known)
            channels |= {"dense": own * of, "sentence": inner * of}
        score = fuse(channels)
        rank = {name: ranks(values) for name, values in channels.items()}
        found = []
        for i in np.argsort(-score, kind="stable")[:k]:
            passage = view.passage(int(rows[i]))
            places = {name: int(order[i]) for name, order in rank.items()}
            shares = {name: float(values[i]) for name, values in channels.items()}
            nearest = self._nearest(view, passage, query)
            found.append(Hit(passage, float(score[i]), places, nearest, shares))
        return found

    def _nearest(self, view: View, passage: Passage, query: Query) -> Span:
        """The sentence of a passage nearest to a question: by meaning, or else by keywords."""
        known = self.encoder.languages
        if known is None or passage.document.language in known:
            near = view.sentence_vectors(passage) @ query.encoding.vector
        else:
            text = passage.document.text
            held = [set(view.terms(text[s.start : s.end], passage)) for s in passage.sentences]
            near = view.keywords.coverage(held, query.words)
        return passage.sentences[int(near.argmax())]

    def holding(self, text: str, language: str, view: View, k: int = 10) -> list[Document]:
        """Documents that may hold a text: those of the ``k`` passages with most of its words."""
        found = question_words(text, language, view.languages, view.compounds)
        scores = view.keywords.scores(found)
        rows = top(scores, k)
        best = rows[np.argsort(-scores[rows], kind="stable")]
        return list(dict.fromkeys(view.passage(int(row)).document for row in best))

    def encodings(self, passages: Sequence[Passage]) -> list[Encoding]:
        """The token vectors of passages; the latest 256 are kept."""
        texts = [passage.text for passage in passages]
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._encodings]
            fresh = dict(zip(missing, self.encoder.encode(missing), strict=True))
            known = {text: self._encodings[text] for text in texts if text not in fresh}
            self._encodings.update(fresh)
        return [known[text] if text in known else fresh[text] for text in texts]

    def as_retriever(self, k: int = 5, where: Mapping[str, Any] | None = None) -> Any:
        """This index as a LangChain retriever."""
        from index.langchain import PassageRetriever

        return PassageRetriever(index=self, k=k, where=dict(where or {}))


class _Shelf:
    """What is there already, for the loader and for who adds: looked up, not read as a whole.

    ``on_skip`` is told, in one line, of a file that is word for word another one.
    """

    def __init__(self, database: Database, on_skip: Callable[[str], None]) -> None:
        self._database = database
        self._on_skip = on_skip
        self.expected: dict[str, Document] = {}
        """By the hash of their text, the files that are about to be written."""

    def _one(self, sql: str, *values: str) -> Any:
        return next(self._database.snapshot().rows(sql, *values), (None,))[0]

    def source_of(self, path: str) -> str | None:
        """The source of the document that was read from a file."""
        found = self._one("SELECT source FROM documents WHERE path = ? ORDER BY id", path)
        return None if found is None else str(found)

    def has(self, source: str) -> bool:
        return bool(self._one("SELECT count(*) FROM documents WHERE source = ?", source))

    def unchanged(self, path: str, raw: str) -> Document | None:
        """The document that was read from a file, if its bytes are still the same."""
        snapshot = self._database.snapshot()
        for record in snapshot.records("WHERE path = ? AND raw = ?", path, raw):
            return snapshot.document(record)
        return None

    def find(self, document: Document) -> Document | None:
        """The one that is there for a document, with the same text and all else."""
        snapshot = self._database.snapshot()
        for record in snapshot.records("WHERE key = ?", document.id):
            return document if record.describes(document) else None
        if not document.path or self.has(document.source):
            return None
        digest = text_hash(document.text)
        twin = self.expected.get(digest)
        for record in snapshot.records("WHERE hash = ? AND path != ''", digest):
            twin = twin or snapshot.document(record)
        if twin is not None:
            self._on_skip(f"{document.path} is word for word {twin.source}: one document")
        return twin

    def expect(self, document: Document) -> None:
        if document.path:
            self.expected[text_hash(document.text)] = document


def _documents(
    items: Iterable[str | Path | Document], named: list[str | Path]
) -> Iterator[Document]:
    """Those of the items that are documents; the others are ``named``."""
    count = length_hint(items)
    with progress_bar("adding" if count > 1 else "", count, unit="document") as bar:
        for item in items:
            if isinstance(item, Document):
                yield item
            else:
                named.append(item)
            bar.update()


def _whole(document: Document) -> Passage:
    end = len(document.text)
    spans = sentences(document.text, document.language) or [Span(0, end)]
    return Passage(document, 0, end, tuple(spans))


def _what(vectors: NDArray[Any]) -> str:
    finite = vectors.dtype.kind == "f" and np.isfinite(vectors).all()
    return f"an array of shape {vectors.shape}" if finite else "what is no finite number"


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The rows of the ``k`` highest scores over 0, in order of the rows."""
    bar, rows = float(scores.max(initial=0)), np.zeros(0, np.int64)
    for _ in range(4):  # as a rule few are near the best
        bar /= 2
        if len(rows := np.flatnonzero(scores > bar)) >= k:
            break
    else:
        rows = np.flatnonzero(scores > 0)
    return np.sort(rows[np.argpartition(-scores[rows], k - 1)[:k]]) if k < len(rows) else rows


def check_empty(folder: Path) -> None:
    """Raise InputError where an index was and its file is gone."""
    if (read_count(folder) or ("", 0))[1]:
        raise InputError(
            f"{folder / FILE} is gone, of an index that was here: bring it back, or remove"
            f" {folder} and make a new one"
        )


def check_question(question: str) -> str:
    """The question on one line, in canonical form.

    Raises:
        InputError: it is empty or longer than QUESTION_LIMIT.
    """
    text = " ".join(canonical(question).split())
    if not any(c.isalnum() for c in text):
        raise InputError("the question is empty: ask something")
    if len(text) > QUESTION_LIMIT:
        raise InputError(
            f"the question has {len(text):,} characters; {QUESTION_LIMIT:,} is the most"
        )
    return text

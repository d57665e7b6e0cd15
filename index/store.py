"""PassageIndex: documents in, passages found. The one owner of the state, wherever it is.

A file (index/database.py) or a server (index/served.py) holds the documents, each text once,
the spans of their passages, and all vectors; which it is, is the address's to say
(index/place.py). A question sees one state from beginning to end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import length_hint
from pathlib import Path
from typing import Any, Self

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from index import manifest
from index.database import FILE
from index.embed import BUNDLED_NAME, Encoder, SentenceTransformerEncoder
from index.errors import InputError, ModelError
from index.filters import check_filter
from index.fuse import fuse, ranks
from index.language import detect_language
from index.load import has_changed, load_all
from index.local import Local
from index.place import Place, Snapshot, View, place_of
from index.progress import progress_bar
from index.records import Record, text_hash
from index.split import passages as split
from index.split import sentences
from index.text import canonical
from index.types import Document, Hit, Passage, Span
from index.vectors import Encoding, unit

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

    ``path`` is a folder for an index on disk, or the address of a server (see index.place);
    None keeps everything in memory. Threads and processes may share it: one at a time changes
    it, the others read what was there before.

    Raises:
        InputError: the folder holds something else, or is damaged; the server says no.
        ModelError: the index was made with another encoder.
    """

    def __init__(self, path: str | Path | None = None, *, encoder: Encoder | None = None) -> None:
        self._place: Place = place_of(path)
        self.path = self._place.path
        self.encoder: Encoder = encoder if encoder is not None else SentenceTransformerEncoder()
        self._lock = threading.RLock()
        self._encodings: LRUCache[str, Encoding] = LRUCache(maxsize=256)
        self._incarnation = ""
        """Of the state that was looked at last."""
        self._compared: dict[str, str] | None = None
        """The manifest that the encoder was held against."""
        if not self._place.exists():
            self._place.check_empty()
            self._place.create(manifest.describe(self.encoder))
        self._manifest = self._place.open()
        if self.path is not None:
            manifest.check_name(self._manifest, self.encoder, self.path)

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether there is an index in the folder ``path``, or at that address."""
        return place_of(path).exists()

    @classmethod
    def open(cls, path: str | Path, *, model: str | None = None, create: bool = False) -> Self:
        """Open an index with ``model``, or else with the encoder it was made with.

        The encoder is loaded when it is first needed. ``create`` makes an index where there
        is none.

        Raises:
            InputError: there is no index, or it is damaged.
            ModelError: the index was made with another encoder.
        """
        place = place_of(path)
        if not place.exists():
            if create:
                return cls(path, encoder=SentenceTransformerEncoder(model))
            raise missing(place)
        held = place.open()
        place.close()
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

    def _meet(self, snapshot: Snapshot) -> int:
        """Look at a state that is about to be read: the dimension of its vectors.

        The index may have been made anew, with another encoder, since it was opened.
        """
        if self.path is None:
            return self.encoder.dimension
        if (incarnation := snapshot.state().incarnation) != self._incarnation:
            if (held := snapshot.manifest()) != self._manifest:
                with self._lock:
                    self._manifest = held
                self.check_encoder()
            self._incarnation = incarnation
        return self._dimension

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
        before_write: Callable[[], None] = lambda: None,
    ) -> list[Document]:
        """Load, split and embed documents; those already there unchanged are left alone.

        A file that was added before and has changed replaces what it was; another file of
        the same name is given a longer source (see index.load), but one with the same text
        is the same document. A ``Document`` replaces the one of the same source. Returns
        the documents that are there now.

        They are written in batches, each whole or not at all: after an interruption, the
        same call goes on where it stopped. What ``before_write`` raises, once a batch is
        embedded, leaves it out and ends the call.

        Raises:
            InputError: a path cannot be read, or holds nothing to read. The others have
                been added; if several cannot, ``on_skip`` is told of all but the last.
        """
        items = [paths] if isinstance(paths, str | Path | Document) else paths
        return list(self.adding(items, urls=urls, on_skip=on_skip, before_write=before_write))

    def adding(
        self,
        paths: Iterable[str | Path | Document],
        *,
        urls: bool = False,
        on_skip: Callable[[str], None] = lambda line: None,
        before_write: Callable[[], None] = lambda: None,
    ) -> Iterator[Document]:
        """``add``, giving each document when it is there: all of them need not fit in memory."""
        bad: list[str] = []
        with self._place.exclusive():
            shelf = _Shelf(self._place, on_skip)
            named: list[str | Path] = []
            given = chain(
                _documents(paths, named),
                load_all(named, on_skip=on_skip, on_bad=bad.append, urls=urls, shelf=shelf),
            )
            yield from self._add(given, shelf, before_write)
            self._place.gather(self._meet)
        for line in bad[:-1]:
            on_skip(line)
        if bad:
            raise InputError(bad[-1])

    def _add(
        self, given: Iterable[Document], shelf: _Shelf, before_write: Callable[[], None]
    ) -> Iterator[Document]:
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
                self._write(batch, before_write)
                shelf.expected.clear()
                yield from met
                batch, met, texts = [], [], 0
        self._write(batch, before_write)
        yield from met

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

    def _write(
        self,
        batch: Sequence[tuple[Document, Sequence[Passage]]],
        before_write: Callable[[], None],
    ) -> None:
        if not batch:
            return
        passages = [passage for _, parts in batch for passage in parts]
        spans = [(p.document.text, span) for p in passages for span in p.sentences]
        inner = [text[span.start : span.end] for text, span in spans]
        unique = list(dict.fromkeys([passage.text for passage in passages] + inner))
        vectors = self._embed(unique)
        row = {text: i for i, text in enumerate(unique)}
        before_write()
        with self._place.writing() as writer:
            self._meet(writer)
            for document, parts in batch:
                own = [row[passage.text] for passage in parts]
                below = [
                    [row[document.text[s.start : s.end]] for s in passage.sentences]
                    for passage in parts
                ]
                writer.put(document, parts, vectors[own], [vectors[rows] for rows in below])

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """Raises ModelError where what the encoder gives is no vectors."""
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            vectors = np.asarray(self.encoder.passages(texts, progress="embedding"), np.float32)
        if vectors.shape != (len(texts), self._dimension) or not np.isfinite(vectors).all():
            raise ModelError(
                "the encoder {!r} gave {} for {} texts, not vectors of {} numbers: nothing was"
                " added",
                self.encoder.name,
                _what(vectors),
                len(texts),
                self._dimension,
            )
        return unit(vectors).astype(np.float16)

    def remove(self, *documents: str, missing_ok: bool = False) -> list[str]:
        """Remove documents by their ids or sources, all or none; returns their sources.

        Raises:
            InputError: one of them is not there, and ``missing_ok`` is not set.
            DamageError: nor is everything there that was added.
        """
        gone: dict[str, str] = {}
        with self._place.exclusive(), self._place.writing() as writer:
            for document in documents:
                found = list(writer.find(key=document)) or list(writer.find(source=document))
                for record in found:
                    writer.remove(record)
                    gone |= {record.key: record.source, record.source: record.source}
                if not (found or missing_ok or document in gone):  # it may be named twice
                    deque(writer.find(), 0)  # is it there no more?
                    raise InputError("no document {!r} in this index", document)
        return list(dict.fromkeys(gone.values()))

    def fork(self) -> Self:
        """A copy in memory that shares the encoder; changing it leaves this one alone."""
        self.check_encoder()
        copy = type(self)(encoder=self.encoder)
        copy._place = Local.copy(self.view)
        return copy

    def close(self) -> None:
        self._place.close()

    # --- searching ---

    @property
    def view(self) -> View:
        """The present state; hold on to it for the whole of a question."""
        return self._place.view(self._meet)

    @property
    def documents(self) -> Sequence[Document]:
        """All documents in the order they were added, each read when it is asked for."""
        return self._place.documents(self._place.snapshot())

    @property
    def records(self) -> Iterator[Record]:
        """What is known of all documents, in the same order, without reading their texts."""
        return self._place.snapshot().find()

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
        found = view.words(text, spoken)
        (encoding,) = self.encoder.encode([text], question=True)
        vector = encoding.vector
        if not self._is_vector(vector):
            raise ModelError(
                "the encoder {!r} gave {} for the question, not a vector of {} numbers",
                self.encoder.name,
                _what(vector),
                self._dimension,
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
        ``where`` see index.filters.
        """
        check_count(k)
        check_filter(where)
        view = view or self.view
        query = question if isinstance(question, Query) else self.query(question, view)
        if where:
            view = view.only(where)
        if k < 1:
            return []
        vector = query.encoding.vector
        if not self._is_vector(vector):
            raise InputError(
                "a question's vector is {} finite numbers, not {}", self._dimension, _what(vector)
            )
        found = view.candidates(vector, query.words, max(POOL, k))
        channels = {"dense": found.own, "sentence": found.inner, "lexical": found.lexical}
        if (known := self.encoder.languages) is not None:
            # Of another language its vectors say nothing; what they say of the others must not
            # come before the words of a question in it.
            of = np.isin(found.languages, sorted(known)) & (query.spoken in known)
            channels |= {"dense": found.own * of, "sentence": found.inner * of}
        score = fuse(channels)
        rank = {name: ranks(values) for name, values in channels.items()}
        hits = []
        best = np.argsort(-score, kind="stable")[:k]
        for i, passage in zip(best, view.read(found.rows[best].tolist()), strict=True):
            places = {name: int(order[i]) for name, order in rank.items()}
            shares = {name: float(values[i]) for name, values in channels.items()}
            nearest = self._nearest(view, passage, query)
            hits.append(Hit(passage, float(score[i]), places, nearest, shares))
        return hits

    def _is_vector(self, vector: NDArray[np.float32]) -> bool:
        return vector.shape == (self._dimension,) and bool(np.isfinite(vector).all())

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
        rows = view.holding(view.words(text, language), k)
        return list(dict.fromkeys(passage.document for passage in view.read(rows)))

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

    def __init__(self, place: Place, on_skip: Callable[[str], None]) -> None:
        self._place = place
        self._on_skip = on_skip
        self.expected: dict[str, Document] = {}
        """By the hash of their text, the files that are about to be written."""
        self._met: set[tuple[str, str]] = set()
        """What this call found at web addresses: each with the hash of its text."""

    def source_of(self, path: str) -> str | None:
        """The source of the document that was read from a file."""
        return next((one.source for one in self._place.snapshot().find(path=path)), None)

    def has(self, source: str) -> bool:
        return any(True for _ in self._place.snapshot().find(source=source))

    def unchanged(self, path: str, raw: str) -> Document | None:
        """The document that was read from a file, if its bytes are still the same."""
        snapshot = self._place.snapshot()
        for record in snapshot.find(path=path, raw=raw):
            return snapshot.document(record)
        return None

    def find(self, document: Document) -> Document | None:
        """The one that is there for a document, with the same text and all else."""
        snapshot = self._place.snapshot()
        digest = text_hash(document.text)
        if document.path and not document.raw:
            self._met.add((document.path, digest))
        for record in snapshot.find(key=document.id):
            return document if record.describes(document) else None
        if not document.path or self.has(document.source):
            return None
        twin = self.expected.get(digest)
        for record in snapshot.find(hash=digest):
            if twin is None and self._stays(record):
                twin = snapshot.document(record)
        if twin is not None:
            self._on_skip(f"{document.path} is word for word {twin.source}: one document")
        return twin

    def _stays(self, record: Record) -> bool:
        """Whether a document is not about to be replaced by what is now where it was read."""
        if not record.raw:  # a web address tells only once it has been read
            return (record.path, record.hash) in self._met
        return bool(record.path) and not has_changed(record.path, record.raw)

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


def missing(place: Place) -> InputError:
    """Raises another one where an index was, and is gone."""
    place.check_empty()
    path = place.path
    return InputError("no index in {}: make one with  beleg add PATH --index {}", path, path)


def check_count(k: object) -> None:
    """Raise InputError where it is no number of passages."""
    if not isinstance(k, int | np.integer):
        raise InputError("how many passages is a whole number, not {!r}", k)


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
            "the question has {:,} characters; {:,} is the most", len(text), QUESTION_LIMIT
        )
    return text

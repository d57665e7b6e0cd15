"""PassageIndex: documents in, passages found. The one owner of the on-disk state.

One SQLite file (or one in memory) holds the documents, each text once, the spans of
their passages, and all vectors. FAISS and the keyword index are made from it whenever
documents change. A search sees one immutable view for the whole of a question.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from cachetools import LRUCache

from index.dense import DenseIndex
from index.embed import BUNDLED, Encoder, Encoding, FloatMatrix, SentenceTransformerEncoder
from index.errors import InputError, ModelError
from index.fuse import fuse, ranks
from index.language import detect_language
from index.lexical import Compounds, KeywordIndex, question_words, terms, words
from index.load import load_all
from index.split import passages as split
from index.types import Document, Hit, Passage, Span

SCHEMA = 1
FILE = "beleg.sqlite"
POOL = 50
"""Candidates that each channel may put forward."""
QUESTION_LIMIT = 2_000
"""The longest question, in characters."""

_TABLES = """
CREATE TABLE IF NOT EXISTS manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
  id TEXT PRIMARY KEY, source TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
  language TEXT NOT NULL, pages TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS passages (
  id INTEGER PRIMARY KEY, document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
  start INTEGER NOT NULL, end INTEGER NOT NULL, sentences TEXT NOT NULL,
  vector BLOB NOT NULL, sentence_vectors BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS passages_document ON passages(document);
"""


@dataclass(frozen=True)
class Query:
    """A question as the index sees it: its language, vectors, and words to look up."""

    text: str
    language: str
    encoding: Encoding
    words: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class View:
    """One state of the index, made for searching; never changed."""

    documents: tuple[Document, ...]
    passages: tuple[Passage, ...]
    dense: DenseIndex
    sentences: DenseIndex
    first_sentence: tuple[int, ...]
    """Row of each passage's first sentence vector; one more entry ends the last."""

    @cached_property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted({document.language for document in self.documents}))

    @cached_property
    def compounds(self) -> Compounds:
        texts = (document.text for document in self.documents)
        return Compounds({word for text in texts for word in words(text) if len(word) >= 4})

    @cached_property
    def keywords(self) -> KeywordIndex:
        return KeywordIndex([self.terms(passage.text, passage) for passage in self.passages])

    def terms(self, text: str, passage: Passage) -> list[str]:
        """The index terms of a text that stands in ``passage``."""
        return terms(text, passage.document.language, self.compounds)


class PassageIndex:
    """Documents, split into passages and embedded, to be searched.

    ``path`` is a folder for an index on disk; None keeps everything in memory.

    Raises:
        InputError: the folder holds something else.
        ModelError: the index was made with another encoder.
    """

    def __init__(self, path: str | Path | None = None, *, encoder: Encoder | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self._lock = threading.RLock()
        self._db = self._connect()
        self.encoder: Encoder = encoder if encoder is not None else SentenceTransformerEncoder()
        self._encodings: LRUCache[str, Encoding] = LRUCache(maxsize=256)
        with self._lock, self._db:
            self._db.executescript(_TABLES)
            self._check_manifest()
        self._view = self._read()

    @classmethod
    def open(cls, path: str | Path, *, model: str | None = None) -> Self:
        """Open an index folder with ``model``, or else with the encoder it was made with.

        Raises:
            InputError: there is no index.
            ModelError: the index was made with another encoder.
        """
        file = Path(path) / FILE
        if not file.is_file():
            raise InputError(f"no index in {path}: make one with  beleg add PATH --index {path}")
        with closing(sqlite3.connect(file)) as db:
            try:
                row = db.execute("SELECT value FROM manifest WHERE key = 'encoder'").fetchone()
            except sqlite3.DatabaseError as error:
                raise InputError(f"{file} is not an index: {error}") from error
        name = model or (row[0] if row and row[0] != BUNDLED.name else None)
        return cls(path, encoder=SentenceTransformerEncoder(name))

    def _connect(self) -> sqlite3.Connection:
        if self.path is None:
            return sqlite3.connect(":memory:", check_same_thread=False)
        file = self.path / FILE
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(file, check_same_thread=False, timeout=30)
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("SELECT count(*) FROM sqlite_master")
        except (OSError, sqlite3.DatabaseError) as error:
            raise InputError(f"cannot use {self.path} as an index: {error}") from error
        return db

    def _check_manifest(self) -> None:
        wanted = {
            "schema": str(SCHEMA),
            "encoder": self.encoder.name,
            "dimension": str(self.encoder.dimension),
        }
        held = dict(self._db.execute("SELECT key, value FROM manifest"))
        if not held:
            self._db.executemany("INSERT INTO manifest VALUES (?, ?)", wanted.items())
        for key, value in wanted.items():
            if held.get(key, value) != value:
                raise ModelError(
                    f"this index has {key} {held[key]!r}, not {value!r}:"
                    " name its own with --model, or make a new index"
                )

    # --- changing ---

    def add(
        self,
        paths: Iterable[str | Path | Document],
        *,
        urls: bool = False,
        on_skip: Callable[[str], None] = lambda line: None,
    ) -> list[Document]:
        """Load, split and embed documents; those already there unchanged are left alone.

        A document of the same source but other text replaces the old one. Returns the
        documents read.

        Raises:
            InputError: a path cannot be read, or holds nothing to read.
        """
        paths = list(paths)
        given = [item for item in paths if isinstance(item, Document)]
        named = [item for item in paths if not isinstance(item, Document)]
        if named:
            given += load_all(named, on_skip=on_skip, urls=urls)
        with self._lock:
            held = {row[0] for row in self._db.execute("SELECT id FROM documents")}
            fresh = {document.id: document for document in given if document.id not in held}
            if fresh:
                self._embed(list(fresh.values()))
                self._view = self._read()
        return given

    def _embed(self, documents: Sequence[Document]) -> None:
        found: list[tuple[Document, list[Passage]]] = []
        for document in documents:
            window = self.encoder.window - 2  # the model adds two special tokens
            count = self.encoder.count_tokens
            found.append((document, split(document, window=window, count_tokens=count)))
        passages = [passage for _, parts in found for passage in parts]
        sentences = [
            passage.document.text[span.start : span.end]
            for passage in passages
            for span in passage.sentences
        ]
        unique = list(dict.fromkeys([passage.text for passage in passages] + sentences))
        vectors = self.encoder.passages(unique, progress="embedding")
        row = {text: i for i, text in enumerate(unique)}
        with self._db:
            for document, parts in found:
                self._db.execute("DELETE FROM documents WHERE source = ?", (document.source,))
                self._db.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        document.id,
                        document.source,
                        document.title,
                        document.language,
                        json.dumps(document.pages),
                        document.text,
                    ),
                )
                for passage in parts:
                    spans = [(span.start, span.end) for span in passage.sentences]
                    inner = [row[document.text[start:end]] for start, end in spans]
                    self._db.execute(
                        "INSERT INTO passages (document, start, end, sentences, vector,"
                        " sentence_vectors) VALUES (?, ?, ?, ?, ?, ?)",
                        (
                            document.id,
                            passage.start,
                            passage.end,
                            json.dumps(spans),
                            vectors[row[passage.text]].tobytes(),
                            vectors[inner].tobytes(),
                        ),
                    )

    def remove(self, document: str) -> None:
        """Remove a document by its id or source. Raises InputError if it is not there."""
        with self._lock:
            with self._db:
                gone = self._db.execute(
                    "DELETE FROM documents WHERE id = ?1 OR source = ?1", (document,)
                )
            if not gone.rowcount:
                raise InputError(f"no document {document!r} in this index")
            self._view = self._read()

    def fork(self) -> Self:
        """A copy in memory that shares the encoder; changing it leaves this one alone."""
        copy = type(self)(encoder=self.encoder)
        with self._lock:
            self._db.backup(copy._db)
        copy._db.execute("PRAGMA foreign_keys = ON")
        copy._view = self._view
        return copy

    def close(self) -> None:
        self._db.close()

    def _read(self) -> View:
        """Everything from SQLite, made searchable."""
        size = self.encoder.dimension
        documents = {
            key: Document(text, source, title, language, tuple(json.loads(pages)))
            for key, source, title, language, pages, text in self._db.execute(
                "SELECT id, source, title, language, pages, text FROM documents ORDER BY rowid"
            )
        }
        passages: list[Passage] = []
        vectors: list[FloatMatrix] = []
        inner: list[FloatMatrix] = []
        first = [0]
        for key, start, end, spans, vector, sentence_vectors in self._db.execute(
            "SELECT document, start, end, sentences, vector, sentence_vectors FROM passages"
            " ORDER BY id"
        ):
            parts = tuple(Span(a, b) for a, b in json.loads(spans))
            passages.append(Passage(documents[key], start, end, parts))
            vectors.append(np.frombuffer(vector, np.float32).reshape(1, size))
            inner.append(np.frombuffer(sentence_vectors, np.float32).reshape(-1, size))
            first.append(first[-1] + len(parts))
        empty = [np.zeros((0, size), np.float32)]
        return View(
            documents=tuple(documents.values()),
            passages=tuple(passages),
            dense=DenseIndex(np.concatenate(vectors or empty)),
            sentences=DenseIndex(np.concatenate(inner or empty)),
            first_sentence=tuple(first),
        )

    # --- searching ---

    @property
    def view(self) -> View:
        """The present state; hold on to it for the whole of a question."""
        return self._view

    @property
    def documents(self) -> tuple[Document, ...]:
        return self._view.documents

    def query(self, question: str, view: View | None = None) -> Query:
        """A question's language, vectors and words.

        Raises:
            InputError: the question is empty or longer than QUESTION_LIMIT.
        """
        text = " ".join(question.split())
        if not any(c.isalnum() for c in text):
            raise InputError("the question is empty: ask something")
        if len(text) > QUESTION_LIMIT:
            raise InputError(
                f"the question has {len(text):,} characters; {QUESTION_LIMIT:,} is the most"
            )
        view = view or self._view
        language = detect_language(text, among=("de", "en"))
        found = question_words(text, language, view.languages, self.encoder, view.compounds)
        (encoding,) = self.encoder.encode([text], question=True)
        return Query(text, language, encoding, tuple(found))

    def search(self, question: str | Query, k: int = 10, *, view: View | None = None) -> list[Hit]:
        """The ``k`` best passages, best first.

        A passage's score is the sum of its own cosine with the question, that of its
        best sentence, and its share of the question's BM25 (see fuse.WEIGHTS).
        """
        view = view or self._view
        query = question if isinstance(question, Query) else self.query(question, view)
        vector = query.encoding.vector
        if not view.passages or k < 1:
            return []
        lexical = view.keywords.scores(query.words)
        first = np.asarray(view.first_sentence)
        pool = set(view.dense.search(vector, POOL)[0].tolist())
        rows = view.sentences.search(vector, 2 * POOL)[0]
        pool.update((np.searchsorted(first, rows, side="right") - 1).tolist())
        pool.update(np.argsort(-lexical, kind="stable")[:POOL].tolist())
        rows = np.asarray(sorted(pool), np.int64)
        channels = {
            "dense": view.dense.vectors[rows] @ vector,
            "sentence": np.asarray(
                [(view.sentences.vectors[first[i] : first[i + 1]] @ vector).max() for i in rows],
                np.float32,
            ),
            "lexical": lexical[rows],
        }
        if (known := self.encoder.languages) is not None:
            of = [view.passages[row].document.language in known for row in rows]
            for name in ("dense", "sentence"):
                channels[name] = channels[name] * np.asarray(of, np.float32)
        score = fuse(channels)
        rank = {name: ranks(values) for name, values in channels.items()}
        best = np.argsort(-score, kind="stable")[:k]
        return [
            Hit(
                view.passages[rows[i]],
                float(score[i]),
                {name: int(order[i]) for name, order in rank.items()},
            )
            for i in best
        ]

    def encodings(self, passages: Sequence[Passage]) -> list[Encoding]:
        """The token vectors of passages; the latest 256 are kept."""
        texts = [passage.text for passage in passages]
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._encodings]
            fresh = dict(zip(missing, self.encoder.encode(missing), strict=True))
            known = {text: self._encodings[text] for text in texts if text not in fresh}
            self._encodings.update(fresh)
        return [known[text] if text in known else fresh[text] for text in texts]

    def as_retriever(self, k: int = 5) -> Any:
        """This index as a LangChain retriever."""
        from index.langchain import PassageRetriever

        return PassageRetriever(index=self, k=k)

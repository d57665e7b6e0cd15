"""PassageIndex: documents in, passages found. The one owner of the on-disk state.

One SQLite file (or one in memory) holds the documents, each text once, the spans of
their passages, and all vectors. FAISS and the keyword index are made from it whenever
documents change. A search sees one immutable view for the whole of a question.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from cachetools import LRUCache

from index.dense import DenseIndex
from index.embed import BUNDLED_NAME, Encoder, SentenceTransformerEncoder
from index.errors import InputError, ModelError
from index.fuse import fuse, ranks
from index.language import detect_language
from index.lexical import Compounds, KeywordIndex, question_words, terms, words
from index.load import load_all
from index.progress import progress_bar
from index.split import passages as split
from index.text import canonical
from index.types import Document, Hit, Passage, Span
from index.vectors import Encoding, FloatMatrix

SCHEMA = 2
FILE = "beleg.sqlite"
POOL = 50
"""Candidates that each channel may put forward."""
WINDOW = 256
"""The most tokens of a passage, whatever more the encoder could take in."""
QUESTION_LIMIT = 2_000
"""The longest question, in characters."""

_TABLES = """
CREATE TABLE IF NOT EXISTS manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
  id TEXT PRIMARY KEY, source TEXT NOT NULL UNIQUE, path TEXT NOT NULL, title TEXT NOT NULL,
  language TEXT NOT NULL, pages TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS passages (
  id INTEGER PRIMARY KEY, document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
  start INTEGER NOT NULL, end INTEGER NOT NULL, sentences TEXT NOT NULL,
  vector BLOB NOT NULL, sentence_vectors BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS passages_document ON passages(document);
"""


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
        """The languages of the documents, as ISO 639-1 codes."""
        return tuple(sorted({document.language for document in self.documents}))

    @cached_property
    def compounds(self) -> Compounds:
        """Splits compounds into words of the documents."""
        texts = (document.text for document in self.documents)
        return Compounds({word for text in texts for word in words(text) if len(word) >= 4})

    @cached_property
    def keywords(self) -> KeywordIndex:
        """Keyword search over the passages."""
        return KeywordIndex([self.terms(passage.text, passage) for passage in self.passages])

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {id(passage): row for row, passage in enumerate(self.passages)}

    def sentence_vectors(self, passage: Passage) -> FloatMatrix:
        """Unit vectors of the sentences of one of this view's passages."""
        row = self._rows[id(passage)]
        return self.sentences.vectors[self.first_sentence[row] : self.first_sentence[row + 1]]

    def before(self, passage: Passage) -> Span | None:
        """The sentence that stands before a passage in its document."""
        row = self._rows[id(passage)] - 1
        if row < 0 or self.passages[row].document is not passage.document:
            return None
        ended = [span for span in self.passages[row].sentences if span.end <= passage.start]
        return ended[-1] if ended else None

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
        with self._told():
            self._db.executescript(_TABLES)
            self._dimension = self._check_manifest()
        self._refresh()

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
            InputError: there is no index.
            ModelError: the index was made with another encoder.
        """
        file = Path(path) / FILE
        if not cls.exists(path):
            if create:
                encoder = SentenceTransformerEncoder(model)
                _ = encoder.dimension  # loaded first: a wrong name must leave no empty index
                return cls(path, encoder=encoder)
            raise InputError(f"no index in {path}: make one with  beleg add PATH --index {path}")
        try:
            with closing(sqlite3.connect(file)) as db:
                row = db.execute("SELECT value FROM manifest WHERE key = 'encoder'").fetchone()
        except sqlite3.Error as error:
            raise InputError(f"{file} is not an index, or cannot be read: {error}") from error
        name = model or (row[0] if row and row[0] != BUNDLED_NAME else None)
        return cls(path, encoder=SentenceTransformerEncoder(name))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """One transaction; what SQLite complains of becomes an InputError."""
        try:
            with self._lock, self._db:
                yield
        except sqlite3.Error as error:
            raise InputError(f"the index in {self.path or 'memory'}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        try:
            if self.path is not None:
                self.path.mkdir(parents=True, exist_ok=True)
            file = self.path / FILE if self.path is not None else ":memory:"
            db = sqlite3.connect(file, check_same_thread=False, timeout=30)
            db.execute("PRAGMA foreign_keys = ON")  # removing a document removes its passages
            db.execute("SELECT count(*) FROM sqlite_master")
        except (OSError, sqlite3.DatabaseError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot use {self.path} as an index: {reason}") from error
        return db

    def _check_manifest(self) -> int:
        """The dimension of the vectors here; a new index is given its manifest."""
        query = "SELECT key, value FROM manifest"
        if not self._db.execute(query).fetchall():
            made = {
                "schema": str(SCHEMA),
                "encoder": self.encoder.name,
                "dimension": str(self.encoder.dimension),
            }
            # Another process may be as far as we are.
            self._db.executemany("INSERT OR IGNORE INTO manifest VALUES (?, ?)", made.items())
        held = dict(self._db.execute(query))
        if held["schema"] != str(SCHEMA):
            raise InputError(
                f"the index in {self.path} is of version {held['schema']}, this Beleg writes"
                f" {SCHEMA}: make a new one"
            )
        if held["encoder"] != self.encoder.name:
            raise ModelError(
                f"the index was made with the encoder {held['encoder']!r}, not"
                f" {self.encoder.name!r}: name its own with --model, or make a new index"
            )
        return int(held["dimension"])

    def check_encoder(self) -> None:
        """Load the encoder now, not at the first question.

        Raises:
            ModelError: it cannot be loaded, or its vectors are not those of the index.
        """
        if self.encoder.dimension != self._dimension:
            raise ModelError(
                f"the encoder {self.encoder.name!r} gives vectors of {self.encoder.dimension}"
                f" numbers, the index has {self._dimension}: make a new index"
            )

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
        the same name is given a longer source (see index.load). A ``Document`` replaces the
        one of the same source. Returns the documents read.

        Raises:
            InputError: a path cannot be read, or holds nothing to read.
        """
        items = [paths] if isinstance(paths, str | Path | Document) else list(paths)
        given = [item for item in items if isinstance(item, Document)]
        named = [item for item in items if not isinstance(item, Document)]
        with self._told():
            taken = dict(self._db.execute("SELECT source, path FROM documents").fetchall())
        if named:
            given += load_all(named, on_skip=on_skip, urls=urls, taken=taken)
        self.check_encoder()
        with self._told():
            held = {row[0] for row in self._db.execute("SELECT id FROM documents")}
            fresh = {document.id: document for document in given if document.id not in held}
            if fresh:
                self._embed(list(fresh.values()))
        if fresh:
            self._refresh()
        return given

    def _embed(self, documents: Sequence[Document]) -> None:
        window = min(self.encoder.window, WINDOW)
        count = self.encoder.count_tokens
        found = []
        with progress_bar("splitting", len(documents), unit="file") as bar:
            for document in documents:
                found.append((document, split(document, window=window, count_tokens=count)))
                bar.update()
        passages = [passage for _, parts in found for passage in parts]
        sentences = [
            passage.document.text[span.start : span.end]
            for passage in passages
            for span in passage.sentences
        ]
        unique = list(dict.fromkeys([passage.text for passage in passages] + sentences))
        vectors = self.encoder.passages(unique, progress="embedding")
        row = {text: i for i, text in enumerate(unique)}
        for document, parts in found:
            self._db.execute("DELETE FROM documents WHERE source = ?", (document.source,))
            self._db.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    document.id,
                    document.source,
                    document.path,
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

    def remove(self, *documents: str) -> list[str]:
        """Remove documents by their ids or sources, all or none; returns their sources.

        Raises:
            InputError: one of them is not there.
        """
        gone: dict[str, str] = {}
        with self._told():
            for document in documents:
                rows = self._db.execute(
                    "DELETE FROM documents WHERE id = ?1 OR source = ?1 RETURNING id, source",
                    (document,),
                ).fetchall()
                gone |= dict(rows)
                if not rows and document not in (*gone, *gone.values()):  # named twice
                    raise InputError(f"no document {document!r} in this index")
        self._refresh()
        return list(gone.values())

    def fork(self) -> Self:
        """A copy in memory that shares the encoder; changing it leaves this one alone."""
        copy = type(self)(encoder=self.encoder)
        with self._told():
            self._db.backup(copy._db)
            copy._view = self._view
        return copy

    def close(self) -> None:
        """Close the file; the index cannot be changed from then on."""
        self._db.close()

    def _refresh(self) -> None:
        """Show what was committed."""
        with self._told():
            self._db.execute("BEGIN")  # all of it must be of one state
            self._view = self._read()

    def _read(self) -> View:
        """Everything from SQLite, made searchable."""
        size = self._dimension
        documents = {
            key: Document(text, source, title, language, tuple(json.loads(pages)), path)
            for key, source, path, title, language, pages, text in self._db.execute(
                "SELECT id, source, path, title, language, pages, text FROM documents"
                " ORDER BY rowid"
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
        text = check_question(question)
        view = view or self._view
        language = detect_language(text, among=("de", "en"))
        spoken = detect_language(text) if language == "en" else language
        spoken = language if spoken in ("de", "en") else spoken
        found = question_words(text, spoken, view.languages, view.compounds)
        (encoding,) = self.encoder.encode([text], question=True)
        return Query(text, language, spoken, encoding, tuple(found))

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
            # Of another language its vectors say nothing; what they say of the others must not
            # come before the words of a question in it.
            of = [
                query.spoken in known and view.passages[row].document.language in known
                for row in rows
            ]
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
                self._nearest(view, view.passages[rows[i]], query),
            )
            for i in best
        ]

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

"""The edge to LangChain: the index as a retriever and a vector store, the encoder as embeddings.

A text that a program adds here is one passage, as LangChain's programs split by themselves;
what is over the encoder's window counts for keywords only. Files, added otherwise, are found
by their passages.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from pydantic import Field

from index.embed import FOREIGN, Encoder, SentenceTransformerEncoder
from index.errors import InputError
from index.fuse import WEIGHTS
from index.language import detect_language
from index.store import PassageIndex, Query, View, check_count
from index.types import Document, Passage
from index.vectors import Encoding, FloatMatrix, unit

Filter = Mapping[str, Any]
"""What metadata must say: see index.filters. A document's own fields count as metadata."""


def as_document(passage: Passage) -> LangChainDocument:
    """A passage for LangChain: a text that was added whole just as it was, one of a file with
    its place there."""
    held = passage.document
    if held.whole:
        return _as_added(held)
    place = {
        "document": held.id,
        "source": held.source,
        "title": held.title,
        "language": held.language,
        "page": held.page_at(passage.start),
        "start": passage.start,
        "end": passage.end,
    }
    return LangChainDocument(
        id=f"{held.id}:{passage.start}-{passage.end}",
        page_content=passage.text,
        metadata={**held.metadata, **place},
    )


def _as_added(document: Document) -> LangChainDocument:
    return LangChainDocument(
        id=document.source, page_content=document.text, metadata=dict(document.metadata)
    )


class PassageRetriever(BaseRetriever):
    """Returns the ``k`` best passages, with their offsets and score as metadata.

    A ``score`` that a text's own metadata has stays.
    ``where`` confines it to some documents. Both may be given with a question, too.
    """

    index: Any
    k: int = 5
    where: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: Filter | None = None,
    ) -> list[LangChainDocument]:
        return self._find(query, k, where)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        where: Filter | None = None,
    ) -> list[LangChainDocument]:
        return await run_in_executor(None, self._find, query, k, where)

    def _find(self, query: str, k: int | None, where: Filter | None) -> list[LangChainDocument]:
        hits = self.index.search(
            query, self.k if k is None else k, where=self.where if where is None else where
        )
        documents = [as_document(hit.passage) for hit in hits]
        for document, hit in zip(documents, hits, strict=True):
            document.metadata.setdefault("score", hit.score)
        return documents


class EncoderEmbeddings(Embeddings):
    """Beleg's encoder as LangChain's embeddings; ``model`` as for PassageIndex.open."""

    def __init__(self, model: str | None = None, *, encoder: Encoder | None = None) -> None:
        self.encoder: Encoder = encoder or SentenceTransformerEncoder(model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector.tolist() for vector in self.encoder.passages(texts)]

    def embed_query(self, text: str) -> list[float]:
        found: list[float] = self.encoder.questions([text])[0].tolist()
        return found


class EmbeddingsEncoder:
    """LangChain's embeddings as an encoder: vectors of texts, without vectors of tokens.

    ``name`` is that under which an index on disk knows it.
    """

    window = 254
    languages = None
    reader = None
    weights = ""
    fingerprint = ""

    def __init__(self, embeddings: Embeddings, name: str | None = None) -> None:
        self.embeddings = embeddings
        self.name = name or f"{FOREIGN}{type(embeddings).__name__}"
        self.prompts: Mapping[str, str] = {}
        self._dimension = 0

    @property
    def dimension(self) -> int:
        self._dimension = self._dimension or len(self.embeddings.embed_query("dimension"))
        return self._dimension

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """A guess: who embeds does not tell."""
        return [len(text) // 4 + 1 for text in texts]

    def passages(self, texts: Sequence[str], *, progress: str = "") -> FloatMatrix:
        return unit(np.asarray(self.embeddings.embed_documents(list(texts)), np.float32))

    def questions(self, texts: Sequence[str]) -> FloatMatrix:
        return unit(np.asarray([self.embeddings.embed_query(t) for t in texts], np.float32))

    def encode(self, texts: Sequence[str], *, question: bool = False) -> list[Encoding]:
        vectors = self.questions(texts) if question else self.passages(texts)
        nothing = np.zeros((0, vectors.shape[-1]), np.float32)
        return [Encoding(vector, nothing, np.zeros((0, 2), np.int64)) for vector in vectors]


class PassageStore(VectorStore):
    """A PassageIndex as LangChain's vector store; searching is hybrid, as it always is here.

    Scores are higher for better matches. ``filter`` is a mapping as in index.filters.
    """

    def __init__(self, index: PassageIndex) -> None:
        self.index = index

    @property
    def embeddings(self) -> Embeddings:
        encoder = self.index.encoder
        if isinstance(encoder, EmbeddingsEncoder):
            return encoder.embeddings
        return EncoderEmbeddings(encoder=encoder)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | Path | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store of these texts, in the folder ``path`` or in memory."""
        if isinstance(embedding, EncoderEmbeddings):
            encoder = embedding.encoder
        else:
            encoder = EmbeddingsEncoder(embedding)
        store = cls(PassageIndex(path, encoder=encoder))
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, each under its id; one that is there with that id is replaced.

        So is a file that has it as its source.

        Raises:
            ValueError: there are not as many ids or metadata as texts.
            InputError: metadata is not JSON.
        """
        texts = list(texts)
        rows = metadatas if metadatas is not None else [{} for _ in texts]
        given = ids if ids is not None else [None] * len(texts)
        named = [one or str(uuid.uuid4()) for one in given]
        documents = [
            Document(
                text=text,
                source=source,
                title=str(metadata.get("title") or source),
                language=detect_language(text),
                metadata=metadata,
                whole=True,
            )
            for text, source, metadata in zip(texts, named, rows, strict=True)
        ]
        self.index.add({document.source: document for document in documents}.values())
        return named

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Remove those of the ids that are there; None removes all.

        The id that a search gives for a passage of a file removes nothing: a file goes as a
        whole, by its source or the ``document`` in the passage's metadata.
        """
        gone = ids if ids is not None else [r.source for r in self.index.records]
        self.index.remove(*gone, missing_ok=True)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """Those of the ids that are there, those that a search gives for files too.

        A text's own metadata may name another source.
        """
        view = self.index.view
        snapshot, found = view.snapshot, list[LangChainDocument]()
        for one in ids:
            whole = [record for record in snapshot.find(source=one) if record.whole]
            found += [_as_added(snapshot.document(record)) for record in whole]
            key = one.rpartition(":")[0]
            if not whole and any(True for _ in snapshot.find(key=key)):
                passages = map(as_document, view.only({"document": key}).passages)
                found += [document for document in passages if document.id == one]
        return found

    def similarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[LangChainDocument]:
        found = self.similarity_search_with_score(query, k, filter, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        hits = self.index.search(query, k, where=filter)
        return [(as_document(hit.passage), hit.score) for hit in hits]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[LangChainDocument]:
        """By the vector alone: there are no words to look up."""
        hits = self.index.search(_query(embedding), k, where=filter)
        return [as_document(hit.passage) for hit in hits]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        view = self.index.view
        return self._diverse(self.index.query(query, view), view, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        view = self.index.view
        return self._diverse(_query(embedding), view, k, fetch_k, lambda_mult, filter)

    def _diverse(
        self,
        query: Query,
        view: View,
        k: int,
        fetch_k: int,
        lambda_mult: float,
        where: Filter | None,
    ) -> list[LangChainDocument]:
        check_count(k)
        hits = self.index.search(query, fetch_k, view=view, where=where)
        if not hits:
            return []
        vectors = [view.vector(hit.passage).tolist() for hit in hits]
        chosen = maximal_marginal_relevance(query.encoding.vector, vectors, lambda_mult, k)
        return [as_document(hits[i].passage) for i in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """The best there can be is 1 in every channel."""
        return lambda score: min(1.0, max(0.0, score / sum(WEIGHTS.values())))


def _query(vector: Sequence[float]) -> Query:
    """A question of which only the vector is known."""
    try:
        given = np.asarray(vector, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("a question's vector is finite numbers, not {!r}", vector) from error
    most = np.abs(given).max(initial=0)
    if given.ndim != 1 or (len(given) and not most):
        raise InputError("a question's vector is finite numbers, and not all of them 0")
    with np.errstate(invalid="ignore"):  # what is not finite is refused when it is searched for
        found = unit(given / (most or 1)).astype(np.float32)
    nothing = np.zeros((0, len(found)), np.float32)
    return Query("", "en", "en", Encoding(found, nothing, np.zeros((0, 2), np.int64)), ())

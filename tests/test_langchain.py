"""LangChain's own standard suites, and what they do not ask: places, filters, MMR, disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from index.errors import InputError, MismatchError, ModelError
from index.langchain import (
    EmbeddingsEncoder,
    EncoderEmbeddings,
    PassageRetriever,
    PassageStore,
)
from index.records import Snapshot
from index.store import PassageIndex
from index.types import Document
from rag.chatbot import EXAMPLE
from tests.tiny import TinyEncoder


class TestVectorStore(VectorStoreIntegrationTests):
    """In memory, with the suite's own embeddings."""

    @pytest.fixture
    def vectorstore(self) -> PassageStore:
        return PassageStore(PassageIndex(encoder=EmbeddingsEncoder(self.get_embeddings())))


class TestVectorStoreOnDisk(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> PassageStore:
        return PassageStore(PassageIndex(tmp_path, encoder=TinyEncoder()))


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[PassageRetriever]:
        return PassageRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        index = PassageIndex(encoder=TinyEncoder())
        index.add([EXAMPLE])
        return {"index": index, "k": 2}

    @property
    def retriever_query_example(self) -> str:
        return "Warum hat Russland seinen Botschafter zurückgerufen?"


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[EncoderEmbeddings]:
        return EncoderEmbeddings


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[EncoderEmbeddings]:
        return EncoderEmbeddings


ROWS = [
    ("Der Apfel ist rot.", {"kind": "fruit", "year": 2020, "source": "a.md"}),
    ("Der Apfel ist grün.", {"kind": "fruit", "year": 2021}),
    ("Der Apfel war ein Rechner.", {"kind": "machine", "year": 2021}),
    ("Das Rad ist rund.", {}),
]


@pytest.fixture
def store() -> PassageStore:
    made = PassageStore(PassageIndex(encoder=TinyEncoder()))
    made.add_texts([text for text, _ in ROWS], [row for _, row in ROWS], ids=list("abcd"))
    return made


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"kind": "fruit"}, "ab"),
        ({"kind": ["fruit", "machine"], "year": 2021}, "bc"),
        ({"source": "a.md"}, "a"),  # metadata come before what the index says
        ({"source": ["b", "d"]}, "bd"),
        ({"language": "de"}, "abcd"),
        ({"year": "2021"}, ""),
        ({"nothing": None}, ""),
    ],
)
def test_filters(store: PassageStore, where: dict[str, Any], ids: str) -> None:
    question = "Wie ist der Apfel?"
    found = store.similarity_search(question, k=9, filter=where)
    assert sorted(d.id or "" for d in found) == list(ids)
    retriever = store.as_retriever(search_kwargs={"k": 9, "filter": where})
    assert retriever.invoke(question) == found
    diverse = store.max_marginal_relevance_search(question, k=9, filter=where)
    assert sorted(d.id or "" for d in diverse) == list(ids)


def test_a_filter_by_document(store: PassageStore) -> None:
    key = store.index.documents[2].id
    (found,) = store.similarity_search("Apfel", filter={"document": key})
    assert found.id == "c"


def test_maximal_marginal_relevance_prefers_what_differs() -> None:
    store = PassageStore(PassageIndex(encoder=TinyEncoder()))
    texts = ["apple pie recipe", "apple pie recipe now", "apple tree"]
    store.add_texts(texts, ids=list("abc"))
    nearest = store.similarity_search("apple pie recipe", k=2)
    diverse = store.max_marginal_relevance_search("apple pie recipe", k=2, lambda_mult=0.3)
    assert [d.id for d in nearest] == ["a", "b"]
    assert [d.id for d in diverse] == ["a", "c"]


async def test_async_says_the_same(store: PassageStore) -> None:
    question = "Wie ist der Apfel?"
    assert await store.asimilarity_search(question) == store.similarity_search(question)
    one = await store.amax_marginal_relevance_search(question, k=2)
    assert one == store.max_marginal_relevance_search(question, k=2)
    where = {"kind": "fruit"}
    retriever = store.index.as_retriever(k=3, where=where)
    found = await retriever.ainvoke(question)
    assert {d.metadata["kind"] for d in found} == {"fruit"}
    assert await retriever.ainvoke(question, k=1, where={}) == retriever.invoke(
        question, k=1, where={}
    )


def test_scores_and_vectors(store: PassageStore) -> None:
    ((document, score), *others) = store.similarity_search_with_score("Das Rad ist rund.", k=4)
    assert document.id == "d"
    assert score > max(other for _, other in others)
    relevant = store.similarity_search_with_relevance_scores("Das Rad ist rund.", k=1)
    assert 0.7 < relevant[0][1] <= 1
    vector = store.embeddings.embed_query("Das Rad ist rund.")
    assert store.similarity_search_by_vector(vector, k=1)[0].id == "d"
    assert store.max_marginal_relevance_search_by_vector(vector, k=1)[0].id == "d"


def test_metadata_alone_may_change(store: PassageStore) -> None:
    store.add_texts(["Der Apfel ist rot."], [{"kind": "colour"}], ids=["a"])
    assert store.get_by_ids(["a"])[0].metadata == {"kind": "colour"}
    assert len(store.index.documents) == len(ROWS)


def test_files_are_found_with_their_places() -> None:
    index = PassageIndex(encoder=TinyEncoder())
    index.add([EXAMPLE])
    store = PassageStore(index)
    question = "Warum hat Russland seinen Botschafter zurückgerufen?"
    text = index.documents[0].text
    for document in (*store.similarity_search(question), *index.as_retriever().invoke(question)):
        place = document.metadata
        assert document.page_content == text[place["start"] : place["end"]]
        assert (place["source"], place["language"]) == (EXAMPLE.name, "de")
    assert store.get_by_ids([EXAMPLE.name]) == []  # it was not added as one text


def test_a_text_stays_whole_however_long(tmp_path: Path) -> None:
    long = "Ein Satz über Äpfel steht hier. " * 200
    store = PassageStore.from_texts(
        [long, ""], EncoderEmbeddings(encoder=TinyEncoder()), ids=["long", "empty"], path=tmp_path
    )
    assert store.similarity_search("Äpfel", k=1)[0].page_content == long
    assert store.get_by_ids(["empty"]) == [LangChainDocument(id="empty", page_content="")]
    store.index.close()
    again = PassageStore(PassageIndex(tmp_path, encoder=TinyEncoder()))
    assert again.similarity_search("Äpfel", k=1)[0].page_content == long
    again.delete()
    assert len(again.index.documents) == 0


def test_what_is_there_is_listed_and_deleted_without_its_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PassageStore(PassageIndex(tmp_path, encoder=TinyEncoder()))
    store.add_texts(["Apples are red.", "Pears are not."], ids=["a", "b"])
    monkeypatch.setattr(Snapshot, "document", lambda *_: pytest.fail("a text was read"))
    assert [record.source for record in store.index.records] == ["a", "b"]
    store.delete()
    assert list(store.index.records) == []


def test_other_embeddings_are_kept_apart_on_disk(tmp_path: Path) -> None:
    fake = VectorStoreIntegrationTests.get_embeddings()
    PassageStore.from_texts(["a text"], fake, path=tmp_path).index.close()
    with pytest.raises(MismatchError, match="DeterministicFakeEmbedding"):
        PassageIndex(tmp_path, encoder=TinyEncoder())
    again = PassageIndex(tmp_path, encoder=EmbeddingsEncoder(fake))
    assert again.search("a text", 1)[0].passage.text == "a text"


def test_what_is_no_metadata_is_one_line(store: PassageStore) -> None:
    with pytest.raises(InputError, match="is not JSON") as caught:
        store.add_texts(["x"], [{"when": object()}])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="argument 3"):
        store.add_texts(["x", "y"], [{}])


def test_documents_of_one_id_in_one_call_are_one() -> None:
    index = PassageIndex(encoder=TinyEncoder())
    index.add(Document(text, "same", "t") for text in ("First.", "Second."))
    assert [d.text for d in index.documents] == ["Second."]


def test_a_text_is_had_by_its_id_whatever_its_metadata_call_its_source() -> None:
    store = PassageStore(PassageIndex(encoder=TinyEncoder()))
    store.add_texts(["Apples.", "Pears."], [{"source": "web"}, {"source": "1"}], ids=["1", "2"])
    wanted = LangChainDocument(id="1", page_content="Apples.", metadata={"source": "web"})
    assert store.get_by_ids(["1"]) == [wanted]


@pytest.mark.parametrize("vector", [[float("nan")] * 32, [float("inf")] * 32, [1.0] * 31, []])
@pytest.mark.parametrize("texts", [[], ["Apples.", "Pears."]])
def test_what_is_no_vector_of_the_index_finds_nothing(
    texts: list[str], vector: list[float]
) -> None:
    store = PassageStore(PassageIndex(encoder=TinyEncoder()))
    store.add_texts(texts)
    with pytest.raises(InputError, match="32 finite numbers"):
        store.similarity_search_by_vector(vector)


@pytest.mark.parametrize("vector", [[0.0] * 32, [], None, "x", [[1.0] * 32], ["a"] * 32])
def test_a_vector_that_points_nowhere_is_refused(store: PassageStore, vector: Any) -> None:
    for ask in (
        store.similarity_search_by_vector,
        store.max_marginal_relevance_search_by_vector,
    ):
        with pytest.raises(InputError, match=r"vector is .*finite numbers"):
            ask(vector)


@pytest.mark.parametrize("size", [1e-30, 1e20, 1e300])
def test_a_vector_of_any_length_says_where_to(store: PassageStore, size: float) -> None:
    vector = np.asarray(store.embeddings.embed_query("Das Rad ist rund."))
    (found,) = store.similarity_search_by_vector((size * vector).tolist(), k=1)
    (diverse,) = store.max_marginal_relevance_search_by_vector((size * vector).tolist(), k=1)
    assert found.id == diverse.id == "d"


def test_diverse_passages_are_of_one_state(
    store: PassageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, plain = [], type(store.index).view.fget  # type: ignore[attr-defined]
    counted = property(lambda index: seen.append(plain(index)) or seen[-1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(PassageIndex, "view", counted)
    assert store.max_marginal_relevance_search("Wie ist der Apfel?", k=2)
    assert len(seen) == 1


def test_a_score_of_ones_own_stays() -> None:
    store = PassageStore(PassageIndex(encoder=TinyEncoder()))
    store.add_texts(["Apples.", "Pears."], [{"score": "A+"}, {}], ids=["a", "p"])
    found = {d.id: d.metadata["score"] for d in store.index.as_retriever().invoke("Apples?")}
    assert found["a"] == "A+"
    assert isinstance(found["p"], float)


def test_a_passage_of_a_file_is_had_by_its_id() -> None:
    index = PassageIndex(encoder=TinyEncoder())
    index.add([EXAMPLE])
    store = PassageStore(index)
    store.add_texts(["Nicht von dort."], ids=["x:1-2"])
    found = store.similarity_search("Warum hat Russland seinen Botschafter zurückgerufen?", k=3)
    ids = [document.id or "" for document in found]
    assert store.get_by_ids(ids) == found
    assert [d.page_content for d in store.get_by_ids(["x:1-2"])] == ["Nicht von dort."]
    key = found[0].metadata["document"]
    assert store.get_by_ids([f"{key}:0-1", f"{key}:", f"{ids[0]}0", "no:1-2"]) == []


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"filter": lambda document: True}, "a filter is"),
        ({"filter": "kind"}, "a filter is"),
        ({"filter": ["kind"]}, "a filter is"),
        ({"k": 2.5}, "whole number"),
        ({"k": "2"}, "whole number"),
    ],
)
def test_what_is_no_filter_and_no_number_is_one_line(
    store: PassageStore, asked: dict[str, Any], says: str
) -> None:
    for ask in (store.similarity_search, store.max_marginal_relevance_search):
        with pytest.raises(InputError, match=says) as caught:
            ask("Wie ist der Apfel?", **asked)
        assert "\n" not in str(caught.value)


def test_an_index_of_a_programs_own_embeddings_says_so(tmp_path: Path) -> None:
    fake = VectorStoreIntegrationTests.get_embeddings()
    PassageStore.from_texts(["a text"], fake, path=tmp_path).index.close()
    with pytest.raises(ModelError, match=r"its own embeddings.*--repair --model"):
        PassageIndex.open(tmp_path).search("a text")

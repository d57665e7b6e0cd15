"""Dense search, fusion, late interaction and the index, against NumPy and by hand."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from index.dense import DenseIndex
from index.embed import BUNDLED_NAME, Encoding, SentenceTransformerEncoder, unit
from index.errors import InputError, ModelError
from index.fuse import WEIGHTS, fuse, ranks
from index.late import matches, mean_cosines, sentence_tokens
from index.store import FILE, QUESTION_LIMIT, PassageIndex
from index.types import Document, Passage, Span
from rag.chatbot import EXAMPLE, Chatbot


def test_dense_search_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 8)).astype(np.float32)
    query = rng.standard_normal(8).astype(np.float32)
    rows, scores = DenseIndex(vectors).search(query, 10)
    assert rows.tolist() == np.argsort(-(vectors @ query))[:10].tolist()
    np.testing.assert_allclose(scores, np.sort(vectors @ query)[::-1][:10], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.zeros(3, np.float32), np.full(2, np.nan, np.float32)])
def test_dense_search_refuses_what_is_no_query(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite vector of 2"):
        DenseIndex(np.eye(2, dtype=np.float32)).search(bad, 1)


def test_dense_search_asks_for_no_more_than_there_is() -> None:
    rows, _ = DenseIndex(np.eye(2, dtype=np.float32)).search(np.ones(2, np.float32), 9)
    assert len(rows) == 2
    rows, _ = DenseIndex(np.zeros((0, 2), np.float32)).search(np.ones(2, np.float32), 9)
    assert len(rows) == 0


def test_fuse_adds_weighted_channels() -> None:
    channels = {name: np.asarray([0.0, 1.0], np.float32) for name in WEIGHTS}
    assert fuse(channels).tolist() == pytest.approx([0.0, sum(WEIGHTS.values())])


def test_ranks_count_from_one_and_keep_ties_in_order() -> None:
    assert ranks(np.asarray([0.5, 0.9, 0.5], np.float32)).tolist() == [2, 1, 3]


def test_late_interaction_by_hand() -> None:
    x, y = np.eye(2, dtype=np.float32)
    question = Encoding(x, np.stack([x, y]), np.asarray([[0, 3], [4, 5]]))
    sentences = [np.stack([x]), np.stack([y, (x + y) / np.sqrt(2)]), np.zeros((0, 2))]
    found = matches(question, sentences)
    np.testing.assert_allclose(found, [[1, np.sqrt(0.5), 0], [0, 1, 0]], rtol=1e-6)
    wanted = [1, unit(x + y * (1 + np.sqrt(2)))[0], 0]
    np.testing.assert_allclose(mean_cosines(question, sentences), wanted, rtol=1e-6)


def test_sentence_tokens_are_those_inside_the_sentence() -> None:
    document = Document("xx Ab. Cd.", "s", "t")
    passage = Passage(document, 3, 10, (Span(3, 6), Span(7, 10)))
    tokens = np.arange(8, dtype=np.float32).reshape(4, 2)
    encoding = Encoding(tokens[0], tokens, np.asarray([[0, 2], [2, 3], [4, 6], [6, 7]]))
    first, second = sentence_tokens(passage, encoding)
    assert first.tolist() == tokens[:2].tolist()
    assert second.tolist() == tokens[2:].tolist()


def test_an_english_question_finds_the_german_passage(bot: Chatbot) -> None:
    hits = bot.index.search("Why did Russia recall its ambassador?", 3)
    assert "rief daraufhin seinen Botschafter" in hits[0].passage.text
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].channels.keys() == WEIGHTS.keys()


def test_a_file_is_one_document_and_its_namesake_another(bot: Chatbot, tmp_path: Path) -> None:
    index = bot.fork().index
    index.add([EXAMPLE])
    assert len(index.documents) == 1
    file = tmp_path / EXAMPLE.name
    for text in ("Ein Text. Er handelt von Birnen.", "Ganz anderer Text. Von Äpfeln."):
        file.write_text(text, "utf-8")  # the second time: the same file, other bytes
        index.add([file])
        assert [d.source for d in index.documents] == [
            EXAMPLE.name,
            f"{tmp_path.name}/{EXAMPLE.name}",
        ]
        assert index.documents[1].text == text
        assert {p.document.text for p in index.view.passages} == {d.text for d in index.documents}


def test_documents_in_memory_are_replaced_and_removed(bot: Chatbot) -> None:
    index = PassageIndex(encoder=bot.index.encoder)
    index.add([Document("Äpfel sind rund.", "a", "A", "de"), Document("Wein.", "b", "B", "de")])
    index.add([Document("Birnen sind länglich.", "a", "A", "de")])
    assert [p.text for p in index.view.passages] == ["Wein.", "Birnen sind länglich."]
    with pytest.raises(InputError, match="'c'"):
        index.remove("a", "c")
    assert len(index.documents) == 2  # all or none
    first = index.documents[0]
    assert index.remove("a", first.id, first.source) == ["a", "b"]  # named twice, removed once
    assert list(index.view.passages) == []


def test_one_path_or_document_need_not_be_in_a_list(bot: Chatbot) -> None:
    index = PassageIndex(encoder=bot.index.encoder)
    for given in (EXAMPLE, str(EXAMPLE), Document("Wein.", "b", "B", "de")):
        assert len(index.add(given)) == 1
    assert [document.source for document in index.documents] == [EXAMPLE.name, "b"]


def test_a_hit_names_the_sentence_nearest_to_the_question(bot: Chatbot) -> None:
    index = PassageIndex(encoder=bot.index.encoder)
    german = "Der Apfel ist rund. Die Birne ist lang. Das Pferd frisst Gras."
    french = "La pomme est ronde. La poire est longue. Le cheval mange de l'herbe."
    index.add([Document(german, "de", "D", "de"), Document(french, "fr", "F", "fr")])
    for question, sentences in {
        "What does the horse eat?": {"Das Pferd frisst Gras."},
        "cheval, Pferd": {"Das Pferd frisst Gras.", "Le cheval mange de l'herbe."},
    }.items():
        near = {h.passage.document.text[h.nearest.start : h.nearest.end]
                for h in index.search(question) if h.nearest}  # fmt: skip
        assert sentences <= near


def test_an_index_that_cannot_be_written_is_one_line(bot: Chatbot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot be changed") as caught:
        PassageIndex(tmp_path / "file", encoder=bot.index.encoder)
    assert "\n" not in str(caught.value)


def test_a_reader_never_sees_half_a_change(bot: Chatbot, tmp_path: Path) -> None:
    """One thread adds and removes, as another process may, while indexes are opened."""
    encoder = bot.index.encoder
    writer = PassageIndex(tmp_path, encoder=encoder)
    done = threading.Event()

    def write() -> None:
        for n in range(40):
            writer.add([Document(f"Satz {n}. Noch einer.", "a", "A", "de")])
            writer.remove("a")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    opened = 0
    while not done.is_set():
        PassageIndex(tmp_path, encoder=encoder).close()  # a KeyError, if it saw half
        opened += 1
    thread.join()
    assert opened


def test_a_document_must_be_text() -> None:
    with pytest.raises(InputError, match="surrogate"):
        Document("Ein \ud800 Satz.", "a", "A")


def test_a_fork_leaves_the_original_alone(bot: Chatbot) -> None:
    fork = bot.fork()
    fork.index.add([Document("Äpfel sind rund.", "obst.txt", "Obst", "de")])
    assert [d.source for d in fork.documents] == [EXAMPLE.name, "obst.txt"]
    assert [d.source for d in bot.documents] == [EXAMPLE.name]
    assert "rund" in fork.index.search("Welche Form haben Äpfel?", 1)[0].passage.text


def test_an_index_on_disk_opens_as_it_was(bot: Chatbot, tmp_path: Path) -> None:
    encoder = bot.index.encoder
    index = PassageIndex(tmp_path / "i", encoder=encoder)
    index.add([EXAMPLE])
    question = "Why did Russia recall its ambassador?"
    before = [(h.passage.start, h.score) for h in index.search(question)]
    index.close()
    again = PassageIndex(tmp_path / "i", encoder=encoder)
    assert [(h.passage.start, h.score) for h in again.search(question)] == before
    again.remove(EXAMPLE.name)
    assert again.search(question) == []
    with pytest.raises(InputError, match="no document"):
        again.remove(EXAMPLE.name)
    again.close()
    assert len(PassageIndex(tmp_path / "i", encoder=encoder).documents) == 0


def test_another_encoder_is_refused_by_name(bot: Chatbot, tmp_path: Path) -> None:
    PassageIndex(tmp_path, encoder=bot.index.encoder).close()

    class Other:
        name, dimension, window, languages = "other", 3, 10, None

    with pytest.raises(ModelError, match=r"'bundled'.*'other'"):
        PassageIndex(tmp_path, encoder=Other())  # type: ignore[arg-type]


def test_an_encoder_that_cannot_be_had_is_told_at_once_and_leaves_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bool] = []

    def load(name: str, *, local_files_only: bool, **_: object) -> None:
        tried.append(local_files_only)
        raise OSError(f"{name} is not in the cache")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", load)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ModelError, match="cannot load the encoder 'no/such-model'"):
        PassageIndex.open(tmp_path / "index", model="no/such-model", create=True)
    assert tried == [True]  # the library would try the network for over a minute
    assert not (tmp_path / "index").exists()


def test_without_a_name_it_is_the_bundled_encoder() -> None:
    assert SentenceTransformerEncoder("").name == SentenceTransformerEncoder().name == BUNDLED_NAME
    assert SentenceTransformerEncoder("").languages == {"de", "en"}


def test_a_file_that_is_no_index_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(InputError, match="not an index"):
        PassageIndex.open(tmp_path)
    with pytest.raises(InputError, match="no index in"):
        PassageIndex.open(tmp_path / "nothing")


@pytest.mark.parametrize("question", ["", "  \n", "?!", "a" * (QUESTION_LIMIT + 1), "x" * 100_000])
def test_a_question_must_be_one(question: str, bot: Chatbot) -> None:
    with pytest.raises(InputError, match="question"):
        bot.ask(question)


def test_a_question_is_brought_into_canonical_form(bot: Chatbot) -> None:
    assert bot.index.query("Wer\u00a0ist\x00 das \udce9?").text == "Wer ist das \ufffd?"


def test_langchain_retriever(bot: Chatbot) -> None:
    found = bot.index.as_retriever(k=2).invoke("Why did Russia recall its ambassador?")
    text = bot.documents[0].text
    assert len(found) == 2
    assert "Botschafter" in found[0].page_content
    for document in found:
        span = slice(document.metadata["start"], document.metadata["end"])
        assert document.page_content == text[span]

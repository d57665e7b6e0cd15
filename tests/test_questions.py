"""Question files: what is read from each format, and the one line that says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import InputError
from index.load import load
from index.types import Document
from rag.metrics import Place
from rag.questions import Question, QuestionSet, check_answers, read_questions, transfer
from tests.conftest import ROOT

EXAMPLE = ROOT / "rag" / "example"

SUMMIT = "The summit took place in Geneva. It was the first between the two presidents."
GIPFEL = "Das Treffen fand in Genf statt. Es war das erste der beiden Präsidenten."


def write(path: Path, *lines: object) -> Path:
    """A file with a line of JSON for each value; strings as they are."""
    shown = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(shown), "utf-8")
    return path


def line(**changes: object) -> dict[str, object]:
    """A good line of JSON Lines, changed; None takes a key out."""
    row = {"id": "a", "question": "Where was the summit?", "answers": ["Geneva"]} | changes
    return {key: value for key, value in row.items() if value is not None}


def qa(**changes: object) -> dict[str, object]:
    """A good question of SQuAD, changed; None takes a key out."""
    answers = [{"text": "Geneva", "answer_start": 25}]
    row = {"id": "q1", "question": "Where was the summit?", "answers": answers} | changes
    return {key: value for key, value in row.items() if value is not None}


def squad(
    *questions: object, context: object = SUMMIT, title: str = "The_summit"
) -> dict[str, Any]:
    paragraph = {"context": context, "qas": list(questions)}
    return {"version": "1.1", "data": [{"title": title, "paragraphs": [paragraph]}]}


def error(path: Path, **options: Any) -> str:
    """The line that reading says, without the folder."""
    with pytest.raises(InputError) as raised:
        read_questions(path, **options)
    said = str(raised.value)
    assert said.isprintable()
    assert len(said) < 500
    return said.replace(f"{path.parent}/", "")


# ---- JSON Lines ------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path / "q.jsonl",
        line(document="a.txt", style="plain", sentence="It was in Geneva."),
        "",
        line(id="b", question="Wer hat die Nachricht gelesen?", answers=["Zoe\u0308", "Zoë", "X"]),
        line(id="c", answers=[], answerable=False) | {"question": "Why did nobody come?"},
        line(id="d", answers=None, answerable=False),
    )
    found = read_questions(file)
    assert found.documents == ()
    assert found.questions[0] == Question(
        id="a",
        question="Where was the summit?",
        language="en",
        answers=("Geneva",),
        document="a.txt",
        style="plain",
        sentence="It was in Geneva.",
        where=f"{file}, line 1",
    )
    assert [q.language for q in found.questions] == ["en", "de", "en", "en"]
    assert found.questions[1].answers == ("Zoë", "X")  # composed, as in documents, and once
    assert [q.answerable for q in found.questions] == [True, True, False, False]
    assert str(found.questions[0].where) == f"{file}, line 1"
    assert str(found.questions[1].where).endswith("line 3")


def test_a_byte_order_mark_and_windows_newlines_are_no_matter(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(line()).encode() + b"\r\n\r\n")
    assert len(read_questions(file).questions) == 1


@pytest.mark.parametrize("language", ["de", "en"])
def test_the_bundled_questions_stand_in_the_bundled_article(language: str) -> None:
    questions = read_questions(EXAMPLE / f"questions.{language}.jsonl").questions
    document = load(EXAMPLE / "gipfel.de.txt")
    found = check_answers(questions, [document])
    assert sum(q.language == language for q in found) >= len(found) - 2
    for question in found:
        assert bool(question.spans) == question.answerable
        for span in question.spans:
            text = " ".join(document.text[span.start : span.end].split())
            assert text in {" ".join(answer.split()) for answer in question.answers}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (line(anwser="x"), 'unknown key "anwser": known are id, question, answers, document'),
        (line(id=None), "id must be text, not missing or null"),
        (line(id=7), "id must be text, not a number"),
        (line(id=" "), "id is empty: fill it in"),
        (line(question=None), "question must be text, not missing or null"),
        (line(question=["x"]), "question must be text, not a list"),
        (line(question="\ud800?"), "question has half a surrogate pair in it"),
        (line(answers="Geneva"), "answers must be a list, not text"),
        (line(answers=["Geneva", 3]), "an answer must be text, not a number"),
        (line(answers=["\u200b"]), "an answer is empty"),
        (line(answers=None), 'has no answers: give some, or mark it "answerable": false'),
        (line(answers=[]), 'has no answers: give some, or mark it "answerable": false'),
        (line(answerable=False), 'has answers but is marked "answerable": false'),
        (line(answers=[], answerable=False, sentence="x"), "has a sentence that answers"),
        (line(answerable="no"), "answerable must be true or false, not text"),
        (line(answerable=0), "answerable must be true or false, not a number"),
        (line(document={}), "document must be text, not an object"),
        (line(style=True), "style must be text, not true or false"),
        (line(sentence=""), "sentence is empty"),
        (line(id="first"), 'the id "first" was given before, in '),
        ([1], "must be an object, not a list"),
        ("{'id': 1}", "is not JSON (Expecting property name enclosed in double quotes at column"),
        ('{"id": "a"} {"id": "b"}', "is not JSON (Extra data at column 13): write one object"),
        ('{"id": "a", "id": "b"}', 'is not JSON (the key "id" stands twice)'),
        ("[" * 100_000, "is not JSON (nested too deeply)"),
        (squad(qa()), "mixes formats: SQuAD JSON must be a file of its own"),
        ({"_id": "1", "text": "x"}, "is a line of a BEIR folder: name the folder"),
    ],
)
def test_what_is_wrong_with_a_line(tmp_path: Path, row: object, said: str) -> None:
    file = write(tmp_path / "q.jsonl", line(id="first"), "", row)
    message = error(file)
    assert message.startswith("q.jsonl, line 3")
    assert said in message


def test_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    assert error(file) == "q.jsonl does not exist"
    file.write_bytes(b" \n")
    assert error(file).startswith("q.jsonl is empty")
    file.write_bytes(json.dumps(line()).encode() + b'\n{"id": "M\xfcller"}')
    assert error(file) == "q.jsonl, line 2 is not UTF-8: save it as UTF-8"
    assert "cannot be read" in error(tmp_path / "a\0b")
    assert error(write(tmp_path / "a\nb.jsonl", "x")).startswith("a b.jsonl, line 1")


def test_one_json_value_is_no_file_of_questions(tmp_path: Path) -> None:
    for held in ([line()], json.dumps([line(), line()], indent=1)):
        said = error(write(tmp_path / "q.json", held))
        assert said.startswith("q.json is one JSON list: write one object a line, like {")
        assert 'or SQuAD JSON, like {"data": [...]}' in said
    said = error(write(tmp_path / "q.json", json.dumps(line(), indent=1)))
    assert said.startswith("q.json is one JSON object: write one object a line")


def test_a_question_that_cannot_be_asked_is_told_before(tmp_path: Path) -> None:
    for question, said in (("?!", "the question is empty"), ("why " * 600, "2,000 is the most")):
        held = line(question=question, answers=[], answerable=False)
        (asked,) = read_questions(write(tmp_path / "q.jsonl", held)).questions
        with pytest.raises(InputError, match=rf"q.jsonl, line 1: .*{said}"):
            check_answers([asked], [])


def test_a_long_value_is_shortened(tmp_path: Path) -> None:
    assert "…" in error(write(tmp_path / "q.jsonl", line() | {"x" * 10_000: 1}))


# ---- Answers in the documents that were loaded -----------------------------------------------

TEXT = "In 1955 he had 5\n houses. Then 5 more. Bidens Haus.  Ein Satz mit 5 Worten."
LOADED = [Document(TEXT, "a.txt", "A"), Document("There were 5 in all: 77.", "b.txt", "B")]


def asked(*answers: str, **changes: Any) -> Question:
    return Question("1", "How many?", "en", answers, where="q.jsonl, line 1", **changes)


def found(question: Question) -> list[tuple[str, str]]:
    (located,) = check_answers([question], LOADED)
    assert located == replace(question, spans=located.spans)
    text = {document.source: document.text for document in LOADED}
    return [(s.document, text[s.document][s.start : s.end]) for s in located.spans]


def test_where_the_answers_stand() -> None:
    assert found(asked("5 houses", document="a.txt")) == [("a.txt", "5\n houses")]
    # Whole words where there are some: not the 5s of 1955.
    assert found(asked("5")) == 3 * [("a.txt", "5")] + [("b.txt", "5")]
    assert found(asked("5", document="b.txt")) == [("b.txt", "5")]
    assert found(asked("Biden")) == [("a.txt", "Biden")]
    assert found(asked("77", "Haus")) == [("b.txt", "77"), ("a.txt", "Haus")]
    assert found(asked("5", sentence="Then 5 more.")) == [("a.txt", "Then 5 more.")]


def test_questions_with_spans_or_without_answers_stay_as_they_are() -> None:
    spans = (Place("a.txt", 0, 2),)
    for question in (
        asked("In", document="a.txt", spans=spans),
        asked(answerable=False, document="left-out.txt"),
        asked(relevance={"b.txt": 1}),
    ):
        assert check_answers([question], LOADED) == (question,)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (asked("5", "six"), 'the answer "six" does not stand in any of the documents: copy it'),
        (asked("77", document="a.txt"), 'the answer "77" does not stand in a.txt'),
        (asked("bidens"), 'the answer "bidens" does not stand'),
        (
            asked("5", document="c.txt"),
            '"c.txt" is not among those given: name one of a.txt, b.txt',
        ),
        (asked("5", document="c", spans=(Place("c", 0, 1),)), "is not among those given"),
        (asked("5", sentence="Then 6."), 'the sentence "Then 6." does not stand'),
    ],
)
def test_an_answer_that_does_not_stand_in_its_document(question: Question, said: str) -> None:
    with pytest.raises(InputError) as raised:
        check_answers([asked("5"), question], LOADED)
    assert str(raised.value).startswith("q.jsonl, line 1: ")
    assert said in str(raised.value)


def test_questions_over_other_documents_than_their_own() -> None:
    own = Document("It was in Geneva.", "S#1", "S")
    here = asked("Geneva", document="S#1", spans=(Place("S#1", 10, 16),), relevance={"S#1": 1})
    moved = asked("5 houses", document="S#2", spans=(Place("S#2", 0, 8),), relevance={"S#2": 1})
    gone = asked("Rome", document="S#2", spans=(Place("S#2", 9, 13),), relevance={"S#2": 1})
    unsaid = asked(document="S#2", answerable=False)
    judged, lost = asked(relevance={"S#1": 1, "S#2": 1}), asked(relevance={"S#2": 1})
    documents = [own, Document("5 houses Rome", "S#2", "S")]
    questions = QuestionSet((here, moved, gone, unsaid, judged, lost), tuple(documents))
    place = Place("a.txt", TEXT.index("5\n houses"), TEXT.index(". Then"))
    assert transfer(questions, [*LOADED, own]) == (
        here,
        replace(moved, document=None, spans=(place,), relevance={}),
        replace(unsaid, document=None),
        judged,
    )
    # A document of the same name that says something else is another one.
    assert transfer(questions, [replace(own, text="x")]) == (replace(unsaid, document=None),)


@given(st.text("ab1 .\n", max_size=30), st.text("ab1.", min_size=1, max_size=3))
def test_spans_are_all_the_places_of_an_answer(text: str, answer: str) -> None:
    question, documents = asked(answer), [Document(text, "d", "D")]
    if answer not in text:
        with pytest.raises(InputError):
            check_answers([question], documents)
        return
    (located,) = check_answers([question], documents)
    assert located.spans
    assert all(text[span.start : span.end] == answer for span in located.spans)


# ---- SQuAD JSON ------------------------------------------------------------------------------


def test_squad(tmp_path: Path) -> None:
    first, geneva = {"text": "first", "answer_start": 44}, {"text": "Geneva", "answer_start": 25}
    data = squad(
        qa(answers=[geneva, geneva, {"text": "in Geneva", "answer_start": 22}]),
        qa(id="q2", question="Which meeting was it?", answers=[first], is_impossible=False),
        qa(id="q3", answers=[], is_impossible=True, plausible_answers=[geneva]),
    )
    other = {"context": GIPFEL, "qas": [qa(id="q4", question="Wo war das?", answers=[
        {"text": "Genf", "answer_start": 20}])]}  # fmt: skip
    data["data"][0]["paragraphs"] += [other, {"context": SUMMIT, "qas": [qa(id="q5")]}]
    data["data"].append({"paragraphs": [{"context": "A third one.", "qas": []}]})
    file = write(tmp_path / "dev.json", json.dumps(data, indent=1))
    found = read_questions(file)
    assert [(d.source, d.title, d.language) for d in found.documents] == [
        ("The_summit#1", "The summit", "en"),
        ("The_summit#2", "The summit", "de"),
        ("dev#1", "dev", "en"),
    ]
    assert found.documents[0].text == SUMMIT
    q1, q2, q3, q4, q5 = found.questions
    assert q1 == Question(
        id="q1",
        question="Where was the summit?",
        language="en",
        answers=("Geneva", "in Geneva"),
        document="The_summit#1",
        spans=(Place("The_summit#1", 25, 31), Place("The_summit#1", 22, 31)),
        relevance={"The_summit#1": 1},
        where=f"{file}, line 11, question q1",
    )
    assert q2.answers == ("first",)
    assert (q3.answerable, q3.answers, q3.spans, q3.document) == (False, (), (), "The_summit#1")
    assert q3.relevance == {}
    assert (q4.language, q4.document) == ("de", "The_summit#2")
    assert q5.document == "The_summit#1"  # its paragraph is equal to the first
    assert check_answers(found.questions, found.documents) == found.questions


def test_what_germanquad_adds(tmp_path: Path) -> None:
    answer = {"answer_id": 1, "document_id": 2, "question_id": 3, "answer_category": "SHORT"}
    row = qa(id=38544, answers=[{"text": "Geneva", "answer_start": 25} | answer])
    data = squad(row | {"document_id": 2})
    del data["data"][0]["title"], data["version"]
    (question,) = read_questions(write(tmp_path / "test.json", data)).questions
    assert (question.id, question.document) == ("38544", "test#1")


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (qa(answers=[{"text": "Geneva", "answer_start": 24}]), "at 24 in its context, but at 25"),
        (qa(answers=[{"text": "Rome", "answer_start": 25}]), "at 25 in its context, nor anywhere"),
        (qa(answers=[{"text": ".", "answer_start": -1}]), 'the answer "." does not stand at -1'),
        (qa(answers=[{"text": "Geneva", "answer_start": "25"}]), "answer_start must be a whole"),
        (qa(answers=[{"text": "Geneva", "answer_start": True}]), "answer_start must be a whole"),
        (qa(answers=[{"text": "Geneva"}]), "answer_start must be a whole number, not missing"),
        (qa(answers=[{"text": "", "answer_start": 0}]), "text is empty"),
        (qa(answers=[{"text": "Geneva", "start": 25}]), 'unknown key "start"'),
        (qa(answers=["Geneva"]), "an answer must be an object, not text"),
        (qa(answers="Geneva"), "answers must be a list, not text"),
        (qa(answers=[]), 'has no answers: give some, or mark it "is_impossible": true'),
        (qa(answers=None), "has no answers"),
        (qa(is_impossible=True), 'has answers but is marked "is_impossible": true'),
        (qa(is_impossible="no"), "is_impossible must be true or false"),
        (qa(question=1), "question must be text, not a number"),
        (qa(answerable=True), 'unknown key "answerable": known are id, question, answers'),
        (qa(id="q0"), 'the id "q0" was given before, in q.json, line 1, question q0'),
    ],
)
def test_what_is_wrong_with_a_question(tmp_path: Path, question: object, said: str) -> None:
    message = error(write(tmp_path / "q.json", squad(qa(id="q0"), question)))
    assert message.startswith("q.json, line 1, question q")
    assert said in message


def test_the_line_of_a_question_is_that_of_its_id(tmp_path: Path) -> None:
    data = squad(qa(), qa(id="q2", question='"id": "q9"'), qa(id="q3", question=1))
    text = json.dumps(data, indent=1)
    line = text[: text.index('"q3"')].count("\n") + 1
    message = error(write(tmp_path / "q.json", text))
    assert message.startswith(f"q.json, line {line}, question q3: question must be text")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (squad(), "q.json has no question in it"),
        (squad(qa(id=None)), "q.json, line 1, paragraph The_summit#1: id must be text"),
        (
            squad(qa(id=1.5)),
            "line 1, paragraph The_summit#1: id must be text, not a number",
        ),
        (squad("q"), "q.json, line 1, paragraph The_summit#1 must be an object, not text"),
        (squad(qa(), context=None), "q.json, line 1, paragraph The_summit#1: context must be text"),
        (squad(qa(), context=" "), "q.json, line 1, paragraph The_summit#1: context is empty"),
        (squad(qa(), title=""), "q.json, line 1, an article: title is empty"),
        ({"data": {}}, "q.json: data must be a list, not an object"),
        ({"data": [], "more": 1}, 'q.json: unknown key "more": known are version, data'),
        ({"data": [{"id": "a"}]}, 'q.json, an article: unknown key "id"'),
        ({"data": [{"title": "T"}]}, "q.json, article T: paragraphs must be a list"),
        ({"data": [{"paragraphs": [1]}]}, "q.json, paragraph q#1 must be an object"),
        (
            '{"data": [{"title": "T",\n "paragraphs": [\n{"context": "A."}]}]}',
            "q.json, line 3, paragraph T#1: qas must be a list",
        ),
        ('{"data": [{"title": 1,\n "paragraphs": []}]}', "q.json, line 2, an article: title must"),
        ('{"data":\n[1,]}', "q.json, line 2 is not JSON ("),
        ('{"data": [], "data": []}', 'q.json is not JSON (the key "data" stands twice)'),
        ('{"data": ' + 100_000 * "[", "q.json is not JSON (nested too deeply)"),
    ],
)
def test_what_is_wrong_with_squad(tmp_path: Path, content: object, said: str) -> None:
    assert said in error(write(tmp_path / "q.json", content))


def test_the_keys_of_squad_may_be_in_any_order(tmp_path: Path) -> None:
    held = squad(qa())
    assert isinstance(held, dict)
    for value in (dict(reversed(held.items())), {"data": held["data"]}):
        for indent in (None, 1):
            text = json.dumps(value, indent=indent)
            assert len(read_questions(write(tmp_path / "q.json", text)).questions) == 1
    other = json.dumps({"title": "T"} | held, indent=1)
    assert 'q.json: unknown key "title"' in error(write(tmp_path / "q.json", other))


def test_json_lines_after_squad_are_another_format(tmp_path: Path) -> None:
    file = write(tmp_path / "q.json", squad(qa()), line())
    assert error(file).startswith("q.json, line 2 mixes formats")


# ---- Questions in one language, contexts in another ------------------------------------------


def test_contexts_of_another_file(tmp_path: Path) -> None:
    questions = write(tmp_path / "en.json", squad(qa(id="q2"), qa()))
    genf, erste = {"text": "Genf", "answer_start": 20}, {"text": "erste", "answer_start": 43}
    german = squad(
        qa(id="q0", question="Das wievielte?", answers=[erste]),
        qa(question="Wo war das Treffen?", answers=[genf]),
        qa(id="q2", question="Gab es das?", answers=[], is_impossible=True),
        context=GIPFEL,
        title="Das_Treffen",
    )
    german["data"][0]["paragraphs"].insert(0, {"context": "Davor stand etwas.", "qas": []})
    contexts = write(tmp_path / "de.json", german)
    found = read_questions(questions, contexts=contexts)
    assert [d.source for d in found.documents] == ["Das_Treffen#1", "Das_Treffen#2"]
    assert [q.id for q in found.questions] == ["q2", "q1"]
    assert found.questions[1] == Question(
        id="q1",
        question="Where was the summit?",
        language="en",
        answers=("Genf",),
        document="Das_Treffen#2",
        spans=(Place("Das_Treffen#2", 20, 24),),
        relevance={"Das_Treffen#2": 1},
        where=f"{questions}, line 1, question q1",
    )
    assert not found.questions[0].answerable


def test_contexts_that_do_not_fit(tmp_path: Path) -> None:
    en = write(tmp_path / "en.json", squad(qa(), qa(id="q2"), qa(id="q3")))
    de = write(tmp_path / "de.json", squad(qa()))
    lines = write(tmp_path / "q.jsonl", line())
    said = error(en, contexts=de).replace(f"{tmp_path}/", "")
    assert said.startswith("en.json, line 1, question q2 is not in de.json (and 1 more): give")
    assert "q.jsonl is not SQuAD JSON" in error(lines, contexts=de)
    assert "q.jsonl is not SQuAD JSON" in error(en, contexts=lines)
    assert "contexts go with SQuAD JSON only" in error(tmp_path, contexts=de)
    assert error(en, contexts=tmp_path / "none.json") == "none.json does not exist"


# ---- BEIR ------------------------------------------------------------------------------------


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    write(
        folder / "corpus.jsonl",
        {"_id": "d1", "title": "Geneva", "text": "The summit took place there.", "metadata": {}},
        {"_id": "d2", "title": "", "text": "Das Treffen fand in Genf statt."},
        {"_id": "d3", "text": ""},
    )
    write(
        folder / "queries.jsonl",
        {"_id": "q1", "text": "Where was the summit?", "metadata": {"url": "x"}},
        {"_id": "q2", "text": "Wo war der Gipfel der Präsidenten?"},
        {"_id": "q3", "text": "Never judged"},
    )
    write(
        folder / "qrels" / "test.tsv",
        "query-id\tcorpus-id\tscore",
        "q1\td1\t2",
        "q1\td2\t0\r",
        "q2\td3\t1",
        "q3\td1\t0",
        "",
    )
    return folder


def test_beir(beir: Path) -> None:
    write(beir / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore", "q3\td1\t1")
    found = read_questions(beir)
    assert [(d.source, d.title, d.text, d.language) for d in found.documents] == [
        ("d1", "Geneva", "Geneva\n\nThe summit took place there.", "en"),
        ("d2", "d2", "Das Treffen fand in Genf statt.", "de"),
    ]
    first, second = found.questions
    assert first == Question(
        id="q1",
        question="Where was the summit?",
        language="en",
        relevance={"d1": 2, "d2": 0},
        where=f"{beir / 'queries.jsonl'}, line 1",
    )
    assert (second.id, second.language, second.relevance) == ("q2", "de", {"d3": 1})


@pytest.mark.parametrize(
    ("name", "added", "said"),
    [
        ("corpus.jsonl", {"_id": "d1", "text": "x"}, 'the id "d1" was given before, in'),
        ("corpus.jsonl", {"_id": "d4"}, "text must be text, not missing or null"),
        (
            "corpus.jsonl",
            {"_id": "d4", "title": 1, "text": "x"},
            "title must be text, not a number",
        ),
        ("corpus.jsonl", {"_id": "d4", "text": "x", "body": "y"}, 'unknown key "body"'),
        ("queries.jsonl", {"_id": "q1", "text": "x"}, 'the id "q1" was given before, in'),
        ("queries.jsonl", {"_id": 1, "text": "x"}, "_id must be text, not a number"),
        ("queries.jsonl", {"_id": "q4", "text": ""}, "text is empty"),
        ("queries.jsonl", line(), 'unknown key "id": known are _id, text, metadata'),
        ("qrels/test.tsv", "q1\td1\t1", "judges the same pair again"),
        ("qrels/test.tsv", "q9\td1\t1", 'no query "q9" in queries.jsonl'),
        ("qrels/test.tsv", "q1\td9\t1", 'no document "d9" in corpus.jsonl'),
        ("qrels/test.tsv", "q1\t0\td1\t1", "is not a judgement: write query-id, tab"),
        ("qrels/test.tsv", "q1\td1\thigh", "is not a judgement"),
    ],
)
def test_what_is_wrong_with_beir(beir: Path, name: str, added: object, said: str) -> None:
    file = beir / name
    lines = file.read_text("utf-8").rstrip("\n").split("\n")
    write(file, *lines, added)
    message = error(beir)
    assert message.startswith(f"beir/{name}, line {len(lines) + 1}")
    assert said in message


def test_folders_that_are_not_beir(beir: Path) -> None:
    judged = beir / "qrels" / "test.tsv"
    write(judged, "query-id\tcorpus-id\tscore", "q1\td1\t0")
    with pytest.raises(InputError, match="calls nothing relevant"):
        read_questions(beir)
    for name in ("a.tsv", "b.tsv"):
        write(beir / "qrels" / name, "q1\td1\t1")
    judged.unlink()
    with pytest.raises(InputError, match=r"none of them test\.tsv: leave one of a\.tsv, b\.tsv"):
        read_questions(beir)
    (beir / "qrels" / "a.tsv").unlink()
    assert len(read_questions(beir).questions) == 1
    (beir / "corpus.jsonl").unlink()
    with pytest.raises(InputError, match="is not a BEIR folder"):
        read_questions(beir)

"""The ``beleg`` command, run as a user runs it: output, exit codes, one line per error."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from index.store import PassageIndex
from rag.chatbot import EXAMPLE, Chatbot
from tests.conftest import ROOT, Run, command, environment
from tests.tiny import TinyEncoder

ENGLISH = "Why did Russia recall its ambassador?"
GERMAN = "Warum hat Russland seinen Botschafter zurückgerufen?"
SAID = "„Killer“"
NOT_SAID = "How do I reset my Wi-Fi router?"

HEAVY = {"torch", "gradio", "langchain", "langchain_core", "faiss", "transformers"}
HEAVY |= {"sentence_transformers"}

CITATION = {"marker", "document", "source", "title", "page", "start", "end", "quote"}
CITATION |= {"passage_start", "passage_end", "score"}
ANSWER = {"question", "language", "answered", "text", "mode", "citations", "passages"}
ANSWER |= {"confidence", "seconds", "notice", "claims", "removed_markers", "understood"}
ANSWER |= {"disagreements"}
PASSAGE = {"document", "source", "start", "end", "text", "score", "channels"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["ask", "--help"], ["eval", "--help"], ["frob"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import sys
from ui.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print({HEAVY!r} & set(sys.modules), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert result.stderr.splitlines()[-1] == "set()"


@pytest.mark.parametrize("question", [ENGLISH, GERMAN])
def test_ask_answers_with_citations(question: str, beleg: Run, bot: Chatbot) -> None:
    result = beleg("ask", question)
    assert result.returncode == 0
    # No bars, warnings or loading reports where stderr is not a terminal.
    assert result.stderr == ""
    answer = bot.ask(question)
    assert answer.text in result.stdout
    assert SAID in result.stdout
    text = bot.documents[0].text
    for citation in answer.citations:
        assert text[citation.start : citation.end] == citation.quote
        assert f"[{citation.marker}] gipfel.de.txt" in result.stdout
        assert f"{citation.start}–{citation.end}" in result.stdout


def test_ask_json_is_the_contract(beleg: Run, tmp_path: Path) -> None:
    copy = tmp_path / "article.txt"
    copy.write_bytes(EXAMPLE.read_bytes())
    result = beleg("ask", ENGLISH, "--json", "--strict", copy)
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer.keys() == ANSWER
    assert answer["question"] == ENGLISH
    assert (answer["language"], answer["answered"], answer["mode"]) == ("en", True, "extractive")
    assert answer["citations"]
    text = Chatbot.from_paths(copy).documents[0].text
    for citation in answer["citations"]:
        assert citation.keys() == CITATION
        assert text[citation["start"] : citation["end"]] == citation["quote"]
        assert f"[{citation['marker']}]" in answer["text"]
        assert citation["source"] == "article.txt"
    for passage in answer["passages"]:
        assert passage.keys() == PASSAGE
        assert text[passage["start"] : passage["end"]] == passage["text"]


def test_ask_says_when_the_documents_do_not(beleg: Run) -> None:
    result = beleg("ask", NOT_SAID)
    assert result.returncode == 1
    assert "not given as an answer" in result.stdout
    assert "  · gipfel.de.txt, characters " in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 300  # a sentence each, no passages
    answer = json.loads(beleg("ask", NOT_SAID, "--json").stdout)
    assert answer["answered"] is False
    assert answer["citations"] == []
    assert answer["passages"]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that cannot be read."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 64)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing here")
    (folder / "hollow").mkdir()
    (folder / "only").mkdir()
    (folder / "only" / "x.bin").write_bytes(bytes(range(256)) * 64)
    (folder / "only" / "y.txt").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ask", ENGLISH, "BAD/nowhere.txt"], "nowhere.txt"),
        (["ask", ENGLISH, "BAD/empty.txt"], "empty.txt"),
        (["ask", ENGLISH, "BAD/binary.txt"], "binary.txt"),
        (["ask", ENGLISH, "BAD/broken.pdf"], "broken.pdf"),
        (["ask", ENGLISH, "BAD/hollow"], "hollow"),
        (["ask", ENGLISH, "--index", "BAD/nowhere"], "nowhere"),
        (["list", "--index", "BAD/nowhere"], "nowhere"),
        (["ask", ENGLISH, "--model", "BAD/nomodel"], "nomodel"),
        (["ask", ENGLISH, "--model", ""], "--model"),
        (["ask", ENGLISH, ""], "the empty path"),
        (["add", "BAD/empty.txt", "--index", ""], "--index"),
        (["ask", ENGLISH, "BAD/only"], "only/x.bin"),
        (["add", "rag/example", "--index", "BAD/empty.txt"], "empty.txt"),
        (["ask", " \n"], "question"),
        (["ask", "why " * 25_000], "question"),
        (["ask"], "QUESTION"),
        (["ask", ENGLISH, "--frob"], "--frob"),
        (["frob"], "frob"),
        (["ask", ENGLISH, "BAD/\x1b[2J\n\x9b.txt"], "[2J"),
        (["add", "BAD/empty.txt"], "--index"),
        (["chat", "--port", "99999"], "99999"),
        (["chat", "--host", "192.0.2.1"], "192.0.2.1"),
        (["chat", "--host", "0.0.0.0"], "--no-auth"),
        (["chat", "--auth", "name"], "NAME:PASSWORD"),
        (["--host", "0.0.0.0"], "--no-auth"),
        (["--frob"], "--frob"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], says: str, bad: Path, beleg: Run
) -> None:
    result = beleg(*(argument.replace("BAD", str(bad)) for argument in arguments))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("beleg: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert "\x1b" not in result.stderr


def test_a_bad_file_in_a_folder_is_named_and_the_others_answer(
    bad: Path, beleg: Run, tmp_path: Path
) -> None:
    (tmp_path / "article.txt").write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "broken.pdf").write_bytes((bad / "broken.pdf").read_bytes())
    result = beleg("ask", GERMAN, tmp_path)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1
    assert "broken.pdf" in result.stderr
    assert SAID in result.stdout


def test_a_port_in_use_is_told_in_one_line(beleg: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = beleg("chat", "--port", str(port))
    assert result.returncode == 2
    assert result.stderr == f"beleg: port {port} is in use: choose another one with --port\n"


def test_an_index_is_filled_listed_asked_and_emptied(beleg: Run, tmp_path: Path) -> None:
    index = ("--index", tmp_path / "index")
    for _ in range(2):  # The same bytes twice are one document.
        assert beleg("add", EXAMPLE, *index).returncode == 0
    listed = json.loads(beleg("list", *index, "--json", "--text").stdout)
    assert [document["source"] for document in listed] == ["gipfel.de.txt"]
    answer = json.loads(beleg("ask", GERMAN, "--json", *index).stdout)
    assert answer["citations"]
    for citation in answer["citations"]:
        assert citation["document"] == listed[0]["document"]
        assert listed[0]["text"][citation["start"] : citation["end"]] == citation["quote"]
    removed = beleg("remove", "gipfel.de.txt", *index)
    assert (removed.returncode, removed.stdout) == (0, "removed gipfel.de.txt\n")
    assert json.loads(beleg("list", *index, "--json").stdout) == []
    assert beleg("remove", "gipfel.de.txt", *index).returncode == 2
    empty = beleg("ask", GERMAN, *index)
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "is empty: beleg add" in empty.stderr


def test_a_failed_add_leaves_no_index(beleg: Run, tmp_path: Path) -> None:
    assert beleg("add", tmp_path / "nowhere.txt", "--index", tmp_path / "index").returncode == 2
    assert not (tmp_path / "index").exists()


def test_list_and_remove_need_no_encoder(beleg: Run, tmp_path: Path) -> None:
    index = PassageIndex(tmp_path, encoder=TinyEncoder("no/such-model"))
    index.add([EXAMPLE])
    index.close()
    assert "gipfel.de.txt" in beleg("list", "--index", tmp_path).stdout
    assert beleg("remove", "gipfel.de.txt", "--index", tmp_path).returncode == 0


def test_eval_measures_the_bundled_questions(beleg: Run, tmp_path: Path) -> None:
    questions = EXAMPLE.parent / "questions.en.jsonl"
    json_file, html_file = tmp_path / "r.json", tmp_path / "r.html"
    options = ("--json", json_file, "--html", html_file, "--fail-under", "citations_exact=1")
    result = beleg("eval", questions, EXAMPLE, *options)
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(json_file.read_text("utf-8"))
    count = len(questions.read_text("utf-8").splitlines())
    assert report["questions"] == len(report["per_question"]) == count
    assert report["metrics"]["citations_exact"]["value"] == 1
    assert f"{report['metrics']['recall@5']['value']:.3f}" in result.stdout
    assert [group["name"] for group in report["breakdown"]["direction"]] == ["en→de"]
    assert not any(row["error"] for row in report["per_question"])
    # What was not sure enough to be given is known all the same.
    assert all(row["citations"] or row["withheld"] for row in report["per_question"])
    assert "<h1>" in html_file.read_text("utf-8")


def _squad(path: Path, question: str, context: str, answer: str) -> Path:
    answers = [{"text": answer, "answer_start": context.index(answer)}]
    paragraph = {"context": context, "qas": [{"id": "1", "question": question, "answers": answers}]}
    other = {"context": "Kartoffeln kochen zwanzig Minuten.", "qas": []}
    data = {"data": [{"title": "T", "paragraphs": [other, paragraph]}]}
    path.write_text(json.dumps(data), "utf-8")
    return path


def test_eval_asks_in_one_language_over_another(beleg: Run, tmp_path: Path) -> None:
    question = "Where did Ada meet Bob?"
    english = _squad(tmp_path / "en.json", question, "Ada met Bob in Rome.", "Rome")
    text = "Ada traf ihren Freund Bob im letzten Frühling in Rom."
    german = _squad(tmp_path / "de.json", "Wo traf Ada Bob?", text, "Rom")
    file = tmp_path / "r.json"
    result = beleg("eval", english, "--contexts", german, "--json", file)
    assert (result.returncode, result.stderr) == (0, "")
    (row,) = json.loads(file.read_text("utf-8"))["per_question"]
    assert (row["language"], row["document_language"], row["document"]) == ("en", "de", "T#2")
    assert (row["gold"], row["rank"], row["stage"]) == (["Rom"], 1, None)

    data = json.loads(english.read_text("utf-8"))
    paragraph = data["data"][0]["paragraphs"][1]
    paragraph["qas"].append(paragraph["qas"][0] | {"id": "2"})
    paragraph["qas"][0]["answers"] = [{"text": "met", "answer_start": 4}]
    english.write_text(json.dumps(data), "utf-8")
    (tmp_path / "mine.txt").write_text("They all went to Rome in the end.", "utf-8")
    result = beleg("eval", english, tmp_path / "mine.txt", "--json", file)
    assert result.returncode == 0
    assert result.stderr.startswith("beleg: left out, ")
    assert [row["id"] for row in json.loads(file.read_text("utf-8"))["per_question"]] == ["2"]


@pytest.mark.parametrize(
    "given",
    [["q", "--json", "a", "b"], ["q", "a", "--json", "b"], ["--json", "--", "q", "a", "b"]],
)
def test_options_may_stand_between_paths(given: list[str]) -> None:
    from ui.cli import _parser

    options = _parser().parse_args(["ask", *given])
    assert (options.question, options.paths, options.json) == ("q", ["a", "b"], True)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with subprocess.Popen(
        command("ask", ENGLISH, "--json"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            command("--version"), cwd=ROOT, env=environment(), stdout=full, stderr=subprocess.PIPE
        )
    assert result.returncode == 2
    assert result.stderr == b"beleg: cannot write the output: No space left on device\n"


def test_without_standard_streams_the_exit_code_tells() -> None:
    for closed in (">&-", "2>&-"):
        shell = ["bash", "-c", f'"$@" {closed}', "bash", *command("ask", "?", "nowhere.txt")]
        result = subprocess.run(shell, cwd=ROOT, env=environment(), capture_output=True)
        assert result.returncode == 2

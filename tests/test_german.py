"""What goes wrong on the page is said in German on a German page."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

from index.errors import InputError, Words
from index.load import load
from index.store import check_question
from rag.questions import read_questions
from tests.conftest import ROOT
from ui.german import GERMAN, german
from ui.visit import words

MADE_BY = {"InputError", "DamageError", "MismatchError", "ModelError", "Unreadable", "Words"}
REACHED = sorted(
    [
        *(p for p in (ROOT / "index").glob("*.py") if p.stem not in ("check", "embed", "carve")),
        ROOT / "rag" / "questions.py",
        ROOT / "ui" / "visit.py",
    ]
)
"""The page neither repairs nor makes an index, nor loads an encoder: it is there before."""
NOT_REACHED = {
    # Addresses and folders are for the command line alone, contexts and BEIR for beleg eval.
    "load": {"load_url", "_check", "_load_folder", "_fetch", "_address", "_kind_of_page"},
    "local": {"copy"},  # of an index on a server; the page copies none
    "store": {"adding"},  # of paths: the page adds documents
    "questions": {
        "read_questions", "_askable", "_locate", "_across", "_read_beir", "_read_qrels",
    },
    # An address is read, and its packages are found, before the page is there.
    "milvus": {"__init__"}, "postgres": {"__init__"},
}  # fmt: skip


def templates() -> dict[str, str]:
    """What can be said, and where; a template that is put together elsewhere is given as code."""
    found: dict[str, str] = {}
    for file in REACHED:
        tree = ast.parse(file.read_text("utf-8"))
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        left_out = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name in NOT_REACHED.get(file.stem, ())
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or id(node) in left_out or not node.args:
                continue
            if getattr(node.func, "id", None) not in MADE_BY:
                continue
            first = node.args[0]
            options = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
            for option in options:
                said = getattr(option, "value", None)
                if isinstance(option, ast.Name):
                    said = constants.get(option.id)
                if not isinstance(said, str):
                    said = ast.unparse(option)
                found[said] = f"{file.name}:{node.lineno}"
    return found


BILINGUAL = ("phrase(", "room.format(")
"""What begins so is in the page's language already."""
FOREIGN = {
    "UNSUPPORTED": "imported from index.text, whose value is known",
    "error.msg": "of Python's reader of JSON",
    "*answer['error']": "what parsers said in their own process",
}


def test_no_message_lacks_a_german_sentence() -> None:
    found = templates()
    assert len(found) > 80
    lacking = {
        f"{place}: {said}"
        for said, place in found.items()
        if said not in GERMAN and said not in FOREIGN and not said.startswith(BILINGUAL)
    }
    assert lacking == set()


def test_no_german_sentence_is_left_over() -> None:
    known = {*templates(), "is not a text, Markdown, HTML, PDF or DOCX file"}
    known.add("needs more than {} MB of memory to be read")  # put together without memory
    assert set(GERMAN) - known == set()


@pytest.mark.parametrize("template", GERMAN)
def test_both_languages_have_the_same_gaps(template: str) -> None:
    def gaps(text: str) -> list[tuple[str | None, str | None]]:
        return [
            (name, spec) for _, name, spec, _ in string.Formatter().parse(text) if name is not None
        ]

    assert gaps(template) == gaps(GERMAN[template])
    values = [1 for _ in gaps(template)]
    assert german(Words(template, *values))


def test_numbers_and_words_within_words_are_german_too() -> None:
    with pytest.raises(InputError) as told:
        check_question("x" * 12_345)
    assert words(told.value, "de").startswith("die Frage hat 12.345 Zeichen")
    assert "12,345" in words(told.value, "en")
    outer = Words(
        "{}: {} must be text, not {}", Words("{}, line {}", "a", 3), "id", Words("a list")
    )
    assert german(outer) == "a, Zeile 3: id muss Text sein, nicht eine Liste"
    assert str(outer) == "a, line 3: id must be text, not a list"
    assert german(Words("unheard of {}", 1)) == "unheard of 1"
    assert german("text") == "text"  # a document's name, say


def test_a_file_that_cannot_be_read_is_told_by_the_name_it_is_called(tmp_path: Path) -> None:
    file = tmp_path / "kaputt.pdf"
    file.write_bytes(b"%PDF-1.7\nnothing here")  # parsed in a process of its own
    with pytest.raises(InputError) as told:
        load(file, called="kaputt.pdf")
    assert words(told.value, "de") == "kaputt.pdf ist beschädigt oder keine PDF-Datei"
    assert words(told.value, "en") == "kaputt.pdf is damaged, or no PDF file"
    file.write_bytes(b"")
    with pytest.raises(InputError) as told:
        load(file, called="{0}.pdf")  # no gap
    assert words(told.value, "de") == "{0}.pdf ist leer"


def test_a_file_of_questions_too(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"id": "1", "question": 5}', "utf-8")
    with pytest.raises(InputError) as told:
        read_questions(file)
    assert words(told.value, "de").endswith(
        "q.jsonl, Zeile 1: question muss Text sein, nicht eine Zahl"
    )

"""The house: arrows point down only, and README documents every command and option."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from ui.cli import _parser

ALLOWED = {"index": {"index"}, "rag": {"rag", "index"}, "ui": {"ui", "rag", "index"}}


def ours(path: Path) -> set[str]:
    """The top-level packages of ours that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.add(path.parent.name)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found & (ALLOWED.keys() | {"tests"})


@pytest.mark.parametrize("floor", sorted(ALLOWED))
def test_arrows_point_down(floor: str) -> None:
    modules = list((ROOT / floor).glob("*.py"))
    assert len(modules) > 2
    for module in modules:
        assert ours(module) <= ALLOWED[floor], module.name


def test_readme_documents_every_command_and_option() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    subparsers = next(a for a in _parser()._actions if getattr(a, "choices", None))
    commands = dict(subparsers.choices or {})
    assert {"chat", "ask", "add", "list", "remove", "eval"} <= commands.keys()
    for name, parser in commands.items():
        assert f"beleg {name}" in readme
        for action in parser._actions:
            for option in action.option_strings:
                if option.startswith("--") and option != "--help":
                    assert re.search(rf"`[^`]*{option}\b", readme), f"{name} {option}"

"""The house: arrows point down only, and README documents every command and option."""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import ROOT
from ui.cli import _parser

EXTRAS = {
    "index/postgres.py": "postgres",
    "index/milvus.py": "milvus",
    "rag/models.py": "llm",
    "ui/assistant.py": "mcp",
}
"""Modules that are used where an extra is installed, and the extra."""
ALLOWED = {"index": {"index"}, "rag": {"rag", "index"}, "ui": {"ui", "rag", "index"}}


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.add(path.parent.name)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The top-level packages of ours that a module imports."""
    return imported(path) & (ALLOWED.keys() | {"tests"})


@pytest.mark.parametrize("floor", sorted(ALLOWED))
def test_arrows_point_down(floor: str) -> None:
    modules = list((ROOT / floor).glob("*.py"))
    assert len(modules) > 2
    for module in modules:
        assert ours(module) <= ALLOWED[floor], module.name


def test_every_package_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        extra: {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}
        for extra, lines in {"": project["dependencies"], **extras}.items()
    }
    names = packages_distributions()
    for top, extra in (*((floor, "") for floor in ALLOWED), ("tests", "test")):
        for module in (ROOT / top).rglob("*.py"):
            extra_too = EXTRAS.get(module.relative_to(ROOT).as_posix(), extra)
            for package in imported(module) - sys.stdlib_module_names - {*ALLOWED, "tests"}:
                known = {name.lower().replace("_", "-") for name in names.get(package, ())}
                assert known & (declared[""] | declared[extra_too]), f"{module}: {package}"


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def test_readme_documents_every_command_and_option_and_no_others() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    parser = _parser()
    for option in _options(parser):
        assert f"`beleg {option}`" in readme
    commands = next(a.choices for a in parser._actions if isinstance(a.choices, dict))
    assert {"chat", "ask", "add", "list", "remove", "eval"} <= commands.keys()
    rows = dict(re.findall(r"^\| `beleg ([a-z]+)(.*)$", readme, re.MULTILINE))
    assert rows.keys() == commands.keys()
    for name, command in commands.items():
        documented = rows[name]
        if section := re.search(r"\(#([a-z]+)\)", documented):
            level, text = re.split(rf"^(#+) {section[1]}$", readme, flags=re.M | re.I)[1:]
            documented += re.split(rf"^#{{1,{len(level)}}} ", text, flags=re.M)[0]
        assert set(OPTION.findall(documented)) == _options(command), name
        for action in command._actions:
            if not action.option_strings:
                assert str(action.metavar) in rows[name], name


def _options(parser: argparse.ArgumentParser) -> set[str]:
    found = {option for action in parser._actions for option in action.option_strings}
    return {option for option in found if option.startswith("--")} - {"--help"}

"""Beleg as an assistant has it: the SDK's own client, over standard input and output."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from index.store import PassageIndex
from index.types import Document
from rag.chatbot import Chatbot
from tests.conftest import ROOT, Run, command, environment
from tests.tiny import TinyEncoder

pytest.importorskip("mcp.server.mcpserver")
from mcp import Client
from mcp.client.stdio import StdioServerParameters

VAULT = Document("Der Tresor steht im Keller. Er ist grün.", "tresor.txt", "Tresor", "de")
RECIPE = "Die Kartoffeln kochen zwanzig Minuten."
TINY = "from tests.test_assistant import main; main()"

Visitor = Callable[[Client], Coroutine[Any, Any, None]]


def main() -> None:
    """The server over a tiny encoder; arguments: the index's folder, and whether to change it."""
    from ui.assistant import serve
    from ui.visit import House

    folder, changes = sys.argv[1:] or ("", "")
    index = PassageIndex(folder or None, encoder=TinyEncoder())
    index.add(VAULT)
    print("a stray word on standard output")
    sys.stdout.flush()
    serve(House(Chatbot(index), changes=bool(changes)))


def meet(visitor: Visitor, arguments: list[str], mode: str = "auto") -> None:
    """Start a server as assistants do, and have a client talk to it."""

    async def talk() -> None:
        server = StdioServerParameters(
            command=sys.executable, args=arguments, cwd=ROOT, env=environment()
        )
        async with Client(server, mode=mode) as client:
            await visitor(client)

    asyncio.run(asyncio.wait_for(talk(), 300))


async def tools(client: Client) -> dict[str, Any]:
    return {tool.name: tool for tool in (await client.list_tools()).tools}


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool gives; its words, if it says that something is wrong."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        return result.content[0].text  # type: ignore[union-attr]
    return result.structured_content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_assistant_asks_adds_and_removes(mode: str) -> None:
    async def visitor(client: Client) -> None:
        found = await tools(client)
        assert set(found) == {"ask", "documents", "add", "remove"}
        assert found["ask"].input_schema["required"] == ["question"]
        assert found["ask"].annotations.read_only_hint is True
        assert found["remove"].annotations.destructive_hint is True

        answer = await call(client, "ask", question="Wo steht der Tresor?")
        assert answer["passages"][0]["source"] == "tresor.txt"
        for citation in answer["citations"]:
            assert VAULT.text[citation["start"] : citation["end"]] == citation["quote"]
        assert (await call(client, "add", text=RECIPE, title="Rezept"))["added"][0][
            "source"
        ] == "Rezept"
        answer = await call(client, "ask", question="Wie lange kochen die Kartoffeln?")
        assert answer["passages"][0]["source"] == "Rezept"
        assert await call(client, "remove", documents=["tresor.txt"]) == {"removed": ["tresor.txt"]}
        listed = (await call(client, "documents"))["documents"]
        assert [document["source"] for document in listed] == ["Rezept"]

    meet(visitor, ["-c", TINY], mode)


def test_what_is_wrong_is_one_line_for_the_assistant() -> None:
    async def visitor(client: Client) -> None:
        for tool, arguments, words in (
            ("ask", {"question": "  "}, "empty"),
            ("ask", {"question": "x" * 100_000}, "100,000"),
            ("add", {"text": " \u200b "}, "empty"),
            ("remove", {"documents": ["tresor.txt", "nowhere.txt"]}, "nowhere.txt"),
        ):
            said = await call(client, tool, **arguments)
            assert words in said
            assert "\n" not in said
        assert "question" in await call(client, "ask", question=["a"])
        listed = (await call(client, "documents"))["documents"]
        assert [document["source"] for document in listed] == ["tresor.txt"]

    meet(visitor, ["-c", TINY])


@pytest.mark.parametrize("changes", ["", "yes"])
def test_an_index_on_disk_is_changed_only_where_that_is_allowed(
    tmp_path: Path, changes: str
) -> None:
    async def visitor(client: Client) -> None:
        assert ("add" in await tools(client)) == ("remove" in await tools(client)) == bool(changes)
        said = await call(client, "add", text=RECIPE, title="Rezept")
        assert ("added" in said) == bool(changes)
        assert len((await call(client, "documents"))["documents"]) == 1 + bool(changes)

    meet(visitor, ["-c", TINY, str(tmp_path / "index"), changes])
    held = PassageIndex(tmp_path / "index", encoder=TinyEncoder()).documents
    assert [d.source for d in held] == ["tresor.txt", *(["Rezept"] if changes else [])]


def test_the_command_serves_the_example_and_ends_with_its_client() -> None:
    async def visitor(client: Client) -> None:
        answer = await call(client, "ask", question="Why did Russia recall its ambassador?")
        assert answer["answered"] is True
        assert answer["citations"][0]["source"] == "gipfel.de.txt"
        assert any("„Killer“" in citation["quote"] for citation in answer["citations"])

    meet(visitor, command("mcp")[1:])


def test_the_command_says_nothing_and_ends_where_standard_input_ends() -> None:
    found = subprocess.run(
        [sys.executable, "-c", TINY], cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "a stray word on standard output\n"


def test_without_the_extra_it_is_one_line(beleg: Run, tmp_path: Path) -> None:
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "__init__.py").write_text("", "utf-8")  # as if it were an older one
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    found = beleg("mcp", PYTHONPATH=path)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr == "beleg: beleg mcp takes the extra 'mcp': pip install 'beleg[mcp]'\n"

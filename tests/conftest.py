"""What several test files need: the real chatbot on the example, the command, a browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rag.chatbot import EXAMPLE, Chatbot

ROOT = Path(__file__).parent.parent

os.environ["BELEG_CONFIG"] = str(ROOT / "no settings")
"""The settings of whoever runs the tests must not change what Beleg says."""

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
"""Workers, and the processes that they start, share the processors."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def command(*arguments: str | Path) -> list[str]:
    """The command line that runs ``beleg`` from this checkout."""
    return [sys.executable, "-m", "ui.cli", *map(str, arguments)]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment, without settings that would change what Beleg says."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BELEG_")}
    kept["BELEG_CONFIG"] = os.environ["BELEG_CONFIG"]
    return kept | {"PYTHONIOENCODING": "utf-8"} | extra


@contextmanager
def chat(*arguments: str | Path, **env: str) -> Iterator[str]:
    """The address of the chat, started as ``beleg``, ended with Ctrl-C, and silent meanwhile."""
    with subprocess.Popen(
        command("chat", *arguments),
        cwd=ROOT,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        if found is None:
            process.kill()
            pytest.fail(f"no address but {line!r}; {process.stderr.read()}")
        try:
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(30) == 130
            finally:
                process.kill()  # or leaving the with statement would wait for ever
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""


@pytest.fixture(scope="session")
def bot() -> Chatbot:
    """The bundled encoder on the bundled article; tests must not change it."""
    return Chatbot.from_paths(EXAMPLE)


@pytest.fixture(scope="session")
def beleg() -> Run:
    """Run ``beleg`` with these arguments in a process of its own."""

    def run(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=ROOT,
            env=environment(**env),
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the chat keeps what is uploaded."""
    return tmp_path_factory.mktemp("tmp")


@pytest.fixture(scope="module")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the chat appends verdicts to."""
    return tmp_path_factory.mktemp("kept") / "feedback.jsonl"


@pytest.fixture(scope="module")
def address(uploads: Path, feedback: Path) -> Iterator[str]:
    """The chat on the bundled example."""
    with chat("--feedback", feedback, TMPDIR=str(uploads)) as found:
        yield found
    assert list(uploads.rglob("*.txt")) == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; tests are skipped without it, but fail under CI."""
    sync_api = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        reason = "Chromium is missing: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()

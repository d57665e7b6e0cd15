"""Parsing with a time and a memory limit, in a child process.

Crafted files can hang or bloat a parser, and so take down only the child. To start it costs
a tenth of a second, for HTML a quarter; markup too short to take its parser much longer,
however crafted, is parsed in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from index.errors import Unreadable
from index.parse import Raw, damaged, parse

PARSE_SECONDS = 60.0
"""How long the child process may parse one file."""
PARSE_MEMORY = 1 << 30
"""How many bytes of address space the child process may use."""
APART_FROM = {"markdown": 5_000, "html": 100_000}
"""Markup of so many bytes is parsed in the child process too; less takes a second at most.
Markdown's parser takes the square of the length where brackets are never closed."""


def parse_safely(kind: str, data: bytes) -> Raw:
    """``parse``, in the child unless that is needless.

    Raises Unreadable for what ``parse`` does, and where the child did not answer or start.
    """
    harmless = len(data) < APART_FROM.get(kind, 0)
    return parse(kind, data) if harmless else _parse_apart(kind, data)


def _parse_apart(kind: str, data: bytes) -> Raw:
    """``parse`` in a child process, which answers in JSON or is ended."""
    start = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    start += f"from {__name__} import serve; serve()"
    root = str(Path(__file__).resolve().parents[1])
    search_path = json.dumps([*filter(None, sys.path), root])
    # -I: neither PYTHON* variables nor the current folder have a say in what the child runs.
    command = [sys.executable, "-I", "-c", start, search_path, kind]
    limits = [str(PARSE_SECONDS), str(PARSE_MEMORY)]
    try:
        child = subprocess.run(
            command + limits,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PARSE_SECONDS,
            check=False,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        answer = json.loads(child.stdout)
    except OSError as error:
        raise Unreadable(
            "cannot be read: its parser cannot be started ({})", error.strerror
        ) from None
    except subprocess.TimeoutExpired:
        raise Unreadable("could not be read within {:g} seconds", PARSE_SECONDS) from None
    except ValueError:  # no answer: the parser crashed, or the system ended it
        raise Unreadable("{}: its parser broke off", damaged(kind)) from None
    if "error" in answer:
        raise Unreadable(*answer["error"])
    return Raw(answer["title"], answer["pages"])


def serve() -> None:
    """The child's side of it: bytes on standard input, JSON on standard output."""
    kind, seconds, memory = sys.argv[2:5]
    _limit_resources(float(seconds), int(memory))
    output = os.dup(1)
    os.dup2(2, 1)  # a parser's own chatter must not end up in the answer
    try:
        raw = parse(kind, sys.stdin.buffer.read())
        answer = json.dumps({"title": raw.title, "pages": raw.pages})
    except Unreadable as error:
        answer = json.dumps({"error": [error.template, *error.values]})
    except MemoryError:
        answer = (
            f'{{"error": ["needs more than {{}} MB of memory to be read", {int(memory) >> 20}]}}'
        )
    with open(output, "w", encoding="ascii") as stream:
        stream.write(answer)
        stream.flush()
        os._exit(0)  # the parsers' finalizers have nothing to add, and can crash


def _limit_resources(seconds: float, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: only the time limit holds
        return
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),  # ends the child if its parent was killed
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except (OSError, ValueError):  # macOS knows RLIMIT_AS but does not take it
            continue

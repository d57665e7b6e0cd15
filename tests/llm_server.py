"""A real HTTP server that speaks OpenAI's chat completions, and plays the faults it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    ``content`` is what the model says, or with ``raw`` the whole body; a ``status`` that is
    no success says it in an error. ``hang`` sends a byte now and then, and no end;
    ``cut`` closes the connection without a word.
    """

    content: str | None = None
    status: int = 200
    raw: bool = False
    hang: bool = False
    cut: bool = False


@dataclass
class Server:
    """The running server: what it says to each request, and what it was sent."""

    address: str = ""
    say: Callable[[dict[str, Any]], Reply] = lambda request: Reply("")
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server on a free port."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(request)
            server.headers.append({name.lower(): held for name, held in self.headers.items()})
            reply = server.say(request)
            if reply.cut:
                self.close_connection = True
                return
            body = (
                (reply.content or "").encode() if reply.raw else json.dumps(_body(reply)).encode()
            )
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(10**9 if reply.hang else len(body)))
            self.end_headers()
            while reply.hang and not server.closing.wait(0.05):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    break
            self.close_connection = reply.hang
            if not reply.hang:
                self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.address = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()


def _body(reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        return {"error": {"message": reply.content, "type": "x", "param": None, "code": None}}
    message = {"role": "assistant", "content": reply.content}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }

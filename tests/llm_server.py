"""A real HTTP server that speaks OpenAI's chat completions and Ollama's chat, whole or as a
stream, and plays the faults it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = 7
"""Characters of each piece of a stream."""


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    ``content`` is what the model says, or with ``raw`` the whole body; a ``status`` that is
    no success says it in an error. ``hang`` sends a byte now and then, and no end;
    ``cut`` closes the connection without a word. In a stream both come after the content.
    ``endless`` streams the content again and again; ``finish`` is why the model ended,
    None where the stream ends without saying.
    """

    content: str | None = None
    status: int = 200
    raw: bool = False
    hang: bool = False
    cut: bool = False
    endless: bool = False
    finish: str | None = "stop"


@dataclass
class Server:
    """The running server: what it says to each request, and what it was sent.

    ``address`` is that of OpenAI's interface, ``root`` that of Ollama's.
    """

    address: str = ""
    root: str = ""
    say: Callable[[dict[str, Any]], Reply] = lambda request: Reply("")
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    """A stream was left before its end."""


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server on a free port."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # whoever asked has gone
                super().handle()

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(request)
            server.headers.append({name.lower(): held for name, held in self.headers.items()})
            reply = server.say(request)
            ollama = self.path == "/api/chat"
            if reply.status == 200 and not reply.raw and request.get("stream", ollama):
                self.stream(reply, ollama)
            elif reply.cut:
                self.close_connection = True
            else:
                self.whole(reply, ollama)

        def whole(self, reply: Reply, ollama: bool) -> None:
            said = json.dumps(_error(reply, ollama) if reply.status != 200 else _body(reply))
            body = ((reply.content or "") if reply.raw else said).encode()
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

        def stream(self, reply: Reply, ollama: bool) -> None:
            self.send_response(200)
            kind = "application/x-ndjson" if ollama else "text/event-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            content = reply.content or ""
            pieces = [content[i : i + PIECE] for i in range(0, len(content), PIECE)]
            try:
                while True:
                    for piece in pieces:
                        self.chunk(_piece(piece, None, ollama))
                    if not reply.endless or server.closing.is_set():
                        break
                while reply.hang and not server.closing.wait(0.05):
                    self.chunk(" " if ollama else ": wait\n\n")
                if reply.cut or reply.hang:
                    self.close_connection = True
                    return
                if reply.finish:
                    self.chunk(_piece("", reply.finish, ollama))
                if not ollama:
                    self.chunk("data: [DONE]\n\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:  # whoever asked has gone
                server.gone.set()
                self.close_connection = True

        def chunk(self, text: str) -> None:
            body = text.encode()
            self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
            self.wfile.flush()

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.root = f"http://127.0.0.1:{http.server_address[1]}"
    server.address = f"{server.root}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()


def _error(reply: Reply, ollama: bool) -> dict[str, Any]:
    if ollama:
        return {"error": reply.content}
    return {"error": {"message": reply.content, "type": "x", "param": None, "code": None}}


def _piece(text: str, finish: str | None, ollama: bool) -> str:
    if ollama:
        held = {
            "model": "tiny",
            "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": text},
            "done": finish is not None,
            "done_reason": finish,
        }
        return json.dumps(held) + "\n"
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": text},
        "finish_reason": finish,
    }
    held = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
    return f"data: {json.dumps(held | {'choices': [choice]})}\n\n"


def _body(reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.content}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "finish_reason": reply.finish, "message": message}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }

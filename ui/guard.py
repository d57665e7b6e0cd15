"""What keeps the page safe at the edge: names, origins, sizes, and what a browser may do."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ui.phrases import phrase, preferred

UPLOAD = 50_000_000
"""The most bytes of one uploaded file."""
REQUEST = 200_000_000
"""The most bytes of one upload, of several files."""
BODY = 20_000_000
"""The most bytes of any other request: pasted text is the longest."""
DISK = 2_000_000_000
"""The most bytes that uploads take on disk, all visitors together."""
QUEUE = 64
"""So many questions may wait."""
VISITS = 1000
"""So many visits are remembered; the oldest is forgotten first."""

# Gradio's page needs inline code; but nothing may come from or go to another host.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "base-uri 'self'; form-action 'self'; object-src 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]

_PLAIN = b"text/plain; charset=utf-8"

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach what listens on ``host``."""
    address = socket.getaddrinfo(host, None)[0][4][0]
    return ipaddress.ip_address(address).is_loopback


def names(host: str) -> list[str]:
    """The names under which the page answers: while it listens on this computer alone, only
    those of this computer.

    A foreign page whose name leads here (DNS rebinding) could read along otherwise.
    """
    if not is_loopback(host):
        return ["*"]
    return ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host]


class Guard:
    """ASGI middleware: refuses, in words, what comes from a foreign page or is too large, puts
    into words what Gradio refuses, and confines the browser to this host.

    The words are in the language that the browser asks for. ``folder`` is where uploads are kept.
    """

    def __init__(self, app: App, folder: str) -> None:
        self.app = app
        self.folder = Path(folder)
        self._uploads = 0
        self._reserved = 0
        """Bytes that the uploads under way may still take."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                if message["status"] >= 400 and _is_upload(scope):
                    # Or the server would go on taking in what it has refused.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        headers: dict[bytes, bytes] = dict(scope["headers"])
        language = preferred(headers.get(b"accept-language", b"").decode("latin-1"))
        problem = self._problem(scope, headers, language)
        if problem is not None:
            await _refuse(with_policy, *problem)
            return
        limit = REQUEST if _is_upload(scope) else BODY
        taken = 0
        parts = _Parts(headers) if _is_upload(scope) else None

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _TooLarge
            if parts is not None and message["type"] == "http.request":
                parts.met(message)
            return message

        reworded = False

        async def in_words(message: Message) -> None:
            nonlocal reworded
            if message["type"] == "http.response.start" and taken <= limit:
                answer = _reworded(scope, headers, message["status"], taken, language)
                if answer is not None:
                    reworded = True
                    await _refuse(with_policy, *answer)
            if taken <= limit and not reworded and not (parts and parts.broken):
                await with_policy(message)

        reserved = _most(scope, headers)
        self._uploads += _is_upload(scope)
        self._reserved += reserved
        try:
            await self.app(scope, counted, in_words)
        except (_TooLarge, _Broken):
            pass
        finally:
            self._uploads -= _is_upload(scope)
            self._reserved -= reserved
            if _is_upload(scope) and not self._uploads:
                _sweep(self.folder)
        if taken > limit:
            await _refuse(with_policy, 413, _too_large(limit, language))
        elif parts and parts.broken:
            await _refuse(with_policy, 400, phrase("broken upload", language))

    def _problem(
        self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes], language: str
    ) -> tuple[int, str] | None:
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        ours = {host, headers.get(b"x-forwarded-host", b"").decode("latin-1")}
        foreign = origin and _netloc(origin) not in ours - {""}
        if foreign and scope["method"] not in ("GET", "HEAD"):
            return 403, phrase("foreign page", language)
        limit = REQUEST if _is_upload(scope) else BODY
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return 413, _too_large(limit, language)
        most = _most(scope, headers)
        if most and _size(self.folder) + self._reserved + most > DISK:
            return 507, phrase("no upload room", language)
        return None


class _TooLarge(Exception):
    """More has come than a request may hold."""


class _Broken(Exception):
    """An upload has ended before its end, or holds no file."""


class _Parts:
    """Whether an upload is whole: Gradio takes what came of a file that was cut off."""

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        found = re.search(rb'boundary="?([^";]+)', headers.get(b"content-type", b""))
        self._end = b"--" + found[1].strip() + b"--" if found else b""
        self._tail = b""
        self._any = False
        self.broken = False

    def met(self, message: Message) -> None:
        """The next piece of it. Raises _Broken."""
        held = self._tail + message.get("body", b"")
        self._any |= b"\r\n\r\n" in held  # the end of a part's headers
        self._tail = held[-len(self._end) - 4 :]
        if not message.get("more_body") and not (self._any and self._end in self._tail):
            self.broken = True
            raise _Broken


def _too_large(limit: int, language: str) -> str:
    return phrase("too much at once", language).format(limit // 1_000_000)


def _reworded(
    scope: MutableMapping[str, Any],
    headers: dict[bytes, bytes],
    status: int,
    taken: int,
    language: str,
) -> tuple[int, str, bytes] | None:
    """What is said instead of Gradio's words: where a file is too large or cannot be taken, or the
    queue is full; so many bytes have been ``taken``."""
    if status in (400, 413) and _is_upload(scope):
        if status == 413 and taken > UPLOAD:
            said = phrase("file too large", language).format(UPLOAD // 1_000_000)
            return 413, said, _PLAIN
        # To Gradio a name with a line's end in it is too large, too.
        return 400, phrase("unreadable upload", language), _PLAIN
    if status != 503 or not any(part in scope["path"] for part in ("/queue/join", "/call/")):
        return None
    # To 503 Gradio's page has words of its own, in English; its client for Python knows just that.
    status = 429 if b"origin" in headers else 503
    return status, json.dumps({"detail": phrase("busy", language)}), b"application/json"


def _is_upload(scope: MutableMapping[str, Any]) -> bool:
    return bool(scope["path"].rstrip("/").endswith("/upload"))


def _most(scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> int:
    """The most bytes that a request can leave on disk."""
    if not _is_upload(scope):
        return 0
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else REQUEST


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _sweep(folder: Path) -> None:
    """Remove what uploads that broke off have left: whole ones lie in folders of their own."""
    for left in folder.iterdir():
        if left.is_file():
            left.unlink(missing_ok=True)


def _size(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size
            except OSError:  # it has just been cleared away
                continue
    return total


async def _refuse(send: Send, status: int, words: str, kind: bytes = _PLAIN) -> None:
    body = words.encode()
    headers = [(b"content-type", kind)]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""What reaches the chat from outside: foreign pages, hostile names, and too much of anything."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rag.models import is_this_computer
from ui import guard
from ui.phrases import phrase

pytest.importorskip("gradio")

BOUNDARY = "beleg"
UPLOAD = "/gradio_api/upload"
MIB = 1 << 20


def part(name: bytes, data: bytes) -> bytes:
    head = b'Content-Disposition: form-data; name="files"; filename="%s"\r\n\r\n' % name
    return b"--beleg\r\n" + head + data + b"\r\n"


WHOLE = part(b"a.txt", b"x") + b"--beleg--\r\n"
MULTIPART = (b"content-type", b"multipart/form-data; boundary=beleg")


def post(address: str, body: Any, **headers: str) -> tuple[int, str]:
    """Status and words of an upload; ``body`` may be an iterator, which is sent in chunks."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
    held = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    with suppress(BrokenPipeError, ConnectionResetError):  # refused before all is sent
        connection.request("POST", UPLOAD, body=body, headers=held)
    try:
        reply = connection.getresponse()
        return reply.status, reply.read().decode("utf-8", "replace")
    except (TimeoutError, ConnectionError):
        return 0, ""
    finally:
        connection.close()


def size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it has just been swept away
            total += file.lstat().st_size * file.is_file()
    return total


def hostile_names() -> Iterator[bytes]:
    pieces = [
        b"../../etc/passwd", b"..\\..\\windows\\x", b"/etc/cron.d/x", b"C:\\x", b"a\0b.txt", b"",
        b".",
        b"..", b"~/.ssh/id", b"-rf", b"|id", b"`id`", b"$(id)", b"<svg onload=alert(1)>.txt",
        b"%2e%2e%2f", b"\xff\xfe.txt", b"a" * 300, "\u202ecod.txt".encode(), b"CON.txt", b"x.txt ",
    ]  # fmt: skip
    for first, second in itertools.product(pieces, [b"", b".txt", b"/x.txt", b"\\..\\x.md"]):
        yield first + second
    for number in range(32):
        yield bytes([number]) + b"x.txt"
    for number in range(128, 256):
        yield b"x" + bytes([number]) + b"/../" + bytes([number]) + b".txt"


def test_hostile_names_stay_in_their_folder(address: str, uploads: Path) -> None:
    names = list(hostile_names())
    assert len(names) >= 200
    before = set(uploads.parent.iterdir()), set(uploads.iterdir())
    (folder,) = uploads.glob("beleg-*")
    for name in names:
        status, words = post(address, part(name, b"hello") + b"--beleg--\r\n")
        assert status in (200, 400), name  # what follows a line's end is no name
        if status == 400:
            assert words == phrase("unreadable upload", "en"), name
    assert (set(uploads.parent.iterdir()), set(uploads.iterdir())) == before
    for path in folder.rglob("*"):
        assert path.resolve().is_relative_to(folder.resolve())
        assert not path.is_symlink()
    assert size(folder) < 200 * len(names)


@pytest.mark.parametrize(("over", "status"), [(0, 200), (1, 413)])
def test_one_byte_too_many_is_refused(address: str, uploads: Path, over: int, status: int) -> None:
    data = b"x" * (guard.UPLOAD + over)
    found, words = post(address, part(b"big.txt", data) + b"--beleg--\r\n")
    assert found == status
    assert ("50 MB at most" in words) == bool(over)
    assert size(uploads) < 2 * guard.UPLOAD


@pytest.mark.parametrize("several", [False, True])
def test_an_endless_stream_is_cut_off(address: str, uploads: Path, several: bool) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        if not several:
            yield part(b"endless.txt", b"")[:-2]
        while sent < 10_000 * MIB:
            yield part(b"one.txt", b"y" * MIB) if several else b"y" * MIB
            sent += MIB
            assert size(uploads) < 2 * guard.UPLOAD + guard.REQUEST

    before = size(uploads)
    status, words = post(address, endless())
    assert status == 413
    assert "MB" in words
    assert sent < guard.REQUEST + 64 * MIB
    assert size(uploads) <= before


def test_a_length_that_is_too_large_is_refused_in_words(address: str) -> None:
    connection = HTTPConnection(urlsplit(address).netloc, timeout=30)
    for path, limit in ((UPLOAD, guard.REQUEST), ("/gradio_api/queue/join", guard.BODY)):
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(10_000_000_000))
        connection.endheaders()
        reply = connection.getresponse()
        assert reply.status == 413
        assert f"{limit // 1_000_000} MB" in reply.read().decode()
        connection.close()


BROKEN = [
    b"",
    b"--beleg",
    b"--beleg--\r\n",
    b"nonsense",
    b"--beleg\r\nContent-Disposition: form-data\r\n\r\nx\r\n--beleg--\r\n",
    part(b"cut.txt", b"x" * 1000)[:-300],
    b"--beleg\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_body_is_refused_and_leaves_nothing(
    address: str, uploads: Path, body: bytes
) -> None:
    before = size(uploads)
    status, words = post(address, body)
    assert status == 400
    assert len(words.split()) > 3
    assert "Traceback" not in words
    assert size(uploads) <= before


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://[", 403), (None, 200), ("self", 200)],
)
def test_other_pages_may_not_post(address: str, origin: str | None, status: int) -> None:
    headers = {}
    if origin is not None:
        headers["Origin"] = address.rstrip("/") if origin == "self" else origin
    found, _ = post(address, part(b"a.txt", b"hello") + b"--beleg--\r\n", **headers)
    assert found == status


def test_without_room_uploads_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "a").write_bytes(b"x" * 110)
    monkeypatch.setattr(guard, "REQUEST", 100)
    assert _ask(tmp_path, UPLOAD) == 200
    monkeypatch.setattr(guard, "DISK", 200)
    assert _ask(tmp_path, UPLOAD) == 507
    assert _ask(tmp_path, "/other") == 200


@pytest.mark.parametrize(("length", "taken"), [(None, 2), (len(WHOLE), 4)])
def test_uploads_at_once_have_no_more_room_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int | None, taken: int
) -> None:
    monkeypatch.setattr(guard, "REQUEST", 2 * len(WHOLE))
    monkeypatch.setattr(guard, "DISK", 4 * len(WHOLE))
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await asyncio.sleep(0.05)  # the others are let in, or not
        Path(tempfile.mkdtemp(dir=tmp_path), "file").write_bytes(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": WHOLE, "more_body": False}

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    async def uploads(held: guard.Guard, number: int) -> None:
        headers = [MULTIPART]
        headers += [(b"content-length", str(length).encode())] if length else []
        scopes = [
            {"type": "http", "method": "POST", "path": UPLOAD, "headers": headers}
            for _ in range(number)
        ]
        await asyncio.gather(*(held(scope, receive, send) for scope in scopes))

    async def main() -> None:
        held = guard.Guard(app, str(tmp_path))
        await uploads(held, 8)
        assert sorted(statuses) == [200] * taken + [507] * (8 - taken)
        assert size(tmp_path) <= guard.DISK
        monkeypatch.setattr(guard, "DISK", size(tmp_path) + guard.REQUEST)
        await uploads(held, 1)  # what was kept for them is free again
        assert statuses[-1] == 200

    asyncio.run(main())


def test_what_broke_off_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = tmp_path / "whole" / "a.txt"
    for path in (whole, tmp_path / "tmpleft"):
        path.write_text("x", "utf-8")
    _ask(tmp_path, "/other")
    assert len(list(tmp_path.iterdir())) == 2
    _ask(tmp_path, UPLOAD)
    assert whole.exists()
    assert not (tmp_path / "tmpleft").exists()


@pytest.mark.parametrize(("language", "words"), [("de-AT,en;q=0.5", "warten"), ("", "waiting")])
@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("/gradio_api/queue/join", "http://x", 429),  # Gradio's page shows what comes with that
        ("/gradio_api/queue/join", "", 503),
        ("/gradio_api/call/ask", "", 503),
    ],
)
def test_that_the_queue_is_full_is_said_in_the_visitors_words(
    tmp_path: Path, language: str, words: str, path: str, origin: str, status: int
) -> None:
    headers = {"accept-language": language, "host": "x"} | ({"origin": origin} if origin else {})
    found, body = _reply(tmp_path, path, 503, headers)
    assert found == status
    assert words in json.loads(body)["detail"]


def test_other_answers_are_left_as_they_are(tmp_path: Path) -> None:
    assert _reply(tmp_path, "/gradio_api/queue/join", 500, {}) == (500, b"as it was")
    assert _reply(tmp_path, "/other", 503, {}) == (503, b"as it was")
    assert _reply(tmp_path, "/other", 413, {}) == (413, b"as it was")


def _ask(folder: Path, path: str) -> int:
    """The status of a POST to an application behind the guard that answers 200."""
    return _reply(folder, path, 200, {})[0]


def _reply(folder: Path, path: str, answer: int, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of a POST to an application behind the guard that gives that answer."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": answer, "headers": []})
        await send({"type": "http.response.body", "body": b"as it was"})

    async def receive() -> Any:
        return {"type": "http.request", "body": WHOLE, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    held = [MULTIPART] + [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": held}
    asyncio.run(guard.Guard(app, str(folder))(scope, receive, send))
    names = dict(sent[0]["headers"])
    assert b"default-src 'self'" in names[b"content-security-policy"]
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize(
    ("netloc", "here"),
    [
        ("localhost:11434", True), ("127.0.0.1", True), ("[::1]:80", True), ("", False),
        ("api.openai.com", False), ("192.0.2.1:8000", False), ("localhost.evil.example", False),
    ],
)  # fmt: skip
def test_which_addresses_are_this_computers(netloc: str, here: bool) -> None:
    assert is_this_computer(f"//{netloc}") is here


@pytest.mark.parametrize(
    ("local", "url", "said", "unsaid"),
    [
        (True, None, "nichts verlässt diesen Computer", "Beleg läuft"),
        (False, None, "auf dem Beleg läuft", "diesen Computer"),
        (True, "https://llm.example/v1", "(bei llm.example)", "nichts verlässt"),
        (True, "http://localhost:8000/v1", "(auf diesem Computer)", "nichts verlässt"),
        (False, "http://localhost:8000/v1", "(auf dem Computer, auf dem Beleg läuft)", "diesem"),
        (True, "", "(beim Anbieter", "nichts verlässt"),
    ],
)
def test_the_page_says_where_what_is_asked_goes(
    local: bool, url: str | None, said: str, unsaid: str
) -> None:
    from rag.llm import LanguageModel
    from ui.app import _place
    from ui.render import masthead

    llm = LanguageModel("openai:tiny", url=url or "http://x/v1") if url is not None else None
    if llm is not None and not url:
        llm.host = ""  # of a provider whose client does not say
    here = "this computer" if local else "that computer"
    where = _place(llm.host, here, "de") if llm else ""
    head = masthead(llm, "de", local=local, where=where)
    assert said in head
    assert unsaid not in head

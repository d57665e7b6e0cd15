"""From paths and URLs to a ``Document`` each: what is read, how, and what is refused and why."""

from __future__ import annotations

import http.client
import os
import re
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from index.errors import InputError, Unreadable
from index.language import detect_language
from index.parse import Raw
from index.progress import clear_bars, progress_bar
from index.sandbox import parse_safely
from index.text import (
    MAX_TEXT,
    UNSUPPORTED,
    bom,
    canonical,
    declared_charset,
    decode,
    join_pages,
    sensible_title,
    title_of,
    too_large,
    unmarked_utf16,
)
from index.types import Document

if TYPE_CHECKING:
    from tqdm import tqdm

MAX_MARKUP = 20_000_000
"""The most bytes of a Markdown or HTML file; their parsers need many times that in memory."""
MAX_FILE = 200_000_000
"""The most bytes of a PDF or DOCX file, pictures included."""
URL_SECONDS = 30.0
"""How long fetching one URL may take, from first to last byte."""
HEAD = 8192
"""So many bytes of a file say what it is."""
REASONS = 3
"""So many reasons are named why nothing in a folder can be read."""

_SUFFIXES = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
}
SUFFIXES = tuple(_SUFFIXES)
"""The suffixes that say what a file is."""
_CONTENT_TYPES = {
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
}
_LIMITS = {
    "pdf": MAX_FILE,
    "docx": MAX_FILE,
    "html": MAX_MARKUP,
    "markdown": MAX_MARKUP,
    "text": MAX_TEXT,
}


# ---- What others call ------------------------------------------------------------------------


def load(path: str | Path, *, called: str = "") -> Document:
    """Read one file; its name becomes the document's source.

    Raises InputError, one line that names the file, or what it is ``called``, when it cannot be
    read.
    """
    path = Path(path)
    return _load_file(path, source=_printable(path.name), called=called)


def load_url(url: str) -> Document:
    """Fetch and read one http(s) address; the server's content type says how.

    Raises InputError for other schemes, errors of the network and contents of other types.
    """
    name = _printable(re.sub(r"//[^/]*@", "//", url))  # never repeat a password
    try:
        data, kind, charset = _fetch(url)
        title = _printable(_path_of(url).stem) or name
        document = _document(data, kind=kind, source=name, fallback=title, charset=charset)
        return replace(document, path=name)
    except Unreadable as error:
        raise InputError("{} {}", name, error) from None


def has_changed(path: str, raw: str) -> bool:
    """Whether a file can be read and its bytes have another SHA-256."""
    try:
        return sha256(_read(Path(path))[0]).hexdigest() != raw
    except Unreadable:
        return False


class Shelf(Protocol):
    """What was read in earlier calls."""

    def source_of(self, path: str) -> str | None:
        """The source of what was read from a real path or an address."""

    def has(self, source: str) -> bool:
        """Whether something has that source."""

    def unchanged(self, path: str, raw: str) -> Document | None:
        """What was read from a file, if the SHA-256 of its bytes is still the same."""


def load_all(
    paths: Iterable[str | Path],
    *,
    on_skip: Callable[[str], None],
    on_bad: Callable[[str], None] | None = None,
    urls: bool = False,
    shelf: Shelf | None = None,
) -> Iterator[Document]:
    """Read files, folders (recursively, in the order of names) and, with ``urls``, URLs.

    A file that stands at several places is read once, whatever the links that lead to it.
    Its source is its name, or for one in a given folder the path from there; where another
    file has that source already, it is as much more of its own path as makes it different.
    A file on the ``shelf`` keeps its source, and is not parsed again while its bytes are
    the same.

    Raises InputError for a path named here that cannot be read; that one does not exist is
    found before the first is read. With ``on_bad``, that is told of them in one line each
    instead, and the others are read. A file in a folder that cannot be read, or a link that
    leads out of the folder, goes to ``on_skip`` as one line and is left out; hidden ones
    are passed over without a word.
    """
    given = list(paths)
    if on_bad is None:
        for path in given:
            _check(path, urls)
    sources = _Sources(shelf)
    folders = {path: _walk(Path(path)) for path in given if os.path.isdir(path)}
    steps = sum(len(folders[path].files) if path in folders else 1 for path in given)
    with progress_bar("reading", steps, unit="file") as bar:

        def skip(line: str) -> None:
            clear_bars()
            on_skip(line)

        for path in given:
            try:
                if path in folders:
                    yield from _load_folder(folders[path], skip, sources, bar)
                else:
                    yield from _load_named(path, urls, sources, bar)
            except InputError as error:
                if on_bad is None:
                    raise
                on_bad(str(error))


def _check(path: str | Path, urls: bool) -> None:
    """Raise InputError where a path is certain to be of no use."""
    if _is_url(path):
        if not urls:
            raise InputError("{} is a web address, not a file", _printable(str(path)))
    elif not os.path.exists(path):
        raise InputError("{} does not exist", _printable(str(path)) or "the empty path")


def _load_named(
    path: str | Path, urls: bool, sources: _Sources, bar: tqdm[Any]
) -> Iterator[Document]:
    """What is at a path or an address, unless it was read before. Raises InputError."""
    bar.set_postfix_str(_printable(str(path)), refresh=False)
    _check(path, urls)
    if _is_url(path):
        if sources.is_new(str(path)):
            document = load_url(str(path))
            sources.add(document)
            yield document
    elif sources.is_new(os.path.realpath(path)):
        yield _load_as(Path(path), 1, sources)
    bar.update()


# ---- Files and folders -----------------------------------------------------------------------


class _Sources:
    """What has been read in one call of ``load_all``, and which file has which source."""

    def __init__(self, shelf: Shelf | None) -> None:
        self.shelf = shelf
        self._taken: set[str] = set()
        self._source_of: dict[str, str] = {}
        self._read: set[str] = set()

    def is_new(self, real: str) -> bool:
        """Whether this call has not met the file or address before; from now on it has."""
        new = real not in self._read
        self._read.add(real)
        return new

    def choose(self, path: Path, length: int) -> str:
        """The source of a file: at least the last ``length`` parts of its path."""
        real = os.path.realpath(path)
        known = self._source_of.get(real) or (self.shelf and self.shelf.source_of(real))
        if known:
            return known
        parts = Path(os.path.abspath(path)).parts
        ends = [
            _printable(Path(*parts[-count:]).as_posix()) for count in range(length, len(parts) + 1)
        ]
        return next((end for end in ends if not self._is_taken(end)), ends[-1])

    def _is_taken(self, source: str) -> bool:
        return source in self._taken or (self.shelf is not None and self.shelf.has(source))

    def add(self, document: Document) -> None:
        self._taken.add(document.source)
        self._source_of[document.path] = document.source


def _load_as(path: Path, length: int, sources: _Sources) -> Document:
    """Read a file under the source that is chosen for it. Raises InputError."""
    document = _load_file(path, sources.choose(path, length), sources.shelf)
    sources.add(document)
    return document


def _load_file(path: Path, source: str, shelf: Shelf | None = None, called: str = "") -> Document:
    name = _printable(called or str(path))
    try:
        data, kind = _read(path)
        real, raw = os.path.realpath(path), sha256(data).hexdigest()
        if shelf is not None and (same := shelf.unchanged(real, raw)):
            return same
        fallback = _printable(path.stem)
        document = _document(data, kind=kind, source=source, fallback=fallback, charset=None)
        return replace(document, path=real, raw=raw)
    except Unreadable as error:
        raise InputError("{} {}", name, error) from None


def _read(path: Path) -> tuple[bytes, str]:
    """A file's bytes, at most one more than its kind may have, and its kind."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise Unreadable("is a folder, not a file")
        if not stat.S_ISREG(mode):  # reading a pipe or a device may never end
            raise Unreadable("is not a regular file")
        with path.open("rb") as file:
            head = file.read(HEAD)
            kind = _kind(head, path.suffix.lower())
            return head + file.read(_LIMITS[kind] + 1 - len(head)), kind
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable("does not exist") from None
    except PermissionError:
        raise Unreadable("may not be read: permission denied") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise Unreadable("cannot be read: {}", reason) from None


class _Folder(NamedTuple):
    """A folder, the files below it, and a line for everything in it that is left out."""

    path: Path
    files: list[Path]
    skipped: list[str]


def _load_folder(
    folder: _Folder, on_skip: Callable[[str], None], sources: _Sources, bar: tqdm[Any]
) -> Iterator[Document]:
    """What is left out is told once a file has been read; if none can be, it is the error."""
    found = False
    for path in folder.files:
        bar.set_postfix_str(_printable(path.name), refresh=False)
        document = None
        try:
            if sources.is_new(os.path.realpath(path)):
                document = _load_as(path, len(path.relative_to(folder.path).parts), sources)
            found = True
        except InputError as error:
            folder.skipped.append(str(error))
        if found:
            for line in folder.skipped:
                on_skip(line)
            folder.skipped.clear()
        if document:
            yield document
        bar.update()
    if not found:
        reasons = "; ".join(folder.skipped[:REASONS])
        more = len(folder.skipped) - REASONS
        raise InputError(
            f"{_printable(str(folder.path))} has no file in it that can be read"
            + (f": {reasons}" if reasons else "")
            + (f"; and {more} more" if more > 0 else "")
        )


def _walk(folder: Path) -> _Folder:
    """What is below a folder; links are followed within it, and no folder is read twice."""
    walked = _Folder(folder, [], [])
    root = os.path.realpath(folder)
    seen: set[tuple[int, int]] = set()
    left = [folder]
    while left:
        path = left.pop()
        if path != folder and path.is_symlink() and not _is_within(root, path):
            name = _printable(str(path))
            walked.skipped.append(f"{name} leads out of the folder: name it itself to read it")
        elif os.path.isdir(path):
            left += reversed(_list_folder(path, walked.skipped, seen))
        else:
            walked.files.append(path)
    return walked


def _is_within(root: str, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def _list_folder(folder: Path, skipped: list[str], seen: set[tuple[int, int]]) -> list[Path]:
    """What is in a folder, in the order of names; nothing if it has been ``seen``."""
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError as error:
        skipped.append(f"{_printable(str(folder))} cannot be read: {error.strerror}")
        return []
    here = (status.st_dev, status.st_ino)
    if here in seen:
        return []
    seen.add(here)
    # Left out: hidden ones, and the lock files of open DOCX.
    return [folder / name for name in names if not name.startswith((".", "~$"))]


# ---- The network -----------------------------------------------------------------------------


def _is_url(path: str | Path) -> bool:
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http(s) alone; urllib would go to ftp as well."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        if not _is_url(newurl):
            fp.close()
            raise urllib.error.URLError("it redirects to something that is not a web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str) -> tuple[bytes, str, str | None]:
    """The body of a web address, at most a little more than its kind may have, the kind and
    the charset."""
    deadline = time.monotonic() + URL_SECONDS
    try:
        opener = urllib.request.build_opener(_WebOnly())
        request = urllib.request.Request(_address(url), headers={"User-Agent": "beleg"})
        with opener.open(request, timeout=URL_SECONDS) as response:
            encoding = response.headers.get("Content-Encoding", "identity").lower()
            if encoding != "identity":  # we did not ask for it
                raise Unreadable("came compressed ({}), unasked", _printable(encoding))
            content_type = response.headers.get_content_type()
            if "Content-Type" not in response.headers:
                content_type = ""
            charset = response.headers.get_content_charset()
            suffix = _path_of(url).suffix.lower()
            data = bytearray()
            size: int | None = response.length
            with progress_bar("fetching", size, unit="B") as bar:
                while block := response.read1(1 << 16):
                    data += block
                    bar.update(len(block))
                    if len(data) > min(_LIMITS.values()):
                        kind = _kind_of_page(content_type, bytes(data[:HEAD]), suffix)
                        if len(data) > _LIMITS[kind]:
                            raise too_large(_LIMITS[kind])
                    if time.monotonic() > deadline:
                        raise TimeoutError
            if size is not None and len(data) < size:  # urllib does not mind
                raise Unreadable("broke off after {:,} of {:,} bytes", len(data), size)
    except urllib.error.HTTPError as error:
        error.close()
        if str(error.reason).startswith(_WebOnly.inf_msg):
            raise Unreadable("cannot be fetched: it redirects in a circle, or too often") from None
        raise Unreadable("cannot be fetched: {} {}", error.code, _one_line(error.reason)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise Unreadable("did not answer within {:g} seconds", URL_SECONDS) from None
        reason = getattr(reason, "strerror", None) or reason
        raise Unreadable("cannot be fetched: {}", _one_line(reason)) from None
    return bytes(data), _kind_of_page(content_type, bytes(data[:HEAD]), suffix), charset


def _path_of(url: str) -> Path:
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path))


def _address(url: str) -> str:
    """A web address in ASCII, as it is asked for: without the fragment."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreadable("is not an http or https address")
    if parts.username or parts.password:
        raise Unreadable("holds a user name or password: beleg does not send those")
    host = parts.hostname.encode("idna").decode("ascii")
    host = f"[{host}]" if ":" in host else host
    netloc = f"{host}:{parts.port}" if parts.port else host
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return urllib.parse.urlunsplit((parts.scheme, netloc, path, query, ""))


def _one_line(reason: object) -> str:
    return " ".join(_printable(str(reason)).split()) or type(reason).__name__


def _printable(name: str) -> str:
    """A name that cannot break a line, move the cursor or be unencodable."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


# ---- From bytes to a document ----------------------------------------------------------------


def _kind(head: bytes, suffix: str) -> str:
    """What a file is, by its suffix, or by its first bytes where the suffix says nothing."""
    if kind := _SUFFIXES.get(suffix):
        return kind
    start = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"%pdf-"):
        return "pdf"
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    if head.count(0) * 10 > len(head) and not (bom(head) or unmarked_utf16(head)):
        raise Unreadable(UNSUPPORTED)
    return "text"


def _kind_of_page(content_type: str, data: bytes, suffix: str) -> str:
    """What a page is, by what its server says, or like a file where that says nothing."""
    if kind := _CONTENT_TYPES.get(content_type):
        return kind
    if content_type in ("", "application/octet-stream"):
        return _kind(data, suffix)
    if content_type.startswith("text/"):
        return "markdown" if _SUFFIXES.get(suffix) == "markdown" else "text"
    if content_type.endswith(("json", "xml")):
        return "text"
    raise Unreadable("{} ({})", UNSUPPORTED, _printable(content_type))


def _document(
    data: bytes, *, kind: str, source: str, fallback: str, charset: str | None
) -> Document:
    if len(data) > _LIMITS[kind]:
        raise too_large(_LIMITS[kind])
    if not data.strip():
        raise Unreadable("is empty")
    if kind == "html":
        charset = charset or declared_charset(data)
    if kind == "text":
        raw = Raw("", [decode(data, charset)])
    elif kind in ("html", "markdown"):
        raw = parse_safely(kind, decode(data, charset).encode("utf-8", "replace"))
    else:
        raw = parse_safely(kind, data)
    text, pages = join_pages(list(map(canonical, raw.pages)))
    if not text:
        if kind == "pdf":
            raise Unreadable("has no text, only pictures: run text recognition (OCR) on it first")
        raise Unreadable("has no text in it" if kind in ("html", "docx") else "is empty")
    if len(text) > MAX_TEXT:
        raise too_large(MAX_TEXT)
    return Document(
        text=text,
        source=source,
        title=sensible_title(raw.title) or title_of(text) or fallback,
        language=detect_language(text),
        pages=pages if kind == "pdf" else (),
    )

"""From a path or a URL to a ``Document``: plain text, Markdown, HTML, PDF, DOCX.

What a document says is fixed here, once: ``canonical`` normalises newlines, Unicode and
invisible characters, and every offset in Beleg refers to its result. Later stages cut the
text into spans but never change it.

PDF, DOCX and large markup are parsed in a child process with a time and a memory limit:
crafted files can hang or bloat a parser, and so take down only the child. Nothing that a
document links to is fetched. Left out: text in images (OCR), comments, footnotes, running
heads and deleted text of DOCX, and menus, advertisements and the like of HTML.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import stat
import subprocess
import sys
import time
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import IO, Any, NamedTuple

from index.errors import InputError
from index.language import detect_language
from index.types import Document

MAX_TEXT = 50_000_000
"""The most bytes of a text file, and the most characters of any document's text."""
MAX_MARKUP = 20_000_000
"""The most bytes of a Markdown or HTML file; their parsers need many times that in memory."""
MAX_FILE = 200_000_000
"""The most bytes of a PDF or DOCX file, pictures included."""
PARSE_SECONDS = 60.0
"""How long the child process may parse one file."""
PARSE_MEMORY = 1 << 30
"""How many bytes of address space the child process may use."""
APART_FROM = 100_000
"""Markup of so many bytes is parsed in the child process too; less cannot take long."""
URL_SECONDS = 30.0
"""How long fetching one URL may take, from first to last byte."""

TITLE_LENGTH = 80

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
_CONTENT_TYPES = {
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
}
_LIMITS = {"pdf": MAX_FILE, "docx": MAX_FILE, "html": MAX_MARKUP, "markdown": MAX_MARKUP}
_UNSUPPORTED = "is not a text, Markdown, HTML, PDF or DOCX file"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class _Unreadable(Exception):
    """Why a file cannot be read: the rest of a sentence that starts with its name."""


class _Raw(NamedTuple):
    """What a parser gives: the title that the file claims, and its text, by pages if it has any."""

    title: str
    pages: list[str]


# ---- What others call ------------------------------------------------------------------------


def load(path: str | Path) -> Document:
    """Read one file; its name becomes the document's source.

    Raises InputError, one line that names the file, when it cannot be read.
    """
    path = Path(path)
    return _load_file(path, source=_printable(path.name))


def load_url(url: str) -> Document:
    """Fetch and read one http(s) address; the server's content type says how.

    Raises InputError for other schemes, errors of the network and contents of other types.
    """
    name = _printable(re.sub(r"//[^/]*@", "//", url))  # never repeat a password
    try:
        data, content_type, charset = _fetch(url)
        path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
        suffix = Path(path).suffix.lower()
        kind = _CONTENT_TYPES.get(content_type)
        if kind is None and content_type in ("", "application/octet-stream"):
            kind = _kind(data, suffix)
        elif kind is None and content_type.startswith("text/"):
            kind = "markdown" if _SUFFIXES.get(suffix) == "markdown" else "text"
        elif kind is None and content_type.endswith(("json", "xml")):
            kind = "text"
        elif kind is None:
            raise _Unreadable(f"{_UNSUPPORTED} ({_printable(content_type)})")
        title = _printable(Path(path).stem) or name
        return _document(data, kind=kind, source=name, fallback=title, charset=charset)
    except _Unreadable as error:
        raise InputError(f"{name} {error}") from None


def load_all(
    paths: Iterable[str | Path], *, on_skip: Callable[[str], None], urls: bool = False
) -> Iterator[Document]:
    """Read files, folders (recursively, in the order of names) and, with ``urls``, URLs.

    A path named here that cannot be read raises InputError; that one does not exist is
    found before the first is read. A file in a folder that cannot be read goes to
    ``on_skip`` as one line and is left out; hidden ones are passed over without a word.
    The same path twice is read once; of two files of one name, the second's source is its
    path.
    """
    paths = list({str(p) if _is_url(p) else os.path.realpath(p): p for p in paths}.values())
    for path in paths:
        if _is_url(path):
            if not urls:
                raise InputError(f"{_printable(str(path))} is a web address, not a file")
        elif not os.path.exists(path):
            raise InputError(f"{_printable(str(path))} does not exist")
    used: set[str] = set()
    for path in paths:
        for document in _load_any(path, on_skip):
            if document.source in used:
                place = Path(path) / document.source if os.path.isdir(path) else Path(path)
                document = replace(document, source=_printable(place.as_posix()))
            used.add(document.source)
            yield document


def _load_any(path: str | Path, on_skip: Callable[[str], None]) -> Iterator[Document]:
    if _is_url(path):
        yield load_url(str(path))
    elif os.path.isdir(path):
        yield from _load_folder(Path(path), on_skip)
    else:
        yield load(path)


def canonical(text: str) -> str:
    """The one form of a text that offsets refer to; applying it again changes nothing.

    Newlines become ``\\n`` and form feeds a blank line; the text is in NFC; every kind of
    space is a plain one; soft hyphens, zero-width and bidirectional controls, other control
    characters and non-characters are gone. Joiners stay where Persian, Indic scripts and
    emoji need them. Spaces at line ends and around the text are trimmed.
    """
    text = unicodedata.normalize("NFC", text)
    text = _NEWLINES.sub("\n", text)
    text = _PARAGRAPH_BREAKS.sub("\n\n", text)
    text = _SPACES.sub(" ", text)
    text = _INVISIBLE.sub("", text)
    text = _STRAY_JOINERS.sub("", text)
    text = _SURROGATES.sub("\ufffd", text)
    text = unicodedata.normalize("NFC", text)  # letter and accent may have met only now
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


_NEWLINES = re.compile("\r\n|[\r\v\x1c-\x1e\x85\u2028]")
_PARAGRAPH_BREAKS = re.compile("[\f\u2029]")
_SPACES = re.compile("[\x1f\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
_JOINING = "[\u0600-\u1dff\u2190-\ud7ff\ue000-\U0010ffff]"  # Arabic, Indic, ..., symbols, emoji
_STRAY_JOINERS = re.compile(f"(?<!{_JOINING})[\u200c\u200d]|[\u200c\u200d](?!{_JOINING})")
_SURROGATES = re.compile("[\ud800-\udfff]")


# ---- Files, folders and the network ----------------------------------------------------------


def _load_file(path: Path, source: str) -> Document:
    name = _printable(str(path))
    try:
        data, kind = _read(path)
        fallback = _printable(path.stem)
        return _document(data, kind=kind, source=source, fallback=fallback, charset=None)
    except _Unreadable as error:
        raise InputError(f"{name} {error}") from None


def _read(path: Path) -> tuple[bytes, str]:
    """A file's bytes and kind; a large file of no kind that we read is not read to its end."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _Unreadable("is a folder, not a file")
        if not stat.S_ISREG(mode):  # reading a pipe or a device may never end
            raise _Unreadable("is not a regular file")
        with path.open("rb") as file:
            head = file.read(8192)
            kind = _kind(head, path.suffix.lower())
            limit = _LIMITS.get(kind, MAX_TEXT)
            data = head + file.read(limit + 1 - len(head))
    except (FileNotFoundError, NotADirectoryError):
        raise _Unreadable("does not exist") from None
    except PermissionError:
        raise _Unreadable("may not be read: permission denied") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise _Unreadable(f"cannot be read: {reason}") from None
    if len(data) > limit:
        raise _Unreadable(_too_large(limit))
    return data, kind


def _load_folder(folder: Path, on_skip: Callable[[str], None]) -> Iterator[Document]:
    found = False
    for path in _walk(folder, on_skip, seen=frozenset()):
        try:
            source = _printable(path.relative_to(folder).as_posix())
            document = _load_file(path, source)
        except InputError as error:
            on_skip(str(error))
            continue
        found = True
        yield document
    if not found:
        raise InputError(f"{_printable(str(folder))} has no file in it that can be read")


def _walk(
    folder: Path, on_skip: Callable[[str], None], seen: frozenset[tuple[int, int]]
) -> Iterator[Path]:
    """The files below a folder; links are followed unless they lead back up (``seen``)."""
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError as error:
        on_skip(f"{_printable(str(folder))} cannot be read: {error.strerror}")
        return
    here = (status.st_dev, status.st_ino)
    if here in seen:
        return
    for name in names:
        if name.startswith((".", "~$")):  # hidden, or the lock file of an open DOCX
            continue
        path = folder / name
        if os.path.isdir(path):
            yield from _walk(path, on_skip, seen | {here})
        else:
            yield path


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
    """The body, content type and charset of a web address."""
    deadline = time.monotonic() + URL_SECONDS
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _Unreadable("is not an http or https address")
        if parts.username or parts.password:
            raise _Unreadable("holds a user name or password: beleg does not send those")
        host = parts.hostname.encode("idna").decode("ascii")
        host = f"[{host}]" if ":" in host else host
        netloc = f"{host}:{parts.port}" if parts.port else host
        path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
        query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        address = urllib.parse.urlunsplit((parts.scheme, netloc, path, query, ""))
        opener = urllib.request.build_opener(_WebOnly())
        request = urllib.request.Request(address, headers={"User-Agent": "beleg"})
        with opener.open(request, timeout=URL_SECONDS) as response:
            encoding = response.headers.get("Content-Encoding", "identity").lower()
            if encoding != "identity":  # we did not ask for it
                raise _Unreadable(f"came compressed ({_printable(encoding)}), unasked")
            content_type = response.headers.get_content_type()
            if "Content-Type" not in response.headers:
                content_type = ""
            charset = response.headers.get_content_charset()
            limit = _LIMITS.get(_CONTENT_TYPES.get(content_type, ""), MAX_TEXT)
            data = bytearray()
            while block := response.read1(1 << 16):
                data += block
                if len(data) > limit:
                    raise _Unreadable(_too_large(limit))
                if time.monotonic() > deadline:
                    raise TimeoutError
    except urllib.error.HTTPError as error:
        error.close()
        raise _Unreadable(f"cannot be fetched: {error.code} {_one_line(error.reason)}") from None
    except TimeoutError:
        raise _Unreadable(f"did not answer within {URL_SECONDS:g} seconds") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise _Unreadable(f"did not answer within {URL_SECONDS:g} seconds") from None
        raise _Unreadable(f"cannot be fetched: {_one_line(reason)}") from None
    return bytes(data), content_type, charset


def _too_large(limit: int) -> str:
    return f"is larger than the {limit // 1_000_000} MB that one document may have: split it"


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
    if head.count(0) * 10 > len(head) and not _bom(head):
        raise _Unreadable(_UNSUPPORTED)
    return "text"


def _document(
    data: bytes, *, kind: str, source: str, fallback: str, charset: str | None
) -> Document:
    limit = _LIMITS.get(kind, MAX_TEXT)
    if len(data) > limit:
        raise _Unreadable(_too_large(limit))
    if not data.strip():
        raise _Unreadable("is empty")
    if kind in ("text", "html", "markdown"):
        text = _decode(data, charset or (_declared_charset(data) if kind == "html" else None))
        raw = _Raw("", [text]) if kind == "text" else _parse_markup(kind, text)
    else:
        raw = _parse_apart(kind, data)
    text, pages = _join_pages(list(map(canonical, raw.pages)))
    if not text:
        if kind == "pdf":
            raise _Unreadable("has no text, only pictures: run text recognition (OCR) on it first")
        raise _Unreadable("has no text in it" if kind in ("html", "docx") else "is empty")
    if len(text) > MAX_TEXT:
        raise _Unreadable(_too_large(MAX_TEXT))
    return Document(
        text=text,
        source=source,
        title=_sensible_title(raw.title) or _title_of(text) or fallback,
        language=detect_language(text),
        pages=pages if kind == "pdf" else (),
    )


def _bom(data: bytes) -> str | None:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return encoding
    return None


def _decode(data: bytes, declared: str | None) -> str:
    """Bytes to text: by byte order mark, as UTF-8, as declared, or by guessing."""
    if bom := _bom(data):
        return data.decode(bom, errors="replace")
    if data.count(0) * 1000 > len(data) or data.startswith(b"{\\rtf"):
        raise _Unreadable(_UNSUPPORTED)
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    # A stray byte in much UTF-8 is damage; in another encoding nearly every byte is stray.
    if broken and broken * 10 > len(_NOT_ASCII.findall(text)) - broken:
        text = _decode_as(data, declared) or _guess(data)
    controls = sum(
        character < " " and character not in "\t\n\r\f\v\x1b" for character in text[:8192]
    )
    if controls * 100 > min(len(text), 8192):
        raise _Unreadable(_UNSUPPORTED)
    return text


_NOT_ASCII = re.compile("[^\x00-\x7f]")
_CHARSET = re.compile(
    r"utf-?(8|16|16le|16be)|iso-?8859-?\d+|latin-?\d|windows-?\d+|cp\d+|koi8-[ru]|us-ascii|ascii"
    r"|euc-?(jp|kr)|shift[_-]?jis|gbk?|gb2312|gb18030|big5|macintosh|mac-?roman",
    re.IGNORECASE,
)


def _decode_as(data: bytes, charset: str | None) -> str | None:
    if not charset or not _CHARSET.fullmatch(charset):
        return None
    if charset.lower() in ("iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii"):
        charset = "cp1252"  # as browsers do: who says Latin-1 means this
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return None


_WINDOWS_1252 = _words("af ca da de en es et eu fi fo fr ga gl id is it lb nl nn no pt sq sv")


def _guess(data: bytes) -> str:
    """Windows-1252 if what it gives is in a language written in it, else charset-normalizer's best.

    The latter alone mistakes short Western texts: an English £ for a Polish Ł, French for Baltic.
    """
    from charset_normalizer import from_bytes

    western = _decode_as(data, "cp1252")
    if western is not None:
        letters = [character for character in western[:20_000] if character.isalpha()]
        foreign = sum(character > "\x7f" for character in letters)
        if foreign * 4 <= len(letters) and detect_language(western) in _WINDOWS_1252:
            return western
    best = from_bytes(data[:1_000_000]).best()
    text = _decode_as(data, best.encoding.replace("_", "-")) if best else None
    if text is None and best:
        text = data.decode(best.encoding, errors="replace")
    if text is None:
        raise _Unreadable(_UNSUPPORTED)
    return text


def _declared_charset(data: bytes) -> str | None:
    found = re.search(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]{1,40})", data[:4096], re.I)
    return found[1].decode("ascii") if found else None


def _join_pages(pages: list[str]) -> tuple[str, tuple[int, ...]]:
    """One text of canonical pages, and where each of them starts in it."""
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for number, page in enumerate(pages):
        if not page:
            continue
        if parts:
            # A sentence goes on over the page's end: do not cut it.
            goes_on = page[0].islower() and parts[-1][-1] not in ".!?:"
            parts.append(" " if goes_on else "\n\n")
            length += len(parts[-1])
        starts += [length] * (number + 1 - len(starts))  # empty pages start with the next one
        parts.append(page)
        length += len(page)
    starts += [length] * (len(pages) - len(starts))
    return "".join(parts), tuple(starts)


# ---- Titles ----------------------------------------------------------------------------------

_STAMP = re.compile(r"(?:date|datum)?:?\s*\d{4}-\d{2}(?:-\d{2})?\b[\s:,–-]*", re.IGNORECASE)
_NO_TITLE = re.compile(
    r"untitled\b.*|unbenannt.*|(word )?document ?\d*|dokument ?\d*|microsoft word - .*|titel?|title"
    r"|.*\.(docx?|pdf|indd|tex|dvi|qxd|rtf|odt|txt|pub|pptx?)|(about|file|https?):.*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!\d)(?<!\b\w)(?<!\b\w\w)[.!?…][\"“”»«']?\s+(?=[\"“„»«'A-ZÄÖÜ])")


def _sensible_title(claimed: str) -> str:
    """The title that a file claims, or nothing where a program or a template left it there."""
    title = " ".join(canonical(claimed).split())
    if _NO_TITLE.fullmatch(title) or not any(character.isalpha() for character in title):
        return ""
    return _shorten(title, 2 * TITLE_LENGTH)


def _title_of(text: str) -> str:
    """The headline that a text starts with, or the beginning of its first sentence."""
    text = text[:10_000].lstrip()
    if stamp := _STAMP.match(text):
        text = text[stamp.end() :]
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip().split("\n")
        first = lines[0].strip(" \t#=*_-")
        underlined = len(lines) == 2 and not any(c.isalnum() for c in lines[1])
        if not any(character.isalpha() for character in first):
            continue
        headline = len(first) <= TITLE_LENGTH and not first.endswith((".", ",", ";", ":", "…"))
        if headline and (len(lines) == 1 or underlined):
            return " ".join(first.split())
        whole = " ".join(paragraph.split())
        end = _SENTENCE_END.search(whole, 20)
        return _shorten(whole[: end.end()].strip() if end else whole, TITLE_LENGTH)
    return ""


def _shorten(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    cut = text.rfind(" ", 0, length)
    return text[: cut if cut > length // 2 else length - 1].rstrip(" ,;:–-") + "…"


# ---- The child process -----------------------------------------------------------------------


def _parse_markup(kind: str, text: str) -> _Raw:
    data = text.encode("utf-8", "replace")
    return _parse_apart(kind, data) if len(data) >= APART_FROM else _parse(kind, data)


def _parse(kind: str, data: bytes) -> _Raw:
    try:
        return _PARSERS[kind](data)
    except (_Unreadable, MemoryError):
        raise
    except Exception as error:  # whatever a library throws at a crafted file
        raise _Unreadable(f"is damaged, or no {_FORMATS[kind]} file") from error


def _parse_apart(kind: str, data: bytes) -> _Raw:
    """``_parse`` in a child process, which answers in JSON or is ended."""
    start = "import json, sys; sys.path[:] = json.loads(sys.argv[1])"
    start += f"; from {__name__} import serve; serve()"
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
    except subprocess.TimeoutExpired:
        raise _Unreadable(f"could not be read within {PARSE_SECONDS:g} seconds") from None
    except ValueError:  # no answer: the parser crashed, or the system ended it
        raise _Unreadable(
            f"is damaged, or no {_FORMATS[kind]} file: its parser broke off"
        ) from None
    if "error" in answer:
        raise _Unreadable(answer["error"])
    return _Raw(answer["title"], answer["pages"])


def serve() -> None:
    """The child's side of it: bytes on standard input, JSON on standard output."""
    kind, seconds, memory = sys.argv[2:5]
    _limit_resources(float(seconds), int(memory))
    output = os.dup(1)
    os.dup2(2, 1)  # a parser's own chatter must not end up in the answer
    try:
        raw = _parse(kind, sys.stdin.buffer.read())
        answer = json.dumps({"title": raw.title, "pages": raw.pages})
    except _Unreadable as error:
        answer = json.dumps({"error": str(error)})
    except MemoryError:
        answer = f'{{"error": "needs more than {int(memory) >> 20} MB of memory to be read"}}'
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


# ---- Markdown and HTML -----------------------------------------------------------------------

_BLOCKS = _words(
    "address article blockquote body center dd details dialog div dl dt fieldset figcaption "
    "figure form h1 h2 h3 h4 h5 h6 head header hr list main ol p pre quote section "
    "summary table ul"
)  # fmt: skip
_LISTS = _words("dl list ol ul")
_LINES = _words("br caption item lb li row tr")
_CELLS = _words("cell td th")
_VERBATIM = _words("code pre quote")
_SILENT = _words("aside button footer iframe nav noscript object script select style svg template")
_FRONT_MATTER = re.compile(
    r"\ufeff?---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL
)


def _parse_markdown(data: bytes) -> _Raw:
    """Markdown by way of the HTML that it stands for, so that HTML inside it is read as well."""
    from markdown_it import MarkdownIt

    text = re.sub("\r\n?", "\n", data.decode("utf-8"))
    title = ""
    if matter := _FRONT_MATTER.match(text):
        text = text[matter.end() :]
        if found := re.search(r"^title:[ \t]*(.+)$", matter[1], re.MULTILINE):
            title = found[1].strip(" \t\"'")
    body = _html_body(MarkdownIt("commonmark").enable("table").render(text))
    if body is None:
        return _Raw(title, [])
    headings = body.xpath("(//h1)[1] | (//h2 | //h3 | //h4 | //h5 | //h6)[1]")
    headings.sort(key=lambda heading: heading.tag)
    return _Raw(title or (_flow(headings[0]) if headings else ""), [_flow(body)])


def _parse_html(data: bytes) -> _Raw:
    import logging

    from trafilatura import bare_extraction

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports what we handle
    html = data.decode("utf-8")
    html = re.sub(r"^\s*<\?xml[^>]*\?>", "", html)  # its encoding no longer holds
    body = _html_body(html)
    if body is None:
        return _Raw("", [])
    # Recall: otherwise headings above short paragraphs are lost, which is worse than a stray line.
    found = bare_extraction(html, include_comments=False, with_metadata=False, favor_recall=True)
    article = getattr(found, "body", None)
    text = _flow(article) if article is not None else ""
    whole = _flow(body)
    # Of a short page the library takes all words but drops the breaks between them.
    if not text.strip() or _bare_words(text) == _bare_words(whole):
        text = whole
    return _Raw(_html_title(body), [text])


def _bare_words(text: str) -> list[str]:
    return text.replace("|", " ").split()


def _html_title(body: Any) -> str:
    """The title that a page is shared under, or shows; without the site's name if h1 says so."""
    for path in ("//meta[@property='og:title']/@content", "//head/title/text()", "(//h1)[1]"):
        for found in body.xpath(path)[:1]:
            title = _sensible_title(found if isinstance(found, str) else _flow(found))
            heading = "".join(map(_flow, body.xpath("(//h1)[1]"))).strip()
            if title:
                return heading if heading and title.startswith(heading) else title
    return ""


def _html_body(html: str) -> Any:
    """The body element of a page, with the whole tree behind it; None for an empty page."""
    from lxml import etree  # type: ignore[import-untyped]

    parser = etree.HTMLParser(
        no_network=True, remove_comments=True, remove_pis=True, encoding="utf-8"
    )
    tree = etree.fromstring(html.encode("utf-8"), parser)
    return None if tree is None else tree.find("body")


def _flow(root: Any) -> str:
    """The text of an lxml tree as a reader sees it: paragraphs, lines, and cells set apart."""
    from lxml import etree

    parts: list[str] = []
    gap = ""  # what stands between the text so far and the next
    verbatim = cells = lists = 0

    def widen(wanted: str) -> None:
        nonlocal gap
        if cells and wanted != " | ":
            wanted = " "  # a cell's own lines
        gap = max(gap, wanted, key=_GAPS.index)

    def add(text: str | None) -> None:
        nonlocal gap
        if not text:
            return
        if not verbatim:
            text = re.sub(r"\s+", " ", text)
            if gap or not parts or parts[-1].endswith((" ", "\n")):
                text = text.lstrip()
        if text:
            if parts and "\n" in gap:
                parts[-1] = parts[-1].rstrip()
            if parts:
                parts.append(gap)
            parts.append(text)
            gap = ""

    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        tag = element.tag
        if event == "start" and (not isinstance(tag, str) or tag in _SILENT):
            walker.skip_subtree()  # its end, with the text after it, still comes
        elif event == "start":
            widen(_edge(element, inner=lists > 0))
            verbatim += tag in _VERBATIM
            cells += _is_value(element)
            lists += tag in _LISTS
            add(element.text)
        else:
            if isinstance(tag, str) and tag not in _SILENT:
                verbatim -= tag in _VERBATIM
                cells -= _is_value(element)
                lists -= tag in _LISTS
                widen(_edge(element, inner=lists > 0))
            if element is not root:
                add(element.tail)
    return "".join(parts)


_GAPS = ("", " ", " | ", "\n", "\n\n")


def _edge(element: Any, *, inner: bool) -> str:
    """What sets an element apart from its neighbours; ``inner`` when it is within a list."""
    if _is_value(element):
        return " | "
    if element.tag in _LINES or (inner and element.tag in _LISTS):
        return "\n"
    return "\n\n" if element.tag in _BLOCKS or element.tag in _CELLS else ""


def _is_value(element: Any) -> bool:
    """Whether this is a table cell that holds a value, not a part of the page's layout."""
    if element.tag not in _CELLS or element.find(".//table") is not None:
        return False
    return len(element.findall(".//p")) + len(element.findall(".//div")) < 2


# ---- PDF -------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A line of a page: its text, where it starts (points), and whether its end is hyphenated."""

    text: str
    x: float
    y: float
    size: float
    hyphenated: bool


def _parse_pdf(data: bytes) -> _Raw:
    import pypdfium2  # type: ignore[import-untyped]
    from pypdfium2 import raw as pdfium

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise _Unreadable("is encrypted: remove its password first") from None
        raise
    pages: list[str] = []
    left = MAX_TEXT
    for number in range(len(pdf)):
        try:
            page = pdf[number]
        except pypdfium2.PdfiumError:
            pages.append("")  # a broken page keeps its number, and the others their text
            continue
        pages.append(_reflow(list(_pdf_lines(page.get_textpage()))))
        page.close()
        left -= len(pages[-1])
        if left < 0:
            raise _Unreadable(_too_large(MAX_TEXT))
    return _Raw(pdf.get_metadata_value("Title"), pages)


def _pdf_lines(textpage: Any) -> Iterator[_Line]:
    from ctypes import byref, c_double

    from pypdfium2 import raw as pdfium

    characters: list[str] = []
    x, y, size = c_double(), c_double(), 0.0
    for index in range(textpage.count_chars() + 1):
        code = pdfium.FPDFText_GetUnicode(textpage, index) if index < textpage.count_chars() else 10
        hyphen = code in (0x02, 0xFFFE)  # pdfium's marks for a hyphen at a line's end
        if hyphen or code in (10, 13):
            # pdfium gives UTF-16 units on some systems: put pairs together.
            text = "".join(characters).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            if text.strip():
                yield _Line(text.strip(), x.value, y.value, size, hyphen)
            characters = []
        elif code:
            if not characters and chr(code).isspace():
                continue
            if not characters:
                pdfium.FPDFText_GetCharOrigin(textpage, index, byref(x), byref(y))
                size = pdfium.FPDFText_GetFontSize(textpage, index)
            characters.append(chr(code))


def _reflow(lines: list[_Line]) -> str:
    """Lines put together into paragraphs, and words divided at a line's end into one."""
    drops = [above.y - below.y for above, below in pairwise(lines) if above.y > below.y]
    usual = median(drops) if drops else 0.0
    parts: list[str] = []
    for index, line in enumerate(lines):
        if index:
            parts.append(_joint(lines[index - 1], line, usual))
        text = line.text
        following = lines[index + 1] if index + 1 < len(lines) else None
        if line.hyphenated or text.endswith(("-", "\xad", "\u2010")):
            stem = text if line.hyphenated else text[:-1]
            joined = following and following.text[0].islower() and stem[-1:].isalpha()
            text = stem if joined else stem + "-"
        parts.append(text)
    return "".join(parts)


def _joint(above: _Line, below: _Line, usual: float) -> str:
    """What stands between two lines of a page: a blank line, a space or nothing."""
    if above.hyphenated or above.text.endswith(("-", "\xad", "\u2010")):
        return "" if below.text[0].isalpha() else " "
    drop = above.y - below.y
    wide = drop > 1.35 * max(usual, 1.2 * above.size)
    other_size = abs(above.size - below.size) > 0.1 * max(above.size, below.size)
    indent = below.x - above.x
    indented = 0.5 * usual < indent < 4 * usual and above.text.endswith(
        (".", "!", "?", ":", "“", '"')
    )
    return "\n\n" if wide or other_size or indented else " "


# ---- DOCX ------------------------------------------------------------------------------------

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_WRAPPERS = frozenset(_W + name for name in ("sdt", "sdtContent", "customXml", "ins", "moveTo"))
_DELETED = frozenset(
    [
        _W + "del",
        _W + "moveFrom",
        "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
    ]
)
_RUNS = {
    _W + "tab": "\t",
    _W + "br": "\n",
    _W + "cr": "\n",
    _W + "noBreakHyphen": "-",
    _W + "p": "\n",  # a paragraph inside a paragraph: a text box
}
_TEXTS = frozenset([_W + "t", "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"])


def _parse_docx(data: bytes) -> _Raw:
    import docx

    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise _Unreadable("is encrypted, or of an old Word: save it as DOCX without a password")
    document = docx.Document(io.BytesIO(data))
    title = _sensible_title(document.core_properties.title)
    if not title:
        styled = (p for p in document.paragraphs[:50] if p.style is not None and p.text.strip())
        names = ((p.style.name or "", p.text) for p in styled if p.style is not None)
        title = next((text for name, text in names if name.startswith(("Title", "Heading"))), "")
    return _Raw(title, ["\n\n".join(_docx_blocks(document.element.body))])


def _docx_blocks(parent: Any) -> Iterator[str]:
    """The paragraphs and tables below an element, in the document's order.

    python-docx's own ``paragraph.text`` knows no tracked insertions and no content controls.
    """
    for child in _docx_children(parent):
        if child.tag == _W + "p":
            text = _docx_paragraph(child)
        elif child.tag == _W + "tbl":
            rows = (row for row in _docx_children(child) if row.tag == _W + "tr")
            text = "\n".join(filter(None, map(_docx_row, rows)))
        else:
            continue
        if text.strip():
            yield text


def _docx_children(parent: Any) -> Iterator[Any]:
    for child in parent:
        if child.tag in _WRAPPERS:
            yield from _docx_children(child)
        else:
            yield child


def _docx_row(row: Any) -> str:
    cells = [list(_docx_blocks(cell)) for cell in _docx_children(row) if cell.tag == _W + "tc"]
    if any(len(blocks) > 1 or "\n" in "".join(blocks) for blocks in cells):
        return "\n\n".join(block for blocks in cells for block in blocks) + "\n"
    return " | ".join(blocks[0].strip() for blocks in cells if blocks)


def _docx_paragraph(paragraph: Any) -> str:
    from lxml import etree

    parts: list[str] = []
    walker = etree.iterwalk(paragraph, events=("start",))
    for _, element in walker:
        if element.tag in _DELETED or element.tag == _W + "pPr":
            walker.skip_subtree()  # properties hold w:tab elements that are no tabs
        elif element.tag in _TEXTS:
            parts.append(element.text or "")
        elif element is not paragraph:
            parts.append(_RUNS.get(element.tag, ""))
    return "".join(parts)


_PARSERS: dict[str, Callable[[bytes], _Raw]] = {
    "pdf": _parse_pdf,
    "docx": _parse_docx,
    "html": _parse_html,
    "markdown": _parse_markdown,
}
_FORMATS = {"pdf": "PDF", "docx": "DOCX", "html": "HTML", "markdown": "Markdown"}

"""A document's text: from bytes, in one canonical form, and the title that it gives itself.

``canonical`` normalises newlines, Unicode and invisible characters, and every offset in
Beleg refers to its result. Later stages cut the text into spans but never change it.
"""

from __future__ import annotations

import re
import unicodedata

from index.errors import Unreadable
from index.language import detect_language

MAX_TEXT = 50_000_000
"""The most bytes of a text file, and the most characters of any document's text."""
TITLE_LENGTH = 80

UNSUPPORTED = "is not a text, Markdown, HTML, PDF or DOCX file"


def too_large(limit: int) -> Unreadable:
    """The error for a document of more than ``limit`` bytes or characters."""
    return Unreadable(
        "is larger than the {} MB that one document may have: split it", limit // 1_000_000
    )


# ---- The canonical text ----------------------------------------------------------------------

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


def join_pages(pages: list[str]) -> tuple[str, tuple[int, ...]]:
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


# ---- From bytes to text ----------------------------------------------------------------------

_NOT_ASCII = re.compile("[^\x00-\x7f]")
_CHARSET = re.compile(
    r"utf-?(8|(16|32)(-?[bl]e)?)|iso-?8859-?\d+|latin-?\d|windows-?\d+|cp\d+|koi8-[ru]|us-ascii|ascii"
    r"|euc-?(jp|kr)|shift[_-]?jis|gbk?|gb2312|gb18030|big5|macintosh|mac-?roman",
    re.IGNORECASE,
)
_WINDOWS_1252 = frozenset(
    "af ca da de en es et eu fi fo fr ga gl id is it lb nl nn no pt sq sv".split()
)


def bom(data: bytes) -> str | None:
    """The encoding that a byte order mark stands for."""
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


def unmarked_utf16(data: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of Western text in it is zero, and no other."""
    head = data[:8192]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if min(even, odd) * 100 > len(head) or max(even, odd) * 4 < len(head):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def decode(data: bytes, declared: str | None) -> str:
    """Text: by byte order mark, as UTF-8, as declared, or by guessing.

    Raises Unreadable where none of them gives text.
    """
    if encoding := bom(data):
        text = data.decode(encoding, errors="replace")
        if _junk(text) > 0.05:
            raise Unreadable(UNSUPPORTED)
    else:
        wide = _decode_wide(data, declared) or _decode_wide(data, unmarked_utf16(data))
        text = wide or _decode_narrow(data, declared)
    if _controls(text) > 0.01:
        raise Unreadable(UNSUPPORTED)
    return text


def _decode_wide(data: bytes, declared: str | None) -> str | None:
    """UTF-16 or UTF-32 where that is said, and no mistake: only they are full of NULs."""
    wide = declared and re.match("utf-?(16|32)", declared, re.IGNORECASE)
    text = _decode_as(data, declared) if wide and 0 in data else None
    return text if text and _junk(text) <= 0.05 else None


def _decode_narrow(data: bytes, declared: str | None) -> str:
    if data.count(0) * 1000 > len(data) or data.startswith(b"{\\rtf"):
        raise Unreadable(UNSUPPORTED)
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    # A stray byte in much UTF-8 is damage; in another encoding nearly every byte is stray.
    if broken and broken * 10 > len(_NOT_ASCII.findall(text)) - broken:
        text = _decode_as(data, declared) or _guess(data)
    return text


def _controls(text: str) -> float:
    """The share of control characters that no text has, in the head of it."""
    head = text[:8192]
    return sum(c < " " and c not in "\t\n\r\f\v\x1b" for c in head) / max(1, len(head))


def _junk(text: str) -> float:
    """The share of characters that stand for no character, in the head of a text.

    Bytes taken at random for UTF-16 give about 0.15.
    """
    head = text[:8192]
    return sum(c == "\ufffd" or unicodedata.category(c) in ("Cn", "Co") for c in head) / max(
        1, len(head)
    )


def declared_charset(data: bytes) -> str | None:
    """The encoding that a page's ``meta`` element names."""
    found = re.search(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]{1,40})", data[:4096], re.I)
    return found[1].decode("ascii") if found else None


def _decode_as(data: bytes, charset: str | None) -> str | None:
    if not charset or not _CHARSET.fullmatch(charset):
        return None
    if charset.lower() in ("iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii"):
        charset = "cp1252"  # as browsers do: who says Latin-1 means this
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return None


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
    if best is None:
        raise Unreadable(UNSUPPORTED)
    text = _decode_as(data, best.encoding.replace("_", "-"))
    return data.decode(best.encoding, errors="replace") if text is None else text


# ---- Titles ----------------------------------------------------------------------------------

# Without a word that says so, a date is one only where no sentence goes on with it.
STAMP = re.compile(
    r"\s*((?P<named>(?i:date|datum)\s*:?\s*)?\d{4}-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?"
    r"(?=[\s:,–]|\Z)[\s:,–-]*+)(?(named)|(?![a-zß-ÿ]))"
)
"""A date that a program put before the text: "date 2021-04 Der Kreml hat …"."""
_NO_TITLE = re.compile(
    r"untitled\b.*|unbenannt.*|(word )?document ?\d*|dokument ?\d*|microsoft word - .*|titel?|title"
    r"|.*\.(docx?|pdf|indd|tex|dvi|qxd|rtf|odt|txt|pub|pptx?)|(about|file|https?):.*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!\d)(?<!\b\w)(?<!\b\w\w)[.!?…][\"“”»«']?\s+(?=[\"“„»«'A-ZÄÖÜ])")


def sensible_title(claimed: str) -> str:
    """The title that a file claims, or nothing where a program or a template left it there."""
    title = " ".join(canonical(claimed).split())
    if _NO_TITLE.fullmatch(title) or not any(character.isalpha() for character in title):
        return ""
    return _shorten(title, 2 * TITLE_LENGTH)


def title_of(text: str) -> str:
    """The headline that a text starts with, or the beginning of its first sentence."""
    text = text[:10_000].lstrip()
    if stamp := STAMP.match(text):
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

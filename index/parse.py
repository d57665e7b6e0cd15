"""From the bytes of a Markdown, HTML, PDF or DOCX file to its title and text.

Nothing that a document links to is fetched. Left out: text in images (OCR), comments,
footnotes, running heads and deleted text of DOCX, and menus, advertisements and the like of
HTML.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from index.errors import Unreadable
from index.text import MAX_TEXT, sensible_title, too_large


class Raw(NamedTuple):
    """What a parser gives: the title that the file claims, and its text, by pages if it has any."""

    title: str
    pages: list[str]


def parse(kind: str, data: bytes) -> Raw:
    """Markdown and HTML are expected in UTF-8, whatever they declare."""
    try:
        return _PARSERS[kind](data)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # whatever a library throws at a crafted file
        raise damaged(kind) from error


def damaged(kind: str) -> Unreadable:
    """What is wrong with a file that its parser takes for none of its kind."""
    return Unreadable("is damaged, or no {} file", _FORMATS[kind])


# ---- Markdown and HTML -----------------------------------------------------------------------

_BLOCKS = frozenset(
    """address article blockquote body center dd details dialog div dl dt fieldset figcaption
    figure form h1 h2 h3 h4 h5 h6 head header hr list main ol p pre quote section summary
    table ul""".split()
)
_LISTS = frozenset("dl list ol ul".split())
_LINES = frozenset("br caption item lb li row tr".split())
_CELLS = frozenset("cell td th".split())
_VERBATIM = frozenset("code pre quote".split())
_SILENT = frozenset(
    "aside button footer iframe nav noscript object script select style svg template".split()
)
MARKDOWN_DEPTH = 100
"""What is nested deeper, markdown-it leaves out; its usual 20 are too few."""
HTML_DEPTH = 240
"""What is nested deeper, in pages that never close their tags, trafilatura does not see."""
_FRONT_MATTER = re.compile(
    r"\ufeff?---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL
)


def _parse_markdown(data: bytes) -> Raw:
    """Markdown by way of the HTML that it stands for, so that HTML inside it is read as well."""
    from markdown_it import MarkdownIt

    text = re.sub("\r\n?", "\n", data.decode("utf-8"))
    title = ""
    if matter := _FRONT_MATTER.match(text):
        text = text[matter.end() :]
        if found := re.search(r"^title:[ \t]*(.+)$", matter[1], re.MULTILINE):
            title = found[1].strip(" \t\"'")
    markdown = MarkdownIt("commonmark", {"maxNesting": MARKDOWN_DEPTH}).enable("table")
    body = _html_body(markdown.render(text))
    if body is None:
        return Raw(title, [])
    headings = body.xpath("(//h1)[1] | (//h2 | //h3 | //h4 | //h5 | //h6)[1]")
    headings.sort(key=lambda heading: heading.tag)
    return Raw(title or (_flow(headings[0]) if headings else ""), [_flow(body)])


def _parse_html(data: bytes) -> Raw:
    import logging

    from trafilatura import bare_extraction

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports what we handle
    html = data.decode("utf-8")
    html = re.sub(r"^\s*<\?xml[^>]*\?>", "", html)  # its encoding no longer holds
    body = _html_body(html)
    if body is None:
        return Raw("", [])
    whole = _flow(body)
    if body.xpath(f"boolean(//*[count(ancestor::*) > {HTML_DEPTH}])"):
        return Raw(_html_title(body), [whole])
    # Recall: otherwise headings above short paragraphs are lost, which is worse than a stray line.
    found = bare_extraction(html, include_comments=False, with_metadata=False, favor_recall=True)
    article = getattr(found, "body", None)
    text = _flow(article) if article is not None else ""
    # Of a short page the library takes all words but drops the breaks between them.
    if not text.strip() or _bare_words(text) == _bare_words(whole):
        text = whole
    return Raw(_html_title(body), [text])


def _bare_words(text: str) -> list[str]:
    return text.replace("|", " ").split()


def _html_title(body: Any) -> str:
    """The title that a page is shared under, or shows; without the site's name if h1 says so."""
    heading = "".join(map(_flow, body.xpath("(//h1)[1]"))).strip()
    shared = body.xpath("//meta[@property='og:title']/@content")[:1]
    for claimed in (*shared, *body.xpath("//head/title/text()")[:1], heading):
        if title := sensible_title(claimed):
            return heading if heading and title.startswith(heading) else title
    return ""


def _html_body(html: str) -> Any:
    """The body element of a page, with the whole tree behind it; None for an empty page."""
    from lxml import etree  # type: ignore[import-untyped]

    parser = etree.HTMLParser(
        no_network=True, remove_comments=True, remove_pis=True, encoding="utf-8", huge_tree=True
    )
    tree = etree.fromstring(html.encode("utf-8"), parser)
    if any(error.message.startswith("Excessive depth") for error in parser.error_log):
        raise Unreadable("is nested too deeply to be read whole")
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

RUNNING_PAGES, RUNNING_SHARE = 3, 0.4
"""A head runs from so many pages on, and so large a share of all: left and right ones differ."""
EDGE_LINES = 4
"""The most lines of a head or foot."""
_PAGE_NUMBER = re.compile(
    r"[\W_]*(?:(?:Seite|Page|S\.|p\.)\s*)?(\d{1,4})(?:\s*(?:von|of|/)\s*\d{1,4})?[\W_]*",
    re.IGNORECASE,
)
_NAMED_PAGE = re.compile(r"\b((?:Seite|Page)\s*)(\d{1,4})\b", re.IGNORECASE)


class _Line(NamedTuple):
    """A line of a page: its text, where it starts (points), and whether its end is hyphenated."""

    text: str
    x: float
    y: float
    size: float
    hyphenated: bool

    @property
    def divided(self) -> bool:
        """Whether it ends in a hyphen, be it a mark for one or a character."""
        return self.hyphenated or self.text.endswith(("-", "\xad", "\u2010"))


def _parse_pdf(data: bytes) -> Raw:
    import pypdfium2  # type: ignore[import-untyped]
    from pypdfium2 import raw as pdfium

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise Unreadable("is encrypted: remove its password first") from None
        raise
    pages: list[list[_Line]] = []
    left = MAX_TEXT
    for number in range(len(pdf)):
        try:
            page = pdf[number]
        except pypdfium2.PdfiumError:
            pages.append([])  # a broken page keeps its number, and the others their text
            continue
        pages.append(list(_pdf_lines(page.get_textpage())))
        page.close()
        left -= sum(len(line.text) for line in pages[-1])
        if left < 0:
            raise too_large(MAX_TEXT)
    return Raw(pdf.get_metadata_value("Title"), list(map(_reflow, _without_running(pages))))


def _pdf_lines(textpage: Any) -> Iterator[_Line]:
    from ctypes import byref, c_double

    from pypdfium2 import raw as pdfium

    characters: list[str] = []
    x, y, size = c_double(), c_double(), 0.0
    count = textpage.count_chars()
    for index in range(count + 1):
        code = pdfium.FPDFText_GetUnicode(textpage, index) if index < count else 10
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


def _without_running(pages: list[list[_Line]]) -> list[list[_Line]]:
    """The pages without what only repeats: page numbers, and all but the first of the heads
    and feet that stand on many pages at one height, set apart from the text."""
    places: dict[tuple[str | int, int], list[tuple[int, int]]] = {}
    for number, lines in enumerate(pages):
        for index in _edges(lines):
            key = (_uncounted(lines[index].text, number), round(lines[index].y))
            places.setdefault(key, []).append((number, index))
    many = max(RUNNING_PAGES, RUNNING_SHARE * sum(map(bool, pages)))
    running: set[tuple[int, int]] = set()
    for (text, _), found in places.items():
        if len(found) >= many:
            running.update(found if isinstance(text, int) else found[1:])
    return [
        [line for index, line in enumerate(lines) if (number, index) not in running]
        for number, lines in enumerate(pages)
    ]


def _uncounted(text: str, page: int) -> str | int:
    """What a head has in common with those of other pages: its words, with any page number in
    it as the distance from the count of pages; only that distance where it is all there is."""
    if alone := _PAGE_NUMBER.fullmatch(text):
        return int(alone[1]) - page
    return _NAMED_PAGE.sub(lambda found: f"{found[1]}{int(found[2]) - page}", text)


def _edges(lines: list[_Line]) -> Iterator[int]:
    """The lines at a page's top and bottom, as far as the first wide gap, if that is near."""
    usual = _usual_drop(lines)
    downwards = sorted(range(len(lines)), key=lambda index: -lines[index].y)
    for order in (downwards, downwards[::-1]):
        for count, (index, following) in enumerate(pairwise(order[: EDGE_LINES + 1]), start=1):
            upper, lower = sorted((lines[index], lines[following]), key=lambda line: -line.y)
            if _is_wide(upper, lower, usual):
                yield from order[:count]
                break


def _usual_drop(lines: list[_Line]) -> float:
    drops = [above.y - below.y for above, below in pairwise(lines) if above.y > below.y]
    return median(drops) if drops else 0.0


def _is_wide(above: _Line, below: _Line, usual: float) -> bool:
    return above.y - below.y > 1.35 * max(usual, 1.2 * above.size)


def _reflow(lines: list[_Line]) -> str:
    """Lines put together into paragraphs, and words divided at a line's end into one."""
    usual = _usual_drop(lines)
    parts: list[str] = []
    for index, line in enumerate(lines):
        if index:
            parts.append(_joint(lines[index - 1], line, usual))
        text = line.text
        following = lines[index + 1] if index + 1 < len(lines) else None
        if line.divided:
            stem = text if line.hyphenated else text[:-1]
            joined = following and following.text[0].islower() and stem[-1:].isalpha()
            text = stem if joined else stem + "-"
        parts.append(text)
    return "".join(parts)


def _joint(above: _Line, below: _Line, usual: float) -> str:
    """What stands between two lines of a page: a blank line, a space or nothing."""
    if above.divided:
        return "" if below.text[0].isalpha() else " "
    other_size = abs(above.size - below.size) > 0.1 * max(above.size, below.size)
    indent = below.x - above.x
    indented = 0.5 * usual < indent < 4 * usual and above.text.endswith(
        (".", "!", "?", ":", "“", '"')
    )
    apart = _is_wide(above, below, usual) or other_size or indented
    return "\n\n" if apart else " "


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


def _parse_docx(data: bytes) -> Raw:
    import docx

    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("is encrypted, or of an old Word: save it as DOCX without a password")
    document = docx.Document(io.BytesIO(data))
    title = sensible_title(document.core_properties.title) or next(_docx_headings(document), "")
    return Raw(title, ["\n\n".join(_docx_blocks(document.element.body))])


def _docx_headings(document: Any) -> Iterator[str]:
    for paragraph in document.paragraphs[:50]:
        style, text = paragraph.style, paragraph.text
        if style and text.strip() and (style.name or "").startswith(("Title", "Heading")):
            yield text


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


_PARSERS: dict[str, Callable[[bytes], Raw]] = {
    "pdf": _parse_pdf,
    "docx": _parse_docx,
    "html": _parse_html,
    "markdown": _parse_markdown,
}
_FORMATS = {"pdf": "PDF", "docx": "DOCX", "html": "HTML", "markdown": "Markdown"}

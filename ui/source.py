"""The source pane: a whole document as safe HTML, with the places that an answer rests on.

Its structure (headings, paragraphs, pages) is read off the canonical text, which says
nothing of it but in its blank lines and short lines; nothing of the text is changed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from index.types import Document
from rag.answer import Answer
from ui.markup import safe
from ui.phrases import count, phrase

PART = 200_000
"""Documents of more characters are shown in parts of about so many."""
HEADING = 100
"""No heading is longer."""
WRAPPED = 60
"""Prose whose lines are about as long as this or longer was wrapped by whoever wrote it."""

RIGHT = "✓"
"""Labels the place that a test question asks for."""
AGAINST = "≠"
"""Begins the labels of places that say otherwise than a citation."""

_BREAK = re.compile(r"\n[ \t]*\n\s*")
_NO_HEADING = tuple(".!?:;,…-–|")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a document that is marked: a citation, or a passage near the question.

    ``label`` names it within its answer: the citation's number, that of a place that says
    otherwise, or a letter.
    """

    label: str
    document: Document
    start: int
    end: int
    near: bool = False


def marks(answer: Answer, nearest: int) -> list[Mark]:
    """What an answer cites and what says otherwise, or of a refusal the ``nearest`` passages."""
    if answer.citations:
        cited = [Mark(str(c.marker), c.document, c.start, c.end) for c in answer.citations]
        against = [
            Mark(f"{AGAINST}{number}", d.document, d.start, d.end, near=True)
            for number, d in enumerate(answer.disagreements, 1)
        ]
        return cited + against
    found = []
    for number, hit in enumerate(answer.passages[:nearest]):
        span = hit.nearest or hit.passage
        label = chr(ord("a") + number)
        found.append(Mark(label, hit.passage.document, span.start, span.end, near=True))
    return found


def pane(
    document: Document | None,
    marked: Sequence[Mark],
    language: str,
    *,
    key: str = "",
    active: str = "",
    part: int | None = None,
    above: str = "",
) -> str:
    """The whole document, or of a long one the part with the ``active`` mark.

    ``key`` says which answer the marks belong to; ``marked`` may hold those of other
    documents too: they are listed. ``above`` is HTML to stand over it.
    """
    if document is None:
        nothing = safe(phrase("no documents", language))
        return f'<div class="source" lang="{safe(language)}"><p class="soft">{nothing}</p></div>'
    own = [mark for mark in marked if mark.document == document]
    shown = next((mark for mark in own if mark.label == active), own[0] if own else None)
    starts = _parts(document.text)
    if part is None:
        part = bisect_right(starts, shown.start) - 1 if shown else 0
    part = min(max(part, 0), len(starts) - 1)
    start, end = [*starts, len(document.text)][part : part + 2]
    body = "".join(
        _block(document, *block, own, language) for block in _blocks(document, start, end)
    )
    attributes = (
        f'lang="{safe(language)}" data-key="{safe(key)}" data-document="{document.id}"'
        f' data-active="{safe(active)}" data-part="{part}"'
    )
    steps = _parts_bar(part, len(starts), language)
    return (
        f'<div class="source" {attributes}>{above}{_head(document, marked, own, language)}{steps}'
        f'<article class="page-text" tabindex="0" dir="auto" lang="{safe(document.language)}"'
        f' aria-label="{safe(document.title)}">{body}</article></div>'
    )


# ---- Structure -------------------------------------------------------------------------------


def _parts(text: str) -> list[int]:
    """Where the parts of a text begin: at a paragraph, or if there is none, anywhere."""
    starts = [0]
    while len(text) - starts[-1] > PART * 1.5:
        aim = starts[-1] + PART
        found = _BREAK.search(text, aim, aim + PART // 4)
        starts.append(found.end() if found else aim)
    return starts


def _blocks(document: Document, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """The paragraphs between ``start`` and ``end``, each with the name of its element."""
    text = document.text
    edges = [start]
    for gap in _BREAK.finditer(text, start, end):
        edges += [gap.start(), gap.end()]
    edges.append(end)
    spans = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
    for (a, b), after in zip(spans, [*spans[1:], None], strict=True):
        yield a, b, _kind(text, a, b, last=after is None and b == len(text))


def _kind(text: str, start: int, end: int, *, last: bool) -> str:
    block = text[start : min(end, start + 5000)]
    lines = block.split("\n")
    if len(lines) > 1:
        widths = [len(line) for line in lines[:-1]]
        wrapped = min(widths) * 2 > max(widths) >= WRAPPED
        return "p" if wrapped else "lines"
    first = block.lstrip("#§*_ „“\"'(")[:1]
    heading = len(block) <= HEADING and not block.endswith(_NO_HEADING) and not first.islower()
    return "h3" if heading and not last and first.isalnum() else "p"


# ---- HTML ------------------------------------------------------------------------------------


def _head(document: Document, marked: Sequence[Mark], own: Sequence[Mark], language: str) -> str:
    length = count(len(document.text), language)
    about = [document.source, f"{length} {phrase('characters', language)}"]
    if document.pages:
        about.insert(1, f"{len(document.pages)} {phrase('pages', language)}")
    bars = []
    if own:
        off = " disabled" if len(own) == 1 else ""
        buttons = "".join(
            f'<button type="button" data-step="{step}" aria-label="{safe(phrase(name, language))}"'
            f' title="{safe(phrase(name, language))}"{off}>{arrow}</button>'
            for step, name, arrow in ((-1, "previous", "↑"), (1, "next", "↓"))
        )
        ordered = sorted(own, key=lambda mark: (mark.start, mark.end))
        labels = " ".join(mark.label for mark in ordered)
        names = "|".join(_name(mark, language) for mark in ordered)
        of = safe(phrase("place of", language)).format("<b>–</b>", len(own))
        bars.append(
            f'<div class="steps" role="group" aria-label="{safe(phrase("marked", language))}"'
            f' data-labels="{safe(labels)}" data-names="{safe(names)}">'
            f'<span aria-live="polite"><span></span> {of}</span>{buttons}</div>'
        )
    others = _cited_from(document, marked, language)
    close = phrase("close", language)
    return (
        '<header><div class="about">'
        f'<h2 dir="auto">{safe(document.title)}</h2>'
        f'<p class="soft">{safe(" · ".join(about))}</p></div>{"".join(bars)}'
        f'<button type="button" class="close" aria-label="{safe(close)}" title="{safe(close)}">'
        f"×</button></header>{others}"
    )


def _name(mark: Mark, language: str) -> str:
    """What a mark is: a citation with its number, a place that says otherwise, a near passage
    with its letter, or the place that a test question asks for."""
    if mark.label == RIGHT:
        return f"{phrase('right answer', language)} {RIGHT}"
    if mark.label.startswith(AGAINST):
        return f"{phrase('other source', language)} [{mark.label}]"
    return f"{phrase('near' if mark.near else 'citation', language)} [{mark.label}]"


def _cited_from(document: Document, marked: Sequence[Mark], language: str) -> str:
    """Of several documents a list, with what was cited from each."""
    by_document: dict[str, list[Mark]] = {}
    for mark in marked:
        by_document.setdefault(mark.document.id, []).append(mark)
    if len(by_document) < 2:
        return ""
    items = []
    for found in by_document.values():
        labels = "".join(f'<span class="label">{safe(mark.label)}</span>' for mark in found)
        here = ' aria-current="true"' if found[0].document == document else ""
        first = f'data-mark="{safe(found[0].label)}"{here}'
        items.append(
            f'<li><button type="button" class="cited-from" {first}>'
            f"{labels} {safe(found[0].document.title)}</button></li>"
        )
    return (
        f'<nav class="several" aria-label="{safe(phrase("cited from", language))}">'
        f"<ul>{''.join(items)}</ul></nav>"
    )


def _parts_bar(part: int, parts: int, language: str) -> str:
    if parts == 1:
        return ""

    def button(name: str, to: int) -> str:
        off = "" if 0 <= to < parts else " disabled"
        return (
            f'<button type="button" data-part="{to}"{off}>{safe(phrase(name, language))}</button>'
        )

    said = safe(phrase("part", language).format(part + 1, parts))
    return (
        f'<div class="parts">{button("earlier", part - 1)} <span>{said}</span>'
        f" {button('later', part + 1)}</div>"
    )


def _block(
    document: Document, start: int, end: int, kind: str, marked: Sequence[Mark], language: str
) -> str:
    tag, name = ("p", ' class="lines"') if kind == "lines" else (kind, "")
    inside = [mark for mark in marked if mark.start < end and start < mark.end]
    pages = [page for page in document.pages if start <= page < end]
    if not inside and not pages:
        return f"<{tag}{name}>{safe(document.text[start:end])}</{tag}>"
    edges = {start, end, *pages}
    edges |= {edge for m in inside for edge in (m.start, m.end) if start < edge < end}
    pieces = []
    for left, right in pairwise(sorted(edges)):
        if left in pages:
            number = document.page_at(left)
            pieces.append(f'<span class="page">{safe(phrase("page", language))} {number}</span>')
        covering = [mark for mark in inside if mark.start <= left and right <= mark.end]
        pieces.append(_piece(document.text[left:right], left, covering))
    return f"<{tag}{name}>{''.join(pieces)}</{tag}>"


def _piece(text: str, start: int, covering: Sequence[Mark]) -> str:
    if not covering:
        return safe(text)
    labels = " ".join(mark.label for mark in covering)
    near = ' class="near"' if all(mark.near for mark in covering) else ""
    first = "".join(f"<sup>{safe(mark.label)}</sup>" for mark in covering if mark.start == start)
    focus = ' tabindex="-1"' if first else ""
    return f'<mark{near} data-m="{safe(labels)}"{focus}>{first}{safe(text)}</mark>'

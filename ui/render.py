"""Answers for the eye: safe HTML for the chat, plain text for the terminal.

Everything that comes from a document, a file name, a question or an error is escaped
here and nowhere read as HTML or Markdown. The module knows nothing of Gradio and
decides nothing: what to say is the answer's business.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import indent
from typing import TypeAlias

from index.types import Document, Hit
from rag.answer import Answer, Citation
from rag.check import SUPPORT
from ui.markup import safe

NEAREST = 3
"""So many of the nearest passages are shown when nothing answers."""
EXCERPT = 240
"""So many characters of each, in the terminal."""
DOUBTFUL = 0.5
"""An answer that is less likely than this to be right is given with a word of doubt."""

_WORDS = {
    "en": {
        "page": "page",
        "characters": "characters",
        "citation": "Citation",
        "translation": "machine translation",
        "waiting": "Searching your documents …",
        "empty": "Ask a question about the documents. "
        "Every sentence of an answer is shown where it stands in its source.",
        "reading": "Reading",
        "added": "Added",
        "this visit": "only for this visit",
        "weak": "weakly supported",
        "unsupported": "not supported by what it cites",
        "flag": "“{}”: {}",
        "invented": "a quotation that stands in no cited passage",
        "another document": "quoted from another document than those cited",
        "another passage": "quoted from another passage than those cited",
        "stitched together": "a quotation stitched together",
        "number": "a number that stands in no cited passage",
        "name": "a name that stands in no cited passage",
        "unquoted number": "a number that is not in the quote, but elsewhere in the passage",
        "denied": "a denial that is not in the quote",
        "affirmed": "what the quote denies",
        "opposite": "the opposite of a word in the quote",
        "swapped": "names that have changed places in the quote",
        "against": "Sources disagree on [{}]. {} says:",
        "understood": "Understood as: {}",
        "doubtful": "Doubtful: this may not answer the question ({:.0%} sure).",
        "failed": "Something went wrong inside Beleg ({}). Please try again.",
    },
    "de": {
        "page": "Seite",
        "characters": "Zeichen",
        "citation": "Beleg",
        "translation": "maschinelle Übersetzung",
        "waiting": "Ihre Dokumente werden durchsucht …",
        "empty": "Stellen Sie eine Frage zu den Dokumenten. "
        "Jeder Satz einer Antwort wird dort gezeigt, wo er in seiner Quelle steht.",
        "reading": "Wird gelesen:",
        "added": "Hinzugefügt:",
        "this visit": "nur für diesen Besuch",
        "weak": "schwach belegt",
        "unsupported": "durch die Zitate nicht belegt",
        "flag": "„{}“: {}",
        "invented": "ein Zitat, das in keiner belegten Stelle steht",
        "another document": "ein Zitat aus einem anderen als den belegten Dokumenten",
        "another passage": "ein Zitat aus einer anderen als den belegten Stellen",
        "stitched together": "ein zusammengestückeltes Zitat",
        "number": "eine Zahl, die in keiner belegten Stelle steht",
        "name": "ein Name, der in keiner belegten Stelle steht",
        "unquoted number": "eine Zahl, die nicht im Zitat, aber anderswo in der Stelle steht",
        "denied": "eine Verneinung, die nicht im Zitat steht",
        "affirmed": "was das Zitat verneint",
        "opposite": "das Gegenteil eines Wortes im Zitat",
        "swapped": "Namen, die im Zitat umgekehrt stehen",
        "against": "Die Quellen widersprechen sich zu [{}]. In {} steht:",
        "understood": "Verstanden als: {}",
        "doubtful": "Unsicher: Das beantwortet die Frage vielleicht nicht ({:.0%} sicher).",
        "failed": "In Beleg ist etwas schiefgegangen ({}). Bitte versuchen Sie es noch einmal.",
    },
}

_QUOTES = {"en": ("“", "”"), "de": ("„", "“")}

# C0 and C1 controls except tab and newline: escape sequences could drive the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_MARKER = r"\[(\d+)\]"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what is there for it so far: an answer, part of its text, or an error."""

    question: str
    answer: Answer | None = None
    partial: str = ""
    error: str = ""


_Excerpt: TypeAlias = tuple[Document, int, int]


def word(key: str, language: str) -> str:
    """A phrase of the interface, in German for ``de`` and in English for all others."""
    return _WORDS.get(language, _WORDS["en"])[key]


def preferred_language(accept: str) -> str:
    """``de`` if an Accept-Language header asks for German first, else ``en``."""
    return "de" if accept.strip().lower().startswith("de") else "en"


def where(document: Document, start: int, end: int, language: str) -> str:
    """Where a span stands, for people: ``report.pdf, page 3, characters 512–603``."""
    page = document.page_at(start)
    parts = [document.source]
    if page is not None:
        parts.append(f"{word('page', language)} {page}")
    parts.append(f"{word('characters', language)} {start}–{end}")
    return ", ".join(parts)


def terminal(answer: Answer) -> str:
    """The answer, then its numbered citations; if there are none, a little of the nearest
    passages."""
    language = answer.language
    understood = [word("understood", language).format(answer.understood), ""]
    lines = [*(understood if answer.understood else []), _marked(answer)]
    lines += [*_doubt(answer), *_flags(answer)]
    for citation in answer.citations:
        place = where(citation.document, citation.start, citation.end, language)
        lines += ["", f"[{citation.marker}] {place}", _indented(citation.quote, language)]
        if citation.translation:
            lines.append(f"    {word('translation', language)}: {citation.translation}")
    for against in answer.disagreements:
        place = where(against.document, against.start, against.end, language)
        lines += ["", word("against", language).format(against.marker, place)]
        lines.append(_indented(against.quote, language))
    if not answer.answered:
        for hit in answer.passages[:NEAREST]:
            document = hit.passage.document
            start, end = _excerpt(hit)
            place = where(document, start, end, language)
            cut = "" if end in (hit.passage.end, hit.nearest and hit.nearest.end) else " …"
            lines += ["", f"  · {place}", _indented(document.text[start:end] + cut, language)]
    return plain("\n".join(lines))


def _doubt(answer: Answer) -> list[str]:
    if not answer.answered or answer.by_keywords or answer.confidence >= DOUBTFUL:
        return []
    return [word("doubtful", answer.language).format(answer.confidence)]


def _marked(answer: Answer) -> str:
    """The answer's text, with a word after each sentence that is not fully supported."""
    parts, done = [], 0
    for claim in answer.claims:
        parts.append(answer.text[done : claim.end])
        if claim.support != SUPPORT[0]:
            parts.append(f" ({word(claim.support, answer.language)})")
        done = claim.end
    return "".join([*parts, answer.text[done:]])


def _flags(answer: Answer) -> list[str]:
    """A line on each thing in the answer that no cited passage holds."""
    marks = "".join(mark for pair in _QUOTES.values() for mark in pair) + '"«»'
    return [
        word("flag", answer.language).format(
            flag.text.strip(marks), word(flag.kind, answer.language)
        )
        for claim in answer.claims
        for flag in claim.flags
    ]


def _excerpt(hit: Hit) -> tuple[int, int]:
    """The sentence of a passage nearest to the question, or whole words from its beginning."""
    span = hit.nearest or hit.passage
    if span.end - span.start <= EXCERPT:
        return span.start, span.end
    head = hit.passage.document.text[span.start : span.start + EXCERPT]
    return span.start, span.start + len(re.split(r"\s+\S*$", head)[0])


def plain(text: str) -> str:
    """``text`` without control characters that a terminal would obey."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def conversation(turns: Sequence[Turn], language: str) -> str:
    """The whole conversation as HTML; ``language`` is that of the interface."""
    if not turns:
        return f'<div class="talk"><p class="empty">{safe(word("empty", language))}</p></div>'
    body = "".join(_turn(turn, number, language) for number, turn in enumerate(turns))
    return f'<div class="talk" role="log" aria-live="polite">{body}</div>'


def documents(in_use: Iterable[Document], own: Collection[Document], language: str) -> str:
    """The list of documents in use, the visitor's ``own`` ones named as such."""
    note = f"<small>{safe(word('this visit', language))}</small>"
    items = [_document(document, note if document in own else "") for document in in_use]
    return f'<ul class="documents">{"".join(items)}</ul>'


def status(done: str, problems: Iterable[str] = ()) -> str:
    """A line on what was done and one for each problem, or nothing."""
    lines = [f"<p>{safe(done)}</p>"] if done else []
    lines += [f'<p class="error">{safe(problem)}</p>' for problem in problems]
    return f'<div class="status" role="status">{"".join(lines)}</div>'


def _turn(turn: Turn, number: int, language: str) -> str:
    parts = [f'<p class="question" dir="auto">{safe(turn.question)}</p>']
    if turn.answer is not None:
        parts.append(_answer(turn.answer, f"t{number}"))
    elif turn.error:
        parts.append(f'<p class="error" role="alert">{safe(turn.error)}</p>')
    elif turn.partial:
        parts.append(f'<p class="text" dir="auto">{safe(turn.partial)}</p>')
    else:
        parts.append(f'<p class="waiting">{safe(word("waiting", language))}</p>')
    return f'<section class="turn">{"".join(parts)}</section>'


def _answer(answer: Answer, key: str) -> str:
    kind = "text" if answer.answered else "text refusal"
    parts = [f'<p class="{kind}" dir="auto">{_linked(answer, key)}</p>']
    if answer.understood:
        understood = word("understood", answer.language).format(answer.understood)
        parts.insert(0, f'<p class="understood" dir="auto">{safe(understood)}</p>')
    doubts = [*_doubt(answer), *_flags(answer)]
    parts += [f'<p class="flag">{safe(line)}</p>' for line in doubts]
    if answer.notice:
        parts.append(f'<p class="notice">{safe(answer.notice)}</p>')
    cited: dict[_Excerpt, list[Citation]] = {}
    for citation in answer.citations:
        excerpt = (citation.document, citation.passage_start, citation.passage_end)
        cited.setdefault(excerpt, []).append(citation)
    parts += [_passage(*excerpt, group, key, answer.language) for excerpt, group in cited.items()]
    for against in answer.disagreements:
        place = where(against.document, against.start, against.end, answer.language)
        told = word("against", answer.language).format(against.marker, place)
        quote = f'<q lang="{safe(against.document.language)}">{safe(against.quote)}</q>'
        parts.append(f'<p class="flag" dir="auto">{safe(told)} {quote}</p>')
    if not answer.answered and answer.passages:
        for hit in answer.passages[:NEAREST]:
            found = hit.passage
            parts.append(_passage(found.document, found.start, found.end, [], key, answer.language))
    return "".join(parts)


def _linked(answer: Answer, key: str) -> str:
    """The answer's text; ``[n]`` leads to citation n, unless a quote itself holds it."""
    known = {citation.marker for citation in answer.citations}
    # In the answer's text a quote's line breaks may have become spaces.
    quotes = [r"\s+".join(map(re.escape, c.quote.split())) for c in answer.citations]
    pattern = re.compile("|".join([*sorted(filter(None, quotes), key=len)[::-1], _MARKER]))
    links = [m for m in pattern.finditer(answer.text) if m[1] is not None and int(m[1]) in known]

    def linked(start: int, end: int) -> str:
        parts = []
        for match in links:
            if not start <= match.start() < end:
                continue
            name = f"{word('citation', answer.language)} {match[1]}"
            link = f'class="marker" href="#{key}c{match[1]}" aria-label="{safe(name)}"'
            parts.append(safe(answer.text[start : match.start()]))
            parts.append(f"<a {link}>[{match[1]}]</a>")
            start = match.end()
        return "".join([*parts, safe(answer.text[start:end])])

    parts, done = [], 0
    for claim in answer.claims:
        if claim.support != SUPPORT[0]:
            note = safe(f"({word(claim.support, answer.language)})")
            inside = f"{linked(claim.start, claim.end)} <small>{note}</small>"
            parts.append(linked(done, claim.start))
            parts.append(f'<span class="{claim.support}">{inside}</span>')
            done = claim.end
    return "".join([*parts, linked(done, len(answer.text))])


def _passage(
    document: Document, start: int, end: int, cited: list[Citation], key: str, language: str
) -> str:
    """A passage under its source, each quote in it marked and numbered."""
    body = "".join(
        _segment(document.text[left:right], inside, first, key)
        for left, right, inside, first in _segments(start, end, cited)
    )
    numbers = "".join(f"[{citation.marker}]" for citation in cited)
    spans = [(citation.start, citation.end) for citation in cited] or [(start, end)]
    place = where(document, min(spans)[0], max(right for _, right in spans), language)
    return (
        '<figure class="passage"><figcaption>'
        f"<b>{numbers} {safe(document.title)}</b> <span>{safe(place)}</span></figcaption>"
        f'<blockquote dir="auto" lang="{safe(document.language)}">{body}</blockquote>'
        f"{_translations(cited, language)}</figure>"
    )


def _translations(cited: list[Citation], language: str) -> str:
    label = word("translation", language)
    told = [
        f"<p>[{c.marker}] {safe(c.translation)} <small>({safe(label)})</small></p>"
        for c in cited
        if c.translation
    ]
    return "".join(told)


def _segments(
    start: int, end: int, cited: list[Citation]
) -> Iterator[tuple[int, int, bool, list[Citation]]]:
    """Cut ``[start, end)`` where quotes begin or end, for quotes may overlap.

    Yields each piece, whether a quote covers it, and the citations that begin with it.
    """
    cuts = sorted({start, end, *(edge for c in cited for edge in (c.start, c.end))})
    for left, right in pairwise(cuts):
        inside = any(c.start <= left and right <= c.end for c in cited)
        yield left, right, inside, [c for c in cited if c.start == left]


def _segment(text: str, inside: bool, first: list[Citation], key: str) -> str:
    if not inside:
        return safe(text)
    anchors = "".join(f'<sup id="{key}c{c.marker}">{c.marker}</sup>' for c in first)
    return f"{anchors}<mark>{safe(text)}</mark>"


def _document(document: Document, note: str) -> str:
    return f"<li><b>{safe(document.title)}</b> <span>{safe(document.source)}</span> {note}</li>"


def _indented(quote: str, language: str) -> str:
    left, right = _QUOTES.get(language, _QUOTES["en"])
    return indent(f"{left}{quote}{right}", "    ")

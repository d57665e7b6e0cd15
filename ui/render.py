"""Answers for the eye: safe HTML for the chat, plain text for the terminal.

Everything that comes from a document, a file name, a question or an error is escaped
here and nowhere read as HTML or Markdown. The module knows nothing of Gradio and
decides nothing: what to say is the answer's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from textwrap import indent
from typing import Any

from index.embed import BUNDLED_NAME
from index.types import Document
from rag.answer import Answer, Citation
from rag.check import SUPPORT, Claim
from rag.disagree import Disagreement
from rag.llm import LanguageModel
from ui.guard import UPLOAD
from ui.markup import safe, table
from ui.phrases import count, decimal, known, percent, phrase
from ui.source import AGAINST, marks

NEAREST = 3
"""So many of the nearest passages are shown when nothing answers."""
MOST_NEAREST = 10
"""A visitor may ask for so many at most."""
EXCERPT = 240
"""So many characters of each."""
LISTED = 200
"""So many documents are listed."""
DOUBTFUL = 0.5
"""An answer that is less likely than this to be right is given with a word of doubt."""
SURE = 0.85
"""From this chance on, it is called very likely to be right."""

_QUOTES = {"en": ("“", "”"), "de": ("„", "“")}

# C0 and C1 controls except tab and newline: escape sequences could drive the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_MARKER = r"\[(\d+)\]"
_COMING = re.compile(f" ?{_MARKER}")

# What Markdown would read; some colons make links of addresses, or pictures of names.
_MARKUP = re.compile(
    r"[\\`*_\[\]<>#|~!&$]|:(?=//|[a-z_+-][\w+-]*:)|(?<=mailto):|(?<=xmpp):", re.IGNORECASE
)
_BEGINNING = re.compile(r"^(\d*)([-+=.)])")


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what is there for it so far: an answer, part of its text, or an error.

    ``number`` counts the questions of a visit; ``waiting`` says what is still being done;
    ``rated`` is the visitor's verdict, ``kept`` the id of the test question that it is kept as,
    ``problem`` what was wrong with it.
    """

    question: str
    answer: Answer | None = None
    partial: str = ""
    error: str = ""
    number: int = 0
    waiting: str = ""
    rated: str = ""
    kept: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Adding:
    """How far documents have been added: what is there, what went wrong, what is being read, by
    the number that can ``stop`` it, and what is ``waiting`` for that, by its numbers."""

    added: tuple[Document, ...] = ()
    problems: tuple[str, ...] = ()
    reading: str = ""
    number: int = 0
    total: int = 0
    stop: int = 0
    waiting: tuple[tuple[int, str], ...] = ()


def where(document: Document, start: int, end: int, language: str) -> str:
    """Where a span stands, for people: ``report.pdf, page 3, characters 512–603``."""
    page = document.page_at(start)
    parts = [document.source]
    if page is not None:
        parts.append(f"{phrase('page', language)} {page}")
    parts.append(f"{phrase('characters', language)} {start}–{end}")
    return ", ".join(parts)


def terminal(answer: Answer) -> str:
    """The answer, then its numbered citations; if there are none, a little of the nearest
    passages."""
    language = answer.language
    understood = [phrase("understood", language).format(answer.understood), ""]
    lines = [*(understood if answer.understood else []), _marked(answer)]
    lines += [*_doubt(answer, language), *_flags(answer, language)]
    for citation in answer.citations:
        place = where(citation.document, citation.start, citation.end, language)
        lines += ["", f"[{citation.marker}] {place}", _indented(citation.quote, language)]
        if citation.translation:
            lines.append(f"    {phrase('translation', language)}: {citation.translation}")
    for against in answer.disagreements:
        lines += ["", _against(against, language)]
        lines.append(_indented(against.quote, language))
    if not answer.answered:
        for hit in answer.passages[:NEAREST]:
            document, span = hit.passage.document, hit.nearest or hit.passage
            end, said = _excerpt(document, span.start, span.end)
            place = where(document, span.start, end, language)
            lines += ["", f"  · {place}", _indented(said, language)]
    return plain("\n".join(lines))


def _doubt(answer: Answer, language: str) -> list[str]:
    if not answer.answered or answer.by_keywords or answer.confidence >= DOUBTFUL:
        return []
    return [phrase("doubtful", language).format(percent(answer.confidence, language))]


def _marked(answer: Answer) -> str:
    """The answer's text, with a word after each sentence that is not fully supported."""
    parts, done = [], 0
    for claim in answer.claims:
        parts.append(answer.text[done : claim.end])
        if claim.support != SUPPORT[0]:
            parts.append(f" ({phrase(claim.support, answer.language)})")
        done = claim.end
    return "".join([*parts, answer.text[done:]])


def _flags(answer: Answer, language: str) -> list[str]:
    """A line on each thing in the answer that no cited passage holds."""
    quotes = "".join(mark for pair in _QUOTES.values() for mark in pair) + '"«»'
    return [
        phrase("flag", language).format(flag.text.strip(quotes), phrase(flag.kind, language))
        for claim in answer.claims
        for flag in claim.flags
    ]


def _against(found: Disagreement, language: str) -> str:
    """What a source says otherwise than a citation, and where."""
    place = where(found.document, found.start, found.end, language)
    return phrase("against", language).format(found.marker, place)


def _excerpt(document: Document, start: int, end: int) -> tuple[int, str]:
    """A span if it is short, or whole words from its beginning: where that ends, and the text."""
    text = document.text[start:end]
    if len(text) <= EXCERPT:
        return end, text
    head = re.split(r"\s+\S*$", text[:EXCERPT])[0]
    return start + len(head), f"{head} …"


def plain(text: str) -> str:
    """``text`` without control characters that a terminal would obey."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def conversation(
    turns: Sequence[Turn],
    language: str,
    *,
    examples: Sequence[str] = (),
    nearest: int = NEAREST,
    rating: bool = False,
    fixed: bool = False,
    shared: bool = False,
    written: bool = False,
) -> str:
    """The whole conversation as HTML; ``language`` is that of the interface.

    ``examples`` are offered while nothing has been asked; of a refusal, the ``nearest``
    passages are shown; with ``rating`` an answer can be called right or wrong. The documents
    may be ``fixed``, or ``shared``: what is added is there for all; answers may be ``written`` by
    a language model rather than quotes.
    """
    body = (
        "".join(_turn(turn, language, nearest, rating) for turn in turns)
        if turns
        else _empty(examples, language, fixed=fixed, shared=shared, written=written)
    )
    name = safe(phrase("conversation", language))
    return (
        f'<div class="talk" lang="{safe(language)}" tabindex="0" role="region"'
        f' aria-label="{name}">{body}</div>'
    )


def masthead(
    llm: LanguageModel | None,
    language: str,
    *,
    fixed: bool = False,
    shared: bool = False,
    local: bool = True,
    where: str = "",
) -> str:
    """The name, what is running where, and what is said where files are dropped.

    The page is ``local`` if only the computer that runs it can reach it; ``where`` is said of
    the language model.
    """
    drop = phrase("fixed" if fixed else "drop here for all" if shared else "drop here", language)
    tagline = phrase("tagline" if llm is None else "tagline model", language)
    place = safe(phrase("local" if local else "not local", language))
    if llm is not None:
        sent = "" if local else f"{safe(phrase('to that computer', language))} "
        place = sent + safe(phrase("model", language)).format(
            f"<b>{safe(llm.name)}</b> ({safe(where)})"
        )
    refused = phrase("too large file", language).format("{}", UPLOAD // 1_000_000)
    limits = (
        f'<span hidden id="upload-limits" data-bytes="{UPLOAD}" data-large="{safe(refused)}"'
        f' data-kind="{safe(phrase("wrong kind", language))}"'
        f' data-close="{safe(phrase("dismiss", language))}"></span>'
    )
    return (
        f'<div class="masthead" lang="{safe(language)}"><h1>Beleg</h1>'
        f'<p class="tagline">{safe(tagline)}</p>'
        f'<p class="where">{place}</p>'
        f'<span hidden id="drop-text">{safe(drop)}</span>{limits}</div>'
    )


def documents(
    in_use: Sequence[Document],
    own: Collection[str],
    language: str,
    *,
    shared: bool = False,
    fixed: bool = False,
) -> str:
    """The list of documents in use; those whose ids are in ``own`` are this visit's only.

    ``shared`` says that what is changed is changed for all, ``fixed`` that nothing may be.
    """

    def said(key: str) -> str:
        return safe(phrase(key, language))

    items = []
    for document in islice(in_use, LISTED):
        visible = "this visit" if document.id in own else "for all"
        length = f"{count(len(document.text), language)} {phrase('characters', language)}"
        what = safe(f"{document.source}, {length}")
        data = f'data-document="{document.id}"'
        title = safe(document.title)
        remove = (
            f'<button type="button" class="remove" {data} data-sure="{said("really")}"'
            f' aria-label="{said("remove")}: {title}">{said("remove")}</button>'
        )
        items.append(
            f'<li><div class="about"><b dir="auto">{title}</b><br/><span>{what}</span>'
            f" <small>({said(visible)})</small></div>"
            f'<button type="button" class="read" {data} aria-label="{said("read")}: {title}">'
            f"{said('read')}</button>{'' if fixed else remove}</li>"
        )
    listed = f'<ul class="documents">{"".join(items)}</ul>'
    none = f"<p>{said('no documents')}</p>"
    more = len(in_use) - len(items)
    rest = f"<p>{safe(phrase('more documents', language).format(more))}</p>" if more else ""
    where_kept = said("fixed" if fixed else "kept for all" if shared else "kept here")
    how = "" if fixed else f'<p class="soft">{said("drop here too")} {said("limits")}</p>'
    return (
        f'<h2 tabindex="-1">{said("documents")}</h2><p class="soft">{where_kept}</p>'
        f"{listed if items else none}{rest}{how}"
    )


def adding(found: Adding, language: str) -> str:
    """How far documents have been added, and what went wrong: a line for each file that is not
    there yet, with what leaves it out, and for each problem, with what closes it."""
    lines = []

    def line(said: str, kind: str = "", data: str = "", name: str = "") -> None:
        cross = f' <button type="button" {data} aria-label="{safe(name)}">×</button>'
        lines.append(f"<p{kind}>{safe(said)}{cross if data else ''}</p>")

    if found.added:
        names = ", ".join(document.source for document in found.added)
        line(f"{phrase('added', language)} {names}")
    if found.reading:
        of = phrase("of", language).format(found.number, found.total)
        place = f" ({of})" if found.total > 1 else ""
        data = f'data-leave-out="{found.stop}"' if found.stop else ""
        name = phrase("leave out", language).format(found.reading)
        line(f"{phrase('reading', language)} {found.reading}{place} …", "", data, name)
    for number, waiting in found.waiting:
        name = phrase("leave out", language).format(waiting)
        said = phrase("to be read", language).format(waiting)
        line(said, "", f'data-leave-out="{number}"', name)
    for place_of, problem in enumerate(found.problems):
        data = f'data-dismiss="{place_of}"'
        line(problem, ' class="error"', data, phrase("dismiss", language))
    return f'<div class="status" role="status">{"".join(lines)}</div>'


def state(
    encoder: str,
    llm: LanguageModel | None,
    turns: Sequence[Turn],
    *,
    on: bool,
    place: str,
    kept: str,
    language: str,
    here: str = "this computer",
    where: str = "",
) -> str:
    """What is running where: the encoder, the language model and how it last did, the files."""

    def said(key: str) -> str:
        return phrase(key, language)

    model = said("no model")
    if llm is not None:
        how = said("model off")
        if on:
            how = said("model ready")
            answers = [turn.answer for turn in turns if turn.answer is not None]
            last = next((a for a in reversed(answers) if "llm" in a.trace), None)
            if last is not None:
                how = said("model failed" if last.mode == "extractive" else "model works")
        model = f"{llm.name}, {where} ({how})" if where else f"{llm.name} ({how})"
    name = said("bundled") if encoder == BUNDLED_NAME else encoder
    rows = [
        [said("encoder"), safe(f"{name} ({said(here)})")],
        [said("language model"), safe(model)],
        [said("kept"), safe(place or said("in memory"))],
        [said("feedback"), safe(kept or said("no feedback"))],
    ]
    listed = "".join(f"<dt>{safe(name)}</dt><dd>{value}</dd>" for name, value in rows)
    return f'<h2>{safe(said("running"))}</h2><dl class="running">{listed}</dl>'


def described(document: Document, *, text: bool = False) -> dict[str, Any]:
    """A document as ``beleg list --json`` has it."""
    held: dict[str, Any] = {
        "document": document.id,
        "source": document.source,
        "title": document.title,
        "language": document.language,
        "pages": len(document.pages) or None,
        "characters": len(document.text),
    }
    return held | ({"text": document.text} if text else {})


def status(done: str, problems: Iterable[str] = ()) -> str:
    """A line on what was done, and one for each problem."""
    lines = [f"<p>{safe(done)}</p>"] if done else []
    lines += [f'<p class="error">{safe(problem)}</p>' for problem in problems]
    return f'<div class="status" role="status">{"".join(lines)}</div>'


def markdown(turn: Turn, nearest: int = NEAREST) -> str:
    """A question and its answer with numbered sources, or of a refusal the ``nearest`` passages,
    to be pasted where Markdown is read.

    Nothing of a document becomes a link, an image or markup there either.
    """
    answer = turn.answer
    if answer is None:
        return ""
    text = "".join(
        _escaped(piece) if marker is None else f"[{marker}]" for piece, marker in _pieces(answer)
    )
    text = _BEGINNING.sub(r"\1\\\2", text.strip())
    lines = [f"**{_unmarked(turn.question)}**", text]
    left, right = _QUOTES.get(answer.language, _QUOTES["en"])
    for mark in marks(replace(answer, disagreements=()), nearest):
        place = where(mark.document, mark.start, mark.end, answer.language)
        quote = mark.document.text[mark.start : mark.end]
        if not answer.answered:
            _, quote = _excerpt(mark.document, mark.start, mark.end)
        lines.append(
            f"[{mark.label}] {_unmarked(mark.document.title)} ({_unmarked(place)}) "
            f"{left}{_unmarked(quote)}{right}"
        )
    lines += [
        f"[{AGAINST}{number}] {_unmarked(_against(found, answer.language))} "
        f"{left}{_unmarked(found.quote)}{right}"
        for number, found in enumerate(answer.disagreements, 1)
    ]
    return "\n\n".join(lines) + "\n"


def _unmarked(text: str) -> str:
    """Text as a part of a line of Markdown that shows just this text."""
    return _escaped(text).strip()


def _escaped(text: str) -> str:
    """The same of a piece of text, with the spaces at its edges."""
    return _MARKUP.sub(r"\\\g<0>", re.sub(r"\s+", " ", plain(text)))


def _empty(
    examples: Sequence[str], language: str, *, fixed: bool, shared: bool, written: bool
) -> str:
    added = "fixed" if fixed else "drop"
    kept = f"<p>{safe(phrase('kept for all', language))}</p>" if shared and not fixed else ""
    buttons = "".join(
        f'<li><button type="button" class="example" dir="auto">{safe(example)}</button></li>'
        for example in examples
    )
    listed = f'<h2>{safe(phrase("examples", language))}</h2><ul class="examples">{buttons}</ul>'
    return (
        f'<div class="empty"><p>{safe(phrase("empty model" if written else "empty", language))}</p>'
        f"<p>{safe(phrase(added, language))}</p>{kept}"
        f"{listed if examples else ''}</div>"
    )


def _turn(turn: Turn, language: str, nearest: int, rating: bool) -> str:
    key = f"t{turn.number}"
    parts = [f'<h2 class="question" dir="auto">{safe(turn.question)}</h2>']
    done = ""
    if turn.answer is not None:
        parts += _answer(turn.answer, key, language, nearest)
        parts.append(_actions(turn, language, nearest, rating))
        parts.append(why(turn.answer, language))
        done = f' data-done data-say="{safe(_spoken(turn.answer, language))}"'
    elif turn.error:
        parts.append(f'<p class="error" role="alert">{safe(turn.error)}</p>')
    elif turn.partial:
        # Where its citations lead is known when it is whole; they are drawn as such before.
        text = _COMING.sub(r'<span class="marker">\1</span>', safe(turn.partial))
        parts.append(f'<p class="text" dir="auto">{text}</p>')
    elif not turn.waiting:
        parts.append(f'<p class="waiting">{safe(phrase("waiting", language))}</p>')
    if turn.waiting:
        parts.append(f'<p class="waiting">{safe(turn.waiting)}</p>')
    return f'<section class="turn" data-key="{key}"{done}>{"".join(parts)}</section>'


def _spoken(answer: Answer, language: str) -> str:
    """What a screen reader is told when the answer is there."""
    return f"{phrase('answer', language)}: {answer.text}"


def _answer(answer: Answer, key: str, language: str, nearest: int) -> list[str]:
    parts = []
    if answer.understood:
        understood = phrase("understood", language).format(answer.understood)
        parts.append(f'<p class="understood" dir="auto">{safe(understood)}</p>')
    text = f'<p class="text" dir="auto">{_linked(answer, key, language)}</p>'
    if answer.answered:
        parts.append(text)
        parts.append(_surely(answer, language))
    else:
        parts.append(_refusal(answer, text, key, language, nearest))
    parts += [f'<p class="flag">{safe(line)}</p>' for line in _flags(answer, language)]
    if answer.notice:
        parts.append(f'<p class="notice">{safe(answer.notice)}</p>')
    label = safe(phrase("translation", language))
    parts += [
        f'<p class="translation" dir="auto">{_cite(c, key, "", language)} {safe(c.translation)}'
        f" <small>({label})</small></p>"
        for c in answer.citations
        if c.translation
    ]
    for number, against in enumerate(answer.disagreements, 1):
        quote = f'<q lang="{safe(against.document.language)}">{safe(against.quote)}</q>'
        link = _link(f"{AGAINST}{number}", phrase("other source", language))
        told = safe(_against(against, language))
        parts.append(f'<p class="flag" dir="auto">{told} {quote}{link}</p>')
    return parts


def _refusal(answer: Answer, text: str, key: str, language: str, nearest: int) -> str:
    """Plainly no answer: a box with its own heading, and what comes nearest."""
    items = []
    for mark in marks(answer, nearest):
        start, end = mark.start, mark.end
        _, excerpt = _excerpt(mark.document, start, end)
        items.append(
            f'<li><a class="near" href="#source" data-mark="{mark.label}">'
            f'<span class="label">{mark.label}</span> '
            f"<span>{safe(where(mark.document, start, end, language))}</span></a>"
            f'<blockquote dir="auto" lang="{safe(mark.document.language)}">{safe(excerpt)}'
            "</blockquote></li>"
        )
    refused = safe(phrase("refused", language))
    heading = f'<p class="refused"><span aria-hidden="true">∅</span> {refused}</p>'
    nearby = ""
    if items:
        nearby = f"<h3>{safe(phrase('nearest', language))}</h3><ul>{''.join(items)}</ul>"
    return f'<div class="refusal">{heading}{text}{nearby}</div>'


def _surely(answer: Answer, language: str) -> str:
    """The confidence in words."""
    if answer.by_keywords:
        return f'<p class="sure">{safe(phrase("keywords", language))}</p>'
    doubt = _doubt(answer, language)
    if doubt:
        line = safe(doubt[0])
        return f'<p class="sure doubt"><span aria-hidden="true">?</span> {line}</p>'
    said = phrase("sure" if answer.confidence >= SURE else "likely", language)
    chance = phrase("chance", language).format(percent(answer.confidence, language))
    return f'<p class="sure">{safe(said)} <span>({safe(chance)})</span></p>'


def _pieces(
    answer: Answer, start: int = 0, end: int | None = None
) -> Iterator[tuple[str, int | None]]:
    """The answer's text from ``start`` to ``end``, cut at its markers: text, or marker and number.

    What looks like a marker inside a quote is none.
    """
    end = len(answer.text) if end is None else end
    known = {citation.marker for citation in answer.citations}
    # In the answer's text a quote's line breaks may have become spaces.
    quotes = [r"\s+".join(map(re.escape, c.quote.split())) for c in answer.citations]
    pattern = re.compile("|".join([*sorted(filter(None, quotes), key=len)[::-1], _MARKER]))
    for match in pattern.finditer(answer.text):
        if match[1] is None or int(match[1]) not in known or not start <= match.start() < end:
            continue
        yield answer.text[start : match.start()], None
        yield match[0], int(match[1])
        start = match.end()
    yield answer.text[start:end], None


def _linked(answer: Answer, key: str, language: str) -> str:
    """The answer's text with its citations, and after each sentence how well it is supported."""
    cited = {citation.marker: citation for citation in answer.citations}
    count = 0

    def linked(start: int, end: int) -> list[str]:
        nonlocal count
        parts = []
        for piece, marker in _pieces(answer, start, end):
            if marker is None:
                parts.append(safe(piece))
            else:
                count += 1
                if parts:
                    parts[-1] = parts[-1].rstrip(" ")
                parts.append(_cite(cited[marker], key, f"{key}q{count}", language))
        return parts

    parts: list[str] = []
    done = 0
    for claim in answer.claims:
        parts += linked(done, claim.start)
        *inside, number, rest = ["", *linked(claim.start, claim.end)]
        sign = _support(claim, language)
        # It does not go to the next line without the number that it comes right after.
        end = f"{number}{rest}{sign}" if rest else f'<span class="end">{number}{sign}</span>'
        parts.append(f'<span class="{claim.support}">{"".join(inside)}{end}</span>')
        done = claim.end
    return "".join([*parts, *linked(done, len(answer.text))])


def _support(claim: Claim, language: str) -> str:
    """A sign for the eye and words for all, after a sentence."""
    words = safe(phrase(claim.support, language))
    if claim.support == SUPPORT[0]:
        said = f'<span class="hidden"> ({words})</span>'
        return (
            f'<span class="support" title="{words}"><span aria-hidden="true">✓</span>{said}</span>'
        )
    sign = "~" if claim.support == SUPPORT[1] else "✗"
    return f' <small class="support"><span aria-hidden="true">{sign}</span> ({words})</small>'


def _cite(citation: Citation, key: str, tip: str, language: str) -> str:
    """A citation's number; it leads to the source, and shows the quote when it is pointed at."""
    link = _link(str(citation.marker), phrase("citation", language), tip)
    if not tip:
        return link
    place = safe(where(citation.document, citation.start, citation.end, language))
    return (
        f'{link}<span class="tip" role="tooltip" id="{tip}"><q dir="auto" '
        f'lang="{safe(citation.document.language)}">{safe(citation.quote)}</q>'
        f" <small>{place}</small></span>"
    )


def _link(label: str, what: str, tip: str = "") -> str:
    """A mark's label that leads to it in the source."""
    described = f' aria-describedby="{tip}"' if tip else ""
    name = safe(f"{what} {label}")
    return (
        f'<a class="marker" href="#source" data-mark="{label}" aria-label="{name}"{described}>'
        f"{label}</a>"
    )


def _actions(turn: Turn, language: str, nearest: int, rating: bool) -> str:
    assert turn.answer is not None

    def said(key: str) -> str:
        return safe(phrase(key, language))

    copy = said("copy" if turn.answer.answered else "copy near")
    # Where there are no documents, there is nothing to copy.
    copied = turn.answer.answered or marks(turn.answer, nearest)
    parts = [
        f'<button type="button" class="copy" data-copy="{safe(markdown(turn, nearest))}"'
        f' data-copied="{said("copied")}">{copy}</button>'
    ] * bool(copied)
    if rating:
        right, wrong = turn.rated == "right", turn.rated in ("words", "not said")
        parts.append(
            f'<span class="rate" role="group" aria-label="{said("rate")}">'
            f'<button type="button" data-rate="right" {_pressed(right)}>{said("right")}</button>'
            f'<button type="button" data-rate="wrong" {_pressed(wrong)} aria-expanded="false">'
            f"{said('wrong')}</button></span>"
        )
    if turn.rated:
        parts.append(f'<span class="rated">{said("rated")}</span>')
    bar = f'<div class="actions">{"".join(parts)}</div>'
    if not rating:
        return bar
    problem = f'<p class="error" role="alert">{safe(turn.problem)}</p>' if turn.problem else ""
    not_said = (
        f'<button type="button" data-rate="not said">{said("not said")}</button>'
        if turn.answer.answered
        else ""
    )
    hidden = "" if turn.problem else " hidden"
    return (
        f'{bar}<div class="mend"{hidden}><label>{said("mend")}'
        f'<input type="text" autocomplete="off" maxlength="2000"/></label>{problem}'
        f'<button type="button" data-rate="words">{said("save")}</button>{not_said}</div>'
    )


def _pressed(pressed: bool) -> str:
    return f'aria-pressed="{"true" if pressed else "false"}"'


def why(answer: Answer, language: str) -> str:
    """How the answer came about, folded away: the ranking by channel, the sentences, the times."""
    told = answer.trace
    if not told:
        return ""

    def said(key: str) -> str:
        return phrase(key, language)

    channels = list(dict.fromkeys(name for hit in told["hits"] for name in hit["ranks"]))
    ranking = [
        [
            f"{number}. {hit['source']} {hit['start']}–{hit['end']}",
            decimal(hit["score"], ".3f", language),
            *(hit["ranks"].get(name, "–") for name in channels),
        ]
        for number, hit in enumerate(told["hits"], 1)
    ]
    header = [said("passage"), said("score"), *map(_channel(language), channels)]
    kinds = ["", *(len(header) - 1) * ["number"]]
    parts = [f"<p>{safe(said('searched'))}: <i>{safe(told['question'])}</i></p>"]
    if ranking:
        parts.append(table(header, kinds, ranking, said("ranked")))
    if told["sentences"]:
        rows = [
            [
                f"{found['source']} {found['start']}–{found['end']}",
                percent(found["chance"], language),
                safe(_figures("because", found["reasons"], "+.2f", language)),
            ]
            for found in told["sentences"]
        ]
        heads = [said("sentence place"), said("chance short"), said("reasons")]
        parts.append(table(heads, ["", "number", ""], rows, said("chosen")))
    enough = said("enough" if told["answers"] else "not enough")
    chance = said("chance").format(percent(told["confidence"], language))
    parts.append(f"<p>{safe(f'{enough} ({chance}).')}</p>")
    if "llm" in told:
        held = ", ".join(
            f"{known('asked', key, language)} {known('held', str(value), language)}"
            for key, value in told["llm"].items()
            if value != ""
        )
        parts.append(f"<p>{safe(said('language model'))}: {safe(held)}</p>")
    took = _figures("took", answer.seconds, ".3f", language)
    parts.append(f"<p>{safe(said('seconds'))}: {safe(took)}</p>")
    return f'<details class="why"><summary>{safe(said("why"))}</summary>{"".join(parts)}</details>'


def _figures(kind: str, held: Mapping[str, float], form: str, language: str) -> str:
    """Names of a kind, each with its figure, in the language."""
    return "; ".join(
        f"{known(kind, name, language)} {decimal(value, form, language)}"
        for name, value in held.items()
    )


def _channel(language: str) -> Callable[[str], str]:
    known = ("dense", "sentence", "lexical")
    return lambda name: phrase(name, language) if name in known else name


def _indented(quote: str, language: str) -> str:
    left, right = _QUOTES.get(language, _QUOTES["en"])
    return indent(f"{left}{quote}{right}", "    ")

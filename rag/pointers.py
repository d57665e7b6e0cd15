"""What a language model wrote, made fit to be shown: its pointers become citations.

A model points at numbered sentences, ``[3]`` or ``[3, 4]``; the quotes are cut from the
documents here. Pointers that point nowhere go, and are counted. So do images, HTML and
links: what an address would fetch or tell a stranger is not in the model's hands. An address
stays, as text, where the sources hold it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from index.text import canonical
from index.types import Passage, Span
from rag.answer import Citation
from rag.extract import QUOTE_CHARACTERS, QUOTE_SENTENCES

_OPEN, _CLOSE = r"[\[【［〔]", r"[\]】］〕]"
_NAMED = r"(?:[\^#]|(?:sources?|sentences?|quellen?|sätze?|satz|nr\.?|no\.?)\s*)?"
_POINTER = (
    rf"{_OPEN}\s*(?i:{_NAMED})[-−+]?\d+(?:\s*[-–—,;]\s*(?i:{_NAMED})\d+)*\s*"
    rf"(?:†[^\[\]【】\n]{{0,40}})?{_CLOSE}"
)
POINTER = re.compile(_POINTER)
"""What points at sentences or would pass for it: [3], [3, 4], [2-4], 【3†source】, [Source 3]."""
_GROUP = re.compile(rf"(?<![ \t])[ \t]*(?P<pointers>{_POINTER}(?:[ \t,;]*{_POINTER})*)")
_NUMBERS = re.compile(r"([-−]?\d+)(?:\s*[-–—]\s*(\d+))?")

_TAGS = (
    "a|area|audio|base|body|button|embed|form|frame|frameset|html|iframe|image|img|input|link"
    "|math|meta|object|picture|script|source|style|svg|track|video"
)
_UNSAFE = re.compile(
    r"!\[[^\[\]]*\]\([^()]*(?:\([^()]*\)[^()]*)*\)?"  # an image
    r"|!(?=\[[^\[\]]*\]\()"
    rf"|</?(?:{_TAGS})\b[^<>]*>?"
    r"|<!--.*?(?:-->|$)",
    re.IGNORECASE | re.DOTALL,
)
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_NO_ADDRESS = re.compile(r"(?![\s\w]*\w\.\w)[^:/#?=&@\\<>%]*\w[^:/#?=&@\\<>%]*")
_CLOSING = ".,;:!?)]}'’*_"
# A question mark that only the end of a sentence follows is not an address's: "Booking.com?"
_GOES_ON = rf"(?![{re.escape(_CLOSING)}]*(?:[\s<>\"“”„»«]|$))"
_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,20}:(?=//)|javascript:|vbscript:|(?<![a-z])(?:mailto|data|file|tel|sms):)"
    r"[^\s<>\"“”„»«]+"
    r"|(?<![\w:/])//[\w-]+\.[^\s<>\"“”„»«]+"
    r"|www\.[^\s<>\"“”„»«]+"
    rf"|(?<![\w-])(?:[\w-]{{1,63}}\.){{1,8}}[a-z]{{2,24}}(?::\d+)?(?:/|[?#]{_GOES_ON})[^\s<>\"“”„»«]*",
    re.IGNORECASE,
)

_BRACKETS = re.compile(rf"{_OPEN}|{_CLOSE}|[<>]")
_PASSES = 20
"""So often are links within links, and pointers within pointers, looked for."""

_OPENED = re.compile(
    r"[\[【［〔][^\[\]【】［］〔〕\n]{0,300}$|\[[^\[\]\n]{0,300}\]\([^()\n]{0,2000}$|<[^<>]{0,2000}$"
)
_LAST_GROUP = re.compile(rf"(?:\s*{_POINTER}[ \t,;]*)+$")


@dataclass(frozen=True, slots=True)
class Shown:
    """A numbered sentence that the model was shown; ``score`` is its passage's in the search."""

    passage: Passage
    span: Span
    score: float = 0.0

    @property
    def text(self) -> str:
        return self.passage.document.text[self.span.start : self.span.end]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A text whose every ``[n]`` is the marker of one of the citations."""

    text: str
    citations: tuple[Citation, ...]
    removed_markers: int
    removed_links: int


def resolve(written: str, sources: Sequence[Shown]) -> Resolved:
    """The text that a model wrote with pointers to ``sources``, numbered from 1.

    Addresses stay where a cited document holds them.
    """
    written = re.sub(r"[ \t]{2,}", " ", canonical(written))
    safe, _ = without_links(written, list({s.passage.document.text for s in sources}))
    found = _with_citations(safe, sources)
    cited = [citation.document.text for citation in found.citations]
    # Now it is known which documents are cited; nothing but addresses can still go.
    safe, gone = without_links(written, cited)
    final = _with_citations(safe, sources)
    return Resolved(final.text, final.citations, final.removed_markers, gone)


def settled(written: str) -> int:
    """How much of a reply that is still being written can be shown: nothing that comes will
    make a pointer, an address or a tag of its end."""
    end = max(written.rfind(" "), written.rfind("\n"), 0)  # the last word may become an address
    for _ in range(8):
        if not (opened := _OPENED.search(written, max(0, end - 2500), end)):
            break
        end = opened.start()
    else:
        return 0
    if written[end - 1 : end] == "!":
        end -= 1
    if group := _LAST_GROUP.search(written, max(0, end - 400), end):
        end = group.start()
    return end


def without_links(text: str, sources: Sequence[str]) -> tuple[str, int]:
    """The text without images, tags, links and addresses, and how many there were.

    A link leaves its label; an address stays where one of the texts of ``sources`` holds it.
    """
    gone = 0

    def address(match: re.Match[str]) -> str:
        nonlocal gone
        found = match[0].rstrip(_CLOSING)
        whole = re.compile(rf"{re.escape(found)}(?![\w/&=%-]|[?#]{_GOES_ON})")
        if any(whole.search(source) for source in sources):
            return match[0]
        gone += 1
        return "…" + match[0][len(found) :]

    def link(match: re.Match[str]) -> str:
        nonlocal gone
        if POINTER.fullmatch(f"[{match[1]}]") and _NO_ADDRESS.fullmatch(match[2]):
            return f"[{match[1]}] ({match[2]})"  # a pointer before brackets
        gone += 1
        return f" {match[1]} "

    for _ in range(_PASSES):  # what is left may be a link again
        before = gone
        text, images = _UNSAFE.subn(" ", text)
        text = _LINK.sub(link, text)
        text = _ADDRESS.sub(address, text)
        gone += images
        if gone == before:
            return text, gone
    return _ADDRESS.sub(address, _BRACKETS.sub(" ", text)), gone


def _with_citations(text: str, sources: Sequence[Shown]) -> Resolved:
    citations: dict[tuple[str, int, int], Citation] = {}
    removed = 0

    def known(match: re.Match[str]) -> str:
        nonlocal removed
        numbers, unknown = _pointed(match["pointers"], len(sources))
        removed += unknown
        return match[0] if not unknown else "".join(f" [{number}]" for number in numbers)

    def markers(match: re.Match[str]) -> str:
        numbers, _ = _pointed(match["pointers"], len(sources))
        keys = []
        for run in _runs(numbers, sources):
            passage, start, end = run[0].passage, run[0].span.start, run[-1].span.end
            keys.append((passage.document.id, start, end))
            citations.setdefault(
                keys[-1],
                Citation(
                    marker=len(citations) + 1,
                    document=passage.document,
                    start=start,
                    end=end,
                    quote=passage.document.text[start:end],
                    passage_start=passage.start,
                    passage_end=passage.end,
                    score=run[0].score,
                ),
            )
        return "".join(f" [{citations[key].marker}]" for key in keys)

    for _ in range(_PASSES):  # what is left around one that is gone may be one again
        before = removed
        text = _GROUP.sub(known, text)
        if removed == before:
            break
    else:
        text = _BRACKETS.sub(" ", text)
    text = _GROUP.sub(markers, text)
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r" (?=[.,;:!?](?:\s|$))", "", text)
    return Resolved(text.strip(), tuple(citations.values()), removed, 0)


def _pointed(pointers: str, count: int) -> tuple[list[int], int]:
    """The sentences, from 1 to ``count``, that pointers point at, and how many of the pointers
    point nowhere."""
    numbers: set[int] = set()
    unknown = 0
    for first, last in _NUMBERS.findall(pointers):
        ends = [
            int(end) if end.isdecimal() and len(end) < 7 else 0 for end in (first, last or first)
        ]
        if 1 <= ends[0] <= ends[1] <= count and ends[1] - ends[0] < 2 * QUOTE_SENTENCES:
            numbers.update(range(ends[0], ends[1] + 1))
        else:
            unknown += 1
    return sorted(numbers), unknown


def _runs(numbers: Sequence[int], sources: Sequence[Shown]) -> list[list[Shown]]:
    """What to quote for these sentences: neighbours together, as long as a quote may be."""
    runs: list[list[Shown]] = []
    for number in numbers:
        source = sources[number - 1]
        run = runs[-1] if runs else []
        if (
            run
            and len(run) < QUOTE_SENTENCES
            and run[-1] is sources[number - 2]
            and run[-1].passage is source.passage
            and source.span.end - run[0].span.start <= QUOTE_CHARACTERS
        ):
            run.append(source)
        else:
            runs.append([source])
    return runs

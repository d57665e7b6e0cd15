"""Every sentence of an answer held against the passages that it cites.

Quotations, numbers and names must stand in a cited passage (rag/facts.py for the latter two).
What a sentence turns round against what it cites is flagged where rules see it
(rag/contrast.py). How well the citations support a sentence is a chance, from a logistic model
over what the encoder and the lexicon make of both (rag/support.json, fitted by
tests/benchmarks/fit_support.py). It tells a sentence's source from another passage on the same
subject, but understands neither.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.embed import Encoder
from index.lexical import question_words, stem, stop_words, words
from index.split import sentences
from index.types import Document
from index.vectors import Encoding
from rag import contrast
from rag.facts import Source, missing
from rag.features import content_tokens

if TYPE_CHECKING:
    from rag.answer import Answer, Citation

SUPPORT = ("supported", "weak", "unsupported")
QUOTATIONS = ("invented", "another document", "another passage", "stitched together")
KINDS = (*QUOTATIONS, "number", "name", "unquoted number", *contrast.KINDS)
WEIGHTS = Path(__file__).parent / "support.json"
FEATURES = ("cosine", "late", "weakest", "words", "number", "name", "across")
"""
cosine: of the sentence with the nearest cited sentence or whole quote;
late: late interaction (MaxSim) of its tokens with those of the quotes;
weakest: the mean of the quarter of its content tokens that the quotes meet least;
words: the share of its content words that the quotes hold, in either language;
number, name: 1 where the cited passages lack one;
across: 1 where it is in another language than its quotes.
"""
PIECE = 3
"""So many words, at least, has each piece of a quotation that is stitched together."""
LOOKED_FOR = 10
"""So many alien quotations of an answer are looked for in other documents."""
RUN = 8
"""So many sentences in a row, at most, are looked at for being word for word in a quote."""
_YES_OR_NO = frozenset("yes no ja nein doch".split())

_MARKER = re.compile(r"\[(\d+)\]")
_MARKS = '"“”„‟«»‹›‚'
_QUOTATION = re.compile(
    r"„[^„“”\"]+[“”\"]|“[^“”]+”|\"[^\"]+\"|«[^«»]+»|»[^«»]+«|‹[^‹›]+›|›[^‹›]+‹|‚[^‚‘’\n]+[‘’]"
    r"|(?<!\w)‘[^‘\n]+?’(?!\w)|(?<!\w)'[^'\n]+ [^'\n]+'(?!\w)"  # and no apostrophes
)
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:…|\.\.\.)\s*\]|\(\s*(?:…|\.\.\.)\s*\)|…|\.\.\.)\s*")
_PLAIN = str.maketrans({**dict.fromkeys(_MARKS + "\u00ad\u200b\u2060\ufeff"), "’": "'", "‘": "'",
                        **dict.fromkeys("‐‑‒–—−", "-")})  # fmt: skip
_ONE_MARK = str.maketrans(dict.fromkeys(_MARKS, "\x00"))  # which no text holds
_POWER = re.compile(r"(?<=\d)[⁰¹²³⁴⁵⁶⁷⁸⁹]")


@dataclass(frozen=True, slots=True)
class Flag:
    """Something in an answer that is not in what it cites, or against it; ``kind`` is one of
    ``KINDS``.

    ``start`` and ``end`` are code points of the answer's text.
    """

    kind: str
    text: str
    start: int
    end: int

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "start": self.start, "end": self.end}


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of an answer, its markers included, and what speaks for it.

    ``start`` and ``end`` are code points of the answer's text; ``markers`` those of its
    citations, or else of the next ones in its paragraph; ``score`` the chance that these
    support it, 0 to 1; ``support`` one of ``SUPPORT``. What says nothing without the question
    ("No, he did not.") is weak: nothing in it can be held against a quote.
    """

    start: int
    end: int
    markers: tuple[int, ...]
    support: str
    score: float
    flags: tuple[Flag, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "end": self.end,
            "markers": list(self.markers),
            "support": self.support,
            "score": round(self.score, 4),
            "flags": [flag.to_json() for flag in self.flags],
        }


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the logistic model; under ``unsupported`` a sentence is, from ``supported`` on it is."""

    weights: Mapping[str, float]
    intercept: float
    supported: float
    unsupported: float

    @staticmethod
    @lru_cache(maxsize=1)
    def shipped() -> Weights:
        held = json.loads(WEIGHTS.read_text(encoding="utf-8"))
        return Weights(held["weights"], held["intercept"], held["supported"], held["unsupported"])

    def chance(self, features: NDArray[np.float32]) -> float:
        logit = self.intercept + sum(
            self.weights[name] * float(value)
            for name, value in zip(FEATURES, features, strict=True)
        )
        return (1 + math.tanh(logit / 2)) / 2  # a logistic function that cannot overflow


def check(
    text: str,
    citations: Sequence[Citation],
    *,
    language: str,
    encoder: Encoder,
    holding: Callable[[str], Iterable[Document]] = lambda quotation: (),
    shown: Callable[[str], str] = lambda text: text,
) -> tuple[Claim, ...]:
    """The sentences of an answer, each with its support and what is wrong with it.

    ``language`` is the answer's; ``holding`` finds the documents that an alien quotation may be
    from; ``shown`` makes of a text what the answer's writer saw of it, and may quote. Every
    ``[n]`` that is a citation's marker counts as one.
    """
    known = {citation.marker: citation for citation in citations}
    parts = _parts(text, language, known)
    passages = {
        marker: Source(c.document.text[c.passage_start : c.passage_end], c.document.language)
        for marker, c in known.items()
    }
    texts = [source.text for source in passages.values()]
    held = _plain("\n".join(texts + [shown(text) for text in texts]))
    quoted = list(_quotations(text, held, citations, holding))
    judged = _judged(parts, known, passages, language, encoder)
    claims = []
    for part, (chance, against) in zip(parts, judged, strict=True):
        flags = [flag for flag in quoted if part.start <= flag.start < part.end]
        if not part.verbatim:
            facts = missing(part.text, language, list(passages.values()))
            absent = {(start, end) for _, start, end in facts}
            for kind, start, end in facts + [a for a in against if a[1:] not in absent]:
                a, b = part.offsets[start], part.offsets[end - 1] + 1
                flags.append(Flag(kind, text[a:b], a, b))
        flags.sort(key=lambda flag: flag.start)
        across = all(passages[marker].language != language for marker in part.markers)
        claims.append(
            Claim(
                part.start,
                part.end,
                part.markers,
                _support(chance, flags, across),
                chance,
                tuple(flags),
            )
        )
    return tuple(claims)


def without_unsupported(answer: Answer) -> Answer:
    """The answer without its unsupported sentences, and the citations that only they had."""
    kept = [claim for claim in answer.claims if claim.support != SUPPORT[2]]
    if len(kept) == len(answer.claims):
        return answer
    text, moved = "", []
    for claim in kept:
        start = len(text) + bool(text)
        text = f"{text} {answer.text[claim.start : claim.end]}".strip()
        shift = start - claim.start
        flags = tuple(replace(f, start=f.start + shift, end=f.end + shift) for f in claim.flags)
        moved.append(replace(claim, start=start, end=claim.end + shift, flags=flags))
    used = {marker for claim in kept for marker in claim.markers}
    return replace(
        answer,
        text=text,
        claims=tuple(moved),
        citations=tuple(c for c in answer.citations if c.marker in used),
        disagreements=tuple(d for d in answer.disagreements if d.marker in used),
    )


def _support(chance: float, flags: Sequence[Flag], across: bool) -> str:
    """One of ``SUPPORT``; a quotation that is found nowhere may be translated where a sentence is
    in another language than its quotes (``across``)."""
    weights = Weights.shipped()
    wrong = QUOTATIONS[1:] if across else QUOTATIONS
    if chance < weights.unsupported or any(flag.kind in wrong for flag in flags):
        return SUPPORT[2]
    return SUPPORT[0] if chance >= weights.supported and not flags else SUPPORT[1]


# --- Sentences and their markers ------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """A sentence of the answer without its markers; ``offsets`` lead back to the answer."""

    start: int
    end: int
    text: str
    offsets: Sequence[int]
    markers: tuple[int, ...]
    verbatim: bool = False


def _parts(text: str, language: str, known: Mapping[int, Citation]) -> list[_Part]:
    """The sentences, each with its markers: those in it and right after it, or else the next."""
    marks = [match for match in _MARKER.finditer(text) if int(match[1]) in known]
    offsets: list[int] = []
    start = 0
    for match in marks:
        offsets += range(start, match.start())
        while offsets and text[offsets[-1]] in " \t":  # the space before a marker is its own
            offsets.pop()
        start = match.end()
    offsets += range(start, len(text))
    bare = "".join(text[i] for i in offsets)
    parts = []
    for span in sentences(bare, language):
        own = offsets[span.start : span.end]
        parts.append(_Part(own[0], own[-1] + 1, bare[span.start : span.end], own, ()))
    for part, after in zip(parts, [*parts[1:], None], strict=False):
        stop = after.start if after else len(text)
        begin = 0 if part is parts[0] else part.start  # what stands before all is the first's
        here = [match for match in marks if begin <= match.start() < stop]
        part.start = min([part.start, *(match.start() for match in here)])
        part.markers = tuple(dict.fromkeys(int(match[1]) for match in here))
        part.end = max([part.end, *(match.end() for match in here)])
    for part, after in reversed(list(pairwise(parts))):
        if not part.markers and "\n" not in text[part.end : after.start]:
            part.markers = after.markers
    _mark_verbatim(parts, known)
    return parts


def _mark_verbatim(parts: Sequence[_Part], known: Mapping[int, Citation]) -> None:
    """Word for word are runs of sentences that are whole sentences of a quote: part of one may
    say the contrary."""
    runs = {marker: _runs(known[marker]) for marker in {m for part in parts for m in part.markers}}
    for _, group in groupby(parts, key=lambda part: part.markers):
        same = list(group)
        said = [_plain(part.text, marks=True) for part in same]
        for i, part in enumerate(same):
            for j in range(i + 1, min(len(same), i + RUN) + 1):
                if any(" ".join(said[i:j]) in runs[marker] for marker in part.markers):
                    for whole in same[i:j]:
                        whole.verbatim = True


def _runs(citation: Citation) -> set[str]:
    """The runs of whole sentences of a quote, plain but for quotation marks. What follows a
    colon is not whole: it may be what somebody made up."""
    quote = citation.quote
    found = set()
    for text in {quote, " ".join(quote.split())}:  # as it is, and as it is shown
        spans = sentences(text, citation.document.language)
        said = [_plain(text[span.start : span.end], marks=True) for span in spans]
        starts = [i for i in range(len(said)) if i == 0 or not said[i - 1].endswith(":")]
        found |= {
            " ".join(said[i:j]) for i in starts for j in range(i + 1, min(len(said), i + RUN) + 1)
        }
    return found


# --- Quotations -----------------------------------------------------------------------


def _plain(text: str, *, marks: bool = False) -> str:
    """Text as it is compared: case, white space, quotation marks and Unicode do not count.

    With ``marks`` it counts that something is in quotation marks, but not which they are. A
    power stays one: 10² is not 102.
    """
    if marks:
        text = text.translate(_ONE_MARK)
    text = _POWER.sub(r"^\g<0>", _MARKER.sub("", text))
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    return " ".join(text.casefold().split())


def _within(piece: str, text: str) -> bool:
    """Whether plain text holds a piece of whole words."""
    return bool(re.search(rf"(?<!\w){re.escape(piece)}(?!\w)", text))


def _quotations(
    text: str,
    held: str,
    citations: Sequence[Citation],
    holding: Callable[[str], Iterable[Document]],
) -> Iterator[Flag]:
    """The quotations of an answer that stand in none of its cited passages."""
    cited = {citation.document for citation in citations}
    plain = cache(lambda document: _plain(document.text))
    looked_for = 0
    for match in _QUOTATION.finditer(text):
        quotation = _plain(match[0]).strip(" .,;:!?'")
        if not any(c.isalnum() for c in quotation) or _within(quotation, held):
            continue
        looked_for += 1
        elsewhere = holding(quotation) if looked_for <= LOOKED_FOR else ()
        if any(_within(quotation, plain(document)) for document in cited):
            kind = "another passage"
        elif any(_within(quotation, plain(document)) for document in elsewhere):
            kind = "another document"
        else:
            kind = "stitched together" if _stitched(quotation, held) else "invented"
        yield Flag(kind, match[0], *match.span())


def _stitched(quotation: str, held: str) -> bool:
    """Whether it is made of pieces of the passages: at an ellipsis, or of PIECE words or more."""
    pieces = [piece for piece in _ELLIPSIS.split(quotation) if piece]
    if len(pieces) > 1 and all(_within(piece, held) for piece in pieces):
        return True
    left = quotation.split()
    while left:
        size = PIECE
        if len(left) < size or not _within(" ".join(left[:size]), held):
            return False
        while size < len(left) and _within(" ".join(left[: size + 1]), held):
            size += 1
        left = left[size:]
    return True


# --- Support --------------------------------------------------------------------------


def _judged(
    parts: Sequence[_Part],
    known: Mapping[int, Citation],
    passages: Mapping[int, Source],
    language: str,
    encoder: Encoder,
) -> list[tuple[float, list[tuple[str, int, int]]]]:
    """The chance of each sentence to be supported, 1 word for word and 0 without a citation,
    and what is against that: kind, start, end."""
    asked = [
        part
        for part in parts
        if part.markers and not part.verbatim and _says_something(part.text, language)
    ]
    used = sorted({marker for part in asked for marker in part.markers})
    quotes = {marker: _quote_texts(known[marker]) for marker in used}
    texts = list(dict.fromkeys([p.text for p in asked] + [t for q in quotes.values() for t in q]))
    encoded = dict(zip(texts, encoder.encode(texts) if texts else (), strict=True))
    found: list[tuple[float, list[tuple[str, int, int]]]] = []
    for part in parts:
        if part.verbatim or not part.markers:
            found.append((float(part.verbatim), []))
            continue
        if part.text not in encoded:
            found.append((Weights.shipped().unsupported, []))  # the least that is weak
            continue
        sources = [Source(known[m].quote, known[m].document.language) for m in part.markers]
        features = support_features(
            part.text,
            encoded[part.text],
            language,
            [encoded[text] for m in part.markers for text in quotes[m]],
            sources,
            [passages[marker] for marker in part.markers],
        )
        vector = encoded[part.text].vector
        single = [
            (text, known[m].document.language)
            for m in part.markers
            for text in quotes[m][1:] or quotes[m]
        ]
        nearest, spoken = max(single, key=lambda one: float(encoded[one[0]].vector @ vector))
        against = contradicted(part.text, language, nearest, spoken, sources)
        found.append((Weights.shipped().chance(features), against))
    return found


def _says_something(text: str, language: str) -> bool:
    """Whether it has a word that says something alone."""
    little = stop_words(language) | _YES_OR_NO
    return any(word not in little for word in words(text))


def contradicted(
    text: str, language: str, nearest: str, spoken: str, quotes: Sequence[Source]
) -> list[tuple[str, int, int]]:
    """What a sentence says against its ``quotes``, of which ``nearest`` is the nearest sentence,
    in the language ``spoken``: kind, start, end."""
    unquoted = [
        ("unquoted number", start, end)
        for kind, start, end in missing(text, language, quotes)
        if kind == "number"
    ]
    quote = " ".join(source.text for source in quotes if source.language == spoken)
    return unquoted + [
        (found.kind, found.start, found.end)
        for found in contrast.contrasts(text, language, nearest, quote, spoken)
    ]


def _quote_texts(citation: Citation) -> list[str]:
    """A quote and, where it has several, its sentences."""
    quote = citation.quote
    spans = sentences(quote, citation.document.language)
    return [quote] + [quote[s.start : s.end] for s in spans if len(spans) > 1]


def support_features(
    text: str,
    encoding: Encoding,
    language: str,
    cited: Sequence[Encoding],
    quotes: Sequence[Source],
    passages: Sequence[Source],
) -> NDArray[np.float32]:
    """What speaks for a sentence in what it cites, (len(FEATURES),).

    ``cited`` are the encodings of the quotes and of their sentences.
    """
    met = (encoding.tokens @ np.concatenate([e.tokens for e in cited]).T).max(axis=1)
    some = np.sort(met[content_tokens(text, language, encoding) > 0])
    kinds = {kind for kind, _, _ in missing(text, language, passages)}
    return np.asarray(
        [
            max(float(encoding.vector @ e.vector) for e in cited),
            met.mean(),
            some[: max(1, len(some) // 4)].mean(),
            _words_held(text, language, quotes),
            "number" in kinds,
            "name" in kinds,
            all(quote.language != language for quote in quotes),
        ],
        np.float32,
    )


def _words_held(text: str, language: str, quotes: Sequence[Source]) -> float:
    languages = {quote.language for quote in quotes}
    asked = question_words(text, language, sorted(languages))
    held = {stem(word, q.language) for q in quotes for word in words(q.text)}
    best = [max((w for term, w in choices.items() if term in held), default=0) for choices in asked]
    return float(np.mean(best)) if best else 1.0

"""From a document to its sentences and passages, as spans of its text.

A text is split into blocks (paragraphs, headings, list lines), a block into sentences by
sentencex, whose boundaries a few tables correct where citations would suffer ("19.
Jahrhundert"). Offsets come from arithmetic only: nothing is ever searched for again.
German and English have tables; other languages are left to the library.

It does not change the text, undo hyphenation at line ends, or count tokens by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

from sentencex import get_sentence_boundaries  # type: ignore[import-untyped]

from .text import STAMP
from .types import Document, Passage, Span

RULES = 2
"""Counts the changes after which a text is split otherwise: an index notes it."""
MAX_SENTENCE = 600
"""No span is longer, in characters; what has no full stop so long is cut at white space."""

# The library is quadratic in unclosed quotation marks, so it never sees more than this.
_CHUNK = 4000
# It may misjudge a boundary if it cannot see this many characters after it.
_LOOKAHEAD = 64
# A longer sentence with quotes or brackets is looked at again without them: one that is
# never closed, or closed by another sign, hides all the full stops after it.
_LONG = 200


# --- Tables ---------------------------------------------------------------------------


def _words(text: str) -> str:
    """The words as alternatives of a regular expression."""
    return "|".join(map(re.escape, text.split()))


# Abbreviations that the library lacks. Only those that hardly ever end a sentence.
_ABBREVIATIONS = {
    "de": """Abb Abk Abschn Abt allg amerik Anm Art Aufl Bd Bde bes brit bspw dt ebd ehem eigtl
        einschl engl entspr exkl Fa Fam frz geb gegr gem gest griech hl Hl Hrn Hrsg hrsg inkl insb
        insbes ital jährl Kap kgl lat max mind Nachf nördl östl österr phil Präs Prov Red rer
        resp röm russ sog span staatl stellv südl Tab Tel türk ugs urspr verh verst vgl Vgl vorm
        westl Ziff zit zzgl""",
    "en": "approx Ch ed Ed Eds est Figs Ft incl max Ms Vol Vols",
}

# Words that, capitalised after a full stop, begin a sentence: none is a noun or a name.
_STARTERS = """Aber Alle Allerdings Als Also Am An Andere Anschließend Auch Auf Aus Außerdem Bei
    Beide Beim Bereits Bis Da Dabei Dadurch Dafür Dagegen Daher Damit Danach Dann Darauf Daraufhin
    Darin Darum Das Dass Daß Dazu Dem Den Denn Dennoch Der Deren Des Deshalb Dessen Deswegen Die
    Dies Diese Diesem Diesen Dieser Dieses Doch Dort Durch Ebenso Ein Eine Einem Einen Einer Eines
    Einige Er Erst Es Etwa Für Gegen Hier Hierbei Hierzu Ich Ihr Ihre Ihren Im In Insgesamt
    Inzwischen Jede Jeder Jedes Jedoch Jetzt Kein Keine Man Manche Mehr Mehrere Mit Nach Nachdem
    Niemand Noch Nun Nur Ob Obwohl Oder Ohne Schon Sein Seine Seit Seitdem Sie So Sobald Somit
    Sowohl Später Trotz Trotzdem Um Und Unter Viele Vom Von Vor Wann Warum Was Weder Wegen Weil
    Weitere Weiterhin Wenn Wer Wie Wir Wo Während Zu Zudem Zuerst Zum Zunächst Zur Zwar Zwischen
    Über Übrigens"""

# What an ordinal number in German counts, also as the beginning of the word.
_COUNTED = """Januar Februar März April Mai Juni Juli August September Oktober November Dezember
    Jänner Jan. Feb. Apr. Jun. Jul. Aug. Sep Okt. Nov. Dez. Jahrhundert Jahrtausend Jahrzehnt Jh.
    Jhd. Geburtstag Jahrestag Todestag Hochzeitstag Lebensjahr Etage Stock Klasse Weltkrieg Liga
    Bundesliga Auflage Quartal Hälfte Spieltag Runde Amtszeit Wahlperiode"""

# Before a number and a full stop they make it an ordinal: "in der 3. Etage".
_DETERMINERS = """am im ins vom zum zur beim der die das den dem des Der Die Das Den Dem Des Am Im
    Vom Zum Zur Beim ein eine einen einem einer eines sein seine seinen seinem seiner seines ihr
    ihre ihren ihrem ihrer ihres dieser diese dieses diesem diesen jeder jede jedes jedem jeden"""

_NUMBER = r"(?:\d{1,3}|[IVXLC]+)\."
_STARTER = rf"(?:{_words(_STARTERS)})\b"

# Full stops that end no sentence: (before, after) a boundary that the library reports.
_INNER: dict[str, list[tuple[re.Pattern[str], re.Pattern[str]]]] = {
    language: [(re.compile(rf"(?<!\w)(?:{_words(words)})\.$"), re.compile(""))]
    for language, words in _ABBREVIATIONS.items()
}
_INNER["de"] += [
    (re.compile(rf"(?<!\w){_NUMBER}$"), re.compile(rf"{_words(_COUNTED)}|\d{{1,2}}\.")),
    (
        re.compile(rf"(?<!\w)(?:{_words(_DETERMINERS)}|\d+\.\s(?:und|bis|oder))\s{_NUMBER}$"),
        re.compile(rf"(?!{_STARTER})[A-ZÄÖÜ]"),
    ),
]

# Sentence ends that the library misses; the match ends where the next sentence begins.
_ENDS_ANY = [
    re.compile(r"\w…[\"“”»«]?\s+(?=[\"„“»«]?[^\W\d_a-zäöüß])"),
    # A sentence wholly in brackets: whole because the bracket opens after a full stop.
    re.compile(r"(?:^|[.!?]\s)\([^()]{1,200}[.!?]\)\s+(?=\w)"),
    # A footnote mark belongs to the sentence before it.
    re.compile(r"[.!?][\"“”»«]?(?:\[[^\[\]]{1,40}\])+\s+"),
]
_ENDS = {
    "de": [
        # An abbreviation or a king's number that this time does end the sentence.
        re.compile(rf"(?<!\w)(?:usw|etc|Chr|[IVX]+)\.\s+(?={_STARTER})"),
        # The library takes any number for the rest of an ordinal or a section number.
        re.compile(rf"(?<!\w)(?!(?:{_words(_ABBREVIATIONS['de'])})\.)\w{{5,}}(?<!str)\.\s+(?=\d)"),
    ],
}

_OPENING = re.compile(r"(?:^|(?<=[ (\[]))\"(?! )")
_SPACE = re.compile(r"\s")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_MARKS = "\"'`´„“”‚‘’«»‹›"
_QUOTES = dict.fromkeys(map(ord, f"{_MARKS}()[]"), " ")
_CLOSING = re.compile(r"(?:(?<!\s)[\"'“”‘’«»‹›)\]]+)?\s*")
_NON_SPACE = re.compile(r"\S")
_WORD = re.compile(r"\w")

# Where to cut what is too long, best first.
_CUTS = [
    re.compile(r"[.!?;:…][\"“”»«)\]]*\s|[。！？；]|\n"),
    re.compile(r",\s|[，、]|\s[–—-]\s"),
    re.compile(r"\s"),
]

_MARKDOWN_HEADING = re.compile(r"#{1,6}\s")
_ROW = re.compile(r"\|")
_RULE = re.compile(r"(?:[-=*_~]\s*){3,}$")
# A bullet begins a list item anywhere; the others may also stand in wrapped prose.
_BULLET = re.compile(r"[•▪◦‣·*+]\s")
_MARKER = re.compile(r"(?:[-–—]|\(?\d{1,3}[.)]|\(?[a-z]\))\s+")
_STOPS = tuple(".!?:;…")


# --- Blocks ---------------------------------------------------------------------------


def _paragraphs(text: str, start: int) -> Iterator[list[Span]]:
    """The runs of lines between blank lines, each line without the white space around it."""
    lines: list[Span] = []
    for line in text[start:].splitlines(keepends=True):
        content = line.strip()
        if content:
            first = start + len(line) - len(line.lstrip())
            lines.append(Span(first, first + len(content)))
        elif lines:
            yield lines
            lines = []
        start += len(line)
    if lines:
        yield lines


def _blocks(text: str, lines: list[Span]) -> Iterator[Span]:
    """The parts of a paragraph in which a line's end is only white space."""
    width = max(line.end - line.start for line in lines)
    first = lines[0].start
    marker = None  # the list marker that the block at hand begins with
    begins = True  # whether a sentence may begin with the line at hand
    for line, after in pairwise(lines):
        # A hundred characters tell, and keep lines of megabytes from being copied.
        head, following = (text[s.start : min(s.end, s.start + 100)] for s in (line, after))
        length, last = line.end - line.start, text[line.end - 1]
        if line.start == first:
            marker = _MARKER.match(head)
        # Prose is wrapped where the next word does not fit; a line that ends much earlier,
        # without a full stop, is a heading.
        is_heading = (
            begins
            and width >= 50
            and length + len(following.split(None, 1)[0]) < min(width * 0.6, 100)
            and last not in ",-–"
            and not following[0].islower()
            and not following[0].isdigit()
        )
        begins = last in _STOPS
        if (
            is_heading
            or any(p.match(s) for p in (_MARKDOWN_HEADING, _ROW) for s in (head, following))
            or _BULLET.match(following)
            or _RULE.match(head)
            or ((begins or marker) and _MARKER.match(following))
        ):
            yield Span(first, line.end)
            first, begins = after.start, True
    yield Span(first, lines[-1].end)


# --- Sentences ------------------------------------------------------------------------


def _library(chunk: str, language: str) -> list[int]:
    """Where the library ends the sentences of the chunk."""
    # A line's end means nothing here, and sentencex 1.0.32 panics on "J\u00a0.".
    chunk = _SPACE.sub(" ", chunk)
    # One mark too many would turn all later quotations inside out.
    chunk = _OPENING.sub("“", chunk).replace('"', "”")
    try:
        found = get_sentence_boundaries(language, chunk)
    except UnicodeEncodeError:  # half a surrogate pair, from a broken file
        found = get_sentence_boundaries(language, _SURROGATES.sub("\ufffd", chunk))
    return [boundary["end_index"] for boundary in found]


def _is_inner(text: str, start: int, boundary: int, language: str) -> bool:
    """Whether the sentence goes on after a boundary that the library reports."""
    if _MARKER.fullmatch(text, start, boundary):
        return True
    before = text[max(start, boundary - 40) : boundary]
    # A footnote mark, "[1]", belongs to the full stop that it follows without a space.
    if text.startswith("[", boundary) and not before[-1].isspace():
        return True
    before = before.rstrip()
    after = text[boundary : boundary + 40]
    return any(b.search(before) and a.match(after) for b, a in _INNER.get(language, ()))


def _starts(text: str, start: int, stop: int, language: str) -> list[int]:
    """Where sentences begin between ``start`` and ``stop``, both excluded, in order."""
    chunk = text[start:stop]
    ends = sorted({0, *_library(chunk, language), len(chunk)})
    hidden: list[int] = []
    for first, last in pairwise(ends):
        if last - first > _LONG:
            inner = chunk[first:last].translate(_QUOTES)
            hidden += [first + len(inner[:end].rstrip()) for end in _library(inner, language)]
    starts = set()
    for end in {*ends, *hidden} - {0}:
        begin = start + end
        # A mark after white space opens what follows, any other closes what precedes it.
        if text[begin - 1] in _MARKS and text[begin - 2].isspace():
            begin -= 1
        elif closing := _CLOSING.match(text, begin, stop):
            begin = closing.end()
        if start < begin < stop and not _is_inner(text, start, begin, language):
            starts.add(begin)
    for pattern in (*_ENDS_ANY, *_ENDS.get(language, ())):
        starts.update(start + match.end() for match in pattern.finditer(chunk))
    return sorted(s for s in starts if start < s < stop)


def _cut(text: str, start: int, limit: int) -> int:
    """The best place to cut a run that is too long, in the second half before ``limit``."""
    for pattern in _CUTS:
        last = None
        for last in pattern.finditer(text, (start + limit) // 2, limit):  # noqa: B007
            pass
        if last:
            return last.end()
    return limit


def _pieces(text: str, start: int, end: int) -> Iterator[Span]:
    """The span without the white space around it, in pieces of at most ``MAX_SENTENCE``."""
    while match := _NON_SPACE.search(text, start, end):
        start = match.start()
        # What remains is kept from being a tiny last piece.
        limit = min(MAX_SENTENCE, max(end - start - MAX_SENTENCE // 4, MAX_SENTENCE // 4))
        stop = end if end - start <= MAX_SENTENCE else _cut(text, start, start + limit)
        yield Span(start, start + len(text[start:stop].rstrip()))
        start = stop


def _block_sentences(text: str, block: Span, language: str) -> Iterator[Span]:
    """The sentences of a block, found in chunks of bounded size."""
    start = block.start
    while start < block.end:
        stop = min(start + _CHUNK, block.end)
        starts = _starts(text, start, stop, language)
        if stop == block.end:
            starts.append(stop)
        else:
            starts = [s for s in starts if s <= stop - _LOOKAHEAD] or [_cut(text, start, stop)]
        first, has_word = start, False
        for begin, end in pairwise([start, *starts]):
            # A bracket or a dash left alone is no sentence.
            if _WORD.search(text, begin, end):
                if has_word:
                    yield from _pieces(text, first, begin)
                    first = begin
                has_word = True
        yield from _pieces(text, first, starts[-1])
        start = starts[-1]


def sentences(text: str, language: str) -> list[Span]:
    """The sentences of the text, in order, without the white space around them.

    Together they hold every character that is not white space, and none twice. Blank
    lines, headings and list items end a sentence, other line ends do not. None is longer
    than ``MAX_SENTENCE`` characters. ``language`` is an ISO 639-1 code; an unknown one is
    split by general rules. Takes time linear in the text's length.
    """
    spans = []
    start = 0
    if stamp := STAMP.match(text):  # on its own, it is not cited with the first sentence
        spans.append(Span(stamp.start(1), stamp.start(1) + len(stamp[1].rstrip())))
        start = stamp.end()
    language = language.lower().partition("-")[0]
    for lines in _paragraphs(text, start):
        for block in _blocks(text, lines):
            spans.extend(_block_sentences(text, block, language))
    return spans


# --- Passages -------------------------------------------------------------------------


def passages(
    document: Document,
    *,
    window: int,
    overlap: int = 1,
    count_tokens: Callable[[Sequence[str]], list[int]],
) -> list[Passage]:
    """The document as passages of whole sentences, none of them over ``window`` tokens.

    ``count_tokens`` counts the encoder's tokens of each text, without the special ones; it
    is called once. A single sentence over the window is a passage of its own: the encoder
    will not see its end. A passage ends with a paragraph where it is half full by then;
    elsewhere the next one repeats its last ``overlap`` sentences if they fit.
    """
    if window < 1 or overlap < 0:
        raise ValueError(f"window must be positive and overlap not negative: {window}, {overlap}")
    text = document.text
    spans = sentences(text, document.language)
    if not spans:
        return []
    counts = count_tokens([text[span.start : span.end] for span in spans])
    total = [0, *accumulate(counts)]
    gaps = [len(text[span.end : after.start].splitlines()) for span, after in pairwise(spans)]

    def ends_paragraph(index: int) -> bool:
        return gaps[index - 1] > 1

    def strands_heading(index: int) -> bool:
        """Whether a break before ``index`` parts a heading from its text."""
        span = spans[index - 1]
        return (
            gaps[index - 1] > 0
            and span.end - span.start <= 120
            and text[span.end - 1] not in '.!?…"“”«»)'
        )

    def tokens(first: int, last: int) -> int:
        return total[last] - total[first]

    def repeated(new: int, previous: int) -> int:
        """Where a passage begins whose first new sentence is ``new``."""
        if ends_paragraph(new):
            return new
        # At least one sentence of the previous passage stays its own.
        first = max(new - overlap, previous + 1)
        while first < new and tokens(first, new + 1) > window:
            first += 1
        return min(first, new)

    runs: list[tuple[int, int]] = []
    new = 0
    while new < len(spans):
        first = repeated(new, runs[-1][0]) if runs else 0
        last = new + 1
        while last < len(spans) and tokens(first, last + 1) <= window:
            last += 1
        if last < len(spans):
            breaks = [
                i
                for i in range(new + 1, last + 1)
                if tokens(first, i) * 2 >= window and not strands_heading(i)
            ]
            last = max([i for i in breaks if ends_paragraph(i)] or breaks, default=last)
        runs.append((first, last))
        new = last

    if len(runs) > 1 and tokens(*runs[-1]) * 4 < window:
        # A scrap at the end is found for nothing: share the last two passages out anew.
        first, _ = runs[-2]
        lowest = runs[-3][1] + 1 if len(runs) > 2 else first + 1

        def worth(index: int) -> tuple[bool, bool, int]:
            least = min(tokens(first, index), tokens(index, len(spans)))
            return (
                not strands_heading(index),
                ends_paragraph(index) and least * 4 >= window,
                least,
            )

        choices = range(lowest, runs[-2][1] + 1)
        best = max((i for i in choices if tokens(i, len(spans)) <= window), key=worth, default=None)
        if best is not None:
            runs[-2:] = [(first, best), (repeated(best, first), len(spans))]
            while tokens(*runs[-1]) > window and runs[-1][0] < best:
                runs[-1] = (runs[-1][0] + 1, len(spans))

    return [
        Passage(document, spans[first].start, spans[last - 1].end, tuple(spans[first:last]))
        for first, last in runs
    ]

"""Keyword search: BM25 over stems, compounds and the words that translate a question.

Each text is stemmed in its own language, with ß and umlauts folded. German compounds
also count as their parts; scripts without spaces between words count as pairs of
characters. A question's words are looked up under every language of the index; where the
encoder's vocabulary knows near words in another language ("ambassador" -> "botschafter"),
these count too, by their nearness.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from index.embed import Encoder

K1, B = 1.2, 0.75
"""BM25's usual constants (Robertson & Zaragoza 2009)."""
PART_WEIGHT = 0.8
NEAR, NEAR_WEIGHT = 0.45, 0.9
"""A vocabulary neighbour counts from this cosine on, by this much of it."""

_VOWEL_SIGNS = "".join(
    chr(code)
    for low, high in (
        (0x0780, 0x07BF),  # Thaana
        (0x0900, 0x109F),  # Indic, Thai, Lao, Tibetan, Myanmar
        (0x1700, 0x1AAF),  # Philippine, Khmer, Tai
        (0x1B00, 0x1CFF),  # Balinese to Vedic
        (0x3099, 0x309A),  # voiced kana
        (0xA800, 0xABFF),  # Javanese, Cham, Meetei
    )
    for code in range(low, high + 1)
    if unicodedata.category(chr(code)) in ("Mn", "Mc")
)
"""Marks that are part of the spelling; \\w does not match them."""
_JOINER = "\u200d"
"""Within an Indic word, it only asks for a ligature."""

_SPACELESS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai, without ฿ and digits
    "\u0e81-\u0ece"  # Lao
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana, without ・
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_RUN = re.compile(f"[{_SPACELESS}]+")
_CHARACTER = re.compile(f".[{_VOWEL_SIGNS}]*")
_WORD = re.compile(rf"\w[\w{_VOWEL_SIGNS}]*(?:[.,]\d+)*")

STEMMERS = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "es": "spanish", "et": "estonian", "eu": "basque", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian",
    "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""ISO 639-1 code -> Snowball stemmer."""

STOP_WORDS: Mapping[str, frozenset[str]] = {
    "de": frozenset(
        "aber alle allem allen aller alles als also am an ander andere anderem anderen "
        "anderer anderes auch auf aus bei bin bis bist da damit dann das dass dasselbe dazu "
        "dein deine dem den denn der derselbe des dich die dies diese diesem diesen dieser "
        "dieses dir doch dort du durch ein eine einem einen einer eines einige einigem "
        "einigen einiger einiges er es etwas euch euer eure fur gegen gewesen hab habe "
        "haben hat hatte hatten hier hin hinter ich ihm ihn ihnen ihr ihre ihrem ihren "
        "ihrer ihres im in indem ins ist jede jedem jeden jeder jedes jene jenem jenen "
        "jener jenes jetzt kann kein keine keinem keinen keiner keines konnen konnte machen "
        "man manche mein meine mich mir mit muss musste nach nicht nichts noch nun nur ob "
        "oder ohne sehr sein seine seinem seinen seiner seines selbst sich sie sind so "
        "solche soll sollte sondern sonst uber um und uns unser unter viel vom von vor "
        "wahrend war waren warst was weg weil weiter welche welchem welchen welcher welches "
        "wenn wer werde werden wie wieder will wir wird wirst wo wollen wollte wurde wurden "
        "zu zum zur zwar zwischen wann warum wieso weshalb wen wem wessen woher wohin womit "
        "wofur wodurch worauf woran".split()
    ),
    "en": frozenset(
        "a about above after again against all am an and any are as at be because been "
        "before being below between both but by can could did do does doing down during "
        "each few for from further had has have having he her here hers herself him himself "
        "his how i if in into is it its itself just me more most my myself no nor not now "
        "of off on once only or other our ours out over own same she should so some such "
        "than that the their theirs them then there these they this those through to too "
        "under until up very was we were what when where which while who whom whose why "
        "will with would you your yours did didn doesn don isn wasn s t".split()
    ),
}


def fold(text: str) -> str:
    """Lower case, ß as ss, no accents: "Größe" -> "grosse". Vowel signs stay."""
    folded = unicodedata.normalize("NFD", text.casefold()).replace(_JOINER, "")
    for mark in set(folded):
        if unicodedata.combining(mark) and mark not in _VOWEL_SIGNS:
            folded = folded.replace(mark, "")
    return unicodedata.normalize("NFC", folded)  # as the stemmers spell vowel signs


@lru_cache(maxsize=64)
def _stemmer(language: str) -> Any:
    import Stemmer

    return Stemmer.Stemmer(STEMMERS[language]) if language in STEMMERS else None


def _pairs(run: re.Match[str]) -> str:
    """The overlapping pairs of a run's characters, set apart: "北京大" -> " 北京 京大 "."""
    characters = _CHARACTER.findall(run[0])
    return f" {' '.join(map(''.join, pairwise(characters))) or run[0]} "


def words(text: str) -> list[str]:
    """The folded words and numbers of a text, in order; pairs where no spaces part words."""
    return _WORD.findall(_RUN.sub(_pairs, fold(text)))


@lru_cache(maxsize=200_000)
def stem(word: str, language: str) -> str:
    stemmer = _stemmer(language)
    return str(stemmer.stemWord(word)) if stemmer else word


class Compounds:
    """Splits compounds into words that are known: "truppenaufmarsch" -> truppen, aufmarsch.

    A word is split only where both sides are known words of at least four letters,
    with at most one linking element (s, es, n, en) between them; the longest last part wins,
    since the head of a German compound stands last.
    """

    LINKS = ("", "s", "es", "n", "en")
    SHORTEST = 4

    def __init__(self, known: Container[str]) -> None:
        self._known = known
        self.parts = lru_cache(maxsize=200_000)(self._parts)

    def _parts(self, word: str) -> tuple[str, ...]:
        if len(word) < 9 or not word.isalpha():
            return ()
        for cut in range(self.SHORTEST, len(word) - self.SHORTEST + 1):
            tail = word[cut:]
            if tail not in self._known:
                continue
            for link in self.LINKS:
                head = word[:cut].removesuffix(link) if link else word[:cut]
                if len(head) >= self.SHORTEST and head in self._known:
                    return (head, tail)
                if link == "" and len(head) >= 9 and (deeper := self._parts(head)):
                    return (*deeper, tail)
        return ()


def terms(text: str, language: str, compounds: Compounds | None = None) -> list[str]:
    """The index terms of a text: stems without stop words, and stems of compound parts."""
    stop = STOP_WORDS.get(language, frozenset())
    found: list[str] = []
    for word in words(text):
        if word not in stop:
            found += word_terms(word, language, compounds)
    return found


def word_terms(word: str, language: str, compounds: Compounds | None = None) -> Iterator[str]:
    """The terms that a word of a text stands for: its stem, and those of its parts."""
    yield stem(word, language)
    if compounds is not None and language == "de":
        for part in compounds.parts(word):
            yield stem(part, language)


def question_words(
    question: str,
    language: str,
    languages: Collection[str],
    encoder: Encoder,
    compounds: Compounds | None = None,
) -> list[dict[str, float]]:
    """For each word of a question, the terms that stand for it and how well (0 to 1).

    A word's own stems, under the question's language and every language of the index,
    count fully, its compound parts nearly, and its neighbours in the encoder's vocabulary
    by their cosine where documents are in another language.
    """
    stop = STOP_WORDS.get(language, frozenset())
    across = any(code != language for code in languages)
    found = []
    for word in dict.fromkeys(words(question)):
        if word in stop:
            continue
        choices = {stem(word, code): 1.0 for code in (*languages, language)}
        if compounds is not None and "de" in languages:
            for part in compounds.parts(word):
                choices.setdefault(stem(part, "de"), PART_WEIGHT)
        for neighbour, cosine in encoder.neighbours(word) if across else ():
            for code in languages:
                if cosine >= NEAR and neighbour not in STOP_WORDS.get(code, frozenset()):
                    key = stem(neighbour, code)
                    choices[key] = max(choices.get(key, 0.0), NEAR_WEIGHT * cosine)
        found.append(choices)
    return found


@dataclass(frozen=True)
class Postings:
    """Which words stand in which rows of a run of passages, and how often; never changed.

    Words are kept as they are spelt, with their language: what they stand for as terms
    (stems and parts of compounds) depends on the other words of the index.
    """

    words: tuple[tuple[str, str], ...]
    """(language, word)"""
    first: NDArray[np.int64]
    """Where the rows of each word begin; one more entry ends the last."""
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    """The words of each row, without stop words."""

    @classmethod
    def of(cls, passages: Iterable[tuple[str, Sequence[str]]]) -> Self:
        """From the language and the words of each passage."""
        ids: dict[tuple[str, str], int] = {}
        found: list[NDArray[np.int32]] = []
        for language, spelt in passages:
            stop = STOP_WORDS.get(language, frozenset())
            row = [ids.setdefault((language, w), len(ids)) for w in spelt if w not in stop]
            found.append(np.asarray(row, np.int32))
        lengths = np.asarray([len(row) for row in found], np.int32)
        word = np.concatenate(found) if found else np.zeros(0, np.int32)
        row_of = np.repeat(np.arange(len(found), dtype=np.int32), lengths)
        return cls._sorted(tuple(ids), word, row_of, np.ones(len(word), np.int32), lengths)

    @classmethod
    def _sorted(
        cls,
        words: tuple[tuple[str, str], ...],
        word: NDArray[np.int32],
        rows: NDArray[np.int32],
        counts: NDArray[np.int32],
        lengths: NDArray[np.int32],
    ) -> Self:
        """From (word, row, count) in any order; the counts of equal pairs are added."""
        width = max(len(lengths), 1)
        pairs, where = np.unique(word.astype(np.int64) * width + rows, return_inverse=True)
        first = np.searchsorted(pairs, np.arange(len(words) + 1, dtype=np.int64) * width)
        added = np.bincount(where, weights=counts, minlength=len(pairs))
        rows = (pairs % width).astype(np.int32)
        return cls(words, first.astype(np.int64), rows, added.astype(np.int32), lengths)

    @classmethod
    def merge(cls, parts: Sequence[Self], kept: Sequence[NDArray[np.bool_]]) -> Self:
        """One run from several, in order, of the rows that are ``kept`` in each."""
        ids: dict[tuple[str, str], int] = {}
        word, rows, counts, start = [], [], [], 0
        for part, keep in zip(parts, kept, strict=True):
            new_row = np.cumsum(keep) - 1 + start
            here = keep[part.rows]
            old = np.repeat(np.arange(len(part.words)), np.diff(part.first))[here]
            used, inverse = np.unique(old, return_inverse=True)
            new = [ids.setdefault(part.words[i], len(ids)) for i in used]
            word.append(np.asarray(new, np.int32)[inverse])
            rows.append(new_row[part.rows[here]].astype(np.int32))
            counts.append(part.counts[here])
            start += int(keep.sum())
        lengths = [part.lengths[keep] for part, keep in zip(parts, kept, strict=True)]
        joined = map(np.concatenate, (word, rows, counts, lengths))
        return cls._sorted(tuple(ids), *joined)

    @cached_property
    def known(self) -> frozenset[str]:
        """What a compound may be split into."""
        return frozenset(word for _, word in self.words if len(word) >= Compounds.SHORTEST)

    def of_word(self, word: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The rows that hold a word, and how often."""
        span = slice(self.first[word], self.first[word + 1])
        return self.rows[span], self.counts[span]


class _Union:
    """The words of several sets, without a copy of them, and the stop words of German."""

    def __init__(self, sets: Sequence[frozenset[str]]) -> None:
        self._sets = [STOP_WORDS["de"], *sets]

    def __contains__(self, word: object) -> bool:
        return any(word in words for words in self._sets)


class Lexicon:
    """Which words of a run of passages stand for which term."""

    def __init__(self, postings: Postings, compounds: Compounds) -> None:
        self.postings = postings
        self._words: dict[str, list[int]] = {}
        for i, (language, word) in enumerate(postings.words):
            for term in word_terms(word, language, compounds):
                self._words.setdefault(term, []).append(i)

    def find(self, term: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that hold a term, in order, and how often."""
        found = [self.postings.of_word(word) for word in self._words.get(term, ())]
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        if len(found) == 1:
            return found[0][0].astype(np.int64), found[0][1].astype(np.float64)
        rows = np.concatenate([rows for rows, _ in found]).astype(np.int64)
        counts = np.concatenate([counts for _, counts in found])
        unique, where = np.unique(rows, return_inverse=True)
        return unique, np.asarray(np.bincount(where, weights=counts), np.float64)


class KeywordIndex:
    """BM25 (Lucene's variant) over runs of passages, of which some rows may be gone.

    What a compound splits into depends on all the words there are. With new words, the
    terms are found anew; in a large index only when the words have become a good many more
    (``GROWTH``), so that adding a document costs what the document does.
    """

    SMALL, GROWTH = 20_000, 1.05

    def __init__(
        self,
        parts: Sequence[Postings],
        alive: Sequence[NDArray[np.bool_]] | None = None,
        earlier: KeywordIndex | None = None,
    ) -> None:
        self._size = sum(len(part.lengths) for part in parts)
        alive = alive or [np.ones(len(part.lengths), np.bool_) for part in parts]
        self._alive = np.concatenate([np.zeros(0, np.bool_), *alive])
        self._count = int(self._alive.sum())
        lengths = np.concatenate([np.zeros(0, np.int32), *(part.lengths for part in parts)])
        mean = float(lengths[self._alive].mean()) if self._count else 0.0
        self._norm = K1 * (1 - B + B * lengths / (mean or 1.0))
        self._start = np.cumsum([0, *(len(part.lengths) for part in parts)])
        self.vocabulary = sum(len(part.words) for part in parts)
        ready: dict[int, Lexicon] = {}
        self.compounds = Compounds(_Union([part.known for part in parts]))
        self._terms_of = self.vocabulary
        if earlier is not None:
            same = [id(part) for part in parts] == [id(x.postings) for x in earlier._lexicons]
            few = self.SMALL < self.vocabulary <= self.GROWTH * earlier._terms_of
            if same or few:
                ready = {id(lexicon.postings): lexicon for lexicon in earlier._lexicons}
                self._terms_of = earlier._terms_of
        self._lexicons: list[Lexicon] = [
            ready.get(id(part)) or Lexicon(part, self.compounds) for part in parts
        ]
        self._find = lru_cache(maxsize=4096)(self._rows_of)

    def _rows_of(self, term: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that hold a term, and its part of their BM25 without the idf."""
        found = [lexicon.find(term) for lexicon in self._lexicons]
        rows = [rows + start for (rows, _), start in zip(found, self._start, strict=False)]
        held = np.concatenate([np.empty(0, np.int64), *rows])
        count = np.concatenate([np.empty(0, np.float64), *(counts for _, counts in found)])
        held, count = held[self._alive[held]], count[self._alive[held]]
        return held, count / (count + self._norm[held])

    def idf(self, term: str) -> float:
        """Inverse document frequency as in Lucene; of an unseen term, the highest."""
        return self._idf(len(self._find(term)[0]))

    def _idf(self, n: int) -> float:
        return math.log(1 + (self._count - n + 0.5) / (n + 0.5))

    def word_idf(self, choices: Mapping[str, float]) -> float:
        """The weight of a question's word: of its rarest term that the index has."""
        counts = [len(self._find(term)[0]) for term in choices]
        return self._idf(min((n for n in counts if n), default=0))

    def scores(self, question: Sequence[Mapping[str, float]]) -> NDArray[np.float32]:
        """BM25 of a question's words, each by its best term, over the sum of their idf.

        So 1 means that a text holds every word of the question, in an index of any
        size. Shape (rows,); 0 for a row that is gone.
        """
        total = np.zeros(self._size, np.float32)
        mass = sum(self.word_idf(choices) for choices in question)
        if not mass:
            return total
        for choices in question:
            best = np.zeros(self._size, np.float32)
            for term, weight in choices.items():
                rows, share = self._find(term)
                best[rows] = np.maximum(best[rows], weight * self.idf(term) * share)
            total += best
        return total / np.float32(mass)

    def coverage(
        self, texts: Sequence[Collection[str]], question: Sequence[Mapping[str, float]]
    ) -> NDArray[np.float32]:
        """The share of the question's idf that the terms of each text hold, (texts,)."""
        idfs = [self.word_idf(choices) for choices in question]
        mass = sum(idfs) or 1.0
        rows = []
        for terms_ in texts:
            held = 0.0
            for choices, idf in zip(question, idfs, strict=True):
                best = max((w for t, w in choices.items() if t in terms_), default=0.0)
                held += best * idf
            rows.append(held / mass)
        return np.asarray(rows, np.float32)

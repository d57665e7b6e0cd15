"""Texts and questions to the terms that keyword search looks up.

Each text is stemmed in its own language, with ß and umlauts folded. German compounds
also count as their parts; scripts without spaces between words count as pairs of
characters. A question's words are looked up under every language of the index; where the
lexicon knows words that translate them ("ambassador" -> "botschaft"), these count too.
"""

from __future__ import annotations

import gzip
import math
import re
import unicodedata
from collections.abc import Collection, Container, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

PART_WEIGHT = 0.8
TRANSLATION_WEIGHT = 0.9
LEXICON = Path(__file__).parent / "lexicon.tsv.gz"
"""English stem, German stem, strength; made by index.distill.lexicon."""

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
_BM25S_LISTS = {
    "da": "DANISH", "es": "SPANISH", "fr": "FRENCH", "it": "ITALIAN", "nl": "DUTCH",
    "no": "NORWEGIAN", "pt": "PORTUGUESE", "ru": "RUSSIAN", "sv": "SWEDISH", "tr": "TURKISH",
}  # fmt: skip
"""ISO 639-1 code -> stop words that bm25s brings."""

_ASKING = {
    "da": "hvad hvem hvilke hvilken hvilket hvis hvor hvordan hvorfor hvornår",
    "es": "adónde cómo cuál cuáles cuándo cuánta cuántas cuánto cuántos dónde qué quién quiénes",
    "fr": "a combien comment où pourquoi quand quel quelle quelles quels quoi",
    "it": "che chi come dove perché qual quale quali quando quanta quante quanti quanto",
    "nl": "hoe hoeveel waar waarom wanneer wat welk welke wie wiens",
    "no": "hva hvem hvilke hvilken hvilket hvor hvordan hvorfor når",
    "pt": "como onde porque quais qual quando quanta quantas quanto quantos quê quem",
    "ru": "где как какая какие какое какой когда кто куда почему сколько что",
    "sv": "hur när vad var varför vart vem vems vilka vilken vilket",
    "tr": "hangi kaç kim kimin nasıl ne neden nerede nereye niçin",
}
"""What most of these lists lack: the words that ask."""


@lru_cache(maxsize=64)
def stop_words(language: str) -> frozenset[str]:
    """The folded words that say nothing alone; none for languages without a list."""
    if language in STOP_WORDS or language not in _BM25S_LISTS:
        return STOP_WORDS.get(language, frozenset())
    from bm25s import stopwords

    listed = getattr(stopwords, f"STOPWORDS_{_BM25S_LISTS[language]}")
    return frozenset(map(fold, (*listed, *_ASKING[language].split())))


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
    """The stem of a folded word; the word itself where the language has no stemmer."""
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
    stop = stop_words(language)
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


@lru_cache(maxsize=1)
def _lexicon() -> dict[str, dict[str, dict[str, float]]]:
    """By language, the stems that translate a stem into the other one, by their weight."""
    found: dict[str, dict[str, dict[str, float]]] = {"en": {}, "de": {}}
    for line in gzip.decompress(LEXICON.read_bytes()).decode().splitlines():
        english, german, strength = line.split("\t")
        weight = TRANSLATION_WEIGHT * math.sqrt(min(1.0, 1.5 * float(strength)))
        found["en"].setdefault(english, {})[german] = weight
        found["de"].setdefault(german, {})[english] = weight
    return found


def translations(stemmed: str, language: str, other: str) -> Mapping[str, float]:
    """The stems of another language that translate a stem, with weights in (0, 1).

    Known between German and English; empty for other languages.
    """
    if {language, other} != {"de", "en"}:
        return {}
    return _lexicon()[language].get(stemmed, {})


def question_words(
    question: str,
    language: str,
    languages: Collection[str],
    compounds: Compounds | None = None,
) -> list[dict[str, float]]:
    """For each word of a question, the terms that stand for it and how well (0 to 1).

    A word's own stems, under the question's language and every language of the index,
    count fully, its compound parts nearly, and what translates it or its parts by the
    lexicon's weights where documents are in another language.
    """
    stop = stop_words(language)
    found = []
    for word in dict.fromkeys(words(question)):
        if word in stop:
            continue
        choices = {stem(word, code): 1.0 for code in (*languages, language)}
        parts = compounds.parts(word) if compounds is not None else ()
        if "de" in languages:
            for part in parts:
                choices.setdefault(stem(part, "de"), PART_WEIGHT)
        own = {stem(word, language): 1.0}
        if language == "de":
            own |= {stem(part, "de"): PART_WEIGHT for part in parts}
        for code in languages:
            for mine, share in own.items():
                for key, weight in translations(mine, language, code).items():
                    choices[key] = max(choices.get(key, 0.0), weight * share)
        found.append(choices)
    return found

"""What a sentence turns round against the sentences that it cites: yes and no, opposites, names.

Rules over words, in German and English, for what the encoder hardly sees: "not", "rose" for
"fell", and two names that have changed places. They are made to be right where they speak, and
are silent about most: see tests/benchmarks/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from index.lexical import fold, stem, stop_words, translations, words
from rag.facts import names, roots

KINDS = ("denied", "affirmed", "opposite", "swapped")
HELD = 0.5
"""From this share on of its content words, a clause is about the same in both texts."""

_NEGATION = {
    "en": re.compile(
        r"\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|without)\b|n['’]t\b", re.I
    ),
    "de": re.compile(
        r"\b(?:nicht|kein(?:e[mnrs]?)?|nie|niemals|niemand(?:e[mn])?|nichts|weder|ohne)\b", re.I
    ),
}
_NO_NEGATION = {
    "en": re.compile(
        r"\b(?:not only|not least|nothing but|no doubt|no matter"
        r"|(?:not|no) (?:more|less|fewer|later|earlier|longer|bigger|smaller) than)\b",
        re.I,
    ),
    "de": re.compile(
        r"\b(?:nicht nur|nicht zuletzt|nichts als|ohne zweifel"
        r"|nicht (?:mehr|weniger|später|früher|länger|größer|kleiner) als)\b",
        re.I,
    ),
}
_AGAINST = {
    "en": re.compile(
        r"\b(?:unless|lack\w*|un\w+|miss\w*|fail\w*|refus\w+|den(?:y|ies|ied)|reject\w*|declin\w*"
        r"|stop\w*|block\w*|exclud\w*|except\w*|barely|hardly|few|little|ignor\w+|prevent\w*"
        r"|avoid\w*|bann?\w*|forb\w+|against|instead|too|late|off|absent|doubt\w*|longer|end(?:ed)?"
        r"|los[et]\w*|loss\w*|gave up)\b",
        re.I,
    ),
    "de": re.compile(
        r"\b(?:un\w+|kaum|\w*fehl\w*|bestr[ie]+t\w*|weiger\w*|\w*lehn\w*|verhinder\w*|verb[ieo]+t\w*"
        r"|untersag\w*|abge\w+|ab|auf\w*geb\w*|wenig\w*|ausgeschl\w+|außer|statt|zu|spät\w*|aus"
        r"|ignorier\w*|verzicht\w*|gegen|dagegen|verlor\w*|verpass\w*|stillgelegt\w*|\w*zweifel\w*)\b",
        re.I,
    ),
}
"""Other words to deny something with: with one of them, a missing "not" says little."""
_IS_NOT = {
    "en": re.compile(r"\b(?:unable|lack\w*|fail\w*|refus\w+|ignor\w+|unless|missed)\b", re.I),
    "de": re.compile(r"\b(?:unfähig|fehl\w*|mangel\w*|\w*weiger\w*|ignorier\w*)\b", re.I),
}
"""Of these, those that another text may well put as "not"."""
_CLAUSE_ENDS = re.compile(
    r"[,;:()–—\n]|\b(?:and|but|because|which|that|who|although|while|since|und|aber|sondern|weil|dass"
    r"|obwohl|während|denn)\b"
)
_BY = re.compile(r"\b(?:by|von|vom|durch)\b", re.I)
"""Who did it stands last where it is told in the passive."""

_OPPOSITES = """\
more / mehr | less fewer / weniger
most / meiste | least / wenigste
first / erste zuerst | last / letzte zuletzt
before / bevor vorher zuvor | after / nachdem nachher danach
rise rose risen rising increase increased grow grew grown climbed gained / steigen stieg \
gestiegen zunehmen zugenommen wachsen wuchs gewachsen erhöht erhöhte | fall fell fallen falling \
decrease decreased decline declined sank shrank dropped / sinken sank gesunken fallen fiel \
gefallen abnehmen abgenommen schrumpfen geschrumpft gesenkt senkte
large larger largest big bigger biggest / groß größer größte | small smaller smallest little / \
klein kleiner kleinste
high higher highest / hoch höher höchste | low lower lowest / niedrig niedriger niedrigste tief
north northern / norden nördlich | south southern / süden südlich
east eastern / osten östlich | west western / westen westlich
early earlier earliest / früh früher frühestens | late later latest / spät später spätestens
won win wins victory / gewinnen gewann gewonnen sieg siegte | lost lose loses defeat / verlieren \
verlor verloren niederlage
always / immer stets | never / nie niemals
all everyone / alle sämtliche | none nobody / keine niemand
old older oldest / alt älter älteste | new newer newest young younger youngest / neu neuer \
neueste jung jünger jüngste
best better / beste besser | worst worse / schlechteste schlechter
long longer longest / lang länger längste | short shorter shortest / kurz kürzer kürzeste
began begin begins started start starts / begann beginnen begonnen anfangen | ended end ends \
finished stopped / endete enden geendet beendet
support supported supports approve approved / unterstützen unterstützte unterstützt befürworten \
| oppose opposed opposes / bekämpfen bekämpfte ablehnen ablehnte abgelehnt
accept accepted accepts agreed / annehmen annahm angenommen akzeptieren akzeptierte zugestimmt | \
reject rejected rejects refused refuse / ablehnen ablehnte abgelehnt zurückgewiesen verweigert
allow allowed allows permitted / erlauben erlaubte erlaubt zugelassen genehmigt | forbid \
forbidden banned blocked prohibited / verbieten verbot verboten untersagen untersagte untersagt
confirm confirmed confirms admitted / bestätigen bestätigte bestätigt zugegeben | deny denied \
denies / bestreiten bestritt bestritten dementieren dementierte
buy buys bought purchased / kaufen kaufte gekauft erwarb | sell sells sold / verkaufen verkaufte \
verkauft
open opened opens / öffnen öffnete geöffnet eröffnet | close closed closes shut / schließen \
schloss geschlossen
praise praised praises / loben lobte gelobt | criticise criticised criticized condemned / \
kritisieren kritisierte kritisiert verurteilte
import imports imported / importieren einfuhr | export exports exported / exportieren ausfuhr
hire hired / einstellen eingestellt | dismiss dismissed fired sacked / entlassen entließ \
gekündigt
build built / bauen baute gebaut errichtet | destroy destroyed demolished / zerstören zerstörte \
zerstört abgerissen
arrive arrived / ankommen angekommen eingetroffen | leave departed / abreisen abgereist \
abgefahren
majority / mehrheit | minority / minderheit
maximum most / höchstens maximal | minimum least / mindestens minimal
guilty / schuldig | innocent acquitted / unschuldig freigesprochen
legal / legal rechtmäßig | illegal unlawful / illegal rechtswidrig
succeed succeeded success / gelang gelungen erfolg | fail failed failure / scheiterte \
gescheitert misslang
profit profits / gewinn gewinne | loss losses / verlust verluste
cheap cheaper / billig billiger günstig | expensive dearer / teuer teurer
fast faster quick / schnell schneller | slow slower / langsam langsamer
warm hot warmer / warm heiß wärmer | cold cold colder / kalt kälter
rich / reich | poor / arm
man men male males / mann männer männlich männchen | woman women female females / frau frauen \
weiblich weibchen
mother / mutter | father / vater
son / sohn | daughter / tochter
day daytime / tag tags tagsüber | night / nacht nachts
summer / sommer | winter / winter
voluntary / freiwillig | compulsory mandatory / verpflichtend pflicht
public / öffentlich | private / privat
alive survived / lebend überlebte überlebt | dead died killed / tot starb gestorben getötet
"""


@dataclass(frozen=True, slots=True)
class Contrast:
    """``kind`` is one of ``KINDS``; the offsets are those of the sentence."""

    kind: str
    start: int
    end: int


def contrasts(
    text: str, language: str, nearest: str, quote: str, quoted_in: str
) -> Iterator[Contrast]:
    """What a sentence turns round against a ``quote``, in the language ``quoted_in``, and the
    sentence of it that is ``nearest``."""
    if not {language, quoted_in} <= _NEGATION.keys():
        return
    denials = list(_denials(text, language))
    denied = any(_denials(quote, quoted_in)) or _IS_NOT[quoted_in].search(quote)
    if denials and not denied:
        for match, clause in denials:
            if shared(clause, language, quote, quoted_in) >= HELD:
                yield Contrast("denied", *match.span())
                break
    if not denials and not _AGAINST[language].search(text):
        for _, clause in _denials(nearest, quoted_in):
            if shared(clause, quoted_in, text, language) >= HELD:
                yield Contrast("affirmed", 0, len(text))
                break
    yield from _opposites(text, language, nearest, quoted_in)
    if (swapped := _swapped(text, language, nearest, quoted_in)) is not None:
        yield Contrast("swapped", *swapped)


def _denials(text: str, language: str) -> Iterator[tuple[re.Match[str], str]]:
    """The negations of a text, each with its clause."""
    idioms = [match.span() for match in _NO_NEGATION[language].finditer(text)]
    ends = [0, *(match.end() for match in _CLAUSE_ENDS.finditer(text)), len(text)]
    for match in _NEGATION[language].finditer(text):
        if any(start <= match.start() < end for start, end in idioms):
            continue
        start = max(end for end in ends if end <= match.start())
        end = min(end for end in ends if end >= match.end())
        yield match, text[start:end]


def shared(clause: str, language: str, other: str, spoken: str) -> float:
    """The share of a text's content words, but for numbers and negations, that another holds."""
    stop = stop_words(language)
    negation = _NEGATION.get(language)
    own = words(negation.sub(" ", clause) if negation else clause)
    own = [word for word in own if word not in stop and not word[0].isdigit()]
    spelt = set(words(other))
    held = spelt | {stem(word, spoken) for word in spelt}
    met = [bool(_terms(word, language, spoken) & held) for word in own]
    return sum(met) / len(met) if met else 0.0


def _terms(word: str, language: str, other: str) -> set[str]:
    root = stem(word, language)
    return {word, root, *translations(root, language, other)}


@lru_cache(maxsize=1)
def _sides() -> dict[tuple[str, str], frozenset[tuple[int, int]]]:
    """By language and stem, the pairs of opposites that it is of, and the side."""
    found: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for pair, line in enumerate(_OPPOSITES.splitlines()):
        for side, both in enumerate(line.split("|")):
            for language, listed in zip(("en", "de"), both.split("/"), strict=True):
                for word in words(listed):
                    found.setdefault((language, stem(word, language)), set()).add((pair, side))
    return {key: frozenset(sides) for key, sides in found.items()}


def _sides_of(text: str, language: str) -> set[tuple[int, int]]:
    sides = _sides()
    return {s for w in words(text) for s in sides.get((language, stem(w, language)), ())}


def _opposites(text: str, language: str, nearest: str, quoted_in: str) -> Iterator[Contrast]:
    """Words whose opposite stands in the quote, where the quote has none on their own side."""
    own, held = _sides_of(text, language), _sides_of(nearest, quoted_in)
    sides = _sides()
    for match in re.finditer(r"\w+", text):
        for pair, side in sides.get((language, stem(fold(match[0]), language)), ()):
            other = (pair, 1 - side)
            if other in held and other not in own and (pair, side) not in held:
                yield Contrast("opposite", *match.span())
                return


def _swapped(text: str, language: str, nearest: str, quoted_in: str) -> tuple[int, int] | None:
    """From the first to the last name, if all that the quote has come in its opposite order."""
    places: dict[str, set[int]] = {}
    for match in re.finditer(r"\w+", nearest):
        if match[0][0].isupper():
            word = fold(match[0])
            for root in {word, word.removesuffix("s"), stem(word, quoted_in)}:
                places.setdefault(root, set()).add(match.start())
    found: list[tuple[int, int, int]] = []
    for match in names(text, language):
        at = next(
            (places[r] for r in roots(match[0], language, quoted_in) if r in places), set[int]()
        )
        if len(at) != 1:  # not there, or more than once
            continue
        (place,) = at
        if found and match.start() - found[-1][1] <= 1:  # a first name and its last name
            found[-1] = (found[-1][0], match.end(), found[-1][2])
        else:
            found.append((*match.span(), place))
    order = [place for _, _, place in found]
    passive = bool(_BY.search(text)) != bool(_BY.search(nearest))
    if len(order) > 1 and not passive and all(a > b for a, b in pairwise(order)):
        return found[0][0], found[-1][1]
    return None

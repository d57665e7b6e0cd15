"""Words of German and English that the answerer needs: what a question asks for, what
points back, and the sentences that Beleg itself says."""

from __future__ import annotations

import re
from collections.abc import Mapping

from index.lexical import fold

REFUSAL: Mapping[str, str] = {
    "de": "Das steht nicht in den Dokumenten. Am nächsten kommen die folgenden Stellen; als"
    " Antwort gelten sie nicht.",
    "en": "The documents do not say. These passages come nearest; they are not given as an answer.",
}

NO_PASSAGES: Mapping[str, str] = {
    "de": "Es gibt kein Dokument, aus dem sich antworten ließe: Fügen Sie zuerst eines hinzu.",
    "en": "There is no document to answer from: add one first.",
}

NOTHING_ASKED: Mapping[str, str] = {
    "de": "Die Frage enthält kein Wort, nach dem sich suchen lässt: bitte ganz ausschreiben.",
    "en": "The question has no word to look for: ask it in full.",
}

UNKNOWN_QUESTION = (
    "The question is in a language ({language}) that the model does not know: ask in German or"
    " English, or with  --model intfloat/multilingual-e5-small"
)

UNKNOWN_LANGUAGE: Mapping[str, str] = {
    "de": "{title} ist in einer Sprache ({language}), die das Modell nicht kennt: gesucht wurde"
    " nur nach Stichwörtern. Mehr kann  --model intfloat/multilingual-e5-small",
    "en": "{title} is in a language ({language}) that the model does not know: searched by"
    " keywords only.  --model intfloat/multilingual-e5-small  would do better",
}

FALLBACK: Mapping[str, str] = {
    "de": "Das Sprachmodell hat nicht geantwortet: {reason}. Diese Antwort ist aus den Dokumenten"
    " zitiert.",
    "en": "The language model gave no answer: {reason}. This one is quoted from the documents.",
}
FAILURES: Mapping[str, Mapping[str, str]] = {
    "de": {
        "slow": "nach {} Sekunden war es nicht fertig",
        "down": "es ist nicht zu erreichen",
        "cut": "seine Antwort wurde abgeschnitten",
        "endless": "seine Antwort nahm kein Ende",
        "unreadable": "seine Antwort ist nicht zu lesen",
        "uncited": "seine Antwort nennt keine Belege",
        "unsupported": "was es schrieb, geht aus den genannten Belegen nicht hervor",
        "window": "es kann nicht so viel Text aufnehmen",
        "key": "sein Server nimmt den Schlüssel nicht an ({})",
        "status": "sein Server meldet einen Fehler ({})",
        "error": "{}",
    },
    "en": {
        "slow": "it was not done after {} seconds",
        "down": "it cannot be reached",
        "cut": "its reply was cut off",
        "endless": "its reply had no end",
        "unreadable": "its reply cannot be read",
        "uncited": "its reply cites nothing",
        "unsupported": "what it wrote is not supported by what it cites",
        "window": "it cannot take in so much text",
        "key": "its server does not accept the key ({})",
        "status": "its server reports an error ({})",
        "error": "{}",
    },
}
"""Why a language model gave no answer."""
OTHER_LANGUAGE: Mapping[str, str] = {
    "de": "Das Sprachmodell hat zweimal nicht in der Sprache der Frage geantwortet.",
    "en": "Twice the language model did not answer in the language of the question.",
}
DROPPED: Mapping[str, str] = {
    "de": "Sätze, die wegfielen, weil ihre Belege sie nicht stützen: {}.",
    "en": "Sentences left out because what they cite does not support them: {}.",
}

QUESTION_WORDS = ("who", "when", "where", "why", "how many", "what", "other")
_QUESTION_WORDS = {
    "en": {
        "who": "who|whom|whose",
        "when": r"when|(?:what|which) (?:year|date|day|month|decade|century|time)",
        "where": "where|(?:what|which) (?:country|city|town|place|region|state)",
        "why": r"why|(?:what|which) (?:\w+ ){0,2}(?:reasons?|causes?|caused)",
        "how many": r"how (?:many|much|long|old|large|big|far|tall|high|often)"
        r"|(?:what|which) (?:percent(?:age)?|share|number)",
        "what": "what|which",
    },
    "de": {
        "who": "wer|wen|wem|wessen",
        "when": r"wann|(?:um )?wie ?viel uhr"
        r"|welche[mnrs]? (?:jahr|datum|tag|wochentag|monat|jahrzehnt|jahrhundert|zeitpunkt)",
        "where": "wo|woher|wohin|welche[mnrs]? (?:land|stadt|ort|region|gegend)",
        "why": r"warum|weshalb|wieso|weswegen"
        r"|(?:was|welche[mnrs]?) (?:\w+ ){0,2}(?:grunde?n?|ursachen?)",
        "how many": r"wie ?viele?[nr]?|wieviel[a-z]*|wie (?:lange|alt|gross|weit|hoch|oft|haufig)"
        r"|was kostet\w*|welche[mnrs]? (?:prozentsatz|anteil|anzahl)",
        "what": "was|welche[mnrs]?|wo(?:r(?:an|auf|aus|in|uber|um)|bei|durch|fur|mit|nach|von|zu)",
    },
}
# At the same word the first kind wins, so that "welches Jahr" is when, not what.
_FIRST_QUESTION_WORD = {
    language: re.compile(r"\b(?:" + "|".join(f"({words})" for words in kinds.values()) + r")\b")
    for language, kinds in _QUESTION_WORDS.items()
}
_ASKS_FOR = {
    "who": "person", "when": "time", "where": "place", "why": "reason", "how many": "number",
}  # fmt: skip


def question_word(question: str, language: str) -> str:
    """The kind of a question by its first question word, one of ``QUESTION_WORDS``.

    "other" where it has none that is known, or in a language that is not "de" or "en".
    """
    text = " ".join(re.findall(r"\w+", fold(question)))
    pattern = _FIRST_QUESTION_WORD.get(language)
    found = pattern.search(text) if pattern else None
    return QUESTION_WORDS[(found.lastindex or 0) - 1] if found else "other"


_NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve hundred thousand million"
    " billion half dozen both several twice third quarter percent most few"
    " ein eine zwei drei vier funf sechs sieben acht neun zehn elf zwolf hundert tausend"
    " millionen milliarde milliarden halfte dutzend beide mehrere zweimal drittel viertel"
    " prozent meisten".split()
)
_TIME_WORDS = frozenset(
    "january february march april may june july august september october november december"
    " januar februar marz mai juni juli oktober dezember monday tuesday wednesday thursday"
    " friday saturday sunday montag dienstag mittwoch donnerstag freitag samstag sonntag"
    " jahrhundert century decade jahrzehnt jahr jahre year years spring summer autumn winter"
    " fruhling fruhjahr sommer herbst".split()
)
_REASON_WORDS = frozenset(
    "because due since cause caused causes reason therefore hence thus result"
    " weil wegen denn da grund deshalb deswegen daher darum aufgrund ursache nachdem dadurch"
    " infolge daraufhin".split()
)
_PLACE_WORDS = frozenset(
    "in at from near to into outside around der die das dem den im am aus bei nach auf uber"
    " vor an zur zum beim".split()
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_YEAR = re.compile(r"1\d{3}|20\d{2}")


def asks_for(question: str, language: str) -> str:
    """What a question asks for: number, time, person, place, reason, or "" for anything else."""
    return _ASKS_FOR.get(question_word(question, language), "")


def offers(kind: str, text: str, known: frozenset[str]) -> float:
    """How far a sentence offers what is asked for, 0 to 1, beyond the question's words."""
    tokens = re.findall(r"\w+(?:[.,]\d+)*", text)
    folded = [fold(token) for token in tokens]
    new = [word for word in folded if word not in known]
    if kind == "number":
        return float(any(_NUMBER.fullmatch(w) or w in _NUMBER_WORDS for w in new))
    if kind == "time":
        return float(any(_YEAR.fullmatch(w) or w in _TIME_WORDS for w in new))
    if kind == "reason":
        return float(any(w in _REASON_WORDS for w in folded))
    if kind == "place":
        places = [
            before in _PLACE_WORDS and token[0].isupper() and word not in known
            for before, token, word in zip(folded, tokens[1:], folded[1:], strict=False)
        ]
        return float(any(places))
    if kind == "person":
        names = [
            token[0].isupper() and word not in known
            for token, word in zip(tokens[1:], folded[1:], strict=True)
        ]
        return float(sum(names)) / max(1, len(tokens))
    return 0.0


_POINTS_BACK_FIRST: Mapping[str, frozenset[str]] = {
    "de": frozenset(
        "er sie es ihm ihn ihnen ihr ihre ihrer seine seiner sein damit dadurch daher deshalb"
        " deswegen darum danach dabei dazu dafur dagegen davon daran darauf darin dort so dann"
        " letztere letzterer beide".split()
    ),
    "en": frozenset(
        "he she it they his her its their them therefore thus hence there then both so"
        " consequently".split()
    ),
}
_POINTS_BACK_EARLY: Mapping[str, re.Pattern[str]] = {
    "de": re.compile(r"dies(?:e[mnrs]?)?|solch(?:e[mnrs]?)?|jene[mnrs]?|daraufhin|dessen|deren"),
    "en": re.compile(r"this|these|those|such|thereupon"),
}


def points_back(sentence: str, language: str) -> bool:
    """Whether a sentence leans on the one before it ("Wegen dieser Äußerung ...")."""
    first = [fold(word) for word in re.findall(r"\w+", sentence)[:4]]
    early = _POINTS_BACK_EARLY.get(language)
    if not first or early is None:
        return False
    return first[0] in _POINTS_BACK_FIRST[language] or any(early.fullmatch(w) for w in first)

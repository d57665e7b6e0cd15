"""What goes wrong in index and rag, in German: by the English template of ``index.errors.Words``.

The command line is in English; the page is in the visitor's language.
"""

from __future__ import annotations

import string
from typing import Any

from index.errors import Words

GERMAN = {
    # Why a file cannot be read: what follows its name
    "{} {}": "{} {}",
    "is damaged, or no {} file": "ist beschädigt oder keine {}-Datei",
    "{}: its parser broke off": "{}: Das Lesen brach ab",
    "is empty": "ist leer",
    "has no text in it": "enthält keinen Text",
    "has no text, only pictures: run text recognition (OCR) on it first": (
        "enthält keinen Text, nur Bilder: Lassen Sie zuerst eine Texterkennung (OCR) laufen"
    ),
    "is larger than the {} MB that one document may have: split it": (
        "ist größer als die {} MB, die ein Dokument haben darf: Teilen Sie es auf"
    ),
    "is nested too deeply to be read whole": "ist zu tief verschachtelt, um ganz gelesen zu werden",
    "is encrypted: remove its password first": (
        "ist verschlüsselt: Entfernen Sie zuerst das Passwort"
    ),
    "is encrypted, or of an old Word: save it as DOCX without a password": (
        "ist verschlüsselt oder aus einem alten Word: Speichern Sie es als DOCX ohne Passwort"
    ),
    "is not a text, Markdown, HTML, PDF or DOCX file": (
        "ist keine Text-, Markdown-, HTML-, PDF- oder DOCX-Datei"
    ),
    "could not be read within {:g} seconds": "ließ sich nicht in {:g} Sekunden lesen",
    "needs more than {} MB of memory to be read": "braucht zum Lesen mehr als {} MB Speicher",
    "is a folder, not a file": "ist ein Ordner, keine Datei",
    "is not a regular file": "ist keine gewöhnliche Datei",
    "does not exist": "gibt es nicht",
    "may not be read: permission denied": "darf nicht gelesen werden: keine Berechtigung",
    "cannot be read: {}": "kann nicht gelesen werden: {}",
    "cannot be read: its parser cannot be started ({})": (
        "kann nicht gelesen werden: Das Leseprogramm startet nicht ({})"
    ),
    "{!r} holds half of a surrogate pair: not text": (
        "„{}“ enthält ein halbes Surrogatpaar: Das ist kein Text"
    ),
    "{!r} holds half of a surrogate pair": "„{}“ enthält ein halbes Surrogatpaar",
    "the text is empty": "der Text ist leer",
    # Questions
    "the question is empty: ask something": "die Frage ist leer: Fragen Sie etwas",
    "the question has {:,} characters; {:,} is the most": (
        "die Frage hat {:,} Zeichen, höchstens {:,} sind möglich"
    ),
    # The index
    "no document {!r} in this index": "kein Dokument „{}“ in diesem Index",
    "{} cannot be written: {}": "{} kann nicht geschrieben werden: {}",
    "{} cannot be read: {}": "{} kann nicht gelesen werden: {}",
    "{} is being changed: waited {:g} seconds": (
        "{} wird gerade geändert: {:g} Sekunden lang gewartet"
    ),
    "the index in {} is being changed by {}: waited {:g} seconds, try again when that is done": (
        "der Index in {} wird gerade geändert, durch {}: {:g} Sekunden lang gewartet, versuchen "
        "Sie es noch einmal, wenn das getan ist"
    ),
    "another process": "einen anderen Prozess",
    "another thread of this process": "einen anderen Thread dieses Prozesses",
    "process {} on {} since {}": "Prozess {} auf {} seit {}",
    "the index in {} cannot be changed: {}": "der Index in {} kann nicht geändert werden: {}",
    "the index in {} cannot be used: {}": "der Index in {} kann nicht benutzt werden: {}",
    "the index in {} changed while it was read: try again": (
        "der Index in {} wurde geändert, während er gelesen wurde: Versuchen Sie es noch einmal"
    ),
    "the index in {} was not changed: another writer took over, as this one said nothing for "
    "{:g} seconds": (
        "der Index in {} wurde nicht geändert: Ein anderer Schreiber hat übernommen, da dieser "
        "{:g} Sekunden lang kein Zeichen gab"
    ),
    "{!r} has more metadata, or pages, than Milvus takes in one row": (
        "„{}“ hat mehr Metadaten oder Seiten, als Milvus in eine Zeile nimmt"
    ),
    "the metadata of {!r} is not JSON: {}": "die Metadaten von „{}“ sind kein JSON: {}",
    "{} is in use by another process: try again": (
        "{} wird gerade von einem anderen Prozess benutzt: Versuchen Sie es noch einmal"
    ),
    "{} cannot be used, and was not changed: {}": (
        "{} kann nicht benutzt werden und wurde nicht geändert: {}"
    ),
    "{} is gone, of an index that was here: bring it back, or remove {} and make a new one": (
        "{} fehlt, von einem Index, der hier war: Bringen Sie sie zurück, oder entfernen Sie {} "
        "und legen Sie einen neuen an"
    ),
    "no index in {}: make one with  beleg add PATH --index {}": (
        "kein Index in {}: Legen Sie einen an mit  beleg add PATH --index {}"
    ),
    "the index in {} was made with {}, not {}; {}": (
        "der Index in {} ist mit einem anderen Encoder gemacht ({} statt {}); {}"
    ),
    "the index in {} is of version {}, this Beleg reads version {}: {}": (
        "der Index in {} hat die Version {}, dieses Beleg liest Version {}: {}"
    ),
    "beleg check --index {} --repair  brings it up to date": (
        "beleg check --index {} --repair  bringt ihn auf den Stand"
    ),
    "get a newer Beleg": "nehmen Sie ein neueres Beleg",
    "the index in {} is of version {}, this Beleg reads version {}: add its documents to a new "
    "one": (
        "der Index in {} hat die Version {}, dieses Beleg liest Version {}: Fügen Sie seine "
        "Dokumente zu einem neuen hinzu"
    ),
    # Damage
    "{} is damaged ({}): beleg check --index {} --repair  mends it": (
        "{} ist beschädigt ({}): beleg check --index {} --repair  bringt das in Ordnung"
    ),
    "the index in {} is damaged ({}): beleg check --index {}  says what of it, remove and add that "
    "again": (
        "der Index in {} ist beschädigt ({}): beleg check --index {}  sagt, was davon, entfernen "
        "Sie das und fügen Sie es neu hinzu"
    ),
    "the index in {} is damaged ({}): beleg check --index {} --repair  mends it": (
        "der Index in {} ist beschädigt ({}): beleg check --index {} --repair  bringt das in "
        "Ordnung"
    ),
    "what it holds cannot be read": "was darin steht, ist nicht lesbar",
    "it is not an index, or no more": "es ist kein Index, oder keiner mehr",
    "it has no manifest": "das Manifest fehlt",
    "its state is not what was written": "sein Zustand ist nicht, was geschrieben wurde",
    "its manifest is not what was written": "sein Manifest ist nicht, was geschrieben wurde",
    "{} is not what was written": "{} ist nicht, was geschrieben wurde",
    "of its {} a part is missing": "ein Teil davon fehlt: {}",
    "what it says of document {!r} is not what was written": (
        "was darin über das Dokument „{}“ steht, ist nicht, was geschrieben wurde"
    ),
    "document number {} is missing": "Dokument Nummer {} fehlt",
    "the text of {!r} is not what was written": (
        "der Text von „{}“ ist nicht, was geschrieben wurde"
    ),
    "it has passages of no document": "es gibt Stellen, die zu keinem Dokument gehören",
    "the passages of {!r} are not all there": "von „{}“ sind nicht alle Stellen da",
    "passages are missing": "Stellen fehlen",
    "passage {} is missing": "Stelle {} fehlt",
    "passage {} is not what was written": "Stelle {} ist nicht, was geschrieben wurde",
    "its vectors are not what was written": "seine Vektoren sind nicht, was geschrieben wurde",
    "it does not hold all that was written": "es ist nicht alles da, was geschrieben wurde",
    "{!r} is found by what it is not": "„{}“ wird durch etwas gefunden, was es nicht ist",
    "{} beside it is not its own": "{} daneben gehört nicht dazu",
    "the latest {} changes to it are missing: its log was lost": (
        "die letzten {} Änderungen fehlen: Das Protokoll ging verloren"
    ),
    # The encoder
    "the encoder {!r} gave {} for {} texts, not vectors of {} numbers: nothing was added": (
        "der Encoder „{}“ gab {} für {} Texte, keine Vektoren aus {} Zahlen: Nichts wurde "
        "hinzugefügt"
    ),
    "the encoder {!r} gave {} for the question, not a vector of {} numbers": (
        "der Encoder „{}“ gab {} für die Frage, keinen Vektor aus {} Zahlen"
    ),
    "a question's vector is {} finite numbers, not {}": (
        "der Vektor einer Frage besteht aus {} endlichen Zahlen, nicht aus: {}"
    ),
    "a question's vector is finite numbers, not {!r}": (
        "der Vektor einer Frage besteht aus endlichen Zahlen, nicht aus: {}"
    ),
    "a question's vector is finite numbers, and not all of them 0": (
        "der Vektor einer Frage besteht aus endlichen Zahlen, und nicht alle sind 0"
    ),
    "how many passages is a whole number, not {!r}": (
        "wie viele Passagen, ist eine ganze Zahl, nicht: {}"
    ),
    "a filter is what metadata must say, {{name: value}}, not {!r}": (
        "ein Filter ist, was die Metadaten sagen müssen, {{Name: Wert}}, nicht: {}"
    ),
    # Files of test questions: places in them
    "{}, line {}": "{}, Zeile {}",
    "{}, an article": "{}, ein Artikel",
    "{}, article {}": "{}, Artikel {}",
    "{}, paragraph {}#{}": "{}, Absatz {}#{}",
    "{}, question {}": "{}, Frage {}",
    "{}, an answer": "{}, eine Antwort",
    "an answer": "eine Antwort",
    "but at {}": "sondern an {}",
    "nor anywhere else": "und auch sonst nirgends",
    # ... and what is wrong there
    "{} does not exist": "{} gibt es nicht",
    "{} is empty: fill it or name another": "{} ist leer: Füllen Sie die Datei, oder nehmen Sie "
    "eine andere",
    "{}, line {} is not UTF-8: save it as UTF-8": (
        "{}, Zeile {} ist kein UTF-8: Speichern Sie die Datei als UTF-8"
    ),
    "{} is not JSON ({}): write one object a line, like {}": (
        "{} ist kein JSON ({}): Schreiben Sie ein Objekt je Zeile, wie {}"
    ),
    "{} is not JSON ({}): mend it there": "{} ist kein JSON ({}): Berichtigen Sie es dort",
    "{} is not JSON ({}): mend it": "{} ist kein JSON ({}): Berichtigen Sie es",
    "{} at column {}": "{} in Spalte {}",
    '{} is one JSON {}: write one object a line, like {}, or SQuAD JSON, like {{"data": [...]}}': (
        "{} ist {} in JSON: Schreiben Sie ein Objekt je Zeile, wie {}, oder SQuAD-JSON, wie "
        '{{"data": [...]}}'
    ),
    "list": "eine Liste",
    "object": "ein Objekt",
    "{} mixes formats: SQuAD JSON must be a file of its own, not a line": (
        "{} mischt Formate: SQuAD-JSON muss eine eigene Datei sein, keine Zeile"
    ),
    "{} mixes formats: nothing may follow SQuAD JSON in its file": (
        "{} mischt Formate: Auf SQuAD-JSON darf in seiner Datei nichts folgen"
    ),
    "{} is a line of a BEIR folder: name the folder instead": (
        "{} ist eine Zeile aus einem BEIR-Ordner: Den liest nur beleg eval"
    ),
    "{} is unanswerable but has a sentence that answers: drop one": (
        "{} ist nicht beantwortbar, hat aber einen Satz, der antwortet: Lassen Sie eines weg"
    ),
    "{} has no question in it: give a file that has": "{} enthält keine Frage",
    "{}: answer_start must be a whole number, not {}": (
        "{}: answer_start muss eine ganze Zahl sein, nicht {}"
    ),
    "{}: the answer {} does not stand at {} in its context, {}: correct text or answer_start": (
        "{}: Die Antwort {} steht in ihrem Kontext nicht an {}, {}: Berichtigen Sie text oder "
        "answer_start"
    ),
    "{} must be an object, not {}": "{} muss ein Objekt sein, nicht {}",
    "{}: unknown key {}: known are {}": "{}: unbekannter Schlüssel {}: bekannt sind {}",
    "{}: {} must be a list, not {}": "{}: {} muss eine Liste sein, nicht {}",
    "{}: {} must be true or false, not {}": "{}: {} muss true oder false sein, nicht {}",
    "{}: {} must be text, not {}": "{}: {} muss Text sein, nicht {}",
    "{}: {} is empty: fill it in": "{}: {} ist leer: Füllen Sie es aus",
    "{}: {} has half a surrogate pair in it: write the character": (
        "{}: {} enthält ein halbes Surrogatpaar: Schreiben Sie das Zeichen"
    ),
    "{} has no answers: give some, or mark it {}": (
        "{} hat keine Antworten: Geben Sie welche, oder schreiben Sie {}"
    ),
    "{} has answers but is marked {}: drop the one or the other": (
        "{} hat Antworten, obwohl dort {} steht: Lassen Sie das eine oder andere weg"
    ),
    "{}: the id {} was given before, in {}: change it": (
        "{}: Die id {} gab es schon, in {}: Ändern Sie sie"
    ),
    "missing or null": "fehlend oder null",
    "true or false": "true oder false",
    "text": "Text",
    "an object": "ein Objekt",
    "a list": "eine Liste",
    "a number": "eine Zahl",
}
"""The gaps are the template's, in the same order."""


class _Format(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        said: str = super().format_field(value, format_spec)
        return said.replace(",", ".") if format_spec == "," else said


def german(what: object) -> str:
    """Words in German, as far as they are known; all else as it is."""
    if not isinstance(what, Words):
        return str(what)
    template = GERMAN.get(what.template)
    if template is None:
        return str(what)
    if not what.values:
        return template
    values = [german(value) if isinstance(value, Words) else value for value in what.values]
    return _Format().vformat(template, values, {})

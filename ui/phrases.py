"""What the interface says, in English and German."""

from __future__ import annotations

LANGUAGES = {"en": "English", "de": "Deutsch"}
"""The languages of the interface, each by its own name."""

_PHRASES: dict[str, tuple[str, str]] = {
    # Where an answer stands
    "page": ("page", "Seite"),
    "pages": ("pages", "Seiten"),
    "characters": ("characters", "Zeichen"),
    "citation": ("Citation", "Beleg"),
    "translation": ("machine translation", "maschinelle Übersetzung"),
    # An answer
    "waiting": ("Searching your documents …", "Ihre Dokumente werden durchsucht …"),
    "translating": ("Translating the quotes …", "Die Zitate werden übersetzt …"),
    "supported": ("supported by its citations", "durch die Zitate belegt"),
    "weak": ("weakly supported", "schwach belegt"),
    "unsupported": ("not supported by what it cites", "durch die Zitate nicht belegt"),
    "flag": ("“{}”: {}", "„{}“: {}"),
    "invented": (
        "a quotation that stands in no cited passage",
        "ein Zitat, das in keiner belegten Stelle steht",
    ),
    "another document": (
        "quoted from another document than those cited",
        "ein Zitat aus einem anderen als den belegten Dokumenten",
    ),
    "another passage": (
        "quoted from another passage than those cited",
        "ein Zitat aus einer anderen als den belegten Stellen",
    ),
    "stitched together": ("a quotation stitched together", "ein zusammengestückeltes Zitat"),
    "unquoted number": (
        "a number that is not in the quote, but elsewhere in the passage",
        "eine Zahl, die nicht im Zitat, aber anderswo in der Stelle steht",
    ),
    "denied": ("a denial that is not in the quote", "eine Verneinung, die nicht im Zitat steht"),
    "affirmed": ("what the quote denies", "was das Zitat verneint"),
    "opposite": ("the opposite of a word in the quote", "das Gegenteil eines Wortes im Zitat"),
    "swapped": (
        "names that have changed places in the quote",
        "Namen, die im Zitat umgekehrt stehen",
    ),
    "against": (
        "Sources disagree on [{}]. {} says:",
        "Die Quellen widersprechen sich zu [{}]. In {} steht:",
    ),
    "number": (
        "a number that stands in no cited passage",
        "eine Zahl, die in keiner belegten Stelle steht",
    ),
    "name": (
        "a name that stands in no cited passage",
        "ein Name, der in keiner belegten Stelle steht",
    ),
    "understood": ("Understood as: {}", "Verstanden als: {}"),
    "sure": ("Very likely answers the question", "Beantwortet die Frage sehr wahrscheinlich"),
    "likely": ("Probably answers the question", "Beantwortet die Frage wahrscheinlich"),
    "doubtful": (
        "Doubtful: this may not answer the question ({} sure).",
        "Unsicher: Das beantwortet die Frage vielleicht nicht ({} sicher).",
    ),
    "chance": ("{} sure", "{} sicher"),
    "keywords": (
        "Found by keywords; how sure that is, is not known",
        "Über Schlüsselwörter gefunden; wie sicher das ist, ist nicht bekannt",
    ),
    "refused": ("No answer found", "Keine Antwort gefunden"),
    "nearest": ("The nearest passages", "Was dem am nächsten kommt"),
    "failed": (
        "Something went wrong inside Beleg ({}). Please try again.",
        "In Beleg ist etwas schiefgegangen ({}). Bitte versuchen Sie es noch einmal.",
    ),
    "copy": ("Copy with citations", "Mit Belegen kopieren"),
    "copy near": ("Copy with passages", "Mit Stellen kopieren"),
    "copied": ("Copied", "Kopiert"),
    "answer": ("Answer", "Antwort"),
    "right": ("Right", "Richtig"),
    "wrong": ("Wrong", "Falsch"),
    "rate": ("Is that right?", "Stimmt das?"),
    "rated": (
        "Kept as a test question; another click takes it back.",
        "Als Testfrage festgehalten; ein weiterer Klick nimmt es zurück.",
    ),
    "mend": (
        "What would be right? Words as they stand in a document:",
        "Was wäre richtig? Worte, wie sie in einem Dokument stehen:",
    ),
    "save": ("Keep", "Festhalten"),
    "not said": ("The documents do not say it", "Die Dokumente sagen es nicht"),
    "full": ("{} is full", "{} ist voll"),
    "not in documents": (
        "These words stand in none of the documents.",
        "Diese Worte stehen in keinem der Dokumente.",
    ),
    # Why this passage?
    "why": ("Why this passage?", "Warum diese Stelle?"),
    "searched": ("Searched for", "Gesucht wurde"),
    "ranked": ("Passages, best first", "Stellen, die beste zuerst"),
    "passage": ("passage", "Stelle"),
    "score": ("score", "Wert"),
    "dense": ("by meaning", "nach Bedeutung"),
    "sentence": ("by sentence", "nach Satz"),
    "lexical": ("by words", "nach Wörtern"),
    "chosen": ("Sentences, by their chance to answer", "Sätze, nach der Chance zu antworten"),
    "sentence place": ("sentence", "Satz"),
    "chance short": ("chance", "Chance"),
    "reasons": ("what counted", "was zählte"),
    "enough": ("Enough to answer", "Genug, um zu antworten"),
    "not enough": ("Not enough to answer", "Nicht genug, um zu antworten"),
    "language model": ("Language model", "Sprachmodell"),
    "seconds": ("Seconds", "Sekunden"),
    # What speaks for a sentence: rag.features.FEATURES
    "because found": ("found by the search", "in der Suche gefunden"),
    "because passage": ("meaning of the passage", "Bedeutung der Stelle"),
    "because passage_keywords": ("words in the passage", "Wörter in der Stelle"),
    "because sentence": ("meaning of the sentence", "Bedeutung des Satzes"),
    "because mean": ("meaning in context", "Bedeutung im Zusammenhang"),
    "because late": ("meaning word by word", "Bedeutung Wort für Wort"),
    "because rare": ("rare words", "seltene Wörter"),
    "because weakest": ("no word is missing", "kein Wort fehlt"),
    "because after_previous": ("with the sentence before", "mit dem Satz davor"),
    "because before_next": ("with the sentence after", "mit dem Satz danach"),
    "because keywords": ("words in the sentence", "Wörter im Satz"),
    "because number": ("gives a number", "nennt eine Zahl"),
    "because time": ("gives a time", "nennt eine Zeit"),
    "because person": ("names someone", "nennt jemanden"),
    "because place": ("names a place", "nennt einen Ort"),
    "because reason": ("gives a reason", "nennt einen Grund"),
    "because length": ("length", "Länge"),
    "because reading": ("reads like an answer", "liest sich als Antwort"),
    # What a language model was asked: rag.llm
    "asked model": ("name", "Name"),
    "asked prompt_tokens_at_most": ("tokens of the prompt at most", "höchstens so viele Tokens"),
    "asked passages": ("passages", "Stellen"),
    "asked passages_dropped": ("passages without room", "Stellen ohne Platz"),
    "asked form": ("form of the answer", "Form der Antwort"),
    "asked requests": ("requests", "Anfragen"),
    "asked failure": ("failure", "Fehler"),
    "asked refused": ("refused to answer", "Antwort verweigert"),
    "asked removed_markers": ("citations removed", "entfernte Belege"),
    "asked removed_links": ("links removed", "entfernte Verweise"),
    "asked rewrite": ("understanding the follow-up", "Verstehen der Anschlussfrage"),
    "held True": ("yes", "ja"),
    "held False": ("no", "nein"),
    "held failed": ("failed", "gescheitert"),
    # What takes time: Answer.seconds
    "took search": ("search", "Suche"),
    "took answer": ("choice of sentences", "Auswahl der Sätze"),
    "took rewrite": ("understanding the follow-up", "Verstehen der Anschlussfrage"),
    "took llm": ("language model", "Sprachmodell"),
    "took check": ("check of the answer", "Prüfung der Antwort"),
    # The conversation
    "conversation": ("Questions and answers", "Fragen und Antworten"),
    "empty": (
        "Ask a question about the documents. Every sentence of an answer leads to where it "
        "stands in its source.",
        "Stellen Sie eine Frage zu den Dokumenten. Jeder Satz einer Antwort führt dorthin, wo "
        "er in seiner Quelle steht.",
    ),
    "empty model": (
        "Ask a question about the documents. Every citation of an answer leads to the quote that "
        "it rests on.",
        "Stellen Sie eine Frage zu den Dokumenten. Jeder Beleg einer Antwort führt zu dem Zitat, "
        "auf dem sie beruht.",
    ),
    "drop": (
        "To ask about your own, drop files anywhere on this page, or choose them with “+ File”.",
        "Für eigene Dokumente ziehen Sie Dateien irgendwo auf diese Seite oder wählen sie mit "
        "„+ Datei“.",
    ),
    "drop here too": (
        "Drop files anywhere on this page, or choose them below.",
        "Ziehen Sie Dateien irgendwo auf diese Seite oder wählen Sie sie unten.",
    ),
    "drop here": ("Drop to add to the documents", "Loslassen, um hinzuzufügen"),
    "drop here for all": (
        "Drop to add to the index, for all who use it",
        "Loslassen, um in den Index aufzunehmen, für alle, die ihn benutzen",
    ),
    "examples": ("For example", "Zum Beispiel"),
    # The source pane
    "source": ("Source", "Quelle"),
    "of": ("{} of {}", "{} von {}"),
    "place of": ("place {} of {}", "Stelle {} von {}"),
    "marked": ("Marked places", "Markierte Stellen"),
    "previous": ("Previous marked place", "Vorige markierte Stelle"),
    "next": ("Next marked place", "Nächste markierte Stelle"),
    "right answer": ("Right answer", "Richtige Antwort"),
    "close": ("Close the source", "Quelle schließen"),
    "cited from": ("Cited from", "Zitiert aus"),
    "other source": ("Other source", "Andere Quelle"),
    "near": ("Near passage", "Nahe Stelle"),
    "part": ("Part {} of {}", "Teil {} von {}"),
    "earlier": ("Earlier part", "Voriger Teil"),
    "later": ("Later part", "Nächster Teil"),
    "no documents": ("There are no documents.", "Es sind keine Dokumente da."),
    # Documents
    "wrong kind": (
        "{} is no file that can be read here; possible are {}.",
        "{} ist keine Datei, die hier gelesen werden kann; möglich sind {}.",
    ),
    "too large file": ("{} is larger than {} MB.", "{} ist größer als {} MB."),
    "dismiss": ("Close", "Schließen"),
    "reading": ("Reading", "Wird gelesen:"),
    "added": ("Added", "Hinzugefügt:"),
    "removed": ("Removed", "Entfernt:"),
    "gone": ("It had been removed already.", "Es war schon entfernt."),
    "this visit": ("only for this visit", "nur für diesen Besuch"),
    "for all": ("for all visitors", "für alle Besucher"),
    "kept here": (
        "What you add or remove is only for this visit: nobody else sees it. You lose it when you "
        "close the page, and an hour later Beleg has forgotten it.",
        "Was Sie hinzufügen oder entfernen, gilt nur für diesen Besuch: Niemand sonst sieht es. "
        "Sie verlieren es, wenn Sie die Seite schließen, und eine Stunde danach hat Beleg es "
        "vergessen.",
    ),
    "kept for all": (
        "What you add or remove is added to or removed from the index on disk, for all who use it.",
        "Was Sie hinzufügen oder entfernen, wird im Index auf der Platte geändert, für alle, die "
        "ihn benutzen.",
    ),
    "fixed": (
        "The documents here are an index that may be asked, but not changed from this page.",
        "Die Dokumente hier sind ein Index, der befragt, aber von dieser Seite nicht geändert "
        "werden kann.",
    ),
    "more documents": ("and {} more", "und {} weitere"),
    "read": ("Read", "Lesen"),
    "remove": ("Remove", "Entfernen"),
    "really": ("Really remove?", "Wirklich entfernen?"),
    "stop": ("Cancel", "Abbrechen"),
    "leave out": ("Leave out {}", "{} weglassen"),
    "stop trial": ("Stop, and report what is done", "Beenden und berichten, was bis dahin ist"),
    "stopping": ("Cancelling …", "Wird abgebrochen …"),
    "stopped": (
        "Cancelled: what was not read yet is not added.",
        "Abgebrochen: Was noch nicht gelesen war, ist nicht hinzugefügt.",
    ),
    "no room": (
        "no room: a visit may add {} documents and {} million characters",
        "kein Platz: Ein Besuch darf {} Dokumente und {} Millionen Zeichen hinzufügen",
    ),
    "paste": ("Or paste text here", "Oder fügen Sie hier Text ein"),
    "paste title": ("A title for it (optional)", "Ein Titel dafür (freiwillig)"),
    "paste add": ("Add this text", "Diesen Text hinzufügen"),
    # What is refused at the door
    "busy": (
        "So many requests are waiting that no more are taken just now. Please try again in a "
        "minute.",
        "Es warten so viele Anfragen, dass gerade keine mehr angenommen wird. Bitte versuchen Sie "
        "es in einer Minute noch einmal.",
    ),
    "file too large": (
        "A file may have {} MB at most.",
        "Eine Datei darf höchstens {} MB haben.",
    ),
    "too much at once": (
        "That is more than the {} MB that may be sent at once.",
        "Das ist mehr als die {} MB, die auf einmal gesendet werden dürfen.",
    ),
    "no upload room": (
        "There is no room for more uploads just now. Try again in ten minutes.",
        "Für weitere Dateien ist gerade kein Platz. Versuchen Sie es in zehn Minuten noch einmal.",
    ),
    "no session": (
        "The name of the session (session_hash) is empty: give one, or leave it out.",
        "Der Name der Sitzung (session_hash) ist leer: Geben Sie einen an oder lassen Sie ihn weg.",
    ),
    "foreign page": (
        "Requests from other pages are refused.",
        "Anfragen von anderen Seiten werden abgelehnt.",
    ),
    "login": (
        "Name and password are known to whoever runs this page.",
        "Name und Passwort kennt, wer diese Seite betreibt.",
    ),
    # Evaluate
    "evaluate": ("Evaluate", "Prüfen"),
    "evaluate how": (
        "How good are the answers about your documents? Upload test questions: SQuAD JSON, whose "
        "texts are then the documents, or JSON Lines, one question a line, as here. The file of "
        "verdicts is one, too.",
        "Wie gut sind die Antworten über Ihre Dokumente? Laden Sie Testfragen hoch: SQuAD-JSON, "
        "dessen Texte dann die Dokumente sind, oder JSON Lines, je Zeile eine Frage, wie hier. Die "
        "Datei der Urteile ist auch eine.",
    ),
    "evaluate sample": (
        '{"id": "1", "question": "When was the bridge built?", "answers": ["1923"]}\n'
        '{"id": "2", "question": "Who designed it?", "answerable": false}',
        '{"id": "1", "question": "Wann wurde die Brücke gebaut?", "answers": ["1923"]}\n'
        '{"id": "2", "question": "Wer hat sie entworfen?", "answerable": false}',
    ),
    "evaluate file": ("Choose a file of questions", "Datei mit Fragen wählen"),
    "asked so far": ("Asked so far", "Bisher gefragt"),
    "too many questions": (
        "more than {} questions: beleg eval asks any number",
        "mehr als {} Fragen: beleg eval stellt beliebig viele",
    ),
    "open": ("Open in the source", "In der Quelle öffnen"),
    "back": ("Back to the evaluation", "Zurück zur Prüfung"),
    "answered": ("answered", "geantwortet"),
    "would be right": ("right would be", "richtig wäre"),
    "lost of": ("{} of {} questions were lost.", "{} von {} Fragen gingen verloren."),
    "lost questions": (
        "Lost questions, the worst first",
        "Verlorene Fragen, die schlimmste zuerst",
    ),
    "interrupted": (
        "Cancelled: of the questions so far.",
        "Abgebrochen: von den Fragen bis dahin.",
    ),
    "report": ("Report of the evaluation", "Bericht der Auswertung"),
    # Settings
    "settings": ("Settings", "Einstellungen"),
    "language": ("Language", "Sprache"),
    "strict": (
        "Strict: leave out sentences that their citations do not support",
        "Streng: Sätze weglassen, die ihre Zitate nicht belegen",
    ),
    "follow-ups": (
        "Understand follow-up questions from the one before",
        "Anschlussfragen aus der Frage davor verstehen",
    ),
    "model on": ("The language model answers", "Das Sprachmodell antwortet"),
    "translate": (
        "Have it translate quotes in another language",
        "Es Zitate aus der anderen Sprache übersetzen lassen",
    ),
    "nearest set": (
        "Nearest passages to show where nothing answers (1 to 10)",
        "Nächste Stellen, die gezeigt werden, wo nichts antwortet (1 bis 10)",
    ),
    "running": ("What is running where", "Was wo läuft"),
    "encoder": ("Encoder, which finds passages", "Encoder, der Stellen findet"),
    "bundled": ("the one that comes with Beleg", "der mitgelieferte"),
    "this computer": ("on this computer", "auf diesem Computer"),
    "no model": ("none: answers are quotes", "keines: Antworten sind Zitate"),
    "model off": ("off: answers are quotes", "aus: Antworten sind Zitate"),
    "model ready": ("on, not asked yet", "an, noch nicht gefragt"),
    "model works": ("on, answered the last question", "an, hat die letzte Frage beantwortet"),
    "model failed": (
        "on, but the last answer came without it",
        "an, aber die letzte Antwort kam ohne es",
    ),
    "kept": ("Documents", "Dokumente"),
    "in memory": (
        "in memory, until an hour after you close the page",
        "im Speicher, bis eine Stunde, nachdem Sie die Seite schließen",
    ),
    "in an index": (
        "in an index on the computer that runs Beleg",
        "in einem Index auf dem Computer, auf dem Beleg läuft",
    ),
    "feedback": ("Verdicts on answers", "Urteile über Antworten"),
    "in a file": (
        "in a file on the computer that runs Beleg",
        "in einer Datei auf dem Computer, auf dem Beleg läuft",
    ),
    "no feedback": ("not kept", "werden nicht festgehalten"),
    # The page
    "tagline": (
        "Ask your documents. Every sentence of the answer is cited word for word.",
        "Fragen Sie Ihre Dokumente. Jeder Satz der Antwort ist wörtlich belegt.",
    ),
    "tagline model": (
        "Ask your documents. Every sentence of the answer is checked against what it cites.",
        "Fragen Sie Ihre Dokumente. Jeder Satz der Antwort wird an seinen Belegen geprüft.",
    ),
    "local": (
        "Answers are quotes from your documents; nothing leaves this computer.",
        "Antworten sind Zitate aus Ihren Dokumenten; nichts verlässt diesen Computer.",
    ),
    "model": (
        "A language model writes the answers. Your question and the passages found for it are "
        "sent to {}.",
        "Ein Sprachmodell schreibt die Antworten. Ihre Frage und die gefundenen Stellen gehen "
        "an {}.",
    ),
    "ask page": ("Ask", "Fragen"),
    "ask": ("Ask", "Fragen"),
    "question": ("Your question", "Ihre Frage"),
    "placeholder": ("Your question …", "Ihre Frage …"),
    "documents": ("Documents", "Dokumente"),
    "upload": ("Add documents", "Dokumente hinzufügen"),
    "add file": ("+ File", "+ Datei"),
    "limits": (
        "They may be txt, md, html, pdf or docx, up to 50 MB each.",
        "Möglich sind txt, md, html, pdf und docx, je bis 50 MB.",
    ),
    "no room for all": (
        "no room just now: all visitors together have added as much as fits. Try again in an hour",
        "gerade kein Platz: Alle Besucher zusammen haben so viel hinzugefügt, wie hineingeht. "
        "Versuchen Sie es in einer Stunde noch einmal",
    ),
    "unreadable upload": (
        "What was sent cannot be read, or the name of the file is not allowed.",
        "Was gesendet wurde, ist nicht zu lesen, oder der Name der Datei ist nicht erlaubt.",
    ),
    "broken upload": (
        "No file has come whole. Please send it again.",
        "Es ist keine Datei ganz angekommen. Bitte senden Sie sie noch einmal.",
    ),
    # What runs where
    "not local": (
        "Answers are quotes from the documents. What you add and ask goes to the computer that "
        "runs Beleg, and no further.",
        "Antworten sind Zitate aus den Dokumenten. Was Sie hinzufügen und fragen, geht an den "
        "Computer, auf dem Beleg läuft, und nicht weiter.",
    ),
    "to that computer": (
        "What you add and ask goes to the computer that runs Beleg.",
        "Was Sie hinzufügen und fragen, geht an den Computer, auf dem Beleg läuft.",
    ),
    "that computer": ("on the computer that runs Beleg", "auf dem Computer, auf dem Beleg läuft"),
    "at": ("at {}", "bei {}"),
    "at its provider": (
        "at its provider's, as far as Beleg can tell",
        "beim Anbieter, soweit Beleg das weiß",
    ),
    # What waits for what
    "first reading": ("First, {} is read …", "Zuerst wird {} gelesen …"),
    "to be read": ("Waiting to be read: {} …", "Wartet darauf, gelesen zu werden: {} …"),
    "to be asked": (
        "The questions are waiting to be asked …",
        "Die Fragen warten darauf, gestellt zu werden …",
    ),
    "sending": ("Your file is on its way …", "Ihre Datei ist unterwegs …"),
    "sending first": (
        "Your file is on its way; your question waits for it …",
        "Ihre Datei ist unterwegs; Ihre Frage wartet auf sie …",
    ),
}


def phrase(key: str, language: str) -> str:
    """A phrase of the interface, in German for ``de`` and in English for all others."""
    return _PHRASES[key][language == "de"]


def everything(language: str) -> dict[str, str]:
    """All phrases of a language that stand as they are, by their keys."""
    found = {key: pair[language == "de"] for key, pair in _PHRASES.items()}
    return {key: text for key, text in found.items() if "{" not in text}


def preferred(accept: str) -> str:
    """``de`` if an Accept-Language header asks for German first, else ``en``."""
    return "de" if accept.strip().lower().startswith("de") else "en"


def known(kind: str, name: str, language: str) -> str:
    """The phrase for a name of a kind ("because", "took"); the name if there is none."""
    key = f"{kind} {name}"
    return phrase(key, language) if key in _PHRASES else name


def decimal(number: float, form: str, language: str) -> str:
    """A number in the format ``form``, its decimals parted off as the language does."""
    written = format(number, form)
    return written.replace(".", ",") if language == "de" else written


def percent(share: float, language: str) -> str:
    """A share in per cent, as the language writes it."""
    return f"{share:.0%}".replace("%", " %") if language == "de" else f"{share:.0%}"


def count(number: int, language: str) -> str:
    """A whole number, its thousands parted as the language does."""
    return f"{number:,}".replace(",", "." if language == "de" else ",")

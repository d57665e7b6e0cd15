"""What terminal and page say of an evaluation, in English or German: sentences by their English
template, numbers as the language writes them."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rag.calibrate import GIVEN, WITHOUT_ARTICLE, WITHOUT_DOCUMENT, Fit
from rag.metrics import FEWEST_GROUPS, Interval
from rag.report import INTERVALS, JUDGED, LESS_IS_BETTER, METRICS, NOWHERE, Comparison

BY_KEYWORDS = (
    "Answered by keywords alone, over documents in a language unknown to the encoder, and not"
    " counted in measures of confidence"
)
PAIRED = (
    "p: paired randomisation test, two-sided, each measure by itself; among many, a small p will"
    " come by chance. The interval is that of the difference, by paired bootstrap. Where questions"
    " are drawn by title, they are flipped by title too."
)

_MEASURES = {
    "recall@1": "die richtige Stelle ist die erste der Rangfolge",
    "recall@5": "die richtige Stelle ist unter den ersten 5",
    "recall@10": "die richtige Stelle ist unter den ersten 10",
    "recall@20": "die richtige Stelle ist unter den ersten 20",
    "mrr": "Kehrwert des Rangs der richtigen Stelle",
    "ndcg@10": "nach Rang abgewerteter Gewinn der ersten 10 Stellen",
    "answer_hit@1": "der erste Beleg enthält eine richtige Antwort",
    "answer_hit@3": "einer der ersten 3 Belege enthält eine richtige Antwort",
    "answer_f1": "Wörter, die auch in der richtigen Antwort stehen (F1 von SQuAD)",
    "citation_precision": (
        "Belege, die eine richtige Antwort enthalten oder sich mit ihrer Stelle überschneiden"
    ),
    "citation_recall": "Fragen, deren richtige Stelle als Beleg angegeben ist",
    "citations_exact": "Belege, die genau so an ihrer Stelle im Text stehen",
    "abstention_auroc": "die Sicherheit ist bei beantwortbaren Fragen höher als bei anderen",
    "answered_rate": "Fragen, die beantwortet werden",
    "false_abstention": "beantwortbare Fragen, die nicht beantwortet werden",
    "unanswerable_abstention": "nicht beantwortbare Fragen, die nicht beantwortet werden",
    "calibration_error": "Abstand der Sicherheit vom Anteil richtiger Antworten (ECE)",
    "calibration_error_by_chance": ("dasselbe bei so vielen Fragen, wäre die Sicherheit perfekt"),
    "seconds_per_question": "Sekunden für eine Frage, Median",
    "seconds_p95": "Sekunden für eine Frage, 95. Perzentil",
}
_JUDGED = {
    "faithful": "Antworten, die ganz durch ihre Zitate belegt sind",
    "answers": "Antworten, die sagen, wonach gefragt ist",
}

GERMAN: Mapping[str, str] = {
    **{METRICS[name]: said for name, said in _MEASURES.items()},
    **{JUDGED[name]: said for name, said in _JUDGED.items()},
    # Head and headline figures
    "Beleg: evaluation of {} questions": "Beleg: Auswertung von {} Fragen",
    "How good are the answers?": "Wie gut sind die Antworten?",
    "questions {}": "Fragen {}",
    "documents {}": "Dokumente {}",
    "passages {}": "Stellen {}",
    "encoder {}": "Encoder {}",
    "date {}": "Datum {}",
    "threshold {}": "Schwelle {}",
    "beleg {}": "Beleg {}",
    "Interrupted: this is what was done so far.": "Abgebrochen: Das ist der Stand bis dahin.",
    "Raised an error: {}": "Fragen mit Fehler: {}",
    BY_KEYWORDS: (
        "Nur über Schlüsselwörter beantwortet, weil der Encoder die Sprache der Dokumente nicht "
        "kennt, und in den Maßen der Sicherheit nicht gezählt"
    ),
    "In brackets: confidence intervals. {}": "In Klammern: Konfidenzintervalle. {}",
    INTERVALS: (
        f"Ihr Niveau ist 95 %. Ab {FEWEST_GROUPS} Titeln, von denen manche mehrere Fragen "
        "haben, werden die Fragen eines Titels gemeinsam gezogen (Bootstrap nach Titeln); sonst "
        "haben Ja-Nein-Anteile und Werte, die für alle gleich sind, das Wilson-Intervall, alle "
        "anderen einen Bootstrap nach Fragen."
    ),
    "Less is better.": "Weniger ist besser.",
    "By chance alone: {} {}.": "Allein durch Zufall: {} {}.",
    # What became of the questions
    "What became of the questions": "Was aus den Fragen wurde",
    "not lost": "nicht verloren",
    "error": "Fehler",
    "answered though unanswerable": "beantwortet, obwohl nicht beantwortbar",
    "not retrieved": "nicht gefunden",
    "retrieved, not chosen": "gefunden, nicht gewählt",
    "chosen, not answered": "gewählt, nicht beantwortet",
    "wrongly abstained": "zu Unrecht nicht beantwortet",
    "Not lost: the first citation holds a gold answer, or an unanswerable question was not "
    "answered. Otherwise, the first stage that lost it.": (
        "Nicht verloren: Der erste Beleg enthält eine richtige Antwort, oder eine nicht "
        "beantwortbare Frage wurde nicht beantwortet. Sonst: der erste Schritt, an dem sie "
        "verloren ging."
    ),
    "outcome": "Ergebnis",
    "questions": "Fragen",
    "share": "Anteil",
    # Plots
    "Plots": "Diagramme",
    "Numbers": "Zahlen",
    "{} The numbers are in the table that follows.": (
        "{} Die Zahlen stehen in der Tabelle darunter."
    ),
    "k passages": "k Stellen",
    "Recall at k": "Recall bei k",
    "How often the gold passage is among the first k; passages of one unit count once.": (
        "Wie oft die richtige Stelle unter den ersten k ist; Stellen einer Einheit zählen einmal."
    ),
    "recall": "Recall",
    "interval": "Intervall",
    "questions answered": "beantwortete Fragen",
    "Each point is a threshold of confidence.": (
        "Jeder Punkt steht für eine Schwelle der Sicherheit."
    ),
    "The one in use, {:g}, answers {:.1%}, of which {:.1%} are right.": (
        "Die eingestellte ({:g}) beantwortet {:.1%}, davon {:.1%} richtig."
    ),
    "What the threshold does": "Was die Schwelle bewirkt",
    "Up: the share of answers that are right.": "Nach oben: der Anteil richtiger Antworten.",
    "threshold": "Schwelle",
    "answered": "beantwortet",
    "right": "richtig",
    "confidence": "Sicherheit",
    "{} questions: confidence {:.2f}, right {:.0%}": "{} Fragen: Sicherheit {:.2f}; richtig {:.0%}",
    "Is the confidence honest?": "Ist die Sicherheit ehrlich?",
    "Up: the share that is right. On the line confidence says how often that is; the larger the "
    "dot, the more questions.": (
        "Nach oben: der Anteil richtiger Antworten. Auf der Linie ist er so groß wie die "
        "Sicherheit; je größer der Punkt, desto mehr Fragen."
    ),
    "mean": "Mittelwert",
    "{:.3g} s or more": "{:.3g} s oder mehr",
    "{} questions: {:.3g} to {}": "{} Fragen: {:.3g} bis {}",
    "median {:.3g} s": "Median {:.3g} s",
    "Seconds for a question": "Sekunden für eine Frage",
    "How many questions took how long; {} s at most.": (
        "Wie viele Fragen wie lange brauchten; höchstens {} s."
    ),
    "The last bar also holds {} of over {:.3g} s.": (
        "Der letzte Balken enthält auch {} mit über {:.3g} s."
    ),
    "seconds": "Sekunden",
    # Measures and groups
    "Breakdown": "Aufschlüsselung",
    "Of false_abstention less is better, of the others more.": (
        "Bei false_abstention ist weniger besser, bei den anderen mehr."
    ),
    "direction": "Richtung",
    "question word": "Fragewort",
    "document": "Dokument",
    "language": "Sprache",
    "By {}": "Nach {}",
    "By {}, the others": "Nach {}, die übrigen",
    "the worst {} of {}": "die {} schlechtesten von {}",
    "{} others": "{} weitere",
    NOWHERE: "(keines)",
    "who": "wer",
    "when": "wann",
    "where": "wo",
    "why": "warum",
    "how many": "wie viele",
    "what": "was",
    "other": "anderes",
    "All measures": "Alle Maße",
    "measure": "Maß",
    "value": "Wert",
    "what it says": "Bedeutung",
    "does not apply": "entfällt",
    "{} (less is better)": "{} (weniger ist besser)",
    "Settings": "Einstellungen",
    "setting": "Einstellung",
    # A language model's opinion
    "Judged by a language model": "Von einem Sprachmodell beurteilt",
    "The opinion of {} on {} answers, not a measurement; no verdict came on {}.": (
        "Die Meinung von {} zu {} Antworten, keine Messung; ohne Urteil: {}."
    ),
    "The opinion of {} on {} answers, not a measurement; no verdict came on {}, most often for "
    "{}.": (
        "Die Meinung von {} zu {} Antworten, keine Messung; ohne Urteil: {}, am häufigsten "
        "wegen {}."
    ),
    "judged": "beurteilt",
    "{} doubted": "{} bezweifelt",
    "no verdict: {}": "kein Urteil: {}",
    "faithful, answers": "belegt, antwortet",
    "faithful, does not answer": "belegt, antwortet nicht",
    "not faithful, answers": "nicht belegt, antwortet",
    "not faithful, does not answer": "nicht belegt, antwortet nicht",
    # Questions lost
    "Questions lost": "Verlorene Fragen",
    "None.": "Keine.",
    "all {}": "alle {}",
    "The worst {} of {}; the JSON report has them all.": (
        "Die {} schlimmsten von {}; im JSON-Bericht stehen alle."
    ),
    "The worst first: errors, then wrong answers from the surest on.": (
        "Die schlimmsten zuerst: Fehler, dann falsche Antworten, beginnend mit der sichersten."
    ),
    "Lost by": "Woran sie verloren gingen",
    "beyond the passages searched": "nicht unter den durchsuchten Stellen",
    "question": "Frage",
    "gold": "richtig wäre",
    "the documents do not say": "die Dokumente sagen es nicht",
    "answer": "Antwort",
    "cited": "Belege",
    "withheld": "zurückgehalten",
    "rank of gold": "Rang der richtigen Stelle",
    "language model’s opinion": "Meinung des Sprachmodells",
    "{}, characters {}–{}": "{}, Zeichen {}–{}",
    "not what stands there": "steht dort nicht so",
    # Compared with another run
    "Compared with the earlier run": "Vergleich mit dem früheren Lauf",
    "The earlier run: {}.": "Der frühere Lauf: {}.",
    "of which nothing is known": "über ihn ist nichts bekannt",
    "It was interrupted.": "Er wurde abgebrochen.",
    "It asks {} of the questions otherwise: in other words, with other answers, or taking them to"
    " be (un)answerable.": (
        "Er stellt {} der Fragen anders: in anderem Wortlaut, mit anderen Antworten oder als "
        "(nicht) beantwortbar."
    ),
    "before": "vorher",
    "now": "jetzt",
    "difference": "Unterschied",
    "Questions in both runs: {}.": "Fragen in beiden Läufen: {}.",
    PAIRED: (
        "p: gepaarter Randomisierungstest, zweiseitig, jedes Maß für sich; unter vielen kommt ein "
        "kleines p zufällig vor. Das Intervall ist das des Unterschieds, aus gepaartem "
        "Bootstrap. Wo Fragen nach Titeln gezogen werden, werden sie auch nach Titeln vertauscht."
    ),
    "Questions won: {}, lost: {}.": "Gewonnene Fragen: {}, verlorene: {}.",
    "{} won": "{} gewonnen",
    "{} lost": "{} verloren",
    # A calibration
    "Calibration": "Kalibrierung",
    "It is kept.": "Sie wird behalten.",
    "It makes nothing better, and is not kept.": ("Sie verbessert nichts und wird verworfen."),
    "Left out, answered by keywords: {}.": (
        "Ausgelassen, weil über Schlüsselwörter beantwortet: {}."
    ),
    "All other figures on this page are from before this calibration. After: of questions that it "
    "was not fitted on, by folds. {}": (
        "Alle anderen Zahlen dieser Seite sind ohne diese Kalibrierung gemessen. Nachher: "
        "kreuzvalidiert, also bei Fragen, an die sie nicht angepasst wurde. {}"
    ),
    "figure": "Kennzahl",
    "after": "nachher",
    "Threshold {:.4g}, slope {:.4g}, intercept {:.4g}.": (
        "Schwelle {:.4g}; Steigung {:.4g}; Achsenabschnitt {:.4g}."
    ),
    "{}, of {}": "{}, von {}",
    GIVEN: "nicht beantwortbar, laut Fragendatei",
    WITHOUT_DOCUMENT: "gefragt ohne ihr Dokument",
    WITHOUT_ARTICLE: "gefragt ohne alle Dokumente ihres Titels",
}
"""The gaps are the template's, in the same order."""


class _German(string.Formatter):
    """Decimals after a comma, a space before the sign of per cent."""

    def format_field(self, value: Any, format_spec: str) -> str:
        said: str = super().format_field(value, format_spec)
        if not isinstance(value, (int, float)):
            return said
        return said.replace(".", ",").replace("%", "\N{NO-BREAK SPACE}%")


_GERMAN = _German()


@dataclass(frozen=True, slots=True)
class Speech:
    """Says a thing in ``language``, in German for "de" and in English for all others."""

    language: str = "en"

    def __call__(self, template: str, *values: object) -> str:
        """The English ``template``, as for ``str.format``, with ``values`` in its gaps."""
        if self.language == "de":
            return _GERMAN.vformat(GERMAN.get(template, template), values, {})
        return template.format(*values)

    def figure(self, value: float) -> str:
        """A number with three decimals, from 10 on with one."""
        return self("{:.3f}" if value < 10 else "{:.1f}", value)

    def between(self, found: Interval | None, form: str = "") -> str:
        """A measure's interval, or nothing where it does not apply; ``form`` is that of its ends,
        else they are figures."""
        if found is None:
            return ""
        low, high = (
            self(form, value) if form else self.figure(value) for value in (found.low, found.high)
        )
        return f"[{low}; {high}]" if self.language == "de" else f"[{low}, {high}]"

    def fact(self, name: str, value: object) -> str:
        """A setting or a number of things, by its name."""
        return self(f"{name} {{}}", value)

    def named(self, metric: str) -> str:
        """A measure's name, and which way is better where that is down."""
        return self("{} (less is better)", metric) if metric in LESS_IS_BETTER else metric

    def earlier(self, comparison: Comparison) -> str:
        """The run that this one is compared with, and what makes it another one."""
        settings = comparison.settings
        keys = ("date", "beleg", "encoder", "threshold", "documents")
        apart = "; " if self.language == "de" else ", "  # a German number has a comma
        told = apart.join(self.fact(key, settings[key]) for key in keys if key in settings)
        parts = [self("The earlier run: {}.", told or self("of which nothing is known"))]
        if comparison.interrupted:
            parts.append(self("It was interrupted."))
        if comparison.altered:
            said = (
                "It asks {} of the questions otherwise: in other words, with other answers, or"
                " taking them to be (un)answerable."
            )
            parts.append(self(said, comparison.altered))
        return " ".join(parts)

    def effects(self, fitted: Fit) -> Iterator[tuple[str, Interval | None, Interval | None]]:
        """The figures of a calibration by name, before and after."""
        for name in (
            "calibration_error", "by_chance", "false_abstention", "unanswerable_abstention",
        ):  # fmt: skip
            yield self.named(name), getattr(fitted.before, name), getattr(fitted.after, name)
        for kind, after in fitted.after.abstention.items():
            told = self("{}, of {}", self(kind), fitted.questions[kind])
            yield told, fitted.before.abstention[kind], after

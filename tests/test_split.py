"""Sentences and passages: hand-made cases, properties, and input meant to break them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from index import split
from index.split import MAX_SENTENCE, passages, sentences
from index.text import title_of
from index.types import Document, Passage, Span

# One text a line; "|" marks where a sentence ends and another begins.
GERMAN = """
Die Gespräche finden am 22. und 23. April statt.|Danach reist er ab.
Seit dem 22. und 23. April 2021 gilt das Verbot.|Es endet bald.
Am 3. Oktober 1990 trat die DDR bei.|Das Land war vereint.
Am 14. Juli, einem Mittwoch, stürmten sie die Bastille.|Der König jagte.
Der Vertrag vom 9. Mai wurde am 1. Dez. 2009 gültig.|Alle stimmten zu.
Dr. Müller kam zu spät.|Er entschuldigte sich.
Prof. Dr. h. c. Anna Weber hielt die Rede.|Sie war kurz.
Er mag Obst, z. B. Äpfel und Birnen.|Gemüse mag er nicht.
Er mag Obst, z.B. Äpfel und Birnen.|Gemüse mag er nicht.
Das ist ein Säugetier, d. h. Es lebt nicht vom Laich.|Das gilt immer.
Sie spielte u. a. Mozart und Bach.|Das Publikum tobte.
Sie spielte u.a. Mozart, Bach usw. und sang dazu.|Das Publikum tobte.
Nach § 5 Abs. 2 Satz 1 ist das verboten.|Ausnahmen regelt Art. 7 GG.
Bus Nr. 5 fährt nicht.|Die Bahn fährt.
Sie wohnt in St. Gallen und arbeitet in St. Petersburg.|Er nicht.
Es sind ca. 30 Prozent.|Das ist viel.
Etwa 1,5 Mio. Euro und rd. 3 Mrd. Dollar wurden gezahlt.|Es reichte nicht.
Ludwig XIV. war König von Frankreich.|Er lebte in Versailles.
Friedrich II. von Preußen spielte Flöte.|Er schrieb viel.
Papst Johannes XXIII. berief das Konzil ein.|Es begann 1962.
Im 19. Jahrhundert wuchs die Stadt.|Im 20. Jh. schrumpfte sie.
Er feierte seinen 80. Geburtstag.|Viele kamen.
Im Jahr 2014.|Danach kam lange nichts.
Das Abkommen scheiterte im Jahr 2014.|Danach begann der Krieg.
Die Firma besteht seit 1998.|Sie wächst.
Das Team landete auf Platz 3.|Er war enttäuscht.
Der Abstand beträgt 25.|Die Partie ist vorbei.
Er ist 45.|Sie ist 50.
Das gilt für den 1. FC Köln und den 2. Weltkrieg.|Andere zählen nicht.
Sie wurde 1. und er wurde 3. im Rennen.|Beide freuten sich.
„Ich komme nicht.“|Dann legte er auf.
Er sagte: „Ich komme nicht.“|Dann legte er auf.
„Kommst du?“, fragte sie.|Er schwieg.
„Das ist falsch!“ sagte der Minister.|Niemand widersprach.
"Die Zeit wartet nicht."|Das sagte der frühere Kremlchef.
"Die Zeit wartet nicht", sagte der frühere Kremlchef.|Beide Seiten müssten handeln.
»Halt!«, rief er.|»Wer da?«
Was soll das?!|Niemand weiß es.
Nun ja ... das war wohl nichts.|Wir gehen.
Er zögerte…|Dann sprang er.
Die Zahl 3.14 und 1.000.000 sind Zahlen.|Gut.
Mehr steht auf www.example.de/a.b?c=1 und bei mail@example.org.|Dort gibt es Hilfe.
J. S. Bach wurde in Eisenach geboren.|Er starb in Leipzig.
Die Autorin J. K. Rowling lebt in Schottland.|Sie schreibt.
Das Buch (hrsg. v. H. Meier) erschien bei C. H. Beck.|Es ist vergriffen.
Vgl. dazu Kap. 3, S. 12 ff. und Abb. 4.|Das genügt.
Sie studierte Jura, Medizin usw.|Danach reiste sie.
Er war bzw. ist Mitglied der Partei.|Das stimmt.
Das Gesetz gilt i. d. R. nur gegenüber Firmen, z. T. auch für Vereine.|Privatleute sind frei.
Um 500 v. Chr. entstand die Stadt.|Um 300 n. Chr. verfiel sie.
Hr. und Fr. Schmidt wohnen in der Hauptstr. 5.|Sie sind nett.
Der US-Präs. George W. Bush kam.|Er blieb.
Die Feier begann gegen 20 Uhr.|Am 5. kam der Besuch.
Er starb am 5. Mai 1821 auf St. Helena.|Seine Armee war geschlagen.
Sie lebt in der 3. Etage.|Er auch.
Das Ergebnis (siehe Tab. 2) überraschte alle.|(Es war falsch.)|Man lachte.
Sie kam (wie immer spät).|Er nicht.
Er trug Kleider, Schuhe etc. nach Hause.|Dann schlief er.
Die Bundesrepublik, inkl. Berlin, hat 83 Mio. Einwohner.|Das steht im Atlas.
Heinrich VIII. und Elisabeth I. regierten lange.|Das ist bekannt.
Vom 11. bis 13. September tagte der Rat.|Er beschloss nichts.
Die Abkommen Minsk I und Minsk II.|Beide scheiterten.
Am 22. 4. 2021 kam er an.|Gut.
1977 trat er zurück.|1981 gründete er eine Partei.
"""

ENGLISH = """
He waited…|Nobody came.
The U.S. President met Mr. Smith.|They talked.
He lives in the U.S.|He likes it.
Dr. Jones and Mrs. Brown left.|Nobody noticed.
Some fruit, e.g. apples, is sweet.|Other fruit is not.
The first, i.e. the oldest, wins.|The rest lose.
We met at 5 p.m. on Monday.|It rained.
It starts at 5 p.m.|Bring a coat.
The case Roe vs. Wade was famous.|It was overturned.
Brown v. Board of Education was decided in 1954.|It changed schools.
He reached No. 5 on the charts.|Then he fell.
J. R. R. Tolkien wrote it.|He taught at Oxford.
George W. Bush won.|Al Gore lost.
Pi is 3.14 and e is 2.71.|Both are irrational.
"I am tired." he said.|She laughed.
"I am tired," he said.|"Go to bed."
He said, "I am tired."|Then he left.
“Are you sure?” she asked.|He nodded.
What is this?!|Nobody knows.
Well... that was that.|We went home.
He waited...|Nobody came.
See www.example.com/a.b?c=1 for details.|It is long.
The war ended in 1945.|Then peace came.
They finished in place 3.|He was sad.
Apple Inc. announced it.|Shares rose.
She works at Acme Corp. in Ohio.|He does not.
St. Louis and Mt. Everest are far apart.|Both are real.
See Fig. 3 and pp. 12–14.|They explain it.
He was born on Jan. 5, 1900.|He died in Feb. 1980.
Gen. Lee met Lt. Col. Harris and Sen. Obama.|They ate.
It was approx. 3 miles.|We walked.
Smith et al. showed this.|Others disagreed.
Louis XIV was king.|Louis XVI died.
Martin Luther King Jr. spoke.|People listened.
He has a Ph.D. in physics.|She has an M.D. from Yale.
It is cheap (approx. $5).|Buy it.
Is it?|Yes!|No.
The temperature was 5 °C.|It snowed.
She moved to Washington, D.C. in 1990.|She stayed.
The film (released in 1999) was good.|(I liked it.)|You should see it.
Yahoo! announced a deal.|Nobody cared.
"""

OTHERS = [
    ("fr", "Il est venu.|Elle est partie.|Pourquoi ?"),
    ("es", "¿Qué pasa?|¡Nada!|El Sr. López vino."),
    ("ru", "Он пришёл.|Она ушла."),
    ("zh", "我是学生。|你是老师！"),
    ("xx", "Sa ta.|Ko lu."),
    ("", "Sa ta.|Ko lu."),
    ("de-AT", "Im 19. Jahrhundert.|Jänner."),
]
CASES = [
    *(("de", case) for case in GERMAN.split("\n") if case),
    *(("en", case) for case in ENGLISH.split("\n") if case),
    *OTHERS,
]

PROSE = (
    "Die Regierung in Berlin hat am 22. und 23. April lange beraten. Herausgekommen ist, sagt "
    "Dr. Müller, z. B. ein neues Gesetz zum Schutz der Wälder. Es gilt seit dem 3. Oktober und "
    "soll bis zum Ende des 21. Jahrhunderts wirken. Ob es hilft? Niemand weiß es genau."
)


def texts(text: str, language: str = "de") -> list[str]:
    return [text[span.start : span.end] for span in sentences(text, language)]


def unspaced(text: str) -> str:
    return "".join(text.split())


def words(batch: Sequence[str]) -> list[int]:
    """A token counter that a person can check."""
    return [len(text.split()) for text in batch]


def article(text: str) -> Document:
    return Document(text=text, source="a.txt", title="A", language="de")


def packed(text: str, window: int, overlap: int = 1) -> list[str]:
    """The passages' texts, every white space one blank."""
    found = passages(article(text), window=window, overlap=overlap, count_tokens=words)
    return [" ".join(passage.text.split()) for passage in found]


# --- Sentences --------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "case"), CASES)
def test_tricky_sentences(language: str, case: str) -> None:
    separator = "" if language == "zh" else " "
    assert texts(case.replace("|", separator), language) == case.split("|")


def test_a_no_break_space_is_a_space() -> None:
    assert texts("Er mag z.\u00a0B. Äpfel. Am 3.\u00a0Oktober kam er.") == [
        "Er mag z.\u00a0B. Äpfel.",
        "Am 3.\u00a0Oktober kam er.",
    ]


@pytest.mark.parametrize("text", ["by J\u00a0. Smith", "A\u3000. B\u2003. C", "\ud800. A \udfff"])
def test_text_that_the_library_cannot_take(text: str) -> None:
    assert unspaced("".join(texts(text, "en"))) == unspaced(text)


def test_blank_lines_headings_and_list_items_end_sentences() -> None:
    text = """# Der Gipfel
Zwei Präsidenten reden miteinander. Es geht um vieles und um
noch mehr am
3. Oktober in Genf

Ohne Punkt
\t
Die Themen:
- Rüstung
- Klima und
  Wetter
1. Erstens
2. Zweitens
* Stern
| a | b |
| c | d |
Titel
=====
Ende"""
    assert texts(text) == [
        "# Der Gipfel",
        "Zwei Präsidenten reden miteinander.",
        "Es geht um vieles und um\nnoch mehr am\n3. Oktober in Genf",
        "Ohne Punkt",
        "Die Themen:",
        "- Rüstung",
        "- Klima und\n  Wetter",
        "1. Erstens",
        "2. Zweitens",
        "* Stern",
        "| a | b |",
        "| c | d |",
        "Titel\n=====",
        "Ende",
    ]


@pytest.mark.parametrize("item", ["1. Erstens kam er.", "12) Dann ging er.", "a) Er kam."])
@pytest.mark.parametrize("language", ["de", "en"])
def test_a_list_number_is_no_sentence(item: str, language: str) -> None:
    assert texts(f"{item} Gut.\n{item} Gut.", language) == [item, "Gut."] * 2


def test_a_short_line_without_full_stop_is_a_heading() -> None:
    text = "Antwort aus Moskau\n" + PROSE + "\nWie es weitergeht\n" + PROSE
    assert texts(text) == ["Antwort aus Moskau", *texts(PROSE), "Wie es weitergeht", *texts(PROSE)]


# The first line is wide enough to be prose, none of the short ones is a heading.
@pytest.mark.parametrize(
    "text",
    [
        "Kurz\nist diese etwas längere Zeile, aber keine fünfzig",
        "Kurz ist\nDas eine Zeile mit weniger als fünfzig Zeichen",
        "Berlin,\nHamburg und noch viele andere Städte an großen Flüssen",
        "Erhöhtes O\n2 verändert in der Umgebung vieles, auch die Menschen",
        "Erhöht\nwird dadurch in der Umgebung vieles, auch für die Menschen",
        "Diese lange Zeile hat mehr als fünfzig Zeichen und geht\nmit dem\nWort weiter",
    ],
)
def test_a_short_line_in_prose_is_no_heading(text: str) -> None:
    assert texts(text) == [text]


@given(st.integers(40, 100), st.sampled_from(["\n", "\r\n", "\u2028"]))
def test_hard_wrapped_prose_has_the_same_sentences(width: int, newline: str) -> None:
    wrapped = newline.join(textwrap.wrap(PROSE, width))
    assert [" ".join(sentence.split()) for sentence in texts(wrapped)] == texts(PROSE)


@pytest.mark.parametrize(
    "stamp",
    """date 2021-04|date 2021-04-14|DATE 2021-04-14|Date: 2021-04-14|Datum: 2021-04-14|2021-04-14
    |2021-04|datum 2021-04-14:|2021-04-14 –""".replace("\n    ", "").split("|"),
)
def test_a_date_stamp_is_not_cited_with_the_first_sentence(stamp: str) -> None:
    for said in ("Der Kreml schweigt.", "„Nein“, sagte er."):
        assert texts(f" {stamp} {said}") == [stamp, said]
        assert texts(f"{stamp}\n{said}") == [stamp, said]
    assert texts(f"Ein {stamp} Der Kreml schweigt.") == [f"Ein {stamp} Der Kreml schweigt."]
    assert texts(stamp) == [stamp]


@pytest.mark.parametrize(
    "text",
    [
        "2021-04-14 wurde der Vertrag geschlossen.",
        "2021-04-14, kurz nach neun, kam er.",
        "2021-04-14 änderte sich alles.",
        "2021-04-14T10:00 Der Kreml schweigt.",
        "2021-22 Der Kreml schweigt.",
        "2021-04-1999 Der Kreml schweigt.",
        "Update: 2021-04-14 Der Kreml schweigt.",
        "Dates 2021-04 Der Kreml schweigt.",
    ],
)
def test_a_number_that_begins_a_sentence_is_no_stamp(text: str) -> None:
    assert texts(text) == [text]
    assert title_of(text) == text


@pytest.mark.parametrize(
    "opening", ["Er rief: „Halt.", 'Sie galt als „gut". Er rief „Halt“.', "Er rief: (Halt.", '5".']
)
def test_a_mark_that_is_never_closed_hides_no_sentence(opening: str) -> None:
    found = texts(f"{opening} {PROSE} „Ja“, sagte er. {PROSE}")
    assert found[-7:] == [texts(PROSE)[-1], "„Ja“, sagte er.", *texts(PROSE)]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "He came.[citation needed]|She left."),
        ("de", "Er kam.[Beleg nötig]|Sie ging.[1][2]|Ende."),
        ("de", "Er kam (an[Erklärung nötig].)|Sie ging."),
        ("de", 'Er kam.|"Wir gehen."|Er blieb "hier.|Sie auch.'),
        ("de", '„Ja“, sagte er zu ihnen.|"Alles ist gut gelaufen.'),
    ],
)
def test_notes_and_marks_stay_with_their_sentence(language: str, text: str) -> None:
    assert texts(text.replace("|", " "), language) == text.split("|")


def test_long_runs_are_cut_at_the_best_place() -> None:
    clause = "und so weiter und so fort " * 12
    text = clause + "bis hierher; " + clause + "oder weiter, " + clause
    pieces = texts(text)
    assert [piece.split()[-1] for piece in pieces] == ["hierher;", "weiter,", "fort"]
    assert " ".join(pieces) == text.strip()
    assert [len(piece) for piece in texts("x" * 601)] == [451, 150]


@given(st.integers(200, 500))
def test_the_size_of_a_chunk_does_not_show(size: int) -> None:
    text = " ".join(case.replace("|", " ") for case in GERMAN.split("\n") if "„" not in case)
    whole = sentences(text, "de")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "_CHUNK", size)
        assert sentences(text, "de") == whole


def test_one_long_line_has_all_its_sentences() -> None:
    lines = [
        f"Die Zahl {n} ist am 3. Oktober, sagt Dr. Müller, gezogen worden." for n in range(999)
    ]
    assert texts(" ".join(lines)) == lines


PATHOLOGICAL = {
    "no full stop": "wort " * 20_000,
    "no white space": "x" * 100_000,
    "abbreviations": "a. " * 30_000,
    "full stops": "." * 100_000,
    "brackets": "(" * 100_000,
    "open quotations": "Er kam „so. " * 8_000,
    "bracket after bracket": ". (" * 30_000,
    "numbers": "am 3. " * 20_000,
    "white space": " \n" * 50_000 + "x" + " " * 100_000,
    "half surrogate pairs": "\ud800. A " * 12_000,
}


@pytest.mark.parametrize("text", PATHOLOGICAL.values(), ids=PATHOLOGICAL.keys())
def test_the_work_stays_linear(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks: list[int] = []
    library: Any = split.get_sentence_boundaries

    def counting(language: str, chunk: str) -> Any:
        chunks.append(len(chunk))
        return library(language, chunk)

    monkeypatch.setattr(split, "get_sentence_boundaries", counting)
    spans = sentences(text, "de")
    assert max(chunks) <= 4_000
    assert sum(chunks) <= 5 * len(text)
    assert max(span.end - span.start for span in spans) <= MAX_SENTENCE
    # Longer than a sentence of one word, on average, unless the text has sentences that short.
    assert len(spans) <= max(2, len(text.split()), len(text) // (MAX_SENTENCE // 4))
    assert unspaced("".join(text[span.start : span.end] for span in spans)) == unspaced(text)


# --- Properties -------------------------------------------------------------------------

PARTS = ["Er kam.", "Er kam.", "Am 3. Mai", "z. B.", "„Ja.“", "(Nein.)", "Titel", "- Punkt", "# A"]
GAPS = [" ", " ", "\n", "\n\n", "\r\n", "  ", "\u00a0", ""]
REPETITIVE = st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(GAPS)), max_size=60).map(
    lambda pairs: "".join(part + gap for part, gap in pairs)
)
ALPHABET = st.sampled_from(
    "aAbé\u0301ß1 .!?:;,…\"'„“”»«()[]-–*#|\n\r\t\f\u00a0\u2028。！😀\u200d\ufeff\0"
)
RANDOM = st.text(ALPHABET, max_size=200)
LONG = st.tuples(st.text(ALPHABET, min_size=1, max_size=9), st.integers(1, 900)).map(
    lambda pair: pair[0] * pair[1]
)
TEXT = st.one_of(REPETITIVE, RANDOM, LONG, st.text(max_size=200))
LANGUAGE = st.sampled_from(["de", "en", "fr", "ja", "xx"])


@given(TEXT, LANGUAGE)
@example('"', "de")
@example(".", "en")
@example("", "en")
def test_sentences_cover_the_text_in_order(text: str, language: str) -> None:
    end = 0
    for span in sentences(text, language):
        assert end <= span.start < span.end
        assert not text[end : span.start].strip()
        sentence = text[span.start : span.end]
        assert sentence == sentence.strip()
        assert len(sentence) <= MAX_SENTENCE
        end = span.end
    assert not text[end:].strip()


def runs(document: Document, found: list[Passage]) -> list[tuple[int, int]]:
    """Each passage as the range of the document's sentences that it holds."""
    index = {span: i for i, span in enumerate(sentences(document.text, document.language))}
    spans: list[Span] = list(index)
    result = []
    for passage in found:
        first = index[passage.sentences[0]]
        result.append((first, first + len(passage.sentences)))
        assert passage.sentences == tuple(spans[first : first + len(passage.sentences)])
    return result


@given(TEXT, LANGUAGE, st.integers(1, 40), st.integers(0, 4))
def test_passages_are_whole_sentences_that_fit(
    text: str, language: str, window: int, overlap: int
) -> None:
    document = Document(text=text, source="a.txt", title="A", language=language)
    found = passages(document, window=window, overlap=overlap, count_tokens=words)
    count = len(sentences(text, language))
    for passage in found:
        assert passage.document is document
        assert passage.text == text[passage.start : passage.end]
        assert (passage.start, passage.end) == (
            passage.sentences[0].start,
            passage.sentences[-1].end,
        )
        tokens = sum(words([text[s.start : s.end] for s in passage.sentences]))
        assert tokens <= window or len(passage.sentences) == 1

    ranges = runs(document, found)
    assert (ranges[0][0], ranges[-1][1]) == (0, count) if count else not ranges
    for (first, last), (after, end) in pairwise(ranges):
        assert first < after <= last < end  # nothing lost; each has something of its own
        assert last - after <= overlap


@given(TEXT, st.integers(1, 40), st.integers(0, 4))
def test_nothing_is_repeated_across_a_paragraphs_end(text: str, window: int, overlap: int) -> None:
    document = article(text)
    found = passages(document, window=window, overlap=overlap, count_tokens=words)
    for passage, after in pairwise(found):
        if after.start < passage.end:
            new = next(span for span in after.sentences if span.start >= passage.end)
            assert len(text[passage.end : new.start].splitlines()) < 2


# --- Passages ---------------------------------------------------------------------------

# Three words each.
ONE, TWO, THREE, FOUR = "Das ist eins.", "Das ist zwei.", "Das ist drei.", "Das ist vier."
FLOWING = " ".join([ONE, TWO, THREE, FOUR])


def test_sentences_are_packed_and_the_last_one_is_repeated() -> None:
    assert packed(FLOWING, 12) == [FLOWING]
    assert packed(FLOWING, 8) == [f"{ONE} {TWO}", f"{TWO} {THREE}", f"{THREE} {FOUR}"]
    assert packed(FLOWING, 9, overlap=2) == [f"{ONE} {TWO} {THREE}", f"{TWO} {THREE} {FOUR}"]
    assert packed(FLOWING, 8, overlap=0) == [f"{ONE} {TWO}", f"{THREE} {FOUR}"]


def test_no_overlap_where_nothing_new_would_fit() -> None:
    assert packed(FLOWING, 5, overlap=1) == [ONE, TWO, THREE, FOUR]


def test_a_sentence_over_the_window_is_its_own_passage() -> None:
    assert packed(f"{ONE} Das ist ein sehr langer Satz. {TWO}", 4) == [
        ONE,
        "Das ist ein sehr langer Satz.",
        TWO,
    ]


def test_a_half_full_passage_ends_with_its_paragraph() -> None:
    text = f"{ONE} {TWO}\n\n{THREE} {FOUR}"
    assert packed(text, 10) == [f"{ONE} {TWO}", f"{THREE} {FOUR}"]
    # Less than half full, it goes on; and what fits as a whole is never parted.
    assert packed(f"{ONE}\n\n{TWO} {THREE} {FOUR}", 10)[0] == f"{ONE} {TWO} {THREE}"
    assert packed(text, 12) == [FLOWING]


def test_a_heading_stays_with_its_text() -> None:
    text = f"{ONE} {TWO}\n\nTitel\n\n{THREE} {FOUR}"
    assert packed(text, 7) == [f"{ONE} {TWO}", f"Titel {THREE} {FOUR}"]
    # Unless the passage would be less than half full: a list is not all headings.
    assert packed("Eins\n\nZwei\n\nDrei\n\nVier\n\nFünf\n\nSechs", 3) == [
        "Eins Zwei Drei",
        "Vier Fünf Sechs",
    ]


def test_the_last_passage_is_no_scrap() -> None:
    assert packed(f"{FLOWING} Ende.", 12, overlap=0) == [
        f"{ONE} {TWO}",
        f"{THREE} {FOUR} Ende.",
    ]
    assert packed(f"{FLOWING} {ONE} {TWO} Ende.", 18) == [
        f"{ONE} {TWO} {THREE}",
        f"{THREE} {FOUR} {ONE} {TWO} Ende.",
    ]


def test_the_last_two_passages_part_at_a_paragraph_or_heading_if_they_can() -> None:
    assert packed(f"{ONE}\n\n{TWO} {THREE} {FOUR} Ende.", 12, overlap=0) == [
        ONE,
        f"{TWO} {THREE} {FOUR} Ende.",
    ]
    assert packed(f"{ONE} Das zwei.\n\nTitel\n\n{THREE} {FOUR} Ende.", 12, overlap=0) == [
        f"{ONE} Das zwei.",
        f"Titel {THREE} {FOUR} Ende.",
    ]


def test_sharing_out_the_last_two_passages_respects_the_window_and_the_overlap() -> None:
    long = "Ein Titel ohne Punkt hat hier elf Wörter und noch mehr"
    assert packed(f"Ja.\n\n{long}\n\nDas ist.", 12) == [f"Ja. {long}", "Das ist."]
    six = "Dieser Satz hat genau sechs Wörter."
    assert packed(f"Das. {six} Er ist auch da.\n\nDie Zeit.", 11, overlap=1)[-1] == (
        "Er ist auch da. Die Zeit."
    )
    # A passage that only repeats the one before it would be none.
    assert packed(f"{ONE} {TWO} {six} {THREE} {FOUR}\n\nDie Zeit.", 12) == [
        f"{ONE} {TWO} {six}",
        f"{six} {THREE}",
        f"{THREE} {FOUR} Die Zeit.",
    ]


def test_a_long_line_without_full_stop_is_no_heading() -> None:
    long = " ".join(["Wörterbuchartikel"] * 8)
    assert packed(f"{long}\n\n{ONE} {TWO}", 12) == [long, f"{ONE} {TWO}"]


def test_tokens_are_counted_in_one_batch() -> None:
    batches: list[list[str]] = []

    def counting(batch: Sequence[str]) -> list[int]:
        batches.append(list(batch))
        return words(batch)

    passages(article(FLOWING), window=5, count_tokens=counting)
    assert batches == [[ONE, TWO, THREE, FOUR]]
    assert passages(article(" \n"), window=5, count_tokens=counting) == []
    assert len(batches) == 1


@pytest.mark.parametrize(("window", "overlap"), [(0, 1), (10, -1)])
def test_senseless_sizes_are_refused(window: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="window"):
        passages(article(FLOWING), window=window, overlap=overlap, count_tokens=words)

"""Loading: every format and encoding, every bad input as one line, one canonical text."""

from __future__ import annotations

import io
import os
import random
import re
import subprocess
import sys
import threading
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from docx import Document as Docx
from fpdf import FPDF
from hypothesis import given
from hypothesis import strategies as st

from index import load as module
from index import sandbox
from index.errors import InputError
from index.language import detect_language
from index.load import load, load_all, load_url
from index.text import canonical, decode

GERMAN = "Der Kreml hat zurückhaltend reagiert. Über die Gründe für den Schritt wurde geschwiegen."
ENGLISH = "The ambassador was recalled to Moscow. Nobody explained the reasons for this step."


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def pdf_of(path: Path, *pages: str, title: str = "", password: str = "") -> Path:
    """A PDF whose lines break where the text does."""
    pdf = FPDF()
    pdf.set_title(title)
    pdf.set_font("Helvetica", size=11)
    for page in pages:
        pdf.add_page()
        for paragraph in page.split("\n\n"):
            for line in paragraph.split("\n"):
                pdf.cell(0, 5, line, new_x="LMARGIN", new_y="NEXT")
            pdf.ln(5)
    if password:
        pdf.set_encryption(owner_password="owner", user_password=password)
    pdf.output(str(path))
    return path


def error_of(call: Callable[[], object]) -> str:
    """The message of the InputError that a call must raise; it is one line."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- Plain text and its encodings ------------------------------------------------------------


def test_plain_text_keeps_hard_wrapped_lines_and_takes_the_file_name_as_source(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "article.de.txt", "Erste Zeile \r\nzweite Zeile.\r\n\r\nAbsatz.\r\n")
    document = load(str(path))
    assert document.text == "Erste Zeile\nzweite Zeile.\n\nAbsatz."
    assert document.source == "article.de.txt"
    assert document.pages == ()


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"]
)
def test_german_in_every_usual_encoding(tmp_path: Path, encoding: str) -> None:
    assert load(written(tmp_path / "a.txt", GERMAN.encode(encoding))).text == GERMAN


@pytest.mark.parametrize("byte_order", ["utf-16-le", "utf-16-be"])
def test_utf_16_of_either_byte_order(tmp_path: Path, byte_order: str) -> None:
    data = f"\ufeff{GERMAN}".encode(byte_order)
    assert load(written(tmp_path / "a.txt", data)).text == GERMAN


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-be", "UTF-16LE"])
@pytest.mark.parametrize("text", [GERMAN, "Россия отозвала посла.", "使馆\n大使"])
def test_utf_16_without_a_mark_is_read_where_it_is_declared(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), encoding) == text


@pytest.mark.parametrize("declared", ["utf-16", "utf-16be", "utf-32", "utf-7", "nonsense", None])
def test_utf_8_is_read_whatever_is_declared(declared: str | None) -> None:
    assert decode(GERMAN.encode(), declared) == GERMAN


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"])
def test_bytes_at_random_after_a_byte_order_mark_are_no_text(tmp_path: Path, mark: bytes) -> None:
    path = written(tmp_path / "a.txt", mark + random.Random(1).randbytes(20_000))
    assert error_of(lambda: load(path)) == f"{path} {NOT_OURS}"
    path = written(tmp_path / "b.txt", mark + b"\x01\0\0\0" * 100)
    assert error_of(lambda: load(path)) == f"{path} {NOT_OURS}"


@pytest.mark.parametrize("byte_order", ["le", "be"])
def test_western_utf_16_is_known_without_a_mark(tmp_path: Path, byte_order: str) -> None:
    data = GERMAN.encode(f"utf-16-{byte_order}")
    assert load(written(tmp_path / "a.txt", data)).text == GERMAN
    assert load(written(tmp_path / "a.log", data)).text == GERMAN
    for no_text in (bytes(1000), b"\x07\0" * 500, data + b"\0", b"\0\0a\0" * 300):
        path = written(tmp_path / "b.txt", no_text)
        assert error_of(lambda path=path: load(path)) == f"{path} {NOT_OURS}"


def test_a_few_strange_characters_are_no_harm(tmp_path: Path) -> None:
    text = f"{GERMAN} \ue000 \U000e1000 {GERMAN}"
    assert load(written(tmp_path / "a.txt", text.encode("utf-16"))).text == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Er sagte: „Schöne Grüße“ – und ging nach München.", "cp1252"),
        ("The café’s “special” costs £5 – or €6.", "cp1252"),
        ("L’été dernier, le président français a été élu. Ça coûte 5 €.", "cp1252"),
        ("Vláda schválila nový zákon o daních, který začne platit příští rok.", "cp1250"),
        ("Привет, мир. Президент России отозвал посла из Соединённых Штатов.", "cp1251"),
    ],
)
def test_short_texts_in_single_byte_encodings(tmp_path: Path, text: str, encoding: str) -> None:
    assert load(written(tmp_path / "a.txt", text.encode(encoding))).text == text


def test_one_stray_byte_does_not_garble_the_rest_of_utf_8(tmp_path: Path) -> None:
    data = (GERMAN * 10).encode() + b" \xfc " + (GERMAN * 10).encode()
    assert load(written(tmp_path / "a.txt", data)).text == f"{GERMAN * 10} \ufffd {GERMAN * 10}"


def test_a_file_of_unknown_suffix_is_read_by_what_is_in_it(tmp_path: Path) -> None:
    assert load(written(tmp_path / "notes.log", GERMAN)).text == GERMAN
    page = f"<!DOCTYPE html><html><body><p>{GERMAN}</p></body></html>"
    assert load(written(tmp_path / "page", page)).text == GERMAN
    named = pdf_of(tmp_path / "x.pdf", ENGLISH).rename(tmp_path / "upload")
    assert load(named).pages == (0,)


# ---- The canonical text ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "fixed"),
    [
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("a\fb\u2029c", "a\n\nb\n\nc"),
        ("u\u0308ber", "über"),
        ("20\xa0000\u202f€\u3000x", "20 000 € x"),
        ("Bot\xadschafter\u200b\u2060\ufeff", "Botschafter"),
        ("gut\u202etxet\u202c\u2066x\u2069", "guttxetx"),
        ("a\x00\x07\x1b[0mb\x9f", "a[0mb"),
        ("a \t\nb  ", "a\nb"),
        ("\n\n  a\n  b\n\n", "a\n  b"),
        ("x\ud800y\ufffe", "x\ufffdy"),
        ("ab\u200dc\u200c", "abc"),
        ("e\u200b\u0301", "é"),
        ("می\u200cخواهم 👩\u200d👧", "می\u200cخواهم 👩\u200d👧"),
        ("a\U000e0041\U000e0042b", "ab"),
    ],
)
def test_canonical_by_hand(raw: str, fixed: str) -> None:
    assert canonical(raw) == fixed


AWKWARD = st.text(
    st.one_of(
        st.sampled_from("\r\n\t \f\v\x00\x1c\x85\xa0\xad\u0301\u0308\u200b\u200c\u200d\u2028"),
        st.sampled_from("aeuA=<\u0338\u05d9\ufb1d\u0627\u0653\u1100\u1161\u212b\u2329\u3099か👩"),
        st.characters(),
        st.integers(0xD800, 0xDFFF).map(chr),
    )
)


@given(AWKWARD)
def test_canonical_is_idempotent_and_clean(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not set(once) & set("\r\f\v\x00\x85\xa0\xad\u200b\u2028\ufeff")
    assert all(line == line.rstrip() for line in once.split("\n"))
    once.encode("utf-8")


# ---- Markdown, HTML, PDF, DOCX ---------------------------------------------------------------

MARKDOWN = """\
Vorspann.

# Über *alles*

Ein Satz mit [Verweis](http://example.org/) und `Code`,
der umbrochen ist.

- eins
- zwei
  1. drei

| Land | Stadt |
|---|---|
| Russland | Moskau |

```python
if x:
    y = 1
```

<div>Roh</div><script>alert(1)</script>
"""


@pytest.mark.parametrize("repeated", [1, 500])
def test_markdown_becomes_what_a_reader_sees(tmp_path: Path, repeated: int) -> None:
    source = MARKDOWN * repeated
    assert (len(source) >= sandbox.APART_FROM["markdown"]) == (
        repeated > 1
    )  # here, and in the child
    document = load(written(tmp_path / "a.md", source))
    once = (
        "Vorspann.\n\nÜber alles\n\nEin Satz mit Verweis und Code, der umbrochen ist.\n\n"
        "eins\nzwei\ndrei\n\nLand | Stadt\nRussland | Moskau\n\nif x:\n    y = 1\n\nRoh"
    )
    assert document.text.startswith(once)
    assert document.text.count("umbrochen") == repeated
    assert document.title == "Über alles"


def test_markdown_front_matter_gives_the_title_and_is_no_text(tmp_path: Path) -> None:
    text = f'---\ntitle: "Vorne"\ntags: [a]\n---\n# Innen\n\n{GERMAN}\n'
    document = load(written(tmp_path / "a.md", text))
    assert (document.title, document.text) == ("Vorne", f"Innen\n\n{GERMAN}")


PAGE = """<html><head><title>Kreml reagiert - Beispielzeitung</title></head><body>
<nav><ul><li><a href="/">Startseite</a></li><li><a href="/sport">Sportteil</a></li></ul></nav>
<article><h1>Kreml reagiert</h1>
<p>Der Kreml hat <b>zurückhaltend</b> auf den Vorschlag
   reagiert, den der Präsident gemacht hatte.</p>
<p>Der zweite Absatz ist ebenfalls lang genug, um als Text zu gelten.</p>
<ul><li>ein erster Punkt</li><li>ein zweiter Punkt</li></ul>
<table><tr><td>Land</td><td>Stadt</td></tr><tr><td>Russland</td><td>Moskau</td></tr></table>
</article><script>var geheim = 1;</script>
<footer>Impressum <a href="/k">Kontakt</a></footer></body></html>"""


def test_html_gives_the_article_not_the_menus(tmp_path: Path) -> None:
    document = load(written(tmp_path / "a.html", PAGE))
    assert document.text == (
        "Kreml reagiert\n\nDer Kreml hat zurückhaltend auf den Vorschlag reagiert, den der "
        "Präsident gemacht hatte.\n\nDer zweite Absatz ist ebenfalls lang genug, um als Text zu "
        "gelten.\n\nein erster Punkt\nein zweiter Punkt\n\nLand | Stadt\nRussland | Moskau"
    )
    assert document.title == "Kreml reagiert"


def test_tags_that_are_never_closed_lose_no_text(tmp_path: Path) -> None:
    sentences = [f"Satz Nummer {n} steht in einer alten Seite." for n in range(400)]
    page = f"<body><p>{' '.join(f'<font size=2>{text}' for text in sentences)}</body>"
    assert load(written(tmp_path / "a.html", page)).text == " ".join(sentences)
    path = written(tmp_path / "deep.html", f"<p>Oben.</p>{'<div>' * 3000}Unten.")
    assert error_of(lambda: load(path)) == f"{path} is nested too deeply to be read whole"


def test_markdown_quotes_within_quotes_are_read(tmp_path: Path) -> None:
    assert load(written(tmp_path / "a.md", f"{'> ' * 40}Tief.\n\nOben.")).text == "Tief.\n\nOben."


def test_html_encoding_comes_from_its_meta_element(tmp_path: Path) -> None:
    text = "Правительство объявило о новых мерах поддержки экономики страны."
    page = f'<html><head><meta charset="koi8-r"></head><body><p>{text}</p></body></html>'
    assert load(written(tmp_path / "a.html", page.encode("koi8-r"))).text == text


def test_html_without_an_article_falls_back_to_its_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trafilatura.bare_extraction", lambda *args, **options: None)
    page = "<body><div>Eins<br>zwei</div><style>p {}</style><p>drei <i>vier</i></p></body>"
    assert load(written(tmp_path / "a.html", page)).text == "Eins\nzwei\n\ndrei vier"


def test_a_short_page_keeps_its_breaks_and_loses_its_menu(tmp_path: Path) -> None:
    page = (
        "<body><nav><a href='/'>Startseite</a></nav><h1>Preise</h1><p>Es ist teuer.</p>"
        "<h2>Brot</h2><p>Es kostet drei Euro.</p><footer>Impressum</footer></body>"
    )
    document = load(written(tmp_path / "a.html", page))
    assert document.text == "Preise\n\nEs ist teuer.\n\nBrot\n\nEs kostet drei Euro."


def test_pdf_paragraphs_hyphens_and_pages(tmp_path: Path) -> None:
    first = (
        "Wegen dieser Äußerung hat Russland vorübergehend seinen Botschaf-\n"
        "ter aus den USA abgezogen. Der NATO-\nRussland-Rat tagte gestern.\n\nEin neuer Absatz"
    )
    path = pdf_of(tmp_path / "a.pdf", first, "geht auf der zweiten Seite weiter.", "", "Ende.")
    document = load(path)
    assert document.text == (
        "Wegen dieser Äußerung hat Russland vorübergehend seinen Botschafter aus den USA "
        "abgezogen. Der NATO-Russland-Rat tagte gestern.\n\n"
        "Ein neuer Absatz geht auf der zweiten Seite weiter.\n\nEnde."
    )
    starts = [document.text.index(word) for word in ("Wegen", "geht auf", "Ende.", "Ende.")]
    assert document.pages == tuple(starts)
    assert document.page_at(document.text.index("zweiten")) == 2
    assert document.page_at(len(document.text) - 1) == 4


def test_pdf_title_is_the_claimed_one_unless_a_program_left_it_there(tmp_path: Path) -> None:
    assert load(pdf_of(tmp_path / "a.pdf", GERMAN, title="Jahresbericht")).title == "Jahresbericht"
    leftover = load(pdf_of(tmp_path / "b.pdf", GERMAN, title="Microsoft Word - neu3.doc"))
    assert leftover.title == "Der Kreml hat zurückhaltend reagiert."


class Report(FPDF):
    """A PDF with running heads, as books have them, left and right, and counted feet."""

    def header(self) -> None:
        self.set_y(8)
        self.cell(0, 5, "Left head" if self.page_no() % 2 else "Right head")
        self.set_y(25)

    def footer(self) -> None:
        self.set_y(-20)
        self.cell(0, 5, f"Report, page {self.page_no()} of 9", new_x="LMARGIN", new_y="NEXT")
        self.cell(0, 5, f"- {self.page_no() + 4} -", align="C")


def test_pdf_running_heads_stay_once_and_nothing_else_goes(tmp_path: Path) -> None:
    report = Report()
    report.set_font("Helvetica", size=11)
    report.set_auto_page_break(True, margin=35)
    report.add_page()
    body = " ".join(f"word{n}" for n in range(3000))
    report.multi_cell(0, 6, body)
    report.output(str(tmp_path / "a.pdf"))
    document = load(tmp_path / "a.pdf")
    assert len(document.pages) == report.page_no() >= 8
    text = document.text
    for head in ("Left head", "Right head", "Report, page 1 of 9"):
        assert text.count(head) == 1
        text = text.replace(head, "")
    assert " ".join(text.split()) == body
    for start in document.pages[3:]:  # a sentence goes on over the page's end
        assert "\n" not in document.text[start - 50 : start + 50]


def test_pdf_lines_that_repeat_within_the_text_are_text(tmp_path: Path) -> None:
    # Not set apart; other words on each page; too few pages; a number that counts no pages.
    refrain = [f"O Tannenbaum, o Tannenbaum,\nStrophe {n}\nwie treu." for n in (7, 3, 9, 5)]
    assert load(pdf_of(tmp_path / "a.pdf", *refrain)).text.count("O Tannenbaum, o") == 4
    forms = [f"Antrag Nr. {n}\n\nText {n}\nund\nmehr\nund mehr\n\nEnde" for n in (1, 2, 3, 4)]
    text = load(pdf_of(tmp_path / "b.pdf", *forms)).text
    assert all(f"Antrag Nr. {n}\n\nText {n} und mehr und mehr" in text for n in (1, 2, 3, 4))
    assert text.count("Ende") == 1
    twice = load(pdf_of(tmp_path / "c.pdf", *["Titel\n\nEin Text."] * 2)).text
    assert twice.count("Titel") == 2
    sums = [f"Eins\nund\nnoch\neins\n\n{n}" for n in (17, 4, 99, 20)]
    text = load(pdf_of(tmp_path / "d.pdf", *sums)).text
    assert {"17", "4", "99", "20"} <= set(text.split())


def test_docx_paragraphs_and_tables_in_their_order(tmp_path: Path) -> None:
    made = Docx()
    made.add_heading("Kapitel", 1)
    made.add_paragraph("Vor der Tabelle.")
    table = made.add_table(2, 2)
    for cell, text in zip(table._cells, ["Land", "Stadt", "Russland", "Moskau"], strict=True):
        cell.text = text
    made.add_paragraph("Nach der").add_run().add_break()
    made.paragraphs[-1].add_run("Tabelle.")
    made.save(str(tmp_path / "a.docx"))
    document = load(tmp_path / "a.docx")
    assert document.text == (
        "Kapitel\n\nVor der Tabelle.\n\nLand | Stadt\nRussland | Moskau\n\nNach der\nTabelle."
    )
    assert document.title == "Kapitel"


def test_docx_reads_insertions_and_content_controls_but_nothing_deleted(tmp_path: Path) -> None:
    made = Docx()
    made.add_paragraph("MARK")
    made.save(str(tmp_path / "plain.docx"))
    paragraph = (
        "<w:r><w:t>alt</w:t></w:r><w:ins><w:r><w:t> neu</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText> weg</w:delText><w:t> fort</w:t></w:r></w:del>"
    )
    control = f"<w:sdt><w:sdtContent><w:p>{paragraph}</w:p></w:sdtContent></w:sdt>"
    with (
        zipfile.ZipFile(tmp_path / "plain.docx") as old,
        zipfile.ZipFile(tmp_path / "a.docx", "w") as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name == "word/document.xml":
                data = data.replace(b"<w:body>", b"<w:body>" + control.encode())
            new.writestr(name, data)
    assert load(tmp_path / "a.docx").text == "alt neu\n\nMARK"


# ---- Titles and languages --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Kreml reagiert\n\nDer Kreml hat reagiert.", "Kreml reagiert"),
        ("Was nun?\n========\n\nDer Kreml hat reagiert.", "Was nun?"),
        ("-----\n\n1\n\nKreml reagiert\n\nText.", "Kreml reagiert"),
        (
            " date 2021-04 Der Kreml hat zurückhaltend auf den Vorschlag von US-Präsident Joe "
            "Biden für ein Gipfeltreffen reagiert.\n\nMehr.",
            "Der Kreml hat zurückhaltend auf den Vorschlag von US-Präsident Joe Biden für…",
        ),
        ("date 2021-04\n\nKreml reagiert\n\nText.", "Kreml reagiert"),
        ("Datum: 2021-04-14\nKreml reagiert\n\nText.", "Kreml reagiert"),
        (f"{GERMAN}\n\nMehr.", "Der Kreml hat zurückhaltend reagiert."),
        ("Am 22. April traf Dr. A. Meier ein. Dann nicht.", "Am 22. April traf Dr. A. Meier ein."),
        ("x" * 500, "x" * 79 + "…"),
        ("1 2 3\n\n4 5 6", "the-name"),
    ],
)
def test_titles_of_plain_text(tmp_path: Path, text: str, title: str) -> None:
    assert load(written(tmp_path / "the-name.txt", text)).title == title


def test_a_date_stamp_stays_in_the_text(tmp_path: Path) -> None:
    text = "date 2021-04 Der Kreml hat reagiert."
    assert load(written(tmp_path / "a.txt", text)).text == text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (GERMAN, "de"),
        (ENGLISH, "en"),
        ("Le président a rappelé son ambassadeur pour des consultations à Moscou.", "fr"),
        ("Президент России отозвал своего посла из Соединённых Штатов.", "ru"),
        ("42 + 1 = 43", "en"),
        ("Biden", "en"),
        (ENGLISH * 500 + GERMAN * 5000, "de"),
    ],
)
def test_language_of_a_document(tmp_path: Path, text: str, language: str) -> None:
    assert load(written(tmp_path / "a.txt", text)).language == language


INVOICE = """Rechnung Nr. 2024-0815
Rechnungsdatum 12.03.2024
1 Beratung 8 h 95,00
Netto 805,00
MwSt 19% 152,95
Brutto 957,95
IBAN DE12 3456 7890 1234 5678 90
BIC COBADEFFXXX
USt-IdNr. DE123456789
Steuernummer 12/345/67890"""
PRICES = "id,item,price,stock\n" + "".join(
    f"{1000 + n},{item},{n * 7 % 13}.{n * 37 % 100:02},{n * 11 % 97}\n"
    for n, item in enumerate("bolt nut washer bracket lamp toner pen cable plug fuse".split() * 40)
)
NAMES = "Smith, John\nMeyer, Klaus\nWright, Peter\nOtt, Sabine\nWalker, Emma\n"
CODES = "".join(f"BK-{n * 7919 % 1000}-{'ABCDEF'[n % 6]} {n * 37 % 300}.50\n" for n in range(400))


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        (INVOICE, {"de"}),
        ("\n".join(sorted(INVOICE.split("\n"))[2:]), {"de"}),
        (INVOICE * 20, {"de"}),
        ("Milch\nBrot\nKäse\nÄpfel\nEier", {"de"}),
        ("Luftdruck 1013 hPa\nFeuchte 45 %\nWind NW 3\nSicht 10 km", {"de"}),
        (PRICES, {"en"}),
        (PRICES[:200], {"en"}),
        (NAMES, {"de", "en"}),
        (NAMES * 30, {"de", "en"}),
        (CODES, {"de", "en"}),
    ],
)
def test_lists_tables_and_codes_are_in_a_language_that_the_encoder_knows(
    text: str, languages: set[str]
) -> None:
    assert detect_language(text) in languages


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "fr",
            "La commission a adopté la proposition après un long débat. Les crédits seront "
            "disponibles dès janvier et les travaux devraient commencer au printemps. Le maire a "
            "précisé que les habitants du quartier seraient consultés avant le début du chantier.",
        ),
        (
            "nl",
            "De commissie heeft het voorstel na een lang debat aangenomen. Het geld is vanaf "
            "januari beschikbaar en de werkzaamheden beginnen waarschijnlijk in het voorjaar. De "
            "burgemeester zei dat de bewoners van de wijk eerst worden geraadpleegd.",
        ),
        (
            "pl",
            "Komisja przyjęła wniosek po długiej debacie. Środki będą dostępne od stycznia, a "
            "prace powinny rozpocząć się wiosną. Burmistrz zapowiedział, że najpierw odbędą się "
            "konsultacje z mieszkańcami dzielnicy, zwłaszcza w sprawie ruchu i parkowania.",
        ),
        (
            "es",
            "La comisión aprobó la propuesta tras un largo debate. Los fondos estarán disponibles "
            "a partir de enero y las obras deberían comenzar en primavera. El alcalde precisó que "
            "se consultará antes a los vecinos del barrio, sobre todo acerca del tráfico.",
        ),
        (
            "da",
            "Udvalget vedtog forslaget efter en lang debat. Pengene er til rådighed fra januar, og "
            "arbejdet forventes at begynde til foråret. Borgmesteren sagde, at beboerne i "
            "kvarteret først vil blive hørt, især om trafikken og parkeringen.",
        ),
        (
            "lb",
            "D'Kommissioun huet de Virschlag no enger laanger Diskussioun ugeholl. D'Suen sinn ab "
            "Januar disponibel, an d'Aarbechte sollen am Fréijoer ufänken. De Buergermeeschter "
            "huet gesot, datt d'Awunner vum Quartier als éischt gefrot ginn.",
        ),
        (
            "ru",
            "Комиссия после долгого обсуждения приняла предложение. Средства будут доступны с "
            "января, а работы должны начаться весной. Мэр сообщил, что сначала спросят мнение "
            "жителей района, прежде всего о движении и стоянках.",
        ),
    ],
)
def test_paragraphs_in_other_languages_are_known_as_such(language: str, text: str) -> None:
    assert [detect_language(text[:length]) for length in (100, 300)] == [language] * 2


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Wann?", "de"),
        ("Bis wann?", "de"),
        ("Wer war dabei?", "de"),
        ("Was kostet das?", "de"),
        ("Kündigungsfrist?", "de"),
        ("Wo liegt Brooklyn Bridge?", "de"),
        ("Wann traf Johnson Trudeau?", "de"),
        ("Was will Macron in Moskau?", "de"),
        ("Wer schrieb À la recherche du temps perdu?", "de"),
        ("Was will Biden?", "de"),
        ("Woran starb Paul Newman?", "de"),
        ("When did Hans Geiger die?", "en"),
        ("When?", "en"),
        ("Was Wen Jiabao there?", "en"),
        ("俄罗斯为什么召回大使？", "en"),
        ("Почему Россия отозвала посла?", "en"),
        ("Pourquoi la Russie a-t-elle rappelé son ambassadeur ?", "en"),
        ("Où est le sommet ?", "en"),
        ("¿Quién llamó a quién?", "en"),
        ("Waarom heeft Rusland zijn ambassadeur teruggeroepen?", "en"),
        ("När är toppmötet?", "en"),
        ("Dlaczego Rosja odwołała ambasadora?", "en"),
        ("Why did Russia recall its ambassador?", "en"),
        ("Warum hat Russland seinen Botschafter abgezogen?", "de"),
        ("Warum?", "de"),
        ("Who is Putin?", "en"),
        ("Wer ist Putin?", "de"),
        ("42?", "de"),
    ],
)
def test_language_of_a_question_is_one_of_those_offered(question: str, language: str) -> None:
    assert detect_language(question, among=("de", "en")) == language


def test_a_long_text_is_sampled_quickly() -> None:
    detect_language("warm")
    start = time.perf_counter()
    assert detect_language("Der Kreml hat reagiert und geschwiegen. " * 1_000_000) == "de"
    assert time.perf_counter() - start < 1


# ---- Bad input -------------------------------------------------------------------------------

NOT_OURS = "is not a text, Markdown, HTML, PDF or DOCX file"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \r\n\t\n", "is empty"),
        ("a.txt", "\ufeff\u200b".encode("utf-16"), "is empty"),
        ("a.html", b"<html><body></body></html>", "has no text in it"),
        ("a.txt", PNG, NOT_OURS),
        ("a.png", PNG, NOT_OURS),
        ("a.bin", bytes(range(1, 32)) * 50, NOT_OURS),
        ("a.rtf", rb"{\rtf1\ansi Hallo}", NOT_OURS),
        ("a.pdf", b"%PDF-1.7 nonsense", "is damaged, or no PDF file"),
        ("a.docx", b"PK\x03\x04 nonsense", "is damaged, or no DOCX file"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is encrypted, or of an old"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = written(tmp_path / name, content)
    assert error_of(lambda: load(path)).startswith(f"{path} {complaint}")


def test_a_missing_file_a_folder_and_a_pipe(tmp_path: Path) -> None:
    assert error_of(lambda: load(tmp_path / "no.txt")).endswith("no.txt does not exist")
    assert error_of(lambda: load(tmp_path)) == f"{tmp_path} is a folder, not a file"
    os.mkfifo(tmp_path / "pipe")
    assert error_of(lambda: load(tmp_path / "pipe")).endswith("pipe is not a regular file")
    assert "cannot be read" in error_of(lambda: load("a\0b"))
    message = error_of(lambda: list(load_all(["a\0b"], on_skip=pytest.fail)))
    assert message == r"a\x00b does not exist"
    message = error_of(lambda: list(load_all([""], on_skip=pytest.fail)))
    assert message == "the empty path does not exist"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path / "a.txt", "Text")
    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, whom nothing stops
    assert error_of(lambda: load(path)) == f"{path} may not be read: permission denied"


def test_a_name_cannot_break_the_line(tmp_path: Path) -> None:
    message = error_of(lambda: load("no\n\x1b[31mfile\udcff.txt"))
    assert message == r"no\n\x1b[31mfile\udcff.txt does not exist"
    path = written(tmp_path / "new\nline.txt", "1")
    assert load(path).source == r"new\nline.txt"


def test_100_mb_in_one_line_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"Kreml " * 166_667)
    message = error_of(lambda: load(path))
    assert message == f"{path} is larger than the 50 MB that one document may have: split it"


def test_a_large_single_line_within_the_limit_is_read(tmp_path: Path) -> None:
    line = "Der Kreml hat reagiert und geschwiegen, " * 100_000
    assert load(written(tmp_path / "a.txt", line)).text == line.rstrip()


def test_encrypted_pdf_and_pdf_without_text(tmp_path: Path) -> None:
    locked = pdf_of(tmp_path / "locked.pdf", GERMAN, password="secret")
    message = error_of(lambda: load(locked))
    assert message == f"{locked} is encrypted: remove its password first"
    assert "(OCR)" in error_of(lambda: load(pdf_of(tmp_path / "scan.pdf", "")))


# ---- Hostile files ---------------------------------------------------------------------------


def test_a_parser_over_its_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pdf_of(tmp_path / "a.pdf", GERMAN)
    monkeypatch.setattr(sandbox, "PARSE_SECONDS", 0.5)
    # A child that would never answer: it cannot load its parser, and sleeps instead.
    written(tmp_path / "pypdfium2.py", "import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert error_of(lambda: load(path)) == f"{path} could not be read within 0.5 seconds"


def test_brackets_that_are_never_closed_are_left_to_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.md", "[a" * 30_000)  # markdown-it takes half a minute
    monkeypatch.setattr(sandbox, "PARSE_SECONDS", 0.5)
    assert error_of(lambda: load(path)) == f"{path} could not be read within 0.5 seconds"


def test_a_parser_that_crashes_takes_only_itself_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pdf_of(tmp_path / "a.pdf", GERMAN)
    written(tmp_path / "pypdfium2.py", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert error_of(lambda: load(path)).endswith("its parser broke off")


def test_a_parser_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pdf_of(tmp_path / "a.pdf", GERMAN)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    reason = "its parser cannot be started (No such file or directory)"
    assert error_of(lambda: load(path)) == f"{path} cannot be read: {reason}"


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux only")
def test_a_zip_bomb_meets_the_memory_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Docx().save(str(tmp_path / "plain.docx"))
    path = tmp_path / "bomb.docx"
    with (
        zipfile.ZipFile(tmp_path / "plain.docx") as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            bomb = name == "word/document.xml"
            new.writestr(name, b" " * 300_000_000 if bomb else old.read(name))
    monkeypatch.setattr(sandbox, "PARSE_MEMORY", 250_000_000)
    assert error_of(lambda: load(path)).endswith("needs more than 238 MB of memory to be read")


def test_an_xml_entity_in_a_docx_reaches_no_file(tmp_path: Path) -> None:
    Docx().save(str(tmp_path / "plain.docx"))
    secret = written(tmp_path / "secret.txt", "SECRET")
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(tmp_path / "plain.docx") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "word/document.xml":
                entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'.encode()
                head, body = data.split(b"?>", 1)
                text = b"<w:body><w:p><w:r><w:t>here &e;</w:t></w:r></w:p>"
                data = head + b"?>" + entity + body.replace(b"<w:body>", text)
            new.writestr(name, data)
    assert load(path).text == "here"


def test_the_parsers_are_not_imported_until_they_are_needed() -> None:
    code = "import sys, index.load; print(*sys.modules)"
    root = Path(module.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    heavy = {"torch", "numpy", "trafilatura", "pypdfium2", "docx", "lxml", "py3langid", "gradio"}
    assert not heavy & set(run.stdout.decode().split())


# ---- Folders ---------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_and_what_is_bad_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    written(tmp_path / "z.txt", "Letzter Text.")
    written(tmp_path / "a.md", "# Erster")
    written(tmp_path / "sub" / "m.txt", "Mittlerer Text.")
    written(tmp_path / "b.png", PNG)
    written(tmp_path / "c.pdf", b"%PDF-1.4 broken")
    written(tmp_path / ".hidden.txt", "Unsichtbar.")
    written(tmp_path / ".git" / "config.txt", "Unsichtbar.")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    skipped: list[str] = []
    documents = list(load_all([tmp_path], on_skip=skipped.append))
    assert [document.source for document in documents] == ["a.md", "sub/m.txt", "z.txt"]
    assert skipped == [
        f"{tmp_path}/b.png {NOT_OURS}",
        f"{tmp_path}/c.pdf is damaged, or no PDF file",
        f"{tmp_path}/dangling.txt does not exist",
    ]


def test_a_folder_with_nothing_readable(tmp_path: Path) -> None:
    written(tmp_path / "b.png", PNG)
    skipped: list[str] = []
    nothing = f"{tmp_path} has no file in it that can be read"
    reading = [str(tmp_path)]
    message = error_of(lambda: list(load_all(reading, on_skip=skipped.append)))
    assert message == f"{nothing}: {tmp_path}/b.png {NOT_OURS}"
    for name in "cdefg":
        written(tmp_path / f"{name}.txt", "")
    message = error_of(lambda: list(load_all(reading, on_skip=skipped.append)))
    assert message.endswith(f"; {tmp_path}/c.txt is empty; {tmp_path}/d.txt is empty; and 3 more")
    assert skipped == []  # one line in all
    (tmp_path / "hollow").mkdir()
    hollow = [tmp_path / "hollow"]
    assert error_of(lambda: list(load_all(hollow, on_skip=pytest.fail))).endswith("can be read")


def test_named_files_must_be_good_and_are_looked_for_first(tmp_path: Path) -> None:
    skipped: list[str] = []
    good = written(tmp_path / "good.txt", GERMAN)
    paths = [good, tmp_path / "missing.txt"]
    assert "missing.txt does not exist" in error_of(
        lambda: next(load_all(paths, on_skip=skipped.append))
    )
    bad = written(tmp_path / "bad.txt", b"")
    reading = load_all([good, bad], on_skip=skipped.append)
    assert next(reading).source == "good.txt"
    assert error_of(lambda: next(reading)) == f"{bad} is empty"
    assert skipped == []


def test_links_are_followed_within_a_folder_and_named_where_they_lead_out(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    secret = written(tmp_path / "other" / "secret.txt", "Geheim.")
    inner = written(docs / "sub" / "z.txt", "Innen.")
    (docs / "a.txt").symlink_to(inner)
    (docs / "b.txt").symlink_to(secret)
    (docs / "c").symlink_to(docs / "sub")
    (docs / "up").symlink_to("..")
    skipped: list[str] = []
    documents = list(load_all([docs], on_skip=skipped.append))
    assert [(d.source, d.text) for d in documents] == [("a.txt", "Innen.")]
    reason = "leads out of the folder: name it itself to read it"
    assert skipped == [f"{docs}/b.txt {reason}", f"{docs}/up {reason}"]
    assert [d.text for d in load_all([docs / "b.txt"], on_skip=pytest.fail)] == ["Geheim."]


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(12)]  # along every path: 12! of them
    for name in names:
        (tmp_path / name).mkdir()
        written(tmp_path / name / "a.txt", f"In {name}.")
        for other in set(names) - {name}:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    documents = list(load_all([tmp_path], on_skip=pytest.fail))
    assert sorted(d.text for d in documents) == sorted(f"In {name}." for name in names)


# ---- Sources ---------------------------------------------------------------------------------


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three files of one name."""
    for name in ("here", "here/docs", "here/docs/old"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "report.txt", f"Der Text in {name}.")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("paths", "sources"),
    [
        (["report.txt"], ["report.txt"]),
        (["docs/report.txt", "report.txt"], ["report.txt", "here/report.txt"]),
        (["report.txt", "docs/report.txt"], ["report.txt", "docs/report.txt"]),
        (["docs"], ["old/report.txt", "report.txt"]),
        (["docs", "docs/report.txt", "./docs/../docs"], ["old/report.txt", "report.txt"]),
        (["docs/old/report.txt", "docs"], ["report.txt", "docs/report.txt"]),
        (["docs/old", "docs", "."], ["report.txt", "docs/report.txt", "here/report.txt"]),
    ],
)
def test_every_file_is_read_once_under_a_source_of_its_own(
    reports: Path, paths: list[str], sources: list[str]
) -> None:
    documents = list(load_all(paths, on_skip=pytest.fail))
    assert [document.source for document in documents] == sources
    assert len({document.text for document in documents}) == len(sources)


def test_sources_are_the_same_over_several_calls_as_in_one(reports: Path) -> None:
    taken = {"given as a document": ""}

    class Shelf:
        def source_of(self, path: str) -> str | None:
            return next((source for source, real in taken.items() if real == path), None)

        def has(self, source: str) -> bool:
            return source in taken

        def unchanged(self, path: str, raw: str) -> None:
            return None

    def call(paths: list[str]) -> list[str]:
        documents = list(load_all(paths, on_skip=pytest.fail, shelf=Shelf()))
        taken.update({document.source: document.path for document in documents})
        return [document.source for document in documents]

    calls = [["docs/report.txt"], ["report.txt"], ["docs"], ["docs/old/report.txt", "report.txt"]]
    assert [call(paths) for paths in calls] == [
        ["report.txt"],
        ["here/report.txt"],
        ["old/report.txt", "report.txt"],
        ["old/report.txt", "here/report.txt"],
    ]
    assert taken == {
        "given as a document": "",
        "report.txt": str(reports / "docs" / "report.txt"),
        "here/report.txt": str(reports / "report.txt"),
        "old/report.txt": str(reports / "docs" / "old" / "report.txt"),
    }


def test_what_could_not_be_read_takes_no_source(reports: Path) -> None:
    written(reports / "docs" / "old" / "report.txt", PNG)
    skipped: list[str] = []
    folders = ["docs/old/..", "docs/old"]
    found = [document.source for document in load_all(folders, on_skip=skipped.append)]
    assert found == ["report.txt"]
    assert len(skipped) == 1


# ---- URLs ------------------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    """A web server with one page for every case."""

    def do_GET(self) -> None:
        page = PAGE.encode("utf-8")
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/page": (200, {"Content-Type": "text/html; charset=utf-8"}, page),
            "/a.md": (200, {"Content-Type": "text/plain"}, b"# Head\n\n*Body* of it."),
            "/text.html": (200, {"Content-Type": "text/plain"}, b"<b>as it is</b>"),
            "/latin": (
                200,
                {"Content-Type": "text/plain; charset=windows-1252"},
                GERMAN.encode("cp1252"),
            ),
            "/%C3%BCber?q=%C3%A4": (200, {"Content-Type": "text/plain"}, GERMAN.encode()),
            "/wide": (
                200,
                {"Content-Type": "text/plain; charset=utf-16le"},
                GERMAN.encode("utf-16-le"),
            ),
            "/bytes": (200, {"Content-Type": "application/octet-stream"}, b"%PDF-1.7 nonsense"),
            "/bytes.docx": (200, {"Content-Type": "application/octet-stream"}, b"PK nonsense"),
            "/bytes.txt": (200, {"Content-Type": "application/octet-stream"}, b"Ein Text, lang."),
            "/image": (200, {"Content-Type": "image/png"}, PNG),
            "/to-page": (302, {"Location": "/page"}, b""),
            "/to-itself": (302, {"Location": "/to-itself"}, b""),
            "/to-file": (302, {"Location": "file:///etc/passwd"}, b""),
            "/to-ftp": (302, {"Location": "ftp://127.0.0.1/x"}, b""),
            "/short": (200, {"Content-Type": "text/plain", "Content-Length": "99"}, b"Ein Anf"),
            "/zipped": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, b"x"),
        }
        status, headers, body = answers.get(self.path, (404, {}, b"no"))
        if self.path == "/drip":
            status, headers = 200, {"Content-Type": "text/plain"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        for _ in range(50 if self.path == "/drip" else 0):
            self.wfile.write(b"drop ")
            self.wfile.flush()
            time.sleep(0.05)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            return  # the client had enough

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_web_page_is_read_by_its_content_type(site: str) -> None:
    document = load_url(f"{site}/page")
    assert document.source == f"{site}/page"
    assert document.title == "Kreml reagiert"
    assert "Startseite" not in document.text
    assert load_url(f"{site}/to-page").text == document.text
    assert load_url(f"{site}/a.md").text == "Head\n\nBody of it."
    assert load_url(f"{site}/text.html").text == "<b>as it is</b>"
    assert load_url(f"{site}/latin").text == GERMAN
    assert load_url(f"{site}/wide").text == GERMAN
    assert load_url(f"{site}/über?q=ä#part").text == GERMAN


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/image", f"{NOT_OURS} (image/png)"),
        ("/missing", "cannot be fetched: 404 Not Found"),
        ("/to-file", "cannot be fetched"),
        ("/to-ftp", "cannot be fetched: it redirects to something that is not a web address"),
        ("/to-itself", "cannot be fetched: it redirects in a circle, or too often"),
        ("/zipped", "came compressed (gzip), unasked"),
        ("/short", "broke off after 7 of 99 bytes"),
    ],
)
def test_web_addresses_that_cannot_be_read(site: str, path: str, complaint: str) -> None:
    assert error_of(lambda: load_url(site + path)).startswith(f"{site}{path} {complaint}")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("file:///etc/passwd", "is not an http or https address"),
        ("ftp://example.org/a", "is not an http or https address"),
        ("http://", "is not an http or https address"),
        ("http://[::1", "cannot be fetched"),
        ("http://127.0.0.1:1/", "cannot be fetched"),
        ("http://127.0.0.1:99999/", "cannot be fetched"),
    ],
)
def test_addresses_that_are_none(url: str, complaint: str) -> None:
    assert error_of(lambda: load_url(url)).startswith(f"{url} {complaint}")


def test_a_password_in_an_address_is_neither_sent_nor_repeated() -> None:
    message = error_of(lambda: load_url("http://me:hush@127.0.0.1:1/a"))
    assert "password" in message
    assert "hush" not in message


def test_a_server_that_drips_is_left(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "URL_SECONDS", 0.3)
    assert error_of(lambda: load_url(f"{site}/drip")).endswith("did not answer within 0.3 seconds")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_takes_over_a_second_shows_a_bar_on_a_terminal(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a.txt", GERMAN)
    written(tmp_path / "b.pdf", b"")
    paths = [tmp_path, f"{site}/drip"]
    for terminal in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", terminal)
        skipped: list[str] = []
        documents = list(load_all(paths, on_skip=skipped.append, urls=True))
        assert len(documents) == 2
        assert len(skipped) == 1
        shown = terminal.getvalue()
        if not terminal.isatty():
            assert shown == ""
            continue
        assert re.search(r"reading: .* 2/3 .*file/s, http://127.0.0.1", shown)
        assert re.search(r"fetching: \d+B \[00:01", shown)
        assert shown.endswith("\r")  # gone at the end
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert len(list(load_all([tmp_path], on_skip=skipped.append))) == 1
    assert "reading" not in sys.stderr.getvalue()  # too quick for one


def test_a_page_over_the_limit_is_left(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._LIMITS, "html", 100)
    assert "is larger than" in error_of(lambda: load_url(f"{site}/page"))


def test_the_limit_is_that_of_what_the_bytes_are(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._LIMITS, "text", 10)
    for page in ("bytes", "bytes.docx"):
        assert "is damaged, or no" in error_of(lambda page=page: load_url(f"{site}/{page}"))
    assert "is larger than" in error_of(lambda: load_url(f"{site}/bytes.txt"))


def test_addresses_among_paths_only_where_they_are_allowed(site: str) -> None:
    skipped: list[str] = []
    url = f"{site}/page"
    assert [d.source for d in load_all([url], on_skip=skipped.append, urls=True)] == [url]
    message = error_of(lambda: list(load_all([url], on_skip=skipped.append)))
    assert message == f"{url} is a web address, not a file"

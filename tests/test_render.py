"""ui.render: nothing shown is read as HTML or Markdown, and exactly the quotes are marked."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from index.types import Document, Hit, Passage, Span
from rag.answer import Answer, Citation
from rag.check import KINDS, Claim, Flag
from ui import render
from ui.render import Turn

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "<a href='javascript:alert(1)'>click</a>",
    "</blockquote></figure></section><iframe src='//evil.example'>",
    "<style>*{display:none}</style>",
    "<!-- --><form action=//evil.example><input name=x>",
    "![x](http://evil.example/x.png) [y](javascript:alert(1)) **bold** `code`",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "${alert(1)} {{alert(1)}} @children",
    "\ud800 lone surrogate",
    "\x1b]0;controls\x07",
]
ALLOWED = {"a", "b", "blockquote", "div", "figcaption", "figure", "li", "mark", "p", "section"}
ALLOWED |= {"small", "span", "sup", "ul"}
ATTRIBUTES = {"class", "dir", "id", "href", "lang", "role", "aria-label", "aria-live"}


class _Elements(HTMLParser):
    """The elements of a piece of HTML, its text, and the texts of its marks."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.marks: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "mark" in self._open:
            self.marks[-1] += data


def _cite(
    document: Document, marker: int, quote: str, passage: tuple[int, int] | None = None
) -> Citation:
    start = document.text.index(quote)
    left, right = passage or (0, len(document.text))
    return Citation(marker, document, start, start + len(quote), quote, left, right, 0.5)


def _answer(
    text: str,
    *citations: Citation,
    question: str = "Why?",
    answered: bool = True,
    passages: tuple[Hit, ...] = (),
    language: str = "en",
    notice: str = "",
) -> Answer:
    return Answer(
        question=question,
        language=language,
        answered=answered,
        text=text,
        mode="extractive",
        citations=citations,
        passages=passages,
        confidence=0.9,
        seconds={},
        notice=notice,
    )


def _checked(answer: Answer, *claims: Claim, understood: str = "") -> Answer:
    return replace(answer, claims=claims, understood=understood)


def _shown(*turns: Turn) -> _Elements:
    return _Elements(render.conversation(turns, "en"))


def _only_ours(elements: _Elements) -> None:
    for tag, attributes in elements.tags:
        assert tag in ALLOWED
        assert attributes.keys() <= ATTRIBUTES
        assert re.fullmatch(r"#t\d+c\d+", attributes.get("href") or "#t0c0")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_field_is_shown_as_the_text_it_is(hostile: str) -> None:
    # A document's text holds neither half characters nor controls.
    visible = re.sub("[\ud800\x1b\x07]", "\ufffd", hostile)
    text = f"Before. {visible} After."
    document = Document(text, source=hostile, title=hostile, language=hostile)
    citation = _cite(document, 1, visible)
    hit = Hit(Passage(document, 0, len(text)), 0.5, {hostile: 1})
    answered = _answer(f"{hostile} [1]", citation, question=hostile, notice=hostile)
    refused = _answer(hostile, question=hostile, answered=False, passages=(hit,), language=hostile)
    shown = _shown(
        Turn(hostile, answer=answered),
        Turn(hostile, answer=refused),
        Turn(hostile, partial=hostile),
        Turn(hostile, error=hostile),
    )
    _only_ours(shown)
    # Questions 4, partial and error 2, answer 1, notice 1, title 2, source 2, passage 2, refusal 1.
    assert shown.text.count(visible) == 15
    assert shown.marks == [visible]

    for html in (
        render.documents([document, document], [document], hostile),
        render.status(hostile, [hostile]),
    ):
        elements = _Elements(html)
        _only_ours(elements)
        assert visible in elements.text


def test_exactly_the_quote_at_its_offsets_is_marked() -> None:
    text = "Echo. Echo. Echo. Tail & <b>."
    document = Document(text, "echo.txt", "Echo")
    citation = Citation(1, document, 6, 11, "Echo.", 0, 17, 0.5)
    html = render.conversation([Turn("?", answer=_answer("Echo. [1]", citation))], "en")
    quoted = re.search(r"<blockquote[^>]*>(.*?)</blockquote>", html)
    assert quoted is not None
    before, mark, after = re.split(r"</?mark>", quoted[1])
    assert unescape(re.sub(r"<sup.*?</sup>", "", before)) == text[:6]
    assert (mark, after) == ("Echo.", text[11:17])


def test_citations_of_one_passage_share_it_and_may_touch_or_overlap() -> None:
    text = "One. Two. Three. Four."
    document = Document(text, "n.txt", "Numbers")
    citations = [
        _cite(document, 1, "One."),
        _cite(document, 2, "Two. Three."),
        _cite(document, 3, "Three."),
        _cite(document, 4, "Four.", passage=(5, len(text))),
    ]
    answer = _answer("One. [1] Two. Three. [2] Three. [3] Four. [4]", *citations)
    shown = _shown(Turn("?", answer=answer))
    assert shown.marks == ["One.", "Two. ", "Three.", "Four."]
    assert [tag for tag, _ in shown.tags].count("blockquote") == 2
    targets = [attributes["id"] for tag, attributes in shown.tags if tag == "sup"]
    links = [attributes["href"] for tag, attributes in shown.tags if tag == "a"]
    assert targets == ["t0c1", "t0c2", "t0c3", "t0c4"]
    assert links == [f"#{target}" for target in targets]


def test_brackets_that_belong_to_a_quote_are_no_citation() -> None:
    document = Document("As shown\nin [1], it is. So [2].", "paper.txt", "Paper")
    quote = "As shown\nin [1], it is."
    text = "As shown in [1], it is. [1] and [7]"
    shown = _shown(Turn("?", answer=_answer(text, _cite(document, 1, quote))))
    assert [tag for tag, _ in shown.tags].count("a") == 1
    assert text in shown.text


def test_page_and_offsets_are_told_in_the_language_of_the_question() -> None:
    document = Document("Seite eins. Seite zwei.", "a.pdf", "A", pages=(0, 12))
    citation = _cite(document, 1, "Seite zwei.", passage=(12, 23))
    german = render.terminal(_answer("Seite zwei. [1]", citation, language="de"))
    english = render.terminal(_answer("Seite zwei. [1]", citation))
    assert german == "Seite zwei. [1]\n\n[1] a.pdf, Seite 2, Zeichen 12–23\n    „Seite zwei.“"
    assert english == "Seite zwei. [1]\n\n[1] a.pdf, page 2, characters 12–23\n    “Seite zwei.”"


def test_a_refusal_shows_the_nearest_passages() -> None:
    document = Document("One. Two. Three. Four.", "n.txt", "N")
    hits = tuple(Hit(Passage(document, i, i + 4), 0.1) for i in (0, 5, 10, 17))
    answer = _answer("The documents do not say.", answered=False, passages=hits)
    text = render.terminal(answer)
    assert text.startswith("The documents do not say.\n\n  · n.txt, characters 0–4\n    “One.”\n")
    assert text.count("n.txt") == render.NEAREST
    shown = _shown(Turn("?", answer=answer))
    assert [tag for tag, _ in shown.tags].count("blockquote") == render.NEAREST
    assert shown.marks == []


def test_of_the_nearest_passages_the_terminal_gets_a_sentence_or_a_little() -> None:
    long = "word " * 99 + "end."
    document = Document(f"First. Second. {long}", "n.txt", "N")
    whole = Passage(document, 0, len(document.text))
    hits = (Hit(whole, 0.2, nearest=Span(7, 14)), Hit(whole, 0.1, nearest=Span(15, 514)))
    text = render.terminal(_answer("No.", answered=False, passages=hits))
    cut = ("word " * 48).strip()
    assert text == (
        "No.\n\n  · n.txt, characters 7–14\n    “Second.”"
        f"\n\n  · n.txt, characters 15–{15 + len(cut)}\n    “{cut} …”"
    )


def test_every_line_of_a_quote_is_indented() -> None:
    document = Document("Rome\nParis", "n.txt", "N")
    text = render.terminal(_answer("Rome Paris [1]", _cite(document, 1, document.text)))
    assert text.endswith("\n    “Rome\n    Paris”")


def test_the_terminal_gets_no_control_characters() -> None:
    evil = "\x1b]0;owned\x07 \x1b[2J \x9b31m \r\x08 tab\tand\nline"
    document = Document(evil, evil, evil)
    text = render.terminal(_answer(f"{evil} [1]", _cite(document, 1, evil)))
    assert re.search(r"[^\n\t\x20-\x7e\xa0-\uffff]", text) is None
    assert "tab\tand\nline" in text


@pytest.mark.parametrize(
    ("accept", "language"),
    [("de", "de"), ("de-AT,de;q=0.9,en;q=0.8", "de"), ("en-GB,de;q=0.5", "en"), ("", "en")],
)
def test_the_interface_speaks_the_first_language_asked_for(accept: str, language: str) -> None:
    assert render.preferred_language(accept) == language


def test_what_is_not_supported_is_marked_and_said() -> None:
    document = Document("Rome. Paris.", "n.txt", "N")
    text = "Rome [1]. London [1]. “Bonn” [1]"
    flag = Flag("invented", "“Bonn”", 22, 28)
    answer = _checked(
        _answer(text, _cite(document, 1, "Rome")),
        Claim(0, 9, (1,), "supported", 1.0),
        Claim(10, 21, (1,), "weak", 0.4),
        Claim(22, 32, (1,), "unsupported", 0.1, (flag,)),
        understood="Where? (Rome)",
    )
    shown = _shown(Turn("Where?", answer=answer))
    _only_ours(shown)
    classes = [attributes.get("class") for tag, attributes in shown.tags if tag == "span"]
    assert classes == ["weak", "unsupported", None]
    assert [tag for tag, _ in shown.tags].count("a") == 3
    for said in (shown.text, render.terminal(answer)):
        assert "London [1]. (weakly supported)" in said
        assert "“Bonn” [1] (not supported by what it cites)" in said
        assert "“Bonn”: a quotation that stands in no cited passage" in said
        assert "Understood as: Where? (Rome)" in said
        assert said.count("supported") == 2
    assert not answer.to_json().get("trace")


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_kind_of_flag_has_its_words(language: str) -> None:
    for key in (*KINDS, "weak", "unsupported"):
        assert render.word(key, language)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_claims_flags_and_the_understood_question_are_text(hostile: str) -> None:
    visible = re.sub("[\ud800\x07\x1b]", "\N{REPLACEMENT CHARACTER}", hostile)
    claim = Claim(0, len(hostile), (), "weak", 0.5, (Flag("name", hostile, 0, len(hostile)),))
    shown = _shown(Turn("?", answer=_checked(_answer(hostile), claim, understood=hostile)))
    _only_ours(shown)
    assert shown.text.count(visible.strip('"')) == 3


@pytest.mark.parametrize(("confidence", "doubted"), [(0.49, True), (0.5, False)])
def test_an_answer_that_is_likely_wrong_comes_with_a_word_of_doubt(
    confidence: float, doubted: bool
) -> None:
    text = "Es war Mai."
    cited = _cite(Document(text, "a.txt", "A", "de"), 1, text)
    answer = replace(_answer(f"{text} [1]", cited), confidence=confidence)
    shown = render.terminal(answer), render.conversation([Turn("When?", answer)], "en")
    assert [("Doubtful" in found) for found in shown] == [doubted, doubted]
    by_keywords = replace(answer, by_keywords=True)  # no chance: a share of words
    assert "Doubtful" not in render.terminal(by_keywords)

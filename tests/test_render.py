"""ui.render and ui.source: nothing shown is read as HTML or Markdown, and exactly the quotes
are marked."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.text import canonical
from index.types import Document, Hit, Passage, Span
from rag.answer import Answer, Citation
from rag.check import KINDS, SUPPORT, Claim, Flag
from rag.disagree import Disagreement
from rag.features import FEATURES
from rag.llm import LanguageModel
from ui import render, source
from ui.phrases import known, phrase, preferred
from ui.render import Turn
from ui.source import marks

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
ALLOWED = set(
    "a article b blockquote br button caption dd details div dl dt h1 h2 h3 header i input label li"
    " mark nav p q section small span summary sup table tbody td th thead tr ul wbr".split()
)
ATTRIBUTES = set(
    "aria-current aria-describedby aria-expanded aria-hidden aria-label aria-live aria-pressed"
    " autocomplete class dir disabled hidden href id lang maxlength role scope tabindex title"
    " type".split()
)


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
        if tag not in ("br", "input", "wbr"):
            self._open.append(tag)
        if tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text += data
        if "mark" in self._open and "sup" not in self._open:
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
        names = {name for name in attributes if not name.startswith("data-")}
        assert names <= ATTRIBUTES
        assert attributes.get("href") in (None, "#source")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_field_is_shown_as_the_text_it_is(hostile: str) -> None:
    # A document's text holds neither half characters nor controls.
    visible = re.sub("[\ud800\x1b\x07]", "\ufffd", hostile)
    text = f"Before. {visible} After."
    document = Document(text, source=hostile, title=hostile, language=hostile)
    citation = _cite(document, 1, visible)
    hit = Hit(Passage(document, 0, len(text)), 0.5, {hostile: 1})
    trace = {
        "question": hostile,
        "hits": [{"source": hostile, "start": 0, "end": 1, "score": 1, "ranks": {hostile: 1}}],
        "sentences": [
            {"source": hostile, "start": 0, "end": 1, "chance": 0.5, "reasons": {hostile: 1.0}}
        ],
        "confidence": 0.5,
        "answers": True,
        "llm": {hostile: hostile},
    }
    answered = _answer(f"{hostile} [1]", citation, question=hostile, notice=hostile)
    answered = replace(answered, trace=trace, seconds={hostile: 1.0})
    refused = _answer(hostile, question=hostile, answered=False, passages=(hit,), language=hostile)
    for turn, times in (
        # Question, text, notice, the tip's quote and source; of why: question, two sources, name
        # of the channel and of the reason, the model's twice, the stage.
        (Turn(hostile, answer=answered), 13),
        # Question, text, the passage and its source.
        (Turn(hostile, answer=refused), 4),
        (Turn(hostile, partial=hostile, waiting=hostile), 3),
        (Turn(hostile, error=hostile), 2),
    ):
        turn = replace(turn, rated="", problem=hostile)
        shown = _Elements(render.conversation([turn], "en", rating=True))
        _only_ours(shown)
        assert shown.text.count(visible) == times + (turn.answer is not None)

    marked = marks(answered, 3)
    for html in (
        render.documents([document, document], {document.id}, hostile),
        render.status(hostile, [hostile]),
        render.adding(render.Adding((document,), (hostile,)), hostile),
        render.adding(render.Adding(reading=hostile, total=2), hostile),
        render.adding(render.Adding(waiting=((1, hostile),)), hostile),
        render.conversation((), hostile, examples=[hostile]),
        render.state(hostile, None, (), on=True, place=hostile, kept=hostile, language=hostile),
        source.pane(document, marked, hostile, key=hostile, active=hostile),
    ):
        elements = _Elements(html)
        _only_ours(elements)
        assert visible in elements.text
    assert elements.marks == [visible]


def _pane(document: Document, *citations: Citation, **how: Any) -> _Elements:
    marked = marks(_answer("?", *citations), 3)
    return _Elements(source.pane(document, marked, "en", **how))


def test_exactly_the_quote_at_its_offsets_is_marked() -> None:
    text = "Echo. Echo. Echo. Tail & <b>."
    document = Document(text, "echo.txt", "Echo")
    citation = Citation(1, document, 6, 11, "Echo.", 0, 17, 0.5)
    html = source.pane(document, marks(_answer("Echo. [1]", citation), 3), "en")
    shown = re.search(r"<article[^>]*><p>(.*?)</p>", html)
    assert shown is not None
    before, mark, after = re.split(r"<mark[^>]*>|</mark>", re.sub(r"<sup>.*?</sup>", "", shown[1]))
    assert (before, mark, unescape(after)) == (text[:6], "Echo.", text[11:])


def test_citations_may_touch_or_overlap() -> None:
    text = "One. Two. Three. Four."
    document = Document(text, "n.txt", "Numbers")
    citations = [
        _cite(document, 1, "One."),
        _cite(document, 2, "Two. Three."),
        _cite(document, 3, "Three."),
        _cite(document, 4, "Four.", passage=(5, len(text))),
    ]
    shown = _pane(document, *citations)
    assert shown.marks == ["One.", "Two. ", "Three.", "Four."]
    covering = [attributes["data-m"] for tag, attributes in shown.tags if tag == "mark"]
    assert covering == ["1", "2", "2 3", "4"]
    answer = _answer("One. [1] Two. Three. [2] Three. [3] Four. [4]", *citations)
    links = [attrs for tag, attrs in _shown(Turn("?", answer=answer)).tags if tag == "a"]
    assert [attrs["data-mark"] for attrs in links] == ["1", "2", "3", "4"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("ab .\n#-<&é|", max_size=12), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), max_size=5),
    st.sampled_from([0, 7, 1000]),
)
def test_the_whole_text_and_each_quote_are_there(
    lines: list[str], spans: list[tuple[int, int]], part: int
) -> None:
    text = canonical("x" + "\n".join(lines))
    document = Document(text, "t.txt", "T", pages=(0, len(text) // 2))
    citations = [
        Citation(n, document, start, min(start + length, len(text)),
                 text[start : start + length], 0, len(text), 0.5)
        for n, (start, length) in enumerate(spans, 1)
        if start < len(text)
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "PART", part or source.PART)
        parts = len(source._parts(text))
        told, quotes = "", dict.fromkeys((c.marker for c in citations), "")
        for number in range(parts):
            html = source.pane(document, marks(_answer("?", *citations), 3), "en", part=number)
            body = re.search("<article[^>]*>(.*)</article>", html, re.DOTALL)
            assert body is not None
            bare = re.sub(r"<sup>.*?</sup>|<span class=\"page\">.*?</span>", "", body[1])
            _only_ours(_Elements(html))
            told += unescape(re.sub("<[^>]*>", "", bare))
            for labels, piece in re.findall(
                r'<mark[^>]*data-m="([^"]*)"[^>]*>(.*?)</mark>', bare, re.DOTALL
            ):
                for label in labels.split():
                    quotes[int(label)] += unescape(piece)
    assert "".join(told.split()) == "".join(text.split())
    for citation in citations:
        assert "".join(quotes[citation.marker].split()) == "".join(citation.quote.split())


def test_structure_is_read_off_blank_and_short_lines() -> None:
    wrapped = "This prose was wrapped by hand at about sixty characters, and\n" * 2 + "ends here."
    text = f"A heading\n\n{wrapped}\n\nmilk\neggs\nflour\n\nThe end."
    shown = _pane(Document(text, "n.txt", "N"))
    blocks = [(tag, a.get("class")) for tag, a in shown.tags if tag in ("h3", "p")]
    assert blocks[-4:] == [("h3", None), ("p", None), ("p", "lines"), ("p", None)]


def test_pages_are_told_where_they_begin() -> None:
    document = Document("Page one. Page two.", "a.pdf", "A", pages=(0, 10))
    html = source.pane(document, (), "de")
    assert 'Page one. <span class="page">Seite 2</span>Page two.' in html
    assert "2 Seiten" in html


def test_a_long_document_comes_in_parts_and_opens_at_the_citation() -> None:
    text = "\n\n".join(f"Paragraph {n} says {n * n}." for n in range(40_000))
    document = Document(text, "long.txt", "Long")
    quote = "Paragraph 39000 says 1521000000."
    shown = _pane(document, _cite(document, 1, quote))
    assert shown.marks == [quote]
    assert len(shown.text) < 2 * source.PART
    parts = [
        attributes["data-part"]
        for tag, attributes in shown.tags
        if tag == "div" and "data-part" in attributes
    ]
    first = _pane(document, _cite(document, 1, quote), part=0)
    assert "Paragraph 0 says 0." in first.text
    assert first.marks == []
    assert int(parts[0] or 0) > 0


def test_marks_are_stepped_through_as_they_stand_and_called_by_their_labels() -> None:
    document = Document("One. Two. Three.", "n.txt", "N")
    marked = [
        *marks(_answer("?", _cite(document, 1, "Three."), _cite(document, 2, "One.")), 3),
        source.Mark(source.RIGHT, document, 5, 9, near=True),
        source.Mark("b", document, 7, 9, near=True),
    ]
    shown = _Elements(source.pane(document, marked, "de", key="t1", active="1"))
    (steps,) = (a for _, a in shown.tags if a.get("class") == "steps")
    assert steps["data-labels"] == "2 ✓ b 1"
    assert steps["data-names"] == "Beleg [2]|Richtige Antwort ✓|Nahe Stelle [b]|Beleg [1]"
    assert "Stelle – von 4" in shown.text
    assert not any("disabled" in a for _, a in shown.tags)


def test_of_several_documents_the_pane_lists_what_is_cited_from_each() -> None:
    one, two = Document("One.", "1.txt", "First"), Document("Two. Three.", "2.txt", "Second")
    cited = [_cite(one, 1, "One."), _cite(two, 2, "Two."), _cite(two, 3, "Three.")]
    shown = _pane(two, *cited)
    listed = [a for tag, a in shown.tags if a.get("class") == "cited-from"]
    assert [a["data-mark"] for a in listed] == ["1", "2"]
    assert [a.get("aria-current") for a in listed] == [None, "true"]
    assert shown.marks == ["Two.", "Three."]


def test_a_refusal_is_copied_with_its_passages() -> None:
    document = Document("One is here. Two is there.", "n.txt", "Numbers")
    hits = tuple(Hit(Passage(document, i, j), 0.1) for i, j in ((0, 12), (13, 26)))
    turn = Turn("Three?", answer=_answer("Not said.", answered=False, passages=hits))
    text = render.markdown(turn, 2)
    assert "[a] Numbers (n.txt, characters 0–12) “One is here.”" in text
    assert "[b] Numbers (n.txt, characters 13–26) “Two is there.”" in text
    assert "Two" not in render.markdown(turn, 1)
    assert "Copy with passages" in _shown(turn).text


def test_while_files_are_read_it_is_said_what_became_of_each() -> None:
    document = Document("One.", "one.txt", "One")
    found = render.Adding((document,), ("two.pdf is damaged",), "three.txt", 3, 4, 7, ((8, "4"),))
    shown = _Elements(render.adding(found, "en"))
    assert "Added one.txt" in shown.text
    assert "two.pdf is damaged" in shown.text
    assert "Reading three.txt (3 of 4) …" in shown.text
    assert "Waiting to be read: 4 …" in shown.text
    buttons = [attributes for tag, attributes in shown.tags if tag == "button"]
    names = ["Leave out three.txt", "Leave out 4", "Close"]
    assert [button["aria-label"] for button in buttons] == names
    assert [button.get("data-leave-out") for button in buttons] == ["7", "8", None]


def test_the_page_of_documents_names_the_button_that_it_has() -> None:
    for language in ("en", "de"):
        said = render.documents([], set(), language)
        assert phrase("add file", language) not in said
        assert phrase("drop here too", language) in _Elements(said).text


def test_copied_sentences_keep_the_space_between_them() -> None:
    document = Document("Ziehen lassen: 8:30 Minuten. Für alle gilt das.", "n.txt", "N", "de")
    first, second = "Ziehen lassen: 8:30 Minuten.", "Für alle gilt das."
    cited = _cite(document, 1, first), _cite(document, 2, second)
    turn = Turn("Wie lange?", answer=_answer(f"{first} [1] {second} [2]", *cited, language="de"))
    assert f"\n\n{first} [1] {second} [2]\n\n" in render.markdown(turn)


@pytest.mark.parametrize("begins", ["1. list", "2) list", "- list", "+ list", "= x"])
def test_a_copied_answer_begins_as_it_does(begins: str) -> None:
    from markdown_it import MarkdownIt

    html = MarkdownIt().render(render.markdown(Turn("?", answer=_answer(begins))))
    assert f"<p>{begins}</p>" in html


@pytest.mark.parametrize(
    "hostile",
    [*HOSTILE, "1. list", "- [ ] task", "# h", "a\n\n    code", "~~~", "mailto:a@b.c :smile:"],
)
def test_copied_markdown_shows_just_the_text(hostile: str) -> None:
    from markdown_it import MarkdownIt

    document = Document(canonical(f"x {hostile} y"), hostile, hostile)
    quote = document.text
    answer = _answer(f"{quote} [1] {hostile}", _cite(document, 1, quote), question=hostile)
    text = render.markdown(Turn(hostile, answer=answer))
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    tags = {tag for tag, _ in _Elements(html).tags}
    assert tags <= {"p", "strong"}
    assert re.search(r"(?<!\\):(?://|smile)|mailto:", text) is None
    plain = " ".join(render.plain(quote).split())
    assert plain in " ".join(_Elements(html).text.split())


def test_brackets_that_belong_to_a_quote_are_no_citation() -> None:
    document = Document("As shown\nin [1], it is. So [2].", "paper.txt", "Paper")
    quote = "As shown\nin [1], it is."
    text = "As shown in [1], it is. [1] and [7]"
    shown = _shown(Turn("?", answer=_answer(text, _cite(document, 1, quote))))
    assert [tag for tag, _ in shown.tags].count("a") == 1
    assert "As shown in [1], it is." in shown.text
    assert " and [7]" in shown.text


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
    turn = Turn("?", answer=answer)
    shown = _shown(turn)
    assert [tag for tag, _ in shown.tags].count("blockquote") == render.NEAREST
    assert "No answer found" in shown.text
    assert [mark.label for mark in marks(answer, 2)] == ["a", "b"]
    pane = _Elements(source.pane(document, marks(answer, 2), "en"))
    assert pane.marks == ["One.", "Two."]
    assert {a.get("class") for tag, a in pane.tags if tag == "mark"} == {"near"}
    more = _Elements(render.conversation([turn], "en", nearest=4))
    assert [tag for tag, _ in more.tags].count("blockquote") == 4


def test_what_says_otherwise_is_one_click_away_too() -> None:
    document = Document("It took *ten* days.", "a.txt", "A")
    other = Document("No. It took <b>twelve</b> days.", "b.txt", "B")
    against = Disagreement(1, "number", other, 4, len(other.text))
    answer = _answer("It took *ten* days. [1]", _cite(document, 1, document.text))
    answer = replace(answer, disagreements=(against,))
    turn = Turn("?", answer=answer)
    links = [a for tag, a in _shown(turn).tags if tag == "a"]
    assert [link["data-mark"] for link in links] == ["1", "≠1"]
    assert links[1]["aria-label"] == "Other source ≠1"
    marked = marks(answer, 3)
    pane = _Elements(source.pane(other, marked, "en", active="≠1"))
    assert pane.marks == ["It took <b>twelve</b> days."]
    assert "A" in pane.text  # among what was cited from
    (steps,) = [a for _, a in pane.tags if a.get("class") == "steps"]
    assert steps["data-names"] == "Other source [≠1]"
    assert all("disabled" in a for _, a in pane.tags if "data-step" in a)  # it is the only one
    copied = render.markdown(turn)
    told = "[≠1] Sources disagree on \\[1\\]. b.txt, characters 4–31 says: “It took \\<b\\>twelve"
    assert told in copied
    assert copied.count("It took") == 3


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
    assert preferred(accept) == language


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
    classes = [a["class"] for tag, a in shown.tags if a.get("class") in SUPPORT]
    assert classes == ["supported", "weak", "unsupported"]
    assert [tag for tag, _ in shown.tags].count("a") == 3
    assert "✓ (supported by its citations)" in shown.text
    terminal = render.terminal(answer)
    assert "London [1]. (weakly supported)" in terminal
    assert "“Bonn” [1] (not supported by what it cites)" in terminal
    for said in (shown.text, terminal):
        assert "(weakly supported)" in said
        assert "(not supported by what it cites)" in said
        assert "“Bonn”: a quotation that stands in no cited passage" in said
        assert "Understood as: Where? (Rome)" in said
    assert terminal.count("supported") == 2
    assert not answer.to_json().get("trace")


def test_the_sign_of_support_stays_with_the_number_before_it() -> None:
    document = Document("Rome. Paris.", "n.txt", "N")
    answer = _answer(
        "Rome. [1] Paris [2].", _cite(document, 1, "Rome."), _cite(document, 2, "Paris")
    )
    answer = _checked(
        answer, Claim(0, 9, (1,), "supported", 1.0), Claim(10, 20, (2,), "supported", 1.0)
    )
    html = render.conversation([Turn("?", answer=answer)], "en")
    kept = re.findall('<span class="end"><a class="marker"[^>]*>(.)</a>.*?✓', html)
    assert kept == ["1"]  # a line break before a full stop there is none


def test_while_an_answer_comes_its_citations_look_as_they_will() -> None:
    shown = _shown(Turn("?", partial="Rome is <b>. [1] [12] So [3"))
    assert "Rome is <b>.112 So [3" in shown.text
    markers = [(tag, a.keys()) for tag, a in shown.tags if a.get("class") == "marker"]
    assert markers == [("span", {"class"})] * 2


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_kind_of_flag_has_its_words(language: str) -> None:
    for key in (*KINDS, "weak", "unsupported"):
        assert phrase(key, language)


def test_all_that_is_told_of_an_answer_has_german_words() -> None:
    for kind, names in (
        ("because", FEATURES),
        ("took", ("search", "answer", "rewrite", "llm", "check")),
        ("asked", ("model", "passages", "passages_dropped", "form", "requests", "failure")),
    ):
        words = [known(kind, name, "de") for name in names]
        assert len(set(words)) == len(names)
        assert not {*words} & ({*names} - {"reason"})
    assert known("because", "else", "de") == "else"


def test_why_this_passage_is_told_in_german_with_german_figures() -> None:
    document = Document("Rome.", "n.txt", "N")
    reasons = {"reading": 5.87, "after_previous": 1.23}
    trace = {
        "question": "Wo?",
        "hits": [{"source": "n", "start": 0, "end": 5, "score": 3.924, "ranks": {"dense": 1}}],
        "sentences": [{"source": "n", "start": 0, "end": 5, "chance": 0.5, "reasons": reasons}],
        "confidence": 0.5,
        "answers": True,
        "llm": {"model": "m", "requests": 1, "refused": False, "rewrite": "failed"},
    }
    answer = _answer("Rome. [1]", _cite(document, 1, "Rome."))
    answer = replace(answer, trace=trace, seconds={"search": 3.924, "check": 0.5})
    german = _Elements(render.why(answer, "de")).text
    assert "liest sich als Antwort +5,87; mit dem Satz davor +1,23" in german
    assert "Sekunden: Suche 3,924; Prüfung der Antwort 0,500" in german
    model = "Name m, Anfragen 1, Antwort verweigert nein, Verstehen der Anschlussfrage gescheitert"
    assert f"Sprachmodell: {model}" in german
    assert re.search(r"\d\.\d", german) is None
    assert "reads like an answer +5.87" in _Elements(render.why(answer, "en")).text
    assert "mitgelieferte" in render.state(
        "bundled", None, (), on=True, place="", kept="", language="de"
    )


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


@pytest.mark.parametrize("language", ["en", "de"])
def test_of_answers_that_a_model_writes_it_is_not_said_that_they_are_quotes(language: str) -> None:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    llm = LanguageModel(GenericFakeChatModel(messages=iter([])))
    quoted, written = (_Elements(render.masthead(model, language)).text for model in (None, llm))
    for said, told in ((quoted, True), (written, False)):
        assert any(words in said for words in ("word for word", "wörtlich")) is told
    shown = [render.conversation((), language, written=written) for written in (False, True)]
    assert ["Every sentence" in html or "Jeder Satz" in html for html in shown] == [True, False]


def test_where_files_are_dropped_it_is_said_whether_they_are_kept_for_all() -> None:
    for shared, fixed in ((False, False), (True, False), (True, True)):
        held = {"shared": shared, "fixed": fixed}
        for shown in (render.conversation((), "en", **held), render.masthead(None, "en", **held)):
            assert ("for all who use it" in _Elements(shown).text) is (shared and not fixed)

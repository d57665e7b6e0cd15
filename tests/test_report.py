"""ui.report: a page that asks for nothing, shows text as text, and reads on any screen."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from rag.calibrate import GIVEN, WITHOUT_ARTICLE, WITHOUT_DOCUMENT, Figures, Fit
from rag.config import Calibration
from rag.language import QUESTION_WORDS
from rag.metrics import Interval
from rag.report import (
    ERROR,
    JUDGED,
    SCORES,
    STAGES,
    UNANSWERABLE,
    Cited,
    Judged,
    Report,
    Row,
    Verdict,
    compare,
)
from tests.test_render import HOSTILE
from ui.evaluate import table
from ui.report import FAILURES, GROUPS, QUESTION, page
from ui.speech import GERMAN, Speech

SETTINGS = {"encoder": "an-encoder", "threshold": 0.3, "documents": 2, "passages": 40}
TAGS = set(
    "html head meta link title style body main header section h1 h2 h3 p small b br span div"
    " figure figcaption svg desc path line polyline circle rect text details summary table caption"
    " thead tbody tr th td fieldset legend input label dl dt dd bdi wbr blockquote ul li".split()
)
ATTRIBUTES = set(
    "lang charset name content http-equiv rel href class id role aria-labelledby aria-hidden"
    " viewBox preserveAspectRatio d x y x1 x2 y1 y2 r cx cy width height points text-anchor scope"
    " type checked for dir".split()
)


def row(number: int = 0, **changes: Any) -> Row:
    """A question that was answered right, changed."""
    scores = dict.fromkeys(SCORES, 1.0) | {"false_abstention": 0.0}
    found = Row(
        id=f"q{number}",
        question="Where was it?",
        language="en",
        document="a.txt",
        document_language="de",
        question_word="where",
        answerable=True,
        gold=("Rom",),
        answered=True,
        confidence=0.9,
        answer="Es war in Rom. [1]",
        citations=(Cited("a.txt", 0, 14, "Es war in Rom.", 1, True),),
        correct=True,
        rank=1,
        scores=scores | {"unanswerable_abstention": None},
        seconds=0.05,
    )
    return replace(found, **changes)


def varied(count: int, words: tuple[str, ...] = ("Where was it?",)) -> Report:
    """Rows of all kinds, the same at each call."""
    chance = random.Random(7)
    rows = []
    for number in range(count):
        good = chance.random() < 0.8
        said = good or chance.random() < 0.7
        hit = float(good)
        answerable = chance.random() < 0.8
        known = (*SCORES[:6], "answer_hit@1", "answer_hit@3", "answer_f1", "citation_recall")
        scores = dict.fromkeys(SCORES) | {"answered_rate": float(said)}
        if answerable:
            scores |= dict.fromkeys(known, hit) | {"false_abstention": float(not said)}
        else:
            scores |= {"unanswerable_abstention": float(not said)}
        stage = None if good else chance.choice(STAGES)
        rows.append(
            row(
                number,
                question=chance.choice(words),
                language=chance.choice(["de", "en"]),
                document=f"A_rather_long_name_of_a_document#{chance.randrange(20)}",
                question_word=chance.choice(["who", "when", "where"]),
                answerable=answerable,
                answered=said,
                confidence=round(min(1.0, max(0.0, chance.gauss(0.7 if good else 0.3, 0.2))), 3),
                correct=good and answerable,
                scores=scores,
                seconds=0.02 + chance.expovariate(20),
                stage=stage,
                error="ValueError: broken" if stage == ERROR else "",
                rank=1 if good else chance.choice([None, 3, 12]),
            )
        )
    return Report.of(rows, SETTINGS)


def parse(html: str) -> Any:
    """The page as strict XML, which a stray quote or sign of a document would break."""
    return etree.fromstring(html.encode(), etree.XMLParser(resolve_entities=False))


def text(element: Any) -> str:
    return "".join(element.itertext())


def hostile() -> Report:
    rows = [
        row(
            id=f"{number} {bad}",
            question=bad,
            language=bad,
            document=bad,
            document_language=bad,
            gold=(bad,),
            answer=bad,
            citations=(Cited(bad, 0, 1, bad, 1, False),),
            withheld=(Cited(bad, 0, 1, bad, 1, True),),
            stage=UNANSWERABLE,
            error=bad,
        )
        for number, bad in enumerate(HOSTILE)
    ]
    return Report.of(rows, SETTINGS | {"encoder": HOSTILE[0], HOSTILE[1]: [HOSTILE[2]]})


def test_what_documents_say_is_only_text() -> None:
    report = hostile()
    lost = replace(report, rows=tuple(replace(row, stage=None) for row in report.rows))
    for comparison in (None, compare(lost, report)):
        tree = parse(page(report, comparison))
        assert {element.tag for element in tree.iter()} <= TAGS
        for element in tree.iter():
            assert set(element.attrib) <= ATTRIBUTES
            assert element.get("href", "data:,") == "data:,"
        shown = text(tree.find("body"))
        for bad in HOSTILE:
            times = 8 if comparison is None else 10
            assert (
                shown.count(re.sub("[\ud800\x07\x1b]", "\N{REPLACEMENT CHARACTER}", bad)) >= times
            )


def test_controls_that_no_page_can_hold_are_replaced() -> None:
    report = Report.of([row(question="a\x00b\x1b[2J\x85c\ufffe", stage=ERROR)], SETTINGS)
    assert "a�b�[2J�c�" in text(parse(page(report)))


def test_the_page_asks_for_nothing() -> None:
    report = varied(60)
    html = page(report, compare(report, report))
    for reference in ("http:", "https:", "//", "url(", "@import", "<script", "src=", "<img"):
        assert reference not in html
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none';")


def test_figures_are_told_in_words_too() -> None:
    tree = parse(page(varied(60)))
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    plots = [svg for svg in tree.iter("svg") if svg.get("aria-hidden") != "true"]
    assert len(plots) == 4
    for svg in plots:
        assert svg.get("role") == "img"
        for key in svg.get("aria-labelledby").split():
            assert text(next(svg.iterfind(f".//*[@id='{key}']"))).strip()
        assert svg.getparent().find(".//table") is not None
    for listed in tree.iter("table"):
        heads = listed.findall("thead/tr/th")
        assert heads
        assert all(head.get("scope") == "col" for head in heads)
        for line in listed.findall("tbody/tr"):
            assert line[0].get("scope") == "row"
            assert len(line) == len(heads)
    labels = {label.get("for") for label in tree.iter("label")}
    assert labels == {field.get("id") for field in tree.iter("input")}


def test_every_failure_is_there_with_what_lost_it() -> None:
    report = varied(60)
    shown = [text(item.find("summary/span")) for item in parse(page(report)).iter("details")
             if "failure" in item.get("class", "")]  # fmt: skip
    assert sorted(shown) == sorted(row.stage for row in report.rows if row.stage)


def test_few_rows_many_rows_and_none() -> None:
    assert "None." in page(Report.of([row()], SETTINGS))
    empty = page(Report.of([], SETTINGS, interrupted=True))
    assert "Interrupted" in text(parse(empty))
    searched = dict.fromkeys(SCORES) | dict.fromkeys(SCORES[:6], 0.5)
    beir = row(answered=None, confidence=None, correct=None, seconds=None, scores=searched)
    tree = parse(page(Report.of([beir, replace(beir, id="b", rank=None)], {})))
    assert len(list(tree.iter("figure"))) == 1
    unsure = row(confidence=None, correct=None, answered=False, citations=(), seconds=0.0)
    parse(page(Report.of([unsure], SETTINGS)))
    many = [row(n, document=f"d{n}", stage=STAGES[1]) for n in range(FAILURES + 1)]
    said = text(parse(page(Report.of(many, SETTINGS))))
    assert f"The worst {FAILURES} of {FAILURES + 1}" in said
    assert f"{len(many) - GROUPS} others" in said


def test_the_shipped_threshold_is_marked_where_it_stands() -> None:
    # Of three, .9 (right) and .5 (wrong) are from the threshold .3 on: 2/3 answered, half right.
    rows = [row(), row(1, confidence=0.5, correct=False), row(2, confidence=0.1, answered=False)]
    tree = parse(page(Report.of(rows, SETTINGS)))
    (mark,) = (circle for circle in tree.iter("circle") if circle.get("class") == "chosen")
    svg = mark.getparent()
    left, top, right, bottom = 40, 14, 380 - 14, 240 - 40
    assert float(mark.get("cx")) == pytest.approx(left + 2 / 3 * (right - left), abs=0.1)
    assert float(mark.get("cy")) == pytest.approx((top + bottom) / 2, abs=0.1)
    assert "0.3, answers 66.7%, of which 50.0% are right" in text(svg.find("desc"))


def test_two_runs_side_by_side() -> None:
    before = Report.of([row(), row(1), row(2, stage=STAGES[2])], SETTINGS)
    after = Report.of([row(stage=STAGES[3], question="Lost?"), row(1), row(2)], SETTINGS)
    said = text(parse(page(after, compare(before, after))))
    assert "Questions in both runs: 3" in said
    assert "Questions won: 1, lost: 1." in said


def by_hand(*hits: int) -> Report:
    """Rows with these values for what is found and answered; a second each, the last two."""
    scores = dict.fromkeys(SCORES)
    rows = [
        row(
            n,
            scores=scores
            | {key: float(hit) for key in ("recall@5", "answer_hit@1")}
            | {"answered_rate": 1.0},
            correct=bool(hit),
            confidence=0.95 if hit else 0.2,
            stage=None if hit else STAGES[2],
            answer=f"said {n} {hit}",
            seconds=2.0 if n == len(hits) - 1 else 1.0,
            document=f"{n % 2}.txt",
        )
        for n, hit in enumerate(hits)
    ]
    return Report.of(rows, SETTINGS | {"date": "yesterday"})


def cells(tree: Any, name: str) -> list[str]:
    """The cells of the first row of a table that begins with that name."""
    rows = (line for line in tree.iter("tr") if text(line[0]) == name)
    return [text(cell) for cell in next(rows)]


def test_figures_of_the_page_by_hand() -> None:
    # 3 of 4: Wilson's interval is .3006 to .9544.
    tree = parse(page(by_hand(1, 1, 0, 1)))
    cards = (div for div in tree.iter("div") if div.get("class") == "card")
    card = next(c for c in cards if text(c).startswith("answer_hit@1"))
    assert text(card.find("b")) == "0.750"
    assert text(card.find("small")).startswith("[0.301, 0.954]")
    assert cells(tree, "recall@5")[:3] == ["recall@5", "0.750", "[0.301, 0.954]"]
    assert cells(tree, "5")[:3] == ["5", "0.750", "[0.301, 0.954]"]
    (whisker,) = (line for line in tree.iter("line") if line.get("class") == "spread")
    # Shares go up from 200 to 14.
    assert float(whisker.get("y1")) == pytest.approx(200 - 0.3006 * 186, abs=0.1)
    assert float(whisker.get("y2")) == pytest.approx(200 - 0.9544 * 186, abs=0.1)
    dots = {text(dot): dot for dot in tree.iter("circle") if dot.get("class") == "dot"}
    wrong = dots["1 questions: confidence 0.20, right 0%"]
    assert (wrong.get("cx"), wrong.get("cy")) == (str(round(40 + 0.2 * 326, 1)), "200.0")
    right = dots["3 questions: confidence 0.95, right 100%"]
    assert (right.get("cx"), right.get("cy")) == (str(round(40 + 0.95 * 326, 1)), "14.0")
    bars = {text(bar): bar for bar in tree.iter("rect") if bar.get("class") == "area"}
    assert float(bars["3 questions: 1 to 1.08 s"].get("height")) == 186
    assert float(bars["1 questions: 1.92 to 2 s"].get("height")) == 62
    # Of 1.txt both are right: Wilson's interval is .342 to 1.
    share = next(line for line in tree.iter("tr") if text(line[0]) == "1.txt")[2].find("svg")
    assert share.find("rect").get("width") == "100.0"
    assert share.find("path").get("d") == "M34.2 5H100.0"
    share = next(line for line in tree.iter("tr") if text(line[0]) == "0.txt")[2].find("svg")
    assert share.find("rect").get("width") == "50.0"


def test_figures_of_two_runs_by_hand() -> None:
    before, after = by_hand(0, 0, 1, 0), by_hand(1, 1, 0, 1)
    found = compare(before, after)
    tree, said = parse(page(after, found)), table(after, found)
    assert cells(tree, "answer_hit@1")[:1] == ["answer_hit@1"]
    row = next(
        line for line in tree.iter("tr") if text(line[0]) == "answer_hit@1" and len(line) == 5
    )
    shown = [text(cell) for cell in row]
    # Differences 1, 1, -1, 1: 10 of 16 flips are at least 2 off.
    assert shown[1:3] == ["0.250", "0.750"]
    assert shown[3].startswith("+0.500 [-0.500, +1.000]")
    assert shown[4] == "0.625"
    lines = [line.split() for line in said.splitlines()]
    assert "answer_hit@1 0.250 0.750 +0.500 -0.500 – +1.000 0.625".split() in lines
    assert "recall@5 0.750 0.301 – 0.954".split() in [line[:5] for line in lines]
    changed = [d for d in found.differences if d.metric == "seconds_per_question"]
    assert (changed[0].before, changed[0].after, changed[0].p) == (1.0, 1.0, None)
    for told in (said, text(tree)):
        assert "The earlier run: date yesterday, encoder an-encoder, threshold 0.3" in told
        assert "a small p will come by chance" in " ".join(told.split())
        assert "seconds_p95 (less is better)" in told
        for n, hit in enumerate((1, 1, 0, 1)):
            assert f"said {n} {hit}" in told
            assert f"said {n} {1 - hit}" in told


def test_other_questions_under_the_same_ids_are_told() -> None:
    before = by_hand(0, 0, 1, 0)
    rows = before.rows
    other = (
        replace(rows[0], question="Who?"),
        replace(rows[1], gold=("Bonn",)),
        replace(rows[2], answerable=False),
        rows[3],
    )
    found = compare(replace(before, rows=other, interrupted=True), before)
    assert (found.altered, found.interrupted) == (3, True)
    for told in (table(before, found), text(parse(page(before, found)))):
        assert "It was interrupted. It asks 3 of the questions otherwise" in told
    assert found.to_json()["altered"] == 3


def test_questions_of_a_title_are_one_piece_of_evidence() -> None:
    def asked(*titles: str) -> Report:
        scores = dict.fromkeys(SCORES)
        rows = [
            row(n, title=title, scores=scores | {"recall@5": float(title in "abcdefg")})
            for n, title in enumerate(titles)
        ]
        return Report.of(rows, SETTINGS)

    def width(report: Report) -> float:
        found = report.metrics["recall@5"]
        assert found is not None
        return found.high - found.low

    many, apart = asked(*"abcdefghij" * 20), asked(*(str(n) for n in range(200)))
    assert width(many) > 0.4
    assert width(apart) < 0.1
    better = replace(many, rows=tuple(
        replace(r, scores=r.scores | {"recall@5": 1.0}) for r in many.rows))  # fmt: skip
    (changed,) = (d for d in compare(many, better).differences if d.metric == "recall@5")
    # Three titles of ten changed, alike: 2 of 8 flips.
    assert changed.p == 2 / 8
    for told in (table(many), text(parse(page(many)))):
        assert "the questions of a title are drawn together" in " ".join(told.split())


def test_long_questions_are_shortened_where_they_are_listed() -> None:
    long = "Wovon handelt das? " * 60
    tree = parse(page(Report.of([row(question=long, stage=STAGES[1])], SETTINGS)))
    (summary,) = (s for s in tree.iter("summary") if s.find("bdi") is not None)
    assert len(text(summary.find("bdi"))) == QUESTION
    assert long in text(tree)


def test_the_last_bar_says_what_it_gathers() -> None:
    quick = [row(n, seconds=1.0) for n in range(40)]
    tree = parse(page(Report.of([*quick, row(99, seconds=9.0)], SETTINGS)))
    assert "2 s or more" in [text(label) for label in tree.iter("text")]
    assert "The last bar also holds 1 of over 2 s." in text(tree)
    assert "or more" not in page(Report.of(quick, SETTINGS))


def test_the_label_of_the_threshold_stands_off_the_curve() -> None:
    # All are right: the curve is flat at the top.
    rows = [row(n, confidence=0.2 + n / 20) for n in range(10)]
    tree = parse(page(Report.of(rows, SETTINGS)))
    (label,) = (t for t in tree.iter("text") if text(t).startswith("threshold"))
    assert float(label.get("y")) > 180


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "de")])
def test_in_a_browser(browser: Any, width: int, theme: str, language: str, tmp_path: Path) -> None:
    report = varied(200, (*HOSTILE[:-1], "Wovon?" * 60))
    file = tmp_path / "report.html"
    file.write_text(page(report, compare(report, report), language=language), "utf-8")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    view, faults = context.new_page(), []
    view.on("pageerror", lambda error: faults.append(str(error)))
    view.on("console", lambda line: faults.append(line.text))
    view.on("request", lambda asked: faults.append(asked.url) if asked.url != url else None)
    view.on("dialog", lambda dialog: faults.append(dialog.message))
    url = file.as_uri()
    view.goto(url)

    def fits() -> bool:
        return bool(view.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    assert fits()
    dark = view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 20, 19)"
    assert dark == (theme == "dark")
    lost = [row for row in report.rows if row.stage]
    assert view.locator(".failure:visible").count() == len(lost)
    view.get_by_text(re.compile(f"^{Speech(language)(ERROR)} \\d")).click()
    errors = [row for row in lost if row.stage == ERROR]
    assert view.locator(".failure:visible").count() == len(errors) < len(lost)
    view.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert view.locator(".failure dl:visible").count() == len(errors)
    assert fits()
    assert faults == []
    context.close()


# ---- In German -------------------------------------------------------------------------------


def gaps(template: str) -> list[str | None]:
    return [spec for _, name, spec, _ in string.Formatter().parse(template) if name is not None]


def all_there_is() -> Iterator[str]:
    """German pages that, together, say all that a page can say."""
    rows = [
        row(n, document=f"d{n}", stage=STAGES[n % len(STAGES)], question_word=word)
        for n, word in enumerate(QUESTION_WORDS * 2)
    ]
    rows[0] = replace(
        rows[0],
        question="Who? " * QUESTION,
        withheld=(Cited("a.txt", 0, 2, "Es", 1, False),),
        error="broken",
        seconds=9.0,
    )
    rows[1] = replace(rows[1], rank=None, by_keywords=True, gold=(), language="de")
    for faithful in (True, False):
        for answers in (True, False):
            rows.append(row(100 + len(rows), judged=Verdict(faithful, answers, "so"), stage=ERROR))
    rows.append(row(200, judged=Verdict(error="late"), stage=ERROR))
    rows.append(row(201, answerable=False, document=None, stage=UNANSWERABLE))
    chance = Interval(0.5, 0.25, 0.75)
    opinion = Judged("a model", 5, 1, "", dict.fromkeys(JUDGED, chance))
    report = replace(
        Report.of(rows, SETTINGS | {"date": "today", "beleg": "1.0"}, interrupted=True),
        judged=opinion,
    )
    rows = [replace(row, question="Who else?", stage=None) for row in rows]
    compared = compare(Report.of(rows, SETTINGS, interrupted=True), report)
    kinds = (GIVEN, WITHOUT_DOCUMENT, WITHOUT_ARTICLE)
    figures = Figures(chance, chance, chance, None, dict.fromkeys(kinds, chance))
    better = replace(figures, calibration_error=Interval(0.4, 0.3, 0.5))
    fit = Fit(Calibration(1.0, 0.0, 0.3), dict.fromkeys(kinds, 9), 2, figures, better)
    yield page(report, compared, fit, "de")
    report = replace(report, judged=replace(opinion, commonest="TimeoutError"))
    yield page(report, compare(report, Report.of(rows, {})), replace(fit, after=figures), "de")
    back = compare(replace(report, settings={}), Report.of(rows, SETTINGS))
    yield page(Report.of([row()], {}), back, language="de")
    yield page(Report.of([row(n, stage=ERROR) for n in range(FAILURES + 1)], {}), language="de")


def test_the_page_in_german_says_all_in_german(monkeypatch: pytest.MonkeyPatch) -> None:
    said: set[str] = set()
    speak = Speech.__call__

    def listening(self: Speech, template: str, *values: object) -> str:
        said.add(template)
        return speak(self, template, *values)

    monkeypatch.setattr(Speech, "__call__", listening)
    for html in all_there_is():
        tree = parse(html)
        assert tree.get("lang") == "de"
        told = text(tree.find("body"))
        assert not re.search(r"\b(the|of|and|not|none|are|is there|with|by)\b", told)
    plain = {
        text for text in said if not re.search("[a-z]{2}", re.sub("{.*?}", "", text))
    }  # numbers
    assert said - plain - set(GERMAN) == set()
    assert set(GERMAN) - said == set()


@pytest.mark.parametrize("template", GERMAN)
def test_both_languages_have_the_same_gaps(template: str) -> None:
    assert gaps(template) == gaps(GERMAN[template])


def test_german_figures_by_hand() -> None:
    tree = parse(page(by_hand(1, 1, 0, 1), language="de"))
    assert cells(tree, "recall@5")[:3] == ["recall@5", "0,750", "[0,301; 0,954]"]
    assert cells(tree, "nicht verloren")[1:] == ["3", "75,0\N{NO-BREAK SPACE}%"]
    dots = {text(dot) for dot in tree.iter("circle")}
    assert "3 Fragen: Sicherheit 0,95; richtig 100\N{NO-BREAK SPACE}%" in dots
    before, after = by_hand(0, 0, 1, 0), by_hand(1, 1, 0, 1)
    said = text(parse(page(after, compare(before, after), language="de")))
    assert "+0,500 [-0,500; +1,000]" in said
    assert "Schwelle 0,3; Dokumente 2" in said
    # Names, and what documents say, stay as they are.
    assert "seconds_p95 (weniger ist besser)" in said
    assert "said 2 0" in said

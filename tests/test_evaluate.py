"""rag.evaluate: figures worked out by hand, errors as rows, reports as JSON, two runs compared."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from index.errors import InputError
from index.types import Document, Hit, Passage
from rag import Answer, Citation, Report, evaluate
from rag.chatbot import EXAMPLE
from rag.evaluate import _words
from rag.extract import Ranker
from rag.metrics import Interval, Place
from rag.questions import Question, check_answers, read_questions
from rag.report import (
    ABSTAINED,
    CHANCE,
    ERROR,
    METRICS,
    NOT_ANSWERED,
    NOT_CHOSEN,
    NOT_RETRIEVED,
    SCORES,
    UNANSWERABLE,
    Row,
    compare,
    failures,
    falls_short,
)
from tests.conftest import ROOT
from ui.cli import main

ROME, TRAINS, MONDAY = "Ada met Bob in Rome.", "They talked about trains.", "Bob left on Monday."
GENF, DIENSTAG = "Der Gipfel war in Genf.", "Putin reiste am Dienstag ab."
DOCUMENTS = (
    Document(f"{ROME} {TRAINS} {MONDAY}", "a.txt", "A", "en"),
    Document(f"{GENF} {DIENSTAG}", "b.txt", "B", "de"),
)


def close(value: float) -> Any:
    return pytest.approx(value, abs=1e-9, rel=0)


def hit(sentence: str) -> Hit:
    """A passage that is this sentence."""
    document = next(document for document in DOCUMENTS if sentence in document.text)
    start = document.text.index(sentence)
    return Hit(Passage(document, start, start + len(sentence)), 1.0)


def cite(*quotes: str) -> tuple[Citation, ...]:
    found = []
    for marker, quote in enumerate(quotes, 1):
        document = next(document for document in DOCUMENTS if quote in document.text)
        start, size = document.text.index(quote), len(document.text)
        end = start + len(quote)
        found.append(Citation(marker, document, start, end, quote, 0, size, 1.0))
    return tuple(found)


CLOCK = SimpleNamespace(now=0.0)


@dataclass
class Reply:
    """What the fake bot does with a question: its ranking, quotes, and seconds."""

    ranking: Sequence[str] = (ROME, TRAINS, MONDAY, GENF, DIENSTAG)
    quotes: Sequence[str] = ()
    withheld: Sequence[str] = ()
    confidence: float = 0.5
    seconds: float = 1.0
    error: BaseException | None = None


@dataclass
class Bot:
    """Answers as it is told to, without any model; its seconds pass on ``CLOCK``."""

    replies: dict[str, Reply]
    documents: Sequence[Document] = DOCUMENTS
    asked: list[str] = field(default_factory=list)
    ranker: Ranker = field(default_factory=lambda: Ranker({}, {}, threshold=0.3))

    @property
    def index(self) -> Any:
        view = SimpleNamespace(documents=self.documents, passages=range(5))
        encoder = SimpleNamespace(name="fake", fingerprint="f" * 16)
        return SimpleNamespace(view=view, encoder=encoder, search=self._search)

    def _search(self, question: str, k: int, *, view: Any) -> list[Hit]:
        if question not in self.replies:
            raise LookupError("not a question of this test")
        return [hit(sentence) for sentence in self.replies[question].ranking][:k]

    def ask(self, question: str, *, view: Any, depth: int) -> Answer:
        self.asked.append(question)
        reply = self.replies[question]
        CLOCK.now += reply.seconds
        if reply.error is not None:
            raise reply.error
        cited = cite(*reply.quotes)
        return Answer(
            question=question,
            language="en",
            answered=bool(cited),
            text=" ".join(f"{c.quote} [{c.marker}]" for c in cited) or "They do not say.",
            mode="fake",
            citations=cited,
            passages=tuple(self._search(question, depth, view=view)),
            confidence=reply.confidence,
            seconds={},
            withheld=cite(*reply.withheld),
        )


def question(key: str, text: str, *answers: str, **known: Any) -> Question:
    known = {"language": "en", "answerable": bool(answers)} | known
    return Question(id=key, question=text, answers=answers, **known)


ASKED = {
    "rome": question("rome", "Where did Ada meet Bob?", "Rome", document="a.txt"),
    "bob": question("bob", "Who left on Monday?", "Bob", document="a.txt", sentence=MONDAY),
    "genf": question("genf", "Wo war das Treffen?", "Genf", document="b.txt", language="de"),
    "food": question("food", "What did they eat?"),
    "wifi": question("wifi", "How do I reset my router?"),
    "putin": question("putin", "When did Putin leave?", "Dienstag", document="b.txt"),
}
REPLIES = {
    "rome": Reply(quotes=[ROME], confidence=0.9, seconds=1),
    "bob": Reply([TRAINS, ROME, MONDAY], [TRAINS, MONDAY], confidence=0.8, seconds=2),
    "genf": Reply([GENF, ROME], [], [GENF], confidence=0.2, seconds=3),
    "food": Reply(quotes=[TRAINS], confidence=0.6, seconds=4),
    "wifi": Reply(withheld=[TRAINS], confidence=0.1, seconds=5),
    "putin": Reply(error=RuntimeError("broken\nbadly"), seconds=6),
}


def bot(**changes: Reply) -> Bot:
    replies = REPLIES | changes
    return Bot({ASKED[key].question: reply for key, reply in replies.items()})


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(perf_counter=lambda: CLOCK.now)
    monkeypatch.setattr(sys.modules["rag.evaluate"], "time", fake)
    # The command's settings are for its whole process, which here is that of the tests.
    monkeypatch.setattr("ui.cli._hush", lambda: None)


def run(bot: Bot, questions: Sequence[Question] = tuple(ASKED.values()), **options: Any) -> Report:
    return evaluate(bot, questions, **options)  # type: ignore[arg-type]


@pytest.fixture
def report() -> Report:
    return run(bot())


# ---- The figures -----------------------------------------------------------------------------


def test_figures_by_hand(report: Report) -> None:
    # Ranks of the gold passage: rome 1, bob 3, genf 1; putin raised and has none.
    # F1: rome 1 word of 5 and 1: 2/6; bob 1 word of 8 and 1: 2/9; the others 0.
    # Pairs of an answerable and an unanswerable question: .9 and .8 win over .6 and .1, .2
    # over .1 only. Calibration: .9 right, .2 right though withheld; .8, .6, .1 wrong, each
    # in a bin of its own: (.1 + .8 + .8 + .6 + .1) / 5.
    expected = {
        "recall@1": 2 / 4,
        "recall@5": 3 / 4,
        "recall@10": 3 / 4,
        "recall@20": 3 / 4,
        "mrr": (1 + 1 / 3 + 1) / 4,
        "ndcg@10": (1 + 1 / math.log2(4) + 1) / 4,
        "answer_hit@1": 1 / 4,
        "answer_hit@3": 2 / 4,
        "answer_f1": (2 / 6 + 2 / 9) / 4,
        "citation_precision": (1 + 1 / 2) / 2,
        "citation_recall": 2 / 4,
        "citations_exact": 1,
        "abstention_auroc": 5 / 6,
        "answered_rate": 3 / 6,
        "false_abstention": 2 / 4,
        "unanswerable_abstention": 1 / 2,
        "calibration_error": 2.4 / 5,
        # Right with .9, .8, .6, .2, .1, each alone in its bin: off by 2 c (1 - c) on average.
        "calibration_error_by_chance": pytest.approx(
            2 * (0.09 + 0.16 + 0.24 + 0.16 + 0.09) / 5, abs=0.01
        ),
        "seconds_per_question": 3,
        "seconds_p95": 4.8,
    }
    found = {name: interval and interval.value for name, interval in report.metrics.items()}
    assert found == {
        name: close(value) if isinstance(value, (int, float)) else value
        for name, value in expected.items()
    }
    assert list(report.metrics) == list(METRICS)
    for interval in report.metrics.values():
        assert interval is not None
        assert interval.low <= interval.value <= interval.high


def test_rows(report: Report) -> None:
    rows = {row.id: row for row in report.rows}
    assert list(rows) == list(ASKED)
    assert {key: row.stage for key, row in rows.items()} == {
        "rome": None,
        "bob": NOT_CHOSEN,
        "genf": ABSTAINED,
        "food": UNANSWERABLE,
        "wifi": None,
        "putin": ERROR,
    }
    assert [row.rank for row in report.rows] == [1, 3, 1, None, None, None]
    assert [row.answered for row in report.rows] == [True, True, False, True, False, None]
    assert [row.correct for row in report.rows] == [True, False, True, False, False, None]
    assert [row.seconds for row in report.rows] == [1, 2, 3, 4, 5, None]
    assert [row.direction for row in report.rows] == [
        "en→en", "en→en", "de→de", "en→?", "en→?", "en→de",
    ]  # fmt: skip
    words = [row.question_word for row in report.rows]
    assert words == ["where", "who", "where", "what", "other", "when"]
    rome = rows["rome"]
    assert (rome.question, rome.gold, rome.document) == (ASKED["rome"].question, ("Rome",), "a.txt")
    (citation,) = rome.citations
    assert (citation.source, citation.start, citation.end) == ("a.txt", 0, len(ROME))
    assert (citation.quote, citation.sentences, citation.exact) == (ROME, 1, True)
    assert rows["genf"].citations == ()
    assert rows["genf"].withheld[0].quote == GENF
    assert rows["putin"].error == "RuntimeError: broken\nbadly"
    assert rows["putin"].confidence is None


def test_breakdown(report: Report) -> None:
    assert {name: [(g.name, g.questions) for g in groups] for name, groups in
            report.breakdown.items()} == {
        "direction": [("en→?", 2), ("en→en", 2), ("de→de", 1), ("en→de", 1)],
        "question_word": [("where", 2), ("other", 1), ("what", 1), ("when", 1), ("who", 1)],
        "document": [("(none)", 2), ("a.txt", 2), ("b.txt", 2)],
        "language": [("en", 5), ("de", 1)],
    }  # fmt: skip
    en_en = report.breakdown["direction"][1].metrics
    assert en_en["recall@1"] is not None
    assert en_en["recall@1"].value == 0.5
    assert en_en["unanswerable_abstention"] is None
    unsaid = report.breakdown["direction"][0].metrics
    assert unsaid["recall@1"] is None
    assert unsaid["unanswerable_abstention"] is not None
    assert unsaid["unanswerable_abstention"].value == 0.5


def test_measures_that_do_not_apply_are_none() -> None:
    answerable = run(bot(), [ASKED["rome"], ASKED["bob"]]).metrics
    missing = {name for name, interval in answerable.items() if interval is None}
    assert missing == {"abstention_auroc", "unanswerable_abstention"}
    unsaid = run(bot(), [ASKED["wifi"]]).metrics
    assert {name for name, interval in unsaid.items() if interval is not None} == {
        "answered_rate", "unanswerable_abstention", "calibration_error",
        "calibration_error_by_chance", "seconds_per_question", "seconds_p95",
    }  # fmt: skip
    assert set(run(bot(), []).metrics.values()) == {None}


def test_a_quote_that_does_not_stand_at_its_offsets_is_told() -> None:
    changed = bot()
    # Another text under the name that the citations give.
    changed.documents = (replace(DOCUMENTS[0], text=f"X{DOCUMENTS[0].text}"), DOCUMENTS[1])
    report = run(changed, [ASKED["rome"], ASKED["bob"]])
    assert [c.exact for row in report.rows for c in row.citations] == [False] * 3
    # Wilson for 0 of 2: z² / (2 + z²).
    z2 = 1.959964**2
    assert report.metrics["citations_exact"] == Interval(
        0.0, 0.0, pytest.approx(z2 / (2 + z2), abs=1e-6)
    )
    changed.documents = DOCUMENTS[1:]
    assert not run(changed, [ASKED["food"]]).rows[0].citations[0].exact


@pytest.mark.parametrize(
    ("reply", "stage"),
    [
        (Reply(quotes=[MONDAY]), None),
        (Reply([ROME], [ROME]), NOT_RETRIEVED),
        (Reply([ROME]), NOT_RETRIEVED),
        (Reply([*10 * [TRAINS], MONDAY], [TRAINS]), NOT_RETRIEVED),  # beyond what is read
        (Reply([ROME, MONDAY], [TRAINS]), NOT_CHOSEN),
        (Reply([ROME, MONDAY], [], [TRAINS]), NOT_CHOSEN),
        (Reply(quotes=["left on"]), NOT_ANSWERED),
        (Reply(withheld=["left on"]), ABSTAINED),
        (Reply(), ABSTAINED),  # who knows what it would have cited
        (Reply([], [TRAINS]), NOT_RETRIEVED),
    ],
)
def test_the_stage_that_lost_a_question(reply: Reply, stage: str | None) -> None:
    asked = replace(ASKED["bob"], answers=("Bob left",))
    assert run(bot(bob=reply), [asked]).rows[0].stage == stage


def test_whole_documents_are_found_where_they_are_the_units() -> None:
    squad = replace(ASKED["bob"], relevance={"a.txt": 1})
    row = run(bot(bob=Reply([GENF, DIENSTAG, TRAINS])), [squad]).rows[0]
    # Both passages of b.txt count once; that of a.txt need not be the one that answers.
    assert (row.rank, row.scores["recall@1"], row.scores["mrr"]) == (2, 0, 0.5)


def test_many_passages_of_one_unit_do_not_hide_the_next() -> None:
    # The twelve passages of a.txt are one unit, b.txt is the second.
    ranking = [*12 * [TRAINS], GENF]
    squad = replace(ASKED["genf"], relevance={"b.txt": 1}, document=None)
    beir = question("q", squad.question, relevance={"b.txt": 1}, answerable=True)
    for asked in (squad, beir):
        row = run(bot(genf=Reply(ranking)), [asked]).rows[0]
        assert (row.rank, row.scores["recall@5"], row.scores["recall@20"]) == (2, 1, 1)


def test_marks_within_a_quote_are_its_own() -> None:
    wiki = Document("Ada met [1] Bob in Rome.[2] They left.", "w.txt", "W", "en")
    first, second = (
        Citation(n, wiki, a, b, wiki.text[a:b], 0, len(wiki.text), 1.0)
        for n, a, b in ((1, 0, 27), (2, 28, 38))
    )
    said = Answer(
        "?", "en", True, f"{first.quote} [1] {second.quote} [2] [1]", "fake", (first, second), (),
        0.5, {},
    )  # fmt: skip
    assert _words(said).split() == wiki.text.split()


def test_documents_and_questions_are_told_by_their_hash(report: Report) -> None:
    def hashes(held: Report) -> tuple[object, object]:
        return held.settings["documents_hash"], held.settings["questions_hash"]

    fake = bot()
    assert hashes(run(fake)) == hashes(report)
    other = replace(DOCUMENTS[0], text=DOCUMENTS[0].text + " ")
    fake.documents = (other, DOCUMENTS[1])
    assert hashes(run(fake))[0] != hashes(report)[0]
    asked = [replace(ASKED["rome"], answers=("Ada",)), *list(ASKED.values())[1:]]
    assert hashes(run(bot(), asked))[0] == hashes(report)[0]
    assert hashes(run(bot(), asked))[1] != hashes(report)[1]


def test_judged_documents_are_only_searched_for() -> None:
    beir = question("q", "summit", relevance={"a.txt": 0, "b.txt": 2}, answerable=True)
    lost = replace(beir, id="r", question="Geneva")
    fake = Bot({"summit": Reply([TRAINS, GENF]), "Geneva": Reply([ROME])})
    first, second = run(fake, [beir, lost]).rows
    assert fake.asked == []
    assert (first.rank, first.stage, first.answered, first.seconds) == (2, None, None, None)
    assert first.scores["ndcg@10"] == close(1 / math.log2(3))
    assert (second.rank, second.stage) == (None, NOT_RETRIEVED)
    report = run(fake, [beir, lost])
    found = {name: i.value for name, i in report.metrics.items() if i is not None}
    assert found.keys() == {"recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10"}
    assert found["recall@5"] == 0.5


# ---- Errors and interruption -----------------------------------------------------------------


def test_wrong_questions_are_found_before_the_first_is_asked() -> None:
    fake = bot()
    with pytest.raises(InputError, match='the id "rome" is there twice'):
        run(fake, [ASKED["rome"], ASKED["rome"]])
    with pytest.raises(InputError, match="does not stand in a"):
        run(fake, [ASKED["rome"], replace(ASKED["bob"], answers=("Zoe",))])
    assert fake.asked == []


def test_an_error_counts_as_a_miss_but_not_as_an_abstention() -> None:
    broken = Reply(error=ValueError("no"))
    row = run(bot(wifi=broken), [ASKED["wifi"]]).rows[0]
    assert row.scores["unanswerable_abstention"] == row.scores["answered_rate"] == 0
    row = run(bot(rome=broken), [ASKED["rome"]]).rows[0]
    assert row.scores == dict.fromkeys(SCORES, 0.0) | {
        "citation_precision": None, "unanswerable_abstention": None, "false_abstention": 1.0,
    }  # fmt: skip


def test_interrupted_it_reports_what_is_done() -> None:
    seen: list[tuple[int, int]] = []
    fake = bot(genf=Reply(error=KeyboardInterrupt()))
    report = run(fake, on_progress=lambda done, total: seen.append((done, total)))
    assert report.interrupted
    assert [row.id for row in report.rows] == ["rome", "bob"]
    assert seen == [(1, 6), (2, 6)]
    assert report.metrics["recall@5"] is not None
    first = run(bot(rome=Reply(error=KeyboardInterrupt())))
    assert (first.interrupted, first.rows) == (True, ())


def test_failures_the_worst_first(report: Report) -> None:
    assert [row.id for row in failures(report.rows)] == ["putin", "bob", "food", "genf"]


@pytest.mark.parametrize(
    ("metric", "bound", "short"),
    [
        ("recall@5", 0.8, False),
        ("recall@5", 0.81, True),
        ("false_abstention", 0.8, False),
        ("false_abstention", 0.79, True),
    ],
)
def test_falls_short(metric: str, bound: float, short: bool) -> None:
    assert falls_short(metric, Interval(0.8, 0.7, 0.9), bound) is short
    assert falls_short(metric, None, bound)


# ---- JSON ------------------------------------------------------------------------------------


def test_json_is_the_contract_and_comes_back(report: Report) -> None:
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert written == report.to_json()
    assert written.keys() == {
        "questions", "interrupted", "metrics", "judged", "breakdown", "per_question",
        "settings",
    }  # fmt: skip
    assert written["questions"] == 6
    assert written["metrics"]["recall@1"].keys() == {"value", "low", "high"}
    assert written["settings"] | {"beleg": "", "documents_hash": "", "questions_hash": ""} == {
        "beleg": "", "encoder": "fake", "encoder_fingerprint": "f" * 16, "threshold": 0.3,
        "slope": 1.0, "intercept": 0.0, "documents": 2, "passages": 5, "documents_hash": "",
        "questions_hash": "",
    }  # fmt: skip
    assert Report.from_json(written) == report
    empty = run(bot(), [])
    assert empty.to_json()["metrics"] == dict.fromkeys(METRICS)
    assert Report.from_json(empty.to_json()) == empty


def _without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda held: held.pop(key)


def _with(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(held: Any) -> None:
        for step in path[:-1]:
            held = held[step]
        held[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_with("more", value=1), 'r.json: unknown key "more": known are questions, '),
        (_without("metrics"), "r.json: metrics is missing"),
        (_with("questions", value=5), "r.json: questions is 5, but 6 are there"),
        (_with("interrupted", value=0), "r.json: interrupted must be true or false"),
        (_with("metrics", "recall@3", value=None), 'r.json, metrics: unknown key "recall@3"'),
        (_with("metrics", "mrr", value=1), "r.json, metrics: mrr must be an object or null"),
        (_with("metrics", "mrr", "low", value=True), "metrics, mrr: low must be a number"),
        (_with("metrics", "mrr", "low", value=math.nan), "metrics, mrr: low must be a number"),
        (_with("breakdown", "year", value=[]), "r.json, breakdown: known are direction, "),
        (_with("breakdown", "document", value={}), "r.json, document must be a list"),
        (_with("per_question", 0, value="x"), "r.json, question 1 is not an object"),
        (_with("per_question", 1, "id", value="rome"), 'r.json: the id "rome" is there twice'),
        (_with("per_question", 1, "rank", value=1.5), "question 2: rank must be a whole number"),
        (_with("per_question", 1, "stage", value="x"), "question 2: stage must be null or one of"),
        (_with("per_question", 1, "question_word", value="x"), "question_word must be one of"),
        (_with("per_question", 1, "gold", value=[1]), "question 2: gold must be a list of texts"),
        (_with("per_question", 1, "scores", value={}), "scores: recall@1 is missing"),
        (_with("per_question", 1, "citations", value=[{}]), "citations: source is missing"),
    ],
)
def test_what_is_no_report(
    change: Callable[[dict[str, Any]], object], said: str, report: Report
) -> None:
    held = json.loads(json.dumps(report.to_json()))
    change(held)
    with pytest.raises(InputError) as raised:
        Report.from_json(held, "r.json")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


# ---- Two runs --------------------------------------------------------------------------------


def test_compare_by_hand(report: Report) -> None:
    better = run(
        bot(bob=Reply(quotes=[MONDAY]), genf=Reply(quotes=[GENF]), rome=Reply(quotes=[TRAINS])),
        [*list(ASKED.values())[1:], ASKED["rome"]],
    )
    found = compare(report, better)
    changed = [[after.id for _, after in pairs] for pairs in (found.won, found.lost)]
    assert (found.shared, changed) == (6, [["bob", "genf"], ["rome"]])
    assert [(a.answer, b.answer) for a, b in found.lost] == [(f"{ROME} [1]", f"{TRAINS} [1]")]
    by_name = {difference.metric: difference for difference in found.differences}
    assert list(by_name) == [name for name in METRICS if name != CHANCE]
    hits = by_name["answer_hit@1"]
    assert (hits.questions, hits.before, hits.after) == (4, 0.25, 0.5)
    # Differences 1, 1, -1: each of the 8 choices of signs has a sum of at least 1 or at most -1.
    assert hits.p == 1
    # Cited in both runs: rome (1, then 0) and bob (1/2, then 1).
    precision = by_name["citation_precision"]
    assert (precision.questions, precision.before, precision.after) == (2, 0.75, 0.5)
    same = compare(report, report)
    assert (same.won, same.lost) == ((), ())
    assert {d.p for d in same.differences} == {1.0, None}
    assert {d.change for d in same.differences} == {Interval(0.0, 0.0, 0.0)}


def test_compare_only_what_is_in_both(report: Report) -> None:
    part = run(bot(), [ASKED["bob"], ASKED["wifi"]])
    assert compare(report, part).shared == compare(part, report).shared == 2
    other = run(bot(), [replace(ASKED["bob"], id="other")])
    with pytest.raises(InputError, match="no question in common"):
        compare(report, other)
    searched = [question("q", "x", relevance={"a.txt": 1}, answerable=True)]
    found = run(Bot({"x": Reply()}), searched)
    names = [difference.metric for difference in compare(found, found).differences]
    assert names == ["recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10"]


def test_the_gold_document_and_its_language() -> None:
    def about(asked: Question) -> tuple[str | None, str | None]:
        fake = Bot({asked.question: Reply()})
        row: Row = run(fake, [asked]).rows[0]
        return row.document, row.document_language

    assert about(question("q", "x", "Bob", document="a.txt")) == ("a.txt", "en")
    assert about(question("q", "x", "Genf")) == ("b.txt", "de")
    spans = (Place("a.txt", 0, 3), Place("b.txt", 0, 3))
    assert about(question("q", "x", "Ada", spans=spans)) == (None, None)
    assert about(question("q", "x")) == (None, None)
    assert about(question("q", "x", document="b.txt")) == ("b.txt", "de")
    judged = question("q", "x", relevance={"a.txt": 1, "b.txt": 0}, answerable=True)
    assert about(judged) == ("a.txt", "en")


# ---- The command -----------------------------------------------------------------------------

GOOD = {"id": "a", "question": "Where did Ada meet Bob?", "answers": ["Rome"]}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with questions, a document, and what cannot be used for either."""
    (tmp_path / "a.txt").write_text(DOCUMENTS[0].text, "utf-8")
    (tmp_path / "q.jsonl").write_text(json.dumps(GOOD), "utf-8")
    lines(tmp_path / "asked.jsonl", *ASKED.values())
    (tmp_path / "bad.jsonl").write_text(json.dumps(GOOD | {"anwser": 1}), "utf-8")
    (tmp_path / "off.jsonl").write_text(json.dumps(GOOD | {"answers": ["Oslo"]}), "utf-8")
    context = {"context": GENF, "qas": [GOOD | {"answers": [{"text": "Genf", "answer_start": 18}]}]}
    squad = {"data": [{"title": "T", "paragraphs": [context]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad), "utf-8")
    other = run(bot(), [ASKED["rome"]]).to_json()
    (tmp_path / "other.json").write_text(json.dumps(other), "utf-8")
    (tmp_path / "folder").mkdir()
    return tmp_path


def lines(file: Path, *questions: Question) -> None:
    """Write questions as JSON Lines."""
    keys = ("id", "question", "answers", "document", "answerable", "sentence")
    rows = ({key: getattr(asked, key) for key in keys} for asked in questions)
    rows = ({key: held for key, held in row.items() if held not in (None, "")} for row in rows)
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")


@pytest.fixture
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(name: str) -> None:
        raise AssertionError("an encoder is loaded")

    monkeypatch.setattr("index.embed._load", loaded)


@pytest.mark.usefixtures("_nothing_is_loaded")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "QUESTIONS"),
        (["DIR/none.jsonl"], "none.jsonl does not exist"),
        (["DIR/bad.jsonl"], 'bad.jsonl, line 1: unknown key "anwser"'),
        (["DIR/off.jsonl", "DIR/a.txt"], 'the answer "Oslo" does not stand in any'),
        (["DIR/q.jsonl", "DIR/none.txt"], "none.txt"),
        (["DIR/q.jsonl", "--index", "DIR/none"], "no index in"),
        (["DIR/squad.json", "DIR/a.txt"], "none of the answers stands in the documents given"),
        (["DIR/q.jsonl", "--contexts", "DIR/squad.json"], "is not SQuAD JSON"),
        (["DIR/squad.json", "--contexts", "DIR/none.json"], "none.json does not exist"),
        (["DIR/folder"], "is not a BEIR folder"),
        (
            ["DIR/q.jsonl", "--fail-under", "recall@3=1"],
            "no measure 'recall@3': known are",
        ),
        (["DIR/q.jsonl", "--fail-under", "mrr"], "write METRIC=VALUE, like mrr=0.9"),
        (["DIR/q.jsonl", "--fail-under", "mrr=nan"], "write METRIC=VALUE"),
        (["DIR/q.jsonl", "--fail-under", "mrr=high"], "write METRIC=VALUE"),
        (["DIR/q.jsonl", "--json", "DIR/folder"], "folder is a folder: name a file"),
        (["DIR/q.jsonl", "--html", "DIR/none/r.html"], "there is no folder"),
        (["DIR/q.jsonl", "--html-language", "de"], "give --html FILE too"),
        (["DIR/q.jsonl", "--html", "DIR/r.html", "--html-language", "fr"], "invalid choice"),
        (["DIR/q.jsonl", "--json", "DIR/q.jsonl"], "q.jsonl would be overwritten"),
        (["DIR/q.jsonl", "DIR/a.txt", "--html", "DIR/folder/../a.txt"], "would be overwritten"),
        (["DIR/q.jsonl", "--json", "DIR/r", "--html", "DIR/r"], "cannot be both"),
        (["DIR/q.jsonl", "--html", "DIR/r", "--compare", "DIR/r"], "r would be overwritten"),
        (["DIR/q.jsonl", "--compare", "DIR/none.json"], "none.json cannot be read"),
        (["DIR/q.jsonl", "--compare", "DIR/a.txt"], "a.txt is not JSON"),
        (["DIR/q.jsonl", "--compare", "DIR/squad.json"], 'squad.json: unknown key "data"'),
        (["DIR/q.jsonl", "--compare", "DIR/other.json"], "no question in common"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_before_anything_is_loaded(
    arguments: list[str], says: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command(arguments, files)
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith("beleg: ")
    assert said.err.count("\n") == 1
    assert says in said.err


def command(arguments: Sequence[str], files: Path) -> int:
    given = [argument.replace("DIR", str(files)) for argument in arguments]
    try:
        return main(["eval", *given])
    except SystemExit as ended:  # argparse's way
        return int(ended.code or 0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Bot:
    """The bot that the command opens."""
    made = bot()

    def opened(options: Any, given: Any, check: Callable[[Any], None]) -> Bot:
        check(made.documents)
        return made

    monkeypatch.setattr("ui.cli._open", opened)
    return made


@pytest.mark.usefixtures("fake")
def test_the_command_tells_writes_and_compares(
    files: Path, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    written, shown = files / "r.json", files / "r.html"
    code = command(["DIR/asked.jsonl", "--json", "DIR/r.json", "--html", "DIR/r.html"], files)
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    found = Report.from_json(json.loads(written.read_text("utf-8")))
    assert (found.rows, found.metrics) == (report.rows, report.metrics)
    assert found.settings["questions"] == f"{files}/asked.jsonl"
    assert "How good are the answers?" in shown.read_text("utf-8")
    lines = [line.split() for line in said.out.splitlines()]
    assert ["mrr", "0.583"] in [line[:2] for line in lines]
    assert ["en→en", "2", "1.000", "0.500", "0.000", "–"] in lines
    assert "Lost 4 of 6: 1 error, 1 answered though unanswerable" in said.out
    assert "putin (error): When did Putin leave?" in said.out
    assert "RuntimeError: broken badly" in said.out
    assert "rank of the gold passage: 3" in said.out
    assert "beyond those searched" not in said.out  # it raised: who knows

    german = ["DIR/asked.jsonl", "--html", "DIR/r.html", "--html-language", "de"]
    assert command(german, files) == 0
    assert "Wie gut sind die Antworten?" in shown.read_text("utf-8")
    assert command(["DIR/asked.jsonl", "--compare", "DIR/r.json"], files) == 0
    said = capsys.readouterr()
    assert "Questions in both runs: 6" in said.out
    assert "won 0\nlost 0" in said.out
    assert said.err == ""

    held = json.loads(written.read_text("utf-8"))
    held["per_question"][0]["question"] = "Where else?"
    held["per_question"][1]["stage"] = None
    (files / "before.json").write_text(json.dumps(held), "utf-8")
    arguments = ["DIR/asked.jsonl", "--compare", "DIR/before.json", "--json", "DIR/r.json"]
    assert command(arguments, files) == 0
    said = capsys.readouterr()
    assert said.err == f"beleg: {files}/before.json asks 1 of these questions otherwise\n"
    found = json.loads(written.read_text("utf-8"))
    assert Report.from_json(found).rows == report.rows
    beside = found["comparison"]
    assert (beside["altered"], beside["won"], beside["lost"]) == (1, [], ["bob"])
    assert {row["metric"]: row["p"] for row in beside["differences"]}["abstention_auroc"] is None
    assert beside["differences"][0]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["calibration"] is None


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (["recall@1=0.5", "false_abstention=0.5", "seconds_per_question=3"], []),
        (["recall@1=0.6"], ["recall@1 is 0.5; it should be at least 0.6"]),
        (
            ["false_abstention=0.4", "mrr=0.5", "citations_exact=1.5"],
            [
                "false_abstention is 0.5; it should be at most 0.4",
                "citations_exact is 1; it should be at least 1.5",
            ],
        ),
    ],
)
def test_a_measure_that_falls_short_is_exit_code_1(
    bounds: list[str], said: list[str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for bound in bounds for part in ("--fail-under", bound)]
    assert command(["DIR/asked.jsonl", *options], files) == bool(said)
    assert capsys.readouterr().err == "".join(f"beleg: {line}\n" for line in said)


@pytest.mark.usefixtures("fake")
def test_a_measure_that_does_not_apply_falls_short(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(files / "q.jsonl", ASKED["rome"])
    assert command(["DIR/q.jsonl", "--fail-under", "abstention_auroc=0.5"], files) == 1
    said = capsys.readouterr()
    assert said.err == "beleg: abstention_auroc does not apply; it should be at least 0.5\n"
    assert "No question was lost." in said.out
    assert "Does not apply: abstention_auroc, unanswerable_abstention" in said.out


def test_interrupted_the_command_reports_and_ends_with_130(
    fake: Bot, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.replies[ASKED["genf"].question] = Reply(error=KeyboardInterrupt())
    bounds = ["--fail-under", "recall@1=1"]
    assert command(["DIR/asked.jsonl", "--json", "DIR/r.json", *bounds], files) == 130
    said = capsys.readouterr().out
    assert "Interrupted: this is what was done so far." in said
    written = json.loads((files / "r.json").read_text("utf-8"))
    assert (written["interrupted"], written["questions"]) == (True, 2)

    later = run(bot(), [ASKED["wifi"]]).to_json()
    (files / "later.json").write_text(json.dumps(later), "utf-8")
    assert command(["DIR/asked.jsonl", "--compare", "DIR/later.json"], files) == 130
    assert "compared" not in capsys.readouterr().out


def test_what_cannot_be_written_is_one_line(
    fake: Bot, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert command(["DIR/asked.jsonl", "--json", "DIR/r.json"], files) == 2
    said = capsys.readouterr()
    assert "answer_hit@1" in said.out  # the work of hours is not lost
    assert said.err == f"beleg: {files}/r.json cannot be written: No space left on device\n"


def test_the_questions_of_the_readme_are_good(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```json\n(\{\"id.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    file = tmp_path / "my.jsonl"
    file.write_text(lines, "utf-8")
    example = Document(EXAMPLE.read_text("utf-8"), "article.txt", "", "de")
    found = check_answers(read_questions(file).questions, [example])
    assert [bool(question.spans) for question in found] == [True, True, False]

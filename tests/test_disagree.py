"""Sources that disagree are found, and shown beside the answer."""

from __future__ import annotations

import json

import pytest

from index.store import PassageIndex
from index.types import Document
from rag.answer import Answer
from rag.chatbot import Chatbot
from rag.check import KINDS as FLAGS
from rag.disagree import difference
from ui.phrases import everything
from ui.render import Turn, conversation, terminal

GERMAN = (
    "Das Rathaus von Rodenau wurde 1957 gebaut. Bürgermeister Olaf Kern eröffnete es im Mai."
    " Die Kosten von zwei Millionen Mark trug die Stadt."
)


@pytest.mark.parametrize(
    ("one", "language", "other", "spoken", "kind"),
    [
        ("Der Gipfel ist am 4. Mai in Lissabon.", "de", "Der Gipfel ist am 9. Mai in Lissabon.",
         "de", "number"),
        ("The summit is on 4 May in Lisbon.", "en", "Der Gipfel ist am 9. Mai in Lissabon.", "de",
         "number"),
        ("The summit is on 4 May in Lisbon.", "en", "Der Gipfel ist am 4. Mai in Lissabon.", "de",
         ""),
        ("The summit takes place in Rome.", "en", "The summit takes place in Oslo.", "en", "name"),
        ("The town bought it.", "en", "The town has not bought it.", "en", "negation"),
        ("Der Preis für Brot und Milch ist gestiegen.", "de",
         "Der Preis für Brot und Milch ist gesunken.", "de", "opposite"),
        ("Biden called Putin a killer.", "en", "Putin called Biden a killer.", "en", "swapped"),
        ("Biden called Putin a killer.", "en", "Putin was called a killer by Biden.", "en", ""),
        ("The mill burnt down in 1957.", "en", "The town hall was opened in 1980.", "en", ""),
        ("Die Mühle brannte 1957 ab.", "de", "Die Mühle brannte 1957 ab.", "de", ""),
        ("Die Mühle brannte 1957 ab.", "de", "Die Kirche brannte 1975 ab.", "de", ""),
        ("Im Jahr 2020 betrug der Umsatz 5 Millionen Euro.", "de",
         "Im Jahr 2021 betrug der Umsatz 6 Millionen Euro.", "de", ""),
        ("The X200 weighs 3 kg.", "en", "The X300 weighs 4 kg.", "en", ""),
        ("The X200 weighs 3 kg.", "en", "The X200 weighs 4 kg.", "en", "number"),
        ("Moulin fermé en 1957.", "fr", "Moulin fermé en 1975.", "fr", "number"),
    ],
)  # fmt: skip
def test_differences(one: str, language: str, other: str, spoken: str, kind: str) -> None:
    assert difference(one, language, other, spoken) == kind
    assert difference(other, spoken, one, language) == kind


def asked(bot: Chatbot, *texts: str, question: str = "Wann wurde das Rathaus gebaut?") -> Answer:
    index = PassageIndex(encoder=bot.index.encoder)
    index.add([Document(text, f"{n}.txt", str(n), "de") for n, text in enumerate(texts)])
    return Chatbot(index, ranker=bot.ranker).ask(question)


def test_a_planted_source_is_shown_beside_the_true_one(bot: Chatbot) -> None:
    answer = asked(bot, GERMAN, GERMAN.replace("1957", "1975"))
    (against,) = answer.disagreements
    cited = answer.citations[0]
    assert against.kind == "number"
    assert {"1957", "1975"} <= set(f"{cited.quote} {against.quote}".replace(".", "").split())
    assert against.document.text[against.start : against.end] == against.quote
    assert against.document.source != next(
        c.source for c in answer.citations if c.marker == against.marker
    )
    (told,) = json.loads(json.dumps(answer.to_json()))["disagreements"]
    assert (told["quote"], told["kind"]) == (against.quote, "number")
    assert "Die Quellen widersprechen sich zu [1]. In " in terminal(answer)
    page = conversation([Turn(answer.question, answer)], "de")
    assert f'<q lang="de">{against.quote}</q>' in page


def test_sources_that_agree_are_left_alone(bot: Chatbot) -> None:
    assert asked(bot, GERMAN, GERMAN.replace("1957 gebaut", "1957 erbaut")).disagreements == ()
    assert asked(bot, GERMAN).disagreements == ()
    answer = asked(bot, GERMAN, GERMAN.replace("1957", "1975"), question="Backt man Kuchen heiß?")
    assert not answer.answered
    assert answer.disagreements == ()


def test_what_is_shown_is_escaped(bot: Chatbot) -> None:
    planted = GERMAN.replace("1957", "1975 <b>")
    answer = asked(bot, GERMAN, planted)
    assert answer.disagreements
    page = conversation([Turn(answer.question, answer)], "de")
    assert "1975 &lt;b&gt;" in page
    assert "1975 <b>" not in page


def test_every_kind_of_flag_has_its_words() -> None:
    for language in ("de", "en"):
        assert set(FLAGS) <= everything(language).keys()

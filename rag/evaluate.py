"""Ask test questions and judge what comes back: the measures, and what lost each question.

No language model judges. Questions come from rag/questions.py, the measures from
rag/metrics.py; the report, which two runs can be compared by, is rag/report.py's.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from index.split import sentences
from index.types import Document, Hit
from rag.answer import Answer, Citation
from rag.extract import PASSAGES
from rag.language import question_word
from rag.metrics import (
    GOLD,
    Place,
    Quote,
    answer_hit,
    citation_precision,
    citation_recall,
    retrieval,
    span_units,
    supports,
    token_f1,
)
from rag.questions import Question, check_answers
from rag.report import (
    ABSTAINED,
    ANSWER_SCORES,
    ERROR,
    NOT_ANSWERED,
    NOT_CHOSEN,
    NOT_RETRIEVED,
    RETRIEVAL_SCORES,
    UNANSWERABLE,
    Cited,
    Report,
    Row,
    check_ids,
)

if TYPE_CHECKING:
    from index.store import View
    from rag.chatbot import Chatbot

DEPTH = 100
"""Passages searched for recall@20, since those of one paragraph count once."""


def _silent(done: int, total: int) -> None:
    """The default of on_progress."""


def evaluate(
    bot: Chatbot,
    questions: Iterable[Question],
    *,
    on_progress: Callable[[int, int], object] = _silent,
) -> Report:
    """Ask every question once, in one view of the index, and measure what comes back.

    A question that raises becomes a row with its error, and counts against every measure
    that it has a part in; it has none in those of confidence and seconds. On
    KeyboardInterrupt the questions done so far are reported. ``on_progress`` is told how
    many are done, of how many.

    Raises:
        InputError: two questions have one id, or an answer does not stand in the documents.
    """
    view = bot.index.view
    asked = check_answers(questions, view.documents)
    check_ids((question.id for question in asked), "the questions")
    rows: list[Row] = []
    interrupted = False
    try:
        for row in ask_all(bot, asked):
            rows.append(row)
            on_progress(len(rows), len(asked))
    except KeyboardInterrupt:
        interrupted = True
    settings = {
        "beleg": _version(),
        "encoder": bot.index.encoder.name,
        "encoder_fingerprint": bot.index.encoder.fingerprint,
        "threshold": bot.ranker.threshold,
        "slope": bot.ranker.slope,
        "intercept": bot.ranker.intercept,
        "documents": len(view.documents),
        "passages": len(view.passages),
        "documents_hash": _hash(sorted(document.id for document in view.documents)),
        "questions_hash": _hash(
            [(q.id, q.question, q.answers, q.answerable, dict(q.relevance)) for q in asked]
        ),
    }
    return Report.of(rows, settings, interrupted=interrupted)


def _version() -> str:
    try:
        return version("beleg")
    except PackageNotFoundError:
        return "not installed"


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def ask_all(bot: Chatbot, questions: Iterable[Question]) -> Iterator[Row]:
    """Ask each question when its row is wanted; their answers' places are known."""
    view = bot.index.view
    documents = {document.source: document for document in view.documents}
    with suppress(Exception):  # what is wrong with every question is told of each
        # What the view makes once must not be in the first question's seconds.
        bot.index.search("warm-up", 1, view=view)
    for question in questions:
        yield _row(bot, view, documents, question)


# ---- One question ----------------------------------------------------------------------------


def _row(bot: Chatbot, view: View, documents: Mapping[str, Document], question: Question) -> Row:
    source, language = _gold_document(question, documents)
    row = Row(
        id=question.id,
        question=question.question,
        language=question.language,
        document=source,
        document_language=language,
        title=documents[source].title if source else None,
        question_word=question_word(question.question, question.language),
        answerable=question.answerable,
        gold=question.answers,
    )
    gold = _gold_units(question)
    try:
        if question.answerable and not question.answers:
            hits = bot.index.search(question.question, DEPTH, view=view)
            row = _ranked(row, _units(question, hits), gold)
            lost = None if row.scores["recall@10"] else NOT_RETRIEVED
            return replace(row, scores={**row.scores, **dict.fromkeys(ANSWER_SCORES)}, stage=lost)
        started = time.perf_counter()
        answer = bot.ask(question.question, view=view, depth=DEPTH)
        row = replace(row, seconds=time.perf_counter() - started)
        row = _ranked(row, _units(question, answer.passages), gold)
        return _measured(row, question, answer, documents)
    except Exception as error:
        return replace(
            row,
            rank=None,
            seconds=None,
            scores=_retrieval_scores([], gold) | _answer_scores(question, None, (), ""),
            stage=ERROR,
            error=f"{type(error).__name__}: {error}",
        )


def _ranked(row: Row, ranking: Sequence[str], gold: Mapping[str, int]) -> Row:
    return replace(row, rank=_rank(ranking, gold), scores=_retrieval_scores(ranking, gold))


def _measured(
    row: Row, question: Question, answer: Answer, documents: Mapping[str, Document]
) -> Row:
    cited = tuple(_cited(citation, documents) for citation in answer.citations)
    withheld = tuple(_cited(citation, documents) for citation in answer.withheld)
    candidates = [found.as_quote for found in cited or withheld]
    language = row.document_language or answer.language
    found = bool(answer.citations or answer.passages)
    return replace(
        row,
        answered=answer.answered,
        # A share of float32 numbers may be beyond 1 in its last digit.
        confidence=min(1.0, max(0.0, answer.confidence)) if found else None,
        by_keywords=answer.by_keywords,
        answer=answer.text,
        citations=cited,
        withheld=withheld,
        correct=bool(answer_hit(candidates, question.answers)) if candidates else None,
        scores={**row.scores, **_answer_scores(question, answer, cited, language)},
        stage=_stage(question, answer, candidates),
    )


def _answer_scores(
    question: Question, answer: Answer | None, cited: Sequence[Cited], language: str
) -> dict[str, float | None]:
    """The scores of an answer, None if there is none because of an error."""
    scores: dict[str, float | None] = dict.fromkeys(ANSWER_SCORES)
    if question.answerable and not question.answers:
        return scores
    answered = answer is not None and answer.answered
    scores["answered_rate"] = float(answered)
    if not question.answerable:
        return scores | {"unanswerable_abstention": float(answer is not None and not answered)}
    quotes = [citation.as_quote for citation in cited]
    said = _words(answer) if answer is not None and answered else ""
    return scores | {
        "answer_hit@1": answer_hit(quotes, question.answers),
        "answer_hit@3": answer_hit(quotes, question.answers, k=3),
        "answer_f1": token_f1(said, question.answers, language),
        "citation_precision": citation_precision(quotes, question.answers, question.spans),
        "citation_recall": citation_recall(quotes, question.spans),
        "false_abstention": float(not answered),
    }


def _stage(question: Question, answer: Answer, candidates: Sequence[Quote]) -> str | None:
    if not question.answerable:
        return UNANSWERABLE if answer.answered else None
    if answer.answered and answer_hit(candidates, question.answers):
        return None
    gold = _gold_units(question)
    if not gold.keys() & set(_units(question, answer.passages[:PASSAGES])):
        return NOT_RETRIEVED
    first = candidates[:1]
    # Who abstains without saying what was withheld has lost the question there.
    known = answer.answered or bool(first)
    if known and not any(supports(q, question.answers, question.spans) for q in first):
        return NOT_CHOSEN
    return NOT_ANSWERED if answer.answered else ABSTAINED


def _gold_document(
    question: Question, documents: Mapping[str, Document]
) -> tuple[str | None, str | None]:
    """The source of the one document that a question is about, and its language.

    Where there are several, or none is known, the language is that of all of them.
    """
    relevant = [source for source, grade in question.relevance.items() if grade > 0]
    named = {question.document} if question.document else set(relevant)
    sources = (named or {span.document for span in question.spans}) & documents.keys()
    among = [documents[source] for source in sources] or documents.values()
    languages = {document.language for document in among}
    source = next(iter(sources)) if len(sources) == 1 else None
    return source, languages.pop() if len(languages) == 1 else None


def _gold_units(question: Question) -> dict[str, int]:
    """The units that should be found, with their grades: documents, or passages as one."""
    if question.relevance:
        return {source: grade for source, grade in question.relevance.items() if grade > 0}
    return {GOLD: 1} if question.spans else {}


def _units(question: Question, hits: Sequence[Hit]) -> list[str]:
    """The ranking in the units of ``_gold_units``."""
    passages = [hit.passage for hit in hits]
    if question.relevance:
        return [passage.document.source for passage in passages]
    places = [Place(p.document.source, p.start, p.end) for p in passages]
    return span_units(places, question.spans)


def _rank(ranking: Sequence[str], gold: Mapping[str, int]) -> int | None:
    ranks = (rank for rank, unit in enumerate(dict.fromkeys(ranking), 1) if unit in gold)
    return next(ranks, None)


def _retrieval_scores(ranking: Sequence[str], gold: Mapping[str, int]) -> dict[str, float | None]:
    if not gold:
        return dict.fromkeys(RETRIEVAL_SCORES)
    found = retrieval([ranking], [gold])
    return {name: float(found[name][0]) for name in RETRIEVAL_SCORES}


def _cited(citation: Citation, documents: Mapping[str, Document]) -> Cited:
    held = documents.get(citation.source)
    return Cited(
        source=citation.source,
        start=citation.start,
        end=citation.end,
        quote=citation.quote,
        sentences=len(sentences(citation.quote, citation.document.language)),
        exact=held is not None and held.text[citation.start : citation.end] == citation.quote,
    )


def _words(answer: Answer) -> str:
    """The answer's text without the markers of its citations.

    What looks like one within a quote is the document's own.
    """
    if not answer.citations:
        return answer.text
    quotes = (" ".join(citation.quote.split()) for citation in answer.citations)
    kept = "|".join(map(re.escape, sorted(quotes, key=len, reverse=True)))
    markers = "|".join(str(citation.marker) for citation in answer.citations)
    return re.sub(rf"({kept})|\[(?:{markers})\]", lambda found: found[1] or " ", answer.text)

"""Test questions from files: JSON Lines, SQuAD JSON (v1.1, v2.0), or a BEIR folder.

Whatever is wrong with a file is found here, before any work starts, and said in one line
that names the place. Documents to answer from are not loaded here; those that come with
the questions (SQuAD's contexts, BEIR's corpus) are returned with them.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from index.errors import InputError, Words
from index.language import detect_language
from index.store import check_question
from index.text import canonical
from index.types import Document
from rag.metrics import Place

LANGUAGES = ("de", "en")  # of questions, as PassageIndex.query has them
EXAMPLE = '{"id": "1", "question": "...", "answers": ["..."]}'

_LINE_KEYS = ("id", "question", "answers", "document", "answerable", "sentence", "style")
# version to answer_start are SQuAD's; the rest, and numbers for ids, are GermanQuAD's.
_SQUAD_KEYS = ("version", "data")
_ARTICLE_KEYS = ("title", "paragraphs")
_PARAGRAPH_KEYS = ("context", "qas", "document_id")
_QUESTION_KEYS = (
    "id", "question", "answers", "is_impossible", "plausible_answers", "document_id",
    "question_id", "answer_category",
)  # fmt: skip
_ANSWER_KEYS = (
    "text", "answer_start", "answer_id", "document_id", "question_id", "answer_category",
)  # fmt: skip
_CORPUS_KEYS = ("_id", "title", "text", "metadata")
_QUERY_KEYS = ("_id", "text", "metadata")

_LOOKS_LIKE_SQUAD = re.compile(r'\s*\{\s*"(?:version|data)"\s*:')
_ONE_VALUE = re.compile(r"\s*(?:\[|\{\s*\n|[^\n]*\s*$)")
_SURROGATES = re.compile("[\ud800-\udfff]")


Where: TypeAlias = Words | str
"""A place in a file, for messages."""


@dataclass(frozen=True, slots=True)
class Question:
    """One test question and what is known of its answer.

    ``language`` is "de" or "en", as detected. ``document`` is the source of the document
    that the question is about, if it is known; ``spans`` are the places that answer, any
    of which will do. ``relevance`` maps documents to grades where whole documents are to
    be found: in BEIR, where there are no answers, and in SQuAD, whose paragraphs they are.
    ``sentence`` answers, verbatim, if the file gives it. ``where`` names the place in the
    file, for messages.
    """

    id: str
    question: str
    language: str
    answers: tuple[str, ...] = ()
    document: str | None = None
    spans: tuple[Place, ...] = ()
    answerable: bool = True
    relevance: Mapping[str, int] = field(default_factory=dict)
    style: str = ""
    sentence: str = ""
    where: Where = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions in the order of their file, and the documents that came with them."""

    questions: tuple[Question, ...]
    documents: tuple[Document, ...] = ()


# ---- What others call ------------------------------------------------------------------------


def read_questions(path: str | Path, *, contexts: str | Path | None = None) -> QuestionSet:
    """Read JSON Lines, SQuAD JSON or a BEIR folder, whichever ``path`` is.

    ``contexts`` is another SQuAD file with the same question ids: documents, answers and
    spans are taken from it, the questions from ``path``. Its other questions are left out,
    its other paragraphs kept.

    The paragraphs of SQuAD become documents named TITLE#1, TITLE#2, ...; equal ones
    become one. Of a BEIR folder's qrels, test.tsv is read where there are several;
    queries that nothing is relevant to are left out.

    Raises:
        InputError: the first thing that is wrong, with its file and line or question.
    """
    path = Path(path)
    if path.is_dir():
        if contexts is not None:
            raise InputError("{} is a folder: contexts go with SQuAD JSON only", _show(path))
        return _read_beir(path)
    text = _read(path)
    squad = _is_squad(path, text)
    if contexts is None:
        return _read_squad(path, text) if squad else QuestionSet(tuple(_read_lines(path, text)))
    if not squad:
        raise InputError("{} is not SQuAD JSON: contexts go with SQuAD JSON only", _show(path))
    contexts = Path(contexts)
    held = _read(contexts)
    if not _is_squad(contexts, held):
        raise InputError("{} is not SQuAD JSON: contexts are taken from that only", _show(contexts))
    return _across(_read_squad(path, text), _read_squad(contexts, held), contexts)


def check_answers(
    questions: Iterable[Question], documents: Iterable[Document]
) -> tuple[Question, ...]:
    """The questions with the places of their answers, once the documents are loaded.

    Questions that have spans (SQuAD) or no answers are returned as they are. For the
    others, the places of ``sentence`` in their document, or in any where none is named;
    without a sentence, all places of the answers, as whole words if there are such. White
    space in the text may differ from that in the answer.

    Raises:
        InputError: a question is empty or too long, a document is not among those given, or
            an answer or the sentence does not stand in it.
    """
    held = {document.source: document for document in documents}
    return tuple(_locate(_askable(question), held) for question in questions)


def transfer(found: QuestionSet, documents: Iterable[Document]) -> tuple[Question, ...]:
    """The questions of SQuAD or BEIR over other documents than came with them.

    A question whose document is among the others, word for word, stays as it is. Else its
    answers are looked for in all of them, as ``check_answers`` does; it is left out where
    they do not stand there, or where (BEIR) no relevant document is there.
    """
    others = {document.source: document for document in documents}
    here = {d.source for d in found.documents if others.get(d.source) == d}
    kept = []
    for question in found.questions:
        if question.document in here or here & question.relevance.keys():
            kept.append(question)
        elif question.answers:
            moved = replace(question, document=None, spans=(), relevance={})
            with suppress(InputError):
                kept.append(_locate(moved, others))
        elif not question.answerable:
            kept.append(replace(question, document=None))
    return tuple(kept)


def _askable(question: Question) -> Question:
    try:
        check_question(question.question)
    except InputError as error:
        raise InputError("{}: {}", question.where or _quoted(question.id), error) from None
    return question


def _locate(question: Question, held: Mapping[str, Document]) -> Question:
    if not question.answers:
        return question
    if question.document is None:
        among: Sequence[Document] = list(held.values())
        name: Where = Words("any of the documents")
    elif question.document in held:
        among, name = [held[question.document]], question.document
    else:
        raise InputError(
            "{}: its document {} is not among those given: name one of {}",
            question.where,
            _quoted(question.document),
            _some(held),
        )
    if question.spans:
        return question
    by_text = {text: _places(text, among) for text in (*question.answers, question.sentence)}
    for text in question.answers:
        if not by_text[text]:
            raise InputError(
                "{}: the answer {} does not stand in {}: copy it from the text, word for word",
                question.where,
                _quoted(text),
                name,
            )
    if question.sentence and not by_text[question.sentence]:
        raise InputError(
            "{}: the sentence {} does not stand in {}: copy it from the text, or leave it out",
            question.where,
            _quoted(question.sentence),
            name,
        )
    gold = [question.sentence] if question.sentence else question.answers
    spans = dict.fromkeys(place for text in gold for place in by_text[text])
    return replace(question, spans=tuple(spans))


def whole_words(wanted: str, documents: Sequence[Document]) -> list[Place]:
    """Where a text stands as whole words."""
    return _find(wanted, documents)[0]


def _places(wanted: str, documents: Sequence[Document]) -> list[Place]:
    """Where a text stands: as whole words, or where there are none of these, anywhere."""
    whole, anywhere = _find(wanted, documents) if wanted else ([], [])
    return whole or anywhere


def _find(wanted: str, documents: Sequence[Document]) -> tuple[list[Place], list[Place]]:
    """The places of a text as whole words, and all of them."""
    pattern = re.compile(r"\s+".join(map(re.escape, wanted.split())))
    whole: list[Place] = []
    anywhere: list[Place] = []
    for document in documents:
        text = document.text
        for match in pattern.finditer(text):
            start, end = match.span()
            anywhere.append(Place(document.source, start, end))
            inside = text[max(0, start - 1) : start].isalnum() and text[start].isalnum()
            goes_on = text[end : end + 1].isalnum() and text[end - 1].isalnum()
            if not inside and not goes_on:
                whole.append(anywhere[-1])
    return whole, anywhere


# ---- JSON Lines ------------------------------------------------------------------------------


def _read_lines(path: Path, text: str) -> list[Question]:
    seen: dict[str, Where] = {}
    questions = []
    for where, value in _rows(path, text):
        keys = value.keys() if isinstance(value, dict) else frozenset()
        if keys & {"data", "paragraphs", "qas", "context"}:
            raise InputError(
                "{} mixes formats: SQuAD JSON must be a file of its own, not a line", where
            )
        if "_id" in keys:
            raise InputError("{} is a line of a BEIR folder: name the folder instead", where)
        row = _object(value, where, _LINE_KEYS)
        asked = _text(row, "question", where)
        answers = _list(row, "answers", where) if "answers" in row else []
        for answer in answers:
            _check_text(answer, Words("an answer"), where)
        # As documents are: what is composed or spaced differently is the same text.
        answers = list(dict.fromkeys(canonical(answer) for answer in answers))
        answerable = _flag(row, "answerable", where, default=True)
        _check_answerable(answerable, answers, where, '"answerable": false')
        if not answerable and "sentence" in row:
            raise InputError("{} is unanswerable but has a sentence that answers: drop one", where)
        questions.append(
            Question(
                id=_unseen(_text(row, "id", where), seen, where),
                question=asked,
                language=_language(asked),
                answers=tuple(answers),
                document=_text(row, "document", where) if "document" in row else None,
                answerable=answerable,
                style=_text(row, "style", where) if "style" in row else "",
                sentence=canonical(_text(row, "sentence", where)) if "sentence" in row else "",
                where=where,
            )
        )
    return questions


def _rows(path: Path, text: str) -> Iterator[tuple[Words, object]]:
    """The values of a JSON Lines file, each after its place; blank lines are passed over."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = Words("{}, line {}", _show(path), number)
        try:
            value = _loads(line)
        except ValueError as error:
            raise InputError(
                "{} is not JSON ({}): write one object a line, like {}",
                where,
                _reason(error),
                EXAMPLE,
            ) from None
        yield where, value


# ---- SQuAD JSON ------------------------------------------------------------------------------


def _is_squad(path: Path, text: str) -> bool:
    if _LOOKS_LIKE_SQUAD.match(text):
        return True
    if not _ONE_VALUE.match(text):
        return False
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return False  # what is wrong is told where lines are read
    if isinstance(held, dict) and isinstance(held.get("data"), list):
        return True  # its keys are in another order
    if isinstance(held, dict) and "\n" not in text.strip():
        return False  # a line
    raise InputError(
        '{} is one JSON {}: write one object a line, like {}, or SQuAD JSON, like {{"data":'
        " [...]}}",
        _show(path),
        Words("list") if isinstance(held, list) else Words("object"),
        EXAMPLE,
    )


def _read_squad(path: Path, text: str) -> QuestionSet:
    name = _show(path)
    try:
        whole = _loads(text)
    except json.JSONDecodeError as error:
        where = Words("{}, line {}", name, error.lineno)
        if error.msg == "Extra data":
            raise InputError(
                "{} mixes formats: nothing may follow SQuAD JSON in its file", where
            ) from None
        raise InputError("{} is not JSON ({}): mend it there", where, _reason(error)) from None
    except ValueError as error:
        raise InputError("{} is not JSON ({}): mend it", name, _reason(error)) from None
    source_of: dict[str, str] = {}
    documents: list[Document] = []
    questions: list[Question] = []
    seen: dict[str, Where] = {}
    counts: Counter[str] = Counter()
    lines, in_articles, in_paragraphs = (
        _lines_of(text, key) for key in ("id", "paragraphs", "context")
    )
    for part in _list(_object(whole, name, _SQUAD_KEYS), "data", name):
        place = _within(name, part, "paragraphs", in_articles)
        an_article = Words("{}, an article", place)
        article = _object(part, an_article, _ARTICLE_KEYS)
        title = _text(article, "title", an_article) if "title" in article else path.stem
        title = _printable(title)
        for inner in _list(article, "paragraphs", Words("{}, article {}", place, title)):
            counts[title] += 1
            place = _within(name, inner, "context", in_paragraphs)
            where = Words("{}, paragraph {}#{}", place, title, counts[title])
            paragraph = _object(inner, where, _PARAGRAPH_KEYS)
            context = _text(paragraph, "context", where)
            # Of two equal paragraphs, either would be right to find.
            source = source_of.setdefault(context, f"{title}#{counts[title]}")
            if source == f"{title}#{counts[title]}":
                shown = title.replace("_", " ")
                documents.append(Document(context, source, shown, detect_language(context)))
            for qa in _list(paragraph, "qas", where):
                place = Words("{}, line {}", name, next(lines, 1))
                question = _squad_question(qa, context, source, place, where)
                _unseen(question.id, seen, question.where)
                questions.append(question)
    if not questions:
        raise InputError("{} has no question in it: give a file that has", name)
    return QuestionSet(tuple(questions), tuple(documents))


def _lines_of(text: str, key: str) -> Iterator[int]:
    """The line of each such key, in turn: a parsed value does not know where it stood.

    In a string the quotation marks would be escaped, and no other object may have the key.
    """
    line, at = 1, 0
    for match in re.finditer(rf'"{key}"\s*:', text):
        line, at = line + text.count("\n", at, match.start()), match.start()
        yield line


def _within(name: str, value: object, key: str, lines: Iterator[int]) -> Where:
    """The place in a file for a message: with the line of that key, where an object has it."""
    known = isinstance(value, dict) and key in value
    return Words("{}, line {}", name, next(lines, 1)) if known else name


def _squad_question(qa: object, context: str, source: str, place: Where, where: Where) -> Question:
    row = _object(qa, where)
    number = row.get("id")
    key = str(number) if type(number) is int else _text(row, "id", where)
    where = Words("{}, question {}", place, _show(key))
    _object(row, where, _QUESTION_KEYS)
    asked = _text(row, "question", where)
    impossible = _flag(row, "is_impossible", where, default=False)
    spans = [
        _squad_span(answer, context, source, where)
        for answer in (_list(row, "answers", where) if "answers" in row else [])
    ]
    answers = dict.fromkeys(context[span.start : span.end] for span in spans)
    _check_answerable(not impossible, answers, where, '"is_impossible": true')
    return Question(
        id=key,
        question=asked,
        language=_language(asked),
        answers=tuple(answers),
        document=source,
        spans=tuple(dict.fromkeys(spans)),
        answerable=not impossible,
        relevance={} if impossible else {source: 1},
        where=where,
    )


def _squad_span(answer: object, context: str, source: str, where: Where) -> Place:
    an_answer = Words("{}, an answer", where)
    row = _object(answer, an_answer, _ANSWER_KEYS)
    text, start = _text(row, "text", an_answer), row.get("answer_start")
    if type(start) is not int:
        raise InputError("{}: answer_start must be a whole number, not {}", where, _kind(start))
    if start < 0 or not context.startswith(text, start):
        found = context.find(text)
        place = Words("but at {}", found) if found >= 0 else Words("nor anywhere else")
        raise InputError(
            "{}: the answer {} does not stand at {} in its context, {}: correct text or"
            " answer_start",
            where,
            _quoted(text),
            start,
            place,
        )
    return Place(source, start, start + len(text))


def _across(asked: QuestionSet, answered: QuestionSet, contexts: Path) -> QuestionSet:
    """The questions of one set over the documents of the other, whose gold holds."""
    gold = {question.id: question for question in answered.questions}
    missing = [question for question in asked.questions if question.id not in gold]
    if missing:
        more = Words(" (and {} more)", len(missing) - 1) if len(missing) > 1 else ""
        raise InputError(
            "{} is not in {}{}: give the file of contexts that has all of these ids",
            missing[0].where,
            _show(contexts),
            more,
        )
    questions = tuple(
        replace(gold[q.id], question=q.question, language=q.language, where=q.where)
        for q in asked.questions
    )
    return QuestionSet(questions, answered.documents)


# ---- BEIR ------------------------------------------------------------------------------------


def _read_beir(folder: Path) -> QuestionSet:
    corpus, queries = folder / "corpus.jsonl", folder / "queries.jsonl"
    qrels = sorted((folder / "qrels").glob("*.tsv"))
    if not (corpus.is_file() and queries.is_file() and qrels):
        raise InputError(
            "{} is not a BEIR folder: that has corpus.jsonl, queries.jsonl and qrels/test.tsv",
            _show(folder),
        )
    chosen = [file for file in qrels if len(qrels) == 1 or file.name == "test.tsv"]
    if not chosen:
        raise InputError(
            "{} has several files, none of them test.tsv: leave one of {}",
            _show(folder / "qrels"),
            _some(file.name for file in qrels),
        )
    ids: dict[str, Where] = {}
    documents = []
    for where, value in _rows(corpus, _read(corpus)):
        row = _object(value, where, _CORPUS_KEYS)
        source = _unseen(_text(row, "_id", where), ids, where)
        title = _check_text(row.get("title", ""), "title", where, blank=True)
        body = _check_text(row.get("text"), "text", where, blank=True)
        # BEIR's own evaluation puts the title before the text, too.
        if text := canonical(f"{title}\n\n{body}"):  # what is empty cannot be found
            shown = _printable(title) or source
            documents.append(Document(text, source, shown, detect_language(text)))
    asked: dict[str, Where] = {}
    rows = []
    for where, value in _rows(queries, _read(queries)):
        row = _object(value, where, _QUERY_KEYS)
        key = _unseen(_text(row, "_id", where), asked, where)
        rows.append((where, key, _text(row, "text", where)))
    relevance = _read_qrels(chosen[0], asked.keys(), ids.keys())
    questions = tuple(
        Question(key, text, _language(text), relevance=relevance[key], where=where)
        for where, key, text in rows
        if any(grade > 0 for grade in relevance.get(key, {}).values())
    )
    if not questions:
        raise InputError("{} calls nothing relevant: give grades above 0", _show(chosen[0]))
    return QuestionSet(questions, tuple(documents))


def _read_qrels(
    path: Path, queries: Iterable[str], documents: Iterable[str]
) -> dict[str, dict[str, int]]:
    """Query id → document id → grade."""
    queries, documents = frozenset(queries), frozenset(documents)
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_read(path).split("\n"), 1):
        parts = line.strip("\r").split("\t")
        if not line.strip() or (number == 1 and parts[-1].strip() == "score"):
            continue
        where = Words("{}, line {}", _show(path), number)
        if len(parts) != 3 or not re.fullmatch(r"-?\d{1,9}", parts[2].strip()):
            raise InputError(
                "{} is not a judgement: write query-id, tab, corpus-id, tab, a whole number", where
            )
        query, document, grade = parts[0], parts[1], int(parts[2])
        if query not in queries:
            raise InputError(
                "{}: no query {} in queries.jsonl: add it there", where, _quoted(query)
            )
        if document not in documents:
            raise InputError(
                "{}: no document {} in corpus.jsonl: add it there", where, _quoted(document)
            )
        if document in grades.setdefault(query, {}):
            raise InputError("{} judges the same pair again: leave one judgement", where)
        grades[query][document] = grade
    return grades


# ---- Bytes, values, and what is wrong with them ----------------------------------------------


def _read(path: Path) -> str:
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise InputError("{} does not exist", _show(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError("{} cannot be read: {}", _show(path), reason) from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError("{}, line {} is not UTF-8: save it as UTF-8", _show(path), line) from None
    if not text.strip():
        raise InputError("{} is empty: fill it or name another", _show(path))
    return text


def _loads(text: str) -> object:
    """A JSON value. Raises ValueError where it is none, or an object has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {_quoted(counts.most_common(1)[0][0])} stands twice")
    return row


def _reason(error: ValueError) -> Where:
    if isinstance(error, json.JSONDecodeError):
        return Words("{} at column {}", Words(error.msg), error.colno)
    return str(error)


def _object(value: object, where: Where, known: Sequence[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError("{} must be an object, not {}", where, _kind(value))
    if known is not None and (unknown := [key for key in value if key not in known]):
        raise InputError(
            "{}: unknown key {}: known are {}", where, _quoted(unknown[0]), _some(known)
        )
    return value


def _list(row: Mapping[str, Any], key: str, where: Where) -> list[Any]:
    value = row.get(key)
    if not isinstance(value, list):
        raise InputError("{}: {} must be a list, not {}", where, key, _kind(value))
    return value


def _flag(row: Mapping[str, Any], key: str, where: Where, *, default: bool) -> bool:
    value = row.get(key, default)
    if not isinstance(value, bool):
        raise InputError("{}: {} must be true or false, not {}", where, key, _kind(value))
    return value


def _text(row: Mapping[str, Any], key: str, where: Where) -> str:
    return _check_text(row.get(key), key, where)


def _check_text(value: object, what: Where, where: Where, *, blank: bool = False) -> str:
    if not isinstance(value, str):
        raise InputError("{}: {} must be text, not {}", where, what, _kind(value))
    if not blank and not canonical(value):
        raise InputError("{}: {} is empty: fill it in", where, what)
    if _SURROGATES.search(value):
        raise InputError("{}: {} has half a surrogate pair in it: write the character", where, what)
    return value


def _check_answerable(answerable: bool, answers: Iterable[str], where: Where, mark: str) -> None:
    some = any(True for _ in answers)
    if answerable and not some:
        raise InputError("{} has no answers: give some, or mark it {}", where, mark)
    if not answerable and some:
        raise InputError("{} has answers but is marked {}: drop the one or the other", where, mark)


def _unseen(key: str, seen: dict[str, Where], where: Where) -> str:
    """``key``, noted as seen at ``where``."""
    if key in seen:
        raise InputError(
            "{}: the id {} was given before, in {}: change it", where, _quoted(key), seen[key]
        )
    seen[key] = where
    return key


def _language(question: str) -> str:
    return detect_language(" ".join(question.split()), among=LANGUAGES)


def _kind(value: object) -> Words:
    """What a JSON value is, in words."""
    if value is None:
        return Words("missing or null")
    if isinstance(value, bool):
        return Words("true or false")
    if isinstance(value, str):
        return Words("text")
    if isinstance(value, (dict, list)):
        return Words("an object") if isinstance(value, dict) else Words("a list")
    return Words("a number")


def _some(names: Iterable[str]) -> str:
    """The first few of the names."""
    shown = [_show(name) for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def _quoted(text: str) -> str:
    return f'"{_show(text)}"'


def _show(text: object) -> str:
    """A text or path as one line of bearable length."""
    line = _printable(str(text))
    return line if len(line) <= 80 or isinstance(text, Path) else line[:79] + "…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))

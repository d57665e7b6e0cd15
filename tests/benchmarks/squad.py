"""XQuAD as documents, questions and gold spans, for the benchmarks beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from index.embed import Encoder
from index.store import PassageIndex, View
from index.types import Document
from rag.questions import read_questions

LANGUAGES = ("en", "de")
DIRECTIONS = (("en", "de"), ("de", "de"), ("de", "en"), ("en", "en"))
"""(language of the question, language of the documents)"""


@dataclass(frozen=True, slots=True)
class Gold:
    """One question in each language, its paragraph's number and article, and the answers."""

    question: dict[str, str]
    answers: dict[str, tuple[str, ...]]
    paragraph: int
    article: int


def read(folder: Path, split: str = "dev") -> tuple[dict[str, list[str]], list[int], list[Gold]]:
    """The paragraphs by language, the article of each, and the questions."""
    found = {lang: read_questions(folder / f"xquad.{lang}.{split}.json") for lang in LANGUAGES}
    documents = found["en"].documents
    paragraph = {document.source: number for number, document in enumerate(documents)}
    titles = list(dict.fromkeys(document.title for document in documents))
    articles = [titles.index(document.title) for document in documents]
    asked = {lang: {q.id: q for q in found[lang].questions} for lang in LANGUAGES}
    gold = []
    for key, question in asked["en"].items():
        number = paragraph[question.document or ""]
        gold.append(
            Gold(
                {lang: asked[lang][key].question for lang in LANGUAGES},
                {lang: asked[lang][key].answers for lang in LANGUAGES},
                number,
                articles[number],
            )
        )
    return {lang: [d.text for d in found[lang].documents] for lang in LANGUAGES}, articles, gold


def indexes(paragraphs: dict[str, list[str]], encoder: Encoder) -> dict[str, PassageIndex]:
    """One index a language; each paragraph a document whose source is its number."""
    found = {}
    for lang, texts in paragraphs.items():
        found[lang] = PassageIndex(encoder=encoder)
        found[lang].add(Document(text, str(i), "", lang) for i, text in enumerate(texts))
    return found


def subset(view: View, keep: set[str]) -> View:
    """The view of an index that holds only the documents with these sources."""
    return view.only({"source": keep})


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of a question file: its answers are empty where the text does not say."""

    id: str
    language: str
    question: str
    answers: tuple[str, ...]
    style: str


def texts_with_questions(folder: Path) -> list[tuple[Path, list[Asked]]]:
    """Every NAME.LANG.txt under ``folder`` with its NAME.questions.LANG.jsonl."""
    found = []
    for text in sorted(folder.rglob("*.txt")):
        name = text.name.split(".")[0]
        asked = []
        for file in sorted(text.parent.glob(f"{name}.questions.*.jsonl")):
            language = file.name.split(".")[-2]
            asked += [
                Asked(q.id, language, q.question, q.answers, q.style)
                for q in read_questions(file).questions
            ]
        found.append((text, asked))
    return found

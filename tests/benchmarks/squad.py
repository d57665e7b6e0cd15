"""XQuAD as documents, questions and gold spans, for the benchmarks beside this file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from index.embed import Encoder
from index.store import PassageIndex, View
from index.types import Document

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
    data = {
        lang: json.loads((folder / f"xquad.{lang}.{split}.json").read_text("utf-8"))["data"]
        for lang in LANGUAGES
    }
    paragraphs: dict[str, list[str]] = {lang: [] for lang in LANGUAGES}
    articles: list[int] = []
    gold: list[Gold] = []
    for number, article in enumerate(data["en"]):
        for part, paragraph in enumerate(article["paragraphs"]):
            sides = {lang: data[lang][number]["paragraphs"][part] for lang in LANGUAGES}
            for lang in LANGUAGES:
                paragraphs[lang].append(sides[lang]["context"])
            articles.append(number)
            for i in range(len(paragraph["qas"])):
                asked = {lang: sides[lang]["qas"][i] for lang in LANGUAGES}
                gold.append(
                    Gold(
                        {lang: asked[lang]["question"] for lang in LANGUAGES},
                        {
                            lang: tuple(a["text"] for a in asked[lang]["answers"])
                            for lang in LANGUAGES
                        },
                        len(articles) - 1,
                        number,
                    )
                )
    return paragraphs, articles, gold


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
            for line in file.read_text("utf-8").splitlines():
                row = json.loads(line)
                answers = tuple(row.get("answers", ()))
                language = file.name.split(".")[-2]
                style = row.get("style", "")
                asked.append(Asked(row["id"], language, row["question"], answers, style))
        found.append((text, asked))
    return found

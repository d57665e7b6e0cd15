"""Make lessons (see index.distill.lessons) of a question file in SQuAD's format.

    python -m index.distill.squad train-v1.1.json --language en --out FOLDER

Each article becomes one text, its paragraphs in order, so that a question's wrong passages
are of its own article. Answers are named with the sentence that they were marked in; one that
goes over the end of a sentence is left out (Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions
for Machine Comprehension of Text").
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from index.split import sentences


def lessons(article: dict[str, Any], language: str) -> tuple[str, list[dict[str, Any]]]:
    """The text of an article, and its questions as they stand in a lesson's file."""
    paragraphs = [paragraph["context"] for paragraph in article["paragraphs"]]
    return "\n\n".join(paragraphs), [
        row for paragraph in article["paragraphs"] for row in _rows(paragraph, language)
    ]


def _rows(paragraph: dict[str, Any], language: str) -> Iterator[dict[str, Any]]:
    text = paragraph["context"]
    spans = sentences(text, language)
    starts = [span.start for span in spans]
    for asked in paragraph["qas"]:
        row = {"id": str(asked["id"]), "question": asked["question"].strip()}
        if not asked["answers"]:
            yield row | {"answers": [], "answerable": False}
            continue
        answer, start = asked["answers"][0]["text"], asked["answers"][0]["answer_start"]
        span = spans[max(0, bisect_right(starts, start) - 1)]
        if answer and start + len(answer) <= span.end:
            sentence = text[span.start : span.end]
            yield row | {"answers": [answer], "sentence": sentence}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m index.distill.squad", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--language", default="en", help="of texts and questions (default: en)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        articles = json.loads(args.file.read_text("utf-8"))["data"]
        args.out.mkdir(parents=True, exist_ok=True)
        for number, article in enumerate(tqdm(articles, unit="article", disable=None)):
            text, rows = lessons(article, args.language)
            name = args.out / f"squad-{number:03d}-{args.language}"
            Path(f"{name}.{args.language}.txt").write_text(text, "utf-8")
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            file = Path(f"{name}.questions.{args.language}.jsonl")
            file.write_text("\n".join(lines), "utf-8")
    except OSError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        parser.exit(2, f"{parser.prog}: {args.file}: not as SQuAD's files are: {error!r}\n")


if __name__ == "__main__":
    main()

"""Questions about news, and about invented texts, laid beside the text that they are about.

    python -m tests.benchmarks.news PAIRS.tsv.gz --out FOLDER

questions/news.jsonl.gz holds questions only: the text is news of the WMT test sets, which is
not ours to give. PAIRS is the file of sentence pairs that the encoder was taught from; each
row names its lines. Writes FOLDER/train and FOLDER/dev (171 of the windows, which nothing
was taught on), in German and in English, as index.distill reads lessons, and to FOLDER/train
the texts of questions/invented.jsonl.gz, each in its one language.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

QUESTIONS = Path(__file__).parent / "questions"
LANGUAGES = ("de", "en")


def windows(file: str = "news.jsonl.gz") -> list[dict[str, Any]]:
    """Every window of news, or every text of another such file, with its questions."""
    lines = gzip.decompress((QUESTIONS / file).read_bytes()).decode().splitlines()
    return [json.loads(line) for line in lines]


def rows(window: dict[str, Any], asked: str, text: str, sentences: list[str]) -> list[str]:
    """The lines of one question file: asked in one language of the text in another."""
    found = []
    for number, question in enumerate(window["questions"]):
        row = {
            "id": f"{window['id']}-{number:02d}",
            "question": question[asked],
            "style": question["style"],
        }
        if "answer" in question:
            answer = question["answer"][text]
            holding = [sentences[i - 1] for i in question["lines"] if answer in sentences[i - 1]]
            if not holding:
                continue
            row |= {"answers": [answer], "sentence": holding[0]}
            if "beside" in question and window["split"] == "train":
                # What the question asks about, told apart from its reason: a good quote has both.
                effect = sentences[question["beside"] - 1]
                row |= {"answers": [answer, effect], "sentence": f"{holding[0]}\n{effect}"}
        else:
            row |= {"answers": [], "answerable": False}
        found.append(json.dumps(row, ensure_ascii=False))
    return found


def lay(out: Path, window: dict[str, Any], text: str, sentences: list[str]) -> None:
    """Write the text in that language, and its questions in both."""
    folder = out / window["split"]
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{window['id']}-{text}"
    (folder / f"{name}.{text}.txt").write_text(" ".join(sentences), "utf-8")
    for asked in LANGUAGES:
        file = folder / f"{name}.questions.{asked}.jsonl"
        file.write_text("\n".join(rows(window, asked, text, sentences)), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with gzip.open(args.pairs, "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file]
    for window in windows():
        for column, text in enumerate(LANGUAGES):
            sentences = [pairs[number - 1][column].strip() for number in window["lines"]]
            lay(args.out, window, text, sentences)
    for told in windows("invented.jsonl.gz"):
        lay(args.out, told, told["language"], told["sentences"])


if __name__ == "__main__":
    main()

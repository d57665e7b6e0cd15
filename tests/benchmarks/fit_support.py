"""Fit and measure how well citations support a sentence (rag/check.py).

    python -m tests.benchmarks.fit_support XQUAD [--paragraphs N] [--every N] [--write]

A sentence is paired with its true source and with the nearest wrong passage; AUROC says how
well the two are told apart. Sentences are those of XQuAD (a folder with xquad.en.dev.json and
xquad.de.dev.json) over the other language; its questions with their answers, and those of
questions/dev, which stand for what is said in other words. Figures are of articles or texts
left out of each fit. Some of these sentences are also made untrue in one detail by rule
(altered.py), with the same source. Those written by hand in claims/, with their source, with
the nearest other sentence, and something untrue with the same source, are judged by a model
that saw none of their texts. --write changes rag/support.json.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import GroupKFold

from index.embed import Encoder, SentenceTransformerEncoder
from index.load import load
from index.split import passages
from index.types import Document, Passage
from index.vectors import Encoding
from rag.check import FEATURES, WEIGHTS, Weights, contradicted, support_features
from rag.facts import Source
from rag.questions import read_questions
from tests.benchmarks.altered import altered
from tests.benchmarks.squad import LANGUAGES, read

QUESTIONS = Path(__file__).parent / "questions" / "dev"
CLAIMS = Path(__file__).parent / "claims"
UNSUPPORTED_AT = 0.02
"""So many of the sentences with their true source may be called unsupported."""
SUPPORTED_AT = 0.05
"""And so many of those with a near passage supported."""
ALTERED_KIND = "altered: "
ALTERED = 4
"""Every so manieth sentence is made untrue too."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence, its language, and where it is from: a passage, and a sentence of it if known."""

    kind: str
    group: str
    text: str
    language: str
    passage: Passage
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    kind: str
    group: str
    true: bool
    features: NDArray[np.float32]
    flagged: bool


class Texts:
    """Encodings, each made once."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.held: dict[str, Encoding] = {}

    def __call__(self, texts: Sequence[str]) -> list[Encoding]:
        fresh = [text for text in dict.fromkeys(texts) if text not in self.held]
        self.held |= dict(zip(fresh, self.encoder.encode(fresh), strict=True))
        return [self.held[text] for text in texts]


def split(document: Document, encoder: Encoder) -> list[Passage]:
    return passages(document, window=254, count_tokens=encoder.count_tokens)


def sentences(passage: Passage) -> list[str]:
    return [passage.document.text[s.start : s.end] for s in passage.sentences]


def xquad(folder: Path, encoder: Encoder) -> Iterator[tuple[list[Said], list[Passage]]]:
    paragraphs, articles, gold = read(folder)
    found = {
        lang: [
            split(Document(text, f"{lang}{i}", "", lang), encoder)[0]
            for i, text in enumerate(paragraphs[lang])
        ]
        for lang in LANGUAGES
    }
    for of in LANGUAGES:
        (other,) = set(LANGUAGES) - {of}
        said = [
            Said(f"sentence {other}>{of}", f"a{articles[i]}", text, other, found[of][i])
            for i, passage in enumerate(found[other])
            for text in sentences(passage)
            if len(text.split()) >= 5
        ]
        for lang in LANGUAGES:
            for g in gold:
                text = f"{g.question[lang]} {g.answers[lang][0]}"
                said.append(
                    Said(
                        f"question {lang}>{of}", f"a{g.article}", text, lang,
                        found[of][g.paragraph], g.answers[of][0],
                    )
                )  # fmt: skip
        yield said, found[of]


def own(folder: Path, encoder: Encoder) -> Iterator[tuple[list[Said], list[Passage]]]:
    for file in sorted(folder.glob("*.??.txt")):
        document = load(file)
        cut = split(document, encoder)
        said = []
        asked = file.with_name(f"{file.name.split('.')[0]}.questions.{document.language}.jsonl")
        for question in read_questions(asked).questions:
            holding = [p for p in cut if question.answers and question.answers[0] in p.text]
            if holding:
                text = f"{question.question} {question.answers[0]}"
                kind = f"own wording {document.language}>{document.language}"
                said.append(
                    Said(kind, file.name, text, document.language, holding[0], question.answers[0])
                )
        yield said, cut


def pair(
    kind: str, group: str, true: bool, text: str, language: str, parts: list[str],
    passage: Passage, texts: Texts,
) -> Pair:  # fmt: skip
    """A sentence with a quote (``parts``: the quote, then its sentences) of a passage."""
    spoken = passage.document.language
    quotes = [Source(parts[0], spoken)]
    (claim,), cited = texts([text]), texts(parts)
    features = support_features(
        text, claim, language, cited, quotes, [Source(passage.text, spoken)]
    )
    single = parts[1:] or parts
    nearest = max(single, key=lambda part: float(texts([part])[0].vector @ claim.vector))
    against = contradicted(text, language, nearest, spoken, quotes)
    return Pair(kind, group, true, features, bool(features[4:6].any() or against))


def pairs(said: Sequence[Said], all_passages: Sequence[Passage], texts: Texts) -> list[Pair]:
    """Each sentence with its source, and with the nearest passage that does not hold it; some of
    them untrue, with the source."""
    if not said:
        return []
    vectors = np.stack([e.vector for e in texts([p.text for p in all_passages])])
    near = np.stack([e.vector for e in texts([one.text for one in said])]) @ vectors.T
    chosen: list[tuple[Said, Passage]] = []
    for one, row in zip(said, near, strict=True):
        chosen.append((one, one.passage))
        for passage in (all_passages[i] for i in np.argsort(-row)):
            if passage is not one.passage and not (one.answer and one.answer in passage.text):
                chosen.append((one, passage))
                break
    texts([text for _, passage in chosen for text in sentences(passage)])
    quotes = [quoted(one, passage, n % 4 > 1, texts) for n, (one, passage) in enumerate(chosen)]
    texts([text for parts in quotes for text in parts])
    chance = random.Random(1)
    wanted = [
        (one.kind, passage is one.passage, one, one.text, parts, passage)
        for (one, passage), parts in zip(chosen, quotes, strict=True)
    ]
    for _, true, one, _, parts, passage in wanted[:: 2 * ALTERED]:
        if true:
            lent = [other.text for other in chance.sample(list(said), min(9, len(said)))]
            wanted += [
                (f"{ALTERED_KIND}{how}", False, one, new, parts, passage)
                for how, new in altered(one.text, one.language, lent, chance)
            ]
    texts([text for _, _, _, text, _, _ in wanted])
    return [
        pair(kind, one.group, true, text, one.language, parts, passage, texts)
        for kind, true, one, text, parts, passage in wanted
    ]


def quoted(one: Said, passage: Passage, wide: bool, texts: Texts) -> list[str]:
    """A quote and its sentences: the nearest of a passage, or that which holds the answer, and
    if ``wide`` those beside it."""
    parts = sentences(passage)
    (claim,) = texts([one.text])
    near = [float(e.vector @ claim.vector) for e in texts(parts)]
    holding = [i for i, part in enumerate(parts) if one.answer and one.answer in part]
    best = max(holding or range(len(parts)), key=near.__getitem__)
    first, last = max(0, best - wide), min(len(parts) - 1, best + wide)
    spans = passage.sentences
    quote = passage.document.text[spans[first].start : spans[last].end]
    return [quote, *parts[first : last + 1]]


def by_hand(folder: Path, texts: Texts) -> list[Pair]:
    """Sentences written by hand: with their source, with the nearest other one; and untrue ones."""
    found = []
    for file in sorted(folder.glob("*.jsonl")):
        name, language, _ = file.name.split(".")
        (source,) = QUESTIONS.glob(f"{name}.??.txt")
        document = load(source)
        cut = split(document, texts.encoder)
        held = {text: passage for passage in cut for text in sentences(passage)}
        vectors = np.stack([e.vector for e in texts(list(held))])
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        texts([row[key] for row in rows for key in ("claim", "false")])
        for row in rows:
            (claim,) = texts([row["claim"]])
            order = [list(held)[i] for i in np.argsort(-vectors @ claim.vector)]
            near = next(text for text in order if text != row["sentence"])
            for kind, text, quote in (
                ("true", row["claim"], row["sentence"]),
                ("near", row["claim"], near),
                ("untrue", row["false"], row["sentence"]),
            ):
                way = f"{language}>{document.language} {kind}"
                true = kind == "true"
                found.append(
                    pair(way, source.name, true, text, language, [quote], held[quote], texts)
                )
    return found


def fitted(found: Sequence[Pair]) -> LogisticRegression:
    model = LogisticRegression(C=10, max_iter=5000)
    return model.fit(np.stack([p.features for p in found]), [p.true for p in found])


def is_altered(pair: Pair) -> bool:
    return pair.kind.startswith(ALTERED_KIND)


def altered_table(found: Sequence[Pair], chances: NDArray[np.float64], high: float) -> None:
    print("\nmade untrue by rule: pairs, share supported, and but for flags")
    for kind in sorted({pair.kind for pair in found}):
        rows = [i for i, pair in enumerate(found) if pair.kind == kind]
        sure = chances[rows] >= high
        flagged = np.asarray([found[i].flagged for i in rows])
        print(f"{kind:24s}{len(rows):7d}{(sure & ~flagged).mean():8.3f}{sure.mean():8.3f}")


def held_out(found: Sequence[Pair], folds: int = 5) -> NDArray[np.float64]:
    """The chance of each pair, by a model fitted without its article or text, and without those
    made untrue."""
    chances = np.zeros(len(found))
    groups = [pair.group for pair in found]
    for train, test in GroupKFold(folds).split(groups, groups=groups):
        model = fitted([found[i] for i in train if not is_altered(found[i])])
        chances[test] = model.predict_proba(np.stack([found[i].features for i in test]))[:, 1]
    return chances


def table(found: Sequence[Pair], chances: NDArray[np.float64], low: float, high: float) -> None:
    truth = np.asarray([pair.true for pair in found])
    kinds = np.asarray([pair.kind for pair in found])
    flagged = np.asarray([pair.flagged for pair in found])
    print(
        f"\n{'':24s}{'pairs':>7s}{'AUROC':>8s}  true: supported weak un-  near: supported weak un-"
    )
    for kind in (*dict.fromkeys(kinds), "all"):
        rows = kinds == kind if kind != "all" else np.ones(len(kinds), bool)
        area = roc_auc_score(truth[rows], chances[rows])
        shares = []
        for side in (True, False):
            own = rows & (truth == side)
            strong = float((own & (chances >= high) & ~flagged).sum() / own.sum())
            none = float((own & (chances < low)).sum() / own.sum())
            shares.append(f"{strong:9.3f}{1 - strong - none:7.3f}{none:7.3f}")
        print(f"{kind:24s}{rows.sum():7d}{area:8.4f}      {'  '.join(shares)}")


def roc(truth: NDArray[np.bool_], chances: NDArray[np.float64]) -> None:
    false, true, _ = roc_curve(truth, chances)
    print("\nROC: false positives -> true positives")
    for at in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        print(f"{at:6.2f} -> {float(np.interp(at, false, true)):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("xquad", type=Path)
    parser.add_argument("--paragraphs", type=int, help="use the first so many of XQuAD")
    parser.add_argument("--every", type=int, default=1, help="and every n-th sentence of them")
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="written by hand")
    parser.add_argument("--write", action="store_true", help="write rag/support.json")
    args = parser.parse_args()

    texts = Texts(SentenceTransformerEncoder())
    hand = by_hand(args.claims, texts)
    seen = {pair.group for pair in hand}
    found = []
    for said, all_passages in own(QUESTIONS, texts.encoder):
        found += pairs([one for one in said if one.group not in seen], all_passages, texts)
    for said, all_passages in xquad(args.xquad, texts.encoder):
        used = all_passages[: args.paragraphs]
        names = {passage.document.source for passage in used}
        chosen = [one for one in said if one.passage.document.source in names]
        found += pairs(chosen[:: args.every], used, texts)
    every = held_out(found)
    kept = [i for i, pair in enumerate(found) if not is_altered(pair)]
    untrue = [i for i, pair in enumerate(found) if is_altered(pair)]
    untrue_pairs, found, chances = [found[i] for i in untrue], [found[i] for i in kept], every[kept]
    truth = np.asarray([pair.true for pair in found])
    low = float(np.quantile(chances[truth], UNSUPPORTED_AT))
    high = float(np.quantile(chances[~truth], 1 - SUPPORTED_AT))
    table(found, chances, low, high)
    roc(truth, chances)
    altered_table(untrue_pairs, every[untrue], high)
    model = fitted(found)
    here = model.predict_proba(np.stack([pair.features for pair in hand]))[:, 1]
    shipped = Weights.shipped()
    held = np.asarray([shipped.chance(pair.features) for pair in hand])
    for wrong in ("near", "untrue"):
        rows = [i for i, pair in enumerate(hand) if pair.true or pair.kind.endswith(wrong)]
        shown = [replace(hand[i], kind=hand[i].kind.split()[0]) for i in rows]
        print(f"\nby hand, true against {wrong}")
        table(shown, here[rows], low, high)
        print("as shipped")
        table(shown, held[rows], shipped.unsupported, shipped.supported)
    new = {
        "fitted_on": "XQuAD's development half and tests/benchmarks/questions/dev, by"
        " fit_support.py in tests/benchmarks",
        "weights": dict(zip(FEATURES, map(float, model.coef_[0].round(4)), strict=True)),
        "intercept": round(float(model.intercept_[0]), 4),
        "supported": round(high, 3),
        "unsupported": round(low, 3),
    }
    print(json.dumps(new, indent=1))
    if args.write:
        WEIGHTS.write_text(json.dumps(new, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Fit the weights of the sentence model and of the confidence.

    python -m tests.benchmarks.fit_ranker XQUAD QUESTIONS ... [--write]

XQUAD holds xquad.en.dev.json and xquad.de.dev.json; QUESTIONS are folders of texts with
questions of people's own wording (tests/benchmarks/questions/dev, and the dev folder that
tests.benchmarks.news writes). Two sets of weights are fitted: one for the bundled encoder,
and one without its reader, for any other. The sentence model is a
softmax over the sentences of the passages found (listwise, as in Cao et al. 2007, "Learning
to Rank: From Pairwise Approach to Listwise Approach"); the confidence is a logistic
regression over answerable and unanswerable questions. XQuAD has none of the latter, so its
questions are asked of their own article without the paragraph that answers ("near"), and of
another article ("far"). Besides, each text is asked some lines of questions/chatter.*.txt,
which no text of ours answers: greetings, noise, orders, general knowledge. Cross-validated by
article; the figures printed are of the folds left out.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from index.embed import Encoder, SentenceTransformerEncoder
from index.store import PassageIndex, View
from rag import extract as ex
from rag.extract import Ranker
from rag.features import CONFIDENCE_INPUTS, FEATURES, Scored, score_sentences
from tests.benchmarks.squad import DIRECTIONS, Gold, indexes, read, subset, texts_with_questions

FOLDS = 4
RIDGE = 1e-3
FALSELY = 0.05
"""The share of answerable questions that may be refused, of people's own wording."""
CHATTER = Path(__file__).parent / "questions"
CHATTER_EACH = 3
"""So many lines of chatter, of each language, are asked of each text."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question's sentences, and which of them hold the answer.

    ``kind`` is "xquad" (over all paragraphs), "known" (over its article), "near", "far", or
    "own"; of the last, ``style`` says how its wording goes ("chatter": nothing is asked). A
    passage is right where it is the gold paragraph, or holds an answer.
    """

    kind: str
    direction: tuple[str, str]
    article: int
    view: View = field(repr=False)
    sentences: list[Scored] = field(repr=False)
    right: NDArray[np.bool_]
    paragraph: str = ""
    style: str = ""

    @property
    def features(self) -> NDArray[np.float32]:
        return np.stack([s.features for s in self.sentences])


def scored(index: PassageIndex, view: View, question: str) -> list[Scored]:
    query = index.query(question, view)
    return score_sentences(index, view, query, index.search(query, ex.PASSAGES, view=view))


def xquad_cases(folder: Path, encoder: Encoder, every: int) -> Iterator[Case]:
    paragraphs, articles, gold = read(folder)
    rng = random.Random(0)
    for direction in DIRECTIONS:
        index = indexes({direction[1]: paragraphs[direction[1]]}, encoder)[direction[1]]

        def case(kind: str, view: View, g: Gold, of: PassageIndex, way: tuple[str, str]) -> Case:
            found = scored(of, view, g.question[way[0]])
            right = [
                s.hit.passage.document.source == str(g.paragraph)
                and any(answer in s.text for answer in g.answers[way[1]])
                for s in found
            ]
            return Case(kind, way, g.article, view, found, np.asarray(right), str(g.paragraph))

        def only(article: int, but: int = -1, of: PassageIndex = index) -> View:
            keep = {str(i) for i, a in enumerate(articles) if a == article and i != but}
            return subset(of.view, keep)

        whole = {a: only(a) for a in set(articles)}
        for n, g in enumerate(tqdm(gold[::every], desc=">".join(direction), disable=None)):
            yield case("xquad", index.view, g, index, direction)
            if n % 3 == 0:
                other = rng.choice([a for a in sorted(whole) if a != g.article])
                yield case("known", whole[g.article], g, index, direction)
                yield case("near", only(g.article, g.paragraph), g, index, direction)
                yield case("far", whole[other], g, index, direction)


def own_cases(folder: Path, encoder: Encoder) -> Iterator[Case]:
    texts = texts_with_questions(folder)
    for text, asked in tqdm(texts, desc="own questions", disable=None):
        name = text.name.split(".")[0].removesuffix("-de").removesuffix("-en")
        number = zlib.crc32(name.encode())  # a text and its translation are in one fold
        index = PassageIndex(encoder=encoder)
        index.add([text])
        language = index.documents[0].language
        for a in asked:
            found = scored(index, index.view, a.question)
            right = [any(answer in s.text for answer in a.answers) for s in found]
            way = (a.language, language)
            yield Case("own", way, number, index.view, found, np.asarray(right), style=a.style)
        rng = random.Random(number)
        for asking, lines in chatter().items():
            for i in rng.sample(range(len(lines)), CHATTER_EACH):
                found = scored(index, index.view, lines[i])
                none = np.zeros(len(found), np.bool_)
                # By line, not by text: a fold must not know the lines of another.
                yield Case("own", (asking, language), i, index.view, found, none, style="chatter")


def chatter() -> dict[str, list[str]]:
    """Lines that no text answers, by language; a line and its translation at one place."""
    return {
        language: (CHATTER / f"chatter.{language}.txt").read_text("utf-8").splitlines()
        for language in ("de", "en")
    }


def without(names: Sequence[str], reader: bool) -> NDArray[np.bool_]:
    """Which inputs may count: all, or all but the reader's."""
    return np.asarray([reader or name != "reading" for name in names])


def fit_sentences(cases: Sequence[Case], reader: bool) -> dict[str, float]:
    """Weights that maximise the likelihood that the chosen sentence holds the answer."""
    may = without(FEATURES, reader)
    useful = [(c.features * may, c) for c in cases if c.right.any() and c.kind in ("xquad", "own")]
    spread = np.concatenate([features for features, _ in useful]).std(0) + 1e-6
    share = 1 / len(useful)
    rows = [(features / spread, c.right) for features, c in useful]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = RIDGE * weights @ weights, 2 * RIDGE * weights
        for features, right in rows:
            scores = features @ weights
            raised = np.exp(scores - scores.max())
            all_, good = raised / raised.sum(), raised * right
            value -= share * np.log(good.sum() / raised.sum())
            slope = slope + share * (all_ - good / good.sum()) @ features
        return float(value), slope

    found = minimize(loss, np.zeros(len(FEATURES)), jac=True, method="L-BFGS-B").x / spread
    return dict(zip(FEATURES, (float(w) for w in found), strict=True))


def best(case: Case, weights: dict[str, float]) -> int:
    return int((case.features @ np.asarray([weights[name] for name in FEATURES])).argmax())


def fit_confidence(
    cases: Sequence[Case], weights: dict[str, float], reader: bool
) -> dict[str, float]:
    """The logistic model of whether the best sentence answers."""
    used = [c for c in cases if c.kind != "xquad"]
    x = np.stack([c.sentences[best(c, weights)].confidence_inputs() for c in used])
    x = x * without(CONFIDENCE_INPUTS, reader)
    y = [bool(c.right[best(c, weights)]) for c in used]
    spread = x.std(0) + 1e-6
    model = LogisticRegression(C=1.0, max_iter=5000)
    model.fit(x / spread, y)
    found = dict(zip(CONFIDENCE_INPUTS, map(float, model.coef_[0] / spread), strict=True))
    return found | {"intercept": float(model.intercept_[0])}


def fit(cases: Sequence[Case], reader: bool = True) -> Ranker:
    weights = fit_sentences(cases, reader)
    return Ranker(weights, fit_confidence(cases, weights, reader), 0.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a ranker made of a case."""

    case: Case
    sentence: bool
    quote: bool
    paragraph: bool
    size: int
    confidence: float


def outcome(case: Case, ranker: Ranker) -> Outcome:
    chance = ex.rank(case.sentences, ranker)
    top = int(chance.argmax())
    start, end = ex.quote_span(case.view, case.sentences, chance, top)
    passage = case.sentences[top].hit.passage
    inside = [
        right
        for s, right in zip(case.sentences, case.right, strict=True)
        if s.hit.passage is passage and start <= s.span.start and s.span.end <= end
    ]
    return Outcome(
        case,
        bool(case.right[top]),
        any(inside),
        passage.document.source == case.paragraph,
        len(inside),
        ex.confidence(case.sentences[top], ranker),
    )


def table(title: str, rows: dict[str, list[Outcome]], with_paragraph: bool) -> None:
    print(f"\n{title:24s} sentence   quote  sentences a quote" + "  paragraph" * with_paragraph)
    for name, found in rows.items():
        line = f"{name:24s}" + "".join(
            f"{np.mean(values):9.3f}"
            for values in ([o.sentence for o in found], [o.quote for o in found])
        )
        line += f"{np.mean([o.size for o in found]):12.2f}"
        if with_paragraph:
            line += f"{np.mean([o.paragraph for o in found]):18.3f}"
        print(line + f"   of {len(found)}")


def auroc(known: Sequence[Outcome], unknown: Sequence[Outcome]) -> float:
    labels = [1] * len(known) + [0] * len(unknown)
    return float(roc_auc_score(labels, [o.confidence for o in (*known, *unknown)]))


def grouped(outcomes: Sequence[Outcome], by: str) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for o in outcomes:
        key = ">".join(o.case.direction) if by == "direction" else o.case.style
        found.setdefault(key, []).append(o)
    return found


def report(outcomes: Sequence[Outcome]) -> None:
    of = {
        kind: [o for o in outcomes if o.case.kind == kind]
        for kind in ("xquad", "known", "near", "far", "own")
    }
    table("XQuAD, all paragraphs", grouped(of["xquad"], "direction"), True)
    known = [o for o in of["own"] if o.case.right.any()]
    unknown = [o for o in of["own"] if not o.case.right.any()]
    table("own wording", grouped(known, "direction"), False)
    table("own wording, by style", grouped(known, "style"), False)
    answered = [o for o in of["known"] if o.sentence]
    for kind in ("near", "far"):
        print(f"XQuAD answered rightly against {kind}: AUROC {auroc(answered, of[kind]):.3f}")
    print(f"own wording: AUROC {auroc(known, unknown):.3f}")
    for name, some in grouped(known, "style").items():
        line = [f"{k} {auroc(some, v):.3f}" for k, v in grouped(unknown, "style").items()]
        print(f"  {name:12s} against " + ", ".join(line))
    for cut in np.linspace(0.05, 0.6, 12):
        said = [
            np.mean([o.confidence < cut for o in some])
            for some in (of["far"], of["near"], unknown, answered, known)
        ]
        print(
            f"threshold {cut:.2f}: abstains far {said[0]:.3f} near {said[1]:.3f}"
            f" own unanswerable {said[2]:.3f}; falsely xquad {said[3]:.3f} own {said[4]:.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("xquad", type=Path)
    parser.add_argument("questions", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1, help="use every n-th XQuAD question")
    parser.add_argument("--write", action="store_true", help="write rag/ranker.json")
    args = parser.parse_args()

    encoder = SentenceTransformerEncoder()
    cases = [
        *(case for folder in args.questions for case in own_cases(folder, encoder)),
        *xquad_cases(args.xquad, encoder, args.every),
    ]
    held: dict[str, object] = {
        "fitted_on": "XQuAD's development half in four directions, tests/benchmarks/questions/dev"
        " and the development windows of tests/benchmarks/news.py, by fit_ranker.py there"
    }
    for name in ("other", "bundled"):
        reader = name == "bundled"
        outcomes: list[Outcome] = []
        for fold in range(FOLDS):
            ranker = fit([c for c in cases if c.article % FOLDS != fold], reader)
            outcomes += [outcome(c, ranker) for c in cases if c.article % FOLDS == fold]
        print(f"\n{'with' if reader else 'without'} the reader")
        report(outcomes)
        ranker = fit(cases, reader)
        known = [o.confidence for o in outcomes if o.case.kind == "own" and o.case.right.any()]
        held[name] = {
            "weights": {k: round(v, 4) for k, v in ranker.weights.items()},
            "confidence": {k: round(v, 4) for k, v in ranker.confidence.items()},
            "threshold": round(float(np.quantile(known, FALSELY)), 3),
        }
    if args.write:
        ex.RANKER.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Fit the weights of the sentence model and of the confidence on XQuAD's development half.

    python -m tests.benchmarks.fit_ranker FOLDER [--model DIR] [--write]

FOLDER holds xquad.en.dev.json and xquad.de.dev.json. The sentence model is a softmax over
the sentences of the passages found (listwise, as in Cao et al. 2007, "Learning to Rank:
From Pairwise Approach to Listwise Approach"); the confidence is a logistic regression over
answerable questions (asked of their own article) and unanswerable ones (asked of their
article without the paragraph that answers, and of another article). Four-fold
cross-validated by article; the figures printed are of the folds left out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from index.embed import SentenceTransformerEncoder
from index.store import PassageIndex, View
from rag import extract as ex
from rag.extract import ACROSS, CONFIDENCE_FEATURES, FEATURES, Ranker, Scored
from tests.benchmarks.squad import DIRECTIONS, Gold, indexes, read, subset

FOLDS = 4
RIDGE = 1e-3
FALSELY = 0.005
"""The share of answerable questions that may be refused. XQuAD's share more words with the text
than people's own do: at this cut a tenth of the bundled example's are refused."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question's sentences, and which of them hold the answer."""

    direction: tuple[str, str]
    article: int
    sentences: list[Scored]
    features: NDArray[np.float32]
    right: NDArray[np.bool_]


def case(index: PassageIndex, view: View, gold: Gold, direction: tuple[str, str]) -> Case:
    query = index.query(gold.question[direction[0]], view)
    hits = index.search(query, ex.PASSAGES, view=view)
    sentences = ex.score_sentences(index, view, query, hits)
    right = [
        s.hit.passage.document.source == str(gold.paragraph)
        and any(answer in s.text for answer in gold.answers[direction[1]])
        for s in sentences
    ]
    features = np.stack([s.features for s in sentences])
    return Case(direction, gold.article, sentences, features, np.asarray(right))


def fit_sentences(cases: Iterable[Case]) -> dict[str, float]:
    """Weights that maximise the likelihood that the chosen sentence holds the answer."""
    useful = [c for c in cases if c.right.any()]
    spread = np.concatenate([c.features for c in useful]).std(0) + 1e-6
    rows = [(c.features / spread, c.right) for c in useful]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total, slope = RIDGE * weights @ weights, 2 * RIDGE * weights
        for features, right in rows:
            scores = features @ weights
            raised = np.exp(scores - scores.max())
            all_, good = raised / raised.sum(), raised * right
            total -= np.log(good.sum() / raised.sum()) / len(rows)
            slope = slope + (all_ - good / good.sum()) @ features / len(rows)
        return float(total), slope

    found = minimize(loss, np.zeros(len(FEATURES)), jac=True, method="L-BFGS-B").x / spread
    return dict(zip(FEATURES, (float(w) for w in found), strict=True))


def best(case_: Case, weights: dict[str, float]) -> int:
    return int((case_.features @ np.asarray([weights[name] for name in FEATURES])).argmax())


def quoted(case_: Case, weights: dict[str, float]) -> tuple[bool, bool, int]:
    """Whether the first quote holds the answer, is in its paragraph; its sentences."""
    chance = ex.rank(case_.sentences, Ranker(weights, {}, 0.0))
    top = int(chance.argmax())
    start, end = ex.quote_span(case_.sentences, chance, top)
    passage = case_.sentences[top].hit.passage
    inside = [
        right
        for s, right in zip(case_.sentences, case_.right, strict=True)
        if s.hit.passage is passage and start <= s.span.start and s.span.end <= end
    ]
    return any(inside), bool(case_.right[top]), len(inside)


def confidence_row(case_: Case, weights: dict[str, float]) -> NDArray[np.float32]:
    return ex.confidence_features(case_.sentences[best(case_, weights)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--every", type=int, default=1, help="use every n-th question only")
    parser.add_argument("--write", action="store_true", help="write rag/ranker.json")
    args = parser.parse_args()

    paragraphs, articles, gold = read(args.folder)
    gold = gold[:: args.every]
    found = indexes(paragraphs, SentenceTransformerEncoder(args.model))
    cases: list[Case] = []
    paragraph_of: list[int] = []
    for direction in DIRECTIONS:
        index = found[direction[1]]
        for g in tqdm(gold, desc=">".join(direction), disable=None):
            cases.append(case(index, index.view, g, direction))
            paragraph_of.append(g.paragraph)

    rng = random.Random(0)
    known: list[Case] = []
    unknown: list[tuple[str, Case]] = []
    for direction in DIRECTIONS:
        index = found[direction[1]]
        by_article = {
            a: subset(index.view, {str(i) for i, of in enumerate(articles) if of == a})
            for a in set(articles)
        }
        without = {
            p: subset(
                index.view,
                {str(i) for i, of in enumerate(articles) if of == articles[p] and i != p},
            )
            for p in range(len(articles))
        }
        for g in tqdm(gold[::3], desc="confidence " + ">".join(direction), disable=None):
            other = rng.choice([a for a in set(articles) if a != g.article])
            known.append(case(index, by_article[g.article], g, direction))
            unknown.append(("near", case(index, without[g.paragraph], g, direction)))
            unknown.append(("far", case(index, by_article[other], g, direction)))

    def cross() -> None:
        rows: dict[tuple[str, str], list[tuple[bool, bool, bool, int]]] = {}
        scores: list[tuple[float, bool, str]] = []
        for fold in range(FOLDS):
            train = [c for c in cases if c.article % FOLDS != fold]
            weights = fit_sentences(train)
            for c, p in zip(cases, paragraph_of, strict=True):
                if c.article % FOLDS == fold:
                    hit, _, size = quoted(c, weights)
                    top = best(c, weights)
                    para = c.sentences[top].hit.passage.document.source == str(p)
                    rows.setdefault(c.direction, []).append((bool(c.right[top]), hit, para, size))
            logistic = LogisticRegression(C=10.0, max_iter=5000)
            x, y = confidence_table(known, unknown, weights, leave_out=fold)
            logistic.fit(x, y)
            for c in known:
                if c.article % FOLDS == fold and c.right[best(c, weights)]:
                    row = confidence_row(c, weights)[None]
                    scores.append((logistic.predict_proba(row)[0, 1], True, "known"))
            for kind, c in unknown:
                if c.article % FOLDS == fold:
                    row = confidence_row(c, weights)[None]
                    scores.append((logistic.predict_proba(row)[0, 1], False, kind))
        print("cross-validated   sentence  quote   paragraph  sentences a quote")
        for direction, values in rows.items():
            means = np.mean(np.asarray(values, np.float64), axis=0)
            print(f"{'>'.join(direction):17s} " + "   ".join(f"{m:.3f}" for m in means))
        for kind in ("near", "far"):
            picked = [s for s in scores if s[2] in ("known", kind)]
            auc = roc_auc_score([s[1] for s in picked], [s[0] for s in picked])
            print(f"answerable against {kind}: AUROC {auc:.3f}")
        cuts = np.linspace(0.05, 0.95, 91)
        said = np.asarray([s[0] for s in scores if s[1]])
        wrong = np.asarray([s[0] for s in scores if s[2] == "far"])
        near = np.asarray([s[0] for s in scores if s[2] == "near"])
        for cut in cuts[::6]:
            print(
                f"threshold {cut:.2f}: abstains far {np.mean(wrong < cut):.3f}"
                f" near {np.mean(near < cut):.3f} falsely {np.mean(said < cut):.3f}"
            )

    cross()
    weights = fit_sentences(cases)
    x, y = confidence_table(known, unknown, weights)
    logistic = LogisticRegression(C=10.0, max_iter=5000).fit(x, y)
    model = dict(zip((*CONFIDENCE_FEATURES, ACROSS), map(float, logistic.coef_[0]), strict=True))
    model["intercept"] = float(logistic.intercept_[0])
    held = {
        "fitted_on": "XQuAD development half, four directions, tests/benchmarks/fit_ranker.py",
        "sentence": {k: round(v, 4) for k, v in weights.items()},
        "confidence": {k: round(v, 4) for k, v in model.items()},
        "threshold": threshold(logistic.predict_proba(x)[:, 1], y),
    }
    print(json.dumps(held, indent=1))
    if args.write:
        Path(ex.__file__).with_name("ranker.json").write_text(json.dumps(held, indent=1) + "\n")


def confidence_table(
    known: list[Case],
    unknown: list[tuple[str, Case]],
    weights: dict[str, float],
    leave_out: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features and labels of the confidence model, but for one fold.

    An answerable question whose best sentence is wrong is left out: the confidence is to
    say whether the documents answer, and that row says neither.
    """
    answered = [(c, True) for c in known if c.right[best(c, weights)]]
    cases = answered + [(c, False) for _, c in unknown]
    kept = [(c, label) for c, label in cases if c.article % FOLDS != leave_out]
    rows = np.stack([confidence_row(c, weights) for c, _ in kept])
    return rows, np.asarray([label for _, label in kept])


def threshold(chance: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """The cut under which FALSELY of the answerable questions fall."""
    return round(float(np.quantile(chance[labels], FALSELY)), 3)


if __name__ == "__main__":
    main()

"""The extractive answerer: which sentences of the passages found answer the question.

Every sentence of the best passages gets a probability from a linear model over a few
scores (rag/ranker.json, fitted by tests/benchmarks/fit_ranker.py). The answer quotes the
best one, with neighbours that are nearly as likely, and the sentence before where the
quote points back to it. No language model is asked; nothing is paraphrased.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.late import late_scores, sentence_tokens, token_weights
from index.lexical import STOP_WORDS, fold, words
from index.store import PassageIndex, Query, View
from index.types import Hit, Passage, Span
from rag.answer import Citation
from rag.language import asks_for, offers, points_back

PASSAGES = 10
"""Passages whose sentences are weighed."""
QUOTE_SENTENCES, QUOTE_CHARACTERS = 3, 600
NEIGHBOUR = 0.35
"""A sentence beside the best one joins its quote from this share of its probability on."""
ANOTHER = 0.7
"""A sentence elsewhere is cited too from this share of the best one's probability on."""
CITATIONS = 3

FEATURES = (
    "passage_late", "passage_all", "passage_keywords", "sentence", "vector", "plain",
    "weighted", "keywords", "before", "after", "number", "time", "person", "reason", "length",
)  # fmt: skip
KINDS = ("number", "time", "person", "reason")
CONFIDENCE_FEATURES = (
    "passage_all", "passage_keywords", "sentence", "vector", "plain", "weighted",
)  # fmt: skip
ACROSS = "across"
"""The confidence model's one further input: 1 where question and document differ in language,
since scores are lower there."""


@dataclass(frozen=True, slots=True)
class Ranker:
    """Weights of the sentence model and of the confidence (logistic) model."""

    weights: Mapping[str, float]
    confidence: Mapping[str, float]
    threshold: float

    @staticmethod
    @lru_cache(maxsize=1)
    def bundled() -> Ranker:
        held = json.loads((Path(__file__).parent / "ranker.json").read_text(encoding="utf-8"))
        return Ranker(held["sentence"], held["confidence"], held["threshold"])


@dataclass(frozen=True, slots=True)
class Scored:
    """A sentence of one hit, with its features, (len(FEATURES),).

    ``across`` says that its document is not in the question's language.
    """

    hit: Hit
    position: int
    features: NDArray[np.float32]
    across: bool

    @property
    def span(self) -> Span:
        return self.hit.passage.sentences[self.position]

    @property
    def text(self) -> str:
        return self.hit.passage.document.text[self.span.start : self.span.end]


@dataclass(frozen=True, slots=True)
class Extract:
    """What the answerer found: citations, best first, and how sure it is, 0 to 1."""

    citations: tuple[Citation, ...]
    confidence: float


def score_sentences(
    index: PassageIndex, view: View, query: Query, hits: Sequence[Hit]
) -> list[Scored]:
    """Every sentence of the hits with its features, in the order of hits and text."""
    if not hits:
        return []
    stop = STOP_WORDS.get(query.language, frozenset())
    weights = token_weights(
        query.text, query.encoding, lambda token: token.isalnum() and fold(token) not in stop
    )
    known, kind = frozenset(words(query.text)), asks_for(query.text)
    rows = {id(passage): row for row, passage in enumerate(view.passages)}
    found: list[Scored] = []
    encodings = index.encodings([hit.passage for hit in hits])
    for hit, encoding in zip(hits, encodings, strict=True):
        passage = hit.passage
        late = late_scores(query.encoding, weights, sentence_tokens(passage, encoding))
        texts = [passage.document.text[span.start : span.end] for span in passage.sentences]
        held = [set(view.terms(text, passage)) for text in texts]
        keywords = view.keywords.coverage(held, query.words)
        passage_keywords = view.keywords.coverage([set().union(*held)], query.words)[0]
        row = view.first_sentence[rows[id(passage)]]
        own = view.sentences.vectors[row : row + len(texts)] @ query.encoding.vector
        beside = np.concatenate(([EDGE], late.weighted, [EDGE]))
        for i, text in enumerate(texts):
            values = {
                "passage_late": late.weighted.max(),
                "passage_all": late.passage,
                "passage_keywords": passage_keywords,
                "sentence": own[i],
                "vector": late.vector[i],
                "plain": late.plain[i],
                "weighted": late.weighted[i],
                "keywords": keywords[i],
                "before": beside[i],
                "after": beside[i + 2],
                "length": math.log(max(3, len(text.split()))),
            }
            values.update({k: offers(k, text, known) if k == kind else 0.0 for k in KINDS})
            features = np.asarray([values[name] for name in FEATURES], np.float32)
            across = passage.document.language != query.language
            found.append(Scored(hit, i, features, across))
    return found


EDGE = 0.3
"""What the neighbour beyond a passage's edge is taken to score."""


def rank(sentences: Sequence[Scored], ranker: Ranker) -> NDArray[np.float64]:
    """The probability of each sentence to be the one that answers; they sum to 1."""
    weights = np.asarray([ranker.weights[name] for name in FEATURES])
    scores = np.stack([sentence.features for sentence in sentences]) @ weights
    raised = np.exp(scores - scores.max())
    return np.asarray(raised / raised.sum(), np.float64)


def confidence_features(best: Scored) -> NDArray[np.float32]:
    """The inputs of the confidence model, (len(CONFIDENCE_FEATURES) + 1,): ACROSS is last."""
    chosen = best.features[[FEATURES.index(name) for name in CONFIDENCE_FEATURES]]
    return np.append(chosen, np.float32(best.across))


def confidence(best: Scored, ranker: Ranker) -> float:
    """The probability that the best sentence answers (logistic regression)."""
    logit = ranker.confidence["intercept"] + sum(
        ranker.confidence[name] * float(value)
        for name, value in zip(
            (*CONFIDENCE_FEATURES, ACROSS), confidence_features(best), strict=True
        )
    )
    return 1 / (1 + math.exp(-logit))


def extract(
    index: PassageIndex,
    view: View,
    query: Query,
    hits: Sequence[Hit],
    ranker: Ranker | None = None,
) -> Extract:
    """Choose the sentences that answer, from the first ``PASSAGES`` hits."""
    ranker = ranker or Ranker.bundled()
    sentences = score_sentences(index, view, query, hits[:PASSAGES])
    if not sentences:
        return Extract((), 0.0)
    languages = index.encoder.languages
    best_language = hits[0].passage.document.language
    if languages is not None and best_language not in languages:
        keywords = FEATURES.index("keywords")
        chance = np.asarray([float(s.features[keywords]) for s in sentences])
        sure = float(chance.max())
    else:
        chance = rank(sentences, ranker)
        sure = confidence(sentences[int(chance.argmax())], ranker)
    citations: list[Citation] = []
    taken: list[tuple[str, int, int]] = []
    for i in np.argsort(-chance, kind="stable"):
        if len(citations) == CITATIONS or chance[i] < ANOTHER * chance.max():
            break
        passage = sentences[i].hit.passage
        start, end = quote_span(sentences, chance, int(i))
        key = (passage.document.id, start, end)
        if any(key[0] == d and start < b and a < end for d, a, b in taken):
            continue
        taken.append(key)
        citations.append(
            Citation(
                marker=len(citations) + 1,
                document=passage.document,
                start=start,
                end=end,
                quote=passage.document.text[start:end],
                passage_start=passage.start,
                passage_end=passage.end,
                score=float(chance[i]),
            )
        )
    return Extract(tuple(citations), sure)


def quote_span(
    sentences: Sequence[Scored], chance: NDArray[np.float64], best: int
) -> tuple[int, int]:
    """The run of sentences to quote around ``best``, as offsets into its document."""
    passage: Passage = sentences[best].hit.passage
    first = best - sentences[best].position  # of this passage, in ``sentences``
    low = high = sentences[best].position

    def fits(a: int, b: int) -> bool:
        spans = passage.sentences
        return (
            a >= 0
            and b < len(spans)
            and b - a < QUOTE_SENTENCES
            and spans[b].end - spans[a].start <= QUOTE_CHARACTERS
        )

    def leans(position: int) -> bool:
        return points_back(sentences[first + position].text, passage.document.language)

    if leans(low) and fits(low - 1, high):
        low -= 1
    while True:
        sides = [(low - 1, low - 1, high), (high + 1, low, high + 1)]
        likely = [
            (chance[first + new], a, b)
            for new, a, b in sides
            if fits(a, b) and chance[first + new] >= NEIGHBOUR * chance[best]
        ]
        if not likely:
            break
        _, low, high = max(likely)
    return passage.sentences[low].start, passage.sentences[high].end

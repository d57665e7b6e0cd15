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

from index.embed import BUNDLED_NAME
from index.store import PassageIndex, Query, View
from index.types import Hit, Passage
from rag.answer import Citation
from rag.features import CONFIDENCE_INPUTS, FEATURES, Scored, score_sentences
from rag.language import points_back

PASSAGES = 10
"""Passages whose sentences are weighed."""
QUOTE_SENTENCES, QUOTE_CHARACTERS = 3, 600
NEIGHBOUR = 0.35
"""A sentence beside the best one joins its quote from this share of its probability on."""
ANOTHER = 0.7
"""A sentence elsewhere is cited too from this share of the best one's probability on."""
CITATIONS = 3
REASONS = 3
"""So many features are told as reasons for a sentence."""
RANKER = Path(__file__).parent / "ranker.json"
KEYWORDS_ENOUGH = 0.5
"""Where the encoder does not know the language, of the question or of the passage: the share of
the question's words, by idf, that a sentence must hold to answer."""


@dataclass(frozen=True, slots=True)
class Ranker:
    """Weights of the sentence model and of the confidence (logistic) model.

    ``slope`` and ``intercept`` calibrate its logit; ``threshold`` is of what comes out.
    ``notice`` is a line for the user where a calibration is kept that does not fit, or empty.
    """

    weights: Mapping[str, float]
    confidence: Mapping[str, float]
    threshold: float
    slope: float = 1.0
    intercept: float = 0.0
    notice: str = ""

    @staticmethod
    @lru_cache(maxsize=2)
    def shipped(encoder: str = BUNDLED_NAME) -> Ranker:
        """The weights for the bundled encoder and its reader, or for any other encoder."""
        held = json.loads(RANKER.read_text(encoding="utf-8"))
        return Ranker(**held["bundled" if encoder == BUNDLED_NAME else "other"])


@dataclass(frozen=True, slots=True)
class Extract:
    """What the answerer found: citations, best first, how sure it is, 0 to 1, whether that is
    sure enough to answer, and whether it is a share of keywords (see ``Answer``). ``reasons``
    are, for each citation, the features of its best sentence that speak for it most, against the
    mean of all sentences."""

    citations: tuple[Citation, ...]
    confidence: float
    answers: bool
    by_keywords: bool = False
    reasons: tuple[Mapping[str, float], ...] = ()


def rank(sentences: Sequence[Scored], ranker: Ranker) -> NDArray[np.float64]:
    """The probability of each sentence to be the one that answers; they sum to 1."""
    weights = np.asarray([ranker.weights[name] for name in FEATURES])
    scores = np.stack([sentence.features for sentence in sentences]) @ weights
    raised = np.exp(scores - scores.max())
    return np.asarray(raised / raised.sum(), np.float64)


def confidence(best: Scored, ranker: Ranker) -> float:
    """The probability that the best sentence answers (logistic regression)."""
    weights = [ranker.confidence[name] for name in CONFIDENCE_INPUTS]
    logit = ranker.confidence["intercept"] + float(np.dot(weights, best.confidence_inputs()))
    # A logistic function that cannot overflow.
    return (1 + math.tanh((ranker.slope * logit + ranker.intercept) / 2)) / 2


def _mean_of_odds(one: float, other: float) -> float:
    """The probability between two whose odds are the geometric mean of theirs."""
    chance, against = math.sqrt(one * other), math.sqrt((1 - one) * (1 - other))
    return chance / (chance + against) if chance else 0.0


def extract(
    index: PassageIndex,
    view: View,
    query: Query,
    hits: Sequence[Hit],
    ranker: Ranker | None = None,
    asked: Query | None = None,
) -> Extract:
    """Choose the sentences that answer, from the first ``PASSAGES`` hits.

    Where ``query`` is what a rule made of a follow-up, ``asked`` is the question as it was
    asked: it too must speak for the best sentence, not only the words carried over.
    """
    ranker = ranker or Ranker.shipped(index.encoder.name)
    sentences = score_sentences(index, view, query, hits[:PASSAGES])
    if not sentences:
        return Extract((), 0.0, False)
    languages = index.encoder.languages
    spoken = {query.spoken, hits[0].passage.document.language}
    by_keywords = languages is not None and not spoken <= set(languages)
    if by_keywords:
        chance = np.asarray([s["keywords"] for s in sentences])
        sure, enough = float(chance.max()), KEYWORDS_ENOUGH
    else:
        chance = rank(sentences, ranker)
        best = int(chance.argmax())
        # "Where?" alone asks for nothing that could be found.
        sure = confidence(sentences[best], ranker) if query.words else 0.0
        enough = ranker.threshold
        if asked is not None and sure >= enough:
            chosen = sentences[best]
            alone = score_sentences(index, view, asked, [chosen.hit])[chosen.position]
            both = _mean_of_odds(sure, confidence(alone, ranker))
            sure = sure if both >= enough else both  # of what is answered, sure is calibrated
    citations: list[Citation] = []
    reasons: list[Mapping[str, float]] = []
    for i in np.argsort(-chance, kind="stable"):
        if len(citations) == CITATIONS or chance[i] < ANOTHER * chance.max():
            break
        passage = sentences[i].hit.passage
        start, end = quote_span(view, sentences, chance, int(i))
        quote = passage.document.text[start:end]
        if any(
            quote == c.quote or (c.document is passage.document and start < c.end and c.start < end)
            for c in citations
        ):
            continue
        citations.append(
            Citation(
                marker=len(citations) + 1,
                document=passage.document,
                start=start,
                end=end,
                quote=quote,
                passage_start=min(start, passage.start),
                passage_end=passage.end,
                score=float(chance[i]),
            )
        )
        reasons.append(_reasons(sentences, int(i), ranker))
    answers = bool(citations) and sure >= enough
    return Extract(tuple(citations), sure, answers, by_keywords, tuple(reasons))


def _reasons(sentences: Sequence[Scored], chosen: int, ranker: Ranker) -> dict[str, float]:
    """The REASONS features that raise a sentence's score most above the mean, and by how much."""
    weights = np.asarray([ranker.weights[name] for name in FEATURES])
    mean = np.mean([sentence.features for sentence in sentences], axis=0)
    raised = weights * (sentences[chosen].features - mean)
    best = [i for i in np.argsort(-raised, kind="stable")[:REASONS] if raised[i] > 0]
    return {FEATURES[i]: round(float(raised[i]), 2) for i in best}


def quote_span(
    view: View, sentences: Sequence[Scored], chance: NDArray[np.float64], best: int
) -> tuple[int, int]:
    """The run of sentences to quote around ``best``, as offsets into its document.

    It leaves the passage only for the sentence before it, where its first one points back.
    """
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
    start, end = passage.sentences[low].start, passage.sentences[high].end
    earlier = view.before(passage) if low == 0 and leans(low) else None
    if earlier and high - low + 1 < QUOTE_SENTENCES and end - earlier.start <= QUOTE_CHARACTERS:
        start = earlier.start
    return start, end

"""Late interaction: a question's token vectors against those of a passage's sentences.

MaxSim (Khattab & Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via
Contextualized Late Interaction over BERT"), normalised to the mean over the question's
tokens. A sentence's tokens are taken from the encoding of its whole passage, so that
"it" and "there" mean what they mean in context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.embed import Encoding, FloatMatrix, unit
from index.types import Passage

STOP_TOKEN_WEIGHT = 0.1
"""The weight of a question's stop words and punctuation against its other tokens' 1."""


@dataclass(frozen=True, slots=True)
class LateScores:
    """Scores of one passage's sentences, each of shape (sentences,), and of the passage.

    ``plain`` weighs all question tokens alike, ``weighted`` little but its content
    words; ``vector`` is the cosine of the question with the mean of the sentence's
    token vectors; ``passage`` is the weighted MaxSim over all the passage's tokens.
    """

    plain: NDArray[np.float32]
    weighted: NDArray[np.float32]
    vector: NDArray[np.float32]
    passage: float


def token_weights(
    question: str, encoding: Encoding, is_content: Callable[[str], bool]
) -> NDArray[np.float32]:
    """The weights of a question's tokens, summing to 1, shape (tokens,)."""
    weights = [
        1.0 + STOP_TOKEN_WEIGHT if is_content(question[a:b]) else STOP_TOKEN_WEIGHT
        for a, b in encoding.offsets
    ]
    return np.asarray(weights, np.float32) / max(sum(weights), 1e-9)


def sentence_tokens(passage: Passage, encoding: Encoding) -> list[FloatMatrix]:
    """The token vectors of each sentence, from its passage's encoding.

    A sentence that the encoder's window cut off has none: shape (0, dimension).
    """
    start = encoding.offsets[:, 0] + passage.start
    end = encoding.offsets[:, 1] + passage.start
    return [
        encoding.tokens[(start >= span.start) & (end <= span.end)] for span in passage.sentences
    ]


def late_scores(
    question: Encoding, weights: NDArray[np.float32], sentences: Sequence[FloatMatrix]
) -> LateScores:
    """MaxSim and mean-vector scores of a passage's sentences for one question."""
    plain, weighted, vector = (np.zeros(len(sentences), np.float32) for _ in range(3))
    best_of_all = np.full(len(weights), -1.0, np.float32)
    for i, tokens in enumerate(sentences):
        if len(tokens) and len(weights):
            best = (question.tokens @ tokens.T).max(axis=1)
            best_of_all = np.maximum(best_of_all, best)
            plain[i] = best.mean()
            weighted[i] = weights @ best
            vector[i] = unit(tokens.mean(axis=0)) @ question.vector
    return LateScores(plain, weighted, vector, float(weights @ best_of_all))

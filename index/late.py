"""Late interaction: a question's token vectors against those of a passage's sentences.

The matches of which MaxSim is the mean over the question's tokens (Khattab & Zaharia 2020,
"ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over
BERT"). A sentence's tokens are taken from the encoding of its whole passage, so that
"it" and "there" mean what they mean in context.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from index.types import Passage
from index.vectors import Encoding, FloatMatrix, unit


def sentence_of_tokens(passage: Passage, encoding: Encoding) -> NDArray[np.int64]:
    """The number of the sentence that each token of a passage stands in, -1 for none."""
    start = encoding.offsets[:, 0] + passage.start
    end = encoding.offsets[:, 1] + passage.start
    found = np.full(len(encoding.offsets), -1, np.int64)
    for number, span in enumerate(passage.sentences):
        found[(end > span.start) & (end <= span.end) & (start < span.end)] = number
    return found


def sentence_tokens(passage: Passage, encoding: Encoding) -> list[FloatMatrix]:
    """The token vectors of each sentence, from its passage's encoding.

    A sentence that the encoder's window cut off has none: shape (0, dimension).
    """
    of = sentence_of_tokens(passage, encoding)
    return [encoding.tokens[of == number] for number in range(len(passage.sentences))]


def matches(question: Encoding, sentences: Sequence[FloatMatrix]) -> FloatMatrix:
    """The best cosine of each question token in each sentence, (question tokens, sentences)."""
    found = np.zeros((len(question.tokens), len(sentences)), np.float32)
    some = [i for i, tokens in enumerate(sentences) if len(tokens)]
    if some:
        cosines = question.tokens @ np.concatenate([sentences[i] for i in some]).T
        starts = np.cumsum([0, *(len(sentences[i]) for i in some[:-1])])
        found[:, some] = np.maximum.reduceat(cosines, starts, axis=1)
    return found


def mean_cosines(question: Encoding, sentences: Sequence[FloatMatrix]) -> NDArray[np.float32]:
    """The cosine of the question with the mean of each sentence's token vectors, (sentences,)."""
    means = [tokens.mean(axis=0) for tokens in sentences if len(tokens)]
    found = np.zeros(len(sentences), np.float32)
    if means:
        found[[len(tokens) > 0 for tokens in sentences]] = unit(np.stack(means)) @ question.vector
    return found

"""Every sentence of the passages found, with the scores that the answerer chooses by.

Most of them come from the matches of late interaction: how well each token of the question
is met in each sentence. A question's content tokens are those that are no stop words. Where
the encoder has a reader (index.reader), it reads the best passages together with the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.late import matches, mean_cosines, sentence_of_tokens, sentence_tokens
from index.lexical import fold, stop_words, words
from index.store import PassageIndex, Query, View
from index.types import Hit, Span
from index.vectors import Encoding
from rag.language import asks_for, offers

KINDS = ("number", "time", "person", "place", "reason")
FEATURES = (
    "found", "passage", "passage_keywords", "sentence", "mean", "late", "rare", "weakest",
    "after_previous", "before_next", "keywords", *KINDS, "length", "reading",
)  # fmt: skip
"""
found: the fused score of the passage in the search;
passage: the question's content tokens in the whole passage, late interaction;
passage_keywords, keywords: the share of the question's words, by idf, that are there;
sentence: cosine of the question's vector with the sentence's own;
mean: the same with the mean of its token vectors, as they are in the passage;
late: late interaction (MaxSim) of all the question's tokens;
rare: the same of content tokens, those that few of the sentences meet weighing more;
weakest: the mean of the two content tokens that the sentence meets least;
after_previous, before_next: late interaction with that neighbour joined;
number, time, person, place, reason: the sentence offers what such a question asks for;
length: the logarithm of its words;
reading: the reader's log odds that it answers against that its passage does not.
"""
CONFIDENCE_FEATURES = (
    "found", "passage", "passage_keywords", "sentence", "mean", "late", "rare", "weakest",
    "after_previous", "keywords", "reading",
)  # fmt: skip
CONFIDENCE_INPUTS = (*CONFIDENCE_FEATURES, "across", "unmet")
"""across: question and document differ in language, where scores are lower;
unmet: the question asks for one of KINDS, and the sentence does not offer it."""
READ = 3
"""Passages that the reader reads, the best ones of the search."""
UNREAD, SUREST = -12.0, 12.0
"""What a sentence's reading is between; the former where its passage was not read."""
STOP_TOKEN_WEIGHT = 0.1
"""In ``passage``: what a stop word weighs against a content token's 1.1."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A sentence of one hit, with its features, (len(FEATURES),)."""

    hit: Hit
    position: int
    features: NDArray[np.float32]
    kind: str
    across: bool

    @property
    def span(self) -> Span:
        return self.hit.passage.sentences[self.position]

    @property
    def text(self) -> str:
        return self.hit.passage.document.text[self.span.start : self.span.end]

    def __getitem__(self, feature: str) -> float:
        return float(self.features[FEATURES.index(feature)])

    def confidence_inputs(self) -> NDArray[np.float32]:
        """Shape (len(CONFIDENCE_INPUTS),)."""
        unmet = bool(self.kind) and self[self.kind] == 0
        chosen = [self[name] for name in CONFIDENCE_FEATURES]
        return np.asarray([*chosen, self.across, unmet], np.float32)


def score_sentences(
    index: PassageIndex, view: View, query: Query, hits: Sequence[Hit]
) -> list[Scored]:
    """Every sentence of the hits with its features, in the order of hits and text."""
    places = [(hit, i) for hit in hits for i in range(len(hit.passage.sentences))]
    if not places:
        return []
    question = query.encoding
    content = content_tokens(query.text, query.language, question)
    weights = content + STOP_TOKEN_WEIGHT
    weights /= weights.sum()
    of = np.asarray([n for n, hit in enumerate(hits) for _ in hit.passage.sentences])
    texts = [
        hit.passage.document.text[span.start : span.end]
        for hit in hits
        for span in hit.passage.sentences
    ]
    encodings = index.encodings([hit.passage for hit in hits])
    tokens = [
        sentence
        for hit, encoding in zip(hits, encodings, strict=True)
        for sentence in sentence_tokens(hit.passage, encoding)
    ]
    met = matches(question, tokens)
    rare = content * (1 - met.mean(axis=1))
    terms = [
        set(view.terms(text, hit.passage)) for (hit, _), text in zip(places, texts, strict=True)
    ]
    rows = [np.flatnonzero(of == n) for n in range(len(hits))]
    held = [set().union(*(terms[i] for i in of_hit)) for of_hit in rows]
    columns = {
        "found": np.asarray([hit.score for hit, _ in places]),
        "passage": np.asarray([weights @ met[:, of_hit].max(axis=1) for of_hit in rows])[of],
        "passage_keywords": view.keywords.coverage(held, query.words)[of],
        "sentence": np.concatenate([view.sentence_vectors(hit.passage) for hit in hits])
        @ question.vector,
        "mean": mean_cosines(question, tokens),
        "late": met.mean(axis=0),
        "rare": rare @ met / max(float(rare.sum()), 1e-9),
        "weakest": np.sort(met[content > 0], axis=0)[:2].mean(axis=0),
        "after_previous": np.maximum(met, neighbour(met, of, -1)).mean(axis=0),
        "before_next": np.maximum(met, neighbour(met, of, 1)).mean(axis=0),
        "keywords": view.keywords.coverage(terms, query.words),
        "length": np.log([max(3, len(text.split())) for text in texts]),
    }
    columns["reading"] = readings(index, query, hits, encodings)
    kind, known = asks_for(query.text, query.language), frozenset(words(query.text))
    for name in KINDS:
        met_kind = [offers(name, text, known) if name == kind else 0.0 for text in texts]
        columns[name] = np.asarray(met_kind)
    features = np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)
    return [
        Scored(hit, i, row, kind, hit.passage.document.language != query.language)
        for (hit, i), row in zip(places, features, strict=True)
    ]


def readings(
    index: PassageIndex, query: Query, hits: Sequence[Hit], encodings: Sequence[Encoding]
) -> NDArray[np.float32]:
    """The reader's score of every sentence of the hits; 0 where the encoder has no reader."""
    sizes = [len(hit.passage.sentences) for hit in hits]
    if index.encoder.reader is None:
        return np.zeros(sum(sizes), np.float32)
    read = list(zip(hits, encodings, strict=True))[:READ]
    found = index.encoder.reader.read(
        query.encoding,
        [encoding for _, encoding in read],
        [sentence_of_tokens(hit.passage, encoding) for hit, encoding in read],
    )
    scores = [np.full(size, UNREAD, np.float32) for size in sizes]
    for score, reading in zip(scores, found, strict=False):
        score[: len(reading.sentences)] = reading.sentences
    return np.clip(np.concatenate(scores), UNREAD, SUREST)


def content_tokens(text: str, language: str, encoding: Encoding) -> NDArray[np.float32]:
    """1 for each of a text's tokens that is a word but no stop word, else 0; all 1 if none is."""
    stop = stop_words(language)
    tokens = [text[a:b] for a, b in encoding.offsets]
    found = np.asarray([t.isalnum() and fold(t) not in stop for t in tokens], np.float32)
    return found if found.any() else np.ones_like(found)


def neighbour(met: NDArray[np.float32], of: NDArray[np.int64], step: int) -> NDArray[np.float32]:
    """The columns of each sentence's neighbour in its passage, its own where there is none."""
    beside = np.arange(len(of)) + step
    inside = (beside >= 0) & (beside < len(of))
    beside = np.where(inside, beside, 0)
    return met[:, np.where(inside & (of[beside] == of), beside, np.arange(len(of)))]

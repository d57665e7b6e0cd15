"""How an answer came about, as plain data: ``Answer.trace``, and for people by ``--explain``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from index.store import Query
from index.types import Hit
from rag.extract import Extract


def trace(
    query: Query, hits: Sequence[Hit], found: Extract, llm: Mapping[str, Any]
) -> dict[str, Any]:
    """The question that was searched, the ranking, the sentences chosen with reasons, and what a
    language model was asked."""
    told: dict[str, Any] = {
        "question": query.text,
        "language": query.spoken,
        "hits": [
            {
                "source": hit.passage.document.source,
                "start": hit.passage.start,
                "end": hit.passage.end,
                "score": round(hit.score, 4),
                "ranks": dict(hit.channels),
                "scores": {name: round(score, 4) for name, score in hit.scores.items()},
            }
            for hit in hits
        ],
        "sentences": [
            {
                "source": citation.source,
                "start": citation.start,
                "end": citation.end,
                "chance": round(citation.score, 4),
                "reasons": dict(reasons),
            }
            for citation, reasons in zip(found.citations, found.reasons, strict=True)
        ],
        "confidence": round(found.confidence, 4),
        "answers": found.answers,
    }
    return told | ({"llm": dict(llm)} if llm else {})


def lines(trace: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    """The same in lines of text."""
    told = [f"searched: {trace['question']} ({trace['language']})", "passages, by score:"]
    for hit in trace["hits"]:
        channels = ", ".join(
            f"{name} {score:.3f} (rank {hit['ranks'][name]})"
            for name, score in hit["scores"].items()
        )
        place = f"{hit['source']}:{hit['start']}-{hit['end']}"
        told.append(f"  {hit['score']:.3f}  {place}  {channels}")
    told.append("sentences, by chance to answer:")
    for sentence in trace["sentences"]:
        reasons = ", ".join(f"{name} {value:+.2f}" for name, value in sentence["reasons"].items())
        place = f"{sentence['source']}:{sentence['start']}-{sentence['end']}"
        told.append(f"  {sentence['chance']:.3f}  {place}  {reasons}")
    enough = "enough" if trace["answers"] else "not enough"
    told.append(f"confidence: {trace['confidence']:.2f}, {enough} to answer")
    if "llm" in trace:
        held = ", ".join(f"{key} {value}" for key, value in trace["llm"].items() if value != "")
        told.append(f"language model: {held}")
    told.append("seconds: " + ", ".join(f"{stage} {value:.3f}" for stage, value in seconds.items()))
    return told

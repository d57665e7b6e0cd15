"""Serve a page whose every text is hostile: ``python -m tests.hostile_page``, for test_page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from index.store import PassageIndex
from index.text import canonical
from index.types import Document, Hit, Passage
from rag.answer import Answer, Citation
from rag.chatbot import Chatbot
from rag.check import Claim, Flag
from tests.tiny import TinyEncoder
from ui import visit
from ui.app import serve
from ui.render import Turn

HOST = "http://192.0.2.1"
DO = "document.title=window.owned='owned'"

_ELEMENTS = [
    f"<script>{DO}</script>", f"<script src={HOST}/x.js></script>", f"<img src=x onerror={DO}>",
    f"<img src={HOST}/x.png>", f"<svg onload={DO}>", f"<svg><script>{DO}</script></svg>",
    f"<a href=\"javascript:{DO}\">click</a>", f"<a href={HOST}/x>click</a>",
    f"<link rel=stylesheet href={HOST}/x.css>", f"<style>@import '{HOST}/x.css'</style>",
    "<style>* { display: none }</style>", f"<form action={HOST}/x><button>go</button></form>",
    f"<input name=q autofocus onfocus={DO}>", f"<iframe src={HOST}/x></iframe>",
    f"<iframe srcdoc='<script>parent.{DO}</script>'></iframe>", f"<object data={HOST}/x></object>",
    f"<embed src={HOST}/x>", f"<video src={HOST}/x onerror={DO}>", f"<base href={HOST}/>",
    f"<details open ontoggle={DO}>x</details>", f"<body onload={DO}>",
    f"<meta http-equiv=refresh content='0;url={HOST}'>", f"<math href=javascript:{DO}>x</math>",
    f"<div style='background:url({HOST}/x)'>x</div>", f"![x]({HOST}/x.png)",
    f"[x](javascript:{DO})", f"[x]({HOST}/x)", f"<{HOST}/x>", f"![x][1]\n\n[1]: {HOST}/x.png",
    "**bold** `code` # head", f"${{{DO}}}", f"{{{{{DO}}}}}", f"{{{{{{{DO}}}}}}}", f"{{%{DO}%}}",
    "@children", "{{#each value}}x{{/each}}", f"`+({DO})+`", f"$$\\href{{javascript:{DO}}}{{x}}$$",
    f"x' onmouseover='{DO}", f'x" onfocus="{DO}" autofocus="',
]  # fmt: skip
_WRAPS = [
    "{}", '">{}', "'>{}", "</div></section>{}", "</textarea>{}", "</template>{}", "-->{}<!--",
    "]]>{}", "</style></script>{}", "</title>{}", "&lt;{}", "\x00{}", "{}\u2028", "</p>{}<p>",
]  # fmt: skip
PAYLOADS = [wrap.replace("{}", element) for element, wrap in product(_ELEMENTS, _WRAPS)]


HARMLESS = ["some words"] * 3
"""What the payloads are compared with: a turn of each kind."""


def turns() -> list[Turn]:
    """Two turns for each payload, which stands in every text of them."""
    found = []
    for number, payload in enumerate(HARMLESS + PAYLOADS, 1):
        held = canonical(f"Before. {payload} After.")
        document = Document(held, payload.replace("\n", " "), payload, payload[:9])
        citation = Citation(1, document, 0, len(held), held, 0, len(held), 0.9, payload)
        hit = Hit(Passage(document, 0, len(held)), 0.5, {payload: 1})
        text = f"{payload} [1]"
        claim = Claim(0, len(text), (1,), "weak", 0.5, (Flag("name", payload, 0, 1),))
        shared = {
            "question": payload,
            "hits": [{"source": payload, "start": 0, "end": 1, "score": 1, "ranks": {payload: 1}}],
            "sentences": [],
            "confidence": 0.5,
            "answers": True,
            "llm": {payload: payload},
        }
        answered = number % 3
        answer = Answer(
            payload, "en", bool(answered), text, "llm", (citation,) if answered else (), (hit,),
            0.9, {payload: 1.0}, notice=payload, claims=(claim,) if answered else (),
            understood=payload, trace=shared,
        )  # fmt: skip
        found.append(Turn(payload, answer=answer, number=2 * number - 1, problem=payload))
        found.append(Turn(payload, error=payload, number=2 * number))
    return found


def main() -> None:
    def answer(self: visit.House, visited: visit.Visit) -> Iterator[Turn]:
        visited.turns = turns()
        yield visited.turns[-1]
        yield visited.turns[-2]  # with its source

    visit.House.answer = answer  # type: ignore[method-assign]
    index = PassageIndex(encoder=TinyEncoder())
    index.add(
        Document(canonical(p), f"{n} {p}".replace("\n", " "), p) for n, p in enumerate(PAYLOADS)
    )
    serve(Chatbot(index), PAYLOADS, announce=lambda where: print(where, flush=True))


if __name__ == "__main__":
    main()

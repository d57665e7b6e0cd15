"""Pieces of HTML that is well-formed XML too: escaped text, tables, bars."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

# What XML, and so this HTML, cannot hold: C0 controls, surrogates, two noncharacters.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def safe(text: str) -> str:
    """``text`` as HTML that shows just this text."""
    return escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text))


def breakable(name: str) -> str:
    """A name as HTML that may go on in the next line after each underscore."""
    return safe(name).replace("_", "_<wbr/>")


def table(
    header: Sequence[str], kinds: Sequence[str], rows: Iterable[Sequence[object]], caption: str = ""
) -> str:
    """A table of names and, in cells, HTML; each column is "", "number" or "bar"."""
    marks = [f' class="{kind}"' if kind else "" for kind in kinds]
    parts = [f"<caption>{safe(caption)}</caption>"] if caption else []
    heads = zip(header, marks, strict=True)
    top = "".join(f'<th scope="col"{mark}>{breakable(head)}</th>' for head, mark in heads)
    parts.append(f"<thead><tr>{top}</tr></thead><tbody>")
    for first, *others in rows:
        cells = zip(others, marks[1:], strict=True)
        rest = "".join(f"<td{mark}>{cell}</td>" for cell, mark in cells)
        parts.append(f'<tr><th scope="row">{breakable(str(first))}</th>{rest}</tr>')
    return f'<div class="table"><table>{"".join(parts)}</tbody></table></div>'


def bar(share: float, text: str, kind: str, spread: tuple[float, float] | None = None) -> str:
    """A share from 0 to 1 as text and, for the eye only, as a bar with its interval."""
    line = ""
    if spread is not None:
        low, high = (100 * value for value in spread)
        line = f'<path class="whisker" d="M{low:.1f} 5H{high:.1f}"/>'
    return (
        f'{text}<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" width="{100 * share:.1f}" height="10"/>{line}</svg>'
    )

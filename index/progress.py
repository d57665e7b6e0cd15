"""Progress bars: on standard error, after a second, and none where that is no terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

TICK = 0.5
"""Seconds between two looks at the clock, for steps that take long by themselves."""

_bars: list[tqdm[Any]] = []


def clear_bars() -> None:
    """Make room for a line that is to stay: the bars come again below it."""
    for bar in _bars:
        bar.clear()


_here = threading.local()


@contextmanager
def interrupted_by(check: Callable[[], None]) -> Iterator[None]:
    """What takes long in this thread ends with what ``check`` raises between two of its steps."""
    _here.check = check
    try:
        yield
    finally:
        del _here.check


def between_steps() -> None:
    """Raises what this thread is to be interrupted by, if it is."""
    getattr(_here, "check", lambda: None)()


@contextmanager
def progress_bar(what: str, total: int | None = None, *, unit: str = "") -> Iterator[tqdm[Any]]:
    """A bar over ``total`` steps, gone when they are done; none at all if ``what`` is empty.

    Its clock goes on while a step lasts. The unit "B" counts bytes.
    """
    bar: tqdm[Any] = tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        bar_format=None if total or unit == "B" else "{desc}: {elapsed}",
        delay=1,
        miniters=0,  # a step of nothing, too, may show the bar
        smoothing=0,  # and must not count as a fast one
        leave=False,
        disable=None if what else True,
    )
    done = threading.Event()

    def tick() -> None:
        while not done.wait(TICK):
            bar.update(0)

    with bar:
        if bar.disable:
            yield bar
            return
        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        _bars.append(bar)
        try:
            yield bar
        finally:
            _bars.remove(bar)
            done.set()
            ticker.join()

"""One writer at a time, and a name for the one who waits.

The lock is the operating system's: it ends with the process, however that ends. Who holds
it stands in a note beside it, on which nothing depends. Who waits holds another lock meanwhile,
so that the one who was at it does not begin anew before.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from index.errors import InputError, Words

LOCK, NEXT, NOTE = "beleg.lock", "beleg.next", "beleg.writer"
WAIT = 30.0
"""So many seconds a second writer waits."""


@contextmanager
def exclusive(folder: Path, wait: float | None = None) -> Iterator[None]:
    """Be the one writer of a folder, which is made if it is not there.

    Raises:
        InputError: another one is still at it after ``wait`` seconds, or it cannot be written.
    """
    wait = WAIT if wait is None else wait
    lock, waiting, note = _lock(folder / LOCK), _lock(folder / NEXT), folder / NOTE
    until = time.monotonic() + wait
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with waiting.acquire(timeout=wait):
            lock.acquire(timeout=max(0.0, until - time.monotonic()))
    except Timeout:
        raise busy(folder, _read(note), wait) from None
    except OSError as error:
        raise InputError("the index in {} cannot be changed: {}", folder, error.strerror) from None
    try:
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        with suppress(OSError):
            note.write_text(f"{os.getpid()}\n{socket.gethostname()}\n{since}\n", "utf-8")
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def _lock(file: Path) -> FileLock:
    return FileLock(file, thread_local=False)


def busy(where: Path | str, who: object, wait: float) -> InputError:
    """What a second writer is told after so many seconds."""
    return InputError(
        "the index in {} is being changed by {}: waited {:g} seconds, try again when that is done",
        where,
        who,
        wait,
    )


def _read(note: Path) -> Words:
    """``process 12 on host since 2026-11-26 10:00:00+01:00``"""
    with suppress(OSError, ValueError):
        process, host, since = note.read_text("utf-8").split("\n")[:3]
        return Words("process {} on {} since {}", int(process), host, since)
    return Words("another process")

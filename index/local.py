"""An index in a folder or in memory: its file, and what is searched, made from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from index import large, manifest
from index.database import FILE, Database, read_count
from index.errors import InputError
from index.lock import exclusive
from index.place import Meet
from index.place import View as AnyView
from index.records import Snapshot, Writer
from index.served import ServedView
from index.types import Document
from index.view import LARGE, REST, Library, Searchable, View

COPIED = 100_000
"""So many passages of a server's index are copied into memory, to be added to for a while."""


class Local:
    """A folder, or memory where it is None (see index.place)."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._library = Library()
        self._lock = threading.RLock()
        self._searchable: Searchable | None = None
        self._beside: tuple[int, ...] | None = None
        """The file of the large segment that was read or written last."""
        self._opened: Database | None = None if path else Database(None)

    @property
    def _database(self) -> Database:
        if self._opened is None:
            self._opened = Database(self.path)
        return self._opened

    def exists(self) -> bool:
        return self.path is None or (self.path / FILE).is_file()

    def check_empty(self) -> None:
        if self.path is not None and (read_count(self.path) or ("", 0))[1]:
            raise InputError(
                "{} is gone, of an index that was here: bring it back, or remove {} and make a"
                " new one",
                self.path / FILE,
                self.path,
            )

    def create(self, made: Mapping[str, str]) -> None:
        assert self.path is not None
        with exclusive(self.path):
            Database.create(self.path, made)

    def open(self) -> dict[str, str]:
        if self.path is None:
            return {}
        self._opened = Database(self.path)
        return manifest.read(self.path)

    def exclusive(self) -> AbstractContextManager[None]:
        return self._database.exclusive()

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        with self._database.writing() as writer:
            yield writer

    def snapshot(self) -> Snapshot:
        return self._database.snapshot()

    def documents(self, snapshot: Snapshot) -> Sequence[Document]:
        return View(snapshot, Searchable(snapshot.state()), self._library).documents

    def view(self, meet: Meet) -> View:
        return self._view(meet, 4 * REST)  # who writes is to have put more into the large segment

    def gather(self, meet: Meet) -> None:
        """Put what was added into the large segment, for those who open the index."""
        if self.path is None:
            return
        state = self._database.snapshot().state()
        there = large.state(self.path)
        if there is None or there.incarnation != state.incarnation:
            due = state.passages > LARGE
        else:
            due = state.last_passage > there.last_passage + REST
        if due:
            self._view(meet, REST)

    def _view(self, meet: Meet, rest: int) -> View:
        with self._lock:
            before = self._newest(self._searchable)
            snapshot = self._database.snapshot()  # later than what is beside it
            self._searchable = Searchable.of(snapshot, meet(snapshot), before, rest)
            made = self._searchable.large
            if self.path is not None and made not in (None, before and before.large):
                made.write(self.path)
                self._beside = large.stamp(self.path)
            return View(snapshot, self._searchable, self._library)

    def _newest(self, held: Searchable | None) -> Searchable | None:
        """What was made searchable before: here, or if it is more, in the file beside the index."""
        if self.path is None or (stamp := large.stamp(self.path)) == self._beside:
            return held
        self._beside = stamp
        state = self._database.snapshot().state()
        after = held.large.state.generation if held and held.large else -1
        found = large.Large.read(self.path, state.incarnation, after)
        return Searchable.of_large(found) if found else held

    @classmethod
    def copy(cls, view: AnyView) -> Self:
        """A copy in memory of a view, which goes its own way from there.

        Raises:
            InputError: it is of an index on a server, and too large for that.
        """
        made = cls(None)
        if isinstance(view, View):
            made._opened = Database.copy(view.snapshot)
            made._searchable = replace(view.searchable, state=made.snapshot().state())
        elif isinstance(view, ServedView):
            if (there := len(view.passages)) > COPIED:
                raise InputError(
                    "an index on a server of more than {:,} passages (it has {:,}) is not copied"
                    " into memory: add files to it with  beleg add",
                    COPIED,
                    there,
                )
            with made.exclusive(), made.writing() as writer:
                for document, parts in view.contents():
                    vectors = np.asarray([part.vector for part in parts], np.float16)
                    passages = [part.passage(document) for part in parts]
                    writer.put(document, passages, vectors, [part.sentences for part in parts])
        return made

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

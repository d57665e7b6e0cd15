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
from index.records import Snapshot, State, Writer
from index.served import ServedView
from index.types import Document
from index.view import LARGE, REST, SHARE, Library, Searchable, View, caught_up

COPIED = 100_000
"""So many passages of a server's index are copied into memory, to be added to for a while."""


class Local:
    """A folder, or memory where it is None (see index.place)."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._library = Library()
        self._lock = threading.RLock()
        self._searchable: Searchable | None = None
        self._beside: tuple[int, ...] = ()
        """The files of large segments that were read or written last."""
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
        return self._view(meet, 4 * REST)  # who writes is to have put more into large segments

    def gather(self, meet: Meet) -> None:
        """Put what was added into a large segment, for those who open the index.

        It is the one that goes on from the first, until that has become a share of the index.
        """
        if self.path is None:
            return
        snapshot = self._database.snapshot()
        state, base = snapshot.state(), large.state(self.path)
        if base is None or base.incarnation != state.incarnation:
            if state.passages > LARGE:
                self._view(meet, REST)
        elif (left := state.last_passage - base.last_passage) > REST and (
            left > base.passages // SHARE or not self._catch_up(snapshot, base)
        ):
            self._view(meet, REST, whole=True)

    def _catch_up(self, snapshot: Snapshot, base: State) -> bool:
        """Put what was added into the segment that goes on from ``base``, if that is sound."""
        assert self.path is not None
        more = large.Large.read(self.path, base.incarnation, name=large.MORE)
        if more is None or more.base != base:  # a killed one left it, or an older version
            first = large.Large.read(self.path, base.incarnation)
            if first is None or first.state != base:
                return False
            more = first.begun()
        if snapshot.state().last_passage > more.state.last_passage + REST:
            more = caught_up(more, snapshot)
            if more is None:
                return False
            more.write(self.path)
        return True

    def _view(self, meet: Meet, rest: int, whole: bool = False) -> View:
        """``whole`` leaves no passages out of the first large segment."""
        with self._lock:
            before = self._newest(self._searchable)
            if whole and before and before.large:
                before, rest = Searchable.of_large(before.large), -1
            snapshot = self._database.snapshot()  # later than what is beside it
            self._searchable = Searchable.of(snapshot, meet(snapshot), before, rest)
            made = self._searchable.large
            if self.path is not None and made not in (None, before and before.large):
                made.write(self.path)
                made.begun().write(self.path)
                self._beside = large.stamp(self.path)
            return View(snapshot, self._searchable, self._library)

    def _newest(self, held: Searchable | None) -> Searchable | None:
        """What was made searchable before: here, or if it is more, in files beside the index."""
        if self.path is None or (stamp := large.stamp(self.path)) == self._beside:
            return held
        self._beside = stamp
        incarnation = self._database.snapshot().state().incarnation
        mine = held.large if held else None
        found = large.Large.read(self.path, incarnation, mine.state.generation if mine else -1)
        first = mine if found is None else found
        if first is None:
            return held
        known = held.more if held and held.more and not found else first
        more = large.Large.read(self.path, incarnation, known.state.generation, large.MORE)
        if more is not None and more.base == first.state:
            gone = self._database.snapshot().removed(first.state)  # later than what is beside it
            return Searchable.of_large(first, more, gone)
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

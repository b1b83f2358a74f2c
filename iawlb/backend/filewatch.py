"""
Whether files have changed since they were looked at last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from twisted.internet.interfaces import IReactorTime

from iawlb.errors import InvalidSetting

LOOK_EVERY = 1.0
"""
The shortest time between two looks, in seconds, for each C{FILES} files.
"""

FILES = 100

FileState: TypeAlias = tuple[tuple[object, ...], ...]


class FileWatch:
    """
    The state of some files. Nothing is looked at unless somebody asks.

    @ivar state: What was found at the last look.
    """

    state: FileState

    def __init__(self, clock: IReactorTime, files: Callable[[], Sequence[str]]) -> None:
        """
        @param files: Lists the files; raises L{InvalidSetting} if it cannot.
        """
        self._clock = clock
        self._files = files
        self._looked = clock.seconds()
        self.state = self._look()

    def changed(self) -> bool:
        """
        Look at the files, unless that was done just now, and return whether one has
        changed.
        """
        now = self._clock.seconds()
        wait = LOOK_EVERY * (1 + len(self.state) // FILES)
        # A clock that was set back must not stop the looks.
        if 0 <= now - self._looked < wait:
            return False
        self._looked = now
        return self.look()

    def look(self) -> bool:
        """
        Look at the files, and return whether one has changed.
        """
        before, self.state = self.state, self._look()
        return self.state != before

    def _look(self) -> FileState:
        try:
            files = self._files()
        except InvalidSetting as error:
            return ((str(error),),)
        found: list[tuple[object, ...]] = []
        for path in files:
            try:
                state = os.stat(path)
                found.append((path, state.st_ino, state.st_size, state.st_mtime_ns))
            except OSError as error:
                found.append((path, error.errno))  # that it is missing is a state too
        return tuple(found)

"""
Detect client resets on sockets that are not being read.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Protocol as Typed


class Watched(Typed):
    """
    A connection that is not being read.
    """

    def fileno(self) -> int:
        """
        Return the connection's descriptor, or -1 if it has none.
        """

    def hungUp(self) -> None:
        """
        The connection was reset.
        """


class ResetWatch:
    """
    Detects connections that were reset while their transport was not read. The
    reactor reports nothing for a socket that is not being read.

    The end of the peer's bytes is no reset, since the peer may still read; and of
    two ends, that of a Unix socket whose peer wrote and closed, still leaves
    bytes to be read. So only errors count.
    """

    def __init__(self, onFirst: Callable[[], None] = lambda: None) -> None:
        """
        @param onFirst: Called when there is a connection to watch, and was none.
        """
        self._onFirst = onFirst
        self._poll = select.poll()
        self._watched: dict[int, Watched] = {}
        self._numbers: dict[Watched, int] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, connection: Watched) -> None:
        """
        Watch a connection, if it has a file descriptor.
        """
        number = connection.fileno()
        if number >= 0 and connection not in self._numbers:
            if not self._numbers:
                self._onFirst()
            self._watched[number] = connection
            self._numbers[connection] = number
            self._poll.register(number, 0)

    def forget(self, connection: Watched) -> None:
        """
        Watch a connection no more.
        """
        number = self._numbers.pop(connection, None)
        if number is not None:
            del self._watched[number]
            self._poll.unregister(number)

    def check(self) -> None:
        """
        Call C{hungUp} of each connection that was reset since the last check.
        """
        for number, event in self._poll.poll(0):
            # One call may close another connection.
            connection = self._watched.get(number)
            if connection is not None and event & select.POLLERR:
                self.forget(connection)
                connection.hungUp()


def isReset(connection: Watched) -> bool:
    """
    Say whether one connection was reset, now.
    """
    alone = ResetWatch()
    alone.watch(connection)
    return any(event & select.POLLERR for _, event in alone._poll.poll(0))

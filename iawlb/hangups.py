"""
Who was reset while nobody read from them.
"""

from __future__ import annotations

import select
from typing import Protocol as Typed


class Watched(Typed):
    """
    A connection that is not being read.
    """

    transport: object

    def hungUp(self) -> None:
        """
        It was reset.
        """


class Hangups:
    """
    Finds connections that were reset while their transport was not read. No
    reactor tells of these: a paused transport is in neither of its sets.

    An end of the peer's bytes is no hangup, since it may be a half-close; and of
    two ends, that of a Unix socket whose peer wrote and closed, still leaves
    bytes to be read. So only errors count.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[int, Watched] = {}
        self._numbers: dict[Watched, int] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, connection: Watched) -> None:
        """
        Watch a connection, if it has a file descriptor.
        """
        fileno = getattr(connection.transport, "fileno", None)
        number = -1 if fileno is None else fileno()
        if number >= 0 and connection not in self._numbers:
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
        Tell those that were reset since the last time.
        """
        for number, event in self._poll.poll(0):
            # Telling one may close another.
            connection = self._watched.get(number)
            if connection is not None and event & select.POLLERR:
                self.forget(connection)
                connection.hungUp()


def wasReset(connection: Watched) -> bool:
    """
    Say whether one connection was reset, now.
    """
    alone = Hangups()
    alone.watch(connection)
    return any(event & select.POLLERR for _, event in alone._poll.poll(0))

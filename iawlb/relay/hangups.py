"""
What only the kernel knows of connections: who was reset while nobody read from
them, and what is not sent yet.
"""

from __future__ import annotations

import select
import sys
from fcntl import ioctl
from typing import Protocol as Typed

_SIOCOUTQNSD = 0x894B
"""
Linux's question for the bytes that were not sent. Its other one, C{TIOCOUTQ},
counts those too that were sent, until the peer confirms them.
"""


class Watched(Typed):
    """
    A connection that is not being read, or is to be reset.
    """

    def fileno(self) -> int:
        """
        Its descriptor, or -1 if it has none.
        """

    def hungUp(self) -> None:
        """
        It was reset; or it is to be, now that all is sent.
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
        self._sending: set[Watched] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, connection: Watched) -> None:
        """
        Watch a connection, if it has a file descriptor.
        """
        number = connection.fileno()
        if number >= 0 and connection not in self._numbers:
            self._watched[number] = connection
            self._numbers[connection] = number
            self._poll.register(number, 0)

    def forget(self, connection: Watched) -> None:
        """
        Watch a connection no more.
        """
        self._sending.discard(connection)
        number = self._numbers.pop(connection, None)
        if number is not None:
            del self._watched[number]
            self._poll.unregister(number)

    def resetWhenSent(self, connection: Watched) -> None:
        """
        Call C{hungUp} when the kernel has sent all that was written, now or by
        one of the next checks.
        """
        if _unsent(connection):
            self._sending.add(connection)
        else:
            connection.hungUp()

    def check(self) -> None:
        """
        Tell those that were reset since the last time, and those that have sent
        all.
        """
        for sending in list(self._sending):
            if not _unsent(sending):
                self.forget(sending)
                sending.hungUp()
        for number, event in self._poll.poll(0):
            # Telling one may close another.
            connection = self._watched.get(number)
            if connection is not None and event & select.POLLERR:
                self.forget(connection)
                connection.hungUp()


def _unsent(connection: Watched) -> int:
    """
    Ask the kernel how many bytes it has not sent, as the peer takes no more.
    """
    try:
        answer = ioctl(connection.fileno(), _SIOCOUTQNSD, bytes(4))
    except OSError:
        return 0  # it does not say, as for Unix sockets, which keep them
    return int.from_bytes(answer, sys.byteorder)


def wasReset(connection: Watched) -> bool:
    """
    Say whether one connection was reset, now.
    """
    alone = Hangups()
    alone.watch(connection)
    return any(event & select.POLLERR for _, event in alone._poll.poll(0))

"""
Detect clients that have left, on sockets that are not being read.
"""

from __future__ import annotations

import select
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from typing import Protocol as Typed

_ENDED = getattr(select, "POLLRDHUP", 0)
"""
The peer has ended its half. Only Linux reports this while nothing is read.
"""


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
        Called when the connection was reset.
        """

    def peerLeft(self) -> None:
        """
        Called when the peer has ended its half and there is nothing to be read.
        """


class ResetWatch:
    """
    Detects connections that were reset while their transport was not read. The reactor
    reports nothing for a socket that is not being read.

    If nothing was read from a connection yet, a peer that has left without a reset is
    detected too. The end of the peer's bytes alone does not mean that the peer has
    left, since it may still read: a client ends its half behind a request and waits for
    the answer. But with no byte to be read before the end there is nothing to answer.
    With bytes to be read, the connection is from then on watched for a reset alone.
    """

    def __init__(
        self,
        onFirst: Callable[[], None] = lambda: None,
        abortOnClose: bool = False,
    ) -> None:
        """
        @param onFirst: Called when the first connection is watched, after there was
            none.
        @param abortOnClose: Whether an end means that the peer has left even if there
            are bytes to be read before it.
        """
        self.abortOnClose = abortOnClose
        self._onFirst = onFirst
        self._poll = select.poll()
        self._watched: dict[int, Watched] = {}
        self._numbers: dict[Watched, int] = {}
        # Descriptors of connections that nothing was read from yet: an end may mean
        # that the peer has left.
        self._unread: set[int] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, connection: Watched, unread: bool = False) -> None:
        """
        Watch a connection, if it has a file descriptor.

        @param unread: Whether nothing was read from the connection yet, so that an end
            may mean that the peer has left.
        """
        number = connection.fileno()
        if number < 0:
            return
        if connection not in self._numbers:
            if not self._numbers:
                self._onFirst()
            self._watched[number] = connection
            self._numbers[connection] = number
        elif unread == (number in self._unread):
            return
        if unread:
            self._unread.add(number)
            self._poll.register(number, _ENDED)
        else:
            self._unread.discard(number)
            self._poll.register(number, 0)

    def forget(self, connection: Watched) -> None:
        """
        Stop watching a connection.
        """
        number = self._numbers.pop(connection, None)
        if number is not None:
            del self._watched[number]
            self._unread.discard(number)
            with suppress(KeyError):
                self._poll.unregister(number)

    def check(self) -> None:
        """
        Call C{hungUp} or C{peerLeft} of each connection that was reset, or whose peer
        has left, since the last check.
        """
        for number, event in self._poll.poll(0):
            # A call may have closed this connection.
            connection = self._watched.get(number)
            if connection is None:
                continue
            if event & select.POLLERR:
                self.forget(connection)
                connection.hungUp()
            elif self._isEnd(number, event):
                self.forget(connection)
                connection.peerLeft()
            elif number in self._unread:
                if event & select.POLLHUP:
                    # A Unix socket whose peer has closed, which would be reported at
                    # every check. Nothing more can happen to it.
                    self._poll.unregister(number)
                else:
                    self._poll.register(number, 0)

    def hasLeft(self, connection: Watched) -> bool:
        """
        Return whether one connection was reset, or its peer has left, up to now. This
        takes one call to the kernel, and another if there was an end.
        """
        number = connection.fileno()
        if number < 0:
            return False
        alone = select.poll()
        alone.register(number, _ENDED)
        return any(
            event & select.POLLERR or self._isEnd(number, event)
            for _, event in alone.poll(0)
        )

    def _isEnd(self, number: int, event: int) -> bool:
        """
        Return whether an event of a connection means that the peer has left.
        """
        return (
            number in self._unread
            and event & (_ENDED | select.POLLHUP) != 0
            and (self.abortOnClose or not unread(number))
        )


def unread(number: int) -> int:
    """
    Ask the kernel how many bytes of a socket are to be read.
    """
    found: int = struct.unpack("i", ioctl(number, termios.FIONREAD, bytes(4)))[0]
    return found

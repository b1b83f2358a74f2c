"""
Ask the kernel how many bytes of a connection are not sent or not acknowledged yet, and
wait until all are sent.
"""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from typing import Protocol as Typed

_SIOCOUTQNSD = 0x894B
"""
Linux's request for the number of bytes that were not sent. The other request,
C{TIOCOUTQ}, also counts those that were sent, until the peer acknowledges them.
"""


class Sending(Typed):
    """
    A connection that is to be reset once the kernel has sent everything.
    """

    def fileno(self) -> int:
        """
        Return the connection's descriptor.
        """

    def allSent(self) -> None:
        """
        Called when the kernel has sent all that was written.
        """


class SendWatch:
    """
    Waits until the kernel has sent all that was written to a connection. The
    kernel reports no such event, so it is asked again at each L{check}.
    """

    def __init__(self, onFirst: Callable[[], None] = lambda: None) -> None:
        """
        @param onFirst: Called when the first connection begins to wait, after there was
            none.
        """
        self._onFirst = onFirst
        self._sending: set[Sending] = set()

    def __len__(self) -> int:
        return len(self._sending)

    def whenSent(self, connection: Sending) -> None:
        """
        Call C{allSent} when the kernel has sent all that was written: now, or at one of
        the next checks.
        """
        if unsent(connection.fileno()):
            if not self._sending:
                self._onFirst()
            self._sending.add(connection)
        else:
            connection.allSent()

    def forget(self, connection: Sending) -> None:
        """
        Stop waiting for a connection.
        """
        self._sending.discard(connection)

    def check(self) -> None:
        """
        Call C{allSent} of each connection whose bytes were sent since the last
        check.
        """
        for connection in list(self._sending):
            if not unsent(connection.fileno()):
                self._sending.discard(connection)
                connection.allSent()


def unsent(number: int) -> int:
    """
    Ask the kernel how many bytes of a descriptor it has not sent, because the peer
    takes no more.

    @return: Bytes; 0 where the kernel does not say, as for Unix sockets, whose peer has
        the bytes already.
    """
    return _ask(number, _SIOCOUTQNSD)


def unconfirmed(number: int, ended: bool = False) -> int:
    """
    Ask the kernel how many bytes of a descriptor the peer has not acknowledged,
    including those that are not sent.

    @param ended: Whether an end follows the bytes, which the kernel counts as one more.
    @return: Bytes; for Unix sockets, memory that the peer has not emptied; 0 where the
        kernel does not say.
    """
    waiting = _ask(number, termios.TIOCOUTQ)
    return waiting - 1 if ended and waiting else waiting


def _ask(number: int, question: int) -> int:
    try:
        answer = ioctl(number, question, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)

"""
Ask the kernel how many bytes of a connection are still unsent or not confirmed, and
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
Linux's question for the bytes that were not sent. Its other one, C{TIOCOUTQ},
counts those too that were sent, until the peer confirms them.
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
        The kernel has sent all that was written.
        """


class SendWatch:
    """
    Waits until the kernel has sent all that was written to a connection. The
    kernel reports no such event, so it is asked again at each L{check}.
    """

    def __init__(self, onFirst: Callable[[], None] = lambda: None) -> None:
        """
        @param onFirst: Called when there is a connection to ask about, and was
            none.
        """
        self._onFirst = onFirst
        self._sending: set[Sending] = set()

    def __len__(self) -> int:
        return len(self._sending)

    def whenSent(self, connection: Sending) -> None:
        """
        Call C{allSent} when the kernel has sent all that was written: now, or at
        one of the next checks.
        """
        if unsent(connection.fileno()):
            if not self._sending:
                self._onFirst()
            self._sending.add(connection)
        else:
            connection.allSent()

    def forget(self, connection: Sending) -> None:
        """
        Wait no longer for a connection.
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
    Ask the kernel how many bytes a descriptor has not sent, as the peer takes no
    more.

    @return: Bytes; 0 where the kernel does not say, as for Unix sockets, whose
        peer has the bytes already.
    """
    return _ask(number, _SIOCOUTQNSD)


def unconfirmed(number: int, ended: bool = False) -> int:
    """
    Ask the kernel how many bytes a descriptor's peer has not confirmed, those that
    are not sent included.

    @param ended: Whether an end follows them, for which the kernel adds one.
    @return: Bytes; for Unix sockets, memory that the peer has not emptied; 0 where
        the kernel does not say.
    """
    waiting = _ask(number, termios.TIOCOUTQ)
    return waiting - 1 if ended and waiting else waiting


def _ask(number: int, question: int) -> int:
    try:
        answer = ioctl(number, question, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)

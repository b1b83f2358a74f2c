"""
Ask the kernel how many bytes of a connection are still unsent, and wait until all
are sent.
"""

from __future__ import annotations

import sys
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

    def __init__(self) -> None:
        self._sending: set[Sending] = set()

    def __len__(self) -> int:
        return len(self._sending)

    def whenSent(self, connection: Sending) -> None:
        """
        Call C{allSent} when the kernel has sent all that was written: now, or at
        one of the next checks.
        """
        if unsent(connection.fileno()):
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
    try:
        answer = ioctl(number, _SIOCOUTQNSD, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)

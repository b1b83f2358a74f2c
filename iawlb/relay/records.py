"""
Follow the records of a TLS connection, to see whether it ended behind a complete
record.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.relay.ends import isEnd

_HEADER = 5
"""
Bytes in front of each record; the last two are its length.
"""


class Records:
    """
    The records of a TLS connection, as far as their lengths show.
    """

    def __init__(self) -> None:
        # Bytes until the next record, and the bytes of the next header that have come.
        self._left = 0
        self._head = b""

    def add(self, data: bytes) -> None:
        """
        Follow the records in bytes that have come.
        """
        whole = self._head + data if self._head else data
        place, size = self._left, len(whole)
        while place + _HEADER <= size:
            place += _HEADER + (whole[place + 3] << 8) + whole[place + 4]
        self._left = max(0, place - size)
        self._head = whole[place:]

    @property
    def complete(self) -> bool:
        """
        Whether the bytes have stopped behind a complete record.
        """
        return not self._left and not self._head


@implementer(IHalfCloseableProtocol)
class RecordWatch(Protocol):
    """
    A protocol between a TCP transport and the TLS protocol above it, which follows the
    records that come. Twisted reports a peer that ends without close_notify as it does
    a reset, and OpenSSL does not say whether the bytes stopped within a record.

    @ivar endedInOrder: Whether the peer has ended the TCP connection in order (FIN)
        behind a complete record.
    """

    transport: Any

    def __init__(self, transport: Any, above: Any) -> None:
        self.transport = transport
        self.endedInOrder = False
        self._above = above
        self._records = Records()

    def dataReceived(self, data: bytes) -> None:
        """
        Follow the records, and pass the bytes on.
        """
        self._records.add(data)
        self._above.dataReceived(data)

    def readConnectionLost(self) -> None:
        """
        Called when the reactor reports the end of the peer's bytes. If the kernel says
        so too, close the connection: TLS cannot go on without the peer.
        """
        if isEnd(self.transport):
            self.transport.connectionLost(Failure(ConnectionDone()))

    def writeConnectionLost(self) -> None:
        """
        Called when our half is closed, which TLS never asks for.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Note how the connection ended, and pass the end on.
        """
        inOrder = reason.check(ConnectionDone) is not None
        self.endedInOrder = inOrder and self._records.complete
        above = self._above
        # No reference cycle is left for the garbage collector.
        del self._above
        above.connectionLost(reason)


def watchRecords(transport: Any) -> RecordWatch | None:
    """
    Follow the records of a TLS connection from which no byte has come yet.

    @return: L{None} if the connection is not over a TCP or Unix transport of Twisted's.
    """
    below = getattr(transport, "transport", None)
    if not isinstance(below, Connection):
        return None
    watch = RecordWatch(below, below.protocol)
    # A transport calls whatever its protocol is now.
    below.protocol = watch
    return watch

"""
Tests for L{iawlb.relay.records}.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb.relay.records import RecordWatch, watchRecords


class Above(Protocol):
    """
    Stands for the TLS protocol.
    """

    def __init__(self) -> None:
        self.received = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Keep the bytes.
        """
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Keep the reason.
        """
        self.reason = reason


def record(size: int) -> bytes:
    """
    Write a record.
    """
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


class RecordWatchTests(SynchronousTestCase):
    """
    Bytes from a TLS peer, in pieces of any size.
    """

    def ended(self, pieces: list[bytes], error: type[Exception]) -> bool:
        """
        Play a connection; return whether it ended in order.
        """
        above = Above()
        watch = RecordWatch(None, above)
        for piece in pieces:
            watch.dataReceived(piece)
        self.assertEqual(above.received, b"".join(pieces))
        reason = Failure(error())
        watch.connectionLost(reason)
        self.assertIs(above.reason, reason)
        return watch.endedInOrder

    @settings(deadline=None, derandomize=True, database=None)
    @given(
        st.lists(st.integers(0, 40), max_size=5),
        st.lists(st.integers(1, 60), max_size=30),
        st.integers(0, 20),
    )
    def test_pieces(self, sizes: list[int], cuts: list[int], missing: int) -> None:
        """
        An end behind complete records is in order, and one within a record, or
        within its header, is not, however the bytes come in.
        """
        stream = b"".join(map(record, sizes))
        whole = len(stream)
        stream = stream[: whole - missing] if missing < whole else stream
        boundaries = {len(b"".join(map(record, sizes[:n]))) for n in range(9)}
        pieces, place = [], 0
        for cut in [*cuts, whole]:
            pieces.append(stream[place : place + cut])
            place += cut
        ended = self.ended([each for each in pieces if each], ConnectionDone)
        self.assertEqual(ended, len(stream) in boundaries)

    def test_interface(self) -> None:
        """
        Twisted asks the protocol about ends, and finds the interface that it looks for.
        """
        watch = RecordWatch(None, Above())
        self.assertTrue(verifyObject(IHalfCloseableProtocol, watch))
        watch.writeConnectionLost()

    def test_cut(self) -> None:
        """
        A connection that was reset, or that we gave up, did not end in order.
        """
        for error in (ConnectionLost, ConnectionAborted):
            self.assertFalse(self.ended([record(3)], error))
        self.assertTrue(self.ended([record(65535), record(0)], ConnectionDone))


class FalseEndTests(SynchronousTestCase):
    """
    Twisted's reactors take a hangup for an end, when a transport is read again in
    the same turn in which the kernel reports it.
    """

    def setUp(self) -> None:
        """
        Connect a peer over TCP.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            mine, _ = listening.accept()
        self.addCleanup(mine.close)
        self.addCleanup(self.peer.close)
        mine.setblocking(False)
        self.above = Above()
        reactor: Any = MemoryReactorClock()
        self.connection: Any = Connection(mine, self.above, reactor)
        self.connection.connected = 1
        tls: Any = Protocol()
        tls.transport = self.connection
        watch = watchRecords(tls)
        assert watch is not None
        self.watch = watch

    def hangUp(self) -> None:
        """
        The reactor reports the end.
        """
        self.connection.readConnectionLost(Failure(ConnectionDone()))

    def test_reset(self) -> None:
        """
        A reset is not taken for an end in order.
        """
        linger = struct.pack("ii", 1, 0)
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.peer.close()
        self.hangUp()
        assert self.above.reason is not None
        self.assertTrue(self.above.reason.check(ConnectionLost))
        self.assertFalse(self.watch.endedInOrder)

    def test_bytesLeft(self) -> None:
        """
        Records that are left to be read are read before the end, and none is lost.
        """
        self.peer.send(record(3))
        self.peer.shutdown(socket.SHUT_WR)
        self.hangUp()
        self.assertIsNone(self.above.reason)
        self.connection.doRead()
        self.assertEqual(self.above.received, record(3))
        self.hangUp()
        self.assertIsNotNone(self.above.reason)
        self.assertTrue(self.watch.endedInOrder)

    def test_otherTransport(self) -> None:
        """
        Over a transport that is none of Twisted's own, nothing is watched.
        """
        self.assertIsNone(watchRecords(Protocol()))
        self.connection.connectionLost(Failure(ConnectionDone()))

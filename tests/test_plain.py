"""
Lean connections, on sockets that no reactor knows.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import Any
from unittest.mock import Mock

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.relay.context import RelayContext
from iawlb.relay.plain import PlainClient, PlainConnection, addressOf
from iawlb.relay.resets import ResetWatch
from iawlb.relay.side import Side
from tests.net import listening
from tests.test_side import Owner


class CountingReactor(MemoryReactorClock):
    """
    A reactor that counts how many times it was asked to watch a connection, or to stop.
    """

    asked = 0

    def addReader(self, reader: Any) -> None:
        self.asked += 1
        super().addReader(reader)

    def removeReader(self, reader: Any) -> None:
        self.asked += 1
        super().removeReader(reader)

    def addWriter(self, writer: Any) -> None:
        self.asked += 1
        super().addWriter(writer)

    def removeWriter(self, writer: Any) -> None:
        self.asked += 1
        super().removeWriter(writer)


class ConnectionTests(SynchronousTestCase):
    """
    A lean connection is a whole transport.
    """

    def setUp(self) -> None:
        """
        Make one, over TCP.
        """
        self.reactor: Any = CountingReactor()
        self.owner = Owner()
        self.side = Side(self.owner, RelayContext(4096))
        server = listening(self)
        self.peer = socket.create_connection(server.getsockname(), timeout=5)
        self.handle, _ = server.accept()
        self.addCleanup(self.peer.close)
        self.addCleanup(self.handle.close)
        self.handle.setblocking(False)
        self.connection = PlainConnection(self.handle, self.side, self.reactor)

    def connect(self) -> None:
        """
        Tell the side.
        """
        self.side.makeConnection(self.connection)

    def test_notRead(self) -> None:
        """
        A plain connection is ready at once, and until its bytes are wanted the reactor
        is not called about it, not even to stop reading.
        """
        self.connect()
        self.assertEqual(self.owner.told, ["made", "ready"])
        self.connection.stopReading()
        self.connection.stopWriting()
        self.assertEqual(self.reactor.asked, 0)

    def test_read(self) -> None:
        """
        Once its bytes are wanted, a plain connection is read, written and paused as any
        other.
        """
        self.connect()
        self.side.resumeProducing()
        self.assertEqual(self.reactor.getReaders(), [self.connection])
        self.peer.send(b"question")
        select.select([self.handle], [], [], 5)
        self.connection.doRead()
        self.assertIn(b"question", self.owner.told)
        self.side.pauseProducing()
        self.assertEqual(self.reactor.getReaders(), [])
        self.side.write(b"answer")
        self.assertEqual(self.reactor.getWriters(), [])
        self.assertEqual(self.peer.recv(100), b"answer")

    def test_slowReader(self) -> None:
        """
        What the kernel does not take at once is sent when it does, in order, and then
        comes our end; a producer is paused meanwhile.
        """
        self.connect()
        producer = Mock()
        self.connection.registerProducer(producer, True)
        data = bytes(range(256)) * 20_000
        for start in range(0, len(data), 1_000_000):
            self.side.write(data[start : start + 1_000_000])
        self.assertEqual(self.reactor.getWriters(), [self.connection])
        self.assertGreater(self.side.unwritten(), 0)
        producer.pauseProducing.assert_called()
        self.side.endWriting()
        self.peer.settimeout(5)
        got = bytearray()
        while len(got) < len(data):
            got += self.peer.recv(1 << 20)
            self.connection.doWrite()
        self.assertEqual(got, data)
        self.assertEqual(self.peer.recv(1), b"")

    def test_full(self) -> None:
        """
        If the kernel takes nothing, all waits until it does.
        """
        self.connect()
        with contextlib.suppress(BlockingIOError):
            while True:
                self.handle.send(bytes(65536))
        self.side.write(b"answer")
        self.assertEqual(self.reactor.getWriters(), [self.connection])
        self.assertEqual(self.side.unwritten(), 6)

    def test_brokenWrite(self) -> None:
        """
        If the peer has reset the connection when bytes are written, the reactor reports
        that in its own time, and not the write; it is no end in order, although the
        kernel reports a reset only once.
        """
        self.connect()
        linger = struct.pack("ii", 1, 0)
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.peer.close()
        self.side.write(b"answer")
        self.assertEqual(self.owner.told, ["made", "ready"])
        self.assertEqual(self.reactor.getWriters(), [self.connection])
        self.assertIsInstance(self.connection.doRead(), ConnectionLost)
        self.assertIsInstance(self.connection.doWrite(), ConnectionLost)

    def test_lost(self) -> None:
        """
        When a connection is lost, its protocol is called once, and its descriptor is
        closed.
        """
        self.connect()
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.owner.told, ["made", "ready", "lost"])
        self.assertEqual(self.handle.fileno(), -1)
        self.assertEqual(self.peer.recv(1), b"")

    def test_addresses(self) -> None:
        """
        A connection has both its addresses, and its name in Twisted's log lines.
        """
        host, port = self.handle.getsockname()
        self.assertEqual(self.connection.getHost(), IPv4Address("TCP", host, port))
        host, port = self.peer.getsockname()
        self.assertEqual(self.connection.getPeer(), IPv4Address("TCP", host, port))
        self.assertEqual(self.connection.logPrefix(), "iawlb")

    def test_unix(self) -> None:
        """
        Unix sockets have no names, as a rule.
        """
        mine, peer = socket.socketpair()
        self.addCleanup(mine.close)
        self.addCleanup(peer.close)
        connection = PlainConnection(mine, self.side, self.reactor)
        self.assertEqual(connection.getHost(), UNIXAddress(None))
        self.assertEqual(connection.getPeer(), UNIXAddress(None))

    def test_linkLocal(self) -> None:
        """
        A link-local address keeps its interface.
        """
        number, name = socket.if_nameindex()[0]
        address = addressOf(socket.AF_INET6, ("fe80::1", 80, 0, number))
        self.assertEqual(address, IPv6Address("TCP", f"fe80::1%{name}", 80, 0, number))


class ClientTests(SynchronousTestCase):
    """
    A client that waits is a bare socket.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.owner = Owner()
        self.resets = ResetWatch()
        server = listening(self)
        self.peer = socket.create_connection(server.getsockname(), timeout=5)
        self.addCleanup(self.peer.close)
        self.handle, _ = server.accept()
        self.client = PlainClient(self.handle, self.owner, self.resets)

    def assertLost(self, told: str) -> None:
        """
        Check that the owner was called, and that nothing is left of the client.
        """
        self.assertEqual(self.owner.told, [told])
        self.assertTrue(self.client.lost)
        self.assertEqual((self.client.fileno(), len(self.resets)), (-1, 0))

    def test_close(self) -> None:
        """
        A client can be closed in order.
        """
        self.client.watch()
        self.client.close()
        self.assertEqual(self.peer.recv(1), b"")
        self.assertLost("lost")

    def test_abort(self) -> None:
        """
        Or reset.
        """
        self.client.abort()
        self.assertRaises(ConnectionResetError, self.peer.recv, 1)
        self.assertLost("reset")

    def test_drop(self) -> None:
        """
        A client can be reset without a call of its owner, even after its socket was
        handed over; once.
        """
        self.client.handOver()
        self.client.drop()
        self.assertRaises(ConnectionResetError, self.peer.recv, 1)
        self.client.drop()
        self.assertEqual((self.owner.told, self.client.fileno()), ([], -1))

    def test_leaves(self) -> None:
        """
        A client may reset its connection while it waits.
        """
        self.client.watch()
        self.resets.check()
        self.assertEqual(self.owner.told, [])
        linger = struct.pack("ii", 1, 0)
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.peer.close()
        self.resets.check()
        self.assertLost("reset")

    def test_handOver(self) -> None:
        """
        The relay gets the socket, which is no longer watched.
        """
        self.client.watch()
        self.assertEqual((self.client.ready, self.client.whole), (True, False))
        self.assertIs(self.client.handOver(), self.handle)
        self.client.watch()
        self.assertTrue(self.client.lost)
        self.assertEqual(len(self.resets), 0)
        self.assertEqual(self.owner.told, [])
        self.handle.close()

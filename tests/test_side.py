"""
Tests for L{iawlb.relay.side}, in memory and on sockets that no reactor knows.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides
from zope.interface.verify import verifyObject

from iawlb.relay.context import RelayContext
from iawlb.relay.records import RecordWatch
from iawlb.relay.side import Side, SideOwner
from tests.doubles import Wire


class Owner(SideOwner):
    """
    An owner that records its calls.
    """

    def __init__(self) -> None:
        self.told: list[object] = []

    def sideMade(self, side: Any) -> None:
        """
        Connected.
        """
        self.told.append("made")

    def sideReady(self, side: Any) -> None:
        """
        Ready.
        """
        self.told.append("ready")

    def sideRead(self, side: Any, data: bytes) -> None:
        """
        Bytes.
        """
        self.told.append(data)

    def sideEnded(self, side: Any) -> None:
        """
        An end.
        """
        self.told.append("ended")

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        A loss.
        """
        self.told.append("reset" if reset else "lost")


class Kernel:
    """
    A stand-in for both watches, which records what a side asks of them.
    """

    def __init__(self) -> None:
        self.watched: set[Side] = set()
        self.unread: set[Side] = set()
        self.sending: list[Side] = []
        self.abortOnClose = False

    def watch(self, side: Side, unread: bool = False) -> None:
        """
        Record that a side is watched.
        """
        self.watched.add(side)
        if unread:
            self.unread.add(side)
        else:
            self.unread.discard(side)

    def forget(self, side: Side) -> None:
        """
        Record that a side is no longer watched.
        """
        self.watched.discard(side)

    def whenSent(self, side: Side) -> None:
        """
        Record that a side waits until all is sent.
        """
        self.sending.append(side)


class TlsWire(Wire):
    """
    Has a transport below, as TLS has.
    """

    def __init__(self, protocol: Any, below: Any = None) -> None:
        super().__init__(protocol)
        self.transport = below
        alsoProvides(self, INegotiated)


class Base(SynchronousTestCase):
    """
    One side.
    """

    def setUp(self) -> None:
        """
        Make a side; it is not connected.
        """
        self.owner = Owner()
        self.kernel = Kernel()
        kernel: Any = self.kernel
        self.side = Side(self.owner, RelayContext(4096, None, kernel, kernel))

    def connect(self, make: Callable[[Side], Any] = Wire) -> Any:
        """
        Connect the side.
        """
        wire = make(self.side)
        self.side.makeConnection(wire)
        return wire

    def connection(self, protocol: Protocol | None = None) -> Any:
        """
        Make a transport of Twisted's own on a pair of sockets.
        """
        self.reactor = MemoryReactorClock()
        mine, self.peer = socket.socketpair()
        self.addCleanup(mine.close)
        self.addCleanup(self.peer.close)
        self.peer.setblocking(False)
        reactor: Any = self.reactor
        connection: Any = Connection(mine, protocol or self.side, reactor)
        connection.setTcpNoDelay = lambda on: None  # these are no TCP sockets
        connection.connected = 1
        return connection


class ConnectedTests(Base):
    """
    From the connection to the first byte.
    """

    def test_interfaces(self) -> None:
        """
        Transports find the interfaces that they look for: ends, handshakes and
        back-pressure.
        """
        self.connect()
        self.assertTrue(verifyObject(IHalfCloseableProtocol, self.side))
        self.assertEqual(self.side.logPrefix(), "iawlb")

    def test_plain(self) -> None:
        """
        A plain connection is ready at once, and is not read before its bytes are
        wanted; while it is not read, it can be watched for a reset.
        """
        wire = self.connect()
        self.assertEqual(self.owner.told, ["made", "ready"])
        self.assertFalse(wire.reading)
        self.assertFalse(self.side.secure)
        self.side.watch()
        self.assertEqual(self.kernel.watched, {self.side})
        self.side.resumeProducing()
        self.assertTrue(wire.reading)
        self.assertEqual(self.kernel.watched, set())

    def test_watchForLeave(self) -> None:
        """
        An end means that the peer has left while nothing was read. When the connection
        is relayed, or bytes came before, it does not; or it does, if the user says so
        of all ends.
        """
        wire = self.connect()
        self.side.watch()
        self.assertEqual(self.kernel.unread, {self.side})
        self.side.pauseProducing()
        self.assertEqual((len(self.kernel.watched), self.kernel.unread), (1, set()))
        wire.receive(b"early")
        self.side.early.append(b"early")
        self.side.watch()
        self.assertEqual(self.kernel.unread, set())
        self.kernel.abortOnClose = True
        self.side.watch()
        self.assertEqual(self.kernel.unread, {self.side})
        wire.lose()
        self.side.watch()
        self.assertEqual(self.kernel.watched, set())

    def test_peerLeft(self) -> None:
        """
        When the peer has left, the connection is closed; over TLS it is reset, since
        the peer would not answer the close.
        """
        for kind, how in ((Wire, "close"), (TlsWire, "abort")):
            self.setUp()
            wire = self.connect(kind)
            self.side.peerLeft()
            self.assertEqual(wire.closing, how)

    def test_tls(self) -> None:
        """
        A TLS connection is ready after its handshake, for which it is read.
        """
        wire = self.connect(TlsWire)
        self.assertEqual(self.owner.told, ["made"])
        self.assertTrue(wire.reading)
        self.side.handshakeCompleted()
        self.assertEqual(self.owner.told, ["made", "ready"])
        self.assertTrue(self.side.ready)
        self.assertTrue(self.side.secure)
        self.assertFalse(wire.reading)

    def test_noDelay(self) -> None:
        """
        Small writes are sent at once, where there is such a thing.
        """
        asked: list[bool] = []
        wire = Wire(self.side)
        wire.setTcpNoDelay = asked.append  # type: ignore[attr-defined]
        self.side.makeConnection(wire)
        self.assertEqual(asked, [True])

    def test_bufferSize(self) -> None:
        """
        A socket's transport reads, and holds, as much as was set.
        """
        connection = self.connection()
        self.addCleanup(connection.stopReading)
        self.side.makeConnection(connection)
        self.assertEqual(connection.bufferSize, 4096)

    def test_noWrapper(self) -> None:
        """
        The wrapper that Twisted's endpoints put around a protocol, and that
        forgets half-closes, is not used; that of anybody else is.
        """
        for attribute, expected in (("_wrappedProtocol", self.side), ("other", None)):
            wrapper = Protocol()
            setattr(wrapper, attribute, self.side)
            connection = self.connection(wrapper)
            self.side.makeConnection(connection)
            self.assertIs(connection.protocol, expected or wrapper)


class RecordsTests(Base):
    """
    An end without TLS's own end.
    """

    def lose(self, strict: bool = False, fromStart: bool = True) -> list[object]:
        """
        Have a peer end behind a complete record, as Twisted's TLS reports it.
        """
        context = RelayContext(4096, strictTls=strict)
        self.side = Side(self.owner, context)
        self.side.fromStart = fromStart
        connection = self.connection()
        connection.protocol = Protocol()
        self.connect(lambda side: TlsWire(side, connection))
        self.side.handshakeCompleted()
        self.owner.told.clear()
        connection.protocol.dataReceived(b"\x17\x03\x03\0\1x")
        connection.protocol.connectionLost(Failure(ConnectionDone()))
        self.side.connectionLost(Failure(ConnectionLost()))
        return self.owner.told

    def test_end(self) -> None:
        """
        An end behind a complete record is an end, unless the user wants it to be a cut,
        or the connection's first bytes were not seen.
        """
        self.assertEqual(self.lose(), ["lost"])
        self.assertEqual(self.lose(strict=True), ["reset"])
        self.assertEqual(self.lose(fromStart=False), ["reset"])

    def test_error(self) -> None:
        """
        An error of TLS is none, even though the connection below is then closed.
        """
        connection = self.connection(Protocol())
        self.connect(lambda side: TlsWire(side, connection))
        self.side.handshakeCompleted()
        self.assertIsInstance(connection.protocol, RecordWatch)
        connection.protocol.connectionLost(Failure(ConnectionDone()))
        self.side.connectionLost(Failure(Exception("bad record mac")))
        self.assertEqual(self.owner.told[-1], "reset")


class ReadTests(Base):
    """
    What a side receives.
    """

    def setUp(self) -> None:
        """
        Connect the side.
        """
        super().setUp()
        self.wire = self.connect()
        self.owner.told.clear()

    def test_told(self) -> None:
        """
        Bytes, the end and the loss are reported in order; a side that has ended is
        watched.
        """
        self.side.resumeProducing()
        self.wire.receive(b"x")
        self.wire.end()
        self.assertTrue(self.side.ended)
        self.assertEqual(self.kernel.watched, {self.side})
        self.side.writeConnectionLost()
        self.wire.lose()
        self.assertTrue(self.side.lost)
        self.assertEqual(self.kernel.watched, set())
        self.assertEqual(self.owner.told, [b"x", "ended", "lost"])

    def test_reset(self) -> None:
        """
        A reset is reported as such.
        """
        self.wire.lose(reset=True)
        self.assertEqual(self.owner.told, ["reset"])

    def test_resetAfterClose(self) -> None:
        """
        A reset of a connection that was closed, with nothing left to write, counts as
        an end in order; with something left, it does not.
        """
        self.side.close()
        self.wire.lose(reset=True)
        self.assertEqual(self.owner.told, ["lost"])
        self.setUp()
        self.wire.dataBuffer = b"rest"
        self.side.close()
        self.wire.lose(reset=True)
        self.assertEqual(self.owner.told, ["reset"])

    def test_noReadingAfterEnd(self) -> None:
        """
        A side that has ended or is closed is not read again.
        """
        self.wire.end()
        self.side.resumeProducing()
        self.assertFalse(self.wire.reading)
        self.wire.lose()
        self.side.ended = False
        self.side.resumeProducing()
        self.assertFalse(self.wire.reading)
        self.side.pauseProducing()
        self.assertEqual(self.kernel.watched, set())

    def test_hungUp(self) -> None:
        """
        A side that was found to be reset is closed as reset.
        """
        self.side.hungUp()
        self.assertEqual(self.wire.closing, "abort")

    def test_consumerGone(self) -> None:
        """
        When the other transport is gone, the relay decides what follows.
        """
        self.side.stopProducing()
        self.assertIsNone(self.wire.closing)


class WriteTests(Base):
    """
    What a side sends.
    """

    def test_end(self) -> None:
        """
        The end is sent once, and not held back by a paused producer.
        """
        wire = self.connect()
        wire.producer = self.side
        self.side.write(b"x")
        self.side.endWriting()
        self.assertEqual((wire.written, wire.ended, wire.producer), (b"x", True, None))
        wire.ended = False
        self.side.endWriting()
        self.assertFalse(wire.ended)

    def test_endWithoutHalves(self) -> None:
        """
        Where there are no halves, as in TLS, the end is a close.
        """

        def halfless(side: Side) -> Wire:
            wire = Wire(side)
            hidden: Any = property()
            wire.__class__ = type("Halfless", (Wire,), {"loseWriteConnection": hidden})
            return wire

        for make in (TlsWire, halfless):
            self.setUp()
            wire = self.connect(make)
            self.side.endWriting()
            self.assertEqual((wire.closing, wire.ended), ("close", False))

    def test_closeAndAbort(self) -> None:
        """
        Neither is held back by a producer.
        """
        wire = self.connect()
        for how in ("close", "abort"):
            wire.producer = self.side
            getattr(self.side, how)()
            self.assertEqual((wire.closing, wire.producer), (how, None))

    def test_unwritten(self) -> None:
        """
        Bytes that wait for a slow peer are counted, wherever Twisted keeps them.
        """
        connection = self.connection()
        self.side.transport = connection
        self.assertEqual(self.side.unwritten(), 0)
        connection.write(b"12345")
        self.assertEqual(self.side.unwritten(), 5)
        connection.SEND_LIMIT = 2
        connection.doWrite()
        self.assertEqual(self.side.unwritten(), 3)
        connection.write(b"67")
        self.assertEqual(self.side.unwritten(), 5)


class ResetTests(Base):
    """
    A reset behind what is to be written.
    """

    def received(self) -> bytes:
        """
        Read what the peer has.
        """
        return self.peer.recv(65536)

    def test_noSocket(self) -> None:
        """
        On a transport without a socket the reset comes at once.
        """
        for make in (Wire, TlsWire):
            self.setUp()
            wire = self.connect(make)
            wire.producer = self.side
            self.side.resetWhenWritten()
            self.assertEqual((wire.closing, wire.producer), ("abort", None))

    def test_written(self) -> None:
        """
        The kernel is asked to send all before the reset, once all was written.
        """
        connection = self.connection()
        self.side.transport = connection
        connection.write(b"12345")
        self.side.resetWhenWritten()
        connection.SEND_LIMIT = 3
        connection.doWrite()
        self.assertEqual(self.kernel.sending, [])
        connection.doWrite()
        self.assertEqual(self.kernel.sending, [self.side])
        self.assertEqual(self.received(), b"12345")

    def test_nothingToWrite(self) -> None:
        """
        The reset also comes when nothing waits to be written.
        """
        connection = self.connection()
        self.side.transport = connection
        self.side.resetWhenWritten()
        self.assertIn(connection, self.reactor.getWriters())
        connection.doWrite()
        self.assertEqual(self.kernel.sending, [self.side])

    def test_closeChangesNothing(self) -> None:
        """
        If the session ends in order otherwise, the reset does not become an end in
        order.
        """
        connection = self.connection()
        self.side.transport = connection
        connection.write(b"12345")
        self.side.resetWhenWritten()
        self.side.close()
        self.assertFalse(connection.disconnecting)
        connection.doWrite()
        self.assertEqual(self.kernel.sending, [self.side])

    def test_lostBefore(self) -> None:
        """
        A connection that is lost before all was written is not waited for.
        """
        connection = self.connection()
        self.side.makeConnection(Wire(self.side))
        self.side.transport = connection
        connection.write(b"12345")
        self.side.resetWhenWritten()
        producer: Any = connection.producer
        producer.stopProducing()
        producer.resumeProducing()
        self.assertEqual(self.kernel.sending, [])

    def test_belowTls(self) -> None:
        """
        With TLS the reset waits for the socket below, to which TLS may pass on bytes in
        the next turn of the reactor.
        """
        connection = self.connection()
        self.connect(lambda side: TlsWire(side, connection))
        self.side.resetWhenWritten()
        self.assertIsNone(connection.producer)
        connection.write(b"record")
        self.reactor.advance(0)
        connection.doWrite()
        self.assertEqual(self.kernel.sending, [self.side])
        self.assertEqual(self.received(), b"record")


class RealKernelTests(SynchronousTestCase):
    """
    With the real L{ResetWatch}.
    """

    def test_wireHasNoDescriptor(self) -> None:
        """
        A connection that is no socket is served as well, unwatched.
        """
        context = RelayContext(4096)
        side = Side(Owner(), context)
        side.makeConnection(Wire(side))
        self.assertEqual(len(context.resets), 0)


class FalseEndTests(Base):
    """
    Twisted's reactors take a hangup for an end, when a transport is read again in
    the same turn in which the kernel reports it.
    """

    def begin(self) -> Any:
        """
        Connect the side to a peer over TCP.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            mine, _ = listening.accept()
        self.addCleanup(mine.close)
        self.addCleanup(self.peer.close)
        mine.setblocking(False)
        self.reactor = MemoryReactorClock()
        reactor: Any = self.reactor
        connection: Any = Connection(mine, self.side, reactor)
        connection.connected = 1
        connection.setTcpNoDelay = lambda on: None
        self.side.makeConnection(connection)
        self.owner.told.clear()
        return connection

    def test_reset(self) -> None:
        """
        A reset is not taken for an end.
        """
        self.checkReset(self.begin())

    def test_resetOfBareSocket(self) -> None:
        """
        A reset of a connection that iawlb has accepted or connected itself, which
        has no socket of Python's own class, is not taken for an end either.
        """
        connection = self.begin()
        bare = socket.SocketType(fileno=connection.socket.detach())
        self.addCleanup(bare.close)
        connection.socket, connection.fileno = bare, bare.fileno
        self.checkReset(connection)

    def checkReset(self, connection: Any) -> None:
        """
        Reset a connection while Twisted's reactor takes that for an end.
        """
        linger = struct.pack("ii", 1, 0)
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.peer.close()
        connection.readConnectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.owner.told, ["reset"])

    def test_bytesLeft(self) -> None:
        """
        Bytes that are left to be read are read before the end.
        """
        connection = self.begin()
        self.peer.send(b"last words")
        self.peer.shutdown(socket.SHUT_WR)
        connection.readConnectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.owner.told, [])
        self.assertEqual(self.reactor.getReaders(), [connection])
        connection.doRead()
        connection.readConnectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.owner.told, [b"last words", "ended"])

    def test_end(self) -> None:
        """
        An end is an end, also if the kernel cannot be asked.
        """
        connection = self.begin()
        connection.readConnectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.owner.told, ["ended"])

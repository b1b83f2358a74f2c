"""
One connect to a destination.
"""

from __future__ import annotations

import os
import select
import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend import socketconnector
from iawlb.backend.connector import Connect, DestinationConnector
from iawlb.backend.names import NameEndpoint
from iawlb.backend.socketconnector import PlainEndpoint, SocketConnector, Target
from iawlb.relay.context import RelayContext
from iawlb.relay.poller import SocketPoller
from iawlb.relay.side import Side
from tests.doubles import Backend, SecureWire, Wire
from tests.net import freePort


class EndpointConnectTests(SynchronousTestCase):
    """
    A connect calls back once, with a connection or with why there is none.
    """

    def setUp(self) -> None:
        """
        Prepare a connect that is not begun.
        """
        self.clock = Clock()
        self.backend = Backend()
        self.made: list[Any] = []
        self.failed: list[Failure] = []

    def connect(self, backend: Backend) -> Connect | None:
        """
        Begin.
        """
        connector = DestinationConnector(
            None,
            self.clock,
            backend,
            2.0,
            RelayContext(4096),
            None,
        )
        return connector.connect(self.made.append, self.failed.append)

    def begin(self) -> None:
        """
        Begin a connect, and leave it pending.
        """
        self.backend.hold = True
        attempt = self.connect(self.backend)
        assert attempt is not None
        self.attempt = attempt

    def assertQuiet(self, made: int = 0, failed: int = 0) -> None:
        """
        Check how many times the connect has called back, and that it will not call
        again.
        """
        self.clock.advance(10)
        self.assertEqual((len(self.made), len(self.failed)), (made, failed))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connected(self) -> None:
        """
        A connect that succeeds gives a connection that is not read as yet, and
        leaves no timer.
        """
        self.begin()
        wire = self.backend.succeed()
        self.assertIs(self.made[0].transport, wire)
        self.assertFalse(wire.reading)
        self.assertIsNone(wire.closing)
        self.assertQuiet(made=1)

    def test_connectedAtOnce(self) -> None:
        """
        An endpoint may connect before its C{connect} returns.
        """
        self.assertIsNone(self.connect(self.backend))
        self.assertQuiet(made=1)

    def test_refused(self) -> None:
        """
        A connect that fails says why, once.
        """
        self.begin()
        self.backend.fail(ConnectionRefusedError())
        self.failed[0].trap(ConnectionRefusedError)
        self.assertQuiet(failed=1)

    def test_refusedAtOnce(self) -> None:
        """
        A connect may fail before it is pending.
        """
        self.backend.refuse = ConnectionRefusedError()
        self.assertIsNone(self.connect(self.backend))
        self.failed[0].trap(ConnectionRefusedError)
        self.assertQuiet(failed=1)

    def test_endpointRaises(self) -> None:
        """
        An endpoint that raises has failed to connect.
        """

        class Broken(Backend):
            def connect(self, protocolFactory: object) -> Deferred[object]:
                raise LookupError("no such tunnel")

        self.assertIsNone(self.connect(Broken()))
        self.failed[0].trap(LookupError)
        self.assertQuiet(failed=1)

    def test_timeout(self) -> None:
        """
        A connect that hangs fails when the connect timeout is over, says how
        long that was, and is cancelled.
        """
        self.begin()
        self.clock.advance(1.9)
        self.assertEqual(self.failed, [])
        self.clock.advance(0.2)
        self.failed[0].trap(ConnectTimeout)
        self.assertIn("2 s", self.failed[0].getErrorMessage())
        self.assertEqual(self.backend.cancelled, 1)
        self.assertQuiet(failed=1)

    def test_cancel(self) -> None:
        """
        A connect that is given up is cancelled, and calls no callback.
        """
        self.begin()
        self.attempt.cancel()
        self.attempt.cancel()
        self.assertEqual(self.backend.cancelled, 1)
        self.assertQuiet()

    def test_lateConnection(self) -> None:
        """
        A connection that comes after the connect was given up is closed.
        """
        self.begin()
        factory, _ = self.backend.pending[0]
        self.attempt.cancel()
        side = factory.buildProtocol(None)
        assert side is not None
        wire = Wire(side)
        side.makeConnection(wire)
        self.assertEqual(wire.closing, "abort")
        wire.lose()
        self.assertQuiet()

    def side(self) -> Side:
        """
        Have the endpoint make a side for the connect.
        """
        factory, _ = self.backend.pending[0]
        side = factory.buildProtocol(None)
        assert isinstance(side, Side)
        return side

    def test_firstOfSeveral(self) -> None:
        """
        When several addresses are tried at once, the first one connected is kept, and
        the others are closed, even those without a transport yet.
        """
        self.begin()
        factory, _ = self.backend.pending[0]
        first, second, _third = (factory.buildProtocol(None) for _ in range(3))
        assert first is not None and second is not None
        slow, quick = SecureWire(second), Wire(first)
        second.makeConnection(slow)
        first.makeConnection(quick)
        self.assertEqual((slow.closing, quick.closing), ("abort", None))
        slow.lose()
        self.assertQuiet(made=1)

    def test_handshake(self) -> None:
        """
        A TLS destination is connected when its handshake is done; bytes that it sends
        together with the handshake are kept.
        """
        self.begin()
        side = self.side()
        side.makeConnection(SecureWire(side))
        self.assertEqual(self.made, [])
        side.dataReceived(b"hello")
        side.handshakeCompleted()
        self.assertEqual(self.made[0].early, [b"hello"])
        self.assertQuiet(made=1)

    def test_lostInHandshake(self) -> None:
        """
        A destination that closes during the TLS handshake has failed.
        """
        self.begin()
        side = self.side()
        wire = SecureWire(side)
        side.makeConnection(wire)
        wire.end()
        wire.lose()
        self.failed[0].trap(ConnectError)
        self.assertIn("TLS", self.failed[0].getErrorMessage())
        self.assertQuiet(failed=1)

    def test_handshakeHangs(self) -> None:
        """
        The connect timeout holds for the TLS handshake too.
        """
        self.begin()
        side = self.side()
        wire = SecureWire(side)
        side.makeConnection(wire)
        self.clock.advance(2.1)
        self.failed[0].trap(ConnectTimeout)
        self.assertEqual(wire.closing, "abort")
        wire.lose(reset=True)
        self.assertQuiet(failed=1)


class SocketConnectTests(SynchronousTestCase):
    """
    A plain destination is connected by a plain socket.
    """

    def setUp(self) -> None:
        """
        Prepare a connect to a listening socket.
        """
        self.clock: Any = MemoryReactorClock()
        self.poller = SocketPoller(self.clock, 1024)
        self.addCleanup(self.poller._epoll.close)
        self.sockets = SocketConnector(self.clock, self.poller, 2)
        self.made: list[Any] = []
        self.failed: list[Failure] = []
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        self.target = Target(socket.AF_INET, server.getsockname())
        self.nobody = Target(socket.AF_INET, ("127.0.0.1", freePort()))
        self.backend = Backend()

    def connector(self, endpoint: Any) -> DestinationConnector:
        """
        Prepare connects to an endpoint.
        """
        return DestinationConnector(
            self.clock,
            self.clock,
            endpoint,
            2.0,
            RelayContext(4096, self.poller),
            self.sockets,
        )

    def connect(self, endpoint: Any) -> Connect | None:
        """
        Begin to connect to an endpoint.
        """
        connector = self.connector(endpoint)
        return connector.connect(self.made.append, self.failed.append)

    def connectPlain(self, target: Target) -> Connect | None:
        """
        Begin to connect to a target.
        """
        return self.connect(PlainEndpoint(self.backend, target))

    def turn(self) -> None:
        """
        Wait for the kernel, and take a turn.
        """
        select.select([self.poller], [], [], 5)
        self.poller.doRead()

    def assertQuiet(self, made: int = 0, failed: int = 0) -> None:
        """
        Check how many times the connect has called back, and that it will not call
        again.
        """
        self.clock.advance(10)
        self.assertEqual((len(self.made), len(self.failed)), (made, failed))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.sockets.pending, {})
        for each in self.made:
            each.close()

    def test_connected(self) -> None:
        """
        A plain destination is connected without its endpoint, has no delay in small
        writes, and is not read yet.
        """
        self.connectPlain(self.target)
        handle = self.made[0]
        option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
        self.assertEqual(handle.getsockopt(*option), 1)
        self.assertEqual(handle.getpeername(), self.target.name)
        self.assertEqual(self.clock.getReaders(), [])
        self.assertEqual(self.backend.tries, 0)
        self.assertQuiet(made=1)

    def test_side(self) -> None:
        """
        A relay that needs a transport for the socket gets one that is not read yet, and
        that ends independently of the connector.
        """
        connector = self.connector(self.backend)
        ours, peer = socket.socketpair()
        self.addCleanup(peer.close)
        side = connector.side(ours)
        self.assertTrue(side.ready)
        self.assertEqual(self.clock.getReaders(), [])
        side.write(b"question")
        side.transport.doWrite()
        self.assertEqual(peer.recv(100), b"question")
        side.abort()
        self.clock.advance(0)
        self.assertEqual((side.lost, ours.fileno()), (True, -1))

    def test_connectedLater(self) -> None:
        """
        A connect that takes a while succeeds in the same way.
        """
        self.patch(socketconnector, "_connected", lambda handle: False)
        self.connectPlain(self.target)
        self.assertEqual(self.made, [])
        self.turn()
        self.assertQuiet(made=1)

    def test_refused(self) -> None:
        """
        A connect that is refused fails, once, if there is no other address to try.
        """
        self.connectPlain(self.nobody)
        self.turn()
        self.failed[0].trap(ConnectionRefusedError)
        self.assertEqual(self.backend.tries, 0)
        self.assertQuiet(failed=1)

    def test_noSuchPath(self) -> None:
        """
        A connect that fails before it is under way also fails once.
        """
        self.assertIsNone(self.connectPlain(Target(socket.AF_UNIX, "/nowhere/socket")))
        self.failed[0].trap(ConnectError)
        self.assertQuiet(failed=1)

    def test_timeout(self) -> None:
        """
        A connect that hangs fails when the connect time-out is over.
        """
        self.patch(socketconnector, "_connected", lambda handle: False)
        self.connectPlain(self.target)
        self.clock.advance(2)
        self.failed[0].trap(ConnectTimeout)
        self.assertQuiet(failed=1)

    def test_cancel(self) -> None:
        """
        A connect that is given up is closed, and calls no callback.
        """
        self.patch(socketconnector, "_connected", lambda handle: False)
        before = os.listdir("/proc/self/fd")
        attempt = self.connectPlain(self.target)
        assert attempt is not None
        attempt.cancel()
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        self.assertQuiet()

    def named(self) -> Any:
        """
        Make a name's endpoint with two addresses, of which the first has worked; the
        test plays the endpoint's own connects.
        """
        name: Any = NameEndpoint(self.clock, "app", self.nobody.name[1], 5, None, True)
        first = IPv4Address("TCP", "127.0.0.1", self.nobody.name[1])
        name._addresses = (first, IPv4Address("TCP", "127.0.0.2", 1))
        name.worked(first)
        self.patch(name, "connect", self.backend.connect)
        return name

    def test_name(self) -> None:
        """
        Of a name, a plain socket connects to the address that has worked. When that
        address fails, the others are tried within the same connect.
        """
        name = self.named()
        self.connect(name)
        self.assertEqual(self.backend.tries, 0)
        self.turn()
        self.assertEqual(self.backend.tries, 1)
        self.assertEqual((len(self.made), self.failed), (1, []))
        self.assertIsInstance(self.made.pop().transport, Wire)
        self.assertIsNone(name.target)
        self.assertQuiet()

    def test_nameWithoutTarget(self) -> None:
        """
        A name of which no address has worked yet is connected by its endpoint.
        """
        name = self.named()
        name.plainFailed()
        self.connect(name)
        self.assertEqual(self.backend.tries, 1)
        self.made.clear()
        self.assertQuiet()

    def test_nameHangs(self) -> None:
        """
        When that address hangs until the time is over, the connect has failed; the next
        connect tries all addresses.
        """
        self.patch(socketconnector, "_connected", lambda handle: False)
        name = self.named()
        with socket.create_server(("127.0.0.1", name.port)):
            self.connect(name)
            self.clock.advance(2)
        self.failed[0].trap(ConnectTimeout)
        self.assertIsNone(name.target)
        self.assertQuiet(failed=1)

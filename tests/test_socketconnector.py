"""
Plain connects, on sockets that no reactor knows.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv6Address
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend import socketconnector
from iawlb.backend.shortage import SHORTAGES, shortageOf
from iawlb.backend.socketconnector import (
    PendingConnect,
    PlainEndpoint,
    SocketConnector,
    Target,
    errorOf,
    targetOf,
)
from iawlb.relay.poller import SocketPoller
from tests.doubles import Backend, Handling
from tests.net import freePort, listening


class TargetTests(SynchronousTestCase):
    """
    The targets of plain sockets.
    """

    def test_linkLocal(self) -> None:
        """
        The interface of a link-local address is given to the kernel by its number.
        """
        number, name = socket.if_nameindex()[0]
        target = targetOf(IPv6Address("TCP", f"fe80::1%{name}", 80), 80, None)
        self.assertEqual(target.name[3], number)

    def test_endpoint(self) -> None:
        """
        A caller that needs a transport connects to a plain endpoint in the usual way;
        there is no other address to try when that fails.
        """
        backend = Backend()
        backend.hold = True
        endpoint = PlainEndpoint(backend, Target(socket.AF_UNIX, "/nowhere"))
        factory: Any = None  # nobody is to be connected
        connecting = endpoint.connect(factory)
        self.assertNoResult(connecting)
        self.assertEqual(backend.tries, 1)
        self.assertFalse(endpoint.plainFailed())


class SocketConnectorTests(SynchronousTestCase):
    """
    Plain connects.
    """

    def setUp(self) -> None:
        """
        Make a connector with a time-out of two seconds.
        """
        self.clock: Any = MemoryReactorClock()
        self.poller = SocketPoller(self.clock, 1024)
        self.addCleanup(self.poller._epoll.close)
        self.connector = SocketConnector(self.clock, self.poller, 2)
        self.made: list[socket.socket] = []
        self.failed: list[ConnectError] = []
        self.addCleanup(self.closeMade)

    def closeMade(self) -> None:
        """
        Close the connections.
        """
        for each in self.made:
            each.close()

    def connect(self, name: Any, family: int = socket.AF_INET, **more: Any) -> Any:
        """
        Begin a connect.
        """
        target = Target(family, name, **more)
        return self.ask(target, self.made.append, self.failed.append)

    def ask(self, target: Target, connected: Any, failed: Any) -> PendingConnect | None:
        """
        Begin a connect, as L{DestinationConnector} does.
        """
        handle, error = self.connector.begin(target)
        if handle is None:
            failed(errorOf(error))
        elif error:
            return self.connector.wait(handle, connected, failed)
        else:
            connected(handle)
        return None

    def turn(self) -> None:
        """
        Wait for the kernel, and take a turn.
        """
        select.select([self.poller], [], [], 5)
        self.poller.doRead()

    def slowly(self) -> None:
        """
        Have no connect succeed at once.
        """
        self.patch(socketconnector, "_connected", lambda handle: False)

    def silent(self) -> Any:
        """
        Listen where connects neither succeed nor fail.
        """
        server = listening(self, backlog=0)
        for _ in range(3):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        return server.getsockname()

    def assertIdle(self) -> None:
        """
        Nothing is left of any connect.
        """
        self.assertEqual(self.connector.pending, {})
        self.assertEqual(self.poller._served, {})

    def test_atOnce(self) -> None:
        """
        On one machine a connect has succeeded when it was begun, over TCP as over
        Unix sockets; the socket does not block.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "socket"))
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path)
                server.listen()
                self.assertIsNone(self.connect(path, socket.AF_UNIX))
        self.assertIsNone(self.connect(listening(self).getsockname()))
        for each in self.made:
            self.assertFalse(each.getblocking())
        self.assertEqual((len(self.made), self.failed), (2, []))
        self.assertIdle()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def inRound(self, call: Callable[[], None]) -> None:
        """
        Call in a round of the poller.
        """
        ours, peer = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(peer.close)

        def once(events: int) -> None:
            ours.recv(1)
            call()

        self.poller.add(ours.fileno(), select.EPOLLIN, Handling(once))
        peer.send(b"x")
        self.poller.doRead()
        self.poller.remove(ours.fileno())

    def test_answerWithBytes(self) -> None:
        """
        The packet that would wake the destination only to say that it is connected is
        saved if the client's first bytes come in time.
        """
        server = listening(self)
        server.setblocking(False)

        def speakFirst() -> None:
            self.connect(server.getsockname())
            self.assertRaises(BlockingIOError, server.accept)
            self.made[0].send(b"question")
            with server.accept()[0] as accepted:
                self.assertEqual(accepted.recv(100), b"question")

        self.inRound(speakFirst)
        self.assertEqual(len(self.made), 1)

    def test_answerAlone(self) -> None:
        """
        A destination that speaks first gets that packet when the sockets that were
        ready have been served, and before the poller waits; connects whose client has
        left meanwhile do not matter.
        """
        server = listening(self)
        server.setblocking(False)

        def wait() -> None:
            for _ in range(2):
                self.connect(server.getsockname())
            self.assertRaises(BlockingIOError, server.accept)
            self.made[0].close()

        self.inRound(wait)
        for _ in range(2):
            server.accept()[0].close()

    def test_answerAtOnce(self) -> None:
        """
        The packet is sent at once if no round is under way, or if the connect took a
        while.
        """
        server = listening(self)
        server.setblocking(False)
        self.connect(server.getsockname())
        server.accept()[0].close()
        self.slowly()
        self.connect(server.getsockname()).cancel()
        server.accept()[0].close()

    def test_later(self) -> None:
        """
        A connect that takes longer succeeds when the kernel reports it. Its socket then
        belongs to the caller, and is no longer watched.
        """
        self.slowly()
        server = listening(self)
        self.assertIsInstance(self.connect(server.getsockname()), PendingConnect)
        self.assertEqual(self.made, [])
        self.turn()
        self.made[0].send(b"hello")
        with server.accept()[0] as accepted:
            self.assertEqual(accepted.recv(9), b"hello")
        self.assertIdle()
        self.assertEqual(self.poller._epoll.poll(0), [])

    def test_closedByAsker(self) -> None:
        """
        The caller may close the socket at once, as a probe does, and connect anew: the
        new socket, which has the old one's number, is waited for.
        """
        self.slowly()
        name = listening(self).getsockname()
        numbers: list[int] = []

        def closeAndConnect(handle: socket.socket) -> None:
            numbers.append(handle.fileno())
            handle.close()
            self.connect(name)

        target = Target(socket.AF_INET, name)
        self.ask(target, closeAndConnect, self.failed.append)
        self.turn()
        self.turn()
        numbers += [each.fileno() for each in self.made]
        self.assertEqual(numbers, numbers[:1] * 2)
        self.assertIdle()

    def test_takenOver(self) -> None:
        """
        If the caller has the poller serve the socket, it stays served.
        """
        self.slowly()
        seen: list[int] = []

        def takeOver(handle: socket.socket) -> None:
            self.made.append(handle)
            self.poller.add(handle.fileno(), select.EPOLLOUT, Handling(seen.append))

        target = Target(socket.AF_INET, listening(self).getsockname())
        self.ask(target, takeOver, self.failed.append)
        self.turn()
        self.turn()
        self.assertEqual(seen, [select.EPOLLOUT])

    def test_refused(self) -> None:
        """
        A connect that is refused says so, and leaves no descriptor.
        """
        before = os.listdir("/proc/self/fd")
        self.connect(("127.0.0.1", freePort()))
        self.turn()
        self.assertIsInstance(self.failed[0], ConnectionRefusedError)
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        self.assertIdle()

    def test_noSuchPath(self) -> None:
        """
        A connect that fails at once reports why, and leaves no descriptor; also if the
        path is an impossible one.
        """
        before = os.listdir("/proc/self/fd")
        for path, number in (
            ("/nowhere/socket", errno.ENOENT),
            ("/" + "a" * 200, errno.EINVAL),
        ):
            self.assertIsNone(self.connect(path, socket.AF_UNIX))
            self.assertEqual(self.failed.pop().osError, number)
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_local(self) -> None:
        """
        A connect comes from the local address that was asked for; one that is not
        this machine's is this machine's fault.
        """
        name = listening(self).getsockname()
        self.connect(name, local=("127.0.0.2", 0))
        self.assertEqual(self.made[0].getsockname()[0], "127.0.0.2")
        self.connect(name, local=("192.0.2.1", 0))
        self.assertIs(
            shortageOf(Failure(self.failed[0])), SHORTAGES[errno.EADDRNOTAVAIL]
        )

    def test_noDescriptor(self) -> None:
        """
        Without a free descriptor a connect fails of this machine, and not of the
        destination.
        """
        name = listening(self).getsockname()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            self.assertIsNone(self.connect(name))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertIs(shortageOf(Failure(self.failed[0])), SHORTAGES[errno.EMFILE])

    def test_fullBacklog(self) -> None:
        """
        A connect to a Unix socket whose backlog is full fails by a shortage, which does
        not make the destination down.
        """
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.socket(socket.AF_UNIX) as server,
        ):
            path = str(Path(folder, "socket"))
            server.bind(path)
            server.listen(0)
            while not self.failed:
                self.assertLess(len(self.made), 10)
                self.connect(path, socket.AF_UNIX)
        self.assertIs(shortageOf(Failure(self.failed[0])), SHORTAGES[errno.EAGAIN])

    def test_timeout(self) -> None:
        """
        A connect that hangs fails when its time is over, each at its own time; all of
        them cost one timer.
        """
        name = self.silent()
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            self.assertIsInstance(self.connect(name), PendingConnect)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.advance(0.5)
        seen = []
        for _ in range(5):
            seen.append(len(self.failed))
            self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.advance(0.5)
        self.assertEqual(seen, [0, 1, 2, 3, 3])
        self.assertIsInstance(self.failed[0], ConnectTimeout)
        self.assertIn("2 s", str(self.failed[0]))
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIdle()

    def test_stoppedProcess(self) -> None:
        """
        A connect that has succeeded in time is used, also if its time-out is looked at
        before the poller reports it, as when the process was stopped for a while.
        """
        name = self.silent()
        self.connect(name)
        # The kernel cannot be made to answer at the right moment.
        self.patch(socketconnector, "_connected", bool)
        self.clock.advance(2)
        self.assertEqual((len(self.made), self.failed), (1, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIdle()

    def test_cancel(self) -> None:
        """
        A connect that is given up is closed at once, and calls no callback.
        """
        name = self.silent()
        before = os.listdir("/proc/self/fd")
        first, second = self.connect(name), self.connect(name)
        first.cancel()
        second.cancel()
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        self.assertIdle()
        self.clock.advance(10)
        self.assertEqual((self.made, self.failed), ([], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_together(self) -> None:
        """
        A caller that gives up its other connects when the first of them fails gets no
        callback for those.
        """
        name = self.silent()
        pendings: list[Any] = []

        def fail(error: ConnectError) -> None:
            self.failed.append(error)
            pendings[1].cancel()

        for _ in range(2):
            target = Target(socket.AF_INET, name)
            pendings.append(self.ask(target, self.made.append, fail))
        self.clock.advance(2)
        self.assertEqual(len(self.failed), 1)
        self.assertIdle()

    def test_connectedAnew(self) -> None:
        """
        A connect that begins because others have timed out has the whole time,
        and there is still one timer, which a stop cancels.
        """
        name = self.silent()

        def again(error: ConnectError) -> None:
            self.connect(name)

        self.ask(Target(socket.AF_INET, name), self.made.append, again)
        self.clock.advance(1)
        self.connect(name)
        self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.failed), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.failed), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """
        A stop leaves no timer.
        """
        self.connector.stop()
        self.connect(self.silent()).cancel()
        self.connector.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_resetAtOnce(self) -> None:
        """
        A destination that accepts and resets at once has failed.
        """
        self.slowly()
        server = listening(self)
        self.connect(server.getsockname())
        accepted, _ = server.accept()
        linger = struct.pack("ii", 1, 0)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        accepted.close()
        self.turn()
        self.assertEqual(len(self.failed), 1)
        self.assertIdle()

    def test_raises(self) -> None:
        """
        If the callback raises, the socket is not served any more all the same.
        """
        self.slowly()

        def broken(handle: socket.socket) -> None:
            self.made.append(handle)
            raise ZeroDivisionError()

        target = Target(socket.AF_INET, listening(self).getsockname())
        self.ask(target, broken, self.failed.append)
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIdle()
        self.assertEqual(self.poller._epoll.poll(0), [])

"""
Accepting, no more than there is room for.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv6Address
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.internet.tcp import Server as TCPServer
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend.checks import LONGEST_PATH
from iawlb.frontend.acceptor import PAUSE, Acceptor
from tests.doubles import Rig, logged
from tests.net import Echo, Peer, Server, connected, freePort, pause, reactor
from tests.rig import endpointOf, serverEndpoint

FAMILIES = ("tcp4", "tcp6", "given", "unix")


class Door:
    """
    An acceptor of a listening server, and the clients that connect to the server.

    @ivar room: How many more connections may be accepted.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.room = 100
        self.endpoint = endpointOf(server)
        self.clients: list[Peer] = []
        self.acceptor = Acceptor(
            reactor, server.port, "test", lambda: self.room, reactor
        )

    async def client(self) -> Peer:
        """
        Connect a client.
        """
        client = await connected(self.endpoint)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """
        Stop listening, and close all connections.
        """
        self.acceptor.stop()
        await self.server.stop()
        self.acceptor.release()
        for client in self.clients:
            if client.lost is None:
                client.reset()
            await client.closed()

    async def assertServes(self) -> None:
        """
        A client is served.
        """
        client = await self.client()
        client.write(b"hello")
        assert await client.got(5) == b"hello"

    async def assertRefuses(self) -> None:
        """
        Check that a client is refused at once.
        """
        with pytest.raises(ConnectionRefusedError):
            await self.client()


@asynccontextmanager
async def door(family: str, directory: Path) -> AsyncIterator[Door]:
    """
    Listen, on a port that the kernel picks or on a given one.
    """
    if family == "given":
        endpoint: IStreamServerEndpoint = TCP4ServerEndpoint(
            reactor, freePort(), interface="127.0.0.1"
        )
    else:
        endpoint = serverEndpoint(family, directory / "socket")
    server = await Server(Echo).listen(endpoint)
    opened = Door(server)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_accepts(family: str, tmp_path: Path) -> None:
    """
    Clients of every family are accepted and served.
    """
    async with door(family, tmp_path) as opened:
        opened.acceptor.resume()
        opened.acceptor.resume()
        for _ in range(3):
            await opened.assertServes()


@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_paused(family: str, tmp_path: Path) -> None:
    """
    While accepting is paused, clients and the bytes that they send wait in the kernel;
    nothing is lost.
    """
    async with door(family, tmp_path) as opened:
        clients = [await opened.client() for _ in range(3)]
        for client in clients:
            client.write(b"hello")
        await pause(0.05)
        assert opened.server.peers == []
        opened.acceptor.resume()
        for client in clients:
            assert await client.got(5) == b"hello"
        opened.acceptor.pause()
        await opened.client()
        await pause(0.05)
        assert len(opened.server.peers) == 3


@pytest_twisted.ensureDeferred
async def test_room(tmp_path: Path) -> None:
    """
    No more are accepted than there is room for. When there is none the balancer
    is idle, although clients wait.
    """
    async with door("tcp4", tmp_path) as opened:
        opened.room = 2
        make = opened.server.make

        def taken() -> Peer:
            opened.room -= 1
            return make()

        opened.server.make = taken
        for _ in range(5):
            await opened.client()
        opened.acceptor.resume()
        await opened.server.peer(1)
        await pause(0.05)
        assert len(opened.server.peers) == 2
        assert opened.acceptor not in reactor.getReaders()
        opened.room = 3
        opened.acceptor.resume()
        await opened.server.peer(4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_refuse(family: str, tmp_path: Path) -> None:
    """
    Connections can be refused and accepted again, as often as needed, at the same
    address; sessions that live are not affected.
    """
    async with door(family, tmp_path) as opened:
        opened.acceptor.resume()
        await opened.assertServes()
        for _ in range(3):
            opened.acceptor.refuse()
            await opened.assertRefuses()
            await opened.assertRefuses()
            opened.acceptor.listenAgain()
            opened.acceptor.resume()
            await opened.assertServes()
        assert all(client.lost is None for client in opened.clients)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_refuseBacklog(family: str, tmp_path: Path) -> None:
    """
    Clients that the kernel has connected already are served, although connections are
    refused from then on; likewise at a stop.
    """
    async with door(family, tmp_path) as opened:
        client = await opened.client()
        opened.acceptor.refuse()
        client.write(b"hello")
        assert await client.got(5) == b"hello"
        opened.acceptor.listenAgain()
        opened.acceptor.resume()
        client = await opened.client()
        client.write(b"hello")
        opened.acceptor.stop()
        assert await client.got(5) == b"hello"


@pytest.mark.parametrize("family", ("tcp4", "tcp6", "given"))
@pytest_twisted.ensureDeferred
async def test_addressIsKept(family: str, tmp_path: Path) -> None:
    """
    While connections are refused no other process can take the port, even one that the
    kernel has picked; and the port is the same afterwards.
    """
    async with door(family, tmp_path) as opened:
        place = opened.server.port.socket.getsockname()
        opened.acceptor.resume()
        await opened.assertServes()
        opened.acceptor.refuse()
        listening = opened.server.port.socket
        with socket.socket(listening.family) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError) as caught:
                thief.bind(listening.getsockname())
        assert caught.value.errno == errno.EADDRINUSE
        opened.acceptor.listenAgain()
        assert listening.getsockname() == place
        opened.acceptor.resume()
        await opened.assertServes()


@pytest_twisted.ensureDeferred
async def test_modeIsKept(tmp_path: Path) -> None:
    """
    A Unix socket that refused and listens again has the same permissions as before.
    """
    async with door("unix", tmp_path) as opened:
        path = tmp_path / "socket"
        path.chmod(0o640)
        opened.acceptor.refuse()
        opened.acceptor.listenAgain()
        opened.acceptor.resume()
        assert path.stat().st_mode & 0o777 == 0o640
        await opened.assertServes()


@pytest_twisted.ensureDeferred
async def test_cannotListenAgain(tmp_path: Path) -> None:
    """
    When a Unix socket cannot be put in place again, the attempt raises and leaves
    nothing behind; it can be repeated.
    """
    folder, aside = tmp_path / "folder", tmp_path / "aside"
    folder.mkdir()
    async with door("unix", folder) as opened:
        opened.acceptor.refuse()
        folder.rename(aside)
        with pytest.raises(FileNotFoundError):
            opened.acceptor.listenAgain()
        assert os.listdir(tmp_path) == ["aside"]
        assert os.listdir(aside) == ["socket"]
        aside.rename(folder)
        opened.acceptor.listenAgain()
        opened.acceptor.resume()
        await opened.assertServes()


@pytest_twisted.ensureDeferred
async def test_removedMeanwhile(tmp_path: Path) -> None:
    """
    A Unix socket that somebody has removed while it refused is there again when it
    listens, with the same permissions.
    """
    async with door("unix", tmp_path) as opened:
        path = tmp_path / "socket"
        path.chmod(0o640)
        opened.acceptor.refuse()
        path.unlink()
        opened.acceptor.listenAgain()
        opened.acceptor.resume()
        assert path.stat().st_mode & 0o777 == 0o640
        await opened.assertServes()


@pytest.mark.parametrize("removed", [False, True])
@pytest_twisted.ensureDeferred
async def test_longPath(removed: bool) -> None:
    """
    A Unix socket whose path is as long as the system allows listens again too.
    """
    with TemporaryDirectory() as directory:
        missing = LONGEST_PATH - len(f"{directory}//socket")
        folder = Path(directory, "x" * missing)
        folder.mkdir()
        async with door("unix", folder) as opened:
            path = folder / "socket"
            path.chmod(0o640)
            opened.acceptor.refuse()
            await opened.assertRefuses()
            if removed:
                path.unlink()
            opened.acceptor.listenAgain()
            opened.acceptor.resume()
            assert path.stat().st_mode & 0o777 == 0o640
            await opened.assertServes()
        assert os.listdir(folder) == []


@pytest_twisted.ensureDeferred
async def test_adopted(tmp_path: Path) -> None:
    """
    A listening socket that another process has opened, such as systemd, works the same.
    """
    with socket.create_server(("127.0.0.1", 0)) as given:
        given.setblocking(False)
        server = Server(Echo)
        server.port = reactor.adoptStreamPort(given.fileno(), socket.AF_INET, server)
        opened = Door(server)
        opened.acceptor.resume()
        await opened.assertServes()
        opened.acceptor.refuse()
        opened.acceptor.listenAgain()
        opened.acceptor.resume()
        await opened.close()


class FakeSocket:
    """
    A listening socket that gives what the test says.
    """

    def __init__(self) -> None:
        self.results: list[tuple[int, Any] | int | OSError] = []
        self.options: list[tuple[int, ...]] = []

    def _accept(self) -> tuple[int, Any]:
        if not self.results:
            raise BlockingIOError()
        result = self.results.pop(0)
        if isinstance(result, int):
            raise OSError(result, os.strerror(result))
        if isinstance(result, OSError):
            raise result
        return result

    def getsockname(self) -> tuple[str, int]:
        return ("::1", 80)

    def bind(self, address: object) -> None:
        raise OSError(errno.EINVAL, "bound already")

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)


class FakePort:
    """
    The part of a L{twisted.internet.tcp.Port} that matters.
    """

    transport = TCPServer
    addressFamily = socket.AF_INET6
    sessionno = 0
    _realPortNumber = 80  # its transports name it

    def __init__(self, factory: Server) -> None:
        self.socket = FakeSocket()
        self.factory: Any = factory
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def fileno(self) -> int:
        return 99


class TroubleTests(SynchronousTestCase):
    """
    Errors while accepting cost time, but no connection.
    """

    def setUp(self) -> None:
        """
        Make an acceptor in memory.
        """
        self.reactor: Any = MemoryReactorClock()
        self.server = Server()
        self.port: Any = FakePort(self.server)
        port: Any = self.port
        self.acceptor = Acceptor(self.reactor, port, "front", lambda: 100, self.reactor)
        self.lines = logged(self)
        self.acceptor.resume()
        self.addCleanup(self.closeAccepted)

    def closeAccepted(self) -> None:
        """
        Close what was accepted.
        """
        for each in self.server.peers:
            each.transport.connectionLost(Failure(ConnectionLost()))

    def come(self, peer: Any = ("::1", 1234, 0, 0)) -> socket.socket:
        """
        A connection waits to be accepted.

        @return: The client's end.
        """
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        self.port.socket.results.append((ours.detach(), peer))
        return theirs

    def assertClosed(self, client: socket.socket) -> None:
        """
        A client's connection was closed.
        """
        client.setblocking(False)
        self.assertEqual(client.recv(1), b"")

    def warnings(self) -> list[int]:
        """
        The numbers in the log lines about shortages.
        """
        return [
            each["number"]
            for each in self.lines
            if "cannot accept" in (each["log_format"] or "")
        ]

    def test_takesThePlace(self) -> None:
        """
        The acceptor accepts in the port's place, under the balancer's name in the log.
        """
        self.assertFalse(self.port.reading)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])
        self.assertEqual(self.acceptor.fileno(), 99)
        self.assertEqual(self.acceptor.logPrefix(), "iawlb")

    def test_noDescriptor(self) -> None:
        """
        When no descriptor is left, connections stay in the kernel's backlog, and
        accepting is tried again after a moment; the log has one line a second.
        """
        for _ in range(25):
            self.port.socket.results.append(errno.EMFILE)
        for step in range(25):
            self.assertEqual(len(self.port.socket.results), 25 - step)
            self.acceptor.doRead()
            self.assertEqual(self.reactor.getReaders(), [])
            self.reactor.advance(PAUSE)
        self.assertEqual(sum(self.warnings()), 21)
        self.assertEqual(len(self.warnings()), 3)
        self.come()
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])
        self.acceptor.doRead()
        self.assertEqual(len(self.server.peers), 1)
        self.acceptor.stop()
        self.assertEqual(sum(self.warnings()), 25)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_noDescriptorAtStop(self) -> None:
        """
        A shortage of descriptors does not delay a stop or a pause.
        """
        self.port.socket.results = [errno.ENFILE, errno.ENOMEM]
        self.acceptor.doRead()
        self.acceptor.resume()
        self.assertEqual(self.reactor.getReaders(), [])
        self.acceptor.pause()
        self.acceptor.resume()
        self.acceptor.stop()
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_noDescriptorWhilePaused(self) -> None:
        """
        An acceptor that is paused when descriptors are short sets no timer for a later
        try.
        """
        self.acceptor.pause()
        self.port.socket.results.append(errno.EMFILE)
        self.acceptor.accept(1)
        self.acceptor.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_gone(self) -> None:
        """
        A client that left the backlog, or whose network did, does not keep the
        next one from being accepted.
        """
        for error in (errno.ECONNABORTED, errno.EHOSTUNREACH):
            self.port.socket.results.append(error)
            self.come()
        self.acceptor.doRead()
        self.assertEqual(len(self.server.peers), 2)
        self.assertEqual(self.warnings(), [])

    def test_broken(self) -> None:
        """
        An unexpected error is reported, and accepting is tried again.
        """
        self.port.socket.results += [errno.EINVAL, OSError("no number")]
        for _ in range(2):
            self.acceptor.doRead()
            self.assertEqual(self.reactor.getReaders(), [])
            self.reactor.advance(PAUSE)
        self.come()
        self.acceptor.doRead()
        self.assertEqual(len(self.server.peers), 1)
        self.acceptor.stop()
        self.assertEqual(sum(self.warnings()), 2)

    def test_dropped(self) -> None:
        """
        An acceptor that the reactor has stopped serving begins again when there is
        room.
        """
        self.reactor.removeReader(self.acceptor)
        self.acceptor.connectionLost(Failure(ConnectionLost()))
        self.acceptor.resume()
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_vanishedInterface(self) -> None:
        """
        A client whose interface has gone meanwhile cannot be named: that is
        logged, and costs one connection.
        """
        client = self.come(("fe80::1", 1234, 0, 2**31 - 1))
        self.come()
        self.acceptor.doRead()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertClosed(client)
        self.assertEqual(len(self.server.peers), 1)

    def test_refusedMeanwhile(self) -> None:
        """
        When one that was accepted finds the last destination down, so that the
        listener refuses, no other is asked for.
        """

        self.refuses = True

        class Refusing(Server):
            def buildProtocol(other, addr: IAddress | None) -> Peer:
                if self.refuses:
                    self.refuses = False
                    self.acceptor.refuse()
                return super().buildProtocol(addr)

        self.port.factory = self.server = Refusing()
        self.come()
        self.come()
        results = self.port.socket.results
        # So the kernel does.
        self.port.socket.shutdown = lambda how: results.append(errno.EINVAL)
        self.acceptor.doRead()
        self.assertEqual(len(self.server.peers), 2)
        self.assertEqual((self.warnings(), results), ([], [errno.EINVAL]))

    def test_frontendRaises(self) -> None:
        """
        A fault of our own is logged, and costs one connection.
        """
        rig = Rig()
        self.port.factory = rig.balancer.factory
        client = self.come()
        self.patch(rig.balancer.table, "begin", lambda *args: 1 / 0)
        self.acceptor.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertClosed(client)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_factoryRaises(self) -> None:
        """
        A factory around the balancer's own that raises costs that connection;
        the next is accepted.
        """

        class Broken(ServerFactory):
            def buildProtocol(self, addr: IAddress | None) -> None:
                raise ZeroDivisionError()

        client = self.come()
        self.port.factory = Broken()
        self.acceptor.doRead()
        self.assertClosed(client)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.port.factory = self.server
        self.come()
        self.acceptor.doRead()
        self.assertEqual(len(self.server.peers), 1)

    def test_protocolRaises(self) -> None:
        """
        A protocol that raises when it is connected costs its own connection only.
        """

        class Broken(Peer):
            def connectionMade(self) -> None:
                raise ZeroDivisionError()

        client = self.come()
        self.come()
        makes = iter((Broken, Peer))
        self.server.make = lambda: next(makes)()
        self.acceptor.doRead()
        self.reactor.advance(0)
        self.assertClosed(client)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(
            [each.lost is None for each in self.server.peers], [False, True]
        )

    def test_turnedAway(self) -> None:
        """
        A connection that the factory does not want is closed.
        """

        class Closed(ServerFactory):
            def buildProtocol(self, addr: IAddress | None) -> None:
                return None

        client = self.come()
        self.port.factory = Closed()
        self.acceptor.doRead()
        self.assertClosed(client)

    def test_linkLocal(self) -> None:
        """
        The address of a client on the same link names the interface, as the
        address alone does not say where it is.
        """
        seen: list[Any] = []

        class Seeing(Server):
            def buildProtocol(self, addr: IAddress | None) -> Peer:
                seen.append(addr)
                return super().buildProtocol(addr)

        index, name = socket.if_nameindex()[0]
        self.port.factory = self.server = Seeing()
        self.come(("fe80::1", 1234, 0, index))
        self.acceptor.doRead()
        self.assertEqual(seen, [IPv6Address("TCP", f"fe80::1%{name}", 1234, 0, index)])

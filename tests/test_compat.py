"""
Tests that notice when a name changes that Twisted or Python do not promise.
"""

from __future__ import annotations

import os
import select
import socket
from tempfile import TemporaryDirectory
from typing import Any

from OpenSSL import SSL
from twisted.internet import endpoints
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint, _SystemdParser
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.tcp import Connection
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.python.systemd import ListenFDs
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner
from twisted.trial.unittest import SynchronousTestCase

from iawlb.compat import (
    acceptOf,
    epollOf,
    inherit,
    inheritedDescriptors,
    isStopping,
    leaveToOthers,
    positionOf,
    replaceIteration,
    restoreIteration,
    setGroups,
    sharedPort,
    statusPipe,
    unwritten,
    wrappedProtocol,
)


class CompatTests(SynchronousTestCase):
    """
    Each private name still exists, and there is a fallback without it.
    """

    def test_position(self) -> None:
        """
        The position in a log file of Twisted's is known; without its private name it
        is L{None}.
        """
        folder = self.enterContext(TemporaryDirectory())
        file: Any = LogFile.fromFullPath(f"{folder}/log")
        self.addCleanup(file.close)
        file.write(b"line")
        self.assertEqual(positionOf(file), 4)
        nameless: Any = object()
        self.assertIsNone(positionOf(nameless))

    def test_sharedSocket(self) -> None:
        """
        Two ports can listen with one socket, and the socket listens until the one that
        has inherited it is closed. Twisted has the names for that which are not
        promised.
        """
        folder = self.enterContext(TemporaryDirectory())
        for where in (f"{folder}/in.sock", b"\0iawlb-test-shared"):
            reactor = self.reactor(SelectReactor)
            first = reactor.listenUNIX(where, Factory(), mode=0o600)
            second = sharedPort(reactor, first, Factory(), 10, 0o640)
            path = inherit(second, first)
            first.connectionLost(Failure(ConnectionDone()))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(where)
            if isinstance(where, str):
                self.assertEqual(path, where.encode())
                self.assertEqual(os.stat(where).st_mode & 0o777, 0o640)
            else:
                self.assertIsNone(path)
            second.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(os.listdir(folder), [])

    def test_epoll(self) -> None:
        """
        Twisted's reactor for Linux has an epoll object; others have none.
        """
        reactor = self.reactor(EPollReactor)
        self.assertIsInstance(epollOf(reactor), select.epoll)
        self.assertIsNone(epollOf(self.reactor(SelectReactor)))

    def reactor(self, kind: Any) -> Any:
        """
        Make a reactor that is closed at the end.
        """
        reactor = kind()
        for reader in {*reactor.removeAll(), *reactor._internalReaders}:
            self.addCleanup(reader.connectionLost, None)
        if hasattr(reactor, "_poller"):
            self.addCleanup(reactor._poller.close)
        return reactor

    def test_iteration(self) -> None:
        """
        The main loop calls the function that has replaced its iteration, which only one
        caller can do at a time, and its own function afterwards.
        """
        reactor = self.reactor(SelectReactor)
        asked: list[float | None] = []
        own = replaceIteration(reactor, asked.append)
        self.assertEqual(own, SelectReactor.doIteration.__get__(reactor))
        self.assertIsNone(replaceIteration(reactor, asked.append))
        reactor.iterate(0.25)
        restoreIteration(reactor)
        reactor.iterate(0)
        self.assertEqual(asked, [0.25])

    def test_stopping(self) -> None:
        """
        A reactor that was told to stop reports so until it has stopped.
        """
        reactor = self.reactor(SelectReactor)
        seen = [isStopping(reactor)]

        def stop() -> None:
            reactor.stop()
            seen.append(isStopping(reactor))

        reactor.callWhenRunning(stop)
        reactor.run(installSignalHandlers=False)
        seen.append(isStopping(reactor))
        self.assertEqual(seen, [False, True, False])
        self.assertFalse(isStopping(MemoryReactorClock()))

    def test_accept(self) -> None:
        """
        A listening socket of Python's accepts without the extras of its class; another
        object accepts with them.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:

            class Plain:
                accept = listening.accept

            plain: Any = Plain()
            self.assertEqual(acceptOf(listening).__name__, "_accept")
            for each in (listening, plain):
                with socket.create_connection(listening.getsockname()) as client:
                    number, peer = acceptOf(each)()
                    with socket.socket(fileno=number) as accepted:
                        self.assertEqual(accepted.getpeername(), peer)
                        self.assertEqual(peer, client.getsockname())

    def test_inherited(self) -> None:
        """
        What Twisted has read of the sockets that systemd hands over is known, with the
        names; without the private names, no socket is.
        """
        self.assertEqual(inheritedDescriptors(), [])
        given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
        found = ListenFDs.fromEnvironment({**given, "LISTEN_FDNAMES": "web:web"})
        self.patch(_SystemdParser, "_sddaemon", found)
        self.assertEqual(inheritedDescriptors(), [("web", 3), ("web", 4)])
        self.patch(endpoints, "_SystemdParser", None)
        self.assertEqual(inheritedDescriptors(), [])

    def test_leaveToOthers(self) -> None:
        """
        A port that is left to others is not shut down when it is closed, and its path
        is not removed.
        """
        path = f"{self.enterContext(TemporaryDirectory())}/socket"
        reactor = self.reactor(SelectReactor)
        logged = EventLoggingObserver()
        globalLogPublisher.addObserver(logged)
        self.addCleanup(globalLogPublisher.removeObserver, logged)
        ports = [
            reactor.listenTCP(0, Factory(), interface="127.0.0.1"),
            reactor.listenUNIX(path, Factory()),
        ]
        for port in ports:
            with port.socket.dup() as kept:
                leaveToOthers(port)
                port.stopListening()
                reactor.iterate(0)
                self.assertFalse(port.connected)
                with socket.socket(kept.family) as client:
                    client.connect(kept.getsockname())
        self.assertNotIn("\0", "".join(map(formatEvent, logged)))

    def test_unwritten(self) -> None:
        """
        For a transport of Twisted's, the bytes in both of its buffers are counted; for
        any other object the count is 0.
        """
        mine, peer = socket.socketpair()
        self.addCleanup(mine.close)
        self.addCleanup(peer.close)
        transport = Connection(mine, Protocol(), MemoryReactorClock())
        transport.connected = True
        self.assertEqual(unwritten(transport), 0)
        transport.write(b"some")
        self.assertEqual(unwritten(transport), 4)
        transport.dataBuffer, transport.offset = b"more", 1
        self.assertEqual(unwritten(transport), 7)
        self.assertEqual(unwritten(object()), 0)

    def test_wrappedProtocol(self) -> None:
        """
        A client endpoint wraps the protocol; what wraps none says so.
        """
        reactor = MemoryReactorClock()
        ours = Protocol()

        class OursFactory(Factory[Protocol]):
            def buildProtocol(self, addr: object) -> Protocol:
                return ours

        TCP4ClientEndpoint(reactor, "127.0.0.1", 1).connect(OursFactory())
        factory = reactor.tcpClients[0][2]
        wrapper = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.assertIs(wrappedProtocol(wrapper), ours)
        self.assertIsNone(wrappedProtocol(ours))

    def test_statusPipe(self) -> None:
        """
        A process that becomes a daemon finds the pipe by which twistd waits; any other
        process has none.
        """
        options = ServerOptions()
        self.assertIsNone(statusPipe(options))
        runner = UnixApplicationRunner(options)
        self.patch(runner, "daemonize", lambda reactor: 77)
        self.addCleanup(os.umask, os.umask(0o77))
        runner.setupEnvironment(None, ".", False, 0o77, None)
        self.assertEqual(statusPipe(options), 77)

    def test_setGroups(self) -> None:
        """
        The groups of a context's key exchange are left as they are where pyOpenSSL has
        renamed what is used.
        """
        setGroups(object(), ["X25519"])
        setGroups(SSL.Context(SSL.TLS_METHOD), ["unknown"])

"""
Peers on real sockets, for the tests that pytest-twisted runs.
"""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Callable
from contextlib import suppress
from random import randrange
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
)
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IListeningPort,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

reactor: Any = _reactor

LIMIT = 30.0
"""
Longest wait for anything in a test, in seconds. It tells a hang from no hang, also
on a busy machine.
"""


async def until(true: Callable[[], object], limit: float = LIMIT) -> None:
    """
    Let the reactor run until something is true; fail when it takes too long.
    """
    end = reactor.seconds() + limit
    while not true():
        if reactor.seconds() > end:
            raise AssertionError("did not become true in time")
        await deferLater(reactor, 0.002, lambda: None)


async def pause(seconds: float) -> None:
    """
    Let the reactor run for so long.
    """
    await deferLater(reactor, seconds, lambda: None)


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """
    One end of a connection: keeps what it receives, and how the connection ended.

    @ivar received: The bytes received.
    @ivar ended: Whether the other end sent its last byte (or closed the connection in
        order).
    @ivar lost: Why the connection is closed, or L{None} while it is not.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Keep the bytes.
        """
        self.received += data

    def readConnectionLost(self) -> None:
        """
        Called when the other end has sent its last byte.
        """
        self.ended = True

    def writeConnectionLost(self) -> None:
        """
        Our half is closed.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        All is closed.
        """
        self.lost = reason

    @property
    def wasReset(self) -> bool:
        """
        Whether the connection was cut off rather than closed in order.
        """
        return self.lost is not None and self.lost.check(ConnectionLost) is not None

    def write(self, data: bytes) -> None:
        """
        Send.
        """
        self.transport.write(data)

    def end(self) -> None:
        """
        Send the last byte's end; go on reading.
        """
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """
        Close in order.
        """
        self.transport.loseConnection()

    def reset(self) -> None:
        """
        Close with a reset.
        """
        self.transport.abortConnection()

    async def got(self, number: int, limit: float = LIMIT) -> bytes:
        """
        Wait for so many bytes.
        """
        await until(lambda: len(self.received) >= number, limit)
        return bytes(self.received)

    async def closed(self, limit: float = LIMIT) -> None:
        """
        Wait until all is closed.
        """
        await until(lambda: self.lost is not None, limit)


class Server(ServerFactory):
    """
    A listening factory that keeps its peers.

    @ivar peers: The accepted peers, in order.
    """

    noisy = False

    def __init__(self, make: Callable[[], Peer] = Peer) -> None:
        self.make = make
        self.peers: list[Peer] = []
        self.port: Any = None

    def buildProtocol(self, addr: IAddress | None) -> Peer:
        """
        Make a peer, and keep it.
        """
        peer = self.make()
        self.peers.append(peer)
        return peer

    async def listen(self, endpoint: IStreamServerEndpoint | None = None) -> Server:
        """
        Listen; by default on a free port of 127.0.0.1.
        """
        where = endpoint or TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        listening: Deferred[IListeningPort] = where.listen(self)
        self.port = await listening
        return self

    @property
    def number(self) -> int:
        """
        The port's number.
        """
        number: int = self.port.getHost().port
        return number

    async def peer(self, index: int = 0) -> Peer:
        """
        Wait for a peer, by its position in the order of accept.
        """
        await until(lambda: len(self.peers) > index)
        return self.peers[index]

    async def stop(self) -> None:
        """
        Stop listening, and close all peers.
        """
        await self.port.stopListening()
        for peer in self.peers:
            if peer.lost is None:
                peer.transport.abortConnection()
        await until(lambda: all(peer.lost is not None for peer in self.peers))


class Echo(Peer):
    """
    Sends everything back, and the end too.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Send the bytes back.
        """
        super().dataReceived(data)
        self.write(data)

    def readConnectionLost(self) -> None:
        """
        Close when all is sent.
        """
        super().readConnectionLost()
        self.close()


async def connected(
    to: int | IStreamClientEndpoint, make: Callable[[], Peer] = Peer
) -> Peer:
    """
    Connect a peer to a port of 127.0.0.1, or to an endpoint.
    """
    endpoint = (
        TCP4ClientEndpoint(reactor, "127.0.0.1", to) if isinstance(to, int) else to
    )
    connecting: Deferred[Any] = connectProtocol(endpoint, make())
    peer: Peer = await connecting.addTimeout(LIMIT, reactor)
    return peer


def freePort(host: str = "127.0.0.1") -> int:
    """
    Find a port that no program uses, below those that the kernel gives to clients: on a
    busy machine a client could take such a port before we listen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        number = randrange(10_000, 32_768)
        with socket.socket(family) as asking, suppress(OSError):
            asking.bind((host, number))
            return number


def collectUnbound() -> None:
    """
    Collect the sockets that Twisted left open when it could not bind them,
    without the warning: those of Unix, and before 26.10 those of TCP too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def listening(case: SynchronousTestCase, backlog: int = 10) -> socket.socket:
    """
    Listen on a port of 127.0.0.1 without ever accepting.
    """
    server = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    case.addCleanup(server.close)
    server.settimeout(LIMIT)
    return server

"""
Stand-ins for transports and endpoints, for tests in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.destination import Destination
from iawlb.session import Session
from iawlb.settings import DestinationSettings, Settings


@implementer(ITransport, IPushProducer)
class Wire:
    """
    A transport with halves, and no socket: what was asked of it can be read, and
    what a peer does can be played.

    @ivar written: What was written.
    @ivar reading: Whether it is not paused.
    @ivar ended: Whether our half was ended.
    @ivar closing: C{"close"} or C{"abort"} once asked for.
    """

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.written = b""
        self.reading = True
        self.ended = False
        self.closing: str | None = None
        self.producer: Any = None
        self.connected = True

    # What the protocol asks.

    def write(self, data: bytes) -> None:
        self.written += data

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        self.ended = True

    def loseConnection(self) -> None:
        self.closing = self.closing or "close"

    def abortConnection(self) -> None:
        self.closing = "abort"

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IAddress:
        return IPv4Address("TCP", "192.0.2.1", 1234)

    def getHost(self) -> IAddress:
        return IPv4Address("TCP", "192.0.2.2", 80)

    # What the peer does.

    def receive(self, data: bytes) -> None:
        """
        The peer sends bytes.
        """
        self.protocol.dataReceived(data)

    def end(self) -> None:
        """
        The peer ends its half.
        """
        self.protocol.readConnectionLost()

    def lose(self, reset: bool = False) -> None:
        """
        The connection is gone: reset by the peer, or as was asked for.
        """
        assert self.connected
        self.connected = False
        error: Exception = ConnectionDone()
        if reset:
            error = ConnectionLost()
        elif self.closing == "abort":
            error = ConnectionAborted()
        self.protocol.connectionLost(Failure(error))


def accept(factory: Any, host: str = "192.0.2.1", port: int = 1234) -> Wire:
    """
    A client connects to a factory.
    """
    protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
    wire = Wire(protocol)
    protocol.makeConnection(wire)
    return wire


@implementer(IStreamClientEndpoint)
class Backend:
    """
    A destination's endpoint, played by the test.

    @ivar refuse: What every connect fails of, at once, if anything.
    @ivar hold: Whether connects neither succeed nor fail by themselves.
    @ivar pending: The factories and Deferreds of connects that are held.
    @ivar wires: The connections made, in order.
    @ivar tries: How many connects were asked for.
    """

    def __init__(self) -> None:
        self.refuse: Exception | None = None
        self.hold = False
        self.pending: list[tuple[Factory[Any], Deferred[Any]]] = []
        self.wires: list[Wire] = []
        self.tries = 0
        self.cancelled = 0

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.tries += 1
        if self.refuse is not None:
            return fail(self.refuse)
        done: Deferred[Any] = Deferred(self._cancel)
        self.pending.append((protocolFactory, done))
        if not self.hold:
            self.succeed()
        return done

    def _cancel(self, done: Deferred[Any]) -> None:
        self.cancelled += 1
        self.pending = [each for each in self.pending if each[1] is not done]

    def succeed(self) -> Wire:
        """
        The oldest connect that is held succeeds.
        """
        factory, done = self.pending.pop(0)
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.9", 9001))
        wire = Wire(protocol)
        self.wires.append(wire)
        assert protocol is not None
        protocol.makeConnection(wire)
        done.callback(protocol)
        return wire

    def fail(self, error: Exception) -> None:
        """
        The oldest connect that is held fails.
        """
        self.pending.pop(0)[1].errback(Failure(error))


def destination(name: str = "a", order: int = 0, **settings: Any) -> Destination:
    """
    Make a destination's state.
    """
    own = DestinationSettings(name=name, **settings)
    return Destination(f"tcp:{name}:1", own, Settings(), order)


class _Holder:
    def dismiss(self, outcome: Any) -> None:
        raise AssertionError("not expected")


def session(number: int, host: str = "192.0.2.1", accepted: float = 0.0) -> Session:
    """
    Make a session that has no connection.
    """
    side: Any = None
    return Session(number, f"{host}:1", host, "test", accepted, side, _Holder())

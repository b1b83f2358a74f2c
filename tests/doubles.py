"""
Stand-ins for transports and endpoints, for tests in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    INegotiated,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, implementer

from iawlb.core.destination import Destination
from iawlb.core.events import SESSION_ENDED, SESSION_PULLED, IObserver
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.service import LoadBalancer
from iawlb.settings import DestinationSettings, Settings


@implementer(ITransport, IPushProducer)
class Wire:
    """
    A transport with halves, and no socket: a test can read what was asked of it, and
    play what a peer does.

    @ivar written: What was written.
    @ivar reading: Whether the transport is not paused.
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
        Play a peer that ends its half.
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


class SecureWire(Wire):
    """
    A transport with a TLS handshake that the test completes.
    """

    negotiatedProtocol: bytes | None = None

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        directlyProvides(self, INegotiated)

    def getHandle(self) -> Any:
        return Mock()  # OpenSSL's connection


def accept(factory: Any, host: str = "192.0.2.1", port: int = 1234) -> Wire:
    """
    A client connects to a factory.
    """
    protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
    wire = Wire(protocol)
    protocol.makeConnection(wire)
    return wire


class _Port:
    def getHost(self) -> str:
        return "memory"

    def stopListening(self) -> None:
        pass


@implementer(IStreamServerEndpoint)
class MemoryListener:
    """
    The endpoint of a listener in memory.

    @ivar factory: The factory that it listens with.
    """

    factory: Any

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """
        Keep the factory.
        """
        self.factory = protocolFactory
        port: Any = _Port()
        return succeed(port)


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
    address = IPv4Address("TCP", host, 1)
    origin = Origin(PoolCount("default"), "test")
    return Session(number, address, origin, accepted, side, _Holder())


def logged(case: SynchronousTestCase) -> EventLoggingObserver:
    """
    Collect the events that are logged during a test in memory.
    """
    events = EventLoggingObserver()
    globalLogPublisher.addObserver(events)
    case.addCleanup(globalLogPublisher.removeObserver, events)
    return events


@implementer(IObserver)
class Recorder:
    """
    An observer that remembers.

    @ivar pulls: The session's number and the destination's name of each pull.
    @ivar outcomes: How each session ended, by its number.
    @ivar destinations: The name and event of each change of a destination.
    @ivar listeners: The name and event of each change of a listener.
    """

    def __init__(self) -> None:
        self.pulls: list[tuple[int, str | None]] = []
        self.outcomes: dict[int, Outcome | None] = {}
        self.destinations: list[tuple[str, str]] = []
        self.listeners: list[tuple[str, str]] = []

    def sessionChanged(self, session: Session, event: str) -> None:
        if event == SESSION_PULLED:
            self.pulls.append((session.number, session.destination))
        elif event == SESSION_ENDED:
            self.outcomes[session.number] = session.outcome

    def destinationChanged(self, destination: Destination, event: str) -> None:
        self.destinations.append((destination.name, event))

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        self.listeners.append((name, event))


class Rig:
    """
    A balancer in memory, with destinations C{a}, C{b} and so on.
    """

    def __init__(self, number: int = 1, **settings: Any) -> None:
        """
        @param number: How many destinations.
        @param settings: Those of the balancer.
        """
        self.clock = Clock()
        self.recorder = Recorder()
        self.balancer = LoadBalancer(self.clock, observers=[self.recorder], **settings)
        self.backends = [Backend() for _ in range(number)]
        for name, backend in zip("abcdef", self.backends, strict=False):
            self.balancer.add(backend, name=name)
        self.balancer.startService()

    def client(self, host: str = "192.0.2.1") -> Wire:
        """
        A client connects.
        """
        return accept(self.balancer.factory, host)

    def clients(self, number: int) -> list[Wire]:
        """
        Connect several clients, one after the other.
        """
        return [self.client() for _ in range(number)]

    def advance(self, seconds: float) -> None:
        """
        Let time pass, in small steps.
        """
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)

    def states(self) -> list[str]:
        """
        The states of the destinations, in order.
        """
        return [each.state for each in self.balancer.destinations]


class Handling:
    """
    Calls a function with the events of a descriptor.

    @ivar failures: How many times the function has raised.
    """

    def __init__(self, call: Callable[[int], object]) -> None:
        self._call = call
        self.failures = 0

    def ready(self, events: int) -> None:
        """
        Call the function.
        """
        self._call(events)

    def failed(self) -> None:
        """
        Count a failure.
        """
        self.failures += 1

"""
The arguments of the Python API: their types, for type checkers, and checks for those
that the table of settings does not describe.

Durations are seconds, or text such as C{"30s"}; sizes are bytes, or text such as
C{"64k"}. L{Settings} says what each setting means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import Interface
from zope.interface.interfaces import IMethod

from iawlb.errors import InvalidSetting

Duration: TypeAlias = float | str
Size: TypeAlias = int | str
Share: TypeAlias = float | str
Rate: TypeAlias = int | str
PolicyName: TypeAlias = Literal["least", "fifo", "first", "source", "quick"]

SHOWN = 60
"""
The number of characters of a wrong argument that a message shows.
"""


class InheritedArguments(TypedDict, total=False):
    """
    The settings that a pool has for all its destinations, and each destination may have
    for itself.
    """

    slots: int
    sendProxy: Literal["off", "v1", "v2"]
    proxyTlvs: str | Sequence[str]
    tls: bool
    tlsCa: str
    tlsName: str
    tlsVerify: bool
    tlsCertificate: str
    tlsKey: str
    tlsAlpn: str | Sequence[str]
    healthCheck: str | Callable[..., Any]
    checkAddress: str | int
    checkInterval: Duration
    checkFast: Duration
    checkDown: Duration
    checkTimeout: Duration
    rise: int
    fall: int
    checkMethod: str
    checkStatus: Iterable[str] | str
    checkSend: str | bytes
    checkExpect: str | bytes | re.Pattern[bytes]
    checkCommand: Iterable[str] | str
    checkPasswordFile: str
    agent: str | int
    ejectAfter: int
    slowStart: Duration
    endOnDown: bool


class PoolArguments(InheritedArguments, total=False):
    """
    The settings that each pool may have. C{policy} is not among them: it is an
    argument of its own, since it can also be an object.
    """

    poolSlots: int
    rest: Duration
    affinity: str | Callable[[Any], object]
    loadFactor: float
    spillAfter: Duration
    whenDown: Literal["hold", "refuse"]
    queueSize: int
    backlog: int
    acceptBatch: int
    acceptDelay: Duration
    takeSlot: Literal["accept", "first-byte"]
    connectTimeout: Duration
    queueTimeout: Duration
    handshakeTimeout: Duration
    idleTimeout: Duration
    halfClosedTimeout: Duration
    answerTimeout: Duration
    allow: Sequence[str] | str
    deny: Sequence[str] | str
    maxSessions: int
    sessionRate: Rate
    maxPerSource: int
    sourceRate: Rate
    sourceMask: tuple[int, int] | str
    overLimit: Literal["delay", "refuse"]
    fairness: bool
    clientTimeout: Duration
    maxAge: Duration
    maxAgeJitter: Share
    bandwidthIn: Size
    bandwidthOut: Size
    acceptProxy: str | Sequence[str]
    proxyTimeout: Duration
    keepaliveIdle: Duration
    keepaliveInterval: Duration
    keepaliveCount: int
    userTimeout: Duration
    backoff: Duration
    backoffMax: Duration
    through: str
    serverNames: str | Sequence[str]
    protocols: str | Sequence[str]


class GlobalArguments(TypedDict, total=False):
    """
    The settings of a whole balancer.
    """

    maxConnections: int
    abortOnClose: bool
    relay: Literal["auto", "fast", "portable"]
    bufferSize: Size
    strictTls: bool
    log: Literal["all", "errors"]
    drainTimeout: Duration


class BalancerArguments(PoolArguments, GlobalArguments):
    """
    All settings: those of the balancer, and those that are the same for all its pools.
    """


class DestinationArguments(InheritedArguments, total=False):
    """
    The settings of a destination.
    """

    name: str
    weight: int
    command: Sequence[str]
    stopCommand: Sequence[str]
    ensureRunning: Callable[..., Any]
    ensureStopped: Callable[..., Any]
    idleTimeout: Duration
    wakeTimeout: Duration
    readyAfter: Duration
    stopTimeout: Duration
    backup: bool


class ListenerArguments(TypedDict, total=False):
    """
    The settings of a listener.
    """

    name: str
    mode: int | str
    group: int | str
    v6only: bool
    priority: int
    acceptProxy: str | Sequence[str]
    proxyTimeout: Duration
    certificate: Iterable[str] | str
    certificateKey: Iterable[str] | str
    clientCa: str
    clientCertificate: Literal["none", "asked", "required"]
    tlsMin: Literal["1.2", "1.3"]
    alpn: Iterable[str] | str


class ServerEndpoint(Protocol):
    """
    The methods of C{IStreamServerEndpoint} that are used, for type checkers, also those
    that do not know zope.interface.
    """

    def listen(self, protocolFactory: Any, /) -> Any:
        """
        Listen, as L{IStreamServerEndpoint.listen}.
        """


class ClientEndpoint(Protocol):
    """
    The methods of C{IStreamClientEndpoint} that are used, for type checkers, also those
    that do not know zope.interface.
    """

    def connect(self, protocolFactory: Any, /) -> Any:
        """
        Connect, as L{IStreamClientEndpoint.connect}.
        """


def shown(value: object) -> str:
    """
    Write a value for a message of one line.
    """
    text = " ".join(repr(value).splitlines())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def checkReactor(reactor: object) -> None:
    """
    Check that an object is a reactor.

    @raise InvalidSetting: It is no reactor.
    """
    if not IReactorTime.providedBy(reactor):
        raise InvalidSetting(
            f"reactor: {shown(reactor)} is not a reactor: give "
            "twisted.internet.reactor first, then the addresses"
        )


def addressesOf(given: Any, listening: bool) -> list[Any]:
    """
    Check that an argument is a list of addresses, and return it as a list; its items
    are checked one by one later.

    @param listening: Whether they are addresses to listen on.
    @raise InvalidSetting: The argument is one address, or no list.
    """
    argument = "listeners" if listening else "destinations"
    if isinstance(given, str | bytes | int):
        text = given.decode(errors="replace") if isinstance(given, bytes) else given
        right = _textOf(text, listening) if isinstance(text, int) else text
        raise InvalidSetting(
            f"{argument}: {shown(given)} is not a list of addresses: write "
            f"[{shown(right)}]"
        )
    if not isinstance(given, Iterable):
        raise InvalidSetting(
            f"{argument}: {shown(given)} is not a list: write [...] around it"
        )
    return list(given)


def _textOf(port: int, listening: bool) -> str:
    return f"{'tcp' if listening else 'localhost'}:{port}"


def checkAddress(address: object, listening: bool) -> None:
    """
    Check that an item is text or an endpoint of the right kind.

    @param listening: Whether the item is an address to listen on.
    @raise InvalidSetting: The item is something else.
    """
    kinds: list[type[Interface]] = [IStreamClientEndpoint, IStreamServerEndpoint]
    right, other = kinds[listening], kinds[not listening]
    if isinstance(address, str) or right.providedBy(address):
        return
    example = "tcp:8080" if listening else "localhost:9001"
    kind = "server" if listening else "client"
    if isinstance(address, int):
        why = f"is not an address: write {_textOf(address, listening)!r}"
    elif other.providedBy(address):
        does = "connects and cannot listen" if listening else "listens, not connects"
        why = f"{does}: give a {kind} endpoint, or text such as {example!r}"
    else:
        why = f"is not an address: give text such as {example!r}, or a {kind} endpoint"
    raise InvalidSetting(f"{shown(address)} {why}")


def checkProvider(interface: type[Interface], given: object, argument: str) -> None:
    """
    Check that an object has what an interface asks for, whether or not it declares the
    interface.

    @param argument: The name of the argument that the object was given as.
    @raise InvalidSetting: A method or attribute is missing.
    """
    described: Any = interface
    name = described.getName()
    if isinstance(given, type):
        raise InvalidSetting(
            f"{argument}: {given.__name__} is a class: write {given.__name__}()"
        )
    for each, description in described.namesAndDescriptions():
        if IMethod.providedBy(description):
            wrong = _wrongMethod(getattr(given, each, None), description)
        else:
            wrong = None if hasattr(given, each) else f"has no attribute {each}"
        if wrong is not None:
            raise InvalidSetting(
                f"{argument}: {shown(given)} {wrong}: see iawlb.{name}"
            )


def _wrongMethod(method: object, description: Any) -> str | None:
    """
    Return what is wrong with a method, or L{None} if it is right.
    """
    takes: str = description.getSignatureString()
    if not callable(method):
        return f"has no method {description.getName()}{takes}"
    try:
        signature(method).bind(*description.positional)
    except TypeError:
        return f"has a method {description.getName()} that does not take {takes}"
    except ValueError:
        return None  # written in C, and without a signature
    return None


def observersOf(given: Any, interface: type[Interface]) -> list[Any]:
    """
    Check that an argument is a list of observers, and return it.

    @raise InvalidSetting: The argument is no list, or an item is no observer.
    """
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise InvalidSetting(
            f"observers: {shown(given)} is not a list of observers: write [...] "
            "around it"
        )
    observers = list(given)
    for each in observers:
        checkProvider(interface, each, "observers")
    return observers

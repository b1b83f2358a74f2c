"""
L{Session}, the record of one client connection from accept to last close, and the
interfaces of its connection, its holder and its relay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface import Attribute, Interface

from iawlb.core.clientinfo import ClientInfo
from iawlb.core.origin import Origin
from iawlb.core.outcome import Outcome
from iawlb.core.text import printable


def describe(address: IAddress | None) -> tuple[str, str]:
    """
    Write an address for people, on one line, even if the peer's own name for it has
    line breaks.

    @return: The whole address, and the host alone.
    """
    if isinstance(address, IPv4Address):
        return printable(f"{address.host}:{address.port}"), address.host
    if isinstance(address, IPv6Address):
        return printable(f"[{address.host}]:{address.port}"), address.host
    if isinstance(address, UNIXAddress):
        path = (address.name or b"").decode(errors="backslashreplace")
        # An abstract name begins with a zero byte; ss and HAProxy show it as "@", too.
        if path.startswith("\0"):
            path = "@" + path[1:]
        return printable(f"unix:{path}"), "unix"
    return printable(str(address)), str(address)


def plainHost(host: str) -> str:
    """
    Write an IPv6 address in the one form that is the same for all connections of the
    client: as IPv4 if the address is mapped, else as the kernel writes it.
    """
    if "ffff:" not in host.lower() and ":0:" not in host:
        return host  # the kernel's own form already, as nearly always
    plain, percent, zone = host.partition("%")
    try:
        address = ipaddress.IPv6Address(plain)
    except ValueError:
        return host
    return str(address.ipv4_mapped or f"{address}{percent}{zone}")


class Holder(Protocol):
    """
    The object that has a session at the moment: first the frontend, then a worker's
    L{Serving<iawlb.workers.serving.Serving>}.
    """

    def dismiss(self, outcome: Outcome) -> None:
        """
        End the session as soon as possible.
        """


class ClientConnection(Protocol):
    """
    A client's connection, as the holder of the session sees it.

    @ivar owner: Receives what happens to the connection.
    @ivar lost: Whether the connection is closed, or handed over to a relay.
    """

    owner: Any
    lost: bool

    @property
    def ready(self) -> bool:
        """
        Whether the TLS handshake, if any, is done.
        """

    @property
    def whole(self) -> bool:
        """
        Whether the connection cannot be ended by halves, and closing it waits for the
        client.
        """

    def hungUp(self) -> None:
        """
        Called when the client has reset the connection while it was not being read.
        """

    def peerLeft(self) -> None:
        """
        Called when the client has ended its half and there is nothing to be read.
        """

    def fileno(self) -> int:
        """
        Return the connection's descriptor, or -1 if it has none.
        """

    def local(self) -> IAddress | None:
        """
        Return the address of this end of the connection, or L{None} if it is not known.
        """

    def watch(self) -> None:
        """
        Detect from now on that the client leaves, although nothing is read.
        """

    def close(self) -> None:
        """
        Close the connection in order.
        """

    def abort(self) -> None:
        """
        Reset the connection.
        """


class IRelay(Interface):
    """
    The relay of one session: two connections, and the bytes that pass between them.
    """

    bytesIn: int = Attribute("Bytes passed from the client to the destination.")
    bytesOut: int = Attribute("Bytes passed from the destination to the client.")
    asked: bool = Attribute("Whether the last byte came from the client.")
    halfClosed: Outcome | None = Attribute(
        "L{None} until one side has ended its half or is gone; then the outcome "
        "if the other side does not follow."
    )
    outcome: Outcome | None = Attribute("How the session ends, once that is known.")
    parting: bool = Attribute("Whether C{part} was called.")
    moved: float = Attribute(
        "When the last byte was read or written, or a side ended; 0 before that."
    )
    onSooner: Callable[[], None] | None = Attribute(
        "Called when an earlier time-out may apply, because the client has asked or "
        "a side has ended. Only the relays in timed.py call this."
    )

    def start() -> None:
        """
        Begin to pass bytes.
        """

    def sockets() -> list[Any]:
        """
        List the sockets of the open connections. A connection may have none.
        """

    def undelivered() -> int:
        """
        Count the bytes that wait to be written, and those that the kernel has taken and
        the peer has not acknowledged. While that number shrinks, a peer still takes
        bytes.
        """

    def close(outcome: Outcome) -> None:
        """
        Close both connections, after what is still to be written.

        @param outcome: The outcome that the session's record gets.
        """

    def part(outcome: Outcome) -> None:
        """
        Send both peers what is still to be written, and then the end. Both are read
        until they close, and what they still send is discarded.

        @param outcome: The outcome that the session's record gets.
        """

    def failed() -> None:
        """
        End the session, because one of its steps has raised.
        """

    def abort(outcome: Outcome) -> None:
        """
        Reset both connections at once.

        @param outcome: The outcome that the session's record gets.
        """


class Session:
    """
    The record of one client connection. All times are seconds of the monotonic clock,
    which no change of the wall clock moves: take the difference of two.

    @ivar number: The session's number, from 1, in the order in which the balancer
        accepted.
    @ivar address: The client's address.
    @ivar origin: The pool, and the listener that accepted the client.
    @ivar accepted: When the client was accepted.
    @ivar queued: When the session entered the queue, if it had to wait there.
    @ivar place: The session's number in the order of entry into the queue, from 1; set
        by the first entry.
    @ivar ahead: The number of sessions that waited when this one entered the queue, if
        it had to wait there; else 0.
    @ivar line: The L{Line<iawlb.core.line.Line>} of the queue that the session waits
        in, or L{None}.
    @ivar bucket: The list of L{Deadlines<iawlb.workers.deadlines.Deadlines>} that the
        session is in, or L{None}.
    @ivar waited: Whether the session had to wait for a worker.
    @ivar pulled: When a worker pulled the session, or L{None} while it waits.
    @ivar connected: When the session was connected to its destination, or L{None}.
    @ivar ended: When the session ended, or L{None}.
    @ivar tries: How many times a worker pulled the session.
    @ivar destination: The name of the destination that serves the session, or that was
        tried last, or L{None}.
    @ivar outcome: How the session ended, or L{None} while it lives.
    @ivar side: The client's connection until it is relayed.
    @ivar holder: The object that has the session at the moment, while it lives.
    @ivar relay: Passes the session's bytes while it is connected.
    @ivar info: What is known of the client beyond its address, or L{None}.
    """

    __slots__ = (
        "_bytes",
        "accepted",
        "address",
        "ahead",
        "bucket",
        "connected",
        "destination",
        "ended",
        "holder",
        "info",
        "line",
        "number",
        "origin",
        "outcome",
        "place",
        "pulled",
        "queued",
        "relay",
        "side",
        "tries",
        "waited",
    )

    place: int

    def __init__(
        self,
        number: int,
        address: IAddress | None,
        origin: Origin,
        accepted: float,
        side: ClientConnection,
        holder: Holder,
    ) -> None:
        self.number = number
        self.address = address
        self.origin = origin
        self.accepted = accepted
        self.queued = accepted
        self.line: Any = None
        self.bucket: dict[Session, Any] | None = None
        self.waited = False
        self.ahead = 0
        self.pulled: float | None = None
        self.connected: float | None = None
        self.ended: float | None = None
        self.tries = 0
        self.destination: str | None = None
        self.outcome: Outcome | None = None
        self.side = side
        self.holder = holder
        self.relay: IRelay | None = None
        self.info: ClientInfo | None = None
        self._bytes = (0, 0)

    @property
    def listener(self) -> str:
        """
        The name of the listener that accepted the client.
        """
        return self.origin.listener

    @property
    def pool(self) -> str:
        """
        The name of the pool.
        """
        return self.origin.pool.name

    def learn(self) -> ClientInfo:
        """
        Return what is known of the client beyond its address, to add to it.
        """
        if self.info is None:
            self.info = ClientInfo()
        return self.info

    @property
    def local(self) -> IAddress | None:
        """
        The address that the client connected to; L{None} if it is not known.
        """
        if self.info is not None and self.info.local is not None:
            return self.info.local
        return self.side.local()

    @property
    def client(self) -> str:
        """
        The client's address, for people.
        """
        return describe(self.address)[0]

    @property
    def clientHost(self) -> str:
        """
        The client's address without its port, the same for each of its
        connections, also when an IPv4 client came in over IPv6.
        """
        address = self.address
        if isinstance(address, IPv4Address):
            return str(address.host)
        if isinstance(address, IPv6Address):
            return plainHost(address.host)
        return describe(address)[1]

    @property
    def bytesIn(self) -> int:
        """
        Bytes passed from the client to the destination so far.
        """
        return self._bytes[0] if self.relay is None else self.relay.bytesIn

    @property
    def bytesOut(self) -> int:
        """
        Bytes passed from the destination to the client so far.
        """
        return self._bytes[1] if self.relay is None else self.relay.bytesOut

    def finish(self, outcome: Outcome, now: float) -> None:
        """
        Record how the session ended, and let go of its connections.
        """
        self.ended = now
        relay, self.relay = self.relay, None
        if relay is not None:
            self._bytes = (relay.bytesIn, relay.bytesOut)
        if self.bucket is not None:
            del self.bucket[self]
            self.bucket = None
        # No reference cycle is left for the garbage collector.
        del self.side, self.holder
        self.outcome = outcome

"""
One client connection, from accept to its last close, and the record of it.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

if TYPE_CHECKING:
    from iawlb.interfaces import IRelay
    from iawlb.plain import PlainClient
    from iawlb.relay.side import Side


class Outcome(Enum):
    """
    How a session ended.

    Each has the two letters that HAProxy's tcplog uses for it (who ended it,
    and in which phase), so that people and tools can read them alike.
    """

    DONE = "--", "closed by both sides"
    CLIENT_LEFT_HANDSHAKE = "CR", "client left during the TLS handshake"
    HANDSHAKE_TIMEOUT = "cR", "TLS handshake took too long"
    CLIENT_LEFT_QUEUE = "CQ", "client left the queue"
    QUEUE_TIMEOUT = "sQ", "waited too long in the queue"
    CLIENT_LEFT_CONNECT = "CC", "client left during the connect"
    CLIENT_RESET = "CD", "reset by the client"
    DESTINATION_RESET = "SD", "reset by the destination"
    IDLE_TIMEOUT = "cD", "idle for too long"
    CLIENT_HALF_CLOSED_TIMEOUT = "cD", "client did not close its half"
    DESTINATION_HALF_CLOSED_TIMEOUT = "sD", "destination did not close its half"
    ANSWER_TIMEOUT = "sD", "destination did not answer"
    KILLED_QUEUE = "KQ", "closed by the balancer while it waited"
    KILLED = "KD", "closed by the balancer"
    FAILED = "ID", "closed after an internal error"

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text


def describe(address: IAddress | None) -> tuple[str, str]:
    """
    Write an address for people.

    @return: The whole of it, and the host alone.
    """
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}", address.host
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}", address.host
    if isinstance(address, UNIXAddress):
        path = address.name.decode(errors="replace") if address.name else ""
        return f"unix:{path}", "unix"
    return str(address), str(address)


class Holder(Protocol):
    """
    Who has a session at the moment: the queue's door, then a worker.
    """

    def dismiss(self, outcome: Outcome) -> None:
        """
        End it as soon as may be.
        """


class Session:
    """
    The record of one client connection. All times are the reactor's seconds.

    @ivar number: Counts the sessions of a balancer, from 1, in accept order.
    @ivar address: The client's address.
    @ivar listener: The name of the listener that accepted it.
    @ivar accepted: When it was accepted.
    @ivar line: The line of the queue that it stands in, or L{None}.
    @ivar waited: Whether it had to wait for a worker.
    @ivar pulled: When a worker pulled it, or L{None} while it waits.
    @ivar connected: When it was connected to its destination, or L{None}.
    @ivar ended: When it ended, or L{None}.
    @ivar tries: How many times a worker pulled it.
    @ivar destination: The name of the destination that serves it, or that was
        tried last, or L{None}.
    @ivar outcome: How it ended, or L{None} while it lives.
    @ivar side: The client's connection until it is relayed.
    @ivar holder: Who has it at the moment, while it lives.
    @ivar relay: What passes its bytes while it is connected.
    """

    __slots__ = (
        "_bytes",
        "accepted",
        "address",
        "connected",
        "destination",
        "ended",
        "holder",
        "line",
        "listener",
        "number",
        "outcome",
        "pulled",
        "relay",
        "side",
        "tries",
        "waited",
    )

    def __init__(
        self,
        number: int,
        address: IAddress | None,
        listener: str,
        accepted: float,
        side: Side | PlainClient,
        holder: Holder,
    ) -> None:
        self.number = number
        self.address = address
        self.listener = listener
        self.accepted = accepted
        self.line: OrderedDict[Session, None] | None = None
        self.waited = False
        self.pulled: float | None = None
        self.connected: float | None = None
        self.ended: float | None = None
        self.tries = 0
        self.destination: str | None = None
        self.outcome: Outcome | None = None
        self.side = side
        self.holder = holder
        self.relay: IRelay | None = None
        self._bytes = (0, 0)

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
        connections.
        """
        return describe(self.address)[1]

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
        Write down how it ended, and let go of its connections.
        """
        self.outcome = outcome
        self.ended = now
        self._bytes = (self.bytesIn, self.bytesOut)
        self.relay = None
        # No cycle is left for the garbage collector.
        del self.side, self.holder

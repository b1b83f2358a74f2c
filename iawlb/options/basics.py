"""
The settings that every pool, destination and listener has, whatever else it is to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated, setting
from iawlb.validators import (
    count,
    duration,
    durationOr,
    durationWithin,
    fileMode,
    flag,
    groupOf,
    name,
    oneOf,
    positiveDuration,
    size,
)

BALANCING = "Balancing"
ACCEPTING = "Accepting"
RELAYING = "Relaying and logging"
TIMEOUTS = "Timeouts; a TIME is 500ms, 30s, 5m or 1h, and 0 is off"
VANISHED = "Clients and destinations that vanish"
PROBING = "Destinations that are down"


@dataclass(frozen=True, kw_only=True)
class PoolBasics(Validated):
    """
    Of a pool, and of the whole balancer.
    """

    __slots__ = ()

    policy: str = setting(
        "least",
        oneOf("least", "fifo", "first", "source", "quick"),
        "WORD",
        BALANCING,
        "which waiting destination gets the next connection: least, the smallest "
        "active / weight, and equals in turns by weight; fifo, the longest idle; "
        "first, the first in the order given; source, the same one for the same "
        "client address or other key; quick, the one expected to answer soonest",
    )
    slots: int = setting(
        0,
        count(0, 1_000_000),
        "N",
        BALANCING,
        "connections that a destination serves at a time, unless it says its own; "
        "0 is no limit",
        key="destination-slots",
    )
    poolSlots: int = setting(
        0,
        count(0, 1_000_000),
        "N",
        BALANCING,
        "connections that all destinations together serve at a time; 0 is no limit",
        key="slots",
    )
    rest: float = setting(
        0,
        duration,
        "TIME",
        BALANCING,
        "pause of a slot between two connections",
    )
    whenDown: str = setting(
        "hold",
        oneOf("hold", "refuse"),
        "WORD",
        BALANCING,
        "while no destination is up: hold new connections in the queue, or refuse them",
    )
    queueSize: int = setting(
        10_000,
        count(1, 10_000_000),
        "N",
        ACCEPTING,
        "connections that may wait; when as many do, no more are accepted until a "
        "quarter has gone, and the kernel's backlog holds the rest",
    )
    maxConnections: int = setting(
        0,
        count(0, 10_000_000),
        "N",
        ACCEPTING,
        "connections open at a time, the waiting ones included; 0 is as many as the "
        "limit of open files allows",
        scope="global",
    )
    backlog: int = setting(
        4096,
        count(1, 65_535),
        "N",
        ACCEPTING,
        "connections that the kernel holds before they are accepted, for listeners "
        "that do not say their own; the kernel has a limit too",
        live=False,
    )
    acceptBatch: int = setting(
        1,
        count(1, 10_000),
        "N",
        ACCEPTING,
        "accepted connections handed to the queue in one step, or as many as there "
        "are free slots if these are fewer; 1 is no batching",
    )
    acceptDelay: float = setting(
        "5ms",
        positiveDuration,
        "TIME",
        ACCEPTING,
        "longest that a connection waits for its batch",
    )
    takeSlot: str = setting(
        "accept",
        oneOf("accept", "first-byte"),
        "WORD",
        ACCEPTING,
        "when a client enters the queue, and then takes a slot: when it is accepted, "
        "or when its first byte is there; not for servers that speak first",
        live=False,
    )
    abortOnClose: bool = setting(
        "no",
        flag,
        "",
        ACCEPTING,
        "a waiting client that ends its half has left, also if it has sent something; "
        "without this it may be one that asks and waits for the answer",
        scope="global",
        live=False,
    )
    relay: str = setting(
        "auto",
        oneOf("auto", "fast", "portable"),
        "WORD",
        RELAYING,
        "how bytes are passed: fast reads and writes plain sockets itself, by "
        "epoll; portable uses any Twisted transport; auto is fast where it applies",
        scope="global",
        live=False,
    )
    bufferSize: int = setting(
        "256k",
        size(1024, 16 * 1024 * 1024),
        "SIZE",
        RELAYING,
        "bytes read at a time, and bytes held for a slow reader in each direction "
        "before the other side is no longer read; portable takes at most 64k",
        scope="global",
        live=False,
    )
    strictTls: bool = setting(
        "no",
        flag,
        "",
        RELAYING,
        "a TLS connection that ends without TLS's own end (close_notify) was cut; "
        "without this it ended in order, if it did behind a complete record",
        scope="global",
        live=False,
    )
    log: str = setting(
        "all",
        oneOf("all", "errors"),
        "WORD",
        RELAYING,
        "which connections get a log line when they end: all, or those with errors, "
        "that is, not closed by both sides; changes of destinations and listeners "
        "are always logged",
        scope="global",
    )
    connectTimeout: float = setting(
        "5s",
        positiveDuration,
        "TIME",
        TIMEOUTS,
        "longest connect to a destination, its TLS handshake included; not 0",
    )
    queueTimeout: float = setting(
        "30s",
        duration,
        "TIME",
        TIMEOUTS,
        "longest wait in the queue until a destination takes the connection",
    )
    handshakeTimeout: float = setting(
        "10s",
        duration,
        "TIME",
        TIMEOUTS,
        "longest TLS handshake of a client, on TLS listeners; longest wait for its "
        "first byte, where that takes the slot; and for the answer of choose in Python",
    )
    idleTimeout: float = setting(
        "1h",
        duration,
        "TIME",
        TIMEOUTS,
        "longest time without a byte in either direction",
    )
    halfClosedTimeout: float | str = setting(
        "idle",
        durationOr("idle"),
        "TIME",
        TIMEOUTS,
        "the same once one side has ended its half, or is gone; idle is the idle "
        "time-out",
    )
    answerTimeout: float = setting(
        0,
        duration,
        "TIME",
        TIMEOUTS,
        "longest wait for a destination's first byte after a client's last",
    )
    drainTimeout: float = setting(
        "30s",
        duration,
        "TIME",
        TIMEOUTS,
        "longest wait for connections to finish when the balancer stops; 0 closes "
        "them at once",
        scope="global",
    )
    keepaliveIdle: float = setting(
        "60s",
        durationWithin(1, 32_400, "1s to 9h", off=True),
        "TIME",
        VANISHED,
        "silence after which the kernel asks a client or destination whether it is "
        "still there (TCP keepalive); 0 is never",
    )
    keepaliveInterval: float = setting(
        "15s",
        durationWithin(1, 32_400, "1s to 9h"),
        "TIME",
        VANISHED,
        "time between two such questions",
    )
    keepaliveCount: int = setting(
        4,
        count(1, 127),
        "N",
        VANISHED,
        "questions without an answer after which a connection is reset",
    )
    userTimeout: float = setting(
        0,
        duration,
        "TIME",
        VANISHED,
        "longest time that sent bytes may wait for the peer's confirmation, as "
        "TCP_USER_TIMEOUT has it; 0 is as long as the kernel allows",
    )
    backoff: float = setting(
        "100ms",
        positiveDuration,
        "TIME",
        PROBING,
        "wait before the first probe; it doubles with each that fails, with jitter",
    )
    backoffMax: float = setting(
        "5s",
        positiveDuration,
        "TIME",
        PROBING,
        "longest wait between two probes; at most 200ms while clients wait and "
        "nothing is up",
    )


@dataclass(frozen=True, kw_only=True)
class DestinationBasics(Validated):
    """
    Of a destination.
    """

    __slots__ = ()

    name: str = setting("-", name, "WORD", "", "its name in logs and in the Python API")
    slots: int = setting(
        0,
        count(0, 1_000_000),
        "N",
        "",
        "connections it serves at a time; 0 is no limit",
    )
    weight: int = setting(
        1, count(1, 1000), "N", "", "its share under least, source and quick"
    )


@dataclass(frozen=True, kw_only=True)
class ListenerBasics(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

    name: str = setting("-", name, "WORD", "", "its name in logs")
    mode: int | None = setting(
        "",
        fileMode,
        "MODE",
        "",
        "mode of a Unix socket, in octal, such as 660; without it everybody may "
        "connect",
    )
    group: int | None = setting(
        "",
        groupOf,
        "GROUP",
        "",
        "group of a Unix socket, by name or number; without it that of the process",
    )
    v6only: bool = setting(
        "no",
        flag,
        "",
        "",
        "an IPv6 listener takes no IPv4 clients, so that another may listen for these "
        "on the same port",
    )

    @property
    def ofSocket(self) -> bool:
        """
        Whether a setting is given that the listening socket needs before it listens.
        """
        return self.mode is not None or self.group is not None or self.v6only

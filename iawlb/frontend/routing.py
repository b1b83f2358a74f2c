"""
The choice of a pool by the host name and the application protocols that a TLS client
asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from iawlb.core.outcome import Outcome
from iawlb.core.routes import (
    NoRoute,
    RouteTable,
    restricts,
    routesOf,
    wrongRoutes,
)
from iawlb.core.text import printable
from iawlb.errors import InvalidSetting
from iawlb.frontend.steps import Arriving, Enterable, Step
from iawlb.relay.plain import PlainClient
from iawlb.settings import Settings
from iawlb.tlshello.alert import (
    DECODE_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    alert,
)
from iawlb.tlshello.fields import WrongHello
from iawlb.tlshello.reader import HANDSHAKE, HelloReader

SHOWN = 3
"""
The number of a client's protocols that a message shows.
"""


class RoutedPool(Enterable, Protocol):
    """
    A pool, as far as it takes clients by what they ask for.
    """

    name: str
    settings: Settings
    workers: Mapping[str, Any]

    def checkRefusing(self) -> None:
        """
        Called when destinations of a pool have come up or gone down that takes clients
        of the pool's listeners.
        """

    def renewSteps(self) -> None:
        """
        Called when the clients of the pool's listeners are routed now and were not
        before, or the other way round.
        """


class Router:
    """
    Which pools take the clients of which pool's listeners.
    """

    def __init__(self, pools: Mapping[str, Any]) -> None:
        """
        @param pools: The pools by name; they come, go and change.
        """
        self._pools: Mapping[str, RoutedPool] = pools
        # The pools at whose listeners clients are routed, and the routes of those that
        # were asked for since the last change.
        self._entries: set[str] = set()
        self._behind: dict[str, list[Any]] = {}
        self._tables: dict[str, RouteTable[str]] = {}

    def routes(self, name: str) -> bool:
        """
        Return whether the clients of a pool's listeners are routed.
        """
        return name in self._entries

    def changed(self) -> None:
        """
        Called when a pool has come, gone, or got other settings.
        """
        self._tables.clear()
        entries, self._behind = set(), {}
        for pool in self._pools.values():
            if restricts(pool.settings):
                entries.add(pool.name)
                through = pool.settings.through
                if through in self._pools:
                    entries.add(through)
                    self._behind.setdefault(through, []).append(pool)
        changed, self._entries = entries ^ self._entries, entries
        for name in changed:
            if name in self._pools:
                self._pools[name].renewSteps()
        for name in {*changed, *self._behind}:
            if name in self._pools:
                self._pools[name].checkRefusing()

    def behind(self, name: str) -> Sequence[Any]:
        """
        Return the pools that take clients of a pool's listeners.
        """
        return self._behind.get(name, ())

    def destinationChanged(self, pool: Any) -> None:
        """
        Called when a destination of a pool came, went, or changed its state.
        """
        entry = self._pools.get(pool.settings.through)
        if entry is not None:
            entry.checkRefusing()

    def check(self) -> None:
        """
        Check the settings of all pools, with each other.

        @raise InvalidSetting: A pool takes what another one takes, or nothing.
        """
        for name, why in wrongRoutes(self._settings()):
            raise InvalidSetting(f"pool {name}: {why}")

    def find(
        self, name: str, host: str | None, protocols: Sequence[str]
    ) -> RoutedPool | NoRoute:
        """
        Find the pool that takes a client.

        @param name: The name of the pool whose listener has accepted the client.
        @param host: The host name that the client asks for, if any.
        @param protocols: The protocols that it offers, or the one that was agreed upon.
        """
        table = self._tables.get(name)
        if table is None:
            # While a reload changes one pool after the other, two may take the same.
            table = RouteTable(routesOf(name, self._settings()), strict=False)
            self._tables[name] = table
        found = table.find(host, protocols)
        if isinstance(found, NoRoute):
            return found
        pool = self._pools[found]
        if not pool.workers and not restricts(pool.settings):
            # A pool that only has listeners.
            return NoRoute.NAME
        return pool

    def _settings(self) -> dict[str, Settings]:
        return {name: each.settings for name, each in self._pools.items()}


class RouteStep(Step):
    """
    Finds the pool that takes a client. If the balancer does not end TLS, it looks at
    the client's ClientHello, which is passed on to the destination as it is.
    """

    late = Outcome.HANDSHAKE_TIMEOUT
    gone = Outcome.CLIENT_LEFT_HANDSHAKE

    def __init__(self, timeout: float, router: Router, name: str) -> None:
        """
        @param timeout: How long the ClientHello may take, in seconds; 0 is no limit.
        @param name: The name of the pool whose listener has accepted the clients.
        """
        super().__init__(timeout)
        self._router = router
        self._name = name

    def begin(self, arrival: Arriving) -> None:
        """
        Find the pool, if what the client asks for is known, or read its ClientHello.
        """
        session = arrival.session
        side: Any = session.side
        info = session.info
        if info is not None and info.tls is not None:
            chosen = info.protocol
            offered = info.protocols if chosen is None else (chosen,)
            self._route(arrival, info.serverName, offered)
        elif not isinstance(side, PlainClient) and side.secure:
            self._route(arrival, *_asked(side.transport))
        else:
            self._look(arrival, HelloReader())

    def _look(self, arrival: Arriving, reader: HelloReader) -> None:
        """
        Look at the bytes that have come.
        """
        head = arrival.head
        data = head.peek()
        try:
            hello = reader.read(data)
        except WrongHello as error:
            if data[0] == HANDSHAKE:
                _say(arrival, DECODE_ERROR)
            arrival.refuse(Outcome.WRONG_HELLO, str(error))
            return
        if hello is not None:
            info = arrival.session.learn()
            info.serverName, info.protocols = hello.serverName, hello.protocols
            self._route(arrival, hello.serverName, hello.protocols, True)
        elif head.ended:
            arrival.left()
        else:
            head.wait(partial(self._look, arrival, reader))

    def _route(
        self,
        arrival: Arriving,
        host: str | None,
        protocols: Sequence[str],
        answer: bool = False,
    ) -> None:
        """
        Let a client enter the queue of the pool that takes it.

        @param answer: Whether a client that no pool takes gets an alert.
        """
        name = None if host is None else host.lower().removesuffix(".")
        found = self._router.find(self._name, name, protocols)
        if not isinstance(found, NoRoute):
            arrival.moveTo(found)
            arrival.proceed()
            return
        if answer:
            _say(
                arrival,
                UNRECOGNIZED_NAME if found is NoRoute.NAME else NO_APPLICATION_PROTOCOL,
            )
        arrival.refuse(Outcome.NO_ROUTE, _missing(found, host, protocols))


def _missing(missed: NoRoute, host: str | None, protocols: Sequence[str]) -> str:
    """
    Say in words what no pool takes.
    """
    what = "clients that ask for no name" if host is None else printable(host)
    if missed is NoRoute.NAME:
        return f"no pool takes {what}"
    offered = ", ".join(printable(each) for each in protocols[:SHOWN]) or "none"
    return f"no pool takes {what} with any of its protocols ({offered})"


def _asked(transport: Any) -> tuple[str | None, Sequence[str]]:
    """
    Return the name and the protocol of a connection whose TLS another endpoint ends.
    """
    name = transport.getHandle().get_servername()
    protocol = transport.negotiatedProtocol
    return (
        None if name is None else name.decode("ascii", "backslashreplace"),
        () if protocol is None else (protocol.decode("latin-1"),),
    )


def _say(arrival: Arriving, description: int) -> None:
    """
    Send a client an alert, before its connection is closed.
    """
    data = alert(description)
    side: Any = arrival.session.side
    if not isinstance(side, PlainClient):
        side.write(data)
        return
    # Bytes that were not read would turn the end into a reset, which drops the alert.
    arrival.head.skip(len(arrival.head.peek()))
    with suppress(OSError):
        side.handle.send(data)

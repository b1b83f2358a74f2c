"""
The choice of a pool by the host name and the application protocols that a TLS client
asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Protocol

from iawlb.core.outcome import Outcome
from iawlb.core.routes import (
    NoRoute,
    Route,
    RouteTable,
    restricts,
    wrongRoutes,
)
from iawlb.core.text import printable
from iawlb.errors import InvalidSetting
from iawlb.frontend.hellostep import HelloStep
from iawlb.frontend.steps import Arriving, Enterable
from iawlb.relay.plain import PlainClient
from iawlb.settings import Settings
from iawlb.tlshello.alert import (
    DECODE_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    alert,
)
from iawlb.tlshello.fields import WrongHello
from iawlb.tlshello.reader import HANDSHAKE

SHOWN = 3
"""
The number of a client's protocols that a message shows.
"""


NOTHING: Mapping[str, Settings] = MappingProxyType({})


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


class Routes:
    """
    The routes of the clients of one pool's listeners, as they are at a moment.

    @ivar routes: The routes, that of the pool itself first.
    """

    def __init__(self, routes: Sequence[Route[Any]]) -> None:
        self.routes = routes
        self._table: RouteTable[RoutedPool] | None = None

    def find(self, host: str | None, protocols: Sequence[str]) -> RoutedPool | NoRoute:
        """
        Find the pool that takes a client.

        @param host: The host name that the client asks for, if any.
        @param protocols: The protocols that it offers, or the one that was agreed upon.
        """
        if self._table is None:
            # While a reload changes one pool after the other, two may take the same.
            self._table = RouteTable(self.routes, strict=False)
        found = self._table.find(host, protocols)
        own = self.routes[0]
        if found is own.target and not (own.names or own.protocols or found.workers):
            # A pool that only has listeners.
            return NoRoute.NAME
        return found


class Router:
    """
    Which pools take the clients of which pool's listeners.
    """

    def __init__(self, pools: Mapping[str, Any]) -> None:
        """
        @param pools: The pools by name; they come, go and change.
        """
        self._pools: Mapping[str, RoutedPool] = pools
        self._routes: dict[str, Routes] = {}
        self._behind: dict[str, list[Any]] = {}

    def changed(self) -> None:
        """
        Called when a pool has come, gone, or got other settings.
        """
        before, self._routes = self._routes, {}
        behind: dict[str, list[Any]] = {}
        entries = []
        for pool in self._pools.values():
            if restricts(pool.settings):
                entries.append(pool.name)
                behind.setdefault(pool.settings.through, []).append(pool)
        self._behind = behind
        for name in dict.fromkeys((*entries, *behind)):
            if name in self._pools:
                pools = (self._pools[name], *behind.get(name, ()))
                routes = [_routeOf(each) for each in pools]
                known = before.get(name)
                if known is None or known.routes != routes:
                    known = Routes(routes)
                self._routes[name] = known
        for name in {*before, *self._routes}:
            if name in self._pools and before.get(name) is not self._routes.get(name):
                self._pools[name].renewSteps()
                self._pools[name].checkRefusing()

    def routes(self, name: str) -> Routes | None:
        """
        Return the routes of the clients of a pool's listeners as they are now; L{None},
        if they are not routed.
        """
        return self._routes.get(name)

    def behind(self, name: str) -> Sequence[Any]:
        """
        Return the pools that take clients of a pool's listeners.
        """
        return self._behind.get(name, ())

    def current(self, pool: RoutedPool) -> RoutedPool | None:
        """
        Return what has become of a pool since a client was accepted.

        @return: The pool of that name; or the pool, if it was removed and finishes its
            sessions; or L{None}.
        """
        now = self._pools.get(pool.name)
        return pool if now is None and pool.count.live else now

    def destinationChanged(self, pool: Any) -> None:
        """
        Called when a destination of a pool came, went, or changed its state.
        """
        entry = self._pools.get(pool.settings.through)
        if entry is not None:
            entry.checkRefusing()

    def check(self, changed: Mapping[str, Settings] = NOTHING) -> None:
        """
        Check the settings of all pools, with each other.

        @param changed: What some pools would have instead, by their names.
        @raise InvalidSetting: A pool takes what another one takes, or nothing.
        """
        settings = {name: each.settings for name, each in self._pools.items()}
        for name, why in wrongRoutes({**settings, **changed}):
            raise InvalidSetting(f"pool {name}: {why}")


def _routeOf(pool: RoutedPool) -> Route[RoutedPool]:
    return Route(pool, pool.settings.serverNames, pool.settings.protocols)


class RouteStep(HelloStep):
    """
    Finds the pool that takes a client.
    """

    def __init__(self, timeout: float, router: Router, routes: Routes) -> None:
        """
        @param timeout: How long the ClientHello may take, in seconds; 0 is no limit.
        @param routes: Those of the clients that come from now on.
        """
        super().__init__(timeout)
        self._router = router
        self._routes = routes

    def wrong(self, arrival: Arriving, data: bytes, error: WrongHello) -> None:
        """
        Refuse the client; with an alert, if it speaks TLS.
        """
        if data[0] == HANDSHAKE:
            _say(arrival, DECODE_ERROR)
        arrival.refuse(Outcome.WRONG_HELLO, str(error))

    def asked(
        self,
        arrival: Arriving,
        host: str | None,
        protocols: Sequence[str],
        passed: bool = False,
    ) -> None:
        """
        Let a client enter the queue of the pool that takes it. If no pool does, and its
        handshake has not been answered yet, it gets an alert.
        """
        name = None if host is None else host.lower().removesuffix(".")
        found = self._routes.find(name, protocols)
        if not isinstance(found, NoRoute):
            pool = self._router.current(found)
            if pool is not None:
                arrival.moveTo(pool)
                arrival.proceed()
                return
            found = NoRoute.NAME
        if passed:
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

"""
Which pool takes a client, by the host name and the application protocols that the
client asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from iawlb.settings import Settings

T = TypeVar("T")

ROUTED = frozenset(("through", "serverNames", "protocols"))
"""
The settings of a pool that routes are made of.
"""


class NoRoute(Enum):
    """
    Why no target takes a client.
    """

    NAME = "name"
    """
    No target takes the name.
    """

    PROTOCOL = "protocol"
    """
    A target takes the name, but none of the protocols.
    """


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """
    What one target takes.

    @ivar names: Host names, of which each may begin with C{*.}; with none, it takes
        clients of any name, and those that ask for none.
    @ivar protocols: Application protocols; with none, it takes clients of any, and
        those that offer none.
    """

    target: T
    names: Sequence[str] = ()
    protocols: Sequence[str] = ()


class RouteTable(Generic[T]):
    """
    The routes of one listener. A client goes by the most specific name that fits: its
    own, then the longest one with C{*.}, then routes without names. Of the routes with
    that name, one with a protocol of the client's comes first, in the client's order;
    then one without protocols. If there is none, the next name is looked at.
    """

    def __init__(self, routes: Iterable[Route[T]], strict: bool = True) -> None:
        """
        @param strict: If not, the first of two routes that take the same is used.
        @raise ValueError: Two routes take the same; the message says what, and
            C{args[1]} is the two targets.
        """
        # By name: the targets by their protocols, and None for all protocols. An empty
        # name is for all names.
        self._names: dict[str, dict[str | None, T]] = {}
        for route in routes:
            for name in route.names or ("",):
                targets = self._names.setdefault(name, {})
                for protocol in route.protocols or (None,):
                    former = targets.setdefault(protocol, route.target)
                    if strict and former is not route.target:
                        both = (former, route.target)
                        raise ValueError(_taken(name, protocol), both)

    def find(self, name: str | None, protocols: Sequence[str]) -> T | NoRoute:
        """
        Find the target that takes a client.

        @param name: The host name that the client asks for, if any.
        @param protocols: The protocols that it offers, the best first.
        """
        missed = NoRoute.NAME
        for each in _patterns(name):
            targets = self._names.get(each)
            if targets is None:
                continue
            if each or len(self._names) == 1:
                missed = NoRoute.PROTOCOL
            for protocol in (*protocols, None):
                if protocol in targets:
                    return targets[protocol]
        return missed


def _patterns(name: str | None) -> Iterable[str]:
    """
    List the names in routes that a client's name fits, the most specific one first.
    """
    if name is not None:
        yield name
        rest = name
        while "." in rest:
            rest = rest.partition(".")[2]
            yield f"*.{rest}"
    yield ""


def _taken(name: str, protocol: str | None) -> str:
    """
    Say in words what two routes take.
    """
    what = name or "clients of any name"
    return what if protocol is None else f"{what} with the protocol {protocol}"


def restricts(settings: Settings) -> bool:
    """
    Return whether a pool takes only some clients.
    """
    return bool(settings.serverNames or settings.protocols)


def routesOf(entry: str, pools: Mapping[str, Settings]) -> Iterator[Route[str]]:
    """
    List the routes of the clients of a pool's listeners. The targets are names of
    pools.

    @param entry: The name of the pool.
    @param pools: The settings of all pools, by their names.
    """
    for name, settings in pools.items():
        if name == entry or (settings.through == entry and restricts(settings)):
            yield Route(name, settings.serverNames, settings.protocols)


def wrongRoutes(pools: Mapping[str, Settings]) -> Iterator[tuple[str, str]]:
    """
    Check the settings of all pools about routes.

    @param pools: The settings of the pools, by their names.
    @return: The name of each pool for which something is wrong, and what that is.
    """
    for name, settings in pools.items():
        through = settings.through
        if through == name:
            yield name, "through: names this pool itself, and not one with listeners"
        elif through and through not in pools:
            yield name, f"through: there is no pool {through!r}"
        elif through and not restricts(settings):
            yield (
                name,
                (
                    f"through: which clients of pool {through!r} come here? give "
                    "server-names or protocols"
                ),
            )
    for name in pools:
        try:
            RouteTable(routesOf(name, pools))
        except ValueError as error:
            what, (one, other) = error.args
            yield other, f"pool {one!r} takes {what} too"

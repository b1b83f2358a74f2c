"""
The listeners that a reload opens, changes and closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from iawlb.backend.address import placeOf
from iawlb.backend.places import Place, clash
from iawlb.balancer import Balancer
from iawlb.config.model import Configuration, ListenerConfig
from iawlb.control.build import valuesOf
from iawlb.control.plan import ADD, REMOVE, Change, listenersOf, numbered
from iawlb.errors import CannotListen
from iawlb.frontend.listener import Listener
from iawlb.pool import Pool
from iawlb.settings import ListenerSettings

WAIT = 10.0
"""
The longest wait until a listener is open whose endpoint does not listen at once.
"""

Key = tuple[str, str]
"""
A listener: the name of its pool, and its key in L{listenersOf}.
"""


class NewListeners:
    """
    The listeners of one plan. All new ones are opened first, but accept nothing yet.
    A listener that another one takes the place of, as when an address moves to another
    pool, hands its socket over, so that no client is refused.
    """

    log = Logger()

    def __init__(
        self, balancer: Balancer, after: Configuration, changes: Iterable[Change]
    ) -> None:
        self._balancer = balancer
        self._after = after
        self._changes = [
            each
            for each in changes
            if each.pool is not None
            and (len(each.where) == 2 or each.where[2] == "listeners")
        ]
        # The listeners that will be closed, but for those that hand their socket over.
        self._leaving: dict[Key, Listener] = {}
        # Those of them that have stopped to listen, since others overlap with them.
        self._gaveWay: list[Listener] = []
        # The new listeners, each with the one whose socket it takes over.
        self._opened: dict[Key, tuple[Pool, Listener, tuple[Pool, Listener] | None]]
        self._opened = {}

    def _wanted(self) -> dict[Key, ListenerConfig]:
        """
        Return the listeners to open: new ones, and those of which a setting changes.
        """
        found = {}
        for change in self._changes:
            if change.action == REMOVE:
                continue
            name = change.where[1]
            all_ = listenersOf(self._after.pools[name])
            keys = all_ if len(change.where) == 2 else [change.where[3]]
            found.update({(name, key): all_[key] for key in keys})
        return found

    def _closing(self) -> Iterator[tuple[Key, Listener]]:
        """
        Iterate over the listeners to close: those that are removed, and those of which
        a setting changes.
        """
        for change in self._changes:
            name = change.where[1]
            if change.action == ADD or name not in self._balancer.pools:
                continue
            pool = self._balancer.pools[name]
            now = numbered((each.text, each) for each in pool.listeners)
            for key, listener in now.items():
                if len(change.where) == 2 or change.where[3] == key:
                    yield (name, key), listener

    async def open(self) -> None:
        """
        Open the new listeners.

        @raise CannotListen: One cannot be opened. Call L{abandon}.
        @raise InvalidSetting: One of the addresses is wrong.
        """
        self._leaving = dict(self._closing())
        late = []
        for key, config in self._wanted().items():
            try:
                await self._open(key, config)
            except CannotListen:
                if not self._inTheWay(config):
                    raise
                late.append((key, config))
        for key, config in late:
            for old in self._inTheWay(config):
                if old not in self._gaveWay:
                    self._gaveWay.append(old)
                    old.giveWay()
            # It listens before the reactor has its next turn.
            await self._open(key, config)

    async def _open(self, key: Key, config: ListenerConfig) -> None:
        """
        Open a listener, with the socket of one that will be closed if that listens at
        the same place.

        @raise CannotListen: It cannot be opened.
        """
        pool = self._balancer.pools[key[0]]
        old = self._inPlace(key, config)
        instead = None
        if old is not None:
            instead = self._balancer.pools[old[0]], self._leaving.pop(old)
        listener = pool.entrance.make(
            config.address,
            valuesOf(config.settings),
            None if instead is None else instead[1],
        )
        self._opened[key] = pool, listener, instead
        opening = Deferred.fromCoroutine(pool.listeners.prepare(listener))
        await opening.addTimeout(WAIT, self._balancer.clock)

    def _inPlace(self, key: Key, config: ListenerConfig) -> Key | None:
        """
        Find the listener whose socket a new one takes over.
        """
        place = _placeOf(config.address, config.settings)
        for each, old in self._leaving.items():
            known = place is not None and bool(place.port or place.path)
            same = known and place == _placeOf(old.text, old.settings)
            if old.shareable is None or old.settings.v6only != config.settings.v6only:
                continue
            if same or each == key or config.address == old.text:
                return each
        return None

    def _inTheWay(self, config: ListenerConfig) -> list[Listener]:
        """
        List the listeners that will be closed, and whose addresses overlap with that of
        a new one: as long as they listen, the new one cannot.
        """
        place = _placeOf(config.address, config.settings)
        found = []
        for old in self._leaving.values():
            there = _placeOf(old.text, old.settings)
            if place and there and old.shareable and clash(place, there):
                found.append(old)
        return found

    def abandon(self) -> None:
        """
        Close the new listeners, of which no client knows yet, and let those listen
        again that have given way.
        """
        opened, self._opened = self._opened, {}
        gaveWay, self._gaveWay = self._gaveWay, []

        def comeBack(_: object) -> None:
            for each in gaveWay:
                each.comeBack()

        closing = [listener.close() for _, listener, _ in opened.values()]
        DeferredList(closing, consumeErrors=True).addCallback(comeBack)

    def take(self, done: list[Change]) -> None:
        """
        Let clients in by the new listeners, and close those that are removed.

        @param done: Gets each change when it is made.
        """
        changes: dict[Key, list[Change]] = {}
        for each in self._changes:
            if len(each.where) > 2:
                changes.setdefault((each.where[1], each.where[3]), []).append(each)
        opened, self._opened = self._opened, {}
        for key, (pool, listener, instead) in opened.items():
            if instead is None:
                pool.entrance.admit(listener)
            else:
                pool.entrance.admit(listener, instead[1])
                instead[0].entrance.forget(instead[1])
            done += changes.pop(key, [])
        for key, listener in self._leaving.items():
            closing = self._balancer.pools[key[0]].unlisten(listener)
            closing.addErrback(partial(self.log.failure, "closing a listener failed"))
            done += changes.pop(key, [])
        # Listeners that have handed their socket over.
        for those in changes.values():
            done += those


def _placeOf(address: str, settings: ListenerSettings) -> Place | None:
    """
    Return the place at which a listener listens, as far as its address says.
    """
    place = placeOf(address, listening=True)
    if place is None or not settings.v6only:
        return place
    return replace(place, v6only=True)

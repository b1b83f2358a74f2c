"""
The listeners that a reload opens, changes and closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from iawlb.backend.address import placeOf
from iawlb.backend.places import Place
from iawlb.balancer import Balancer
from iawlb.config.model import Configuration, ListenerConfig
from iawlb.control.build import valuesOf
from iawlb.control.plan import ADD, REMOVE, Change, listenersOf, numbered
from iawlb.errors import CannotListen
from iawlb.frontend.listener import Listener
from iawlb.pool import Pool

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
        for key, config in self._wanted().items():
            await self._open(self._balancer.pools[key[0]], key, config)

    async def _open(self, pool: Pool, key: Key, config: ListenerConfig) -> None:
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
        opening.addTimeout(WAIT, self._balancer.clock)
        try:
            await opening
        except CannotListen as error:
            raise CannotListen(f"{error}{self._overlap(config)}") from error

    def _inPlace(self, key: Key, config: ListenerConfig) -> Key | None:
        """
        Find the listener whose socket a new one takes over.
        """
        able = {
            each: old
            for each, old in self._leaving.items()
            if old.shareable is not None
        }
        if key in able:
            return key
        place = placeOf(config.address, listening=True)
        for each, old in able.items():
            same = place and (place.port or place.path) and place == _placeOf(old)
            alike = config.settings.v6only == old.settings.v6only
            if (same or config.address == old.text) and alike:
                return each
        return None

    def _overlap(self, config: ListenerConfig) -> str:
        """
        Return a hint, if an address cannot be listened on because a listener that will
        be closed has the same port.
        """
        place = placeOf(config.address, listening=True)
        for old in self._leaving.values():
            there = _placeOf(old)
            if place and there and place.port == there.port:
                return (
                    f"; {old.text} overlaps with it, and closes only when all new "
                    "listeners are open: remove it by a reload of its own"
                )
        return ""

    def abandon(self) -> None:
        """
        Close the new listeners, of which no client knows yet.
        """
        opened, self._opened = self._opened, {}
        for _, listener, _ in opened.values():
            listener.close()

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


def _placeOf(listener: Listener) -> Place | None:
    return placeOf(listener.text, listening=True)

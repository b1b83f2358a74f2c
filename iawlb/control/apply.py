"""
Make the changes of a plan to a balancer that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from iawlb.backend.address import sameDestination
from iawlb.balancer import Balancer
from iawlb.config.keys import DESTINATION
from iawlb.config.model import Configuration
from iawlb.control.answers import sessions
from iawlb.control.build import scopeOf, valuesOf
from iawlb.control.errors import Conflict
from iawlb.control.newlisteners import NewListeners
from iawlb.control.plan import ADD, REMOVE, Change, fieldOf, isLive
from iawlb.errors import InvalidSetting
from iawlb.pool import Pool
from iawlb.settings import DestinationSettings

STEPS_PER_TURN = 10
"""
The number of destinations that are added or changed before the reactor has its turn:
with a thousand destinations, a step takes a millisecond.
"""


class Application:
    """
    The changes of one plan, made to a running balancer in two parts. L{prepare} does
    all that may fail, and no client notices: it checks addresses, makes the new pools
    and opens the new listeners. L{commit} makes the changes.

    @ivar done: The changes that were made.
    @ivar messages: What a user should know about them.
    """

    log = Logger()

    def __init__(
        self,
        balancer: Balancer,
        after: Configuration,
        changes: Iterable[Change],
    ) -> None:
        """
        @param after: The configuration that the balancer is to have.
        @param changes: The changes that lead to it.
        """
        self.done: list[Change] = []
        self.messages: list[str] = []
        # The number of destinations that were added or changed.
        self._steps = 0
        self._balancer = balancer
        self._after = after
        self._changes = [each for each in changes if isLive(each)]
        self._listeners = NewListeners(balancer, after, self._changes)
        # What undoes the steps so far; the last is undone first.
        self._undo: list[Callable[[], object]] = []

    def _of(self, action: str | None, depth: int, kind: str = "") -> Iterator[Change]:
        """
        Iterate over the changes of pools that are of one kind.

        @param action: The action, or L{None} for any.
        @param depth: The number of words of their places: 2 for pools, 3 for settings
            of pools, 4 for destinations, 5 for what belongs to one.
        @param kind: C{destinations}, or empty for any.
        """
        for each in self._changes:
            if each.pool is not None and len(each.where) == depth:
                if action in (None, each.action) and (
                    not kind or each.where[2] == kind
                ):
                    yield each

    # What may fail.

    async def prepare(self) -> None:
        """
        Do all that may fail.

        @raise IawlbError: Something is wrong. Call L{rollBack}.
        """
        for change in self._of(ADD, 2):
            await self._addPool(change)
        self._undo.append(self._listeners.abandon)
        await self._listeners.open()

    async def _addPool(self, change: Change) -> None:
        """
        Add a pool with its destinations. It serves nobody yet, having no listener.
        """
        name, config = change.where[1], change.after
        pool = self._balancer.addPool(name, **scopeOf(config.settings, "pool"))
        self._undo.append(lambda: self._balancer.removePool(name))
        for each in config.destinations.values():
            pool.add(each.address, valuesOf(each.settings))
            await self._breathe()
        self.done.append(change)

    async def _breathe(self) -> None:
        """
        Let the reactor have its turn from time to time, since there may be a thousand
        destinations.
        """
        self._steps += 1
        if self._steps % STEPS_PER_TURN == 0:
            await deferLater(self._balancer.clock, 0)
            if self._balancer.stopping or not self._balancer.running:
                raise Conflict("the balancer is stopping, and reloads no more")

    # What is then done.

    async def commit(self) -> None:
        """
        Make the changes. If a step raises what it should not, C{done} has the changes
        that were made, and L{rollBack} undoes them as far as it can.
        """
        for change in self._changes:
            if change.where[0] == "global":
                self._setGlobal(change)
        self._setPools()
        await self._setDestinations()
        for change in self._of(None, 3, "destinations"):
            pool = self._balancer.pools[change.where[1]]
            pool.arrange(change.after)
            self.done.append(change)
        # From here on nothing is undone, as clients come in by the new listeners.
        self._undo = []
        self._listeners.take(self.done)
        for change in self._of(REMOVE, 4, "destinations"):
            self._removeDestination(change)
        for change in self._of(REMOVE, 2):
            self._removePool(change)

    def _setGlobal(self, change: Change) -> None:
        """
        Change a setting of the whole balancer.
        """
        name = fieldOf(change).name
        configure: Any = self._balancer.configure
        configure(**{name: change.after})
        self._undo.append(partial(configure, **{name: change.before}))
        self.done.append(change)

    def _setPools(self) -> None:
        """
        Change settings of pools. Those that were changed while the balancer ran, and
        not in the file, stay.
        """
        changes: dict[str, list[Change]] = {}
        for each in self._of(None, 3):
            if each.where[2] != "destinations":
                changes.setdefault(each.where[1], []).append(each)
        for name, those in changes.items():
            pool = self._balancer.pools[name]
            before = replace(pool.settings)
            new: Any = {fieldOf(each).name: each.after for each in those}
            self._undo.append(partial(pool.configure, before))
            pool.configure(replace(before, **new))
            self.done += those

    async def _setDestinations(self) -> None:
        """
        Add destinations, and change some.
        """
        changes: dict[tuple[str, str], list[Change]] = {}
        added = self._of(ADD, 4, "destinations")
        for each in (*added, *self._of(None, 5, "destinations")):
            changes.setdefault((each.where[1], each.where[3]), []).append(each)
        for (pool, name), those in changes.items():
            try:
                self._setDestination(self._balancer.pools[pool], name, those)
            except InvalidSetting as error:
                raise InvalidSetting(f"{those[0].path}: {error}") from error
            self.done += those
            await self._breathe()

    def _setDestination(self, pool: Pool, name: str, changes: list[Change]) -> None:
        """
        Add or change a destination. A value that changed in the file holds, also if it
        was changed while the balancer ran; the other values stay as they are.
        """
        config = self._after.pools[pool.name].destinations[name]
        keys = {each.where[4] for each in changes if len(each.where) > 4}
        worker = pool.workers.get(name)
        if worker is None:
            pool.add(config.address, valuesOf(config.settings))
            self._undo.append(lambda: pool.remove(name))
            if keys:
                self.messages.append(
                    f"{changes[0].path}: it had been removed, and is added again"
                )
            return
        now = worker.destination
        own = valuesOf(config.settings)
        if keys:
            own |= {
                of.name: getattr(now.settings, of.name)
                for key, of in DESTINATION.items()
                if key not in keys
            }
        moves = not keys or "address" in keys
        address = config.address if moves else now.address
        before = valuesOf(now.settings)
        old, removing = now.address, now.removing
        held = "paused" if now.paused else "drained" if now.draining else None

        def putBack() -> None:
            _put(pool, old, before, removing)
            if now.pause is not None:
                pool.setPaused(name, True, now.pause.by, now.pause.until)
                pool.workers[name].destination.pause = now.pause
            elif held and not removing:
                pool.drain(name)

        self._undo.append(putBack)
        _put(pool, address, own, False)
        if pool.workers[name] is not worker:
            self._saySessions(changes[0].path, "the old one", now.active)
            if held:
                self.messages.append(
                    f"{changes[0].path}: the old one was {held}; the new one is up"
                )

    def _removeDestination(self, change: Change) -> None:
        """
        Let a destination take no more sessions. It is gone when the last has ended.
        """
        pool = self._balancer.pools[change.where[1]]
        worker = pool.workers.get(change.where[3])
        if worker is not None:  # else it was removed while the balancer ran
            active = worker.destination.active
            pool.remove(change.where[3]).addErrback(
                partial(self.log.failure, "removing failed")
            )
            self._saySessions(change.path, "it", active)
        self.done.append(change)

    def _removePool(self, change: Change) -> None:
        """
        Remove a pool. It is gone when the last of its sessions has ended.
        """
        pool = self._balancer.pools[change.where[1]]
        self._balancer.removePool(pool.name).addErrback(
            partial(self.log.failure, "removing failed")
        )
        self._saySessions(change.path, "it", pool.count.live)
        self.done.append(change)

    def _saySessions(self, path: str, what: str, number: int) -> None:
        if number:
            self.messages.append(f"{path}: {what} finishes {sessions(number)}")

    def rollBack(self) -> list[str]:
        """
        Undo what was done, as far as that is possible.

        @return: What could not be undone, a line for each. C{done} then has what still
            holds.
        """
        lines = []
        undo, self._undo = self._undo, []
        for each in reversed(undo):
            try:
                each()
            except Exception as error:
                self.log.failure("undoing a step of a reload failed")
                lines.append(f"undoing a step failed: {error!r}")
        if undo and not lines:
            self.done = []
        return lines


def _put(pool: Pool, address: str, own: dict[str, Any], removing: bool) -> None:
    """
    Give a destination that a pool has an address and settings. If the address is
    another one, a new destination takes its place, and the old one finishes its
    sessions.
    """
    name = own["name"]
    destination = pool.workers[name].destination
    if not sameDestination(destination.address, address):
        pool.replace(name, address, own)
    else:
        if destination.removing:
            pool.keep(name)
        pool.configureDestination(name, DestinationSettings(**own))
    if removing:
        pool.remove(name)

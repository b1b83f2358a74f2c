"""
The part of a pool that holds clients or turns them away: pauses, stops, and the slots
of the pool as a whole.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace

from twisted.internet.interfaces import IDelayedCall

from iawlb.arguments import Duration, shown
from iawlb.core.condition import SERVING, freeSlotsOf
from iawlb.core.events import (
    DESTINATION_PAUSED,
    DESTINATION_RESUMED,
    POOL_CHANGED,
    POOL_DRAINED,
    POOL_PAUSED,
    POOL_RESUMED,
    POOL_STOPPED,
)
from iawlb.core.gate import Gate
from iawlb.core.pause import Pause
from iawlb.core.policy import Policy
from iawlb.core.text import printable
from iawlb.errors import InvalidSetting
from iawlb.frontend.admission import Admission
from iawlb.roster import Roster
from iawlb.settings import Settings
from iawlb.shared import Shared
from iawlb.validators import duration
from iawlb.workers.worker import Worker

NOBODY = ""
"""
The name of whoever asks, where none is given.
"""

ITS_END = "the end of its time"
"""
The same for pauses that end by themselves.
"""

LONGEST_NAME = 100
"""
The number of characters that are kept of the name of whoever asks.
"""


class PausablePool(Roster):
    """
    The base of L{Pool<iawlb.pool.Pool>}: holds clients or turns them away.

    @ivar gate: Holds the sessions in the queue.
    @ivar stopped: Whether the pool refuses clients because the user has asked for that.
    """

    admission: Admission

    def __init__(
        self, shared: Shared, name: str, settings: Settings, policy: Policy | None
    ) -> None:
        super().__init__(shared, name, settings, policy)
        self.stopped = False
        self._stopping = False
        # The ends of the destinations' pauses.
        self._ends: dict[Worker, IDelayedCall] = {}
        self.gate = Gate(
            self.clock, self.queue, self._active, self._pauseOver, self._drained
        )

    @property
    def active(self) -> int:
        """
        The number of sessions that hold a slot.
        """
        return self._active()

    # Whole pools.

    def _active(self) -> int:
        return sum(each.active for each in self.destinations)

    def _freeSlots(self) -> int | None:
        """
        Count the free slots of all destinations, as far as the pool has free slots;
        L{None} if there is no limit.
        """
        free = freeSlotsOf(self._available())
        if not self.slots:
            return free
        own = max(0, self.slots - self.active)
        return own if free is None else min(free, own)

    @property
    def slots(self) -> int:
        """
        The number of sessions that the pool may serve at a time; 0 is no limit.
        """
        return self.gate.slots

    @property
    def state(self) -> str:
        """
        One word: C{closing}, C{stopped}, C{paused}, C{down} or C{up}.
        """
        if self._stopping:
            return "closing"
        if self.stopped:
            return "stopped"
        if self.gate.paused is not None:
            return "paused"
        pools = [self, *self.router.behind(self.name)] if self.passes else [self]
        found = (each for pool in pools for each in pool.destinations)
        return "up" if any(each.state in SERVING for each in found) else "down"

    @property
    def passes(self) -> bool:
        """
        Whether the pool has no destination, and only listeners for other pools.
        """
        return not self.workers and bool(self.router.behind(self.name))

    @property
    def serves(self) -> bool:
        """
        Whether a destination serves clients, or would at once.
        """
        return any(each.serves for each in self.destinations)

    def pause(
        self,
        by: str = NOBODY,
        maxPause: Duration | None = None,
        until: float | None = None,
    ) -> None:
        """
        Hold the clients: those that come wait, in order, and those that wait go on
        waiting. The sessions that are served finish.

        If the pool is paused already, it stays so, as is asked for now.

        @param by: The name of the person or program that asks.
        @param maxPause: The longest time that one client waits in the pause, in
            seconds, after which it is closed; 0 is no limit. By default it is the
            queue time-out.
        @param until: When the pause ends by itself, in the seconds of C{clock}.
        @raise InvalidSetting: An argument is wrong.
        """
        longest = None if maxPause is None else _seconds("maxPause", maxPause)
        self.gate.pause(_shortened(by), longest, _time(until))
        self.events.pool(self.name, POOL_PAUSED, _shortened(by))
        # While clients are held they are not refused.
        self.checkRefusing()
        self.deadlines.queued()
        self.gate.check()

    def resume(self, spread: Duration = 0.0, by: str = NOBODY) -> None:
        """
        Undo L{pause} and L{refuse}. The clients that wait are served in order, and have
        their whole queue time-out from now on.

        @param spread: The time over which the clients that wait now are served, in
            seconds.
        @raise InvalidSetting: C{spread} is wrong.
        """
        seconds = _seconds("spread", spread)
        before = self.stopped, self.gate.paused
        if self.stopped:
            self._refuse(False)
        self.gate.resume(seconds)
        if before != (False, None):
            self.events.pool(self.name, POOL_RESUMED, _shortened(by))
        self.checkRefusing()
        self.deadlines.queued()
        self.alarm.check()

    def refuse(self, refusing: bool = True, by: str = NOBODY) -> None:
        """
        Refuse clients from now on, or accept them again. The listeners keep their
        addresses. The clients that wait or are served finish.
        """
        if self.stopped == refusing:
            return
        self._refuse(refusing)
        event = POOL_STOPPED if refusing else POOL_RESUMED
        self.events.pool(self.name, event, _shortened(by))

    def _refuse(self, refusing: bool) -> None:
        self.stopped = refusing
        # Clients that the kernel holds come in before they are turned away.
        self.checkRefusing()
        self.admission.stopped = refusing
        self.checkRoom()

    @abstractmethod
    def checkRoom(self) -> None:
        """
        Accept again, if there was no room and now there may be some.
        """

    def setPoolSlots(self, slots: int) -> None:
        """
        Set the number of sessions that the pool may serve at a time; 0 is no limit. The
        sessions that are served now go on.

        @raise InvalidSetting: The number is wrong.
        """
        self.settings.take(replace(self.settings, poolSlots=slots))
        self.gate.setSlots(self.settings.poolSlots)
        self.alarm.check()
        self.events.pool(self.name, POOL_CHANGED, NOBODY)

    def checkRefusing(self) -> None:
        """
        Refuse clients, or listen again: while nothing is up here, nor in a pool that
        takes clients of this one's listeners.
        """
        if self._stopping:
            return
        refusing = self.stopped
        if self.settings.whenDown == "refuse" and self.gate.paused is None:
            behind = self.router.behind(self.name)
            refusing = refusing or not any(each.serves for each in (self, *behind))
        if self.listeners.refusing != refusing:
            self.listeners.setRefusing(refusing)

    # Destinations.

    def setPaused(
        self,
        name: str | None,
        paused: bool,
        by: str = NOBODY,
        until: float | None = None,
    ) -> None:
        """
        Pause or resume one destination, or all of them.

        @param by: The name of the person or program that asks.
        @param until: When the pause ends by itself, in the seconds of C{clock}.
        @raise UnknownDestination: There is no destination of that name.
        @raise InvalidSetting: C{until} is wrong.
        """
        end = _time(until)
        workers = list(self.workers.values()) if name is None else [self._worker(name)]
        self._setPaused(workers, paused, by, end)

    def _setPaused(
        self, workers: list[Worker], paused: bool, by: str, until: float | None = None
    ) -> None:
        now = self.clock.seconds()
        changed = [each for each in workers if each.destination.paused != paused]
        for worker in workers:
            destination = worker.destination
            since = now if destination.pause is None else destination.pause.since
            destination.pause = Pause(_shortened(by), since, until) if paused else None
            self._awaitEnd(worker)
        event = DESTINATION_PAUSED if paused else DESTINATION_RESUMED
        for worker in changed:
            worker.destination.paused = paused
            self.events.destination(worker.destination, event)
            if paused:
                # Otherwise the worker would still be waiting when the queue looks for a
                # worker.
                worker.check()
        # The queue gets the change before a worker pulls.
        self.destinationChanged()
        for worker in changed:
            worker.check()

    def _awaitEnds(self) -> None:
        """
        Set the timers for the ends of the destinations' pauses, or stop them.
        """
        for worker in [*self._ends, *self.workers.values()]:
            self._awaitEnd(worker)

    def _awaitEnd(self, worker: Worker) -> None:
        ending = self._ends.pop(worker, None)
        if ending is not None and ending.active():
            ending.cancel()
        pause = worker.destination.pause
        if self._running and pause is not None and pause.until is not None:
            wait = max(0.0, pause.until - self.clock.seconds())
            self._ends[worker] = self.clock.callLater(
                wait, self._setPaused, [worker], False, ITS_END
            )

    # What the gate calls.

    def _pauseOver(self) -> None:
        """
        Called when the time of a pause is over.
        """
        self.resume(by=ITS_END)

    def _drained(self) -> None:
        """
        Called when the pool is paused and no session holds a slot any more.
        """
        self.events.pool(self.name, POOL_DRAINED, NOBODY)


def _seconds(name: str, value: Duration) -> float:
    """
    Read a duration.

    @raise InvalidSetting: The value is wrong; the message names the argument.
    """
    try:
        return duration(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"{name}: {error}") from None


def _time(until: float | None) -> float | None:
    """
    Check a time of the clock.

    @raise InvalidSetting: It is none.
    """
    if until is not None and not (
        isinstance(until, int | float) and math.isfinite(until)
    ):
        raise InvalidSetting(
            f"until: {shown(until)} is not a time, in seconds of clock"
        )
    return until


def _shortened(by: str) -> str:
    return printable(by[:LONGEST_NAME])

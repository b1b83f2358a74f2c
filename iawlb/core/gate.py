"""
The gate of a queue: holds the sessions while the pool is paused or its slots are all
taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.pause import Pause

PER_TURN = 32
"""
The number of sessions that leave before the reactor has its turn.
"""

FINEST = 0.01
COARSEST = 0.05
"""
The shortest and the longest wait between two steps of a resume that is spread, in
seconds.
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """
    A resume that lets the waiting sessions leave evenly over some time.

    @ivar began: When the pool was resumed.
    @ivar seconds: How long the resume takes.
    @ivar number: The number of sessions that waited then.
    """

    began: float
    seconds: float
    number: int

    def due(self, index: int) -> float:
        """
        Return when a session is due, by its position among those that leave, from 0.
        """
        return self.began + self.seconds * min(1.0, index / self.number)


class GatedQueue(Protocol):
    """
    What a gate needs of its queue.
    """

    gate: Gate | None

    def __len__(self) -> int:
        """
        Count the waiting sessions.
        """

    def handOverNext(self) -> bool:
        """
        Hand the oldest session over that a waiting worker may serve.

        @return: Whether there was one.
        """


class Gate:
    """
    Holds the sessions of a queue while the pool is paused, while as many sessions are
    served as the pool has slots, and during a resume that is spread.

    A queue has a gate only while there is something to hold or to count. So a pool
    without slots of its own that is not paused pays for a look at one attribute.

    While the gate is not C{open}, sessions only wait, and so do workers. L{check} then
    hands the sessions over one by one, the oldest first, each to the worker that the
    policy chooses; it opens the gate when no worker waits for a session any more. So
    while the gate is open, no worker waits that could serve a waiting session.

    @ivar open: Whether a session may leave now. Read this only while the queue has the
        gate.
    @ivar paused: The pause, or L{None} while the pool is not paused.
    @ivar pauses: The number of pauses that have begun.
    @ivar resumed: The time from which the queue time-out of the clients is counted that
        waited in the last pause.
    @ivar slots: The number of sessions that the pool may serve at a time; 0 is no
        limit.
    """

    def __init__(
        self,
        clock: IReactorTime,
        queue: GatedQueue,
        active: Callable[[], int],
        whenOver: Callable[[], None],
        whenDrained: Callable[[], None],
    ) -> None:
        """
        @param active: Returns the number of sessions that hold a slot.
        @param whenOver: Called when the time of a pause is over; has to call L{resume}.
        @param whenDrained: Called once in each pause, when no session holds a slot.
        """
        self.open = False
        self.paused: Pause | None = None
        self.pauses = 0
        self.resumed = -math.inf
        self.slots = 0
        self._clock = clock
        self._queue = queue
        self._active = active
        self._whenOver = whenOver
        self._whenDrained = whenDrained
        self._drained = False
        # The number of sessions that hold a slot; counted while the queue has the gate.
        self._taken = 0
        self._spread: Spread | None = None
        # The number of sessions that have left in the spread.
        self._left = 0
        self._checking = False
        # The next step of the handing over; whether it is only put off to the next turn
        # of the reactor; and the end of the pause.
        self._next: IDelayedCall | None = None
        self._yielded = False
        self._ending: IDelayedCall | None = None
        self._running = False

    # What the user asks for.

    def pause(self, by: str, maxPause: float | None, until: float | None) -> None:
        """
        Hold the sessions. If the pool is paused already, the pause goes on, with what
        is asked for now. L{check} has to follow.
        """
        before = self.paused
        if before is None:
            self.pauses += 1
            self._drained = False
        since = before.since if before is not None else self._clock.seconds()
        self.paused = Pause(by, since, until, maxPause)
        self._spread = None
        self._await()
        self._shut()

    def resume(self, seconds: float = 0.0) -> None:
        """
        End the pause, or a resume that is still spread.

        @param seconds: The time over which the sessions that wait now leave.
        """
        if self.paused is None and self._spread is None:
            return
        now = self._clock.seconds()
        self.paused = None
        self.resumed = now + seconds
        number = len(self._queue)
        self._spread = Spread(now, seconds, number) if seconds and number else None
        self._left = 0
        self._await()
        self._cancelNext()
        self.check()

    def setSlots(self, slots: int) -> None:
        """
        Set the number of sessions that the pool may serve at a time. Those that are
        served now go on.
        """
        self.slots = slots
        if slots:
            self._shut()
        self.check()

    def due(self, queued: float, timeout: float) -> float:
        """
        Return when the time of a waiting session is over.

        @param queued: When the session entered the queue.
        @param timeout: The queue time-out; 0 is none.
        """
        pause, since = self.paused, self.resumed
        if pause is not None and pause.maxPause is not None:
            since, timeout = pause.since, pause.maxPause
        return max(queued, since) + timeout if timeout else math.inf

    # What the workers do.

    def take(self) -> None:
        """
        Count a session that takes a slot.
        """
        self._taken += 1
        if self.slots and self._taken >= self.slots:
            self.open = False

    def give(self) -> None:
        """
        Count a slot that is given back. L{check} has to follow unless the gate is open.
        """
        self._taken -= 1

    def check(self) -> None:
        """
        Hand sessions over, as far as they may leave.
        """
        if self.paused is not None and not self._taken and not self._drained:
            self._drained = True
            self._whenDrained()
        if self._checking or self._yielded or self._queue.gate is None:
            return
        self._cancelNext()
        self._checking = True
        self.open = False
        try:
            wait = self._handOver()
        finally:
            self._checking = False
        if wait is None:
            self.open = self.mayLeave()
            if self.open and not self.slots:
                self._queue.gate = None
        elif self._running:
            self._yielded = not wait
            self._next = self._clock.callLater(wait, self._continue)

    def _handOver(self) -> float | None:
        """
        Hand some sessions over.

        @return: How long to wait before more may leave, or L{None} if only another call
            of L{check} can bring more.
        """
        for _ in range(PER_TURN):
            if not self.mayLeave():
                return None
            wait = self._waitInSpread()
            if wait > 0:
                return max(wait, FINEST)
            if not self._queue.handOverNext():
                # A worker or a client that comes next calls nothing here.
                return None if self._spread is None else COARSEST
            self._left += 1
        return 0.0

    def mayLeave(self) -> bool:
        """
        Return whether neither a pause nor the pool's slots hold the sessions.
        """
        return self.paused is None and not (self.slots and self._taken >= self.slots)

    @property
    def free(self) -> int | None:
        """
        The number of the pool's slots that are free, or L{None} if there is no limit.
        """
        return max(0, self.slots - self._taken) if self.slots else None

    def _waitInSpread(self) -> float:
        """
        Return how long the next session has to wait in a resume that is spread.
        """
        spread, now = self._spread, self._clock.seconds()
        if spread is None or now >= spread.began + spread.seconds:
            self._spread = None
            return 0.0
        return spread.due(self._left) - now

    def _shut(self) -> None:
        """
        Put the gate before the queue, shut.
        """
        self.open = False
        if self._queue.gate is None:
            self._taken = self._active()
            self._queue.gate = self

    # Time passes.

    def _continue(self) -> None:
        self._next = None
        self._yielded = False
        self.check()

    def _cancelNext(self) -> None:
        following, self._next = self._next, None
        self._yielded = False
        if following is not None:
            following.cancel()

    def _await(self) -> None:
        """
        Set the timer for the end of the pause.
        """
        ending, self._ending = self._ending, None
        if ending is not None:
            ending.cancel()
        pause = self.paused
        if self._running and pause is not None and pause.until is not None:
            wait = max(0.0, pause.until - self._clock.seconds())
            self._ending = self._clock.callLater(wait, self._over)

    def _over(self) -> None:
        self._ending = None
        self._whenOver()

    def start(self) -> None:
        """
        Set the timers again.
        """
        self._running = True
        self._await()
        self.check()

    def stop(self) -> None:
        """
        Stop the timers. What is paused stays paused.
        """
        self._running = False
        self._cancelNext()
        self._await()

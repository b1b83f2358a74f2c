"""
Wake the sleeping destinations of a pool as its clients need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.condition import freeSlotsOf
from iawlb.core.destination import Destination
from iawlb.core.outcome import Outcome
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import Session
from iawlb.relay.resets import ResetWatch, unread
from iawlb.workers.waking import Phase, Waker

GRACE = 0.05
"""
How long a client that has sent nothing waits before it wakes a destination, in seconds:
scans and the checks of other programs close their connections within that time.
"""

PER_TURN = 200
"""
The number of clients that are turned away before the reactor has its turn.
"""


class Alarm:
    """
    Wakes the sleeping destinations of a pool.

    A destination is woken if a client waits that the policy binds to it. For the other
    clients, destinations are woken one by one, in their order, while more clients wait
    than the destinations that are awake or waking have free slots.
    """

    def __init__(
        self,
        clock: IReactorTime,
        queue: ConnectionQueue,
        resets: ResetWatch,
        destinations: Callable[[], Sequence[Destination]],
    ) -> None:
        """
        @param destinations: Returns the destinations of the pool.
        """
        self._clock = clock
        self._queue = queue
        self._resets = resets
        self._destinations = destinations
        # Those that sleep while no client needs them.
        self.wakers: dict[Destination, Waker] = {}
        self._next: IDelayedCall | None = None
        self._turnings: list[IDelayedCall] = []

    def check(self) -> None:
        """
        Look soon whether a destination has to be woken.
        """
        if self.wakers and len(self._queue):
            self._lookIn(0.0)

    def stop(self) -> None:
        """
        Stop the timers.
        """
        for each in (self._next, *self._turnings):
            if each is not None and each.active():
                each.cancel()
        self._next = None
        self._turnings = []

    def _lookIn(self, seconds: float) -> None:
        due = self._clock.seconds() + seconds
        if self._next is None:
            self._next = self._clock.callLater(seconds, self._look)
        elif due < self._next.getTime():
            self._next.reset(seconds)

    def _look(self) -> None:
        self._next = None
        gate = self._queue.gate
        if gate is not None and not gate.mayLeave():
            return
        sleeping = [
            waker
            for each in sorted(self.wakers, key=lambda each: each.order)
            if each.wakeable
            and (waker := self.wakers[each]).phase in (Phase.ASLEEP, Phase.STOPPING)
        ]
        if not sleeping:
            return
        queue = self._queue
        for waker in sleeping:
            destination = waker.destination
            # The count first, which is cheap, as there may be a thousand.
            if queue.waitingFor(destination) and self._serious(
                queue.boundTo(destination)
            ):
                waker.wake()
        if self._serious(self._queue.boundTo(None)):
            waiting = self._queue.unbound()
            if gate is not None and gate.free is not None:
                waiting = min(waiting, gate.free)
            self._wakeFor(waiting, sleeping)

    def _wakeFor(self, waiting: int, sleeping: Iterable[Waker]) -> None:
        """
        Wake as many destinations as it takes to have a slot for each client.
        """
        others = [each for each in self._destinations() if self._counts(each)]
        room = freeSlotsOf(others)
        for waker in sleeping:
            if room is None or waiting <= room:
                return
            more = freeSlotsOf([waker.destination])
            waker.wake()
            room = None if more is None else room + more

    def _counts(self, destination: Destination) -> bool:
        """
        Return whether a destination takes clients, or soon will.
        """
        waker = self.wakers.get(destination)
        if waker is not None and destination.wakeable:
            return waker.phase is Phase.WAKING
        return destination.available

    def _serious(self, sessions: Iterable[Session]) -> bool:
        """
        Return whether there is a client that wakes a destination. If the oldest one
        may still be none, look again later.
        """
        for session in sessions:
            number = session.side.fileno()
            if number < 0:
                return True
            if self._resets.hasLeft(session.side):
                session.holder.dismiss(Outcome.CLIENT_LEFT_QUEUE)
                continue
            rest = session.queued + GRACE - self._clock.seconds()
            if rest <= 0 or unread(number):
                return True
            self._lookIn(rest)
            return False
        return False

    def failed(self, destination: Destination) -> None:
        """
        Called when a destination could not be started. The clients that wait are turned
        away, unless another destination may serve them.
        """
        gate = self._queue.gate
        if gate is not None and gate.paused is not None:
            return
        for each in self._destinations():
            waker = self.wakers.get(each)
            if not each.draining and (waker is None or waker.phase is not Phase.FAILED):
                self._turnAway(iter(self._queue.chosenFor(destination)))
                return
        self._turnAway(iter(list(self._queue)))

    def _turnAway(self, sessions: Iterable[Session]) -> None:
        self._turnings = [each for each in self._turnings if each.active()]
        some = list(islice(sessions, PER_TURN))
        for session in some:
            if session.line is not None:
                session.holder.dismiss(Outcome.WAKE_FAILED)
        if some:
            self._turnings.append(self._clock.callLater(0, self._turnAway, sessions))

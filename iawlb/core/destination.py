"""
Where sessions are forwarded: slots, counts and state. Rules only, no I/O.
"""

from __future__ import annotations

from iawlb.core.text import printable
from iawlb.settings import DestinationSettings, Settings

HURRY = 0.2
"""
The longest wait between two probes, in seconds, while sessions wait and nothing
is up.
"""

TRIFLE = 1e-7
"""
What makes the heaviest of those with equal loads the least loaded: less than any
two loads differ by, as a weight is 1000 at most.
"""

REVIEW = 100
"""
After so many connects, or twice the window if that is more, the window becomes what
was in use since.
"""


class Backoff:
    """
    Waits that double from the first to the longest.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wait = settings.backoff

    def next(self, jitter: float) -> float:
        """
        Say how long to wait; the wait after it is longer.

        @param jitter: A random number from 0 to 1.
        @return: Seconds: half to the whole of the wait, so that several balancers
            do not try in step.
        """
        wait = self._wait * (0.5 + jitter / 2)
        self._wait = min(self._wait * 2, self._settings.backoffMax)
        return wait

    def reset(self) -> None:
        """
        Begin with the first again.
        """
        self._wait = self._settings.backoff


class Destination:
    """
    The state of one destination.

    The connect window bounds how many sessions can pay for a destination that
    has gone silent: it starts at one connect at a time and grows by one with
    each success that used it whole (TCP's slow start, for connects). From time to
    time it shrinks to what was in use, so a busy hour does not widen it for good.

    @ivar name: Its name, unique in a balancer.
    @ivar address: Its address as the user wrote it.
    @ivar order: Its place among the others, in the order in which they were given.
    @ivar slots: Sessions it may serve at a time; 0 is no limit.
    @ivar weight: Its share, under policies that know shares.
    @ivar active: Sessions that hold a slot now, connecting ones included.
    @ivar load: active / weight, where L{TRIFLE} of a session decides between equals.
    @ivar turn: Its place in the turns that destinations with equal loads take.
    @ivar connecting: Of these, those whose connect is under way.
    @ivar down: Why it is down, or L{None} while it is up.
    @ivar heldOff: Whether it gets no session for a moment, as this machine is short
        of what connects to it need.
    @ivar paused: Whether it was told not to pull.
    @ivar draining: Whether it was removed and only finishes its sessions.
    @ivar served: Sessions connected since it was added.
    @ivar failures: Failed connects and probes since it was added.
    """

    def __init__(
        self,
        address: str,
        own: DestinationSettings,
        settings: Settings,
        order: int = 0,
    ) -> None:
        self.name = own.name
        self.address = address
        self.order = order
        self.slots = own.slots
        self.weight = own.weight
        self.active = 0
        self.load = TRIFLE / own.weight
        self.turn = 0.0
        self.connecting = 0
        self.down: str | None = None
        self.heldOff = False
        self.paused = False
        self.draining = False
        self.served = 0
        self.failures = 0
        self._window = 1
        # Most connects that were under way at once since the last review.
        self._peak = 0
        self._review = REVIEW
        self._probes = Backoff(settings)
        self._pauses = Backoff(settings)
        self._servedAtPause = 0
        self._servedAtFailure = -1
        self._failedAt = 0.0

    def __repr__(self) -> str:
        return f"<Destination {self.name} {self.state}, {self.active} active>"

    @property
    def state(self) -> str:
        """
        One word: C{draining}, C{paused}, C{down} or C{up}.
        """
        if self.draining:
            return "draining"
        if self.paused:
            return "paused"
        return "up" if self.down is None else "down"

    @property
    def available(self) -> bool:
        """
        Whether it takes sessions at all, now or when a slot is free.
        """
        return not (
            self.down is not None or self.paused or self.draining or self.heldOff
        )

    @property
    def freeSlots(self) -> int | None:
        """
        Slots that are free, or L{None} for no limit.
        """
        return max(0, self.slots - self.active) if self.slots else None

    def canPull(self) -> bool:
        """
        Say whether its worker may wait for a session.
        """
        # As L{available} says, without a call more where it counts.
        return (
            self.down is None
            and not self.paused
            and not self.draining
            and self.connecting < self._window
            and (not self.slots or self.active < self.slots)
        )

    def take(self) -> None:
        """
        A session takes a slot and its connect begins.
        """
        self.active += 1
        self.connecting += 1
        self.load = (self.active + TRIFLE) / self.weight

    def connectEnded(self) -> None:
        """
        A connect failed or was given up.
        """
        self.connecting -= 1

    def connected(self) -> None:
        """
        A connect succeeded.
        """
        served = self.served = self.served + 1
        connecting = self.connecting
        if connecting > self._peak:
            self._peak = connecting
            if connecting >= self._window:
                self._window += 1
        self.connecting = connecting - 1
        if served >= self._review:
            # Bursts as large as the window have begun twice since, if there are such.
            self._reviewWindow(self._peak + 1)

    def give(self) -> None:
        """
        A slot is free again.
        """
        self.active -= 1
        self.load = (self.active + TRIFLE) / self.weight

    def failedOnce(self, began: float, now: float) -> bool:
        """
        A connect failed. Say whether that may be chance, so that the destination
        stays up: since the one that failed before, another has succeeded, or both
        were under way at the same time.

        @param began: When the connect began.
        @param now: When it failed.
        """
        if self.served != self._servedAtFailure:
            self._servedAtFailure = self.served
            self._failedAt = now
        elif began > self._failedAt:
            return False
        self.failures += 1
        return True

    def failed(self, why: str) -> None:
        """
        A connect or a probe failed: it is down.
        """
        self.failures += 1
        # It may quote the peer, a certificate's name for instance.
        self.down = printable(why)
        self._reviewWindow(1)

    def _reviewWindow(self, window: int) -> None:
        """
        Let so many connects be under way at a time, until more are known to be used.
        """
        self._window = window
        self._peak = 0
        self._review = self.served + max(REVIEW, 2 * window)

    def recovered(self) -> None:
        """
        A probe succeeded: it is up.
        """
        self.down = None
        self._servedAtFailure = -1
        self._probes.reset()

    def nextProbe(self, jitter: float) -> float:
        """
        Say how long to wait for the next probe.

        @param jitter: A random number from 0 to 1.
        """
        return self._probes.next(jitter)

    def nextPause(self, jitter: float) -> float:
        """
        Say how long it is to be held off; longer each time, until a connect succeeds.

        @param jitter: A random number from 0 to 1.
        """
        if self.served != self._servedAtPause:
            self._servedAtPause = self.served
            self._pauses.reset()
        return self._pauses.next(jitter)

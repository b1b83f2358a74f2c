"""
The state of a destination: slots, counts, the connect window and backoff. Rules only,
no I/O.
"""

from __future__ import annotations

from iawlb.core.answertimes import AnswerTimes
from iawlb.core.condition import Condition
from iawlb.core.pause import Pause
from iawlb.core.standing import Checked
from iawlb.core.text import printable
from iawlb.settings import DestinationSettings, Settings

HURRY = 0.2
"""
The longest wait between two probes, in seconds, while sessions wait and every
destination is down.
"""

TRIFLE = 1e-7
"""
The part of a session that is added to each destination's active sessions, so that of
idle destinations the one with the largest weight has the smallest load. It is smaller
than any difference between two loads, as a weight is 1000 at most.
"""

REVIEW = 100
"""
The number of connects after which the window is set to what was in use during them. If
twice the window is more than this number, it is used instead.
"""


class Backoff:
    """
    Waits that double, from C{backoff} up to C{backoffMax}.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wait = settings.backoff

    def next(self, jitter: float) -> float:
        """
        Return the next wait, and double the wait after it.

        @param jitter: A random number from 0 to 1.
        @return: Seconds: between half of the wait and the whole of it, so that several
            balancers do not try in step.
        """
        wait = self._wait * (0.5 + jitter / 2)
        self._wait = min(self._wait * 2, self._settings.backoffMax)
        return wait

    def reset(self) -> None:
        """
        Begin again with the first wait.
        """
        self._wait = self._settings.backoff


class Destination(Condition):
    """
    The state of one destination.

    The connect window bounds how many sessions have to wait for a connect to a
    destination that has gone silent. The window starts at one connect at a time and
    grows by one with each success while all of it was in use (TCP's slow start, for
    connects). From time to time it shrinks to what was in use, so a busy hour does not
    widen it for good.

    @ivar name: The destination's name, unique in its pool.
    @ivar settings: The destination's own settings.
    @ivar pool: The name of the destination's pool.
    @ivar address: The destination's address as the user wrote it.
    @ivar order: The destination's position among all, in the order in which the user
        gave them.
    @ivar weight: The destination's share, under policies that use shares: that which is
        set, or a part of it, in percent, while the agent of a destination of the pool
        asks for that.
    @ivar load: active / weight, where L{TRIFLE} of a session decides between equals.
    @ivar turn: The destination's position in the turns that destinations with equal
        loads take.
    @ivar connecting: Those of the active sessions whose connect is under way.
    @ivar pause: Who has paused it, and for how long, if that is known.
    @ivar removing: Whether the destination is removed when its sessions have ended.
    @ivar served: Sessions connected since the destination was added.
    @ivar failures: Failed connects, probes and checks since the destination was added.
    @ivar fresh: Whether the destination was added as one that is not known to be up,
        and nothing has been found out yet.
    @ivar checked: What the last check has found, or L{None} if there was none.
    @ivar checks: Checks since the destination was added.
    @ivar checksFailed: Those of them that have failed.
    @ivar times: How long the recent sessions waited for the first byte, while the
        policy wants to know; else L{None}.
    """

    __slots__ = (
        "_failedAt",
        "_inPercent",
        "_pauses",
        "_peak",
        "_percent",
        "_probes",
        "_review",
        "_servedAtFailure",
        "_servedAtPause",
        "_window",
        "address",
        "checked",
        "checks",
        "checksFailed",
        "connecting",
        "failures",
        "fresh",
        "load",
        "name",
        "order",
        "pause",
        "pool",
        "removing",
        "served",
        "settings",
        "times",
        "turn",
        "weight",
    )

    def __init__(
        self,
        address: str,
        own: DestinationSettings,
        settings: Settings,
        order: int = 0,
        pool: str = "default",
    ) -> None:
        super().__init__(own.slots)
        self.name = own.name
        self.settings = own
        self.pool = pool
        self.address = address
        self.order = order
        self.weight = own.weight
        self._percent: int | None = None
        self._inPercent = False
        self.load = TRIFLE / own.weight
        self.turn = 0.0
        self.connecting = 0
        self.pause: Pause | None = None
        self.removing = False
        self.served = 0
        self.failures = 0
        self.fresh = False
        self.checked: Checked | None = None
        self.checks = 0
        self.checksFailed = 0
        self.times: AnswerTimes | None = None
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
    def answerTime(self) -> float | None:
        """
        The median of the recent times to first byte, in seconds, or L{None} while it is
        not known.
        """
        return None if self.times is None else self.times.median

    def configure(self, settings: DestinationSettings) -> None:
        """
        Use other settings from now on.
        """
        self.settings = settings
        self.slots = settings.slots
        self._weigh()

    @property
    def percent(self) -> int | None:
        """
        How much of its weight the destination's agent asks for, in percent, at least 1;
        or L{None} for all of it.
        """
        return self._percent

    @percent.setter
    def percent(self, percent: int | None) -> None:
        self._percent = percent
        self._weigh()

    def weighInPercent(self, inPercent: bool) -> None:
        """
        Have all weights of the pool's destinations in percent, since one of them has a
        part of its weight; or not. So all weights are whole numbers.
        """
        self._inPercent = inPercent
        self._weigh()

    def _weigh(self) -> None:
        self.weight = self.settings.weight
        if self._inPercent:
            self.weight *= self._percent or 100
        self.load = (self.active + TRIFLE) / self.weight

    def canPull(self) -> bool:
        """
        Return whether the destination's worker may wait for a session.
        """
        return (
            self.ready
            and self.connecting < self._window
            and (not self.limit or self.active < self.limit)
        )

    def take(self) -> None:
        """
        Count a session that takes a slot and whose connect begins.
        """
        self.active += 1
        self.connecting += 1
        self.load = (self.active + TRIFLE) / self.weight

    def connectEnded(self) -> None:
        """
        Count a connect that failed or was given up.
        """
        self.connecting -= 1

    def connected(self) -> None:
        """
        Count a connect that succeeded, and widen the window if all of it was in use.
        """
        served = self.served = self.served + 1
        connecting = self.connecting
        if connecting > self._peak:
            self._peak = connecting
            if connecting >= self._window:
                self._window += 1
        self.connecting = connecting - 1
        if served >= self._review:
            # If bursts as large as the window still happen, at least two have begun
            # since the last review, so the peak is known.
            self._reviewWindow(self._peak + 1)

    def give(self) -> None:
        """
        Give back the slot of a session.
        """
        self.active -= 1
        self.load = (self.active + TRIFLE) / self.weight

    def failedOnce(self, began: float, now: float) -> bool:
        """
        Count a failed connect, and return whether it may have failed by chance, so that
        the destination stays up. That is so if another connect has succeeded since the
        failure before, or if both connects were under way at the same time.

        @param began: When the connect began.
        @param now: When the connect failed.
        @return: Whether the destination stays up. If not, nothing is counted here:
            L{failed} follows.
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
        Mark the destination as down, after a failed connect or probe.

        @param why: The reason, for people.
        """
        self.failures += 1
        # The reason may quote the peer, for instance a name in its certificate.
        self.down = printable(why)
        self._reviewWindow(1)

    def _reviewWindow(self, window: int) -> None:
        """
        Set the window, and begin to record anew how much of it is in use.
        """
        self._window = window
        self._peak = 0
        self._review = self.served + max(REVIEW, 2 * window)

    def recovered(self) -> None:
        """
        Mark the destination as up, after a probe that succeeded.
        """
        self.down = None
        self.fresh = False
        self._servedAtFailure = -1
        self._probes.reset()

    def nextProbe(self, jitter: float) -> float:
        """
        Return how long to wait before the next probe.

        @param jitter: A random number from 0 to 1.
        @return: Seconds.
        """
        return self._probes.next(jitter)

    def nextPause(self, jitter: float) -> float:
        """
        Return how long to hold the destination off. The pause grows each time, until a
        connect has succeeded.

        @param jitter: A random number from 0 to 1.
        @return: Seconds.
        """
        if self.served != self._servedAtPause:
            self._servedAtPause = self.served
            self._pauses.reset()
        return self._pauses.next(jitter)

"""
Whether a destination takes sessions, and how many.
"""

from __future__ import annotations

from collections.abc import Iterable

SERVING = ("up", "asleep", "waking")
"""
The states of a destination that serves the next client, maybe once it is awake.
"""


class Condition:
    """
    What decides whether a destination takes sessions, and how many at a time.

    This changes rarely, and is asked for each session. So every setter works out
    C{ready} and C{limit} anew, and for a session only these two are read.

    @ivar ready: Whether the destination takes sessions, now or when a slot is free: it
        is not C{down}, C{reportedDown}, C{paused}, C{draining}, C{withdrawn},
        C{standby} or C{asleep}.
    @ivar limit: The number of sessions that the destination may serve at a time now; 0
        is no limit. It is the least of C{slots}, C{startSlots} and C{agentSlots}.
    @ivar active: Sessions that hold a slot now, including those that are connecting.
    @ivar heldOff: Whether the destination gets no session for a moment, because this
        machine is short of something that connects to the destination need.
    """

    # Python 3.11 looks attributes up more slowly in an object that has over 30, and all
    # of a thousand destinations may be looked at for a session.
    __slots__ = (
        "_agentSlots",
        "_asleep",
        "_down",
        "_draining",
        "_paused",
        "_reportedDown",
        "_slots",
        "_standby",
        "_startSlots",
        "_withdrawn",
        "active",
        "heldOff",
        "limit",
        "ready",
    )

    def __init__(self, slots: int) -> None:
        self.active = 0
        self.heldOff = False
        self.ready = True
        self._down: str | None = None
        self._reportedDown: str | None = None
        self._paused = False
        self._draining = False
        self._standby = False
        self._asleep: str | None = None
        self._withdrawn: str | None = None
        self.limit = self._slots = slots
        self._startSlots: int | None = None
        self._agentSlots: int | None = None

    @property
    def down(self) -> str | None:
        """
        Why the destination is down, as connects and checks have found, or L{None}.
        """
        return self._down

    @down.setter
    def down(self, why: str | None) -> None:
        self._down = why
        self._setReady()

    @property
    def reportedDown(self) -> str | None:
        """
        Why the destination is down, as its agent has said, or L{None}.
        """
        return self._reportedDown

    @reportedDown.setter
    def reportedDown(self, why: str | None) -> None:
        self._reportedDown = why
        self._setReady()

    @property
    def isUp(self) -> bool:
        """
        Whether the destination is up, as far as is known, whatever its user wants.
        """
        return self._down is None and self._reportedDown is None

    @property
    def serves(self) -> bool:
        """
        Whether the destination takes sessions, or would if it were not paused, asleep
        or on standby.
        """
        return self.isUp and not self._draining and self._withdrawn is None

    @property
    def why(self) -> str | None:
        """
        Why the destination is down, or takes no more sessions; L{None} if it is well.
        """
        return self._down or self._reportedDown or self._withdrawn

    @property
    def paused(self) -> bool:
        """
        Whether the user has paused the destination.
        """
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self._setReady()

    @property
    def draining(self) -> bool:
        """
        Whether the user has asked that the destination takes no more sessions and
        finishes those it has.
        """
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining
        self._setReady()

    @property
    def withdrawn(self) -> str | None:
        """
        Why the destination itself has asked, by its agent, for no more sessions while
        it finishes those it has; or L{None}.
        """
        return self._withdrawn

    @withdrawn.setter
    def withdrawn(self, why: str | None) -> None:
        self._withdrawn = why
        self._setReady()

    @property
    def standby(self) -> bool:
        """
        Whether the destination is a backup that takes no sessions, since others do.
        """
        return self._standby

    @standby.setter
    def standby(self, standby: bool) -> None:
        self._standby = standby
        self._setReady()

    @property
    def asleep(self) -> str | None:
        """
        C{asleep} if the destination has to be started before it takes sessions,
        C{waking} while it is, or L{None}.
        """
        return self._asleep

    @asleep.setter
    def asleep(self, asleep: str | None) -> None:
        self._asleep = asleep
        self._setReady()

    def _setReady(self) -> None:
        self.ready = not (
            self._down is not None
            or self._reportedDown is not None
            or self._paused
            or self._draining
            or self._standby
            or self._asleep is not None
            or self._withdrawn is not None
        )

    @property
    def slots(self) -> int:
        """
        The number of sessions that the destination may serve at a time, as the user has
        set it; 0 is no limit.
        """
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        self._slots = slots
        self._setLimit()

    @property
    def startSlots(self) -> int | None:
        """
        The same while the destination starts slowly: at least 1; or L{None}.
        """
        return self._startSlots

    @startSlots.setter
    def startSlots(self, slots: int | None) -> None:
        self._startSlots = slots
        self._setLimit()

    @property
    def agentSlots(self) -> int | None:
        """
        The same as the destination itself has asked for by its agent: at least 1; or
        L{None}.
        """
        return self._agentSlots

    @agentSlots.setter
    def agentSlots(self, slots: int | None) -> None:
        self._agentSlots = slots
        self._setLimit()

    def _setLimit(self) -> None:
        every = (self._slots, self._startSlots, self._agentSlots)
        self.limit = min((each for each in every if each), default=0)

    @property
    def state(self) -> str:
        """
        One word: C{draining}, C{paused}, C{asleep}, C{waking}, C{down}, C{standby} or
        C{up}.
        """
        if self._draining:
            return "draining"
        if self._paused:
            return "paused"
        if self._asleep is not None:
            return self._asleep
        if not self.isUp:
            return "down"
        if self._withdrawn is not None:
            return "draining"
        return "standby" if self._standby else "up"

    @property
    def available(self) -> bool:
        """
        Whether the destination takes sessions at all: now, when a slot is free, or when
        it is awake.
        """
        return (self.ready or self.wakeable) and not self.heldOff

    @property
    def wakeable(self) -> bool:
        """
        Whether nothing but its sleep keeps the destination from taking sessions.
        """
        held = self._paused or self._standby
        return self._asleep is not None and self.serves and not held

    @property
    def freeSlots(self) -> int | None:
        """
        The number of free slots, or L{None} if there is no limit.
        """
        return max(0, self.limit - self.active) if self.limit else None


def freeSlotsOf(conditions: Iterable[Condition]) -> int | None:
    """
    Count the free slots of destinations; L{None} if one of them has no limit.
    """
    free = [each.freeSlots for each in conditions]
    known = [each for each in free if each is not None]
    return sum(known) if len(known) == len(free) else None

"""
The policy that chooses the destination that answers soonest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from time import monotonic

from zope.interface import implementer

from iawlb.core.answertimes import HALF_LIFE, AnswerTimes
from iawlb.core.destination import Destination
from iawlb.core.policy import AnyMayServe, IMeasuringPolicy, IPolicy

_LOAD = attrgetter("load")

HOT = 0.84
"""
The quantile of the loads above which a destination is hot, as Prequal has it (Wydrowski
and others, 2024).
"""


CAUTION = 1.5
"""
The power to which active + 1 is raised. 1 would be the time that a client has to expect
if a destination serves one after the other; with a little more the clients of a busy
pool are spread more like L{Least<iawlb.core.least.Least>} spreads them, which does not
depend on how well the medians are known.
"""

LOOKED_AT = 128
"""
The number of destinations that are compared for one session.
"""


def timesOf(destination: Destination) -> AnswerTimes:
    """
    Return the times of a destination, of which none may be known yet.
    """
    times = destination.times
    if times is None:
        times = destination.times = AnswerTimes()
    return times


@implementer(IMeasuringPolicy, IPolicy)
class Quick(AnyMayServe):
    """
    The destination with the smallest median time to first byte * ((active + 1) /
    weight) ** C{CAUTION}, among those that are not hot: those whose active / weight is
    not above the C{HOT} quantile of the waiting destinations'.

    The median alone would send everything to the fastest destination until its answers
    become slow, which is known too late. The number of sessions is known at once. So if
    all are equally fast, this is L{Least<iawlb.core.least.Least>}, and a destination
    that accepts and never answers gets no more sessions than C{least} would give it,
    times how much faster than the others it was.

    Destinations of which no time is known are tried first, one session each. Until that
    session is answered, they count as twice as slow as the slowest one known.

    If more than C{LOOKED_AT} wait, so many are compared, and the next ones for the next
    session. (Those that have waited longest would be the slow ones.)
    """

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        """
        @param seconds: Returns the time of the monotonic clock, by which sessions are
            timed.
        """
        self._seconds = seconds
        self._next = 0

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the destination that is expected to answer soonest.
        """
        if len(waiting) > LOOKED_AT:
            waiting = self._part(waiting)
        loads = sorted(map(_LOAD, waiting))
        limit = loads[int(HOT * (len(loads) - 1))]
        best, lowest = waiting[0], math.inf
        log2 = math.log2
        for each in waiting:
            if each.load <= limit:
                pace = (each.times or timesOf(each)).pace
                pace += CAUTION * log2((each.active + 1) / each.weight)
                if pace < lowest:
                    best, lowest = each, pace
        return best if lowest > -math.inf else self._unknown(waiting)

    def _part(self, waiting: Sequence[Destination]) -> Sequence[Destination]:
        """
        Return the destinations to compare now.
        """
        start = self._next % len(waiting)
        self._next = start + LOOKED_AT
        part = [*waiting[start : self._next]]
        return [*part, *waiting[: LOOKED_AT - len(part)]]

    def _unknown(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the least loaded of the destinations of which nothing is known, and guess
        how fast it is.
        """
        untried = [each for each in waiting if timesOf(each).pace == -math.inf]
        least = min(untried, key=_LOAD)
        known = [times for each in waiting if (times := timesOf(each)).median]
        # If none is known, any time will do: one second.
        slowest = max((each.pace + 1 for each in known), default=None)
        timesOf(least).guess(
            self._seconds() / HALF_LIFE if slowest is None else slowest
        )
        return least

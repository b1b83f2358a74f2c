"""
How long a destination took lately until the first byte of its answer.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

KEPT = 63
"""
The number of times that are kept of each destination.
"""

HALF_LIFE = 10.0
"""
The seconds after which a median without a new time counts as half as long. So a
destination that was slow is tried again: one five times slower than the others after 23
seconds, one twice as slow after ten.
"""

OLDEST = 20.0
"""
The age in seconds from which a time is forgotten, once there is a newer one. So one
good time is enough to show that a destination that was slow has recovered.
"""

PENALTY = 60.0
"""
The seconds that a session counts that the destination ended without a byte.
"""

IN_A_ROW = 3
"""
The number of such sessions, one behind the other, that outweigh all times before.
"""

SHORTEST = 1e-6
"""
The shortest time that counts, in seconds.
"""


class AnswerTimes:
    """
    The times of the recent sessions of one destination, from the client's last byte
    before the answer (or the connect, if the destination speaks first) to the first
    byte of the answer: the last C{KEPT} of them, none much older than C{OLDEST}.

    @ivar median: The median in seconds, or L{None} while nothing is known.
    @ivar pace: The number by which destinations are compared, lower is faster:
        log2(C{median}) + the time of the last answer / L{HALF_LIFE}. As all
        medians get shorter by the same factor in the same time, this number decays
        without being touched. It is minus infinity while nothing is known.
    """

    __slots__ = ("_failed", "_kept", "_sorted", "median", "pace")

    def __init__(self) -> None:
        # When each time was found, and the time; and the times alone, sorted.
        self._kept: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []
        # Sessions that ended without a byte, since the last answer.
        self._failed = 0
        self.median: float | None = None
        self.pace = -math.inf

    def add(self, seconds: float, now: float) -> None:
        """
        Count an answer.

        @param seconds: How long it took.
        """
        self._failed = 0
        self._add(seconds, now)

    def unanswered(self, seconds: float, now: float) -> None:
        """
        Count a session that ended before the answer, but not by the destination: the
        answer would have taken longer than this.
        """
        if self.median is None or seconds > self.median:
            self._add(seconds, now)

    def failed(self, now: float) -> None:
        """
        Count a session that the destination ended without a byte. Several in a row
        outweigh all that was before: else what fails fastest would seem the quickest.
        """
        self._failed += 1
        if self._failed >= IN_A_ROW or self.median is None or self.median >= PENALTY:
            self._kept.clear()
            self._sorted.clear()
            self._add(PENALTY, now)

    def guess(self, pace: float) -> None:
        """
        Take a pace for this destination's until its first answer is known.
        """
        self.pace = pace

    def _add(self, seconds: float, now: float) -> None:
        kept, ordered = self._kept, self._sorted
        seconds = max(SHORTEST, seconds)
        while kept and (len(kept) >= KEPT or kept[0][0] < now - OLDEST):
            del ordered[bisect_left(ordered, kept.popleft()[1])]
        kept.append((now, seconds))
        insort(ordered, seconds)
        # Of two, the shorter one: one good time shows that a destination has recovered.
        self.median = ordered[(len(ordered) - 1) // 2]
        self.pace = math.log2(self.median) + now / HALF_LIFE

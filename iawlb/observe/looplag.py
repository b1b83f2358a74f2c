"""
L{LoopLag}, a measure of how late the reactor calls.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.observe.counts import Histogram

PERIOD = 1.0
"""
How often the lag is measured, in seconds.
"""

REMEMBERED = 60
"""
The number of measurements of which the largest is kept.
"""

LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""
The upper bounds of the ranges in which lags are counted, in seconds.
"""


class LoopLag:
    """
    Measures once a second by how much the reactor is late to call. A reactor that is
    late serves every connection late.

    @ivar histogram: All measurements.
    @ivar last: The latest measurement, in seconds.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.histogram = Histogram(LAG_BOUNDS)
        self.last = 0.0
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=REMEMBERED)
        self._due = 0.0
        self._timer: IDelayedCall | None = None

    @property
    def largest(self) -> float:
        """
        The largest measurement of the last minute, in seconds.
        """
        return max(self._recent, default=0.0)

    def start(self) -> None:
        """
        Begin to measure.
        """
        if self._timer is None:
            self._next()

    def stop(self) -> None:
        """
        Stop measuring.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _next(self) -> None:
        self._due = self._clock.seconds() + PERIOD
        self._timer = self._clock.callLater(PERIOD, self._measure)

    def _measure(self) -> None:
        self.last = max(0.0, self._clock.seconds() - self._due)
        self.histogram.add(self.last)
        self._recent.append(self.last)
        self._next()

"""
The timers of a worker.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timers:
    """
    Timers that are stopped together. The function of a timer that is stopped is called
    at once.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._all: dict[IDelayedCall, Callable[[], None]] = {}

    def add(self, seconds: float, call: Callable[[], None]) -> IDelayedCall:
        """
        Call a function later, or as soon as the timers are stopped.
        """

        def fire() -> None:
            del self._all[timer]
            call()

        timer = self._clock.callLater(seconds, fire)
        self._all[timer] = call
        return timer

    def stop(self) -> None:
        """
        Stop all timers.
        """
        timers, self._all = self._all, {}
        for timer, call in timers.items():
            timer.cancel()
            call()

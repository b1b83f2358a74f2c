"""
Limits for log messages about what may happen a thousand times a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure


class OncePerSecond:
    """
    A count of events that is written at most once a second: the first event at once,
    and those of each second after it as one line with their number. Every event is
    counted.
    """

    def __init__(self, clock: IReactorTime, write: Callable[[int], None]) -> None:
        """
        @param write: Writes a line about so many events.
        """
        self._clock = clock
        self._write = write
        self._more = 0
        self._timer: IDelayedCall | None = None

    def add(self) -> None:
        """
        Count an event, and write it if none was written in the last second.
        """
        if self._timer is None:
            self._write(1)
            self._timer = self._clock.callLater(1.0, self._second)
        else:
            self._more += 1

    def _second(self) -> None:
        self._timer = None
        more, self._more = self._more, 0
        if more:
            self._write(more)
            self._timer = self._clock.callLater(1.0, self._second)

    def stop(self) -> None:
        """
        Write what is left, and stop the timer.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._second()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class FailureLog:
    """
    A log of unexpected exceptions: the first is written with its traceback, the others
    once a second as a number.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, what: str) -> None:
        """
        @param what: What has failed, for the log line.
        """
        self._what = what
        self._once = OncePerSecond(clock, self._log)
        self._failure: Failure | None = None

    def add(self, failure: Failure | None = None) -> None:
        """
        Log an exception.

        @param failure: The exception; by default the one that is being handled.
        """
        self._failure = failure
        self._once.add()
        self._failure = None

    def _log(self, number: int) -> None:
        failure = self._failure
        if failure is not None or sys.exc_info()[0] is not None:
            self.log.failure("{what} failed", failure, what=self._what)
        else:
            self.log.error(
                "{what} failed {number} times more", what=self._what, number=number
            )

    def stop(self) -> None:
        """
        Write what is left, and stop the timer.
        """
        self._once.stop()

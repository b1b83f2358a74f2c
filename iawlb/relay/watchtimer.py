"""
Ask the kernel twice a second about what it does not report by itself, while there is
anything to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

EVERY = 0.5
"""
How often the kernel is asked, in seconds.
"""


class Watch(Protocol):
    """
    A set of connections that the kernel is to be asked about.
    """

    def __len__(self) -> int:
        """
        Count the connections.
        """

    def check(self) -> None:
        """
        Ask the kernel about each connection.
        """


WatchT = TypeVar("WatchT", bound=Watch)


class WatchTimer:
    """
    A timer that checks its watches every half a second, and does not run while they are
    empty.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._watches: list[Watch] = []
        self._timer: IDelayedCall | None = None

    def add(self, make: Callable[[Callable[[], None]], WatchT]) -> WatchT:
        """
        Create and return a watch.

        @param make: Creates the watch; gets the function to call when the first
            connection is added.
        """
        watch = make(self.start)
        self._watches.append(watch)
        return watch

    def start(self) -> None:
        """
        Start the timer, if it does not run, because a watch has a connection to check.
        """
        if self._timer is None:
            self._timer = self._clock.callLater(EVERY, self._check)

    def _check(self) -> None:
        self._timer = None
        try:
            for watch in self._watches:
                watch.check()
        finally:
            if any(len(watch) for watch in self._watches):
                self.start()

    def stop(self) -> None:
        """
        Stop the timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

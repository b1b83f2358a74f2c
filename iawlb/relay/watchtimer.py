"""
Ask the kernel about what it does not report by itself, while there is anything to
ask.
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
    Connections that the kernel is to be asked about.
    """

    def __len__(self) -> int:
        """
        Count them.
        """

    def check(self) -> None:
        """
        Ask about each of them.
        """


WatchT = TypeVar("WatchT", bound=Watch)


class WatchTimer:
    """
    Has watches checked every half a second, and no timer while they are empty.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._watches: list[Watch] = []
        self._timer: IDelayedCall | None = None

    def add(self, make: Callable[[Callable[[], None]], WatchT]) -> WatchT:
        """
        Make a watch that calls when it is no longer empty.
        """
        watch = make(self.start)
        self._watches.append(watch)
        return watch

    def start(self) -> None:
        """
        There is something to ask.
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
        Keep no timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

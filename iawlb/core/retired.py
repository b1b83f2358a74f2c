"""
Objects with timers whose settings have changed, and which finish what they have begun.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Retiring(Protocol):
    """
    An object with a timer. It is true while it has something to finish.
    """

    def __bool__(self) -> bool: ...

    def stop(self) -> None:
        """
        Stop the timer.
        """


T = TypeVar("T", bound=Retiring)


def inUse(those: Iterable[T]) -> list[T]:
    """
    Return the objects that have something to finish, and stop the timers of the others.
    """
    kept = []
    for each in those:
        if each:
            kept.append(each)
        else:
            each.stop()
    return kept

"""
Relays that report which side has ended first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from iawlb.relay.kinds import Kinds


class Judging:
    """
    A mix-in that makes a relay call C{onFirstEnd} at the first end, reset or loss of a
    side. Only destinations that may be ejected use it.

    @ivar onFirstEnd: Called once; gets whether it was the destination's side.
    """

    destination: Any
    onFirstEnd: Callable[[bool], None] | None = None

    def sideEnded(self, side: Any) -> None:
        """
        Report, and do what the relay does when a side has ended.
        """
        self._judge(side)
        super().sideEnded(side)  # type: ignore[misc]  # the relay's

    def sideReset(self, side: Any) -> None:
        """
        Report, and do what the relay does when a side was reset.
        """
        self._judge(side)
        super().sideReset(side)  # type: ignore[misc]  # the relay's

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Report, and do what the relay does when a side is closed.
        """
        self._judge(side)
        super().sideLost(side, reset)  # type: ignore[misc]  # the relay's

    def _judge(self, side: Any) -> None:
        onFirstEnd, self.onFirstEnd = self.onFirstEnd, None
        if onFirstEnd is not None:
            onFirstEnd(side is self.destination)


@lru_cache(64)
def judging(kinds: Kinds) -> Kinds:
    """
    Return relays that do the same as others, and report their first end.
    """
    classes: Any = kinds
    made = [type(f"Judging{each.__name__}", (Judging, each), {}) for each in classes]
    return Kinds(*made)

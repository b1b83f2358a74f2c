"""
A pause of a pool or a destination.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pause:
    """
    A pause of a pool or a destination. Times are seconds of the monotonic clock.

    @ivar by: The name of the person or program that has asked for the pause.
    @ivar since: When the pause began.
    @ivar until: When the pause ends by itself, or L{None} if it does not.
    @ivar maxPause: The longest time that one client waits in the pause, in seconds; 0
        is no limit, and L{None} leaves it to the queue time-out.
    """

    by: str
    since: float
    until: float | None = None
    maxPause: float | None = None

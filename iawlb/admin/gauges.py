"""
Numbers about a pool that are worked out when somebody asks.
"""

from __future__ import annotations

from iawlb.pool import Pool


def oldestWait(pool: Pool, now: float) -> float | None:
    """
    Return for how long the oldest of the waiting sessions has waited, in seconds, or
    L{None} if none waits.

    @param now: The time of the monotonic clock.
    """
    oldest = pool.queue.oldest()
    return None if oldest is None else max(0.0, now - oldest.queued)


def slotsMissing(pool: Pool) -> int:
    """
    Return how many more slots would be needed now so that no session waits.
    """
    waiting = len(pool.queue)
    if not waiting:
        return 0
    for each in pool.destinations:
        if each.available:
            if each.freeSlots is None:
                return 0
            waiting -= each.freeSlots
    return max(0, waiting)

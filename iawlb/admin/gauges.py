"""
Numbers about a pool that are worked out when somebody asks.
"""

from __future__ import annotations

import math

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
    Return how many more slots would be needed now so that no session waits. In a pause
    of the pool none are missing: the sessions wait for its end.
    """
    waiting = len(pool.queue)
    if not waiting or pool.gate.paused is not None:
        return 0
    free = math.inf
    slots = [each.freeSlots for each in pool.destinations if each.available]
    known = [each for each in slots if each is not None]
    if len(known) == len(slots):
        free = sum(known)
    if pool.slots:
        free = min(free, pool.slots - pool.active)
    return int(max(0, waiting - max(0, free)))

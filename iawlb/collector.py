"""
L{easeCollector}, which keeps the garbage collector from stopping traffic.
"""

from __future__ import annotations

import gc


def easeCollector() -> None:
    """
    Make the garbage collector run seldom, and examine only the objects made from now
    on.

    Sessions leave no reference cycles, so the collector finds next to nothing, while a
    full collection of a large heap stops all traffic meanwhile. Call this once a
    program has started: the objects that exist then are never examined again, and newer
    ones after 50,000 new objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

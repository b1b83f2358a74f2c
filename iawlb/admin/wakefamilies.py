"""
The metrics of destinations that sleep while no client needs them.
"""

from __future__ import annotations

from iawlb.admin.family import DestinationView, Family


def _asleep(view: DestinationView) -> int | None:
    destination = view.destination
    if destination is None or not destination.settings.sleeps:
        return None
    return int(destination.asleep is not None)


def _wakes(view: DestinationView) -> int | None:
    return None if _asleep(view) is None else view.counts.wakes


def _wakeSeconds(view: DestinationView) -> tuple[int, float] | None:
    counts = view.counts
    return None if _asleep(view) is None else (counts.woke, counts.wakeSeconds)


WAKING: tuple[Family[DestinationView], ...] = (
    Family(
        "iawlb_destination_asleep",
        "gauge",
        "1 if the destination sleeps or is waking, else 0.",
        _asleep,
    ),
    Family(
        "iawlb_destination_wakes",
        "counter",
        "How many times the destination was started for a client.",
        _wakes,
    ),
    Family(
        "iawlb_destination_wake_seconds",
        "summary",
        "How long those starts took that succeeded.",
        _wakeSeconds,
        samples=2,
    ),
)
"""
The metrics of each destination that sleeps.
"""

"""
The table of all metrics, with those of pools.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iawlb.admin.balancerfamilies import BALANCER
from iawlb.admin.destinationfamilies import DESTINATION
from iawlb.admin.family import (
    CODES,
    STATES,
    Family,
    PoolView,
)
from iawlb.admin.gauges import oldestWait, slotsMissing
from iawlb.admin.tlsfamilies import CERTIFICATE, LISTENER
from iawlb.frontend.door import REASONS


def _states(view: PoolView) -> Mapping[str, int]:
    found = dict.fromkeys(STATES, 0)
    for each in view.pool.destinations:
        found[each.state] += 1
    return found


def _allEnds(view: PoolView) -> Mapping[str, int]:
    return {code: view.counts.ends.get(code, 0) for code in CODES}


def _headers(view: PoolView) -> Mapping[str, int]:
    return view.pool.headers.byResult


POOL: tuple[Family[PoolView], ...] = (
    Family(
        "iawlb_pool_up",
        "gauge",
        "1 if at least one destination takes clients, else 0.",
        lambda view: int(any(each.available for each in view.pool.destinations)),
    ),
    Family(
        "iawlb_pool_destinations",
        "gauge",
        "Destinations, by their state.",
        _states,
        label="state",
        samples=4,
    ),
    Family(
        "iawlb_pool_current_sessions",
        "gauge",
        "Client connections that are open, waiting and served.",
        lambda view: view.live,
    ),
    Family(
        "iawlb_pool_active",
        "gauge",
        "Sessions that hold a slot, connecting and served.",
        lambda view: view.pool.active,
    ),
    Family(
        "iawlb_pool_slots",
        "gauge",
        "Sessions that the pool may serve at a time; 0 is no limit but that of its "
        "destinations.",
        lambda view: view.pool.slots,
    ),
    Family(
        "iawlb_pool_paused",
        "gauge",
        "1 while the pool is paused, else 0.",
        lambda view: int(view.pool.gate.paused is not None),
    ),
    Family(
        "iawlb_pool_stopped",
        "gauge",
        "1 while the pool refuses clients since a user has stopped it, else 0.",
        lambda view: int(view.pool.stopped),
    ),
    Family(
        "iawlb_pool_waiting",
        "gauge",
        "Clients that wait in the queue.",
        lambda view: len(view.pool.queue),
    ),
    Family(
        "iawlb_pool_oldest_wait_seconds",
        "gauge",
        "For how long the oldest of the waiting clients has waited; 0 if none waits.",
        lambda view: oldestWait(view.pool, view.now) or 0,
    ),
    Family(
        "iawlb_pool_slots_missing",
        "gauge",
        "Slots that would be needed now, besides the free ones, so that no client "
        "waits: the signal to scale by.",
        lambda view: slotsMissing(view.pool),
    ),
    Family(
        "iawlb_pool_queue_size",
        "gauge",
        "The number of waiting clients at which accepting is paused.",
        lambda view: view.pool.settings.queueSize,
    ),
    Family(
        "iawlb_pool_accepted",
        "counter",
        "Client connections that were accepted.",
        lambda view: view.accepted,
    ),
    Family(
        "iawlb_pool_accept_pauses",
        "counter",
        "How many times accepting was paused, for lack of room.",
        lambda view: view.pool.acceptPauses,
    ),
    Family(
        "iawlb_pool_refused",
        "counter",
        "Clients that were refused by allow and deny, or over a limit.",
        lambda view: view.pool.door.refusals.counts,
        label="reason",
        samples=len(REASONS),
    ),
    Family(
        "iawlb_pool_delayed",
        "gauge",
        "Clients that wait outside the queue, since they are over a limit.",
        lambda view: view.pool.door.delayed,
    ),
    Family(
        "iawlb_pool_delays",
        "counter",
        "Clients that had to wait so.",
        lambda view: view.pool.door.delays,
    ),
    Family(
        "iawlb_pool_sources",
        "gauge",
        "Sources that are counted for limits now.",
        lambda view: view.pool.door.sources,
    ),
    Family(
        "iawlb_pool_spills",
        "counter",
        "Clients that any destination could serve, as they had waited for their own.",
        lambda view: view.pool.queue.spills,
    ),
    Family(
        "iawlb_pool_sessions",
        "counter",
        "Sessions that were connected to a destination.",
        lambda view: view.connects.sessions,
    ),
    Family(
        "iawlb_pool_ends",
        "counter",
        "Sessions that ended, by the code that the log shows.",
        _allEnds,
        label="code",
        samples=len(CODES),
    ),
    Family(
        "iawlb_pool_proxy_headers",
        "counter",
        "PROXY headers of clients, by what became of them.",
        _headers,
        label="result",
        samples=3,
    ),
    Family(
        "iawlb_pool_bytes_in",
        "counter",
        "Bytes from clients to destinations.",
        lambda view: view.bytes[0],
    ),
    Family(
        "iawlb_pool_bytes_out",
        "counter",
        "Bytes from destinations to clients.",
        lambda view: view.bytes[1],
    ),
    Family(
        "iawlb_pool_connect_attempts",
        "counter",
        "Connects to destinations that were begun for a client.",
        lambda view: view.connects.attempts,
    ),
    Family(
        "iawlb_pool_connect_errors",
        "counter",
        "Connects to destinations that failed, probes and checks included.",
        lambda view: view.connects.errors,
    ),
    Family(
        "iawlb_pool_put_backs",
        "counter",
        "Clients that went back into the queue, since a connect had failed.",
        lambda view: view.connects.putBacks,
    ),
    Family(
        "iawlb_pool_queue_wait_seconds",
        "histogram",
        "How long clients waited in the queue, those included that left it.",
        lambda view: view.counts.waits,
        samples=18,
    ),
    Family(
        "iawlb_pool_connect_seconds",
        "histogram",
        "How long connects to destinations took that succeeded.",
        lambda view: view.counts.connects,
        samples=18,
    ),
    Family(
        "iawlb_pool_session_seconds",
        "histogram",
        "How long sessions lasted, from accept to end.",
        lambda view: view.counts.durations,
        samples=20,
    ),
)
"""
The metrics of each pool.
"""


ALL: Mapping[str, tuple[Family[Any], ...]] = {
    "balancer": BALANCER,
    "pool": POOL,
    "destination": DESTINATION,
    "listener": LISTENER,
    "certificate": CERTIFICATE,
}
"""
All metrics, by their scope.
"""

LABELS: Mapping[str, tuple[str, ...]] = {
    "balancer": (),
    "pool": ("pool",),
    "destination": ("pool", "destination"),
    "listener": ("pool", "listener"),
    "certificate": ("pool", "listener", "certificate"),
}
"""
The names of the labels of all metrics of a scope.
"""

"""
The metrics of destinations.
"""

from __future__ import annotations

from collections.abc import Callable

from iawlb.admin.family import DestinationView, Family
from iawlb.admin.wakefamilies import WAKING
from iawlb.core.destination import Destination


def _now(
    read: Callable[[Destination], float | None],
) -> Callable[[DestinationView], float | None]:
    """
    Make the function that reads a number of a destination that was not removed.
    """
    return lambda view: None if view.destination is None else read(view.destination)


DESTINATION: tuple[Family[DestinationView], ...] = (
    Family(
        "iawlb_destination_up",
        "gauge",
        "1 if the destination is up, 0 if connects to it or checks fail.",
        _now(lambda each: int(each.isUp)),
    ),
    Family(
        "iawlb_destination_paused",
        "gauge",
        "1 if the destination is paused, else 0.",
        _now(lambda each: int(each.paused)),
    ),
    Family(
        "iawlb_destination_draining",
        "gauge",
        "1 if the destination only finishes its sessions, else 0.",
        _now(lambda each: int(each.draining)),
    ),
    Family(
        "iawlb_destination_active",
        "gauge",
        "Sessions that hold a slot of the destination, connecting and served.",
        _now(lambda each: each.active),
    ),
    Family(
        "iawlb_destination_slots",
        "gauge",
        "Sessions that the destination may serve at a time; 0 is no limit.",
        _now(lambda each: each.slots),
    ),
    Family(
        "iawlb_destination_limit",
        "gauge",
        "Slots it has now, by slow start and its agent, too; 0 is no limit.",
        _now(lambda each: each.limit),
    ),
    Family(
        "iawlb_destination_standby",
        "gauge",
        "1 if the destination is a backup that is not needed, else 0.",
        _now(lambda each: int(each.standby)),
    ),
    Family(
        "iawlb_destination_check_passed",
        "gauge",
        "1 if the last check has succeeded, else 0; missing before the first.",
        _now(lambda each: None if each.checked is None else int(each.checked.passed)),
    ),
    Family(
        "iawlb_destination_check_seconds",
        "gauge",
        "How long the last check took.",
        _now(lambda each: None if each.checked is None else each.checked.took),
    ),
    Family(
        "iawlb_destination_checks",
        "counter",
        "Checks of the destination that have ended.",
        _now(lambda each: each.checks),
    ),
    Family(
        "iawlb_destination_checks_failed",
        "counter",
        "Those of them that have failed.",
        _now(lambda each: each.checksFailed),
    ),
    Family(
        "iawlb_destination_answer_time_seconds",
        "gauge",
        "Median time to the first byte of recent answers, under the policy quick.",
        _now(lambda each: each.answerTime),
    ),
    Family(
        "iawlb_destination_sessions",
        "counter",
        "Sessions that were connected to the destination.",
        lambda view: view.counts.sessions,
    ),
    Family(
        "iawlb_destination_ends",
        "counter",
        "Sessions of the destination that ended, by the code that the log shows.",
        lambda view: view.counts.ends,
        label="code",
        samples=2,
    ),
    Family(
        "iawlb_destination_bytes_in",
        "counter",
        "Bytes from clients to the destination.",
        lambda view: view.bytes[0],
    ),
    Family(
        "iawlb_destination_bytes_out",
        "counter",
        "Bytes from the destination to clients.",
        lambda view: view.bytes[1],
    ),
    Family(
        "iawlb_destination_connect_attempts",
        "counter",
        "Connects to the destination that were begun for a client.",
        lambda view: view.counts.attempts,
    ),
    Family(
        "iawlb_destination_connect_errors",
        "counter",
        "Connects to the destination that failed, probes and checks included.",
        lambda view: view.counts.errors,
    ),
    Family(
        "iawlb_destination_put_backs",
        "counter",
        "Clients that went back into the queue, since a connect had failed.",
        lambda view: view.counts.putBacks,
    ),
    Family(
        "iawlb_destination_downs",
        "counter",
        "How many times the destination went down.",
        lambda view: view.counts.downs,
    ),
    *WAKING,
    Family(
        "iawlb_destination_connect_seconds",
        "summary",
        "How long connects to the destination took, of sessions that have ended.",
        lambda view: (view.counts.ended, view.counts.connectSeconds),
        samples=2,
    ),
    Family(
        "iawlb_destination_session_seconds",
        "summary",
        "How long sessions lasted, from their connect to their end.",
        lambda view: (view.counts.ended, view.counts.sessionSeconds),
        samples=2,
    ),
)
"""
The metrics of each destination.
"""

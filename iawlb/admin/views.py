"""
What the admin server says about a balancer: pools, destinations and sessions as objects
of JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from time import time
from typing import Any, Protocol

from iawlb.admin.eventring import isoTime
from iawlb.admin.gauges import oldestWait, slotsMissing
from iawlb.balancer import Balancer
from iawlb.core.destination import Destination
from iawlb.core.session import Session
from iawlb.core.text import printable
from iawlb.observe.bytecounts import ByteCounts
from iawlb.observe.counts import DestinationStatistics
from iawlb.observe.statistics import Statistics
from iawlb.pool import Pool

Turn = Callable[[], Awaitable[None]]

_NONE = DestinationStatistics(0.0)
"""
The counts of a destination that is not counted.
"""


class Configured(Protocol):
    """
    What is known of where values come from.
    """

    def origin(self, pool: str, destination: str) -> str:
        """
        Return where a destination comes from, such as C{iawlb.toml:12}.
        """

    def changed(self, pool: str, destination: str | None) -> list[str]:
        """
        Return the names of the values of a pool or destination that differ from those
        of the file.
        """


class Views:
    """
    Makes the objects.
    """

    def __init__(
        self,
        balancer: Balancer,
        statistics: Statistics,
        configured: Configured,
        now: Callable[[], float] = time,
    ) -> None:
        """
        @param now: Returns the time of day.
        """
        self._balancer = balancer
        self._statistics = statistics
        self._configured = configured
        self._now = now

    def timeOf(self, moment: float) -> str:
        """
        Write a moment of the monotonic clock as a time of day.
        """
        return isoTime(self._now() - (self._balancer.clock.seconds() - moment))

    async def bytes(self, turn: Turn) -> ByteCounts:
        """
        Count the bytes of all sessions, also of those that run.

        @param turn: Lets the reactor run once.
        """
        counts = ByteCounts(self._statistics, self._balancer.sessions)
        for _ in counts.add():
            await turn()
        return counts

    # Pools and destinations.

    def pools(self, counts: ByteCounts) -> Iterator[dict[str, Any]]:
        """
        Make the objects of all pools.
        """
        for pool in list(self._balancer.pools.values()):
            yield self.pool(pool, counts)

    def pool(self, pool: Pool, counts: ByteCounts) -> dict[str, Any]:
        """
        Make the object of a pool, in which an iterator stands for its destinations.
        """
        found = self._statistics.pools.get(pool.name)
        bytesIn, bytesOut = counts.pools.get(pool.name, (0, 0))
        oldest = oldestWait(pool, self._balancer.clock.seconds())
        return {
            "name": pool.name,
            "state": poolState(pool),
            "paused": self._paused(pool),
            "policy": pool.settings.policy,
            "slots": getattr(pool, "slots", 0),
            "active": sum(each.active for each in pool.destinations),
            "waiting": len(pool.queue),
            "oldestWait": None if oldest is None else round(oldest, 3),
            "queueSize": pool.settings.queueSize,
            "sessions": pool.count.live,
            "accepted": pool.count.accepted,
            "slotsMissing": slotsMissing(pool),
            "bytesIn": bytesIn,
            "bytesOut": bytesOut,
            "ends": dict(found.ends) if found is not None else {},
            "listeners": [
                {"name": each.name, "address": each.address, "state": each.state}
                for each in pool.listeners
            ],
            "destinations": self.destinations(pool, counts),
            "changed": self._configured.changed(pool.name, None),
        }

    def _paused(self, pool: Pool) -> dict[str, Any] | None:
        gate = getattr(pool, "gate", None)
        pause = None if gate is None else gate.paused
        if pause is None:
            return None
        return {
            "by": pause.by,
            "since": self.timeOf(pause.since),
            "until": None if pause.until is None else self.timeOf(pause.until),
            "maxPause": pause.maxPause,
        }

    def destinations(self, pool: Pool, counts: ByteCounts) -> Iterator[dict[str, Any]]:
        """
        Make the objects of a pool's destinations.
        """
        for destination in pool.destinations:
            yield self.destination(destination, counts)

    def destination(
        self, destination: Destination, counts: ByteCounts
    ) -> dict[str, Any]:
        """
        Make the object of a destination.
        """
        key = (destination.pool, destination.name)
        found = self._statistics.destinations.get(key, _NONE)
        bytesIn, bytesOut = counts.destinations.get(key, (0, 0))
        return {
            "pool": destination.pool,
            "name": destination.name,
            "address": destination.address,
            "state": destinationState(destination),
            "since": self.timeOf(found.since),
            "why": destination.down,
            "active": destination.active,
            "slots": destination.slots,
            "weight": destination.weight,
            "served": destination.served,
            "failures": destination.failures,
            "attempts": found.attempts,
            "errors": found.errors,
            "putBacks": found.putBacks,
            "bytesIn": bytesIn,
            "bytesOut": bytesOut,
            "ends": dict(found.ends),
            "origin": self._configured.origin(*key),
            "changed": self._configured.changed(*key),
        }

    # Sessions.

    def session(self, session: Session) -> dict[str, Any]:
        """
        Make the object of a session.
        """
        now = self._balancer.clock.seconds()
        relay = session.relay
        pulled = session.pulled
        waited = 0.0
        if session.waited or pulled is None:
            waited = (now if pulled is None else pulled) - session.queued
        idle = None
        if relay is not None and session.connected is not None:
            idle = max(0.0, now - max(relay.moved, session.connected))
        return {
            "id": session.number,
            "pool": session.pool,
            "listener": session.listener,
            "client": session.client,
            "destination": session.destination,
            "state": sessionState(session),
            "age": round(now - session.accepted, 3),
            "waited": round(waited, 3),
            "idle": None if idle is None else round(idle, 3),
            "bytesIn": session.bytesIn,
            "bytesOut": session.bytesOut,
            "tries": session.tries,
        }


def poolState(pool: Pool) -> str:
    """
    Return a word for the state of a pool.
    """
    state = getattr(pool, "state", None)
    if isinstance(state, str):
        return state
    up = any(destinationState(each) == "up" for each in pool.destinations)
    return "up" if up else "down"


def destinationState(destination: Destination) -> str:
    """
    Return a word for the state of a destination.
    """
    if destination.draining:
        return "draining"
    if destination.paused:
        return "paused"
    return "up" if destination.down is None else "down"


def sessionState(session: Session) -> str:
    """
    Return a word for the state of a session.
    """
    if session.relay is not None:
        return "relaying"
    if session.pulled is not None:
        return "connecting"
    return "handshake" if session.line is None else "waiting"


def readiness(balancer: Balancer) -> tuple[bool, str]:
    """
    Return whether clients may be sent here, and why not. A pause changes nothing: its
    clients wait, and are served.
    """
    if balancer.stopping:
        return False, "stopping"
    pools = list(balancer.pools.values())
    if not pools:
        return False, "there is no pool"
    down = [
        pool.name
        for pool in pools
        if not any(
            each.down is None and not each.draining for each in pool.destinations
        )
    ]
    if len(down) == len(pools):
        return False, "no destination is up"
    if down:
        return True, f"no destination is up in {', '.join(down[:5])}"
    return True, ""


def shortText(text: str, most: int = 200) -> str:
    """
    Write a text on one line, shortened.
    """
    return printable(text[:most]) + ("..." if len(text) > most else "")

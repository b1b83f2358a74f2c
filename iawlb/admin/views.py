"""
What the admin server says about a balancer: pools, destinations and sessions as objects
of JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from time import time
from typing import Any, Protocol

from iawlb.admin.gauges import oldestWait, slotsMissing
from iawlb.backend.tlslistener import Certificates
from iawlb.balancer import Balancer
from iawlb.control.overlay import Difference
from iawlb.core.destination import Destination
from iawlb.core.session import Session
from iawlb.observe.bytecounts import ByteCounts
from iawlb.observe.clientfields import proxy
from iawlb.observe.counts import DestinationStatistics
from iawlb.observe.moments import isoTime
from iawlb.observe.statistics import Statistics
from iawlb.pool import Pool
from iawlb.processsettings import ProcessSettings

AT_A_TIME = 100
"""
How many destinations are compared in one turn of the reactor.
"""

Turn = Callable[[], Awaitable[None]]

_NONE = DestinationStatistics(0.0)
"""
The counts of a destination that is not counted.
"""


class Configured(Protocol):
    """
    The configuration, as far as the API shows it.
    """

    @property
    def file(self) -> str | None:
        """
        The file's path.
        """

    @property
    def process(self) -> ProcessSettings:
        """
        The settings of the process.
        """

    def originOf(self, path: str) -> str:
        """
        Return where a setting comes from, such as C{iawlb.toml:12}.
        """

    def destinationOrigin(self, pool: str, destination: str) -> str:
        """
        Return where a destination comes from.
        """

    def differences(self) -> Iterator[Sequence[Difference]]:
        """
        Iterate, step by step, over the values that differ from those of the file.
        """


@dataclass(frozen=True, slots=True)
class Look:
    """
    Figures for one answer that take many steps to work out.

    @ivar counts: The bytes of all sessions, also of those that run.
    @ivar changed: What differs from the file, by the names of a pool and destination.
    """

    counts: ByteCounts
    changed: dict[tuple[str, str | None], list[str]]


class Views:
    """
    A balancer's pools, destinations and sessions as objects of JSON.
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

    async def look(self, turn: Turn) -> Look:
        """
        Work out what takes many steps.

        @param turn: Lets the reactor run once.
        """
        counts = ByteCounts(self._statistics, self._balancer.sessions)
        for _ in counts.add():
            await turn()
        changed: dict[tuple[str, str | None], list[str]] = {}
        for each in await self.differences(turn):
            key = each.pool, each.destination
            what = each.key or ("removed" if each.runtime is None else "added")
            pool = self._balancer.pools.get(each.pool)
            if pool and each.destination and each.destination not in pool.workers:
                # It is gone, and has no object of its own.
                key, what = (each.pool, None), f"{each.destination} {what}"
            changed.setdefault(key, []).append(what)
        return Look(counts, changed)

    async def differences(self, turn: Turn) -> list[Difference]:
        """
        List what differs from the configuration.

        @param turn: Lets the reactor run once.
        """
        found: list[Difference] = []
        for number, step in enumerate(self._configured.differences()):
            found += step
            if number % AT_A_TIME == AT_A_TIME - 1:
                await turn()
        return found

    # Pools and destinations.

    def pools(self, look: Look) -> Iterator[dict[str, Any]]:
        """
        Make the objects of all pools.
        """
        for pool in list(self._balancer.pools.values()):
            yield self.pool(pool, look)

    def pool(self, pool: Pool, look: Look) -> dict[str, Any]:
        """
        Make the object of a pool, in which an iterator stands for its destinations.
        """
        found = self._statistics.pools.get(pool.name)
        bytesIn, bytesOut = look.counts.pools.get(pool.name, (0, 0))
        oldest = oldestWait(pool, self._balancer.clock.seconds())
        return {
            "name": pool.name,
            "state": pool.state,
            "paused": self._paused(pool),
            "policy": pool.settings.policy,
            "through": pool.settings.through or None,
            "serverNames": [*pool.settings.serverNames],
            "protocols": [*pool.settings.protocols],
            "slots": pool.slots,
            "active": pool.active,
            "waiting": len(pool.queue),
            "oldestWait": None if oldest is None else round(oldest, 3),
            "queueSize": pool.settings.queueSize,
            "sessions": pool.count.live,
            "accepted": pool.count.accepted,
            "delayed": pool.door.delayed,
            "refused": pool.door.refusals.counts,
            "proxyHeaders": pool.headers.byResult,
            "slotsMissing": slotsMissing(pool),
            "bytesIn": bytesIn,
            "bytesOut": bytesOut,
            "ends": dict(found.ends) if found is not None else {},
            "listeners": [
                {
                    "name": each.name,
                    "address": each.address,
                    "state": each.state,
                    "acceptProxy": list(each.frontend.settings.acceptProxy),
                    "tls": self._tls(each.certificates),
                }
                for each in pool.listeners
            ],
            "destinations": self.destinations(pool, look),
            "changed": look.changed.get((pool.name, None), []),
        }

    def _tls(self, certificates: Certificates | None) -> dict[str, Any] | None:
        if certificates is None:
            return None
        certificates.look()
        shown = certificates.shown
        soonest = min(shown, key=lambda each: each.until)
        return {
            "certificates": len(shown),
            "expires": isoTime(soonest.until.timestamp()),
            "expiring": soonest.name,
            "problem": certificates.problem,
            "handshakes": certificates.handshakes,
            "failed": certificates.failed,
        }

    def _paused(self, pool: Pool) -> dict[str, Any] | None:
        pause = pool.gate.paused
        if pause is None:
            return None
        return {
            "by": pause.by,
            "since": self.timeOf(pause.since),
            "until": None if pause.until is None else self.timeOf(pause.until),
            "maxPause": pause.maxPause,
        }

    def destinations(self, pool: Pool, look: Look) -> Iterator[dict[str, Any]]:
        """
        Make the objects of a pool's destinations.
        """
        for destination in pool.destinations:
            yield self.destination(destination, look)

    def destination(self, destination: Destination, look: Look) -> dict[str, Any]:
        """
        Make the object of a destination.
        """
        key = (destination.pool, destination.name)
        found = self._statistics.destinations.get(key, _NONE)
        bytesIn, bytesOut = look.counts.destinations.get(key, (0, 0))
        return {
            "pool": destination.pool,
            "name": destination.name,
            "address": destination.address,
            "tls": destination.settings.tls,
            "sendProxy": destination.settings.sendProxy,
            "state": destination.state,
            "since": self.timeOf(found.since),
            "why": destination.why,
            "active": destination.active,
            "slots": destination.slots,
            "limit": destination.limit,
            "weight": destination.settings.weight,
            "weightPercent": destination.percent or 100,
            "served": destination.served,
            "failures": destination.failures,
            "check": self._check(destination),
            "answerTime": _rounded(destination.answerTime),
            "attempts": found.attempts,
            "errors": found.errors,
            "putBacks": found.putBacks,
            "bytesIn": bytesIn,
            "bytesOut": bytesOut,
            "ends": dict(found.ends),
            "origin": self._configured.destinationOrigin(*key),
            "changed": look.changed.get(key, []),
        }

    def _check(self, destination: Destination) -> dict[str, Any] | None:
        found = destination.checked
        if found is None:
            return None
        return {
            "passed": found.passed,
            "why": found.why,
            "at": self.timeOf(found.at),
            "took": round(found.took, 6),
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
            "serverName": None if session.info is None else session.info.serverName,
            "proxy": proxy(session),
            "destination": session.destination,
            "state": sessionState(session),
            "age": round(now - session.accepted, 3),
            "waited": round(waited, 3),
            "idle": None if idle is None else round(idle, 3),
            "bytesIn": session.bytesIn,
            "bytesOut": session.bytesOut,
            "tries": session.tries,
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def sessionState(session: Session) -> str:
    """
    Return a word for the state of a session.
    """
    if session.relay is not None:
        return "relaying"
    if session.pulled is not None:
        return "connecting"
    if session.line is not None:
        return "waiting"
    return getattr(session.holder, "state", "handshake")


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
    pools = [each for each in pools if not each.passes] or pools
    down = [pool.name for pool in pools if not pool.serves]
    if len(down) == len(pools):
        return False, "no destination is up"
    if down:
        return True, f"no destination is up in {', '.join(down[:5])}"
    return True, ""

"""
The routes that change nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from iawlb.admin.access import Role
from iawlb.admin.gauges import oldestWait
from iawlb.admin.members import Member, timeout
from iawlb.admin.parts import Parts
from iawlb.admin.routes import Answer, Call, Route
from iawlb.admin.views import Views, readiness
from iawlb.config.keys import DESTINATION, GLOBAL, POOL, PROCESS, Keys
from iawlb.config.wording import pathOf
from iawlb.control.overlay import Difference
from iawlb.control.targets import findPool, findWorker
from iawlb.core.session import Session

AT_A_TIME = 500
"""
How many sessions are looked at in one turn of the reactor.
"""

MOST_SESSIONS = 100_000
"""
How many sessions are listed at most.
"""


class Reading:
    """
    The routes that change nothing.
    """

    def __init__(self, parts: Parts, views: Views) -> None:
        self._balancer = parts.balancer
        self._configuration = parts.configuration
        self._process = parts.process
        self._ring = parts.ring
        self._views = views

    def routes(self) -> Iterator[Route]:
        """
        Iterate over the routes.
        """
        read, none = Role.READ, Role.NONE
        yield Route(
            *("GET", "/live", none, "whether the process serves requests", self._live),
            schema="Live",
        )
        yield Route(
            *("GET", "/ready", none, "whether clients may be sent here", self._ready),
            schema="Ready",
        )
        yield Route(
            *("GET", "/status", read, "all that happens now", self._status),
            schema="Status",
        )
        yield Route(*("GET", "/pools", read, "all pools", self._pools), schema="Pools")
        yield Route(
            *("GET", "/pools/{pool}", read, "one pool", self._onePool),
            schema="Pool",
            tagged=True,
        )
        yield Route(
            *("GET", "/destinations", read, "all destinations", self._destinations),
            schema="Destinations",
        )
        path = "/destinations/{pool}/{name}"
        yield Route(
            *("GET", path, read, "one destination", self._oneDestination),
            schema="Destination",
        )
        yield Route(
            *("GET", "/sessions", read, "sessions, the oldest first", self._sessions),
            schema="Sessions",
            query=(
                timeout("older", None, "those of at least this age, in seconds"),
                Member("destination", "string", "of DEST or POOL/DEST", None, most=320),
                Member("pool", "string", "those of a pool", None, most=64),
                Member("waiting", "boolean", "those that wait, or that do not", None),
                Member("limit", "integer", "the most to list", 100, 0, MOST_SESSIONS),
            ),
            statuses=(404,),
        )
        yield Route(
            *("GET", "/config", read, "each setting and its origin", self._config),
            schema="Config",
            tagged=True,
        )

    async def _live(self, call: Call) -> Answer:
        return Answer({"live": True})

    async def _ready(self, call: Call) -> Answer:
        ready, why = readiness(self._balancer)
        return Answer({"ready": ready, "why": why}, 200 if ready else 503)

    async def _status(self, call: Call) -> Answer:
        balancer = self._balancer
        look = await self._views.look(call.turn)
        now = balancer.clock.seconds()
        pools = list(balancer.pools.values())
        ready, why = readiness(balancer)
        waits = [oldestWait(each, now) for each in pools]
        destinations = [each for pool in pools for each in pool.destinations]
        return Answer(
            {
                "version": self._process.version,
                "pid": os.getpid(),
                "started": self._views.timeOf(self._process.started),
                "uptime": round(now - self._process.started, 3),
                "state": "stopping" if balancer.stopping else "running",
                "ready": ready,
                "why": why,
                "role": call.asker.role.word,
                "pools": self._views.pools(look),
                "sessions": len(balancer.table),
                "waiting": sum(len(each.queue) for each in pools),
                "oldestWait": max(
                    (round(each, 3) for each in waits if each), default=None
                ),
                "maxConnections": balancer.table.limit,
                "accepting": all(each.accepting for each in pools),
                "reload": self._process.lastReload(),
                "log": self._process.logState(),
                "loopLag": round(self._process.loopLag(), 6),
                "destinationsUp": sum(each.isUp for each in destinations),
                "destinations": len(destinations),
            }
        )

    async def _pools(self, call: Call) -> Answer:
        return Answer(self._views.pools(await self._views.look(call.turn)))

    async def _onePool(self, call: Call) -> Answer:
        pool = findPool(self._balancer, call.path["pool"])
        tag = self._ring.tag
        view = self._views.pool(pool, await self._views.look(call.turn))
        return Answer(view, headers={"ETag": tag})

    async def _destinations(self, call: Call) -> Answer:
        look = await self._views.look(call.turn)
        pools = list(self._balancer.pools.values())
        return Answer(
            each for pool in pools for each in self._views.destinations(pool, look)
        )

    async def _oneDestination(self, call: Call) -> Answer:
        pool = findPool(self._balancer, call.path["pool"])
        found = findWorker(pool, call.path["name"]).destination
        look = await self._views.look(call.turn)
        return Answer(self._views.destination(found, look))

    async def _sessions(self, call: Call) -> Answer:
        """
        List sessions. What was asked for is looked for in turns, as there may be a
        hundred thousand.
        """
        found: list[Session] = []
        total = 0
        limit = call.query["limit"]
        wanted = self._wanted(call.query)
        for number, session in enumerate(self._balancer.sessions):
            if wanted(session):
                total += 1
                if len(found) < limit:
                    found.append(session)
            if number % AT_A_TIME == AT_A_TIME - 1:
                await call.turn()
        return Answer(
            {
                "sessions": map(self._views.session, found),
                "total": total,
                "truncated": total > len(found),
            }
        )

    def _wanted(self, query: dict[str, Any]) -> Callable[[Session], bool]:
        """
        Return a function that says whether a session is one of those asked for.

        @raise NotFound: A pool does not exist.
        """
        older, pool, waiting = query["older"], query["pool"], query["waiting"]
        name = query["destination"]
        if pool is not None:
            findPool(self._balancer, pool)
        if name is not None:
            first, slash, rest = name.partition("/")
            if slash and first in self._balancer.pools:
                pool, name = first, rest
        latest = None
        if older is not None:
            latest = self._balancer.clock.seconds() - older

        def wanted(session: Session) -> bool:
            return (
                session.outcome is None
                and (pool is None or session.pool == pool)
                and (name is None or session.destination == name)
                and (latest is None or session.accepted <= latest)
                and (waiting is None or (session.line is not None) == waiting)
            )

        return wanted

    async def _config(self, call: Call) -> Answer:
        differences = await self._views.differences(call.turn)
        return Answer(
            {
                "file": self._configuration.file,
                "settings": self._settings(),
                "differences": map(_difference, differences),
            },
            headers={"ETag": self._ring.tag},
        )

    def _settings(self) -> Iterator[dict[str, Any]]:
        """
        Make the objects of all settings, first those of the whole balancer.
        """
        process = self._configuration.process
        yield from self._those(GLOBAL, self._balancer.settings, ("global",))
        for section, keys in PROCESS.items():
            yield from self._those(keys, process, (section,))
        for pool in list(self._balancer.pools.values()):
            where = ("pools", pool.name)
            yield from self._those(POOL, pool.settings, where)
            for destination in list(pool.destinations):
                name = destination.name
                path = (*where, "destinations", name)
                yield from self._those(DESTINATION, destination.settings, path)

    def _those(
        self, keys: Keys, settings: object, section: tuple[str, ...]
    ) -> Iterator[dict[str, Any]]:
        for key, each in keys.items():
            path = pathOf((*section, key))
            value = getattr(settings, each.name)
            yield {
                "path": path,
                # A function that a program has given is only named.
                "value": repr(value) if callable(value) else value,
                "default": each.default,
                "origin": self._configuration.originOf(path),
                "live": each.metadata["live"],
            }


def _difference(each: Difference) -> dict[str, Any]:
    """
    Make the object of a difference.
    """
    return {
        "path": each.path,
        "file": _plain(each.file),
        "runtime": _plain(each.runtime),
    }


def _plain(value: Any) -> Any:
    """
    Return a value that JSON has: a pause is something that is there.
    """
    known = isinstance(value, str | int | float | dict | list) or value is None
    return value if known else True

"""
What C{iawlb top} shows: made of two answers of the balancer and those before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from textwrap import wrap
from typing import Any

from iawlb.command.calls import Call, items, segment
from iawlb.command.tables import Column, Paint, layOut
from iawlb.command.text import age, number, plain, shorten, since, size
from iawlb.command.wording import poolNotes, share, timeOf

ENDLESS = 10_000
"""
The width of what is no terminal.
"""

FEWEST = 5
"""
How many destinations are shown at least.
"""

OLDEST = 10
"""
The number of waiting clients that are shown.
"""

POOLS = (
    Column("POOL", importance=9, flexible=True),
    Column("STATE", importance=9),
    Column("ACTIVE/SLOTS", right=True, importance=8),
    Column("WAITING", right=True, importance=8),
    Column("OLDEST", right=True, importance=7),
    Column("CONN/S", right=True, importance=5),
    Column("MISSING", right=True, importance=3),
)

DESTINATIONS = (
    Column("DESTINATION", importance=9, flexible=True),
    Column("STATE", importance=9),
    Column("SINCE", right=True, importance=4),
    Column("ACTIVE/SLOTS", right=True, importance=8),
    Column("CONN/S", right=True, importance=7),
    Column("IN/S", right=True, importance=5),
    Column("OUT/S", right=True, importance=5),
    Column("SERVED", right=True, importance=2),
    Column("ERRORS", right=True, importance=6),
)

WAITERS = (
    Column("WAITS", right=True, importance=9),
    Column("CLIENT", importance=9, flexible=True),
    Column("POOL", importance=7, flexible=True),
    Column("ID", right=True, importance=8),
    Column("TRIES", right=True, importance=3),
)

Item = dict[str, Any]


def _amount(key: str) -> Callable[[Item], Any]:
    def amount(each: Item) -> float:
        value = each.get(key)
        return -value if isinstance(value, int | float) else 0.0

    return amount


SORTS: dict[str, Callable[[Item], Any]] = {
    "name": lambda each: (),
    "active": _amount("active"),
    "rate": _amount("_rate"),
    "in": _amount("_in"),
    "out": _amount("_out"),
    "errors": _amount("errors"),
    "state": lambda each: str(each.get("state")),
}
"""
The orders of destinations; equals stand in the order of their names. The first letter
of each is its key.
"""


@dataclass(frozen=True, slots=True)
class Frame:
    """
    The state of the balancer at one moment, as lines and tables to show.

    @ivar head: Lines about the balancer as a whole.
    @ivar notes: Lines about what does not serve, and why.
    """

    head: list[str]
    pools: list[list[str]] = field(default_factory=list)
    destinations: list[list[str]] = field(default_factory=list)
    waiters: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self, width: int | None, paint: Paint) -> list[str]:
        """
        Lay out all as text.
        """
        most = width or ENDLESS
        found = [line for each in self.head for line in wrap(each, most)]
        for shown, rows in (
            (POOLS, self.pools),
            (DESTINATIONS, self.destinations),
            (WAITERS, self.waiters),
        ):
            if rows:
                found += ["", *layOut(shown, rows, width, paint)]
        if self.notes:
            found += ["", *(shorten(each, most) for each in self.notes)]
        return found

    def linesWithin(self, width: int, height: int, paint: Paint) -> list[str]:
        """
        Lay out what a terminal has room for. Destinations are left out before the
        clients that wait longest.
        """
        found = self.lines(width, paint)
        over = len(found) - height
        if over > 0:
            kept = max(FEWEST, len(self.destinations) - over)
            found = replace(self, destinations=self.destinations[:kept]).lines(
                width, paint
            )
        return cut(found, height)


class View:
    """
    Asks the balancer, and makes frames of its answers.

    @ivar sort: The order of destinations, a key of L{SORTS}.
    """

    def __init__(
        self, call: Call, pool: str | None, sort: str, seconds: Callable[[], float]
    ) -> None:
        """
        @param pool: The only pool to show, or L{None} for all.
        @param seconds: Returns the monotonic time.
        """
        self.sort = sort
        self._call = call
        self._pool = pool
        self._seconds = seconds
        self._before: dict[tuple[str, ...], float] = {}
        self._at = 0.0

    def next(self) -> Frame:
        """
        Ask for the state, and make the next frame of it.

        @raise CommandError: The balancer does not say.
        """
        answer = self._call.send("GET", "/status")
        (status,) = items([answer.value])
        pools = items(status.get("pools", []))
        if self._pool is not None:
            pools = items(
                [self._call.send("GET", f"/pools/{segment(self._pool)}").value]
            )
        query = {"waiting": "true", "pool": self._pool, "limit": OLDEST}
        (held,) = items([self._call.send("GET", "/sessions", query=query).value])
        now, at = timeOf(answer), self._seconds()
        elapsed = at - self._at if self._before else 0.0
        counts: dict[tuple[str, ...], float] = {}

        def rate(value: Any, *key: str) -> float | None:
            if not isinstance(value, int | float):
                return None
            counts[key] = value
            before = self._before.get(key)
            if before is None or elapsed <= 0:
                return None
            return max(0.0, value - before) / elapsed

        poolRows, every = [], []
        for pool in pools:
            name = plain(pool.get("name"))
            poolRows.append(
                [
                    name,
                    plain(pool.get("state")),
                    share(pool),
                    number(pool.get("waiting")),
                    age(pool.get("oldestWait")),
                    _perSecond(rate(pool.get("accepted"), "pool", name)),
                    number(pool.get("slotsMissing")),
                ]
            )
            for each in items(pool.get("destinations", [])):
                full = f"{name}/{plain(each.get('name'))}"
                each = {**each, "_name": full}
                each["_rate"] = rate(each.get("served"), "served", full)
                each["_in"] = rate(each.get("bytesIn"), "in", full)
                each["_out"] = rate(each.get("bytesOut"), "out", full)
                every.append(each)
        self._before, self._at = counts, at
        every.sort(key=lambda each: (SORTS[self.sort](each), each["_name"]))
        return Frame(
            self._head(status),
            poolRows,
            [
                [
                    each["_name"],
                    plain(each.get("state")),
                    age(since(each.get("since"), now)),
                    share(each),
                    _perSecond(each["_rate"]),
                    size(each["_in"]),
                    size(each["_out"]),
                    number(each.get("served")),
                    number(each.get("errors")),
                ]
                for each in every
            ],
            [
                [
                    age(each.get("waited")),
                    plain(each.get("client")),
                    plain(each.get("pool")),
                    plain(each.get("id")),
                    number(each.get("tries")),
                ]
                for each in items(held.get("sessions", []))
            ],
            poolNotes(pools, now),
        )

    def _head(self, status: Item) -> list[str]:
        ready = "ready" if status.get("ready") else f"not ready: {status.get('why')}"
        oldest = status.get("oldestWait")
        waits = "" if oldest is None else f", the oldest for {age(oldest)}"
        return [
            f"iawlb {plain(status.get('version'))}, running for "
            f"{age(status.get('uptime'))}, {plain(ready)}",
            f"{plain(status.get('sessions'))} clients of at most "
            f"{plain(status.get('maxConnections'))}, "
            f"{plain(status.get('waiting'))} waiting{waits}; "
            f"{plain(status.get('destinationsUp'))} of "
            f"{plain(status.get('destinations'))} destinations up",
        ]


def _perSecond(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def cut(lines: Sequence[str], height: int) -> list[str]:
    """
    Leave out the lines that the terminal has no room for.
    """
    if len(lines) <= height:
        return list(lines)
    return [*lines[: max(0, height - 1)], f"... {len(lines) - height + 1} lines more"]

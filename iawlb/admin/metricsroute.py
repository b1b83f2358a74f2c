"""
The route C{/metrics}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from iawlb.admin.access import Role
from iawlb.admin.exposition import SCOPES, Exposition, Format, chooseFormat
from iawlb.admin.members import Member, shown
from iawlb.admin.problem import Problem
from iawlb.admin.routes import Answer, Call, Route

MOST_SCRAPES = 4
"""
The number of scrapes that are answered at a time.
"""


class Metrics:
    """
    Answers requests for metrics.
    """

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition
        self._sources = exposition.sources
        self._running = 0

    def route(self) -> Route:
        """
        Return the route.
        """
        return Route(
            *("GET", "/metrics", Role.READ, "metrics for Prometheus", self._get),
            query=(
                Member("scope", "string", "these parts only", None, parts=SCOPES),
                Member("pool", "string", "the names of some pools: a,b", None),
            ),
            produces="",
            statuses=(404, 503),
        )

    async def _get(self, call: Call) -> Answer:
        scope = call.query["scope"]
        scopes = SCOPES if scope is None else list(dict.fromkeys(scope.split(",")))
        pools = self._pools(call.query["pool"])
        if self._running >= MOST_SCRAPES:
            self._sources.scrapesRefused += 1
            raise Problem(
                503,
                f"{MOST_SCRAPES} scrapes are being answered: ask again",
                {"Retry-After": "1"},
            )
        format = chooseFormat(call.header("Accept"), call.header("Accept-Encoding"))
        headers = {
            "Content-Type": format.contentType,
            "Vary": "Accept, Accept-Encoding",
            **({"Content-Encoding": "gzip"} if format.gzip else {}),
        }
        return Answer(headers=headers, raw=self._pieces(format, scopes, pools))

    def _pieces(
        self, format: Format, scopes: Sequence[str], pools: Sequence[str] | None
    ) -> Iterator[bytes]:
        """
        Write the metrics, and count that they are being written.
        """
        self._running += 1
        try:
            yield from self._exposition.write(format, scopes, pools)
            self._sources.scrapes += 1
        finally:
            self._running -= 1

    def _pools(self, given: str | None) -> list[str] | None:
        """
        Read the names of pools, each once.

        @return: The names, or L{None} if none are given.
        @raise Problem: There is no pool of a name.
        """
        if given is None:
            return None
        known = list(self._sources.balancer.pools)
        names = list(dict.fromkeys(given.split(",")))
        for name in names:
            if name not in known:
                right = ", ".join(known[:10]) + (" ..." if len(known) > 10 else "")
                raise Problem(
                    404, f"pool: {shown(name)} is not one of {right or 'none'}"
                )
        return names

"""
The route C{/metrics}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iawlb.admin.access import Role
from iawlb.admin.exposition import SCOPES, Exposition, chooseFormat
from iawlb.admin.httprequest import AdminRequest
from iawlb.admin.members import Member
from iawlb.admin.problem import Problem
from iawlb.admin.routes import Answer, Call, Route
from iawlb.arguments import shown

MOST_SCRAPES = 4
"""
The number of scrapes that are answered at a time.
"""

SCRAPE_WITHIN = 10.0
"""
How long a client may take to read the metrics, in seconds: as long as Prometheus waits
for them by default.
"""


class Metrics:
    """
    Answers requests for metrics.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, exposition: Exposition) -> None:
        self._clock = clock
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
        pieces = self._exposition.write(format, scopes, pools)

        def stream(request: AdminRequest) -> None:
            ensureDeferred(self._answer(request, headers, pieces))

        return Answer(stream=stream)

    async def _answer(
        self,
        request: AdminRequest,
        headers: Mapping[str, str],
        pieces: Iterator[bytes],
    ) -> None:
        """
        Write the metrics. A client that is too slow is cut, so that it does not keep
        others from reading them.
        """
        self._running += 1
        late = self._clock.callLater(SCRAPE_WITHIN, request.cut)
        try:
            await request.answerInPieces(200, headers, pieces)
            self._sources.scrapes += not request.gone
        except Exception:  # the connection is cut by now
            self.log.failure("writing metrics failed")
        finally:
            self._running -= 1
            if late.active():
                late.cancel()

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

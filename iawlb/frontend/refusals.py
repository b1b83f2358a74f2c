"""
Clients that were refused: counted, and logged once for each source and minute.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import Logger

from iawlb.core.fairline import sourceOfAddress
from iawlb.core.session import describe
from iawlb.networks import sourceName

DENIED = "denied"
"""
The word for a client that allow and deny keep out.
"""

INTERVAL = 60.0
"""
How long no further line is written about a source, in seconds.
"""

MOST_LINES = 100
"""
The number of lines in an interval.
"""


class Refusals:
    """
    Counts the clients that a pool has refused, and writes a line about the first of
    each source in an interval. The others of the interval are one line together.

    @ivar counts: The number of clients refused for each reason.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, pool: str, reasons: tuple[str, ...]
    ) -> None:
        """
        @param pool: The pool's name.
        @param reasons: The words for all reasons.
        """
        self._clock = clock
        self._pool = pool
        self.counts = dict.fromkeys(reasons, 0)
        # The sources that a line was written about in this interval.
        self._written: set[bytes | None] = set()
        self._more = 0
        self._timer: IDelayedCall | None = None

    def add(
        self, reason: str, why: str, address: IAddress | None, mask: tuple[int, int]
    ) -> None:
        """
        Count a client.

        @param reason: The word for it.
        @param why: The same for people.
        @param mask: How many bits of an IPv4 address, and of an IPv6 address, make a
            source.
        """
        self.counts[reason] += 1
        source = sourceOfAddress(address, mask)
        if source in self._written or len(self._written) >= MOST_LINES:
            self._more += 1
            return
        self._written.add(source)
        name = describe(address)[1] if source is None else sourceName(source, mask)
        self.log.warn(
            "pool {pool}: {source} refused: {why}",
            pool=self._pool,
            source=name,
            why=why,
        )
        if self._timer is None:
            self._timer = self._clock.callLater(INTERVAL, self._over)

    def _over(self) -> None:
        self._timer = None
        self._written.clear()
        more, self._more = self._more, 0
        if more:
            self.log.warn(
                "pool {pool}: more clients refused within a minute: {number}",
                pool=self._pool,
                number=more,
            )

    def stop(self) -> None:
        """
        Write what is left, and stop the timer.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._over()

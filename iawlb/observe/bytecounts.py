"""
L{ByteCounts}, what sessions have moved so far, those included that still run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from iawlb.core.session import Session
from iawlb.observe.statistics import Statistics

SESSIONS_A_STEP = 300
"""
The number of sessions that are added in one step.
"""


class ByteCounts:
    """
    The bytes that sessions have moved, those included that still run. The running ones
    are added in steps, as there may be many thousand. A session that ends between two
    steps is counted once: so a count never goes down from one reading to the next.

    @ivar pools: Bytes in and out of each pool, by its name.
    @ivar destinations: Bytes in and out of each destination, by the names of its pool
        and its own.
    """

    def __init__(self, statistics: Statistics, sessions: Iterable[Session]) -> None:
        """
        @param sessions: The sessions that live now.
        """
        self.pools = {
            name: [pool.bytesIn, pool.bytesOut]
            for name, pool in statistics.pools.items()
        }
        self.destinations = {
            key: [row.bytesIn, row.bytesOut]
            for key, row in statistics.destinations.items()
        }
        self._sessions = list(sessions)

    def add(self) -> Iterator[None]:
        """
        Add what the running sessions have moved, in short steps.
        """
        pools, destinations = self.pools, self.destinations
        for number, session in enumerate(self._sessions):
            bytesIn, bytesOut = session.bytesIn, session.bytesOut
            if bytesIn or bytesOut:
                name = session.pool
                found = [pools.setdefault(name, [0, 0])]
                row = destinations.get((name, session.destination or ""))
                if row is not None:
                    found.append(row)
                for each in found:
                    each[0] += bytesIn
                    each[1] += bytesOut
            if number % SESSIONS_A_STEP == SESSIONS_A_STEP - 1:
                yield
        self._sessions = []

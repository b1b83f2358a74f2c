"""
L{Statistics}, the observer that counts what happens to sessions and destinations.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.events import (
    DESTINATION_ADDED,
    DESTINATION_AWAKE,
    DESTINATION_CHANGED,
    DESTINATION_DOWN,
    DESTINATION_REMOVED,
    DESTINATION_WAKING,
    SESSION_ENDED,
    SESSION_PUT_BACK,
    IObserver,
)
from iawlb.core.session import Session
from iawlb.observe.counts import (
    CONNECT_BOUNDS,
    DURATION_BOUNDS,
    DestinationStatistics,
    PoolStatistics,
)

MOST_DESTINATIONS = 5000
"""
The largest number of destinations that are counted one by one, those included that were
removed lately. The sessions of further destinations are counted in their pool alone.
"""

MOST_POOLS = 500
"""
The largest number of pools that are counted, those included that were removed.
"""

AT_ONCE = 64
"""
The number of ended sessions that are counted at once, at the latest when somebody
reads the counts.
"""

KEEP_REMOVED = 900.0
"""
How long the counts of a removed destination are kept, in seconds. If it is added again
within this time, its counters go on.
"""


@implementer(IObserver)
class Statistics:
    """
    An observer that counts what happens to sessions and destinations, in plain
    integers. What the running sessions have moved so far is not included (see
    L{ByteCounts<iawlb.observe.bytecounts.ByteCounts>}).
    """

    log = Logger()
    endsOnly = True

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._ended: list[Session] = []
        self._pools: dict[str, PoolStatistics] = {}
        self._rows: dict[tuple[str, str], DestinationStatistics] = {}
        self._uncounted = 0
        # When each removed destination was removed, the oldest first.
        self._removed: dict[tuple[str, str], float] = {}
        self._logged = False

    @property
    def pools(self) -> Mapping[str, PoolStatistics]:
        """
        The counts of each pool, by its name.
        """
        self._count()
        return self._pools

    @property
    def destinations(self) -> Mapping[tuple[str, str], DestinationStatistics]:
        """
        The counts of each destination, by the names of its pool and its own.
        """
        self._count()
        return self._rows

    @property
    def uncounted(self) -> int:
        """
        Sessions of destinations or pools beyond the most that are counted.
        """
        self._count()
        return self._uncounted

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Take a note of a session that has ended, or that was put back.
        """
        if event == SESSION_ENDED:
            # Counting several at once takes half of the time: from the second one on,
            # the processor has the code and the counts at hand. A session that was not
            # connected is counted at once, as it is no more among those that connect.
            ended = self._ended
            ended.append(session)
            if len(ended) >= AT_ONCE or session.connected is None:
                self._count()
        elif event == SESSION_PUT_BACK and session.destination is not None:
            row = self._row(session.pool, session.destination)
            if row is not None:
                row.putBacks += 1

    def _count(self) -> None:
        """
        Count the sessions that have ended.
        """
        ended, self._ended = self._ended, []
        for session in ended:
            self._countOne(session)

    def _countOne(self, session: Session) -> None:
        """
        Count a session that has ended.
        """
        poolName, name = session.origin.pool.name, session.destination
        row = None
        if name is not None:
            row = self._rows.get((poolName, name))
            if row is None:
                row = self._row(poolName, name)
        outcome, ended = session.outcome, session.ended
        assert outcome is not None and ended is not None
        pool = self._pools.get(poolName)
        if pool is None:
            pool = self._pool(poolName)
            if pool is None:
                self._uncounted += 1
                return
        code, bytesIn, bytesOut = outcome.code, session.bytesIn, session.bytesOut
        pool.ends[code] += 1
        pool.bytesIn += bytesIn
        pool.bytesOut += bytesOut
        pulled, connected = session.pulled, session.connected
        # The same as Histogram.add, without the call.
        lasted = ended - session.accepted
        histogram = pool.durations
        histogram.counts[bisect_left(DURATION_BOUNDS, lasted)] += 1
        histogram.sum += lasted
        if session.waited:
            pool.waits.add((ended if pulled is None else pulled) - session.queued)
        elif pulled is not None:
            pool.waits.counts[0] += 1
        if row is not None:
            row.ends[code] += 1
            row.bytesIn += bytesIn
            row.bytesOut += bytesOut
        elif name is not None:
            self._uncounted += 1
        if pulled is None:
            return
        if connected is None:
            if row is not None:
                row.gaveUp += 1
            return
        took = connected - pulled
        histogram = pool.connects
        histogram.counts[bisect_left(CONNECT_BOUNDS, took)] += 1
        histogram.sum += took
        if row is not None:
            row.ended += 1
            row.connectSeconds += took
            row.sessionSeconds += ended - connected

    def destinationChanged(self, destination: Destination, event: str) -> None:
        """
        Follow a destination that was added, and count how many times it goes down.
        """
        row = self._row(destination.pool, destination.name, event == DESTINATION_ADDED)
        if row is None or event == DESTINATION_CHANGED:
            return  # other slots or another weight are no other state
        row.since = self._clock.seconds()
        if event == DESTINATION_ADDED:
            self._follow(row, destination)
        elif event == DESTINATION_DOWN:
            row.downs += 1
            row.waking = None
        elif event == DESTINATION_WAKING:
            row.wakes += 1
            row.waking = row.since
        elif event == DESTINATION_AWAKE and row.waking is not None:
            row.woke += 1
            row.wakeSeconds += row.since - row.waking
            row.waking = None
        elif event == DESTINATION_REMOVED:
            row.leave(destination)
            if row.removed:
                self._removed[destination.pool, destination.name] = row.since

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        """
        Do nothing.
        """

    def adopt(self, destinations: Iterable[Destination]) -> None:
        """
        Follow destinations that were added before this observer was.
        """
        for each in destinations:
            row = self._row(each.pool, each.name, added=True)
            if row is not None:
                self._follow(row, each)

    def _follow(self, row: DestinationStatistics, destination: Destination) -> None:
        self._removed.pop((destination.pool, destination.name), None)
        row.follow(destination)

    def forget(self) -> None:
        """
        Drop the counts of destinations that were removed long ago.
        """
        self._count()
        before = self._clock.seconds() - KEEP_REMOVED
        while self._removed and next(iter(self._removed.values())) <= before:
            self._forgetOldest()

    def _forgetOldest(self) -> None:
        """
        Drop the counts of the destination that was removed first.
        """
        key = next(iter(self._removed))
        del self._removed[key]
        self._pools[key[0]].forgotten.add(self._rows.pop(key))

    def _row(
        self, pool: str, name: str, added: bool = False
    ) -> DestinationStatistics | None:
        """
        Return the counts of a destination, which are made if there is room for more.

        @param added: Whether the destination is added: then one that was removed makes
            room, if need be.
        """
        row = self._rows.get((pool, name))
        if row is None:
            self.forget()
            if added and len(self._rows) >= MOST_DESTINATIONS and self._removed:
                self._forgetOldest()
            if len(self._rows) >= MOST_DESTINATIONS:
                self._full(f"{MOST_DESTINATIONS} destinations")
                return None
            if pool not in self._pools and self._pool(pool) is None:
                return None
            now = self._clock.seconds()
            row = self._rows[pool, name] = DestinationStatistics(now)
            # Unless it is added now: the last session of a destination may end long
            # after the destination was removed.
            self._removed[pool, name] = now
        return row

    def _pool(self, name: str) -> PoolStatistics | None:
        """
        Return the counts of a pool, which are made if there is room for more.
        """
        if len(self._pools) >= MOST_POOLS:
            self.forget()
            living = {pool for pool, _ in self._rows}
            for each in self._pools.keys() - living:
                del self._pools[each]
            if len(self._pools) >= MOST_POOLS:
                self._full(f"{MOST_POOLS} pools")
                return None
        pool = self._pools[name] = PoolStatistics()
        return pool

    def _full(self, most: str) -> None:
        """
        Log once that not everything is counted.
        """
        if not self._logged:
            self._logged = True
            self.log.warn(
                "statistics: more than {most}; the sessions of the others are not "
                "counted one by one",
                most=most,
            )

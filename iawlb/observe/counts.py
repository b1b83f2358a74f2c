"""
What is counted of pools and destinations.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from iawlb.core.destination import Destination

WAIT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""
The upper bounds of the ranges in which waits in the queue are counted, in seconds.
"""

CONNECT_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""
The upper bounds of the ranges in which connect times are counted, in seconds.
"""

DURATION_BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0),
)
"""
The upper bounds of the ranges in which the durations of sessions are counted, in
seconds.
"""


class Histogram:
    """
    Values counted in ranges.

    @ivar bounds: The upper bound of each range but the last, which has none.
    @ivar counts: The number of values in each range.
    @ivar sum: The sum of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """
        Count a value.
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class ConnectCounts:
    """
    Counts of connects to destinations.

    @ivar sessions: Sessions that were connected.
    @ivar attempts: Connects that were begun for a session.
    @ivar errors: Connects and probes that failed.
    @ivar putBacks: Sessions that went back into the queue, since a connect has failed.
    """

    __slots__ = ("attempts", "errors", "putBacks", "sessions")

    def __init__(self) -> None:
        self.sessions = 0
        self.attempts = 0
        self.errors = 0
        self.putBacks = 0

    def add(self, row: ConnectCounts | DestinationStatistics) -> None:
        """
        Add other counts.
        """
        self.sessions += row.sessions
        self.attempts += row.attempts
        self.errors += row.errors
        self.putBacks += row.putBacks


class DestinationStatistics:
    """
    The counts of one destination of one pool. They go on if the destination is removed
    and added again.

    @ivar ends: Sessions that ended, by their code.
    @ivar bytesIn: Bytes from clients, of sessions that have ended.
    @ivar bytesOut: Bytes to clients, of sessions that have ended.
    @ivar putBacks: Sessions that went back into the queue, since a connect has failed.
    @ivar ended: Sessions that were connected and have ended.
    @ivar connectSeconds: The sum of the times that the connects of these took.
    @ivar sessionSeconds: The sum of the times from their connect to their end.
    @ivar downs: How many times the destination went down.
    @ivar wakes: How many times the destination was started for a client.
    @ivar woke: How many of these starts have succeeded.
    @ivar wakeSeconds: The sum of the times that these took.
    @ivar since: When the destination's state changed last, of the monotonic clock.
    """

    __slots__ = (
        "_errors",
        "_known",
        "_served",
        "bytesIn",
        "bytesOut",
        "connectSeconds",
        "downs",
        "ended",
        "ends",
        "gaveUp",
        "putBacks",
        "sessionSeconds",
        "since",
        "wakeSeconds",
        "wakes",
        "waking",
        "woke",
    )

    def __init__(self, now: float) -> None:
        self.ends: defaultdict[str, int] = defaultdict(int)
        self.bytesIn = 0
        self.bytesOut = 0
        self.putBacks = 0
        # Sessions that ended while they were connecting.
        self.gaveUp = 0
        self.ended = 0
        self.connectSeconds = 0.0
        self.sessionSeconds = 0.0
        self.downs = 0
        self.wakes = 0
        self.woke = 0
        self.wakeSeconds = 0.0
        # When the start that is under way began.
        self.waking: float | None = None
        self.since = now
        # The destinations of this name, which count for themselves: one, unless an old
        # one is still draining. And what those have counted that were removed.
        self._known: list[Destination] = []
        self._served = 0
        self._errors = 0

    @property
    def sessions(self) -> int:
        """
        Sessions that were connected to the destination.
        """
        return self._served + sum(each.served for each in self._known)

    @property
    def errors(self) -> int:
        """
        Connects and probes that failed.
        """
        return self._errors + sum(each.failures for each in self._known)

    @property
    def attempts(self) -> int:
        """
        Connects that were begun for a session.
        """
        connecting = sum(each.connecting for each in self._known)
        return self.sessions + self.putBacks + self.gaveUp + connecting

    def follow(self, destination: Destination) -> None:
        """
        Count a destination that was added, perhaps again.
        """
        if destination not in self._known:
            self._known.append(destination)

    def leave(self, destination: Destination) -> None:
        """
        Keep what a destination has counted that was removed.
        """
        if destination in self._known:
            self._known.remove(destination)
            self._served += destination.served
            self._errors += destination.failures

    @property
    def removed(self) -> bool:
        """
        Whether no destination of this name is known.
        """
        return not self._known


class PoolStatistics:
    """
    The counts of one pool.

    @ivar ends: Sessions that ended, by their code.
    @ivar bytesIn: Bytes from clients, of sessions that have ended.
    @ivar bytesOut: Bytes to clients, of sessions that have ended.
    @ivar waits: How long sessions waited in the queue.
    @ivar connects: How long connects took.
    @ivar durations: How long sessions lasted, from accept to end.
    @ivar forgotten: The counts of destinations that were removed long ago.
    """

    __slots__ = (
        "bytesIn",
        "bytesOut",
        "connects",
        "durations",
        "ends",
        "forgotten",
        "waits",
    )

    def __init__(self) -> None:
        self.ends: defaultdict[str, int] = defaultdict(int)
        self.bytesIn = 0
        self.bytesOut = 0
        self.waits = Histogram(WAIT_BOUNDS)
        self.connects = Histogram(CONNECT_BOUNDS)
        self.durations = Histogram(DURATION_BOUNDS)
        self.forgotten = ConnectCounts()

    @property
    def ended(self) -> int:
        """
        Sessions that have ended.
        """
        return sum(self.ends.values())

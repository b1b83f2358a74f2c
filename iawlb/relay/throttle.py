"""
Bandwidth limits: how many bytes may be read now, and one timer for all connections that
wait until they may read again.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import floor
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.ratelimit import FailureLog

SPARE = 0.1
"""
The largest number of bytes that may be read at once, as a time: so many seconds' worth,
and one byte.
"""

PAUSE = 0.05
"""
How long a connection that has used up what it may read is not read, in seconds, and
longer if it may not read a whole byte then.
"""

TICK = 0.01
"""
Connections that may read again within so many seconds are read together.
"""

LONGEST = 1.0
"""
How long the timer keeps a connection, in seconds, before it asks it again; also one
that was closed meanwhile.
"""

PER_TURN = 100
"""
Connections that are read before the reactor has its turn.
"""


class Meter:
    """
    How many bytes of one direction of a session may be read now. In any time, they are
    no more than the rate allows in that time, and C{SPARE} seconds' worth, and a byte.

    @ivar left: The bytes that might still be read when they were last counted; below 0
        if a transport has read more than it was to.
    """

    __slots__ = ("_at", "_enough", "_most", "_rate", "_seconds", "left")

    def __init__(self, rate: float, seconds: Callable[[], float]) -> None:
        """
        @param rate: Bytes per second.
        @param seconds: Returns the time of the monotonic clock.
        """
        self._rate = rate
        self._seconds = seconds
        self._most = rate * SPARE + 1
        self._enough = max(1.0, rate * PAUSE)
        self.left = self._most
        self._at = seconds()

    def allowed(self) -> int:
        """
        Return how many bytes may be read now.
        """
        now = self._seconds()
        self.left = min(self._most, self.left + (now - self._at) * self._rate)
        self._at = now
        return int(self.left)

    def spend(self, number: int) -> None:
        """
        Count bytes that were read.
        """
        self.left -= number

    @property
    def low(self) -> bool:
        """
        Whether so few bytes are left that it is better to wait for more.
        """
        return self.left < self._enough / 2 or self.left < 1

    def wait(self) -> float:
        """
        Return in how many seconds reading is worth while again.
        """
        return (self._enough - self.left) / self._rate

    def metered(
        self, recvInto: Callable[[memoryview], int]
    ) -> Callable[[memoryview], int]:
        """
        Make a function that reads a socket and never reads more than is allowed.

        @param recvInto: Reads the socket into a buffer.
        """

        def read(view: memoryview) -> int:
            most = self.allowed()
            if most < 1:
                raise BlockingIOError
            number = recvInto(view[:most])
            self.left -= number
            return number

        return read


class Waiting(Protocol):
    """
    A connection that waits until it may be read again.
    """

    def resume(self) -> None:
        """
        Called when it may be, or at least after C{LONGEST}.
        """

    def failed(self) -> None:
        """
        Called when C{resume} has raised.
        """


class Throttle:
    """
    Reads connections again when they may be read. However many there are, there is one
    timer, which runs at most once in a C{TICK}.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.seconds = clock.seconds
        self._clock = clock
        self._failures = FailureLog(clock, "reading again")
        # Connections by when they are due, in ticks.
        self._due: dict[int, list[Waiting]] = {}
        # The keys of these, a heap.
        self._ticks: list[int] = []
        self._timer: IDelayedCall | None = None
        self._number = 0

    def __len__(self) -> int:
        """
        Count the connections that wait, with those that were closed meanwhile.
        """
        return self._number

    def wait(self, connection: Waiting, seconds: float) -> None:
        """
        Read a connection again in so many seconds, or a little later.
        """
        due = self.seconds() + min(seconds, LONGEST)
        # Later than now, so that what waits again waits for another turn.
        tick = floor(due / TICK) + 1
        waiting = self._due.get(tick)
        if waiting is None:
            waiting = self._due[tick] = []
            heappush(self._ticks, tick)
            self._start()
        waiting.append(connection)
        self._number += 1

    def _start(self) -> None:
        """
        Have the timer wait for the first that is due.
        """
        first = self._ticks[0] * TICK
        timer = self._timer
        if timer is not None:
            if timer.getTime() <= first:
                return
            timer.cancel()
        self._timer = self._clock.callLater(max(0, first - self.seconds()), self._go)

    def _go(self) -> None:
        """
        Read the connections that are due, C{PER_TURN} at a time.
        """
        now = self.seconds()
        ready: list[Waiting] = []
        while self._ticks and self._ticks[0] * TICK <= now and len(ready) < PER_TURN:
            waiting = self._due[self._ticks[0]]
            room = PER_TURN - len(ready)
            ready += waiting[:room]
            del waiting[:room]
            if not waiting:
                del self._due[heappop(self._ticks)]
        self._number -= len(ready)
        self._timer = None
        for each in ready:
            try:
                each.resume()
            except Exception:
                self._giveUp(each)
        if self._ticks:
            self._start()

    def _giveUp(self, connection: Waiting) -> None:
        """
        End the session of a connection that has raised. The others go on.
        """
        self._failures.add()
        try:
            connection.failed()
        except Exception:
            self._failures.add()

    def stop(self) -> None:
        """
        Stop the timer: no session lives any more.
        """
        self._failures.stop()
        self._due.clear()
        self._ticks.clear()
        self._number = 0
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

"""
Let clients go to any destination that have waited long enough for their own.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.gate import Gate
from iawlb.core.queue import ConnectionQueue
from iawlb.settings import Settings

FINEST = 0.02
"""
The shortest wait between two looks, in seconds: a look asks the line of each
destination for its oldest session.
"""

PER_TURN = 100
"""
The number of sessions that are moved before the reactor has its turn.
"""


class Spiller:
    """
    Lets any destination serve the sessions that have waited for the destination that
    they are bound to for as long as C{spillAfter} says. The time of a pause of the pool
    does not count.

    No session has a timer: one timer waits for the session that has waited longest, as
    long as any waits.
    """

    def __init__(
        self,
        clock: IReactorTime,
        queue: ConnectionQueue,
        settings: Settings,
        gate: Gate,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._settings = settings
        self._gate = gate
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """
        Called when sessions wait, or the settings have changed.
        """
        if self._timer is None and self._settings.spillAfter and len(self._queue):
            self._wait()

    def _wait(self) -> None:
        wait = self._settings.spillAfter
        first = self._queue.firstToSpill()
        if first is not None and self._gate.paused is None:
            wait += max(first, self._gate.resumed) - self._clock.seconds()
        self._lookIn(max(FINEST, wait))

    def _lookIn(self, wait: float) -> None:
        self._timer = self._clock.callLater(wait, self._look)

    def _look(self) -> None:
        after, gate = self._settings.spillAfter, self._gate
        since = self._clock.seconds() - after
        more = False
        if after and gate.paused is None and since >= gate.resumed:
            more = self._queue.spill(since, PER_TURN)
        self._timer = None
        if more:
            self._lookIn(0)
        else:
            self.start()

    def stop(self) -> None:
        """
        Stop the timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

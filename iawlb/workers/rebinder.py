"""
Bind the waiting sessions anew when the destinations have changed.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.queue import ConnectionQueue

EFFORT_PER_TURN = 2000
"""
Effort that is spent on binding before the reactor has its turn: 1 to 2 ms with our own
policies.
"""


class Rebinder:
    """
    Has a queue bind its sessions anew, some in each turn of the reactor.
    """

    def __init__(self, clock: IReactorTime, queue: ConnectionQueue) -> None:
        self._clock = clock
        self._queue = queue
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """
        Begin, because the available destinations have changed.
        """
        self._queue.rebind()
        self._rebindSome()

    def stop(self) -> None:
        """
        Stop, and leave the remaining sessions as they are.
        """
        following, self._next = self._next, None
        if following is not None and following.active():
            following.cancel()

    def _rebindSome(self) -> None:
        self.stop()
        if self._queue.rebindSome(EFFORT_PER_TURN):
            # A session that was handed over may have changed a destination, and so
            # begun this anew.
            self.stop()
            self._next = self._clock.callLater(0, self._rebindSome)

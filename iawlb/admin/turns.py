"""
L{Turns}: the reactor's turns, of which the admin server uses each for one step of one
request.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Turns:
    """
    Lets the steps of all requests follow each other, one in each turn of the reactor.
    However many clients ask for long answers at a time, the reactor waits for no more
    than one step before it serves the connections that the balancer is for.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Deferred[None]] = deque()
        self._timer: IDelayedCall | None = None

    def next(self) -> Deferred[None]:
        """
        Wait for a turn.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = self._clock.callLater(0, self._turn)
        return waiting

    def _turn(self) -> None:
        self._timer = None
        waiting = self._waiting.popleft()
        if self._waiting:
            self._timer = self._clock.callLater(0, self._turn)
        waiting.callback(None)

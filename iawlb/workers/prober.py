"""
Probe a destination while it is down.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from iawlb.backend.connector import Connect, Connected, DestinationConnector
from iawlb.core.destination import HURRY, Destination
from iawlb.core.events import DESTINATION_UP
from iawlb.relay.side import Side
from iawlb.workers.shortage import shortageOf
from iawlb.workers.workerpool import WorkerPool


def sooner(timer: IDelayedCall | None, clock: IReactorTime) -> None:
    """
    Move a timer forward, so that it fires in C{HURRY} seconds at the latest.
    """
    if timer is not None and timer.getTime() - clock.seconds() > HURRY:
        timer.reset(HURRY)


class Prober:
    """
    Probes of one destination: connects to it from time to time until that succeeds.
    """

    def __init__(
        self,
        destination: Destination,
        connector: DestinationConnector,
        pool: WorkerPool,
        onUp: Callable[[], None],
    ) -> None:
        """
        @param onUp: Called when the destination has come up.
        """
        self._destination = destination
        self.connector = connector
        self._pool = pool
        self._onUp = onUp
        self._timer: IDelayedCall | None = None
        self._connect: Connect | None = None

    def start(self) -> None:
        """
        Probe after a wait, which is longer each time.
        """
        if self._destination.draining or self._timer is not None:
            return
        wait = self._destination.nextProbe(random())
        if self._pool.inHurry():
            wait = min(wait, HURRY)
        self._timer = self._pool.clock.callLater(wait, self._probe)

    def stop(self) -> None:
        """
        Stop probing.
        """
        for waiting in (self._timer, self._connect):
            if waiting is not None:
                waiting.cancel()
        self._timer = self._connect = None

    def hurry(self) -> None:
        """
        Shorten the wait for the next probe.
        """
        sooner(self._timer, self._pool.clock)

    def _probe(self) -> None:
        self._timer = None
        try:
            self._connect = self.connector.connect(self._succeeded, self._failed)
        except Exception:
            self._failed(Failure())

    def _succeeded(self, connection: Connected) -> None:
        # TLS would wait for the peer's answer to its end, which nobody reads.
        if isinstance(connection, Side) and connection.whole:
            connection.abort()
        else:
            connection.close()
        self._connect = None
        self._destination.recovered()
        self._pool.events.destination(self._destination, DESTINATION_UP)
        self._onUp()

    def _failed(self, failure: Failure) -> None:
        self._connect = None
        if shortageOf(failure) is None:
            self._destination.failed(failure.getErrorMessage())
        self.start()

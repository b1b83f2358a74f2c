"""
Probe a destination while it is down.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.backend.connector import DestinationConnector
from iawlb.core.destination import HURRY, Destination
from iawlb.health.connecting import ConnectingCheck, headerOf
from iawlb.health.verdict import Verdict
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
        @param onUp: Called when a probe has succeeded.
        """
        self._destination = destination
        self.connector = connector
        self._pool = pool
        self._onUp = onUp
        self._timer: IDelayedCall | None = None
        self._check: ConnectingCheck | None = None

    def start(self) -> None:
        """
        Probe after a wait, which is longer each time.
        """
        if self._destination.draining or self._timer or self._check:
            return
        wait = self._destination.nextProbe(random())
        if self._pool.inHurry():
            wait = min(wait, HURRY)
        self._timer = self._pool.clock.callLater(wait, self._probe)

    def later(self, seconds: float) -> None:
        """
        Probe after a time.
        """
        self._timer = self._pool.clock.callLater(seconds, self._probe)

    def stop(self) -> None:
        """
        Stop probing.
        """
        for waiting in (self._timer, self._check):
            if waiting is not None:
                waiting.cancel()
        self._timer = self._check = None

    def hurry(self) -> None:
        """
        Shorten the wait for the next probe.
        """
        sooner(self._timer, self._pool.clock)

    def _probe(self) -> None:
        self._timer = None
        header = headerOf(self._destination.settings)
        self._check = ConnectingCheck(self.connector, None, header)
        self._check.start(self._done)

    def _done(self, verdict: Verdict) -> None:
        self._check = None
        if verdict.passed:
            self._onUp()
            return
        if verdict.passed is not None:
            self._destination.failed(verdict.why)
        self.start()

"""
The moments in which a worker does not pull, because a connect has failed by chance or
for lack of something on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Protocol

from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from iawlb.backend.shortage import Shortage, ShortageLog, shortageOf
from iawlb.core.destination import Destination
from iawlb.workers.prober import sooner
from iawlb.workers.timers import Timers
from iawlb.workers.workerpool import WorkerPool

AGAIN = 0.01
"""
How long after a first failure the destination is tried again, in seconds: a program
that did not listen for a moment listens again by then, and the client hardly notices.
"""

MACHINE_PAUSE = 0.1
"""
How long a worker does not pull after a connect has failed for lack of something that
all connects of this machine need, in seconds.
"""

QUICK = 1.0
"""
If a connect failed within this time, in seconds, the destination is tried again before
it counts as down. A connect that took longer has cost its client enough.
"""


class HeldWorker(Protocol):
    """
    What L{HoldOff} needs of its worker.
    """

    destination: Destination
    heldOff: bool

    def check(self) -> None:
        """
        Begin or stop to wait for a session, as the worker's state requires.
        """


class HoldOff:
    """
    Suspends a worker's pulling for a moment.
    """

    def __init__(self, worker: HeldWorker, pool: WorkerPool, timers: Timers) -> None:
        self._worker = worker
        self._pool = pool
        self._timers = timers
        self._holding: IDelayedCall | None = None
        self._stopping = False
        self._shortages = ShortageLog(pool.clock, worker.destination.name)

    def start(self) -> None:
        """
        Suspend the pulling again where that is needed, after L{stop}.
        """
        self._stopping = False

    def stop(self) -> None:
        """
        Write what is left to be logged, and suspend nothing any more.
        """
        self._stopping = True
        self._shortages.stop()

    def suffices(self, failure: Failure, began: float) -> bool:
        """
        Stop pulling for a moment, if a connect that has failed does not mean that the
        destination is down: this machine is short of something, or it is the first
        failure, and a quick one.

        @param began: When the connect began.
        @return: Whether it does not mean that.
        """
        shortage, now = shortageOf(failure), self._pool.clock.seconds()
        if shortage is not None:
            self._runShort(shortage)
            return True
        quick = now - began <= QUICK and not failure.check(ConnectTimeout)
        if not quick or not self._worker.destination.failedOnce(began, now):
            return False
        if not self._worker.heldOff:
            self._begin(AGAIN, lambda _: None)
        return True

    def _runShort(self, shortage: Shortage) -> None:
        """
        Stop pulling for a moment, because this machine is short of something.
        """
        self._shortages.add(shortage)
        if self._worker.heldOff or self._stopping:
            return
        if shortage.machine:
            self._begin(MACHINE_PAUSE, self._pool.heldOffChanged)
        else:
            # The other destinations have what they need, and serve this one's sessions
            # too.
            wait = self._worker.destination.nextPause(random())
            self._begin(wait, self._destinationChanged)

    def hurry(self) -> None:
        """
        Pull again soon, because sessions wait and no destination is up.
        """
        sooner(self._holding, self._pool.clock)

    def _begin(self, seconds: float, changed: Callable[[bool], None]) -> None:
        """
        Stop pulling for a moment.

        @param changed: Called with True now, and with False when the moment is over.
        """

        def letGo() -> None:
            self._worker.heldOff = False
            self._holding = None
            changed(False)
            self._worker.check()

        self._worker.heldOff = True
        self._holding = self._timers.add(seconds, letGo)
        self._worker.check()
        changed(True)

    def _destinationChanged(self, heldOff: bool) -> None:
        self._worker.destination.heldOff = heldOff
        self._pool.destinationChanged()

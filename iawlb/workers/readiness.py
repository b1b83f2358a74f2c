"""
Find out when a destination that was started is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.destination import Destination
from iawlb.health.verdict import Check, Verdict

SOONEST = 0.01
LATEST = 0.05
"""
The first and the longest wait before the next check of a destination that is starting
and is not ready, in seconds.
"""


class CheckingWorker(Protocol):
    """
    What L{Readiness} needs of its worker.
    """

    destination: Destination

    def readiness(self) -> Check:
        """
        Make the check that shows whether the destination is ready.
        """


class Readiness:
    """
    Checks a destination that was started until it is ready.

    @ivar why: Why it was not, when it was last checked.
    """

    def __init__(
        self,
        clock: IReactorTime,
        worker: CheckingWorker,
        onReady: Callable[[], None],
    ) -> None:
        """
        @param onReady: Called when the destination is ready, and C{readyAfter} has
            passed.
        """
        self.why = ""
        self._clock = clock
        self._worker = worker
        self._onReady = onReady
        self._wait = SOONEST
        # The next step; the check that is under way, and the end of its time.
        self._next: IDelayedCall | None = None
        self._check: Check | None = None
        self._late: IDelayedCall | None = None

    def start(self) -> None:
        """
        Begin to check.
        """
        self._wait = SOONEST
        self._try()

    def stop(self) -> None:
        """
        Check no more.
        """
        self._drop()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _try(self) -> None:
        self._next = None
        limit = self._worker.destination.settings.checkTimeout
        self._late = self._clock.callLater(limit, self._noAnswer, limit)
        try:
            check = self._check = self._worker.readiness()
            check.start(self._checked)
        except Exception as error:
            self._drop()
            self._notReady(f"cannot check: {error}")

    def _noAnswer(self, limit: float) -> None:
        self._late = None
        self._drop()
        self._notReady(f"no answer in {limit:g} s")

    def _checked(self, verdict: Verdict) -> None:
        self._check = None
        self._drop()
        if not verdict.passed:
            self._notReady(verdict.why)
            return
        wait = self._worker.destination.settings.readyAfter
        self._next = self._clock.callLater(wait, self._settled)

    def _settled(self) -> None:
        self._next = None
        self._onReady()

    def _notReady(self, why: str) -> None:
        self.why = why
        self._next = self._clock.callLater(self._wait, self._try)
        self._wait = min(2 * self._wait, LATEST)

    def _drop(self) -> None:
        """
        Give up the check that is under way.
        """
        check, self._check = self._check, None
        late, self._late = self._late, None
        for each in (check, late):
            if each is not None:
                each.cancel()

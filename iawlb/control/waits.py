"""
Operations that wait for something.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.control.errors import Conflict

STEP = 0.05
"""
The time between two looks at what is waited for, in seconds.
"""

MOST = 10_000
"""
The number of operations that may wait at a time.
"""

T = TypeVar("T")

log = Logger()


class Wait:
    """
    One operation that waits.
    """

    def __init__(
        self, condition: Callable[[], bool], end: float, waiting: Deferred[bool]
    ) -> None:
        self.condition = condition
        self.end = end
        self.waiting = waiting


class Waits:
    """
    Operations that wait until something is so. One timer looks at all of them while
    there are any: sessions end too often for each end to be reported to operations.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._all: dict[Deferred[bool], Wait] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._all)

    def until(self, condition: Callable[[], bool], seconds: float) -> Deferred[bool]:
        """
        Wait until a condition is true.

        @return: Fires with True then, and with False when the time is over or L{stop}
            is called. Cancelling it gives the wait up.
        @raise Conflict: Too many operations wait already.
        """
        if len(self._all) >= MOST:
            raise Conflict(f"{MOST} operations wait already; try again later")
        waiting: Deferred[bool] = Deferred(self._giveUp)
        end = self._clock.seconds() + seconds
        self._all[waiting] = Wait(condition, end, waiting)
        self._look([self._all[waiting]])
        return waiting

    def _giveUp(self, waiting: Deferred[bool]) -> None:
        del self._all[waiting]
        self._setTimer()

    def check(self) -> None:
        """
        Look at all conditions now, because an operation has changed something.
        """
        self._look(list(self._all.values()))

    def stop(self) -> None:
        """
        End all waits, as if their time were over.
        """
        for each in list(self._all.values()):
            each.end = 0.0
        self.check()

    def _step(self) -> None:
        self._timer = None
        self.check()

    def _setTimer(self) -> None:
        """
        Set the timer if anything waits, or else stop it.
        """
        if self._all and self._timer is None:
            self._timer = self._clock.callLater(STEP, self._step)
        elif not self._all and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, waits: list[Wait]) -> None:
        now = self._clock.seconds()
        for each in waits:
            if each.waiting not in self._all:
                continue  # another's end has ended this one, too
            result: bool | Failure = False
            try:
                result = each.condition()
            except Exception:
                result = Failure()
            if result or each.end <= now:
                del self._all[each.waiting]
                each.waiting.callback(result)
        self._setTimer()


def apart(operation: Coroutine[Any, Any, T]) -> Deferred[T]:
    """
    Run an operation to its end, also if nobody waits for the result any more.

    @return: Fires with the result. Cancelling it leaves the operation as it is.
    """
    waiting: Deferred[T] = Deferred()

    def ended(result: Any) -> None:
        if not waiting.called:
            waiting.callback(result)
        elif isinstance(result, Failure):
            log.failure("an operation that nobody waits for has failed", result)

    Deferred.fromCoroutine(operation).addBoth(ended)
    return waiting

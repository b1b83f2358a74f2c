"""
Time that no change of the wall clock moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import Any

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.error import AlreadyCalled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class MonotonicCall:
    """
    A call that is due at a moment of the monotonic clock. A reactor whose clock jumps
    ahead fires too early; the call then waits for the rest of its time.
    """

    def __init__(
        self, reactor: IReactorTime, delay: float, call: Callable[[], object]
    ) -> None:
        self._reactor = reactor
        self._due = monotonic() + delay
        self._call = call
        self._waiting: IDelayedCall | None = reactor.callLater(delay, self._fire)

    def _fire(self) -> None:
        left = self._due - monotonic()
        if left > 0:
            self._waiting = self._reactor.callLater(left, self._fire)
        else:
            # No reference cycle is left for the garbage collector.
            self._waiting = None
            self._call()

    def getTime(self) -> float:
        """
        Return when the call is due, in the seconds of the monotonic clock.
        """
        return self._due

    def cancel(self) -> None:
        """
        Cancel the call.
        """
        self._pending().cancel()

    def delay(self, secondsLater: float) -> None:
        """
        Delay the call by some more seconds.
        """
        self._due += secondsLater
        self._pending().delay(secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        """
        Set the call to be due some seconds from now.
        """
        self._due = monotonic() + secondsFromNow
        self._pending().reset(secondsFromNow)

    def active(self) -> bool:
        """
        Return whether the call is still to come.
        """
        return self._waiting is not None and bool(self._waiting.active())

    def _pending(self) -> IDelayedCall:
        if self._waiting is None:
            raise AlreadyCalled()
        return self._waiting


@implementer(IReactorTime)
class MonotonicClock:
    """
    The monotonic time of a reactor that uses the wall clock: C{seconds} are those of
    the monotonic clock, and no call is made earlier than its time. (Only the reactor
    itself can call in time when the wall clock is set back: see L{useMonotonicTime}.)
    """

    seconds = staticmethod(monotonic)

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> IDelayedCall:
        """
        Call a function after some seconds.
        """
        return MonotonicCall(self._reactor, delay, lambda: callable(*args, **kw))

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        List the calls of the reactor.
        """
        return self._reactor.getDelayedCalls()


def monotonicClock(reactor: Any) -> Any:
    """
    Return a clock that no change of the wall clock moves, for a reactor. This is the
    reactor itself if its time is monotonic, like that of the command, or that of a
    clock in a test.
    """
    if isinstance(reactor, ReactorBase) and reactor.seconds is time:
        return MonotonicClock(reactor)
    return reactor


def useMonotonicTime(reactor: Any) -> None:
    """
    Make a reactor of Twisted's use the monotonic clock from now on. The calls that are
    scheduled already keep their time.
    """
    if not isinstance(reactor, ReactorBase) or reactor.seconds is not time:
        return
    ahead = time() - monotonic()
    for call in reactor.getDelayedCalls():
        if isinstance(call, DelayedCall):  # pragma: no branch  # all are
            call.time -= ahead
            call.seconds = monotonic
    reactor.seconds = monotonic

"""
Find destinations that close connections without a byte.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.destination import Destination
from iawlb.core.session import Session

QUICKLY = 0.05
"""
A connection that the destination closes within this time, in seconds, without having
sent a byte, counts as one that it did not serve.
"""

FIRST_HOLD = 1.0
LONGEST_HOLD = 60.0
"""
How long a destination gets no sessions that was ejected, in seconds: the first time,
and at most. The time doubles as long as the first session after it is closed in the
same way.
"""


class EjectingWorker(Protocol):
    """
    What an L{Ejector} needs of its worker.
    """

    destination: Destination
    clock: IReactorTime

    def goDown(self, why: str) -> None:
        """
        Called when the destination is down.
        """

    def isLast(self) -> bool:
        """
        Return whether no other destination takes sessions.
        """


class Ejector:
    """
    Ejects a destination that accepts connections and closes them at once, such as the
    port of a container whose program has died. Under the policy C{least} it would get
    most of the sessions, since it is always the idlest.

    A session counts if its destination has ended it first, or reset it, within
    L{QUICKLY} and without a byte. It counts neither way if the client has left first (a
    port scan, the check of another balancer, a client that has nothing to ask), or if
    the destination took longer. A session in which the destination has sent a byte
    shows that it serves.

    After its time, an ejected destination gets one session, and more when that one was
    served, or was kept longer than L{QUICKLY}.
    """

    def __init__(self, worker: EjectingWorker, onServes: Callable[[], None]) -> None:
        """
        @param onServes: Called when a destination that was ejected serves again.
        """
        self._worker = worker
        self._onServes = onServes
        self._row = 0
        self._hold = FIRST_HOLD
        self._until = 0.0
        self._timers: dict[Session, IDelayedCall] = {}
        # Whether the destination is tried with one session.
        self.trying = False

    @property
    def held(self) -> float:
        """
        How much longer the destination gets no sessions, in seconds.
        """
        return max(0.0, self._until - self._worker.clock.seconds())

    def hurry(self) -> None:
        """
        End the time in which the destination gets no sessions.
        """
        self._until = 0.0

    def tryAgain(self) -> bool:
        """
        Begin to try the destination with one session, if it was ejected.

        @return: Whether it was.
        """
        destination = self._worker.destination
        if self._row < destination.settings.ejectAfter or not self._row:
            return False
        self.trying = True
        destination.startSlots = 1
        return True

    def stop(self) -> None:
        """
        Forget what was counted.
        """
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()
        self._row = 0
        self._hold = FIRST_HOLD
        self._until = 0.0
        self.trying = False

    def relayed(self, session: Session) -> None:
        """
        Watch a session that was connected.
        """
        relay: Any = session.relay
        relay.onFirstEnd = partial(self._ended, session)
        if self.trying:
            self._timers[session] = self._worker.clock.callLater(
                QUICKLY, self._kept, session
            )

    def _kept(self, session: Session) -> None:
        """
        Called when the session with which the destination is tried was not closed.
        """
        del self._timers[session]
        self._served()

    def _ended(self, session: Session, byDestination: bool) -> None:
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()
        now = self._worker.clock.seconds()
        assert session.connected is not None
        if session.bytesOut:
            self._served()
        elif byDestination and now - session.connected <= QUICKLY:
            self._notServed()

    def _served(self) -> None:
        self._row = 0
        self._hold = FIRST_HOLD
        if self.trying:
            self.trying = False
            self._onServes()

    def _notServed(self) -> None:
        destination = self._worker.destination
        self._row += 1
        most = destination.settings.ejectAfter
        # There is no number if nobody is ejected any more.
        if not most or self._row < most or not destination.isUp:
            return
        wasTried, self.trying = self.trying, False
        if self._worker.isLast():
            if wasTried:
                self._onServes()  # nobody else does
            return
        self._until = self._worker.clock.seconds() + self._hold
        self._hold = min(2 * self._hold, LONGEST_HOLD)
        self._worker.goDown(
            f"closed {self._row} connections in a row within {QUICKLY * 1000:g} ms, "
            "without a byte"
        )

"""
What has to be done before a client enters the queue, one step after the other: for
instance its PROXY header is read, or its first byte is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from iawlb.core.origin import PoolCount
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.frontend.admission import Admission
from iawlb.frontend.heads import Head
from iawlb.frontend.patience import Patience, Waiting


class Enterable(Protocol):
    """
    A pool, as far as a client needs it to enter its queue.
    """

    count: PoolCount
    admission: Admission


class Arriving(Waiting, Protocol):
    """
    A client on its way into the queue, as a step sees it.

    """

    @property
    def session(self) -> Session:
        """
        The client's session.
        """

    @property
    def head(self) -> Head:
        """
        The client's first bytes.
        """

    def proceed(self) -> None:
        """
        Called by a step that is done: do the next.
        """

    def moveTo(self, pool: Enterable) -> None:
        """
        Called by a step that has found that the client belongs to another pool.
        """

    def refuse(self, outcome: Outcome, why: str = "") -> None:
        """
        Called by a step that has failed: close the client's connection.

        @param why: The reason, for a line in the log; without it there is no line.
        """

    def explain(self, why: str) -> None:
        """
        Called by a step that has failed: write a line in the log, at most one a second.
        """

    def left(self) -> None:
        """
        Called by a step that has found that the client has left.
        """


class Step:
    """
    One thing that has to be done before a client enters the queue. A listener has one
    object of a step for all its clients.

    @cvar late: How a session ends whose client takes too long.
    @cvar gone: How a session ends whose client leaves during the step.
    @cvar state: A word for the state of a session during the step.
    """

    late: Outcome
    gone: Outcome
    state = "handshake"

    def __init__(self, timeout: float = 0.0) -> None:
        """
        @param timeout: How long the step may take, in seconds; 0 is no limit.
        """
        self.timeout = timeout

    def begin(self, arrival: Arriving) -> None:
        """
        Begin the step, and call C{proceed}, C{refuse} or C{left} of the client when it
        is done, now or later.
        """
        raise NotImplementedError

    def cancel(self, arrival: Arriving) -> None:
        """
        Called when the client has left, or its time is over, while the step was under
        way. What waits for the client's first bytes is given up already.
        """

    def lost(self, arrival: Arriving, side: Any) -> Outcome:
        """
        Called when the client's connection is lost during the step.

        @return: How the session ends.
        """
        return self.gone

    def sideReady(self, arrival: Arriving, side: Any) -> None:
        """
        Called when the side is ready that the step has put in the place of the client's
        connection, as TLS does.
        """
        raise NotImplementedError


class Steps:
    """
    The steps of a listener, in their order, and the clients that are on each.
    """

    def __init__(self, clock: IReactorTime, steps: Sequence[Step]) -> None:
        self._steps = [(each, Patience(clock, each.timeout)) for each in steps]

    def __iter__(self) -> Iterator[tuple[Step, Patience]]:
        return iter(self._steps)

    def __bool__(self) -> bool:
        """
        Whether a client is on a step, so that it may still come to the others.
        """
        return any(patience for _, patience in self._steps)

    def stop(self) -> None:
        """
        Stop all timers.
        """
        for _, patience in self._steps:
            patience.stop()

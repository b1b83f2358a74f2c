"""
The user's own choice of where a client goes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from inspect import isawaitable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.python.failure import Failure

from iawlb.core.destination import Destination
from iawlb.core.outcome import Outcome
from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import Session
from iawlb.frontend.steps import Arriving, Enterable, Step


class Choice(Enum):
    """
    What C{choose} may return beside a pool or a destination.
    """

    WAIT = "wait"
    """
    The session waits in the queue of its pool, as it would without C{choose}.
    """

    REFUSE = "refuse"
    """
    The client's connection is closed.
    """


Chosen: TypeAlias = Any
"""
A L{Choice}, a pool, a destination, or L{None}, which is L{Choice.WAIT}.
"""

Choose: TypeAlias = Callable[[Session], Chosen | Awaitable[Chosen]]
"""
A function or a coroutine function that is called for each client before it enters the
queue; it may also return a Deferred.
"""

Found: TypeAlias = tuple[Enterable, Destination | None]
"""
A pool, and the destination in it that alone may serve the session, if any.
"""


class ChooseStep(Step):
    """
    Asks the user's function where a client goes. If the function fails, that one
    session ends, and the failure is logged.
    """

    late = Outcome.CHOICE_TIMEOUT
    gone = Outcome.CLIENT_LEFT_CHOICE

    def __init__(
        self,
        timeout: float,
        choose: Choose,
        find: Callable[[Chosen], Found],
        failures: FailureLog,
    ) -> None:
        """
        @param timeout: How long the function may take, in seconds; 0 is no limit.
        @param find: Returns what was chosen; raises L{ValueError} if it is neither a
            pool nor a destination of the balancer.
        """
        super().__init__(timeout)
        self._choose = choose
        self._find = find
        self._failures = failures
        self._waiting: dict[Arriving, Deferred[Any]] = {}

    def begin(self, arrival: Arriving) -> None:
        """
        Ask the function.
        """
        asked: Deferred[Chosen] = maybeDeferred(self._ask, arrival.session)
        self._waiting[arrival] = asked
        asked.addCallback(lambda chosen: self._chosen(arrival, chosen))
        asked.addErrback(lambda failure: self._failed(arrival, failure))

    def _ask(self, session: Session) -> Any:
        answer = self._choose(session)
        if isawaitable(answer) and not isinstance(answer, Deferred):
            return ensureDeferred(answer)  # type: ignore[arg-type]  # a coroutine
        return answer

    def cancel(self, arrival: Arriving) -> None:
        """
        Give up waiting for the answer.
        """
        self._waiting.pop(arrival).cancel()

    def _chosen(self, arrival: Arriving, chosen: Chosen) -> None:
        if arrival not in self._waiting:
            return  # an answer although it was cancelled
        if chosen is Choice.REFUSE:
            del self._waiting[arrival]
            arrival.refuse(Outcome.REFUSED)
            return
        if chosen is not None and chosen is not Choice.WAIT:
            pool, destination = self._find(chosen)
            arrival.moveTo(pool)
            if destination is not None:
                arrival.session.learn().chosen = destination
        del self._waiting[arrival]
        arrival.proceed()

    def _failed(self, arrival: Arriving, failure: Failure) -> None:
        if self._waiting.pop(arrival, None) is None:
            return  # cancelled
        self._failures.add(failure)
        arrival.refuse(Outcome.CHOICE_FAILED)

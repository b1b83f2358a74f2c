"""
How long a session that passes bytes may be silent: rules without I/O.
"""

from __future__ import annotations

from iawlb.core.outcome import Outcome
from iawlb.core.session import IRelay
from iawlb.relay.keepalive import KeepAlive
from iawlb.relay.kinds import Reports
from iawlb.settings import Settings

COARSEST = 0.5
FINEST = 0.02
"""
How much longer than its time-out a session may live, in seconds: a tenth of the
shortest time-out that is set, but no more than C{COARSEST} and no less than C{FINEST}.
Sessions that are due within such a time, a grain, are looked at together.
"""


class TimeLimits:
    """
    The time-outs of a session that is connected.

    @ivar reports: What the relays have to report, since a time-out may begin then that
        is shorter than the one for all sessions.
    @ivar first: How long after their connect sessions are looked at for the first time;
        0 is never.
    @ivar shortest: The shortest time that is set, or C{COARSEST} if all are longer.
    @ivar grain: Sessions that are due within so many seconds are looked at together.
    """

    def __init__(self, settings: Settings, keepAlive: KeepAlive) -> None:
        self._idle = settings.idleTimeout
        halfClosed = settings.halfClosedTimeout
        self._halfClosed = self._idle if isinstance(halfClosed, str) else halfClosed
        self._answer = settings.answerTimeout
        self._client = settings.clientTimeout
        times = (self._idle, self._halfClosed, self._answer, self._client)
        shortest = min(filter(None, times), default=10 * COARSEST)
        self.grain = max(FINEST, min(COARSEST, shortest / 10))
        first = (self._idle, self._client, keepAlive.first)
        self.first = min(filter(None, first), default=0.0)
        self.shortest = min(COARSEST, shortest, self.first or COARSEST)
        self.reports = self._reports()

    def _reports(self) -> Reports:
        if self._client and self._soon(self._client):
            return Reports.TURNS
        if self._soon(self._answer) or self._soon(self._halfClosed):
            return Reports.QUESTIONS
        return Reports.NOTHING

    def _soon(self, limit: float) -> bool:
        """
        Return whether a time-out is set that is shorter than the idle time-out.
        """
        return 0 < limit and (not self._idle or limit < self._idle)

    def silence(self, relay: IRelay) -> tuple[float, Outcome]:
        """
        Return which time-out applies to a session, in seconds, and the outcome when it
        is over.
        """
        limit, outcome = self._idle, Outcome.IDLE_TIMEOUT
        halfClosed = relay.halfClosed
        if halfClosed is not None and self._halfClosed:
            limit, outcome = self._halfClosed, halfClosed
        if relay.asked:
            if self._answer and (not limit or self._answer < limit):
                limit, outcome = self._answer, Outcome.ANSWER_TIMEOUT
        elif halfClosed is None and self._client:
            if not limit or self._client < limit:
                limit, outcome = self._client, Outcome.CLIENT_TIMEOUT
        return limit, outcome

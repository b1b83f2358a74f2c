"""
How long a session that passes bytes may be silent, and may live: rules without I/O.
"""

from __future__ import annotations

from math import inf

from iawlb.core.outcome import Outcome
from iawlb.core.session import IRelay, Session
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


PARTING = 5.0
"""
How long a session that has reached its age may take nothing, or not close, in seconds,
until it is reset; the half-closed time-out, if that is shorter.
"""

LAST = 60.0
"""
How long such a session may live after its age, in seconds, while its peers take what is
still to be delivered.
"""

_GOLDEN = 0.6180339887498949
"""
Of the multiples of this number, the parts behind the point are spread most evenly.
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
    @ivar parting: How long a session that has reached its age may take nothing.
    """

    def __init__(self, settings: Settings, keepAlive: KeepAlive) -> None:
        self._idle = settings.idleTimeout
        halfClosed = settings.halfClosedTimeout
        self._halfClosed = self._idle if isinstance(halfClosed, str) else halfClosed
        self._answer = settings.answerTimeout
        self._client = settings.clientTimeout
        self._age = settings.maxAge
        self._jitter = settings.maxAgeJitter
        self.parting = min(PARTING, self._halfClosed or PARTING)
        youngest = self._age * (1 - self._jitter)
        times = (self._idle, self._halfClosed, self._answer, self._client, youngest)
        shortest = min(filter(None, times), default=10 * COARSEST)
        self.grain = max(FINEST, min(COARSEST, shortest / 10))
        first = (self._idle, self._client, youngest, keepAlive.first)
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

    def endOf(self, session: Session) -> float:
        """
        Return when a session has reached its age.
        """
        if not self._age:
            return inf
        share = session.number * _GOLDEN % 1
        return (session.connected or 0) + self._age * (1 - self._jitter * share)

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

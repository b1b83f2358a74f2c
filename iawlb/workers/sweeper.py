"""
All time-outs of sessions, by one coarse sweep.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from iawlb.core.outcome import Outcome
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import IRelay, Session
from iawlb.core.table import SessionTable
from iawlb.relay.context import RelayContext
from iawlb.settings import Settings

COARSEST = 0.5
FINEST = 0.02
"""
Longest and shortest time between two sweeps, in seconds. A sweep comes at least
ten times in the shortest time-out that is set, so no session outlives its
time-out by more than a tenth of it or C{FINEST}.
"""

_CLOSED = object()
"""
How far a session has come whose time was over at the last sweep.
"""


class Sweeper:
    """
    Ends the sessions whose time is over, and finds those that were reset while
    nobody read from them. It runs only while there are sessions.
    """

    def __init__(
        self,
        clock: IReactorTime,
        table: SessionTable,
        queue: ConnectionQueue,
        context: RelayContext,
        settings: Settings,
    ) -> None:
        self._clock = clock
        self._table = table
        self._queue = queue
        self._context = context
        self._settings = settings
        # How far each session had come, and since when it has come no further.
        self._seen: dict[Session, tuple[object, float]] = {}
        self._loop = LoopingCall(self.sweep)
        self._loop.clock = clock
        timeouts = (
            settings.queueTimeout,
            settings.handshakeTimeout,
            settings.idleTimeout,
            settings.halfClosedTimeout,
            settings.answerTimeout,
        )
        shortest = min((each for each in timeouts if each), default=COARSEST * 10)
        self._period = max(FINEST, min(COARSEST, shortest / 10))
        self._done: Deferred[Any] = succeed(None)

    def start(self) -> None:
        """
        Sweep from now on; it stops by itself when no session lives.
        """
        if not self._loop.running:
            self._done = self._loop.start(self._period, now=False)

    def stop(self) -> Deferred[Any]:
        """
        Sweep no more.
        """
        if self._loop.running:
            self._loop.stop()
        return self._done

    def sweep(self) -> None:
        """
        Look at every session once.
        """
        now = self._clock.seconds()
        self._context.sends.check()
        self._context.resets.check()
        settings = self._settings
        if settings.queueTimeout:
            for session in self._queue.queuedBefore(now - settings.queueTimeout):
                session.holder.dismiss(Outcome.QUEUE_TIMEOUT)
        seen: dict[Session, tuple[object, float]] = {}
        for session in self._table:
            if session.outcome is not None:
                continue  # the end of another was its own
            relay = session.relay
            if relay is not None:
                seen[session] = self._relayed(session, relay, now)
            elif (
                settings.handshakeTimeout
                and not session.side.ready
                and now - session.accepted > settings.handshakeTimeout
            ):
                session.holder.dismiss(Outcome.HANDSHAKE_TIMEOUT)
        self._seen = seen
        if not len(self._table):
            self._loop.stop()

    def _relayed(
        self, session: Session, relay: IRelay, now: float
    ) -> tuple[object, float]:
        """
        Look at a session that passes bytes.

        @return: How far it has come, and since when.
        """
        progress = relay.progress()
        before = self._seen.get(session)
        if before is not None and before[0] is _CLOSED:
            # It has not closed in order since the last sweep, so it is cut off.
            relay.abort(Outcome.IDLE_TIMEOUT)
            return before
        if before is None or before[0] != progress:
            return progress, now
        quiet = now - before[1]
        settings = self._settings
        limit, outcome = settings.idleTimeout, Outcome.IDLE_TIMEOUT
        if relay.halfClosed is not None and settings.halfClosedTimeout:
            limit, outcome = settings.halfClosedTimeout, relay.halfClosed
        answer = settings.answerTimeout
        if relay.asked and answer and (not limit or answer < limit):
            limit, outcome = answer, Outcome.ANSWER_TIMEOUT
        if limit and quiet >= limit:
            if relay.outcome is None:
                relay.close(outcome)
                return _CLOSED, now
            relay.abort(outcome)
        return before

"""
Sessions whose destination is timed, for policies that want to know how long each
destination takes to answer.
"""

from __future__ import annotations

from typing import Any, cast

from iawlb.backend.connector import Connected
from iawlb.core.destination import Destination
from iawlb.core.queue import ConnectionQueue
from iawlb.core.quick import timesOf
from iawlb.core.session import IRelay
from iawlb.relay.measured import Measured
from iawlb.workers.serving import Serving

AT_ONCE = 1.0
"""
The time in seconds within which a destination that closes has failed, although its
client has sent nothing. One that closes later has waited for a question long enough.
"""


class MeasuredServing(Serving):
    """
    A session whose destination is timed until the first byte of its answer.
    """

    def _relayTo(self, destination: Connected) -> IRelay:
        relay = super()._relayTo(destination)
        measured = cast(Measured, relay)
        measured.seconds = self._worker.clock.seconds
        measured.onAnswer = self._answered
        return relay

    def _waited(self) -> tuple[float, float]:
        """
        Return for how long the client has waited for the answer, and the time.
        """
        now = self._worker.clock.seconds()
        began = cast(Measured, self._relay).askedAt
        if began is None:
            began = self._session.connected
        assert began is not None
        return now - began, now

    def _answered(self) -> None:
        times = self._worker.destination.times
        if times is not None:  # the policy may have changed since
            times.add(*self._waited())

    def _released(self) -> None:
        relay: Any = self._relay
        if not self._given and relay is not None and relay.onAnswer is not None:
            relay.onAnswer = None
            self._unanswered(relay)
        super()._released()

    def _unanswered(self, relay: Any) -> None:
        """
        Called when the session ends without an answer.
        """
        times = self._worker.destination.times
        if times is None:
            return
        seconds, now = self._waited()
        if relay.client.lost:
            if relay.asked:
                times.unanswered(seconds, now)
        elif relay.asked or (not relay.client.ended and seconds < AT_ONCE):
            times.failed(now)


def servingFor(queue: ConnectionQueue, destination: Destination) -> type[Serving]:
    """
    Return how a destination's sessions are served, as the policy asks for: whether they
    are timed. Begin, or end, to keep the times.
    """
    if not queue.measures:
        destination.times = None
        return Serving
    timesOf(destination)
    return MeasuredServing

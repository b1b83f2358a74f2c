"""
Log messages of the process while it waits for connections to finish.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.balancer import Balancer

EVERY = 5.0
"""
The time between two messages that the process still waits, in seconds.
"""


class DrainReport:
    """
    Log messages that say how many connections a stopping balancer waits for, and for
    how long.
    """

    log = Logger()

    def __init__(self, reactor: Any, balancer: Balancer) -> None:
        self._reactor = reactor
        self._balancer = balancer
        self._end = 0.0
        self._waiting: IDelayedCall | None = None

    def follow(self, stopping: Deferred[None]) -> None:
        """
        Log messages until the balancer has stopped.
        """
        left = self._balancer.settings.drainTimeout
        if not left or not self._balancer.sessions:
            return
        self.log.info(
            "waiting for {what}, up to {left:g} s; Ctrl-C or SIGTERM once more "
            "closes {them} now",
            what=self._connections(),
            them=self._pronoun(),
            left=left,
        )
        self._end = self._reactor.seconds() + left
        self._waiting = self._reactor.callLater(EVERY, self._report)
        stopping.addBoth(self._stopped)

    def cut(self) -> None:
        """
        Log that the connections left are closed now.
        """
        self._cancel()
        if self._balancer.sessions:
            self.log.info("closing {what} now", what=self._connections())

    def _report(self) -> None:
        self._waiting = None
        left = self._end - self._reactor.seconds()
        # The connections left have been closed by then, and are about to be gone.
        if left > 0:
            self.log.info(
                "waiting for {what}, up to {left:.0f} s more",
                what=self._connections(),
                left=left,
            )
            self._waiting = self._reactor.callLater(EVERY, self._report)

    def _stopped(self, result: Failure | None) -> Failure | None:
        self._cancel()
        return result

    def _cancel(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _connections(self) -> str:
        number = len(self._balancer.sessions)
        return f"{number} connection{'' if number == 1 else 's'}"

    def _pronoun(self) -> str:
        return "it" if len(self._balancer.sessions) == 1 else "them"

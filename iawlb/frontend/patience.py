"""
How long clients may take for something before they enter the queue.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

PER_TURN = 100
"""
The number of clients that are closed before the reactor has its turn.
"""


class Waiting(Protocol):
    """
    A client that is waited for.
    """

    def timeOver(self) -> None:
        """
        Called when the client has taken too long.
        """


class Patience:
    """
    The clients that are waited for, all equally long. Each is told when its time is
    over.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        """
        @param timeout: How long a client may take, in seconds; 0 is no limit.
        """
        self._clock = clock
        self._timeout = timeout
        # All clients have the same time-out, so they are due in the order in which they
        # came.
        self._due: OrderedDict[Waiting, float] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """
        Count the clients that are waited for, also those without a time-out.
        """
        return len(self._due)

    def add(self, client: Waiting) -> None:
        """
        Begin to wait for a client.
        """
        timeout = self._timeout
        if not timeout:
            self._due[client] = inf
            return
        self._due[client] = self._clock.seconds() + timeout
        if self._timer is None:
            self._timer = self._clock.callLater(timeout, self._look)

    def remove(self, client: Waiting) -> None:
        """
        Stop waiting for a client.
        """
        self._due.pop(client, None)

    def _look(self) -> None:
        """
        Tell the clients whose time is over.
        """
        self._timer = None
        now = self._clock.seconds()
        for _ in range(PER_TURN):
            client = next(iter(self._due), None)
            if client is None:
                return
            if self._due[client] > now:
                break
            self.remove(client)
            try:
                client.timeOver()
            except Exception:
                # A transport from another library may refuse to be closed.
                self.log.failure("ending a client that took too long has failed")
        wait = next(iter(self._due.values()), now) - now
        self._timer = self._clock.callLater(max(0, wait), self._look)

    def stop(self) -> None:
        """
        Stop the timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

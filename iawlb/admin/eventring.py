"""
L{EventRing}: the last events of a balancer, numbered.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from time import time
from typing import Any

from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.events import IObserver
from iawlb.core.session import Session
from iawlb.core.text import printable
from iawlb.observe.moments import isoTime

MOST_EVENTS = 1000
"""
How many events are kept.
"""

LONGEST_TEXT = 500
"""
The longest text of an event.
"""

EVENT_TYPES = (
    "destination-added",
    "destination-down",
    "destination-up",
    "destination-paused",
    "destination-resumed",
    "destination-draining",
    "destination-drained",
    "destination-removed",
    "destination-changed",
    "destination-withdrawn",
    "destination-returned",
    "destination-on-standby",
    "destination-needed",
    "destination-asleep",
    "destination-waking",
    "destination-awake",
    "listener-listening",
    "listener-refusing",
    "listener-closed",
    "pool-paused",
    "pool-resumed",
    "pool-stopped",
    "pool-added",
    "pool-removed",
    "pool-drained",
    "pool-changed",
    "reload",
    "reload-failed",
    "session-killed",
    "stopping",
    "log-dropped",
    "audit",
)
"""
The types of events that readers can ask for.
"""

_NO_CHANGE = frozenset(
    (
        "destination-down",
        "destination-up",
        "destination-drained",
        "destination-withdrawn",
        "destination-returned",
        "destination-on-standby",
        "destination-needed",
        "destination-asleep",
        "destination-waking",
        "destination-awake",
        "listener-refusing",
        "pool-drained",
        "reload-failed",
        "session-killed",
        "log-dropped",
        "audit",
    )
)
"""
Events after which everything is still as somebody has set it.
"""


@implementer(IObserver)
class EventRing:
    """
    An observer that keeps the last events of destinations and listeners, and others
    that are published here.

    @ivar last: The number of the last event.
    @ivar generation: The number of changes that somebody has made.
    @ivar onEvent: Called after each event.
    """

    endsOnly = True
    sessions = False  # sessions are not events here, so the hot path skips this one

    def __init__(self, now: Callable[[], float] = time) -> None:
        """
        @param now: Returns the time of day.
        """
        self.last = 0
        self.generation = 0
        self.onEvent: Callable[[], None] | None = None
        self._now = now
        self._events: deque[dict[str, Any]] = deque(maxlen=MOST_EVENTS)
        # Two runs of a balancer have different tags.
        self._run = os.urandom(4).hex()

    @property
    def tag(self) -> str:
        """
        The number of the last change, as an C{ETag}.
        """
        return f'"{self._run}-{self.generation}"'

    def publish(
        self,
        kind: str,
        pool: str | None = None,
        destination: str | None = None,
        listener: str | None = None,
        text: str = "",
        by: str | None = None,
    ) -> None:
        """
        Add an event.

        @param kind: One of L{EVENT_TYPES}.
        @param text: What has happened, for people.
        @param by: Who did it, if somebody did.
        """
        self.last += 1
        if kind not in _NO_CHANGE:
            self.generation += 1
        self._events.append(
            {
                "id": self.last,
                "time": isoTime(self._now()),
                "type": kind,
                "pool": pool,
                "destination": destination,
                "listener": listener,
                "text": printable(text[:LONGEST_TEXT]),
                "by": by,
            }
        )
        if self.onEvent is not None:
            self.onEvent()

    def after(self, number: int, most: int) -> tuple[int, list[dict[str, Any]]]:
        """
        Return the events after one, the oldest first.

        @param number: The number of the last event that is known.
        @param most: How many events to return at most.
        @return: How many of the events after C{number} are gone, and those that follow.
        """
        first = self.last - len(self._events) + 1
        lost = max(0, first - number - 1)
        start = number + lost + 1 - first
        found = [
            self._events[place]
            for place in range(start, min(start + most, len(self._events)))
        ]
        return lost, found

    # What the balancer calls.

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Do nothing.
        """

    def destinationChanged(self, destination: Destination, event: str) -> None:
        """
        Add an event of a destination.
        """
        why = destination.why if event in ("down", "withdrawn") else None
        self.publish(
            f"destination-{event.replace(' ', '-')}",
            pool=destination.pool,
            destination=destination.name,
            text=why or destination.address,
        )

    def poolChanged(self, pool: str, event: str, by: str = "") -> None:
        """
        Add an event of a pool.
        """
        self.publish(f"pool-{event}", pool=pool, by=by or None)

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        """
        Add an event of a listener.
        """
        self.publish(f"listener-{event}", listener=name, text=address)

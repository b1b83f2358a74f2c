"""
Where a session comes from: its pool and the listener that accepted it.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed


class PoolCount:
    """
    The counts of a pool's sessions.

    @ivar name: The pool's name.
    @ivar accepted: The number of sessions that have begun.
    @ivar live: The number of sessions that live.
    @ivar whenEmpties: Those who wait until none lives.
    """

    __slots__ = ("accepted", "live", "name", "whenEmpties")

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted = 0
        self.live = 0
        self.whenEmpties: list[Deferred[None]] = []

    def whenEmpty(self) -> Deferred[None]:
        """
        Wait until no session of the pool lives.
        """
        if not self.live:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self.whenEmpties.append(waiting)
        return waiting

    def emptied(self) -> None:
        """
        Called when the last session that lived has ended.
        """
        waiting, self.whenEmpties = self.whenEmpties, []
        for each in waiting:
            each.callback(None)


class Origin:
    """
    Where a session comes from.

    @ivar pool: The counts of the pool.
    @ivar listener: The name of the listener.
    @ivar priority: The priority of the listener's clients.
    """

    __slots__ = ("listener", "pool", "priority")

    def __init__(self, pool: PoolCount, listener: str, priority: int = 0) -> None:
        self.pool = pool
        self.listener = listener
        self.priority = priority

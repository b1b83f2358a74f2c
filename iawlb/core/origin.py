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
    """

    __slots__ = ("_whenEmpty", "accepted", "live", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted = 0
        self.live = 0
        self._whenEmpty: list[Deferred[None]] = []

    def whenEmpty(self) -> Deferred[None]:
        """
        Wait until no session of the pool lives.
        """
        if not self.live:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._whenEmpty.append(waiting)
        return waiting

    def emptied(self) -> None:
        """
        Called when the last session that lived has ended.
        """
        waiting, self._whenEmpty = self._whenEmpty, []
        for each in waiting:
            each.callback(None)


class Origin:
    """
    Where a session comes from.

    @ivar pool: The counts of the pool.
    @ivar listener: The name of the listener.
    """

    __slots__ = ("listener", "pool")

    def __init__(self, pool: PoolCount, listener: str) -> None:
        self.pool = pool
        self.listener = listener

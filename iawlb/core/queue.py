"""
Connections wait, workers pull.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from operator import attrgetter

from twisted.internet.defer import (
    Deferred,
    DeferredQueue,
    QueueOverflow,
    QueueUnderflow,
    succeed,
)
from twisted.logger import Logger

from iawlb.core.destination import Destination
from iawlb.core.line import Line
from iawlb.core.policies import IPolicy
from iawlb.core.session import Session

_PLACE = attrgetter("place")


class ConnectionQueue(DeferredQueue[Session]):
    """
    The FIFO in which sessions wait, behind the contract of L{DeferredQueue}.

    A session's place is given by its entry into the queue, and stays the same when
    it comes back after a failed connect.

    Sessions that any destination may serve stand in one line. One that the
    policy binds to a destination stands in that destination's line, so that it
    waits for a full destination without blocking those behind it. A destination
    is served from whichever of the two lines has the older head.

    A program may get sessions too, without naming a destination: the oldest of
    those that any destination may serve, when no destination waits for it.

    No step moves or looks through those that wait. The stock storage is a list,
    which does, and cannot remove from the middle.

    @ivar size: Sessions that may wait before L{put} raises, or L{None}.
    @ivar backlog: Calls of L{get} without a destination that may wait before it
        raises, or L{None}.
    """

    log = Logger()

    def __init__(
        self,
        policy: IPolicy,
        available: Callable[[], Sequence[Destination]],
        size: int | None = None,
        backlog: int | None = None,
    ) -> None:
        """
        @param policy: Binds sessions and chooses destinations.
        @param available: Gives the destinations that can be bound to.
        """
        super().__init__(size, backlog)
        self._policy = policy
        self._binds = policy.binds
        self._available = available
        self._anyones = Line()
        self._bound: dict[Destination, Line] = {}
        self._count = 0
        self._entered = 0
        # What each waiting destination's next session is given to, in the order in
        # which they began to wait.
        self._takers: dict[Destination, Callable[[Session], None]] = {}
        # Those who wait for no destination.
        self._unnamed: dict[Deferred[Session], None] = {}

    def __len__(self) -> int:
        return self._count

    def oldest(self) -> Session | None:
        """
        Return the session that has waited longest, which goes on waiting.
        """
        heads = [head for line in self._lines() if (head := line.first()) is not None]
        return min(heads, key=_PLACE, default=None)

    def __iter__(self) -> Iterator[Session]:
        """
        Iterate over those that wait, the oldest first.
        """
        return merge(*self._lines(), key=_PLACE)

    def _lines(self) -> Iterable[Line]:
        return (self._anyones, *self._bound.values())

    def put(self, obj: Session) -> None:
        """
        Add a session at the tail, or hand it to a waiting worker at once.

        @raise QueueOverflow: C{size} sessions wait already.
        """
        self._entered = obj.place = self._entered + 1
        bound = self._bind(obj) if self._binds else None
        if self._handOver(obj, bound):
            return
        if self.size is not None and self._count >= self.size:
            raise QueueOverflow()
        self._stand(obj, bound)

    def putBack(self, *sessions: Session) -> None:
        """
        Return sessions whose connect failed to the places they had. Workers that
        wait get the oldest of them first.
        """
        for session in sorted(sessions, key=_PLACE):
            self._enter(session)

    def discard(self, session: Session) -> bool:
        """
        Remove a session that left.

        @return: Whether it was waiting.
        """
        line = session.line
        if line is None:
            return False
        line.remove(session)
        self._count -= 1
        return True

    def get(self, destination: Destination | None = None) -> Deferred[Session]:
        """
        Wait for the next session.

        @param destination: Whose worker asks; by default nobody's, who gets a
            session that any destination may serve.
        @return: Fires with the session. Cancelling it gives up the wait and
            loses no session.
        @raise QueueUnderflow: This destination's worker waits already, or
            C{backlog} others do.
        """
        if destination is None:
            return self._getUnnamed()
        waiting: Deferred[Session] = Deferred(lambda _: self.cease(destination))
        session = self.pull(destination, waiting.callback)
        return waiting if session is None else succeed(session)

    def _getUnnamed(self) -> Deferred[Session]:
        """
        Wait for a session that any destination may serve.
        """
        session = self._anyones.first()
        if session is not None:
            self.discard(session)
            return succeed(session)
        if self.backlog is not None and len(self._unnamed) >= self.backlog:
            raise QueueUnderflow()
        waiting: Deferred[Session] = Deferred(self._unnamed.pop)
        self._unnamed[waiting] = None
        return waiting

    def pull(
        self, destination: Destination, take: Callable[[Session], None]
    ) -> Session | None:
        """
        Do what L{get} does, without a L{Deferred} for each session.

        @param take: Called with the session, once, if there is none now.
        @return: The session, or L{None}: then the destination waits.
        @raise QueueUnderflow: This destination waits already.
        """
        if destination in self._takers:
            raise QueueUnderflow()
        session = self._nextFor(destination) if self._count else None
        if session is None:
            self._takers[destination] = take
        else:
            session.line.remove(session)
            self._count -= 1
        return session

    def cease(self, destination: Destination) -> None:
        """
        Give up a destination's wait.
        """
        del self._takers[destination]

    def rebind(self) -> None:
        """
        Ask the policy again about every session that waits, since the available
        destinations have changed.
        """
        if not self._binds:
            return
        sessions = list(self)
        self._anyones = Line()
        self._bound.clear()
        self._count = 0
        for session in sessions:
            session.line = None
            self._enter(session)

    def _enter(self, session: Session) -> None:
        """
        Hand a session over, or let it wait at its place.
        """
        bound = self._bind(session) if self._binds else None
        if not self._handOver(session, bound):
            self._stand(session, bound)

    def _stand(self, session: Session, bound: Destination | None) -> None:
        """
        Let a session wait at its place.
        """
        if bound is None:
            line = self._anyones
        else:
            line = self._bound.setdefault(bound, Line())
        line.add(session)
        self._count += 1

    def _bind(self, session: Session) -> Destination | None:
        """
        Ask the policy for the only destination of a session.

        A policy may be the user's own; what it raises is logged, and the session
        is one that any may serve.
        """
        available = self._available()
        try:
            bound = self._policy.bind(session, available)
        except Exception:
            self.log.failure("policy {policy!r} cannot bind", policy=self._policy)
            return None
        return bound if bound in available else None

    def _choose(self) -> Destination:
        """
        Ask the policy which waiting destination is next; if it fails, it is the
        one that has waited longest.
        """
        waiting = list(self._takers)
        if len(waiting) == 1:
            return waiting[0]
        try:
            chosen = self._policy.choose(waiting)
        except Exception:
            self.log.failure("policy {policy!r} cannot choose", policy=self._policy)
            return waiting[0]
        return chosen if chosen in self._takers else waiting[0]

    def _nextFor(self, destination: Destination) -> Session | None:
        """
        Return the session that a destination serves next: the older of the heads
        of its own line and of that of all.
        """
        anyones = self._anyones.first()
        line = self._bound.get(destination)
        own = line.first() if line else None
        if own is None or (anyones is not None and anyones.place < own.place):
            return anyones
        return own

    def _handOver(self, session: Session, bound: Destination | None) -> bool:
        """
        Give a session to a worker that waits, if one may have it.
        """
        if bound is not None:
            take = self._takers.pop(bound, None)
            if take is None:
                return False
        elif self._takers:
            take = self._takers.pop(self._choose())
        elif self._unnamed:
            getter = next(iter(self._unnamed))
            del self._unnamed[getter]
            take = getter.callback
        else:
            return False
        take(session)
        return True

"""
Connections wait, workers pull.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge

from twisted.internet.defer import (
    Deferred,
    DeferredQueue,
    QueueOverflow,
    QueueUnderflow,
    succeed,
)
from twisted.logger import Logger

from iawlb.core.destination import Destination
from iawlb.core.policies import IPolicy
from iawlb.core.session import Session

_Line = OrderedDict[Session, None]


class ConnectionQueue(DeferredQueue[Session]):
    """
    The FIFO in which sessions wait, behind the contract of L{DeferredQueue}.

    Sessions that any destination may serve stand in one line. One that the
    policy binds to a destination stands in that destination's line, so that it
    waits for a full destination without blocking those behind it. A destination
    is served from whichever of the two lines has the older head.

    Every step takes the same time however many wait. The stock storage is a
    list, which is not so, and cannot remove from the middle.

    @ivar size: Sessions that may wait before L{put} raises, or L{None}.
    """

    log = Logger()

    def __init__(
        self,
        policy: IPolicy,
        available: Callable[[], Sequence[Destination]],
        size: int | None = None,
    ) -> None:
        """
        @param policy: Binds sessions and chooses destinations.
        @param available: Gives the destinations that can be bound to.
        """
        super().__init__(size)
        self._policy = policy
        self._available = available
        self._anyones: _Line = OrderedDict()
        self._bound: dict[Destination, _Line] = {}
        self._count = 0
        # In the order in which they began to wait.
        self._getters: dict[Destination, Deferred[Session]] = {}

    def __len__(self) -> int:
        return self._count

    def acceptedBefore(self, moment: float) -> list[Session]:
        """
        List the waiting sessions that were accepted before a moment, without
        looking at the younger ones.
        """
        found = []
        for line in self._lines():
            for session in line:
                if session.accepted >= moment:
                    break
                found.append(session)
        return found

    def __iter__(self) -> Iterator[Session]:
        """
        Iterate over those that wait, the oldest first.
        """
        return merge(*self._lines(), key=lambda each: each.number)

    def _lines(self) -> Iterable[_Line]:
        return (self._anyones, *self._bound.values())

    def put(self, obj: Session) -> None:
        """
        Add a session at the tail, or hand it to a waiting worker at once.

        @raise QueueOverflow: C{size} sessions wait already.
        """
        if self._handOver(obj):
            return
        if self.size is not None and self._count >= self.size:
            raise QueueOverflow()
        line = self._lineOf(obj)
        # Who was long in its TLS handshake goes before those accepted since: the
        # lines are in the order of accept.
        younger = []
        while line and (last := next(reversed(line))).number > obj.number:
            younger.append(last)
            del line[last]
        for each in (obj, *reversed(younger)):
            line[each] = None

    def putBack(self, *sessions: Session) -> None:
        """
        Return sessions whose connect failed to the places they had, which are at
        the head, behind older ones that came back too. Workers that wait get the
        oldest of them first.
        """
        oldestFirst = sorted(sessions, key=lambda each: each.number)
        left = [each for each in oldestFirst if not self._handOver(each)]
        for session in reversed(left):
            line = self._lineOf(session)
            older = []
            while line and (head := next(iter(line))).number < session.number:
                older.append(head)
                del line[head]
            for each in (session, *reversed(older)):
                line[each] = None
                line.move_to_end(each, last=False)

    def discard(self, session: Session) -> bool:
        """
        Remove a session that left.

        @return: Whether it was waiting.
        """
        line = session.line
        if line is None:
            return False
        del line[session]
        self._left(session)
        return True

    def _left(self, session: Session) -> None:
        """
        A session stands in line no more.
        """
        session.line = None
        self._count -= 1

    def get(self, destination: Destination | None = None) -> Deferred[Session]:
        """
        Wait for the next session for a destination.

        @param destination: Whose worker asks.
        @return: Fires with the session. Cancelling it gives up the wait and
            loses no session.
        @raise QueueUnderflow: This destination's worker waits already, or none
            was named.
        """
        if destination is None or destination in self._getters:
            raise QueueUnderflow()
        line = self._lineFor(destination)
        if line is not None:
            session, _ = line.popitem(last=False)
            self._left(session)
            return succeed(session)

        def giveUp(_: Deferred[Session]) -> None:
            del self._getters[destination]

        waiting: Deferred[Session] = Deferred(giveUp)
        self._getters[destination] = waiting
        return waiting

    def rebind(self) -> None:
        """
        Ask the policy again about every session that waits, since the available
        destinations have changed.
        """
        if not self._policy.binds:
            return
        sessions = list(self)
        self._anyones.clear()
        self._bound.clear()
        for session in sessions:
            self._left(session)
            if not self._handOver(session):
                self._lineOf(session)[session] = None

    def _lineOf(self, session: Session) -> _Line:
        """
        The line a session stands in; it is noted as standing there.
        """
        bound = self._bind(session)
        if bound is None:
            line = self._anyones
        else:
            line = self._bound.setdefault(bound, OrderedDict())
        session.line = line
        self._count += 1
        return line

    def _bind(self, session: Session) -> Destination | None:
        """
        Ask the policy for the only destination of a session.

        A policy may be the user's own; what it raises is logged, and the session
        is one that any may serve.
        """
        if not self._policy.binds:
            return None
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
        waiting = list(self._getters)
        if len(waiting) == 1:
            return waiting[0]
        try:
            chosen = self._policy.choose(waiting)
        except Exception:
            self.log.failure("policy {policy!r} cannot choose", policy=self._policy)
            return waiting[0]
        return chosen if chosen in self._getters else waiting[0]

    def _lineFor(self, destination: Destination) -> _Line | None:
        """
        The line whose head this destination serves next.
        """
        own = self._bound.get(destination)
        if not own:
            return self._anyones or None
        if (
            not self._anyones
            or next(iter(own)).number < next(iter(self._anyones)).number
        ):
            return own
        return self._anyones

    def _handOver(self, session: Session) -> bool:
        """
        Give a session to a worker that waits, if one may have it.
        """
        if not self._getters:
            return False
        destination = self._bind(session)
        if destination is None:
            destination = self._choose()
        getter = self._getters.pop(destination, None)
        if getter is None:
            return False
        getter.callback(session)
        return True

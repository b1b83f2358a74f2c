"""
The queue in which connections wait until workers pull them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import (
    Deferred,
    DeferredQueue,
    QueueOverflow,
    QueueUnderflow,
    succeed,
)
from twisted.logger import Logger

from iawlb.core.destination import Destination
from iawlb.core.gate import Gate
from iawlb.core.line import PLACE, Line
from iawlb.core.lines import Lines
from iawlb.core.policy import Policy
from iawlb.core.session import Session

ONE_SESSION = 4
"""
The fixed effort of asking the policy about a session, in units of the effort for each
destination that the policy has to compare.
"""


class ConnectionQueue(Lines, DeferredQueue[Session]):
    """
    The FIFO in which sessions wait, behind the contract of L{DeferredQueue}.

    A session gets its place when it enters the queue, and keeps the place when it comes
    back after a failed connect.

    Sessions that any destination may serve wait in one line. A session that the policy
    binds to a destination waits in that destination's line, so that it can wait for a
    full destination without blocking the sessions behind it. A destination is served
    from whichever of the two lines has the older head. The line of one destination
    takes up no more of the queue than its part: L{charged} does not count the sessions
    beyond that part, so they do not keep the clients of other destinations out.

    A program may get sessions too, without naming a destination. It gets the oldest
    session that any destination may serve, when no destination waits for it.

    No operation moves or searches the waiting sessions. L{DeferredQueue} keeps its
    items in a list, which has to be moved, and from whose middle nothing can be
    removed.

    @ivar size: The number of waiting sessions above which L{put} raises, or L{None} for
        no limit.
    @ivar backlog: The number of pending calls of L{get} without a destination above
        which L{get} raises, or L{None} for no limit.
    @ivar spills: The number of sessions that L{spill} has moved.
    @ivar gate: Holds the sessions while it is not open; L{None} while there is nothing
        to hold them.
    """

    log = Logger()

    def __init__(
        self,
        policy: Policy,
        available: Callable[[], Sequence[Destination]],
        size: int | None = None,
        backlog: int | None = None,
        bindable: int | None = None,
    ) -> None:
        """
        The others are those of L{Lines}.

        @param size: See C{size} above.
        @param backlog: See C{backlog} above.
        """
        Lines.__init__(self, policy, available, bindable)
        DeferredQueue.__init__(self, size, backlog)
        self.gate: Gate | None = None
        self._entered = 0
        self.spills = 0
        # The function that takes each waiting destination's next session, in the order
        # in which the destinations began to wait.
        self._takers: dict[Destination, Callable[[Session], None]] = {}
        # Pending calls of get() that name no destination.
        self._unnamed: dict[Deferred[Session], None] = {}

    def __len__(self) -> int:
        return self._count

    def put(self, obj: Session) -> None:
        """
        Add a session at the tail, or hand it to a waiting worker at once.

        @raise QueueOverflow: C{size} sessions wait already.
        """
        self._entered = obj.place = self._entered + 1
        line = self._lineFor(obj) if self._sorts else self._unbound
        gate = self.gate
        if (gate is None or gate.open) and self._handOver(obj, line.destination):
            return
        if self.size is not None and self._count >= self.size:
            raise QueueOverflow()
        line.add(obj)
        obj.ahead = self._count
        self._count += 1

    def putBack(self, *sessions: Session) -> None:
        """
        Return sessions whose connect failed to their places. If workers wait, they get
        these sessions at once, the oldest first.
        """
        for session in sorted(sessions, key=PLACE):
            self._enqueue(session, self._lineFor(session))

    def discard(self, session: Session) -> bool:
        """
        Remove a session whose client has left.

        @return: Whether the session was waiting.
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

        @param destination: The destination whose worker asks. By default the caller
            serves no destination, and gets a session that any destination may serve.
            Such a session takes no slot of the pool.
        @return: Fires with the session. Cancelling it gives up the wait and loses no
            session.
        @raise QueueUnderflow: This destination's worker waits already, or C{backlog}
            calls without a destination are pending.
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
        session = self._unbound.first()
        if session is not None and (self.gate is None or self.gate.open):
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
        Return the next session, or begin to wait for it, as L{get} does but without a
        L{Deferred} for each session.

        @param take: Called once with the session, if there is none now.
        @return: The session, or L{None} if the destination now waits.
        @raise QueueUnderflow: This destination waits already.
        """
        if destination in self._takers:
            raise QueueUnderflow()
        gate = self.gate
        session = None
        if self._count and (gate is None or gate.open):
            session = self._nextFor(destination)
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

    def rebindSome(self, effort: int) -> bool:
        """
        Ask the policy about some of the sessions that are to be bound anew.

        @param effort: About how many destinations the policy may have to compare, in
            all.
        @return: Whether there is more to be done.
        """
        while effort > 0:
            session = next(self._toRebind, None)
            if session is None:
                self._orphaned.clear()
                self._arrived = ()
                return False
            effort -= ONE_SESSION
            before = session.line
            if before is None:
                continue  # the session has left since
            among = self._knownNow() if self._binds else ()
            if self._ranks and before.destination is not None:
                among = (before.destination, *self._arrived)
            effort -= len(among)
            line = self._lineFor(session, among)
            if line is not before:
                self.discard(session)
                self._enqueue(session, line)
        return True

    def spill(self, since: float, most: int) -> bool:
        """
        Let any destination serve the sessions that have waited long enough for the one
        that the policy has bound them to.

        @param since: Those that have waited since then, or longer.
        @param most: The number of sessions to move at most.
        @return: Whether there may be more.
        """
        self._spilled = since
        moved = 0
        for line in self._bound.values():
            while (oldest := line.oldest()) is not None and oldest.queued <= since:
                if moved == most:
                    break
                line.remove(oldest)
                self._unbound.add(oldest)
                moved += 1
        self.spills += moved
        for _ in range(moved):
            shut = self.gate is not None and not self.gate.open
            if shut or not self.handOverNext():
                break
        return moved == most

    def firstToSpill(self) -> float | None:
        """
        Return since when the session waits that L{spill} would move first, or L{None}
        if there is none.
        """
        heads = [line.oldest() for line in self._bound.values()]
        return min((each.queued for each in heads if each is not None), default=None)

    def _enqueue(self, session: Session, line: Line) -> None:
        """
        Hand a session over, or let it wait at its place in a line.
        """
        shut = self.gate is not None and not self.gate.open
        if shut or not self._handOver(session, line.destination):
            line.add(session)
            self._count += 1

    def _choose(self) -> Destination:
        """
        Ask the policy which waiting destination is next. If the policy fails, choose
        the destination that has waited longest.
        """
        waiting = list(self._takers)
        if len(waiting) == 1:
            return waiting[0]
        try:
            chosen = self.policy.choose(waiting)
            # What is no destination at all may not even be looked up.
            return chosen if chosen in self._takers else waiting[0]
        except Exception:
            self.log.failure("policy {policy!r} cannot choose", policy=self.policy)
            return waiting[0]

    def handOverNext(self) -> bool:
        """
        Hand the oldest session over that a waiting worker may serve.

        @return: Whether there was one.
        """
        lines = [self._unbound] if self._takers or self._unnamed else []
        if self._binds:
            lines += [self._bound[each] for each in self._takers if each in self._bound]
        if self._chosen:
            lines += [
                self._lineOfChosen(each)
                for each in self._takers
                if each.name in self._chosen
            ]
        heads = [head for line in lines if (head := line.first()) is not None]
        session = min(heads, key=self._order, default=None)
        if session is None:
            return False
        bound = session.line.destination
        self.discard(session)
        return self._handOver(session, bound)

    def _handOver(self, session: Session, bound: Destination | None) -> bool:
        """
        Hand a session to a waiting worker, if there is one that may serve it.

        @return: Whether the session was handed over.
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

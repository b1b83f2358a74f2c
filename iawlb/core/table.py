"""
The table of all sessions that live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime

from iawlb.core.ends import Ends
from iawlb.core.events import SESSION_ACCEPTED, SESSION_ENDED, Events
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.outcome import Outcome
from iawlb.core.session import ClientConnection, Holder, Session


class SessionTable:
    """
    All sessions that live: begins and ends them, and reports both.

    @ivar limit: The number of sessions that may live at a time.
    @ivar roomAwaited: Whether a pool waits for room for more sessions.
    """

    def __init__(
        self,
        clock: IReactorTime,
        events: Events,
        onEnd: Callable[[], None],
        limit: int,
    ) -> None:
        """
        @param onEnd: Called after a session's end, while C{roomAwaited} is true.
        """
        self.limit = limit
        self.roomAwaited = False
        self._clock = clock
        self._events = events
        self._onEnd = onEnd
        # In the order of accept.
        self._live: dict[Session, None] = {}
        self._whenEmpty: list[Deferred[None]] = []
        self._count = 0
        # An observer that is called for each end, once there is somebody to call.
        self._ends: Ends | None = None

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Session]:
        """
        Iterate over the sessions that live now. They may end during the iteration.
        """
        return iter(list(self._live))

    def begin(
        self,
        address: IAddress | None,
        origin: Origin,
        side: ClientConnection,
        holder: Holder,
    ) -> Session:
        """
        Begin the session of a client that was just accepted.
        """
        self._count += 1
        session = Session(
            self._count,
            address,
            origin,
            self._clock.seconds(),
            side,
            holder,
        )
        self._live[session] = None
        origin.pool.accepted += 1
        origin.pool.live += 1
        if self._events.everyStep:
            self._events.session(session, SESSION_ACCEPTED)
        return session

    def move(self, session: Session, pool: PoolCount) -> None:
        """
        Let a session belong to another pool than that of its listener. Both pools have
        accepted the session.
        """
        before = session.origin.pool
        session.origin = Origin(pool, session.listener, session.origin.priority)
        pool.accepted += 1
        pool.live += 1
        before.live -= 1
        if before.whenEmpties and not before.live:
            before.emptied()

    def end(self, session: Session, outcome: Outcome) -> None:
        """
        End a session whose connections are closed.
        """
        session.finish(outcome, self._clock.seconds())
        del self._live[session]
        pool = session.origin.pool
        pool.live -= 1
        self._events.session(session, SESSION_ENDED)
        if self.roomAwaited:
            self._onEnd()
        if pool.whenEmpties and not pool.live:
            pool.emptied()
        if not self._live:
            waiting, self._whenEmpty = self._whenEmpty, []
            for each in waiting:
                each.callback(None)

    def whenEnded(self, session: Session, call: Callable[[Session], None]) -> None:
        """
        Call a function once when a session has ended, beside those of others.
        """
        if self._ends is None:
            self._ends = Ends()
            self._events.add(self._ends)
        calls = self._ends.calls.get(session, ())
        if call not in calls:
            self._ends.calls[session] = (*calls, call)

    def whenEmpty(self) -> Deferred[None]:
        """
        Wait until no session lives.
        """
        if not self._live:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._whenEmpty.append(waiting)
        return waiting

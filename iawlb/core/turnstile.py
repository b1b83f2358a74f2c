"""
The limits of a pool's sessions: how many at a time and in a time, in all and of each
source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from math import inf

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

from iawlb.core.fairline import FairLine, sourceOfAddress
from iawlb.core.session import Session
from iawlb.core.sessionlimits import Limits, Over
from iawlb.core.sources import Source, Sources

PER_TURN = 32
"""
The number of delayed clients that are let in before the reactor has its turn.
"""

FULL_PAUSE = 0.1
"""
How long no delayed client is let in when the queue was full, in seconds.
"""


class Turnstile:
    """
    Lets sessions in as the limits allow. The others wait: first those of each source
    for the limits of that source, the oldest first; then those whose source lets them
    in for the limits of all, in turns by their sources.

    No clock is set for each session. One timer waits for whoever is next.

    @ivar limits: The limits now.
    @ivar active: The sessions that were let in and have not ended.
    @ivar delays: The number of clients that were delayed so far.
    @ivar sources: The sources that matter now.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limits: Limits,
        full: Callable[[], bool],
        whenEnded: Callable[[Session, Callable[[Session], None]], None],
    ) -> None:
        """
        @param full: Returns whether the queue takes no more.
        @param whenEnded: Has a function called when a session has ended.
        """
        self.limits = limits
        self.active = 0
        self.delays = 0
        self.sources = Sources()
        self._clock = clock
        self._full = full
        self._whenEnded = whenEnded
        self._paid = 0.0
        # The source of each session that was let in and has not ended.
        self._passed: dict[Session, Source | None] = {}
        # The source of each session that is delayed, and the function that lets it in.
        self._delayed: dict[Session, tuple[Source | None, Callable[[], None]]] = {}
        # Those of them that wait for the limits of all.
        self._line = FairLine(None, limits.mask)
        self._number = 0
        # When the first of each waiting source may be let in: a heap. An entry counts
        # only if it is the source's own C{due}; the number decides between equals.
        self._dues: list[tuple[float, int, Source]] = []
        self._timer: IDelayedCall | None = None
        self._blocked = -1.0

    @property
    def delayed(self) -> int:
        """
        The number of clients that are delayed.
        """
        return len(self._delayed)

    # Clients come and go.

    def over(self, address: IAddress | None) -> Over | None:
        """
        Return the limit that a client would be over that comes now from an address.
        """
        key = sourceOfAddress(address, self.limits.mask)
        now = self._clock.seconds()
        source = None if key is None else self.sources.take(key)
        found = self._overSource(source, now) or self._overAll(now)
        if source is not None:
            self.sources.give(source, now)
        return found

    def enter(self, session: Session, letIn: Callable[[], None]) -> Over | None:
        """
        Let a session in, now or when the limits allow it.

        @param letIn: Called then.
        @return: The limit for which it is refused; L{None} if it is not.
        """
        self._ended(session)
        limits, now = self.limits, self._clock.seconds()
        key = sourceOfAddress(session.address, limits.mask)
        source = None if key is None else self.sources.take(key)
        ofSource = self._overSource(source, now)
        over = ofSource or self._overAll(now)
        if over is not None and limits.delays:
            full = len(self._delayed) >= limits.most
            if full or (source is not None and source.delayed >= limits.mostOfSource):
                over = Over.DELAYS
        if over is None:
            self._charge(source, now)
            self._pass(session, source, now)
            letIn()
        elif limits.delays and over is not Over.DELAYS:
            self.delays += 1
            self._delayed[session] = source, letIn
            if source is not None:
                source.delayed += 1
            if source is not None and ofSource is not None:
                source.waiting[session] = None
                self._schedule(source, now)
            else:
                self._charge(source, now)
                self._join(session)
            self._wait(now)
            over = None
        elif source is not None:
            self.sources.give(source, now)
        return over

    def leave(self, session: Session) -> None:
        """
        Forget a delayed session, whose client has left or was closed.
        """
        found = self._delayed.pop(session, None)
        if found is None:
            return
        source, _ = found
        ofAll = source is None or session not in source.waiting
        if ofAll:
            self._line.remove(session)
        if source is not None:
            source.delayed -= 1
            if ofAll:
                source.active -= 1
            else:
                del source.waiting[session]
        self._freed(source)

    def count(self, sessions: Iterable[Session]) -> None:
        """
        Count sessions that live already, as limits are set only now.
        """
        for session in sessions:
            if session in self._passed or session in self._delayed:
                continue
            key = sourceOfAddress(session.address, self.limits.mask)
            source = None if key is None else self.sources.take(key)
            if source is not None:
                source.active += 1
            self._passed[session] = source
            self.active += 1
            self._whenEnded(session, self._ended)

    def configure(self, limits: Limits) -> None:
        """
        Use other limits from now on. Sessions that were let in go on, and count.
        """
        before, self.limits = self.limits, limits
        now = self._clock.seconds()
        if limits.mask != before.mask:
            self._findSources(limits.mask)
        self._paid = limits.rate.atMost(self._paid, now)
        for source in self.sources:
            source.paid = limits.sourceRate.atMost(source.paid, now)
            source.due = None
            self._schedule(source, now)
        self._wait(now)

    def stop(self) -> None:
        """
        Stop the timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # What the limits say.

    def _overSource(self, source: Source | None, now: float) -> Over | None:
        """
        Return the limit of its source that a client would be over that comes now.
        """
        if source is None:
            return None
        over = self._ownOver(source, now)
        # Those that came before go first.
        return Over.SOURCE_RATE if over is None and source.waiting else over

    def _ownOver(self, source: Source, now: float) -> Over | None:
        limits = self.limits
        if limits.ofSource and source.active >= limits.ofSource:
            return Over.SOURCE_SESSIONS
        if limits.sourceRate.due(source.paid, now) > now:
            return Over.SOURCE_RATE
        return None

    def _overAll(self, now: float) -> Over | None:
        limits = self.limits
        if limits.sessions and self.active >= limits.sessions:
            return Over.SESSIONS
        if self._line or limits.rate.due(self._paid, now) > now:
            return Over.RATE
        return None

    # Sessions are let in.

    def _charge(self, source: Source | None, now: float) -> None:
        """
        Count a session that its source's limits let in.
        """
        if source is not None:
            source.active += 1
            source.paid = self.limits.sourceRate.use(source.paid, now)

    def _pass(self, session: Session, source: Source | None, now: float) -> None:
        """
        Count a session that is let in.
        """
        self._passed[session] = source
        self.active += 1
        self._paid = self.limits.rate.use(self._paid, now)
        self._whenEnded(session, self._ended)

    def _join(self, session: Session) -> None:
        """
        Let a session wait for the limits of all.
        """
        self._number += 1
        session.place = self._number
        self._line.add(session)
        session.line = None  # it is not in the queue

    def _schedule(self, source: Source, now: float) -> None:
        """
        Look at a source again when the first of its waiting sessions may be let in. If
        it has too many sessions, that is when one of them ends.
        """
        limits = self.limits
        if not source.waiting or source.due is not None:
            return
        if limits.ofSource and source.active >= limits.ofSource:
            return
        source.due = max(now, limits.sourceRate.due(source.paid, now))
        self._number += 1
        heappush(self._dues, (source.due, self._number, source))
        if len(self._dues) > 2 * len(self._delayed) + PER_TURN:
            # Most of these are of sources whose clients have left.
            for due, _, each in self._dues:
                if not each.waiting and each.due == due:
                    each.due = None
            self._dues = [each for each in self._dues if each[2].due == each[0]]
            heapify(self._dues)

    def _advance(self, source: Source, now: float) -> None:
        """
        Let the first waiting session of a source go on, if the source's limits allow
        it now.
        """
        if source.waiting and self._ownOver(source, now) is None:
            session, _ = source.waiting.popitem(last=False)
            self._charge(source, now)
            self._join(session)
        self._schedule(source, now)

    def _turn(self) -> None:
        """
        Let some of the delayed sessions in.
        """
        self._timer = None
        now = self._clock.seconds()
        try:
            for _ in range(PER_TURN):
                if not self._dues or self._dues[0][0] > now:
                    break
                due, _, source = heappop(self._dues)
                if source.due == due:
                    source.due = None
                    self._advance(source, now)
            for _ in range(PER_TURN):
                if self._dueOfAll(now) > now:
                    break
                if self._full():
                    self._blocked = now + FULL_PAUSE
                    break
                self._letNextIn(now)
        finally:
            self._wait(now)

    def _letNextIn(self, now: float) -> None:
        session = self._line.first()
        assert session is not None
        self._line.remove(session)
        source, letIn = self._delayed.pop(session)
        if source is not None:
            source.delayed -= 1
        # The client has not been read for a while: it may have left.
        session.waited = True
        session.queued = now
        self._pass(session, source, now)
        letIn()

    def _dueOfAll(self, now: float) -> float:
        """
        Return when the first of those that wait for the limits of all may be let in;
        infinity if nobody knows.
        """
        limits = self.limits
        if not self._line or (limits.sessions and self.active >= limits.sessions):
            return inf
        return max(self._blocked, limits.rate.due(self._paid, now))

    def _wait(self, now: float) -> None:
        """
        Set the timer for whoever is next.
        """
        due = self._dueOfAll(now)
        if self._dues:
            due = min(due, self._dues[0][0])
        timer = self._timer
        if due == inf or (timer is not None and timer.getTime() <= due):
            return
        if timer is not None:
            timer.cancel()
        self._timer = self._clock.callLater(max(0.0, due - now), self._turn)

    # Sessions end.

    def _ended(self, session: Session) -> None:
        """
        Count a session as ended, if it was let in.
        """
        if session not in self._passed:
            return
        source = self._passed.pop(session)
        self.active -= 1
        if source is not None:
            source.active -= 1
        self._freed(source)

    def _freed(self, source: Source | None) -> None:
        """
        Use what a session has left free.
        """
        now = self._clock.seconds()
        if source is not None:
            self._schedule(source, now)
            self.sources.give(source, now)
        if self._delayed:
            self._wait(now)

    def _findSources(self, mask: tuple[int, int]) -> None:
        """
        Find the sources of all sessions anew, as other networks count as sources.
        """
        self.sources = Sources()
        self._dues.clear()

        def found(session: Session) -> Source | None:
            key = sourceOfAddress(session.address, mask)
            return None if key is None else self.sources.take(key)

        for session in self._passed:
            source = self._passed[session] = found(session)
            if source is not None:
                source.active += 1
        line = FairLine(None, mask)
        for session, (before, letIn) in self._delayed.items():
            source = found(session)
            self._delayed[session] = source, letIn
            ofAll = before is None or session not in before.waiting
            if ofAll:
                line.add(session)
                session.line = None
            if source is not None:
                source.delayed += 1
                if ofAll:
                    source.active += 1
                else:
                    source.waiting[session] = None
        self._line = line

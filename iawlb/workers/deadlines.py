"""
All time-outs of sessions. No session is looked at before its time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heappop, heappush
from itertools import islice
from math import ceil, inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from iawlb.core.outcome import Outcome
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import IRelay, Session
from iawlb.relay.keepalive import KeepAlive
from iawlb.relay.kinds import Reports
from iawlb.settings import Settings
from iawlb.workers.timelimits import FINEST, LAST, TimeLimits

PER_TURN = 100
"""
Sessions looked at before the reactor has its turn. Ending a session takes 30 us.
"""

Last = tuple[int, bool]
"""
What the last look at a session found: the number of bytes that were not delivered, and
whether the session is closing.
"""


class Bucket(dict[Session, Last | None]):
    """
    Sessions that are to be looked at together, each with what the last look found.

    @ivar number: The time at which they are to be looked at, in grains.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Deadlines:
    """
    The time-outs of all sessions; ends the sessions whose time is over.

    Sessions that wait in the queue all have the same time-out, as have those in their
    TLS handshake, and those just connected. So in each of these three lists the
    sessions are due in the order in which they entered. A session that is found to have
    passed bytes since is due later, and goes to the bucket of that later time. So a
    session costs no more than one entry here, until its time-out comes.

    A look that comes late, since the process was stopped for instance (SIGSTOP, a
    frozen container), is put off once: so the bytes that came meanwhile are read
    first, and slots that became free are used. Else all sessions would seem idle.

    One timer waits for whatever is due next. It is not cancelled with the last session,
    which would cost too much where one session follows the other; it is never set
    further ahead than C{COARSEST}, and not set again when nothing is left.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: ConnectionQueue,
        settings: Settings,
        keepAlive: KeepAlive,
        due: Callable[[float, float], float],
    ) -> None:
        """
        @param keepAlive: The keepalive options, which are set when a connection is so
            old that they matter.
        @param due: Returns when the time of a client in the queue is over, from when it
            entered and the queue time-out.
        """
        self._clock = clock
        self._queue = queue
        self._endOfWait = due
        self._retired = False
        self._queueTimeout = settings.queueTimeout
        self._handshakeTimeout = settings.handshakeTimeout
        self._keepAlive = keepAlive
        self._limits = limits = TimeLimits(settings, keepAlive)
        self._first = limits.first
        self._grain = limits.grain
        others = filter(None, (self._queueTimeout, self._handshakeTimeout))
        # The longest wait of the timer. Whatever is added is due no sooner than this,
        # so the timer need not be moved for it.
        self._longest = min((limits.shortest, *others))
        self.reports = limits.reports
        self._handshaking: OrderedDict[Session, None] = OrderedDict()
        self._connected: OrderedDict[Session, None] = OrderedDict()
        self._buckets: dict[int, Bucket] = {}
        # The numbers of the buckets, a heap.
        self._numbers: list[int] = []
        self._timer: IDelayedCall | None = None
        # When the timer is due.
        self._due = 0.0
        self._putOff = False

    def __bool__(self) -> bool:
        """
        Whether any session has a time-out here.
        """
        return bool(self._handshaking or self._connected or self._buckets)

    def retire(self) -> None:
        """
        Leave the queue to other time-outs, which have taken these ones' place. Sessions
        that were connected keep these.
        """
        self._retired = True

    # Sessions come in.

    def handshaking(self, session: Session) -> None:
        """
        Called when a session's TLS handshake has begun.
        """
        if self._handshakeTimeout:
            self._handshaking[session] = None
            session.bucket = self._handshaking
            self._start()

    def queued(self) -> None:
        """
        Called after sessions were put into the queue, or may wait for a shorter time.
        """
        if self._timer is None and len(self._queue):
            self._start()

    def relayed(self, session: Session) -> None:
        """
        Called when a session is connected, and its relay about to start.
        """
        if session.bucket is not None:
            del session.bucket[session]
            session.bucket = None
        if self._first:
            self._connected[session] = None
            session.bucket = self._connected
            if self._timer is None:
                self._start()
        if self.reports is not Reports.NOTHING and session.relay is not None:
            session.relay.onSooner = partial(self._sooner, session)

    def _sooner(self, session: Session) -> None:
        """
        Called when an earlier time-out may apply, because the client has asked or a
        side has ended.
        """
        relay = session.relay
        if relay is None or relay.parting:
            return
        limit, _ = self._limits.silence(relay)
        if limit:
            due = self._clock.seconds() + limit
            if self._dueOf(session) > due:
                self._put(session, due, None)

    def _dueOf(self, session: Session) -> float:
        """
        Return when a session that passes bytes is looked at next.
        """
        bucket = session.bucket
        if isinstance(bucket, Bucket):
            return bucket.number * self._grain
        # Its age may be reached then, whatever other time-out applies.
        return (session.connected or 0) + self._first if bucket is not None else inf

    def _put(self, session: Session, due: float, last: Last | None) -> None:
        """
        Schedule the next look at a session.

        @param due: The time of the look, or a little before it.
        @param last: What the last look found.
        """
        if session.bucket is not None:
            if session.bucket is self._connected:
                self._applyKeepAlive(session)
            del session.bucket[session]
        number = ceil(due / self._grain)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket(number)
            heappush(self._numbers, number)
        bucket[session] = last
        session.bucket = bucket
        self._start()

    def _applyKeepAlive(self, session: Session) -> None:
        """
        Set the keepalive options of a session's sockets. They matter from now on; most
        sessions end before this, and so never pay for the system calls.
        """
        assert session.relay is not None
        for each in session.relay.sockets():
            self._keepAlive.apply(each)

    # Time passes.

    def _start(self) -> None:
        if self._timer is None:
            self._wait(self._clock.seconds())

    def _wait(self, now: float) -> None:
        """
        Set the timer for whatever is due next, if there is anything.
        """
        due = []
        if self._handshaking:
            due.append(next(iter(self._handshaking)).accepted + self._handshakeTimeout)
        oldest = None if self._retired else self._queue.oldest()
        if oldest is not None:
            end = self._endOfWait(oldest.queued, self._queueTimeout)
            if end < inf:
                due.append(end)
        if self._connected:
            due.append(self._firstDue())
        while self._numbers and not self._buckets[self._numbers[0]]:
            del self._buckets[heappop(self._numbers)]
        if self._numbers:
            due.append(self._numbers[0] * self._grain)
        if due:
            wait = max(FINEST, min(self._longest, min(due) - now))
            self._lookIn(wait, now)

    def _lookIn(self, wait: float, now: float) -> None:
        """
        Set the timer.
        """
        self._due = now + wait
        self._timer = self._clock.callLater(wait, self._timeOver)

    def _firstDue(self) -> float:
        """
        Return when the session that was connected first is due.
        """
        return (next(iter(self._connected)).connected or 0) + self._first

    def _timeOver(self) -> None:
        """
        Look at the sessions that are due; later if this comes late.
        """
        now = self._clock.seconds()
        self._putOff = not self._putOff and now - self._due > self._grain
        if self._putOff:
            self._lookIn(self._grain, now)
        else:
            self._look()

    def _look(self) -> None:
        """
        Look at the sessions that are due, C{PER_TURN} at a time.
        """
        now = self._clock.seconds()
        seen = 0
        try:
            for _ in islice(self._looks(now), PER_TURN):
                seen += 1
        except Exception:
            # A transport from another library may raise when it is closed.
            self.log.failure("ending a session whose time is over failed")
        # Cleared only here, so that nothing above could start another timer.
        self._timer = None
        if seen == PER_TURN:
            self._lookIn(0, self._clock.seconds())
        else:
            self._wait(now)

    def _looks(self, now: float) -> Iterator[None]:
        """
        Look at the sessions that are due, one at a time. Any step may end other
        sessions too, so each session is taken out before its step.
        """
        while self._handshaking:
            session = next(iter(self._handshaking))
            if session.accepted + self._handshakeTimeout > now:
                break
            del self._handshaking[session]
            session.bucket = None
            if not session.side.ready:
                session.holder.dismiss(Outcome.HANDSHAKE_TIMEOUT)
            yield
        while not self._retired and (oldest := self._queue.oldest()) is not None:
            if self._endOfWait(oldest.queued, self._queueTimeout) > now:
                break
            self._queue.discard(oldest)
            oldest.holder.dismiss(Outcome.QUEUE_TIMEOUT)
            yield
        while self._connected and self._firstDue() <= now:
            session, _ = self._connected.popitem(last=False)
            session.bucket = None
            self._applyKeepAlive(session)
            self._lookAt(session, None, now)
            yield
        while self._numbers and self._numbers[0] * self._grain <= now:
            bucket = self._buckets[self._numbers[0]]
            if bucket:
                session, last = bucket.popitem()
                session.bucket = None
                self._lookAt(session, last, now)
                yield
            else:
                del self._buckets[heappop(self._numbers)]

    def _lookAt(self, session: Session, last: Last | None, now: float) -> None:
        """
        Look at a session that passes bytes: end it if its time is over.
        """
        relay = session.relay
        assert relay is not None
        end = self._limits.endOf(session)
        left, closing = last or (0, False)
        limit, outcome = self._limits.silence(relay)
        if not closing:
            if now >= end:
                self._part(session, relay, last, now - end)
                return
            silent = max(relay.moved, session.connected or 0) + limit if limit else inf
            due = min(silent, end)
            if due > now:
                if due < inf:
                    self._put(session, due, None)
                return
        undelivered = relay.undelivered()
        if undelivered and (last is None or undelivered < left) and now < end + LAST:
            # The kernel still delivers what was written. It does not say when it last
            # did.
            wait = self._grain if closing else min(limit, end - now)
            self._put(session, now + wait, (undelivered, closing))
        elif relay.outcome is None:
            # If it has not closed in order by then, it is reset.
            self._put(session, now + self._grain, (undelivered, True))
            relay.close(outcome)
        else:
            relay.abort(outcome)

    def _part(
        self, session: Session, relay: IRelay, last: Last | None, since: float
    ) -> None:
        """
        End a session that has reached its age: in order at first, and by a reset if it
        takes nothing and does not close.

        @param since: How long ago it has reached its age, in seconds.
        """
        undelivered = relay.undelivered()
        first = not relay.parting and relay.outcome is None
        takes = undelivered and (last is None or undelivered < last[0])
        if first or (takes and since < LAST):
            due = self._clock.seconds() + self._limits.parting
            self._put(session, due, (undelivered, False))
            if first:
                relay.part(Outcome.TOO_OLD)
        else:
            relay.abort(Outcome.TOO_OLD)

    def stop(self) -> None:
        """
        Stop the timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

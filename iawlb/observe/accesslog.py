"""
L{AccessLog}, the observer that writes a line for each session, in a format of the
user's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from iawlb.clock import monotonicClock
from iawlb.core.events import SESSION_CONNECTED, SESSION_ENDED, IObserver
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.observe.eventlog import EventLog
from iawlb.observe.formats import NAMESPACE, Counts, TextFormat, formatNamed
from iawlb.observe.targets import addsTime, openTarget
from iawlb.observe.writer import LogWriter

LINES_PER_TURN = 100
"""
The number of lines about running sessions that are written before the reactor has its
turn.
"""

_NULL = frozenset(
    (
        Outcome.DONE,
        Outcome.CLIENT_RESET,
        Outcome.CLIENT_LEFT_HANDSHAKE,
        Outcome.CLIENT_LEFT_SILENT,
    )
)


class _Active(Protocol):
    @property
    def active(self) -> int:
        """
        The number of sessions that a destination serves.
        """


class _Worker(Protocol):
    @property
    def destination(self) -> _Active:
        """
        The worker's destination.
        """


class _Pool(Protocol):
    @property
    def workers(self) -> Mapping[str, _Worker]:
        """
        The worker of each destination, by the destination's name.
        """


class CountedBalancer(Protocol):
    """
    What L{AccessLog.follow} needs of a balancer.
    """

    @property
    def table(self) -> Sized:
        """
        The sessions that live.
        """

    @property
    def pools(self) -> Mapping[str, _Pool]:
        """
        The pools, by name.
        """


@implementer(IObserver)
class AccessLog(EventLog):
    """
    An observer that writes one line for each session: when it has ended, and if asked
    also when it is connected and at intervals while it runs. The lines go to a file, to
    standard output or to syslog; nothing waits for these. Changes of destinations and
    listeners go to Twisted's logger.
    """

    def __init__(
        self,
        reactor: Any,
        format: str = "text",
        to: str | LogWriter | None = None,
        *,
        errorsOnly: bool = False,
        null: bool = True,
        connect: bool = False,
        interval: float = 0.0,
        timed: bool = False,
    ) -> None:
        """
        @param format: C{text}, C{tcplog}, C{halog}, C{json}, or a template.
        @param to: A path, C{stdout}, C{syslog}, C{syslog:/path} or C{udp:host:port}; or
            a writer. L{None} is Twisted's logger.
        @param errorsOnly: Whether sessions that both sides closed get no line.
        @param null: Whether sessions get a line of which the client has left without an
            error after no byte in either direction.
        @param connect: Whether a line is written when a session is connected.
        @param interval: The time between two lines about a running session, in seconds;
            0 is never.
        @param timed: Whether the receiver of the lines adds the time, as syslog does,
            if C{to} is a writer.
        @raise InvalidSetting: The format is wrong, or the place cannot be written to.
        """
        writer = openTarget(reactor, to) if isinstance(to, str) else to
        super().__init__(errorsOnly, writer)
        # The messages are found by this name, whichever class writes them.
        self.log = Logger(NAMESPACE, self)
        self.endsOnly = not connect and not interval
        self._clock = monotonicClock(reactor)
        self._null = null
        self._connect = connect
        self._interval = interval
        timed = timed or (isinstance(to, str) and addsTime(to))
        self._line = formatNamed(format, timed)
        # The same for Twisted's logger, which adds the time itself.
        self._bare = formatNamed(format, timed=True)
        # Running sessions, and when each gets its next line, in that order.
        self._running: dict[Session, float] = {}
        self._timer: IDelayedCall | None = None

    def follow(self, balancer: CountedBalancer) -> None:
        """
        Let the lines hold the numbers of sessions of a balancer and of its
        destinations.
        """
        table, pools = balancer.table, balancer.pools

        def count(session: Session) -> Counts:
            pool = pools.get(session.pool)
            name = session.destination
            worker = pool.workers.get(name) if pool is not None and name else None
            served = worker.destination.active if worker is not None else 0
            return len(table), session.origin.pool.live, served

        for each in (self._line, self._bare):
            if not isinstance(each, TextFormat):
                each.count = count

    # What the process calls.

    @property
    def dropped(self) -> int:
        """
        The number of lines that were dropped, since nobody took them.
        """
        return 0 if self.writer is None else self.writer.dropped

    def flush(self) -> None:
        """
        Write what is held now, as far as it is taken.
        """
        if self.writer is not None:
            self.writer.writeNow()

    def reopen(self) -> None:
        """
        Write to a new file if the old one was moved.
        """
        if self.writer is not None:
            self.writer.writeNow()
            self.writer.reopen()

    def close(self) -> None:
        """
        Write all lines, and stop.
        """
        self._running.clear()
        self._stopTimer()
        if self.writer is not None:
            self.writer.close()

    # What the balancer calls.

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Write a line if the step gets one.
        """
        if event == SESSION_ENDED:
            outcome, ended = session.outcome, session.ended
            if outcome is None or ended is None:
                return
            if self._running:
                self._forget(session)
            if outcome is Outcome.DONE and self.errorsOnly:
                return
            if not self._null and outcome in _NULL:
                if not session.bytesIn and not session.bytesOut:
                    return
            self._write(session, ended, "end")
        elif event == SESSION_CONNECTED:
            if self._interval:
                self._follow(session)
            if self._connect:
                self._write(session, self._clock.seconds(), "connect")

    def _write(self, session: Session, now: float, event: str) -> None:
        if self.writer is not None:
            self.writer.write(self._line(session, now, event))
        elif event == "end" and isinstance(self._bare, TextFormat):
            super().sessionChanged(session, SESSION_ENDED)
        else:
            line = self._bare(session, now, event)
            self.log.info("{line}", line=line.rstrip("\n"))

    # Lines about running sessions.

    def _follow(self, session: Session) -> None:
        self._running[session] = self._clock.seconds() + self._interval
        if self._timer is None:
            self._timer = self._clock.callLater(self._interval, self._sweep)

    def _forget(self, session: Session) -> None:
        self._running.pop(session, None)
        if not self._running:
            self._stopTimer()

    def _stopTimer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        """
        Write a line about each session whose time has come.
        """
        now = self._clock.seconds()
        running = self._running
        wait = 0.0
        for _ in range(LINES_PER_TURN):
            session, due = next(iter(running.items()))
            if due > now:
                wait = due - now
                break
            del running[session]
            running[session] = now + self._interval
            self._write(session, now, "interval")
        self._timer = self._clock.callLater(wait, self._sweep)

"""
All that finds out whether a destination is up, and what follows when it comes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.backend.connector import DestinationConnector
from iawlb.core.destination import Destination
from iawlb.core.events import DESTINATION_UP, Events
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.health.connecting import ConnectingCheck, headerOf
from iawlb.health.making import addressOf
from iawlb.health.verdict import Check
from iawlb.relay.judging import judging
from iawlb.relay.kinds import Kinds
from iawlb.settings import DestinationSettings
from iawlb.workers.agent import Agent, Says
from iawlb.workers.checker import Checker
from iawlb.workers.ejector import Ejector
from iawlb.workers.prober import Prober
from iawlb.workers.serving import Serving
from iawlb.workers.slowstart import SlowStart
from iawlb.workers.workerpool import WorkerPool

Relayed = Callable[[Session], None]
"""
A function that is called when a session is connected.
"""

ENDED_PER_TURN = 100
"""
The number of sessions that are ended before the reactor has its turn, when their
destination has gone down.
"""


class WatchedWorker(Protocol):
    """
    What a L{Watch} needs of its worker.
    """

    destination: Destination
    connector: DestinationConnector
    clock: IReactorTime
    events: Events
    table: SessionTable

    def check(self) -> None:
        """
        Begin or stop to wait for a session, as the destination's state requires.
        """

    def goDown(self, why: str) -> None:
        """
        Called when the destination is down.
        """

    def reported(self, why: str | None) -> None:
        """
        Called when the destination has said that it is down, and why; or that it is up.
        """


class Watch:
    """
    Probes or checks a destination, asks its agent, ejects it, starts it slowly, and
    ends its sessions: as much of this as its settings ask for.
    """

    def __init__(self, worker: WatchedWorker, pool: WorkerPool) -> None:
        self._worker = worker
        self._pool = pool
        self.destination = worker.destination
        self.clock = worker.clock
        self.events = worker.events
        self._running = False
        self._monitor: Prober | Checker
        self._says: Says | None = None
        self._agent: Agent | None = None
        self._ejector: Ejector | None = None
        self._slowStart: SlowStart | None = None
        # Where checks and the agent are asked.
        self._connector: DestinationConnector | None = None
        self._agentConnector: DestinationConnector | None = None
        self._ending: IDelayedCall | None = None
        self._make()

    def _make(self) -> None:
        settings, pool = self.destination.settings, self._pool
        self._connect()
        self._agent = self._ejector = None
        if settings.healthCheck != "off" or settings.agent:
            self._says = Says(self)
        if settings.healthCheck == "off":
            self._monitor = Prober(
                self.destination, self._worker.connector, pool, self.recovered
            )
        else:
            assert self._says is not None
            self._monitor = Checker(self, self._newCheck, self._says.said)
        if settings.agent:
            assert self._says is not None
            self._agent = Agent(self, self._newQuestion, self._says.said)
        if settings.ejectAfter:
            self._ejector = Ejector(self, self._serves)

    def _connect(self) -> None:
        """
        Find where checks and the agent are asked.
        """
        settings, address = self.destination.settings, self.destination.address
        self._connector = self._agentConnector = None
        if settings.checkAddress and settings.healthCheck != "off":
            where = addressOf(address, settings.checkAddress)
            self._connector = self._pool.connectorTo(where)
        if settings.agent:
            where = addressOf(address, settings.agent)
            self._agentConnector = self._pool.connectorTo(where)

    def _newCheck(self) -> Check | None:
        if self.destination.asleep is not None:
            return None  # a check must not wake it, and is made as it wakes
        return self._ownCheck()

    def _ownCheck(self) -> Check:
        own = self._connector is None
        connector = self._worker.connector if own else self._connector
        assert connector is not None
        return self._pool.checks.check(self.destination, connector, own)

    def _newQuestion(self) -> Check | None:
        if self.destination.asleep == "asleep":
            return None
        assert self._agentConnector is not None
        return self._pool.checks.agent(self._agentConnector)

    def readiness(self) -> Check:
        """
        Make the check that shows whether the destination, which is being started, is
        ready: its own, or else a connect.
        """
        settings = self.destination.settings
        if settings.healthCheck != "off":
            return self._ownCheck()
        return ConnectingCheck(self._worker.connector, None, headerOf(settings))

    def forget(self) -> None:
        """
        Forget what the destination has said of itself, because it is being stopped.
        """
        if self._says is not None:
            self._says.forget()

    # What the worker calls.

    def start(self) -> None:
        """
        Begin to watch.
        """
        self._running = True
        if self._agent is not None:
            self._agent.start()
        if isinstance(self._monitor, Checker):
            self._monitor.start()

    def awaitRecovery(self) -> None:
        """
        Probe the destination, which is down, or check it sooner.
        """
        self._monitor.start()

    def stop(self) -> None:
        """
        Stop all checks and timers.
        """
        self._running = False
        self._monitor.stop()
        if self._agent is not None:
            self._agent.stop()
        if self._ejector is not None:
            self._ejector.stop()
        if self._slowStart is not None:
            self._slowStart.stop()
        self.destination.startSlots = None
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def hurry(self) -> None:
        """
        Shorten the wait for the next check, because sessions wait and no destination is
        up.
        """
        if self._ejector is not None:
            self._ejector.hurry()
        self._monitor.hurry()

    def use(self, connector: DestinationConnector) -> None:
        """
        Connect in another way from now on.
        """
        if isinstance(self._monitor, Prober):
            self._monitor.connector = connector
        self._connect()

    def configured(self, old: DestinationSettings) -> None:
        """
        Watch as other settings ask for.
        """
        new = self.destination.settings
        if any(
            getattr(old, each) != getattr(new, each)
            for each in ("healthCheck", "checkAddress", "agent", "ejectAfter")
        ):
            running = self._running
            self.stop()
            if self._says is not None:
                # What was said is not known to hold for another check or agent.
                self._says.forget()
            self.destination.checked = None
            self._make()
            if running:
                self.start()

    def kindsOf(self, kinds: Kinds) -> Kinds:
        """
        Return the relays for the destination's sessions.
        """
        return kinds if self._ejector is None else judging(kinds)

    def relayedBy(self, relayed: Relayed) -> Relayed:
        """
        Return the function to call when a session is connected.

        @param relayed: The one to call besides.
        """
        ejector = self._ejector
        if ejector is None:
            return relayed

        def both(session: Session) -> None:
            relayed(session)
            ejector.relayed(session)

        return both

    def wentDown(self) -> None:
        """
        Do what follows when the destination is down.
        """
        if self._slowStart is not None:
            self._slowStart.stop()
        if self._running and self.destination.settings.endOnDown:
            self._endSessions(self._sessions())

    def _endSessions(self, left: Iterator[Session]) -> None:
        """
        End some sessions in each turn of the reactor.
        """
        if self._ending is not None:
            self._ending.cancel()

        def end() -> None:
            self._ending = None
            some = list(islice(left, ENDED_PER_TURN))
            for session in some:
                if session.outcome is None:
                    session.holder.dismiss(Outcome.DESTINATION_DOWN)
            if some and self._running:
                self._endSessions(left)

        # Not now: this may be called during a step of one of them.
        self._ending = self.clock.callLater(0, end)

    def _sessions(self) -> Iterator[Session]:
        """
        Iterate over the sessions that the destination serves.
        """
        for session in self._worker.table:
            holder = session.holder if session.relay is not None else None
            if isinstance(holder, Serving) and holder.serves(self._worker):
                yield session

    def cameUp(self) -> None:
        """
        Do what follows when the destination is up.
        """
        if self.destination.isUp:
            self.events.destination(self.destination, DESTINATION_UP)
        self._pool.destinationChanged()
        self._worker.check()

    # What those that watch call.

    def recovered(self) -> None:
        """
        Called when a probe, or enough checks, have succeeded.
        """
        if self.destination.settings.sleeps:
            return  # it is up when it is awake
        ejector = self._ejector
        if ejector is not None and (held := ejector.held):
            if isinstance(self._monitor, Prober):
                self._monitor.later(held)
            return
        fresh = self.destination.fresh
        self.destination.recovered()
        if ejector is None or not ejector.tryAgain():
            if not fresh:
                self._startSlowly()
        self.cameUp()

    def reported(self, why: str | None) -> None:
        """
        Called when the destination has said that it is down, and why; or that it is up.
        """
        before = self.destination.reportedDown
        if (before is None) == (why is None):
            self.destination.reportedDown = why
            return
        if why is None:
            self._startSlowly()
        self._worker.reported(why)

    def changed(self, shares: bool) -> None:
        """
        Called when the destination's agent has asked for more or fewer sessions.
        """
        self._pool.destinationChanged()
        if shares:
            self._pool.sharesChanged()
        self._worker.check()

    def inHurry(self) -> bool:
        """
        Return whether sessions wait while no destination is up.
        """
        return self._pool.inHurry()

    def isLast(self) -> bool:
        """
        Return whether no other destination takes sessions.
        """
        return self._pool.isLast(self.destination)

    def goDown(self, why: str) -> None:
        """
        Called when the destination is down.
        """
        self._worker.goDown(why)

    def _serves(self) -> None:
        """
        Called when a destination that was ejected serves again.
        """
        self.destination.startSlots = None
        self._startSlowly()
        self._worker.check()

    def _startSlowly(self) -> None:
        if not self.destination.settings.slowStart or not self._running:
            return
        if self._slowStart is None:
            self._slowStart = SlowStart(
                self.clock,
                self.destination,
                lambda: self._pool.shareOf(self.destination),
                self._worker.check,
            )
        self._slowStart.begin()

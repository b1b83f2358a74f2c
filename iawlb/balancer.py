"""
Pools, and what they share: one loop, one table of sessions, one limit of connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Unpack

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import IDelayedCall

from iawlb.arguments import (
    BalancerArguments,
    GlobalArguments,
    PolicyName,
    PoolArguments,
    checkProvider,
    checkReactor,
    observersOf,
)
from iawlb.clock import monotonicClock
from iawlb.core.events import (
    DESTINATION_REMOVED,
    POOL_ADDED,
    POOL_REMOVED,
    Events,
    IObserver,
    Observer,
)
from iawlb.core.outcome import Outcome
from iawlb.core.policies import IPolicy, Policy
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.errors import IawlbError, InvalidSetting, UnknownPool
from iawlb.frontend.choosing import Choose
from iawlb.frontend.limits import connectionLimit
from iawlb.frontend.routing import Router
from iawlb.observe.eventlog import EventLog
from iawlb.pool import Pool
from iawlb.programs.shared import Programs
from iawlb.relay.context import RelayContext
from iawlb.relay.poller import SocketPoller
from iawlb.relay.resets import ResetWatch
from iawlb.relay.sends import SendWatch
from iawlb.relay.throttle import Throttle
from iawlb.relay.watchtimer import WatchTimer
from iawlb.setting import checkNames
from iawlb.settings import Settings, checkLive, checkScope
from iawlb.shared import Shared
from iawlb.validators import poolName


class Balancer(MultiService):
    """
    Pools by name, each with its own listeners, queue and destinations::

        balancer = Balancer(reactor, maxConnections=5000)
        web = balancer.addPool("web", queueTimeout="10s")
        web.listen("tcp:8080")
        web.add("localhost:9001")
        balancer.startService()

    @ivar settings: The settings of the whole balancer, and the defaults of its pools.
    @ivar clock: The reactor's monotonic time, which no change of the wall clock moves.
    @ivar events: The observers, to which every step is reported.
    @ivar table: All sessions that live.
    @ivar throttle: Reads again the connections that have used up their bandwidth.
    @ivar closing: Pools that were removed and whose sessions have not all finished.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        observers: Iterable[Observer] | None = None,
        **settings: Unpack[BalancerArguments],
    ) -> None:
        """
        @param observers: Objects that are called at every step (see L{IObserver}); by
            default one that writes log lines.
        @param settings: Any field of L{Settings}, by its name.
        @raise InvalidSetting: An argument is wrong.
        """
        super().__init__()
        checkReactor(reactor)
        self._given: dict[str, Any] = {**settings}
        checkNames(self._given, Settings, type(self).__name__)
        self.settings = Settings(**self._given)
        limit = connectionLimit(self.settings.maxConnections)
        self.events = Events(
            [EventLog(self.settings.log == "errors")]
            if observers is None
            else observersOf(observers, IObserver)
        )
        self._poller: SocketPoller | None = None
        if self.settings.relay != "portable" and SocketPoller.suits(reactor):
            self._poller = SocketPoller(reactor, self.settings.bufferSize)
        elif self.settings.relay == "fast":
            raise InvalidSetting(
                "relay: fast needs Linux and a reactor that watches descriptors; "
                "write auto or portable"
            )
        # Descriptors for connections that are no sessions.
        self._filesKept = 0
        self._opened = False
        # Closes the sessions that have not finished.
        self._cutting: IDelayedCall | None = None
        # What stopService has returned, until the balancer has stopped.
        self._stops: list[Deferred[None]] = []
        self.clock = monotonicClock(reactor)
        self.table = SessionTable(self.clock, self.events, self._sessionEnded, limit)
        self._watching = WatchTimer(self.clock)
        context = RelayContext(
            self.settings.bufferSize,
            self._poller,
            self._watching.add(
                partial(ResetWatch, abortOnClose=self.settings.abortOnClose)
            ),
            self._watching.add(SendWatch),
            self.clock.seconds,
            self.settings.strictTls,
        )
        self.throttle = Throttle(self.clock)
        self._pools: dict[str, Pool] = {}
        self._router = Router(self._pools)
        self._shared = Shared(
            reactor,
            self.clock,
            self.events,
            self.table,
            context,
            Programs(reactor, self.clock),
            self._pools,
            self.throttle,
            self._router,
        )
        self.closing: list[Pool] = []

    # Pools, also while the balancer runs.

    @property
    def pools(self) -> Mapping[str, Pool]:
        """
        The pools by name, in the order in which they were added.
        """
        return MappingProxyType(self._pools)

    @property
    def stopping(self) -> bool:
        """
        Whether the balancer accepts no more, and waits for its sessions to finish.
        """
        return bool(self._stops)

    def addPool(
        self,
        name: str,
        *,
        policy: PolicyName | Policy | None = None,
        choose: Choose | None = None,
        **settings: Unpack[PoolArguments],
    ) -> Pool:
        """
        Add a pool. If the balancer runs, the pool serves as soon as it has a listener
        and a destination.

        @param name: 1 to 64 letters, digits, C{_}, C{.} or C{-}.
        @param policy: The name of a policy, or one of your own (see L{IPolicy}).
        @param choose: A function, coroutine function or function that returns a
            Deferred: gets each session before it enters the queue, and gives the pool
            or the destination that is to serve it, or a L{Choice}.
        @param settings: Any field of L{Settings} that a pool may have, by its name; the
            others are those of the balancer.
        @raise InvalidSetting: An argument is wrong, or the name is taken.
        """
        poolName(name)
        if name in self._pools:
            raise InvalidSetting(f"there is a pool {name!r} already")
        checkNames({**settings}, Settings, "a pool")
        checkScope(settings, "pool")
        given: dict[str, Any] = {**self._given, **settings}
        if isinstance(policy, str):
            given["policy"] = policy
        own = Settings(**given)
        chosen = None if isinstance(policy, str) else policy
        if chosen is not None:
            checkProvider(IPolicy, chosen, "policy")
        if choose is not None and not callable(choose):
            raise InvalidSetting(f"choose: {choose!r} is no function")
        pool = Pool(self._shared, name, own, chosen, choose)
        self._pools[name] = pool
        self._router.changed()
        self.events.pool(name, POOL_ADDED, "")
        if self._opened:
            pool.listeners.open()
        if self.running and not self.stopping:
            pool.start()
        return pool

    def removePool(self, name: str) -> Deferred[None]:
        """
        Remove a pool: its listeners close, and the sessions that wait and those that
        are served finish.

        @return: Fires when the last of the sessions has ended and the pool is gone.
        @raise UnknownPool: There is no pool of that name.
        """
        pool = self.pool(name)
        del self._pools[name]
        self._router.changed()
        self.closing.append(pool)
        return ensureDeferred(self._remove(pool))

    async def _remove(self, pool: Pool) -> None:
        await pool.close()
        # What a pause holds is to finish, too.
        pool.resume(by="the removal of the pool")
        await pool.count.whenEmpty()
        self.closing.remove(pool)
        pool.stop()
        for destination in pool.destinations:
            self.events.destination(destination, DESTINATION_REMOVED)
        self.events.pool(pool.name, POOL_REMOVED, "")

    def pool(self, name: str) -> Pool:
        """
        Return the pool of a name.

        @raise UnknownPool: There is none.
        """
        pool = self._pools.get(name)
        if pool is None:
            names = ", ".join(self._pools) or "none"
            raise UnknownPool(f"there is no pool {name!r}; there is {names}")
        return pool

    def configure(self, **settings: Unpack[GlobalArguments]) -> None:
        """
        Change settings of the whole balancer from now on. Those that cannot change
        while it runs are refused.

        @raise InvalidSetting: A value is wrong, or cannot change; nothing is changed.
        """
        checkNames({**settings}, Settings, "the balancer")
        checkScope(settings, "global")
        given: dict[str, Any] = {**self._given, **settings}
        new = Settings(**given)
        checkLive(self.settings, new)
        limit = connectionLimit(new.maxConnections, self._filesKept)
        self._given = given
        if new.log != self.settings.log:
            for observer in self.events.observers:
                if isinstance(observer, EventLog):
                    observer.errorsOnly = new.log == "errors"
        self.settings.take(new)
        self.table.limit = limit
        self.checkRoom()

    def keepFiles(self, number: int) -> None:
        """
        Keep descriptors for connections that are no sessions, such as those of an admin
        server: so these are served also when clients have taken all the room.

        @raise InvalidSetting: C{maxConnections} leaves no room for them.
        """
        kept = self._filesKept + number
        self.table.limit = connectionLimit(self.settings.maxConnections, kept)
        self._filesKept = kept

    def observe(self, observer: Observer) -> None:
        """
        Call another observer at every step from now on.

        @param observer: See L{IObserver}.
        """
        checkProvider(IObserver, observer, "observer")
        self.events.add(observer)

    @property
    def sessions(self) -> list[Session]:
        """
        The sessions that live, waiting and served.
        """
        return list(self.table)

    # The service.

    def privilegedStartService(self) -> None:
        """
        Bind and listen, while the process has its privileges.

        @raise CannotListen: A listener could not be opened; none stays open.
        """
        super().privilegedStartService()
        self._open()

    def startService(self) -> None:
        """
        Begin to serve.

        @raise CannotListen: A listener could not be opened; none stays open.
        @raise IawlbError: It has been started, and has not stopped since.
        """
        self._open()
        super().startService()
        if self._poller is not None:
            self._poller.start()
        for pool in self._pools.values():
            pool.start()

    def stopService(self) -> Deferred[None]:
        """
        Stop: accept no more connections, let the sessions that wait and those that are
        served finish, for up to C{drainTimeout}, and close the rest.

        @return: Fires when all sessions are closed.
        """
        stopped: Deferred[None] = Deferred()
        self._stops.append(stopped)
        if len(self._stops) == 1:
            ensureDeferred(self._stop()).addBoth(self._stopped)
        return stopped

    def _stopped(self, result: Any) -> None:
        """
        Report the end of the stop to each that has asked for one.
        """
        stops, self._stops = self._stops, []
        for each in stops:
            each.callback(result)

    def cutDrain(self) -> None:
        """
        Stop waiting for the sessions to finish. They are closed in the reactor's next
        turn, since an observer may call this during a step of one of them.
        """
        if self._cutting is not None and self._cutting.active():
            self._cutting.reset(0)
        else:
            self._cutting = self.clock.callLater(0, self._cut)

    def _cut(self) -> None:
        """
        Close the sessions.
        """
        # Close the waiting sessions first, so that none of them gets the slot of
        # another.
        for session in sorted(self.table, key=lambda each: each.relay is not None):
            if session.outcome is not None:
                continue  # ended together with another session
            queued = session.relay is None
            session.holder.dismiss(Outcome.KILLED_QUEUE if queued else Outcome.KILLED)

    async def _stop(self) -> None:
        self._opened = False
        closing = [pool.close() for pool in self._pools.values()]
        if self._cutting is None or not self._cutting.active():
            wait = self.settings.drainTimeout
            self._cutting = self.clock.callLater(wait, self._cut)
        await DeferredList(closing)
        await self.table.whenEmpty()
        if self._cutting.active():
            self._cutting.cancel()
        for pool in (*self._pools.values(), *self.closing):
            pool.stop()
        await self._shared.programs.whenStopped()
        self._watching.stop()
        self.throttle.stop()
        if self._poller is not None:
            self._poller.stop()
        await super().stopService()

    def _open(self) -> None:
        if self.running:
            raise IawlbError(
                "the balancer runs, or is still stopping; start it again when the "
                "Deferred of stopService has fired"
            )
        self._router.check()
        if not self._opened:
            for pool in self._pools.values():
                pool.listeners.open()
            self._opened = True

    def _sessionEnded(self) -> None:
        self.table.roomAwaited = False
        self.checkRoom()

    def checkRoom(self) -> None:
        """
        Accept again where there was no room and now there may be some.
        """
        for pool in self._pools.values():
            pool.checkRoom()

"""
The load balancer as a service: the public, embeddable object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Unpack

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IProtocol

from iawlb.arguments import (
    BalancerArguments,
    ClientEndpoint,
    DestinationArguments,
    ListenerArguments,
    PolicyName,
    ServerEndpoint,
    addressesOf,
    checkProvider,
    checkReactor,
    observersOf,
)
from iawlb.clock import monotonicClock
from iawlb.core.destination import Destination
from iawlb.core.events import Events, IObserver, Observer
from iawlb.core.outcome import Outcome
from iawlb.core.policies import POLICIES, IPolicy, Policy
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.errors import IawlbError, InvalidSetting
from iawlb.frontend.limits import connectionLimit
from iawlb.observe.eventlog import EventLog
from iawlb.pool import Pool
from iawlb.relay.context import RelayContext
from iawlb.relay.poller import SocketPoller
from iawlb.relay.resets import ResetWatch
from iawlb.relay.sends import SendWatch
from iawlb.relay.watchtimer import WatchTimer
from iawlb.settings import Settings, checkNames
from iawlb.shared import Shared


class LoadBalancer(MultiService):
    """
    A load balancer: connections wait in one queue, and each destination's worker pulls
    the next one when it has a free slot.

    It can be started in any Twisted program::

        balancer = LoadBalancer(
            reactor,
            listeners=["tcp:8080"],
            destinations=["localhost:9001", "localhost:9002 slots=4"],
            queueTimeout="10s",
        )
        balancer.startService()

    @ivar settings: The settings of the whole balancer.
    @ivar factory: A factory that puts the connections it accepts into the queue. Give
        it to any endpoint or service of your own.
    """

    def __init__(
        self,
        reactor: Any,
        listeners: Iterable[str | ServerEndpoint] = (),
        destinations: Iterable[str | ClientEndpoint] = (),
        *,
        policy: PolicyName | Policy | None = None,
        observers: Iterable[Observer] | None = None,
        **settings: Unpack[BalancerArguments],
    ) -> None:
        """
        @param listeners: Addresses to listen on, each with its settings behind it, as
            after C{--listen}; or endpoints.
        @param destinations: Addresses to forward to, each with its settings behind it,
            as after C{--dest}; or endpoints, whose settings are the defaults (use
            L{add} to give others).
        @param policy: The name of a policy, or one of your own (see L{IPolicy}).
        @param observers: Objects that are called at every step (see L{IObserver}); by
            default one that writes log lines.
        @param settings: Any field of L{Settings}, by its name.
        @raise InvalidSetting: An argument is wrong.
        """
        super().__init__()
        checkReactor(reactor)
        given: dict[str, Any] = {**settings}
        if isinstance(policy, str):
            given["policy"] = policy
        checkNames(given, Settings, "LoadBalancer")
        self.settings = Settings(**given)
        maxConnections = connectionLimit(self.settings.maxConnections)
        chosen: Policy
        if policy is None or isinstance(policy, str):
            chosen = POLICIES[self.settings.policy]()
        else:
            checkProvider(IPolicy, policy, "policy")
            chosen = policy
        self._events = Events(
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
        self._opened = False
        # Closes the sessions that have not finished.
        self._cutting: IDelayedCall | None = None
        # What stopService has returned, until the balancer has stopped.
        self._stops: list[Deferred[None]] = []
        self._clock = monotonicClock(reactor)
        self._table = SessionTable(self._clock, self._events, self._sessionEnded)
        self._watching = WatchTimer(self._clock)
        context = RelayContext(
            self.settings.bufferSize,
            self._poller,
            self._watching.add(
                partial(ResetWatch, abortOnClose=self.settings.abortOnClose)
            ),
            self._watching.add(SendWatch),
            self._clock.seconds,
            self.settings.strictTls,
        )
        shared = Shared(
            reactor, self._clock, self._events, self._table, context, maxConnections
        )
        self._pools = [Pool(shared, self.settings, chosen)]
        (self._pool,) = self._pools
        self.factory = self._pool.factory
        for listener in addressesOf(listeners, listening=True):
            self._named("listeners", self.listen, listener)
        for destination in addressesOf(destinations, listening=False):
            self._named("destinations", self.add, destination)

    def _named(self, argument: str, take: Callable[[Any], object], item: Any) -> None:
        """
        Take an item of an argument.

        @raise InvalidSetting: The item is wrong; the message names the argument.
        """
        try:
            take(item)
        except InvalidSetting as error:
            raise InvalidSetting(f"{argument}: {error}") from error

    # Destinations, also while the balancer runs.

    @property
    def destinations(self) -> list[Destination]:
        """
        The destinations, in the order in which they were added. Read them freely, and
        change them by the methods here.
        """
        return self._pool.destinations

    def add(
        self,
        address: str | ClientEndpoint,
        **settings: Unpack[DestinationArguments],
    ) -> Destination:
        """
        Add a destination. If the balancer runs, the destination takes sessions at once.

        @param address: As after C{--dest}, or an endpoint.
        @param settings: C{name}, C{slots} and C{weight}; they override those behind the
            address.
        @raise InvalidSetting: The address or a setting is wrong, or the name is taken.
        """
        return self._pool.add(address, settings)

    def remove(self, name: str) -> Deferred[None]:
        """
        Remove a destination: it takes no more sessions, and those it has continue.

        @return: Fires when the last of the sessions has ended and the destination is
            gone.
        @raise UnknownDestination: There is no destination of that name.
        """
        return self._pool.remove(name)

    def pause(self, name: str | None = None) -> None:
        """
        Let a destination take no more sessions. The sessions it has continue; new ones
        wait, or go to other destinations. So the destination can be restarted without a
        client noticing.

        @param name: The destination's name; by default all destinations are paused.
        @raise UnknownDestination: There is no destination of that name.
        """
        self._pool.setPaused(name, True)

    def resume(self, name: str | None = None) -> None:
        """
        Undo L{pause}.

        @raise UnknownDestination: There is no destination of that name.
        """
        self._pool.setPaused(name, False)

    # Listeners and sessions.

    @property
    def addresses(self) -> list[str]:
        """
        The addresses that the balancer listens on, each as C{host:port}, C{[v6]:port}
        or C{unix:path}; before it is started, as the user wrote them.
        """
        return self._pool.listeners.addresses

    def listen(
        self,
        address: str | ServerEndpoint,
        **settings: Unpack[ListenerArguments],
    ) -> None:
        """
        Add a listener. It is opened when the balancer is started, or at once if the
        balancer runs: C{addresses} then holds its address. If its endpoint does not
        listen at once, the listener is opened a little later, and a failure is logged.

        @param address: As after C{--listen}, or an endpoint.
        @param settings: C{name}, which overrides the one behind the address.
        @raise InvalidSetting: The address or a setting is wrong.
        @raise CannotListen: The listener could not be opened; it is not added.
        """
        self._pool.listen(address, settings)

    @property
    def sessions(self) -> list[Session]:
        """
        The sessions that live, waiting and served.
        """
        return list(self._table)

    @property
    def waiting(self) -> int:
        """
        The number of sessions that wait in the queue.
        """
        return len(self._pool.queue)

    def takeOver(self, protocol: IProtocol, data: bytes = b"") -> None:
        """
        Put a connection of your own protocol into the queue. The protocol is not called
        any more.

        @param protocol: A connected protocol. Its transport must call the protocol
            itself, as Twisted's TCP, Unix and TLS transports do.
        @param data: Bytes that the protocol has read, which the destination gets first.
        @raise InvalidSetting: The connection cannot be taken over, or there is no room;
            the connection is left as it was.
        """
        transport: Any = getattr(protocol, "transport", None)
        for attribute in ("protocol", "wrappedProtocol"):
            if getattr(transport, attribute, None) is protocol:
                break
        else:
            raise InvalidSetting(f"{protocol!r} is not what its transport calls")
        side = self.factory.buildProtocol(transport.getPeer())
        if side is None:
            raise InvalidSetting("there is no room for another connection")
        setattr(transport, attribute, side)
        side.fromStart = False
        if data:
            side.early.append(data)
        side.makeConnection(transport)
        # A protocol that has read something is past any handshake.
        if not side.ready:
            side.handshakeCompleted()

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
        for pool in self._pools:
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
            self._cutting = self._clock.callLater(0, self._cut)

    def _cut(self) -> None:
        """
        Close the sessions.
        """
        # Close the waiting sessions first, so that none of them gets the slot of
        # another.
        for session in sorted(self._table, key=lambda each: each.relay is not None):
            if session.outcome is not None:
                continue  # ended together with another session
            queued = session.relay is None
            session.holder.dismiss(Outcome.KILLED_QUEUE if queued else Outcome.KILLED)

    async def _stop(self) -> None:
        self._opened = False
        closing = [pool.close() for pool in self._pools]
        if self._cutting is None or not self._cutting.active():
            wait = self.settings.drainTimeout
            self._cutting = self._clock.callLater(wait, self._cut)
        await DeferredList(closing)
        await self._table.whenEmpty()
        if self._cutting.active():
            self._cutting.cancel()
        for pool in self._pools:
            pool.stop()
        self._watching.stop()
        if self._poller is not None:
            self._poller.stop()
        await super().stopService()

    def _open(self) -> None:
        if self.running:
            raise IawlbError(
                "the balancer runs, or is still stopping; start it again when the "
                "Deferred of stopService has fired"
            )
        if not self._opened:
            for pool in self._pools:
                pool.listeners.open()
            self._opened = True

    def _sessionEnded(self) -> None:
        self._table.roomAwaited = False
        for pool in self._pools:
            pool.checkRoom()

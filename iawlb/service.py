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
from iawlb.errors import InvalidSetting
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
    Connections wait in one queue, and each destination's worker pulls the next
    one when it has a free slot.

    It can be started in any Twisted program::

        balancer = LoadBalancer(
            reactor,
            listeners=["tcp:8080"],
            destinations=["localhost:9001", "localhost:9002 slots=4"],
            queueTimeout="10s",
        )
        balancer.startService()

    @ivar settings: What holds for the whole balancer.
    @ivar factory: A factory that puts what it accepts into the queue. Give it to
        any endpoint or service of your own.
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
        @param listeners: Addresses to listen on, each with its settings behind
            it, as after C{--listen}; or endpoints.
        @param destinations: Addresses to forward to, each with its settings
            behind it, as after C{--dest}; or endpoints, whose settings are the
            defaults (see L{add} to give others).
        @param policy: The name of a policy, or one of your own (see L{IPolicy}).
        @param observers: Objects that are told of every step (see L{IObserver}); by
            default one that writes log lines.
        @param settings: Any field of L{Settings}, by its name.
        @raise InvalidSetting: Any of these is wrong.
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

        @raise InvalidSetting: It is wrong; the message names the argument.
        """
        try:
            take(item)
        except InvalidSetting as error:
            raise InvalidSetting(f"{argument}: {error}") from error

    # Destinations, also while it runs.

    @property
    def destinations(self) -> list[Destination]:
        """
        The destinations, in the order in which they were added; read them, and
        change them by the methods here.
        """
        return self._pool.destinations

    def add(
        self,
        address: str | ClientEndpoint,
        **settings: Unpack[DestinationArguments],
    ) -> Destination:
        """
        Add a destination; it takes sessions at once.

        @param address: As after C{--dest}, or an endpoint.
        @param settings: C{name}, C{slots} and C{weight}; they win over those
            behind the address.
        @raise InvalidSetting: The address or a setting is wrong, or the name is
            taken.
        """
        return self._pool.add(address, settings)

    def remove(self, name: str) -> Deferred[None]:
        """
        Remove a destination: it takes no more sessions, and those it has go on.

        @return: Fires when the last of them has ended and it is gone.
        @raise UnknownDestination: There is none of that name.
        """
        return self._pool.remove(name)

    def pause(self, name: str | None = None) -> None:
        """
        Have a destination take no more sessions; those it has go on, and new
        ones wait, or go to others. It can then be restarted unnoticed.

        @param name: Which one; by default all of them.
        @raise UnknownDestination: There is none of that name.
        """
        self._pool.setPaused(name, True)

    def resume(self, name: str | None = None) -> None:
        """
        Undo L{pause}.

        @raise UnknownDestination: There is none of that name.
        """
        self._pool.setPaused(name, False)

    # Listeners and sessions.

    @property
    def addresses(self) -> list[str]:
        """
        Where it listens, each as C{host:port}, C{[v6]:port} or C{unix:path};
        before it is started, as the user wrote it.
        """
        return self._pool.listeners.addresses

    def listen(
        self,
        address: str | ServerEndpoint,
        **settings: Unpack[ListenerArguments],
    ) -> None:
        """
        Add a listener. It is opened when the balancer is started, or at once if
        it has been: C{addresses} then holds where it listens. An endpoint that
        takes its time to listen is opened a little later, and if it fails, that is
        logged.

        @param address: As after C{--listen}, or an endpoint.
        @param settings: C{name}; it wins over the one behind the address.
        @raise InvalidSetting: The address or a setting is wrong.
        @raise CannotListen: It could not be opened; it is not added.
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
        How many sessions wait in the queue.
        """
        return len(self._pool.queue)

    def takeOver(self, protocol: IProtocol, data: bytes = b"") -> None:
        """
        Put a connection of your own protocol into the queue. The protocol is not
        called any more.

        @param protocol: A connected protocol. It must be the one that its
            transport calls, as is so for those of Twisted's TCP, Unix and TLS
            transports.
        @param data: Bytes that it has read and that the destination is to get
            first.
        @raise InvalidSetting: The connection cannot be taken over, or there is
            no room; it is left as it was.
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
        Bind and listen, while there are privileges.

        @raise CannotListen: A listener could not be opened; none stays open.
        """
        super().privilegedStartService()
        self._open()

    def startService(self) -> None:
        """
        Begin to serve.

        @raise CannotListen: A listener could not be opened; none stays open.
        """
        self._open()
        super().startService()
        if self._poller is not None:
            self._poller.start()
        for pool in self._pools:
            pool.start()

    def stopService(self) -> Deferred[None]:
        """
        Stop: no more connections are accepted; those that wait and those that
        are served finish, up to C{drainTimeout}; the rest is closed.

        @return: Fires when all is closed.
        """
        return ensureDeferred(self._stop())

    def cutDrain(self) -> None:
        """
        Do not wait any longer for the sessions to finish. They are closed in the
        reactor's next turn, as an observer may call this in the midst of a step of
        one of them.
        """
        if self._cutting is not None and self._cutting.active():
            self._cutting.reset(0)
        else:
            self._cutting = self._clock.callLater(0, self._cut)

    def _cut(self) -> None:
        """
        Close the sessions.
        """
        # Those that wait come first: the slots of the others are not for them.
        for session in sorted(self._table, key=lambda each: each.relay is not None):
            if session.outcome is not None:
                continue  # the end of another was its own
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
        if not self._opened:
            for pool in self._pools:
                pool.listeners.open()
            self._opened = True

    def _sessionEnded(self) -> None:
        self._table.roomAwaited = False
        for pool in self._pools:
            pool.checkRoom()

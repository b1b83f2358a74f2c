"""
The load balancer as a service: the public, embeddable object.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import (
    IProtocol,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.backend.address import parseDestination, parseListen
from iawlb.backend.connector import Connector
from iawlb.backend.dialer import Dialer
from iawlb.backend.names import lookedUp
from iawlb.core.destination import Destination
from iawlb.core.events import (
    DESTINATION_ADDED,
    DESTINATION_DRAINING,
    DESTINATION_PAUSED,
    DESTINATION_REMOVED,
    DESTINATION_RESUMED,
    Events,
    IObserver,
)
from iawlb.core.outcome import Outcome
from iawlb.core.policies import POLICIES, IPolicy
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.errors import CannotListen, InvalidSetting, UnknownDestination
from iawlb.frontend.admission import Admission
from iawlb.frontend.factory import Frontend
from iawlb.frontend.limits import connectionLimit
from iawlb.frontend.listener import Listener
from iawlb.observe.eventlog import EventLog
from iawlb.relay.hangups import Hangups
from iawlb.relay.poller import Machine
from iawlb.settings import (
    DestinationSettings,
    ListenerSettings,
    Settings,
    checkNames,
    splitSettings,
)
from iawlb.workers.sweeper import Sweeper
from iawlb.workers.worker import Worker


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

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        listeners: Iterable[str | IStreamServerEndpoint] = (),
        destinations: Iterable[str | IStreamClientEndpoint] = (),
        *,
        policy: str | IPolicy | None = None,
        observers: Iterable[IObserver] | None = None,
        **settings: Any,
    ) -> None:
        """
        @param listeners: Addresses to listen on, each with its settings behind
            it, as after C{--listen}; or endpoints.
        @param destinations: Addresses to forward to, each with its settings
            behind it, as after C{--dest}; or endpoints, whose settings are the
            defaults (see L{add} to give others).
        @param policy: The name of a policy, or one of your own.
        @param observers: Who is told of every step; by default one that writes
            log lines.
        @param settings: Any field of L{Settings}, by its name.
        @raise InvalidSetting: Any of these is wrong.
        """
        super().__init__()
        if isinstance(policy, str):
            settings["policy"] = policy
        checkNames(settings, Settings)
        self.settings = Settings(**settings)
        maxConnections = connectionLimit(self.settings.maxConnections)
        chosen: IPolicy
        if policy is None or isinstance(policy, str):
            chosen = POLICIES[self.settings.policy]()
        else:
            chosen = policy
        self._reactor = reactor
        self._events = Events(
            [EventLog(self.settings.log == "errors")]
            if observers is None
            else observers
        )
        self._hangups = Hangups()
        self._dialer: Dialer | None = None
        if self.settings.relay != "portable" and Machine.suits(reactor):
            machine = Machine(reactor, self.settings.bufferSize)
            self._dialer = Dialer(reactor, machine, self.settings.connectTimeout)
        elif self.settings.relay == "fast":
            raise InvalidSetting(
                "relay: fast needs Linux and a reactor that watches descriptors; "
                "write auto or portable"
            )
        self._workers: dict[str, Worker] = {}
        self._order = 0
        self._nothingAvailable = True
        # Workers that lack something of this machine's.
        self._lacking = 0
        self._roomAwaited = False
        self._stopping = False
        self._opened = False
        self._table = SessionTable(reactor, self._events, self._checkRoom)
        self._queue = ConnectionQueue(chosen, self._available)
        self._admission = Admission(
            reactor,
            self._queue,
            self._table,
            self._events,
            self.settings,
            maxConnections,
            self._freeSlots,
            self._queued,
        )
        self._sweeper = Sweeper(
            reactor, self._table, self._queue, self._hangups, self.settings
        )
        self._listeners: list[Listener] = []
        self.factory = self._frontend("embedded")
        for listener in listeners:
            self.listen(listener)
        for destination in destinations:
            self.add(destination)

    # Destinations, also while it runs.

    @property
    def destinations(self) -> list[Destination]:
        """
        The destinations, in the order in which they were added; read them, and
        change them by the methods here.
        """
        return [worker.destination for worker in self._workers.values()]

    def add(self, address: str | IStreamClientEndpoint, **settings: Any) -> Destination:
        """
        Add a destination; it takes sessions at once.

        @param address: As after C{--dest}, or an endpoint.
        @param settings: C{name}, C{slots} and C{weight}; they win over those
            behind the address.
        @raise InvalidSetting: The address or a setting is wrong, or the name is
            taken.
        """
        given: dict[str, Any] = {}
        text = repr(address)
        if isinstance(address, str):
            text, given = splitSettings(address)
        self._order += 1
        default = text if isinstance(address, str) else f"destination-{self._order}"
        given = {"name": default, "slots": self.settings.slots, **given, **settings}
        checkNames(given, DestinationSettings)
        own = DestinationSettings(**given)
        if own.name in self._workers:
            raise InvalidSetting(
                f"there is a destination {own.name!r} already; give one of them "
                "another name with name="
            )
        endpoint: IStreamClientEndpoint
        if isinstance(address, str):
            text, endpoint = parseDestination(
                self._reactor, text, self.settings.connectTimeout
            )
        else:
            endpoint = address
        destination = Destination(text, own, self.settings, self._order)
        worker = Worker(
            destination,
            Connector(
                self._reactor, endpoint, self.settings, self._hangups, self._dialer
            ),
            self._queue,
            self._table,
            self._events,
            onChange=self._changed,
            onPull=self._checkRoom,
            onLacking=self._lack,
            onPutBack=self._queued,
            inHurry=self._inHurry,
        )
        self._workers[own.name] = worker
        self._events.destination(destination, DESTINATION_ADDED)
        if self.running:
            self._startWorker(worker)
        self._changed()
        return destination

    def remove(self, name: str) -> Deferred[None]:
        """
        Remove a destination: it takes no more sessions, and those it has go on.

        @return: Fires when the last of them has ended and it is gone.
        @raise UnknownDestination: There is none of that name.
        """
        worker = self._worker(name)
        destination = worker.destination
        if not destination.draining:
            destination.draining = True
            self._events.destination(destination, DESTINATION_DRAINING)
            worker.check()
            self._changed()

        def gone(_: object) -> None:
            if self._workers.pop(name, None) is not None:
                self._events.destination(destination, DESTINATION_REMOVED)
            worker.stop()

        return worker.whenIdle().addCallback(gone)

    def pause(self, name: str | None = None) -> None:
        """
        Have a destination take no more sessions; those it has go on, and new
        ones wait, or go to others. It can then be restarted unnoticed.

        @param name: Which one; by default all of them.
        @raise UnknownDestination: There is none of that name.
        """
        self._setPaused(name, True, DESTINATION_PAUSED)

    def resume(self, name: str | None = None) -> None:
        """
        Undo L{pause}.

        @raise UnknownDestination: There is none of that name.
        """
        self._setPaused(name, False, DESTINATION_RESUMED)

    def _setPaused(self, name: str | None, paused: bool, event: str) -> None:
        workers = list(self._workers.values()) if name is None else [self._worker(name)]
        changed = [each for each in workers if each.destination.paused != paused]
        for worker in changed:
            worker.destination.paused = paused
            self._events.destination(worker.destination, event)
        # The queue is told before a worker pulls.
        self._changed()
        for worker in changed:
            worker.check()

    def _worker(self, name: str) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            names = ", ".join(self._workers) or "none"
            raise UnknownDestination(
                f"there is no destination {name!r}; there is {names}"
            )
        return worker

    # Listeners and sessions.

    @property
    def addresses(self) -> list[str]:
        """
        Where it listens, each as C{host:port}, C{[v6]:port} or C{unix:path};
        before it is started, as the user wrote it.
        """
        return [listener.address for listener in self._listeners]

    def listen(self, address: str | IStreamServerEndpoint, **settings: Any) -> None:
        """
        Add a listener. It is opened when the balancer is started.

        @param address: As after C{--listen}, or an endpoint.
        @param settings: C{name}; it wins over the one behind the address.
        @raise InvalidSetting: The address or a setting is wrong.
        """
        text, path = repr(address), None
        own: dict[str, Any] = {"name": f"listener-{len(self._listeners) + 1}"}
        if isinstance(address, str):
            text, given = splitSettings(address)
            own = {"name": text, **given}
        own |= settings
        checkNames(own, ListenerSettings)
        frontend = self._frontend(ListenerSettings(**own).name)
        endpoint: IStreamServerEndpoint
        if isinstance(address, str):
            parsed = parseListen(self._reactor, text, self.settings.backlog)
            endpoint, path = parsed.endpoint, parsed.path
        else:
            endpoint = address
        self._listeners.append(
            Listener(
                self._reactor,
                endpoint,
                path,
                text,
                frontend,
                self._events,
                self._room,
                self._reactor if self._dialer is None else self._dialer.machine,
            )
        )

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
        return len(self._queue)

    def takeOver(self, protocol: IProtocol, data: bytes = b"") -> None:
        """
        Put a connection of your own protocol into the queue. The protocol hears
        no more of it.

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
        if self._dialer is not None:
            self._dialer.machine.start()
        self._stopping = False
        for worker in self._workers.values():
            self._startWorker(worker)
        self._changed()

    def stopService(self) -> Deferred[None]:
        """
        Stop: no more connections are accepted; those that wait and those that
        are served finish, up to C{drainTimeout}; the rest is closed.

        @return: Fires when all is closed.
        """
        return ensureDeferred(self._stop())

    def cutDrain(self) -> None:
        """
        Do not wait any longer for the sessions to finish.
        """
        # Those that wait come first: the slots of the others are not for them.
        for session in sorted(self._table, key=lambda each: each.relay is not None):
            if session.outcome is not None:
                continue  # the end of another was its own
            queued = session.relay is None
            session.holder.dismiss(Outcome.KILLED_QUEUE if queued else Outcome.KILLED)

    async def _stop(self) -> None:
        self._stopping = True
        self._opened = False
        closing = [listener.close() for listener in self._listeners]
        self._admission.flush()
        cutting = None
        if self.settings.drainTimeout:
            cutting = self._reactor.callLater(self.settings.drainTimeout, self.cutDrain)
        else:
            self.cutDrain()
        await DeferredList(closing, consumeErrors=True)
        await self._table.whenEmpty()
        if cutting is not None and cutting.active():
            cutting.cancel()
        # A removal that waited for a slot to rest is done now.
        for worker in list(self._workers.values()):
            worker.stop()
        self.factory.stop()
        if self._dialer is not None:
            self._dialer.stop()
            self._dialer.machine.stop()
        await self._sweeper.stop()
        await super().stopService()

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        failures: list[Failure] = []
        for listener in self._listeners:
            opening = listener.open()
            if opening.called and isinstance(opening.result, Failure):
                opening.addErrback(failures.append)
                break
            opening.addErrback(self._openedLate)
        else:
            return
        self._opened = False
        for listener in self._listeners:
            listener.close()
        failures[0].raiseException()

    def _startWorker(self, worker: Worker) -> None:
        worker.start()
        # A name that does not resolve makes its destination down from the start.
        lookedUp(worker.connector.endpoint).addErrback(worker.nameFailed)

    # What the parts ask and tell.

    def _frontend(self, name: str) -> Frontend:
        return Frontend(
            name,
            self._reactor,
            self._admission,
            self._table,
            self._hangups,
            self.settings,
        )

    def _available(self) -> list[Destination]:
        return [each for each in self.destinations if each.available]

    def _freeSlots(self) -> int | None:
        """
        Count the free slots of all; L{None} when one has no limit.
        """
        free = [each.freeSlots for each in self._available()]
        known = [each for each in free if each is not None]
        return sum(known) if len(known) == len(free) else None

    def _inHurry(self) -> bool:
        """
        Say whether sessions wait and nothing is up.
        """
        return self._nothingAvailable and len(self._queue) > 0

    def _queued(self) -> None:
        """
        Sessions came into the queue.
        """
        self._sweeper.start()
        if self._inHurry():
            self._hurry()

    def _room(self) -> int:
        """
        Say how many more sessions may be accepted now: none while a connect lacks
        a descriptor, as the accepted ones would take what it waits for.
        """
        room = 0 if self._lacking else self._admission.room()
        self._roomAwaited = self._roomAwaited or not room
        return room

    def _lack(self, lacking: bool) -> None:
        """
        A worker lacks something for its connects, or does so no longer.
        """
        self._lacking += 1 if lacking else -1
        self._checkRoom()

    def _checkRoom(self) -> None:
        """
        There may be room for more sessions, if there was none.
        """
        if not self._roomAwaited:
            return
        self._roomAwaited = False
        for listener in self._listeners:
            listener.check()

    def _changed(self) -> None:
        """
        A destination came, went, or changed its state.
        """
        self._nothingAvailable = not self._available()
        self._queue.rebind()
        if self.settings.whenDown == "refuse" and not self._stopping:
            up = any(
                each.down is None and not each.draining for each in self.destinations
            )
            for listener in self._listeners:
                if up:
                    listener.listenAgain()
                else:
                    listener.refuse()
        if self._inHurry():
            self._hurry()

    def _hurry(self) -> None:
        for worker in self._workers.values():
            worker.hurry()

    def _openedLate(self, failure: Failure) -> None:
        """
        A listener whose endpoint took its time failed.
        """
        failure.trap(CannotListen)
        self.log.critical("{why}", why=failure.getErrorMessage())

"""
A pool: one queue with its listeners, its destinations, its policy and its
time-outs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from iawlb.arguments import ClientEndpoint, ServerEndpoint, checkAddress
from iawlb.backend.address import checkCircle
from iawlb.backend.names import lookedUp
from iawlb.core.destination import Destination
from iawlb.core.events import (
    DESTINATION_ADDED,
    DESTINATION_CHANGED,
    DESTINATION_DRAINING,
    DESTINATION_REMOVED,
    DESTINATION_RESUMED,
    POOL_CHANGED,
)
from iawlb.core.origin import PoolCount
from iawlb.core.policies import Policy
from iawlb.core.queue import ConnectionQueue
from iawlb.core.ratelimit import FailureLog
from iawlb.core.retired import inUse
from iawlb.errors import InvalidSetting, UnknownDestination
from iawlb.frontend.admission import Admission
from iawlb.frontend.entrance import Entrance
from iawlb.frontend.listener import Listener
from iawlb.pausing import PausablePool
from iawlb.relay.keepalive import KeepAlive
from iawlb.setting import checkNames, splitSettings
from iawlb.settings import DestinationSettings, Settings
from iawlb.shared import Shared
from iawlb.workers.connectors import Connectors
from iawlb.workers.deadlines import Deadlines
from iawlb.workers.rebinder import Rebinder
from iawlb.workers.worker import Worker


class Pool(PausablePool):
    """
    One queue in which connections wait, and the workers of the destinations, each of
    which pulls the next connection when it has a free slot.

    @ivar name: The pool's name.
    @ivar count: The counts of the pool's sessions.
    @ivar settings: The settings of the pool.
    @ivar queue: The queue in which sessions wait.
    @ivar workers: The worker of each destination, by the destination's name.
    @ivar listeners: The addresses that clients connect to.
    @ivar deadlines: The time-outs of the pool's sessions.
    @ivar acceptPauses: How many times accepting was paused, for lack of room.
    @ivar entrance: Where clients come in.
    @ivar factory: Puts the connections of any endpoint into the queue.
    """

    def __init__(
        self, shared: Shared, name: str, settings: Settings, policy: Policy
    ) -> None:
        self.name = name
        self.count = PoolCount(name)
        self.settings = settings
        self.clock = shared.clock
        self.events = shared.events
        self.table = shared.table
        self.context = shared.context
        self.queue = ConnectionQueue(
            policy, self._available, bindable=settings.queueSize
        )
        self._rebinder = Rebinder(shared.reactor, self.queue)
        self.workers: dict[str, Worker] = {}
        # Workers whose destination's place another one has taken, and which finish
        # their sessions.
        self._replaced: list[Worker] = []
        self.gate = self._makeGate()
        self._reactor = shared.reactor
        self._connectors = Connectors(
            shared.reactor, self.clock, settings, shared.context
        )
        self._order = 0
        self._nothingAvailable = True
        # The number of workers that are held off by a shortage of the whole machine.
        self._heldOff = 0
        self._roomAwaited = False
        self.acceptPauses = 0
        self._acceptPaused = False
        self._failures = FailureLog(self.clock, "looking for room")
        self._stopping = False
        self._running = False
        self._admission = Admission(
            self.clock,
            self.queue,
            self.table,
            self.events,
            settings,
            self._freeSlots,
            self.sessionsPutBack,
        )
        keepAlive = _keepAlive(settings)
        self.deadlines = self._deadlines(keepAlive)
        # Time-outs of running sessions that have changed since.
        self._retired: list[Deadlines] = []
        self.entrance = Entrance(
            self._reactor,
            self.clock,
            self.count,
            settings,
            self._admission,
            self.table,
            self.events,
            self.context,
            self._room,
            self._checkNoCircle,
            keepAlive,
            self.deadlines.handshaking,
        )
        self.listeners = self.entrance.listeners
        self.factory = self.entrance.factory
        self.gate.setSlots(settings.poolSlots)

    # Destinations.

    @property
    def accepting(self) -> bool:
        """
        Whether there is room for more clients.
        """
        return not self._roomAwaited

    @property
    def destinations(self) -> list[Destination]:
        """
        The destinations, in the order in which they were added. Those whose place
        another one has taken come last.
        """
        workers = (*self.workers.values(), *self._replaced)
        return [worker.destination for worker in workers]

    def add(
        self,
        address: str | ClientEndpoint,
        settings: Mapping[str, object],
        ready: bool = True,
    ) -> Destination:
        """
        Add a destination. If the pool runs, the destination takes sessions at once.

        @param ready: If not, the destination is paused, and is down until a probe
            succeeds.
        @raise InvalidSetting: The address or a setting is wrong, or the name is taken.
        """
        checkAddress(address, listening=False)
        self._order += 1
        given: dict[str, Any] = {"name": f"destination-{self._order}"}
        if isinstance(address, str):
            address, behind = splitSettings(address)
            for each in self.listeners:
                checkCircle(address, each.address, each.settings.v6only)
            given = {"name": address, **behind}
        connector = self._connectors.to(address)
        given = {"slots": self.settings.slots, **given, **settings}
        checkNames(given, DestinationSettings, "a destination")
        own = DestinationSettings(**given)
        if own.name in self.workers:
            raise InvalidSetting(
                f"there is a destination {own.name!r} already; give one of them "
                "another name with name="
            )
        destination = Destination(
            connector.text, own, self.settings, self._order, self.name
        )
        if not ready:
            destination.paused = True
            destination.down = "not probed yet"
        worker = Worker(destination, connector, self)
        self.workers[own.name] = worker
        self.events.destination(destination, DESTINATION_ADDED)
        if self._running:
            self._startWorker(worker)
        self.destinationChanged()
        return destination

    def drain(self, name: str) -> Deferred[None]:
        """
        Let a destination take no more sessions and finish those it has, but keep it.
        L{undrain} undoes that.

        @return: Fires when the last of the sessions has ended, or L{undrain} was
            called.
        @raise UnknownDestination: There is no destination of that name.
        """
        worker = self._worker(name)
        self._drain(worker)
        return worker.whenIdle()

    def _drain(self, worker: Worker) -> None:
        destination = worker.destination
        if not destination.draining:
            destination.draining = True
            self.events.destination(destination, DESTINATION_DRAINING)
            worker.check()
            self.destinationChanged()

    def undrain(self, name: str) -> None:
        """
        Let a destination that was drained take sessions again.

        @raise UnknownDestination: There is no destination of that name.
        @raise InvalidSetting: The destination is being removed.
        """
        worker = self._worker(name)
        destination = worker.destination
        if destination.removing:
            raise InvalidSetting(f"destination {name!r} is being removed")
        if destination.draining:
            destination.draining = False
            self.events.destination(destination, DESTINATION_RESUMED)
            self.destinationChanged()
            worker.resume()

    def setSlots(self, name: str, slots: int) -> None:
        """
        Change how many sessions a destination may serve at a time; 0 is no limit.
        Sessions beyond a smaller number go on.

        @raise UnknownDestination: There is no destination of that name.
        @raise InvalidSetting: The number is out of its limits.
        """
        worker = self._worker(name)
        slots = DestinationSettings(slots=slots).slots
        if worker.destination.slots != slots:
            worker.destination.slots = slots
            self.events.destination(worker.destination, DESTINATION_CHANGED)
            worker.check()

    def setWeight(self, name: str, weight: int) -> None:
        """
        Change a destination's share.

        @raise UnknownDestination: There is no destination of that name.
        @raise InvalidSetting: The number is out of its limits.
        """
        destination = self._worker(name).destination
        weight = DestinationSettings(weight=weight).weight
        if destination.weight != weight:
            destination.setWeight(weight)
            self.events.destination(destination, DESTINATION_CHANGED)
            # The shares of all have changed, also of those bound before.
            self.queue.setPolicy(self.queue.policy)
            self._rebinder.start()

    def remove(self, name: str) -> Deferred[None]:
        """
        Remove a destination: it takes no more sessions, and those it has continue.

        @return: Fires when the last of the sessions has ended and the destination is
            gone.
        @raise UnknownDestination: There is no destination of that name.
        """
        worker = self._worker(name)
        destination = worker.destination
        destination.removing = True
        self._drain(worker)
        return self._whenGone(worker)

    def _whenGone(self, worker: Worker) -> Deferred[None]:
        """
        Wait until a destination that is being removed has finished its sessions.
        """
        destination = worker.destination

        def gone(_: object) -> None:
            if not destination.removing:
                return  # L{keep} was called
            if self.workers.get(destination.name) is worker:
                del self.workers[destination.name]
                self.events.destination(destination, DESTINATION_REMOVED)
            elif worker in self._replaced:
                self._replaced.remove(worker)
                self.events.destination(destination, DESTINATION_REMOVED)
            worker.stop()

        return worker.whenIdle().addCallback(gone)

    def keep(self, name: str) -> None:
        """
        Undo L{remove}, while the destination has sessions.

        @raise UnknownDestination: There is no destination of that name.
        """
        self._worker(name).destination.removing = False
        self.undrain(name)

    def replace(
        self, name: str, address: str, settings: Mapping[str, object]
    ) -> Destination:
        """
        Give a destination another address: a new destination takes its place, and the
        old one finishes its sessions and is gone then.

        @raise UnknownDestination: There is no destination of that name.
        @raise InvalidSetting: The address or a setting is wrong; nothing is changed.
        """
        old = self._worker(name)
        workers = dict(self.workers)
        del self.workers[name]
        try:
            new = self.add(address, {**settings, "name": name})
        except InvalidSetting:
            self.workers = workers
            raise
        # In the same place as before.
        new.order = old.destination.order
        self.workers = {**workers, name: self.workers[name]}
        self._replaced.append(old)
        old.destination.removing = True
        self._drain(old)
        self._whenGone(old)
        return new

    def arrange(self, names: Sequence[str]) -> None:
        """
        Put destinations into another order, which matters to the policy C{first}. Those
        that are not named come last.
        """
        order = {name: number for number, name in enumerate(names)}
        last = len(order)
        self.workers = dict(
            sorted(self.workers.items(), key=lambda each: order.get(each[0], last))
        )
        for number, worker in enumerate(self.workers.values(), 1):
            worker.destination.order = number
        self.destinationChanged()

    def _worker(self, name: str) -> Worker:
        worker = self.workers.get(name)
        if worker is None:
            names = ", ".join(self.workers) or "none"
            raise UnknownDestination(
                f"there is no destination {name!r}; there is {names}"
            )
        return worker

    def _startWorker(self, worker: Worker) -> None:
        worker.start()
        # A name that does not resolve makes its destination down from the start.
        lookedUp(worker.connector.endpoint).addErrback(worker.nameFailed)

    def _available(self) -> list[Destination]:
        return [each for each in self.destinations if each.available]

    def _freeSlots(self) -> int | None:
        """
        Count the free slots of all destinations, as far as the pool has free slots;
        L{None} if there is no limit.
        """
        slots = [each.freeSlots for each in self._available()]
        known = [each for each in slots if each is not None]
        free = [sum(known)] if len(known) == len(slots) else []
        if self.slots:
            free.append(max(0, self.slots - self.active))
        return min(free, default=None)

    # Listeners.

    def listen(
        self, address: str | ServerEndpoint, settings: Mapping[str, object]
    ) -> Listener:
        """
        Add a listener. It is opened at once if the others are open.

        @raise InvalidSetting: The address or a setting is wrong.
        @raise CannotListen: The listener could not be opened, and is not added.
        """
        return self.entrance.listen(address, settings)

    def unlisten(self, listener: Listener) -> Deferred[None]:
        """
        Close a listener and remove it. The clients that it has accepted are served, and
        those in the kernel's backlog are accepted first, as far as there is room.

        @return: Fires when the listener is closed.
        """
        return self.entrance.unlisten(listener)

    def _checkNoCircle(self, listener: Listener) -> None:
        """
        Check that no destination leads to a listener.

        @raise InvalidSetting: A destination does.
        """
        for destination in self.destinations:
            checkCircle(destination.address, listener.address, listener.settings.v6only)

    # Starting and stopping.

    def start(self) -> None:
        """
        Start the workers.
        """
        self._stopping = False
        self._running = True
        for worker in self.workers.values():
            self._startWorker(worker)
        self.gate.start()
        self._awaitEnds()
        self.destinationChanged()

    def _deadlines(self, keepAlive: KeepAlive) -> Deadlines:
        return Deadlines(
            self.clock, self.queue, self.settings, keepAlive, self.gate.due
        )

    def close(self) -> Deferred[Any]:
        """
        Close the listeners. The sessions continue.

        @return: Fires when all listeners are closed.
        """
        self._stopping = True
        closing = self.listeners.close()
        self._admission.flush()
        return closing

    def configure(self, settings: Settings, policy: Policy | None = None) -> None:
        """
        Use other settings from now on. Sessions that are connected keep the time-outs
        they have.

        @param policy: Another policy, if the policy changes.
        """
        self.settings.take(settings)
        keepAlive = _keepAlive(settings)
        self.deadlines.retire()
        self._retired = inUse([*self._retired, self.deadlines])
        self.deadlines = self._deadlines(keepAlive)
        self.deadlines.queued()
        self.entrance.configure(keepAlive, self.deadlines.handshaking)
        self._connectors.renew()
        for worker in (*self.workers.values(), *self._replaced):
            connector = self._connectors.to(worker.connector.address)
            worker.use(connector, self.deadlines)
        self.queue.bindable = settings.queueSize
        if policy is not None:
            self.queue.setPolicy(policy)
        self.gate.setSlots(settings.poolSlots)
        self._roomAwaited = True
        self.checkRoom()
        self.destinationChanged()
        self.events.pool(self.name, POOL_CHANGED, "")

    def stop(self) -> None:
        """
        Stop the workers and all timers, now that no session lives.
        """
        self._running = False
        self.gate.stop()
        self._awaitEnds()
        self._rebinder.stop()
        # If a removal waits for a slot to rest, it is finished now.
        for worker in (*self.workers.values(), *self._replaced):
            worker.stop()
        self.entrance.stop()
        self._failures.stop()
        self._connectors.stop()
        for each in (*self._retired, self.deadlines):
            each.stop()

    # What the workers and the frontend call.

    def inHurry(self) -> bool:
        """
        Return whether sessions wait while no destination is up.
        """
        return self._nothingAvailable and len(self.queue) > 0

    def sessionPulled(self) -> None:
        """
        Called when a session has left the queue.
        """
        self.checkRoom()

    def sessionsPutBack(self) -> None:
        """
        Called when sessions have come into the queue.
        """
        self.deadlines.queued()
        if self.inHurry():
            self._hurry()

    def destinationChanged(self) -> None:
        """
        Called when a destination came, went, or changed its state.
        """
        self._nothingAvailable = not self._available()
        self._rebinder.start()
        self._checkRefusing()
        if self.inHurry():
            self._hurry()

    def _hurry(self) -> None:
        for worker in self.workers.values():
            worker.hurry()

    def heldOffChanged(self, heldOff: bool) -> None:
        """
        Called when a worker stops pulling because of a shortage of the whole machine,
        and when it pulls again.
        """
        self._heldOff += 1 if heldOff else -1
        self.checkRoom()

    def _room(self) -> int:
        """
        Return how many more sessions may be accepted now: none while a connect waits
        for a descriptor, which an accepted session would take.
        """
        room = 0 if self._heldOff else self._admission.room()
        if not room:
            self._roomAwaited = self.table.roomAwaited = True
            if not self._acceptPaused:
                self._acceptPaused = True
                self.acceptPauses += 1
        return room

    def checkRoom(self) -> None:
        """
        Accept again, if there was no room and now there may be some.
        """
        if not self._roomAwaited:
            return
        self._roomAwaited = False
        try:
            self.listeners.check()
            # If there was none, it is awaited again.
            self._acceptPaused = self._roomAwaited
        except Exception:
            self._failures.add()
            self._roomAwaited = self.table.roomAwaited = True


def _keepAlive(settings: Settings) -> KeepAlive:
    return KeepAlive(
        settings.keepaliveIdle,
        settings.keepaliveInterval,
        settings.keepaliveCount,
        settings.userTimeout,
    )

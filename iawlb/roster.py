"""
The part of a pool that holds its destinations and their workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred

from iawlb.arguments import ClientEndpoint, checkAddress
from iawlb.backend.address import checkCircle
from iawlb.backend.connector import DestinationConnector
from iawlb.backend.names import lookedUp
from iawlb.backend.tlsextra import checkSpoken, sameTls
from iawlb.core.destination import Destination
from iawlb.core.events import (
    DESTINATION_ADDED,
    DESTINATION_CHANGED,
    DESTINATION_DRAINING,
    DESTINATION_REMOVED,
    DESTINATION_RESUMED,
)
from iawlb.core.policies import policyOf
from iawlb.core.policy import Policy
from iawlb.core.queue import ConnectionQueue
from iawlb.core.ratelimit import FailureLog
from iawlb.errors import InvalidSetting, UnknownDestination
from iawlb.frontend.listeners import Listeners
from iawlb.health.making import Checks, checkPlaces
from iawlb.setting import checkNames, splitSettings
from iawlb.settings import DestinationSettings, Settings, inherited
from iawlb.shared import Shared
from iawlb.workers.alarm import Alarm
from iawlb.workers.connectors import Connectors
from iawlb.workers.rebinder import Rebinder
from iawlb.workers.wakingworker import WakingWorker
from iawlb.workers.worker import Worker
from iawlb.workers.workerpool import WorkerPool

NO_SETTINGS: Mapping[str, object] = MappingProxyType({})


class Roster(WorkerPool):
    """
    The base of a L{Pool<iawlb.pool.Pool>}: its destinations.

    @ivar name: The pool's name.
    @ivar settings: The settings of the pool.
    @ivar queue: The queue in which sessions wait.
    @ivar workers: The worker of each destination, by the destination's name.
    @ivar listeners: The addresses that clients connect to.
    @ivar deadlines: The time-outs of the pool's sessions.
    @ivar router: Which pools take the clients of which pool's listeners.
    """

    listeners: Listeners

    def __init__(
        self, shared: Shared, name: str, settings: Settings, policy: Policy | None
    ) -> None:
        self.name = name
        self.settings = settings
        self.clock = shared.clock
        self.events = shared.events
        self.table = shared.table
        self.router = shared.router
        self._affinity = FailureLog(self.clock, f"affinity of pool {name}")
        if policy is None:
            policy = self._policyOf(settings)
        self.queue = ConnectionQueue(
            policy, self._available, bindable=settings.queueSize
        )
        self.workers: dict[str, Worker] = {}
        # Workers whose destination's place another one has taken, and which finish
        # their sessions.
        self._replaced: list[Worker] = []
        self._rebinder = Rebinder(shared.reactor, self.queue)
        self._connectors = Connectors(
            shared.reactor, self.clock, settings, shared.context
        )
        self.programs = shared.programs
        self.alarm = Alarm(
            self.clock, self.queue, shared.context.resets, lambda: self.destinations
        )
        self.checks = Checks(shared.reactor)
        self._order = 0
        self._inPercent = False
        self._running = False

    def _policyOf(self, settings: Settings) -> Policy:
        return policyOf(settings, self.clock.seconds, self._affinity)

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
        settings: Mapping[str, object] = NO_SETTINGS,
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
            checkNames(behind, DestinationSettings, "a destination", behind=True)
            for each in self.listeners:
                checkCircle(address, each.address, each.settings.v6only)
            given = {"name": address, **behind}
        self._connectors.check(address)
        asked = {*given, *settings}
        given = {
            **inherited(self.settings, DestinationSettings),
            **given,
            **settings,
        }
        checkNames(given, DestinationSettings, "a destination")
        own = DestinationSettings(**given)
        checkSpoken(asked, own.tls)
        if own.name in self.workers:
            raise InvalidSetting(
                f"there is a destination {own.name!r} already; give one of them "
                "another name with name="
            )
        connector = self._connectors.to(address, own)
        checkPlaces(connector.text, own)
        destination = Destination(
            connector.text, own, self.settings, self._order, self.name
        )
        if not ready:
            destination.paused = True
            destination.down = "not probed yet"
            destination.fresh = True
        destination.weighInPercent(self._inPercent)
        # Until it is known that it is needed.
        destination.standby = own.backup
        worker: Worker
        if own.sleeps:
            worker = WakingWorker(destination, connector, self)
            self.alarm.wakers[destination] = worker.waker
        else:
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
        own = self._worker(name).destination.settings
        self.configureDestination(name, replace(own, slots=slots))

    def setWeight(self, name: str, weight: int) -> None:
        """
        Change a destination's share.

        @raise UnknownDestination: There is no destination of that name.
        @raise InvalidSetting: The number is out of its limits.
        """
        own = self._worker(name).destination.settings
        self.configureDestination(name, replace(own, weight=weight))

    def configureDestination(self, name: str, settings: DestinationSettings) -> None:
        """
        Give a destination other settings, which hold from now on. The sessions that it
        has keep what they have. The name stays.

        @raise UnknownDestination: There is no destination of that name.
        @raise InvalidSetting: A file of a setting cannot be used; nothing is changed.
        """
        worker = self._worker(name)
        destination = worker.destination
        old = destination.settings
        new = replace(settings, name=name)
        if new == old:
            return
        checkPlaces(destination.address, new)
        if not sameTls(old, new):
            connector = self._connectors.to(worker.connector.address, new)
            worker.connectBy(connector)
        if new.sleeps != old.sleeps:
            # Another kind of worker takes its place.
            own = {each.name: getattr(new, each.name) for each in fields(new)}
            self.replace(name, worker.connector.address, own)
            return
        destination.configure(new)
        worker.configured(old)
        self.events.destination(destination, DESTINATION_CHANGED)
        if new.weight != old.weight:
            self.sharesChanged()
        if new.backup != old.backup:
            self.destinationChanged()
        worker.check()

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
            self.alarm.wakers.pop(destination, None)
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
        self,
        name: str,
        address: str | ClientEndpoint,
        settings: Mapping[str, object],
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

    # What the workers call.

    def connectorTo(self, address: str) -> DestinationConnector:
        """
        Make a connector to an address that is not a destination's.
        """
        return self._connectors.to(address, DestinationSettings())

    def sharesChanged(self) -> None:
        """
        Called when the weight of a destination has changed.
        """
        every = self.destinations
        self._inPercent = any(each.percent is not None for each in every)
        for each in every:
            each.weighInPercent(self._inPercent)
        # The shares of all have changed, also of those bound before.
        self.queue.setPolicy(self.queue.policy)
        self._rebinder.start()

    def isLast(self, destination: Destination) -> bool:
        """
        Return whether no other destination takes sessions.
        """
        return all(each is destination for each in self._available())

    def shareOf(self, destination: Destination) -> float:
        """
        Return how many sessions a destination would have by its share of those that
        there are.
        """
        serving = [each for each in self.destinations if each.ready]
        weights = sum(each.weight for each in serving) or destination.weight
        sessions = sum(each.active for each in serving) + len(self.queue)
        return sessions * destination.weight / weights

    def _available(self) -> list[Destination]:
        return [each for each in self.destinations if each.available]

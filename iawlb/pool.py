"""
A pool: one queue with its listeners, its destinations, its policy and its
time-outs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from iawlb.arguments import ServerEndpoint
from iawlb.backend.address import checkCircle
from iawlb.core.destination import Destination
from iawlb.core.discipline import Discipline
from iawlb.core.events import POOL_CHANGED
from iawlb.core.origin import PoolCount
from iawlb.core.policies import Policy, sameChoice
from iawlb.core.ratelimit import FailureLog
from iawlb.core.retired import inUse
from iawlb.frontend.admission import Admission
from iawlb.frontend.choosing import Choose
from iawlb.frontend.door import Door
from iawlb.frontend.entrance import Entrance
from iawlb.frontend.listener import Listener
from iawlb.frontend.stepmaker import StepMaker
from iawlb.pausing import PausablePool
from iawlb.relay.keepalive import KeepAlive
from iawlb.relay.kinds import Kinds, kindsFor
from iawlb.relay.limited import Bandwidth
from iawlb.roster import NO_SETTINGS
from iawlb.settings import Settings
from iawlb.shared import Shared
from iawlb.workers.backups import arrangeBackups
from iawlb.workers.deadlines import Deadlines
from iawlb.workers.spiller import Spiller


class Pool(PausablePool):
    """
    One queue in which connections wait, and the workers of the destinations, each of
    which pulls the next connection when it has a free slot.

    @ivar count: The counts of the pool's sessions.
    @ivar acceptPauses: How many times accepting was paused, for lack of room.
    @ivar door: Says who may come in, and delays those who are over a limit.
    @ivar admission: Lets clients into the queue.
    @ivar entrance: Where clients come in.
    @ivar factory: Puts the connections of any endpoint into the queue.
    @ivar headers: Counts of the PROXY headers of clients.
    """

    def __init__(
        self,
        shared: Shared,
        name: str,
        settings: Settings,
        policy: Policy | None,
        choose: Choose | None = None,
    ) -> None:
        """
        @param choose: Chooses where each client goes; by default, it waits in the
            queue.
        """
        super().__init__(shared, name, settings, policy)
        self.count = PoolCount(name)
        self.context = shared.context
        self._reactor = shared.reactor
        self._nothingAvailable = True
        # Whether something may have to be done when a session waits.
        self._watchful = True
        # The number of workers that are held off by a shortage of the whole machine.
        self._heldOff = 0
        self._roomAwaited = False
        self.acceptPauses = 0
        self._acceptPaused = False
        self._failures = FailureLog(self.clock, "looking for room")
        self.admission = Admission(
            self.clock,
            self.queue,
            self.table,
            self.events,
            settings,
            self._freeSlots,
            self.sessionsPutBack,
        )
        self.door = Door(
            self.clock, settings, self.count, self.table, lambda: self.admission.full
        )
        keepAlive = _keepAlive(settings)
        self.deadlines = self._deadlines(keepAlive)
        self._throttle = shared.throttle
        self.kinds = self._kinds()
        # Time-outs of running sessions that have changed since.
        self._retired: list[Deadlines] = []
        self._stepMaker = StepMaker(
            self._reactor,
            self.clock,
            name,
            settings,
            self.context,
            self.door,
            self.router,
            shared.pools,
            choose,
        )
        self.headers = self._stepMaker.headers
        self.entrance = Entrance(
            self._reactor,
            self.clock,
            self.count,
            settings,
            self.admission,
            self.table,
            self.events,
            self.context,
            self._room,
            self._checkNoCircle,
            keepAlive,
            self.deadlines.handshaking,
            self._stepMaker.stepsOf,
            self.door.guard,
            self._arrange,
        )
        self._spiller = Spiller(self.clock, self.queue, settings, self.gate)
        self.listeners = self.entrance.listeners
        self.factory = self.entrance.factory
        self.gate.setSlots(settings.poolSlots)
        self._arrange()

    @property
    def accepting(self) -> bool:
        """
        Whether there is room for more clients.
        """
        return not self._roomAwaited

    def _arrange(self) -> None:
        """
        Serve the queue in the order that the settings ask for.
        """
        priorities = any(each.settings.priority for each in self.listeners)
        self.queue.setDiscipline(Discipline.of(self.settings, priorities))
        self._rebinder.start()

    def renewSteps(self) -> None:
        """
        Let clients that come from now on take other steps.
        """
        self.entrance.renewSteps()

    # Listeners.

    def listen(
        self,
        address: str | ServerEndpoint,
        settings: Mapping[str, object] = NO_SETTINGS,
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

    def _kinds(self) -> Kinds:
        settings = self.settings
        bandwidth = Bandwidth(
            settings.bandwidthIn, settings.bandwidthOut, self._throttle
        )
        return kindsFor(self.deadlines.reports, self.queue.measures, bandwidth)

    def close(self) -> Deferred[Any]:
        """
        Close the listeners. The sessions continue.

        @return: Fires when all listeners are closed.
        """
        self._stopping = True
        closing = self.listeners.close()
        self.admission.flush()
        return closing

    def configure(self, settings: Settings, policy: Policy | None = None) -> None:
        """
        Use other settings from now on. Sessions that are connected keep the time-outs
        they have.

        @param policy: A policy of your own; by default the one that the settings name,
            if they name another one than before.
        """
        if policy is None and not sameChoice(self.settings, settings):
            policy = self._policyOf(settings)
        if policy is not None:
            self.queue.setPolicy(policy)
        self.settings.take(settings)
        keepAlive = _keepAlive(settings)
        self.deadlines.retire()
        self._retired = inUse([*self._retired, self.deadlines])
        self.deadlines = self._deadlines(keepAlive)
        self.kinds = self._kinds()
        self.deadlines.queued()
        self._spiller.start()
        self.door.configure()
        self.entrance.configure(keepAlive, self.deadlines.handshaking)
        self._connectors.renew()
        for worker in (*self.workers.values(), *self._replaced):
            connector = self._connectors.to(
                worker.connector.address, worker.destination.settings, worker.connector
            )
            worker.connectBy(connector)
        self.queue.bindable = settings.queueSize
        self._arrange()
        self.gate.setSlots(settings.poolSlots)
        self._roomAwaited = True
        self.checkRoom()
        self.destinationChanged()
        self.router.changed()
        self.events.pool(self.name, POOL_CHANGED, "")

    def stop(self) -> None:
        """
        Stop the workers and all timers, now that no session lives.
        """
        self._running = False
        self.gate.stop()
        self._awaitEnds()
        self._rebinder.stop()
        self.alarm.stop()
        self._spiller.stop()
        self._affinity.stop()
        # If a removal waits for a slot to rest, it is finished now.
        for worker in (*self.workers.values(), *self._replaced):
            worker.stop()
        self.entrance.stop()
        self.door.stop()
        self._failures.stop()
        self._stepMaker.stop()
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
        if self.settings.spillAfter:
            self._spiller.start()
        # The queue is looked at only while it matters that a session waits.
        if self._watchful and len(self.queue) > 0:
            self._hurry()

    def destinationChanged(self) -> None:
        """
        Called when a destination came, went, or changed its state.
        """
        arrangeBackups(self.workers.values(), self.events)
        self._nothingAvailable = not self._available()
        self._watchful = self._nothingAvailable or bool(self.alarm.wakers)
        self._rebinder.start()
        self.checkRefusing()
        self.router.destinationChanged(self)
        if self._watchful and len(self.queue) > 0:
            self._hurry()

    def _hurry(self) -> None:
        """
        See to it that the sessions that wait are served.
        """
        if self._nothingAvailable:
            for worker in self.workers.values():
                worker.hurry()
        self.alarm.check()

    def wakeFailed(self, destination: Destination) -> None:
        """
        Called when a destination could not be started.
        """
        self.alarm.failed(destination)

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
        room = 0 if self._heldOff else self.admission.room()
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

"""
The worker of a destination: waits for a free slot, pulls the next session, connects,
relays, and gives the slot back.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from iawlb.backend.connector import DestinationConnector
from iawlb.core.destination import Destination
from iawlb.core.events import DESTINATION_DOWN, SESSION_PUT_BACK
from iawlb.core.outcome import Outcome
from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import Session
from iawlb.settings import DestinationSettings
from iawlb.workers.greeting import greeted, greetingOf
from iawlb.workers.holdoff import MACHINE_PAUSE, HoldOff
from iawlb.workers.measuring import servingFor
from iawlb.workers.serving import Serving
from iawlb.workers.timers import Timers
from iawlb.workers.watch import Watch
from iawlb.workers.workerpool import WorkerPool

PULLS_PER_TURN = 32
"""
The number of sessions pulled before the reactor has its turn, when many wait for a
destination that has come back.
"""


class Worker:
    """
    Pulls sessions for one destination while the destination can take them, and probes
    the destination while it is down.

    @ivar heldOff: Whether pulling is suspended for a moment, because a connect failed
        for lack of descriptors, ports or memory, or may have failed by chance.
    """

    def __init__(
        self,
        destination: Destination,
        connector: DestinationConnector,
        pool: WorkerPool,
    ) -> None:
        self.destination = destination
        self.connector = connector
        self.heldOff = False
        self.clock = pool.clock
        self.settings = pool.settings
        self.queue = pool.queue
        self.table = pool.table
        self.events = pool.events
        self._pool = pool
        self._stopping = False
        # Whether this worker waits for its next session from the queue.
        self._waiting = False
        self._busy = False
        self._timers = Timers(pool.clock)
        self._watch = Watch(self, pool)
        # Oldest first.
        self._connecting: dict[Serving, None] = {}
        self._whenIdle: list[Deferred[None]] = []
        self._holdOff = HoldOff(self, pool, self._timers)
        self.failures = FailureLog(self.clock, f"serving {destination.name}")
        self._chooseKind()

    def _chooseKind(self) -> None:
        """
        Serve, time and relay sessions as the policy and the settings ask for.
        """
        watch, pool = self._watch, self._pool
        self.relayed = watch.relayedBy(pool.deadlines.relayed)
        self.kinds = watch.kindsOf(pool.kinds)
        self.greeting = greetingOf(self.destination.settings)
        self._kind = servingFor(self.queue, self.destination)
        if self.greeting is not None:
            self._kind = greeted(self._kind, self.connector.client is not None)

    def connectBy(self, connector: DestinationConnector) -> None:
        """
        Connect in another way from now on, and serve sessions as the settings of the
        pool are now. Connects that are under way go on.
        """
        self.connector = connector
        self._watch.use(connector)
        self._chooseKind()

    def configured(self, old: DestinationSettings) -> None:
        """
        Called when the destination has got other settings.

        @param old: The settings that it had before.
        """
        self._watch.configured(old)
        self._chooseKind()
        if self.destination.down is not None and not self._stopping:
            self._awaitRecovery()

    def resume(self) -> None:
        """
        Pull, or probe, again, after or while the destination finishes its sessions.
        """
        self._callIdle()
        if self.destination.down is not None:
            self._awaitRecovery()
        self.check()

    def start(self) -> None:
        """
        Begin to pull, or to probe.
        """
        self._stopping = False
        self._holdOff.start()
        self._watch.start()
        self.resume()

    def stop(self) -> None:
        """
        Stop pulling and probing. Sessions that are served go on.
        """
        self._stopping = True
        self._watch.stop()
        self._timers.stop()
        self._holdOff.stop()
        self.failures.stop()
        self.check()

    def check(self) -> None:
        """
        Begin or stop to wait for a session, as the destination's state requires.
        """
        if not self._waiting:
            self._pull()
        elif not self._mayPull():
            self._waiting = False
            self.queue.cease(self.destination)
        if self._whenIdle and self.destination.active == 0:
            self._callIdle()

    def _callIdle(self) -> None:
        """
        Tell those that wait until no session is served to wait no longer.
        """
        waiting, self._whenIdle = self._whenIdle, []
        for each in waiting:
            each.callback(None)

    def _pull(self) -> None:
        """
        Pull and serve sessions, until the destination can take no more or none waits.
        """
        if self._busy:
            return  # called while a session is served; the loop goes on after it
        self._busy = True
        pause = 0.0
        try:
            for _ in range(PULLS_PER_TURN):
                if self._stopping or self.heldOff or not self.destination.canPull():
                    self._busy = False
                    return
                session = self.queue.pull(self.destination, self._pulled)
                if session is None:
                    self._waiting = True
                    self._busy = False
                    return
                self._serve(session)
        except Exception:
            self.failures.add()
            pause = MACHINE_PAUSE
        self._timers.add(pause, self._continuePulling)

    def _continuePulling(self) -> None:
        """
        Continue to pull, after the reactor has had its turn.
        """
        self._busy = False
        self._pull()

    def _mayPull(self) -> bool:
        return not self._stopping and not self.heldOff and self.destination.canPull()

    def _pulled(self, session: Session) -> None:
        """
        Called when the queue has a session for a worker that waits.
        """
        self._waiting = False
        busy, self._busy = self._busy, True
        self._serve(session)
        self._busy = busy
        self._pull()

    def whenIdle(self) -> Deferred[None]:
        """
        Wait until the destination serves no session.

        @return: Fires then.
        """
        waiting: Deferred[None] = Deferred()
        self._whenIdle.append(waiting)
        self.check()
        return waiting

    # A session is served.

    def _serve(self, session: Session) -> None:
        serving = None
        try:
            # This is a system call, which is not made for sessions that were pulled at
            # once.
            if session.waited and self.connector.context.resets.hasLeft(session.side):
                # The reactor reports nothing for a socket that is not being read.
                session.holder.dismiss(Outcome.CLIENT_LEFT_QUEUE)
                return
            serving = self._kind(self, session)
            # Nothing is called between the queue and this that could hand the slot to
            # another session.
            self.destination.take()
            gate = self.queue.gate
            if gate is not None:
                gate.take()
            self._connecting[serving] = None
            if self.table.roomAwaited:
                self._pool.sessionPulled()
            serving.start()
        except Exception:
            if serving in self._connecting:
                serving.fail()
            else:
                self._dismiss(session)

    def _dismiss(self, session: Session) -> None:
        """
        End a session that is neither served nor waiting, because a step has raised.
        """
        self.failures.add()
        if session.line is None and session.pulled is None:
            session.holder.dismiss(Outcome.FAILED)

    def forget(self, serving: Serving) -> bool:
        """
        Count a connect as ended, if it is under way.
        """
        connecting = serving in self._connecting
        if connecting:
            self._connectEnded(serving)
        return connecting

    def connected(self, serving: Serving) -> None:
        """
        Called when a connect has succeeded.
        """
        self.destination.connected()
        del self._connecting[serving]
        if not self._waiting:
            self._pull()

    def given(self, serving: Serving) -> None:
        """
        Called when a session no longer uses its slot. Give the slot back, after its
        rest if C{rest} is set.
        """
        if self.settings.rest and not self._stopping:
            self._timers.add(self.settings.rest, self._give)
        else:
            self._give()

    def dropped(self, serving: Serving) -> None:
        """
        Called when a connect was given up because its client has left.
        """
        self._connectEnded(serving)
        self._give()

    def failed(self, serving: Serving, failure: Failure) -> None:
        """
        Called when a connect has failed. Put the session back. If it is the second
        failure in a row, do not pull until a probe succeeds.
        """
        if self._holdOff.suffices(failure, serving.began):
            self._putBack([serving])
        else:
            self.goDown(failure.getErrorMessage())

    def _connectEnded(self, serving: Serving) -> None:
        self.destination.connectEnded()
        del self._connecting[serving]

    def _putBack(self, servings: Iterable[Serving]) -> None:
        """
        Put sessions back whose connects failed, or are given up. Call this only when
        the destination no longer pulls, so that it does not get these sessions again at
        once.
        """
        sessions = []
        for serving in servings:
            try:
                serving.cancelConnect()
                session = serving.release()
            except Exception:
                serving.fail()
                continue
            self._connectEnded(serving)
            self.destination.give()
            if self.queue.gate is not None:
                self.queue.gate.give()
            sessions.append(session)
        for session in sessions:
            self.events.session(session, SESSION_PUT_BACK)
        try:
            self.queue.putBack(*sessions)
        except Exception:
            for session in sessions:
                self._dismiss(session)
        self._pool.sessionsPutBack()
        self.check()
        if self.queue.gate is not None:
            # Only now, so that no younger session leaves before these.
            self.queue.gate.check()

    def _give(self) -> None:
        self.destination.give()
        gate = self.queue.gate
        if gate is not None:
            gate.give()
        if not self._waiting or self._whenIdle:
            self.check()
        if gate is not None and not gate.open:
            # Only now, so that this worker is among those that the policy chooses from.
            gate.check()

    # The destination is down.

    def goDown(self, why: str) -> None:
        """
        Called when the destination is down.
        """
        self.destination.failed(why)
        self._wentDown()

    def _wentDown(self) -> None:
        self.events.destination(self.destination, DESTINATION_DOWN)
        self.check()
        self._pool.destinationChanged()
        self._watch.wentDown()
        if not self._stopping:  # by an observer
            self._awaitRecovery()
        # The other sessions that connect to this destination would wait as long for
        # nothing.
        self._putBack(list(self._connecting))

    def _awaitRecovery(self) -> None:
        """
        Begin to look whether the destination is up again.
        """
        self._watch.awaitRecovery()

    def hurry(self) -> None:
        """
        Shorten the wait for the next probe or pull, because sessions wait and no
        destination is up.
        """
        self._watch.hurry()
        self._holdOff.hurry()

    def reported(self, why: str | None) -> None:
        """
        Called when the destination has said that it is down, and why; or that it is up.
        """
        up = self.destination.isUp
        self.destination.reportedDown = why
        if why is None:
            self._watch.cameUp()
        elif up:
            self._wentDown()

    def nameFailed(self, failure: Failure) -> None:
        """
        Called when the destination's name does not resolve: the destination is down
        from the start.
        """
        if self.destination.down is None and not self._stopping:
            self.goDown(failure.getErrorMessage())

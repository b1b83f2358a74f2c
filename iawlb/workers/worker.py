"""
A destination's worker: it waits for a free slot, pulls the next session,
connects, relays, and gives the slot back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import random

from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from iawlb.backend.connector import DestinationConnector
from iawlb.core.destination import Destination
from iawlb.core.events import DESTINATION_DOWN, SESSION_PUT_BACK
from iawlb.core.outcome import Outcome
from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import Session
from iawlb.workers.prober import Prober, sooner
from iawlb.workers.serving import Serving
from iawlb.workers.shortage import Shortage, ShortageLog, shortageOf
from iawlb.workers.workerpool import WorkerPool

PULLS_PER_TURN = 32
"""
Sessions that are pulled before the reactor has its turn, when so many wait for a
destination that has come back.
"""

QUICK = 1.0
"""
A connect that took no longer to fail is tried again before the destination counts as
down, in seconds. One that took longer has cost its client enough.
"""

AGAIN = 0.01
"""
After how long it is tried again, in seconds: a program that did not listen for a
moment does so again, and the client hardly notices.
"""

MACHINE_PAUSE = 0.1
"""
How long a worker does not pull when this machine is short of something that all
connects need, in seconds.
"""


class Worker:
    """
    Pulls sessions for one destination while it may, and probes it while it is
    down.

    @ivar heldOff: Whether it does not pull for a moment, since a connect failed of
        what this machine is short of.
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
        self.relayed: Callable[[Session], None] = pool.deadlines.relayed
        self.reports = pool.deadlines.reports
        self.events = pool.events
        self._pool = pool
        self._stopping = False
        # Whether the queue is to give us its next session.
        self._waiting = False
        self._busy = False
        # What is called, and is called at once when the worker stops.
        self._timers: dict[IDelayedCall, Callable[[], None]] = {}
        self._prober = Prober(destination, connector, pool, self._recovered)
        # Oldest first.
        self._connecting: dict[Serving, None] = {}
        self._whenIdle: list[Deferred[None]] = []
        self._holding: IDelayedCall | None = None
        self._shortages = ShortageLog(self.clock, destination.name)
        self.failures = FailureLog(self.clock, f"serving {destination.name}")

    def start(self) -> None:
        """
        Begin to pull, or to probe.
        """
        self._stopping = False
        if self.destination.down is not None:
            self._prober.start()
        self.check()

    def stop(self) -> None:
        """
        Pull and probe no more. Sessions that are served go on.
        """
        self._stopping = True
        self._prober.stop()
        timers, self._timers = self._timers, {}
        for timer, call in timers.items():
            timer.cancel()
            call()
        self._shortages.stop()
        self.failures.stop()
        self.check()

    def check(self) -> None:
        """
        Begin to wait for a session, or cease to, as the destination's state now
        says.
        """
        if not self._waiting:
            self._pull()
        elif not self._mayPull():
            self._waiting = False
            self.queue.cease(self.destination)
        if self._whenIdle and self.destination.active == 0:
            waiting, self._whenIdle = self._whenIdle, []
            for each in waiting:
                each.callback(None)

    def _pull(self) -> None:
        """
        Connections wait, workers pull.
        """
        if self._busy:
            return  # what is served first asks for more, and the loop goes on
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
        self._later(pause, self._pullOn)

    def _pullOn(self) -> None:
        """
        The others had their turn.
        """
        self._busy = False
        self._pull()

    def _mayPull(self) -> bool:
        return not self._stopping and not self.heldOff and self.destination.canPull()

    def _pulled(self, session: Session) -> None:
        """
        The queue gives the session that was waited for.
        """
        self._waiting = False
        busy, self._busy = self._busy, True
        self._serve(session)
        self._busy = busy
        self._pull()

    def whenIdle(self) -> Deferred[None]:
        """
        Wait until the destination serves no session.
        """
        waiting: Deferred[None] = Deferred()
        self._whenIdle.append(waiting)
        self.check()
        return waiting

    # A session is served.

    def _serve(self, session: Session) -> None:
        serving = None
        try:
            if self.table.roomAwaited:
                self._pool.sessionPulled()
            # A system call, which those that were pulled at once are spared.
            if session.waited and self.connector.context.resets.hasLeft(session.side):
                # The reactor reports nothing for a socket that is not being read.
                session.holder.dismiss(Outcome.CLIENT_LEFT_QUEUE)
                return
            serving = Serving(self, session)
            self.destination.take()
            self._connecting[serving] = None
            serving.start()
        except Exception:
            if serving in self._connecting:
                serving.fail()
            else:
                self._dismiss(session)

    def _dismiss(self, session: Session) -> None:
        """
        End a session that is neither served nor waiting, as a step has raised.
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
        A connect succeeded.
        """
        self.destination.connected()
        del self._connecting[serving]
        if not self._waiting:
            self._pull()

    def given(self, serving: Serving) -> None:
        """
        A slot is no longer used; it rests, if it is to, and then is free.
        """
        if self.settings.rest and not self._stopping:
            self._later(self.settings.rest, self._give)
        else:
            self._give()

    def dropped(self, serving: Serving) -> None:
        """
        A connect was given up, since its client left.
        """
        self._connectEnded(serving)
        self._give()

    def failed(self, serving: Serving, failure: Failure) -> None:
        """
        A connect failed: put the session back. If it is the second in a row, do not
        pull until a probe succeeds.
        """
        shortage = shortageOf(failure)
        now = self.clock.seconds()
        if shortage is not None:
            self._runShort(shortage)
        elif (
            now - serving.began <= QUICK
            and not failure.check(ConnectTimeout)
            and self.destination.failedOnce(serving.began, now)
        ):
            self._tryAgain()
        else:
            self._goDown(failure)
            return
        self._putBack([serving])

    def _connectEnded(self, serving: Serving) -> None:
        self.destination.connectEnded()
        del self._connecting[serving]

    def _putBack(self, servings: Iterable[Serving]) -> None:
        """
        Put sessions back whose connects failed, or are given up; after it is
        known that this destination does not pull, so that it does not get them.
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

    def _give(self) -> None:
        self.destination.give()
        if not self._waiting or self._whenIdle:
            self.check()

    def _tryAgain(self) -> None:
        """
        Pull no more until a destination that has failed once may be tried again.
        """
        if not self.heldOff:
            self._holdOff(AGAIN, lambda _: None)

    def _runShort(self, shortage: Shortage) -> None:
        """
        Pull no more for a moment, as this machine is short of something.
        """
        self._shortages.add(shortage)
        if self.heldOff or self._stopping:
            return
        if shortage.machine:
            self._holdOff(MACHINE_PAUSE, self._pool.heldOffChanged)
        else:
            # The others have what they need, and serve its sessions too.
            wait = self.destination.nextPause(random())
            self._holdOff(wait, self._destinationHeldOff)

    def _holdOff(self, seconds: float, changed: Callable[[bool], None]) -> None:
        """
        Pull no more for a moment.

        @param changed: Called with whether it is held off, now and when the moment
            is over.
        """

        def letGo() -> None:
            self.heldOff = False
            self._holding = None
            changed(False)
            self.check()

        self.heldOff = True
        self._holding = self._later(seconds, letGo)
        self.check()
        changed(True)

    def _destinationHeldOff(self, heldOff: bool) -> None:
        self.destination.heldOff = heldOff
        self._pool.destinationChanged()

    def _later(self, seconds: float, call: Callable[[], None]) -> IDelayedCall:
        """
        Call later, or when stopped before.
        """

        def fire() -> None:
            del self._timers[timer]
            call()

        timer = self.clock.callLater(seconds, fire)
        self._timers[timer] = call
        return timer

    # The destination is down.

    def _goDown(self, failure: Failure) -> None:
        self.destination.failed(failure.getErrorMessage())
        self.events.destination(self.destination, DESTINATION_DOWN)
        self.check()
        self._pool.destinationChanged()
        self._prober.start()
        # The others that connect to it would only wait as long in vain.
        self._putBack(list(self._connecting))

    def hurry(self) -> None:
        """
        Sessions wait and nothing is up: do not wait long for the next try.
        """
        self._prober.hurry()
        sooner(self._holding, self.clock)

    def _recovered(self) -> None:
        self._pool.destinationChanged()
        self.check()

    def nameFailed(self, failure: Failure) -> None:
        """
        The destination's name does not resolve: it is down from the start.
        """
        if self.destination.down is None and not self._stopping:
            self._goDown(failure)

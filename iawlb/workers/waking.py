"""
Wake a destination when a client waits for it, and let it sleep when none has come for a
while.
"""

from __future__ import annotations

from enum import Enum
from random import random
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.core.destination import Backoff
from iawlb.core.events import DESTINATION_ASLEEP, DESTINATION_AWAKE, DESTINATION_WAKING
from iawlb.programs.program import CannotStart
from iawlb.workers.readiness import CheckingWorker, Readiness
from iawlb.workers.starters import Starter, nameOf, starterOf
from iawlb.workers.workerpool import WorkerPool


class Phase(Enum):
    """
    The state of a destination that sleeps while no client needs it.
    """

    ASLEEP = "it does not run"
    WAKING = "it was started, and cannot yet be connected to"
    AWAKE = "it serves"
    STOPPING = "it is being stopped"
    FAILED = "it has failed, and is not started again for a while"


class WakefulWorker(CheckingWorker, Protocol):
    """
    What a L{Waker} needs of its worker.
    """

    def forgetWords(self) -> None:
        """
        Forget what the destination has said of itself, because it is being stopped.
        """

    def check(self) -> None:
        """
        Begin or stop to wait for a session, as the destination's state requires.
        """

    def goDown(self, why: str) -> None:
        """
        Called when the destination is down.
        """


class Waker:
    """
    Starts and stops one destination.

    There is one start at a time, however many clients wait. A start has succeeded when
    a connect has, or the destination's own check. A destination that could not be
    started, or that has exited, is down, and can be started again after a wait that
    doubles.

    @ivar phase: The state.
    """

    log = Logger()

    def __init__(self, worker: WakefulWorker, pool: WorkerPool) -> None:
        self.phase = Phase.ASLEEP
        self.destination = worker.destination
        self.destination.asleep = "asleep"
        self._worker = worker
        self._pool = pool
        self._clock = pool.clock
        self._starter: Starter | None = None
        # Whether the destination was started, and not stopped since.
        self._started = False
        self._starting: Deferred[None] | None = None
        # What stops the destination after a start that has failed.
        self._clearing: Deferred[None] | None = None
        self._end: IDelayedCall | None = None
        self._readiness = Readiness(self._clock, worker, self._awake)
        self._backoff = Backoff(pool.settings)
        # When the destination woke, and when a client last used it.
        self._woke = 0.0
        self._used = 0.0
        # Whether its time is over, but for the sessions that it has.
        self._due = False
        # Whether it has to have been awake once before it may sleep.
        self._proving = False
        self._closed = False

    def start(self) -> None:
        """
        Begin. A destination that is to prove that it can serve is woken at once.
        """
        self._closed = False
        if self.destination.down is not None:
            self._proving = True
            self.wake()

    def close(self) -> None:
        """
        Stop the destination for good.
        """
        self._closed = True
        self._cancel()
        if self._started:
            # Also one that has failed: it may run all the same.
            self._stop()
        self.phase = Phase.ASLEEP
        self.destination.asleep = "asleep"

    def configured(self) -> None:
        """
        Called when the destination has got other settings. What starts it holds from
        the next start on.
        """
        if self.phase is Phase.AWAKE:
            self._awaitIdle()

    # Asleep, waking.

    def wake(self) -> None:
        """
        Start the destination, if it sleeps. If it is being stopped, it is started after
        that, provided that a client then still waits.
        """
        if self.phase is Phase.ASLEEP:
            self._begin()

    def _begin(self) -> None:
        settings = self.destination.settings
        self._enter(Phase.WAKING, "waking")
        self._readiness.why = "it did not say that it runs"
        self._end = self._clock.callLater(settings.wakeTimeout, self._tooLate)
        self._pool.events.destination(self.destination, DESTINATION_WAKING)
        if self._starter is None or not self._starter.runs:
            if self._starter is not None:
                self._starter.close()
            self._starter = starterOf(self, self._pool.programs)
        self._started = True
        starting = self._starting = self._starter.start()
        starting.addCallbacks(self._startEnded, self._notStarted)

    def _startEnded(self, _: object) -> None:
        self._starting = None
        self._readiness.start()

    def _notStarted(self, failure: Failure) -> None:
        if self._starting is None:
            return  # cancelled
        self._starting = None
        if not failure.check(CannotStart):
            # An exception of the user's own function.
            self.log.failure(
                "{destination}: could not be started",
                failure,
                destination=nameOf(self.destination),
            )
        self._fail(failure.getErrorMessage())

    def _tooLate(self) -> None:
        limit = self.destination.settings.wakeTimeout
        self._end = None
        self._fail(f"not ready within {limit:g} s: {self._readiness.why}")

    def _fail(self, why: str) -> None:
        self._down(f"could not be started: {why}")
        if not self.destination.active:
            clearing = self._clearing = self._stop()
            clearing.addCallback(self._cleared)
        self._pool.wakeFailed(self.destination)

    # Awake.

    def _awake(self) -> None:
        self._cancel()
        self.destination.recovered()
        self._proving = False
        self._woke = self._used = self._clock.seconds()
        self._stayAwake()

    def _stayAwake(self) -> None:
        """
        Serve.
        """
        self._enter(Phase.AWAKE, None)
        self._pool.events.destination(self.destination, DESTINATION_AWAKE)
        self._awaitIdle()
        self._pool.destinationChanged()
        self._worker.check()

    def used(self) -> None:
        """
        Called when a session has ended whose client has sent something.
        """
        self._used = self._clock.seconds()

    def slotGiven(self) -> None:
        """
        Called when a session no longer uses its slot.
        """
        if self._due and not self.destination.active:
            self._idle()

    def _awaitIdle(self) -> None:
        """
        Wait until no client has used the destination for a while.
        """
        self._due = False
        if self._end is not None:
            self._end.cancel()
            self._end = None
        limit = self.destination.settings.idleTimeout
        if limit:
            wait = max(0.0, self._used + limit - self._clock.seconds())
            self._end = self._clock.callLater(wait, self._timeOver)

    def _timeOver(self) -> None:
        self._end = None
        self._idle()

    def _idle(self) -> None:
        """
        Let the destination sleep, if it is not needed.
        """
        destination, now = self.destination, self._clock.seconds()
        limit = destination.settings.idleTimeout
        if destination.active:
            self._due = True
        elif now < self._used + limit:
            self._awaitIdle()
        elif destination.paused or self._wanted():
            # The user, or clients that a pause holds, will want it.
            self._used = now
            self._awaitIdle()
        else:
            self._due = False
            # The clients that the kernel has by now come in first, and keep it awake.
            self._end = self._clock.callLater(0, self._sleep)
            self._enter(Phase.STOPPING, "asleep")
            self._worker.check()
            self._pool.destinationChanged()

    def _wanted(self) -> bool:
        """
        Return whether a client waits that the destination could serve.
        """
        queue = self._pool.queue
        return queue.waitingFor(self.destination) + queue.unbound() > 0

    def _sleep(self) -> None:
        self._end = None
        if self._wanted():
            self._stayAwake()
            return
        self._worker.forgetWords()
        self._pool.events.destination(self.destination, DESTINATION_ASLEEP)
        self._stop().addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        if not self._closed:
            self.phase = Phase.ASLEEP
            self._pool.destinationChanged()

    # Failed.

    def programExited(self, how: str) -> None:
        """
        Called when the program has exited without having been asked to.
        """
        if self.phase is Phase.WAKING:
            self._fail(how)
        elif self.phase is Phase.AWAKE:
            self._down(how)

    def _down(self, why: str) -> None:
        self._fall()
        self._worker.goDown(why)

    def wentDown(self) -> None:
        """
        Called when the destination is down, because connects or checks have failed.
        """
        if self.phase is Phase.AWAKE and self.destination.down is not None:
            self._fall()

    def _fall(self) -> None:
        """
        Begin the wait before the destination may be started again.
        """
        lasted = self._clock.seconds() - self._woke
        if self.phase is Phase.AWAKE and lasted >= self._pool.settings.backoffMax:
            self._backoff.reset()
        self._cancel()
        self._enter(Phase.FAILED, None)
        wait = self._backoff.next(random())
        self._end = self._clock.callLater(wait, self._backoffOver)

    def _backoffOver(self) -> None:
        self._end = None
        self._startAgain()

    def _cleared(self, _: object) -> None:
        self._clearing = None
        if self.phase is Phase.FAILED:
            self._startAgain()

    def _startAgain(self) -> None:
        """
        Let the destination be started again, once its time has come and what was
        started before is gone.
        """
        if self._end is not None or self._clearing is not None:
            return
        if self._proving or (self._starter is not None and self._starter.runs):
            self._begin()
        else:
            self.destination.recovered()
            self._enter(Phase.ASLEEP, "asleep")
            self._pool.events.destination(self.destination, DESTINATION_ASLEEP)
            self._pool.destinationChanged()

    # All.

    def _enter(self, phase: Phase, asleep: str | None) -> None:
        self.phase = phase
        self.destination.asleep = asleep

    def _stop(self) -> Deferred[None]:
        starter = self._starter
        assert starter is not None
        self._started = False
        stop = starter.stop().addCallback(lambda _: starter.close())
        self._pool.programs.stopping(stop)
        return stop

    def _cancel(self) -> None:
        """
        Cancel all that is under way, but what stops the destination.
        """
        self._readiness.stop()
        starting, self._starting = self._starting, None
        for each in (self._end, starting):
            if each is not None:
                each.cancel()
        self._end = None
        self._due = False

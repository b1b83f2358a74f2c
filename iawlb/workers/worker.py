"""
A destination's worker: it waits for a free slot, pulls the next session,
connects, relays, and gives the slot back.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from random import random
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.backend.connector import Connect, Connected, DestinationConnector
from iawlb.core.destination import HURRY, Destination
from iawlb.core.events import DESTINATION_DOWN, DESTINATION_UP, SESSION_PUT_BACK, Events
from iawlb.core.outcome import Outcome
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.observe.ratelimit import OncePerSecond
from iawlb.relay.resets import isReset
from iawlb.settings import Settings
from iawlb.workers.serving import Serving

LOCAL_ERRORS = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.EAGAIN,
    )
)
"""
What a connect can fail of that is this machine's want, and does not mean that the
destination is down. C{EAGAIN} is a Unix socket whose backlog is full.
"""

PULLS_PER_TURN = 32
"""
Sessions that are pulled before the reactor has its turn, when so many wait for a
destination that has come back.
"""

LOCAL_PAUSE = 0.1
"""
How long a worker does not pull after such an error, in seconds.
"""


def localError(failure: Failure) -> int | None:
    """
    Say which want of this machine a connect failed of, if one.
    """
    value = failure.value
    # Twisted's ConnectError has osError, an OSError has errno.
    number = getattr(value, "osError", None) or getattr(value, "errno", None)
    return number if number in LOCAL_ERRORS else None


class WorkerPool(Protocol):
    """
    What a worker needs of its pool.
    """

    clock: IReactorTime
    settings: Settings
    queue: ConnectionQueue
    table: SessionTable
    events: Events

    def destinationChanged(self) -> None:
        """
        The worker's destination went down or came up.
        """

    def sessionPulled(self) -> None:
        """
        A session has left the queue.
        """

    def sessionsPutBack(self) -> None:
        """
        Sessions have come back into the queue.
        """

    def heldOffChanged(self, heldOff: bool) -> None:
        """
        A connect failed for lack of something that all connects of this machine
        need, or that time is over.
        """

    def inHurry(self) -> bool:
        """
        Say whether sessions wait and nothing is up.
        """


class Worker:
    """
    Pulls sessions for one destination while it may, and probes it while it is
    down.

    @ivar heldOff: Whether pulling is suspended because a connect failed for lack of
        descriptors, ports or memory.
    """

    log = Logger()

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
        # Whether the queue is to give us its next session.
        self._waiting = False
        self._busy = False
        # What is called, and is called at once when the worker stops.
        self._timers: dict[IDelayedCall, Callable[[], None]] = {}
        self._probing: IDelayedCall | Connect | None = None
        # Oldest first.
        self._connecting: dict[Serving, None] = {}
        self._whenIdle: list[Deferred[None]] = []
        self._localErrors = OncePerSecond(self.clock, self._logLocalErrors)
        self._lastLocalError = 0

    def start(self) -> None:
        """
        Begin to pull, or to probe.
        """
        self._stopping = False
        if self.destination.down is not None:
            self._scheduleProbe()
        self.check()

    def stop(self) -> None:
        """
        Pull and probe no more. Sessions that are served go on.
        """
        self._stopping = True
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        timers, self._timers = self._timers, {}
        for timer, call in timers.items():
            timer.cancel()
            call()
        self._localErrors.stop()
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
        for _ in range(PULLS_PER_TURN):
            if not self._mayPull():
                self._busy = False
                return
            session = self.queue.pull(self.destination, self._pulled)
            if session is None:
                self._waiting = True
                self._busy = False
                return
            self._serve(session)
        self._later(0, self._pullOn)

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
        try:
            self._serve(session)
        finally:
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
        self._pool.sessionPulled()
        # A system call, which those that were pulled at once are spared.
        if session.waited and isReset(session.side):
            # The client has reset the connection; the reactor reports nothing for
            # a socket that is not being read.
            session.holder.dismiss(Outcome.CLIENT_LEFT_QUEUE)
            return
        self.destination.take()
        serving = Serving(self, session)
        self._connecting[serving] = None
        serving.start()

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
        A connect failed: put the session back, and do not pull until a probe
        succeeds.
        """
        local = localError(failure)
        if local is None:
            self._goDown(failure)
        else:
            self._holdOff(local)
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
            serving.cancelConnect()
            self._connectEnded(serving)
            self.destination.give()
            sessions.append(serving.release())
        for session in sessions:
            self.events.session(session, SESSION_PUT_BACK)
        self.queue.putBack(*sessions)
        self._pool.sessionsPutBack()
        self.check()

    def _give(self) -> None:
        self.destination.give()
        self.check()

    def _holdOff(self, error: int) -> None:
        """
        Pull no more for a moment, for want of something on this machine.
        """
        self._lastLocalError = error
        self._localErrors.add()
        if not self.heldOff and not self._stopping:
            self.heldOff = True
            # A full backlog is no reason to accept nothing for the others.
            machine = error != errno.EAGAIN
            self._later(LOCAL_PAUSE, lambda: self._letGo(machine))
            self.check()
            if machine:
                self._pool.heldOffChanged(True)

    def _letGo(self, machine: bool) -> None:
        self.heldOff = False
        self.check()
        if machine:
            self._pool.heldOffChanged(False)

    def _logLocalErrors(self, number: int) -> None:
        self.log.warn(
            "could not connect to {destination}, this machine lacks something: "
            "{error}; the connection waits and is tried again ({number} times)",
            destination=self.destination.name,
            error=errno.errorcode[self._lastLocalError],
            number=number,
        )

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        """
        Call later, or when stopped before.
        """

        def fire() -> None:
            del self._timers[timer]
            call()

        timer = self.clock.callLater(seconds, fire)
        self._timers[timer] = call

    # The destination is down.

    def _goDown(self, failure: Failure) -> None:
        self.destination.failed(failure.getErrorMessage())
        self.events.destination(self.destination, DESTINATION_DOWN)
        self.check()
        self._pool.destinationChanged()
        self._scheduleProbe()
        # The others that connect to it would only wait as long in vain.
        self._putBack(list(self._connecting))

    def _scheduleProbe(self) -> None:
        if self._stopping or self.destination.draining:
            self._probing = None
            return
        wait = self.destination.nextProbe(random())
        if self._pool.inHurry():
            wait = min(wait, HURRY)
        self._probing = self.clock.callLater(wait, self._probe)

    def hurry(self) -> None:
        """
        Sessions wait and nothing is up: do not wait long for the next probe.
        """
        timer = self._probing
        if timer is None or isinstance(timer, Connect):
            return
        if timer.getTime() - self.clock.seconds() > HURRY:
            timer.reset(HURRY)

    def _probe(self) -> None:
        self._probing = None
        connect = self.connector.connect(self._probed, self._probeFailed)
        if connect is not None:
            self._probing = connect

    def _probed(self, connection: Connected) -> None:
        connection.close()
        self._probing = None
        self.destination.recovered()
        self.events.destination(self.destination, DESTINATION_UP)
        self._pool.destinationChanged()
        self.check()

    def _probeFailed(self, failure: Failure) -> None:
        if localError(failure) is None:
            self.destination.failed(failure.getErrorMessage())
        self._scheduleProbe()

    def nameFailed(self, failure: Failure) -> None:
        """
        The destination's name does not resolve: it is down from the start.
        """
        if self.destination.down is None and not self._stopping:
            self._goDown(failure)

"""
Admission: how many clients may come in, and in what batches they enter the queue.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.events import SESSION_QUEUED, Events
from iawlb.core.outcome import Outcome
from iawlb.core.queue import ConnectionQueue
from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.settings import Settings


class Admission:
    """
    The limits of how many clients may come in, and the batches in which they enter the
    queue.

    @ivar stopped: Whether no more clients may come in, because the user has stopped the
        pool.
    """

    def __init__(
        self,
        clock: IReactorTime,
        queue: ConnectionQueue,
        table: SessionTable,
        events: Events,
        settings: Settings,
        freeSlots: Callable[[], int | None],
        onQueued: Callable[[], None],
    ) -> None:
        """
        @param freeSlots: Returns the number of free slots of all destinations together,
            L{None} for no limit.
        @param onQueued: Called after sessions were put into the queue, if they wait.
        """
        self._clock = clock
        self._queue = queue
        self._table = table
        self._events = events
        self._settings = settings
        self._freeSlots = freeSlots
        self._onQueued = onQueued
        self._batch: dict[Session, None] = {}
        self._timer: IDelayedCall | None = None
        self._full = False
        self.stopped = False
        self._failures = FailureLog(clock, "entering the queue")

    def room(self) -> int:
        """
        Return how many more sessions may begin now. Once the queue was full there is no
        room until a quarter of it has gone, so that accepting does not start and stop
        with each session.
        """
        waiting = self._queue.charged() + len(self._batch)
        size = self._settings.queueSize
        if waiting >= size:
            self._full = True
        elif waiting <= size * 3 // 4:
            self._full = False
        if self._full or self.stopped:
            return 0
        return max(0, min(size - waiting, self._table.limit - len(self._table)))

    @property
    def full(self) -> bool:
        """
        Whether the queue takes no more. A listener does not accept then, but clients
        of other pools' listeners may come.
        """
        waiting = self._queue.charged() + len(self._batch)
        return self.stopped or waiting >= self._settings.queueSize

    def enter(self, session: Session) -> None:
        """
        Put a session into the queue, together with its batch.
        """
        enough = self._settings.acceptBatch
        if enough == 1:
            self._put(session)
            if session.pulled is None:
                self._onQueued()
            return
        self._batch[session] = None
        free = self._freeSlots()
        enough = enough if free is None else min(enough, free)
        if len(self._batch) >= enough:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(self._settings.acceptDelay, self.flush)

    def flush(self) -> None:
        """
        Put the batch into the queue now.
        """
        self._cancel()
        batch, self._batch = self._batch, {}
        for session in batch:
            try:
                self._put(session)
            except Exception:
                self._failures.add()
                session.holder.dismiss(Outcome.FAILED)
        self._onQueued()

    def stop(self) -> None:
        """
        Stop the timer.
        """
        self._cancel()
        self._failures.stop()

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _put(self, session: Session) -> None:
        if self._events.everyStep:
            self._events.session(session, SESSION_QUEUED)
        self._queue.put(session)

    def leave(self, session: Session) -> None:
        """
        Take a session out of its batch or of the queue.
        """
        self._batch.pop(session, None)
        self._queue.discard(session)

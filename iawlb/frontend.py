"""
Where clients come in.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from iawlb.events import SESSION_QUEUED, Events
from iawlb.hangups import Hangups
from iawlb.plain import PlainClient
from iawlb.queue import ConnectionQueue
from iawlb.ratelimit import OncePerSecond
from iawlb.relay.side import Side, SideOwner
from iawlb.session import Outcome, Session
from iawlb.settings import Settings
from iawlb.table import SessionTable


class Admission:
    """
    How many may come in, and in what steps they reach the queue.
    """

    def __init__(
        self,
        clock: IReactorTime,
        queue: ConnectionQueue,
        table: SessionTable,
        events: Events,
        settings: Settings,
        maxConnections: int,
        freeSlots: Callable[[], int | None],
        onQueued: Callable[[], None],
    ) -> None:
        """
        @param maxConnections: Sessions that may live at a time.
        @param freeSlots: Says how many slots are free in all, L{None} for no
            limit.
        @param onQueued: Called after sessions were put into the queue.
        """
        self._clock = clock
        self._queue = queue
        self._table = table
        self._events = events
        self._settings = settings
        self._maxConnections = maxConnections
        self._freeSlots = freeSlots
        self._onQueued = onQueued
        self._batch: dict[Session, None] = {}
        self._timer: IDelayedCall | None = None
        self._full = False

    def room(self) -> int:
        """
        Say how many more sessions may begin now. Once the queue was full there
        is no room until a quarter of it has gone, so that accepting does not
        start and stop with each.
        """
        waiting = len(self._queue) + len(self._batch)
        size = self._settings.queueSize
        if waiting >= size:
            self._full = True
        elif waiting <= size * 3 // 4:
            self._full = False
        if self._full:
            return 0
        return max(0, min(size - waiting, self._maxConnections - len(self._table)))

    def enter(self, session: Session) -> None:
        """
        A session goes to the queue, with its batch.
        """
        enough = self._settings.acceptBatch
        if enough == 1:
            self._put(session)
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
        Put the batch into the queue.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        batch, self._batch = self._batch, {}
        for session in batch:
            self._put(session)
        self._onQueued()

    def _put(self, session: Session) -> None:
        self._events.session(session, SESSION_QUEUED)
        self._queue.put(session)

    def leave(self, session: Session) -> None:
        """
        A session that waits is not to wait any longer.
        """
        self._batch.pop(session, None)
        self._queue.discard(session)


class Frontend(ServerFactory):
    """
    The factory of the clients' sides. It can be given to any endpoint; a
    listener of the balancer's own also stops accepting when there is no room,
    while for others a connection that finds none is closed.
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        admission: Admission,
        table: SessionTable,
        hangups: Hangups,
        settings: Settings,
    ) -> None:
        """
        @param name: The listener's name, for the record.
        """
        self.name = name
        self.admission = admission
        self.table = table
        self.hangups = hangups
        self.settings = settings
        self._turnedAway = OncePerSecond(
            clock,
            lambda number: self.log.warn(
                "{listener}: no room for {number} connections, closed",
                listener=name,
                number=number,
            ),
        )

    def buildProtocol(self, addr: IAddress | None) -> Side | None:
        """
        Make the side of a client, if there is room.
        """
        if self.admission.room() <= 0:
            self._turnedAway.add()
            return None
        return Side(Arrival(self, addr), self.hangups, self.settings.bufferSize)

    def accepted(self, handle: socket.SocketType, addr: IAddress) -> None:
        """
        Take an accepted socket, for which there is room.
        """
        arrival = Arrival(self, addr)
        client = PlainClient(handle, arrival, self.hangups)
        arrival.sideMade(client)
        arrival.sideReady(client)

    def stop(self) -> None:
        """
        Keep no timer.
        """
        self._turnedAway.stop()


class Arrival(SideOwner):
    """
    A client that was accepted and waits for a worker.
    """

    def __init__(self, frontend: Frontend, address: IAddress | None) -> None:
        self._frontend = frontend
        self._address = address
        self._session: Session
        self._outcome: Outcome | None = None

    def dismiss(self, outcome: Outcome) -> None:
        """
        Close it unserved.
        """
        self._outcome = outcome
        side = self._session.side
        self._frontend.admission.leave(self._session)
        # The close of a TLS session waits for an answer that may never come.
        if side.secure:
            side.abort()
        else:
            side.close()

    # What its side tells.

    def sideMade(self, side: Any) -> None:
        """
        It is accepted.
        """
        frontend = self._frontend
        self._session = frontend.table.begin(self._address, frontend.name, side, self)

    def sideReady(self, side: Any) -> None:
        """
        It may enter the queue.
        """
        self._frontend.admission.enter(self._session)
        if self._session.pulled is None:
            self._session.waited = True
            side.watch()

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        It is gone.
        """
        self._frontend.admission.leave(self._session)
        left = (
            Outcome.CLIENT_LEFT_QUEUE if side.ready else Outcome.CLIENT_LEFT_HANDSHAKE
        )
        self._frontend.table.end(self._session, self._outcome or left)

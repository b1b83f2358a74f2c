"""
The factory of clients' connections, and each client until a worker pulls it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from iawlb.backend.tlslistener import Certificates
from iawlb.core.origin import Origin
from iawlb.core.outcome import Outcome
from iawlb.core.ratelimit import FailureLog, OncePerSecond
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.frontend.admission import Admission
from iawlb.relay.context import RelayContext
from iawlb.relay.plain import PlainClient, resetNow
from iawlb.relay.side import Side, SideOwner
from iawlb.settings import ListenerSettings


class Frontend(ServerFactory):
    """
    The factory of the clients' sides, which can be given to any endpoint. A listener of
    the balancer's own stops accepting when there is no room; on other endpoints, a
    connection for which there is no room is closed.

    @ivar settings: The settings of the listener.
    @ivar certificates: Its certificates, if it ends TLS.
    @ivar guard: Returns whether a client may come in; L{None} if all may.
    @ivar arrive: Makes the arrival of a client that comes from now on.
    @ivar steps: What such a client has to do first, each with those that do it now.
    @ivar readers: The reactor or a poller, which reports when there are bytes on a
        plain socket.
    """

    log = Logger()
    noisy = False
    settings: ListenerSettings
    certificates: Certificates | None = None
    guard: Callable[[IAddress | None], bool] | None = None
    arrive: Callable[[Frontend, IAddress | None], Arrival]
    steps: Iterable[Any] = ()
    readers: Any

    def __init__(
        self,
        origin: Origin,
        clock: IReactorTime,
        admission: Admission,
        table: SessionTable,
        context: RelayContext,
        onHandshake: Callable[[Session], None],
    ) -> None:
        """
        @param origin: The pool and the listener, for the record.
        @param onHandshake: Called when a session's TLS handshake has begun.
        """
        self.origin = origin
        self.clock = clock
        self.admission = admission
        self.table = table
        self.context = context
        self.onHandshake = onHandshake
        self.arrive = Arrival
        name = origin.listener
        self.failures = FailureLog(clock, f"accepting a connection of {name}")
        # The last client that was refused, and why.
        self._why = ("", "")
        self._refused = OncePerSecond(clock, self._logRefused)
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
        if not self.admits(addr):
            return None
        if self.admission.room() <= 0:
            self._turnedAway.add()
            return None
        return Side(self.arrive(self, addr), self.context)

    def accepted(self, handle: socket.SocketType, addr: IAddress) -> None:
        """
        Begin the session of an accepted socket, for which there is room.
        """
        arrival = self.arrive(self, addr)
        client = PlainClient(handle, arrival, self.context.resets)
        try:
            arrival.sideMade(client)
        except Exception:
            self.failures.add()
            client.drop()
            return
        arrival.sideReady(client)

    def setGuard(self, guard: Callable[[IAddress | None], bool] | None) -> None:
        """
        Ask a function about each client that comes from now on. While there is none,
        nothing is asked for.
        """
        self.guard = guard
        # A method of this one object: so without a guard, nothing asks whether there is
        # one.
        vars(self).pop("accepted", None)
        if guard is not None:
            vars(self)["accepted"] = self._acceptedIfAdmitted

    def admits(self, addr: IAddress | None) -> bool:
        """
        Return whether a client may come in.
        """
        return self.guard is None or self.guard(addr)

    def _acceptedIfAdmitted(self, handle: socket.SocketType, addr: IAddress) -> None:
        """
        Begin the session of an accepted socket, or reset it if the client may not come
        in.
        """
        if self.admits(addr):
            Frontend.accepted(self, handle, addr)
        else:
            resetNow(handle)

    def refused(self, session: Session, why: str) -> None:
        """
        Log why a client was refused, at most once a second.
        """
        self._why = (session.client, why)
        self._refused.add()

    def _logRefused(self, number: int) -> None:
        client, why = self._why
        self.log.warn(
            "{listener}: {client} refused: {why} ({number} times)",
            listener=self.origin.listener,
            client=client,
            why=why,
            number=number,
        )

    def stop(self) -> None:
        """
        Stop the timers.
        """
        self._refused.stop()
        self.failures.stop()
        self._turnedAway.stop()


class Arrival(SideOwner):
    """
    A client that was accepted and waits for a worker.
    """

    def __init__(self, frontend: Frontend, address: IAddress | None) -> None:
        self._frontend = frontend
        self._admission = frontend.admission
        self._address = address
        self._session: Session
        self._outcome: Outcome | None = None

    def dismiss(self, outcome: Outcome) -> None:
        """
        Close the client's connection, without having served it.
        """
        self._outcome = outcome
        side = self._session.side
        self._admission.leave(self._session)
        # Closing would wait for the peer's close_notify, which may never come.
        if side.whole:
            side.abort()
        else:
            side.close()

    # What the client's side reports.

    def sideMade(self, side: Any) -> None:
        """
        Called when the client is accepted: begin its session.
        """
        frontend = self._frontend
        self._session = frontend.table.begin(self._address, frontend.origin, side, self)

    def sideHandshaking(self, side: Any) -> None:
        """
        Called when the client's TLS handshake has begun.
        """
        self._frontend.onHandshake(self._session)

    def sideReady(self, side: Any) -> None:
        """
        Called when the client is ready to be served: let its session enter the queue.
        """
        session = self._session
        try:
            self._admission.enter(session)
            if session.pulled is None:
                session.waited = True
                session.queued = self._frontend.clock.seconds()
                side.watch()
        except Exception:
            self._frontend.failures.add()
            session.holder.dismiss(Outcome.FAILED)

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Called when the client's connection is closed: end its session.
        """
        self._admission.leave(self._session)
        left = (
            Outcome.CLIENT_LEFT_QUEUE if side.ready else Outcome.CLIENT_LEFT_HANDSHAKE
        )
        self._frontend.table.end(self._session, self._outcome or left)

"""
One session while a worker serves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from iawlb.backend.connector import Connect, Connected, DestinationConnector
from iawlb.core.destination import Destination
from iawlb.core.events import SESSION_CONNECTED, SESSION_PULLED, Events
from iawlb.core.outcome import Outcome
from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import IRelay, Session
from iawlb.core.table import SessionTable
from iawlb.relay.fast import plain
from iawlb.relay.kinds import Kinds
from iawlb.relay.plain import PlainClient, resetNow
from iawlb.relay.side import Side, SideOwner


class ServingWorker(Protocol):
    """
    What L{Serving} needs of its worker.
    """

    destination: Destination
    connector: DestinationConnector
    clock: IReactorTime
    events: Events
    table: SessionTable
    relayed: Callable[[Session], None]
    kinds: Kinds

    failures: FailureLog
    greeting: Callable[[Session], bytes] | None

    def forget(self, serving: Serving) -> bool:
        """
        Count a connect as ended, if it is under way.

        @return: Whether it was under way.
        """

    def connected(self, serving: Serving) -> None:
        """
        Called when the connect has succeeded.
        """

    def given(self, serving: Serving) -> None:
        """
        Called when the destination's side is closed, so that the slot is no longer
        used.
        """

    def dropped(self, serving: Serving) -> None:
        """
        Called when the connect was given up because the client has left.
        """

    def failed(self, serving: Serving, failure: Failure) -> None:
        """
        Called when the connect has failed.
        """


def drop(connection: PlainClient | Connected) -> None:
    """
    Reset a connection, without calling its owner.
    """
    if isinstance(connection, PlainClient):
        connection.drop()
    elif not isinstance(connection, Side):
        resetNow(connection)
    elif not connection.lost:
        connection.owner = SideOwner()
        connection.abort()


class Serving(SideOwner):
    """
    One session that a worker serves: connecting at first, then relayed.

    @ivar greeting: What the destination gets before the client's first byte.
    """

    greeting = b""

    def __init__(self, worker: ServingWorker, session: Session) -> None:
        self._worker = worker
        self._session = session
        self._client = cast("Side | PlainClient", session.side)
        self._before = (session.holder, session.side.owner)
        self._connect: Connect | None = None
        self._relay: IRelay | None = None
        self._outcome = Outcome.CLIENT_LEFT_CONNECT
        # Whether the slot was given back.
        self._given = False

    def start(self) -> None:
        """
        Begin to connect.
        """
        worker, session = self._worker, self._session
        session.holder = self
        self._client.owner = self
        session.tries += 1
        session.pulled = worker.clock.seconds()
        session.destination = worker.destination.name
        if worker.events.everyStep:
            worker.events.session(session, SESSION_PULLED)
        self._connect = worker.connector.connect(
            self._connected, self._connectFailed, self.greeting
        )
        if self._connect is not None:
            # The connect takes a while, during which the client may leave.
            self._client.watch()

    @property
    def began(self) -> float:
        """
        When the connect began.
        """
        assert self._session.pulled is not None
        return self._session.pulled

    @property
    def holdsSlot(self) -> bool:
        """
        Whether the session holds a slot of the destination.
        """
        return not self._given

    @property
    def sent(self) -> bool:
        """
        Whether the client has sent something that was passed on.
        """
        return self._session.bytesIn > 0

    def serves(self, worker: object) -> bool:
        """
        Return whether the session is served by a worker.
        """
        return self._worker is worker

    def cancelConnect(self) -> None:
        """
        Give the connect up.
        """
        connect, self._connect = self._connect, None
        if connect is not None:
            connect.cancel()

    def release(self) -> Session:
        """
        Give the session back to its previous holder, and return it.
        """
        session = self._session
        session.holder, self._client.owner = self._before
        if not session.waited:
            # The session was pulled as soon as it entered the queue.
            assert session.pulled is not None
            session.queued = session.pulled
            session.waited = True
            self._client.watch()
        session.pulled = None
        return session

    def dismiss(self, outcome: Outcome) -> None:
        """
        End the session.
        """
        if self._relay is not None:
            self._relay.abort(outcome)
        else:
            self._outcome = outcome
            self.cancelConnect()
            self._client.abort()

    def _connected(self, destination: Connected) -> None:
        worker, session = self._worker, self._session
        self._connect = None
        try:
            relay = session.relay = self._relay = self._relayTo(destination)
            session.connected = worker.clock.seconds()
            worker.relayed(session)
            worker.connected(self)
            if worker.events.everyStep:
                worker.events.session(session, SESSION_CONNECTED)
            relay.start()
        except Exception:
            # A transport from another library may raise.
            if self._relay is None:
                drop(destination)
            self.fail()

    def _relayTo(self, destination: Connected) -> IRelay:
        """
        Make the fastest relay that the two connections allow.
        """
        connector, client = self._worker.connector, self._client
        context = connector.context
        if (
            context.poller is not None
            and (isinstance(client, PlainClient) or plain(client))
            and (not isinstance(destination, Side) or plain(destination))
        ):
            return self._worker.kinds.fast(
                client.handOver() if isinstance(client, PlainClient) else client,
                destination,
                context.poller,
                context.sends,
                self._released,
                self._ended,
            )
        if isinstance(client, PlainClient):
            client = connector.side(client.handOver())
        if not isinstance(destination, Side):
            destination = connector.side(destination)
        return self._worker.kinds.portable(
            client, destination, self._released, self._ended
        )

    def _connectFailed(self, failure: Failure) -> None:
        self._connect = None
        try:
            self._worker.failed(self, failure)
        except Exception:
            self.fail()

    def fail(self) -> None:
        """
        End the session, in whatever state it is, because a step has raised.
        """
        worker = self._worker
        worker.failures.add()
        connecting = worker.forget(self)
        try:
            if self._relay is not None:
                self._relay.failed()
            elif connecting:
                try:
                    self.cancelConnect()
                finally:
                    drop(self._client)
        except Exception:
            worker.failures.add()
        if connecting or self._relay is not None:
            self._released()
            self._ended(Outcome.FAILED)

    def _released(self) -> None:
        if not self._given:
            self._worker.given(self)
            self._given = True

    def _ended(self, outcome: Outcome) -> None:
        if self._session.outcome is None:
            self._worker.table.end(self._session, outcome)
        self._relay = None

    # What the client's side reports while the connect is under way.

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Called when the client has left during the connect.
        """
        try:
            self.cancelConnect()
            self._worker.dropped(self)
            self._given = True
            self._ended(self._outcome)
        except Exception:
            self.fail()

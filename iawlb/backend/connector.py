"""
Connect to a destination, in the cheapest way that its endpoint allows.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from iawlb.backend.names import NameEndpoint
from iawlb.backend.socketconnector import (
    PendingConnect,
    PlainEndpoint,
    SocketConnector,
    errorOf,
)
from iawlb.relay.context import RelayContext
from iawlb.relay.plain import PlainConnection
from iawlb.relay.side import Side, SideOwner

Connected = Side | socket.SocketType
"""
The result of a connect: the destination's side, or a bare socket if the socket
connector made it. A fast relay needs only the socket.
"""


class DestinationConnector:
    """
    Connects to one destination: with a plain socket where its endpoint has a plain
    target, else by the endpoint.

    @ivar address: The destination's address as it was given: text or an endpoint.
    @ivar text: The same for people.
    @ivar client: What speaks TLS with the destination, or L{None} if its settings ask
        for none.
    """

    client: Any = None
    address: Any
    text: str

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        timeout: float,
        context: RelayContext,
        sockets: SocketConnector | None,
    ) -> None:
        """
        @param reactor: Serves connections that need a transport.
        @param clock: The reactor's monotonic time, which no change of the wall clock
            moves.
        @param timeout: The longest time that a connect may take, in seconds.
        @param sockets: Connects plain sockets, if this reactor allows it.
        """
        self.clock = clock
        self._reactor = reactor
        self.endpoint = endpoint
        self.timeout = timeout
        self.context = context
        self.sockets = sockets
        self.plain = (
            endpoint if isinstance(endpoint, PlainEndpoint | NameEndpoint) else None
        )

    def connect(
        self,
        onConnected: Callable[[Connected], None],
        onFailed: Callable[[Failure], None],
        greeting: bytes = b"",
    ) -> Connect | None:
        """
        Begin to connect, with a time-out. The connect succeeds once the TLS handshake,
        if any, is done.

        @param onConnected: Called with the connection, maybe before this returns.
        @param onFailed: Called with the failure, maybe before this returns.
        @param greeting: Bytes that the destination gets before the handshake, where the
            connector has a C{client}.
        @return: An object that can cancel the connect, or L{None} if a callback has
            been called already.
        """
        sockets, plain = self.sockets, self.plain
        target = None if sockets is None or plain is None else plain.target
        if sockets is None or plain is None or target is None:
            connect = Connect(self, onConnected, onFailed)
            connect.useEndpoint()
        else:
            handle, error = sockets.begin(target)
            if not error and handle is not None:
                onConnected(handle)
                return None
            connect = Connect(self, onConnected, onFailed)
            connect.useSocket(sockets, plain, handle, error)
        return None if connect.over else connect

    def side(self, handle: socket.SocketType) -> Side:
        """
        Make the side of a socket that the socket connector connected, for a relay
        that needs a transport.
        """
        side = Side(SideOwner(), self.context)
        side.makeConnection(PlainConnection(handle, side, self._reactor))
        return side


class Connect:
    """
    A connect that takes a while: of a plain socket at first, if there is one, and then
    by the endpoint, if there are other addresses to try. One of the two callbacks is
    called, once.

    @ivar over: Whether a callback was called, or the connect was cancelled.
    """

    def __init__(
        self,
        connector: DestinationConnector,
        onConnected: Callable[[Connected], None],
        onFailed: Callable[[Failure], None],
    ) -> None:
        self.over = False
        self._connector = connector
        self._onConnected = onConnected
        self._onFailed = onFailed
        self._stage: PendingConnect | EndpointConnect | None = None
        self._began = connector.clock.seconds()

    def useSocket(
        self,
        sockets: SocketConnector,
        endpoint: PlainEndpoint | NameEndpoint,
        handle: socket.SocketType | None,
        error: int,
    ) -> None:
        """
        Continue with a socket whose connect is under way or has failed.
        """

        def failed(error: ConnectError) -> None:
            self._stage = None
            others = endpoint.plainFailed()
            if others and not isinstance(error, ConnectTimeout):
                self.useEndpoint()
            else:
                self._failed(Failure(error))

        if handle is None:
            failed(errorOf(error))
        else:
            self._stage = sockets.wait(handle, self._plainConnected, failed)

    def useEndpoint(self) -> None:
        """
        Connect by the endpoint, in the time that is left.
        """
        connector = self._connector
        endpoint = connector.endpoint
        self.run(EndpointConnect(connector, self._succeeded, self._failed, endpoint))

    def run(self, stage: EndpointConnect) -> None:
        """
        Begin a connect by an endpoint, which has the time that is left.
        """
        connector = self._connector
        left = self._began + connector.timeout - connector.clock.seconds()
        self._stage = stage
        stage.start(max(0.0, left))

    def _plainConnected(self, handle: socket.SocketType) -> None:
        """
        Called when a plain socket is connected.
        """
        self._succeeded(handle)

    def cancel(self) -> None:
        """
        Give up, without calling a callback.
        """
        if self.over:
            return
        self.over = True
        # No reference cycle is left for the garbage collector.
        del self._onConnected, self._onFailed
        stage, self._stage = self._stage, None
        if stage is not None:
            stage.cancel()

    def _succeeded(self, connection: Connected) -> None:
        onConnected = self._onConnected
        self._stage = None
        self.cancel()
        onConnected(connection)

    def _failed(self, failure: Failure) -> None:
        onFailed = self._onFailed
        self._stage = None
        self.cancel()
        onFailed(failure)


def _ignore(_: object) -> None:
    """
    Do nothing: replaces the callbacks of a connect that is over.
    """


class EndpointConnect(ClientFactory[Side], SideOwner):
    """
    A connect by an endpoint. One of the two callbacks is called, once.
    """

    noisy = False

    def __init__(
        self,
        connector: DestinationConnector,
        onConnected: Callable[[Side], None],
        onFailed: Callable[[Failure], None],
        endpoint: IStreamClientEndpoint,
    ) -> None:
        self._over = False
        self._connector = connector
        self._endpoint = endpoint
        self._onConnected = onConnected
        self._onFailed = onFailed
        self._sides: list[Side] = []
        self._connecting: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None

    def start(self, seconds: float) -> None:
        """
        Begin to connect.

        @param seconds: How long the connect may take.
        """
        connector = self._connector
        self._timer = connector.clock.callLater(seconds, self._timedOut)
        # An endpoint that raises has failed to connect.
        connecting: Deferred[Any] = maybeDeferred(self._endpoint.connect, self)
        connecting.addCallbacks(lambda _: None, self._failed)
        if not self._over:
            self._connecting = connecting

    def cancel(self) -> None:
        """
        Give up, without calling a callback.
        """
        self._over = True
        # Twisted's connector and factory refer to each other, and to this object, until
        # the garbage collector runs. Do not let them keep the session until then.
        self._onConnected = self._onFailed = _ignore
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        sides, self._sides = self._sides, []
        for side in sides:
            if side.transport is not None and not side.lost:
                side.abort()

    def buildProtocol(self, addr: IAddress | None) -> Side:
        """
        Make the destination's side. An endpoint that tries several addresses may call
        this more than once.
        """
        side = Side(self, self._connector.context)
        self._sides.append(side)
        return side

    # What the sides report.

    def sideReady(self, side: Side) -> None:
        """
        Called when a side is connected, before the endpoint's own Deferred fires, so
        that the first bytes of a destination that speaks first find the relay.
        """
        if self._over:
            side.abort()
            return
        self._sides.remove(side)
        # The side is connected: only the sides of the other addresses are given
        # up, and not the Deferred, which is about to fire.
        self._connecting = None
        onConnected = self._onConnected
        self.cancel()
        onConnected(side)

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Called when a side was lost during the TLS handshake.
        """
        failure = side.failure
        said = "" if failure is None else failure.getErrorMessage()
        why = f"closed during the TLS handshake: {said}"
        self._failed(Failure(ConnectError(string=why)))

    def _timedOut(self) -> None:
        seconds = f"{self._connector.timeout:g}"
        self._failed(Failure(ConnectTimeout(f"no connection within {seconds} s")))

    def _failed(self, failure: Failure) -> None:
        if not self._over:
            onFailed = self._onFailed
            self.cancel()
            onFailed(failure)

"""
One connect to a destination.
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

from iawlb.backend.dialer import Dialer, Dialing, PlainEndpoint, errorOf
from iawlb.backend.names import NameEndpoint
from iawlb.relay.hangups import Hangups
from iawlb.relay.plain import PlainConnection
from iawlb.relay.side import Side, SideOwner
from iawlb.settings import Settings

Connected = Side | socket.SocketType
"""
What a connect gives: the destination's side, or a bare socket if it was dialed,
of which a fast relay needs no more.
"""


def _nobody(_: object) -> None:
    """
    Nobody is told.
    """


class Connector:
    """
    Connects to one destination.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        settings: Settings,
        hangups: Hangups,
        dialer: Dialer | None,
    ) -> None:
        """
        @param dialer: Dials it, if its endpoint has a plain target.
        """
        self.clock = clock
        self.endpoint = endpoint
        self.settings = settings
        self.hangups = hangups
        self.dialer = dialer
        self._dialable = (
            endpoint if isinstance(endpoint, PlainEndpoint | NameEndpoint) else None
        )

    def connect(
        self,
        onConnected: Callable[[Connected], None],
        onFailed: Callable[[Failure], None],
    ) -> Attempt | None:
        """
        Connect, bounded in time. It is connected once the TLS handshake, if any,
        is done.

        @param onConnected: Called with the connection, maybe before this returns.
        @param onFailed: Called with why there is none, maybe before this returns.
        @return: What can be cancelled, or L{None} if it is decided already.
        """
        dialer, dialable = self.dialer, self._dialable
        target = None if dialer is None or dialable is None else dialable.target
        if dialer is None or dialable is None or target is None:
            attempt = Attempt(self, onConnected, onFailed)
            attempt.connect()
        else:
            handle, error = dialer.begin(target)
            if not error and handle is not None:
                onConnected(handle)
                return None
            attempt = Attempt(self, onConnected, onFailed)
            attempt.dial(dialer, dialable, handle, error)
        return None if attempt.over else attempt

    def side(self, handle: socket.SocketType) -> Side:
        """
        Make the side of a socket that was dialed, for who needs more than that.
        """
        side = Side(SideOwner(), self.hangups, self.settings.bufferSize)
        side.makeConnection(PlainConnection(handle, side, self.clock))
        return side


class Attempt(ClientFactory[Side], SideOwner):
    """
    A connect that takes a while. It calls back once.

    @ivar over: Whether it has, or was cancelled.
    """

    noisy = False

    def __init__(
        self,
        connector: Connector,
        onConnected: Callable[[Connected], None],
        onFailed: Callable[[Failure], None],
    ) -> None:
        self.over = False
        self._connector = connector
        self._onConnected = onConnected
        self._onFailed = onFailed
        self._sides: list[Side] = []
        self._connecting: Deferred[Any] | None = None
        self._dialing: Dialing | None = None
        self._timer: IDelayedCall | None = None
        self._began = connector.clock.seconds()

    def dial(
        self,
        dialer: Dialer,
        endpoint: PlainEndpoint | NameEndpoint,
        handle: socket.SocketType | None,
        error: int,
    ) -> None:
        """
        Go on with a socket whose connect is under way or has failed.
        """

        def connected(handle: socket.SocketType) -> None:
            self._dialing = None
            self._succeeded(handle)

        def failed(error: ConnectError) -> None:
            self._dialing = None
            others = endpoint.dialFailed()
            if others and not isinstance(error, ConnectTimeout):
                self.connect()
            else:
                self._failed(Failure(error))

        if handle is None:
            failed(errorOf(error))
        else:
            self._dialing = dialer.wait(handle, connected, failed)

    def connect(self) -> None:
        """
        Connect by the endpoint's own means.
        """
        connector = self._connector
        clock = connector.clock
        left = self._began + connector.settings.connectTimeout - clock.seconds()
        self._timer = clock.callLater(max(0.0, left), self._timedOut)
        # An endpoint that raises has failed to connect.
        connecting: Deferred[Any] = maybeDeferred(connector.endpoint.connect, self)
        connecting.addCallbacks(lambda _: None, self._failed)
        if not self.over:
            self._connecting = connecting

    def cancel(self) -> None:
        """
        Give up, and call nobody.
        """
        self.over = True
        # Twisted's connector and factory keep each other, and this, until the
        # garbage collector comes; they are not to keep the session with it.
        self._onConnected = self._onFailed = _nobody
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        dialing, self._dialing = self._dialing, None
        if dialing is not None:
            dialing.cancel()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        sides, self._sides = self._sides, []
        for side in sides:
            if side.transport is not None and not side.lost:
                side.abort()

    def buildProtocol(self, addr: IAddress | None) -> Side:
        """
        Make the destination's side; an endpoint that tries several addresses
        may ask for more than one.
        """
        connector = self._connector
        side = Side(self, connector.hangups, connector.settings.bufferSize)
        self._sides.append(side)
        return side

    # What the sides tell.

    def sideReady(self, side: Side) -> None:
        """
        Connected. Called before the endpoint's own Deferred fires, so that the
        first bytes of a destination that speaks first find the relay.
        """
        if self.over:
            side.abort()
            return
        self._sides.remove(side)
        # It is connected: only the other addresses' sides are given up, and not
        # the Deferred, which is about to fire.
        self._connecting = None
        self._succeeded(side)

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Lost during the TLS handshake.
        """
        why = f"closed during the TLS handshake: {side.why}"
        self._failed(Failure(ConnectError(string=why)))

    def _succeeded(self, connection: Connected) -> None:
        onConnected = self._onConnected
        self.cancel()
        onConnected(connection)

    def _timedOut(self) -> None:
        seconds = f"{self._connector.settings.connectTimeout:g}"
        self._failed(Failure(ConnectTimeout(f"no connection within {seconds} s")))

    def _failed(self, failure: Failure) -> None:
        if not self.over:
            onFailed = self._onFailed
            self.cancel()
            onFailed(failure)

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

from iawlb.hangups import Hangups
from iawlb.names import NameEndpoint
from iawlb.plain import Dialer, Dialing, PlainConnection, PlainEndpoint, Target
from iawlb.relay.side import Side
from iawlb.settings import Settings


def _nobody(_: object) -> None:
    """
    Nobody is told.
    """


class Attempt(ClientFactory[Side]):
    """
    A connect that is bounded in time and calls back once: with the connected
    side, or with why there is none. It is connected once the TLS handshake, if
    any, is done.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        settings: Settings,
        hangups: Hangups,
        dialer: Dialer | None,
        onConnected: Callable[[Side], None],
        onFailed: Callable[[Failure], None],
    ) -> None:
        self._settings = settings
        self._hangups = hangups
        self._onConnected = onConnected
        self._onFailed = onFailed
        self._sides: list[Side] = []
        self._connecting: Deferred[Any] | None = None
        self._over = False
        self._clock = clock
        self._dialer = dialer
        self._dialing: Dialing | None = None
        self._timer: IDelayedCall | None = None
        self._began = clock.seconds()

    def start(self, endpoint: IStreamClientEndpoint) -> None:
        """
        Begin.
        """
        if self._dialer is not None and isinstance(
            endpoint, PlainEndpoint | NameEndpoint
        ):
            target = endpoint.target
            if target is not None:
                self._dial(self._dialer, endpoint, target)
                return
        self._connect(endpoint)

    def _dial(
        self, dialer: Dialer, endpoint: PlainEndpoint | NameEndpoint, target: Target
    ) -> None:
        self._dialing = dialer.dial(
            target,
            lambda handle: self._dialed(handle, target.peer),
            lambda error: self._dialFailed(endpoint, error),
        )

    def _dialFailed(
        self, endpoint: PlainEndpoint | NameEndpoint, error: ConnectError
    ) -> None:
        self._dialing = None
        others = endpoint.dialFailed()
        if others and not isinstance(error, ConnectTimeout):
            self._connect(endpoint)
        else:
            self._failed(Failure(error))

    def _dialed(self, handle: socket.socket, peer: IAddress) -> None:
        self._dialing = None
        side = self.buildProtocol(peer)
        connection = PlainConnection(handle, side, self._clock, peer)
        connection.setTcpNoDelay(True)
        side.makeConnection(connection)

    def _connect(self, endpoint: IStreamClientEndpoint) -> None:
        """
        Connect by the endpoint's own means.
        """
        left = self._began + self._settings.connectTimeout - self._clock.seconds()
        self._timer = self._clock.callLater(max(0.0, left), self._timedOut)
        # An endpoint that raises has failed to connect.
        connecting: Deferred[Any] = maybeDeferred(endpoint.connect, self)
        connecting.addCallbacks(lambda _: None, self._failed)
        if not self._over:
            self._connecting = connecting

    def cancel(self) -> None:
        """
        Give up, and call nobody.
        """
        self._over = True
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
        side = Side(self, self._hangups, self._settings.bufferSize)
        self._sides.append(side)
        return side

    # What the sides tell.

    def sideMade(self, side: Side) -> None:
        """
        Connected, but maybe without TLS as yet.
        """

    def sideReady(self, side: Side) -> None:
        """
        Connected. Called before the endpoint's own Deferred fires, so that the
        first bytes of a destination that speaks first find the relay.
        """
        if self._over:
            side.abort()
            return
        self._sides.remove(side)
        # It is connected: only the other addresses' sides are given up, and not
        # the Deferred, which is about to fire.
        self._connecting = None
        onConnected = self._onConnected
        self.cancel()
        onConnected(side)

    def sideRead(self, side: Side, data: bytes) -> None:
        """
        Bytes that came in one read with the end of the handshake.
        """
        side.early.append(data)

    def sideEnded(self, side: Side) -> None:
        """
        The side remembers it.
        """

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Lost during the TLS handshake.
        """
        why = f"closed during the TLS handshake: {side.why}"
        self._failed(Failure(ConnectError(string=why)))

    def _timedOut(self) -> None:
        seconds = f"{self._settings.connectTimeout:g}"
        self._failed(Failure(ConnectTimeout(f"no connection within {seconds} s")))

    def _failed(self, failure: Failure) -> None:
        if not self._over:
            onFailed = self._onFailed
            self.cancel()
            onFailed(failure)

"""
Connect to a destination over TLS: a plain connection first, then the handshake.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.backend.connector import (
    Connect,
    Connected,
    DestinationConnector,
    EndpointConnect,
)
from iawlb.backend.socketconnector import SocketConnector
from iawlb.backend.tlsclient import TlsAttempt, TlsClient
from iawlb.backend.tlsfaults import handshakeFault
from iawlb.compat import wrappedProtocol
from iawlb.relay.context import RelayContext
from iawlb.relay.plain import PlainConnection, resetNow
from iawlb.relay.side import Side
from iawlb.relay.tlstransport import TlsTransport


class TlsFailed(ConnectError):
    """
    The TLS handshake with a destination has failed; the message says why.
    """

    def __str__(self) -> str:
        return str(self.args[0])


class TlsConnector(DestinationConnector):
    """
    Connects to one destination over TLS.
    """

    client: TlsClient

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        timeout: float,
        context: RelayContext,
        sockets: SocketConnector | None,
        client: TlsClient,
    ) -> None:
        """
        @param endpoint: Makes the plain connections.
        @param client: Makes the balancer's ends of TLS.
        """
        super().__init__(reactor, clock, endpoint, timeout, context, sockets)
        self.reactor = reactor
        self.client = client

    def connect(
        self,
        onConnected: Callable[[Connected], None],
        onFailed: Callable[[Failure], None],
        greeting: bytes = b"",
    ) -> Connect | None:
        """
        Begin to connect, with a time-out. The connect succeeds once the handshake is
        done.

        @param greeting: Bytes that the destination gets before the handshake.
        """
        connect = TlsConnect(self, onConnected, onFailed, greeting)
        connect.begin()
        return None if connect.over else connect


class TlsConnect(Connect):
    """
    A connect over TLS: of a plain socket at first, if there is one, or by the endpoint,
    then the handshake. One of the two callbacks is called, once.
    """

    def __init__(
        self,
        connector: TlsConnector,
        onConnected: Callable[[Connected], None],
        onFailed: Callable[[Failure], None],
        greeting: bytes,
    ) -> None:
        super().__init__(connector, onConnected, onFailed)
        self._tls = connector
        self._greeting = greeting

    def begin(self) -> None:
        """
        Begin to connect.
        """
        connector = self._tls
        sockets, plain = connector.sockets, connector.plain
        target = None if sockets is None or plain is None else plain.target
        if sockets is None or plain is None or target is None:
            self.useEndpoint()
            return
        handle, error = sockets.begin(target)
        if handle is not None and not error:
            self._plainConnected(handle)
        else:
            self.useSocket(sockets, plain, handle, error)

    def useEndpoint(self) -> None:
        """
        Connect by the endpoint, in the time that is left.
        """
        self._shake(self._tls.endpoint)

    def _plainConnected(self, handle: socket.SocketType) -> None:
        """
        Called when a plain socket is connected.
        """
        self._shake(_Made(handle, self._tls.reactor))

    def _shake(self, endpoint: IStreamClientEndpoint) -> None:
        """
        Connect by an endpoint, and do the handshake.
        """
        connector = self._tls
        attempt = connector.client.attempt()
        over = _TlsEndpoint(endpoint, attempt, self._greeting)
        self.run(_Handshake(connector, self._succeeded, self._failed, over))


class _Handshake(EndpointConnect):
    """
    A connect by an endpoint that does the handshake too.
    """

    def __init__(
        self,
        connector: TlsConnector,
        onConnected: Callable[[Side], None],
        onFailed: Callable[[Failure], None],
        endpoint: _TlsEndpoint,
    ) -> None:
        super().__init__(connector, onConnected, onFailed, endpoint)
        self._attempt = endpoint.attempt

    def sideReady(self, side: Side) -> None:
        """
        Called when the handshake is done.
        """
        self._attempt.client.succeeded(side.transport.getHandle())
        super().sideReady(side)

    def _timedOut(self) -> None:
        if any(each.transport is not None for each in self._sides):
            seconds = f"{self._connector.timeout:g}"
            why = f"connected, but no TLS handshake within {seconds} s"
            self._failed(Failure(ConnectTimeout(why)))
        else:
            super()._timedOut()

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Called when the connection was lost during the handshake.
        """
        if self._over:
            return  # given up
        fault = self._attempt.fault
        if fault:
            why = f"the TLS certificate is refused: {fault}"
        else:
            why = f"the TLS handshake failed: {handshakeFault(side.failure)}"
        self._attempt.client.failed()
        self._failed(Failure(TlsFailed(string=why)))


@implementer(IStreamClientEndpoint)
class _Made:
    """
    The endpoint of a socket that is connected.
    """

    def __init__(self, handle: socket.SocketType, reactor: Any) -> None:
        self._handle = handle
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Give the socket a transport, and its protocol.
        """
        try:
            # Ours does not ask for the address.
            protocol: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
            transport = PlainConnection(self._handle, protocol, self._reactor)
            protocol.makeConnection(transport)
        except Exception:
            resetNow(self._handle)
            raise
        transport.startReading()
        return succeed(protocol)


@implementer(IStreamClientEndpoint)
class _TlsEndpoint:
    """
    The endpoint of one connection over TLS.

    @ivar attempt: Makes the balancer's end of TLS.
    """

    def __init__(
        self,
        plain: IStreamClientEndpoint,
        attempt: TlsAttempt,
        greeting: bytes,
    ) -> None:
        self.attempt = attempt
        self._plain = plain
        self._greeting = greeting

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect, as L{IStreamClientEndpoint.connect}.
        """
        factory = _Factory(protocolFactory, self.attempt, self._greeting)
        connecting: Deferred[IProtocol] = self._plain.connect(factory)
        return connecting


class _Tls(TlsTransport):
    """
    A TLS connection in front of which bytes may be sent.

    @ivar greeting: These bytes.
    """

    greeting = b""

    def connectionMade(self) -> None:
        """
        Send these bytes, and begin the handshake.
        """
        below = self.transport
        # The wrapper that endpoints put around a protocol forgets the half-closes.
        if isinstance(below, Connection) and wrappedProtocol(below.protocol) is self:
            below.protocol = self
        if self.greeting:
            below.write(self.greeting)
        super().connectionMade()


class _Factory(ClientFactory[_Tls]):
    """
    Makes the TLS connection of one connect; more than one, if the endpoint tries
    several addresses.
    """

    noisy = False

    def __init__(
        self, sides: IProtocolFactory, attempt: TlsAttempt, greeting: bytes
    ) -> None:
        """
        @param sides: Makes the sides above TLS.
        """
        self._sides: Any = sides
        self._attempt = attempt
        self._greeting = greeting

    def buildProtocol(self, addr: IAddress | None) -> _Tls:
        """
        Make the protocol of a connection.
        """
        made = _Tls(self._attempt.connection(), self._sides.buildProtocol(addr))
        made.greeting = self._greeting
        return made

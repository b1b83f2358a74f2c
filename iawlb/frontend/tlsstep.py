"""
The TLS handshake of a client, before it enters the queue.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from iawlb.backend.certificates import Certificates
from iawlb.backend.handshakes import describeHandshake, handshakeError
from iawlb.core.outcome import Outcome
from iawlb.frontend.steps import Arriving, Step
from iawlb.relay.context import RelayContext
from iawlb.relay.plain import PlainClient, PlainConnection
from iawlb.relay.side import Side, SideOwner
from iawlb.relay.tlstransport import TlsTransport


class TlsStep(Step):
    """
    Does the TLS handshake with a client. The session's connection is then what was
    decrypted.
    """

    late = Outcome.HANDSHAKE_TIMEOUT
    gone = Outcome.CLIENT_LEFT_HANDSHAKE

    def __init__(
        self,
        timeout: float,
        reactor: Any,
        context: RelayContext,
        certificates: Certificates,
    ) -> None:
        """
        @param timeout: How long the handshake may take, in seconds; 0 is no limit.
        @param reactor: Serves the connections.
        """
        super().__init__(timeout)
        self._reactor = reactor
        self._context = context
        self._certificates = certificates

    def begin(self, arrival: Arriving) -> None:
        """
        Begin the handshake.
        """
        tls = self._certificates.accept()
        client: Any = arrival.session.side
        side = Side(client.owner, self._context)
        above = TlsTransport(tls, side)
        if isinstance(client, PlainClient):
            below = PlainConnection(client.handOver(), above, self._reactor)
            above.makeConnection(below)
            below.startReading()
        else:
            _Below(client, above)

    def sideReady(self, arrival: Arriving, side: Any) -> None:
        """
        Called when the handshake is done.
        """
        self._certificates.handshakes += 1
        describeHandshake(side.transport.getHandle(), arrival.session.learn())
        arrival.proceed()

    def lost(self, arrival: Arriving, side: Any) -> Outcome:
        """
        Called when the connection was lost during the handshake.
        """
        why = handshakeError(side.failure)
        if why is None:
            return self.gone
        self._certificates.failed += 1
        arrival.explain(f"the TLS handshake failed: {why}")
        return Outcome.HANDSHAKE_FAILED


class _Below(SideOwner):
    """
    The owner of a side over which TLS is spoken.
    """

    def __init__(self, side: Side, above: TlsTransport) -> None:
        self._above = above
        side.owner = self
        early, side.early = side.early, []
        above.makeConnection(side.transport)
        for data in early:
            above.dataReceived(data)
        side.resumeProducing()

    def sideRead(self, side: Side, data: bytes) -> None:
        """
        Called when bytes came.
        """
        self._above.dataReceived(data)

    def sideEnded(self, side: Side) -> None:
        """
        Called when the client will send no more.
        """
        self._above.readConnectionLost()

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Called when the connection is closed.
        """
        error = ConnectionLost() if reset else ConnectionDone()
        self._above.connectionLost(Failure(error))

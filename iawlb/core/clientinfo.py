"""
What is known of a client beyond its address.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.interfaces import IAddress

from iawlb.core.destination import Destination


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """
    The TLS session with a client.

    @ivar version: Such as C{TLSv1.3}.
    @ivar cipher: Such as C{TLS_AES_256_GCM_SHA384}.
    @ivar clientName: The common name in the client's certificate, or L{None} if there
        is no certificate.
    @ivar verified: Whether the client's certificate was verified.
    """

    version: str
    cipher: str
    clientName: str | None = None
    verified: bool = False


class ClientInfo:
    """
    What is known of a client beyond its address: what a PROXY header, the TLS handshake
    or the client's first bytes have said, and what a hook has chosen.

    @ivar peer: The address that really connected: that of a proxy, if a PROXY header
        has named the client; L{None} if there was no header.
    @ivar local: The address that the client connected to, if a PROXY header named it.
    @ivar tlvs: The types and values of what else the PROXY header said.
    @ivar uniqueId: The id that the PROXY header gave the connection, or L{None}.
    @ivar serverName: The name of the server that the client asked for (SNI), or
        L{None}.
    @ivar protocols: The application protocols that the client offered (ALPN).
    @ivar protocol: The one that was agreed upon, or L{None}.
    @ivar tls: The TLS session, or L{None} if the balancer does not end TLS.
    @ivar firstBytes: The client's first bytes, where these were waited for. They are
        passed on to the destination too.
    @ivar affinity: The key that binds the client to a destination, in place of the
        client's address, or L{None}.
    @ivar chosen: The destination that alone may serve the session, or L{None}.
    """

    __slots__ = (
        "affinity",
        "chosen",
        "firstBytes",
        "local",
        "peer",
        "protocol",
        "protocols",
        "serverName",
        "tls",
        "tlvs",
        "uniqueId",
    )

    def __init__(self) -> None:
        self.peer: IAddress | None = None
        self.local: IAddress | None = None
        self.tlvs: tuple[tuple[int, bytes], ...] = ()
        self.uniqueId: bytes | None = None
        self.serverName: str | None = None
        self.protocols: tuple[str, ...] = ()
        self.protocol: str | None = None
        self.tls: TlsInfo | None = None
        self.firstBytes = b""
        self.affinity: str | None = None
        self.chosen: Destination | None = None

"""
What a TLS handshake with a client has told, or why it has failed.
"""

from __future__ import annotations

from cryptography.x509 import Certificate, NameOID
from OpenSSL import SSL
from twisted.python.failure import Failure

from iawlb.backend.openssl import reasonsOf
from iawlb.core.clientinfo import ClientInfo, TlsInfo

UNREADABLE = "(unreadable)"
"""
The name of a client whose certificate OpenSSL has found right, but whose subject cannot
be read, since it is written in an old way (TeletexString) for instance.
"""


def describeHandshake(connection: SSL.Connection, info: ClientInfo) -> None:
    """
    Note what a handshake has told.

    @param connection: The server's end of the connection.
    """
    name = connection.get_servername()
    if name:
        # As the routes and a ClientHello that is passed on have the name.
        info.serverName = _text(name).lower().removesuffix(".") or None
    info.protocols = tuple(map(_text, connection.get_app_data() or ()))
    chosen = connection.get_alpn_proto_negotiated()
    info.protocol = _text(chosen) if chosen else None
    client = connection.get_peer_certificate(as_cryptography=True)
    clientName = None if client is None else _nameOf(client)
    info.tls = TlsInfo(
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        clientName,
        client is not None,
    )


def _nameOf(client: Certificate) -> str:
    """
    Return the common name in a client's certificate, or its whole subject if that has
    none.
    """
    try:
        names = client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else client.subject.rfc4514_string()
    except (TypeError, ValueError):
        return UNREADABLE


def _text(said: bytes) -> str:
    return said.decode("ascii", "backslashreplace")


def handshakeError(failure: Failure | None) -> str | None:
    """
    Say why a handshake has failed.

    @param failure: Why the connection was lost.
    @return: L{None} if the client has left.
    """
    reasons = reasonsOf(None if failure is None else failure.value)
    return ", ".join(reasons) or None

"""
The endpoints of TLS listeners, C{ssl:} and C{tls:}, with the same arguments as
Twisted's strings of these names. Twisted's own endpoints leave the chain in C{certKey=}
out, do not read a renewed certificate, and refuse clients that offer application
protocols (ALPN).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from iawlb.backend.certificates import (
    Certificates,
    contextsOfFiles,
    contextsOfFolder,
    pemFiles,
)
from iawlb.backend.hints import quoted
from iawlb.errors import InvalidSetting


@implementer(IStreamServerEndpoint)
class TlsServerEndpoint:
    """
    An endpoint that decrypts the TLS connections which another endpoint accepts.

    @ivar plain: The other endpoint.
    @ivar certificates: The certificates that clients are shown.
    """

    def __init__(
        self, reactor: Any, plain: IStreamServerEndpoint, certificates: Certificates
    ) -> None:
        self._reactor = reactor
        self.plain = plain
        self.certificates = certificates

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen, as L{IStreamServerEndpoint.listen}.
        """
        factory = TLSMemoryBIOFactory(
            self.certificates, False, protocolFactory, self._reactor
        )
        listening: Deferred[IListeningPort] = self.plain.listen(factory)
        return listening


def ssl(
    reactor: Any,
    port: str,
    privateKey: str = "server.pem",
    certKey: str | None = None,
    sslmethod: str | None = None,
    interface: str = "",
    backlog: str = "50",
    extraCertChain: str | None = None,
    dhParameters: str | None = None,
) -> IStreamServerEndpoint:
    """
    Make the endpoint of an C{ssl:} listener. The arguments have the names that they
    have in Twisted's string.

    @raise InvalidSetting: A file cannot be used, or there is no such method.
    """
    method = None
    if sslmethod is not None:
        method = getattr(SSL, sslmethod, None)
        if not sslmethod.endswith("_METHOD") or method is None:
            raise InvalidSetting(
                f"{quoted(sslmethod)} is no method of OpenSSL's, such as TLS_METHOD"
            )
    certificate = certKey or privateKey
    files = [privateKey, certificate, extraCertChain, dhParameters]
    certificates = Certificates(
        reactor,
        certificate,
        lambda: [each for each in files if each is not None],
        partial(
            contextsOfFiles,
            privateKey,
            certificate,
            extraCertChain,
            dhParameters,
            method,
        ),
    )
    plain = TCP4ServerEndpoint(reactor, int(port), int(backlog), interface)
    return TlsServerEndpoint(reactor, plain, certificates)


def tls(
    reactor: Any,
    path: str,
    port: str = "443",
    backlog: str = "50",
    interface: str = "::",
) -> IStreamServerEndpoint:
    """
    Make the endpoint of a C{tls:} listener. The arguments have the names that they have
    in Twisted's string.

    @raise InvalidSetting: The folder's files cannot be used.
    """
    certificates = Certificates(
        reactor, path, partial(pemFiles, path), partial(contextsOfFolder, path)
    )
    plain = TCP6ServerEndpoint(reactor, int(port), int(backlog), interface)
    return TlsServerEndpoint(reactor, plain, certificates)

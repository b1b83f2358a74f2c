"""
The certificates of TLS listeners, from their settings, and from the endpoint strings
C{ssl:} and C{tls:}, which take the same arguments as Twisted's strings of these names.
Twisted's own endpoints leave the chain in C{certKey=} out, do not read a renewed
certificate, and refuse clients that offer application protocols (ALPN).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint

from iawlb.backend.certificates import Certificates
from iawlb.backend.hints import quoted
from iawlb.backend.pem import Folder, Pair, Source
from iawlb.backend.tlscontexts import TlsOptions
from iawlb.errors import InvalidSetting
from iawlb.settings import ListenerSettings


@dataclass(slots=True)
class TlsServer:
    """
    What an endpoint string of a TLS listener says.

    @ivar plain: The endpoint that accepts the connections.
    """

    plain: IStreamServerEndpoint
    certificates: Certificates


def certificatesOf(clock: Any, name: str, settings: ListenerSettings) -> Certificates:
    """
    Read the certificates that the settings of a listener name.

    @param name: What the certificates belong to, for the log.
    @raise InvalidSetting: The settings do not fit each other, or a file cannot be used.
    """
    paths, keys = settings.certificate, settings.certificateKey
    if keys and len(keys) != len(paths):
        raise InvalidSetting(
            f"certificate-key: {len(keys)} files do not fit {len(paths)} of "
            "certificates: give one for each, in the same order"
        )
    sources = [
        _sourceOf(path, key)
        for path, key in zip(paths, keys or [None] * len(paths), strict=True)
    ]
    return Certificates(clock, name, sources, optionsOf(settings))


def _sourceOf(path: str, key: str | None) -> Source:
    """
    Return the source of certificates at a path.

    @param key: The file of the key, if that is another.
    """
    if key is not None:
        return Pair(key, path)
    return Folder(path) if os.path.isdir(path) else Pair(path, path)


def optionsOf(
    settings: ListenerSettings, dh: str | None = None, method: int = SSL.TLS_METHOD
) -> TlsOptions:
    """
    Return what the settings of a listener say about TLS, but for the certificates.

    @param dh: A file of Diffie-Hellman parameters, if any.
    @param method: A method of OpenSSL's.
    @raise InvalidSetting: The settings do not fit each other.
    """
    asked = settings.clientCertificate != "none"
    if asked and not settings.clientCa:
        raise InvalidSetting(
            f"client-certificate={settings.clientCertificate} needs client-ca, the "
            "file of the authorities"
        )
    if settings.clientCa and not asked:
        raise InvalidSetting(
            "client-ca needs client-certificate, which is asked or required"
        )
    return TlsOptions(
        least=settings.tlsMin,
        alpn=tuple(each.encode() for each in settings.alpn),
        clientCa=settings.clientCa or None,
        required=settings.clientCertificate == "required",
        dh=dh,
        method=method,
    )


def ssl(
    reactor: Any,
    settings: ListenerSettings,
    port: str,
    privateKey: str = "server.pem",
    certKey: str | None = None,
    sslmethod: str | None = None,
    interface: str = "",
    backlog: str = "50",
    extraCertChain: str | None = None,
    dhParameters: str | None = None,
) -> TlsServer:
    """
    Read an C{ssl:} string. The arguments have the names that they have in Twisted's
    string.

    @raise InvalidSetting: A file cannot be used, or there is no such method.
    """
    method = SSL.TLS_METHOD
    if sslmethod is not None:
        method = getattr(SSL, sslmethod, -1)
        if not sslmethod.endswith("_METHOD") or method < 0:
            raise InvalidSetting(
                f"{quoted(sslmethod)} is no method of OpenSSL's, such as TLS_METHOD"
            )
    certificate = certKey or privateKey
    source = Pair(privateKey, certificate, extraCertChain)
    options = optionsOf(settings, dhParameters, method)
    certificates = Certificates(reactor, certificate, [source], options)
    plain = TCP4ServerEndpoint(reactor, int(port), int(backlog), interface)
    return TlsServer(plain, certificates)


def tls(
    reactor: Any,
    settings: ListenerSettings,
    path: str,
    port: str = "443",
    backlog: str = "50",
    interface: str = "::",
) -> TlsServer:
    """
    Read a C{tls:} string. The arguments have the names that they have in Twisted's
    string.

    @raise InvalidSetting: The folder's files cannot be used.
    """
    certificates = Certificates(reactor, path, [Folder(path)], optionsOf(settings))
    plain = TCP6ServerEndpoint(reactor, int(port), int(backlog), interface)
    return TlsServer(plain, certificates)

"""
The balancer's end of TLS connections to a destination: what it shows, and what it
verifies.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from typing import Any

from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
)
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iawlb.backend.hints import quoted
from iawlb.backend.pem import readCertificates, readIdentity
from iawlb.backend.tlsfaults import certificateFault, nameFault
from iawlb.errors import InvalidSetting
from iawlb.settings import DestinationSettings

LOOK_EVERY = 1.0
"""
The shortest time between two looks at whether the files have changed, in seconds. A
look happens when a connect begins.
"""

CONTEXTS = 100
"""
The number of OpenSSL contexts that are kept for destinations with the same settings.
"""

_State = tuple[tuple[object, ...], ...]


class TlsClient:
    """
    Makes the balancer's ends of TLS connections to one destination, from the files as
    they are now. If changed files cannot be used, what was read before stays in use.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, settings: DestinationSettings, host: str
    ) -> None:
        """
        @param host: The host of the destination's address; empty if it has none.
        @raise InvalidSetting: A file cannot be used, or there is no name to verify.
        """
        self.name = settings.tlsName or host.lower().removesuffix(".")
        self.isAddress = isIPAddress(self.name) or isIPv6Address(self.name)
        self.verify = settings.tlsVerify
        if self.verify and not self.name:
            raise InvalidSetting(
                "tlsName: the address has no host whose name the certificate could be "
                "for: give tls-name, or tls-verify=no"
            )
        self._clock = clock
        self._settings = settings
        self._looked = clock.seconds()
        self._seen = self._look()
        self._context = self._make()
        # The last connection, whose TLS session the next one may resume.
        self._last: SSL.Connection | None = None

    def attempt(self) -> TlsAttempt:
        """
        Begin a connection.
        """
        now = self._clock.seconds()
        # A clock that was set back must not stop the looks.
        if not 0 <= now - self._looked < LOOK_EVERY:
            self._looked = now
            self._renew()
        return TlsAttempt(self)

    def connection(self, attempt: TlsAttempt) -> SSL.Connection:
        """
        Make the balancer's end of a connection.
        """
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(attempt)
        if self.name and not self.isAddress:
            connection.set_tlsext_host_name(self.name.encode("ascii"))
        session = None if self._last is None else self._last.get_session()
        if session is not None:
            with suppress(SSL.Error):  # a full handshake does too
                connection.set_session(session)
        connection.set_connect_state()
        return connection

    def succeeded(self, connection: SSL.Connection) -> None:
        """
        Called when a handshake is done.
        """
        if connection.get_context() is self._context:
            self._last = connection

    def failed(self) -> None:
        """
        Called when a handshake has failed: resume no TLS session in the next.
        """
        self._last = None

    def _renew(self) -> None:
        """
        Read the files again if one has changed.
        """
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        name = self._settings.name
        try:
            self._context = self._make()
        except InvalidSetting as error:
            self.log.error(
                "the TLS files of destination {name} have changed and cannot be used, "
                "so the former ones are: {why}",
                name=name,
                why=str(error),
            )
            return
        self._last = None
        self.log.info("the TLS files of destination {name} were read again", name=name)

    def _look(self) -> _State:
        """
        Return the state of the files, by which a change can be seen.
        """
        own = self._settings
        found: list[tuple[object, ...]] = []
        for path in (own.tlsCa, own.tlsCertificate, own.tlsKey):
            try:
                state = os.stat(path)
                found.append((path, state.st_ino, state.st_size, state.st_mtime_ns))
            except OSError as error:
                found.append((path, error.errno))
        return tuple(found)

    def _make(self) -> SSL.Context:
        """
        Make the context of all connections.

        @raise InvalidSetting: A file cannot be used.
        """
        own = self._settings
        files = (own.tlsCa, own.tlsCertificate, own.tlsKey)
        return _contextOf(*files, own.tlsVerify, own.tlsAlpn, self._seen)


@lru_cache(maxsize=CONTEXTS)
def _contextOf(
    ca: str,
    certificate: str,
    key: str,
    verify: bool,
    alpn: tuple[str, ...],
    state: _State,
) -> SSL.Context:
    """
    Make a context. All destinations with the same settings have the same: reading the
    authorities of the system takes some 30 ms.

    @param state: The state of the files.
    @raise InvalidSetting: A file cannot be used.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    if verify:
        context.set_verify(SSL.VERIFY_PEER, _verify)
    else:
        context.set_verify(SSL.VERIFY_NONE)
    if alpn:
        context.set_alpn_protos([each.encode("ascii") for each in alpn])
    if key and not certificate:
        raise InvalidSetting(
            f"tlsKey: {quoted(key)} is the key of no certificate: give tls-certificate "
            "too"
        )
    try:
        if ca:
            readCertificates(ca)  # its message is better than OpenSSL's
            context.load_verify_locations(ca)
        elif verify:
            context.set_default_verify_paths()
        if certificate:
            _show(context, key or certificate, certificate)
    except SSL.Error as error:
        reasons = ", ".join(str(each[-1]) for each in error.args[0])
        raise InvalidSetting(
            f"OpenSSL does not take the destination's certificates: {reasons}"
        ) from None
    return context


def _show(context: SSL.Context, key: str, certificate: str) -> None:
    """
    Have a context show a certificate.
    """
    identity = readIdentity(key, certificate, None)
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.key)
    for each in identity.chain:
        context.add_extra_chain_cert(each)


class TlsAttempt:
    """
    One connection over TLS that is to be made.

    @ivar fault: What is wrong with the destination's certificate, or empty.
    """

    def __init__(self, client: TlsClient) -> None:
        self.client = client
        self.fault = ""

    def connection(self) -> SSL.Connection:
        """
        Make the balancer's end of the connection.
        """
        return self.client.connection(self)

    def verify(self, found: Any, number: int, depth: int, right: int) -> bool:
        """
        Called for each certificate of the chain, the destination's own last.

        @param number: The number of what is wrong.
        @param depth: How many certificates lie between this one and the destination's
            own.
        @param right: Whether OpenSSL finds nothing wrong with it.
        """
        if not right:
            whose = "the certificate of an issuer: " if depth else ""
            self.fault = whose + certificateFault(number, found)
        elif not depth:
            self._checkName(found.to_cryptography())
        return not self.fault

    def _checkName(self, found: Certificate) -> None:
        """
        Check that the destination's own certificate is for the right name.
        """
        client = self.client
        try:
            if client.isAddress:
                verify_certificate_ip_address(found, client.name)
            else:
                verify_certificate_hostname(found, client.name)
        except (VerificationError, CertificateError):
            self.fault = nameFault(client.name, _namesOf(found))


def _verify(
    connection: SSL.Connection, found: Any, number: int, depth: int, right: int
) -> bool:
    """
    Called by OpenSSL for each certificate. It is set for the context, as pyOpenSSL
    leaves a reference cycle wherever it is set.
    """
    attempt: TlsAttempt = connection.get_app_data()
    return attempt.verify(found, number, depth, right)


def _namesOf(certificate: Certificate) -> list[str]:
    """
    List the names and the addresses that a certificate is for.
    """
    try:
        found = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except (ExtensionNotFound, ValueError):
        return []
    names: list[str] = found.value.get_values_for_type(DNSName)
    return names + [str(each) for each in found.value.get_values_for_type(IPAddress)]

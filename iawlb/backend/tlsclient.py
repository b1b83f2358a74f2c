"""
The balancer's end of TLS connections to a destination: what it shows, and what it
verifies.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

from cryptography.x509 import (
    Certificate,
    DNSName,
    IPAddress,
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

from iawlb.backend.filewatch import FileState, FileWatch
from iawlb.backend.hints import quoted
from iawlb.backend.openssl import contextFor, reasonsOf, show
from iawlb.backend.pem import namesOf, readCertificates, readIdentity
from iawlb.backend.tlsfaults import certificateFault, nameFault
from iawlb.errors import InvalidSetting
from iawlb.settings import DestinationSettings

CONTEXTS = 100
"""
The number of OpenSSL contexts that are kept for destinations with the same settings.
"""


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
        self.name = _nameOf(settings.tlsName or host)
        self.isAddress = isIPAddress(self.name) or isIPv6Address(self.name)
        self.verify = settings.tlsVerify
        if self.verify and not self.name:
            raise InvalidSetting(
                "tlsName: the address has no host whose name the certificate could be "
                "for: give tls-name, or tls-verify=no"
            )
        self._settings = settings
        paths = (settings.tlsCa, settings.tlsCertificate, settings.tlsKey)
        self._files = FileWatch(clock, lambda: paths)
        self._context = self._make()
        # The last connection, whose TLS session the next one may resume.
        self._last: SSL.Connection | None = None

    def attempt(self) -> TlsAttempt:
        """
        Begin a connection.
        """
        if self._files.changed():
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
        Read the files again, because one has changed.
        """
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

    def _make(self) -> SSL.Context:
        """
        Make the context of all connections.

        @raise InvalidSetting: A file cannot be used.
        """
        own = self._settings
        files = (own.tlsCa, own.tlsCertificate, own.tlsKey)
        return _contextOf(*files, own.tlsVerify, own.tlsAlpn, self._files.state)


def _nameOf(host: str) -> str:
    """
    Return a host as certificates have it: a name in ASCII, an address without the name
    of this machine's interface.
    """
    name = host.lower().removesuffix(".")
    if isIPv6Address(name):
        return name.partition("%")[0]
    return name if name.isascii() else name.encode("idna").decode("ascii")


@lru_cache(maxsize=CONTEXTS)
def _contextOf(
    ca: str,
    certificate: str,
    key: str,
    verify: bool,
    alpn: tuple[str, ...],
    state: FileState,
) -> SSL.Context:
    """
    Make a context. All destinations with the same settings have the same: reading the
    authorities of the system takes some 30 ms.

    @param state: The state of the files.
    @raise InvalidSetting: A file cannot be used.
    """
    context = contextFor(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
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
            show(context, readIdentity(key or certificate, certificate, None))
    except SSL.Error as error:
        reasons = ", ".join(reasonsOf(error))
        raise InvalidSetting(
            f"OpenSSL does not take the destination's certificates: {reasons}"
        ) from None
    return context


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
        whose = "the certificate of an issuer: " if depth else ""
        try:
            if not right:
                self.fault = whose + certificateFault(number, found)
            elif not depth:
                self._checkName(found.to_cryptography())
        except Exception:
            # What OpenSSL finds nothing wrong with may still be malformed, in any part.
            self.fault = f"{whose}it is malformed"
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
            addresses = map(str, namesOf(found, IPAddress))
            names = [*namesOf(found, DNSName), *addresses]
            self.fault = nameFault(client.name, names)


def _verify(
    connection: SSL.Connection, found: Any, number: int, depth: int, right: int
) -> bool:
    """
    Called by OpenSSL for each certificate. It is set for the context, as pyOpenSSL
    leaves a reference cycle wherever it is set.
    """
    attempt: TlsAttempt = connection.get_app_data()
    return attempt.verify(found, number, depth, right)

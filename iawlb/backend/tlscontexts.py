"""
The OpenSSL contexts of a TLS listener: one for each certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL

from iawlb.backend.openssl import contextFor, reasonsOf, show
from iawlb.backend.pem import Identity, readCertificates, readFile
from iawlb.compat import setGroups
from iawlb.errors import InvalidSetting

CIPHERS = ":".join(
    f"ECDHE-{kind}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for kind in ("ECDSA", "RSA")
)
"""
The ciphers of TLS 1.2: those that Mozilla's intermediate configuration has. Those of
TLS 1.3 are all safe.
"""

DH_CIPHERS = "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"
"""
More of them, if there are Diffie-Hellman parameters.
"""

GROUPS = ("X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384")
"""
The groups of the key exchange: the first of these that OpenSSL knows.
"""

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
"""
The versions of TLS, by the words for them.
"""

OFFERS = 20
"""
The largest number of application protocols of a client's that are remembered.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """
    What all contexts of a listener have in common.

    @ivar least: The lowest version of TLS.
    @ivar alpn: The application protocols that may be chosen, the first one first; with
        none, none is chosen.
    @ivar clientCa: The file of the authorities of client certificates, or L{None} if
        clients are asked for none.
    @ivar required: Whether a client without a certificate is refused.
    @ivar dh: A file of Diffie-Hellman parameters, if any.
    @ivar method: A method of OpenSSL's.
    """

    least: str = "1.2"
    alpn: tuple[bytes, ...] = ()
    clientCa: str | None = None
    required: bool = False
    dh: str | None = None
    method: int = SSL.TLS_METHOD

    def files(self) -> list[str]:
        """
        List the files.
        """
        return [each for each in (self.clientCa, self.dh) if each is not None]


class Contexts:
    """
    The contexts of a listener.

    @ivar identities: The certificates that clients are shown, the default one first.
    """

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._authorities: list[Certificate] = []
        self._made: dict[Identity, SSL.Context] = {}
        self._named: dict[str, SSL.Context] = {}
        self.identities: Sequence[Identity] = ()
        self.default: SSL.Context

    def use(self, identities: Sequence[Identity]) -> None:
        """
        Show these certificates from now on. The contexts of those that were used before
        are kept, since to make one takes a millisecond.

        @raise InvalidSetting: A file cannot be used, or OpenSSL does not accept a
            certificate or key. Then nothing has changed.
        """
        options = self._options
        if options.dh is not None:
            readFile(options.dh)  # its message is better than OpenSSL's
        authorities = []
        if options.clientCa is not None:
            authorities = readCertificates(options.clientCa)
        same = authorities == self._authorities and options.dh is None
        known = self._made if same else {}
        made = {
            each: known.get(each) or self._make(each, authorities)
            for each in identities
        }
        self.identities, self._authorities, self._made = identities, authorities, made
        self.default = made[identities[0]]
        # Of two certificates for one name, use the one that lasts longer.
        order = sorted(
            identities, key=lambda each: each.certificate.not_valid_after_utc
        )
        self._named = {name: made[each] for each in order for name in each.names()}

    def renewTickets(self) -> None:
        """
        Use new keys for the tickets by which clients resume TLS sessions. These are the
        keys of the default context, also for those who ask for another name.
        """
        first = self.identities[0]
        before = self.default
        self.default = self._made[first] = self._make(first, self._authorities)
        self._named = {
            name: self.default if context is before else context
            for name, context in self._named.items()
        }

    def find(self, name: str) -> SSL.Context | None:
        """
        Return the context for a host name, or L{None}. C{*.example.org} stands for any
        name right below C{example.org}.
        """
        wildcard = f"*.{name.partition('.')[2]}"
        return self._named.get(name) or self._named.get(wildcard)

    def _make(
        self, identity: Identity, authorities: Sequence[Certificate]
    ) -> SSL.Context:
        """
        Make the context of a certificate.

        @param authorities: Those of clients.
        """
        options = self._options
        context = contextFor(options.method)
        try:
            show(context, identity)
            ciphers = CIPHERS
            if options.dh is not None:
                context.load_tmp_dh(options.dh)
                ciphers += ":" + DH_CIPHERS
            context.set_cipher_list(ciphers.encode())
            if options.clientCa is not None:
                context.load_verify_locations(options.clientCa)
        except SSL.Error as error:
            reasons = ", ".join(reasonsOf(error))
            raise InvalidSetting(
                f"OpenSSL does not take the certificate or its key: {reasons}"
            ) from None
        for each in authorities:
            context.add_client_ca(each)
        if options.method == SSL.TLS_METHOD:
            context.set_min_proto_version(VERSIONS[options.least])
        # TLS sessions are resumed by tickets, which the clients keep.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"iawlb")
        setGroups(context, GROUPS)
        verify = SSL.VERIFY_NONE
        if authorities:
            verify = SSL.VERIFY_PEER
            if options.required:
                verify |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(verify)
        context.set_alpn_select_callback(self._chooseProtocol)
        context.set_tlsext_servername_callback(self._chooseCertificate)
        return context

    def _chooseCertificate(self, connection: SSL.Connection) -> None:
        """
        Called when a client has said which host name it wants.
        """
        name = (connection.get_servername() or b"").decode("ascii", "replace")
        context = self.find(name.lower().removesuffix("."))
        if context is not None:
            connection.set_context(context)

    def _chooseProtocol(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        """
        Called when a client offers application protocols (ALPN). If the listener has
        none, choose none: the balancer does not know which protocol the destinations
        speak. Twisted's own contexts answer with an empty name then, at which OpenSSL 4
        ends the handshake.
        """
        connection.set_app_data(offered[:OFFERS])
        if not self._options.alpn:
            return SSL.NO_OVERLAPPING_PROTOCOLS
        for each in self._options.alpn:
            if each in offered:
                return each
        # OpenSSL answers with the alert for this, as RFC 7301 asks.
        raise SSL.Error([("", "", "no application protocol in common")])

"""
The certificates of a TLS listener: read from files, and read again when a file changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    Name,
    SubjectAlternativeName,
    load_pem_x509_certificate,
)
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.ssl import CertificateOptions, DiffieHellmanParameters
from twisted.logger import Logger
from twisted.python.filepath import FilePath
from zope.interface import implementer

from iawlb.backend.hints import quoted
from iawlb.errors import InvalidSetting

LOOK_EVERY = 1.0
"""
The shortest time between two looks at whether the files have changed, in seconds. A
look happens when a client begins its TLS handshake.
"""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")


@dataclass(frozen=True, slots=True)
class Identity:
    """
    A server's certificate with its chain, and the private key.

    @ivar chain: The certificates between the server's and one that clients trust.
    """

    key: Any
    certificate: Certificate
    chain: list[Certificate]

    def names(self) -> list[str]:
        """
        List the host names that the certificate is for.
        """
        try:
            found = self.certificate.extensions.get_extension_for_class(
                SubjectAlternativeName
            )
        except (ExtensionNotFound, ValueError):
            return []
        return [name.lower() for name in found.value.get_values_for_type(DNSName)]


@dataclass(frozen=True, slots=True)
class Contexts:
    """
    The OpenSSL contexts of a listener.

    @ivar default: For clients that ask for no host name, or for one that is not known.
    @ivar named: The contexts by host name.
    """

    default: SSL.Context
    named: dict[str, SSL.Context]

    def find(self, name: str) -> SSL.Context | None:
        """
        Return the context for a host name, or L{None}. C{*.example.org} stands for any
        name right below C{example.org}.
        """
        wildcard = f"*.{name.partition('.')[2]}"
        return self.named.get(name) or self.named.get(wildcard)


def readFile(path: str) -> tuple[list[Certificate], list[Any]]:
    """
    Read a PEM file.

    @return: The certificates and the private keys in the file, in order.
    @raise InvalidSetting: The file cannot be read, or a certificate or key in it is
        broken.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InvalidSetting(f"cannot read {quoted(path)}: {error.strerror}") from None
    certificates, keys = [], []
    for match in _BLOCK.finditer(data):
        kind, block = match[1], match[0] + b"\n"
        try:
            if kind in _CERTIFICATES:
                certificate = load_pem_x509_certificate(block)
                certificate.public_key()  # raises if its kind is not known
                certificates.append(certificate)
            elif kind.endswith(b"PRIVATE KEY"):
                keys.append(load_pem_private_key(block, None))
        except TypeError:
            raise InvalidSetting(
                f"the private key in {quoted(path)} is encrypted: write it without "
                f"its passphrase, as openssl pkey -in {path} does"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise InvalidSetting(
                f"{quoted(path)} holds what is not a usable certificate or key: its "
                f"{kind.decode().lower()} cannot be read"
            ) from None
    return certificates, keys


def readIdentity(keyPath: str, certificatePath: str, chainPath: str | None) -> Identity:
    """
    Read a key and its certificate. More certificates in the certificate's file are its
    chain, as for nginx and HAProxy.

    @param chainPath: A file of more certificates for the chain, if any.
    @raise InvalidSetting: A file is missing or broken, or the key and the certificate
        do not belong together.
    """
    keys = readFile(keyPath)[1]
    certificates = readFile(certificatePath)[0]
    if not keys:
        raise InvalidSetting(f"there is no private key in {quoted(keyPath)}")
    if not certificates:
        raise InvalidSetting(f"there is no certificate in {quoted(certificatePath)}")
    own = [each for each in certificates if each.public_key() == keys[0].public_key()]
    if not own:
        raise InvalidSetting(
            f"the key in {quoted(keyPath)} and the certificate in "
            f"{quoted(certificatePath)} do not belong together"
        )
    chain = [each for each in certificates if each != own[0]]
    if chainPath is not None:
        more = readFile(chainPath)[0]
        if not more:
            raise InvalidSetting(f"there is no certificate in {quoted(chainPath)}")
        chain += more
    return Identity(keys[0], own[0], chain)


def pemFiles(folder: str) -> list[str]:
    """
    List the C{.pem} files in a folder and in those below it, in order.

    @raise InvalidSetting: The folder cannot be read.
    """

    def failed(error: OSError) -> None:
        why = f"cannot read {quoted(error.filename)}: {error.strerror}"
        raise InvalidSetting(why)

    return sorted(
        os.path.join(where, name)
        for where, _, names in os.walk(folder, onerror=failed)
        for name in names
        if name.endswith(".pem")
    )


def readFolder(folder: str) -> list[Identity]:
    """
    Read all keys in a folder's C{.pem} files, with their certificates and chains, which
    may be in any of the files.

    @raise InvalidSetting: There is no key with its certificate, or a file is broken.
    """
    paths = pemFiles(folder)
    if not paths:
        raise InvalidSetting(f"there is no .pem file in {quoted(folder)}")
    files = [readFile(path) for path in paths]
    certificates = [each for found, _ in files for each in found]
    byKey: dict[bytes, list[Certificate]] = {}
    for each in certificates:
        byKey.setdefault(_numberOf(each.public_key()), []).append(each)
    # A certificate that has issued itself is left out of chains: clients have it.
    issuers = {
        each.subject: each for each in certificates if each.subject != each.issuer
    }
    identities = []
    for key in (each for _, keys in files for each in keys):
        own = byKey.get(_numberOf(key.public_key()))
        if own is not None:
            # Of an old certificate and its renewal, use the one that lasts longer.
            newest = max(own, key=lambda each: each.not_valid_after_utc)
            identities.append(Identity(key, newest, _chainOf(newest, issuers)))
    if not identities:
        raise InvalidSetting(
            f"no .pem file in {quoted(folder)} holds a private key whose certificate "
            "is there too"
        )
    return identities


def _numberOf(key: Any) -> bytes:
    """
    Return a public key as bytes, by which keys can be compared.
    """
    written: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return written


def _chainOf(
    certificate: Certificate, issuers: dict[Name, Certificate]
) -> list[Certificate]:
    """
    Return the chain of a certificate, by following its issuers.
    """
    chain: list[Certificate] = []
    issuer = issuers.get(certificate.issuer)
    while issuer is not None and issuer not in (certificate, *chain):
        chain.append(issuer)
        issuer = issuers.get(issuer.issuer)
    return chain


def contextOf(identity: Identity, **options: Any) -> SSL.Context:
    """
    Make a context. It chooses no application protocol (ALPN) for a client that offers
    some, because the balancer does not know which protocol the destinations speak.
    Twisted's own context answers with an empty name, at which OpenSSL 4 ends the
    handshake.

    @param options: More options for Twisted's C{CertificateOptions}.
    @raise InvalidSetting: OpenSSL does not accept the certificate or the key.
    """
    # Twisted's annotations know only pyOpenSSL's own certificates, which are
    # deprecated.
    options |= {
        "privateKey": identity.key,
        "certificate": identity.certificate,
        "extraCertChain": identity.chain,
    }
    try:
        context = CertificateOptions(**options).getContext()
    except SSL.Error as error:
        reasons = ", ".join(each[-1] for each in error.args[0])
        raise InvalidSetting(
            f"OpenSSL does not take the certificate or its key: {reasons}"
        ) from None
    context.set_alpn_select_callback(lambda *_: SSL.NO_OVERLAPPING_PROTOCOLS)
    return context


def contextsOfFiles(
    keyPath: str,
    certificatePath: str,
    chainPath: str | None,
    dhPath: str | None,
    method: int | None,
) -> Contexts:
    """
    Make the context of an C{ssl:} listener.

    @param dhPath: A file of Diffie-Hellman parameters, if any.
    @raise InvalidSetting: A file cannot be used.
    """
    parameters = None
    if dhPath is not None:
        readFile(dhPath)  # its message is better than OpenSSL's
        parameters = DiffieHellmanParameters.fromFile(FilePath(dhPath))
    identity = readIdentity(keyPath, certificatePath, chainPath)
    return Contexts(contextOf(identity, dhParameters=parameters, method=method), {})


def contextsOfFolder(folder: str) -> Contexts:
    """
    Make the contexts of a C{tls:} listener. The default one is that of the first
    key, in the order of the files' names.

    @raise InvalidSetting: A file cannot be used.
    """
    identities = readFolder(folder)
    # Of two certificates for one name, use the one that lasts longer.
    order = sorted(identities, key=lambda each: each.certificate.not_valid_after_utc)
    made = [(each, contextOf(each)) for each in order]
    named = {name: context for each, context in made for name in each.names()}
    default = next(context for each, context in made if each is identities[0])
    contexts = Contexts(default, named)

    def choose(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        context = contexts.find(name)
        if context is not None:
            connection.set_context(context)

    default.set_tlsext_servername_callback(choose)
    return contexts


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """
    Makes the server's end of TLS connections, with the certificates that are in the
    files now. If changed files cannot be used, the certificates read before stay in
    use.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        files: Callable[[], list[str]],
        make: Callable[[], Contexts],
    ) -> None:
        """
        @param name: What the certificates belong to, for the log.
        @param files: Lists the files.
        @param make: Reads the files.
        @raise InvalidSetting: The files cannot be used.
        """
        self._clock = clock
        self._name = name
        self._files = files
        self._make = make
        self._looked = clock.seconds()
        # Looked at before the files are read, so that a change in between is seen
        # later.
        self._seen = self._look()
        self._contexts = make()

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """
        Make a connection, for a client that begins its handshake.
        """
        now = self._clock.seconds()
        # A clock that was set back must not stop the looks.
        if not 0 <= now - self._looked < LOOK_EVERY:
            self._looked = now
            self._renew()
        return SSL.Connection(self._contexts.default, None)

    def _renew(self) -> None:
        """
        Read the files again if one has changed.
        """
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._contexts = self._make()
        except InvalidSetting as error:
            self.log.error(
                "the certificates of {name} have changed and cannot be used, so the "
                "former ones are: {why}",
                name=self._name,
                why=str(error),
            )
        else:
            self.log.info("the certificates of {name} were read again", name=self._name)

    def _look(self) -> list[tuple[object, ...]]:
        """
        Return the state of the files, by which a change can be seen.
        """
        found: list[tuple[object, ...]] = []
        try:
            for path in self._files():
                state = os.stat(path)
                found.append((path, state.st_ino, state.st_size, state.st_mtime_ns))
        except (OSError, InvalidSetting) as error:
            # A file is missing. The files before it, and the error, are a state too.
            found.append((str(error),))
        return found

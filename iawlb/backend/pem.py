"""
Certificates and keys in PEM files: of one server, and of a folder.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Protocol

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

from iawlb.backend.hints import quoted
from iawlb.errors import InvalidSetting

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_BEGUN = re.compile(rb"-----BEGIN [A-Z0-9 ]*(CERTIFICATE|PRIVATE KEY)-----")
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")


LARGEST = 4 * 1024 * 1024
"""
The most bytes that a PEM file may hold.
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """
    A server's certificate with its chain, and the private key.

    @ivar chain: The certificates between the server's and one that clients trust.
    """

    key: Any = field(compare=False)  # belongs to the certificate
    certificate: Certificate
    chain: tuple[Certificate, ...]

    def names(self) -> list[str]:
        """
        List the host names that the certificate is for.
        """
        return [name.lower() for name in namesOf(self.certificate, DNSName)]


def namesOf(certificate: Certificate, kind: type[Any]) -> list[Any]:
    """
    List the names of one kind that a certificate is for.

    @param kind: C{DNSName} or C{IPAddress}.
    """
    try:
        found = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except (ExtensionNotFound, ValueError):
        return []
    return list(found.value.get_values_for_type(kind))


def _withoutWaiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def readFile(path: str) -> tuple[list[Certificate], list[Any]]:
    """
    Read a PEM file.

    @return: The certificates and the private keys in the file, in order.
    @raise InvalidSetting: The file cannot be read or is empty, or a certificate or key
        in it is broken or cut off.
    """
    try:
        # A pipe would be waited for.
        with open(path, "rb", opener=_withoutWaiting) as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InvalidSetting(f"cannot read {quoted(path)}: {error.strerror}") from None
    if data is None or len(data) > LARGEST:
        raise InvalidSetting(
            f"{quoted(path)} is no file of certificates: it holds more than "
            f"{LARGEST >> 20} MiB, or is a pipe"
        )
    # A disk that is full, or a program that has just begun to write, leaves these. In
    # a folder they would go unseen, and their names be without a certificate.
    if not data:
        raise InvalidSetting(f"{quoted(path)} is empty")
    if _BEGUN.search(_BLOCK.sub(b"", data)):
        raise InvalidSetting(
            f"{quoted(path)} is cut off: a certificate or key in it has no end"
        )
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


def readCertificates(path: str) -> list[Certificate]:
    """
    Read the certificates in a PEM file.

    @raise InvalidSetting: The file cannot be read, or holds no certificate.
    """
    certificates = readFile(path)[0]
    if not certificates:
        raise InvalidSetting(f"there is no certificate in {quoted(path)}")
    return certificates


def readIdentity(keyPath: str, certificatePath: str, chainPath: str | None) -> Identity:
    """
    Read a key and its certificate. More certificates in the certificate's file are its
    chain, as for nginx and HAProxy.

    @param chainPath: A file of more certificates for the chain, if any.
    @raise InvalidSetting: A file is missing or broken, or the key and the certificate
        do not belong together.
    """
    keys = readFile(keyPath)[1]
    if not keys:
        raise InvalidSetting(f"there is no private key in {quoted(keyPath)}")
    certificates = readCertificates(certificatePath)
    own = [each for each in certificates if each.public_key() == keys[0].public_key()]
    if not own:
        raise InvalidSetting(
            f"the key in {quoted(keyPath)} and the certificate in "
            f"{quoted(certificatePath)} do not belong together"
        )
    chain = [each for each in certificates if each != own[0]]
    if chainPath is not None:
        chain += readCertificates(chainPath)
    return Identity(keys[0], own[0], tuple(chain))


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
) -> tuple[Certificate, ...]:
    """
    Return the chain of a certificate, by following its issuers.
    """
    chain: list[Certificate] = []
    issuer = issuers.get(certificate.issuer)
    while issuer is not None and issuer not in (certificate, *chain):
        chain.append(issuer)
        issuer = issuers.get(issuer.issuer)
    return tuple(chain)


class Source(Protocol):
    """
    Where the certificates of a server are.
    """

    def files(self) -> list[str]:
        """
        List the files.

        @raise InvalidSetting: A folder cannot be read.
        """

    def read(self) -> list[Identity]:
        """
        Read the files. The first certificate is the default of the server.

        @raise InvalidSetting: A file cannot be used.
        """


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A certificate and its key, in two files or in one.

    @ivar chain: A file of more certificates for the chain, if any.
    """

    key: str
    certificate: str
    chain: str | None = None

    def files(self) -> list[str]:
        """
        List the files.
        """
        found = [self.key, self.certificate]
        return found if self.chain is None else [*found, self.chain]

    def read(self) -> list[Identity]:
        """
        Read the files.
        """
        return [readIdentity(self.key, self.certificate, self.chain)]


@dataclass(frozen=True, slots=True)
class Folder:
    """
    A folder of keys and certificates.
    """

    path: str

    def files(self) -> list[str]:
        """
        List the files.
        """
        return pemFiles(self.path)

    def read(self) -> list[Identity]:
        """
        Read the files.
        """
        return readFolder(self.path)

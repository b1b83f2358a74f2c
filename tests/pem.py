"""
Certificates for tests, and TLS handshakes in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from OpenSSL import SSL

from iawlb.compat import setGroups


class Issued:
    """
    A key and its certificate.
    """

    def __init__(
        self,
        name: str,
        by: Issued | None = None,
        hosts: Sequence[str] = (),
        days: float = 2,
        key: Any = None,
        authority: bool = False,
        addresses: Sequence[str] = (),
        kind: x509.ObjectIdentifier = x509.NameOID.COMMON_NAME,
        rawNames: bytes = b"",
    ) -> None:
        """
        @param by: The issuer; by default the certificate issues itself.
        @param hosts: The host names that the certificate is for.
        @param key: An existing key, for a renewal.
        @param addresses: The IP addresses that the certificate is for.
        @param kind: The kind of name that the subject has.
        @param rawNames: In place of hosts and addresses, the bytes of the extension
            that holds them, which may be malformed.
        """
        self.name = x509.Name([x509.NameAttribute(kind, name)])
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        issuer = by or self
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    issuer.key.public_key()
                ),
                False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=authority,
                    crl_sign=authority,
                    encipher_only=False,
                    decipher_only=False,
                ),
                True,
            )
        )
        if hosts or addresses:
            names: list[x509.GeneralName] = [x509.DNSName(each) for each in hosts]
            names += [x509.IPAddress(ip_address(each)) for each in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        elif rawNames:
            oid = x509.SubjectAlternativeName.oid
            builder = builder.add_extension(
                x509.UnrecognizedExtension(oid, rawNames), False
            )
        self.certificate = builder.sign(issuer.key, SHA256())

    @property
    def pem(self) -> bytes:
        """
        The certificate.
        """
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def keyPem(self) -> bytes:
        """
        The key.
        """
        key: bytes = self.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        return key

    @property
    def lockedPem(self) -> bytes:
        """
        The key, with a passphrase.
        """
        key: bytes = self.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        return key


class Chain:
    """
    A root certificate, an authority that the root has issued, and a certificate for
    C{localhost} that the authority has issued. Clients know the root only.
    """

    def __init__(self) -> None:
        self.root = Issued("root", authority=True)
        self.middle = Issued("middle", self.root, authority=True)
        self.leaf = Issued("leaf", self.middle, ["localhost"])


def shown(
    server: SSL.Connection,
    name: str | None = None,
    alpn: Sequence[bytes] = (),
    version: int | None = None,
    client: Issued | None = None,
    groups: str | None = None,
) -> tuple[list[x509.Certificate], bytes]:
    """
    Play a client's handshake.

    @param server: The server's end.
    @param name: The name that the client asks for.
    @param alpn: The application protocols that it offers.
    @param version: The only version of TLS that it speaks, if not all.
    @param client: Its certificate, if it has one.
    @param groups: The only groups of the key exchange that it knows, if not all.
    @return: The certificates that it is shown, and the protocol that is chosen.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    if version is not None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if groups is not None:
        setGroups(context, ["unknown", groups])
    if client is not None:
        context.use_certificate(client.certificate)
        context.use_privatekey(client.key)
    end = SSL.Connection(context, None)
    end.set_connect_state()
    server.set_accept_state()
    if name is not None:
        end.set_tlsext_host_name(name.encode())
    if alpn:
        end.set_alpn_protos(list(alpn))
    ends = [end, server]
    for _ in range(8):
        sending, receiving = ends
        try:
            sending.do_handshake()
        except SSL.WantReadError:
            pass
        try:
            receiving.bio_write(sending.bio_read(1 << 16))
        except SSL.WantReadError:
            pass
        ends.reverse()
    chain = end.get_peer_cert_chain(as_cryptography=True)
    return chain or [], end.get_alpn_proto_negotiated()

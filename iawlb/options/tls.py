"""
The settings about TLS.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.listvalidators import listOf
from iawlb.setting import Validated, setting
from iawlb.tlsvalidators import hostName, yesOrNo
from iawlb.validators import filePath, flag, givenPath, oneOf, protocolName

MOST_FILES = 1000
"""
The largest number of files of certificates of a listener, folders counted as one.
"""

MOST_PROTOCOLS = 20
"""
The largest number of application protocols.
"""

TO_DESTINATIONS = "TLS to destinations"


@dataclass(frozen=True, kw_only=True)
class DestinationTls(Validated):
    """
    Of a destination.
    """

    __slots__ = ()

    tls: bool = setting(
        "no",
        flag,
        "",
        TO_DESTINATIONS,
        "speak TLS with destinations",
    )
    tlsCa: str = setting(
        "",
        filePath,
        "FILE",
        TO_DESTINATIONS,
        "certificates of the authorities that destinations' certificates are verified "
        "with; without it, those of the system",
    )
    tlsName: str = setting(
        "",
        hostName,
        "NAME",
        TO_DESTINATIONS,
        "name that is asked for (SNI) and that the certificate has to be for; without "
        "it, the host of the destination's address",
    )
    tlsVerify: bool = setting(
        "yes",
        yesOrNo,
        "WORD",
        TO_DESTINATIONS,
        "whether destinations' certificates are verified: yes or no",
    )
    tlsCertificate: str = setting(
        "",
        filePath,
        "FILE",
        TO_DESTINATIONS,
        "certificate that the balancer shows to destinations, with its chain",
    )
    tlsKey: str = setting(
        "",
        filePath,
        "FILE",
        TO_DESTINATIONS,
        "key of that certificate; without it, it is in the certificate's file",
    )
    tlsAlpn: tuple[str, ...] = setting(
        "",
        listOf(protocolName, MOST_PROTOCOLS, "h2"),
        "WORDS",
        TO_DESTINATIONS,
        "application protocols that are offered to destinations (ALPN), such as "
        "h2,http/1.1",
    )


@dataclass(frozen=True, kw_only=True)
class PoolTls(DestinationTls):
    """
    Of a pool: what all its destinations have that do not say their own.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class ListenerTls(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

    certificate: tuple[str, ...] = setting(
        "",
        listOf(givenPath, MOST_FILES, "/etc/ssl/web.pem"),
        "PATHS",
        "",
        "files of TLS certificates, each with its chain and its key, or folders of "
        "such files; a client is shown the one for the name that it asks for, else "
        "the first",
    )
    certificateKey: tuple[str, ...] = setting(
        "",
        listOf(givenPath, MOST_FILES, "/etc/ssl/web.key"),
        "PATHS",
        "",
        "files of the keys, one for each file of a certificate, if they are not in "
        "the same files",
    )
    clientCa: str = setting(
        "",
        filePath,
        "PATH",
        "",
        "file of the authorities whose certificates clients may have",
    )
    clientCertificate: str = setting(
        "none",
        oneOf("none", "asked", "required"),
        "WORD",
        "",
        "whether clients are asked for a certificate: none; asked, a client may have "
        "none; required. One that client-ca does not vouch for is refused",
    )
    tlsMin: str = setting(
        "1.2",
        oneOf("1.2", "1.3"),
        "VERSION",
        "",
        "lowest version of TLS",
    )
    alpn: tuple[str, ...] = setting(
        "",
        listOf(protocolName, MOST_PROTOCOLS, "h2"),
        "WORDS",
        "",
        "application protocols that the destinations speak, the best first: a client "
        "that offers none of them (ALPN) is refused; without this none is chosen",
    )

"""
The settings about TLS.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated, setting
from iawlb.validators import filePath, givenPath, listOf, oneOf, protocolName

MOST_FILES = 1000
"""
The largest number of files of certificates of a listener, folders counted as one.
"""

MOST_PROTOCOLS = 20
"""
The largest number of application protocols.
"""


@dataclass(frozen=True, kw_only=True)
class PoolTls(Validated):
    """
    Of a pool.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class DestinationTls(Validated):
    """
    Of a destination.
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

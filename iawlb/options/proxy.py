"""
The settings about the PROXY protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.proxyvalidators import tlvWords, trusted
from iawlb.setting import Validated, setting
from iawlb.validators import duration, oneOf

PROXYING = "The PROXY protocol, which carries the client's address"

_VERSION = oneOf("off", "v1", "v2")


@dataclass(frozen=True, kw_only=True)
class PoolProxy(Validated):
    """
    Of a pool.
    """

    __slots__ = ()

    acceptProxy: tuple[str, ...] = setting(
        "",
        trusted,
        "NETWORKS",
        PROXYING,
        "clients of these networks, with commas, begin with such a header, which is "
        "read and taken off; unix is those of Unix sockets, and all is everybody",
    )
    proxyTimeout: float = setting(
        "5s",
        duration,
        "TIME",
        PROXYING,
        "longest time until such a header has come",
    )
    sendProxy: str = setting(
        "off",
        _VERSION,
        "WORD",
        PROXYING,
        "begin each connection to a destination with a header that names the client: "
        "v1, a line of text; v2, in binary; off, without one",
    )
    proxyTlvs: tuple[str, ...] = setting(
        "",
        tlvWords,
        "WORDS",
        PROXYING,
        "what a header of v2 says besides, as far as it is known, with commas: "
        "unique-id, authority, alpn, ssl, crc32c",
    )


@dataclass(frozen=True, kw_only=True)
class DestinationProxy(Validated):
    """
    Of a destination.
    """

    __slots__ = ()

    sendProxy: str = setting(
        "off",
        _VERSION,
        "WORD",
        "",
        "the header of the PROXY protocol that it gets, as --send-proxy",
    )
    proxyTlvs: tuple[str, ...] = setting(
        "", tlvWords, "WORDS", "", "what that header says besides, as --proxy-tlvs"
    )


@dataclass(frozen=True, kw_only=True)
class ListenerProxy(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

    acceptProxy: tuple[str, ...] = setting(
        "",
        trusted,
        "NETWORKS",
        "",
        "which clients begin with a header of the PROXY protocol, as --accept-proxy",
    )
    proxyTimeout: float = setting(
        "5s", duration, "TIME", "", "longest time until such a header has come"
    )

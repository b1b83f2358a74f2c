"""
The settings about the choice of a pool by what a client asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.listvalidators import listOf
from iawlb.setting import Validated, setting
from iawlb.tlsvalidators import hostPattern, poolOrNone
from iawlb.validators import protocolName

ROUTING = "Clients of several pools at one listener"

MOST_NAMES = 1000
"""
The largest number of host names of a pool.
"""

MOST_PROTOCOLS = 20
"""
The largest number of application protocols of a pool.
"""


@dataclass(frozen=True, kw_only=True)
class PoolRouting(Validated):
    """
    Of a pool.
    """

    __slots__ = ()

    through: str = setting(
        "",
        poolOrNone,
        "POOL",
        ROUTING,
        "pool through whose listeners clients come here, those that server-names and "
        "protocols name",
    )
    serverNames: tuple[str, ...] = setting(
        "",
        listOf(hostPattern, MOST_NAMES, "www.example.org"),
        "NAMES",
        ROUTING,
        "host names of the TLS clients that the pool takes (SNI); *.example.org is all "
        "names below example.org",
    )
    protocols: tuple[str, ...] = setting(
        "",
        listOf(protocolName, MOST_PROTOCOLS, "h2"),
        "WORDS",
        ROUTING,
        "application protocols of the TLS clients that the pool takes (ALPN)",
    )

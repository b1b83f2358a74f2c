"""
The settings about how fast, how long and how quiet a session may be.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated, setting
from iawlb.validators import duration, size

BOUNDS = "How fast, how long and how quiet a connection may be"


@dataclass(frozen=True, kw_only=True)
class PoolBounds(Validated):
    """
    Of a pool.
    """

    __slots__ = ()

    clientTimeout: float = setting(
        0,
        duration,
        "TIME",
        BOUNDS,
        "longest wait for a client's first byte, and for its next one after a "
        "destination's last",
    )
    bandwidthIn: int = setting(
        0,
        size(0, 10_240 * 1024 * 1024),
        "SIZE",
        BOUNDS,
        "most bytes per second from a client, for each connection; 0 is no limit",
    )
    bandwidthOut: int = setting(
        0,
        size(0, 10_240 * 1024 * 1024),
        "SIZE",
        BOUNDS,
        "most bytes per second to a client, for each connection; 0 is no limit",
    )


@dataclass(frozen=True, kw_only=True)
class DestinationBounds(Validated):
    """
    Of a destination.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class ListenerBounds(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

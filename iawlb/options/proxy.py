"""
The settings about the PROXY protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated


@dataclass(frozen=True, kw_only=True)
class PoolProxy(Validated):
    """
    Of a pool.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class DestinationProxy(Validated):
    """
    Of a destination.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class ListenerProxy(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

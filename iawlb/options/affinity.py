"""
The settings about which clients stay with which destination.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated


@dataclass(frozen=True, kw_only=True)
class PoolAffinity(Validated):
    """
    Of a pool.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class DestinationAffinity(Validated):
    """
    Of a destination.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class ListenerAffinity(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

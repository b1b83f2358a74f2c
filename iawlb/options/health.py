"""
The settings about checks, slow start and backups.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated


@dataclass(frozen=True, kw_only=True)
class PoolHealth(Validated):
    """
    Of a pool.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class DestinationHealth(Validated):
    """
    Of a destination.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class ListenerHealth(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

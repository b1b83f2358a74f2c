"""
The settings about the choice of a pool by what a client asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated


@dataclass(frozen=True, kw_only=True)
class PoolRouting(Validated):
    """
    Of a pool.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class DestinationRouting(Validated):
    """
    Of a destination.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class ListenerRouting(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

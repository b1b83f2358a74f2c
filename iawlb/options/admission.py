"""
The settings about who may come in, and how many at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.setting import Validated


@dataclass(frozen=True, kw_only=True)
class PoolAdmission(Validated):
    """
    Of a pool.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class DestinationAdmission(Validated):
    """
    Of a destination.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class ListenerAdmission(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

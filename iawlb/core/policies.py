"""
The policies: which of the waiting destinations gets the next session.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.least import Least
from iawlb.core.policy import (
    AnyMayServe,
    IMeasuringPolicy,
    IPolicy,
    IRankingPolicy,
    Policy,
)
from iawlb.core.quick import Quick
from iawlb.core.source import Source

__all__ = [
    "POLICIES",
    "Fifo",
    "First",
    "IMeasuringPolicy",
    "IPolicy",
    "IRankingPolicy",
    "Least",
    "Policy",
    "Quick",
    "Source",
]

_ORDER = attrgetter("order")


@implementer(IPolicy)
class Fifo(AnyMayServe):
    """
    The destination that has waited longest.
    """

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the destination that has waited longest.
        """
        return waiting[0]


@implementer(IPolicy)
class First(AnyMayServe):
    """
    The first destination in the order given, so that the last ones stay idle.
    """

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the first destination in the order given.
        """
        return min(waiting, key=_ORDER)


POLICIES: dict[str, type[Least | Fifo | First | Source | Quick]] = {
    "least": Least,
    "fifo": Fifo,
    "first": First,
    "source": Source,
    "quick": Quick,
}

"""
The policies: which of the waiting destinations gets the next session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from zope.interface import implementer

from iawlb.core.affinity import keyOf
from iawlb.core.destination import Destination
from iawlb.core.least import Least
from iawlb.core.policy import (
    AnyMayServe,
    ICountingPolicy,
    IMeasuringPolicy,
    IPolicy,
    IRankingPolicy,
    Policy,
)
from iawlb.core.quick import Quick
from iawlb.core.ratelimit import FailureLog
from iawlb.core.source import BoundedSource, Source
from iawlb.settings import Settings

__all__ = [
    "POLICIES",
    "BoundedSource",
    "Fifo",
    "First",
    "ICountingPolicy",
    "IMeasuringPolicy",
    "IPolicy",
    "IRankingPolicy",
    "Least",
    "Policy",
    "Quick",
    "Source",
    "policyOf",
    "sameChoice",
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


def policyOf(
    settings: Settings, seconds: Callable[[], float], failures: FailureLog
) -> Policy:
    """
    Make the policy that the settings of a pool ask for.

    @param seconds: Returns the time by which sessions are timed.
    @param failures: Logs what the user's own C{affinity} raises.
    """
    if settings.policy == "quick":
        return Quick(seconds)
    if settings.policy == "source":
        key = keyOf(settings.affinity, failures)
        factor = settings.loadFactor
        return BoundedSource(factor, key) if factor else Source(key)
    return POLICIES[settings.policy]()


def sameChoice(old: Settings, new: Settings) -> bool:
    """
    Return whether the policy that the settings ask for is the same as before.
    """

    def ask(settings: Settings) -> tuple[object, ...]:
        if settings.policy != "source":
            return (settings.policy,)
        return settings.policy, settings.affinity, settings.loadFactor

    return ask(old) == ask(new)

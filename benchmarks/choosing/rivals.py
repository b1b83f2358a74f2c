"""
The policies that are compared: iawlb's own, and those of other balancers, which choose
without knowing or using all that iawlb knows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.policies import IPolicy, Least, Quick
from iawlb.core.policy import AnyMayServe


@implementer(IPolicy)
class Random(AnyMayServe):
    """
    Any destination.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Draw one.
        """
        return self._draw.choice(waiting)


@implementer(IPolicy)
class TwoChoices(AnyMayServe):
    """
    The less loaded one of two.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Draw two.
        """
        one, two = self._draw.sample(list(waiting), 2)
        return one if one.load <= two.load else two


@implementer(IPolicy)
class RoundRobin(AnyMayServe):
    """
    One after the other.
    """

    def __init__(self) -> None:
        self._last = -1

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the next in order.
        """
        found = min(waiting, key=lambda each: (each.order <= self._last, each.order))
        self._last = found.order
        return found


Make = Callable[[Callable[[], float], random.Random], IPolicy]

RIVALS: dict[str, Make] = {
    "quick": lambda seconds, draw: Quick(seconds),
    "least": lambda seconds, draw: Least(),
    "two choices": lambda seconds, draw: TwoChoices(draw),
    "round robin": lambda seconds, draw: RoundRobin(),
    "random": lambda seconds, draw: Random(draw),
}
"""
How each policy is made, from a clock and a source of random numbers.
"""

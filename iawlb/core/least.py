"""
The policy that chooses the least loaded destination.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.policy import AnyMayServe, IPolicy

# Many destinations may wait, so these are read without a call of a Python function.
_LOAD = attrgetter("load")
_WEIGHT = attrgetter("weight")

ROUNDING = 1e-9
"""
The largest difference between two sums of fractions that count as equal.
"""

MOST_ROUNDS = 1e6
"""
The number of rounds after which the turns begin anew.
"""


@implementer(IPolicy)
class Least(AnyMayServe):
    """
    The destination with the smallest active / weight. Destinations with equal loads
    take turns: with equal weights the longest waiting is next, else each gets the share
    that its weight gives it, spread evenly.

    With one slot each this is Join-Idle-Queue; without a limit it is weighted least
    connections.

    The turns are those of WF2Q (Bennett and Zhang, 1996), in which no destination is
    ever more than one session from its share. Virtual time advances by 1 / (the sum of
    the weights) with each session. Each session that a destination gets moves its
    C{turn} on by 1 / weight. Of the destinations whose turn has come, the one whose
    following turn is the soonest is chosen: so a heavy destination neither waits for
    all the light ones nor is served before all of them.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the least loaded destination.
        """
        # min() returns the first of equals, and the longest waiting destination is
        # first.
        least = min(waiting, key=_LOAD)
        if least.weight == 1:
            return least  # the heaviest of equals comes first, so all weigh 1
        active, weight = least.active, least.weight
        equals = [e for e in waiting if e.active * weight == active * e.weight]
        total = sum(map(_WEIGHT, equals))
        if total == weight * len(equals):
            return least  # all of them weigh the same
        return self._nextInTurn(equals, total)

    def _nextInTurn(self, equals: Sequence[Destination], total: int) -> Destination:
        """
        Return the destination whose turn it is.

        @param equals: Destinations with equal loads.
        @param total: The sum of their weights.
        """
        now = self._now
        chosen, soonest = equals[0], math.inf
        for each in equals:
            share = 1 / each.weight
            turn = each.turn
            # A destination that is always waiting is never two turns from its share.
            # One that was away gets nothing for that time.
            if abs(turn - now) > 2 * share:
                turn = each.turn = now
            following = turn + share
            if turn > now + ROUNDING:
                following += MOST_ROUNDS  # last, unless no turn has come
            if following < soonest:
                chosen, soonest = each, following
        chosen.turn += 1 / chosen.weight
        # The time starts again after a million rounds, since large sums of fractions
        # lose digits.
        self._now = (now + 1 / total) % MOST_ROUNDS
        return chosen

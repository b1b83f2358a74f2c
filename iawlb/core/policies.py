"""
Policies: which of the waiting destinations gets the next session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import Protocol

from zope.interface import Attribute, Interface, implementer

from iawlb.core.destination import Destination
from iawlb.core.session import Session

# Many destinations may wait, so these are read without a call of a Python function.
_LOAD = attrgetter("load")
_ORDER = attrgetter("order")
_WEIGHT = attrgetter("weight")
_BITS = 2**64 - 1

ROUNDING = 1e-9
"""
The largest difference between two sums of fractions that count as equal.
"""

MOST_ROUNDS = 1e6
"""
The number of rounds after which the turns begin anew.
"""


class IPolicy(Interface):
    """
    The choice of the destination that gets the next session. A policy only decides; it
    does no I/O.
    """

    binds: bool = Attribute("Whether L{bind} ever returns a destination.")

    def bind(session: Session, available: Sequence[Destination]) -> Destination | None:
        """
        Return the one destination that alone may serve a session, if the policy binds
        the session to one.

        Called when the session enters the queue, and again when the available
        destinations have changed. While many sessions wait, asking about all of them
        takes several turns of the reactor. A destination's line counts for its part of
        the queue and no more, so it does not keep the clients of other destinations
        out.

        @param available: The destinations that are up, not paused and not draining, in
            the order given by the user; maybe none.
        @return: The destination, or L{None} if any may serve the session.
        """

    def choose(waiting: Sequence[Destination]) -> Destination:
        """
        Return the destination that gets a session that any may serve.

        @param waiting: The destinations whose worker waits now, the longest waiting
            first; never empty.
        @return: One of these destinations.
        """


class IRankingPolicy(IPolicy):
    """
    A policy that binds each session to the destination that ranks highest for it, where
    the rank of one destination does not depend on the others.

    So when a destination goes, the policy is asked about that destination's sessions
    alone. When one comes, C{bind} is asked to pick between the new destination and the
    one that the session is bound to.
    """


class Policy(Protocol):
    """
    The same as L{IPolicy}, for type checkers without a plugin for zope.interface.
    """

    @property
    def binds(self) -> bool:
        """
        Whether L{bind} ever returns a destination.
        """

    def bind(
        self, session: Session, available: Sequence[Destination], /
    ) -> Destination | None:
        """
        Return the one destination that alone may serve a session, or L{None}.
        """

    def choose(self, waiting: Sequence[Destination], /) -> Destination:
        """
        Return the destination that gets a session that any may serve.
        """


class _AnyMayServe:
    """
    A policy that binds no session to a destination.
    """

    binds = False

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Return L{None}: any destination may serve the session.
        """
        return None


@implementer(IPolicy)
class Least(_AnyMayServe):
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


@implementer(IPolicy)
class Fifo(_AnyMayServe):
    """
    The destination that has waited longest.
    """

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the destination that has waited longest.
        """
        return waiting[0]


@implementer(IPolicy)
class First(_AnyMayServe):
    """
    The first destination in the order given, so that the last ones stay idle.
    """

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the first destination in the order given.
        """
        return min(waiting, key=_ORDER)


@lru_cache(maxsize=4096)
def _hashed(text: str) -> int:
    """
    Return 64 bits of hash of a client's address or a destination's name, the same in
    every balancer.
    """
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(data, digest_size=8).digest())


@implementer(IRankingPolicy)
class Source(Fifo):
    """
    The same destination for the same client address.

    Weighted rendezvous hashing: each destination draws a number from the client's
    address and the destination's name, and the highest wins. Balancers that know the
    same names agree without talking. When a destination goes, only its own clients move
    to others.
    """

    binds = True

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Return the destination that draws the highest number.
        """
        # Each host has its own name for the network interface of a link-local address.
        client = _hashed(session.clientHost.partition("%")[0])
        best, highest = None, 0.0
        for each in available:
            # Two rounds of multiply and shift, as in the finalizer of MurmurHash3, cost
            # a fraction of what hashing both together would.
            drawn = (client ^ _hashed(each.name)) * 0xFF51AFD7ED558CCD & _BITS
            drawn = (drawn ^ drawn >> 32) * 0xC4CEB9FE1A85EC53 & _BITS
            # Strictly between 0 and 1, so that the logarithm exists.
            share = ((drawn >> 12) + 0.5) / 2.0**52
            score = -each.weight / math.log(share)
            if score > highest:
                best, highest = each, score
        return best


POLICIES: dict[str, type[Least | Fifo | First | Source]] = {
    "least": Least,
    "fifo": Fifo,
    "first": First,
    "source": Source,
}

"""
The policy that gives the same client the same destination.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b

from zope.interface import implementer, implementer_only

from iawlb.core.affinity import KeyOf, addressKey, boundedKey
from iawlb.core.destination import Destination
from iawlb.core.policy import ICountingPolicy, IPolicy, IRankingPolicy
from iawlb.core.session import Session

_BITS = 2**64 - 1


@lru_cache(maxsize=4096)
def _hashed(text: str) -> int:
    """
    Return 64 bits of hash of a client's key or a destination's name, the same in
    every balancer.
    """
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(data, digest_size=8).digest())


@implementer(IRankingPolicy, IPolicy)
class Source:
    """
    The same destination for the same key, by default the client's address.

    Weighted rendezvous hashing: each destination draws a number from the key and the
    destination's name, and the highest wins. Balancers that know the same names agree
    without talking. When a destination goes, only its own clients move to others.
    """

    binds = True
    _key: KeyOf = staticmethod(addressKey)

    def __init__(self, key: KeyOf = addressKey) -> None:
        """
        @param key: Returns the key of a session that has none of its own.
        """
        self._key = key

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Return the destination that draws the highest number.
        """
        info = session.info
        client = _hashed(
            self._key(session)
            if info is None or info.affinity is None
            else boundedKey(info.affinity)
        )
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

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the destination that has waited longest, for a session that is bound to
        none.
        """
        return waiting[0]


@implementer_only(ICountingPolicy, IPolicy)
class BoundedSource(Source):
    """
    The same, but a destination that has much more sessions than its share gets none of
    those for which it is the first choice; these go to the destination that draws the
    next highest number.

    This is consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
    2016). What counts are the sessions that a destination serves and those that wait
    for it alone.
    """

    waiting: Callable[[Destination], int] = staticmethod(lambda _: 0)

    def __init__(self, factor: float, key: KeyOf = addressKey) -> None:
        """
        @param factor: How much more than its share a destination may have; more than 1.
        @param key: Returns the key of a session that has none of its own.
        """
        super().__init__(key)
        self._factor = factor

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Return the destination that draws the highest number, of those that have room.
        """
        waiting = self.waiting
        own = None if session.line is None else session.line.destination
        loads = [each.active + waiting(each) - (each is own) for each in available]
        weights = sum(each.weight for each in available)
        # One of the loads is below its bound, since the bounds add up to more.
        bound = self._factor * (sum(loads) + 1)
        return super().bind(
            session,
            [
                each
                for each, load in zip(available, loads, strict=True)
                if load < math.ceil(bound * each.weight / weights)
            ],
        )

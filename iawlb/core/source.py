"""
The policy that gives the same client the same destination.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.policy import IPolicy, IRankingPolicy
from iawlb.core.session import Session

_BITS = 2**64 - 1


@lru_cache(maxsize=4096)
def _hashed(text: str) -> int:
    """
    Return 64 bits of hash of a client's address or a destination's name, the same in
    every balancer.
    """
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(data, digest_size=8).digest())


@implementer(IRankingPolicy, IPolicy)
class Source:
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

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        """
        Return the destination that has waited longest, for a session that is bound to
        none.
        """
        return waiting[0]

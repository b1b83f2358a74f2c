"""
The sources that clients come from, and how much of their limits each has used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain

from iawlb.core.fairline import SALT
from iawlb.core.session import Session

MOST_SOURCES = 65_536
"""
The number of sources that are counted one by one.
"""

SHARED = 256
"""
The number of counts that all further sources share: as many as one byte of a hash has
values.
"""


ROUNDING = 1e-6
"""
The seconds by which one may come too early, as sums of times are not exact.
"""


@dataclass(frozen=True, slots=True)
class Allowance:
    """
    So many in a time: a token bucket that holds C{number} and fills up within
    C{seconds}, as the generic cell rate algorithm keeps it. All that is stored is one
    time for each user, C{paid}: until then the user has paid for what it has used. It
    is never more than C{seconds} ahead.

    @ivar number: How many may come at once; 0 is no limit.
    @ivar seconds: The time after which as many may come at once again.
    """

    number: int
    seconds: float

    def due(self, paid: float, now: float) -> float:
        """
        Return when the next may come; it is now if that is not later than now.
        """
        if not self.number:
            return now
        return paid - self.seconds + self.seconds / self.number - ROUNDING

    def use(self, paid: float, now: float) -> float:
        """
        Use one.

        @return: The new value of C{paid}.
        """
        if not self.number:
            return paid
        return max(now, paid) + self.seconds / self.number

    def atMost(self, paid: float, now: float) -> float:
        """
        Return the value of C{paid} for one that has paid for another allowance before
        this one was set, maybe of a longer time.
        """
        return min(paid, now + self.seconds)


class Source:
    """
    What one source has used.

    @ivar key: The bytes that its addresses begin with.
    @ivar active: Its sessions that were let in and have not ended.
    @ivar delayed: Its sessions that wait to be let in.
    @ivar paid: See L{Allowance}.
    @ivar waiting: Those of the delayed ones that wait for this source's own limits, the
        oldest first.
    @ivar due: When the first of these is looked at, or L{None} if that is not known.
    """

    __slots__ = ("active", "delayed", "due", "key", "paid", "waiting")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.active = 0
        self.delayed = 0
        self.paid = 0.0
        self.waiting: OrderedDict[Session, None] = OrderedDict()
        self.due: float | None = None


class Sources:
    """
    All sources that matter: those that have sessions, and those that have used
    something of their allowance a short time ago.

    At most L{MOST_SOURCES} are counted one by one. When there are more, those are
    forgotten that have no session, the one first that has not come for the longest
    time: it gets its allowance back too early, while one that comes again and again is
    never forgotten. When all of them have sessions, further sources share L{SHARED}
    counts by a hash, so that they are limited together. So memory is bounded, and no
    number of sources switches the limits off.
    """

    def __init__(self) -> None:
        # Those that have sessions, and the others, the least recent first.
        self._busy: dict[bytes, Source] = {}
        self._resting: OrderedDict[bytes, Source] = OrderedDict()

    def __len__(self) -> int:
        return len(self._busy) + len(self._resting)

    def __iter__(self) -> Iterator[Source]:
        """
        Iterate over all sources that are counted.
        """
        return chain(self._busy.values(), self._resting.values())

    def take(self, key: bytes) -> Source:
        """
        Return a source of which a client has come. L{give} has to follow.
        """
        source = self._busy.get(key) or self._resting.pop(key, None)
        if source is None:
            if len(self) >= MOST_SOURCES:
                if self._resting:
                    self._resting.popitem(last=False)
                else:
                    key = blake2b(key, digest_size=1, key=SALT).digest()
                    source = self._busy.get(key)
            source = source or Source(key)
        self._busy[source.key] = source
        return source

    def give(self, source: Source, now: float) -> None:
        """
        Forget a source, if it has no sessions left, and nothing is used of its
        allowance.
        """
        if source.active or source.delayed:
            return
        if self._busy.pop(source.key, None) is not None and source.paid > now:
            self._resting[source.key] = source
        # Some of those that do not matter any more.
        for _ in range(2):
            first = next(iter(self._resting.values()), None)
            if first is None or first.paid > now:
                break
            del self._resting[first.key]

"""
The limits of how many sessions a pool and each source may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from iawlb.core.sources import Allowance
from iawlb.networkvalidators import rateOf
from iawlb.settings import Settings

PART = 16
"""
The part of all delayed clients that those of one source may be, and the number that
they may be in any case.
"""


class Over(Enum):
    """
    The limit that a client is over.
    """

    SOURCE_SESSIONS = "source-sessions", "its source has max-per-source sessions"
    SOURCE_RATE = "source-rate", "its source is over source-rate"
    SESSIONS = "sessions", "the pool has max-sessions sessions"
    RATE = "rate", "the pool is over session-rate"
    DELAYS = "delays", "too many clients are delayed"

    def __init__(self, word: str, text: str) -> None:
        self.word = word
        self.text = text


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The limits of a pool.

    @ivar sessions: The number of sessions at a time; 0 is no limit.
    @ivar rate: The number of new ones in a time.
    @ivar ofSource: The number of sessions of one source at a time; 0 is no limit.
    @ivar sourceRate: The number of new ones of one source in a time.
    @ivar mask: How many bits of an IPv4 address, and of an IPv6 address, make a source.
    @ivar delays: Whether a client beyond a limit waits; else it is refused.
    @ivar most: The number of clients that may be delayed.
    @ivar mostOfSource: The number of clients of one source that may be delayed.
    """

    sessions: int
    rate: Allowance
    ofSource: int
    sourceRate: Allowance
    mask: tuple[int, int]
    delays: bool
    most: int
    mostOfSource: int

    @classmethod
    def of(cls, settings: Settings, connections: int) -> Limits:
        """
        Return the limits that settings ask for. No more clients are delayed than can
        have their turn within the queue time-out, and than half of all connections.

        @param connections: The number of connections that there may be in all.
        """
        rate = Allowance(*rateOf(settings.sessionRate))
        sourceRate = Allowance(*rateOf(settings.sourceRate))
        timeout = settings.queueTimeout
        most = min(settings.queueSize, max(1, connections // 2))
        most = _within(rate, timeout, most)
        return cls(
            settings.maxSessions,
            rate,
            settings.maxPerSource,
            sourceRate,
            settings.sourceMask,
            settings.overLimit == "delay",
            most,
            _within(sourceRate, timeout, max(PART, most // PART)),
        )


def _within(rate: Allowance, seconds: float, most: int) -> int:
    """
    Return how many come within a time, but at most so many.
    """
    if not rate.number or not seconds:
        return most
    return max(1, min(most, int(rate.number * seconds / rate.seconds)))

"""
Which relays a pool uses, as its settings require.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from iawlb.core.session import IRelay
from iawlb.relay.fast import FastRelay
from iawlb.relay.limited import (
    Bandwidth,
    LimitedFastRelay,
    LimitedPortableRelay,
    MeasuredLimitedFastRelay,
    MeasuredLimitedPortableRelay,
)
from iawlb.relay.measured import MeasuredFastRelay, MeasuredPortableRelay
from iawlb.relay.portable import PortableRelay
from iawlb.relay.timed import (
    ReportingFastRelay,
    ReportingPortableRelay,
    TurnsFastRelay,
    TurnsPortableRelay,
)


class Reports(Enum):
    """
    What the relays report to the time-outs: nothing; that the client has asked, or a
    side has ended; or also that the destination has answered.
    """

    NOTHING = 0
    QUESTIONS = 1
    TURNS = 2


class Kinds(NamedTuple):
    """
    The relays of a pool. The more a relay does, the more it costs; so a pool that does
    not need something uses a relay that does not have it.

    @ivar fast: Makes the relay between two plain sockets.
    @ivar portable: Makes the relay between any two transports.
    """

    fast: Callable[..., IRelay]
    portable: Callable[..., IRelay]


_KINDS = {
    Reports.NOTHING: Kinds(FastRelay, PortableRelay),
    Reports.QUESTIONS: Kinds(ReportingFastRelay, ReportingPortableRelay),
    Reports.TURNS: Kinds(TurnsFastRelay, TurnsPortableRelay),
}


_MEASURED = Kinds(MeasuredFastRelay, MeasuredPortableRelay)


def kindsFor(reports: Reports, measures: bool, bandwidth: Bandwidth) -> Kinds:
    """
    Return the cheapest relays that do what is needed.

    @param measures: Whether the relays report the destination's first byte.
    @param bandwidth: The limit of each direction.
    """
    if bandwidth.fromClient or bandwidth.fromDestination:
        return _limited(measures, bandwidth)
    if measures:
        return _MEASURED
    return _KINDS[reports]


@lru_cache(64)
def _limited(measures: bool, bandwidth: Bandwidth) -> Kinds:
    """
    Make relays with a bandwidth limit.
    """
    kinds: tuple[type, type] = (LimitedFastRelay, LimitedPortableRelay)
    if measures:
        kinds = (MeasuredLimitedFastRelay, MeasuredLimitedPortableRelay)
    of = {"bandwidth": bandwidth}
    return Kinds(*(type(each.__name__, (each,), of) for each in kinds))

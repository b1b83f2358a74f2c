"""
What metrics are read from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from iawlb.balancer import Balancer
from iawlb.observe.looplag import LoopLag
from iawlb.observe.processfigures import ProcessReader
from iawlb.observe.statistics import Statistics


@dataclass(slots=True)
class LastReload:
    """
    How the last reload of the configuration has ended. The start counts as one.

    @ivar successful: Whether it was successful.
    @ivar succeededAt: When the last successful one was, in seconds since 1970.
    """

    successful: bool = True
    succeededAt: float = field(default_factory=time.time)


@dataclass(slots=True)
class Sources:
    """
    The objects that metrics are read from.

    @ivar reload: Returns how the last reload has ended.
    @ivar logDropped: Returns the number of lines of the access log that were dropped.
    @ivar scrapes: The number of requests for metrics that were answered.
    @ivar scrapesRefused: Those that were refused, as too many were being answered.
    """

    balancer: Balancer
    statistics: Statistics
    lag: LoopLag
    process: ProcessReader = field(default_factory=ProcessReader)
    reload: Callable[[], LastReload] = field(default_factory=lambda: _never())
    logDropped: Callable[[], int] = lambda: 0
    scrapes: int = 0
    scrapesRefused: int = 0


def _never() -> Callable[[], LastReload]:
    """
    Make the function that returns the reload at the start.
    """
    start = LastReload()
    return lambda: start

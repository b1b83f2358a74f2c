"""
The objects that the API reads and changes, and what it needs of each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import Any, Protocol

from iawlb.admin.eventring import EventRing
from iawlb.admin.views import Configured
from iawlb.balancer import Balancer
from iawlb.control.operations import Operations
from iawlb.observe.statistics import Statistics

Change = Callable[..., Awaitable[dict[str, Any]]]


class Process(Protocol):
    """
    The process around the balancer, as far as the API shows and changes it.
    """

    version: str
    started: float

    async def reload(self, diff: bool, by: str) -> dict[str, Any]:
        """
        Read the configuration again.
        """

    def lastReload(self) -> dict[str, Any]:
        """
        Return the result of the last reload.
        """

    def logState(self) -> dict[str, Any]:
        """
        Return what is known of the log.
        """

    def setLevel(self, level: str) -> None:
        """
        Set the level of log lines.
        """

    def loopLag(self) -> float:
        """
        Return by how much the reactor was late.
        """


@dataclass(frozen=True, slots=True)
class Parts:
    """
    The objects that the routes of the API read and change.
    """

    balancer: Balancer
    statistics: Statistics
    operations: Operations
    configuration: Configured
    process: Process
    ring: EventRing
    now: Callable[[], float] = time

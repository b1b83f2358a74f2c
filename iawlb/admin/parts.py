"""
What the API speaks for, and what it needs of each part.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from time import time
from typing import Any, Protocol

from iawlb.admin.eventring import EventRing
from iawlb.admin.problem import Problem
from iawlb.admin.views import Configured
from iawlb.balancer import Balancer
from iawlb.control.operations import Operations
from iawlb.core.destination import Destination
from iawlb.observe.statistics import Statistics
from iawlb.pool import Pool

Change = Callable[..., Awaitable[dict[str, Any]]]


class Process(Protocol):
    """
    What is known of the process around the balancer.
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
    What the API speaks for.
    """

    balancer: Balancer
    statistics: Statistics
    operations: Operations
    configuration: Configured
    process: Process
    ring: EventRing
    now: Callable[[], float] = time


def poolOf(balancer: Balancer, name: str) -> Pool:
    """
    Return the pool of a name.

    @raise Problem: There is none.
    """
    pool = balancer.pools.get(name)
    if pool is None:
        names = ", ".join(islice(balancer.pools, 10)) or "none"
        raise Problem(404, f"there is no pool {name[:64]!r}; there is {names}")
    return pool


def destinationOf(balancer: Balancer, pool: str, name: str) -> Destination:
    """
    Return the destination of a name.

    @raise Problem: There is none.
    """
    worker = poolOf(balancer, pool).workers.get(name)
    if worker is None:
        raise Problem(404, f"pool {pool} has no destination {name[:64]!r}")
    return worker.destination

"""
What the workers need of their pool.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from iawlb.core.events import Events
from iawlb.core.queue import ConnectionQueue
from iawlb.core.table import SessionTable
from iawlb.settings import Settings
from iawlb.workers.deadlines import Deadlines


class WorkerPool(Protocol):
    """
    What a worker, with its prober, needs of its pool.
    """

    clock: IReactorTime
    settings: Settings
    queue: ConnectionQueue
    table: SessionTable
    deadlines: Deadlines
    events: Events

    def destinationChanged(self) -> None:
        """
        A destination went down, came up, or is held off or no longer.
        """

    def inHurry(self) -> bool:
        """
        Say whether sessions wait and nothing is up.
        """

    def sessionPulled(self) -> None:
        """
        A session has left the queue.
        """

    def sessionsPutBack(self) -> None:
        """
        Sessions have come back into the queue.
        """

    def heldOffChanged(self, heldOff: bool) -> None:
        """
        A connect failed of what all connects of this machine are short of, or the
        worker's pause after it is over.
        """

"""
The interface through which workers use their pool.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from iawlb.backend.connector import DestinationConnector
from iawlb.core.destination import Destination
from iawlb.core.events import Events
from iawlb.core.queue import ConnectionQueue
from iawlb.core.table import SessionTable
from iawlb.health.making import Checks
from iawlb.programs.shared import Programs
from iawlb.relay.kinds import Kinds
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
    checks: Checks
    kinds: Kinds
    events: Events
    programs: Programs

    def connectorTo(self, address: str) -> DestinationConnector:
        """
        Make a connector to an address that is not a destination's.
        """

    def shareOf(self, destination: Destination) -> float:
        """
        Return how many sessions a destination would have by its share of those that
        there are.
        """

    def isLast(self, destination: Destination) -> bool:
        """
        Return whether no other destination takes sessions.
        """

    def sharesChanged(self) -> None:
        """
        Called when the weight of a destination has changed.
        """

    def destinationChanged(self) -> None:
        """
        Called when a destination went down, came up, is held off, or is no longer held
        off.
        """

    def inHurry(self) -> bool:
        """
        Return whether sessions wait while no destination is up.
        """

    def sessionPulled(self) -> None:
        """
        Called when a session has left the queue.
        """

    def wakeFailed(self, destination: Destination) -> None:
        """
        Called when a destination could not be started.
        """

    def sessionsPutBack(self) -> None:
        """
        Called when sessions have come back into the queue.
        """

    def heldOffChanged(self, heldOff: bool) -> None:
        """
        Called when a worker stops pulling because a connect failed for lack of
        something that all connects of this machine need, and when it pulls again.

        @param heldOff: Whether the worker has stopped.
        """

"""
The order in which waiting sessions are served: first come first served, fair to all
sources, or by priority.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iawlb.core.destination import Destination
from iawlb.core.fairline import FairLine
from iawlb.core.line import PLACE, Line
from iawlb.core.priorityline import PriorityLine
from iawlb.core.session import Session
from iawlb.settings import Settings

STEPS_OF_WAIT = 20
"""
How many steps of priority make up the queue time-out. There are ten priorities, so
nobody is passed for more than half of the longest wait.
"""

USUAL_WAIT = 30.0
"""
The wait that counts where the queue has no time-out, in seconds.
"""


@dataclass(frozen=True, slots=True)
class Discipline:
    """
    What the lines of a queue are made by.

    With priorities, each step of a listener's priority counts as C{step} seconds of
    waiting: a session is served before all those that entered the queue later, and
    before those of a higher priority that came so much later. So nobody waits for ever:
    a client of priority 0 is passed only by clients of priority 3 that come within the
    next three steps.

    @ivar fair: Whether the sources of one line are served in turns.
    @ivar mask: How many bits of an IPv4 address, and of an IPv6 address, make a source.
    @ivar step: The seconds that a step of priority counts; 0 if all clients have the
        same priority.
    """

    fair: bool = False
    mask: tuple[int, int] = (32, 56)
    step: float = 0.0

    @classmethod
    def of(cls, settings: Settings, priorities: bool) -> Discipline:
        """
        Return what settings ask for.

        @param priorities: Whether some clients have a priority.
        """
        wait = settings.queueTimeout or USUAL_WAIT
        return cls(
            settings.fairness,
            # Another mask alone moves no session.
            settings.sourceMask if settings.fairness else FIRST_COME.mask,
            wait / STEPS_OF_WAIT if priorities else 0.0,
        )

    def line(self, destination: Destination | None = None) -> Line:
        """
        Make a line.
        """
        if self.step:
            return PriorityLine(destination, self._ofOne, self.due)
        return self._ofOne(destination)

    def _ofOne(self, destination: Destination | None = None) -> Line:
        return FairLine(destination, self.mask) if self.fair else Line(destination)

    def due(self, session: Session) -> float:
        """
        Return when the turn of a session comes, compared with others.
        """
        return session.queued - session.origin.priority * self.step

    @property
    def order(self) -> Callable[[Session], Any]:
        """
        Returns the number by which the heads of two lines are compared, the smaller one
        first.
        """
        return self.due if self.step else PLACE


FIRST_COME = Discipline()
"""
First come, first served.
"""

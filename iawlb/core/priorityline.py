"""
A line in which the clients of some listeners go before those of others.
"""

from __future__ import annotations

from collections.abc import Callable

from iawlb.core.destination import Destination
from iawlb.core.line import PLACE, Line
from iawlb.core.session import Session


class PriorityLine(Line):
    """
    A line for each priority, all of which are the line of one destination, or of all.

    The next session is the one that C{due} says the smallest number for among those at
    the heads of these lines.
    """

    __slots__ = ("_classes", "_due", "_make")

    def __init__(
        self,
        destination: Destination | None,
        make: Callable[[], Line],
        due: Callable[[Session], float],
    ) -> None:
        """
        @param make: Makes the line of one priority.
        @param due: Returns when the turn of a session comes, compared with others.
        """
        super().__init__(destination)
        self._make = make
        self._due = due
        self._classes: dict[int, Line] = {}

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def members(self) -> list[Session]:
        """
        List the sessions in the line, the oldest first.
        """
        found = [each for line in self._classes.values() for each in line.members()]
        return sorted(found, key=PLACE)

    def add(self, session: Session) -> None:
        """
        Add a session to the line of its priority.
        """
        priority = session.origin.priority
        line = self._classes.get(priority)
        if line is None:
            line = self._classes[priority] = self._make()
        line.add(session)
        session.line = self

    def remove(self, session: Session) -> None:
        """
        Remove a session that is in the line.
        """
        self._classes[session.origin.priority].remove(session)

    def first(self) -> Session | None:
        """
        Return the session that is served next, without removing it, or L{None} if the
        line is empty.
        """
        heads = [
            head
            for line in self._classes.values()
            if (head := line.first()) is not None
        ]
        return min(heads, key=self._due, default=None)

    def oldest(self) -> Session | None:
        """
        Return the session that entered the queue first, or L{None} if the line is
        empty.
        """
        heads = [
            head
            for line in self._classes.values()
            if (head := line.oldest()) is not None
        ]
        return min(heads, key=PLACE, default=None)

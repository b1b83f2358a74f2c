"""
A line of waiting sessions, in the order in which they entered the queue.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from operator import attrgetter

from iawlb.core.destination import Destination
from iawlb.core.session import Session

PLACE = attrgetter("place")


class Line:
    """
    Sessions in the order of their places, which count the entries into the queue.

    Nearly every session is younger than those that stand here already, and is
    appended. One that comes back after a failed connect, or from another line, may
    belong further to the front: such sessions are kept beside, with a heap of their
    places. So no step moves the other sessions, however many they are.

    @ivar destination: The only one that may serve them, or L{None}.
    """

    __slots__ = ("_appended", "_beside", "_places", "destination")

    def __init__(self, destination: Destination | None = None) -> None:
        self.destination = destination
        self._appended: OrderedDict[Session, None] = OrderedDict()
        self._beside: dict[int, Session] = {}
        # A heap. Places whose session has left are dropped when they come up, or
        # when they are the half of all.
        self._places: list[int] = []

    def __len__(self) -> int:
        return len(self._appended) + len(self._beside)

    def members(self) -> list[Session]:
        """
        List those that stand here, the oldest first.
        """
        found = list(self._appended)
        if self._beside:
            found += self._beside.values()
            found.sort(key=PLACE)
        return found

    def add(self, session: Session) -> None:
        """
        Let a session stand at its place.
        """
        appended = self._appended
        if not appended or next(reversed(appended)).place < session.place:
            appended[session] = None
        else:
            self._beside[session.place] = session
            heappush(self._places, session.place)
        session.line = self

    def remove(self, session: Session) -> None:
        """
        A session that stands here leaves.
        """
        session.line = None
        beside = self._beside
        if beside.pop(session.place, None) is None:
            del self._appended[session]
        elif len(self._places) > 2 * len(beside):
            self._places = sorted(beside)

    def first(self) -> Session | None:
        """
        Return the oldest, which goes on standing here.
        """
        head = next(iter(self._appended), None)
        if not self._beside:
            return head
        places = self._places
        while places[0] not in self._beside:
            heappop(places)
        if head is None or places[0] < head.place:
            return self._beside[places[0]]
        return head

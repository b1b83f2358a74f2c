"""
A line of waiting sessions, in the order in which they entered the queue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, merge
from operator import attrgetter

from iawlb.core.destination import Destination
from iawlb.core.session import Session

PLACE = attrgetter("place")


class Line:
    """
    Sessions in the order of their places. A session's place is its number in the order
    of entry into the queue.

    Nearly every session that is added is younger than all those in the line, and is
    appended. A session that comes back after a failed connect, or from another line,
    may belong further to the front: such sessions are kept in a dictionary beside the
    ordered ones, with a heap of their places. So adding or removing a session never
    moves the others, however many there are.

    @ivar destination: The only destination that may serve these sessions, or L{None} if
        any may.
    """

    __slots__ = ("_appended", "_beside", "_places", "destination")

    def __init__(self, destination: Destination | None = None) -> None:
        self.destination = destination
        self._appended: OrderedDict[Session, None] = OrderedDict()
        self._beside: dict[int, Session] = {}
        # A heap. It may hold places of sessions that have left: these are dropped when
        # they come to the top, or when they are more than half of the heap.
        self._places: list[int] = []

    def __len__(self) -> int:
        return len(self._appended) + len(self._beside)

    def members(self) -> list[Session]:
        """
        List the sessions in the line, the oldest first.
        """
        found = list(self._appended)
        if self._beside:
            found += self._beside.values()
            found.sort(key=PLACE)
        return found

    def add(self, session: Session) -> None:
        """
        Add a session, at the position that its place gives it.
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
        Remove a session that is in the line.
        """
        session.line = None
        beside = self._beside
        if beside.pop(session.place, None) is None:
            del self._appended[session]
        elif len(self._places) > 2 * len(beside):
            self._places = sorted(beside)

    def oldest(self) -> Session | None:
        """
        Return the session that entered the queue first, or L{None} if the line is
        empty.
        """
        return self.first()

    def first(self) -> Session | None:
        """
        Return the session that is served next, which is the oldest one, without
        removing it, or L{None} if the line is empty.
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


def inOrder(lines: Iterable[Line]) -> Iterator[Session]:
    """
    Iterate over the sessions that are in the lines now, the oldest first.
    """
    return merge(*(each.members() for each in lines), key=PLACE)

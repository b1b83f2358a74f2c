"""
Calls functions when sessions have ended.
"""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.events import SESSION_ENDED, IObserver
from iawlb.core.session import Session


@implementer(IObserver)
class Ends:
    """
    An observer that calls functions for each of some sessions, when it has ended.

    @ivar calls: The functions of each session: one for each pool that counts it.
    """

    endsOnly = True

    def __init__(self) -> None:
        self.calls: dict[Session, tuple[Callable[[Session], None], ...]] = {}

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Call the functions of a session that has ended.
        """
        if event == SESSION_ENDED:
            for call in self.calls.pop(session, ()):
                call(session)

    def destinationChanged(self, destination: Destination, event: str) -> None:
        """
        Do nothing.
        """

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        """
        Do nothing.
        """

"""
The events of sessions, destinations and listeners, and the observers of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from twisted.logger import Logger
from zope.interface import Interface

from iawlb.core.destination import Destination
from iawlb.core.session import Session

SESSION_ACCEPTED = "accepted"
SESSION_QUEUED = "queued"
SESSION_PULLED = "pulled"
SESSION_CONNECTED = "connected"
SESSION_PUT_BACK = "put back"
SESSION_ENDED = "ended"

DESTINATION_ADDED = "added"
DESTINATION_DOWN = "down"
DESTINATION_UP = "up"
DESTINATION_PAUSED = "paused"
DESTINATION_RESUMED = "resumed"
DESTINATION_DRAINING = "draining"
DESTINATION_REMOVED = "removed"

LISTENER_LISTENING = "listening"
LISTENER_REFUSING = "refusing"
LISTENER_CLOSED = "closed"


class IObserver(Interface):
    """
    An object that is called at every step of sessions, destinations and listeners.

    A call must not block, must not change what it is given, and what it raises
    is logged and changes nothing.
    """

    def sessionChanged(session: Session, event: str) -> None:
        """
        A session took a step.

        @param event: One of the C{SESSION_} words above.
        """

    def destinationChanged(destination: Destination, event: str) -> None:
        """
        A destination changed.

        @param event: One of the C{DESTINATION_} words above.
        """

    def listenerChanged(name: str, address: str, event: str) -> None:
        """
        A listener changed.

        @param name: The listener's name.
        @param address: Where it listens.
        @param event: One of the C{LISTENER_} words above.
        """


class Observer(Protocol):
    """
    An L{IObserver}, for type checkers: these need not know zope.interface.
    """

    def sessionChanged(self, session: Session, event: str, /) -> None:
        """
        A session took a step.
        """

    def destinationChanged(self, destination: Destination, event: str, /) -> None:
        """
        A destination changed.
        """

    def listenerChanged(self, name: str, address: str, event: str, /) -> None:
        """
        A listener changed.
        """


class Events:
    """
    Tells each observer, and survives what they raise.

    @ivar everyStep: Whether an observer is to be told of every step of a session.
        One that has a true C{endsOnly} is content with C{SESSION_ENDED}; if all
        are, a session makes no calls for the others.
    """

    log = Logger()

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.observers = list(observers)
        self.everyStep = any(
            not getattr(each, "endsOnly", False) for each in self.observers
        )

    def session(self, session: Session, event: str) -> None:
        """
        Tell of a session's step.
        """
        for observer in self.observers:
            try:
                observer.sessionChanged(session, event)
            except Exception:
                self._raised(observer, event)

    def destination(self, destination: Destination, event: str) -> None:
        """
        Tell of a destination's change.
        """
        for observer in self.observers:
            try:
                observer.destinationChanged(destination, event)
            except Exception:
                self._raised(observer, event)

    def listener(self, name: str, address: str, event: str) -> None:
        """
        Tell of a listener's change.
        """
        for observer in self.observers:
            try:
                observer.listenerChanged(name, address, event)
            except Exception:
                self._raised(observer, event)

    def _raised(self, observer: Observer, event: str) -> None:
        self.log.failure(
            "observer {observer!r} raised on {event!r}", observer=observer, event=event
        )

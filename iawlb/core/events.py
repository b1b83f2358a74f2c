"""
The events of sessions, destinations and listeners, and the observers that receive them.
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
DESTINATION_WITHDRAWN = "withdrawn"
DESTINATION_RETURNED = "returned"
DESTINATION_STANDBY = "on standby"
DESTINATION_NEEDED = "needed"
DESTINATION_REMOVED = "removed"
DESTINATION_CHANGED = "changed"
DESTINATION_ASLEEP = "asleep"
DESTINATION_WAKING = "waking"
DESTINATION_AWAKE = "awake"

POOL_ADDED = "added"
POOL_PAUSED = "paused"
POOL_DRAINED = "drained"
POOL_RESUMED = "resumed"
POOL_STOPPED = "stopped"
POOL_CHANGED = "changed"
POOL_REMOVED = "removed"

LISTENER_LISTENING = "listening"
LISTENER_REFUSING = "refusing"
LISTENER_CLOSED = "closed"


class IObserver(Interface):
    """
    An object that is called at every step of sessions, destinations and listeners.

    A method must not block, and must not change its arguments. An exception that a
    method raises is logged, and has no other effect.
    """

    def sessionChanged(session: Session, event: str) -> None:
        """
        Called when a session has taken a step.

        @param event: One of the C{SESSION_} words above.
        """

    def destinationChanged(destination: Destination, event: str) -> None:
        """
        Called when a destination has changed.

        @param event: One of the C{DESTINATION_} words above.
        """

    def listenerChanged(name: str, address: str, event: str) -> None:
        """
        Called when a listener has changed.

        @param name: The listener's name.
        @param address: The address that the listener listens on.
        @param event: One of the C{LISTENER_} words above.
        """


class IPoolObserver(Interface):
    """
    An L{IObserver} that is called for changes of pools, too.
    """

    def poolChanged(pool: str, event: str, by: str) -> None:
        """
        Called when a pool has changed.

        @param pool: The pool's name.
        @param event: One of the C{POOL_} words above.
        @param by: The name of the person or program that has asked for the change;
            empty if it is not known.
        """


class Observer(Protocol):
    """
    The same as L{IObserver}, for type checkers without a plugin for zope.interface.
    """

    def sessionChanged(self, session: Session, event: str, /) -> None:
        """
        Called when a session has taken a step.
        """

    def destinationChanged(self, destination: Destination, event: str, /) -> None:
        """
        Called when a destination has changed.
        """

    def listenerChanged(self, name: str, address: str, event: str, /) -> None:
        """
        Called when a listener has changed.
        """


class Events:
    """
    The observers of a balancer. An exception that an observer raises is logged, and the
    other observers are still called.

    @ivar everyStep: Whether an observer wants every step of a session. An observer with
        a true C{endsOnly} wants C{SESSION_ENDED} alone; if all are such, the calls for
        the other steps are saved. An observer whose C{sessions} is false is not called
        for sessions at all.
    """

    log = Logger()

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.observers: list[Observer] = []
        self._quiet: list[Observer] = []
        self.everyStep = False
        for each in observers:
            self.add(each)

    def add(self, observer: Observer) -> None:
        """
        Call another observer from now on.
        """
        if getattr(observer, "sessions", True):
            self.observers.append(observer)
            self.everyStep |= not getattr(observer, "endsOnly", False)
        else:
            self._quiet.append(observer)

    def session(self, session: Session, event: str) -> None:
        """
        Call all observers after a session's step.
        """
        for observer in self.observers:
            try:
                observer.sessionChanged(session, event)
            except Exception:
                self._raised(observer, event)

    def destination(self, destination: Destination, event: str) -> None:
        """
        Call all observers after a destination's change.
        """
        for observer in (*self.observers, *self._quiet):
            try:
                observer.destinationChanged(destination, event)
            except Exception:
                self._raised(observer, event)

    def listener(self, name: str, address: str, event: str) -> None:
        """
        Call all observers after a listener's change.
        """
        for observer in (*self.observers, *self._quiet):
            try:
                observer.listenerChanged(name, address, event)
            except Exception:
                self._raised(observer, event)

    def pool(self, name: str, event: str, by: str) -> None:
        """
        Call the observers that know pools after a pool's change.
        """
        for observer in (*self.observers, *self._quiet):
            changed = getattr(observer, "poolChanged", None)
            if changed is None:
                continue
            try:
                changed(name, event, by)
            except Exception:
                self._raised(observer, event)

    def _raised(self, observer: Observer, event: str) -> None:
        self.log.failure(
            "observer {observer!r} raised on {event!r}", observer=observer, event=event
        )

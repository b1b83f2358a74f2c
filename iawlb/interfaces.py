"""
What the parts of iawlb promise each other, and the errors they raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from iawlb.destination import Destination
    from iawlb.session import Outcome, Session


class IawlbError(Exception):
    """
    The base of every error that iawlb raises on purpose.
    """


class InvalidSetting(IawlbError, ValueError):
    """
    A setting, an address or an argument is wrong; the message names the bad
    part and what would be right.
    """


class UnknownDestination(IawlbError, LookupError):
    """
    There is no destination of that name.
    """


class CannotListen(IawlbError):
    """
    A listener could not be opened; the message names it and says why.
    """


class IPolicy(Interface):
    """
    Which destination gets the next session. Decides only; does no I/O.
    """

    binds: bool = Attribute("Whether L{bind} ever returns a destination.")

    def bind(session: Session, available: Sequence[Destination]) -> Destination | None:
        """
        Say whether one destination alone may serve a session.

        Asked when the session enters the queue, and again whenever the
        destinations that are available change.

        @param available: The destinations that are up, not paused and not
            draining, in the order given by the user; maybe none.
        @return: That destination, or L{None} when any may serve it.
        """

    def choose(waiting: Sequence[Destination]) -> Destination:
        """
        Pick the destination that gets a session that any may serve.

        @param waiting: The destinations whose worker waits now, the longest
            waiting first; never empty.
        @return: One of them.
        """


class IObserver(Interface):
    """
    Someone who is told of every step of sessions, destinations and listeners.

    A call must not block, must not change what it is given, and what it raises
    is logged and changes nothing.
    """

    def sessionChanged(session: Session, event: str) -> None:
        """
        A session took a step.

        @param event: One of the C{SESSION_} words of L{iawlb.events}.
        """

    def destinationChanged(destination: Destination, event: str) -> None:
        """
        A destination changed.

        @param event: One of the C{DESTINATION_} words of L{iawlb.events}.
        """

    def listenerChanged(name: str, address: str, event: str) -> None:
        """
        A listener changed.

        @param name: The listener's name.
        @param address: Where it listens.
        @param event: One of the C{LISTENER_} words of L{iawlb.events}.
        """


class IRelay(Interface):
    """
    Two connections of one session and the bytes between them.
    """

    bytesIn: int = Attribute("Bytes passed from the client to the destination.")
    bytesOut: int = Attribute("Bytes passed from the destination to the client.")
    asked: bool = Attribute("Whether the last byte came from the client.")
    halfClosed: Outcome | None = Attribute(
        "L{None} until one side has ended its half or is gone; then what to call it "
        "if the other does not follow."
    )
    outcome: Outcome | None = Attribute("How it ends, once that is known.")

    def start() -> None:
        """
        Begin to pass bytes.
        """

    def progress() -> object:
        """
        Say how far the bytes have come: a value that differs from the last one
        when a byte was read or written in either direction, or a side ended,
        since.
        """

    def close(outcome: Outcome) -> None:
        """
        Close both connections, after what is still to be written.

        @param outcome: How the session is said to have ended.
        """

    def abort(outcome: Outcome) -> None:
        """
        Reset both connections at once.

        @param outcome: How the session is said to have ended.
        """

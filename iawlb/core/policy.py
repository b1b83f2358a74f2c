"""
The interfaces of policies, which choose the destination that gets the next session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from zope.interface import Attribute, Interface

from iawlb.core.destination import Destination
from iawlb.core.session import Session


class IPolicy(Interface):
    """
    The choice of the destination that gets the next session. A policy only decides; it
    does no I/O.
    """

    binds: bool = Attribute("Whether L{bind} ever returns a destination.")

    def bind(session: Session, available: Sequence[Destination]) -> Destination | None:
        """
        Return the one destination that alone may serve a session, if the policy binds
        the session to one.

        Called when the session enters the queue, and again when the available
        destinations have changed. While many sessions wait, asking about all of them
        takes several turns of the reactor. A destination's line counts for its part of
        the queue and no more, so it does not keep the clients of other destinations
        out.

        @param available: The destinations that are up, not paused and not draining, in
            the order given by the user; maybe none.
        @return: The destination, or L{None} if any may serve the session.
        """

    def choose(waiting: Sequence[Destination]) -> Destination:
        """
        Return the destination that gets a session that any may serve.

        @param waiting: The destinations whose worker waits now, the longest waiting
            first; never empty.
        @return: One of these destinations.
        """


class IRankingPolicy(IPolicy):
    """
    A policy that binds each session to the destination that ranks highest for it, where
    the rank of one destination does not depend on the others.

    So when a destination goes, the policy is asked about that destination's sessions
    alone. When one comes, C{bind} is asked to pick between the new destination and the
    one that the session is bound to.
    """


class ICountingPolicy(IPolicy):
    """
    A policy that binds by how many sessions each destination has.
    """

    waiting: Callable[[Destination], int] = Attribute(
        "A function that returns the number of sessions that wait for a destination "
        "alone. The queue that uses the policy sets it."
    )


class IMeasuringPolicy(IPolicy):
    """
    A policy that wants to know how long each destination takes to answer: while it is
    in use, the C{times} of each destination are kept.
    """


class Policy(Protocol):
    """
    The same as L{IPolicy}, for type checkers without a plugin for zope.interface.
    """

    @property
    def binds(self) -> bool:
        """
        Whether L{bind} ever returns a destination.
        """

    def bind(
        self, session: Session, available: Sequence[Destination], /
    ) -> Destination | None:
        """
        Return the one destination that alone may serve a session, or L{None}.
        """

    def choose(self, waiting: Sequence[Destination], /) -> Destination:
        """
        Return the destination that gets a session that any may serve.
        """


class AnyMayServe:
    """
    A policy that binds no session to a destination.
    """

    binds = False

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Return L{None}: any destination may serve the session.
        """
        return None

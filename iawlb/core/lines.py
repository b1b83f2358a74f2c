"""
The lines in which the sessions of a queue wait, and which session stands in which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from twisted.logger import Logger

from iawlb.core.destination import Destination
from iawlb.core.discipline import FIRST_COME, Discipline
from iawlb.core.line import PLACE, Line, inOrder
from iawlb.core.policy import (
    ICountingPolicy,
    IMeasuringPolicy,
    IRankingPolicy,
    Policy,
)
from iawlb.core.session import Session

SMALLEST_PART = 16
"""
The number of sessions that the line of one destination may hold in any case.
"""


class Lines:
    """
    The base of L{ConnectionQueue<iawlb.core.queue.ConnectionQueue>}: a line for the
    sessions that any destination may serve, one for each destination that the policy
    binds sessions to, and one for each destination that was chosen for a session.

    The policy binds anew when the available destinations have changed. What was chosen
    stays chosen: the session waits for the destination of that name, or for the one
    that takes its place, also while the destination is down or draining.

    @ivar policy: Binds sessions and chooses destinations.
    @ivar measures: Whether the policy wants to know how long destinations take to
        answer.
    @ivar bindable: The number of sessions that the lines of all destinations may hold
        together; each line may hold an equal part of it. L{None} is no limit.
    """

    log = Logger()

    def __init__(
        self,
        policy: Policy,
        available: Callable[[], Sequence[Destination]],
        bindable: int | None,
    ) -> None:
        """
        @param policy: See C{policy} above.
        @param available: Returns the destinations that sessions can be bound to.
        @param bindable: See C{bindable} above.
        """
        # Whether a session may have been chosen a destination. Set by L{heedChosen}.
        self._heeds = False
        self._chosen: dict[str, Line] = {}
        # Sessions that have waited since then at least are bound no more.
        self._spilled = -math.inf
        self._usePolicy(policy)
        self._available = available
        self.bindable = bindable
        self._discipline = FIRST_COME
        self._order = FIRST_COME.order
        self._unbound = self._discipline.line()
        # Used if the policy binds: the available destinations, and the line of each.
        self._known: Sequence[Destination] | None = None
        self._bound: dict[Destination, Line] = {}
        self._part = 0
        # Used until all sessions are bound anew: lines whose destination has gone,
        # destinations that have arrived, and the sessions to ask the policy about.
        self._orphaned: list[Line] = []
        self._arrived: tuple[Destination, ...] = ()
        self._toRebind: Iterator[Session] = iter(())
        self._count = 0

    def charged(self) -> int:
        """
        Count the waiting sessions, but those in each destination's line only up to its
        part.
        """
        if not self._sorts or self.bindable is None:
            return self._count
        own = (*self._bound.values(), *self._chosen.values())
        lines = sum(min(len(line), self._part) for line in own)
        return lines + len(self._unbound) + sum(map(len, self._orphaned))

    def waitingFor(self, destination: Destination) -> int:
        """
        Count the sessions that wait for a destination alone.
        """
        line = self._bound.get(destination)
        number = 0 if line is None else len(line)
        if self._chosen and (chosen := self._chosen.get(destination.name)):
            number += len(chosen)
        return number

    def oldest(self) -> Session | None:
        """
        Return the session that has waited longest, without removing it, or L{None}.
        """
        heads = [head for line in self._lines() if (head := line.oldest()) is not None]
        return min(heads, key=PLACE, default=None)

    def boundTo(self, destination: Destination | None) -> Iterator[Session]:
        """
        Iterate over the sessions that wait for a destination alone, or for any, the
        oldest first.
        """
        if destination is None:
            return inOrder((self._unbound, *self._orphaned))
        bound = self._bound.get(destination), self._chosen.get(destination.name)
        return inOrder([line for line in bound if line is not None])

    def chosenFor(self, destination: Destination) -> list[Session]:
        """
        List the waiting sessions that no other destination may serve.
        """
        line = self._chosen.get(destination.name)
        return [] if line is None else list(line.members())

    def unbound(self) -> int:
        """
        Count the sessions that wait for any destination.
        """
        return len(self._unbound) + sum(map(len, self._orphaned))

    def __iter__(self) -> Iterator[Session]:
        """
        Iterate over the waiting sessions, the oldest first.
        """
        return inOrder(self._lines())

    def _lines(self) -> Iterable[Line]:
        return (
            self._unbound,
            *self._bound.values(),
            *self._orphaned,
            *self._chosen.values(),
        )

    def _usePolicy(self, policy: Policy) -> None:
        self.policy = policy
        self._binds = policy.binds
        self._sorts = policy.binds or self._heeds
        if ICountingPolicy.providedBy(policy):
            policy.waiting = self.waitingFor
        self._ranks = IRankingPolicy.providedBy(policy)
        self.measures = IMeasuringPolicy.providedBy(policy)

    def setPolicy(self, policy: Policy) -> None:
        """
        Let another policy choose and bind from now on. L{rebindSome} then asks the
        policy about the sessions that wait.
        """
        self._usePolicy(policy)
        # Each line is one whose destination has gone, as far as this policy knows.
        for line in self._bound.values():
            line.destination = None
            self._orphaned.append(line)
        self._bound = {}
        self._known = None
        self._arrived = ()
        if self._binds:
            self.rebind()
        else:
            self._toRebind = inOrder(self._orphaned)

    def heedChosen(self) -> None:
        """
        From now on let sessions for which a destination was chosen wait for it.
        """
        if not self._heeds:
            self._heeds = self._sorts = True
            self._setPart(len(self._available()))

    def _setPart(self, number: int) -> None:
        if self.bindable is not None:
            self._part = max(SMALLEST_PART, self.bindable // max(1, number))

    def setDiscipline(self, discipline: Discipline) -> None:
        """
        Serve the lines in another order from now on. L{rebindSome} then moves the
        sessions that wait.
        """
        if discipline == self._discipline:
            return
        self._discipline = discipline
        self._order = discipline.order
        for line in self._chosen.values():
            line.destination = None
        self._orphaned += [self._unbound, *self._chosen.values()]
        self._unbound = discipline.line()
        self._chosen = {}
        self.setPolicy(self.policy)

    def rebind(self) -> None:
        """
        Begin to bind the waiting sessions anew, because the available destinations have
        changed. L{rebindSome} then asks the policy about those that are concerned.

        Until a session's turn comes, the destination that it was bound to may still
        serve it. Sessions whose destination has gone come first.
        """
        if self._heeds:
            self._chosen = {name: line for name, line in self._chosen.items() if line}
            self._setPart(len(self._available()))
        if not self._binds:
            return
        known = self._known = tuple(self._available())
        available = set(known)
        arrived = set(self._arrived) & available
        for each in [each for each in self._bound if each not in available]:
            line = self._bound.pop(each)
            line.destination = None
            self._orphaned.append(line)
        self._orphaned = [line for line in self._orphaned if line]
        for each in known:
            if each not in self._bound:
                self._bound[each] = self._discipline.line(each)
                arrived.add(each)
        self._arrived = tuple(each for each in known if each in arrived)
        self._setPart(len(known))
        if not self._count:
            self._arrived = ()  # no session has to move
        self._toRebind = inOrder(self._orphaned)
        if self._arrived or not self._ranks:
            others = (self._unbound, *self._bound.values())
            self._toRebind = chain(self._toRebind, inOrder(others))

    def _lineFor(
        self, session: Session, among: Sequence[Destination] | None = None
    ) -> Line:
        """
        Ask the policy which line a session belongs in.

        A policy may be the user's own. An exception that it raises is logged, and the
        session may then be served by any destination.

        @param among: The destinations that may be bound to; by default all that are
            available.
        """
        unbound = self._unbound
        if self._heeds:
            info = session.info
            if info is not None and info.chosen is not None:
                return self._lineOfChosen(self._successorOf(info.chosen))
        if not self._binds or session.queued <= self._spilled:
            return unbound
        try:
            bound = self.policy.bind(session, among or self._knownNow())
            line = self._bound.get(bound, unbound) if bound is not None else unbound
        except Exception:
            self.log.failure("policy {policy!r} cannot bind", policy=self.policy)
            return unbound
        return line

    def _successorOf(self, destination: Destination) -> Destination:
        """
        Return the destination that has taken the place of one, if there is one.
        """
        if not destination.removing:
            return destination
        name = destination.name
        found = (each for each in self._available() if each.name == name)
        return next(found, destination)

    def _lineOfChosen(self, destination: Destination) -> Line:
        line = self._chosen.get(destination.name)
        if line is None:
            line = self._chosen[destination.name] = self._discipline.line(destination)
        line.destination = destination  # one that has taken another's place, maybe
        return line

    def _knownNow(self) -> Sequence[Destination]:
        if self._known is None:
            self.rebind()
        assert self._known is not None
        return self._known

    def _nextFor(self, destination: Destination) -> Session | None:
        """
        Return the session that a destination serves next: of the heads of the
        destination's own line and of the line that any destination serves, the older
        one, unless priorities say otherwise.
        """
        unbound = self._unbound.first()
        line = self._bound.get(destination)
        own = line.first() if line else None
        if self._heeds and (line := self._chosen.get(destination.name)):
            line.destination = destination
            chosen = line.first()
            if own is None or (
                chosen is not None and self._order(chosen) < self._order(own)
            ):
                own = chosen
        if own is None or unbound is None:
            return unbound or own
        return unbound if self._order(unbound) < self._order(own) else own

"""
The programs of a balancer. Destinations with the same command and the same address
share one program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime

from iawlb.programs.program import CannotStart, Program


class ProgramUser(Protocol):
    """
    What a program needs of a destination that it serves.
    """

    def programExited(self, how: str) -> None:
        """
        Called when the program has exited without having been asked to.
        """


class SharedProgram:
    """
    A program that runs while at least one destination needs it.
    """

    def __init__(
        self, reactor: Any, clock: IReactorTime, name: str, command: Sequence[str]
    ) -> None:
        self._program = Program(reactor, clock, name, command, self._exited)
        # Those for which the program runs, and those that wait until it has ended, so
        # that it can be started again.
        self._users: dict[ProgramUser, None] = {}
        self._waiting: dict[ProgramUser, None] = {}

    async def start(self, user: ProgramUser, bound: float) -> None:
        """
        Start the program, if it does not run.

        @param bound: How long the program may take to end, in seconds.
        @raise CannotStart: The program cannot be started, or L{stop} was called
            meanwhile.
        """
        self._waiting[user] = None
        while self._program.ending:
            await self._program.whenEnded()
            if user not in self._waiting:
                raise CannotStart("it is not needed any more")
        del self._waiting[user]
        if not self._program.alive:
            self._program.start(bound)
        self._users[user] = None

    def stop(self, user: ProgramUser, bound: float) -> Deferred[None]:
        """
        End the program, unless another destination needs it.

        @return: Fires when that is done.
        """
        self._waiting.pop(user, None)
        self._users.pop(user, None)
        return succeed(None) if self._users else self._program.end(bound)

    def runsFor(self, user: ProgramUser) -> bool:
        """
        Return whether the program runs, and a destination has asked for it.
        """
        return user in self._users

    def _exited(self, how: str, inOrder: bool) -> None:
        users, self._users = self._users, {}
        for each in users:
            each.programExited(how)


class Programs:
    """
    All programs of a balancer, and what is being stopped.
    """

    def __init__(self, reactor: Any, clock: IReactorTime) -> None:
        self.reactor = reactor
        self.clock = clock
        # A program that runs is held by its process.
        self._shared: WeakValueDictionary[Any, SharedProgram] = WeakValueDictionary()
        self._stops: set[Deferred[None]] = set()

    def get(self, name: str, command: Sequence[str], address: str) -> SharedProgram:
        """
        Return the program for a command and an address.

        @param name: The name of the destination that asks. The first one's is the
            program's name in the log.
        """
        key = (tuple(command), address)
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = SharedProgram(
                self.reactor, self.clock, name, command
            )
        return found

    def stopping(self, stop: Deferred[None]) -> None:
        """
        Note that something is being stopped.

        @param stop: Fires when that is done; does not fail.
        """
        self._stops.add(stop)

        def done(_: object) -> None:
            self._stops.discard(stop)

        stop.addCallback(done)

    async def whenStopped(self) -> None:
        """
        Wait until all that is being stopped has stopped.
        """
        while self._stops:
            await gatherResults(self._stops)

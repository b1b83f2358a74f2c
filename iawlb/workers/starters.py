"""
The ways to start and stop a destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.core.destination import Destination
from iawlb.programs.program import CannotStart, Program
from iawlb.programs.shared import Programs


class Sleeper(Protocol):
    """
    What a starter needs of the destination that it starts.
    """

    destination: Destination

    def programExited(self, how: str) -> None:
        """
        Called when the program has exited without having been asked to.
        """


class Starter(Protocol):
    """
    A way to start and stop a destination, as its settings were when this was made.
    """

    @property
    def runs(self) -> bool:
        """
        Whether it is known that what was started still runs.
        """

    def start(self) -> Deferred[None]:
        """
        Start the destination.

        @return: Fires when that is done, though the destination may not yet be ready.
        """

    def stop(self) -> Deferred[None]:
        """
        Stop the destination.

        @return: Fires when that is done, or has failed, which is logged.
        """

    def close(self) -> None:
        """
        Let go of what was started.
        """


class ProgramStarter:
    """
    Starts the program that serves.
    """

    def __init__(self, sleeper: Sleeper, programs: Programs) -> None:
        self._sleeper = sleeper
        of = sleeper.destination
        self._bound = of.settings.stopTimeout
        self._program = programs.get(nameOf(of), of.settings.command, of.address)

    @property
    def runs(self) -> bool:
        """
        Whether the program runs.
        """
        return self._program.runsFor(self._sleeper)

    def start(self) -> Deferred[None]:
        """
        Start the program, if it does not run.
        """
        return Deferred.fromCoroutine(self._program.start(self._sleeper, self._bound))

    def stop(self) -> Deferred[None]:
        """
        End the program.
        """
        return self._program.stop(self._sleeper, self._bound)

    def close(self) -> None:
        """
        Do nothing: a program that has ended leaves nothing.
        """


class CallStarter:
    """
    Starts by calling a function of the user's.
    """

    log = Logger()
    runs = False

    def __init__(self, sleeper: Sleeper, programs: Programs) -> None:
        self._destination = sleeper.destination
        self._settings = sleeper.destination.settings
        self._programs = programs

    def start(self) -> Deferred[None]:
        """
        Call C{ensureRunning}.
        """
        return self._ended(self._start())

    def stop(self) -> Deferred[None]:
        """
        Call C{ensureStopped}, if there is one.
        """
        stop = self._ended(self._stop())
        stop.addTimeout(self._settings.stopTimeout, self._programs.clock)
        return stop.addErrback(self._notStopped)

    def _start(self) -> Deferred[None]:
        ensure = self._settings.ensureRunning
        assert ensure is not None
        return maybeDeferred(ensure, self._destination)

    def _stop(self) -> Deferred[None]:
        ensure = self._settings.ensureStopped
        if ensure is None:
            return succeed(None)
        return maybeDeferred(ensure, self._destination)

    def _ended(self, call: Deferred[None]) -> Deferred[None]:
        return call.addCallback(lambda _: None)

    def _notStopped(self, failure: Failure) -> None:
        if failure.check(CannotStart, TimeoutError):
            late = f"not done within {self._settings.stopTimeout:g} s"
            self.log.error(
                "{destination}: could not be stopped: {why}",
                destination=nameOf(self._destination),
                why=late if failure.check(TimeoutError) else str(failure.value),
            )
        else:
            self.log.failure(
                "{destination}: could not be stopped",
                failure,
                destination=nameOf(self._destination),
            )

    def close(self) -> None:
        """
        Do nothing.
        """


class CommandStarter(CallStarter):
    """
    Starts and stops by commands that end when they have done so.
    """

    def __init__(self, sleeper: Sleeper, programs: Programs) -> None:
        super().__init__(sleeper, programs)
        # What the last commands, and what they left behind, write is still logged.
        self._last: dict[str, Program] = {}

    def _start(self) -> Deferred[None]:
        return self._run("start", self._settings.command)

    def _stop(self) -> Deferred[None]:
        return self._run("stop", self._settings.stopCommand)

    def _run(self, which: str, command: Sequence[str]) -> Deferred[None]:
        """
        Run a command.

        @return: Fires when the command has exited with status 0.
        """
        bound = self._settings.stopTimeout

        def cancel(_: object) -> None:
            self._programs.stopping(program.end(bound))

        done: Deferred[None] = Deferred(cancel)

        def exited(how: str, inOrder: bool) -> None:
            if inOrder:
                done.callback(None)
            else:
                done.errback(CannotStart(f"{command[0]} {how}"))

        self._let(which)
        program = self._last[which] = Program(
            self._programs.reactor,
            self._programs.clock,
            nameOf(self._destination),
            command,
            exited,
            sweeps=False,
        )
        try:
            program.start(bound)
        except CannotStart:
            done.errback(Failure())
        return done

    def _let(self, which: str) -> None:
        """
        Log no more of what a former command writes.
        """
        last = self._last.pop(which, None)
        if last is not None:
            last.close()

    def close(self) -> None:
        """
        Log no more of what is written.
        """
        for each in list(self._last):
            self._let(each)


def nameOf(destination: Destination) -> str:
    """
    Return a destination's name with that of its pool.
    """
    return f"{destination.pool}/{destination.name}"


def starterOf(sleeper: Sleeper, programs: Programs) -> Starter:
    """
    Make the starter that a destination's settings ask for.
    """
    settings = sleeper.destination.settings
    if settings.ensureRunning is not None:
        return CallStarter(sleeper, programs)
    if settings.stopCommand:
        return CommandStarter(sleeper, programs)
    return ProgramStarter(sleeper, programs)

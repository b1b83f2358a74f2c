"""
A program: one process group that is started and ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.errors import IawlbError
from iawlb.programs import become
from iawlb.programs.output import ProgramOutput
from iawlb.programs.surroundings import environmentWith, folderToStartIn

FIRST_LOOK = 0.01
LAST_LOOK = 0.2
"""
The first and the longest wait between two looks at whether all processes of an ending
program are gone, in seconds.
"""

AFTER_KILL = 1.0
"""
How long the processes of a program that were killed are waited for, in seconds: the
kernel may hold one that waits for a disk.
"""


class CannotStart(IawlbError):
    """
    A program could not be started; the message says why.
    """


def describeEnd(status: int) -> str:
    """
    Say in words how a process has ended.

    @param status: The status as C{os.waitpid} returns it.
    """
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def runs(group: int) -> bool:
    """
    Return whether a process of a group runs. One that has ended, and that its parent
    has not noticed yet, does not: the first process of a container may never notice.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            # The name of the program, which may hold anything, is in parentheses.
            state, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state not in "ZX":
                return True
    return not Path("/proc/self").exists()


class Program(ProcessProtocol):
    """
    A program that runs as a process group of its own, so that the processes that it has
    started are signalled too. What they write goes into the log.

    @ivar alive: Whether a process of the program may be there.
    @ivar ending: Whether the program is being ended, or has ended and left processes
        behind that are.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        name: str,
        command: Sequence[str],
        onExit: Callable[[str, bool], None],
        sweeps: bool = True,
    ) -> None:
        """
        @param name: The program's name in the log.
        @param command: The words of the command.
        @param onExit: Called when the program has exited without having been asked to,
            with how that was in words, and whether it was in order.
        @param sweeps: Whether the processes that the program leaves behind are ended
            too.
        """
        self.name = name
        self.command = tuple(command)
        self.alive = False
        self.ending = False
        self._reactor = reactor
        self._clock = clock
        self._onExit = onExit
        self._sweeps = sweeps
        self._output: ProgramOutput | None = None
        self._exited = False
        self._group = 0
        # Whether the process has made its group.
        self._isGroup = False
        self._process: Any = None
        self._bound = 0.0
        self._kills: IDelayedCall | None = None
        self._looks: IDelayedCall | None = None
        self._wait = FIRST_LOOK
        self._givesUp = False
        self._ends: list[Deferred[None]] = []

    def start(self, bound: float) -> None:
        """
        Start the program.

        @param bound: How long processes that it leaves behind may take to end.
        @raise CannotStart: There is no such program, or no process can be made.
        """
        word = self.command[0]
        if shutil.which(word) is None:
            where = "" if "/" in word else " on the PATH"
            raise CannotStart(f"there is no program {word!r}{where}")
        arguments = [sys.executable, "-I", "-S", become.__file__, str(os.getpid())]
        self.close()
        handles: list[int] = []
        try:
            folder = folderToStartIn()
            reads, writes = os.pipe()
            handles += reads, writes
            # This may fail, too.
            handles.append(os.open(os.devnull, os.O_RDONLY))
            os.set_blocking(reads, False)
            self._exited = self._isGroup = self._givesUp = False
            self._bound = bound
            self._process = self._reactor.spawnProcess(
                self,
                sys.executable,
                [*arguments, *self.command],
                environmentWith(),
                path=folder,
                childFDs={0: handles[2], 1: writes, 2: writes},
            )
        except OSError as error:
            for each in handles:
                os.close(each)
            raise CannotStart(
                f"no process can be made by {sys.executable}: {error.strerror}"
            ) from None
        os.close(handles[2])
        os.close(writes)
        self.alive, self.ending = True, False
        self._group = self._process.pid
        self._output = ProgramOutput(self._reactor, self._clock, self.name, reads)
        self._output.startReading()
        self.log.info(
            "{program}: started as process {number}",
            program=self.name,
            number=self._group,
        )

    def close(self) -> None:
        """
        Read no more of what the program, or what it has left behind, writes.
        """
        output, self._output = self._output, None
        if output is not None:
            output.finish()

    def end(self, bound: float) -> Deferred[None]:
        """
        End the program: ask it to, by C{SIGTERM}, and kill it if it does not.

        @param bound: How long the program may take, in seconds.
        @return: Fires when it has ended.
        """
        if not self.alive:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._ends.append(ended)
        self._bound = bound
        if not self.ending:
            self._begin()
        return ended

    def whenEnded(self) -> Deferred[None]:
        """
        Wait until the program, which is ending, has ended.
        """
        ended: Deferred[None] = Deferred()
        self._ends.append(ended)
        return ended

    def _begin(self) -> None:
        """
        Begin to end the processes.
        """
        self.ending = True
        self._wait = FIRST_LOOK
        self._signal(signal.SIGTERM)
        self._kills = self._clock.callLater(self._bound, self._kill)
        self._look()

    def _kill(self) -> None:
        self._kills = None
        self.log.warn(
            "{program}: did not end within {bound:g} s, and is killed",
            program=self.name,
            bound=self._bound,
        )
        self._signal(signal.SIGKILL)
        self._kills = self._clock.callLater(AFTER_KILL, self._giveUp)

    def _giveUp(self) -> None:
        self._kills = None
        self._givesUp = True

    def _signal(self, number: int) -> bool:
        """
        Send a signal to all processes of the program.

        @return: Whether there is one.
        """
        try:
            os.killpg(self._group, number)
            self._isGroup = True
        except ProcessLookupError:
            if self._exited:
                return False
            # The process has not come to make its group.
            try:
                self._process.signalProcess(number)
            except ProcessExitedAlready:
                return False
        except PermissionError as error:
            self.log.warn(
                "{program}: cannot be signalled: {error}",
                program=self.name,
                error=error.strerror,
            )
            return not self._exited
        return True

    def _look(self) -> None:
        """
        Look whether all processes are gone, and later again if not.
        """
        self._looks = None
        if self._givesUp or (self._exited and not self._left()):
            self._ended()
        else:
            if not self._isGroup and not self._exited:
                # Before it is the program, it may miss a signal.
                self._signal(signal.SIGTERM)
            self._looks = self._clock.callLater(self._wait, self._look)
            self._wait = min(2 * self._wait, LAST_LOOK)

    def _left(self) -> bool:
        """
        Return whether the program, which has exited, has left processes behind.
        """
        return self._signal(0) and runs(self._group)

    def processExited(self, reason: Failure) -> None:
        """
        Called when the first process of the program has ended.
        """
        self._exited = True
        ended: Any = reason.value
        how = describeEnd(ended.status)
        self.log.info("{program}: {how}", program=self.name, how=how)
        if self.ending:
            assert self._looks is not None
            self._looks.reset(0)
            return
        if self._sweeps and self._left():
            self._begin()
        else:
            self._ended()
        self._onExit(how, ended.status == 0)

    def _ended(self) -> None:
        self.alive = self.ending = False
        for each in (self._kills, self._looks):
            if each is not None and each.active():
                each.cancel()
        self._kills = self._looks = None
        if self._sweeps:
            self.close()
        ends, self._ends = self._ends, []
        for end in ends:
            end.callback(None)

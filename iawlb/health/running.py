"""
Checks that run a program.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from iawlb.core.text import printable
from iawlb.health.verdict import LONGEST_REASON, Verdict
from iawlb.programs.surroundings import environmentWith, folderToStartIn

MOST_OUTPUT = 4096
"""
The most bytes of a program's output that are kept.
"""

PATIENCE = 0.2
"""
How long the output of a program is read after its end, in seconds.
"""

AT_A_TIME = 20
"""
The number of programs that run at a time for the checks of a pool; the others wait for
their turn.
"""


class Turns:
    """
    Lets so many things be done at a time, and the others wait.
    """

    def __init__(self, number: int = AT_A_TIME) -> None:
        self._free = number
        self._waiting: dict[Callable[[], None], None] = {}

    def take(self, begin: Callable[[], None]) -> None:
        """
        Call a function as soon as there is a turn. L{give} has to follow.
        """
        if self._free:
            self._free -= 1
            begin()
        else:
            self._waiting[begin] = None

    def leave(self, begin: Callable[[], None]) -> bool:
        """
        Give up the wait.

        @return: Whether the function had not been called yet.
        """
        waited = begin in self._waiting
        self._waiting.pop(begin, None)
        return waited

    def give(self) -> None:
        """
        Give a turn to the next one.
        """
        if self._waiting:
            begin = next(iter(self._waiting))
            del self._waiting[begin]
            begin()
        else:
            self._free += 1


@cache
def _launcher() -> tuple[str, ...]:
    """
    Return what has to stand before a command for it to lead a group of its own, which
    can be ended together with all that it has started.
    """
    found = shutil.which("setsid")
    return (found,) if found else ()


class CommandCheck(ProcessProtocol):
    """
    A check that runs a program, and succeeds if the program ends with status 0.
    """

    transport: IProcessTransport | None
    waits = True

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        environment: Mapping[str, str],
        turns: Turns,
    ) -> None:
        """
        @param environment: What to add to the environment of this process.
        """
        self._reactor = reactor
        self._command = command
        self._environment = environment
        self._turns = turns
        self._onDone: Callable[[Verdict], None] | None = None
        self._output = b""
        self._process: int | None = None
        self._closing: IDelayedCall | None = None

    def start(self, onDone: Callable[[Verdict], None]) -> None:
        """
        Run the program, once it is its turn.
        """
        self._onDone = onDone
        self._turns.take(self._begin)

    def _begin(self) -> None:
        self.waits = False
        words = [*_launcher(), *self._command]
        try:
            self._reactor.spawnProcess(
                self,
                words[0],
                words,
                environmentWith(self._environment),
                path=folderToStartIn(),
                childFDs={0: "w", 1: "r", 2: "r"},
            )
        except Exception as error:
            # If this machine cannot make a process now, for lack of descriptors or
            # memory, nothing is known of the destination.
            missing = isinstance(error, FileNotFoundError | PermissionError)
            passed = None if isinstance(error, OSError) and not missing else False
            self._over(Verdict(passed, f"cannot run {words[0]}: {error}"))

    def cancel(self) -> None:
        """
        End the program, with all that it has started.
        """
        self._onDone = None
        if self._turns.leave(self._begin):
            return
        number = self._process
        if number is not None:
            # The end of the program gives the turn back.
            with suppress(OSError):
                if _launcher():
                    os.killpg(number, signal.SIGKILL)
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)

    # What the process reports.

    def connectionMade(self) -> None:
        """
        Called when the program runs. It may have ended before C{spawnProcess} returns.
        """
        transport: Any = self.transport
        self._process = transport.pid
        transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Keep the beginning of the output, and throw the rest away.
        """
        self._output = (self._output + data)[:MOST_OUTPUT]

    def processExited(self, reason: Failure) -> None:
        """
        Called when the program has ended. End what it has left behind, which may hold
        the output open.
        """
        if _launcher() and self._process is not None:
            with suppress(OSError):
                os.killpg(self._process, signal.SIGKILL)
        self._process = None
        # Something that has left the group may hold the output open still.
        self._closing = self._reactor.callLater(PATIENCE, self._close)

    def _close(self) -> None:
        self._closing = None
        assert self.transport is not None
        self.transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        """
        Called when the program has ended and its output is read.
        """
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        status: Any = reason.value
        line = self._output.decode("utf-8", "replace").strip().partition("\n")[0]
        said = f": {printable(line)[:LONGEST_REASON]}" if line else ""
        if status.signal is not None:
            why = f"ended by signal {status.signal}{said}"
        else:
            why = f"status {status.exitCode}{said}"
        self._over(Verdict(status.exitCode == 0, why))

    def _over(self, verdict: Verdict) -> None:
        self._turns.give()
        onDone, self._onDone = self._onDone, None
        if onDone is not None:
            onDone(verdict)

"""
Programs that the balancer starts: processes, their output, and how they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from iawlb.programs import become, surroundings
from iawlb.programs.output import (
    BYTES_PER_SECOND,
    LINES_PER_SECOND,
    LONGEST_LINE,
    ProgramOutput,
)
from iawlb.programs.program import CannotStart, Program, describeEnd
from iawlb.programs.shared import Programs
from tests.doubles import logged
from tests.net import LIMIT, reactor, until


class Desk:
    """
    A place where programs are started, with what they log and how they end.
    """

    def __init__(self) -> None:
        self.events = EventLoggingObserver()
        self.exits: list[tuple[str, bool]] = []
        self.programs: list[Program] = []

    def make(self, *command: str, sweeps: bool = True) -> Program:
        """
        Make a program.
        """

        def exited(how: str, inOrder: bool) -> None:
            self.exits.append((how, inOrder))

        made = Program(reactor, reactor, "web/app", command, exited, sweeps)
        self.programs.append(made)
        return made

    def start(self, *command: str, sweeps: bool = True, bound: float = 5.0) -> Program:
        """
        Start a program.
        """
        made = self.make(*command, sweeps=sweeps)
        made.start(bound)
        return made

    @property
    def lines(self) -> list[str]:
        """
        What was logged.
        """
        return [formatEvent(each).removeprefix("web/app: ") for each in self.events]

    async def says(self, text: str) -> None:
        """
        Wait for a line.
        """
        await until(lambda: text in self.lines)


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    """
    Have a place for programs, and end them.
    """
    made = Desk()
    globalLogPublisher.addObserver(made.events)
    try:
        yield made
    finally:
        for each in made.programs:
            await each.end(0.1).addTimeout(LIMIT, reactor)
            each.close()
        globalLogPublisher.removeObserver(made.events)


def alive(number: int) -> bool:
    """
    Return whether a process is there, and no zombie.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{number}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    return False


@pytest_twisted.ensureDeferred
async def test_output() -> None:
    """
    What a program writes, to its output and its errors, is logged in order; its input
    is empty.
    """
    async with desk() as at:
        at.start("sh", "-c", "echo one; echo two >&2; cat; printf three")
        await until(lambda: at.exits)
        assert at.lines[1:] == ["one", "two", "three", "exited with status 0"] or (
            at.lines[1:] == ["one", "two", "exited with status 0", "three"]
        )
        assert at.exits == [("exited with status 0", True)]


@pytest_twisted.ensureDeferred
async def test_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A program has the balancer's folder and environment, but not the variables by which
    the service manager talks to the balancer; and signals as usual.
    """
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("COLOUR", "blue")
    script = 'echo "$COLOUR,$NOTIFY_SOCKET,$(pwd)"; grep SigIgn /proc/self/status'
    async with desk() as at:
        at.start("sh", "-c", script)
        await until(lambda: at.exits)
        assert f"blue,,{Path.cwd()}" in at.lines
        (ignored,) = [each for each in at.lines if "SigIgn" in each]
        assert not int(ignored.split("t")[-1] or "0", 16) & 1 << signal.SIGPIPE - 1


@pytest_twisted.ensureDeferred
async def test_manyFiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    With many open files too, a program runs in the balancer's folder, whichever that
    is, and has none of these files.
    """
    monkeypatch.setattr(surroundings, "MANY_FILES", 0)
    for folder in (str(tmp_path), "/"):
        monkeypatch.chdir(folder)
        async with desk() as at:
            at.start("sh", "-c", "pwd; ls /proc/self/fd | wc -l")
            await until(lambda: at.exits)
            assert folder in at.lines
            # Those of ls: its three, and the folder that it lists.
            await at.says("4")


@pytest_twisted.ensureDeferred
async def test_end() -> None:
    """
    A program is asked to end, and so are the processes that it has started.
    """
    script = "trap 'echo bye; exit 3' TERM; sleep 60 & echo child $!; wait; wait"
    async with desk() as at:
        started = at.start("sh", "-c", script)
        await until(lambda: any("child" in each for each in at.lines))
        (child,) = [int(each.split()[1]) for each in at.lines if "child" in each]
        # Until then a signal is lost.
        await until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
        ending = started.end(LIMIT)
        assert started.ending
        await ending
        assert not started.alive and not alive(child)
        assert "bye" in at.lines and "exited with status 3" in at.lines
        # It was asked to.
        assert at.exits == []
        await started.end(1)


@pytest_twisted.ensureDeferred
async def test_ignoresTheSignal() -> None:
    """
    A program that does not end in time is killed.
    """
    async with desk() as at:
        started = at.start("sh", "-c", "trap '' TERM; echo up; sleep 60; sleep 60")
        await at.says("up")
        await started.end(0.05)
        assert "did not end within 0.05 s, and is killed" in at.lines
        assert "was ended by SIGKILL" in at.lines


@pytest_twisted.ensureDeferred
async def test_endedAtOnce() -> None:
    """
    A program can be ended before its process has become the program.
    """
    async with desk() as at:
        started = at.start("sleep", "60")
        await started.end(LIMIT)
        assert not started.alive


@pytest_twisted.ensureDeferred
async def test_leavesProcesses() -> None:
    """
    What a program leaves behind when it ends is ended too, and the program counts as
    ending until then.
    """
    script = "(trap '' TERM; sleep 60; sleep 60) & echo child $!; sleep 0.05"
    async with desk() as at:
        started = at.start("sh", "-c", script, bound=0.2)
        await until(lambda: at.exits)
        assert started.alive and started.ending
        (child,) = [int(each.split()[1]) for each in at.lines if "child" in each]
        await started.whenEnded()
        assert not started.alive and not alive(child)


@pytest_twisted.ensureDeferred
async def test_leavesADaemon() -> None:
    """
    What a command leaves behind that only starts something goes on, and so does its
    output.
    """
    script = "(sleep 0.2; echo later; sleep 60) & echo child $!"
    async with desk() as at:
        started = at.start("sh", "-c", script, sweeps=False)
        await until(lambda: at.exits)
        (child,) = [int(each.split()[1]) for each in at.lines if "child" in each]
        assert not started.alive and alive(child)
        await at.says("later")
        os.killpg(os.getpgid(child), signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_notThere(tmp_path: Path) -> None:
    """
    A program that is not there, or cannot be run, is named.
    """
    bad = tmp_path / "bad"
    bad.write_text("#!/no/such/interpreter\n")
    bad.chmod(0o755)
    async with desk() as at:
        with pytest.raises(CannotStart, match=r"no program 'no-such' on the PATH"):
            at.start("no-such")
        with pytest.raises(CannotStart, match=r"no program '/no/such'$"):
            at.start("/no/such")
        at.start(str(bad))
        await until(lambda: at.exits)
        assert at.exits == [("exited with status 127", False)]
        await at.says(f"cannot run {str(bad)!r}: No such file or directory")


def test_noProcess(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When no process can be made, no descriptor is left open.
    """
    before = os.listdir("/proc/self/fd")
    failing = Mock()
    failing.spawnProcess.side_effect = OSError(11, "Resource temporarily unavailable")
    made = Program(failing, Clock(), "web/app", ["true"], Mock())
    with pytest.raises(CannotStart, match=r"made by .*: Resource temporarily"):
        made.start(1)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    # Descriptors are short: there is one for the output, and none for the input.
    opened = [os.open(os.devnull, os.O_RDONLY), OSError(24, "Too many open files")]
    monkeypatch.setattr(os, "open", Mock(side_effect=opened))
    with pytest.raises(CannotStart, match=r"made by .*: Too many open files"):
        made.start(1)
    assert len(os.listdir("/proc/self/fd")) == len(before)


class EndTests(SynchronousTestCase):
    """
    How the end of a program is described, and what can go wrong with it.
    """

    def test_words(self) -> None:
        """
        The status of a process is put in words.
        """
        self.assertEqual(describeEnd(0), "exited with status 0")
        self.assertEqual(describeEnd(2 << 8), "exited with status 2")
        self.assertEqual(describeEnd(signal.SIGSEGV), "was ended by SIGSEGV")
        self.assertEqual(describeEnd(50), "was ended by signal 50")

    def program(self) -> tuple[Program, Clock, Any]:
        """
        Make a program that has started, without a process.
        """
        clock, fake = Clock(), Mock()
        fake.spawnProcess.return_value.pid = 99999999
        made = Program(fake, clock, "web/app", ["true"], Mock())
        made.start(1.0)
        self.addCleanup(made.close)
        return made, clock, fake.spawnProcess.return_value

    def test_cannotSignal(self) -> None:
        """
        A program that has made itself another user's cannot be signalled: that is
        logged, and it is waited for no longer than the bound.
        """
        made, clock, _ = self.program()
        self.patch(os, "killpg", Mock(side_effect=PermissionError(1, "no")))
        events = logged(self)
        ended = made.end(2.0)
        clock.advance(2.0)
        self.assertNoResult(ended)
        clock.advance(1.0)
        clock.advance(0.1)
        self.successResultOf(ended)
        texts = {formatEvent(each) for each in events}
        self.assertIn("web/app: cannot be signalled: no", texts)

    def test_gone(self) -> None:
        """
        A program may be gone when it is signalled.
        """
        made, clock, process = self.program()
        process.signalProcess.side_effect = ProcessExitedAlready()
        ended = made.end(2.0)
        clock.advance(0.1)
        self.assertNoResult(ended)
        made.processExited(Mock(value=Mock(status=0)))
        clock.advance(0)
        self.successResultOf(ended)


class OutputTests(SynchronousTestCase):
    """
    The output of a program in the log.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        reads, self.writes = os.pipe()
        os.set_blocking(reads, False)
        self.reactor = Mock()
        self.output = ProgramOutput(self.reactor, self.clock, "a", reads)
        self.events = logged(self)

    def tearDown(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.writes)
        if not self.output.disconnected:
            self.output.finish()

    def write(self, data: bytes) -> None:
        """
        Write, and let it be read.
        """
        os.write(self.writes, data)
        self.assertIsNone(self.output.doRead())

    @property
    def lines(self) -> list[str]:
        return [formatEvent(each).removeprefix("a: ") for each in self.events]

    def test_lines(self) -> None:
        """
        A line is logged once it is complete, without the end of the line; characters
        that do not print are escaped.
        """
        self.write(b"one\r\ntw")
        self.assertEqual(self.lines, ["one"])
        self.write(b"o\n\n\x1b[31mred\xff\n")
        self.assertEqual(self.lines, ["one", "two", "", "\\x1b[31mred\\xff"])

    def test_longLine(self) -> None:
        """
        A line that is too long is cut, however it comes.
        """
        for _ in range(10):
            self.write(b"x" * 300)
        self.write(b"\n" + b"y" * LONGEST_LINE + b"\nz\n")
        self.assertEqual(
            self.lines, ["x" * LONGEST_LINE + "...", "y" * LONGEST_LINE, "z"]
        )

    def test_manyLines(self) -> None:
        """
        Lines beyond a number in each second are counted, and logged again in the next.
        """
        self.write(b"a\n" * (LINES_PER_SECOND + 7) + b"be")
        self.write(b"gun\nwhole\nhalf")
        self.assertEqual(self.lines, ["a"] * LINES_PER_SECOND)
        self.clock.advance(1)
        said = (
            f"9 lines are left out, as it writes more than {LINES_PER_SECOND} a second"
        )
        self.assertEqual(self.lines[-1], said)
        self.write(b" line\nnext\n")
        self.assertEqual(self.lines[-2:], ["half line", "next"])

    def test_flood(self) -> None:
        """
        A program that writes very much waits in its write until the second is over.
        """
        read = 0
        while read < BYTES_PER_SECOND:
            self.assertEqual(self.reactor.removeReader.call_count, 0)
            self.write(b"x" * 65536)
            read += 65536
        self.assertEqual(self.reactor.removeReader.call_count, 1)
        self.clock.advance(1)
        self.assertEqual(self.reactor.addReader.call_count, 1)

    def test_end(self) -> None:
        """
        At the end, what is there is logged, also without the end of a line, and the
        pipe is closed.
        """
        self.write(b"a\n" * (LINES_PER_SECOND + 1))
        os.write(self.writes, b"last")
        self.output.finish()
        self.assertEqual(self.lines[-2:], ["last", self.lines[-1]])
        self.assertIn("1 lines are left out", self.lines[-1])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertRaises(OSError, os.fstat, self.output.fileno())

    def test_closed(self) -> None:
        """
        A program that closes its output is read no more.
        """
        self.assertIsNone(self.output.doRead())
        os.close(self.writes)
        self.assertIsNotNone(self.output.doRead())

    def test_broken(self) -> None:
        """
        A pipe that cannot be read is closed.
        """
        self.patch(os, "read", Mock(side_effect=OSError(5, "bad")))
        self.assertIsNotNone(self.output.doRead())

    def test_afterTheEnd(self) -> None:
        """
        The second that is over after the end of the output reads nothing more.
        """
        self.write(b"a\n")
        self.output.disconnected = True
        self.clock.advance(1)
        self.assertEqual(self.reactor.addReader.call_count, 0)
        self.output.disconnected = False


class BecomeTests(SynchronousTestCase):
    """
    The first step of a program in its own process.
    """

    def setUp(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        for name in ("setsid", "setresuid", "setresgid", "execvp", "_exit"):
            self.patch(
                os,
                name,
                lambda *given, name=name: self.calls.append((name, *given)),
            )
        self.patch(signal, "signal", lambda *_: None)
        self.patch(ctypes, "CDLL", lambda _: Mock())

    def test_rights(self) -> None:
        """
        Rights that the balancer has only put aside are given up for good.
        """
        self.patch(os, "geteuid", lambda: 1234)
        self.patch(os, "getegid", lambda: 123)
        become.become(os.getppid(), ["true", "x"])
        self.assertEqual(
            self.calls,
            [
                ("setsid",),
                ("setresgid", 123, 123, 123),
                ("setresuid", 1234, 1234, 1234),
                ("execvp", "true", ["true", "x"]),
            ],
        )

    def test_asScript(self) -> None:
        """
        The words of the command stand behind the number of the balancer's process.
        """
        self.patch(sys, "argv", ["become.py", str(os.getppid()), "true"])
        runpy.run_path(become.__file__, run_name="__main__")
        self.assertEqual(self.calls, [("setsid",), ("execvp", "true", ["true"])])

    def test_balancerIsGone(self) -> None:
        """
        A balancer that is gone before it could be watched has no program any more.
        """
        become.dieWith(os.getppid() + 1)
        self.assertEqual(self.calls, [("_exit", become.NOT_FOUND)])

    def test_elsewhere(self) -> None:
        """
        Other systems than Linux cannot watch it.
        """
        self.patch(sys, "platform", "darwin")
        become.dieWith(1)
        self.assertEqual(self.calls, [])

    def test_cannotRun(self) -> None:
        """
        If the program cannot be run, its output says why.
        """
        self.patch(os, "execvp", Mock(side_effect=OSError(13, "Denied")))
        errors = Mock()
        self.patch(sys, "stderr", errors)
        become.become(os.getppid(), ["x"])
        errors.write.assert_called_once_with("cannot run 'x': Denied\n")
        self.assertEqual(self.calls[-1], ("_exit", become.NOT_FOUND))


class User:
    """
    A destination that needs a program.
    """

    def __init__(self) -> None:
        self.exits: list[str] = []

    def programExited(self, how: str) -> None:
        self.exits.append(how)


@pytest_twisted.ensureDeferred
async def test_shared() -> None:
    """
    Destinations with the same command and the same address share a program: it runs
    while one of them needs it. Those with another address do not.
    """
    programs = Programs(reactor, reactor)
    command = ["sleep", "60"]
    one, two = User(), User()
    shared = programs.get("web/a", command, "localhost:1")
    assert programs.get("db/a", command, "localhost:1") is shared
    assert programs.get("db/a", command, "localhost:2") is not shared
    await shared.start(one, LIMIT)
    number = shared._program._group
    await shared.start(two, LIMIT)
    assert shared._program._group == number and alive(number)
    await shared.stop(one, LIMIT)
    assert alive(number) and not shared.runsFor(one) and shared.runsFor(two)
    os.kill(number, signal.SIGKILL)
    await until(lambda: two.exits)
    assert (one.exits, two.exits) == ([], ["was ended by SIGKILL"])
    await shared.start(one, LIMIT)
    await shared.stop(one, LIMIT)
    assert not shared._program.alive


@pytest_twisted.ensureDeferred
async def test_startedWhileItEnds() -> None:
    """
    A program that is wanted again while it ends is started when it has ended; if it is
    not wanted any more by then, it is not.
    """
    programs = Programs(reactor, reactor)
    one, two = User(), User()
    shared = programs.get("web/a", ["sleep", "60"], "localhost:1")
    await shared.start(one, LIMIT)
    first = shared._program._group
    stopping = shared.stop(one, LIMIT)
    again: Deferred[None] = ensureDeferred(shared.start(one, LIMIT))
    never: Deferred[None] = ensureDeferred(shared.start(two, LIMIT))
    failed: list[Any] = []
    never.addErrback(failed.append)
    programs.stopping(shared.stop(two, LIMIT))
    await stopping
    await again.addTimeout(LIMIT, reactor)
    assert shared._program._group != first and alive(shared._program._group)
    await until(lambda: failed)
    assert failed[0].check(CannotStart)
    programs.stopping(shared.stop(one, LIMIT))
    await programs.whenStopped()
    assert not shared._program.alive

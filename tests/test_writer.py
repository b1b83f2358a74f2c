"""
Tests for the writer of log lines.
"""

from __future__ import annotations

import builtins
import errno
import os
import pty
import resource
import socket
import sys
import tempfile
import termios
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from threading import Thread, get_ident
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import (
    Logger,
    LogLevel,
    LogPublisher,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase

from iawlb.observe import writer as module
from iawlb.observe.outputs import Output
from iawlb.observe.writer import (
    BATCH,
    EVERY,
    LAST_WAIT,
    MOST_HELD,
    SOONEST,
    LogWriter,
)


class Reactor(MemoryReactorClock):
    """
    A reactor that starts and stops when the test says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fromThreads: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.atTheEnd: list[Callable[[], None]] = []

    def begin(self) -> None:
        """
        Start.
        """
        for hook, arguments, keywords in self.whenRunningHooks:
            hook(*arguments, **keywords)

    def end(self) -> None:
        """
        Stop.
        """
        for trigger in self.atTheEnd:
            trigger()

    def addSystemEventTrigger(self, *trigger: Any, **keywords: Any) -> Any:
        """
        Keep what is to happen after the end.
        """
        phase, event, call = trigger
        assert (phase, event) == ("after", "shutdown")
        self.atTheEnd.append(call)
        return call

    def removeSystemEventTrigger(self, triggerID: Any) -> None:
        """
        Forget the trigger.
        """
        self.atTheEnd.remove(triggerID)

    def callFromThread(self, call: Callable[..., None], *arguments: Any) -> None:
        """
        Keep a call of another thread.
        """
        self.fromThreads.append((call, arguments))


class Disk(Output):
    """
    A file on a disk that can be full.
    """

    def __init__(self) -> None:
        self.room = 10**9
        self.text = b""
        self.writes = 0

    def write(self, data: memoryview) -> int:
        """
        Write what there is room for.
        """
        self.writes += 1
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = bytes(data[: self.room])
        self.text += taken
        self.room -= len(taken)
        return len(taken)


class Case(SynchronousTestCase):
    """
    A writer.
    """

    def setUp(self) -> None:
        """
        Make a reactor, and keep what is written to standard error.
        """
        self.reactor = Reactor()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.errors = self.enterContext(open(self.folder / "errors", "w+"))
        self.patch(sys, "__stderr__", self.errors)
        # A reader that is late is waited for in real time.
        self.patch(module, "PATIENCE", 0.05)

    def writerTo(self, file: Any) -> LogWriter:
        """
        Make a writer; the reactor runs.
        """
        writer = LogWriter(self.reactor, file)
        self.addCleanup(writer.close)
        self.reactor.begin()
        return writer

    def pipe(self) -> tuple[int, Any]:
        """
        Make a pipe.

        @return: What reads, without waiting, and a file to write to.
        """
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self.addCleanup(self.closeEnd, reading)
        return reading, self.enterContext(os.fdopen(writing, "w"))

    def sockets(self) -> tuple[int, Any]:
        """
        Make a pair of connected sockets: the output's, and its reader's.
        """
        ours, other = socket.socketpair()
        other.setblocking(False)
        self.addCleanup(other.close)
        self.addCleanup(ours.close)
        return other.fileno(), ours

    def closeEnd(self, number: int) -> None:
        """
        Close a descriptor, unless it is closed.
        """
        try:
            os.close(number)
        except OSError as error:
            self.assertEqual(error.errno, errno.EBADF)

    def read(self, number: int, most: int = 1_000_000) -> bytes:
        """
        Read what is there.
        """
        came = b""
        while len(came) < most:
            try:
                chunk = os.read(number, min(most - len(came), 65536))
            except BlockingIOError:
                break
            if not chunk:
                break
            came += chunk
        return came

    def readAll(self, number: int, seconds: float = 3) -> bytes:
        """
        Read on while time passes.
        """
        came = b""
        for _ in range(round(seconds * 1000)):
            came += self.read(number)
            self.reactor.advance(0.001)
        return came


class BatchTests(Case):
    """
    Lines that go together.
    """

    def setUp(self) -> None:
        """
        Write to a disk.
        """
        super().setUp()
        self.disk = Disk()
        self.patch(module, "outputTo", lambda file: self.disk)
        self.writer = self.writerTo(None)

    def test_together(self) -> None:
        """
        Lines wait a tenth of a second for others, and are written with them in
        one step, in order; nothing is left to do after that.
        """
        for number in range(100):
            self.writer.write(f"line {number}\n")
        self.writer.flush()
        self.assertEqual(self.disk.writes, 0)
        self.reactor.advance(EVERY)
        self.assertEqual(self.disk.writes, 1)
        expected = "".join(f"line {number}\n" for number in range(100))
        self.assertEqual(self.disk.text.decode(), expected)
        self.reactor.advance(EVERY)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.writer.write("later\n")
        self.reactor.advance(EVERY)
        self.assertTrue(self.disk.text.endswith(b"\nlater\n"))

    def test_manyAtOnce(self) -> None:
        """
        Lines that are enough for a batch do not wait.
        """
        line = "x" * 99 + "\n"
        for _ in range(10 * BATCH // len(line)):
            self.writer.write(line)
        self.assertIn(self.disk.writes, (9, 10))
        self.reactor.advance(EVERY)
        self.assertEqual(len(self.disk.text), 10 * BATCH // len(line) * len(line))
        self.reactor.advance(EVERY)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_observer(self) -> None:
        """
        Events of Twisted's logger are written as Twisted writes them.
        """
        expected = StringIO()
        both = LogPublisher(self.writer, textFileLogObserver(expected))
        log = Logger("somewhere", observer=both)
        log.warn("one {part}", part=1)
        log.info("two\nlines")
        log.info("")
        try:
            raise ValueError("bad")
        except ValueError:
            log.failure("failed")
        self.reactor.advance(EVERY)
        self.assertEqual(self.disk.text.decode(), expected.getvalue())
        self.assertIn("[somewhere#warn] one 1\n", expected.getvalue())

    def test_level(self) -> None:
        """
        Events below the level are left out, from the moment at which it is set; lines
        that are written directly are not.
        """
        log = Logger("some", observer=self.writer)
        log.debug("one")
        self.writer.level = LogLevel.warn
        log.info("two")
        log.warn("three")
        self.writer.write("four\n")
        self.writer({"message": ("five",), "isError": 0, "log_time": 0.0})
        self.writer.level = LogLevel.info
        log.info("six")
        self.writer.writeNow()
        words = [line.rpartition(b" ")[2] for line in self.disk.text.splitlines()]
        self.assertEqual(words[:3], [b"one", b"three", b"four"])
        self.assertEqual(words[-1], b"six")

    def test_reopen(self) -> None:
        """
        An output that can be opened anew is; others go on.
        """
        self.writer.reopen()
        asked: list[bool] = []
        self.disk.reopen = lambda: asked.append(True)  # type: ignore[attr-defined]
        self.writer.reopen()
        self.assertEqual(asked, [True])

    def lastLines(self, length: int) -> int:
        """
        Stop while an output takes 100 characters each second.

        @return: How many of so many characters are written.
        """
        now = 0.0

        def wait(seconds: float) -> bool:
            nonlocal now
            now += seconds
            self.disk.room = 100
            return True

        self.disk.wait = wait  # type: ignore[method-assign]
        self.disk.room = 0
        self.patch(module, "monotonic", lambda: now)
        self.patch(module, "PATIENCE", 1.0)
        self.writer.write("x\n" * (length // 2))
        self.reactor.end()
        return len(self.disk.text)

    def test_slowAtTheEnd(self) -> None:
        """
        At the end an output that takes a little each second is waited for.
        """
        length = int(100 * (LAST_WAIT - 2))
        self.assertEqual(self.lastLines(length), length)

    def test_tooSlowAtTheEnd(self) -> None:
        """
        It is not waited for longer than L{LAST_WAIT} in all.
        """
        self.assertEqual(self.lastLines(10_000), 100 * LAST_WAIT)

    def test_tooLong(self) -> None:
        """
        A text that is longer than all that may be held is dropped, which is said,
        and holds up nothing else; whether the reactor runs or not.
        """
        globalLogPublisher.addObserver(self.writer)
        self.addCleanup(globalLogPublisher.removeObserver, self.writer)
        for stop in (False, True):
            if stop:
                self.reactor.end()
            self.writer.write("before\n")
            self.writer.write("x" * MOST_HELD + "\n")
            self.writer.write("after\n")
            self.reactor.advance(EVERY)
            lines = self.disk.text.decode().splitlines()
            self.disk.text = b""
            self.assertEqual((lines[0], lines[2]), ("before", "after"))
            self.assertIn("1 lines of the log were dropped here", lines[1])
            self.writer.write("x" * MOST_HELD + "\n")
            self.writer.write("after\n")
            self.reactor.advance(EVERY)
            self.assertTrue(self.disk.text.endswith(b"\nafter\n"))
            self.disk.text = b""

    def test_anyText(self) -> None:
        """
        Text with characters that cannot be encoded is written all the same.
        """
        self.writer.write("é\udcff\n")
        self.reactor.advance(EVERY)
        self.assertEqual(self.disk.text, "é\\udcff\n".encode())

    def test_notRunning(self) -> None:
        """
        Before the reactor runs, and after, each line is written as it comes, so that a
        process that ends then loses none.
        """
        reactor = Reactor()
        writer = LogWriter(reactor, sys.stdout)
        writer.write("cannot start\n")
        self.assertEqual(self.disk.text, b"cannot start\n")
        reactor.begin()
        writer.write("served\n")
        self.assertEqual(self.disk.text, b"cannot start\n")
        reactor.end()
        writer.write("ended\n")
        self.assertEqual(self.disk.text, b"cannot start\nserved\nended\n")
        writer.close()
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_closed(self) -> None:
        """
        A writer that is closed has written all, and leaves nothing in the
        reactor, whether that has started or not.
        """
        self.writer.write("last\n")
        self.writer.close()
        self.writer.close()
        self.assertEqual(self.disk.text, b"last\n")
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.atTheEnd, [])
        self.reactor.begin()
        self.writer.write("later\n")
        self.assertEqual(self.disk.text, b"last\nlater\n")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_otherThread(self) -> None:
        """
        A line from another thread is left to the reactor's.
        """
        self.patch(module, "get_ident", lambda: 0)
        self.writer.write("from afar\n")
        self.patch(module, "get_ident", get_ident)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        ((call, arguments),) = self.reactor.fromThreads
        call(*arguments)
        self.reactor.advance(EVERY)
        self.assertEqual(self.disk.text, b"from afar\n")

    def test_fullDisk(self) -> None:
        """
        While the disk is full, lines are held and tried again; when there is
        space again, no line is missing and none is torn.
        """
        self.disk.room = 7
        for number in range(3):
            self.writer.write(f"line {number}\n")
        self.reactor.advance(5)
        self.assertEqual(self.disk.text, b"line 0\n")
        self.writer.write("line 3\n")
        self.reactor.advance(5)
        self.assertLess(self.disk.writes, 130)
        self.disk.room = 1000
        self.reactor.advance(EVERY)
        self.assertEqual(self.disk.text, b"line 0\nline 1\nline 2\nline 3\n")
        self.assertEqual(self.writer.dropped, 0)

    def test_batchWhileFull(self) -> None:
        """
        A batch that goes in part while others are gathered is tried again soon,
        and not for each line.
        """
        line = "x" * 99 + "\n"
        number = 2 * BATCH // len(line)
        self.disk.room = 10
        for _ in range(number):
            self.writer.write(line)
        self.assertEqual(self.disk.writes, 1)
        self.disk.room = 10**9
        self.reactor.advance(SOONEST)
        self.assertEqual(self.disk.text.decode(), line * number)

    def test_fullDiskAtTheEnd(self) -> None:
        """
        A disk that is full at the end does not hold the end up, and the lines
        that are lost are counted on standard error.
        """
        self.disk.room = 0
        for number in range(3):
            self.writer.write(f"line {number}\n")
        self.reactor.end()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.disk.writes, 2)  # the other is what counts them
        self.disk.room = 1000
        self.reactor.end()
        self.assertEqual(self.disk.text, b"line 0\nline 1\nline 2\n")

    def test_noStandardError(self) -> None:
        """
        Nor does it matter if there is no standard error.
        """
        self.patch(sys, "__stderr__", None)
        self.disk.room = 0
        self.writer.write("line\n")
        self.reactor.end()
        self.assertEqual(self.disk.writes, 1)


class StuckTests(Case):
    """
    Readers that do not read.
    """

    def fill(self, writer: LogWriter, size: int) -> list[str]:
        """
        Write lines of so many characters in all, while time passes.
        """
        lines = [f"line {number:06} {'x' * 87}\n" for number in range(size // 100)]
        for number, line in enumerate(lines):
            writer.write(line)
            if not number % 100:
                self.reactor.advance(EVERY)
        return lines

    def check(
        self, reading: int, writer: LogWriter, again: Callable[[], None] = lambda: None
    ) -> None:
        """
        Check that a reader that does not read holds nothing up. When it reads again it
        gets the held lines, without a gap, then a line that says how many were dropped,
        and then the lines that came after.

        @param again: Has the reader read again.
        """
        globalLogPublisher.addObserver(writer)
        self.addCleanup(globalLogPublisher.removeObserver, writer)
        lines = self.fill(writer, 3 * MOST_HELD)
        self.assertGreater(writer.dropped, 100)
        # Nobody is asked more often than it takes.
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        again()
        came = self.readAll(reading).replace(b"\r", b"").decode().splitlines(True)
        kept = len(lines) - writer.dropped
        self.assertEqual(came[:kept], lines[:kept])
        self.assertEqual(len(came), kept + 1)
        self.assertIn(f"#warn] {writer.dropped} lines of the log were ", came[-1])
        writer.write("later\n")
        self.assertEqual(self.readAll(reading, 0.2).split(), [b"later"])
        self.reactor.advance(EVERY)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_pipe(self) -> None:
        """
        The output is a pipe. The shell that has the pipe open too does not find it
        changed.
        """
        reading, file = self.pipe()
        self.check(reading, self.writerTo(file))
        self.assertTrue(os.get_blocking(file.fileno()))

    def _notOpened(self) -> None:
        """
        Play a container, where the pipe belongs to another user.
        """

        def refuse(*arguments: object) -> int:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(os, "open", refuse)

    def test_pipeNotOpened(self) -> None:
        """
        A pipe that we may not open once more.
        """
        self._notOpened()
        self.test_pipe()

    def test_socket(self) -> None:
        """
        The output is a socket, as a service manager gives it.
        """
        reading, file = self.sockets()
        self.check(reading, self.writerTo(file))
        self.assertTrue(os.get_blocking(file.fileno()))

    def test_terminal(self) -> None:
        """
        The output is a terminal whose user has stopped it.
        """
        reading, writing = pty.openpty()
        self.addCleanup(os.close, reading)
        os.set_blocking(reading, False)
        file = self.enterContext(os.fdopen(writing, "w"))
        termios.tcflow(file.fileno(), termios.TCOOFF)
        writer = self.writerTo(file)
        self.check(
            reading, writer, lambda: termios.tcflow(file.fileno(), termios.TCOON)
        )
        self.assertTrue(os.get_blocking(file.fileno()))

    def test_readerLeft(self) -> None:
        """
        A reader that is gone holds nothing up, not even the end.
        """
        for opened in (True, False):
            if not opened:
                self._notOpened()
            reading, file = self.pipe()
            writer = self.writerTo(file)
            os.close(reading)
            self.fill(writer, 2 * MOST_HELD)
            self.assertGreater(writer.dropped, 100)
            self.patch(module, "PATIENCE", 3600.0)
            writer.close()

    def test_stuckAtTheEnd(self) -> None:
        """
        At the end a reader that does not read is waited for, but not for long;
        what is lost is said on standard error.
        """
        reading, file = self.pipe()
        writer = self.writerTo(file)
        lines = self.fill(writer, 2 * MOST_HELD)
        self.reactor.end()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        writer.write("Server Shut Down.\n")
        came = self.read(reading).count(b"\n")
        self.errors.seek(0)
        self.assertEqual(
            self.errors.read(),
            f"iawlb: {len(lines) - came} lines of the log are lost: nobody took them\n",
        )

    def test_lateAtTheEnd(self) -> None:
        """
        A reader that is only late at the end gets all, also what is said after
        the reactor has stopped.
        """
        self.patch(module, "PATIENCE", 30.0)
        for kind in (self.pipe, self.sockets):
            self._late(*kind())

    def _late(self, reading: int, file: Any) -> None:
        writer = self.writerTo(file)
        lines = self.fill(writer, MOST_HELD // 2)
        came = []

        def read() -> None:
            os.set_blocking(reading, True)
            with os.fdopen(reading, closefd=False) as reader:
                came.extend(reader.readlines())

        thread = Thread(target=read)
        thread.start()
        self.reactor.end()
        writer.write("Server Shut Down.\n")
        writer.close()
        file.close()
        thread.join()
        self.assertEqual(came, [*lines, "Server Shut Down.\n"])
        self.assertEqual(writer.dropped, 0)


class FileTests(Case):
    """
    Files.
    """

    def test_regular(self) -> None:
        """
        A file of the program's own.
        """
        with open(self.folder / "log", "a") as file:
            writer = self.writerTo(file)
            writer.write("line\n")
            writer.close()
        self.assertEqual((self.folder / "log").read_text(), "line\n")

    def test_nothing(self) -> None:
        """
        The device that takes everything.
        """
        with open(os.devnull, "w") as file:
            writer = self.writerTo(file)
            writer.write("line\n")
            writer.close()
        self.assertEqual(writer.dropped, 0)

    def test_rotated(self) -> None:
        """
        A log file of Twisted's continues in a new file when it is rotated, by its size
        or by another program, and no line is lost.
        """
        path = self.folder / "log"
        file: Any = LogFile.fromFullPath(str(path), rotateLength=1000)
        self.addCleanup(file.close)
        writer = self.writerTo(file)
        for number in range(20):
            writer.write(f"line {number}\n" * 10)
            self.reactor.advance(EVERY)
        file.rotate()
        writer.write("new\n")
        writer.close()
        self.assertEqual(path.read_text(), "new\n")
        old = [Path(f"{path}.{number}") for number in file.listLogs()]
        self.assertEqual(len(old), 2)
        lines = "".join(each.read_text() for each in reversed(old)).splitlines()
        self.assertEqual(lines, [f"line {n // 10}" for n in range(200)])

    def test_fullDisk(self) -> None:
        """
        A disk that takes only a part of a batch, as it is full then, costs no line and
        cuts none in two: the rest is written when there is space.
        """
        path = self.folder / "log"
        file: Any = LogFile.fromFullPath(str(path))
        self.addCleanup(file.close)
        writer = self.writerTo(file)
        lines = [f"line {number}\n" for number in range(100)]
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The kernel then does what it does when the disk is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (333, limits[1]))
        try:
            writer.write("".join(lines))
            self.reactor.advance(EVERY)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(path.stat().st_size, 333)
        self.reactor.advance(EVERY)
        self.assertEqual(path.read_text(), "".join(lines))

    def test_rotationFails(self) -> None:
        """
        A rotation that fails half way, for want of descriptors, costs no line:
        the file is opened again once that can be.
        """
        path = self.folder / "log"
        file: Any = LogFile.fromFullPath(str(path), rotateLength=10)
        self.addCleanup(file.close)
        writer = self.writerTo(file)
        writer.write("old line\n" * 2)
        self.reactor.advance(EVERY)

        def refuse(*arguments: object) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        patches = [
            self.patch(builtins, "open", refuse),
            self.patch(os, "open", refuse),
        ]
        writer.write("new line\n")
        self.reactor.advance(1)
        for patch in patches:
            patch.restore()
        self.reactor.advance(EVERY)
        self.assertEqual(path.read_text(), "new line\n")
        self.assertEqual(Path(f"{path}.1").read_text(), "old line\n" * 2)
        self.assertEqual(writer.dropped, 0)

    def test_fullAtTheEnd(self) -> None:
        """
        A disk that is full at the end is not waited for.
        """
        self.patch(module, "PATIENCE", 3600.0)
        writer = self.writerTo(self.enterContext(open("/dev/full", "w")))
        writer.write("line\n")
        writer.close()
        file: Any = LogFile.fromFullPath(str(self.folder / "log"))
        self.addCleanup(file.close)

        def refuse() -> bool:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(file, "shouldRotate", refuse)
        writer = self.writerTo(file)
        writer.write("line\n")
        writer.close()
        self.errors.seek(0)
        line = "iawlb: 1 lines of the log are lost: nobody took them\n"
        self.assertEqual(self.errors.read(), 2 * line)

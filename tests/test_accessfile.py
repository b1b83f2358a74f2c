"""
Tests for the file of an access log.
"""

from __future__ import annotations

import os
import resource
import stat
import tempfile
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.observe import accessfile as module
from iawlb.observe.accessfile import CHECK, AccessFile
from iawlb.observe.writer import EVERY, MOST_HELD, LogWriter
from tests.test_writer import Reactor


class Case(SynchronousTestCase):
    """
    A folder for the file.
    """

    def setUp(self) -> None:
        """
        Make the folder, and a clock.
        """
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "access"
        self.now = 100.0
        self.patch(module, "monotonic", lambda: self.now)

    def file(self) -> AccessFile:
        """
        Open the file.
        """
        file = AccessFile(str(self.path))
        self.addCleanup(file.close)
        return file

    def write(self, file: AccessFile, text: str) -> int:
        """
        Write a text.
        """
        return file.write(memoryview(text.encode()))


class OpenTests(Case):
    """
    Opening and appending.
    """

    def test_mode(self) -> None:
        """
        A new file can be read by its group and not by others, whatever the umask.
        """
        for mask in (0o077, 0o000):
            before = os.umask(mask)
            try:
                self.write(self.file(), "line\n")
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)
            self.path.unlink()

    def test_append(self) -> None:
        """
        A file that exists is continued, and keeps its permissions.
        """
        self.path.write_text("old\n")
        self.path.chmod(0o600)
        self.assertEqual(self.write(self.file(), "new\n"), 4)
        self.assertEqual(self.path.read_text(), "old\nnew\n")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_notOpened(self) -> None:
        """
        What cannot be opened raises at once.
        """
        self.assertRaises(OSError, AccessFile, str(self.folder))
        self.assertRaises(OSError, AccessFile, str(self.folder / "no" / "access"))

    def test_namedPipe(self) -> None:
        """
        A named pipe needs a reader, and is written to as far as the reader has left
        room.
        """
        os.mkfifo(self.path)
        self.assertRaises(OSError, AccessFile, str(self.path))
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        file = self.file()
        self.assertTrue(file.wait(0))
        sent = self.write(file, "line\n" * 100_000)
        self.assertLess(sent, 500_000)
        self.assertFalse(file.wait(0))
        self.assertEqual(len(os.read(reader, 1_000_000)), sent)


class MovedTests(Case):
    """
    Files that other programs change.
    """

    def later(self) -> None:
        """
        Let the time come at which the file is looked at again.
        """
        self.now += CHECK

    def test_moved(self) -> None:
        """
        A file that was moved is written to for up to a second, and then a new one is
        begun under its name.
        """
        file = self.file()
        self.write(file, "one\n")
        moved = self.path.rename(self.folder / "access.1")
        self.write(file, "two\n")
        self.assertFalse(self.path.exists())
        self.later()
        self.write(file, "three\n")
        self.assertEqual(moved.read_text(), "one\ntwo\n")
        self.assertEqual(self.path.read_text(), "three\n")

    def test_replaced(self) -> None:
        """
        The same if there is another file of that name already.
        """
        file = self.file()
        self.write(file, "one\n")
        moved = self.path.rename(self.folder / "access.1")
        self.path.write_text("")
        self.later()
        self.write(file, "two\n")
        self.assertEqual(moved.read_text(), "one\n")
        self.assertEqual(self.path.read_text(), "two\n")

    def test_removed(self) -> None:
        """
        A file that was removed is made anew.
        """
        file = self.file()
        self.path.unlink()
        self.later()
        self.write(file, "line\n")
        self.assertEqual(self.path.read_text(), "line\n")

    def test_asked(self) -> None:
        """
        Asked to, it is opened anew at once; and left as it is if it was not moved.
        """
        file = self.file()
        self.write(file, "one\n")
        file.reopen()
        self.write(file, "two\n")
        moved = self.path.rename(self.folder / "access.1")
        file.reopen()
        self.write(file, "three\n")
        self.assertEqual(moved.read_text(), "one\ntwo\n")
        self.assertEqual(self.path.read_text(), "three\n")

    def test_cut(self) -> None:
        """
        A file that was copied and cut is continued from its beginning.
        """
        file = self.file()
        self.write(file, "one\n")
        os.truncate(self.path, 0)
        self.write(file, "two\n")
        self.assertEqual(self.path.read_text(), "two\n")

    def test_cannotBeOpenedAnew(self) -> None:
        """
        If no new file can be made, the old one is written to, the reason is logged
        once, and a new file is made as soon as it can be.
        """
        inner = self.folder / "inner"
        inner.mkdir()
        self.path = inner / "access"
        file = self.file()
        gone = inner.rename(self.folder / "gone")
        with capturedLogs() as captured:
            for _ in range(3):
                self.later()
                self.assertEqual(self.write(file, "held\n"), 5)
        self.assertEqual(
            [formatEvent(each) for each in captured],
            [
                f"{self.path} cannot be opened anew: No such file or directory; the "
                "old file is written to"
            ],
        )
        self.assertEqual((gone / "access").read_text(), "held\n" * 3)
        inner.mkdir()
        self.later()
        self.write(file, "new\n")
        self.assertEqual(self.path.read_text(), "new\n")

    def test_manyMoves(self) -> None:
        """
        No descriptor is left open, however often the file is moved.
        """
        file = self.file()
        before = len(os.listdir("/proc/self/fd"))
        for number in range(50):
            self.path.rename(self.folder / f"access.{number}")
            self.later()
            self.write(file, f"{number}\n")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class FullTests(Case):
    """
    A disk that is full.
    """

    def setUp(self) -> None:
        """
        Make a writer.
        """
        super().setUp()
        if "PYTEST_CURRENT_TEST" not in os.environ:
            raise SkipTest("trial's own log would meet the limit, too")
        self.reactor = Reactor()
        self.output = self.file()
        self.writer = LogWriter(self.reactor, self.output, "access log")
        self.addCleanup(self.writer.close)
        # The test closes the file by its own cleanup.
        self.output.close = lambda: None  # type: ignore[method-assign]
        self.reactor.begin()

    def limit(self, size: int) -> None:
        """
        Let the kernel do what it does when the disk is full.
        """
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    def test_wholeLines(self) -> None:
        """
        A full disk cuts no line in two, and no line is lost or doubled when there is
        space again.
        """
        lines = [f"line {number}\n" for number in range(100)]
        self.limit(333)
        with capturedLogs() as captured:
            self.writer.write("".join(lines))
            self.reactor.advance(EVERY)
            whole = self.path.read_text()
            self.assertTrue(whole.endswith("\n"))
            self.assertLess(300, len(whole))
            for _ in range(20):
                self.reactor.advance(EVERY)
            self.assertEqual(self.path.read_text(), whole)
            self.limit(resource.RLIM_INFINITY)
            self.reactor.advance(EVERY)
        self.assertEqual(self.path.read_text(), "".join(lines))
        self.assertEqual(self.writer.dropped, 0)
        (said,) = map(formatEvent, captured)
        self.assertIn("the access log cannot be written: No space left on device", said)

    def test_dropped(self) -> None:
        """
        What a full disk makes the writer drop is counted, and said elsewhere when there
        is space again.
        """
        self.limit(100)
        number = 2 * MOST_HELD // 100
        with capturedLogs() as captured:
            for each in range(number):
                self.writer.write(f"{each:>99}\n")
            self.assertGreater(self.writer.dropped, number // 3)
            self.limit(resource.RLIM_INFINITY)
            self.reactor.advance(EVERY)
            self.writer.writeNow()
        kept = [int(each) for each in self.path.read_text().splitlines()]
        self.assertEqual(len(kept) + self.writer.dropped, number)
        self.assertEqual(kept, sorted(set(kept)))
        self.assertEqual(
            formatEvent(list(captured)[-1]),
            f"{self.writer.dropped} lines of the access log were dropped: nobody took "
            "them",
        )

    def test_sharedFile(self) -> None:
        """
        A file that another program appends to is never cut.
        """
        write = os.write

        def part(number: int, data: Any) -> int:
            sent = write(number, data[:3])
            with open(self.path, "a") as other:
                other.write("other\n")
            return sent

        self.patch(os, "write", part)
        self.assertEqual(self.output.write(memoryview(b"a\nb\n")), 3)
        self.assertEqual(self.path.read_text(), "a\nbother\n")

"""
Tests for where the log of the process goes.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, Logger
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase

from iawlb.observe.writer import LogWriter
from iawlb.process.processlog import takeLog


class Case(SynchronousTestCase):
    """
    A process that is about to begin its log.
    """

    def setUp(self) -> None:
        """
        Make a folder, and a pipe as standard output.
        """
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.reactor: Any = MemoryReactorClock()
        self.application = Application("iawlb")
        number, writing = os.pipe()
        self.reading = self.enterContext(os.fdopen(number))
        self.stdout = self.enterContext(os.fdopen(writing, "w"))
        self.patch(sys, "stdout", self.stdout)
        self.handlers: dict[int, Callable[..., object]] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)

        self.patch(LogFile, "fromFullPath", self.logFile)

    def logFile(self, path: str) -> Any:
        """
        Open a log file; it is closed after the test.
        """
        file: Any = LogFile(os.path.basename(path), os.path.dirname(path) or ".")
        self.addCleanup(file.close)
        return file

    def take(self, **launcher: Any) -> LogWriter | None:
        """
        Take the log.
        """
        return takeLog(launcher, self.application, self.reactor)

    def takeTwistds(self, **options: Any) -> LogWriter | None:
        """
        Take twistd's log, in the foreground by default.
        """
        default = {"nodaemon": True, "logfile": None, "syslog": False, "logger": None}
        return self.take(**{**default, **options})


class TwistdTests(Case):
    """
    The log of twistd.
    """

    def assertLeft(self, writer: LogWriter | None) -> None:
        """
        Check that the log is left to twistd.
        """
        self.assertIsNone(writer)
        self.assertIsNone(self.application.getComponent(ILogObserver))

    def test_foreground(self) -> None:
        """
        In the foreground the log goes to standard output, whether that is asked for or
        not; the lines of sessions, which bypass Twisted's logger, are among Twisted's
        lines in the order in which they came.
        """
        for name in (None, "", "-"):
            writer = self.takeTwistds(logfile=name)
            assert writer is not None
            self.addCleanup(writer.close)
            observer = self.application.getComponent(ILogObserver)
            Logger("one", observer=observer).info("first")
            writer.write("second\n")
            Logger("one", observer=observer).info("third")
            lines = [self.reading.readline() for _ in range(3)]
            self.assertIn("[one#info] first\n", lines[0])
            self.assertEqual(lines[1], "second\n")
            self.assertIn("[one#info] third\n", lines[2])

    def test_file(self) -> None:
        """
        A log file is Twisted's, which rotates; a daemon's has a default name.
        """
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        for options, name in (
            ({"logfile": "own.log"}, "own.log"),
            ({"nodaemon": False, "logfile": None}, "twistd.log"),
        ):
            writer = self.takeTwistds(**options)
            assert writer is not None
            self.addCleanup(writer.close)
            writer.write("line\n")
            self.assertEqual((self.folder / name).read_text(), "line\n")
            observer = self.application.getComponent(ILogObserver)
            self.assertIs(observer, writer)

    def test_signal(self) -> None:
        """
        SIGUSR1 begins a new log file, as with twistd's own log; but if the signal has a
        handler already, the handler stays.
        """
        path = self.folder / "log"
        self.reactor.callFromThread = lambda call, *arguments: call(*arguments)
        writer = self.takeTwistds(logfile=str(path))
        assert writer is not None
        self.addCleanup(writer.close)
        writer.write("old\n")
        self.handlers.pop(signal.SIGUSR1)(signal.SIGUSR1, None)
        writer.write("new\n")
        self.assertEqual(Path(f"{path}.1").read_text(), "old\n")
        self.assertEqual(path.read_text(), "new\n")
        self.patch(signal, "getsignal", lambda number: print)
        other = self.takeTwistds(logfile=str(path))
        assert other is not None
        self.addCleanup(other.close)
        self.assertEqual(self.handlers, {})

    def test_movedAway(self) -> None:
        """
        A log file that another program, such as logrotate, has moved away is not
        written to any more after SIGUSR1, nor moved again.
        """
        path = self.folder / "log"
        self.reactor.callFromThread = lambda call, *arguments: call(*arguments)
        writer = self.takeTwistds(logfile=str(path))
        assert writer is not None
        self.addCleanup(writer.close)
        writer.write("old\n")
        path.rename(self.folder / "log.1")
        self.handlers.pop(signal.SIGUSR1)(signal.SIGUSR1, None)
        writer.write("new\n")
        self.assertEqual((self.folder / "log.1").read_text(), "old\n")
        self.assertEqual(path.read_text(), "new\n")
        self.assertFalse((self.folder / "log.2").exists())

    def test_elsewhere(self) -> None:
        """
        Where twistd logs to neither a file nor standard output, the log is left to
        twistd; so are options that twistd refuses.
        """
        self.assertLeft(self.takeTwistds(syslog=True))
        self.assertLeft(self.takeTwistds(logger=lambda: None))
        self.assertLeft(self.takeTwistds(nodaemon=False, logfile="-"))

    def test_noDescriptor(self) -> None:
        """
        So it is if standard output is closed, or an object in memory.
        """
        for file in (None, StringIO()):
            self.patch(sys, "stdout", file)
            self.assertLeft(self.takeTwistds())


class TwistTests(Case):
    """
    The log of twist.
    """

    def test_taken(self) -> None:
        """
        The log that twist writes, JSON or text, goes through a writer; the lines of
        sessions go through Twisted's logger like all others.
        """
        launcher: dict[str, Any] = {"logFile": self.stdout}
        self.assertIsNone(takeLog(launcher, self.application, self.reactor))
        writer = launcher["logFile"]
        self.addCleanup(writer.close)
        writer.write("line\n")
        self.assertEqual(self.reading.readline(), "line\n")

    def test_notTaken(self) -> None:
        """
        An object in memory is left as it is; so are launchers of other kinds.
        """
        file = StringIO()
        launcher: dict[str, Any] = {"logFile": file}
        self.assertIsNone(takeLog(launcher, self.application, self.reactor))
        self.assertIs(launcher["logFile"], file)
        self.assertIsNone(self.take())

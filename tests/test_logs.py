"""
Tests for all that the process writes.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger

from iawlb.core.events import SESSION_ENDED
from iawlb.core.outcome import Outcome
from iawlb.errors import InvalidSetting
from iawlb.process.logs import Logs
from iawlb.processsettings import ProcessSettings
from tests.doubles import session
from tests.test_processlog import Case


class LogsTests(Case):
    """
    L{Logs}.
    """

    def setUp(self) -> None:
        """
        Let calls of threads and signals happen at once.
        """
        super().setUp()
        self.reactor.callFromThread = lambda call, *arguments: call(*arguments)
        self.patch(signal, "getsignal", lambda number: self.handlers.get(number))

    def begin(self, launcher: Any = "twistd", **settings: Any) -> Logs:
        """
        Begin the logs, by default in twistd's foreground.
        """
        logs = Logs(self.reactor, ProcessSettings(**settings))
        if launcher == "twistd":
            launcher = self.launcher()
        logs.begin(launcher, self.application)
        for writer in {logs.messages, logs.access.writer} - {None}:
            assert writer is not None
            self.addCleanup(writer.close)
        return logs

    def launcher(self, **options: Any) -> dict[str, Any]:
        """
        Make the options of twistd.
        """
        default = {"nodaemon": 1, "logfile": None, "syslog": False, "logger": None}
        return {**default, **options}

    def end(self, logs: Logs) -> None:
        """
        Let a session end.
        """
        one = session(1)
        one.ended, one.outcome = 1.0, Outcome.DONE
        logs.access.sessionChanged(one, SESSION_ENDED)

    def message(self) -> Logger:
        """
        Return a logger whose messages go where twistd's go.
        """
        return Logger(
            "iawlb.some", observer=self.application.getComponent(ILogObserver)
        )

    def test_together(self) -> None:
        """
        By default the lines of sessions are among the messages; also if standard output
        is named, where the messages go too.
        """
        for to in ("-", "stdout"):
            self.application = Application("iawlb")
            logs = self.begin(logTo=to, logFormat="{id} {code}")
            self.assertIs(logs.access.writer, logs.messages)
            self.message().info("message")
            self.end(logs)
            self.assertIn("#info] message\n", self.reading.readline())
            self.assertEqual(self.reading.readline(), "1 --\n")

    def test_file(self) -> None:
        """
        Lines of sessions go to a file of their own.
        """
        path = self.folder / "access"
        logs = self.begin(logTo=str(path), logFormat="{id}")
        self.end(logs)
        self.assertEqual(path.read_text(), "1\n")
        self.assertIsNot(logs.access.writer, logs.messages)

    def test_stdoutApart(self) -> None:
        """
        Lines of sessions go to standard output while the messages go to a file.
        """
        own = self.launcher(logfile=str(self.folder / "messages"))
        logs = self.begin(own, logTo="stdout", logFormat="{id}")
        self.message().info("message")
        self.end(logs)
        self.assertEqual(self.reading.readline(), "1\n")
        self.assertIn("message", (self.folder / "messages").read_text())

    def test_daemon(self) -> None:
        """
        A daemon has no standard output.
        """
        own = self.launcher(logfile=str(self.folder / "messages"), nodaemon=0)
        error = self.assertRaises(InvalidSetting, self.begin, own, logTo="stdout")
        self.assertIn("a daemon has no standard output", str(error))

    def test_notOpened(self) -> None:
        """
        A place that cannot be opened is said.
        """
        error = self.assertRaises(InvalidSetting, self.begin, logTo="/nowhere/log")
        self.assertIn("/nowhere/log: No such file", str(error))

    def test_signal(self) -> None:
        """
        SIGUSR1 begins new files, for the lines of sessions and for the messages.
        """
        path, messages = self.folder / "access", self.folder / "messages"
        own = self.launcher(logfile=str(messages))
        logs = self.begin(own, logTo=str(path), logFormat="{id}")
        self.message().info("before")
        self.end(logs)
        for each in (path, messages):
            each.rename(f"{each}.1")
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.message().info("after")
        self.end(logs)
        for each, word in ((path, "1"), (messages, "after")):
            self.assertIn(word, each.read_text())
            self.assertEqual(Path(f"{each}.1").read_text().count("\n"), 1)

    def test_signalAlone(self) -> None:
        """
        In the foreground SIGUSR1 does so for the lines of sessions, rather than end the
        process.
        """
        path = self.folder / "access"
        logs = self.begin(logTo=str(path), logFormat="{id}")
        self.end(logs)
        path.rename(f"{path}.1")
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.assertEqual(path.read_text(), "")

    def test_signalWithoutFile(self) -> None:
        """
        Where all lines go to the standard output, SIGUSR1 changes nothing, rather than
        end the process and with it all connections.
        """
        logs = self.begin(logFormat="{id}")
        self.end(logs)
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.end(logs)
        self.assertEqual(self.reading.readline(), "1\n")
        self.assertEqual(self.reading.readline(), "1\n")

    def test_noLauncher(self) -> None:
        """
        In another program's application only the lines of sessions are written here.
        """
        logs = self.begin(None)
        self.assertIsNone(logs.access.writer)
        self.assertEqual(logs.dropped, 0)
        self.assertEqual(logs.level, "info")
        logs.flush()
        logs.reopen()
        logs = self.begin(None, logTo=str(self.folder / "access"))
        self.end(logs)
        self.assertTrue((self.folder / "access").read_text())

    def test_level(self) -> None:
        """
        The level of the messages is that of the settings, and can be set at any time;
        the lines of sessions do not depend on it.
        """
        logs = self.begin(logFormat="{id}", logLevel="warn")
        self.assertEqual(logs.level, "warn")
        self.message().info("one")
        self.message().error("two")
        logs.setLevel("debug")
        self.message().debug("three")
        logs.setLevel("critical")
        self.message().error("four")
        self.end(logs)
        lines = [self.reading.readline() for _ in range(3)]
        words = [line.split()[-1] for line in lines]
        self.assertEqual(words, ["two", "three", "1"])

    def test_wrongLevel(self) -> None:
        """
        A level that does not exist is refused, and so is each one while Twisted writes
        the messages.
        """
        error = self.assertRaises(InvalidSetting, self.begin().setLevel, "loud")
        self.assertIn("debug, info, warn, error, critical", str(error))
        logs = self.begin(self.launcher(syslog=True))
        error = self.assertRaises(InvalidSetting, logs.setLevel, "debug")
        self.assertIn("Twisted writes the messages itself", str(error))

    def test_whenDropped(self) -> None:
        """
        A function of the process gets the number of lines that were dropped, when lines
        are taken again.
        """
        numbers: list[int] = []
        self.begin(None).whenDropped(numbers.append)
        logs = self.begin(logTo="stdout")
        logs.whenDropped(numbers.append)
        assert logs.messages is not None
        logs.messages.dropped = 7
        logs.messages.write("line\n")
        self.assertEqual(numbers, [7])

    def test_dropped(self) -> None:
        """
        The dropped lines of all writers are counted, each once.
        """
        logs = self.begin(logTo=str(self.folder / "access"))
        assert logs.messages is not None and logs.access.writer is not None
        logs.messages.dropped = 2
        logs.access.writer.dropped = 3
        self.assertEqual(logs.dropped, 5)
        logs.flush()
        logs = self.begin()
        assert logs.messages is not None
        logs.messages.dropped = 2
        self.assertEqual(logs.dropped, 2)

"""
L{Logs}, all that the process writes: lines of sessions, and messages beside them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, MutableMapping
from typing import Any

from twisted.logger import LogLevel
from twisted.python.components import Componentized

from iawlb.errors import InvalidSetting
from iawlb.observe.accesslog import AccessLog
from iawlb.observe.targets import addsTime, openTarget
from iawlb.observe.writer import LogWriter
from iawlb.process.processlog import takeLog
from iawlb.processsettings import ProcessSettings


class Logs:
    """
    The lines of sessions, which go to a place of their own if one is given, and the
    messages beside them.

    @ivar access: Writes the lines of sessions.
    @ivar messages: Writes the messages, and the lines of sessions that have no place of
        their own; L{None} if Twisted does.
    """

    def __init__(self, reactor: Any, settings: ProcessSettings) -> None:
        self.messages: LogWriter | None = None
        self._reactor = reactor
        self._to = settings.logTo
        self._level = settings.logLevel
        self.access = AccessLog(
            reactor,
            settings.logFormat,
            null=settings.logNull,
            connect=settings.logConnect,
            interval=settings.logInterval,
            timed=addsTime(settings.logTo),
        )

    def begin(
        self, launcher: MutableMapping[str, Any] | None, application: Componentized
    ) -> None:
        """
        Open what is written to. Call this before the log begins.

        @param launcher: The options of C{twistd} or C{twist}, if one of them runs the
            process.
        @raise InvalidSetting: The place of the lines cannot be opened.
        """
        if launcher is not None:
            self.messages = takeLog(launcher, application, self._reactor)
        if self.messages is not None:
            self.setLevel(self._level)
        if self._to == "-":
            self.access.writer = self.messages
        elif self._to == "stdout" and self.messages is not None and onStdout(launcher):
            # Two writers would cut each other's lines.
            self.access.writer = self.messages
        else:
            if self._to == "stdout" and launcher and launcher.get("nodaemon") == 0:
                raise InvalidSetting(
                    "a daemon has no standard output: give a path, or twistd its -n"
                )
            self.access.writer = openTarget(self._reactor, self._to)
        if launcher is not None or self._to != "-":
            self._reopenOnSignal()

    def _reopenOnSignal(self) -> None:
        """
        Open the file anew at SIGUSR1, after what that signal does already. If there is
        no file, do nothing: a signal sent by a tool that rotates logs would end the
        process otherwise, and cut all its connections.
        """
        before = signal.getsignal(signal.SIGUSR1)

        def signalled(number: int, frame: Any) -> None:
            self._reactor.callFromThread(self.access.reopen)
            if callable(before):
                before(number, frame)

        signal.signal(signal.SIGUSR1, signalled)

    @property
    def dropped(self) -> int:
        """
        The number of lines that were dropped, since nobody took them.
        """
        writers = {self.messages, self.access.writer} - {None}
        return sum(each.dropped for each in writers if each is not None)

    @property
    def level(self) -> str:
        """
        The least important messages that are written.
        """
        return self._level if self.messages is None else self.messages.level.name

    def setLevel(self, word: str) -> None:
        """
        Set the least important messages that are written, from now on.

        @param word: C{debug}, C{info}, C{warn}, C{error} or C{critical}.
        @raise InvalidSetting: It is none of these, or Twisted writes the messages.
        """
        level = ProcessSettings(logLevel=word).logLevel
        if self.messages is None:
            raise InvalidSetting(
                "the level cannot be set, as Twisted writes the messages itself: run "
                "without --syslog and --logger"
            )
        self.messages.level = LogLevel.levelWithName(level)

    def whenDropped(self, call: Callable[[int], object]) -> None:
        """
        Have a function called with the number of lines that were dropped, each time
        that lines were dropped and then are taken again. Call this after L{begin}.
        """
        for writer in (self.messages, self.access.writer):
            if writer is not None:
                writer.onDropped = call

    def flush(self) -> None:
        """
        Write what is held now, as far as it is taken.
        """
        self.access.flush()
        if self.messages is not None:
            self.messages.writeNow()

    def reopen(self) -> None:
        """
        Write the lines of sessions to a new file if the old one was moved.
        """
        self.access.reopen()


def onStdout(launcher: MutableMapping[str, Any] | None) -> bool:
    """
    Return whether twistd writes its log to standard output.
    """
    return launcher is not None and launcher.get("logfile") in (None, "", "-")

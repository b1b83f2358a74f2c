"""
Write log lines in batches, without waiting for the process that reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from time import monotonic
from typing import Any, TextIO

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEventAsClassicLogText,
)
from twisted.python.logfile import BaseLogFile
from zope.interface import implementer

from iawlb.observe.outputs import Output, outputTo

MOST_HELD = 1_048_576
"""
The number of characters held while the output takes nothing; further lines are dropped.
"""

BATCH = 32_768
"""
The number of characters that are written at once; fewer characters wait for others.
This is half of what a pipe holds.
"""

EVERY = 0.1
"""
The longest time that a line waits for others, in seconds, and the longest time between
two tries while the output takes nothing.
"""

SOONEST = 0.001
"""
The shortest time between two tries, in seconds, while the output takes something.
"""

PATIENCE = 1.0
"""
The longest time to wait at the end for the output to take some of the last lines, in
seconds.
"""

LAST_WAIT = 10.0
"""
The longest time to wait at the end for the output to take all lines, in seconds.
"""

OWN = "log"
"""
What the messages call a log that they are themselves written to.
"""


@implementer(ILogObserver)
class LogWriter:
    """
    Gathers lines and writes them in batches. It never waits for the output: what the
    output does not take is held, up to L{MOST_HELD}. Beyond that, lines are dropped and
    counted, until half of the room is free again; then one line says how many.

    While the reactor does not run, each line is written at once. When the reactor
    stops, all lines are written, and if the output does not take them, the writer waits
    for up to a second.

    The writer is an observer for Twisted's logger, which writes the same lines as
    C{textFileLogObserver}, and also a file, for other observers that write text::

        writer = LogWriter(reactor, sys.stdout)
        globalLogBeginner.beginLoggingTo([writer], redirectStandardIO=False)

    @ivar dropped: The number of lines dropped so far.
    @ivar onDropped: Called with a number of lines when it is reported that so many were
        dropped.
    @ivar level: The lowest level of the events of Twisted's logger that are written.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, file: TextIO | BaseLogFile | Output, what: str = OWN
    ) -> None:
        """
        @param file: The file to write to: one with a descriptor, such as C{sys.stdout},
            or a log file of Twisted's. The caller still owns it. Or an output, which
            this writer closes.
        @param what: What the messages about dropped lines call this log.
        """
        self.dropped = 0
        self.onDropped: Callable[[int], object] = lambda number: None
        self.level = LogLevel.debug
        self._what = what
        # Why the output took nothing, if it raised an error that has been logged.
        self._failing: str | None = None
        self._reactor = reactor
        self._file = file
        self._output = outputTo(file)
        self._thread = get_ident()
        # What is held: the rest of a batch that was written in part, and lines.
        self._rest = memoryview(b"")
        self._lines: list[str] = []
        self._size = 0
        # With more characters than this there is something to do besides gathering.
        self._enough = -1
        self._gathering = False
        self._full = False
        self._reported = 0
        self._retry = SOONEST
        # At the end, when to stop waiting for the output.
        self._until = 0.0
        self._timer: IDelayedCall | None = None
        self._closed = False
        reactor.callWhenRunning(self._gather)
        self._trigger = reactor.addSystemEventTrigger("after", "shutdown", self._stop)

    def __call__(self, event: LogEvent) -> None:
        """
        Write an event of Twisted's logger. May be called from any thread.
        """
        if event.get("log_level", LogLevel.critical) < self.level:
            return
        text = formatEventAsClassicLogText(event)
        if text is not None:
            self.write(text)

    def write(self, text: str) -> None:
        """
        Write whole lines, soon. May be called from any thread.
        """
        if get_ident() != self._thread:
            self._reactor.callFromThread(self.write, text)
            return
        self._lines.append(text)
        self._size += len(text)
        if self._size > self._enough:
            self._more(text)

    def flush(self) -> None:
        """
        Do nothing. Observers that use this writer as a file call this after each line.
        """

    def writeNow(self) -> None:
        """
        Write what is held, as far as the output takes it.
        """
        if self._size and not self._closed:
            self._write()

    def reopen(self) -> None:
        """
        Write to a new file if the old one was moved.
        """
        reopen = getattr(self._output, "reopen", None)
        if reopen is not None:
            reopen()

    def close(self) -> None:
        """
        Write all lines, and let go of the reactor and of the output.
        """
        if self._closed:
            return
        self._closed = True
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
        self._stop()
        self._output.close()

    def _gather(self) -> None:
        """
        Called when the reactor runs: gather lines from now on.
        """
        if not self._closed:
            self._gathering = True
            self._write()

    def _stop(self) -> None:
        """
        Called when the reactor has stopped: write all lines, and report how many are
        lost.
        """
        self._trigger = None
        self._gathering = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._until = monotonic() + LAST_WAIT
        self._write()
        lost = self.dropped - self._reported + bytes(self._rest).count(b"\n")
        lost += sum(each.count("\n") for each in self._lines)
        if lost and sys.__stderr__ is not None:
            line = (
                f"iawlb: {lost} lines of the {self._what} are lost: nobody took them\n"
            )
            with suppress(OSError, ValueError):
                errors = outputTo(sys.__stderr__)
                errors.write(memoryview(line.encode()))
                errors.close()

    def _more(self, text: str) -> None:
        """
        Called when a line has made the text longer than C{_enough}: there is a batch,
        or too much, or it is the first line.
        """
        if self._full or self._size > MOST_HELD:
            wasFull, self._full = self._full, True
            self._enough = -1
            self._lines.pop()
            self._size -= len(text)
            self.dropped += text.count("\n")
            if not wasFull or self._timer is None:
                self._write()  # otherwise the timer does it
        elif not self._gathering or self._timer is not None:
            self._write()
        else:
            self._enough = BATCH
            self._timer = self._reactor.callLater(EVERY, self._timeOver)

    def _timeOver(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        """
        Write as much as the output takes, and decide when to write again.
        """
        before = self._size
        done = self._pass()
        while not done and (left := self._until - monotonic()) > 0:
            size = self._size
            done = self._output.wait(min(left, PATIENCE)) and self._pass()
            if self._size == size:
                self._until = 0.0  # the reader takes nothing more
        if self._full and self._size <= MOST_HELD // 2:
            self._full = False
        if not self._gathering or self._full:
            self._enough = -1
        elif done:
            self._enough = -1 if self._timer is None else BATCH
        else:
            self._enough = MOST_HELD
        if self._gathering and not done:
            self._retry = SOONEST if self._size < before else self._retry * 2
            self._retry = min(self._retry, EVERY)
            if self._timer is None:
                self._timer = self._reactor.callLater(self._retry, self._timeOver)
            else:
                self._timer.reset(self._retry)
        if not self._full and self.dropped > self._reported:
            self._reportDropped()

    def _reportDropped(self) -> None:
        """
        Say how many lines were dropped since this was last said.
        """
        number, self._reported = self.dropped - self._reported, self.dropped
        self.log.warn(
            "{number} lines of the {what} were dropped{here}: nobody took them",
            number=number,
            what=self._what,
            here=" here" if self._what == OWN else "",
        )
        self.onDropped(number)

    def _pass(self) -> bool:
        """
        Try to write what is held.

        @return: Whether all of it is written.
        """
        while self._size:
            if not self._rest:
                text = "".join(self._lines)
                self._lines.clear()
                self._rest = memoryview(text.encode(errors="backslashreplace"))
                self._size = len(self._rest)
            try:
                sent = self._output.write(self._rest)
            except BlockingIOError:
                return False
            except OSError as error:
                self._failed(error.strerror or str(error))
                return False
            self._rest = self._rest[sent:]
            self._size -= sent
            if self._output.lost:
                self.dropped += self._output.lost
                self._output.lost = 0
            if self._rest:
                return False
        self._failing = None
        return True

    def _failed(self, why: str) -> None:
        """
        Say once why the output takes nothing, if that can be said elsewhere.
        """
        if self._what != OWN and self._failing != why:
            self._failing = why
            self.log.error(
                "the {what} cannot be written: {why}; its lines are held, and dropped "
                "when they are too many",
                what=self._what,
                why=why,
            )

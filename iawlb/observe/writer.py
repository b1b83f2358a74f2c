"""
Write log lines in batches, without waiting for the process that reads them.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from contextlib import suppress
from threading import get_ident
from time import monotonic
from typing import Any, Protocol, TextIO

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    formatEventAsClassicLogText,
)
from twisted.python.logfile import BaseLogFile
from zope.interface import implementer

from iawlb.compat import positionOf

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
The longest time to wait for the output to take the last lines at the end, in seconds.
"""


class Output(Protocol):
    """
    A destination of the log's bytes.
    """

    def write(self, data: memoryview) -> int:
        """
        Write as much as is possible without waiting.

        @return: How many bytes were written.
        @raise OSError: Writing failed; the caller tries again later.
        """

    def wait(self, seconds: float) -> bool:
        """
        Wait until something can be written.

        @param seconds: The longest time to wait.
        @return: Whether something can be written.
        """

    def close(self) -> None:
        """
        Close the descriptor that this output has opened itself, if any.
        """


class LogFileOutput:
    """
    A log file of Twisted's. It rotates by itself, so each batch is written through it.
    """

    def __init__(self, file: BaseLogFile) -> None:
        # Typed as anything: that it rotates is known of its subclasses alone.
        self._file: Any = file

    def write(self, data: memoryview) -> int:
        """
        Write as many bytes as there is space for.
        """
        file = self._file
        try:
            return self._write(data)
        except ValueError:
            # A rotation that failed, for lack of descriptors for instance, has left the
            # file closed. Opening it fails too while the lack lasts.
            os.close(os.open(file.path, os.O_WRONLY | os.O_CREAT, 0o666))
            file.reopen()
            return self._write(data)

    def _write(self, data: memoryview) -> int:
        file = self._file
        # Before the position is asked for, as the file's own write would rotate too.
        if file.shouldRotate():
            file.rotate()
        before = positionOf(file)
        file.write(bytes(data))
        after = positionOf(file)
        return len(data) if before is None or after is None else after - before

    def wait(self, seconds: float) -> bool:
        """
        Return at once: a disk that is full stays full.
        """
        return False

    def close(self) -> None:
        """
        Leave the file open, for its owner.
        """


class DiskOutput:
    """
    A regular file, or a device that takes everything, such as C{/dev/null}.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, data: memoryview) -> int:
        """
        Write as many bytes as there is space for.
        """
        return os.write(self._number, data)

    def wait(self, seconds: float) -> bool:
        """
        Return at once: a disk that is full stays full.
        """
        return False

    def close(self) -> None:
        """
        Leave the descriptor open, for its owner.
        """


class StreamOutput:
    """
    A pipe or terminal. Other processes, such as a shell, have it open too, and would
    find C{O_NONBLOCK} set on it; so it is opened once more for this object alone. Where
    that is not allowed, poll is asked before each small piece.
    """

    def __init__(self, number: int) -> None:
        self._own = -1
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            self._own = os.open(f"/proc/self/fd/{number}", flags)
        self._number = number if self._own < 0 else self._own
        self._poll = select.poll()
        self._poll.register(self._number, select.POLLOUT)

    def write(self, data: memoryview) -> int:
        """
        Write as many bytes as the reader has left room for.
        """
        if self._own >= 0:
            return os.write(self._number, data)
        sent = 0
        # If poll says that a pipe can be written to, it has room for at least this
        # much.
        while sent < len(data) and self.wait(0):
            sent += os.write(self._number, data[sent : sent + select.PIPE_BUF])
        return sent

    def wait(self, seconds: float) -> bool:
        """
        Wait until the reader has left room.
        """
        return bool(self._poll.poll(seconds * 1000))

    def close(self) -> None:
        """
        Close the descriptor that was opened here.
        """
        if self._own >= 0:
            os.close(self._own)


class SocketOutput:
    """
    A socket, such as the one that systemd's journal gives to a process.
    """

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=os.dup(number))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLOUT)

    def write(self, data: memoryview) -> int:
        """
        Send as many bytes as the reader has left room for.
        """
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def wait(self, seconds: float) -> bool:
        """
        Wait until the reader has left room.
        """
        return bool(self._poll.poll(seconds * 1000))

    def close(self) -> None:
        """
        Close the descriptor that was opened here.
        """
        self._socket.close()


def outputTo(file: Any) -> Output:
    """
    Find out how to write to a file without waiting.

    @param file: Twisted's log file, or anything with a descriptor.
    """
    if isinstance(file, BaseLogFile):
        return LogFileOutput(file)
    number = file.fileno()
    mode = os.fstat(number).st_mode
    if stat.S_ISSOCK(mode):
        return SocketOutput(number)
    if stat.S_ISFIFO(mode) or os.isatty(number):
        return StreamOutput(number)
    return DiskOutput(number)


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
    """

    log = Logger()

    def __init__(self, reactor: Any, file: TextIO | BaseLogFile) -> None:
        """
        @param file: The file to write to: one with a descriptor, such as C{sys.stdout},
            or a log file of Twisted's. The caller still owns it.
        """
        self.dropped = 0
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
        self._patience = 0.0
        self._timer: IDelayedCall | None = None
        self._closed = False
        reactor.callWhenRunning(self._gather)
        self._trigger = reactor.addSystemEventTrigger("after", "shutdown", self._stop)

    def __call__(self, event: LogEvent) -> None:
        """
        Write an event of Twisted's logger. May be called from any thread.
        """
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
        self._patience = PATIENCE
        self._write()
        lost = self.dropped - self._reported + bytes(self._rest).count(b"\n")
        lost += sum(each.count("\n") for each in self._lines)
        if lost and sys.__stderr__ is not None:
            line = f"iawlb: {lost} lines of the log are lost: nobody took them\n"
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
        while not done and self._patience > 0:
            start = monotonic()
            ready = self._output.wait(self._patience)
            self._patience -= monotonic() - start
            size = self._size
            done = ready and self._pass()
            if self._size == size:
                break  # the reader takes nothing more
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
            number, self._reported = self.dropped - self._reported, self.dropped
            self.log.warn(
                "{number} lines of the log were dropped here: nobody took them",
                number=number,
            )

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
            except OSError:
                return False
            self._rest = self._rest[sent:]
            self._size -= sent
            if self._rest:
                return False
        return True

"""
The outputs that log lines can have: each writes bytes without waiting.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from twisted.python.logfile import BaseLogFile

from iawlb.compat import positionOf


class Output(ABC):
    """
    A base of outputs for the log's bytes.

    @ivar lost: The number of lines that were written here and are known to be lost. The
        writer takes the number over, and sets it to 0.
    """

    lost = 0

    @abstractmethod
    def write(self, data: memoryview) -> int:
        """
        Write as much as is possible without waiting.

        @return: How many bytes were written.
        @raise OSError: Writing failed; the caller tries again later.
        """

    def wait(self, seconds: float) -> bool:
        """
        Wait until something can be written. A disk that is full stays full, so nothing
        waits for it.

        @param seconds: The longest time to wait.
        @return: Whether something can be written.
        """
        return False

    def close(self) -> None:  # noqa: B027  # most have opened nothing
        """
        Close the descriptor that this output has opened itself, if any.
        """


class LogFileOutput(Output):
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


class DiskOutput(Output):
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


class StreamOutput(Output):
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


class SocketOutput(Output):
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

    @param file: Twisted's log file, or anything with a descriptor; or an output, which
        is returned as it is.
    """
    if isinstance(file, Output):
        return file
    if isinstance(file, BaseLogFile):
        return LogFileOutput(file)
    number = file.fileno()
    mode = os.fstat(number).st_mode
    if stat.S_ISSOCK(mode):
        return SocketOutput(number)
    if stat.S_ISFIFO(mode) or os.isatty(number):
        return StreamOutput(number)
    return DiskOutput(number)

"""
The output of a program, line by line in the log.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.core.text import printable

LONGEST_LINE = 1000
"""
The number of bytes of a line that are logged. The rest of the line is left out.
"""

LINES_PER_SECOND = 100
"""
The number of lines of a program that are logged in a second. Those beyond are counted.
"""

BYTES_PER_SECOND = 1024 * 1024
"""
The number of bytes of a program's output that are read in a second. A program that
writes more waits in its write.
"""

READ_SIZE = 64 * 1024


class ProgramOutput(FileDescriptor):
    """
    The end of a pipe to which a program writes its output and its errors.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, clock: IReactorTime, name: str, number: int
    ) -> None:
        """
        @param name: What each line begins with.
        @param number: The descriptor, which does not block; closed here at the end.
        """
        super().__init__(reactor)
        self._clock = clock
        self._name = name
        self._number = number
        # The beginning of a line whose end has not come.
        self._begun = b""
        self._lines = 0
        self._bytes = 0
        self._leftOut = 0
        self._second: IDelayedCall | None = None

    def fileno(self) -> int:
        """
        Return the descriptor.
        """
        return self._number

    def doRead(self) -> Failure | None:
        """
        Read some of the output, and log it.
        """
        try:
            data = os.read(self._number, READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            return Failure(error)
        if not data:
            return Failure(ConnectionDone())
        if self._second is None:
            self._second = self._clock.callLater(1.0, self._secondOver)
        self._bytes += len(data)
        self._take(data)
        if self._bytes >= BYTES_PER_SECOND:
            self.stopReading()
        return None

    def _take(self, data: bytes) -> None:
        """
        Log the lines of some output, as far as more may be logged.
        """
        *lines, rest = data.split(b"\n", max(0, LINES_PER_SECOND - self._lines))
        for each in lines:
            self._log(self._begun + each[: LONGEST_LINE + 1])
            self._begun = b""
        whole, end, last = rest.rpartition(b"\n")
        if end:
            self._leftOut += whole.count(b"\n") + 1
            self._begun = b""
        self._begun += last[: LONGEST_LINE + 1 - len(self._begun)]

    def _log(self, line: bytes) -> None:
        cut = line[:LONGEST_LINE]
        text = printable(cut.rstrip(b"\r").decode(errors="backslashreplace"))
        if len(line) > LONGEST_LINE:
            text += "..."
        self._lines += 1
        self.log.info("{program}: {line}", program=self._name, line=text)

    def _secondOver(self) -> None:
        """
        Say how many lines were left out, and read again.
        """
        self._second = None
        self._say()
        self._lines = self._bytes = 0
        if not self.disconnected:
            self.startReading()

    def _say(self) -> None:
        leftOut, self._leftOut = self._leftOut, 0
        if leftOut:
            self.log.warn(
                "{program}: {number} lines are left out, as it writes more than "
                "{most} a second",
                program=self._name,
                number=leftOut,
                most=LINES_PER_SECOND,
            )

    def finish(self) -> None:
        """
        Log what the program has written last, and close the pipe.
        """
        if not self.disconnected:
            self.stopReading()
            self.connectionLost(self.doRead() or Failure(ConnectionDone()))

    def connectionLost(self, reason: Failure) -> None:
        """
        Log what is left, and close the pipe.
        """
        super().connectionLost(reason)
        if self._begun:
            begun, self._begun = self._begun, b""
            self._log(begun)
        self._say()
        if self._second is not None:
            self._second.cancel()
            self._second = None
        os.close(self._number)

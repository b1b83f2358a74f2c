"""
A file of an access log, which other programs may move, remove or cut.
"""

from __future__ import annotations

import errno
import os
import select
from time import monotonic

from twisted.logger import Logger

from iawlb.observe.outputs import Output

CHECK = 1.0
"""
The shortest time between two looks at whether the file was moved or removed, in
seconds.
"""

MODE = 0o640
"""
The permissions of a file that is made here.
"""


class AccessFile(Output):
    """
    A file that whole lines are appended to. If another program has moved or removed it,
    it is opened anew under its name, within a second or when L{reopen} is called. A
    program may also copy the file and cut it to nothing, since lines are always written
    at its end.
    """

    log = Logger()

    def __init__(self, path: str) -> None:
        """
        @raise OSError: The file cannot be opened.
        """
        self.path = path
        self._number = self._open()
        self._checked = monotonic()
        # Why the file could not be opened anew, if it could not.
        self._refused: str | None = None

    def _open(self) -> int:
        # O_NONBLOCK is for a named pipe, which else would wait for its reader.
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
        try:
            number = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, MODE)
        except FileExistsError:
            return os.open(self.path, flags)
        # The umask of a daemon would keep the group out.
        os.fchmod(number, MODE)
        return number

    def write(self, data: memoryview) -> int:
        """
        Write as many whole lines as there is space for.

        @raise OSError: There is no space for one.
        """
        now = monotonic()
        if now - self._checked >= CHECK:
            self._checked = now
            self.reopen()
        sent = os.write(self._number, data)
        if sent < len(data):
            sent = self._cut(bytes(data[:sent]))
            if not sent:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sent

    def _cut(self, written: bytes) -> int:
        """
        Take the beginning of a line, of which a full disk has taken no more, off the
        file. The whole line is written when there is space.

        @return: How many bytes are left of those that were written.
        """
        whole = written.rfind(b"\n") + 1
        try:
            end = os.lseek(self._number, 0, os.SEEK_CUR)
            if os.fstat(self._number).st_size != end:
                return len(written)  # another program appends to the file, too
            os.ftruncate(self._number, end - len(written) + whole)
        except OSError:
            return len(written)  # a pipe
        return whole

    def reopen(self) -> None:
        """
        Open the file anew under its name, if it is no longer there. If that fails, go
        on with the one that is open.
        """
        try:
            if not self._moved():
                return
            number = self._open()
        except OSError as error:
            if self._refused != str(error):
                self._refused = str(error)
                self.log.warn(
                    "{path} cannot be opened anew: {why}; the old file is written to",
                    path=self.path,
                    why=error.strerror,
                )
            return
        self._refused = None
        os.close(self._number)
        self._number = number

    def _moved(self) -> bool:
        opened = os.fstat(self._number)
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(opened, named)

    def wait(self, seconds: float) -> bool:
        """
        Wait for the reader of a named pipe.
        """
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """
        Close the file.
        """
        os.close(self._number)

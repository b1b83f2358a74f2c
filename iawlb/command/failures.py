"""
How a command can fail, and its exit status.
"""

from __future__ import annotations

from iawlb.core.text import printable
from iawlb.errors import IawlbError

DONE = 0
ERROR = 1
USAGE = 2
LEFT = 3
UNDONE = 4
NOT_RUNNING = 5
INTERRUPTED = 130
"""
As a shell says that a program was ended by SIGINT.
"""
BROKEN_PIPE = 141
"""
As a shell says that a program was ended by SIGPIPE.
"""

LONGEST = 1000
"""
The number of characters of a message that are printed.
"""


def oneLine(text: str) -> str:
    """
    Make one line of a text that may come from anywhere.
    """
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


class CommandError(IawlbError):
    """
    The command failed; the message is one line.

    @ivar status: The exit status.
    """

    status = ERROR

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(oneLine(message))
        if status is not None:
            self.status = status


class NotRunning(CommandError):
    """
    No balancer runs where it was looked for.
    """

    status = NOT_RUNNING


class Denied(CommandError):
    """
    The balancer has answered that it does not do what was asked.

    @ivar code: The HTTP status.
    @ivar body: The balancer's answer.
    """

    def __init__(self, message: str, code: int, body: bytes) -> None:
        super().__init__(message)
        self.code = code
        self.body = body


class OutputClosed(IawlbError):
    """
    Nobody reads our output any more. It is no error of a connection, though it may be
    found while one is read.
    """

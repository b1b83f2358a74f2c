"""
The standard output and error of the command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from iawlb.command.failures import CommandError, OutputClosed
from iawlb.command.tables import Paint

COLOURS = {
    "up": "green",
    "listening": "green",
    "down": "red",
    "stopped": "red",
    "refusing": "red",
    "paused": "yellow",
    "draining": "yellow",
    "closing": "yellow",
    "waking": "yellow",
}
"""
The colours of states.
"""

_NUMBERS = {"red": 31, "green": 32, "yellow": 33}


def tolerate() -> None:
    """
    Have characters that the terminal's encoding does not have written as escapes, and
    do without an output that is closed from the start.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # to the process's end
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            # What is no TextIOWrapper has no such method, and is left as it is.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(*lines: str) -> None:
    """
    Write lines at once.

    @raise OutputClosed: Nobody reads them.
    @raise CommandError: They cannot be written, as to a full disk.
    """
    put("".join(f"{line}\n" for line in lines))


def put(text: str) -> None:
    """
    Write a text at once.

    @raise OutputClosed: Nobody reads it.
    @raise CommandError: It cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discardTheRest()
        raise OutputClosed from None
    except OSError as error:
        _discardTheRest()
        raise CommandError(f"cannot write the output: {error.strerror}") from None


def _discardTheRest() -> None:
    """
    Keep Python from writing the rest when it ends, which would fail again.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def sayJson(body: bytes) -> None:
    """
    Write the balancer's answer as it came.

    @raise OutputClosed: Nobody reads it.
    """
    say(body.decode("utf-8", "replace").rstrip("\n"))


def complain(message: str, prefix: str = "iawlb: ") -> None:
    """
    Write a line to the standard error, if that is still open.
    """
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{prefix}{message}\n")
        sys.stderr.flush()


def isTerminal(stream: Any) -> bool:
    """
    Return whether a stream is a terminal that takes more than lines.
    """
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def columns() -> int | None:
    """
    Return the width of the terminal, or L{None} if the output is no terminal.
    """
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):
        return None


def painter() -> Paint:
    """
    Return a function that colours the states of a table, if the output is a terminal
    and C{NO_COLOR} is not set.
    """
    allowed = isTerminal(sys.stdout) and not os.environ.get("NO_COLOR")

    def paint(head: str, cell: str) -> str:
        colour = COLOURS.get(cell.strip()) if head == "STATE" else None
        if not allowed or colour is None:
            return cell
        return f"\x1b[{_NUMBERS[colour]}m{cell}\x1b[0m"

    return paint


class Progress:
    """
    A line of progress on a terminal, written over itself.
    """

    def __init__(self) -> None:
        self._shown = False
        self.wanted = isTerminal(sys.stderr)

    def show(self, text: str) -> None:
        """
        Replace the line.
        """
        self._shown = True
        _write(f"\r\x1b[K{text}")

    def clear(self) -> None:
        """
        Remove the line.
        """
        if self._shown:
            self._shown = False
            _write("\r\x1b[K")


def _write(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def outputDescriptor() -> int:
    """
    Return the descriptor of the standard output, or -1 if it has none.
    """
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return -1


def listing(words: Iterable[str], limit: int = 10) -> str:
    """
    Write some words as a list in a sentence.
    """
    every = list(words)
    shown = ", ".join(every[:limit])
    return f"{shown}, ..." if len(every) > limit else shown

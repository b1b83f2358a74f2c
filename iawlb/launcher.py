"""
What the process that starts a daemon says when the daemon cannot start.
"""

from __future__ import annotations

import os
import sys
from ast import literal_eval
from collections.abc import Mapping
from contextlib import suppress
from re import fullmatch
from typing import Any

from iawlb.compat import statusPipe


class PlainErrors:
    """
    Standard error of the process that C{twistd} was called as. What it writes of a
    daemon that could not start, C{An error has occurred: b'...'}, becomes the line
    that it would be without a daemon.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """
        Write a text, or what it says in its own way.
        """
        match = fullmatch(r"An error has occurred: (b(['\"]).*\2)\n.*\n", text)
        if match is not None:
            said: bytes = literal_eval(match[1])
            text = f"iawlb: {said.decode(errors='replace')}\n"
        written: int = self._stream.write(text)
        return written


def plainErrors(launcher: Mapping[str, Any]) -> None:
    """
    Have errors of the start written as they are, before C{twistd} becomes a daemon.

    @param launcher: The options of C{twistd} or C{twist}.
    """
    if launcher.get("nodaemon") == 0 and sys.__stderr__ is not None:
        sys.__stderr__ = PlainErrors(sys.__stderr__)  # type: ignore[assignment,misc]


def tellFailure(launcher: Mapping[str, Any], error: Exception) -> None:
    """
    Do what C{twistd} would do for an exception: remove the file with our process
    number, and tell the process that waits to hear of the daemon.

    @param launcher: The options of C{twistd} or C{twist}.
    """
    # The file goes first: the launcher ends as soon as it has read the pipe.
    if launcher.get("pidfile"):
        with suppress(OSError):
            os.unlink(launcher["pidfile"])
    pipe = statusPipe(launcher)
    if pipe is not None:
        # It reads 100 bytes.
        os.write(pipe, f"1 {error}".encode()[:100])
        os.close(pipe)

"""
Error messages of the process that starts a daemon, when the daemon cannot start.
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
    The standard error of the process that the user has called C{twistd} as. The message
    about a daemon that could not start, C{An error has occurred: b'...'}, is replaced
    with the line that is printed without a daemon.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """
        Write a text, or the plain line in its place.
        """
        match = fullmatch(r"An error has occurred: (b(['\"]).*\2)\n.*\n", text)
        if match is not None:
            said: bytes = literal_eval(match[1])
            text = f"iawlb: {said.decode(errors='replace')}\n"
        written: int = self._stream.write(text)
        return written


def plainErrors(launcher: Mapping[str, Any]) -> None:
    """
    Replace standard error, so that errors of the start are written plainly, before
    C{twistd} becomes a daemon.

    @param launcher: The options of C{twistd} or C{twist}.
    """
    if launcher.get("nodaemon") == 0 and sys.__stderr__ is not None:
        sys.__stderr__ = PlainErrors(sys.__stderr__)  # type: ignore[assignment,misc]


def tellFailure(launcher: Mapping[str, Any], error: Exception) -> None:
    """
    Do what C{twistd} does after an exception: remove the file with our process number,
    and report the error to the process that waits for the daemon's start.

    @param launcher: The options of C{twistd} or C{twist}.
    @param error: The error.
    """
    # The file goes first: the launcher ends as soon as it has read the pipe.
    if launcher.get("pidfile"):
        with suppress(OSError):
            os.unlink(launcher["pidfile"])
    pipe = statusPipe(launcher)
    if pipe is not None:
        # The waiting process reads 100 bytes.
        os.write(pipe, f"1 {error}".encode()[:100])
        os.close(pipe)

"""
The log of the process: written where C{twistd} and C{twist} would write it, without
waiting for the process that reads it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import MutableMapping
from typing import Any

from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from iawlb.observe.writer import LogWriter


def takeLog(
    launcher: MutableMapping[str, Any], application: Componentized, reactor: Any
) -> LogWriter | None:
    """
    Have the log written by a L{LogWriter}, if it goes to a file or to standard output.
    Call this before the log begins.

    @param launcher: The options of C{twistd} or C{twist}.
    @return: The writer, to which lines in the format of Twisted's log may be written
        directly; L{None} if the log does not go to a writer, or may have another
        format.
    """
    if "nodaemon" in launcher:
        return _takeTwistds(launcher, application, reactor)
    if "logFile" in launcher and _hasDescriptor(launcher["logFile"]):
        # The lines may be JSON, or filtered by their level.
        launcher["logFile"] = LogWriter(reactor, launcher["logFile"])
    return None


def _takeTwistds(
    launcher: MutableMapping[str, Any], application: Componentized, reactor: Any
) -> LogWriter | None:
    name, foreground = launcher["logfile"], launcher["nodaemon"]
    if launcher["syslog"] or launcher["logger"]:
        return None
    if name == "-" or (foreground and not name):
        # If a daemon is to log there, twistd says that it cannot.
        if not foreground or not _hasDescriptor(sys.stdout):
            return None
        writer = LogWriter(reactor, sys.stdout)
    else:
        file: Any = LogFile.fromFullPath(name or "twistd.log")
        writer = LogWriter(reactor, file)
        if not signal.getsignal(signal.SIGUSR1):
            signal.signal(
                signal.SIGUSR1,
                lambda number, frame: reactor.callFromThread(_renew, file),
            )
    application.setComponent(ILogObserver, writer)
    return writer


def _renew(file: Any) -> None:
    """
    Begin a new log file. If another program has moved the old one away, open a new file
    under its name; otherwise let Twisted move it.
    """
    if os.path.exists(file.path):
        file.rotate()
    else:
        file.reopen()


def _hasDescriptor(file: Any) -> bool:
    """
    Return whether a file has a descriptor of the system, and is open.
    """
    try:
        file.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True

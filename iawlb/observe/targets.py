"""
Open the places that an access log is written to.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from iawlb.errors import InvalidSetting
from iawlb.observe.accessfile import AccessFile
from iawlb.observe.outputs import Output, outputTo
from iawlb.observe.syslog import Syslog
from iawlb.observe.writer import LogWriter

DEVICE = "/dev/log"
"""
Where this machine's syslog server listens.
"""


def openTarget(reactor: Any, place: str) -> LogWriter:
    """
    Open a place, and return a writer to it.

    @param place: What L{logTarget<iawlb.logformat.logTarget>} takes, but C{-}.
    @raise InvalidSetting: It cannot be opened.
    """
    try:
        return LogWriter(reactor, _output(place), f"access log ({place})")
    except OSError as error:
        raise InvalidSetting(
            f"cannot write the access log to {place}: {error.strerror}"
        ) from None


def addsTime(place: str) -> bool:
    """
    Return whether the lines at a place get their time and process number there.
    """
    return place.startswith(("syslog", "udp:"))


def _output(place: str) -> Output:
    if place == "stdout":
        return outputTo(sys.stdout)
    if place.startswith("syslog"):
        return Syslog(place.partition(":")[2] or DEVICE)
    match = re.fullmatch(r"udp:\[?(.+?)\]?:(\d+)", place)
    if match is not None:
        return Syslog(None, match[1], int(match[2]))
    return AccessFile(place)

"""
What the processes that the balancer starts inherit from it, and how they are made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

MANY_FILES = 2000
"""
The number of open files from which on a process is forked. Twisted's other way,
C{posix_spawn}, first asks the kernel about each open file: 130 ms with 20,000 of them,
in which nothing else is done.
"""

NOT_INHERITED = frozenset(
    (
        "FDSTORE",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    )
)
"""
The variables of the environment by which a service manager talks to the balancer alone.
"""

SAME_FOLDER = "/proc/self/cwd"
"""
Another name of the folder that a process runs in, on Linux.
"""

NOTHING: Mapping[str, str] = MappingProxyType({})


def environmentWith(more: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """
    Return the environment of a process.

    @param more: What to add to the balancer's own.
    """
    own = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    return {**own, **more}


def folderToStartIn() -> str | None:
    """
    Return the folder to have Twisted start a process in, which is always the balancer's
    own. With many open files Linux's other name of it is returned, since Twisted forks
    if a process is to run in another folder.

    @raise OSError: No file can be opened.
    """
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    many = lowest >= MANY_FILES and sys.platform == "linux"
    return SAME_FOLDER if many else None

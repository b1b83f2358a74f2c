"""
The number of connections that the limit of open files allows.
"""

from __future__ import annotations

import resource

from iawlb.errors import InvalidSetting

PER_SESSION = 2
"""
Descriptors of one session: the client's and the destination's.
"""

KEPT_BACK = 32
"""
Descriptors kept for listeners, logs, the reactor, resolver threads and probes.
"""

MOST_FILES = 1024 * 1024
"""
The largest limit of open files that is asked for, since a hard limit may be a billion.
"""


def raiseFileLimit() -> None:
    """
    Raise this process's soft limit of open files to its hard limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connectionLimit(asked: int) -> int:
    """
    Return how many sessions may live at a time.

    @param asked: The number that the user wants, or 0 for as many as possible.
    @raise InvalidSetting: The limit of open files does not allow that many; the message
        shows the sum.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, MOST_FILES)
    most = max(1, (files - KEPT_BACK) // PER_SESSION)
    if asked > most:
        raise InvalidSetting(
            f"maxConnections: {asked} connections need {PER_SESSION} x {asked} + "
            f"{KEPT_BACK} = {PER_SESSION * asked + KEPT_BACK} open files, and the "
            f"limit is {files}: allow more (ulimit -n) or ask for at most {most}"
        )
    return asked or most

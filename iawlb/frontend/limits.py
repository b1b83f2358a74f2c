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


def connectionLimit(asked: int, more: int = 0) -> int:
    """
    Return how many sessions may live at a time.

    @param asked: The number that the user wants, or 0 for as many as possible.
    @param more: Descriptors kept besides L{KEPT_BACK}, for connections that are no
        sessions.
    @raise InvalidSetting: The limit of open files does not allow that many; the message
        shows the sum.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, MOST_FILES)
    kept = KEPT_BACK + more
    most = max(1, (files - kept) // PER_SESSION)
    if asked > most:
        raise InvalidSetting(
            f"maxConnections: {asked} connections need {PER_SESSION} x {asked} + "
            f"{kept} = {PER_SESSION * asked + kept} open files, and the "
            f"limit is {files}: allow more (ulimit -n) or ask for at most {most}"
        )
    return asked or most

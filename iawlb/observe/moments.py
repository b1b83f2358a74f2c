"""
Times of day as the admin server and logs write them. Those of logs take a whole second,
and most lines share theirs with the line before.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
"""
The months in English, which C{strftime} has in the user's language.
"""


def isoTime(moment: float) -> str:
    """
    Write a time of day as ISO 8601 does, in UTC: C{2026-11-25T22:44:20.123Z}.

    @param moment: Seconds since 1970.
    """
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@lru_cache(64)
def isoSecond(second: int) -> str:
    """
    Write a second as ISO 8601 in UTC does, such as C{2026-11-25T22:44:20}.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(64)
def haproxySecond(second: int) -> str:
    """
    Write a second as HAProxy does, such as C{25/Nov/2026:22:44:20}, in local time.
    """
    at = time.localtime(second)
    return (
        f"{at.tm_mday:02d}/{MONTHS[at.tm_mon - 1]}/{at.tm_year}:"
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    )


@lru_cache(64)
def syslogSecond(second: int) -> str:
    """
    Write a second as syslog does, such as C{Nov  5 22:44:20}, in local time.
    """
    at = time.localtime(second)
    return (
        f"{MONTHS[at.tm_mon - 1]} {at.tm_mday:2d} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    )

"""
The settings about how fast, how long and how quiet a session may be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from iawlb.errors import InvalidSetting
from iawlb.setting import Validated, setting
from iawlb.validators import duration, shaped, size

BOUNDS = "How fast, how long and how quiet a connection may be"


MOST_SHARE = 0.9
"""
The largest share that can be set: 90%.
"""


@shaped(
    {"type": "number", "minimum": 0, "maximum": MOST_SHARE},
    {"type": "string", "pattern": r"^[0-9]{1,2}(\.[0-9]{1,9})?%?$"},
)
def share(value: object) -> float:
    """
    Read a share.

    @param value: Such as C{10%} or C{0.1}.
    @return: A number from 0 to C{MOST_SHARE}.
    @raise InvalidSetting: The value is none of these.
    """
    part = -1.0
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,2}(?:\.\d{1,9})?)(%?)", value, re.ASCII)
        if match is not None:
            part = float(match[1]) / (100 if match[2] else 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        part = value
    if not 0 <= part <= MOST_SHARE:
        raise InvalidSetting(f"{value!r} is not a share from 0 to 90%, such as 10%")
    return float(part)


@dataclass(frozen=True, kw_only=True)
class PoolBounds(Validated):
    """
    Of a pool.
    """

    __slots__ = ()

    clientTimeout: float = setting(
        0,
        duration,
        "TIME",
        BOUNDS,
        "longest wait for a client's first byte, and for its next one after a "
        "destination's last",
    )
    bandwidthIn: int = setting(
        0,
        size(0, 10_240 * 1024 * 1024),
        "SIZE",
        BOUNDS,
        "most bytes per second from a client, for each connection; 0 is no limit",
    )
    bandwidthOut: int = setting(
        0,
        size(0, 10_240 * 1024 * 1024),
        "SIZE",
        BOUNDS,
        "most bytes per second to a client, for each connection; 0 is no limit",
    )
    maxAge: float = setting(
        0,
        duration,
        "TIME",
        BOUNDS,
        "longest time that a connection may be connected to its destination; it then "
        "ends in order",
    )
    maxAgeJitter: float = setting(
        "10%",
        share,
        "SHARE",
        BOUNDS,
        "by how much that time is shortened at most, so that connections made together "
        "do not end together",
    )

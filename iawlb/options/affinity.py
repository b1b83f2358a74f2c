"""
The settings about which clients stay with which destination.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iawlb.errors import InvalidSetting
from iawlb.options.basics import BALANCING
from iawlb.setting import Validated, setting
from iawlb.validators import duration, shaped

MOST_FACTOR = 10.0
"""
The largest load factor. One of HAProxy's, which are percents, is always larger.
"""


@shaped({"type": "string", "pattern": "^(address|sni|tlv:([0-9]+|0[xX][0-9a-fA-F]+))$"})
def affinity(value: object) -> str | Callable[[Any], object]:
    """
    Read what keeps a client with its destination: a word, or a function of the session.

    @raise InvalidSetting: The value is neither.
    """
    if callable(value):
        function: Callable[[Any], object] = value
        return function
    if value in ("address", "sni"):
        return str(value)
    match = re.fullmatch(r"tlv:(0[xX][0-9a-fA-F]{1,2}|[0-9]{1,3})", str(value))
    if (
        match is not None
        and (kind := int(match[1], 0 if "x" in match[1].lower() else 10)) <= 255
    ):
        return f"tlv:{kind}"
    raise InvalidSetting(
        f"{value!r} is not address, sni, or tlv: and the type of a field, such as "
        "tlv:0xE0, from 0 to 255"
    )


@shaped(
    {"type": "number", "minimum": 0, "maximum": MOST_FACTOR},
    {"type": "string", "pattern": r"^[0-9]{1,4}(\.[0-9]{1,9})?%?$"},
)
def loadFactor(value: object) -> float:
    """
    Read how much more than its share a destination may have: a number or a percentage.

    @raise InvalidSetting: The value is not 0 or off, and not more than 1.
    """
    factor = None
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,4}(?:\.[0-9]{1,9})?)(%?)", value)
        if match is not None:
            factor = float(match[1]) / (100 if match[2] else 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        factor = float(value)
    if factor is not None and (factor == 0 or 1 < factor <= MOST_FACTOR):
        return factor
    raise InvalidSetting(
        f"{value!r} is not 0, and not a factor of more than 1 and at most "
        f"{MOST_FACTOR:g}, such as 1.25 or 125%"
    )


@dataclass(frozen=True, kw_only=True)
class PoolAffinity(Validated):
    """
    Of a pool.
    """

    __slots__ = ()

    affinity: str | Callable[[Any], object] = setting(
        "address",
        affinity,
        "WORD",
        BALANCING,
        "under the policy source, what keeps a client with its destination: its "
        "address; sni, the server name that it asks for by TLS; tlv:N, the field of "
        "that type of its PROXY header",
    )
    loadFactor: float = setting(
        0,
        loadFactor,
        "N",
        BALANCING,
        "under the policy source, how much more connections than its share a "
        "destination may have before its clients go to their second choice, such as "
        "1.25; 0 is no bound",
    )
    spillAfter: float = setting(
        0,
        duration,
        "TIME",
        BALANCING,
        "time in the queue after which any destination may serve a client whose own "
        "one is full; 0 is never",
    )

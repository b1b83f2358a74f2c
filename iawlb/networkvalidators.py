"""
Validators of networks and of rates.
"""

from __future__ import annotations

import re

from iawlb.errors import InvalidSetting
from iawlb.listvalidators import textsOf
from iawlb.networks import Networks, networkOf
from iawlb.validators import shaped

MOST_NETWORKS = 100_000
"""
The largest number of networks in one setting.
"""

_TEXTS = {"type": "array", "items": {"type": "string"}, "maxItems": MOST_NETWORKS}


@shaped({"type": "string"}, _TEXTS)
def networks(value: object) -> Networks:
    """
    Read networks and single addresses, as a list or as text with commas.

    @raise InvalidSetting: One of them is wrong, or there are too many.
    """
    if isinstance(value, Networks):
        return value  # read before
    found = textsOf(value, "networks")
    if len(found) > MOST_NETWORKS:
        raise InvalidSetting(
            f"there are {len(found)} networks, and there may be {MOST_NETWORKS}"
        )
    read = Networks(map(networkOf, found))
    read.prepare()
    return read


_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@shaped(
    {"type": "integer", "minimum": 0, "maximum": 1_000_000},
    {"type": "string", "pattern": "^[0-9]{1,7}(/[smh])?$"},
)
def rate(value: object) -> str:
    """
    Read a number in a time, such as C{100/s}, C{20/m} or C{5/h}; a bare number is in a
    second.

    @return: The same as text; C{0} is no limit.
    @raise InvalidSetting: The value is something else.
    """
    text = str(value) if isinstance(value, int | str) else ""
    match = re.fullmatch(r"(\d{1,7})(?:/([smh]))?", text, re.ASCII)
    if match is None or int(match[1]) > 1_000_000:
        raise InvalidSetting(
            f"{value!r} is not a rate: write 100/s, 20/m or 5/h, at most 1000000/s; 0 "
            "is no limit"
        )
    number = int(match[1])
    return f"{number}/{match[2] or 's'}" if number else "0"


def rateOf(text: str) -> tuple[int, float]:
    """
    Return the number and the time, in seconds, of a rate that L{rate} has read; the
    number is 0 if there is no limit.
    """
    number, _, period = text.partition("/")
    return int(number), _PERIODS[period or "s"]


@shaped(
    {"type": "string", "pattern": "^[0-9]{1,2} *, *[0-9]{1,3}$"},
    {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 128},
        "minItems": 2,
        "maxItems": 2,
    },
)
def masks(value: object) -> tuple[int, int]:
    """
    Read how many bits of an IPv4 address and of an IPv6 address make a network.

    @raise InvalidSetting: The value is not two such numbers.
    """
    given = value
    if isinstance(value, str):
        match = re.fullmatch(r" *(\d{1,2}) *, *(\d{1,3}) *", value, re.ASCII)
        given = (int(match[1]), int(match[2])) if match is not None else ()
    if isinstance(given, list | tuple) and len(given) == 2:
        four, six = given
        if type(four) is type(six) is int and 0 <= four <= 32 and 0 <= six <= 128:
            return four, six
    raise InvalidSetting(
        f"{value!r} is not the bits of IPv4 (0 to 32) and IPv6 (0 to 128): write 32,56"
    )

"""
Validators of what TLS needs: names of hosts, and patterns of such names.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv6Address

from iawlb.errors import InvalidSetting
from iawlb.validators import flag, poolName, shaped

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.ASCII)
_PATTERN = re.compile(rf"(?=.{{1,253}}$)(\*\.)?{_LABEL}(\.{_LABEL})*", re.ASCII)


@shaped({"type": "string"})
def hostName(value: object) -> str:
    """
    Read the name of a host, or an IP address. Empty text is none.

    @raise InvalidSetting: The value is neither.
    """
    if isinstance(value, str):
        text = value.lower().removesuffix(".")
        if not value or _HOST.fullmatch(text) or _isSix(text):
            return text
    raise InvalidSetting(f"{value!r} is not the name of a host, such as db.example.org")


def _isSix(text: str) -> bool:
    """
    Return whether a text is an IPv6 address.
    """
    with suppress(ValueError):
        return bool(IPv6Address(text))
    return False


@shaped({"enum": [True, False, "yes", "no"]})
def yesOrNo(value: object) -> bool:
    """
    Read a setting that is on or off, and that is on by default: so its option has a
    value.

    @raise InvalidSetting: The value is neither yes nor no.
    """
    return flag(value)


@shaped({"type": "string"})
def hostPattern(value: object) -> str:
    """
    Read the name of a host, which may begin with C{*.}, which stands for one label or
    more.

    @raise InvalidSetting: The value is no such name.
    """
    if isinstance(value, str):
        text = value.lower().removesuffix(".")
        if _PATTERN.fullmatch(text):
            return text
    raise InvalidSetting(
        f"{value!r} is not the name of a host, such as www.example.org or *.example.org"
    )


@shaped({"type": "string", "pattern": "^[A-Za-z0-9_.-]{0,64}$"})
def poolOrNone(value: object) -> str:
    """
    Read the name of a pool. Empty text is none.

    @raise InvalidSetting: The value is no such name.
    """
    return "" if value == "" else str(poolName(value))

"""
The forms in which an address can be written, each read as the parts of an endpoint
string.
"""

from __future__ import annotations

import re

from twisted.internet.abstract import isIPv6Address

from iawlb.backend.checks import checkHost, checkPort
from iawlb.backend.hints import KINDS, quoted
from iawlb.backend.strings import FORMS, Words, split
from iawlb.errors import InvalidSetting

LONGEST = 4096
"""
The longest address that is accepted, in characters.
"""


def listenWords(text: str) -> Words:
    """
    Read any form of a listener's address.
    """
    short = _short(text, 0)
    if short is None:
        return split(text)
    host, port = short
    if port is None:
        return Words("unix", (host,), {})
    if host == "*" or not host:
        return Words("tcp", (port,), {})
    return Words("tcp", (port,), {"interface": host})


def destinationWords(text: str) -> Words:
    """
    Read any form of a destination's address.
    """
    short = _short(text, 1)
    if short is None:
        return split(text)
    host, port = short
    if port is None:
        return Words("unix", (host,), {})
    return Words("tcp", (host or "localhost", port), {})


def _short(text: str, low: int) -> tuple[str, str | None] | None:
    """
    Read a short form.

    @param low: The lowest valid port.
    @return: Host and port; or a path and L{None}; or L{None} if the text is not a short
        form.
    """
    if not text.strip():
        raise InvalidSetting(f"{quoted(text)} is empty: write {FORMS}")
    if len(text) > LONGEST:
        raise InvalidSetting(f"{quoted(text)} is longer than {LONGEST} characters")
    if not text.isprintable():
        raise InvalidSetting(f"{quoted(text)} holds what cannot be printed")
    if text.startswith("/"):
        return text, None
    if text.startswith("["):
        match = re.fullmatch(r"\[([^\]]*)\]:(.*)", text)
        if match is None or not isIPv6Address(match[1]):
            raise InvalidSetting(f"{quoted(text)} is not like [::1]:9001")
        checkPort(text, match[2], low)
        return match[1], match[2]
    if isIPv6Address(text):
        raise InvalidSetting(f"{quoted(text)} has no port: write [{text}]:9001")
    host, colon, port = text.rpartition(":")
    if ":" in host or "=" in text or "\\" in text:
        return None  # an endpoint string
    if not colon:
        if not re.fullmatch(r"[+-]?\d+", port, re.ASCII):
            raise InvalidSetting(f"{quoted(text)} is no address: write {FORMS}")
    elif host.lower() in KINDS:
        return None
    checkPort(text, port, low)
    if host and host != "*":
        checkHost(text, host)
    return host, port

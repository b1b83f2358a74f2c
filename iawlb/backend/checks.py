"""
Check the parts of an address: host, path and port.
"""

from __future__ import annotations

import os
import re

from twisted.internet.abstract import isIPAddress, isIPv6Address

from iawlb.backend.hints import quoted
from iawlb.errors import InvalidSetting

LONGEST_PATH = 107
"""
The longest path of a Unix socket that Linux takes, in bytes.
"""


def checkHost(text: str, host: str) -> None:
    """
    Check a host.

    @raise InvalidSetting: The host is neither an IP address nor like a name.
    """
    if isIPv6Address(host):
        return
    numbers = re.fullmatch(r"[\d.]+", host) is not None
    if numbers and not isIPAddress(host):
        raise InvalidSetting(f"{quoted(text)}: {quoted(host)} is not an IPv4 address")
    try:
        # The resolver does this too, but in a thread from which no error would reach
        # the user.
        host.encode("idna")
        named = re.fullmatch(r"[\w.-]{1,253}", host) is not None
    except UnicodeError:
        named = False
    if not named:
        raise InvalidSetting(
            f"{quoted(text)}: {quoted(host)} is not the name or address of a host"
        )


def checkPath(text: str, path: str) -> None:
    """
    Check the path of a Unix socket.

    @raise InvalidSetting: The path is longer than the system allows.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise InvalidSetting(
            f"{quoted(text)}: a path has at most {LONGEST_PATH} bytes for a Unix socket"
        )


def checkPort(text: str, port: str | None, low: int = 1) -> int:
    """
    Check a port, and return it as a number.

    @param low: The lowest valid port: 0, for any free port, where a listener is to
        listen.
    @raise InvalidSetting: The port is missing, or not a number from C{low} to 65535.
    """
    if not port:
        raise InvalidSetting(f"{quoted(text)} has no port")
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not low <= int(port) <= 65535:
        why = f"{quoted(port)} is not a port, a number from {low} to 65535"
        raise InvalidSetting(f"{quoted(text)}: {why}")
    return int(port)

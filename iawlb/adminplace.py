"""
Where a balancer's admin socket is: the address in C{IAWLB_ADMIN}, or the usual place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress

from iawlb.errors import InvalidSetting
from iawlb.validators import Validator, isOff, shaped

ENVIRONMENT = "IAWLB_ADMIN"
"""
The name of the environment variable that holds the address.
"""

SYSTEM = "/run/iawlb/admin.sock"
"""
The usual place for a balancer that root or the system's service manager runs.
"""

RIGHT = "write unix:/run/iawlb/admin.sock, /run/iawlb/admin.sock or 127.0.0.1:8405"

AdminAddress = str | tuple[str, int]
"""
The path of a Unix socket, or a host and a port.
"""


def readAdminAddress(text: str) -> AdminAddress:
    """
    Read an admin address, such as C{unix:/run/iawlb/admin.sock}, C{/run/iawlb.sock} or
    C{127.0.0.1:8405}. A port alone is one of C{127.0.0.1}.

    @raise InvalidSetting: The text is no such address.
    """
    path = text.removeprefix("unix:")
    if path.startswith("/") and "\0" not in path:
        return path
    match = re.fullmatch(
        r"(?:tcp:)?(?:(\[[0-9A-Fa-f:.]+\]|[\w.-]+):)?(\d{1,5})", text, re.ASCII
    )
    if match is None or not 1 <= int(match[2]) <= 65_535:
        raise InvalidSetting(f"{text[:60]!r} is not an admin address: {RIGHT}")
    return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


def servedAt(right: str) -> Validator:
    """
    Make a validator of addresses to serve status, control or metrics at. Empty text is
    nowhere.

    @param right: What is right, for messages.
    """

    @shaped({"type": "integer", "minimum": 1, "maximum": 65_535}, {"type": "string"})
    def read(value: object) -> str:
        text = value
        if isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
        if isinstance(text, str) and text.isprintable():
            with suppress(InvalidSetting):
                if text:
                    readAdminAddress(text)
                return text
        write = "an empty text for none" if isOff(value) else right
        raise InvalidSetting(f"{value!r} is not an address: write {write}")

    return read


def usualPlace(environment: Mapping[str, str], user: int) -> str | None:
    """
    Return the path where a user's balancer has its admin socket if no address is given:
    that of the system for root, else one in the user's folder for sockets, else one in
    the home folder. L{None} if the user has no such folder.

    @param user: The user's number.
    """
    if user == 0:
        return SYSTEM
    folder = environment.get("XDG_RUNTIME_DIR", "")
    if folder.startswith("/"):
        return os.path.join(folder, "iawlb", "admin.sock")
    home = environment.get("HOME") or os.path.expanduser("~")
    if home.startswith("/") and home != "/":
        return os.path.join(home, ".iawlb", "admin.sock")
    return None


def usualPlaces(environment: Mapping[str, str], user: int) -> list[str]:
    """
    List the paths where a client finds a balancer: the user's own, then the system's.

    @param user: The user's number.
    """
    own = usualPlace(environment, user)
    return [own, SYSTEM] if own and own != SYSTEM else [SYSTEM]

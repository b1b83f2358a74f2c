"""
Every setting: its name, default, unit, limits and what it means.

The command line and the Python API both read this table. On the command line
C{connectTimeout} is written C{--connect-timeout}; a value given as text and one
given as a Python number pass the same validator.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from iawlb.errors import InvalidSetting

Validator = Callable[[object], Any]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "k": 1024, "m": 1024 * 1024}
LONGEST = 7 * 24 * 3600.0
"""
The longest duration that can be set, in seconds: seven days.
"""


def duration(value: object) -> float:
    """
    Read a duration.

    @param value: Seconds as a number, or text such as C{500ms}, C{30s}, C{5m}
        or C{1h}; a bare number is seconds.
    @return: Seconds; 0 means off.
    @raise InvalidSetting: It is none of these.
    """
    seconds = -1.0
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)?", value, re.ASCII)
        if match is not None:
            seconds = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    if not 0 <= seconds <= LONGEST:
        raise InvalidSetting(
            f"{value!r} is not a duration: write 500ms, 30s, 5m or 1h, at most 168h"
        )
    return float(seconds)


def positiveDuration(value: object) -> float:
    """
    Read a duration that cannot be switched off.

    @raise InvalidSetting: It is not a duration, or is 0.
    """
    seconds = duration(value)
    if seconds == 0:
        raise InvalidSetting(f"{value!r} must be more than 0, such as 5s")
    return seconds


def count(low: int, high: int) -> Validator:
    """
    Make a validator of whole numbers.

    @param low: The least that is right.
    @param high: The most that is right.
    """

    def read(value: object) -> int:
        number = value
        if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value, re.ASCII):
            number = int(value)
        if (
            not isinstance(number, int)
            or isinstance(number, bool)
            or not low <= number <= high
        ):
            raise InvalidSetting(
                f"{value!r} is not a whole number from {low} to {high}"
            )
        return number

    return read


def size(low: int, high: int) -> Validator:
    """
    Make a validator of sizes in bytes, which may be written C{64k} or C{1m}.

    @param low: The least that is right, in bytes.
    @param high: The most that is right, in bytes.
    """
    plain = count(low, high)

    def read(value: object) -> int:
        number = value
        if isinstance(value, str):
            match = re.fullmatch(r"(\d{1,12})([km]?)", value, re.ASCII | re.IGNORECASE)
            if match is not None:
                number = int(match[1]) * _SIZES[match[2].lower()]
        try:
            bytes_: int = plain(number)
        except InvalidSetting:
            raise InvalidSetting(
                f"{value!r} is not a size from {low} to {high} bytes, such as 64k or 1m"
            ) from None
        return bytes_

    return read


def oneOf(*words: str) -> Validator:
    """
    Make a validator of a choice between words.
    """

    def read(value: object) -> str:
        if value not in words:
            raise InvalidSetting(f"{value!r} is not one of {', '.join(words)}")
        return str(value)

    return read


def name(value: object) -> str:
    """
    Read the name of a listener or destination.

    @raise InvalidSetting: It is empty, longer than 255 characters, or holds
        white space or what cannot be printed.
    """
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= 255
        or not value.isprintable()
        or any(character.isspace() for character in value)
    ):
        raise InvalidSetting(
            f"{value!r} is not a name: 1 to 255 printable characters, no spaces"
        )
    return value


def setting(default: Any, read: Validator, unit: str, group: str, text: str) -> Any:
    """
    Declare a setting.

    @param default: Its default, as a user would write it.
    @param read: Its validator, which also turns text into the value.
    @param unit: What its value is called in the help, such as C{TIME}.
    @param group: The heading it stands under in the help.
    @param text: What it means, without the default.
    """
    return field(
        default=read(default),
        metadata={
            "shown": str(default),
            "read": read,
            "unit": unit,
            "group": group,
            "text": text,
        },
    )


class _Validated:
    """
    Reads each field with its validator.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]  # children are dataclasses
            try:
                value = each.metadata["read"](getattr(self, each.name))
            except InvalidSetting as error:
                raise InvalidSetting(f"{each.name}: {error}") from None
            object.__setattr__(self, each.name, value)


BALANCING = "Balancing"
ACCEPTING = "Accepting"
RELAYING = "Relaying and logging"
TIMEOUTS = "Timeouts; a TIME is 500ms, 30s, 5m or 1h, and 0 is off"
PROBING = "Destinations that are down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(_Validated):
    """
    What holds for the whole balancer. Durations are seconds, sizes bytes.

    @raise InvalidSetting: A value is out of its limits.
    """

    policy: str = setting(
        "least",
        oneOf("least", "fifo", "first", "source"),
        "WORD",
        BALANCING,
        "which waiting destination gets the next connection: least, the smallest "
        "(active + 1) / weight; fifo, the longest idle; first, the first in the order "
        "given; source, the same one for the same client address",
    )
    slots: int = setting(
        0,
        count(0, 1_000_000),
        "N",
        BALANCING,
        "connections that a destination serves at a time, unless it says its own; "
        "0 is no limit",
    )
    rest: float = setting(
        0,
        duration,
        "TIME",
        BALANCING,
        "pause of a slot between two connections",
    )
    whenDown: str = setting(
        "hold",
        oneOf("hold", "refuse"),
        "WORD",
        BALANCING,
        "while no destination is up: hold new connections in the queue, or refuse them",
    )
    queueSize: int = setting(
        10_000,
        count(1, 10_000_000),
        "N",
        ACCEPTING,
        "connections that may wait; when as many do, no more are accepted until a "
        "quarter has gone, and the kernel's backlog holds the rest",
    )
    maxConnections: int = setting(
        0,
        count(0, 10_000_000),
        "N",
        ACCEPTING,
        "connections open at a time, the waiting ones included; 0 is as many as the "
        "limit of open files allows",
    )
    backlog: int = setting(
        4096,
        count(1, 65_535),
        "N",
        ACCEPTING,
        "connections that the kernel holds before they are accepted, for listeners "
        "that do not say their own; the kernel has a limit too",
    )
    acceptBatch: int = setting(
        1,
        count(1, 10_000),
        "N",
        ACCEPTING,
        "accepted connections handed to the queue in one step, or as many as there "
        "are free slots if these are fewer; 1 is no batching",
    )
    acceptDelay: float = setting(
        "5ms",
        positiveDuration,
        "TIME",
        ACCEPTING,
        "longest that a connection waits for its batch",
    )
    relay: str = setting(
        "auto",
        oneOf("auto", "fast", "portable"),
        "WORD",
        RELAYING,
        "how bytes are passed: fast reads and writes plain sockets itself, by "
        "epoll; portable uses any Twisted transport; auto is fast where it applies",
    )
    bufferSize: int = setting(
        "256k",
        size(1024, 16 * 1024 * 1024),
        "SIZE",
        RELAYING,
        "bytes read at a time, and bytes held for a slow reader in each direction "
        "before the other side is no longer read; portable takes at most 64k",
    )
    log: str = setting(
        "all",
        oneOf("all", "errors"),
        "WORD",
        RELAYING,
        "which connections get a log line when they end: all, or those with errors, "
        "that is, not closed by both sides; changes of destinations and listeners "
        "are always logged",
    )
    connectTimeout: float = setting(
        "5s",
        positiveDuration,
        "TIME",
        TIMEOUTS,
        "longest connect to a destination, its TLS handshake included; not 0",
    )
    queueTimeout: float = setting(
        "30s",
        duration,
        "TIME",
        TIMEOUTS,
        "longest wait from accept until a destination takes the connection",
    )
    handshakeTimeout: float = setting(
        "10s",
        duration,
        "TIME",
        TIMEOUTS,
        "longest TLS handshake of a client, on TLS listeners",
    )
    idleTimeout: float = setting(
        "1h",
        duration,
        "TIME",
        TIMEOUTS,
        "longest time without a byte in either direction",
    )
    halfClosedTimeout: float = setting(
        "30s",
        duration,
        "TIME",
        TIMEOUTS,
        "the same once one side has ended its half, or is gone",
    )
    answerTimeout: float = setting(
        0,
        duration,
        "TIME",
        TIMEOUTS,
        "longest wait for a destination's first byte after a client's last",
    )
    drainTimeout: float = setting(
        "30s",
        duration,
        "TIME",
        TIMEOUTS,
        "longest wait for connections to finish when the balancer stops; 0 closes "
        "them at once",
    )
    backoff: float = setting(
        "100ms",
        positiveDuration,
        "TIME",
        PROBING,
        "wait before the first probe; it doubles with each that fails, with jitter",
    )
    backoffMax: float = setting(
        "5s",
        positiveDuration,
        "TIME",
        PROBING,
        "longest wait between two probes; at most 200ms while clients wait and "
        "nothing is up",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings(_Validated):
    """
    What can be set for one destination, after its address.

    @raise InvalidSetting: A value is out of its limits.
    """

    name: str = setting("-", name, "WORD", "", "its name in logs and in the Python API")
    slots: int = setting(
        0,
        count(0, 1_000_000),
        "N",
        "",
        "connections it serves at a time; 0 is no limit",
    )
    weight: int = setting(
        1, count(1, 1000), "N", "", "its share under least and source"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings(_Validated):
    """
    What can be set for one listener, after its address.

    @raise InvalidSetting: A value is out of its limits.
    """

    name: str = setting("-", name, "WORD", "", "its name in logs")


def optionName(of: Field[Any]) -> str:
    """
    Spell a setting as on the command line, C{connect-timeout} for
    C{connectTimeout}.
    """
    return re.sub("[A-Z]", lambda match: "-" + match[0].lower(), of.name)


def splitSettings(text: str) -> tuple[str, dict[str, str]]:
    """
    Part an address from the settings behind it, as in
    C{tcp:localhost:9001 name=a slots=4}.

    @return: The address, and the settings as they were written.
    @raise InvalidSetting: A setting is given twice.
    """
    given: dict[str, str] = {}
    # Only the settings are cut off, from the end: a path may hold spaces.
    address = text.strip()
    while len(words := address.rsplit(maxsplit=1)) == 2 and re.match(
        r"[A-Za-z]\w*=", words[1]
    ):
        address = words[0]
        key, _, value = words[1].partition("=")
        if key in given:
            raise InvalidSetting(f"{key} is given twice")
        given[key] = value
    return address, given


def checkNames(given: dict[str, Any], kind: type[Any]) -> None:
    """
    Refuse settings that do not exist.

    @param kind: The dataclass that declares those that do.
    @raise InvalidSetting: One is not declared; the message lists what is.
    """
    known = [each.name for each in fields(kind)]
    for key in given:
        if key not in known:
            raise InvalidSetting(
                f"there is no setting {key!r}; there is {', '.join(known)}"
            )

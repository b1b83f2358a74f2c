"""
Validators: each reads one kind of value, as text or as a Python value, and refuses a
wrong one with a message that says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from grp import getgrnam
from typing import Any, TypeVar

from iawlb.errors import InvalidSetting

Validator = Callable[[object], Any]

_Read = TypeVar("_Read", bound=Validator)

_SHAPES: dict[Validator, dict[str, Any]] = {}

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_OFF = frozenset(
    ("off", "no", "none", "never", "false", "disabled", "inf", "infinite", "unlimited")
)
_SIZES = {"": 1, "k": 1024, "m": 1024 * 1024}
LONGEST = 7 * 24 * 3600.0
"""
The longest duration that can be set, in seconds: seven days.
"""


def shapeOf(read: Validator) -> dict[str, Any]:
    """
    Return what a validator takes, as JSON Schema describes it. Where the schema cannot
    say all (that C{169h} is too long), it takes more than the validator.
    """
    return dict(_SHAPES.get(read, {}))


def shaped(*shapes: dict[str, Any]) -> Callable[[_Read], _Read]:
    """
    Note what a validator takes: anything that has one of the shapes, which are JSON
    Schemas.
    """
    shape = shapes[0] if len(shapes) == 1 else {"anyOf": list(shapes)}

    def note(read: _Read) -> _Read:
        _SHAPES[read] = shape
        return read

    return note


_DURATION = {
    "type": "string",
    "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h)?$",
}


def isOff(value: object) -> bool:
    """
    Return whether a word is meant to switch something off.
    """
    return value is None or str(value).lower() in _OFF


@shaped({"type": "number", "minimum": 0, "maximum": LONGEST}, _DURATION)
def duration(value: object) -> float:
    """
    Read a duration.

    @param value: Seconds as a number, or text such as C{500ms}, C{30s}, C{5m} or C{1h};
        a bare number is seconds.
    @return: Seconds; 0 means off.
    @raise InvalidSetting: The value is none of these.
    """
    seconds = -1.0
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)?", value, re.ASCII)
        if match is not None:
            seconds = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    if not 0 <= seconds <= LONGEST:
        if value is None or str(value).lower() in _OFF:
            raise InvalidSetting(
                f"{value!r} is not a duration: write 0 to switch it off"
            )
        raise InvalidSetting(
            f"{value!r} is not a duration: write 500ms, 30s, 5m or 1h, at most 168h"
        )
    return float(seconds)


@shaped({"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST}, _DURATION)
def positiveDuration(value: object) -> float:
    """
    Read a duration that cannot be switched off.

    @raise InvalidSetting: The value is not a duration, or is 0.
    """
    seconds = 0.0 if isOff(value) else duration(value)
    if seconds == 0:
        raise InvalidSetting(f"{value!r} must be more than 0, such as 5s")
    return seconds


def durationWithin(low: float, high: float, text: str, off: bool = False) -> Validator:
    """
    Make a validator of durations within limits.

    @param low: The shortest valid duration, in seconds.
    @param high: The longest valid duration, in seconds.
    @param text: How messages write the limits.
    @param off: Whether 0 is valid too.
    """

    within = {"type": "number", "minimum": low, "maximum": high}

    @shaped(within, *([{"const": 0}] if off else []), _DURATION)
    def read(value: object) -> float:
        seconds = 0.0 if not off and isOff(value) else duration(value)
        if not low <= seconds <= high and not (off and seconds == 0):
            zero = "0 or " if off else ""
            raise InvalidSetting(f"{value!r} is not {zero}a duration from {text}")
        return seconds

    return read


def durationOr(word: str) -> Validator:
    """
    Make a validator of durations that also accepts one word.
    """

    number = {"type": "number", "minimum": 0, "maximum": LONGEST}

    @shaped(number, _DURATION, {"const": word})
    def read(value: object) -> float | str:
        if value == word:
            return word
        try:
            return duration(value)
        except InvalidSetting as error:
            raise InvalidSetting(f"{error}; or write {word}") from None

    return read


def count(low: int, high: int) -> Validator:
    """
    Make a validator of whole numbers.

    @param low: The smallest valid number.
    @param high: The largest valid number.
    """

    @shaped(
        {"type": "integer", "minimum": low, "maximum": high},
        {"type": "string", "pattern": "^[0-9]{1,18}$"},
    )
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

    @param low: The smallest valid size, in bytes.
    @param high: The largest valid size, in bytes.
    """
    plain = count(low, high)

    @shaped(
        {"type": "integer", "minimum": low, "maximum": high},
        {"type": "string", "pattern": "^[0-9]{1,12}[kKmM]?$"},
    )
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

    @shaped({"enum": list(words)})
    def read(value: object) -> str:
        if value not in words:
            raise InvalidSetting(f"{value!r} is not one of {', '.join(words)}")
        return str(value)

    return read


@shaped({"enum": [True, False, "yes", "no"]})
def flag(value: object) -> bool:
    """
    Read a setting that is on or off: yes or no.

    @raise InvalidSetting: The value is neither.
    """
    if isinstance(value, bool):
        return value
    if value not in ("yes", "no"):
        raise InvalidSetting(f"{value!r} is not yes or no")
    return value == "yes"


@shaped({"type": "string", "pattern": r"^\S{1,255}$"})
def name(value: object) -> str:
    """
    Read the name of a listener or destination.

    @raise InvalidSetting: The name is empty, longer than 255 characters, or holds white
        space or characters that cannot be printed.
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


@shaped({"type": "string", "pattern": "^(/|$)"})
def filePath(value: object) -> str:
    """
    Read the path of a file, from / on, since a daemon changes its folder. Empty text is
    no file.

    @raise InvalidSetting: The value is no such path.
    """
    if isinstance(value, str) and value.isprintable() and len(value) <= 4096:
        if value.startswith("/") or not value:
            return value
        raise InvalidSetting(f"{value!r} is not a whole path: write it from / on")
    raise InvalidSetting(f"{value!r} is not the path of a file")


@shaped({"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"})
def poolName(value: object) -> str:
    """
    Read the name of a pool. It holds no C{/}, so that C{pool/destination} is never in
    doubt.

    @raise InvalidSetting: The name has other characters than letters, digits, C{_},
        C{.} and C{-}, or more than 64.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[\w.-]{1,64}", value, re.ASCII):
        raise InvalidSetting(
            f"{value!r} is not a name of a pool: 1 to 64 letters, digits, _, . or -"
        )
    return value


@shaped(
    {"type": "integer", "minimum": 0, "maximum": 0o777},
    {"type": "string", "pattern": "^((0o?)?[0-7]{3})?$"},
)
def fileMode(value: object) -> int | None:
    """
    Read the mode of a file: as text in octal, such as C{660}, or as a number.
    Nothing, as L{None} or empty text, is no mode.

    @raise InvalidSetting: The value is none of these, or more than C{777}.
    """
    mode = value
    if isinstance(value, str):
        match = re.fullmatch(r"(?:0o?)?([0-7]{3})", value, re.ASCII)
        mode = int(match[1], 8) if match is not None else -1
    if value is None or value == "":
        return None
    if not isinstance(mode, int) or isinstance(mode, bool) or not 0 <= mode <= 0o777:
        raise InvalidSetting(
            f"{value!r} is not a mode: write it as text in octal, such as '660'"
        )
    return mode


@shaped(
    {"type": "integer", "minimum": 0, "maximum": 2**32 - 2},
    {"type": "string"},
)
def groupOf(value: object) -> int | None:
    """
    Read a group of users, by its name or number. Nothing, as L{None} or empty
    text, is no group.

    @return: The number of the group.
    @raise InvalidSetting: There is no such group.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"\d{1,10}", value, re.ASCII):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        # The largest number means no group to the kernel.
        if 0 <= value < 2**32 - 1:
            return value
    elif isinstance(value, str):
        with suppress(KeyError, ValueError):
            return getgrnam(value).gr_gid
    raise InvalidSetting(f"there is no group {value!r} on this machine")


@shaped({"type": "string", "pattern": "^/."})
def givenPath(value: object) -> str:
    """
    Read the path of a file or folder, from / on.

    @raise InvalidSetting: The value is no such path, or empty.
    """
    path = filePath(value)
    if not path:
        raise InvalidSetting("'' is not the path of a file")
    return path


@shaped({"type": "string", "minLength": 1, "maxLength": 255})
def protocolName(value: object) -> str:
    """
    Read the name of an application protocol, as ALPN has it, such as C{h2}.

    @raise InvalidSetting: The name is empty, longer than 255 characters, or not of
        printable ASCII.
    """
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= 255
        or not value.isascii()
        or not value.isprintable()
    ):
        raise InvalidSetting(
            f"{value!r} is not an application protocol, such as h2 or http/1.1"
        )
    return value

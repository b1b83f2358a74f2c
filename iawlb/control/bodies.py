"""
The arguments of operations: each is read with its validator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iawlb.arguments import shown
from iawlb.config import keys
from iawlb.control.errors import InvalidSetting
from iawlb.setting import SHOWN, nearest, splitSettings
from iawlb.validators import (
    Validator,
    duration,
    flag,
    oneOf,
    positiveDuration,
)

LONGEST_TEXT = 1000
"""
The number of characters that an argument may have.
"""

REQUIRED = object()
"""
The default of an argument that has to be given.
"""


@dataclass(frozen=True, slots=True)
class Argument:
    """
    An argument of an operation.

    @ivar read: The validator.
    @ivar default: The value if the argument is not given, or C{REQUIRED}. An argument
        whose default is L{None} may also be given as L{None}.
    """

    read: Validator
    default: Any = REQUIRED


def text(value: object) -> str:
    """
    Read a text that is not empty.

    @raise InvalidSetting: The value is no text, or empty, or too long.
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        raise InvalidSetting(
            f"{shown(value)} is not a text of 1 to {LONGEST_TEXT} characters"
        )
    return value


def address(value: object) -> str:
    """
    Read an address, with settings behind it that a request may set.

    @raise InvalidSetting: The value is no text, or another setting is behind it.
    """
    found = text(value)
    _, behind = splitSettings(found)
    for key, of in keys.DESTINATION.items():
        if of.name in behind and not of.metadata["remote"]:
            raise InvalidSetting(f"{key} can be set in the configuration file alone")
    return found


TARGET = {"target": Argument(text)}
ALL_TARGETS = {"target": Argument(text, "*")}
WAITING = {"wait": Argument(flag, True), "kill": Argument(flag, False)}
PAUSE = {
    **ALL_TARGETS,
    "maxPause": Argument(duration, None),
    "drainTimeout": Argument(duration, 30.0),
    "for": Argument(positiveDuration, None),
    **WAITING,
}
RESUME = {**ALL_TARGETS, "spread": Argument(duration, 0.0)}
DRAIN = {**TARGET, "timeout": Argument(duration, 300.0), **WAITING}
REMOVE = {
    "pool": Argument(text),
    "name": Argument(text),
    "timeout": Argument(duration, 300.0),
    "kill": Argument(flag, False),
}
WAIT = {
    **TARGET,
    "until": Argument(oneOf("drained", "up", "removable")),
    "timeout": Argument(duration, 60.0),
}
DESTINATION = {
    "address": Argument(address),
    "name": Argument(text, None),
    **{
        key: Argument(of.metadata["read"], None)
        for key, of in keys.remote(keys.DESTINATION).items()
    },
}
ADD = {"pool": Argument(text), **DESTINATION}


def readArguments(
    given: Mapping[str, object], arguments: Mapping[str, Argument], of: str
) -> dict[str, Any]:
    """
    Read the arguments of an operation.

    @param of: What has these arguments, for people.
    @return: The value of each argument.
    @raise InvalidSetting: An argument is missing, wrong, or does not exist; the message
        names it.
    """
    for name in given:
        if name not in arguments:
            meant = nearest(name, arguments)
            right = f"write {meant}" if meant else f"it has {', '.join(arguments)}"
            raise InvalidSetting(
                f"{name[:SHOWN]!r} is not an argument of {of}: {right}"
            )
    values: dict[str, Any] = {}
    for name, argument in arguments.items():
        value = given.get(name, argument.default)
        if value is REQUIRED:
            raise InvalidSetting(f"{name}: {of} needs it")
        if value is not None or argument.default is not None:
            try:
                value = argument.read(value)
            except InvalidSetting as error:
                raise InvalidSetting(f"{name}: {error}") from None
        values[name] = value
    return values


def ownSettings(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the settings of a destination that were given, by their names in Python.

    @param values: The values, by their names in a configuration file; L{None} for what
        was not given.
    """
    names = {key: of.name for key, of in keys.DESTINATION.items()}
    return {
        names.get(key, key): value for key, value in values.items() if value is not None
    }


def readSettings(
    values: Mapping[str, object], known: keys.Keys, of: str
) -> dict[str, Any]:
    """
    Read settings that can change while the balancer runs.

    @param values: The values, by their names in a configuration file.
    @param known: The settings that there are.
    @param of: What has these settings, for people.
    @return: The values, by the names of the fields.
    @raise InvalidSetting: A setting does not exist, cannot change, or is wrong.
    """
    new: dict[str, Any] = {}
    for key, value in values.items():
        field = known.get(key)
        if field is None:
            meant = nearest(key, known)
            right = f": write {meant}" if meant else "; docs/reference.md lists them"
            raise InvalidSetting(f"{key[:SHOWN]!r} is not a setting of {of}{right}")
        if not field.metadata["live"]:
            raise InvalidSetting(f"{key}: cannot change while the balancer runs")
        try:
            new[field.name] = field.metadata["read"](value)
        except InvalidSetting as error:
            raise InvalidSetting(f"{key}: {error}") from None
    return new

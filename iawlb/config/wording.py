"""
How messages write the paths and values of a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from iawlb.arguments import SHOWN, shown
from iawlb.errors import InvalidSetting
from iawlb.validators import Validator

_BARE = re.compile(r"[\w-]{1,255}", re.ASCII)


class Stranger:
    """
    A stand-in for a value that no setting takes, such as a table or a date. Validators
    refuse it, as they do every other object, and their messages show it in words.
    """

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words


class Listed(list[Any]):
    """
    A list of a TOML document. The settings that are no lists refuse it, and their
    messages show it in words.
    """

    def __repr__(self) -> str:
        return "a list"


def pathOf(keys: Iterable[str | int]) -> str:
    """
    Write the keys that lead to a value, as TOML does: C{pools.web.destinations.a}.
    """
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
            continue
        bare = _BARE.fullmatch(key)
        text += ("." if text else "") + (key if bare else _quoted(key))
    return text


def _quoted(text: str) -> str:
    """
    Write a text in double quotes, with what cannot be printed escaped.
    """
    short = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    escaped = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in short.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'


def valueFor(value: Any) -> Any:
    """
    Return a value of a TOML document as a validator may be given it.
    """
    if isinstance(value, dict):
        return Stranger("a table")
    if isinstance(value, list):
        return Listed(map(valueFor, value))
    if isinstance(value, int) and value.bit_length() > 64:
        return Stranger("a number of more than 64 bits")
    if isinstance(value, str | int | float | Stranger | Listed):
        return value
    return Stranger(str(value))  # a date or a time


def written(value: Any) -> str:
    """
    Write a value for a message, shortened.
    """
    value = valueFor(value)
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value)


def readShown(read: Validator, value: Any) -> Any:
    """
    Read a value with its validator.

    @raise InvalidSetting: The value is wrong; the message shows it shortened, and as
        TOML has it.
    """
    plain = valueFor(value)
    try:
        return read(plain)
    except InvalidSetting as error:
        message, whole = str(error), repr(plain)
        if message.startswith(whole):
            message = written(plain) + message.removeprefix(whole)
        raise InvalidSetting(message) from None

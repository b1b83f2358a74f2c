"""
JSON, read strictly and written in pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from iawlb.admin.problem import Problem

DEEPEST = 16
"""
How many arrays and objects may stand within each other.
"""

MOST = 4096
"""
How many arrays and objects there may be in all.
"""

PIECE = 4 * 1024
"""
About how many characters are made at a time: so many take less than a millisecond.
"""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[{\]}]")
_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _isTooMuch(text: str) -> bool:
    """
    Return whether too many arrays and objects stand within each other, or beside each
    other.
    """
    depth = 0
    for number, each in enumerate(_BRACKET.finditer(_STRING.sub("", text))):
        depth += 1 if each[0] in "[{" else -1
        if depth > DEEPEST or number >= 2 * MOST:
            return True
    return False


def _uniqueMembers(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    Make an object of members that all have different names.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Problem(400, f"{name[:64]!r} is given twice")
        found[name] = value
    return found


def _refuseConstant(word: str) -> NoReturn:
    """
    Refuse C{NaN} and C{Infinity}, which Python reads and JSON does not have.
    """
    raise Problem(400, f"{word} is not a number of JSON")


def _finite(text: str) -> float:
    """
    Read a number, but not one that is too large.
    """
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Problem(400, f"{text[:32]} is too large a number")
    return number


def readObject(body: bytes) -> dict[str, Any]:
    """
    Read the body of a request, which has to be one object of JSON. No body is an object
    without members.

    @raise Problem: It is not one.
    """
    if not body:
        return {}
    try:
        text = body.decode()
        if _isTooMuch(text):
            raise Problem(
                400,
                f"the body is nested deeper than {DEEPEST} levels, or has more than "
                f"{MOST} arrays and objects",
            )
        found = json.loads(
            text,
            object_pairs_hook=_uniqueMembers,
            parse_constant=_refuseConstant,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Problem(400, 'the body is not an object, such as {"target": "web"}')
    return found


def _parts(value: Any) -> Iterator[str]:
    """
    Write a value, in which iterators stand for arrays: each of their items is asked for
    and written by itself.
    """
    if isinstance(value, Iterator):
        mark = "["
        for each in value:
            yield mark
            yield from _parts(each)
            mark = ","
        yield "[]" if mark == "[" else "]"
    elif isinstance(value, dict) and any(
        isinstance(each, Iterator) for each in value.values()
    ):
        mark = "{"
        for name, each in value.items():
            yield f"{mark}{_dump(name)}:"
            yield from _parts(each)
            mark = ","
        yield "}"
    else:
        yield _dump(value)


def pieces(value: Any) -> Iterator[bytes]:
    """
    Write a value in pieces of about L{PIECE} characters. Between two pieces other work
    can be done.

    @param value: What the encoder of Python's own takes, and iterators for long arrays.
    """
    held: list[str] = []
    length = 0
    for part in _parts(value):
        held.append(part)
        length += len(part)
        if length >= PIECE:
            yield "".join(held).encode()
            held, length = [], 0
    held.append("\n")
    yield "".join(held).encode()

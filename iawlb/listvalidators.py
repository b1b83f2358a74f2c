"""
Validators of lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iawlb.errors import InvalidSetting
from iawlb.validators import Validator, shaped, shapeOf


def itemsOf(value: object) -> Sequence[Any] | None:
    """
    Return the items of a list, or of text with commas between them. Empty text is an
    empty list.

    @return: L{None} if the value is neither.
    """
    if isinstance(value, str):
        return [each.strip() for each in value.split(",")] if value else []
    return value if isinstance(value, list | tuple) else None


def textsOf(value: object, what: str) -> list[str]:
    """
    Read a list of texts, or one text with commas between them. Nothing, as L{None} or
    empty text, is an empty list.

    @param what: What the texts are, for messages: C{networks}.
    @raise InvalidSetting: The value is something else.
    """
    items = [] if value is None else itemsOf(value)
    if items is None:
        raise InvalidSetting(
            f"{value!r} is not a list of {what}: write them as text with commas, or as "
            "a list of texts"
        )
    for each in items:
        if not isinstance(each, str):
            raise InvalidSetting(
                f"{each!r} is not text: write each of the {what} in quotes"
            )
    return list(items)


def listOf(read: Validator, most: int, example: str) -> Validator:
    """
    Make a validator of lists: a list, or text with commas between the items. Empty text
    is an empty list.

    @param read: Reads an item.
    @param most: The largest number of items.
    @param example: How messages write an item.
    @return: The validator, which returns a tuple.
    """

    @shaped(
        {"type": "array", "maxItems": most, "items": shapeOf(read)},
        {"type": "string"},
    )
    def readAll(value: object) -> tuple[Any, ...]:
        items = itemsOf(value)
        if items is None:
            raise InvalidSetting(
                f"{value!r} is not a list: write {example}, or several with commas "
                "between them"
            )
        if len(items) > most:
            raise InvalidSetting(f"{len(items)} items are too many: at most {most}")
        return tuple(read(each) for each in items)

    return readAll

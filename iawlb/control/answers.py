"""
The results of operations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Answer = dict[str, Any]

DONE = "done"
LEFT = "left"
UNDONE = "undone"


def answer(
    result: str = DONE, left: int = 0, messages: Iterable[str] = (), **more: object
) -> Answer:
    """
    Make the result of an operation.

    @param result: One of the words above.
    @param left: The number of sessions that are left.
    @param messages: Lines for people.
    """
    return {"result": result, "left": left, "messages": list(messages), **more}


def sessions(number: int) -> str:
    """
    Write a number of sessions.
    """
    return "1 session" if number == 1 else f"{number} sessions"

"""
Values as people read them, and their width on a terminal.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from iawlb.core.text import printable

NOTHING = "-"
"""
Stands for a value that is not there.
"""

_DOTS = ".."
"""
Stands for what was cut out of a text.
"""

_AGES = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def age(seconds: Any) -> str:
    """
    Write a duration: C{0.4s}, C{12s}, C{3m12s}, C{5h02m} or C{9d03h}.
    """
    if not isinstance(seconds, int | float) or seconds != seconds:
        return NOTHING
    seconds = min(max(0.0, seconds), 1e9)
    # Rounded before the unit is chosen, so that there is no 60s.
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for unit, name, part, partName in _AGES:
        if whole >= unit:
            return f"{whole // unit}{name}{whole % unit // part:02}{partName}"
    return f"{whole}s"


def briefly(seconds: Any) -> str:
    """
    Write a duration that may be short: C{0.4ms}, C{12ms}, or as L{age} does; nothing if
    it is not known.
    """
    if not isinstance(seconds, int | float):
        return ""
    milliseconds = seconds * 1000
    if milliseconds < 9.95:
        return f"{milliseconds:.1f}ms"
    return f"{milliseconds:.0f}ms" if milliseconds < 999.5 else age(seconds)


def size(count: Any) -> str:
    """
    Write a number of bytes: C{812}, C{1.2k}, C{34M}, C{1.2G}; a k is 1024.
    """
    if not isinstance(count, int | float) or count != count:
        return NOTHING
    number = min(max(0.0, float(count)), 1e24)
    if number < 1000:
        return f"{number:.0f}"
    # It returns at the latest with the last unit, which only a reader can see.
    for unit in "kMGTP":  # pragma: no branch
        number /= 1024
        if number < 9.95:
            return f"{number:.1f}{unit}"
        if number < 999.5 or unit == "P":
            return f"{number:.0f}{unit}"
    raise AssertionError  # pragma: no cover  # the loop has returned


def number(value: Any) -> str:
    """
    Write a number, or what stands for none.
    """
    return NOTHING if value is None else plain(value)


def plain(value: Any) -> str:
    """
    Write any value on one line, without characters that do not print.
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return " ".join(plain(each) for each in value) or NOTHING
    return printable(str(value)) or NOTHING


def moment(text: Any) -> datetime | None:
    """
    Read a time of day in ISO 8601, or return L{None}.
    """
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def since(text: Any, now: datetime) -> float | None:
    """
    Return how long ago a time of day was, in seconds.
    """
    found = moment(text)
    return None if found is None else (now - found).total_seconds()


def clock(text: Any) -> str:
    """
    Write a time of day as the local clock shows it: C{12:03:10}.
    """
    found = moment(text)
    if found is None:
        return plain(text)
    return f"{found.astimezone():%H:%M:%S}"


def width(text: str) -> int:
    """
    Return how many columns a text takes on a terminal: wide characters take two, and
    marks that stand over others none.
    """
    if text.isascii():
        return len(text)
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200b\u200c\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shorten(text: str, columns: int) -> str:
    """
    Cut a text in its middle, where names of hosts and pods differ least.

    @param columns: How many columns the result may take, at least one.
    """
    if width(text) <= columns:
        return text
    left = columns - len(_DOTS)
    if left < 2:
        return _start(text, columns)
    end = _start(text[::-1], left // 2)[::-1]
    return f"{_start(text, left - width(end))}{_DOTS}{end}"


def _start(text: str, columns: int) -> str:
    taken = list(accumulate(_columns(each) for each in text))
    return text[: bisect_right(taken, columns)]

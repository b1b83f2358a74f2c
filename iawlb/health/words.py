"""
The words of an agent: how a destination says how much it takes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DOWN = ("down", "failed", "stopped")
"""
The words for a destination that takes nothing.
"""


class Words(NamedTuple):
    """
    What an agent has said. L{None} is what it has not said, and what stays as it was.

    @ivar up: Whether the destination is up.
    @ivar why: The word that says it is not, with the description behind it.
    @ivar withdrawn: C{drain} or C{maint} if the destination wants no more sessions, and
        empty if it wants them again.
    @ivar share: How much of its share the destination takes, in percent; 0 for nothing.
    @ivar slots: The number of sessions that the destination takes at a time; 0 is no
        limit.
    """

    up: bool | None = None
    why: str = ""
    withdrawn: str | None = None
    share: int | None = None
    slots: int | None = None


_NOTHING = Words()

MOST_SLOTS = 1_000_000


def readWords(text: str) -> Words:
    """
    Read the line of an agent, as HAProxy's agents write it: words with spaces or commas
    between them, in any order. Words that are unknown are passed over. Text behind C{#}
    is for people.
    """
    found = _NOTHING
    said, _, description = text.partition("#")
    for word in re.split(r"[\s,]+", said.strip().lower()):
        number = re.fullmatch(r"(?:maxconn:)?(\d{1,7})%?", word, re.ASCII)
        if word == "up":
            found = found._replace(up=True)
        elif word in DOWN:
            why = f"{word}: {description.strip()}" if description.strip() else word
            found = found._replace(up=False, why=why)
        elif word == "ready":
            found = found._replace(withdrawn="")
        elif word in ("drain", "maint"):
            found = found._replace(withdrawn=word)
        elif number is not None and word.endswith("%") and ":" not in word:
            found = found._replace(share=min(int(number[1]), 1000))
        elif number is not None and ":" in word and not word.endswith("%"):
            found = found._replace(slots=min(int(number[1]), MOST_SLOTS))
    return found

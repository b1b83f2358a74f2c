"""
Validators of commands: programs with their arguments.
"""

from __future__ import annotations

import shlex

from iawlb.errors import InvalidSetting
from iawlb.validators import shaped

MOST_WORDS = 1000
"""
The number of words of a command.
"""

LONGEST = 4096
"""
The number of characters of a command that is given as text.
"""

_WORDS = {
    "type": "array",
    "maxItems": MOST_WORDS,
    "items": {"type": "string", "pattern": "^[^\\u0000]*$"},
}


@shaped(_WORDS, {"const": ""})
def wordList(value: object) -> tuple[str, ...]:
    """
    Read a command: a list of words, of which the first is the program. Nothing, as
    L{None} or empty text, is no command.

    @raise InvalidSetting: The value is something else.
    """
    if value in (None, "", (), []):
        return ()
    right = 'write a list of words, ["server", "--port", "9001"], in the file'
    if not isinstance(value, list | tuple) or len(value) > MOST_WORDS:
        raise InvalidSetting(f"{value!r:.200} is not a command: {right}")
    for each in value:
        if not isinstance(each, str) or "\0" in each:
            raise InvalidSetting(f"{each!r} is not a word of a command: {right}")
    if not value[0]:
        raise InvalidSetting("the command has no program: its first word is empty")
    return tuple(value)


@shaped(_WORDS, {"type": "string", "maxLength": LONGEST})
def commandLine(value: object) -> tuple[str, ...]:
    """
    Read a command: as L{wordList}, or text as a shell would split it.

    @raise InvalidSetting: The value is something else.
    """
    if not isinstance(value, str):
        return wordList(value)
    if len(value) > LONGEST or "\n" in value or "\r" in value:
        raise InvalidSetting(f"{value!r:.60} is not a command of one line")
    try:
        return wordList(shlex.split(value))
    except ValueError as error:
        if isinstance(error, InvalidSetting):
            raise
        raise InvalidSetting(f"{value!r} is not a command: {error}") from None

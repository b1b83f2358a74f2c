"""
A TOML document: its values, and the lines on which they stand.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass
from typing import Any

from iawlb.config.lines import Path, findLines
from iawlb.config.wording import pathOf, written
from iawlb.errors import InvalidConfiguration

LONGEST = 4 * 1024 * 1024
"""
The longest file that is read, in bytes.
"""

_ADVICE = {
    "Expected '=' after a key in a key/value pair": "write = between key and value",
    "Unterminated string": "a quote is missing",
    "Unclosed array": "a ] or a comma is missing",
    "Unclosed inline table": "a } or a comma is missing",
    "Expected ']' at the end of a table declaration": "write ] behind the section",
    "Expected ']]' at the end of an array declaration": "write ]] behind the section",
}
"""
What to do about some of the parser's messages.
"""


@dataclass(frozen=True, slots=True)
class Document:
    """
    A TOML document.

    @ivar name: The file, for people.
    @ivar data: The values, as L{tomllib} reads them.
    @ivar lines: The line of each value.
    """

    name: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """
        Return the line of a value; of one that is missing, that of the table in which
        it would be.
        """
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: Path) -> str:
        """
        Return the file and the line of a value, such as C{iawlb.toml:12}.
        """
        return f"{self.name}:{self.line(path)}"


def readDocument(path: str, name: str | None = None) -> Document:
    """
    Read a TOML file.

    @param name: How messages call the file; by default its path.
    @raise InvalidConfiguration: It cannot be read, or is no TOML.
    """
    name = name or path
    name = name if name and name.isprintable() else repr(name)
    try:
        content = _content(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidConfiguration([f"{name}: cannot be read: {why}"]) from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidConfiguration(
            [
                f"{name}:{line}: the byte 0x{content[error.start]:02x} is not UTF-8: "
                "save the file as UTF-8"
            ]
        ) from error
    # Some editors begin a file with this mark.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
        lines = findLines(text)
    except ValueError as error:
        raise InvalidConfiguration([f"{name}:{_explained(error, text)}"]) from error
    except RecursionError as error:
        raise InvalidConfiguration(
            [f"{name}: lists or tables are nested too deeply"]
        ) from error
    return Document(name, data, lines)


def _content(path: str) -> bytes:
    """
    Return what is in a file.

    @raise OSError: It cannot be read.
    @raise ValueError: It is no file, or too long.
    """
    # A pipe that nobody writes to would hold the start up for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} bytes")
    return content


def _explained(error: ValueError, text: str) -> str:
    """
    Return the line, and what the parser found wrong there.
    """
    match = re.fullmatch(
        r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.S
    )
    if match is None:
        # A number with more digits than Python turns into a number.
        digits = re.search(r"\d{1000,}", text.replace("_", "0"))
        line = text.count("\n", 0, digits.start() if digits else 0) + 1
        return f"{line}: a number has too many digits"
    message = match[1]
    lines = text.split("\n")
    number = int(match[2] or len(lines))
    if match[2] is None and number > 1 and not lines[-1].strip():
        number -= 1  # the file ends with the end of this line
    here = lines[number - 1]
    where = f", column {match[3]}" if match[3] else ""
    return f"{number}: is not TOML{where}: {_advice(message, here)}"


def _advice(message: str, line: str) -> str:
    """
    Return what is wrong with a line, and what to do.
    """
    key, equals, value = (part.strip() for part in line.partition("="))
    twice = re.fullmatch(r"Cannot declare \((.*?),?\) twice", message)
    if twice is not None:
        keys = re.findall(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", twice[1])
        return f"[{pathOf(one or other for one, other in keys)}] stands twice"
    if message == "Cannot overwrite a value":
        return f"{written(key)} is given twice"
    if re.search("[\u2018-\u201f]", line):
        return 'write straight quotes, "'
    if message in _ADVICE:
        return _ADVICE[message]
    value = value.partition("#")[0].strip()
    bare = re.fullmatch(r"[^\"'\[\]{}=]+", value)
    if equals and value.lower() in ("yes", "no", "on", "off", "true", "false"):
        right = "true" if value.lower() in ("yes", "on", "true") else "false"
        return f"write {right}"
    if re.fullmatch(r"[\w.-]{1,60}", key, re.ASCII) and bare is not None:
        return f'write text in quotes, as in {key} = "{written(value)[1:-1]}"'
    return message[0].lower() + message[1:]

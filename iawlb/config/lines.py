"""
Find the line on which each key of a TOML document stands.

L{tomllib} reads the document, and does not say where it found what. The finder here
follows the same text and notes the lines. It relies on L{tomllib} having taken the
text: of the values it knows only where they end.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]
"""
The keys that lead to a value; a number is a place in a list.
"""

DEEPEST = 8
"""
The number of keys down to which lines are noted. Without a bound, the time would grow
with the square of the depth.
"""

_SPACES = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\n]+|#[^\n]*)*+")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]+|\\.)*+"|'[^'\n]*'""")
_STRING = re.compile(
    # Up to two quotes may stand in front of the three that end a long string.
    r'"""(?:[^"\\]+|\\.|"{1,2}(?!"))*+"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]+|\\.)*+"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\n]*")


def _under(path: Path, key: str | int) -> Path:
    """
    Return the path of a key in a table, or of the table if that is deep enough.
    """
    return (*path, key) if len(path) < DEEPEST else path


def findLines(text: str) -> dict[Path, int]:
    """
    Return the line of each table, key and list item of a document, down to L{DEEPEST}.

    @param text: A document that L{tomllib} has taken.
    @raise RecursionError: The values are nested deeper than Python's stack allows.
    """
    finder = _Finder(text.replace("\r\n", "\n"))
    finder.document()
    return finder.lines


class _Finder:
    """
    A search for the lines of all keys of a document.

    @ivar lines: The lines found so far.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        # How many tables each list of tables, as made by [[...]], has so far.
        self._tables: dict[Path, int] = {}

    def document(self) -> None:
        """
        Walk through the whole document.
        """
        table: Path = ()
        while self._skip(_GAP) < len(self._text):
            if self._take("[["):
                table = self._header(True)
                self._at += 2
            elif self._take("["):
                table = self._header(False)
                self._at += 1
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return self._at

    def _take(self, sign: str) -> bool:
        taken = self._text.startswith(sign, self._at)
        if taken:
            self._at += len(sign)
        return taken

    def _note(self, path: Path, again: bool = False) -> None:
        if again or path not in self.lines:
            self.lines[path] = bisect_right(self._ends, self._at - 1) + 1

    def _keys(self) -> list[str]:
        """
        Read a key, or several with dots between them.
        """
        keys = []
        while True:
            self._skip(_SPACES)
            start = self._at
            word = self._text[start : self._skip(_KEY)]
            if word.startswith("'"):
                word = word[1:-1]
            elif word.startswith('"'):
                word = tomllib.loads(f"key = {word}")["key"]
            keys.append(word)
            self._skip(_SPACES)
            if not self._take("."):
                return keys

    def _header(self, several: bool) -> Path:
        """
        Read the keys of a table's heading.

        @param several: Whether the table is an item of a list, as C{[[...]]} makes it.
        """
        *above, last = self._keys()
        path: Path = ()
        for key in above:
            path = self._inner(path, key)
            self._note(path)
        if several:
            path = _under(path, last)
            self._tables[path] = self._tables.get(path, 0) + 1
            self._note(path)
            path = _under(path, self._tables[path] - 1)
        else:
            path = self._inner(path, last)
        # A table may have been named before, as part of another's heading.
        self._note(path, again=True)
        return path

    def _inner(self, path: Path, key: str) -> Path:
        """
        Return the path of a table in a table; if it is a list, that of its last table.
        """
        path = _under(path, key)
        number = self._tables.get(path)
        return path if number is None else _under(path, number - 1)

    def _pair(self, path: Path) -> None:
        """
        Walk over a key and its value.
        """
        for key in self._keys():
            path = _under(path, key)
            self._note(path)
        self._at += 1  # the sign between them
        self._skip(_SPACES)
        self._value(path)

    def _value(self, path: Path) -> None:
        """
        Walk over a value.
        """
        if self._take("["):
            number = 0
            while not self._ended("]"):
                item = _under(path, number)
                self._note(item)
                self._value(item)
                number += 1
        elif self._take("{"):
            while not self._ended("}"):
                self._pair(path)
        else:
            quote = self._text[self._at : self._at + 1] in ("'", '"')
            self._skip(_STRING if quote else _BARE)

    def _ended(self, sign: str) -> bool:
        """
        Go to the next item of a list or a table; return whether it has ended instead.
        """
        self._skip(_GAP)
        if self._take(","):
            self._skip(_GAP)
        return self._take(sign) or self._at >= len(self._text)

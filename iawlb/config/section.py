"""
Read the sections of a document, and collect what is wrong.
"""

from __future__ import annotations

from typing import Any

from iawlb.config.document import Document
from iawlb.config.keys import Keys, explainKey
from iawlb.config.lines import Path
from iawlb.config.model import Given, Origin
from iawlb.config.wording import pathOf, readShown, written
from iawlb.errors import InvalidSetting

MOST = 100
"""
The largest number of mistakes that are listed.
"""


class Section:
    """
    Reads the sections of a document, and collects what is wrong.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._mistakes: list[tuple[int, str]] = []

    def wrong(self, path: Path, why: str) -> None:
        """
        Note a mistake.

        @param path: The value that is wrong, or that is missing.
        """
        place = self.document.place(path)
        line = self.document.line(path)
        self._mistakes.append((line, f"{place}: {pathOf(path)}: {why}"))

    def mistakes(self) -> list[str]:
        """
        Return the mistakes in the order of the file.
        """
        return [text for _, text in sorted(self._mistakes, key=lambda each: each[0])]

    def origin(self, path: Path) -> Origin:
        """
        Return where a value is written.
        """
        return Origin(self.document.place(path))

    def value(self, path: Path) -> Any:
        """
        Return the value at a path, or L{None}.
        """
        found: Any = self.document.data
        for key in path:
            if isinstance(key, str):
                found = found.get(key) if isinstance(found, dict) else None
            else:
                found = found[key]
        return found

    def table(self, path: Path, right: str) -> dict[str, Any]:
        """
        Return the table at a path; an empty one if there is none, or something else.

        @param right: How to write it.
        """
        found = self.value(path)
        if found is None:
            return {}
        if not isinstance(found, dict):
            self.wrong(path, f"{written(found)} is not a section: write {right}")
            return {}
        return found

    def settings(self, path: Path, keys: Keys, *apart: str) -> dict[str, Given]:
        """
        Read the settings in a table.

        @param keys: The settings that there are.
        @param apart: Keys that are read elsewhere.
        @return: The settings by their names in Python.
        """
        found = {}
        for key, value in self.table(path, f"[{pathOf(path)}]").items():
            if key in apart:
                continue
            inner = (*path, key)
            of = keys.get(key)
            if of is None:
                # To find the nearest key takes a while, and more are not listed.
                few = len(self._mistakes) <= MOST
                right = explainKey(key, [*apart, *keys]) if few else "unknown"
                self.wrong(inner, right)
                continue
            try:
                read = readShown(of.metadata["read"], value)
            except InvalidSetting as error:
                self.wrong(inner, str(error))
            else:
                found[of.name] = Given(read, self.origin(inner))
        return found

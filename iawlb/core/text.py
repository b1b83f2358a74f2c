"""
Text that a peer has chosen, escaped for a line of a log.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """
    Escape all characters that do not print, as Python writes them in a string: control
    characters, line breaks, escape sequences of terminals, and marks that change the
    direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )

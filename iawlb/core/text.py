"""
Text that a peer has chosen, made fit for a line of a log.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """
    Escape all that does not print, as Python would write it in a string: control
    characters, line breaks, escape sequences of terminals, and what turns the
    direction of writing around.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )

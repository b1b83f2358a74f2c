"""
The errors that iawlb raises on purpose.
"""

from __future__ import annotations


class IawlbError(Exception):
    """
    The base of every error that iawlb raises on purpose.
    """


class InvalidSetting(IawlbError, ValueError):
    """
    A setting, an address or an argument is wrong; the message names the bad
    part and what would be right.
    """


class UnknownPool(IawlbError, LookupError):
    """
    There is no pool of that name.
    """


class UnknownDestination(IawlbError, LookupError):
    """
    There is no destination of that name.
    """


class CannotListen(IawlbError):
    """
    A listener could not be opened; the message names it and says why.
    """


class InvalidConfiguration(IawlbError, ValueError):
    """
    A configuration is wrong.

    @ivar mistakes: All that is wrong, one line each.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes

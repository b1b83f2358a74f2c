"""
Rise and fall: whether a destination counts as up, from the checks in a row.
"""

from __future__ import annotations

from typing import NamedTuple


class Checked(NamedTuple):
    """
    What the last check of a destination has found.

    @ivar passed: Whether the destination was well.
    @ivar why: What the check has seen, for people.
    @ivar at: When it ended.
    @ivar took: How long it took, in seconds.
    """

    passed: bool
    why: str
    at: float
    took: float


class Standing:
    """
    The checks in a row that have succeeded, or failed.

    As long as no check has ended, nothing is known, and the first one decides alone.

    @ivar good: The checks in a row that have succeeded.
    @ivar bad: The checks in a row that have failed.
    """

    def __init__(self) -> None:
        self.good = 0
        self.bad = 0
        self._known = False

    def passed(self, rise: int) -> bool:
        """
        Count a check that has succeeded.

        @param rise: The number in a row with which a destination comes up.
        @return: Whether the destination is to be up now.
        """
        self.bad = 0
        self.good += 1
        enough = self.good >= rise or not self._known
        self._known = True
        return enough

    def failed(self, fall: int) -> bool:
        """
        Count a check that has failed.

        @param fall: The number in a row with which a destination goes down.
        @return: Whether the destination is to be down now.
        """
        self.good = 0
        self.bad += 1
        enough = self.bad >= fall or not self._known
        self._known = True
        return enough

    def wentDown(self) -> None:
        """
        Begin to count anew, because the destination went down for another reason.
        """
        self.good = 0

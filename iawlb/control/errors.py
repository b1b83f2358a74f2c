"""
The errors of operations.
"""

from __future__ import annotations

from iawlb.errors import IawlbError, InvalidSetting

__all__ = ["Conflict", "InvalidSetting", "NotFound"]


class NotFound(IawlbError, LookupError):
    """
    There is no pool, destination or session of that name.
    """


class Conflict(IawlbError):
    """
    What is asked for cannot be done now, because of something else that is there or
    under way; the message says what.
    """

"""
The alert with which a TLS client is refused before there is any key.
"""

from __future__ import annotations

DECODE_ERROR = 50
UNRECOGNIZED_NAME = 112
NO_APPLICATION_PROTOCOL = 120


def alert(description: int) -> bytes:
    """
    Write a fatal alert as a record of its own.

    @param description: The alert's number in TLS.
    """
    return bytes((21, 3, 3, 0, 2, 2, description))

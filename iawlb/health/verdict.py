"""
What a check finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

LONGEST_REASON = 200
"""
The number of characters that are kept of a reason.
"""


class Verdict(NamedTuple):
    """
    What a check finds.

    @ivar passed: Whether the destination is well; L{None} if that is not known, since
        this machine is short of what a check needs, or has too many checks under way.
    @ivar why: What the check has seen, for people.
    @ivar says: The words of an agent, if the destination has sent such; else L{None}.
    @ivar farewell: Bytes to send before the connection is closed.
    """

    passed: bool | None
    why: str
    says: str | None = None
    farewell: bytes = b""


class Check(Protocol):
    """
    One check of a destination, under way.

    @ivar waits: Whether the check waits for its turn on this machine, so that nothing
        is known of the destination yet.
    """

    waits: bool

    def start(self, onDone: Callable[[Verdict], None]) -> None:
        """
        Begin.

        @param onDone: Called once with what was found, maybe before this returns.
        """

    def cancel(self) -> None:
        """
        Give up: close what is open and end what runs, without calling C{onDone}.
        """


class Dialogue(Protocol):
    """
    What is said on the connection of a check. No I/O: a dialogue is given bytes, and
    returns bytes.
    """

    def begin(self) -> bytes:
        """
        Return what is sent first.
        """

    def received(self, data: bytes) -> Verdict | bytes:
        """
        Return what is found, or what is to be sent next; maybe nothing.
        """

    def ended(self) -> Verdict:
        """
        Return what is found, now that the destination will send no more.
        """


def quoted(data: bytes) -> str:
    """
    Write the beginning of what a destination has sent, for people.
    """
    text = data[:60].decode("ascii", "backslashreplace")
    return repr(text) + ("..." if len(data) > 60 else "")

"""
Clients that enter the queue only when their first byte has come (C{--take-slot
first-byte}).
"""

from __future__ import annotations

from iawlb.core.outcome import Outcome
from iawlb.frontend.steps import Arriving, Step


class FirstByte(Step):
    """
    Waits until a client has sent something.
    """

    late = Outcome.FIRST_BYTE_TIMEOUT
    gone = Outcome.CLIENT_LEFT_SILENT

    def __init__(self, timeout: float, keep: bool) -> None:
        """
        @param timeout: How long a client may take, in seconds; 0 is no limit.
        @param keep: Whether the bytes are kept for a hook to look at.
        """
        super().__init__(timeout)
        self._keep = keep

    def begin(self, arrival: Arriving) -> None:
        """
        Look whether there is a byte, else wait for it.
        """
        head = arrival.head
        found = head.peek()
        if found:
            if self._keep:
                arrival.session.learn().firstBytes = found
            arrival.proceed()
        elif head.ended:
            arrival.left()
        else:
            head.wait(lambda: self.begin(arrival))

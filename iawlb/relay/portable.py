"""
The relay between any two Twisted transports.
"""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from iawlb.core.outcome import Outcome
from iawlb.core.session import IRelay
from iawlb.relay.rules import Rules
from iawlb.relay.side import Side, SideOwner


@implementer(IRelay)
class PortableRelay(Rules[Side], SideOwner):
    """
    Passes bytes through C{dataReceived} and C{write}, and lets each transport
    pause the other side while it has enough to write: so at most two buffers of
    C{bufferSize} wait in each direction, whatever the peers do.
    """

    def __init__(
        self,
        client: Side,
        destination: Side,
        onRelease: Callable[[], None],
        onEnd: Callable[[Outcome], None],
    ) -> None:
        super().__init__(client, destination, onRelease, onEnd)
        self.bytesIn = 0
        self.bytesOut = 0
        self._seconds = client.context.seconds

    def start(self) -> None:
        """
        Begin to pass bytes, with those that came early.
        """
        pair = (self.client, self.destination)
        for side in pair:
            side.owner = self
            side.other.feedFrom(side)
        for side in pair:
            early, side.early = side.early, []
            for data in early:
                self.sideRead(side, data)
            if side.ended:
                side.watchForReset()
                self.sideEnded(side)
            else:
                side.resumeProducing()

    # What the sides tell.

    def sideFailed(self, side: Side) -> None:
        """
        End the session.
        """
        self.failed()

    def sideRead(self, side: Side, data: bytes) -> None:
        """
        Pass bytes on.
        """
        self.moved = self._seconds()
        if side is self.client:
            if not self.destination.lost:
                self.bytesIn += len(data)
                self.asked = True
                self.destination.write(data)
        elif not self.client.lost:
            self.bytesOut += len(data)
            self.asked = False
            self.client.write(data)

    def sideEnded(self, side: Side) -> None:
        """
        Pass the end on; close when both have ended.
        """
        self.moved = self._seconds()
        super().sideEnded(side)

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Let the other take what is to be written, and follow.
        """
        if self.outcome is None:
            self.moved = self._seconds()
        super().sideLost(side, reset)

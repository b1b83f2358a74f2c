"""
The relay between any two Twisted transports.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from iawlb.core.outcome import Outcome
from iawlb.core.session import IRelay
from iawlb.relay.rules import Rules
from iawlb.relay.side import Side, SideOwner


class _Discards(SideOwner):
    """
    Receives the events of sides whose bytes nobody takes any more.
    """

    def __init__(self, relay: PortableRelay) -> None:
        self._relay = relay

    def sideRead(self, side: Side, data: bytes) -> None:
        """
        Discard the bytes.
        """

    def sideEnded(self, side: Side) -> None:
        """
        Pass the event on.
        """
        self._relay.sideEnded(side)

    def sideFailed(self, side: Side) -> None:
        """
        Pass the event on.
        """
        self._relay.sideFailed(side)

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Pass the event on.
        """
        self._relay.sideLost(side, reset)


@implementer(IRelay)
class PortableRelay(Rules[Side], SideOwner):
    """
    A relay that passes bytes through C{dataReceived} and C{write}, and lets each
    transport pause the other side while it has enough to write. So at most two buffers
    of C{bufferSize} wait in each direction, whatever the peers do.
    """

    def __init__(
        self,
        client: Side,
        destination: Side,
        onRelease: Callable[[], None],
        onEnd: Callable[[Outcome], None],
    ) -> None:
        super().__init__(client, destination, onRelease, onEnd)
        self._in = 0
        self._out = 0
        # Bytes that the client and the destination had not received when they were
        # lost.
        self._missing = {client: 0, destination: 0}
        self._seconds = client.context.seconds

    @property
    def bytesIn(self) -> int:  # type: ignore[override]  # read-only here
        """
        Bytes passed from the client to the destination.
        """
        return max(0, self._in - self._missing[self.destination])

    @property
    def bytesOut(self) -> int:  # type: ignore[override]  # read-only here
        """
        Bytes passed from the destination to the client.
        """
        return max(0, self._out - self._missing[self.client])

    def start(self) -> None:
        """
        Begin to pass bytes, first those that came before the relay began.
        """
        pair = (self.client, self.destination)
        for side in pair:
            side.owner = self
            side.other.feedFrom(self.producerOf(side))
        for side in pair:
            early, side.early = side.early, []
            for data in early:
                self.sideRead(side, data)
            if side.ended:
                side.watchForReset()
                self.sideEnded(side)
            else:
                self.producerOf(side).resumeProducing()

    def producerOf(self, side: Side) -> Any:
        """
        Return what the other side's transport pauses while it has enough to write.
        """
        return side

    # What the sides report.

    def sideFailed(self, side: Side) -> None:
        """
        End the session, because a step of a side has raised.
        """
        self.failed()

    def sideRead(self, side: Side, data: bytes) -> None:
        """
        Pass bytes on to the other side.
        """
        if side.other.lost:
            return
        self.moved = self._seconds()
        if side is self.client:
            self._in += len(data)
            self.asked = True
            self.destination.write(data)
        else:
            self._out += len(data)
            self.asked = False
            self.client.write(data)

    def sideEnded(self, side: Side) -> None:
        """
        Pass a side's end on to the other; close both when both have ended.
        """
        self.moved = self._seconds()
        super().sideEnded(side)

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Let the other side take what is still to be written, and close it then.
        """
        if self.outcome is None:
            self.moved = self._seconds()
        if reset and not self.cut:
            # The kernel cannot be asked any more.
            self._missing[side] = side.unwritten()
        if not self.cut:
            # The other side's peer may take nothing before all that it sends is read.
            side.other.resumeProducing()
        super().sideLost(side, reset)

    def close(self, outcome: Outcome) -> None:
        """
        Close both sides after what is still to be written.
        """
        self._discount()
        super().close(outcome)

    def part(self, outcome: Outcome) -> None:
        """
        Send both sides what is still to be written, and then the end.
        """
        discards = _Discards(self)
        for side in (self.client, self.destination):
            if not side.lost:
                side.owner = discards
        super().part(outcome)

    def abort(self, outcome: Outcome) -> None:
        """
        Reset both sides.
        """
        self._discount()
        super().abort(outcome)

    def _discount(self) -> None:
        """
        Leave out of the count what a peer has not acknowledged, and may never. (Over
        TLS, the kernel's number is larger than that of the bytes. Of Unix sockets it
        is memory, and the peer has the bytes already.)
        """
        for side in (self.client, self.destination):
            if side.lost:
                continue
            if getattr(side.socket, "family", None) == socket.AF_UNIX:
                self._missing[side] = side.unwritten()
            else:
                self._missing[side] = side.undelivered()

"""
The relay between any two Twisted transports.
"""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from iawlb.interfaces import IRelay
from iawlb.relay.side import Side
from iawlb.session import Outcome


@implementer(IRelay)
class PortableRelay:
    """
    Passes bytes through C{dataReceived} and C{write}, and lets each transport
    pause the other side while it has enough to write: so at most two buffers of
    C{bufferSize} wait in each direction, whatever the peers do.

    The end of one side's bytes is passed to the other, behind them. A side that
    is reset resets the other, behind the bytes that came before. A side that
    ended its half, or cannot have halves (TLS), and then is gone, leaves the
    other to take what is to be written:

      - a destination is then closed, since nobody is left to read its answer;
      - a client is sent the end and read, to nowhere, until it closes: closing
        under a client that still sends would reset it, and could cut off the
        end of its answer.
    """

    def __init__(
        self,
        client: Side,
        destination: Side,
        onRelease: Callable[[], None],
        onEnd: Callable[[Outcome], None],
    ) -> None:
        """
        @param onRelease: Called once, when the destination's side is closed.
        @param onEnd: Called once, when both are.
        """
        self.bytesIn = 0
        self.bytesOut = 0
        self.asked = False
        self.outcome: Outcome | None = None
        self._client = client
        self._destination = destination
        self._onRelease = onRelease
        self._onEnd = onEnd

    @property
    def halfClosed(self) -> Outcome | None:
        """
        What to call it if the side that has not ended does not follow.
        """
        if self._destination.ended or self._destination.lost:
            return Outcome.CLIENT_HALF_CLOSED_TIMEOUT
        if self._client.ended or self._client.lost:
            return Outcome.DESTINATION_HALF_CLOSED_TIMEOUT
        return None

    def start(self) -> None:
        """
        Begin to pass bytes, with those that came early.
        """
        pair = (self._client, self._destination)
        for side in pair:
            side.owner = self
            self._other(side).feedFrom(side)
        for side in pair:
            early, side.early = side.early, []
            for data in early:
                self.sideRead(side, data)
            if side.ended:
                self.sideEnded(side)
            else:
                side.resumeProducing()

    def progress(self) -> object:
        """
        Say how far the bytes have come.
        """
        return (
            self.bytesIn,
            self.bytesOut,
            self.halfClosed,
            self._client.unwritten(),
            self._destination.unwritten(),
        )

    def close(self, outcome: Outcome) -> None:
        """
        Close both sides after what is still to be written.
        """
        self._conclude(outcome, Side.close)

    def abort(self, outcome: Outcome) -> None:
        """
        Reset both sides.
        """
        self._conclude(outcome, Side.abort)

    def _conclude(self, outcome: Outcome, how: Callable[[Side], None]) -> None:
        self.outcome = self.outcome or outcome
        for side in (self._client, self._destination):
            if not side.lost:
                how(side)

    # What the sides tell.

    def sideMade(self, side: Side) -> None:
        """
        Only before there is a relay.
        """

    def sideReady(self, side: Side) -> None:
        """
        Only before there is a relay.
        """

    def sideRead(self, side: Side, data: bytes) -> None:
        """
        Pass bytes on.
        """
        if side is self._client:
            if not self._destination.lost:
                self.bytesIn += len(data)
                self.asked = True
                self._destination.write(data)
        elif not self._client.lost:
            self.bytesOut += len(data)
            self.asked = False
            self._client.write(data)

    def sideEnded(self, side: Side) -> None:
        """
        Pass the end on; close when both have ended.
        """
        other = self._other(side)
        if other.lost:
            side.close()
        elif other.ended:
            side.close()
            other.close()
        else:
            other.endWriting()

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Let the other take what is to be written, and follow.
        """
        other = self._other(side)
        ending = self.outcome is not None
        if reset and not ending:
            self.outcome = (
                Outcome.CLIENT_RESET
                if side is self._client
                else Outcome.DESTINATION_RESET
            )
        if side is self._destination:
            self._onRelease()
        if other.lost:
            self._onEnd(self.outcome or Outcome.DONE)
        elif ending:
            pass  # the other side is closing as well
        elif reset and not side.ended:
            other.resetWhenWritten()
        elif other is self._destination or other.ended:
            other.close()
        else:
            other.endWriting()
            other.resumeProducing()

    def _other(self, side: Side) -> Side:
        return self._destination if side is self._client else self._client

"""
What follows when one side of a session ends or is gone: the same for every
relay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

from iawlb.core.outcome import Outcome
from iawlb.relay.waiting import isWaiting


class End(Protocol):
    """
    One of the two connections, as the rules see it.

    @ivar ended: Whether its peer will send no more.
    @ivar lost: Whether it is closed.
    @ivar other: The other of the two, set and deleted by the relay.
    """

    ended: bool
    lost: bool
    other: Self

    @property
    def socket(self) -> Any:
        """
        Its socket, or L{None} if it has none.
        """

    def endWriting(self) -> None:
        """
        Send what is to be written, then the end.
        """

    def close(self) -> None:
        """
        Send what is to be written, then close.
        """

    def abort(self) -> None:
        """
        Close at once, with a reset.
        """

    def resetWhenWritten(self) -> None:
        """
        Send what is to be written, then reset.
        """

    def linger(self) -> None:
        """
        Read on, to nowhere.
        """

    def undelivered(self) -> int:
        """
        Count the bytes that wait to be written, and those that its peer has not
        confirmed.
        """

    def fileno(self) -> int:
        """
        Return its descriptor, or -1 if it has none.
        """


EndT = TypeVar("EndT", bound=End)


class Rules(Generic[EndT]):
    """
    The end of one side's bytes is passed to the other, behind them. A side that
    is reset resets the other, behind the bytes that came before. A side that
    ended its half, or cannot have halves (TLS), and then is gone, leaves the
    other to take what is to be written:

      - a destination is then closed, since nobody is left to read its answer;
      - a client is sent the end and read, to nowhere, until it closes: closing
        under a client that still sends would reset it, and could cut off the
        end of its answer.
    """

    bytesIn: int
    bytesOut: int
    moved = 0.0
    cut = False
    """
    Whether the session is ended from here, and not by its peers.
    """
    onSooner: Callable[[], None] | None = None

    _unanswered = False
    """
    Whether the destination ended in order while the client waited for an answer,
    as is so when the kernel ends the connections of a process that was killed.
    """

    def __init__(
        self,
        client: EndT,
        destination: EndT,
        onRelease: Callable[[], None],
        onEnd: Callable[[Outcome], None],
    ) -> None:
        """
        @param onRelease: Called when the destination's side is closed; once, unless
            a step has raised.
        @param onEnd: Called when both are; once, unless a step has raised.
        """
        self.asked = False
        self.outcome: Outcome | None = None
        # The first reset that was seen, if any.
        self.reset: Outcome | None = None
        self.client = client
        self.destination = destination
        client.other = destination
        destination.other = client
        self._onRelease = onRelease
        self._onEnd = onEnd

    @property
    def halfClosed(self) -> Outcome | None:
        """
        What to call it if the side that has not ended does not follow.
        """
        if self.reset is not None:
            return self.reset
        if self.destination.ended or self.destination.lost:
            return Outcome.CLIENT_HALF_CLOSED_TIMEOUT
        if self.client.ended or self.client.lost:
            return Outcome.DESTINATION_HALF_CLOSED_TIMEOUT
        return None

    def sockets(self) -> list[Any]:
        """
        List the sockets of the connections that are open, as far as these have any.
        """
        both = (self.client, self.destination)
        sockets = [side.socket for side in both if not side.lost]
        return [each for each in sockets if each is not None]

    def undelivered(self) -> int:
        """
        Count the bytes that wait to be written, and those that no peer has
        confirmed.
        """
        both = (self.client, self.destination)
        return sum(side.undelivered() for side in both if not side.lost)

    def close(self, outcome: Outcome) -> None:
        """
        Close both sides after what is still to be written.
        """
        self.outcome = self.outcome or outcome
        self.cut = True
        for side in (self.client, self.destination):
            if not side.lost:
                side.close()

    def abort(self, outcome: Outcome) -> None:
        """
        Reset both sides.
        """
        self.outcome = self.outcome or outcome
        self.cut = True
        for side in (self.client, self.destination):
            if not side.lost:
                side.abort()

    def failed(self) -> None:
        """
        End the session, as a step of its own has raised.
        """
        try:
            self.abort(Outcome.FAILED)
        finally:
            # The step that raised may be one of those that report the end.
            self._onRelease()
            self._onEnd(Outcome.FAILED)

    def sideEnded(self, side: EndT) -> None:
        """
        Pass the end on; close when both have ended.
        """
        other = side.other
        if self.asked and side is self.destination:
            self._noteUnanswered()
        if other.lost:
            side.close()
        elif other.ended:
            side.close()
            if not other.lost:
                other.close()
        else:
            other.endWriting()

    def sideReset(self, side: EndT) -> None:
        """
        Note a reset, of which the first counts, when it is seen; what that side
        sent before may still be read and passed on.
        """
        if self.reset is None:
            self.reset = (
                Outcome.CLIENT_RESET
                if side is self.client
                else Outcome.DESTINATION_RESET
            )

    def sideLost(self, side: EndT, reset: bool) -> None:
        """
        Let the other take what is to be written, and follow.
        """
        other = side.other
        ending = self.outcome is not None
        if reset and not ending:
            self.sideReset(side)
            self.outcome = self.reset
        if side is self.destination:
            if self.asked and not side.ended:
                self._noteUnanswered()
            self._onRelease()
        if other.lost:
            default = Outcome.UNANSWERED if self._unanswered else Outcome.DONE
            self._onEnd(self.outcome or default)
            self.forget()
        elif ending:
            pass  # the other side is closing as well
        elif reset and not side.ended:
            other.linger()
            other.resetWhenWritten()
        elif other is self.destination or other.ended:
            other.close()
        else:
            other.endWriting()
            other.linger()

    def _noteUnanswered(self) -> None:
        """
        The destination has ended, and the last bytes came from the client.
        """
        client = self.client
        self._unanswered = not (client.ended or client.lost) and isWaiting(
            client.fileno(), self.bytesOut > 0
        )

    def forget(self) -> None:
        """
        Leave no cycle for the garbage collector.
        """
        del self.client.other, self.destination.other

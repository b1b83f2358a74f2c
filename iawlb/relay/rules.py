"""
The rules for what follows when one side of a session ends or is closed: the same for
every relay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

from iawlb.core.outcome import Outcome
from iawlb.relay.waiting import isWaiting


class End(Protocol):
    """
    One of the two connections of a session, as the rules see it.

    @ivar ended: Whether the peer will send no more.
    @ivar lost: Whether the connection is closed.
    @ivar other: The session's other connection, set and deleted by the relay.
    """

    ended: bool
    lost: bool
    other: Self

    @property
    def socket(self) -> Any:
        """
        The connection's socket, or L{None} if there is none.
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
        Keep reading, and discard the bytes.
        """

    def undelivered(self) -> int:
        """
        Count the bytes that wait to be written, and those that the peer has not
        acknowledged.
        """

    def fileno(self) -> int:
        """
        Return the connection's descriptor, or -1 if it has none.
        """


EndT = TypeVar("EndT", bound=End)


class Rules(Generic[EndT]):
    """
    The rules of a relay. The end of one side's bytes is passed on to the other side,
    behind the bytes. When a side is reset, the other side is reset too, behind the
    bytes that came before; meanwhile it is read, and its bytes are discarded. When a
    side is closed that has ended its half, or cannot have halves (TLS), the other side
    still gets what is to be written, and then:

      - a destination is closed, since the client that its answer is for is gone;
      - a client is sent the end, and is read until it closes, while its bytes are
        discarded: closing under a client that still sends would reset the client,
        and could cut off the end of its answer.
    """

    bytesIn: int
    bytesOut: int
    moved = 0.0
    cut = False
    """
    Whether the balancer ends the session, and not its peers.
    """
    parting = False
    """
    Whether both sides were sent their end, and what they still send is discarded.
    """
    onSooner: Callable[[], None] | None = None

    _unansweredAt: int | None = None
    """
    The bytes that the client had sent when the destination ended in order while the
    client waited for an answer, as happens when the kernel ends the connections of a
    process that was killed; L{None} if the client did not wait.
    """

    def __init__(
        self,
        client: EndT,
        destination: EndT,
        onRelease: Callable[[], None],
        onEnd: Callable[[Outcome], None],
    ) -> None:
        """
        @param onRelease: Called once when the destination's side is closed; maybe again
            after a step has raised.
        @param onEnd: Called once when both sides are closed; maybe again after a step
            has raised.
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
        The outcome if the side that has not ended does not follow, or L{None} while no
        side has ended.
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
        List the sockets of the open connections. A connection may have none.
        """
        both = (self.client, self.destination)
        sockets = [side.socket for side in both if not side.lost]
        return [each for each in sockets if each is not None]

    def undelivered(self) -> int:
        """
        Count the bytes that wait to be written, and those that the peers have not
        acknowledged.
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

    def part(self, outcome: Outcome) -> None:
        """
        Send both sides what is still to be written, and then the end; discard what they
        still send until they close. If one side is closed already, the other is getting
        its end.
        """
        self.outcome = self.outcome or outcome
        self.parting = True
        sides = (self.client, self.destination)
        if not any(side.lost for side in sides):
            for side in sides:
                side.linger()
            for side in sides:
                side.endWriting()

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
        End the session, because one of its steps has raised.
        """
        try:
            self.abort(Outcome.FAILED)
        finally:
            # The step that raised may be one of those that report the end.
            self._onRelease()
            self._onEnd(Outcome.FAILED)

    def sideEnded(self, side: EndT) -> None:
        """
        Called when a side has ended. Pass the end on; close both when both have ended.
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
        Called when a reset is seen. Note the first one; what that side sent before may
        still be read and passed on.
        """
        if self.reset is None:
            self.reset = (
                Outcome.CLIENT_RESET
                if side is self.client
                else Outcome.DESTINATION_RESET
            )

    def sideLost(self, side: EndT, reset: bool) -> None:
        """
        Called when a side is closed. Let the other side take what is to be written, and
        then end it as the class says.

        @param reset: Whether the side was cut off, rather than closed in order.
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
            # A destination that has ended its half and takes more bytes still lives.
            unanswered = self._unansweredAt == self.bytesIn
            default = Outcome.UNANSWERED if unanswered else Outcome.DONE
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
        Note whether the client still waits for an answer, when the destination has
        ended and the last bytes came from the client.
        """
        client = self.client
        waiting = not (client.ended or client.lost) and isWaiting(
            client.fileno(), self.bytesOut > 0
        )
        self._unansweredAt = self.bytesIn if waiting else None

    def forget(self) -> None:
        """
        Delete the references between the sides, so that no cycle is left for the
        garbage collector.
        """
        del self.client.other, self.destination.other

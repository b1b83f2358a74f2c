"""
What a TLS client asks for, found out before the client enters the queue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from iawlb.core.outcome import Outcome
from iawlb.frontend.steps import Arriving, Step
from iawlb.relay.plain import PlainClient
from iawlb.tlshello.fields import WrongHello
from iawlb.tlshello.reader import HelloReader


class HelloStep(Step, ABC):
    """
    The base of steps that need to know which name and which protocols a client asks
    for. If TLS was not ended before, this is in the client's ClientHello, which is
    passed on to the destination as it is.
    """

    late = Outcome.HANDSHAKE_TIMEOUT
    gone = Outcome.CLIENT_LEFT_HANDSHAKE

    @abstractmethod
    def asked(
        self,
        arrival: Arriving,
        host: str | None,
        protocols: Sequence[str],
        passed: bool = False,
    ) -> None:
        """
        Called when it is known what the client asks for.

        @param protocols: Those that it offers, or the one that was agreed upon.
        @param passed: Whether this is from a ClientHello that is passed on.
        """

    @abstractmethod
    def wrong(self, arrival: Arriving, data: bytes, error: WrongHello) -> None:
        """
        Called when the client's first bytes are no ClientHello.
        """

    def cut(self, arrival: Arriving, data: bytes) -> None:
        """
        Called when the client has ended before its ClientHello was complete.
        """
        arrival.left()

    def begin(self, arrival: Arriving) -> None:
        """
        Find out what the client asks for.
        """
        side: Any = arrival.session.side
        info = arrival.session.info
        if info is not None and info.tls is not None:
            chosen = info.protocol
            offered = info.protocols if chosen is None else (chosen,)
            self.asked(arrival, info.serverName, offered)
        elif not isinstance(side, PlainClient) and side.secure:
            self.asked(arrival, *_askedOf(side.transport))
        else:
            self._look(arrival, HelloReader())

    def _look(self, arrival: Arriving, reader: HelloReader) -> None:
        """
        Look at the bytes that have come.
        """
        head = arrival.head
        data = head.peek()
        try:
            hello = reader.read(data)
        except WrongHello as error:
            self.wrong(arrival, data, error)
            return
        if hello is not None:
            info = arrival.session.learn()
            info.serverName, info.protocols = hello.serverName, hello.protocols
            self.asked(arrival, hello.serverName, hello.protocols, passed=True)
        elif head.ended:
            self.cut(arrival, data)
        else:
            head.wait(partial(self._look, arrival, reader))


def _askedOf(transport: Any) -> tuple[str | None, Sequence[str]]:
    """
    Return the name and the protocol of a connection whose TLS another endpoint ends.
    """
    name = transport.getHandle().get_servername()
    protocol = transport.negotiatedProtocol
    return (
        None if name is None else name.decode("ascii", "backslashreplace"),
        () if protocol is None else (protocol.decode("latin-1"),),
    )

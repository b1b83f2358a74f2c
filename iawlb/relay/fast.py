"""
The relay between two plain sockets, which it reads and writes itself.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.tcp import Connection
from zope.interface import implementer

from iawlb.compat import unwritten
from iawlb.core.outcome import Outcome
from iawlb.core.session import IRelay
from iawlb.relay.fastsocket import Socket
from iawlb.relay.poller import SocketPoller
from iawlb.relay.rules import Rules
from iawlb.relay.sends import SendWatch
from iawlb.relay.side import Side


def plain(side: Side) -> bool:
    """
    Return whether a side is a stream socket of the kernel with nothing left to write in
    its transport.
    """
    transport = side.transport
    return (
        isinstance(transport, Connection)
        and not transport.TLS
        and not unwritten(transport)
    )


@implementer(IRelay)
class FastRelay(Rules[Socket]):
    """
    A relay that passes bytes with one read and one write for each event. Events are
    level-triggered, and at most one chunk of a socket is passed in each turn, so no
    session starves another.
    """

    def __init__(
        self,
        client: Side | socket.SocketType,
        destination: Side | socket.SocketType,
        poller: SocketPoller,
        sends: SendWatch,
        onRelease: Callable[[], None],
        onEnd: Callable[[Outcome], None],
    ) -> None:
        """
        @param poller: Serves the sockets.
        @param sends: Waits until all is sent to a socket that is to be reset.
        """
        super().__init__(
            Socket(self, client, poller, True),
            Socket(self, destination, poller, False),
            onRelease,
            onEnd,
        )
        self.sends = sends

    @property
    def bytesIn(self) -> int:  # type: ignore[override]  # read-only here
        """
        Bytes passed from the client to the destination.
        """
        return self.client.passed

    @property
    def bytesOut(self) -> int:  # type: ignore[override]  # read-only here
        """
        Bytes passed from the destination to the client.
        """
        return self.destination.passed

    def start(self) -> None:
        """
        Begin to pass bytes.
        """
        pair = (self.client, self.destination)
        for each in pair:
            each.start()
        for each in pair:
            if each.ended and not each.lost:
                self.sideEnded(each)

    def forget(self) -> None:
        """
        Delete the references between the sockets and the relay, so that no cycle is
        left for the garbage collector.
        """
        client, destination = self.client, self.destination
        del client.other, destination.other, client.relay, destination.relay

"""
The name of the server that a TLS client asks for, found out before the client enters
the queue.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from iawlb.core.outcome import Outcome
from iawlb.frontend.steps import Arriving, Step
from iawlb.relay.plain import PlainClient
from iawlb.tlshello.fields import WrongHello
from iawlb.tlshello.reader import HelloReader


class ServerNameStep(Step):
    """
    Finds out the name that a client asks for (SNI). If the balancer does not end TLS,
    this is in the client's ClientHello, which is passed on to the destination as it is.
    A client that does not speak TLS, or not rightly, has no name; its destination may
    deal with it.
    """

    late = Outcome.HANDSHAKE_TIMEOUT
    gone = Outcome.CLIENT_LEFT_HANDSHAKE

    def begin(self, arrival: Arriving) -> None:
        """
        Look for the name.
        """
        session = arrival.session
        side: Any = session.side
        info = session.info
        if info is not None and (info.tls is not None or info.serverName is not None):
            arrival.proceed()
        elif not isinstance(side, PlainClient) and side.secure:
            name = side.transport.getHandle().get_servername()
            if name is not None:
                session.learn().serverName = name.decode("ascii", "backslashreplace")
            arrival.proceed()
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
        except WrongHello:
            arrival.proceed()
            return
        if hello is not None:
            info = arrival.session.learn()
            info.serverName, info.protocols = hello.serverName, hello.protocols
            arrival.proceed()
        elif not head.ended:
            head.wait(partial(self._look, arrival, reader))
        elif data:
            arrival.proceed()
        else:
            arrival.left()

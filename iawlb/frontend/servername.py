"""
The name of the server that a TLS client asks for, found out before the client enters
the queue.
"""

from __future__ import annotations

from collections.abc import Sequence

from iawlb.frontend.hellostep import HelloStep
from iawlb.frontend.steps import Arriving
from iawlb.tlshello.fields import WrongHello


class ServerNameStep(HelloStep):
    """
    Finds out the name that a client asks for (SNI). A client that does not speak TLS,
    or not rightly, has no name; its destination may deal with it.
    """

    def begin(self, arrival: Arriving) -> None:
        """
        Look for the name, unless it is known.
        """
        info = arrival.session.info
        if info is not None and info.serverName is not None:
            arrival.proceed()
        else:
            super().begin(arrival)

    def asked(
        self,
        arrival: Arriving,
        host: str | None,
        protocols: Sequence[str],
        passed: bool = False,
    ) -> None:
        """
        Note the name.
        """
        if host is not None:
            arrival.session.learn().serverName = host
        arrival.proceed()

    def wrong(self, arrival: Arriving, data: bytes, error: WrongHello) -> None:
        """
        Let the client enter the queue without a name.
        """
        arrival.proceed()

    def cut(self, arrival: Arriving, data: bytes) -> None:
        """
        Let the client enter the queue without a name, unless it has sent nothing.
        """
        if data:
            arrival.proceed()
        else:
            arrival.left()

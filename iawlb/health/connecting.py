"""
Checks that connect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.backend.connector import Connect, Connected, DestinationConnector
from iawlb.backend.shortage import shortageOf
from iawlb.health.verdict import Dialogue, Verdict
from iawlb.proxyprotocol.writing import localHeader
from iawlb.relay.side import Side, SideOwner
from iawlb.settings import DestinationSettings


def headerOf(settings: DestinationSettings) -> bytes:
    """
    Return the PROXY header that a destination gets before a check; maybe none.
    """
    if settings.sendProxy == "off":
        return b""
    return localHeader(settings.sendProxy)


class ConnectingCheck(SideOwner):
    """
    A check that connects, and says something if there is something to say.
    """

    log = Logger()
    waits = False

    def __init__(
        self,
        connector: DestinationConnector,
        dialogue: Dialogue | None,
        header: bytes = b"",
    ) -> None:
        """
        @param dialogue: What is said; L{None} if a connection is enough.
        @param header: A PROXY header to send first.
        """
        self._connector = connector
        self._dialogue = dialogue
        # Where a connector speaks TLS, it sends the header before the handshake.
        self._early, self._header = header, b""
        if connector.client is None:
            self._early, self._header = b"", header
        self._onDone: Callable[[Verdict], None] | None = None
        self._connect: Connect | None = None
        self._side: Side | None = None

    def start(self, onDone: Callable[[Verdict], None]) -> None:
        """
        Begin to connect.
        """
        self._onDone = onDone
        try:
            connect = self._connector.connect(
                self._connected, self._failed, self._early
            )
        except Exception:
            self._failed(Failure())
        else:
            if self._onDone is not None and self._side is None:
                self._connect = connect

    def cancel(self) -> None:
        """
        Give up.
        """
        self._onDone = None
        connect, self._connect = self._connect, None
        if connect is not None:
            connect.cancel()
        side, self._side = self._side, None
        if side is not None and not side.lost:
            side.owner = SideOwner()
            side.abort()

    def _connected(self, connection: Connected) -> None:
        self._connect = None
        if self._dialogue is None and not self._header:
            if isinstance(connection, Side):
                self._close(connection)
            else:
                connection.close()
            self._done(Verdict(True, "connected"))
            return
        if not isinstance(connection, Side):
            connection = self._connector.side(connection)
        side = self._side = connection
        side.owner = self
        first = self._header
        if self._dialogue is not None:
            first += self._dialogue.begin()
        if first:
            side.write(first)
        if self._dialogue is None:
            self._found(Verdict(True, "connected"))
            return
        early, side.early = side.early, []
        for data in early:
            if self._side is not None:
                self.sideRead(side, data)
        if self._side is not None:
            if side.ended or side.lost:
                self.sideEnded(side)
            else:
                side.resumeProducing()

    def _close(self, side: Side) -> None:
        # TLS would wait for the peer's answer to its end, which nobody reads.
        side.owner = SideOwner()
        if side.lost:
            return
        if side.whole:
            side.abort()
        else:
            side.close()

    def _found(self, verdict: Verdict) -> None:
        """
        Close the connection and report what was found.
        """
        side, self._side = self._side, None
        assert side is not None
        if verdict.farewell and not side.lost:
            side.write(verdict.farewell)
        self._close(side)
        self._done(verdict)

    def _failed(self, failure: Failure) -> None:
        self._connect = None
        # If this machine is short of something, nothing is known of the destination.
        passed = None if shortageOf(failure) is not None else False
        self._done(Verdict(passed, failure.getErrorMessage()))

    def _done(self, verdict: Verdict) -> None:
        onDone, self._onDone = self._onDone, None
        if onDone is not None:
            onDone(verdict)

    # What the side reports.

    def sideRead(self, side: Any, data: bytes) -> None:
        """
        Hand bytes to the dialogue, and send what it says.
        """
        assert self._dialogue is not None
        found = self._dialogue.received(data)
        if isinstance(found, Verdict):
            self._found(found)
        elif found:
            side.write(found)

    def sideEnded(self, side: Any) -> None:
        """
        Called when the destination will send no more.
        """
        assert self._dialogue is not None
        self._found(self._dialogue.ended())

    def sideFailed(self, side: Any) -> None:
        """
        Called when a step has raised.
        """
        self._found(Verdict(False, "the check has failed by itself; see the log"))

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Called when the connection is closed before there was an answer.
        """
        if reset:
            self._found(Verdict(False, "reset instead of an answer"))
        else:
            self.sideEnded(side)

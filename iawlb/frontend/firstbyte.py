"""
Clients that enter the queue when their first byte is there.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    IReadDescriptor,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.core.outcome import Outcome
from iawlb.frontend.factory import Arrival, Frontend
from iawlb.relay.plain import PlainClient
from iawlb.relay.resets import unread
from iawlb.relay.side import Side

PER_TURN = 100
"""
Silent clients that are closed before the reactor has its turn.
"""


class FirstBytes:
    """
    The clients of which no byte has come yet. Each is closed when its time is over.

    @ivar readers: Says when there are bytes of a plain socket, the reactor or a
        poller.
    """

    def __init__(self, clock: IReactorTime, readers: Any, timeout: float) -> None:
        """
        @param timeout: How long each may take, in seconds; 0 is no limit.
        """
        self.readers = readers
        self._clock = clock
        self._timeout = timeout
        # All have the same time-out, so the first is the first that is due.
        self._due: OrderedDict[PatientArrival, float] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def add(self, arrival: PatientArrival) -> None:
        """
        Wait for a client's first byte.
        """
        if self._timeout:
            self._due[arrival] = self._clock.seconds() + self._timeout
            if self._timer is None:
                self._timer = self._clock.callLater(self._timeout, self._look)

    def remove(self, arrival: PatientArrival) -> None:
        """
        It is there, or the client has gone.
        """
        self._due.pop(arrival, None)

    def _look(self) -> None:
        """
        Close those whose time is over.
        """
        self._timer = None
        now = self._clock.seconds()
        for _ in range(PER_TURN):
            arrival = next(iter(self._due), None)
            if arrival is None:
                return
            if self._due[arrival] > now:
                break
            arrival.dismiss(Outcome.FIRST_BYTE_TIMEOUT)
        wait = next(iter(self._due.values()), now) - now
        self._timer = self._clock.callLater(max(0, wait), self._look)

    def stop(self) -> None:
        """
        Keep no timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class PatientFrontend(Frontend):
    """
    The factory of clients' sides that enter the queue by their first byte.
    """

    firstBytes: FirstBytes

    def buildProtocol(self, addr: IAddress | None) -> Side | None:
        """
        Make the side of a client, if there is room.
        """
        side = super().buildProtocol(addr)
        if side is not None:
            side.owner = PatientArrival(self, addr)
        return side

    def accepted(self, handle: socket.SocketType, addr: IAddress) -> None:
        """
        Take an accepted socket, for which there is room.
        """
        arrival = PatientArrival(self, addr)
        client = PlainClient(handle, arrival, self.context.resets)
        arrival.sideMade(client)
        arrival.sideReady(client)


@implementer(IReadDescriptor)
class PatientArrival(Arrival):
    """
    A client that holds no place and no slot until it has sent something.
    """

    _frontend: PatientFrontend
    _silent = False

    def sideReady(self, side: Any) -> None:
        """
        Wait for its first byte.
        """
        if not isinstance(side, PlainClient) and side.early:
            super().sideReady(side)
            return
        self._silent = True
        firstBytes = self._frontend.firstBytes
        firstBytes.add(self)
        if isinstance(side, PlainClient):
            firstBytes.readers.addReader(self)
        else:
            side.resumeProducing()

    def _settled(self) -> bool:
        """
        Wait for its first byte no more.

        @return: Whether it was waited for.
        """
        if not self._silent:
            return False
        self._silent = False
        firstBytes = self._frontend.firstBytes
        firstBytes.remove(self)
        if isinstance(self._session.side, PlainClient):
            firstBytes.readers.removeReader(self)
        return True

    def dismiss(self, outcome: Outcome) -> None:
        """
        Close it unserved.
        """
        self._settled()
        super().dismiss(outcome)

    def _leave(self) -> None:
        """
        It has ended, and had sent nothing.
        """
        self._outcome = Outcome.CLIENT_LEFT_SILENT
        self._session.side.peerLeft()

    # What the reactor or the poller tells of a plain socket.

    def fileno(self) -> int:
        """
        Its descriptor.
        """
        return self._session.side.fileno()

    def logPrefix(self) -> str:
        """
        Name this in Twisted's own log lines.
        """
        return "iawlb"

    def doRead(self) -> None:
        """
        There are bytes to be read, or the client has gone.
        """
        self._settled()
        side = self._session.side
        if unread(side.fileno()):
            super().sideReady(side)
        else:
            self._leave()

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor found the socket broken.
        """
        if self._settled():
            self._leave()

    # What any other side tells.

    def sideRead(self, side: Any, data: bytes) -> None:
        """
        Its first bytes came, or more of them in the same read.
        """
        super().sideRead(side, data)
        if self._settled():
            side.pauseProducing()
            super().sideReady(side)

    def sideEnded(self, side: Any) -> None:
        """
        It will send no more.
        """
        if self._settled():
            self._leave()

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        It is gone.
        """
        if self._settled():
            self._outcome = Outcome.CLIENT_LEFT_SILENT
        super().sideLost(side, reset)

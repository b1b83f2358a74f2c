"""
Clients that enter the queue only when their first byte has come (C{--take-slot
first-byte}).
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
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.core.outcome import Outcome
from iawlb.frontend.factory import Arrival, Frontend
from iawlb.relay.plain import PlainClient
from iawlb.relay.resets import unread
from iawlb.relay.side import Side

PER_TURN = 100
"""
The number of silent clients that are closed before the reactor has its turn.
"""


class FirstBytes:
    """
    The clients from which no byte has come yet. Each is closed when its time is over.

    @ivar readers: The reactor or a poller, which reports when there are bytes on a
        plain socket.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, readers: Any, timeout: float) -> None:
        """
        @param timeout: How long a client may take to send its first byte, in seconds; 0
            is no limit.
        """
        self.readers = readers
        self._clock = clock
        self._timeout = timeout
        # All clients have the same time-out, so they are due in the order in which they
        # came.
        self._due: OrderedDict[PatientArrival, float] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def __bool__(self) -> bool:
        """
        Whether any client is waited for.
        """
        return bool(self._due)

    def add(self, arrival: PatientArrival) -> None:
        """
        Begin to wait for a client's first byte.
        """
        if self._timeout:
            self._due[arrival] = self._clock.seconds() + self._timeout
            if self._timer is None:
                self._timer = self._clock.callLater(self._timeout, self._look)

    def remove(self, arrival: PatientArrival) -> None:
        """
        Stop waiting for a client's first byte.
        """
        self._due.pop(arrival, None)

    def _look(self) -> None:
        """
        Close the clients whose time is over.
        """
        self._timer = None
        now = self._clock.seconds()
        for _ in range(PER_TURN):
            arrival = next(iter(self._due), None)
            if arrival is None:
                return
            if self._due[arrival] > now:
                break
            try:
                arrival.timeOver()
            except Exception:
                # A transport from another library may refuse to be closed.
                self.log.failure("ending a silent client has failed")
                self.remove(arrival)
        wait = next(iter(self._due.values()), now) - now
        self._timer = self._clock.callLater(max(0, wait), self._look)

    def stop(self) -> None:
        """
        Stop the timer.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class PatientFrontend(Frontend):
    """
    The factory of the sides of clients that enter the queue with their first byte.
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
        Begin the session of an accepted socket, for which there is room.
        """
        arrival = PatientArrival(self, addr)
        client = PlainClient(handle, arrival, self.context.resets)
        arrival.sideMade(client)
        arrival.sideReady(client)


@implementer(IReadDescriptor)
class PatientArrival(Arrival):
    """
    A client that gets no place in the queue and no slot until it has sent something.
    """

    _frontend: PatientFrontend
    _firstBytes: FirstBytes
    _silent = False

    def sideReady(self, side: Any) -> None:
        """
        Called when the client is connected: wait for its first byte.
        """
        if not isinstance(side, PlainClient) and side.early:
            super().sideReady(side)
            return
        self._silent = True
        firstBytes = self._firstBytes = self._frontend.firstBytes
        firstBytes.add(self)
        try:
            if isinstance(side, PlainClient):
                firstBytes.readers.addReader(self)
            else:
                side.resumeProducing()
        except Exception:
            self._frontend.failures.add()
            self._silent = False
            firstBytes.remove(self)
            self.dismiss(Outcome.FAILED)

    def _stopWaiting(self) -> bool:
        """
        Stop waiting for the client's first byte.

        @return: Whether the first byte was still awaited.
        """
        if not self._silent:
            return False
        self._silent = False
        self._firstBytes.remove(self)
        if isinstance(self._session.side, PlainClient):
            self._firstBytes.readers.removeReader(self)
        return True

    def timeOver(self) -> None:
        """
        Close the client's connection, unless there are bytes that were not reported in
        time, since the process was stopped for instance.
        """
        side = self._session.side
        if isinstance(side, PlainClient) and unread(side.fileno()):
            self.doRead()
        else:
            self.dismiss(Outcome.FIRST_BYTE_TIMEOUT)

    def dismiss(self, outcome: Outcome) -> None:
        """
        Close the client's connection, without having served it.
        """
        self._stopWaiting()
        super().dismiss(outcome)

    def _leave(self) -> None:
        """
        End the session of a client that has ended its half and sent nothing.
        """
        self._outcome = Outcome.CLIENT_LEFT_SILENT
        self._session.side.peerLeft()

    # What the reactor or the poller reports for a plain socket.

    def fileno(self) -> int:
        """
        Return the client's descriptor.
        """
        return self._session.side.fileno()

    def logPrefix(self) -> str:
        """
        Name the client in Twisted's own log lines.
        """
        return "iawlb"

    def doRead(self) -> None:
        """
        Called when there are bytes to be read, or the client has left.
        """
        self._stopWaiting()
        side = self._session.side
        if unread(side.fileno()):
            super().sideReady(side)
        else:
            self._leave()

    def connectionLost(self, reason: Failure) -> None:
        """
        Called when the reactor finds the socket broken.
        """
        if self._stopWaiting():
            self._leave()

    # What any other side reports.

    def sideRead(self, side: Any, data: bytes) -> None:
        """
        Called when the client's first bytes came, or more bytes of the same read.
        """
        super().sideRead(side, data)
        if self._stopWaiting():
            side.pauseProducing()
            super().sideReady(side)

    def sideEnded(self, side: Any) -> None:
        """
        Called when the client will send no more.
        """
        if self._stopWaiting():
            self._leave()

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Called when the client's connection is closed.
        """
        if self._stopWaiting():
            self._outcome = Outcome.CLIENT_LEFT_SILENT
        super().sideLost(side, reset)

"""
Relays that pass no more bytes per second than is set, in either direction.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

from iawlb.core.outcome import Outcome
from iawlb.relay.fast import FastRelay
from iawlb.relay.fastsocket import Socket, SocketRelay
from iawlb.relay.measured import Measured
from iawlb.relay.poller import SocketPoller
from iawlb.relay.portable import PortableRelay
from iawlb.relay.sends import SendWatch
from iawlb.relay.side import MOST_READ, Side
from iawlb.relay.throttle import Meter, Throttle
from iawlb.relay.timed import ReportingTurns

_IN = select.EPOLLIN
# What a socket that may not be read is not to report: neither bytes nor the end.
_ANY_IN = _IN | select.EPOLLRDHUP


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """
    The bandwidth of each session.

    @ivar fromClient: Bytes per second from the client; 0 is no limit.
    @ivar fromDestination: Bytes per second from the destination; 0 is no limit.
    @ivar throttle: Reads again what has waited.
    """

    fromClient: int
    fromDestination: int
    throttle: Throttle


class Limited(ReportingTurns):
    """
    A mix-in for relays with a bandwidth limit. It keeps the time-outs from taking a
    pause that the limit makes for silence.

    @ivar bandwidth: The limit of each direction, which a subclass sets.
    """

    bandwidth: Bandwidth

    paced: tuple[LimitedSocket | Pacer, ...] = ()
    _moved = 0.0
    _seconds: Callable[[], float]

    @property
    def moved(self) -> float:
        """
        When the last byte was read or written, a side ended, or a pause was over; now,
        if bytes may not be read for the moment.
        """
        if any(each.throttled for each in self.paced):
            return self._seconds()
        return max(self._moved, *(each.resumed for each in self.paced))

    @moved.setter
    def moved(self, moved: float) -> None:
        self._moved = moved

    def _report(self) -> None:
        if self.onSooner is not None:
            self.onSooner()


class LimitedSocket(Socket):
    """
    A socket of a fast relay that is read no faster than is set.

    @ivar throttled: Whether the socket is not read until more bytes are allowed.
    @ivar resumed: When such a pause was over the last time.
    """

    __slots__ = ("_meter", "_throttle", "resumed", "throttled")

    def __init__(
        self,
        relay: SocketRelay,
        end: Side | socket.SocketType,
        poller: SocketPoller,
        isClient: bool,
        rate: int,
        throttle: Throttle,
    ) -> None:
        """
        @param rate: Bytes per second.
        """
        super().__init__(relay, end, poller, isClient)
        self._meter = Meter(rate, throttle.seconds)
        self._throttle = throttle
        self.throttled = False
        self.resumed = 0.0
        self.recvInto = self._meter.metered(self.recvInto)

    def start(self) -> None:
        """
        Have the poller serve this socket, unless what came before is all that is
        allowed for the moment.
        """
        super().start()
        self._check()

    def _feed(self, data: bytes) -> None:
        self._meter.spend(len(data))
        super()._feed(data)

    def ready(self, events: int) -> None:
        """
        Called when the kernel reports events. Pass on what is allowed.
        """
        super().ready(events)
        self._check()

    def _check(self) -> None:
        """
        Stop reading if no byte is allowed.
        """
        if self._meter.left < 1 and not (self.throttled or self.lost or self.ended):
            self._pause()
            self._wait()

    def _pause(self) -> None:
        self.throttled = True
        self._throttle.wait(self, self._meter.wait())

    def resume(self) -> None:
        """
        Called when bytes may be allowed again. What is there already is read at once,
        so that the poller need not be asked to wait for it.
        """
        if not self.throttled or self.lost:
            return
        self.throttled = False
        self.resumed = self._throttle.seconds()
        self._meter.allowed()
        if self._meter.low:
            self._pause()
            return
        super().ready(_IN)
        if self._meter.left < 1 and not (self.lost or self.ended):
            self._pause()
        else:
            self._wait()

    def linger(self) -> None:
        """
        Keep reading, and discard the bytes, as fast as they come.
        """
        self.throttled = False
        self.recvInto = self._handle.recv_into
        super().linger()

    def _wanted(self) -> int:
        events = super()._wanted()
        if self.throttled:
            return events & ~_ANY_IN or select.EPOLLET
        return events


class LimitedFastRelay(Limited, FastRelay):
    """
    The fast relay, with a bandwidth limit.
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
        bandwidth = self.bandwidth

        def make(end: Side | socket.SocketType, isClient: bool, rate: int) -> Socket:
            if not rate:
                return Socket(self, end, poller, isClient)
            throttle = bandwidth.throttle
            limited = LimitedSocket(self, end, poller, isClient, rate, throttle)
            self.paced += (limited,)
            return limited

        self._seconds = bandwidth.throttle.seconds
        # The fast relay's own would make other sockets.
        super(FastRelay, self).__init__(
            make(client, True, bandwidth.fromClient),
            make(destination, False, bandwidth.fromDestination),
            onRelease,
            onEnd,
        )
        self.sends = sends


@implementer(IPushProducer)
class Pacer:
    """
    Stands between a side that is read and the transport that its bytes are written to:
    the side is read while that transport has room and bytes are allowed.

    @ivar throttled: Whether the side is not read until more bytes are allowed.
    @ivar resumed: When such a pause was over the last time.
    """

    def __init__(self, side: Side, rate: int, throttle: Throttle) -> None:
        """
        @param rate: Bytes per second.
        """
        self._side = side
        self._meter = Meter(rate, throttle.seconds)
        self._throttle = throttle
        self._full = False
        self.throttled = False
        self.resumed = 0.0

    def spend(self, number: int) -> None:
        """
        Count bytes that were read. If no more are allowed, stop reading.
        """
        self._meter.allowed()
        self._meter.spend(number)
        if not self._meter.low:
            self._limitRead()
        elif not self.throttled:
            self._pause()
            self._side.pauseProducing()

    def _pause(self) -> None:
        self.throttled = True
        self._throttle.wait(self, self._meter.wait())

    def _limitRead(self) -> None:
        """
        Have the side's transport read no more at a time than is allowed.
        """
        side = self._side
        below = side.transport.transport if side.secure else side.transport
        if isinstance(below, Connection):
            most = min(side.context.bufferSize, MOST_READ)
            below.bufferSize = max(1, min(most, int(self._meter.left)))

    def resume(self) -> None:
        """
        Called when bytes may be allowed again.
        """
        if not self.throttled or self._side.lost:
            return
        self._meter.allowed()
        if self._meter.low:
            self._pause()
            return
        self.throttled = False
        self.resumed = self._throttle.seconds()
        self._open()

    def _open(self) -> None:
        """
        Read the side again, if the other transport has room.
        """
        if not self._full:
            self._limitRead()
            self._side.resumeProducing()

    def failed(self) -> None:
        """
        End the session, because reading the side again has raised.
        """
        self._side.owner.sideFailed(self._side)

    # What the other transport calls.

    def pauseProducing(self) -> None:
        """
        Stop reading until the other transport has room.
        """
        self._full = True
        self._side.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Read again, if bytes are allowed.
        """
        self._full = False
        if not self.throttled:
            self._meter.allowed()
            self._open()

    def stopProducing(self) -> None:
        """
        Called when the other transport is closed; the relay decides what follows.
        """


class LimitedPortableRelay(Limited, PortableRelay):
    """
    The portable relay, with a bandwidth limit. TLS passes on whole records, so that
    there up to 16 KiB more may pass at once.
    """

    def __init__(
        self,
        client: Side,
        destination: Side,
        onRelease: Callable[[], None],
        onEnd: Callable[[Outcome], None],
    ) -> None:
        super().__init__(client, destination, onRelease, onEnd)
        bandwidth = self.bandwidth
        throttle = bandwidth.throttle
        rates = (
            (client, bandwidth.fromClient),
            (destination, bandwidth.fromDestination),
        )
        self._pacers = {
            side: Pacer(side, rate, throttle) for side, rate in rates if rate
        }
        self.paced = tuple(self._pacers.values())

    def producerOf(self, side: Side) -> Any:
        """
        Return what the other side's transport pauses while it has enough to write.
        """
        return self._pacers.get(side, side)

    def sideRead(self, side: Side, data: bytes) -> None:
        """
        Pass bytes on to the other side, and count them.
        """
        super().sideRead(side, data)
        pacer = self._pacers.get(side)
        if pacer is not None and not side.other.lost:
            pacer.spend(len(data))

    def sideLost(self, side: Side, reset: bool) -> None:
        """
        Let the other side take what is still to be written, and close it then. What it
        still sends is discarded as fast as it comes.
        """
        pacer = self._pacers.pop(side.other, None)
        if pacer is not None:
            pacer.throttled = False
        super().sideLost(side, reset)


class MeasuredLimitedFastRelay(Measured, LimitedFastRelay):
    """
    The fast relay, with a bandwidth limit, and a report of the first byte.
    """


class MeasuredLimitedPortableRelay(Measured, LimitedPortableRelay):
    """
    The portable relay, with a bandwidth limit, and a report of the first byte.
    """

"""
The protocol of one of the two connections of a session, whatever its transport.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.compat import unwritten, wrappedProtocol
from iawlb.relay.context import RelayContext
from iawlb.relay.ends import isEnd
from iawlb.relay.records import RecordWatch, watchRecords
from iawlb.relay.sends import unconfirmed

MOST_READ = 64 * 1024
"""
The most bytes that Twisted's transports read at a time: they allocate as many for each
read, and with 256 KiB relaying took twice the time.
"""


class SideOwner:
    """
    Receives the events of one connection. The frontend owns it first, then the connect,
    then the relay. The methods here do what suits an owner that does not expect the
    event.
    """

    __slots__ = ()

    def sideMade(self, side: Any) -> None:
        """
        Called when the side is connected.
        """

    def sideHandshaking(self, side: Any) -> None:
        """
        Called when the side's TLS handshake has begun.
        """

    def sideReady(self, side: Any) -> None:
        """
        Called when the side is connected, and its TLS handshake, if any, is done.
        """

    def sideRead(self, side: Any, data: bytes) -> None:
        """
        Called when bytes came. By default, keep them for the next owner.
        """
        side.early.append(data)

    def sideEnded(self, side: Any) -> None:
        """
        Called when the side's peer will send no more. The peer may still read. The side
        remembers the end, in C{ended}.
        """

    def sideFailed(self, side: Any) -> None:
        """
        Called when a method of the owner has raised. By default, reset the connection.
        """
        if not side.lost:
            side.abort()

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Called when the side is closed.

        @param reset: Whether the connection was cut off, rather than closed in order.
        """


@implementer(IPullProducer)
class _WhenWritten:
    """
    A producer that calls a function once a transport has given all its bytes to the
    kernel.
    """

    def __init__(self, transport: Connection, call: Callable[[], None]) -> None:
        self._transport: Connection | None = transport
        self._call = call
        self._asked = False

    def resumeProducing(self) -> None:
        """
        Called by the transport at once when this producer is registered, and again when
        all was written.
        """
        transport = self._transport
        if transport is None:
            return
        if self._asked:
            self.stopProducing()
            self._call()
        else:
            self._asked = True
            # Asks the reactor for a turn even if nothing is left to write.
            transport.startWriting()

    def stopProducing(self) -> None:
        """
        Called when the transport is closed, or all was written.
        """
        self._transport = None


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class Side(Protocol):
    """
    The protocol of one connection. It is also a producer: the other side's transport
    pauses it when that transport has enough to write.

    @ivar owner: Receives the connection's events.
    @ivar early: Bytes that came before there was a relay. A paused transport brings
        none, but a TLS record read along with the handshake may, and a program may hand
        over what it has read; so this is at most one read.
    @ivar ready: Whether the side is connected, and its TLS handshake, if any, done.
    @ivar failure: Why the TLS handshake failed, if it did.
    @ivar secure: Whether the side's transport is TLS.
    @ivar whole: Whether the connection cannot be ended by halves, and closing it waits
        for the peer, as with Twisted's TLS.
    @ivar bufferSize: The most bytes that are read at a time.
    @ivar ended: Whether the side's peer will send no more.
    @ivar lost: Whether the connection is closed.
    @ivar fromStart: Whether the side sees the connection from its first byte on, unlike
        one that was taken over.
    """

    log = Logger()
    transport: Any
    other: Side
    fromStart = True
    _records: RecordWatch | None = None

    def __init__(self, owner: SideOwner, context: RelayContext) -> None:
        self.owner = owner
        self.early: list[bytes] = []
        self.ready = False
        self.failure: Failure | None = None
        self.ended = False
        self.lost = False
        self.secure = False
        self.whole = False
        self.context = context
        self.bufferSize = min(context.bufferSize, MOST_READ)
        self._endSent = False
        self._closing = False
        self._resetting = False

    def logPrefix(self) -> str:
        """
        Name the side in Twisted's own log lines.
        """
        return "iawlb"

    def connectionMade(self) -> None:
        """
        Begin the TLS handshake, or be ready.
        """
        transport = self.transport
        if isinstance(transport, Connection) and getattr(transport, "plain", False):
            # A L{PlainConnection}: it has its options already, and is not read yet.
            transport.bufferSize = self.bufferSize
            self.ready = True
            self.owner.sideMade(self)
            self.owner.sideReady(self)
            return
        # TLS wraps a transport and passes on what it does not know itself, so ask for
        # the interface that only TLS has.
        self.secure = INegotiated.providedBy(transport)
        self.whole = self.secure and not getattr(transport, "halfCloses", False)
        noDelay = getattr(transport, "setTcpNoDelay", None)
        if noDelay is not None:
            noDelay(True)
        if isinstance(transport, Connection):
            # Both the size of a read, and how much may wait to be written.
            transport.bufferSize = self.bufferSize
            # The wrapper that endpoints put around a protocol forgets the half-closes
            # (Twisted 26.10: the last of our interfaces replaces the others).
            if wrappedProtocol(transport.protocol) is self:
                transport.protocol = self
        self.owner.sideMade(self)
        if self.secure:
            if self.whole and self.fromStart and not self.context.strictTls:
                self._records = watchRecords(transport)
            self.owner.sideHandshaking(self)
        else:
            self._becomeReady()

    def handshakeCompleted(self) -> None:
        """
        Called when the TLS handshake is done.
        """
        self._becomeReady()

    def _becomeReady(self) -> None:
        self.ready = True
        self.transport.pauseProducing()
        self.owner.sideReady(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Hand bytes to the owner.
        """
        try:
            self.owner.sideRead(self, data)
        except Exception:
            self.log.failure("serving a connection failed")
            self.owner.sideFailed(self)

    def readConnectionLost(self) -> None:
        """
        Called when the reactor reports the end of the peer's bytes. If the kernel says
        so too, pass the end on to the owner.
        """
        if isEnd(self.transport):
            self.peerEnded()

    def peerEnded(self) -> None:
        """
        Called when the peer will send no more: pass the end on to the owner.
        """
        self.ended = True
        self.watchForReset()
        try:
            self.owner.sideEnded(self)
        except Exception:
            self.log.failure("serving a connection failed")
            self.owner.sideFailed(self)

    def writeConnectionLost(self) -> None:
        """
        Called when our half is closed, as we asked.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Decide whether the connection was closed in order, and pass its end on to the
        owner.
        """
        self.lost = True
        self.context.resets.forget(self)
        self.context.sends.forget(self)
        inOrder = reason.check(ConnectionDone) is not None
        closing = self._closing or (self.secure and self._endSent)
        if closing and not self.unwritten():
            # Twisted reports an error when we close a Unix socket that its peer has
            # closed, and when a TLS peer does not answer our close with its own.
            inOrder = True
        if self._records is not None and reason.check(ConnectionLost):
            # Many servers and browsers end without close_notify.
            inOrder = inOrder or self._records.endedInOrder
        if not self.ready:
            self.failure = reason
        owner = self.owner
        # No reference cycle is left for the garbage collector.
        del self.owner
        try:
            owner.sideLost(self, not inOrder)
        except Exception:
            self.log.failure("serving a connection failed")
            owner.sideFailed(self)

    def local(self) -> IAddress | None:
        """
        Return the address of this end of the connection, or L{None} if the transport
        does not know.
        """
        getHost = getattr(self.transport, "getHost", None)
        return None if getHost is None else getHost()

    def fileno(self) -> int:
        """
        Return the connection's descriptor, or -1 if it has none.
        """
        fileno = getattr(self.transport, "fileno", None)
        return -1 if fileno is None else int(fileno())

    def hungUp(self) -> None:
        """
        Called when the connection was reset while it was not read.
        """
        self.abort()

    def peerLeft(self) -> None:
        """
        Called when the peer has left while the connection was not read.
        """
        # Closing would wait for the peer's close_notify, which would never come.
        if self.whole:
            self.abort()
        else:
            self.close()

    def allSent(self) -> None:
        """
        Called when the kernel has sent all that comes before the reset.
        """
        self.abort()

    # What the other side's transport calls, as this side is its producer.

    def pauseProducing(self) -> None:
        """
        Stop reading, and watch for a reset.
        """
        self.transport.pauseProducing()
        self.watchForReset()

    def resumeProducing(self) -> None:
        """
        Continue to read.
        """
        # A transport that was read to its end would report the end again.
        if not self.ended and not self.lost:
            self.context.resets.forget(self)
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        Called when the other side's transport is closed; the relay decides what
        follows.
        """

    def watch(self) -> None:
        """
        Detect from now on that the peer leaves, before anything is relayed.
        """
        if not self.lost:
            # An end behind bytes that were read already may be a half-close.
            resets = self.context.resets
            read = bool(self.early) and not resets.abortOnClose
            resets.watch(self, not read)

    def watchForReset(self) -> None:
        """
        Detect from now on that the connection is reset, while nothing is read.
        """
        if not self.lost:
            self.context.resets.watch(self)

    def handOver(self) -> socket.SocketType:
        """
        Give the socket to another owner, which reads, writes and closes it, and calls
        the transport's C{connectionLost} then.
        """
        self.context.resets.forget(self)
        self.transport.stopReading()
        self.transport.stopWriting()
        handle: socket.SocketType = self.transport.socket
        return handle

    # What the relay calls.

    def feedFrom(self, producer: Any) -> None:
        """
        Let this side's transport pause the other side when it has enough to write.
        """
        self.transport.registerProducer(producer, True)

    def write(self, data: bytes) -> None:
        """
        Send bytes.
        """
        self.transport.write(data)

    def endWriting(self) -> None:
        """
        Send what is to be written, then the end. Twisted's TLS has no half-close:
        there, close the TLS session, and still read until the peer answers the close.
        """
        if self._endSent:
            return
        self._endSent = True
        # A paused producer would hold back the end (Twisted 26.10).
        self.transport.unregisterProducer()
        if self.whole or not hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def close(self) -> None:
        """
        Send what is to be written, then close; if a reset is to follow the bytes, leave
        it at that.
        """
        if self._resetting:
            return
        self._closing = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        Close at once, with a reset.
        """
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def linger(self) -> None:
        """
        Keep reading; the relay discards the bytes.
        """
        self.resumeProducing()

    def resetWhenWritten(self) -> None:
        """
        Send what is to be written, then reset, so that the peer gets the bytes that
        came before the reset.
        """
        self._resetting = True
        transport = self.transport
        transport.unregisterProducer()
        below = transport.transport if self.secure else transport
        if not isinstance(below, Connection):
            transport.abortConnection()
            return
        written = _WhenWritten(below, self._written)
        if self.secure:
            # TLS passes on in the next turn what was written in this one.
            clock: Any = below.reactor
            clock.callLater(0, below.registerProducer, written, False)
        else:
            below.registerProducer(written, False)

    def _written(self) -> None:
        # A reset drops what the kernel has not sent.
        self.context.sends.whenSent(self)

    def unwritten(self) -> int:
        """
        Count the bytes that the side's transport has not given to the kernel.
        """
        return unwritten(self.transport)

    @property
    def socket(self) -> Any:
        """
        The kernel's socket, or L{None} if the side's transport has none.
        """
        return getattr(self.transport, "socket", None)

    def undelivered(self) -> int:
        """
        Count the bytes that wait to be written, and those that the peer has not
        acknowledged.
        """
        waiting, number = self.unwritten(), self.fileno()
        if number < 0:
            return waiting
        ended = self._endSent and not self.whole and not waiting
        return waiting + unconfirmed(number, ended)

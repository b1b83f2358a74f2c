"""
One of the two sockets of a fast relay, which reads and writes the socket itself.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from iawlb.relay.plain import resetNow
from iawlb.relay.poller import SocketPoller
from iawlb.relay.sends import SendWatch, unconfirmed
from iawlb.relay.side import Side, SideOwner

_ENDED = select.EPOLLRDHUP
# Together with the peer's end, if it has come.
_IN = select.EPOLLIN | _ENDED
_OUT = select.EPOLLOUT
_ERR = select.EPOLLERR
_MORE = socket.MSG_MORE
_HUP = select.EPOLLHUP
# Waits for nothing. The kernel reports errors and hangups regardless: edge-triggered
# once, otherwise in every turn until they are dealt with.
_NOTHING = select.EPOLLET

GROW_AFTER = 8 * 1024 * 1024
"""
Bytes that a socket passes before it reads into the large buffer. The kernel's own
buffers hold about as many, so a peer that never reads stalls before that, and a
transfer that lasts gets the large buffer.
"""

_DONE = Failure(ConnectionDone())
_ABORTED = Failure(ConnectionAborted())


class SocketRelay(Protocol):
    """
    What a socket needs of its relay.

    @ivar asked: Whether the last byte came from the client.
    @ivar moved: When the last byte was read or written.
    @ivar cut: Whether the session was cut off, so that bytes may be lost.
    @ivar sends: Waits until the kernel has sent what was written.
    """

    asked: bool
    moved: float
    cut: bool
    sends: SendWatch

    def sideEnded(self, side: Socket) -> None:
        """
        Called when the socket's peer will send no more.
        """

    def sideReset(self, side: Socket) -> None:
        """
        Called when a reset of the socket is seen.
        """

    def sideLost(self, side: Socket, reset: bool) -> None:
        """
        Called when the socket is closed.
        """

    def failed(self) -> None:
        """
        Called when serving the socket has raised.
        """


class Socket(SideOwner):
    """
    One of the two sockets of a session.

    @ivar passed: Bytes read from this socket and passed on.
    @ivar pending: Bytes that could not be written to this socket yet, at most one
        buffer. While there are some, the other socket is not read: this is the
        back-pressure.
    @ivar broken: Whether the peer has reset this socket.
    """

    __slots__ = (
        "_confirmed",
        "_early",
        "_endSent",
        "_events",
        "_handle",
        "_large",
        "_poller",
        "_resetting",
        "_then",
        "_transport",
        "broken",
        "ended",
        "isClient",
        "lost",
        "number",
        "other",
        "passed",
        "pending",
        "recvInto",
        "relay",
        "send",
    )

    other: Socket

    def __init__(
        self,
        relay: SocketRelay,
        end: Side | socket.SocketType,
        poller: SocketPoller,
        isClient: bool,
    ) -> None:
        self.ended = False
        self._early: Sequence[bytes] = ()
        # The transport of Twisted's that had the socket, if any. Its connectionLost is
        # called when the socket is closed.
        self._transport: Connection | None = None
        if isinstance(end, Side):
            handle = end.handOver()
            self.ended = end.ended
            self._early = end.early
            end.early = []
            end.owner = self
            self._transport = end.transport
        else:
            handle = end
        self.relay = relay
        self._handle = handle
        self._poller = poller
        self._large = False
        self._events = 0
        self._then: Callable[[], None] | None = None
        self.lost = False
        self.broken = False
        self._endSent = False
        self._resetting = False
        self.passed = 0
        self.pending: memoryview | None = None
        self.isClient = isClient
        self.number: int = handle.fileno()
        self.recvInto: Callable[[memoryview], int] = handle.recv_into
        self.send: Callable[[memoryview, int], int] = handle.send

    def start(self) -> None:
        """
        Have the poller serve this socket, from the next turn on.
        """
        for data in self._early:
            self._feed(data)
        self._events = self._wanted()
        self._poller.add(self.number, self._events, self)

    # Bytes.

    def ready(self, events: int) -> None:
        """
        Called when the kernel reports events. Pass one chunk on, together with the end
        if nothing else is behind the chunk.
        """
        if events & _OUT:
            self._flush()
        if self.lost:
            return
        if not events & _IN:
            if events & (_ERR | _HUP):
                self._hungUp(events)
            return
        other = self.other
        if self.ended or other.pending is not None:
            return
        poller = self._poller
        view = poller.large if self._large else poller.small
        try:
            number = self.recvInto(view)
        except BlockingIOError:
            return
        except OSError:
            self._cut()
            return
        if not number:
            self._end()
            return
        ended = events & _ENDED and not self.broken and self._isLast(number, view)
        try:
            # The kernel sends the end, which follows at once, in the same packet.
            sent = other.send(view[:number], _MORE if ended else 0)
        except BlockingIOError:
            sent = 0
        except OSError:
            other._sendFailed()
            return
        self.passed += number
        relay = self.relay
        relay.asked = self.isClient
        relay.moved = poller.now
        if sent != number:
            other._hold(view[sent:number])
        elif number == len(view) and self.passed > GROW_AFTER:
            self._large = True
        if ended:
            self._end()

    def _isLast(self, number: int, view: memoryview) -> bool:
        """
        Return whether nothing but the end is left behind a chunk.

        @param number: The length of the chunk.
        @param view: The buffer that the chunk was read into.
        """
        if number == len(view):
            return False
        try:
            return not self._handle.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            # The kernel reports the reset only once; the next read returns an end.
            self._break()
            return False

    def _feed(self, data: bytes) -> None:
        """
        Pass on bytes that were read from this socket before the relay began.
        """
        self.passed += len(data)
        self.relay.asked = self.isClient
        self.other._hold(memoryview(data))

    def _hold(self, rest: memoryview) -> None:
        """
        Keep bytes that could not be written.
        """
        before = b"" if self.pending is None else bytes(self.pending)
        self.pending = memoryview(before + bytes(rest))
        self._wait()
        self.other._wait()

    def _flush(self) -> None:
        """
        Write the bytes that were kept.
        """
        pending = self.pending
        if pending is None:
            return
        try:
            sent = self.send(pending, 0)
        except BlockingIOError:
            return
        except OSError:
            self._sendFailed()
            return
        self.relay.moved = self._poller.now
        if sent != len(pending):
            self.pending = pending[sent:]
            return
        self.pending = None
        self._wait()
        self.other._wait()
        then, self._then = self._then, None
        if then is not None:
            then()

    def _wanted(self) -> int:
        """
        Return the events to wait for.
        """
        events = 0
        if not self.ended and self.other.pending is None:
            events = _IN
        if self.pending is not None:
            events |= _OUT
        return events or _NOTHING

    def _wait(self) -> None:
        """
        Have the poller wait for other events, if they have changed.
        """
        if self.lost or not self._events:
            return
        events = self._wanted()
        if events != self._events:
            self._events = events
            self._poller.change(self.number, events)

    # The end.

    def _end(self) -> None:
        """
        Called when the peer will send no more.
        """
        if self.broken:
            self._cut()
            return
        self.ended = True
        self.relay.moved = self._poller.now
        self.relay.sideEnded(self)
        self._wait()

    def _cut(self) -> None:
        """
        Called when the peer has reset this socket and nothing is left to be read.
        """
        self._shut(_DONE, True)

    def _sendFailed(self) -> None:
        """
        Called when writing has failed because the peer has reset this socket. What the
        peer sent before may still be there to be read.
        """
        if self.lost:
            return  # the other socket's bytes are discarded
        self._break()
        self.pending = None
        self.relay.moved = self._poller.now
        if not self.other.lost:
            self.other.linger()
        self.relay.sideReset(self)
        if self.ended:
            self._cut()
        else:
            # When the other socket has room again, what is left is read.
            self._wait()

    def _break(self) -> None:
        """
        Note that the peer has reset this socket.
        """
        if not self.broken:
            self._discount()
            self._confirmed = self.other.passed
            self.broken = True

    def _discount(self) -> None:
        """
        Leave out of the count what the peer has not acknowledged, and never will.
        """
        missing = 0
        if self._handle.family != socket.AF_UNIX:
            # A PROXY header, which is none of the client's bytes, may be among these.
            missing = self.undelivered()
        elif self.pending is not None:
            missing = len(self.pending)
        self.other.passed = max(0, self.other.passed - missing)

    def _hungUp(self, events: int) -> None:
        """
        Called when the connection was reset or closed while this socket was not read.
        """
        if events & _ERR:
            self._sendFailed()
        elif self.ended:
            # Both halves are closed. The kernel reports this for a Unix socket when the
            # peer is gone.
            self._shut(_DONE, False)

    def failed(self) -> None:
        """
        End the session, because serving this socket has raised.
        """
        self.relay.failed()

    def _shut(self, why: Failure, reset: bool) -> None:
        """
        Close this socket, and report that to the relay.

        @param why: The reason, for the transport of Twisted's, if there is one.
        @param reset: Whether the peer has reset the socket.
        """
        if self.lost:
            return
        self.lost = True
        if self.broken:
            self.other.passed = self._confirmed
        elif reset or self.relay.cut:
            self._discount()
        self.pending = None
        self._then = None
        self._poller.remove(self.number)
        if self._resetting:
            self.relay.sends.forget(self)
        transport = self._transport
        if transport is not None:
            transport.connectionLost(why)
        else:
            if why is _ABORTED:
                resetNow(self._handle)
            else:
                self._handle.close()
        self.relay.sideLost(self, reset)

    # What the rules call.

    def endWriting(self) -> None:
        """
        Send what is to be written, then the end.
        """
        if not self._endSent:
            self._endSent = True
            self._afterPending(self._sendEnd)

    def close(self) -> None:
        """
        Send what is to be written, then close.
        """
        # A reset that waits must not become a clean end.
        if self._resetting:
            return
        if self.pending is None:
            self._shut(_DONE, False)
            return
        self._then = self.close
        if self.other.lost:
            self.linger()

    def abort(self) -> None:
        """
        Close at once, with a reset.
        """
        self._shut(_ABORTED, False)

    def resetWhenWritten(self) -> None:
        """
        Send what is to be written, then reset. A reset drops what the kernel has not
        sent, so wait until all is sent.
        """
        self._resetting = True
        self.relay.moved = self._poller.now
        self._afterPending(self._resetWhenSent)

    def _resetWhenSent(self) -> None:
        self.relay.sends.whenSent(self)

    def fileno(self) -> int:
        """
        Return the socket's descriptor.
        """
        return self.number

    def allSent(self) -> None:
        """
        Called when the kernel has sent all: reset the socket.
        """
        self.abort()

    def linger(self) -> None:
        """
        Keep reading, and discard the bytes: the peer may take nothing before all that
        it sends is read.
        """
        self.relay.moved = self._poller.now
        self._poller.replace(self.number, _Discarding(self))
        self._wait()

    @property
    def socket(self) -> socket.SocketType:
        """
        The kernel's socket.
        """
        return self._handle

    def undelivered(self) -> int:
        """
        Count the bytes that wait to be written, and those that the peer has not
        acknowledged.
        """
        if self.pending is not None:
            return len(self.pending) + unconfirmed(self.number)
        return unconfirmed(self.number, self._endSent)

    def _afterPending(self, then: Callable[[], None]) -> None:
        if self.pending is None:
            then()
        else:
            self._then = then

    def _sendEnd(self) -> None:
        try:
            self._handle.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the peer has reset the socket, which the poller is about to report

    def discard(self, events: int) -> None:
        """
        Called when the kernel reports events after the other socket was closed: read,
        and discard the bytes. (The lines that L{ready} has too are not shared, because
        another call for each chunk would slow L{ready} down.)
        """
        if events & _OUT:
            self._flush()
        if self.lost:
            return
        if self.ended:
            if events & (_ERR | _HUP):
                self._hungUp(events)
            return
        try:
            number = self.recvInto(self._poller.small)
        except BlockingIOError:
            return
        except OSError:
            self._cut()
            return
        if not number:
            self._end()


class _Discarding:
    """
    Receives the events of a socket whose other socket is closed, and has its bytes
    discarded.
    """

    __slots__ = ("_socket",)

    def __init__(self, ours: Socket) -> None:
        self._socket = ours

    def ready(self, events: int) -> None:
        """
        Called when the kernel reports events.
        """
        self._socket.discard(events)

    def failed(self) -> None:
        """
        End the session, because serving the socket has raised.
        """
        self._socket.failed()

"""
The first bytes of a client, which are looked at before the client enters the queue.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.relay.plain import PlainClient
from iawlb.relay.resets import unread
from iawlb.relay.side import Side

MOST = 20 * 1024
"""
The most bytes that can be looked at: more than a TLS record, and more than any PROXY
header of use.
"""

AGAIN = 0.01
"""
How long to wait at first before a Unix socket is looked at again that reports bytes
which were seen already, in seconds; each time twice as long, up to C{SELDOM}.
"""

SELDOM = 0.5
"""
The longest such wait: many clients that send half of what is waited for would take all
processor time otherwise.
"""

_ENDED = getattr(select, "POLLRDHUP", 0)

Run: TypeAlias = Callable[[Callable[[], None]], None]


class Head(Protocol):
    """
    The first bytes of a client.
    """

    @property
    def ended(self) -> bool:
        """
        Whether the client will send no more than what L{peek} returns.
        """

    def peek(self) -> bytes:
        """
        Return the bytes that have come and were not skipped, at most L{MOST} of them.
        They are passed on to the destination.
        """

    def skip(self, number: int) -> None:
        """
        Remove bytes that L{peek} has returned, so that they are not passed on.
        """

    def wait(self, call: Callable[[], None]) -> None:
        """
        Call a function once, when there is more than what the last L{peek} has
        returned, or C{ended} is true.
        """

    def cancel(self) -> None:
        """
        Stop waiting.
        """

    @property
    def waits(self) -> bool:
        """
        Whether more is waited for.
        """

    def lookAgain(self) -> None:
        """
        Report bytes at once that have come already, and were not reported in time,
        since the process was stopped for instance.
        """


@implementer(IReadDescriptor)
class PlainHead:
    """
    The first bytes of a plain socket. They stay in the kernel until they are skipped,
    so the session can be relayed by the fast relay, and takes no memory here.
    """

    def __init__(
        self, client: PlainClient, readers: Any, clock: IReactorTime, run: Run
    ) -> None:
        """
        @param readers: The reactor or a poller, which reports when there are bytes.
        @param run: Calls a function, and ends the session if the function raises.
        """
        self.ended = False
        self._run = run
        self._client = client
        self._readers = readers
        self._clock = clock
        # How many bytes the last look has found.
        self._seen = 0
        self._call: Callable[[], None] | None = None
        # Whether the kernel reports only more bytes than were seen.
        self._marked = False
        self._reading = False
        self._timer: IDelayedCall | None = None
        self._again = AGAIN

    def peek(self) -> bytes:
        """
        Return the bytes that have come and were not skipped.
        """
        try:
            data = self._client.handle.recv(MOST, socket.MSG_PEEK)
        except BlockingIOError:
            data = b""
        except OSError:
            data, self.ended = b"", True  # reset
        else:
            self.ended = self.ended or not data
        self._seen = len(data)
        return data

    def skip(self, number: int) -> None:
        """
        Remove bytes that were looked at.
        """
        self._client.handle.recv(number)
        self._seen -= number

    def wait(self, call: Callable[[], None]) -> None:
        """
        Call a function once, when there is more, or the client has ended.
        """
        self._call = call
        if self._seen:
            # Otherwise the bytes that were seen would be reported again and again.
            self._mark(self._seen + 1)
        self._listen()

    def _listen(self) -> None:
        self._timer = None
        self._reading = True
        self._readers.addReader(self)

    def _mark(self, number: int) -> None:
        """
        Have the kernel report so many bytes, and no fewer.
        """
        self._client.handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, number)
        self._marked = number > 1

    def cancel(self) -> None:
        """
        Stop waiting.
        """
        self._call = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reading:
            self._reading = False
            self._readers.removeReader(self)
        if self._marked:
            self._mark(1)

    @property
    def waits(self) -> bool:
        """
        Whether more is waited for.
        """
        return self._call is not None

    def lookAgain(self) -> None:
        """
        Report bytes at once that have come already.
        """
        if self._call is not None and unread(self.fileno()) > self._seen:
            self._fire()

    # What the reactor or the poller asks and reports.

    def fileno(self) -> int:
        """
        Return the client's descriptor.
        """
        return self._client.fileno()

    def logPrefix(self) -> str:
        """
        Name the client in Twisted's own log lines.
        """
        return "iawlb"

    def doRead(self) -> None:
        """
        Called when there are bytes to be read, or the client has left.
        """
        if unread(self.fileno()) > self._seen:
            self._fire()
            return
        alone = select.poll()
        alone.register(self.fileno(), _ENDED)
        if not self._seen or alone.poll(0):
            self.ended = True
            self._fire()
            return
        # A Unix socket cannot be told to report more bytes alone.
        self._reading = False
        self._readers.removeReader(self)
        self._timer = self._clock.callLater(self._again, self._listen)
        self._again = min(2 * self._again, SELDOM)

    def _fire(self) -> None:
        self._again = AGAIN
        call = self._call
        self.cancel()
        if call is not None:
            self._run(call)

    def connectionLost(self, reason: Failure) -> None:
        """
        Called when the reactor finds the socket broken.
        """
        self.ended = True
        self._fire()


class SideHead:
    """
    The first bytes of a connection that Twisted reads. They are kept in memory, at most
    one read more than L{MOST}.
    """

    def __init__(self, side: Side, run: Run) -> None:
        """
        @param run: Calls a function, and ends the session if the function raises.
        """
        self._side = side
        self._run = run
        self._call: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """
        Whether the client will send no more.
        """
        return self._side.ended

    def peek(self) -> bytes:
        """
        Return the bytes that have come and were not skipped.
        """
        return b"".join(self._side.early)[:MOST]

    def skip(self, number: int) -> None:
        """
        Remove bytes that were looked at.
        """
        rest = b"".join(self._side.early)[number:]
        self._side.early[:] = [rest] if rest else []

    def wait(self, call: Callable[[], None]) -> None:
        """
        Call a function once, when there is more, or the client has ended.
        """
        self._call = call
        self._side.resumeProducing()

    def cancel(self) -> None:
        """
        Stop waiting.
        """
        if self._call is not None:
            self._call = None
            if not self._side.lost:
                self._side.pauseProducing()

    @property
    def waits(self) -> bool:
        """
        Whether more is waited for.
        """
        return self._call is not None

    def lookAgain(self) -> None:
        """
        Do nothing: what has come was reported.
        """

    def fire(self) -> None:
        """
        Called when bytes have come, or the client has ended.
        """
        call = self._call
        self.cancel()
        if call is not None:
            self._run(call)

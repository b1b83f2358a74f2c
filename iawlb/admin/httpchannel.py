"""
One connection of HTTP, with limits on all that a client can make large or slow.

Twisted's channel frames the lines and the answers. It has no limit on bodies, which it
writes to a file, answers every mistake by a bare 400, gives a client that sends a byte
now and then all the time of the world, and reads chunked bodies. So what a request may
be is decided here, before Twisted's code acts on a line.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http

from iawlb.admin.httplimits import (
    IDLE,
    LINGER,
    LONGEST_TARGET,
    MOST_BODY,
    MOST_HEADER_BYTES,
    MOST_HEADERS,
    MOST_HELD,
    REQUEST_WITHIN,
    STALLED,
)
from iawlb.admin.httprequest import AdminRequest, bare
from iawlb.admin.problem import Problem
from iawlb.admin.turns import Turns

_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,24}) ([!-~]+) HTTP/(\d)\.(\d)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*(.*)", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class ChannelOwner(Protocol):
    """
    What a connection needs of the server.
    """

    clock: IReactorTime
    turns: Turns

    def received(self, request: AdminRequest) -> None:
        """
        Called with each complete request, in a turn of the reactor of its own.
        """

    def closed(self, channel: AdminChannel) -> None:
        """
        Called when the connection is closed.
        """


class AdminChannel(http.HTTPChannel):
    """
    One connection to the admin server.

    @ivar crowded: Whether there are too many connections for this one.
    @ivar busy: Whether a request is being answered.
    @ivar since: When the connection began to be idle, or to send a request.
    @ivar paused: Whether the client reads more slowly than is written.
    @ivar whenResumed: Fired when the client has read.
    @ivar stalled: How long the client may read nothing, in seconds.
    """

    requestFactory: Any = AdminRequest
    timeOut = None  # Twisted's starts anew with each byte; see _deadline
    MAX_LENGTH = MOST_HEADER_BYTES
    # Checked here already.
    maxHeaders = MOST_HEADERS + 1
    totalHeadersSize = 1024 * 1024
    transport: Any
    factory: Any

    def __init__(self, owner: ChannelOwner) -> None:
        super().__init__()
        self.owner = owner
        self.crowded = False
        self.busy = False
        self.since = owner.clock.seconds()
        self.paused = False
        self.whenResumed: list[Deferred[None]] = []
        self.stalled = STALLED
        self._deadline: IDelayedCall | None = None
        self._stall: IDelayedCall | None = None
        self._refused = False
        self._discarded = 0
        self._begun = False
        self._blank = False
        self._lines = 0
        self._bytes = 0
        self._missing: int | None = None
        self._held = bytearray()
        self._feeding: IDelayedCall | None = None

    @property
    def idle(self) -> bool:
        """
        Whether the connection may be closed for another one: nothing is asked, or the
        answer is not read.
        """
        return (not self.busy or self.paused) and not self._refused

    # Time.

    def _within(self, seconds: float | None, late: Any = None) -> None:
        """
        Replace the deadline.
        """
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        if seconds is not None:
            self._deadline = self.owner.clock.callLater(seconds, late)

    def connectionMade(self) -> None:
        """
        Wait for the first request.
        """
        super().connectionMade()
        self._within(IDLE, self.close)
        if self.crowded:
            headers = {"Retry-After": "1"}
            self.refuse(Problem(503, "too many connections are open", headers))

    def _late(self) -> None:
        """
        Called when a request takes too long to arrive.
        """
        self.refuse(
            Problem(408, f"the request took more than {REQUEST_WITHIN:g} s to arrive")
        )

    def close(self) -> None:
        """
        Close the connection behind what is still to be written.
        """
        self._refused = True
        self._within(LINGER, self.abort)
        self.loseConnection()

    def finish(self) -> None:
        """
        Close the connection once the answer under way is written.
        """
        if self.busy:
            self.persistent = False
        elif not self._refused:
            self.close()

    def abort(self) -> None:
        """
        Close the connection at once.
        """
        self._refused = True
        self.transport.abortConnection()

    # Bytes that come.

    def dataReceived(self, data: bytes) -> None:
        """
        Read what the client sends.
        """
        if self._refused:
            self._discarded += len(data)
            if self._discarded > MOST_BODY * 4:
                self.abort()
        elif self.busy or self._feeding is not None:
            self._hold(data)
        else:
            if not self._begun:
                self._begun = True
                self.since = self.owner.clock.seconds()
                self._within(REQUEST_WITHIN, self._late)
            super().dataReceived(data)

    def _hold(self, data: bytes) -> None:
        """
        Keep bytes of a later request, and read no more if there are many.
        """
        self._held += data
        if len(self._held) > MOST_HELD:
            self.transport.pauseProducing()

    def lineReceived(self, line: bytes) -> None:
        """
        Check one line of a request's head, before Twisted acts on it.
        """
        if not self._lines and not line and not self._blank:
            self._blank = True  # some clients send an empty line between two requests
            return
        try:
            if not self._lines:
                self._checkFirst(line)
            elif line:
                self._checkHeader(line)
        except Problem as problem:
            self.refuse(problem)
            return
        self._lines += 1
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """
        Refuse a line that is too long.
        """
        if self._lines:
            self.refuse(_tooManyHeaders())
        else:
            self.refuse(_tooLongTarget())

    def _checkFirst(self, line: bytes) -> None:
        """
        Check the line with the method and the target.
        """
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            if len(line) > LONGEST_TARGET:
                raise _tooLongTarget()
            raise Problem(400, "the first line is not METHOD /path HTTP/1.1")
        if found[3] != b"1":
            raise Problem(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if len(found[2]) > LONGEST_TARGET:
            raise _tooLongTarget()

    def _checkHeader(self, line: bytes) -> None:
        """
        Check a header line.
        """
        self._bytes += len(line)
        if self._lines > MOST_HEADERS or self._bytes > MOST_HEADER_BYTES:
            raise _tooManyHeaders()
        found = _HEADER.fullmatch(line)
        if found is None or _CONTROL.search(found[2]):
            raise Problem(400, "a header line is not Name: value")
        name, value = found[1].lower(), found[2].strip()
        if name == b"transfer-encoding":
            raise Problem(411, "a body needs a Content-Length here")
        if name == b"content-length":
            if not re.fullmatch(rb"\d{1,15}", value) or self._missing is not None:
                raise Problem(400, "Content-Length is not one number")
            self._missing = int(value)

    def allHeadersReceived(self) -> None:
        """
        Refuse a body that is too long, before any of it is read.
        """
        if (self._missing or 0) > MOST_BODY:
            self.refuse(_tooLargeBody())
            return
        super().allHeadersReceived()

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        """
        Return whether the connection stays open for another request.
        """
        asked = b",".join(request.requestHeaders.getRawHeaders(b"Connection") or [])
        stays = version == b"HTTP/1.1" and b"close" not in [
            each.strip().lower() for each in asked.split(b",")
        ]
        if not stays:
            request.setHeader("Connection", "close")
        return stays

    def rawDataReceived(self, data: bytes) -> None:
        """
        Read a part of the body, or of what follows the request.
        """
        if self.busy:
            self._hold(data)
            return
        missing = self._missing or 0
        part, rest = data[:missing], data[missing:]
        self.requests[-1].handleContentChunk(part)
        self._missing = missing - len(part)
        if not self._missing:
            self._held += rest
            self.allContentReceived()

    def allContentReceived(self) -> None:
        """
        Answer the request that is complete now.
        """
        self.busy = True
        self._begun = self._blank = False
        self._lines = self._bytes = 0
        self._missing = None
        self._within(None)
        super().allContentReceived()

    # Answers.

    def requestDone(self, request: http.Request) -> None:
        """
        Wait for the next request, or take it from what was read ahead.
        """
        self.busy = False
        self.since = self.owner.clock.seconds()
        self.stalled = STALLED
        if not self.persistent:
            self._refused = True
            self._within(STALLED, self.abort)
        else:
            self._within(IDLE, self.close)
            if self._held:
                self._feeding = self.owner.clock.callLater(0, self._feed)
        super().requestDone(request)

    def _feed(self) -> None:
        """
        Read what was held.
        """
        self._feeding = None
        held, self._held = bytes(self._held), bytearray()
        self.dataReceived(held)

    def refuse(self, problem: Problem) -> None:
        """
        Answer a request that is not read further, and close the connection.
        """
        self._refused = True
        self.clearLineBuffer()
        self.setRawMode()
        self.transport.write(bare(problem))
        self.transport.loseWriteConnection()
        self._within(LINGER, self.abort)

    # The transport's calls.

    def pauseProducing(self) -> None:
        """
        Called when the client reads more slowly than is written.
        """
        self.paused = True
        super().pauseProducing()
        if self._stall is None:
            self._stall = self.owner.clock.callLater(self.stalled, self._stalledFor)

    def _stalledFor(self) -> None:
        self._stall = None
        self.abort()

    def resumeProducing(self) -> None:
        """
        Called when the client has read most of what was written.
        """
        self.paused = False
        self._stopStall()
        super().resumeProducing()
        self._resumed()

    def _resumed(self) -> None:
        waiting, self.whenResumed = self.whenResumed, []
        for each in waiting:
            each.callback(None)

    def _stopStall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Called when the connection is closed.
        """
        self._refused = True
        self._within(None)
        self._stopStall()
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        super().connectionLost(reason)
        self._resumed()
        self.owner.closed(self)


def _tooManyHeaders() -> Problem:
    return Problem(
        431,
        f"at most {MOST_HEADERS} header lines, with {MOST_HEADER_BYTES} bytes together",
    )


def _tooLongTarget() -> Problem:
    return Problem(414, f"the target is longer than {LONGEST_TARGET} bytes")


def _tooLargeBody() -> Problem:
    return Problem(413, f"the body is longer than {MOST_BODY} bytes")

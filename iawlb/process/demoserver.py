"""
A server for demonstrations, which answers HTTP after some work.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

WORK = 1.0
"""
How long a server works on a request, in seconds, unless the path says otherwise.
"""

PATIENCE = 10.0
"""
The longest time that a server waits for a whole request, in seconds.
"""

MOST_HEAD = 65536
"""
The longest head of a request, in bytes.
"""


def workFor(head: bytes) -> float:
    """
    Return how many seconds the work on a request takes. The path may say so, such as
    C{/2.5}; for other paths it is L{WORK}.
    """
    found = re.match(rb"[A-Z]+ /(\d{1,3}(?:\.\d{1,3})?)[ \r\n]", head)
    return WORK if found is None else float(found[1])


@implementer(IHalfCloseableProtocol)
class DemoRequest(Protocol):
    """
    One connection to a demo server: reads a request, works, and answers.
    """

    transport: Any

    def __init__(self, server: DemoServer) -> None:
        self._server = server
        self._head = b""
        self._working = False
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """
        Wait for the request, but no longer than L{PATIENCE}.
        """
        self._server.requests.add(self)
        self._wait(PATIENCE, self.transport.loseConnection)

    def dataReceived(self, data: bytes) -> None:
        """
        Begin to work when the head is complete. A body is ignored.
        """
        if self._working:
            return
        self._head += data
        if b"\r\n\r\n" in self._head or b"\n\n" in self._head:
            self._working = True
            self._wait(workFor(self._head), self._answer)
        elif len(self._head) > MOST_HEAD:
            self.transport.loseConnection()

    def hurry(self) -> None:
        """
        Finish the work at once.
        """
        if self._working and self._timer is not None:
            self._timer.reset(0)

    def readConnectionLost(self) -> None:
        """
        Called when the client will send no more. It may still want its answer, so work
        on.
        """
        if not self._working:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Do nothing: the answer is written in one piece, and then the connection is
        closed.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Stop working.
        """
        self._server.requests.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()

        def over() -> None:
            self._timer = None
            call()

        delay = 0 if self._server.hurried and self._working else seconds
        self._timer = self._server.reactor.callLater(delay, over)

    def _answer(self) -> None:
        body = f"{self._server.answer()}\n".encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode()
        self.transport.write(head if self._head.startswith(b"HEAD ") else head + body)
        self.transport.loseConnection()


class DemoServer(Factory):
    """
    A demo server on a free port of 127.0.0.1.

    @ivar reactor: The reactor.
    @ivar answer: Returns the text of an answer.
    @ivar requests: The connections that are open.
    @ivar hurried: Whether work is done at once.
    @ivar port: The port's number.
    @ivar stopped: Whether connections are refused.
    @ivar closing: Fires when the last stop is complete.
    """

    noisy = False

    def __init__(self, reactor: Any, answer: Callable[[], str]) -> None:
        self.reactor = reactor
        self.answer = answer
        self.requests: set[DemoRequest] = set()
        self.hurried = False
        self.stopped = True
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
            # This socket stays open while the server is stopped, so that no other
            # process gets the port. Linux keeps the port only if its number was given.
            self._socket = socket.create_server(("127.0.0.1", self.port))
        self._socket.setblocking(False)
        self._port: Any = None
        self.closing: Deferred[Any] = succeed(None)
        self.start()

    def start(self) -> None:
        """
        Accept connections, if the server is stopped.
        """
        if not self.stopped:
            return
        self._socket.listen(50)
        self._port = self.reactor.adoptStreamPort(
            self._socket.fileno(), socket.AF_INET, self
        )
        self.stopped = False

    def stop(self) -> None:
        """
        Refuse connections, and finish those that are open.
        """
        if self.stopped:
            return
        self.stopped = True
        # Twisted closes a port in the reactor's next turn. Until then the kernel
        # would accept connections, and reset them.
        self._socket.shutdown(socket.SHUT_RDWR)
        self.closing = maybeDeferred(self._port.stopListening)

    def close(self) -> Deferred[Any]:
        """
        Stop for good.
        """
        self.stop()
        self._socket.close()
        return self.closing

    def hurry(self) -> None:
        """
        Do all work at once from now on.
        """
        self.hurried = True
        for each in self.requests:
            each.hurry()

    def buildProtocol(self, addr: IAddress | None) -> DemoRequest:
        """
        Make the protocol of a connection.
        """
        return DemoRequest(self)

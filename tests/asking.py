"""
Requests to an admin server in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from iawlb.admin.access import Access, Asker, Tokens
from iawlb.admin.httpchannel import AdminChannel
from iawlb.admin.routes import Route, RouteTable
from iawlb.admin.server import AdminServer

LOCAL = IPv4Address("TCP", "127.0.0.1", 8405)
PEER = IPv4Address("TCP", "127.0.0.1", 51234)


TICK = 2.0**-20
"""
The time that a turn of the reactor takes, in seconds.
"""


class Turns(Clock):
    """
    A clock on which a call without delay is made in the next turn, as in a reactor.
    """

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        """
        Make a call later.
        """
        return super().callLater(max(delay, TICK), callable, *args, **kw)


class Line(StringTransport):
    """
    The server's end of a connection.

    @ivar aborted: Whether the server has cut the connection.
    @ivar ended: Whether the server has sent its last byte.
    """

    def __init__(self) -> None:
        super().__init__(hostAddress=LOCAL, peerAddress=PEER)
        self.aborted = False
        self.ended = False
        self.channel: AdminChannel

    def abortConnection(self) -> None:
        """
        Close at once.
        """
        if not self.aborted:
            self.aborted = True
            self.channel.connectionLost(Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        """
        Send the last byte.
        """
        self.ended = True

    def loseConnection(self) -> None:
        """
        Close in order. Here all has been written.
        """
        if not self.disconnecting:
            super().loseConnection()
            self.channel.connectionLost(Failure(ConnectionDone()))


class Reply:
    """
    One answer.
    """

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.raw = raw
        self.status = int(first.split(" ")[1])
        self.headers = {
            name.lower(): value
            for name, _, value in (each.partition(": ") for each in lines)
        }
        if self.headers.get("transfer-encoding") == "chunked":
            self.body = unchunked(self.body)

    @property
    def json(self) -> Any:
        """
        The body's value.
        """
        return json.loads(self.body)


def unchunked(body: bytes) -> bytes:
    """
    Put the chunks of a body together.
    """
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        found += rest[:length]
        body = rest[length + 2 :]
    return found


class Asking:
    """
    An admin server in memory.

    @ivar audited: The audit lines.
    """

    def __init__(
        self,
        routes: list[Route],
        *,
        clock: Clock | None = None,
        host: str | None = "127.0.0.1",
        tokens: Tokens | None = None,
        most: int = 4,
        tag: Callable[[], str] = lambda: '"7"',
    ) -> None:
        self.clock = clock or Turns()
        self.audited: list[tuple[str, str, str]] = []
        self.server = AdminServer(
            self.clock,
            RouteTable(routes),
            Access(host, tokens),
            what="admin server",
            mostConnections=most,
            audit=self._audit,
            tag=tag,
        )

    def _audit(self, asker: Asker, what: str, result: str) -> None:
        self.audited.append((asker.name, what, result))

    def connect(self) -> Line:
        """
        Connect a client.
        """
        channel = self.server.buildProtocol(PEER)
        assert channel is not None
        line = Line()
        line.channel = channel
        channel.makeConnection(line)
        return line

    def turns(self, number: int = 80) -> None:
        """
        Let the reactor run some times.
        """
        for _ in range(number):
            self.clock.advance(TICK)

    def send(self, raw: bytes, line: Line | None = None) -> Reply:
        """
        Send bytes and return the answer.
        """
        line = line or self.connect()
        line.clear()
        line.channel.dataReceived(raw)
        self.turns()
        return Reply(line.value())

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        line: Line | None = None,
    ) -> Reply:
        """
        Ask, and return the answer.

        @param body: A value for JSON, or bytes.
        """
        return self.send(request(method, target, body, headers), line)


def request(
    method: str,
    target: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """
    Write a request.
    """
    together = {"Host": "127.0.0.1:8405"}
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        together["Content-Type"] = "application/json"
        together["Content-Length"] = str(len(data))
    together.update(headers or {})
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in together.items() if value]
    return "\r\n".join([*lines, "", ""]).encode() + data

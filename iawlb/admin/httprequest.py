"""
L{AdminRequest}: one request of HTTP, and how its answer is written.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import http

from iawlb.admin.problem import PROBLEM_JSON, Problem
from iawlb.admin.turns import Turns

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""
The headers of every answer that does not say others.
"""

SERVER = f"iawlb/{version('iawlb')}"


class AdminRequest(http.Request):
    """
    One request, and its answer.

    @ivar body: The bytes of the body.
    @ivar gone: Whether the client has left, or has been cut.
    """

    channel: Any
    method: bytes
    uri: bytes

    def __init__(self, channel: Any, queued: object = False) -> None:
        super().__init__(channel, False)
        self.body = bytearray()
        self.gone = False
        self._turns: Turns = channel.owner.turns

    # What the channel calls. Each overrides what twisted.web does with files, cookies
    # and forms.

    def parseCookies(self) -> None:
        """
        Leave cookies alone.
        """

    def gotLength(self, length: int | None) -> None:
        """
        Open no file for the body.
        """

    def handleContentChunk(self, data: bytes) -> None:
        """
        Keep a part of the body.
        """
        self.body += data

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """
        Hand the request over in a turn of its own, so that many requests at a time, or
        in one packet, do not stop everything else.
        """
        self.method, self.uri, self.clientproto = command, path, version
        self._turns.next().addCallback(self._handOver)

    def _handOver(self, _: None) -> None:
        if not self.gone:
            self.channel.owner.received(self)

    def connectionLost(self, reason: Failure) -> None:
        """
        Called when the connection is closed before the answer was complete.
        """
        self.gone = True
        super().connectionLost(reason)

    # The answer.

    def header(self, name: str) -> str | None:
        """
        Return a header that is given once.

        @raise Problem: It is given several times.
        """
        values = self.requestHeaders.getRawHeaders(name.encode()) or []
        if len(values) > 1:
            raise Problem(400, f"the header {name} is given twice")
        return values[0].decode("latin-1") if values else None

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """
        Set the status and the headers.
        """
        self.setResponseCode(status, HTTPStatus(status).phrase.encode())
        for name, value in {**_everyAnswer(), **headers}.items():
            self.setHeader(name, value)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """
        Write the whole answer.
        """
        if self.gone:
            return
        self.begin(status, headers)
        if status not in http.NO_BODY_CODES:
            self.setHeader("Content-Length", str(len(body)))
        self.write(body)
        self.finish()

    async def answerInPieces(
        self, status: int, headers: Mapping[str, str], body: Iterator[bytes]
    ) -> None:
        """
        Write an answer piece by piece, each in a turn of the reactor of its own, and
        not faster than the client reads. A generator is closed at the end, also if the
        client has left.
        """
        try:
            if not self.gone:
                self.begin(status, headers)
                await self._writePieces(body)
        except Exception:
            self.cut()
            raise
        finally:
            if isinstance(body, Generator):
                body.close()
        if not self.gone:
            self.finish()

    async def _writePieces(self, body: Iterator[bytes]) -> None:
        for piece in body:
            self.write(piece)
            await self.turn()
            if self.gone or self.method == b"HEAD":
                break

    async def turn(self) -> None:
        """
        Let the reactor run once, and wait until the client has read most of what was
        written.
        """
        await self._turns.next()
        while not self.gone and self.channel.paused:
            waiting: Deferred[None] = Deferred()
            self.channel.whenResumed.append(waiting)
            await waiting

    def cut(self) -> None:
        """
        Close the connection at once: the answer cannot be completed.
        """
        if not self.gone:
            self.channel.abort()


def bare(problem: Problem) -> bytes:
    """
    Write the whole answer to a request that was not read.
    """
    body = problem.body()
    headers = {
        **_everyAnswer(),
        **problem.headers,
        "Content-Type": PROBLEM_JSON,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{head}\r\n".encode() + body


def _everyAnswer() -> dict[str, str]:
    """
    Return the headers of an answer that does not say others.
    """
    return {"Date": formatdate(usegmt=True), "Server": SERVER, **SECURITY_HEADERS}

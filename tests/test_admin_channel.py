"""
Tests for the limits of a connection to the admin server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from iawlb.admin.access import Role
from iawlb.admin.httplimits import (
    IDLE,
    LINGER,
    MOST_BODY,
    MOST_HELD,
    REQUEST_WITHIN,
    STALLED,
)
from iawlb.admin.members import Member
from iawlb.admin.problem import Problem
from iawlb.admin.routes import Answer, Call, Route
from tests.asking import Asking, Line, Reply, request


class Echoing(Asking):
    """
    A server that says what it was asked.
    """

    def __init__(self, **arguments: Any) -> None:
        self.asked: list[Call] = []
        self.waiting: Deferred[None] | None = None
        self.closed = 0
        self.parts = 4

        async def echo(call: Call) -> Answer:
            self.asked.append(call)
            if self.waiting is not None:
                await self.waiting
            return Answer({"body": call.body})

        async def large(call: Call) -> Answer:
            return Answer({"n": n, "text": "x" * 1000} for n in range(200))

        async def raw(call: Call) -> Answer:
            def pieces() -> Iterator[bytes]:
                try:
                    yield b"a" * 10
                    yield b"b"
                finally:
                    self.closed += 1

            if self.waiting is not None:
                await self.waiting
            made = pieces()
            next(made)
            return Answer(raw=made)

        async def breaks(call: Call) -> Answer:
            def values() -> Any:
                yield from ["x" * 9000] * self.parts
                raise ZeroDivisionError

            return Answer(values())

        text = Member("text", "string", "a text", None, most=MOST_BODY)
        read, route = Role.READ, Route
        super().__init__(
            [
                route("GET", "/echo", read, "", echo),
                route("POST", "/echo", read, "", echo, members=(text,)),
                route("GET", "/large", read, "", large),
                route("GET", "/breaks", read, "", breaks),
                route("GET", "/raw", read, "", raw),
            ],
            **arguments,
        )


class ChannelTests(SynchronousTestCase):
    """
    What a client may send, and how fast.
    """

    def setUp(self) -> None:
        self.on = Echoing()

    def refused(self, raw: bytes, status: int) -> Line:
        """
        Check that bytes are answered with a problem, and the connection is closed.
        """
        line = self.on.connect()
        reply = self.on.send(raw, line)
        self.assertEqual((reply.status, reply.json["status"]), (status, status))
        self.assertEqual(reply.headers["content-type"], "application/problem+json")
        self.assertEqual(reply.headers["connection"], "close")
        self.assertEqual(self.on.asked, [])
        self.assertTrue(line.ended)
        self.on.clock.advance(LINGER)
        self.assertTrue(line.aborted)
        self.assertEqual(self.on.server.connections, 0)
        return line

    def test_keepAlive(self) -> None:
        """
        Several requests may follow each other on one connection.
        """
        line = self.on.connect()
        for _ in range(3):
            self.assertEqual(self.on.ask("GET", "/echo", line=line).status, 200)
        self.assertFalse(line.disconnecting)

    def test_close(self) -> None:
        """
        The connection is closed after the answer if the client asks for that, or speaks
        HTTP/1.0.
        """
        for raw in (
            request("GET", "/echo", headers={"Connection": "TE, Close"}),
            b"GET /echo HTTP/1.0\r\n\r\n",
        ):
            line = self.on.connect()
            reply = self.on.send(raw, line)
            self.assertEqual(
                (reply.status, reply.headers["connection"]), (200, "close")
            )
            self.assertTrue(line.disconnecting)
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_pieces(self) -> None:
        """
        A request may arrive byte by byte.
        """
        line = self.on.connect()
        raw = request("POST", "/echo", {"text": "a"})
        for each in raw[:-1]:
            line.channel.dataReceived(bytes([each]))
        reply = self.on.send(raw[-1:], line)
        self.assertEqual(reply.json, {"body": {"text": "a"}})

    def test_pipelined(self) -> None:
        """
        Requests that are sent before the answer to the first are answered in their
        order, each in a turn of its own.
        """
        line = self.on.connect()
        raw = b"".join(request("POST", "/echo", {"text": str(n)}) for n in range(5))
        line.channel.dataReceived(raw + b"GET /no")
        self.on.turns(3)
        self.assertLess(len(self.on.asked), 5)
        self.on.turns(50)
        self.assertEqual([each.body["text"] for each in self.on.asked], list("01234"))
        line.clear()
        line.channel.dataReceived(b"ne HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.on.turns()
        self.assertEqual(Reply(line.value()).status, 404)

    def test_readAheadIsBounded(self) -> None:
        """
        While a request is answered, only a little of what follows is read.
        """
        self.on.waiting = Deferred()
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/echo") + b"G" * 10)
        self.on.turns()
        self.assertEqual(line.producerState, "producing")
        line.channel.dataReceived(b"x" * MOST_HELD)
        self.assertEqual(line.producerState, "paused")
        self.on.waiting.callback(None)
        self.on.turns()
        self.assertEqual(line.producerState, "producing")

    def test_blankLine(self) -> None:
        """
        One empty line before a request is overlooked, not more.
        """
        raw = request("GET", "/echo", headers={"Connection": "close"})
        reply = self.on.send(b"\r\n" + raw)
        self.assertEqual(reply.status, 200)
        self.on.asked.clear()
        self.refused(b"\r\n\r\nGET", 400)

    def test_firstLine(self) -> None:
        """
        A first line that is none is refused in one line that says how it should be.
        """
        for raw, status in (
            (b"GET\r\n", 400),
            (b"GET /echo\r\n", 400),
            (b"GET  /echo HTTP/1.1\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\n", 400),
            (b"\x16\x03\x01\r\n", 400),
            (b"GET /echo HTTP/2.0\r\n", 505),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n", 414),
            (b"GET /" + b" a" * 5000 + b" HTTP/1.1\r\n", 414),
            (b"GET /" + b"a" * 20_000, 414),
        ):
            self.refused(raw, status)

    def test_headers(self) -> None:
        """
        Header lines are bounded in number and length, and must be such.
        """
        start = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n"
        for raw, status in (
            (start + b"a: b\r\n" * 100_000, 431),
            (start + b"a: " + b"b" * 20_000 + b"\r\n\r\n", 431),
            (start + (b"a: " + b"b" * 4000 + b"\r\n") * 5, 431),
            (start + b"a: " + b"b" * 20_000, 431),
            (start + b"no colon\r\n", 400),
            (start + b" folded: a\r\n", 400),
            (start + b"a b: c\r\n", 400),
            (start + b"a: b\x00c\r\n", 400),
            (start + b"a: b\nc\r\n", 400),
            (start + b"Content-Length: -1\r\n", 400),
            (start + b"Content-Length: 1, 1\r\n", 400),
            (start + b"Content-Length: 0\r\nContent-Length: 0\r\n", 400),
            (start + b"Transfer-Encoding: chunked\r\n", 411),
        ):
            self.refused(raw, status)

    def test_longBody(self) -> None:
        """
        A body that is too long is refused before any of it is read, and without asking
        for it.
        """
        for length in (MOST_BODY + 1, 10**9, 10**14):
            head = request(
                "POST",
                "/echo",
                headers={"Content-Length": str(length), "Expect": "100-continue"},
            )
            line = self.refused(head, 413)
            self.assertNotIn(b"100 Continue", line.value())

    def test_body(self) -> None:
        """
        A body of the largest length is read, after the server was asked for it.
        """
        text = "x" * (MOST_BODY - 12)
        raw = request("POST", "/echo", {"text": text}, {"Expect": "100-continue"})
        line = self.on.connect()
        reply = self.on.send(raw, line)
        self.assertEqual(reply.status, 100)
        self.assertEqual(self.on.asked[0].body["text"], text)

    def test_discarding(self) -> None:
        """
        What a client goes on to send after it was refused is read for a moment, so that
        it gets the answer, but not for long and not for ever.
        """
        line = self.on.connect()
        line.channel.dataReceived(b"GET\r\n")
        line.channel.dataReceived(b"x" * MOST_BODY)
        self.assertFalse(line.aborted)
        line.channel.dataReceived(b"x" * MOST_BODY * 4)
        self.assertTrue(line.aborted)

    def test_slowRequest(self) -> None:
        """
        A client that sends a byte now and then is refused when the time for a request
        is over: each byte does not give it more.
        """
        line = self.on.connect()
        for each in b"GET /ec":
            line.channel.dataReceived(bytes([each]))
            self.on.clock.advance(REQUEST_WITHIN / 8)
        self.assertEqual(line.value(), b"")
        self.on.clock.advance(REQUEST_WITHIN / 8)
        self.assertEqual(Reply(line.value()).status, 408)

    def test_slowBody(self) -> None:
        """
        The same holds for the body.
        """
        line = self.on.connect()
        line.channel.dataReceived(request("POST", "/echo", {"text": "a"})[:-1])
        self.on.clock.advance(REQUEST_WITHIN)
        self.assertEqual(Reply(line.value()).status, 408)

    def test_idle(self) -> None:
        """
        A connection that asks nothing is closed after a while, before its first request
        and after others.
        """
        silent = self.on.connect()
        asking = self.on.connect()
        self.on.clock.advance(IDLE / 2)
        self.on.ask("GET", "/echo", line=asking)
        self.on.clock.advance(IDLE / 2)
        self.assertEqual((silent.disconnecting, asking.disconnecting), (True, False))
        self.on.clock.advance(IDLE / 2)
        self.assertTrue(asking.disconnecting)
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_longAnswer(self) -> None:
        """
        A request may take as long as it takes: no time-out ends it.
        """
        self.on.waiting = Deferred()
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/echo"))
        self.on.clock.advance(10 * IDLE)
        self.on.waiting.callback(None)
        self.assertEqual(Reply(line.value()).status, 200)

    def test_slices(self) -> None:
        """
        A long answer is written piece by piece, and arrives whole.
        """
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/large"))
        self.on.turns(3)
        self.assertLess(len(line.value()), 40_000)
        self.on.turns(50)
        self.assertEqual(len(Reply(line.value()).json), 200)

    def test_oneStepATurn(self) -> None:
        """
        However many clients ask for long answers, each turn of the reactor makes one
        piece of one of them.
        """
        lines = [self.on.connect() for _ in range(4)]
        for line in lines:
            line.channel.dataReceived(request("GET", "/large"))
        for _ in range(40):
            before = [len(line.value()) for line in lines]
            self.on.turns(1)
            after = [len(line.value()) for line in lines]
            grown = sum(x != y for x, y in zip(before, after, strict=True))
            self.assertLessEqual(grown, 1)
        self.on.turns(200)
        for line in lines:
            self.assertEqual(len(Reply(line.value()).json), 200)

    def test_slowReader(self) -> None:
        """
        A client that does not read gets no more until it has read, and is cut if it
        reads nothing for long.
        """
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/large"))
        self.on.turns(2)
        line.channel.pauseProducing()
        self.on.turns(2)
        held = len(line.value())
        self.on.turns(20)
        self.assertEqual(len(line.value()), held)
        line.channel.resumeProducing()
        self.on.turns(2)
        self.assertGreater(len(line.value()), held)
        line.channel.pauseProducing()
        line.channel.pauseProducing()
        self.on.clock.advance(STALLED)
        self.assertTrue(line.aborted)
        self.on.turns()
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_answerBreaks(self) -> None:
        """
        If a long answer cannot be completed, the connection is cut, so that the client
        does not take it for the whole; the failure is logged.
        """
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/breaks"))
        self.on.turns()
        self.assertTrue(line.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_answerBreaksAtOnce(self) -> None:
        """
        If nothing was written yet, the client is told that the balancer has failed.
        """
        self.on.parts = 0
        line = self.on.connect()
        reply = self.on.ask("GET", "/breaks", line=line)
        self.assertEqual((reply.status, reply.json["status"]), (500, 500))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.on.ask("GET", "/echo", line=line).status, 200)

    def test_leaves(self) -> None:
        """
        A client that leaves in the middle of whatever leaves nothing behind.
        """
        self.on.waiting = Deferred()
        raws = (
            b"",
            b"GET /ech",
            request("POST", "/echo", {"text": "a"})[:-1],
            request("GET", "/echo"),
            request("GET", "/large"),
            request("GET", "/echo") * 2,
        )
        for raw in raws:
            for turns in (0, 1, 3):
                line = self.on.connect()
                line.channel.dataReceived(raw)
                self.on.turns(turns)
                line.abortConnection()
        self.on.waiting.callback(None)
        self.on.turns()
        self.on.server.stop()
        self.assertEqual(self.on.server.connections, 0)
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_leavesBetween(self) -> None:
        """
        A client that leaves between two of its requests leaves nothing behind.
        """
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/echo") * 2)
        while len(self.on.asked) < 1:
            self.on.turns(1)
        line.abortConnection()
        self.on.turns()
        self.assertEqual(len(self.on.asked), 1)

    def test_generator(self) -> None:
        """
        What makes an answer is told that it is over, also if the client has left before
        it began.
        """
        self.assertEqual(self.on.ask("GET", "/raw").body, b"b")
        self.assertEqual(self.on.closed, 1)
        self.on.waiting = Deferred()
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/raw"))
        self.on.turns()
        line.abortConnection()
        self.on.waiting.callback(None)
        self.assertEqual(self.on.closed, 2)

    def test_leavesDuringError(self) -> None:
        """
        A client that leaves before it is told that its request was wrong is told
        nothing.
        """
        self.on.waiting = Deferred()
        for target in ("/echo", "/none"):
            line = self.on.connect()
            line.channel.dataReceived(request("GET", target))
            self.on.turns(1)
            line.abortConnection()
        self.on.waiting.errback(Problem(400, "too late"))
        self.on.turns()
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_head(self) -> None:
        """
        HEAD gets the headers alone, also of a long answer.
        """
        for path in ("/echo", "/large"):
            reply = self.on.ask("HEAD", path)
            self.assertEqual((reply.status, reply.body), (200, b""))

"""
A demo server, without a balancer.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb.process.demoserver import (
    MOST_HEAD,
    PATIENCE,
    WORK,
    DemoRequest,
    DemoServer,
    workFor,
)

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 5\r\nConnection: close\r\n\r\n"
)


class WorkTests(SynchronousTestCase):
    """
    How long the work for a request takes.
    """

    def test_path(self) -> None:
        """
        A number as the path is the time in seconds; any other path takes the usual
        time.
        """
        for head, seconds in (
            (b"GET /0 HTTP/1.1\r\n", 0),
            (b"POST /2.5 HTTP/1.1\r\n", 2.5),
            (b"GET /3\n", 3),
            (b"GET / HTTP/1.1\r\n", WORK),
            (b"GET /favicon.ico HTTP/1.1\r\n", WORK),
            (b"GET /-1 HTTP/1.1\r\n", WORK),
            (b"GET /1e9 HTTP/1.1\r\n", WORK),
            (b"GET /10000 HTTP/1.1\r\n", WORK),
            (b"\x16\x03\x01\n\n", WORK),
        ):
            self.assertEqual(workFor(head), seconds, head)


class RequestTests(SynchronousTestCase):
    """
    One connection.
    """

    def setUp(self) -> None:
        """
        Start a server, and connect to it.
        """
        self.reactor: Any = MemoryReactorClock()
        self.server = DemoServer(self.reactor, lambda: "name")
        self.addCleanup(self.server.close)
        self.request, self.transport = self.connect()

    def connect(self) -> tuple[DemoRequest, StringTransport]:
        """
        Connect.
        """
        request = self.server.buildProtocol(None)
        transport = StringTransport()
        request.makeConnection(transport)
        return request, transport

    def test_answer(self) -> None:
        """
        A request, in however many pieces, is answered after the work, and the
        connection is closed.
        """
        verifyObject(IHalfCloseableProtocol, self.request)
        for each in (b"GET / HT", b"TP/1.1\r\nHost: a\r\n\r", b"\n"):
            self.request.dataReceived(each)
        self.reactor.advance(WORK / 2)
        self.assertEqual(self.transport.value(), b"")
        self.reactor.advance(WORK / 2)
        self.assertEqual(self.transport.value(), ANSWER + b"name\n")
        self.assertTrue(self.transport.disconnecting)

    def test_bareLines(self) -> None:
        """
        A request typed at a terminal, with bare line feeds, is answered too.
        """
        self.request.dataReceived(b"GET /0\n\n")
        self.reactor.advance(0)
        self.assertEqual(self.transport.value(), ANSWER + b"name\n")

    def test_head(self) -> None:
        """
        A HEAD request is answered without a body.
        """
        self.request.dataReceived(b"HEAD /0 HTTP/1.1\r\n\r\n")
        self.reactor.advance(0)
        self.assertEqual(self.transport.value(), ANSWER)

    def test_body(self) -> None:
        """
        The body of a request changes nothing, and the request is answered once.
        """
        self.request.dataReceived(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nbody")
        self.reactor.advance(WORK / 2)
        self.request.dataReceived(b"\r\n\r\n.")
        self.reactor.advance(WORK / 2)
        self.assertEqual(self.transport.value(), ANSWER + b"name\n")

    def test_silent(self) -> None:
        """
        A client that does not finish its request is closed after a while.
        """
        self.request.dataReceived(b"GET / HTTP/1.1\r\n")
        self.reactor.advance(PATIENCE)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.value(), b"")

    def test_endless(self) -> None:
        """
        A client whose request is too long is closed.
        """
        self.request.dataReceived(b"a" * MOST_HEAD)
        self.assertFalse(self.transport.disconnecting)
        self.request.dataReceived(b"a")
        self.assertTrue(self.transport.disconnecting)

    def test_halfClosed(self) -> None:
        """
        A client that ends its half behind the request gets its answer.
        """
        self.request.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        self.request.readConnectionLost()
        self.assertFalse(self.transport.disconnecting)
        self.reactor.advance(WORK)
        self.assertEqual(self.transport.value(), ANSWER + b"name\n")
        self.request.writeConnectionLost()

    def test_halfClosedEarly(self) -> None:
        """
        A client that ends its half before its request is complete is closed.
        """
        self.request.dataReceived(b"GET / HTTP/1.0\r\n")
        self.request.readConnectionLost()
        self.assertTrue(self.transport.disconnecting)

    def test_left(self) -> None:
        """
        Work for a client that has left ends.
        """
        self.request.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(self.server.requests, {self.request})
        self.request.connectionLost()
        self.assertEqual(self.server.requests, set())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.reactor.advance(WORK)
        self.assertEqual(self.transport.value(), b"")

    def test_leftBehindTheAnswer(self) -> None:
        """
        A client that leaves with its answer leaves nothing behind.
        """
        self.request.dataReceived(b"GET /0 HTTP/1.0\r\n\r\n")
        self.reactor.advance(0)
        self.request.connectionLost()
        self.assertEqual(self.server.requests, set())

    def test_hurry(self) -> None:
        """
        In a hurry the work that has begun ends at once, and so does what comes
        later; a request that is not complete is still waited for.
        """
        late, lateTransport = self.connect()
        done, doneTransport = self.connect()
        self.request.dataReceived(b"GET /100 HTTP/1.0\r\n\r\n")
        late.dataReceived(b"GET /100 HTTP/1.0\r\n")
        done.dataReceived(b"GET /0 HTTP/1.0\r\n\r\n")
        self.reactor.advance(0)
        doneTransport.clear()
        self.server.hurry()
        self.reactor.advance(0)
        self.assertEqual(self.transport.value(), ANSWER + b"name\n")
        self.assertEqual(lateTransport.value(), b"")
        self.assertEqual(doneTransport.value(), b"")
        late.dataReceived(b"\r\n")
        self.reactor.advance(0)
        self.assertEqual(lateTransport.value(), ANSWER + b"name\n")


class ServerTests(SynchronousTestCase):
    """
    Starting and stopping.
    """

    def test_stops(self) -> None:
        """
        A server that is stopped refuses from that moment, and comes back on the same
        port; what is done already is not done again.
        """
        reactor: Any = MemoryReactorClock()
        server = DemoServer(reactor, lambda: "name")
        address = ("127.0.0.1", server.port)
        for _ in range(3):
            server.start()
            self.assertFalse(server.stopped)
            socket.create_connection(address, 10).close()
            server.stop()
            server.stop()
            self.assertTrue(server.stopped)
            self.assertRaises(
                ConnectionRefusedError, socket.create_connection, address, 10
            )
        self.assertEqual(len(reactor.adoptedPorts), 3)
        server.start()
        self.successResultOf(server.close())
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address, 10)

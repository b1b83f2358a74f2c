"""
The demo: a balancer with servers that need their time.
"""

from __future__ import annotations

import re
from typing import Any

import pytest_twisted
from pytest import MonkeyPatch
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.process.demo import (
    AWAY,
    LOOK_EVERY,
    STOP_EVERY,
    Demo,
    demoNames,
    statusLine,
    tryOut,
)
from iawlb.service import LoadBalancer
from tests.net import LIMIT, Peer, connected, reactor, until


class TryOutTests(SynchronousTestCase):
    """
    The command that is suggested for a first try.
    """

    def test_command(self) -> None:
        """
        The printed command can be copied, whatever address is listened on.
        """
        for address, command in (
            ("0.0.0.0:8080", "curl http://localhost:8080"),
            ("[::]:8080", "curl http://localhost:8080"),
            ("127.0.0.1:8080", "curl http://localhost:8080"),
            ("[::1]:8080", "curl http://localhost:8080"),
            ("192.0.2.1:80", "curl http://192.0.2.1:80"),
            ("[2001:db8::1]:80", "curl http://[2001:db8::1]:80"),
            ("unix:/run/a.sock", "curl --unix-socket /run/a.sock http://localhost"),
        ):
            self.assertEqual(tryOut(address), command)

    def test_names(self) -> None:
        """
        Demo servers are counted from 1.
        """
        self.assertEqual(demoNames(0), [])
        self.assertEqual(demoNames(2), ["demo-1", "demo-2"])


class StatusLineTests(SynchronousTestCase):
    """
    The line of what each server does.
    """

    def test_few(self) -> None:
        """
        Each server is named, and each client that waits is a mark.
        """
        states = {"a": "busy", "b": "down"}
        self.assertEqual(statusLine(states, 0), "a busy  b down  | 0 waiting")
        self.assertEqual(statusLine(states, 3), "a busy  b down  | 3 waiting ###")

    def test_many(self) -> None:
        """
        The line stays short, however many there are of both.
        """
        states = {each: "busy" for each in demoNames(8)} | {"other": "idle"}
        self.assertEqual(
            statusLine(states, 41), f"8 busy  1 idle  | 41 waiting {'#' * 40}..."
        )


class DemoTests(SynchronousTestCase):
    """
    The demo with its reactor in memory.
    """

    def setUp(self) -> None:
        """
        Start the demo.
        """
        self.reactor: Any = MemoryReactorClock()
        self.balancer = LoadBalancer(self.reactor, ["8080"])
        self.demo = Demo(self.reactor, self.balancer, 2)
        self.shown: list[str] = []
        self.demo.show = self.shown.append
        self.demo.startService()

    def stop(self) -> None:
        """
        Stop the demo, and check that nothing is left.
        """
        self.successResultOf(self.demo.stopService())
        self.assertFalse(self.demo.running)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_slots(self) -> None:
        """
        Each server takes one connection at a time.
        """
        self.assertEqual([each.slots for each in self.balancer.destinations], [1, 1])
        self.stop()

    def test_shown(self) -> None:
        """
        The states are shown at the start, and whenever they have changed.
        """
        idle = "demo-1 idle  demo-2 idle  | 0 waiting"
        self.assertEqual(self.shown, [idle])
        first, second = self.balancer.destinations
        first.active = 1
        second.down = "for a test"
        self.reactor.pump([LOOK_EVERY] * 3)
        busy = "demo-1 busy  demo-2 down  | 0 waiting"
        self.assertEqual(self.shown, [idle, busy])
        first.active = 0
        second.down = None
        self.reactor.pump([LOOK_EVERY] * 3)
        self.assertEqual(self.shown, [idle, busy, idle])
        self.stop()

    def test_stopsNowAndThen(self) -> None:
        """
        The servers are stopped and brought back, one at a time, in turn.
        """
        idle = "demo-1 idle  demo-2 idle  | 0 waiting"
        first = "demo-1 down  demo-2 idle  | 0 waiting"
        second = "demo-1 idle  demo-2 down  | 0 waiting"
        self.reactor.pump([LOOK_EVERY] * round(3.5 * STOP_EVERY / LOOK_EVERY))
        self.assertEqual(self.shown, [idle, first, idle, second, idle, first, idle])
        self.stop()

    def test_finishesWhatItHasBegun(self) -> None:
        """
        A server to which a connection is on its way is not stopped, but the next
        one is, as the connection would be reset.
        """
        first = self.balancer.destinations[0]
        first.active = 1
        self.reactor.pump([LOOK_EVERY] * round(STOP_EVERY / LOOK_EVERY + 3))
        self.assertEqual(self.shown[-1], "demo-1 busy  demo-2 down  | 0 waiting")
        first.active = 0
        self.reactor.advance(AWAY)
        self.stop()

    def test_stopWhileOneIsStopped(self) -> None:
        """
        The demo can end while one of its servers is stopped.
        """
        self.reactor.pump([LOOK_EVERY] * round(STOP_EVERY / LOOK_EVERY + 3))
        self.assertIn("down", self.shown[-1])
        self.stop()

    def test_twice(self) -> None:
        """
        The demo can be started again after it was stopped.
        """
        for _ in range(2):
            self.stop()
            self.shown.clear()
            self.demo.startService()
            self.assertEqual(
                [each.name for each in self.balancer.destinations], demoNames(2)
            )
            self.reactor.advance(LOOK_EVERY)
            self.assertEqual(self.shown, ["demo-1 idle  demo-2 idle  | 0 waiting"])
        self.stop()


async def _client(balancer: LoadBalancer, request: bytes = b"") -> Peer:
    """
    Connect a client to a balancer, and send bytes.
    """
    peer = await connected(int(balancer.addresses[0].rpartition(":")[2]))
    peer.write(request)
    return peer


async def _answer(peer: Peer) -> bytes:
    """
    Wait until the destination has closed; close too.
    """
    await until(lambda: peer.ended)
    peer.close()
    await peer.closed()
    return bytes(peer.received)


def _balancer(**settings: Any) -> LoadBalancer:
    """
    Make a balancer on a free port.
    """
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    return LoadBalancer(reactor, [endpoint], **settings)


@pytest_twisted.ensureDeferred
async def test_demo(monkeypatch: MonkeyPatch) -> None:
    """
    Each demo server gets its turn and answers with its name, one request a
    connection; the log says how to try, and what the servers do; and stopping leaves
    nothing.
    """
    events = EventLoggingObserver()
    monkeypatch.setattr(Demo, "logger", Logger(observer=events))
    balancer = _balancer()
    demo = Demo(reactor, balancer, 3)
    demo.privilegedStartService()
    assert balancer.addresses[0].startswith("127.0.0.1:")
    assert balancer.destinations == []
    demo.startService()
    try:
        bodies = []
        for _ in range(3):
            peer = await _client(balancer, b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n")
            head, _, body = (await _answer(peer)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            bodies.append(body.split()[0].decode())
        assert sorted(bodies) == demoNames(3)
        assert [each.name for each in balancer.destinations] == demoNames(3)
        lines = [formatEvent(event) or "" for event in events]
        assert tryOut(balancer.addresses[0]) in lines[0]
        assert lines[1] == "demo-1 idle  demo-2 idle  demo-3 idle  | 0 waiting"
    finally:
        await demo.stopService().addTimeout(LIMIT, reactor)
    assert not demo.running


@pytest_twisted.ensureDeferred
async def test_waiting() -> None:
    """
    A client waits while the server works for another, and reads in the answer how long
    it has waited.
    """
    balancer = _balancer()
    demo = Demo(reactor, balancer, 1)
    demo.startService()
    first = await _client(balancer)
    await until(lambda: any(each.connected for each in balancer.sessions))
    second = await _client(balancer, b"GET /0 HTTP/1.0\r\n\r\n")
    await until(lambda: balancer.waiting == 1)
    first.write(b"GET /0.2 HTTP/1.0\r\n\r\n")
    assert b"\r\n\r\ndemo-1" in await _answer(first)
    answer = await _answer(second)
    assert re.search(rb"demo-1 after \d+\.\d s in the queue\n$", answer)
    await demo.stopService().addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_moreSlots() -> None:
    """
    With more slots for each destination a server works for several clients at a time.
    """
    balancer = _balancer(slots=2)
    demo = Demo(reactor, balancer, 1)
    demo.startService()
    peers = [await _client(balancer) for _ in range(2)]
    await until(lambda: all(each.connected for each in balancer.sessions))
    for peer in peers:
        peer.write(b"GET /0 HTTP/1.0\r\n\r\n")
    for peer in peers:
        assert b"\r\n\r\ndemo-1" in await _answer(peer)
    await demo.stopService().addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_noClientLosesAnything(monkeypatch: MonkeyPatch) -> None:
    """
    While a server is stopped, a client that the server has begun to serve gets its
    answer, and one that comes then waits until the server is back.
    """
    monkeypatch.setattr("iawlb.process.demo.STOP_EVERY", 0.3)
    monkeypatch.setattr("iawlb.process.demo.AWAY", 0.2)
    balancer = _balancer()
    demo = Demo(reactor, balancer, 1)
    shown: list[str] = []
    demo.show = shown.append
    demo.startService()
    early = await _client(balancer)
    await until(lambda: "demo-1 down  | 0 waiting" in shown)
    late = await _client(balancer, b"GET /0 HTTP/1.0\r\n\r\n")
    early.write(b"GET /0 HTTP/1.0\r\n\r\n")
    for peer in (early, late):
        assert b"\r\n\r\ndemo-1" in await _answer(peer)
    await demo.stopService().addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_stopping() -> None:
    """
    Requests on their way when the demo is stopped are still answered, and at once,
    however much work they are.
    """
    balancer = _balancer()
    demo = Demo(reactor, balancer, 1)
    demo.startService()
    peer = await _client(balancer, b"GET /900 HTTP/1.0\r\n")
    await until(lambda: any(each.connected for each in balancer.sessions))
    queued = await _client(balancer, b"GET /900 HTTP/1.0\r\n\r\n")
    await until(lambda: balancer.waiting == 1)
    stopping = demo.stopService()
    peer.write(b"\r\n")
    for each in (peer, queued):
        assert b"\r\n\r\ndemo-1" in await _answer(each)
    await stopping.addTimeout(LIMIT, reactor)

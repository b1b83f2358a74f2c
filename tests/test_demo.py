"""
The demo destinations, over sockets.
"""

from __future__ import annotations

import pytest_twisted
from pytest import MonkeyPatch
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.demo import Demo, demoNames, tryOut
from iawlb.service import LoadBalancer
from tests.net import LIMIT, Peer, connected, reactor, until


class TryOutTests(SynchronousTestCase):
    """
    The command that is suggested for a first try.
    """

    def test_command(self) -> None:
        """
        It can be copied, whatever was listened on.
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
        Demo destinations are counted from 1.
        """
        self.assertEqual(demoNames(0), [])
        self.assertEqual(demoNames(2), ["demo-1", "demo-2"])


async def _client(balancer: LoadBalancer) -> Peer:
    """
    Connect to a balancer.
    """
    return await connected(int(balancer.addresses[0].rpartition(":")[2]))


async def _answer(peer: Peer) -> bytes:
    """
    Wait until the destination has closed; close too.
    """
    await until(lambda: peer.ended)
    peer.close()
    await peer.closed()
    return bytes(peer.received)


@pytest_twisted.ensureDeferred
async def test_demo(monkeypatch: MonkeyPatch) -> None:
    """
    Each demo destination gets its turn and answers with its name, one request a
    connection; the log says how to try; and stopping leaves nothing.
    """
    events = EventLoggingObserver()
    monkeypatch.setattr(Demo, "logger", Logger(observer=events))
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    balancer = LoadBalancer(reactor, [endpoint])
    demo = Demo(reactor, balancer, 3)
    demo.privilegedStartService()
    assert balancer.addresses[0].startswith("127.0.0.1:")
    assert balancer.destinations == []
    demo.startService()
    try:
        bodies = []
        for _ in range(3):
            peer = await _client(balancer)
            peer.write(b"GET /any HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = (await _answer(peer)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            bodies.append(body)
        assert sorted(bodies) == [b"demo-1\n", b"demo-2\n", b"demo-3\n"]
        assert [each.name for each in balancer.destinations] == demoNames(3)
        (event,) = events
        assert tryOut(balancer.addresses[0]) in (formatEvent(event) or "")
    finally:
        await demo.stopService().addTimeout(LIMIT, reactor)
    assert not demo.running


@pytest_twisted.ensureDeferred
async def test_stopping() -> None:
    """
    A request on its way when the demo is stopped is still answered.
    """
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    balancer = LoadBalancer(reactor, [endpoint])
    demo = Demo(reactor, balancer, 1)
    demo.startService()
    peer = await _client(balancer)
    peer.write(b"GET / HTTP/1.0\r\n")
    await until(lambda: any(each.connected for each in balancer.sessions))
    stopping = demo.stopService()
    peer.write(b"\r\n")
    assert (await _answer(peer)).endswith(b"\r\n\r\ndemo-1\n")
    await stopping.addTimeout(LIMIT, reactor)

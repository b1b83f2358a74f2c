"""
Tests for L{iawlb.relay.keepalive}, on real sockets.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.trial.unittest import SynchronousTestCase

from iawlb.relay import keepalive
from iawlb.relay.keepalive import KeepAlive
from tests.rig import RELAYS, rig

OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
)


def optionsOf(handle: Any) -> list[int]:
    """
    Ask the kernel for the options of a socket.
    """
    return [handle.getsockopt(*each) for each in OPTIONS]


class KeepAliveTests(SynchronousTestCase):
    """
    The options that the kernel gets.
    """

    def setUp(self) -> None:
        """
        Listen.
        """
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.before = optionsOf(self.listening)

    def test_applied(self) -> None:
        """
        Times are given to the kernel in its own units, rounded up.
        """
        KeepAlive(1.2, 3.0, 5, 0.0301).apply(self.listening)
        self.assertEqual(optionsOf(self.listening), [1, 2, 3, 5, 31])

    def test_off(self) -> None:
        """
        An option that is switched off keeps the system's value.
        """
        KeepAlive(0, 15, 4, 0).apply(self.listening)
        self.assertEqual(optionsOf(self.listening), self.before)
        KeepAlive(0, 15, 4, 9).apply(self.listening)
        self.assertEqual(optionsOf(self.listening), [*self.before[:4], 9000])

    def test_first(self) -> None:
        """
        No option matters to a connection that is younger than the shorter of the two
        times.
        """
        firsts = [KeepAlive(i, 1, 1, u).first for i, u in ((0, 0), (5, 0), (5, 3))]
        self.assertEqual(firsts, [0, 5, 3])

    def test_inherited(self) -> None:
        """
        Accepted sockets have what the listening one has.
        """
        KeepAlive(60, 15, 4, 9).apply(self.listening)
        with socket.create_connection(self.listening.getsockname()):
            accepted, _ = self.listening.accept()
            with accepted:
                self.assertEqual(optionsOf(accepted), [1, 60, 15, 4, 9000])

    def test_notTcp(self) -> None:
        """
        Unix sockets have no such options.
        """
        for handle in socket.socketpair():
            with handle:
                KeepAlive(60, 15, 4, 9).apply(handle)

    def test_otherSystems(self) -> None:
        """
        Where the system lacks an option, the others are set.
        """
        self.patch(keepalive, "_USER_TIMEOUT", None)
        KeepAlive(60, 15, 4, 9).apply(self.listening)
        self.assertEqual(optionsOf(self.listening), [1, 60, 15, 4, self.before[4]])


@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("family", ["tcp4", "tcp6", "unix"])
@pytest_twisted.ensureDeferred
async def test_session(relay: str, family: str, tmp_path: Path) -> None:
    """
    A client's connection has the settings from the start; a destination's has them
    when they begin to matter, also when another time-out was first.
    """
    async with rig(relay, family, tmp_path, keepaliveIdle=50, answerTimeout=10) as on:
        await on.pair()
        assert on.session.relay is not None
        ours, theirs = on.session.relay.sockets()
        if family == "unix":
            on.lookAfter(51)
            return
        assert optionsOf(ours)[:4] == [1, 50, 15, 4]
        assert optionsOf(theirs)[0] == 0
        on.lookAfter(49)
        assert optionsOf(theirs)[0] == 0
        on.lookAfter(51)
        assert optionsOf(theirs)[:4] == [1, 50, 15, 4]
        second, _ = await on.pair()
        second.write(b"question")
        late = on.balancer.sessions[1]
        await on.server.peers[1].got(8)
        assert late.relay is not None
        assert optionsOf(late.relay.sockets()[1])[:4] == [1, 50, 15, 4]


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_sessionOff(relay: str, tmp_path: Path) -> None:
    """
    Without keepalive, and without an idle time-out, sessions are not looked at.
    """
    async with rig(
        relay, "tcp4", tmp_path, keepaliveIdle=0, idleTimeout=0, queueTimeout=0
    ) as on:
        await on.pair()
        assert on.session.bucket is None
        assert on.session.relay is not None
        assert [optionsOf(each)[0] for each in on.session.relay.sockets()] == [0, 0]
        assert not on.balancer._pool.deadlines._timer

"""
Tests for the metrics of a process.
"""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import CannotListen, InvalidSetting
from iawlb.process.metering import Metering
from tests.asking import Reply, request
from tests.doubles import Rig
from tests.net import Peer, connected, reactor, until
from tests.rig import rig


async def scraped(endpoint: IStreamClientEndpoint) -> str:
    """
    Read the metrics over a connection of its own.
    """
    peer = await connected(endpoint)
    peer.write(request("GET", "/metrics", headers={"Connection": "close"}))
    await until(lambda: peer.ended)
    peer.close()
    await peer.closed()
    reply = Reply(bytes(peer.received))
    assert reply.status == 200, reply.raw
    return reply.body.decode()


@pytest_twisted.ensureDeferred
async def test_served(tmp_path: Path) -> None:
    """
    The metrics of a balancer can be read at a Unix socket, beside its traffic, and the
    socket is gone when the process stops.
    """
    path = tmp_path / "metrics.sock"
    async with rig("fast", "tcp4", tmp_path) as on:
        metering = Metering(reactor, on.balancer, lambda: 7, str(path))
        metering.open()
        metering.start()
        assert metering.address == f"unix:{path}"
        client, server = await on.pair()
        client.write(b"1234")
        await server.got(4)
        text = await scraped(UNIXClientEndpoint(reactor, str(path)))
        assert '\niawlb_pool_bytes_in_total{pool="default"} 4.0\n' in text
        assert "\niawlb_log_dropped_lines_total 7.0\n" in text
        assert "\niawlb_current_sessions 1.0\n" in text
        client.close()
        server.close()
        await on.ended()
        assert metering.statistics.pools["default"].ended == 1
        await metering.stop()
        assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_whileDraining(tmp_path: Path) -> None:
    """
    While the balancer drains its sessions, the metrics can still be read.
    """
    path = tmp_path / "metrics.sock"
    async with rig("fast", "tcp4", tmp_path, drainTimeout=60) as on:
        metering = Metering(reactor, on.balancer, lambda: 0, str(path))
        metering.start()
        client, _ = await on.pair()
        stopped = on.balancer.stopService()
        text = await scraped(UNIXClientEndpoint(reactor, str(path)))
        assert "\niawlb_stopping 1.0\n" in text
        assert "\niawlb_current_sessions 1.0\n" in text
        client.reset()
        await stopped
        on.balancer.startService()
        await metering.stop()


@pytest_twisted.ensureDeferred
async def test_taken() -> None:
    """
    An address that is in use is named.
    """
    taken = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(Peer)
    )
    where = f"127.0.0.1:{taken.getHost().port}"
    metering = Metering(reactor, Rig().balancer, lambda: 0, where)
    try:
        metering.open()
    except CannotListen as error:
        why = str(error)
    else:
        why = ""
    assert why == f"metrics: cannot listen on {where}: it is in use"
    await taken.stopListening()
    await metering.stop()


class MeteringTests(SynchronousTestCase):
    """
    L{Metering}.
    """

    def test_countsAlone(self) -> None:
        """
        Without an address the sessions are counted and nothing listens; the
        destinations that are there already count too.
        """
        rig = Rig(2)
        metering = Metering(rig.clock, rig.balancer, lambda: 0)
        metering.open()
        metering.start()
        self.assertIsNone(metering.address)
        self.assertEqual(
            list(metering.statistics.destinations), [("default", "a"), ("default", "b")]
        )
        rig.clock.advance(1)
        self.assertEqual(sum(metering.lag.histogram.counts), 1)
        self.successResultOf(metering.stop())
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_wrongAddress(self) -> None:
        """
        A wrong address is refused before anything is opened.
        """
        rig = Rig()
        error = self.assertRaises(
            InvalidSetting, Metering, rig.clock, rig.balancer, lambda: 0, "nowhere"
        )
        self.assertTrue(str(error).startswith("metrics: 'nowhere' is not"))

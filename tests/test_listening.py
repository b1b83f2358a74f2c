"""
Listeners of the balancer, over sockets.
"""

from __future__ import annotations

import pytest
import pytest_twisted

from iawlb.service import LoadBalancer
from tests.net import LIMIT, Echo, Server, connected, reactor


def portOf(address: str) -> int:
    """
    Read the port of an address of the balancer's.
    """
    return int(address.rpartition(":")[2])


async def assertEchoed(address: str) -> None:
    """
    Be a client of an address, and get back what was sent.
    """
    client = await connected(portOf(address))
    client.write(b"hello")
    assert await client.got(5) == b"hello"
    client.close()
    await client.closed()


@pytest.mark.parametrize("text", ("0", "127.0.0.1:0", "tcp:0:interface=127.0.0.1"))
@pytest_twisted.ensureDeferred
async def test_anyPort(text: str) -> None:
    """
    A listener on port 0 takes a port that is free, which C{addresses} shows.
    """
    server = await Server(Echo).listen()
    balancer = LoadBalancer(reactor, [text], [f"127.0.0.1:{server.number}"])
    assert balancer.addresses == [text]
    balancer.startService()
    (address,) = balancer.addresses
    assert portOf(address) > 0
    await assertEchoed(address)
    await balancer.stopService().addTimeout(LIMIT, reactor)
    await server.stop()

"""
Pools that change while they serve, on real sockets.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionRefusedError

from iawlb.backend.address import parseDestination
from iawlb.balancer import Balancer
from iawlb.core.events import DESTINATION_CHANGED
from iawlb.core.outcome import Outcome
from iawlb.core.policies import POLICIES, Fifo, First
from iawlb.errors import InvalidSetting
from iawlb.pool import Pool
from tests.doubles import Recorder
from tests.net import LIMIT, Echo, Peer, Server, connected, reactor, until
from tests.stage import stopServer


class Live:
    """
    A running balancer of pools, with servers and clients.
    """

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.balancer = Balancer(reactor, observers=[self.recorder], drainTimeout=0)
        self.servers: list[Server] = []
        self.clients: list[Peer] = []

    async def serve(self, pool: Pool, name: str, **settings: Any) -> Server:
        """
        Add a destination that echoes.
        """
        server = await Server(Echo).listen()
        self.servers.append(server)
        pool.add(f"127.0.0.1:{server.number}", {"name": name, **settings})
        return server

    async def client(self, address: str) -> Peer:
        """
        Connect a client.
        """
        peer = await connected(parseDestination(reactor, address, LIMIT)[1])
        self.clients.append(peer)
        return peer

    def pool(self, name: str, **settings: Any) -> tuple[Pool, str]:
        """
        Add a pool with one listener, and return the pool and the address.
        """
        pool = self.balancer.addPool(name, **settings)
        return pool, pool.listen("127.0.0.1:0", {}).address


async def assertEchoed(client: Peer, text: bytes = b"hello") -> None:
    """
    A client that sends bytes gets them back. It stays connected.
    """
    expected = bytes(client.received) + text
    client.write(text)
    await until(lambda: client.lost or len(client.received) >= len(expected))
    assert (bytes(client.received), client.lost) == (expected, None)


async def leave(client: Peer) -> None:
    """
    A client ends its half, gets the end, and closes.
    """
    client.end()
    await until(lambda: client.ended or client.lost)
    client.close()
    await client.closed()
    assert not client.wasReset


@asynccontextmanager
async def live() -> AsyncIterator[Live]:
    """
    Run a balancer without pools.
    """
    on = Live()
    on.balancer.startService()
    try:
        yield on
    finally:
        await on.balancer.stopService()
        for server in on.servers:
            await stopServer(server)
        for client in on.clients:
            if client.lost is None:
                client.reset()
            await client.closed()


@pytest_twisted.ensureDeferred
async def test_poolsAreApart() -> None:
    """
    A pool that is added while the balancer runs serves at once, by its own
    destinations; a pool that is removed refuses new clients, and its sessions finish.
    """
    async with live() as on:
        web, address = on.pool("web")
        shop, other = on.pool("shop")
        one = await on.serve(web, "a")
        two = await on.serve(shop, "a")
        first, second = await on.client(address), await on.client(other)
        await assertEchoed(first)
        await assertEchoed(second)
        assert (len(one.peers), len(two.peers)) == (1, 1)
        assert (web.count.live, shop.count.accepted) == (1, 1)
        gone = on.balancer.removePool("web")
        assert list(on.balancer.pools) == ["shop"]
        with pytest.raises(ConnectionRefusedError):
            await on.client(address)
        await assertEchoed(first, b"still")
        assert not gone.called
        await leave(first)
        await gone
        await assertEchoed(second, b"too")
        # The name and the address are free again.
        again = on.balancer.addPool("web")
        again.listen(address, {})
        await on.serve(again, "a")
        await assertEchoed(await on.client(address))


@pytest_twisted.ensureDeferred
async def test_listenerGoes() -> None:
    """
    A listener that is removed refuses new clients; those that it accepted are served,
    and the other listeners accept.
    """
    async with live() as on:
        pool, address = on.pool("web")
        other = pool.listen("127.0.0.1:0", {"name": "other"})
        await on.serve(pool, "a")
        client = await on.client(other.address)
        await assertEchoed(client)
        await pool.unlisten(other)
        with pytest.raises(ConnectionRefusedError):
            await on.client(other.address)
        await assertEchoed(client, b"still")
        await assertEchoed(await on.client(address))
        assert pool.listeners.addresses == [address]


@pytest_twisted.ensureDeferred
async def test_socketOfEndpoint() -> None:
    """
    What only a socket of ours can have is refused for an endpoint, which makes its own.
    """
    async with live() as on:
        pool, _ = on.pool("web")
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        with pytest.raises(InvalidSetting, match="is an endpoint: mode, group and v6o"):
            pool.listen(endpoint, {"mode": "600"})
        pool.listen(endpoint, {"name": "mine"})
        assert [each.name for each in pool.listeners] == ["127.0.0.1:0", "mine"]


@pytest_twisted.ensureDeferred
async def test_drain() -> None:
    """
    A destination that is drained finishes its sessions and gets no more, and takes them
    again when that is undone.
    """
    async with live() as on:
        pool, address = on.pool("web", policy="first")
        one, two = await on.serve(pool, "a"), await on.serve(pool, "b")
        client = await on.client(address)
        await assertEchoed(client)
        drained = pool.drain("a")
        assert pool.destinations[0].state == "draining"
        await assertEchoed(await on.client(address))
        assert (len(one.peers), len(two.peers)) == (1, 1)
        assert not drained.called
        await leave(client)
        await drained
        assert [each.name for each in pool.destinations] == ["a", "b"]
        pool.undrain("a")
        pool.undrain("a")
        await assertEchoed(await on.client(address))
        assert (len(one.peers), len(two.peers)) == (2, 1)


@pytest_twisted.ensureDeferred
async def test_undrainWhileDown() -> None:
    """
    A destination that went down while it was drained is probed again, and comes back,
    when the drain is undone; one that is being removed stays gone.
    """
    async with live() as on:
        pool, address = on.pool("web", backoff="10ms")
        server = await on.serve(pool, "a")
        (destination,) = pool.destinations
        port = server.number
        await stopServer(server)
        waiting = await on.client(address)
        await until(lambda: destination.down is not None)
        await pool.drain("a")
        # A destination that drains is not probed after the probe that was due.
        failures = destination.failures
        await until(lambda: destination.failures > failures)
        again = Server(Echo)
        again.port = reactor.listenTCP(port, again, interface="127.0.0.1")
        on.servers.append(again)
        pool.undrain("a")
        await assertEchoed(waiting)
        removal = pool.remove("a")
        with pytest.raises(InvalidSetting, match="destination 'a' is being removed"):
            pool.undrain("a")
        await leave(waiting)
        await removal


@pytest_twisted.ensureDeferred
async def test_slots() -> None:
    """
    More slots let waiting clients in at once; fewer end no session.
    """
    async with live() as on:
        pool, address = on.pool("web")
        await on.serve(pool, "a", slots=1)
        clients = [await on.client(address) for _ in range(3)]
        await assertEchoed(clients[0])
        await until(lambda: len(pool.queue) == 2)
        pool.setSlots("a", 2)
        await assertEchoed(clients[1])
        pool.setSlots("a", 1)
        pool.setSlots("a", 1)
        await assertEchoed(clients[0])
        await assertEchoed(clients[1])
        await leave(clients[0])
        assert len(pool.queue) == 1
        await leave(clients[1])
        await assertEchoed(clients[2])
        with pytest.raises(InvalidSetting, match="slots: -1 is not a whole number"):
            pool.setSlots("a", -1)
        changes = [
            each for each in on.recorder.destinations if DESTINATION_CHANGED in each
        ]
        assert len(changes) == 2


@pytest_twisted.ensureDeferred
async def test_timeouts() -> None:
    """
    A time-out that changes holds for the sessions that come after; those that are
    connected keep theirs, and those that wait get the new one.
    """
    async with live() as on:
        pool, address = on.pool("web", idleTimeout=0, queueTimeout=0)
        await on.serve(pool, "a", slots=1)
        old = await on.client(address)
        await assertEchoed(old)
        waiting = await on.client(address)
        await until(lambda: len(pool.queue) == 1)
        pool.configure(
            replace(pool.settings, idleTimeout=0.2, queueTimeout=0.2, connectTimeout=1)
        )
        await until(lambda: waiting.ended or waiting.lost)
        await leave(waiting)
        assert list(on.recorder.outcomes.values()) == [Outcome.QUEUE_TIMEOUT]
        pool.setSlots("a", 2)
        new = await on.client(address)
        await assertEchoed(new)
        await until(lambda: new.ended or new.lost)
        await leave(new)
        assert list(on.recorder.outcomes.values())[1:] == [Outcome.IDLE_TIMEOUT]
        await assertEchoed(old)
        # Once more, while the first time-outs are still in use.
        pool.configure(replace(pool.settings, idleTimeout=0))
        await assertEchoed(await on.client(address))


@pytest.mark.parametrize("before", list(POLICIES))
@pytest.mark.parametrize("after", list(POLICIES))
@pytest_twisted.ensureDeferred
async def test_policy(before: str, after: str) -> None:
    """
    Clients that wait while the policy changes are all served.
    """
    async with live() as on:
        pool, address = on.pool("web", policy=before)
        for name in "abc":
            await on.serve(pool, name, slots=1)
            pool.setPaused(name, True)
        clients = [await on.client(address) for _ in range(3)]
        await until(lambda: len(pool.queue) == 3)
        settings = replace(pool.settings, policy=after)
        pool.configure(settings)
        pool.setWeight("a", 5)
        pool.setWeight("a", 5)
        pool.setPaused(None, False)
        for client in clients:
            await assertEchoed(client)
            await leave(client)


@pytest_twisted.ensureDeferred
async def test_boundNoMore() -> None:
    """
    Clients that wait for one full destination, since the policy binds them to it, are
    served by the others as soon as the policy binds no more; and a heavier destination
    gets those that were bound to a lighter one.
    """
    async with live() as on:
        pool, address = on.pool("web", policy="source")
        servers = [await on.serve(pool, name, slots=1) for name in "abc"]
        clients = [await on.client(address) for _ in range(3)]
        await assertEchoed(clients[0])
        await until(lambda: len(pool.queue) == 2)
        (taken,) = [each for each in pool.destinations if each.active]
        (other, _) = [each for each in pool.destinations if not each.active]
        pool.setWeight(other.name, 1000)
        await assertEchoed(clients[1])
        assert (taken.active, other.active, len(pool.queue)) == (1, 1, 1)
        pool.configure(replace(pool.settings, policy="fifo"))
        await assertEchoed(clients[2])
        assert [len(each.peers) for each in servers] == [1, 1, 1]
        # One of the user's own is kept until the settings name another.
        own = Fifo()
        pool.configure(pool.settings, own)
        pool.configure(replace(pool.settings, queueSize=9))
        assert pool.queue.policy is own
        pool.configure(replace(pool.settings, policy="first"))
        assert isinstance(pool.queue.policy, First)


@pytest_twisted.ensureDeferred
async def test_refusing() -> None:
    """
    When a pool no longer refuses while nothing is up, its clients wait; and the other
    way round.
    """
    async with live() as on:
        pool, address = on.pool("web", whenDown="refuse")
        with pytest.raises(ConnectionRefusedError):
            await on.client(address)
        pool.configure(replace(pool.settings, whenDown="hold"))
        waiting = await on.client(address)
        pool.configure(replace(pool.settings, whenDown="refuse", keepaliveIdle=7))
        with pytest.raises(ConnectionRefusedError):
            await on.client(address)
        await on.serve(pool, "a")
        await assertEchoed(waiting)
        await assertEchoed(await on.client(address))


@pytest_twisted.ensureDeferred
async def test_keepAlive(tmp_path: Path) -> None:
    """
    Keepalive options that change are those of the clients that come after, and mean
    nothing to Unix sockets.
    """
    async with live() as on:
        pool, _ = on.pool("web")
        pool.listen(str(tmp_path / "socket"), {})
        (tcp, unix) = pool.listeners
        pool.configure(replace(pool.settings, keepaliveIdle=77))
        port: Any = tcp._port
        option = port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        assert option == 77
        assert unix._keepAlive.idle == 77


@pytest_twisted.ensureDeferred
async def test_queueSize() -> None:
    """
    When a full queue gets larger, clients come in that the kernel has held.
    """
    async with live() as on:
        pool, address = on.pool("web", queueSize=1)
        clients = [await on.client(address) for _ in range(3)]
        await until(lambda: len(pool.queue) == 1)
        pool.configure(replace(pool.settings, queueSize=3))
        await until(lambda: len(pool.queue) == 3)
        await on.serve(pool, "a")
        for client in clients:
            await assertEchoed(client)


@pytest_twisted.ensureDeferred
async def test_firstByte() -> None:
    """
    A client that is silent keeps the time-out that it came in with, and is served.
    """
    async with live() as on:
        pool, address = on.pool("web", takeSlot="first-byte", handshakeTimeout=0)
        await on.serve(pool, "a")
        old = await on.client(address)
        await until(lambda: pool.count.live == 1)
        pool.configure(replace(pool.settings, handshakeTimeout=0.1))
        pool.configure(replace(pool.settings, handshakeTimeout=0.2))
        new = await on.client(address)
        await until(lambda: new.ended or new.lost)
        await leave(new)
        assert list(on.recorder.outcomes.values()) == [Outcome.FIRST_BYTE_TIMEOUT]
        await assertEchoed(old)

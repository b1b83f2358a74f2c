"""
Listening sockets that are handed over from one listener to another, on real sockets.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionRefusedError

from iawlb.frontend.listener import Listener
from iawlb.pool import Pool
from tests.net import Peer, Server, connected, reactor, until
from tests.test_live import Live, assertEchoed, leave
from tests.test_live import live as running
from tests.test_relay_tls import Tls

FORMS = ["127.0.0.1:0", "[::1]:0", "unix:{}/in.sock", "haproxy:tcp:0"]


async def prepare(pool: Pool, old: Listener, **settings: Any) -> Listener:
    """
    Open a listener that shares the socket of another one.
    """
    new = pool.entrance.make(old.text, {"name": "new", **settings}, old)
    await pool.listeners.prepare(new)
    return new


def handOver(fromPool: Pool, old: Listener, toPool: Pool, new: Listener) -> None:
    """
    Let one listener take the place of another.
    """
    toPool.entrance.admit(new, old)
    fromPool.entrance.forget(old)


async def arrived(server: Server, number: int) -> None:
    """
    Wait for clients at a server.
    """
    await until(lambda: len(server.peers) >= number)


class Moving:
    """
    A listener in a pool, and another pool that takes it.
    """

    def __init__(self, live: Live, form: str, **settings: Any) -> None:
        self.live = live
        self.haproxy = form.startswith("haproxy")
        self.one = live.balancer.addPool("one", **settings)
        self.two = live.balancer.addPool("two", **settings)
        self.old = self.one.listen(form, {})

    async def client(self, of: Listener) -> Peer:
        """
        Connect a client, by the address at which the socket listens.
        """
        address = of.address
        if self.haproxy:
            address = f"127.0.0.1:{address.rpartition(':')[2]}"
        client = await self.live.client(address)
        if self.haproxy:
            client.write(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n")
        return client


@pytest.mark.parametrize("form", FORMS)
@pytest_twisted.ensureDeferred
async def test_otherPool(form: str, tmp_path: Path) -> None:
    """
    A listener that moves to another pool keeps its socket: the clients that came before
    stay where they are, and the next ones go to the other pool's destinations.
    """
    async with running() as live:
        on = Moving(live, form.format(tmp_path))
        first, second = await live.serve(on.one, "a"), await live.serve(on.two, "b")
        early = await on.client(on.old)
        await assertEchoed(early)
        new = await prepare(on.two, on.old)
        await assertEchoed(await on.client(on.old))
        assert (len(first.peers), len(second.peers)) == (2, 0)
        handOver(on.one, on.old, on.two, new)
        assert (len(on.one.listeners), list(on.two.listeners)) == (0, [new])
        assert new.address == on.old.address
        await assertEchoed(await on.client(new))
        assert (len(first.peers), len(second.peers)) == (2, 1)
        await assertEchoed(early)
        # It listens still when the old port is closed for good, and can be handed back.
        await until(lambda: on.old.port is None)
        await assertEchoed(await on.client(new))
        back = await prepare(on.one, new)
        handOver(on.two, new, on.one, back)
        await assertEchoed(await on.client(back))
        assert (len(first.peers), len(second.peers)) == (3, 2)
        for client in live.clients:
            await leave(client)
        await on.one.unlisten(back)
        with pytest.raises(ConnectError):
            await on.client(back)
    assert os.listdir(tmp_path) == []
    listening = [each for each in live.recorder.listeners if each[1] != "closed"]
    assert [event for _, event in listening] == ["listening"] * 3
    assert live.recorder.listeners[-1] == ("new", "closed")


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path) -> None:
    """
    A TLS listener that moves has the certificate of its new address, and its socket.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    for each in (one, two):
        each.mkdir()
    before, after = Tls(one), Tls(two)
    async with running() as live:
        pool = live.balancer.addPool("web")
        await live.serve(pool, "a")
        form = "ssl:0:interface=127.0.0.1:privateKey={}"
        old = pool.listen(form.format(before.path), {})
        port = int(old.address.rpartition(":")[2])
        new = pool.entrance.make(form.format(after.path), {}, old)
        await pool.listeners.prepare(new)
        handOver(pool, old, pool, new)
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        client = await connected(after.client(plain))
        await assertEchoed(client)
        client.close()
        await client.closed()


@pytest.mark.parametrize("form", ["127.0.0.1:0", "unix:{}/in.sock"])
@pytest_twisted.ensureDeferred
async def test_backlog(form: str, tmp_path: Path) -> None:
    """
    Clients that the kernel holds when the socket is handed over are served by the new
    listener: none is refused or lost.
    """
    async with running() as live:
        on = Moving(live, form.format(tmp_path))
        server = await live.serve(on.two, "b")
        on.old.hold()
        on.old.check()
        assert on.old._acceptor is not None
        on.old._acceptor.pause()
        clients = [await on.client(on.old) for _ in range(20)]
        new = await prepare(on.two, on.old)
        handOver(on.one, on.old, on.two, new)
        for each in clients:
            await assertEchoed(each)
            await leave(each)
        assert len(server.peers) == 20


@pytest_twisted.ensureDeferred
async def test_backlogOfThisTurn() -> None:
    """
    Clients whom the old listener has not accepted yet, though it accepts, are those of
    the new one.
    """
    async with running() as live:
        on = Moving(live, "127.0.0.1:0")
        server = await live.serve(on.two, "b")
        new = await prepare(on.two, on.old)
        host, _, port = on.old.address.rpartition(":")
        with ExitStack() as stack:
            # The reactor has no turn between this and the hand-over.
            clients = [
                stack.enter_context(socket.create_connection((host, int(port))))
                for _ in range(3)
            ]
            handOver(on.one, on.old, on.two, new)
            await until(lambda: len(server.peers) == 3)
            for each in clients:
                each.close()
            await until(lambda: not live.balancer.sessions)


@pytest.mark.parametrize("form", ["127.0.0.1:0", "unix:{}/in.sock"])
@pytest_twisted.ensureDeferred
async def test_abandoned(form: str, tmp_path: Path) -> None:
    """
    If a change fails after a socket was shared, the old listener listens as before.
    """
    async with running() as live:
        on = Moving(live, form.format(tmp_path))
        await live.serve(on.one, "a")
        new = await prepare(on.two, on.old)
        await new.close()
        for _ in range(2):
            client = await on.client(on.old)
            await assertEchoed(client)
            await leave(client)
    assert [event for _, event in live.recorder.listeners] == ["listening", "closed"]


@pytest.mark.parametrize("form", ["127.0.0.1:0", "unix:{}/in.sock"])
@pytest_twisted.ensureDeferred
async def test_refusing(form: str, tmp_path: Path) -> None:
    """
    The socket of a listener that refuses, since its pool has no destination up, listens
    again in a pool that has one; and the other way round.
    """
    async with running() as live:
        on = Moving(live, form.format(tmp_path), whenDown="refuse")
        await live.serve(on.two, "b")
        on.one.destinationChanged()
        with pytest.raises(ConnectionRefusedError):
            await on.client(on.old)
        new = await prepare(on.two, on.old)
        with pytest.raises(ConnectionRefusedError):
            await on.client(on.old)
        handOver(on.one, on.old, on.two, new)
        client = await on.client(new)
        await assertEchoed(client)
        await leave(client)
        back = await prepare(on.one, new)
        handOver(on.two, new, on.one, back)
        with pytest.raises(ConnectionRefusedError):
            await on.client(back)
        await live.serve(on.one, "a")
        client = await on.client(back)
        await assertEchoed(client)
        await leave(client)
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_permissions(tmp_path: Path) -> None:
    """
    A Unix socket whose mode or group changes stays the same socket.
    """
    where = tmp_path / "in.sock"
    group = 1 if os.geteuid() == 0 else os.getegid()
    async with running() as live:
        pool = live.balancer.addPool("one")
        await live.serve(pool, "a")
        listener = pool.listen(str(where), {})
        before = where.stat()
        for settings, mode in (
            ({"mode": 0o600}, 0o600),
            ({"mode": 0o640, "group": group}, 0o640),
            ({"mode": 0o640, "group": group, "name": "x"}, 0o640),
            ({}, 0o666),
        ):
            new = await prepare(pool, listener, **settings)
            handOver(pool, listener, pool, new)
            listener = new
            now = where.stat()
            assert now.st_ino == before.st_ino
            assert stat.S_IMODE(now.st_mode) == mode
            assert now.st_gid == settings.get("group", os.getegid())
            client = await live.client(f"unix:{where}")
            await assertEchoed(client)
            await leave(client)
    assert not where.exists()

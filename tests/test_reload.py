"""
Reloads of a balancer that serves, on real sockets.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from iawlb.backend.address import parseDestination
from iawlb.balancer import Balancer
from iawlb.config.model import Configuration
from iawlb.config.read import readConfiguration
from iawlb.control import apply
from iawlb.control import reload as reloadModule
from iawlb.control.apply import Application
from iawlb.control.build import buildBalancer
from iawlb.control.errors import Conflict
from iawlb.control.reload import Reloader
from iawlb.pool import Pool
from tests.doubles import Recorder
from tests.net import LIMIT, Echo, Peer, Server, connected, freePort, reactor, until
from tests.pem import Issued
from tests.stage import stopServer
from tests.test_live import assertEchoed, leave


def shownBy(port: int) -> bytes:
    """
    Return the certificate that a TLS listener shows.
    """
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=LIMIT).encode()


class Reloading:
    """
    A running balancer that was made from a file, with servers and clients.

    @ivar published: The events that the reloader has published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "iawlb.toml"
        self.recorder = Recorder()
        self.servers: list[Server] = []
        self.clients: list[Peer] = []
        self.published: list[str] = []
        self.balancer: Balancer
        self.reloader: Reloader
        self.port = freePort()

    def read(self) -> Configuration:
        """
        Read the file.
        """
        return readConfiguration(str(self.file), {}, {}, reactor)

    async def serve(self, number: int) -> list[Server]:
        """
        Start servers that echo.
        """
        for _ in range(number):
            self.servers.append(await Server(Echo).listen())
        return self.servers[-number:]

    def write(self, text: str) -> None:
        """
        Write the file. C{$0} stands for the address of the first server, and C{$P} for
        the port of the first listener.
        """
        for index, server in enumerate(self.servers):
            text = text.replace(f"${index}", f"127.0.0.1:{server.number}")
        self.file.write_text(text.replace("$P", str(self.port)))

    def start(self, text: str) -> None:
        """
        Start a balancer from a file.
        """
        self.write(text)
        running = self.read()
        self.balancer = buildBalancer(running, reactor, [self.recorder])
        self.reloader = Reloader(self.balancer, self.read, running)
        self.reloader.publish = lambda kind, **_: self.published.append(kind)
        self.reloader.began = lambda: self.published.append("began")
        self.reloader.ended = lambda: self.published.append("ended")
        self.balancer.startService()

    async def reload(self, text: str | None = None, **given: Any) -> dict[str, Any]:
        """
        Write the file, and reload it.
        """
        if text is not None:
            self.write(text)
        reloading = Deferred.fromCoroutine(self.reloader.reload(**given))
        result: dict[str, Any] = await reloading.addTimeout(LIMIT, reactor)
        return result

    async def changed(self, text: str | None = None) -> list[tuple[str, str]]:
        """
        Reload, and return what was changed.
        """
        result = await self.reload(text)
        assert result["result"] == "done", result
        return [(each["action"], each["path"]) for each in result["changes"]]

    def pool(self, name: str = "web") -> Pool:
        """
        Return a pool.
        """
        return self.balancer.pools[name]

    async def client(self, address: str | None = None) -> Peer:
        """
        Connect a client.
        """
        address = address or f"127.0.0.1:{self.port}"
        peer = await connected(parseDestination(reactor, address, LIMIT)[1])
        self.clients.append(peer)
        return peer

    async def echoed(self, address: str | None = None) -> Peer:
        """
        Connect a client, and check that it is served.
        """
        client = await self.client(address)
        await assertEchoed(client)
        return client


@asynccontextmanager
async def reloads(folder: Path, servers: int = 2) -> AsyncIterator[Reloading]:
    """
    Prepare a balancer that is made from a file, with some servers.
    """
    on = Reloading(folder)
    await on.serve(servers)
    try:
        yield on
    finally:
        stopping = on.balancer.stopService()
        on.balancer.cutDrain()
        await stopping
        for server in on.servers:
            await stopServer(server)
        for client in on.clients:
            if client.lost is None:
                client.reset()
            await client.closed()


WEB = """
[pools.web]
listen = "127.0.0.1:$P"
destinations = { a = "$0" }
"""


@pytest_twisted.ensureDeferred
async def test_destinations(tmp_path: Path) -> None:
    """
    A destination that is added serves at once. One that is removed takes no more
    clients, finishes those it has, and is gone then.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        early = await on.echoed()
        text = WEB.replace('a = "$0"', 'b = "$1"')
        assert await on.changed(text) == [
            ("add", "pools.web.destinations.b"),
            ("remove", "pools.web.destinations.a"),
        ]
        assert on.reloader.last["messages"] == [
            "pools.web.destinations.a: it finishes 1 session"
        ]
        await on.echoed()
        await assertEchoed(early)
        assert [len(each.peers) for each in on.servers] == [1, 1]
        await leave(early)
        await until(lambda: [each.name for each in on.pool().destinations] == ["b"])


@pytest_twisted.ensureDeferred
async def test_comesBack(tmp_path: Path) -> None:
    """
    A destination that comes back while it still drains is the same one again: its
    running sessions count, so that it never has more than its slots.
    """
    async with reloads(tmp_path) as on:
        with_ = WEB.replace('"$0"', '{ address = "$0", slots = 2 }')
        on.start(with_)
        early = await on.echoed()
        (before,) = on.pool().destinations
        await on.changed(WEB.replace('a = "$0"', 'b = "$1"'))
        assert before.removing
        await on.changed(with_)
        assert on.pool().workers["a"].destination is before
        assert (before.state, before.active) == ("up", 1)
        await on.echoed()
        await assertEchoed(early)
        assert before.active == 2


@pytest_twisted.ensureDeferred
async def test_values(tmp_path: Path) -> None:
    """
    Slots, weight, order, policy, time-outs and the slots of the pool change at once.
    """
    async with reloads(tmp_path) as on:
        on.start(
            WEB.replace('a = "$0"', 'a = "$0", b = { address = "$1", weight = 2 }')
        )
        early = await on.echoed()
        assert await on.changed(
            """
            [global]
            max-connections = 77
            drain-timeout = "2s"
            [pools.web]
            listen = "127.0.0.1:$P"
            policy = "source"
            queue-timeout = "7s"
            slots = 9
            [pools.web.destinations]
            b = { address = "$1", slots = 3 }
            a = { address = "$0", weight = 5 }
            """
        ) == [
            ("change", "global.max-connections"),
            ("change", "global.drain-timeout"),
            ("change", "pools.web.policy"),
            ("change", "pools.web.slots"),
            ("change", "pools.web.queue-timeout"),
            ("change", "pools.web.destinations.b.slots"),
            ("change", "pools.web.destinations.b.weight"),
            ("change", "pools.web.destinations.a.weight"),
            ("change", "pools.web.destinations"),
        ]
        pool = on.pool()
        assert [(each.name, each.slots, each.weight) for each in pool.destinations] == [
            ("b", 3, 1),
            ("a", 0, 5),
        ]
        assert [each.order for each in pool.destinations] == [1, 2]
        assert (pool.settings.policy, pool.queue.policy.binds) == ("source", True)
        assert (pool.settings.queueTimeout, pool.slots) == (7, 9)
        assert on.balancer.table.limit == 77
        assert on.balancer.settings.drainTimeout == 2
        await assertEchoed(early)
        await on.echoed()


@pytest_twisted.ensureDeferred
async def test_address(tmp_path: Path) -> None:
    """
    A destination that gets another address serves there at once; the sessions at the
    old address finish.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        early = await on.echoed()
        changes = await on.changed(WEB.replace("$0", "$1"))
        assert changes == [("change", "pools.web.destinations.a.address")]
        late = await on.echoed()
        await assertEchoed(early)
        assert [len(each.peers) for each in on.servers] == [1, 1]
        await leave(early)
        await until(lambda: len(on.pool().destinations) == 1)
        await assertEchoed(late)


@pytest_twisted.ensureDeferred
async def test_addressOfPaused(tmp_path: Path) -> None:
    """
    A destination that was paused or drained, and gets another address, is another one:
    it takes clients, and the result says so.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        path = "pools.web.destinations.a.address"
        on.pool().setPaused("a", True)
        result = await on.reload(WEB.replace("$0", "$1"))
        assert result["messages"] == [
            f"{path}: the old one was paused; the new one is up"
        ]
        on.pool().drain("a")
        result = await on.reload(WEB)
        assert result["messages"] == [
            f"{path}: the old one was drained; the new one is up"
        ]
        await on.echoed()


@pytest_twisted.ensureDeferred
async def test_otherSpelling(tmp_path: Path) -> None:
    """
    The same address in another spelling is the same destination still.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        before = on.pool().destinations
        await on.changed(WEB.replace("$0", f"tcp:127.0.0.1:{on.servers[0].number}"))
        assert on.pool().destinations == before


@pytest_twisted.ensureDeferred
async def test_pools(tmp_path: Path) -> None:
    """
    A pool that is added serves at once; one that is removed refuses new clients, and
    its sessions finish.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        early = await on.echoed()
        other = freePort()
        changes = await on.changed(
            WEB.replace("web", "shop").replace("$P", str(other)).replace("$0", "$1")
        )
        assert changes == [("add", "pools.shop"), ("remove", "pools.web")]
        late = await on.echoed(f"127.0.0.1:{other}")
        with pytest.raises(ConnectionRefusedError):
            await on.client()
        await assertEchoed(early)
        await assertEchoed(late)
        assert [len(each.peers) for each in on.servers] == [1, 1]
        assert list(on.balancer.pools) == ["shop"]


@pytest_twisted.ensureDeferred
async def test_listeners(tmp_path: Path) -> None:
    """
    Listeners are added, removed and renamed; a client of one that is removed is served
    to its end.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        early = await on.echoed()
        path = tmp_path / "in.sock"
        text = WEB.replace('"127.0.0.1:$P"', f'["127.0.0.1:$P", "{path}"]')
        assert await on.changed(text) == [("add", f'pools.web.listeners."{path}"')]
        await on.echoed(str(path))
        only = WEB.replace(
            '"127.0.0.1:$P"', f'{{ address = "{path}", name = "x", mode = "600" }}'
        )
        assert await on.changed(only) == [
            ("change", f'pools.web.listeners."{path}".name'),
            ("change", f'pools.web.listeners."{path}".mode'),
            ("remove", f'pools.web.listeners."127.0.0.1:{on.port}"'),
        ]
        assert path.stat().st_mode & 0o777 == 0o600
        assert [each.name for each in on.pool().listeners] == ["x"]
        await on.echoed(str(path))
        with pytest.raises(ConnectionRefusedError):
            await on.client()
        await assertEchoed(early)
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_listenerFileGone(tmp_path: Path) -> None:
    """
    A Unix socket whose file somebody has removed can be changed and removed like any
    other, and its descriptor is closed.
    """
    path = tmp_path / "in.sock"

    def descriptors() -> list[str]:
        """
        List what the descriptors of this process lead to.
        """
        folder = Path("/proc/self/fd")
        return [os.readlink(each) for each in folder.iterdir() if each.is_symlink()]

    def text(own: str) -> str:
        """
        Write a configuration with another listener.
        """
        return WEB.replace('"127.0.0.1:$P"', f'["127.0.0.1:$P"{own}]')

    async with reloads(tmp_path) as on:
        on.start(text(f', "{path}"'))
        path.unlink()
        group = os.getegid()
        await on.changed(
            text(f', {{ address = "{path}", mode = "600", group = "{group}" }}')
        )
        (_, listener) = on.pool().listeners
        assert listener.shareable is not None
        socket = os.readlink(f"/proc/self/fd/{listener.shareable.fileno()}")
        assert socket in descriptors()
        await on.changed(text(""))
        await until(lambda: socket not in descriptors())
        await on.echoed()


@pytest_twisted.ensureDeferred
async def test_listenerMoves(tmp_path: Path) -> None:
    """
    A listener that moves to another pool, also in another spelling, keeps its socket:
    clients that the kernel holds are served by the new pool.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        (listener,) = on.pool().listeners
        assert listener.shareable is not None
        inode = os.fstat(listener.shareable.fileno()).st_ino
        early = await on.echoed()
        listener.hold()
        assert listener._acceptor is not None
        listener._acceptor.pause()
        held = [await on.client() for _ in range(5)]
        await on.changed(
            WEB.replace("web", "shop")
            .replace("127.0.0.1:$P", "tcp:$P:interface=127.0.0.1")
            .replace("$0", "$1")
        )
        for each in held:
            await assertEchoed(each)
        await assertEchoed(early)
        assert [len(each.peers) for each in on.servers] == [1, 5]
        (listener,) = on.pool("shop").listeners
        assert listener.shareable is not None
        assert os.fstat(listener.shareable.fileno()).st_ino == inode


@pytest_twisted.ensureDeferred
async def test_listenersChangePlaces(tmp_path: Path) -> None:
    """
    Two pools can give each other their listeners, in one reload.
    """
    async with reloads(tmp_path) as on:
        other = freePort()
        shop = WEB.replace("web", "shop").replace("$0", "$1")
        on.start(WEB + shop.replace("$P", str(other)))
        changes = await on.changed(WEB.replace("$P", str(other)) + shop)
        assert sorted(changes) == [
            ("add", f'pools.shop.listeners."127.0.0.1:{on.port}"'),
            ("add", f'pools.web.listeners."127.0.0.1:{other}"'),
            ("remove", f'pools.shop.listeners."127.0.0.1:{other}"'),
            ("remove", f'pools.web.listeners."127.0.0.1:{on.port}"'),
        ]
        assert await on.changed() == []
        await on.echoed()
        assert [len(each.peers) for each in on.servers] == [0, 1]
        await on.echoed(f"127.0.0.1:{other}")
        assert [len(each.peers) for each in on.servers] == [1, 1]


@pytest_twisted.ensureDeferred
async def test_same(tmp_path: Path) -> None:
    """
    The same file again changes nothing, and is a success.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        client = await on.echoed()
        before = on.pool().destinations, list(on.pool().listeners), on.pool().deadlines
        result = await on.reload("# a comment\n" + WEB)
        assert result == {"result": "done", "changes": [], "messages": []}
        after = on.pool().destinations, list(on.pool().listeners), on.pool().deadlines
        assert after == before
        await assertEchoed(client)
        assert on.reloader.last["successful"] is True
        assert on.published == ["began", "reload", "ended"]


@pytest_twisted.ensureDeferred
async def test_diff(tmp_path: Path) -> None:
    """
    With diff, a reload only says what it would do. It is not a reload.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        last = on.reloader.last
        result = await on.reload(WEB.replace("$0", "$1"), diff=True)
        address = [f"127.0.0.1:{each.number}" for each in on.servers]
        assert result == {
            "result": "done",
            "changes": [
                {
                    "path": "pools.web.destinations.a.address",
                    "before": address[0],
                    "after": address[1],
                    "action": "change",
                }
            ],
            "messages": [],
        }
        on.file.write_text("[pool]")
        result = await on.reload(diff=True)
        assert result["result"] == "failed"
        assert (on.reloader.last, on.published) == (last, [])
        await on.echoed()
        assert [len(each.peers) for each in on.servers] == [1, 0]


@pytest.mark.parametrize("relay", ["portable", "fast"])
@pytest_twisted.ensureDeferred
async def test_restart(relay: str, tmp_path: Path) -> None:
    """
    A setting that cannot change while the balancer runs is named with what to do, each
    time, and the rest is changed.
    """
    async with reloads(tmp_path) as on:
        on.start(f'[global]\nrelay = "{relay}"\n{WEB}')
        other = f'[global]\nrelay = "auto"\n{WEB}'.replace("$0", "$1")
        message = f"global.relay: needs a restart; until then it stays '{relay}'"
        result = await on.reload(other)
        assert result["messages"] == [message]
        assert [each["path"] for each in result["changes"]] == [
            "global.relay",
            "pools.web.destinations.a.address",
        ]
        await on.echoed()
        assert len(on.servers[1].peers) == 1
        result = await on.reload()
        assert [each["path"] for each in result["changes"]] == ["global.relay"]
        assert result["messages"] == on.reloader.last["messages"] == [message]


@pytest_twisted.ensureDeferred
async def test_badFile(tmp_path: Path) -> None:
    """
    A file that is wrong changes nothing. All that is wrong is said, and stays visible
    until a reload succeeds.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        result = await on.reload('[pools.web]\nslotss = 3\npolicy = "best"\n')
        assert result["result"] == "failed"
        assert len(result["mistakes"]) >= 2
        assert any("slotss" in each for each in result["mistakes"])
        assert on.reloader.last["successful"] is False
        assert on.reloader.last["messages"] == result["mistakes"]
        assert on.published == ["began", "reload-failed", "ended"]
        assert on.reloader.succeededAt < time()
        await on.echoed()
        on.file.unlink()
        assert (await on.reload())["result"] == "failed"
        assert (await on.reload(WEB))["result"] == "done"
        assert on.reloader.last["successful"] is True


@pytest_twisted.ensureDeferred
async def test_taken(tmp_path: Path) -> None:
    """
    If one new listener cannot be opened, nothing is changed: not the other listeners,
    the pools, the destinations or the time-outs.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        taken, free = on.servers[1].number, freePort()
        before = on.reloader.running
        result = await on.reload(
            f"""
            [pools.shop]
            listen = ["127.0.0.1:{free}", "127.0.0.1:{taken}"]
            destinations = {{ b = "$1" }}
            [pools.web]
            listen = ["{tmp_path}/in.sock", "127.0.0.1:$P"]
            queue-timeout = "1s"
            destinations = {{ c = "$0" }}
            """.replace("$1", "127.0.0.1:9")
        )
        assert result["result"] == "failed"
        (mistake,) = result["mistakes"]
        assert mistake == (
            f"cannot listen on 127.0.0.1:{taken}: Address already in use"
        )
        assert list(on.balancer.pools) == ["web"]
        assert [each.name for each in on.pool().destinations] == ["a"]
        assert on.pool().settings.queueTimeout == 30
        assert on.reloader.running == before
        with pytest.raises(ConnectionRefusedError):
            await on.client(f"127.0.0.1:{free}")
        await on.echoed()
        assert os.listdir(tmp_path) == ["iawlb.toml"]


@pytest_twisted.ensureDeferred
async def test_overlap(tmp_path: Path) -> None:
    """
    A listener can be exchanged for one whose address overlaps with it: for all
    addresses, for one again, for two, and for IPv6 with and without IPv4.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        early = await on.echoed()
        for listen, addresses in (
            ('"0.0.0.0:$P"', ["127.0.0.1", "127.0.0.2"]),
            ('["127.0.0.2:$P", "127.0.0.1:$P"]', ["127.0.0.2", "127.0.0.1"]),
            ('"[::]:$P"', ["[::1]", "127.0.0.2"]),
            ('{ address = "[::]:$P", v6only = true }', ["[::1]"]),
            ('"$P"', ["127.0.0.1"]),
        ):
            await on.changed(WEB.replace('"127.0.0.1:$P"', listen))
            for each in addresses:
                await on.echoed(f"{each}:{on.port}")
        assert len(on.pool().listeners) == 1
        await assertEchoed(early)


@pytest_twisted.ensureDeferred
async def test_overlapWhileRefusing(tmp_path: Path) -> None:
    """
    So it can be while no destination is up and clients are refused.
    """
    async with reloads(tmp_path) as on:
        refuse = WEB.replace("[pools.web]", '[pools.web]\nwhen-down = "refuse"')
        on.start(refuse.replace('{ a = "$0" }', "{}"))
        with pytest.raises(ConnectionRefusedError):
            await on.client()
        (old,) = on.pool().listeners
        assert old.state == "refusing"
        await on.changed(refuse.replace("127.0.0.1:$P", "0.0.0.0:$P"))
        await on.echoed()
        (new,) = on.pool().listeners
        assert (old.state, new.state) == ("closed", "listening")


@pytest_twisted.ensureDeferred
async def test_overlapTaken(tmp_path: Path) -> None:
    """
    If another program has a part of the new address, nothing changes: the old listener
    listens again.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        with socket.create_server(("127.0.0.9", on.port)):
            result = await on.reload(WEB.replace("127.0.0.1:$P", "0.0.0.0:$P"))
            assert result["mistakes"] == [
                f"cannot listen on 0.0.0.0:{on.port}: Address already in use"
            ]
        await on.echoed()
        assert await on.changed(WEB) == []


@pytest_twisted.ensureDeferred
async def test_atOnce(tmp_path: Path) -> None:
    """
    Reloads that are asked for at once are made one after the other.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        first = Deferred.fromCoroutine(on.reloader.reload())
        on.write(WEB.replace("$0", "$1"))
        more = [Deferred.fromCoroutine(on.reloader.reload()) for _ in range(3)]
        results = await gatherResults([first, *more]).addTimeout(LIMIT, reactor)
        # The file may be read before or after it is written.
        assert sum(len(each["changes"]) for each in results) == 1


@pytest_twisted.ensureDeferred
async def test_notWhileStopping(tmp_path: Path) -> None:
    """
    A balancer that stops, or has not started, reloads nothing, and says so.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        client = await on.echoed()
        stopping = on.balancer.stopService()
        with pytest.raises(Conflict, match="is stopping"):
            await on.reload()
        on.balancer.cutDrain()
        await stopping
        with pytest.raises(Conflict, match="has not started"):
            await on.reload()
        await client.closed()


@pytest_twisted.ensureDeferred
async def test_noFile(tmp_path: Path) -> None:
    """
    Without a file there is nothing to reload.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        reloader = Reloader(on.balancer, None, on.reloader.running)
        assert reloader.last["successful"] is None
        with pytest.raises(Conflict, match="no configuration file"):
            await reloader.reload()


@pytest_twisted.ensureDeferred
async def test_runtimeValues(tmp_path: Path) -> None:
    """
    What was changed while the balancer ran stays, as long as its line in the file does
    not change. A line that changes wins.
    """
    async with reloads(tmp_path, 3) as on:
        text = WEB.replace(
            'a = "$0"', 'a = { address = "$0", slots = 4, weight = 2 }, b = "$1"'
        ).replace("[pools.web]", '[pools.web]\nqueue-timeout = "5s"\nslots = 7')
        on.start(text)
        pool = on.pool()
        pool.setSlots("a", 8)
        pool.setWeight("a", 9)
        pool.setPoolSlots(70)
        pool.setPaused("a", True)
        pool.pause("me")
        await pool.remove("b")
        pool.add(f"127.0.0.1:{on.servers[2].number}", {"name": "c", "slots": 1})

        def state() -> Any:
            return {
                each.name: (each.slots, each.weight, each.state)
                for each in pool.destinations
            }

        expected = {"a": (8, 9, "paused"), "c": (1, 1, "up")}
        assert await on.changed(text.replace("5s", "6s")) == [
            ("change", "pools.web.queue-timeout")
        ]
        assert state() == expected
        assert (pool.settings.queueTimeout, pool.slots, pool.state) == (6, 70, "paused")
        # A line of a changes: that value holds, and the other one stays.
        await on.changed(text.replace("slots = 4", "slots = 5"))
        assert state() == {**expected, "a": (5, 9, "paused")}
        # The line of b changes: it is there again. c comes into the file.
        text = text.replace(
            'b = "$1"', 'b = { address = "$1", slots = 6 }, c = { address = "$2" }'
        )
        result = await on.reload(text.replace("slots = 4", "slots = 5"))
        assert result["messages"] == [
            "pools.web.destinations.b.slots: it had been removed, and is added again"
        ]
        assert state() == {
            "a": (5, 9, "paused"),
            "b": (6, 1, "up"),
            "c": (0, 1, "up"),
        }
        # Gone from the file, gone; also if it was removed before.
        await pool.remove("c")
        await on.changed(WEB)
        assert state() == {"a": (0, 1, "paused")}


@pytest_twisted.ensureDeferred
async def test_badAddress(tmp_path: Path) -> None:
    """
    A configuration that was not checked, as that of a program, is checked too.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        running = on.reloader.running
        web = running.pools["web"]
        bad = replace(web.destinations["a"], address="nowhere:")
        new = replace(web, destinations={"a": bad})
        reloader = Reloader(
            on.balancer, lambda: replace(running, pools={"web": new}), running
        )
        result = await reloader.reload()
        assert result["mistakes"] == [
            "pools.web.destinations.a.address: 'nowhere:' has no port: write "
            "'nowhere:9001'"
        ]
        await on.echoed()


@pytest_twisted.ensureDeferred
async def test_otherPort(tmp_path: Path) -> None:
    """
    A listener that goes does not stand in the way of one with another port.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        taken = f"127.0.0.1:{on.servers[1].number}"
        result = await on.reload(WEB.replace("127.0.0.1:$P", taken))
        assert result["mistakes"] == [
            f"cannot listen on {taken}: Address already in use"
        ]
        await on.echoed()


@pytest_twisted.ensureDeferred
async def test_process(tmp_path: Path) -> None:
    """
    A setting of the process is changed if that is possible, and is named otherwise.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        changed: list[Any] = []
        on.reloader.configure = lambda *given: changed.append(given)
        text = f'[admin]\nstate = "/x"\n[log]\nlevel = "debug"\n{WEB}'
        result = await on.reload(text)
        assert [each["path"] for each in result["changes"]] == [
            "admin.state",
            "log.level",
        ]
        assert result["messages"] == [
            "admin.state: needs a restart; until then it stays ''"
        ]
        assert changed == [(("log", "level"), "debug")]
        assert await on.changed() == [("change", "admin.state")]


@pytest_twisted.ensureDeferred
async def test_manyDestinations(tmp_path: Path) -> None:
    """
    While many destinations are added, clients are served.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        many = "".join(f'd{n} = "127.0.0.1:{n}"\n' for n in range(1, 101))
        shop = f"[pools.shop]\nlisten = 0\n[pools.shop.destinations]\n{many}"
        text = WEB.replace('destinations = { a = "$0" }', "")
        text += f'[pools.web.destinations]\na = "$0"\n{many}'
        on.write(text + shop)
        turns: list[int] = []

        def turn() -> None:
            turns.append(len(on.balancer.pools["web"].workers))

        ticking = LoopingCall(turn)
        ticked = ticking.start(0.0005)
        result = await on.reload()
        ticking.stop()
        await ticked
        assert result["result"] == "done", result
        assert len(set(turns)) > 5
        assert len(on.pool("shop").destinations) == 100


@pytest_twisted.ensureDeferred
async def test_manyMessages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Only so many lines of a reload are remembered; all are returned.
    """
    monkeypatch.setattr(reloadModule, "MOST", 1)
    async with reloads(tmp_path) as on:
        on.start(WEB.replace('a = "$0"', 'a = "$0", b = "$1"'))
        for _ in range(2):
            await on.echoed()
        result = await on.reload(WEB.replace('a = "$0"', 'c = "127.0.0.1:9"'))
        assert len(result["messages"]) == 2
        assert on.reloader.last["messages"] == [
            result["messages"][0],
            "and 1 lines more, which the log has",
        ]


@pytest_twisted.ensureDeferred
async def test_stopsMeanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A stop in the middle of a reload wins: what was changed is undone.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        monkeypatch.setattr(apply, "STEPS_PER_TURN", 1)
        on.write(WEB.replace("$0", "$1"))
        stopping: list[Any] = []
        replaced = Pool.replace

        def stops(*given: Any) -> Any:
            stopping.append(on.balancer.stopService())
            return replaced(*given)

        with monkeypatch.context() as patch:
            patch.setattr(Pool, "replace", stops)
            reloading = Deferred.fromCoroutine(on.reloader.reload())
            result = await reloading.addTimeout(LIMIT, reactor)
        assert result["result"] == "failed"
        assert "is stopping" in result["mistakes"][0]


RAISING = """
[global]
max-connections = 55
[pools.shop]
listen = "127.0.0.1:$Q"
destinations = { x = "127.0.0.1:7" }
[pools.web]
listen = "127.0.0.1:$P"
queue-timeout = "1s"
policy = "first"
[pools.web.destinations]
b = "$1"
a = { address = "$0", slots = 3 }
c = "127.0.0.1:9"
"""


class Raising:
    """
    A reload in which a step raises what nobody expected.

    @ivar logged: The log events of the reload.
    """

    def __init__(
        self, on: Reloading, patch: pytest.MonkeyPatch, of: Any, *methods: str
    ) -> None:
        self.logged: list[Any] = []
        self.on = on
        log = Logger(observer=self.logged.append)  # type: ignore[arg-type]
        for kind in (Reloader, Application):
            patch.setattr(kind, "log", log)

        def fails(*_: object) -> None:
            raise ZeroDivisionError("by chance")

        for each in methods:
            patch.setattr(of, each, fails)

    async def reload(self, text: str = RAISING) -> dict[str, Any]:
        """
        Reload.
        """
        result = await self.on.reload(text.replace("$Q", str(freePort())))
        assert result["result"] == "failed"
        assert result["mistakes"][0] == "by chance"
        assert any("log_failure" in each for each in self.logged)
        return result


@pytest_twisted.ensureDeferred
async def test_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If a step raises what nobody expected, all steps before are undone, and the reload
    has failed.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB.replace('a = "$0"', 'a = "$0", d = "127.0.0.1:8"'))
        on.pool().setPaused("d", True)
        early = await on.echoed()
        before = on.reloader.running
        with monkeypatch.context() as patch:
            raising = Raising(on, patch, Pool, "arrange")
            result = await raising.reload()
        assert result["changes"] == result["messages"] == []
        assert on.reloader.running == before
        assert list(on.balancer.pools) == ["web"]
        pool = on.pool()
        states = {each.name: (each.slots, each.state) for each in pool.destinations}
        assert states == {"a": (0, "up"), "d": (0, "paused")}
        assert (pool.settings.queueTimeout, pool.settings.policy) == (30, "least")
        assert on.balancer.table.limit != 55
        assert len(pool.listeners) == 1
        await assertEchoed(early)
        await on.echoed()
        assert (await on.reload())["result"] == "done"
        assert [each.name for each in pool.destinations] == ["b", "a", "c"]


@pytest_twisted.ensureDeferred
async def test_readingRaises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If reading the file raises what nobody expected, nothing changes.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        with monkeypatch.context() as patch:
            Raising(on, patch, Pool)

            def fails() -> Configuration:
                raise MemoryError("by chance")

            patch.setattr(on.reloader, "_read", fails)
            result = await on.reload()
        assert result["mistakes"] == [
            "reading the configuration failed: MemoryError('by chance')"
        ]
        await on.echoed()


@pytest_twisted.ensureDeferred
async def test_removalUndone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A destination that was being removed, and that the file brings back, is removed
    nevertheless if the reload fails later.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        early = await on.echoed()
        pool = on.pool()
        pool.remove("a")
        with monkeypatch.context() as patch:
            await Raising(on, patch, Pool, "arrange").reload()
        assert pool.workers["a"].destination.removing
        await leave(early)
        await until(lambda: not pool.destinations)


@pytest_twisted.ensureDeferred
async def test_holdUndone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A destination that was paused or drained is so again, if a reload that gave it
    another address fails later.
    """
    async with reloads(tmp_path) as on:
        text = WEB.replace('a = "$0"', 'a = "$0", b = "127.0.0.1:9", c = "$1"')
        on.start(text)
        pool = on.pool()
        pool.setPaused("a", True, "me")
        pool.drain("b")
        with monkeypatch.context() as patch:
            await Raising(on, patch, Pool, "arrange").reload(
                WEB.replace('a = "$0"', 'c = "$1", b = "$0", a = "127.0.0.1:8"')
            )
        states = {each.name: each.state for each in pool.destinations}
        assert states == {"a": "paused", "b": "draining", "c": "up"}
        pause = pool.workers["a"].destination.pause
        assert pause is not None and pause.by == "me"


@pytest_twisted.ensureDeferred
async def test_undoingRaises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If undoing a step raises too, the result says what holds now.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        with monkeypatch.context() as patch:
            raising = Raising(on, patch, Pool, "arrange", "remove")
            result = await raising.reload()
        assert (
            "undoing a step failed: ZeroDivisionError('by chance')"
            in (result["mistakes"])
        )
        assert (
            "pools.web.destinations.b: was changed nevertheless" in (result["messages"])
        )
        await on.echoed()


@pytest_twisted.ensureDeferred
async def test_raisesLate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If a step raises when clients already come in by the new listeners, nothing is
    undone: the result says what was changed, and the next reload does the rest.
    """
    async with reloads(tmp_path) as on:
        on.start(WEB)
        text = WEB.replace("web", "shop").replace("$0", "$1")
        with monkeypatch.context() as patch:
            raising = Raising(on, patch, Balancer, "removePool")
            result = await raising.reload(text)
        assert result["messages"] == ["pools.shop: was changed nevertheless"]
        await on.echoed()
        assert len(on.servers[1].peers) == 1
        assert await on.changed() == [("remove", "pools.web")]
        assert list(on.balancer.pools) == ["shop"]


@pytest_twisted.ensureDeferred
async def test_certificates(tmp_path: Path) -> None:
    """
    A reload reads certificates again, also if a file looks as it did; and it fails, and
    changes nothing, if one cannot be used.
    """
    one, two = (Issued(name, hosts=["localhost"]) for name in ("one", "two"))
    path = tmp_path / "own.pem"
    path.write_bytes(one.keyPem + one.pem)
    async with reloads(tmp_path, 1) as on:
        on.start(
            f"""
            [pools.web]
            listen = {{ address = "127.0.0.1:$P", certificate = "{path}" }}
            destinations = {{ a = "$0" }}
            """
        )
        (listener,) = on.pool().listeners
        certificates = listener.certificates
        assert certificates is not None
        # As if the next look were far ahead.
        certificates._files._looked = certificates._clock.seconds()
        assert await deferToThread(shownBy, on.port) == one.pem
        path.write_bytes(two.keyPem + two.pem)
        certificates._files.look()
        assert await on.changed() == []
        assert await deferToThread(shownBy, on.port) == two.pem
        path.write_bytes(one.keyPem + two.pem)
        result = await on.reload()
        assert result["result"] == "failed"
        assert "do not belong together" in result["mistakes"][0]
        assert await deferToThread(shownBy, on.port) == two.pem
        path.write_bytes(one.keyPem + one.pem)
        assert await on.changed() == []
        assert await deferToThread(shownBy, on.port) == one.pem

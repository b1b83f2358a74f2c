"""
Destinations that get another address or order, or that stay after all, on real sockets.
"""

from __future__ import annotations

import pytest
import pytest_twisted

from iawlb.errors import InvalidSetting, UnknownDestination
from tests.net import Echo, Server, until
from tests.test_live import assertEchoed, leave, live


@pytest_twisted.ensureDeferred
async def test_otherAddress() -> None:
    """
    A destination that gets another address serves new clients there at once. Those
    that it serves stay where they are, and the old one is gone when they have left.
    """
    async with live() as on:
        pool, address = on.pool("web")
        old, _ = await on.serve(pool, "a"), await on.serve(pool, "b")
        pool.drain("b")
        early = await on.client(address)
        await assertEchoed(early)
        new = await Server(Echo).listen()
        on.servers.append(new)
        first, second = pool.destinations
        made = pool.replace("a", f"127.0.0.1:{new.number}", {"slots": 3})
        assert (made.name, made.slots, made.order) == ("a", 3, first.order)
        assert pool.destinations == [made, second, first]
        assert (first.state, made.state) == ("draining", "up")
        late = await on.client(address)
        await assertEchoed(late)
        await assertEchoed(early)
        assert (len(old.peers), len(new.peers)) == (1, 1)
        await leave(early)
        await until(lambda: pool.destinations == [made, second])
        assert on.recorder.destinations[-1] == ("a", "removed")
        await assertEchoed(late)


@pytest_twisted.ensureDeferred
async def test_replacedIdle() -> None:
    """
    An old destination without sessions is gone at once.
    """
    async with live() as on:
        pool, _ = on.pool("web")
        await on.serve(pool, "a")
        made = pool.replace("a", "127.0.0.1:9", {})
        assert pool.destinations == [made]


@pytest_twisted.ensureDeferred
async def test_replacedAtTheStop() -> None:
    """
    A balancer that stops ends also the sessions of an old destination.
    """
    async with live() as on:
        pool, address = on.pool("web")
        await on.serve(pool, "a")
        await assertEchoed(await on.client(address))
        made = pool.replace("a", "127.0.0.1:9", {})
        pool.configure(pool.settings)
        assert len(pool.destinations) == 2
    assert pool.destinations == [made]


@pytest_twisted.ensureDeferred
async def test_wrongAddress() -> None:
    """
    An address that is wrong changes nothing.
    """
    async with live() as on:
        pool, address = on.pool("web")
        await on.serve(pool, "a")
        before = pool.destinations
        with pytest.raises(InvalidSetting):
            pool.replace("a", "nowhere:", {})
        with pytest.raises(UnknownDestination):
            pool.replace("b", "127.0.0.1:9", {})
        assert pool.destinations == before
        await assertEchoed(await on.client(address))


@pytest_twisted.ensureDeferred
async def test_keep() -> None:
    """
    A destination that was to be removed can be kept while it has sessions: it takes new
    ones again, and does not go when its sessions end. It can be removed later.
    """
    async with live() as on:
        pool, address = on.pool("web")
        await on.serve(pool, "a")
        client = await on.client(address)
        await assertEchoed(client)
        removed = pool.remove("a")
        assert not removed.called
        pool.keep("a")
        assert removed.called
        await assertEchoed(await on.client(address))
        for each in on.clients:
            await leave(each)
        (destination,) = pool.destinations
        await until(lambda: destination.active == 0)
        assert destination.state == "up"
        await pool.remove("a")
        assert pool.destinations == []


@pytest_twisted.ensureDeferred
async def test_arrange() -> None:
    """
    With the policy first, clients go to the destination that stands first now.
    """
    async with live() as on:
        pool, address = on.pool("web", policy="first")
        servers = {name: await on.serve(pool, name) for name in "abc"}
        await assertEchoed(await on.client(address))
        pool.arrange(["c", "a"])
        assert [each.name for each in pool.destinations] == ["c", "a", "b"]
        for _ in range(2):
            await assertEchoed(await on.client(address))
        assert {name: len(each.peers) for name, each in servers.items()} == {
            "a": 1,
            "b": 0,
            "c": 2,
        }

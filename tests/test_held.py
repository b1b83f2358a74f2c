"""
Tests for the listening sockets that systemd hands over.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend import held
from iawlb.backend.address import parseListen
from iawlb.backend.held import (
    PREFIX,
    HeldEndpoint,
    HeldSockets,
    storedName,
    whereOf,
    whereUnix,
)
from iawlb.errors import CannotListen, InvalidSetting
from iawlb.service import LoadBalancer
from tests.net import LIMIT, Echo, until
from tests.pem import Issued
from tests.stage import stage


def opened(
    address: tuple[str, int] | str = ("127.0.0.1", 0), family: int = socket.AF_INET
) -> socket.socket:
    """
    Return a listening socket.
    """
    made = socket.socket(family)
    made.bind(address)
    made.listen(5)
    return made


def handOver(
    monkeypatch: pytest.MonkeyPatch, inherited: Iterable[tuple[str, socket.socket]]
) -> HeldSockets:
    """
    Hand sockets over to this process, as systemd does at its start.
    """
    numbers = [(name, os.dup(each.fileno())) for name, each in inherited]
    found = HeldSockets(numbers)
    monkeypatch.setattr(held, "HELD", found)
    return found


class HeldSocketsTests(SynchronousTestCase):
    """
    The sockets are found by their names.
    """

    def handed(self, *names: str) -> tuple[HeldSockets, list[socket.socket]]:
        """
        Hand over a socket for each name.
        """
        made = [opened() for _ in names]
        numbers = [os.dup(each.fileno()) for each in made]
        for each in made:
            self.addCleanup(each.close)
        return HeldSockets(zip(names, numbers, strict=True)), made

    def test_names(self) -> None:
        """
        A socket is found by its name, or its place; programs that the balancer starts
        do not get it.
        """
        found, _ = self.handed("web", "db")
        self.assertEqual(found.find("db", None), found.find(None, "1"))
        os.set_inheritable(found.find("web", None), True)
        numbers = [(name, found.find(name, None)) for name in ("web", "db")]
        found = HeldSockets(numbers)
        self.assertFalse(os.get_inheritable(found.find("web", None)))
        for name in ("web", "db"):
            os.close(found.find(name, None))

    def test_wrongNames(self) -> None:
        """
        A name that systemd has not handed over is refused, with those that it has; so
        is one that several sockets have.
        """
        found, _ = self.handed("web", "web", "db")
        for name, index, why in (
            ("mail", None, "no socket named 'mail'; there is web, db"),
            ("web", None, "2 sockets named 'web'"),
            (None, "3", "3 sockets, counted from 0"),
            (None, "-1", "3 sockets, counted from 0"),
        ):
            error = self.assertRaises(InvalidSetting, found.find, name, index)
            self.assertIn(why, str(error))
        error = self.assertRaises(InvalidSetting, HeldSockets([]).find, "web", None)
        self.assertIn("there is none", str(error))
        for index in ("0", "1", "2"):
            os.close(found.find(None, index))

    def test_stored(self) -> None:
        """
        A socket that an earlier process left is found by its address, once; what nobody
        takes is closed, and named so that systemd forgets it.
        """
        listening = opened()
        self.addCleanup(listening.close)
        where = whereOf(listening)
        numbers = [os.dup(listening.fileno()) for _ in range(2)]
        found = HeldSockets([(f"{PREFIX}a", numbers[0]), (f"{PREFIX}b", numbers[1])])
        self.assertTrue(found.has(where))
        self.assertRaises(InvalidSetting, found.find, f"{PREFIX}a", None)
        self.assertEqual(found.take(where), numbers[0])
        self.assertIsNone(found.take(where))
        os.close(numbers[0])
        self.assertEqual(found.release(), [f"{PREFIX}b"])
        again, left = os.dup(listening.fileno()), os.open("/dev/null", os.O_RDONLY)
        found = HeldSockets([(f"{PREFIX}a", again), (f"{PREFIX}file", left)])
        self.assertEqual(found.release(), [f"{PREFIX}file", f"{PREFIX}a"])
        for number in (numbers[1], again, left):
            self.assertRaises(OSError, os.fstat, number)

    def test_nameOfStored(self) -> None:
        """
        The name under which systemd keeps a socket shows where it listens, has no
        colon, and is another for each place.
        """
        places = [
            (socket.AF_INET, "0.0.0.0", 8080, False),
            (socket.AF_INET6, "::", 8080, False),
            (socket.AF_INET6, "::", 8080, True),
            (socket.AF_UNIX, "/run/a:b", 0, False),
            (socket.AF_UNIX, "/run/a_b", 0, False),
            (socket.AF_UNIX, "/" + "x" * 107, 0, False),
        ]
        names = [storedName(each) for each in places]
        self.assertEqual(len(set(names)), len(names))
        self.assertIn("0.0.0.0_8080", names[0])
        for name in names:
            self.assertNotIn(":", name)
            self.assertLess(len(name), 256)


@pytest_twisted.ensureDeferred
async def test_unitSocket(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The balancer listens on the socket of a socket unit, by its name alone. When the
    balancer stops, clients wait in systemd's socket for the next one.
    """
    with opened() as listening:
        handOver(monkeypatch, [("web", listening)])
        for _ in range(2):  # it can listen again
            async with stage("systemd:web") as on:
                await on.serve(make=Echo)
                assert on.balancer.addresses == [
                    f"127.0.0.1:{listening.getsockname()[1]}"
                ]
                await on.assertEchoed()
            with socket.create_connection(listening.getsockname()):
                listening.settimeout(LIMIT)
                listening.accept()[0].close()
        os.close(held.HELD.find("web", None))


@pytest_twisted.ensureDeferred
async def test_twistedsForm(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Twisted's own words for such a socket mean the same, whatever domain they give.
    """
    with opened() as listening:
        handOver(monkeypatch, [("web", listening)])
        for text in ("systemd:domain=INET6:name=web", "systemd:INET:index=0"):
            async with stage(text) as on:
                await on.serve(make=Echo)
                await on.assertEchoed()
        os.close(held.HELD.find("web", None))


@pytest_twisted.ensureDeferred
async def test_unixUnit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    A Unix socket of a socket unit keeps its mode and, when the balancer stops, its
    path: without it no client would reach systemd's socket.
    """
    path = tmp_path / "web.sock"
    with opened(str(path), socket.AF_UNIX) as listening:
        path.chmod(0o640)
        handOver(monkeypatch, [("web", listening)])
        async with stage("systemd:web") as on:
            await on.serve(make=Echo)
            await on.assertEchoed()
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.exists()
        os.close(held.HELD.find("web", None))


@pytest_twisted.ensureDeferred
async def test_abstractUnit(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    So does a Unix socket with an abstract name.
    """
    name = f"\0iawlb-test-{os.getpid()}"
    with opened(name, socket.AF_UNIX) as listening:
        handOver(monkeypatch, [("web", listening)])
        async with stage("systemd:web") as on:
            await on.serve(make=Echo)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(name)
                client.sendall(b"hello")
                await until(lambda: any(each.relay for each in on.balancer.sessions))
        os.close(held.HELD.find("web", None))


@pytest.mark.parametrize(
    ("address", "family", "text"),
    [
        (("127.0.0.1", 0), socket.AF_INET, "127.0.0.1:{port}"),
        (("0.0.0.0", 0), socket.AF_INET, "{port}"),
        (("::1", 0), socket.AF_INET6, "[::1]:{port}"),
        (("127.0.0.1", 0), socket.AF_INET, "haproxy:tcp:{port}:interface=127.0.0.1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_storedSocket(
    monkeypatch: pytest.MonkeyPatch,
    address: tuple[str, int],
    family: socket.AddressFamily,
    text: str,
) -> None:
    """
    A listener takes over the socket that an earlier process, which was killed, had
    systemd keep, with the clients in its backlog.
    """
    with opened(address, family) as listening:
        where = listening.getsockname()
        found = handOver(monkeypatch, [(f"{PREFIX}x", listening)])
        listening.close()
        host = {"0.0.0.0": "127.0.0.1"}.get(where[0], where[0])
        with socket.create_connection((host, where[1])) as client:
            if "haproxy" in text:
                client.sendall(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n")
            client.sendall(b"waited")
            async with stage(text.format(port=where[1])) as on:
                server = await on.serve(make=Echo)
                assert found.release() == []
                peer = await server.peer()
                assert await peer.got(6) == b"waited"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, where[1]))


@pytest_twisted.ensureDeferred
async def test_storedIsClosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A socket that was taken over, and whose listener is closed while the process runs,
    listens no more, although systemd has not forgotten it yet.
    """
    with opened() as listening:
        where = listening.getsockname()
        handOver(monkeypatch, [(f"{PREFIX}x", listening)])
        async with stage("127.0.0.1:0") as on:
            on.balancer.addPool("more").listen(f"127.0.0.1:{where[1]}", {})
            socket.create_connection(where).close()
            await on.balancer.removePool("more")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(where)


@pytest_twisted.ensureDeferred
async def test_storedAlone(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A socket that takes IPv6 clients alone is taken over by such a listener.
    """
    with socket.socket(socket.AF_INET6) as listening:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(("::", 0))
        listening.listen(1)
        number = listening.getsockname()[1]
        found = handOver(monkeypatch, [(f"{PREFIX}x", listening)])
        listening.close()
        async with stage(f"[::]:{number} v6only=yes") as on:
            assert found.release() == []
            await on.serve(make=Echo)
            await on.assertEchoed()


@pytest_twisted.ensureDeferred
async def test_storedRefusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A socket that refused clients when the earlier process was killed listens again,
    also while connections of that address live, and refuses and listens after that.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as old:
        number = listening.getsockname()[1]
        old.connect(listening.getsockname())
        with listening.accept()[0]:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            handOver(monkeypatch, [(f"{PREFIX}x", listening)])
            listening.shutdown(socket.SHUT_RD)
            listening.close()
            async with stage(f"127.0.0.1:{number}", backlog=7) as on:
                await on.serve(make=Echo)
                await on.assertEchoed()
                (pool,) = on.balancer.pools.values()
                pool.listeners.setRefusing(True)
                pool.listeners.setRefusing(False)
                await on.assertEchoed()
                (listener,) = pool.listeners
                port: Any = listener.port
                assert port.backlog == 7


@pytest_twisted.ensureDeferred
async def test_storedUnix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    A Unix socket is taken over with its path and its clients, and gets the mode that
    its listener has now.
    """
    path = tmp_path / "web.sock"
    with opened(str(path), socket.AF_UNIX) as listening:
        handOver(monkeypatch, [(f"{PREFIX}x", listening)])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"waited")
        async with stage(f"{path} mode=640") as on:
            server = await on.serve(make=Echo)
            peer = await server.peer()
            assert await peer.got(6) == b"waited"
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_storedTls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    TLS listeners take over the sockets too.
    """
    issued = Issued("localhost", hosts=["localhost"])
    pem = tmp_path / "localhost.pem"
    pem.write_bytes(issued.keyPem + issued.pem)
    with opened() as listening:
        number = listening.getsockname()[1]
        found = handOver(monkeypatch, [(f"{PREFIX}x", listening)])
        for text in (
            f"ssl:{number}:interface=127.0.0.1:privateKey={pem}",
            f"tls:{tmp_path}:{number}:interface=127.0.0.1",
        ):
            read = parseListen(reactor, text, 5)
            assert isinstance(read.endpoint, HeldEndpoint)
            assert read.certificates is not None
        found.release()


@pytest_twisted.ensureDeferred
async def test_unixBacklog(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    The backlog of a Unix socket is not cut to the 50 that Twisted would set.
    """
    path = str(tmp_path / "web.sock")
    with opened(path, socket.AF_UNIX) as listening, ExitStack() as stack:
        found = handOver(monkeypatch, [("web", listening)])
        endpoint = parseListen(reactor, "systemd:web", 5).endpoint
        port = await endpoint.listen(Factory())
        for _ in range(100):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(path)
        await maybeDeferred(port.stopListening)
        os.close(found.find("web", None))


@pytest.mark.parametrize("how", ["removed", "refusing"])
@pytest_twisted.ensureDeferred
async def test_uselessUnix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """
    A Unix socket whose path is gone, or that refused clients, reaches nobody: its
    listener makes a new one.
    """
    path = tmp_path / "web.sock"
    with opened(str(path), socket.AF_UNIX) as listening:
        if how == "removed":
            path.unlink()
        else:
            listening.shutdown(socket.SHUT_RD)
        found = handOver(monkeypatch, [(f"{PREFIX}x", listening)])
    assert not found.has(whereUnix(str(path)))
    assert found.release() == [f"{PREFIX}x"]
    async with stage(str(path)) as on:
        await on.serve(make=Echo)
        await on.assertEchoed()


@pytest_twisted.ensureDeferred
async def test_takenTwice(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A listener that finds the socket taken already listens by itself, and says in a line
    what is wrong.
    """
    with opened() as listening:
        number = listening.getsockname()[1]
        found = handOver(monkeypatch, [(f"{PREFIX}x", listening)])
        balancer = LoadBalancer(reactor, [f"127.0.0.1:{number}"])
        taken = found.take(whereOf(listening))
        assert taken is not None
        with pytest.raises(CannotListen, match="in use"):
            balancer.startService()
        os.close(taken)
    balancer.startService()
    await balancer.stopService()


@pytest_twisted.ensureDeferred
async def test_brokenSockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What systemd kept and cannot be used is replaced, with a line in the log; what a
    socket unit gives and cannot be used is an error of one line.
    """
    with opened() as listening:
        number = listening.getsockname()[1]
        found = handOver(monkeypatch, [(f"{PREFIX}x", listening)])
    balancer = LoadBalancer(reactor, [f"127.0.0.1:{number}"])
    taken = found.take((socket.AF_INET, "127.0.0.1", number, False))
    assert taken is not None
    os.close(taken)
    events = EventLoggingObserver()
    monkeypatch.setattr(found, "take", lambda where: taken)
    globalLogPublisher.addObserver(events)
    balancer.startService()
    globalLogPublisher.removeObserver(events)
    await balancer.stopService()
    texts = [formatEvent(each) for each in events]
    assert any("socket that systemd kept: Bad file" in each for each in texts)
    broken = os.open("/dev/null", os.O_RDONLY)
    monkeypatch.setattr(held, "HELD", HeldSockets([("web", broken)]))
    balancer = LoadBalancer(reactor, ["systemd:web"])
    with pytest.raises(CannotListen, match="cannot listen on systemd:web: Socket"):
        balancer.startService()
    os.close(broken)

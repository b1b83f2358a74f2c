"""
Tests for the messages to the service manager.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_twisted
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend import held
from iawlb.backend.held import PREFIX, HeldSockets
from iawlb.process import notify
from iawlb.process.notify import EVERY, STATUS_EVERY, NotifySocket, ServiceManager
from iawlb.service import LoadBalancer
from tests.manager import Manager
from tests.net import Echo, freePort, until
from tests.stage import stage


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have sockets looked at more often.
    """
    monkeypatch.setattr(notify, "EVERY", 0.05)


class NotifyTests(SynchronousTestCase):
    """
    The messages, with a clock.
    """

    def setUp(self) -> None:
        self.folder = self.enterContext(TemporaryDirectory())
        self.manager = self.enterContext(Manager(f"{self.folder}/notify"))
        self.reactor = MemoryReactorClock()
        self.balancer = LoadBalancer(self.reactor, ["127.0.0.1:8080"], ["9001", "9002"])
        self.balancer.startService()
        self.logged = EventLoggingObserver()
        globalLogPublisher.addObserver(self.logged)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged)

    def made(self, **environment: str) -> ServiceManager:
        """
        Return the notifier, before the start.
        """
        given = {"NOTIFY_SOCKET": self.manager.address, **environment}
        made = ServiceManager(self.balancer, given)
        self.addCleanup(made.stopped)
        return made

    def lines(self) -> list[str]:
        """
        Return the lines of the log.
        """
        return [formatEvent(each) for each in self.logged]

    def advance(self, seconds: float) -> None:
        """
        Let time pass, second by second.
        """
        self.reactor.pump([EVERY / 4] * int(seconds * 4 / EVERY))

    def test_life(self) -> None:
        """
        systemd is told when the process is ready, reloads, is ready again, and stops.
        """
        made = self.made()
        self.assertEqual(self.manager.read(), [])
        made.started()
        self.assertEqual(
            self.manager.read(),
            [
                {
                    "READY": "1",
                    "STATUS": "2 of 2 destinations up; 0 sessions, 0 of them waiting",
                }
            ],
        )
        made.reloading()
        reloading = self.manager.read()[-1]
        self.assertEqual(reloading["RELOADING"], "1")
        self.assertTrue(reloading["MONOTONIC_USEC"].isdecimal())
        made.reloaded()
        self.assertEqual(self.manager.read()[-1]["READY"], "1")
        made.stopping()
        self.assertEqual(
            self.manager.read()[-1],
            {
                "STOPPING": "1",
                "STATUS": "Stopping: 0 sessions, 0 of them waiting",
                "EXTEND_TIMEOUT_USEC": "30000000",
            },
        )
        number = len(self.manager.messages)
        made.stopping()
        made.reloading()
        made.reloaded()
        self.assertEqual(len(self.manager.read()), number)
        made.stopped()
        made.stopped()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_status(self) -> None:
        """
        The counts are sent when they have changed, and no more often than every few
        seconds.
        """
        made = self.made()
        made.started()
        for number in range(10):
            self.balancer.add(f"127.0.0.1:{9100 + number}")
            self.advance(STATUS_EVERY / 5)
        self.assertEqual(
            [each[:7] for each in self.manager.all("STATUS")],
            ["2 of 2 ", "7 of 7 ", "12 of 1"],
        )
        self.advance(60)
        self.assertEqual(len(self.manager.messages), 3)

    def test_draining(self) -> None:
        """
        While the balancer drains, systemd is asked for more time again and again.
        """
        made = self.made()
        made.started()
        made.stopping()
        self.advance(20)
        self.assertEqual(self.manager.all("EXTEND_TIMEOUT_USEC"), [str(30_000_000)] * 5)

    def test_watchdog(self) -> None:
        """
        The process says that it is alive in half of the time that systemd waits, if
        systemd waits, and for this process.
        """
        self.made(WATCHDOG_USEC="6000000", WATCHDOG_PID=str(os.getpid())).started()
        self.advance(30)
        self.assertEqual(len(self.manager.all("WATCHDOG")), 10)
        self.manager.messages.clear()
        quick = self.made(WATCHDOG_USEC="1000000")
        quick.started()
        self.advance(3)
        self.assertEqual(len(self.manager.all("WATCHDOG")), 6 + 1)
        for environment in (
            {"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "1"},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "soon"},
        ):
            self.assertIsNone(notify._interval(environment))

    def test_noManager(self) -> None:
        """
        Without a service manager nothing happens, nor with an address of another kind.
        """
        for address in ("", "vsock:2:1234"):
            made = self.made(NOTIFY_SOCKET=address)
            made.started()
            made.reloading()
            made.reloaded()
            made.stopping()
            made.stopped()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(
            self.lines(),
            ["NOTIFY_SOCKET is vsock:2:1234, and only /path and @name are known"],
        )

    def test_managerGone(self) -> None:
        """
        A service manager that is gone does no harm, and one line says so.
        """
        made = self.made()
        made.started()
        os.unlink(self.manager.address)
        made.reloading()
        made.reloaded()
        self.advance(20)
        made.stopping()
        self.assertEqual(
            self.lines(),
            ["cannot notify the service manager: No such file or directory"],
        )

    def test_abstractName(self) -> None:
        """
        The socket may have an abstract name.
        """
        with Manager(f"@iawlb-test-{os.getpid()}") as manager:
            self.made(NOTIFY_SOCKET=manager.address).started()
            self.assertEqual(manager.all("READY"), ["1"])

    def test_fullSocket(self) -> None:
        """
        While the service manager does not read, nothing blocks; what has to arrive does
        when it reads again, and what is old by then is left out.
        """
        self.made(WATCHDOG_USEC="2000000").started()
        other = NotifySocket(self.manager.address)
        while other.flush():
            other.send("FILL=1")
        self.assertEqual(len(other._waiting), 1)
        made = self.made(WATCHDOG_USEC="2000000")
        made.started()
        self.advance(30)
        self.assertEqual(len(self.manager.all("READY")), 1)
        other.close()
        self.advance(1)
        self.assertEqual(len(self.manager.all("READY")), 2)

    def test_bound(self) -> None:
        """
        Of the messages that wait, the oldest are given up, with their descriptors.
        """
        self.patch(notify, "_BOUND", 3)
        sender = NotifySocket(self.manager.address)
        sender._waiting = type(sender._waiting)(maxlen=3)
        self.addCleanup(sender.close)
        while sender.flush():
            sender.send("FILL=1")
        numbers = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
        for number in numbers:
            sender.send(f"NUMBER={number}", descriptor=number)
        self.assertRaises(OSError, os.fstat, numbers[0])
        os.fstat(numbers[1])
        sender.close()
        for number in numbers:
            self.assertRaises(OSError, os.fstat, number)

    def test_failingStore(self) -> None:
        """
        When sockets cannot be given to systemd, since no descriptor is free, say, the
        balancer goes on, and the error is logged.
        """
        made = self.made()

        def fail() -> None:
            raise OSError("no room")

        self.patch(made, "_storeAll", fail)
        made.started()
        self.assertEqual(self.manager.all("READY"), ["1"])
        self.assertIn("notifying the service manager failed", self.lines())
        self.flushLoggedErrors(OSError)

    def test_useless(self) -> None:
        """
        What an earlier process left and nobody takes is forgotten by systemd too.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        found = HeldSockets([(f"{PREFIX}old", os.dup(listening.fileno()))])
        self.patch(held, "HELD", found)
        self.made().started()
        self.assertEqual(
            self.manager.read()[0], {"FDSTOREREMOVE": "1", "FDNAME": f"{PREFIX}old"}
        )


def environment(manager: Manager) -> dict[str, str]:
    """
    Return what systemd tells a process that it starts.
    """
    return {"NOTIFY_SOCKET": manager.address, "FDSTORE": "10"}


@pytest_twisted.ensureDeferred
async def test_keepsSockets(tmp_path: Path, looking: None) -> None:
    """
    systemd keeps the listening sockets, those that come later too, and forgets those
    that are closed before the process stops. After the stop clients wait for the next
    process, and that one serves them, also on a Unix socket.
    """
    path = tmp_path / "web.sock"
    with Manager(str(tmp_path / "notify")) as manager:
        async with stage("127.0.0.1:0", str(path), "127.0.0.1:0") as on:
            made = ServiceManager(on.balancer, environment(manager))
            made.started()
            addresses = on.balancer.addresses
            manager.read()
            assert len(manager.store) == 3
            other = on.balancer.addPool("more")
            other.listen("127.0.0.1:0", {})
            await until(lambda: manager.read() and len(manager.store) == 4)
            await on.balancer.removePool("more")
            await until(lambda: manager.read() and len(manager.store) == 3)
            made.stopping()
        made.stopped()
        manager.read()
        assert path.exists()
        clients = [socket.create_connection(split(addresses[0]))]
        clients.append(socket.socket(socket.AF_UNIX))
        clients[1].connect(str(path))
        for each in clients:
            each.sendall(b"waited")
        inherited = [(name, os.dup(each)) for name, each in manager.store.items()]
        held.HELD, before = HeldSockets(inherited), held.HELD
        try:
            async with stage(addresses[0], str(path)) as on:
                server = await on.serve(make=Echo)
                made = ServiceManager(on.balancer, environment(manager))
                made.started()
                for index in range(2):
                    peer = await server.peer(index)
                    assert await peer.got(6) == b"waited"
                manager.read()
                assert len(manager.store) == 2
                made.stopped()
        finally:
            held.HELD = before
        for each in clients:
            each.close()


@pytest_twisted.ensureDeferred
async def test_renewedSocket(tmp_path: Path, looking: None) -> None:
    """
    A Unix socket that has refused is another when it listens again, one that does not
    know its path: it is not kept, and its path is removed at the end. One that was
    opened anew by another listener is.
    """
    path = tmp_path / "web.sock"
    with Manager(str(tmp_path / "notify")) as manager:
        async with stage(str(path)) as on:
            made = ServiceManager(on.balancer, environment(manager))
            made.started()
            manager.read()
            assert len(manager.store) == 1
            (pool,) = on.balancer.pools.values()
            pool.listeners.setRefusing(True)
            pool.listeners.setRefusing(False)
            await until(lambda: manager.read() and not manager.store)
            made.stopping()
        made.stopped()
        assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_openedAnew(tmp_path: Path, looking: None) -> None:
    """
    A listener that was closed and opened again at the same address between two looks
    has another socket: that one is kept.
    """
    with Manager(str(tmp_path / "notify")) as manager:
        async with stage("127.0.0.1:0") as on:
            more = on.balancer.addPool("more")
            number = freePort()
            more.listen(f"127.0.0.1:{number}", {})
            made = ServiceManager(on.balancer, environment(manager))
            made.started()
            manager.read()
            (name,) = (each for each in manager.store if str(number) in each)
            before = os.fstat(manager.store[name]).st_ino
            closing = on.balancer.removePool("more")
            # systemd, in its own time, and this process hold the address meanwhile.
            os.close(manager.store.pop(name))
            await closing
            on.balancer.addPool("more").listen(f"127.0.0.1:{number}", {})
            await until(
                lambda: (
                    manager.read()
                    and name in manager.store
                    and os.fstat(manager.store[name]).st_ino != before
                )
            )
            assert set(manager.all("FDPOLL")) == {"0"}
            made.stopped()


@pytest_twisted.ensureDeferred
async def test_unitSocketsAreNotKept(tmp_path: Path) -> None:
    """
    What systemd holds for a socket unit is not given to it again; nothing is where it
    keeps nothing.
    """
    with (
        Manager(str(tmp_path / "notify")) as manager,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        before = held.HELD
        held.HELD = HeldSockets([("web", os.dup(listening.fileno()))])
        try:
            async with stage("systemd:web") as on:
                made = ServiceManager(on.balancer, environment(manager))
                made.started()
                made.stopped()
            os.close(held.HELD.find("web", None))
        finally:
            held.HELD = before
        given = {**environment(manager), "FDSTORE": "0"}
        async with stage("127.0.0.1:0") as on:
            made = ServiceManager(on.balancer, given)
            made.started()
            made.stopping()
            made.stopped()
        manager.read()
        assert manager.store == {}


def split(address: str) -> tuple[str, int]:
    """
    Split a host and a port.
    """
    host, _, port = address.rpartition(":")
    return host, int(port)

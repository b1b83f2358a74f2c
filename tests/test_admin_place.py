"""
Tests for the sockets that the admin server listens on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb.admin import place
from iawlb.admin.access import Access, Role
from iawlb.admin.place import (
    VANISHED,
    fileNumber,
    openPlace,
    readPlace,
    removePath,
)
from iawlb.admin.port import ACCEPTS_PER_TURN, AdminPort
from iawlb.admin.routes import Answer, Call, Route, RouteTable
from iawlb.admin.server import AdminServer
from iawlb.core.ratelimit import FailureLog
from iawlb.errors import CannotListen, InvalidSetting
from tests.asking import Reply, request
from tests.net import reactor, until

USER_TIMEOUT = socket.TCP_USER_TIMEOUT


class PlaceTests(SynchronousTestCase):
    """
    Sockets.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = str(self.folder / "a.sock")

    def test_address(self) -> None:
        """
        An address is written as it was meant; a wrong one names the setting.
        """
        for text, shown, host in (
            ("/a/b.sock", "unix:/a/b.sock", None),
            ("8405", "127.0.0.1:8405", "127.0.0.1"),
            ("[::1]:8405", "[::1]:8405", "::1"),
        ):
            place = readPlace("admin", text)
            self.assertEqual((str(place), place.host), (shown, host))
        with self.assertRaisesRegex(InvalidSetting, "^admin: 'x' is not"):
            readPlace("admin", "x")
        with self.assertRaisesRegex(InvalidSetting, "^admin: .* longer than 107 bytes"):
            readPlace("admin", "/" + "x" * 107)

    def open(self, usual: bool = False) -> socket.socket:
        """
        Open the socket.
        """
        opened = openPlace(readPlace("admin", self.path, usual))
        self.addCleanup(opened.close)
        return opened

    def test_mode(self) -> None:
        """
        Only the same user and root can connect, whatever the umask is, which is left as
        it was.
        """
        before = os.umask(0)
        try:
            self.open()
            self.assertEqual(os.umask(0), 0)
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_stale(self) -> None:
        """
        A socket that a killed process left behind is replaced.
        """
        self.open().close()
        first = fileNumber(self.path)
        self.open()
        self.assertNotEqual((fileNumber(self.path), self.path), (first, ""))

    def test_live(self) -> None:
        """
        A socket on which another process answers is left alone, with one line.
        """
        self.open()
        with self.assertRaisesRegex(
            CannotListen, r"^admin: .*a\.sock is in use by another process$"
        ):
            self.open()

    def test_notSocket(self) -> None:
        """
        A file that is no socket is left alone.
        """
        Path(self.path).write_text("mine")
        with self.assertRaisesRegex(CannotListen, "is not a socket"):
            self.open()
        self.assertEqual(Path(self.path).read_text(), "mine")

    def test_twoAtOnce(self) -> None:
        """
        Of two processes that start at once the second does not take the first one's
        socket: the folder is locked meanwhile.
        """
        lock = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.patch(place, "LOCK_TIME", 0.0)
        with self.assertRaisesRegex(
            CannotListen, "^admin: another process has locked the folder$"
        ):
            self.open()

    def test_manyAtOnce(self) -> None:
        """
        Processes that start at the same time, each with a socket of its own in the same
        folder, all start: each waits until the other has opened its socket.
        """
        lock = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.patch(place, "sleep", lambda seconds: os.close(lock))
        self.open()
        self.assertTrue(os.path.exists(self.path))

    def test_usualAdvice(self) -> None:
        """
        If the usual place cannot be used, which the user has not named, the message
        says how to name another or none.
        """
        self.open()
        for path in (self.path, "/proc/none/a.sock"):
            self.path = path
            with self.assertRaisesRegex(CannotListen, "; give another .* or --admin= "):
                self.open(usual=True)

    def test_noFolder(self) -> None:
        """
        The folder of an address that was given has to exist.
        """
        self.path = str(self.folder / "b" / "a.sock")
        with self.assertRaisesRegex(CannotListen, "No such file or directory"):
            self.open()

    def test_usualFolder(self) -> None:
        """
        The folder of the usual place is made for this user alone.
        """
        self.path = str(self.folder / "b" / "a.sock")
        self.open(usual=True)
        self.assertEqual(stat.S_IMODE(os.stat(self.folder / "b").st_mode), 0o700)

    def test_strangeFolder(self) -> None:
        """
        A folder in which others may write is not used for the usual place.
        """
        self.folder.chmod(0o777)
        with self.assertRaisesRegex(CannotListen, "others may write there"):
            self.open(usual=True)

    def test_cannotBind(self) -> None:
        """
        Whatever binding says is one line, and no socket is left open.
        """
        self.path = str(self.folder / ("x" * 200))
        with self.assertRaisesRegex(InvalidSetting, "longer than"):
            self.open()
        self.patch(socket.socket, "listen", lambda *_: os.stat("/nowhere"))
        self.path = str(self.folder / "a.sock")
        with self.assertRaisesRegex(CannotListen, "cannot listen on unix:"):
            self.open()
        with self.assertRaisesRegex(CannotListen, "cannot listen on 127.0.0.1:"):
            openPlace(readPlace("admin", "127.0.0.1:1"))

    def test_portInUse(self) -> None:
        """
        A port that is taken is refused with its address.
        """
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with self.assertRaisesRegex(
                CannotListen,
                f"^admin: cannot listen on 127.0.0.1:{port}: it is in use$",
            ):
                openPlace(readPlace("admin", str(port)))

    def test_vanished(self) -> None:
        """
        A client that has vanished does not hold its place for a quarter of an hour, as
        it would with the kernel's defaults.
        """
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for has in (True, False):
            if not has:
                self.patch(socket, "TCP_USER_TIMEOUT", None)
            listening = openPlace(readPlace("admin", str(port)))
            with socket.create_connection(("127.0.0.1", port)):
                accepted, _ = listening.accept()
            with listening, accepted:
                kept = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                waits = accepted.getsockopt(socket.IPPROTO_TCP, USER_TIMEOUT)
            self.assertEqual((kept, waits), (1, VANISHED if has else 0))

    def test_noSuchHost(self) -> None:
        """
        A host that has no address is refused.
        """
        with self.assertRaisesRegex(CannotListen, "cannot listen on a.invalid:1: "):
            openPlace(readPlace("admin", "a.invalid:1"))

    def test_removed(self) -> None:
        """
        At the end the file is removed, but not another process's.
        """
        self.open()
        removePath(self.path, fileNumber(self.path) + 1)
        self.assertTrue(os.path.exists(self.path))
        removePath(self.path, fileNumber(self.path))
        self.assertFalse(os.path.exists(self.path))
        removePath(self.path, 1)


def makeServer(host: str | None) -> AdminServer:
    """
    Make a server that says who asks.
    """

    async def who(call: Call) -> Answer:
        return Answer(call.asker.name)

    return AdminServer(
        reactor,
        RouteTable([Route("GET", "/who", Role.READ, "", who)]),
        Access(host, None),
        what="admin server",
        mostConnections=40,
        audit=lambda *_: None,
        tag=str,
    )


async def ask(family: int, address: str | tuple[str, int]) -> Reply:
    """
    Ask over a socket.
    """
    with socket.socket(family) as client:
        client.setblocking(False)
        client.connect_ex(address)
        sent = False
        raw = b""

        def done() -> bool:
            nonlocal sent, raw
            try:
                if not sent:
                    client.send(request("GET", "/who"))
                    sent = True
                raw += client.recv(65536)
            except BlockingIOError:
                pass
            return raw.endswith(b'"\n')

        await until(done)
        return Reply(raw)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """
    The path of a socket.
    """
    yield str(tmp_path / "a.sock")


@pytest_twisted.ensureDeferred
async def test_unixSocket(path: str) -> None:
    """
    A client of the Unix socket is known by its user and process. When the server
    closes, the file is gone.
    """
    port = AdminPort(reactor, readPlace("admin", path))
    assert port.address == f"unix:{path}"
    port.open()
    port.serve(makeServer(None))
    # Twisted's port would open it to all when it begins to serve.
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    reply = await ask(socket.AF_UNIX, path)
    assert reply.json == f"uid {os.geteuid()} (pid {os.getpid()})"
    await port.close()
    await port.close()
    assert not os.path.exists(path)


@pytest_twisted.ensureDeferred
async def test_tcp() -> None:
    """
    A client of TCP is known by its address.
    """
    port = AdminPort(reactor, readPlace("admin", "[::1]:1"))
    assert port.address == "[::1]:1"
    port = AdminPort(reactor, readPlace("admin", "127.0.0.1:1"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    port = AdminPort(reactor, readPlace("admin", f"127.0.0.1:{number}"))
    port.serve(makeServer("127.0.0.1"))
    assert port.address == f"127.0.0.1:{number}"
    reply = await ask(socket.AF_INET, ("127.0.0.1", number))
    assert reply.json.startswith("127.0.0.1:")
    await port.close()


@pytest_twisted.ensureDeferred
async def test_neverServed(path: str) -> None:
    """
    A socket that was opened and never served is closed all the same.
    """
    port = AdminPort(reactor, readPlace("admin", path))
    await port.close()
    port.open()
    port.open()
    await port.close()
    assert not os.path.exists(path)


@pytest_twisted.ensureDeferred
async def test_manyAtOnce(path: str) -> None:
    """
    Many clients that come at the same time are served a few in each turn.
    """
    port = AdminPort(reactor, readPlace("admin", path))
    server = makeServer(None)
    port.serve(server)
    clients = []
    for _ in range(20):
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].connect(path)
    port.doRead()
    assert server.connections == ACCEPTS_PER_TURN
    for client in clients:
        client.close()
    await port.close()


@pytest_twisted.ensureDeferred
async def test_noDescriptor(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While nothing can be accepted, clients wait in the kernel's backlog; then they are
    served. The failure is logged.
    """
    port = AdminPort(reactor, readPlace("admin", path))
    verifyObject(IReadDescriptor, port)
    port.serve(makeServer(None))
    accept = socket.socket.accept
    failing = [OSError(errno.EMFILE, "no descriptor"), None]

    def accepting(listening: socket.socket) -> tuple[socket.socket, object]:
        error = failing.pop(0) if failing else None
        if error is not None:
            raise error
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", accepting)
    monkeypatch.setattr(FailureLog, "add", lambda _: None)
    reply = await ask(socket.AF_UNIX, path)
    assert reply.status == 200
    adopt = reactor.adoptStreamConnection
    monkeypatch.setattr(reactor, "adoptStreamConnection", lambda *_: 1 / 0)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    await until(lambda: port._held is not None)
    monkeypatch.setattr(reactor, "adoptStreamConnection", adopt)
    client.close()
    await port.close()
    assert port.fileno() == -1
    assert port.logPrefix() == "admin"


@pytest_twisted.ensureDeferred
async def test_owner(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The user that the process becomes owns the socket.
    """
    given = []
    monkeypatch.setattr(os, "chown", lambda *arguments: given.append(arguments))
    port = AdminPort(reactor, readPlace("admin", path))
    port.open(1234)
    assert given == [(path, 1234, -1)]
    await port.close()


@pytest_twisted.ensureDeferred
async def test_closedByClient(path: str) -> None:
    """
    The port ends when the reactor can watch it no more, and accepts nothing after.
    """
    port = AdminPort(reactor, readPlace("admin", path))
    port.serve(makeServer(None))
    port.connectionLost(Failure(ConnectionLost()))
    port.doRead()
    assert not os.path.exists(path)

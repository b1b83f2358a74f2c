"""
One address that clients come in by.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import EventLoggingObserver
from twisted.internet.utils import getProcessOutput
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

import iawlb.frontend.listener
from iawlb.backend.address import parseDestination
from iawlb.errors import CannotListen, InvalidSetting
from iawlb.frontend.unixpath import claim, clearStale
from iawlb.service import LoadBalancer
from tests.net import (
    LIMIT,
    Echo,
    Server,
    collectUnbound,
    connected,
    freePort,
    reactor,
    until,
)
from tests.stage import stage


def path(directory: Path) -> str:
    """
    Name a Unix socket in a directory.
    """
    return str(directory / "front.sock")


def killed(where: str) -> None:
    """
    Leave a Unix socket as a killed process does.
    """
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(where)
        left.listen()


def start(listener: str) -> LoadBalancer:
    """
    Start a balancer with one listener.
    """
    balancer = LoadBalancer(reactor, [listener], observers=[])
    balancer.startService()
    return balancer


@pytest.mark.parametrize("form", ("unix:{}", "{}", "unix:{}:mode=600"))
@pytest_twisted.ensureDeferred
async def test_stale(form: str, tmp_path: Path) -> None:
    """
    A Unix socket that a killed process left behind does not keep the balancer
    from starting.
    """
    where = path(tmp_path)
    killed(where)
    async with stage(form.format(where)) as on:
        await on.serve(make=Echo)
        await on.assertEchoed()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("busy", (False, True))
@pytest_twisted.ensureDeferred
async def test_alive(busy: bool, tmp_path: Path) -> None:
    """
    A Unix socket that another process listens on, be it busy or not, is not removed;
    the start fails and names the socket.
    """
    where = path(tmp_path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(where)
        other.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3 if busy else 0)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(where)
        with pytest.raises(CannotListen, match=f"{where} is in use"):
            start(f"unix:{where}")
        for each in waiting:
            each.close()
        assert os.path.exists(where)


@pytest_twisted.ensureDeferred
async def test_twice(tmp_path: Path) -> None:
    """
    So it is when the other process is a balancer too.
    """
    async with stage(f"unix:{path(tmp_path)}") as on:
        await on.serve(make=Echo)
        with pytest.raises(CannotListen, match="in use"):
            start(f"unix:{path(tmp_path)}")
        await on.assertEchoed()


@pytest_twisted.ensureDeferred
async def test_plainFile(tmp_path: Path) -> None:
    """
    A file that is no socket is never removed.
    """
    where = tmp_path / "notes.txt"
    where.write_text("keep me")
    with pytest.raises(CannotListen, match=r"notes\.txt exists and is not a socket"):
        start(f"unix:{where}")
    assert where.read_text() == "keep me"


@pytest_twisted.ensureDeferred
async def test_noDirectory(tmp_path: Path) -> None:
    """
    A path that cannot be is named, with the reason.
    """
    where = tmp_path / "nowhere" / "front.sock"
    with pytest.raises(CannotListen, match=r"nowhere/front\.sock: No such file"):
        start(f"unix:{where}")
    collectUnbound()


@pytest_twisted.ensureDeferred
async def test_cannotRemove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A stale socket that may not be removed is named, with the reason.
    """
    killed(path(tmp_path))

    def unlink(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(CannotListen, match=r"front\.sock: .*Permission denied"):
        start(f"unix:{path(tmp_path)}")
    monkeypatch.undo()
    clearStale(path(tmp_path))
    assert os.listdir(tmp_path) == []


CLEAR = """
import sys
from iawlb.frontend.unixpath import clearStale
try:
    clearStale(sys.argv[1])
except Exception as error:
    print(error)
"""


async def clearElsewhere(where: str) -> str:
    """
    Have another process remove a stale socket; return what that process says.
    """
    command = getProcessOutput(sys.executable, ("-c", CLEAR, where), os.environ)
    said: bytes = await command.addTimeout(LIMIT, reactor)
    return said.decode().strip()


@pytest_twisted.ensureDeferred
async def test_refusing(tmp_path: Path) -> None:
    """
    A Unix socket that refuses, because no destination is up, is not removed by another
    balancer that wants to listen there; it listens again, and is gone after the end.
    """
    where = path(tmp_path)
    async with stage(f"unix:{where}", whenDown="refuse") as on:
        destination = await on.serve(make=Echo)
        number = destination.number
        for _ in range(2):
            await destination.stop()
            client = await on.client()
            client.write(b"hello")
            await until(lambda: on.balancer.destinations[0].down)
            for _ in range(2):
                assert (
                    await clearElsewhere(where)
                    == f"{where} is in use by another process"
                )
            with pytest.raises(CannotListen, match="in use by another process"):
                start(f"unix:{where}")
            destination = await Server(Echo).listen(
                TCP4ServerEndpoint(reactor, number, interface="127.0.0.1")
            )
            assert await client.got(5) == b"hello"
            await on.assertEchoed()
            client.reset()
        await destination.stop()
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_abstractName() -> None:
    """
    A Unix socket with an abstract name, which systemd holds, could not listen again. So
    clients are held while no destination is up, and served when one is.
    """
    events = EventLoggingObserver()
    with socket.socket(socket.AF_UNIX) as held:
        name = f"\0iawlb-test-{os.getpid()}"
        held.bind(name)
        held.listen()
        held.setblocking(False)
        # Twisted closes the number that it is given.
        number = os.dup(held.fileno())
        endpoint = AdoptedStreamServerEndpoint(reactor, number, socket.AF_UNIX)
        globalLogPublisher.addObserver(events)
        # Nobody listens there, and nobody else can: another program at a port that was
        # only free would be up for a moment, and the warning written twice.
        reserved = socket.socket()
        reserved.bind(("127.0.0.1", 0))
        async with stage(endpoint, whenDown="refuse") as on:
            on.balancer.add(f"127.0.0.1:{reserved.getsockname()[1]}", name="down")
            clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for before, client in enumerate(clients):
                client.connect(name)
                client.send(b"hello")
                await until(lambda: on.balancer.waiting > before)  # noqa: B023
            globalLogPublisher.removeObserver(events)
            warnings = [
                formatEvent(e) for e in events if "cannot refuse" in formatEvent(e)
            ]
            assert len(warnings) == 1
            await on.serve(make=Echo)
            for client in clients:
                client.setblocking(False)
                await until(lambda: select.select([client], [], [], 0)[0])  # noqa: B023
                assert client.recv(10) == b"hello"
                client.close()
        reserved.close()


@pytest_twisted.ensureDeferred
async def test_killedWhileRefusing(tmp_path: Path) -> None:
    """
    A Unix socket whose process was killed while it refused is stale.
    """
    where = path(tmp_path)
    killed(where)
    with claim(where):
        assert "in use" in await clearElsewhere(where)
        assert os.path.exists(where)
    assert await clearElsewhere(where) == ""
    assert not os.path.exists(where)


def test_cannotClaim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where there are no abstract names, a socket on which no process answers is stale.
    """
    where = path(tmp_path)
    killed(where)

    class Without(socket.socket):
        """
        A socket of a system that has none.
        """

        def bind(self, address: object) -> None:
            """
            Fail as there.
            """
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(socket, "socket", Without)
    clearStale(where)
    assert not os.path.exists(where)


@pytest_twisted.ensureDeferred
async def test_taken() -> None:
    """
    A port that is taken is named, with the reason.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(CannotListen, match=f"{address}: Address already in use"):
            start(address)
        collectUnbound()


@pytest_twisted.ensureDeferred
async def test_several(tmp_path: Path) -> None:
    """
    A balancer can listen at several addresses; each session's record names its
    listener.
    """
    addresses = (
        f"127.0.0.1:{freePort()}",
        f"[::1]:{freePort('::1')} name=six",
        f"unix:{path(tmp_path)} name=local",
    )
    async with stage(*addresses) as on:
        await on.serve(make=Echo)
        seen = []
        for index in range(3):
            client = await on.client(listener=index)
            await until(lambda: on.balancer.sessions)
            seen += [each.listener for each in on.balancer.sessions]
            await on.assertEchoed(client)
            await until(lambda: not on.balancer.sessions)
        assert seen == [addresses[0], "six", "local"]


def otherGroup() -> int:
    """
    Return a group, other than that of new files if possible, to which this process may
    give files.
    """
    groups = [1] if os.geteuid() == 0 else os.getgroups()
    return next((each for each in groups if each != os.getegid()), os.getegid())


def modeAndGroup(where: str) -> tuple[int, int]:
    """
    Return the mode and the group of a file.
    """
    found = os.stat(where)
    return stat.S_IMODE(found.st_mode), found.st_gid


@pytest.mark.parametrize(
    "form, mode",
    (
        ("unix:{} mode=660 group={}", 0o660),
        ("{} group={}", 0o666),
        ("haproxy:unix:{} mode=600 group={}", 0o600),
        ("unix:{}:mode=620 group={}", 0o620),
    ),
)
@pytest_twisted.ensureDeferred
async def test_modeAndGroup(
    form: str, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A Unix socket has the mode and the group that the listener's settings say, and
    nobody can connect before it has both.
    """
    where, group = path(tmp_path), otherGroup()
    before = []
    chown = os.chown

    def noted(*given: Any) -> None:
        before.append(modeAndGroup(where)[0])
        chown(*given)

    monkeypatch.setattr(os, "chown", noted)
    balancer = start(form.format(where, group))
    assert modeAndGroup(where) == (mode, group)
    assert before == [0]
    await balancer.stopService().addTimeout(LIMIT, reactor)
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_modeAlone(tmp_path: Path) -> None:
    """
    The mode can be set without a group.
    """
    where = path(tmp_path)
    balancer = start(f"{where} mode=600")
    assert modeAndGroup(where) == (0o600, os.getegid())
    await balancer.stopService().addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_groupRefused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A group that the process may not give files to keeps the balancer from starting, and
    the message says so; no socket is left behind.
    """

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    with pytest.raises(CannotListen, match="to the group 4: Operation not permitted"):
        start(f"{path(tmp_path)} group=4")
    await until(lambda: not os.listdir(tmp_path))


@pytest.mark.parametrize("allowed", (True, False))
@pytest_twisted.ensureDeferred
async def test_groupAgain(
    allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A Unix socket that refused and listens again has the same group and mode; if the
    process may not give it to the group any more, it listens all the same, and the log
    says so.
    """
    where, group = path(tmp_path), otherGroup()
    events = EventLoggingObserver()
    async with stage(f"{where} mode=660 group={group}", whenDown="refuse") as on:
        globalLogPublisher.addObserver(events)
        on.balancer.add(f"127.0.0.1:{freePort()}")
        await on.client()
        await until(lambda: on.recorder.listeners[-1][1] == "refusing")
        if not allowed:

            def refused(*_: Any) -> None:
                raise PermissionError

            monkeypatch.setattr(os, "chown", refused)
        await on.serve(make=Echo)
        await until(lambda: on.recorder.listeners[-1][1] == "listening")
        await on.assertEchoed()
        globalLogPublisher.removeObserver(events)
        mode, now = modeAndGroup(where)
        assert (mode, now) == (0o660, group if allowed else os.getegid())
        warned = [formatEvent(each) for each in events]
        said = f"{where} cannot be given to the group {group} again"
        assert (said in warned) is not allowed


@pytest.mark.parametrize("form", ("[::]:{} v6only=yes", "tcp6:{} v6only=yes"))
@pytest_twisted.ensureDeferred
async def test_v6only(form: str) -> None:
    """
    With v6only two listeners share a port, one for IPv4 and one for IPv6, and each
    takes its own clients; a listener that refused listens again.
    """
    port = freePort("::")
    listeners = (f"{form.format(port)} name=six", f"0.0.0.0:{port} name=four")
    async with stage(*listeners, whenDown="refuse") as on:
        await on.serve(make=Echo)
        for host, name in (("::1", "six"), ("127.0.0.1", "four")):
            _, endpoint = parseDestination(reactor, describeHost(host, port), LIMIT)
            client = await connected(endpoint)
            await until(lambda: on.balancer.sessions)
            assert [each.listener for each in on.balancer.sessions] == [name]
            await on.assertEchoed(client)
            await until(lambda: not on.balancer.sessions)
        await on.balancer.remove("a")
        await until(lambda: on.recorder.listeners[-1][1] == "refusing")
        await on.serve("b", make=Echo)
        await until(lambda: on.recorder.listeners[-1][1] == "listening")
        _, endpoint = parseDestination(reactor, describeHost("::1", port), LIMIT)
        await on.assertEchoed(await connected(endpoint))


def describeHost(host: str, port: int) -> str:
    """
    Write an address and a port.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest_twisted.ensureDeferred
async def test_v6onlyToFour() -> None:
    """
    A listener for IPv6 alone can forward to an IPv4 server on the same port.
    """
    server = await Server(Echo).listen()
    port = server.number
    async with stage(f"[::]:{port} v6only=yes") as on:
        on.balancer.add(f"127.0.0.1:{port}")
        _, endpoint = parseDestination(reactor, describeHost("::1", port), LIMIT)
        await on.assertEchoed(await connected(endpoint))
        with pytest.raises(InvalidSetting, match="leads back"):
            on.balancer.add(f"[::1]:{port}")
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_v6onlyTaken() -> None:
    """
    An IPv6 port that is taken keeps the balancer from starting, also with v6only.
    """
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotListen, match="Address already in use"):
            start(f"[::1]:{port} v6only=yes")


@pytest_twisted.ensureDeferred
async def test_refusingAtStop(tmp_path: Path) -> None:
    """
    A balancer that refuses can be stopped; nothing is left behind.
    """
    async with stage(f"unix:{path(tmp_path)}", whenDown="refuse") as on:
        on.balancer.add(f"127.0.0.1:{freePort()}")
        await on.client()
        await until(lambda: on.recorder.listeners[-1][1] == "refusing")
        with pytest.raises(ConnectionRefusedError):
            await on.client()
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_listenAgainLater(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When a listener cannot listen again, for lack of a descriptor for instance, the log
    says so, and it tries until it can. The destination that has returned serves the
    clients that waited meanwhile.
    """
    monkeypatch.setattr(iawlb.frontend.listener, "RETRY", 0.05)
    events = EventLoggingObserver()

    def errors() -> list[str]:
        """
        List why it could not listen, each time.
        """
        return [e["why"] for e in events if e["log_level"] is LogLevel.error]

    folder, aside = tmp_path / "folder", tmp_path / "aside"
    folder.mkdir()
    async with stage(f"unix:{path(folder)}", whenDown="refuse") as on:
        globalLogPublisher.addObserver(events)
        on.balancer.add(f"127.0.0.1:{freePort()}", name="down")
        first = await on.client()
        await until(lambda: on.recorder.listeners[-1][1] == "refusing")
        folder.rename(aside)
        server = await on.serve(make=Echo)
        await on.assertEchoed(first)
        await until(lambda: len(errors()) >= 2)
        # Down and up again while it is being tried.
        await on.balancer.remove("a")
        number = len(errors())
        on.balancer.add(f"127.0.0.1:{server.number}", name="b")
        await until(lambda: len(errors()) > number + 1)
        aside.rename(folder)
        await until(lambda: on.recorder.listeners[-1][1] == "listening")
        await on.assertEchoed()
        globalLogPublisher.removeObserver(events)
        assert set(errors()) == {"No such file or directory"}


@pytest_twisted.ensureDeferred
async def test_stopWhileTrying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A stop ends the tries.
    """
    monkeypatch.setattr(iawlb.frontend.listener, "RETRY", 60)
    async with stage(f"unix:{path(tmp_path)}", whenDown="refuse") as on:
        on.balancer.add(f"127.0.0.1:{freePort()}")
        await on.client()
        await until(lambda: on.recorder.listeners[-1][1] == "refusing")
        os.rename(path(tmp_path), tmp_path / "aside")
        await on.serve(make=Echo)
        os.rename(tmp_path / "aside", path(tmp_path))

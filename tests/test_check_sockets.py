"""
Checks of destinations on real sockets, and by real programs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
from twisted.internet import process
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint

from iawlb.core.destination import Destination
from iawlb.core.outcome import Outcome
from iawlb.core.standing import Checked
from iawlb.health import running
from iawlb.health.running import CommandCheck, Turns
from iawlb.health.verdict import Verdict
from iawlb.programs import surroundings
from tests.net import LIMIT, Peer, Server, reactor, until
from tests.rig import RELAYS
from tests.stage import Stage, stage
from tests.test_relay_tls import Tls

# Twisted reads certificates in a way that pyOpenSSL deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

QUICK: dict[str, Any] = {
    "checkInterval": "20ms",
    "checkFast": "20ms",
    "checkDown": "20ms",
    "checkTimeout": "10s",
}
"""
Settings with which many checks are made in little time.
"""


class Web(Peer):
    """
    Answers each request with the status that a test has set.
    """

    status = b"200 OK"

    def readConnectionLost(self) -> None:
        """
        Close.
        """
        self.close()

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        super().dataReceived(data)
        if self.received.endswith(b"\r\n\r\n"):
            self.write(b"HTTP/1.1 " + self.status + b"\r\nContent-Length: 0\r\n\r\n")


async def checked(
    on: Stage, where: Server | str, is_: Callable[[Checked], object], **settings: Any
) -> Checked:
    """
    Add a destination that is checked, and wait until a check has found something.
    """
    address = where if isinstance(where, str) else f"127.0.0.1:{where.number}"
    one = on.balancer.add(address, **{**QUICK, **settings})
    await until(lambda: one.checked is not None and is_(one.checked))
    assert one.checked is not None
    return one.checked


async def server(
    on: Stage,
    make: Callable[[], Peer] = Peer,
    endpoint: IStreamServerEndpoint | None = None,
) -> Server:
    """
    Let a server listen, until the end of the test.
    """
    listening = await Server(make).listen(endpoint)
    on.servers.append(listening)
    return listening


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_http(relay: str) -> None:
    """
    A destination is asked over HTTP, on sockets as sessions have them; it goes down and
    up as it answers.
    """
    async with stage(**RELAYS[relay]) as on:
        web = await server(on, Web)
        found = await checked(on, web, lambda each: each.passed, healthCheck="http:/up")
        assert found.why == "status 200 OK"
        peer = await web.peer()
        assert peer.received.startswith(b"GET /up HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        (one,) = on.balancer.destinations
        Web.status = b"503 Busy"
        try:
            await until(lambda: one.down)
            assert one.down == "check: status 503 Busy"
        finally:
            Web.status = b"200 OK"
        await until(lambda: one.down is None)
        # Each check has a connection of its own, which is closed after it.
        await until(lambda: all(each.lost for each in web.peers[:-1]))


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_hung(relay: str) -> None:
    """
    A destination that accepts and never answers is found out, and nothing is left open.
    """
    async with stage(**RELAYS[relay]) as on:
        silent = await server(on)
        settings = {"healthCheck": "http:/up", "checkTimeout": "50ms"}
        found = await checked(on, silent, lambda each: not each.passed, **settings)
        assert found.why == "no answer in 0.05 s"
        (one,) = on.balancer.destinations
        await until(lambda: one.down)
        await until(lambda: all(each.lost for each in silent.peers[:-1]))


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_send(relay: str) -> None:
    """
    What is sent and expected may be any bytes; a greeting may be enough.
    """

    class Greeting(Peer):
        def connectionMade(self) -> None:
            self.write(b"\xffhello")

        def dataReceived(self, data: bytes) -> None:
            self.write(data[::-1])

    async with stage(**RELAYS[relay]) as on:
        greeter = await server(on, Greeting)
        for settings, passed in (
            ({}, True),
            ({"checkSend": r"abc\x00", "checkExpect": r"\x00cba"}, True),
            ({"checkSend": b"abc", "checkExpect": rb"re:^\\xffhello.ba$"}, False),
        ):
            found = await checked(
                on,
                greeter,
                bool,
                healthCheck="send",
                name=str(len(settings) + passed),
                **{"checkTimeout": "100ms", **settings},
            )
            assert found.passed is passed, found


@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path) -> None:
    """
    A destination that ends TLS itself is checked by a handshake, and by a request
    within TLS; a server without TLS fails.
    """
    tls = Tls(tmp_path)
    async with stage() as on:
        secure = await server(on, Web, tls.server())
        plain = await server(on, Web)
        for name, way, why in (
            ("a", "tls", "TLSv1.3"),
            ("b", "https://localhost/up", "status 200 OK"),
        ):
            found = await checked(on, secure, bool, healthCheck=way, name=name)
            assert (found.passed, found.why) == (True, why)
        Web.status = b"500 No"
        try:
            found = await checked(on, secure, bool, healthCheck="https:/up", name="c")
            assert (found.passed, found.why) == (False, "status 500 No")
        finally:
            Web.status = b"200 OK"

        class Plain(Peer):
            def dataReceived(self, data: bytes) -> None:
                self.write(b"SSH-2.0-x\r\n")
                self.close()

        plain = await server(on, Plain)
        found = await checked(on, plain, bool, healthCheck="tls", name="d")
        assert not found.passed
        assert found.why.startswith("TLS: wrong version number"), found
        closing = await server(on, Closing)
        found = await checked(on, closing, bool, healthCheck="https:/", name="e")
        assert not found.passed


@pytest_twisted.ensureDeferred
async def test_tlsEnds(tmp_path: Path) -> None:
    """
    A server that ends TLS instead of an answer has failed.
    """

    class Ending(Peer):
        def dataReceived(self, data: bytes) -> None:
            self.close()

    tls = Tls(tmp_path)
    async with stage() as on:
        ending = await server(on, Ending, tls.server())
        found = await checked(on, ending, bool, healthCheck="https:/")
        assert (found.passed, found.why) == (False, "closed without status of HTTP")


@pytest_twisted.ensureDeferred
async def test_overTls(tmp_path: Path) -> None:
    """
    A destination with TLS is checked within its TLS, certificate and all.
    """
    tls = Tls(tmp_path)
    async with stage() as on:
        secure = await server(on, Web, tls.server())
        settings = {"tls": True, "tlsCa": str(tls.path), "tlsName": "localhost"}
        for name, way, why in (
            ("a", "tcp", "connected"),
            ("b", "http:/up", "status 200 OK"),
        ):
            found = await checked(
                on, secure, bool, healthCheck=way, name=name, **settings
            )
            assert (found.passed, found.why) == (True, why)
        wrong = {**settings, "tlsName": "other.example"}
        found = await checked(on, secure, bool, healthCheck="tcp", name="c", **wrong)
        assert not found.passed


@pytest_twisted.ensureDeferred
async def test_elsewhere() -> None:
    """
    A check of another port fails although the destination's own is open; and an agent
    on its own port takes the destination out.
    """

    class Agent(Peer):
        def connectionMade(self) -> None:
            self.write(b"drain\n")
            self.close()

    async with stage() as on:
        serving, agent = await server(on), await server(on, Agent)
        gone = await Server().listen()
        number = gone.number
        await gone.stop()
        found = await checked(on, serving, bool, healthCheck="tcp", checkAddress=number)
        assert "refused" in found.why
        one = on.balancer.add(
            f"127.0.0.1:{serving.number}", name="a", agent=agent.number, **QUICK
        )
        await until(lambda: one.state == "draining")


async def done(client: Peer) -> None:
    """
    Wait until a client's connection is ended in either way.
    """
    await until(lambda: client.ended or client.lost)


class Closing(Peer):
    """
    Closes each connection at once, in order or by a reset.
    """

    how = "close"

    def connectionMade(self) -> None:
        """
        Close.
        """
        if self.how == "close":
            self.close()
        else:
            self.reset()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_ejected(relay: str, how: str) -> None:
    """
    A destination that accepts and closes at once is ejected, by whichever relay; all
    clients after that are served. Once it serves, it gets clients again.
    """

    class Broken(Closing):
        pass

    Broken.how = how

    class Mending(Peer):
        def dataReceived(self, data: bytes) -> None:
            self.write(data)
            self.close()

    async with stage(**RELAYS[relay], policy="first", ejectAfter=3) as on:
        broken = await server(on, Broken)
        well = await server(on, Mending)
        first = on.balancer.add(f"127.0.0.1:{broken.number}")
        on.balancer.add(f"127.0.0.1:{well.number}")
        failed = 0
        while first.down is None:
            client = await on.client()
            client.write(b"hello")
            await done(client)
            failed += not client.received
            if client.lost is None:
                client.close()
            await client.closed()
            assert failed <= 3
        assert failed == 3
        assert first.down.endswith("within 50 ms, without a byte")
        broken.make = Mending
        for _ in range(5):
            client = await on.client()
            client.write(b"hello")
            await client.got(5)
            client.close()
        await until(lambda: first.state == "up")
        assert first.limit == 1
        client = await on.client()
        client.write(b"hello")
        await client.got(5)
        client.close()
        await until(lambda: first.limit == 0)


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_endOnDown(relay: str) -> None:
    """
    A destination that goes down loses its connections, if that is asked for.
    """
    async with stage(**RELAYS[relay]) as on:
        web = await server(on, Web)
        settings: dict[str, Any] = {
            **QUICK,
            "healthCheck": "http:/",
            "endOnDown": True,
            "checkTimeout": "50ms",
        }
        one = on.balancer.add(f"127.0.0.1:{web.number}", **settings)
        await until(lambda: one.checked)
        client = await on.client()
        client.write(b"GET / HTTP/1.1\r\n\r\n")
        await client.got(10)
        (session,) = on.balancer.sessions
        web.make = Peer  # which never answers
        await client.closed()
        assert client.wasReset
        assert session.outcome is Outcome.DESTINATION_DOWN


# Programs.


class Runs:
    """
    Runs programs as checks do.
    """

    def __init__(self) -> None:
        self.turns = Turns()
        self.last: CommandCheck | None = None

    def start(self, *command: str, **environment: str) -> Deferred[Verdict]:
        """
        Begin to run a program.
        """
        self.last = CommandCheck(reactor, command, environment, self.turns)
        done: Deferred[Verdict] = Deferred()
        self.last.start(done.callback)
        return done

    def shell(self, text: str, **environment: str) -> Awaitable[Verdict]:
        """
        Run a line of a shell.
        """
        done = self.start("sh", "-c", text, **environment)
        return done.addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_command() -> None:
    """
    A program succeeds with status 0; the first line of its output is part of the
    reason, whichever way it is written.
    """
    runs = Runs()
    for text, passed, why in (
        ("true", True, "status 0"),
        ("echo fine; echo more", True, "status 0: fine"),
        ("echo bad >&2; exit 3", False, "status 3: bad"),
        ("printf '\\033[2J\\n'; exit 1", False, "status 1: \\x1b[2J"),
        ("kill -9 $$", False, "ended by signal 9"),
        ("read line && echo input", False, "status 1"),
        ('echo "$WHO $HOME" | cut -c1-5', True, "status 0: you /"),
    ):
        found = await runs.shell(text, WHO="you")
        assert (found.passed, found.why) == (passed, why)
    found = await runs.start("/nowhere/program").addTimeout(LIMIT, reactor)
    assert not found.passed
    assert "/nowhere/program" in found.why


@pytest_twisted.ensureDeferred
async def test_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A program has the balancer's environment, but not the variables by which the service
    manager talks to the balancer.
    """
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("COLOUR", "blue")
    found = await Runs().shell('echo "$COLOUR,$NOTIFY_SOCKET,"')
    assert found.why == "status 0: blue,,"


@pytest_twisted.ensureDeferred
async def test_manyFiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    While the balancer has many open files, starting a program does not ask about each
    of them, in which time nothing else would be done.
    """
    asks = Mock(side_effect=process._listOpenFDs)
    monkeypatch.setattr(process, "_listOpenFDs", asks)
    monkeypatch.setattr(surroundings, "MANY_FILES", 0)
    monkeypatch.chdir(tmp_path)
    found = await Runs().shell("pwd")
    assert found.why == f"status 0: {tmp_path}"
    asks.assert_not_called()


@pytest_twisted.ensureDeferred
async def test_manyLines() -> None:
    """
    Of a long output no more than its beginning is kept, and the program does not wait
    for a reader.
    """
    runs = Runs()
    found = await runs.shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 1")
    assert not found.passed
    assert len(found.why) < 300
    assert runs.last is not None
    assert len(runs.last._output) == running.MOST_OUTPUT


def alive(number: int) -> bool:
    """
    Return whether a process is there, and has not ended.
    """
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest_twisted.ensureDeferred
async def test_killed(tmp_path: Path) -> None:
    """
    When a check is given up, the program is ended with all that it has started.
    """
    runs = Runs()
    file = tmp_path / "numbers"
    runs.start("sh", "-c", f"sleep 600 & echo $! $$ > {file}; wait")
    await until(lambda: file.exists() and file.read_text().endswith("\n"))
    numbers = [int(each) for each in file.read_text().split()]
    assert all(map(alive, numbers))
    assert runs.last is not None
    runs.last.cancel()
    await until(lambda: not any(map(alive, numbers)))
    # The turn is given back.
    await until(lambda: runs.turns._free == running.AT_A_TIME)


@pytest_twisted.ensureDeferred
async def test_leftBehind(tmp_path: Path) -> None:
    """
    What a program has left behind when it ends is ended, too, and its verdict does not
    wait for that; nor for a program that has left the group and holds the output.
    """
    runs = Runs()
    file = tmp_path / "number"
    found = await runs.shell(f"sleep 600 & echo $! > {file}")
    assert found.passed
    await until(lambda: not alive(int(file.read_text())))
    away = f"setsid sh -c 'echo $$ > {file}.away; exec sleep 600' & sleep 0.1"
    found = await runs.shell(away)
    assert found.passed
    number = int(Path(f"{file}.away").read_text())
    assert alive(number)
    os.kill(number, 9)


@pytest_twisted.ensureDeferred
async def test_withoutSetsid(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where a program cannot lead a group of its own, it alone is ended.
    """
    monkeypatch.setattr(running, "_launcher", tuple)
    runs = Runs()
    assert (await runs.shell("exit 0")).passed
    runs.start("sleep", "600")
    check = runs.last
    assert check is not None
    number = check._process
    assert number is not None
    check.cancel()
    await until(lambda: not alive(number))
    await until(lambda: runs.turns._free == running.AT_A_TIME)
    check.cancel()


def test_noProcess() -> None:
    """
    If this machine cannot make a process now, nothing is known of the destination; and
    the next check has its turn.
    """
    turns, found = Turns(1), []
    for error in (OSError(errno.EMFILE, ""), OSError(errno.EAGAIN, "")):
        unable = Mock()
        unable.spawnProcess.side_effect = error
        check = CommandCheck(unable, ["true"], {}, turns)
        check.start(lambda verdict: found.append(verdict.passed))
    assert found == [None, None]


@pytest_twisted.ensureDeferred
async def test_turns() -> None:
    """
    A program whose turn has not come is not run when its check is given up.
    """
    runs = Runs()
    runs.turns = Turns(1)
    first = runs.start("sh", "-c", "sleep 0.05")
    runs.start("false")
    second = runs.last
    assert second is not None
    second.cancel()
    assert (await first).passed
    assert second._process is None


@pytest_twisted.ensureDeferred
async def test_turnsOfDestination() -> None:
    """
    A destination is not down because the program that checks it has not had its turn
    within the time of a check.
    """
    async with stage() as on:
        serving = await server(on)
        pool = on.balancer._pool
        busy = Turns(1)
        busy.take(lambda: None)
        pool.checks._turns = busy
        one = on.balancer.add(
            f"127.0.0.1:{serving.number}",
            name="a",
            healthCheck="command",
            checkCommand="true",
            **{**QUICK, "checkTimeout": "20ms", "fall": 1},
        )
        await waited(busy, 3)
        assert one.state == "up"
        assert one.checks == 0
        busy.give()
        await until(lambda: one.checked is not None and one.checked.passed)


async def waited(turns: Turns, number: int) -> None:
    """
    Wait until so many programs have waited for their turn, one after the other.
    """
    seen: set[object] = set()

    def count() -> bool:
        seen.update(turns._waiting)
        return len(seen) >= number

    await until(count)


@pytest_twisted.ensureDeferred
async def test_commandOfDestination() -> None:
    """
    A program learns which destination it is to check. When its time is over, it is
    ended, and the destination is down.
    """
    async with stage() as on:
        serving = await server(on)
        tell = 'echo "$IAWLB_POOL $IAWLB_DESTINATION $IAWLB_HOST $IAWLB_PORT"'
        found = await checked(
            on,
            serving,
            bool,
            healthCheck="command",
            checkCommand=["sh", "-c", tell],
            name="web-1",
        )
        assert found.passed
        assert found.why == f"status 0: default web-1 127.0.0.1 {serving.number}"
        found = await checked(
            on,
            serving,
            bool,
            healthCheck="command",
            checkCommand="sleep 600",
            checkTimeout="200ms",
            name="web-2",
        )
        assert found.why == "no answer in 0.2 s"
        free = on.balancer._pool.checks._turns
    await until(lambda: free._free == running.AT_A_TIME)


@pytest_twisted.ensureDeferred
async def test_redisPassword(tmp_path: Path) -> None:
    """
    The password of a Redis check is read from its file each time.
    """

    class Redis(Peer):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if self.received.endswith(b"PING\r\n"):
                self.write(b"+OK\r\n" if b"secret" in self.received else b"-WRONG\r\n")
                self.write(b"+PONG\r\n")

    file = tmp_path / "password"
    file.write_text("lb other\n")
    async with stage() as on:
        redis = await server(on, Redis)
        settings = {"healthCheck": "redis", "checkPasswordFile": str(file)}
        found = await checked(on, redis, bool, **settings)
        assert found.why == "Redis: '-WRONG'"
        file.write_text("lb secret\n")
        (one,) = on.balancer.destinations
        await until(lambda: one.checked is not None and one.checked.passed)


@pytest_twisted.ensureDeferred
async def test_function() -> None:
    """
    A function of the program decides; a coroutine may wait for the reactor.
    """
    asked: list[Destination] = []
    waiting: Deferred[None] = Deferred()

    async def check(destination: Destination) -> str:
        asked.append(destination)
        await waiting
        return "maint"

    async with stage() as on:
        serving = await server(on)
        one = on.balancer.add(f"127.0.0.1:{serving.number}", healthCheck=check, **QUICK)
        await until(lambda: asked)
        assert one.state == "up"
        waiting.callback(None)
        await until(lambda: one.state == "draining")
        assert asked[0] is one

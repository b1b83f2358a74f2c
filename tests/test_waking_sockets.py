"""
Destinations that sleep, with processes and real sockets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher

from iawlb.backend.address import parseDestination
from iawlb.balancer import Balancer
from iawlb.core.outcome import Outcome
from iawlb.pool import Pool
from iawlb.workers import alarm
from tests.doubles import Recorder
from tests.net import LIMIT, Peer, connected, freePort, reactor, until
from tests.stage import assertEchoed

ECHO = """
import os, socket, sys, threading
def serve(client):
    with client:
        while data := client.recv(65536):
            client.sendall(data)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
print("serves", flush=True)
while True:
    threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""


class Bay:
    """
    A balancer with a pool whose destinations are programs.
    """

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.balancer = Balancer(reactor, observers=[self.recorder], drainTimeout=0)
        self.events = EventLoggingObserver()
        self.clients: list[Peer] = []

    def pool(self, name: str = "web", **settings: Any) -> Pool:
        """
        Add a pool with a listener.
        """
        pool = self.balancer.addPool(name, **settings)
        pool.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1", backlog=500))
        return pool

    def add(self, pool: Pool, name: str, *command: str, **settings: Any) -> int:
        """
        Add a destination, by default a program that echoes.

        @return: The number of its port.
        """
        port = settings.pop("port", None) or freePort()
        words = command or (sys.executable, "-I", "-S", "-c", ECHO, str(port))
        own = {"name": name, "command": words, **settings}
        pool.add(f"127.0.0.1:{port}", own)
        return port

    async def client(self, pool: Pool) -> Peer:
        """
        Connect a client.
        """
        endpoint = parseDestination(reactor, pool.listeners.addresses[0], LIMIT)[1]
        client = await connected(endpoint)
        self.clients.append(client)
        return client

    async def echoed(self, pool: Pool) -> None:
        """
        A new client is served in full.
        """
        await assertEchoed(await self.client(pool))

    def lines(self) -> list[str]:
        """
        What was logged.
        """
        return [formatEvent(each) for each in self.events]

    def said(self, text: str) -> int:
        """
        Count the lines that say something.
        """
        return sum(text in each for each in self.lines())

    def state(self, pool: Pool) -> list[str]:
        """
        The states of the destinations.
        """
        return [each.state for each in pool.destinations]


@asynccontextmanager
async def bay() -> AsyncIterator[Bay]:
    """
    Run a balancer.
    """
    made = Bay()
    globalLogPublisher.addObserver(made.events)
    made.balancer.startService()
    try:
        yield made
    finally:
        await made.balancer.stopService().addTimeout(LIMIT, reactor)
        for each in made.clients:
            if each.lost is None:
                each.reset()
            await each.closed()
        globalLogPublisher.removeObserver(made.events)


@pytest_twisted.ensureDeferred
async def test_startStopStart() -> None:
    """
    A program is started by a client, which is served; it is stopped when no client has
    come for a while, and started again by the next one.
    """
    async with bay() as at:
        pool = at.pool()
        at.add(pool, "a", idleTimeout=0.1)
        assert at.state(pool) == ["asleep"]
        await at.echoed(pool)
        await until(lambda: at.said("was ended by SIGTERM"))
        await until(lambda: pool.workers["a"].waker.phase.name == "ASLEEP")  # type: ignore[attr-defined]
        await at.echoed(pool)
        assert at.said("web/a: serves") == 2
        assert set(at.recorder.outcomes.values()) == {Outcome.DONE}


@pytest_twisted.ensureDeferred
async def test_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A client that connects and leaves at once wakes nothing, whether it closes or resets
    the connection; one that waits does, though it sends nothing; and one that has sent
    something does at once.
    """
    monkeypatch.setattr(alarm, "GRACE", 1000.0)
    async with bay() as at:
        pool = at.pool()
        at.add(pool, "a")
        for leave in (Peer.close, Peer.reset):
            client = await at.client(pool)
            leave(client)
            await client.closed()
        await until(lambda: len(at.recorder.outcomes) == 2)
        assert at.state(pool) == ["asleep"]
        assert set(at.recorder.outcomes.values()) == {Outcome.CLIENT_LEFT_QUEUE}
        silent = await at.client(pool)
        await until(lambda: len(pool.queue) == 1)
        assert at.state(pool) == ["asleep"]
        silent.write(b"x")

        def awake() -> bool:
            pool.alarm.check()
            return at.state(pool) != ["asleep"]

        await until(awake)
        await silent.got(1)
    async with bay() as at:
        monkeypatch.setattr(alarm, "GRACE", 0.02)
        pool = at.pool()
        at.add(pool, "a")
        silent = await at.client(pool)
        await until(lambda: at.state(pool) == ["up"])
        silent.write(b"x")
        await silent.got(1)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["no-such-program"], "there is no program 'no-such-program' on the PATH"),
        (["sh", "-c", "echo no; exit 3"], "exited with status 3"),
        (["sh", "-c", "kill -9 $$"], "was ended by SIGKILL"),
        (
            ["sleep", "60"],
            "not ready within 0.3 s",
        ),
        (
            ["sh", "-c", "trap '' TERM; sleep 60; sleep 60; sleep 60"],
            "not ready within 0.3 s",
        ),
    ],
)
async def test_failedStart(command: list[str], why: str) -> None:
    """
    A program that is not there, ends at once, or never listens: the clients that wait
    are closed, the reason is known, and no process is left.
    """
    async with bay() as at:
        pool = at.pool(backoff=5, backoffMax=5)
        at.add(pool, "a", *command, wakeTimeout=0.3, stopTimeout=0.2)
        clients = [await at.client(pool) for _ in range(3)]
        for each in clients:
            each.write(b"x")
        for each in clients:
            await until(lambda each=each: each.ended or each.lost)  # type: ignore[misc]
            each.close()
        assert set(at.recorder.outcomes.values()) == {Outcome.WAKE_FAILED}
        (one,) = pool.destinations
        assert one.state == "down" and one.down is not None
        assert one.down.startswith(f"could not be started: {why}")


@pytest_twisted.ensureDeferred
async def test_crash() -> None:
    """
    A program that ends while it serves is started again by the next client.
    """
    async with bay() as at:
        pool = at.pool(backoff=0.01)
        at.add(pool, "a")
        await at.echoed(pool)
        (line,) = [each for each in at.lines() if "started as process" in each]
        os.kill(int(line.split()[-1]), 9)
        await until(lambda: at.said("was ended by SIGKILL"))
        await at.echoed(pool)
        assert at.said("started as process") == 2
        assert ("a", "down") in at.recorder.destinations
        assert set(at.recorder.outcomes.values()) == {Outcome.DONE}


@pytest_twisted.ensureDeferred
async def test_stopsListening() -> None:
    """
    A program that runs but takes no more connects is given the time of a start, while
    its client waits; it is stopped then, and another is started.
    """
    script = f"{ECHO.replace('while True:', 'for _ in range(2):')}server.close()\n"
    script += "import time\ntime.sleep(60)\n"
    async with bay() as at:
        pool = at.pool(backoff=0.01)
        port = freePort()
        command = (sys.executable, "-I", "-S", "-c", script, str(port))
        at.add(pool, "a", *command, port=port, wakeTimeout=LIMIT)
        await at.echoed(pool)
        own = pool.workers["a"].destination.settings
        pool.configureDestination("a", replace(own, wakeTimeout=0.3))
        client = await at.client(pool)
        client.write(b"x")
        await until(lambda: client.ended or client.lost)
        await until(lambda: at.said("was ended by SIGTERM"))
        pool.configureDestination("a", own)
        await at.echoed(pool)
        assert at.said("started as process") == 2


@pytest_twisted.ensureDeferred
async def test_twoPools() -> None:
    """
    Two pools whose destinations have the same command and address share one program. It
    is stopped when both need it no more.
    """
    async with bay() as at:
        web, tls = at.pool("web"), at.pool("tls")
        port = at.add(web, "a", idleTimeout=0.1)
        at.add(tls, "a", port=port)
        await at.echoed(web)
        await at.echoed(tls)
        assert at.said("started as process") == 1
        await until(lambda: at.state(web) == ["asleep"])
        await at.echoed(tls)
        await tls.remove("a")
        await until(lambda: at.said("was ended by SIGTERM"))


@pytest_twisted.ensureDeferred
async def test_pairOfCommands(tmp_path: Path) -> None:
    """
    With a command that stops, the first one starts something and ends. What that does
    is logged, and both are run again and again.
    """
    port = freePort()
    start = tmp_path / "start"
    start.write_text(
        f"#!/bin/sh\necho starts\n"
        f"setsid '{sys.executable}' -ISc '{ECHO}' {port} & echo $! > {tmp_path}/pid\n"
    )
    stop = tmp_path / "stop"
    stop.write_text(f"#!/bin/sh\necho stops\nkill $(cat {tmp_path}/pid)\n")
    for each in (start, stop):
        each.chmod(0o755)
    async with bay() as at:
        pool = at.pool()
        own = {"port": port, "stopCommand": [str(stop)], "idleTimeout": 0.1}
        at.add(pool, "a", str(start), **own)
        for count in (1, 2):
            await at.echoed(pool)
            await until(lambda count=count: at.said("web/a: stops") == count)  # type: ignore[misc]
            await until(lambda: pool.workers["a"].waker.phase.name == "ASLEEP")  # type: ignore[attr-defined]
        assert at.said("web/a: starts") == 2
        assert at.said("web/a: serves") == 2


@pytest_twisted.ensureDeferred
async def test_pairFails() -> None:
    """
    A command of a pair that fails, is not there, or takes too long is one that could
    not start, or not stop; the latter is logged.
    """
    async with bay() as at:
        pool = at.pool(backoff=5, backoffMax=5)
        bad = ("sh", "-c", "exit 4")
        at.add(pool, "a", *bad, stopCommand=["no-such-program"])
        client = await at.client(pool)
        client.write(b"x")
        await until(lambda: client.ended or client.lost)
        assert (
            pool.destinations[0].down == "could not be started: sh exited with status 4"
        )
        await until(lambda: at.said("could not be stopped"))
        said = "could not be stopped: there is no program 'no-such-program' on the PATH"
        assert at.said(said) == 1
        client.close()
    async with bay() as at:
        pool = at.pool(backoff=5, backoffMax=5)
        own = {"wakeTimeout": 0.2, "stopTimeout": 0.2}
        at.add(pool, "a", "sleep", "60", stopCommand=["sleep", "61"], **own)
        client = await at.client(pool)
        client.write(b"x")
        await until(lambda: at.said("could not be stopped: not done within 0.2 s"))
        client.close()


@pytest_twisted.ensureDeferred
async def test_commandChanges() -> None:
    """
    A command that changes holds from the next start on.
    """
    async with bay() as at:
        pool = at.pool()
        port = at.add(pool, "a", idleTimeout=0.1)
        await at.echoed(pool)
        words = (sys.executable, "-ISc", "print('other')\n" + ECHO, str(port))
        own = pool.workers["a"].destination.settings
        pool.configureDestination("a", replace(own, command=words))
        await until(lambda: pool.workers["a"].waker.phase.name == "ASLEEP")  # type: ignore[attr-defined]
        assert at.said("web/a: other") == 0
        await at.echoed(pool)
        assert at.said("web/a: other") == 1


@pytest_twisted.ensureDeferred
async def test_stopWhileWaking() -> None:
    """
    A balancer that is stopped while a program starts leaves no process behind.
    """
    async with bay() as at:
        pool = at.pool()
        at.add(pool, "a", "sleep", "60")
        client = await at.client(pool)
        client.write(b"x")
        await until(lambda: at.said("started as process"))
        at.balancer.cutDrain()
        await at.balancer.stopService().addTimeout(LIMIT, reactor)
        (line,) = [each for each in at.lines() if "started as process" in each]
        with pytest.raises(ProcessLookupError):
            os.kill(int(line.split()[-1]), 0)
        at.balancer.startService()

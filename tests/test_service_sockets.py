"""
The balancer as a service, on real sockets.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import struct
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.internet import StreamServerEndpointService
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Port
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.backend import socketconnector
from iawlb.core.events import (
    DESTINATION_DOWN,
    DESTINATION_UP,
    SESSION_ACCEPTED,
    SESSION_CONNECTED,
    SESSION_ENDED,
    SESSION_PULLED,
    SESSION_QUEUED,
)
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.errors import CannotListen
from iawlb.service import LoadBalancer
from tests.doubles import Recorder
from tests.net import (
    LIMIT,
    Echo,
    Peer,
    Server,
    collectUnbound,
    connected,
    freePort,
    pause,
    reactor,
    until,
)
from tests.rig import serverEndpoint
from tests.stage import Stage, assertEchoed, stage, together

FAMILIES = ("tcp4", "tcp6", "unix")


class SlowEcho(Echo):
    """
    Takes 20 ms to close.
    """

    def close(self) -> None:
        """
        Close, a little later.
        """
        reactor.callLater(0.02, super().close)


class Closer(Peer):
    """
    Closes at once.
    """

    def connectionMade(self) -> None:
        """
        Close.
        """
        self.close()


def explicit(family: str, directory: Path) -> IStreamServerEndpoint:
    """
    Make an endpoint that listens at the same address each time.
    """
    if family == "tcp4":
        return TCP4ServerEndpoint(reactor, freePort(), interface="127.0.0.1")
    if family == "tcp6":
        return TCP6ServerEndpoint(reactor, freePort("::1"), interface="::1")
    return serverEndpoint(family, directory / "explicit")


# Who is served by whom.


@pytest.mark.parametrize("inside", FAMILIES)
@pytest.mark.parametrize("outside", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_families(outside: str, inside: str, tmp_path: Path) -> None:
    """
    IPv4, IPv6 and Unix sockets go together in every way; the record names the
    client as a user would.
    """
    async with stage(serverEndpoint(outside, tmp_path / "listener")) as on:
        await on.serve(make=Echo, endpoint=serverEndpoint(inside, tmp_path / "server"))
        client = await on.client()
        await until(lambda: on.balancer.sessions)
        named = on.balancer.sessions[0].client
        start = {"tcp4": "127.0.0.1:", "tcp6": "[::1]:", "unix": "unix:"}[outside]
        assert named.startswith(start)
        await on.assertEchoed(client)
    assert on.recorder.outcomes == {1: Outcome.DONE}


@pytest_twisted.ensureDeferred
async def test_hostileName(tmp_path: Path) -> None:
    """
    The name that a Unix client has given its socket reaches the log as one printable
    line, whether the name is a path or abstract.
    """
    where = str(tmp_path / "listener")
    async with stage(f"unix:{where}") as on:
        await on.serve(make=Echo)
        for name in (b"\0\x1b[2J\n\xff", str(tmp_path / "\x1b[2J\n").encode()):
            with socket.socket(socket.AF_UNIX) as client:
                client.bind(name)
                client.connect(where)
                await until(lambda: on.balancer.sessions)
                named = on.balancer.sessions[0].client
            await until(lambda: not on.balancer.sessions)
            assert named.isprintable()
            assert r"\x1b[2J\n" in named


@pytest_twisted.ensureDeferred
async def test_evenly() -> None:
    """
    Destinations that are alike get equal numbers of short sessions.
    """
    async with stage() as on:
        servers = [await on.serve(name, Closer) for name in "abc"]

        async def visit() -> None:
            client = await on.client()
            await until(lambda: client.ended or client.lost)
            client.close()
            await client.closed()
            on.clients.remove(client)

        await together(20, 50, visit)
        numbers = [len(server.peers) for server in servers]
        assert sum(numbers) == 1000
        assert max(numbers) <= 1.05 * min(numbers)


@pytest_twisted.ensureDeferred
async def test_oneAtATime() -> None:
    """
    A destination with one slot never sees two connections at once, and all
    clients are served.
    """
    most = 0
    async with stage(slots=1) as on:
        for name in "ab":
            server = Server()

            class Single(Echo):
                """
                Looks how many are open.
                """

                def connectionMade(self, peers: list[Peer] = server.peers) -> None:
                    nonlocal most
                    most = max(most, sum(peer.lost is None for peer in peers))

            server.make = Single
            await server.listen()
            on.servers.append(server)
            on.balancer.add(f"127.0.0.1:{server.number}", name=name)
        await together(30, 4, on.assertEchoed)
        assert most == 1
        assert sum(len(server.peers) for server in on.servers) == 120


# Destinations that do not serve.


@pytest_twisted.ensureDeferred
async def test_blackHole() -> None:
    """
    A destination that refuses at once does not swallow the clients, although it is idle
    while the healthy one is busy: it gets less than one try in a hundred, and no client
    notices.
    """
    async with stage(slots=10) as on:
        on.balancer.add(f"127.0.0.1:{freePort()}", name="bad")
        await on.serve("good", SlowEcho)
        await together(40, 12, on.assertEchoed)
        tries = [name for _, name in on.recorder.pulls]
        assert tries.count("good") == 480
        assert tries.count("bad") < 4.8


@pytest_twisted.ensureDeferred
async def test_silent() -> None:
    """
    A destination whose connects hang delays one client by the connect timeout;
    the others are served by the good one meanwhile.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        # Once its backlog is full the kernel answers no more.
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        async with stage(connectTimeout="300ms") as on:
            on.balancer.add(f"127.0.0.1:{silent.getsockname()[1]}", name="silent")
            await on.serve("good", Echo)
            first = await on.client()
            await until(lambda: on.balancer.sessions)
            await together(10, 3, on.assertEchoed)
            await on.assertEchoed(first)
            assert [n for n, name in on.recorder.pulls if name == "silent"] == [1]
            assert ("silent", DESTINATION_DOWN) in on.recorder.destinations
        for filler in fillers:
            filler.close()


@pytest_twisted.ensureDeferred
async def test_resetDuringConnect() -> None:
    """
    A client that is reset during such a connect frees its slot at once.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        async with stage(slots=1, connectTimeout="60s") as on:
            on.balancer.add(f"127.0.0.1:{silent.getsockname()[1]}", name="silent")
            client = await on.client()
            await until(lambda: on.recorder.pulls)
            client.reset()
            await until(lambda: on.recorder.outcomes)
            assert on.recorder.outcomes == {1: Outcome.CLIENT_LEFT_CONNECT}
            assert on.balancer.destinations[0].active == 0
            assert on.balancer.destinations[0].state == "up"
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("waits", [True, False])
@pytest_twisted.ensureDeferred
async def test_slowConnects(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    On another machine no connect succeeds at once, and a restart is served the
    same, whether a client waits or comes after.
    """
    monkeypatch.setattr(socketconnector, "_connected", lambda handle: False)
    async with stage(log="errors") as on:
        server = await on.serve(make=Echo)
        await on.assertEchoed()
        again = TCP4ServerEndpoint(reactor, server.number, interface="127.0.0.1")
        await server.stop()
        (destination,) = on.balancer.destinations
        first = await on.client()
        await until(lambda: destination.down)
        if not waits:
            first.reset()
            await until(lambda: not on.balancer.sessions)
        await server.listen(again)
        await until(lambda: destination.down is None)
        if waits:
            await on.assertEchoed(first)
        await together(3, 3, on.assertEchoed)


def reset(client: socket.socket) -> None:
    """
    Reset a connection.
    """
    linger = struct.pack("ii", 1, 0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.close()


async def sixClients(on: Stage) -> list[socket.socket]:
    """
    Have one client get the only slot, and five wait.
    """
    address = ("127.0.0.1", int(on.balancer.addresses[0].rpartition(":")[2]))
    clients = [socket.create_connection(address) for _ in range(6)]
    await until(lambda: on.balancer.waiting == 5)
    return clients


@pytest_twisted.ensureDeferred
async def test_cutTakesOthersAlong() -> None:
    """
    When the drain is cut, a slot that becomes free is offered to waiting clients, which
    may have left: each client has one end.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = [socket.socket() for _ in range(3)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        async with stage(slots=1) as on:
            on.balancer.add(f"127.0.0.1:{silent.getsockname()[1]}")
            first, *others = await sixClients(on)
            for each in others:
                reset(each)
            on.balancer.cutDrain()
            await until(lambda: on.balancer.sessions == [])
            assert len(on.recorder.outcomes) == 6
        for each in (first, *fillers):
            each.close()


@pytest.mark.parametrize("family", ["tcp4", "unix"])
@pytest.mark.parametrize("relay", ["auto", "portable"])
@pytest.mark.parametrize("abortOnClose", [False, True])
@pytest_twisted.ensureDeferred
async def test_leavesInOrder(
    family: str, relay: str, abortOnClose: bool, tmp_path: Path
) -> None:
    """
    A client that closes while it waits, and has sent nothing, has left: its place is
    free within a second, and no destination sees it. A client that has sent something
    may still wait for the answer, and keeps its place, unless the user says otherwise.
    """
    async with stage(
        explicit(family, tmp_path), slots=1, relay=relay, abortOnClose=abortOnClose
    ) as on:
        await on.serve(make=Echo)
        first = await on.client()
        silent, asking = await on.client(), await on.client()
        await until(lambda: on.balancer.waiting == 2)
        asking.write(b"a question")
        asking.end()
        silent.close()
        await silent.closed()
        await until(lambda: on.balancer.waiting == (0 if abortOnClose else 1))
        left = {2, 3} if abortOnClose else {2}
        assert on.recorder.outcomes == dict.fromkeys(left, Outcome.CLIENT_LEFT_QUEUE)
        await on.assertEchoed(first)
        await until(lambda: asking.ended or asking.lost)
        assert bytes(asking.received) == (b"" if abortOnClose else b"a question")
        asking.close()


@pytest_twisted.ensureDeferred
async def test_leavesBeforeTheLook(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Clients that connected and closed while they waited hold up no other client: the
    next one is served as soon as there is a slot, even before the regular check.
    """
    async with stage(slots=1) as on:
        await on.serve(make=Echo)
        monkeypatch.setattr(on.balancer._pool.context.resets, "check", lambda: None)
        first = await on.client()
        for _ in range(50):
            client = await on.client()
            client.close()
            await client.closed()
        await until(lambda: on.balancer.waiting == 50)
        last = await on.client()
        await on.assertEchoed(first)
        await on.assertEchoed(last)
        assert [number for number, _ in on.recorder.pulls] == [1, 52]


@pytest_twisted.ensureDeferred
async def test_leavesInConnect() -> None:
    """
    When a client closes during the connect, and has sent nothing, the connect is
    given up.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = [socket.socket() for _ in range(3)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        async with stage() as on:
            on.balancer.add(f"127.0.0.1:{silent.getsockname()[1]}")
            client = await on.client()
            await until(lambda: on.recorder.pulls != [])
            client.close()
            await until(lambda: on.recorder.outcomes != {})
            assert on.recorder.outcomes == {1: Outcome.CLIENT_LEFT_CONNECT}
        for each in fillers:
            each.close()


@pytest_twisted.ensureDeferred
async def test_timeoutTakesOthersAlong(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When a time-out makes a slot free, each client has one end, too, and the look at the
    clients that are due goes on.
    """
    async with stage(slots=1, queueTimeout=0) as on:
        await on.serve()
        first, *others = await sixClients(on)
        pool = on.balancer._pool
        monkeypatch.setattr(pool.context.resets, "check", lambda: None)
        clock: Any = Clock()
        clock.advance(pool.clock.seconds() + on.balancer.settings.idleTimeout)
        pool.deadlines.stop()
        monkeypatch.setattr(pool.deadlines, "_clock", clock)
        for each in others:
            reset(each)
        pool.deadlines._look()
        assert on.recorder.outcomes.pop(1) is Outcome.IDLE_TIMEOUT
        assert set(on.recorder.outcomes.values()) == {Outcome.CLIENT_LEFT_QUEUE}
        assert len(on.recorder.outcomes) == 5
        first.close()


@pytest_twisted.ensureDeferred
async def test_restart() -> None:
    """
    Clients that come while the only destination restarts wait, and are served by
    it when it is back, in order.
    """
    async with stage() as on:
        server = await on.serve(make=Echo)
        await on.assertEchoed()
        again = TCP4ServerEndpoint(reactor, server.number, interface="127.0.0.1")
        await server.stop()
        clients = [await on.client() for _ in range(5)]
        await until(lambda: ("a", DESTINATION_DOWN) in on.recorder.destinations)
        await until(lambda: on.balancer.waiting == 5)
        await server.listen(again)
        for client in clients:
            await on.assertEchoed(client)
        assert [n for n, _ in on.recorder.pulls][-5:] == [2, 3, 4, 5, 6]
        assert [e for _, e in on.recorder.destinations][-2:] == [
            DESTINATION_DOWN,
            DESTINATION_UP,
        ]


@pytest_twisted.ensureDeferred
async def test_queueTimeout() -> None:
    """
    A client that waited in vain is closed.
    """
    async with stage(queueTimeout="100ms") as on:
        on.balancer.add(f"127.0.0.1:{freePort()}")
        client = await on.client()
        await until(lambda: client.ended or client.lost)
        client.close()
        await until(lambda: on.recorder.outcomes)
        assert on.recorder.outcomes == {1: Outcome.QUEUE_TIMEOUT}


@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_refuse(family: str, tmp_path: Path) -> None:
    """
    With C{whenDown} set to refuse, clients are refused while no destination is
    up, and accepted after, as often as that happens.
    """
    async with stage(explicit(family, tmp_path), whenDown="refuse") as on:
        server = await on.serve(make=Echo)
        again = TCP4ServerEndpoint(reactor, server.number, interface="127.0.0.1")
        for _ in range(2):
            await on.assertEchoed()
            await server.stop()
            first = await on.client()  # finds out
            await until(lambda: on.recorder.listeners[-1][1] == "refusing")
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await on.client()
            await server.listen(again)
            await on.assertEchoed(first)
        await on.assertEchoed()


@pytest_twisted.ensureDeferred
async def test_refuseFromTheStart(tmp_path: Path) -> None:
    """
    A balancer also refuses while it has no destination yet, and again when the last one
    is removed.
    """
    async with stage(explicit("tcp4", tmp_path), whenDown="refuse") as on:
        with pytest.raises(ConnectionRefusedError):
            await on.client()
        await on.serve(make=Echo)
        await on.assertEchoed()
        on.balancer.pause()
        client = await on.client()
        on.balancer.resume()
        await on.assertEchoed(client)
        await on.balancer.remove("a")
        with pytest.raises(ConnectionRefusedError):
            await on.client()


@pytest_twisted.ensureDeferred
async def test_refuseAndStartAgain(tmp_path: Path) -> None:
    """
    A balancer that was stopped while it refused refuses when it is started
    again, until a destination is up.
    """
    async with stage(explicit("tcp4", tmp_path), whenDown="refuse") as on:
        server = await on.serve(make=Echo)
        again = TCP4ServerEndpoint(reactor, server.number, interface="127.0.0.1")
        await server.stop()
        await on.client()
        await until(lambda: on.recorder.listeners[-1][1] == "refusing")
        await on.stop()
        on.balancer.startService()
        with pytest.raises(ConnectionRefusedError):
            await on.client()
        await server.listen(again)
        await until(lambda: on.recorder.listeners[-1][1] == "listening")
        await on.assertEchoed()


# Clients that wait.


@pytest_twisted.ensureDeferred
async def test_resetInQueue() -> None:
    """
    A client that is reset while it waits frees its place, and no destination
    ever sees it.
    """
    async with stage() as on:
        server = await on.serve(make=Echo)
        on.balancer.pause()
        client = await on.client()
        client.write(b"never mind")
        await until(lambda: on.balancer.waiting == 1)
        client.reset()
        await until(lambda: on.balancer.waiting == 0)
        assert on.recorder.outcomes == {1: Outcome.CLIENT_LEFT_QUEUE}
        on.balancer.resume()
        await on.assertEchoed()
        assert len(server.peers) == 1


@pytest_twisted.ensureDeferred
async def test_resetJustBefore() -> None:
    """
    So does a client that is reset in the moment before its turn.
    """
    async with stage(queueTimeout="600s", idleTimeout=0, halfClosedTimeout=0) as on:
        server = await on.serve(make=Echo)
        on.balancer.pause()
        client = await on.client()
        await until(lambda: on.balancer.waiting == 1)
        raw = client.transport.getHandle()
        client.transport.stopReading()
        raw.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )  # a close resets
        client.transport.connectionLost(Failure(ConnectionRefusedError()))
        on.balancer.resume()
        await on.assertEchoed()
        assert len(server.peers) == 1
        assert on.recorder.outcomes[1] is Outcome.CLIENT_LEFT_QUEUE


@pytest_twisted.ensureDeferred
async def test_halfCloseInQueue() -> None:
    """
    A client that has sent everything and ended its half while it waits is served when
    its turn comes.
    """
    async with stage() as on:
        await on.serve(make=Echo)
        on.balancer.pause()
        client = await on.client()
        echoed = Deferred.fromCoroutine(on.assertEchoed(client))
        await until(lambda: on.balancer.waiting == 1)
        await pause(0.6)  # longer than the time between two looks
        assert on.balancer.waiting == 1
        on.balancer.resume()
        await echoed


@pytest_twisted.ensureDeferred
async def test_queueFull() -> None:
    """
    While the queue is full no client is accepted, and none is turned away: the kernel
    holds them. Once a quarter has gone more are accepted; all are served.
    """
    async with stage(queueSize=8, slots=1) as on:
        server = await on.serve()
        clients = [await on.client() for _ in range(20)]
        await until(lambda: on.balancer.waiting == 8)
        assert not pollable(on)
        seen = []
        for served in range(4):
            (await server.peer(served)).close()
            clients[served].close()
            await server.peer(served + 1)
            await until(lambda: not pollable(on))
            seen.append(on.balancer.waiting)
        assert seen == [7, 8, 7, 8]
        for served in range(4, 20):
            (await server.peer(served)).close()
            clients[served].close()
        await until(lambda: len(on.recorder.outcomes) == 20)
        assert set(on.recorder.outcomes.values()) == {Outcome.DONE}


def pollable(on: Stage) -> bool:
    """
    Say whether the balancer waits for connections on its listener.
    """
    (listener,) = on.balancer._pool.listeners
    assert isinstance(listener._port, Port)
    poller = on.balancer._poller
    assert poller is not None
    return listener._port.fileno() in poller._served


@pytest_twisted.ensureDeferred
async def test_maxConnections() -> None:
    """
    No more connections are open at a time than is set; the others wait in the
    kernel, and all are served.
    """
    async with stage(maxConnections=3) as on:
        server = await on.serve()
        clients = [await on.client() for _ in range(10)]
        for served in range(10):
            peer = await server.peer(served)
            assert len(on.balancer.sessions) <= 3
            peer.close()
            clients[served].close()
        await until(lambda: len(on.recorder.outcomes) == 10)
        assert set(on.recorder.outcomes.values()) == {Outcome.DONE}
        await until(lambda: pollable(on))


@pytest_twisted.ensureDeferred
async def test_batch() -> None:
    """
    With batches set, clients still arrive in order, and none waits for company
    for long.
    """
    async with stage(acceptBatch=4, acceptDelay="20ms") as on:
        await on.serve(make=Echo)
        await together(10, 3, on.assertEchoed)
        assert [n for n, _ in on.recorder.pulls] == list(range(1, 31))


# Starting and stopping.


@pytest_twisted.ensureDeferred
async def test_stop() -> None:
    """
    A stop refuses new clients at once; those that the kernel had accepted, those
    that wait and those that are served finish.
    """
    async with stage(slots=1) as on:
        server = await on.serve(make=Echo)
        clients = [await on.client() for _ in range(3)]
        await until(lambda: on.balancer.waiting == 2)
        port = int(on.balancer.addresses[0].rpartition(":")[2])
        late = socket.create_connection(("127.0.0.1", port))
        stopping = on.balancer.stopService()
        await until(lambda: on.recorder.listeners[-1][1] == "closed")
        with pytest.raises(ConnectionRefusedError):
            await connected(port)
        assert not stopping.called
        for client in clients:
            await on.assertEchoed(client)
        late.sendall(b"hello")
        late.shutdown(socket.SHUT_WR)
        late.setblocking(False)
        await until(lambda: stopping.called)
        assert late.recv(100) == b"hello"
        late.close()
        assert len(server.peers) == 4
        assert set(on.recorder.outcomes.values()) == {Outcome.DONE}


@pytest_twisted.ensureDeferred
async def test_drainTimeout() -> None:
    """
    A session on which nothing happens does not hold up a stop past the drain
    timeout.
    """
    async with stage(drainTimeout="100ms") as on:
        server = await on.serve()
        client = await on.client()
        peer = await server.peer()
        await on.balancer.stopService()
        await client.closed()
        await peer.closed()
        assert client.wasReset and peer.wasReset
        assert on.recorder.outcomes == {1: Outcome.KILLED}


@pytest_twisted.ensureDeferred
async def test_cutDrain() -> None:
    """
    Sessions do not live on past the moment in which the drain is cut short.
    """
    async with stage(drainTimeout="60s", slots=1) as on:
        server = await on.serve()
        served, waiting = await on.client(), await on.client()
        await server.peer()
        await until(lambda: on.balancer.waiting == 1)
        stopping = on.balancer.stopService()
        on.balancer.cutDrain()
        await until(lambda: stopping.called)
        await served.closed()
        await until(lambda: waiting.ended or waiting.lost)
        assert on.recorder.outcomes == {1: Outcome.KILLED, 2: Outcome.KILLED_QUEUE}


class Stopping(Recorder):
    """
    An observer that stops the balancer at the first event of a kind.
    """

    balancer: LoadBalancer

    def __init__(self, event: str) -> None:
        super().__init__()
        self._event = event
        self.stopping: Deferred[None] | None = None

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Stop, without waiting for the sessions.
        """
        super().sessionChanged(session, event)
        if event == self._event and self.stopping is None:
            self.stopping = self.balancer.stopService()


@pytest.mark.parametrize("relay", ["auto", "portable"])
@pytest.mark.parametrize(
    "event",
    [
        SESSION_ACCEPTED,
        SESSION_QUEUED,
        SESSION_PULLED,
        SESSION_CONNECTED,
        SESSION_ENDED,
    ],
)
@pytest_twisted.ensureDeferred
async def test_stoppedByAnObserver(event: str, relay: Any) -> None:
    """
    An observer may stop the balancer at any step of a session, which then ends
    once, by that stop.
    """
    server = await Server(Echo).listen()
    observer = Stopping(event)
    balancer = observer.balancer = LoadBalancer(
        reactor,
        ["tcp:0:interface=127.0.0.1"],
        [f"127.0.0.1:{server.number}"],
        observers=[observer],
        drainTimeout=0,
        relay=relay,
    )
    with capturedLogs() as events:
        balancer.startService()
        client = await connected(int(balancer.addresses[0].rpartition(":")[2]))
        client.close()
        await until(lambda: observer.stopping)
        assert observer.stopping is not None
        await observer.stopping.addTimeout(LIMIT, reactor)
        await client.closed()
        await server.stop()
    assert [each for each in events if "log_failure" in each] == []
    assert balancer.sessions == []
    assert balancer.destinations[0].active == 0
    assert list(observer.outcomes) == [1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest_twisted.ensureDeferred
async def test_again(family: str, tmp_path: Path) -> None:
    """
    A balancer can be started, stopped and started again, at the same address.
    """
    async with stage(explicit(family, tmp_path)) as on:
        await on.serve(make=Echo)
        for _ in range(3):
            await on.assertEchoed()
            await on.balancer.stopService()
            with pytest.raises(Exception):  # noqa: B017  # of each family its own
                await on.client()
            on.balancer.startService()
        await on.assertEchoed()


@pytest_twisted.ensureDeferred
async def test_cannotStart() -> None:
    """
    When one listener's address is taken the start fails and names it, and the other
    listeners do not stay open.
    """
    free, taken = freePort(), await Server().listen()
    balancer = LoadBalancer(
        reactor, [f"127.0.0.1:{free}", f"127.0.0.1:{taken.number}"], observers=[]
    )
    for start in (balancer.privilegedStartService, balancer.startService):
        with pytest.raises(CannotListen, match=f"127.0.0.1:{taken.number}: .*in use"):
            start()
        collectUnbound()
        await pause(0)
        with pytest.raises(ConnectionRefusedError):
            await connected(free)
    await taken.stop()
    balancer.startService()
    await balancer.stopService()


# Inside other programs.


@pytest_twisted.ensureDeferred
async def test_takeOver() -> None:
    """
    A program that has read from a client of its own can hand the client over; no byte
    is lost.
    """
    async with stage() as on:
        await on.serve(make=Echo)

        class Greeter(Protocol):
            """
            Reads a line, and hands over.
            """

            def dataReceived(self, data: bytes) -> None:
                """
                Hand over with what came.
                """
                on.balancer.takeOver(self, data)

        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port: Any = await listening.listen(Factory.forProtocol(Greeter))
        client = await connected(port.getHost().port)
        client.write(b"first ")
        assert await client.got(6) == b"first "
        client.received.clear()
        await assertEchoed(client, b"second")
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_factory() -> None:
    """
    The balancer's factory can be given to any endpoint or service.
    """
    async with stage() as on:
        await on.serve(make=Echo)
        endpoint = TCP4ServerEndpoint(reactor, freePort(), interface="127.0.0.1")
        port: Any = await endpoint.listen(on.balancer.factory)
        client = await connected(port.getHost().port)
        await on.assertEchoed(client)
        number = port.getHost().port
        await port.stopListening()
        service = StreamServerEndpointService(endpoint, on.balancer.factory)
        service.startService()
        client = await connected(number)
        await on.assertEchoed(client)
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_changes() -> None:
    """
    Destinations come and go under load, and no client notices.
    """
    async with stage() as on:
        await on.serve("a", SlowEcho)

        async def visits() -> None:
            await together(20, 10, on.assertEchoed)

        load = Deferred.fromCoroutine(visits())
        await pause(0.02)
        await on.serve("b", SlowEcho)
        await pause(0.02)
        await on.balancer.remove("a")
        on.balancer.pause("b")
        await pause(0.02)
        on.balancer.resume("b")
        await on.serve("a", SlowEcho)
        await load
        assert set(on.recorder.outcomes.values()) == {Outcome.DONE}
        assert len(on.recorder.outcomes) == 200


# Too few descriptors.

STARVED = textwrap.dedent(
    """
    import os, resource, sys
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ServerEndpoint
    from twisted.logger import globalLogBeginner, textFileLogObserver
    from iawlb.service import LoadBalancer

    globalLogBeginner.beginLoggingTo(
        [textFileLogObserver(sys.stderr)], redirectStandardIO=False
    )
    balancer = LoadBalancer(
        reactor,
        [TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")],
        [f"127.0.0.1:{sys.argv[1]}"],
        drainTimeout=0,
    )
    reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)

    def start():
        balancer.startService()
        # Leave so many that are free.
        spare = [os.dup(0) for _ in range(int(sys.argv[2]))]
        for number in spare:
            os.close(number)
        most = max(spare) + 1
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        print(balancer.addresses[0].rpartition(":")[2], flush=True)

    reactor.callWhenRunning(start)
    reactor.run()
    """
)


class Starved(ProcessProtocol):
    """
    A balancer in a process of its own that may open few descriptors.
    """

    transport: Any

    def __init__(self, destination: int, spare: int) -> None:
        self.output = b""
        self.log = b""
        self.ended = False
        reactor.spawnProcess(
            self,
            sys.executable,
            [sys.executable, "-c", STARVED, str(destination), str(spare)],
            os.environ,
        )

    def outReceived(self, data: bytes) -> None:
        """
        The port's number.
        """
        self.output += data

    def errReceived(self, data: bytes) -> None:
        """
        The log.
        """
        self.log += data

    def processEnded(self, reason: Failure) -> None:
        """
        Called when the process is over.
        """
        self.ended = True

    async def port(self) -> int:
        """
        Wait until the balancer listens, and return its port.
        """
        await until(lambda: self.output.endswith(b"\n") or self.ended)
        assert self.output, self.log.decode()
        return int(self.output)

    def processorTime(self) -> float:
        """
        The processor time that the process has used, in seconds.
        """
        fields = Path(f"/proc/{self.transport.pid}/stat").read_text().rpartition(")")
        user, system = fields[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def lines(self, pattern: str) -> int:
        """
        Count the lines of the log in which something is said.
        """
        return sum(
            re.search(pattern, line) is not None
            for line in self.log.decode().splitlines()
        )

    async def stop(self) -> None:
        """
        End the process.
        """
        self.transport.signalProcess(signal.SIGTERM)
        await until(lambda: self.ended)


@implementer(IStreamClientEndpoint)
class Lacking:
    """
    An endpoint whose connects fail at first for lack of a descriptor.
    """

    def __init__(self, real: IStreamClientEndpoint) -> None:
        self.real = real
        self.lacking = True

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        Connect, or fail.
        """
        if self.lacking:
            return fail(ConnectError(errno.EMFILE, "too many open files"))
        connecting: Deferred[Any] = self.real.connect(protocolFactory)
        return connecting


@pytest_twisted.ensureDeferred
async def test_acceptsNoMore() -> None:
    """
    While a connect waits for a descriptor no other client is accepted, which would take
    the descriptor; then all clients are served.
    """
    server = await Server(Echo).listen()
    endpoint = Lacking(TCP4ClientEndpoint(reactor, "127.0.0.1", server.number))
    async with stage() as on:
        on.servers.append(server)
        on.balancer.add(endpoint)
        clients = [await on.client()]
        await until(lambda: on.recorder.pulls)
        await until(lambda: not pollable(on))
        clients += [await on.client() for _ in range(4)]
        await pause(0.05)
        assert len(on.balancer.sessions) == 1
        endpoint.lacking = False
        for client in clients:
            await on.assertEchoed(client)


@pytest_twisted.ensureDeferred
async def test_noLocalAddress() -> None:
    """
    A destination with a local address that this machine does not have is passed over,
    and the other destination serves as if it were alone: accepting never stops.
    """
    server = await Server(Echo).listen()
    async with stage() as on:
        on.servers.append(server)
        there = f"tcp:127.0.0.1:{server.number}"
        on.balancer.add(f"{there}:bindAddress=192.0.2.1", name="bad")
        on.balancer.add(there, name="good")
        for _ in range(10):
            client = await on.client()
            assert pollable(on)
            await on.assertEchoed(client)
        assert [each.state for each in on.balancer.destinations] == ["up", "up"]
    assert {name for _, name in on.recorder.pulls} == {"bad", "good"}


@pytest.mark.parametrize("spare", (6, 7))
@pytest_twisted.ensureDeferred
async def test_noDescriptor(spare: int) -> None:
    """
    A balancer that has too few descriptors for its clients serves as many as it can,
    and the others after them. No client is lost; the process does not spin while it
    waits, and logs once a second what is short.
    """
    server = await Server(Echo).listen()
    balancer = Starved(server.number, spare)
    try:
        port = await balancer.port()
        began = reactor.seconds()
        clients = [await connected(port) for _ in range(20)]
        await until(lambda: balancer.lines("cannot accept"))
        before = balancer.processorTime()
        await pause(0.6)
        assert balancer.processorTime() - before < 0.2
        seconds = int(reactor.seconds() - began) + 2  # begun ones count
        assert balancer.lines("cannot accept|could not connect") <= 2 * seconds
        await together(20, 1, lambda: assertEchoed(clients.pop()))
    finally:
        await balancer.stop()
        await server.stop()
    assert balancer.lines("Traceback") == 0

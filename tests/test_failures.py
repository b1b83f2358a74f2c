"""
Tests for steps of a session that raise what nobody expected.
"""

from __future__ import annotations

import os
import socket
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend.connector import DestinationConnector
from iawlb.backend.socketconnector import PendingConnect, SocketConnector
from iawlb.core.destination import Destination
from iawlb.core.line import Line
from iawlb.core.outcome import Outcome
from iawlb.core.queue import ConnectionQueue
from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.frontend.acceptor import Acceptor
from iawlb.frontend.admission import Admission
from iawlb.frontend.factory import Arrival, Frontend
from iawlb.frontend.listeners import Listeners
from iawlb.pool import Pool
from iawlb.relay.context import RelayContext
from iawlb.relay.fast import FastRelay
from iawlb.relay.fastsocket import Socket, _Discarding
from iawlb.relay.plain import PlainClient
from iawlb.relay.poller import SocketPoller
from iawlb.relay.portable import PortableRelay
from iawlb.relay.rules import Rules
from iawlb.relay.side import Side, SideOwner
from iawlb.workers.serving import Serving
from iawlb.workers.worker import Worker
from tests.doubles import Rig, Wire, logged
from tests.net import Echo, reactor, until
from tests.stage import stage

# The steps, in the order in which they are taken, for each kind of relay. None of
# these is what catches the exceptions of others.

UNBEGUN: list[tuple[type, str]] = [
    (Frontend, "accepted"),
    (PlainClient, "__init__"),
    (Arrival, "sideMade"),
    (SessionTable, "begin"),
]
"""
Before there is a session: the connection is closed.
"""

SPARED: list[tuple[type, str]] = [
    (Acceptor, "accept"),
    (ConnectionQueue, "pull"),
    (Destination, "canPull"),
]
"""
Done again a little later, so that the client is served all the same.
"""

COMMON: list[tuple[type, str]] = [
    (Admission, "enter"),
    (ConnectionQueue, "put"),
    (Serving, "__init__"),
    (Destination, "take"),
    (Serving, "start"),
    (DestinationConnector, "connect"),
    (Serving, "_relayTo"),
    (Rules, "__init__"),
    (Worker, "connected"),
    (Destination, "connected"),
    (Rules, "sideEnded"),
    (Rules, "sideLost"),
    (Serving, "_released"),
    (Worker, "given"),
    (Worker, "_give"),
    (Destination, "give"),
    (Serving, "_ended"),
    (SessionTable, "end"),
    (Session, "finish"),
]

FAST: list[tuple[type, str]] = [
    (SocketConnector, "begin"),
    (PlainClient, "handOver"),
    (FastRelay, "__init__"),
    (Socket, "__init__"),
    (FastRelay, "start"),
    (Socket, "start"),
    (SocketPoller, "add"),
    (Socket, "ready"),
    (Socket, "_end"),
    (Socket, "endWriting"),
    (Socket, "_sendEnd"),
    (Socket, "close"),
]

PORTABLE: list[tuple[type, str]] = [
    (PortableRelay, "__init__"),
    (PortableRelay, "start"),
    (Side, "feedFrom"),
    (Side, "resumeProducing"),
    (PortableRelay, "sideRead"),
    (Side, "write"),
    (PortableRelay, "sideEnded"),
    (Side, "endWriting"),
    (Side, "close"),
    (PortableRelay, "sideLost"),
]


class Once:
    """
    Makes a method raise once.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> None:
        self.fired = False
        real = getattr(kind, name)

        def step(*arguments: Any, **named: Any) -> Any:
            if not self.fired:
                self.fired = True
                raise MemoryError(name)
            return real(*arguments, **named)

        monkeypatch.setattr(kind, name, step)


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """
    Collect the failures that are logged.
    """
    logged: list[str] = []

    def failure(self: Logger, format: str, *_: object, **fields: Any) -> None:
        logged.append(format.format(**fields))

    monkeypatch.setattr(Logger, "failure", failure)
    return logged


def files() -> int:
    """
    Count the descriptors.
    """
    return len(os.listdir("/proc/self/fd"))


CASES = [
    *(("fast", *step, ()) for step in UNBEGUN),
    *(("fast", *step, (Outcome.DONE,)) for step in SPARED),
    *(("fast", *step, (Outcome.FAILED,)) for step in COMMON + FAST),
    *(("portable", *step, (Outcome.FAILED,)) for step in COMMON + PORTABLE),
]


@pytest.mark.parametrize(("relay", "kind", "name", "outcomes"), CASES)
@pytest_twisted.ensureDeferred
async def test_raises(
    relay: str,
    kind: type,
    name: str,
    outcomes: tuple[Outcome, ...],
    monkeypatch: pytest.MonkeyPatch,
    failures: list[str],
) -> None:
    """
    Whatever step of a session raises, the session ends, with both of its
    connections, its slot is free for the next client, and it is logged once.
    """
    async with stage(slots=1, relay=relay) as on:
        await on.serve(make=Echo)
        await on.assertEchoed()
        await until(lambda: not on.balancer.sessions)
        (destination,) = on.balancer.destinations
        before, ended = files(), len(on.recorder.outcomes)
        step = Once(monkeypatch, kind, name)
        port = int(on.balancer.addresses[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            client.send(b"x")
            await until(lambda: step.fired or heard(client))
            if not step.fired or (kind, name) in SPARED:
                client.shutdown(socket.SHUT_WR)
                await until(lambda: step.fired)
            if (kind, name) in SPARED:
                await until(lambda: len(on.recorder.outcomes) > ended)
            else:
                # By itself, while the client stays.
                await until(lambda: not on.balancer.sessions)
                await until(lambda: heard(client))
        await until(lambda: not on.balancer.sessions)
        await until(lambda: not destination.active)
        assert (destination.active, destination.connecting) == (0, 0)
        await until(lambda: files() <= before)
        assert tuple(on.recorder.outcomes.values())[ended:] == outcomes
        await on.assertEchoed()
        await until(lambda: not on.balancer.sessions)
    assert step.fired
    assert len(failures) == 1


def heard(client: socket.socket) -> bool:
    """
    Return whether a client has received an answer, or its end.
    """
    try:
        client.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class ConnectTests(SynchronousTestCase):
    """
    Steps that raise while a session is not relayed as yet.
    """

    def once(self, kind: type, name: str) -> None:
        """
        Have a method raise once.
        """
        patcher = pytest.MonkeyPatch()
        self.addCleanup(patcher.undo)
        Once(patcher, kind, name)

    def assertFailed(self, rig: Rig, *clients: Wire) -> None:
        """
        Sessions have ended, that is logged, and the next one is served.
        """
        for client in clients:
            self.assertIn(client.closing, ("abort", "close"))
            if client.connected:
                client.lose()
        rig.advance(0.3)
        numbers = range(1, len(clients) + 1)
        self.assertEqual(rig.recorder.outcomes, dict.fromkeys(numbers, Outcome.FAILED))
        (destination,) = rig.balancer.destinations
        self.assertEqual((destination.active, destination.connecting), (0, 0))
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        (backend,) = rig.backends
        backend.hold = False
        before = len(backend.wires)
        rig.client()
        self.assertEqual(len(backend.wires), before + 1)

    def test_failedConnect(self) -> None:
        """
        The step after a failed connect raises.
        """
        for kind, name in (
            (Worker, "failed"),
            (Worker, "_putBack"),
            (Serving, "release"),
            (ConnectionQueue, "putBack"),
            (Destination, "failedOnce"),
        ):
            rig = Rig(slots=1)
            (backend,) = rig.backends
            backend.hold = True
            client = rig.client()
            self.once(kind, name)
            backend.fail(ConnectionRefusedError())
            self.assertFailed(rig, client)

    def test_someArePutBack(self) -> None:
        """
        Putting back one of several sessions raises: the other keeps its place.
        """
        rig = Rig()
        (backend,) = rig.backends
        backend.hold = True
        rig.clients(3)
        backend.succeed()
        real = ConnectionQueue._enqueue
        calls = iter((False, True))

        def stand(queue: ConnectionQueue, session: Session, line: Line) -> None:
            if next(calls):
                raise MemoryError()
            real(queue, session, line)

        self.patch(ConnectionQueue, "_enqueue", stand)
        backend.fail(ConnectTimeout())
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        self.assertEqual(rig.balancer.waiting, 1)
        backend.hold = False
        rig.advance(0.2)
        self.assertEqual(rig.recorder.pulls[-1], (2, "a"))
        self.assertEqual(rig.balancer.destinations[0].active, 2)

    def test_afterPutBack(self) -> None:
        """
        A step behind the one that put the session back: the session waits on.
        """
        rig = Rig()
        (backend,) = rig.backends
        backend.hold = True
        rig.client()
        self.once(Pool, "sessionsPutBack")
        backend.fail(ConnectTimeout())
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        self.assertEqual(rig.balancer.waiting, 1)
        backend.hold = False
        rig.advance(0.2)
        self.assertEqual((len(backend.wires), rig.recorder.outcomes), (2, {}))

    def test_pendingConnect(self) -> None:
        """
        A step of a connect that takes a while raises: the connect has failed.
        """
        connector, handle = Mock(pending={}), Mock()
        failed: list[Exception] = []
        pending = PendingConnect(connector, handle, 1.0, Mock(), failed.append)
        connector.pending[pending] = None
        pending.failed()
        pending.failed()
        self.assertEqual(len(failed), 1)
        handle.close.assert_called_once_with()

    def test_sideOwner(self) -> None:
        """
        The owner raises for bytes that come before there is a relay: that connection is
        reset.
        """

        class Owner(SideOwner):
            def sideRead(self, side: Any, data: bytes) -> None:
                raise MemoryError()

        side = Side(Owner(), RelayContext(1000))
        wire = Wire(side)
        side.makeConnection(wire)
        wire.receive(b"x")
        self.assertEqual(wire.closing, "abort")
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)

    def test_lostSide(self) -> None:
        """
        The owner raises for the loss of a connection that is not relayed yet: the
        connection is lost, and nothing else is affected.
        """

        class Owner(SideOwner):
            def sideLost(self, side: Any, reset: bool) -> None:
                raise MemoryError()

        side = Side(Owner(), RelayContext(1000))
        wire = Wire(side)
        side.makeConnection(wire)
        wire.lose()
        self.assertIsNone(wire.closing)
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)

    def test_reader(self) -> None:
        """
        A reader that the poller serves raises: its C{connectionLost} is called, and if
        that raises too, nothing else is affected.
        """
        poller = SocketPoller(reactor, 1000)
        poller.start()
        self.addCleanup(poller.stop)
        mine, its = socket.socketpair()
        self.addCleanup(mine.close)
        self.addCleanup(its.close)
        reader = Mock()
        reader.fileno.return_value = mine.fileno()
        reader.doRead.side_effect = MemoryError()
        reader.connectionLost.side_effect = MemoryError()
        poller.addReader(reader)
        its.send(b"x")
        poller.doRead()
        poller.doRead()
        reader.doRead.assert_called_once_with()
        reader.connectionLost.assert_called_once()
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)

    def test_discarding(self) -> None:
        """
        Discarding a client's bytes after the destination is gone raises: the session
        ends.
        """
        ours = Mock()
        _Discarding(ours).failed()
        ours.failed.assert_called_once_with()

    def test_clientLeaves(self) -> None:
        """
        The step after a client's leaving during the connect raises.
        """
        for kind, name in ((Worker, "dropped"), (Destination, "connectEnded")):
            rig = Rig(slots=1)
            (backend,) = rig.backends
            backend.hold = True
            client = rig.client()
            self.once(kind, name)
            client.closing = "abort"
            client.lose(reset=True)
            self.assertEqual(backend.cancelled, 1)
            self.assertFailed(rig, client)

    def test_batch(self) -> None:
        """
        One session of a batch raises when it enters the queue; the others are served.
        """
        rig = Rig(acceptBatch=3)
        self.once(ConnectionQueue, "put")
        first, *_ = rig.clients(3)
        self.assertEqual(len(rig.backends[0].wires), 2)
        self.assertEqual(first.closing, "close")
        first.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.FAILED})
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)

    def test_probe(self) -> None:
        """
        A probe: the next one comes all the same.
        """
        rig = Rig()
        (backend,) = rig.backends
        backend.refuse = ConnectTimeout()
        rig.client()
        backend.refuse = None
        self.once(DestinationConnector, "connect")
        rig.advance(0.5)
        self.assertEqual(rig.states(), ["up"])

    def test_failing(self) -> None:
        """
        Even if ending a session raises too, the session ends.
        """
        rig = Rig(slots=1)
        (backend,) = rig.backends
        backend.hold = True
        client = rig.client()
        self.once(Serving, "cancelConnect")
        self.once(Worker, "failed")
        backend.fail(ConnectionRefusedError())
        client.closing = client.closing or "abort"
        self.assertFailed(rig, client)

    def test_room(self) -> None:
        """
        Looking for room after a session raises: it is tried again after the next
        session.
        """
        rig = Rig(maxConnections=1)
        pool = rig.balancer._pool
        client = rig.client()
        self.assertEqual(pool._room(), 0)
        looked: list[Listeners] = []

        def check(listeners: Listeners) -> None:
            looked.append(listeners)
            if len(looked) == 1:
                raise MemoryError()

        self.patch(Listeners, "check", check)
        rig.backends[0].wires[0].lose()
        client.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.DONE})
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        rig.client()
        self.assertEqual(len(looked), 2)


class LogTests(SynchronousTestCase):
    """
    How failures are logged.
    """

    def test_oncePerSecond(self) -> None:
        """
        The first failure has its traceback, and the others are counted.
        """
        clock = Clock()
        lines = logged(self)
        log = FailureLog(clock, "testing")
        for _ in range(5):
            try:
                raise MemoryError()
            except MemoryError:
                log.add()
        clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        self.assertEqual(formatEvent(lines[-1]), "testing failed 4 times more")
        log.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

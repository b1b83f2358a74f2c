"""
Pauses and slots of a pool over sockets, with both relays.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from iawlb.control.operations import Operations
from iawlb.core.events import SESSION_PULLED
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.pool import Pool
from tests.doubles import Recorder
from tests.net import LIMIT, Echo, Peer, freePort, pause, reactor, until
from tests.rig import RELAYS
from tests.stage import Stage, stopServer, together

pytestmark = pytest.mark.parametrize("relay", RELAYS)


@asynccontextmanager
async def stage(relay: str, **settings: Any) -> AsyncIterator[Stage]:
    """
    Run a balancer.
    """
    made = Stage(["tcp:0:interface=127.0.0.1"], {**RELAYS[relay], **settings})
    made.balancer.startService()
    try:
        yield made
    finally:
        await made.close()


def poolOf(made: Stage) -> Pool:
    """
    Return the pool.
    """
    return made.balancer.pools["default"]


def begin(operation: Any) -> Deferred[Any]:
    """
    Begin an operation.
    """
    waiting: Deferred[Any] = Deferred.fromCoroutine(operation)
    return waiting.addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_restart(relay: str) -> None:
    """
    A server that is restarted in a pause costs no client an error: those that come
    meanwhile wait, and are served when it is back.
    """
    async with stage(relay) as made:
        operations = Operations(made.balancer)
        number = freePort()

        def endpoint() -> TCP4ServerEndpoint:
            return TCP4ServerEndpoint(reactor, number, interface="127.0.0.1")

        server = await made.serve("a", Echo, endpoint())
        load = Deferred.fromCoroutine(together(8, 20, made.assertEchoed))
        await until(lambda: len(server.peers) > 20)
        result = await begin(operations.pause(target="default", by="test"))
        assert result == {"result": "done", "left": 0, "messages": []}
        await stopServer(server)
        await until(lambda: len(poolOf(made).queue) == 8)
        server = await made.serve("unused", Echo, endpoint())
        made.balancer.remove("unused")
        await begin(operations.resume(target="default", spread=0.2))
        await load
        assert set(made.recorder.outcomes.values()) == {Outcome.DONE}
        assert len(made.recorder.outcomes) == 160


@pytest_twisted.ensureDeferred
async def test_races(relay: str) -> None:
    """
    Pauses and resumes that race under load: each pause ends, as drained or undone, and
    no client is lost.
    """
    async with stage(relay) as made:
        operations = Operations(made.balancer)
        await made.serve("a", Echo)
        results: Counter[str] = Counter()
        load = Deferred.fromCoroutine(together(8, 25, made.assertEchoed))
        chance = random.Random(7)

        async def race() -> None:
            await pause(chance.random() * 0.004)
            pausing = begin(operations.pause(target="default"))
            if chance.random() < 0.5:
                await pause(chance.random() * 0.004)
            await begin(operations.resume(target="default"))
            results[(await pausing)["result"]] += 1

        await together(4, 50, race)
        assert results.total() == 200
        # Which of the two comes first is up to the machine.
        assert set(results) <= {"done", "undone"}
        await load
        assert set(made.recorder.outcomes.values()) == {Outcome.DONE}
        assert poolOf(made).state == "up"


class Faulty(Peer):
    """
    A server's peer that answers, closes or resets.
    """

    chance = random.Random(3)

    def connectionMade(self) -> None:
        """
        Choose.
        """
        choice = self.chance.random()
        if choice < 0.2:
            self.reset()
        elif choice < 0.4:
            self.close()

    def dataReceived(self, data: bytes) -> None:
        """
        Answer, and close.
        """
        super().dataReceived(data)
        self.write(data)
        self.close()

    def readConnectionLost(self) -> None:
        """
        Close with the client.
        """
        super().readConnectionLost()
        self.close()


class Most(Recorder):
    """
    Remembers the largest number of sessions that held a slot at a time.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.most = 0

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Compare.
        """
        if event == SESSION_PULLED:
            self.most = max(self.most, self.pool.active)


@pytest_twisted.ensureDeferred
async def test_slotsUnderFaults(relay: str) -> None:
    """
    Whatever servers and clients do, the slots of the pool are used and never exceeded,
    and all are free in the end.
    """
    async with stage(relay, poolSlots=5, backoff="10ms", backoffMax="20ms") as made:
        pool = poolOf(made)
        most = Most(pool)
        made.balancer.observe(most)
        servers = [await made.serve(name, Faulty) for name in "abc"]
        chance = random.Random(5)
        sent = 0

        async def visit() -> None:
            nonlocal sent
            sent += 1
            if sent == 100:
                await servers[0].port.stopListening()
            client = await made.client()
            if chance.random() < 0.7:
                client.write(b"hello")
            if chance.random() < 0.2:
                client.reset()
            elif chance.random() < 0.5:
                client.end()
            else:
                await pause(0.01)
                client.close()
            await until(lambda: client.ended or client.lost)
            client.close()
            await client.closed()

        await together(20, 15, visit)
        await until(lambda: not made.balancer.sessions)
        assert most.most == 5
        assert pool.active == 0
        assert len(made.recorder.outcomes) == 300

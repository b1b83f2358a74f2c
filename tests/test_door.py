"""
Tests for who may come into a pool, and who waits outside.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.ssl import (
    Certificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import Clock
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iawlb.admin.views import sessionState
from iawlb.core.clientinfo import ClientInfo
from iawlb.core.discipline import FIRST_COME
from iawlb.core.fairline import FairLine
from iawlb.core.outcome import Outcome
from iawlb.core.sessionlimits import Over
from iawlb.frontend.door import REASONS
from iawlb.frontend.refusals import INTERVAL, MOST_LINES, Refusals
from iawlb.networkvalidators import networks
from iawlb.proxyvalidators import Trusted
from iawlb.settings import ListenerSettings
from tests.doubles import Backend, Rig, accept, logged
from tests.net import Echo, Peer, connected, freePort, reactor, until
from tests.pem import Issued
from tests.stage import Stage, assertEchoed, stage
from tests.test_reload import reloads


def lines(events: Iterable[Any], words: str) -> list[str]:
    """
    List the log lines that contain some words.
    """
    found = [each.get("log_format", "").format(**each) for each in events]
    return [each for each in found if words in each]


def poolOf(rig: Rig) -> Any:
    """
    Return the pool.
    """
    return rig.balancer._pool


def configure(rig: Rig, **changed: Any) -> None:
    """
    Change settings of the pool.
    """
    pool = poolOf(rig)
    pool.configure(replace(pool.settings, **changed))


class ListTests(SynchronousTestCase):
    """
    Allow and deny, in memory.
    """

    def comes(self, rig: Rig, *hosts: str) -> list[bool]:
        """
        Let clients come, and say of each whether it was let in.
        """
        return [
            rig.balancer.factory.buildProtocol(IPv4Address("TCP", host, 1)) is not None
            for host in hosts
        ]

    def test_nobodyIsAsked(self) -> None:
        """
        A pool without such settings asks nobody, and its clients take no step.
        """
        rig = Rig(1)
        self.assertIsNone(rig.balancer.factory.guard)
        self.assertNotIn("accepted", vars(rig.balancer.factory))
        self.assertEqual(rig.balancer.factory.steps, ())
        self.assertIsNone(poolOf(rig).door.turnstile)
        self.assertEqual((poolOf(rig).door.delayed, poolOf(rig).door.sources), (0, 0))

    def test_allowAndDeny(self) -> None:
        """
        Without an allow list all may come but those in deny; with one, nobody else, and
        deny still wins.
        """
        rig = Rig(1, deny="10.1.0.0/16, 2001:db8::/32")
        self.assertEqual(
            self.comes(rig, "10.1.2.3", "10.2.2.3", "::ffff:10.1.0.1", "2001:db8::1"),
            [False, True, False, False],
        )
        rig = Rig(1, allow=["10.0.0.0/8"], deny=["10.1.0.0/16"])
        self.assertEqual(
            self.comes(rig, "10.1.2.3", "10.2.2.3", "192.0.2.1"), [False, True, False]
        )
        self.assertEqual(poolOf(rig).door.refusals.counts["denied"], 2)
        self.assertEqual(poolOf(rig).count.accepted, 0)
        poolOf(rig).stop()

    def test_changed(self) -> None:
        """
        A list that changes while the balancer runs holds for the next client; those
        that came before stay. When it is gone nobody is asked any more.
        """
        rig = Rig(1)
        first = rig.client("10.1.2.3")
        configure(rig, deny="10.0.0.0/8")
        self.assertEqual(self.comes(rig, "10.1.2.3", "192.0.2.1"), [False, True])
        self.assertIsNone(first.closing)
        configure(rig, deny="")
        self.assertIsNone(rig.balancer.factory.guard)
        self.assertEqual(self.comes(rig, "10.1.2.3"), [True])
        poolOf(rig).stop()

    def test_unix(self) -> None:
        """
        The clients of Unix sockets are not asked for.
        """
        rig = Rig(1, allow="10.0.0.0/8")
        made = rig.balancer.factory.buildProtocol(UNIXAddress(b"/run/x"))
        self.assertIsNotNone(made)
        self.assertIsNotNone(rig.balancer.factory.buildProtocol(None))

    def test_behindProxy(self) -> None:
        """
        Where a PROXY header is expected, only deny is asked about the proxy, and both
        are asked about the client that the header names.
        """
        rig = Rig(1, allow="10.0.0.0/8", deny="10.1.0.0/16,192.0.2.9")
        door = poolOf(rig).door
        listener = ListenerSettings(acceptProxy=Trusted(["192.0.2.0/24"]))
        guard = door.guard(listener)
        assert guard is not None
        for host, let in (
            ("192.0.2.1", True),
            ("192.0.2.9", False),
            ("10.2.0.1", True),
            ("198.51.100.1", False),
        ):
            self.assertIs(guard(IPv4Address("TCP", host, 1)), let)
        (step,) = door.steps(listener)
        for host, let in (("10.2.0.1", True), ("10.1.0.1", False), ("1.2.3.4", False)):
            arrival: Any = Arrived(host)
            step.begin(arrival)
            self.assertEqual(arrival.outcome, None if let else Outcome.REFUSED)
        # A health check of the proxy's own, whose header names no client.
        arrival = Arrived("192.0.2.1")
        arrival.session.info = None
        step.begin(arrival)
        self.assertIsNone(arrival.outcome)
        # Nothing is waited for.
        step.cancel(arrival)
        configure(rig, allow="", deny="")
        self.assertIsNone(door.guard(listener))
        self.assertEqual(door.steps(listener), [])
        self.assertEqual(door.steps(ListenerSettings()), [])
        poolOf(rig).stop()


class Arrived:
    """
    A client in a step.
    """

    outcome: Outcome | None = None

    def __init__(self, host: str) -> None:
        self.session: Any = type("Named", (), {"info": ClientInfo()})()
        self.session.address = IPv4Address("TCP", host, 1)
        self.session.info.peer = IPv4Address("TCP", "192.0.2.1", 1)

    def proceed(self) -> None:
        """
        The step is done.
        """

    def refuse(self, outcome: Outcome, why: str = "") -> None:
        """
        The client is refused.
        """
        self.outcome = outcome


class LimitTests(SynchronousTestCase):
    """
    Limits of sessions, in memory.
    """

    def outcomes(self, rig: Rig) -> list[Outcome | None]:
        """
        List how the sessions ended.
        """
        return list(rig.recorder.outcomes.values())

    def test_refuses(self) -> None:
        """
        A client over a limit is refused before it has a session, and counted by the
        limit.
        """
        rig = Rig(1, maxPerSource=1, overLimit="refuse")
        first = rig.client()
        self.assertEqual(
            rig.balancer.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 5)), None
        )
        self.assertEqual(poolOf(rig).count.accepted, 1)
        self.assertEqual(poolOf(rig).door.refusals.counts["source-sessions"], 1)
        first.lose(reset=True)
        rig.backends[0].wires[0].lose()
        rig.client()
        self.assertEqual(poolOf(rig).count.live, 1)
        self.assertEqual(poolOf(rig).door.sources, 1)
        poolOf(rig).stop()

    def test_refusedWithASession(self) -> None:
        """
        A client whose session has begun before it was found to be over a limit, as one
        behind a PROXY header, ends as that.
        """
        rig = Rig(1, maxPerSource=1, overLimit="refuse")
        rig.client()
        guard, rig.balancer.factory.guard = rig.balancer.factory.guard, None
        second = rig.client()
        self.assertIsNotNone(guard)
        self.assertEqual(second.closing, "close")
        second.lose()
        self.assertEqual(self.outcomes(rig), [Outcome.LIMITED])
        poolOf(rig).stop()

    def test_delays(self) -> None:
        """
        A client over a limit waits outside the queue and enters it when the limit
        allows that; what has passed until then is no wait in the queue.
        """
        rig = Rig(1, sourceRate="2/s")
        rig.clients(3)
        pool = poolOf(rig)
        self.assertEqual((pool.door.delayed, pool.door.delays), (1, 1))
        self.assertEqual(len(rig.recorder.pulls), 2)
        *_, last = rig.balancer.sessions
        self.assertEqual((sessionState(last), last.line), ("delayed", None))
        rig.advance(0.6)
        self.assertEqual(len(rig.recorder.pulls), 3)
        self.assertAlmostEqual(last.queued, 0.5, 2)
        self.assertEqual(sessionState(last), "relaying")
        self.assertEqual(pool.door.delayed, 0)

    def test_leaves(self) -> None:
        """
        A client that leaves while it is delayed is gone, and known as such.
        """
        rig = Rig(1, maxPerSource=1)
        rig.client()
        rig.client().lose(reset=True)
        self.assertEqual(self.outcomes(rig), [Outcome.CLIENT_LEFT_DELAYED])
        self.assertEqual(poolOf(rig).door.delayed, 0)

    def test_tooLong(self) -> None:
        """
        A client is not delayed for longer than the queue time-out.
        """
        rig = Rig(1, maxPerSource=1, queueTimeout=2)
        rig.client()
        second = rig.client()
        rig.advance(2.1)
        self.assertEqual(second.closing, "close")
        second.lose()
        self.assertEqual(self.outcomes(rig), [Outcome.DELAY_TIMEOUT])

    def test_paused(self) -> None:
        """
        Clients that are delayed enter the queue of a paused pool as they would else,
        and wait there with the others.
        """
        rig = Rig(1, sourceRate="10/s")
        pool = poolOf(rig)
        pool.pause()
        rig.clients(15)
        self.assertEqual((len(pool.queue), pool.door.delayed), (10, 5))
        rig.advance(0.55)
        self.assertEqual((len(pool.queue), pool.door.delayed), (15, 0))
        pool.resume()
        rig.advance(0.1)
        self.assertEqual([number for number, _ in rig.recorder.pulls], [*range(1, 16)])

    def test_fullQueue(self) -> None:
        """
        A delayed client waits on while the queue is full, rather than being refused
        there.
        """
        rig = Rig(1, sourceRate="2/s", queueSize=2)
        pool = poolOf(rig)
        pool.pause()
        rig.client("192.0.2.7")
        rig.client("192.0.2.7")
        roomy: Any = Roomy(pool.admission)
        rig.balancer.factory.admission = roomy
        rig.client("192.0.2.7")
        rig.advance(1)
        self.assertEqual((len(pool.queue), pool.door.delayed), (2, 1))
        self.assertEqual(self.outcomes(rig), [])
        pool.resume()
        rig.advance(0.2)
        self.assertEqual((len(pool.queue), pool.door.delayed), (0, 0))

    def test_5000(self) -> None:
        """
        5,000 delayed clients are closed at once when the time to drain is over, and
        nothing of them is left.
        """
        rig = Rig(1, drainTimeout=5)
        pool = poolOf(rig)
        rig.balancer.table.limit = 20_000
        configure(rig, maxSessions=1)
        wires = [rig.client(f"192.0.2.{n % 20}") for n in range(5001)]
        self.assertEqual(pool.door.delayed, 5000)
        stopped = rig.balancer.stopService()
        rig.advance(5.1)
        for each in (*wires, *rig.backends[0].wires):
            each.lose(each.closing == "abort")
        rig.advance(1)
        self.assertEqual(pool.door.delayed, 0)
        self.successResultOf(stopped)
        self.assertEqual(self.outcomes(rig).count(Outcome.KILLED_QUEUE), 5000)
        self.assertEqual((pool.door.turnstile.active, pool.door.sources), (0, 0))
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_drained(self) -> None:
        """
        Clients that are delayed when the balancer stops have their turn, as long as the
        time to drain allows.
        """
        rig = Rig(1, maxPerSource=1, drainTimeout=5)
        first, second = rig.clients(2)
        stopped = rig.balancer.stopService()
        self.assertNoResult(stopped)
        rig.backends[0].wires[0].lose()
        first.lose()
        rig.advance(0.1)
        self.assertEqual(len(rig.recorder.pulls), 2)
        rig.backends[0].wires[1].lose()
        second.lose()
        self.successResultOf(stopped)

    def test_setLater(self) -> None:
        """
        A limit that is set while sessions live counts these; when it is lifted, those
        that it delayed enter.
        """
        rig = Rig(1)
        first, *_ = rig.clients(3)
        configure(rig, maxPerSource=3)
        pool = poolOf(rig)
        self.assertEqual(pool.door.turnstile.active, 3)
        rig.clients(2)
        self.assertEqual(pool.door.delayed, 2)
        rig.backends[0].wires[0].lose()
        first.lose()
        rig.advance(0.05)
        self.assertEqual(pool.door.delayed, 1)
        configure(rig, maxPerSource=0)
        rig.advance(0.05)
        self.assertEqual(pool.door.delayed, 0)
        self.assertEqual(rig.balancer.factory.steps, ())
        rig.clients(2)
        configure(rig, maxSessions=6)
        self.assertEqual(pool.door.turnstile.active, 6)
        rig.client()
        self.assertEqual(pool.door.delayed, 1)

    def test_delayedAcrossReloads(self) -> None:
        """
        A client that is delayed without a time-out, while the settings change, and
        that then waits for its first byte, leaves no timer behind.
        """
        rig = Rig(1, queueTimeout=0, maxSessions=1, takeSlot="first-byte")
        first, second = rig.client(), rig.client()
        first.receive(b"first")
        pool = rig.balancer._pool
        pool.configure(replace(pool.settings))
        rig.backends[0].wires[0].lose()
        first.lose()
        rig.advance(0.1)
        self.assertEqual(pool.door.delayed, 0)
        second.lose()
        self.successResultOf(rig.balancer.stopService())
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_refusedWhileOff(self) -> None:
        """
        A step that a client has begun before the last limit was lifted lets the client
        in.
        """
        rig = Rig(1, deny="10.0.0.0/8")
        (step,) = poolOf(rig).door.steps(ListenerSettings(acceptProxy=Trusted(["all"])))
        arrival: Any = Arrived("192.0.2.77")
        step.begin(arrival)
        self.assertIsNone(arrival.outcome)

    def test_reloadDuringHeader(self) -> None:
        """
        A client that is on its way when the settings change counts once.
        """
        rig = Rig(1, acceptProxy="all", maxSessions=1)
        wire = accept(rig.balancer.factory)
        configure(rig, maxSessions=2)
        wire.receive(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n")
        turnstile = poolOf(rig).door.turnstile
        assert turnstile is not None
        self.assertEqual(turnstile.active, 1)
        rig.backends[0].wires[0].lose()
        wire.lose()
        self.assertEqual(turnstile.active, 0)

    def test_otherPool(self) -> None:
        """
        A session that goes to another pool counts for the pool whose listener accepted
        it, until it ends; and keeps the priority of that listener.
        """
        rig = Rig(1)
        other: Any = rig.balancer.addPool("other")
        backend = Backend()
        other.add(backend)
        front: Any = rig.balancer.addPool(
            "front", choose=lambda session: other, maxPerSource=1
        )
        front.factory.origin.priority = 7
        wire = accept(front.factory)
        (session,) = rig.balancer.sessions
        self.assertEqual((session.pool, session.origin.priority), ("other", 7))
        self.assertEqual(front.door.turnstile.active, 1)
        accept(front.factory)
        self.assertEqual(front.door.delayed, 1)
        backend.wires[0].lose()
        wire.lose()
        rig.advance(0.05)
        self.assertEqual((front.door.delayed, front.door.turnstile.active), (0, 1))
        self.assertEqual(len(backend.wires), 2)

    def test_priorities(self) -> None:
        """
        The queue of a pool knows priorities while a listener has one, and takes turns
        where fairness is set.
        """
        rig = Rig(1, slots=1)
        pool = poolOf(rig)
        first = rig.clients(3)
        configure(rig, fairness=True)
        self.assertIsInstance(pool.queue._unbound, FairLine)
        self.assertEqual([each.number for each in pool.queue], [2, 3])
        rig.clients(1)
        configure(rig, fairness=False)
        self.assertNotIsInstance(pool.queue._unbound, FairLine)
        for number, each in enumerate(first):
            rig.backends[0].wires[number].lose()
            each.lose()
        self.assertEqual([number for number, _ in rig.recorder.pulls], [1, 2, 3, 4])


class Roomy:
    """
    An admission that always has room for one more.
    """

    def __init__(self, real: Any) -> None:
        self._real = real

    def room(self) -> int:
        """
        There is room.
        """
        return 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class RefusalTests(SynchronousTestCase):
    """
    What is written about refused clients.
    """

    def setUp(self) -> None:
        """
        Collect the lines.
        """
        self.clock = Clock()
        self.events = logged(self)
        self.refusals = Refusals(self.clock, "web", REASONS)
        self.addCleanup(self.refusals.stop)

    def refuse(self, host: str, times: int = 1) -> None:
        """
        Refuse a client.
        """
        for _ in range(times):
            address = IPv4Address("TCP", host, 1)
            self.refusals.add("rate", Over.RATE.text, address, (24, 56))

    def written(self) -> list[str]:
        """
        Return the lines since the last call.
        """
        found = lines(self.events, "pool web")
        del self.events._events[:]
        return found

    def test_oncePerSource(self) -> None:
        """
        The first client of each source gets a line in an interval, and the others
        together one at the end of it; all are counted.
        """
        self.refuse("192.0.2.1", 500)
        self.refuse("192.0.2.2", 500)
        self.refuse("198.51.100.1")
        why = "refused: the pool is over session-rate"
        self.assertEqual(
            self.written(),
            [f"pool web: 192.0.2.0/24 {why}", f"pool web: 198.51.100.0/24 {why}"],
        )
        self.clock.advance(INTERVAL)
        self.assertEqual(
            self.written(), ["pool web: more clients refused within a minute: 999"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.refuse("192.0.2.1")
        self.assertEqual(len(self.written()), 1)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.written(), [])
        self.assertEqual(self.refusals.counts["rate"], 1002)

    def test_bounded(self) -> None:
        """
        However many sources are refused, the lines of an interval are few, and so is
        what is remembered.
        """
        for number in range(5000):
            self.refuse(f"10.{number >> 8}.{number & 255}.1")
        self.assertEqual(len(self.written()), MOST_LINES)
        self.assertEqual(len(self.refusals._written), MOST_LINES)
        self.refusals.stop()
        self.assertEqual(
            self.written(), ["pool web: more clients refused within a minute: 4900"]
        )

    def test_unix(self) -> None:
        """
        A client of a Unix socket is named as one.
        """
        self.refusals.add("sessions", "why", UNIXAddress(b""), (32, 56))
        self.assertEqual(self.written(), ["pool web: unix refused: why"])


async def sources(running: Stage, *hosts: str) -> list[Peer]:
    """
    Connect clients from addresses of this machine.
    """
    found = []
    for host in hosts:
        number = int(running.balancer.addresses[0].rpartition(":")[2])
        to = TCP4ClientEndpoint(reactor, "127.0.0.1", number, bindAddress=(host, 0))
        found.append(await connected(to, Echo))
        running.clients.append(found[-1])
    return found


async def isReset(running: Stage, host: str) -> bool:
    """
    Connect a client that is refused, and return whether it gets a reset.
    """
    try:
        (refused,) = await sources(running, host)
    except ConnectError as error:
        return bool(error.osError == errno.ECONNRESET)
    await refused.closed()
    return refused.wasReset


@pytest_twisted.ensureDeferred
async def test_reset() -> None:
    """
    A client that may not come in gets a reset, and no session; another is served, over
    bare sockets as before.
    """
    async with stage(deny="127.0.0.9", sourceMask="32,56") as running:
        await running.serve(make=Echo)
        assert await isReset(running, "127.0.0.9")
        await running.assertEchoed()
        pool = running.balancer._pool
        assert pool.door.refusals.counts["denied"] == 1
        assert pool.count.accepted == 1


@pytest_twisted.ensureDeferred
async def test_resetBeforeTls(tmp_path: Path) -> None:
    """
    On a TLS listener, too, such a client is reset before its handshake begins.
    """
    pem = tmp_path / "pem"
    issued = Issued("localhost")
    pem.write_bytes(issued.pem + issued.keyPem)
    async with stage(f"127.0.0.1:0 certificate={pem}", deny="127.0.0.0/8") as running:
        assert await isReset(running, "127.0.0.1")
        assert running.balancer.sessions == []


@pytest_twisted.ensureDeferred
async def test_changedLists() -> None:
    """
    A list that is set while clients are served holds for the next client at once.
    """
    async with stage() as running:
        await running.serve(make=Echo)
        (before,) = await sources(running, "127.0.0.1")
        pool = running.balancer._pool
        pool.configure(replace(pool.settings, deny=networks("127.0.0.0/8")))
        assert await isReset(running, "127.0.0.1")
        await assertEchoed(before)
        pool.configure(replace(pool.settings, deny=networks("")))
        await running.assertEchoed()


@pytest_twisted.ensureDeferred
async def test_delayed() -> None:
    """
    Clients of one source beyond its limit are served one after the other, over real
    sockets; one of another source does not wait for them; one that leaves while it is
    delayed is noticed.
    """
    async with stage(maxPerSource=1) as running:
        server = await running.serve(make=Echo)
        first, second, third, other = await sources(
            running, "127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.3"
        )
        await assertEchoed(other)
        door = running.balancer._pool.door
        await until(lambda: door.delayed == 2)
        third.reset()
        await until(lambda: door.delayed == 1)
        assert len(server.peers) == 2
        await assertEchoed(first)
        await assertEchoed(second)
        assert door.delayed == 0
        await until(lambda: door.sources == 0)


@pytest_twisted.ensureDeferred
async def test_namedByProxy() -> None:
    """
    Limits and lists are about the client that a PROXY header names, not about the proxy
    that all come from.
    """
    async with stage(
        acceptProxy="127.0.0.0/8", maxPerSource=1, allow="192.0.2.0/24"
    ) as running:
        await running.serve(make=Echo)
        door, headers = running.balancer._pool.door, running.balancer._pool.headers
        named: list[Peer] = []
        for host in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "198.51.100.1"):
            named.append(await running.client())
            named[-1].write(f"PROXY TCP4 {host} 192.0.2.9 1 2\r\nhello".encode())
            await until(lambda: headers.read == len(named))
        first, second, third, denied = named
        await denied.closed()
        assert await first.got(5) == await second.got(5) == b"hello"
        assert (door.delayed, bytes(third.received)) == (1, b"")
        assert door.refusals.counts["denied"] == 1
        first.end()
        assert await third.got(5) == b"hello"
        assert Outcome.REFUSED in running.recorder.outcomes.values()


@pytest_twisted.ensureDeferred
async def test_delayedBeforeTls(tmp_path: Path) -> None:
    """
    A client of a TLS listener is delayed before its handshake, which is done when its
    turn comes; its slot is taken only then.
    """
    pem = tmp_path / "pem"
    issued = Issued("localhost", hosts=["localhost"])
    pem.write_bytes(issued.pem + issued.keyPem)
    async with stage(f"127.0.0.1:0 certificate={pem}", maxPerSource=1) as running:
        await running.serve(make=Echo)
        number = int(running.balancer.addresses[0].rpartition(":")[2])
        trust = trustRootFromCertificates([Certificate.loadPEM(issued.pem)])
        options = optionsForClientTLS("localhost", trustRoot=trust)
        wires = [
            await connected(
                wrapClientTLS(options, TCP4ClientEndpoint(reactor, "127.0.0.1", number))
            )
            for _ in range(2)
        ]
        first, second = wires
        running.clients += wires
        for each in wires:
            each.write(b"hello")
        assert await first.got(5) == b"hello"
        door = running.balancer._pool.door
        await until(lambda: door.delayed == 1)
        assert not second.received
        first.close()
        assert await second.got(5) == b"hello"


@pytest_twisted.ensureDeferred
async def test_fair() -> None:
    """
    One source opens 200 connections, and then ten others open one each: with fairness
    these are served among the first 20, though they came last.
    """
    async with stage(slots=1, fairness=True) as running:
        await running.serve(make=Echo)
        pool = running.balancer._pool
        pool.pause()
        many = await sources(running, *["127.0.0.2"] * 200)
        others = await sources(running, *(f"127.0.1.{n}" for n in range(1, 11)))
        await until(lambda: len(pool.queue) == 210)
        hosts = {each.number: each.clientHost for each in pool.queue}
        for each in (*many, *others):
            each.write(b"x")
            each.end()
        pool.resume()
        for each in (*many, *others):
            await each.closed()
        pulls = [hosts[number] for number, _ in running.recorder.pulls]
        assert len(pulls) == 210
        last = max(n for n, host in enumerate(pulls) if host.startswith("127.0.1."))
        assert last < 20


@pytest_twisted.ensureDeferred
async def test_priority() -> None:
    """
    Clients of a listener with a higher priority are served first, though they came
    last; a listener that has come while others wait has its priority at once.
    """
    async with stage(slots=1) as running:
        await running.serve(make=Echo)
        pool = running.balancer._pool
        pool.pause()
        low = [await running.client(Echo) for _ in range(5)]
        await until(lambda: len(pool.queue) == 5)
        number = freePort()
        running.balancer.listen(f"127.0.0.1:{number}", priority=3)
        high = [await running.client(Echo, 1) for _ in range(5)]
        await until(lambda: len(pool.queue) == 10)
        for each in (*low, *high):
            each.write(b"x")
            each.end()
        pool.resume()
        for each in (*low, *high):
            await each.closed()
        pulls = [number for number, _ in running.recorder.pulls]
        assert pulls == [6, 7, 8, 9, 10, 1, 2, 3, 4, 5]
        (_, listener) = pool.listeners
        await pool.unlisten(listener)
        assert type(pool.queue._unbound).__name__ == "Line"


@pytest_twisted.ensureDeferred
async def test_reload(tmp_path: Path) -> None:
    """
    A reload changes lists, limits and priorities: they hold for the next client, those
    that are served or delayed stay, and the delayed ones have their turn by the new
    limit.
    """
    text = """
    [pools.web]
    listen = {{ address = "127.0.0.1:$P", priority = {priority} }}
    destinations = {{ a = "$0" }}
    deny = {deny}
    max-per-source = {most}
    """
    async with reloads(tmp_path) as on:
        on.start(text.format(priority=0, deny='["192.0.2.0/24"]', most=1))
        first = await on.client()
        second = await on.client()
        pool = on.pool()
        await until(lambda: pool.door.delayed == 1)
        more = text.format(priority=2, deny='["192.0.2.0/24"]', most=2)
        assert await on.changed(more) == [
            ("change", "pools.web.max-per-source"),
            ("change", f'pools.web.listeners."127.0.0.1:{on.port}".priority'),
        ]
        await assertEchoed(second)
        assert pool.queue._discipline.step == 1.5
        await on.changed(text.format(priority=0, deny='["127.0.0.1"]', most=0))
        with contextlib.suppress(ConnectError):
            denied = await on.client()
            await denied.closed()
        assert pool.door.refusals.counts["denied"] == 1
        assert pool.queue._discipline == FIRST_COME
        await assertEchoed(first)


@implementer(IStreamServerEndpoint)
class Wrapping:
    """
    An endpoint of a user's own, which wraps something around each client.
    """

    def listen(self, protocolFactory: Any) -> Any:
        """
        Listen with a factory around the factory.
        """
        inner = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return inner.listen(WrappingFactory(protocolFactory))


@pytest_twisted.ensureDeferred
async def test_wrapped() -> None:
    """
    Behind an endpoint of a user's own, too, a client is refused before anything is made
    for it, and one that may come in is served.
    """
    async with stage(Wrapping(), deny="127.0.0.9") as running:
        await running.serve(make=Echo)
        assert await isReset(running, "127.0.0.9")
        client = await running.client()
        client.write(b"hello")
        assert await client.got(5) == b"hello"
        assert running.balancer._pool.count.accepted == 1

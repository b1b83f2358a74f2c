"""
Tests for L{iawlb.relay.limited}: in memory, on sockets that are served by hand with a
clock of the test, and a whole balancer.
"""

from __future__ import annotations

import gc
import socket
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any
from weakref import ref

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.relay.context import RelayContext
from iawlb.relay.limited import Bandwidth, LimitedFastRelay, LimitedPortableRelay
from iawlb.relay.side import Side
from iawlb.relay.throttle import LONGEST, SPARE, TICK, Throttle
from tests import test_fast, test_relay
from tests.doubles import Rig, Wire
from tests.net import Echo, Peer, until
from tests.rig import RELAYS, payload, rig, sideBySide
from tests.stage import assertEchoed, stage
from tests.test_deadlines import OFF
from tests.test_live import live
from tests.test_relay import Early
from tests.test_relay_sockets import AnswerAtEnd
from tests.test_relay_tls import Tls, tls

__all__ = ["tls"]

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

KIB = 1024
FAST = 10_000 * KIB


class FastBase(test_fast.Base):
    """
    A fast relay with a limit, between two peers on sockets.
    """

    rates = (0, 0)

    def setUp(self) -> None:
        """
        Make a clock.
        """
        super().setUp()
        self.clock = Clock()
        self.throttle = Throttle(self.clock)

    def join(self, client: Any, destination: Any) -> None:
        """
        Make a relay with a limit, without starting it.
        """

        class Relay(LimitedFastRelay):
            """
            Has a limit.
            """

            bandwidth = Bandwidth(*self.rates, self.throttle)

        self.relay = Relay(
            client,
            destination,
            self.poller,
            self.context.sends,
            self._released,
            self.outcomes.append,
        )

    def paced(self) -> Any:
        """
        Return the first socket that has a limit.
        """
        relay: Any = self.relay
        return relay.paced[0]

    def advance(self, seconds: float) -> None:
        """
        Let time pass, in ticks.
        """
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            self.settle()

    def during(self, seconds: float, peer: socket.socket) -> int:
        """
        Count the bytes that a peer gets in some seconds.
        """
        number = 0
        for _ in range(round(seconds / TICK)):
            self.advance(TICK)
            try:
                number += len(peer.recv(1 << 20))
            except BlockingIOError:
                continue
        return number


class SameTests(FastBase, test_fast.EndTests):
    """
    All ends, with a limit that is not reached.
    """

    rates = (1000 * FAST, 1000 * FAST)


class FastTests(FastBase):
    """
    The limits of sockets.
    """

    def test_rate(self) -> None:
        """
        Each direction has its own limit, or none; in a second as many bytes pass as it
        says, and no more than a tenth more at once.
        """
        for rates in ((1000, 0), (0, 1000), (7000, 1000), (1, 7)):
            self.setUp()
            self.rates = rates
            self.begin()
            ways = (self.client, self.destination), (self.destination, self.client)
            for (sender, receiver), rate in zip(ways, rates, strict=True):
                sender.send(bytes(12_000))
                at = self.during(TICK, receiver)
                if not rate:
                    self.assertEqual(at, 12_000)
                    continue
                self.assertEqual(at, int(rate * SPARE + 1 + 1e-9))
                passed = self.during(1, receiver)
                self.assertTrue(rate * 0.95 - 1 <= passed <= rate + 1, (rate, passed))

    def test_smooth(self) -> None:
        """
        The bytes of a second come in twenty parts of the same size.
        """
        self.rates = (2000, 0)
        self.begin()
        self.client.send(bytes(12_000))
        self.during(1, self.destination)
        parts = [self.during(0.1, self.destination) for _ in range(10)]
        self.assertTrue(all(100 <= each <= 300 for each in parts), parts)

    def test_nothingWhileWaiting(self) -> None:
        """
        A socket that may not be read costs no turn, and no other socket its own.
        """
        self.rates = (1000, 0)
        self.begin()
        self.client.send(bytes(12_000))
        self.settle()
        before = self.epoll.events
        self.poller.doRead()
        self.assertEqual(self.epoll.events, before)
        self.destination.send(b"answer")
        self.assertEqual(self.read(self.client), b"answer")

    def test_early(self) -> None:
        """
        Bytes that were read before there was a relay are passed on at once, and
        counted.
        """
        self.rates = (1000, 1000)
        self.prepare()
        self.clientSide.early.append(bytes(1101))
        self.start()
        self.client.send(b"more")
        self.assertEqual(len(self.read(self.destination)), 1101)
        self.assertEqual(self.during(1, self.destination), 0)
        self.assertEqual(self.during(0.1, self.destination), 4)

    def test_end(self) -> None:
        """
        The end comes behind the last byte; also that of a peer that has reset its
        connection, as far as the kernel still has its bytes.
        """
        for unix in (False, True):
            self.setUp()
            self.rates = (1000, 1000)
            self.begin(unix)
            self.client.send(bytes(600))
            self.client.shutdown(socket.SHUT_WR)
            got = self.during(0.4, self.destination)
            self.assertTrue(400 <= got <= 501, got)
            self.destination.send(b"answer")
            self.assertEqual(self.read(self.client), b"answer")
            self.advance(0.3)
            rest = bytes(600 - got)
            self.assertEqual(self.drained(self.destination), (rest, "ended"))
            self.destination.close()
            self.advance(0.2)
            self.assertEnded(Outcome.DONE)

    def test_resetWhileWaiting(self) -> None:
        """
        The reset of a peer that may not be read is passed on behind the bytes that it
        has sent before, and these no faster than is set.
        """
        for which, other, outcome in (
            ("client", "destination", Outcome.CLIENT_RESET),
            ("destination", "client", Outcome.DESTINATION_RESET),
        ):
            self.setUp()
            self.rates = (1000, 1000)
            self.begin()
            self.client.send(bytes(6000))
            self.destination.send(bytes(6000))
            self.settle()
            self.reset(getattr(self, which))
            self.advance(3)
            self.assertEqual(self.outcomes, [])
            self.advance(3)
            received = self.drained(getattr(self, other))
            self.assertEqual(received, (bytes(6000), "reset"))
            self.assertEnded(outcome)
            self.assertEqual(len(self.throttle), 0)

    def test_backPressure(self) -> None:
        """
        A peer that does not read stops the other one however much is allowed; when it
        reads, it gets all bytes.
        """
        self.rates = (FAST, 0)
        self.begin()
        sent = self.fill(self.client)
        self.advance(2 * LONGEST)
        waiting = self.relay.destination.pending
        assert waiting is not None
        self.assertLessEqual(len(waiting), test_fast.CHUNK)
        self.assertFalse(self.paced().throttled)
        self.assertEqual(len(self.throttle), 0)
        self.client.shutdown(socket.SHUT_WR)
        got = b""
        while len(got) < len(sent):
            self.advance(TICK)
            try:
                got += self.destination.recv(1 << 20)
            except BlockingIOError:
                self.soon(self.destination, 1)
        self.assertEqual(got, sent)

    def test_lingers(self) -> None:
        """
        What is discarded is read as fast as it comes.
        """
        self.rates = (1000, 1000)
        self.begin()
        self.client.send(bytes(12_000))
        self.read(self.destination)
        self.destination.close()
        self.advance(0.2)
        # More bytes for a peer that is gone: it has reset its connection.
        self.assertTrue(self.relay.destination.lost)
        self.assertRaises(BlockingIOError, self.mine[0].recv, 1)
        self.client.send(bytes(12_000))
        self.settle()
        self.assertRaises(BlockingIOError, self.mine[0].recv, 1)
        self.assertFalse(self.paced().throttled)

    def test_moved(self) -> None:
        """
        A session that may not read is not idle; one that may is.
        """
        self.rates = (1, 0)
        self.begin()
        self.client.send(b"123")
        self.settle()
        self.clock.advance(0.5)
        self.assertEqual(self.relay.moved, 0.5)
        self.advance(5)
        self.assertEqual(len(self.read(self.destination)), 3)
        self.assertNotEqual(self.relay.moved, self.clock.seconds())

    def test_noCycle(self) -> None:
        """
        A session that has ended leaves nothing for the garbage collector, also if it
        has waited.
        """
        self.rates = (1000, 1000)
        self.begin()
        self.client.send(bytes(6000))
        self.settle()
        seen = ref(self.relay)
        gc.disable()
        self.addCleanup(gc.enable)
        self.relay.abort(Outcome.KILLED)
        del self.relay
        self.clock.advance(LONGEST + TICK)
        self.assertIsNone(seen())

    def test_failed(self) -> None:
        """
        A socket that raises when it is read again ends its own session.
        """
        self.rates = (1000, 0)
        self.begin()
        self.client.send(bytes(6000))
        self.settle()

        def fail(view: memoryview) -> int:
            raise RuntimeError("no")

        self.relay.client.recvInto = fail
        self.advance(1)
        self.assertEqual(self.outcomes[:1], [Outcome.FAILED])
        self.throttle.stop()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class PortableBase(test_relay.Base):
    """
    A portable relay with a limit, between stand-ins.
    """

    rates = (1000 * FAST, 1000 * FAST)

    def setUp(self) -> None:
        """
        Make the relay anew.
        """
        super().setUp()
        for side in self.sides:
            del side.other
        self.clock = Clock()
        self.throttle = Throttle(self.clock)

        class Relay(LimitedPortableRelay):
            """
            Has a limit.
            """

            bandwidth = Bandwidth(*self.rates, self.throttle)

        self.relay = Relay(
            self.sides[0],
            self.sides[1],
            self._released,
            self.outcomes.append,
        )


class SamePortableTests(test_relay.EndTests, PortableBase):
    """
    All ends, with a limit that is not reached.
    """


class PortableTests(PortableBase):
    """
    The limits of transports.
    """

    rates = (1000, 0)

    def test_paused(self) -> None:
        """
        A side that has sent more than is allowed is not read until that is made up for.
        The other one is.
        """
        self.relay.start()
        self.client.receive(bytes(60))
        self.assertTrue(self.client.reading)
        self.client.receive(bytes(1041))
        self.assertFalse(self.client.reading)
        self.destination.receive(bytes(10_000))
        self.assertTrue(self.destination.reading)
        self.clock.pump([TICK] * 102)
        self.assertFalse(self.client.reading)
        self.clock.pump([TICK] * 6)
        self.assertTrue(self.client.reading)
        self.assertEqual((self.relay.bytesIn, self.relay.bytesOut), (1101, 10_000))

    def test_fewLeft(self) -> None:
        """
        A side is not read for a few bytes at a time when it might be read for many a
        little later.
        """
        self.relay.start()
        self.client.receive(bytes(80))
        self.assertFalse(self.client.reading)
        self.clock.pump([TICK] * 4)
        self.assertTrue(self.client.reading)

    def test_backPressure(self) -> None:
        """
        A side is read while the other transport has room and bytes are allowed, in
        whatever order both happen.
        """
        self.relay.start()
        for first, second in (("room", "time"), ("time", "room")):
            self.client.receive(bytes(101))
            self.destination.producer.pauseProducing()
            for each in (first, second):
                self.assertFalse(self.client.reading)
                if each == "room":
                    self.destination.producer.resumeProducing()
                else:
                    self.clock.pump([TICK] * 20)
            self.assertTrue(self.client.reading)
        self.destination.producer.stopProducing()
        self.assertTrue(self.client.reading)

    def test_moreThanAllowed(self) -> None:
        """
        Bytes that come although the side is not read are passed on, and counted.
        """
        self.relay.start()
        self.client.receive(bytes(1101))
        self.client.receive(bytes(1000))
        self.assertEqual(len(self.destination.written), 2101)
        self.clock.pump([TICK] * 202)
        self.assertFalse(self.client.reading)
        self.clock.pump([TICK] * 6)
        self.assertTrue(self.client.reading)

    def test_early(self) -> None:
        """
        Bytes that came before the relay count too.
        """
        self.client.receive(bytes(601))
        self.relay.start()
        self.assertEqual(len(self.destination.written), 601)
        self.assertFalse(self.client.reading)
        self.assertTrue(self.destination.reading)
        self.clock.pump([TICK] * 60)
        self.assertTrue(self.client.reading)

    def test_moved(self) -> None:
        """
        A session that may not read is not idle; one that may is.
        """
        self.relay.start()
        self.client.receive(bytes(2000))
        self.clock.pump([TICK] * 20)
        # The relay's own clock of these tests stands still.
        self.now = 5
        self.assertEqual(self.relay.moved, 5)
        self.clock.pump([TICK] * 200)
        self.assertAlmostEqual(self.relay.moved, 1.95)

    def test_lost(self) -> None:
        """
        A side whose other side is gone is read at once, and its bytes are discarded. A
        side that is gone itself is left alone.
        """
        for goes, stays in ((self.destination, self.client), (self.client, None)):
            self.relay.start()
            self.client.receive(bytes(2000))
            goes.lose(reset=True)
            if stays is not None:
                self.assertTrue(stays.reading)
                stays.receive(bytes(5000))
                self.assertTrue(stays.reading)
            self.clock.pump([TICK] * 200)
            self.assertEqual(len(self.throttle), 0)
            self.setUp()

    def test_reads(self) -> None:
        """
        A transport of Twisted's reads no more at a time than is allowed; a byte at
        least.
        """
        clock = Clock()
        throttle = Throttle(clock)
        reactor: Any = MemoryReactorClock()
        context = RelayContext(64 * KIB)
        sides, peers = [], []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as server:
                peer = socket.create_connection(server.getsockname())
                mine = server.accept()[0]
            for each in (mine, peer):
                self.addCleanup(each.close)
                each.setblocking(False)
            side = Side(Early(), context)
            transport: Any = Connection(mine, side, reactor)
            transport.connected = 1
            side.makeConnection(transport)
            sides.append(side)
            peers.append(peer)

        class Relay(LimitedPortableRelay):
            """
            Has a limit.
            """

            bandwidth = Bandwidth(1000, 0, throttle)

        relay = Relay(sides[0], sides[1], print, print)
        relay.start()
        peers[0].send(bytes(10_000))
        sides[0].transport.doRead()
        self.assertEqual(relay.bytesIn, 101)
        self.assertNotIn(sides[0].transport, reactor.getReaders())
        clock.pump([TICK] * 6)
        self.assertIn(sides[0].transport, reactor.getReaders())
        sides[0].transport.doRead()
        self.assertIn(relay.bytesIn, range(150, 165))

    def test_failed(self) -> None:
        """
        A side that raises when it is read again ends its own session.
        """
        self.relay.start()
        self.client.receive(bytes(2000))

        def fail() -> None:
            raise RuntimeError("no")

        self.client.resumeProducing = fail  # type: ignore[method-assign]
        self.clock.pump([TICK] * 300)
        self.assertEqual(self.client.closing, "abort")
        self.throttle.stop()
        self.flushLoggedErrors(RuntimeError)


class TimeoutTests(SynchronousTestCase):
    """
    Time-outs of sessions with a limit, in memory.
    """

    def on(self, **settings: Any) -> tuple[Rig, Wire, Wire]:
        """
        Make a balancer with one session.
        """
        on = Rig(**{**OFF, **settings})
        return on, on.client(), on.backends[0].wires[0]

    def outcome(self, on: Rig) -> Outcome | None:
        """
        Return how the session ends, if that is known.
        """
        (session,) = on.balancer.sessions
        assert session.relay is not None
        return session.relay.outcome

    def test_idle(self) -> None:
        """
        A pause that the limit makes is no silence, however short the idle time-out is;
        a peer that then sends nothing is idle.
        """
        on, client, _ = self.on(bandwidthIn=1, idleTimeout=0.2)
        client.receive(b"123456")
        for _ in range(3):
            on.advance(1)
            self.assertIsNone(self.outcome(on))
        on.advance(3.5)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)

    def test_answer(self) -> None:
        """
        The answer time-out begins when the question may be passed on.
        """
        on, client, destination = self.on(
            bandwidthIn=10, bandwidthOut=1, answerTimeout=0.5, clientTimeout=0.5
        )
        client.receive(bytes(40))
        on.advance(3)
        self.assertIsNone(self.outcome(on))
        destination.receive(b"12")
        on.advance(1)
        self.assertIsNone(self.outcome(on))
        client.receive(b"1")
        on.advance(2)
        self.assertIs(self.outcome(on), Outcome.ANSWER_TIMEOUT)

    def test_counted(self) -> None:
        """
        The balancer says how many connections wait, and that none does any more.
        """
        on, client, _ = self.on(bandwidthIn=10)
        self.assertEqual(len(on.balancer.throttle), 0)
        client.receive(bytes(12))
        self.assertEqual(len(on.balancer.throttle), 1)
        on.advance(3)
        self.assertEqual(len(on.balancer.throttle), 0)

    def test_age(self) -> None:
        """
        A session that may not read when it reaches its age gets its ends at once, and
        what is discarded then is read as fast as it comes.
        """
        on, client, destination = self.on(bandwidthIn=1, maxAge=5, maxAgeJitter=0)
        client.receive(bytes(1000))
        on.advance(4)
        self.assertFalse(client.reading)
        on.advance(1.6)
        self.assertEqual((client.ended, destination.ended), (True, True))
        self.assertTrue(client.reading)
        client.receive(bytes(1000))
        on.advance(1)
        self.assertTrue(client.reading)
        self.assertEqual(len(destination.written), 1000)

    def test_stop(self) -> None:
        """
        A balancer that stops leaves no timer, and ends sessions that wait.
        """
        on, client, _ = self.on(bandwidthIn=1, drainTimeout=0)
        client.receive(bytes(1000))
        stopping = on.balancer.stopService()
        on.advance(0.1)
        client.lose()
        on.backends[0].wires[0].lose()
        self.successResultOf(stopping)
        self.assertEqual(on.clock.getDelayedCalls(), [])


# On sockets.

relays = pytest.mark.parametrize("relay", RELAYS)
DATA = payload(96 * KIB)


async def receives(peer: Peer, rate: int, began: float, more: int = 1) -> None:
    """
    Wait until a peer has received C{DATA}, and check each time that it has received no
    more than it may have.

    @param more: Bytes that may come at once in addition.
    """
    passed = 0
    while passed < len(DATA):
        await until(lambda: len(peer.received) > passed)  # noqa: B023  # waited for
        passed = len(peer.received)
        assert passed <= rate * (monotonic() - began + SPARE) + more
    assert peer.received == DATA


@relays
@pytest_twisted.ensureDeferred
async def test_bothWays(relay: str, tmp_path: Path) -> None:
    """
    All bytes arrive, both ways at once, each way no faster than its limit, and the ends
    behind them.
    """
    async with rig(
        relay, "tcp4", tmp_path, bandwidthIn="256k", bandwidthOut="512k"
    ) as on:
        began = monotonic()
        client, destination = await on.pair()
        for each in (client, destination):
            each.write(DATA)
            each.end()
        await sideBySide(
            [
                receives(destination, 256 * KIB, began),
                receives(client, 512 * KIB, began),
            ]
        )
        await until(lambda: client.ended and destination.ended)
        for each in (client, destination):
            each.close()
        session = await on.ended()
        assert session.outcome is Outcome.DONE
        assert (session.bytesIn, session.bytesOut) == (len(DATA), len(DATA))


@relays
@pytest_twisted.ensureDeferred
async def test_halfClose(relay: str, tmp_path: Path) -> None:
    """
    A client that ends its request gets the answer.
    """
    async with rig(
        relay, "unix", tmp_path, AnswerAtEnd, bandwidthIn="500k", bandwidthOut=100
    ) as on:
        client = await on.client()
        client.write(DATA)
        client.end()
        await until(lambda: client.ended or client.lost)
        assert client.received == b"%d bytes" % len(DATA)
        client.close()
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_tls(tls: Tls, tmp_path: Path) -> None:
    """
    Sessions between TLS on both sides are limited too, up to a record of TLS.
    """
    rate = 256 * KIB
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        listener=tls.string(),
        destinationListens=tls.server(),
        wrap=tls.client,
        bandwidthIn=rate,
        bandwidthOut=rate,
    ) as on:
        began = monotonic()
        client = await on.client(wrap=tls.client)
        destination = await on.server.peer(0)
        client.write(DATA)
        destination.write(DATA)
        more = 16 * KIB
        await sideBySide(
            [
                receives(destination, rate, began, more),
                receives(client, rate, began, more),
            ]
        )
        client.close()
        await until(lambda: destination.ended or destination.lost)
        destination.close()
        assert await on.outcome() is Outcome.DONE


@relays
@pytest_twisted.ensureDeferred
async def test_many(relay: str) -> None:
    """
    Many sessions with a limit pass all their bytes at once.
    """
    settings = {**RELAYS[relay], "bandwidthIn": "64k", "bandwidthOut": "64k"}
    async with stage(**settings) as on:
        await on.serve(make=Echo)
        clients = [await on.client() for _ in range(100)]
        for each in clients:
            each.write(DATA[: 12 * KIB])
            each.end()
        await until(lambda: all(each.ended for each in clients))
        for each in clients:
            assert each.received == DATA[: 12 * KIB]
            each.close()
        await until(lambda: len(on.recorder.outcomes) == 100)
        assert set(on.recorder.outcomes.values()) == {Outcome.DONE}


@pytest_twisted.ensureDeferred
async def test_live() -> None:
    """
    A limit that is changed holds for the sessions that come after.
    """
    async with live() as on:
        pool, address = on.pool("web")
        await on.serve(pool, "a")
        old = await on.client(address)
        await assertEchoed(old, DATA[:100])
        pool.configure(replace(pool.settings, bandwidthIn=10))
        new = await on.client(address)
        new.write(bytes(50))
        await until(lambda: new.received)
        assert len(new.received) < 50
        pool.configure(replace(pool.settings, bandwidthIn=0))
        await assertEchoed(await on.client(address), DATA)

"""
Tests for clients that enter the queue by their first byte.
"""

from __future__ import annotations

import select
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb.core.outcome import Outcome
from iawlb.frontend.heads import PlainHead
from iawlb.frontend.stepped import SteppedArrival
from iawlb.relay.plain import PlainClient
from iawlb.relay.side import Side
from tests.doubles import Rig, SecureWire, Wire
from tests.net import Echo, until
from tests.rig import serverEndpoint
from tests.stage import stage


class MemoryTests(SynchronousTestCase):
    """
    Clients whose transports are read by Twisted.
    """

    def rig(self, number: int = 1, **settings: object) -> Rig:
        """
        Make a balancer whose clients enter by their first byte.
        """
        return Rig(number, takeSlot="first-byte", slots=1, **settings)

    def test_silentHoldNoSlot(self) -> None:
        """
        Clients that send nothing hold no slot and no place: a client that sends
        something is served before them. Clients are served in the order of their first
        bytes.
        """
        rig = self.rig()
        silent = rig.clients(3)
        self.assertEqual((rig.recorder.pulls, rig.balancer.waiting), ([], 0))
        self.assertTrue(all(each.reading for each in silent))
        rig.client().receive(b"hello")
        self.assertEqual(rig.recorder.pulls, [(4, "a")])
        self.assertEqual(rig.backends[0].wires[0].written, b"hello")
        silent[2].receive(b"three")
        silent[2].receive(b" and more in the same read")
        silent[0].receive(b"one")
        self.assertFalse(silent[0].reading)
        silent[0].end()
        self.assertEqual(rig.balancer.waiting, 2)
        rig.backends[0].wires[0].lose()
        self.assertEqual(rig.recorder.pulls, [(4, "a"), (3, "a")])
        written = rig.backends[0].wires[1].written
        self.assertEqual(written, b"three and more in the same read")

    def test_default(self) -> None:
        """
        By default a client takes its slot when it is accepted.
        """
        rig = Rig(slots=1)
        rig.client()
        self.assertEqual(rig.recorder.pulls, [(1, "a")])

    def test_leaves(self) -> None:
        """
        A client that ends or is lost before its first byte has left.
        """
        rig = self.rig()
        ends, lost, reset = rig.clients(3)
        ends.end()
        self.assertEqual(ends.closing, "close")
        ends.lose()
        lost.lose()
        reset.lose(reset=True)
        outcomes = dict.fromkeys((1, 2, 3), Outcome.CLIENT_LEFT_SILENT)
        self.assertEqual(rig.recorder.outcomes, outcomes)
        self.assertEqual(rig.backends[0].tries, 0)

    def test_asksAndEnds(self) -> None:
        """
        A client that ends its half behind its first byte is served.
        """
        rig = self.rig()
        client = rig.client()
        client.receive(b"a question")
        client.end()
        (wire,) = rig.backends[0].wires
        self.assertEqual((wire.written, wire.ended), (b"a question", True))

    def test_cannotBeRead(self) -> None:
        """
        A client whose transport cannot be read ends as failed, and its time-out does
        not come; the next client is served.
        """
        rig = self.rig(handshakeTimeout="5s")
        patch = self.patch(Side, "resumeProducing", lambda side: 1 / 0)
        client = rig.client()
        client.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.FAILED})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        patch.restore()
        rig.client().receive(b"hello")
        self.assertEqual(rig.backends[0].wires[0].written, b"hello")

    def test_cannotBeEnded(self) -> None:
        """
        A silent client whose connection refuses to be closed does not keep the others
        open.
        """
        rig = self.rig(handshakeTimeout="5s")
        first, second = rig.clients(2)
        self.patch(first, "loseConnection", lambda: 1 / 0)
        rig.advance(5.1)
        self.assertEqual(second.closing, "close")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_timeout(self) -> None:
        """
        A client that sends nothing for as long as a TLS handshake may take is closed.
        The queue time-out counts from its first byte.
        """
        rig = self.rig(handshakeTimeout="5s", queueTimeout="3s")
        first = rig.client()
        rig.advance(3)
        second, third = rig.clients(2)
        rig.advance(1.9)
        self.assertIsNone(first.closing)
        rig.advance(0.2)
        self.assertEqual((first.closing, second.closing), ("close", None))
        first.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.FIRST_BYTE_TIMEOUT})
        rig.balancer.pause()
        rig.advance(2.8)
        second.receive(b"hello")
        rig.advance(2.8)
        self.assertEqual((second.closing, third.closing), (None, "close"))
        rig.advance(0.6)
        self.assertEqual(second.closing, "close")

    def test_manyTimeouts(self) -> None:
        """
        When many silent clients are due at once, some are closed in each turn, until
        all are.
        """
        rig = self.rig(handshakeTimeout="5s")
        clients = rig.clients(250)
        closed = []

        def count() -> None:
            closed.append(sum(each.closing is not None for each in clients))
            if closed[-1] < 250:
                rig.clock.callLater(0, count)

        rig.clock.callLater(5, count)
        rig.clock.advance(5)
        self.assertEqual(closed, [100, 200, 250])

    def test_noTimeout(self) -> None:
        """
        Without that time-out a client may be silent for ever.
        """
        rig = self.rig(handshakeTimeout=0)
        client = rig.client()
        rig.clock.pump([1.0] * 1000)
        self.assertIsNone(client.closing)

    def test_secure(self) -> None:
        """
        Over TLS the first decrypted byte counts, whether it is read together with the
        handshake or later.
        """
        rig = self.rig(2)
        for early in (False, True):
            protocol = rig.balancer.factory.buildProtocol(None)
            assert protocol is not None
            wire = SecureWire(protocol)
            protocol.makeConnection(wire)
            if early:
                wire.receive(b"hello")
            wire.protocol.handshakeCompleted()
            if not early:
                self.assertEqual(rig.balancer.waiting, 0)
                self.assertTrue(wire.reading)
                wire.receive(b"hello")
            self.assertEqual(rig.backends[early].wires[0].written, b"hello")

    def test_taken(self) -> None:
        """
        A connection that a program hands over, with bytes that it has read, has its
        first byte already.
        """
        rig = self.rig()
        protocol = Protocol()
        wire = Wire(protocol)
        protocol.makeConnection(wire)
        rig.balancer.takeOver(protocol, b"hello")
        self.assertEqual(rig.backends[0].wires[0].written, b"hello")

    def test_noRoom(self) -> None:
        """
        Silent clients are connections as others: there is room for so many.
        """
        rig = self.rig(maxConnections=1)
        rig.client()
        address = IPv4Address("TCP", "192.0.2.1", 1)
        self.assertIsNone(rig.balancer.factory.buildProtocol(address))
        rig.balancer.factory.stop()

    def test_stop(self) -> None:
        """
        A balancer that stops closes silent clients when the drain is cut, and leaves no
        timer.
        """
        rig = self.rig()
        client = rig.client()
        stopping = rig.balancer.stopService()
        self.assertNoResult(stopping)
        rig.balancer.cutDrain()
        rig.clock.advance(0)
        client.lose()
        self.successResultOf(stopping)
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.KILLED_QUEUE})
        self.assertEqual(rig.clock.getDelayedCalls(), [])


kinds = pytest.mark.parametrize("family", ["tcp4", "unix"])
relays = pytest.mark.parametrize("relay", ["auto", "portable"])


@kinds
@relays
@pytest_twisted.ensureDeferred
async def test_sockets(family: str, relay: str, tmp_path: Path) -> None:
    """
    Three clients that send nothing do not hold up a fourth that does, though the
    server takes one at a time; each is served once it has sent something.
    """
    async with stage(
        serverEndpoint(family, tmp_path / "socket"),
        takeSlot="first-byte",
        slots=1,
        relay=relay,
    ) as on:
        await on.serve(make=Echo)
        silent = [await on.client() for _ in range(3)]
        await on.assertEchoed()
        for client in reversed(silent):
            await on.assertEchoed(client)
        await until(lambda: len(on.recorder.outcomes) == 4)
        assert [number for number, _ in on.recorder.pulls] == [4, 3, 2, 1]
        assert set(on.recorder.outcomes.values()) == {Outcome.DONE}


@kinds
@relays
@pytest_twisted.ensureDeferred
async def test_socketsLeave(family: str, relay: str, tmp_path: Path) -> None:
    """
    Clients that close, end their half or are reset before their first byte have
    left, and no destination sees them; one that says nothing is closed.
    """
    async with stage(
        serverEndpoint(family, tmp_path / "socket"),
        takeSlot="first-byte",
        handshakeTimeout="500ms",
        relay=relay,
    ) as on:
        await on.serve()
        closes, ends, resets, silent = [await on.client() for _ in range(4)]
        await until(lambda: len(on.balancer.sessions) == 4)
        closes.close()
        ends.end()
        resets.reset()
        await until(lambda: len(on.recorder.outcomes) == 4)
        assert on.recorder.outcomes == {
            **dict.fromkeys((1, 2, 3), Outcome.CLIENT_LEFT_SILENT),
            4: Outcome.FIRST_BYTE_TIMEOUT,
        }
        assert on.recorder.pulls == []
        await until(lambda: ends.ended and silent.ended)
        for each in (ends, silent):
            each.close()


@pytest_twisted.ensureDeferred
async def test_stoppedProcess() -> None:
    """
    A client whose first byte came in time is served, also if its time-out is looked at
    before the byte is read, as when the process was stopped for a while.
    """
    async with stage(takeSlot="first-byte", handshakeTimeout="10s") as on:
        await on.serve(make=Echo)
        client = await on.client()
        await until(lambda: len(on.balancer.sessions) == 1)
        (session,) = on.balancer.sessions
        assert isinstance(session.side, PlainClient)
        assert isinstance(session.holder, SteppedArrival)
        arrival, number = session.holder, session.side.fileno()
        # It arrives in the kernel at once, and the reactor has no turn.
        client.transport.socket.send(b"hello")
        assert select.select([number], [], [], 5)[0]
        arrival.timeOver()
        await until(lambda: bytes(client.received) == b"hello")
        client.close()


@pytest_twisted.ensureDeferred
async def test_readDescriptor() -> None:
    """
    The reactor finds the methods that it expects of a reader; and if it finds a socket
    broken, that client has left.
    """
    async with stage(takeSlot="first-byte", relay="portable") as on:
        client = await on.client()
        await until(lambda: len(on.balancer.sessions) == 1)
        holder = on.balancer.sessions[0].holder
        assert isinstance(holder, SteppedArrival)
        head = holder.head
        assert isinstance(head, PlainHead)
        assert verifyObject(IReadDescriptor, head)
        assert head.logPrefix() == "iawlb"
        for _ in range(2):
            head.connectionLost(Failure(ConnectionLost()))
        assert on.recorder.outcomes == {1: Outcome.CLIENT_LEFT_SILENT}
        await until(lambda: client.ended)
        client.close()

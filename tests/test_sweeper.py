"""
Tests for L{iawlb.workers.sweeper}, in memory.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from twisted.internet.interfaces import INegotiated
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from iawlb.core.events import Events
from iawlb.core.outcome import Outcome
from iawlb.core.policies import POLICIES
from iawlb.core.queue import ConnectionQueue
from iawlb.core.table import SessionTable
from iawlb.relay.context import RelayContext
from iawlb.settings import Settings
from iawlb.workers.sweeper import Sweeper
from tests.doubles import Rig, Wire, accept

OFF = {
    "queueTimeout": 0,
    "handshakeTimeout": 0,
    "idleTimeout": 0,
    "halfClosedTimeout": 0,
    "answerTimeout": 0,
}
"""
No time-out at all.
"""


class RelayedTests(SynchronousTestCase):
    """
    Sessions that pass bytes.
    """

    def on(self, **settings: Any) -> Rig:
        """
        Make a balancer with one session.
        """
        on = Rig(**{**OFF, **settings})
        self.client = on.client()
        self.destination = on.backends[0].wires[0]
        return on

    def outcome(self, on: Rig) -> Outcome | None:
        """
        Say how the session ends, if that is known.
        """
        (session,) = on.balancer.sessions
        assert session.relay is not None
        return session.relay.outcome

    def assertBothClosing(self, how: str = "close") -> None:
        """
        Check that both sides are closed.
        """
        self.assertEqual(self.client.closing, how)
        self.assertEqual(self.destination.closing, how)

    def test_idle(self) -> None:
        """
        A session is closed when no byte has come for so long, in order, and no
        later than a tenth of that.
        """
        on = self.on(idleTimeout=10)
        on.advance(10)
        self.assertIsNone(self.outcome(on))
        on.advance(1)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)
        self.assertBothClosing()

    def test_notIdle(self) -> None:
        """
        A byte in either direction keeps it open, and so do bytes that are
        written to a slow peer.
        """
        on = self.on(idleTimeout=10)
        on.advance(8)
        self.client.receive(b"x")
        on.advance(8)
        self.destination.receive(b"x")
        on.advance(8)
        self.client.dataBuffer = b"1234"  # type: ignore[attr-defined]
        on.advance(8)
        self.client.dataBuffer = b"34"  # type: ignore[attr-defined]
        on.advance(8)
        self.assertIsNone(self.outcome(on))
        on.advance(3)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)

    def test_cutOff(self) -> None:
        """
        What does not close in order by the next look is cut off, even if one
        side is closed meanwhile.
        """
        on = self.on(idleTimeout=10, halfClosedTimeout=30)
        on.advance(11)
        self.assertBothClosing()
        self.client.lose()
        on.advance(1)
        self.assertEqual(self.destination.closing, "abort")
        self.destination.lose()
        self.assertEqual(on.recorder.outcomes, {1: Outcome.IDLE_TIMEOUT})

    def test_cutOffIfReset(self) -> None:
        """
        A client that goes on after its destination has ended and was reset, and
        then falls silent, is cut off after the same time.
        """
        on = self.on(halfClosedTimeout=10)
        self.destination.end()
        self.destination.lose(reset=True)
        on.advance(9)
        self.assertIsNone(self.client.closing)
        on.advance(2)
        self.assertEqual(self.client.closing, "abort")
        self.client.lose()
        self.assertEqual(on.recorder.outcomes, {1: Outcome.DESTINATION_RESET})

    def test_halfClosed(self) -> None:
        """
        A session of which one side has ended is closed when nothing more comes
        for so long; before that end, the time does not count.
        """
        for ender, outcome in (
            ("client", Outcome.DESTINATION_HALF_CLOSED_TIMEOUT),
            ("destination", Outcome.CLIENT_HALF_CLOSED_TIMEOUT),
        ):
            on = self.on(halfClosedTimeout=10, idleTimeout=100)
            on.advance(20)
            getattr(self, ender).end()
            on.advance(9)
            other = self.destination if ender == "client" else self.client
            other.receive(b"x")
            on.advance(9)
            self.assertIsNone(self.outcome(on))
            on.advance(2)
            self.assertIs(self.outcome(on), outcome)

    def test_halfClosedOff(self) -> None:
        """
        Without that time-out, a half-closed session is idle like any other.
        """
        on = self.on(idleTimeout=10)
        self.client.end()
        on.advance(11)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)

    def test_answer(self) -> None:
        """
        A destination has so long to answer, from the client's last byte; one
        that has answered may be silent.
        """
        for idle in (0, 100):
            on = self.on(answerTimeout=10, idleTimeout=idle)
            on.advance(20)
            self.client.receive(b"q")
            on.advance(9)
            self.client.receive(b"q")
            on.advance(9)
            self.destination.receive(b"a")
            on.advance(20)
            self.assertIsNone(self.outcome(on))
            self.client.receive(b"q")
            on.advance(11)
            self.assertIs(self.outcome(on), Outcome.ANSWER_TIMEOUT)

    def test_shorterFirst(self) -> None:
        """
        Of several time-outs that count, the shortest ends the session.
        """
        on = self.on(answerTimeout=20, idleTimeout=10)
        self.client.receive(b"q")
        on.advance(11)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)

    def test_off(self) -> None:
        """
        With all of them off, a session may be silent for ever.
        """
        on = self.on()
        self.client.receive(b"q")
        on.clock.pump([1.0] * 10_000)
        self.assertIsNone(self.outcome(on))

    def test_severalApart(self) -> None:
        """
        Each session has its own time.
        """
        on = self.on(idleTimeout=10)
        on.advance(6)
        late = on.client()
        on.advance(5)
        self.assertBothClosing()
        self.assertIsNone(late.closing)


class WaitingTests(SynchronousTestCase):
    """
    Sessions that do not pass bytes yet.
    """

    def test_queue(self) -> None:
        """
        A session that waits too long is closed.
        """
        on = Rig(**{**OFF, "queueTimeout": 10})
        on.balancer.pause()
        first = on.client()
        on.advance(5)
        second = on.client()
        on.advance(5.9)
        self.assertEqual((first.closing, second.closing), ("close", None))
        first.lose()
        self.assertEqual(on.recorder.outcomes, {1: Outcome.QUEUE_TIMEOUT})
        on.balancer.resume()
        on.advance(20)
        self.assertIsNone(second.closing)

    def test_queueAfterHandshake(self) -> None:
        """
        The time in the queue counts from the entry into it, as that of HAProxy
        does: a TLS handshake that took long takes nothing away.
        """
        on = Rig(**{**OFF, "queueTimeout": 10})
        on.balancer.pause()
        late = self.tls(on)
        on.advance(8)
        late.protocol.handshakeCompleted()
        on.advance(9.9)
        self.assertIsNone(late.closing)
        on.advance(1.1)
        self.assertEqual(late.closing, "abort")

    def test_queueAfterConnect(self) -> None:
        """
        The time that failed connects took counts, also of a client that was
        pulled as soon as its TLS handshake was done.
        """
        on = Rig(**{**OFF, "queueTimeout": 10})
        on.backends[0].hold = True
        late = self.tls(on)
        on.advance(8)
        late.protocol.handshakeCompleted()
        on.advance(4)
        on.balancer.pause()
        on.backends[0].fail(ConnectionRefusedError())
        on.advance(5.9)
        self.assertIsNone(late.closing)
        on.advance(1.1)
        self.assertEqual(late.closing, "abort")

    def test_queueOff(self) -> None:
        """
        Without that time-out it waits for ever.
        """
        on = Rig(**OFF)
        on.balancer.pause()
        client = on.client()
        on.clock.pump([1.0] * 1000)
        self.assertIsNone(client.closing)

    def tls(self, on: Rig) -> Wire:
        """
        A client connects to a TLS listener.
        """

        class Factory:
            """
            Puts TLS between, or what looks like it.
            """

            def buildProtocol(self, address: Any) -> Any:
                """
                Make a protocol that marks its transport.
                """
                protocol = on.balancer.factory.buildProtocol(address)
                assert protocol is not None
                makeConnection = protocol.makeConnection

                def connect(wire: Any) -> None:
                    alsoProvides(wire, INegotiated)
                    wire.getHandle = Mock()
                    makeConnection(wire)

                protocol.makeConnection = connect  # type: ignore[method-assign]
                return protocol

        return accept(Factory())

    def test_handshake(self) -> None:
        """
        A client that has not finished its TLS handshake after so long is cut
        off; one that has may wait.
        """
        on = Rig(**{**OFF, "handshakeTimeout": 10})
        on.balancer.pause()
        plain = on.client()
        done, silent = self.tls(on), self.tls(on)
        done.protocol.handshakeCompleted()
        on.advance(9)
        self.assertIsNone(silent.closing)
        on.advance(2)
        self.assertEqual(silent.closing, "abort")
        self.assertEqual((plain.closing, done.closing), (None, None))
        silent.lose()
        self.assertEqual(on.recorder.outcomes, {3: Outcome.HANDSHAKE_TIMEOUT})

    def test_handshakeOff(self) -> None:
        """
        Without that time-out it may take for ever.
        """
        on = Rig(**OFF)
        on.client()
        silent = self.tls(on)
        on.clock.pump([1.0] * 1000)
        self.assertIsNone(silent.closing)


class LoopTests(SynchronousTestCase):
    """
    When it looks.
    """

    def sweeper(self, clock: Clock, **settings: Any) -> Sweeper:
        """
        Make one with nothing to look at.
        """
        table = SessionTable(clock, Events(), lambda: None)
        queue = ConnectionQueue(POLICIES["least"](), list)
        return Sweeper(
            clock, table, queue, RelayContext(1024), Settings(**{**OFF, **settings})
        )

    def test_period(self) -> None:
        """
        It looks ten times in the shortest time-out, but neither all the time nor
        too rarely to notice who was reset.
        """
        for settings, period in (
            ({}, 0.5),
            ({"idleTimeout": 3600}, 0.5),
            ({"idleTimeout": 3600, "answerTimeout": 1}, 0.1),
            ({"queueTimeout": 0.001}, 0.02),
        ):
            clock = Clock()
            self.sweeper(clock, **settings).start()
            (call,) = clock.getDelayedCalls()
            self.assertAlmostEqual(call.getTime(), period)

    def test_idleBalancer(self) -> None:
        """
        A balancer without sessions does nothing at all.
        """
        on = Rig()
        self.assertEqual(on.clock.getDelayedCalls(), [])
        client = on.client()
        self.assertEqual(len(on.clock.getDelayedCalls()), 1)
        client.lose()
        on.backends[0].wires[0].lose()
        on.advance(1)
        self.assertEqual(on.clock.getDelayedCalls(), [])
        on.client()
        self.assertEqual(len(on.clock.getDelayedCalls()), 1)

    def test_stop(self) -> None:
        """
        It can be stopped, running or not.
        """
        clock = Clock()
        sweeper = self.sweeper(clock)
        self.successResultOf(sweeper.stop())
        sweeper.start()
        sweeper.start()
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        self.successResultOf(sweeper.stop())
        self.assertEqual(clock.getDelayedCalls(), [])

"""
Tests for L{iawlb.workers.deadlines}, in memory.
"""

from __future__ import annotations

from itertools import chain
from typing import Any
from unittest.mock import Mock

from twisted.internet.interfaces import INegotiated
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.workers.deadlines import PER_TURN
from iawlb.workers.timelimits import COARSEST, FINEST
from tests.doubles import Recorder, Rig, Wire, accept

OFF = {
    "queueTimeout": 0,
    "handshakeTimeout": 0,
    "idleTimeout": 0,
    "halfClosedTimeout": 0,
    "answerTimeout": 0,
    "keepaliveIdle": 0,
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
        A byte in either direction keeps a session open.
        """
        on = self.on(idleTimeout=10)
        on.advance(8)
        self.client.receive(b"x")
        on.advance(8)
        self.destination.receive(b"x")
        on.advance(8)
        self.client.receive(b"x")
        on.advance(9.9)
        self.assertIsNone(self.outcome(on))
        on.advance(1.2)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)

    def test_stillDelivered(self) -> None:
        """
        A slow peer keeps its session open as long as it takes bytes: a session is
        closed when its peer has taken none for the whole time.
        """
        on = self.on(idleTimeout=10)
        on.advance(5)
        for left in (b"1234", b"34", b"4"):
            self.client.dataBuffer = left  # type: ignore[attr-defined]
            on.advance(10)
        on.advance(4.5)
        self.assertIsNone(self.outcome(on))
        on.advance(3.5)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)
        self.assertBothClosing("abort")

    def test_deliveredLate(self) -> None:
        """
        A session that is closed is not cut off while its client still takes what was
        written, and is when the client takes no more.
        """
        on = self.on(idleTimeout=10)
        self.client.dataBuffer = bytes(41)  # type: ignore[attr-defined]
        on.advance(20.6)
        self.assertBothClosing()
        for left in range(40, 0, -1):
            self.client.dataBuffer = bytes(left)  # type: ignore[attr-defined]
            on.advance(0.1)
        self.assertBothClosing()
        on.advance(2.1)
        self.assertBothClosing("abort")

    def test_cutOff(self) -> None:
        """
        A session that does not close in order by the next look is cut off, even if one
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
        self.client.receive(b"q")
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

    def test_halfClosedAsIdle(self) -> None:
        """
        By default a half-closed session has the idle time-out: an answer may take as
        long as any other byte.
        """
        on = self.on(halfClosedTimeout="idle", idleTimeout=100)
        on.advance(20)
        self.client.end()
        on.advance(99.9)
        self.destination.receive(b"late answer")
        on.advance(99.9)
        self.assertIsNone(self.outcome(on))
        on.advance(1.2)
        self.assertIs(self.outcome(on), Outcome.DESTINATION_HALF_CLOSED_TIMEOUT)

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

    def test_answerInTurns(self) -> None:
        """
        Each question has its own time, however many came before it, and a shorter
        idle time-out or half-close is not forgotten over it.
        """
        on = self.on(answerTimeout=10, idleTimeout=30)
        for _ in range(20):
            self.client.receive(b"q")
            on.advance(4)
            self.destination.receive(b"a")
        self.client.receive(b"q")
        on.advance(9.9)
        self.assertIsNone(self.outcome(on))
        on.advance(1.2)
        self.assertIs(self.outcome(on), Outcome.ANSWER_TIMEOUT)

    def test_answerAfterwards(self) -> None:
        """
        An answered session is idle like any other.
        """
        on = self.on(answerTimeout=10, idleTimeout=30)
        self.client.receive(b"q")
        on.advance(5)
        self.destination.receive(b"a")
        on.advance(29.9)
        self.assertIsNone(self.outcome(on))
        on.advance(1.2)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)

    def test_client(self) -> None:
        """
        A client has so long for its first byte, and for the next one after the
        destination's last; the destination may take its time.
        """
        for idle in (0, 100):
            on = self.on(clientTimeout=10, idleTimeout=idle)
            on.advance(9)
            self.client.receive(b"q")
            on.advance(30)
            self.destination.receive(b"a")
            on.advance(9)
            self.destination.receive(b"a")
            on.advance(9)
            self.client.receive(b"q")
            on.advance(20)
            self.assertIsNone(self.outcome(on))
            self.destination.receive(b"a")
            on.advance(9.9)
            self.assertIsNone(self.outcome(on))
            on.advance(1.2)
            self.assertIs(self.outcome(on), Outcome.CLIENT_TIMEOUT)
            self.assertBothClosing()

    def test_silentClient(self) -> None:
        """
        A client that never says a word is closed when the time is over.
        """
        on = self.on(clientTimeout=10, idleTimeout=100)
        on.advance(9.9)
        self.assertIsNone(self.outcome(on))
        on.advance(1.2)
        self.assertIs(self.outcome(on), Outcome.CLIENT_TIMEOUT)

    def test_clientStillTakes(self) -> None:
        """
        A client that takes its answer slowly is not silent.
        """
        on = self.on(clientTimeout=10)
        self.client.receive(b"q")
        self.destination.receive(b"a")
        for left in range(40, 0, -1):
            self.client.dataBuffer = bytes(left)  # type: ignore[attr-defined]
            on.advance(1)
        self.assertIsNone(self.outcome(on))
        on.advance(20.1)
        self.assertIs(self.outcome(on), Outcome.CLIENT_TIMEOUT)

    def test_clientAndAnswer(self) -> None:
        """
        Each side has its own time, whoever has the shorter one.
        """
        for client, answer in ((10, 20), (20, 10)):
            for asks in (True, False):
                on = self.on(clientTimeout=client, answerTimeout=answer)
                for _ in range(5):
                    self.client.receive(b"q")
                    on.advance(9)
                    self.destination.receive(b"a")
                    on.advance(9)
                if asks:
                    self.client.receive(b"q")
                on.advance((answer if asks else client - 9) - 0.1)
                self.assertIsNone(self.outcome(on))
                on.advance(1.2)
                expected = Outcome.ANSWER_TIMEOUT if asks else Outcome.CLIENT_TIMEOUT
                self.assertIs(self.outcome(on), expected)

    def test_clientEnded(self) -> None:
        """
        A client that has ended its half can send nothing, and one whose destination
        has ended need not: the half-closed time-out applies.
        """
        for ending in ("client", "destination"):
            on = self.on(clientTimeout=10, halfClosedTimeout=30)
            self.client.receive(b"q")
            self.destination.receive(b"a")
            getattr(self, ending).end()
            on.advance(29.9)
            self.assertIsNone(self.outcome(on))
            on.advance(1.2)
            self.assertIsNot(self.outcome(on), Outcome.CLIENT_TIMEOUT)
            self.assertIsNotNone(self.outcome(on))

    def test_clientLongerThanIdle(self) -> None:
        """
        A client time-out that is no shorter than the idle time-out changes nothing.
        """
        on = self.on(clientTimeout=10, idleTimeout=10)
        (session,) = on.balancer.sessions
        assert session.relay is not None
        self.assertIsNone(session.relay.onSooner)
        on.advance(11)
        self.assertIs(self.outcome(on), Outcome.IDLE_TIMEOUT)

    def test_earlyEnd(self) -> None:
        """
        A client that had ended before it was connected has its half-closed time
        from then on.
        """
        on = Rig(**{**OFF, "halfClosedTimeout": 10})
        on.backends[0].hold = True
        self.client = on.client()
        self.client.end()
        on.advance(5)
        self.destination = on.backends[0].succeed()
        on.advance(9.9)
        self.assertIsNone(self.outcome(on))
        on.advance(1.2)
        self.assertIs(self.outcome(on), Outcome.DESTINATION_HALF_CLOSED_TIMEOUT)

    def test_refusesToClose(self) -> None:
        """
        A transport from another library that raises when it is closed is cut off, and
        keeps no other session open.
        """
        on = self.on(idleTimeout=10)
        second = on.client()
        self.client.loseConnection = Mock(side_effect=OSError)  # type: ignore[method-assign]
        on.advance(12)
        self.assertEqual(self.client.closing, "abort")
        self.assertEqual(second.closing, "abort")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

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
        The time in the queue counts from the entry into it, as in HAProxy: a long TLS
        handshake takes nothing away from it.
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
        Without that time-out a client waits for ever.
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
        Without that time-out a handshake may take for ever.
        """
        on = Rig(**OFF)
        on.client()
        silent = self.tls(on)
        on.clock.pump([1.0] * 1000)
        self.assertIsNone(silent.closing)


class RaisingObserver(Recorder):
    """
    An observer with a fault.
    """

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Remember, and raise.
        """
        super().sessionChanged(session, event)
        raise ValueError(event)


class StoppedTests(SynchronousTestCase):
    """
    A process that was stopped for longer than the time-outs (SIGSTOP, a frozen
    container) has not read what came meanwhile.
    """

    def test_relayed(self) -> None:
        """
        Sessions that have passed bytes meanwhile stay open; those that have not are
        closed, a little later.
        """
        on = Rig(**{**OFF, "idleTimeout": 10})
        busy, idle = on.clients(2)
        on.clock.advance(30)
        busy.receive(b"came meanwhile")
        self.assertEqual((busy.closing, idle.closing), (None, None))
        on.advance(1.1)
        self.assertEqual((busy.closing, idle.closing), (None, "close"))

    def test_waiting(self) -> None:
        """
        A client that waits gets the slot that became free meanwhile.
        """
        on = Rig(slots=1, **{**OFF, "queueTimeout": 10})
        first, second = on.clients(2)
        on.clock.advance(30)
        self.assertIsNone(second.closing)
        first.lose()
        on.backends[0].wires[0].lose()
        on.advance(2)
        self.assertIsNone(second.closing)
        self.assertEqual(on.recorder.pulls, [(1, "a"), (2, "a")])

    def test_alwaysLate(self) -> None:
        """
        A process that is always late, as it has too much to do, ends sessions too.
        """
        on = Rig(**{**OFF, "idleTimeout": 10})
        idle = on.client()
        for _ in range(6):
            on.clock.advance(5)
        self.assertIsNotNone(idle.closing)


class LookTests(SynchronousTestCase):
    """
    When sessions are looked at, and how many at a time.
    """

    def test_notBefore(self) -> None:
        """
        No session is looked at before its time, however many others come, ask and go.
        """
        on = Rig(**{**OFF, "idleTimeout": 100, "answerTimeout": 2})
        looks: list[Session] = []
        deadlines = on.balancer._pool.deadlines
        lookAt = deadlines._lookAt

        def count(session: Session, last: Any, now: float) -> None:
            looks.append(session)
            lookAt(session, last, now)

        deadlines._lookAt = count  # type: ignore[method-assign]
        on.clients(50)
        busy = on.client()
        for _ in range(90):
            busy.receive(b"q")
            on.backends[0].wires[-1].receive(b"a")
            on.advance(1)
        quiet = on.balancer.sessions[:50]
        self.assertEqual([each for each in looks if each in quiet], [])
        # Once for each answer time-out that came, and no more.
        self.assertTrue(0 < len(looks) <= 45, len(looks))

    def test_nothingPerByte(self) -> None:
        """
        Without an answer time-out, what a session does changes nothing here.
        """
        on = Rig(**{**OFF, "idleTimeout": 100, "halfClosedTimeout": 200})
        client = on.client()
        (session,) = on.balancer.sessions
        before = session.bucket
        client.receive(b"q")
        on.backends[0].wires[0].receive(b"a")
        on.backends[0].wires[0].end()
        self.assertIs(session.bucket, before)
        assert session.relay is not None
        self.assertIsNone(session.relay.onSooner)

    def crowd(self, number: int, **settings: Any) -> tuple[Rig, list[int]]:
        """
        Make a balancer that has room for so many clients.

        @return: With it, how many clients were closed in each step of the reactor.
        """
        on = Rig(1, **{**OFF, **settings})
        on.balancer.table.limit = number
        deadlines = on.balancer._pool.deadlines
        look = deadlines._look
        closed: list[int] = []

        def counted() -> None:
            before = self.closed
            look()
            closed.append(self.closed - before)

        deadlines._look = counted  # type: ignore[method-assign]
        self.closed = 0
        return on, closed

    def clients(self, on: Rig, number: int) -> list[Wire]:
        """
        Have so many clients connect, and count those that are closed.
        """

        def count() -> None:
            self.closed += 1

        wires = on.clients(number)
        for each in wires:
            each.loseConnection = count  # type: ignore[method-assign]
        return wires

    def test_slices(self) -> None:
        """
        10,000 sessions whose time-out comes at once are closed in slices, between
        which the reactor has its turn.
        """
        on, closed = self.crowd(10_000, idleTimeout=10)
        self.clients(on, 10_000)
        on.clock.advance(11)
        on.clock.advance(COARSEST)
        self.assertEqual((sum(closed), max(closed)), (10_000, PER_TURN))

    def test_slicesOfTheBusy(self) -> None:
        """
        Sessions that have passed bytes since they were connected are closed in slices,
        too.
        """
        on, closed = self.crowd(1000, idleTimeout=15)
        wires = self.clients(on, 1000)
        on.advance(5)
        for each in wires:
            each.receive(b"x")
        on.advance(14)
        self.assertEqual(self.closed, 0)
        on.clock.advance(2)
        on.clock.advance(COARSEST)
        self.assertEqual((sum(closed), max(closed)), (1000, PER_TURN))

    def test_slicesOfTheQueue(self) -> None:
        """
        10,000 sessions that wait are closed in slices, too.
        """
        on, closed = self.crowd(10_000, queueTimeout=10)
        on.balancer.pause()
        self.clients(on, 9_999)
        on.clock.advance(11)
        on.clock.advance(COARSEST)
        self.assertEqual((sum(closed), max(closed)), (9_999, PER_TURN))
        self.assertEqual(on.balancer.waiting, 0)

    def test_othersEnd(self) -> None:
        """
        When a session ends while the sessions that are due with it are looked at, it
        has one end, and so has each of the others.
        """
        for moved in (False, True):
            on = Rig(**{**OFF, "idleTimeout": 10})
            clients = on.clients(4)
            if moved:
                on.advance(1)
                for each in clients:
                    each.receive(b"x")
                on.advance(9.2)
            wires = on.backends[0].wires
            # The second has its end in the first's, and the other way round.
            for one, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
                pairs = [(clients[each], wires[each]) for each in (one, other)]

                def close(pairs: Any = pairs) -> None:
                    for wire in chain(*pairs):
                        if wire.connected:
                            wire.lose()

                clients[one].loseConnection = close  # type: ignore[method-assign]
            on.advance(12)
            self.assertEqual(on.balancer.sessions, [])
            self.assertEqual(sorted(on.recorder.outcomes), [1, 2, 3, 4])

    def test_pulledMeanwhile(self) -> None:
        """
        If ending a session that waited too long makes room, another session that a
        worker pulls then is served.
        """
        on = Rig(**{**OFF, "queueTimeout": 10})
        on.balancer.pause()
        first, second = on.clients(2)
        first.loseConnection = on.balancer.resume  # type: ignore[method-assign]
        on.advance(11)
        self.assertIsNone(second.closing)
        self.assertEqual(len(on.backends[0].wires), 1)

    def test_observerRaises(self) -> None:
        """
        An observer that raises does not keep any session from being ended.
        """
        on = Rig(**{**OFF, "idleTimeout": 10})
        on.balancer.observe(RaisingObserver())
        clients = on.clients(3)
        on.advance(11)
        for wire in (*clients, *on.backends[0].wires):
            wire.lose()
        self.assertEqual(len(on.recorder.outcomes), 3)
        self.assertTrue(self.flushLoggedErrors(ValueError))

    def test_precise(self) -> None:
        """
        No session outlives its time-out by more than a tenth, or half a second if
        that is less, or 20 ms if that is more; none is ended before.
        """
        for setting, timeout in (
            ("idleTimeout", 3600),
            ("idleTimeout", 1),
            ("queueTimeout", 0.001),
            ("queueTimeout", 30),
        ):
            on = Rig(1, **{**OFF, setting: timeout})
            if setting == "queueTimeout":
                on.balancer.pause()
            clients = []
            for _ in range(10):
                clients.append((on.clock.seconds(), on.client()))
                on.clock.advance(0.0003 * timeout)
            late = max(FINEST, min(COARSEST, timeout / 10)) + 2 * FINEST
            while on.clock.getDelayedCalls():
                (call,) = on.clock.getDelayedCalls()
                on.clock.advance(max(0, call.getTime() - on.clock.seconds()))
                now = on.clock.seconds()
                for began, client in clients:
                    if client.closing is None:
                        self.assertLess(now - began, timeout + late)
                    elif client.connected:
                        self.assertGreaterEqual(now - began, timeout)
                        client.lose()
                for wire in on.backends[0].wires:
                    if wire.connected and wire.closing:
                        wire.lose()
            self.assertEqual(len(on.recorder.outcomes), 10)

    def test_idleBalancer(self) -> None:
        """
        A balancer without sessions does nothing at all, soon after the last one.
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

    def test_oneTimer(self) -> None:
        """
        One timer is enough for all kinds of time-outs, and it goes when the
        balancer stops.
        """
        on = Rig(1, slots=5, drainTimeout=0)
        on.clients(10)
        self.assertEqual(on.balancer.waiting, 5)
        self.assertEqual(len(on.clock.getDelayedCalls()), 1)
        stopping = on.balancer.stopService()
        for session in on.balancer.sessions:
            side: Any = session.side
            side.transport.lose()
        for wire in on.backends[0].wires:
            wire.lose()
        self.successResultOf(stopping)
        self.assertEqual(on.clock.getDelayedCalls(), [])

    def test_stoppedByTheLast(self) -> None:
        """
        A balancer that stops when a time-out ends its last session has stopped
        then: nothing more is looked at, and nothing fails.
        """
        for setting in ("queueTimeout", "idleTimeout"):
            on = Rig(**{**OFF, "drainTimeout": 30, setting: 10})
            if setting == "queueTimeout":
                on.balancer.pause()
            client = on.client()
            wires = [client, *on.backends[0].wires]
            stopping = on.balancer.stopService()
            self.assertNoResult(stopping)
            for wire in wires:
                wire.loseConnection = wire.lose  # type: ignore[method-assign]
            on.advance(11)
            self.successResultOf(stopping)
            self.assertEqual(on.clock.getDelayedCalls(), [])

"""
Tests for L{iawlb.relay.portable}, in memory.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.relay.context import RelayContext
from iawlb.relay.portable import PortableRelay
from iawlb.relay.side import Side, SideOwner
from tests.doubles import Rig, Wire


class Early(SideOwner):
    """
    Has a side before there is a relay.
    """

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Do nothing: not expected.
        """
        raise AssertionError("lost")


class Base(SynchronousTestCase):
    """
    A relay between two stand-ins.
    """

    def setUp(self) -> None:
        """
        Make both sides and the relay, without starting it.
        """
        self.released = 0
        self.outcomes: list[Outcome] = []
        self.now = 0.0
        context = RelayContext(65536, seconds=lambda: self.now)
        self.sides = [Side(Early(), context) for _ in range(2)]
        self.client, self.destination = [Wire(side) for side in self.sides]
        self.client.protocol.makeConnection(self.client)
        self.destination.protocol.makeConnection(self.destination)
        self.relay = PortableRelay(
            self.sides[0], self.sides[1], self._released, self.outcomes.append
        )

    def _released(self) -> None:
        self.released += 1


class BytesTests(Base):
    """
    Bytes, counts and back-pressure.
    """

    def test_passed(self) -> None:
        """
        The bytes that one side receives are written to the other, and counted.
        """
        self.relay.start()
        self.client.receive(b"question")
        self.destination.receive(b"ans")
        self.destination.receive(b"wer")
        self.assertEqual(self.destination.written, b"question")
        self.assertEqual(self.client.written, b"answer")
        self.assertEqual((self.relay.bytesIn, self.relay.bytesOut), (8, 6))

    def test_early(self) -> None:
        """
        Bytes that came before the relay was started come first, and once.
        """
        self.client.receive(b"1")
        self.client.receive(b"2")
        self.destination.receive(b"hello")
        self.relay.start()
        self.client.receive(b"3")
        self.assertEqual(self.destination.written, b"123")
        self.assertEqual(self.client.written, b"hello")

    def test_earlyEnd(self) -> None:
        """
        A client that ended before the relay started is served: its bytes and its end
        are passed on.
        """
        self.client.receive(b"all")
        self.client.end()
        self.relay.start()
        self.assertEqual(self.destination.written, b"all")
        self.assertTrue(self.destination.ended)
        self.assertFalse(self.client.reading)
        self.assertTrue(self.destination.reading)

    def test_notReadBefore(self) -> None:
        """
        Nothing is read before the relay starts, and both sides are after.
        """
        wires = (self.client, self.destination)
        self.assertEqual([wire.reading for wire in wires], [False, False])
        self.relay.start()
        self.assertEqual([wire.reading for wire in wires], [True, True])

    def test_backPressure(self) -> None:
        """
        A transport that has enough to write stops the other side's reading, and lets it
        continue later.
        """
        self.relay.start()
        for wire, other in (
            (self.client, self.destination),
            (self.destination, self.client),
        ):
            wire.producer.pauseProducing()
            self.assertFalse(other.reading)
            self.assertTrue(wire.reading)
            wire.producer.resumeProducing()
            self.assertTrue(other.reading)

    def test_asked(self) -> None:
        """
        An answer is awaited from the client's byte to the destination's.
        """
        self.relay.start()
        seen = [self.relay.asked]
        self.client.receive(b"q")
        seen.append(self.relay.asked)
        self.destination.receive(b"a")
        seen.append(self.relay.asked)
        self.assertEqual(seen, [False, True, False])

    def test_moved(self) -> None:
        """
        Every byte read and every end is noted with its time; silence is not.
        """
        self.relay.start()
        seen = [self.relay.moved]
        for now, step in enumerate(
            (
                lambda: self.client.receive(b"q"),
                lambda: self.destination.receive(b"a"),
                lambda: None,
                self.client.end,
                lambda: self.destination.lose(reset=True),
            )
        ):
            self.now = now + 1.0
            step()
            seen.append(self.relay.moved)
        self.assertEqual(seen, [0, 1, 2, 2, 4, 5])

    def test_undelivered(self) -> None:
        """
        Bytes that wait to be written count as undelivered, on either side that is open.
        """
        self.relay.start()
        self.client.dataBuffer = b"12"  # type: ignore[attr-defined]
        self.destination.dataBuffer = b"345"  # type: ignore[attr-defined]
        self.assertEqual(self.relay.undelivered(), 5)
        self.destination.lose(reset=True)
        self.assertEqual(self.relay.undelivered(), 2)

    def test_afterTheStart(self) -> None:
        """
        A TLS transport that reports its handshake again disturbs nothing.
        """
        self.relay.start()
        self.relay.sideMade(self.sides[0])
        self.relay.sideReady(self.sides[0])
        self.assertEqual(self.outcomes, [])


class EndTests(Base):
    """
    Ends and losses.
    """

    def setUp(self) -> None:
        """
        Start the relay.
        """
        super().setUp()
        self.relay.start()

    def assertEnded(self, *outcomes: Outcome) -> None:
        """
        Check how the session ended, if it did, and that the slot was released once.
        """
        self.assertEqual(self.outcomes, list(outcomes))
        if outcomes:
            self.assertEqual(self.released, 1)

    def test_inOrder(self) -> None:
        """
        The end of one side is passed on; after the other end, both sides are closed,
        and the session has ended once both are.
        """
        self.client.end()
        self.assertTrue(self.destination.ended)
        self.assertIsNone(self.destination.closing)
        self.destination.receive(b"answer")
        self.destination.end()
        self.assertEqual(self.client.written, b"answer")
        self.assertEqual(self.client.closing, "close")
        self.assertEqual(self.destination.closing, "close")
        self.client.lose()
        self.assertEqual((self.released, self.outcomes), (0, []))
        self.destination.lose()
        self.assertEnded(Outcome.DONE)

    def test_destinationEndsFirst(self) -> None:
        """
        So it is when the destination ends first.
        """
        self.destination.end()
        self.assertTrue(self.client.ended)
        self.client.receive(b"more")
        self.assertEqual(self.destination.written, b"more")
        self.client.end()
        self.assertEqual(self.client.closing, "close")
        self.assertEqual(self.destination.closing, "close")
        self.destination.lose()
        self.client.lose()
        self.assertEnded(Outcome.DONE)

    def test_resetPassedOn(self) -> None:
        """
        A reset of one side resets the other, and the outcome says so.
        """
        for one, other, outcome in (
            ("client", "destination", Outcome.CLIENT_RESET),
            ("destination", "client", Outcome.DESTINATION_RESET),
        ):
            self.setUp()
            getattr(self, one).lose(reset=True)
            self.assertEqual(getattr(self, other).closing, "abort")
            getattr(self, other).lose()
            self.assertEnded(outcome)

    def test_clientResetAfterEnd(self) -> None:
        """
        A client that had sent everything and then resets is gone: the destination takes
        what is to be written, and is closed.
        """
        self.client.receive(b"all")
        self.client.end()
        self.client.lose(reset=True)
        self.assertEqual(self.destination.closing, "close")
        self.destination.receive(b"answer")
        self.assertEqual(self.client.written, b"")
        self.assertEqual(self.relay.bytesOut, 0)
        self.destination.lose()
        self.assertEnded(Outcome.CLIENT_RESET)

    def test_destinationResetAfterEnd(self) -> None:
        """
        A destination that had ended its answer and then resets has answered: the client
        is not reset, and what it still sends is discarded.
        """
        self.destination.receive(b"answer")
        self.destination.end()
        self.client.pauseProducing()
        self.destination.lose(reset=True)
        self.assertIsNone(self.client.closing)
        self.assertTrue(self.client.ended)
        self.assertTrue(self.client.reading)
        self.client.receive(b"more")
        self.assertEqual(self.relay.bytesIn, 0)
        self.client.end()
        self.assertEqual(self.client.closing, "close")
        self.client.lose()
        self.assertEnded(Outcome.DESTINATION_RESET)

    def test_clientClosesBothHalves(self) -> None:
        """
        A client that cannot have halves, as with TLS, and closes is done: its
        destination is closed.
        """
        self.client.lose()
        self.assertEqual(self.destination.closing, "close")
        self.destination.lose()
        self.assertEnded(Outcome.DONE)

    def test_destinationClosesBothHalves(self) -> None:
        """
        When a destination without halves closes, the client is sent the end, and is
        read until it closes, while its bytes are discarded: so it gets the whole
        answer.
        """
        self.destination.receive(b"answer")
        self.destination.lose()
        self.assertEqual(self.released, 1)
        self.assertTrue(self.client.ended)
        self.assertIsNone(self.client.closing)
        self.client.lose()
        self.assertEnded(Outcome.DONE)

    def test_destinationClosesAfterClientsEnd(self) -> None:
        """
        If the client had ended before that, it is closed.
        """
        self.client.end()
        self.destination.lose()
        self.assertEqual(self.client.closing, "close")
        self.client.lose()
        self.assertEnded(Outcome.DONE)

    def test_unanswered(self) -> None:
        """
        A destination that ends in order without having answered has an outcome of its
        own, with and without halves. The client is ended in order.
        """
        for end in (self._end, self._lose):
            self.setUp()
            self.client.receive(b"question")
            end()
            self.client.end()
            if self.destination.connected:
                self.destination.lose()
            self.assertEqual(self.client.closing, "close")
            self.client.lose()
            self.assertEnded(Outcome.UNANSWERED)

    def _end(self) -> None:
        self.destination.end()

    def _lose(self) -> None:
        self.destination.lose()

    def test_answered(self) -> None:
        """
        Normal ends do not have that outcome: a destination that ends behind its answer,
        or that was asked nothing; one that ends because the client has sent its
        farewell, and ended; and a client that resets.
        """
        for end in (self._end, self._lose):
            for happens, outcome in (
                ((), Outcome.DONE),
                (("ask", "answer"), Outcome.DONE),
                (("ask", "leave"), Outcome.DONE),
                # Perhaps a last word to which no answer belongs.
                (("ask", "answer", "ask"), Outcome.DONE),
                (("reset",), Outcome.CLIENT_RESET),
            ):
                self.setUp()
                for each in happens:
                    if each == "ask":
                        self.client.receive(b"question")
                    elif each == "answer":
                        self.destination.receive(b"answer")
                    elif each == "leave":
                        self.client.end()
                    else:
                        self.client.lose(reset=True)
                end()
                if self.client.connected:
                    self.client.lose()
                if self.destination.connected:
                    self.destination.lose()
                self.assertEnded(outcome)

    def test_halfClosed(self) -> None:
        """
        If nothing more comes, the outcome names the side that has not ended.
        """
        late = (
            Outcome.CLIENT_HALF_CLOSED_TIMEOUT,
            Outcome.DESTINATION_HALF_CLOSED_TIMEOUT,
        )
        for happens, to, outcome in (
            ("end", "destination", late[0]),
            ("lose", "destination", late[0]),
            ("end", "client", late[1]),
            ("lose", "client", late[1]),
        ):
            self.setUp()
            self.assertIsNone(self.relay.halfClosed)
            getattr(getattr(self, to), happens)()
            self.assertIs(self.relay.halfClosed, outcome)

    def test_close(self) -> None:
        """
        A session can be closed: both sides, after what they have to write; the outcome
        is the one given first.
        """
        self.relay.close(Outcome.IDLE_TIMEOUT)
        self.assertEqual(self.client.closing, "close")
        self.assertEqual(self.destination.closing, "close")
        self.destination.lose()
        self.client.lose(reset=True)
        self.assertEnded(Outcome.IDLE_TIMEOUT)

    def test_closeRest(self) -> None:
        """
        A session of which one side is closed can be closed, too.
        """
        self.destination.lose()
        self.relay.close(Outcome.CLIENT_HALF_CLOSED_TIMEOUT)
        self.assertEqual(self.client.closing, "close")
        self.assertIsNone(self.destination.closing)
        self.client.lose()
        self.assertEnded(Outcome.CLIENT_HALF_CLOSED_TIMEOUT)

    def test_abort(self) -> None:
        """
        A session can be cut off: what was left of it is reset, and an outcome that it
        had stays.
        """
        self.relay.close(Outcome.IDLE_TIMEOUT)
        self.client.lose()
        self.relay.abort(Outcome.KILLED)
        self.assertEqual(self.client.closing, "close")
        self.assertEqual(self.destination.closing, "abort")
        self.destination.lose()
        self.assertEnded(Outcome.IDLE_TIMEOUT)

    def test_leak(self) -> None:
        """
        When a side is lost while the other is paused by its full buffer, the other is
        no longer held back, and is reset: no connection stays open.
        """
        for which in (0, 1):
            self.setUp()
            wires = (self.client, self.destination)
            lost, other = wires[which], wires[1 - which]
            lost.producer.pauseProducing()
            self.assertFalse(other.reading)
            lost.lose(reset=True)
            self.assertIsNone(other.producer)
            self.assertEqual(other.closing, "abort")


class MemoryTests(SynchronousTestCase):
    """
    What is left of a session.
    """

    def test_noCycle(self) -> None:
        """
        A session that has ended is gone at once, and not when the garbage
        collector comes round and stops everything.
        """
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        on = Rig()
        left: list[ref[object]] = []
        ways = ("inOrder", "clientReset", "destinationReset", "killed")
        for number, way in enumerate(ways):
            client = on.client()
            destination = on.backends[0].wires[number]
            client.receive(b"q")
            destination.receive(b"a")
            (session,) = on.balancer.sessions
            sides = [client.protocol, destination.protocol]
            left += [ref(each) for each in (*sides, session.relay, session.holder)]
            if way == "inOrder":
                client.end()
                destination.end()
            elif way == "killed":
                on.balancer.cutDrain()
                on.clock.advance(0)
            client.lose(reset=way == "clientReset")
            destination.lose(reset=way == "destinationReset")
            # As Twisted's own transports do when they are lost.
            client.protocol = destination.protocol = None
            del session, sides
        self.assertEqual(on.balancer.sessions, [])
        self.assertEqual([each() for each in left if each() is not None], [])

"""
Sessions that reach their longest age: in memory, on sockets that are served by hand,
and a whole balancer.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.errors import InvalidSetting
from iawlb.options.bounds import share
from iawlb.workers.timelimits import LAST, PARTING
from tests import test_fast
from tests.doubles import Rig, Wire
from tests.net import Echo, Peer, until
from tests.rig import RELAYS, payload, rig
from tests.test_deadlines import OFF
from tests.test_relay_tls import Tls, tls

__all__ = ["tls"]

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

AGE = {**OFF, "maxAge": 20, "maxAgeJitter": 0}


class ShareTests(SynchronousTestCase):
    """
    How a share is written.
    """

    @given(st.floats(0, 0.9))
    def test_numbers(self, value: float) -> None:
        """
        A number from 0 to 0.9 is one.
        """
        self.assertEqual(share(value), value)

    @given(st.one_of(st.text(max_size=8), st.floats(), st.booleans(), st.integers()))
    def test_any(self, value: object) -> None:
        """
        Anything else is one from 0 to 90%, or refused with a line that says so.
        """
        try:
            self.assertTrue(0 <= share(value) <= 0.9)
        except InvalidSetting as error:
            self.assertIn("is not a share from 0 to 90%, such as 10%", str(error))

    def test_text(self) -> None:
        """
        Text may be per cent or a share.
        """
        for text, value in (("10%", 0.1), ("0.25", 0.25), ("0", 0), ("2.5%", 0.025)):
            self.assertAlmostEqual(share(text), value)
        for text in ("10", "91%", "-1%", "1e-1", "10 %", "٣%", ""):
            self.assertRaises(InvalidSetting, share, text)


class AgeTests(SynchronousTestCase):
    """
    Sessions in memory.
    """

    def on(self, **settings: Any) -> Rig:
        """
        Make a balancer with one session.
        """
        on = Rig(**{**AGE, **settings})
        self.client = on.client()
        self.destination = on.backends[0].wires[0]
        return on

    @property
    def wires(self) -> tuple[Wire, Wire]:
        """
        Both connections.
        """
        return self.client, self.destination

    def assertEnds(self, ends: bool, closing: str | None = None) -> None:
        """
        Check whether both sides got their end, and are closed.
        """
        self.assertEqual([each.ended for each in self.wires], [ends, ends])
        self.assertEqual([each.closing for each in self.wires], [closing, closing])

    def test_besideOthers(self) -> None:
        """
        A session that waits for an answer, or whose half is closed, reaches its age in
        time, whichever other time-outs are set.
        """
        for others in (
            {"clientTimeout": 10, "idleTimeout": 100},
            {"answerTimeout": 50, "idleTimeout": 100},
            {"halfClosedTimeout": 50, "idleTimeout": 100},
            {"clientTimeout": 10, "answerTimeout": 50, "halfClosedTimeout": 60},
        ):
            on = self.on(**others)
            on.advance(1)
            self.client.receive(b"question")
            if "halfClosedTimeout" in others:
                self.client.end()
            on.advance(18.5)
            self.assertFalse(self.client.ended)
            on.advance(1.5)
            self.assertTrue(self.client.ended)
            for each in self.wires:
                each.lose()
            self.assertEqual(on.recorder.outcomes, {1: Outcome.TOO_OLD})

    def test_inOrder(self) -> None:
        """
        A session that has reached its age is ended in order: both sides get their end,
        then both close. A busy one is, too.
        """
        for busy in (False, True):
            on = self.on(idleTimeout=100)
            for _ in range(20):
                if busy:
                    self.client.receive(b"q")
                    self.destination.receive(b"a")
                self.assertEnds(False)
                on.advance(1)
            on.advance(0.6)
            self.assertEnds(True)
            self.client.end()
            self.assertEnds(True)
            self.destination.end()
            self.assertEnds(True, "close")
            for each in self.wires:
                each.lose()
            self.assertEqual(on.recorder.outcomes, {1: Outcome.TOO_OLD})

    def test_discarded(self) -> None:
        """
        What comes behind the end is read, so that no reset follows, and goes nowhere.
        """
        on = self.on()
        self.client.receive(b"q")
        self.destination.producer.pauseProducing()
        self.assertFalse(self.client.reading)
        on.advance(20.6)
        self.assertEqual([each.reading for each in self.wires], [True, True])
        self.client.receive(b"more")
        self.destination.receive(b"more")
        self.assertEqual((self.destination.written, self.client.written), (b"q", b""))
        (session,) = on.balancer.sessions
        self.assertEqual((session.bytesIn, session.bytesOut), (1, 0))

    def test_doesNotClose(self) -> None:
        """
        Peers that do not close within five seconds are reset; sooner, if the
        half-closed time-out is shorter.
        """
        for halfClosed, seconds in ((0, PARTING), (100, PARTING), (1, 1)):
            on = self.on(halfClosedTimeout=halfClosed)
            on.advance(20.6)
            self.client.end()
            on.advance(seconds - 0.7)
            self.assertEnds(True)
            on.advance(1.3)
            self.assertEnds(True, "abort")
            for each in self.wires:
                each.lose()
            self.assertEqual(on.recorder.outcomes, {1: Outcome.TOO_OLD})

    def test_stillTakes(self) -> None:
        """
        A peer that still takes its bytes gets them, but for no more than a minute.
        """
        on = self.on()
        for left in range(30_000, 30_000 - int(LAST) + 1, -1):
            self.client.dataBuffer = bytes(left)  # type: ignore[attr-defined]
            on.advance(20 if left == 30_000 else 1)
            self.assertEqual(self.client.closing, None)
        for left in range(1000, 990, -1):
            self.client.dataBuffer = bytes(left)  # type: ignore[attr-defined]
            on.advance(1)
        self.assertEnds(True, "abort")

    def test_takesNothing(self) -> None:
        """
        A peer that takes nothing for five seconds is reset.
        """
        on = self.on()
        self.client.dataBuffer = bytes(100)  # type: ignore[attr-defined]
        on.advance(20 + PARTING)
        self.assertEnds(True)
        on.advance(1.1)
        self.assertEnds(True, "abort")

    def test_jitter(self) -> None:
        """
        With jitter no session grows older than the age, none is ended before its share,
        and few together.
        """
        settings: dict[str, Any] = {**AGE, "maxAge": 100, "maxAgeJitter": "50%"}
        on = Rig(**settings)
        clients = on.clients(500)
        before, most = 0, 0
        for second in range(100):
            self.assertTrue(second > 49 or not before)
            on.advance(1)
            ended = sum(each.ended for each in clients)
            before, most = ended, max(most, ended - before)
        on.advance(0.6)
        self.assertTrue(all(each.ended for each in clients))
        self.assertTrue(most <= 20, most)

    def test_waiting(self) -> None:
        """
        Neither the time in the queue nor that of the connect counts.
        """
        on = Rig(**{**AGE, "slots": 1})
        on.backends[0].hold = True
        self.client = on.client()
        on.advance(4)
        self.destination = on.backends[0].succeed()
        second = on.client()
        on.advance(19.5)
        self.assertEnds(False)
        on.advance(1.1)
        self.assertEnds(True)
        for each in self.wires:
            each.end()
            each.lose()
        on.advance(3)
        self.client, self.destination = second, on.backends[0].succeed()
        on.advance(19.5)
        self.assertEnds(False)
        on.advance(1.1)
        self.assertEnds(True)

    def test_halfClosed(self) -> None:
        """
        A session of which one side has ended is ended, too, and so is one that is being
        reset behind its last bytes.
        """
        for which in (0, 1):
            on = self.on()
            self.wires[which].end()
            on.advance(20.6)
            self.wires[1 - which].end()
            self.assertEqual([each.closing for each in self.wires], ["close", "close"])
        on = self.on()
        self.destination.receive(b"a")
        self.destination.lose()
        self.client.dataBuffer = bytes(100)  # type: ignore[attr-defined]
        on.advance(20.6 + PARTING + 0.5)
        self.assertEqual((self.client.ended, self.client.closing), (True, "abort"))
        self.client.lose()
        self.assertEqual(on.recorder.outcomes, {1: Outcome.TOO_OLD})

    def test_closing(self) -> None:
        """
        A session that an idle time-out has closed, and whose peer takes its bytes ever
        more slowly, is bounded by its age as well.
        """
        on = self.on(idleTimeout=5)
        self.client.dataBuffer = bytes(100_000)  # type: ignore[attr-defined]
        on.advance(11)
        for left in range(90_000, 90_000 - 68, -1):
            self.assertEqual(self.client.closing, "close")
            self.client.dataBuffer = bytes(left)  # type: ignore[attr-defined]
            on.advance(1)
        for left in range(1000, 980, -1):
            self.client.dataBuffer = bytes(left)  # type: ignore[attr-defined]
            on.advance(0.5)
        self.assertEqual(self.client.closing, "abort")

    def test_resetMeanwhile(self) -> None:
        """
        A peer that is reset after it got its end does not change how the session ended.
        """
        on = self.on(answerTimeout=1)
        self.client.receive(b"q")
        self.destination.receive(b"a")
        on.advance(20.6)
        self.assertEnds(True)
        self.destination.end()
        self.client.lose(reset=True)
        self.assertEqual(on.recorder.outcomes, {})
        on.advance(PARTING + 0.5)
        self.destination.lose()
        self.assertEqual(on.recorder.outcomes, {1: Outcome.TOO_OLD})

    def test_raises(self) -> None:
        """
        A step that raises after that resets both sides.
        """
        on = self.on()
        on.advance(20.6)
        (session,) = on.balancer.sessions
        relay: Any = session.relay

        def fail(side: object) -> None:
            raise RuntimeError("no")

        relay.sideEnded = fail
        self.client.end()
        self.assertEnds(True, "abort")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_beforeIdle(self) -> None:
        """
        Whichever comes first ends a session: its silence or its age.
        """
        on = self.on(idleTimeout=5)
        on.advance(5.6)
        self.assertEnds(False, "close")
        on = self.on(idleTimeout=15)
        on.advance(10)
        self.client.receive(b"q")
        on.advance(10.6)
        self.assertEnds(True)

    def test_paused(self) -> None:
        """
        A session of a paused pool grows old as any other.
        """
        on = self.on()
        on.balancer._pool.pause()
        on.advance(20.6)
        self.assertEnds(True)

    def test_stopped(self) -> None:
        """
        A process that was stopped for long reads what has come meanwhile before it ends
        sessions that have grown too old.
        """
        on = self.on()
        on.advance(1)
        on.clock.advance(1000)
        self.assertEnds(False)
        self.client.receive(b"last")
        self.assertEqual(self.destination.written, b"last")
        on.advance(0.6)
        self.assertEnds(True)

    def test_changed(self) -> None:
        """
        An age that is changed holds for the sessions that come after.
        """
        on = self.on()
        pool = on.balancer._pool
        pool.configure(replace(pool.settings, maxAge=5))
        first = self.wires
        self.client = on.client()
        self.destination = on.backends[0].wires[1]
        on.advance(5.6)
        self.assertEnds(True)
        self.assertEqual([each.ended for each in first], [False, False])
        on.advance(15)
        self.assertEqual([each.ended for each in first], [True, True])


class FastTests(test_fast.Base):
    """
    The fast relay.
    """

    def test_inOrder(self) -> None:
        """
        Both sides get all that was read, then the end, although they still send.
        """
        for unix in (False, True):
            self.begin(unix)
            sent = self.fill(self.client)
            self.destination.send(b"answer")
            self.settle()
            self.relay.part(Outcome.TOO_OLD)
            self.assertEqual(self.drained(self.client), (b"answer", "ended"))
            passed = self.relay.bytesIn
            received = self.drained(self.destination)
            self.assertEqual(received, (sent[:passed], "ended"))
            for each in (self.client, self.destination):
                each.send(b"more")
                self.settle()
                each.shutdown(socket.SHUT_WR)
            self.settle()
            self.assertEqual(self.outcomes[-1:], [Outcome.TOO_OLD])
            self.assertEqual((self.relay.bytesIn, self.relay.bytesOut), (passed, 6))

    def test_reset(self) -> None:
        """
        A peer that is reset afterwards leaves the other side to close.
        """
        self.begin()
        self.relay.part(Outcome.TOO_OLD)
        self.client.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.client.close()
        self.settle()
        self.assertEqual(self.outcomes, [])
        self.assertEqual(self.drained(self.destination), (b"", "ended"))
        self.destination.close()
        self.settle()
        self.assertEnded(Outcome.TOO_OLD)


relays = pytest.mark.parametrize("relay", RELAYS)


class Talker(Peer):
    """
    A peer that sends for as long as it is not told to end.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        super().dataReceived(data)
        self.write(b"more")


@relays
@pytest_twisted.ensureDeferred
async def test_talkers(relay: str, tmp_path: Path) -> None:
    """
    A session whose peers never stop talking ends in order at its age.
    """
    async with rig(relay, "tcp4", tmp_path, Talker, maxAge="300ms") as on:
        client = await on.client(Talker)
        client.write(b"hello")
        await until(lambda: client.ended)
        destination = await on.server.peer(0)
        await until(lambda: destination.ended)
        client.close()
        destination.close()
        session = await on.ended()
        assert session.outcome is Outcome.TOO_OLD
        assert not client.wasReset
        assert not destination.wasReset
        assert session.bytesOut == len(client.received)
        assert session.bytesIn == len(destination.received)


@pytest_twisted.ensureDeferred
async def test_tls(tls: Tls, tmp_path: Path) -> None:
    """
    A session over TLS gets TLS's own end.
    """
    data = payload(200_000)
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        Echo,
        listener=tls.string(),
        destinationListens=tls.server(),
        wrap=tls.client,
        maxAge="500ms",
        strictTls=True,
    ) as on:
        client = await on.client(wrap=tls.client)
        client.write(data)
        await until(lambda: client.ended or client.lost)
        assert not client.wasReset
        assert client.received == data[: len(client.received)]
        client.close()
        assert await on.outcome() is Outcome.TOO_OLD

"""
Tests for the policy that chooses the destination that answers soonest.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core import answertimes
from iawlb.core.answertimes import AnswerTimes
from iawlb.core.destination import Destination
from iawlb.core.least import Least
from iawlb.core.policy import IMeasuringPolicy
from iawlb.core.quick import Quick, timesOf
from iawlb.core.source import Source
from tests.doubles import Rig, Wire, destination
from tests.net import until
from tests.rig import RELAYS, rig

repeatable = settings(deadline=None, derandomize=True, database=None)


class AnswerTimesTests(SynchronousTestCase):
    """
    What is kept of a destination's answers.
    """

    def setUp(self) -> None:
        """
        Nothing is known.
        """
        self.times = AnswerTimes()

    def add(self, *seconds: float, now: float = 0.0) -> float | None:
        """
        Count answers, and return the median.
        """
        for each in seconds:
            self.times.add(each, now)
        return self.times.median

    def test_median(self) -> None:
        """
        The median is that of the answers; of two middle ones, the shorter.
        """
        self.assertIsNone(self.times.median)
        self.assertEqual(self.add(0.3), 0.3)
        self.assertEqual(self.add(0.1), 0.1)
        self.assertEqual(self.add(9.0), 0.3)

    @repeatable
    @given(
        st.lists(
            st.tuples(st.floats(0, 100), st.floats(0, 3)), min_size=1, max_size=200
        )
    )
    def test_recent(self, answers: list[tuple[float, float]]) -> None:
        """
        Whatever comes, the median is that of the newest 63, those forgotten that are
        older than 20 seconds.
        """
        times, now = AnswerTimes(), 0.0
        kept: list[tuple[float, float]] = []
        for seconds, wait in answers:
            now += wait
            times.add(seconds, now)
            kept.append((now, max(1e-6, seconds)))
            kept = [each for each in kept[-63:] if each[0] >= now - 20]
            ordered = sorted(each[1] for each in kept)
            self.assertEqual(times.median, ordered[(len(ordered) - 1) // 2])

    def test_bounded(self) -> None:
        """
        However many answers come, no more than 63 are kept.
        """
        for number in range(10_000):
            self.times.add(number % 7, number / 1000)
        self.assertEqual(len(self.times._kept), answertimes.KEPT)
        self.assertEqual(len(self.times._sorted), answertimes.KEPT)

    def test_decays(self) -> None:
        """
        A destination that is not used seems faster with time: one five times slower
        than the others is the fastest after 24 seconds.
        """
        self.add(0.5)
        other = AnswerTimes()
        other.add(0.1, 22)
        self.assertLess(other.pace, self.times.pace)
        other.add(0.1, 24)
        self.assertGreater(other.pace, self.times.pace)

    def test_recovered(self) -> None:
        """
        One good answer after a while shows that a destination has recovered.
        """
        self.add(*[5.0] * 63)
        self.assertEqual(self.add(0.1, now=23.0), 0.1)

    def test_failsFast(self) -> None:
        """
        Sessions that the destination ends without a byte do not make it seem fast:
        three in a row outweigh all answers before; one or two may be the fault of a
        client. An answer between them counts.
        """
        self.add(*[0.1] * 10)
        for _ in range(2):
            self.times.failed(0)
            self.times.failed(0)
            self.assertEqual(self.times.median, 0.1)
            self.add(0.1)
        for _ in range(3):
            self.times.failed(0)
        self.assertEqual(self.times.median, 60)
        # Tried again, it fails again.
        self.times.failed(30)
        self.assertEqual(self.times.median, 60)
        self.assertEqual(self.add(0.1, now=90), 0.1)

    def test_failsFromTheStart(self) -> None:
        """
        A new destination that ends its first session without a byte is not the fastest.
        """
        self.times.failed(0)
        self.assertEqual(self.times.median, 60)

    def test_clientLeft(self) -> None:
        """
        A client that has left without an answer shows how long the answer would have
        taken at least, if that is longer than what is known.
        """
        self.times.unanswered(0.2, 0)
        self.assertEqual(self.times.median, 0.2)
        self.times.unanswered(0.1, 0)
        self.assertEqual(self.times.median, 0.2)
        self.times.unanswered(5, 0)
        self.times.unanswered(5, 0)
        self.assertEqual(self.times.median, 5)


class QuickTests(SynchronousTestCase):
    """
    Which destination is chosen.
    """

    def setUp(self) -> None:
        """
        Make ten destinations of which nothing is known.
        """
        self.clock = Clock()
        self.clock.advance(1e6)
        self.quick = Quick(self.clock.seconds)
        self.all = [destination(str(number), number) for number in range(10)]

    def known(self, *medians: float) -> None:
        """
        Let destinations be known, each by one answer.
        """
        for each, median in zip(self.all, medians, strict=False):
            timesOf(each).add(median, self.clock.seconds())

    def chosen(self, take: bool = True) -> Destination:
        """
        Choose, and take a slot.
        """
        chosen = self.quick.choose(self.all)
        if take:
            chosen.take()
        return chosen

    def test_fastestWhileIdle(self) -> None:
        """
        Of idle destinations the fastest is chosen, not the one idle the longest.
        """
        self.known(*[0.5] * 7, 0.1, 0.5, 0.5)
        self.assertEqual(self.chosen().name, "7")

    def test_slowOneLast(self) -> None:
        """
        A destination five times slower gets its first session when the others have so
        many that it would be the quicker one.
        """
        self.known(0.5, *[0.1] * 9)
        for _ in range(18):
            self.assertNotEqual(self.chosen().name, "0")
        self.assertEqual({each.active for each in self.all[1:]}, {2})
        self.assertIn("0", [self.chosen().name for _ in range(10)])

    def test_likeLeast(self) -> None:
        """
        If all are equally fast, the least loaded one is chosen.
        """
        self.known(*[0.1] * 10)
        draw = random.Random(1)
        for _ in range(200):
            for each in self.all:
                while each.active and draw.random() < 0.5:
                    each.give()
                while draw.random() < 0.5:
                    each.take()
            chosen = self.chosen(take=False)
            self.assertEqual(chosen.load, Least().choose(self.all).load)

    def test_weight(self) -> None:
        """
        Of two that are equally fast and loaded, the one with the larger weight is
        chosen.
        """
        self.all = [destination("a", 0), destination("b", 1, weight=3)]
        self.known(0.1, 0.1)
        self.assertEqual(self.chosen().name, "b")

    def test_hotOnesAreLeftOut(self) -> None:
        """
        The fastest destination is left out while it has more sessions than nearly all
        others, however fast it was.
        """
        self.known(1e-5, *[0.1] * 9)
        self.assertEqual(self.chosen().name, "0")
        self.assertNotEqual(self.chosen().name, "0")

    def test_neverAnswers(self) -> None:
        """
        A destination that suddenly takes clients and never answers gets no more of them
        than the policy least would give it, although none of its times is known to be
        bad: so one in ten of those that are open, not all.
        """
        self.known(*[0.1] * 10)
        for _ in range(2000):
            chosen = self.chosen()
            if chosen is not self.all[3] and chosen.active > 2:
                chosen.give()
        self.assertLessEqual(self.all[3].active, 3)

    def test_unknownAreTried(self) -> None:
        """
        Each destination of which nothing is known is tried once, the least loaded
        first; until it has answered, those that are known are preferred, and of those
        that are not, the least loaded.
        """
        self.assertEqual(
            sorted(self.chosen().name for _ in range(10)), list("0123456789")
        )
        self.assertEqual({self.chosen().active for _ in range(10)}, {2})
        self.known(0.1, 0.1)
        self.assertIn(self.chosen(), self.all[:2])

    def test_newOneIsTried(self) -> None:
        """
        A destination that is added under load is tried with one session at first.
        """
        self.known(*[0.1] * 9)
        for each in self.all[:9]:
            each.take()
            each.take()
        new = self.all[9]
        self.assertIs(self.chosen(), new)
        self.assertIsNot(self.chosen(), new)

    def test_newOneIsNotTrusted(self) -> None:
        """
        Until a new one has answered, it is slower than the slowest that is known, also
        where all are slow: so one that never answers gets few.
        """
        self.known(*[5.0] * 9)
        chosen = [self.chosen().name for _ in range(10)]
        self.assertEqual(chosen.count("9"), 1)

    def test_failingFast(self) -> None:
        """
        A destination that ends each session at once, and so is always idle, gets five
        of a thousand clients in ten seconds; C{least} would give it more than the half.
        """
        failing, served = self.all[0], 0
        self.known(*[0.1] * 10)
        for number in range(1000):
            self.clock.advance(0.01)
            chosen = self.chosen()
            served += chosen is failing
            if chosen is failing:
                failing.give()
                timesOf(failing).failed(self.clock.seconds())
            else:
                timesOf(chosen).add(0.1, self.clock.seconds())
                if number % 10 == 0:
                    continue
                chosen.give()
        self.assertLessEqual(served, 5)

    def test_recoveredIsTried(self) -> None:
        """
        A slow destination that nobody uses is tried again after some time, and used
        again once it has answered well.
        """
        slow = self.all[0]
        self.known(0.5, *[0.1] * 9)
        uses = []
        for second in range(60):
            self.clock.advance(1)
            for _ in range(9):
                chosen = self.chosen()
                timesOf(chosen).add(0.1, self.clock.seconds())
                if chosen is slow:
                    uses.append(second)
            for each in self.all:
                while each.active:
                    each.give()
        self.assertGreater(uses[0], 20)
        self.assertLess(uses[0], 30)
        self.assertGreater(len(uses), 20)

    def test_thousand(self) -> None:
        """
        Of a thousand destinations 128 are compared at a time, so that one choice does
        not take long; all come to their turn.
        """
        self.all = [destination(str(number), number) for number in range(1000)]
        self.known(*[0.5] * 700, 0.1, *[0.5] * 299)
        found = [self.chosen(take=False).name for _ in range(80)]
        self.assertGreaterEqual(found.count("700"), 9)
        self.assertGreaterEqual(len(set(found)), 8)

    def test_partsAreFull(self) -> None:
        """
        Each time 128 are compared, also where one more could take the session: so a
        slow one is not chosen for want of others.
        """
        self.all = [destination(str(number), number) for number in range(129)]
        self.known(*[0.1] * 128, 0.5)
        self.assertNotIn("128", {self.chosen(take=False).name for _ in range(200)})

    def test_thousandNewOnes(self) -> None:
        """
        Each of a thousand that are not known is tried once, before any is tried twice.
        """
        self.all = [destination(str(number), number) for number in range(1000)]
        self.assertEqual(len({self.chosen() for _ in range(1000)}), 1000)


class TimedTests(SynchronousTestCase):
    """
    What the balancer finds out about its destinations, over transports of Twisted's.
    """

    def setUp(self) -> None:
        """
        Run a balancer.
        """
        self.rig = Rig(policy="quick", answerTimeout="20s")
        (self.destination,) = self.rig.balancer.destinations
        self.addCleanup(self.rig.balancer.stopService)

    def session(self) -> tuple[Wire, Wire]:
        """
        Connect a client to the destination.
        """
        client = self.rig.client()
        return client, self.rig.backends[0].wires[-1]

    def test_timeToFirstByte(self) -> None:
        """
        What counts is the time from the client's last byte before the answer to the
        answer's first byte: how long a client took to ask, or to send a long question,
        does not count, nor does how long the answer is; later answers do not either.
        """
        client, server = self.session()
        self.rig.advance(3)
        client.receive(b"half of ")
        self.rig.advance(2)
        client.receive(b"a question")
        self.rig.advance(0.25)
        server.receive(b"half of ")
        self.assertAlmostEqual(self.destination.answerTime or 0, 0.25)
        self.rig.advance(5)
        server.receive(b"an answer")
        client.receive(b"another")
        self.rig.advance(9)
        server.receive(b"answer")
        self.assertAlmostEqual(self.destination.answerTime or 0, 0.25)

    def test_speaksFirst(self) -> None:
        """
        The greeting of a destination that speaks first is timed from the connect.
        """
        _, server = self.session()
        self.rig.advance(0.5)
        server.receive(b"hello")
        self.assertAlmostEqual(self.destination.answerTime or 0, 0.5)

    def test_closedWithoutAByte(self) -> None:
        """
        A destination that closes without an answer has failed, whether or not it was
        asked.
        """
        for asks in (True, False):
            self.destination.times = AnswerTimes()
            client, server = self.session()
            if asks:
                client.receive(b"question")
                self.rig.advance(2)
            server.lose(reset=True)
            self.assertEqual(self.destination.answerTime, 60)

    def test_closedIdle(self) -> None:
        """
        A destination that closes a connection on which it was asked nothing for a while
        has not failed; nor has one whose client leaves without a question.
        """
        _, server = self.session()
        self.rig.advance(5)
        server.lose()
        client, server = self.session()
        client.lose(reset=True)
        server.lose()
        client, server = self.session()
        client.end()
        server.lose()
        self.assertIsNone(self.destination.answerTime)

    def test_clientLeaves(self) -> None:
        """
        A client that leaves after it has waited for an answer shows that the answer
        takes at least so long.
        """
        client, server = self.session()
        client.receive(b"question")
        self.rig.advance(7)
        client.lose(reset=True)
        server.lose()
        self.assertAlmostEqual(self.destination.answerTime or 0, 7)

    def test_timeOut(self) -> None:
        """
        So does a session that the answer time-out ends.
        """
        client, server = self.session()
        client.receive(b"question")
        self.rig.advance(23)
        client.lose()
        server.lose()
        self.assertGreater(self.destination.answerTime or 0, 20)

    def test_connectFails(self) -> None:
        """
        A connect that fails says nothing about answers: such a destination is down.
        """
        self.rig.backends[0].refuse = ConnectionRefusedError()
        self.rig.client()
        self.assertIsNone(self.destination.answerTime)

    def test_policyChanges(self) -> None:
        """
        When the policy changes while clients are served, timing begins with the next
        client, or ends; clients that are served are not disturbed.
        """
        pool = self.rig.balancer._pool
        before = self.session()
        pool.configure(_with(pool.settings, policy="least"))
        self.assertIsNone(self.destination.answerTime)
        before[0].receive(b"question")
        before[1].receive(b"answer")
        between = self.session()
        pool.configure(_with(pool.settings, policy="quick"))
        between[0].receive(b"question")
        between[1].receive(b"answer")
        after = self.session()
        after[0].receive(b"question")
        self.rig.advance(1)
        after[1].receive(b"answer")
        self.assertAlmostEqual(self.destination.answerTime or 0, 1)
        for each in (before, between, after):
            self.assertEqual(each[0].written, b"answer")

    def test_policyChangesBeforeTheEnd(self) -> None:
        """
        When the policy changes while a client waits for its answer, the end of that
        session counts no more.
        """
        pool = self.rig.balancer._pool
        client, server = self.session()
        client.receive(b"question")
        pool.configure(_with(pool.settings, policy="least"))
        server.lose(reset=True)
        client.lose()
        self.assertIsNone(self.destination.times)

    def test_othersPayNothing(self) -> None:
        """
        Under other policies nothing is timed.
        """
        rig = Rig()
        self.addCleanup(rig.balancer.stopService)
        client = rig.client()
        client.receive(b"question")
        rig.backends[0].wires[0].receive(b"answer")
        self.assertIsNone(rig.balancer.destinations[0].times)


def _with(settings: Any, **changes: Any) -> Any:
    return replace(settings, **changes)


@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("timeouts", [{}, {"answerTimeout": "20s"}])
@pytest_twisted.ensureDeferred
async def test_sockets(relay: str, timeouts: dict[str, Any], tmp_path: Path) -> None:
    """
    By both relays the answer of a destination is timed, and one that closes without a
    byte has failed; whatever time-outs are set.
    """
    async with rig(relay, "tcp4", tmp_path, policy="quick", **timeouts) as on:
        (destination,) = on.balancer.destinations
        client, server = await on.pair()
        client.write(b"question")
        await server.got(8)
        assert destination.answerTime is None
        server.write(b"answer")
        await client.got(6)
        first = destination.answerTime
        assert first is not None and 0 < first < 10
        for number in range(2, 5):
            client, server = await on.pair()
            client.write(b"question")
            await server.got(8)
            server.reset()
            await client.closed()
            await on.ended(number - 1)
        await until(lambda: destination.answerTime == 60)


def test_measures() -> None:
    """
    Only C{quick} asks for times.
    """
    assert IMeasuringPolicy.providedBy(Quick())
    assert not IMeasuringPolicy.providedBy(Source())

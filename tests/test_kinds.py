"""
Tests for L{iawlb.relay.kinds} and L{iawlb.relay.judging}: whatever relays have to do at
the same time, they do it together.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.relay.judging import judging
from iawlb.relay.kinds import Kinds, Reports, kindsFor
from iawlb.relay.limited import Bandwidth
from iawlb.relay.throttle import Throttle
from tests import test_fast, test_relay
from tests.doubles import Rig
from tests.test_deadlines import OFF


def all_(throttle: Throttle) -> Iterator[tuple[Kinds, bool, bool, bool]]:
    """
    Make all kinds.

    @return: With each, whether it reports turns or questions, measures, and judges.
    """
    for reports, measures, rate, judges in product(
        Reports, (False, True), (0, 1_000_000), (False, True)
    ):
        kinds = kindsFor(reports, measures, Bandwidth(rate, rate, throttle))
        reported = reports is not Reports.NOTHING
        yield judging(kinds) if judges else kinds, reported, measures, judges


class Reported:
    """
    Counts what a relay reports.
    """

    def __init__(self, relay: Any, reports: bool, measures: bool, judges: bool) -> None:
        self.sooner = self.answers = 0
        self.ends: list[bool] = []
        if reports:
            relay.onSooner = self._sooner
        if measures:
            relay.onAnswer = self._answer
        if judges:
            relay.onFirstEnd = self.ends.append
        self._expected = reports, measures, judges

    def _sooner(self) -> None:
        self.sooner += 1

    def _answer(self) -> None:
        self.answers += 1

    def check(self, case: SynchronousTestCase, relay: type) -> None:
        """
        Check that all was reported that was to be.
        """
        reports, measures, judges = self._expected
        case.assertEqual(self.sooner > 2, reports, relay)
        case.assertEqual(self.answers, int(measures), relay)
        case.assertEqual(self.ends, [False] if judges else [], relay)


class PortableTests(test_relay.Base):
    """
    Relays between transports.
    """

    def test_all(self) -> None:
        """
        Each passes bytes and ends, and reports what it has to.
        """
        for kinds, *what in all_(Throttle(Clock())):
            self.setUp()
            for side in self.sides:
                del side.other
            relay: Any = kinds.portable(
                self.sides[0], self.sides[1], self._released, self.outcomes.append
            )
            reported = Reported(relay, *what)
            relay.start()
            self.client.receive(b"question")
            self.destination.receive(b"answer")
            self.client.end()
            self.destination.end()
            for each in (self.client, self.destination):
                each.lose()
            self.assertEqual(self.outcomes, [Outcome.DONE])
            self.assertEqual((relay.bytesIn, relay.bytesOut), (8, 6))
            reported.check(self, type(relay))


class FastTests(test_fast.Base):
    """
    Relays between sockets.
    """

    kinds: Kinds

    def join(self, client: Any, destination: Any) -> None:
        """
        Make a relay of the kind, without starting it.
        """
        relay: Any = self.kinds.fast(
            client,
            destination,
            self.poller,
            self.context.sends,
            self._released,
            self.outcomes.append,
        )
        self.relay = relay
        self.reported = Reported(relay, *self.what)

    def test_all(self) -> None:
        """
        Each passes bytes and ends, and reports what it has to.
        """
        for kinds, *what in all_(Throttle(Clock())):
            self.setUp()
            self.kinds, self.what = kinds, what
            self.begin()
            self.client.send(b"question")
            self.assertEqual(self.read(self.destination), b"question")
            self.destination.send(b"answer")
            self.assertEqual(self.read(self.client), b"answer")
            for each in (self.client, self.destination):
                each.close()
                self.settle()
            self.assertEnded(Outcome.DONE)
            self.reported.check(self, type(self.relay))


class SameTests(SynchronousTestCase):
    """
    Settings that change.
    """

    def test_changed(self) -> None:
        """
        The relays of a pool whose settings are set again stay the same classes, however
        often that is; so nothing piles up.
        """
        on = Rig(**{**OFF, "bandwidthIn": 1000, "ejectAfter": 3})
        pool = on.balancer._pool
        (worker,) = pool.workers.values()
        before = worker.kinds
        for _ in range(3):
            pool.configure(pool.settings)
            self.assertEqual(worker.kinds, before)

"""
Tests for log lines that are not to flood the log.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.ratelimit import OncePerSecond


class OncePerSecondTests(SynchronousTestCase):
    """
    At most one line a second.
    """

    def setUp(self) -> None:
        """
        Keep the lines, with their times.
        """
        self.begin()

    def begin(self) -> None:
        """
        Begin with no lines.
        """
        self.clock = Clock()
        self.lines: list[tuple[float, int]] = []
        self.limited = OncePerSecond(
            self.clock, lambda number: self.lines.append((self.clock.seconds(), number))
        )

    def add(self, number: int) -> None:
        """
        Count several events now.
        """
        for _ in range(number):
            self.limited.add()

    def test_firstAtOnce(self) -> None:
        """
        A single event is written at once, and nothing after it.
        """
        self.add(1)
        self.assertEqual(self.lines, [(0.0, 1)])
        self.clock.advance(5)
        self.assertEqual(self.lines, [(0.0, 1)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_flood(self) -> None:
        """
        A thousand are two lines: the first, and the number of the others.
        """
        self.add(1000)
        self.clock.advance(1)
        self.assertEqual(self.lines, [(0.0, 1), (1.0, 999)])

    def test_stop(self) -> None:
        """
        At the end what is left is written, and no timer stays; stopping twice
        writes nothing twice.
        """
        self.limited.stop()
        self.add(3)
        self.limited.stop()
        self.limited.stop()
        self.assertEqual(self.lines, [(0.0, 1), (0.0, 2)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopWithNothingLeft(self) -> None:
        """
        At the end nothing is written when all was.
        """
        self.add(1)
        self.limited.stop()
        self.assertEqual(self.lines, [(0.0, 1)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @settings(deadline=None, derandomize=True, database=None)
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.25, 1.0, 3.0])))
    )
    def test_noneUncounted(self, steps: list[tuple[int, float]]) -> None:
        """
        Whatever happens, lines are a second apart and their numbers add up.
        """
        self.begin()
        for number, wait in steps:
            self.add(number)
            self.clock.pump([0.25] * int(wait * 4))
        self.clock.pump([0.25] * 8)
        times = [time for time, _ in self.lines]
        self.assertTrue(all(b - a >= 1 for a, b in pairwise(times)))
        self.assertEqual(
            sum(number for _, number in self.lines), sum(number for number, _ in steps)
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

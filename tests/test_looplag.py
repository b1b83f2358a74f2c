"""
Tests for the measure of how late the reactor calls.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.observe.looplag import PERIOD, REMEMBERED, LoopLag


class LoopLagTests(SynchronousTestCase):
    """
    The lag of a reactor that is kept busy.
    """

    def test_measures(self) -> None:
        """
        A reactor that was kept busy shows: the latest lag, the largest of the last
        minute, and all of them in ranges.
        """
        clock = Clock()
        lag = LoopLag(clock)
        self.assertEqual(lag.largest, 0.0)
        lag.start()
        lag.start()
        for busy in (0.0, 0.5, 0.0):
            clock.advance(PERIOD + busy)
        self.assertEqual((lag.last, lag.largest), (0.0, 0.5))
        self.assertEqual((sum(lag.histogram.counts), lag.histogram.sum), (3, 0.5))
        clock.pump([PERIOD] * REMEMBERED)
        self.assertEqual(lag.largest, 0.0)
        lag.stop()
        lag.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

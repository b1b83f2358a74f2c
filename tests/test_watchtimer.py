"""
Tests for L{iawlb.relay.watchtimer}, in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.relay.watchtimer import EVERY, WatchTimer


class Watch:
    """
    A watch whose connections the test adds.
    """

    def __init__(self, onFirst: Callable[[], None]) -> None:
        self.onFirst = onFirst
        self.number = 0
        self.checks = 0
        self.error: Exception | None = None

    def __len__(self) -> int:
        return self.number

    def check(self) -> None:
        """
        Note the check.
        """
        self.checks += 1
        if self.error is not None:
            raise self.error

    def add(self) -> None:
        """
        Watch a connection.
        """
        if not self.number:
            self.onFirst()
        self.number += 1


class WatchTimerTests(SynchronousTestCase):
    """
    When watches are checked.
    """

    def setUp(self) -> None:
        """
        Make two watches.
        """
        self.clock = Clock()
        self.timer = WatchTimer(self.clock)
        self.one, self.two = self.timer.add(Watch), self.timer.add(Watch)

    def timers(self) -> int:
        """
        Count the timers.
        """
        return len(self.clock.getDelayedCalls())

    def test_whileWatched(self) -> None:
        """
        While any watch has a connection, all are checked every half a second, with
        one timer; else there is none.
        """
        self.assertEqual(self.timers(), 0)
        self.one.add()
        self.two.add()
        self.assertEqual(self.timers(), 1)
        self.clock.pump([EVERY] * 3)
        self.assertEqual((self.one.checks, self.two.checks), (3, 3))
        self.one.number = 0
        self.clock.pump([EVERY] * 3)
        self.assertEqual((self.one.checks, self.two.checks), (6, 6))
        self.two.number = 0
        self.clock.pump([EVERY] * 3)
        self.assertEqual((self.one.checks, self.two.checks), (7, 7))
        self.assertEqual(self.timers(), 0)
        self.two.add()
        self.clock.advance(EVERY)
        self.assertEqual(self.two.checks, 8)

    def test_raises(self) -> None:
        """
        A check that raises does not end the checks.
        """
        self.one.add()
        self.one.error = ValueError()
        self.assertRaises(ValueError, self.clock.advance, EVERY)
        self.one.error = None
        self.clock.advance(EVERY)
        self.assertEqual((self.one.checks, self.two.checks), (2, 1))

    def test_stop(self) -> None:
        """
        When stopped, the object keeps no timer, and can start again.
        """
        self.timer.stop()
        self.one.add()
        self.timer.stop()
        self.assertEqual(self.timers(), 0)
        self.timer.start()
        self.clock.advance(EVERY)
        self.assertEqual(self.one.checks, 1)

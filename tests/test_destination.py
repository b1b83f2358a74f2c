"""
Tests for the state of a destination.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.destination import REVIEW, Destination
from iawlb.settings import DestinationSettings, Settings
from tests.doubles import destination


def connect(one: Destination, times: int = 1) -> None:
    """
    Begin several connects together, which all succeed.
    """
    for _ in range(times):
        one.take()
    for _ in range(times):
        one.connected()


class StateTests(SynchronousTestCase):
    """
    Whether a destination takes sessions.
    """

    def test_lean(self) -> None:
        """
        The attributes of a destination are in slots: with more than thirty attributes
        elsewhere, looking at one takes longer.
        """
        self.assertFalse(hasattr(destination(), "__dict__"))

    def test_load(self) -> None:
        """
        The load is the number of sessions by weight; of two destinations with
        equal loads that of the heavier one is a trifle less.
        """
        one = destination("web-1", weight=4)
        seen = [one.load]
        for step in (one.take, one.take, one.give):
            step()
            seen.append(one.load)
        for load, wanted in zip(seen, (0, 0.25, 0.5, 0.25), strict=True):
            self.assertAlmostEqual(load, wanted, 6)
        light = destination("web-2", weight=3)
        self.assertLess(destination("web-3", weight=4).load, light.load)

    def test_words(self) -> None:
        """
        The state is one word, the one that matters most; only a destination that
        is up takes sessions.
        """
        one = destination("web-1")
        seen = [(one.state, one.available)]
        one.failed("refused")
        seen.append((one.state, one.available))
        one.paused = True
        seen.append((one.state, one.available))
        one.draining = True
        seen.append((one.state, one.available))
        self.assertEqual(
            seen,
            [("up", True), ("down", False), ("paused", False), ("draining", False)],
        )

    def test_everyReasonCounts(self) -> None:
        """
        A destination takes sessions only while nothing speaks against it, in whatever
        order the reasons come and go; the state names the one that matters most.
        """
        one = destination("web-1")
        reasons: list[tuple[str, object, object, str]] = [
            ("standby", True, False, "standby"),
            ("withdrawn", "busy", None, "draining"),
            ("down", "refused", None, "down"),
            ("asleep", "waking", None, "waking"),
            ("paused", True, False, "paused"),
            ("draining", True, False, "draining"),
        ]
        for reason, value, _, state in reasons:
            setattr(one, reason, value)
            self.assertEqual(getattr(one, reason), value)
            self.assertEqual(one.state, state)
            self.assertFalse(one.ready or one.available or one.canPull())
        for reason, _, value, _ in reasons:
            self.assertFalse(one.ready)
            setattr(one, reason, value)
        self.assertEqual(one.state, "up")
        self.assertTrue(one.ready and one.available and one.canPull())

    def test_heldOffIsReady(self) -> None:
        """
        A destination that is held off for a moment is ready, but sessions are bound to
        others.
        """
        one = destination("web-1")
        one.heldOff = True
        self.assertEqual((one.ready, one.available), (True, False))

    def test_whyIsOneLine(self) -> None:
        """
        The reason why a destination is down may quote the peer; it is one line all the
        same, without control characters.
        """
        one = destination("web-1")
        one.failed("bad name: \x1b[2J\nforged line")
        self.assertEqual(one.down, r"bad name: \x1b[2J\nforged line")

    def test_pausedWhileDown(self) -> None:
        """
        A destination that was paused and is resumed while it is down stays down.
        """
        one = destination()
        one.paused = True
        one.failed("refused")
        one.paused = False
        self.assertEqual(one.state, "down")
        one.recovered()
        self.assertEqual(one.state, "up")

    def test_repr(self) -> None:
        """
        In a log or a debugger one sees the destination's name and state.
        """
        one = destination("web-1")
        one.take()
        self.assertEqual(repr(one), "<Destination web-1 up, 1 active>")

    def test_counts(self) -> None:
        """
        Connects that succeeded and tries that failed are counted, and why it is
        down is kept while it is.
        """
        one = destination()
        connect(one)
        one.failed("refused")
        one.failed("timed out")
        self.assertEqual((one.served, one.failures, one.down), (1, 2, "timed out"))
        one.recovered()
        self.assertIsNone(one.down)
        self.assertEqual(one.failures, 2)


class SlotTests(SynchronousTestCase):
    """
    How many sessions a destination takes.
    """

    def test_noMoreThanSlots(self) -> None:
        """
        No more sessions are served at a time than there are slots; a slot that is
        given back can be taken again.
        """
        one = destination(slots=2)
        connect(one)
        connect(one)
        self.assertEqual((one.freeSlots, one.canPull()), (0, False))
        one.give()
        self.assertEqual((one.freeSlots, one.canPull()), (1, True))

    def test_noLimit(self) -> None:
        """
        Without slots there is no limit.
        """
        one = destination()
        for _ in range(1000):
            self.assertTrue(one.canPull())
            connect(one)
        self.assertIsNone(one.freeSlots)

    def test_fewerSlotsThanServed(self) -> None:
        """
        When the slots become fewer than the sessions there are, none is free, and
        none is ever owed.
        """
        one = destination(slots=3)
        connect(one, 3)
        one.slots = 1
        self.assertEqual(one.freeSlots, 0)
        one.give()
        one.give()
        self.assertFalse(one.canPull())
        one.give()
        self.assertTrue(one.canPull())

    def test_leastLimitCounts(self) -> None:
        """
        The user, a slow start and the destination's own check may each set a number
        of slots: the smallest counts, and those that set none do not count.
        """
        one = destination(slots=8)
        one.startSlots = 3
        self.assertEqual((one.limit, one.startSlots), (3, 3))
        one.agentSlots = 2
        self.assertEqual((one.limit, one.agentSlots), (2, 2))
        connect(one)
        connect(one)
        self.assertEqual((one.freeSlots, one.canPull()), (0, False))
        one.agentSlots = None
        self.assertEqual((one.freeSlots, one.canPull()), (1, True))
        one.startSlots = None
        self.assertEqual(one.limit, 8)
        one.slots = 0
        self.assertEqual(one.limit, 0)
        one.startSlots = 1
        self.assertEqual((one.limit, one.slots), (1, 0))

    def test_unavailable(self) -> None:
        """
        A destination that is down does not pull, whatever its slots.
        """
        one = destination(slots=5)
        one.failed("refused")
        self.assertFalse(one.canPull())


class WindowTests(SynchronousTestCase):
    """
    How many connects are under way at a time.
    """

    def window(self, one: Destination) -> int:
        """
        Begin as many connects as may be, and say how many.
        """
        number = 0
        while one.canPull():
            one.take()
            number += 1
        return number

    def test_startsWithOne(self) -> None:
        """
        A new destination gets one client at first, so that only one has to wait if the
        destination is silent.
        """
        self.assertEqual(self.window(destination()), 1)

    def test_growsWithSuccess(self) -> None:
        """
        Connects that succeed together let more go together.
        """
        one = destination()
        for expected in (1, 2, 3, 4, 5, 6):
            number = self.window(one)
            self.assertEqual(number, expected)
            for _ in range(number):
                one.connected()

    def test_growsOnlyWhenUsed(self) -> None:
        """
        Connects one after the other prove nothing about many at a time.
        """
        one = destination()
        for _ in range(50):
            connect(one)
        self.assertEqual(self.window(one), 2)

    def test_followsUse(self) -> None:
        """
        When fewer connects are under way at a time than before, the window
        shrinks: a destination that falls silent long after a busy time holds up
        no more clients than it has made connections at a time lately.
        """
        one = destination()
        for number in range(1, 60):
            connect(one, number)
        for _ in range(3 * REVIEW):
            connect(one, 3)
        self.assertEqual(self.window(one), 4)

    def test_staysForBursts(self) -> None:
        """
        A window that is used whole now and then stays as wide.
        """
        one = destination()
        for number in range(1, 200):
            connect(one, number)
        for _ in range(50):
            connect(one, 200)
        self.assertGreaterEqual(self.window(one), 200)

    def test_busyTimeBeforeFailure(self) -> None:
        """
        The number of connects in use before a failure does not count after it.
        """
        one = destination()
        for number in range(1, 60):
            connect(one, number)
        one.failed("refused")
        one.recovered()
        for _ in range(2 * REVIEW):
            connect(one)
        self.assertEqual(self.window(one), 2)

    def test_startsAgainAfterFailure(self) -> None:
        """
        After a failure the window is one connect again.
        """
        one = destination()
        for number in range(1, 6):
            connect(one, number)
        one.failed("refused")
        one.recovered()
        self.assertEqual(self.window(one), 1)


class FailedOnceTests(SynchronousTestCase):
    """
    Whether a connect that failed may have failed by chance.
    """

    def test_inARow(self) -> None:
        """
        The second in a row is no chance; after a success, or a recovery, one may be
        again.
        """
        one = destination()
        seen = [one.failedOnce(0, 1), one.failedOnce(2, 3)]
        connect(one)
        seen += [one.failedOnce(4, 5), one.failedOnce(6, 7)]
        one.recovered()
        seen += [one.failedOnce(8, 9)]
        self.assertEqual(seen, [True, False, True, False, True])
        self.assertEqual(one.failures, 3)

    def test_together(self) -> None:
        """
        Connects that had begun when the first one failed count as the same failure.
        """
        one = destination()
        seen = [one.failedOnce(*each) for each in ((0, 4), (1, 5), (4, 6), (5, 7))]
        self.assertEqual(seen, [True, True, True, False])


class ProbeTests(SynchronousTestCase):
    """
    How long to wait for the next probe.
    """

    def test_doublesToTheMost(self) -> None:
        """
        The wait doubles with each failed probe until it is the longest, and is
        short again after the destination was up.
        """
        one = destination()
        waits = [one.nextProbe(1.0) for _ in range(8)]
        self.assertEqual(waits, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
        one.recovered()
        self.assertEqual(one.nextProbe(1.0), 0.1)

    @settings(deadline=None, derandomize=True, database=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
    def test_jitter(self, jitters: list[float]) -> None:
        """
        Each wait is from half to the whole of what it would be, so that several
        balancers do not probe together; none is zero.
        """
        own = Settings(backoff=0.5, backoffMax=3)
        one = Destination("a:1", DestinationSettings(name="a"), own)
        whole = 0.5
        for jitter in jitters:
            wait = one.nextProbe(jitter)
            self.assertTrue(whole / 2 <= wait <= whole)
            whole = min(whole * 2, 3)

"""
Tests for L{iawlb.relay.throttle}, in memory.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.relay.throttle import (
    LONGEST,
    PAUSE,
    PER_TURN,
    SPARE,
    TICK,
    Meter,
    Throttle,
)
from tests.doubles import logged


class MeterTests(SynchronousTestCase):
    """
    How many bytes may be read.
    """

    @given(
        st.integers(1, 10**9),
        st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10**9)), max_size=30),
    )
    def test_bound(self, rate: int, steps: list[tuple[float, int]]) -> None:
        """
        However reads and pauses follow each other, in any time no more bytes are
        allowed than the rate times that time, a tenth of a second's worth, and a byte.
        """
        clock = Clock()
        meter = Meter(rate, clock.seconds)
        reads = []
        for pause, wanted in steps:
            clock.advance(pause)
            number = min(wanted, max(0, meter.allowed()))
            meter.spend(number)
            reads.append((clock.seconds(), number))
        for first, (began, _) in enumerate(reads):
            passed = 0
            for now, number in reads[first:]:
                passed += number
                most = rate * (now - began + SPARE) + 1
                self.assertLessEqual(passed, most * (1 + 1e-9))

    def test_wait(self) -> None:
        """
        After the wait that it names, the bytes of that time may be read, or at least
        one.
        """
        for rate, number in ((1, 1), (10, 1), (1000, 50), (10**6, 50_000)):
            clock = Clock()
            meter = Meter(rate, clock.seconds)
            meter.spend(meter.allowed())
            left = meter.left
            clock.advance(meter.wait() + 1e-9)
            self.assertEqual(meter.allowed(), number)
            self.assertLess(left, 1)

    def test_overspent(self) -> None:
        """
        A read that was larger than allowed is made up for by a longer wait.
        """
        clock = Clock()
        meter = Meter(1000, clock.seconds)
        meter.spend(101 + 5000)
        self.assertTrue(meter.low)
        clock.advance(4.9)
        self.assertLess(meter.allowed(), 1)
        clock.advance(0.2)
        self.assertEqual(meter.allowed(), 100)
        self.assertFalse(meter.low)

    def test_metered(self) -> None:
        """
        A socket is read no further than is allowed, and not at all if nothing is.
        """
        clock = Clock()
        meter = Meter(100, clock.seconds)
        asked = []

        def recvInto(view: memoryview) -> int:
            asked.append(len(view))
            return len(view)

        read = meter.metered(recvInto)
        buffer = memoryview(bytearray(8))
        self.assertEqual([read(buffer), read(buffer)], [8, 3])
        self.assertRaises(BlockingIOError, read, buffer)
        clock.advance(PAUSE)
        self.assertEqual(read(buffer), 5)
        self.assertEqual(asked, [8, 3, 5])


class Waiter:
    """
    Waits, and counts what it is told.

    @ivar again: How long to wait again each time.
    """

    def __init__(self, throttle: Throttle, again: float | None = None) -> None:
        self.throttle = throttle
        self.again = again
        self.resumed: list[float] = []
        self.failures = 0

    def resume(self) -> None:
        """
        Note the time, and wait again.
        """
        self.resumed.append(self.throttle.seconds())
        if self.again is not None:
            self.throttle.wait(self, self.again)

    def failed(self) -> None:
        """
        Count.
        """
        self.failures += 1


class Rude(Waiter):
    """
    Raises.
    """

    def resume(self) -> None:
        """
        Raise.
        """
        super().resume()
        raise RuntimeError("no")

    def failed(self) -> None:
        """
        Count, and raise again.
        """
        super().failed()
        raise RuntimeError("no again")


class ThrottleTests(SynchronousTestCase):
    """
    The shared timer.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.clock = Clock()
        self.throttle = Throttle(self.clock)

    def test_inOrder(self) -> None:
        """
        Who has to wait for a shorter time is read first, never before the time, and at
        most a tick after it.
        """
        waits = (0.5, 0.0, 0.031, 0.2, 0.03)
        waiters = [Waiter(self.throttle) for _ in waits]
        for waiter, seconds in zip(waiters, waits, strict=True):
            self.throttle.wait(waiter, seconds)
        self.assertEqual(len(self.throttle), 5)
        for _ in range(600):
            self.clock.advance(0.001)
        for waiter, seconds in zip(waiters, waits, strict=True):
            (resumed,) = waiter.resumed
            self.assertTrue(seconds < resumed < seconds + TICK + 0.0015, resumed)
        self.assertEqual(len(self.throttle), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_longest(self) -> None:
        """
        Whoever has to wait for hours is asked again every second, so that a connection
        that was closed is not kept.
        """
        waiter = Waiter(self.throttle)
        self.throttle.wait(waiter, 3600)
        self.clock.advance(LONGEST + TICK)
        self.assertEqual(len(waiter.resumed), 1)

    def test_oneTimer(self) -> None:
        """
        Thousands that wait share one timer, which runs no more often than once a tick;
        and no more than a hundred are read before others get their turn.
        """
        waiters = [Waiter(self.throttle, again=PAUSE) for _ in range(2000)]
        counts: list[int] = []
        go = self.throttle._go

        def counted() -> None:
            before = sum(len(each.resumed) for each in waiters)
            go()
            counts.append(sum(len(each.resumed) for each in waiters) - before)

        self.throttle._go = counted  # type: ignore[method-assign]
        for number, each in enumerate(waiters):
            self.throttle.wait(each, number % 5 / 100)
        for _ in range(1000):
            self.clock.advance(0.001)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(max(counts), PER_TURN)
        self.assertLessEqual(len(counts), 1 / TICK + 2000 * 20 / PER_TURN)
        for each in waiters:
            self.assertTrue(15 <= len(each.resumed) <= 20)

    def test_raises(self) -> None:
        """
        A connection that raises has its session ended, is logged, and leaves the
        others alone, even if ending it raises too.
        """
        events = logged(self)
        rude, other = Rude(self.throttle), Waiter(self.throttle)
        for each in (rude, other):
            self.throttle.wait(each, 0)
        self.clock.advance(TICK)
        self.assertEqual((rude.failures, len(other.resumed)), (1, 1))
        self.assertIn("reading again failed", str(list(events)))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.throttle.stop()
        self.flushLoggedErrors(RuntimeError)

    def test_stop(self) -> None:
        """
        Once stopped there is no timer left, also if it is stopped by what it reads; it
        may be used again.
        """
        self.throttle.stop()
        self.throttle.wait(Waiter(self.throttle), 1)
        self.throttle.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        stopping = Waiter(self.throttle)
        stopping.resume = self.throttle.stop  # type: ignore[method-assign]
        others = [Waiter(self.throttle) for _ in range(PER_TURN)]
        for each in (stopping, *others):
            self.throttle.wait(each, 0)
        self.clock.advance(TICK)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.throttle), 0)

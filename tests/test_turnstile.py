"""
Tests for the limits of sessions: how many at a time and in a time, in all and of each
source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core import sources
from iawlb.core.session import Session
from iawlb.core.sessionlimits import PART, Limits, Over
from iawlb.core.sources import MOST_SOURCES, SHARED, Allowance, Source, Sources
from iawlb.core.turnstile import FULL_PAUSE, PER_TURN, Turnstile
from iawlb.settings import Settings
from tests.doubles import session

repeatable = settings(deadline=None, derandomize=True, database=None)


def limitsOf(given: Settings) -> Limits:
    """
    Return the limits that settings ask for, with room for many connections.
    """
    return Limits.of(given, 1_000_000)


class AllowanceTests(SynchronousTestCase):
    """
    So many in a time.
    """

    @repeatable
    @given(
        st.integers(1, 100),
        st.sampled_from([1.0, 60.0, 3600.0]),
        st.floats(0, 1e6),
        st.lists(st.floats(0, 2), max_size=50),
    )
    def test_never(
        self, number: int, seconds: float, start: float, waits: list[float]
    ) -> None:
        """
        However they come, no more than twice the number pass in any time of that
        length, and the number passes at once after a silence.
        """
        allowance = Allowance(number, seconds)
        paid, now = 0.0, start + 2 * seconds
        for _ in range(number):
            self.assertLessEqual(allowance.due(paid, now), now)
            paid = allowance.use(paid, now)
        self.assertGreater(allowance.due(paid, now), now)
        passed = [now] * number
        for wait in waits:
            now += wait * seconds / number
            if allowance.due(paid, now) <= now:
                paid = allowance.use(paid, now)
                passed.append(now)
        for end in passed:
            within = [each for each in passed if end - seconds < each <= end]
            self.assertLessEqual(len(within), 2 * number)

    def test_clockJumps(self) -> None:
        """
        A clock that jumps ahead gives no more than the number at once. When a shorter
        time is set, nobody waits for longer than that.
        """
        allowance = Allowance(2, 1.0)
        paid = 0.0
        for now in (1e6, 1e9):
            for _ in range(2):
                self.assertLessEqual(allowance.due(paid, now), now)
                paid = allowance.use(paid, now)
            self.assertGreater(allowance.due(paid, now), now)
        paid = Allowance(2, 3600.0).use(5.0, 5.0)
        paid = allowance.atMost(paid, 5.0)
        self.assertLessEqual(allowance.due(paid, 5.0), 6.0)
        self.assertEqual(allowance.atMost(5.5, 5.0), 5.5)

    def test_off(self) -> None:
        """
        Without a number there is no limit.
        """
        self.assertEqual(Allowance(0, 1.0).due(9.0, 5.0), 5.0)
        self.assertEqual(Allowance(0, 1.0).use(9.0, 5.0), 9.0)


class SourcesTests(SynchronousTestCase):
    """
    The table of sources, which is bounded.
    """

    def test_forgets(self) -> None:
        """
        A source without sessions is remembered only until its allowance is whole.
        """
        table = Sources()
        source = table.take(b"a")
        source.paid = 5.0
        table.give(source, 1.0)
        self.assertIs(table.take(b"a"), source)
        table.give(source, 2.0)
        self.assertEqual(len(table), 1)
        table.give(table.take(b"b"), 5.0)
        self.assertEqual(len(table), 0)

    def test_crowd(self) -> None:
        """
        Any number of sources that come once take no more than the bound; a source that
        comes again and again is not forgotten among them.
        """
        self.patch(sources, "MOST_SOURCES", 1000)
        table = Sources()
        heavy = table.take(b"heavy")
        heavy.paid = 1e9
        for number in range(200_000):
            source = table.take(number.to_bytes(4, "big"))
            source.paid = 1e9
            table.give(source, 0.0)
            if number % 500 == 0:
                table.give(table.take(b"heavy"), 0.0)
        self.assertEqual(len(table), 1000)
        self.assertIs(table.take(b"heavy"), heavy)
        # Time passes: those that come clear away the others, two each.
        for number in range(500):
            table.give(table.take(number.to_bytes(4, "big")), 2e9)
        self.assertEqual(len(table), 1)

    def test_allHaveSessions(self) -> None:
        """
        When all sources that can be counted have sessions, further ones are counted
        together, in a bounded number of counts; so they are still limited.
        """
        self.patch(sources, "MOST_SOURCES", 1000)
        table = Sources()
        counts: Counter[Source] = Counter()
        for number in range(50_000):
            source = table.take(number.to_bytes(4, "big"))
            source.active += 1
            counts[source] += 1
        self.assertEqual(len(table), 1000 + SHARED)
        self.assertGreater(counts.most_common(1)[0][1], 100)
        self.assertEqual(MOST_SOURCES, 65_536)


class TurnstileTests(SynchronousTestCase):
    """
    Who is let in, and when.
    """

    def setUp(self) -> None:
        """
        Prepare to make turnstiles.
        """
        self.clock = Clock()
        self.clock.advance(1000)
        self.passed: list[int] = []
        self.ends: dict[Session, Callable[[Session], None]] = {}
        self.full = False
        self.number = 0

    def make(self, **given: Any) -> Turnstile:
        """
        Make a turnstile with settings.
        """
        made = Turnstile(
            self.clock,
            limitsOf(Settings(**given)),
            lambda: self.full,
            self.ends.__setitem__,
        )
        self.turnstile = made
        self.ends.clear()
        self.passed.clear()
        self.addCleanup(made.stop)
        return made

    def come(self, host: str = "192.0.2.1", times: int = 1) -> list[Over | None]:
        """
        Let clients come.
        """
        found = []
        for _ in range(times):
            self.number += 1
            self.last = new = session(self.number, host)
            letIn = partial(self.passed.append, self.number)
            found.append(self.turnstile.enter(new, letIn))
        return found

    def end(self, each: Session) -> None:
        """
        End a session.
        """
        self.ends.pop(each)(each)

    def test_sessionsOfSource(self) -> None:
        """
        A source has so many sessions at a time; the next waits until one of them ends.
        Other sources do not wait.
        """
        self.make(maxPerSource=2)
        self.assertEqual(self.come(times=4), [None] * 4)
        self.come("192.0.2.2")
        self.assertEqual(self.passed, [1, 2, 5])
        self.assertEqual((self.turnstile.delayed, self.turnstile.delays), (2, 2))
        self.end(next(iter(self.ends)))
        self.assertEqual(self.passed, [1, 2, 5])
        self.clock.advance(0)
        self.assertEqual(self.passed, [1, 2, 5, 3])
        self.clock.advance(100)
        self.assertEqual(self.passed, [1, 2, 5, 3])

    def test_rateOfSource(self) -> None:
        """
        A source opens so many connections in a time; the next ones wait, and enter at
        that rate, in their order.
        """
        self.make(sourceRate="10/s")
        self.come(times=13)
        self.come("192.0.2.2")
        self.assertEqual(self.passed, [*range(1, 11), 14])
        for wait, more in ((0.09, []), (0.02, [11]), (0.1, [12]), (5, [13])):
            self.passed.clear()
            self.clock.advance(wait)
            self.assertEqual(self.passed, more)

    def test_noOvertaking(self) -> None:
        """
        A client that comes when a session has just ended does not go before those of
        its source that wait already.
        """
        self.make(maxPerSource=1)
        self.come(times=2)
        self.end(next(iter(self.ends)))
        self.assertIs(self.turnstile.over(self.last.address), Over.SOURCE_RATE)
        self.come()
        self.clock.advance(0)
        self.assertEqual(self.passed, [1, 2])

    def test_refuses(self) -> None:
        """
        Where that is set, a client beyond a limit is refused, which costs its source
        nothing, and the limit is named.
        """
        self.make(sourceRate="2/s", maxPerSource=3, overLimit="refuse")
        self.assertEqual(
            self.come(times=4), [None, None, Over.SOURCE_RATE, Over.SOURCE_RATE]
        )
        self.clock.advance(0.5)
        self.assertEqual(self.come(times=1), [None])
        self.clock.advance(10)
        self.assertEqual(self.come(times=1), [Over.SOURCE_SESSIONS])
        self.assertIs(self.turnstile.over(self.last.address), Over.SOURCE_SESSIONS)
        self.end(next(iter(self.ends)))
        self.assertIsNone(self.turnstile.over(self.last.address))
        self.assertEqual(self.come(), [None])
        self.make(sessionRate="1/s", maxSessions=2, overLimit="refuse")
        self.assertEqual(self.come(times=2), [None, Over.RATE])
        self.clock.advance(1)
        self.assertEqual(self.come(times=2), [None, Over.SESSIONS])

    def test_limitsOfAll(self) -> None:
        """
        The limits of all hold for all sources together; those that wait for them take
        turns by their sources.
        """
        self.make(maxSessions=3)
        self.come(times=5)
        self.come("192.0.2.2")
        for _ in range(3):
            self.end(next(iter(self.ends)))
            self.clock.advance(0)
        self.assertEqual(self.passed[:3], [1, 2, 3])
        self.assertIn(6, self.passed[3:5] + self.passed[5:6])
        self.assertEqual(self.turnstile.active, 3)
        self.make(sessionRate="10/s")
        self.come(times=500)
        self.come("192.0.2.2")
        self.assertEqual(len(self.passed), 10)
        self.clock.pump([0.1] * 5)
        self.assertIn(self.number, self.passed)

    def test_bothLimits(self) -> None:
        """
        A flood is held back by the limit of its source, and so leaves the limit of all
        to the others.
        """
        self.make(sessionRate="20/s", sourceRate="5/s")
        self.come(times=100)
        for host in range(2, 12):
            self.come(f"192.0.2.{host}")
        self.assertEqual(self.passed, [*range(1, 6), *range(101, 111)])

    def test_boundedDelays(self) -> None:
        """
        A source has no more clients delayed than its part, and no more than can have
        their turn within the queue time-out; the next are refused. The same holds for
        all together.
        """
        self.make(maxPerSource=1, queueSize=3200)
        found = self.come(times=300)
        self.assertEqual(found.count(None), 1 + 3200 // PART)
        self.assertEqual(found[-1], Over.DELAYS)
        self.make(sourceRate="1/s", queueTimeout=10)
        found = self.come(times=300)
        self.assertEqual(found.count(None), 1 + 10)
        self.make(maxSessions=1, queueSize=40)
        found = [self.come(f"10.0.0.{n}")[0] for n in range(100)]
        self.assertEqual(found.count(None), 1 + 40)
        self.make(sessionRate="1/m", queueTimeout=10)
        self.assertEqual(self.come(times=3), [None, None, Over.DELAYS])
        self.make(sourceRate="1/s", queueTimeout=0)
        self.assertEqual(self.come(times=2000).count(None), 1 + 10_000 // PART)
        limits = Limits.of(Settings(maxPerSource=1), 1000)
        self.assertEqual((limits.most, limits.mostOfSource), (500, 500 // PART))
        self.assertEqual(Limits.of(Settings(maxPerSource=1), 1).most, 1)

    def test_leaves(self) -> None:
        """
        A client that leaves while it is delayed makes room for the next, which does not
        wait longer for it; leaving twice does no harm.
        """
        self.make(sourceRate="1/s")
        self.come()
        gone = []
        for _ in range(20):
            self.come()
            gone.append(self.last)
        self.come()
        for each in gone:
            self.turnstile.leave(each)
            self.turnstile.leave(each)
        self.clock.advance(1)
        self.assertEqual(self.passed, [1, 22])
        self.assertEqual(self.turnstile.delayed, 0)
        self.make(maxSessions=1, maxPerSource=2)
        self.come(times=2)
        waits = self.last
        self.assertEqual(self.come(), [None])
        self.turnstile.leave(waits)
        self.clock.advance(0)
        self.assertEqual(self.turnstile.delayed, 1)
        self.end(next(iter(self.ends)))
        self.clock.advance(0)
        self.assertEqual(self.turnstile.delayed, 0)

    def test_leaveAgainAndAgain(self) -> None:
        """
        Sources that come, are delayed and leave again and again leave nothing behind,
        also when each is forgotten meanwhile.
        """
        self.patch(sources, "MOST_SOURCES", 10)
        self.make(sourceRate="1/h", queueTimeout=0)
        for number in range(2000):
            self.come(f"10.0.{number >> 8}.{number & 255}", 2)
            self.turnstile.leave(self.last)
            self.end(next(iter(self.ends)))
        self.assertLess(len(self.turnstile._dues), 4 * PER_TURN)
        self.assertLessEqual(len(self.turnstile.sources), 10)
        self.assertEqual(self.turnstile._delayed, {})
        self.assertEqual(self.turnstile._passed, {})
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_timeOverAll(self) -> None:
        """
        A clock that jumps ahead by a day lets no more in than the rate allows at once.
        """
        self.make(sourceRate="10/s", sessionRate="15/s")
        self.come(times=40)
        self.come("192.0.2.2", 40)
        self.passed.clear()
        self.clock.advance(86_400)
        self.assertEqual(len(self.passed), 15)

    def test_someInATurn(self) -> None:
        """
        When a limit is lifted, those that were delayed enter some in each turn of the
        reactor.
        """
        self.make(maxPerSource=1)
        self.come(times=200)
        turns: list[float] = []
        callLater = self.clock.callLater

        def counted(wait: float, *rest: Any) -> Any:
            turns.append(wait)
            return callLater(wait, *rest)

        self.patch(self.clock, "callLater", counted)
        self.turnstile.configure(limitsOf(Settings()))
        self.clock.advance(0)
        self.assertEqual(sorted(self.passed), list(range(1, 201)))
        self.assertEqual(turns, [0.0] * (200 // PER_TURN + 1))

    def test_lowered(self) -> None:
        """
        A limit that is lowered below what is in use ends nothing; new clients wait
        until so many have ended.
        """
        self.make(maxPerSource=10, maxSessions=50)
        self.come(times=10)
        self.turnstile.configure(limitsOf(Settings(maxPerSource=2)))
        self.come()
        for live in range(10, 2, -1):
            self.assertEqual(self.turnstile.active, live)
            self.end(next(iter(self.ends)))
            self.clock.advance(1)
            self.assertEqual(self.turnstile.delayed, 1)
        self.end(next(iter(self.ends)))
        self.clock.advance(0)
        self.assertEqual(self.turnstile.delayed, 0)
        self.turnstile.configure(limitsOf(Settings(maxSessions=1)))
        self.assertEqual(self.come("192.0.2.9"), [None])
        self.assertEqual(self.turnstile.delayed, 1)
        self.turnstile.configure(limitsOf(Settings(maxSessions=5)))
        self.clock.advance(0)
        self.assertEqual(self.turnstile.delayed, 0)

    def test_fasterRate(self) -> None:
        """
        A rate that is raised holds for those that wait already; the time that they had
        before means nothing then.
        """
        self.make(sourceRate="1/m", queueTimeout=0)
        self.come(times=4)
        self.turnstile.configure(limitsOf(Settings(sourceRate="1/s")))
        for number in range(2, 5):
            self.clock.advance(1)
            self.assertEqual(self.passed[-1], number)
        self.come(times=2)
        self.turnstile.configure(limitsOf(Settings(sourceRate="1/h")))
        self.clock.advance(60)
        self.assertEqual((self.passed[-1], self.turnstile.delayed), (5, 1))
        self.clock.advance(3500)
        self.assertEqual(self.turnstile.delayed, 1)
        self.clock.advance(100)
        self.assertEqual((self.passed[-1], self.turnstile.delayed), (6, 0))

    def test_otherMask(self) -> None:
        """
        When other networks count as sources, the sessions that live and those that are
        delayed count for these from then on.
        """
        self.make(maxPerSource=1, maxSessions=4)
        for host in (1, 2, 3, 3, 3, 4):
            self.come(f"192.0.2.{host}")
        each = session(99)
        each.address = UNIXAddress(b"")
        self.turnstile.enter(each, lambda: self.passed.append(99))
        self.come("192.0.3.1")
        self.assertEqual(self.passed, [1, 2, 3, 6])
        self.assertEqual(self.turnstile.delayed, 4)
        limits = limitsOf(Settings(maxPerSource=2, maxSessions=6, sourceMask=(24, 48)))
        self.turnstile.configure(limits)
        self.clock.advance(0)
        self.assertEqual(sorted(self.passed), [1, 2, 3, 6, 7, 99])
        self.assertEqual(len(self.turnstile.sources), 2)
        for _ in range(6):
            self.end(next(iter(self.ends)))
            self.clock.advance(0)
        self.assertEqual(sorted(self.passed), [1, 2, 3, 4, 5, 6, 7, 99])
        while self.ends:
            self.end(next(iter(self.ends)))
        self.assertEqual((self.turnstile.active, len(self.turnstile.sources)), (0, 0))

    def test_counted(self) -> None:
        """
        Sessions that live when a limit is set count. One of them that comes in only now
        counts once.
        """
        self.make(maxPerSource=2)
        first, second = session(51), session(52)
        unix = session(53)
        unix.address = None
        self.turnstile.count([first, second, unix])
        self.turnstile.count([first, second, unix])
        self.assertEqual(self.turnstile.active, 3)
        self.assertIsNone(self.turnstile.enter(second, lambda: self.passed.append(52)))
        self.assertEqual((self.passed, self.turnstile.active), ([52], 3))
        self.come()
        self.assertEqual(self.turnstile.delayed, 1)
        self.turnstile.count([self.last])
        self.assertEqual(self.turnstile.active, 3)
        self.end(first)
        self.clock.advance(0)
        self.assertEqual(self.passed, [52, 1])
        limits = limitsOf(Settings(maxPerSource=2, sourceMask=(24, 48)))
        self.turnstile.configure(limits)
        self.assertEqual(self.turnstile.active, 3)

    def test_unix(self) -> None:
        """
        Clients without an IP address have no source; only the limits of all hold for
        them.
        """
        self.make(maxPerSource=1, maxSessions=3, overLimit="refuse")
        found = []
        for number in range(4):
            each = session(number)
            each.address = UNIXAddress(b"")
            found.append(self.turnstile.enter(each, lambda: None))
        self.assertEqual(found, [None, None, None, Over.SESSIONS])
        self.assertIs(self.turnstile.over(each.address), Over.SESSIONS)
        self.assertEqual(len(self.turnstile.sources), 0)
        self.make(maxSessions=1)
        self.come()
        self.turnstile.enter(each, lambda: self.passed.append(4))
        self.turnstile.leave(each)
        self.turnstile.enter(each, lambda: self.passed.append(4))
        self.end(self.last)
        self.clock.advance(0)
        self.assertEqual(self.passed, [1, 4])
        self.assertEqual(self.turnstile.active, 1)
        self.end(each)
        self.assertEqual(self.turnstile.active, 0)

    def test_fullQueue(self) -> None:
        """
        While the queue is full, delayed clients are not let in, and are when there is
        room again.
        """
        self.make(maxPerSource=1)
        self.come(times=2)
        self.full = True
        self.end(next(iter(self.ends)))
        self.clock.advance(0)
        self.clock.pump([FULL_PAUSE] * 5)
        self.assertEqual(self.passed, [1])
        self.full = False
        self.clock.pump([FULL_PAUSE] * 2)
        self.assertEqual(self.passed, [1, 2])

    def test_stop(self) -> None:
        """
        A turnstile that is stopped has no timer, also if it is stopped twice.
        """
        self.make(sourceRate="1/s")
        self.come(times=2)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.turnstile.stop()
        self.turnstile.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_raises(self) -> None:
        """
        A client that fails while it is let in does not keep the others from it.
        """

        def fail() -> None:
            raise ZeroDivisionError("a fault")

        self.make(sourceRate="1/s")
        self.come()
        self.turnstile.enter(session(50), fail)
        self.come()
        self.assertRaises(ZeroDivisionError, self.clock.advance, 1)
        self.clock.advance(1)
        self.assertEqual(self.passed, [1, 2])


class TurnstileMachine(RuleBasedStateMachine):
    """
    Whatever happens in whatever order, the limits hold and nobody waits for nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.limits = limitsOf(Settings(maxPerSource=2, maxSessions=5))
        self.ends: dict[Session, Callable[[Session], None]] = {}
        self.turnstile = Turnstile(
            self.clock, self.limits, lambda: False, self.ends.__setitem__
        )
        self.live: list[Session] = []
        self.waiting: list[Session] = []
        self.number = 0
        # Those that may have passed the limits of their source before these changed.
        self.before: set[Session] = set()

    def letIn(self, each: Session) -> None:
        """
        A session is let in.
        """
        if each in self.waiting:
            self.waiting.remove(each)
        self.live.append(each)
        limits = self.limits
        if limits.sessions:
            assert len(self.live) <= limits.sessions
        if limits.ofSource and each not in self.before:
            assert self.of(each) <= limits.ofSource

    def of(self, each: Session) -> int:
        """
        Count the live sessions of the source of one.
        """
        return sum(one.clientHost == each.clientHost for one in self.live)

    @rule(host=st.integers(1, 3), times=st.integers(1, 4))
    def come(self, host: int, times: int) -> None:
        """
        Let clients come.
        """
        for _ in range(times):
            self.number += 1
            new = session(self.number, f"192.0.2.{host}")

            def letIn(new: Session = new) -> None:
                self.letIn(new)

            over = self.turnstile.enter(new, letIn)
            if over is None and new not in self.live:
                self.waiting.append(new)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """
        End a session.
        """
        each = data.draw(st.sampled_from(self.live))
        self.live.remove(each)
        self.ends.pop(each)(each)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """
        Let a delayed client leave.
        """
        each = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(each)
        self.turnstile.leave(each)

    @rule(seconds=st.sampled_from([0, 0.1, 1.0, 1000.0]))
    def advance(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.clock.advance(seconds)

    @rule(
        sessions=st.integers(0, 6),
        ofSource=st.integers(0, 3),
        rate=st.sampled_from(["0", "2/s", "5/m"]),
        sourceRate=st.sampled_from(["0", "1/s", "3/m"]),
        mask=st.sampled_from([(32, 56), (31, 56)]),
        over=st.sampled_from(["delay", "refuse"]),
    )
    def configure(
        self,
        sessions: int,
        ofSource: int,
        rate: str,
        sourceRate: str,
        mask: tuple[int, int],
        over: str,
    ) -> None:
        """
        Set other limits.
        """
        self.limits = limitsOf(
            Settings(
                maxSessions=sessions,
                maxPerSource=ofSource,
                sessionRate=rate,
                sourceRate=sourceRate,
                sourceMask=mask,
                overLimit=over,
            )
        )
        self.before.update(self.waiting)
        self.turnstile.configure(self.limits)

    @invariant()
    def counts(self) -> None:
        """
        Check what is counted.
        """
        assert self.turnstile.active == len(self.live)
        assert self.turnstile.delayed == len(self.waiting)

    def teardown(self) -> None:
        """
        When all sessions end, all that wait come in, and nothing is left behind.
        """
        for _ in range(10_000):
            if not self.live and not self.waiting:
                break
            for each in list(self.live):
                self.live.remove(each)
                self.ends.pop(each)(each)
            self.clock.advance(60)
        assert not self.live
        assert not self.waiting
        self.clock.advance(7200)
        self.turnstile.over(session(1).address)
        self.turnstile.over(session(1).address)
        self.turnstile.over(session(1).address)
        assert len(self.turnstile.sources) == 0
        self.clock.advance(7200)
        assert not self.clock.getDelayedCalls()


class MachineTests(SynchronousTestCase):
    """
    Any order of steps.
    """

    def test_machine(self) -> None:
        """
        No client is let in beyond a limit, none is lost, and none waits for nothing.
        """
        run_state_machine_as_test(
            TurnstileMachine,
            settings=settings(
                max_examples=100,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

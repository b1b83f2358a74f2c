"""
Tests for the counts of sessions and destinations.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.events import SESSION_ENDED, SESSION_PUT_BACK
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.observe import statistics as module
from iawlb.observe.bytecounts import SESSIONS_A_STEP, ByteCounts
from iawlb.observe.counts import Histogram
from iawlb.observe.statistics import AT_ONCE, KEEP_REMOVED, Statistics
from tests.doubles import Backend, Rig, Wire, destination, logged, session


class CountedRig(Rig):
    """
    A balancer in memory whose sessions are counted.
    """

    def __init__(self, number: int = 1, **settings: Any) -> None:
        super().__init__(number, **settings)
        self.statistics = Statistics(self.clock)
        self.balancer.observe(self.statistics)
        self.statistics.adopt(self.balancer.destinations)
        self.pool = self.balancer.pools["default"]

    def finish(self, client: Wire) -> None:
        """
        Both sides of the session that the first destination served last close.
        """
        backend = self.backends[0].wires[-1]
        for each in (client, backend):
            each.end()
        for each in (client, backend):
            each.lose()


def ended(number: int, name: str | None, pool: str = "default") -> Session:
    """
    Make a session that a destination has served.
    """
    made = session(number)
    made.origin.pool.name = pool
    made.destination = name
    made.pulled = made.connected = 0.0
    made.finish(Outcome.DONE, 1.0)
    return made


class HistogramTests(SynchronousTestCase):
    """
    Values counted in ranges.
    """

    def test_boundsBelongToTheRangeBelow(self) -> None:
        """
        A value that equals a bound is counted as at most that, as Prometheus has it.
        """
        histogram = Histogram((1.0, 2.0))
        for value in (0.5, 1.0, 1.5, 2.0, 3.0):
            histogram.add(value)
        self.assertEqual((histogram.counts, histogram.sum), ([2, 2, 1], 8.0))


class SessionTests(SynchronousTestCase):
    """
    What is counted of sessions.
    """

    def test_served(self) -> None:
        """
        A session counts with its pool and its destination: bytes each way, how it
        ended, how long it waited, connected and lasted.
        """
        rig = CountedRig()
        rig.backends[0].hold = True
        client = rig.client()
        rig.clock.advance(0.25)
        backend = rig.backends[0].succeed()
        client.receive(b"ask")
        backend.receive(b"answer")
        row = rig.statistics.destinations["default", "a"]
        self.assertEqual((row.sessions, row.attempts, row.bytesIn), (1, 1, 0))
        rig.clock.advance(2)
        rig.finish(client)
        pool = rig.statistics.pools["default"]
        for counts in (row, pool):
            self.assertEqual(dict(counts.ends), {"--": 1})
            self.assertEqual((counts.bytesIn, counts.bytesOut), (3, 6))
        self.assertEqual((row.sessions, row.attempts, row.errors), (1, 1, 0))
        self.assertEqual((row.ended, row.connectSeconds), (1, 0.25))
        self.assertEqual((row.sessionSeconds, pool.ended), (2.0, 1))
        self.assertEqual((pool.waits.counts[0], pool.waits.sum), (1, 0.0))
        self.assertEqual((sum(pool.connects.counts), pool.connects.sum), (1, 0.25))
        self.assertEqual((sum(pool.durations.counts), pool.durations.sum), (1, 2.25))

    def test_waited(self) -> None:
        """
        A client that waits in the queue counts with its wait, also if it leaves.
        """
        rig = CountedRig(slots=1)
        served, waiting, leaving = rig.clients(3)
        rig.clock.advance(0.5)
        leaving.lose()
        rig.finish(served)
        pool = rig.statistics.pools["default"]
        self.assertEqual(dict(pool.ends), {"CQ": 1, "--": 1})
        self.assertEqual((sum(pool.waits.counts), pool.waits.sum), (2, 0.5))
        self.assertEqual(sum(rig.statistics.pools["default"].connects.counts), 1)
        rig.finish(waiting)
        self.assertEqual(rig.statistics.pools["default"], pool)
        self.assertEqual((sum(pool.waits.counts), pool.waits.sum), (3, 1.0))

    def test_putBack(self) -> None:
        """
        A client that goes back into the queue counts as an attempt and as an error of
        the destination that refused it, and as a session of the one that served it.
        """
        rig = CountedRig(2, policy="first")
        rig.backends[0].refuse = ConnectionRefusedError()
        rig.client()
        first = rig.statistics.destinations["default", "a"]
        second = rig.statistics.destinations["default", "b"]
        self.assertEqual((first.attempts, first.errors, first.putBacks), (1, 1, 1))
        self.assertEqual((first.sessions, second.sessions), (0, 1))
        self.assertEqual((second.attempts, second.putBacks), (1, 0))

    def test_leftDuringConnect(self) -> None:
        """
        A connect under way is an attempt, and stays one if its client leaves.
        """
        rig = CountedRig()
        rig.backends[0].hold = True
        client = rig.client()
        row = rig.statistics.destinations["default", "a"]
        self.assertEqual(row.attempts, 1)
        client.lose(reset=True)
        self.assertEqual((row.attempts, row.sessions), (1, 0))
        self.assertEqual(dict(row.ends), {"CC": 1})

    def test_leftDuringHandshake(self) -> None:
        """
        A client that never entered the queue has not waited there.
        """
        statistics = Statistics(Clock())
        left = session(1)
        left.finish(Outcome.CLIENT_LEFT_HANDSHAKE, 3.0)
        statistics.sessionChanged(left, SESSION_ENDED)
        pool = statistics.pools["default"]
        self.assertEqual((sum(pool.waits.counts), pool.durations.sum), (0, 3.0))

    def test_everyStep(self) -> None:
        """
        Steps before the end change nothing, when another observer asks for them.
        """
        statistics = Statistics(Clock())
        statistics.sessionChanged(session(1), "accepted")
        self.assertEqual((statistics.pools, statistics.destinations), ({}, {}))
        pulled = session(2)
        pulled.destination = "a"
        for event in ("pulled", "connected"):
            statistics.sessionChanged(pulled, event)
        self.assertEqual((statistics.pools, statistics.destinations), ({}, {}))

    def test_severalAtOnce(self) -> None:
        """
        Sessions are counted several at a time; whoever reads the counts finds all that
        have ended, and no more than a few are held.
        """
        statistics = Statistics(Clock())
        for number in range(AT_ONCE + 3):
            statistics.sessionChanged(ended(number, "a"), SESSION_ENDED)
            self.assertLess(len(statistics._ended), AT_ONCE)
        self.assertEqual(len(statistics._ended), 3)
        self.assertEqual(statistics.pools["default"].ended, AT_ONCE + 3)
        self.assertEqual(len(statistics._ended), 0)
        for number in range(3):
            statistics.sessionChanged(ended(number, "a"), SESSION_ENDED)
        row = statistics.destinations["default", "a"]
        self.assertEqual(row.ends["--"], AT_ONCE + 6)


class DestinationTests(SynchronousTestCase):
    """
    What is counted of destinations.
    """

    def test_addedAgain(self) -> None:
        """
        The counters of a destination that is removed and added again go on, so that
        no rate falls to nothing or jumps after a reload.
        """
        rig = CountedRig(0)
        backend = Backend()
        rig.backends.append(backend)
        rig.pool.add(backend, {"name": "x"})
        rig.finish(rig.client())
        row = rig.statistics.destinations["default", "x"]
        self.successResultOf(rig.balancer.remove("x"))
        self.assertTrue(row.removed)
        self.assertEqual((row.sessions, row.attempts), (1, 1))
        rig.clock.advance(KEEP_REMOVED / 2)
        rig.pool.add(backend, {"name": "x"})
        rig.finish(rig.client())
        rig.clock.advance(KEEP_REMOVED)
        rig.statistics.forget()
        self.assertIs(rig.statistics.destinations["default", "x"], row)
        self.assertEqual((row.sessions, row.ends["--"]), (2, 2))

    def test_removedLongAgo(self) -> None:
        """
        A destination that was removed goes away after a while, and its pool keeps its
        counts.
        """
        rig = CountedRig(2)
        rig.finish(rig.client())
        for name in ("a", "b"):
            self.successResultOf(rig.balancer.remove(name))
            rig.clock.advance(1)
        rig.clock.advance(KEEP_REMOVED - 1.5)
        rig.statistics.forget()
        self.assertEqual(list(rig.statistics.destinations), [("default", "b")])
        rig.clock.advance(1)
        rig.statistics.forget()
        self.assertEqual(rig.statistics.destinations, {})
        forgotten = rig.statistics.pools["default"].forgotten
        self.assertEqual((forgotten.sessions, forgotten.attempts), (1, 1))
        self.assertEqual((forgotten.errors, forgotten.putBacks), (0, 0))

    def test_unknownDestination(self) -> None:
        """
        A session that ends after its destination was forgotten does not bring the
        destination back for good.
        """
        clock = Clock()
        statistics = Statistics(clock)
        statistics.sessionChanged(ended(1, "gone"), SESSION_ENDED)
        self.assertEqual(list(statistics.destinations), [("default", "gone")])
        clock.advance(KEEP_REMOVED)
        statistics.forget()
        self.assertEqual(statistics.destinations, {})

    def test_oldOneStillDrains(self) -> None:
        """
        If a destination is added again while the old one of its name still serves,
        both count.
        """
        statistics = Statistics(Clock())
        old, new = destination("a"), destination("a")
        for each in (old, new):
            statistics.destinationChanged(each, "added")
        statistics.adopt([old, new])
        old.served, new.served, new.failures = 3, 4, 1
        row = statistics.destinations["default", "a"]
        self.assertEqual((row.sessions, row.errors), (7, 1))
        statistics.destinationChanged(old, "removed")
        self.assertEqual((row.sessions, row.removed), (7, False))
        statistics.destinationChanged(old, "removed")
        self.assertEqual((row.sessions, row.removed), (7, False))

    def test_wakes(self) -> None:
        """
        It is counted how often a destination was started, how many of these starts have
        succeeded, and how long these took.
        """
        rig = CountedRig(0)
        one = destination("a")
        tell = rig.statistics.destinationChanged
        for event, passed in (
            *(("added", 1), ("waking", 2), ("awake", 1), ("asleep", 0)),
            # Its stop was cancelled.
            ("awake", 1),
            *(("waking", 4), ("down", 1), ("waking", 3), ("awake", 1)),
        ):
            tell(one, event)
            rig.clock.advance(passed)
        row = rig.statistics.destinations["default", "a"]
        self.assertEqual((row.wakes, row.woke, row.wakeSeconds), (3, 2, 5.0))

    def test_downs(self) -> None:
        """
        It is counted how often a destination goes down, and noted when its state has
        changed last.
        """
        rig = CountedRig(2)
        rig.clock.advance(5)
        rig.statistics.listenerChanged("l", "tcp:80", "listening")
        rig.pool.workers["a"].nameFailed(Failure(ConnectionRefusedError()))
        row = rig.statistics.destinations["default", "a"]
        self.assertEqual((row.downs, row.since), (1, 5.0))
        b = rig.pool.workers["b"].destination
        rig.statistics.destinationChanged(b, "changed")  # its slots or weight
        self.assertEqual(rig.statistics.destinations["default", "b"].since, 0.0)


class BoundTests(SynchronousTestCase):
    """
    Nothing that is counted grows without bounds.
    """

    def test_mostDestinations(self) -> None:
        """
        Beyond the most destinations that are counted one by one, sessions count with
        their pool; how many is counted, and it is logged once.
        """
        events = logged(self)
        statistics = Statistics(Clock())
        with patch.object(module, "MOST_DESTINATIONS", 2):
            for each in "abcd":
                statistics.destinationChanged(destination(each), "added")
            statistics.adopt([destination("d")])
            for number, name in enumerate("abcc"):
                statistics.sessionChanged(ended(number, name), SESSION_ENDED)
            self.assertEqual(statistics.uncounted, 2)
            unserved = session(9)
            unserved.destination = "d"
            statistics.sessionChanged(unserved, SESSION_PUT_BACK)
            unserved.pulled = 0.0
            unserved.finish(Outcome.CLIENT_LEFT_CONNECT, 1.0)
            statistics.sessionChanged(unserved, SESSION_ENDED)
        self.assertEqual([name for _, name in statistics.destinations], ["a", "b"])
        self.assertEqual(statistics.uncounted, 3)
        self.assertEqual(statistics.pools["default"].ended, 5)
        self.assertEqual(len(events), 1)
        self.assertIn(
            "more than 2 destinations", events[0]["log_format"].format(**events[0])
        )

    def test_removedMakesRoom(self) -> None:
        """
        A destination that is added is counted instead of the one that was removed
        first, so that destinations that come and go all day are counted. The sessions
        of one that is not counted push nobody out.
        """
        statistics = Statistics(Clock())
        with patch.object(module, "MOST_DESTINATIONS", 2):
            for each in (one := destination("a")), (two := destination("b")):
                statistics.destinationChanged(each, "added")
            for each in (one, two):
                statistics.destinationChanged(each, "removed")
            statistics.sessionChanged(ended(1, "c"), SESSION_ENDED)
            self.assertEqual([name for _, name in statistics.destinations], ["a", "b"])
            statistics.destinationChanged(destination("d"), "added")
        self.assertEqual([name for _, name in statistics.destinations], ["b", "d"])

    def test_mostPools(self) -> None:
        """
        Pools beyond the most that are counted are not; a pool without destinations
        makes room.
        """
        events = logged(self)
        statistics = Statistics(Clock())
        with patch.object(module, "MOST_POOLS", 2):
            for number, name in enumerate(("one", "two", "three")):
                made = ended(number, "a", name)
                statistics.sessionChanged(made, SESSION_ENDED)
            self.assertEqual(list(statistics.pools), ["one", "two"])
            statistics.sessionChanged(ended(4, None, "three"), SESSION_ENDED)
            self.assertEqual(statistics.uncounted, 2)
            self.assertEqual(len(events), 1)
            del statistics._rows["one", "a"]
            statistics.sessionChanged(ended(5, None, "three"), SESSION_ENDED)
            self.assertEqual(list(statistics.pools), ["two", "three"])


class ByteCountTests(SynchronousTestCase):
    """
    The bytes of all sessions.
    """

    def test_runningSessions(self) -> None:
        """
        What a session that still runs has moved is counted at once, and once only when
        it ends.
        """
        rig = CountedRig()
        client = rig.client()
        waiting = session(7)
        client.receive(b"1234")
        counts = ByteCounts(rig.statistics, [*rig.balancer.sessions, waiting])
        self.assertEqual(counts.pools, {"default": [0, 0]})
        rig.backends[0].wires[0].receive(b"56")
        # It ends before it is looked at.
        rig.finish(client)
        self.assertEqual(list(counts.add()), [])
        self.assertEqual(counts.pools, {"default": [4, 2]})
        self.assertEqual(counts.destinations, {("default", "a"): [4, 2]})
        again = ByteCounts(rig.statistics, rig.balancer.sessions)
        self.assertEqual(list(again.add()), [])
        self.assertEqual(again.destinations, counts.destinations)

    def test_uncountedDestination(self) -> None:
        """
        The bytes of a destination that is not counted by itself count with its pool,
        also of a pool of which no session has ended.
        """
        one = ended(1, "beyond", "new")
        one._bytes = (1, 2)
        counts = ByteCounts(Statistics(Clock()), [one])
        list(counts.add())
        self.assertEqual((counts.pools, counts.destinations), ({"new": [1, 2]}, {}))

    def test_steps(self) -> None:
        """
        Many sessions are added in several steps, so that the reactor goes on between.
        """
        sessions = [session(number) for number in range(2 * SESSIONS_A_STEP + 1)]
        counts = ByteCounts(Statistics(Clock()), sessions)
        self.assertEqual(len(list(counts.add())), 2)

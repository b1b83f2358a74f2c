"""
Tests for the order in which waiting sessions are served: fair to all sources, or by
priority.
"""

from __future__ import annotations

from hashlib import blake2b
from unittest.mock import Mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.destination import Destination
from iawlb.core.discipline import FIRST_COME, Discipline
from iawlb.core.fairline import CHOICES, SUB_LINES, FairLine
from iawlb.core.line import Line
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.policies import Least
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import Session
from tests.doubles import destination, session
from tests.test_queue import Bound, StepsMachine, queueOf

SALT = b"of this test"
FAIR = Discipline(fair=True)
BY_PRIORITY = Discipline(step=10.0)
BOTH = Discipline(fair=True, step=10.0)


def came(
    number: int, host: str = "192.0.2.1", priority: int = 0, at: float = 0.0
) -> Session:
    """
    Make a session that enters a queue.
    """
    made = session(number, host, at)
    made.origin = Origin(PoolCount("default"), "test", priority)
    made.place = number
    return made


def pulledAll(queue: ConnectionQueue, who: Destination) -> list[int]:
    """
    Pull all sessions that wait, and return their numbers.
    """
    found = []
    while len(queue):
        each = queue.pull(who, lambda each: None)
        assert each is not None
        each.tries += 1
        found.append(each.number)
    return found


class FairTests(SynchronousTestCase):
    """
    Sources in turns.
    """

    def line(self, mask: tuple[int, int] = (32, 56)) -> FairLine:
        """
        Make a fair line, whose hash is the same in each run.
        """
        return FairLine(None, mask, SALT)

    def served(self, line: Line) -> list[Session]:
        """
        Serve all that wait.
        """
        found = []
        while (each := line.first()) is not None:
            line.remove(each)
            found.append(each)
        return found

    def test_oneAgainstFifty(self) -> None:
        """
        One source opens 5,000 connections, and then 50 others open one each. Without
        the first, the last of the 50 would be served after 50; with it, each of them is
        served among the first 60.
        """
        line = self.line()
        for number in range(5000):
            line.add(came(number, "198.51.100.1"))
        others = [came(5000 + n, f"192.0.2.{n}") for n in range(50)]
        for each in others:
            line.add(each)
        self.assertEqual(len(line), 5050)
        order = self.served(line)
        self.assertEqual(len(order), 5050)
        self.assertLessEqual(max(map(order.index, others)), 60)

    def test_inTurns(self) -> None:
        """
        Two sources with many connections each get the same share, whoever came first;
        the connections of one source are served in their order.
        """
        line = self.line()
        for number in range(600):
            line.add(came(number, f"192.0.2.{number // 300}"))
        first = self.served(line)[:100]
        hosts = [each.clientHost for each in first]
        self.assertIn(hosts.count("192.0.2.0"), range(45, 56))

    def test_oneSource(self) -> None:
        """
        While only one source has connections, the oldest is served within one round.
        """
        line = self.line()
        for number in range(30):
            line.add(came(number))
        order = [each.number for each in self.served(line)]
        for place, number in enumerate(order):
            self.assertLessEqual(abs(place - number), CHOICES)

    def test_network(self) -> None:
        """
        A source is a network: with 64 bits of IPv6 to choose from, a client is no more
        than one source, and a client of IPv4 is the same over IPv6; clients of Unix
        sockets are one source.
        """
        for make, sources in (
            (lambda n: IPv6Address("TCP", f"2001:db8:0:{n:x}::{n}", 1), 1),
            (lambda n: IPv6Address("TCP", f"2001:db8:{n:x}::", 1), 40),
            (lambda n: IPv6Address("TCP", f"::ffff:192.0.2.{n}", 1), 40),
            (lambda n: UNIXAddress(b""), 1),
        ):
            line = self.line()
            for number in range(1, 41):
                each = came(number)
                each.address = make(number)
                line.add(each)
            self.assertEqual(len(line._turns) <= CHOICES, sources == 1)

    def test_bounded(self) -> None:
        """
        Connections from any number of sources take a bounded number of lines, and none
        when they have left.
        """
        line = self.line((32, 128))
        sessions = [
            came(n, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(9999)
        ]
        for each in sessions:
            line.add(each)
        self.assertEqual(len(line._turns), SUB_LINES)
        lengths = [len(each) for each in line._turns.values()]
        self.assertLess(max(lengths), 2 * 9999 / SUB_LINES)
        for each in sessions:
            line.remove(each)
        self.assertEqual((len(line), len(line._turns), len(line._where)), (0, 0, 0))
        self.assertIsNone(line.first())
        self.assertIsNone(line.oldest())

    def test_comesBack(self) -> None:
        """
        A client whose connect failed has had its turn: it is served before all others,
        and of several the oldest.
        """
        queue = queueOf(Least(), a := destination("a"))
        queue.setDiscipline(FAIR)
        for number in range(20):
            queue.put(came(number, f"192.0.2.{number // 10}"))
        pulled = [queue.pull(a, lambda each: None) for _ in range(6)]
        for each in pulled:
            assert each is not None
            each.tries += 1
            queue.putBack(each)
        self.assertEqual(len(queue), 20)
        back = sorted(each.number for each in pulled if each is not None)
        self.assertEqual(pulledAll(queue, a)[:6], back)


class PriorityTests(SynchronousTestCase):
    """
    Listeners whose clients go first.
    """

    def setUp(self) -> None:
        """
        Make a queue in which a step of priority counts ten seconds.
        """
        self.a = destination("a")
        self.queue = queueOf(Least(), self.a)
        self.queue.setDiscipline(BY_PRIORITY)

    def put(self, *given: tuple[int, int, float]) -> None:
        """
        Let clients come.

        @param given: The number, the priority and the time of each.
        """
        for number, priority, at in given:
            self.queue.put(came(number, priority=priority, at=at))

    def test_higherFirst(self) -> None:
        """
        Clients of a higher priority go first, and those of one in their order.
        """
        self.put((1, 0, 0), (2, 1, 1), (3, 0, 2), (4, 3, 3), (5, 1, 4))
        self.assertEqual(pulledAll(self.queue, self.a), [4, 2, 5, 1, 3])

    def test_nobodyStarves(self) -> None:
        """
        A client of priority 0 that has waited for two steps goes before those of
        priority 2 that have just come, and no later.
        """
        self.put((1, 0, 0.0), (2, 2, 19.0), (3, 2, 21.0))
        self.assertEqual(pulledAll(self.queue, self.a), [2, 1, 3])

    def test_oldest(self) -> None:
        """
        The client that has waited longest is the one whose time is over first, whatever
        its priority; and the list of waiting clients is by age.
        """
        self.put((1, 0, 0), (2, 9, 1), (3, 0, 2))
        oldest = self.queue.oldest()
        assert oldest is not None
        self.assertEqual(oldest.number, 1)
        self.assertEqual([each.number for each in self.queue], [1, 2, 3])

    def test_comesBack(self) -> None:
        """
        A client whose connect failed keeps its place among all others.
        """
        self.put((1, 0, 0), (2, 1, 1), (3, 1, 2))
        pulled = [self.queue.pull(self.a, lambda each: None) for _ in range(2)]
        self.queue.putBack(*(each for each in pulled if each is not None))
        self.assertEqual(pulledAll(self.queue, self.a), [2, 3, 1])

    def test_fairWithin(self) -> None:
        """
        Sources take turns among the clients of one priority.
        """
        self.queue.setDiscipline(BOTH)
        for number in range(100):
            self.queue.put(came(number, "192.0.2.1"))
        self.queue.put(came(100, "192.0.2.2"))
        self.queue.put(came(101, "192.0.2.3", priority=1))
        order = pulledAll(self.queue, self.a)
        self.assertEqual(order[0], 101)
        self.assertLessEqual(order.index(100), 1 + CHOICES)

    def test_betweenLines(self) -> None:
        """
        A destination serves its own client or one that any may serve, whichever has the
        higher priority, also when a gate opens.
        """
        queue = queueOf(Bound(), self.a)
        queue.setDiscipline(BY_PRIORITY)
        for number, host, priority in ((1, "a", 0), (2, "any", 1), (3, "a", 2)):
            queue.put(came(number, host, priority))
        self.assertEqual(pulledAll(queue, self.a), [3, 2, 1])
        queue.gate = gate = Mock(open=False)
        for number, host, priority in ((1, "a", 0), (2, "any", 1)):
            queue.put(came(number, host, priority))
        found: list[Session] = []
        queue.pull(self.a, found.append)
        gate.open = True
        self.assertTrue(queue.handOverNext())
        self.assertEqual([each.number for each in found], [2])


class ChosenTests(SynchronousTestCase):
    """
    Sessions for which a destination was chosen.
    """

    def test_moved(self) -> None:
        """
        They wait for their destination also when the order changes while they wait, and
        are then served in the new order.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Least(), a, b)
        queue.heedChosen()
        for number, priority in ((1, 0), (2, 1), (3, 0)):
            new = came(number, priority=priority, at=float(number))
            new.learn().chosen = a
            queue.put(new)
        queue.put(came(4, at=4.0))
        queue.setDiscipline(BY_PRIORITY)
        self.assertEqual(queue.charged(), 4)
        while queue.rebindSome(1):
            pass
        other = queue.pull(b, lambda each: None)
        assert other is not None
        self.assertEqual(other.number, 4)
        self.assertEqual(pulledAll(queue, a), [2, 1, 3])


class FairMachine(RuleBasedStateMachine):
    """
    A fair line serves as plain lists would: one list for each value of a byte, in
    turns.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = FairLine(None, (32, 56), SALT)
        self.count = 0
        self.back: list[Session] = []
        self.served: list[Session] = []
        # Pairs of a number and what waits there, the next to be served first.
        self.turns: list[tuple[int, list[Session]]] = []

    def waiting(self) -> list[Session]:
        """
        List what waits, by age.
        """
        found = [*self.back, *(each for _, part in self.turns for each in part)]
        return sorted(found, key=lambda each: each.place)

    @rule(host=st.integers(1, 5), times=st.integers(1, 4))
    def add(self, host: int, times: int) -> None:
        """
        Let clients come.
        """
        for _ in range(times):
            self.count += 1
            new = came(self.count, f"192.0.2.{host}")
            source = bytes(10) + bytes((255, 255, 192, 0, 2, host))
            numbers = blake2b(source, digest_size=3, key=SALT).digest()
            known = dict(self.turns)
            number = min(numbers, key=lambda each: len(known.get(each, ())))
            if number not in known:
                self.turns.append((number, []))
            dict(self.turns)[number].append(new)
            self.line.add(new)

    @precondition(lambda self: self.back or self.turns)
    @rule()
    def serve(self) -> None:
        """
        Serve the next.
        """
        if self.back:
            expected = self.back.pop(0)
        else:
            number, part = self.turns.pop(0)
            expected = part.pop(0)
            if part:
                self.turns.append((number, part))
        found = self.line.first()
        assert found is expected
        self.line.remove(found)
        found.tries += 1
        self.served.append(found)

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def comeBack(self, data: st.DataObject) -> None:
        """
        Let a connect fail.
        """
        each = data.draw(st.sampled_from(self.served))
        self.served.remove(each)
        self.back = sorted([*self.back, each], key=lambda each: each.place)
        self.line.add(each)

    @precondition(lambda self: self.back or self.turns)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """
        Let a client leave that is not the next one: that would be the same as L{serve}.
        """
        each = data.draw(st.sampled_from(self.waiting()))
        if each is self.line.first():
            return
        self.line.remove(each)
        self.back = [one for one in self.back if one is not each]
        for _, part in self.turns:
            part[:] = [one for one in part if one is not each]
        self.turns = [(number, part) for number, part in self.turns if part]

    @invariant()
    def sameAsModel(self) -> None:
        """
        Check what waits.
        """
        waiting = self.waiting()
        assert self.line.members() == waiting
        assert len(self.line) == len(waiting)
        assert self.line.oldest() is (waiting[0] if waiting else None)
        assert all(each.line is self.line for each in waiting)
        assert all(each.line is None for each in self.served)


class PriorityMachine(RuleBasedStateMachine):
    """
    A line with priorities serves as a list would that is searched for the smallest of
    all times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = BY_PRIORITY.line()
        self.now = 0.0
        self.count = 0
        self.waiting: list[Session] = []
        self.served: list[Session] = []

    @rule(priority=st.integers(0, 3), later=st.sampled_from([0.5, 3.0, 11.0]))
    def add(self, priority: int, later: float) -> None:
        """
        Let a client come.
        """
        self.now += later
        self.count += 1
        new = came(self.count, priority=priority, at=self.now)
        self.waiting.append(new)
        self.line.add(new)

    @precondition(lambda self: self.waiting)
    @rule()
    def serve(self) -> None:
        """
        Serve the next: none of its priority is older, and its time is the smallest.
        """
        found = self.line.first()
        assert found in self.waiting
        for each in self.waiting:
            assert BY_PRIORITY.due(found) <= BY_PRIORITY.due(each)
            if each.origin.priority == found.origin.priority:
                assert found.place <= each.place
        self.line.remove(found)
        self.waiting.remove(found)
        self.served.append(found)

    @precondition(lambda self: self.served)
    @rule()
    def comeBack(self) -> None:
        """
        Let a connect fail.
        """
        each = self.served.pop()
        self.waiting.append(each)
        self.waiting.sort(key=lambda each: each.place)
        self.line.add(each)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """
        Let a client leave.
        """
        each = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(each)
        self.line.remove(each)

    @invariant()
    def sameAsModel(self) -> None:
        """
        Check what waits.
        """
        assert self.line.members() == self.waiting
        assert len(self.line) == len(self.waiting)
        assert self.line.oldest() is (self.waiting[0] if self.waiting else None)
        assert all(each.line is self.line for each in self.waiting)


class ChangingMachine(StepsMachine):
    """
    The discipline changes while sessions wait, are bound anew, served and put back.
    """

    @rule(to=st.sampled_from([FIRST_COME, FAIR, BY_PRIORITY, BOTH]))
    def setDiscipline(self, to: Discipline) -> None:
        """
        Change the discipline.
        """
        self.queue.setDiscipline(to)

    def got(self, each: Session, who: Destination) -> None:
        """
        A destination gets a session.
        """
        super().got(each, who)
        each.tries += 1


class UnboundMachine(ChangingMachine):
    """
    The same where any destination may serve any client.
    """

    policy = Least()


class MachineTests(SynchronousTestCase):
    """
    Any order of steps.
    """

    def test_machines(self) -> None:
        """
        No client is lost, served twice or out of its turn, whatever happens.
        """
        for machine, examples in (
            (FairMachine, 60),
            (PriorityMachine, 60),
            (ChangingMachine, 60),
            (UnboundMachine, 60),
        ):
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=40,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )

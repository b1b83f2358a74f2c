"""
Tests for the queue in which sessions wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredQueue,
    QueueOverflow,
    QueueUnderflow,
)
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.destination import Destination
from iawlb.core.policies import (
    BoundedSource,
    Fifo,
    First,
    IPolicy,
    Least,
    Quick,
    Source,
)
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import Session
from tests.doubles import destination, session


class Bound(Fifo):
    """
    A policy that binds each session to the destination that its client's address names,
    if that destination is available.
    """

    binds = True

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Bind by name.
        """
        return {each.name: each for each in available}.get(session.clientHost)


class Counting(Source):
    """
    A policy that counts how many times it is asked, and about how many destinations.
    """

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Count, and bind.
        """
        self.asked[len(available)] += 1
        return super().bind(session, available)


class Spread(Fifo):
    """
    A policy that binds sessions to the destinations in turns.
    """

    binds = True

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Bind by number.
        """
        return available[session.number % len(available)]


def queueOf(
    policy: IPolicy,
    *destinations: Destination,
    size: int | None = None,
    bindable: int | None = None,
) -> ConnectionQueue:
    """
    Make a queue for destinations.
    """

    def available() -> list[Destination]:
        return [each for each in destinations if each.available]

    return ConnectionQueue(policy, available, size, bindable=bindable)


def rebound(queue: ConnectionQueue, effort: int = 1) -> int:
    """
    Have a queue bind all sessions anew, after the available destinations have changed.

    @return: The number of steps that this took.
    """
    queue.rebind()
    steps = 1
    while queue.rebindSome(effort):
        steps += 1
    return steps


class ContractTests(SynchronousTestCase):
    """
    What the users of Twisted's own queue rely on.
    """

    def setUp(self) -> None:
        """
        Make a queue of two at most, and a destination.
        """
        self.a, self.b = destination("a"), destination("b", 1)
        self.queue = queueOf(Least(), self.a, self.b, size=2)
        self.sessions = [session(number) for number in range(1, 6)]

    def test_isDeferredQueue(self) -> None:
        """
        The queue can be used where Twisted's queue can.
        """
        self.assertIsInstance(self.queue, DeferredQueue)
        self.assertEqual(self.queue.size, 2)

    def test_firstInFirstOut(self) -> None:
        """
        Sessions are served in the order in which they came.
        """
        for each in self.sessions[:2]:
            self.queue.put(each)
        got = [self.successResultOf(self.queue.get(self.a)) for _ in range(2)]
        self.assertEqual(got, self.sessions[:2])

    def test_getBeforePut(self) -> None:
        """
        A worker that waits gets the next session at once, and the session does not
        count as waiting.
        """
        getting = self.queue.get(self.a)
        self.assertNoResult(getting)
        self.queue.put(self.sessions[0])
        self.assertIs(self.successResultOf(getting), self.sessions[0])
        self.assertEqual(len(self.queue), 0)

    def test_overflow(self) -> None:
        """
        A full queue raises, keeps the waiting sessions, and takes more once one has
        gone.
        """
        first, second, third, *_ = self.sessions
        self.queue.put(first)
        self.queue.put(second)
        self.assertRaises(QueueOverflow, self.queue.put, third)
        self.assertEqual(list(self.queue), [first, second])
        self.assertNotIn(third, self.queue)
        self.queue.discard(first)
        self.queue.put(third)
        self.assertEqual(list(self.queue), [second, third])

    def test_handedOverBeyondSize(self) -> None:
        """
        A queue that may hold nothing still hands sessions over to a waiting worker.
        """
        queue = queueOf(Least(), self.a, size=0)
        self.assertRaises(QueueOverflow, queue.put, self.sessions[0])
        getting = queue.get(self.a)
        queue.put(self.sessions[0])
        self.assertIs(self.successResultOf(getting), self.sessions[0])

    def test_putBackBeyondSize(self) -> None:
        """
        A session whose connect failed is never turned away, even if others have
        filled the queue meanwhile.
        """
        first, second, third, *_ = self.sessions
        self.queue.put(first)
        self.successResultOf(self.queue.get(self.a))
        self.queue.put(second)
        self.queue.put(third)
        self.queue.putBack(first)
        self.assertEqual(list(self.queue), [first, second, third])

    def test_underflow(self) -> None:
        """
        A worker that waits already cannot wait twice.
        """
        self.queue.get(self.a)
        self.assertRaises(QueueUnderflow, self.queue.get, self.a)
        self.queue.get(self.b)

    def test_cancel(self) -> None:
        """
        A worker that gives up its wait takes no session along, and may wait again.
        """
        getting = self.queue.get(self.a)
        getting.cancel()
        self.failureResultOf(getting, CancelledError)
        self.queue.put(self.sessions[0])
        self.assertEqual(list(self.queue), self.sessions[:1])
        again = self.queue.get(self.a)
        self.assertIs(self.successResultOf(again), self.sessions[0])

    def test_cancelAfterResult(self) -> None:
        """
        Giving up a wait that is over changes nothing, also while the same worker
        waits for the next session.
        """
        getting = self.queue.get(self.a)
        self.queue.put(self.sessions[0])
        following = self.queue.get(self.a)
        getting.cancel()
        self.assertIs(self.successResultOf(getting), self.sessions[0])
        self.queue.put(self.sessions[1])
        self.assertIs(self.successResultOf(following), self.sessions[1])

    def test_discard(self) -> None:
        """
        A client that leaves is never served; leaving twice does no harm.
        """
        first, second, *_ = self.sessions
        self.queue.put(first)
        self.queue.put(second)
        self.assertTrue(self.queue.discard(first))
        self.assertFalse(self.queue.discard(first))
        self.assertIs(self.successResultOf(self.queue.get(self.a)), second)


Queue = DeferredQueue[Session]


class BothQueuesTests(SynchronousTestCase):
    """
    What the users of Twisted's own queue, who name no destination, rely on: each test
    is run over that queue too.
    """

    def queues(self, size: int | None, backlog: int | None) -> Iterator[Queue]:
        """
        Make a queue of each kind.
        """
        yield DeferredQueue(size, backlog)
        for policy in (Least(), Source()):
            yield ConnectionQueue(policy, lambda: [], size, backlog)

    def setUp(self) -> None:
        """
        Make sessions.
        """
        self.sessions = [session(number) for number in range(6)]

    def test_order(self) -> None:
        """
        Callers that wait for sessions get them in the order in which they asked, and
        waiting sessions are returned in the order in which they were put.
        """
        for queue in self.queues(2, 2):
            got: list[Session] = []
            for _ in range(2):
                queue.get().addCallback(got.append)
            self.assertRaises(QueueUnderflow, queue.get)
            for number in range(2):
                queue.put(self.sessions[number])
                self.assertEqual(got, self.sessions[: number + 1])
            for number in range(2, 4):
                queue.put(self.sessions[number])
            self.assertEqual(got, self.sessions[:2])
            self.assertRaises(QueueOverflow, queue.put, self.sessions[4])
            for _ in range(2):
                queue.get().addCallback(got.append)
            self.assertEqual(got, self.sessions[:4])

    def test_noBacklog(self) -> None:
        """
        No caller may wait where the backlog is 0, but a session that is there can be
        got.
        """
        for queue in self.queues(None, 0):
            self.assertRaises(QueueUnderflow, queue.get)
            queue.put(self.sessions[0])
            self.assertIs(self.successResultOf(queue.get()), self.sessions[0])

    def test_noLimits(self) -> None:
        """
        By default any number may wait, on either side.
        """
        for queue in self.queues(None, None):
            getting = [queue.get() for _ in range(3)]
            for each in self.sessions:
                queue.put(each)
            getting += [queue.get() for _ in range(3)]
            got = [self.successResultOf(each) for each in getting]
            self.assertEqual(got, self.sessions)

    def test_cancel(self) -> None:
        """
        A caller that gives up before there is a session takes none along, and leaves
        room in the backlog; a caller that gives up later has the session already.
        """
        for queue in self.queues(None, 2):
            first, second = queue.get(), queue.get()
            first.cancel()
            self.failureResultOf(first, CancelledError)
            third = queue.get()
            queue.put(self.sessions[0])
            second.cancel()
            self.assertIs(self.successResultOf(second), self.sessions[0])
            queue.put(self.sessions[1])
            self.assertIs(self.successResultOf(third), self.sessions[1])


class OrderTests(SynchronousTestCase):
    """
    The order in which sessions are served.
    """

    def test_putBackKeepsPlace(self) -> None:
        """
        Sessions whose connects failed are served before those that never left the
        queue, and among each other in the order in which they were accepted, whatever
        the order of their failures.
        """
        a = destination("a")
        sessions = [session(number) for number in range(1, 7)]
        queue = queueOf(Least(), a)
        for each in sessions:
            queue.put(each)
        for order in ((2, 0, 3, 1), (0, 5, 3, 4, 2, 1)):
            pulled = [self.successResultOf(queue.get(a)) for _ in order]
            for index in order:
                queue.putBack(pulled[index])
            self.assertEqual(list(queue), sessions)
        got = [self.successResultOf(queue.get(a)) for _ in range(6)]
        self.assertEqual(got, sessions)

    def test_putBackToWaiting(self) -> None:
        """
        A session whose connect failed goes to another worker that waits at once.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Least(), a, b)
        queue.put(session(1))
        failing = self.successResultOf(queue.get(a))
        getting = queue.get(b)
        queue.putBack(failing)
        self.assertIs(self.successResultOf(getting), failing)

    def test_spillOver(self) -> None:
        """
        A program that gets sessions without naming a destination gets the oldest of
        those that any destination may serve, when no destination waits for it: so the
        program can serve what is too much for the destinations.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Bound(), a, b)
        getting, spare = queue.get(b), queue.get()
        sessions = [session(n, host) for n, host in enumerate(("any", "a", "b"))]
        for each in sessions:
            queue.put(each)
        self.assertIs(self.successResultOf(getting), sessions[0])
        self.assertNoResult(spare)
        more = [session(n, "any") for n in range(3, 6)]
        for each in more:
            queue.put(each)
        self.assertIs(self.successResultOf(spare), more[0])
        self.assertIs(self.successResultOf(queue.get()), more[1])
        self.assertEqual(list(queue), [*sessions[1:], more[2]])

    def test_boundDoesNotBlock(self) -> None:
        """
        A client bound to a full destination waits for it, while the clients behind it
        are served.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Bound(), a, b)
        forA, forB = session(1, "a"), session(2, "b")
        queue.put(forA)
        queue.put(forB)
        self.assertIs(self.successResultOf(queue.get(b)), forB)
        waiting = queue.get(b)
        self.assertNoResult(waiting)
        self.assertIs(self.successResultOf(queue.get(a)), forA)

    def test_boundAndUnboundInOrder(self) -> None:
        """
        A destination takes the sessions bound to it and those that any destination may
        serve in the order in which they came.
        """
        a = destination("a")
        queue = queueOf(Bound(), a)
        sessions = [session(n, "a" if n % 3 else "any") for n in range(1, 8)]
        for each in sessions:
            queue.put(each)
        got = [self.successResultOf(queue.get(a)) for _ in sessions]
        self.assertEqual(got, sessions)

    def test_boundToNobodyThatWaits(self) -> None:
        """
        A session is not given to a worker that waits but may not serve it.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Bound(), a, b)
        getting = queue.get(a)
        queue.put(session(1, "b"))
        self.assertNoResult(getting)
        self.assertEqual(len(queue), 1)

    def test_rebind(self) -> None:
        """
        When a destination goes, its waiting clients move to another at once; when the
        destination comes back, they move back; no client loses its place.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Source(), a, b)
        sessions = [session(n, f"192.0.2.{n}") for n in range(1, 21)]
        for each in sessions:
            queue.put(each)
        a.paused = True
        rebound(queue)
        moved = [self.successResultOf(queue.get(b)) for _ in sessions]
        self.assertEqual(moved, sessions)
        for each in reversed(moved):
            queue.putBack(each)
        getting = queue.get(a)
        self.assertNoResult(getting)
        a.paused = False
        rebound(queue)
        given = self.successResultOf(getting)
        self.assertIs(Source().bind(given, [a, b]), a)
        self.assertEqual(list(queue), [each for each in sessions if each is not given])

    def test_rebindWhatMustMove(self) -> None:
        """
        When a destination goes, the policy is asked about that destination's clients
        alone; when it comes back, the policy compares it with each client's present
        destination. So the others of a hundred destinations cost nothing.
        """
        policy = Counting()
        destinations = [destination(str(n), n) for n in range(10)]
        queue = queueOf(policy, *destinations)
        for number in range(400):
            queue.put(session(number, f"192.0.2.{number}"))
        leaving = destinations[3]
        own = [each for each in queue if Source().bind(each, destinations) is leaving]
        policy.asked.clear()
        leaving.paused = True
        rebound(queue)
        self.assertEqual(policy.asked, {9: len(own)})
        policy.asked.clear()
        leaving.paused = False
        rebound(queue)
        self.assertEqual(policy.asked, {2: 400})
        self.assertEqual(
            [each for each in queue if each.line.destination is leaving], own
        )

    def test_rebindInSteps(self) -> None:
        """
        However many clients wait, a change is worked off in steps. Meanwhile no client
        is stuck or lost: the clients that have lost their destination come first, and
        the others can still be served by the destination they had.
        """
        a, b, c = (destination(name, n) for n, name in enumerate("abc"))
        queue = queueOf(Source(), a, b, c)
        for number in range(600):
            queue.put(session(number, f"192.0.2.{number}"))
        everyone = list(queue)
        a.paused = c.paused = True
        rebound(queue)
        self.assertTrue(all(each.line.destination is b for each in queue))
        b.paused, a.paused, c.paused = True, False, False
        queue.rebind()
        steps = 1
        while queue.rebindSome(60):
            steps += 1
            self.assertEqual(list(queue), everyone)
        self.assertTrue(60 <= steps <= 120, steps)
        self.assertEqual({each.line.destination for each in queue}, {a, c})
        # b is back, and a goes before all clients of b have been found.
        b.paused = False
        queue.rebind()
        self.assertTrue(queue.rebindSome(60))
        head = everyone[-1].line.members()[0]
        self.assertIs(self.successResultOf(queue.get(head.line.destination)), head)
        everyone.remove(head)
        self.assertTrue(queue.discard(everyone.pop()))
        a.paused = True
        queue.rebind()
        while any(each.line.destination is None for each in queue):
            self.assertTrue(queue.rebindSome(60))
            self.assertEqual(list(queue), everyone)
        while queue.rebindSome(60):
            pass
        for each in queue:
            self.assertIs(each.line.destination, Source().bind(each, [b, c]))

    def test_partOfTheQueue(self) -> None:
        """
        The clients of one address, that all wait for one destination, take no more
        of the queue than its part; all of them wait for it, and another
        destination's client is served at once.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Bound(), a, b, bindable=40)
        for number in range(30):
            queue.put(session(number, "a"))
        self.assertEqual((len(queue), queue.charged()), (30, 20))
        other = session(30, "b")
        queue.put(other)
        self.assertEqual(queue.charged(), 21)
        self.assertIs(self.successResultOf(queue.get(b)), other)
        self.assertNoResult(queue.get(b))
        # All of the queue is the part of one that is alone.
        b.paused = True
        rebound(queue)
        self.assertEqual((len(queue), queue.charged()), (30, 30))

    def test_smallestPart(self) -> None:
        """
        Some clients may wait for their own destination however small the queue
        and however many the destinations.
        """
        destinations = [destination(str(n), n) for n in range(20)]
        queue = queueOf(Bound(), *destinations, bindable=20)
        for number in range(20):
            queue.put(session(number, "7"))
        self.assertEqual((len(queue), queue.charged()), (20, 16))

    def test_partOfAll(self) -> None:
        """
        Sessions that any destination may serve count one each.
        """
        queue = queueOf(Least(), destination("a"), bindable=40)
        for number in range(50):
            queue.put(session(number))
        self.assertEqual(queue.charged(), 50)

    def test_rebindWithoutBinding(self) -> None:
        """
        Where any destination may serve any client, no client moves when a destination
        goes.
        """
        a = destination("a")
        queue = queueOf(First(), a)
        queue.put(session(1))
        queue.put(session(2))
        a.paused = True
        rebound(queue)
        self.assertEqual([each.number for each in queue], [1, 2])

    def test_pullsAgainFromWithin(self) -> None:
        """
        A worker may ask for the next session from within the call that gives it
        one: all are served, each once, in order.
        """
        a = destination("a")
        queue = queueOf(Bound(), a)
        served: list[int] = []

        def pull(got: Session | None = None) -> None:
            if got is not None:
                served.append(got.number)
            queue.get(a).addCallback(pull)

        for number in range(1, 6):
            queue.put(session(number, "a"))
        pull()
        for number in range(6, 10):
            queue.put(session(number, "any"))
        self.assertEqual(served, list(range(1, 10)))

    def test_oldest(self) -> None:
        """
        The session that has waited longest is found in whichever line it is, also when
        it came back after a failed connect.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Bound(), a, b)
        self.assertIsNone(queue.oldest())
        for number, host in enumerate(("a", "any", "b", "a", "any", "b"), 1):
            queue.put(session(number, host))
        pulled = [self.successResultOf(queue.get(a)) for _ in range(4)]
        queue.putBack(*reversed(pulled))
        found = []
        while (oldest := queue.oldest()) is not None:
            found.append(oldest.number)
            queue.discard(oldest)
        self.assertEqual(found, [1, 2, 3, 4, 5, 6])

    def test_lateArrival(self) -> None:
        """
        A client whose TLS handshake took its time enters the queue behind clients
        that were accepted after it, and keeps that place.
        """
        a = destination("a")
        queue = queueOf(Least(), a)
        late, younger = session(1), session(2)
        queue.put(younger)
        queue.put(late)
        self.assertEqual(list(queue), [younger, late])
        queue.putBack(self.successResultOf(queue.get(a)))
        self.assertEqual(list(queue), [younger, late])

    def test_comeBackAmongOthers(self) -> None:
        """
        Sessions that come back when those before and behind them still wait take
        their places between them, whichever of them leave or come back again.
        """
        a, b = destination("a"), destination("b", 1)
        queue = queueOf(Bound(), a, b)
        sessions = [session(n, "ab"[n % 2]) for n in range(20)]
        for each in sessions:
            queue.put(each)
        forA = [self.successResultOf(queue.get(a)) for _ in range(10)]
        a.paused = True
        rebound(queue)
        for _ in range(3):
            # They are now those that any may serve, as nothing else is.
            queue.putBack(*forA[5:])
            queue.putBack(*forA[:5])
            self.assertEqual(list(queue), sessions)
            for each in forA[2:7]:
                self.assertTrue(queue.discard(each))
            queue.putBack(*forA[2:7])
            got = [self.successResultOf(queue.get(b)) for _ in range(20)]
            self.assertEqual(got, sessions)
            queue.putBack(*sessions[1::2])


class ChosenTests(SynchronousTestCase):
    """
    Sessions that wait for the destination that was chosen for them.
    """

    def setUp(self) -> None:
        """
        Make two destinations, and a queue whose policy binds nothing.
        """
        self.a, self.b = destination("a"), destination("b", 1)
        self.queue = queueOf(Least(), self.a, self.b, bindable=40)
        self.queue.heedChosen()
        self.queue.heedChosen()

    def chosen(self, number: int, who: Destination) -> Session:
        """
        Make a session for which a destination was chosen.
        """
        made = session(number)
        made.learn().chosen = who
        return made

    def test_waitsForIt(self) -> None:
        """
        A session waits for its destination, also while the destination is down, paused
        or draining and another one is free; those behind it are served meanwhile.
        """
        mine, other = self.chosen(1, self.a), session(2)
        self.queue.put(mine)
        self.queue.put(other)
        for change in ("paused", "draining"):
            setattr(self.a, change, True)
            rebound(self.queue)
        self.a.failed("refused")
        rebound(self.queue)
        self.assertIs(self.successResultOf(self.queue.get(self.b)), other)
        self.assertNoResult(self.queue.get(self.b))
        self.assertIs(self.successResultOf(self.queue.get(self.a)), mine)

    def test_waitsBeforeIt(self) -> None:
        """
        A destination that waits gets its session at once, whichever waits longer.
        """
        self.queue.get(self.b)
        getting = self.queue.get(self.a)
        mine = self.chosen(1, self.a)
        self.queue.put(mine)
        self.assertIs(self.successResultOf(getting), mine)

    def test_inOrder(self) -> None:
        """
        A destination serves those that wait for it and those that any may serve in the
        order in which they came; one that comes back keeps its place.
        """
        made = [self.chosen(n, self.a) if n % 2 else session(n) for n in range(1, 9)]
        for each in made:
            self.queue.put(each)
        got = [self.successResultOf(self.queue.get(self.a)) for _ in range(8)]
        self.assertEqual(got, made)
        self.queue.putBack(*reversed(got))
        self.assertEqual(list(self.queue), made)
        self.assertIs(self.queue.oldest(), made[0])

    def test_replaced(self) -> None:
        """
        A destination that takes another's place serves the sessions that wait for
        that one.
        """
        mine, later = self.chosen(1, self.a), self.chosen(2, self.a)
        self.queue.put(mine)
        self.queue.put(later)
        new = destination("a", 2)
        self.assertIs(self.successResultOf(self.queue.get(new)), mine)
        self.assertIs(later.line.destination, new)

    def test_partOfTheQueue(self) -> None:
        """
        Sessions for which one destination was chosen take no more of the queue than its
        part.
        """
        for number in range(30):
            self.queue.put(self.chosen(number, self.a))
        self.assertEqual((len(self.queue), self.queue.charged()), (30, 20))
        self.assertEqual(self.queue.waitingFor(self.a), 30)
        self.assertEqual(self.queue.waitingFor(self.b), 0)

    def test_linesAreForgotten(self) -> None:
        """
        What was chosen once takes no memory for ever.
        """
        for number in range(100):
            who = destination(str(number))
            self.queue.put(self.chosen(number, who))
            self.successResultOf(self.queue.get(who))
        rebound(self.queue)
        self.assertEqual(len(self.queue._chosen), 0)

    def test_othersPolicyChanges(self) -> None:
        """
        When the policy changes, what was chosen stays chosen.
        """
        mine = self.chosen(1, self.a)
        self.queue.put(mine)
        self.queue.setPolicy(Source())
        rebound(self.queue)
        self.assertNoResult(self.queue.get(self.b))
        self.assertIs(self.successResultOf(self.queue.get(self.a)), mine)

    def test_pausedPool(self) -> None:
        """
        What hands sessions over one by one, as after a pause, hands each to the
        destination that was chosen for it.
        """
        self.queue.put(self.chosen(1, self.a))
        self.queue.put(self.chosen(2, self.b))
        getting: dict[Destination, list[Session]] = {}
        for who in (self.b, self.a):
            self.queue._takers[who] = getting.setdefault(who, []).append
        while self.queue.handOverNext():
            pass
        self.assertEqual([each.number for each in getting[self.a]], [1])
        self.assertEqual([each.number for each in getting[self.b]], [2])


class FaultyPolicyTests(SynchronousTestCase):
    """
    With a policy of a user's own that has faults.
    """

    def setUp(self) -> None:
        """
        Make two destinations, and a policy that does as the test says.
        """
        self.a, self.b = destination("a"), destination("b", 1)
        self.policy = Bound()
        self.queue = queueOf(self.policy, self.a, self.b)

    def fault(self, *told: object) -> Destination:
        """
        A fault.
        """
        raise ZeroDivisionError("a fault in a user's policy")

    def numbers(self, who: Destination) -> list[int]:
        """
        Pull all that wait.
        """
        pulled = []
        while len(self.queue):
            pulled.append(self.successResultOf(self.queue.get(who)).number)
        return pulled

    def test_bindRaises(self) -> None:
        """
        A policy that raises when clients are to be bound loses none of them: any
        destination may serve them, and what it raised is in the log.
        """
        for number in range(1, 4):
            self.queue.put(session(number, "a"))
        self.patch(self.policy, "bind", self.fault)
        rebound(self.queue)
        self.queue.put(session(4, "a"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
        self.assertEqual(self.numbers(self.b), [1, 2, 3, 4])

    def test_bindsToUnavailable(self) -> None:
        """
        A policy that binds a client to a destination that is not there is not
        followed: the client does not wait for ever.
        """
        self.patch(self.policy, "bind", lambda *told: destination("other"))
        self.queue.put(session(1))
        self.assertEqual(self.numbers(self.b), [1])

    def test_chooseRaises(self) -> None:
        """
        When a policy cannot choose, the longest waiting is served, and what it
        raised is in the log.
        """
        getting = [self.queue.get(self.b), self.queue.get(self.a)]
        self.patch(self.policy, "choose", self.fault)
        self.queue.put(session(1))
        self.assertEqual(self.successResultOf(getting[0]).number, 1)
        self.assertNoResult(getting[1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_choosesRubbish(self) -> None:
        """
        A policy that returns what is no destination, and cannot even be looked up, is
        not followed either, and the log says so.
        """
        getting = [self.queue.get(self.b), self.queue.get(self.a)]
        self.patch(self.policy, "choose", lambda waiting: waiting)
        self.queue.put(session(1))
        self.assertEqual(self.successResultOf(getting[0]).number, 1)
        self.assertNoResult(getting[1])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_choosesWhoDoesNotWait(self) -> None:
        """
        A policy that chooses a destination whose worker does not wait is not
        followed: the client goes to one that does.
        """
        getting = self.queue.get(self.b)
        self.patch(self.policy, "choose", lambda waiting: self.a)
        self.queue.put(session(1))
        self.assertEqual(self.successResultOf(getting).number, 1)


class MachineBase(RuleBasedStateMachine):
    """
    Any order of steps leaves the queue as a plain list, searched from its start, would
    be. The model's list holds the waiting sessions by age, and asks anew each time
    which destination may serve a session.
    """

    policy: IPolicy
    weight = 3

    def __init__(self) -> None:
        super().__init__()
        self.destinations = [
            destination("a"),
            destination("b", 1, weight=self.weight),
            destination("c", 2, slots=1),
        ]
        self.size = 8
        self.queue = queueOf(self.policy, *self.destinations, size=self.size)
        self.count = 0
        self.deferreds: dict[Destination, Deferred[Session]] = {}
        # What happened, and what had to.
        self.given: list[tuple[Session, Destination]] = []
        self.expected: list[tuple[Session, Destination]] = []
        # The model.
        self.waiting: list[Session] = []
        self.getters: list[Destination] = []
        self.served: dict[Session, Destination] = {}

    def available(self) -> list[Destination]:
        """
        List the destinations that can be bound to.
        """
        return [each for each in self.destinations if each.available]

    def may(self, each: Session, who: Destination) -> bool:
        """
        Say whether a destination may serve a session.
        """
        return self.policy.bind(each, self.available()) in (None, who)

    def modelGives(self, each: Session, who: Destination) -> None:
        """
        The model gives a session to a destination.
        """
        self.expected.append((each, who))
        self.served[each] = who

    def modelOffers(self, each: Session) -> bool:
        """
        Offer a session to the destinations that wait in the model.
        """
        able = [who for who in self.getters if self.may(each, who)]
        if not able:
            return False
        chosen = self.chooses(able)
        self.getters.remove(chosen)
        self.modelGives(each, chosen)
        return True

    def chooses(self, able: list[Destination]) -> Destination:
        """
        Return the policy's choice, in the words of its promise.
        """
        raise NotImplementedError

    def noted(self, got: Session, who: Destination) -> None:
        """
        The queue gave a session to a destination.
        """
        self.given.append((got, who))
        who.take()
        who.connectEnded()
        del self.deferreds[who]

    def come(self, host: int) -> Session:
        """
        Make the next client.
        """
        self.count += 1
        # Their order of accept is another.
        return session(1000 - self.count, f"192.0.2.{host}", accepted=self.count)

    @rule(host=st.integers(1, 6))
    def put(self, host: int) -> None:
        """
        A client comes.
        """
        each = self.come(host)
        full = False
        if not self.modelOffers(each):
            full = len(self.waiting) >= self.size
            if not full:
                self.waiting.append(each)
        try:
            self.queue.put(each)
        except QueueOverflow:
            assert full
        else:
            assert not full

    @precondition(lambda self: self.served)
    @rule(data=st.data(), back=st.booleans())
    def finish(self, data: st.DataObject, back: bool) -> None:
        """
        Let a session end, or let its connect fail and put it back.
        """
        each = data.draw(st.sampled_from(list(self.served)))
        self.served.pop(each).give()
        if back:
            if not self.modelOffers(each):
                self.waiting.append(each)
                self.waiting.sort(key=lambda one: one.place)
            self.queue.putBack(each)

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """
        Let a client leave, whether it waits or not.
        """
        known = [*self.waiting, *self.served, session(0)]
        each = data.draw(st.sampled_from(known))
        there = each in self.waiting
        assert self.queue.discard(each) is there
        if there:
            self.waiting.remove(each)

    @rule(index=st.integers(0, 2))
    def get(self, index: int) -> None:
        """
        Let a worker ask, if it may.
        """
        who = self.destinations[index]
        if who in self.getters:
            try:
                self.queue.get(who)
            except QueueUnderflow:
                return
            raise AssertionError("waits twice")
        if not who.canPull():
            return
        for each in self.waiting:
            if self.may(each, who):
                self.waiting.remove(each)
                self.modelGives(each, who)
                break
        else:
            self.getters.append(who)
        getting = self.queue.get(who)
        self.deferreds[who] = getting
        getting.addCallbacks(
            self.noted, lambda why: why.trap(CancelledError) and None, (who,)
        )

    def giveUp(self, who: Destination) -> None:
        """
        A worker that waits gives up.
        """
        self.getters.remove(who)
        self.deferreds.pop(who).cancel()

    @precondition(lambda self: self.getters)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """
        Let a worker give up.
        """
        self.giveUp(data.draw(st.sampled_from(self.getters)))

    @rule(index=st.integers(0, 2), how=st.sampled_from(["paused", "down"]))
    def change(self, index: int, how: str) -> None:
        """
        Let a destination become available, or stop being so; then its worker gives up
        and the queue binds anew.
        """
        who = self.destinations[index]
        if how == "paused":
            who.paused = not who.paused
        elif who.down is None:
            who.failed("refused")
        else:
            who.recovered()
        if who in self.getters and not who.available:
            self.giveUp(who)
        self.waiting = [each for each in self.waiting if not self.modelOffers(each)]
        rebound(self.queue)

    @invariant()
    def sameAsModel(self) -> None:
        """
        Check that the same sessions wait in the same order, that the same destinations
        got the same sessions in the same order, and that no session is lost or there
        twice.
        """
        assert list(self.queue) == self.waiting
        assert len(self.queue) == len(self.waiting)
        assert all(each in self.queue for each in self.waiting)
        assert not any(each in self.queue for each in self.served)
        assert self.given == self.expected
        assert set(self.deferreds) == set(self.getters)
        assert self.queue.oldest() is (self.waiting[0] if self.waiting else None)


class LeastMachine(MachineBase):
    """
    With the least loaded; all weigh the same, so that no turns are counted.
    """

    policy = Least()
    weight = 1

    def chooses(self, able: list[Destination]) -> Destination:
        """
        Return the destination with the smallest load, and of equals the one that has
        waited longest.
        """
        loads = [each.active for each in able]
        return able[loads.index(min(loads))]


class FirstMachine(MachineBase):
    """
    With the first in the order given.
    """

    policy = First()

    def chooses(self, able: list[Destination]) -> Destination:
        """
        The first in the order given.
        """
        return next(each for each in self.destinations if each in able)


class SourceMachine(MachineBase):
    """
    With each client bound to a destination.
    """

    policy: IPolicy = Source()

    def chooses(self, able: list[Destination]) -> Destination:
        """
        Return the only destination that may serve the session, or the one that has
        waited longest while no destination can be bound to.
        """
        return able[0]


class Named(Fifo):
    """
    A policy of a user's own: some clients are bound by their address, if the
    destination that it names is available.
    """

    binds = True

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        """
        Bind by the last digit.
        """
        name = "-abc------"[int(session.clientHost[-1])]
        return next((each for each in available if each.name == name), None)


class NamedMachine(SourceMachine):
    """
    With some of the clients bound.
    """

    policy = Named()


class Choosing(MachineBase):
    """
    With a destination that was chosen for some of the clients, which may be full, down
    or paused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue.heedChosen()

    def may(self, each: Session, who: Destination) -> bool:
        """
        Only what was chosen may serve the session.
        """
        if each.info is not None and each.info.chosen is not None:
            return who is each.info.chosen
        return super().may(each, who)

    def come(self, host: int) -> Session:
        """
        Clients of some addresses have a destination chosen.
        """
        each = super().come(host)
        if host <= 3:
            each.learn().chosen = self.destinations[host - 1]
        return each


class ChoosingLeastMachine(Choosing, LeastMachine):
    """
    Any destination may serve the others.
    """


class ChoosingSourceMachine(Choosing, SourceMachine):
    """
    The policy binds the others.
    """


class SpillMachine(SourceMachine):
    """
    With clients that any destination may serve after some time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.since = -1.0

    def may(self, each: Session, who: Destination) -> bool:
        """
        A client that has waited long enough may go to any destination.
        """
        return each.queued <= self.since or super().may(each, who)

    @rule(ago=st.integers(0, 6), most=st.integers(1, 4))
    def spill(self, ago: int, most: int) -> None:
        """
        Time passes.
        """
        self.since = max(self.since, self.count - ago)
        while self.queue.spill(self.since, most):
            pass
        self.waiting = [each for each in self.waiting if not self.modelOffers(each)]


class ChoosingSpillMachine(Choosing, SpillMachine):
    """
    Clients for whom a destination was chosen wait on.
    """


class StepsMachine(RuleBasedStateMachine):
    """
    The steps in which sessions are bound anew, with any other steps between them.
    """

    policy: IPolicy = Source()
    bindable: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.destinations = [destination(name, n) for n, name in enumerate("abcd")]
        self.queue = queueOf(self.policy, *self.destinations, bindable=self.bindable)
        self.count = 0
        self.takers: set[Destination] = set()
        self.waiting: set[Session] = set()
        self.served: list[Session] = []

    def got(self, each: Session, who: Destination) -> None:
        """
        A destination gets a session.
        """
        assert who.available
        self.waiting.remove(each)
        self.served.append(each)

    @rule(number=st.integers(1, 12), host=st.integers(1, 9))
    def put(self, number: int, host: int) -> None:
        """
        Let clients come, several of them from one address.
        """
        for each in range(number):
            self.count += 1
            new = session(self.count, f"192.0.2.{host + each % 3}")
            self.waiting.add(new)
            self.queue.put(new)

    @rule(index=st.integers(0, 3))
    def pull(self, index: int) -> None:
        """
        A worker asks, or gives up.
        """
        who = self.destinations[index]
        if who in self.takers:
            self.takers.remove(who)
            self.queue.cease(who)
        elif who.available:

            def take(each: Session) -> None:
                self.takers.remove(who)
                self.got(each, who)

            each = self.queue.pull(who, take)
            if each is None:
                self.takers.add(who)
            else:
                self.got(each, who)

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def putBack(self, data: st.DataObject) -> None:
        """
        Connects fail.
        """
        failed = data.draw(st.lists(st.sampled_from(self.served), unique=True))
        for each in failed:
            self.served.remove(each)
            self.waiting.add(each)
        self.queue.putBack(*failed)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """
        A client leaves.
        """
        order = sorted(self.waiting, key=lambda each: each.place)
        each = data.draw(st.sampled_from(order))
        assert self.queue.discard(each)
        self.waiting.remove(each)

    @rule(indices=st.sets(st.integers(0, 3), min_size=1))
    def change(self, indices: set[int]) -> None:
        """
        Destinations go or come.
        """
        for index in indices:
            who = self.destinations[index]
            who.paused = not who.paused
            if who in self.takers:
                self.takers.remove(who)
                self.queue.cease(who)
        self.queue.rebind()

    @rule(effort=st.integers(1, 60))
    def rebindSome(self, effort: int) -> None:
        """
        Bind some sessions anew.
        """
        self.queue.rebindSome(effort)

    @rule()
    def rebindAll(self) -> None:
        """
        Bind all sessions anew, and check that each is in the line where it belongs.
        """
        while self.queue.rebindSome(100):
            pass
        available = [each for each in self.destinations if each.available]
        lines = Counter(each.line.destination for each in self.waiting)
        for each in self.waiting:
            line = each.line.destination
            assert line is None or line in available
            assert line not in self.takers
            assert line is not None or not self.takers
            if self.bindable is None:
                assert line is self.policy.bind(each, available)
        if self.bindable is not None:
            assert len(lines) < 2 or max(lines.values()) <= self.bindable

    @invariant()
    def nobodyIsLost(self) -> None:
        """
        Check that the right sessions wait, in order.
        """
        order = sorted(self.waiting, key=lambda each: each.place)
        assert list(self.queue) == order
        assert len(self.queue) == len(order)

    def teardown(self) -> None:
        """
        When all is bound, and something is up, all can be served.
        """
        for each in self.destinations:
            if each in self.takers:
                self.queue.cease(each)
        self.takers.clear()
        self.destinations[0].paused = False
        rebound(self.queue, 50)
        for each in self.destinations:
            while each.available and each not in self.takers:
                self.pull(self.destinations.index(each))
        assert not self.waiting


class NamedStepsMachine(StepsMachine):
    """
    The same steps for a policy of a user's own.
    """

    policy = Named()


class PartStepsMachine(StepsMachine):
    """
    The same steps where a destination's line may not take all of the queue.
    """

    bindable = 40


class BoundedStepsMachine(StepsMachine):
    """
    The same steps where no destination may have much more than its share; a policy that
    counts does not place a session as it did before.
    """

    policy = BoundedSource(1.25)
    bindable = 1000


class QuickStepsMachine(StepsMachine):
    """
    The same steps with a policy that tries what it does not know.
    """

    policy = Quick(lambda: 1.0)


class InterleavingTests(SynchronousTestCase):
    """
    Any order of steps.
    """

    def check(self, machine: type[RuleBasedStateMachine]) -> None:
        """
        Try many orders, the same at each run.
        """
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=60,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

    def test_least(self) -> None:
        """
        Whatever clients, workers and destinations do, no client is lost, served
        twice or out of turn, and each goes to the least loaded that waits.
        """
        self.check(LeastMachine)

    def test_first(self) -> None:
        """
        The queue matches the model, and each session goes to the first destination that
        waits.
        """
        self.check(FirstMachine)

    def test_source(self) -> None:
        """
        The queue matches the model, and each session goes to the destination it is
        bound to.
        """
        self.check(SourceMachine)

    def test_named(self) -> None:
        """
        The queue matches the model with a policy of a user's own, which binds some
        sessions.
        """
        self.check(NamedMachine)

    def test_chosen(self) -> None:
        """
        The queue matches the model while a destination is chosen for some of the
        clients, whether or not the policy binds others.
        """
        self.check(ChoosingLeastMachine)
        self.check(ChoosingSourceMachine)

    def test_spill(self) -> None:
        """
        The queue matches the model while clients that have waited long may go to any
        destination, but those for whom one was chosen.
        """
        self.check(SpillMachine)
        self.check(ChoosingSpillMachine)

    def test_steps(self) -> None:
        """
        The queue matches the model while it takes several steps to bind the waiting
        sessions anew.
        """
        for machine in (
            StepsMachine,
            NamedStepsMachine,
            PartStepsMachine,
            BoundedStepsMachine,
            QuickStepsMachine,
        ):
            self.check(machine)


class ManyTests(SynchronousTestCase):
    """
    A crowd of sessions. With storage that has to be searched or moved at each step
    these tests would take long.
    """

    number = 40_000

    def setUp(self) -> None:
        """
        Let many wait.
        """
        self.a = destination("a")
        self.queue = queueOf(Bound(), self.a)
        self.sessions = [session(n, "a", n) for n in range(1, self.number + 1)]
        for each in self.sessions:
            self.queue.put(each)

    def pulled(self) -> list[Session]:
        """
        Pull all that wait.
        """
        got: list[Session] = []
        while len(self.queue):
            self.queue.get(self.a).addCallback(got.append)
        return got

    def test_leaveFromTheMiddle(self) -> None:
        """
        A crowd can come, leave from the middle and be served, in order.
        """
        middle = self.number // 4
        for each in self.sessions[middle:-middle]:
            self.assertTrue(self.queue.discard(each))
        self.assertEqual(
            self.pulled(), self.sessions[:middle] + self.sessions[-middle:]
        )

    def test_failWhileManyWait(self) -> None:
        """
        A destination that fails each time, and a look at the one that waits the
        longest after each, cost no more while a crowd waits.
        """
        for _ in range(self.number):
            first = self.successResultOf(self.queue.get(self.a))
            self.assertIs(first, self.sessions[0])
            self.queue.putBack(first)
            self.assertIs(self.queue.oldest(), first)
        self.assertEqual(len(self.queue), self.number)

    def test_lateArrivals(self) -> None:
        """
        Clients whose TLS handshake ends late enter no slower while a crowd that
        was accepted after them waits, nor do those whose connects failed pass
        those of a crowd that came back before them.
        """
        late = [session(-n, "a") for n in range(self.number)]
        for each in late:
            self.queue.put(each)
        pulled = self.pulled()
        self.assertEqual(pulled, self.sessions + late)
        self.queue.put(session(0, "a"))
        for each in reversed(pulled):
            self.queue.putBack(each)
        for each in pulled[1::2]:
            self.queue.discard(each)
        self.assertEqual(self.pulled()[:-1], pulled[::2])

    def test_spill(self) -> None:
        """
        A crowd that waits for a thousand destinations may go to any in steps, none of
        which takes long; then all are in the order in which they came.
        """
        many = [destination(str(n), n) for n in range(1000)]
        queue = queueOf(Spread(), *many)
        crowd = [session(n, accepted=n) for n in range(10_000)]
        for each in crowd:
            queue.put(each)
        self.assertEqual(queue.firstToSpill(), 0)
        steps = 0
        while queue.spill(7_999, 100):
            steps += 1
        self.assertEqual(steps, 80)
        self.assertEqual(queue.firstToSpill(), 8_000)
        self.assertEqual(list(queue), crowd)
        got = []
        for who in many[:500]:
            got.append(self.successResultOf(queue.get(who)))
        self.assertEqual(got, crowd[:500])

"""
The gate of a queue: pauses, the slots of a pool, and resumes that are spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.destination import Destination
from iawlb.core.gate import PER_TURN, Gate
from iawlb.core.policies import IPolicy, Least, Source
from iawlb.core.queue import ConnectionQueue
from iawlb.core.session import Session
from tests.doubles import destination, session


class Puller:
    """
    A worker without connections: takes slots and gives them back as a real one does.
    """

    def __init__(self, crowd: Crowd, destination: Destination) -> None:
        self.crowd = crowd
        self.destination = destination
        self.waiting = False
        self.served: list[Session] = []

    def check(self) -> None:
        """
        Pull while the destination can serve; give up when it cannot.
        """
        queue = self.crowd.queue
        while not self.waiting and self.destination.canPull():
            each = queue.pull(self.destination, self.pulled)
            if each is None:
                self.waiting = True
            else:
                self.serve(each)
        if self.waiting and not self.destination.canPull():
            self.waiting = False
            queue.cease(self.destination)

    def pulled(self, each: Session) -> None:
        """
        Serve a session that was waited for.
        """
        self.waiting = False
        self.serve(each)
        self.check()

    def serve(self, each: Session) -> None:
        """
        Take the slots of a session.
        """
        self.crowd.leaves(each)
        self.destination.take()
        if self.crowd.queue.gate is not None:
            self.crowd.queue.gate.take()
        self.destination.connectEnded()
        self.served.append(each)
        assert not self.destination.slots or (
            self.destination.active <= self.destination.slots
        )

    def give(self, each: Session, back: bool = False) -> None:
        """
        Give the slots of a session back.

        @param back: Whether the session goes back to its place.
        """
        self.served.remove(each)
        self.destination.give()
        gate = self.crowd.queue.gate
        if gate is not None:
            gate.give()
        if back:
            self.crowd.queue.putBack(each)
        self.check()
        if gate is not None and not gate.open:
            gate.check()


class Crowd:
    """
    A queue with a gate, and workers.

    @ivar left: The numbers of the sessions that have left the queue, in order.
    """

    def __init__(self, policy: IPolicy | None = None, *slots: int) -> None:
        self.clock = Clock()
        self.pullers = [
            Puller(self, destination(name, order, slots=number))
            for order, (name, number) in enumerate(zip("abcd", slots, strict=False))
        ]
        self.queue = ConnectionQueue(policy or Least(), self.available)
        self.drains = 0
        self.gate = Gate(
            self.clock, self.queue, self.active, self.pauseOver, self.drained
        )
        self.gate.start()
        self.left: list[int] = []
        self.count = 0
        for each in self.pullers:
            each.check()

    def available(self) -> list[Destination]:
        return [each.destination for each in self.pullers if each.destination.available]

    def active(self) -> int:
        return sum(each.destination.active for each in self.pullers)

    def pauseOver(self) -> None:
        self.gate.resume()

    def drained(self) -> None:
        self.drains += 1

    def leaves(self, each: Session) -> None:
        """
        Called when a session leaves the queue.
        """
        self.left.append(each.number)

    def put(self, number: int = 1) -> None:
        """
        Let clients come.
        """
        for _ in range(number):
            self.count += 1
            host = f"192.0.2.{self.count % 7}"
            self.queue.put(session(self.count, host, self.clock.seconds()))

    def pause(self, maxPause: float | None = None, until: float | None = None) -> None:
        """
        Pause.
        """
        self.gate.pause("test", maxPause, until)
        self.gate.check()

    def end(self, number: int = 1) -> None:
        """
        Let the sessions end that have been served the longest.
        """
        for _ in range(number):
            puller = next(each for each in self.pullers if each.served)
            puller.give(puller.served[0])


class PauseTests(SynchronousTestCase):
    """
    Nothing leaves the queue while it is paused.
    """

    def test_holds(self) -> None:
        """
        Clients that come in a pause wait, and are served in order at its end.
        """
        crowd = Crowd(None, 0)
        crowd.put(2)
        crowd.pause()
        crowd.put(3)
        self.assertEqual((crowd.left, len(crowd.queue)), ([1, 2], 3))
        crowd.gate.resume()
        self.assertEqual(crowd.left, [1, 2, 3, 4, 5])
        self.assertIsNone(crowd.queue.gate)

    def test_freeSlots(self) -> None:
        """
        A slot that becomes free in a pause stays free.
        """
        crowd = Crowd(None, 1)
        crowd.put(2)
        crowd.pause()
        crowd.end()
        self.assertEqual(crowd.left, [1])
        crowd.gate.resume()
        self.assertEqual(crowd.left, [1, 2])

    def test_failedConnect(self) -> None:
        """
        A client whose connect fails in a pause waits at its place.
        """
        crowd = Crowd(None, 0)
        crowd.put(1)
        crowd.pause()
        crowd.put(1)
        (puller,) = crowd.pullers
        puller.give(puller.served[0], back=True)
        self.assertEqual(crowd.left, [1])
        crowd.gate.resume()
        self.assertEqual(crowd.left, [1, 1, 2])

    def test_unnamed(self) -> None:
        """
        A program that gets sessions itself gets none in a pause.
        """
        crowd = Crowd()
        crowd.pause()
        crowd.put(2)
        first, second = crowd.queue.get(), crowd.queue.get()
        self.assertNoResult(first)
        crowd.gate.resume()
        self.assertEqual(self.successResultOf(first).number, 1)
        self.assertEqual(self.successResultOf(second).number, 2)

    def test_again(self) -> None:
        """
        A second pause changes who holds the pool and for how long, but not since when;
        and a second resume changes nothing.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.clock.advance(5)
        crowd.gate.pause("other", 7.0, 20.0)
        pause = crowd.gate.paused
        assert pause is not None
        self.assertEqual(
            (pause.by, pause.since, pause.until, pause.maxPause), ("other", 0, 20, 7)
        )
        self.assertEqual(crowd.gate.pauses, 1)
        crowd.gate.resume()
        resumed = crowd.gate.resumed
        crowd.clock.advance(1)
        crowd.gate.resume()
        self.assertEqual(crowd.gate.resumed, resumed)
        crowd.clock.advance(100)  # the end of the pause that was undone
        self.assertEqual(crowd.gate.resumed, resumed)

    def test_endsByItself(self) -> None:
        """
        A pause with an end is over then, also if nobody resumes.
        """
        crowd = Crowd(None, 0)
        crowd.pause(until=10.0)
        crowd.put(1)
        crowd.clock.advance(9.9)
        self.assertEqual(crowd.left, [])
        crowd.clock.advance(0.2)
        self.assertEqual((crowd.left, crowd.gate.paused), ([1], None))

    def test_endWhileStopped(self) -> None:
        """
        A pause stays while the balancer is stopped, without a timer; when it is started
        again, the end counts that was asked for.
        """
        crowd = Crowd(None, 0)
        crowd.pause(until=10.0)
        crowd.gate.stop()
        self.assertEqual(crowd.clock.getDelayedCalls(), [])
        crowd.clock.advance(20)
        self.assertIsNotNone(crowd.gate.paused)
        crowd.gate.start()
        crowd.clock.advance(0)
        self.assertIsNone(crowd.gate.paused)

    def test_drained(self) -> None:
        """
        A pause is drained once, when the last slot is free: at once if no session is
        served.
        """
        crowd = Crowd(None, 0)
        crowd.put(2)
        crowd.pause()
        seen = [crowd.drains]
        crowd.end()
        seen.append(crowd.drains)
        crowd.end()
        seen.append(crowd.drains)
        crowd.pause()
        seen.append(crowd.drains)
        crowd.gate.resume()
        crowd.pause()
        seen.append(crowd.drains)
        self.assertEqual(seen, [0, 0, 1, 1, 2])

    def test_manyInTurns(self) -> None:
        """
        When many waited, they leave some in each turn of the reactor, and a client that
        comes meanwhile does not pass them.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.put(2 * PER_TURN + 1)
        crowd.gate.resume()
        self.assertEqual(len(crowd.left), PER_TURN)
        crowd.put(1)
        self.assertEqual(len(crowd.left), PER_TURN)
        crowd.end()
        self.assertEqual(len(crowd.left), PER_TURN)
        crowd.clock.advance(0)
        self.assertEqual(crowd.left, list(range(1, 2 * PER_TURN + 3)))
        self.assertIsNone(crowd.queue.gate)

    def test_evenly(self) -> None:
        """
        Those that waited go to the workers that the policy chooses, not all to the
        first.
        """
        crowd = Crowd(None, 0, 0, 0)
        crowd.pause()
        crowd.put(9)
        crowd.gate.resume()
        self.assertEqual([len(each.served) for each in crowd.pullers], [3, 3, 3])

    def test_pausedWhileHandingOver(self) -> None:
        """
        A pause that begins between two turns holds the rest.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.put(PER_TURN + 1)
        crowd.gate.resume()
        crowd.pause()
        crowd.clock.advance(1)
        self.assertEqual(len(crowd.left), PER_TURN)
        crowd.gate.resume()
        self.assertEqual(len(crowd.left), PER_TURN + 1)

    def test_stoppedWhileHandingOver(self) -> None:
        """
        Sessions that a stop leaves in the queue go on to leave after the next start.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.put(PER_TURN + 1)
        crowd.gate.stop()
        crowd.gate.resume()
        self.assertEqual(crowd.clock.getDelayedCalls(), [])
        crowd.gate.start()
        self.assertEqual(len(crowd.left), PER_TURN + 1)


class WaitTests(SynchronousTestCase):
    """
    How long clients wait.
    """

    def test_queueTimeout(self) -> None:
        """
        Without a pause, and in one without a longest wait, the queue time-out counts
        from the entry; 0 is no time-out.
        """
        gate = Crowd().gate
        self.assertEqual(gate.due(5.0, 30.0), 35.0)
        gate.pause("test", None, None)
        self.assertEqual(gate.due(5.0, 30.0), 35.0)
        self.assertEqual(gate.due(5.0, 0.0), math.inf)

    def test_longestPause(self) -> None:
        """
        A longest wait counts from the entry, or from the pause for those that waited
        already; 0 is none.
        """
        crowd = Crowd()
        crowd.clock.advance(100)
        crowd.pause(maxPause=10.0)
        self.assertEqual(crowd.gate.due(5.0, 30.0), 110.0)
        self.assertEqual(crowd.gate.due(107.0, 30.0), 117.0)
        self.assertEqual(crowd.gate.due(107.0, 0.0), 117.0)
        crowd.pause(maxPause=0.0)
        self.assertEqual(crowd.gate.due(107.0, 30.0), math.inf)

    def test_afterwards(self) -> None:
        """
        Clients that waited in a pause have their queue time-out from the resume on, or
        from the end of its spread; also when the next pause begins.
        """
        crowd = Crowd()
        crowd.pause()
        crowd.put(1)
        crowd.clock.advance(100)
        crowd.gate.resume(20.0)
        self.assertEqual(crowd.gate.due(5.0, 30.0), 150.0)
        self.assertEqual(crowd.gate.due(130.0, 30.0), 160.0)
        crowd.pause()
        self.assertEqual(crowd.gate.due(5.0, 30.0), 150.0)
        self.assertEqual(crowd.gate.due(5.0, 0.0), math.inf)


class SlotsTests(SynchronousTestCase):
    """
    No more sessions are served than the pool has slots.
    """

    def test_limit(self) -> None:
        """
        A slot that is given back goes to the next session, and to the worker that the
        policy chooses.
        """
        crowd = Crowd(None, 0, 0)
        crowd.gate.setSlots(3)
        crowd.put(5)
        self.assertEqual(crowd.left, [1, 2, 3])
        a, b = crowd.pullers
        self.assertEqual((len(a.served), len(b.served)), (2, 1))
        a.give(a.served[0])
        a.give(a.served[0])
        self.assertEqual((len(a.served), len(b.served)), (1, 2))
        self.assertEqual(crowd.left, [1, 2, 3, 4, 5])

    def test_fullDestination(self) -> None:
        """
        A destination without a free slot of its own gets no session, also if the pool
        has one.
        """
        crowd = Crowd(None, 1, 1)
        crowd.gate.setSlots(10)
        crowd.put(4)
        self.assertEqual((crowd.left, crowd.queue.gate), ([1, 2], crowd.gate))
        crowd.end()
        self.assertEqual(crowd.left, [1, 2, 3])

    def test_failedConnect(self) -> None:
        """
        A failed connect gives its slot back, and the session that failed is the next
        to get it.
        """
        crowd = Crowd(None, 0, 0)
        crowd.gate.setSlots(1)
        crowd.put(2)
        a, b = crowd.pullers
        a.destination.failed("refused")
        a.give(a.served[0], back=True)
        self.assertEqual(crowd.left, [1, 1])
        self.assertEqual([each.number for each in b.served], [1])

    def test_changed(self) -> None:
        """
        More slots serve those that wait, fewer end no session, and without a limit
        nothing is held or counted any more.
        """
        crowd = Crowd(None, 0)
        crowd.put(2)
        crowd.gate.setSlots(3)
        crowd.put(3)
        self.assertEqual(crowd.left, [1, 2, 3])
        crowd.gate.setSlots(4)
        self.assertEqual(crowd.left, [1, 2, 3, 4])
        crowd.gate.setSlots(2)
        crowd.end(2)
        self.assertEqual(crowd.left, [1, 2, 3, 4])
        crowd.end()
        self.assertEqual(crowd.left, [1, 2, 3, 4, 5])
        crowd.put(2)
        crowd.gate.setSlots(0)
        self.assertEqual((crowd.left[5:], crowd.queue.gate), ([6, 7], None))

    def test_pausedToo(self) -> None:
        """
        The slots count in a pause as well.
        """
        crowd = Crowd(None, 0)
        crowd.gate.setSlots(2)
        crowd.put(3)
        crowd.pause()
        crowd.end(2)
        crowd.put(3)
        self.assertEqual(crowd.left, [1, 2])
        crowd.gate.setSlots(0)
        self.assertEqual(crowd.left, [1, 2])
        crowd.gate.setSlots(2)
        crowd.gate.resume()
        self.assertEqual(crowd.left, [1, 2, 3, 4])


class SpreadTests(SynchronousTestCase):
    """
    A resume that lets the waiting leave over some time.
    """

    def test_evenly(self) -> None:
        """
        They leave in order, evenly over the time; a client that comes meanwhile is
        behind them.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.put(4)
        crowd.gate.resume(2.0)
        seen = [len(crowd.left)]
        crowd.put(1)
        for _ in range(4):
            crowd.clock.advance(0.5)
            seen.append(len(crowd.left))
        self.assertEqual(seen, [1, 2, 3, 4, 5])
        self.assertEqual(crowd.left, [1, 2, 3, 4, 5])
        self.assertIsNone(crowd.queue.gate)

    def test_many(self) -> None:
        """
        Where several are due at a time, they leave together.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.put(10_000)
        crowd.gate.resume(2.0)
        for step in range(1, 101):
            crowd.clock.pump([0.02] + [0.0] * 5)
            self.assertLessEqual(abs(len(crowd.left) - 100 * step), 1)
        self.assertEqual(crowd.left, list(range(1, 10_001)))

    def test_slots(self) -> None:
        """
        No destination gets more than it has slots for; a slot that is given back is
        used at once.
        """
        crowd = Crowd(None, 1)
        crowd.pause()
        crowd.put(4)
        crowd.gate.resume(4.0)
        crowd.clock.advance(3.5)
        self.assertEqual(crowd.left, [1])
        crowd.end()
        self.assertEqual(crowd.left, [1, 2])

    def test_comesUpMeanwhile(self) -> None:
        """
        A destination that comes back during the spread gets sessions soon.
        """
        crowd = Crowd(None, 0)
        (puller,) = crowd.pullers
        puller.destination.paused = True
        puller.check()
        crowd.pause()
        crowd.put(2)
        crowd.gate.resume(100.0)
        crowd.clock.advance(60)
        puller.destination.paused = False
        puller.check()
        crowd.clock.advance(0.1)
        self.assertEqual(crowd.left, [1, 2])

    def test_cutShort(self) -> None:
        """
        Another resume without a spread lets all leave at once, and another pause holds
        the rest.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.put(6)
        crowd.gate.resume(6.0)
        crowd.pause()
        crowd.clock.advance(10)
        self.assertEqual(crowd.left, [1])
        crowd.gate.resume(5.0)
        crowd.gate.resume()
        self.assertEqual(crowd.left, [1, 2, 3, 4, 5, 6])

    def test_nobodyWaits(self) -> None:
        """
        Where nobody waits there is nothing to spread.
        """
        crowd = Crowd(None, 0)
        crowd.pause()
        crowd.gate.resume(10.0)
        crowd.put(2)
        self.assertEqual(crowd.left, [1, 2])


class GateMachine(RuleBasedStateMachine):
    """
    Any order of what clients, workers and the user do.
    """

    policy: Callable[[], Least | Source] = Least
    inOrder = True

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd(self.policy(), 1, 2, 0)
        self.crowd.leaves = self.leaves  # type: ignore[method-assign]

    def leaves(self, each: Session) -> None:
        """
        Check a session that leaves.
        """
        crowd = self.crowd
        slots = crowd.gate.slots
        assert crowd.gate.paused is None
        assert not slots or crowd.active() < slots
        if self.inOrder:
            oldest = crowd.queue.oldest()
            assert oldest is None or each.place < oldest.place

    @rule(number=st.integers(1, 40))
    def put(self, number: int) -> None:
        """
        Clients come.
        """
        self.crowd.put(number)

    @precondition(lambda self: self.crowd.active() > 0)
    @rule(data=st.data(), back=st.booleans())
    def give(self, data: st.DataObject, back: bool) -> None:
        """
        A session ends, or its connect fails.
        """
        puller = data.draw(
            st.sampled_from([each for each in self.crowd.pullers if each.served])
        )
        puller.give(data.draw(st.sampled_from(puller.served)), back)

    @precondition(lambda self: len(self.crowd.queue) > 0)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """
        A client leaves.
        """
        self.crowd.queue.discard(data.draw(st.sampled_from(list(self.crowd.queue))))

    @rule(until=st.none() | st.integers(0, 3))
    def pause(self, until: int | None) -> None:
        """
        The user pauses.
        """
        now = self.crowd.clock.seconds()
        self.crowd.pause(until=None if until is None else now + until)

    @rule(spread=st.sampled_from([0.0, 0.0, 0.5, 3.0]))
    def resume(self, spread: float) -> None:
        """
        The user resumes.
        """
        self.crowd.gate.resume(spread)

    @rule(slots=st.integers(0, 5))
    def setSlots(self, slots: int) -> None:
        """
        The user changes the pool's slots.
        """
        self.crowd.gate.setSlots(slots)

    @rule(index=st.integers(0, 2))
    def change(self, index: int) -> None:
        """
        A destination goes or comes.
        """
        puller = self.crowd.pullers[index]
        puller.destination.paused = not puller.destination.paused
        puller.check()
        self.crowd.queue.rebind()
        while self.crowd.queue.rebindSome(100):
            pass

    @rule(seconds=st.sampled_from([0.0, 0.02, 0.3, 1.0]))
    def advance(self, seconds: float) -> None:
        """
        Time passes.
        """
        self.crowd.clock.advance(seconds)

    @invariant()
    def counted(self) -> None:
        """
        Check the count of the slots.
        """
        gate = self.crowd.queue.gate
        if gate is not None:
            assert gate._taken == self.crowd.active()
        else:
            assert self.crowd.gate.paused is None
            assert not self.crowd.gate.slots
        assert gate is None or not gate.open or not self.servable()

    def servable(self) -> bool:
        """
        Return whether a worker waits for a session that waits.
        """
        queue = self.crowd.queue
        lines = [each.line.destination for each in queue]
        waiting = [each.destination for each in self.crowd.pullers if each.waiting]
        return any(waiting if each is None else each in waiting for each in lines)

    @rule()
    def settle(self) -> None:
        """
        Once all is resumed and time has passed, nobody waits that could be served.
        """
        self.crowd.gate.resume()
        for _ in range(20):
            self.crowd.clock.advance(1.0)
        slots = self.crowd.gate.slots
        full = slots and self.crowd.active() >= slots
        assert full or not self.servable()
        assert slots or self.crowd.queue.gate is None
        assert self.crowd.clock.getDelayedCalls() == []


class SourceGateMachine(GateMachine):
    """
    The same, where each client is bound to a destination.
    """

    policy = Source
    inOrder = False


class AnyOrderTests(SynchronousTestCase):
    """
    Any order of steps.
    """

    def test_anyOrder(self) -> None:
        """
        Whatever happens in whatever order, nothing leaves in a pause, the slots of the
        pool and of each destination are never exceeded, the oldest leaves first, and
        nobody is forgotten.
        """
        for machine in (GateMachine, SourceGateMachine):
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

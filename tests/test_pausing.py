"""
Pauses, stops and slots of a pool, through the whole balancer in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.balancer import Balancer
from iawlb.core.events import (
    DESTINATION_PAUSED,
    DESTINATION_RESUMED,
    POOL_ADDED,
    POOL_DRAINED,
    POOL_PAUSED,
    POOL_REMOVED,
    POOL_RESUMED,
    POOL_STOPPED,
    IPoolObserver,
)
from iawlb.core.outcome import Outcome
from iawlb.errors import InvalidSetting, UnknownDestination
from iawlb.observe.eventlog import EventLog
from iawlb.pausing import ITS_END, LONGEST_NAME
from iawlb.pool import Pool
from iawlb.service import LoadBalancer
from tests.doubles import Backend, Recorder, Rig, accept, logged

SILENT = ConnectTimeout()


class PoolRecorder(Recorder):
    """
    Remembers changes of pools, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pools: list[tuple[str, str]] = []

    def poolChanged(self, pool: str, event: str, by: str) -> None:
        self.pools.append((event, by))


def poolOf(rig: Rig) -> Pool:
    """
    Return the pool.
    """
    return rig.balancer.pools["default"]


class PauseTests(SynchronousTestCase):
    """
    A pause holds the clients of a pool.
    """

    def test_holds(self) -> None:
        """
        Sessions that are served go on, new clients wait, and after the pause they are
        served in order.
        """
        rig = Rig(2)
        pool = poolOf(rig)
        rig.client()
        pool.pause("me")
        rig.clients(3)
        self.assertEqual((pool.active, rig.balancer.waiting), (1, 3))
        rig.backends[0].wires[0].receive(b"answer")
        pool.resume()
        self.assertEqual([number for number, _ in rig.recorder.pulls], [1, 2, 3, 4])
        self.assertEqual((pool.active, rig.balancer.waiting), (4, 0))

    def test_state(self) -> None:
        """
        The pool says in one word how it is, and who has paused it since when.
        """
        rig = Rig()
        pool = poolOf(rig)
        states = [pool.state]
        rig.advance(1)
        pool.pause("me", maxPause=5.0, until=10.0)
        states.append(pool.state)
        pause = pool.gate.paused
        assert pause is not None
        self.assertEqual(
            (pause.by, round(pause.since), pause.until, pause.maxPause),
            ("me", 1, 10.0, 5.0),
        )
        pool.refuse()
        states.append(pool.state)
        pool.resume()
        rig.balancer.pause()
        states.append(pool.state)
        rig.balancer.stopService()
        states.append(pool.state)
        self.assertEqual(states, ["up", "paused", "stopped", "down", "closing"])

    def test_events(self) -> None:
        """
        Observers that know pools are called, with who has asked; nothing is reported
        that changes nothing.
        """
        recorder = PoolRecorder()
        self.assertTrue(IPoolObserver.names())
        balancer = LoadBalancer(Rig().clock, observers=[Recorder(), recorder])
        pool = balancer.pools["default"]
        pool.resume()
        pool.refuse(False)
        pool.pause("me")
        pool.resume(by="you")
        pool.refuse(by="me")
        pool.refuse(by="me")
        pool.resume(by="you")
        pool.refuse()
        pool.refuse(False, "\nme" + "e" * 200)
        self.assertEqual(
            recorder.pools,
            [
                (POOL_ADDED, ""),
                (POOL_PAUSED, "me"),
                (POOL_DRAINED, ""),
                (POOL_RESUMED, "you"),
                (POOL_STOPPED, "me"),
                (POOL_RESUMED, "you"),
                (POOL_STOPPED, ""),
                (POOL_RESUMED, "\\nme" + "e" * (LONGEST_NAME - 3)),
            ],
        )

    def test_observerRaises(self) -> None:
        """
        An exception of an observer is logged, and the pool is paused.
        """

        class Broken(Recorder):
            def poolChanged(self, pool: str, event: str, by: str) -> None:
                raise ZeroDivisionError()

        balancer = LoadBalancer(Rig().clock, observers=[Broken()])
        balancer.pools["default"].pause()
        self.assertEqual(balancer.pools["default"].state, "paused")
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_logged(self) -> None:
        """
        The log has a line for each change that a user has asked for.
        """
        events = logged(self)
        log = EventLog()
        for event, by in (("added", ""), (POOL_PAUSED, "me"), (POOL_DRAINED, "")):
            log.poolChanged("web", event, by)
        self.assertEqual(
            [formatEvent(each) for each in events],
            ["pool web is paused by me", "pool web is drained"],
        )

    def test_endsByItself(self) -> None:
        """
        A pause with an end is over then, as if somebody had resumed.
        """
        recorder = PoolRecorder()
        rig = Rig()
        pool = poolOf(rig)
        rig.balancer.observe(recorder)
        pool.pause("script", until=rig.clock.seconds() + 5)
        rig.client()
        rig.advance(5.1)
        self.assertEqual((pool.state, rig.balancer.waiting), ("up", 0))
        self.assertEqual(recorder.pools[-1], (POOL_RESUMED, ITS_END))

    def test_wrong(self) -> None:
        """
        A wrong argument is refused by its name, and the pool is not paused; durations
        may be text.
        """
        pool: Any = poolOf(Rig())
        for part, call, given in (
            ("maxPause: -1 is not a duration", pool.pause, {"maxPause": -1}),
            ("until: 'soon' is not a time", pool.pause, {"until": "soon"}),
            ("until: nan is not a time", pool.pause, {"until": float("nan")}),
            ("spread: 'slow' is not a duration", pool.resume, {"spread": "slow"}),
        ):
            self.assertIn(part, str(self.assertRaises(InvalidSetting, call, **given)))
        self.assertRaises(InvalidSetting, pool.setPaused, "a", True, until=float("inf"))
        self.assertEqual((pool.state, pool.destinations[0].state), ("up", "up"))
        pool.pause(maxPause="30s")
        self.assertEqual(pool.gate.paused.maxPause, 30.0)

    def test_failedConnect(self) -> None:
        """
        A client whose connect fails in a pause is held as well.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        rig.client()
        poolOf(rig).pause()
        a.fail(SILENT)
        rig.advance(1)
        self.assertEqual((rig.recorder.pulls, rig.balancer.waiting), ([(1, "a")], 1))

    def test_stopped(self) -> None:
        """
        A balancer that is stopped in a pause stops, and a pause lasts over a start.
        """
        rig = Rig(drainTimeout=1)
        pool = poolOf(rig)
        pool.pause(until=100.0)
        rig.balancer.pause("a")
        client = rig.client()
        stopping = rig.balancer.stopService()
        rig.advance(1.1)
        client.lose()
        self.successResultOf(stopping)
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.KILLED_QUEUE})
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        rig.balancer.startService()
        self.assertEqual(pool.state, "paused")
        rig.advance(100)
        self.assertEqual(pool.state, "down")


class TimeoutTests(SynchronousTestCase):
    """
    How long clients wait in a pause, and after it.
    """

    def outcome(self, rig: Rig, seconds: float) -> Outcome | None:
        """
        Let time pass; close what is closing; say how the first client has ended.
        """
        rig.advance(seconds)
        if self.client.closing is not None and self.client.connected:
            self.client.lose()
        return rig.recorder.outcomes.get(1)

    def paused(self, maxPause: float | None = None, **settings: Any) -> Rig:
        """
        Make a paused balancer with a client that waits.
        """
        rig = Rig(**settings)
        poolOf(rig).pause("me", maxPause)
        self.client = rig.client()
        return rig

    def test_queueTimeout(self) -> None:
        """
        Without a longest wait the queue time-out ends the wait.
        """
        rig = self.paused(queueTimeout=5)
        self.assertIsNone(self.outcome(rig, 4.9))
        self.assertIs(self.outcome(rig, 1), Outcome.QUEUE_TIMEOUT)

    def test_longer(self) -> None:
        """
        A longest wait may be longer than the queue time-out.
        """
        rig = self.paused(60, queueTimeout=5)
        self.assertIsNone(self.outcome(rig, 59.9))
        self.assertIs(self.outcome(rig, 1), Outcome.QUEUE_TIMEOUT)

    def test_shorter(self) -> None:
        """
        Or shorter; also if there is no queue time-out, and for clients that waited
        before the pause, which have it from the pause on.
        """
        rig = Rig(queueTimeout=0, slots=1)
        rig.client()
        self.client = rig.client()
        rig.advance(100)
        poolOf(rig).pause("me", 3)
        rig.advance(2.9)
        self.assertIsNone(self.client.closing)
        rig.advance(1)
        self.assertEqual(self.client.closing, "close")

    def test_noLimit(self) -> None:
        """
        0 is no limit.
        """
        rig = self.paused(0, queueTimeout=5)
        self.assertIsNone(self.outcome(rig, 1000))

    def test_afterwards(self) -> None:
        """
        A client that has waited through the pause has its whole queue time-out after
        it.
        """
        rig = self.paused(0, queueTimeout=5)
        rig.advance(100)
        rig.balancer.pause()  # no destination takes it
        poolOf(rig).resume()
        self.assertIsNone(self.outcome(rig, 4.9))
        self.assertIs(self.outcome(rig, 1), Outcome.QUEUE_TIMEOUT)

    def test_configured(self) -> None:
        """
        New settings change nothing of that, and the old ones end no client any more.
        """
        rig = self.paused(60, queueTimeout=5)
        pool = poolOf(rig)
        pool.configure(pool.settings)
        self.assertIsNone(self.outcome(rig, 59))
        self.assertIs(self.outcome(rig, 2), Outcome.QUEUE_TIMEOUT)


class StopTests(SynchronousTestCase):
    """
    A pool that is stopped refuses clients.
    """

    def test_turnsAway(self) -> None:
        """
        New clients are turned away, those that are there are served; after the resume
        clients come in again.
        """
        rig = Rig(slots=1)
        pool = poolOf(rig)
        rig.clients(2)
        pool.refuse()
        self.assertIsNone(rig.balancer.factory.buildProtocol(None))
        rig.backends[0].wires[0].lose()
        self.assertEqual(len(rig.backends[0].wires), 2)
        pool.resume()
        rig.client()
        self.assertEqual(rig.balancer.waiting, 1)

    def test_whenDown(self) -> None:
        """
        With C{--when-down refuse}, clients are refused while nothing is up; but a pause
        holds them, whatever happens to the destinations in it.
        """
        rig = Rig(whenDown="refuse")
        pool = poolOf(rig)
        (a,) = rig.backends
        a.hold = True
        rig.client()
        pool.pause()
        seen = [pool.listeners.refusing]
        a.refuse = SILENT
        a.fail(SILENT)
        seen.append(pool.listeners.refusing)
        pool.resume()
        seen.append(pool.listeners.refusing)
        pool.pause()
        seen.append(pool.listeners.refusing)
        pool.refuse()
        seen.append(pool.listeners.refusing)
        pool.resume()
        a.refuse, a.hold = None, False
        rig.advance(5)
        seen.append(pool.listeners.refusing)
        self.assertEqual(seen, [False, False, True, False, True, False])

    def test_configured(self) -> None:
        """
        A pool that is stopped stays so when its settings change.
        """
        pool = poolOf(Rig())
        pool.refuse()
        pool.configure(pool.settings)
        self.assertTrue(pool.listeners.refusing)


class SlotsTests(SynchronousTestCase):
    """
    The slots of a pool.
    """

    def test_limit(self) -> None:
        """
        All destinations together serve no more than the pool has slots; the policy
        chooses who gets a slot that has become free.
        """
        rig = Rig(2, poolSlots=3)
        clients = rig.clients(5)
        pool = poolOf(rig)
        self.assertEqual((pool.active, pool.slots), (3, 3))
        rig.backends[0].wires[0].lose()
        clients[0].lose()
        self.assertEqual((pool.active, rig.balancer.waiting), (3, 1))
        self.assertEqual(rig.recorder.pulls[-1], (4, "b"))

    def test_failedConnect(self) -> None:
        """
        A failed connect gives the slot back, and its client keeps its place.
        """
        rig = Rig(2, poolSlots=1)
        a, b = rig.backends
        a.hold = True
        rig.clients(2)
        a.fail(SILENT)
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (1, "b")])
        b.wires[0].lose()
        self.assertEqual(rig.recorder.pulls[-1], (2, "b"))

    def test_clientLeaves(self) -> None:
        """
        A client that leaves during its connect gives the slot back.
        """
        rig = Rig(poolSlots=1)
        (a,) = rig.backends
        a.hold = True
        first, _ = rig.clients(2)
        first.lose(reset=True)
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (2, "a")])

    def test_rest(self) -> None:
        """
        A slot that rests is not free for the pool either.
        """
        rig = Rig(poolSlots=1, rest=1)
        rig.clients(2)
        rig.backends[0].wires[0].lose()
        rig.advance(0.9)
        self.assertEqual(rig.balancer.waiting, 1)
        rig.advance(0.2)
        self.assertEqual(rig.balancer.waiting, 0)

    def test_set(self) -> None:
        """
        The number can change at any time, and a wrong one is refused.
        """
        rig = Rig(2)
        pool = poolOf(rig)
        rig.clients(3)
        pool.setPoolSlots(4)
        rig.clients(3)
        self.assertEqual((pool.active, pool.settings.poolSlots), (4, 4))
        self.assertRaises(InvalidSetting, pool.setPoolSlots, -1)
        self.assertEqual((pool.slots, pool.settings.poolSlots), (4, 4))
        pool.setPoolSlots(0)
        self.assertEqual((pool.active, rig.balancer.waiting), (6, 0))


class DestinationTests(SynchronousTestCase):
    """
    Pauses of single destinations.
    """

    def test_who(self) -> None:
        """
        The destination says who has paused it; a second pause changes that, but not
        since when.
        """
        rig = Rig(2)
        pool = poolOf(rig)
        a, b = rig.balancer.destinations
        pool.setPaused("a", True, "me")
        rig.advance(2)
        pool.setPaused("a", True, "you", 100.0)
        assert a.pause is not None
        self.assertEqual((a.pause.by, a.pause.since, a.pause.until), ("you", 0, 100.0))
        self.assertIsNone(b.pause)
        pool.setPaused("a", False)
        self.assertIsNone(a.pause)
        self.assertEqual(
            rig.recorder.destinations[2:],
            [("a", DESTINATION_PAUSED), ("a", DESTINATION_RESUMED)],
        )
        self.assertRaises(UnknownDestination, pool.setPaused, "c", True)

    def test_endsByItself(self) -> None:
        """
        The pause of a destination may end by itself, also if the balancer was stopped
        meanwhile.
        """
        rig = Rig()
        pool = poolOf(rig)
        pool.setPaused("a", True, "me", 5.0)
        rig.advance(1)
        self.successResultOf(rig.balancer.stopService())
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        rig.advance(10)
        self.assertEqual(rig.states(), ["paused"])
        rig.balancer.startService()
        rig.advance(0.01)
        self.assertEqual(rig.states(), ["up"])

    def test_removed(self) -> None:
        """
        The end of a pause does nothing to a destination that is gone.
        """
        rig = Rig(2)
        poolOf(rig).setPaused("a", True, "me", 5.0)
        rig.balancer.remove("a")
        backend = Backend()
        rig.balancer.add(backend, name="a")
        poolOf(rig).setPaused("a", True)
        rig.advance(6)
        self.assertEqual(rig.states(), ["up", "paused"])

    def test_notReady(self) -> None:
        """
        A destination that is added as not ready is probed, and takes no session before
        it is resumed.
        """
        rig = Rig(0)
        pool = poolOf(rig)
        backend = Backend()
        added = pool.add(backend, {"name": "new"}, ready=False)
        self.assertEqual((added.state, added.down), ("paused", "not probed yet"))
        rig.client()
        rig.advance(1)
        self.assertEqual((added.state, added.down), ("paused", None))
        self.assertEqual((backend.tries, rig.balancer.waiting), (1, 1))
        pool.setPaused("new", False)
        self.assertEqual(rig.balancer.waiting, 0)


class RemoveTests(SynchronousTestCase):
    """
    Pools that come and go.
    """

    def test_events(self) -> None:
        """
        Observers that know pools see a pool come and go; the clients that a pause holds
        are served first.
        """
        clock, recorder, backend = Clock(), PoolRecorder(), Backend()
        balancer = Balancer(clock, observers=[recorder])
        pool = balancer.addPool("web")
        pool.add(backend, {})
        balancer.startService()
        pool.pause()
        client = accept(pool.factory)
        removing = balancer.removePool("web")
        self.assertNoResult(removing)
        backend.wires[0].lose()
        client.lose()
        self.successResultOf(removing)
        self.assertEqual(
            [event for event, _ in recorder.pools],
            [POOL_ADDED, POOL_PAUSED, POOL_DRAINED, POOL_RESUMED, POOL_REMOVED],
        )


class BatchTests(SynchronousTestCase):
    """
    Batches of accepted clients.
    """

    def test_freeSlots(self) -> None:
        """
        A batch is no larger than the free slots of the pool, so that no client waits
        for others that could not be served with it.
        """
        rig = Rig(poolSlots=2, acceptBatch=10, acceptDelay=5)
        rig.client()
        self.assertEqual(rig.recorder.pulls, [])
        rig.client()
        self.assertEqual(len(rig.recorder.pulls), 2)
        self.assertEqual(poolOf(rig).active, 2)

"""
A destination that is started when a client comes, and stopped when none has come for a
while: in memory, with functions that start and stop it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.commandvalidators import MOST_WORDS, wordList
from iawlb.core.outcome import Outcome
from iawlb.errors import InvalidSetting
from iawlb.options.wake import function
from iawlb.settings import DestinationSettings, Settings, inherited
from iawlb.workers.alarm import PER_TURN
from iawlb.workers.wakingworker import WakingWorker
from tests.doubles import Backend, Rig, Wire, accept, logged

REFUSED = ConnectionRefusedError()


class Bed(Rig):
    """
    A balancer in memory, whose destinations sleep.

    @ivar starts: The Deferred of each start that is under way, by destination.
    @ivar log: The names of the calls, in order.
    """

    def __init__(self, number: int = 1, instant: bool = True, **settings: Any) -> None:
        """
        @param number: How many destinations sleep.
        @param instant: Whether starts and stops are done at once.
        """
        own = {
            key: settings.pop(key)
            for key in ("idleTimeout", "wakeTimeout", "readyAfter", "slots")
            if key in settings
        }
        super().__init__(0, **settings)
        self.instant = instant
        self.log: list[str] = []
        self.under: list[Deferred[None]] = []
        self.cancelled = 0
        self._clients: list[Wire] = []
        self.raises: Exception | None = None
        for name in "abcdef"[:number]:
            backend = Backend()
            self.backends.append(backend)
            self.balancer.add(
                backend,
                name=name,
                ensureRunning=self.ensureRunning,
                ensureStopped=self.ensureStopped,
                **own,
            )

    def ensureRunning(self, destination: Any) -> Deferred[None] | None:
        return self._call(f"start {destination.name}")

    def ensureStopped(self, destination: Any) -> Deferred[None] | None:
        return self._call(f"stop {destination.name}")

    def _call(self, what: str) -> Deferred[None] | None:
        self.log.append(what)
        if self.raises is not None:
            raise self.raises
        if self.instant:
            return None
        done: Deferred[None] = Deferred(self._cancel)
        self.under.append(done)
        return done

    def _cancel(self, done: Deferred[None]) -> None:
        self.cancelled += 1
        self.under.remove(done)

    def client(self, host: str = "192.0.2.1") -> Wire:
        client = super().client(host)
        self._clients.append(client)
        return client

    def turn(self) -> None:
        """
        The reactor has its turn, in which the connections close that were closed.
        """
        for each in self._clients:
            if each.connected and each.closing:
                each.lose()
        self.clock.advance(0)

    def finish(self) -> None:
        """
        The oldest start or stop that is under way is done.
        """
        self.under.pop(0).callback(None)

    def come(self, number: int = 1, host: str = "192.0.2.1") -> list[Wire]:
        """
        Clients connect, and the alarm has its turn.
        """
        found = [self.client(host) for _ in range(number)]
        self.turn()
        self.turn()
        return found

    def leave(self, *clients: Wire, sends: bytes = b"x") -> None:
        """
        Clients that are served send something, and all is over.
        """
        for client in clients:
            if sends:
                client.receive(sends)
        for backend in self.backends:
            for wire in backend.wires:
                if wire.connected and wire.protocol.owner is not None:
                    wire.lose()
        for client in clients:
            client.lose()

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)
            self.turn()

    def waker(self, name: str = "a") -> Any:
        worker = self.balancer._pool.workers[name]
        assert isinstance(worker, WakingWorker)
        return worker.waker

    @property
    def outcomes(self) -> list[Outcome | None]:
        """
        How the sessions ended that have ended.
        """
        return list(self.recorder.outcomes.values())

    def events(self) -> list[str]:
        """
        The events of the destinations, with the first letters of their names.
        """
        return [f"{name} {event}" for name, event in self.recorder.destinations]


class WakeTests(SynchronousTestCase):
    """
    A destination that sleeps is started by the first client.
    """

    def test_oneStart(self) -> None:
        """
        However many clients come, the destination is started once, and then serves all
        of them.
        """
        bed = Bed(instant=False)
        self.assertEqual(bed.states(), ["asleep"])
        bed.come(100)
        self.assertEqual((bed.log, bed.states()), (["start a"], ["waking"]))
        self.assertEqual(bed.balancer.waiting, 100)
        bed.finish()
        bed.advance(0.1)
        self.assertEqual((bed.log, bed.states()), (["start a"], ["up"]))
        self.assertEqual(len(bed.recorder.pulls), 100)
        self.assertEqual(bed.events(), ["a added", "a waking", "a awake"])

    def test_notBeforeAClient(self) -> None:
        """
        Nothing but a client wakes a destination: no time that passes, and no probe.
        """
        bed = Bed()
        bed.advance(10)
        self.assertEqual((bed.log, bed.backends[0].tries), ([], 0))

    def test_coroutine(self) -> None:
        """
        What starts the destination may be a coroutine.
        """
        bed = Bed(0)
        calls = []

        async def start(destination: Any) -> None:
            calls.append(destination.address)

        backend = Backend()
        bed.backends.append(backend)
        bed.balancer.add(backend, name="a", ensureRunning=start)
        clients = bed.come()
        self.assertEqual(len(calls), 1)
        self.assertEqual(bed.recorder.pulls, [(1, "a")])
        # There is nothing to call that stops it.
        bed.leave(*clients)
        self.successResultOf(bed.balancer.stopService())

    def test_triesUntilReady(self) -> None:
        """
        A destination that was started gets clients once it can be connected to; until
        then they wait, and the connects that fail cost none of them anything.
        """
        bed = Bed()
        bed.backends[0].refuse = REFUSED
        bed.come(2)
        bed.advance(1)
        self.assertEqual((bed.states(), bed.recorder.pulls), (["waking"], []))
        self.assertGreater(bed.backends[0].tries, 5)
        bed.backends[0].refuse = None
        bed.advance(0.3)
        self.assertEqual(bed.recorder.pulls, [(1, "a"), (2, "a")])

    def test_header(self) -> None:
        """
        The connect that finds it ready is the balancer's own: a destination that gets
        PROXY headers is told so.
        """
        bed = Bed(sendProxy="v1")
        bed.come()
        written = [wire.written[:11] for wire in bed.backends[0].wires]
        self.assertEqual(written, [b"PROXY UNKNO", b"PROXY TCP4 "])

    def test_readyAfter(self) -> None:
        """
        A destination may be given some time from its first connect on.
        """
        bed = Bed(readyAfter="2s")
        bed.come()
        bed.advance(1.9)
        self.assertEqual(bed.states(), ["waking"])
        bed.advance(0.2)
        self.assertEqual((bed.states(), len(bed.recorder.pulls)), (["up"], 1))

    def test_others(self) -> None:
        """
        A destination sleeps on while others that are up have free slots, also if a
        client waits for a moment until their connects are through.
        """
        bed = Bed()
        awake = Backend()
        awake.hold = True
        bed.balancer.add(awake, name="z", slots=3)
        bed.come(3)
        self.assertEqual((bed.log, len(awake.pending)), ([], 1))
        bed.come()
        self.assertEqual(bed.log, ["start a"])

    def test_order(self) -> None:
        """
        Destinations are woken in their order, and only as many as it takes to have a
        slot for each client.
        """
        bed = Bed(3, slots=2, instant=False)
        bed.come(2)
        self.assertEqual(bed.log, ["start a"])
        bed.come(1)
        self.assertEqual(bed.log, ["start a", "start b"])
        bed.come(3)
        self.assertEqual(bed.log, ["start a", "start b", "start c"])
        bed.come(10)
        self.assertEqual(len(bed.log), 3)

    def test_unlimited(self) -> None:
        """
        One destination without a limit of slots is enough.
        """
        bed = Bed(3, instant=False)
        bed.come(50)
        self.assertEqual(bed.log, ["start a"])

    def test_bound(self) -> None:
        """
        A client that the policy binds to a destination that sleeps wakes that one.
        """
        bed = Bed(3, policy="source")
        hosts: dict[str | None, int] = {}
        for number in range(1, 30):
            bed.come(1, f"192.0.2.{number}")
        for number, name in bed.recorder.pulls:
            hosts.setdefault(name, number)
        self.assertEqual(set(hosts), {"a", "b", "c"})
        self.assertEqual(sorted(bed.log), ["start a", "start b", "start c"])
        again = Bed(3, policy="source")
        again.come(1, f"192.0.2.{hosts['b']}")
        self.assertEqual(again.log, ["start b"])

    def test_chosen(self) -> None:
        """
        A client for which a destination was chosen wakes that one. If it cannot be
        started the client is turned away, as no other may serve it.
        """
        bed = Bed(0, backoff="9s", backoffMax="9s")
        backends = [Backend(), Backend()]
        backends[1].refuse = REFUSED
        found: dict[str, Any] = {}
        pool = bed.balancer.addPool("own", choose=lambda client: found["wanted"])
        own = {"ensureRunning": bed.ensureRunning, "wakeTimeout": 1.0}
        for name, backend in zip("xy", backends, strict=True):
            found[name] = pool.add(backend, {"name": name, **own})
        clients = []
        for name in "xyx":
            found["wanted"] = found[name]
            clients.append(accept(pool.factory))
            bed.turn()
            bed.turn()
        self.assertEqual(bed.log, ["start x", "start y"])
        self.assertEqual([each for _, each in bed.recorder.pulls], ["x", "x"])
        bed.advance(1.1)
        clients[1].lose()
        self.assertEqual(bed.outcomes, [Outcome.WAKE_FAILED])

    def test_backup(self) -> None:
        """
        A backup is not needed while another destination sleeps, but is if that cannot
        be started. A backup that sleeps is not woken before that.
        """
        bed = Bed(instant=False, wakeTimeout="1s")
        backup = Backend()
        bed.balancer.add(backup, name="z", backup=True, ensureRunning=bed.ensureRunning)
        bed.come(5)
        self.assertEqual((bed.log, bed.states()), (["start a"], ["waking", "asleep"]))
        bed.advance(1.05)
        self.assertEqual(bed.log, ["start a", "stop a", "start z"])
        bed.under[-1].callback(None)
        bed.advance(0.05)
        self.assertEqual({name for _, name in bed.recorder.pulls}, {"z"})
        self.assertEqual(len(bed.recorder.pulls), 5)

    def test_drainedSleeps(self) -> None:
        """
        A destination that is drained sleeps when its time is over, and takes clients
        again when it is told to.
        """
        bed = Bed(idleTimeout="5s")
        bed.leave(*bed.come())
        bed.balancer._pool.drain("a")
        bed.advance(5.1)
        self.assertEqual((bed.log[-1], bed.states()), ("stop a", ["draining"]))
        bed.balancer._pool.undrain("a")
        self.assertEqual(bed.states(), ["asleep"])
        bed.come()
        self.assertEqual((bed.log[-1], bed.states()), ("start a", ["up"]))

    def test_leftMeanwhile(self) -> None:
        """
        When all clients leave during a start, the destination wakes all the same, and
        sleeps again when its time is over.
        """
        bed = Bed(instant=False, idleTimeout="10s")
        for client in bed.come(3):
            client.lose()
        bed.finish()
        bed.advance(0.1)
        self.assertEqual(bed.states(), ["up"])
        bed.advance(10.5)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_paused(self) -> None:
        """
        A paused destination is not woken; resumed, it is by those that wait. So it is
        with one that is drained.
        """
        bed = Bed()
        bed.balancer.pause("a")
        bed.come()
        bed.advance(1)
        self.assertEqual((bed.log, bed.states()), ([], ["paused"]))
        bed.balancer.resume("a")
        bed.turn()
        self.assertEqual(bed.log, ["start a"])
        other = Bed()
        pool = other.balancer._pool
        pool.drain("a")
        other.come()
        self.assertEqual((other.log, other.states()), ([], ["draining"]))
        pool.undrain("a")
        other.clock.advance(0)
        self.assertEqual(other.log, ["start a"])

    def test_poolPaused(self) -> None:
        """
        While the pool is paused its clients wake nobody; the resume does.
        """
        bed = Bed()
        pool = bed.balancer._pool
        pool.pause()
        bed.come(2)
        self.assertEqual(bed.log, [])
        pool.resume()
        bed.turn()
        bed.advance(0.1)
        self.assertEqual((bed.log, len(bed.recorder.pulls)), (["start a"], 2))

    def test_poolSlots(self) -> None:
        """
        A client that waits for a slot of the pool wakes nobody.
        """
        bed = Bed(2, poolSlots=1, slots=1)
        bed.come(2)
        self.assertEqual(bed.log, ["start a"])
        bed.balancer._pool.setPoolSlots(2)
        bed.turn()
        self.assertEqual(bed.log, ["start a", "start b"])

    def test_refuses(self) -> None:
        """
        Listeners that refuse clients while nothing is up do not while all sleep: the
        next client is what wakes them.
        """
        bed = Bed(whenDown="refuse")
        pool = bed.balancer._pool
        self.assertEqual((pool.listeners.refusing, pool.state), (False, "up"))

    def test_takesSessionsBack(self) -> None:
        """
        A destination whose name does not resolve is not down for that: a container's
        name does only once it runs.
        """
        bed = Bed()
        worker = bed.balancer._pool.workers["a"]
        worker.nameFailed(Failure(REFUSED))
        self.assertEqual(bed.states(), ["asleep"])


class SleepTests(SynchronousTestCase):
    """
    A destination is stopped when no client has used it for a while.
    """

    def test_stopped(self) -> None:
        """
        The time counts from the last client on, and the next client wakes the
        destination again.
        """
        bed = Bed(idleTimeout="5s")
        (client,) = bed.come()
        bed.advance(20)
        self.assertEqual(bed.log, ["start a"])
        bed.leave(client)
        bed.advance(4.9)
        self.assertEqual(bed.log, ["start a"])
        bed.advance(0.2)
        self.assertEqual((bed.log, bed.states()), (["start a", "stop a"], ["asleep"]))
        bed.come()
        self.assertEqual(bed.log, ["start a", "stop a", "start a"])
        self.assertEqual(
            bed.events()[1:],
            ["a waking", "a awake", "a asleep", "a waking", "a awake"],
        )

    def test_never(self) -> None:
        """
        Unless a time is set, a destination that is awake stays so.
        """
        bed = Bed()
        bed.leave(*bed.come())
        bed.advance(100)
        self.assertEqual(bed.log, ["start a"])

    def test_silentClients(self) -> None:
        """
        Clients that send nothing, as scans and the checks of other programs, do not
        keep a destination awake.
        """
        bed = Bed(idleTimeout="5s")
        bed.leave(*bed.come())
        for _ in range(10):
            bed.advance(0.4)
            bed.leave(*bed.come(), sends=b"")
        bed.advance(1.1)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_silentButThere(self) -> None:
        """
        A client that has sent nothing and is still there is not cut off; the
        destination sleeps when it has left.
        """
        bed = Bed(idleTimeout="5s")
        (client,) = bed.come()
        bed.advance(6)
        self.assertEqual(bed.log, ["start a"])
        bed.leave(client, sends=b"")
        bed.turn()
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_clientCancels(self) -> None:
        """
        A client that comes as the destination is about to be stopped keeps it awake.
        """
        bed = Bed(idleTimeout="5s")
        bed.leave(*bed.come())
        pool = bed.balancer._pool
        waker = bed.waker()
        waker._used = -10.0
        waker._timeOver()
        self.assertEqual(bed.states(), ["asleep"])
        bed.client()
        bed.turn()
        bed.turn()
        self.assertEqual((bed.log, bed.states()), (["start a"], ["up"]))
        self.assertEqual((len(bed.recorder.pulls), len(pool.queue)), (2, 0))

    def test_duringTheStop(self) -> None:
        """
        Clients that come during the stop wait, and wake the destination as soon as the
        stop is done.
        """
        bed = Bed(instant=False, idleTimeout="5s")
        clients = bed.come()
        bed.finish()
        bed.advance(0.1)
        bed.leave(*clients)
        bed.advance(5.1)
        self.assertEqual(bed.log, ["start a", "stop a"])
        bed.come(1000)
        self.assertEqual((bed.balancer.waiting, len(bed.log)), (1000, 2))
        bed.finish()
        bed.turn()
        self.assertEqual(bed.log, ["start a", "stop a", "start a"])
        bed.finish()
        bed.advance(1)
        self.assertEqual((bed.balancer.waiting, len(bed.recorder.pulls)), (0, 1001))

    def test_pausedStaysAwake(self) -> None:
        """
        A destination that the user has paused, or whose clients a pause holds, is left
        as it is; its time begins anew.
        """
        bed = Bed(idleTimeout="5s")
        bed.leave(*bed.come())
        bed.balancer.pause("a")
        bed.advance(12)
        bed.balancer.resume("a")
        bed.advance(2)
        self.assertEqual(bed.log, ["start a"])
        pool = bed.balancer._pool
        pool.pause()
        bed.come()
        bed.advance(9)
        self.assertEqual(bed.log, ["start a"])
        pool.resume()
        self.assertEqual(len(bed.recorder.pulls), 2)

    def test_rest(self) -> None:
        """
        The time counts from the last client on, also if slots have to rest.
        """
        bed = Bed(idleTimeout="5s", rest="6s")
        bed.leave(*bed.come())
        bed.advance(5.9)
        self.assertEqual(bed.log, ["start a"])
        bed.advance(0.2)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_otherTime(self) -> None:
        """
        A time that is set while the destination is awake holds at once.
        """
        bed = Bed(idleTimeout="50s")
        bed.leave(*bed.come())
        pool = bed.balancer._pool
        own = pool.workers["a"].destination.settings
        pool.configureDestination("a", replace(own, idleTimeout=3))
        bed.advance(3.1)
        self.assertEqual(bed.log, ["start a", "stop a"])
        pool.configureDestination("a", replace(own, idleTimeout=4))
        self.assertEqual(bed.states(), ["asleep"])

    def test_stopFails(self) -> None:
        """
        A stop that fails, or takes too long, is logged, and the next client starts the
        destination again.
        """
        bed = Bed(idleTimeout="5s")
        bed.leave(*bed.come())
        bed.raises = ValueError("no")
        bed.advance(5.1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        bed.raises = None
        bed.leave(*bed.come())
        bed.instant = False
        events = logged(self)
        bed.advance(15.2)
        texts = [formatEvent(each) for each in events]
        self.assertEqual(
            texts[-1], "default/a: could not be stopped: not done within 10 s"
        )
        bed.come()
        self.assertEqual(bed.log[-1], "start a")


class FailTests(SynchronousTestCase):
    """
    A destination that cannot be started.
    """

    def test_raises(self) -> None:
        """
        The clients that wait are turned away, with an outcome of its own; the exception
        is logged.
        """
        bed = Bed()
        bed.raises = ValueError("no such machine")
        bed.come(2)
        self.assertEqual(bed.outcomes, [Outcome.WAKE_FAILED] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        (one,) = bed.balancer.destinations
        self.assertEqual(
            (one.state, one.down), ("down", "could not be started: no such machine")
        )

    def test_backsOff(self) -> None:
        """
        After each failure the destination is not started for a while, which is longer
        each time; clients that come meanwhile wait for the next start.
        """
        bed = Bed(wakeTimeout="1s")
        bed.backends[0].refuse = REFUSED
        starts: list[float] = []
        for _ in range(4):
            bed.come()
            while bed.log.count("start a") == len(starts):
                bed.advance(0.01)
            starts.append(bed.clock.seconds())
            bed.advance(1.05)
        self.assertEqual(bed.outcomes, [Outcome.WAKE_FAILED] * 4)
        waits = [round(b - a - 1.05, 2) for a, b in pairwise(starts)]
        self.assertLess(waits[0], 0.11)
        self.assertGreater(waits[2], 0.15)
        bed.backends[0].refuse = None
        bed.come()
        bed.advance(2)
        self.assertEqual(bed.recorder.pulls, [(5, "a")])

    def test_tooLate(self) -> None:
        """
        A start that takes too long has failed. What it had begun is cancelled and
        stopped.
        """
        bed = Bed(instant=False, wakeTimeout="3s")
        bed.come()
        bed.advance(3.1)
        self.assertEqual(bed.log, ["start a", "stop a"])
        self.assertEqual(bed.cancelled, 1)
        (one,) = bed.balancer.destinations
        self.assertEqual(
            one.down,
            "could not be started: not ready within 3 s: it did not say that it runs",
        )
        self.assertEqual(bed.outcomes, [Outcome.WAKE_FAILED])
        # It is started again only once the stop is done.
        bed.come()
        bed.advance(1)
        self.assertEqual(len(bed.log), 2)
        bed.finish()
        bed.turn()
        self.assertEqual(bed.log[2:], ["start a"])

    def test_anotherServes(self) -> None:
        """
        The clients are not turned away while another destination may serve them: they
        wake that one.
        """
        bed = Bed(2, instant=False, wakeTimeout="1s")
        bed.come(2)
        bed.instant = True
        bed.advance(1.1)
        self.assertEqual(bed.log, ["start a", "stop a", "start b"])
        self.assertEqual(bed.recorder.pulls, [(1, "b"), (2, "b")])
        self.assertEqual(bed.outcomes, [])

    def test_anotherIsBound(self) -> None:
        """
        So it is with clients that the policy binds to the one that fails.
        """
        bed = Bed(2, policy="source", wakeTimeout="1s")
        for each in bed.backends:
            each.refuse = REFUSED
        bed.come()
        first = bed.log[0]
        bed.backends["ab".index(first[-1])].refuse = REFUSED
        bed.backends[1 - "ab".index(first[-1])].refuse = None
        bed.advance(1.3)
        self.assertEqual(len(bed.recorder.pulls), 1)
        self.assertNotEqual(bed.recorder.pulls[0][1], first[-1])

    def test_inPortions(self) -> None:
        """
        Many clients are turned away in portions, so that the others keep their turn;
        those that have left meanwhile are not there.
        """
        bed = Bed(instant=False, wakeTimeout="1s")
        clients = bed.come(2 * PER_TURN + 1)

        def closed() -> int:
            return sum(bool(each.closing) for each in clients)

        waker = bed.waker()
        waker._end.cancel()
        waker._tooLate()
        self.assertEqual(closed(), PER_TURN)
        clients[-1].lose()
        bed.turn()
        bed.turn()
        bed.turn()
        outcomes = bed.outcomes
        self.assertEqual(outcomes.count(Outcome.WAKE_FAILED), 2 * PER_TURN)
        self.assertEqual(outcomes.count(Outcome.CLIENT_LEFT_QUEUE), 1)

    def test_heldByAPause(self) -> None:
        """
        Clients that a pause of the pool holds are not turned away.
        """
        bed = Bed(instant=False, wakeTimeout="1s")
        bed.come()
        bed.balancer._pool.pause()
        bed.advance(1.1)
        self.assertEqual((bed.states(), bed.outcomes), (["down"], []))

    def test_refuses(self) -> None:
        """
        Listeners that are to refuse clients while nothing is up do so until the
        destination may be started again.
        """
        bed = Bed(whenDown="refuse")
        bed.raises = ValueError()
        listeners = bed.balancer._pool.listeners
        bed.come()
        self.flushLoggedErrors(ValueError)
        self.assertTrue(listeners.refusing)
        bed.advance(0.2)
        self.assertEqual((listeners.refusing, bed.states()), (False, ["asleep"]))

    def test_connectRaises(self) -> None:
        """
        A check that cannot be made, and one that does not answer in its time, are ones
        that fail.
        """
        check = Mock()
        for readiness, why in (
            (Mock(side_effect=ValueError("oh")), "cannot check: oh"),
            (Mock(return_value=check), "no answer in 0.3 s"),
        ):
            bed = Bed(wakeTimeout="1s", checkTimeout="300ms")
            self.patch(bed.balancer._pool.workers["a"], "readiness", readiness)
            bed.come()
            bed.advance(1.02)
            (one,) = bed.balancer.destinations
            self.assertEqual(
                one.down, f"could not be started: not ready within 1 s: {why}"
            )
        self.assertEqual(check.start.call_count, check.cancel.call_count)

    def test_ownCheck(self) -> None:
        """
        A destination that has a check of its own is ready when that succeeds, and is
        not checked while it sleeps. One whose check fails while it is awake is started
        again, if a client waits for it.
        """
        answers = [False, False, True]
        checks: list[str] = []

        def check(destination: Any) -> bool:
            checks.append(destination.state)
            return answers.pop(0) if answers else True

        bed = Bed(healthCheck=check, checkInterval="1s", checkFast="1s", fall=1)
        bed.advance(5)
        self.assertEqual(checks, [])
        bed.come()
        bed.advance(0.1)
        self.assertEqual((checks[:3], bed.states()), (["waking"] * 3, ["up"]))
        answers = [False]
        bed.advance(1.5)
        self.assertEqual(set(checks[3:]), {"up"})
        self.assertEqual(bed.events()[-2:], ["a down", "a asleep"])
        number = len(checks)
        bed.advance(5)
        self.assertEqual(len(checks), number)
        bed.come()
        bed.advance(0.1)
        self.assertEqual(bed.log, ["start a", "start a"])
        self.assertEqual(bed.states(), ["up"])

    def test_lost(self) -> None:
        """
        A destination that no longer takes connects when it should be awake is started
        again for the clients that wait, after a while; they lose nothing.
        """
        bed = Bed(connectTimeout="1s")
        bed.leave(*bed.come())
        bed.advance(10)
        bed.backends[0].refuse = ConnectTimeout()
        bed.come()
        self.assertEqual(bed.states(), ["down"])
        bed.backends[0].refuse = None
        bed.advance(0.3)
        self.assertEqual(bed.log, ["start a", "start a"])
        self.assertEqual(bed.recorder.pulls[-1], (2, "a"))
        self.assertEqual(bed.outcomes, [Outcome.UNANSWERED])

    def test_exitsLate(self) -> None:
        """
        A program that exits while it is not needed changes nothing.
        """
        bed = Bed()
        bed.waker().programExited("exited with status 0")
        self.assertEqual(bed.states(), ["asleep"])

    def test_lastsAgain(self) -> None:
        """
        The wait before the next start is short again for a destination that was awake
        for as long as the longest wait, and grows for one that was not.
        """
        for lasts, longest in ((0.5, 4.0), (5.5, 0.1)):
            bed = Bed(backoff="100ms", backoffMax="5s")
            waits = []
            for _ in range(6):
                bed.leave(*bed.come())
                bed.advance(lasts)
                waker = bed.waker()
                waker.programExited("exited with status 1")
                waits.append(waker._end.getTime() - bed.clock.seconds())
                bed.advance(waits[-1] + 0.02)
            self.assertLessEqual(waits[-1], longest)
            self.assertGreater(waits[-1], longest / 3)

    def test_forgetsItsWords(self) -> None:
        """
        What a destination has said of itself is forgotten when it sleeps: otherwise one
        that has asked for no more clients could never wake again.
        """
        words = ["up ready", "drain"]
        bed = Bed(
            idleTimeout="5s",
            checkInterval="1s",
            healthCheck=lambda destination: words[0],
        )
        bed.leave(*bed.come())
        words.reverse()
        bed.advance(5.5)
        self.assertEqual((bed.log[-1], bed.states()), ("stop a", ["asleep"]))
        words.reverse()
        bed.come()
        self.assertEqual((bed.log[-1], bed.states()), ("start a", ["up"]))

    def test_stillServes(self) -> None:
        """
        A start that fails stops nothing while sessions still run there.
        """
        bed = Bed(wakeTimeout="1s")
        bed.come()
        bed.backends[0].refuse = ConnectTimeout()
        bed.come()
        bed.advance(1.5)
        self.assertEqual(bed.log, ["start a", "start a"])


class EndTests(SynchronousTestCase):
    """
    A destination, or the balancer, goes.
    """

    def test_removedAsleep(self) -> None:
        """
        A destination that sleeps is gone at once, and nothing is called.
        """
        bed = Bed()
        self.successResultOf(bed.balancer.remove("a"))
        self.assertEqual((bed.log, bed.balancer.destinations), ([], []))
        self.assertEqual(bed.balancer._pool.alarm.wakers, {})

    def test_removedWaking(self) -> None:
        """
        A destination that is being started is stopped, and its clients wait for others.
        """
        bed = Bed(instant=False)
        bed.come()
        self.successResultOf(bed.balancer.remove("a"))
        self.assertEqual((bed.log, bed.balancer.waiting), (["start a", "stop a"], 1))
        bed.advance(30)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_removedAwake(self) -> None:
        """
        A destination that is awake finishes its sessions before it is stopped.
        """
        bed = Bed()
        (client,) = bed.come()
        gone = bed.balancer.remove("a")
        self.assertEqual(bed.log, ["start a"])
        bed.leave(client)
        self.successResultOf(gone)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_removedFailed(self) -> None:
        """
        A destination that is removed while it is not connected to is stopped, since it
        may run all the same: a program that has lost its socket, for instance.
        """
        bed = Bed(connectTimeout="1s")
        bed.leave(*bed.come())
        bed.backends[0].refuse = ConnectTimeout()
        (client,) = bed.come()
        self.assertEqual(bed.states(), ["down"])
        bed.balancer.remove("a")
        client.lose()
        bed.advance(1)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_removedGoingToSleep(self) -> None:
        """
        A destination that is removed in the moment in which its time is over is
        stopped, once.
        """
        bed = Bed(idleTimeout="1s")
        clients = bed.come()
        bed.advance(2)
        bed.leave(*clients, sends=b"")
        self.assertEqual((bed.log, bed.states()), (["start a"], ["asleep"]))
        bed.balancer.remove("a")
        bed.advance(1)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_balancerStops(self) -> None:
        """
        The balancer has stopped only when what it has started has.
        """
        bed = Bed()
        bed.leave(*bed.come())
        bed.instant = False
        stopped = bed.balancer.stopService()
        bed.turn()
        self.assertNoResult(stopped)
        self.assertEqual(bed.log, ["start a", "stop a"])
        bed.finish()
        self.successResultOf(stopped)
        bed.balancer.startService()
        self.assertEqual(bed.states(), ["asleep"])
        bed.come()
        self.assertEqual(bed.log[-1], "start a")

    def test_balancerStopsWhileWaking(self) -> None:
        """
        Clients that wait for a start when the balancer is told to stop are still
        served.
        """
        bed = Bed(instant=False)
        (client,) = bed.come()
        stopped = bed.balancer.stopService()
        bed.advance(1)
        bed.finish()
        bed.instant = True
        bed.advance(0.1)
        self.assertEqual(bed.recorder.pulls, [(1, "a")])
        bed.leave(client)
        self.successResultOf(stopped)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_balancerStopsDuringAStop(self) -> None:
        """
        A stop that was under way is waited for, and not repeated.
        """
        bed = Bed(instant=False, idleTimeout="1s")
        clients = bed.come()
        bed.finish()
        bed.advance(0.1)
        bed.leave(*clients)
        bed.advance(1.1)
        stopped = bed.balancer.stopService()
        self.assertNoResult(stopped)
        bed.finish()
        self.successResultOf(stopped)
        self.assertEqual(bed.log, ["start a", "stop a"])

    def test_otherKind(self) -> None:
        """
        A destination that is not to sleep any more is replaced: the old one finishes
        its sessions, and is stopped then.
        """
        bed = Bed()
        (client,) = bed.come()
        pool = bed.balancer._pool
        own = pool.workers["a"].destination.settings
        new = replace(own, ensureRunning=None, ensureStopped=None)
        pool.configureDestination("a", new)
        self.assertEqual(bed.states(), ["up", "draining"])
        bed.leave(client)
        self.assertEqual((bed.log, bed.states()), (["start a", "stop a"], ["up"]))
        pool.configureDestination("a", own)
        self.assertEqual(bed.states(), ["asleep"])

    def test_deploy(self) -> None:
        """
        A destination that has to be ready before it takes clients is woken for that. If
        it cannot be started, it is tried again.
        """
        bed = Bed(0)
        backend = Backend()
        backend.refuse = REFUSED
        pool = bed.balancer._pool
        own = {
            "name": "new",
            "ensureRunning": bed.ensureRunning,
            "ensureStopped": bed.ensureStopped,
            "wakeTimeout": 1.0,
            "idleTimeout": 5.0,
        }
        one = pool.add(backend, own, ready=False)
        self.assertEqual((bed.log, one.down), (["start new"], "not probed yet"))
        bed.advance(1.2)
        self.assertEqual(
            one.down,
            "could not be started: not ready within 1 s: Connection was refused by "
            "other side.",
        )
        self.assertEqual(bed.log, ["start new", "stop new", "start new"])
        backend.refuse = None
        bed.advance(0.5)
        self.assertEqual((one.down, one.state), (None, "paused"))
        pool.setPaused("new", False)
        bed.come()
        self.assertEqual(bed.recorder.pulls, [(1, "new")])


NEVER_STOPS = (
    "idleTimeout: a destination's own is the time after which it is stopped, and there "
    "is no command, nor ensureStopped; that of sessions is a setting of the pool"
)


class OptionTests(SynchronousTestCase):
    """
    The settings of a destination that sleeps.
    """

    def test_command(self) -> None:
        """
        A command is a list of words; nothing else is one.
        """
        self.assertEqual(wordList(["a", "b c", ""]), ("a", "b c", ""))
        nothing: Any
        for nothing in (None, "", [], ()):
            self.assertEqual(wordList(nothing), ())
        self.assertIs(function(print), print)
        self.assertRaises(InvalidSetting, function, "print")
        for wrong, why in (
            ("server --port 1", "is not a command: write a list of words"),
            (7, "is not a command"),
            (["a"] * (MOST_WORDS + 1), "is not a command"),
            (["a", 7], "7 is not a word of a command"),
            (["a\0"], "is not a word of a command"),
            ([""], "its first word is empty"),
        ):
            error = self.assertRaises(InvalidSetting, wordList, wrong)
            self.assertIn(why, str(error))

    def test_together(self) -> None:
        """
        Settings that do not fit each other are refused, and the message names one.
        """
        start: Any = print
        for wrong, why in (
            (
                {"command": ["a"], "ensureRunning": start},
                "command: there is ensureRunning too: give one",
            ),
            ({"stopCommand": ["a"]}, "stopCommand: there is no command"),
            ({"ensureStopped": start}, "ensureStopped: there is no ensureRunning"),
            ({"idleTimeout": 5}, NEVER_STOPS),
            ({"idleTimeout": 5, "ensureRunning": start}, NEVER_STOPS),
            ({"wakeTimeout": 0}, "wakeTimeout: 0 must be more than 0, such as 5s"),
        ):
            settings: Any = wrong
            error = self.assertRaises(InvalidSetting, DestinationSettings, **settings)
            self.assertEqual(str(error), why)

    def test_ownIdleTimeout(self) -> None:
        """
        The idle time-out of a destination is its own: that of the pool, which ends
        silent sessions, stops no destination.
        """
        pool = Settings(idleTimeout=60)
        given = inherited(pool, DestinationSettings)
        self.assertEqual(DestinationSettings(**given, command=("a",)).idleTimeout, 0)

    def test_behindAnAddress(self) -> None:
        """
        Text is no command, so none can be given on a command line, nor by a request.
        """
        balancer = Rig(0).balancer
        error = self.assertRaises(
            InvalidSetting, balancer.add, "localhost:1 command=reboot"
        )
        self.assertIn("command: 'reboot' is not a command", str(error))

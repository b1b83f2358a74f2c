"""
Operations on a running balancer, in memory.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.balancer import Balancer
from iawlb.control import waits as waitsModule
from iawlb.control.errors import Conflict, InvalidSetting, NotFound
from iawlb.control.operations import Operations
from iawlb.core.outcome import Outcome
from iawlb.errors import IawlbError
from iawlb.pool import Pool
from tests.doubles import Backend, Recorder, Wire, accept

SILENT = ConnectTimeout()


class Desk:
    """
    A balancer with two pools, C{web} with the destinations C{a} and C{b}, and C{db}
    with C{b} and C{c}; and its operations.
    """

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.recorder = Recorder()
        self.balancer = Balancer(self.clock, observers=[self.recorder], **settings)
        self.backends: dict[str, Backend] = {}
        for name, destinations in {"web": "ab", "db": "bc"}.items():
            pool = self.balancer.addPool(name)
            for each in destinations:
                backend = self.backends[f"{name}/{each}"] = Backend()
                pool.add(backend, {"name": each})
        self.balancer.startService()
        self.operations = Operations(self.balancer)
        self.clients: list[Wire] = []

    @property
    def web(self) -> Pool:
        """
        The pool C{web}.
        """
        return self.balancer.pools["web"]

    def begin(self, name: str, /, **given: Any) -> Deferred[Any]:
        """
        Begin an operation.
        """
        operation: Coroutine[Any, Any, Any] = getattr(self.operations, name)(**given)
        return Deferred.fromCoroutine(operation)

    def client(self, pool: str = "web", number: int = 1) -> None:
        """
        Let clients connect.
        """
        for _ in range(number):
            self.clients.append(accept(self.balancer.pools[pool].factory))

    def finish(self, destination: str = "web/a") -> None:
        """
        Let the destination's sessions end.
        """
        for wire in self.backends[destination].wires:
            if wire.connected:
                wire.lose()

    def closeAborted(self) -> None:
        """
        Close the connections that are to be closed.
        """
        for backend in self.backends.values():
            for wire in backend.wires:
                if wire.closing is not None and wire.connected:
                    wire.lose()
        for client in self.clients:
            if client.closing is not None and client.connected:
                client.lose()

    def advance(self, seconds: float) -> None:
        """
        Let time pass, in small steps.
        """
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)


class OperationsCase(SynchronousTestCase):
    """
    The base of the tests.
    """

    def setUp(self) -> None:
        """
        Make a balancer.
        """
        self.desk = Desk()

    def done(self, name: str, /, **given: Any) -> dict[str, Any]:
        """
        Do an operation that does not have to wait.
        """
        result: dict[str, Any] = self.successResultOf(self.desk.begin(name, **given))
        return result

    def fails(self, kind: type[IawlbError], name: str, /, **given: Any) -> str:
        """
        Do an operation that fails, and return the message.
        """
        why = self.failureResultOf(self.desk.begin(name, **given), kind)
        message: str = why.getErrorMessage()
        self.assertNotIn("\n", message)
        return message

    def assertResult(
        self, result: dict[str, Any], word: str, left: int = 0, *messages: str
    ) -> None:
        """
        Check a result.
        """
        self.assertEqual(
            (result["result"], result["left"], result["messages"]),
            (word, left, list(messages)),
        )


class PauseTests(OperationsCase):
    """
    The operations pause, resume and stop.
    """

    def test_idle(self) -> None:
        """
        The pause of a pool without sessions is done at once, and so is one of all.
        """
        self.assertResult(self.done("pause", target="web", by="me"), "done")
        self.assertEqual(self.desk.web.state, "paused")
        pause = self.desk.web.gate.paused
        assert pause is not None
        self.assertEqual((pause.by, pause.until, pause.maxPause), ("me", None, None))
        self.assertEqual(self.desk.balancer.pools["db"].state, "up")
        self.assertResult(self.done("pause"), "done")
        self.assertEqual(self.desk.balancer.pools["db"].state, "paused")
        later = self.desk.balancer.addPool("later")
        self.assertIsNone(later.gate.paused)
        self.assertResult(self.done("resume"), "done")
        self.assertIsNone(self.desk.web.gate.paused)

    def test_drained(self) -> None:
        """
        The pause returns when the sessions have finished.
        """
        desk = self.desk
        desk.client(number=2)
        pausing = desk.begin("pause", target="web")
        desk.client()
        desk.finish("web/a")
        desk.advance(1)
        self.assertNoResult(pausing)
        desk.finish("web/b")
        desk.advance(0.05)
        self.assertResult(self.successResultOf(pausing), "done")
        self.assertEqual(len(desk.web.queue), 1)

    def test_left(self) -> None:
        """
        Sessions that last longer are left, and the pool stays paused.
        """
        desk = self.desk
        desk.client(number=2)
        pausing = desk.begin("pause", target="web", drainTimeout=3)
        desk.advance(2.9)
        self.assertNoResult(pausing)
        desk.advance(0.2)
        self.assertResult(self.successResultOf(pausing), "left", 2)
        self.assertEqual((desk.web.state, desk.web.active), ("paused", 2))

    def test_atOnce(self) -> None:
        """
        Asked not to wait, or to wait for no time, the pause returns with what is left.
        """
        self.desk.client()
        result = self.done("pause", target="web", wait=False)
        self.assertResult(result, "done", 1)
        self.assertResult(self.done("pause", target="web", drainTimeout=0), "left", 1)

    def test_undone(self) -> None:
        """
        A resume ends a pause that waits at once, and it says so; also if the pool is
        paused again meanwhile.
        """
        desk = self.desk
        desk.client()
        first = desk.begin("pause", target="web")
        self.done("resume", target="web")
        why = "pool web was resumed"
        self.assertResult(self.successResultOf(first), "undone", 1, why)
        first, second = desk.begin("pause"), desk.begin("pause", target="web")
        desk.web.resume()
        desk.web.pause()
        self.assertNoResult(first)
        desk.advance(0.1)
        self.assertResult(self.successResultOf(first), "undone", 1, why)
        self.assertResult(self.successResultOf(second), "undone", 1, why)

    def test_twice(self) -> None:
        """
        A second pause changes how long it lasts; both return when drained.
        """
        desk = self.desk
        desk.client()
        first = desk.begin("pause", target="web", **{"for": "10s"})
        second = desk.begin("pause", target="web")
        desk.advance(11)
        desk.finish()
        desk.advance(0.1)
        self.assertResult(self.successResultOf(first), "done")
        self.assertResult(self.successResultOf(second), "done")
        self.assertEqual(desk.web.state, "paused")

    def test_endsByItself(self) -> None:
        """
        A pause that is over before the sessions have finished was undone. Nobody has to
        wait for it: it ends by itself.
        """
        desk = self.desk
        desk.client()
        pausing = desk.begin("pause", target="web", **{"for": 2})
        vanished = desk.begin("pause", target="db", **{"for": 2})
        vanished.addErrback(lambda why: why.trap(CancelledError))
        vanished.cancel()
        desk.advance(2.1)
        self.assertResult(
            self.successResultOf(pausing), "undone", 1, "pool web was resumed"
        )
        self.assertEqual(
            [each.state for each in desk.balancer.pools.values()], ["up"] * 2
        )

    def test_kill(self) -> None:
        """
        Asked to, the pause cuts what is left after the time, and only that: a session
        whose destination has finished is delivered to its client.
        """
        desk = self.desk
        desk.client(number=3)
        desk.finish("web/b")
        pausing = desk.begin("pause", target="web", drainTimeout=1, kill=True)
        desk.client(number=2)
        desk.advance(0.9)
        desk.closeAborted()
        self.assertEqual(desk.web.active, 2)
        desk.advance(0.15)
        desk.closeAborted()
        desk.advance(0.05)
        self.assertResult(self.successResultOf(pausing), "done", 0, "2 sessions cut")
        ends = [each for each in desk.recorder.outcomes.values()]
        self.assertEqual(ends.count(Outcome.KILLED), 2)
        self.assertEqual(len(desk.web.queue), 2)

    def test_killNotWaiting(self) -> None:
        """
        Sessions are cut in time also if nobody waits for that.
        """
        desk = self.desk
        desk.client()
        self.done("pause", target="web", drainTimeout=1, kill=True, wait=False)
        desk.advance(1.1)
        desk.closeAborted()
        self.assertEqual(desk.web.active, 0)

    def test_killRefused(self) -> None:
        """
        A session that does not end although it was cut is left.
        """
        desk = self.desk
        desk.client()
        pausing = desk.begin("pause", target="web", drainTimeout=1, kill=True)
        desk.advance(7)
        self.assertResult(self.successResultOf(pausing), "left", 1, "1 session cut")

    def test_destination(self) -> None:
        """
        A single destination can be paused, until it is resumed or for some time; its
        clients go to the others.
        """
        desk = self.desk
        desk.client()
        pausing = desk.begin("pause", target="web/a", **{"for": 9}, by="me")
        desk.client(number=2)
        self.assertEqual(len(desk.backends["web/b"].wires), 2)
        desk.finish()
        desk.advance(0.1)
        self.assertResult(self.successResultOf(pausing), "done")
        (a, _) = desk.web.destinations
        assert a.pause is not None
        self.assertEqual((a.state, a.pause.by, a.pause.until), ("paused", "me", 9))
        desk.advance(9)
        self.assertEqual(a.state, "up")
        desk.client()
        pausing = desk.begin("pause", target="a")
        self.done("resume", target="a")
        self.assertResult(
            self.successResultOf(pausing), "undone", 1, "web/a was resumed"
        )

    def test_spread(self) -> None:
        """
        A resume lets the waiting in over some time.
        """
        desk = self.desk
        self.done("pause", target="web")
        desk.client(number=10)
        self.done("resume", target="web", spread="1s")
        self.assertEqual(len(desk.web.queue), 9)
        desk.advance(0.5)
        self.assertIn(len(desk.web.queue), (4, 5))
        desk.advance(0.6)
        self.assertEqual(len(desk.web.queue), 0)

    def test_stillPaused(self) -> None:
        """
        The resume of a pool says which of its destinations stay paused.
        """
        self.done("pause", target="web")
        self.done("pause", target="web/a")
        self.done("drain", target="web/b")
        self.assertResult(
            self.done("resume"),
            *("done", 0, "web/a is still paused", "web/b is still draining"),
        )

    def test_stop(self) -> None:
        """
        A pool that is stopped refuses, until it is resumed.
        """
        desk = self.desk
        desk.client()
        self.assertResult(self.done("stop", target="web", by="me"), "done", 1)
        self.assertResult(self.done("stop", target="web"), "done", 1)
        self.assertEqual(desk.web.state, "stopped")
        self.assertIsNone(desk.web.factory.buildProtocol(None))
        self.assertResult(self.done("resume", target="web"), "done")
        self.assertEqual(desk.web.state, "up")

    def test_wrong(self) -> None:
        """
        Each wrong argument is refused by its name, and nothing is changed.
        """
        for part, name, given in (
            ("target: 7 is not a text", "pause", {"target": 7}),
            ("target: '' is not a text", "pause", {"target": ""}),
            ("target: None is not a text", "pause", {"target": None}),
            ("maxPause: 'soon' is not a duration", "pause", {"maxPause": "soon"}),
            ("drainTimeout: -1 is not a duration", "pause", {"drainTimeout": -1}),
            ("drainTimeout: None is not", "pause", {"drainTimeout": None}),
            ("for: 0 must be more than 0", "pause", {"for": 0}),
            ("wait: 1 is not yes or no", "pause", {"wait": 1}),
            ("kill: 'maybe' is not yes or no", "pause", {"kill": "maybe"}),
            ("'maxpause' is not an argument of pause: write", "pause", {"maxpause": 1}),
            ("'zzz' is not an argument of resume: it has", "resume", {"zzz": 1}),
            ("maxPause: web/a is a dest", "pause", {"target": "a", "maxPause": 1}),
            ("spread: web/a is a dest", "resume", {"target": "a", "spread": 1}),
            ("spread: nan is not a", "resume", {"spread": float("nan")}),
            ("target: web/a is a dest", "stop", {"target": "web/a"}),
            ("target: stop needs it", "stop", {}),
            ("write web/b or db/b", "pause", {"target": "b"}),
            ("target: 'web' is not a destination", "drain", {"target": "web"}),
        ):
            self.assertIn(part, self.fails(InvalidSetting, name, **given))
        for part, name, target in (
            ("no pool or destination 'wbe': write web", "pause", "wbe"),
            ("'zzzzzzz'; there is web, db, web/a, web/b, db/b", "pause", "zzzzzzz"),
            ("no pool or destination 'web/z'", "drain", "web/z"),
            ("no pool or destination 'x/a'", "resume", "x/a"),
            ("no pool or destination '\\n", "stop", "\n" * 900),
        ):
            self.assertIn(part, self.fails(NotFound, name, target=target))
        for pool in self.desk.balancer.pools.values():
            self.assertEqual(pool.state, "up")

    def test_closed(self) -> None:
        """
        When the process stops, the operations that wait return with what is left.
        """
        desk = self.desk
        desk.client()
        pausing = desk.begin("pause", target="web")
        waiting = desk.begin("wait", target="web", until="drained")
        desk.operations.close()
        desk.operations.close()
        self.assertResult(self.successResultOf(pausing), "left", 1)
        self.assertResult(self.successResultOf(waiting), "left", 1)


class DrainTests(OperationsCase):
    """
    The operations drain, wait, add and remove.
    """

    def test_drain(self) -> None:
        """
        A destination that is drained gets no more sessions, and the drain returns when
        it has none. A resume undoes it.
        """
        desk = self.desk
        desk.client()
        draining = desk.begin("drain", target="web/a")
        desk.client()
        self.assertNoResult(draining)
        desk.finish()
        desk.advance(0.05)
        self.assertResult(self.successResultOf(draining), "done")
        (a, _) = desk.web.destinations
        self.assertEqual((a.state, a.active), ("draining", 0))
        self.done("resume", target="web/a")
        self.assertEqual(a.state, "up")

    def test_undone(self) -> None:
        """
        A resume ends a drain that waits.
        """
        desk = self.desk
        desk.client()
        draining = desk.begin("drain", target="web/a")
        self.done("resume", target="web/a")
        self.assertResult(
            self.successResultOf(draining), "undone", 1, "web/a takes sessions again"
        )

    def test_kill(self) -> None:
        """
        Asked to, the drain cuts the sessions of that destination alone.
        """
        desk = self.desk
        desk.client(number=2)
        draining = desk.begin("drain", target="web/a", timeout=1, kill=True)
        desk.advance(1.1)
        desk.closeAborted()
        desk.advance(0.1)
        self.assertResult(self.successResultOf(draining), "done", 0, "1 session cut")
        self.assertEqual(desk.web.active, 1)

    def test_wait(self) -> None:
        """
        A wait returns as soon as the target is as asked, or when the time is over.
        """
        desk = self.desk
        for until in ("drained", "up"):
            for target in ("web", "web/a", "*"):
                self.assertResult(self.done("wait", target=target, until=until), "done")
        desk.client()
        waits = {
            until: desk.begin("wait", target="web/a", until=until, timeout=10)
            for until in ("drained", "removable")
        }
        pool = desk.begin("wait", target="web", until="removable", timeout=10)
        late = desk.begin("wait", target="db", until="removable", timeout=1)
        desk.finish()
        desk.advance(0.1)
        self.assertResult(self.successResultOf(waits["drained"]), "done")
        self.assertNoResult(waits["removable"])
        self.done("drain", target="web/a")
        self.assertResult(self.successResultOf(waits["removable"]), "done")
        self.assertNoResult(pool)
        self.done("pause", target="web")
        self.assertResult(self.successResultOf(pool), "done")
        desk.advance(1)
        self.assertResult(self.successResultOf(late), "left")
        self.assertIn("until:", self.fails(InvalidSetting, "wait", target="web"))

    def test_waitUp(self) -> None:
        """
        A wait until a destination is up ends when its probe succeeds, and is undone if
        the destination is removed.
        """
        desk = self.desk
        a = desk.backends["web/a"]
        a.refuse = SILENT
        desk.client()
        up = desk.begin("wait", target="web/a", until="up")
        self.assertNoResult(up)
        a.refuse = None
        desk.advance(1)
        self.assertResult(self.successResultOf(up), "done")
        self.done("pause", target="web/a")
        up = desk.begin("wait", target="web/a", until="up")
        drained = desk.begin("wait", target="web/a", until="drained")
        desk.web.remove("a")
        desk.advance(0.1)
        self.assertResult(self.successResultOf(up), "undone", 0, "web/a was removed")
        self.assertResult(self.successResultOf(drained), "done")

    def test_waitUpTimedOut(self) -> None:
        """
        A wait until a destination or pool is up, whose time is over, says what state
        it is in: one that is drained, say, never comes up by itself.
        """
        desk = self.desk
        self.done("drain", target="web/a")
        self.done("pause", target="db")
        b = desk.backends["web/b"]
        b.refuse = SILENT
        for target, line in (
            ("web/a", "timed out: web/a is draining"),
            ("db", "timed out: db is paused"),
            ("*", "timed out: db is paused"),
        ):
            wait = desk.begin("wait", target=target, until="up", timeout=1)
            desk.advance(1.1)
            self.assertResult(self.successResultOf(wait), "left", 0, line)
        desk.client()
        wait = desk.begin("wait", target="web/b", until="up", timeout=7)
        desk.advance(7.1)
        result = self.successResultOf(wait)
        self.assertEqual(result["result"], "left")
        self.assertIn("timed out: web/b is down: ", result["messages"][0])

    def test_waitForBackup(self) -> None:
        """
        A wait until a backup is up is over at once, also while it is not needed.
        """
        desk = Desk()
        desk.web.add(Backend(), {"name": "spare", "backup": True})
        wait = desk.begin("wait", target="web/spare", until="up")
        self.assertEqual(self.successResultOf(wait)["result"], "done")

    def test_add(self) -> None:
        """
        A destination can be added, with a name and settings.
        """
        result = self.done("add", pool="web", address="127.0.0.1:9003", slots=4)
        self.assertEqual((result["pool"], result["name"]), ("web", "127.0.0.1:9003"))
        self.assertEqual(self.desk.web.destinations[-1].slots, 4)
        for part, given in (
            ("no port", {"address": "localhost"}),
            ("slots: -1", {"address": "localhost:1", "slots": -1}),
            ("address: add needs it", {}),
            ("'a' already", {"address": "localhost:1", "name": "a"}),
        ):
            self.assertIn(part, self.fails(InvalidSetting, "add", pool="web", **given))
        message = self.fails(NotFound, "add", pool="wbe", address="localhost:1")
        self.assertEqual(message, "there is no pool 'wbe': write web")

    def test_remove(self) -> None:
        """
        A destination is removed when it has no more sessions; if that takes too long,
        later.
        """
        desk = self.desk
        desk.client(number=2)
        removing = desk.begin("remove", pool="web", name="a")
        desk.finish("web/a")
        desk.advance(0.1)
        self.assertResult(self.successResultOf(removing), "done")
        self.assertEqual(list(desk.web.workers), ["b"])
        removing = desk.begin("remove", pool="web", name="b", timeout=1)
        desk.advance(1.1)
        self.assertResult(self.successResultOf(removing), "left", 1)
        desk.finish("web/b")
        self.assertEqual(list(desk.web.workers), [])
        message = self.fails(NotFound, "remove", pool="web", name="b")
        self.assertEqual(message, "pool web has no destination 'b'; there is none")

    def test_removeKill(self) -> None:
        """
        Asked to, the removal cuts the sessions.
        """
        desk = self.desk
        desk.client()
        removing = desk.begin("remove", pool="web", name="a", timeout=0, kill=True)
        desk.closeAborted()
        desk.advance(0.1)
        self.assertResult(self.successResultOf(removing), "done", 0, "1 session cut")
        self.assertEqual(list(desk.web.workers), ["b"])

    def test_manyTimes(self) -> None:
        """
        A destination that is drained or removed again and again keeps no more in
        memory, and is removed once.
        """
        desk = self.desk
        desk.client()
        worker = desk.web.workers["a"]
        for _ in range(10):
            self.done("drain", target="web/a", timeout=0)
        self.assertEqual(len(worker._whenIdle), 1)
        for _ in range(10):
            self.done("remove", pool="web", name="a", timeout=0)
        self.assertEqual(len(worker._whenIdle), 2)
        desk.finish()
        self.assertEqual(list(desk.web.workers), ["b"])
        self.assertEqual(desk.recorder.destinations.count(("a", "removed")), 1)

    def test_otherPool(self) -> None:
        """
        A destination of the same name in another pool is not concerned.
        """
        desk = self.desk
        desk.client("web", 2)
        desk.client("db")
        draining = desk.begin("drain", target="db/b", timeout=0, kill=True)
        desk.closeAborted()
        desk.advance(0.1)
        self.assertResult(self.successResultOf(draining), "done", 0, "1 session cut")
        self.assertEqual(desk.web.active, 2)


class SetTests(OperationsCase):
    """
    The operations set and kill.
    """

    def test_destination(self) -> None:
        """
        Slots and weight of a destination can change.
        """
        self.done("set", target="web/a", values={"slots": 1})
        self.done("set", target="web/a", values={"weight": 5})
        (a, _) = self.desk.web.destinations
        self.assertEqual((a.slots, a.weight), (1, 5))

    def test_pool(self) -> None:
        """
        So can the settings of a pool, by their names in a configuration file.
        """
        self.done(
            "set",
            target="web",
            values={"slots": 9, "queue-timeout": "7s", "policy": "source"},
        )
        self.done("set", target="web", values={"destination-slots": 3})
        settings = self.desk.web.settings
        self.assertEqual(
            (self.desk.web.slots, settings.poolSlots, settings.queueTimeout),
            (9, 9, 7.0),
        )
        self.assertEqual((settings.policy, settings.slots), ("source", 3))
        self.assertTrue(self.desk.web.queue.policy.binds)
        self.assertEqual(self.desk.balancer.pools["db"].slots, 0)

    def test_passedOn(self) -> None:
        """
        What a pool gets, its destinations get, too, but for those that have a value of
        their own. If one of them cannot have it, nothing is changed.
        """
        desk = Desk()
        pool = desk.balancer.addPool("p")
        one = pool.add(Backend(), {"name": "one", "tls": "no", "tlsName": "one.test"})
        two = pool.add(Backend(), {"name": "two", "healthCheck": "tcp"})
        values: dict[str, Any] = {"send-proxy": "v2", "health-check": "http:/h"}
        self.successResultOf(desk.begin("set", target="p", values=values))
        self.assertEqual(one.settings.sendProxy, "v2")
        self.assertEqual(one.settings.healthCheck, "http:/h")
        self.assertEqual(two.settings.sendProxy, "v2")
        self.assertEqual(two.settings.healthCheck, "tcp")
        values = {"tls": "yes"}
        failure = self.failureResultOf(desk.begin("set", target="p", values=values))
        self.assertIn("tls-name: the address has no host", failure.getErrorMessage())
        self.assertFalse(one.settings.tls)
        self.assertFalse(pool.settings.tls)

    def test_routes(self) -> None:
        """
        A pool can be given other clients of another one's listeners.
        """
        values = {"through": "db", "server-names": ["a.example"]}
        self.done("set", target="web", values=values)
        settings = self.desk.web.settings
        self.assertEqual(settings.through, "db")
        self.assertEqual(settings.serverNames, ("a.example",))
        self.assertEqual(self.desk.web.router.behind("db"), [self.desk.web])

    def test_wrong(self) -> None:
        """
        What does not exist, cannot change or is wrong is refused, and nothing changes.
        """
        for part, target, values in (
            ("slots: 'many' is not", "web", {"queue-timeout": 1, "slots": "many"}),
            ("there is no pool 'x'", "web", {"slots": 7, "through": "x"}),
            ("'a..b' is not the name", "web", {"server-names": ["a..b"]}),
            ("'quueue-timeout' is not", "web", {"quueue-timeout": 1}),
            ("write queue-timeout", "web", {"quueue-timeout": 1}),
            ("'zzzzzz' is not a setting of a pool; docs", "web", {"zzzzzz": 1}),
            ("backlog: cannot change", "web", {"backlog": 7}),
            ("'max-connections' is not", "web", {"max-connections": 7}),
            ("weight: 0 is not", "web/a", {"slots": 7, "weight": 0}),
            ("'name' is not a setting of a destination", "web/a", {"name": "z"}),
            ("nothing to set", "web", {}),
            ("target: ''", "", {"slots": 1}),
        ):
            given = {"target": target, "values": values}
            self.assertIn(part, self.fails(InvalidSetting, "set", **given))
        self.assertEqual(self.desk.web.slots, 0)
        self.assertEqual(self.desk.web.settings.queueTimeout, 30.0)
        self.assertEqual(self.desk.web.destinations[0].slots, 0)

    def test_kill(self) -> None:
        """
        A session can be ended, whether it is served or waits.
        """
        desk = self.desk
        desk.client()
        self.done("pause", target="web", wait=False)
        desk.client()
        for number in (1, 2):
            self.assertResult(self.done("kill", id=number, by="me"), "done")
        desk.closeAborted()
        self.assertEqual(
            desk.recorder.outcomes, {1: Outcome.KILLED, 2: Outcome.KILLED_QUEUE}
        )
        self.assertEqual(self.fails(NotFound, "kill", id=1), "there is no session 1")


class RemoteTests(OperationsCase):
    """
    What no request may set: it would run a program, or read a file.
    """

    def test_refused(self) -> None:
        """
        Programs and files stand in the configuration file alone: no request adds, sets
        or deploys them, also not behind an address.
        """
        web = "localhost:9001 check-command=reboot"
        for name, given, why in (
            ("set", {"values": {"check-command": "reboot"}}, "is not a setting"),
            ("set", {"values": {"command": ["reboot"]}}, "is not a setting"),
            ("add", {"address": web}, "address: check-command can be set in the"),
            ("add", {"address": "a:1", "command": ["x"]}, "'command' is not an"),
            ("deploy", {"destinations": [web]}, "check-command can be set in the"),
            (
                "deploy",
                {"destinations": [{"address": "a:1", "check-command": "x"}]},
                "'check-command' is not an argument",
            ),
        ):
            place = {"target": "web/a"} if name == "set" else {"pool": "web"}
            values: dict[str, Any] = {**place, **given}
            self.assertIn(why, self.fails(InvalidSetting, name, **values))
        self.assertEqual(list(self.desk.web.workers), ["a", "b"])


class DeployTests(OperationsCase):
    """
    The operation deploy.
    """

    def setUp(self) -> None:
        """
        Let the test play the endpoints of new destinations.
        """
        super().setUp()
        self.played: dict[str, Backend] = {}
        web = self.desk.web
        to = web._connectors.to

        def play(address: Any, *more: Any) -> Any:
            if isinstance(address, str):
                to(address, *more)  # refuses a wrong one
                backend = self.played.setdefault(address, Backend())
                made = to(backend, *more)
                made.text = address
                return made
            return to(address, *more)

        self.patch(web._connectors, "to", play)

    def names(self) -> str:
        """
        The names and states of the destinations.
        """
        return ", ".join(
            f"{each.name} {each.state}" for each in self.desk.web.destinations
        )

    def test_done(self) -> None:
        """
        The new destinations serve when all are ready; the others finish their sessions
        and are removed, and then the deploy returns.
        """
        desk = self.desk
        desk.client()
        slow = self.played["h:2"] = Backend()
        slow.refuse = SILENT
        deploying = desk.begin(
            "deploy",
            pool="web",
            destinations=["h:1", {"address": "h:2", "name": "n", "slots": 3}],
            by="me",
        )
        desk.advance(3)
        self.assertEqual(self.names(), "a up, b up, h:1 paused, n paused")
        desk.client()
        slow.refuse = None
        desk.advance(0.3)
        self.assertEqual(self.names(), "a draining, b draining, h:1 up, n up")
        desk.client(number=2)
        self.assertEqual(len(desk.web.queue), 0)
        self.assertNoResult(deploying)
        desk.finish("web/a")
        desk.finish("web/b")
        desk.advance(0.1)
        result = self.successResultOf(deploying)
        self.assertResult(result, "done")
        self.assertEqual(
            (result["added"], result["removed"]), (["h:1", "n"], ["a", "b"])
        )
        self.assertEqual(self.names(), "h:1 up, n up")

    def test_notReady(self) -> None:
        """
        If a new destination is not ready in time, nothing has changed, and the result
        says which and why.
        """
        desk = self.desk
        for address in ("h:2", "h:3"):
            self.played[address] = Backend()
            self.played[address].refuse = SILENT
        deploying = desk.begin(
            "deploy",
            pool="web",
            destinations=["h:1", "h:2", "h:3"],
            deployTimeout=2,
        )
        desk.advance(1)
        desk.web.remove("h:3")
        desk.advance(1.1)
        result = self.successResultOf(deploying)
        self.assertEqual(result["result"], "undone")
        first, second = result["messages"]
        self.assertIn("web/h:2 is not ready: User timeout", first)
        self.assertEqual(second, "web/h:3 is not ready: it was removed")
        self.assertEqual(self.names(), "a up, b up")

    def test_poolRemoved(self) -> None:
        """
        If the pool is removed meanwhile, the deploy is undone.
        """
        desk = self.desk
        self.played["h:1"] = Backend()
        self.played["h:1"].refuse = SILENT
        deploying = desk.begin("deploy", pool="web", destinations=["h:1"])
        desk.balancer.removePool("web")
        desk.advance(0.1)
        self.assertResult(
            self.successResultOf(deploying), "undone", 0, "pool web was removed"
        )

    def test_whilePaused(self) -> None:
        """
        A deploy in a pause works, and the clients that wait go to the new ones.
        """
        desk = self.desk
        self.done("pause", target="web")
        desk.client()
        deploying = desk.begin("deploy", pool="web", destinations=["h:1"])
        desk.advance(1)
        self.assertResult(self.successResultOf(deploying), "done")
        self.done("resume", target="web")
        self.assertEqual(len(self.played["h:1"].wires), 2)  # a probe and the client

    def test_force(self) -> None:
        """
        Forced, the new ones serve without being asked.
        """
        self.played["h:1"] = Backend()
        self.played["h:1"].refuse = SILENT
        self.assertResult(
            self.done("deploy", pool="web", destinations=["h:1"], force=True), "done"
        )
        self.assertEqual(self.names(), "h:1 up")

    def test_left(self) -> None:
        """
        Sessions that last longer are left; their destination is removed when they end,
        also if it was drained before.
        """
        desk = self.desk
        desk.client()
        self.done("drain", target="web/a", timeout=0)
        deploying = desk.begin(
            "deploy", pool="web", destinations=["h:1"], drainTimeout=1
        )
        desk.advance(2)
        self.assertResult(
            self.successResultOf(deploying),
            *("left", 1, "web/a still has 1 session, and is removed then"),
        )
        self.assertEqual(self.names(), "a draining, h:1 up")
        desk.finish()
        self.assertEqual(self.names(), "h:1 up")

    def test_back(self) -> None:
        """
        A deploy back to a destination that still finishes its sessions takes it again,
        and ends the deploy before as undone; also if that had ended already.
        """
        desk = self.desk
        self.done("deploy", pool="web", destinations=["h:1"], force=True)
        desk.web.setPaused("h:1", False)
        desk.client()
        first = desk.begin("deploy", pool="web", destinations=["h:2"], force=True)
        self.assertEqual(self.names(), "h:1 draining, h:2 up")
        self.done("deploy", pool="web", destinations=["h:1"], drainTimeout=0)
        self.assertResult(
            self.successResultOf(first), "undone", 1, "web/h:1 takes sessions again"
        )
        self.assertEqual(self.names(), "h:1 up")
        result = self.done(
            "deploy", pool="web", destinations=["h:3"], force=True, drainTimeout=0
        )
        self.assertEqual(
            (result["result"], self.names()), ("left", "h:1 draining, h:3 up")
        )
        self.done("deploy", pool="web", destinations=["h:1"], drainTimeout=0)
        self.assertEqual(self.names(), "h:1 up")

    def test_same(self) -> None:
        """
        A deploy of what is there changes nothing but what is asked for.
        """
        self.done("deploy", pool="web", destinations=["h:1", "h:2 slots=2"], force=True)
        before = self.desk.web.destinations
        result = self.done(
            "deploy",
            pool="web",
            destinations=["h:1 weight=2", {"address": "h:2", "slots": 5}],
        )
        self.assertResult(result, "done")
        self.assertEqual(self.desk.web.destinations, before)
        self.assertEqual([(e.slots, e.weight) for e in before], [(0, 2), (5, 1)])

    def test_wrong(self) -> None:
        """
        A wrong destination is refused by its number, and none is added.
        """
        for part, destinations in (
            ("destinations: [1] 'h' ", ["h:1", "h"]),
            ("destinations: [0] slots: -1", [{"address": "h:1", "slots": -1}]),
            ("destinations: [0] address: a destination needs it", [{}]),
            ("destinations: [0] 7 is not a destination", [7]),
            ("destinations: [] is not a list of 1", []),
            ("destinations: 'h:1' is not a list of 1", "h:1"),
            ("destinations: [1] 'h:1' is given twice", ["h:1", "h:1"]),
            ("destinations: [0] slots: 'x'", ["h:1 slots=x"]),
        ):
            given: dict[str, Any] = {"pool": "web", "destinations": destinations}
            self.assertIn(part, self.fails(InvalidSetting, "deploy", **given))
        self.assertEqual(self.names(), "a up, b up")
        self.fails(NotFound, "deploy", pool="x", destinations=["h:1"])

    def test_conflict(self) -> None:
        """
        A name that is taken by another destination, and a second deploy while the first
        still waits for its destinations, are conflicts.
        """
        desk = self.desk
        wanted = [{"address": "h:1", "name": "a"}]
        message = self.fails(Conflict, "deploy", pool="web", destinations=wanted)
        self.assertIn("web/a is <", message)
        self.played["h:1"] = Backend()
        self.played["h:1"].refuse = SILENT
        deploying = desk.begin("deploy", pool="web", destinations=["h:1"])
        message = self.fails(Conflict, "deploy", pool="web", destinations=["h:2"])
        self.assertEqual(message, "another deploy of pool web is under way")
        self.assertNoResult(deploying)

    def test_vanished(self) -> None:
        """
        A deploy goes on when nobody waits for it any more.
        """
        desk = self.desk
        deploying = desk.begin("deploy", pool="web", destinations=["h:1"])
        deploying.addErrback(lambda why: why.trap(CancelledError))
        deploying.cancel()
        desk.advance(1)
        self.assertEqual(self.names(), "h:1 up")


class WaitsTests(OperationsCase):
    """
    What many operations that wait may cost.
    """

    def test_bound(self) -> None:
        """
        Only so many operations may wait at a time.
        """
        self.patch(waitsModule, "MOST", 2)
        self.desk.client()
        first = self.desk.begin("wait", target="web", until="drained")
        self.desk.begin("wait", target="web", until="drained")
        message = self.fails(Conflict, "wait", target="web", until="drained")
        self.assertEqual(message, "2 operations wait already; try again later")
        first.addErrback(lambda why: why.trap(CancelledError))
        first.cancel()
        self.desk.begin("wait", target="web", until="drained")

    def test_conditionRaises(self) -> None:
        """
        A condition that raises ends its own wait alone.
        """

        def wrong() -> bool:
            raise ZeroDivisionError()

        waits = waitsModule.Waits(self.desk.clock)
        self.failureResultOf(waits.until(wrong, 1), ZeroDivisionError)
        self.assertEqual((len(waits), self.desk.clock.getDelayedCalls()), (0, []))

    def test_fails(self) -> None:
        """
        An operation that fails when nobody waits for it any more is logged.
        """
        ending: Deferred[None] = Deferred()

        async def operation() -> None:
            await ending
            raise ZeroDivisionError()

        waiting = waitsModule.apart(operation())
        waiting.addErrback(lambda why: why.trap(CancelledError))
        waiting.cancel()
        ending.callback(None)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_oneEndsAnother(self) -> None:
        """
        A wait whose end ends another is no trouble.
        """
        waits = waitsModule.Waits(self.desk.clock)
        ended: list[bool] = []
        first = waits.until(lambda: bool(ended), 10)
        second = waits.until(lambda: bool(ended), 10)
        first.addCallback(lambda _: second.cancel())
        second.addErrback(lambda why: why.trap(CancelledError))
        ended.append(True)
        waits.check()
        self.assertEqual(len(waits), 0)
        self.successResultOf(first)

    def test_races(self) -> None:
        """
        A thousand pauses and resumes in any order: each pause ends, as done or undone,
        and none is left.
        """
        desk = self.desk
        desk.client()
        pauses = []
        for number in range(1000):
            pauses.append(desk.begin("pause", target="web" if number % 3 else "*"))
            if number % 7 < 3:
                desk.advance(0.05)
            self.done("resume", target="web")
            self.assertEqual(self.successResultOf(pauses[-1])["result"], "undone")
        self.assertEqual(desk.web.state, "up")
        self.assertEqual(len(desk.operations._waits), 0)

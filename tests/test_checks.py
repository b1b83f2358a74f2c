"""
Tests for checks of destinations, their agents, slow start and backups, in memory.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.destination import Destination
from iawlb.core.events import DESTINATION_DOWN, DESTINATION_UP
from iawlb.core.outcome import Outcome
from iawlb.core.standing import Standing
from iawlb.errors import InvalidSetting
from iawlb.health.calling import CallingCheck
from iawlb.health.connecting import ConnectingCheck
from iawlb.health.dialogues import Http
from iawlb.health.running import Turns
from iawlb.health.verdict import Verdict
from iawlb.relay.context import RelayContext
from iawlb.relay.side import Side, SideOwner
from iawlb.settings import DestinationSettings
from iawlb.workers import agent, checker, watch
from iawlb.workers.checker import Recurring
from iawlb.workers.ejector import QUICKLY
from tests.doubles import Backend, Rig, Wire, logged

REFUSED = ConnectionRefusedError()
HTTP = "http:/up"
GOOD = b"HTTP/1.1 200 OK\r\n\r\n"
BAD = b"HTTP/1.1 503 Busy\r\n\r\n"


class StandingTests(SynchronousTestCase):
    """
    Rise and fall.
    """

    def test_firstDecides(self) -> None:
        """
        The first check decides alone, in either direction.
        """
        self.assertTrue(Standing().passed(rise=3))
        self.assertTrue(Standing().failed(fall=3))

    def test_inARow(self) -> None:
        """
        After that, only checks in a row count.
        """
        standing = Standing()
        standing.passed(2)
        seen = [standing.failed(2), standing.passed(2), standing.failed(2)]
        seen.append(standing.failed(2))
        seen += [standing.passed(2), standing.failed(2), standing.passed(2)]
        seen.append(standing.passed(2))
        self.assertEqual(seen, [False, False, False, True, False, False, False, True])

    def test_wentDown(self) -> None:
        """
        After a destination went down for another reason, checks have to succeed anew.
        """
        standing = Standing()
        standing.passed(2)
        standing.passed(2)
        standing.wentDown()
        self.assertEqual([standing.passed(2), standing.passed(2)], [False, True])


class CheckCase(SynchronousTestCase):
    """
    Waits are not random here.
    """

    def setUp(self) -> None:
        """
        Let each wait be as it is set, and first checks come in the middle of it.
        """
        self.clients: list[Wire] = []
        for module in (checker, agent):
            self.patch(module, "random", lambda: 0.5)

    def rig(self, number: int = 1, **settings: Any) -> Rig:
        """
        Make a balancer in memory.
        """
        rig = Rig(number, **settings)
        connect = rig.client

        def client(host: str = "192.0.2.1") -> Wire:
            self.clients.append(connect(host))
            return self.clients[-1]

        self.patch(rig, "client", client)
        self.addCleanup(self.stopped, rig)
        return rig

    def stopped(self, rig: Rig) -> None:
        """
        Stop a balancer, and check that it leaves no timer.
        """
        rig.balancer.stopService()
        rig.balancer.cutDrain()
        rig.clock.advance(0)
        for wire in [*self.clients, *(w for each in rig.backends for w in each.wires)]:
            if wire.connected and wire.closing:
                wire.lose()
        rig.advance(1)
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def next(self, rig: Rig, backend: Backend) -> None:
        """
        Let time pass until a destination is asked once more.
        """
        before = backend.tries
        while backend.tries == before:
            rig.advance(0.01)

    def answer(self, backend: Backend, data: bytes = GOOD) -> Wire:
        """
        Answer the last check of a destination.
        """
        wire = backend.wires[-1]
        self.assertIsNone(wire.closing)
        wire.receive(data)
        self.assertEqual(wire.closing, "close")
        wire.lose()
        return wire


class CheckTests(CheckCase):
    """
    A destination that is checked.
    """

    def test_goesDownAndUp(self) -> None:
        """
        A destination whose checks fail goes down with the third in a row, while no
        client comes at all; with the second good check in a row it is up again.
        """
        rig = self.rig(healthCheck=HTTP)
        (backend,) = rig.backends
        (one,) = rig.balancer.destinations
        rig.advance(1)
        self.answer(backend)
        times = []
        seen = []
        for data in (BAD, BAD, BAD, GOOD, GOOD, GOOD):
            self.next(rig, backend)
            times.append(rig.clock.seconds())
            self.answer(backend, data)
            seen.append(one.state)
        self.assertEqual(seen, ["up", "up", "down", "down", "up", "up"])
        # After 2 s at first; after 0.5 s while fall or rise are counted; after 1 s
        # while the destination is down.
        for time, wanted in zip(times, [3.0, 3.5, 4.0, 5.0, 5.5, 7.5], strict=True):
            self.assertTrue(abs(time - wanted) < 0.1, times)
        self.assertEqual(
            rig.recorder.destinations[1:],
            [("a", DESTINATION_DOWN), ("a", DESTINATION_UP)],
        )
        self.assertEqual((one.checks, one.checksFailed, one.failures), (7, 3, 3))

    def test_why(self) -> None:
        """
        The reason names the check, and what it has seen; the last check is kept with
        its time.
        """
        rig = self.rig(healthCheck=HTTP)
        (one,) = rig.balancer.destinations
        rig.advance(1)
        rig.advance(0.25)
        self.answer(rig.backends[0], b"HTTP/1.1 503 \x1b[2J\r\n\r\n")
        self.assertEqual(one.down, "check: status 503 \\x1b[2J")
        assert one.checked is not None
        self.assertEqual(one.checked.passed, False)
        self.assertAlmostEqual(one.checked.took, 0.25)
        self.assertAlmostEqual(one.checked.at, 1.25)

    def test_hung(self) -> None:
        """
        A destination that accepts and never answers is found out by the time-out of the
        check; the connection is reset.
        """
        rig = self.rig(healthCheck=HTTP, checkTimeout="300ms", fall=2)
        (one,) = rig.balancer.destinations
        rig.advance(1)
        self.answer(rig.backends[0])
        rig.advance(2.35)
        self.assertEqual((one.state, len(rig.backends[0].wires)), ("up", 2))
        rig.advance(0.9)
        self.assertEqual((one.state, one.down), ("down", "check: no answer in 0.3 s"))
        for wire in rig.backends[0].wires[1:3]:
            self.assertEqual(wire.closing, "abort")
            wire.lose()

    def test_stoodStill(self) -> None:
        """
        When the balancer itself was stopped for a while, it does not take the silence
        for the destination's: the check is made again.
        """
        rig = self.rig(healthCheck=HTTP, checkTimeout="300ms", fall=1)
        (backend,) = rig.backends
        self.next(rig, backend)
        rig.clock.advance(40)
        self.assertEqual((rig.states(), backend.wires[-1].closing), (["up"], "abort"))
        self.next(rig, backend)
        self.answer(backend)
        self.assertEqual(rig.balancer.destinations[0].checksFailed, 0)
        for wire in backend.wires[:-1]:
            wire.lose()

    def test_silentConnect(self) -> None:
        """
        A connect that takes too long is given up, in the time of the check.
        """
        rig = self.rig(healthCheck="tcp", checkTimeout="300ms")
        (backend,) = rig.backends
        backend.hold = True
        rig.advance(1.4)
        self.assertEqual((rig.states(), backend.cancelled), (["down"], 1))

    def test_refused(self) -> None:
        """
        A refused connect is a failed check; and no check is begun before the one
        before is over.
        """
        rig = self.rig(healthCheck="tcp")
        (backend,) = rig.backends
        rig.advance(1)
        backend.refuse = REFUSED
        rig.advance(3.1)
        self.assertEqual(rig.states(), ["down"])
        (one,) = rig.balancer.destinations
        self.assertEqual(one.down, f"check: {REFUSED}")

    def test_shortage(self) -> None:
        """
        A check for which this machine lacks descriptors says nothing of the
        destination.
        """
        rig = self.rig(healthCheck="tcp", fall=1)
        rig.backends[0].refuse = ConnectError(errno.EMFILE, "too many open files")
        rig.advance(10)
        (one,) = rig.balancer.destinations
        self.assertEqual((one.state, one.checks), ("up", 0))
        self.assertGreater(rig.backends[0].tries, 3)

    def test_tcp(self) -> None:
        """
        Without a dialogue the connection is closed at once.
        """
        rig = self.rig(healthCheck="tcp")
        rig.advance(7.5)
        closings = [each.closing for each in rig.backends[0].wires]
        self.assertEqual(closings, ["close"] * 4)
        self.assertEqual([each.written for each in rig.backends[0].wires], [b""] * 4)

    def test_neverStop(self) -> None:
        """
        Checks go on for a single destination, one that is paused, and one that drains.
        """
        rig = self.rig(healthCheck="tcp")
        pool = rig.balancer._pool
        for step in (lambda: pool.setPaused("a", True), lambda: pool.drain("a")):
            before = rig.backends[0].tries
            step()
            rig.advance(4)
            self.assertEqual(rig.backends[0].tries, before + 2)

    def test_otherEnds(self) -> None:
        """
        A destination that closes, or resets, without an answer has failed.
        """
        for reset, why in ((False, "closed without status"), (True, "reset instead")):
            rig = self.rig(healthCheck=HTTP)
            rig.advance(1)
            rig.backends[0].wires[-1].lose(reset=reset)
            (one,) = rig.balancer.destinations
            assert one.down is not None
            self.assertIn(why, one.down)

    def test_halfClosed(self) -> None:
        """
        A destination that ends its half without an answer has failed.
        """
        rig = self.rig(healthCheck=HTTP)
        rig.advance(1)
        wire = rig.backends[0].wires[-1]
        wire.end()
        self.assertEqual((rig.states(), wire.closing), (["down"], "close"))

    def test_clientsFindOut(self) -> None:
        """
        What clients meet counts besides: failed connects make the destination down at
        once, and then checks alone bring it back, as many as are needed.
        """
        rig = self.rig(healthCheck="tcp", checkInterval="1m", rise=3)
        (backend,) = rig.backends
        rig.advance(30)
        backend.refuse = REFUSED
        rig.client()
        rig.advance(0.05)
        self.assertEqual(rig.states(), ["down"])
        backend.refuse = None
        tries = backend.tries
        while rig.states() == ["down"]:
            rig.advance(0.01)
        # The last one is the client's own connect.
        self.assertEqual(backend.tries, tries + 3 + 1)
        # Clients wait, so the first of these checks came soon.
        self.assertLess(rig.clock.seconds(), 30 + 0.05 + 0.25 + 2 * 0.25)

    def test_hurry(self) -> None:
        """
        While clients wait and nothing is up, checks come every 200 ms.
        """
        rig = self.rig(healthCheck="tcp", checkDown="1h", checkFast="1h")
        (backend,) = rig.backends
        backend.refuse = REFUSED
        rig.advance(1)
        before = backend.tries
        rig.advance(5)
        self.assertEqual(backend.tries, before)
        rig.client()
        rig.advance(1.1)
        self.assertEqual(backend.tries, before + 5)

    def test_otherDestination(self) -> None:
        """
        While one destination is down, clients are served by the other, and meet no
        failed connect at all.
        """
        rig = self.rig(2, healthCheck="tcp", policy="first")
        rig.backends[0].refuse = REFUSED
        rig.advance(1)
        rig.clients(2)
        self.assertEqual(rig.recorder.pulls, [(1, "b"), (2, "b")])

    def test_spread(self) -> None:
        """
        The first checks of many destinations are spread over the time between two.
        """
        for module in (checker, agent):
            self.patch(module, "random", __import__("random").Random(1).random)
        rig = self.rig(0, healthCheck="tcp")
        backends = [Backend() for _ in range(200)]
        for backend in backends:
            rig.balancer.add(backend)
        counts = []
        for _ in range(20):
            before = sum(each.tries for each in backends)
            rig.advance(0.1)
            counts.append(sum(each.tries for each in backends) - before)
        self.assertLess(max(counts), 30)
        self.assertGreater(sum(counts), 195)

    def test_broken(self) -> None:
        """
        An endpoint that raises, and a password that cannot be read, are failed checks.
        """
        rig = self.rig(
            healthCheck="redis", checkPasswordFile="/nowhere/password", fall=1
        )
        rig.advance(1)
        (one,) = rig.balancer.destinations
        assert one.down is not None
        self.assertIn("check: cannot check: [Errno 2]", one.down)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_internalError(self) -> None:
        """
        A step of a check that raises is a failed check, and is logged; the checks go
        on.
        """
        rig = self.rig(healthCheck=HTTP, fall=1)
        pool = rig.balancer._pool
        broken = ValueError("broken")

        def fail(*_: object) -> Any:
            raise broken

        self.patch(pool.checks, "check", fail)
        rig.advance(1)
        self.assertEqual(rig.states(), ["down"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        del pool.checks.check
        while rig.states() == ["down"]:
            rig.advance(0.01)
            wires = rig.backends[0].wires
            if wires and wires[-1].closing is None:
                self.answer(rig.backends[0])

    def test_dialogueFails(self) -> None:
        """
        A dialogue that raises is a failed check, which is logged.
        """
        rig = self.rig(healthCheck=HTTP)
        rig.advance(1)
        worker = rig.balancer._pool.workers["a"]
        check: Any = worker._watch._monitor._recurring._check  # type: ignore[union-attr]

        def fail(data: bytes) -> Any:
            raise ValueError("broken")

        self.patch(check._dialogue, "received", fail)
        rig.backends[0].wires[-1].receive(b"x")
        self.assertEqual(rig.states(), ["down"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_consequenceFails(self) -> None:
        """
        What follows a check may raise; the checks go on.
        """
        rig = self.rig(healthCheck="tcp")
        worker = rig.balancer._pool.workers["a"]

        def fail(why: str) -> None:
            raise ValueError("broken")

        self.patch(worker, "goDown", fail)
        rig.backends[0].refuse = REFUSED
        rig.advance(1)
        before = rig.backends[0].tries
        rig.advance(3)
        self.assertGreater(rig.backends[0].tries, before)
        self.assertGreater(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stop(self) -> None:
        """
        When the balancer stops, the check under way is given up, and no timer is left.
        """
        rig = Rig(healthCheck=HTTP)
        rig.advance(1)
        (wire,) = rig.backends[0].wires
        rig.balancer.stopService()
        self.assertEqual(wire.closing, "abort")
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        wire.lose()

    def test_again(self) -> None:
        """
        A balancer that is started again checks again.
        """
        rig = self.rig(healthCheck="tcp")
        rig.advance(3)
        rig.balancer.stopService()
        before = rig.backends[0].tries
        rig.advance(3)
        self.assertEqual(rig.backends[0].tries, before)
        rig.balancer.startService()
        rig.advance(3)
        self.assertGreater(rig.backends[0].tries, before)

    def test_proxyHeader(self) -> None:
        """
        A destination that gets PROXY headers gets one that says that the balancer
        itself connects, before a check, and in a probe.
        """
        ways: list[tuple[dict[str, Any], bytes]] = [
            ({"healthCheck": HTTP, "sendProxy": "v1"}, b"PROXY UNKNOWN\r\nGET /up "),
            ({"healthCheck": "tcp", "sendProxy": "v1"}, b"PROXY UNKNOWN\r\n"),
            ({"healthCheck": "tcp", "sendProxy": "v2"}, b"\r\n\r\n\0\r\nQUIT\n\x20\0"),
        ]
        for how, wanted in ways:
            rig = self.rig(**how)
            rig.advance(1)
            wire = rig.backends[0].wires[-1]
            self.assertTrue(wire.written.startswith(wanted), wire.written)
        rig = self.rig(sendProxy="v1")
        rig.balancer._pool.workers["a"].goDown("test")
        rig.advance(0.2)
        self.assertEqual(rig.backends[0].wires[0].written, b"PROXY UNKNOWN\r\n")
        self.assertEqual(rig.states(), ["up"])

    def test_deploy(self) -> None:
        """
        A destination that is added paused, as a deploy does, is up with its first good
        check, at once.
        """
        rig = self.rig(0, healthCheck="tcp", checkInterval="1h", slowStart="1h")
        one = rig.balancer._pool.add(Backend(), {"name": "a"}, ready=False)
        self.assertEqual((one.state, one.down), ("paused", "not probed yet"))
        rig.advance(0.1)
        self.assertEqual((one.down, one.limit), (None, 0))

    def test_command(self) -> None:
        """
        A program that cannot be started is a failed check. (The clock starts none.)
        """
        rig = self.rig(healthCheck="command", checkCommand=["true"])
        rig.advance(1)
        (one,) = rig.balancer.destinations
        assert one.down is not None
        self.assertIn("check: cannot run ", one.down)


class LiveTests(CheckCase):
    """
    Changes while the balancer runs.
    """

    def configure(self, rig: Rig, **settings: Any) -> Destination:
        """
        Give the first destination other settings.
        """
        pool = rig.balancer._pool
        pool.configureDestination("a", DestinationSettings(**settings))
        return pool.destinations[0]

    def test_begins(self) -> None:
        """
        A destination that gets a check is checked from then on; one that loses it is
        not, and keeps its sessions.
        """
        rig = self.rig()
        rig.advance(5)
        self.assertEqual(rig.backends[0].tries, 0)
        client = rig.client()
        self.configure(rig, healthCheck="tcp")
        rig.advance(5.1)
        self.assertEqual(rig.backends[0].tries, 1 + 3)
        self.assertIsNotNone(rig.balancer.destinations[0].checked)
        self.configure(rig)
        self.assertIsNone(rig.balancer.destinations[0].checked)
        rig.advance(5)
        self.assertEqual(rig.backends[0].tries, 1 + 3)
        self.assertIsNone(client.closing)

    def test_whileDown(self) -> None:
        """
        A destination that is down while it loses its check is probed, and one that gets
        a check is brought back by that.
        """
        rig = self.rig(healthCheck=HTTP)
        (backend,) = rig.backends
        rig.advance(1)
        self.answer(backend, BAD)
        self.assertEqual(rig.states(), ["down"])
        self.configure(rig)
        rig.advance(0.2)
        self.assertEqual(rig.states(), ["up"])
        backend.refuse = REFUSED
        rig.balancer._pool.workers["a"].goDown("test")
        self.configure(rig, healthCheck="tcp")
        rig.advance(1)
        backend.refuse = None
        rig.advance(2)
        self.assertEqual(rig.states(), ["up"])

    def test_underWay(self) -> None:
        """
        A check that is under way when the check changes is given up.
        """
        rig = self.rig(healthCheck=HTTP)
        rig.advance(1)
        self.configure(rig, healthCheck="redis")
        self.assertEqual(rig.backends[0].wires[0].closing, "abort")
        rig.advance(1)
        self.assertEqual(rig.backends[0].wires[1].written, b"PING\r\n")
        self.configure(rig, healthCheck="postgresql:lb")
        rig.advance(2)
        self.assertIn(b"user\0lb\0", rig.backends[0].wires[2].written)

    def test_interval(self) -> None:
        """
        A change of an interval or a limit is no other check: it holds from the next
        wait on.
        """
        rig = self.rig(healthCheck="tcp")
        rig.advance(1.5)
        self.configure(rig, healthCheck="tcp", checkInterval="100ms")
        rig.advance(1.65)
        self.assertEqual(rig.backends[0].tries, 3)
        rig.advance(1.05)
        self.assertGreater(rig.backends[0].tries, 10)

    def test_notRunning(self) -> None:
        """
        What is set before the start holds at the start; and a pool that is configured
        anew checks on.
        """
        rig = self.rig()
        rig.balancer.stopService()
        self.configure(rig, healthCheck="tcp")
        rig.advance(3)
        self.assertEqual(rig.backends[0].tries, 0)
        rig.balancer.startService()
        pool = rig.balancer._pool
        pool.configure(replace(pool.settings, idleTimeout=5.0))
        rig.advance(3.2)
        self.assertEqual(rig.backends[0].tries, 2)

    def test_asleep(self) -> None:
        """
        Checks do not bring up what has to be woken.
        """
        rig = self.rig(0)
        rig.balancer.add(Backend(), name="a", ensureRunning=len, healthCheck="tcp")
        one = rig.balancer.destinations[0]
        one.down = "for a test"
        rig.balancer._pool.workers["a"]._watch.recovered()
        self.assertEqual(one.down, "for a test")

    def test_wrong(self) -> None:
        """
        A port alone is refused where the destination has no host, and changes nothing.
        """
        rig = self.rig()
        for wrong in ({"checkAddress": 9001}, {"agent": 9001}):
            error = self.assertRaises(InvalidSetting, self.configure, rig, **wrong)
            self.assertIn("'9001' is a port, and <", str(error))
        self.assertRaises(InvalidSetting, rig.balancer.add, Backend(), agent="9001")
        self.assertEqual(len(rig.balancer.destinations), 1)
        self.assertEqual(rig.balancer.destinations[0].settings.agent, "")

    def test_elsewhere(self) -> None:
        """
        A check may go to another address, of the destination's host if it is a port.
        """
        rig = self.rig(0)
        connected = []

        def to(address: str) -> Any:
            connected.append(address)
            return rig.balancer._pool._connectors.to(address, DestinationSettings())

        self.patch(rig.balancer._pool, "connectorTo", to)
        rig.balancer.add("[::1]:9001", name="a", healthCheck="tcp", checkAddress=81)
        rig.balancer.add("127.0.0.1:9002", name="b", agent="82")
        rig.balancer.add("/run/x", name="c", healthCheck="tcp", checkAddress="[::2]:8")
        self.assertEqual(connected, ["[::1]:81", "127.0.0.1:82", "[::2]:8"])


class FunctionTests(CheckCase):
    """
    Checks by a function.
    """

    def check(self, function: Callable[[Destination], Any]) -> Destination:
        """
        Have a destination checked by a function, once.
        """
        rig = self.rig(healthCheck=function)
        rig.advance(1)
        return rig.balancer.destinations[0]

    def test_results(self) -> None:
        """
        The function succeeds with nothing, or True; it fails with False, with another
        result, and when it raises.
        """

        def raising(destination: Destination) -> None:
            raise ValueError(f"bad {destination.name}")

        async def coroutine(destination: Destination) -> bool:
            return destination.name == "b"

        for function, why in (
            (lambda _: None, None),
            (lambda _: True, None),
            (lambda _: False, "check: the function has returned False"),
            (lambda _: 7, "check: the function has returned 7, which is no answer"),
            (raising, "check: ValueError: bad a"),
            (coroutine, "check: the function has returned False"),
        ):
            self.assertEqual(self.check(function).down, why)

    def test_words(self) -> None:
        """
        Text is read as the words of an agent.
        """
        one = self.check(lambda _: "drain maxconn:3")
        self.assertEqual(
            (one.state, one.why, one.limit), ("draining", "the agent says drain", 3)
        )

    def test_deferred(self) -> None:
        """
        A Deferred is waited for, and cancelled when the time of the check is over.
        """
        waiting: list[Deferred[None]] = []
        cancelled: list[object] = []

        def function(_: Destination) -> Deferred[None]:
            waiting.append(Deferred(cancelled.append))
            return waiting[-1]

        one = self.check(function)
        waiting[0].callback(None)
        self.assertEqual(one.checks, 1)
        rig = self.rig(healthCheck=function)
        rig.advance(3.1)
        self.assertEqual(rig.states(), ["down"])
        self.assertEqual(cancelled, waiting[1:2])
        check = CallingCheck(function, one)
        check.cancel()


class AgentTests(CheckCase):
    """
    What an agent says.
    """

    def setUp(self) -> None:
        """
        Let the agent of each destination be played by a test.
        """
        super().setUp()
        self.agent = Backend()

    def told(self, *answers: bytes, number: int = 1, **settings: Any) -> Rig:
        """
        Make a balancer with an agent, and let the agent say something.
        """
        rig = self.rig(0)
        pool, agent = rig.balancer._pool, self.agent
        self.patch(
            pool,
            "connectorTo",
            lambda _: pool._connectors.to(agent, DestinationSettings()),
        )
        for name in "ab"[:number]:
            rig.backends.append(Backend())
            given = {"agent": "x:1", **settings} if name == "a" else settings
            rig.balancer.add(rig.backends[-1], name=name, **given)
        rig.advance(1)
        self.say(rig, *answers)
        return rig

    def say(self, rig: Rig, *answers: bytes) -> None:
        """
        Let the agent say something, each time it is asked.
        """
        for answer in answers:
            while not self.agent.wires or self.agent.wires[-1].closing:
                rig.advance(0.01)
            self.answer(self.agent, answer)

    def test_drain(self) -> None:
        """
        A destination that asks for it gets no more sessions, and finishes those it has;
        until it says that it is ready.
        """
        rig = self.told()
        client = rig.client()
        events = logged(self)
        self.say(rig, b"drain\n")
        rig.client()
        one = rig.balancer.destinations[0]
        self.assertEqual((rig.balancer.waiting, one.state), (1, "draining"))
        self.assertIsNone(client.closing)
        self.say(rig, b"up\n", b"drain\n")
        self.assertEqual((rig.balancer.waiting, one.state), (1, "draining"))
        self.say(rig, b"ready\n")
        self.assertEqual((rig.balancer.waiting, one.state), (0, "up"))
        changes = [name for _, name in rig.recorder.destinations]
        self.assertEqual(changes, ["added", "withdrawn", "returned"])
        lines = [formatEvent(each) for each in events]
        self.assertNotIn(None, lines)

    def test_down(self) -> None:
        """
        A destination whose agent says so is down, whatever connects and checks find,
        until the agent says that it is up.
        """
        rig = self.told(b"down # disk is full\n", healthCheck="tcp")
        one = rig.balancer.destinations[0]
        why = "the agent says down: disk is full"
        self.assertEqual((one.state, one.why, one.down), ("down", why, None))
        rig.advance(6)
        self.assertEqual(one.state, "down")
        rig.client()
        self.assertEqual(rig.balancer.waiting, 1)
        self.say(rig, b"failed\n")
        self.assertEqual(one.why, "the agent says failed")
        self.say(rig, b"up\n")
        self.assertEqual((one.state, rig.balancer.waiting), ("up", 0))
        self.assertEqual(
            [name for _, name in rig.recorder.destinations], ["added", "down", "up"]
        )

    def test_bothDown(self) -> None:
        """
        A destination that is down twice over is up when both are over, and this is
        said once.
        """
        rig = self.told(b"down\n", healthCheck="tcp", fall=1)
        rig.backends[0].refuse = REFUSED
        rig.advance(3)
        self.say(rig, b"up\n")
        self.assertEqual(rig.states(), ["down"])
        self.say(rig, b"down\n")
        rig.backends[0].refuse = None
        rig.advance(3)
        self.assertEqual(rig.states(), ["down"])
        self.say(rig, b"up\n")
        self.assertEqual(rig.states(), ["up"])
        ups = [name for _, name in rig.recorder.destinations if name == "up"]
        self.assertEqual(len(ups), 1)

    def test_slots(self) -> None:
        """
        The agent may ask for fewer sessions at a time, and takes that back with 0.
        """
        rig = self.told(b"maxconn:2\n")
        one = rig.balancer.destinations[0]
        rig.clients(3)
        rig.advance(0.1)
        self.assertEqual((one.active, rig.balancer.waiting, one.limit), (2, 1, 2))
        self.say(rig, b"maxconn:0\n")
        self.assertEqual((one.active, rig.balancer.waiting, one.limit), (3, 0, 0))

    def test_share(self) -> None:
        """
        The agent may ask for a part of the weight; with 0% for none. The weight that is
        set stays what it is.
        """
        rig = self.told(b"50%\n", number=2, weight=4)
        one, other = rig.balancer.destinations
        self.assertEqual((one.weight, other.weight), (200, 400))
        self.assertEqual(one.settings.weight, 4)
        self.assertEqual(rig.balancer.add(Backend(), name="c", weight=2).weight, 200)
        rig.balancer._pool.remove("c")
        rig.clients(6)
        self.assertEqual([each.active for each in rig.balancer.destinations], [2, 4])
        self.say(rig, b"0%\n")
        self.assertEqual((one.state, one.why), ("draining", "the agent says 0%"))
        rig.balancer._pool.setWeight("a", 8)
        self.say(rig, b"100%\n")
        self.assertEqual((one.state, one.weight, other.weight), ("up", 8, 4))

    def test_shareOfIdle(self) -> None:
        """
        Idle destinations share as the agent asks for, too.
        """
        rig = self.told(b"50%\n", number=2)
        for number in range(30):
            client = rig.client()
            name = rig.recorder.pulls[-1][1]
            wire = rig.backends["ab".index(str(name))].wires[-1]
            wire.lose()
            client.lose()
            self.assertEqual(len(rig.recorder.outcomes), number + 1)
        names = [name for _, name in rig.recorder.pulls]
        self.assertEqual((names.count("a"), names.count("b")), (10, 20))

    def test_silent(self) -> None:
        """
        An agent that does not answer changes nothing; the log says so once, and when it
        answers again.
        """
        rig = self.told(b"drain\n")
        one = rig.balancer.destinations[0]
        events = logged(self)
        self.agent.refuse = REFUSED
        rig.advance(10)
        self.assertEqual((one.state, one.failures), ("draining", 0))
        self.agent.refuse = None
        self.say(rig, b"ready\n", b"ready\n")
        self.assertEqual(one.state, "up")
        lines = [formatEvent(each) for each in events if "agent" in formatEvent(each)]
        self.assertEqual(
            lines,
            [
                f"agent of a does not answer, and what it has said stays: {REFUSED}",
                "agent of a answers again",
            ],
        )

    def test_shortage(self) -> None:
        """
        A question for which this machine lacks descriptors is not the agent's fault.
        """
        rig = self.told(b"up\n")
        events = logged(self)
        self.agent.refuse = ConnectError(errno.EMFILE, "too many open files")
        rig.advance(5)
        self.assertEqual(list(events), [])

    def test_removed(self) -> None:
        """
        When the agent is no longer asked, what it has said is over.
        """
        rig = self.told(b"down drain 50% maxconn:3\n", healthCheck="tcp")
        pool = rig.balancer._pool
        one = pool.destinations[0]
        pool.configureDestination("a", DestinationSettings(healthCheck="tcp"))
        self.assertEqual((one.state, one.limit, one.weight), ("up", 0, 1))
        pool.configureDestination("a", DestinationSettings())
        self.assertEqual(one.state, "up")

    def test_asTheCheck(self) -> None:
        """
        The destination itself may be asked as an agent; one that does not answer has
        failed.
        """
        rig = self.rig(healthCheck="agent")
        rig.advance(1)
        self.answer(rig.backends[0], b"drain\n")
        self.assertEqual(rig.states(), ["draining"])
        self.next(rig, rig.backends[0])
        self.answer(rig.backends[0], b"ready\n")
        self.assertEqual(rig.states(), ["up"])
        for _ in range(3):
            self.next(rig, rig.backends[0])
            rig.backends[0].wires[-1].lose()
        self.assertEqual(rig.states(), ["down"])

    def test_asleep(self) -> None:
        """
        Neither checks nor questions reach a destination that sleeps or wakes.
        """
        rig = self.told(b"up\n", healthCheck="tcp")
        one = rig.balancer.destinations[0]
        one.asleep = "asleep"
        before = rig.backends[0].tries, self.agent.tries
        rig.advance(10)
        self.assertEqual((rig.backends[0].tries, self.agent.tries), before)
        one.asleep = "waking"
        rig.advance(10)
        self.assertEqual(rig.backends[0].tries, before[0])
        one.asleep = None
        rig.advance(10)
        self.assertGreater(rig.backends[0].tries, before[0])


class SlowStartTests(CheckCase):
    """
    Slots that grow.
    """

    def recovered(self, **settings: Any) -> tuple[Rig, Destination]:
        """
        Make a balancer whose destination has just come up.
        """
        rig = self.rig(slowStart="10s", **settings)
        (one,) = rig.balancer.destinations
        self.assertEqual(one.limit, one.slots)
        rig.balancer._pool.workers["a"].goDown("test")
        rig.advance(0.11)
        self.assertEqual(one.state, "up")
        return rig, one

    def test_slots(self) -> None:
        """
        The slots grow from a twentieth to all over the time; never at the start of the
        balancer.
        """
        rig, one = self.recovered(slots=100)
        rig.advance(0.25)
        seen = [one.limit]
        for _ in range(11):
            rig.advance(1)
            seen.append(one.limit)
        for slots, wanted in zip(seen, [*range(5, 100, 10), 100, 100], strict=True):
            self.assertTrue(abs(slots - wanted) <= 1, seen)

    def test_few(self) -> None:
        """
        There is at least one slot.
        """
        _, one = self.recovered(slots=2)
        self.assertEqual(one.limit, 1)

    def test_clientsThatWait(self) -> None:
        """
        Without slots the destination has a growing part of its share of the clients
        that wait or are served, and no limit at the end; those that wait are served
        as the slots grow.
        """
        rig = self.rig(2, slowStart="10s")
        a, b = rig.balancer.destinations
        rig.balancer._pool.workers["a"].goDown("test")
        rig.clients(100)
        rig.advance(0.11)
        self.assertEqual((a.active, b.active, a.limit), (0, 100, 2))
        rig.clients(10)
        self.assertEqual((a.active, b.active), (2, 108))
        rig.advance(5)
        rig.clients(60)
        self.assertEqual(a.active, a.limit)
        self.assertTrue(25 <= a.limit <= 50, a.limit)
        rig.advance(5)
        self.assertEqual(a.limit, 0)

    def test_alone(self) -> None:
        """
        A destination that is alone serves those that wait little by little, without a
        new client or an end.
        """
        rig = self.rig(slowStart="2s")
        (one,) = rig.balancer.destinations
        rig.balancer._pool.workers["a"].goDown("test")
        rig.clients(50)
        rig.advance(0.3)
        self.assertTrue(0 < one.active < 20, one.active)
        rig.advance(2)
        self.assertEqual(one.active, 50)

    def test_stopped(self) -> None:
        """
        When the balancer stops meanwhile, the slots are what they were.
        """
        rig, one = self.recovered(slots=100)
        rig.balancer.stopService()
        self.assertEqual(one.limit, 100)

    def test_downAgain(self) -> None:
        """
        When the destination goes down meanwhile, the slots are what they were, and the
        next slow start begins anew.
        """
        rig, one = self.recovered(slots=100)
        rig.advance(5)
        rig.balancer._pool.workers["a"].goDown("test")
        self.assertEqual(one.limit, 100)
        rig.advance(0.3)
        self.assertEqual((one.state, one.limit), ("up", 5))


class BackupTests(CheckCase):
    """
    Destinations that wait until they are needed.
    """

    def backed(self, number: int = 1, backups: int = 1) -> Rig:
        """
        Make a balancer with backups, which come first.
        """
        rig = self.rig(0)
        for place in range(number + backups):
            rig.backends.append(Backend())
            name = "abcdef"[place]
            rig.balancer.add(rig.backends[-1], name=name, backup=place < backups)
        return rig

    def test_needed(self) -> None:
        """
        A backup gets no client while another destination takes some; it does while
        that one is down, and not after that. What it serves then goes on.
        """
        rig = self.backed()
        self.assertEqual(rig.states(), ["standby", "up"])
        rig.client()
        rig.balancer._pool.workers["b"].goDown("test")
        self.assertEqual(rig.states(), ["up", "down"])
        kept = rig.client()
        rig.advance(0.11)
        self.assertEqual(rig.states(), ["standby", "up"])
        rig.client()
        self.assertEqual(rig.recorder.pulls, [(1, "b"), (2, "a"), (3, "b")])
        self.assertIsNone(kept.closing)
        events = [event for name, event in rig.recorder.destinations if name == "a"]
        self.assertEqual(
            events, ["added", "needed", "on standby", "needed", "on standby"]
        )

    def test_waiting(self) -> None:
        """
        Clients that wait when the last destination goes down are served by the backup
        at once.
        """
        rig = self.backed()
        rig.backends[1].hold = True
        rig.clients(3)
        self.assertEqual(rig.balancer.waiting, 2)
        rig.balancer._pool.workers["b"].goDown("test")
        self.assertEqual([name for _, name in rig.recorder.pulls[1:]], ["a"] * 3)

    def test_several(self) -> None:
        """
        All backups are needed together, and only when all others are unable.
        """
        rig = self.backed(2, 2)
        self.assertEqual(rig.states(), ["standby", "standby", "up", "up"])
        rig.balancer.pause("c")
        self.assertEqual(rig.states()[:2], ["standby", "standby"])
        rig.balancer._pool.drain("d")
        self.assertEqual(rig.states()[:2], ["up", "up"])
        rig.clients(2)
        self.assertEqual({name for _, name in rig.recorder.pulls}, {"a", "b"})

    def test_removed(self) -> None:
        """
        A backup is needed when the other destinations are removed, and not when one is
        added.
        """
        rig = self.backed()
        rig.balancer.remove("b")
        self.assertEqual(rig.states(), ["up"])
        rig.balancer.add(Backend(), name="c")
        self.assertEqual(rig.states(), ["standby", "up"])

    def test_live(self) -> None:
        """
        A destination becomes a backup, and none, while the balancer runs.
        """
        rig = self.rig(2)
        pool = rig.balancer._pool
        pool.configureDestination("a", DestinationSettings(backup=True))
        self.assertEqual(rig.states(), ["standby", "up"])
        rig.clients(2)
        self.assertEqual([name for _, name in rig.recorder.pulls], ["b", "b"])
        pool.configureDestination("a", DestinationSettings())
        self.assertEqual(rig.states(), ["up", "up"])

    def test_onlyBackups(self) -> None:
        """
        Where all are backups, all serve.
        """
        rig = self.backed(0, 2)
        self.assertEqual(rig.states(), ["up", "up"])


class EndTests(CheckCase):
    """
    Sessions whose destination goes down.
    """

    def test_ended(self) -> None:
        """
        They are ended if that is asked for, those that were connected by the
        destination alone, some in each turn.
        """
        self.patch(watch, "ENDED_PER_TURN", 2)
        rig = self.rig(2, endOnDown=True)
        rig.clients(10)
        worker = rig.balancer._pool.workers["a"]
        turns: list[float] = []
        later = rig.clock.callLater

        def callLater(wait: float, *call: Any) -> Any:
            turns.append(wait)
            return later(wait, *call)

        self.patch(rig.clock, "callLater", callLater)
        worker.goDown("test")
        self.assertEqual(rig.recorder.outcomes, {})
        rig.clock.advance(0)
        self.assertEqual(turns.count(0), 4)
        self.assertEqual(
            [each.closing for each in rig.backends[0].wires], ["abort"] * 5
        )
        self.assertEqual([each.closing for each in rig.backends[1].wires], [None] * 5)
        for wire in rig.backends[0].wires:
            wire.lose()
        rig.advance(0.2)

    def test_outcome(self) -> None:
        """
        The log says that the destination went down.
        """
        rig = self.rig(endOnDown=True)
        client = rig.client()
        rig.balancer._pool.workers["a"].goDown("test")
        rig.clock.advance(0)
        rig.backends[0].wires[0].lose()
        client.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.DESTINATION_DOWN})

    def test_reported(self) -> None:
        """
        An agent that says that the destination is down ends them, too.
        """
        rig = self.rig(healthCheck=lambda _: "down", endOnDown=True)
        rig.client()
        rig.advance(1.01)
        self.assertEqual(rig.backends[0].wires[0].closing, "abort")

    def test_someEndBefore(self) -> None:
        """
        Those that have ended by themselves meanwhile are left alone; and a stop leaves
        the others to itself.
        """
        rig = self.rig(endOnDown=True)
        clients = rig.clients(3)
        worker = rig.balancer._pool.workers["a"]
        self.patch(watch, "ENDED_PER_TURN", 2)
        dismissed: list[Outcome] = []
        for session in list(rig.balancer.sessions):
            self.patch(session.holder, "dismiss", dismissed.append)
        worker.goDown("test")
        clients[0].lose()
        rig.backends[0].wires[0].lose()
        rig.clock.advance(0)
        self.assertEqual(dismissed, [Outcome.DESTINATION_DOWN] * 2)
        worker.goDown("test")
        worker.stop()
        rig.clock.advance(0)
        self.assertEqual(len(dismissed), 2)

    def test_stopMeanwhile(self) -> None:
        """
        An end of a session may lead to a stop; no more are ended then.
        """
        rig = self.rig(endOnDown=True)
        rig.clients(3)
        worker = rig.balancer._pool.workers["a"]
        self.patch(watch, "ENDED_PER_TURN", 1)
        dismissed: list[Outcome] = []

        def dismiss(outcome: Outcome) -> None:
            dismissed.append(outcome)
            worker.stop()

        for session in list(rig.balancer.sessions):
            self.patch(session.holder, "dismiss", dismiss)
        worker.goDown("test")
        rig.clock.advance(0)
        self.assertEqual(len(dismissed), 1)

    def test_endOfAnother(self) -> None:
        """
        The end of one session may be that of another, which is then left alone. A
        second reason to be down, before any was ended, changes nothing.
        """
        rig = self.rig(endOnDown=True)
        rig.clients(2)
        first, second = rig.balancer.sessions
        worker = rig.balancer._pool.workers["a"]
        dismissed: list[Outcome] = []

        def dismiss(outcome: Outcome) -> None:
            dismissed.append(outcome)
            second.outcome = Outcome.DONE

        patches = [
            self.patch(first.holder, "dismiss", dismiss),
            self.patch(second.holder, "dismiss", dismissed.append),
        ]
        worker.goDown("one")
        worker.goDown("another")
        rig.clock.advance(0)
        self.assertEqual(dismissed, [Outcome.DESTINATION_DOWN])
        second.outcome = None
        for each in patches:
            each.restore()

    def test_notAsked(self) -> None:
        """
        Without that they go on.
        """
        rig = self.rig()
        rig.client()
        rig.balancer._pool.workers["a"].goDown("test")
        rig.advance(1)
        self.assertIsNone(rig.backends[0].wires[0].closing)

    def test_twice(self) -> None:
        """
        A destination that goes down again before all have ended ends the rest.
        """
        self.patch(watch, "ENDED_PER_TURN", 1)
        rig = self.rig(endOnDown=True)
        rig.clients(3)
        worker = rig.balancer._pool.workers["a"]
        worker.goDown("test")
        rig.clock.advance(0)
        worker.goDown("test")
        rig.advance(0.05)
        closing = [each.closing for each in rig.backends[0].wires[:3]]
        self.assertEqual(closing, ["abort"] * 3)


class EjectTests(CheckCase):
    """
    A destination that accepts connections and closes them at once.
    """

    def ejecting(self, number: int = 2, **settings: Any) -> Rig:
        """
        Make a balancer that ejects after three such connections.
        """
        return self.rig(number, ejectAfter=3, policy="first", **settings)

    def closed(self, rig: Rig, after: float = 0.0, sent: bytes = b"ask") -> Wire:
        """
        Let a client come, whose destination closes the connection.
        """
        number = len(rig.backends[0].wires)
        client = rig.client()
        wire = rig.backends[0].wires[number]
        if sent:
            client.receive(sent)
        rig.clock.advance(after)
        wire.end()
        wire.lose()
        client.lose()
        return wire

    def served(self, rig: Rig) -> None:
        """
        Let a client come that gets an answer.
        """
        number = len(rig.backends[0].wires)
        client = rig.client()
        wire = rig.backends[0].wires[number]
        client.receive(b"ask")
        wire.receive(b"answer")
        wire.end()
        wire.lose()
        client.lose()

    def test_ejected(self) -> None:
        """
        After as many connections in a row as are set it is down for a second, and
        clients go elsewhere.
        """
        rig = self.ejecting()
        self.closed(rig)
        self.closed(rig, sent=b"")
        self.assertEqual(rig.states(), ["up", "up"])
        self.closed(rig, after=QUICKLY)
        self.assertEqual(rig.states(), ["down", "up"])
        one = rig.balancer.destinations[0]
        self.assertEqual(
            one.down, "closed 3 connections in a row within 50 ms, without a byte"
        )
        rig.client()
        self.assertEqual(rig.recorder.pulls[-1], (4, "b"))
        rig.advance(0.9)
        self.assertEqual(rig.states(), ["down", "up"])
        rig.advance(0.3)
        self.assertEqual(rig.states(), ["up", "up"])

    def test_reset(self) -> None:
        """
        A reset counts as a close.
        """
        rig = self.ejecting()
        for _ in range(3):
            rig.client()
            rig.backends[0].wires[-1].lose(reset=True)
        self.assertEqual(rig.states(), ["down", "up"])

    def test_neutral(self) -> None:
        """
        Neither a client that leaves first, nor one that ends its half first, nor a
        destination that takes longer count in either direction.
        """
        rig = self.ejecting()
        for _ in range(2):
            self.closed(rig)
        left = rig.client()
        left.lose()
        half = rig.client()
        half.end()
        rig.backends[0].wires[-1].end()
        self.closed(rig, after=QUICKLY + 0.01)
        self.assertEqual(rig.states(), ["up", "up"])
        self.closed(rig)
        self.assertEqual(rig.states(), ["down", "up"])

    def test_row(self) -> None:
        """
        A byte from the destination begins a new row.
        """
        rig = self.ejecting()
        for _ in range(3):
            self.closed(rig)
            self.closed(rig)
            self.served(rig)
        self.assertEqual(rig.states(), ["up", "up"])

    def ejectedAndBack(self, **settings: Any) -> Rig:
        """
        Make a balancer whose destination was ejected and is tried again.
        """
        rig = self.ejecting(**settings)
        for _ in range(3):
            self.closed(rig)
        rig.advance(1.3)
        self.assertEqual((rig.states()[0], self.limit(rig)), ("up", 1))
        return rig

    def limit(self, rig: Rig) -> int:
        """
        Return how many sessions the destination gets at a time.
        """
        return rig.balancer.destinations[0].limit

    def test_triedAgain(self) -> None:
        """
        It is tried with one connection; if that is closed in the same way, it is down
        for twice as long.
        """
        rig = self.ejectedAndBack()
        self.closed(rig)
        self.assertEqual(rig.states(), ["down", "up"])
        rig.advance(1.9)
        self.assertEqual(rig.states(), ["down", "up"])
        rig.advance(0.3)
        self.assertEqual((rig.states(), self.limit(rig)), (["up", "up"], 1))
        self.served(rig)
        self.assertEqual(self.limit(rig), 0)
        # All is forgiven: the next time it is a second again.
        for _ in range(3):
            self.closed(rig)
        rig.advance(1.3)
        self.assertEqual(rig.states(), ["up", "up"])

    def test_kept(self) -> None:
        """
        A connection that is kept longer shows as well that the destination serves.
        """
        rig = self.ejectedAndBack()
        rig.client()
        rig.client()
        self.assertEqual(rig.recorder.pulls[-1][1], "b")
        rig.advance(QUICKLY + 0.01)
        self.assertEqual(self.limit(rig), 0)

    def test_slowStart(self) -> None:
        """
        A slow start begins when the destination has shown that it serves.
        """
        rig = self.ejectedAndBack(slowStart="10s", slots=100)
        rig.advance(5)
        self.assertEqual(self.limit(rig), 1)
        self.served(rig)
        self.assertEqual(self.limit(rig), 5)

    def test_neverTheLast(self) -> None:
        """
        The last destination that takes connections is not ejected; and one that is
        ejected comes back at once when clients wait and no other is up.
        """
        rig = self.ejecting(1)
        for _ in range(5):
            self.closed(rig)
        self.assertEqual(rig.states(), ["up"])
        rig = self.ejecting(2)
        for _ in range(3):
            self.closed(rig)
        rig.backends[1].refuse = REFUSED
        rig.client()
        rig.advance(0.3)
        self.assertEqual(rig.states()[0], "up")
        self.assertEqual(rig.balancer.waiting, 0)

    def test_lastOnTrial(self) -> None:
        """
        A destination on trial that becomes the last one has all its slots.
        """
        rig = self.ejectedAndBack()
        rig.balancer._pool.workers["b"].goDown("test")
        rig.backends[1].refuse = REFUSED
        self.closed(rig)
        self.assertEqual((rig.states()[0], self.limit(rig)), ("up", 0))

    def test_withChecks(self) -> None:
        """
        Checks that succeed do not bring an ejected destination back before its time.
        """
        rig = self.ejecting(healthCheck="tcp", checkDown="100ms", checkFast="100ms")
        for _ in range(3):
            self.closed(rig)
        rig.advance(0.9)
        self.assertEqual(rig.states(), ["down", "up"])
        rig.advance(0.4)
        self.assertEqual((rig.states(), self.limit(rig)), (["up", "up"], 1))

    def test_stopped(self) -> None:
        """
        A reload forgets what was counted; and a stop during a trial leaves no timer.
        """
        rig = self.ejectedAndBack()
        rig.client()
        pool = rig.balancer._pool
        pool.configureDestination("a", DestinationSettings())
        self.assertEqual(self.limit(rig), 0)
        for _ in range(4):
            self.closed(rig)
        self.assertEqual(rig.states(), ["up", "up"])

    def test_notAnyMore(self) -> None:
        """
        When destinations are not to be ejected any more, a connection that was made
        before ejects none either.
        """
        rig = self.ejecting()
        clients = [rig.client() for _ in range(3)]
        pool = rig.balancer._pool
        pool.configureDestination("a", DestinationSettings())
        for wire in rig.backends[0].wires:
            wire.end()
            wire.lose()
        self.assertEqual(rig.states(), ["up", "up"])
        for client in clients:
            client.lose()

    def test_otherReasons(self) -> None:
        """
        A destination that was down for another reason is not on trial.
        """
        rig = self.ejecting()
        self.closed(rig)
        rig.balancer._pool.workers["a"].goDown("test")
        rig.advance(0.2)
        self.assertEqual((rig.states(), self.limit(rig)), (["up", "up"], 0))

    def test_costsNothing(self) -> None:
        """
        Without the setting, sessions are served by the same relays and functions as
        before.
        """
        rig = self.rig()
        pool = rig.balancer._pool
        worker = pool.workers["a"]
        self.assertIs(worker.kinds, pool.kinds)
        self.assertEqual(worker.relayed, pool.deadlines.relayed)


class RecurringTests(SynchronousTestCase):
    """
    Questions that are asked again and again.
    """

    def test_late(self) -> None:
        """
        An answer that comes after its time, or after the end, is not heard.
        """
        clock = Clock()
        found: list[Any] = []

        class Slow:
            waits = False

            def start(self, onDone: Any) -> None:
                self.onDone = onDone

            def cancel(self) -> None:
                pass

        made: list[Slow] = []

        def make() -> Slow:
            made.append(Slow())
            return made[-1]

        recurring = Recurring(
            clock, "x", make, lambda: 1.0, lambda: 5.0, lambda v, _: found.append(v)
        )
        recurring.start(0)
        clock.advance(0)
        clock.advance(1)
        self.assertEqual([each.passed for each in found], [False])
        made[0].onDone(Verdict(True, ""))
        clock.advance(5)
        recurring.stop()
        made[1].onDone(Verdict(True, ""))
        self.assertEqual(len(found), 1)
        self.assertFalse(recurring.running)

    def test_broken(self) -> None:
        """
        A question that cannot be begun has failed, and is given up.
        """
        clock = Clock()
        found: list[Any] = []

        class Broken:
            cancelled = 0
            waits = False

            def start(self, onDone: Any) -> None:
                raise ValueError("broken")

            def cancel(self) -> None:
                self.cancelled += 1

        broken = Broken()
        recurring = Recurring(
            *(clock, "x", lambda: broken, lambda: 1.0, lambda: 5.0),
            lambda verdict, _: found.append(verdict),
        )
        recurring.start(0)
        clock.advance(0)
        self.assertEqual((found[0].why, broken.cancelled), ("cannot check: broken", 1))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        recurring.stop()

    def test_stopped(self) -> None:
        """
        What follows an answer may be that no more is asked.
        """
        clock = Clock()
        recurring = Recurring(
            *(clock, "x", Instant, lambda: 1.0, lambda: 5.0),
            lambda verdict, _: recurring.stop(),
        )
        recurring.start(0)
        clock.advance(0)
        self.assertEqual(clock.getDelayedCalls(), [])


class Instant:
    """
    A check that is answered at once.
    """

    waits = False

    def start(self, onDone: Callable[[Verdict], None]) -> None:
        """
        Answer.
        """
        onDone(Verdict(True, ""))

    def cancel(self) -> None:
        """
        Do nothing.
        """


class ConnectingTests(SynchronousTestCase):
    """
    Checks whose connections come in unusual states.
    """

    def check(self, prepare: Callable[[Side], None]) -> tuple[Verdict, Wire]:
        """
        Make a check whose connection is there at once.

        @param prepare: Brings the connection into its state.
        """
        side = Side(SideOwner(), RelayContext(1000))
        wire = Wire(side)
        side.makeConnection(wire)
        prepare(side)

        class Connector:
            client = None

            def connect(self, onConnected: Any, *_: object) -> None:
                onConnected(side)

        found: list[Verdict] = []
        connector: Any = Connector()
        dialogue = Http("GET", "web", "/", ("2xx",))
        check = ConnectingCheck(connector, dialogue)
        check.start(found.append)
        check.cancel()
        (verdict,) = found
        return verdict, wire

    def test_early(self) -> None:
        """
        Bytes that came before the check had the connection count, and those behind the
        verdict do not.
        """
        verdict, wire = self.check(lambda side: side.early.extend([GOOD, BAD]))
        self.assertEqual((verdict.passed, wire.closing), (True, "close"))

    def test_ended(self) -> None:
        """
        A connection that has ended by then has failed.
        """
        verdict, _ = self.check(lambda side: setattr(side, "ended", True))
        self.assertFalse(verdict.passed)

    def test_lost(self) -> None:
        """
        So has one that is closed; it is not closed once more.
        """
        verdict, wire = self.check(lambda side: setattr(side, "lost", True))
        self.assertEqual((verdict.passed, wire.closing), (False, None))

    def test_headerAlone(self) -> None:
        """
        A header may be all that is sent; TLS that waits for its own end is cut.
        """
        side = Side(SideOwner(), RelayContext(1000))
        wire = Wire(side)
        side.makeConnection(wire)
        side.whole = True

        class Connector:
            client = None

            def connect(self, onConnected: Any, *_: object) -> None:
                onConnected(side)

        connector: Any = Connector()
        found: list[Verdict] = []
        ConnectingCheck(connector, None, b"header").start(found.append)
        self.assertEqual((wire.written, wire.closing), (b"header", "abort"))
        self.assertEqual([each.passed for each in found], [True])

    def test_headerBeforeTls(self) -> None:
        """
        Where the connector speaks TLS, it sends the header before the handshake.
        """
        given: list[Any] = []

        class Connector:
            client = "TLS"

            def connect(self, *arguments: Any) -> None:
                given.extend(arguments[2:])

        connector: Any = Connector()
        check = ConnectingCheck(connector, Http("GET", "a", "/", ("2xx",)), b"header")
        check.start(given.append)
        self.assertEqual(given, [b"header"])
        check.cancel()

    def test_raises(self) -> None:
        """
        A connector that raises is a failed check.
        """

        class Connector:
            client = None

            def connect(self, *_: object) -> None:
                raise ValueError("broken")

        connector: Any = Connector()
        found: list[Verdict] = []
        check = ConnectingCheck(connector, None)
        check.start(found.append)
        check._failed(Failure(ValueError("again")))
        self.assertEqual([each.why for each in found], ["broken"])


class TurnsTests(SynchronousTestCase):
    """
    Programs that wait for their turn.
    """

    def test_turns(self) -> None:
        """
        So many run at a time, the others in order; one that leaves before its turn does
        not run.
        """
        seen: list[str] = []
        turns = Turns(2)
        begins = [lambda name=name: seen.append(name) for name in "abcd"]
        for begin in begins:
            turns.take(begin)
        self.assertEqual(seen, ["a", "b"])
        self.assertTrue(turns.leave(begins[2]))
        self.assertFalse(turns.leave(begins[0]))
        turns.give()
        self.assertEqual(seen, ["a", "b", "d"])
        turns.give()
        turns.give()
        turns.take(begins[0])
        turns.take(begins[1])
        turns.take(begins[2])
        self.assertEqual(seen[3:], ["a", "b"])

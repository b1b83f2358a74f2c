"""
A destination's worker: it waits for a free slot, pulls, connects and relays.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.destination import Destination
from iawlb.core.events import DESTINATION_DOWN, DESTINATION_UP
from iawlb.core.outcome import Outcome
from iawlb.pool import Pool
from iawlb.service import LoadBalancer
from iawlb.workers import holdoff, prober
from iawlb.workers.holdoff import AGAIN
from iawlb.workers.worker import PULLS_PER_TURN
from tests.doubles import Backend, Recorder, Rig, Wire, accept, logged

REFUSED = ConnectionRefusedError()
SILENT = ConnectTimeout()
LACKING = ConnectError(errno.EMFILE, "too many open files")
NO_PORT = ConnectError(errno.EADDRNOTAVAIL, "cannot assign requested address")


class PullTests(SynchronousTestCase):
    """
    A worker pulls while its destination can serve.
    """

    def test_freeSlot(self) -> None:
        """
        A destination with one slot gets its second client when the first is
        gone, on both sides.
        """
        rig = Rig(slots=1)
        first, _second = rig.clients(2)
        (a,) = rig.backends
        self.assertEqual((a.tries, rig.balancer.waiting), (1, 1))
        a.wires[0].lose()
        self.assertEqual((a.tries, rig.balancer.waiting), (2, 0))
        first.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.DONE})

    def test_checked(self) -> None:
        """
        A worker that waits for a client keeps waiting when its state is checked.
        """
        rig = Rig()
        (worker,) = rig.balancer._pool.workers.values()
        worker.check()
        rig.client()
        self.assertEqual(len(rig.backends[0].wires), 1)

    def test_noLimit(self) -> None:
        """
        Without a limit every client is served at once.
        """
        rig = Rig()
        rig.clients(5)
        self.assertEqual((len(rig.backends[0].wires), rig.balancer.waiting), (5, 0))

    def test_notWhilePaused(self) -> None:
        """
        A paused destination gets no client; once resumed it gets those that waited, in
        order.
        """
        rig = Rig()
        rig.balancer.pause("a")
        rig.clients(2)
        self.assertEqual((rig.backends[0].tries, rig.balancer.waiting), (0, 2))
        rig.balancer.resume("a")
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (2, "a")])

    def test_inTurns(self) -> None:
        """
        When many clients wait for a destination that comes back, the rest of the
        program keeps its turn: the destination gets a limited number at a time. Clients
        that come meanwhile are served too.
        """
        rig = Rig()
        rig.balancer.pause("a")
        rig.clients(2 * PULLS_PER_TURN + 1)
        seen = []
        rig.balancer.resume("a")
        seen.append(rig.backends[0].tries)
        rig.clock.advance(0)
        seen.append(rig.backends[0].tries)
        rig.clients(1)
        seen.append(rig.backends[0].tries)
        one = PULLS_PER_TURN
        self.assertEqual(seen, [one, 2 * one + 1, 2 * one + 2])
        self.assertEqual(
            [number for number, _ in rig.recorder.pulls],
            list(range(1, 2 * one + 3)),
        )

    def test_stopBetweenTurns(self) -> None:
        """
        A destination that is removed meanwhile gets no more of those clients.
        """
        rig = Rig(2)
        rig.balancer.pause()
        rig.clients(3 * PULLS_PER_TURN)
        rig.balancer.resume("a")
        rig.balancer.remove("a")
        rig.clock.advance(0)
        self.assertEqual(rig.backends[0].tries, PULLS_PER_TURN)
        rig.balancer.resume("b")
        rig.clock.advance(0)
        self.assertEqual(rig.backends[1].tries, 2 * PULLS_PER_TURN)

    def test_notWhileDown(self) -> None:
        """
        A destination that is down gets no client, while there is another.
        """
        rig = Rig(2, policy="first")
        rig.backends[0].refuse = SILENT
        rig.clients(3)
        self.assertEqual(rig.backends[0].tries, 1)
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (1, "b"), (2, "b"), (3, "b")])

    def test_idleShareByWeight(self) -> None:
        """
        Connections that come one after the other to idle destinations are shared
        as their weights say.
        """
        rig = Rig(0)
        backends = {"a": Backend(), "b": Backend(), "c": Backend()}
        for (name, backend), weight in zip(backends.items(), (1, 3, 1), strict=True):
            rig.balancer.add(backend, name=name, weight=weight)
        for _ in range(25):
            client = rig.client()
            (wire,) = (w for b in backends.values() for w in b.wires if w.connected)
            wire.lose()
            client.lose()
        self.assertEqual([b.tries for b in backends.values()], [5, 15, 5])

    def test_bytes(self) -> None:
        """
        The bytes that the client sends arrive, and so do those that the destination
        answers.
        """
        rig = Rig()
        client = rig.client()
        (wire,) = rig.backends[0].wires
        client.receive(b"question")
        wire.receive(b"answer")
        self.assertEqual((wire.written, client.written), (b"question", b"answer"))

    def test_rest(self) -> None:
        """
        With a rest set, a slot stays unused that long between two clients.
        """
        rig = Rig(slots=1, rest="1s")
        rig.clients(2)
        (a,) = rig.backends
        a.wires[0].lose()
        rig.advance(0.9)
        self.assertEqual(a.tries, 1)
        rig.advance(0.2)
        self.assertEqual(a.tries, 2)

    def test_windowOpens(self) -> None:
        """
        A destination gets one connect at first, and one more at a time with each that
        succeeds.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        rig.clients(10)
        seen = [len(a.pending)]
        for _ in range(3):
            for _ in range(len(a.pending)):
                a.succeed()
            seen.append(len(a.pending))
        self.assertEqual(seen, [1, 2, 4, 3])

    def test_clientLeftUnnoticed(self) -> None:
        """
        A client whose connection was reset while it waited is not given to a
        destination.
        """
        rig = Rig()
        rig.balancer.pause()
        client = rig.client()
        rig.advance(0.1)
        self.patch(
            rig.balancer._pool.context.resets,
            "hasLeft",
            lambda side: side.transport is client,
        )
        rig.balancer.resume()
        client.lose()
        self.assertEqual(rig.backends[0].tries, 0)
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.CLIENT_LEFT_QUEUE})


class FailedConnectTests(SynchronousTestCase):
    """
    A failed connect costs the client time, and no more.
    """

    def test_hanging(self) -> None:
        """
        A destination that has gone silent costs one client the connect timeout;
        all others are served by the good one at once.
        """
        rig = Rig(2, connectTimeout="2s")
        a, b = rig.backends
        a.hold = True
        rig.clients(10)
        self.assertEqual((a.tries, len(b.wires), rig.balancer.waiting), (1, 9, 0))
        rig.advance(2.1)
        self.assertEqual((len(b.wires), a.cancelled), (10, 1))
        self.assertEqual(rig.states(), ["down", "up"])
        self.assertEqual(rig.recorder.outcomes, {})

    def test_backToTheHead(self) -> None:
        """
        A client whose connect failed is the next to be served, before those that
        came after it.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        rig.clients(3)
        a.fail(SILENT)
        self.assertEqual((rig.balancer.waiting, rig.states()), (3, ["down"]))
        a.hold = False
        rig.advance(0.2)
        self.assertEqual(rig.recorder.pulls[1:], [(1, "a"), (2, "a"), (3, "a")])

    def test_others(self) -> None:
        """
        When a destination fails, the clients that still connect to it go back
        as well, and are served by the others in the order in which they came.
        """
        rig = Rig(2, policy="first")
        a, b = rig.backends
        rig.balancer.pause("b")
        self.grow(rig, 4)
        a.hold = True
        rig.clients(3)
        self.assertEqual(len(a.pending), 3)
        rig.balancer.resume("b")
        rig.recorder.pulls.clear()
        a.fail(SILENT)
        self.assertEqual(a.cancelled, 2)
        self.assertEqual(rig.recorder.pulls, [(n, "b") for n in (5, 6, 7)])
        self.assertEqual(len(b.wires), 3)

    def test_othersWait(self) -> None:
        """
        When no other destination is up, they wait in the order in which they came.
        """
        rig = Rig()
        (a,) = rig.backends
        self.grow(rig, 4)
        a.hold = True
        rig.clients(6)
        # Not the oldest of them.
        a.pending.pop(1)[1].errback(SILENT)
        self.assertEqual((a.cancelled, rig.balancer.waiting), (2, 6))
        rig.recorder.pulls.clear()
        a.hold = False
        rig.advance(0.2)
        self.assertEqual([n for n, _ in rig.recorder.pulls], [5, 6, 7, 8, 9, 10])

    def grow(self, rig: Rig, number: int) -> None:
        """
        Let destination C{a} make several connections, so that its connect window is
        that wide.
        """
        (a, *_) = rig.backends
        a.hold = True
        rig.clients(number)
        while a.pending:
            a.succeed()

    def test_endpointRaises(self) -> None:
        """
        A destination whose endpoint raises is down, and its client is served by
        another.
        """

        class Broken(Backend):
            def connect(self, protocolFactory: Any) -> Deferred[Any]:
                raise LookupError("no such tunnel")

        rig = Rig()
        rig.balancer.pause("a")
        rig.balancer.add(Broken(), name="broken")
        rig.client()
        rig.advance(AGAIN)
        self.assertEqual(rig.states(), ["paused", "down"])
        rig.balancer.resume("a")
        self.assertEqual(len(rig.backends[0].wires), 1)

    def test_relayRaises(self) -> None:
        """
        A transport that cannot be relayed ends its own session, with the error
        in the log; the next client is served.
        """

        class Rude(Wire):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                raise NotImplementedError()

        rig = Rig(slots=1)
        protocol = rig.balancer.factory.buildProtocol(Wire(None).getPeer())
        assert protocol is not None
        rude = Rude(protocol)
        protocol.makeConnection(rude)
        self.assertEqual(len(self.flushLoggedErrors(NotImplementedError)), 1)
        (a,) = rig.backends
        self.assertEqual((rude.closing, a.wires[0].closing), ("abort", "abort"))
        rude.lose()
        a.wires[0].lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.FAILED})
        rig.client()
        self.assertEqual(len(a.wires), 2)

    def test_clientLeaves(self) -> None:
        """
        A client that is reset during the connect frees the slot at once, and the
        connect is cancelled.
        """
        rig = Rig(slots=1)
        (a,) = rig.backends
        a.hold = True
        first, _second = rig.clients(2)
        first.lose(reset=True)
        self.assertEqual((a.cancelled, a.tries, rig.balancer.waiting), (1, 2, 0))
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.CLIENT_LEFT_CONNECT})
        a.succeed()
        self.assertEqual(rig.states(), ["up"])

    def test_earlyBytes(self) -> None:
        """
        Bytes and an end that a client's transport delivers during the connect
        reach the destination.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        client = rig.client()
        client.receive(b"early")
        client.end()
        wire = a.succeed()
        self.assertEqual((wire.written, wire.ended), (b"early", True))

    def test_cutWhileConnecting(self) -> None:
        """
        A drain that is cut short ends the connects too.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        client = rig.client()
        rig.balancer.cutDrain()
        rig.clock.advance(0)
        self.assertEqual((a.cancelled, client.closing), (1, "abort"))
        client.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.KILLED_QUEUE})


class Flaky(Backend):
    """
    Refuses one connect in fifty.
    """

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.refuse = REFUSED if self.tries % 50 == 49 else None
        return super().connect(protocolFactory)


class RefusalTests(SynchronousTestCase):
    """
    A connect that fails at once is tried again before its destination is down.
    """

    def test_oneInFifty(self) -> None:
        """
        A destination that refuses one connect in fifty stays up, and the client that
        was refused waits for a hundredth of a second.
        """
        rig = Rig(0)
        flaky = Flaky()
        rig.balancer.add(flaky, name="a")
        for number in range(500):
            rig.client()
            rig.advance(AGAIN)
            self.assertEqual(len(flaky.wires), number + 1)
        self.assertGreater(flaky.tries, 505)
        self.assertNotIn(("a", DESTINATION_DOWN), rig.recorder.destinations)
        (destination,) = rig.balancer.destinations
        self.assertEqual(destination.failures, flaky.tries - 500)

    def test_servedByAnother(self) -> None:
        """
        While another destination is free, the client does not wait at all.
        """
        rig = Rig(0)
        backends = [Flaky(), Backend()]
        for name, backend in zip("ab", backends, strict=True):
            rig.balancer.add(backend, name=name)
        for number in range(500):
            rig.client()
            self.assertEqual(sum(len(each.wires) for each in backends), number + 1)
            rig.advance(AGAIN)
        self.assertEqual(rig.states(), ["up", "up"])

    def test_deadOne(self) -> None:
        """
        A dead destination gets two clients, which are then served by another, and no
        more, however fast it refuses.
        """
        rig = Rig(2)
        a, b = rig.backends
        a.refuse = REFUSED
        for _ in range(300):
            rig.clients(3)
            rig.advance(0.02)
        self.assertEqual([name for _, name in rig.recorder.pulls].count("a"), 2)
        self.assertEqual((len(b.wires), rig.balancer.waiting), (900, 0))
        self.assertEqual(rig.states(), ["down", "up"])

    def test_together(self) -> None:
        """
        Connects that were under way together and are refused together count as
        one; the next that is refused is the second in a row.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        rig.clients(3)
        a.succeed()
        self.assertEqual(len(a.pending), 2)
        a.fail(REFUSED)
        a.fail(REFUSED)
        self.assertEqual((rig.states(), rig.balancer.waiting), (["up"], 2))
        rig.advance(AGAIN)
        self.assertEqual(len(a.pending), 2)
        a.fail(REFUSED)
        self.assertEqual((rig.states(), rig.balancer.waiting), (["down"], 2))

    def test_afterRecovery(self) -> None:
        """
        A destination that has come up again may refuse once, too.
        """
        rig = Rig()
        (a,) = rig.backends
        a.refuse = REFUSED
        rig.client()
        rig.advance(AGAIN)
        self.assertEqual(rig.states(), ["down"])
        a.refuse = None
        rig.advance(0.2)
        a.refuse = REFUSED
        rig.client()
        self.assertEqual(rig.states(), ["up"])

    def test_slow(self) -> None:
        """
        A connect that took long to fail has cost its client enough: the destination is
        down.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        rig.client()
        rig.advance(1.1)
        a.fail(REFUSED)
        self.assertEqual(rig.states(), ["down"])


class ProbeTests(SynchronousTestCase):
    """
    A destination that is down is probed, and is never given up.
    """

    def down(self, rig: Rig) -> None:
        """
        Have all destinations refuse, and one client meet that; the client then leaves.
        """
        for backend in rig.backends:
            backend.refuse = SILENT
        rig.client().lose(reset=True)

    def probes(self, rig: Rig, seconds: float) -> list[float]:
        """
        Let time pass.

        @return: The times between the connects to destination C{a}.
        """
        (a, *_) = rig.backends
        seen, last, tries = [], rig.clock.seconds(), a.tries
        for _ in range(round(seconds * 100)):
            rig.clock.advance(0.01)
            if a.tries > tries:
                seen.append(round(rig.clock.seconds() - last, 2))
                last, tries = rig.clock.seconds(), a.tries
        return seen

    def assertNear(self, seen: list[float], wanted: list[float]) -> None:
        """
        Check that two times are the same, up to a few steps of the clock.
        """
        self.assertEqual(len(seen), len(wanted), seen)
        for one, other in zip(seen, wanted, strict=True):
            self.assertApproximates(one, other, 0.03)

    def test_backoff(self) -> None:
        """
        Probes come after 0.1 s, then half as often each time, down to every 5 s.
        """
        self.patch(prober, "random", lambda: 1.0)
        rig = Rig()
        self.down(rig)
        self.assertNear(self.probes(rig, 21.5), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5])

    def test_jitter(self) -> None:
        """
        A wait may be as short as its half, so that several balancers do not
        probe in step.
        """
        self.patch(prober, "random", lambda: 0.0)
        rig = Rig()
        self.down(rig)
        self.assertNear(self.probes(rig, 0.8), [0.05, 0.1, 0.2, 0.4])

    def test_backoffBeginsAnew(self) -> None:
        """
        After a recovery the first probe comes soon again.
        """
        self.patch(prober, "random", lambda: 1.0)
        rig = Rig()
        self.down(rig)
        self.probes(rig, 10)
        rig.backends[0].refuse = None
        self.probes(rig, 5.1)
        self.assertEqual(rig.states(), ["up"])
        self.down(rig)
        self.assertNear(self.probes(rig, 0.35), [0.1, 0.2])

    def test_hurry(self) -> None:
        """
        While a client waits and nothing is up, probes come at least every 0.2 s.
        """
        rig = Rig(queueTimeout=0)
        self.down(rig)
        self.probes(rig, 30)
        rig.client()
        seen = self.probes(rig, 10)
        self.assertGreaterEqual(len(seen), 45)
        self.assertLessEqual(max(seen), 0.22)

    def test_hurryFirst(self) -> None:
        """
        The first probe comes as soon, too, when the backoff is set to be longer.
        """
        rig = Rig(backoff="5s", queueTimeout=0)
        (a,) = rig.backends
        a.hold = True
        rig.client()
        a.fail(SILENT)
        a.hold = False
        self.advanceAndExpectUp(rig)

    def test_hurryOfAll(self) -> None:
        """
        So do the probes of a destination that went down long ago, when the last one
        goes down: whichever destination returns first serves.
        """
        rig = Rig(2, policy="first", queueTimeout=0)
        a, b = rig.backends
        a.refuse = SILENT
        rig.client()
        rig.advance(30)
        b.hold = True
        rig.client()
        b.fail(SILENT)
        self.assertEqual(rig.states(), ["down", "down"])
        a.refuse = None
        self.advanceAndExpectUp(rig)

    def advanceAndExpectUp(self, rig: Rig) -> None:
        """
        Let a little more than 0.2 s pass: destination C{a} serves then.
        """
        rig.advance(0.25)
        self.assertEqual(rig.states()[0], "up")
        self.assertEqual(rig.balancer.waiting, 0)

    def test_noHurryWithoutNeed(self) -> None:
        """
        While another destination is up, a client that waits for a slot does not
        make probes come more often.
        """
        rig = Rig(2, slots=1, policy="first")
        rig.backends[0].refuse = SILENT
        rig.clients(2)
        self.probes(rig, 20)
        self.assertLessEqual(len(self.probes(rig, 9)), 4)

    def test_recovery(self) -> None:
        """
        The first probe that succeeds brings the destination back; the probe's
        own connection is closed.
        """
        rig = Rig()
        self.down(rig)
        rig.backends[0].refuse = None
        rig.advance(0.2)
        (wire,) = rig.backends[0].wires
        self.assertEqual(wire.closing, "close")
        wire.lose()
        self.assertEqual(
            rig.recorder.destinations[-2:],
            [("a", DESTINATION_DOWN), ("a", DESTINATION_UP)],
        )
        rig.client()
        self.assertEqual(len(rig.backends[0].wires), 2)

    def test_oneProbeAtATime(self) -> None:
        """
        A probe that hangs lasts as long as the connect timeout, and no other is
        sent meanwhile, even if clients wait.
        """
        rig = Rig(connectTimeout="3s", queueTimeout=0)
        self.down(rig)
        (a,) = rig.backends
        a.refuse, a.hold = None, True
        rig.advance(0.2)
        self.assertEqual(len(a.pending), 1)
        rig.client()
        rig.advance(2.5)
        self.assertEqual((len(a.pending), a.cancelled), (1, 0))
        rig.advance(1)
        self.assertEqual((len(a.pending), a.cancelled), (1, 1))

    def test_removedWhileDown(self) -> None:
        """
        A destination that is removed is not probed any more, be a probe under
        way or not.
        """
        for hold in (False, True):
            rig = Rig()
            self.down(rig)
            (a,) = rig.backends
            if hold:
                a.refuse, a.hold = None, True
                rig.advance(0.2)
            self.successResultOf(rig.balancer.remove("a"))
            tries = a.tries
            rig.advance(20)
            self.assertEqual((a.tries, a.pending), (tries, []))

    def test_failsWhileDraining(self) -> None:
        """
        A destination whose last connect fails while it is being removed is not probed.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        client = rig.client()
        gone = rig.balancer.remove("a")
        self.assertNoResult(gone)
        a.fail(SILENT)
        self.successResultOf(gone)
        rig.advance(10)
        self.assertEqual((a.tries, rig.balancer.waiting), (1, 1))
        client.lose(reset=True)


class LackTests(SynchronousTestCase):
    """
    When this machine is short of descriptors or ports, clients wait.
    """

    def setUp(self) -> None:
        """
        Collect the log.
        """
        self.lines = logged(self)

    def warnings(self) -> int:
        """
        Count the log lines about shortages.
        """
        lines = [each["log_format"] or "" for each in self.lines]
        return sum("could not connect" in line for line in lines)

    def test_waits(self) -> None:
        """
        A connect that fails for lack of a descriptor does not make the destination
        down; it is tried again ten times a second, in order, and the log says so once a
        second.
        """
        rig = Rig()
        (a,) = rig.backends
        a.refuse = LACKING
        rig.clients(3)
        rig.advance(0.95)
        self.assertEqual((rig.states(), rig.balancer.waiting), (["up"], 3))
        self.assertLessEqual(a.tries, 11)
        self.assertEqual(self.warnings(), 1)
        rig.advance(2)
        self.assertLessEqual(self.warnings(), 3)
        a.refuse = None
        rig.recorder.pulls.clear()
        rig.advance(0.2)
        self.assertEqual([n for n, _ in rig.recorder.pulls], [1, 2, 3])

    def test_fullBacklog(self) -> None:
        """
        A Unix destination whose backlog is full is not down: its clients are tried
        again, and meanwhile the clients of other destinations are accepted and served.
        """
        told: list[bool] = []
        self.patch(Pool, "heldOffChanged", lambda _, heldOff: told.append(heldOff))
        rig = Rig(2)
        a, b = rig.backends
        a.refuse = BlockingIOError(errno.EAGAIN, "try again")
        rig.clients(4)
        self.assertEqual((rig.states(), rig.balancer.waiting), (["up", "up"], 0))
        self.assertEqual(len(b.wires), 4)
        rig.advance(0.2)
        a.refuse = None
        rig.clients(4)
        self.assertGreater(len(a.wires), 0)
        self.assertEqual(told, [])

    def pauses(self, rig: Rig, seconds: float) -> list[float]:
        """
        Let time pass, in which clients keep coming.

        @return: The times between the connects to destination C{a}.
        """
        a = rig.backends[0]
        seen, last, tries = [], rig.clock.seconds(), a.tries
        for _ in range(round(seconds * 100)):
            rig.clock.advance(0.01)
            rig.client()
            if a.tries > tries:
                seen.append(rig.clock.seconds() - last)
                last, tries = rig.clock.seconds(), a.tries
        return seen

    def test_noPort(self) -> None:
        """
        If no connect can be made to one destination, for lack of a local address or
        port, that destination alone gets no connections. The other destinations serve
        all clients at once, as many are accepted as before, and the destination is
        tried again after a pause that grows to that between two probes. A connect that
        succeeds makes the pause short again.
        """
        self.patch(holdoff, "random", lambda: 1.0)
        told: list[bool] = []
        self.patch(Pool, "heldOffChanged", lambda _, heldOff: told.append(heldOff))
        rig = Rig(2, policy="first")
        a, b = rig.backends
        a.refuse = NO_PORT
        rig.clients(5)
        self.assertEqual((a.tries, len(b.wires), rig.balancer.waiting), (1, 5, 0))
        seen = self.pauses(rig, 22)
        self.assertEqual(rig.balancer.waiting, 0)
        self.assertEqual(len(seen), 9)
        for one, wanted in zip(
            seen, (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5), strict=False
        ):
            self.assertApproximates(one, wanted, 0.03)
        self.assertEqual((told, rig.states()), ([], ["up", "up"]))
        (event, *_) = (each for each in self.lines if "advice" in each)
        self.assertIn("EADDRNOTAVAIL, no local address or port", formatEvent(event))
        a.refuse = None
        rig.advance(5)
        rig.client()
        a.refuse = NO_PORT
        for one, wanted in zip(self.pauses(rig, 0.9)[1:], (0.1, 0.2, 0.4), strict=True):
            self.assertApproximates(one, wanted, 0.03)

    def test_noPortOfAnyOther(self) -> None:
        """
        A client that is bound to such a destination is served by another.
        """
        rig = Rig(2, policy="source")
        for backend in rig.backends:
            backend.refuse = NO_PORT
            rig.client()
            backend.refuse = None
            self.assertEqual(rig.balancer.waiting, 0)
            rig.advance(1)
        self.assertEqual(sum(len(each.wires) for each in rig.backends), 2)

    def test_noPortAtAll(self) -> None:
        """
        While clients wait and no other destination can serve them, the destination is
        tried again five times a second at least.
        """
        rig = Rig(queueTimeout=0)
        (a,) = rig.backends
        a.refuse = NO_PORT
        rig.client()
        rig.advance(30)
        a.refuse = None
        rig.advance(0.21)
        self.assertEqual((len(a.wires), rig.balancer.waiting), (1, 0))

    def test_window(self) -> None:
        """
        A destination is not tried more often when it may have several connects at a
        time.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        rig.clients(5)
        while a.pending:
            a.succeed()
        rig.client()
        a.tries = 0
        for _ in range(95):
            if a.pending:
                a.fail(LACKING)
            rig.clock.advance(0.01)
        self.assertLessEqual(a.tries, 10)
        self.assertEqual(rig.balancer.waiting, 1)

    def test_several(self) -> None:
        """
        Several that fail so at once are all tried again.
        """
        rig = Rig()
        (a,) = rig.backends
        a.hold = True
        rig.clients(2)
        a.succeed()
        rig.client()
        self.assertEqual(len(a.pending), 2)
        a.fail(LACKING)
        a.fail(LACKING)
        self.assertEqual(rig.balancer.waiting, 2)
        a.hold = False
        rig.advance(0.2)
        self.assertEqual((len(a.wires), rig.balancer.waiting), (3, 0))

    def test_probe(self) -> None:
        """
        A probe that fails for lack of a descriptor says nothing about the destination:
        the reason why it is down stays as it was.
        """
        rig = Rig()
        (a,) = rig.backends
        a.refuse = SILENT
        rig.client()
        (destination,) = rig.balancer.destinations
        why, failures = destination.down, destination.failures
        a.refuse = LACKING
        rig.advance(3)
        self.assertEqual((destination.down, destination.failures), (why, failures))
        a.refuse = None
        rig.advance(0.3)
        self.assertEqual(rig.states(), ["up"])


class NamelessReactor(Clock):
    """
    A reactor whose resolver finds no name until the test lets it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = self
        self.asked: list[IResolutionReceiver] = []

    def resolveHostName(
        self, receiver: IResolutionReceiver, *arguments: object
    ) -> IHostResolution:
        """
        Keep the question.
        """
        self.asked.append(receiver)
        resolution: IHostResolution = self  # type: ignore[assignment]
        return resolution


class NameTests(SynchronousTestCase):
    """
    A destination whose name is not known.
    """

    def test_downFromTheStart(self) -> None:
        """
        A destination whose name does not resolve is down before any client finds
        out, and others serve.
        """
        reactor = NamelessReactor()
        balancer = LoadBalancer(reactor, destinations=["nosuch:9001"], observers=[])
        good = Backend()
        balancer.add(good, name="good")
        balancer.startService()
        (receiver,) = reactor.asked
        receiver.resolutionComplete()
        self.assertEqual([each.state for each in balancer.destinations], ["down", "up"])
        accept(balancer.factory)
        self.assertEqual(len(good.wires), 1)

    def test_stoppedByAnObserver(self) -> None:
        """
        If an observer stops the balancer when the name fails, the destination is not
        probed any more.
        """

        class Stopping(Recorder):
            def destinationChanged(self, destination: Destination, event: str) -> None:
                if event == DESTINATION_DOWN:
                    stopping.append(balancer.stopService())

        reactor, stopping = NamelessReactor(), list[Any]()
        balancer = LoadBalancer(
            reactor, destinations=["nosuch:9001"], observers=[Stopping()]
        )
        balancer.startService()
        reactor.asked[0].resolutionComplete()
        self.successResultOf(stopping[0])
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_answerComesLate(self) -> None:
        """
        An answer that comes after the destination was removed changes nothing.
        """
        reactor = NamelessReactor()
        balancer = LoadBalancer(reactor, destinations=["nosuch:9001"], observers=[])
        balancer.startService()
        self.successResultOf(balancer.remove("nosuch:9001"))
        reactor.asked[0].resolutionComplete()
        self.assertEqual(balancer.destinations, [])
        self.assertEqual(reactor.getDelayedCalls(), [])


class StartStopTests(SynchronousTestCase):
    """
    A balancer that was stopped can be started again.
    """

    def restart(self, rig: Rig) -> None:
        """
        Stop, then start again.
        """
        self.successResultOf(rig.balancer.stopService())
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        rig.balancer.startService()

    def test_again(self) -> None:
        """
        A balancer that is stopped and started again serves as before.
        """
        rig = Rig()
        self.restart(rig)
        rig.client()
        self.assertEqual(len(rig.backends[0].wires), 1)

    def test_down(self) -> None:
        """
        A destination that was down is probed again.
        """
        rig = Rig()
        (a,) = rig.backends
        a.refuse = SILENT
        rig.client().lose(reset=True)
        self.restart(rig)
        a.refuse = None
        rig.advance(6)
        self.assertEqual(rig.states(), ["up"])

    def test_resting(self) -> None:
        """
        A slot that rested when the balancer stopped is free again.
        """
        rig = Rig(slots=1, rest="1s")
        client = rig.client()
        rig.backends[0].wires[0].lose()
        client.lose()
        self.restart(rig)
        self.assertEqual(rig.balancer.destinations[0].active, 0)
        rig.client()
        self.assertEqual(len(rig.backends[0].wires), 2)

    def test_lacking(self) -> None:
        """
        A worker that had paused for want of a descriptor pulls again.
        """
        rig = Rig()
        (a,) = rig.backends
        a.refuse = LACKING
        rig.client().lose(reset=True)
        self.restart(rig)
        a.refuse = None
        rig.client()
        self.assertEqual(len(a.wires), 1)

    def test_removeWhileResting(self) -> None:
        """
        A removal that waits for the last slot's rest is done when the balancer
        stops.
        """
        rig = Rig(2, rest="10s")
        client = rig.client()
        gone = rig.balancer.remove("a")
        rig.backends[0].wires[0].lose()
        client.lose()
        self.assertNoResult(gone)
        self.successResultOf(rig.balancer.stopService())
        self.successResultOf(gone)

"""
The balancer as a service, in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.events import (
    DESTINATION_ADDED,
    DESTINATION_DRAINING,
    DESTINATION_PAUSED,
    DESTINATION_REMOVED,
    DESTINATION_RESUMED,
)
from iawlb.core.outcome import Outcome
from iawlb.core.policies import IPolicy, Source
from iawlb.core.session import Session
from iawlb.errors import (
    CannotListen,
    IawlbError,
    InvalidSetting,
    UnknownDestination,
)
from iawlb.service import LoadBalancer
from tests.doubles import Backend, Recorder, Rig, SecureWire, Wire, logged

SILENT = ConnectTimeout()


@implementer(IStreamServerEndpoint, IListeningPort)
class Door:
    """
    A listener's endpoint, and its port, played by the test.

    @ivar error: The error that listening fails with, if any.
    @ivar opening: The Deferred that C{listen} returns when the endpoint does not listen
        at once.
    @ivar listening: Whether the port is open.
    """

    def __init__(self, error: Exception | None = None, late: bool = False) -> None:
        self.error = error
        self.opening: Deferred[IListeningPort] | None = Deferred() if late else None
        self.listening = False

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        if self.opening is not None:
            return self.opening
        if self.error is not None:
            return fail(self.error)
        self.listening = True
        return succeed(self)

    def startListening(self) -> None:
        raise AssertionError("not expected")

    def stopListening(self) -> Deferred[None]:
        self.listening = False
        return succeed(None)

    def getHost(self) -> IAddress:
        return IPv4Address("TCP", "192.0.2.2", 80)


class MakeTests(SynchronousTestCase):
    """
    A wrong argument is refused when the balancer is made.
    """

    def test_example(self) -> None:
        """
        Listeners, destinations and settings are read as on the command line.
        """
        balancer = LoadBalancer(
            Clock(),
            listeners=["tcp:8080", "127.0.0.1:8081 name=inside"],
            destinations=["localhost:9001", "localhost:9002 slots=4 name=b", Backend()],
            queueTimeout="10s",
        )
        self.assertEqual(balancer.settings.queueTimeout, 10.0)
        self.assertEqual(balancer.addresses, ["tcp:8080", "127.0.0.1:8081"])
        self.assertEqual(
            [(each.name, each.slots) for each in balancer.destinations],
            [("localhost:9001", 0), ("b", 4), ("destination-3", 0)],
        )

    def test_wrong(self) -> None:
        """
        A wrong argument is refused, and the message holds the wrong part.
        """
        for part, arguments in (
            ("queueTimeuot", {"queueTimeuot": "10s"}),
            ("soon", {"queueTimeout": "soon"}),
            ("best", {"policy": "best"}),
            ("99999", {"listeners": ["tcp:99999"]}),
            ("no port", {"destinations": ["tcp:localhost"]}),
            ("speed", {"destinations": ["localhost:9001 speed=4"]}),
            ("backlog", {"listeners": ["tcp:80 backlog=4"]}),
            ("'twin'", {"destinations": ["a:1 name=twin", "b:1 name=twin"]}),
            ("open files", {"maxConnections": 10_000_000}),
            ("relay: fast", {"relay": "fast"}),  # the clock has no descriptors
        ):
            wrong: dict[str, Any] = arguments
            error = self.assertRaises(InvalidSetting, LoadBalancer, Clock(), **wrong)
            self.assertIn(part, str(error))

    def test_weights(self) -> None:
        """
        Settings given to L{LoadBalancer.add} override those behind the address.
        """
        balancer = LoadBalancer(Clock(), observers=[])
        added = balancer.add("a:1 weight=2 slots=3", slots=5)
        self.assertEqual((added.weight, added.slots), (2, 5))


@implementer(IPolicy)
class BrokenPolicy:
    """
    A policy of the user's own that raises.
    """

    def __init__(self, binds: bool) -> None:
        self.binds = binds

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        raise ZeroDivisionError()

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        raise ZeroDivisionError()


@implementer(IPolicy)
class LastPolicy:
    """
    A policy of the user's own: the last in the order given.
    """

    binds = False

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        raise AssertionError("not asked")

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        return max(waiting, key=lambda each: each.order)


class PolicyTests(SynchronousTestCase):
    """
    Which destination gets the next client, through the whole balancer.
    """

    def served(self, rig: Rig) -> str:
        """
        List the destinations that pulled, in order.
        """
        return "".join(name or "-" for _, name in rig.recorder.pulls)

    def test_least(self) -> None:
        """
        By default the least loaded destination gets the client, and equals take turns.
        """
        rig = Rig(3)
        rig.clients(6)
        self.assertEqual(self.served(rig), "abcabc")
        # The next goes to the one that has least to do.
        rig.backends[1].wires[0].lose()
        rig.client()
        self.assertEqual(self.served(rig)[6:], "b")

    def test_weights(self) -> None:
        """
        A destination of weight 2 has twice as many.
        """
        rig = Rig(1)
        rig.balancer.add(Backend(), name="b", weight=2)
        rig.clients(9)
        self.assertEqual(sorted(self.served(rig)), list("aaabbbbbb"))

    def test_fifo(self) -> None:
        """
        Under fifo the destination that has waited longest gets the client.
        """
        rig = Rig(3, policy="fifo", slots=1)
        rig.clients(3)
        for index in (2, 0, 1):
            rig.backends[index].wires[0].lose()
        rig.clients(3)
        self.assertEqual(self.served(rig), "abccab")

    def test_first(self) -> None:
        """
        Under first the earlier in the order given are filled up.
        """
        rig = Rig(3, policy="first", slots=2)
        rig.clients(5)
        self.assertEqual(self.served(rig), "aabbc")

    def test_source(self) -> None:
        """
        Under source a client address comes to the same destination each time, and
        to another only while that one is down.
        """
        rig = Rig(3, policy="source")
        hosts = [f"192.0.2.{number}" for number in range(1, 31)]
        for _ in range(2):
            for host in hosts:
                rig.client(host)
        first, second = self.served(rig)[:30], self.served(rig)[30:]
        self.assertEqual(first, second)
        self.assertEqual(set(first), set("abc"))
        rig.backends[0].refuse = SILENT
        rig.recorder.pulls.clear()
        for host in hosts:
            rig.client(host)
        moved = dict(rig.recorder.pulls)  # the last of each session
        for before, after in zip(first, moved.values(), strict=True):
            self.assertIn(after, "b c".split() if before == "a" else [before])

    def test_sourceWaits(self) -> None:
        """
        A client bound to a full destination waits for it, and does not hold up
        the others.
        """
        rig = Rig(2, policy="source", slots=1)
        for number in range(1, 20):
            rig.client(f"192.0.2.{number}")
        self.assertEqual(sorted(self.served(rig)), ["a", "b"])
        rig.backends[1].wires[0].lose()
        self.assertEqual(self.served(rig)[2:], "b")

    def test_own(self) -> None:
        """
        A program can give a policy of its own.
        """
        rig = Rig(3, policy=LastPolicy())
        rig.clients(2)
        self.assertEqual(self.served(rig), "cc")

    def test_raises(self) -> None:
        """
        When a policy raises, that is logged, and the client is served all the same.
        """
        for binds in (False, True):
            rig = Rig(2, policy=BrokenPolicy(binds))
            rig.clients(2)
            self.assertEqual(self.served(rig), "ab")
            rig.balancer.pause()
            rig.client()
            rig.balancer.resume()
            self.assertEqual(len(rig.recorder.pulls), 3)
            self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_raisesOnPutBack(self) -> None:
        """
        So is a client whose connect failed.
        """
        rig = Rig(2, policy=BrokenPolicy(False), slots=1)
        a, b = rig.backends
        a.hold = True
        rig.client()
        a.fail(SILENT)
        self.assertEqual(len(b.wires), 1)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))


class ObserverTests(SynchronousTestCase):
    """
    Observers are called, and cannot do harm.
    """

    def test_raises(self) -> None:
        """
        An exception of an observer is logged; the sessions and the other observers are
        not affected.
        """

        class Broken(Recorder):
            def sessionChanged(self, session: Session, event: str) -> None:
                raise ZeroDivisionError()

            def destinationChanged(self, destination: Destination, event: str) -> None:
                raise ZeroDivisionError()

            def listenerChanged(self, name: str, address: str, event: str) -> None:
                raise ZeroDivisionError()

        recorder = Recorder()
        backend = Backend()
        balancer = LoadBalancer(
            Clock(), [Door()], [backend], observers=[Broken(), recorder]
        )
        balancer.startService()
        protocol = balancer.factory.buildProtocol(None)
        client = Wire(protocol)
        assert protocol is not None
        protocol.makeConnection(client)
        backend.wires[0].lose()
        client.lose()
        self.assertEqual(recorder.outcomes, {1: Outcome.DONE})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 7)


class WaitTests(SynchronousTestCase):
    """
    While nothing is up, clients wait.
    """

    def test_served(self) -> None:
        """
        Clients that come while every destination is down are served when one returns;
        they notice nothing but the wait.
        """
        rig = Rig(2)
        for backend in rig.backends:
            backend.refuse = SILENT
        clients = rig.clients(5)
        rig.advance(10)
        self.assertEqual(rig.states(), ["down", "down"])
        rig.backends[1].refuse = None
        rig.advance(0.25)
        self.assertEqual([n for n, _ in rig.recorder.pulls[-5:]], [1, 2, 3, 4, 5])
        self.assertEqual([each.closing for each in clients], [None] * 5)

    def test_timeout(self) -> None:
        """
        Clients that have waited for the queue time-out are closed.
        """
        rig = Rig(queueTimeout="5s")
        rig.backends[0].refuse = SILENT
        client = rig.client()
        rig.advance(5.6)
        self.assertEqual(client.closing, "close")
        client.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.QUEUE_TIMEOUT})

    def test_noDestination(self) -> None:
        """
        Clients also wait for a balancer that has no destination yet.
        """
        rig = Rig(0)
        rig.clients(2)
        backend = Backend()
        rig.balancer.add(backend)
        self.assertEqual(len(backend.wires), 2)


class ChangeTests(SynchronousTestCase):
    """
    Destinations come and go while the balancer runs.
    """

    def test_add(self) -> None:
        """
        A destination that is added takes its share at once.
        """
        rig = Rig(slots=1)
        rig.clients(2)
        late = Backend()
        rig.balancer.add(late, name="late")
        self.assertEqual(len(late.wires), 1)
        self.assertEqual(rig.recorder.destinations[-1], ("late", DESTINATION_ADDED))

    def test_addSource(self) -> None:
        """
        Under source, the waiting clients that belong to a new destination move to it.
        """
        rig = Rig(policy="source", slots=1)
        for number in range(1, 20):
            rig.client(f"192.0.2.{number}")
        late = Backend()
        rig.balancer.add(late, name="b", slots=0)
        moved = len(late.wires)
        self.assertTrue(0 < moved < 18, moved)
        self.assertEqual(rig.balancer.waiting, 18 - moved)

    def test_remove(self) -> None:
        """
        A destination that is removed takes no more clients, finishes those it has, and
        then is gone; its name can be given again.
        """
        rig = Rig(2)
        first, _ = rig.clients(2)
        gone = rig.balancer.remove("a")
        again = rig.balancer.remove("a")
        self.assertEqual(rig.states(), ["draining", "up"])
        rig.clients(3)
        self.assertEqual(len(rig.backends[1].wires), 4)
        self.assertNoResult(gone)
        first.receive(b"still here")
        self.assertEqual(rig.backends[0].wires[0].written, b"still here")
        rig.backends[0].wires[0].lose()
        self.successResultOf(gone)
        self.successResultOf(again)
        self.assertEqual([each.name for each in rig.balancer.destinations], ["b"])
        self.assertEqual(
            [each for each in rig.recorder.destinations if each[0] == "a"],
            [
                ("a", event)
                for event in (
                    DESTINATION_ADDED,
                    DESTINATION_DRAINING,
                    DESTINATION_REMOVED,
                )
            ],
        )
        rig.balancer.add(Backend(), name="a")

    def test_removeIdle(self) -> None:
        """
        A destination that serves no client is gone at once, also before the start.
        """
        rig = Rig()
        self.successResultOf(rig.balancer.remove("a"))
        balancer = LoadBalancer(Clock(), destinations=["a:1 name=a"], observers=[])
        self.successResultOf(balancer.remove("a"))
        self.assertEqual((rig.balancer.destinations, balancer.destinations), ([], []))

    def test_removeTwice(self) -> None:
        """
        Removing a destination twice does not remove another that got its name as soon
        as it was gone.
        """
        rig = Rig()
        client, again = rig.client(), Backend()

        class Adding(Recorder):
            def destinationChanged(self, destination: Destination, event: str) -> None:
                if event == DESTINATION_REMOVED and not again.tries:
                    again.tries += 1
                    rig.balancer.add(again, name="a")

        rig.balancer.observe(Adding())
        removals = [rig.balancer.remove("a") for _ in range(2)]
        rig.backends[0].wires[0].lose()
        client.lose()
        for each in removals:
            self.successResultOf(each)
        self.assertEqual(rig.states(), ["up"])
        rig.client()
        self.assertEqual(len(again.wires), 1)

    def test_pauseWhileAnotherIsFull(self) -> None:
        """
        When all destinations are paused, a client that waits for one of them is
        not given to another, which is paused too.
        """
        rig = Rig(2, policy="source", slots=1)
        clients = [f"192.0.2.{number}" for number in range(20)]
        rig.client(clients[0])
        (_, busy) = rig.recorder.pulls[0]
        while rig.balancer.waiting == 0:
            rig.client(clients[0])
        self.assertEqual([name for _, name in rig.recorder.pulls], [busy])
        rig.balancer.pause()
        self.assertEqual((len(rig.recorder.pulls), rig.balancer.waiting), (1, 1))

    def test_pause(self) -> None:
        """
        A paused destination keeps its sessions and takes no more, and other
        destinations serve; of several that are paused each is resumed by its name.
        """
        rig = Rig(2)
        rig.clients(2)
        rig.balancer.pause("a")
        rig.balancer.pause("a")
        rig.clients(2)
        self.assertEqual(len(rig.backends[1].wires), 3)
        self.assertEqual(rig.states(), ["paused", "up"])
        rig.balancer.pause()
        rig.clients(3)
        self.assertEqual(rig.balancer.waiting, 3)
        rig.balancer.resume("b")
        self.assertEqual(len(rig.backends[1].wires), 6)
        rig.balancer.resume()
        self.assertEqual(rig.states(), ["up", "up"])
        self.assertEqual(
            [event for name, event in rig.recorder.destinations if name == "a"],
            [DESTINATION_ADDED, DESTINATION_PAUSED, DESTINATION_RESUMED],
        )

    def test_unknown(self) -> None:
        """
        A name that does not exist is an error that lists those that do.
        """
        rig = Rig(2)
        for change in (rig.balancer.remove, rig.balancer.pause, rig.balancer.resume):
            error = self.assertRaises(UnknownDestination, change, "c")
            self.assertIn("'c'; there is a, b", str(error))
        error = self.assertRaises(UnknownDestination, Rig(0).balancer.pause, "c")
        self.assertIn("none", str(error))

    def test_duplicate(self) -> None:
        """
        Two destinations cannot have one name; the first stays.
        """
        rig = Rig()
        error = self.assertRaises(InvalidSetting, rig.balancer.add, "b:1", name="a")
        self.assertIn("name=", str(error))
        self.assertEqual(len(rig.balancer.destinations), 1)


class RebindTests(SynchronousTestCase):
    """
    Many clients wait, each for its own destination, when destinations change.
    """

    def setUp(self) -> None:
        """
        Count how often the policy is asked, and let many wait.
        """
        self.asked = 0
        test = self

        class Counting(Source):
            """
            Counts.
            """

            def bind(
                self, session: Session, available: Sequence[Destination]
            ) -> Destination | None:
                """
                Count, and bind.
                """
                test.asked += 1
                return super().bind(session, available)

        self.rig = Rig(3, policy=Counting(), slots=1, queueTimeout=0)
        self.clients = [
            self.rig.client(f"10.0.{number // 250}.{number % 250}")
            for number in range(2000)
        ]

    def turns(self) -> int:
        """
        Let turns pass until the policy is asked about no client. Return the number of
        turns.
        """
        clock = self.rig.clock
        asked = [self.asked]

        def turn() -> None:
            asked.append(self.asked)
            self.assertTrue(asked[-1] - asked[-2] <= 500)
            if asked[-1] > asked[-2]:
                clock.callLater(0, turn)

        clock.callLater(0, turn)
        clock.advance(0)
        return len(asked) - 2

    def test_inTurns(self) -> None:
        """
        However many clients wait, other code in the process has a turn after every few
        hundred of them. In the end each client waits for the destination that it is
        bound to now.
        """
        balancer = self.rig.balancer
        for change in (balancer.pause, balancer.resume):
            self.asked = 0
            change("b")
            self.assertTrue(0 < self.asked <= 500)
            self.assertTrue(1 <= self.turns() <= 10)
            available = [each for each in balancer.destinations if each.available]
            for each in balancer.sessions:
                if each.line is not None:
                    bound = Source().bind(each, available)
                    self.assertIs(each.line.destination, bound)
        self.assertEqual(balancer.waiting, 1997)

    def test_changesMeanwhile(self) -> None:
        """
        If more destinations change before all clients have moved, they move to
        where they belong then.
        """
        balancer = self.rig.balancer
        balancer.pause("a")
        balancer.pause("b")
        balancer.resume("a")
        self.turns()
        available = [each for each in balancer.destinations if each.available]
        self.assertEqual([each.name for each in available], ["a", "c"])
        for each in balancer.sessions:
            if each.line is not None:
                bound = Source().bind(each, available)
                self.assertIs(each.line.destination, bound)

    def test_stop(self) -> None:
        """
        A balancer that is stopped meanwhile leaves no timer behind.
        """
        self.rig.balancer.pause("a")
        stopping = self.rig.balancer.stopService()
        self.rig.balancer.cutDrain()
        self.rig.clock.advance(0)
        served = [wire for each in self.rig.backends for wire in each.wires]
        for each in [*self.clients, *served]:
            each.lose()
        self.successResultOf(stopping)
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])


class StopTests(SynchronousTestCase):
    """
    Stopping takes as long as the sessions, up to a limit.
    """

    def test_idle(self) -> None:
        """
        Without a session a balancer stops at once, and leaves no timer.
        """
        rig = Rig()
        self.assertTrue(rig.balancer.running)
        self.successResultOf(rig.balancer.stopService())
        self.assertFalse(rig.balancer.running)
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_finish(self) -> None:
        """
        The clients that wait and those that are served finish first.
        """
        rig = Rig(slots=1)
        clients = rig.clients(3)
        stopped = rig.balancer.stopService()
        (a,) = rig.backends
        for index, client in enumerate(clients):
            self.assertNoResult(stopped)
            a.wires[index].lose()
            client.lose()
        self.successResultOf(stopped)
        self.assertEqual(set(rig.recorder.outcomes.values()), {Outcome.DONE})
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_drainTimeout(self) -> None:
        """
        Sessions that do not finish, because they are idle or no destination serves
        them, are closed at the drain time-out.
        """
        rig = Rig(slots=1, drainTimeout="5s")
        served, waiting = rig.clients(2)
        stopped = rig.balancer.stopService()
        rig.advance(4.9)
        self.assertEqual((served.closing, waiting.closing), (None, None))
        rig.advance(0.2)
        (wire,) = rig.backends[0].wires
        self.assertEqual(
            (served.closing, wire.closing, waiting.closing), ("abort", "abort", "close")
        )
        for each in (served, wire, waiting):
            each.lose()
        self.successResultOf(stopped)
        self.assertEqual(
            rig.recorder.outcomes, {1: Outcome.KILLED, 2: Outcome.KILLED_QUEUE}
        )

    def test_cut(self) -> None:
        """
        The wait can be cut short.
        """
        rig = Rig()
        client = rig.client()
        stopped = rig.balancer.stopService()
        rig.balancer.cutDrain()
        rig.clock.advance(0)
        self.assertEqual(client.closing, "abort")
        client.lose()
        rig.backends[0].wires[0].lose()
        self.successResultOf(stopped)
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_cutBeforeStop(self) -> None:
        """
        The wait can be cut short before it begins.
        """
        rig = Rig()
        client = rig.client()
        rig.balancer.cutDrain()
        stopped = rig.balancer.stopService()
        rig.clock.advance(0)
        self.assertEqual(client.closing, "abort")
        client.lose()
        rig.backends[0].wires[0].lose()
        self.successResultOf(stopped)
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_startedWhileStopping(self) -> None:
        """
        A balancer that runs, or is still stopping, is not started a second time.
        """
        rig = Rig()
        client = rig.client()
        self.assertRaises(IawlbError, rig.balancer.startService)
        stopped = rig.balancer.stopService()
        self.assertRaises(IawlbError, rig.balancer.privilegedStartService)
        self.assertRaises(IawlbError, rig.balancer.startService)
        rig.backends[0].wires[0].lose()
        client.lose()
        self.successResultOf(stopped)
        rig.balancer.startService()
        rig.client()
        self.assertEqual(len(rig.backends[0].wires), 2)

    def test_stoppedTwice(self) -> None:
        """
        One that is stopped twice can be started again as soon as it has stopped.
        """
        rig = Rig()
        client = rig.client()

        def again(_: object) -> None:
            rig.balancer.startService()

        stops = [rig.balancer.stopService(), rig.balancer.stopService()]
        stops[0].addCallback(again)
        rig.backends[0].wires[0].lose()
        client.lose()
        for each in stops:
            self.successResultOf(each)
        rig.client()
        self.assertEqual(len(rig.backends[0].wires), 2)

    def test_atOnce(self) -> None:
        """
        A drain timeout of 0 is no wait.
        """
        rig = Rig(drainTimeout=0)
        client = rig.client()
        rig.balancer.stopService()
        rig.clock.advance(0)
        self.assertEqual(client.closing, "abort")

    def test_allDown(self) -> None:
        """
        A destination that returns during the drain serves the clients that wait.
        """
        rig = Rig(whenDown="refuse")
        (a,) = rig.backends
        a.refuse = SILENT
        client = rig.client()
        stopped = rig.balancer.stopService()
        a.refuse = None
        rig.advance(0.3)
        a.wires[0].lose()  # the probe
        a.wires[1].lose()
        client.lose()
        self.successResultOf(stopped)

    def test_neverStarted(self) -> None:
        """
        A balancer that was not started can be stopped, and then started.
        """
        backend = Backend()
        balancer = LoadBalancer(Clock(), destinations=[backend], observers=[])
        self.successResultOf(balancer.stopService())
        balancer.startService()
        Wire(balancer.factory.buildProtocol(None)).protocol.makeConnection(Wire(None))
        self.assertEqual(len(backend.wires), 1)


class ListenTests(SynchronousTestCase):
    """
    Listeners open and close with the balancer.
    """

    def balancer(self, *doors: Door) -> LoadBalancer:
        """
        Make a balancer with such listeners.
        """
        self.recorder = Recorder()
        self.lines = logged(self)
        return LoadBalancer(Clock(), doors, observers=[self.recorder])

    def test_openAndClose(self) -> None:
        """
        Listeners listen from the start to the stop, and their addresses can be read; a
        second start changes nothing.
        """
        door = Door()
        balancer = self.balancer(door)
        balancer.privilegedStartService()
        self.assertTrue(door.listening)
        balancer.startService()
        self.assertEqual(balancer.addresses, ["192.0.2.2:80"])
        self.successResultOf(balancer.stopService())
        self.assertFalse(door.listening)
        self.assertEqual(
            self.recorder.listeners,
            [("listener-1", "listening"), ("listener-1", "closed")],
        )

    def test_fails(self) -> None:
        """
        When a listener cannot listen, the start fails with its address, and the
        listeners that listen already are closed.
        """
        taken = CannotListenError("192.0.2.2", 80, OSError(98, "Address in use"))
        for error in (taken, LookupError("Address in use")):
            good, bad, never = Door(), Door(error), Door()
            balancer = self.balancer(good, bad, never)
            for start in (balancer.privilegedStartService, balancer.startService):
                raised = self.assertRaises(CannotListen, start)
                self.assertIn(repr(bad), str(raised))
                self.assertIn("Address in use", str(raised))
                self.assertEqual(
                    [each.listening for each in (good, bad, never)], [False] * 3
                )
            bad.error = None
            balancer.startService()
            self.assertTrue(never.listening)

    def critical(self) -> list[str]:
        """
        Collect the critical lines of the log.
        """
        return [
            each["why"] for each in self.lines if each["log_level"] is LogLevel.critical
        ]

    def test_late(self) -> None:
        """
        An endpoint may listen later than at once.
        """
        door = Door(late=True)
        balancer = self.balancer(door)
        balancer.startService()
        self.assertEqual(self.recorder.listeners, [])
        assert door.opening is not None
        door.opening.callback(door)
        self.assertEqual(balancer.addresses, ["192.0.2.2:80"])

    def test_failsLate(self) -> None:
        """
        When such an endpoint fails, the log says so.
        """
        door = Door(late=True)
        self.balancer(door).startService()
        assert door.opening is not None
        door.opening.errback(CannotListenError("", 80, OSError(98, "Address in use")))
        (why,) = self.critical()
        self.assertIn("Address in use", why)

    def test_stoppedWhileOpening(self) -> None:
        """
        A listener that has not opened when the balancer stops is given up quietly.
        """
        door = Door(late=True)
        balancer = self.balancer(door)
        balancer.startService()
        self.successResultOf(balancer.stopService())
        self.assertEqual(self.critical(), [])


class TakeOverTests(SynchronousTestCase):
    """
    A program puts connections of its own into the queue.
    """

    def wire(self) -> Wire:
        """
        Make a connection of the program's own protocol.
        """
        protocol = Protocol()
        wire = Wire(protocol)
        protocol.makeConnection(wire)
        return wire

    def test_data(self) -> None:
        """
        The destination first gets the bytes that the program had read.
        """
        rig = Rig()
        wire = self.wire()
        rig.balancer.takeOver(wire.protocol, b"GET ")
        wire.receive(b"/")
        self.assertEqual(rig.backends[0].wires[0].written, b"GET /")

    def test_noData(self) -> None:
        """
        The program need not have read any bytes; the destination can speak first.
        """
        rig = Rig()
        wire = self.wire()
        rig.balancer.takeOver(wire.protocol)
        rig.backends[0].wires[0].receive(b"hello")
        self.assertEqual(wire.written, b"hello")

    def test_secure(self) -> None:
        """
        A TLS connection that a program has is past its handshake.
        """
        rig = Rig()
        protocol = Protocol()
        wire = SecureWire(protocol)
        protocol.makeConnection(wire)
        rig.balancer.takeOver(protocol, b"hello")
        self.assertEqual(rig.backends[0].wires[0].written, b"hello")
        # Where its records begin is not known.
        self.assertFalse(wire.protocol.fromStart)

    def test_notPossible(self) -> None:
        """
        A protocol that its transport does not call is left as it is.
        """
        rig = Rig()
        wire = self.wire()
        inner = Protocol()
        inner.makeConnection(wire)
        for each in (inner, Protocol()):
            self.assertRaises(InvalidSetting, rig.balancer.takeOver, each)
        self.assertEqual(rig.balancer.sessions, [])

    def test_noRoom(self) -> None:
        """
        A connection for which there is no room is left as it is, too.
        """
        rig = Rig(maxConnections=1)
        rig.client()
        wire = self.wire()
        mine = wire.protocol
        self.assertRaises(InvalidSetting, rig.balancer.takeOver, mine)
        self.assertIs(wire.protocol, mine)

    def test_before(self) -> None:
        """
        Before the balancer is started the connections wait.
        """
        backend = Backend()
        balancer = LoadBalancer(Clock(), destinations=[backend], observers=[])
        balancer.takeOver(self.wire().protocol)
        self.assertEqual((balancer.waiting, len(balancer.sessions)), (1, 1))
        balancer.startService()
        self.assertEqual(len(backend.wires), 1)

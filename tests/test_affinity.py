"""
Tests for what keeps a client with its destination.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import ceil
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.affinity import LONGEST, boundedKey, keyOf
from iawlb.core.policies import Fifo, Quick, policyOf, sameChoice
from iawlb.core.policy import ICountingPolicy, IRankingPolicy
from iawlb.core.queue import ConnectionQueue
from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import Session
from iawlb.core.source import BoundedSource, Source
from iawlb.errors import InvalidSetting
from iawlb.settings import Settings
from tests.doubles import Backend, Rig, Wire, accept, destination, logged, session
from tests.proxyheaders import FOUR, tlv, two
from tests.test_tlsstep import Case, Client

repeatable = settings(deadline=None, derandomize=True, database=None)


class KeyTests(SynchronousTestCase):
    """
    The key that binds a client.
    """

    def setUp(self) -> None:
        """
        Make a log of failures.
        """
        self.clock = Clock()
        self.failures = FailureLog(self.clock, "affinity")
        self.addCleanup(self.failures.stop)

    def key(self, affinity: Any, client: Session) -> str:
        """
        Return a client's key.
        """
        return keyOf(Settings(affinity=affinity).affinity, self.failures)(client)

    def test_address(self) -> None:
        """
        By default it is the client's address.
        """
        self.assertEqual(self.key("address", session(1, "192.0.2.7")), "192.0.2.7")

    def test_serverName(self) -> None:
        """
        It can be the name of the server that the client asks for, whatever its case;
        the client's address if it asks for none.
        """
        client = session(1, "192.0.2.7")
        self.assertEqual(self.key("sni", client), "192.0.2.7")
        client.learn()
        self.assertEqual(self.key("sni", client), "192.0.2.7")
        client.learn().serverName = "Shop.Example"
        self.assertEqual(self.key("sni", client), "shop.example")

    def test_tlv(self) -> None:
        """
        It can be a field of the PROXY header, the first of its type; the client's
        address if there is none.
        """
        client = session(1, "192.0.2.7")
        self.assertEqual(self.key("tlv:0xE0", client), "192.0.2.7")
        client.learn().tlvs = ((1, b"h2"), (224, b"tenant\xff"), (224, b"other"))
        self.assertEqual(self.key("tlv:0xE0", client), "tenant\xff")
        self.assertEqual(self.key("tlv:1", client), "h2")
        self.assertEqual(self.key("tlv:2", client), "192.0.2.7")

    def test_function(self) -> None:
        """
        It can be what a function says, as text, bytes or nothing; the function is asked
        once for each client.
        """
        asked: list[Session] = []
        answers = ["one", b"\xfftwo", None]

        def ask(client: Session) -> Any:
            asked.append(client)
            return answers[client.number]

        key = keyOf(ask, self.failures)
        clients = [session(n, f"192.0.2.{n}") for n in range(3)]
        for _ in range(2):
            self.assertEqual(
                [key(each) for each in clients], ["one", "\xfftwo", "192.0.2.2"]
            )
        self.assertEqual(asked, clients)

    def test_functionFails(self) -> None:
        """
        A function that raises or returns rubbish is one client's failure: that client's
        key is its address, and the log says why, at most once a second.
        """
        events = logged(self)
        faults: list[Any] = [lambda _: 1 / 0, lambda _: 7, lambda: "x"]
        for number, fault in enumerate(faults):
            key = keyOf(fault, self.failures)
            for _ in range(100):
                self.assertEqual(key(session(number, "192.0.2.7")), "192.0.2.7")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(1)
        (_, more) = list(events)
        self.assertEqual(more["number"], 299)

    def test_longKeys(self) -> None:
        """
        A key of any length takes little memory, and long ones that differ are told
        apart.
        """
        keys = set()
        for number in range(100):
            client = session(1)
            client.learn().tlvs = ((7, b"x" * 60_000 + b"%d" % number),)
            keys.add(self.key("tlv:7", client))
        self.assertEqual(len(keys), 100)
        self.assertLessEqual(max(map(len, keys)), LONGEST)

    def test_ofTheHook(self) -> None:
        """
        A key that a hook has set comes before all others.
        """
        available = [destination(str(n)) for n in range(50)]
        bound = set()
        for number in range(20):
            client = session(number, f"192.0.2.{number}")
            client.learn().affinity = "tenant"
            bound.add(Source().bind(client, available))
        self.assertEqual(len(bound), 1)

    def test_anythingOfTheHook(self) -> None:
        """
        Whatever a hook has set is a key, also if it is no text; a long one is not kept.
        """
        available = [destination(str(n)) for n in range(50)]
        for key in (7, b"\xff", "x" * 100_000, "\udcff"):
            client = session(1)
            client.learn().affinity = cast(Any, key)
            self.assertIn(Source().bind(client, available), available)
            self.assertLessEqual(len(boundedKey(key)), LONGEST)

    def test_sameKeySameDestination(self) -> None:
        """
        Clients of the same key go to the same destination, those of different keys to
        different ones.
        """
        available = [destination(str(n)) for n in range(10)]
        source = Source(lambda client: f"tenant {client.number % 30}")
        bound = {
            source.bind(session(n, f"192.0.2.{n % 250}"), available) for n in range(300)
        }
        self.assertGreater(len(bound), 5)
        for number in range(30):
            clients = [session(n) for n in range(number, 300, 30)]
            found = {source.bind(each, available) for each in clients}
            self.assertEqual(len(found), 1)

    def test_wrongSettings(self) -> None:
        """
        What is wrong is refused, with what would be right.
        """
        wrong: Any
        right: Any
        for wrong in ("ip", "tlv", "tlv:", "tlv:256", "tlv:0x100", "tlv:-1", "", 5):
            error = self.assertRaises(InvalidSetting, Settings, affinity=wrong)
            self.assertIn("is not address, sni, or tlv:", str(error))
        for wrong in (1, 125, "1", "100%", "x", -1, True, None, "11", float("nan")):
            error = self.assertRaises(InvalidSetting, Settings, loadFactor=wrong)
            self.assertIn("such as 1.25 or 125%", str(error))
        for right in (1.25, "1.25", "125%"):
            self.assertEqual(Settings(loadFactor=right).loadFactor, 1.25)
        self.assertEqual(Settings(loadFactor=cast(Any, "0")).loadFactor, 0)


class PolicyOfTests(SynchronousTestCase):
    """
    The policy that the settings ask for.
    """

    def test_kinds(self) -> None:
        """
        Each word has its policy; C{source} has another one with a bound.
        """
        failures = FailureLog(Clock(), "affinity")
        for wanted, kind in (
            (Settings(policy="fifo"), Fifo),
            (Settings(policy="quick"), Quick),
            (Settings(policy="source"), Source),
            (Settings(policy="source", loadFactor=2), BoundedSource),
        ):
            policy = policyOf(wanted, Clock().seconds, failures)
            self.assertIs(type(policy), kind)

    def test_same(self) -> None:
        """
        A setting that the policy does not heed does not change it.
        """
        least, source = Settings(), Settings(policy="source")
        self.assertTrue(sameChoice(least, replace(least, affinity="sni")))
        self.assertFalse(sameChoice(least, source))
        self.assertTrue(sameChoice(source, replace(source, spillAfter=3)))
        for other in ({"affinity": "sni"}, {"loadFactor": 2}):
            self.assertFalse(sameChoice(source, replace(source, **other)))


class BoundedTests(SynchronousTestCase):
    """
    A destination that has too many.
    """

    def test_interfaces(self) -> None:
        """
        With a bound the rank of a destination depends on the others.
        """
        self.assertTrue(IRankingPolicy.implementedBy(Source))
        self.assertFalse(IRankingPolicy.implementedBy(BoundedSource))
        self.assertTrue(ICountingPolicy.implementedBy(BoundedSource))

    @repeatable
    @given(
        st.lists(st.integers(1, 9), min_size=1, max_size=8),
        st.floats(1.01, 10),
        st.lists(st.integers(1, 4), max_size=60),
    )
    def test_bound(self, weights: list[int], factor: float, hosts: list[int]) -> None:
        """
        Whoever comes, no destination has more than its share times the factor, rounded
        up; while it has room it gets those for which it is the first choice.
        """
        available = [destination(str(n), n, weight=w) for n, w in enumerate(weights)]
        policy = BoundedSource(factor)
        for number, host in enumerate(hosts, 1):
            client = session(number, f"192.0.2.{host}")
            bound = policy.bind(client, available)
            assert bound is not None

            def room(each: Any, number: int = number) -> bool:
                share = each.weight / sum(weights)
                return bool(each.active + 1 <= ceil(factor * number * share))

            self.assertTrue(room(bound))
            first = Source().bind(client, available)
            self.assertTrue(bound is first or not room(first))
            bound.take()

    def test_nothing(self) -> None:
        """
        While no destination is up, a client is bound to none.
        """
        self.assertIsNone(BoundedSource(1.25).bind(session(1), []))

    def test_waitingCount(self) -> None:
        """
        Those that wait for a destination count too: so the clients of one address that
        come while all is full are spread. A client that waits already does not count
        against itself when it is asked about again.
        """
        all_ = [destination(str(n), n, slots=1) for n in range(4)]
        queue = ConnectionQueue(BoundedSource(1.25), lambda: all_)
        for number in range(40):
            queue.put(session(number))
        lines = Counter(each.line.destination.name for each in queue)
        self.assertEqual(len(lines), 4)
        self.assertLessEqual(max(lines.values()), ceil(1.25 * 40 / 4))
        queue.rebind()
        while queue.rebindSome(100):
            pass
        lines = Counter(each.line.destination.name for each in queue)
        self.assertLessEqual(max(lines.values()), ceil(1.25 * 40 / 4))
        queue = ConnectionQueue(BoundedSource(1.1), lambda: all_)
        queue.put(session(1))
        before = next(iter(queue)).line
        queue.rebind()
        self.assertFalse(queue.rebindSome(100))
        self.assertIs(next(iter(queue)).line, before)


class PoolTests(SynchronousTestCase):
    """
    A whole balancer.
    """

    def rig(self, **given: Any) -> Rig:
        """
        Run a balancer of two destinations with one slot each.
        """
        rig = Rig(2, policy="source", slots=1, **given)
        self.addCleanup(rig.balancer.stopService)
        return rig

    def hosts(self, rig: Rig) -> tuple[str, str]:
        """
        Return an address whose clients go to the first destination, and one whose
        clients go to the second.
        """
        found: dict[Any, str] = {}
        destinations = rig.balancer.destinations
        for number in range(1, 100):
            host = f"192.0.2.{number}"
            found.setdefault(Source().bind(session(1, host), destinations), host)
        a, b = (found[each] for each in destinations)
        return a, b

    def served(self, rig: Rig) -> list[int]:
        """
        Count the connections that each destination has got.
        """
        return [len(each.wires) for each in rig.backends]

    def test_spill(self) -> None:
        """
        A client whose destination is full waits for it for the time that is set, and
        goes to the other one then; without the setting it waits on.
        """
        for after, served in ("2s", [1, 1]), (0, [1, 0]):
            rig = self.rig(spillAfter=after)
            host, _ = self.hosts(rig)
            rig.client(host)
            rig.client(host)
            rig.advance(1.9)
            self.assertEqual(self.served(rig), [1, 0])
            rig.advance(0.2)
            self.assertEqual(self.served(rig), served)
            self.assertEqual(rig.balancer._pool.queue.spills, served[1])

    def test_ownFirst(self) -> None:
        """
        If the own destination is free in time, the client goes there.
        """
        rig = self.rig(spillAfter="2s")
        host, _ = self.hosts(rig)
        first = rig.client(host)
        rig.client(host)
        rig.advance(1)
        self.close(rig, first)
        rig.advance(5)
        self.assertEqual(self.served(rig), [2, 0])

    def close(self, rig: Rig, client: Wire) -> None:
        """
        Let the first destination's session end.
        """
        for each in (client, rig.backends[0].wires[0]):
            each.end()
        for each in (client, rig.backends[0].wires[0]):
            each.lose()

    def test_oldestFirst(self) -> None:
        """
        Of all clients that have waited long enough, the one that came first is served
        first, whichever destination it waited for.
        """
        rig = self.rig(spillAfter="2s")
        a, b = self.hosts(rig)
        one = rig.client(a)
        rig.client(b)
        for host in (b, a, b):
            rig.client(host)
            rig.advance(0.3)
        rig.advance(3)
        self.close(rig, one)
        self.assertEqual(rig.recorder.pulls[-1], (3, "a"))

    def test_setLive(self) -> None:
        """
        The time can be set, and taken away, while clients wait.
        """
        rig = self.rig()
        host, _ = self.hosts(rig)
        pool = rig.balancer._pool
        rig.client(host)
        rig.client(host)
        rig.advance(5)
        pool.configure(replace(pool.settings, spillAfter=10))
        rig.advance(4)
        pool.configure(replace(pool.settings, spillAfter=0))
        rig.advance(8)
        self.assertEqual(self.served(rig), [1, 0])
        pool.configure(replace(pool.settings, spillAfter=18))
        rig.advance(2)
        self.assertEqual(self.served(rig), [1, 1])

    def test_policyAndAffinityLive(self) -> None:
        """
        Another affinity holds at once, for those that wait too.
        """
        rig = self.rig()
        a, b = self.hosts(rig)
        pool = rig.balancer._pool
        rig.client(a)
        rig.client(a)
        self.assertEqual(self.served(rig), [1, 0])
        pool.configure(replace(pool.settings, affinity=lambda client: b))
        rig.advance(0.1)
        self.assertEqual(self.served(rig), [1, 1])
        pool.configure(replace(pool.settings, policy="fifo"))
        self.assertIs(type(pool.queue.policy), Fifo)

    def test_pauseDoesNotCount(self) -> None:
        """
        The time of a pause of the pool does not count.
        """
        rig = self.rig(spillAfter="2s")
        host, _ = self.hosts(rig)
        rig.client(host)
        rig.client(host)
        rig.advance(1)
        pool = rig.balancer._pool
        pool.pause()
        rig.advance(10)
        pool.resume()
        rig.advance(1.9)
        self.assertEqual(self.served(rig), [1, 0])
        rig.advance(0.3)
        self.assertEqual(self.served(rig), [1, 1])

    def test_drain(self) -> None:
        """
        When a destination drains, the clients that wait for it go to the other one at
        once, however long they would have waited.
        """
        rig = self.rig(spillAfter="1h")
        host, _ = self.hosts(rig)
        rig.client(host)
        rig.client(host)
        rig.balancer._pool.drain("a")
        rig.advance(0.1)
        self.assertEqual(self.served(rig), [1, 1])

    def test_crowd(self) -> None:
        """
        A crowd that has waited is let go in several turns of the reactor, and no timer
        is left when all are served.
        """
        rig = self.rig(spillAfter="2s", queueTimeout=0)
        host, _ = self.hosts(rig)
        clients = [rig.client(host) for _ in range(350)]
        rig.advance(2.2)
        self.assertEqual(self.served(rig), [1, 1])
        lines = {each.line.destination for each in rig.balancer._pool.queue}
        self.assertEqual(lines, {None})
        rig.balancer._pool.setSlots("a", 0)
        rig.advance(1)
        self.assertEqual(sum(self.served(rig)), 350)
        for each in clients:
            each.lose(reset=True)

    def test_stops(self) -> None:
        """
        When the balancer stops while clients wait, no timer is left.
        """
        rig = self.rig(spillAfter="1h", queueTimeout="2h", drainTimeout=0)
        host, _ = self.hosts(rig)
        clients = [rig.client(host) for _ in range(3)]
        stopped = rig.balancer.stopService()
        rig.advance(0.1)
        for each in (*clients, *rig.backends[0].wires):
            each.lose()
        rig.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_ownKeyFails(self) -> None:
        """
        A function that raises loses no client.
        """
        rig = self.rig(affinity=lambda client: 1 / 0)
        host, _ = self.hosts(rig)
        rig.client(host)
        self.assertEqual(self.served(rig), [1, 0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_chosen(self) -> None:
        """
        A client for which a destination was chosen goes there, although the policy
        would have it elsewhere; it waits for it while it drains.
        """
        rig = Rig(0, spillAfter="1s", queueTimeout="9s")
        self.addCleanup(rig.balancer.stopService)
        backends = [Backend(), Backend()]
        pool = rig.balancer.addPool(
            "other", choose=lambda client: chosen, slots=1, queueTimeout="9s"
        )
        chosen = pool.add(backends[0], {"name": "x"})
        pool.add(backends[1], {"name": "y"})
        clients = [accept(pool.factory) for _ in range(3)]
        rig.advance(3)
        self.assertEqual([len(each.wires) for each in backends], [1, 0])
        pool.drain("x")
        rig.advance(3)
        self.assertEqual([len(each.wires) for each in backends], [1, 0])
        self.assertEqual(len(pool.queue), 2)
        rig.advance(5)
        self.assertEqual(len(pool.queue), 0)
        for each in clients[1:]:
            each.lose()
        codes = [each.code for each in rig.recorder.outcomes.values() if each]
        self.assertEqual(codes, ["sQ", "sQ"])


class HeaderTests(SynchronousTestCase):
    """
    Clients that are known by a PROXY header.
    """

    def test_field(self) -> None:
        """
        All clients with the same value in a field of their header go to the same
        destination, whatever their address is; values are spread.
        """
        rig = Rig(3, policy="source", affinity="tlv:0xE0", acceptProxy="all")
        self.addCleanup(rig.balancer.stopService)
        where: dict[int, set[int]] = {}
        for number in range(60):
            tenant = number % 15
            address = bytes([192, 0, 2, number]) + FOUR[4:]
            before = [len(each.wires) for each in rig.backends]
            rig.client().receive(two(body=address + tlv(0xE0, b"tenant %d" % tenant)))
            after = [len(each.wires) for each in rig.backends]
            (index,) = [n for n in range(3) if after[n] > before[n]]
            where.setdefault(tenant, set()).add(index)
        self.assertEqual({len(each) for each in where.values()}, {1})
        self.assertEqual(set().union(*where.values()), {0, 1, 2})


class ServerNameTests(Case):
    """
    Clients of a listener that ends TLS.
    """

    def test_name(self) -> None:
        """
        All clients that ask for the same server go to the same destination; names are
        spread.
        """
        self.listen(number=3, policy="source", affinity="sni")
        where: dict[str, set[int]] = {}
        for number in range(30):
            name = f"tenant-{number % 10}.example"
            before = [len(each.wires) for each in self.rig.backends]
            Client(self.wire(), name=name if number < 15 else name.upper()).shake()
            after = [len(each.wires) for each in self.rig.backends]
            (index,) = [n for n in range(3) if after[n] > before[n]]
            where.setdefault(name, set()).add(index)
        self.assertEqual({len(each) for each in where.values()}, {1})
        self.assertEqual(set().union(*where.values()), {0, 1, 2})

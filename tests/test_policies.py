"""
Tests for the choice of the destination.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core import least, source
from iawlb.core.destination import Destination
from iawlb.core.policies import POLICIES, Fifo, First, Least, Quick, Source
from tests.doubles import destination, session

CLIENTS = [f"198.51.{high}.{low}" for high in range(20) for low in range(100)]

repeatable = settings(deadline=None, derandomize=True, database=None)


def loaded(name: str, active: int, weight: int = 1, order: int = 0) -> Destination:
    """
    Make a destination that serves so many.
    """
    made = destination(name, order, weight=weight)
    for _ in range(active):
        made.take()
    return made


class ChoiceTests(SynchronousTestCase):
    """
    The policies that choose among waiting destinations.
    """

    def test_names(self) -> None:
        """
        The five policies are known by their names.
        """
        self.assertEqual(
            POLICIES,
            {
                "least": Least,
                "fifo": Fifo,
                "first": First,
                "source": Source,
                "quick": Quick,
            },
        )

    def test_leastLoaded(self) -> None:
        """
        The destination with the fewest connections is chosen.
        """
        busy, idle = loaded("a", 3), loaded("b", 1)
        self.assertIs(Least().choose([busy, idle]), idle)

    def test_leastKnowsWeights(self) -> None:
        """
        Of two destinations that serve the same number, the one with the larger weight
        is chosen.
        """
        light, heavy = loaded("a", 2), loaded("b", 2, weight=2)
        self.assertIs(Least().choose([light, heavy]), heavy)
        light, heavy = loaded("a", 0), loaded("b", 0, weight=2)
        self.assertIs(Least().choose([light, heavy]), heavy)

    def test_leastTies(self) -> None:
        """
        Among equals the one that has waited longest is chosen, so with one slot each
        they take turns; also when all have the same weight, but not 1.
        """
        for weight in (1, 3):
            a, b, c = (loaded(name, 0, weight) for name in "abc")
            least = Least()
            for first, second, third in permutations((a, b, c)):
                self.assertIs(least.choose([first, second, third]), first)

    def picks(self, least: Least, waiting: list[Destination], number: int) -> str:
        """
        Let so many connections come one after the other, each of which ends before
        the next comes.
        """
        names = ""
        for _ in range(number):
            chosen = least.choose(waiting)
            chosen.take()
            chosen.give()
            waiting.remove(chosen)
            waiting.append(chosen)
            names += chosen.name
        return names

    def test_leastInTurnsByWeight(self) -> None:
        """
        Idle destinations share the connections by their weights, and a heavy one gets
        its connections spread, not in a row.
        """
        waiting = [loaded(n, 0, w) for n, w in (("a", 1), ("b", 3), ("c", 1))]
        self.assertEqual(self.picks(Least(), waiting, 15), 3 * "babcb")

    @repeatable
    @given(st.lists(st.integers(1, 1000), min_size=1, max_size=12))
    def test_leastSharesWhileIdle(self, weights: list[int]) -> None:
        """
        However many come, no idle destination is further than one connection from
        its share.
        """
        waiting = [loaded(str(n), 0, weight) for n, weight in enumerate(weights)]
        each = tuple(waiting)
        least, counts = Least(), Counter[Destination]()
        for number in range(1, 200):
            chosen = least.choose(waiting)
            counts[chosen] += 1
            waiting.remove(chosen)
            waiting.append(chosen)
            for one in each:
                share = number * one.weight / sum(weights)
                self.assertLessEqual(abs(counts[one] - share), 1 + 1e-6)

    def test_leastOwesNothing(self) -> None:
        """
        A destination that was added, or away for long, gets its share from then on, and
        nothing for the time before.
        """
        old = [loaded(n, 0, w) for n, w in (("a", 1), ("b", 3))]
        least = Least()
        self.picks(least, old, 400)
        self.assertEqual(
            sorted(self.picks(least, [*old, loaded("c", 0)], 10)), sorted("aabbbbbbcc")
        )
        self.picks(least, [loaded("d", 0), loaded("e", 0, 2)], 400)
        self.assertEqual(sorted(self.picks(least, old, 8)), sorted("aabbbbbb"))

    def test_leastTurnsBeginAnew(self) -> None:
        """
        The turns continue as they were when their numbers begin anew.
        """
        self.patch(least, "MOST_ROUNDS", 5.0)
        waiting = [loaded(n, 0, w) for n, w in (("a", 1), ("b", 3), ("c", 1))]
        self.assertEqual(self.picks(Least(), waiting, 40), 8 * "babcb")

    def test_leastInTurnsWhileBusy(self) -> None:
        """
        Busy destinations that are equally loaded take turns too.
        """
        waiting = [loaded("a", 1, 1), loaded("b", 3, 3)]
        self.assertEqual(self.picks(Least(), waiting, 8), 2 * "babb")

    @repeatable
    @given(
        st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1),
    )
    def test_leastOfAny(self, loads: list[tuple[int, int]]) -> None:
        """
        Whichever destinations wait, no less loaded one is passed over, and no equal one
        of the same weight that has waited longer.
        """
        waiting = [loaded(str(n), *load) for n, load in enumerate(loads)]
        chosen = Least().choose(waiting)
        place = waiting.index(chosen)
        for index, each in enumerate(waiting):
            mine = chosen.active * each.weight
            other = each.active * chosen.weight
            self.assertLessEqual(mine, other)
            if mine == other and chosen.weight == each.weight:
                self.assertLessEqual(place, index)

    def test_leastSharesByWeight(self) -> None:
        """
        Connections that stay are shared by weight.
        """
        waiting = [loaded(str(weight), 0, weight) for weight in (1, 2, 5)]
        for _ in range(800):
            Least().choose(waiting).take()
        self.assertEqual([each.active for each in waiting], [100, 200, 500])

    def test_fifo(self) -> None:
        """
        The destination that has waited longest is chosen, whatever its load.
        """
        busy, idle = loaded("a", 9), loaded("b", 0)
        self.assertIs(Fifo().choose([busy, idle]), busy)

    def test_first(self) -> None:
        """
        The first in the order given is chosen, so the last ones stay idle.
        """
        first, last = loaded("a", 9, order=0), loaded("b", 0, order=1)
        self.assertIs(First().choose([last, first]), first)

    def test_anyMayServe(self) -> None:
        """
        Only C{source} binds a client to a destination.
        """
        for name, kind in POLICIES.items():
            policy = kind()
            bound = policy.bind(session(1), [loaded("a", 0)])
            self.assertEqual(policy.binds, name == "source")
            self.assertEqual(bound is not None, policy.binds)


class SourceTests(SynchronousTestCase):
    """
    The same client gets the same destination.
    """

    def placed(self, available: Sequence[Destination]) -> dict[str, str]:
        """
        Say which destination each client is bound to.
        """
        placed = {}
        for number, host in enumerate(CLIENTS):
            bound = Source().bind(session(number, host), available)
            assert bound is not None
            placed[host] = bound.name
        return placed

    def test_sameForEachConnection(self) -> None:
        """
        All connections of a client go to one destination, whichever port they
        come from and whatever is going on.
        """
        waiting = [loaded("a", 0), loaded("b", 0), loaded("c", 0)]
        before = self.placed(waiting)
        for each in waiting:
            for _ in range(100):
                each.take()
        self.assertEqual(self.placed(waiting), before)

    def test_balancersAgree(self) -> None:
        """
        Two balancers that know the same names agree, in whatever order, by
        whatever address and in whatever state they know them.
        """
        one = [destination(name, order) for order, name in enumerate("abcd")]
        other = [destination(name, order, slots=7) for order, name in enumerate("dbca")]
        for each in other:
            each.address = "elsewhere"
        self.assertEqual(self.placed(one), self.placed(other))

    def test_agreesAcrossVersions(self) -> None:
        """
        Balancers of different versions agree too: where a client goes is fixed
        for good.
        """
        available = [
            destination(name, weight=w)
            for name, w in zip("abc", (1, 2, 3), strict=True)
        ]
        hosts = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "unix", "ü")
        found = [Source().bind(session(1, host), available) for host in hosts]
        self.assertEqual([each and each.name for each in found], list("bbccc"))

    @repeatable
    @given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.data())
    def test_leavingMovesOnlyItsOwn(self, weights: list[int], data: Any) -> None:
        """
        A destination that leaves moves its own clients and no others; when it
        comes back, all is as before.
        """
        available = [destination(str(n), weight=w) for n, w in enumerate(weights)]
        leaving = data.draw(st.sampled_from(available))
        staying = [each for each in available if each is not leaving]
        for number, host in enumerate(CLIENTS[:50]):
            client = session(number, host)
            before = Source().bind(client, available)
            after = Source().bind(client, staying)
            self.assertIn(after, staying)
            if before is not leaving:
                self.assertIs(before, after)
            self.assertIs(Source().bind(client, available), before)

    def test_sharesByWeight(self) -> None:
        """
        Clients are shared about by weight.
        """
        weights = {"a": 1, "b": 2, "c": 5}
        placed = self.placed([destination(n, weight=w) for n, w in weights.items()])
        counts = Counter(placed.values())
        for name, weight in weights.items():
            fair = len(CLIENTS) * weight / 8
            self.assertTrue(0.85 * fair < counts[name] < 1.15 * fair, counts)

    def test_leaversAreSpread(self) -> None:
        """
        The clients of a destination that left are spread over all the others.
        """
        available = [destination(name) for name in "abcd"]
        before, after = self.placed(available), self.placed(available[1:])
        moved = Counter(after[host] for host in CLIENTS if before[host] == "a")
        fair = sum(moved.values()) / 3
        self.assertEqual(set(moved), set("bcd"))
        self.assertTrue(all(0.75 * fair < n < 1.25 * fair for n in moved.values()))

    def test_nothingAvailable(self) -> None:
        """
        While no destination is up a client is bound to none; once a destination is up,
        the one that has waited longest may serve the client.
        """
        self.assertIsNone(Source().bind(session(1), []))
        a, b = destination("a"), destination("b")
        self.assertIs(Source().choose([b, a]), b)

    def test_anyAddress(self) -> None:
        """
        A client address of any text can be placed, also a socket's path that is
        not UTF-8.
        """
        available = [destination("a"), destination("b")]
        for host in ("", "/run/\udcff", "\0", "fe80::1%eth0"):
            self.assertIn(Source().bind(session(1, host), available), available)

    def test_sameClientByAnyListener(self) -> None:
        """
        A client goes to the same destination by whichever listener it comes in:
        an IPv4 client by C{[::]} as by C{0.0.0.0}, also if a PROXY header spells
        it differently, and a link-local one whatever the interface is called here.
        All clients of Unix sockets are one.
        """
        available = [destination(str(n)) for n in range(50)]
        for addresses in (
            [
                IPv4Address("TCP", "192.0.2.1", 1),
                IPv6Address("TCP", "::ffff:192.0.2.1", 2),
                IPv6Address("TCP", "::FFFF:192.0.2.1", 2),
                IPv6Address("TCP", "0:0:0:0:0:ffff:c000:201", 3),
            ],
            [
                IPv6Address("TCP", "2001:db8::1", 1),
                IPv6Address("TCP", "2001:db8:0:0:0:0:0:1", 2),
            ],
            [
                IPv6Address("TCP", "fe80::ffff:1", 1),
                IPv6Address("TCP", "fe80::ffff:1%eth0", 2),
                IPv6Address("TCP", "fe80:0:0:0:0:0:ffff:1%wlan0", 3),
            ],
            [IPv6Address("TCP", "::ffff:none", 1)] * 2,
            [UNIXAddress("/run/one"), UNIXAddress(None)],
        ):
            placed = set()
            for address in addresses:
                client = session(1)
                client.address = address
                placed.add(Source().bind(client, available))
            self.assertEqual(len(placed), 1, addresses)

    def test_extremeDraws(self) -> None:
        """
        The highest and the lowest number that can be drawn are in order too.
        """
        bits = 2**64 - 1
        # What the highest number is made of.
        drawn = bits * pow(0xC4CEB9FE1A85EC53, -1, 2**64) & bits
        drawn ^= drawn >> 32
        highest = drawn * pow(0xFF51AFD7ED558CCD, -1, 2**64) & bits
        hashes = {"high": highest, "low": 0, "mid": 1}
        self.patch(source, "_hashed", lambda text: hashes.get(text, 0))
        low, mid, high = (destination(name) for name in ("low", "mid", "high"))
        self.assertIs(Source().bind(session(1), [low, mid, high]), high)
        self.assertIs(Source().bind(session(1), [low, mid]), mid)
        self.assertIs(Source().bind(session(1), [low]), low)

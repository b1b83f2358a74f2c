"""
Tests for L{iawlb.core.routes}.
"""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.routes import NoRoute, Route, RouteTable

LABEL = st.sampled_from(["a", "b", "c"])
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PATTERN = HOST | HOST.map("*.{}".format)
PROTOCOL = st.sampled_from(["h2", "http/1.1", "x"])


@st.composite
def tables(draw: st.DrawFn) -> list[Route[int]]:
    """
    Draw routes of which no two take the same.
    """
    pairs = draw(
        st.lists(
            st.tuples(st.none() | PATTERN, st.none() | PROTOCOL),
            unique=True,
            max_size=10,
        )
    )
    return [
        Route(number, () if name is None else [name], () if alpn is None else [alpn])
        for number, (name, alpn) in enumerate(pairs)
    ]


def fits(pattern: str, name: str | None) -> bool:
    """
    Return whether a name fits a pattern.
    """
    if name is None:
        return False
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) >= len(pattern)
    return name == pattern


class RouteTableTests(SynchronousTestCase):
    """
    A client goes to the most specific route.
    """

    def test_names(self) -> None:
        """
        A name of its own comes before one with an asterisk, a longer one of these
        before a shorter one, and all before routes without a name.
        """
        table = RouteTable(
            [
                Route("rest"),
                Route("wide", ["*.example"]),
                Route("deep", ["*.b.example"]),
                Route("own", ["a.b.example", "example"]),
            ]
        )
        for name, target in (
            ("a.b.example", "own"),
            ("example", "own"),
            ("c.b.example", "deep"),
            ("d.c.b.example", "deep"),
            ("b.example", "wide"),
            ("x.example", "wide"),
            ("notexample", "rest"),
            (None, "rest"),
        ):
            self.assertEqual(table.find(name, ()), target)

    def test_protocols(self) -> None:
        """
        Of the routes for a name, the client's own order of protocols decides; a route
        without protocols takes all others.
        """
        table = RouteTable(
            [
                Route("any", ["a"]),
                Route("new", ["a"], ["h2"]),
                Route("old", ["a"], ["http/1.1", "http/1.0"]),
            ]
        )
        for offered, target in (
            (["h2", "http/1.1"], "new"),
            (["http/1.1", "h2"], "old"),
            (["x", "http/1.0"], "old"),
            (["x"], "any"),
            ([], "any"),
        ):
            self.assertEqual(table.find("a", offered), target)

    def test_none(self) -> None:
        """
        If no route fits, it is said whether for the name or for the protocol.
        """
        table = RouteTable([Route("a", ["a"], ["h2"])])
        self.assertEqual(table.find("b", ["h2"]), NoRoute.NAME)
        self.assertEqual(table.find(None, ["h2"]), NoRoute.NAME)
        self.assertEqual(table.find("a", ["x"]), NoRoute.PROTOCOL)
        self.assertEqual(table.find("a", []), NoRoute.PROTOCOL)
        table = RouteTable([Route("a", (), ["h2"]), Route("b", ["b"])])
        self.assertEqual(table.find("a", ["x"]), NoRoute.NAME)
        table = RouteTable([Route("a", (), ["h2"])])
        self.assertEqual(table.find("a", ["x"]), NoRoute.PROTOCOL)
        self.assertEqual(RouteTable[str]([]).find("a", []), NoRoute.NAME)

    def test_lessSpecific(self) -> None:
        """
        If a name has no route for the client's protocols, one of a less specific name
        is taken.
        """
        table = RouteTable([Route("new", ["a.b"], ["h2"]), Route("rest", ["*.b"])])
        self.assertEqual(table.find("a.b", ["x"]), "rest")
        self.assertEqual(table.find("a.b", ["h2"]), "new")

    def test_same(self) -> None:
        """
        Two routes that take the same are refused, and named.
        """
        for names, protocols, what in (
            (["a", "b"], (), "b"),
            (["b"], ["h2"], "b with the protocol h2"),
            ((), (), "clients of any name"),
            ((), ["h2"], "clients of any name with the protocol h2"),
        ):
            routes = [Route("x", names[-1:], protocols), Route("y", names, protocols)]
            error = self.assertRaises(ValueError, RouteTable, routes)
            self.assertEqual(error.args, (what, ("x", "y")))

    @given(tables(), st.none() | HOST, st.lists(PROTOCOL, unique=True))
    def test_model(
        self, routes: list[Route[int]], name: str | None, offered: list[str]
    ) -> None:
        """
        What is found is the best of all routes that fit.
        """

        def rank(route: Route[int]) -> tuple[int, bool, int] | None:
            """
            Return how good a route is, the smallest being the best.
            """
            specific, position = 0, len(offered)
            if route.names:
                (pattern,) = route.names
                if not fits(pattern, name):
                    return None
                specific = len(pattern) + (0 if pattern.startswith("*.") else 1000)
            if route.protocols:
                (protocol,) = route.protocols
                if protocol not in offered:
                    return None
                position = offered.index(protocol)
            return (-specific, not route.protocols, position)

        ranks = [(rank(each), each.target) for each in routes]
        fitting = [(place, target) for place, target in ranks if place is not None]
        found = RouteTable(routes).find(name, offered)
        if fitting:
            self.assertEqual(found, min(fitting)[1])
        else:
            self.assertIsInstance(found, NoRoute)

    def test_many(self) -> None:
        """
        The longest name of all has few places to be looked for, however many routes
        there are.
        """
        names = [f"{a}.{b}.example" for a, b in product("abcdefghij", repeat=2)]
        table = RouteTable([Route(name, [name]) for name in names])
        self.assertEqual(table.find("j.j.example", ()), "j.j.example")
        self.assertEqual(table.find(".".join("x" * 126), ()), NoRoute.NAME)

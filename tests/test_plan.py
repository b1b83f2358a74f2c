"""
Tests for what a reload has to change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.config.model import (
    Configuration,
    DestinationConfig,
    ListenerConfig,
    PoolConfig,
)
from iawlb.control.plan import Change, applied, listenersOf, plan, shown
from iawlb.processsettings import ProcessSettings
from iawlb.settings import DestinationSettings, ListenerSettings, Settings

NAMES = st.sampled_from(["a", "b", "c.d", "web", "destinations"])
ADDRESSES = st.sampled_from(["9001", "localhost:9002", "/run/app.sock", "[::1]:9003"])


def destination(name: str, address: str = "9001", **own: Any) -> DestinationConfig:
    """
    Make the configuration of a destination.
    """
    return DestinationConfig(name, address, DestinationSettings(name=name, **own))


def listener(address: str, name: str | None = None) -> ListenerConfig:
    """
    Make the configuration of a listener.
    """
    name = name or address
    return ListenerConfig(name, address, ListenerSettings(name=name))


def pool(
    name: str,
    listeners: tuple[ListenerConfig, ...] = (),
    destinations: tuple[DestinationConfig, ...] = (),
    **own: Any,
) -> PoolConfig:
    """
    Make the configuration of a pool.
    """
    return PoolConfig(
        name, Settings(**own), listeners, {each.name: each for each in destinations}
    )


def configuration(*pools: PoolConfig, **own: Any) -> Configuration:
    """
    Make a configuration.
    """
    return Configuration(
        Settings(**own),
        ProcessSettings(),
        {each.name: each for each in pools},
        {},
        None,
    )


DESTINATIONS = st.builds(
    destination,
    NAMES,
    ADDRESSES,
    slots=st.integers(0, 3),
    weight=st.integers(1, 3),
)
LISTENERS = st.builds(
    listener, st.sampled_from(["8080", "tcp:0", "/run/in.sock"]), st.none() | NAMES
)
POOLS = st.builds(
    lambda name, listeners, destinations, own: pool(
        name, tuple(listeners), tuple(destinations), **own
    ),
    NAMES,
    st.lists(LISTENERS, max_size=4),
    st.lists(DESTINATIONS, max_size=5),
    st.fixed_dictionaries(
        {},
        optional={
            "policy": st.sampled_from(["least", "source"]),
            "queueTimeout": st.integers(1, 3),
            "slots": st.integers(0, 2),
        },
    ),
)
CONFIGURATIONS = st.builds(
    lambda pools, limit, state: replace(
        configuration(*pools, maxConnections=limit),
        process=ProcessSettings(state=state),
    ),
    st.lists(POOLS, max_size=4),
    st.integers(0, 2),
    st.sampled_from(["", "/var/lib/state.json"]),
)


def comparable(of: Configuration) -> Any:
    """
    Return all that a balancer makes of a configuration, in a form that can be compared:
    destinations with their order, listeners and pools without one.
    """
    pools = {
        name: (
            each.settings,
            sorted(listenersOf(each).items(), key=lambda item: item[0]),
            list(each.destinations.items()),
        )
        for name, each in of.pools.items()
    }
    return of.settings, of.process, pools


class PlanTests(SynchronousTestCase):
    """
    L{plan}, which compares two configurations.
    """

    @settings(deadline=None)
    @given(CONFIGURATIONS, CONFIGURATIONS)
    def test_appliedGivesTheNewOne(
        self, before: Configuration, after: Configuration
    ) -> None:
        """
        The changes lead from any configuration to any other: nothing that was written
        in the new file is left out, and nothing of the old one remains.
        """
        changes = plan(before, after)
        self.assertEqual(comparable(applied(before, changes)), comparable(after))

    @settings(deadline=None)
    @given(CONFIGURATIONS)
    def test_sameIsNoChange(self, same: Configuration) -> None:
        """
        The same file again changes nothing.
        """
        self.assertEqual(plan(same, same), [])

    @settings(deadline=None)
    @given(CONFIGURATIONS, CONFIGURATIONS)
    def test_changesCanBeMadeBackwards(
        self, before: Configuration, after: Configuration
    ) -> None:
        """
        What a reload has changed, the old file changes back.
        """
        back = applied(applied(before, plan(before, after)), plan(after, before))
        self.assertEqual(comparable(back), comparable(before))

    def test_paths(self) -> None:
        """
        Each change is named by its path in the file, and what is new comes before what
        goes.
        """
        before = configuration(
            pool(
                "web",
                (listener("8080"),),
                (destination("a", slots=4), destination("b"), destination("e")),
            ),
            pool("old"),
        )
        after = configuration(
            pool(
                "web",
                (listener("8081"), listener("8080", "main")),
                (
                    destination("c"),
                    destination("a", slots=5, weight=2),
                    destination("b", "9002"),
                ),
                queueTimeout="10s",
            ),
            pool("new", (listener("8082"),), (destination("x"),)),
            maxConnections=5,
        )
        shownPlan = [(each.action, each.path) for each in plan(before, after)]
        self.assertEqual(
            shownPlan,
            [
                ("change", "global.max-connections"),
                ("add", "pools.new"),
                ("change", "pools.web.queue-timeout"),
                ("add", "pools.web.destinations.c"),
                ("change", "pools.web.destinations.a.slots"),
                ("change", "pools.web.destinations.a.weight"),
                ("change", "pools.web.destinations.b.address"),
                ("remove", "pools.web.destinations.e"),
                ("add", "pools.web.listeners.8081"),
                ("change", "pools.web.listeners.8080.name"),
                ("change", "pools.web.destinations"),
                ("remove", "pools.old"),
            ],
        )

    def test_processSettings(self) -> None:
        """
        A setting of the process is named by its section and key.
        """
        before = configuration()
        after = replace(before, process=ProcessSettings(state="/x"))
        (change,) = plan(before, after)
        self.assertEqual(
            change.shown(),
            {"path": "admin.state", "before": "", "after": "/x", "action": "change"},
        )


class ShownTests(SynchronousTestCase):
    """
    L{shown}, which turns what changed into what JSON has.
    """

    def test_objects(self) -> None:
        """
        An object is shown in one short text, with what differs from the defaults.
        """
        web = pool("web", (listener("8080"),), (destination("a"), destination("b")))
        self.assertEqual(shown(web), "listen 8080; destinations a, b")
        self.assertEqual(shown(pool("x")), "listen nowhere; destinations none")
        self.assertEqual(
            shown(destination("a", "9001", slots=4)), "9001 name=a slots=4"
        )
        self.assertEqual(shown(listener("8080")), "8080")
        own = replace(listener("/s"), settings=ListenerSettings(name="/s", mode=0o660))
        self.assertEqual(shown(own), "/s mode=660")
        settings = ListenerSettings(certificate=("/a", "/b"), v6only=True)
        self.assertEqual(
            shown(replace(listener("8080"), settings=settings)),
            "8080 v6only=yes certificate=/a,/b",
        )
        change = Change(
            ("pools", "a", "listeners", "/s", "mode"), None, 0o660, "change"
        )
        self.assertEqual(
            (change.shown()["before"], change.shown()["after"]), (None, "660")
        )

    def test_orderBefore(self) -> None:
        """
        A change of order shows the destinations that there were before, without the
        new ones.
        """
        before = configuration(pool("web", (), (destination("a"), destination("c"))))
        names = ("a", "b", "c")
        after = configuration(pool("web", (), tuple(map(destination, names))))
        *_, change = plan(before, after)
        self.assertEqual((change.before, change.after), (("a", "c"), names))

    def test_values(self) -> None:
        """
        An order is a list, and any other value is itself.
        """
        self.assertEqual(shown(("a", "b")), ["a", "b"])
        self.assertEqual(shown(2.5), 2.5)
        change = Change(("pools", "a"), None, pool("a"), "add")
        self.assertEqual(change.shown()["before"], None)
        self.assertEqual(change.pool, "a")

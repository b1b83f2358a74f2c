"""
Tests for balancers with several pools, without sockets.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from iawlb.balancer import Balancer
from iawlb.core.policies import First, Least
from iawlb.errors import InvalidSetting, UnknownPool
from tests.doubles import Recorder


class PoolTests(SynchronousTestCase):
    """
    Pools are added and removed by name.
    """

    def setUp(self) -> None:
        """
        Make a balancer without pools.
        """
        self.reactor: Any = MemoryReactorClock()
        directlyProvides(self.reactor, IReactorTime)
        self.recorder = Recorder()
        self.balancer = Balancer(
            self.reactor, observers=[self.recorder], queueTimeout="7s"
        )

    def refused(self, name: Any, **settings: Any) -> str:
        """
        Try to add a pool that is refused, and return why.
        """
        before = dict(self.balancer.pools)
        error = self.assertRaises(
            InvalidSetting, self.balancer.addPool, name, **settings
        )
        self.assertEqual(dict(self.balancer.pools), before)
        return str(error)

    def test_settings(self) -> None:
        """
        A pool has settings of its own, and the balancer's where it gives none.
        """
        web = self.balancer.addPool("web", policy="first", idleTimeout="9s")
        database = self.balancer.addPool("db", policy=Least())
        self.assertEqual(list(self.balancer.pools), ["web", "db"])
        self.assertEqual((web.settings.queueTimeout, web.settings.idleTimeout), (7, 9))
        self.assertEqual(database.settings.idleTimeout, 3600)
        self.assertIs(self.balancer.pool("db"), database)

    def test_addressAlone(self) -> None:
        """
        A listener and a destination of a pool need an address and nothing else.
        """
        web = self.balancer.addPool("web")
        self.assertEqual(web.listen("tcp:8080").settings.name, "tcp:8080")
        self.assertEqual(web.add("127.0.0.1:9001").name, "127.0.0.1:9001")

    def test_refused(self) -> None:
        """
        A wrong name, a name that is taken and a setting of the whole balancer are
        refused by name, and add nothing.
        """
        self.balancer.addPool("web")
        self.assertEqual(self.refused("web"), "there is a pool 'web' already")
        self.assertEqual(
            self.refused("a/b"),
            "'a/b' is not a name of a pool: 1 to 64 letters, digits, _, . or -",
        )
        self.assertEqual(
            self.refused("db", maxConnections=3),
            "maxConnections is a setting of the whole balancer",
        )
        self.assertEqual(
            self.refused("db", queueTimeOut=3),
            "'queueTimeOut' is not a setting of a pool: write queueTimeout",
        )
        self.assertEqual(
            self.refused("db", policy=First), "policy: First is a class: write First()"
        )

    def test_unknown(self) -> None:
        """
        A pool that does not exist is named, with those that do.
        """
        error = self.assertRaises(UnknownPool, self.balancer.pool, "web")
        self.assertEqual(str(error), "there is no pool 'web'; there is none")
        self.balancer.addPool("db")
        error = self.assertRaises(UnknownPool, self.balancer.removePool, "web")
        self.assertEqual(str(error), "there is no pool 'web'; there is db")

    def test_configure(self) -> None:
        """
        Settings of the whole balancer change while it runs, if they can.
        """
        self.balancer.configure(maxConnections=12, drainTimeout="3s")
        self.assertEqual(self.balancer.table.limit, 12)
        self.assertEqual(self.balancer.settings.drainTimeout, 3)
        error = self.assertRaises(
            InvalidSetting, self.balancer.configure, relay="portable", drainTimeout=9
        )
        self.assertEqual(
            str(error), "relay cannot change while the balancer runs; it is auto"
        )
        error = self.assertRaises(
            InvalidSetting,
            self.balancer.configure,
            queueTimeout=3,
        )
        self.assertEqual(str(error), "queueTimeout is a setting of each pool")
        self.assertEqual(self.balancer.settings.drainTimeout, 3)

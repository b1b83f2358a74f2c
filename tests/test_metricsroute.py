"""
Tests for the requests for metrics, and the server that answers them.
"""

from __future__ import annotations

import gzip
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from iawlb.admin import exposition as module
from iawlb.admin.metricsroute import MOST_SCRAPES, SCRAPE_WITHIN, Metrics
from iawlb.admin.metricsserver import metricsServer
from iawlb.admin.place import readPlace
from tests.asking import Asking, Line, Reply, request
from tests.test_exposition import ScrapedRig

SCOPED = "balancer, pool, destination, listener, certificate"


class Scraping(Asking):
    """
    A server of metrics in memory.
    """

    def __init__(self, address: str = "127.0.0.1:9100", number: int = 2) -> None:
        super().__init__([])
        self.rig = ScrapedRig(number)
        self.metrics = Metrics(self.clock, self.rig.exposition)
        self.server = metricsServer(
            self.clock, self.metrics, readPlace("metrics", address)
        )

    def scrape(self, query: str = "", **headers: str) -> Reply:
        """
        Ask for metrics.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", f"/metrics{query}", headers=named)

    def begin(self) -> Line:
        """
        Begin a scrape by a client that reads nothing.
        """
        line = self.connect()
        line.channel.dataReceived(request("GET", "/metrics"))
        line.channel.pauseProducing()
        self.turns(3)
        return line


class ScrapeTests(SynchronousTestCase):
    """
    Requests for metrics.
    """

    def test_scrape(self) -> None:
        """
        A client gets all metrics as text, and the same compressed if it likes.
        """
        on = Scraping()
        reply = on.scrape()
        self.assertEqual(reply.status, 200)
        self.assertEqual(
            reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8"
        )
        self.assertEqual(reply.headers["vary"], "Accept, Accept-Encoding")
        self.assertIn(b'\niawlb_destination_up{destination="a"', reply.body)
        self.assertIn(b"\niawlb_scrapes_total 0.0\n", reply.body)
        packed = on.scrape("?scope=pool", Accept_Encoding="gzip")
        self.assertEqual(packed.headers["content-encoding"], "gzip")
        plain = on.scrape("?scope=pool")
        self.assertNotIn("content-encoding", plain.headers)
        self.assertEqual(gzip.decompress(packed.body), plain.body)
        self.assertIn(b"\niawlb_scrapes_total 3.0\n", on.scrape("?scope=balancer").body)

    def test_openMetrics(self) -> None:
        """
        A client that takes OpenMetrics alone gets it.
        """
        reply = Scraping().scrape(Accept="application/openmetrics-text;version=1.0.0")
        self.assertEqual(reply.status, 200)
        kind = reply.headers["content-type"]
        self.assertTrue(kind.startswith("application/openmetrics-text; version=1.0.0"))
        self.assertTrue(reply.body.endswith(b"# EOF\n"))

    def test_restricted(self) -> None:
        """
        A client may ask for some parts and some pools.
        """
        on = Scraping()
        on.rig.balancer.addPool("db")
        body = on.scrape("?scope=pool&pool=db").body
        self.assertIn(b'iawlb_pool_up{pool="db"}', body)
        for each in (b'"default"', b"iawlb_destination_up", b"process_"):
            self.assertNotIn(each, body)
        body = on.scrape("?scope=balancer,destination,destination").body
        self.assertIn(b"process_open_fds", body)
        self.assertEqual(body.count(b"# HELP iawlb_destination_up "), 1)
        self.assertNotIn(b"iawlb_pool", body)

    def test_wrong(self) -> None:
        """
        What cannot be asked for is answered with one line that says what can.
        """
        on = Scraping(number=1)
        for query, right in (
            (
                "?scope=pools",
                f"scope: 'pools' is not one of {SCOPED}",
            ),
            (
                "?scope=",
                f"scope: '' is not one of {SCOPED}",
            ),
            (
                "?scope=pool,",
                f"scope: '' is not one of {SCOPED}",
            ),
            ("?pool=default&pool=default", "pool is given twice"),
            ("?pools=web", "pools is not known: write pool"),
        ):
            reply = on.scrape(query)
            self.assertEqual((reply.status, reply.json["detail"]), (400, right))
        reply = on.scrape("?pool=web")
        right = "pool: 'web' is not one of default"
        self.assertEqual((reply.status, reply.json["detail"]), (404, right))
        for number in range(11):
            on.rig.balancer.addPool(f"p{number}")
        detail = on.scrape("?pool=web").json["detail"]
        self.assertTrue(detail.endswith("p7, p8 ..."), detail)

    def test_noPools(self) -> None:
        """
        Without a pool no name of a pool is right.
        """
        on = Scraping()
        with patch.object(type(on.rig.balancer), "pools", {}):
            reply = on.scrape("?pool=web")
        self.assertEqual(reply.json["detail"], "pool: 'web' is not one of none")

    def test_others(self) -> None:
        """
        The server serves nothing else: no other path, and no other method.
        """
        on = Scraping()
        for path in ("/", "/status", "/metrics/", "/pools"):
            reply = on.ask("GET", path)
            self.assertEqual(reply.status, 404)
            self.assertIn("there is /metrics", reply.json["detail"])
        reply = on.ask("POST", "/metrics", {})
        self.assertEqual(reply.status, 405)
        self.assertEqual(reply.headers["allow"], "GET, HEAD, OPTIONS")
        self.assertEqual(on.audited, [])

    def test_head(self) -> None:
        """
        HEAD is answered without the metrics.
        """
        reply = Scraping().ask("HEAD", "/metrics")
        self.assertEqual((reply.status, reply.body), (200, b""))


class LimitTests(SynchronousTestCase):
    """
    Scrapes that take long.
    """

    def setUp(self) -> None:
        # Each step is a turn.
        self.patch(module, "STEP", 0.0)

    def test_tooMany(self) -> None:
        """
        Only a few scrapes are answered at a time. When one of them ends, or its client
        leaves, the next is answered.
        """
        on = Scraping()
        lines = [on.begin() for _ in range(MOST_SCRAPES)]
        reply = on.scrape()
        self.assertEqual(reply.status, 503)
        self.assertEqual(reply.headers["retry-after"], "1")
        lines.pop().abortConnection()
        on.turns()
        text = on.scrape("?scope=balancer")
        self.assertEqual(text.status, 200)
        self.assertIn(b"\niawlb_scrapes_refused_total 1.0\n", text.body)
        for line in lines:
            line.channel.resumeProducing()
        on.turns(400)
        for line in lines:
            self.assertIn(b"iawlb_destination_session_seconds_sum", line.value())

    def test_head(self) -> None:
        """
        HEAD leaves no scrape under way.
        """
        on = Scraping()
        for _ in range(MOST_SCRAPES + 1):
            self.assertEqual(on.ask("HEAD", "/metrics").status, 200)

    def test_slowReader(self) -> None:
        """
        A client that reads nothing is cut, and no more is written for it meanwhile.
        """
        on = Scraping()
        line = on.begin()
        before = len(line.value())
        on.turns()
        self.assertEqual(len(line.value()), before)
        self.assertFalse(line.aborted)
        on.clock.advance(SCRAPE_WITHIN)
        self.assertTrue(line.aborted)
        self.assertEqual(on.scrape("?scope=balancer").status, 200)

    def test_raises(self) -> None:
        """
        If reading a value raises, the client is cut, as half of the metrics would look
        like all of them; and the log says why.
        """
        on = Scraping()
        del on.rig.sources.statistics._pools
        line = on.connect()
        line.channel.dataReceived(request("GET", "/metrics"))
        on.turns()
        self.assertTrue(line.aborted)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertEqual(on.clock.getDelayedCalls(), [])


class PlaceTests(SynchronousTestCase):
    """
    Who may read.
    """

    def test_anybody(self) -> None:
        """
        No token is needed, and any is taken: Prometheus may be configured to send one.
        """
        on = Scraping("0.0.0.0:9100")
        self.assertEqual(on.scrape(Host="iawlb.example:9100").status, 200)
        self.assertEqual(on.scrape(Authorization="Bearer x").status, 200)

    def test_loopback(self) -> None:
        """
        On an address of this machine alone, the pages of other sites cannot read by a
        name of theirs that points here.
        """
        on = Scraping()
        self.assertEqual(on.scrape(Host="evil.example").status, 421)
        self.assertEqual(on.scrape(Host="localhost:9100").status, 200)

    def test_unixSocket(self) -> None:
        """
        Whoever can open a Unix socket may read.
        """
        self.assertEqual(Scraping("/run/iawlb/metrics.sock").scrape().status, 200)

"""
Tests for the metrics as Prometheus reads them.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.admin import exposition as module
from iawlb.admin.destinationfamilies import DESTINATION
from iawlb.admin.exposition import (
    OPENMETRICS,
    SCOPES,
    Exposition,
    Format,
    chooseFormat,
)
from iawlb.admin.families import ALL
from iawlb.admin.family import CODES, Family
from iawlb.admin.gauges import oldestWait, slotsMissing
from iawlb.admin.sources import Sources
from iawlb.observe import bytecounts
from iawlb.observe.looplag import LoopLag
from iawlb.observe.statistics import KEEP_REMOVED
from tests.doubles import Backend, MemoryListener
from tests.pem import Issued
from tests.test_statistics import CountedRig

PLAIN = chooseFormat("", None)

EVERY: list[Family[Any]] = [each for families in ALL.values() for each in families]

NOT_ALWAYS = {
    "iawlb_destination_ends",
    "iawlb_destination_answer_time_seconds",
    "iawlb_destination_check_passed",
    "iawlb_destination_check_seconds",
    "iawlb_destination_asleep",
    "iawlb_destination_wakes",
    "iawlb_destination_wake_seconds",
}
"""
Metrics that have no value before a session or a check has ended, or under other
policies, or only for destinations that sleep.
"""

Values = dict[tuple[str, ...], float]


def parsedName(family: Family[Any]) -> str:
    """
    Return the name that the parser of plain text gives a metric.
    """
    return family.fullName if family.kind == "info" else family.name


def assertNotDecreasing(before: str, after: str) -> None:
    """
    Check that no counter is smaller than it was.
    """
    earlier, later = (
        {
            (name, *labels.values()): value
            for family in text_string_to_metric_families(text)
            if family.type == "counter"
            for name, labels, value, *_ in family.samples
        }
        for text in (before, after)
    )
    for key, value in earlier.items():
        assert later[key] >= value, key


FOLDER = tempfile.TemporaryDirectory()
CERTIFICATE = Path(FOLDER.name, "own.pem")
OWN = Issued("own", hosts=["localhost"])
CERTIFICATE.write_bytes(OWN.keyPem + OWN.pem)


class ScrapedRig(CountedRig):
    """
    A balancer in memory whose metrics are read.
    """

    def __init__(self, number: int = 1, **settings: Any) -> None:
        super().__init__(number, **settings)
        self.sources = Sources(self.balancer, self.statistics, LoopLag(self.clock))
        self.exposition = Exposition(self.sources)
        self.balancer.listen(
            MemoryListener(), name="secure", certificate=[str(CERTIFICATE)]
        )

    def text(
        self,
        format: Format = PLAIN,
        scopes: Sequence[str] = SCOPES,
        pools: Sequence[str] | None = None,
    ) -> bytes:
        """
        Read the metrics.
        """
        return b"".join(self.exposition.write(format, scopes, pools))

    def families(self, **asked: Any) -> dict[str, Metric]:
        """
        Read the metrics, each by its name.
        """
        text = self.text(**asked).decode()
        return {each.name: each for each in text_string_to_metric_families(text)}

    def values(self, **asked: Any) -> Values:
        """
        Read the value of each line, by its name and the values of its labels.
        """
        found: Values = {}
        for family in self.families(**asked).values():
            for name, labels, value, *_ in family.samples:
                key = (name, *(labels[each] for each in sorted(labels)))
                assert key not in found, key
                found[key] = value
        return found


class FormatTests(SynchronousTestCase):
    """
    The choice of a format.
    """

    def test_plain(self) -> None:
        """
        A client that does not ask for another format gets the plain text.
        """
        for accept in (None, "", "*/*", "text/html", "text/plain;version=0.0.4"):
            chosen = chooseFormat(accept, None)
            self.assertEqual(
                chosen.contentType, "text/plain; version=0.0.4; charset=utf-8"
            )
            self.assertFalse(chosen.gzip)

    def test_openMetrics(self) -> None:
        """
        A client that asks for OpenMetrics gets it.
        """
        for accept in (OPENMETRICS, f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5"):
            chosen = chooseFormat(accept, None)
            self.assertTrue(chosen.contentType.startswith(OPENMETRICS))

    def test_madeUpVersion(self) -> None:
        """
        A client that asks for a version that there is not gets one that there is, and
        nothing of what it wrote.
        """
        for version in ("abc", "1.x", "", "0.0.1", "9" * 5000):
            chosen = chooseFormat(f"{OPENMETRICS};version={version};escaping=x", None)
            self.assertTrue(
                chosen.contentType == PLAIN.contentType
                or "; version=1.0.0;" in chosen.contentType,
                chosen.contentType[:99],
            )
        for version in ("2.0.0", "2.<script>", "9.\x7f", "9" * 4000):
            chosen = chooseFormat(f"{OPENMETRICS};version={version}", None)
            right = chooseFormat(f"{OPENMETRICS};version=1.0.0", None)
            self.assertEqual(chosen.contentType, right.contentType)

    def test_gzip(self) -> None:
        """
        The text is compressed for a client that takes that.
        """
        for encoding, expected in (
            ("gzip", True),
            ("deflate, GZIP;q=0.5", True),
            ("gzip;q=0", False),
            ("gzip; q=0.000", False),
            ("br", False),
            ("", False),
        ):
            self.assertEqual(chooseFormat(None, encoding).gzip, expected, encoding)


class TextTests(SynchronousTestCase):
    """
    What is written.
    """

    def test_everyMetricIsWritten(self) -> None:
        """
        All metrics of the table are there, with their help and kind; in both formats
        the same.
        """
        rig = ScrapedRig(2, policy="quick", healthCheck="tcp")
        client = rig.client()
        rig.backends[0].wires[0].receive(b"answer")
        rig.finish(client)
        rig.advance(2.5)
        rig.pool.add(Backend(), {"name": "sleeper", "ensureRunning": print})
        found = rig.families()
        self.assertEqual(
            sorted(found),
            sorted(parsedName(each) for each in EVERY),
        )
        for each in EVERY:
            written = found[parsedName(each)]
            self.assertEqual(written.documentation, each.text)
            kind = "gauge" if each.kind == "info" else each.kind
            self.assertEqual(written.type, kind)
        text = rig.text(chooseFormat(f"{OPENMETRICS};version=1.0.0", None)).decode()
        self.assertTrue(text.endswith("# EOF\n"))
        self.assertEqual(text.count("# EOF"), 1)
        names = [each.name for each in openmetrics.text_string_to_metric_families(text)]
        self.assertEqual(names, [each.name for each in EVERY])

    def test_compressed(self) -> None:
        """
        The compressed text is the same.
        """
        rig = ScrapedRig(2)
        scopes = ("pool", "destination")
        packed = rig.text(chooseFormat(None, "gzip"), scopes)
        self.assertEqual(gzip.decompress(packed), rig.text(scopes=scopes))

    def test_manyDestinations(self) -> None:
        """
        With many destinations each metric still has its help once, and every
        destination its line; and the text is written in many steps.
        """
        rig = ScrapedRig(0)
        for number in range(100):
            rig.pool.add(Backend(), {"name": f"d{number}"})
        rig.client()
        with (
            patch.object(module, "STEP", 0.0),
            patch.object(bytecounts, "SESSIONS_A_STEP", 1),
        ):
            steps = list(rig.exposition.write(PLAIN, SCOPES, None))
        self.assertGreater(len(steps), 100)
        text = b"".join(steps).decode()
        for each in DESTINATION:
            times = 0 if each.name in NOT_ALWAYS else 1
            self.assertEqual(text.count(f"# HELP {each.fullName} "), times)
        self.assertEqual(text.count("\niawlb_destination_up{"), 100)

    def test_strangeNames(self) -> None:
        """
        The name of a destination may hold what the format gives a meaning.
        """
        rig = ScrapedRig(0)
        names = ['a"b', "back\\slash", "{x=1}", "/run/app.sock", "größe,#", "\\n"]
        for name in names:
            rig.pool.add(Backend(), {"name": name})
        found = rig.values(scopes=["destination"])
        shown = [key[1] for key in found if key[0] == "iawlb_destination_up"]
        self.assertEqual(shown, names)

    def test_endsMeanwhile(self) -> None:
        """
        No counter goes down from one scrape to the next, although sessions move bytes
        and end while the first is being written.
        """
        rig = ScrapedRig(2)
        clients = rig.clients(6)
        with patch.object(module, "STEP", 0.0):
            steps = rig.exposition.write(PLAIN, SCOPES, None)
            written = []
            for step in steps:
                written.append(step)
                if clients and len(written) % 2:
                    clients[-1].receive(b"12")
                    clients.pop().lose(reset=True)
        before = b"".join(written).decode()
        after = rig.text().decode()
        self.assertIn('iawlb_pool_bytes_in_total{pool="default"} 12.0\n', after)
        assertNotDecreasing(before, after)

    def test_scopes(self) -> None:
        """
        A scrape can be restricted to some parts.
        """
        rig = ScrapedRig()
        for scope, families in ALL.items():
            names = {parsedName(each) for each in families}
            found = {*rig.families(scopes=[scope])}
            self.assertEqual(found - NOT_ALWAYS, names - NOT_ALWAYS, scope)

    def test_tls(self) -> None:
        """
        The metrics say when each certificate expires, and whether changed files cannot
        be used.
        """
        rig = ScrapedRig()
        rig.clock.advance(1)
        found = rig.values()
        key = ("secure", "default")
        self.assertEqual(found["iawlb_certificates_current", *key], 1)
        name = "iawlb_certificate_expiry_timestamp_seconds"
        expiry = OWN.certificate.not_valid_after_utc.timestamp()
        self.assertEqual(found[name, "localhost", *key], expiry)
        away = CERTIFICATE.with_suffix(".away")
        os.rename(CERTIFICATE, away)
        self.addCleanup(os.rename, away, CERTIFICATE)
        rig.clock.advance(1)
        found = rig.values()
        self.assertEqual(found["iawlb_certificates_current", *key], 0)
        self.assertEqual(found[name, "localhost", *key], expiry)

    def test_pools(self) -> None:
        """
        A scrape can be restricted to some pools.
        """
        rig = ScrapedRig()
        rig.balancer.addPool("db").add(Backend(), {"name": "a"})
        rig.statistics.adopt(rig.balancer.pools["db"].destinations)
        up = ("iawlb_destination_up", "a")
        found = rig.values()
        self.assertEqual((found[*up, "default"], found[*up, "db"]), (1, 1))
        found = rig.values(pools=["db", "gone"])
        self.assertNotIn((*up, "default"), found)
        self.assertIn((*up, "db"), found)
        self.assertNotIn(("iawlb_pool_up", "default"), found)


class ValueTests(SynchronousTestCase):
    """
    The values.
    """

    def test_sessions(self) -> None:
        """
        Sessions, bytes and times appear at the pool and at the destination, those of
        running sessions included.
        """
        rig = ScrapedRig(slots=1)
        client, waiting = rig.clients(2)
        client.receive(b"1234")
        rig.backends[0].wires[0].receive(b"56")
        rig.clock.advance(2)
        found = rig.values()
        for name, value in {
            "iawlb_current_sessions": 2,
            "iawlb_stopping": 0,
        }.items():
            self.assertEqual(found[name,], value, name)
        pool = {
            "up": 1,
            "current_sessions": 2,
            "active": 1,
            "slots": 0,
            "paused": 0,
            "stopped": 0,
            "waiting": 1,
            "oldest_wait_seconds": 2,
            "slots_missing": 1,
            "queue_size": 10_000,
            "accepted_total": 2,
            "sessions_total": 1,
            "bytes_in_total": 4,
            "bytes_out_total": 2,
            "connect_attempts_total": 1,
            "connect_errors_total": 0,
            "put_backs_total": 0,
            "accept_pauses_total": 0,
            "session_seconds_count": 0,
        }
        for name, value in pool.items():
            self.assertEqual(found[f"iawlb_pool_{name}", "default"], value, name)
        row = {
            "up": 1,
            "paused": 0,
            "draining": 0,
            "active": 1,
            "slots": 1,
            "sessions_total": 1,
            "bytes_in_total": 4,
            "bytes_out_total": 2,
            "connect_attempts_total": 1,
            "connect_errors_total": 0,
            "put_backs_total": 0,
            "downs_total": 0,
            "connect_seconds_count": 0,
        }
        for name, value in row.items():
            key = f"iawlb_destination_{name}", "a", "default"
            self.assertEqual(found[key], value, name)
        rig.finish(client)
        rig.finish(waiting)
        found = rig.values()
        buckets = "iawlb_pool_queue_wait_seconds_bucket"
        self.assertEqual(found[buckets, "0.001", "default"], 1)
        self.assertEqual(found[buckets, "2.5", "default"], 2)
        self.assertEqual(found[buckets, "+Inf", "default"], 2)
        self.assertEqual(found["iawlb_pool_queue_wait_seconds_sum", "default"], 2)
        self.assertEqual(found["iawlb_pool_ends_total", "--", "default"], 2)
        self.assertEqual(found["iawlb_destination_ends_total", "--", "a", "default"], 2)
        self.assertEqual(
            {key[1] for key in found if key[0] == "iawlb_pool_ends_total"}, set(CODES)
        )

    def test_states(self) -> None:
        """
        Each destination shows whether it is up, paused or draining.
        """
        rig = ScrapedRig(3)
        rig.pool.workers["a"].nameFailed(Failure(ConnectionRefusedError()))
        rig.balancer.pause("b")
        rig.client()
        rig.balancer.remove("c")
        found = rig.values()
        for name, expected in (
            ("up", (0, 1, 1)),
            ("paused", (0, 1, 0)),
            ("draining", (0, 0, 1)),
        ):
            metric = f"iawlb_destination_{name}"
            values = tuple(found[metric, each, "default"] for each in "abc")
            self.assertEqual(values, expected, name)
        states = {
            key[2]: value
            for key, value in found.items()
            if key[0] == "iawlb_pool_destinations"
        }
        some = {state: number for state, number in states.items() if number}
        self.assertEqual(some, {"down": 1, "paused": 1, "draining": 1})
        others = {"up", "standby", "asleep", "waking"}
        self.assertEqual(set(states) - set(some), others)
        self.assertEqual(found["iawlb_pool_up", "default"], 0)

    def test_poolAddedAgain(self) -> None:
        """
        If a pool is removed and added again while its sessions go on, they still count,
        and no counter goes down.
        """
        rig = ScrapedRig()
        client = rig.client()
        before = rig.text(scopes=["pool"]).decode()
        rig.balancer.removePool("default")
        self.assertNotIn(("iawlb_pool_up", "default"), rig.values())
        rig.balancer.addPool("default")
        after = rig.text(scopes=["pool"]).decode()
        found = rig.values(scopes=["pool"])
        self.assertEqual(found["iawlb_pool_accepted_total", "default"], 1)
        self.assertEqual(found["iawlb_pool_current_sessions", "default"], 1)
        assertNotDecreasing(before, after)
        rig.finish(client)
        assertNotDecreasing(after, rig.text(scopes=["pool"]).decode())

    def test_poolStates(self) -> None:
        """
        A pool shows its slots, and whether it is paused or stopped.
        """
        rig = ScrapedRig()
        rig.pool.setPoolSlots(7)
        rig.pool.pause("me")
        found = rig.values(scopes=["pool"])
        for name, value in {"slots": 7, "paused": 1, "stopped": 0, "up": 1}.items():
            self.assertEqual(found[f"iawlb_pool_{name}", "default"], value, name)
        rig.pool.refuse()
        found = rig.values(scopes=["pool"])
        self.assertEqual(found["iawlb_pool_stopped", "default"], 1)

    def test_removed(self) -> None:
        """
        A removed destination keeps its counters for a while, and has no gauges. Then
        its series end, and those of its pool do not go down.
        """
        rig = ScrapedRig()
        rig.finish(rig.client())
        self.successResultOf(rig.balancer.remove("a"))
        found = rig.values()
        self.assertEqual(found["iawlb_destination_sessions_total", "a", "default"], 1)
        self.assertNotIn(("iawlb_destination_up", "a", "default"), found)
        self.assertEqual(found["iawlb_pool_sessions_total", "default"], 1)
        rig.clock.advance(KEEP_REMOVED)
        found = rig.values()
        self.assertEqual([key for key in found if "destination_" in key[0]], [])
        self.assertEqual(found["iawlb_pool_sessions_total", "default"], 1)

    def test_acceptPauses(self) -> None:
        """
        It is counted how many times accepting is paused for lack of room: once as long
        as it lasts.
        """
        rig = ScrapedRig(slots=1, queueSize=4)
        clients = rig.clients(5)
        self.assertEqual(rig.pool.acceptPauses, 0)
        self.assertEqual([rig.pool._room() for _ in range(3)], [0, 0, 0])
        self.assertEqual(rig.pool.acceptPauses, 1)
        clients.pop().lose()
        rig.pool.checkRoom()
        self.assertEqual([rig.pool._room() for _ in range(2)], [1, 1])
        rig.clients(1)
        self.assertEqual([rig.pool._room() for _ in range(2)], [0, 0])
        self.assertEqual(rig.pool.acceptPauses, 2)


class GaugeTests(SynchronousTestCase):
    """
    Numbers that are worked out.
    """

    def test_oldestWait(self) -> None:
        """
        The wait of the oldest client, if one waits.
        """
        rig = CountedRig(slots=1)
        rig.client()
        self.assertIsNone(oldestWait(rig.pool, rig.clock.seconds()))
        rig.client()
        rig.clock.advance(3)
        rig.client()
        self.assertEqual(oldestWait(rig.pool, rig.clock.seconds()), 3)

    def test_slotsMissing(self) -> None:
        """
        As many slots are missing as clients wait, less the slots that are free.
        """
        rig = CountedRig(2, slots=1)
        self.assertEqual(slotsMissing(rig.pool), 0)
        rig.clients(5)
        self.assertEqual(slotsMissing(rig.pool), 3)
        rig.pool.destinations[0].slots = 3
        self.assertEqual(slotsMissing(rig.pool), 1)
        rig.balancer.pause("a")
        self.assertEqual(slotsMissing(rig.pool), 3)
        rig.pool.destinations[1].slots = 0
        self.assertEqual(slotsMissing(rig.pool), 0)

    def test_slotsMissingOfThePool(self) -> None:
        """
        The slots of the pool as a whole count too. In a pause no slots are missing,
        however many clients wait for its end.
        """
        rig = CountedRig(2, slots=2)
        rig.pool.setPoolSlots(1)
        rig.clients(5)
        self.assertEqual(slotsMissing(rig.pool), 4)
        rig.pool.setPoolSlots(2)
        self.assertEqual(slotsMissing(rig.pool), 3)
        rig.pool.pause("me")
        self.assertEqual(slotsMissing(rig.pool), 0)

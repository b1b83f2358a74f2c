"""
Tests that the page of metrics, the dashboard and the alerts name what there is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from iawlb.admin.families import ALL, LABELS
from iawlb.admin.family import Family
from tests.test_docs import DOCS, table

HEADINGS = {
    "balancer": "The balancer",
    "pool": "Pools",
    "destination": "Destinations",
    "listener": "TLS listeners",
    "certificate": "Certificates",
}

ENDINGS = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}


def written(family: Family[Any]) -> Iterator[str]:
    """
    Name the series of a metric.
    """
    for ending in ENDINGS.get(family.kind, ("",)):
        yield family.fullName + ending


SERIES = {
    name for families in ALL.values() for each in families for name in written(each)
}


def namesIn(query: str) -> set[str]:
    """
    Name the series that a text asks for.
    """
    return set(re.findall(r"\b(?:iawlb|process)_\w+", query))


def queriesOf(value: Any) -> Iterator[str]:
    """
    Find all queries of a dashboard.
    """
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("expr", "definition"):
                yield each
            else:
                yield from queriesOf(each)
    elif isinstance(value, list):
        for each in value:
            yield from queriesOf(each)


def dashboard() -> dict[str, Any]:
    """
    Read the dashboard.
    """
    read: dict[str, Any] = json.loads((DOCS / "grafana" / "iawlb.json").read_text())
    return read


class MetricsPageTests(SynchronousTestCase):
    """
    The page of metrics.
    """

    def test_allMetrics(self) -> None:
        """
        The tables list all metrics with their kinds, labels and meanings.
        """
        for scope, families in ALL.items():
            expected = []
            for each in families:
                labels = [*LABELS[scope], *([each.label] if each.label else [])]
                if each.kind == "info":
                    labels += ["version", "python", "twisted"]
                name = each.fullName
                expected.append([name, each.kind, ", ".join(labels), each.text])
            self.assertEqual(table("metrics.md", HEADINGS[scope]), expected)


class DashboardTests(SynchronousTestCase):
    """
    The dashboard for Grafana.
    """

    def test_asksForWhatThereIs(self) -> None:
        """
        Each query asks for metrics that there are.
        """
        queries = list(queriesOf(dashboard()))
        self.assertGreater(len(queries), 30)
        for query in queries:
            names = namesIn(query)
            self.assertTrue(names, query)
            self.assertLessEqual(names, SERIES, query)

    def test_panels(self) -> None:
        """
        No two panels overlap, and each has its own number and a data source that the
        user chooses.
        """
        panels = dashboard()["panels"]
        self.assertEqual(len({each["id"] for each in panels}), len(panels))
        covered: set[tuple[int, int]] = set()
        for each in panels:
            place = each["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), covered, each["title"])
                    covered.add((x, y))
            for target in each.get("targets", []):
                self.assertEqual(target["datasource"]["uid"], "${datasource}")


class AlertTests(SynchronousTestCase):
    """
    The alerts for Prometheus.
    """

    def test_askForWhatThereIs(self) -> None:
        """
        Each alert asks for metrics that there are, and has a test.
        """
        alerts = (DOCS / "prometheus" / "alerts.yml").read_text()
        tests = (DOCS / "prometheus" / "alerts_test.yml").read_text()
        self.assertLessEqual(namesIn(alerts), SERIES)
        self.assertLessEqual(namesIn(tests), SERIES)
        defined = re.findall(r"- alert: (\w+)", alerts)
        self.assertGreater(len(defined), 10)
        for each in defined:
            self.assertIn(f"alertname: {each}\n        exp_alerts:\n", tests)

"""
Metrics as Prometheus and its tools read them.
"""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.conftest import Balancers, Start
from tests.integration.programs import (
    Balancer,
    Program,
    Web,
    answers,
    ask,
    connect,
    freePort,
    run,
    until,
)
from tests.test_docs import DOCS
from tests.test_metricsdocs import dashboard, queriesOf


def metered(
    balancer: Balancers, *destinations: int, drain: str = "30s"
) -> tuple[Balancer, int]:
    """
    Start a balancer with metrics.

    @return: The balancer, and the port of the metrics.
    """
    port = freePort()
    options = ["--metrics", f"127.0.0.1:{port}", "--slots", "1"]
    options += ["--drain-timeout", drain]
    return balancer(*destinations, options=options), port


def scrape(port: int, *options: str, query: str = "") -> bytes:
    """
    Read the metrics with curl.
    """
    url = f"http://127.0.0.1:{port}/metrics{query}"
    return run("curl", "-sSf", "-m", "10", *options, url)


def test_promtoolTakesTheMetrics(web: Web, balancer: Balancers) -> None:
    """
    Prometheus' own tool finds nothing wrong with the names, the help and the text
    of the metrics.
    """
    web.put("page", b"hello")
    front, port = metered(balancer, web.port)
    ask(front.port, "/page")
    text = scrape(port)
    assert b"iawlb_destination_sessions_total{" in text
    assert run("promtool", "check", "metrics", give=text) == b""
    assert scrape(port, "--compressed").count(b"\n") == text.count(b"\n")
    accept = "Accept: application/openmetrics-text;version=1.0.0"
    assert scrape(port, "-H", accept).endswith(b"# EOF\n")


def test_alerts() -> None:
    """
    Prometheus' own tool reads the alerts, and they fire when they should, and not
    before.
    """
    folder = DOCS / "prometheus"
    run("promtool", "check", "rules", str(folder / "alerts.yml"))
    said = run("promtool", "test", "rules", str(folder / "alerts_test.yml"))
    assert b"SUCCESS" in said


def test_queries(tmp_path: Path) -> None:
    """
    Prometheus understands each query of the dashboard and of the how-to.
    """
    (section,) = re.findall(
        r"^## Alert on clients.*?^## ",
        (DOCS / "howto.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    queries = re.findall(r"^(?:iawlb_|histogram|rate\().*$", section, re.MULTILINE)
    queries = [each for each in queries if not re.search(r"\} \d", each)]
    assert len(queries) >= 4, queries
    # What is asked of Grafana itself is no query of Prometheus'.
    queries += [each for each in queriesOf(dashboard()) if "label_values" not in each]
    rules = [
        {
            "record": f"query:{number}",
            "expr": each.replace("$__rate_interval", "1m").replace("$", "x"),
        }
        for number, each in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    # JSON is YAML too.
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    said = run("promtool", "check", "rules", str(file))
    assert f"{len(queries)} rules found".encode() in said


class Prometheus(Program):
    """
    A Prometheus that reads the metrics of a balancer several times a second.
    """

    def __init__(self, folder: Path, metrics: int) -> None:
        """
        @param metrics: The port of the metrics.
        """
        self.port = freePort()
        settings = {
            "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
            "scrape_configs": [
                {
                    "job_name": "iawlb",
                    "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}],
                }
            ],
            "rule_files": [str(DOCS / "prometheus" / "alerts.yml")],
        }
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(settings))
        run("promtool", "check", "config", str(file))
        super().__init__(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            folder,
            ready=lambda: answers(self.port) and self.isReady,
        )

    @property
    def isReady(self) -> bool:
        """
        Whether the API answers.
        """
        return b" 200 OK" in ask(self.port, "/-/ready").partition(b"\n")[0]

    def get(self, path: str, **parameters: str) -> Any:
        """
        Ask the API.
        """
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        return json.loads(run("curl", "-sSf", "-m", "10", url))["data"]

    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """
        Return the labels and the value of each series that a query finds now.
        """
        return [
            (each["metric"], float(each["value"][1]))
            for each in self.get("query", query=query)["result"]
        ]

    def value(self, query: str) -> float | None:
        """
        Return the only value that a query finds, if it finds one.
        """
        found = self.query(query)
        return found[0][1] if found else None


@pytest.fixture
def silent() -> Iterator[int]:
    """
    A listening port that takes connections and says nothing.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_prometheus(
    web: Web, balancer: Balancers, start: Start, tmp_path: Path
) -> None:
    """
    A Prometheus reads the balancer's metrics, knows the alerts, and answers who waits,
    for how long, and what each destination has served.
    """
    web.put("page", b"hello")
    front, port = metered(balancer, web.port)
    for _ in range(5):
        ask(front.port, "/page")
    prometheus = Prometheus(tmp_path, port)
    start(prometheus)
    until(lambda: prometheus.value("up") == 1, "a scrape")
    until(
        lambda: prometheus.value("iawlb_pool_sessions_total") == 5,
        "the sessions in Prometheus",
    )
    name = f"127.0.0.1:{web.port}"
    found = prometheus.query("iawlb_destination_sessions_total")
    assert [(labels["destination"], value) for labels, value in found] == [(name, 5)]
    assert prometheus.value('iawlb_pool_ends_total{code="--"}') == 5
    (rules,) = prometheus.get("rules")["groups"]
    assert len(rules["rules"]) > 10
    assert {each["health"] for each in rules["rules"]} <= {"ok", "unknown"}


def test_whoWaits(
    silent: int, balancer: Balancers, start: Start, tmp_path: Path
) -> None:
    """
    Clients that wait show in Prometheus, with the wait of the oldest and the slots
    that are missing; and they can be seen while the balancer drains.
    """
    front, port = metered(balancer, silent, drain="5s")
    prometheus = Prometheus(tmp_path, port)
    start(prometheus)
    clients = [connect(front.port) for _ in range(4)]
    until(lambda: prometheus.value("iawlb_pool_waiting") == 3, "three clients wait")
    until(lambda: prometheus.value("iawlb_pool_slots_missing") == 3, "missing slots")
    until(
        lambda: (prometheus.value("iawlb_pool_oldest_wait_seconds") or 0) > 0.2,
        "the wait of the oldest",
    )
    front.send(signal.SIGTERM)
    until(lambda: prometheus.value("iawlb_stopping") == 1, "the drain in Prometheus")
    for each in clients:
        each.close()
    until(lambda: not front.running, "the end of the drain")
    until(lambda: prometheus.value("up") == 0, "the end in Prometheus")


def test_slowScrapers(web: Web, balancer: Balancers) -> None:
    """
    Clients of the metrics that ask nothing, or read nothing, keep nobody else from the
    metrics, and no client from the balancer.
    """
    web.put("page", b"hello")
    front, port = metered(balancer, web.port)
    idle = [connect(port) for _ in range(100)]
    lazy = [connect(port) for _ in range(3)]
    for each in lazy:
        each.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    until(lambda: ask(front.port, "/page").endswith(b"hello"), "an answer")
    until(lambda: b"iawlb_pool_up" in scrape(port), "the metrics")
    for each in (*idle, *lazy):
        each.close()


def test_failedReload(web: Web, balancer: Balancers, tmp_path: Path) -> None:
    """
    A reload that failed shows in the metrics until one has succeeded.
    """
    port, metrics = freePort(), freePort()
    file = tmp_path / "iawlb.toml"
    text = (
        f'[pools.web]\nlisten = "127.0.0.1:{port}"\n'
        f'destinations = {{ a = "127.0.0.1:{web.port}" }}\n'
        f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n'
    )
    file.write_text(text)
    front = balancer.run(port, ["--config", str(file)])

    def successful() -> float:
        found = re.search(
            rb"^iawlb_config_last_reload_successful (\S+)$",
            scrape(metrics, query="?scope=balancer"),
            re.MULTILINE,
        )
        assert found is not None
        return float(found[1])

    assert successful() == 1
    file.write_text(text.replace("127.0.0.1", "nowhere at all"))
    front.send(signal.SIGHUP)
    until(lambda: successful() == 0, "the failed reload in the metrics")
    file.write_text(text)
    front.send(signal.SIGHUP)
    until(lambda: successful() == 1, "the reload in the metrics")

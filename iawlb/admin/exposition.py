"""
L{Exposition}, all metrics as text for Prometheus, written in short steps.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from iawlb.admin.balancerfamilies import BALANCER
from iawlb.admin.destinationfamilies import DESTINATION
from iawlb.admin.families import ALL, LABELS, POOL
from iawlb.admin.family import BalancerView, DestinationView, Family, PoolView
from iawlb.admin.sources import Sources
from iawlb.admin.tlsfamilies import CERTIFICATE, LISTENER, CertificateView
from iawlb.core.destination import Destination
from iawlb.observe.bytecounts import ByteCounts
from iawlb.observe.counts import ConnectCounts, PoolStatistics
from iawlb.observe.processfigures import ProcessFigures
from iawlb.pool import Pool

SCOPES = tuple(ALL)
"""
The parts that can be asked for.
"""

SAMPLES_A_STEP = 16
"""
About how many lines are written in one step. A line takes about 4 us.
"""

STEP = 0.0002
"""
How long steps are taken one after the other before the reactor has its turn, in
seconds.
"""

OPENMETRICS = "application/openmetrics-text"

END = b"# EOF\n"
"""
The last line of OpenMetrics.
"""

Encoder = Callable[[Collector], bytes]
Values = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Format:
    """
    A format that metrics are written in.

    @ivar encoder: Writes metrics as text.
    @ivar contentType: The type of the text.
    @ivar gzip: Whether the text is compressed.
    """

    encoder: Encoder
    contentType: str
    gzip: bool


def chooseFormat(accept: str | None, encoding: str | None) -> Format:
    """
    Choose how to write metrics.

    @param accept: The header C{Accept} of the request.
    @param encoding: The header C{Accept-Encoding} of the request.
    """
    try:
        encoder, contentType = choose_encoder(accept or "")
    except TypeError:  # a version that is no number
        encoder, contentType = choose_encoder("")
    if OPENMETRICS in contentType and "; version=1.0.0;" not in contentType:
        # The text is that of version 1.0.0, and not that of one which the client has
        # made up.
        encoder, contentType = choose_encoder(f"{OPENMETRICS};version=1.0.0")
    return Format(encoder, contentType, _acceptsGzip(encoding or ""))


def _acceptsGzip(encoding: str) -> bool:
    for each in encoding.lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        if name == "gzip":
            return not any(re.fullmatch(r"q=0(\.0*)?", part) for part in parameters)
    return False


class _Part(Collector):
    """
    A part of a metric, as a collector.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """
        Return the part.
        """
        return (self._metric,)


class _Text:
    """
    Writes metrics as text, each in several parts.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        # Whether this is OpenMetrics, which has a last line.
        self._ends = encoder(_Part(Metric("x", "", "gauge"))).endswith(END)

    def part(self, metric: Metric, first: bool) -> bytes:
        """
        Write a part of a metric.

        @param first: Whether it is the metric's first part, which begins with its help
            and type.
        """
        text = self._encoder(_Part(metric))
        if self._ends:
            text = text[: -len(END)]
        while not first and text.startswith(b"#"):
            text = text.partition(b"\n")[2]
        return text

    def end(self) -> bytes:
        """
        Write what comes after the last metric.
        """
        return END if self._ends else b""


class Exposition:
    """
    All metrics as text.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources

    def write(
        self, format: Format, scopes: Sequence[str], pools: Sequence[str] | None
    ) -> Iterator[bytes]:
        """
        Write metrics, in steps of about a quarter of a millisecond.

        @param scopes: Which of L{SCOPES} to write.
        @param pools: The names of the pools to write; L{None} for all.
        """
        compressor = zlib.compressobj(1, zlib.DEFLATED, 31) if format.gzip else None
        written = bytearray()
        until = perf_counter() + STEP
        for text in self._steps(_Text(format.encoder), scopes, pools):
            written += text if compressor is None else compressor.compress(text)
            if perf_counter() >= until:
                yield bytes(written)
                written.clear()
                until = perf_counter() + STEP
        if compressor is not None:
            written += compressor.flush()
        yield bytes(written)

    def _steps(
        self, text: _Text, scopes: Sequence[str], pools: Sequence[str] | None
    ) -> Iterator[bytes]:
        """
        Write metrics in short steps; a step may write nothing.
        """
        sources = self.sources
        if "balancer" in scopes:
            yield from self._balancer(text)
        statistics = sources.statistics
        statistics.forget()
        known = sources.balancer.pools
        wanted = {
            name: known[name]
            for name in (known if pools is None else pools)
            if name in known
        }
        moved = ByteCounts(statistics, sources.balancer.table)
        yield b""
        for _ in moved.add():
            yield b""
        sums = {name: ConnectCounts() for name in wanted}
        views: list[tuple[Values, DestinationView]] = []
        current: dict[tuple[str, str], Destination] = {}
        for pool in wanted.values():
            for number, each in enumerate(pool.destinations):
                current[pool.name, each.name] = each
                if number % SAMPLES_A_STEP == 0:
                    yield b""
        for number, (key, row) in enumerate(list(statistics.destinations.items())):
            if key[0] in sums:
                sums[key[0]].add(row)
                total = moved.destinations.get(key, [0, 0])
                views.append((key, DestinationView(current.get(key), row, total)))
            if number % SAMPLES_A_STEP == 0:
                yield b""
        if "pool" in scopes:
            now = sources.balancer.clock.seconds()
            poolViews: list[tuple[Values, PoolView]] = []
            for name, pool in wanted.items():
                counts = statistics.pools.get(name, PoolStatistics())
                sums[name].add(counts.forgotten)
                total = moved.pools.get(name, [0, 0])
                live = pool.count.live + sum(
                    each.count.live
                    for each in sources.balancer.closing
                    if each.name == name
                )
                accepted = counts.ended + live
                view = PoolView(pool, counts, live, accepted, total, sums[name], now)
                poolViews.append(((name,), view))
            yield from _families(text, POOL, LABELS["pool"], poolViews)
        if "destination" in scopes:
            yield from _families(text, DESTINATION, LABELS["destination"], views)
        if "listener" in scopes or "certificate" in scopes:
            yield from self._tls(text, scopes, wanted.values())
        yield text.end()

    def _tls(
        self, text: _Text, scopes: Sequence[str], pools: Iterable[Pool]
    ) -> Iterator[bytes]:
        """
        Write the metrics of listeners that end TLS.
        """
        listeners: list[tuple[Values, Any]] = []
        shown: dict[Values, CertificateView] = {}
        for pool in pools:
            for each in pool.listeners:
                own = each.certificates
                if own is None:
                    continue
                own.look()
                labels = pool.name, each.name
                listeners.append((labels, own))
                for certificate in own.shown:
                    until = CertificateView(certificate.until.timestamp())
                    shown[*labels, certificate.name] = until
                yield b""
        if "listener" in scopes:
            yield from _families(text, LISTENER, LABELS["listener"], listeners)
        if "certificate" in scopes:
            views = list(shown.items())
            yield from _families(text, CERTIFICATE, LABELS["certificate"], views)

    def _balancer(self, text: _Text) -> Iterator[bytes]:
        """
        Write the metrics of the whole balancer.
        """
        process = ProcessFigures()
        for _ in self.sources.process.read(process):
            yield b""
        view = BalancerView(self.sources, process)
        yield from _families(text, BALANCER, LABELS["balancer"], [((), view)])


def _families(
    text: _Text,
    families: Sequence[Family[Any]],
    names: tuple[str, ...],
    views: Sequence[tuple[Values, Any]],
) -> Iterator[bytes]:
    """
    Write families of metrics in short steps.

    @param names: The names of the labels.
    @param views: What each value is read from, with the values of the labels.
    """
    for family in families:
        first = True
        size = max(1, SAMPLES_A_STEP // family.samples)
        for begin in range(0, len(views), size):
            metric = family.empty(names)
            for labels, view in views[begin : begin + size]:
                family.add(metric, labels, view)
            if metric.samples:
                yield text.part(metric, first)
                first = False

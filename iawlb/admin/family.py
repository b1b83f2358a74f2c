"""
What a metric is: name, kind, help, how its value is read, and what from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.utils import floatToGoString

from iawlb.admin.sources import Sources
from iawlb.core.destination import Destination
from iawlb.core.outcome import Outcome
from iawlb.observe.counts import (
    ConnectCounts,
    DestinationStatistics,
    Histogram,
    PoolStatistics,
)
from iawlb.observe.processfigures import ProcessFigures
from iawlb.pool import Pool

CODES = tuple(dict.fromkeys(each.code for each in Outcome))
"""
The codes of all ways in which a session can end.
"""

STATES = ("up", "down", "paused", "draining", "standby", "asleep", "waking")
"""
The states of a destination.
"""

View = TypeVar("View")


class BalancerView(NamedTuple):
    """
    What the metrics of the whole balancer are read from.
    """

    sources: Sources
    process: ProcessFigures


class PoolView(NamedTuple):
    """
    What a pool's metrics are read from.

    @ivar live: The number of its sessions that live, those included of a pool of the
        same name that was removed.
    @ivar accepted: The number of those that have begun.
    @ivar bytes: Bytes in and out, those of running sessions included.
    @ivar connects: The counts of all the pool's destinations.
    """

    pool: Pool
    counts: PoolStatistics
    live: int
    accepted: int
    bytes: list[int]
    connects: ConnectCounts
    now: float


class DestinationView(NamedTuple):
    """
    What a destination's metrics are read from.

    @ivar destination: The destination, or L{None} if it was removed.
    @ivar bytes: Bytes in and out, those of running sessions included.
    """

    destination: Destination | None
    counts: DestinationStatistics
    bytes: list[int]


@dataclass(frozen=True, slots=True)
class Family(Generic[View]):
    """
    One metric.

    @ivar name: The metric's name, without the ending that its kind gives it.
    @ivar kind: C{gauge}, C{counter}, C{histogram}, C{summary} or C{info}.
    @ivar text: What the metric says.
    @ivar read: Reads the value: a number for a gauge or a counter, a L{Histogram}, or
        the count and the sum of a summary. A mapping has one value for each value of
        the label C{label}. L{None} is no value.
    @ivar label: The name of the label that the keys of a mapping are values of.
    @ivar samples: About how many lines each value takes.
    """

    name: str
    kind: str
    text: str
    read: Callable[[View], Any]
    label: str | None = None
    samples: int = 1

    @property
    def fullName(self) -> str:
        """
        The name as queries write it.
        """
        endings = {"counter": "_total", "info": "_info"}
        return self.name + endings.get(self.kind, "")

    def empty(self, labels: tuple[str, ...]) -> Metric:
        """
        Make the metric without values.
        """
        names = labels if self.label is None else (*labels, self.label)
        return _KINDS[self.kind](self.name, self.text, labels=names)

    def add(self, to: Any, labels: tuple[str, ...], view: View) -> None:
        """
        Read the value, and add it to what L{empty} has made.
        """
        value = self.read(view)
        if value is None:
            return
        if isinstance(value, Histogram):
            bounds = (*map(floatToGoString, value.bounds), "+Inf")
            counts = accumulate(value.counts)
            to.add_metric(labels, list(zip(bounds, counts, strict=True)), value.sum)
        elif self.kind == "info":
            to.add_metric(labels, value)
        elif self.kind == "summary":
            to.add_metric(labels, *value)
        elif isinstance(value, Mapping):
            for key, number in value.items():
                to.add_metric((*labels, key), number)
        else:
            to.add_metric(labels, value)


_KINDS: Mapping[str, Callable[..., Metric]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
    "summary": SummaryMetricFamily,
    "info": InfoMetricFamily,
}

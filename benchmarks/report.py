"""
Ratios, the tables, C{results.json} and the chart.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from statistics import median

from rows import Metric, Row, Sample
from servers import ALONE

BASE = "iawlb"
"""
The peer that all others are compared with.
"""


@dataclass(frozen=True)
class Ratio:
    """
    The ratio of two peers' figures, over the rounds.
    """

    middle: float
    least: float
    greatest: float

    def __str__(self) -> str:
        if self.least == self.greatest:
            return f"{self.middle:.2f}"
        return f"{self.middle:.2f} ({self.least:.2f}-{self.greatest:.2f})"


@dataclass
class RowResult:
    """
    What the rounds of a row gave.

    @ivar rounds: For each round, the samples by peer.
    @ivar failures: What went wrong, for people.
    """

    row: Row
    rounds: list[dict[str, Sample]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def addRound(self, taken: dict[str, Sample]) -> None:
        """
        Add a round, and what the proxies add to the direct connection's latency.
        """
        direct = taken.get("direct")
        for name, sample in taken.items():
            if direct is not None and name != "direct":
                for part in ("p50", "p99"):
                    if part in sample:
                        sample[f"added_{part}"] = sample[part] - direct[part]
            if sample.get("errors"):
                self.failures.append(f"{name}: {sample['errors']:.0f} errors")
        self.rounds.append(taken)

    def peers(self) -> list[str]:
        """
        List the peers that were measured.
        """
        return sorted(
            {name for each in self.rounds for name in each},
            key=lambda name: (name != BASE, name == "direct", name),
        )

    def value(self, peer: str, name: str) -> float | None:
        """
        Give the median of a figure.
        """
        values = [
            each[peer][name]
            for each in self.rounds
            if peer in each and name in each[peer]
        ]
        return median(values) if values else None

    def ratio(self, peer: str, name: str) -> Ratio | None:
        """
        Give the ratio of iawlb's figure to a peer's: the median of those within
        each round.
        """
        ratios = []
        for each in self.rounds:
            ours = each.get(BASE, {}).get(name, 0)
            theirs = each.get(peer, {}).get(name, 0)
            # An added latency may be lost in noise, below nothing.
            if ours > 0 and theirs > 0:
                ratios.append(ours / theirs)
        if not ratios or peer == BASE:
            return None
        return Ratio(median(ratios), min(ratios), max(ratios))


@dataclass
class Results:
    """
    All that was measured.
    """

    date: str
    machine: dict[str, object]
    versions: dict[str, str]
    options: dict[str, object]
    rows: list[RowResult] = field(default_factory=list)

    def json(self) -> str:
        """
        Write everything, with the raw figures of each round.
        """
        return (
            json.dumps(
                {
                    "date": self.date,
                    "machine": self.machine,
                    "versions": self.versions,
                    "options": self.options,
                    "rows": [
                        {
                            "name": each.row.name,
                            "title": each.row.title,
                            "metrics": [asdict(metric) for metric in each.row.metrics],
                            "rounds": each.rounds,
                            "failures": each.failures,
                        }
                        for each in self.rows
                    ],
                },
                indent=1,
            )
            + "\n"
        )


def _number(value: float | None) -> str:
    """
    Write a figure with about three digits.
    """
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2}f}"


def _scaled(result: RowResult, peer: str, metric: Metric) -> float | None:
    value = result.value(peer, metric.name)
    return None if value is None else value * metric.scale


def table(result: RowResult) -> str:
    """
    Write a row: a line for each peer, with its figures and iawlb's ratio to it.
    """
    metrics = result.row.metrics
    lines = [
        ["", *(cell for each in metrics for cell in (each.label, "ratio")), "busy"]
    ]
    for peer in result.peers():
        cells = [peer]
        for metric in metrics:
            ratio = result.ratio(peer, metric.name)
            cells.append(_number(_scaled(result, peer, metric)))
            cells.append("" if ratio is None else str(ratio))
        busy = result.value(peer, "busy")
        lines.append([*cells, "" if busy is None else f"{busy:.0%}"])
    columns = [each for each in zip(*lines, strict=True) if any(each[1:])]
    lines = [list(each) for each in zip(*columns, strict=True)]
    widths = [max(map(len, each)) for each in columns]
    written = [f"\n{result.row.name}: {result.row.title}"]
    for line in lines:
        first = line[0].ljust(widths[0])
        rest = (
            cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)
        )
        written.append("  ".join(["", first, *rest]).rstrip())
    written += [f"  ! {each}" for each in dict.fromkeys(result.failures)]
    return "\n".join(written)


_CHARTED = {
    "haproxy": "",
    "haproxy-256k": " (its buffers 256k)",
    ALONE: " (itself with one)",
}
"""
The peers of the summary and the chart, and how they are told apart.
"""


@dataclass(frozen=True)
class _Bar:
    """
    One bar of the chart.
    """

    label: str
    better: str
    ratio: Ratio

    @property
    def good(self) -> bool:
        """
        Whether iawlb is the better one.
        """
        return (self.ratio.middle > 1) == (self.better == "more")


def _bars(result: RowResult) -> list[_Bar]:
    """
    The first two figures of a row against each HAProxy.
    """
    return [
        _Bar(metric.label + note, metric.better, ratio)
        for metric in result.row.metrics[:2]
        for peer, note in _CHARTED.items()
        if (ratio := result.ratio(peer, metric.name)) is not None
    ]


def summary(results: Results) -> str:
    """
    Write the ratios to HAProxy, one a line.
    """
    written = ["\niawlb / haproxy: median of the rounds' ratios (least-greatest)"]
    for result in results.rows:
        for bar in _bars(result):
            mark = "+" if bar.good else "-"
            written.append(
                f"  {mark} {result.row.name:17} {bar.label:32} "
                f"{bar.ratio!s:20} {bar.better} is better"
            )
    return "\n".join(written) if len(written) > 1 else ""


_WIDTH, _LEFT, _RIGHT, _TOP = 900, 330, 150, 86
_BAR, _GAP, _LIMIT = 14, 12, 32.0
_STYLE = """\
text { font: 12px sans-serif; fill: #222 }
.title { font-size: 16px; font-weight: bold }
.note, .tick { fill: #666 }
.better { fill: #2b7bba } .worse { fill: #d9822b }
.grid { stroke: #ddd } .one { stroke: #222; stroke-width: 1.5 }
.range { stroke: #222; stroke-opacity: .55 }"""


def chart(results: Results) -> str:
    """
    Draw the ratios to HAProxy as an SVG: bars from the line at 1, on a
    logarithmic scale, so that twice as good and half as good are as long.
    """
    groups = [(each.row.name, bars) for each in results.rows if (bars := _bars(each))]
    middles = [abs(math.log2(bar.ratio.middle)) for _, bars in groups for bar in bars]
    most = min(max(1, math.ceil(max(middles, default=1))), round(math.log2(_LIMIT)))

    def across(ratio: float) -> float:
        place = max(-most, min(most, math.log2(ratio)))
        return _LEFT + (place + most) / (2 * most) * (_WIDTH - _LEFT - _RIGHT)

    parts: list[str] = []

    def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> None:
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" '
            f'text-anchor="{anchor}">{words}</text>'
        )

    def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'class="{kind}"/>'
        )

    bottom = _TOP + sum(len(bars) * _BAR + _GAP for _, bars in groups)
    for power in range(-most, most + 1):
        x = across(2.0**power)
        line(x, _TOP - 6, x, bottom, "grid")
        mark = f"{2**power}" if power >= 0 else f"1/{2**-power}"
        text(x, _TOP - 12, mark, "tick", "middle")
    y = float(_TOP)
    for name, bars in groups:
        text(12, y + 11, name, "name")
        for bar in bars:
            middle = across(bar.ratio.middle)
            start, end = sorted((across(1), middle))
            arrow = "&#8593;" if bar.better == "more" else "&#8595;"
            text(_LEFT - 10, y + 11, f"{bar.label} {arrow}", "label", "end")
            parts.append(
                f'<rect x="{start:.1f}" y="{y + 1:.1f}" width="{end - start:.1f}" '
                f'height="{_BAR - 2}" class="{"better" if bar.good else "worse"}"/>'
            )
            half = y + _BAR / 2
            line(
                across(bar.ratio.least), half, across(bar.ratio.greatest), half, "range"
            )
            text(_WIDTH - _RIGHT + 12, y + 11, str(bar.ratio), "value")
            y += _BAR
        y += _GAP
    line(across(1), _TOP - 6, across(1), bottom, "one")
    text(12, 24, "iawlb / HAProxy, one thread each", "title")
    rounds = results.options["rounds"]
    text(
        12,
        44,
        f"Median of {rounds} rounds' own ratios; the thin line is their range. "
        "&#8593; more is better, &#8595; less is better. "
        '<tspan class="better">&#9632;</tspan> iawlb is better, '
        '<tspan class="worse">&#9632;</tspan> HAProxy is.',
        "note",
    )
    text(
        12,
        bottom + 16,
        f"{results.date[:10]}, {results.machine['processor']}, "
        f"{results.versions['haproxy'].partition('-')[0]}, "
        f"Twisted {results.versions['twisted']}, "
        f"Python {results.versions['python']}",
        "note",
    )
    height = bottom + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}">\n<style>{_STYLE}</style>\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )

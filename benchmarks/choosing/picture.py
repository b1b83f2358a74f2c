"""
Draw what was found as an SVG: a row of two panels, median and 99th percentile, for each
way in which it was found.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

COLOURS = {
    "quick": "#2f81f7",
    "least": "#2da44e",
    "two choices": "#bf8700",
    "round robin": "#cf222e",
    "random": "#8250df",
}
TITLES = {
    "simulated": "Simulated, no limit of slots",
    "simulated, one slot each": "Simulated, one slot each",
    "measured": "Measured on sockets, no limit of slots",
}
PARTS = ("median", "99th percentile")
WIDTH, HEIGHT = 350, 230
LEFT, TOP, GAP_X, GAP_Y = 62, 92, 74, 74
LOW, HIGH = 20.0, 20_000.0
FIRST, LAST = 0.3, 0.9

Results = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-size: 15px; font-weight: 600; fill: #24292f }
.name { font-weight: 600 }
.grid { stroke: #d0d7de; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title { fill: #f0f6fc }
  .grid { stroke: #3d444d } .back { fill: #0d1117 }
}
"""


def _down(milliseconds: float) -> float:
    part = math.log(HIGH / min(HIGH, max(LOW, milliseconds))) / math.log(HIGH / LOW)
    return HEIGHT * part


def _across(load: float) -> float:
    return WIDTH * (load - FIRST) / (LAST - FIRST)


def _text(x: float, y: float, words: str, kind: str = "", end: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{end}">{words}'
        "</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'
    )


def _panel(
    x: float, y: float, part: int, lines: Mapping[str, Sequence[Sequence[float]]]
) -> list[str]:
    """
    Draw one panel.

    @param part: 0 is the median, 1 the 99th percentile.
    """
    found = []
    for mark in (20, 100, 1000, 10_000):
        height = y + _down(mark)
        found.append(_line(x, height, x + WIDTH, height))
        words = f"{mark} ms" if mark < 1000 else f"{mark // 1000} s"
        found.append(_text(x - 8, height + 4, words, end="end"))
    for step in range(3, 10):
        load = step / 10
        place = x + _across(load)
        found.append(_line(place, y, place, y + HEIGHT))
        found.append(_text(place, y + HEIGHT + 17, f"{load:.1f}", end="middle"))
    for name, points in reversed(lines.items()):
        path = " ".join(
            f"{x + _across(each[0]):.1f},{y + _down(each[1 + part]):.1f}"
            for each in points
        )
        found.append(
            f'<polyline points="{path}" class="line" stroke="{COLOURS[name]}"/>'
        )
        found += [
            f'<circle cx="{x + _across(each[0]):.1f}" '
            f'cy="{y + _down(each[1 + part]):.1f}" r="3" fill="{COLOURS[name]}"/>'
            for each in points
        ]
    return found


def picture(results: Results) -> str:
    """
    Draw all.
    """
    width = LEFT + 2 * WIDTH + GAP_X + 24
    height = TOP + len(results) * (HEIGHT + GAP_Y) - 20
    parts = [
        f'<rect width="{width}" height="{height}" class="back"/>',
        _text(12, 24, "How long clients wait for an answer, by load", "title"),
        _text(
            12,
            42,
            "Ten destinations that take 50 ms each on average, one of them 250 ms. "
            "Logarithmic; what touches the top grows without end.",
        ),
    ]
    x = 12.0
    for name, colour in COLOURS.items():
        parts.append(
            f'<circle cx="{x + 5:.1f}" cy="58" r="5" fill="{colour}"/>'
            + _text(x + 15, 62, name, "name")
        )
        x += 110
    y = float(TOP)
    for name, lines in results.items():
        for part, words in enumerate(PARTS):
            left = LEFT + part * (WIDTH + GAP_X)
            parts.append(_text(left, y - 8, f"{TITLES[name]}: {words}", "name"))
            parts += _panel(left, y, part, lines)
        y += HEIGHT + GAP_Y
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            "<title>Response times by policy and load</title>",
            f"<style>{STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    print(picture(json.loads(Path(sys.argv[1]).read_text())), end="")

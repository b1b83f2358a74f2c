"""
Make docs/demo.svg, the picture in the README, from a real run: the demo in one
terminal, clients in another. It takes half a minute::

    .venv/bin/python docs/picture.py

All that the two terminals show is in the picture, line by line as it came, but for
what twistd writes before the demo's first line. A time without a new line is
shortened to two seconds.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from html import escape
from itertools import pairwise
from pathlib import Path
from threading import Thread

SERVER = "twistd -n iawlb 8080 --demo 3"
CLIENTS = (
    (1.0, "curl localhost:8080"),
    (18.4, "(for i in $(seq 14); do curl -s localhost:8080 & done; wait)"),
)
"""
When the clients come, in seconds. The demo stops its first server after 20 s.
"""

END = 30.0
LONGEST_GAP = 2.0
HOLD = 6.0
"""
How long the whole picture stands before it begins again, in seconds.
"""

COLUMNS = (66, 46)
SIZE = 12
ADVANCE = 7.23
ROW = 17
MARGIN = 14
HEAD = 30

COLOURS = (
    (r"\bbusy\b", "#e3b341"),
    (r"\bdown\b", "#ff7b72"),
    (r"\bidle\b", "#7ee787"),
    (r"\bdemo-\d\b", "#d2a8ff"),
    (r"#+(?:\.\.\.)?$", "#79c0ff"),
)

Line = tuple[float, str]


class Terminal:
    """
    A terminal, and what it has shown.

    @ivar lines: Each line, and the moment at which it came.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._screen, self.number = pty.openpty()
        Thread(target=self._read, daemon=True).start()

    def run(self, command: str) -> subprocess.Popen[bytes]:
        """
        Start a command, which is shown behind a prompt.
        """
        self.lines.append((time.monotonic(), f"$ {command}"))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", "-c", command.replace("twistd", "exec twistd --pidfile=", 1)],
            stdin=self.number,
            stdout=self.number,
            stderr=self.number,
            env={**os.environ, "PATH": path},
        )

    def _read(self) -> None:
        rest = b""
        while True:
            rest += os.read(self._screen, 4096)
            *whole, rest = rest.split(b"\n")
            for each in whole:
                self.lines.append((time.monotonic(), each.decode().rstrip("\r")))


def record() -> tuple[list[Line], list[Line]]:
    """
    Run the demo and its clients.

    @return: What the two terminals have shown.
    """
    server, client = Terminal(), Terminal()
    start = time.monotonic()
    process = server.run(SERVER)
    while not any("waiting" in text for _, text in server.lines):
        time.sleep(0.01)
    for moment, command in CLIENTS:
        time.sleep(max(0, start + moment - time.monotonic()))
        client.run(command).wait(60)
    time.sleep(max(0, start + END - time.monotonic()))
    shown = list(server.lines)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    first = next(n for n, (_, text) in enumerate(shown) if "waiting" in text)
    return [shown[0], *shown[first:]], client.lines


def coloured(text: str) -> str:
    """
    Write a piece of a line.
    """
    if re.match(r"\d{4}-", text):
        return f'<tspan fill="#8b949e">{escape(text)}</tspan>'
    if text.startswith("$ "):
        return f'<tspan fill="#ffffff" font-weight="bold">{escape(text)}</tspan>'
    text = escape(text)
    for pattern, colour in COLOURS:
        text = re.sub(pattern, rf'<tspan fill="{colour}">\g<0></tspan>', text)
    return text


def draw(panes: tuple[list[Line], list[Line]]) -> str:
    """
    Draw two terminals side by side, whose lines appear in their time.
    """
    moments = sorted({moment for pane in panes for moment, _ in pane})
    shown, now = {moments[0]: 0.5}, 0.5
    for before, moment in pairwise(moments):
        now += min(moment - before, LONGEST_GAP)
        shown[moment] = now
    whole = now + HOLD
    style: list[str] = []
    body: list[str] = []
    rows, left = 0, MARGIN
    for pane, columns in zip(panes, COLUMNS, strict=True):
        row = 0
        for moment, text in pane:
            share = 100 * shown[moment] / whole
            name = f"a{len(style)}"
            style.append(
                f"@keyframes {name}{{0%,{share:.2f}%{{opacity:0}}"
                f"{share + 0.01:.2f}%,100%{{opacity:1}}}}"
                f".{name}{{animation:{name} {whole:.1f}s linear infinite}}"
            )
            pieces = [text[i : i + columns] for i in range(0, len(text), columns)]
            kind = text[:5] if re.match(r"\d{4}-|\$ ", text) else ""
            for number, piece in enumerate(pieces):
                y = HEAD + MARGIN + row * ROW + SIZE
                # The rest of a line that is wrapped looks like its beginning.
                inner = coloured(kind + piece if number and kind else piece)
                if number and kind:
                    inner = inner.replace(escape(kind), "", 1)
                body.append(f'<text class="{name}" x="{left}" y="{y}">{inner}</text>')
                row += 1
        rows = max(rows, row)
        left += round(columns * ADVANCE) + 2 * MARGIN
    height = HEAD + 2 * MARGIN + rows * ROW
    width = left - MARGIN
    middle = MARGIN + round(COLUMNS[0] * ADVANCE) + MARGIN
    titles = "".join(
        f'<text x="{x}" y="20" fill="#8b949e">{title}</text>'
        for x, title in ((MARGIN, "the balancer"), (middle + MARGIN, "clients"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-size="{SIZE}" fill="#c9d1d9" '
        'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,'
        'monospace" xml:space="preserve">\n'
        "<!-- Made by docs/picture.py from a real run. -->\n"
        f"<style>{''.join(style)}"
        "@media (prefers-reduced-motion:reduce){text{animation:none!important}}"
        "</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>\n'
        f'<path d="M0 {HEAD}H{width}M{middle} 0V{height}" stroke="#30363d"/>\n'
        f"{titles}\n" + "\n".join(body) + "\n</svg>\n"
    )


if __name__ == "__main__":
    target = Path(__file__).with_name("demo.svg")
    target.write_text(draw(record()))
    print(f"wrote {target}")

"""
Compare the policies: C{python benchmarks/choosing/run.py}, about 25 minutes, most of
which passes idle; with C{--simulation}, the simulation alone, two minutes.

Ten destinations, of which one is five times slower; the load is the part of what all
of them can do together. Writes C{choosing.json} and C{choosing.svg} into
C{benchmarks/results}.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from picture import picture
from rivals import RIVALS
from simulation import SERVICE, simulate

HERE = Path(__file__).parent
LOADS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LIVE_LOADS = (0.3, 0.5, 0.7, 0.9)
NUMBER = 10
SLOWER = 5
CLIENTS = 60_000
LIVE_CLIENTS = 2000
"""
The clients at the lowest load; at others as many as come in the same time.
"""

Point = tuple[float, float, float]
"""
A load, and the median and the 99th percentile in milliseconds.
"""

Lines = dict[str, list[Point]]


def point(load: float, took: Sequence[float]) -> Point:
    """
    Sum up how long answers took.
    """
    ordered = sorted(took)
    p50, p99 = (ordered[int(part * len(ordered))] for part in (0.5, 0.99))
    return load, round(p50, 1), round(p99, 1)


def simulated(slots: int) -> Lines:
    """
    Run the simulation.
    """
    lines: Lines = {name: [] for name in RIVALS}
    for name, points in lines.items():
        for load in LOADS:
            points.append(point(load, simulate(name, load, slots, CLIENTS)))
            print("simulated", f"slots={slots}", name, *points[-1], flush=True)
    return lines


def started(stack: ExitStack, *words: str) -> str:
    """
    Start a process, and return its port.
    """
    process = subprocess.Popen(
        [sys.executable, str(HERE / "peers.py"), *words],
        stdout=subprocess.PIPE,
        text=True,
    )

    def stop() -> None:
        process.kill()
        process.wait()

    stack.callback(stop)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def measure(policy: str, load: float, clients: int) -> list[float]:
    """
    Run one policy on real sockets, and return how long the answers took in
    milliseconds; the first tenth is left out.
    """
    services = [SERVICE * (1 if each else SLOWER) for each in range(NUMBER)]
    rate = load * sum(1 / each for each in services)
    with ExitStack() as stack:
        ports = [
            started(stack, "serve", str(seconds), str(seed))
            for seed, seconds in enumerate(services)
        ]
        port = started(stack, "balance", policy, *ports)
        command = (sys.executable, str(HERE / "peers.py"), "load", port)
        done = subprocess.run(
            [*command, str(rate), str(clients), "1"],
            stdout=subprocess.PIPE,
            check=True,
            timeout=900,
        )
    took: list[float] = json.loads(done.stdout)
    return [seconds * 1000 for seconds in took[clients // 10 :]]


def measured(clients: int) -> Lines:
    """
    Run all policies on real sockets, in turns, so that what else the machine does
    falls on all alike.
    """
    lines: Lines = {name: [] for name in RIVALS}
    for load in LIVE_LOADS:
        for name, points in lines.items():
            number = round(clients * load / LIVE_LOADS[0])
            points.append(point(load, measure(name, load, number)))
            print("measured", name, *points[-1], flush=True)
    return lines


def main() -> None:
    """
    Run all, and write what was found.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulation", action="store_true")
    parser.add_argument("--clients", type=int, default=LIVE_CLIENTS)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    options = parser.parse_args()
    file = options.out / "choosing.json"
    results: dict[str, Lines] = json.loads(file.read_text()) if file.exists() else {}
    results["simulated"] = simulated(0)
    results["simulated, one slot each"] = simulated(1)
    if not options.simulation:
        results["measured"] = measured(options.clients)
    file.write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "choosing.svg").write_text(picture(results))


if __name__ == "__main__":
    main()

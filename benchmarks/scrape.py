"""
Measure what a scrape of the metrics costs the traffic beside it:
C{python benchmarks/scrape.py}.

One connection is open through the balancer, and 64 bytes go there and back over it
each millisecond; meanwhile the metrics of 1,000 destinations are read now and then, and
thrown away. Shown is how long the bytes took without scrapes, with them, and while one
was under way, for iawlb and for HAProxy with its Prometheus exporter.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import (
    HERE,
    LOAD_CPUS,
    PROXY_CPUS,
    Server,
    freePort,
    iawlb,
    loadServer,
    raiseFileLimit,
    running,
)

EVERY = 0.001
MESSAGE = b"e" * 64


def ping(client: socket.socket, seconds: float) -> list[tuple[float, float]]:
    """
    Send a message each millisecond, and wait for it to come back.

    @return: When each was sent, and how long it took.
    """
    found = []
    end = time.perf_counter() + seconds
    while (sent := time.perf_counter()) < end:
        client.sendall(MESSAGE)
        missing = len(MESSAGE)
        while missing:
            missing -= len(client.recv(missing))
        took = time.perf_counter() - sent
        found.append((sent, took))
        time.sleep(max(0.0, EVERY - took))
    return found


def shown(times: list[float]) -> str:
    """
    Write the median and the 99th percentile in milliseconds.
    """
    if len(times) < 100:
        return f"too few ({len(times)})"
    times = sorted(times)
    middle, late = times[len(times) // 2], times[len(times) * 99 // 100]
    return f"p50 {middle * 1e3:.2f}, p99 {late * 1e3:.2f}"


def measure(server: Server, metrics: int, seconds: float, between: float) -> None:
    """
    Measure one balancer, and print the result.

    @param between: The time between two scrapes.
    """
    url = f"http://127.0.0.1:{metrics}/metrics"
    command = ["curl", "-sf", "--compressed", "-o", "/dev/null", url]
    subprocess.run(command, check=True)
    scrapes: list[tuple[float, float]] = []
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(between):
            began = time.perf_counter()
            subprocess.run(command, check=True)
            scrapes.append((began, time.perf_counter()))

    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ping(client, 0.5)
        quiet = ping(client, seconds)
        thread = threading.Thread(target=scrape)
        thread.start()
        busy = ping(client, seconds)
        stop.set()
        thread.join()
    during = [
        took
        for sent, took in busy
        if any(began - took < sent < ended for began, ended in scrapes)
    ]
    mean = sum(ended - began for began, ended in scrapes) / len(scrapes)
    print(f"{server.name}: ms a message")
    print(f"  without scrapes           {shown([took for _, took in quiet])}")
    print(f"  a scrape each {between:4.1f} s      {shown([took for _, took in busy])}")
    print(f"  while one is under way    {shown(during)}")
    print(f"  a scrape takes {mean * 1e3:.0f} ms", flush=True)


def main() -> None:
    """
    Run the benchmark.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--destinations", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--between", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    raiseFileLimit()
    os.sched_setaffinity(0, LOAD_CPUS)
    with tempfile.TemporaryDirectory() as made:
        workspace = Path(made)
        load = workspace / "load"
        subprocess.run(["cc", "-O2", "-o", load, HERE / "load.c"], check=True)
        with loadServer(load) as backend:
            for _ in range(asked.rounds):
                for name in ("iawlb", "haproxy"):
                    if name == "haproxy" and shutil.which(name) is None:
                        print("haproxy is not installed", file=sys.stderr)
                        continue
                    run(name, workspace, [backend] * asked.destinations, asked)


def run(
    name: str, workspace: Path, ports: list[int], asked: argparse.Namespace
) -> None:
    """
    Start a balancer, and measure it.
    """
    port, metrics = freePort(), freePort()
    if name == "iawlb":
        peer = iawlb(name, [f"--metrics=127.0.0.1:{metrics}"])
        command = peer.command(workspace, port, ports, False)
    else:
        servers = "\n".join(
            f"    server d{number} 127.0.0.1:{each}"
            for number, each in enumerate(ports, 1)
        )
        configuration = workspace / "haproxy.cfg"
        configuration.write_text(f"""
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen benchmark
    bind 127.0.0.1:{port}
{servers}
frontend metrics
    mode http
    bind 127.0.0.1:{metrics}
    http-request use-service prometheus-exporter if {{ path /metrics }}
""")
        command = ["haproxy", "-db", "-f", str(configuration)]
    with running(name, command, port, PROXY_CPUS, workspace) as server:
        measure(server, metrics, asked.seconds, asked.between)


if __name__ == "__main__":
    main()

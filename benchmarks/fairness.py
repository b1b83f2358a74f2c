"""
How long fifty clients wait that come behind one which has opened thousands of
connections: alone, first come first served, with fairness, and with a limit of each
source.

    python benchmarks/fairness.py

The destination takes a fixed time for each connection, so the figures say how the queue
is served, not how fast the machine is. The clients come from addresses of 127.0.0.0/8.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import socket
import statistics
import subprocess
import sys
import time

SERVICE = 0.02
"""
The time that the destination takes for a connection, in seconds.
"""

SLOTS = 4
"""
The number of connections that it serves at a time.
"""

CASES: dict[str, tuple[str, ...]] = {
    "first come, first served": (),
    "fairness": ("--fairness",),
    "max-per-source=2": ("--max-per-source=2",),
}
"""
The options of the balancer in each case.
"""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """
    Answer a connection after a while.
    """
    with contextlib.suppress(OSError, asyncio.CancelledError):
        if await reader.read(1):
            await asyncio.sleep(SERVICE)
            writer.write(b"y")
            await writer.drain()
    writer.close()


async def ask(port: int, host: str) -> float:
    """
    Connect from an address, and return how long the answer took.
    """
    start = time.monotonic()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(host, 0)
    )
    writer.write(b"x")
    with contextlib.suppress(OSError):
        await reader.read(1)
    writer.close()
    return time.monotonic() - start


async def others(port: int, number: int) -> list[float]:
    """
    Let clients come at once, each from an address of its own.
    """
    asking = (ask(port, f"127.1.{n // 250}.{n % 250 + 1}") for n in range(number))
    return sorted(await asyncio.gather(*asking))


async def flood(port: int, number: int) -> list[asyncio.Task[float]]:
    """
    Open connections from one address, and return when all are made.
    """
    made = []
    for start in range(0, number, 500):
        for _ in range(min(500, number - start)):
            made.append(asyncio.create_task(ask(port, "127.2.0.1")))
        await asyncio.sleep(0.2)
    await asyncio.sleep(0.5)
    return made


async def measure(options: tuple[str, ...], connections: int, clients: int) -> None:
    """
    Run one case, and print a line.
    """
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    destination = server.sockets[0].getsockname()[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
        *("-n", "iawlb", "--log=errors"),
        f"--listen=127.0.0.1:{port}",
        f"--dest=127.0.0.1:{destination} slots={SLOTS}",
        "--queue-timeout=0",
        "--queue-size=100000",
        *options,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                await ask(port, "127.0.0.1")
                break
            await asyncio.sleep(0.1)
        alone = await others(port, clients)
        flooding = await flood(port, connections)
        beside = await others(port, clients)
        left = sum(not each.done() for each in flooding)
        print(
            f"{' '.join(options) or '-':20} alone: median "
            f"{statistics.median(alone) * 1000:6.0f} ms, last {alone[-1] * 1000:6.0f} "
            f"ms; beside: median {statistics.median(beside) * 1000:6.0f} ms, last "
            f"{beside[-1] * 1000:6.0f} ms; {beside[-1] / alone[-1]:6.2f} times; "
            f"{left} of the others still wait",
            flush=True,
        )
        for each in flooding:
            each.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
    finally:
        process.kill()
        process.wait()
        server.close()


def main() -> None:
    """
    Run all cases.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for options in CASES.values():
        for _ in range(given.times):
            asyncio.run(measure(options, given.connections, given.clients))


if __name__ == "__main__":
    main()

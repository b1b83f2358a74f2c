"""
Count the errors of clients while one of three destinations is killed, hangs, fails fast
or flaps: C{python benchmarks/faults.py}.

Forty clients ask again and again, each time on a new connection, for six seconds. After
one second the fault begins, and three seconds later the destination is well again. Each
balancer gives a destination 20 connections at a time, once with checks of its health
every half a second, and once without. Shown is how many requests were answered, how
many were not, and how long answers took, for both relays of iawlb and for HAProxy.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from servers import HERE, PROXY_CPUS, freePort, running

SERVER = HERE.parent / "tests" / "integration" / "faulty.py"
sys.path.append(str(SERVER.parent))

from faulty import Clients  # noqa: E402  # its folder was just added

CLIENTS = 40
SLOTS = 20

IAWLB = (
    *("--slots", str(SLOTS), "--connect-timeout", "1s", "--queue-timeout", "10s"),
    *("--answer-timeout", "2s", "--eject-after", "5"),
)
CHECKS = (
    *("--health-check", "http:/health", "--check-interval", "500ms"),
    *("--check-fast", "500ms", "--check-timeout", "500ms"),
    *("--fall", "2", "--rise", "2", "--end-on-down"),
)
HAPROXY = """\
global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    timeout connect 1s
    timeout client 10s
    timeout server 2s
    timeout queue 10s
    timeout check 500ms
    retries 3
    option redispatch 1
listen test
    bind 127.0.0.1:{port}
    balance leastconn
    option httpchk GET /health
{servers}
"""
CHECKED = "check inter 500ms fastinter 500ms fall 2 rise 2 on-marked-down "


class Destination:
    """
    A server of the tests, as a process.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.port = freePort()
        self.start()
        stack.callback(self.kill)

    def start(self) -> None:
        """
        Start the server, and wait until it serves.
        """
        command = [sys.executable, str(SERVER), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        """
        Send the server a signal.
        """
        self._process.send_signal(number)

    def kill(self) -> None:
        """
        Kill the server.
        """
        self._process.kill()
        self._process.wait()


async def killed(bad: Destination) -> None:
    """
    The server is killed, and comes back.
    """
    bad.kill()
    await asyncio.sleep(3)
    await asyncio.to_thread(bad.start)


async def hung(bad: Destination) -> None:
    """
    The server hangs; its kernel accepts connections.
    """
    bad.send(signal.SIGSTOP)
    await asyncio.sleep(3)
    bad.send(signal.SIGCONT)


async def failing(bad: Destination) -> None:
    """
    The server closes each connection as soon as it accepts it.
    """
    bad.send(signal.SIGUSR1)
    await asyncio.sleep(3)
    bad.send(signal.SIGUSR2)


async def flapping(bad: Destination) -> None:
    """
    The server is killed again and again.
    """
    for _ in range(4):
        bad.kill()
        await asyncio.sleep(0.4)
        await asyncio.to_thread(bad.start)
        await asyncio.sleep(0.3)


FAULTS: tuple[Callable[[Destination], Awaitable[None]], ...] = (
    killed,
    hung,
    failing,
    flapping,
)


def command(
    peer: str, port: int, ports: Sequence[int], checks: bool, workspace: Path
) -> list[str]:
    """
    Return the command line of a balancer.
    """
    if peer == "haproxy":
        own = CHECKED + "shutdown-sessions" if checks else ""
        servers = "\n".join(
            f"    server d{each} 127.0.0.1:{each} maxconn {SLOTS} {own}"
            for each in ports
        )
        file = workspace / f"haproxy-{port}.cfg"
        file.write_text(HAPROXY.format(port=port, servers=servers))
        return ["haproxy", "-db", "-f", str(file)]
    return [
        *(str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "iawlb"),
        *("--listen", f"127.0.0.1:{port}", "--relay", peer, *IAWLB),
        *(f"--dest=127.0.0.1:{each}" for each in ports),
        *(CHECKS if checks else ()),
    ]


async def play(
    clients: Clients, fault: Callable[[Destination], Awaitable[None]], bad: Destination
) -> None:
    """
    Have the clients ask while the fault comes and goes.
    """
    asking = asyncio.create_task(clients.run(CLIENTS))
    await asyncio.sleep(1)
    await fault(bad)
    await asyncio.sleep(2)
    clients.stop()
    await asking


def main() -> None:
    """
    Measure, and print a table.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="fast,portable,haproxy")
    peers = parser.parse_args().peers.split(",")
    if shutil.which("haproxy") is None and "haproxy" in peers:
        peers.remove("haproxy")
    print("| fault | checks | balancer | answered | not answered | p50 | p99 |")
    print("|---|---|---|---|---|---|---|")
    for fault in FAULTS:
        for checks in (True, False):
            for peer in peers:
                with ExitStack() as stack:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    servers = [Destination(stack) for _ in range(3)]
                    port = freePort()
                    ports = [each.port for each in servers]
                    line = command(peer, port, ports, checks, folder)
                    stack.enter_context(running(peer, line, port, PROXY_CPUS, folder))
                    clients = Clients(port)
                    asyncio.run(play(clients, fault, servers[-1]))
                times = sorted(clients.times)
                answered = clients.counts["answered"]
                p50, p99 = (
                    f"{times[int(len(times) * part)] * 1000:.0f} ms"
                    for part in (0.5, 0.99)
                )
                print(
                    f"| {fault.__name__} | {'yes' if checks else 'no'} | {peer} | "
                    f"{answered:,} | {clients.counts.total() - answered:,} | "
                    f"{p50} | {p99} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

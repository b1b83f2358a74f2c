"""
Measure what a PROXY header adds to a connection: C{python benchmarks/headers.py}.

On fresh connections to the server of C{load.c}, a worker's own functions make the
header and send it, the client's first bytes are sent, and what is held back is pushed.
Shown is the processor time of these steps, in us, and how much more it is than without
a header: the first quartile and the median of many connections, taken in turns. How
much of it is the kernel's is measured by the calls alone.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from servers import HERE, loadServer
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock

from iawlb.backend.socketconnector import SocketConnector, Target
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.session import Session
from iawlb.relay.plain import PlainClient
from iawlb.relay.poller import SocketPoller
from iawlb.relay.resets import ResetWatch
from iawlb.settings import DestinationSettings
from iawlb.workers.greeting import _send, greetingOf

CONNECTIONS = 6000
MESSAGE = memoryview(b"a" * 64)

KINDS: dict[str, dict[str, str] | None] = {
    "none": None,
    "v1": {"sendProxy": "v1"},
    "v2": {"sendProxy": "v2"},
    "v2, unique-id": {"sendProxy": "v2", "proxyTlvs": "unique-id"},
    "v2, crc32c": {"sendProxy": "v2", "proxyTlvs": "crc32c"},
}


class Bench:
    """
    A connector, and a session whose client is connected.
    """

    def __init__(self, port: int) -> None:
        clock: Any = MemoryReactorClock()
        self.poller = SocketPoller(clock, 1024)
        self.sockets = SocketConnector(clock, self.poller, 5)
        self.connector: Any = SimpleNamespace(sockets=self.sockets)
        self.target = Target(socket.AF_INET, ("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", 0)) as front:
            self.client = socket.create_connection(front.getsockname())
            accepted = socket.SocketType(fileno=front.accept()[0].detach())
        owner: Any = None
        side = PlainClient(accepted, owner, ResetWatch())
        address = IPv4Address("TCP", *self.client.getsockname())
        origin = Origin(PoolCount("default"), "bench")
        self.session = Session(1, address, origin, 0.0, side, owner)

    def run(self, make: Callable[[Session], bytes] | None) -> int:
        """
        Open a connection, and return what its first bytes took, in ns.
        """
        self.session.info = None
        # Within a round, as when a client was just accepted.
        self.poller._inRound = True
        handle, _ = self.sockets.begin(self.target)
        assert handle is not None
        before = time.thread_time_ns()
        if make is not None:
            _send(self.connector, handle, make(self.session))
        handle.send(MESSAGE)
        if make is None:
            self.sockets._release()
        else:
            self.sockets._push()
        took = time.thread_time_ns() - before
        self._done(handle)
        return took

    def calls(self, header: bool) -> int:
        """
        The same with the calls to the kernel alone.
        """
        handle = socket.SocketType(
            socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        handle.connect_ex(self.target.name)
        handle.getpeername()
        before = time.thread_time_ns()
        if header:
            handle.getsockname()
            handle.send(b"a" * 28, socket.MSG_MORE)
        handle.send(MESSAGE)
        took = time.thread_time_ns() - before
        self._done(handle)
        return took

    def _done(self, handle: socket.SocketType) -> None:
        self.poller._after.clear()
        self.sockets._held.clear()
        handle.settimeout(10)
        handle.recv(100)
        handle.close()


def quartiles(times: list[int]) -> tuple[float, float]:
    """
    Return the first quartile and the median, in us.
    """
    times.sort()
    return times[len(times) // 4] / 1000, times[len(times) // 2] / 1000


def main() -> None:
    """
    Measure, and print a table.
    """
    if shutil.which("gcc") is None:
        sys.exit("gcc is needed, for load.c")
    with tempfile.TemporaryDirectory() as folder:
        load = Path(folder, "load")
        subprocess.run(["gcc", "-O2", "-o", load, HERE / "load.c"], check=True)
        with loadServer(load) as port:
            bench = Bench(port)
            makes = {
                name: own and greetingOf(DestinationSettings(**own))  # type: ignore[arg-type]  # text
                for name, own in KINDS.items()
            }
            times: dict[str, list[int]] = {name: [] for name in makes}
            times |= {"calls, none": [], "calls, v2": []}
            for _ in range(CONNECTIONS):
                for name, make in makes.items():
                    times[name].append(bench.run(make))  # type: ignore[arg-type]  # or {}
                times["calls, none"].append(bench.calls(False))
                times["calls, v2"].append(bench.calls(True))
    base = {"calls": quartiles(times["calls, none"]), "": quartiles(times["none"])}
    print(f"{'header':16}{'first quartile':>20}{'median':>20}")
    for name, each in times.items():
        found = quartiles(each)
        less = base["calls" if name.startswith("calls") else ""]
        row = (f"{a:.2f} (+{a - b:.2f})" for a, b in zip(found, less, strict=True))
        print(f"{name:16}" + "".join(f"{part:>20}" for part in row))


if __name__ == "__main__":
    main()

"""
A destination that is killed, hangs, fails fast or flaps, while clients keep coming. The
only clients that notice are those whose bytes it had already.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Start
from tests.integration.faulty import Clients
from tests.integration.programs import LIMIT, Program, freePort

SLOTS = 10
CLIENTS = 24
QUIET = 150
"""
Answers in a row, without an error, after which a fault counts as dealt with.
"""

CHECKS = (
    *("--health-check", "http:/health", "--check-interval", "500ms"),
    *("--check-fast", "200ms", "--check-timeout", "500ms"),
    *("--fall", "2", "--rise", "1", "--end-on-down"),
)


class Destination(Program):
    """
    A server whose faults are chosen.
    """

    def __init__(self, folder: Path) -> None:
        self.port = freePort()
        script = str(Path(__file__).with_name("faulty.py"))
        super().__init__(
            [sys.executable, script, str(self.port)],
            folder,
            ready=lambda: self.text().count("ready") > self._starts,
        )
        self._starts = 0

    def kill(self) -> None:
        """
        Kill the server.
        """
        self.stop(signal.SIGKILL)

    def startAgain(self) -> None:
        """
        Start the server after it was killed.
        """
        self._starts += 1
        self.start()


async def soon(true: Callable[[], object]) -> None:
    """
    Wait until something is true; fail when it takes too long.
    """
    async with asyncio.timeout(LIMIT):
        while not true():
            await asyncio.sleep(0.02)


async def quiet(clients: Clients, answers: int = QUIET) -> None:
    """
    Wait until so many answers in a row came without an error.
    """

    def errors() -> int:
        return clients.counts.total() - clients.counts["answered"]

    async with asyncio.timeout(LIMIT):
        while True:
            before, since = errors(), clients.counts["answered"]
            while errors() == before:
                if clients.counts["answered"] - since >= answers:
                    return
                await asyncio.sleep(0.02)


async def killed(clients: Clients, bad: Destination) -> None:
    """
    The server is killed, and comes back.
    """
    bad.kill()
    await quiet(clients)
    await asyncio.to_thread(bad.startAgain)


async def hung(clients: Clients, bad: Destination) -> None:
    """
    The server hangs, but its kernel accepts connections.
    """
    bad.send(signal.SIGSTOP)
    await soon(lambda: clients.counts["unanswered"])
    await quiet(clients)
    bad.send(signal.SIGCONT)


async def failing(clients: Clients, bad: Destination) -> None:
    """
    The server closes each connection as soon as it accepts it.
    """
    bad.send(signal.SIGUSR1)
    await soon(lambda: clients.counts["unanswered"])
    await quiet(clients)
    bad.send(signal.SIGUSR2)


async def flapping(clients: Clients, bad: Destination) -> None:
    """
    The server is killed again and again.
    """
    for _ in range(3):
        bad.kill()
        await quiet(clients, 50)
        await asyncio.to_thread(bad.startAgain)
        await quiet(clients, 50)


@pytest.mark.parametrize(
    ("fault", "relay", "times"),
    [
        (killed, "fast", 1),
        (killed, "portable", 1),
        (hung, "fast", 1),
        (failing, "fast", 1),
        (failing, "portable", 1),
        (flapping, "fast", 3),
    ],
)
def test_fault(
    balancer: Balancers,
    start: Start,
    tmp_path: Path,
    fault: Callable[..., object],
    relay: str,
    times: int,
) -> None:
    """
    No more clients get an error than the server had slots, each time; all of them had
    been connected to it, and none is kept waiting or given a wrong answer. When the
    server is well again, it serves again.
    """
    destinations = []
    for _ in range(3):
        destination = Destination(tmp_path)
        start(destination)
        destinations.append(destination)
    bad = destinations[-1]
    front = balancer(
        *(each.port for each in destinations),
        options=[
            *("--relay", relay, "--slots", str(SLOTS), "--eject-after", "5"),
            *CHECKS,
        ],
    )
    clients = Clients(front.port)

    def served() -> int:
        return len(re.findall(rf" to 127\.0\.0\.1:{bad.port}: .*\(--\)", front.text()))

    async def play() -> None:
        async with asyncio.timeout(3 * LIMIT), asyncio.TaskGroup() as group:
            group.create_task(clients.run(CLIENTS))
            try:
                await quiet(clients)
                await fault(clients, bad)  # type: ignore[misc]  # a coroutine
                before = served()
                await soon(lambda: served() > before + SLOTS)
            finally:
                clients.stop()

    asyncio.run(play())
    counts = dict(clients.counts)
    counts.pop("answered")
    # A connection may be reset before the client has sent anything.
    errors = sum(counts.pop(each, 0) for each in ("unanswered", "cut", "refused"))
    assert counts == {}
    # Checks hold slots of their own.
    assert errors <= times * (SLOTS + 5)
    codes = set(re.findall(r"\((\S\S)\), waited", front.text()))
    # Reset or ended by the destination, or because it went down.
    assert codes <= {"--", "SD", "SH", "DD"}, codes

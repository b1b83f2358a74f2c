"""
The faults of C{chaos.py}.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any

from chaosclients import AGED, Record
from chaospeers import REFUSING
from chaosservers import (
    GOOD,
    LIMIT,
    PROGRAM,
    WOKEN,
    Backend,
    Balancer,
    pidOf,
    unlessGone,
)

MEAN = 2.5
"""
The mean time between two faults, in seconds.
"""

SHARES = {
    "kill": 5,
    "suspend": 3,
    "refuse": 2,
    "pause": 3,
    "remove": 2,
    "hold": 2,
    "slots": 2,
    "drain": 2,
    "settings": 4,
    "age": 1,
    "program": 3,
    "freeze": 2,
    "log": 1,
    "clock": 2,
    "descriptors": 2,
}
"""
The faults by name, and how often each comes in a round of them all: kill, suspend
and refuse concern backends; pause, remove, slots and drain, destinations; program,
the one that the balancer starts; and the others, the balancer.
"""

USUAL: dict[str, Any] = {
    "policy": "least",
    "queueSize": 10_000,
    "fairness": False,
    "sessionRate": "0",
    "maxPerSource": 200,
    "overLimit": "delay",
    "sourceMask": "32,56",
    "loadFactor": 0,
    "spillAfter": 0,
    "bandwidthIn": 0,
    "bandwidthOut": 0,
    "maxAge": 0,
    "takeSlot": "accept",
}
"""
The settings during a calm, of those that a fault changes.
"""


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """
    Cancel tasks, and wait until they have ended.
    """
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


class Faults:
    """
    Faults that come at random moments, several at a time, and undo themselves.
    """

    def __init__(
        self,
        record: Record,
        balancer: Balancer,
        backends: Mapping[str, Backend],
        chooser: random.Random,
        without: Collection[str] = (),
    ) -> None:
        """
        @param without: Names of L{SHARES} that are left out.
        """
        self._record = record
        self._balancer = balancer
        self._backends = backends
        self._random = chooser
        self._tasks: set[asyncio.Task[None]] = set()
        self._deck: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for name, share in SHARES.items():
            if name not in without:
                self._deck += [getattr(self, f"_{name}")] * share

    async def run(self) -> None:
        """
        Let them come, until cancelled; each kind has its turn about once a minute.
        """
        try:
            while True:
                self._random.shuffle(self._deck)
                for fault in self._deck:
                    await asyncio.sleep(self._random.expovariate(1 / MEAN))
                    task = asyncio.create_task(fault())
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            await cancel(self._tasks)

    async def _last(self, name: str, least: float, most: float) -> None:
        """
        Let a fault last.
        """
        self._record.faults[name] += 1
        self._record.done[name.split()[0]] += 1
        try:
            await asyncio.sleep(self._random.uniform(least, most))
        finally:
            self._record.faults[name] -= 1
            self._record.over[name] = time.monotonic()

    def _any(self) -> tuple[Backend, subprocess.Popen[bytes]]:
        """
        Choose a backend that has a process.
        """
        running = [each for each in self._backends.values() if each.process is not None]
        backend = self._random.choice(running)
        assert backend.process is not None
        return backend, backend.process

    async def _kill(self) -> None:
        backend, process = self._any()
        self._record.killed.add(process.pid)
        self._record.kills.append(time.monotonic())
        process.kill()
        process.wait()
        try:
            await self._last(f"killed {backend.name}", 0.1, 4)
        finally:
            backend.start()

    async def _suspend(self) -> None:
        backend, process = self._any()
        unlessGone(process, signal.SIGSTOP)
        self._record.suspended[process.pid] = math.inf
        try:
            await self._last(f"suspended {backend.name}", 0.5, 8)
        finally:
            unlessGone(process, signal.SIGCONT)
            self._record.suspended[process.pid] = time.monotonic()

    async def _refuse(self) -> None:
        backend, process = self._any()
        unlessGone(process, signal.SIGUSR1)
        await self._last(f"refusing {backend.name}", REFUSING, REFUSING)
        if process.poll() is not None:
            # The signal came while it was starting, and it served nobody.
            backend.start()

    async def _freeze(self) -> None:
        self._balancer.process.send_signal(signal.SIGSTOP)
        try:
            await self._last("frozen balancer", 0.1, 2)
        finally:
            self._balancer.process.send_signal(signal.SIGCONT)

    async def _log(self) -> None:
        self._balancer.readLog(False)
        try:
            await self._last("stuck log", 10, 10)
        finally:
            self._balancer.readLog(True)

    async def _clock(self) -> None:
        seconds = self._random.choice([-7200, -60, -4, 4, 60, 7200])
        self._balancer.jump(seconds)
        try:
            await self._last(f"jumped {seconds:+d} s", 3, 12)
        finally:
            self._balancer.jump(0)

    async def _descriptors(self) -> None:
        limit = self._balancer.descriptors() + self._random.randint(0, 20)
        self._balancer.limitDescriptors(limit)
        try:
            await self._last("short descriptors", 1, 6)
        finally:
            self._balancer.limitDescriptors(LIMIT)

    async def _pause(self) -> None:
        names = [self._random.choice([*self._backends])]
        if self._random.random() < 0.4:
            names = []  # all of them
        self._balancer.send("pause", *names)
        try:
            await self._last(f"paused {' '.join(names) or 'all'}", 0.3, 4)
        finally:
            self._balancer.send("resume", *names)

    async def _hold(self) -> None:
        self._balancer.send("pool", "pause", "chaos")
        try:
            await self._last("held", 0.3, 2)
        finally:
            self._balancer.send("pool", "resume", self._random.choice([0, 0.5, 1.5]))

    async def _slots(self) -> None:
        name = self._random.choice([*GOOD])
        self._balancer.send("pool", "setSlots", name, self._random.randint(1, 5))
        self._balancer.send("pool", "setWeight", name, self._random.randint(1, 9))
        self._balancer.send("pool", "setPoolSlots", self._random.randint(5, 40))
        try:
            await self._last(f"few slots of {name}", 0.5, 4)
        finally:
            self._balancer.send("pool", "setSlots", name, 20)
            self._balancer.send("pool", "setPoolSlots", 0)

    async def _drain(self) -> None:
        name = self._random.choice([*GOOD])
        self._balancer.send("pool", "drain", name)
        try:
            await self._last(f"drained {name}", 0.2, 4)
        finally:
            self._balancer.send("pool", "undrain", name)

    async def _settings(self) -> None:
        changes = {
            "policy": self._random.choice(
                ["least", "fifo", "first", "source", "source", "quick"]
            ),
            "connectTimeout": self._random.choice([0.7, 1.0]),
            "idleTimeout": self._random.choice([4.0, 5.0]),
            "queueTimeout": self._random.choice([3.0, 4.0]),
            "queueSize": self._random.choice([50, 10_000]),
            "fairness": self._random.choice([False, True]),
            "sessionRate": self._random.choice(["0", "0", "60/s"]),
            "maxPerSource": self._random.choice([0, 20, 200]),
            "overLimit": self._random.choice(["delay", "delay", "refuse"]),
            "sourceMask": self._random.choice(["32,56", "24,56"]),
            "loadFactor": self._random.choice([0, 1.25]),
            "spillAfter": self._random.choice([0, 0.3]),
            "bandwidthIn": self._random.choice([0, 0, "2m"]),
            "bandwidthOut": self._random.choice([0, 0, "2m"]),
            "takeSlot": self._random.choice(["accept", "accept", "first-byte"]),
        }
        limits = (changes["sessionRate"], changes["maxPerSource"]) != ("0", 0)
        self._record.limited = math.inf if limits else time.monotonic()
        self._balancer.send("configure", changes)
        await self._last("other settings", 0.5, 4)

    async def _age(self) -> None:
        self._balancer.send("configure", {"maxAge": 0.3, "maxAgeJitter": 0.5})
        try:
            await self._last(AGED, 0.5, 3)
        finally:
            self._balancer.send("configure", {"maxAge": 0})

    async def _program(self) -> None:
        if self._random.random() < 0.5:
            process = pidOf(PROGRAM)
            if process:
                self._record.killed.add(process)
                self._record.kills.append(time.monotonic())
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            await self._last("killed program", 0, 2)
        else:
            removing = self._balancer.send("remove", WOKEN)
            await self._last("removed program", 0, 2)
            await removing
            self._balancer.addProgram()

    async def _remove(self) -> None:
        backend = self._random.choice([*self._backends.values()])
        removing = self._balancer.send("remove", backend.name)
        await self._last(f"removed {backend.name}", 0, 4)
        await removing
        self._balancer.send("add", backend.address)

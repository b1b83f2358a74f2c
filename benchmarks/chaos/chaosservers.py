"""
The processes of C{chaos.py} from outside: start them, give the balancer orders,
read its log, and see what it uses.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosclients import PATIENCE, Record

PEERS = Path(__file__).with_name("chaospeers.py")
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

SETTINGS = {
    "queueTimeout": "3s",
    "idleTimeout": "5s",
    "handshakeTimeout": "2s",
    "connectTimeout": "1s",
    "halfClosedTimeout": "3s",
    "drainTimeout": "5s",
    "maxPerSource": 200,
}

OFTEN = "check-interval=400ms check-fast=200ms check-down=300ms check-timeout=700ms"

GOOD = {
    "echo-1": ("echo", f"slots=40 health-check=tcp slow-start=1s {OFTEN}"),
    "echo-2": ("echo", "slots=6"),
    "speak": (
        "speak",
        f"slots=30 weight=2 health-check=send check-expect=hello {OFTEN}",
    ),
    "close": ("close", ""),
    "half": ("half", "slots=20"),
    "slow": ("slow", "slots=20"),
    "spare": ("echo", "slots=20 backup=yes"),
    "named": (
        "named",
        f"slots=20 send-proxy=v1 eject-after=5 health-check=tcp {OFTEN}",
    ),
}
"""
Backends that serve well while nothing is done to them: kind and settings.
"""

EVIL = {
    "hung": ("hung", "slots=2"),
    "reset": ("reset", "slots=3 end-on-down=yes"),
    "refuse": ("refuse", ""),
    "backlog": ("backlog", "slots=2"),
}
"""
Backends that never do. They are no destinations during a calm. The last two are
sockets of ours: bound, but not listening; and with a backlog of one, never
accepted.
"""

LIMIT = 2048
"""
The balancer's limit of open descriptors while they are not short.
"""

_libc = ctypes.CDLL(None)


class Gone(Exception):
    """
    The balancer ended, or it answers no more.
    """


_given: set[int] = set()


def freePort() -> int:
    """
    Find another port that is free, below those that outgoing connections take.
    """
    for port in random.sample(range(10_000, 32_000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    raise SystemExit("no free port")


PROGRAM = freePort()
"""
The port of that destination.
"""


def spawn(
    command: Sequence[str], limit: int = 0, **options: Any
) -> subprocess.Popen[bytes]:
    """
    Start a process that does not outlive us, however we end.

    @param limit: Its limit of open descriptors, or 0 for ours.
    """

    def prepare() -> None:
        _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=prepare,
        **options,
    )


def unlessGone(process: subprocess.Popen[bytes], number: int) -> None:
    """
    Send a signal to a process of ours.
    """
    if process.poll() is None:
        process.send_signal(number)


WOKEN = "woken"
"""
The destination that the balancer starts when it is needed.
"""


def pidOf(port: int) -> int:
    """
    Return the process number of the program that serves on a port; 0 for none.
    """
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = each.read_bytes().split(b"\0")
            if words[1:5] == [str(PEERS).encode(), b"backend", b"echo", b"%d" % port]:
                return int(each.parent.name)
    return 0


@dataclass
class Backend:
    """
    One backend.

    @ivar process: Its process, if it has one.
    @ivar held: The socket of ours that it is, if not.
    """

    name: str
    kind: str
    address: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    held: socket.socket | None = None

    def start(self) -> None:
        """
        Start it, unless it runs.
        """
        if self.kind in ("refuse", "backlog"):
            if self.held is not None:
                self.held.close()
            self.held = socket.socket()
            self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.held.bind(("127.0.0.1", self.port))
            if self.kind == "backlog":
                self.held.listen(0)
        elif self.process is None or self.process.poll() is not None:
            command = [sys.executable, str(PEERS), "backend", self.kind, str(self.port)]
            self.process = spawn(command)

    def stop(self) -> None:
        """
        Kill it.
        """
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Balancer:
    """
    The balancer's process, its control socket and its log.
    """

    def __init__(self, record: Record, workspace: Path, log: Path | None) -> None:
        """
        @param log: Where its log is kept, if anywhere.
        """
        self._record = record
        self._clock = workspace / "clock"
        self._keep = None if log is None else log.open("wb")
        self._control, self._given = socket.socketpair()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter
        self._number = 0
        self._rest = b""
        self._lines: deque[str] = deque(maxlen=20)
        self._failure: list[str] | None = None
        self._log, self._logEnd = os.pipe()
        self._logged = False
        # Small, so that it is soon full.
        fcntl.fcntl(self._log, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self._log, False)
        self.process: subprocess.Popen[bytes]

    async def start(self, python: str, mode: str, described: str) -> None:
        """
        Start it, and wait until it serves.

        @raise Gone: It does not.
        """
        environment = dict(os.environ)
        self.jump(0)
        if FAKETIME is not None:
            # Its file is read again each second. CLOCK_MONOTONIC stays right.
            environment |= {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        number = self._given.fileno()
        command = [python, str(PEERS), "balancer", mode, str(number), described]
        self.process = spawn(
            command,
            LIMIT,
            stdout=self._logEnd,
            stderr=self._logEnd,
            env=environment,
            pass_fds=[number],
        )
        os.close(self._logEnd)
        self._given.close()
        self.readLog(True)
        reader, self._writer = await asyncio.open_connection(sock=self._control)
        self._reading = asyncio.create_task(self._read(reader))
        await self.order("state")

    def stop(self) -> None:
        """
        Kill it, and remove what libfaketime leaves behind.
        """
        self.process.kill()
        self.process.wait()
        for each in Path("/dev/shm").glob(f"*faketime*_{self.process.pid}"):
            each.unlink()

    # Orders.

    def send(self, what: str, *arguments: Any) -> asyncio.Future[dict[str, Any]]:
        """
        Give an order: C{state}, or a method of L{iawlb.LoadBalancer} with its
        arguments.

        @return: Its answer to come: an C{error} or C{""}, and its state.
        """
        self._number += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._number] = answer
        order = json.dumps([self._number, what, *arguments])
        self._writer.write(order.encode() + b"\n")
        return answer

    async def order(self, what: str, *arguments: Any) -> dict[str, Any]:
        """
        Give an order, and wait for its answer.

        @raise Gone: None comes.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.send(what, *arguments)
        except TimeoutError:
            raise Gone(f"no answer to {what} in {PATIENCE:.0f} s") from None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                answer = json.loads(line)
                waiting = self._answers.pop(answer["number"])
                if not waiting.done():
                    waiting.set_result(answer)
        for each in self._answers.values():
            if not each.done():
                each.set_exception(Gone("\n".join(["it ended:", *self._lines])))

    def addProgram(self) -> asyncio.Future[dict[str, Any]]:
        """
        Add the destination that is started when it is needed.
        """
        port = str(PROGRAM)
        own = {
            "command": [sys.executable, str(PEERS), "backend", "echo", port],
            "idleTimeout": 1.0,
            "slots": 10,
        }
        return self.send("addProgram", f"tcp:127.0.0.1:{port} name={WOKEN}", own)

    # What is done to it.

    def jump(self, seconds: int) -> None:
        """
        Have its wall clock be so much ahead.
        """
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._clock)

    def limitDescriptors(self, limit: int) -> None:
        """
        Change its soft limit of open descriptors.
        """
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (limit, LIMIT))

    def readLog(self, reading: bool) -> None:
        """
        Read its log, or leave it in the pipe.
        """
        if reading == self._logged:
            return
        self._logged = reading
        loop = asyncio.get_running_loop()
        if reading:
            loop.add_reader(self._log, self._logComes)
        else:
            loop.remove_reader(self._log)

    def _logComes(self) -> None:
        data = os.read(self._log, 65536)
        if not data:
            self.readLog(False)
        if self._keep is not None:
            self._keep.write(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for each in lines:
            self._logLine(each.decode(errors="replace"))

    def _logLine(self, line: str) -> None:
        """
        Look for exceptions that nobody caught.
        """
        self._lines.append(line)
        if self._failure is not None:
            if re.match(r"\d{4}-\d\d-\d\d", line):
                text = "\n      ".join(self._failure[-12:])
                self._record.violate("exception in the log", text)
                self._failure = None
            else:
                self._failure.append(line)
        elif "Traceback (most recent call last)" in line:
            self._failure = [line]

    # What it uses.

    def descriptors(self) -> int:
        """
        Count its open descriptors.
        """
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self) -> int:
        """
        Say how many bytes of its memory are resident.
        """
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

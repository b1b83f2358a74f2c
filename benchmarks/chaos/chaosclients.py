"""
The clients of C{chaos.py}: how each behaves, and what is made of what it saw.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from chaospeers import BLOCK, closeByReset, pattern

T = TypeVar("T")

PATIENCE = 30.0
"""
The longest that a client can be kept without an end, in seconds, by a balancer
that keeps its time-outs: descriptors short for 6 s, 10 s of a stuck log, then the
queue's and the idle time-out.
"""

QUIET = 2.6
"""
A clean end after so many seconds without a byte is taken for a time-out's; the
shortest that can end a relayed session is 3 s, of which a tenth may be lacking.
"""

LATELY = 6.0
"""
How long a fault that is over is told with a violation, in seconds.
"""

AGED = "short ages"
"""
The name of the fault in which all sessions are soon too old.
"""

SHOWN = 8
"""
Violations of one kind that are printed in full.
"""

RIGHT = "right"
ERROR = "error"
KILLED = "killed"
TIMED_OUT = "timed out"
ENDED = "ended"
BAD = "BAD"
VERDICTS = (RIGHT, ERROR, KILLED, TIMED_OUT, ENDED, BAD)
"""
What a client can have come to: its bytes exactly; an error that it saw; a clean
end too early since the backend was killed, or by a time-out; an end that was not
to be judged; a violation.
"""


@dataclass
class Record:
    """
    What was done and what was seen.

    @ivar verdicts: Clients by behaviour and verdict.
    @ivar violations: Violations by kind.
    @ivar killed: Process numbers of backends that were killed.
    @ivar kills: When, by the monotonic clock.
    @ivar suspended: Until when a backend was suspended, by process number.
    @ivar faults: The faults that last now.
    @ivar over: When each fault was last over.
    @ivar done: Faults so far.
    @ivar limited: Until when limits delayed or refused clients.
    """

    began: float = field(default_factory=time.monotonic)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    killed: set[int] = field(default_factory=set)
    kills: list[float] = field(default_factory=list)
    suspended: dict[int, float] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    over: dict[str, float] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    limited: float = 0.0

    def say(self, text: str) -> None:
        """
        Print a line with the time since the start.
        """
        minutes, seconds = divmod(time.monotonic() - self.began, 60)
        print(f"{minutes:3.0f}:{seconds:04.1f}  {text}", flush=True)

    def violate(self, kind: str, detail: str) -> None:
        """
        Count a violation, and print it unless there were many of its kind.
        """
        self.violations[kind] += 1
        if self.violations[kind] <= SHOWN:
            now = time.monotonic()
            lately = [each for each, at in self.over.items() if now - at < LATELY]
            self.say(
                f"VIOLATION {kind}: {detail}; faults now: "
                f"{', '.join(sorted(+self.faults)) or 'none'}; lately: "
                f"{', '.join(sorted({*lately} - {*+self.faults})) or 'none'}"
            )


class Ended(Exception):
    """
    A clean end before all bytes had come.
    """


class Wrong(Exception):
    """
    Bytes that are not the right ones.
    """


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CONTEXT = _context()


class Wire:
    """
    A client's connection, plain or TLS, that tells a clean end from a cut one.
    """

    def __init__(self, tls: bool = False, buffer: int = 0) -> None:
        """
        @param buffer: The size of the receive buffer, or 0 for the kernel's own.
        """
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if tls:
            self._tls = _CONTEXT.wrap_bio(self._incoming, self._outgoing)

    async def connect(self, port: int, header: bytes = b"") -> None:
        """
        Connect, and do the TLS handshake.

        @param header: What is sent before it, in two pieces.
        """
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", port))
        if header:
            await loop.sock_sendall(self.socket, header[:20])
            await asyncio.sleep(0.005)
            await loop.sock_sendall(self.socket, header[20:])
        if self._tls is not None:
            await self._pump(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        """
        Send all of it.
        """
        if self._tls is not None:
            await self._pump(partial(self._tls.write, data))
        else:
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self, most: int = 65536) -> bytes:
        """
        Receive some bytes, or none at a clean end.

        @raise OSError: The connection was reset, or TLS ended without its word.
        """
        if self._tls is not None:
            return await self._pump(partial(self._tls.read, most))
        return await asyncio.get_running_loop().sock_recv(self.socket, most)

    async def _pump(self, step: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        while True:
            result: list[T] = []
            try:
                result.append(step())
            except ssl.SSLWantReadError:
                pass
            if self._outgoing.pending:
                await loop.sock_sendall(self.socket, self._outgoing.read())
            if result:
                return result[0]
            data = await loop.sock_recv(self.socket, 65536)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()


class Visit:
    """
    One client, from its connect to its end.
    """

    def __init__(self, record: Record, wire: Wire, port: int, seed: float) -> None:
        """
        @param port: Where the balancer listens.
        """
        self.wire = wire
        self.random = random.Random(seed)
        self.port = port
        self.started = self.last = time.monotonic()
        self.kind = "nobody"
        self.process = 0
        self.got = 0
        self.wanted = 0
        self._record = record
        self._held = b""
        self._number = self.random.randrange(1 << 30)

    async def ask(self, up: int, down: int, piece: int = 65536) -> None:
        """
        Send a request.

        @param piece: Bytes sent at a time; if it is 1, slowly.
        """
        self._number += 1
        self.got, self.wanted = 0, down
        data = f"{self._number} {up} {down}\n".encode() + pattern(self._number, up)
        for start in range(0, len(data), piece):
            await self.wire.send(data[start : start + piece])
            self.last = time.monotonic()
            if piece == 1:
                await asyncio.sleep(0.005)

    async def more(self, most: int = 65536) -> None:
        """
        Receive some bytes.

        @raise Ended: There are no more.
        """
        data = await self.wire.receive(most)
        if not data:
            raise Ended
        self.last = time.monotonic()
        self._held += data

    async def hear(self, most: int = 65536, pause: float = 0.0) -> None:
        """
        Receive an answer, and compare it as far as it comes.

        @param pause: How long to read nothing, after the first bytes.
        @raise Ended: It ended early.
        @raise Wrong: It is not right.
        """
        word = "hello"
        while word == "hello":
            while b"\n" not in self._held:
                await self.more(most)
            line, _, self._held = self._held.partition(b"\n")
            try:
                word, *numbers = line.decode().split()
                self.process, number, down = map(int, numbers)
            except ValueError:
                raise Wrong(f"the answer begins with {line[:60]!r}") from None
            self.kind = word
        if word == "wrong" or number != self._number or down != self.wanted:
            raise Wrong(f"request {self._number} was answered {line!r}")
        right = memoryview(pattern(number + 1, down))
        while True:
            piece, self._held = self._held, b""
            if piece != right[self.got : self.got + len(piece)]:
                raise Wrong(f"bytes from {self.got} of {down} on ({self.kind})")
            self.got += len(piece)
            if self.got >= down:
                return
            if pause:
                await asyncio.sleep(pause)
                pause = 0.0
            await self.more(most)

    async def untilEnd(self) -> None:
        """
        Wait for the end of the connection, whichever it is.
        """
        while await self.wire.receive():
            pass

    def size(self, mean: int) -> int:
        """
        Choose a size.
        """
        return min(int(self.random.expovariate(1 / mean)), len(BLOCK))

    def judge(self) -> str:
        """
        Say what a clean end before the end of an answer is.
        """
        now = time.monotonic()
        killed = self.process in self._record.killed
        if not self.process:
            # It is not known whose end it was.
            killed = any(each >= self.started for each in self._record.kills)
        if killed:
            return KILLED
        if not self.process and self._record.limited > self.started:
            return TIMED_OUT
        aged = self._record.over.get(AGED, -LATELY)
        if self._record.faults[AGED] or now - aged < LATELY:
            return TIMED_OUT
        kind = "clean end too early"
        if self.kind == "reset":
            kind = "reset hidden"
        elif now - self.last >= QUIET:
            # One that has begun to answer falls silent only if it is suspended.
            suspended = self._record.suspended.get(self.process, 0.0)
            if not self.process or suspended > self.last:
                return TIMED_OUT
            kind = "timed out for no reason"
        self._record.violate(
            kind,
            f"{self.got} of {self.wanted} bytes from {self.kind} "
            f"({self.process}), {now - self.started:.2f} s after the connect and "
            f"{now - self.last:.2f} s after the last byte",
        )
        return BAD


# How clients behave. Those that do not return RIGHT are judged for their end only.


async def _normal(visit: Visit) -> str:
    for _ in range(visit.random.randint(1, 4)):
        await visit.ask(visit.size(2000), visit.size(20_000))
        await visit.hear()
        if visit.kind not in ("echo", "speak", "slow"):
            break  # the others serve one request on a connection
        await asyncio.sleep(visit.random.random() / 4)
    return RIGHT


async def _halfClose(visit: Visit) -> str:
    await visit.ask(visit.size(2000), visit.size(50_000))
    visit.wire.socket.shutdown(socket.SHUT_WR)
    await visit.hear()
    if extra := await visit.wire.receive():
        raise Wrong(f"{extra[:40]!r} behind the answer ({visit.kind})")
    return RIGHT


async def _bytewise(visit: Visit) -> str:
    await visit.ask(visit.size(40), visit.size(200), piece=1)
    await visit.hear(most=1)
    return RIGHT


async def _pausing(visit: Visit) -> str:
    await visit.ask(visit.size(2000), len(BLOCK) // 2)
    await visit.hear(pause=visit.random.uniform(0.2, 1.8))
    return RIGHT


async def _uploading(visit: Visit) -> str:
    await visit.ask(visit.size(len(BLOCK) // 4), visit.size(2000))
    await visit.hear()
    return RIGHT


async def _stalledReader(visit: Visit) -> str:
    await visit.ask(10, len(BLOCK))
    await asyncio.sleep(8)
    await visit.untilEnd()
    return ENDED


async def _stalledWriter(visit: Visit) -> str:
    await visit.wire.send(b"1 1000 1000\n" + bytes(visit.random.randrange(900)))
    await visit.untilEnd()
    return ENDED


async def _silent(visit: Visit) -> str:
    await visit.untilEnd()
    return ENDED


async def _resetting(visit: Visit) -> str:
    await visit.ask(visit.size(2000), visit.size(1_000_000))
    await asyncio.sleep(min(4.0, visit.random.expovariate(2)))
    closeByReset(visit.wire.socket)
    return ENDED


async def _leaving(visit: Visit) -> str:
    if visit.random.random() < 0.5:
        closeByReset(visit.wire.socket)
    return ENDED


async def _garbage(visit: Visit) -> str:
    await visit.wire.send(visit.random.randbytes(visit.random.randint(1, 2000)))
    await visit.untilEnd()
    return ENDED


async def _halfHeader(visit: Visit) -> str:
    await visit.wire.send(b"PROXY TCP4 192.0.2.1 192")
    await asyncio.sleep(visit.random.random())
    if visit.random.random() < 0.5:
        closeByReset(visit.wire.socket)
    return ENDED


async def _halfHandshake(visit: Visit) -> str:
    await visit.wire.send(bytes.fromhex("1603010200010001fc0303") + bytes(40))
    await asyncio.sleep(visit.random.random())
    closeByReset(visit.wire.socket)
    return ENDED


@dataclass(frozen=True)
class Behaviour:
    """
    A way to behave.

    @ivar share: How often it is chosen, beside the others.
    @ivar act: Does it, and says what it came to.
    @ivar listener: Where the client comes: C{plain}; C{secure}, an endpoint of
        Twisted's for TLS; C{named}, behind a PROXY header; or C{ended}, where the
        balancer ends TLS behind a PROXY header.
    @ivar handshake: Whether it does the TLS handshake there.
    @ivar header: Whether it sends a PROXY header.
    @ivar buffer: Its receive buffer, or 0 for the kernel's own.
    """

    name: str
    share: int
    act: Callable[[Visit], Awaitable[str]]
    listener: str = "plain"
    handshake: bool = False
    header: bool = False
    buffer: int = 0


BEHAVIOURS = (
    Behaviour("normal", 32, _normal),
    Behaviour("half-close", 10, _halfClose),
    Behaviour("byte by byte", 3, _bytewise),
    Behaviour("pausing", 2, _pausing, buffer=100_000),
    Behaviour("uploading", 3, _uploading),
    Behaviour("stalled reader", 2, _stalledReader, buffer=20_000),
    Behaviour("stalled writer", 3, _stalledWriter),
    Behaviour("silent", 2, _silent),
    Behaviour("resetting", 14, _resetting),
    Behaviour("leaving", 10, _leaving),
    Behaviour("TLS normal", 10, _normal, listener="secure", handshake=True),
    Behaviour("TLS uploading", 1, _uploading, listener="secure", handshake=True),
    Behaviour("TLS resetting", 2, _resetting, listener="secure", handshake=True),
    Behaviour("TLS silent", 2, _silent, listener="secure"),
    Behaviour("TLS garbage", 2, _garbage, listener="secure"),
    Behaviour("TLS half handshake", 2, _halfHandshake, listener="secure"),
    Behaviour("named", 10, _normal, listener="named", header=True),
    Behaviour("named half-close", 3, _halfClose, listener="named", header=True),
    Behaviour("named resetting", 3, _resetting, listener="named", header=True),
    Behaviour("named silent", 1, _silent, listener="named"),
    Behaviour("named garbage", 2, _garbage, listener="named"),
    Behaviour("named half header", 2, _halfHeader, listener="named"),
    Behaviour("ended", 6, _normal, listener="ended", handshake=True, header=True),
    Behaviour("ended garbage", 1, _garbage, listener="ended", header=True),
    Behaviour(
        "ended resetting", 2, _resetting, listener="ended", handshake=True, header=True
    ),
    Behaviour("ended silent", 1, _silent, listener="ended", header=True),
)
BY_NAME = {each.name: each for each in BEHAVIOURS}


def header(chooser: random.Random) -> bytes:
    """
    Make the PROXY header of some client.
    """
    host, port = chooser.randint(1, 20), chooser.randint(1024, 65535)
    return f"PROXY TCP4 192.0.2.{host} 198.51.100.1 {port} 443\r\n".encode()


async def visit(
    record: Record,
    behaviour: Behaviour,
    port: int,
    seed: float,
    patience: float = PATIENCE,
) -> str:
    """
    Be a client, and record what it came to.
    """
    wire = Wire(behaviour.handshake, behaviour.buffer)
    client = Visit(record, wire, port, seed)
    verdict = ERROR
    limit = asyncio.timeout(patience)
    try:
        async with limit:
            await wire.connect(port, header(client.random) if behaviour.header else b"")
            verdict = await behaviour.act(client)
    except Ended:
        verdict = client.judge()
    except Wrong as error:
        verdict = BAD
        record.violate("wrong bytes", f"{behaviour.name}: {error}")
    except OSError:
        if limit.expired():  # a TimeoutError, which is an OSError
            verdict = BAD
            record.violate(
                "never ended",
                f"{behaviour.name}, {client.got} of {client.wanted} bytes from "
                f"{client.kind} ({client.process}) after {patience:.0f} s",
            )
        elif behaviour.act in (_silent, _stalledReader, _stalledWriter, _garbage):
            verdict = ENDED
    finally:
        wire.socket.close()
    record.verdicts[behaviour.name, verdict] += 1
    return verdict

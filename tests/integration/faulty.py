"""
A server whose faults a test chooses, and clients that count exactly what becomes of
their requests. Run as a program, it is the server: C{python faulty.py PORT}.

The server answers a request with its own first line, after a moment. After SIGUSR1 it
fails fast: it closes each connection as soon as it is accepted. After SIGUSR2 it is
well again.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from contextlib import suppress

WORK = 0.005
"""
How long the server needs for an answer, in seconds.
"""

PATIENCE = 10.0
"""
How long a client waits, in seconds.
"""

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"


class Server:
    """
    The server.
    """

    def __init__(self) -> None:
        self._failing = False

    def fail(self, failing: bool) -> None:
        """
        Begin, or cease, to fail.
        """
        self._failing = failing

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """
        Serve one connection.
        """
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if not self._failing:
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(WORK)
                body = head.partition(b"\r\n")[0]
                writer.write(HEAD % len(body) + body)
        writer.close()

    async def run(self, port: int) -> None:
        """
        Serve until the process is killed.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.fail, True)
        loop.add_signal_handler(signal.SIGUSR2, self.fail, False)
        server = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=4096)
        print("ready", flush=True)
        await server.serve_forever()


class Clients:
    """
    Clients that ask again and again, each time on a new connection.

    @ivar counts: How many requests came to what: C{answered}; C{refused}, when there
        was no connection, or it was reset at once; C{unanswered}, when it ended without
        a byte of an answer; C{cut}, when it was within an answer; C{late}; C{wrong}.
    @ivar times: How long each answer took, in seconds.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._number = 0
        self._running = True
        self.counts: Counter[str] = Counter()
        self.times: list[float] = []

    async def run(self, number: int) -> None:
        """
        Run so many at a time, until they are stopped.
        """
        await asyncio.gather(*(self._ask() for _ in range(number)))

    def stop(self) -> None:
        """
        Have each finish its last request.
        """
        self._running = False

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        while self._running:
            began = loop.time()
            try:
                async with asyncio.timeout(PATIENCE):
                    became = await self._once()
            except TimeoutError:
                became = "late"
            self.counts[became] += 1
            if became == "answered":
                self.times.append(loop.time() - began)
            else:
                await asyncio.sleep(0.01)

    async def _once(self) -> str:
        self._number += 1
        line = b"GET /%d HTTP/1.1" % self._number
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return "refused"
        try:
            writer.write(line + b"\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = b""
            try:
                while part := await reader.read(65536):
                    received += part
            except OSError:
                return "cut" if received else "unanswered"
            if not received:
                return "unanswered"
            right = HEAD % len(line) + line
            if received == right:
                return "answered"
            return "cut" if right.startswith(received) else "wrong"
        finally:
            writer.close()


if __name__ == "__main__":
    asyncio.run(Server().run(int(sys.argv[1])))

"""
The least that a correct relay on uvloop can be: C{uvloop_relay.py PORT
DESTINATION_PORT}.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Half(asyncio.Protocol):
    """
    One of the two connections of a session.

    @ivar transport: Its transport, until it is lost.
    @ivar other: The other connection, once there is one.
    @ivar early: What came before that.
    @ivar ended: Whether the peer has ended its half.
    """

    transport: asyncio.Transport | None = None
    other: Half | None = None
    early = b""
    ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Keep the transport.
        """
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """
        Pass bytes on, or keep them and read no more for now.
        """
        if self.other is None:
            # uvloop forgets a pause asked for in connection_made.
            self.early += data
            if self.transport is not None:
                self.transport.pause_reading()
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """
        Pass the end of this half on; the second end closes both.
        """
        self.ended = True
        other = self.other
        if other is not None and other.transport is not None:
            if not other.ended:
                other.transport.write_eof()
                return True
            other.transport.close()
        # Without another yet, pairing will pass it on.
        return other is None

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Close the other connection after what is still to be written.
        """
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()
        self.other = None

    def pause_writing(self) -> None:
        """
        Stop reading the other side while this one is slow.
        """
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """
        Read the other side again.
        """
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Client(Half):
    """
    An accepted connection.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Connect to the destination.
        """
        super().connection_made(transport)
        # Kept here since the loop's reference is a weak one.
        self.joining = asyncio.get_running_loop().create_task(self.join())

    async def join(self) -> None:
        """
        Pair this connection with one to the destination.
        """
        loop = asyncio.get_running_loop()
        try:
            onward, other = await loop.create_connection(Half, "127.0.0.1", self.port)
        except OSError:
            if self.transport is not None:
                self.transport.abort()
            return
        if self.transport is None:
            onward.close()
            return
        self.other, other.other = other, self
        if self.early:
            onward.write(self.early)
            self.early = b""
            self.transport.resume_reading()
        if self.ended:
            onward.write_eof()


async def main(port: int, destination: int) -> None:
    """
    Serve until killed.
    """
    server = await asyncio.get_running_loop().create_server(
        lambda: Client(destination), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))

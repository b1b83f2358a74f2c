"""
Time-outs under load, and of sessions whose client takes its time, on real sockets,
for each kind of relay.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
import pytest_twisted

from iawlb.core.outcome import Outcome
from iawlb.core.session import IRelay
from tests.net import Echo, until
from tests.rig import RELAYS, Running, payload, rig, settled

pytestmark = pytest.mark.parametrize("relay", RELAYS)

HOUR = 3600.0
ANSWER = payload(1024 * 1024)
"""
An answer that the kernel's buffers hold.
"""

MUCH = payload(24 * 1024 * 1024)
"""
One that they do not.
"""


@contextmanager
def slowClient(on: Running) -> Iterator[socket.socket]:
    """
    Connect a client whose kernel holds few bytes that it has not read.
    """
    port = int(on.balancer.addresses[0].rpartition(":")[2])
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        client.send(b"question")
        yield client


def take(client: socket.socket, most: int) -> tuple[bytes, str]:
    """
    Read what has come, and return how the connection ends.

    @param most: The largest number of bytes to read.
    """
    received = bytearray()
    while len(received) < most:
        try:
            data = client.recv(most - len(received))
        except BlockingIOError:
            return bytes(received), "open"
        except ConnectionResetError:
            return bytes(received), "reset"
        if not data:
            return bytes(received), "ended"
        received += data
    return bytes(received), "open"


@pytest_twisted.ensureDeferred
async def test_stillTakes(relay: str, tmp_path: Path) -> None:
    """
    A client that takes its answer slowly gets all of it, however often the time-out
    comes. When it takes nothing for the whole time, it is closed in order, so that it
    can take the rest from the kernel. The record counts what it has acknowledged.
    """
    async with rig(relay, "tcp4", tmp_path) as on:
        with slowClient(on) as client:
            destination = await on.server.peer()
            destination.write(ANSWER)
            destination.end()
            session = on.session
            held = session.relay
            assert held is not None
            await until(lambda: session.bytesOut == len(ANSWER) and held.halfClosed)
            await settled(held.undelivered)
            received = b""
            for number in range(1, 5):
                on.lookAfter(number * (HOUR + 2))
                assert on.balancer.sessions == [session]
                before = held.undelivered()
                assert before
                wanted = len(received) + 100_000
                while len(received) < wanted:
                    received += take(client, wanted - len(received))[0]
                    await settled(held.undelivered)
                assert held.undelivered() < before
            on.lookAfter(5 * (HOUR + 2))
            left = held.undelivered()
            on.lookAfter(6 * (HOUR + 2))
            ended = await on.ended()
            assert ended.outcome is Outcome.CLIENT_HALF_CLOSED_TIMEOUT
            assert len(received) <= ended.bytesOut == len(ANSWER) - left < len(ANSWER)
            how = "open"
            while how == "open":
                data, how = take(client, len(ANSWER))
                received += data
                await settled(lambda: 0)
            assert (received == ANSWER, how) == (True, "ended")


@pytest_twisted.ensureDeferred
async def test_takesNothing(relay: str, tmp_path: Path) -> None:
    """
    A client that takes nothing for twice the time-out is cut off, and the record counts
    no more than the client can still read.
    """
    async with rig(relay, "tcp4", tmp_path) as on:
        with slowClient(on) as client:
            destination = await on.server.peer()
            destination.write(MUCH)
            session = on.session
            await settled(lambda: session.bytesOut)
            on.lookAfter(HOUR + 2)
            assert session.relay is not None and session.relay.outcome is None
            on.lookAfter(2 * (HOUR + 2))
            on.lookAfter(2 * (HOUR + 2) + 2)
            ended = await on.ended()
            assert ended.outcome is Outcome.IDLE_TIMEOUT
            received, how = take(client, len(MUCH))
            assert how == "reset"
            # Its kernel may not have confirmed the last of them yet.
            assert ended.bytesOut <= len(received) < len(MUCH)


def movedSince(relay: IRelay, moment: float) -> bool:
    """
    Say whether a byte has moved since a moment.
    """
    return relay.moved >= moment


@pytest_twisted.ensureDeferred
async def test_moved(relay: str, tmp_path: Path) -> None:
    """
    Each byte that a peer sends or takes, and each end, counts from when it came.
    """
    async with rig(relay, "tcp4", tmp_path) as on:
        client, destination = await on.pair()
        held = on.session.relay
        assert held is not None
        for step in (
            lambda: client.write(b"question"),
            lambda: destination.write(b"answer"),
            client.end,
            lambda: destination.write(b"more"),
        ):
            now = monotonic()
            step()
            await until(partial(movedSince, held, now))
    async with rig("fast", "tcp4", tmp_path) as on:
        with slowClient(on) as slow:
            destination = await on.server.peer()
            destination.write(MUCH)
            destination.end()
            session = on.session
            await settled(lambda: session.bytesOut)
            held = session.relay
            assert held is not None
            now, passed = monotonic(), session.bytesOut
            # No byte is read while some wait: these are written.
            assert held.moved < now
            while held.moved < now:
                take(slow, 1_000_000)
                await settled(lambda: 0)
            assert session.bytesOut >= passed


@pytest_twisted.ensureDeferred
async def test_resets(relay: str, tmp_path: Path) -> None:
    """
    If a client resets the connection, the bytes that it had not taken are not counted.
    """
    async with rig(relay, "tcp4", tmp_path) as on:
        with slowClient(on) as client:
            destination = await on.server.peer()
            destination.write(MUCH)
            session = on.session
            await settled(lambda: session.bytesOut)
            received, _ = take(client, 10_000)
            await settled(lambda: session.bytesOut)
            passed = session.bytesOut
            linger = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.close()
            ended = await on.ended()
            assert ended.outcome is Outcome.CLIENT_RESET
            assert len(received) <= ended.bytesOut < passed
            if relay == "fast":
                # What the client's kernel held at most.
                assert ended.bytesOut < len(received) + 1_000_000


@pytest_twisted.ensureDeferred
async def test_uploadResets(relay: str, tmp_path: Path) -> None:
    """
    So it is with a destination, when it resets or the balancer ends the session.
    """
    async with rig(relay, "tcp4", tmp_path) as on:
        for number, kill in enumerate((False, True)):
            client = await on.client()
            destination = await on.server.peer(number)
            destination.transport.pauseProducing()
            client.write(MUCH)
            (session,) = on.balancer.sessions
            passed = await settled(partial(getattr, session, "bytesIn"))
            if kill:
                on.balancer.cutDrain()
            else:
                destination.reset()
            ended = await on.ended(number + 1)
            assert ended.bytesIn > 0
            # Of a reset, Twisted tells only when the kernel can no longer be asked.
            if kill or relay == "fast":
                assert ended.bytesIn < passed


@pytest_twisted.ensureDeferred
async def test_underLoad(relay: str, tmp_path: Path) -> None:
    """
    While one session passes bytes all the time, silent sessions beside it are ended,
    and that one is not.
    """
    async with rig(relay, "tcp4", tmp_path, make=Echo, idleTimeout=1) as on:
        busy = await on.client()
        silent = [await on.client() for _ in range(20)]
        await until(lambda: len(on.balancer.sessions) == 21)
        rounds = 0
        while not all(each.ended or each.lost for each in silent):
            rounds += 1
            busy.write(b"x")
            await busy.got(rounds)
        assert busy.lost is None
        outcomes = {each.outcome for each in on.records.ended}
        assert (len(on.records.ended), outcomes) == (20, {Outcome.IDLE_TIMEOUT})

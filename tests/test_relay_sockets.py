"""
Bytes, ends, resets and time-outs over real sockets, for each kind of relay.
"""

from __future__ import annotations

import gc
import socket
import time
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st

from iawlb.core.outcome import Outcome
from iawlb.relay import waiting
from iawlb.relay.waiting import isWaiting
from tests.net import Echo, Peer, pause, until
from tests.rig import RELAYS, Running, payload, rig, settled, sideBySide

MIB = 1024 * 1024
MUCH = 24 * MIB
"""
More than all kernel buffers on the way hold for a peer that does not read.
"""

SIZES = (1, 2, 1000, 65535, 65536, 65537, 131072, 262143, 262144, 262145, MIB, 3)
"""
Writes around the sizes of the buffers on the way.
"""


RESET_BY = {
    "client": Outcome.CLIENT_RESET,
    "destination": Outcome.DESTINATION_RESET,
}
"""
How a session is said to have ended, by who reset it.
"""


@pytest.fixture(params=sorted(RELAYS))
def relay(request: pytest.FixtureRequest) -> str:
    """
    Each kind of relay.
    """
    return str(request.param)


TCP = ("tcp4", "tcp6")
FAMILIES = (*TCP, "unix")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """
    Each family of sockets.
    """
    return str(request.param)


class Speaker(Peer):
    """
    A server that speaks as soon as it is connected.
    """

    words = b"220 welcome\r\n"

    def connectionMade(self) -> None:
        """
        Speak first.
        """
        self.write(self.words)


class Hasty(Speaker):
    """
    Speaks, and closes at once.
    """

    def connectionMade(self) -> None:
        """
        Speak and close.
        """
        super().connectionMade()
        self.close()


class AnswerAtEnd(Peer):
    """
    A server that answers once it has the whole request, as C{wc} would.
    """

    def readConnectionLost(self) -> None:
        """
        Answer, and close.
        """
        super().readConnectionLost()
        self.write(b"%d bytes" % len(self.received))
        self.close()


def stall(peer: Peer) -> None:
    """
    Stop a peer's reading, and make its kernel hold few bytes.
    """
    peer.transport.pauseProducing()
    handle = peer.transport.getHandle()
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)


def resume(peer: Peer) -> None:
    """
    Have a peer read again.
    """
    peer.transport.resumeProducing()


def byName(name: str, client: Peer, destination: Peer) -> tuple[Peer, Peer]:
    """
    Say which peer is named, and which is the other.
    """
    return (client, destination) if name == "client" else (destination, client)


async def ends(peer: Peer) -> None:
    """
    Wait for the other's end, and close.
    """
    await until(lambda: peer.ended or peer.lost)
    peer.close()
    await peer.closed()


# Bytes and ends.


@pytest_twisted.ensureDeferred
async def test_bytesBothWays(relay: str, family: str, tmp_path: Path) -> None:
    """
    The bytes that one side sends arrive at the other, both ways at once, however they
    are cut into writes.
    """
    async with rig(relay, family, tmp_path) as on:
        client, destination = await on.pair()
        up, down = payload(sum(SIZES), 1), payload(sum(SIZES), 2)
        start = 0
        for size in SIZES:
            client.write(up[start : start + size])
            destination.write(down[start : start + size])
            start += size
            await pause(0)
        client.end()
        destination.end()
        await ends(client)
        await ends(destination)
        assert destination.received == up
        assert client.received == down
        session = await on.ended()
        assert session.outcome is Outcome.DONE
        assert (session.bytesIn, session.bytesOut) == (len(up), len(down))


@pytest_twisted.ensureDeferred
async def test_manyAtOnce(relay: str, family: str, tmp_path: Path) -> None:
    """
    Many sessions at once do not mix their bytes.
    """
    async with rig(relay, family, tmp_path, Echo) as on:
        clients = [await on.client() for _ in range(30)]
        for number, client in enumerate(clients):
            client.write(payload(10_000 * number + 1, number))
            client.end()
        for number, client in enumerate(clients):
            await ends(client)
            assert client.received == payload(10_000 * number + 1, number)
            assert await on.outcome(number + 1) is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_answerAfterEnd(relay: str, family: str, tmp_path: Path) -> None:
    """
    A client that ends its request, as C{echo x | nc} does, gets the answer.
    """
    async with rig(relay, family, tmp_path, AnswerAtEnd) as on:
        client = await on.client()
        client.write(b"x")
        client.end()
        await ends(client)
        assert client.received == b"1 bytes"
        assert not client.wasReset
        assert await on.outcome() is Outcome.DONE


class Dying(Peer):
    """
    A server that answers a question, and ends at the next one as if it was killed then.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Answer, or die.
        """
        super().dataReceived(data)
        if data == b"question":
            self.write(b"answer")
        else:
            self.close()


async def asked(on: Running, *words: bytes, leaves: bool = False) -> Outcome | None:
    """
    Send several messages, and wait for the answer to each that is a question.

    @param leaves: Whether the client does not wait for the end after the last message.
    @return: The outcome of the session.
    """
    before = len(on.records.ended)
    client = await on.client()
    for number, word in enumerate(words):
        client.write(word)
        if word == b"question":
            await client.got(6 * (number + 1))
    if not leaves:
        await until(lambda: client.ended or client.lost)
    client.close()
    outcome = await on.outcome(before + 1)
    assert not client.wasReset
    return outcome


@pytest_twisted.ensureDeferred
async def test_unanswered(relay: str, family: str, tmp_path: Path) -> None:
    """
    The end of a server that was killed in mid-request is not logged as a normal close,
    although its kernel closes in order; a client that has left has not waited.
    """
    async with rig(relay, family, tmp_path, Dying) as on:
        assert await asked(on, b"request") is Outcome.UNANSWERED
        assert await asked(on, b"request", leaves=True) is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_lastWord(relay: str, family: str, tmp_path: Path) -> None:
    """
    A last word behind which the server closes at once is a normal end, also when
    the client has not closed by then; a question that stood for a while is not.
    """
    async with rig(relay, family, tmp_path, Dying) as on:
        assert await asked(on, b"question", b"bye") is Outcome.DONE
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(waiting, "LEAST_WAIT", 0.0)
            outcome = await asked(on, b"question", b"request")
        assert outcome is Outcome.UNANSWERED


@pytest_twisted.ensureDeferred
async def test_endsFirst(relay: str, family: str, tmp_path: Path) -> None:
    """
    A destination that ends its half without a word and goes on taking what the client
    sends is not logged as one that left a question unanswered.
    """
    async with rig(relay, family, tmp_path) as on:
        client, destination = await on.pair()
        client.write(b"upload, ")
        await destination.got(8)
        destination.end()
        await until(lambda: client.ended)
        client.write(b"the rest")
        await destination.got(16)
        client.end()
        assert await on.outcome() is Outcome.DONE


@pytest.mark.parametrize("answered", [False, True])
def test_waiting(answered: bool) -> None:
    """
    A client that has sent its farewell, and ended, waits for nothing, also when neither
    was read yet; otherwise the client waits if its question has stood for a while.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours, theirs:
        theirs.sendall(b"QUIT")
        assert isWaiting(ours.fileno(), answered) is not answered
        # The kernel counts the time.
        time.sleep(2 * waiting.LEAST_WAIT)
        assert isWaiting(ours.fileno(), answered)
        theirs.shutdown(socket.SHUT_WR)
        assert not isWaiting(ours.fileno(), answered)


@pytest_twisted.ensureDeferred
async def test_endBeforeConnected(relay: str, family: str, tmp_path: Path) -> None:
    """
    A client that sent everything and ended while it waited is served like any other.
    """
    async with rig(relay, family, tmp_path, AnswerAtEnd) as on:
        on.balancer.pause()
        client = await on.client()
        client.write(payload(MIB))
        client.end()
        await until(lambda: on.balancer.waiting)
        on.balancer.resume()
        await ends(client)
        assert client.received == b"%d bytes" % MIB
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_requestAfterDestinationsEnd(
    relay: str, family: str, tmp_path: Path
) -> None:
    """
    A destination that ends its half still gets what the client sends.
    """
    async with rig(relay, family, tmp_path) as on:
        client, destination = await on.pair()
        destination.write(b"only this")
        destination.end()
        await until(lambda: client.ended)
        assert client.received == b"only this"
        client.write(payload(MIB))
        await destination.got(MIB)
        client.end()
        await ends(destination)
        assert destination.received == payload(MIB)
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_destinationSpeaksFirst(relay: str, family: str, tmp_path: Path) -> None:
    """
    The greeting of a destination that speaks first reaches a silent client.
    """
    async with rig(relay, family, tmp_path, Speaker) as on:
        client = await on.client()
        assert await client.got(len(Speaker.words)) == Speaker.words


@pytest_twisted.ensureDeferred
async def test_destinationSpeaksAndCloses(
    relay: str, family: str, tmp_path: Path
) -> None:
    """
    The bytes that a destination sends are delivered even if it closes at once, and the
    end after them.
    """
    async with rig(relay, family, tmp_path, Hasty) as on:
        for number in range(1, 21):
            client = await on.client()
            await ends(client)
            assert client.received == Speaker.words
            assert await on.outcome(number) is Outcome.DONE


@pytest.mark.parametrize("stalled", ["client", "destination"])
@pytest_twisted.ensureDeferred
async def test_endBehindManyBytes(
    relay: str, family: str, tmp_path: Path, stalled: str
) -> None:
    """
    An end that comes while bytes still wait for a slow reader overtakes none of these
    bytes, whatever their number.
    """
    sizes = [1, 4095, 4096, 4097, 100_000, 131_073, 209_000, 212_992, 220_001]
    sizes += [16_384 * number + 7 for number in range(14, 30, 3)]
    sizes += [700_000, 5 * MIB + 3]
    peers = []
    async with rig(relay, family, tmp_path, bufferSize=65536) as on:
        for number, size in enumerate(sizes):
            reader, writer = byName(stalled, *await on.pair())
            stall(reader)
            writer.write(payload(size, number))
            writer.end()
            peers.append((reader, writer))
        # Of each either all is on the way, or the way is full.
        await settled(
            lambda: sum(each.bytesIn + each.bytesOut for each in on.balancer.sessions)
        )
        for reader, _ in peers:
            resume(reader)
        for number, (reader, writer) in enumerate(peers):
            await ends(reader)
            assert reader.received == payload(sizes[number], number)
            writer.close()
            assert await on.outcome(number + 1) is Outcome.DONE


# Back-pressure.


@pytest.mark.parametrize("stalled", ["client", "destination"])
@pytest_twisted.ensureDeferred
async def test_backPressure(
    relay: str, family: str, tmp_path: Path, stalled: str
) -> None:
    """
    While one side does not read, the other is not read either; when that side reads
    again, it gets everything. The other direction does not suffer.
    """
    async with rig(relay, family, tmp_path) as on:
        reader, writer = byName(stalled, *await on.pair())
        stall(reader)
        much = payload(MUCH)
        writer.write(much)
        session = on.session
        passed = await settled(lambda: session.bytesIn + session.bytesOut)
        assert passed < MUCH // 2
        reader.write(b"meanwhile")
        assert await writer.got(9) == b"meanwhile"
        resume(reader)
        await reader.got(MUCH)
        assert reader.received == much


# Resets. Unix sockets have none that could be sent.

tcpOnly = pytest.mark.parametrize("tcp", TCP)
eitherResets = pytest.mark.parametrize("resetter", ["client", "destination"])


@tcpOnly
@eitherResets
@pytest_twisted.ensureDeferred
async def test_reset(relay: str, tcp: str, tmp_path: Path, resetter: str) -> None:
    """
    A reset of one side resets the other, so a cut answer is not taken for a
    whole one; what came before is delivered.
    """
    async with rig(relay, tcp, tmp_path) as on:
        for number, size in enumerate((0, 1, 65536, 300_000, MIB, 4 * MIB)):
            one, other = byName(resetter, *await on.pair())
            one.write(payload(size, number))
            session = on.session
            await until(lambda s=session, n=size: s.bytesIn + s.bytesOut == n)  # type: ignore[misc]
            one.reset()
            await other.closed()
            assert other.wasReset
            assert other.received == payload(size, number)
            ended = await on.ended(number + 1)
            assert ended.outcome is RESET_BY[resetter]
            assert ended.bytesIn + ended.bytesOut == size


@tcpOnly
@eitherResets
@pytest_twisted.ensureDeferred
async def test_resetAtOnce(relay: str, tcp: str, tmp_path: Path, resetter: str) -> None:
    """
    The same when bytes and reset come in one turn of the reactor.
    """
    async with rig(relay, tcp, tmp_path) as on:
        for number in range(20):
            one, other = byName(resetter, *await on.pair())
            data = payload(1 + number * 3000)
            one.transport.getHandle().sendall(data)
            one.reset()
            await other.closed()
            assert other.wasReset
            assert other.received == data
            assert await on.outcome(number + 1) is RESET_BY[resetter]


@tcpOnly
@eitherResets
@pytest_twisted.ensureDeferred
async def test_resetOfStalled(
    relay: str, tcp: str, tmp_path: Path, resetter: str
) -> None:
    """
    When a side that did not read is reset, the other is reset at once, although it was
    not being read: no connection hangs.
    """
    async with rig(relay, tcp, tmp_path) as on:
        stalled, writer = byName(resetter, *await on.pair())
        stall(stalled)
        writer.write(payload(MUCH))
        session = on.session
        await settled(lambda: session.bytesIn + session.bytesOut)
        stalled.reset()
        await writer.closed()
        assert writer.wasReset
        assert await on.outcome() is RESET_BY[resetter]


class Blocking(Echo):
    """
    A program that takes nothing while it has something to send, as simple programs do.
    """

    def connectionMade(self) -> None:
        """
        Read no more while the client takes nothing.
        """
        self.transport.registerProducer(self.transport, True)


@tcpOnly
@pytest.mark.parametrize("ends", [False, True])
@pytest_twisted.ensureDeferred
async def test_resetWhileBothWait(
    relay: str, tcp: str, tmp_path: Path, ends: bool
) -> None:
    """
    When a client that does not read is reset, a destination that takes nothing before
    it has sent everything does not hang; also if the client has ended its half.
    """
    async with rig(relay, tcp, tmp_path, Blocking) as on:
        client, _ = await on.pair()
        stall(client)
        client.write(payload(MUCH))
        session = on.session
        await settled(lambda: session.bytesIn + session.bytesOut)
        if ends:
            client.end()
        client.reset()
        assert await on.outcome() is Outcome.CLIENT_RESET


@eitherResets
@pytest_twisted.ensureDeferred
async def test_resetWhileNotRead(relay: str, tmp_path: Path, resetter: str) -> None:
    """
    The reset of a side that is not read, because the other takes no more, is noticed;
    the other gets the bytes that had been read, then the reset.
    """

    async def play(family: str) -> None:
        async with rig(relay, family, tmp_path, idleTimeout=2) as on:
            writer, stalled = byName(resetter, *await on.pair())
            stall(stalled)
            writer.write(payload(MUCH))
            session = on.session
            await settled(lambda: session.bytesIn + session.bytesOut)
            writer.reset()
            await until(
                lambda: (
                    session.relay is None
                    or session.relay.outcome
                    or session.relay.halfClosed
                )
            )
            resume(stalled)
            await stalled.closed()
            assert stalled.wasReset
            assert await on.outcome() is RESET_BY[resetter]
            passed = session.bytesIn + session.bytesOut
            assert stalled.received == payload(MUCH)[:passed]

    await sideBySide(play(family) for family in TCP)


@tcpOnly
@eitherResets
@pytest_twisted.ensureDeferred
async def test_resetThenEnd(
    relay: str, tcp: str, tmp_path: Path, resetter: str
) -> None:
    """
    A side that ends in order just as the other is reset is reset nonetheless.
    """
    async with rig(relay, tcp, tmp_path) as on:
        for number in range(10):
            one, other = byName(resetter, *await on.pair())
            one.transport.getHandle().sendall(b"cut sho")
            other.transport.getHandle().sendall(b"all")
            other.transport.getHandle().shutdown(socket.SHUT_WR)
            one.reset()
            await until(lambda other=other: other.ended or other.lost)  # type: ignore[misc]
            assert other.wasReset
            assert await on.outcome(number + 1) is RESET_BY[resetter]


@eitherResets
@pytest_twisted.ensureDeferred
async def test_resetTowardsNobody(relay: str, tmp_path: Path, resetter: str) -> None:
    """
    A side that was reset while the other never reads again does not keep the
    session open for ever.
    """

    async def play(family: str) -> None:
        async with rig(relay, family, tmp_path, halfClosedTimeout=0.2) as on:
            writer, stalled = byName(resetter, *await on.pair())
            stall(stalled)
            writer.write(payload(MUCH))
            session = on.session
            await settled(lambda: session.bytesIn + session.bytesOut)
            writer.reset()
            assert await on.outcome() is RESET_BY[resetter]
            resume(stalled)
            await stalled.closed()
            assert stalled.wasReset

    await sideBySide(play(family) for family in TCP)


@tcpOnly
@pytest_twisted.ensureDeferred
async def test_clientResetsAfterEnd(relay: str, tcp: str, tmp_path: Path) -> None:
    """
    A client that ended its request and then resets is gone: the destination has
    the whole request, and its connection is closed.
    """
    async with rig(relay, tcp, tmp_path) as on:
        client, destination = await on.pair()
        client.write(payload(MIB))
        client.end()
        await until(lambda: destination.ended)
        client.reset()
        assert await on.outcome() is Outcome.CLIENT_RESET
        await ends(destination)
        assert destination.received == payload(MIB)


@tcpOnly
@pytest_twisted.ensureDeferred
async def test_destinationResetsAfterEnd(relay: str, tcp: str, tmp_path: Path) -> None:
    """
    A destination that ended its answer and then resets, since the client still
    sends, does not spoil the answer: the client gets all of it and its end, and
    may send what it likes.
    """
    async with rig(relay, tcp, tmp_path) as on:
        client, destination = await on.pair()
        client.write(payload(MUCH))
        await destination.got(1)
        destination.write(payload(2 * MIB))
        destination.end()
        session = on.session
        await until(lambda: session.bytesOut == 2 * MIB)
        await until(lambda: session.relay and session.relay.halfClosed)
        destination.reset()
        await until(lambda: client.ended)
        assert client.received == payload(2 * MIB)
        client.write(b"still here")
        client.end()
        await ends(client)
        assert not client.wasReset
        assert await on.outcome() is Outcome.DESTINATION_RESET


# Time-outs.


@pytest.mark.parametrize(
    ("timeout", "outcome"),
    [
        ("idleTimeout", Outcome.IDLE_TIMEOUT),
        ("answerTimeout", Outcome.ANSWER_TIMEOUT),
    ],
)
@pytest_twisted.ensureDeferred
async def test_quiet(
    relay: str, tmp_path: Path, timeout: str, outcome: Outcome
) -> None:
    """
    A session in which nothing happens for too long is closed on both sides, and
    so is one whose destination does not answer.
    """

    async def play(family: str) -> None:
        limits: dict[str, Any] = {timeout: 0.2}
        async with rig(relay, family, tmp_path, **limits) as on:
            client = await on.client()
            client.write(b"x")
            destination = await on.server.peer()
            await until(lambda: client.ended)
            await until(lambda: destination.ended)
            assert destination.received == b"x"
            assert await on.outcome() is outcome

    await sideBySide(play(family) for family in FAMILIES)


@pytest.mark.parametrize(
    ("ender", "outcome"),
    [
        ("client", Outcome.DESTINATION_HALF_CLOSED_TIMEOUT),
        ("destination", Outcome.CLIENT_HALF_CLOSED_TIMEOUT),
    ],
)
@pytest_twisted.ensureDeferred
async def test_halfClosed(
    relay: str, tmp_path: Path, ender: str, outcome: Outcome
) -> None:
    """
    When one side has ended and the other does not follow, both are closed after
    a while; but not before, so that an answer may take its time.
    """

    async def play(family: str) -> None:
        async with rig(relay, family, tmp_path, halfClosedTimeout=0.3) as on:
            one, other = byName(ender, *await on.pair())
            one.end()
            await until(lambda: other.ended)
            other.write(b"more")
            assert await one.got(4) == b"more"
            assert await on.outcome() is outcome
            await until(lambda: one.ended)

    await sideBySide(play(family) for family in FAMILIES)


@pytest.mark.parametrize("stalled", ["client", "destination"])
@pytest_twisted.ensureDeferred
async def test_idleWithBytesToWrite(relay: str, tmp_path: Path, stalled: str) -> None:
    """
    A peer that takes no bytes for too long does not keep its session open with
    those that wait for it.
    """

    async def play(family: str) -> None:
        async with rig(relay, family, tmp_path, idleTimeout=0.2) as on:
            reader, writer = byName(stalled, *await on.pair())
            stall(reader)
            writer.write(payload(MUCH))
            assert await on.outcome() is Outcome.IDLE_TIMEOUT
            await writer.closed()

    await sideBySide(play(family) for family in FAMILIES)


# Memory.


@pytest_twisted.ensureDeferred
async def test_nothingLeft(relay: str, family: str, tmp_path: Path) -> None:
    """
    A session that has ended is gone, and not only when the garbage collector
    comes round and stops everything.
    """
    left: list[ref[object]] = []
    async with rig(relay, family, tmp_path) as on:
        gc.collect()
        gc.disable()
        try:
            for number in range(10):
                client, destination = await on.pair()
                left += [ref(on.session.holder), ref(on.session.relay)]
                client.write(b"q")
                destination.write(b"a")
                await client.got(1)
                if number % 2:
                    client.reset()
                client.close()
                await ends(destination)
                await on.ended(number + 1)
            await until(lambda: all(each() is None for each in left))
        finally:
            gc.enable()


@pytest_twisted.ensureDeferred
async def test_countedOverUnix(relay: str, tmp_path: Path) -> None:
    """
    When the session is cut off, bytes that were given to the peer of a Unix socket
    count, even if the peer has not read them.
    """
    async with rig(relay, "unix", tmp_path) as on:
        client, destination = await on.pair()
        stall(destination)
        client.write(payload(1000))
        session = on.session
        await until(lambda: session.bytesIn == 1000)
        on.balancer.cutDrain()
        assert await on.outcome() is Outcome.KILLED
        assert session.bytesIn == 1000


# Anything may happen.

DO = st.sampled_from(["write", "write", "write", "wait", "stall", "resume", "end"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["client", "destination"]), DO, st.integers(1, 400_000)),
    max_size=20,
)
LAST = st.sampled_from(["ends", "client", "destination"])


async def play(on: Running, steps: list[tuple[str, str, int]], last: str) -> None:
    """
    Play a session, and check its end.
    """
    number = len(on.records.ended) + 1
    peers = dict(zip(("client", "destination"), await on.pair(), strict=True))
    sent = {name: bytearray() for name in peers}
    ended: set[str] = set()
    session = on.session
    for step, (name, do, size) in enumerate(steps):
        peer = peers[name]
        if do == "write" and name not in ended:
            sent[name] += payload(size, step)
            peer.write(payload(size, step))
        elif do == "end" and name not in ended:
            ended.add(name)
            peer.end()
        elif do == "stall":
            stall(peer)
        elif do == "resume":
            resume(peer)
        elif do == "wait":
            await pause(size / 100_000_000)
    if last == "ends":
        for name in set(peers) - ended:
            peers[name].end()
    else:
        peers[last].reset()
    for peer in peers.values():
        resume(peer)
    for peer in peers.values():
        await ends(peer)
    await on.ended(number)
    client, destination = peers["client"], peers["destination"]
    up, down = sent["client"], sent["destination"]
    assert up.startswith(destination.received)
    assert down.startswith(client.received)
    if last == "ends":
        # The client's end may be on its way when the destination's has come.
        assert session.outcome in (Outcome.DONE, Outcome.UNANSWERED)
        assert (destination.received, client.received) == (up, down)
        assert (session.bytesIn, session.bytesOut) == (len(up), len(down))
    elif last not in ended:
        assert session.outcome is RESET_BY[last]
        other = byName(last, client, destination)[1]
        assert other.wasReset or other is client


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(RELAYS)),
    over=st.sampled_from(["tcp4", "unix"]),
    steps=STEPS,
    last=LAST,
)
@pytest_twisted.ensureDeferred
async def test_anything(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    over: str,
    steps: list[tuple[str, str, int]],
    last: str,
) -> None:
    """
    However two peers write, wait, stall, resume and end, each gets exactly what
    the other sent; and when one resets, no more than that, and the reset.
    """
    if over == "unix":
        last = "ends"  # it has no resets
    async with rig(kind, over, tmp_path_factory.mktemp("rig")) as on:
        await play(on, steps, last)

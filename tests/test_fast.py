"""
The relay between plain sockets: on sockets that are served by hand, and a whole
balancer.
"""

from __future__ import annotations

import gc
import select
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.relay import fastsocket
from iawlb.relay.context import RelayContext
from iawlb.relay.fast import FastRelay, plain
from iawlb.relay.poller import SocketPoller
from iawlb.relay.portable import PortableRelay
from iawlb.relay.sends import unsent
from iawlb.relay.side import Side
from tests.doubles import Wire
from tests.net import Echo, until
from tests.rig import payload, rig
from tests.stage import stage, together
from tests.test_relay import Early

CHUNK = 4096
"""
The size of the poller's buffer here.
"""

MUCH = 1024 * 1024
"""
More than the kernel holds for a peer that does not read.
"""


NEITHER = (False, False)


class Counting:
    """
    An epoll object that counts the events it gives.
    """

    def __init__(self, real: Any) -> None:
        self._real = real
        self.events = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._real.poll(timeout, most)
        self.events += len(found)
        return found


class Telling:
    """
    A socket whose next look at its bytes raises an error.
    """

    def __init__(self, real: Any, error: type[OSError]) -> None:
        self._real = real
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def recv(self, most: int, flags: int) -> bytes:
        raise self._error()


class Base(SynchronousTestCase):
    """
    A relay between two peers on sockets.
    """

    def setUp(self) -> None:
        """
        Make a poller.
        """
        self.reactor: Any = MemoryReactorClock()
        poller: Any = SocketPoller(self.reactor, CHUNK)
        self.epoll = poller._epoll = Counting(poller._epoll)
        self.poller = poller
        self.addCleanup(self.epoll.close)
        self.context = RelayContext(CHUNK)
        self.mine: list[socket.socket] = []
        self.sides: list[Side] = []
        self.released = 0
        self.outcomes: list[Outcome] = []

    def pair(self, unix: bool) -> tuple[socket.socket, socket.socket]:
        """
        Make a socket and its peer.
        """
        if unix:
            pair = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as server:
                peer = socket.create_connection(server.getsockname())
                pair = (server.accept()[0], peer)
        for each in pair:
            self.addCleanup(each.close)
            each.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                each.setsockopt(socket.SOL_SOCKET, option, 16384)
        return pair

    def end(self, unix: bool) -> tuple[socket.socket, socket.socket]:
        """
        Make a socket for the relay, and its peer.
        """
        mine, peer = self.pair(unix)
        self.mine.append(mine)
        return mine, peer

    def side(self) -> tuple[Side, socket.socket]:
        """
        Make a side with a transport of Twisted's, and its peer.
        """
        mine, peer = self.end(unix=False)
        side = Side(Early(), self.context)
        transport: Any = Connection(mine, side, self.reactor)
        transport.connected = 1
        side.makeConnection(transport)
        self.sides.append(side)
        return side, peer

    def join(self, client: Any, destination: Any) -> None:
        """
        Make a relay, without starting it.
        """
        self.relay = FastRelay(
            client,
            destination,
            self.poller,
            self.context.sends,
            self._released,
            self.outcomes.append,
        )

    def prepare(self, ended: tuple[bool, bool] = NEITHER) -> None:
        """
        Make a relay between transports of Twisted's, without starting it.

        @param ended: Whether the client and the destination have ended already.
        """
        self.clientSide, self.client = self.side()
        self.destinationSide, self.destination = self.side()
        self.clientSide.ended, self.destinationSide.ended = ended

    def start(self) -> None:
        """
        Start a relay between two sockets.
        """
        self.join(self.clientSide, self.destinationSide)
        self.relay.start()

    def begin(self, unix: bool = False) -> None:
        """
        Start a relay between bare sockets.
        """
        client, self.client = self.end(unix)
        destination, self.destination = self.end(unix)
        self.join(client, destination)
        self.relay.start()

    def _released(self) -> None:
        self.released += 1

    def settle(self) -> None:
        """
        Take turns until nothing happens any more; fail if that is never.
        """
        for _ in range(10_000):
            before = self.epoll.events
            self.poller.doRead()
            if self.epoll.events == before:
                return
        self.fail("it spins")

    def fill(self, peer: socket.socket) -> bytes:
        """
        Have a peer write as much as will go.
        """
        relay = self.relay
        slow = relay.destination if peer is self.client else relay.client
        data, sent = payload(MUCH), 0
        while sent < MUCH:
            try:
                sent += peer.send(data[sent:])
            except BlockingIOError:
                self.settle()
                # The kernel may move what it holds a little later: an acknowledgement
                # is delayed by 40 ms.
                if slow.pending and not self.soon(self.poller, 0.06):
                    return data[:sent]
        raise AssertionError("all of it was taken")

    def drained(self, peer: socket.socket) -> tuple[bytes, str]:
        """
        Have a peer read until its connection is over, while the relay continues.

        @return: What the peer read, and whether the connection C{"ended"} or was
            C{"reset"}.
        """
        got = b""
        while True:
            self.settle()
            self.context.sends.check()
            try:
                data = peer.recv(1 << 20)
            except BlockingIOError:
                # One that waits to be reset is polled for.
                waiting = bool(len(self.context.sends))
                if not self.soon(peer, 0.01 if waiting else 5):
                    self.assertTrue(waiting, "it is not over")
            except ConnectionResetError:
                return got, "reset"
            else:
                got += data
                if not data:
                    return got, "ended"

    def soon(self, peer: Any, seconds: float) -> bool:
        """
        Say whether the relay, or a peer, has something to read soon.
        """
        return bool(select.select([peer, self.poller], [], [], seconds)[0])

    def read(self, peer: socket.socket) -> bytes:
        """
        Have a peer read what is passed to it.
        """
        self.settle()
        return peer.recv(1 << 20)

    def reset(self, peer: socket.socket) -> None:
        """
        Have a peer reset its connection.
        """
        linger = struct.pack("ii", 1, 0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.close()

    def assertEnded(self, outcome: Outcome) -> None:
        """
        Check that the session is over, that its end was reported once, and that nothing
        is left of it.
        """
        self.assertEqual((self.released, self.outcomes), (1, [outcome]))
        self.assertEqual(self.poller._served, {})
        self.assertEqual(len(self.context.sends), 0)
        self.assertEqual([each.fileno() for each in self.mine], [-1, -1])
        self.assertTrue(all(each.lost for each in self.sides))


class BytesTests(Base):
    """
    The bytes.
    """

    def test_headerNotConfirmed(self) -> None:
        """
        A header that was sent before the client's first byte, and that the destination
        has not acknowledged, makes no count less than nothing.
        """
        self.begin()
        self.client.send(b"hello")
        self.settle()
        self.patch(fastsocket, "unconfirmed", lambda *_: 33)
        self.relay.abort(Outcome.KILLED)
        self.assertEqual(self.relay.bytesIn, 0)

    def test_bothWays(self) -> None:
        """
        Bytes pass both ways and are counted, and the relay knows which side is to send
        next.
        """
        for unix in (False, True):
            self.begin(unix)
            self.client.send(b"question")
            self.assertEqual(self.read(self.destination), b"question")
            self.assertTrue(self.relay.asked)
            self.destination.send(b"the answer")
            self.assertEqual(self.read(self.client), b"the answer")
            self.assertFalse(self.relay.asked)
            self.assertEqual((self.relay.bytesIn, self.relay.bytesOut), (8, 10))
            self.relay.abort(Outcome.KILLED)

    def test_oneChunk(self) -> None:
        """
        One chunk of each socket is passed in a turn, however many bytes it has: so a
        busy session leaves the others their turn.
        """
        self.begin()
        self.client.send(bytes(10 * CHUNK))
        self.destination.send(bytes(10 * CHUNK))
        for number in (1, 2, 3):
            self.poller.doRead()
            passed = (self.relay.bytesIn, self.relay.bytesOut)
            self.assertEqual(passed, (number * CHUNK, number * CHUNK))

    def test_backPressure(self) -> None:
        """
        While a peer does not read, at most one chunk is held for it, and no turn is
        spent on it; when the peer reads, it gets all, in order.
        """
        for unix in (False, True):
            self.begin(unix)
            sent = self.fill(self.client)
            waiting = self.relay.destination.pending
            assert waiting is not None
            self.assertTrue(0 < len(waiting) <= CHUNK)
            # The other way it goes on.
            self.destination.send(b"answer")
            self.assertEqual(self.read(self.client), b"answer")
            self.assertIs(self.relay.destination.pending, waiting)
            self.client.shutdown(socket.SHUT_WR)
            self.settle()
            self.assertEqual(self.drained(self.destination), (sent, "ended"))
            self.assertIs(
                self.relay.halfClosed, Outcome.DESTINATION_HALF_CLOSED_TIMEOUT
            )
            self.assertEqual((self.relay.bytesIn, self.relay.bytesOut), (len(sent), 6))
            self.relay.abort(Outcome.KILLED)

    def test_falseAlarm(self) -> None:
        """
        News of the kernel's that turn out to be none do no harm.
        """
        self.begin()
        for events in (select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP):
            self.relay.client.ready(events)
        sent = self.fill(self.client)
        for events in (select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP):
            self.relay.client.ready(events)
            self.relay.destination.ready(events)
        self.client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.drained(self.destination), (sent, "ended"))

    def test_early(self) -> None:
        """
        Bytes that were read before there was a relay come first, and so does an
        end.
        """
        self.prepare(ended=(False, True))
        self.clientSide.early += [b"one ", b"two "]
        self.destinationSide.early += [b"hello "]
        self.client.send(b"three")
        self.start()
        self.assertFalse(self.relay.asked)
        self.assertEqual(self.clientSide.early, [])
        self.assertEqual(self.read(self.destination), b"one two three")
        self.assertEqual(self.drained(self.client), (b"hello ", "ended"))

    def test_asked(self) -> None:
        """
        A request that came early is waited for an answer to, as any other.
        """
        self.prepare()
        self.clientSide.early.append(b"question")
        self.start()
        self.assertTrue(self.relay.asked)

    def test_transports(self) -> None:
        """
        Twisted's own transports are taken over too, and find their descriptors
        closed and their reactor free of them in the end.
        """
        self.prepare()
        self.start()
        self.assertEqual(self.reactor.getReaders(), [])
        self.client.send(b"question")
        self.client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.drained(self.destination), (b"question", "ended"))
        self.destination.close()
        self.settle()
        self.assertEnded(Outcome.DONE)

    def test_plain(self) -> None:
        """
        The fast relay takes only a socket of the kernel's for which Twisted holds no
        bytes.
        """
        side, _ = self.side()
        self.assertTrue(plain(side))
        side.write(b"welcome")
        self.assertFalse(plain(side))
        other = Side(Early(), self.context)
        other.makeConnection(Wire(other))
        self.assertFalse(plain(other))


class EndTests(Base):
    """
    The end of a session.
    """

    def test_inOrder(self) -> None:
        """
        Each end is passed on behind the bytes; both make an end in order.
        """
        for first, second in (("client", "destination"), ("destination", "client")):
            for unix in (False, True):
                self.setUp()
                self.begin(unix)
                one, two = getattr(self, first), getattr(self, second)
                one.send(b"last")
                one.shutdown(socket.SHUT_WR)
                self.assertEqual(self.drained(two), (b"last", "ended"))
                two.send(b"words")
                self.assertEqual(self.read(one), b"words")
                two.close()
                self.assertEqual(self.drained(one), (b"", "ended"))
                self.assertEnded(Outcome.DONE)

    def test_withLastBytes(self) -> None:
        """
        An end that has come with the last bytes is passed on with them: the peer
        is woken once.
        """
        for unix in (False, True):
            self.begin(unix)
            self.destination.send(b"the answer")
            self.destination.shutdown(socket.SHUT_WR)
            self.poller.doRead()
            self.assertEqual(self.client.recv(100), b"the answer")
            self.assertEqual(self.client.recv(100), b"")
            self.relay.abort(Outcome.KILLED)

    def test_fullChunk(self) -> None:
        """
        A chunk that fills the buffer may have more behind it, and then the end.
        """
        for more in (0, 1, CHUNK):
            self.setUp()
            self.begin()
            data = payload(CHUNK + more)
            self.client.send(data)
            self.client.shutdown(socket.SHUT_WR)
            self.assertEqual(self.drained(self.destination), (data, "ended"))
            self.relay.abort(Outcome.KILLED)

    def test_resetBehindEnd(self) -> None:
        """
        If a reset is found when the relay looks for an end behind the last bytes, the
        client was reset, and has not ended; the bytes are delivered. If nothing is to
        be seen yet, the next turn shows it.
        """
        for error, how, outcome in (
            (ConnectionResetError, "reset", [Outcome.CLIENT_RESET]),
            (BlockingIOError, "ended", []),
        ):
            self.setUp()
            self.begin()
            self.client.send(b"last")
            self.client.shutdown(socket.SHUT_WR)
            socket_ = self.relay.client
            real: Any = socket_._handle
            telling: Any = Telling(real, error)
            socket_._handle = telling
            self.poller.doRead()
            self.assertEqual(self.destination.recv(100), b"last")
            self.assertEqual(self.outcomes, [])
            socket_._handle = real
            self.assertEqual(self.drained(self.destination), (b"", how))
            self.assertEqual(self.outcomes, outcome)
            if not outcome:
                self.relay.abort(Outcome.KILLED)

    def test_endedBefore(self) -> None:
        """
        Two that ended before there was a relay are closed.
        """
        self.prepare(ended=(True, True))
        self.start()
        self.assertEnded(Outcome.DONE)

    def test_reset(self) -> None:
        """
        A reset is passed on behind the bytes that came before it.
        """
        for which, outcome in (
            ("client", Outcome.CLIENT_RESET),
            ("destination", Outcome.DESTINATION_RESET),
        ):
            self.setUp()
            self.begin()
            other = {"client": self.destination, "destination": self.client}[which]
            peer = getattr(self, which)
            peer.send(b"half an ans")
            self.reset(peer)
            self.assertEqual(self.drained(other), (b"half an ans", "reset"))
            self.assertEnded(outcome)

    def test_resetBehindMuch(self) -> None:
        """
        The bytes that a slow peer has not taken yet come before the reset, including
        those that were not read yet; if the peer ends meanwhile, its reset does not
        become a clean end.
        """
        self.begin()
        sent = self.fill(self.destination)
        self.reset(self.destination)
        self.settle()
        self.client.send(b"more")
        self.client.shutdown(socket.SHUT_WR)
        self.settle()
        self.assertEqual(self.outcomes, [])
        got, how = self.drained(self.client)
        self.assertEqual((got, how), (sent, "reset"))
        self.assertEnded(Outcome.DESTINATION_RESET)

    def test_resetBehindUnsent(self) -> None:
        """
        If only the kernel still has bytes for a peer that is to be reset, the peer's
        own end does not make that a clean end.
        """
        self.begin()
        sent = b""
        while not unsent(self.relay.destination.number):
            sent += self.client.send(bytes(1000)) * b"\0"
            self.settle()
        self.assertIsNone(self.relay.destination.pending)
        self.reset(self.client)
        self.settle()
        self.assertEqual(len(self.context.sends), 1)
        self.destination.shutdown(socket.SHUT_WR)
        self.settle()
        self.assertEqual(self.outcomes, [])
        self.assertEqual(self.drained(self.destination), (sent, "reset"))
        self.assertEnded(Outcome.CLIENT_RESET)

    def test_closedTwice(self) -> None:
        """
        Closing or resetting a socket that is closed does nothing.
        """
        self.begin()
        client = self.relay.client
        self.relay.abort(Outcome.KILLED)
        client.abort()
        client.close()
        self.assertEnded(Outcome.KILLED)

    def test_resetBoth(self) -> None:
        """
        A slow peer that is reset itself meanwhile is gone at once.
        """
        self.begin()
        self.fill(self.destination)
        self.reset(self.destination)
        self.settle()
        self.reset(self.client)
        self.settle()
        self.assertEnded(Outcome.DESTINATION_RESET)
        self.context.sends.check()

    def test_sendToReset(self) -> None:
        """
        When a send finds that a peer was reset, the bytes that the peer had sent before
        are still delivered, and then the reset.
        """
        self.begin()
        self.client.send(b"question")
        self.destination.send(b"too large")
        self.reset(self.destination)
        self.assertEqual(self.drained(self.client), (b"too large", "reset"))
        self.assertEnded(Outcome.DESTINATION_RESET)

    def test_sendMoreToReset(self) -> None:
        """
        So they are if more is to be sent to that peer meanwhile.
        """
        self.begin()
        words = payload(3 * CHUNK)
        self.destination.send(words)
        self.reset(self.destination)
        self.client.send(bytes(3 * CHUNK))
        self.assertEqual(self.drained(self.client), (words, "reset"))
        self.assertEnded(Outcome.DESTINATION_RESET)

    def test_endToReset(self) -> None:
        """
        So they are if an end was to be sent to that peer.
        """
        self.begin()
        self.client.shutdown(socket.SHUT_WR)
        self.destination.send(b"too large")
        self.reset(self.destination)
        self.assertEqual(self.drained(self.client), (b"too large", "reset"))
        self.assertEnded(Outcome.DESTINATION_RESET)

    def test_closedUnread(self) -> None:
        """
        So they are if that peer is a Unix socket, which has no resets, and had not read
        everything.
        """
        self.begin(unix=True)
        self.fill(self.client)
        self.destination.send(b"too large")
        self.destination.close()
        got, how = self.drained(self.client)
        self.assertEqual(got, b"too large")
        self.assertNotEqual(how, "open")
        self.assertEnded(Outcome.DESTINATION_RESET)

    def test_brokenBoth(self) -> None:
        """
        Two slow peers that are gone are both closed.
        """
        self.begin(unix=True)
        self.fill(self.client)
        self.fill(self.destination)
        self.destination.close()
        self.client.close()
        self.settle()
        self.assertEqual((self.released, len(self.outcomes)), (1, 1))
        self.assertEqual(self.poller._served, {})

    def test_resetWhileUnread(self) -> None:
        """
        A client that is reset while it is not read, for the destination is slow,
        costs no turn; the destination is reset behind all that the client sent.
        """
        self.begin()
        sent = self.fill(self.client)
        self.reset(self.client)
        self.settle()
        before = self.epoll.events
        for _ in range(20):
            self.poller.doRead()
        self.assertEqual(self.epoll.events, before)
        got, how = self.drained(self.destination)
        self.assertEqual((got, how), (sent, "reset"))
        self.assertEnded(Outcome.CLIENT_RESET)

    def test_resetWhileBothWait(self) -> None:
        """
        A client is reset while neither peer takes any more. Further bytes of the
        destination are read and discarded, and not counted: the destination may be a
        program that takes nothing before it has sent everything.
        """
        self.begin()
        sent = self.fill(self.client)
        self.fill(self.destination)
        self.reset(self.client)
        self.settle()
        passed = self.relay.bytesOut
        for _ in range(16):
            self.assertTrue(select.select([], [self.destination], [], 5)[1])
            self.destination.send(payload(CHUNK))
            self.settle()
        self.assertEqual(self.relay.bytesOut, passed)
        self.assertEqual(self.drained(self.destination), (sent, "reset"))
        self.assertEnded(Outcome.CLIENT_RESET)

    def test_bothResetWhileBothWait(self) -> None:
        """
        If the other is reset too, nothing is left.
        """
        for first in ("client", "destination"):
            self.setUp()
            self.begin()
            self.fill(self.client)
            self.fill(self.destination)
            pair = [self.client, self.destination]
            if first == "destination":
                pair.reverse()
            for each in pair:
                self.reset(each)
                self.settle()
            self.context.sends.check()
            self.settle()
            self.assertEqual((self.released, len(self.outcomes)), (1, 1))
            self.assertEqual(self.poller._served, {})
            self.assertEqual(len(self.context.sends), 0)

    def test_endsBeforeReset(self) -> None:
        """
        A destination that is slow, and is to be reset behind what it has not taken
        yet, may end its half meanwhile, or be reset itself.
        """
        for alsoReset in (False, True):
            self.setUp()
            self.begin()
            sent = self.fill(self.client)[: self.relay.bytesIn]
            self.relay.client._cut()
            self.destination.shutdown(socket.SHUT_WR)
            self.settle()
            self.assertEqual((self.released, self.outcomes), (0, []))
            if alsoReset:
                self.reset(self.destination)
                self.settle()
            else:
                self.assertEqual(self.drained(self.destination), (sent, "reset"))
            self.assertEnded(Outcome.CLIENT_RESET)

    def test_resetBehindAllSent(self) -> None:
        """
        So it may if the kernel has all the bytes that the destination has not taken.
        """
        self.begin()
        slow = self.relay.destination
        while not unsent(slow.number):
            self.client.send(bytes(CHUNK))
            self.settle()
        self.assertIsNone(slow.pending)
        self.relay.client._cut()
        self.destination.shutdown(socket.SHUT_WR)
        self.settle()
        self.assertEqual((self.released, self.outcomes), (0, []))
        self.reset(self.destination)
        self.settle()
        self.assertEnded(Outcome.CLIENT_RESET)

    def test_hangupWhileUnread(self) -> None:
        """
        A client that closes while it is not read costs no turn until it is read; then
        everything that it sent is delivered, and its end.
        """
        self.begin(unix=True)
        sent = self.fill(self.client)
        self.client.close()
        before = self.epoll.events
        for _ in range(20):
            self.poller.doRead()
        self.assertLessEqual(self.epoll.events - before, 1)
        self.assertEqual(self.drained(self.destination), (sent, "ended"))

    def test_goneAfterEnd(self) -> None:
        """
        When a client has ended its half and then closes, which only Unix sockets
        report, the destination is closed, as no client is left to answer.
        """
        self.begin(unix=True)
        self.client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.drained(self.destination), (b"", "ended"))
        self.client.close()
        self.settle()
        self.assertEnded(Outcome.DONE)

    def test_linger(self) -> None:
        """
        A client that still sends when the destination has answered and closed gets the
        whole answer and the end. It is read until it has sent everything, and its bytes
        are discarded: a close before that would reset it.
        """
        for ending in (socket.socket.close, self.reset):
            self.setUp()
            self.begin()
            self.destination.send(b"no more")
            self.destination.close()
            self.settle()
            for _ in range(3):
                self.client.send(b"more")
                self.settle()
            self.assertEqual((self.released, self.outcomes), (1, []))
            self.relay.client.discard(select.EPOLLIN)  # a false alarm
            self.assertEqual(self.drained(self.client), (b"no more", "ended"))
            ending(self.client)
            self.settle()
            self.assertEnded(Outcome.DESTINATION_RESET)

    def test_lingerSlowly(self) -> None:
        """
        So does a client that is slow to take the answer; also when it ends before it
        has the answer, or is reset.
        """
        answer = payload(MUCH)
        for ending, expected in (
            ("taken", (answer, "ended")),
            ("ended", (answer, "ended")),
            ("reset", None),
        ):
            self.setUp()
            self.prepare(ended=(False, True))
            self.destinationSide.early.append(answer)
            self.start()
            self.reset(self.destination)
            self.settle()
            self.assertEqual((self.released, self.outcomes), (1, []))
            if ending == "ended":
                self.client.shutdown(socket.SHUT_WR)
                self.settle()
            if ending == "reset":
                self.reset(self.client)
            else:
                self.assertEqual(self.drained(self.client), expected)
                self.client.close()
            self.settle()
            self.assertEnded(Outcome.DESTINATION_RESET)

    def test_close(self) -> None:
        """
        A session that is closed is closed behind the bytes; bytes that a peer sends
        afterwards are discarded.
        """
        self.begin()
        self.fill(self.destination)
        passed = self.relay.bytesOut
        self.relay.close(Outcome.IDLE_TIMEOUT)
        self.assertEqual((self.released, self.outcomes), (1, []))
        self.client.send(b"more")
        self.settle()
        self.assertEqual(self.outcomes, [])
        self.relay.close(Outcome.KILLED)
        got, _ = self.drained(self.client)
        self.assertEqual(got, payload(MUCH)[:passed])
        self.assertEnded(Outcome.IDLE_TIMEOUT)

    def test_closeAndNumberUsedAgain(self) -> None:
        """
        Bytes that a peer sends after the close change no count, whichever socket has
        got the number of the closed one.
        """
        self.begin()
        self.client.send(b"abc")
        self.fill(self.destination)
        self.relay.close(Outcome.IDLE_TIMEOUT)
        for each in self.pair(unix=False):
            while select.select([], [each], [], 0)[1]:
                each.send(bytes(CHUNK))
        self.client.send(b"more")
        self.settle()
        self.assertEqual(self.relay.bytesIn, 3)

    def test_closeBehindBytes(self) -> None:
        """
        A session that is closed is closed for a slow peer only when the peer has all
        its bytes.
        """
        self.begin()
        self.fill(self.destination)
        passed = self.relay.bytesOut
        self.relay.close(Outcome.IDLE_TIMEOUT)
        self.assertEqual(self.drained(self.client), (payload(MUCH)[:passed], "ended"))
        self.assertEnded(Outcome.IDLE_TIMEOUT)

    def test_abort(self) -> None:
        """
        A session that is aborted is reset on both sides, at once.
        """
        self.begin()
        self.fill(self.destination)
        self.relay.abort(Outcome.KILLED)
        self.relay.destination.allSent()  # asked about in the same check
        self.assertEnded(Outcome.KILLED)
        self.assertEqual(self.drained(self.destination)[1], "reset")


@pytest.mark.parametrize("family", ["tcp4", "tcp6", "unix"])
@pytest_twisted.ensureDeferred
async def test_chosen(family: str, tmp_path: Path) -> None:
    """
    Plain sockets of every family are relayed this way, unless that is not wanted.
    """
    for wanted, kind in (("fast", FastRelay), ("portable", PortableRelay)):
        folder = tmp_path / wanted
        folder.mkdir()
        async with rig(wanted, family, folder) as on:
            await on.pair()
            assert type(on.session.relay) is kind


@pytest_twisted.ensureDeferred
async def test_automatic() -> None:
    """
    The fast relay is used without being asked for.
    """
    async with stage() as on:
        server = await on.serve()
        await on.client()
        await server.peer()
        (session,) = on.balancer.sessions
        assert isinstance(session.relay, FastRelay)


def ours(thing: object) -> bool:
    """
    Say whether something is an object of iawlb's.
    """
    # Of some types that is not a string.
    return str(type(thing).__module__).startswith("iawlb")


@pytest_twisted.ensureDeferred
async def test_noCycles() -> None:
    """
    A thousand sessions leave the garbage collector no object of ours: its work would
    stop all other sessions meanwhile.
    """
    async with stage(relay="fast") as on:
        await on.serve(make=Echo)
        await together(10, 1, on.assertEchoed)
        gc.collect()
        # What earlier tests have left, and the runner lets go of meanwhile.
        known = {id(each) for each in gc.get_objects() if ours(each)}
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await together(20, 50, on.assertEchoed)
            await until(lambda: not on.balancer.sessions)
            gc.collect()
            left = [each for each in gc.garbage if ours(each)]
            found = [type(each) for each in left if id(each) not in known]
        finally:
            gc.set_debug(0)
            left = []
            gc.garbage.clear()
        assert found == []
        assert len(on.recorder.outcomes) == 1010

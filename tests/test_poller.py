"""
Many sockets behind one reader, served by hand.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from threading import Thread
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from iawlb.relay import poller as module
from iawlb.relay.poller import EVENTS_PER_ROUND, SocketPoller, _views
from tests.doubles import Handling


@implementer(IReadDescriptor)
class Reader:
    """
    A reader that counts how many times it was asked to read.
    """

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle
        self.read = 0

    def fileno(self) -> int:
        """
        Return the reader's descriptor.
        """
        return self.handle.fileno()

    def logPrefix(self) -> str:
        """
        Return the reader's name.
        """
        return "reader"

    def doRead(self) -> None:
        """
        Count the call.
        """
        self.read += 1

    def connectionLost(self, reason: Failure) -> None:
        """
        Never, here.
        """


class PollerTests(SynchronousTestCase):
    """
    Sockets are served when something happens to them, each by its own handler.
    """

    def setUp(self) -> None:
        """
        Make a poller that serves nothing.
        """
        self.reactor: Any = MemoryReactorClock()
        self.poller = SocketPoller(self.reactor, 1024)
        self.addCleanup(self.poller._epoll.close)
        self.seen: list[tuple[str, int]] = []
        self.peers: dict[socket.socket, socket.socket] = {}

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """
        Make a socket and its peer.
        """
        mine, peer = socket.socketpair()
        for each in (mine, peer):
            self.addCleanup(each.close)
            each.setblocking(False)
        self.peers[mine] = peer
        return mine, peer

    def handler(self, name: str) -> Handling:
        """
        Make a handler that only records its calls.
        """
        return Handling(lambda events: self.seen.append((name, events)))

    def turn(self) -> list[tuple[str, int]]:
        """
        Take a turn, and return which handlers were called with what.
        """
        self.seen.clear()
        self.poller.doRead()
        return list(self.seen)

    def test_oneReader(self) -> None:
        """
        The poller is one reader of the reactor, however many sockets there are, and
        none once it is stopped; it can be started again.
        """
        self.assertTrue(verifyObject(IReadDescriptor, self.poller))
        self.assertEqual(self.poller.logPrefix(), "iawlb")
        self.assertEqual(self.poller.fileno(), self.poller._epoll.fileno())
        for _ in range(2):
            self.poller.start()
            self.assertEqual(self.reactor.getReaders(), [self.poller])
            self.poller.stop()
            self.assertEqual(self.reactor.getReaders(), [])

    def test_wakesReactor(self) -> None:
        """
        The reactor sees that a socket of the poller's is ready, and no longer once all
        were served.
        """
        mine, peer = self.pair()

        def receive(events: int) -> None:
            mine.recv(9)

        self.poller.add(mine.fileno(), select.EPOLLIN, Handling(receive))
        self.assertEqual(select.select([self.poller], [], [], 0)[0], [])
        peer.send(b"x")
        self.assertEqual(select.select([self.poller], [], [], 0)[0], [self.poller])
        self.poller.doRead()
        self.assertEqual(select.select([self.poller], [], [], 0)[0], [])

    def test_suits(self) -> None:
        """
        A reactor that watches descriptors can have one, where there is epoll;
        others take the portable relay.
        """
        real = object.__new__(EPollReactor)
        self.assertTrue(SocketPoller.suits(real))
        self.assertFalse(SocketPoller.suits(Clock()))
        self.patch(module, "select", object())
        self.assertFalse(SocketPoller.suits(real))

    def test_change(self) -> None:
        """
        A socket's handler is called for the events it waits for, and for nothing else;
        the handler can be replaced.
        """
        mine, peer = self.pair()
        peer.send(b"x")
        number = mine.fileno()
        self.poller.add(number, select.EPOLLOUT, self.handler("a"))
        self.assertEqual(self.turn(), [("a", select.EPOLLOUT)])
        self.poller.change(number, select.EPOLLIN)
        self.assertEqual(self.turn(), [("a", select.EPOLLIN)])
        self.poller.replace(number, self.handler("b"))
        self.assertEqual(self.turn(), [("b", select.EPOLLIN)])
        self.poller.add(number, select.EPOLLOUT, self.handler("c"))
        self.assertEqual(self.turn(), [("c", select.EPOLLOUT)])

    def test_removed(self) -> None:
        """
        The handler of a socket that was removed is not called, even if another
        descriptor of the same connection keeps the kernel's end of it open.
        """
        mine, peer = self.pair()
        with mine.dup():
            self.poller.add(mine.fileno(), select.EPOLLIN, self.handler("a"))
            peer.send(b"x")
            self.poller.remove(mine.fileno())
            self.poller.remove(mine.fileno())
            mine.close()
            self.assertEqual(self.turn(), [])
            self.assertEqual(self.turn(), [])

    def test_withdrawn(self) -> None:
        """
        A socket that is withdrawn stays open, and its handler is not called; it can be
        added again.
        """
        mine, _ = self.pair()
        number = mine.fileno()
        for name in "ab":
            self.poller.add(number, select.EPOLLOUT, self.handler(name))
            self.assertEqual(self.turn(), [(name, select.EPOLLOUT)])
            self.poller.withdraw(number)
            self.assertEqual(self.turn(), [])

    def test_sameNumber(self) -> None:
        """
        Events of a socket that was closed in the same turn are not reported to a new
        socket that got its number.
        """
        (one, peer), (two, other), spare = self.pair(), self.pair(), self.pair()
        peer.send(b"x")
        other.send(b"x")
        ours = [one, two]

        def first(events: int) -> None:
            """
            Close the socket that is served after this one; a new one follows.
            """
            served = next(each for each in ours if each.fileno() == self.serving)
            closing = ours[1 - ours.index(served)]
            number = closing.fileno()
            self.poller.remove(number)
            closing.close()
            fresh = spare[0].dup()
            self.addCleanup(fresh.close)
            self.assertEqual(fresh.fileno(), number)
            self.poller.add(number, select.EPOLLIN, self.handler("fresh"))

        for each in ours:
            number = each.fileno()
            self.poller.add(number, select.EPOLLIN, Handling(self.serve(number, first)))
        self.assertEqual(self.turn(), [])
        # In the next turn it is told what is its own.
        for each in ours:
            if each.fileno() >= 0:
                self.poller.change(each.fileno(), 0)
        self.assertEqual(self.turn(), [])
        spare[1].send(b"x")
        self.assertEqual(self.turn(), [("fresh", select.EPOLLIN)])

    def serve(self, number: int, then: Callable[[int], None]) -> Callable[[int], None]:
        """
        Make a handler that says which descriptor is served.
        """

        def handler(events: int) -> None:
            self.serving = number
            then(events)

        return handler

    def test_reader(self) -> None:
        """
        A reader of the reactor can be served by the poller as well, and can stop.
        """
        reader = Reader(self.pair()[0])
        peer = self.peers[reader.handle]
        peer.send(b"x")
        self.poller.addReader(reader)
        self.poller.doRead()
        self.assertEqual(reader.read, 1)
        self.poller.removeReader(reader)
        self.poller.doRead()
        self.assertEqual(reader.read, 1)
        self.poller.addReader(reader)
        self.poller.doRead()
        self.assertEqual(reader.read, 2)

    def test_afterRound(self) -> None:
        """
        A call after a round is made once, when the sockets that were ready by the
        round's end have been served, and at once between turns.
        """
        self.poller.afterRound(lambda: self.seen.append(("at once", 0)))
        self.assertEqual(self.seen, [("at once", 0)])
        (one, its), (two, other) = self.pair(), self.pair()

        def first(events: int) -> None:
            one.recv(1)
            self.poller.afterRound(lambda: self.seen.append(("after", 0)))
            other.send(b"x")

        def second(events: int) -> None:
            two.recv(1)
            self.seen.append(("second", 0))

        self.poller.add(one.fileno(), select.EPOLLIN, Handling(first))
        self.poller.add(two.fileno(), select.EPOLLIN, Handling(second))
        its.send(b"x")
        self.assertEqual(self.turn(), [("second", 0), ("after", 0)])
        self.assertEqual(self.turn(), [])

    def test_nestedRound(self) -> None:
        """
        A handler may have the reactor take a turn, which serves the other sockets; the
        handler of a socket that is closed in that turn is not called any more.
        """
        (one, its), (two, other) = self.pair(), self.pair()

        def second(events: int) -> None:
            self.seen.append(("second", events))
            self.poller.remove(two.fileno())
            two.close()

        def first(events: int) -> None:
            one.recv(1)
            self.poller.doRead()
            self.seen.append(("first", events))

        self.poller.add(one.fileno(), select.EPOLLIN, Handling(first))
        self.poller.add(two.fileno(), select.EPOLLIN, Handling(second))
        its.send(b"x")
        other.send(b"x")
        self.assertEqual(
            self.turn(), [("second", select.EPOLLIN), ("first", select.EPOLLIN)]
        )
        self.assertEqual(self.turn(), [])

    def test_fair(self) -> None:
        """
        Each of many sockets that are always ready has its turn before any has its
        second, and the reactor has its own in between.
        """
        number = EVENTS_PER_ROUND + 10
        for name in range(number):
            mine, _ = self.pair()
            self.poller.add(mine.fileno(), select.EPOLLOUT, self.handler(str(name)))
        first, second = self.turn(), self.turn()
        self.assertEqual(len(first), EVENTS_PER_ROUND)
        served = [name for name, _ in (*first, *second)][:number]
        self.assertEqual(sorted(served), sorted(map(str, range(number))))

    def test_handlerRaises(self) -> None:
        """
        A fault in serving one socket is logged once, and costs that one only.
        """
        (bad, _), (good, _) = self.pair(), self.pair()

        def broken(events: int) -> None:
            raise ZeroDivisionError()

        self.poller.add(bad.fileno(), select.EPOLLOUT, Handling(broken))
        self.poller.add(good.fileno(), select.EPOLLOUT, self.handler("good"))
        for _ in range(3):
            self.assertEqual(self.turn(), [("good", select.EPOLLOUT)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_closedAndRaises(self) -> None:
        """
        A handler that closes its socket before it raises, and a call after a round that
        raises, do not affect the other sockets.
        """
        (bad, its), (good, _) = self.pair(), self.pair()

        def fail() -> None:
            raise ZeroDivisionError()

        def broken(events: int) -> None:
            self.poller.afterRound(fail)
            self.poller.afterRound(lambda: self.seen.append(("after", 0)))
            bad.close()
            raise LookupError()

        self.poller.add(bad.fileno(), select.EPOLLIN, Handling(broken))
        self.poller.add(good.fileno(), select.EPOLLOUT, self.handler("good"))
        its.send(b"x")
        turn = self.turn()
        self.assertIn(("good", select.EPOLLOUT), turn)
        self.assertEqual(turn[-1], ("after", 0))
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.turn(), [("good", select.EPOLLOUT)])

    def test_replacedAndRaises(self) -> None:
        """
        A handler that puts another in its place before it raises does not affect that
        one.
        """
        mine, its = self.pair()

        def broken(events: int) -> None:
            mine.recv(1)
            self.poller.replace(mine.fileno(), self.handler("other"))
            raise LookupError()

        self.poller.add(mine.fileno(), select.EPOLLIN, Handling(broken))
        for _ in range(2):
            its.send(b"x")
        self.turn()
        its.send(b"x")
        self.assertEqual(self.turn()[:1], [("other", select.EPOLLIN)])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)


class WaitTests(PollerTests):
    """
    With Twisted's reactor for Linux the poller does the same, and does the
    waiting for the reactor.
    """

    def setUp(self) -> None:
        """
        Make a poller in a reactor of its own.
        """
        super().setUp()
        self.poller._epoll.close()
        self.reactor: Any = EPollReactor()
        self.addCleanup(self.closeReactor)
        self.poller = SocketPoller(self.reactor, 1024)
        self.addCleanup(self.poller._epoll.close)

    def closeReactor(self) -> None:
        """
        Close the reactor's own descriptors.
        """
        for reader in self.reactor.removeAll():
            reader.connectionLost(Failure(ConnectionDone()))
        self.reactor._poller.close()

    def run_(self) -> None:
        """
        Run the reactor, with the poller, until it is stopped.
        """
        self.poller.start()
        self.reactor.run(installSignalHandlers=False)

    def test_oneReader(self) -> None:
        """
        The poller is no reader of the reactor while it waits for both, and the reactor
        is as before once the poller is stopped; the poller can be started again.
        """
        readers = self.reactor.getReaders()
        for _ in range(2):
            self.poller.start()
            self.assertEqual(self.reactor.getReaders(), readers)
            self.poller.stop()
            self.assertNotIn("doIteration", vars(self.reactor))
            self.assertEqual(self.turn(), [])

    def test_second(self) -> None:
        """
        A second poller is a reader of the reactor beside the first, in whichever
        order they stop.
        """
        for firstStops in (True, False):
            second = SocketPoller(self.reactor, 1024)
            self.poller.start()
            second.start()
            self.assertIn(second, self.reactor.getReaders())
            pollers = [self.poller, second] if firstStops else [second, self.poller]
            for each in pollers:
                each.stop()
            self.assertNotIn("doIteration", vars(self.reactor))
            self.assertNotIn(second, self.reactor.getReaders())
            second._epoll.close()

    def test_timers(self) -> None:
        """
        While sockets are always ready, the reactor's timers are called in time,
        also those that a handler sets, or moves to be sooner.
        """
        mine, peer = self.pair()
        peer.send(b"x")
        late = self.reactor.callLater(60, self.reactor.stop)
        called: list[str] = []

        def second() -> None:
            called.append("set by a handler")
            late.reset(0.001)

        def handler(events: int) -> None:
            if not called:
                called.append("handler")
                self.reactor.callLater(0, second)

        self.poller.add(mine.fileno(), select.EPOLLIN, Handling(handler))
        self.run_()
        self.assertEqual(called, ["handler", "set by a handler"])

    def test_timerOfAQuietPoller(self) -> None:
        """
        The reactor's timers are also called in time when no socket is ready.
        """
        self.reactor.callLater(0.01, self.reactor.stop)
        self.run_()
        self.assertFalse(self.reactor.running)

    def test_reactorsSocket(self) -> None:
        """
        The reactor's own descriptors have their turn while sockets of the poller
        are always ready, as when another thread calls.
        """
        mine, peer = self.pair()
        peer.send(b"x")
        self.poller.add(mine.fileno(), select.EPOLLIN, self.handler("a"))
        reader = Reader(self.pair()[0])
        self.peers[reader.handle].send(b"x")
        self.reactor.addReader(reader)
        later = (self.reactor.callLater, 0.01, self.reactor.stop)
        thread = Thread(target=self.reactor.callFromThread, args=later)
        self.reactor.callWhenRunning(thread.start)
        self.run_()
        thread.join()
        self.assertGreater(reader.read, 0)
        self.assertIn(("a", select.EPOLLIN), self.seen)
        self.reactor.removeReader(reader)

    def test_stoppedInARound(self) -> None:
        """
        A handler may stop the poller, and the reactor.
        """
        mine, peer = self.pair()
        peer.send(b"x")

        def handler(events: int) -> None:
            self.poller.stop()
            self.reactor.callLater(0, self.reactor.stop)

        self.poller.add(mine.fileno(), select.EPOLLIN, Handling(handler))
        self.run_()
        self.assertNotIn("doIteration", vars(self.reactor))

    def test_crash(self) -> None:
        """
        A reactor that crashes in a handler leaves its main loop at once, also if no
        other event is to come.
        """
        mine, peer = self.pair()
        peer.send(b"x")

        def handler(events: int) -> None:
            mine.recv(1)
            self.reactor.crash()

        self.poller.add(mine.fileno(), select.EPOLLIN, Handling(handler))
        self.run_()
        self.poller.stop()

    def test_stop(self) -> None:
        """
        A reactor that a handler stops, as a program's observer may do, leaves its main
        loop, too.
        """
        mine, peer = self.pair()
        peer.send(b"x")
        late: list[str] = []

        def handler(events: int) -> None:
            mine.recv(1)
            self.reactor.stop()
            # Ends the wait in any case.
            self.reactor.callLater(5, late.append, "late")

        self.poller.add(mine.fileno(), select.EPOLLIN, Handling(handler))
        self.run_()
        self.assertEqual(late, [])

    def test_timersAndWhatFollows(self) -> None:
        """
        The reactor's timers are called in time also if something is to follow each
        round.
        """
        mine, peer = self.pair()
        peer.send(b"x")
        rounds: list[int] = []

        def handler(events: int) -> None:
            rounds.append(events)
            self.poller.afterRound(lambda: None)
            if len(rounds) == 100_000:
                self.reactor.crash()

        self.poller.add(mine.fileno(), select.EPOLLIN, Handling(handler))
        self.reactor.callLater(0.01, self.reactor.stop)
        self.run_()
        self.assertLess(len(rounds), 100_000)

    def test_iterate(self) -> None:
        """
        An iteration takes no longer than its caller asked, however many sockets are
        ready.
        """
        mine, peer = self.pair()
        peer.send(b"x")
        self.reactor.running = True
        self.poller.add(mine.fileno(), select.EPOLLIN, self.handler("a"))
        self.poller.start()
        self.reactor.iterate(0)
        self.assertEqual(self.seen, [("a", select.EPOLLIN)])
        self.reactor.iterate(0.01)
        self.assertGreater(len(self.seen), 2)
        self.poller.stop()

    def test_afterRoundInTheLoop(self) -> None:
        """
        Calls after a round are made before the poller waits again.
        """
        one, its = self.pair()

        def handler(events: int) -> None:
            one.recv(1)
            self.poller.afterRound(self.reactor.stop)

        self.poller.add(one.fileno(), select.EPOLLIN, Handling(handler))
        its.send(b"x")
        self.run_()
        self.assertFalse(self.reactor.running)


class ShareTests(SynchronousTestCase):
    """
    The sockets that are ready share what a round reads.
    """

    def test_views(self) -> None:
        """
        One socket reads as much as the buffer holds; many get less each, down to a
        bound, so that a round stays short; a socket that has not passed many bytes
        reads less in any case.
        """
        kilo = 1024
        shares = {1: 256, 4: 256, 5: 128, 8: 128, 9: 64, 17: 32, 33: 16, 64: 16}
        for number, share in shares.items():
            small, large = _views(256 * kilo)[(number - 1).bit_length()]
            self.assertEqual(len(large), share * kilo, f"{number} ready")
            self.assertEqual(len(small), min(32, share) * kilo, f"{number} ready")

    def test_smallBuffer(self) -> None:
        """
        A buffer that is smaller than the shares is the bound.
        """
        sizes = {len(view) for pair in _views(1024) for view in pair}
        self.assertEqual(sizes, {1024})

"""
Many sockets behind one reader, served by hand.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from iawlb.relay import poller as module
from iawlb.relay.poller import EVENTS_PER_ROUND, SocketPoller


@implementer(IReadDescriptor)
class Reader:
    """
    Counts how often it was asked to read.
    """

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle
        self.read = 0

    def fileno(self) -> int:
        """
        Its descriptor.
        """
        return self.handle.fileno()

    def logPrefix(self) -> str:
        """
        Its name.
        """
        return "reader"

    def doRead(self) -> None:
        """
        Count it.
        """
        self.read += 1

    def connectionLost(self, reason: Failure) -> None:
        """
        Never, here.
        """


class MachineTests(SynchronousTestCase):
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

    def handler(self, name: str) -> Callable[[int], None]:
        """
        Make a handler that only writes down that it was called.
        """
        return lambda events: self.seen.append((name, events))

    def turn(self) -> list[tuple[str, int]]:
        """
        Take a turn, and say who was called with what.
        """
        self.seen.clear()
        self.poller.doRead()
        return list(self.seen)

    def test_oneReader(self) -> None:
        """
        It is one reader of the reactor, however many sockets there are, and none
        once it is stopped; it can be started again.
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
        The reactor sees that one of its sockets is ready, and no more when all
        were served.
        """
        mine, peer = self.pair()

        def receive(events: int) -> None:
            mine.recv(9)

        self.poller.add(mine.fileno(), select.EPOLLIN, receive)
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
        A socket is told of what it waits for, and of nothing else; who is told
        can change too.
        """
        mine, peer = self.pair()
        peer.send(b"x")
        number = mine.fileno()
        self.poller.add(number, select.EPOLLOUT, self.handler("a"))
        self.assertEqual(self.turn(), [("a", select.EPOLLOUT)])
        self.poller.change(number, select.EPOLLIN)
        self.assertEqual(self.turn(), [("a", select.EPOLLIN)])
        self.poller.rehandle(number, self.handler("b"))
        self.assertEqual(self.turn(), [("b", select.EPOLLIN)])
        self.poller.add(number, select.EPOLLOUT, self.handler("c"))
        self.assertEqual(self.turn(), [("c", select.EPOLLOUT)])

    def test_removed(self) -> None:
        """
        A socket that was removed is told nothing, even if another descriptor of
        the same connection keeps the kernel's end of it open.
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
        A socket that is withdrawn stays open, and is told nothing; it can be
        served anew.
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
        What the kernel had to tell of a socket that was closed in the same turn
        is not told to a new one that got its number.
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
            self.poller.add(number, select.EPOLLIN, self.serve(number, first))
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
        What reads for the reactor can read for the poller as well, and stop.
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
        What is to be done after a round is done when those that were ready by its
        end have been served, and once; and at once between turns.
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

        self.poller.add(one.fileno(), select.EPOLLIN, first)
        self.poller.add(two.fileno(), select.EPOLLIN, second)
        its.send(b"x")
        self.assertEqual(self.turn(), [("second", 0), ("after", 0)])
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

        self.poller.add(bad.fileno(), select.EPOLLOUT, broken)
        self.poller.add(good.fileno(), select.EPOLLOUT, self.handler("good"))
        for _ in range(3):
            self.assertEqual(self.turn(), [("good", select.EPOLLOUT)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_closedAndRaises(self) -> None:
        """
        Nor does one that has closed its socket before it raises, or what was to
        follow a round, cost the others.
        """
        (bad, its), (good, _) = self.pair(), self.pair()

        def fail() -> None:
            raise ZeroDivisionError()

        def broken(events: int) -> None:
            self.poller.afterRound(fail)
            self.poller.afterRound(lambda: self.seen.append(("after", 0)))
            bad.close()
            raise LookupError()

        self.poller.add(bad.fileno(), select.EPOLLIN, broken)
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
        One that has another take its place before it raises does not cost that
        one either.
        """
        mine, its = self.pair()

        def broken(events: int) -> None:
            mine.recv(1)
            self.poller.rehandle(mine.fileno(), self.handler("other"))
            raise LookupError()

        self.poller.add(mine.fileno(), select.EPOLLIN, broken)
        for _ in range(2):
            its.send(b"x")
        self.turn()
        its.send(b"x")
        self.assertEqual(self.turn()[:1], [("other", select.EPOLLIN)])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)


class EpollReactor(MemoryReactorClock):
    """
    A reactor with an epoll object, as Twisted's own on Linux.

    @ivar due: Seconds until its next timer, or L{None}.
    """

    due: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self._poller = select.epoll()

    def timeout(self) -> float | None:
        """
        Say when its next timer is due.
        """
        return self.due


class StayTests(MachineTests):
    """
    With Twisted's reactor for Linux the poller does the same, and stays a little
    while for what comes next.
    """

    def setUp(self) -> None:
        """
        Make one, in a reactor's epoll object.
        """
        super().setUp()
        self.poller._epoll.close()
        self.reactor: Any = EpollReactor()
        self.poller = SocketPoller(self.reactor, 1024)
        for each in (self.poller._epoll, self.reactor._poller):
            self.addCleanup(each.close)
        self.reactor._poller.register(self.poller, select.EPOLLIN)
        # One round a turn, unless a test says more.
        self.now = 0.0
        self.patch(module, "monotonic", self.monotonic)

    def monotonic(self) -> float:
        """
        A millisecond goes by with each look.
        """
        self.now += 0.001
        return self.now

    def chain(self, number: int) -> None:
        """
        Make sockets each of which, when served, has the next one be ready; the
        first is.
        """
        pairs = [self.pair() for _ in range(number)]

        def make(place: int) -> Callable[[int], None]:
            def handler(events: int) -> None:
                pairs[place][0].recv(1)
                self.seen.append((str(place), events))
                if place + 1 < number:
                    pairs[place + 1][1].send(b"x")

            return handler

        for place, (mine, _) in enumerate(pairs):
            self.poller.add(mine.fileno(), select.EPOLLIN, make(place))
        pairs[0][1].send(b"x")

    def stay(self, seconds: float) -> None:
        """
        Have it stay longer.
        """
        self.patch(module, "STAY", seconds)

    def test_afterRound(self) -> None:
        """
        What is to be done after a round does not wait longer than the poller
        stays.
        """
        self.stay(0.004)
        super().test_afterRound()
        self.stay(0)
        one, its = self.pair()

        def first(events: int) -> None:
            one.recv(1)
            self.poller.afterRound(lambda: self.seen.append(("after", 0)))

        self.poller.add(one.fileno(), select.EPOLLIN, first)
        its.send(b"x")
        self.assertEqual(self.turn(), [("after", 0)])

    def test_stays(self) -> None:
        """
        What is ready soon after is served in the same turn of the reactor.
        """
        self.stay(0.01)
        self.chain(5)
        self.assertEqual([name for name, _ in self.turn()], list("01234"))

    def test_reactorsTurn(self) -> None:
        """
        It does not stay for long: the reactor has its turn.
        """
        self.stay(0.004)
        self.chain(100)
        self.assertEqual([name for name, _ in self.turn()], list("0123"))
        self.assertEqual([name for name, _ in self.turn()], list("4567"))

    def test_reactorsTimer(self) -> None:
        """
        Nor does it wait past the next of the reactor's timers, nor for long.
        """
        self.stay(0.01)
        asked: list[float] = []
        real: Any = self.poller._poller

        class Noting:
            def poll(self, wait: float, most: int) -> Any:
                asked.append(wait)
                return real.poll(0, most)

        noting: Any = Noting()
        self.poller._poller = noting
        for self.reactor.due in (0.0, 0.002, 0.5, None):
            self.chain(1)
            self.assertEqual([name for name, _ in self.turn()], ["0"])
        self.assertEqual(asked, [0.0, 0.002, 0.01, 0.01])

    def test_reactorsSocket(self) -> None:
        """
        As soon as something of the reactor's own is ready, it has its turn, also
        if there is more of ours.
        """
        self.stay(60)
        mine, peer = self.pair()
        self.reactor._poller.register(mine, select.EPOLLIN)
        peer.send(b"x")
        for name in "ab":
            self.poller.add(
                self.pair()[0].fileno(), select.EPOLLOUT, self.handler(name)
            )
        self.assertEqual(sorted(name for name, _ in self.turn()), ["a", "b"])
        self.assertEqual(sorted(name for name, _ in self.turn()), ["a", "b"])

    def test_quiet(self) -> None:
        """
        When nothing comes, it waits for no more than it may, and leaves.
        """
        self.chain(1)
        self.stay(0.002)
        self.assertEqual([name for name, _ in self.turn()], ["0"])

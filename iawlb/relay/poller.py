"""
Many sockets behind one epoll object.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.compat import (
    Iterate,
    epollOf,
    isStopping,
    replaceIteration,
    restoreIteration,
)
from iawlb.core.ratelimit import FailureLog

EVENTS_PER_ROUND = 64
"""
The number of sockets served before the kernel is asked again.
"""

BYTES_PER_ROUND = 1024 * 1024
"""
Bytes read in a round. The sockets that are ready share them, so that a request does not
wait long behind many bulk transfers.
"""

SMALLEST_READ = 16 * 1024
"""
The smallest share of a socket, in bytes: below that, the calls cost more than the
bytes.
"""

SMALL_READ = 32 * 1024
"""
The most bytes read at a time from a socket that has not passed many bytes yet. What the
peer does not take is held in memory, so this is what a peer that never reads costs.
"""


class Pollable(Protocol):
    """
    An object that receives the events of one descriptor.
    """

    def ready(self, events: int) -> None:
        """
        Called when the kernel reports events, as C{EPOLL} flags.
        """

    def failed(self) -> None:
        """
        Called when C{ready} has raised. The poller reports no further event of the
        descriptor unless the descriptor is added again.
        """


class _Reader:
    """
    A reader of Twisted's, served as the reactor would serve it.
    """

    __slots__ = ("_reader",)

    def __init__(self, reader: IReadDescriptor) -> None:
        self._reader = reader

    def ready(self, events: int) -> None:
        """
        Have the reader read.
        """
        self._reader.doRead()

    def failed(self) -> None:
        """
        End the reader, as the reactor does when reading has raised.
        """
        self._reader.connectionLost(Failure(OSError("reading failed")))


@implementer(IReadDescriptor)
class SocketPoller:
    """
    An epoll object for plain sockets. An event of such a socket costs neither the log
    context that the reactor puts around each event, nor a call to the kernel before and
    after each write.

    With Twisted's reactor for Linux the poller does the waiting: the reactor's own
    epoll object is one of the descriptors in the poller's, and the reactor has its turn
    when that one is ready, or a timer is due. So one call to the kernel waits for both.
    With other reactors, the poller is one reader of the reactor.

    @ivar now: The time of the monotonic clock at which the present round began, in
        seconds.
    @ivar small: The buffer for sockets that have not passed many bytes yet.
    @ivar large: The buffer for all other sockets. All sockets share the two buffers, as
        each read is passed on before the next.
    """

    def __init__(self, reactor: Any, bufferSize: int) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._served: dict[int, Pollable] = {}
        self._inRound = False
        self._failures = FailureLog(reactor, "serving a socket")
        self._afterFailures = FailureLog(reactor, "what was to follow a round")
        self._after: list[Callable[[], None]] = []
        # Descriptors closed in this round. The kernel may still report events of them,
        # which do not belong to a new socket with the same number.
        self._stale: set[int] = set()
        # The reactor's own iteration, while ours is called in its place.
        self._iterateReactor: Iterate | None = None
        self._reactorNumber = -1
        self._views = _views(bufferSize)
        self.small, self.large = self._views[0]
        self.now = monotonic()

    @classmethod
    def suits(cls, reactor: Any) -> bool:
        """
        Return whether the poller works with a reactor, on this system.
        """
        return isinstance(reactor, PosixReactorBase) and hasattr(select, "epoll")

    def fileno(self) -> int:
        """
        Return the epoll object's own descriptor.
        """
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """
        Name the poller in Twisted's own log lines.
        """
        return "iawlb"

    # Descriptors.

    def add(self, number: int, events: int, served: Pollable) -> None:
        """
        Report a descriptor's events to one object, in place of the object before, if
        any.
        """
        if number in self._served:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._served[number] = served

    def change(self, number: int, events: int) -> None:
        """
        Wait for other events of a descriptor.
        """
        self._epoll.modify(number, events)

    def replace(self, number: int, served: Pollable) -> None:
        """
        Report a descriptor's events to another object.
        """
        self._served[number] = served

    def remove(self, number: int) -> None:
        """
        Report no more events of a descriptor that is about to be closed. The kernel
        forgets the descriptor when it is closed.
        """
        if self._served.pop(number, None) is not None:
            self._stale.add(number)

    def withdraw(self, number: int) -> None:
        """
        Report no more events of a descriptor that stays open.
        """
        self._epoll.unregister(number)
        self.remove(number)

    def addReader(self, reader: IReadDescriptor) -> None:
        """
        Serve a reader of Twisted's as the reactor would.
        """
        self.add(reader.fileno(), select.EPOLLIN, _Reader(reader))

    def removeReader(self, reader: IReadDescriptor) -> None:
        """
        Stop serving a reader of Twisted's; its descriptor stays open.
        """
        self.withdraw(reader.fileno())

    # Rounds.

    def start(self) -> None:
        """
        Serve the descriptors from now on.
        """
        reactors = epollOf(self._reactor)
        if reactors is not None:
            self._iterateReactor = replaceIteration(self._reactor, self._iterate)
        if reactors is not None and self._iterateReactor is not None:
            self._reactorNumber = reactors.fileno()
            self._epoll.register(self._reactorNumber, select.EPOLLIN)
        else:
            self._reactor.addReader(self)

    def stop(self) -> None:
        """
        Stop serving the descriptors.
        """
        self._failures.stop()
        self._afterFailures.stop()
        if self._iterateReactor is None:
            self._reactor.removeReader(self)
            return
        restoreIteration(self._reactor)
        self._iterateReactor = None
        self._epoll.unregister(self._reactorNumber)
        self._reactorNumber = -1

    def _iterate(self, timeout: float | None) -> None:
        """
        Do an iteration of the reactor: serve what is ready, until the reactor itself
        has something to do.

        @param timeout: How long to wait in all, in seconds; L{None} is for ever.
        """
        reactor = self._reactor
        end = None if timeout is None else monotonic() + timeout
        while True:
            events = self._epoll.poll(0 if self._after else timeout, EVENTS_PER_ROUND)
            reactorIsReady = self._round(events)
            iterateReactor = self._iterateReactor
            if iterateReactor is None:
                return  # stopped in this round
            if reactorIsReady:
                iterateReactor(0)
                return
            if not reactor.running or isStopping(reactor):
                return
            if not events and not self._after:
                return
            # Timers may have been set or moved in this round.
            timeout = reactor.timeout()
            if end is not None:
                left = max(0.0, end - self.now)
                timeout = left if timeout is None else min(timeout, left)
            if timeout == 0:
                return

    def doRead(self) -> None:
        """
        Serve what is ready, as one reader of the reactor.
        """
        self._round(self._epoll.poll(0, EVENTS_PER_ROUND))
        if self._after:
            self._round(self._epoll.poll(0, EVENTS_PER_ROUND))

    def _round(self, events: list[tuple[int, int]]) -> bool:
        """
        Serve the descriptors that are ready.

        @return: Whether the reactor's own epoll object is ready.
        """
        self.now = monotonic()
        self.small, self.large = self._views[(len(events) - 1).bit_length()]
        after, self._after = self._after, []
        stale = self._stale
        outermost = not self._inRound
        if outermost:
            stale.clear()
        self._inRound = True
        served = self._served
        reactorIsReady = False
        try:
            for number, event in events:
                each = served.get(number)
                if each is None:
                    if number == self._reactorNumber:
                        reactorIsReady = True
                elif number not in stale:
                    try:
                        each.ready(event)
                    except Exception:
                        # Otherwise the reactor would drop the poller, and all sessions
                        # with it.
                        self._failures.add()
                        self._giveUp(number, each)
        finally:
            self._inRound = not outermost
        for call in after:
            try:
                call()
            except Exception:
                # For the same reason.
                self._afterFailures.add()
        return reactorIsReady

    def _giveUp(self, number: int, each: Pollable) -> None:
        """
        Report nothing more to an object that has raised, unless its descriptor has been
        closed or given to another object, and have the object end what it serves.
        """
        if self._served.get(number) is each:
            self.remove(number)
            with suppress(OSError):
                self._epoll.unregister(number)
        try:
            each.failed()
        except Exception:
            self._failures.add()

    def afterRound(self, call: Callable[[], None]) -> None:
        """
        Call a function when the sockets that are ready at the end of this round have
        been served too, without waiting for any. If no round is under way, call it at
        once.
        """
        if self._inRound:
            self._after.append(call)
        else:
            call()

    def connectionLost(self, reason: Failure) -> None:
        """
        Called when the reactor stops.
        """


def _views(bufferSize: int) -> list[tuple[memoryview, memoryview]]:
    """
    Make the buffers that sockets read into.

    @return: Pairs of the small and the large buffer. The index of a pair is the number
        of bits in (the number of sockets that share a round, less one).
    """
    buffer = memoryview(bytearray(bufferSize))
    views = []
    for bits in range(EVENTS_PER_ROUND.bit_length()):
        share = max(SMALLEST_READ, BYTES_PER_ROUND >> bits)
        views.append((buffer[: min(share, SMALL_READ)], buffer[:share]))
    return views

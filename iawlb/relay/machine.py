"""
Many sockets behind one reader of the reactor.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

EVENTS_PER_TURN = 128
"""
Sockets served before the reactor has its turn, each with at most one chunk.
"""

Handler = Callable[[int], None]


@implementer(IReadDescriptor)
class Machine:
    """
    An epoll object that is itself one reader of the reactor: so a socket's event
    costs neither the reactor's log context, nor a call to the kernel for each
    write.

    @ivar buffer: Where every socket is read into, one at a time.
    """

    log = Logger()

    def __init__(self, reactor: Any, bufferSize: int) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        # Descriptors closed in this turn: the events that the kernel still has
        # for them are not those of a socket that got the same number since.
        self._stale: set[int] = set()
        self.buffer = memoryview(bytearray(bufferSize))

    @classmethod
    def suits(cls, reactor: Any) -> bool:
        """
        Say whether a reactor can have one, on this system.
        """
        return isinstance(reactor, PosixReactorBase) and hasattr(select, "epoll")

    def fileno(self) -> int:
        """
        The epoll object's own descriptor.
        """
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """
        Name this in Twisted's own log lines.
        """
        return "iawlb"

    def add(self, number: int, events: int, handler: Handler) -> None:
        """
        Have a handler called with a descriptor's events, and no other.
        """
        if number in self._handlers:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._handlers[number] = handler

    def change(self, number: int, events: int) -> None:
        """
        Wait for other events.
        """
        self._epoll.modify(number, events)

    def rehandle(self, number: int, handler: Handler) -> None:
        """
        Call another handler.
        """
        self._handlers[number] = handler

    def remove(self, number: int) -> None:
        """
        Wait for nothing any more: the descriptor is about to be closed, at
        which the kernel forgets it too.
        """
        if self._handlers.pop(number, None) is not None:
            self._stale.add(number)

    def removeIf(self, number: int, handler: Handler) -> None:
        """
        The same, if that is still its handler.
        """
        if self._handlers.get(number) == handler:
            self._epoll.unregister(number)
            self.remove(number)

    def doRead(self) -> None:
        """
        Serve those that are ready.
        """
        events = self._epoll.poll(0, EVENTS_PER_TURN)
        stale = self._stale
        stale.clear()
        handlers = self._handlers
        for number, event in events:
            if number not in stale:
                handler = handlers.get(number)
                if handler is None:
                    continue
                try:
                    handler(event)
                except Exception:
                    # Else the reactor would drop us, and all sessions with us.
                    self.log.failure("serving a socket failed")
                    self.removeIf(number, handler)

    def start(self) -> None:
        """
        Be a reader of the reactor.
        """
        self._reactor.addReader(self)

    def stop(self) -> None:
        """
        Be none any more.
        """
        self._reactor.removeReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor stops.
        """

"""
The listeners of a pool, which are opened, closed and set to refuse together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.errors import CannotListen, InvalidSetting
from iawlb.frontend.listener import Listener


class Listeners:
    """
    Listeners that are opened, closed, and refuse connections together.

    @ivar refusing: Whether they refuse connections.
    """

    log = Logger()

    def __init__(self, check: Callable[[Listener], None]) -> None:
        """
        @param check: Raises L{InvalidSetting} for a listener whose address must not be
            listened on.
        """
        self._check = check
        self._all: list[Listener] = []
        self._opened = False
        self.refusing = False

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._all)

    @property
    def addresses(self) -> list[str]:
        """
        The address of each listener; of those that do not listen yet, what the user
        wrote.
        """
        return [each.address for each in self._all]

    def add(self, listener: Listener) -> None:
        """
        Add a listener, and open it if the others are open.

        @raise InvalidSetting: The pool must not listen on that address.
        @raise CannotListen: The listener could not be opened, and is not added.
        """
        self._check(listener)
        if self._opened:
            if self.refusing:
                listener.refuse()
            failure = self._open(listener)
            if failure is not None:
                failure.raiseException()
        self._all.append(listener)

    def remove(self, listener: Listener) -> Deferred[None]:
        """
        Close a listener and remove it.

        @return: Fires when it is closed.
        """
        self._all.remove(listener)
        return listener.close()

    def forget(self, listener: Listener) -> None:
        """
        Remove a listener whose place another one has taken.
        """
        self._all.remove(listener)

    async def prepare(self, listener: Listener) -> None:
        """
        Open a listener that is to be added, but accept nothing yet. If another step of
        the change fails, the listener is closed, and no client has noticed.

        @raise CannotListen: The listener could not be opened.
        """
        listener.hold()
        await listener.open()

    def admit(self, listener: Listener, instead: Listener | None = None) -> None:
        """
        Add a listener that L{prepare} has opened, and accept.

        @param instead: The listener whose socket this one shares, and which is closed;
            it may be one of other L{Listeners}, which then has to be removed there.
        """
        if self.refusing:
            listener.refuse()
        if instead is not None:
            listener.takeOver(instead)
        self._all.append(listener)
        listener.release()

    def open(self) -> None:
        """
        Open all listeners.

        @raise CannotListen: A listener could not be opened; none stays open.
        @raise InvalidSetting: An endpoint listens on an address that it must not listen
            on; none stays open.
        """
        for listener in self._all:
            failure = self._open(listener)
            if failure is not None:
                for each in self._all:
                    each.close()
                failure.raiseException()
        self._opened = True

    def _open(self, listener: Listener) -> Failure | None:
        """
        Open a listener.

        @return: Why the listener could not be opened, if that is known already.
        """
        failures: list[Failure] = []

        def opened(_: object) -> None:
            # Where an endpoint object listens is known only now.
            try:
                self._check(listener)
            except InvalidSetting:
                listener.close()
                raise

        opening: Deferred[None] = listener.open().addCallback(opened)
        if opening.called and isinstance(opening.result, Failure):
            opening.addErrback(failures.append)
            return failures[0]
        opening.addErrback(self._openedLate)
        return None

    def _openedLate(self, failure: Failure) -> None:
        """
        Called when a listener failed whose endpoint did not listen at once.
        """
        failure.trap(CannotListen, InvalidSetting)
        self.log.critical("{why}", why=failure.getErrorMessage())

    def close(self) -> Deferred[Any]:
        """
        Close all listeners.

        @return: Fires when all are closed.
        """
        self._opened = False
        return DeferredList([each.close() for each in self._all], consumeErrors=True)

    def setRefusing(self, refusing: bool) -> None:
        """
        Make all listeners refuse connections but keep their addresses, or undo that.
        """
        self.refusing = refusing
        for listener in self._all:
            if refusing:
                listener.refuse()
            else:
                listener.listenAgain()

    def check(self) -> None:
        """
        Begin or stop to accept, depending on whether there is room now.
        """
        for listener in self._all:
            listener.check()

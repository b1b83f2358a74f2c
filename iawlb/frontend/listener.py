"""
One address to listen on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IReactorFDSet,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.compat import forgetMissingPath
from iawlb.core.events import (
    LISTENER_CLOSED,
    LISTENER_LISTENING,
    LISTENER_REFUSING,
    Events,
)
from iawlb.core.session import describe
from iawlb.errors import CannotListen
from iawlb.frontend.acceptor import Acceptor
from iawlb.frontend.factory import Frontend
from iawlb.frontend.unixpath import clearStale
from iawlb.relay.keepalive import KeepAlive
from iawlb.relay.poller import SocketPoller
from iawlb.settings import ListenerSettings

RETRY = 1.0
"""
How long to wait before listening is tried again after it failed, in seconds.
"""


class Listener:
    """
    One address that clients connect to. Accepts while there is room.

    @ivar text: The address as the user wrote it.
    @ivar settings: The settings of the listener.
    @ivar certificates: The certificates that clients are shown, if it ends TLS.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamServerEndpoint,
        path: str | None,
        text: str,
        frontend: Frontend,
        events: Events,
        room: Callable[[], int],
        readers: IReactorFDSet | SocketPoller,
        keepAlive: KeepAlive,
        settings: ListenerSettings,
    ) -> None:
        """
        @param path: The path of the Unix socket to remove if it is stale, if any.
        @param text: The address as the user wrote it.
        @param room: Returns how many more connections may be accepted now.
        @param readers: Reports when there are connections to accept.
        @param keepAlive: The keepalive options of accepted connections.
        """
        self.settings = settings
        self.certificates = frontend.certificates
        self.name = frontend.origin.listener
        self.address = text
        self._reactor = reactor
        self._readers = readers
        self._keepAlive = keepAlive
        self._endpoint = endpoint
        self._path = path
        self.text = text
        self.frontend = frontend
        self._events = events
        self._room = room
        self._opening: Deferred[IListeningPort] | None = None
        self._port: IListeningPort | None = None
        self._acceptor: Acceptor | None = None
        # Whether refusing was asked for, which is remembered while the listener is
        # closed.
        self._refusing = False
        self._retry: IDelayedCall | None = None
        # Whether connections are left in the kernel's backlog until the listener is
        # released.
        self._held = False
        # Whether observers know that the listener listens.
        self._announced = False

    @property
    def shareable(self) -> tcp.Port | None:
        """
        The open port, if its socket can be shared with another listener.
        """
        return self._port if isinstance(self._port, tcp.Port) else None

    def hold(self) -> None:
        """
        Accept nothing, also when open, until L{release}.
        """
        self._held = True

    def release(self) -> None:
        """
        Undo L{hold}, when the listener is open.
        """
        self._held = False
        self._listens()

    def giveWay(self) -> None:
        """
        Stop listening at once, so that another socket can listen at an address that
        overlaps with this one. The address stays bound. Clients in the kernel's backlog
        are accepted first, as far as there is room.
        """
        acceptor = self._acceptor
        assert acceptor is not None
        if not acceptor.refusing:
            acceptor.refuse()
        acceptor.shareAddress()

    def comeBack(self) -> None:
        """
        Undo L{giveWay}, when the other socket is closed.
        """
        self._apply()

    def takeOver(self, other: Listener) -> Deferred[None]:
        """
        Close another listener whose socket this one shares. The socket goes on
        listening, and the connections in the kernel's backlog become those of this
        listener.

        @return: Fires when the other is closed.
        """
        mine, others = self._acceptor, other._acceptor
        assert mine is not None and others is not None
        path = mine.takeOver(others)
        # A Unix socket that has refused before knows only the name that it had first.
        self.address = other.address
        group = self.settings.group
        if path is not None and group != other.settings.group:
            with suppress(FileNotFoundError):  # somebody has removed it
                os.chown(path, -1, os.getegid() if group is None else group)
        other._announced = False
        return other.close()

    @property
    def state(self) -> str:
        """
        A word for the state: listening, refusing or closed.
        """
        if self._port is None:
            return "closed"
        refusing = self._acceptor is not None and self._acceptor.refusing
        return "refusing" if refusing else "listening"

    @property
    def port(self) -> IListeningPort | None:
        """
        The listening port of Twisted's, while the listener is open.
        """
        return self._port

    def open(self) -> Deferred[None]:
        """
        Bind and listen.

        @return: Fires when the listener listens, with Twisted's own endpoints at once.
            Fails with L{CannotListen}.
        """
        if self._path is not None:
            try:
                clearStale(self._path)
            except (CannotListen, OSError) as error:
                return maybeDeferred(self._openFailed, Failure(error))
        opening = maybeDeferred(self._endpoint.listen, self.frontend)
        self._opening = opening
        return opening.addCallbacks(self._opened, self._openFailed)

    def _openFailed(self, failure: Failure) -> None:
        if self._opening is None and failure.check(CancelledError):
            return  # closed before it was open
        self._opening = None
        error = failure.value
        if isinstance(error, CannotListenError):
            why = getattr(error.socketError, "strerror", None) or error.socketError
        else:
            why = failure.getErrorMessage()
        raise CannotListen(f"cannot listen on {self.text}: {why}")

    def _opened(self, port: IListeningPort) -> None:
        self._opening = None
        self._port = port
        self.address = describe(port.getHost())[0]
        if isinstance(port, tcp.Port):
            self._keepAlive.apply(port.socket)
            self._acceptor = Acceptor(
                self._reactor,
                port,
                self.name,
                self._room,
                self._readers,
                self.frontend.admits,
            )
        if not self._held:
            self._listens()

    def _listens(self) -> None:
        """
        Report that the listener listens, and begin to accept.
        """
        self._announced = True
        self._events.listener(self.name, self.address, LISTENER_LISTENING)
        self._apply()
        self.check()

    def check(self) -> None:
        """
        Begin or stop to accept, depending on whether there is room now.
        """
        acceptor = self._acceptor
        if acceptor is None or acceptor.refusing or self._held:
            return
        if self._room() > 0:
            acceptor.resume()
        else:
            acceptor.pause()

    def setKeepAlive(self, keepAlive: KeepAlive) -> None:
        """
        Use other keepalive options for the connections that are accepted from now on.
        """
        self._keepAlive = keepAlive
        if isinstance(self._port, tcp.Port):
            keepAlive.apply(self._port.socket)

    def refuse(self) -> None:
        """
        Refuse connections, but keep the address.
        """
        self._refusing = True
        self._apply()

    def listenAgain(self) -> None:
        """
        Undo L{refuse}.
        """
        self._refusing = False
        self._apply()

    def _apply(self) -> None:
        """
        Refuse or listen, as was asked for.
        """
        self._cancelRetry()
        acceptor = self._acceptor
        if acceptor is None or self._held or acceptor.refusing == self._refusing:
            return
        if self._refusing and not acceptor.canRefuse:
            self.log.warn(
                "{address} cannot refuse, as its name is abstract: clients are held",
                address=self.address,
            )
            return
        if self._refusing:
            acceptor.refuse()
            self._events.listener(self.name, self.address, LISTENER_REFUSING)
            return
        try:
            acceptor.listenAgain()
        except OSError as error:
            self.log.error(
                "cannot listen on {address} again: {why}; trying every second",
                address=self.address,
                why=error.strerror or error,
            )
            self._retry = self._reactor.callLater(RETRY, self._retried)
            return
        self._events.listener(self.name, self.address, LISTENER_LISTENING)
        self.check()

    def _retried(self) -> None:
        self._retry = None
        self._apply()

    def _cancelRetry(self) -> None:
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()

    def close(self) -> Deferred[None]:
        """
        Stop listening. Connections in the kernel's backlog are accepted first.
        """
        self._cancelRetry()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.stop()
        self.frontend.stop()
        forgetMissingPath(port)
        closing: Deferred[Any] = maybeDeferred(cast(Any, port.stopListening))

        def closed(_: object) -> None:
            if acceptor is not None:
                acceptor.release()
            if self._announced:
                self._announced = False
                self._events.listener(self.name, self.address, LISTENER_CLOSED)

        return closing.addCallback(closed)

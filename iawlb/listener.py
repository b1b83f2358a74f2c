"""
One address that clients come in by.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.acceptor import Acceptor
from iawlb.events import LISTENER_CLOSED, LISTENER_LISTENING, LISTENER_REFUSING, Events
from iawlb.frontend import Frontend, describe
from iawlb.interfaces import CannotListen


def clearStale(path: str) -> None:
    """
    Remove a Unix socket that a killed process left behind: only if it is a
    socket, and nobody answers on it.

    @raise CannotListen: Something else has that path.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # binding will say what is wrong, if anything is
    if not stat.S_ISSOCK(mode):
        raise CannotListen(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass  # someone is there, and busy
    raise CannotListen(f"{path} is in use by another process")


class Listener:
    """
    Listens, and accepts while it may.
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
    ) -> None:
        """
        @param path: The Unix socket to clear away if it is stale, if any.
        @param text: The address as the user wrote it.
        @param room: Says how many more connections may be accepted now.
        """
        self.name = frontend.name
        self.address = text
        self._reactor = reactor
        self._endpoint = endpoint
        self._path = path
        self._text = text
        self._frontend = frontend
        self._events = events
        self._room = room
        self._opening: Deferred[IListeningPort] | None = None
        self._port: IListeningPort | None = None
        self._acceptor: Acceptor | None = None
        self._refusing = False

    def open(self) -> Deferred[None]:
        """
        Bind and listen.

        @return: Fails with L{CannotListen}. Fires at once with the endpoints of
            Twisted's own.
        """
        if self._path is not None:
            try:
                clearStale(self._path)
            except (CannotListen, OSError) as error:
                return maybeDeferred(self._cannot, Failure(error))
        opening = maybeDeferred(self._endpoint.listen, self._frontend)
        self._opening = opening
        return opening.addCallbacks(self._opened, self._cannot)

    def _cannot(self, failure: Failure) -> None:
        self._opening = None
        error = failure.value
        if isinstance(error, CannotListenError):
            why = getattr(error.socketError, "strerror", None) or error.socketError
        else:
            why = failure.getErrorMessage()
        raise CannotListen(f"cannot listen on {self._text}: {why}")

    def _opened(self, port: IListeningPort) -> None:
        self._opening = None
        self._port = port
        self.address = describe(port.getHost())[0]
        if isinstance(port, tcp.Port):
            self._acceptor = Acceptor(self._reactor, port, self.name, self._room)
        self._events.listener(self.name, self.address, LISTENER_LISTENING)
        self.check()

    def check(self) -> None:
        """
        Accept, or cease to, as there is room now.
        """
        if self._refusing or self._acceptor is None:
            return
        if self._room() > 0:
            self._acceptor.resume()
        else:
            self._acceptor.pause()

    def refuse(self) -> None:
        """
        Refuse connections, but keep the address.
        """
        if not self._refusing and self._acceptor is not None:
            self._refusing = True
            self._acceptor.refuse()
            self._events.listener(self.name, self.address, LISTENER_REFUSING)

    def listenAgain(self) -> None:
        """
        Undo L{refuse}.
        """
        if self._refusing and self._acceptor is not None:
            self._refusing = False
            self._acceptor.listenAgain()
            self._events.listener(self.name, self.address, LISTENER_LISTENING)
            self.check()

    def close(self) -> Deferred[None]:
        """
        Listen no more. What the kernel has accepted already is let in first.
        """
        if self._opening is not None:
            self._opening.addErrback(lambda failure: failure.trap(CannotListen))
            self._opening.cancel()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None
        self._frontend.stop()
        closing: Deferred[Any] = maybeDeferred(cast(Any, port.stopListening))
        return closing.addCallback(
            lambda _: self._events.listener(self.name, self.address, LISTENER_CLOSED)
        )

"""
L{AdminPort}: one socket on which an L{AdminServer} listens.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.admin.place import Place, fileNumber, openPlace, removePath
from iawlb.admin.server import AdminServer
from iawlb.core.ratelimit import FailureLog

ACCEPTS_PER_TURN = 8
"""
The number of connections accepted before the reactor has its turn.
"""

PAUSE = 0.1
"""
How long nothing is accepted after accepting has failed, in seconds.
"""


@implementer(IReadDescriptor)
class AdminPort:
    """
    A socket that is bound at first, and serves later.

    Twisted's own port is not used, as it would let everybody connect to a Unix socket
    that it adopts, and would remove the file although another process has put its own
    there.
    """

    log = Logger()

    def __init__(self, reactor: Any, place: Place) -> None:
        self._reactor = reactor
        self._place = place
        self._socket: socket.socket | None = None
        self._file = 0
        self._server: AdminServer | None = None
        self._held: IDelayedCall | None = None
        self._failures = FailureLog(reactor, f"accepting on {place}")

    def open(self, owner: int | None = None) -> None:
        """
        Bind and listen, while the process has its privileges.

        @param owner: The number of the user that the process becomes after this, who
            has to be able to connect to its own socket.
        @raise CannotListen: That is not possible.
        """
        if self._socket is None:
            self._socket = openPlace(self._place)
            if isinstance(self._place.address, str):
                self._file = fileNumber(self._place.address)
                if owner is not None:
                    os.chown(self._place.address, owner, -1)

    @property
    def address(self) -> str:
        """
        The address that is listened on.
        """
        if self._socket is None or isinstance(self._place.address, str):
            return str(self._place)
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def serve(self, server: AdminServer) -> None:
        """
        Begin to serve.

        @raise CannotListen: The place cannot be opened.
        """
        self.open()
        self._server = server
        self._reactor.addReader(self)
        self.log.info("{what} on {where}", what=server.what, where=self.address)

    def close(self) -> Deferred[None]:
        """
        Stop serving, and remove the socket's file.

        @return: Fires when all connections are closed.
        """
        if self._held is not None:
            self._held.cancel()
            self._held = None
        self._failures.stop()
        server, self._server = self._server, None
        stopped: Deferred[None] = succeed(None)
        if server is not None:
            self._reactor.removeReader(self)
            stopped = server.stop()
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()
            if isinstance(self._place.address, str):
                removePath(self._place.address, self._file)
        return stopped

    # What the reactor calls.

    def fileno(self) -> int:
        """
        Return the descriptor.
        """
        return -1 if self._socket is None else self._socket.fileno()

    def doRead(self) -> None:
        """
        Accept some connections.
        """
        for _ in range(ACCEPTS_PER_TURN):
            if self._socket is None:
                return
            try:
                client, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._failed()
                return
            with client:
                try:
                    client.setblocking(False)
                    # A connection with a descriptor of its own.
                    self._reactor.adoptStreamConnection(
                        client.fileno(), client.family, self._server
                    )
                except Exception:
                    self._failed()
                    return

    def _failed(self) -> None:
        """
        Accept nothing for a moment. The kernel's backlog holds the clients.
        """
        self._failures.add()
        self._reactor.removeReader(self)
        self._held = self._reactor.callLater(PAUSE, self._again)

    def _again(self) -> None:
        self._held = None
        self._reactor.addReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """
        Called when the reactor cannot watch the socket any more.
        """
        self.close()

    def logPrefix(self) -> str:
        """
        Return the name for log messages.
        """
        return "admin"

"""
L{AdminPort}: one socket on which an L{AdminServer} listens.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from iawlb.admin.place import Place, fileNumber, openPlace, removePath
from iawlb.admin.server import AdminServer


class AdminPort:
    """
    A socket that is bound at first, and serves later.
    """

    log = Logger()

    def __init__(self, reactor: Any, place: Place) -> None:
        self._reactor = reactor
        self._place = place
        self._socket: socket.socket | None = None
        self._file = 0
        self._port: Any = None
        self._server: AdminServer | None = None

    def open(self) -> None:
        """
        Bind and listen, while the process has its privileges.

        @raise CannotListen: That is not possible.
        """
        if self._socket is None:
            self._socket = openPlace(self._place)
            if isinstance(self._place.address, str):
                self._file = fileNumber(self._place.address)

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
        assert self._socket is not None
        self._server = server
        self._port = self._reactor.adoptStreamPort(
            self._socket.fileno(), self._socket.family, server
        )
        self.log.info("{what} on {where}", what=server.what, where=self.address)

    def close(self) -> Deferred[Any]:
        """
        Stop serving, and remove the socket's file.

        @return: Fires when no more clients come in.
        """
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()
            if isinstance(self._place.address, str):
                removePath(self._place.address, self._file)
        port, self._port = self._port, None
        if self._server is not None:
            self._server.stop()
        return maybeDeferred(port.stopListening if port is not None else lambda: None)

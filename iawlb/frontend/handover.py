"""
Hand a listening socket over: two ports listen with one socket, then the older port is
closed. The socket listens all the time, so no client is refused, and the kernel's
backlog is kept.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from iawlb.compat import sharedPort

BACKLOG = 50
"""
The backlog that Twisted takes if none is given.
"""


class SharedSocket:
    """
    A reactor that listens with the socket of a port that listens already, whatever
    address it is asked for. Everything else is the reactor's own.
    """

    def __init__(self, reactor: Any, port: tcp.Port) -> None:
        self._reactor = reactor
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self,
        port: int,
        factory: IProtocolFactory,
        backlog: int = BACKLOG,
        interface: str = "",
    ) -> IListeningPort:
        """
        Listen with the socket.
        """
        return sharedPort(self._reactor, self._port, factory, backlog, 0)

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = BACKLOG,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """
        Listen with the socket.
        """
        return sharedPort(self._reactor, self._port, factory, backlog, mode)

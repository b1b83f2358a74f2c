"""
Endpoints of listeners whose sockets need more before they listen than Twisted's
endpoint strings can say.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from zope.interface import implementer


@implementer(IStreamServerEndpoint)
class GroupEndpoint:
    """
    An endpoint that listens on a Unix socket and gives it to a group of users. The
    socket is made with the mode 0, so that nobody connects before the group is set.
    """

    def __init__(
        self, endpoint: IStreamServerEndpoint, path: str, mode: int, group: int
    ) -> None:
        """
        @param endpoint: Listens on the socket, with the mode 0.
        @param mode: The mode that the socket has in the end.
        @param group: The number of the group.
        """
        self._endpoint = endpoint
        self._path = path
        self._mode = mode
        self._group = group

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen, as L{IStreamServerEndpoint.listen}.
        """
        listening: Deferred[IListeningPort] = self._endpoint.listen(protocolFactory)
        return listening.addCallback(self._open)

    def _open(self, port: IListeningPort) -> IListeningPort:
        try:
            os.chown(self._path, -1, self._group)
            os.chmod(self._path, self._mode)
        except OSError as error:
            port.stopListening()
            why = f"cannot give it to the group {self._group}: {error.strerror}"
            raise CannotListenError(
                None, self._path, OSError(error.errno, why)
            ) from error
        return port


@implementer(IStreamServerEndpoint)
class SixEndpoint:
    """
    An endpoint that listens on an IPv6 address, and there takes no IPv4 clients.
    """

    def __init__(self, reactor: Any, host: str, port: int, backlog: int) -> None:
        """
        @param host: The IPv6 address.
        @param backlog: The length of the kernel's backlog.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen, as L{IStreamServerEndpoint.listen}.
        """
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                (found, *_) = socket.getaddrinfo(
                    self._host, self._port, socket.AF_INET6, socket.SOCK_STREAM
                )
                made.bind(found[4])
                made.listen(self._backlog)
            except OSError as error:
                return fail(CannotListenError(self._host, self._port, error))
            # The reactor makes a descriptor of its own.
            port = self._reactor.adoptStreamPort(
                made.fileno(), socket.AF_INET6, protocolFactory
            )
        # An adopted port does not know its backlog, which it needs to listen again
        # after it has refused.
        port.backlog = self._backlog
        return succeed(port)

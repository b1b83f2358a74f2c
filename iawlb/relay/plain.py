"""
Lean connections: plain sockets, without what Twisted does for each that a relay
does not need.

An accepted transport of Twisted's is read from at once, only to be paused (two
calls of epoll_ctl), and has two dozen attributes. A client that waits needs none
of that, and the fast relay takes bare sockets; for the portable relay they get a
transport when it begins.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.tcp import Connection

from iawlb.relay.resets import ResetWatch
from iawlb.relay.side import Side, SideOwner


class PlainConnection(Connection):
    """
    A transport of a connected socket, which is not read until its protocol asks.
    """

    logstr = "iawlb"
    plain = True
    _registered = False

    def __init__(self, handle: socket.SocketType, protocol: Side, reactor: Any) -> None:
        """
        @param handle: The socket, which does not block.
        """
        # Connection's own __init__ would make it non-blocking once more.
        super(Connection, self).__init__(reactor)
        self.socket = handle  # type: ignore[assignment]  # it has all that is used
        self.fileno = handle.fileno
        self.protocol = protocol
        self.connected = 1

    def startReading(self) -> None:
        """
        Be read by the reactor.
        """
        self._registered = True
        super().startReading()

    def stopReading(self) -> None:
        """
        Be read by it no more, if ever it did.
        """
        if self._registered:
            super().stopReading()

    def startWriting(self) -> None:
        """
        Have the reactor say when it can be written.
        """
        self._registered = True
        super().startWriting()

    def stopWriting(self) -> None:
        """
        The same for this.
        """
        if self._registered:
            super().stopWriting()

    def getPeer(self) -> IAddress:
        """
        The address of the other end.
        """
        return addressOf(self.socket.family, self.socket.getpeername())

    def getHost(self) -> IAddress:
        """
        The address of this end.
        """
        return addressOf(self.socket.family, self.socket.getsockname())


def resetNow(handle: socket.SocketType) -> None:
    """
    Close a socket with a reset.
    """
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handle.close()


class PlainClient:
    """
    An accepted socket that waits, with no transport as yet.

    @ivar owner: Who is told of its end.
    @ivar lost: Whether it is closed, or somebody else's.
    """

    __slots__ = ("_handle", "_resets", "lost", "owner")

    def __init__(
        self, handle: socket.SocketType, owner: SideOwner, resets: ResetWatch
    ) -> None:
        self.lost = False
        self.owner = owner
        self._handle = handle
        self._resets = resets

    @property
    def ready(self) -> bool:
        """
        It has no TLS handshake.
        """
        return True

    @property
    def secure(self) -> bool:
        """
        It is no TLS.
        """
        return False

    def fileno(self) -> int:
        """
        Its descriptor.
        """
        return self._handle.fileno()

    def watch(self) -> None:
        """
        Have it noticed that the client leaves.
        """
        if not self.lost:
            self._resets.watch(self, True)

    def handOver(self) -> socket.SocketType:
        """
        Leave the socket to somebody else.
        """
        self.lost = True
        self._resets.forget(self)
        # No cycle is left for the garbage collector.
        del self.owner
        return self._handle

    def hungUp(self) -> None:
        """
        It was reset.
        """
        self.abort()

    def peerLeft(self) -> None:
        """
        The client has left.
        """
        self.close()

    def close(self) -> None:
        """
        Close it.
        """
        owner = self.owner
        self.handOver().close()
        owner.sideLost(self, False)

    def drop(self) -> None:
        """
        Reset it and tell nobody, even if it was handed over.
        """
        if self._handle.fileno() >= 0:
            self._resets.forget(self)
            self.lost = True
            resetNow(self._handle)

    def abort(self) -> None:
        """
        Reset it.
        """
        owner = self.owner
        resetNow(self.handOver())
        owner.sideLost(self, True)


def addressOf(family: int, name: Any) -> IAddress:
    """
    Make an address of what the kernel gives for a socket.
    """
    if family == socket.AF_UNIX:
        return UNIXAddress(name or None)
    if family == socket.AF_INET6:
        host, port, flow, scope = name
        if scope:  # link-local: the interface is part of the address
            host = f"{host}%{socket.if_indextoname(scope)}"
        return IPv6Address("TCP", host, port, flow, scope)
    return IPv4Address("TCP", *name)

"""
Lean connections: plain sockets, without what Twisted does for each connection that a
relay does not need.

Twisted reads from an accepted transport at once, although it is then paused (two calls
of epoll_ctl), and gives it two dozen attributes. A waiting client needs none of that,
and the fast relay takes bare sockets; the portable relay gives them a transport when it
begins.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection

from iawlb.relay.resets import ResetWatch
from iawlb.relay.side import SideOwner


class PlainConnection(Connection):
    """
    A transport of a connected socket, which is not read until its protocol asks.
    """

    logstr = "iawlb"
    plain = True
    _registered = False

    def __init__(
        self, handle: socket.SocketType, protocol: Protocol, reactor: Any
    ) -> None:
        """
        @param handle: The socket, already non-blocking.
        """
        # Connection's own __init__ would make it non-blocking once more.
        super(Connection, self).__init__(reactor)
        self.socket = handle  # type: ignore[assignment]  # has all that is used
        self.fileno = handle.fileno
        self.protocol = protocol
        self.connected = 1

    def write(self, data: bytes) -> None:
        """
        Send what the kernel takes at once, and the rest when it takes more. Twisted's
        own waits for the reactor's next turn, for which it asks epoll twice.
        """
        waiting = self._tempDataLen or self.dataBuffer
        if self.connected and not waiting and not self._writeDisconnected:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The kernel reports a reset once, and then an end in order. So have the
                # reactor close the connection, whatever it asks for next: so this one
                # connection gets a method of its own.
                sent = 0
                self.doRead = _wasReset  # type: ignore[method-assign]
            if sent == len(data):
                return
            data = data[sent:]
        super().write(data)

    def startReading(self) -> None:
        """
        Have the reactor read this connection.
        """
        self._registered = True
        super().startReading()

    def stopReading(self) -> None:
        """
        Stop the reactor's reading, if the reactor knows the connection.
        """
        if self._registered:
            super().stopReading()

    def startWriting(self) -> None:
        """
        Have the reactor write what is buffered, as soon as the kernel takes it.
        """
        self._registered = True
        super().startWriting()

    def stopWriting(self) -> None:
        """
        Stop the reactor's writing, if the reactor knows the connection.
        """
        if self._registered:
            super().stopWriting()

    def getPeer(self) -> IAddress:
        """
        Return the address of the other end.
        """
        return addressOf(self.socket.family, self.socket.getpeername())

    def getHost(self) -> IAddress:
        """
        Return the address of this end.
        """
        return addressOf(self.socket.family, self.socket.getsockname())


def _wasReset() -> ConnectionLost:
    """
    Tell the reactor that a connection is lost.
    """
    return CONNECTION_LOST


def resetNow(handle: socket.SocketType) -> None:
    """
    Close a socket with a reset.
    """
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handle.close()


class PlainClient:
    """
    The accepted socket of a client that waits, without a transport.

    @ivar owner: Called when the connection is closed.
    @ivar lost: Whether the socket is closed, or handed over.
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
        Always true: there is no TLS handshake.
        """
        return True

    @property
    def whole(self) -> bool:
        """
        Always false: one half of the connection can be ended.
        """
        return False

    def fileno(self) -> int:
        """
        Return the socket's descriptor.
        """
        return self._handle.fileno()

    @property
    def handle(self) -> socket.SocketType:
        """
        The socket.
        """
        return self._handle

    def local(self) -> IAddress:
        """
        Return the address of this end of the connection.
        """
        return addressOf(self._handle.family, self._handle.getsockname())

    def unwatch(self) -> None:
        """
        Undo L{watch}.
        """
        self._resets.forget(self)

    def watch(self) -> None:
        """
        Detect from now on that the client leaves, although nothing is read.
        """
        if not self.lost:
            self._resets.watch(self, True)

    def handOver(self) -> socket.SocketType:
        """
        Give the socket to another owner, which from now on reads, writes and closes it.
        """
        self.lost = True
        self._resets.forget(self)
        # No reference cycle is left for the garbage collector.
        del self.owner
        return self._handle

    def hungUp(self) -> None:
        """
        Called when the client has reset the connection.
        """
        self.abort()

    def peerLeft(self) -> None:
        """
        Called when the client has ended its half and there is nothing to be read.
        """
        self.close()

    def close(self) -> None:
        """
        Close the socket, and call the owner.
        """
        owner = self.owner
        self.handOver().close()
        owner.sideLost(self, False)

    def drop(self) -> None:
        """
        Reset the socket without calling the owner, even if the socket was handed over.
        """
        if self._handle.fileno() >= 0:
            self._resets.forget(self)
            self.lost = True
            resetNow(self._handle)

    def abort(self) -> None:
        """
        Reset the socket, and call the owner.
        """
        owner = self.owner
        resetNow(self.handOver())
        owner.sideLost(self, True)


def addressOf(family: int, name: Any) -> IAddress:
    """
    Make an address object from the name that the kernel has for a socket.
    """
    if family == socket.AF_UNIX:
        return UNIXAddress(name or None)
    if family == socket.AF_INET6:
        host, port, flow, scope = name
        if scope:  # link-local: the interface is part of the address
            host = f"{host}%{socket.if_indextoname(scope)}"
        return IPv6Address("TCP", host, port, flow, scope)
    return IPv4Address("TCP", *name)

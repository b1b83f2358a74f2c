"""
Lean connections: plain sockets, without what Twisted does for each that a relay
does not need.

An accepted transport of Twisted's is read from at once, only to be paused (two
calls of epoll_ctl); a connecting one has a resolver's Deferred, a connector, a
timer and two further Deferreds. Both cost more Python than relaying a request.
What is made here is still a whole transport, so that any relay can take it.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from os import strerror
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, TimeoutError, getConnectError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.tcp import Connection
from zope.interface import implementer

from iawlb.relay.machine import Machine
from iawlb.relay.side import Side

_RESET = struct.pack("ii", 1, 0)


class PlainConnection(Connection):
    """
    A transport of a connected socket, which is not read until its protocol asks.
    """

    logstr = "iawlb"
    plain = True
    _registered = False

    def __init__(
        self, handle: socket.socket, protocol: Side, reactor: Any, peer: IAddress
    ) -> None:
        """
        @param handle: The socket, which does not block.
        """
        # Connection's own __init__ would make it non-blocking once more.
        super(Connection, self).__init__(reactor)
        self.socket = handle
        self.fileno = handle.fileno
        self.protocol = protocol
        self.connected = 1
        self._peer = peer

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

    def drop(self, reset: bool) -> None:
        """
        Close at once. The protocol is not told, and the kernel sends what it
        holds, or a reset.
        """
        self.connected = 0
        self.disconnected = 1
        handle = self.socket
        if reset:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        handle.close()
        del self.protocol, self.socket, self.fileno

    def getPeer(self) -> IAddress:
        """
        The address of the other end.
        """
        return self._peer

    def getHost(self) -> IAddress:
        """
        The address of this end.
        """
        return addressOf(self.socket.family, self.socket.getsockname())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Send small writes at once; Unix sockets always do.
        """
        if not isinstance(self._peer, UNIXAddress):
            super().setTcpNoDelay(enabled)


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


def _connected(handle: socket.socket) -> bool:
    """
    Say whether a connect that was begun has succeeded already.
    """
    try:
        handle.getpeername()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Target:
    """
    What a plain socket connects to.

    @ivar family: The socket's address family.
    @ivar name: What C{connect} takes.
    @ivar local: What C{bind} takes first, if anything.
    """

    family: int
    name: Any
    local: Any = None

    @cached_property
    def peer(self) -> IAddress:
        """
        The same as an address of Twisted's.
        """
        return addressOf(self.family, self.name)


def targetOf(
    address: IPv4Address | IPv6Address, port: int, local: tuple[str, int] | None
) -> Target:
    """
    Make the target of an IP address.

    @param local: The host and port to connect from, if any.
    """
    if isinstance(address, IPv4Address):
        return Target(socket.AF_INET, (address.host, port), local)
    # Numeric, so nothing is looked up; an interface's name becomes its number.
    info = socket.getaddrinfo(
        address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    return Target(socket.AF_INET6, info[0][4], local)


@implementer(IStreamClientEndpoint)
class PlainEndpoint:
    """
    An endpoint whose target is known, for who can dial; for others it is the
    endpoint that it stands for.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, target: Target) -> None:
        self._endpoint = endpoint
        self.target: Target | None = target

    def dialFailed(self) -> bool:
        """
        Nothing is left to try.
        """
        return False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect the usual way.
        """
        return self._endpoint.connect(protocolFactory)


class Dialing:
    """
    A connect that is under way.
    """

    def __init__(
        self,
        dialer: Dialer,
        handle: socket.socket,
        deadline: float,
        onConnected: Callable[[socket.socket], None],
        onFailed: Callable[[ConnectError], None],
    ) -> None:
        self.deadline = deadline
        self._dialer = dialer
        self._handle = handle
        self._onConnected = onConnected
        self._onFailed = onFailed

    def ready(self, events: int) -> None:
        """
        The kernel has decided.
        """
        error = self._handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.fail(getConnectError((error, strerror(error))))
            return
        self._finish()
        machine, number = self._dialer.machine, self._handle.fileno()
        try:
            self._onConnected(self._handle)
        finally:
            # A relay that the machine serves has made the socket its own.
            machine.removeIf(number, self.ready)

    def fail(self, error: ConnectError) -> None:
        """
        It did not succeed.
        """
        self.cancel()
        self._onFailed(error)

    def cancel(self) -> None:
        """
        Give up, and tell nobody.
        """
        self._finish()
        self._dialer.machine.remove(self._handle.fileno())
        self._handle.close()

    def _finish(self) -> None:
        self._dialer.under.pop(self, None)


class Dialer:
    """
    Connects plain sockets, all with the same time-out: so one timer serves them
    all, in the order in which they began.
    """

    def __init__(self, clock: IReactorTime, machine: Machine, timeout: float) -> None:
        """
        @param timeout: Longest connect, in seconds.
        """
        self.machine = machine
        self._clock = clock
        self._timeout = timeout
        # Oldest first.
        self.under: dict[Dialing, None] = {}
        self._timer: IDelayedCall | None = None

    def dial(
        self,
        target: Target,
        onConnected: Callable[[socket.socket], None],
        onFailed: Callable[[ConnectError], None],
    ) -> Dialing | None:
        """
        Connect.

        @param onConnected: Called with the socket, maybe before this returns.
        @param onFailed: Called with why there is none, maybe before this returns.
        @return: What can be cancelled, or L{None} if it is decided already.
        """
        try:
            handle = socket.socket(
                target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
            )
        except OSError as error:
            onFailed(ConnectError(error.errno, error.strerror))
            return None
        try:
            if target.local is not None:
                handle.bind(target.local)
            code = handle.connect_ex(target.name)
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code == errno.EINPROGRESS and _connected(handle):
            # As is the rule on one machine: no turn of the reactor is needed.
            code = 0
        if not code:
            onConnected(handle)
            return None
        if code != errno.EINPROGRESS:
            handle.close()
            onFailed(getConnectError((code, strerror(code))))
            return None
        dialing = Dialing(
            self,
            handle,
            self._clock.seconds() + self._timeout,
            onConnected,
            onFailed,
        )
        self.machine.add(handle.fileno(), select.EPOLLOUT, dialing.ready)
        self.under[dialing] = None
        self._wait()
        return dialing

    def _wait(self) -> None:
        """
        Wait for the oldest's time to be over.
        """
        if self._timer is None and self.under:
            wait = next(iter(self.under)).deadline - self._clock.seconds()
            self._timer = self._clock.callLater(max(0, wait), self._expire)

    def _expire(self) -> None:
        """
        Fail those whose time is over.
        """
        self._timer = None
        now = self._clock.seconds()
        for dialing in list(self.under):
            if dialing.deadline > now:
                break
            # Those of one destination fail together, with the first of them.
            if dialing in self.under:
                dialing.fail(
                    TimeoutError(string=f"no connection within {self._timeout:g} s")
                )
        # Their sessions may have been dialed for anew meanwhile.
        self._wait()

    def stop(self) -> None:
        """
        Keep no timer.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

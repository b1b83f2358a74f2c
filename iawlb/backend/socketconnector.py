"""
Connect plain sockets, without what Twisted does for each connection that a relay does
not need: a resolver's Deferred, a connector, a timer and two further Deferreds.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from os import strerror
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, TimeoutError, getConnectError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from iawlb.relay.poller import SocketPoller


def _connected(handle: socket.SocketType) -> bool:
    """
    Return whether a connect that was begun has succeeded already.
    """
    try:
        handle.getpeername()
    except OSError:
        return False
    return True


def errorOf(number: int) -> ConnectError:
    """
    Make Twisted's exception for the number of an error.
    """
    error: ConnectError = getConnectError((number, strerror(number)))
    return error


@dataclass(frozen=True)
class Target:
    """
    The address that a plain socket connects to.

    @ivar family: The socket's address family.
    @ivar name: The argument for C{connect}.
    @ivar local: The argument for C{bind}, which is called first; L{None} if it is not.
    """

    family: int
    name: Any
    local: Any = None


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
    An endpoint with a known target that a plain socket can be connected to. Callers
    that need a transport connect by the endpoint that it wraps.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, target: Target) -> None:
        self._endpoint = endpoint
        self.target: Target | None = target

    def plainFailed(self) -> bool:
        """
        Called when a connect to C{target} has failed.

        @return: False: there is no other address to try.
        """
        return False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect by the wrapped endpoint.
        """
        return self._endpoint.connect(protocolFactory)


class PendingConnect:
    """
    A connect of a plain socket that is under way.
    """

    def __init__(
        self,
        connector: SocketConnector,
        handle: socket.SocketType,
        deadline: float,
        onConnected: Callable[[socket.SocketType], None],
        onFailed: Callable[[ConnectError], None],
    ) -> None:
        self.deadline = deadline
        self._connector = connector
        self._handle = handle
        self._onConnected = onConnected
        self._onFailed = onFailed

    def ready(self, events: int) -> None:
        """
        Called when the kernel reports that the connect has succeeded or failed.
        """
        error = self._handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.fail(errorOf(error))
            return
        # Withdrawn before the socket is handed over, as the new owner may close it, or
        # add it to the poller.
        self._connector.poller.withdraw(self._handle.fileno())
        self._finish()
        self._onConnected(self._handle)

    def timeOver(self, why: str) -> None:
        """
        Give up, unless the connect has succeeded and the poller has not reported that
        in time, since the process was stopped for instance.
        """
        if _connected(self._handle):
            self.ready(select.EPOLLOUT)
        else:
            self.fail(TimeoutError(string=why))

    def failed(self) -> None:
        """
        Called when a step has raised. If the exception came from the callback, the
        callback has ended the session already, and nothing is left to do.
        """
        if self in self._connector.pending:
            self.fail(ConnectError(string="the connect has raised"))

    def fail(self, error: ConnectError) -> None:
        """
        Give up, and report the error.
        """
        self.cancel()
        self._onFailed(error)

    def cancel(self) -> None:
        """
        Give up, without calling a callback.
        """
        self._finish()
        self._connector.poller.remove(self._handle.fileno())
        self._handle.close()

    def _finish(self) -> None:
        self._connector.pending.pop(self, None)


def _holdAnswers(handle: socket.SocketType, hold: bool) -> None:
    """
    Have the kernel hold back packets that only acknowledge, or send them at once.
    """
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0 if hold else 1)


class SocketConnector:
    """
    Connects plain sockets, all with the same time-out. So they expire in the order in
    which they began, and one timer serves them all.

    The third packet of TCP's handshake, which is ours, wakes a destination that has
    nothing to read yet. So when the second packet comes at once, the third is held back
    for one round of the poller: by then a client that speaks first has spoken, and the
    client's bytes go with the acknowledgement. This took 13 us off the 106 us that a
    connection cost. If the destination speaks first, this only delays it by the round.
    """

    def __init__(
        self, clock: IReactorTime, poller: SocketPoller, timeout: float
    ) -> None:
        """
        @param timeout: The longest time that a connect may take, in seconds.
        """
        self.poller = poller
        self._clock = clock
        self._timeout = timeout
        # Oldest first.
        self.pending: dict[PendingConnect, None] = {}
        self._timer: IDelayedCall | None = None
        # Sockets whose third packet of the handshake is held back.
        self._held: list[socket.SocketType] = []
        # Sockets whose first bytes are held back.
        self._unsent: list[socket.SocketType] = []

    def __bool__(self) -> bool:
        """
        Whether any connect is under way.
        """
        return bool(self.pending)

    def begin(self, target: Target) -> tuple[socket.SocketType | None, int]:
        """
        Begin to connect.

        @return: The socket, and 0 if it is connected already, else C{EINPROGRESS}; or
            L{None}, and the number of the error.
        """
        try:
            # Python's own socket class adds nothing that is used here, and costs a
            # little.
            handle = socket.SocketType(
                target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
            )
        except OSError as error:
            return None, error.errno or errno.EINVAL
        tcp = target.family != socket.AF_UNIX
        try:
            if tcp:
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _holdAnswers(handle, True)
            if target.local is not None:
                handle.bind(target.local)
            code = handle.connect_ex(target.name)
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code == errno.EINPROGRESS and _connected(handle):
            # This is usual on one machine: no turn of the reactor is needed.
            code = 0
        if code and code != errno.EINPROGRESS:
            handle.close()
            return None, code
        if tcp and code:
            _holdAnswers(handle, False)
        elif tcp:
            self._held.append(handle)
            if len(self._held) == 1:
                self.poller.afterRound(self._release)
        return handle, code

    def _release(self) -> None:
        """
        Send the third packets that are held back, unless they have gone with the first
        bytes.
        """
        held, self._held = self._held, []
        for handle in held:
            if handle.fileno() >= 0:
                _holdAnswers(handle, False)

    def sendFirst(self, handle: socket.SocketType, data: bytes) -> None:
        """
        Send the first bytes of a connection, which are not the client's. Where the
        client speaks first, its bytes go in the same packet: the kernel holds these
        back until the end of the round.

        @raise OSError: They were not sent, or not all.
        """
        if handle.send(data, socket.MSG_MORE) != len(data):
            raise OSError(errno.ENOBUFS, strerror(errno.ENOBUFS))
        if handle.family == socket.AF_UNIX:
            return
        held, unsent = self._held, self._unsent
        if held and held[-1] is handle:
            # The third packet of the handshake goes with them.
            held.pop()
        unsent.append(handle)
        if len(unsent) == 1:
            self.poller.afterRound(self._push)

    def _push(self) -> None:
        """
        Send the first bytes that are held back, unless they have gone with others.
        """
        unsent, self._unsent = self._unsent, []
        for handle in unsent:
            if handle.fileno() >= 0:
                # This has the kernel send what it holds.
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(
        self,
        handle: socket.SocketType,
        onConnected: Callable[[socket.SocketType], None],
        onFailed: Callable[[ConnectError], None],
    ) -> PendingConnect:
        """
        Wait for a connect that is under way.

        @param onConnected: Called with the socket.
        @param onFailed: Called with the error.
        @return: An object that can cancel the connect.
        """
        pending = PendingConnect(
            self,
            handle,
            self._clock.seconds() + self._timeout,
            onConnected,
            onFailed,
        )
        self.poller.add(handle.fileno(), select.EPOLLOUT, pending)
        self.pending[pending] = None
        self._wait()
        return pending

    def _wait(self) -> None:
        """
        Set the timer for the oldest connect.
        """
        if self._timer is None and self.pending:
            wait = next(iter(self.pending)).deadline - self._clock.seconds()
            self._timer = self._clock.callLater(max(0, wait), self._expire)

    def _expire(self) -> None:
        """
        Fail the connects whose time is over.
        """
        self._timer = None
        now = self._clock.seconds()
        for pending in list(self.pending):
            if pending.deadline > now:
                break
            # All connects of a destination end with its first failure, so this one may
            # be gone.
            if pending in self.pending:
                pending.timeOver(f"no connection within {self._timeout:g} s")
        # Their sessions may have begun new connects meanwhile.
        self._wait()

    def stop(self) -> None:
        """
        Stop the timer.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

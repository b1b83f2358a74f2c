"""
Connects plain sockets, without what Twisted does for each that a relay does not
need: a resolver's Deferred, a connector, a timer and two further Deferreds.
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
    Say whether a connect that was begun has succeeded already.
    """
    try:
        handle.getpeername()
    except OSError:
        return False
    return True


def errorOf(number: int) -> ConnectError:
    """
    Make Twisted's exception of an error's number.
    """
    error: ConnectError = getConnectError((number, strerror(number)))
    return error


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
    An endpoint whose target is known, which a plain socket can be connected to;
    whatever else connects uses the endpoint it stands for.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, target: Target) -> None:
        self._endpoint = endpoint
        self.target: Target | None = target

    def plainFailed(self) -> bool:
        """
        Nothing is left to try.
        """
        return False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect the usual way.
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
        The kernel has decided.
        """
        error = self._handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.fail(errorOf(error))
            return
        # Before it is somebody else's, who may close it, or have it served.
        self._connector.poller.withdraw(self._handle.fileno())
        self._finish()
        self._onConnected(self._handle)

    def failed(self) -> None:
        """
        A step has raised. If what follows the connect has, that has ended what the
        connect was for.
        """
        if self in self._connector.pending:
            self.fail(ConnectError(string="the connect has raised"))

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
        self._connector.poller.remove(self._handle.fileno())
        self._handle.close()

    def _finish(self) -> None:
        self._connector.pending.pop(self, None)


def _holdAnswers(handle: socket.SocketType, hold: bool) -> None:
    """
    Have the kernel hold back packets that only answer, or send them at once.
    """
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0 if hold else 1)


class SocketConnector:
    """
    Connects plain sockets, all with the same time-out: so one timer serves them
    all, in the order in which they began.

    The third packet of TCP's handshake, which is ours, wakes a destination that
    has nothing to read yet. So, where the second comes at once, the third is held
    back for one round of the poller: by then a client that speaks first has
    spoken, and its bytes are the answer. This took 13 us off the 106 us that a
    connection cost. One whose destination speaks first waits for the round only.
    """

    def __init__(
        self, clock: IReactorTime, poller: SocketPoller, timeout: float
    ) -> None:
        """
        @param timeout: Longest connect, in seconds.
        """
        self.poller = poller
        self._clock = clock
        self._timeout = timeout
        # Oldest first.
        self.pending: dict[PendingConnect, None] = {}
        self._timer: IDelayedCall | None = None
        # Those whose answer to the destination's is held back.
        self._held: list[socket.SocketType] = []

    def begin(self, target: Target) -> tuple[socket.SocketType | None, int]:
        """
        Begin to connect.

        @return: The socket, and 0 if it is connected already or C{EINPROGRESS};
            or L{None}, and the number of the error.
        """
        try:
            # Python's own class adds nothing that is used, and costs a little.
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
            # As is the rule on one machine: no turn of the reactor is needed.
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
        Have the destinations told that they are connected, unless they were with
        the first bytes.
        """
        held, self._held = self._held, []
        for handle in held:
            if handle.fileno() >= 0:
                _holdAnswers(handle, False)

    def wait(
        self,
        handle: socket.SocketType,
        onConnected: Callable[[socket.SocketType], None],
        onFailed: Callable[[ConnectError], None],
    ) -> PendingConnect:
        """
        Wait for a connect that is under way.

        @param onConnected: Called with the socket.
        @param onFailed: Called with why there is none.
        @return: What can be cancelled.
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
        Wait for the oldest's time to be over.
        """
        if self._timer is None and self.pending:
            wait = next(iter(self.pending)).deadline - self._clock.seconds()
            self._timer = self._clock.callLater(max(0, wait), self._expire)

    def _expire(self) -> None:
        """
        Fail those whose time is over.
        """
        self._timer = None
        now = self._clock.seconds()
        for pending in list(self.pending):
            if pending.deadline > now:
                break
            # Those of one destination fail together, with the first of them.
            if pending in self.pending:
                pending.fail(
                    TimeoutError(string=f"no connection within {self._timeout:g} s")
                )
        # Their sessions may have been connected anew meanwhile.
        self._wait()

    def stop(self) -> None:
        """
        Keep no timer.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

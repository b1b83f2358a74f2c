"""
Accept connections from a listening socket of Twisted's, no more than there is room for.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.backend.checks import LONGEST_PATH
from iawlb.compat import acceptOf, inherit
from iawlb.core.ratelimit import FailureLog, OncePerSecond
from iawlb.frontend.factory import Frontend
from iawlb.frontend.unixpath import claim
from iawlb.relay.plain import addressOf, resetNow
from iawlb.relay.poller import SocketPoller

ACCEPTS_PER_TURN = 8
"""
The number of connections accepted before the reactor gets its turn, so that the
sessions already relayed do not wait for a burst to end.
"""

PAUSE = 0.1
"""
How long nothing is accepted after the machine was short of a descriptor or memory, in
seconds. The kernel's backlog holds the connections meanwhile.
"""

_GONE = frozenset(
    (
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EPERM,
        errno.EPROTO,
    )
)
"""
Errors of accept that concern one connection, not the listening socket (see accept(2)).
"""


@implementer(IReadDescriptor)
class Acceptor:
    """
    Does the accepting for a L{tcp.Port} (or its subclass for Unix sockets).

    The port's own loop accepts a hundred and more connections at a time and cannot be
    stopped meanwhile, and when descriptors run out it accepts the waiting connections
    only to close them.

    @ivar refusing: Whether connections are refused.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        port: tcp.Port,
        name: str,
        room: Callable[[], int],
        readers: IReactorFDSet | SocketPoller,
        admits: Callable[[Any], bool] = lambda address: True,
    ) -> None:
        """
        @param name: The listener's name.
        @param room: Returns how many more connections may be accepted now.
        @param readers: Reports when there are connections to accept.
        @param admits: Returns whether a client may come in, where a wrapper asks not.
        """
        self._admits = admits
        self._reactor = reactor
        self._readers = readers
        self._port = port
        self._room = room
        self.refusing = False
        self._reading = False
        self._held: IDelayedCall | None = None
        self._error = 0
        self._shortages = OncePerSecond(
            reactor,
            lambda number: self.log.warn(
                "{listener} cannot accept: {error}; connections wait in the "
                "kernel's backlog ({number} times)",
                listener=name,
                error=errno.errorcode[self._error],
                number=number,
            ),
        )
        self._failures = FailureLog(reactor, f"accepting from {name}")
        # A Unix socket that was renamed into place does not know its path.
        self._path = port.socket.getsockname()
        self._claim: socket.socket | None = None
        self._mode = 0o777
        self._group = -1
        port.stopReading()
        if port.addressFamily != socket.AF_UNIX:
            # The sockets that it accepts inherit this.
            port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """
        Return the listening socket's descriptor.
        """
        number: int = self._port.fileno()
        return number

    def logPrefix(self) -> str:
        """
        Name the acceptor in Twisted's own log lines.
        """
        return "iawlb"

    def resume(self) -> None:
        """
        Begin to accept, from the reactor's next turn on.
        """
        if not self._reading and self._held is None:
            self._reading = True
            self._readers.addReader(self)

    def pause(self) -> None:
        """
        Stop accepting, and leave connections in the kernel's backlog.
        """
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if self._reading:
            self._reading = False
            self._readers.removeReader(self)

    def doRead(self) -> None:
        """
        Accept some connections, as room allows; when there is no room left, pause until
        L{resume}.
        """
        try:
            self.accept(ACCEPTS_PER_TURN)
            if self._room() <= 0:
                self.pause()
        except Exception:
            self._failures.add()
            self._holdOff()

    def accept(self, most: int) -> None:
        """
        Accept what waits in the backlog, as room allows.

        @param most: The largest number of connections to accept.
        """
        accept = acceptOf(self._port.socket)
        for _ in range(min(most, self._room())):
            if self.refusing:
                return  # the connection before this one found no destination up
            try:
                number, peer = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue  # this client has left already
                self._hold(error.errno or errno.EINVAL)
                return
            family = self._port.addressFamily
            self._serve(socket.SocketType(family, socket.SOCK_STREAM, 0, number), peer)

    def _serve(self, accepted: socket.SocketType, peer: Any) -> None:
        """
        Do what the port's own loop does with an accepted socket.
        """
        port = self._port
        factory: Any = port.factory
        try:
            address = addressOf(port.addressFamily, peer)
            if isinstance(factory, Frontend):
                # No wrapper, such as TLS, needs the port's own kind of transport.
                accepted.setblocking(False)
                factory.accepted(accepted, address)
                return
            if not self._admits(address):
                return resetNow(accepted)
            protocol = factory.buildProtocol(address)
        except Exception:
            # A factory that an endpoint has wrapped around ours may raise.
            self._failures.add()
            protocol = None
        if protocol is None:
            accepted.close()
            return
        port.sessionno += 1
        transport = port.transport(
            socket.socket(fileno=accepted.detach()),
            protocol,
            peer,
            port,
            port.sessionno,
            self._reactor,
        )
        try:
            protocol.makeConnection(transport)
        except Exception:
            self._failures.add()
            transport.abortConnection()

    def _hold(self, error: int) -> None:
        self._error = error
        self._shortages.add()
        self._holdOff()

    def _holdOff(self) -> None:
        """
        Stop accepting for a moment.
        """
        if self._reading:
            self.pause()
            self._held = self._reactor.callLater(PAUSE, self._release)

    def _release(self) -> None:
        self._held = None
        self.resume()

    def connectionLost(self, reason: Failure) -> None:
        """
        Called when the reactor finds the listening socket broken, or stops.
        """
        self._reading = False

    def stop(self) -> None:
        """
        Accept what the backlog holds, since those clients are connected already, and
        then stop.
        """
        if self._reading:
            self.accept(self._room())
        self.pause()
        self._shortages.stop()
        self._failures.stop()

    def takeOver(self, other: Acceptor) -> bytes | None:
        """
        Take the place of another acceptor, whose socket this one shares: the other
        accepts no more, also not from the backlog.

        @return: The path of a Unix socket.
        """
        other.pause()
        path = inherit(self._port, other._port)
        self.refusing = other.refusing
        self._path = other._path
        self._mode, self._group = other._mode, other._group
        self._claim, other._claim = other._claim, None
        return path

    @property
    def canRefuse(self) -> bool:
        """
        Whether L{refuse} can be undone: not for a Unix socket with an abstract name, as
        the process that has made it, such as systemd, keeps the name.
        """
        return not isinstance(self._path, bytes)

    def refuse(self) -> None:
        """
        Refuse connections, and keep the address. What the backlog holds is accepted
        first.

        On Linux a listening socket that is shut down refuses, and stays bound.
        """
        self.accept(self._room())
        self.pause()
        if self._port.addressFamily == socket.AF_UNIX:
            # Without a claim, the socket only looks like one that a killed process left
            # behind.
            with suppress(OSError, ValueError):
                self._noteOwner()
                self._claim = claim(self._path)
        listening = self._port.socket
        address = listening.getsockname()
        # Otherwise another process could bind it, since no socket listens there.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        listening.shutdown(socket.SHUT_RD)
        if self._port.addressFamily != socket.AF_UNIX:
            # At the first shutdown the kernel has released a port number that it had
            # chosen itself, so bind it again. Any other port is still bound, and so is
            # this one the next time.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                listening.bind(address)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self.refusing = True

    def shareAddress(self) -> None:
        """
        Let another socket bind the address, while connections are refused.
        """
        self._port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def listenAgain(self) -> None:
        """
        Undo L{refuse}; L{resume} then accepts.

        @raise OSError: Listening is not possible now.
        """
        port = self._port
        if port.addressFamily == socket.AF_UNIX:
            self._renew()
            self.release()
        else:
            # Otherwise the connections that live would keep the socket from listening.
            port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port.socket.listen(self._backlog())
        self.refusing = False

    def _backlog(self) -> int:
        """
        Return the length of the kernel's backlog. A port that was handed to us does not
        say.
        """
        return self._port.backlog or socket.SOMAXCONN

    def release(self) -> None:
        """
        Give up the claim on a Unix socket that refuses, if there is one. Call this only
        when its path is gone, or another socket listens there.
        """
        claimed, self._claim = self._claim, None
        if claimed is not None:
            claimed.close()

    def _noteOwner(self) -> None:
        """
        Remember the mode and the group of the Unix socket.
        """
        found = os.stat(self._path)
        self._mode = stat.S_IMODE(found.st_mode)
        self._group = found.st_gid

    def _renew(self) -> None:
        """
        Replace a Unix socket that was shut down, since it cannot listen again. The new
        socket takes over the path by a rename, so the path always exists; only where
        there is no room for a longer name, the path is missing for a moment.
        """
        port = self._port
        path = self._path
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        fresh.setblocking(False)
        temporary = f"{path}.{os.getpid()}"
        try:
            # Somebody may have removed it meanwhile.
            with suppress(FileNotFoundError):
                self._noteOwner()
            if len(os.fsencode(temporary)) > LONGEST_PATH:
                temporary = path
                with suppress(FileNotFoundError):
                    os.unlink(path)
            fresh.bind(temporary)
            try:
                os.chown(temporary, -1, self._group)
            except PermissionError:
                # The process has dropped its privileges since it listened first.
                self.log.warn(
                    "{path} cannot be given to the group {group} again",
                    path=path,
                    group=self._group,
                )
            os.chmod(temporary, self._mode)
            fresh.listen(self._backlog())
            os.rename(temporary, path)
        except OSError:
            fresh.close()
            with suppress(OSError):
                os.unlink(temporary)
            raise
        port.socket.close()
        port.socket = fresh
        port.fileno = fresh.fileno  # type: ignore[method-assign]  # Port does this too

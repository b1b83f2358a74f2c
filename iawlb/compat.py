"""
All uses of Twisted and Python that have no public name, each with a fallback for when
the name is missing. A test notices when one of these names changes.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from twisted.internet import endpoints, tcp, unix
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.logfile import BaseLogFile

Iterate = Callable[[float | None], None]


def epollOf(reactor: Any) -> select.epoll | None:
    """
    Return the epoll object of Twisted's reactor for Linux.

    @return: L{None} for other reactors, or if Twisted has renamed the attribute;
        the socket poller then is one reader of the reactor.
    """
    poller = getattr(reactor, "_poller", None)
    return poller if isinstance(poller, select.epoll) else None


def replaceIteration(reactor: Any, iterate: Iterate) -> Iterate | None:
    """
    Make a reactor's main loop call another function for each of its iterations.
    C{doIteration} is a method that reactors document for their subclasses; replacing it
    by an attribute of one reactor is not documented.

    @return: The reactor's own function, or L{None} if it has been replaced already;
        then nothing is changed.
    """
    if "doIteration" in vars(reactor):
        return None
    own: Iterate = reactor.doIteration
    reactor.doIteration = iterate
    return own


def restoreIteration(reactor: Any) -> None:
    """
    Undo L{replaceIteration}.
    """
    del reactor.doIteration


def isStopping(reactor: Any) -> bool:
    """
    Return whether a reactor was told to stop, and its main loop has not acted on that
    yet.

    @return: False too if Twisted has renamed the attribute. Then a reactor that is
        stopped while a socket is served may stop only at its next event or timer.
    """
    return bool(getattr(reactor, "_justStopped", False))


def acceptOf(listening: socket.socket) -> Callable[[], tuple[int, Any]]:
    """
    Return a function that accepts a connection and returns its descriptor and the
    peer's address. The C{accept} of Python's own class adds half of the kernel's time
    to that, for nothing that is used here.
    """
    accept: Callable[[], tuple[int, Any]] | None = getattr(listening, "_accept", None)
    if accept is not None:
        return accept

    def acceptAndDetach() -> tuple[int, Any]:
        handle, peer = listening.accept()
        return handle.detach(), peer

    return acceptAndDetach


_NO_PATH = b"\0"
"""
What a port of a Unix socket takes for an abstract name, which it does not remove.
"""


def sharedPort(
    reactor: Any, of: tcp.Port, factory: IProtocolFactory, backlog: int, mode: int
) -> tcp.Port:
    """
    Make another port that listens with the same socket of the kernel. When it is
    closed, the socket goes on listening: see L{inherit}.

    @param backlog: The length of the kernel's backlog from now on.
    @param mode: The permissions of the path, for a Unix socket.
    @raise AttributeError: Twisted has renamed what this needs.
    """
    handle = of.fileno()
    port: Any
    if of.addressFamily == socket.AF_UNIX:
        port = unix.Port._fromListeningDescriptor(reactor, handle, factory)
        port.mode = mode
        port.backlog = backlog
        port._bindPath = _NO_PATH
        port.startListening()
    else:
        port = tcp.Port._fromListeningDescriptor(
            reactor, handle, of.addressFamily, factory
        )
        port.startListening()
        port.backlog = backlog
        # A socket that refuses for the moment must not listen.
        if port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            port.socket.listen(backlog)
    port._shouldShutdown = False
    return cast(tcp.Port, port)


def inherit(heir: tcp.Port, of: tcp.Port) -> bytes | None:
    """
    Let a port that L{sharedPort} has made be the owner of the socket: when the other
    port is closed, the socket goes on listening, and its path is not removed. The path
    gets the permissions that the heir was made with, if they are others.

    @return: The path of a Unix socket.
    """
    old: Any = of
    new: Any = heir
    old._shouldShutdown = False
    if of.addressFamily != socket.AF_UNIX:
        return None
    path: bytes = old._bindPath
    new._bindPath, old._bindPath = path, _NO_PATH
    new.lockFile, old.lockFile = old.lockFile, None
    if path[:1] == _NO_PATH:
        return None
    if new.mode != old.mode:
        with suppress(FileNotFoundError):  # somebody has removed it
            os.chmod(path, new.mode)
    return path


def unwritten(transport: Any) -> int:
    """
    Count the bytes that a transport of Twisted's has not given to the kernel.

    @return: 0 for a transport that does not say.
    """
    waiting: int = (
        len(getattr(transport, "dataBuffer", b""))
        - getattr(transport, "offset", 0)
        + getattr(transport, "_tempDataLen", 0)
    )
    return waiting


def positionOf(file: BaseLogFile) -> int | None:
    """
    Return the position in a log file of Twisted's, whose C{write} does not say when a
    full disk has taken only a part.

    @return: L{None} if Twisted has renamed the attribute; then a part counts as all.
    """
    opened = getattr(file, "_file", None)
    return None if opened is None else int(opened.tell())


def wrappedProtocol(protocol: object) -> object:
    """
    Return the protocol within the wrapper that client endpoints put around it.

    @return: L{None} if C{protocol} is no such wrapper. If Twisted has renamed the
        attribute, half-closes of destinations behind an endpoint are not passed on.
    """
    return getattr(protocol, "_wrappedProtocol", None)


def statusPipe(launcher: Mapping[str, Any]) -> int | None:
    """
    Return the pipe by which a daemon reports to C{twistd} whether it could start.

    @param launcher: The options of C{twistd} or C{twist}.
    @return: L{None} if this is no daemon. If Twisted has renamed the entry, C{twistd}
        waits until a daemon that cannot start has ended, and does not say why it could
        not.
    """
    return launcher.get("statusPipe")


def inheritedDescriptors() -> list[tuple[str, int]]:
    """
    Return the name and the descriptor of each socket that systemd has handed to this
    process. Twisted has read, and removed, what the environment says of them.

    @return: None of them if Twisted has renamed an attribute.
    """
    parser = getattr(endpoints, "_SystemdParser", None)
    found = getattr(parser, "_sddaemon", None)
    names = getattr(found, "_names", ())
    return list(zip(names, getattr(found, "_descriptors", ()), strict=False))


def leaveToOthers(port: Any) -> None:
    """
    Make a listening port of Twisted's leave its socket to the other processes that hold
    it: when the port is closed, the socket is not shut down, and the path of a Unix
    socket is not removed. If Twisted has renamed an attribute, they are.
    """
    port._shouldShutdown = False
    if hasattr(port, "_bindPath"):
        # Twisted takes this for an abstract name, and would write it to the log.
        port._bindPath = b"\0"
        port._logConnectionLostMsg = lambda: None


def forgetMissingPath(port: Any) -> None:
    """
    Let a listening port of Twisted's close although somebody has removed the path of
    its Unix socket: otherwise it fails to remove the path, and leaves the socket open.
    """
    path = getattr(port, "_bindPath", None)
    if path and path[:1] != _NO_PATH and not os.path.lexists(path):
        leaveToOthers(port)


def closeForAll(port: Any) -> None:
    """
    Make a port of Twisted's that was made of an existing socket shut the socket down
    when it is closed, so that it does not go on to listen for other processes that hold
    it too. If Twisted has renamed the attribute, it does until they close it.
    """
    port._shouldShutdown = True


def setGroups(context: Any, choices: Sequence[str]) -> None:
    """
    Set the groups of the key exchange of a context of pyOpenSSL's, which has no method
    for this.

    @param choices: Lists of groups, as OpenSSL writes them. The first that OpenSSL
        knows is used; if it knows none, or pyOpenSSL has renamed what is used here, the
        groups are OpenSSL's own, which are more.
    """
    from OpenSSL import SSL

    library: Any = getattr(SSL, "_lib", None)
    set_ = getattr(library, "SSL_CTX_set1_curves_list", None)
    pointer = getattr(context, "_context", None)
    if set_ is None or pointer is None:
        return
    for each in choices:
        if set_(pointer, each.encode()) == 1:
            return
        library.ERR_clear_error()

"""
Listening sockets that the service manager, systemd, holds for this process: those of
its socket units, and those that an earlier process of the balancer gave it to keep.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from iawlb.backend.strings import BACKLOG_PLACES, Words
from iawlb.compat import closeForAll, inheritedDescriptors, leaveToOthers
from iawlb.errors import InvalidSetting

PREFIX = "iawlb-"
"""
How the names of the sockets begin that the balancer gave to systemd to keep.
"""

Where = tuple[int, str, int, bool]
"""
Where a socket listens: the address family, the host or path, the port, and whether a
socket of all IPv6 addresses takes no IPv4 clients.
"""


def whereOf(listening: socket.socket) -> Where:
    """
    Return where a socket listens.
    """
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return listening.family, os.fsdecode(name), 0, False
    # Any other IPv6 address has the option by itself.
    alone = name[0] == "::" and bool(
        listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )
    return listening.family, name[0], name[1], alone


def storedName(where: Where) -> str:
    """
    Return the name under which systemd keeps a socket: readable, of the characters that
    systemd takes, and another for each place.
    """
    family, host, port, alone = where
    text = re.sub(r"[^\w.\[\]/-]", "_", f"{host}_{port}" if port else host, flags=re.A)
    digest = hashlib.sha256(repr((int(family), host, port, alone)).encode())
    return f"{PREFIX}{text[:100]}-{digest.hexdigest()[:8]}"


class HeldSockets:
    """
    The listening sockets that this process has inherited, each with its name.
    """

    log = Logger()

    def __init__(self, inherited: Iterable[tuple[str, int]]) -> None:
        """
        @param inherited: The name and the descriptor of each.
        """
        self._all: list[tuple[str, int]] = []
        self._stored: dict[Where, tuple[str, int]] = {}
        self._useless: list[str] = []
        for name, descriptor in inherited:
            # Programs that this process starts do not get it.
            with suppress(OSError):
                os.set_inheritable(descriptor, False)
            if name.startswith(PREFIX):
                self._add(name, descriptor)
            else:
                self._all.append((name, descriptor))

    def _add(self, name: str, descriptor: int) -> None:
        """
        Add a socket that an earlier process gave to systemd.
        """
        try:
            with socket.socket(fileno=os.dup(descriptor)) as found:
                where = whereOf(found)
                if isReachable(found) and where not in self._stored:
                    self._stored[where] = (name, descriptor)
                    return
        except OSError:
            pass  # no socket, or one that does not listen
        self._useless.append(name)
        with suppress(OSError):
            os.close(descriptor)

    def find(self, name: str | None, index: str | None) -> int:
        """
        Return the descriptor of a socket unit's socket, by its name or its place among
        the inherited ones.

        @raise InvalidSetting: There is none, or several have that name.
        """
        if index is not None:
            if index.isdecimal() and int(index) < len(self._all):
                return self._all[int(index)][1]
            raise InvalidSetting(
                f"systemd has handed over {len(self._all)} sockets, counted from 0"
            )
        found = [descriptor for each, descriptor in self._all if each == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidSetting(
                f"systemd has handed over {len(found)} sockets named {name!r}: give "
                "each a socket unit with a FileDescriptorName of its own"
            )
        names = ", ".join(dict.fromkeys(each for each, _ in self._all)) or "none"
        raise InvalidSetting(
            f"systemd has handed over no socket named {name!r}; there is {names}"
        )

    def has(self, where: Where | None) -> bool:
        """
        Return whether an earlier process left a socket at a place.
        """
        return where in self._stored

    def take(self, where: Where) -> int | None:
        """
        Return the descriptor of a socket that an earlier process left, which is the
        caller's from now on.
        """
        found = self._stored.pop(where, None)
        return None if found is None else found[1]

    def release(self) -> list[str]:
        """
        Close the sockets that nobody has taken.

        @return: Their names, for systemd to forget them too.
        """
        names, self._useless = self._useless, []
        for name, descriptor in self._stored.values():
            names.append(name)
            os.close(descriptor)
        self._stored.clear()
        return names


def isReachable(listening: socket.socket) -> bool:
    """
    Return whether clients can reach a socket, or can again once it listens: not if it
    is a Unix socket whose path is gone, or that was shut down.
    """
    if listening.family != socket.AF_UNIX:
        return True
    asking = select.poll()
    asking.register(listening, select.POLLRDHUP)
    if asking.poll(0):
        return False
    return os.path.exists(listening.getsockname())


HELD = HeldSockets(inheritedDescriptors())
"""
The sockets that this process has inherited.
"""


@implementer(IStreamServerEndpoint)
class HeldEndpoint:
    """
    An endpoint that listens with a socket that was held for this process.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        take: Callable[[], int | None],
        backlog: int | None = None,
        mode: int | None = None,
        otherwise: IStreamServerEndpoint | None = None,
    ) -> None:
        """
        @param take: Returns the descriptor, which is closed after; L{None} if it is
            gone.
        @param backlog: The length of the kernel's backlog, if it is to be changed.
        @param mode: The mode of a Unix socket, if it is to be changed.
        @param otherwise: Listens if this cannot.
        """
        self._reactor = reactor
        self._take = take
        self._backlog = backlog
        self._mode = mode
        self._otherwise = otherwise

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen, as L{IStreamServerEndpoint.listen}.
        """
        descriptor = self._take()
        if descriptor is not None:
            try:
                with socket.socket(fileno=descriptor) as found:
                    return succeed(self._adopt(found, protocolFactory))
            except OSError as error:
                if self._otherwise is None:
                    return fail(CannotListenError(None, "systemd", error))
                self.log.warn(
                    "cannot listen with the socket that systemd kept: {why}",
                    why=error.strerror or error,
                )
        assert self._otherwise is not None
        listening: Deferred[IListeningPort] = self._otherwise.listen(protocolFactory)
        return listening

    def _adopt(self, found: socket.socket, factory: IProtocolFactory) -> IListeningPort:
        found.setblocking(False)
        backlog, mode = self._backlog, self._mode
        path = found.getsockname()
        if found.family != socket.AF_UNIX:
            if backlog is not None:
                # Otherwise connections that live would keep a socket from listening
                # that refused before.
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                found.listen(backlog)
        elif mode is None and isinstance(path, str):
            mode = stat.S_IMODE(os.stat(path).st_mode)
        # The reactor makes a descriptor of its own.
        port = self._reactor.adoptStreamPort(found.fileno(), found.family, factory)
        if found.family == socket.AF_UNIX:
            # Twisted has set the mode and the backlog to its defaults.
            if mode is not None:
                os.chmod(path, mode)
            backlog = socket.SOMAXCONN if backlog is None else backlog
            found.listen(backlog)
        port.backlog = backlog
        if self._otherwise is None:
            leaveToOthers(port)
        else:
            closeForAll(port)
        adopted: IListeningPort = port
        return adopted


def unitEndpoint(reactor: Any, words: Words) -> IStreamServerEndpoint:
    """
    Make the endpoint of a socket unit's socket: C{systemd:NAME}, and Twisted's
    C{systemd:domain=INET:name=NAME} and C{systemd:domain=INET:index=0}. The domain is
    that of the socket, whatever is given.

    @raise InvalidSetting: There is no such socket.
    """
    name, index = words.get("name", 2), words.get("index", 1)
    if len(words.args) == 1 and not words.named:
        name = words.args[0]
    unknown = set(words.named) - {"domain", "name", "index"}
    if unknown or bool(name) == bool(index):
        raise InvalidSetting("write systemd:NAME, with the name of its socket unit")
    descriptor = HELD.find(name, index)
    return HeldEndpoint(reactor, lambda: os.dup(descriptor))


def isStored(where: Where) -> bool:
    """
    Return whether an earlier process left a socket at a place.
    """
    return HELD.has(where)


def storedEndpoint(
    reactor: Any, where: Where | None, words: Words, plain: IStreamServerEndpoint
) -> IStreamServerEndpoint:
    """
    Return an endpoint that listens with the socket that an earlier process left at a
    place, or the given endpoint if there is none.

    @param words: The address, with the backlog and the mode.
    """
    if where is None or not HELD.has(where):
        return plain
    held = HELD
    family, place = where[0], BACKLOG_PLACES[words.kind]
    backlog = int(words.get("backlog", place) or socket.SOMAXCONN)
    mode = None
    if family == socket.AF_UNIX:
        mode = int(words.get("mode", 1) or "666", 8)
    return HeldEndpoint(reactor, lambda: held.take(where), backlog, mode, plain)


def whereUnix(path: str) -> Where:
    """
    Return the place of a Unix socket.
    """
    return socket.AF_UNIX, path, 0, False


def whereTcp(host: str, port: str, alone: bool) -> Where | None:
    """
    Return the place of a TCP listener, if its address says so.

    @param alone: Whether an IPv6 listener takes no IPv4 clients.
    """
    try:
        address = ip_address(host or "0.0.0.0")
    except ValueError:
        return None  # a name
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return family, str(address), int(port), alone and str(address) == "::"

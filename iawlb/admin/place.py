"""
Where the admin server listens: addresses, the usual place, and its sockets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep

from iawlb.adminplace import AdminAddress, readAdminAddress
from iawlb.errors import CannotListen, InvalidSetting
from iawlb.frontend.unixpath import clearStale

LONGEST_PATH = 107
"""
The longest path of a Unix socket on Linux, in bytes.
"""

VANISHED = 60_000
"""
How long what was sent to a client may stay unconfirmed before the connection ends, in
milliseconds.
"""

LOCK_TIME = 2.0
"""
The longest wait for another process that opens its socket in the same folder, in
seconds.
"""

_BACKLOG = 1024  # a Unix socket whose backlog is full refuses clients that do not wait


@dataclass(frozen=True, slots=True)
class Place:
    """
    An address to listen on.

    @ivar setting: The name of the setting that gives the address, for messages.
    @ivar address: The path of a Unix socket, or a host and a port.
    @ivar usual: Whether this is the usual place, whose folder is made if need be.
    """

    setting: str
    address: AdminAddress
    usual: bool = False

    def __str__(self) -> str:
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def host(self) -> str | None:
        """
        The host, or L{None} for a Unix socket.
        """
        return None if isinstance(self.address, str) else self.address[0]


def readPlace(setting: str, text: str, usual: bool = False) -> Place:
    """
    Read an address.

    @raise InvalidSetting: It is none.
    """
    try:
        address = readAdminAddress(text)
    except InvalidSetting as error:
        raise InvalidSetting(f"{setting}: {error}") from None
    if isinstance(address, str) and len(os.fsencode(address)) > LONGEST_PATH:
        raise InvalidSetting(
            f"{setting}: {address!r} is longer than {LONGEST_PATH} bytes, "
            "the most for a socket"
        )
    return Place(setting, address, usual)


def openPlace(place: Place) -> socket.socket:
    """
    Listen at a place.

    @raise CannotListen: That is not possible.
    """
    try:
        if isinstance(place.address, str):
            return _openPath(place.address, place.usual)
        return _openPort(*place.address)
    except CannotListen as error:
        raise CannotListen(f"{place.setting}: {error}{_advice(place)}") from None
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "it is in use"
        raise CannotListen(
            f"{place.setting}: cannot listen on {place}: {why}{_advice(place)}"
        ) from None


def _advice(place: Place) -> str:
    """
    Return what to do about a place that the user has not named.
    """
    if not place.usual:
        return ""
    return "; give another address with --admin, or --admin= for no admin server"


def _openPort(host: str, port: int) -> socket.socket:
    (family, _, _, _, address), *_ = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these: a client that has vanished is noticed.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        userTimeout = getattr(socket, "TCP_USER_TIMEOUT", None)
        if userTimeout is not None:
            listening.setsockopt(socket.IPPROTO_TCP, userTimeout, VANISHED)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _openPath(path: str, usual: bool) -> socket.socket:
    """
    Listen on a Unix socket that only this user and root can connect to.

    The folder is locked meanwhile, so that of two processes that find the same stale
    socket the second one finds the first one's in its place.
    """
    folder = os.path.dirname(path)
    if usual:
        os.makedirs(folder, 0o700, exist_ok=True)
        found = os.stat(folder)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise CannotListen(
                f"{folder} belongs to another user, or others may write there"
            )
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _takeLock(lock)
        clearStale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The file is made with its mode: there is no moment in which others could
        # connect.
        before = os.umask(0o177)
        try:
            listening.bind(path)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(before)
        return listening
    finally:
        os.close(lock)


def _takeLock(folder: int) -> None:
    """
    Lock a folder. Balancers that start at the same time, each with a socket of its own
    in the same folder, do so one after the other.

    @raise CannotListen: Another process does not give it back.
    """
    end = monotonic() + LOCK_TIME
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if monotonic() >= end:
                raise CannotListen("another process has locked the folder") from None
        sleep(0.01)


def fileNumber(path: str) -> int:
    """
    Return the number of a socket's file.
    """
    return os.stat(path).st_ino


def removePath(path: str, number: int) -> None:
    """
    Remove a socket's file, unless another process has put its own there.

    @param number: The number of the file, from L{fileNumber}.
    """
    with suppress(OSError):
        if fileNumber(path) == number:
            os.unlink(path)

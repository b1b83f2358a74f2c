"""
Whose a Unix socket is, under its path.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from iawlb.errors import CannotListen


def claim(path: str | bytes) -> socket.socket:
    """
    Claim the Unix socket at a path, which refuses connections while no destination
    is up and so looks like one that a killed process left behind. The claim is a
    socket bound to an abstract name made of the file's number: it leaves no file,
    and the kernel drops it with the process, however that ends.

    @return: The claim, until it is closed.
    @raise OSError: Another process has claimed it (EADDRINUSE), or there is no such
        path, or no abstract name.
    """
    found = os.stat(path)
    claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claimed.bind(f"\0iawlb-{found.st_dev}-{found.st_ino}")
    except OSError:
        claimed.close()
        raise
    return claimed


def _isClaimed(path: str) -> bool:
    """
    Say whether another process has claimed the socket at a path.
    """
    try:
        claim(path).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def clearStale(path: str) -> None:
    """
    Remove a Unix socket that a killed process left behind: only if it is a
    socket, and nobody answers on it or has claimed it.

    @raise CannotListen: Something else has that path.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # binding will say what is wrong, if anything is
    if not stat.S_ISSOCK(mode):
        raise CannotListen(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            if not _isClaimed(path):
                os.unlink(path)
                return
        except OSError:
            pass  # someone is there, and busy
    raise CannotListen(f"{path} is in use by another process")

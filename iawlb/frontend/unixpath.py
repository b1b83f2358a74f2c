"""
Find out whether the Unix socket at a path is in use or stale.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from iawlb.errors import CannotListen


def claim(path: str | bytes) -> socket.socket:
    """
    Claim the Unix socket at a path. A socket that refuses connections while no
    destination is up looks like one that a killed process left behind; the claim shows
    other processes that it is in use. The claim is a socket bound to an abstract name
    made of the file's number: it leaves no file, and the kernel drops it when the
    process ends, however that happens.

    @return: The claim, which lasts until it is closed.
    @raise OSError: Another process has claimed the socket (EADDRINUSE), or there is no
        such path, or the system has no abstract names.
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
    Return whether another process has claimed the socket at a path.
    """
    try:
        claim(path).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def clearStale(path: str) -> None:
    """
    Remove a Unix socket that a killed process left behind: only if it is a socket, no
    process answers on it, and none has claimed it.

    @raise CannotListen: Something else is at that path.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # binding reports what is wrong, if anything is
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
            pass  # another process listens there, and is busy
    raise CannotListen(f"{path} is in use by another process")

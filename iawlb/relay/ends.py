"""
Whether what a reactor reports as the end of a connection's bytes is one.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure


def isEnd(transport: Any) -> bool:
    """
    Ask the kernel: Twisted's reactors also report an end for a reset, or with bytes
    left to read, when a transport that was only written to is read again just as the
    kernel reports a hangup.

    @return: Whether it is one. If not, the transport reads on, or is closed as reset.
    """
    handle = getattr(transport, "socket", None)
    if isinstance(handle, socket.socket):
        try:
            left = handle.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            left = b""
        except OSError:
            transport.connectionLost(Failure(ConnectionLost()))
            return False
        if left:
            transport.startReading()
            return False
    return True

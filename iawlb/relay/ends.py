"""
Check with the kernel whether a reported end of bytes is one.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure


def isEnd(transport: Any) -> bool:
    """
    Return whether the peer of a transport has really ended its bytes, by asking the
    kernel.

    Twisted's reactors also report an end for a reset, and for a connection with bytes
    left to read: when a transport that was only written to is read again just as the
    kernel reports a hangup.

    @return: Whether it is an end. If not, the transport goes on reading, or is closed
        as reset.
    """
    handle = getattr(transport, "socket", None)
    if isinstance(handle, socket.SocketType):
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

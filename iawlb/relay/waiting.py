"""
Find out whether a client still waits for an answer when its destination ends.
"""

from __future__ import annotations

import os
import select
import socket
import sys

LEAST_WAIT = 0.05
"""
How long ago, in seconds, a client's last bytes must have come to count as a question
that still waits for its answer. A farewell that needs no answer (C{QUIT}, a terminate
message, the answer to a close frame) is followed by the destination's end at once,
often before the client's own.
"""

# Without this flag, as on macOS, an end that is still to be read is not seen.
_ENDED = getattr(select, "POLLRDHUP", 0)

# Bytes of the kernel's struct tcp_info up to and including tcpi_last_data_recv.
_INFO_SIZE = 56
_LAST_RECEIVED = slice(52, 56)


def isWaiting(number: int, answered: bool) -> bool:
    """
    Return whether a client, from which the last bytes came, waits for an answer.

    @param number: The client's descriptor, or -1.
    @param answered: Whether the client has had an answer before. If it has had none at
        all, it counts as waiting however short the wait was.
    """
    if number >= 0 and _hasEnded(number):
        return False
    return not answered or _quietFor(number) >= LEAST_WAIT


def _hasEnded(number: int) -> bool:
    """
    Return whether the peer has ended its half or is gone, even if the end is still to
    be read.
    """
    poll = select.poll()
    poll.register(number, _ENDED)
    return bool(poll.poll(0))


def _quietFor(number: int) -> float:
    """
    Ask the kernel how many seconds ago it received the last bytes from a peer. It only
    knows this for TCP; for other sockets this is 0.
    """
    try:
        with socket.socket(fileno=os.dup(number)) as handle:
            info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except (AttributeError, OSError):
        return 0.0
    return int.from_bytes(info[_LAST_RECEIVED], sys.byteorder) / 1000

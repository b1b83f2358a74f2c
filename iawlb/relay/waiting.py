"""
Whether a client still waits for an answer when its destination ends.
"""

from __future__ import annotations

import os
import select
import socket
import sys

LEAST_WAIT = 0.05
"""
How long a question has stood, in seconds, when it is taken for one. A last word to
which no answer belongs (C{QUIT}, a terminate message, the answer to a close frame)
is followed by the destination's end at once, often before the client's own.
"""

# Without it, as on macOS, an end that is still to be read is not seen.
_ENDED = getattr(select, "POLLRDHUP", 0)

# Bytes of the kernel's struct tcp_info up to and with tcpi_last_data_recv.
_INFO_SIZE = 56
_LAST_RECEIVED = slice(52, 56)


def isWaiting(number: int, answered: bool) -> bool:
    """
    Say whether the client, whose bytes came last, waits for an answer.

    @param number: Its descriptor, or -1.
    @param answered: Whether it has had an answer before. If it has had none at
        all, it need not have waited long.
    """
    if number >= 0 and _hasEnded(number):
        return False
    return not answered or _quietFor(number) >= LEAST_WAIT


def _hasEnded(number: int) -> bool:
    """
    Say whether the peer has ended its half or is gone, which may be still to be
    read.
    """
    poll = select.poll()
    poll.register(number, _ENDED)
    return bool(poll.poll(0))


def _quietFor(number: int) -> float:
    """
    Ask the kernel how long ago it had the last bytes from a peer, in seconds; of
    sockets that are not TCP it does not know, and this is 0.
    """
    try:
        with socket.socket(fileno=os.dup(number)) as handle:
            info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except (AttributeError, OSError):
        return 0.0
    return int.from_bytes(info[_LAST_RECEIVED], sys.byteorder) / 1000

"""
Have the kernel find out that a peer has vanished without a word.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from math import ceil
from typing import Any

_IDLE = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
_INTERVAL = getattr(socket, "TCP_KEEPINTVL", None)
_COUNT = getattr(socket, "TCP_KEEPCNT", None)
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """
    What the kernel is told about TCP connections, as far as the system can.

    @ivar idle: Silence after which a peer is asked whether it is still there, in
        seconds; 0 is never.
    @ivar interval: Time between two questions, in seconds.
    @ivar count: Questions without an answer after which the connection is given up.
    @ivar userTimeout: How long bytes may wait for their confirmation, in seconds; 0
        is as long as the kernel has it.
    """

    idle: float
    interval: float
    count: int
    userTimeout: float

    @property
    def first(self) -> float:
        """
        The age that a connection has before any of this matters, in seconds; 0 if
        nothing is asked for.
        """
        return min(filter(None, (self.idle, self.userTimeout)), default=0)

    def apply(self, handle: Any) -> None:
        """
        Tell the kernel for one socket; those that a listening one accepts inherit
        it. Sockets that are not TCP are left alone.
        """
        if handle.family not in (socket.AF_INET, socket.AF_INET6):
            return
        options: list[tuple[int | None, int]] = []
        if self.idle:
            # First, so that the silence before counts for the time that follows.
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            options = [
                (_IDLE, ceil(self.idle)),
                (_INTERVAL, ceil(self.interval)),
                (_COUNT, self.count),
            ]
        if self.userTimeout:
            options.append((_USER_TIMEOUT, ceil(self.userTimeout * 1000)))
        for option, value in options:
            if option is not None:
                handle.setsockopt(socket.IPPROTO_TCP, option, value)

"""
Let the kernel detect peers that have vanished without ending their connection.
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
    The keepalive options of TCP connections, as far as the system has them.

    @ivar idle: Silence, in seconds, after which the kernel probes the peer; 0 is never.
    @ivar interval: Time between two probes, in seconds.
    @ivar count: Probes without an answer after which the kernel gives the connection
        up.
    @ivar userTimeout: How long sent bytes may wait for their acknowledgement, in
        seconds; 0 leaves this to the kernel.
    """

    idle: float
    interval: float
    count: int
    userTimeout: float

    @property
    def first(self) -> float:
        """
        The age, in seconds, that a connection has before any of these options can
        matter; 0 if none is set.
        """
        return min(filter(None, (self.idle, self.userTimeout)), default=0)

    def apply(self, handle: Any) -> None:
        """
        Set the options of one socket. The sockets that a listening socket accepts
        inherit them. Sockets that are not TCP are left alone.
        """
        if handle.family not in (socket.AF_INET, socket.AF_INET6):
            return
        options: list[tuple[int | None, int]] = []
        if self.idle:
            # Set first, so that the silence up to now counts towards the idle time that
            # is set next.
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

"""
A connection to the admin address: each step is bounded in time, and the whole too.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

from iawlb.adminplace import AdminAddress
from iawlb.command.failures import OutputClosed


class BoundedSocket(socket.socket):
    """
    A socket whose reads end at a common deadline, however slowly bytes come.

    @ivar deadline: The end of the last read, on the monotonic clock.
    @ivar silence: The longest wait of each read instead, where the answer has no end; 0
        if it has one.
    @ivar output: The descriptor of the standard output if a read should also end when
        nobody reads that any more; -1 otherwise.
    """

    deadline = 0.0
    silence = 0.0
    output = -1

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """
        Read.

        @raise TimeoutError: The deadline has passed.
        @raise OutputClosed: Nobody reads the standard output any more.
        """
        self._wait()
        return super().recv_into(*args, **kwargs)

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        if self.output >= 0:
            poller.register(self.output, 0)  # errors are always reported
        left = self.silence or max(0.0, self.deadline - time.monotonic())
        ready = dict(poller.poll(left * 1000))
        if ready.get(self.output):
            raise OutputClosed
        if not ready:
            raise TimeoutError


class Connection(HTTPConnection):
    """
    An HTTP connection to an admin address.

    @ivar bounded: The socket, also when C{sock} has been given to the answer.
    """

    sock: BoundedSocket
    bounded: BoundedSocket

    def __init__(self, address: AdminAddress, limit: float) -> None:
        """
        @param limit: The longest time until the answer is complete, in seconds.
        """
        host, port = ("localhost", 80) if isinstance(address, str) else address
        super().__init__(host, port)
        self._address = address
        self.deadline = time.monotonic() + limit

    def connect(self) -> None:
        """
        Connect, within the limit.
        """
        left = max(0.01, self.deadline - time.monotonic())
        if isinstance(self._address, str):
            self.sock = BoundedSocket(socket.AF_UNIX)
            # A socket with a time-out of Python's does not wait for a place among
            # those that are to be accepted.
            whole, part = divmod(left, 1)
            limit = struct.pack("ll", int(whole), int(part * 1e6))
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            try:
                self.sock.connect(self._address)
            except BlockingIOError:
                raise TimeoutError from None
            self.sock.settimeout(left)
        else:
            found = socket.create_connection(self._address, left)
            self.sock = BoundedSocket(fileno=found.detach())
            self.sock.settimeout(left)
        self.sock.deadline = self.deadline
        self.bounded = self.sock

    def awaitAnswer(self, every: float, idle: Callable[[], None]) -> None:
        """
        Wait until the answer begins to come, or the deadline passes.

        @param every: How often to call C{idle} meanwhile, in seconds.
        """
        while (left := self.deadline - time.monotonic()) > 0:
            if select.select([self.sock], (), (), min(every, left))[0]:
                return
            idle()

"""
Send the lines of an access log to syslog.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import Any

from iawlb.observe.moments import isoSecond, syslogSecond
from iawlb.observe.outputs import Output

PRIORITY = 16 * 8 + 6
"""
Facility C{local0}, as HAProxy's manual has it, and severity C{info}.
"""

AT_ONCE = 256
"""
The largest number of lines that are sent before the reactor has its turn.
"""


class Syslog(Output):
    """
    A syslog server: one on this machine that listens on a Unix socket, or another one
    that is reached by UDP. Each line is one datagram, which is sent without waiting.

    On a Unix socket the lines have the form that the C library sends, and a server that
    is restarted gets the lines that were held meanwhile. By UDP they are as in RFC
    5424, and what the network or the server loses is lost.
    """

    def __init__(self, path: str | None, host: str = "", port: int = 514) -> None:
        """
        @param path: The Unix socket; L{None} for UDP.
        @raise OSError: The host is not known.
        """
        self._path = path
        self._host = "".join(socket.gethostname().split()) or "-"
        self._family = socket.AF_UNIX
        self._address: Any = path
        if path is None:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            self._family, _, _, _, self._address = found[0]
        self._socket: socket.socket | None = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            made = socket.socket(self._family, kind)
            try:
                made.connect(self._address)
            except OSError:
                made.close()
                raise
            self._socket = made
        return self._socket

    def write(self, data: memoryview) -> int:
        """
        Send as many lines as are taken at once.
        """
        sender = self._connected()
        text = bytes(data)
        head = self._head()
        done = 0
        for _ in range(AT_ONCE):
            end = text.find(b"\n", done)
            if end < 0:
                break
            try:
                sender.send(head + text[done:end])
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ECONNREFUSED and self._path is None:
                    self.lost += 1  # a line that was sent before
                    continue
                if error.errno != errno.EMSGSIZE:
                    self.close()  # the server has ended, for instance
                    if not done:
                        raise
                    break
                self.lost += 1
            done = end + 1
        return done

    def _head(self) -> bytes:
        now = time.time()
        process = os.getpid()
        if self._path is not None:
            text = f"<{PRIORITY}>{syslogSecond(int(now))} iawlb[{process}]: "
        else:
            part = int(now % 1 * 1_000_000)
            text = (
                f"<{PRIORITY}>1 {isoSecond(int(now))}.{part:06d}Z {self._host} iawlb "
                f"{process} - - "
            )
        return text.encode()

    def wait(self, seconds: float) -> bool:
        """
        Wait until the server has taken something.
        """
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """
        Close the socket.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None

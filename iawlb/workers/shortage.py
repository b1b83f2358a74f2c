"""
What a connect fails of that this machine is short of: no fault of the destination.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.core.ratelimit import OncePerSecond


@dataclass(frozen=True, slots=True)
class Shortage:
    """
    A shortage, by the number of the error.

    @ivar machine: Whether all connects and accepts of this machine are short of it,
        rather than the connects to one destination.
    @ivar advice: What it means, and what to do.
    """

    error: int
    machine: bool
    advice: str


SHORTAGES = {
    each.error: each
    for each in (
        Shortage(
            errno.EMFILE,
            True,
            "too many open files in this process: raise its limit (ulimit -n) or "
            "lower --max-connections",
        ),
        Shortage(
            errno.ENFILE,
            True,
            "too many open files in the system: raise fs.file-max",
        ),
        Shortage(
            errno.ENOBUFS, True, "the kernel has no memory left for another socket"
        ),
        Shortage(
            errno.ENOMEM, True, "the kernel has no memory left for another socket"
        ),
        Shortage(
            errno.EADDRNOTAVAIL,
            False,
            "no local address or port to connect from: bindAddress= must be an address "
            "of this machine; if all ports are in use, widen "
            "net.ipv4.ip_local_port_range",
        ),
        Shortage(
            errno.EADDRINUSE,
            False,
            "the local port to connect from is in use: give bindAddress= no port",
        ),
        Shortage(
            errno.EAGAIN,
            False,
            "the destination's backlog is full: give the destination fewer slots, or "
            "its program a longer backlog",
        ),
    )
}
"""
What connect(2), bind(2) and socket(2) of Linux say of this machine. C{EAGAIN} is a
Unix socket whose backlog is full. A firewall (C{EPERM}) and permissions (C{EACCES})
are not among them: these last, and so mean that the destination is down.
"""


class ShortageLog:
    """
    Logs, once a second, what connects to one destination are short of.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, destination: str) -> None:
        self._destination = destination
        self._once = OncePerSecond(clock, self._log)
        self._last: Shortage

    def add(self, shortage: Shortage) -> None:
        """
        A connect failed of it.
        """
        self._last = shortage
        self._once.add()

    def _log(self, number: int) -> None:
        self.log.warn(
            "could not connect to {destination}: {error}, {advice}; the connection "
            "waits and is tried again ({number} times)",
            destination=self._destination,
            error=errno.errorcode[self._last.error],
            advice=self._last.advice,
            number=number,
        )

    def stop(self) -> None:
        """
        Log what is left, and keep no timer.
        """
        self._once.stop()


def shortageOf(failure: Failure) -> Shortage | None:
    """
    Say which shortage a connect failed of, if one.
    """
    value = failure.value
    # Twisted's ConnectError has osError, an OSError has errno.
    number = getattr(value, "osError", None) or getattr(value, "errno", None)
    return None if number is None else SHORTAGES.get(number)

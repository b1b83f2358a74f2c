"""
Errors of a connect that come from a shortage on this machine, and are no fault of the
destination.
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
    A shortage on this machine.

    @ivar error: The number of the error (errno) that the kernel reports.
    @ivar machine: Whether the shortage concerns all connects and accepts of this
        machine, rather than the connects to one destination.
    @ivar advice: What the error means, and what to do.
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
The errors of connect(2), bind(2) and socket(2) of Linux that mean a shortage, by their
number. C{EAGAIN} is a Unix socket whose backlog is full. A firewall (C{EPERM}) and
permissions (C{EACCES}) are not among them: these errors last, and so mean that the
destination is down.
"""


class ShortageLog:
    """
    A log of the shortages that connects to one destination meet, at most one line a
    second.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, destination: str) -> None:
        self._destination = destination
        self._once = OncePerSecond(clock, self._log)
        self._last: Shortage

    def add(self, shortage: Shortage) -> None:
        """
        Log that a connect failed because of a shortage.
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
        Log what is left, and stop the timer.
        """
        self._once.stop()


def shortageOf(failure: Failure) -> Shortage | None:
    """
    Return the shortage that made a connect fail, or L{None} if it failed for another
    reason.
    """
    value = failure.value
    # Twisted's ConnectError has osError, an OSError has errno.
    number = getattr(value, "osError", None) or getattr(value, "errno", None)
    return None if number is None else SHORTAGES.get(number)

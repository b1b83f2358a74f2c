"""
SIGHUP: read the configuration again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

TERMINAL = "/dev/tty"
"""
The file by which a process opens its own terminal, if it has one.
"""


class Hangup:
    """
    Handles SIGHUP. With a configuration file, it reloads. Without one there is nothing
    to reload, and a daemon says so and goes on; a process of a terminal still ends with
    the terminal, which sends the signal when it is closed.

    @ivar reload: Called for each signal; L{None} if there is no configuration file.
    """

    log = Logger()

    def __init__(self, reactor: Any, reload: Callable[[], object] | None) -> None:
        self.reload = reload
        self._reactor = reactor

    def install(self) -> None:
        """
        Handle the signal from now on. It stays ignored if the shell has ignored it, as
        C{nohup} does, and there is nothing to reload.
        """
        if self.reload is None and (
            _ofTerminal() or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        ):
            return
        signal.signal(signal.SIGHUP, self._signalled)

    def _signalled(self, number: int, frame: Any) -> None:
        self._reactor.callFromThread(self._act)

    def _act(self) -> None:
        if self.reload is None:
            self.log.warn(
                "SIGHUP: there is no configuration file, so nothing to reload"
            )
        else:
            self.reload()


def _ofTerminal() -> bool:
    """
    Return whether this process ends with a terminal: whether the terminal is its own.
    """
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

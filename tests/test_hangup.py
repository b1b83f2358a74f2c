"""
Tests for SIGHUP.
"""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.process import hangup
from iawlb.process.hangup import Hangup
from tests.doubles import logged


class Reactor(MemoryReactorClock):
    """
    A reactor that keeps what signal handlers hand to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[Any] = []

    def callFromThread(self, f: Any, *args: Any, **kw: Any) -> None:
        """
        Keep the call.
        """
        self.handed.append(f)


class HangupTests(SynchronousTestCase):
    """
    L{Hangup}.
    """

    def setUp(self) -> None:
        """
        Keep the signal as it was.
        """
        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.reactor = Reactor()
        self.ofTerminal(False)

    def ofTerminal(self, is_: bool) -> None:
        """
        Have a terminal or none.
        """
        self.patch(hangup, "TERMINAL", "/dev/null" if is_ else "/nowhere/tty")

    def hangUp(self) -> None:
        """
        Get the signal, and let the reactor act on it.
        """
        handler: Any = signal.getsignal(signal.SIGHUP)
        handler(signal.SIGHUP, None)
        for each in self.reactor.handed:
            each()

    def test_reloads(self) -> None:
        """
        With a file the signal reloads, wherever the process runs.
        """
        for terminal in (False, True):
            for ignored in (False, True):
                self.ofTerminal(terminal)
                if ignored:
                    signal.signal(signal.SIGHUP, signal.SIG_IGN)
                calls: list[str] = []
                Hangup(self.reactor, lambda: calls.append("reload")).install()  # noqa: B023
                self.reactor.handed.clear()
                self.hangUp()
                self.assertEqual(calls, ["reload"])

    def test_nothingToReload(self) -> None:
        """
        Without a file a daemon says that there is nothing to reload, and goes on.
        """
        events = logged(self)
        Hangup(self.reactor, None).install()
        self.hangUp()
        (event,) = events
        self.assertEqual(
            formatEvent(event),
            "SIGHUP: there is no configuration file, so nothing to reload",
        )

    def test_terminal(self) -> None:
        """
        Without a file, a process of a terminal ends with the terminal, as before; and
        if the shell has made it ignore the signal, it goes on ignoring it.
        """
        self.ofTerminal(True)
        Hangup(self.reactor, None).install()
        self.assertIs(signal.getsignal(signal.SIGHUP), signal.SIG_DFL)
        self.ofTerminal(False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        Hangup(self.reactor, None).install()
        self.assertIs(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)

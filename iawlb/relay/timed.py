"""
Relays that report when an earlier time-out may apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iawlb.relay.fast import FastRelay
from iawlb.relay.portable import PortableRelay


class Reporting:
    """
    A mix-in that makes a relay call C{onSooner} when an earlier time-out may apply:
    when the client has asked, or a side has ended. This costs a call for each chunk, so
    only balancers with such a time-out use it.
    """

    onSooner: Callable[[], None] | None = None
    _asked = False

    @property
    def asked(self) -> bool:
        """
        Whether the last byte came from the client.
        """
        return self._asked

    @asked.setter
    def asked(self, asked: bool) -> None:
        before, self._asked = self._asked, asked
        if asked and not before:
            self._report()

    def sideEnded(self, side: Any) -> None:
        """
        Do what the relay does when a side has ended, and report.
        """
        super().sideEnded(side)  # type: ignore[misc]  # the relay's
        self._report()

    def sideReset(self, side: Any) -> None:
        """
        Do what the relay does when a side was reset, and report.
        """
        super().sideReset(side)  # type: ignore[misc]  # the relay's
        self._report()

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Do what the relay does when a side is closed, and report.
        """
        super().sideLost(side, reset)  # type: ignore[misc]  # the relay's
        self._report()

    def _report(self) -> None:
        assert self.onSooner is not None
        self.onSooner()


class ReportingTurns(Reporting):
    """
    A mix-in that also reports when the destination has answered, for balancers with a
    client time-out.
    """

    @property
    def asked(self) -> bool:
        """
        Whether the last byte came from the client.
        """
        return self._asked

    @asked.setter
    def asked(self, asked: bool) -> None:
        before, self._asked = self._asked, asked
        if asked is not before:
            self._report()


class ReportingFastRelay(Reporting, FastRelay):
    """
    The fast relay, with reports.
    """


class ReportingPortableRelay(Reporting, PortableRelay):
    """
    The portable relay, with reports.
    """


class TurnsFastRelay(ReportingTurns, FastRelay):
    """
    The fast relay, with reports of each turn.
    """


class TurnsPortableRelay(ReportingTurns, PortableRelay):
    """
    The portable relay, with reports of each turn.
    """

"""
Relays that report the first byte of the destination.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from iawlb.relay.fast import FastRelay
from iawlb.relay.portable import PortableRelay
from iawlb.relay.timed import ReportingTurns


class Measured(ReportingTurns):
    """
    A mix-in that makes a relay call C{onAnswer} when the destination's first byte has
    come. It reports each turn too, if there is anything to report to, so it does for
    any time-outs.

    @ivar onAnswer: Called once; L{None} after that.
    @ivar seconds: Returns the time; set together with C{onAnswer}.
    @ivar askedAt: When the client's last byte before the answer came, or L{None} if the
        client has sent nothing before it.
    """

    onAnswer: Callable[[], None] | None = None
    seconds: Callable[[], float] = monotonic
    askedAt: float | None = None

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
        if self.onAnswer is None:
            return
        if asked:
            self.askedAt = self.seconds()
        else:
            onAnswer, self.onAnswer = self.onAnswer, None
            onAnswer()

    def _report(self) -> None:
        if self.onSooner is not None:
            self.onSooner()


class MeasuredFastRelay(Measured, FastRelay):
    """
    The fast relay, with reports of the first byte too.
    """


class MeasuredPortableRelay(Measured, PortableRelay):
    """
    The portable relay, with reports of the first byte too.
    """

"""
Let the slots of a destination grow that was down.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.destination import Destination

STEPS = 20
"""
The number of steps in which the slots grow.
"""

FINEST = 0.05
"""
The shortest time between two steps, in seconds.
"""


class SlowStart:
    """
    The slow start of a destination.
    """

    def __init__(
        self,
        clock: IReactorTime,
        destination: Destination,
        share: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """
        @param share: Returns how many sessions the destination would have by its share
            of those that there are, if it has no limit of slots.
        @param changed: Called when the destination may take more sessions.
        """
        self._clock = clock
        self._destination = destination
        self._share = share
        self._changed = changed
        self._began = 0.0
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        """
        Begin with few slots.
        """
        self.stop()
        self._began = self._clock.seconds()
        self._step()

    def stop(self) -> None:
        """
        Let the destination have all its slots.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._destination.startSlots = None

    def _step(self) -> None:
        self._timer = None
        destination, seconds = self._destination, self._destination.settings.slowStart
        wait = max(FINEST, seconds / STEPS)
        # As if a step had passed already: a destination begins with some slots.
        passed = self._clock.seconds() - self._began + wait
        if passed > seconds:
            destination.startSlots = None
        else:
            all_ = destination.slots or self._share()
            destination.startSlots = max(1, round(all_ * passed / seconds))
            self._timer = self._clock.callLater(wait, self._step)
        self._changed()

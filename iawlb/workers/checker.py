"""
Check a destination, whether it is up or down.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iawlb.core.destination import HURRY, Destination
from iawlb.core.ratelimit import FailureLog
from iawlb.core.standing import Checked, Standing
from iawlb.core.text import printable
from iawlb.health.verdict import LONGEST_REASON, Check, Verdict

JITTER = 0.2
"""
By how much of itself each wait is shortened or lengthened, at most.
"""

FIRST = 0.05
"""
The longest wait before the first check of a destination that is down, in seconds.
"""


def jittered(wait: float) -> float:
    """
    Shorten or lengthen a wait at random, so that what begins together does not stay
    together.
    """
    return wait * (1 - JITTER + 2 * JITTER * random())


STOOD_STILL = 0.5
"""
A time-out that is noticed so many seconds late shows that the balancer itself stood
still (the process was stopped, or the machine), and nothing about the destination: its
answer may wait to be read.
"""


def sooner(timer: IDelayedCall | None, clock: IReactorTime, wait: float) -> None:
    """
    Move a timer forward, so that it fires after a wait at the latest.
    """
    if timer is not None and timer.getTime() - clock.seconds() > wait:
        timer.reset(wait)


class Recurring:
    """
    Asks again and again, one question at a time, each of which has a time-out.

    @ivar running: Whether questions are asked.
    """

    def __init__(
        self,
        clock: IReactorTime,
        what: str,
        make: Callable[[], Check | None],
        timeout: Callable[[], float],
        wait: Callable[[], float],
        found: Callable[[Verdict, float], None],
    ) -> None:
        """
        @param what: What is asked, for the log.
        @param make: Makes the question; or returns L{None} if there is to be none now.
        @param timeout: Returns the longest time that an answer may take, in seconds.
        @param wait: Returns the time until the next question, in seconds.
        @param found: Called with each answer, and the time it took.
        """
        self._clock = clock
        self._make = make
        self._timeout = timeout
        self._wait = wait
        self._found = found
        self._timer: IDelayedCall | None = None
        self._late: IDelayedCall | None = None
        self._check: Check | None = None
        self.running = False
        self._began = 0.0
        self._failures = FailureLog(clock, what)

    def start(self, wait: float) -> None:
        """
        Begin to ask, after a wait.
        """
        self.running = True
        self._timer = self._clock.callLater(wait, self._ask)

    def sooner(self, wait: float) -> None:
        """
        Ask after a wait at the latest.
        """
        sooner(self._timer, self._clock, wait)

    def stop(self) -> None:
        """
        Stop asking, and give up what has been asked.
        """
        self.running = False
        check = self._check
        self._clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if check is not None:
            check.cancel()
        self._failures.stop()

    def _clear(self) -> None:
        late, self._late = self._late, None
        self._check = None
        if late is not None and late.active():
            late.cancel()

    def _ask(self) -> None:
        self._timer = None
        self._began = self._clock.seconds()
        try:
            check = self._check = self._make()
            if check is None:
                self._timer = self._clock.callLater(self._wait(), self._ask)
                return
            # An answer that comes at once ends the wait for it.
            self._late = self._clock.callLater(self._timeout(), self._over, check)
            check.start(lambda verdict: self._answered(check, verdict))
        except Exception as error:
            if not isinstance(error, OSError):
                self._failures.add()
            if self._check is not None:
                self._check.cancel()
            self._done(Verdict(False, f"cannot check: {error}"))

    def _over(self, check: Check) -> None:
        timeout = self._timeout()
        late = self._clock.seconds() - self._began - timeout
        passed = None if check.waits or late >= STOOD_STILL else False
        check.cancel()
        self._answered(check, Verdict(passed, f"no answer in {timeout:g} s"))

    def _answered(self, check: Check, verdict: Verdict) -> None:
        if self._check is check:
            self._done(verdict)

    def _done(self, verdict: Verdict) -> None:
        self._clear()
        took = self._clock.seconds() - self._began
        try:
            self._found(verdict, took)
        except Exception:
            self._failures.add()
        if self.running and self._timer is None:
            self._timer = self._clock.callLater(self._wait(), self._ask)


class CheckedWorker(Protocol):
    """
    What a L{Checker} needs of its worker.
    """

    destination: Destination
    clock: IReactorTime

    def recovered(self) -> None:
        """
        Called when the destination is up again.
        """

    def goDown(self, why: str) -> None:
        """
        Called when the destination is down.
        """

    def inHurry(self) -> bool:
        """
        Return whether sessions wait while no destination is up.
        """


class Checker:
    """
    Checks a destination from time to time, whatever its state.
    """

    def __init__(
        self,
        worker: CheckedWorker,
        make: Callable[[], Check | None],
        says: Callable[[str], None],
    ) -> None:
        """
        @param make: Makes a check; or returns L{None} if there is to be none now.
        @param says: Called with the words that a destination answers as an agent does.
        """
        self._worker = worker
        self._destination = destination = worker.destination
        self._says = says
        self._standing = Standing()
        self._recurring = Recurring(
            worker.clock,
            f"checking {destination.name}",
            make,
            lambda: destination.settings.checkTimeout,
            self._wait,
            self._found,
        )

    def start(self) -> None:
        """
        Begin to check; or, if the destination has gone down, check again soon.
        """
        settings, down = self._destination.settings, self._destination.down is not None
        if self._recurring.running:
            if down:
                self._standing.wentDown()
                self._recurring.sooner(self._wait())
            return
        # The first checks of many destinations are spread over the time between two.
        first = min(FIRST, settings.checkDown) if down else settings.checkInterval
        self._recurring.start(random() * first)

    def stop(self) -> None:
        """
        Stop checking.
        """
        self._recurring.stop()
        self._standing = Standing()

    def hurry(self) -> None:
        """
        Shorten the wait for the next check.
        """
        self._recurring.sooner(HURRY)

    def _wait(self) -> float:
        """
        Return the time until the next check, in seconds.
        """
        settings, standing = self._destination.settings, self._standing
        if self._destination.down is None:
            wait = settings.checkFast if standing.bad else settings.checkInterval
        else:
            wait = settings.checkFast if standing.good else settings.checkDown
            if self._worker.inHurry():
                wait = min(wait, HURRY)
        return jittered(wait)

    def _found(self, verdict: Verdict, took: float) -> None:
        passed = verdict.passed
        destination = self._destination
        if passed is None or destination.asleep is not None:
            return  # of a destination that sleeps nothing is expected
        why = printable(verdict.why)[:LONGEST_REASON]
        now = self._worker.clock.seconds()
        destination.checked = Checked(passed, why, now, took)
        destination.checks += 1
        destination.checksFailed += not passed
        settings = destination.settings
        if passed:
            if self._standing.passed(settings.rise) and destination.down is not None:
                self._worker.recovered()
            if verdict.says is not None:
                self._says(verdict.says)
        elif destination.down is not None:
            self._standing.failed(settings.fall)
            destination.failed(f"check: {why}")
        elif self._standing.failed(settings.fall):
            self._worker.goDown(f"check: {why}")
        else:
            destination.failures += 1

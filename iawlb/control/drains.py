"""
Waits until the sessions of a target have finished, after a pause or a drain.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from iawlb.balancer import Balancer
from iawlb.control.answers import DONE, LEFT, UNDONE, Answer, answer, sessions
from iawlb.control.targets import Target
from iawlb.control.waits import Waits, apart
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session

CUT_TIME = 5.0
"""
How long sessions that were cut may take to end, in seconds.
"""

Undone = Callable[[], str | None]
"""
Returns why an operation is undone, or L{None} while it is not.
"""


def cut(session: Session) -> None:
    """
    End a session at once.
    """
    queued = session.relay is None
    session.holder.dismiss(Outcome.KILLED_QUEUE if queued else Outcome.KILLED)


class Drains:
    """
    Waits until the sessions of a target have finished.
    """

    log = Logger()

    def __init__(self, balancer: Balancer, waits: Waits) -> None:
        self._balancer = balancer
        self._waits = waits

    async def finish(
        self, target: Target, undone: Undone, seconds: float, wait: bool, kill: bool
    ) -> Answer:
        """
        Wait until no session holds a slot of the target.

        @param seconds: The longest wait.
        @param wait: Whether to wait at all. If not, the sessions are cut in time all
            the same, if that is asked for.
        @param kill: Whether to cut the sessions that are left then.
        """
        if wait:
            return await self._finish(target, undone, seconds, kill)
        if kill:
            apart(self._finish(target, undone, seconds, kill)).addErrback(
                lambda failure: self.log.failure("cutting sessions failed", failure)
            )
        return answer(DONE, target.active)

    async def _finish(
        self, target: Target, undone: Undone, seconds: float, kill: bool
    ) -> Answer:
        await self._waits.until(
            lambda: not target.active or undone() is not None, seconds
        )
        why = undone()
        if why is not None:
            return answer(UNDONE, target.active, [why])
        messages = []
        if kill and target.active:
            messages.append(f"{sessions(self._cut(target))} cut")
            await self._waits.until(lambda: not target.active, CUT_TIME)
        left = target.active
        return answer(LEFT if left else DONE, left, messages)

    def _cut(self, target: Target) -> int:
        """
        Cut the sessions that hold a slot of the target.

        @return: The number of these sessions.
        """
        number = 0
        for session in self._balancer.sessions:
            # One that has ended together with another holds none any more.
            if target.holds(session):
                cut(session)
                number += 1
        return number

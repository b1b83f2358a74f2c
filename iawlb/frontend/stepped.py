"""
Clients that have to take steps before they enter the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.interfaces import IAddress

from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.frontend.factory import Arrival, Frontend
from iawlb.frontend.heads import PlainHead, SideHead
from iawlb.frontend.patience import Patience
from iawlb.frontend.steps import Enterable, Step
from iawlb.relay.plain import PlainClient


class SteppedArrival(Arrival):
    """
    A client that has to take steps before it enters the queue.

    @ivar session: The client's session.
    """

    _step: Step | None = None
    _patience: Patience
    _head: PlainHead | SideHead | None = None

    def __init__(self, frontend: Frontend, address: IAddress | None) -> None:
        super().__init__(frontend, address)
        self._steps: Iterator[tuple[Step, Patience]] = iter(frontend.steps)

    @property
    def session(self) -> Session:
        """
        The client's session.
        """
        return self._session

    @property
    def head(self) -> PlainHead | SideHead:
        """
        The client's first bytes.
        """
        head = self._head
        if head is None:
            side: Any = self._session.side
            if isinstance(side, PlainClient):
                frontend = self._frontend
                head = PlainHead(side, frontend.readers, frontend.clock, self._run)
            else:
                head = SideHead(side, self._run)
            self._head = head
        return head

    @property
    def state(self) -> str:
        """
        A word for the state of the session, while it is in a step.
        """
        return "handshake" if self._step is None else self._step.state

    # What the client's side reports.

    def sideMade(self, side: Any) -> None:
        """
        Called when the client is accepted, or a step has put a side in the place of its
        plain socket.
        """
        if self._step is None:
            super().sideMade(side)
        else:
            self._session.side = side
            self._head = None

    def sideHandshaking(self, side: Any) -> None:
        """
        Called when the client's TLS handshake has begun.
        """
        if self._step is None:
            super().sideHandshaking(side)

    def sideReady(self, side: Any) -> None:
        """
        Called when the client is connected: begin the first step.
        """
        step = self._step
        if step is None:
            self.proceed()
        else:
            self._run(lambda: step.sideReady(self, side))

    def sideRead(self, side: Any, data: bytes) -> None:
        """
        Called when the client's first bytes came, or more bytes of the same read.
        """
        super().sideRead(side, data)
        if isinstance(self._head, SideHead):
            self._head.fire()

    def sideEnded(self, side: Any) -> None:
        """
        Called when the client will send no more.
        """
        if isinstance(self._head, SideHead):
            self._head.fire()

    def sideLost(self, side: Any, reset: bool) -> None:
        """
        Called when the client's connection is closed.
        """
        step = self._endStep()
        if step is not None:
            self._outcome = self._outcome or step.lost(self, side)
            self._cancel(step)
        super().sideLost(side, reset)

    # The steps.

    def _run(self, call: Callable[[], None]) -> None:
        """
        Call a function of a step, and end the session if the function raises.
        """
        try:
            call()
        except Exception:
            self._frontend.failures.add()
            self.dismiss(Outcome.FAILED)

    def proceed(self) -> None:
        """
        Do the next step, or enter the queue after the last.
        """
        self._endStep()
        self._run(self._next)

    def _next(self) -> None:
        for step, patience in self._steps:
            self._step, self._patience = step, patience
            step.begin(self)
            if self._step is step:
                # The step takes a while.
                patience.add(self)
                if self._head is None or not self._head.waits:
                    self._session.side.watch()
            return
        # A listener stops accepting when the queue of its own pool is full, so clients
        # that are on their way then are few.
        if self._admission is not self._frontend.admission and self._admission.full:
            self.refuse(Outcome.QUEUE_FULL)
        else:
            super().sideReady(self._session.side)

    def _endStep(self) -> Step | None:
        """
        Wait no longer for the step that is under way.

        @return: The step, if there was one.
        """
        step, self._step = self._step, None
        if step is not None:
            self._patience.remove(self)
            if self._head is not None:
                self._head.cancel()
            side = self._session.side
            if isinstance(side, PlainClient):
                side.unwatch()
        return step

    def _cancel(self, step: Step) -> None:
        try:
            step.cancel(self)
        except Exception:
            self._frontend.failures.add()

    def moveTo(self, pool: Enterable) -> None:
        """
        Let the client enter the queue of another pool.
        """
        if pool.count is not self._session.origin.pool:
            self._frontend.table.move(self._session, pool.count)
        self._admission = pool.admission

    def refuse(self, outcome: Outcome, why: str = "") -> None:
        """
        Close the client's connection.

        @param why: The reason, for a line in the log.
        """
        if why:
            self.explain(why)
        self._endStep()
        self.dismiss(outcome)

    def explain(self, why: str) -> None:
        """
        Write in the log why the client was refused.
        """
        self._frontend.refused(self._session, why)

    def left(self) -> None:
        """
        End the session of a client that has left.
        """
        step = self._endStep()
        assert step is not None
        self._outcome = step.gone
        self._session.side.peerLeft()

    def timeOver(self) -> None:
        """
        End the session of a client that took too long, unless there are bytes that were
        not reported in time.
        """
        step = self._step
        if step is None:
            return
        if self._head is not None:
            self._head.lookAgain()
        if self._step is step:
            self.dismiss(step.late)

    def dismiss(self, outcome: Outcome) -> None:
        """
        Close the client's connection, without having served it.
        """
        step = self._endStep()
        if step is not None:
            self._cancel(step)
        super().dismiss(outcome)

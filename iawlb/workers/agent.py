"""
Ask the agent of a destination, and do what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iawlb.core.destination import Destination
from iawlb.core.events import DESTINATION_RETURNED, DESTINATION_WITHDRAWN, Events
from iawlb.core.text import printable
from iawlb.health.verdict import LONGEST_REASON, Check, Verdict
from iawlb.health.words import readWords
from iawlb.workers.checker import Recurring, jittered


class ToldWorker(Protocol):
    """
    What L{Says} and L{Agent} need of their worker.
    """

    destination: Destination
    clock: IReactorTime
    events: Events

    def reported(self, why: str | None) -> None:
        """
        Called when the destination has said that it is down, and why; or that it is up.
        """

    def changed(self, shares: bool) -> None:
        """
        Called when the destination takes more sessions, or fewer.

        @param shares: Whether its weight has changed.
        """


class Says:
    """
    Does what a destination says in the words of an agent.
    """

    def __init__(self, worker: ToldWorker) -> None:
        self._worker = worker
        # The word that asks for no more sessions, and the part that is wanted.
        self._word = ""
        self._percent: int | None = None

    def said(self, text: str) -> None:
        """
        Do what the words ask for. What they do not name stays as it is.
        """
        words = readWords(text)
        if words.up is not None:
            why = f"the agent says {printable(words.why)}"[:LONGEST_REASON]
            self._worker.reported(None if words.up else why)
        if words.withdrawn is not None:
            self._word = words.withdrawn
        if words.share is not None:
            self._percent = words.share
        slots = self._worker.destination.agentSlots
        self._apply(slots if words.slots is None else words.slots or None)

    def forget(self) -> None:
        """
        Take back all that was said, because nobody is asked any more.
        """
        self._word, self._percent = "", None
        self._worker.reported(None)
        self._apply(None)

    def _apply(self, slots: int | None) -> None:
        worker, destination = self._worker, self._worker.destination
        before = destination.withdrawn, destination.limit, destination.percent
        word = self._word or ("0%" if self._percent == 0 else "")
        destination.agentSlots = slots
        part = self._percent if self._percent != 100 else None
        destination.percent = part or None
        destination.withdrawn = f"the agent says {word}" if word else None
        if before == (destination.withdrawn, destination.limit, destination.percent):
            return
        if (before[0] is None) != (destination.withdrawn is None):
            event = DESTINATION_WITHDRAWN if word else DESTINATION_RETURNED
            worker.events.destination(destination, event)
        worker.changed(before[2] != destination.percent)


class Agent:
    """
    Asks the agent of a destination from time to time. An agent that does not answer
    changes nothing.
    """

    log = Logger()

    def __init__(
        self,
        worker: ToldWorker,
        make: Callable[[], Check | None],
        says: Callable[[str], None],
    ) -> None:
        """
        @param make: Makes the question; or returns L{None} if it is not to be asked
            now.
        @param says: Called with each answer.
        """
        self._destination = destination = worker.destination
        self._says = says
        # Whether the last question was answered; at first it is not known.
        self._answered: bool | None = None
        self._recurring = Recurring(
            worker.clock,
            f"asking the agent of {destination.name}",
            make,
            lambda: destination.settings.checkTimeout,
            lambda: jittered(destination.settings.checkInterval),
            self._found,
        )

    def start(self) -> None:
        """
        Begin to ask.
        """
        self._recurring.start(random() * self._destination.settings.checkInterval)

    def stop(self) -> None:
        """
        Stop asking.
        """
        self._recurring.stop()

    def _found(self, verdict: Verdict, _: float) -> None:
        answered = verdict.says is not None
        if verdict.passed is None or answered == self._answered:
            pass
        elif not answered:
            self.log.warn(
                "agent of {destination} does not answer, and what it has said stays: "
                "{why}",
                destination=self._destination.name,
                why=printable(verdict.why)[:LONGEST_REASON],
            )
        elif self._answered is not None:
            self.log.info(
                "agent of {destination} answers again",
                destination=self._destination.name,
            )
        self._answered = answered
        if verdict.says is not None:
            self._says(verdict.says)

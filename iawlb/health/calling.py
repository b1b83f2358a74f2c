"""
Checks that call a function of the program that embeds the balancer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.python.failure import Failure

from iawlb.arguments import shown
from iawlb.core.destination import Destination
from iawlb.health.verdict import LONGEST_REASON, Verdict


class CallingCheck:
    """
    A check that calls a function: plain, a coroutine, or one that returns a
    L{Deferred}. Without a result, or with a true one, it succeeds; with a false one, or
    if it raises, it fails. Text is read as the words of an agent.
    """

    waits = False

    def __init__(
        self, function: Callable[[Destination], Any], destination: Destination
    ) -> None:
        self._function = function
        self._destination = destination
        self._onDone: Callable[[Verdict], None] | None = None
        self._waiting: Deferred[Any] | None = None

    def start(self, onDone: Callable[[Verdict], None]) -> None:
        """
        Call the function.
        """
        self._onDone = onDone
        called: Deferred[Any] = maybeDeferred(self._call)
        self._waiting = called
        called.addCallbacks(self._returned, self._raised)

    def _call(self) -> Any:
        result = self._function(self._destination)
        return ensureDeferred(result) if inspect.iscoroutine(result) else result

    def cancel(self) -> None:
        """
        Cancel what the function waits for.
        """
        self._onDone = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _returned(self, result: Any) -> None:
        if isinstance(result, str):
            self._done(Verdict(True, f"the function says {result!r:.60}", says=result))
        elif result is None or result is True:
            self._done(Verdict(True, "the function has returned"))
        elif result is False:
            self._done(Verdict(False, "the function has returned False"))
        else:
            why = f"the function has returned {shown(result)}, which is no answer"
            self._done(Verdict(False, why))

    def _raised(self, failure: Failure) -> None:
        why = f"{failure.type.__name__ if failure.type else ''}: {failure.value}"
        self._done(Verdict(False, why[:LONGEST_REASON]))

    def _done(self, verdict: Verdict) -> None:
        self._waiting = None
        onDone, self._onDone = self._onDone, None
        if onDone is not None:
            onDone(verdict)
